//! Batches and what snapshots show of them.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::*;
use crate::ledger::effects::Changes;
use crate::ledger::record::Account;
use crate::ledger::tree::{self as state_tree, Overlay};
use crate::ledger::{Key, Record};
use crate::store::{Identity, KeyOrigin, Options, Store, TxPlace};
use crate::types::{Amount, BlockHash, ChainId, Millis, NodeId, Round, StateRoot};
use crate::wire::{Block, Header, VoteKind};

fn store() -> Store {
    let seed = zeroize::Zeroizing::new([7; 32]);
    let chain = ChainId::from_bytes([1; 32]);
    let identity = Identity { chain, seed, origin: KeyOrigin::Generated, incarnation: [9; 32] };
    let home = tempfile::tempdir().expect("a directory");
    let path = home.path().join("node.redb");
    Store::create(&path, &identity).expect("a new database");
    // The file stays open, the directory can go.
    Store::open(&path, &Options::default()).expect("the database opens")
}

fn account(n: u8) -> AccountId {
    AccountId::from_bytes([n; 32])
}

fn next_block(store: &Store, payload: usize, root: StateRoot) -> ProposedBlock {
    let tip = store.reader().tip();
    let height = tip.as_ref().map_or(Height::GENESIS, |tip| tip.height.next().expect("a short chain"));
    let parent = tip.map_or(BlockHash::from_bytes([0; 32]), |tip| tip.hash);
    let header = Header {
        version: 1,
        chain: ChainId::from_bytes([1; 32]),
        height,
        round: Round::default(),
        proposer: NodeId::from_bytes([2; 32]),
        parent,
        tx_root: [3; 32],
        receipt_root: [4; 32],
        state_root: root,
        validator_set: [5; 32],
        next_set: [5; 32],
        time: Millis::new(height.get()),
        reveal: [6; 32],
    };
    let block = Block { header, payload: Bytes::from(vec![8; payload]) };
    ProposedBlock { block, justify: Certificate::genesis(parent) }
}

fn certificate(block: &ProposedBlock) -> Certificate {
    let (height, block) = (block.header().height, block.block.hash());
    Certificate { kind: VoteKind::Commit, round: Round::default(), height, block, signatures: Vec::new() }
}

/// Appends a block that gives account 1 the balance `balance`; its one transaction touches accounts 1 and 2.
fn append(store: &Store, balance: u64, payload: usize, certified: bool) -> ProposedBlock {
    let record = Record::Account(Account { balance: Amount::new(balance), nonce: 0, ..Account::default() });
    let key = Key::Account(account(1));
    let state = BTreeMap::from([(key.bytes(), Some(record.bytes()))]);
    let view = store.reader().snapshot().expect("a snapshot");
    let height = store.reader().tip().map_or(Height::GENESIS, |tip| tip.height.next().expect("a short chain"));
    let changes = Changes::from([(key, Some(record))]);
    let update = state_tree::update(&Overlay::new(&view, &[]), height, &changes).expect("the tree is whole");
    let block = next_block(store, payload, update.root());
    let certificate = certificate(&block);
    let mut id = [0; 32];
    id[..8].copy_from_slice(&height.get().to_be_bytes());
    let tx = IndexedTx { id: TxId::from_bytes(id), accounts: vec![account(1), account(2)] };
    let mut batch = store.batch().expect("a batch");
    let block_with_effects = FinalBlock {
        block: &block,
        certificate: certified.then_some(&certificate),
        receipts: &[height.get() as u8],
        txs: &[tx],
        state: &state,
        tree: &update,
    };
    batch.finalize(&block_with_effects).expect("it follows the tip");
    batch.commit().expect("a commit");
    block
}

#[test]
fn a_batch_that_is_dropped_leaves_no_trace() {
    let store = store();
    append(&store, 5, 10, true);
    let block = next_block(&store, 10, StateRoot::from_bytes([0; 32]));
    let mut batch = store.batch().expect("a batch");
    batch.put_record(b"record").expect("a write");
    batch.put_pending([&block]).expect("a write");
    drop(batch);
    assert_eq!(store.signer().expect("the row").record(), None);
    let view = store.reader().snapshot().expect("a snapshot");
    assert_eq!(view.pending_blocks().expect("a read"), []);
}

#[test]
fn a_block_that_comes_after_its_height_is_final_is_not_kept() {
    let store = store();
    let late = next_block(&store, 10, StateRoot::from_bytes([0; 32]));
    append(&store, 5, 10, true);
    let next = next_block(&store, 10, StateRoot::from_bytes([0; 32]));
    let mut batch = store.batch().expect("a batch");
    batch.put_pending([&late, &next]).expect("a write");
    batch.commit().expect("a commit");
    let view = store.reader().snapshot().expect("a snapshot");
    assert_eq!(view.pending_blocks().expect("a read"), [next]);
    assert_eq!(view.block_by_hash(&late.block.hash()).expect("a read"), None);
    append(&store, 6, 10, true);
    let mut batch = store.batch().expect("a batch");
    assert_eq!(batch.prune_bodies(Height::new(1), 10).expect("a write"), 1, "the late block is not in the table");
}

#[test]
fn there_is_one_batch_at_a_time() {
    let store = store();
    let first = store.batch().expect("a batch");
    assert!(matches!(store.batch().err(), Some(StoreError::Busy)));
    drop(first);
    assert!(store.batch().is_ok());
}

#[test]
fn a_snapshot_stays_as_it_was() {
    let store = store();
    append(&store, 5, 10, true);
    let before = store.reader().snapshot().expect("a snapshot");
    append(&store, 6, 10, true);
    assert_eq!(before.tip().expect("a read").map(|tip| tip.height), Some(Height::GENESIS));
    assert_eq!(store.reader().tip().map(|tip| tip.height), Some(Height::new(1)));
}

#[test]
fn who_watches_the_tip_hears_of_final_blocks_only() {
    let store = store();
    let mut watch = store.reader().watch();
    let mut batch = store.batch().expect("a batch");
    batch.put_record(b"record").expect("a write");
    batch.commit().expect("a commit");
    assert!(!watch.has_changed().expect("the store lives"));
    let block = append(&store, 5, 10, true);
    assert!(watch.has_changed().expect("the store lives"));
    assert_eq!(watch.borrow_and_update().as_ref().map(|tip| tip.hash), Some(block.block.hash()));
}

#[test]
fn catching_up_is_bounded_by_count_and_bytes_but_always_moves() {
    let store = store();
    let blocks: Vec<_> = (0..6).map(|n| append(&store, n, 1_000, n % 2 == 1)).collect();
    let view = store.reader().snapshot().expect("a snapshot");
    let heights = |from, count, bytes| {
        let blocks = view.blocks(Height::new(from), count, bytes).expect("a read");
        blocks.iter().map(|block| block.block.header().height.get()).collect::<Vec<_>>()
    };
    assert_eq!(heights(1, 3, usize::MAX), [1, 2, 3]);
    assert_eq!(heights(4, 100, usize::MAX), [4, 5]);
    assert_eq!(heights(0, 100, 3 * 1_400), [0, 1, 2]);
    assert_eq!(heights(2, 100, 1), [2]);
    assert_eq!(heights(6, 100, usize::MAX), [0; 0]);
    let answer = view.blocks(Height::new(1), 2, usize::MAX).expect("a read");
    assert_eq!(answer[0].certificate, Some(certificate(&blocks[1])));
    assert_eq!((&answer[1].block, &answer[1].certificate), (&blocks[2], &None));
    let proof = view.certificate_from(Height::new(2)).expect("a read");
    assert_eq!(proof, Some(certificate(&blocks[3])));
    let headers = view.headers(Height::new(4), 10).expect("a read");
    assert_eq!(headers, [blocks[4].header().clone(), blocks[5].header().clone()]);
}

#[test]
fn transactions_of_an_account_come_newest_first_and_page_by_page() {
    let store = store();
    (0..5).for_each(|n| {
        append(&store, n, 0, true);
    });
    let view = store.reader().snapshot().expect("a snapshot");
    let at = |height| TxPlace { height: Height::new(height), index: 0 };
    let first = view.account_txs(&account(2), None, 3).expect("a read");
    assert_eq!(first, [at(4), at(3), at(2)]);
    assert_eq!(view.account_txs(&account(2), first.last().copied(), 3).expect("a read"), [at(1), at(0)]);
    assert_eq!(view.account_txs(&account(3), None, 3).expect("a read"), []);
}

#[test]
fn pruned_blocks_keep_headers_certificates_and_index() {
    let store = store();
    let blocks: Vec<_> = (0..6).map(|n| append(&store, n, 100, true)).collect();
    let mut batch = store.batch().expect("a batch");
    assert_eq!(batch.prune_bodies(Height::new(4), 3).expect("a write"), 3);
    assert_eq!(batch.prune_bodies(Height::new(4), 3).expect("a write"), 1);
    assert_eq!(batch.prune_bodies(Height::new(100), 100).expect("a write"), 1);
    batch.commit().expect("a commit");
    let view = store.reader().snapshot().expect("a snapshot");
    assert_eq!(view.block(Height::new(3)).expect("a read"), None);
    assert_eq!(view.receipts(Height::new(3)).expect("a read"), None);
    assert_eq!(view.header(Height::new(3)).expect("a read").as_ref(), Some(blocks[3].header()));
    assert!(view.certificate(Height::new(3)).expect("a read").is_some());
    assert_eq!(view.height_of(&blocks[3].block.hash()).expect("a read"), Some(Height::new(3)));
    assert_eq!(view.block(Height::new(5)).expect("a read").as_ref(), Some(&blocks[5]), "the tip is never pruned");
    assert_eq!(view.blocks(Height::new(0), 10, usize::MAX).expect("a read"), []);
}

#[test]
fn a_tree_can_be_proven_against_the_last_versions_and_old_nodes_go() {
    let store = store();
    let blocks: Vec<_> = (0..40).map(|n| append(&store, n, 0, true)).collect();
    let view = store.reader().snapshot().expect("a snapshot");
    let key = Key::Account(account(1));
    for (height, block) in (0_u64..).zip(&blocks) {
        let proof = state_tree::prove(&Overlay::new(&view, &[]), Height::new(height), &key);
        if height + tree::VERSIONS_KEPT < 40 {
            assert!(proof.is_err(), "version {height} is gone");
            continue;
        }
        let record = Record::Account(Account { balance: Amount::new(height), nonce: 0, ..Account::default() }).bytes();
        let checked = proof.expect("the version is kept").verify(&block.header().state_root, &key, Some(&record));
        assert_eq!(checked, Ok(()));
    }
}

#[test]
fn records_are_found_by_prefix_and_page_by_page() {
    let store = store();
    let state: StateChanges = (0..10_u8).map(|n| (vec![1 + n / 5, n], Some(vec![n]))).collect();
    let view = store.reader().snapshot().expect("a snapshot");
    let update = state_tree::update(&Overlay::new(&view, &[]), Height::GENESIS, &Changes::new()).expect("a tree");
    let block = next_block(&store, 0, update.root());
    let mut batch = store.batch().expect("a batch");
    let effects =
        FinalBlock { block: &block, certificate: None, receipts: &[], txs: &[], state: &state, tree: &update };
    batch.finalize(&effects).expect("it follows the tip");
    batch.commit().expect("a commit");
    let view = store.reader().snapshot().expect("a snapshot");
    let keys = |prefix: &[u8], after: Option<&[u8]>, limit| {
        let rows = view.state_scan(prefix, after, limit).expect("a read");
        rows.into_iter().map(|(key, value)| (key[1], value[0])).collect::<Vec<_>>()
    };
    assert_eq!(keys(&[1], None, 3), [(0, 0), (1, 1), (2, 2)]);
    assert_eq!(keys(&[1], Some(&[1, 2]), 3), [(3, 3), (4, 4)]);
    assert_eq!(keys(&[2], Some(&[1, 2]), 2), [(5, 5), (6, 6)], "a cursor below the prefix is no cursor");
    assert_eq!(view.state(&[1, 4]).expect("a read"), Some(vec![4]));
    assert_eq!(view.state(&[1, 9]).expect("a read"), None);
}

//! A small chain in a real store, with one of everything that the tables show.

use std::collections::BTreeMap;

use super::rows::{Row, Table};
use crate::crypto::SecretKey;
use crate::ledger::testing::{self, Chain, commit, manifest, pay, receipt, user};
use crate::ledger::{Key, Record};
use crate::store::{FinalBlock, Identity, IndexedTx, KeyOrigin, Options, Snapshot, StateChanges, Store};
use crate::types::{Amount, BlockHash, FileId, Height, Millis, Role};
use crate::wire::block::encode_payload;
use crate::wire::{self, Action, Block, Certificate, Header, ProposedBlock, PublicManifest, VerifiedTx};

/// A memo with all that CSV has to quote.
pub const MEMO: &str = "für dich, \"Tee\"; 茶";

/// The chain of `ledger::testing`, with its blocks in a store.
pub struct Story {
    pub chain: Chain,
    pub store: Store,
    _home: tempfile::TempDir,
    parent: Header,
}

impl Story {
    /// Genesis alone.
    pub fn begun() -> Self {
        let genesis = testing::genesis();
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("node.redb");
        let seed = zeroize::Zeroizing::new([7; 32]);
        let identity = Identity { chain: genesis.chain_id(), seed, origin: KeyOrigin::Generated, incarnation: [9; 32] };
        Store::create(&path, &identity).expect("a new database");
        let store = Store::open(&path, &Options::default()).expect("the database opens");
        let block = genesis.block().expect("a good genesis");
        let parent = block.header.clone();
        let proposed = ProposedBlock { block, justify: Certificate::genesis(parent.hash()) };
        let (records, tree) = (genesis.records().expect("records"), genesis.tree().expect("a tree"));
        let receipts = wire::encode(&Vec::<crate::ledger::Receipt>::new());
        let state = state_changes(&records);
        let last = FinalBlock {
            block: &proposed,
            certificate: None,
            receipts: &receipts,
            txs: &[],
            state: &state,
            tree: &tree,
        };
        let mut batch = store.batch().expect("a batch");
        batch.finalize(&last).expect("genesis is the first");
        batch.commit().expect("a commit");
        Self { chain: Chain::new(), store, _home: home, parent }
    }

    /// Ten blocks: transfers, one of them rejected; a node; three deals, of which one ends as pending does, one is final and
    /// one is deleted; two ends of an epoch.
    pub fn told() -> Self {
        let mut story = Self::begun();
        let memo =
            |memo: &str| Action::Transfer { to: testing::account(2), amount: Amount::new(5), memo: memo.to_owned() };
        story.act(&[(0, pay(1, 70)), (0, memo(MEMO)), (1, memo("")), (3, pay(2, 5_000))]);
        story.act(&[(1, story.registration())]);
        let id = story.chain.id;
        let [expiring, kept, deleted] = Self::manifests();
        let opened = [commit(&id, expiring, 1, 4), commit(&id, kept.clone(), 2, 3), commit(&id, deleted.clone(), 3, 3)];
        let opened = opened.map(|commit| (2, Action::CommitFile(Box::new(commit))));
        story.act(&opened);
        let receipts = vec![receipt(&id, &kept, 2)];
        story.act(&[
            (2, Action::ConfirmSlots { file: kept.id(), receipts }),
            (2, Action::DeleteFile { file: deleted.id() }),
        ]);
        (0..6).for_each(|_| story.act(&[]));
        story
    }

    /// Manifests of the deal that expires, of the one that is kept, and of the one that is deleted.
    pub fn manifests() -> [PublicManifest; 3] {
        [manifest(2, 1, 4, 2, 5_000), manifest(2, 2, 2, 1, 1_000_000), manifest(2, 3, 2, 1, 2)]
    }

    fn registration(&self) -> Action {
        let key = SecretKey::from_seed(&[77; 32]);
        let mut announcement = testing::announcement(&key, "the \"seventh\"", Role::Storage);
        announcement.bind(&self.chain.id, &testing::account(1), &key);
        Action::RegisterNode(Box::new(announcement))
    }

    /// The next block, with these actions of these users.
    pub fn act(&mut self, actions: &[(u8, Action)]) {
        let mut nonces = BTreeMap::new();
        let mut tx = |(n, action): &(u8, Action)| {
            let nonce = nonces.entry(*n).or_insert_with(|| self.chain.nonce(*n));
            *nonce += 1;
            self.chain.tx(*n, *nonce - 1, action.clone())
        };
        let txs: Vec<_> = actions.iter().map(&mut tx).collect();
        self.block(&txs);
    }

    fn block(&mut self, txs: &[VerifiedTx]) {
        let at = self.chain.next();
        let done = self.chain.block(txs);
        let header = Header {
            height: at.height,
            round: at.round,
            proposer: at.proposer,
            parent: self.parent.hash(),
            tx_root: done.effects.tx_root,
            receipt_root: done.effects.receipt_root,
            state_root: done.tree.root(),
            time: self.parent.time.saturating_add(Millis::new(1_234)),
            reveal: at.reveal,
            ..self.parent.clone()
        };
        let block = Block { header: header.clone(), payload: encode_payload(txs) };
        let proposed = ProposedBlock { block, justify: Certificate::genesis(BlockHash::from_bytes([0; 32])) };
        let indexed: Vec<_> = txs.iter().map(|tx| IndexedTx { id: tx.id(), accounts: vec![tx.sender()] }).collect();
        let mut batch = self.store.batch().expect("a batch");
        let last = FinalBlock {
            block: &proposed,
            certificate: None,
            receipts: &wire::encode(&done.effects.receipts),
            txs: &indexed,
            state: &state_changes(&done.effects.changes),
            tree: &done.tree,
        };
        batch.finalize(&last).expect("it follows the tip");
        batch.commit().expect("a commit");
        self.parent = header;
    }

    pub fn snapshot(&self) -> Snapshot {
        self.store.reader().snapshot().expect("a snapshot")
    }

    /// The deal of a file, as the chain in memory has it.
    pub fn deal(&self, file: &FileId) -> crate::ledger::record::Deal {
        match self.chain.state.get(&Key::File(*file)) {
            Some(Record::File(deal)) => (**deal).clone(),
            other => panic!("no deal: {other:?}"),
        }
    }

    /// A block that pays one credit to each of many new accounts.
    pub fn pay_strangers(&mut self, count: u8) {
        let stranger = |n: u8| SecretKey::from_seed(&[n, 1, 2, 3, 4].repeat(7)[..32].try_into().expect("32 bytes"));
        let one =
            |n| Action::Transfer { to: stranger(n).public().account_id(), amount: Amount::new(1), memo: String::new() };
        assert_ne!(user(0).public().account_id(), stranger(0).public().account_id());
        let actions: Vec<_> = (0..count).map(|n| (0, one(n))).collect();
        self.act(&actions);
    }
}

/// All rows of a table.
pub fn all_rows(snapshot: &Snapshot, table: Table) -> Vec<Row> {
    let rows = super::rows(snapshot, table, Height::GENESIS, Height::new(u64::MAX)).expect("a good store");
    rows.collect::<Result<_, _>>().expect("good rows")
}

fn state_changes(changes: &crate::ledger::effects::Changes) -> StateChanges {
    changes.iter().map(|(key, record)| (key.bytes(), record.as_ref().map(Record::bytes))).collect()
}

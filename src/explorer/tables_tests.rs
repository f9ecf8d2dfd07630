//! Tests of the tables: each row against what the chain itself says.

use std::collections::BTreeMap;

use super::*;
use crate::explorer::testing::{MEMO, Story, all_rows};
use crate::ledger::testing::{account, genesis};
use crate::types::{BlockHash, ChainId, Epoch, Millis, NodeId, Round, StateRoot, View};

macro_rules! rows_of {
    ($story:expr, $table:ident) => {
        all_rows(&$story.snapshot(), Table::$table)
            .into_iter()
            .map(|row| match row {
                Row::$table(row) => row,
                other => panic!("a row of another table: {other:?}"),
            })
            .collect::<Vec<_>>()
    };
}

fn id<T: std::str::FromStr>(text: &str) -> T {
    text.parse().ok().expect("an id")
}

fn root(text: &str) -> [u8; 32] {
    *id::<StateRoot>(text).as_bytes()
}

#[test]
fn a_blocks_hash_can_be_taken_again_from_its_row() {
    let story = Story::told();
    let blocks = rows_of!(story, Blocks);
    assert_eq!(blocks.len(), 11, "genesis is among them");
    let mut parent = BlockHash::from_bytes([0; 32]);
    for (height, row) in (0..).zip(&blocks) {
        let header = Header {
            version: row.version.try_into().expect("a version"),
            chain: id::<ChainId>(&row.chain_id),
            height: Height::new(row.height),
            round: Round::new(Epoch::new(row.epoch), View::new(row.view)),
            proposer: id::<NodeId>(&row.proposer),
            parent: id(&row.parent_hash),
            tx_root: root(&row.tx_root),
            receipt_root: root(&row.receipt_root),
            state_root: id(&row.state_root),
            validator_set: root(&row.validator_set),
            next_set: root(&row.next_set),
            time: Millis::new(row.time_ms.0),
            reveal: root(&row.reveal),
        };
        assert_eq!((row.height, header.hash().to_string()), (height, row.block_hash.clone()));
        assert_eq!(header.parent, parent);
        parent = header.hash();
    }
    let txs: Vec<_> = blocks.iter().map(|row| row.txs).collect();
    assert_eq!(txs[..6], [0, 4, 1, 3, 2, 0].map(Some));
    assert_eq!(blocks[0].chain_id, genesis().chain_id().to_string());
}

#[test]
fn transactions_say_what_was_asked_and_what_became_of_it() {
    let story = Story::told();
    let txs = rows_of!(story, Transactions);
    let places: Vec<_> = txs.iter().map(|row| (row.height, row.tx_index, row.action.as_str())).collect();
    let want = [
        (1, 0, "transfer"),
        (1, 1, "transfer"),
        (1, 2, "transfer"),
        (1, 3, "transfer"),
        (2, 0, "register_node"),
        (3, 0, "commit_file"),
        (3, 1, "commit_file"),
        (3, 2, "commit_file"),
        (4, 0, "confirm_slots"),
        (4, 1, "delete_file"),
    ];
    assert_eq!(places, want);
    let memos: Vec<_> = txs[..4].iter().map(|row| row.memo.as_deref()).collect();
    assert_eq!(memos, [Some("for you"), Some(MEMO), None, Some("for you")]);
    let rejected = &txs[3];
    assert_eq!((rejected.status.as_str(), rejected.reject_code.as_deref()), ("rejected", Some("funds")));
    assert_eq!(rejected.reject_reason.as_deref(), Some("balance 1000 does not cover 5000"));
    assert!(txs.iter().filter(|row| row.status == "applied").all(|row| row.reject_code.is_none()));
    assert_eq!((txs[4].capacity, txs[4].roles.as_deref()), (Some(1 << 20), Some("[\"storage\"]")));
    let [_, kept, deleted] = Story::manifests();
    assert_eq!(
        (txs[6].file_id.clone(), txs[6].slots, txs[6].receipts),
        (Some(kept.id().to_string()), Some(3), Some(2))
    );
    assert_eq!(txs[9].file_id, Some(deleted.id().to_string()));
    assert!(txs.iter().all(|row| row.time_ms.0 == 1_700_000_000_000 + 1_234 * row.height));
}

#[test]
fn accounts_nodes_and_validators_are_those_of_the_state() {
    let story = Story::told();
    let accounts: BTreeMap<_, _> =
        rows_of!(story, Accounts).into_iter().map(|row| (row.account_id, (row.balance, row.nonce))).collect();
    // 29 credits of the third one are in the escrow of the deal that is open.
    let want = [(0, 925, 2), (1, 1_065, 2), (2, 981, 5), (3, 1_000, 1)];
    let want: BTreeMap<_, _> = want.map(|(n, balance, nonce)| (account(n).to_string(), (balance, nonce))).into();
    assert_eq!(accounts, want);
    let nodes = rows_of!(story, Nodes);
    assert_eq!(nodes.len(), 11);
    let late: Vec<_> = nodes.iter().filter(|row| row.registered_height > 0).collect();
    assert_eq!((late[0].operator.as_str(), late[0].registered_height), ("the \"seventh\"", 2));
    assert_eq!((late.len(), late[0].addresses.as_str()), (1, "[\"/ip4/127.0.0.1/tcp/1\"]"));
    let used: u64 = nodes.iter().map(|row| row.used).sum();
    assert_eq!(used, 3 * Story::manifests()[1].slot_len(), "only the kept file takes room");
    let validators = rows_of!(story, Validators);
    let skipped: Vec<_> = validators.iter().map(|row| (row.validator_index, row.skipped)).collect();
    assert_eq!(skipped, [(0, false), (1, false), (2, true), (3, false)]);
}

#[test]
fn files_and_slots_are_those_of_the_deals() {
    let story = Story::told();
    let files: BTreeMap<_, _> = rows_of!(story, Files).into_iter().map(|row| (row.file_id.clone(), row)).collect();
    let mut slots = rows_of!(story, Slots);
    let want = [("expired", 10, 1), ("final", 4, 3), ("deleted", 4, 3)];
    for (manifest, (status, since, confirmations)) in Story::manifests().into_iter().zip(want) {
        let (id, deal) = (manifest.id(), story.deal(&manifest.id()));
        let row = &files[&id.to_string()];
        assert_eq!((row.status.as_str(), row.status_height, row.confirmations), (status, since, confirmations));
        let open = status == "final";
        assert_eq!(row.cipher_bytes, open.then_some(manifest.cipher_len));
        assert_eq!((row.slots, row.opened_height, row.as_of_height), (manifest.slots.len() as u64, 3, 10));
        for (slot, info) in (0_u8..).zip(&manifest.slots) {
            let at = slots.iter().position(|row| row.file_id == id.to_string() && row.slot == u64::from(slot));
            let row = slots.remove(at.expect("each slot has a row"));
            assert_eq!(row.slot_root, open.then(|| info.root.to_string()));
            assert_eq!((row.slot_bytes, row.confirmed), (info.len, deal.confirmed.has(slot)));
            assert_eq!(row.node_id, deal.placement[usize::from(slot)].to_string());
        }
    }
    assert!(slots.is_empty(), "and there are no others");
}

#[test]
fn rows_come_in_the_order_of_the_key_each_once_over_many_pages() {
    let mut story = Story::told();
    story.pay_strangers(250);
    let accounts = rows_of!(story, Accounts);
    assert_eq!(accounts.len(), 254);
    assert!(accounts.is_sorted_by(|a, b| a.account_id < b.account_id));
    let escrow: u64 = rows_of!(story, Files).iter().map(|row| row.escrow).sum();
    assert_eq!(accounts.iter().map(|row| row.balance).sum::<u64>() + escrow, 4_000);
    let slots = rows_of!(story, Slots);
    assert!(slots.is_sorted_by(|a, b| (&a.file_id, a.slot) < (&b.file_id, b.slot)));
}

#[test]
fn a_range_of_heights_is_cut_at_the_tip() {
    let story = Story::told();
    let snapshot = story.snapshot();
    let heights = |table, from, to| {
        let rows = rows(&snapshot, table, Height::new(from), Height::new(to)).expect("a good store");
        rows.map(|row| row.expect("a good row").height().get()).collect::<Vec<_>>()
    };
    assert_eq!(heights(Table::Blocks, 3, 5), [3, 4, 5]);
    assert_eq!(heights(Table::Blocks, 9, 99), [9, 10]);
    assert_eq!(heights(Table::Transactions, 4, 99), [4, 4]);
    assert!(heights(Table::Blocks, 11, 99).is_empty());
    assert!(heights(Table::Blocks, 5, 4).is_empty());
}

#[test]
fn a_pruned_body_leaves_its_header_and_no_silent_gap() {
    let story = Story::told();
    let mut batch = story.store.batch().expect("a batch");
    batch.prune_bodies(Height::new(3), 10).expect("a write");
    batch.commit().expect("a commit");
    let txs: Vec<_> = rows_of!(story, Blocks).into_iter().map(|row| row.txs).collect();
    assert_eq!(txs[..5], [None, None, None, Some(3), Some(2)]);
    let snapshot = story.snapshot();
    let mut transactions = rows(&snapshot, Table::Transactions, Height::GENESIS, Height::new(9)).expect("a good store");
    assert!(matches!(transactions.next(), Some(Err(TableError::Pruned(Height::GENESIS)))));
    assert!(transactions.next().is_none(), "nothing comes after a failure");
    let kept = rows(&snapshot, Table::Transactions, Height::new(3), Height::new(9)).expect("a good store");
    assert_eq!(kept.filter_map(Result::ok).count(), 5);
}

//! Each rule of the ledger, by example.

use super::record::{DealStatus, NodeEntry};
use super::testing::*;
use super::*;
use crate::crypto::SecretKey;
use crate::types::{AccountId, Amount, ByteCount, Epoch, FileId, Height, NodeId, Role, Roles};
use crate::wire::Action;
use crate::wire::tx::NodeAnnouncement;

fn rejected(outcome: Outcome) -> Reject {
    match outcome {
        Outcome::Rejected(reject) => reject,
        Outcome::Applied => panic!("the transaction was applied"),
    }
}

fn balance(chain: &Chain, n: u8) -> u64 {
    match chain.state.get(&Key::Account(account(n))) {
        Some(Record::Account(account)) => account.balance.get(),
        _ => 0,
    }
}

fn node_entry(chain: &Chain, node: NodeId) -> NodeEntry {
    match chain.state.get(&Key::Node(node)) {
        Some(Record::Node(entry)) => entry.as_ref().clone(),
        other => panic!("no node: {other:?}"),
    }
}

fn used(chain: &Chain, n: u8) -> u64 {
    node_entry(chain, store(n)).used.get()
}

fn status(chain: &Chain, file: &FileId) -> DealStatus {
    match chain.state.get(&Key::File(*file)) {
        Some(Record::File(deal)) => deal.status,
        other => panic!("no deal: {other:?}"),
    }
}

fn expired(done: &Executed) -> Vec<FileId> {
    let file = |event: &Event| if let Event::FileExpired(file) = event { Some(*file) } else { None };
    done.effects.events.iter().filter_map(file).collect()
}

fn put(chain: &Chain, owner: u8, seed: u8, receipts: u8, min: u8) -> (FileId, Action) {
    let manifest = manifest(owner, seed, 2, 1, 1_000);
    let file = manifest.id();
    (file, Action::CommitFile(Box::new(commit(&chain.id, manifest, receipts, min))))
}

fn register(chain: &Chain, owner: u8, key: &SecretKey, edit: impl FnOnce(&mut NodeAnnouncement)) -> Action {
    let mut node = announcement(key, "newcomer", Role::Storage);
    edit(&mut node);
    node.bind(&chain.id, &account(owner), key);
    Action::RegisterNode(Box::new(node))
}

#[test]
fn a_transfer_moves_credits_and_can_begin_an_account() {
    let mut chain = Chain::new();
    assert_eq!(chain.act(0, pay(1, 300)), Outcome::Applied);
    assert_eq!(chain.act(1, pay(9, 1_300)), Outcome::Applied);
    assert_eq!([0, 1, 9].map(|n| balance(&chain, n)), [700, 0, 1_300]);
    assert_eq!(chain.act(9, pay(9, 1_300)), Outcome::Applied, "to oneself");
    assert_eq!(balance(&chain, 9), 1_300);
}

#[test]
fn a_rejected_transfer_uses_up_its_nonce_and_moves_nothing() {
    let mut chain = Chain::new();
    let reject = rejected(chain.act(0, pay(1, 1_001)));
    assert_eq!(reject, Reject::Funds { have: Amount::new(1_000), need: Amount::new(1_001) });
    assert_eq!((chain.nonce(0), balance(&chain, 0), balance(&chain, 1)), (1, 1_000, 1_000));
}

#[test]
fn credits_cannot_go_where_no_key_can_spend_them() {
    let mut chain = Chain::new();
    let nobody = AccountId::from_bytes([0; 32]);
    let action = Action::Transfer { to: nobody, amount: Amount::new(1), memo: String::new() };
    assert_eq!(rejected(chain.act(0, action)), Reject::AccountKey(nobody));
}

#[test]
fn a_block_with_a_transaction_out_of_turn_is_invalid() {
    let mut chain = Chain::new();
    chain.act(0, pay(1, 1));
    let cases = [
        (chain.tx(0, 0, pay(1, 1)), NotNext::Nonce { have: 0, need: 1 }),
        (chain.tx(0, 2, pay(1, 1)), NotNext::Nonce { have: 2, need: 1 }),
        (chain.tx(9, 0, pay(1, 1)), NotNext::UnknownSender(account(9))),
    ];
    for (tx, reason) in cases {
        let good = chain.tx(1, 0, pay(0, 1));
        let result = execute_block(&chain.state, chain.next(), &[good, tx]);
        assert_eq!(result, Err(ExecuteError::Invalid(Fault::NotNext { index: 1, reason })));
    }
    let twice = chain.tx(0, 1, pay(1, 1));
    assert!(execute_block(&chain.state, chain.next(), &[twice.clone(), twice]).is_err());
}

#[test]
fn a_node_belongs_to_whoever_registered_it_first() {
    let mut chain = Chain::new();
    let key = SecretKey::from_seed(&[77; 32]);
    let action = register(&chain, 1, &key, |_| {});
    assert_eq!(chain.act(1, action), Outcome::Applied);
    let entry = node_entry(&chain, key.public().node_id());
    assert_eq!((entry.account, entry.registered, entry.active), (account(1), Height::new(1), true));
    assert_eq!(chain.state.get(&Key::Operator("newcomer".to_owned())), Some(&Record::Operator(1)));
    assert_eq!(chain.state.get(&Key::OperatorCount), Some(&Record::OperatorCount(7)));

    let theft = register(&chain, 2, &key, |_| {});
    let node = key.public().node_id();
    assert_eq!(rejected(chain.act(2, theft)), Reject::NodeOwner { node, have: account(1), need: account(2) });

    let moved = register(&chain, 1, &key, |node| node.operator = "operator 0".to_owned());
    assert_eq!(chain.act(1, moved), Outcome::Applied);
    assert_eq!(chain.state.get(&Key::Operator("newcomer".to_owned())), None);
    assert_eq!(chain.state.get(&Key::Operator("operator 0".to_owned())), Some(&Record::Operator(2)));
    assert_eq!(chain.state.get(&Key::OperatorCount), Some(&Record::OperatorCount(6)));

    let retired = register(&chain, 1, &key, |node| node.roles = Roles::of(&[Role::User]));
    assert_eq!(chain.act(1, retired), Outcome::Applied);
    assert_eq!(chain.state.get(&Key::Operator("operator 0".to_owned())), Some(&Record::Operator(1)));
}

#[test]
fn a_node_cannot_offer_less_than_it_holds() {
    let mut chain = Chain::new();
    let (_, action) = put(&chain, 1, 1, 3, 3);
    assert_eq!(chain.act(1, action), Outcome::Applied);
    let less = register(&chain, 0, &store_key(0), |node| node.capacity = ByteCount::new(499));
    let (have, need) = (ByteCount::new(499), ByteCount::new(500));
    assert_eq!(rejected(chain.act(0, less)), Reject::Capacity { have, need });
    let other = register(&chain, 0, &store_key(0), |node| node.roles = Roles::of(&[Role::Relay]));
    assert_eq!(rejected(chain.act(0, other)), Reject::HoldsSlots { held: need });
    let just = register(&chain, 0, &store_key(0), |node| node.capacity = need);
    assert_eq!(chain.act(0, just), Outcome::Applied);
    assert_eq!(used(&chain, 0), 500);
}

#[test]
fn a_deal_is_final_with_enough_receipts_and_pending_with_fewer() {
    let mut chain = Chain::new();
    let (file, action) = put(&chain, 1, 1, 2, 2);
    assert_eq!(chain.act(1, action.clone()), Outcome::Applied);
    assert_eq!(status(&chain, &file), DealStatus::Final { since: Height::new(1) });
    assert_eq!([0, 1, 2, 3].map(|n| used(&chain, n)), [500, 500, 500, 0]);
    assert!(chain.state.get(&Key::OwnerFile(account(1), file)).is_some());
    assert_eq!(rejected(chain.act(1, action)), Reject::FileExists(file));

    let (late, action) = put(&chain, 1, 2, 1, 3);
    assert_eq!(chain.act(1, action), Outcome::Applied);
    assert_eq!(status(&chain, &late), DealStatus::Pending { until: Height::new(3 + PENDING) });
    let manifest = manifest(1, 2, 2, 1, 1_000);
    let confirm = |slots: &[u8]| {
        let receipts = slots.iter().map(|slot| receipt(&chain.id, &manifest, *slot)).collect();
        Action::ConfirmSlots { file: late, receipts }
    };
    let (none_new, some, rest) = (confirm(&[0]), confirm(&[0, 1]), confirm(&[2]));
    assert_eq!(rejected(chain.act(1, none_new)), Reject::NothingNew(1));
    let refused = Reject::FileOwner { file: late, have: account(1), need: account(2) };
    assert_eq!(rejected(chain.act(2, some.clone())), refused);
    assert_eq!(chain.act(1, some), Outcome::Applied);
    assert!(matches!(status(&chain, &late), DealStatus::Pending { .. }));
    assert_eq!(chain.act(1, rest), Outcome::Applied);
    assert_eq!(status(&chain, &late), DealStatus::Final { since: Height::new(7) });
}

#[test]
fn a_late_receipt_counts_only_from_the_node_placed_there_and_signed_by_it() {
    let mut chain = Chain::new();
    let (file, action) = put(&chain, 1, 1, 1, 3);
    chain.act(1, action);
    let manifest = manifest(1, 1, 2, 1, 1_000);
    let mut wrong_node = receipt(&chain.id, &manifest, 1);
    wrong_node.node = store(5);
    let reject = Reject::ReceiptNode { slot: 1, have: store(5), need: store(1) };
    assert_eq!(rejected(chain.act(1, Action::ConfirmSlots { file, receipts: vec![wrong_node] })), reject);
    let mut forged = receipt(&chain.id, &manifest, 2);
    forged.signature = receipt(&chain.id, &manifest, 1).signature;
    let receipts = vec![receipt(&chain.id, &manifest, 1), forged];
    assert_eq!(rejected(chain.act(1, Action::ConfirmSlots { file, receipts })), Reject::Receipt(2));
    let mut outside = receipt(&chain.id, &manifest, 2);
    outside.slot = 200;
    let reject = Reject::UnknownSlot { slot: 200, slots: 3 };
    assert_eq!(rejected(chain.act(1, Action::ConfirmSlots { file, receipts: vec![outside] })), reject);
}

#[test]
fn slots_go_to_registered_storage_nodes_with_room() {
    let mut chain = Chain::new();
    let place = |chain: &Chain, len: u64, node: NodeId| {
        let mut deal = commit(&chain.id, manifest(1, 9, 2, 1, len), 0, 2);
        deal.placement[2] = node;
        Action::CommitFile(Box::new(deal))
    };
    let stranger = NodeId::from_bytes([3; 32]);
    let action = place(&chain, 10, stranger);
    assert_eq!(rejected(chain.act(1, action)), Reject::UnknownNode { slot: 2, node: stranger });
    let validator = validator_key(0).public().node_id();
    let action = place(&chain, 10, validator);
    assert_eq!(rejected(chain.act(1, action)), Reject::NotStorage { slot: 2, node: validator });
    let action = place(&chain, 2 * CAPACITY + 2, store(2));
    let (have, need) = (ByteCount::new(CAPACITY), ByteCount::new(CAPACITY + 1));
    assert_eq!(rejected(chain.act(1, action)), Reject::NoRoom { slot: 0, node: store(0), have, need });
    let action = place(&chain, 2 * CAPACITY, store(2));
    assert_eq!(chain.act(1, action), Outcome::Applied);
    let (_, action) = put(&chain, 2, 1, 0, 2);
    let (have, need) = (ByteCount::ZERO, ByteCount::new(500));
    assert_eq!(rejected(chain.act(2, action)), Reject::NoRoom { slot: 0, node: store(0), have, need });
}

#[test]
fn a_file_survives_the_loss_of_any_operator_if_there_are_operators_enough() {
    let mut chain = Chain::new();
    let same = |node: &mut NodeAnnouncement| node.operator = "operator 0".to_owned();
    let action = register(&chain, 0, &store_key(1), same);
    chain.act(0, action);
    let (_, action) = put(&chain, 1, 1, 0, 2);
    let refused = Reject::Operator { operator: "operator 0".to_owned(), have: 2, max: 1, operators: 5 };
    assert_eq!(rejected(chain.act(1, action.clone())), refused);
    let wider = commit(&chain.id, manifest(1, 2, 2, 2, 1_000), 0, 2);
    let wider = Action::CommitFile(Box::new(wider));
    assert_eq!(chain.act(1, wider), Outcome::Applied, "two slots may share an operator if two may be lost");
    for n in 2..STORES {
        let action = register(&chain, 0, &store_key(n), same);
        chain.act(0, action);
    }
    assert_eq!(chain.act(1, action), Outcome::Applied, "with one operator there is nothing to spread over");
}

#[test]
fn deleting_frees_the_bytes_once_and_only_for_the_owner() {
    let mut chain = Chain::new();
    let (file, action) = put(&chain, 1, 1, 3, 3);
    chain.act(1, action.clone());
    let delete = Action::DeleteFile { file };
    let refused = Reject::FileOwner { file, have: account(1), need: account(2) };
    assert_eq!(rejected(chain.act(2, delete.clone())), refused);
    assert_eq!(chain.act(1, delete.clone()), Outcome::Applied);
    assert_eq!([0, 1, 2].map(|n| used(&chain, n)), [0; 3]);
    assert_eq!(status(&chain, &file), DealStatus::Deleted { at: Height::new(3) });
    assert_eq!(chain.state.get(&Key::Manifest(file)), None);
    assert_eq!(chain.state.get(&Key::OwnerFile(account(1), file)), None);
    assert_eq!(rejected(chain.act(1, delete)), Reject::Ended(file));
    assert_eq!(rejected(chain.act(1, action)), Reject::FileExists(file));
    let unknown = FileId::from_bytes([1; 32]);
    assert_eq!(rejected(chain.act(1, Action::DeleteFile { file: unknown })), Reject::UnknownFile(unknown));
}

#[test]
fn a_deal_that_stays_pending_ends_at_its_height_and_frees_the_bytes() {
    let mut chain = Chain::new();
    let (kept, action) = put(&chain, 1, 1, 2, 2);
    chain.act(1, action);
    let (lost, action) = put(&chain, 1, 2, 1, 2);
    chain.act(1, action);
    for _ in 3..=2 + PENDING {
        assert_eq!(expired(&chain.block(&[])), []);
    }
    assert_eq!(used(&chain, 0), 1_000);
    assert_eq!(expired(&chain.block(&[])), [lost]);
    assert_eq!(used(&chain, 0), 500);
    assert!(matches!(status(&chain, &lost), DealStatus::Expired { .. }));
    assert!(matches!(status(&chain, &kept), DealStatus::Final { .. }));
    let receipts = vec![receipt(&chain.id, &manifest(1, 2, 2, 1, 1_000), 1)];
    assert_eq!(rejected(chain.act(1, Action::ConfirmSlots { file: lost, receipts })), Reject::Ended(lost));
    assert_eq!(chain.act(1, Action::DeleteFile { file: lost }), Outcome::Applied);
    assert_eq!(used(&chain, 0), 500, "the bytes were freed when it ended");
    let pending = |(_, record): &(&Key, &Record)| matches!(record, Record::Due(record::Due::PendingEnds(_)));
    assert_eq!(chain.state.records().filter(pending).count(), 0);
}

#[test]
fn many_deadlines_of_one_height_are_worked_off_over_several_blocks() {
    let mut genesis = genesis();
    genesis.accounts.iter_mut().for_each(|entry| entry.balance = Amount::new(10_000));
    let mut chain = Chain::of(genesis);
    let count = 2 * crate::types::limits::DUE_PER_BLOCK_MAX as usize + 10;
    let txs: Vec<_> = (0..count)
        .map(|n| {
            let mut manifest = manifest(1, 0, 1, 0, 1);
            manifest.nonce[..8].copy_from_slice(&(n as u64).to_be_bytes());
            chain.tx(1, n as u64, Action::CommitFile(Box::new(commit(&chain.id, manifest, 0, 1))))
        })
        .collect();
    chain.block(&txs);
    let expired: Vec<_> = (0..PENDING + 4).map(|_| expired(&chain.block(&[])).len()).collect();
    let per_block = crate::types::limits::DUE_PER_BLOCK_MAX as usize;
    assert_eq!(expired[PENDING as usize - 1..=PENDING as usize], [0, per_block]);
    assert!(expired.iter().all(|ended| *ended <= per_block));
    assert_eq!(expired.iter().sum::<usize>(), count);
    assert_eq!(used(&chain, 0), 0);
}

#[test]
fn a_block_out_of_place_or_with_a_wrong_reveal_is_invalid() {
    let mut chain = Chain::new();
    (1..EPOCH).for_each(|_| _ = chain.block(&[]));
    let good = chain.next();
    let fault = |edit: &dyn Fn(&mut BlockContext)| {
        let mut at = good.clone();
        edit(&mut at);
        match execute_block(&chain.state, at, &[]) {
            Err(ExecuteError::Invalid(fault)) => fault,
            other => panic!("not refused: {other:?}"),
        }
    };
    let (have, need) = (Height::new(9), Height::new(EPOCH));
    assert_eq!(fault(&|at| at.height = have), Fault::Height { have, need });
    let (have, need) = (Epoch::new(1), Epoch::ZERO);
    assert_eq!(fault(&|at| at.round.epoch = have), Fault::Epoch { have, need });
    assert_eq!(fault(&|at| at.reveal[0] ^= 1), Fault::Reveal(good.proposer));
    let stranger = NodeId::from_bytes([1; 32]);
    assert_eq!(fault(&|at| at.proposer = stranger), Fault::Proposer(stranger));
    assert_eq!(fault(&|at| at.next_skip = None), Fault::SkipList);
    let edit_skip = |edit: fn(&mut record::SkipList)| fault(&|at| at.next_skip.iter_mut().for_each(edit));
    assert_eq!(edit_skip(|list| list.indices = vec![4]), Fault::SkipList);
    assert_eq!(edit_skip(|list| list.indices = vec![1, 1]), Fault::SkipList);
    assert_eq!(edit_skip(|list| list.epoch = Epoch::ZERO), Fault::SkipList);
    chain.block(&[]);
    assert!(matches!(chain.state.get(&Key::SkipList), Some(Record::SkipList(list)) if list.epoch == Epoch::new(1)));
}

#[test]
fn each_reveal_moves_the_beacon() {
    let mut chain = Chain::new();
    let beacon = |chain: &Chain| match chain.state.get(&Key::Tip) {
        Some(Record::Tip(tip)) => tip.beacon,
        other => panic!("no tip: {other:?}"),
    };
    let (before, reveal) = (beacon(&chain), chain.next().reveal);
    chain.block(&[]);
    assert_eq!(beacon(&chain), beacon::mix(&before, &reveal));
}

#[test]
fn a_stranger_can_neither_use_nor_register_before_a_first_transfer() {
    let mut chain = Chain::new();
    let action = register(&chain, 9, &SecretKey::from_seed(&[77; 32]), |_| {});
    let tx = chain.tx(9, 0, action);
    assert!(execute_block(&chain.state, chain.next(), std::slice::from_ref(&tx)).is_err());
    chain.act(0, pay(9, 1));
    assert_eq!(chain.block(&[tx]).effects.receipts[0].outcome, Outcome::Applied);
}

#[test]
fn the_canonical_bytes_of_receipts_and_records_stay_as_they_are() {
    let mut chain = Chain::new();
    let mut golden = String::new();
    let (file, deal) = put(&chain, 1, 1, 2, 3);
    let delete = Action::DeleteFile { file: FileId::from_bytes([1; 32]) };
    let share = Action::ShareFile { file, to: account(2), sealed: vec![3; 104], until: Some(Height::new(9)) };
    let txs = [chain.tx(0, 0, pay(1, 5)), chain.tx(1, 0, deal), chain.tx(2, 0, delete), chain.tx(1, 1, share)];
    for receipt in chain.block(&txs).effects.receipts {
        golden += &format!("receipt {}\n", hex::encode(crate::wire::encode(&receipt)));
    }
    let expires = Height::new(1 + PENDING + 1);
    let keys = [
        Key::Params,
        Key::Tip,
        Key::Validators,
        Key::SkipList,
        Key::Stakes,
        Key::OperatorCount,
        Key::Account(account(0)),
        Key::Node(store(0)),
        Key::Operator("operator 0".to_owned()),
        Key::File(file),
        Key::Manifest(file),
        Key::OwnerFile(account(1), file),
        Key::DueCount(expires),
        Key::Due(expires, 0),
        Key::Sums(store(0), 0, 0),
        Key::Held(store(0), 0),
        Key::Share(account(2), file),
        Key::Shares(file),
    ];
    for key in keys {
        let record = chain.state.get(&key).expect("one record of each kind");
        golden += &format!("{} {}\n", hex::encode(key.bytes()), hex::encode(record.bytes()));
    }
    expect_test::expect_file!["../../fixtures/wire/ledger_state.txt"].assert_eq(&golden);
}

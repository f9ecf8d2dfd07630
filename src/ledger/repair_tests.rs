//! Repair thresholds: which lost slots others may take over, and which wait for their last holders.

use super::record::Record;
use super::testing::*;
use super::*;
use crate::types::FileId;
use crate::wire::{Action, PublicManifest};

/// One data slot and three further ones, on stores 0 to 3; others rebuild when two are left.
const THRESHOLD: u8 = 2;

/// A chain with a file of which these stores have lost their slots, after two audits without a proof.
fn with_losses(silent: &[u8]) -> (Chain, PublicManifest) {
    let mut chain = Chain::new();
    let manifest = manifest(1, 1, 1, 3, 5_000);
    let mut deal = commit(&chain.id, manifest.clone(), 4, 2);
    deal.repair_threshold = THRESHOLD;
    assert_eq!(chain.act(1, Action::CommitFile(Box::new(deal))), Outcome::Applied);
    for epoch in 1..=2 {
        chain.run_to(epoch * EPOCH + 2);
        let answer = |n| chain.answer(n, |_| !silent.contains(&n)).expect("it is asked");
        let nonce = |n: u8| chain.nonce(0) + u64::from(n);
        let txs: Vec<_> = (0..4).map(|n| chain.tx(0, nonce(n), answer(n))).collect();
        let done = chain.block(&txs);
        assert!(done.effects.receipts.iter().all(|receipt| receipt.outcome == Outcome::Applied));
    }
    let lost: Vec<_> = chain.deal(&manifest.id()).lost.iter().collect();
    assert_eq!(lost, silent);
    (chain, manifest)
}

fn take(chain: &mut Chain, manifest: &PublicManifest, slot: u8, by: u8) -> Outcome {
    let receipt = receipt_of(&chain.id, manifest, slot, &store_key(by));
    chain.act(0, Action::TakeSlot { file: manifest.id(), receipt })
}

fn register(chain: &mut Chain, n: u8) {
    let mut again = announcement(&store_key(n), &format!("operator {n}"), crate::types::Role::Storage);
    again.bind(&chain.id, &account(0), &store_key(n));
    assert_eq!(chain.act(0, Action::RegisterNode(Box::new(again))), Outcome::Applied);
}

fn is_listed(chain: &Chain, file: FileId) -> bool {
    matches!(chain.state.get(&Key::Lost(file)), Some(Record::Lost { .. }))
}

#[test]
fn a_slot_lost_above_the_threshold_waits_for_its_last_holder() {
    let (mut chain, manifest) = with_losses(&[0]);
    let file = manifest.id();
    assert!(!is_listed(&chain, file), "nobody is to look at it");
    let refused = take(&mut chain, &manifest, 0, 4);
    assert_eq!(refused, Outcome::Rejected(Reject::NotDue { file, slot: 0, held: 3, threshold: THRESHOLD }));
    register(&mut chain, 0);
    assert_eq!(take(&mut chain, &manifest, 0, 0), Outcome::Applied);
    let deal = chain.deal(&file);
    assert!(deal.lost.is_empty() && deal.confirmed.len() == 4);
}

#[test]
fn at_the_threshold_all_lost_slots_are_rebuilt_and_not_only_those_below_it() {
    let (mut chain, manifest) = with_losses(&[0, 1]);
    let file = manifest.id();
    assert!(is_listed(&chain, file));
    assert_eq!(take(&mut chain, &manifest, 1, 4), Outcome::Applied);
    assert!(chain.deal(&file).confirmed.len() > usize::from(THRESHOLD) && is_listed(&chain, file));
    assert_eq!(take(&mut chain, &manifest, 0, 5), Outcome::Applied);
    let deal = chain.deal(&file);
    assert!(deal.lost.is_empty() && !is_listed(&chain, file));
    assert_eq!((deal.placement[0], deal.placement[1]), (store(5), store(4)));
}

#[test]
fn a_slot_that_never_came_counts_as_not_held() {
    let mut chain = Chain::new();
    let manifest = manifest(1, 1, 1, 3, 5_000);
    let file = manifest.id();
    let mut deal = commit(&chain.id, manifest.clone(), 3, 2);
    deal.repair_threshold = THRESHOLD;
    assert_eq!(chain.act(1, Action::CommitFile(Box::new(deal))), Outcome::Applied);
    chain.run_to(chain.height + PENDING + 1);
    assert!(chain.deal(&file).lost.has(3) && !is_listed(&chain, file), "three are held");
    assert_eq!(take(&mut chain, &manifest, 3, 3), Outcome::Applied, "its node has it late");
    assert!(chain.deal(&file).lost.is_empty());
}

#[test]
fn a_deal_over_fifty_nodes_is_final_with_its_quorum_and_whole_again_after_losses() {
    let mut chain = Chain::new();
    (STORES..55).for_each(|n| register(&mut chain, n));
    let manifest = manifest(1, 1, 34, 16, 340_000);
    let file = manifest.id();
    let mut deal = commit(&chain.id, manifest.clone(), 39, 40);
    deal.repair_threshold = 48;
    assert_eq!(chain.act(1, Action::CommitFile(Box::new(deal))), Outcome::Applied);
    assert_eq!(chain.deal(&file).status.name(), "pending");
    let confirm = |chain: &mut Chain, slots: std::ops::Range<u8>| {
        let receipts = slots.map(|slot| receipt(&chain.id, &manifest, slot)).collect();
        assert_eq!(chain.act(1, Action::ConfirmSlots { file, receipts }), Outcome::Applied);
    };
    confirm(&mut chain, 39..40);
    assert_eq!(chain.deal(&file).status.name(), "final", "forty of fifty");
    confirm(&mut chain, 40..47);
    chain.run_to(chain.height + PENDING);
    let now = chain.deal(&file);
    let lost: Vec<_> = now.lost.iter().collect();
    assert_eq!((now.confirmed.len(), lost), (47, vec![47, 48, 49]), "three never came");
    for (slot, by) in [(47, 50), (48, 51), (49, 52)] {
        assert!(is_listed(&chain, file));
        assert_eq!(take(&mut chain, &manifest, slot, by), Outcome::Applied);
    }
    assert!(!is_listed(&chain, file) && chain.deal(&file).confirmed.len() == 50);
}

/// Lets stores 1 and 2 prove what an audit asks them for now.
fn prove(chain: &mut Chain) {
    for n in [1, 2] {
        if let Some(answer) = chain.answer(n, |_| true) {
            assert_eq!(chain.act(0, answer), Outcome::Applied);
        }
    }
}

#[test]
fn a_node_takes_a_second_slot_only_for_want_of_operators_and_may_give_it_to_who_has_none() {
    use super::promise_tests::{take, with_a_lost_slot};
    let (mut chain, manifest) = with_a_lost_slot();
    let (file, len) = (manifest.id(), manifest.slot_len());
    let drain = |n, drain| Action::DrainNode { node: store(n), drain };
    let taken = take(&chain, &manifest, 0, 1);
    let refused = Outcome::Rejected(Reject::HoldsAnother { node: store(1), slot: 1 });
    assert_eq!(chain.act(0, taken.clone()), refused, "there are as many operators as slots");
    for n in [0, 3, 4, 5] {
        assert_eq!(chain.act(0, drain(n, true)), Outcome::Applied);
    }
    assert_eq!(chain.act(0, taken), Outcome::Applied);
    let deal = chain.deal(&file);
    assert_eq!((deal.placement[0], deal.confirmed.len()), (store(1), 3));
    assert_eq!((chain.node(1).held.get(), chain.node(1).used.get()), (2 * len, 2 * len));
    assert_eq!(chain.act(0, drain(2, true)), Outcome::Applied);
    // What an audit asks for stays where it is until the answer.
    prove(&mut chain);
    let third = take(&chain, &manifest, 2, 1);
    let refused = chain.act(0, third);
    assert!(matches!(refused, Outcome::Rejected(Reject::HoldsAnother { .. })), "it is the sole operator: {refused:?}");
    assert_eq!(chain.act(0, drain(2, false)), Outcome::Applied);
    assert_eq!(chain.act(0, drain(3, false)), Outcome::Applied);
    prove(&mut chain);
    let mut fuller = chain.with_node(3, |entry| entry.used = crate::types::ByteCount::new(4 * len));
    let single = take(&fuller, &manifest, 2, 3);
    let refused = Outcome::Rejected(Reject::NotMovable { file, slot: 2, holder: store(2) });
    assert_eq!(fuller.act(0, single), refused, "its holder has no other, and the taker is fuller");
    let double = take(&fuller, &manifest, 0, 3);
    assert_eq!(fuller.act(0, double), Outcome::Applied);
    assert_eq!(fuller.deal(&file).placement, [store(3), store(1), store(2)]);
}

#[test]
fn a_second_slot_may_be_taken_where_nobody_else_took_it_for_four_epochs() {
    use super::promise_tests::{take, with_a_lost_slot};
    let (mut chain, manifest) = with_a_lost_slot();
    let Some(Record::Lost { since }) = chain.state.get(&Key::Lost(manifest.id())).cloned() else {
        panic!("it is lost")
    };
    let long = since.get() + 4 * EPOCH;
    while chain.height + 2 < long {
        prove(&mut chain);
        chain.run_to((chain.height + 1).min(long - 2));
    }
    let taken = take(&chain, &manifest, 0, 1);
    let early = chain.act(0, taken.clone());
    assert_eq!(early, Outcome::Rejected(Reject::HoldsAnother { node: store(1), slot: 1 }));
    assert_eq!(chain.act(0, taken), Outcome::Applied, "one block later it is four epochs");
}

#[test]
fn copies_are_never_twice_on_a_node() {
    let (mut chain, manifest) = with_losses(&[0, 1]);
    for n in [0, 1, 4, 5] {
        chain.act(0, Action::DrainNode { node: store(n), drain: true });
    }
    let refused = take(&mut chain, &manifest, 0, 2);
    assert_eq!(refused, Outcome::Rejected(Reject::HoldsAnother { node: store(2), slot: 2 }));
}

//! Audits, takeovers and payment, block by block.

use super::promise::REPUTATION_FIRST;
use super::record::{DealStatus, NodeEntry, StorageParams};
use super::testing::*;
use super::*;
use crate::types::{Amount, ByteCount, Epoch, FileId, Height};
use crate::wire::tx::FileCommit;
use crate::wire::{Action, PublicManifest};

/// One GiB and epoch costs so much that 1,000 bytes cost 1,000 credits.
const DEAR: u64 = 1 << 30;
/// When a slot that was placed in epoch 0 is audited first.
pub(super) const ASKED: u64 = EPOCH + 2;
pub(super) const RICH: u64 = 100_000_000;

pub(super) fn rejected(outcome: Outcome) -> Reject {
    match outcome {
        Outcome::Rejected(reject) => reject,
        Outcome::Applied => panic!("the transaction was applied"),
    }
}

/// A chain with a price, whose user 0 owns the stores, and users with credits enough.
pub(super) fn dear(edit: impl FnOnce(&mut StorageParams)) -> Chain {
    let mut genesis = genesis();
    genesis.accounts.iter_mut().for_each(|entry| entry.balance = Amount::new(RICH));
    genesis.storage.price = DEAR;
    edit(&mut genesis.storage);
    Chain::of(genesis)
}

pub(super) fn supply(chain: &Chain) -> u64 {
    let escrows = chain.state.records().map(|(_, record)| match record {
        Record::File(deal) => deal.escrow.get(),
        _ => 0,
    });
    chain.state.balances().expect("it fits").get() + escrows.sum::<u64>()
}

/// A file of user 1 with slots of 5,000 bytes on stores 0 to 2, all confirmed.
pub(super) fn put(chain: &mut Chain, seed: u8, epochs: u32) -> PublicManifest {
    let manifest = manifest(1, seed, 2, 1, 10_000);
    let mut deal = commit(&chain.id, manifest.clone(), 3, 2);
    deal.epochs = epochs;
    assert_eq!(chain.act(1, Action::CommitFile(Box::new(deal))), Outcome::Applied);
    manifest
}

/// As many such files in one block.
pub(super) fn put_many(chain: &mut Chain, count: u8) -> Vec<PublicManifest> {
    let manifests: Vec<_> = (0..count).map(|seed| manifest(1, seed, 2, 1, 10_000)).collect();
    let open = |manifest: &PublicManifest| {
        let deal = FileCommit { epochs: 50, ..commit(&chain.id, manifest.clone(), 3, 2) };
        chain.tx(1, manifest.nonce[0].into(), Action::CommitFile(Box::new(deal)))
    };
    let txs: Vec<_> = manifests.iter().map(open).collect();
    let done = chain.block(&txs);
    assert!(done.effects.receipts.iter().all(|receipt| receipt.outcome == Outcome::Applied));
    manifests
}

pub(super) fn all(_: &record::SlotId) -> bool {
    true
}

/// Lets these stores answer the audit that waits, each in a block of its own.
pub(super) fn answer(chain: &mut Chain, stores: &[u8]) {
    for n in stores {
        let action = chain.answer(*n, all).expect("it is asked");
        assert_eq!(chain.act(0, action), Outcome::Applied);
    }
}

pub(super) fn take(chain: &Chain, manifest: &PublicManifest, slot: u8, by: u8) -> Action {
    let receipt = receipt_of(&chain.id, manifest, slot, &store_key(by));
    Action::TakeSlot { file: manifest.id(), receipt }
}

/// A chain on which store 0 has lost the only slot it had, after two audits without a proof of it.
pub(super) fn with_a_lost_slot() -> (Chain, PublicManifest) {
    let mut chain = dear(|_| {});
    let manifest = put(&mut chain, 1, 10);
    for epoch in 0..2 {
        chain.run_to(ASKED + epoch * EPOCH);
        let nothing = chain.answer(0, |_| false).expect("it is asked");
        assert_eq!(chain.act(0, nothing), Outcome::Applied);
        answer(&mut chain, &[1, 2]);
    }
    assert!(chain.deal(&manifest.id()).lost.has(0));
    (chain, manifest)
}

#[test]
fn a_node_is_asked_in_the_second_block_of_the_epoch_after_its_first_slot() {
    let mut chain = dear(|_| {});
    let manifest = put(&mut chain, 1, 10);
    chain.run_to(ASKED - 1);
    assert_eq!(chain.challenge(0), None);
    let done = chain.block(&[]);
    let asked = |event: &&Event| matches!(event, Event::Audited { samples: 4, .. });
    assert_eq!(done.effects.events.iter().filter(asked).count(), 3);
    let challenge = chain.challenge(0).expect("it is asked");
    assert_eq!((challenge.epoch, challenge.at), (Epoch::new(1), Height::new(ASKED)));
    assert_eq!(challenge.until, Height::new(ASKED + 3));
    let own = |sample: &record::Sample| sample.slot == record::SlotId { file: manifest.id(), slot: 0 };
    assert!(challenge.samples.iter().all(own) && challenge.samples.iter().all(|sample| sample.leaf < 5));
    assert_eq!(chain.challenge(4), None, "who holds nothing is not asked");
}

#[test]
fn a_full_answer_is_paid_and_raises_the_reputation() {
    let mut chain = dear(|_| {});
    let file = put(&mut chain, 1, 10).id();
    assert_eq!((chain.balance(1), chain.deal(&file).escrow), (RICH - 150_000, Amount::new(150_000)));
    chain.run_to(ASKED);
    answer(&mut chain, &[0, 1]);
    let NodeEntry { audit, .. } = chain.node(0);
    assert_eq!((audit.passed, audit.asked, audit.answered, audit.strikes), (1, 4, 4, 0));
    assert!(audit.reputation > REPUTATION_FIRST && audit.bytes_proven > 0);
    assert_eq!(chain.challenge(0), None);
    assert_eq!(chain.balance(0), RICH, "it is paid when someone settles");
    assert_eq!(chain.act(3, Action::SettleFile { file }), Outcome::Applied);
    assert_eq!(chain.balance(0), RICH + 2 * 5_000, "two of three slots have a proof");
    assert_eq!(rejected(chain.act(3, Action::SettleFile { file })), Reject::NothingEarned(file));
    assert_eq!(chain.balance(0), RICH + 2 * 5_000, "once");
    assert_eq!(supply(&chain), 4 * RICH);
}

#[test]
fn a_slot_that_is_handed_round_earns_once_in_an_epoch() {
    let mut chain = dear(|_| {});
    let manifest = put(&mut chain, 1, 10);
    let file = manifest.id();
    let other = commit(&chain.id, testing::manifest(1, 2, 1, 0, 10), 0, 1);
    let mut other = FileCommit { placement: vec![store(3)], ..other };
    other.receipts = vec![receipt_of(&chain.id, &other.manifest, 0, &store_key(3))];
    assert_eq!(chain.act(1, Action::CommitFile(Box::new(other))), Outcome::Applied);
    chain.act(0, Action::DrainNode { node: store(0), drain: true });
    chain.run_to(ASKED);
    answer(&mut chain, &[0]);
    assert_eq!(chain.act(0, take(&chain, &manifest, 0, 3)), Outcome::Applied);
    assert_eq!(chain.balance(0), RICH + 5_000);
    let late = chain.answer(3, all).expect("it is asked about the other file");
    assert_eq!(chain.challenge(3).map(|asked| chain.height < asked.until.get()), Some(true));
    assert_eq!(chain.act(0, late), Outcome::Applied);
    assert_eq!(rejected(chain.act(3, Action::SettleFile { file })), Reject::NothingEarned(file));
    chain.run_to(ASKED + EPOCH);
    answer(&mut chain, &[3]);
    assert_eq!(chain.act(3, Action::SettleFile { file }), Outcome::Applied);
    assert_eq!(chain.balance(0), RICH + 2 * 5_000, "the next one counts");
}

#[test]
fn settling_often_costs_a_node_nothing() {
    // An epoch of a slot earns 5,000 * 2^19 / 2^30 = 2.44 credits.
    let [often, rarely] = [true, false].map(|often| {
        let mut chain = dear(|storage| storage.price = 1 << 19);
        let file = put(&mut chain, 1, 20).id();
        for epoch in 0..8 {
            chain.run_to(ASKED + epoch * EPOCH);
            answer(&mut chain, &[0]);
            if often {
                assert_eq!(chain.act(3, Action::SettleFile { file }), Outcome::Applied);
            }
        }
        chain.act(3, Action::SettleFile { file });
        chain.balance(0)
    });
    assert_eq!((often, rarely), (RICH + 19, RICH + 19));
}

#[test]
fn a_missed_slot_is_asked_again_then_lost_and_the_node_stays() {
    let mut chain = dear(|storage| storage.samples = 20);
    let files: Vec<_> = put_many(&mut chain, 20).iter().map(PublicManifest::id).collect();
    let gone = files[7];
    let mut missed = 0;
    chain.run_to(chain.height.div_ceil(EPOCH) * EPOCH + 2);
    while !chain.deal(&gone).lost.has(0) {
        let asks = chain.challenge(0).expect("it is asked").samples.iter().any(|sample| sample.slot.file == gone);
        assert!(missed == 0 || asks, "a slot that was missed is asked again");
        missed += u32::from(asks);
        let action = chain.answer(0, |slot| slot.file != gone).expect("it is asked");
        assert_eq!(chain.act(0, action), Outcome::Applied);
        answer(&mut chain, &[1, 2]);
        let next = chain.height.div_ceil(EPOCH) * EPOCH + 2;
        chain.run_to(next);
    }
    assert_eq!(missed, 2, "one strike is forgiven");
    let entry = chain.node(0);
    assert_eq!((entry.active, entry.audit.failed, entry.used.get()), (true, 2, 19 * 5_000));
    assert!(matches!(chain.state.get(&Key::Lost(gone)), Some(Record::Lost { .. })));
    assert!(files.iter().filter(|file| **file != gone).all(|file| chain.deal(file).lost.is_empty()));
}

#[test]
fn a_node_that_does_not_answer_is_out_after_its_grace_and_comes_back_empty() {
    let mut chain = dear(|_| {});
    let files = put_many(&mut chain, 20);
    let mut absent = None;
    while absent.is_none() {
        let done = chain.block(&[]);
        let out = done.effects.events.iter().any(|event| *event == Event::NodeAbsent(store(0)));
        absent = out.then_some(chain.height);
        let waiting: Vec<_> = [1, 2].into_iter().filter(|n| chain.challenge(*n).is_some()).collect();
        answer(&mut chain, &waiting);
    }
    assert_eq!((chain.node(0).active, chain.node(0).audit.failed), (false, 2));
    let commit = commit(&chain.id, manifest(1, 99, 2, 1, 100), 0, 2);
    let refused = rejected(chain.act(1, Action::CommitFile(Box::new(commit))));
    assert_eq!(refused, Reject::NotStorage { slot: 0, node: store(0) });
    let lost = |chain: &Chain| files.iter().filter(|file| chain.deal(&file.id()).lost.has(0)).count();
    let mut last = lost(&chain);
    while chain.node(0).held > ByteCount::ZERO {
        let done = chain.block(&[]).effects.events;
        let now = done.iter().filter(|event| matches!(event, Event::SlotLost { .. })).count();
        assert!(now <= crate::types::limits::EVICTED_AT_ONCE as usize);
        last += now;
    }
    assert_eq!((last, lost(&chain), chain.node(0).used), (20, 20, ByteCount::ZERO));
    let mut again = announcement(&store_key(0), "operator 0", crate::types::Role::Storage);
    again.bind(&chain.id, &account(0), &store_key(0));
    assert_eq!(chain.act(0, Action::RegisterNode(Box::new(again))), Outcome::Applied);
    let entry = chain.node(0);
    assert_eq!((entry.active, entry.audit.strikes), (true, 0));
    let back = take(&chain, &files[3], 0, 0);
    assert_eq!(chain.act(0, back), Outcome::Applied, "what it still has it takes back");
    let deal = chain.deal(&files[3].id());
    assert!(deal.confirmed.has(0) && deal.lost.is_empty());
    assert_eq!(supply(&chain), 4 * RICH);
}

#[test]
fn a_node_that_has_most_of_nothing_is_out_as_if_it_were_silent() {
    let mut chain = dear(|_| {});
    put(&mut chain, 1, 50);
    for epoch in 0..2 {
        chain.run_to(ASKED + epoch * EPOCH);
        let nothing = chain.answer(0, |_| false).expect("it is asked");
        chain.act(0, nothing);
    }
    assert!(!chain.node(0).active);
}

#[test]
fn what_a_node_need_not_hold_any_more_is_waived() {
    let mut chain = dear(|_| {});
    let file = put(&mut chain, 1, 50).id();
    chain.run_to(ASKED);
    let (before, late) = (chain.node(0).audit, chain.answer(0, all).expect("it is asked"));
    assert_eq!(chain.act(1, Action::DeleteFile { file }), Outcome::Applied);
    let action = chain.answer(1, all).expect("it is asked");
    assert_eq!(chain.act(0, action), Outcome::Applied);
    let audit = chain.node(1).audit;
    assert_eq!((audit.waived, audit.passed, audit.failed), (4, 0, 0), "without a proof it is no pass either");
    chain.run_to(ASKED + 4);
    let audit = chain.node(0).audit;
    assert_eq!((audit.waived, audit.failed, audit.reputation), (4, 0, before.reputation));
    let epoch = Epoch::new(1);
    assert_eq!(rejected(chain.act(0, late)), Reject::NoChallenge { node: store(0), epoch });
    chain.run_to(ASKED + EPOCH);
    assert!(!chain.node(0).audit.scheduled, "it holds nothing, so nothing is due");
}

#[test]
fn a_lost_slot_goes_to_whoever_has_room_and_holds_no_other() {
    let (mut chain, manifest) = with_a_lost_slot();
    let file = manifest.id();
    let since = chain.state.get(&Key::Lost(file)).cloned();
    assert!(matches!(since, Some(Record::Lost { .. })));
    let held = rejected(chain.act(0, take(&chain, &manifest, 0, 1)));
    assert_eq!(held, Reject::HoldsAnother { node: store(1), slot: 1 });
    let foreign = rejected(chain.act(2, take(&chain, &manifest, 0, 3)));
    assert_eq!(foreign, Reject::NodeOwner { node: store(3), have: account(0), need: account(2) });
    let mut other_slot = receipt_of(&chain.id, &manifest, 1, &store_key(3));
    other_slot.slot = 0;
    assert_eq!(rejected(chain.act(0, Action::TakeSlot { file, receipt: other_slot })), Reject::Receipt(0));
    let info = &manifest.slots[0];
    let old = crate::wire::StorageReceipt::sign(&chain.id, &file, 0, Height::new(3), info, &store_key(3));
    let refused = rejected(chain.act(0, Action::TakeSlot { file, receipt: old }));
    let need = Height::new(chain.height);
    assert_eq!(refused, Reject::ReceiptExpired { slot: 0, have: Height::new(3), need });
    let late = vec![receipt_of(&chain.id, &manifest, 0, &store_key(0))];
    let refused = rejected(chain.act(1, Action::ConfirmSlots { file, receipts: late }));
    assert_eq!(refused, Reject::SlotLost { file, slot: 0 });
    assert_eq!(chain.act(0, take(&chain, &manifest, 0, 3)), Outcome::Applied);
    let deal = chain.deal(&file);
    assert_eq!((deal.placement[0], deal.taken), (store(3), 1));
    assert!(deal.confirmed.has(0) && deal.lost.is_empty() && chain.state.get(&Key::Lost(file)).is_none());
    assert_eq!(chain.node(3).held.get(), 5_000);
    let refused = rejected(chain.act(0, take(&chain, &manifest, 0, 4)));
    assert_eq!(refused, Reject::NotMovable { file, slot: 0, holder: store(3) });
    let paid = chain.balance(0);
    let next = chain.height.div_ceil(EPOCH) * EPOCH + 2;
    chain.run_to(next);
    answer(&mut chain, &[3]);
    chain.act(3, Action::DeleteFile { file });
    chain.act(1, Action::DeleteFile { file });
    let earned = 5_000 * (2 + 2 * 2);
    assert_eq!(
        chain.balance(0) - paid,
        earned,
        "two audits of each other, which are out by now, one of the new holder, and its begun epoch"
    );
    assert_eq!(supply(&chain), 4 * RICH);
}

#[test]
fn a_draining_node_gives_its_slots_away_and_is_free_when_it_has_none() {
    let mut chain = dear(|_| {});
    let manifest = put(&mut chain, 1, 10);
    let file = manifest.id();
    let drain = |drain| Action::DrainNode { node: store(0), drain };
    let refused = rejected(chain.act(1, drain(true)));
    assert_eq!(refused, Reject::NodeOwner { node: store(0), have: account(0), need: account(1) });
    let refused = rejected(chain.act(0, take(&chain, &manifest, 0, 3)));
    assert_eq!(refused, Reject::NotMovable { file, slot: 0, holder: store(0) }, "nobody robs an honest node");
    assert_eq!(chain.act(0, drain(true)), Outcome::Applied);
    assert_eq!(chain.state.get(&Key::Draining(store(0))), Some(&Record::Draining));
    let more = commit(&chain.id, testing::manifest(1, 2, 2, 1, 100), 0, 2);
    let refused = rejected(chain.act(1, Action::CommitFile(Box::new(more))));
    assert_eq!(refused, Reject::NotStorage { slot: 0, node: store(0) });
    chain.run_to(ASKED);
    answer(&mut chain, &[0]);
    let action = take(&chain, &manifest, 0, 3);
    let tx = chain.tx(0, chain.nonce(0), action);
    let events = chain.block(&[tx]).effects.receipts.remove(0).events;
    let taken = Event::SlotTaken { file, slot: 0, from: store(0), to: store(3) };
    let paid = Event::Paid { file, node: store(0), amount: Amount::new(5_000) };
    assert_eq!(events, [paid, Event::NodeReleased(store(0)), taken]);
    assert_eq!((chain.node(0).used, chain.node(0).held), (ByteCount::ZERO, ByteCount::ZERO));
    assert_eq!(chain.act(0, drain(false)), Outcome::Applied);
    assert_eq!(chain.state.get(&Key::Draining(store(0))), None);
    assert_eq!(chain.act(0, drain(true)), Outcome::Applied);
}

#[test]
fn a_fuller_node_may_give_a_slot_to_an_emptier_one_but_none_may_take_it() {
    let mut genesis = genesis();
    let at = genesis.nodes.iter().position(|entry| entry.announcement.node == store(5)).expect("listed");
    genesis.nodes[at].account = account(3);
    let mut chain = Chain::of(genesis);
    let manifests: Vec<_> = (0..3).map(|seed| put(&mut chain, seed, 10)).collect();
    let file = manifests[0].id();
    let stolen = rejected(chain.act(3, take(&chain, &manifests[0], 0, 5)));
    assert_eq!(stolen, Reject::NotMovable { file, slot: 0, holder: store(0) });
    assert_eq!(chain.act(0, take(&chain, &manifests[0], 0, 5)), Outcome::Applied, "the holder wishes it");
    let refused = rejected(chain.act(0, take(&chain, &manifests[1], 0, 5)));
    let file = manifests[1].id();
    assert_eq!(refused, Reject::NotMovable { file, slot: 0, holder: store(0) }, "they are even now");
}

#[test]
fn slots_without_a_receipt_are_neither_audited_nor_lost_before_their_time() {
    let mut chain = dear(|_| {});
    let manifest = manifest(1, 1, 2, 1, 10_000);
    let deal = commit(&chain.id, manifest.clone(), 2, 2);
    assert_eq!(chain.act(1, Action::CommitFile(Box::new(deal))), Outcome::Applied);
    let (entry, file) = (chain.node(2), manifest.id());
    assert_eq!((entry.used.get(), entry.held.get(), entry.audit.scheduled), (5_000, 0, false));
    chain.run_to(1 + PENDING);
    assert_eq!(chain.challenge(2), None, "nobody is asked for what it never confirmed");
    assert!(chain.deal(&file).lost.is_empty());
    chain.run_to(2 + PENDING);
    assert!(chain.deal(&file).lost.has(2));
    assert_eq!(chain.node(2).used, ByteCount::ZERO);
    assert!(matches!(chain.deal(&file).status, DealStatus::Final { .. }));
    assert_eq!(chain.act(0, take(&chain, &manifest, 2, 2)), Outcome::Applied, "its node may still come");
}

#[test]
fn a_deal_ends_when_its_time_is_up_and_gives_back_what_nobody_earned() {
    let mut chain = dear(|storage| (storage.grace, storage.epochs_max) = (u8::MAX, 3));
    let file = put(&mut chain, 1, 3).id();
    let ends = chain.deal(&file).ends;
    assert_eq!(ends, Height::new(1 + 3 * EPOCH));
    chain.run_to(ASKED);
    answer(&mut chain, &[0]);
    let refused = rejected(chain.act(1, Action::RenewFile { file, epochs: 3 }));
    assert!(matches!(refused, Reject::Epochs { max: 3, .. }), "{refused}");
    let refused = rejected(chain.act(2, Action::RenewFile { file, epochs: 1 }));
    assert_eq!(refused, Reject::FileOwner { file, have: account(1), need: account(2) });
    assert_eq!(chain.act(1, Action::RenewFile { file, epochs: 1 }), Outcome::Applied);
    assert_eq!(chain.balance(1), RICH - 4 * 15_000);
    chain.run_to(1 + 4 * EPOCH - 1);
    assert!(chain.deal(&file).status.is_open());
    let events = chain.block(&[]).effects.events;
    let refund = Event::Refunded { file, amount: Amount::new(55_000) };
    assert!(events.contains(&refund) && events.contains(&Event::FileEnded(file)), "{events:?}");
    assert_eq!((chain.balance(0), chain.balance(1)), (RICH + 5_000, RICH - 5_000));
    assert_eq!(chain.deal(&file).status, DealStatus::Ended { at: Height::new(1 + 4 * EPOCH) });
    assert_eq!((chain.node(0).used, chain.node(0).held), (ByteCount::ZERO, ByteCount::ZERO));
    let gone = rejected(chain.act(1, Action::RenewFile { file, epochs: 1 }));
    assert_eq!(gone, Reject::Ended(file));
    let held = |key: &&Key| matches!(key, Key::Sums(..) | Key::Held(..) | Key::Lost(_) | Key::Manifest(_));
    assert_eq!(chain.state.records().map(|(key, _)| key).filter(held).count(), 0);
}

#[test]
fn a_deal_is_paid_ahead_and_within_the_quota() {
    let mut chain = dear(|storage| storage.quota = ByteCount::new(20_000));
    let mut deal = commit(&chain.id, manifest(1, 9, 2, 1, 100_000), 3, 2);
    deal.epochs = 1_000;
    let refused = rejected(chain.act(1, Action::CommitFile(Box::new(deal.clone()))));
    assert_eq!(refused, Reject::Funds { have: Amount::new(RICH), need: Amount::new(150_000_000) });
    deal.epochs = 1_001;
    let refused = rejected(chain.act(1, Action::CommitFile(Box::new(deal))));
    assert_eq!(refused, Reject::Epochs { have: 1_001, max: 1_000 });
    let file = put(&mut chain, 1, 1).id();
    let more = commit(&chain.id, manifest(1, 2, 2, 1, 10_000), 3, 2);
    let refused = rejected(chain.act(1, Action::CommitFile(Box::new(more.clone()))));
    assert_eq!(refused, Reject::Quota { have: ByteCount::new(30_000), max: ByteCount::new(20_000) });
    assert_eq!(chain.act(1, Action::DeleteFile { file }), Outcome::Applied);
    assert_eq!(chain.act(1, Action::CommitFile(Box::new(more))), Outcome::Applied);
}

#[test]
fn a_block_moves_a_bounded_number_of_slots() {
    let mut genesis = genesis();
    genesis.accounts.iter_mut().for_each(|entry| entry.balance = Amount::new(RICH));
    let mut chain = Chain::of(genesis);
    let manifest = put(&mut chain, 1, 10);
    // Not confirmed again but refused: it takes no room.
    let again = Action::ConfirmSlots { file: manifest.id(), receipts: vec![receipt(&chain.id, &manifest, 0)] };
    let wide = |n: u64| {
        let mut manifest = testing::manifest(1, 0, 4, 2, 10);
        manifest.nonce[..8].copy_from_slice(&n.to_be_bytes());
        let deal = FileCommit { epochs: 1, ..commit(&chain.id, manifest, 0, 4) };
        chain.tx(1, 2 + n, Action::CommitFile(Box::new(deal)))
    };
    let most = crate::types::limits::BLOCK_SLOTS_MAX / 6;
    let mut steps = Executor::begin(&chain.state, chain.next()).expect("a valid place");
    assert!(steps.push(&chain.tx(1, 1, again)).expect("memory can be read").is_ok());
    let mut full = None;
    for n in 0..u64::from(most) + 1 {
        match steps.push(&wide(n)).expect("memory can be read") {
            Ok(receipt) => assert_eq!(receipt.outcome, Outcome::Applied),
            Err(reason) => full = Some((n, reason)),
        }
    }
    assert_eq!(full, Some((most.into(), NotNext::Full { have: 6, before: most * 6 })));
    let small = chain.tx(2, 0, Action::DeleteFile { file: FileId::from_bytes([1; 32]) });
    assert!(steps.push(&small).expect("memory can be read").is_ok(), "what moves nothing still fits");
}

//! What thieves and misers try at the ledger, block by block, and what comes of it.

use super::promise_tests::*;
use super::record::Record;
use super::testing::*;
use super::*;
use crate::types::{FileId, Height};
use crate::wire::Action;

fn drain(n: u8, drain: bool) -> Action {
    Action::DrainNode { node: store(n), drain }
}

/// Whether store 0 is asked for a slot of this file.
fn asks(chain: &Chain, file: FileId) -> bool {
    chain.challenge(0).expect("it is asked").samples.iter().any(|sample| sample.slot.file == file)
}

/// The others answer, and the next epoch asks.
fn next_audit(chain: &mut Chain) {
    answer(chain, &[1, 2]);
    let next = chain.height.div_ceil(EPOCH) * EPOCH + 2;
    chain.run_to(next);
}

/// A chain on which store 0 is asked for one of its 20 slots, which are more than one audit asks for.
fn asked_for_one() -> (Chain, FileId) {
    let mut chain = dear(|_| {});
    put_many(&mut chain, 20);
    let next = chain.height.div_ceil(EPOCH) * EPOCH + 2;
    chain.run_to(next);
    let file = chain.challenge(0).expect("it is asked").samples[3].slot.file;
    (chain, file)
}

#[test]
fn silence_is_no_way_out_for_who_is_asked_for_what_it_has_not_got() {
    let (mut chain, gone) = asked_for_one();
    // It says nothing whenever it is asked for the slot, and answers in full when it is not.
    for _ in 0..3 {
        if !asks(&chain, gone) {
            answer(&mut chain, &[0]);
        }
        next_audit(&mut chain);
        if !chain.node(0).active {
            return;
        }
    }
    panic!("it goes on as if it had all: {:?}", chain.node(0).audit);
}

#[test]
fn a_silence_does_not_forgive_what_was_missed_before_it() {
    let (mut chain, gone) = asked_for_one();
    let partly = chain.answer(0, |slot| slot.file != gone).expect("it is asked");
    assert_eq!(chain.act(0, partly), Outcome::Applied);
    next_audit(&mut chain);
    assert!(asks(&chain, gone));
    next_audit(&mut chain);
    assert!(asks(&chain, gone), "it is asked for it still");
    let partly = chain.answer(0, |slot| slot.file != gone).expect("it is asked");
    assert_eq!(chain.act(0, partly), Outcome::Applied);
    assert!(chain.deal(&gone).lost.has(0));
}

#[test]
fn an_honest_node_that_was_away_once_has_all_its_grace_again_after_two_audits() {
    let (mut chain, _) = asked_for_one();
    next_audit(&mut chain);
    assert_eq!(chain.node(0).audit.strikes, 1);
    for strikes in [1, 0] {
        answer(&mut chain, &[0]);
        assert_eq!(chain.node(0).audit.strikes, strikes);
        next_audit(&mut chain);
    }
}

#[test]
fn a_slot_that_is_asked_for_does_not_leave_before_the_answer() {
    let mut chain = dear(|_| {});
    let manifest = put(&mut chain, 1, 20);
    let file = manifest.id();
    chain.run_to(ASKED);
    let until = chain.challenge(0).expect("it is asked").until;
    // Without this, two nodes could hand round what neither has, whenever one of them is asked for it.
    assert_eq!(chain.act(0, drain(0, true)), Outcome::Applied);
    let refused = rejected(chain.act(0, take(&chain, &manifest, 0, 3)));
    assert_eq!(refused, Reject::Asked { file, slot: 0, holder: store(0), until });
    answer(&mut chain, &[0]);
    assert_eq!(chain.act(0, take(&chain, &manifest, 0, 3)), Outcome::Applied, "who has answered may give it");
    // A holder that never answers holds nothing up for long.
    let mut chain = dear(|_| {});
    let manifest = put(&mut chain, 1, 20);
    assert_eq!(chain.act(0, drain(0, true)), Outcome::Applied);
    chain.run_to(ASKED + 3);
    assert_eq!(chain.act(0, take(&chain, &manifest, 0, 3)), Outcome::Applied);
}

#[test]
fn who_lost_a_slot_and_takes_it_back_is_asked_for_it_next_and_has_no_grace() {
    let (mut chain, gone) = asked_for_one();
    let mut lost = 0;
    for _ in 0..40 {
        answer_at_once(&mut chain, gone);
        if chain.deal(&gone).lost.has(0) {
            lost += 1;
            let Some(Record::Manifest(manifest)) = chain.state.get(&Key::Manifest(gone)) else { panic!("an open deal") };
            let back = take(&chain, manifest, 0, 0);
            if rejects(chain.act(0, back)) {
                break;
            }
            assert_eq!(chain.deal(&gone).slots[0].strikes, 1);
        } else {
            assert_eq!(lost, 0, "each later miss loses it");
        }
        let next = chain.height.div_ceil(EPOCH) * EPOCH + 2;
        chain.run_to(next);
        assert!(asks(&chain, gone), "the next audit asks for it");
    }
    assert!((2..8).contains(&lost), "{lost}");
    assert!(!chain.node(0).active, "it is out with all that it had");
}

/// All stores answer in one block, store 0 without this file.
fn answer_at_once(chain: &mut Chain, gone: FileId) {
    let answers = (0..3).map(|n| chain.answer(n, |slot| n > 0 || slot.file != gone).expect("it is asked"));
    let txs: Vec<_> = (chain.nonce(0)..).zip(answers).map(|(nonce, action)| chain.tx(0, nonce, action)).collect();
    let done = chain.block(&txs);
    assert!(done.effects.receipts.iter().all(|receipt| receipt.outcome == Outcome::Applied));
}

fn rejects(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Rejected(_))
}

#[test]
fn who_is_not_trusted_takes_over_nothing_until_the_others_had_an_epoch_for_it() {
    let (chain, manifest) = with_a_lost_slot();
    let file = manifest.id();
    let Some(Record::Lost { since }) = chain.state.get(&Key::Lost(file)).cloned() else { panic!("it is lost") };
    let from = Height::new(since.get() + EPOCH);
    let mut chain = chain.with_node(3, |entry| entry.audit.reputation = 99);
    let refused = rejected(chain.act(0, take(&chain, &manifest, 0, 3)));
    assert_eq!(refused, Reject::Distrusted { node: store(3), have: 99, need: 100, from });
    let mut trusted = chain.clone();
    assert_eq!(trusted.act(0, take(&trusted, &manifest, 0, 4)), Outcome::Applied, "another may");
    chain.run_to(from.get() - 1);
    assert_eq!(chain.act(0, take(&chain, &manifest, 0, 3)), Outcome::Applied, "better than nobody");
}

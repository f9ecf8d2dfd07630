//! What thieves and misers try at the ledger, block by block, and what comes of it.

use super::promise_tests::*;
use super::record::Record;
use super::testing::*;
use super::*;
use crate::types::{FileId, Height};
use crate::wire::Action;
use crate::wire::tx::FileCommit;

fn drain(n: u8, drain: bool) -> Action {
    Action::DrainNode { node: store(n), drain }
}

/// Whether store 0 is asked for a slot of this file.
fn asks(chain: &Chain, file: FileId) -> bool {
    asks_store(chain, 0, file)
}

fn asks_store(chain: &Chain, n: u8, file: FileId) -> bool {
    chain.challenge(n).expect("it is asked").samples.iter().any(|sample| sample.slot.file == file)
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
            let Some(Record::Manifest(manifest)) = chain.state.get(&Key::Manifest(gone)) else {
                panic!("an open deal")
            };
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
fn two_nodes_that_claim_a_slot_in_turn_have_no_more_grace_than_one() {
    let (mut chain, manifest) = with_a_lost_slot();
    let file = manifest.id();
    for (from, to) in [(0, 3), (3, 4)] {
        assert!(chain.deal(&file).lost.has(0), "store {from} has lost it");
        assert_eq!(chain.act(0, take(&chain, &manifest, 0, to)), Outcome::Applied);
        let next = chain.height.div_ceil(EPOCH) * EPOCH + 2;
        chain.run_to(next);
        assert!(asks_store(&chain, to, file));
        let nothing = chain.answer(to, |_| false).expect("it is asked");
        assert_eq!(chain.act(0, nothing), Outcome::Applied);
    }
    assert!(chain.deal(&file).lost.has(0));
    // Who has it proves it once and is as good as any.
    assert_eq!(chain.act(0, take(&chain, &manifest, 0, 5)), Outcome::Applied);
    assert_eq!(chain.deal(&file).slots[0].strikes, 1);
    let next = chain.height.div_ceil(EPOCH) * EPOCH + 2;
    chain.run_to(next);
    answer(&mut chain, &[5]);
    assert_eq!(chain.deal(&file).slots[0].strikes, 0);
}

#[test]
fn a_slot_that_was_missed_does_not_become_clean_by_moving() {
    let (mut chain, gone) = asked_for_one();
    let partly = chain.answer(0, |slot| slot.file != gone).expect("it is asked");
    assert_eq!(chain.act(0, partly), Outcome::Applied);
    assert_eq!(chain.act(0, drain(0, true)), Outcome::Applied);
    let Some(Record::Manifest(manifest)) = chain.state.get(&Key::Manifest(gone)) else { panic!("an open deal") };
    let moved = take(&chain, manifest, 0, 3);
    assert_eq!(chain.act(0, moved), Outcome::Applied);
    assert_eq!(chain.deal(&gone).slots[0].strikes, 1);
    let next = chain.height.div_ceil(EPOCH) * EPOCH + 2;
    chain.run_to(next);
    assert!(asks_store(&chain, 3, gone));
}

#[test]
fn who_takes_a_slot_over_while_it_is_asked_for_others_is_asked_for_it_next_all_the_same() {
    let mut chain = dear(|_| {});
    let files = put_many(&mut chain, 20);
    let (last, first) = (&files[19], &files[..15]);
    assert_eq!(chain.act(0, drain(0, true)), Outcome::Applied);
    let takes = first.iter().map(|manifest| take(&chain, manifest, 0, 3)).collect();
    together(&mut chain, takes);
    chain.run_to(ASKED);
    assert!(chain.challenge(3).is_some(), "it is asked for others");
    let answer = |n| chain.answer(n, all).expect("it is asked");
    let meanwhile = vec![answer(0), take(&chain, last, 0, 3), answer(3)];
    together(&mut chain, meanwhile);
    chain.run_to(ASKED + EPOCH);
    let next = chain.challenge(3).expect("it is asked").samples[0].slot.file;
    assert_eq!(next, last.id(), "an answer for others is none for this slot");
}

/// One block with all these actions of user 0.
fn together(chain: &mut Chain, actions: Vec<Action>) {
    let txs: Vec<_> = (chain.nonce(0)..).zip(actions).map(|(nonce, action)| chain.tx(0, nonce, action)).collect();
    let done = chain.block(&txs);
    let outcomes: Vec<_> = done.effects.receipts.into_iter().map(|receipt| receipt.outcome).collect();
    assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Applied), "{outcomes:?}");
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

#[test]
fn who_deletes_a_file_pays_for_the_epoch_that_has_begun() {
    let mut chain = dear(|_| {});
    let file = put(&mut chain, 1, 10).id();
    assert_eq!(chain.act(1, Action::DeleteFile { file }), Outcome::Applied);
    assert_eq!((chain.balance(0), chain.balance(1)), (RICH + 15_000, RICH - 15_000));
    // A slot of which a proof was missed earns nothing more.
    let mut chain = dear(|_| {});
    let file = put(&mut chain, 1, 10).id();
    chain.run_to(ASKED);
    let nothing = chain.answer(0, |_| false).expect("it is asked");
    assert_eq!(chain.act(0, nothing), Outcome::Applied);
    assert_eq!(chain.act(1, Action::DeleteFile { file }), Outcome::Applied);
    assert_eq!(chain.balance(0), RICH + 10_000);
    assert_eq!(supply(&chain), 4 * RICH);
}

#[test]
fn no_deal_ends_between_an_audit_and_its_answer() {
    for opened in 1..=2 * EPOCH {
        let mut chain = dear(|storage| storage.answer_blocks = 2);
        chain.run_to(opened - 1);
        let file = put(&mut chain, 1, 1).id();
        let ends = chain.deal(&file).ends.get();
        assert!((opened + EPOCH..=opened + 2 * EPOCH).contains(&ends), "opened at {opened}, ends at {ends}");
        while chain.height < ends {
            match (0..3).find(|n| chain.challenge(*n).is_some_and(|asked| chain.height + 1 == asked.until.get())) {
                // All three at the last moment.
                Some(_) => {
                    let answers: Vec<_> = (0..3).map(|n| chain.answer(n, all).expect("it is asked")).collect();
                    let first = chain.nonce(0);
                    let txs: Vec<_> =
                        (first..).zip(answers).map(|(nonce, action)| chain.tx(0, nonce, action)).collect();
                    chain.block(&txs);
                }
                None => _ = chain.block(&[]),
            }
        }
        assert!(!chain.deal(&file).status.is_open());
        assert_eq!(chain.balance(0), RICH + 15_000, "opened at {opened}: each slot is paid for its epoch");
    }
}

/// One block with 1,500 deals that nobody confirms, of which one block cannot work off all when their time is up.
fn flood(chain: &mut Chain) {
    let open = |n: u64| {
        let mut manifest = manifest(2, 0, 1, 0, 1);
        manifest.nonce[..8].copy_from_slice(&n.to_be_bytes());
        let deal = FileCommit { epochs: 1, ..commit(&chain.id, manifest, 0, 1) };
        chain.tx(2, n, Action::CommitFile(Box::new(deal)))
    };
    let flood: Vec<_> = (0..1_500).map(open).collect();
    let done = chain.block(&flood);
    assert!(done.effects.receipts.iter().all(|receipt| receipt.outcome == Outcome::Applied));
}

#[test]
fn a_flood_opens_no_moment_between_the_last_answer_and_its_end_in_which_a_slot_that_is_asked_for_may_leave() {
    let mut chain = dear(|_| {});
    let manifest = put(&mut chain, 1, 20);
    let file = manifest.id();
    let until = ASKED + 3;
    chain.run_to(until - PENDING - 1);
    flood(&mut chain);
    assert_eq!(chain.act(0, drain(0, true)), Outcome::Applied);
    chain.run_to(until);
    let refused = rejected(chain.act(0, take(&chain, &manifest, 0, 3)));
    assert_eq!(refused, Reject::Asked { file, slot: 0, holder: store(0), until: Height::new(until) });
    assert!(chain.challenge(0).is_some(), "its end waits for the flood's");
    chain.run_to(until + 3);
    assert_eq!(chain.node(0).audit.missed, 4, "and then it counts");
}

#[test]
fn a_flood_of_deals_that_end_at_once_does_not_hold_up_audits_for_long() {
    let mut chain = dear(|storage| storage.grace = u8::MAX);
    put(&mut chain, 1, 100);
    flood(&mut chain);
    let mut audited = Vec::new();
    while chain.height < 4 * EPOCH {
        let asked = |event: &Event| matches!(event, Event::Audited { node, .. } if *node == store(0));
        if chain.block(&[]).effects.events.iter().any(asked) {
            audited.push(chain.height);
        }
    }
    assert_eq!(audited.len(), 3, "{audited:?}");
    assert!(audited.iter().all(|height| (height - 1) % EPOCH <= 2), "at most a block late: {audited:?}");
}

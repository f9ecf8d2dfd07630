//! What the tally counts, against small chains.

use super::*;
use crate::ledger::Key;
use crate::ledger::record::Record;
use crate::ledger::testing::*;
use crate::ledger::{Event, Outcome};
use crate::types::FileId;
use crate::wire::Action;

fn tally(chain: &Chain) -> Tally {
    match chain.state.get(&Key::Tally) {
        Some(Record::Tally(tally)) => **tally,
        other => panic!("no tally: {other:?}"),
    }
}

/// Opens a deal of user 1 over stores 0 to 2 with so many receipts, of which 2 are needed.
fn open(chain: &mut Chain, seed: u8, receipts: u8) -> FileId {
    let deal = commit(&chain.id, manifest(1, seed, 2, 1, 10_000), receipts, 2);
    let file = deal.manifest.id();
    assert_eq!(chain.act(1, Action::CommitFile(Box::new(deal))), Outcome::Applied);
    file
}

#[test]
fn a_span_sums_up_how_many_there_were_in_each_block() {
    let mut span = Span::default();
    let at = Height::new;
    span.change(at(3), 0, 2);
    span.change(at(5), 0, 1);
    span.change(at(5), 3, 0);
    span.change(at(9), 0, 1);
    assert_eq!(span, Span { now: 1, since: at(9), sum: 4, some: 2 });
    assert_eq!(span.at(at(12)), Span { now: 1, since: at(12), sum: 7, some: 5 });
    assert_eq!(span.at(at(4)), span, "it does not go back");
}

#[test]
fn deals_count_once_by_how_they_went_and_how_long_they_took() {
    let mut chain = Chain::new();
    open(&mut chain, 1, 3);
    let late = open(&mut chain, 2, 1);
    let given_up = open(&mut chain, 3, 1);
    open(&mut chain, 4, 0);
    let now = tally(&chain);
    assert_eq!((now.opened, now.reached, now.held.now), (4, 1, 3 + 1 + 1));
    let third = receipt(&chain.id, &manifest(1, 2, 2, 1, 10_000), 1);
    assert_eq!(chain.act(1, Action::ConfirmSlots { file: late, receipts: vec![third] }), Outcome::Applied);
    assert_eq!(chain.act(1, Action::DeleteFile { file: given_up }), Outcome::Applied);
    chain.run_to(4 + PENDING + 1);
    let now = tally(&chain);
    assert_eq!((now.reached, now.expired, now.withdrawn, now.ended), (2, 1, 1, 0));
    assert_eq!(now.quorum_blocks, 3, "opened in block 2, final in block 5");
    assert_eq!((now.quorum_buckets[0], now.quorum_buckets[2]), (1, 1));
    assert_eq!((now.quorum_within(50), now.quorum_within(99)), (Some(0), Some(3)));
    assert_eq!(Tally::default().quorum_within(99), None);
    assert_eq!(chain.state.audit(), Ok(()));
}

#[test]
fn the_buckets_cover_every_number_of_blocks() {
    let cases = [(0, 0), (1, 1), (2, 2), (3, 2), (4, 3), (1 << 22, 23), (u64::MAX, 23)];
    for (blocks, expected) in cases {
        assert_eq!(bucket(blocks), expected, "{blocks}");
    }
}

#[test]
fn a_node_that_is_gone_its_lost_slots_and_their_repair_are_counted_with_their_blocks() {
    let mut chain = Chain::new();
    let file = open(&mut chain, 1, 3);
    let opened = chain.height;
    let now = tally(&chain);
    assert_eq!((now.watched.now, now.watched.since), (3, Height::new(opened)));
    // Store 0 never answers; the others do, until it is given up.
    let lost_at = loop {
        let answers = [1, 2].into_iter().filter_map(|n| chain.answer(n, |_| true));
        let txs: Vec<_> = (chain.nonce(0)..).zip(answers).map(|(nonce, action)| chain.tx(0, nonce, action)).collect();
        let done = chain.block(&txs);
        if done.effects.events.iter().any(|event| matches!(event, Event::SlotLost { .. })) {
            break chain.height;
        }
        assert!(chain.height < 100, "it is given up");
    };
    let now = tally(&chain);
    assert_eq!((now.lost, now.absent, now.rotted, now.restored), (1, 1, 0, 0));
    assert_eq!((now.waiting.now, now.waiting_bytes, now.watched.now), (1, 5_000, 2));
    let gone_at = now.watched.since.get();
    assert_eq!(now.watched.sum, 3 * (gone_at - opened), "node-blocks until it was given up");
    chain.run_to(lost_at + 2);
    let manifest = manifest(1, 1, 2, 1, 10_000);
    let receipt = receipt_of(&chain.id, &manifest, 0, &store_key(5));
    assert_eq!(chain.act(0, Action::TakeSlot { file, receipt }), Outcome::Applied);
    let now = tally(&chain);
    assert_eq!((now.restored, now.waiting.now, now.waiting.sum, now.waiting.some), (1, 0, 3, 3));
    assert_eq!((now.waiting_bytes, now.held.now, now.watched.now), (0, 3, 3));
    let mut back = announcement(&store_key(0), "operator 0", crate::types::Role::Storage);
    back.bind(&chain.id, &account(0), &store_key(0));
    assert_eq!(chain.act(0, Action::RegisterNode(Box::new(back))), Outcome::Applied);
    assert_eq!((tally(&chain).returned, tally(&chain).watched.now), (1, 3), "it holds nothing");
    assert_eq!(chain.state.audit(), Ok(()));
}

#[test]
fn slots_of_a_file_that_cannot_be_restored_do_not_wait_for_repair() {
    let mut chain = Chain::new();
    open(&mut chain, 1, 3);
    // No store answers, so all are given up and the file is gone; repair has nothing to do, and its time does not count.
    while tally(&chain).absent < 3 {
        chain.block(&[]);
        assert!(chain.height < 100, "they are given up");
    }
    chain.run_to(chain.height + 5);
    let now = tally(&chain);
    assert_eq!((now.lost, now.waiting.now, now.restored, now.held.now), (3, 0, 0, 0));
    assert_eq!(now.waiting_bytes, 0);
    let before = now.waiting.sum;
    chain.run_to(chain.height + 5);
    assert_eq!(tally(&chain).waiting.at(Height::new(chain.height)).sum, before);
    assert_eq!(chain.state.audit(), Ok(()));
}

#[test]
fn a_pending_deal_whose_paid_time_is_shorter_than_its_patience_has_expired() {
    let mut chain = Chain::new();
    let mut deal = commit(&chain.id, manifest(1, 1, 2, 1, 10_000), 1, 2);
    deal.epochs = 1;
    assert_eq!(chain.act(1, Action::CommitFile(Box::new(deal))), Outcome::Applied);
    chain.run_to(2 + EPOCH);
    let now = tally(&chain);
    assert_eq!((now.expired, now.ended, now.held.now), (1, 0, 0));
    assert_eq!(chain.state.audit(), Ok(()));
}

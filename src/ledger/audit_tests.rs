//! Attacks on audits, and how soon a thief is caught.

use super::*;
use crate::ledger::record::Tip;
use crate::ledger::testing::{self, *};
use crate::ledger::{Fork, Key, Outcome, beacon};
use crate::types::{FileId, Round, View};
use crate::wire::Action;

const ASKED: u64 = EPOCH + 2;

/// A chain on which stores 0 to 2 hold slots of 5,000 bytes of two files and are asked about them.
fn asked() -> Chain {
    let mut chain = Chain::new();
    for seed in [1, 2] {
        let deal = commit(&chain.id, manifest(1, seed, 2, 1, 10_000), 3, 2);
        assert_eq!(chain.act(1, Action::CommitFile(Box::new(deal))), Outcome::Applied);
    }
    chain.run_to(ASKED);
    chain
}

type Proofs = Vec<Option<SampleProof>>;

fn true_answer(chain: &Chain, n: u8) -> (Epoch, Proofs) {
    match chain.answer(n, |_| true) {
        Some(Action::ProveStorage { epoch, proofs, .. }) => (epoch, proofs),
        other => panic!("not asked: {other:?}"),
    }
}

fn prove(chain: &mut Chain, n: u8, epoch: Epoch, proofs: Proofs) -> Outcome {
    chain.act(0, Action::ProveStorage { node: store(n), epoch, proofs })
}

/// Changes the true answer of store 0, which must then be refused for this sample, and still be open.
fn refused_at(sample: usize, edit: impl FnOnce(&Chain, &mut Proofs)) {
    let mut chain = asked();
    let (epoch, good) = true_answer(&chain, 0);
    let mut proofs = good.clone();
    edit(&chain, &mut proofs);
    let Sample { slot: SlotId { file, slot }, leaf } = chain.challenge(0).expect("it is asked").samples[sample];
    let refused = Reject::Proof { sample: sample as u64, file, slot, leaf };
    assert_eq!(prove(&mut chain, 0, epoch, proofs), Outcome::Rejected(refused));
    assert_eq!(prove(&mut chain, 0, epoch, good), Outcome::Applied, "the node may send it again");
}

#[test]
fn the_proofs_of_another_nodes_challenge_are_refused() {
    refused_at(0, |chain, proofs| *proofs = true_answer(chain, 1).1);
    let mut chain = asked();
    let (epoch, proofs) = true_answer(&chain, 1);
    let foreign = Action::ProveStorage { node: store(1), epoch, proofs };
    let refused = Reject::NodeOwner { node: store(1), have: account(0), need: account(2) };
    assert_eq!(chain.act(2, foreign), Outcome::Rejected(refused));
}

#[test]
fn the_answer_to_an_old_epoch_is_refused() {
    let mut chain = asked();
    let (epoch, proofs) = true_answer(&chain, 0);
    assert_eq!(prove(&mut chain, 0, epoch, proofs.clone()), Outcome::Applied);
    let gone = Outcome::Rejected(Reject::NoChallenge { node: store(0), epoch });
    assert_eq!(prove(&mut chain, 0, epoch, proofs.clone()), gone, "an answer counts once");
    chain.run_to(ASKED + EPOCH);
    assert_eq!(prove(&mut chain, 0, epoch, proofs.clone()), gone);
    let now = epoch.next().expect("a next epoch");
    let outcome = prove(&mut chain, 0, now, proofs);
    assert!(matches!(outcome, Outcome::Rejected(Reject::Proof { .. })), "{outcome:?}");
}

#[test]
fn a_forged_length_is_refused() {
    refused_at(1, |_, proofs| _ = proofs[1].as_mut().expect("a proof").bytes.pop());
    refused_at(1, |_, proofs| {
        // Zeros up to a whole leaf, as if the slot were longer; for a whole leaf, none at all.
        let bytes = &mut proofs[1].as_mut().expect("a proof").bytes;
        if bytes.len() == limits::LEAF_BYTES { bytes.clear() } else { bytes.resize(limits::LEAF_BYTES, 0) }
    });
}

#[test]
fn the_leaf_of_a_swapped_slot_is_refused() {
    refused_at(2, |chain, proofs| {
        let mut sample = chain.challenge(0).expect("it is asked").samples[2];
        let Some(Record::Manifest(manifest)) = chain.state.get(&Key::Manifest(sample.slot.file)) else {
            panic!("an open deal")
        };
        sample.slot.slot = 1;
        proofs[2] = Some(sample_proof(manifest, &sample));
    });
}

#[test]
fn surplus_and_missing_hashes_are_refused() {
    refused_at(3, |_, proofs| proofs[3].as_mut().expect("a proof").path.push([0; 32]));
    refused_at(3, |_, proofs| _ = proofs[3].as_mut().expect("a proof").path.pop());
    let mut chain = asked();
    let (epoch, mut proofs) = true_answer(&chain, 0);
    proofs.push(None);
    let refused = Reject::ProofCount { have: 5, need: 4 };
    assert_eq!(prove(&mut chain, 0, epoch, proofs), Outcome::Rejected(refused));
}

#[test]
fn nothing_can_be_answered_before_the_seed_is_final_nor_after_the_deadline() {
    let mut chain = asked();
    let (epoch, proofs) = true_answer(&chain, 0);
    let mut early = Chain::new();
    for seed in [1, 2] {
        let deal = commit(&early.id, manifest(1, seed, 2, 1, 10_000), 3, 2);
        early.act(1, Action::CommitFile(Box::new(deal)));
    }
    early.run_to(ASKED - 2);
    let gone = Outcome::Rejected(Reject::NoChallenge { node: store(0), epoch });
    assert_eq!(prove(&mut early, 0, epoch, proofs.clone()), gone);
    chain.run_to(ASKED + 2);
    let mut late = chain.clone();
    assert_eq!(prove(&mut chain, 0, epoch, proofs.clone()), Outcome::Applied, "the last block that may hold it");
    late.run_to(ASKED + 3);
    assert_eq!(prove(&mut late, 0, epoch, proofs), gone);
}

#[test]
fn another_reveal_asks_for_other_bytes_and_transactions_turn_nothing() {
    let mut chain = asked();
    let before = chain.challenge(0);
    chain.run_to(ASKED + EPOCH - 1);
    let (mut with, mut without) = (chain.clone(), chain);
    // A slot that comes in the block of the seed is not drawn: deadlines come first.
    let deal = commit(&with.id, manifest(2, 3, 2, 1, 100_000), 3, 2);
    assert_eq!(with.act(2, Action::CommitFile(Box::new(deal))), Outcome::Applied);
    without.block(&[]);
    assert_eq!(with.challenge(0), without.challenge(0));
    assert_ne!(with.challenge(0), before);
}

/// A node with slots of these lengths, as a state of its own.
fn node_with(lens: &[u64]) -> State {
    let mut params = genesis().params().expect("a good genesis");
    params.storage = crate::ledger::record::StorageParams::usual(EPOCH);
    let mut state = State::new();
    let (node, entry) = (store(0), testing::Chain::new().node(0));
    state.load(Key::Params, Some(Record::Params(params)));
    state.load(Key::Tally, Some(Record::Tally(Box::default())));
    state.load(Key::Missed(node), None);
    state.load(Key::Node(node), Some(Record::Node(Box::new(entry))));
    for (n, len) in (0_u64..).zip(lens) {
        let mut keys = Vec::new();
        holding::add_needs(&Draft::new(&state, Height::new(1)), node, &mut keys);
        keys.into_iter().for_each(|key| {
            if !state.is_loaded(&key) {
                state.load(key, None);
            }
        });
        let mut raw = [0; 32];
        raw[..8].copy_from_slice(&n.to_be_bytes());
        let mut draft = Draft::new(&state, Height::new(1));
        let mut entry = draft.node(&node).expect("loaded").clone();
        holding::add(&mut draft, node, &mut entry, SlotId { file: FileId::from_bytes(raw), slot: 0 }, *len);
        draft.put_node(node, entry);
        draft.done().changes.into_iter().for_each(|(key, record)| state.load(key, record));
    }
    state
}

/// What an epoch asks, with a beacon that follows from a seed.
fn samples(state: &State, run: u64, epoch: u64) -> Vec<Sample> {
    let mut state = state.clone();
    let beacon = hash(Domain::Beacon, &[run.to_be_bytes(), epoch.to_be_bytes()].concat());
    let at = Height::new(epoch * EPOCH + 2);
    let due = (at, 0);
    state.load(Key::Tip, Some(Record::Tip(Tip { height: at, beacon, due })));
    let draft = Draft::new(&state, at);
    begin(&draft, store(0)).expect("a node").samples(&draft, store(0)).expect("all is loaded")
}

/// The number of a slot of `node_with`.
fn number(sample: &Sample) -> usize {
    let raw = sample.slot.file.as_bytes().first_chunk().expect("an id is longer");
    u64::from_be_bytes(*raw) as usize
}

/// In how many of 300 runs a node is asked for one of its first `gone` slots within some epochs.
fn caught(gone: usize, epochs: u64, draw: impl Fn(u64, u64) -> Vec<Sample>) -> usize {
    let run = |run: &u64| (1..=epochs).any(|epoch| draw(*run, epoch).iter().any(|sample| number(sample) < gone));
    (0..300).filter(run).count()
}

/// How many of the first slots have at least this part of all bytes.
fn slots_with(lens: &[u64], percent: u64) -> usize {
    let (all, mut sum) = (lens.iter().sum::<u64>(), 0);
    let enough = |len: &u64| {
        sum += len;
        sum * 100 >= all * percent
    };
    lens.iter().position(enough).expect("all have all") + 1
}

#[test]
fn a_node_that_deleted_a_tenth_is_caught_within_three_epochs_and_one_in_a_hundred_within_thirty() {
    // 250 slots of 1,000 to 81,000 bytes, without an order.
    let lens: Vec<u64> = (0..250_u64).map(|n| 1_000 + n * n * 7_919 % 80_001).collect();
    let state = node_with(&lens);
    let real = |run, epoch| samples(&state, run, epoch);
    let (tenth, hundredth) = (slots_with(&lens, 10), slots_with(&lens, 1));
    assert!(tenth > 10 && (1..tenth).contains(&hundredth), "{tenth}, {hundredth}");
    // 1 - 0.9^48 = 99.4 % and 1 - 0.99^480 = 99.2 % are expected; the draws are fixed, so the bounds cannot fail by chance.
    assert!(caught(tenth, 3, real) >= 294);
    assert!(caught(hundredth, 30, real) >= 294);
    let within_one = caught(tenth, 1, real);
    assert!((228..=268).contains(&within_one), "1 - 0.9^16 = 81.5 % of 300 are 244, not {within_one}");
    assert_eq!(caught(0, 30, real), 0, "who has all is never caught");
}

#[test]
fn the_bounds_for_thieves_tell_a_draw_over_bytes_from_one_over_slots() {
    // The first two of 200 slots have a tenth of the bytes.
    let lens: Vec<u64> = (0..200).map(|n| if n < 2 { 11_000 } else { 1_000 }).collect();
    let state = node_with(&lens);
    assert!(caught(2, 3, |run, epoch| samples(&state, run, epoch)) >= 294);
    let over_slots = node_with(&[1_000; 200]);
    let other = caught(2, 3, |run, epoch| samples(&over_slots, run, epoch));
    assert!(other < 150, "1 - 0.99^48 = 38 % of 300 are 115, not {other}");
}

#[test]
fn the_leader_of_the_seed_block_has_one_reveal_and_no_other_say_in_the_draw() {
    let mut chain = asked();
    chain.run_to(ASKED + EPOCH - 1);
    let drawn = |at: BlockContext, txs: &[crate::wire::VerifiedTx]| {
        let done = Fork::new(&chain.state, &[]).execute(at, txs);
        let challenge = |done: crate::ledger::Executed| done.effects.changes.get(&Key::Challenge(store(0))).cloned();
        done.map(|done| challenge(done).flatten().expect("store 0 is asked"))
    };
    let at = chain.next();
    let honest = drawn(at.clone(), &[]).expect("a valid block");
    // Any view, and any of the transactions at hand, in any order.
    let later = BlockContext { round: Round::new(at.round.epoch, View::new(999)), ..at.clone() };
    assert_eq!(drawn(later, &[]).expect("a valid block"), honest);
    let put = |owner: u8, seed| {
        let deal = commit(&chain.id, manifest(owner, seed, 2, 1, 100_000), 3, 2);
        chain.tx(owner, chain.nonce(owner), Action::CommitFile(Box::new(deal)))
    };
    let leave = chain.tx(0, chain.nonce(0), Action::DrainNode { node: store(0), drain: true });
    let (one, two) = (put(2, 7), put(3, 8));
    for txs in [vec![one.clone()], vec![one.clone(), two.clone(), leave.clone()], vec![leave, two, one]] {
        assert_eq!(drawn(at.clone(), &txs).expect("a valid block"), honest);
    }
    // Another reveal than the next one is no block.
    for reveal in [beacon::step(&at.reveal), [7; 32]] {
        let fault = drawn(BlockContext { reveal, ..at.clone() }, &[]);
        assert!(fault.is_err(), "{fault:?}");
    }
    // It may give up its block for the next proposer's: that is the one bit.
    let other = validator_key(((chain.height + 2) % 4) as u8).public().node_id();
    let Some(Record::Node(entry)) = chain.state.get(&Key::Node(other)) else { panic!("a validator") };
    let head = entry.beacon.head;
    let links = std::iter::successors(Some(*other.as_bytes()), |link| Some(beacon::step(link)));
    let reveal = links.take(1_000).find(|link| beacon::step(link) == head).expect("a link of its chain");
    let given_up = drawn(BlockContext { proposer: other, reveal, ..at }, &[]).expect("a valid block");
    assert_ne!(given_up, honest);
}

#[test]
fn every_byte_is_drawn_as_often_as_another_whatever_the_slots() {
    let lens: Vec<u64> = (0..100).map(|n| if n % 10 == 0 { 91_000 } else { 1_000 }).collect();
    let state = node_with(&lens);
    // A tenth of the slots has 91 % of the bytes.
    let drawn: Vec<_> = (1..=200).flat_map(|epoch| samples(&state, 5, epoch)).collect();
    let long = drawn.iter().filter(|sample| sample.slot.file.as_bytes()[7] % 10 == 0).count();
    assert_eq!(drawn.len(), 3_200);
    assert!((2_840..=2_980).contains(&long), "{long} of 3200, 2912 expected");
    let halves = drawn.iter().filter(|sample| sample.leaf >= 45).count();
    assert!((1_330..=1_540).contains(&halves), "{halves}: the second half of the long slots is drawn as often");
}

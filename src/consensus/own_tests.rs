//! Tests of what a record accounts for, and of the floor and the silence of a replica.

use proptest::prelude::*;

use super::super::record::{CastProposal, CastVote};
use super::*;
use crate::consensus::tests::harness::{CHAIN, GENESIS, config, first_epoch, keys, set};
use crate::consensus::{Action, Event, Resume, Timer};
use crate::types::{BlockHash, Height, Millis, View};
use crate::wire::{Signed, Unsigned};

fn round(view: u64) -> Round {
    Round::new(Epoch::ZERO, View::new(view))
}

fn block(n: u8) -> BlockHash {
    BlockHash::from_bytes([n; 32])
}

fn vote(kind: VoteKind, view: u64, of: u8) -> Statement {
    Statement::Vote { kind, round: round(view), height: Height::new(1), block: block(of) }
}

fn timeout(view: u64) -> Statement {
    Statement::Timeout { round: round(view), high: Round::default() }
}

#[test]
fn a_record_accounts_for_the_past_and_for_the_block_that_it_names() {
    let cast = |view, of| CastVote { round: round(view), block: block(of), height: Height::new(1) };
    let record = SafetyRecord {
        last_vote: Some(cast(5, 1)),
        last_commit_vote: Some(cast(4, 1)),
        last_timeout: Some(round(3)),
        last_proposal: Some(CastProposal { round: round(2), block: block(1), height: Height::new(1), tail: None }),
        ..SafetyRecord::new(Certificate::genesis(GENESIS))
    };
    let propose = |view, of| Statement::Propose { round: round(view), block: block(of) };
    let (prepare, commit) = (VoteKind::Prepare, VoteKind::Commit);
    let own = [
        vote(prepare, 5, 1),
        vote(prepare, 4, 9),
        vote(commit, 4, 1),
        timeout(3),
        timeout(1),
        propose(2, 1),
        propose(1, 9),
    ];
    for said in own {
        assert!(accounts_for(&record, &said), "{said:?}");
    }
    let foreign = [vote(prepare, 5, 2), vote(prepare, 6, 1), vote(commit, 4, 2), vote(commit, 5, 1), timeout(4)];
    for said in foreign.into_iter().chain([propose(2, 2), propose(3, 1)]) {
        assert!(!accounts_for(&record, &said), "{said:?}");
    }
    let fresh = SafetyRecord::new(Certificate::genesis(GENESIS));
    assert!(!accounts_for(&fresh, &timeout(1)), "a key that never signed accounts for nothing");
}

#[test]
fn own_signatures_are_found_in_the_certificates_of_others() {
    let keys = keys(4);
    let certificate = |kind, view, signers: &[u16]| {
        let mut made =
            Certificate { kind, round: round(view), height: Height::new(1), block: block(1), signatures: Vec::new() };
        let said = made.statement();
        let sign = |index: &u16| Signed { index: *index, signature: said.sign(&CHAIN, &keys[usize::from(*index)]) };
        made.signatures = signers.iter().map(sign).collect();
        made
    };
    let high = certificate(VoteKind::Prepare, 7, &[0, 1, 3]);
    let commit = certificate(VoteKind::Commit, 6, &[0, 2, 3]);
    let newest = Newest { high: high.clone(), timeout: None, commit: Some(commit.clone()) };
    let sent = Unsigned::Timeout { round: round(8), index: 0, newest }.sign(&CHAIN, &keys[0]);
    let of = |index: u16| signed_by(&sent, &|epoch| (epoch == Epoch::ZERO).then_some(index));
    let said = |index| of(index).into_iter().map(|(said, _)| said).collect::<Vec<_>>();
    assert_eq!(said(0), [Statement::Timeout { round: round(8), high: round(7) }, high.statement(), commit.statement()]);
    assert_eq!(said(1), [high.statement()]);
    assert_eq!(said(2), [commit.statement()]);
    let members = set(4);
    for (said, signature) in of(3) {
        let node = members.get(3).expect("a member").node;
        assert!(said.verify(&CHAIN, node.as_bytes(), &signature).is_ok());
    }
    assert!(signed_by(&sent, &|_| None).is_empty(), "who is in no set has signed nothing");
}

fn timed_out(actions: &[Action]) -> bool {
    actions.iter().any(|action| matches!(action, Action::Broadcast(Unsigned::Timeout { .. })))
}

/// A replica whose first view has run out, after `prepare`.
fn after_the_first_view(prepare: impl FnOnce(&mut Replica)) -> (Replica, Vec<Action>) {
    let resume =
        Resume { record: None, blocks: Vec::new(), last_final: Certificate::genesis(GENESIS), silent_until: None };
    let me = set(4).members()[3].node;
    let mut replica = Replica::new(config(me, 5), first_epoch(4), resume);
    prepare(&mut replica);
    let mut actions = replica.on(Event::Start, Millis::new(1_000));
    for at in [20_000, 40_000] {
        actions.extend(replica.on(Event::Expired(Timer::View), Millis::new(at)));
    }
    (replica, actions)
}

#[test]
fn nothing_is_signed_at_or_below_the_floor() {
    assert!(timed_out(&after_the_first_view(|_| {}).1));
    assert!(timed_out(&after_the_first_view(|replica| replica.sign_above(Some(round(0)))).1));
    assert!(!timed_out(&after_the_first_view(|replica| replica.sign_above(Some(round(1)))).1));
    let lowered = after_the_first_view(|replica| {
        replica.sign_above(Some(round(9)));
        replica.sign_above(None);
    });
    assert!(!timed_out(&lowered.1), "a floor only rises");
}

#[test]
fn a_silent_replica_signs_when_it_is_let_and_started_again() {
    let (mut replica, actions) = after_the_first_view(|replica| replica.silence(true));
    assert!(!timed_out(&actions) && !replica.status().voting);
    replica.silence(false);
    let mut actions = replica.on(Event::Start, Millis::new(50_000));
    actions.extend(replica.on(Event::Expired(Timer::View), Millis::new(70_000)));
    assert!(timed_out(&actions) && replica.status().voting);
}

fn any_statement() -> impl Strategy<Value = Statement> {
    (0..4_u8, 0..4_u64, 0..9_u64).prop_map(|(kind, epoch, view)| {
        let round = Round::new(Epoch::new(epoch), View::new(view));
        match kind {
            0 => Statement::Propose { round, block: block(1) },
            1 => Statement::Vote { kind: VoteKind::Prepare, round, height: Height::new(1), block: block(1) },
            2 => Statement::Vote { kind: VoteKind::Commit, round, height: Height::new(1), block: block(1) },
            _ => Statement::Timeout { round, high: Round::default() },
        }
    })
}

fn noted(said: &[Statement]) -> Watermarks {
    let mut signed = Watermarks::default();
    said.iter().for_each(|said| signed.note(said));
    signed
}

proptest! {
    #[test]
    fn watermarks_only_rise_and_cover_all_that_they_were_raised_by(
        ours in prop::collection::vec(any_statement(), 0..8),
        theirs in prop::collection::vec(any_statement(), 0..8),
    ) {
        let (own, other) = (noted(&ours), noted(&theirs));
        let raised = own.raised(&other);
        for said in ours.iter().chain(&theirs) {
            prop_assert!(raised.cover(said));
            prop_assert!(Some(round_of(said)) <= raised.highest());
        }
        prop_assert_eq!(raised.raised(&own), raised);
        prop_assert_eq!(other.raised(&own), raised);
        prop_assert_eq!(own.raised(&Watermarks::default()), own);
        prop_assert_eq!(own.raised(&other.beyond(&own)), raised);
        prop_assert_eq!(raised.beyond(&raised), Watermarks::default());
    }
}

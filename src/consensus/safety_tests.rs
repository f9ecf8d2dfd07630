//! Tests of the safety predicates, by the number of their rule.

use proptest::prelude::*;

use super::*;
use crate::consensus::record::CastVote;
use crate::consensus::tests::harness::{self, GENESIS, set};
use crate::types::{BlockHash, Epoch};
use crate::wire::ProposedBlock;

fn config() -> Config {
    harness::config(set(4).members()[0].node, 5)
}

fn round(view: u64) -> Round {
    Round::new(Epoch::ZERO, View::new(view))
}

fn certificate(kind: VoteKind, view: u64, height: u64) -> Certificate {
    let (height, block) = (Height::new(height), BlockHash::from_bytes([9; 32]));
    Certificate { kind, round: round(view), height, block, signatures: Vec::new() }
}

fn timeout(view: u64, high: u64) -> TimeoutCertificate {
    TimeoutCertificate { round: round(view), timeouts: Vec::new(), high: certificate(VoteKind::Prepare, high, 1) }
}

fn record() -> SafetyRecord {
    SafetyRecord::new(Certificate::genesis(GENESIS))
}

fn proposed(view: u64, justify: &Certificate) -> ProposedBlock {
    harness::block(round(view), set(4).members()[0].node, justify, b"")
}

#[test]
fn rule_1_the_certificate_of_an_epochs_end_outranks_all_of_that_epoch() {
    let end = certificate(VoteKind::Commit, 7, 5);
    assert!(may_justify(&config(), &end));
    assert!(end.rank() > certificate(VoteKind::Prepare, u64::MAX, 5).rank());
    assert!(!may_justify(&config(), &certificate(VoteKind::Commit, 7, 4)), "not the last block");
}

#[test]
fn rule_2_a_block_extends_exactly_its_justification() {
    let justify = certificate(VoteKind::Prepare, 2, 2);
    let good = proposed(3, &justify);
    assert!(extends(&config(), good.header(), &justify));
    let mut other_parent = good.header().clone();
    other_parent.parent = GENESIS;
    let mut skipping = good.header().clone();
    skipping.height = Height::new(4);
    for header in [other_parent, skipping] {
        assert!(!extends(&config(), &header, &justify));
    }
    assert!(!extends(&config(), proposed(2, &justify).header(), &justify), "not in the view of its own parent");
}

#[test]
fn rule_2_the_first_block_of_an_epoch_extends_the_commit_certificate_of_the_last() {
    let end = certificate(VoteKind::Commit, 7, 5);
    let first = Round::new(Epoch::new(1), View::new(1));
    let block = harness::block(first, set(4).members()[0].node, &end, b"");
    assert!(is_justified(&config(), first, &end, None) && extends(&config(), block.header(), &end));
    let certified_only = certificate(VoteKind::Prepare, 7, 5);
    assert!(!is_justified(&config(), first, &certified_only, None), "rule 16: certified is not final");
    let too_far = harness::block(round(8), set(4).members()[0].node, &certified_only, b"");
    assert!(!extends(&config(), too_far.header(), &certified_only), "the epoch has no sixth block");
}

#[test]
fn rule_3_votes_rise() {
    let mut record = record();
    assert!(may_vote(&record, round(1)));
    record.last_vote = Some(CastVote { round: round(4), block: GENESIS, height: Height::new(1) });
    assert_eq!([3, 4, 5].map(|view| may_vote(&record, round(view))), [false, false, true]);
}

#[test]
fn rule_20_only_a_time_far_ahead_of_the_own_clock_is_refused() {
    let mut header = proposed(1, &Certificate::genesis(GENESIS)).block.header;
    header.time = Millis::new(50_000);
    assert!(is_timely(&header, Millis::new(40_000)) && is_timely(&header, Millis::new(u64::MAX)));
    assert!(!is_timely(&header, Millis::new(39_999)));
}

proptest! {
    #[test]
    fn rule_2_a_justification_is_the_view_before_or_a_timeout_with_nothing_higher(
        view in 1_u64..8, justify in 0_u64..8, tc in prop::option::of((0_u64..8, 0_u64..8)),
    ) {
        let tc_of = tc.map(|(of, high)| timeout(of, high));
        let justified = is_justified(&config(), round(view), &certificate(VoteKind::Prepare, justify, 1), tc_of.as_ref());
        let by_timeout = tc.is_some_and(|(of, high)| of + 1 == view && justify >= high && justify < view);
        prop_assert_eq!(justified, justify + 1 == view || by_timeout);
    }

    #[test]
    fn rule_4_no_commit_vote_from_an_own_timeout_on_nor_twice_nor_below_the_last_final_view(
        view in 1_u64..8, last_timeout in prop::option::of(0_u64..8), last in prop::option::of(0_u64..8), last_final in 0_u64..8,
    ) {
        let cast = |view| CastVote { round: round(view), block: GENESIS, height: Height::new(1) };
        let record =
            SafetyRecord { last_timeout: last_timeout.map(round), last_commit_vote: last.map(cast), ..record() };
        let allowed = may_commit(&config(), &record, round(last_final), &certificate(VoteKind::Prepare, view, 1));
        let expected = last_timeout.is_none_or(|t| t < view) && last.is_none_or(|l| l < view) && last_final < view;
        prop_assert_eq!(allowed, expected);
    }

    #[test]
    fn rule_15_the_window_has_both_its_ends(now in 0_u64..100, view in 0_u64..200) {
        let inside = view + limits::PAST_VIEWS_MAX >= now && view <= now + limits::FUTURE_VIEWS_MAX;
        prop_assert_eq!(is_in_window(round(now), round(view)), inside);
        prop_assert!(!is_in_window(Round::new(Epoch::new(1), View::new(now)), round(now)));
    }
}

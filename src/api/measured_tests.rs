//! Rates and odds from counts that are made up.

use super::*;
use crate::ledger::Tally;
use crate::ledger::record::{Params, StorageParams, ValidatorParams};
use crate::ledger::tally::Span;
use crate::node::measured::Audits;
use crate::types::{Amount, Height, Millis};

/// Ten nodes watched over a million blocks of a second each; epochs of 60 blocks.
fn measured(change: impl FnOnce(&mut Tally)) -> Evidence {
    let blocks = 1_000_000;
    let span = |now: u64| Span { now, since: Height::new(blocks), sum: now * blocks, some: blocks };
    let mut tally = Tally { watched: span(10), held: span(60), ..Tally::default() };
    change(&mut tally);
    let storage = StorageParams { grace: 1, answer_blocks: 30, ..StorageParams::usual(60) };
    let validators = ValidatorParams::usual();
    let pace = |blocks| Pace { blocks, time: Millis::new(blocks * 1_000) };
    Evidence::of(Measured {
        height: Height::new(blocks),
        params: Params { supply: Amount::ZERO, epoch_blocks: 60, pending_blocks: 1, storage, validators },
        tally,
        pace: pace(blocks),
        recent: pace(256),
        audits: Audits::default(),
        oldest: None,
    })
}

fn lost_and_repaired(tally: &mut Tally) {
    (tally.absent, tally.lost, tally.restored) = (2, 12, 12);
    tally.waiting = Span { now: 0, since: Height::new(9), sum: 12 * 50, some: 120 };
}

#[test]
fn the_odds_follow_from_what_was_lost_and_how_fast_it_came_back() {
    let evidence = measured(lost_and_repaired);
    let view = evidence.view();
    let year_s = 31_557_600.0;
    assert_eq!((view.block_ms, view.detection_s, view.repair_s), (1_000.0, 150.0, Some(50.0)));
    let per_year = 2.0 / (10e6 / year_s);
    assert!((view.node_losses_per_year.expect("watched") / per_year - 1.0).abs() < 1e-9 && !view.node_loss_is_bound);
    let loss = evidence.annual_loss(4, 6, 6, 5).expect("watched");
    // Three losses within 200 s each: 6·5·4·λ³ / (2·μ²) a year.
    let (lambda, mu) = (per_year, year_s / 200.0);
    let expected = 6.0 * 5.0 * 4.0 * lambda.powi(3) / (2.0 * mu * mu);
    assert!((loss.probability / expected - 1.0).abs() < 0.01 && !loss.is_bound, "{loss:?}, expected {expected}");
    assert!(evidence.annual_loss(4, 6, 4, 5).expect("watched").probability > 10.0 * loss.probability);
    assert_eq!(evidence.annual_loss(4, 6, 3, 5).map(|loss| loss.probability), Some(1.0));
}

#[test]
fn what_was_never_seen_is_a_bound_and_not_zero() {
    let nothing = measured(|_| {});
    let view = nothing.view();
    assert!(view.node_loss_is_bound && view.node_losses_per_year.is_some_and(|rate| rate > 9.0));
    assert_eq!((view.repair_s, view.full_in_s), (None, Some(0.0)));
    let loss = nothing.annual_loss(1, 6, 6, 5).expect("watched");
    assert!(loss.is_bound && loss.probability > 0.9, "no repair was seen, so none is counted on: {loss:?}");
    let repaired = measured(|tally| {
        lost_and_repaired(tally);
        tally.absent = 0;
    });
    let loss = repaired.annual_loss(4, 6, 6, 5).expect("watched");
    assert!(loss.is_bound && loss.probability > 0.0 && loss.probability < 1e-3, "{loss:?}");
    let unwatched = measured(|tally| tally.watched = Span::default());
    assert_eq!(unwatched.annual_loss(4, 6, 6, 5), None);
}

#[test]
fn rot_adds_to_the_loss_of_nodes() {
    let (without, with) = (
        measured(lost_and_repaired),
        measured(|tally| {
            lost_and_repaired(tally);
            tally.rotted = 600;
        }),
    );
    let odds = |evidence: &Evidence| evidence.annual_loss(4, 6, 6, 5).expect("watched").probability;
    assert!(odds(&with) > 100.0 * odds(&without));
}

#[test]
fn the_time_to_full_redundancy_is_the_mean_or_what_the_queue_takes() {
    let evidence = measured(lost_and_repaired);
    // A slot waits 50 blocks on average; while any waits, one comes back in 10 blocks.
    assert_eq!(evidence.full_in_s(0, 0, 99), Some(0.0));
    assert_eq!(evidence.full_in_s(1, 0, 0), Some(50.0));
    assert_eq!(evidence.full_in_s(2, 0, 98), Some(1_000.0));
    assert_eq!(evidence.full_in_s(1, 1, 0), Some(200.0), "who is away must be given up first");
    assert_eq!(measured(|_| {}).full_in_s(1, 0, 0), None, "nothing was ever restored");
}

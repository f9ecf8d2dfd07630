//! Tests of the leaders and of the skip list.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::types::{BlockHash, ChainId, Height, Millis, StateRoot, View};
use crate::wire::{Certificate, Validator};

fn context(powers: &[u64], skip: &[u16]) -> EpochContext {
    let member = |(n, power): (usize, &u64)| Validator { node: NodeId::from_bytes([n as u8; 32]), power: *power };
    let set = ValidatorSet::new(powers.iter().enumerate().map(member).collect()).expect("a valid set");
    let opening = Certificate::genesis(BlockHash::from_bytes([0; 32]));
    EpochContext { epoch: Epoch::new(1), set: Arc::new(set), skip: skip.to_vec(), opening }
}

fn leaders(context: &EpochContext, views: u64) -> Vec<u16> {
    let leaders = Leaders::new(context);
    (1..=views).map(|view| leaders.index(round(context.epoch, view))).collect()
}

fn header(view: u64) -> Header {
    Header {
        version: 1,
        chain: ChainId::from_bytes([0; 32]),
        height: Height::new(view),
        round: Round::new(Epoch::new(1), View::new(view)),
        proposer: NodeId::from_bytes([0; 32]),
        parent: BlockHash::from_bytes([0; 32]),
        tx_root: [0; 32],
        receipt_root: [0; 32],
        state_root: StateRoot::from_bytes([0; 32]),
        validator_set: [0; 32],
        next_set: [0; 32],
        time: Millis::ZERO,
        reveal: [0; 32],
    }
}

/// The headers of an epoch in which these validators never got a block through.
fn headers(context: &EpochContext, dead: &[u16], views: u64) -> Vec<Header> {
    let led = leaders(context, views);
    (1..=views).zip(led).filter(|(_, leader)| !dead.contains(leader)).map(|(view, _)| header(view)).collect()
}

#[test]
fn equal_validators_take_strict_turns_whatever_their_weight() {
    for power in [1, 1_000_000] {
        let context = context(&[power; 7], &[]);
        for turn in leaders(&context, 70).chunks(7) {
            let mut turn = turn.to_vec();
            turn.sort_unstable();
            assert_eq!(turn, (0..7).collect::<Vec<_>>());
        }
    }
}

#[test]
fn who_is_skipped_leads_one_view_near_the_start() {
    let seven = context(&[1; 7], &[2, 5]);
    let led = leaders(&seven, 100);
    let views =
        |index: u16| (1..).zip(&led).filter(|(_, led)| **led == index).map(|(view, _)| view).collect::<Vec<_>>();
    assert_eq!((views(2), views(5)), (vec![2], vec![4]));
}

#[test]
fn who_stays_dead_stays_skipped_and_who_is_back_leads_again() {
    let four = context(&[1; 4], &[3]);
    assert_eq!(skip_list(&four, &headers(&four, &[3], 40)), vec![3]);
    assert_eq!(skip_list(&four, &headers(&four, &[], 40)), Vec::<u16>::new());
}

#[test]
fn who_loses_its_views_is_skipped_but_never_more_than_a_third() {
    let four = context(&[1; 4], &[]);
    assert_eq!(skip_list(&four, &headers(&four, &[3], 40)), vec![3]);
    assert_eq!(skip_list(&four, &headers(&four, &[0, 3], 40)).len(), 1);
    let seven = context(&[1; 7], &[]);
    assert_eq!(skip_list(&seven, &headers(&seven, &[1, 5], 70)), vec![1, 5]);
    assert_eq!(skip_list(&seven, &headers(&seven, &[], 70)), Vec::<u16>::new());
}

#[test]
fn a_single_lost_view_of_many_is_forgiven() {
    let context = context(&[1; 4], &[]);
    let all_but_one: Vec<_> = headers(&context, &[], 40).into_iter().filter(|h| h.round.view.get() != 9).collect();
    assert_eq!(skip_list(&context, &all_but_one), Vec::<u16>::new());
}

#[test]
fn an_endless_gap_of_views_costs_a_bounded_time() {
    let context = context(&[1; 4], &[]);
    let skip = skip_list(&context, &[header(1), header(u64::MAX)]);
    assert!(skip.len() <= 1);
}

proptest! {
    #[test]
    fn everyone_leads_its_share(powers in prop::collection::vec(1_u64..50, 1..20)) {
        let context = context(&powers, &[]);
        let total: u64 = powers.iter().sum();
        let led = leaders(&context, total);
        for (index, power) in (0_u16..).zip(&powers) {
            let unit = powers.iter().fold(0, |unit, power| gcd(unit, *power));
            prop_assert_eq!(led.iter().filter(|leader| **leader == index).count() as u64 / unit, *power / unit);
        }
    }

    #[test]
    fn the_skipped_are_never_a_third_of_the_weight(
        powers in prop::collection::vec(1_u64..50, 1..20),
        views in prop::collection::btree_set(1_u64..400, 0..80),
    ) {
        let context = context(&powers, &[]);
        let headers: Vec<_> = views.into_iter().map(header).collect();
        let skip = skip_list(&context, &headers);
        let weight: u64 = skip.iter().map(|index| powers[usize::from(*index)]).sum();
        prop_assert!(!context.set.is_join(weight));
        prop_assert!(skip.is_sorted());
    }
}

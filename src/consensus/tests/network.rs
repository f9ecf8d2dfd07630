//! Four replicas, in lock step.

use super::harness::{GENESIS, HOP, Net, block};
use crate::types::{Epoch, Round, View};
use crate::wire::message::Offer;
use crate::wire::{Certificate, Message, Newest, Unsigned, VoteKind};

#[test]
fn a_loaded_network_runs_at_network_speed_and_finalizes_every_view() {
    let mut net = Net::started(4, 1_000);
    net.set_waiting(true);
    net.run(1_000);
    // Proposal and vote are one hop each.
    let views = 1_000 / (2 * HOP);
    for at in 0..4 {
        assert!(net.height(at) >= views - 2, "height {} of {views}", net.height(at));
    }
    let rounds: Vec<_> = net.nodes[0].disk.chain.iter().map(|block| block.header().round.view.get()).collect();
    assert_eq!(rounds, (1..=net.height(0)).collect::<Vec<_>>(), "each view gives a block");
}

#[test]
fn an_idle_network_makes_one_block_per_idle_interval_and_is_silent_otherwise() {
    let mut net = Net::started(4, 1_000);
    net.run(20_500);
    assert_eq!(net.height(0), 10);
    // Per block: a proposal to 3, two votes of 4 to 3.
    assert_eq!(net.sent, 10 * (3 + 2 * 12));
}

#[test]
fn a_single_validator_is_a_network() {
    let mut net = Net::started(1, 5);
    net.run(40_500);
    assert_eq!(net.height(0), 20);
}

#[test]
fn a_transaction_that_comes_late_is_final_after_three_hops() {
    let mut net = Net::started(4, 1_000);
    net.run(500);
    net.set_waiting(true);
    net.run(3 * HOP);
    assert!((0..4).all(|at| net.height(at) >= 1));
}

#[test]
fn with_any_one_dead_the_others_go_on() {
    for dead in 0..4 {
        let mut net = Net::started(4, 10);
        net.set_waiting(true);
        net.run(200);
        net.crash(dead);
        let before = net.height((dead + 1) % 4);
        net.run(8_000);
        let gained = net.height((dead + 1) % 4) - before;
        assert!(gained > 50, "{gained} blocks with {dead} dead");
    }
}

#[test]
fn who_is_dead_is_skipped_in_later_epochs() {
    let mut net = Net::started(4, 10);
    net.crash(2);
    net.set_waiting(true);
    net.run(10_000);
    let skips: Vec<_> = net.nodes[0].disk.contexts.iter().map(|context| context.skip.clone()).collect();
    assert!(skips.len() > 4);
    assert!(skips[1..].iter().all(|skip| *skip == [2]), "it loses the one view that it leads in each: {skips:?}");
}

#[test]
fn with_two_dead_nothing_is_final_and_with_one_back_all_goes_on() {
    let mut net = Net::started(4, 10);
    net.set_waiting(true);
    net.run(200);
    net.crash(0);
    net.crash(1);
    net.run(100);
    let before = net.height(2);
    net.run(30_000);
    assert_eq!(net.height(2), before);
    net.start(1);
    net.run(10_000);
    assert!((1..4).all(|at| net.height(at) > before + 3));
}

#[test]
fn all_crash_at_once_at_any_moment_and_go_on() {
    for moment in 0..8 {
        let mut net = Net::started(4, 5);
        net.set_waiting(true);
        net.run(250 + 10 * moment);
        (0..4).for_each(|at| net.crash(at));
        let before = net.height(0);
        (0..4).for_each(|at| net.start(at));
        net.run(3_000);
        assert!((0..4).all(|at| net.height(at) > before + 10), "crash at moment {moment}");
    }
}

#[test]
fn who_was_away_for_epochs_catches_up() {
    let mut net = Net::started(4, 5);
    net.set_waiting(true);
    net.run(50);
    net.crash(3);
    net.run(3_000);
    net.start(3);
    net.run(1_000);
    assert!(net.catch_ups > 0);
    assert!(net.height(3) + 3 >= net.height(0), "{} of {}", net.height(3), net.height(0));
}

#[test]
fn a_healed_partition_goes_on() {
    for side in [vec![0], vec![0, 1]] {
        let mut net = Net::started(4, 7);
        net.set_waiting(true);
        net.run(300);
        let other: Vec<_> = (0..4).filter(|at| !side.contains(at)).collect();
        for (a, b) in side.iter().flat_map(|a| other.iter().map(move |b| (*a, *b))) {
            net.cut.extend([(a, b), (b, a)]);
        }
        net.run(20_000);
        net.cut.clear();
        let before = net.height(3);
        net.run(11_000);
        assert!((0..4).all(|at| net.height(at) > before + 3));
    }
}

#[test]
fn lost_commit_votes_of_an_epochs_last_block_are_mended_by_tails() {
    let mut net = Net::started(4, 3);
    // Nobody's commit votes of the first view in which the last block is certified arrive.
    net.lose = |message| match message {
        Message::Vote(vote) => {
            vote.kind == VoteKind::Commit
                && vote.height.get() == 3
                && vote.round == Round::new(Epoch::ZERO, View::new(3))
        }
        _ => false,
    };
    net.set_waiting(true);
    net.run(3_000);
    assert!((0..4).all(|at| net.height(at) > 6));
    let opening = &net.nodes[0].disk.contexts[1].opening;
    assert_eq!((opening.height.get(), opening.round.view > View::new(3)), (3, true), "a tail finalized the last block");
}

#[test]
fn a_leader_who_proposes_two_blocks_is_caught_and_harmless() {
    let mut net = Net::started(4, 100);
    net.run(100);
    let round = Round::new(Epoch::ZERO, View::new(1));
    let leader = net.leader(round);
    net.crash(leader);
    let justify = Certificate::genesis(GENESIS);
    for payload in [b"one", b"two"] {
        let offer = Offer::Block(block(round, net.nodes[leader].id, &justify, payload));
        let newest = Newest { high: justify.clone(), timeout: None, commit: None };
        let key = &super::harness::keys(4)[leader];
        let message =
            Unsigned::Proposal { round, index: leader as u16, offer, newest }.sign(&super::harness::CHAIN, key);
        (0..4).filter(|to| *to != leader).for_each(|to| net.deliver(leader, to, message.clone()));
    }
    net.run(5_000);
    for at in (0..4).filter(|at| *at != leader) {
        assert_eq!(net.nodes[at].evidence.len(), 1);
        assert_eq!(net.nodes[at].evidence[0].node, net.nodes[leader].id);
        assert!(net.height(at) >= 1);
    }
}

#[test]
fn slow_links_raise_the_view_time_until_views_end_in_time() {
    let mut net = Net::started(4, 1_000);
    net.set_waiting(true);
    net.run(2_000);
    let timeout = |net: &Net| net.nodes[0].replica.as_ref().map_or(0, |replica| replica.status().view_timeout.get());
    assert!(timeout(&net) < 200, "a fast network has short views");
    net.hop = 400;
    net.run(40_000);
    let before = net.height(0);
    net.run(20_000);
    assert!(net.height(0) >= before + 22, "a view of 800 ms ends by its QC, not by its timer");
    assert!(timeout(&net) > 800);
}

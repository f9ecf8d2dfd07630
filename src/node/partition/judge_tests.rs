//! When a node says that it is partitioned, halted or behind, and when it must not.

use proptest::prelude::*;

use super::judge::{AWAY, Heard, Judge, Reach, Seen};
use crate::types::{Millis, NodeId};
use crate::wire::{Validator, ValidatorSet};

const LOOK: u64 = 500;

/// Validators of these weights as the first of them sees them, or as a node that only follows.
struct View {
    set: ValidatorSet,
    me: NodeId,
    judge: Judge,
    now: u64,
    final_at: u64,
    /// When each was heard last, itself and through others.
    direct: Vec<u64>,
    relayed: Vec<u64>,
    behind: u64,
    idle: u64,
    paused: bool,
    changes: Vec<(u64, Reach)>,
}

fn node(n: usize) -> NodeId {
    NodeId::from_bytes([u8::try_from(n).expect("few") + 1; 32])
}

impl View {
    fn new(weights: &[u64], validates: bool) -> Self {
        let member = |(n, power): (usize, &u64)| Validator { node: node(n), power: *power };
        Self {
            set: ValidatorSet::new(weights.iter().enumerate().map(member).collect()).expect("a set"),
            me: if validates { node(0) } else { node(200) },
            judge: Judge::default(),
            now: 1_000_000,
            final_at: 1_000_000,
            direct: vec![1_000_000; weights.len()],
            relayed: vec![1_000_000; weights.len()],
            behind: 0,
            idle: 2_000,
            paused: false,
            changes: Vec::new(),
        }
    }

    fn look(&mut self) {
        let age = |at: u64| Some(Millis::new(self.now - at));
        let others = (0..self.set.len()).filter(|n| node(*n) != self.me);
        let heard = others.map(|n| Heard {
            node: node(n),
            power: self.set.members().iter().find(|member| member.node == node(n)).map_or(0, |member| member.power),
            direct: age(self.direct[n]),
            relayed: age(self.relayed[n]),
        });
        let seen = Seen {
            now: Millis::new(self.now),
            final_at: Millis::new(self.final_at),
            set: &self.set,
            me: self.me,
            heard: heard.collect(),
            behind: self.behind,
            idle: Millis::new(self.idle),
            paused: self.paused,
        };
        if self.judge.look(&seen) {
            self.changes.push((self.now, self.judge.verdict().reach));
        }
    }

    /// So much time, in which these are heard and blocks become final or not.
    fn pass(&mut self, ms: u64, heard: &[usize], relayed: &[usize], finality: bool) {
        for _ in 0..ms / LOOK {
            self.now += LOOK;
            heard.iter().for_each(|n| self.direct[*n] = self.now);
            relayed.iter().for_each(|n| self.relayed[*n] = self.now);
            if finality {
                self.final_at = self.now;
            }
            self.look();
        }
    }

    fn reach(&self) -> Reach {
        self.judge.verdict().reach
    }
    fn missing(&self) -> Vec<NodeId> {
        self.judge.verdict().missing.iter().map(|missing| missing.node).collect()
    }
}

#[test]
fn a_minority_says_so_within_ten_seconds_with_who_is_missing_and_goes_on_with_the_next_block() {
    for (weights, heard, gone) in [
        (vec![1, 1, 1, 1], vec![1], vec![2, 3]),
        (vec![1, 1, 1, 1], vec![], vec![1, 2, 3]),
        (vec![1, 1, 1, 1, 1], vec![1, 2], vec![3, 4]),
        (vec![1; 7], vec![1, 2, 3], vec![4, 5, 6]),
        (vec![2, 2, 2, 9], vec![1, 2], vec![3]),
    ] {
        let mut view = View::new(&weights, true);
        let all: Vec<usize> = (1..weights.len()).collect();
        view.pass(5_000, &all, &all, true);
        let cut = view.now;
        view.pass(10_000, &heard, &heard, false);
        assert_eq!(view.reach(), Reach::Partitioned, "{weights:?}");
        assert_eq!(view.missing(), gone.iter().map(|n| node(*n)).collect::<Vec<_>>());
        assert!(view.judge.verdict().missing.iter().all(|missing| missing.since.get() == cut && !missing.relayed));
        assert_eq!(
            view.judge.verdict().total - view.judge.verdict().heard,
            gone.iter().map(|n| weights[*n]).sum::<u64>()
        );
        view.pass(500, &all, &all, true);
        assert_eq!((view.reach(), view.missing()), (Reach::Ok, Vec::new()));
    }
}

#[test]
fn a_majority_that_goes_on_names_who_is_away_and_is_well() {
    let mut view = View::new(&[1; 4], true);
    view.pass(60_000, &[1, 2], &[1, 2], true);
    assert_eq!((view.reach(), view.missing(), view.changes.len()), (Reach::Ok, vec![node(3)], 0));
}

#[test]
fn an_idle_network_raises_no_alarm() {
    let mut view = View::new(&[1; 4], true);
    view.idle = 60_000;
    for _ in 0..5 {
        view.pass(60_000, &[1, 2, 3], &[], false);
        view.final_at = view.now;
    }
    assert_eq!(view.changes, [], "{:?}", view.judge);
}

#[test]
fn a_quorum_that_makes_nothing_final_has_halted() {
    let mut view = View::new(&[1; 4], true);
    view.pass(9_500, &[1, 2, 3], &[], false);
    assert_eq!(view.reach(), Reach::Ok);
    view.pass(1_500, &[1, 2, 3], &[], false);
    assert_eq!(view.reach(), Reach::Halted);
    view.pass(500, &[1, 2, 3], &[], true);
    assert_eq!(view.reach(), Reach::Ok);
}

#[test]
fn who_is_reached_again_is_behind_until_it_has_the_blocks() {
    let mut view = View::new(&[1; 4], true);
    view.pass(20_000, &[], &[], false);
    assert_eq!(view.reach(), Reach::Partitioned);
    view.behind = 200;
    view.pass(500, &[1, 2, 3], &[1, 2, 3], false);
    assert_eq!(view.reach(), Reach::Behind);
    view.behind = 3;
    view.pass(500, &[1, 2, 3], &[1, 2, 3], true);
    assert_eq!(view.reach(), Reach::Ok);
}

#[test]
fn links_alone_do_not_end_a_partition_a_final_block_does() {
    let mut view = View::new(&[1; 4], true);
    view.pass(20_000, &[1], &[1], false);
    view.pass(1_500, &[1, 2, 3], &[], false);
    assert_eq!(view.reach(), Reach::Partitioned, "not at once");
    view.pass(1_500, &[1, 2, 3], &[], false);
    assert_eq!(view.reach(), Reach::Halted, "a quorum is in reach, and still there is no block");
    view.pass(500, &[1, 2, 3], &[], true);
    assert_eq!(view.reach(), Reach::Ok);
}

#[test]
fn a_follower_hears_validators_through_others_and_a_validator_needs_the_link() {
    for (validates, reach) in [(false, Reach::Halted), (true, Reach::Partitioned)] {
        let mut view = View::new(&[1; 4], validates);
        view.pass(20_000, &[1], &[0, 1, 2, 3], false);
        assert_eq!(view.reach(), reach, "validates: {validates}");
        assert!(view.judge.verdict().missing.iter().all(|missing| missing.relayed));
    }
    let mut follower = View::new(&[1; 4], false);
    follower.pass(10_000, &[], &[], false);
    assert_eq!((follower.reach(), follower.missing().len()), (Reach::Partitioned, 4));
}

#[test]
fn one_validator_alone_is_a_quorum() {
    let mut view = View::new(&[1], true);
    view.pass(9_000, &[], &[], false);
    assert_eq!(view.reach(), Reach::Ok);
}

#[test]
fn a_node_that_starts_or_wakes_up_listens_first() {
    let mut view = View::new(&[1; 4], true);
    view.pass(60_000, &[1, 2, 3], &[], true);
    view.now += 3_600_000;
    view.look();
    view.pass(5_000, &[], &[], false);
    assert_eq!(
        (view.reach(), view.missing().len()),
        (Reach::Ok, 0),
        "it has heard nobody for an hour and just woke up"
    );
    view.pass(1_000, &[1, 2, 3], &[], true);
    assert_eq!(view.changes, []);
    view.now += 3_600_000;
    view.pass(10_000, &[], &[], false);
    assert_eq!(view.reach(), Reach::Partitioned, "nobody is there after it");
    view.now += 3_600_000;
    view.pass(5_000, &[1, 2, 3], &[], false);
    assert_ne!(view.reach(), Reach::Ok, "a break is no final block");
}

#[test]
fn a_node_that_takes_nothing_in_for_want_of_space_blames_nobody() {
    let mut view = View::new(&[1; 4], true);
    view.paused = true;
    view.pass(60_000, &[], &[], false);
    assert_eq!((view.reach(), view.missing().len()), (Reach::Ok, 0));
}

#[test]
fn links_that_flap_every_second_do_not_make_the_verdict_flap() {
    let mut view = View::new(&[1; 4], true);
    for second in 0..120 {
        let up: &[usize] = if second % 2 == 0 { &[1, 2, 3] } else { &[] };
        // Every fifth second a block gets through.
        view.pass(1_000, up, up, second % 5 == 0);
    }
    assert_eq!(view.changes, [], "{:?}", view.judge);
}

proptest! {
    /// Whatever is heard, and whenever a block becomes final: a bad verdict takes its time, and none comes with recent blocks.
    #[test]
    fn no_schedule_makes_a_verdict_without_grounds_or_many_of_them(
        steps in prop::collection::vec((0_u8..16, any::<bool>(), 0_u64..3), 1..400),
    ) {
        let mut view = View::new(&[1; 4], true);
        for (heard, finality, behind) in steps {
            let heard: Vec<usize> = (0..4).filter(|n| heard & (1 << n) != 0).collect();
            view.behind = behind;
            view.pass(LOOK, &heard, &[], finality);
            let verdict = view.judge.verdict();
            let heard_late = |n: &usize| view.now - view.direct[*n] > AWAY.get();
            let away: Vec<_> = (1..4).filter(heard_late).map(node).collect();
            prop_assert_eq!(view.missing(), away);
            if view.now == view.final_at {
                prop_assert_eq!(verdict.reach, Reach::Ok);
            }
            let turned = view.changes.last().is_some_and(|(at, _)| *at == view.now);
            if turned && verdict.reach == Reach::Partitioned {
                prop_assert!(view.now - view.final_at > 6_000 && verdict.heard < verdict.quorum);
            }
        }
        let partitions: Vec<u64> =
            view.changes.iter().filter(|(_, reach)| *reach == Reach::Partitioned).map(|(at, _)| *at).collect();
        prop_assert!(partitions.windows(2).all(|pair| pair[1] - pair[0] >= 2_000), "{:?}", view.changes);
    }
}

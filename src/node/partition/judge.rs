//! Judge: whether this node is on the losing side of a partition, from what it heard and when.
//!
//! Pure: time is an argument. It rests on two facts that nobody can pretend to this node: how long ago a block became final
//! here, and how long ago each validator was heard. A verdict against the network needs the first to be late, so that an
//! idle network, a slow leader or a link that flaps raises no alarm; and it goes with the next final block, not before.

use crate::types::{Millis, NodeId};
use crate::wire::ValidatorSet;

/// A validator that was not heard for so long is away. Connections are pinged more often than half of that.
pub const AWAY: Millis = Millis::new(8_000);
/// Somebody's word that came by any way so much later than the last answer came through others. Answers are asked for more often.
const LATER: Millis = Millis::new(4_000);
/// Without a final block for so long, and for so many idle intervals and some more, a quorum may be out of reach.
const LATE: Millis = Millis::new(6_000);
const LATE_INTERVALS: u64 = 2;
const LATE_MORE: Millis = Millis::new(2_000);
/// Without one for so long, and for so many idle intervals, something is wrong although a quorum is in reach.
const HALTED: Millis = Millis::new(10_000);
const HALTED_INTERVALS: u64 = 5;
/// A bad verdict gives way to another bad one only when that has held for so long.
const HOLD: Millis = Millis::new(2_000);
/// Between two looks this much means that the process or the machine stood still: nothing could be heard.
const ASLEEP: Millis = Millis::new(3_000);
/// A node so many blocks behind the others is not called behind: what validators say of their height is some seconds old.
pub const BEHIND_MAX: u64 = 32;

/// How the network looks from here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// Blocks become final.
    #[default]
    Ok,
    /// Others have blocks as final that this node does not have yet.
    Behind,
    /// A quorum is in reach, and still nothing becomes final.
    Halted,
    /// Validators of less weight than a quorum are in reach, and nothing becomes final here. It may do so elsewhere.
    Partitioned,
}

impl Reach {
    /// Its name in answers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Behind => "behind",
            Self::Halted => "halted",
            Self::Partitioned => "partitioned",
        }
    }
}

/// When a validator was heard last.
#[derive(Clone, Copy, Debug)]
pub struct Heard {
    /// Which one.
    pub node: NodeId,
    /// Its weight.
    pub power: u64,
    /// Time since it answered this node, if it ever did.
    pub direct: Option<Millis>,
    /// Time since its own word came here, by whatever way.
    pub relayed: Option<Millis>,
}

/// What is known at one moment.
#[derive(Clone, Debug)]
pub struct Seen<'a> {
    /// The moment, by the node's clock.
    pub now: Millis,
    /// When the last block became final here.
    pub final_at: Millis,
    /// The validators that vote now.
    pub set: &'a ValidatorSet,
    /// This node.
    pub me: NodeId,
    /// The other ones of them.
    pub heard: Vec<Heard>,
    /// Blocks that validators have as final and this node does not.
    pub behind: u64,
    /// How long an idle network waits between two blocks.
    pub idle: Millis,
    /// The node takes nothing in, for reasons of its own.
    pub paused: bool,
}

/// A validator that is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Which one.
    pub node: NodeId,
    /// Its weight.
    pub power: u64,
    /// When it was heard last, or when this node began to listen.
    pub since: Millis,
    /// Its word still comes here through others: it runs, and only the link with it is gone.
    pub relayed: bool,
}

/// What the judge says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// How the network looks.
    pub reach: Reach,
    /// Since when.
    pub since: Millis,
    /// Who is away, by id. There may be some while all is well.
    pub missing: Vec<Missing>,
    /// Weight of the validators in reach, this node's own with them.
    pub heard: u64,
    /// The least weight that makes a block final.
    pub quorum: u64,
    /// Weight of all.
    pub total: u64,
    /// How many validators there are.
    pub validators: usize,
}

/// Keeps the verdict from look to look.
#[derive(Debug, Default)]
pub struct Judge {
    verdict: Verdict,
    /// When it was looked last, and since when this node has been listening without a break.
    looked: Option<Millis>,
    listening: Millis,
    /// The last final block's time when a bad verdict began: it ends with a later one.
    final_before: Option<Millis>,
    /// Another bad verdict that has not held long enough, and since when.
    next: Option<(Reach, Millis)>,
}

impl Judge {
    /// The verdict after the last look.
    pub fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    /// Looks again. True when `reach` changed.
    pub fn look(&mut self, seen: &Seen<'_>) -> bool {
        let gap = self.looked.map(|looked| seen.now.saturating_sub(looked));
        self.looked = Some(seen.now);
        if seen.paused || gap.is_none_or(|gap| gap > ASLEEP) {
            self.listening = seen.now;
            self.next = None;
        }
        let listened = seen.now.saturating_sub(self.listening);
        self.count(seen, listened);
        let wanted = self.wanted(seen, seen.now.saturating_sub(seen.final_at).min(listened));
        match wanted {
            reach if reach == self.verdict.reach => {
                self.next = None;
                false
            }
            reach if !is_bad(self.verdict.reach) || !is_bad(reach) => self.turn(reach, seen),
            reach => match self.next {
                Some((next, since)) if next == reach => {
                    seen.now.saturating_sub(since) >= HOLD && self.turn(reach, seen)
                }
                _ => {
                    self.next = Some((reach, seen.now));
                    false
                }
            },
        }
    }

    fn turn(&mut self, reach: Reach, seen: &Seen<'_>) -> bool {
        self.next = None;
        self.final_before = is_bad(reach).then_some(seen.final_at);
        (self.verdict.reach, self.verdict.since) = (reach, seen.now);
        true
    }

    /// Who is away, and how much weight is not.
    fn count(&mut self, seen: &Seen<'_>, listened: Millis) {
        let votes = seen.set.index_of(&seen.me).is_some();
        let missing = |heard: &Heard| {
            // Votes come by direct links alone. Who only follows is served by whoever has the blocks.
            let answered = heard.direct.unwrap_or(Millis::new(u64::MAX));
            let relayed = heard.relayed.is_some_and(|age| age <= AWAY && age.saturating_add(LATER) <= answered);
            let age = if votes { heard.direct } else { heard.direct.into_iter().chain(heard.relayed).min() };
            let age = age.unwrap_or(Millis::new(u64::MAX)).min(seen.now.saturating_sub(self.listening));
            let since = seen.now.saturating_sub(age);
            let (node, power) = (heard.node, heard.power);
            (age.min(listened) > AWAY).then_some(Missing { node, power, since, relayed })
        };
        let mut missing: Vec<_> = seen.heard.iter().filter_map(missing).collect();
        missing.sort_by_key(|missing| missing.node);
        // Who was away before stays away since then, also over a break in which nobody could be heard.
        for now in &mut missing {
            let before = self.verdict.missing.iter().find(|before| before.node == now.node);
            now.since = before.map_or(now.since, |before| before.since.min(now.since));
        }
        let away: u64 = missing.iter().map(|missing| missing.power).sum();
        self.verdict.missing = missing;
        self.verdict.total = seen.set.total_power();
        self.verdict.quorum = seen.set.quorum();
        self.verdict.heard = self.verdict.total.saturating_sub(away);
        self.verdict.validators = seen.set.len();
    }

    fn wanted(&self, seen: &Seen<'_>, age: Millis) -> Reach {
        let late = Millis::new(seen.idle.get().saturating_mul(LATE_INTERVALS)).saturating_add(LATE_MORE).max(LATE);
        let halted = Millis::new(seen.idle.get().saturating_mul(HALTED_INTERVALS)).max(HALTED);
        let out_of_reach = !seen.set.is_quorum(self.verdict.heard);
        // A bad verdict waits for a block, whatever the time since the last one looks like after a break.
        let still = self.final_before.is_some_and(|before| seen.final_at <= before);
        if age > late && out_of_reach {
            return Reach::Partitioned;
        }
        if age <= halted && !still {
            return if seen.behind > BEHIND_MAX { Reach::Behind } else { self.fair(age, late) };
        }
        if seen.behind > 0 {
            return Reach::Behind;
        }
        if age > halted {
            return Reach::Halted;
        }
        match self.verdict.reach {
            Reach::Partitioned if age > late => Reach::Halted,
            reach => reach,
        }
    }

    /// Blocks become final. One that came late does not make an end of a bad verdict that has begun since.
    fn fair(&self, age: Millis, late: Millis) -> Reach {
        if is_bad(self.verdict.reach) && age > late { self.verdict.reach } else { Reach::Ok }
    }
}

/// Whether a verdict says that nothing becomes final.
pub const fn is_bad(reach: Reach) -> bool {
    matches!(reach, Reach::Halted | Reach::Partitioned)
}

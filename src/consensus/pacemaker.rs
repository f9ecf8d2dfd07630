//! How long a view may take (protocol rule 18), and the timers that are running.
//!
//! All times are milliseconds of the clock given to `Replica::on`.

use std::collections::BTreeMap;

use crate::types::{Millis, Round, limits};

use super::context::Config;
use super::event::{Action, Timer};

/// A view has this many times the measured delay from proposal to QC.
const VIEW_DELAYS: u64 = 6;
/// The cap is at least this many base timeouts.
const CAP_BASES: u64 = 8;

/// View times: measured, backed off, and what the current view has seen so far.
pub struct Pacemaker {
    base: Millis,
    floor: Millis,
    cap: Millis,
    idle: Millis,
    /// Smoothed delay from proposal to QC, in eighths of a millisecond.
    measured: Option<u64>,
    backoff: u32,
    entered: Millis,
    /// The view was entered after a timeout: its leader proposes at once.
    eager: bool,
    waiting: Option<Millis>,
    offered: Option<Millis>,
    offers: BTreeMap<Round, Millis>,
}

impl Pacemaker {
    /// Before the first view.
    pub fn new(config: &Config) -> Self {
        Self {
            base: config.view_base,
            floor: config.view_floor,
            cap: config.view_cap,
            idle: config.idle_interval,
            measured: None,
            backoff: 0,
            entered: Millis::ZERO,
            eager: false,
            waiting: None,
            offered: None,
            offers: BTreeMap::new(),
        }
    }

    /// A view begins.
    pub fn enter(&mut self, now: Millis, eager: bool) {
        self.entered = now;
        self.eager = eager;
        self.offered = None;
        if eager {
            self.backoff = self.backoff.saturating_add(1);
        }
    }

    /// The view that ends was given up here, and has its QC all the same. Whoever is always too early never casts a commit
    /// vote, and the others may need it, so this backs off too.
    pub fn too_early(&mut self) {
        self.backoff = self.backoff.saturating_add(1);
    }

    /// The view's proposal is there.
    pub fn offered(&mut self, round: Round, now: Millis) {
        self.offered.get_or_insert(now);
        self.offers.entry(round).or_insert(now);
        while self.offers.len() > usize::try_from(limits::PAST_VIEWS_MAX).unwrap_or(1) {
            self.offers.pop_first();
        }
    }

    /// A view's QC is there, in time or late: one more measurement. How much one of them can raise the delay is bounded,
    /// because a QC may be late from an outage rather than from a slow network.
    pub fn certified(&mut self, round: Round, now: Millis) {
        if let Some(offered) = self.offers.remove(&round) {
            let sample = now.saturating_sub(offered).min(self.base()).get();
            let old = self.measured.unwrap_or(sample.saturating_mul(8));
            self.measured = Some(old - old / 8 + sample);
        }
    }

    /// A block is final: back-off ends.
    pub fn finalized(&mut self) {
        self.backoff = 0;
    }

    /// Whether transactions wait here.
    pub fn waiting(&mut self, waiting: bool, now: Millis) {
        self.waiting = waiting.then(|| self.waiting.unwrap_or(now));
    }

    /// Whether the view was entered after a timeout.
    pub fn is_eager(&self) -> bool {
        self.eager
    }

    /// When a leader without transactions proposes an empty block.
    pub fn idle_end(&self) -> Millis {
        match self.waiting {
            // Some of what waits may already lie in a block that is not final; then nothing else would end the view.
            Some(since) => since.max(self.entered).saturating_add(Millis::new(self.base().get() / 4)),
            None => self.entered.saturating_add(self.idle),
        }
    }

    /// While transactions wait, the time within which the next view is well under way: twice what a proposal usually takes
    /// to its QC.
    pub fn busy(&self) -> Option<Millis> {
        self.waiting.and(self.measured).map(|eighths| Millis::new(eighths / 4))
    }

    /// Time for a view without back-off.
    pub fn base(&self) -> Millis {
        match self.measured {
            None => self.base.max(self.floor),
            Some(eighths) => Millis::new(eighths.saturating_mul(VIEW_DELAYS) / 8).max(self.floor),
        }
    }

    /// Time for a view.
    pub fn timeout(&self) -> Millis {
        let base = self.base().get();
        let cap = self.cap.get().max(base.saturating_mul(CAP_BASES));
        Millis::new(base.saturating_mul(1 << self.backoff.min(20)).min(cap))
    }

    /// When the current view has taken too long. Without transactions and without a proposal, its leader may wait for
    /// the idle interval first.
    pub fn deadline(&self) -> Millis {
        let short = if self.eager { Some(self.entered) } else { self.waiting.map(|since| since.max(self.entered)) };
        let idle = self.entered.saturating_add(self.idle);
        let start = [short, self.offered].into_iter().flatten().min().unwrap_or(idle).min(idle);
        start.saturating_add(self.timeout())
    }
}

/// The timers as the core wants them and as the shell has them.
#[derive(Default)]
pub struct Timers {
    wanted: BTreeMap<Timer, Millis>,
    running: BTreeMap<Timer, Millis>,
}

impl Timers {
    /// Wants the timer to run out then, or not at all.
    pub fn at(&mut self, timer: Timer, due: Option<Millis>) {
        match due {
            Some(due) => self.wanted.insert(timer, due),
            None => self.wanted.remove(&timer),
        };
    }

    /// The shell says that the timer has run out; whether it was due.
    pub fn expired(&mut self, timer: Timer, now: Millis) -> bool {
        self.running.remove(&timer);
        let due = self.wanted.get(&timer).is_some_and(|due| *due <= now);
        if due {
            self.wanted.remove(&timer);
        }
        due
    }

    /// What the shell has to start and stop.
    pub fn sync(&mut self, now: Millis, out: &mut Vec<Action>) {
        for (timer, due) in &self.wanted {
            if self.running.get(timer) != Some(due) {
                out.push(Action::SetTimer { timer: *timer, after: due.saturating_sub(now) });
            }
        }
        for timer in self.running.keys().filter(|timer| !self.wanted.contains_key(timer)) {
            out.push(Action::StopTimer(*timer));
        }
        self.running.clone_from(&self.wanted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consensus::tests::harness::{config, set};
    use crate::types::{Epoch, View};

    fn pacemaker() -> Pacemaker {
        Pacemaker::new(&config(set(4).members()[0].node, 10))
    }

    fn round(view: u64) -> Round {
        Round::new(Epoch::ZERO, View::new(view))
    }

    #[test]
    fn an_idle_view_outlasts_the_idle_interval_and_a_busy_one_does_not() {
        let mut pacemaker = pacemaker();
        pacemaker.enter(Millis::new(1_000), false);
        assert_eq!(pacemaker.deadline(), Millis::new(1_000 + 2_000 + 500));
        pacemaker.waiting(true, Millis::new(1_700));
        assert_eq!(pacemaker.deadline(), Millis::new(1_700 + 500));
        pacemaker.waiting(false, Millis::new(1_800));
        pacemaker.offered(round(1), Millis::new(1_900));
        assert_eq!(pacemaker.deadline(), Millis::new(1_900 + 500));
    }

    #[test]
    fn back_off_doubles_to_the_cap_and_ends_with_a_final_block() {
        let mut pacemaker = pacemaker();
        let mut timeouts = Vec::new();
        for _ in 0..6 {
            timeouts.push(pacemaker.timeout().get());
            pacemaker.enter(Millis::ZERO, true);
        }
        assert_eq!(timeouts, [500, 1_000, 2_000, 4_000, 5_000, 5_000]);
        pacemaker.enter(Millis::ZERO, false);
        assert_eq!(pacemaker.timeout(), Millis::new(5_000), "a view that was left in time is no reason");
        pacemaker.finalized();
        assert_eq!(pacemaker.timeout(), Millis::new(500));
        pacemaker.too_early();
        pacemaker.enter(Millis::ZERO, false);
        assert_eq!(pacemaker.timeout(), Millis::new(1_000));
    }

    #[test]
    fn the_view_time_follows_the_measured_delay_within_floor_and_one_outlier() {
        let mut pacemaker = pacemaker();
        for view in 1..50 {
            pacemaker.offered(round(view), Millis::new(view * 100));
            pacemaker.certified(round(view), Millis::new(view * 100 + 40));
        }
        assert_eq!(pacemaker.base(), Millis::new(240));
        pacemaker.offered(round(50), Millis::new(5_000));
        pacemaker.certified(round(50), Millis::new(60_000));
        assert!(pacemaker.base() < Millis::new(400), "an outage is no delay of the network");
        for view in 51..150 {
            pacemaker.offered(round(view), Millis::new(view * 1_000));
            pacemaker.certified(round(view), Millis::new(view * 1_000 + 1));
        }
        assert_eq!(pacemaker.base(), Millis::new(100), "the floor");
    }

    #[test]
    fn a_timer_that_was_moved_does_not_run_out_early() {
        let (mut timers, mut out) = (Timers::default(), Vec::new());
        timers.at(Timer::View, Some(Millis::new(100)));
        timers.sync(Millis::ZERO, &mut out);
        timers.at(Timer::View, Some(Millis::new(200)));
        assert!(!timers.expired(Timer::View, Millis::new(100)));
        timers.sync(Millis::new(100), &mut out);
        assert!(matches!(out.last(), Some(Action::SetTimer { timer: Timer::View, after }) if after.get() == 100));
        assert!(timers.expired(Timer::View, Millis::new(200)));
    }
}

//! The core's timers: at most one of each kind, by the clock that the core is given.

use std::collections::BTreeMap;

use crate::consensus::Timer;
use crate::types::Millis;

/// Deadlines of the running timers.
#[derive(Default)]
pub struct Timers(BTreeMap<Timer, Millis>);

impl Timers {
    /// Starts a timer, in place of one of the same kind.
    pub fn set(&mut self, timer: Timer, at: Millis) {
        self.0.insert(timer, at);
    }
    /// Stops a timer.
    pub fn stop(&mut self, timer: Timer) {
        self.0.remove(&timer);
    }
    /// The nearest deadline.
    pub fn next(&self) -> Option<Millis> {
        self.0.values().min().copied()
    }
    /// Takes out every timer whose time has come.
    pub fn due(&mut self, now: Millis) -> Vec<Timer> {
        let due: Vec<_> = self.0.iter().filter(|(_, at)| **at <= now).map(|(timer, _)| *timer).collect();
        self.0.retain(|_, at| *at > now);
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_fires_once_and_a_second_start_replaces_the_first() {
        let mut timers = Timers::default();
        timers.set(Timer::View, Millis::new(10));
        timers.set(Timer::View, Millis::new(30));
        timers.set(Timer::Idle, Millis::new(20));
        assert_eq!(timers.next(), Some(Millis::new(20)));
        assert_eq!(timers.due(Millis::new(20)), [Timer::Idle]);
        timers.stop(Timer::View);
        assert_eq!(timers.next(), None);
    }
}

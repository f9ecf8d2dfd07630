//! The node's clock: milliseconds since the Unix epoch that never go back.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::types::Millis;

/// Wall time at the start, carried on by the monotonic clock: a step of the system's clock moves nothing here.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
    start_unix: Millis,
}

impl Clock {
    /// A clock that begins now.
    pub fn start() -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { start: Instant::now(), start_unix: Millis::new(u64::try_from(unix.as_millis()).unwrap_or(u64::MAX)) }
    }
    /// A clock that shows this time now.
    #[cfg(test)]
    pub fn at(now: Millis) -> Self {
        Self { start: Instant::now(), start_unix: now }
    }
    /// The time.
    pub fn now(&self) -> Millis {
        let passed = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.start_unix.saturating_add(Millis::new(passed))
    }
}

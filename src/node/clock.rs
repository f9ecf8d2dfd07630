//! The node's clock: milliseconds since the Unix epoch that never go back.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

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

/// Waits for a random time below this, so that two nodes which were in each other's way do not keep step.
pub async fn random_pause(most: Duration) {
    let mut random = [0; 8];
    let share = getrandom::fill(&mut random).map_or(1.0, |()| u64::from_le_bytes(random) as f64 / u64::MAX as f64);
    tokio::time::sleep(most.mul_f64(share)).await;
}

//! Pace: so many bytes a second and no more.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// What was not used may be used later, as far as it is from this long ago.
const BURST: Duration = Duration::from_millis(250);

/// A limit that several tasks share.
#[derive(Debug)]
pub struct Pace {
    bytes_per_s: u64,
    /// When what was booked so far is through.
    through: Mutex<Option<Instant>>,
}

impl Pace {
    /// So many bytes a second; at least one.
    pub fn new(bytes_per_s: u64) -> Self {
        Self { bytes_per_s: bytes_per_s.max(1), through: Mutex::new(None) }
    }

    /// Books bytes, and waits until they may go.
    pub async fn spend(&self, bytes: u64) {
        let now = Instant::now();
        let until = {
            let mut through = self.through.lock().unwrap_or_else(PoisonError::into_inner);
            let until = book(*through, now, bytes, self.bytes_per_s);
            *through = Some(until);
            until
        };
        if until > now {
            tokio::time::sleep_until(until).await;
        }
    }
}

/// When bytes that are booked now are through.
fn book(through: Option<Instant>, now: Instant, bytes: u64, bytes_per_s: u64) -> Instant {
    let earliest = now.checked_sub(BURST).unwrap_or(now);
    let from = through.map_or(earliest, |through| through.max(earliest));
    let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(bytes_per_s);
    // A day at a time is as good as for ever.
    let takes = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)).min(Duration::from_secs(86_400));
    from + takes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_go_at_the_rate_and_idle_time_is_not_saved_up() {
        let now = Instant::now() + Duration::from_secs(3_600);
        let first = book(None, now, 1_000, 1_000);
        assert_eq!(first, now - BURST + Duration::from_secs(1));
        let second = book(Some(first), now, 500, 1_000);
        assert_eq!(second, first + Duration::from_millis(500));
        let later = now + Duration::from_secs(100);
        assert_eq!(book(Some(second), later, 1_000, 1_000), later - BURST + Duration::from_secs(1));
    }

    #[test]
    fn no_number_overflows() {
        let now = Instant::now();
        assert!(book(Some(now), now, u64::MAX, 1) <= now + Duration::from_secs(86_400));
    }
}

//! What a node counts of the files that are put on it, since it started.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::node::handle::NodeError;
use crate::types::{FileId, Millis};

type Level = Gauge<i64, AtomicI64>;
type Count = Counter<u64, AtomicU64>;

/// Pending puts whose begin is remembered.
const PENDING_MAX: usize = 4_096;
/// Buckets of the time to quorum: the first ends at 10 ms, each further one half as much later, the last at 21 minutes.
const BUCKETS: u16 = 30;
const FIRST_S: f64 = 0.01;
const STEP: f64 = 1.5;

/// Times to quorum, in the same buckets as on the metrics page.
#[derive(Clone, Debug, Default)]
struct Times {
    counts: [u64; BUCKETS as usize + 1],
    sum: Duration,
}

/// The times to quorum in short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quorum {
    /// How many there were.
    pub count: u64,
    /// Their mean.
    pub average: Duration,
    /// 99 of 100 took at most so long: the end of a bucket.
    pub p99: Duration,
}

impl Times {
    fn edges() -> impl Iterator<Item = f64> {
        exponential_buckets(FIRST_S, STEP, BUCKETS)
    }
    fn observe(&mut self, time: Duration) {
        let at = Self::edges().position(|edge| time.as_secs_f64() <= edge).unwrap_or(usize::from(BUCKETS));
        if let Some(count) = self.counts.get_mut(at) {
            *count += 1;
        }
        self.sum += time;
    }
    fn summary(&self) -> Option<Quorum> {
        let count: u64 = self.counts.iter().sum();
        let average = self.sum.checked_div(u32::try_from(count).ok()?)?;
        let need = count.saturating_mul(99).div_ceil(100);
        let mut sum = 0;
        let reached = |count: &u64| {
            sum += count;
            sum >= need
        };
        let bucket = self.counts.iter().position(reached)?;
        // Beyond the last edge there is no end to tell; then it is at least that.
        let end = Self::edges().nth(bucket).or_else(|| Self::edges().last()).map(Duration::from_secs_f64);
        Some(Quorum { count, average, p99: end.unwrap_or_default() })
    }
}

/// Counters of puts.
#[derive(Clone, Debug)]
pub struct Counts {
    /// Puts whose deal became final at once.
    pub fulfilled: Count,
    /// Puts whose deal stayed pending at first.
    pub pending: Count,
    /// Of those, deals that became final later.
    pub completed: Count,
    /// Puts that failed or were broken off: nodes that did not answer, an input that ended early, no finality in time.
    pub failed: Count,
    /// Puts that were refused for what was asked: impossible settings, no credits, over the quota.
    pub refused: Count,
    /// Plaintext of puts that were not in vain.
    pub bytes: Count,
    /// Own files whose deal ends soon.
    pub ending: Level,
    quorum: Histogram,
    times: Arc<Mutex<Times>>,
    begun: Arc<Mutex<BTreeMap<FileId, Millis>>>,
}

impl Counts {
    /// New counters, listed in the registry.
    pub fn register(registry: &mut Registry) -> Self {
        let count = |registry: &mut Registry, name: &str, help: &str| {
            let count = Count::default();
            registry.register(name, help, count.clone());
            count
        };
        let bytes = Count::default();
        registry.register_with_unit("put", "Plaintext put", Unit::Bytes, bytes.clone());
        let ending = Level::default();
        registry.register("files_ending", "Own files whose deal ends soon", ending.clone());
        let quorum = Histogram::new(Times::edges());
        let help = "From asking for receipts to a final deal, of files put here";
        registry.register_with_unit("put_quorum", help, Unit::Seconds, quorum.clone());
        Self {
            fulfilled: count(registry, "puts_final", "Files put whose deal became final at once"),
            pending: count(registry, "puts_pending", "Files put whose deal stayed pending at first"),
            completed: count(registry, "puts_completed", "Pending files whose deal became final later"),
            failed: count(registry, "puts_failed", "Puts that failed or were broken off"),
            refused: count(registry, "puts_refused", "Puts refused for what was asked"),
            bytes,
            ending,
            quorum,
            times: Arc::default(),
            begun: Arc::default(),
        }
    }

    /// A put begins; that it is dropped without an end counts as a failure.
    pub fn begin(&self) -> Attempt {
        Attempt { counts: self.clone(), ended: false }
    }

    /// A file's deal became final so long after its receipts were asked for.
    pub fn reached(&self, after: Duration) {
        self.quorum.observe(after.as_secs_f64());
        self.times.lock().unwrap_or_else(PoisonError::into_inner).observe(after);
    }

    /// Times to quorum since the node started; nothing before the first.
    pub fn quorum(&self) -> Option<Quorum> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner).summary()
    }

    /// The share of puts that were stored, at once or later; nothing before the first. What was refused for what was asked is
    /// left out.
    pub fn success_rate(&self) -> Option<f64> {
        let all = self.fulfilled.get() + self.pending.get() + self.failed.get();
        let stored = self.fulfilled.get() + self.completed.get();
        (all > 0).then(|| (stored as f64 / all as f64).min(1.0))
    }

    /// A file whose deal is pending, since its receipts were asked for.
    pub fn pends(&self, file: FileId, since: Millis) {
        let mut begun = self.begun();
        if begun.len() < PENDING_MAX {
            begun.entry(file).or_insert(since);
        }
    }

    /// Files whose deal was pending when last looked at, and since when.
    pub fn pending_files(&self) -> Vec<(FileId, Millis)> {
        self.begun().iter().map(|(file, since)| (*file, *since)).collect()
    }

    /// A file is no longer pending.
    pub fn settled(&self, file: &FileId) {
        self.begun().remove(file);
    }

    fn begun(&self) -> MutexGuard<'_, BTreeMap<FileId, Millis>> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A put under way.
pub struct Attempt {
    counts: Counts,
    ended: bool,
}

impl Attempt {
    /// The put was stored: plaintext bytes, whether its deal is final, and how long ago its receipts were asked for.
    pub fn stored(mut self, bytes: u64, is_final: bool, asked: Duration) {
        self.ended = true;
        self.counts.bytes.inc_by(bytes);
        if is_final {
            self.counts.fulfilled.inc();
            self.counts.reached(asked);
        } else {
            self.counts.pending.inc();
        }
    }
    /// The put failed.
    pub fn failed(mut self, error: &NodeError) {
        self.ended = true;
        let asked_too_much = matches!(error, NodeError::Bad(_) | NodeError::NotAllowed(_) | NodeError::Rejected { .. });
        let count = if asked_too_much { &self.counts.refused } else { &self.counts.failed };
        count.inc();
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.ended {
            self.counts.failed.inc();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts() -> Counts {
        Counts::register(&mut Registry::default())
    }

    #[test]
    fn the_p99_is_the_end_of_the_bucket_that_99_of_100_are_in() {
        let counts = counts();
        assert_eq!(counts.quorum(), None);
        (0..99).for_each(|_| counts.reached(Duration::from_millis(12)));
        counts.reached(Duration::from_secs(5));
        let quorum = counts.quorum().expect("a hundred");
        assert_eq!((quorum.count, quorum.p99), (100, Duration::from_millis(15)));
        assert_eq!(quorum.average, Duration::from_micros(61_880));
        counts.reached(Duration::from_secs(5));
        counts.reached(Duration::from_secs(90_000));
        assert!(counts.quorum().is_some_and(|now| now.p99 >= Duration::from_secs(5)));
    }

    #[test]
    fn each_put_counts_once_by_how_it_ended() {
        let counts = counts();
        assert_eq!(counts.success_rate(), None);
        counts.begin().stored(10, true, Duration::from_millis(1));
        counts.begin().stored(5, false, Duration::from_millis(1));
        counts.begin().failed(&NodeError::Unavailable("no node".to_owned()));
        counts.begin().failed(&NodeError::Bad("no such settings".to_owned()));
        drop(counts.begin());
        let numbers =
            [&counts.fulfilled, &counts.pending, &counts.failed, &counts.refused, &counts.bytes].map(Count::get);
        assert_eq!(numbers, [1, 1, 2, 1, 15]);
        assert_eq!(counts.success_rate(), Some(0.25));
        counts.completed.inc();
        assert_eq!(counts.success_rate(), Some(0.5));
        assert_eq!(counts.quorum().map(|quorum| quorum.count), Some(1), "what is pending has reached nothing yet");
    }

    #[test]
    fn pending_files_are_bounded_and_keep_their_first_time() {
        let counts = counts();
        let file = |n: usize| FileId::from_bytes(*blake3::hash(&n.to_le_bytes()).as_bytes());
        counts.pends(file(0), Millis::new(5));
        counts.pends(file(0), Millis::new(9));
        assert_eq!(counts.pending_files(), [(file(0), Millis::new(5))]);
        (0..2 * PENDING_MAX).for_each(|n| counts.pends(file(n), Millis::new(1)));
        assert_eq!(counts.pending_files().len(), PENDING_MAX);
        counts.settled(&file(0));
        assert_eq!(counts.pending_files().len(), PENDING_MAX - 1);
    }
}

//! What the keeper counts.

use std::sync::atomic::{AtomicI64, AtomicU64};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

type Level = Gauge<i64, AtomicI64>;
type Count = Counter<u64, AtomicU64>;

/// Counters of audits, scrubbing and repair on this node.
#[derive(Clone, Debug)]
pub struct Counts {
    /// Audits of this node seen.
    pub proofs_due: Count,
    /// Those answered, in full or in part.
    pub proofs_answered: Count,
    /// Those whose time ran out without an answer.
    pub proofs_missed: Count,
    /// Samples asked.
    pub samples: Count,
    /// Samples without a proof.
    pub samples_missing: Count,
    /// Slots that others could take over, as far as this node sees.
    pub queue: Level,
    /// How long the oldest loss is ago, seconds.
    pub oldest: Level,
    /// Slots rebuilt or taken over.
    pub repaired_slots: Count,
    /// Their bytes.
    pub repaired_bytes: Count,
    /// Tries that failed.
    pub repairs_failed: Count,
    /// Slots given to emptier nodes.
    pub given_slots: Count,
    /// Bytes read and checked by scrubbing.
    pub scrubbed_bytes: Count,
    /// Slots found damaged or missing.
    pub damaged_slots: Count,
    /// Seconds from a file's first lost slot to none, seen by whoever took the last.
    pub full_redundancy: Histogram,
}

impl Counts {
    /// New counters, listed in the registry.
    pub fn register(registry: &mut Registry) -> Self {
        let count = |registry: &mut Registry, name: &str, help: &str| {
            let count = Count::default();
            registry.register(name, help, count.clone());
            count
        };
        let bytes = |registry: &mut Registry, name: &str, help: &str| {
            let count = Count::default();
            registry.register_with_unit(name, help, Unit::Bytes, count.clone());
            count
        };
        let (queue, oldest) = (Level::default(), Level::default());
        registry.register("repair_queue", "Slots that this node could take over", queue.clone());
        let help = "Age of the oldest loss that this node sees";
        registry.register_with_unit("repair_oldest_age", help, Unit::Seconds, oldest.clone());
        // From a second to about twelve days.
        let full_redundancy = Histogram::new(exponential_buckets(1.0, 2.0, 21));
        let help = "From a file's first lost slot to none, by whoever took the last";
        registry.register_with_unit("full_redundancy", help, Unit::Seconds, full_redundancy.clone());
        Self {
            proofs_due: count(registry, "storage_proofs_due", "Audits of this node"),
            proofs_answered: count(registry, "storage_proofs_answered", "Audits of this node that it answered"),
            proofs_missed: count(registry, "storage_proofs_missed", "Audits of this node that it did not answer"),
            samples: count(registry, "storage_samples", "Samples that audits asked of this node"),
            samples_missing: count(registry, "storage_samples_missing", "Samples that it had no proof for"),
            queue,
            oldest,
            repaired_slots: count(registry, "repaired_slots", "Slots that this node rebuilt or took over"),
            repaired_bytes: bytes(registry, "repaired", "Their length"),
            repairs_failed: count(registry, "repairs_failed", "Tries of that which failed"),
            given_slots: count(registry, "given_slots", "Slots that this node gave to emptier ones"),
            scrubbed_bytes: bytes(registry, "scrubbed", "Slots read and checked without being asked"),
            damaged_slots: count(registry, "damaged_slots", "Slots found damaged or missing here"),
            full_redundancy,
        }
    }
}

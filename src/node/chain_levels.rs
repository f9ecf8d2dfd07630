//! The ledger's own counts on the metrics page: the same on every node, since genesis.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::measured::Measured;

type Level = Gauge<i64, AtomicI64>;
type Fraction = Gauge<f64, AtomicU64>;
type Count = Counter<u64, AtomicU64>;

/// What is read anew for each page.
#[derive(Clone, Debug)]
pub struct ChainLevels {
    counts: [Count; COUNTS.len()],
    levels: [Level; LEVELS.len()],
    queue_bytes: Level,
    oldest: Fraction,
    availability: Fraction,
}

type Read = fn(&Measured) -> u64;

/// Name, meaning, and where it is.
const COUNTS: &[(&str, &str, Read)] = &[
    ("chain_deals_opened", "Deals opened", |m| m.tally.opened),
    ("chain_deals_quorum", "Deals that got all the receipts they needed", |m| m.tally.reached),
    ("chain_deals_expired", "Deals that ended because too few receipts came in time", |m| m.tally.expired),
    ("chain_deals_withdrawn", "Deals that their owner ended before they had enough receipts", |m| m.tally.withdrawn),
    ("chain_quorum_blocks", "Blocks from opening to quorum, of all deals that reached it", |m| m.tally.quorum_blocks),
    ("chain_slots_lost", "Slots that nobody held any more", |m| m.tally.lost),
    ("chain_slots_restored", "Lost slots that got a holder again while their file could be restored", |m| {
        m.tally.restored
    }),
    ("chain_nodes_given_up", "Storage nodes that were given up", |m| m.tally.absent),
    ("chain_nodes_returned", "Storage nodes that came back after that", |m| m.tally.returned),
    ("chain_audits_passed", "Audits answered in full, by all nodes", |m| m.audits.passed),
    ("chain_audits_failed", "Audits with a sample missed, by all nodes", |m| m.audits.failed),
    ("chain_samples_asked", "Samples that audits asked of all nodes", |m| m.audits.asked),
    ("chain_samples_missed", "Samples that nodes had no proof for", |m| m.audits.missed),
];

const LEVELS: &[(&str, &str, Read)] = &[
    ("chain_proofs_due", "Audits that wait for their answer", |m| m.audits.due),
    ("chain_repair_queue_slots", "Lost slots that wait for repair", |m| m.tally.waiting.now),
    ("chain_storage_nodes", "Storage nodes registered", |m| m.audits.nodes),
    ("chain_storage_nodes_active", "Storage nodes that are not given up", |m| m.audits.active),
    ("chain_quorum_p99_blocks", "Blocks within which 99 of 100 deals reached their quorum, at most", |m| {
        m.tally.quorum_within(99).unwrap_or(0)
    }),
];

impl ChainLevels {
    /// New ones, listed in the registry.
    pub fn register(registry: &mut Registry) -> Self {
        let counts = std::array::from_fn(|at| {
            let (name, help, _) = COUNTS[at];
            let count = Count::default();
            registry.register(name, help, count.clone());
            count
        });
        let levels = std::array::from_fn(|at| {
            let (name, help, _) = LEVELS[at];
            let level = Level::default();
            registry.register(name, help, level.clone());
            level
        });
        let (queue_bytes, oldest, availability) = (Level::default(), Fraction::default(), Fraction::default());
        registry.register_with_unit("chain_repair_queue", "Their bytes", Unit::Bytes, queue_bytes.clone());
        let help = "Age of the oldest loss that waits for repair; 0 without any";
        registry.register_with_unit("chain_repair_oldest_age", help, Unit::Seconds, oldest.clone());
        let help = "Share of all audits that were answered in full; 1 before the first";
        registry.register("chain_availability_ratio", help, availability.clone());
        Self { counts, levels, queue_bytes, oldest, availability }
    }

    /// Sets them to what was measured.
    pub fn set(&self, measured: &Measured) {
        for (count, (_, _, read)) in self.counts.iter().zip(COUNTS) {
            count.inner().store(read(measured), Ordering::Relaxed);
        }
        for (level, (_, _, read)) in self.levels.iter().zip(LEVELS) {
            level.set(i64::try_from(read(measured)).unwrap_or(i64::MAX));
        }
        self.queue_bytes.set(i64::try_from(measured.tally.waiting_bytes).unwrap_or(i64::MAX));
        self.oldest.set(measured.oldest.map_or(0.0, |age| age.get() as f64 / 1e3));
        let audits = measured.audits.passed.saturating_add(measured.audits.failed);
        self.availability.set(if audits == 0 { 1.0 } else { measured.audits.passed as f64 / audits as f64 });
    }
}

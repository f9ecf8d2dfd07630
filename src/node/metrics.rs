//! What a node counts, in the OpenMetrics text format. Names follow the Prometheus conventions; ids are never labels.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::chain_levels::ChainLevels;
use super::handle::Handle;
use super::keeper::counts::Counts;
use super::partition::Reach;
use crate::net;

type Level = Gauge<i64, AtomicI64>;
type Count = Counter<u64, AtomicU64>;

/// The counters, and the registry that prints them.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
    /// Validators that were caught contradicting themselves.
    pub evidence: Count,
    /// Passwords that the interface hashed, to check them or to lock keys with them.
    pub password_hashes: Count,
    /// What a storage node counts.
    pub keeper: Counts,
    /// What it counts of files put here.
    pub puts: super::files::counts::Counts,
    levels: Arc<Levels>,
    chain: ChainLevels,
}

/// What is read anew for each page.
#[derive(Default)]
struct Levels {
    height: Level,
    finalized_age: Gauge<f64, AtomicU64>,
    epoch: Level,
    view: Level,
    validators: Level,
    unfinal_blocks: Level,
    store_commits: Level,
    mempool_transactions: Level,
    mempool_bytes: Level,
    peers_connected: Level,
    slots: Level,
    slot_bytes: Level,
    slot_free_bytes: Level,
    slot_freed_bytes: Count,
    behind_blocks: Level,
    partitioned: Level,
    halted: Level,
    validators_missing: Level,
    power_heard: Level,
    power_quorum: Level,
    database_bytes: Level,
    resident_bytes: Level,
}

impl Metrics {
    /// A registry with everything of a node in it, and the network's part of it.
    pub fn new() -> (Self, net::Metrics) {
        let mut registry = Registry::with_prefix("trullo");
        let net = net::Metrics::register(&mut registry);
        let levels = Arc::new(Levels::default());
        let l = &levels;
        registry.register("finalized_height", "Height of the last final block", l.height.clone());
        let age = "Time since a block became final here";
        registry.register_with_unit("finalized_age", age, Unit::Seconds, l.finalized_age.clone());
        let behind = "Blocks that validators have as final and this node does not";
        registry.register("behind_blocks", behind, l.behind_blocks.clone());
        let partitioned = "1 while validators of less weight than a quorum are in reach and nothing becomes final here";
        registry.register("partitioned", partitioned, l.partitioned.clone());
        registry.register("halted", "1 while a quorum is in reach and nothing becomes final", l.halted.clone());
        let missing = "Validators that this node has not heard for some seconds";
        registry.register("validators_missing", missing, l.validators_missing.clone());
        registry.register("validators_power_heard", "Voting weight in reach, its own with it", l.power_heard.clone());
        registry.register("validators_power_quorum", "Voting weight that makes a block final", l.power_quorum.clone());
        registry.register("epoch", "Current epoch", l.epoch.clone());
        registry.register("view", "Current view of the epoch", l.view.clone());
        registry.register("validators", "Validators of the epoch", l.validators.clone());
        registry.register("unfinal_blocks", "Blocks held that are not final", l.unfinal_blocks.clone());
        registry.register(
            "store_commits",
            "Durable commits of the chain's database since the start",
            l.store_commits.clone(),
        );
        registry.register("mempool_transactions", "Transactions that wait", l.mempool_transactions.clone());
        registry.register_with_unit("mempool", "What they are counted with", Unit::Bytes, l.mempool_bytes.clone());
        registry.register("peers_connected", "Nodes with a connection", l.peers_connected.clone());
        registry.register("slots", "Slots held for others", l.slots.clone());
        registry.register_with_unit("slots_stored", "Their bytes", Unit::Bytes, l.slot_bytes.clone());
        registry.register_with_unit("slots_free", "Bytes that may still come", Unit::Bytes, l.slot_free_bytes.clone());
        let freed = "Bytes of slots removed since the start";
        registry.register_with_unit("slots_freed", freed, Unit::Bytes, l.slot_freed_bytes.clone());
        registry.register_with_unit("database", "Size of the chain's database", Unit::Bytes, l.database_bytes.clone());
        let resident = "Resident memory of the process";
        registry.register_with_unit("process_resident_memory", resident, Unit::Bytes, l.resident_bytes.clone());
        let evidence = Count::default();
        registry.register("evidence", "Validators seen contradicting themselves", evidence.clone());
        let password_hashes = Count::default();
        registry.register("password_hashes", "Passwords hashed by the interface", password_hashes.clone());
        let puts = super::files::counts::Counts::register(&mut registry);
        let chain = ChainLevels::register(&mut registry);
        let keeper = Counts::register(&mut registry);
        let registry = Arc::new(Mutex::new(registry));
        (Self { registry, evidence, password_hashes, keeper, puts, levels, chain }, net)
    }

    /// The page.
    pub fn page(&self, handle: &Handle) -> String {
        self.levels.read(handle);
        match super::measured::Measured::read(handle) {
            Ok(measured) => self.chain.set(&measured),
            Err(error) => tracing::warn!(%error, "the ledger's counts could not be read for the metrics"),
        }
        let mut page = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        match prometheus_client::encoding::text::encode(&mut page, &registry) {
            Ok(()) => page,
            Err(_) => String::new(),
        }
    }
}

impl Levels {
    fn read(&self, handle: &Handle) {
        let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let count = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
        if let Some(tip) = handle.reader().tip() {
            self.height.set(signed(tip.height.get()));
        }
        if let Some(status) = handle.status() {
            let age = handle.clock().now().saturating_sub(status.final_at).get();
            self.finalized_age.set(std::time::Duration::from_millis(age).as_secs_f64());
            self.epoch.set(signed(status.core.round.epoch.get()));
            self.view.set(signed(status.core.round.view.get()));
            self.validators.set(count(status.set.len()));
            self.unfinal_blocks.set(count(status.core.unfinal_blocks));
            self.store_commits.set(signed(status.commits));
        }
        {
            let mempool = handle.mempool();
            self.mempool_transactions.set(count(mempool.len()));
            self.mempool_bytes.set(count(mempool.bytes()));
        }
        self.behind_blocks.set(signed(handle.behind()));
        let verdict = &handle.standing().verdict;
        self.partitioned.set(i64::from(verdict.reach == Reach::Partitioned));
        self.halted.set(i64::from(verdict.reach == Reach::Halted));
        self.validators_missing.set(count(verdict.missing.len()));
        self.power_heard.set(signed(verdict.heard));
        self.power_quorum.set(signed(verdict.quorum));
        self.peers_connected.set(count(handle.net().connected().borrow().len()));
        if let Some(Ok(usage)) = handle.slots().map(crate::store::Slots::usage) {
            self.slots.set(signed(usage.slots));
            self.slot_bytes.set(signed(usage.stored.get()));
            self.slot_free_bytes.set(signed(usage.free.get()));
            self.slot_freed_bytes.inner().store(usage.freed.get(), Ordering::Relaxed);
        }
        self.database_bytes.set(signed(handle.database_bytes()));
        self.resident_bytes.set(signed(resident_bytes()));
    }
}

/// Resident memory of this process, bytes; 0 where the system does not say.
pub fn resident_bytes() -> u64 {
    let Ok(statm) = std::fs::read_to_string("/proc/self/statm") else { return 0 };
    let pages: Option<u64> = statm.split_whitespace().nth(1).and_then(|pages| pages.parse().ok());
    let page = u64::try_from(rustix::param::page_size()).unwrap_or(4_096);
    pages.unwrap_or(0).saturating_mul(page)
}

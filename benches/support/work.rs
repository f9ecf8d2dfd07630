//! The work that both engines do, and what is measured of it.
//!
//! A payload is opaque: its bytes are made by the leader, hashed by every replica and never looked into. It counts as
//! committed when it is final, and on disk, at replica 0; its latency runs from the moment before it was made.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use trullo::crypto::{Domain, hash};

/// One transaction, bytes.
pub const TX_BYTES: usize = 512;
/// Replicas of a cluster.
pub const REPLICAS: usize = 4;
/// The replica that dies, when one does.
pub const VICTIM: usize = 3;

/// Makes payloads and remembers when, until they are final.
pub struct Workload {
    template: Vec<u8>,
    next: AtomicU64,
    made: Mutex<HashMap<[u8; 32], Instant>>,
    finals: Mutex<Vec<Final>>,
}

/// One payload that became final.
#[derive(Clone, Copy, Debug)]
pub struct Final {
    /// When, at replica 0.
    pub at: Instant,
    /// How long after it was made.
    pub latency: Duration,
}

impl Workload {
    /// Blocks of so many transactions.
    pub fn new(per_block: usize) -> Self {
        let template = vec![0x5a; per_block * TX_BYTES];
        let (made, finals) = (Mutex::default(), Mutex::default());
        Self { template, next: AtomicU64::new(0), made, finals }
    }

    /// Transactions in each block.
    pub fn per_block(&self) -> usize {
        self.template.len() / TX_BYTES
    }

    /// A payload like no other, and its hash.
    pub fn make(&self) -> (Vec<u8>, [u8; 32]) {
        let at = Instant::now();
        let mut payload = self.template.clone();
        let number = self.next.fetch_add(1, Ordering::Relaxed).to_le_bytes();
        payload.iter_mut().zip(number).for_each(|(byte, new)| *byte = new);
        let hash = payload_hash(&payload);
        locked(&self.made).insert(hash, at);
        (payload, hash)
    }

    /// Replica 0 says that this payload is final.
    pub fn finalized(&self, payload: &[u8; 32]) {
        let at = Instant::now();
        if let Some(made) = locked(&self.made).remove(payload) {
            locked(&self.finals).push(Final { at, latency: at - made });
        }
    }

    /// What became final in a span of time.
    pub fn finals(&self, from: Instant, to: Instant) -> Vec<Final> {
        locked(&self.finals).iter().filter(|one| from <= one.at && one.at < to).copied().collect()
    }
}

/// What a header commits to.
pub fn payload_hash(payload: &[u8]) -> [u8; 32] {
    hash(Domain::Payload, payload)
}

/// The value behind a lock; the benchmark ends with the first thread that dies.
pub fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A running engine.
pub trait Cluster {
    /// Durable commits so far, of all replicas that are not cut off.
    fn commits(&self) -> u64;
    /// Views that replica 0 has passed.
    fn views(&self) -> u64;
    /// Kills replica `VICTIM`, or cuts it off for good.
    fn kill(&mut self);
}

//! Mempool: verified transactions that wait for a block.
//!
//! Pure. Bounded by bytes, with a fair share for each sender.
//!
//! - A sender's transactions are kept by nonce. Gaps are allowed, because gossip has no order, up to `NONCE_AHEAD_MAX`.
//! - One transaction a nonce: who came first stays. There are no fees, so a replacement would cost its sender nothing and
//!   everyone else its gossip.
//! - When the pool is full, a newcomer takes the place of the last transactions of whoever holds most, as long as that sender
//!   still holds more than the newcomer's would. So nobody is pushed out by someone who holds more, and filling the pool
//!   from one account only pushes out one's own. Accounts cost a transfer each, so many are not for free.
//! - What is not in a block after `MEMPOOL_BLOCKS_MAX` final blocks is dropped.
//!
//! Invariant: bytes counted = bytes of what is held, for the whole and for each sender.
//! Not here: verification (`wire::verified`), whether a transaction is allowed (`ledger`), gossip (`node`).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use crate::types::{AccountId, Height, TxId, limits};
use crate::wire::VerifiedTx;

/// Why a transaction is not taken in. For whoever sent it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is here already.
    #[error("transaction {0} is known already")]
    Known(TxId),
    /// The sender has no account.
    #[error("account {0} does not exist; it begins with the first transfer to it")]
    UnknownSender(AccountId),
    /// Its nonce is used up.
    #[error("nonce {have} is used up, the account's next is {next}")]
    StaleNonce {
        /// The transaction's.
        have: u64,
        /// The account's next.
        next: u64,
    },
    /// Its nonce is too far ahead.
    #[error("nonce {have} is too far ahead, the account's next is {next} and at most {max} may wait", max = limits::NONCE_AHEAD_MAX)]
    NonceGap {
        /// The transaction's.
        have: u64,
        /// The account's next.
        next: u64,
    },
    /// Another transaction of the sender waits with this nonce.
    #[error("transaction {other} of the same account waits with nonce {nonce}")]
    NonceTaken {
        /// The nonce.
        nonce: u64,
        /// The transaction that has it.
        other: TxId,
    },
    /// The sender's share is used up.
    #[error("the account has {have} bytes waiting, at most {max} may")]
    SenderFull {
        /// Bytes waiting.
        have: usize,
        /// The share.
        max: usize,
    },
    /// The pool is full, and nobody in it holds more than this sender would.
    #[error("the pool is full: {have} of {max} bytes")]
    Full {
        /// Bytes waiting.
        have: usize,
        /// The limit.
        max: usize,
    },
}

impl Refusal {
    /// The stable name of the reason, for JSON.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Known(_) => "known",
            Self::UnknownSender(_) => "unknown_sender",
            Self::StaleNonce { .. } => "stale_nonce",
            Self::NonceGap { .. } => "nonce_gap",
            Self::NonceTaken { .. } => "nonce_taken",
            Self::SenderFull { .. } => "sender_full",
            Self::Full { .. } => "pool_full",
        }
    }
}

/// How much a pool may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// In all, bytes.
    pub total: usize,
    /// For one sender, bytes.
    pub sender: usize,
}

impl Capacity {
    /// As the limits say.
    pub const STANDARD: Self = Self { total: limits::MEMPOOL_BYTES_MAX, sender: limits::MEMPOOL_SENDER_BYTES_MAX };
}

/// Bytes that a waiting transaction is counted with: its encoding, the decoded form beside it, and the indexes.
pub fn cost(tx: &VerifiedTx) -> usize {
    const OVERHEAD: usize = 640;
    tx.encoded().len() * 2 + OVERHEAD
}

struct Waiting {
    tx: VerifiedTx,
    since: Height,
}

#[derive(Default)]
struct Queue {
    by_nonce: BTreeMap<u64, Waiting>,
    bytes: usize,
    /// The sender's next nonce in the finalized state, as far as it was told.
    next: u64,
}

/// The transactions that wait.
pub struct Mempool {
    capacity: Capacity,
    queues: BTreeMap<AccountId, Queue>,
    /// Sender and nonce of each transaction.
    by_id: BTreeMap<TxId, (AccountId, u64)>,
    /// Senders by what they hold; the last one holds most.
    by_weight: BTreeSet<(usize, AccountId)>,
    /// By the height at which they came.
    by_age: BTreeSet<(Height, TxId)>,
    /// Senders whose next transaction is here.
    ready: BTreeSet<AccountId>,
    bytes: usize,
    /// The last sender that `take` looked at; it goes on behind, so that no place in the order is a privilege.
    cursor: AccountId,
    height: Height,
}

impl Mempool {
    /// An empty pool.
    pub fn new(capacity: Capacity) -> Self {
        Self {
            capacity,
            queues: BTreeMap::new(),
            by_id: BTreeMap::new(),
            by_weight: BTreeSet::new(),
            by_age: BTreeSet::new(),
            ready: BTreeSet::new(),
            bytes: 0,
            cursor: AccountId::from_bytes([0; 32]),
            height: Height::GENESIS,
        }
    }
    /// Takes a transaction in. `next` is the sender's nonce in the finalized state, or `None` if it has no account.
    /// Returns the transactions that had to make room. Errors: each of `Refusal`.
    pub fn insert(&mut self, tx: VerifiedTx, next: Option<u64>) -> Result<Vec<VerifiedTx>, Refusal> {
        let next = self.admits(&tx, next)?;
        let (sender, cost) = (tx.sender(), cost(&tx));
        let held = self.queues.get(&sender).map_or(0, |queue| queue.bytes);
        let evicted = self.make_room(&sender, held + cost, cost)?;
        self.put(tx);
        self.advance(&sender, next);
        Ok(evicted)
    }
    /// Whether a transaction is one to take in, if there is room. Returns the sender's next nonce, as far as it is known.
    /// Errors: each of `Refusal` but `Full`.
    pub fn admits(&self, tx: &VerifiedTx, next: Option<u64>) -> Result<u64, Refusal> {
        let (id, sender, nonce) = (tx.id(), tx.sender(), tx.nonce());
        if self.by_id.contains_key(&id) {
            return Err(Refusal::Known(id));
        }
        // A block may have become final here after the caller looked.
        let told = self.queues.get(&sender).map_or(0, |queue| queue.next);
        let next = next.ok_or(Refusal::UnknownSender(sender))?.max(told);
        if nonce < next {
            return Err(Refusal::StaleNonce { have: nonce, next });
        }
        if nonce - next >= limits::NONCE_AHEAD_MAX {
            return Err(Refusal::NonceGap { have: nonce, next });
        }
        let queue = self.queues.get(&sender);
        if let Some(waiting) = queue.and_then(|queue| queue.by_nonce.get(&nonce)) {
            return Err(Refusal::NonceTaken { nonce, other: waiting.tx.id() });
        }
        let held = queue.map_or(0, |queue| queue.bytes);
        if held + cost(tx) > self.capacity.sender {
            return Err(Refusal::SenderFull { have: held, max: self.capacity.sender });
        }
        Ok(next)
    }
    /// Drops the last transactions of the heaviest senders until `cost` fits, or nothing at all.
    fn make_room(&mut self, sender: &AccountId, weight: usize, cost: usize) -> Result<Vec<VerifiedTx>, Refusal> {
        let full = Refusal::Full { have: self.bytes, max: self.capacity.total };
        let mut victims = Vec::new();
        let mut freed = 0;
        // What each heavy sender would still hold and up to which nonce; nothing is dropped before it is known to suffice.
        let mut heavy: BTreeMap<AccountId, (usize, Bound<u64>)> = BTreeMap::new();
        let mut weights: BTreeSet<(usize, AccountId)> = BTreeSet::new();
        let mut untouched = self.by_weight.iter().rev().peekable();
        while self.bytes - freed + cost > self.capacity.total {
            if let Some(next) = untouched.next_if(|next| weights.last().is_none_or(|top| **next > *top)) {
                weights.insert(*next);
                heavy.insert(next.1, (next.0, Bound::Unbounded));
            }
            let Some((top, account)) = weights.pop_last() else { return Err(full) };
            if account == *sender || top <= weight {
                return Err(full);
            }
            let Some((left, below)) = heavy.get_mut(&account) else { return Err(full) };
            let queue = self.queues.get(&account);
            let last = queue.and_then(|queue| queue.by_nonce.range((Bound::Unbounded, *below)).next_back());
            let Some((nonce, waiting)) = last else { return Err(full) };
            let bytes = self::cost(&waiting.tx);
            freed += bytes;
            *left -= bytes;
            *below = Bound::Excluded(*nonce);
            victims.push(waiting.tx.id());
            weights.insert((*left, account));
        }
        Ok(victims.iter().filter_map(|id| self.remove(id)).collect())
    }
    /// Takes note of a sender's next nonce: what is below it can never be in a block again.
    fn advance(&mut self, sender: &AccountId, next: u64) {
        let Some(queue) = self.queues.get_mut(sender) else { return };
        queue.next = queue.next.max(next);
        let stale: Vec<_> = queue.by_nonce.range(..queue.next).map(|(_, waiting)| waiting.tx.id()).collect();
        for id in stale {
            self.remove(&id);
        }
        self.note_ready(sender);
    }
    fn note_ready(&mut self, sender: &AccountId) {
        match self.queues.get(sender).is_some_and(|queue| queue.by_nonce.contains_key(&queue.next)) {
            true => self.ready.insert(*sender),
            false => self.ready.remove(sender),
        };
    }
    fn put(&mut self, tx: VerifiedTx) {
        let (id, sender, nonce, cost) = (tx.id(), tx.sender(), tx.nonce(), cost(&tx));
        let queue = self.queues.entry(sender).or_default();
        self.by_weight.remove(&(queue.bytes, sender));
        queue.bytes += cost;
        self.by_weight.insert((queue.bytes, sender));
        queue.by_nonce.insert(nonce, Waiting { tx, since: self.height });
        self.by_id.insert(id, (sender, nonce));
        self.by_age.insert((self.height, id));
        self.bytes += cost;
    }
    /// Drops one transaction. Returns it if it was here.
    pub fn remove(&mut self, id: &TxId) -> Option<VerifiedTx> {
        let (sender, nonce) = self.by_id.remove(id)?;
        let queue = self.queues.get_mut(&sender)?;
        let waiting = queue.by_nonce.remove(&nonce)?;
        let cost = cost(&waiting.tx);
        self.by_weight.remove(&(queue.bytes, sender));
        queue.bytes -= cost;
        if queue.by_nonce.is_empty() {
            self.queues.remove(&sender);
        } else {
            self.by_weight.insert((queue.bytes, sender));
        }
        self.by_age.remove(&(waiting.since, *id));
        self.bytes -= cost;
        self.note_ready(&sender);
        Some(waiting.tx)
    }
    /// Picks transactions for a block, in an order in which each is its sender's next: one of each sender in turn, so that
    /// a long queue does not keep the others waiting. They stay in the pool until they are final. `next` says a sender's
    /// nonce in the state that the block is built on. Stops at the first error of `next`.
    /// Bounds: `max_bytes` of encoded transactions, `max_txs`; looks at no more than four times as many senders.
    pub fn take<E>(
        &mut self,
        max_bytes: usize,
        max_txs: usize,
        mut next: impl FnMut(&AccountId) -> Result<u64, E>,
    ) -> Result<Vec<VerifiedTx>, E> {
        let mut taken = Vec::new();
        let mut left = max_bytes;
        let behind = self.queues.range((Bound::Excluded(self.cursor), Bound::Unbounded));
        let senders = behind.chain(self.queues.range(..=self.cursor)).take(max_txs.saturating_mul(4));
        let mut ready = Vec::new();
        let mut cursor = self.cursor;
        for (sender, queue) in senders {
            if taken.len() >= max_txs || left == 0 {
                break;
            }
            cursor = *sender;
            let nonce = next(sender)?;
            let Some(waiting) = queue.by_nonce.get(&nonce) else { continue };
            if let Some(rest) = left.checked_sub(waiting.tx.encoded().len()) {
                left = rest;
                taken.push(waiting.tx.clone());
                ready.push((queue, nonce));
            }
        }
        self.cursor = cursor;
        while !ready.is_empty() && taken.len() < max_txs {
            ready.retain_mut(|(queue, nonce)| {
                *nonce = nonce.saturating_add(1);
                let Some(waiting) = queue.by_nonce.get(nonce) else { return false };
                let Some(rest) = left.checked_sub(waiting.tx.encoded().len()) else { return false };
                if taken.len() >= max_txs {
                    return false;
                }
                left = rest;
                taken.push(waiting.tx.clone());
                true
            });
        }
        Ok(taken)
    }
    /// Takes note of a final block: drops its transactions and all that its senders can no longer use, and what has waited
    /// too long.
    pub fn finalized<'a>(&mut self, height: Height, txs: impl IntoIterator<Item = &'a VerifiedTx>) {
        self.height = self.height.max(height);
        let mut used = BTreeMap::new();
        for tx in txs {
            let last = used.entry(tx.sender()).or_insert(tx.nonce());
            *last = tx.nonce().max(*last);
        }
        for (sender, nonce) in used {
            self.advance(&sender, nonce.saturating_add(1));
        }
        let oldest = self.height.get().saturating_sub(limits::MEMPOOL_BLOCKS_MAX);
        let gone: Vec<_> =
            self.by_age.iter().take_while(|(since, _)| since.get() < oldest).map(|(_, id)| *id).collect();
        for id in gone {
            self.remove(&id);
        }
    }
    /// A transaction that waits.
    pub fn get(&self, id: &TxId) -> Option<&VerifiedTx> {
        let (sender, nonce) = self.by_id.get(id)?;
        self.queues.get(sender)?.by_nonce.get(nonce).map(|waiting| &waiting.tx)
    }
    /// The first nonce from `next` on that no transaction of the sender waits with: the one to give the next transaction.
    pub fn next_nonce(&self, sender: &AccountId, next: u64) -> u64 {
        let waiting = self.queues.get(sender).into_iter().flat_map(|queue| queue.by_nonce.range(next..));
        waiting.zip(next..).take_while(|((nonce, _), free)| *nonce == free).last().map_or(next, |(_, free)| free + 1)
    }
    /// Whether a transaction waits that is its sender's next: one behind a gap in the nonces is not worth a block.
    pub fn has_next(&self) -> bool {
        !self.ready.is_empty()
    }
    /// Whether some wait beside these `count` ones. Cost: nothing if more than so many wait.
    pub fn has_beyond(&self, count: usize, ids: impl Iterator<Item = TxId>) -> bool {
        self.has_next() && (self.len() > count || self.len() > ids.filter(|id| self.by_id.contains_key(id)).count())
    }
    /// Up to `count` of those that have waited for a final block at least, or of all when none becomes final (`stalled`):
    /// the oldest first, beginning at a place in their order that wraps around.
    pub fn overdue(&self, from: usize, count: usize, stalled: bool) -> Vec<VerifiedTx> {
        let old: Vec<_> = self.by_age.iter().take_while(|(since, _)| stalled || *since < self.height).collect();
        let ids = old.iter().cycle().skip(from.checked_rem(old.len()).unwrap_or(0)).take(count.min(old.len()));
        ids.filter_map(|(_, id)| self.get(id).cloned()).collect()
    }
    /// All that wait, by sender and nonce.
    pub fn iter(&self) -> impl Iterator<Item = &VerifiedTx> {
        self.queues.values().flat_map(|queue| queue.by_nonce.values()).map(|waiting| &waiting.tx)
    }
    /// How many wait.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }
    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }
    /// What those that wait are counted with, bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
#[path = "mempool_tests.rs"]
mod tests;

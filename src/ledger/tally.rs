//! Tally: what happened to deals, slots and nodes since genesis, in whole numbers.
//!
//! One record of the state: the same on every node, and no restart loses it. It is kept where deals and nodes are written
//! (`Draft::put_deal`, `put_node`) and where something happens that the records do not show afterwards. The rules read nothing
//! from here; faces make averages and odds of it.
//! Invariant: what it says of the present is what a count of all deals and nodes gives (`soundness`).

use borsh::{BorshDeserialize, BorshSerialize};

use super::record::{Deal, DealStatus, NodeEntry};
use crate::types::Height;

/// Buckets of the time to quorum: bucket 0 is for no block at all, bucket i for 2^(i-1) to 2^i - 1 blocks, the last for all
/// above.
pub const QUORUM_BUCKETS: usize = 24;

/// Something there is more or less of over time, and how much of it there was in all blocks together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Span {
    /// How many there are.
    pub now: u64,
    /// Height of the block in which that number came to be.
    pub since: Height,
    /// Sum over all blocks before of how many there were.
    pub sum: u64,
    /// Blocks before in which there was at least one.
    pub some: u64,
}

impl Span {
    /// The same, carried on to a height.
    pub fn at(&self, height: Height) -> Self {
        let blocks = height.get().saturating_sub(self.since.get());
        let some = if self.now > 0 { blocks } else { 0 };
        Self {
            now: self.now,
            since: height.max(self.since),
            sum: self.sum.saturating_add(blocks.saturating_mul(self.now)),
            some: self.some.saturating_add(some),
        }
    }
    /// Some came and some went.
    fn change(&mut self, height: Height, gone: u64, new: u64) {
        if gone != new {
            *self = self.at(height);
            self.now = self.now.saturating_sub(gone).saturating_add(new);
        }
    }
}

/// The counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Tally {
    /// Deals opened.
    pub opened: u64,
    /// Deals that got all the receipts they needed.
    pub reached: u64,
    /// Deals that ended by themselves before enough receipts came.
    pub expired: u64,
    /// Deals that their owner ended before they had enough receipts.
    pub withdrawn: u64,
    /// Deals that had them and ended because the time was up that was paid for.
    pub ended: u64,
    /// Blocks from a deal's opening to its last needed receipt, of all that reached it together.
    pub quorum_blocks: u64,
    /// The same by how many there were.
    pub quorum_buckets: [u64; QUORUM_BUCKETS],
    /// Slots that nobody held any more.
    pub lost: u64,
    /// Of those, slots whose node had no proof of them while it answered for others.
    pub rotted: u64,
    /// Lost slots that got a holder again while their file could be restored.
    pub restored: u64,
    /// Nodes that were given up.
    pub absent: u64,
    /// Nodes that came back after that.
    pub returned: u64,
    /// Nodes whose absence would be noticed: not given up, and with something to be audited for.
    pub watched: Span,
    /// Slots of open deals that a node holds by its receipt.
    pub held: Span,
    /// Lost slots of open deals that others rebuild and that can still be restored: what repair has to do.
    pub waiting: Span,
    /// Their bytes.
    pub waiting_bytes: u64,
}

/// What a deal is to the counts of the present.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Share {
    pub held: u64,
    pub waiting: u64,
    pub waiting_bytes: u64,
}

impl Share {
    pub fn of(deal: &Deal) -> Self {
        if !deal.status.is_open() {
            return Self::default();
        }
        let (held, lost) = (deal.confirmed.len() as u64, deal.lost.len() as u64);
        let waiting = if deal.repairing && deal.is_restorable() { lost } else { 0 };
        Self { held, waiting, waiting_bytes: waiting.saturating_mul(deal.slot_len) }
    }
}

impl Deal {
    /// Whether enough slots are held to restore the file.
    pub fn is_restorable(&self) -> bool {
        self.confirmed.len() >= usize::from(self.data)
    }
}

impl NodeEntry {
    /// Whether the node's absence would be noticed.
    pub fn is_watched(&self) -> bool {
        self.active && self.held.get() > 0
    }
}

/// The bucket of so many blocks.
pub fn bucket(blocks: u64) -> usize {
    let bits = u64::BITS.saturating_sub(blocks.leading_zeros()) as usize;
    bits.min(QUORUM_BUCKETS.saturating_sub(1))
}

impl Tally {
    /// A deal was written.
    pub(super) fn deal(&mut self, at: Height, before: Share, after: Share) {
        self.held.change(at, before.held, after.held);
        self.waiting.change(at, before.waiting, after.waiting);
        self.waiting_bytes =
            self.waiting_bytes.saturating_sub(before.waiting_bytes).saturating_add(after.waiting_bytes);
    }
    /// A node was written.
    pub(super) fn node(&mut self, at: Height, before: bool, after: bool) {
        self.watched.change(at, before.into(), after.into());
    }
    /// A deal has the receipts that it needs.
    pub(super) fn reach(&mut self, opened: Height, at: Height) {
        let blocks = at.get().saturating_sub(opened.get());
        self.reached = self.reached.saturating_add(1);
        self.quorum_blocks = self.quorum_blocks.saturating_add(blocks);
        if let Some(count) = self.quorum_buckets.get_mut(bucket(blocks)) {
            *count = count.saturating_add(1);
        }
    }
    /// An open deal ends.
    pub(super) fn close(&mut self, before: DealStatus, after: DealStatus) {
        let count = match (before, after) {
            (DealStatus::Pending { .. }, DealStatus::Expired { .. } | DealStatus::Ended { .. }) => &mut self.expired,
            (_, DealStatus::Ended { .. }) => &mut self.ended,
            (DealStatus::Pending { .. }, DealStatus::Deleted { .. }) => &mut self.withdrawn,
            _ => return,
        };
        *count = count.saturating_add(1);
    }
    /// The blocks within which a share of the deals that reached their quorum did so, in percent: the upper end of the bucket.
    /// Nothing before the first.
    pub fn quorum_within(&self, percent: u64) -> Option<u64> {
        let need = self.reached.saturating_mul(percent).div_ceil(100).max(1);
        let mut sum = 0_u64;
        let found = self.quorum_buckets.iter().position(|count| {
            sum = sum.saturating_add(*count);
            sum >= need
        });
        let bits = u32::try_from(found?).ok()?;
        Some(1_u64.checked_shl(bits).unwrap_or(u64::MAX).saturating_sub(1))
    }
}

#[cfg(test)]
#[path = "tally_tests.rs"]
mod tests;

//! What storage nodes promise, and how well they keep it: the records of slots, audits and payment.
//!
//! Not here: the rules (`slot`, `audit`, `payment`), the deal itself (`record`).

use borsh::{BorshDeserialize, BorshSerialize};

use crate::types::{ByteCount, Epoch, FileId, Height, limits};

/// A gibibyte: what the price is for.
pub const GIB: u128 = 1 << 30;
/// Where a node's reputation begins, of 1,000.
pub const REPUTATION_FIRST: u16 = 500;
/// The highest reputation.
pub const REPUTATION_MAX: u16 = 1_000;
/// A node whose reputation falls below this by a failed audit is out.
pub const REPUTATION_LEAST: u16 = 100;

/// The reputation of a node that has failed a duty: a quarter is gone.
pub const fn reputation_lost(reputation: u16) -> u16 {
    reputation.saturating_sub(reputation / 4)
}
/// The reputation of a node that has done a duty: a sixteenth of what is missing is added, one at the least.
pub fn reputation_gained(reputation: u16) -> u16 {
    reputation.saturating_add(REPUTATION_MAX.saturating_sub(reputation).div_ceil(16)).min(REPUTATION_MAX)
}

/// What the genesis fixed for storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct StorageParams {
    /// Samples of one audit: 1 to `limits::AUDIT_SAMPLES_MAX`.
    pub samples: u16,
    /// Blocks in which an audit has to be answered, at least 1 and, unless it is 1, fewer than an epoch has.
    pub answer_blocks: u64,
    /// Strikes that are forgiven, of a slot and of a node.
    pub grace: u8,
    /// Credits for one GiB of slots and one epoch.
    pub price: u64,
    /// Longest deal, epochs, counted from the block that opens or renews it.
    pub epochs_max: u32,
    /// Bytes of slots that an account may have in open deals; 0 for no limit.
    pub quota: ByteCount,
}

impl StorageParams {
    /// What suits most networks with epochs of this length.
    pub const fn usual(epoch_blocks: u64) -> Self {
        let answer_blocks = if epoch_blocks < 4 { 1 } else { epoch_blocks / 2 };
        let (samples, grace, price, epochs_max) = (16, 1, 1_024, 100_000);
        Self { samples, answer_blocks, grace, price, epochs_max, quota: ByteCount::ZERO }
    }
    /// How many samples of an audit go at most to slots that were missed before: the rest stays out of the node's hands.
    pub fn again_max(&self) -> usize {
        usize::from(self.samples.div_ceil(2))
    }
    /// What is wrong with them on a chain with epochs of this length.
    pub fn problem(&self, epoch_blocks: u64) -> Option<&'static str> {
        if !(1..=limits::AUDIT_SAMPLES_MAX).contains(&usize::from(self.samples)) {
            Some("samples must be 1 to 24")
        } else if self.answer_blocks == 0 || self.answer_blocks >= epoch_blocks.max(2) {
            Some("answer_blocks must be at least 1 and, unless it is 1, below epoch_blocks")
        } else if !(1..=limits::DEAL_EPOCHS_MAX).contains(&self.epochs_max) {
            Some("epochs_max must be 1 to 16777216")
        } else if self.price > limits::PRICE_MAX {
            Some("price must be at most 4294967296")
        } else {
            None
        }
    }
}

/// A node's audits so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Audit {
    /// Whether a next audit is due.
    pub scheduled: bool,
    /// Samples asked.
    pub asked: u64,
    /// Samples answered.
    pub answered: u64,
    /// Samples not answered.
    pub missed: u64,
    /// Samples that fell away, because the node's duty for the slot had ended.
    pub waived: u64,
    /// Bytes in the answers.
    pub bytes_proven: u64,
    /// Audits answered in full. The unit of pay.
    pub passed: u64,
    /// Audits with a sample missed.
    pub failed: u64,
    /// Failed audits on end that count against the node as a whole.
    pub strikes: u8,
    /// How far it is trusted, of 1,000.
    pub reputation: u16,
}

impl Default for Audit {
    fn default() -> Self {
        Self {
            scheduled: false,
            asked: 0,
            answered: 0,
            missed: 0,
            waived: 0,
            bytes_proven: 0,
            passed: 0,
            failed: 0,
            strikes: 0,
            reputation: REPUTATION_FIRST,
        }
    }
}

/// What the ledger keeps of one slot beside its place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct SlotState {
    /// Its leaf in the holder's sum tree, while it is confirmed.
    pub leaf: u64,
    /// The holder's passed audits up to which this slot is paid; one more than there are while an audit waits that was
    /// drawn before.
    pub passed: u64,
    /// What was earned and makes no whole credit yet, in 2^-30 credits.
    pub rest: u32,
    /// Audits on end in which a sample of it was missed.
    pub strikes: u8,
}

/// A slot of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub struct SlotId {
    /// The file.
    pub file: FileId,
    /// The slot's place in it.
    pub slot: u8,
}

/// One question of an audit: a leaf of 1 KiB of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Sample {
    /// The slot.
    pub slot: SlotId,
    /// The leaf's place in the slot.
    pub leaf: u64,
}

/// An audit that waits for its answer.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Challenge {
    /// The epoch that asks. A node is asked at most once in an epoch.
    pub epoch: Epoch,
    /// Height of the block whose beacon drew the samples.
    pub at: Height,
    /// The last height whose block may hold the answer.
    pub until: Height,
    /// The questions.
    pub samples: Vec<Sample>,
}

impl Challenge {
    /// Whether a sample lies in the slot.
    pub fn asks(&self, id: &SlotId) -> bool {
        self.samples.iter().any(|sample| sample.slot == *id)
    }
}

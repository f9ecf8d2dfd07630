//! What a replica is told when it starts and when an epoch begins, and what it tells about itself.

use std::sync::Arc;

use crate::types::{BlockHash, ChainId, Epoch, Height, Millis, NodeId, Round};
use crate::wire::{Certificate, ProposedBlock, ValidatorSet};

use super::planted::Planted;
use super::record::SafetyRecord;

/// Settings of one replica. All but the last four are the same on every node of a chain.
#[derive(Clone, Debug)]
pub struct Config {
    /// The chain.
    pub chain: ChainId,
    /// Hash of the genesis block.
    pub genesis: BlockHash,
    /// Blocks in one epoch, at least 1. Epoch e has the heights e*L+1 to (e+1)*L.
    pub epoch_blocks: u64,
    /// How long a leader without transactions waits before it proposes an empty block.
    pub idle_interval: Millis,
    /// This node.
    pub me: NodeId,
    /// Time for a view before anything was measured.
    pub view_base: Millis,
    /// Least time for a view, however fast the network is.
    pub view_floor: Millis,
    /// Where back-off ends, unless the measured delay demands more.
    pub view_cap: Millis,
    /// Bugs for the simulator to find; empty and without size in a release.
    pub planted: Planted,
}

impl Config {
    /// The last height of an epoch.
    pub fn last_height(&self, epoch: Epoch) -> Height {
        Height::new(epoch.get().saturating_add(1).saturating_mul(self.epoch_blocks))
    }
    /// The epoch that a height belongs to; genesis counts as epoch 0.
    pub fn epoch_of(&self, height: Height) -> Epoch {
        Epoch::new(height.get().saturating_sub(1) / self.epoch_blocks.max(1))
    }
}

/// What all agree on about one epoch.
#[derive(Clone, Debug)]
pub struct EpochContext {
    /// The epoch.
    pub epoch: Epoch,
    /// Its validators.
    pub set: Arc<ValidatorSet>,
    /// Indices of validators that lead one view only in it (`leader::skip_list`), ascending.
    pub skip: Vec<u16>,
    /// Its QC of view 0: the commit certificate of the last block before it, or the genesis certificate.
    pub opening: Certificate,
}

/// What a replica finds on its disk when it starts.
#[derive(Clone, Debug)]
pub struct Resume {
    /// The safety record; none on a node that never signed.
    pub record: Option<SafetyRecord>,
    /// Blocks that were persisted and are not final, in any order.
    pub blocks: Vec<Arc<ProposedBlock>>,
    /// The commit certificate of the last final block, or the genesis certificate.
    pub last_final: Certificate,
    /// Sign nothing before this epoch: set when the record was restored from a copy (protocol rule 12).
    pub silent_until: Option<Epoch>,
}

/// How a replica sees the world, for status pages and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The current view.
    pub round: Round,
    /// Who leads it.
    pub leader: NodeId,
    /// Rank of the highest prepare certificate.
    pub high: Round,
    /// Height of the last final block.
    pub final_height: Height,
    /// The epoch's last block is certified but not final: leaders propose tails.
    pub in_tail: bool,
    /// The epoch's last block is final and `Event::NextEpoch` has not come.
    pub epoch_ended: bool,
    /// This replica is a member of the epoch's set and may sign.
    pub voting: bool,
    /// Blocks held that are not final.
    pub unfinal_blocks: usize,
    /// Time for the current view, back-off included.
    pub view_timeout: Millis,
    /// When each validator was last heard from, by the clock given to `on`.
    pub heard: Vec<(NodeId, Option<Millis>)>,
}

//! Measured: how deals, nodes and repair fared so far, read from the ledger. The same on every node, and after every restart.
//!
//! Whole numbers; faces make averages and odds of them.

use crate::ledger::record::{NodeEntry, Params};
use crate::ledger::{Key, Record, Tally};
use crate::node::app::read_record;
use crate::node::handle::{Handle, NodeError};
use crate::store::{Snapshot, StoreError};
use crate::types::{Height, Millis, Role};

/// Files with lost slots that are looked at for the oldest loss.
const LOST_MAX: usize = 4_096;
/// Audits that wait which are counted.
const DUE_MAX: usize = 65_536;
/// Blocks over which the present pace of blocks is measured.
const RECENT: u64 = 256;

/// Some blocks and the time from the first to the last of them by their headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pace {
    /// From one block to the next, so many times.
    pub blocks: u64,
    /// The time in all.
    pub time: Millis,
}

/// What all storage nodes together did with their audits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Audits {
    /// Storage nodes registered.
    pub nodes: u64,
    /// Those that are not given up.
    pub active: u64,
    /// Audits answered in full.
    pub passed: u64,
    /// Audits with a sample missed.
    pub failed: u64,
    /// Samples asked.
    pub asked: u64,
    /// Samples answered.
    pub answered: u64,
    /// Samples missed.
    pub missed: u64,
    /// Samples that fell away.
    pub waived: u64,
    /// Audits that wait for their answer; at most 65,536 are counted.
    pub due: u64,
}

/// What was measured up to a block.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// The block's height.
    pub height: Height,
    /// What the genesis fixed.
    pub params: Params,
    /// The tally, its spans carried on to the height.
    pub tally: Tally,
    /// The pace of blocks since the first.
    pub pace: Pace,
    /// The pace of the last 256 blocks.
    pub recent: Pace,
    /// The audits.
    pub audits: Audits,
    /// How long the oldest loss is ago that waits for repair, among 4,096 files.
    pub oldest: Option<Millis>,
}

impl Measured {
    /// Reads it. Errors: `Store`; `Unavailable` before the first block.
    pub fn read(handle: &Handle) -> Result<Self, NodeError> {
        let (snapshot, nodes) = (handle.snapshot()?, handle.nodes()?);
        Self::of(&snapshot, &nodes, handle.clock().now())
    }

    /// The same of a snapshot and its nodes. Errors: those of `read`.
    pub fn of(snapshot: &Snapshot, nodes: &[NodeEntry], now: Millis) -> Result<Self, NodeError> {
        let missing = |what: &str| StoreError::corrupted("state.v1", what);
        let tip = snapshot.tip()?.ok_or_else(|| NodeError::Unavailable("the node is starting".to_owned()))?;
        let height = tip.height;
        let Some(Record::Params(params)) = read_record(snapshot, &Key::Params)? else {
            return Err(missing("parameters").into());
        };
        let Some(Record::Tally(mut tally)) = read_record(snapshot, &Key::Tally)? else {
            return Err(missing("tally").into());
        };
        for span in [&mut tally.watched, &mut tally.held, &mut tally.waiting] {
            *span = span.at(height);
        }
        let pace = |from: u64| -> Result<Pace, NodeError> {
            let from = Height::new(from.clamp(1, height.get().max(1)));
            let Some(first) = snapshot.header(from)? else { return Ok(Pace::default()) };
            let blocks = height.get().saturating_sub(from.get());
            Ok(Pace { blocks, time: tip.header.time.saturating_sub(first.time) })
        };
        let mut audits = audits(nodes);
        audits.due = snapshot.state_scan(&Key::challenges(), None, DUE_MAX)?.len() as u64;
        let oldest = oldest(snapshot)?.map(|since| snapshot.header(since)).transpose()?.flatten();
        Ok(Self {
            height,
            params,
            tally: *tally,
            pace: pace(1)?,
            recent: pace(height.get().saturating_sub(RECENT))?,
            audits,
            oldest: oldest.map(|header| now.saturating_sub(header.time)),
        })
    }

    /// Blocks from a node's death to the loss of its slots, at most: it is asked once in an epoch, misses are forgiven, and the
    /// last answer has its time.
    pub fn detection_blocks(&self) -> u64 {
        let asked = u64::from(self.params.storage.grace).saturating_add(1).saturating_mul(self.params.epoch_blocks);
        asked.saturating_add(self.params.storage.answer_blocks)
    }
}

fn audits(nodes: &[NodeEntry]) -> Audits {
    let storage = nodes.iter().filter(|entry| entry.announcement.roles.has(Role::Storage));
    storage.fold(Audits::default(), |sum, NodeEntry { active, audit, .. }| Audits {
        nodes: sum.nodes.saturating_add(1),
        active: sum.active.saturating_add(u64::from(*active)),
        passed: sum.passed.saturating_add(audit.passed),
        failed: sum.failed.saturating_add(audit.failed),
        asked: sum.asked.saturating_add(audit.asked),
        answered: sum.answered.saturating_add(audit.answered),
        missed: sum.missed.saturating_add(audit.missed),
        waived: sum.waived.saturating_add(audit.waived),
        due: 0,
    })
}

/// Since when the oldest loss waits.
fn oldest(snapshot: &Snapshot) -> Result<Option<Height>, NodeError> {
    let mut oldest: Option<Height> = None;
    for (key, bytes) in snapshot.state_scan(&Key::lost(), None, LOST_MAX)? {
        let Some(key) = Key::from_bytes(&key) else { continue };
        let Ok(Record::Lost { since }) = Record::from_bytes(&key, &bytes) else { continue };
        oldest = Some(oldest.map_or(since, |oldest| oldest.min(since)));
    }
    Ok(oldest)
}

//! Verify: whether a file is whole, asked of every node that holds a slot of it. Needs no key: whoever has the id can do it.
//!
//! Every byte of every slot is read and compared with the root on the ledger; then the roots of all slots are computed from as
//! many as restore the file, which shows whether they belong together. Reading is also what makes a node look: one that
//! finds a slot damaged or gone sets it aside and brings it again by itself, so nothing else is sent to it.

use std::time::Duration;

use futures::StreamExt;

use super::access::open_deal;
use super::fetch::{Fetcher, Source};
use crate::files::{Layout, RangePlan, Recode};
use crate::ledger::record::Deal;
use crate::node::handle::{Handle, NodeError};
use crate::node::slots::client::{SlotPeer, SlotPeerError};
use crate::types::{FileId, NodeId, limits};
use crate::wire::{PublicManifest, SlotInfo};

/// Slots that are read at the same time.
const SLOTS_AT_ONCE: usize = 8;
/// Blocks asked for before the first has come.
const BLOCKS_AHEAD: u64 = 4;
/// Stripes that are asked for on one set of connections.
const WINDOW: usize = 4_096;
/// Between two looks at slots that are being repaired.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// What became of reading one slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SlotState {
    /// Every byte is what the ledger says.
    Whole,
    /// By the ledger nobody holds it: it waits for repair, or for its node's first receipt.
    NotHeld,
    /// Its node cannot be reached.
    Unreachable(String),
    /// Its node says that it does not have it, or not whole.
    Lacking(String),
    /// Its node sent something else.
    Wrong(String),
}

/// One slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotReport {
    /// Its place in the file.
    pub slot: u8,
    /// The node that holds it by the ledger, or held it last.
    pub node: NodeId,
    /// What became of it.
    pub state: SlotState,
}

/// A file, slot by slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The slots, in order.
    pub slots: Vec<SlotReport>,
    /// Slots that restore the file.
    pub needed: u8,
    /// Whether all slots follow from those that were read; nothing where too few could be.
    pub consistent: Option<bool>,
}

impl Report {
    /// Whether nothing is missing and nothing is wrong.
    pub fn is_whole(&self) -> bool {
        self.consistent == Some(true) && self.slots.iter().all(|slot| slot.state == SlotState::Whole)
    }
}

/// Checks a file. With `repair`, looks again at what was not whole until it is, for so long.
/// Errors: `NotFound`, `Verification` for a manifest that makes no sense, `Store`, `Stopping`.
pub async fn verify(handle: &Handle, file: FileId, repair: Option<Duration>) -> Result<Report, NodeError> {
    let (deal, manifest) = open_deal(handle, &file)?;
    let slots = check_slots(handle, &deal, &manifest, 0..manifest.slots.len()).await;
    let consistent = check_coding(handle, &manifest, &slots).await?;
    let mut report = Report { slots, needed: manifest.data, consistent };
    let deadline = repair.map(|within| tokio::time::Instant::now() + within);
    while let Some(deadline) = deadline.filter(|deadline| !report.is_whole() && tokio::time::Instant::now() < *deadline)
    {
        tokio::select! {
            () = tokio::time::sleep_until(deadline.min(tokio::time::Instant::now() + LOOK_AGAIN)) => {}
            () = handle.stop_token().cancelled() => return Err(NodeError::Stopping),
        }
        // The slot may be on another node now.
        let (deal, manifest) = open_deal(handle, &file)?;
        let not_whole = report.slots.iter().filter(|slot| slot.state != SlotState::Whole).map(|slot| slot.slot.into());
        for slot in check_slots(handle, &deal, &manifest, not_whole.collect::<Vec<_>>()).await {
            if let Some(place) = report.slots.get_mut(usize::from(slot.slot)) {
                *place = slot;
            }
        }
        if report.consistent.is_none() {
            report.consistent = check_coding(handle, &manifest, &report.slots).await?;
        }
        if report.consistent == Some(false) {
            break;
        }
    }
    Ok(report)
}

async fn check_slots(
    handle: &Handle,
    deal: &Deal,
    manifest: &PublicManifest,
    slots: impl IntoIterator<Item = usize>,
) -> Vec<SlotReport> {
    let one = |slot: usize| {
        let (node, info) = (deal.placement.get(slot).copied()?, manifest.slots.get(slot).copied()?);
        let slot = u8::try_from(slot).ok()?;
        let held = deal.confirmed.has(slot);
        Some(async move {
            let state = if held { read_slot(handle, node, &info).await } else { SlotState::NotHeld };
            SlotReport { slot, node, state }
        })
    };
    futures::stream::iter(slots.into_iter().filter_map(one)).buffered(SLOTS_AT_ONCE).collect().await
}

/// Reads a slot from its node, every byte verified.
async fn read_slot(handle: &Handle, node: NodeId, info: &SlotInfo) -> SlotState {
    let reading = async {
        let mut peer = SlotPeer::connect(handle, node).await?;
        let blocks = info.len.div_ceil(limits::SLOT_BLOCK_BYTES as u64);
        let mut bytes = Vec::new();
        let mut asked = 0;
        for block in 0..blocks {
            while asked < blocks.min(block.saturating_add(BLOCKS_AHEAD)) {
                peer.read(info, asked, 1).await?;
                asked += 1;
            }
            peer.block(info, block, &mut bytes).await?;
        }
        peer.close().await;
        Ok(())
    };
    match reading.await {
        Ok(()) => SlotState::Whole,
        Err(SlotPeerError::Wrong(why)) => SlotState::Wrong(why),
        Err(error @ SlotPeerError::Unreachable(_)) => SlotState::Unreachable(error.to_string()),
        // What follows is advice to whoever runs that node.
        Err(error) => SlotState::Lacking(error.to_string().split(';').next().unwrap_or_default().to_owned()),
    }
}

/// Whether the roots of all slots follow from those that were whole; nothing where they are too few, or go away meanwhile.
async fn check_coding(
    handle: &Handle,
    manifest: &PublicManifest,
    slots: &[SlotReport],
) -> Result<Option<bool>, NodeError> {
    let layout = Layout::of_manifest(manifest).map_err(|error| NodeError::Verification(error.to_string()))?;
    let (need, all) = (usize::from(manifest.data), manifest.slots.len());
    let whole = slots.iter().filter(|slot| slot.state == SlotState::Whole);
    let source = |slot: &SlotReport| {
        let place = usize::from(slot.slot);
        manifest.slots.get(place).map(|info| Source { slot: place, node: slot.node, info: *info })
    };
    let sources: Vec<_> = whole.filter_map(source).collect();
    if sources.len() < need {
        return Ok(None);
    }
    let mut recode = Recode::new(&layout);
    let mut reads = RangePlan::all_stripes(layout).reads().peekable();
    while reads.peek().is_some() {
        let window: Vec<_> = reads.by_ref().take(WINDOW).collect();
        let stripes = window.len();
        let mut fetcher = Fetcher::new(handle.clone(), window, need, all, sources.clone());
        for at in 0..stripes {
            let Ok(shards) = fetcher.stripe(at).await else { return Ok(None) };
            let working = tokio::task::spawn_blocking(move || {
                let pushed = recode.push(&shards);
                (recode, shards, pushed)
            });
            let (back, shards, pushed) = working.await.map_err(|_| NodeError::Stopping)?;
            pushed.map_err(|error| NodeError::Verification(error.to_string()))?;
            recode = back;
            fetcher.recycle(shards);
        }
    }
    Ok(Some(recode.finish().iter().eq(manifest.slots.iter().map(|info| &info.root))))
}

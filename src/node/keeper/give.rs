//! Give: a node that is clearly fuller than another gives it slots, so that a node that joins gets its share. Slowly, and
//! only slots that rank the other node before this one. One that took several slots of a file, for want of other nodes, gives
//! them to nodes that have none. It is the holder that gives: nobody takes from it.

use std::time::Duration;

use super::pace::Pace;
use super::plan::Nodes;
use super::{CLAIMS, Keeper, blocking};
use crate::crypto::{Domain, hash};
use crate::files::proof::Grain;
use crate::ledger::record::{Deal, DealStatus, NodeEntry, SlotId};
use crate::ledger::{Key, Record};
use crate::node::files::upload::ticket;
use crate::node::handle::NodeError;
use crate::node::slots::client::{SlotPeer, SlotPeerError};
use crate::store::Claim;
use crate::types::{ByteCount, NodeId};
use crate::wire::{self, Action, PublicManifest, StorageReceipt};

/// Slots that are given away in one epoch at the most.
const GIVEN_MAX: usize = 16;
/// Slots looked at in one epoch at the most.
const LOOKED_MAX: usize = 4 * CLAIMS;
/// How long to wait until a move is final.
const WITHIN: Duration = Duration::from_secs(60);

/// Gives until the node stops.
pub async fn run(keeper: Keeper) {
    let storage = keeper.handle.config().storage;
    if !keeper.has_voice() {
        return;
    }
    let pace = Pace::new(storage.relief_rate);
    let epoch_blocks = keeper.handle.genesis().epoch_blocks.max(1);
    let mut tips = keeper.tips();
    let (mut last, mut cursor) = (None, None);
    while let Some(height) = tips.next().await {
        let epoch = height.get().saturating_sub(1) / epoch_blocks;
        let first = *last.get_or_insert(epoch);
        // Not before this epoch's audit is over: what it asks for stays until then.
        let drawn = epoch_blocks == 1 || height.get() > epoch.saturating_mul(epoch_blocks).saturating_add(1);
        if first >= epoch || !drawn || keeper.is_behind() || is_asked(&keeper) {
            continue;
        }
        last = Some(epoch);
        let given = tokio::select! {
            given = some(&keeper, &pace, storage.relief_percent, &mut cursor) => given,
            () = keeper.handle.stop_token().cancelled() => return,
        };
        if let Err(error) = given {
            tracing::info!(%error, "a slot was not given to an emptier node");
        }
    }
}

/// Whether an audit of this node waits for its answer.
fn is_asked(keeper: &Keeper) -> bool {
    matches!(keeper.handle.record(&Key::Challenge(keeper.me())), Ok(Some(_)))
}

/// Whether the node is full enough to give.
fn is_full(entry: &NodeEntry, percent: u8) -> bool {
    let used = u128::from(entry.used.get()) * 100;
    entry.active && used > u128::from(entry.announcement.capacity.get()) * u128::from(percent)
}

/// Gives away some slots, going on behind the last one that was looked at.
async fn some(keeper: &Keeper, pace: &Pace, percent: u8, cursor: &mut Option<Claim>) -> Result<(), NodeError> {
    let Some(entry) = keeper.entry()?.filter(|entry| entry.active && !entry.draining) else { return Ok(()) };
    let mut nodes = Nodes::new(keeper.me(), keeper.handle.nodes()?);
    let (mut given, mut looked, mut left) = (0, 0, entry.used);
    while given < GIVEN_MAX && looked < LOOKED_MAX {
        let (slots, after) = (keeper.slots.clone(), *cursor);
        let page = blocking(move || slots.claims(after.as_ref(), CLAIMS)).await?;
        if page.is_empty() {
            *cursor = None;
            return Ok(());
        }
        for claim in page {
            *cursor = Some(claim);
            looked += 1;
            let id = SlotId { file: claim.0, slot: claim.1 };
            let is_full = is_full(&NodeEntry { used: left, ..entry.clone() }, percent);
            let Some((deal, to)) = taker(keeper, &nodes, &id, is_full)? else { continue };
            give(keeper, pace, &id, to).await?;
            given += 1;
            let len = ByteCount::new(deal.slot_len);
            nodes.moved(&keeper.me(), &to, len);
            left = left.checked_sub(len).unwrap_or(ByteCount::ZERO);
            if given == GIVEN_MAX {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Who had better have a slot of this node's.
fn taker(keeper: &Keeper, nodes: &Nodes, id: &SlotId, is_full: bool) -> Result<Option<(Deal, NodeId)>, NodeError> {
    let Some(Record::File(deal)) = keeper.handle.record(&Key::File(id.file))? else { return Ok(None) };
    let mine = deal.placement.get(usize::from(id.slot)) == Some(&keeper.me()) && deal.confirmed.has(id.slot);
    // A file that lacks slots has other worries.
    let settled = matches!(deal.status, DealStatus::Final { .. }) && deal.lost.is_empty();
    if !mine || !settled {
        return Ok(None);
    }
    let to = nodes.spread(&deal, id).or_else(|| nodes.relief(&deal, id).filter(|_| is_full));
    Ok(to.map(|to| (*deal, to)))
}

async fn give(keeper: &Keeper, pace: &Pace, id: &SlotId, to: NodeId) -> Result<(), NodeError> {
    let SlotId { file, slot } = *id;
    let manifest = match keeper.handle.record(&Key::Manifest(file))? {
        Some(Record::Manifest(manifest)) => manifest,
        _ => return Ok(()),
    };
    let Some(info) = manifest.slots.get(usize::from(slot)).copied() else { return Ok(()) };
    let unavailable = |error: SlotPeerError| NodeError::Unavailable(format!("node {}: {error}", to.short()));
    let receipt = send(keeper, pace, id, &manifest, to).await.map_err(|error| match error {
        Sending::Here(error) => error,
        Sending::There(error) => unavailable(error),
    })?;
    keeper.handle.act(Action::TakeSlot { file, receipt }, WITHIN).await?;
    keeper.counts().given_slots.inc();
    tracing::info!(%file, slot, bytes = info.len, to = %to.short(), "a slot went to an emptier node");
    Ok(())
}

/// Whose fault it is that a slot was not sent.
enum Sending {
    Here(NodeError),
    There(SlotPeerError),
}

impl From<SlotPeerError> for Sending {
    fn from(error: SlotPeerError) -> Self {
        Self::There(error)
    }
}

async fn send(
    keeper: &Keeper,
    pace: &Pace,
    id: &SlotId,
    manifest: &PublicManifest,
    to: NodeId,
) -> Result<StorageReceipt, Sending> {
    let Some(info) = manifest.slots.get(usize::from(id.slot)).copied() else {
        return Err(Sending::Here(NodeError::Bad(format!("file {} has no slot {}", id.file, id.slot))));
    };
    let (slots, root) = (keeper.slots.clone(), info.root);
    let mut slot = blocking(move || slots.get(&root)).await.map_err(Sending::Here)?;
    let mut peer = SlotPeer::connect(&keeper.handle, to).await?;
    let name = hash(Domain::Derive, &wire::encode(&(b"give", id, keeper.me())));
    let mut skip = peer.begin(ticket(&keeper.handle, &to, name, Some(info.len))?).await?;
    for index in 0..Grain::Block.count(info.len) {
        let bytes;
        (slot, bytes) = blocking(move || slot.block(index).map(|bytes| (slot, bytes))).await.map_err(Sending::Here)?;
        let known = usize::try_from(skip).unwrap_or(usize::MAX).min(bytes.len());
        skip -= known as u64;
        pace.spend((bytes.len() - known) as u64).await;
        peer.push(bytes.get(known..).unwrap_or_default()).await?;
    }
    let receipt = peer.finish(manifest, id.slot).await?;
    peer.close().await;
    Ok(receipt)
}

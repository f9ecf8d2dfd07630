//! Late: what a put left undone goes on in the background. Slots that were kept here go to their nodes when these are
//! back, and receipts that came late go to the chain, so that a pending deal becomes final by itself. Both need the keys of the
//! file's owner: what is of a user of this node waits until that user is logged in.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, SystemTime};

use tokio::fs;
use tokio::io::AsyncReadExt;

use super::spool::{Kept, Part, Spool};
use super::upload::ticket;
use crate::crypto::{Domain, hash};
use crate::ledger::record::Deal;
use crate::ledger::{Key, Record};
use crate::node::handle::{Handle, NodeError};
use crate::node::slots::client::{SlotPeer, SlotPeerError};
use crate::types::{FileId, NodeId, limits};
use crate::wire::{self, Action, PublicManifest, StorageReceipt};

/// How often the spool is looked through.
const LOOK: Duration = Duration::from_secs(2);
/// How long to wait until late receipts are final.
const CONFIRM_WITHIN: Duration = Duration::from_secs(60);
/// A slot of a file that never came to the chain is thrown away after this.
const UNKNOWN_KEPT: Duration = Duration::from_secs(86_400);

/// Sends kept slots until the node stops.
pub async fn run(handle: Handle) {
    let spool = handle.spool();
    if let Err(error) = spool.sweep().await {
        tracing::warn!(%error, "slots of an interrupted put could not be removed");
    }
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = looks.tick() => {}
            () = handle.stop_token().cancelled() => return,
        }
        let sending = async {
            if let Err(error) = look(&handle, &spool).await {
                tracing::warn!(%error, "slots that wait for their nodes could not be sent");
            }
        };
        tokio::select! {
            () = sending => {}
            () = handle.stop_token().cancelled() => return,
        }
    }
}

async fn look(handle: &Handle, spool: &Spool) -> Result<(), NodeError> {
    let disk = |error: io::Error| NodeError::Unavailable(format!("the spool: {error}"));
    let mut files: BTreeMap<FileId, Vec<Kept>> = BTreeMap::new();
    for kept in spool.list().await.map_err(disk)? {
        files.entry(kept.file).or_default().push(kept);
    }
    for (file, slots) in files {
        let deal = match handle.record(&Key::File(file))? {
            Some(Record::File(deal)) => Some(*deal),
            _ => None,
        };
        let owner = deal.as_ref().and_then(|deal| handle.acting_for(&deal.owner));
        let mut receipts = Vec::new();
        for kept in slots {
            match (fate(deal.as_ref(), kept.slot), &owner) {
                (Fate::Send(node), Some(owner)) => receipts.extend(send_if_there(owner, &kept, node).await?),
                (Fate::Send(_), None) => {}
                (Fate::Keep, _) if !is_old(&kept).await => {}
                (Fate::Keep | Fate::Drop, _) => fs::remove_file(&kept.path).await.map_err(disk)?,
            }
        }
        if let Some(owner) = &owner {
            confirm(owner, file, receipts).await?;
        }
    }
    Ok(())
}

/// What becomes of a slot that is kept.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    /// It is for this node. If it is lost by now, the node claims it itself.
    Send(NodeId),
    /// The chain does not know the file yet.
    Keep,
    /// Nobody needs it.
    Drop,
}

fn fate(deal: Option<&Deal>, slot: u8) -> Fate {
    match deal {
        None => Fate::Keep,
        Some(deal) if deal.status.is_open() && !deal.confirmed.has(slot) => {
            deal.placement.get(usize::from(slot)).map_or(Fate::Drop, |node| Fate::Send(*node))
        }
        Some(_) => Fate::Drop,
    }
}

async fn is_old(kept: &Kept) -> bool {
    let changed = fs::metadata(&kept.path).await.and_then(|meta| meta.modified());
    changed.is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|age| age > UNKNOWN_KEPT))
}

/// Sends a slot to its node if that is connected. That it fails is nothing new: it is tried again.
async fn send_if_there(handle: &Handle, kept: &Kept, node: NodeId) -> Result<Option<StorageReceipt>, NodeError> {
    if node != handle.identity().node && !handle.net().connected().borrow().contains(&node) {
        return Ok(None);
    }
    let Some(manifest) = handle.file(&kept.file)?.1 else { return Ok(None) };
    match send(handle, kept, &manifest, node).await {
        Ok(None) => {
            tracing::warn!(
                file = %kept.file, slot = kept.slot, node = %node.short(),
                "its node no longer has the beginning of a slot; the end is of no use. The same put again sends all of it"
            );
            fs::remove_file(&kept.path).await.map_err(|error| NodeError::Unavailable(format!("the spool: {error}")))?;
            Ok(None)
        }
        Ok(Some(receipt)) => {
            tracing::info!(file = %kept.file, slot = kept.slot, node = %node.short(), "a slot reached its node late");
            Ok(Some(receipt))
        }
        Err(error) => {
            tracing::debug!(file = %kept.file, slot = kept.slot, node = %node.short(), %error, "a slot still waits for its node");
            Ok(None)
        }
    }
}

/// Sends what the node lacks; nothing comes back if it lacks what is not here.
async fn send(
    handle: &Handle,
    kept: &Kept,
    manifest: &PublicManifest,
    node: NodeId,
) -> Result<Option<StorageReceipt>, SlotPeerError> {
    let mut peer = SlotPeer::connect(handle, node).await?;
    let whole = || Part { upload: hash(Domain::Derive, &wire::encode(&(b"late", kept.file, kept.slot))), from: 0 };
    let part = kept.part.unwrap_or_else(whole);
    let there = peer.begin(ticket(handle, &node, part.upload, Some(manifest.slot_len()))?).await?;
    let Some(skip) = there.checked_sub(part.from) else {
        // It may have taken in the slot, and died before its receipt came here.
        let claimed = if there == 0 { peer.finish(manifest, kept.slot).await.ok() } else { None };
        peer.close().await;
        return Ok(claimed);
    };
    let mut file = fs::File::open(&kept.path).await?;
    tokio::io::AsyncSeekExt::seek(&mut file, io::SeekFrom::Start(skip)).await?;
    let mut buffer = vec![0; limits::SLOT_BLOCK_BYTES];
    loop {
        let read = file.read(&mut buffer).await?;
        match buffer.get(..read) {
            Some(bytes) if read > 0 => peer.push(bytes).await?,
            _ => break,
        }
    }
    let receipt = peer.finish(manifest, kept.slot).await?;
    peer.close().await;
    Ok(Some(receipt))
}

/// Brings late receipts to the chain, those that it can still use. Errors: those of `Handle::act`.
pub async fn confirm(handle: &Handle, file: FileId, mut receipts: Vec<StorageReceipt>) -> Result<(), NodeError> {
    let Some(Record::File(deal)) = handle.record(&Key::File(file))? else { return Ok(()) };
    receipts.retain(|receipt| {
        let is_for = deal.placement.get(usize::from(receipt.slot)) == Some(&receipt.node);
        is_for && !deal.confirmed.has(receipt.slot) && !deal.lost.has(receipt.slot)
    });
    // One receipt of a node that is out would have the ledger refuse the others too.
    let is_active = |node| match handle.record(&Key::Node(node)) {
        Ok(Some(Record::Node(entry))) => Ok(entry.active),
        other => other.map(|_| false),
    };
    let mut usable = Vec::new();
    for receipt in receipts {
        if is_active(receipt.node)? {
            usable.push(receipt);
        }
    }
    let mut receipts = usable;
    receipts.sort_by_key(|receipt| receipt.slot);
    if receipts.is_empty() || !deal.status.is_open() {
        return Ok(());
    }
    handle.act(Action::ConfirmSlots { file, receipts }, CONFIRM_WITHIN).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::record::{DealStatus, SlotSet, SlotState};
    use crate::types::{AccountId, Amount, Height};

    #[test]
    fn a_kept_slot_goes_to_its_node_until_that_has_it_or_the_deal_ends() {
        let node = |n| NodeId::from_bytes([n; 32]);
        let mut confirmed = SlotSet::default();
        confirmed.insert(0);
        let mut lost = SlotSet::default();
        lost.insert(2);
        let deal = Deal {
            owner: AccountId::from_bytes([0; 32]),
            placement: (0..3).map(node).collect(),
            slots: vec![SlotState::default(); 3],
            slot_len: 1,
            data: 2,
            min_confirmations: 2,
            repair_threshold: 2,
            confirmed,
            lost,
            taken: 0,
            repairing: false,
            price: 1,
            escrow: Amount::ZERO,
            paid: Amount::ZERO,
            ends: Height::new(9),
            opened: Height::new(1),
            status: DealStatus::Pending { until: Height::new(5) },
        };
        assert_eq!(fate(None, 0), Fate::Keep);
        assert_eq!(fate(Some(&deal), 0), Fate::Drop, "confirmed by another way");
        assert_eq!(fate(Some(&deal), 1), Fate::Send(node(1)));
        assert_eq!(fate(Some(&deal), 2), Fate::Send(node(2)), "lost, and nobody else may be able to rebuild it");
        assert_eq!(fate(Some(&deal), 3), Fate::Drop);
        let ended = Deal { status: DealStatus::Expired { at: Height::new(6) }, ..deal };
        assert_eq!(fate(Some(&ended), 1), Fate::Drop);
    }
}

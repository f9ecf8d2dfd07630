//! Deals: where a file's slots are, how many are confirmed, and when it ends.

use std::collections::BTreeMap;

use super::block::BlockContext;
use super::effects::{Effects, Event};
use super::key::Key;
use super::node::counted_operator;
use super::record::{Deal, DealStatus, Due, NodeEntry, Record, SlotSet};
use super::reject::Reject;
use super::state::State;
use crate::crypto::{Batch, Domain};
use crate::types::{AccountId, ByteCount, FileId, Height};
use crate::wire::tx::FileCommit;
use crate::wire::{PublicManifest, StorageReceipt, VerifiedTx};

pub(super) fn commit_needs(state: &State, at: &BlockContext, commit: &FileCommit, keys: &mut Vec<Key>) {
    keys.extend([Key::File(commit.manifest.id()), Key::OperatorCount]);
    keys.extend(commit.placement.iter().map(|node| Key::Node(*node)));
    if state.is_loaded(&Key::Params) {
        keys.push(Key::DueCount(pending_until(state, at)));
    }
}

/// The last height at which a deal of this block may become final.
fn pending_until(state: &State, at: &BlockContext) -> Height {
    let blocks = state.params().map_or(1, |params| params.pending_blocks);
    Height::new(at.height.get().saturating_add(blocks))
}

/// Opens a deal: reserves the slots on their nodes and counts the receipts that came along.
/// Signatures, the shape of the manifest and the order of receipts were checked when the transaction was verified.
/// Errors: `FileExists`, `UnknownNode`, `NotStorage`, `NoRoom`, `Operator`.
pub(super) fn commit(state: &State, at: &BlockContext, commit: &FileCommit) -> Result<Effects, Reject> {
    let FileCommit { manifest, placement, min_confirmations, receipts } = commit;
    let file = manifest.id();
    if state.deal(&file).is_some() {
        return Err(Reject::FileExists(file));
    }
    let slot_len = manifest.slot_len();
    let mut effects = Effects::default();
    let mut per_operator = BTreeMap::<&str, u64>::new();
    for (slot, node) in (0..=u8::MAX).zip(placement) {
        let entry = state.node(node).ok_or(Reject::UnknownNode { slot, node: *node })?;
        let operator = counted_operator(entry).ok_or(Reject::NotStorage { slot, node: *node })?;
        let slots = per_operator.entry(operator).or_default();
        *slots = slots.saturating_add(1);
        let need = ByteCount::new(slot_len);
        let have = entry.free();
        let fits = entry.used.checked_add(need).filter(|_| need <= have);
        let used = fits.ok_or(Reject::NoRoom { slot, node: *node, have, need })?;
        effects.put(Key::Node(*node), Record::Node(Box::new(NodeEntry { used, ..entry.clone() })));
    }
    check_spread(&per_operator, manifest, state.operator_count())?;
    let mut confirmed = SlotSet::default();
    receipts.iter().for_each(|receipt| _ = confirmed.insert(receipt.slot));
    let mut deal = Deal {
        owner: manifest.owner,
        placement: placement.clone(),
        slot_len,
        data: manifest.data,
        min_confirmations: *min_confirmations,
        confirmed,
        opened: at.height,
        status: DealStatus::Pending { until: pending_until(state, at) },
    };
    effects.events.push(Event::FileCommitted(file));
    settle(&mut deal, &file, at.height, &mut effects);
    if let DealStatus::Pending { until } = deal.status {
        schedule(state, until, Due::PendingEnds(file), &mut effects);
    }
    effects.put(Key::OwnerFile(deal.owner, file), Record::OwnerFile);
    effects.put(Key::Manifest(file), Record::Manifest(Box::new(manifest.clone())));
    effects.put(Key::File(file), Record::File(Box::new(deal)));
    Ok(effects)
}

/// An operator is one failure domain: its loss must leave the file restorable, so it holds at most as many slots as the
/// file can lose. That is asked for only while there are as many operators as slots; with fewer it may not be possible.
/// Within this bound the owner's node places as evenly as it can, around nodes that are full or do not answer.
fn check_spread(per_operator: &BTreeMap<&str, u64>, manifest: &PublicManifest, operators: u64) -> Result<(), Reject> {
    let max = u64::from(manifest.parity.max(1));
    let worst = per_operator.iter().find(|(_, have)| **have > max);
    match worst.filter(|_| operators >= manifest.slots.len() as u64) {
        Some((operator, have)) => {
            Err(Reject::Operator { operator: (*operator).to_owned(), have: *have, max, operators })
        }
        None => Ok(()),
    }
}

/// Makes a pending deal final once it has the receipts it needs.
fn settle(deal: &mut Deal, file: &FileId, at: Height, effects: &mut Effects) {
    let enough = deal.confirmed.len() >= usize::from(deal.min_confirmations);
    if enough && matches!(deal.status, DealStatus::Pending { .. }) {
        deal.status = DealStatus::Final { since: at };
        effects.events.push(Event::FileFinal(*file));
    }
}

fn schedule(state: &State, at: Height, due: Due, effects: &mut Effects) {
    let count = match state.record(&Key::DueCount(at)) {
        Some(Record::DueCount(count)) => *count,
        _ => 0,
    };
    effects.put(Key::Due(at, count), Record::Due(due));
    effects.put(Key::DueCount(at), Record::DueCount(count.saturating_add(1)));
}

/// Adds receipts that came after the deal was opened.
/// Errors: `UnknownFile`, `FileOwner`, `Ended`, `UnknownSlot`, `ReceiptNode`, `Receipt`, `NothingNew`.
pub(super) fn confirm(
    state: &State,
    at: &BlockContext,
    tx: &VerifiedTx,
    file: &FileId,
    receipts: &[StorageReceipt],
) -> Result<Effects, Reject> {
    let deal = owned(state, &tx.sender(), file)?;
    let manifest = state.manifest(file).filter(|_| deal.status.is_open()).ok_or(Reject::Ended(*file))?;
    let mut deal = deal.clone();
    let mut new = Vec::new();
    for receipt in receipts {
        let (slot, slots) = (receipt.slot, deal.placement.len());
        let placed = deal.placement.get(usize::from(slot));
        let need = *placed.ok_or(Reject::UnknownSlot { slot, slots: slots as u64 })?;
        if receipt.node != need {
            return Err(Reject::ReceiptNode { slot, have: receipt.node, need });
        }
        if deal.confirmed.insert(slot) {
            new.push(receipt);
        }
    }
    if new.is_empty() {
        return Err(Reject::NothingNew(receipts.len() as u64));
    }
    verify_receipts(tx, file, manifest, &new)?;
    let mut effects = Effects::default();
    let (confirmed, slots) = (deal.confirmed.len() as u8, deal.placement.len() as u8);
    effects.events.push(Event::SlotsConfirmed { file: *file, confirmed, slots });
    settle(&mut deal, file, at.height, &mut effects);
    effects.put(Key::File(*file), Record::File(Box::new(deal)));
    Ok(effects)
}

fn verify_receipts(
    tx: &VerifiedTx,
    file: &FileId,
    manifest: &PublicManifest,
    receipts: &[&StorageReceipt],
) -> Result<(), Reject> {
    let chain = &tx.tx().body.chain;
    let mut batch = Batch::new();
    for receipt in receipts {
        let info = manifest.slots.get(usize::from(receipt.slot)).ok_or(Reject::Receipt(receipt.slot))?;
        let bytes = StorageReceipt::bytes(chain, file, receipt.slot, info);
        batch.push(receipt.node.as_bytes(), Domain::Receipt, &bytes, &receipt.signature);
    }
    if batch.verify().is_ok() {
        return Ok(());
    }
    // The batch only says that some signature is wrong; one by one says which, and decides.
    for receipt in receipts {
        let info = manifest.slots.get(usize::from(receipt.slot)).ok_or(Reject::Receipt(receipt.slot))?;
        receipt.verify(chain, file, info).map_err(|_| Reject::Receipt(receipt.slot))?;
    }
    Ok(())
}

fn owned<'a>(state: &'a State, sender: &AccountId, file: &FileId) -> Result<&'a Deal, Reject> {
    let deal = state.deal(file).ok_or(Reject::UnknownFile(*file))?;
    if deal.owner == *sender {
        Ok(deal)
    } else {
        Err(Reject::FileOwner { file: *file, have: deal.owner, need: *sender })
    }
}

/// The keys that ending a deal reads: the deal, then its nodes.
pub(super) fn end_needs(state: &State, file: &FileId, keys: &mut Vec<Key>) {
    let key = Key::File(*file);
    if state.is_loaded(&key)
        && let Some(deal) = state.deal(file).filter(|deal| deal.status.is_open())
    {
        keys.extend(deal.placement.iter().map(|node| Key::Node(*node)));
    }
    keys.push(key);
}

/// Ends a deal for its owner and frees its bytes. One that expired only leaves the owner's list.
/// Errors: `UnknownFile`, `FileOwner`, `Ended`.
pub(super) fn delete(state: &State, at: &BlockContext, sender: &AccountId, file: &FileId) -> Result<Effects, Reject> {
    let deal = owned(state, sender, file)?;
    let mut effects = Effects::default();
    match deal.status {
        DealStatus::Deleted { .. } => return Err(Reject::Ended(*file)),
        DealStatus::Expired { .. } => {}
        DealStatus::Pending { .. } | DealStatus::Final { .. } => release(state, deal, file, &mut effects),
    }
    effects.remove(Key::OwnerFile(deal.owner, *file));
    let ended = Deal { status: DealStatus::Deleted { at: at.height }, ..deal.clone() };
    effects.put(Key::File(*file), Record::File(Box::new(ended)));
    effects.events.push(Event::FileDeleted(*file));
    Ok(effects)
}

/// Ends a deal whose time to become final has run out; does nothing to any other.
pub(super) fn expire(state: &State, at: Height, file: &FileId) -> Effects {
    let mut effects = Effects::default();
    let Some(deal) = state.deal(file).filter(|deal| matches!(deal.status, DealStatus::Pending { .. })) else {
        return effects;
    };
    release(state, deal, file, &mut effects);
    let ended = Deal { status: DealStatus::Expired { at }, ..deal.clone() };
    effects.put(Key::File(*file), Record::File(Box::new(ended)));
    effects.events.push(Event::FileExpired(*file));
    effects
}

/// Gives the slots' bytes back to their nodes. The deal itself stays, so that its id is never used again.
fn release(state: &State, deal: &Deal, file: &FileId, effects: &mut Effects) {
    let len = ByteCount::new(deal.slot_len);
    for node in &deal.placement {
        if let Some(entry) = state.node(node) {
            let used = entry.used.checked_sub(len).unwrap_or(ByteCount::ZERO);
            effects.put(Key::Node(*node), Record::Node(Box::new(NodeEntry { used, ..entry.clone() })));
        }
    }
    effects.remove(Key::Manifest(*file));
}

//! Deals: where a file's slots are, how many are confirmed, and when it ends.

use std::collections::BTreeMap;

use super::block::BlockContext;
use super::draft::Draft;
use super::effects::{Effects, Event};
use super::key::Key;
use super::node::counted_operator;
use super::record::{Deal, DealStatus, Due, NodeEntry, Record, SlotSet, SlotState};
use super::reject::Reject;
use super::state::State;
use super::{holding, payment, share, slot};
use crate::crypto::{Batch, Domain};
use crate::types::{AccountId, Amount, ByteCount, FileId, Height};
use crate::wire::tx::FileCommit;
use crate::wire::{PublicManifest, StorageReceipt, VerifiedTx};

/// The keys that opening a deal reads.
pub(super) fn commit_needs(draft: &Draft<'_>, commit: &FileCommit, keys: &mut Vec<Key>) {
    keys.extend([Key::File(commit.manifest.id()), Key::OperatorCount]);
    keys.extend(commit.placement.iter().map(|node| Key::Node(*node)));
    for receipt in &commit.receipts {
        holding::add_needs(draft, receipt.node, keys);
    }
    if let Some(params) = draft.params() {
        keys.push(Key::DueCount(expires(draft.after(params.pending_blocks))));
        keys.extend(payment::lasts(&params, draft.at, draft.at, commit.epochs).map(Key::DueCount));
    }
}

/// When a deal ends that may become final up to a height.
fn expires(until: Height) -> Height {
    Height::new(until.get().saturating_add(1))
}

/// Opens a deal: takes its price into escrow, reserves the slots on their nodes and counts the receipts that came along.
/// Signatures, the shape of the manifest and the order of receipts were checked when the transaction was verified.
/// Errors: `FileExists`, `UnknownNode`, `NotStorage`, `NoRoom`, `Operator`, `ReceiptExpired`, `Epochs`, `Funds`, `Quota`.
pub(super) fn commit(state: &State, at: &BlockContext, commit: &FileCommit) -> Result<Effects, Reject> {
    let FileCommit { manifest, placement, min_confirmations, repair_threshold, epochs, receipts } = commit;
    let mut draft = Draft::new(state, at.height);
    let params = draft.params().expect("the parameters are loaded first");
    let file = manifest.id();
    if draft.deal(&file).is_some() {
        return Err(Reject::FileExists(file));
    }
    reserve(&mut draft, commit)?;
    receipts.iter().try_for_each(|receipt| check_receipt_age(receipt, at.height))?;
    let until = draft.after(params.pending_blocks);
    let mut deal = Deal {
        owner: manifest.owner,
        placement: placement.clone(),
        slots: vec![SlotState::default(); placement.len()],
        slot_len: manifest.slot_len(),
        data: manifest.data,
        min_confirmations: *min_confirmations,
        repair_threshold: *repair_threshold,
        confirmed: SlotSet::default(),
        lost: SlotSet::default(),
        taken: 0,
        repairing: false,
        price: params.storage.price,
        escrow: Amount::ZERO,
        paid: Amount::ZERO,
        ends: payment::lasts(&params, at.height, at.height, *epochs)?,
        opened: at.height,
        status: DealStatus::Pending { until },
    };
    let cost = payment::cost(deal.price, deal.slot_len, placement.len(), *epochs);
    deal.escrow = payment::charge(&mut draft, &manifest.owner, cost)?;
    payment::count_stored(&mut draft, &deal, params.storage.quota)?;
    draft.count(|tally, _| tally.opened = tally.opened.saturating_add(1));
    draft.event(Event::FileCommitted(file));
    for receipt in receipts {
        slot::hold(&mut draft, &mut deal, &file, receipt.slot);
    }
    settle(&mut draft, &mut deal, &file);
    if deal.confirmed.len() < placement.len() {
        draft.schedule(expires(until), Due::PendingEnds(file));
    }
    draft.schedule(deal.ends, Due::DealEnds(file));
    draft.put(Key::OwnerFile(deal.owner, file), Record::OwnerFile);
    draft.put(Key::Manifest(file), Record::Manifest(Box::new(manifest.clone())));
    draft.put_deal(file, deal);
    Ok(draft.done())
}

/// Reserves room for each slot on its node.
fn reserve(draft: &mut Draft<'_>, commit: &FileCommit) -> Result<(), Reject> {
    let state = draft.state();
    let need = ByteCount::new(commit.manifest.slot_len());
    let mut per_operator = BTreeMap::<&str, u64>::new();
    for (slot, node) in (0..=u8::MAX).zip(&commit.placement) {
        let entry = state.node(node).ok_or(Reject::UnknownNode { slot, node: *node })?;
        let operator = counted_operator(entry).ok_or(Reject::NotStorage { slot, node: *node })?;
        let slots = per_operator.entry(operator).or_default();
        *slots = slots.saturating_add(1);
        let have = entry.free();
        let fits = entry.used.checked_add(need).filter(|_| need <= have);
        let used = fits.ok_or(Reject::NoRoom { slot, node: *node, have, need })?;
        draft.put_node(*node, NodeEntry { used, ..entry.clone() });
    }
    check_spread(&per_operator, &commit.manifest, state.operator_count())
}

/// Errors: `ReceiptExpired`.
pub(super) fn check_receipt_age(receipt: &StorageReceipt, at: Height) -> Result<(), Reject> {
    let (slot, have) = (receipt.slot, receipt.until);
    if have < at { Err(Reject::ReceiptExpired { slot, have, need: at }) } else { Ok(()) }
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
pub(super) fn settle(draft: &mut Draft<'_>, deal: &mut Deal, file: &FileId) {
    let enough = deal.confirmed.len() >= usize::from(deal.min_confirmations);
    if enough && matches!(deal.status, DealStatus::Pending { .. }) {
        deal.status = DealStatus::Final { since: draft.at };
        draft.count(|tally, at| tally.reach(deal.opened, at));
        draft.event(Event::FileFinal(*file));
    }
}

/// The keys that adding receipts reads.
pub(super) fn confirm_needs(draft: &Draft<'_>, file: &FileId, receipts: &[StorageReceipt], keys: &mut Vec<Key>) {
    keys.extend([Key::File(*file), Key::Manifest(*file)]);
    for receipt in receipts {
        holding::add_needs(draft, receipt.node, keys);
    }
}

/// Adds receipts that came after the deal was opened.
/// Errors: `UnknownFile`, `FileOwner`, `Ended`, `UnknownSlot`, `ReceiptNode`, `SlotLost`, `NotStorage`, `ReceiptExpired`,
/// `Receipt`, `NothingNew`.
pub(super) fn confirm(
    state: &State,
    at: &BlockContext,
    tx: &VerifiedTx,
    file: &FileId,
    receipts: &[StorageReceipt],
) -> Result<Effects, Reject> {
    let mut draft = Draft::new(state, at.height);
    let mut deal = owned(&draft, &tx.sender(), file)?.clone();
    let manifest = state.manifest(file).filter(|_| deal.status.is_open()).ok_or(Reject::Ended(*file))?;
    let mut new = Vec::new();
    for receipt in receipts {
        let (slot, slots) = (receipt.slot, deal.placement.len());
        let placed = deal.placement.get(usize::from(slot));
        let need = *placed.ok_or(Reject::UnknownSlot { slot, slots: slots as u64 })?;
        if receipt.node != need {
            return Err(Reject::ReceiptNode { slot, have: receipt.node, need });
        }
        if deal.lost.has(slot) {
            return Err(Reject::SlotLost { file: *file, slot });
        }
        if !deal.confirmed.has(slot) {
            let active = draft.node(&need).is_some_and(|entry| entry.active);
            let fault = Reject::NotStorage { slot, node: need };
            active.then_some(()).ok_or(fault)?;
            check_receipt_age(receipt, at.height)?;
            new.push(receipt);
        }
    }
    if new.is_empty() {
        return Err(Reject::NothingNew(receipts.len() as u64));
    }
    verify_receipts(tx, file, manifest, &new)?;
    for receipt in new {
        slot::hold(&mut draft, &mut deal, file, receipt.slot);
    }
    let (confirmed, slots) = (deal.confirmed.len() as u8, deal.placement.len() as u8);
    draft.event(Event::SlotsConfirmed { file: *file, confirmed, slots });
    settle(&mut draft, &mut deal, file);
    draft.put_deal(*file, deal);
    Ok(draft.done())
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
        let bytes = StorageReceipt::bytes(chain, file, receipt.slot, receipt.until, info);
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

/// A deal of the sender's. Errors: `UnknownFile`, `FileOwner`.
pub(super) fn owned<'a>(draft: &'a Draft<'_>, sender: &AccountId, file: &FileId) -> Result<&'a Deal, Reject> {
    let deal = draft.deal(file).ok_or(Reject::UnknownFile(*file))?;
    if deal.owner == *sender {
        Ok(deal)
    } else {
        Err(Reject::FileOwner { file: *file, have: deal.owner, need: *sender })
    }
}

/// The keys that ending a deal reads: the deal, then its nodes, then their accounts and sums.
pub(super) fn end_needs(draft: &Draft<'_>, file: &FileId, keys: &mut Vec<Key>) {
    keys.extend([Key::File(*file), Key::Lost(*file)]);
    let Some(deal) = draft.deal(file).filter(|deal| deal.status.is_open()) else { return };
    keys.extend([Key::Account(deal.owner), Key::Shares(*file)]);
    for place in payment::slots(deal).filter(|place| !deal.lost.has(*place)) {
        slot::leave_needs(draft, deal, place, keys);
    }
}

/// Ends a deal for its owner, who pays for the epoch that has begun, and frees its bytes. One that ended by itself only leaves the owner's list.
/// Errors: `UnknownFile`, `FileOwner`, `Ended`.
pub(super) fn delete(state: &State, at: &BlockContext, sender: &AccountId, file: &FileId) -> Result<Effects, Reject> {
    let mut draft = Draft::new(state, at.height);
    let mut deal = owned(&draft, sender, file)?.clone();
    let status = DealStatus::Deleted { at: at.height };
    match deal.status {
        DealStatus::Deleted { .. } => return Err(Reject::Ended(*file)),
        DealStatus::Expired { .. } | DealStatus::Ended { .. } => deal.status = status,
        DealStatus::Pending { .. } | DealStatus::Final { .. } => {
            payment::pay_begun_epoch(&mut draft, &mut deal, file);
            close(&mut draft, &mut deal, file, status);
        }
    }
    draft.remove(Key::OwnerFile(deal.owner, *file));
    draft.put_deal(*file, deal);
    draft.event(Event::FileDeleted(*file));
    Ok(draft.done())
}

/// Ends a deal whose time to become final has run out. In a final one, slots that never had a receipt are lost.
pub(super) fn expire(draft: &mut Draft<'_>, file: &FileId) {
    let Some(mut deal) = draft.deal(file).cloned() else { return };
    match deal.status {
        DealStatus::Pending { .. } => {
            let at = draft.at;
            close(draft, &mut deal, file, DealStatus::Expired { at });
            draft.event(Event::FileExpired(*file));
        }
        DealStatus::Final { .. } => {
            let missing = |slot: &u8| !deal.confirmed.has(*slot) && !deal.lost.has(*slot);
            let missing: Vec<_> = payment::slots(&deal).filter(missing).collect();
            missing.into_iter().for_each(|missing| slot::lose(draft, &mut deal, file, missing));
        }
        _ => return,
    }
    draft.put_deal(*file, deal);
}

/// The keys that the end of a deal's time reads.
pub(super) fn time_up_needs(draft: &Draft<'_>, file: &FileId, keys: &mut Vec<Key>) {
    match draft.deal(file).filter(|deal| deal.status.is_open() && deal.ends > draft.at) {
        Some(renewed) => keys.push(Key::DueCount(renewed.ends)),
        None => end_needs(draft, file, keys),
    }
}

/// Ends a deal whose time is up; comes back later for one that was renewed.
pub(super) fn time_up(draft: &mut Draft<'_>, file: &FileId) {
    let Some(mut deal) = draft.deal(file).filter(|deal| deal.status.is_open()).cloned() else { return };
    if deal.ends > draft.at {
        return draft.schedule(deal.ends, Due::DealEnds(*file));
    }
    let at = draft.at;
    close(draft, &mut deal, file, DealStatus::Ended { at });
    draft.event(Event::FileEnded(*file));
    draft.put_deal(*file, deal);
}

/// Pays the nodes, gives them their bytes back, and the owner what is left. The deal itself stays, so that its id is never
/// used again.
fn close(draft: &mut Draft<'_>, deal: &mut Deal, file: &FileId, status: DealStatus) {
    let (confirmed, before) = (deal.confirmed, deal.status);
    draft.count(|tally, _| tally.close(before, status));
    for place in payment::slots(deal) {
        slot::leave(draft, deal, file, place);
    }
    payment::refund(draft, deal, file);
    if deal.repairing {
        deal.repairing = false;
        draft.remove(Key::Lost(*file));
    }
    share::end_all(draft, file);
    draft.remove(Key::Manifest(*file));
    // How many slots it had in the end stays readable.
    deal.confirmed = confirmed;
    deal.slots.clear();
    deal.status = status;
}

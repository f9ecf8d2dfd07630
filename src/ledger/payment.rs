//! Payment: an owner pays for a deal ahead, into its escrow; a node earns with every audit that it passes; what nobody
//! has earned goes back.
//!
//! Invariant: balances and escrows of all deals add up to the supply.

use super::block::BlockContext;
use super::draft::Draft;
use super::effects::{Effects, Event};
use super::key::Key;
use super::promise::GIB;
use super::record::{Account, Deal, Params};
use super::reject::Reject;
use super::state::State;
use crate::types::{AccountId, Amount, ByteCount, FileId, Height, NodeId};

/// What a number of slots costs for some epochs, rounded up; nothing if it is more than there can be.
pub(super) fn cost(price: u64, slot_len: u64, slots: usize, epochs: u32) -> Option<Amount> {
    let parts = u128::from(price).checked_mul(slot_len.into())?.checked_mul(slots as u128)?;
    u64::try_from(parts.checked_mul(epochs.into())?.div_ceil(GIB)).ok().map(Amount::new)
}

/// Bytes of all slots of a deal.
pub(super) fn stored(deal: &Deal) -> ByteCount {
    ByteCount::new(deal.slot_len.saturating_mul(deal.placement.len() as u64))
}

/// Takes credits from an account for an escrow. Errors: `Funds`.
pub(super) fn charge(draft: &mut Draft<'_>, from: &AccountId, need: Option<Amount>) -> Result<Amount, Reject> {
    let payer = draft.account(from);
    let need = need.unwrap_or(Amount::new(u64::MAX));
    let balance = payer.balance.checked_sub(need).ok_or(Reject::Funds { have: payer.balance, need })?;
    draft.put_account(*from, Account { balance, ..payer });
    Ok(need)
}

/// Counts the slots of a new deal for its owner. Errors: `Quota`.
pub(super) fn count_stored(draft: &mut Draft<'_>, deal: &Deal, quota: ByteCount) -> Result<(), Reject> {
    let account = draft.account(&deal.owner);
    let have = ByteCount::new(account.stored.get().saturating_add(stored(deal).get()));
    if quota > ByteCount::ZERO && have > quota {
        return Err(Reject::Quota { have, max: quota });
    }
    draft.put_account(deal.owner, Account { stored: have, ..account });
    Ok(())
}

/// Pays a node what it has earned with a slot that it holds; says whether it has passed an audit since the last time. Needs
/// the node and its account.
pub(super) fn settle_slot(draft: &mut Draft<'_>, deal: &mut Deal, file: &FileId, slot: u8) -> bool {
    let node = deal.placement.get(usize::from(slot)).copied();
    let Some(node) = node.filter(|_| deal.confirmed.has(slot)) else { return false };
    let Some(passed) = draft.node(&node).map(|entry| entry.audit.passed) else { return false };
    let Some(state) = deal.slots.get_mut(usize::from(slot)) else { return false };
    let audits = passed.saturating_sub(state.passed);
    if audits == 0 {
        return false;
    }
    state.passed = passed;
    pay(draft, deal, file, slot, audits);
    true
}

/// Pays the nodes of a deal that its owner ends early for the epoch that has begun, if they are in good standing: nobody
/// has asked them for it yet. Otherwise a file that is deleted and put anew between two audits would be stored for nothing.
pub(super) fn pay_begun_epoch(draft: &mut Draft<'_>, deal: &mut Deal, file: &FileId) {
    for slot in slots(deal) {
        let strikes = deal.slots.get(usize::from(slot)).map_or(0, |state| state.strikes);
        let holder = deal.placement.get(usize::from(slot)).and_then(|node| draft.node(node));
        if deal.confirmed.has(slot) && strikes == 0 && holder.is_some_and(|entry| entry.active) {
            pay(draft, deal, file, slot, 1);
        }
    }
}

/// Pays the slot's node for so many audits, out of the escrow and never more than is in it.
fn pay(draft: &mut Draft<'_>, deal: &mut Deal, file: &FileId, slot: u8, audits: u64) {
    let Some(node) = deal.placement.get(usize::from(slot)).copied() else { return };
    let Some(account) = draft.node(&node).map(|entry| entry.account) else { return };
    let per_audit = u128::from(deal.price).saturating_mul(deal.slot_len.into());
    let Some(state) = deal.slots.get_mut(usize::from(slot)) else { return };
    let earned = per_audit.saturating_mul(audits.into()).saturating_add(state.rest.into());
    let whole = u64::try_from(earned / GIB).unwrap_or(u64::MAX);
    let amount = Amount::new(whole).min(deal.escrow);
    state.rest = (earned % GIB) as u32;
    deal.escrow = deal.escrow.checked_sub(amount).unwrap_or(Amount::ZERO);
    // The same credits may come round again by renewals.
    deal.paid = deal.paid.checked_add(amount).unwrap_or(Amount::new(u64::MAX));
    if amount > Amount::ZERO {
        give(draft, &account, amount);
        draft.event(Event::Paid { file: *file, node, amount });
    }
}

/// All credits together fit 64 bits, so an account's do.
fn give(draft: &mut Draft<'_>, to: &AccountId, amount: Amount) {
    let account = draft.account(to);
    let balance = account.balance.checked_add(amount).expect("all credits together fit");
    draft.put_account(*to, Account { balance, ..account });
}

/// Gives what is left in escrow back to the owner, and frees the owner's quota.
pub(super) fn refund(draft: &mut Draft<'_>, deal: &mut Deal, file: &FileId) {
    let amount = std::mem::take(&mut deal.escrow);
    if amount > Amount::ZERO {
        give(draft, &deal.owner, amount);
        draft.event(Event::Refunded { file: *file, amount });
    }
    let account = draft.account(&deal.owner);
    let left = account.stored.checked_sub(stored(deal)).unwrap_or(ByteCount::ZERO);
    draft.put_account(deal.owner, Account { stored: left, ..account });
}

/// The keys of a deal's nodes and of the accounts that it pays.
pub(super) fn settle_needs(draft: &Draft<'_>, file: &FileId, keys: &mut Vec<Key>) {
    keys.push(Key::File(*file));
    let Some(deal) = draft.deal(file).filter(|deal| deal.status.is_open()) else { return };
    for node in &deal.placement {
        payee_needs(draft, *node, keys);
    }
}

/// The keys of a node and of its account.
pub(super) fn payee_needs(draft: &Draft<'_>, node: NodeId, keys: &mut Vec<Key>) {
    keys.push(Key::Node(node));
    keys.extend(draft.node(&node).map(|entry| Key::Account(entry.account)));
}

/// Pays all nodes of a deal what they have earned so far. Errors: `UnknownFile`, `Ended`, `NothingEarned`.
pub(super) fn settle(state: &State, at: &BlockContext, file: &FileId) -> Result<Effects, Reject> {
    let mut draft = Draft::new(state, at.height);
    let mut deal = open(&draft, file)?;
    let mut earned = false;
    for slot in slots(&deal) {
        earned |= settle_slot(&mut draft, &mut deal, file, slot);
    }
    if !earned {
        return Err(Reject::NothingEarned(*file));
    }
    draft.put_deal(*file, deal);
    Ok(draft.done())
}

/// An open deal. Errors: `UnknownFile`, `Ended`.
pub(super) fn open(draft: &Draft<'_>, file: &FileId) -> Result<Deal, Reject> {
    let deal = draft.deal(file).ok_or(Reject::UnknownFile(*file))?;
    if deal.status.is_open() { Ok(deal.clone()) } else { Err(Reject::Ended(*file)) }
}

/// The slots of a deal, in order.
pub(super) fn slots(deal: &Deal) -> impl Iterator<Item = u8> + use<> {
    (0..=u8::MAX).take(deal.placement.len())
}

/// When a deal ends that is paid for so many epochs more: in the last epoch after the answers to its audit, so that each
/// epoch that was paid for is also asked for, and what it earned is known. That can be most of an epoch later than the epochs
/// alone would have it. Errors: `Epochs`.
pub(super) fn lasts(params: &Params, at: Height, from: Height, epochs: u32) -> Result<Height, Reject> {
    let (length, within) = (params.epoch_blocks, |height: u64| height.checked_rem(params.epoch_blocks).unwrap_or(0));
    let ends = from.get().saturating_add(u64::from(epochs).saturating_mul(length));
    let left = ends.saturating_sub(at.get()).checked_div(length).unwrap_or(0);
    let max = u64::from(params.storage.epochs_max);
    if left > max {
        return Err(Reject::Epochs { have: left, max });
    }
    // The audit is drawn in the epoch's second block.
    let answered = params.storage.answer_blocks.saturating_add(2);
    let late = answered.saturating_sub(within(ends.saturating_sub(1)));
    // Where there is hardly a block between two audits, the next epoch's first one has to do.
    Ok(Height::new(ends.saturating_add(if answered < length { late } else { within(late) })))
}

/// Makes a deal last longer, at the price at which it was opened.
/// Errors: `UnknownFile`, `FileOwner`, `Ended`, `Epochs`, `Funds`.
pub(super) fn renew(
    state: &State,
    at: &BlockContext,
    sender: &AccountId,
    file: &FileId,
    epochs: u32,
) -> Result<Effects, Reject> {
    let mut draft = Draft::new(state, at.height);
    let mut deal = super::deal::owned(&draft, sender, file)?.clone();
    if !deal.status.is_open() {
        return Err(Reject::Ended(*file));
    }
    let params = draft.params().expect("the parameters are loaded first");
    deal.ends = lasts(&params, at.height, deal.ends, epochs)?;
    let added = charge(&mut draft, sender, cost(deal.price, deal.slot_len, deal.placement.len(), epochs))?;
    deal.escrow = deal.escrow.checked_add(added).expect("all credits together fit");
    draft.event(Event::FileRenewed { file: *file, ends: deal.ends });
    draft.put_deal(*file, deal);
    Ok(draft.done())
}

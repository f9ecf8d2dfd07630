//! Slots: how one is lost, who may take it over, and when its node is free of it.

use super::block::BlockContext;
use super::deal::{check_receipt_age, settle};
use super::draft::Draft;
use super::effects::{Effects, Event};
use super::key::Key;
use super::node::{count_operators, counted_operator};
use super::promise::REPUTATION_LEAST;
use super::record::{Deal, NodeEntry, Record, SlotId, SlotState};
use super::reject::Reject;
use super::state::State;
use super::{audit, holding, payment};
use crate::types::{AccountId, ByteCount, FileId, Height, NodeId};
use crate::wire::{StorageReceipt, VerifiedTx};

/// The keys that taking a confirmed slot from its node reads.
pub(super) fn leave_needs(draft: &Draft<'_>, deal: &Deal, slot: u8, keys: &mut Vec<Key>) {
    let Some(node) = deal.placement.get(usize::from(slot)) else { return };
    payment::payee_needs(draft, *node, keys);
    if let Some(state) = deal.slots.get(usize::from(slot)).filter(|_| deal.confirmed.has(slot)) {
        holding::remove_needs(draft, *node, state.leaf, keys);
    }
}

/// Pays the slot's node and frees its bytes. The slot is then in neither set.
pub(super) fn leave(draft: &mut Draft<'_>, deal: &mut Deal, file: &FileId, slot: u8) {
    let Some(node) = deal.placement.get(usize::from(slot)).copied() else { return };
    if deal.lost.remove(slot) {
        return;
    }
    payment::settle_slot(draft, deal, file, slot);
    let Some(mut entry) = draft.node(&node).cloned() else { return };
    if deal.confirmed.remove(slot) {
        let leaf = deal.slots.get(usize::from(slot)).map_or(0, |state| state.leaf);
        holding::remove(draft, node, &mut entry, leaf, deal.slot_len);
    }
    entry.used = entry.used.checked_sub(ByteCount::new(deal.slot_len)).unwrap_or(ByteCount::ZERO);
    let released = entry.draining && entry.used == ByteCount::ZERO;
    draft.put_node(node, entry);
    if released {
        draft.event(Event::NodeReleased(node));
    }
}

/// Nobody holds the slot any more. When so few are left as the deal's repair threshold says, others may take over all that are
/// lost, until none is. Above it a lost slot only waits for its last holder. Needs `Key::Lost` beside what `leave` needs.
pub(super) fn lose(draft: &mut Draft<'_>, deal: &mut Deal, file: &FileId, slot: u8) {
    leave(draft, deal, file, slot);
    deal.lost.insert(slot);
    draft.count(|tally, _| tally.lost = tally.lost.saturating_add(1));
    if let Some(state) = deal.slots.get_mut(usize::from(slot)) {
        *state = SlotState::default();
    }
    if deal.is_endangered() && !deal.repairing {
        deal.repairing = true;
        let since = draft.at;
        draft.put(Key::Lost(*file), Record::Lost { since });
    }
    if let Some(node) = deal.placement.get(usize::from(slot)) {
        draft.event(Event::SlotLost { file: *file, slot, node: *node });
    }
}

/// The slot is its node's from now on, by a receipt. The node's bytes are reserved already. An audit that was drawn before does
/// not pay for it: otherwise nodes could hand a slot round and be paid for it several times in one epoch.
pub(super) fn hold(draft: &mut Draft<'_>, deal: &mut Deal, file: &FileId, slot: u8) {
    let Some(node) = deal.placement.get(usize::from(slot)).copied() else { return };
    let Some(mut entry) = draft.node(&node).cloned() else { return };
    let id = SlotId { file: *file, slot };
    let waits = u64::from(draft.record(&Key::Challenge(node)).is_some());
    let passed = entry.audit.passed.saturating_add(waits);
    let leaf = holding::add(draft, node, &mut entry, id, deal.slot_len);
    if let Some(state) = deal.slots.get_mut(usize::from(slot)) {
        *state = SlotState { leaf, passed, ..SlotState::default() };
    }
    deal.confirmed.insert(slot);
    draft.put_node(node, entry);
}

/// The keys that taking over a slot reads.
pub(super) fn take_needs(draft: &Draft<'_>, file: &FileId, receipt: &StorageReceipt, keys: &mut Vec<Key>) {
    keys.extend([Key::File(*file), Key::Manifest(*file), Key::Lost(*file), Key::OperatorCount]);
    holding::add_needs(draft, receipt.node, keys);
    keys.push(Key::Missed(receipt.node));
    if let Some(deal) = draft.deal(file).filter(|deal| deal.status.is_open()) {
        keys.extend(deal.placement.iter().map(|node| Key::Node(*node)));
        keys.extend(deal.placement.get(usize::from(receipt.slot)).map(|holder| Key::Challenge(*holder)));
        leave_needs(draft, deal, receipt.slot, keys);
    }
}

/// Gives a slot to the node that has a receipt for it. A lost slot goes to its last holder, and once the file is to be repaired to
/// any node that may hold it, at the wish of the node's account. One that has a holder leaves it only if the holder drains, or at the wish of the holder's
/// own account and if the new one is clearly emptier, or has no slot of the file and the holder several: a claim to capacity takes nothing from an honest node.
/// Errors: `UnknownFile`, `Ended`, `UnknownSlot`, `NoNode`, `NodeOwner`, `NotMovable`, `NotDue`, `Asked`, `Distrusted`, `NotStorage`,
/// `HoldsAnother`, `NoRoom`, `Operator`, `ReceiptExpired`, `Receipt`.
pub(super) fn take(
    state: &State,
    at: &BlockContext,
    tx: &VerifiedTx,
    file: &FileId,
    receipt: &StorageReceipt,
) -> Result<Effects, Reject> {
    let mut draft = Draft::new(state, at.height);
    let mut deal = payment::open(&draft, file)?;
    let manifest = state.manifest(file).ok_or(Reject::Ended(*file))?;
    let (slot, node) = (receipt.slot, receipt.node);
    let slots = deal.placement.len() as u64;
    let from = *deal.placement.get(usize::from(slot)).ok_or(Reject::UnknownSlot { slot, slots })?;
    let taker = draft.node(&node).ok_or(Reject::NoNode(node))?;
    check_consent(&draft, &deal, file, slot, taker, &tx.sender())?;
    let was_lost = deal.lost.has(slot);
    if was_lost {
        check_trust(&draft, file, taker)?
    } else {
        check_unasked(&draft, file, slot, from)?
    }
    let operator = counted_operator(taker).ok_or(Reject::NotStorage { slot, node })?;
    let mut others = payment::slots(&deal).filter(|other| *other != slot && holds(&deal, *other, &node));
    let waits_long = waits_long(&draft, file);
    let share = share_of_node(&deal, draft.state().operator_count(), waits_long);
    if let Some(slot) = others.next().filter(|_| others.count().saturating_add(2) > share) {
        return Err(Reject::HoldsAnother { node, slot });
    }
    let (have, need) = (taker.free(), ByteCount::new(deal.slot_len));
    if need > have {
        return Err(Reject::NoRoom { slot, node, have, need });
    }
    check_operator(&draft, &deal, slot, operator, waits_long)?;
    check_receipt_age(receipt, at.height)?;
    let info = manifest.slots.get(usize::from(slot)).ok_or(Reject::UnknownSlot { slot, slots })?;
    receipt.verify(&tx.tx().body.chain, file, info).map_err(|_| Reject::Receipt(slot))?;
    if deal.lost.has(slot) && deal.is_restorable() {
        draft.count(|tally, _| tally.restored = tally.restored.saturating_add(1));
    }
    leave(&mut draft, &mut deal, file, slot);
    if let Some(placed) = deal.placement.get_mut(usize::from(slot)) {
        *placed = node;
    }
    if let Some(mut entry) = draft.node(&node).cloned() {
        entry.used = entry.used.checked_add(need).unwrap_or(entry.used);
        draft.put_node(node, entry);
    }
    hold(&mut draft, &mut deal, file, slot);
    on_probation(&mut draft, &mut deal, SlotId { file: *file, slot });
    deal.taken = deal.taken.saturating_add(1);
    if deal.lost.is_empty() && deal.repairing {
        deal.repairing = false;
        draft.remove(Key::Lost(*file));
    }
    draft.event(Event::SlotTaken { file: *file, slot, from, to: node });
    settle(&mut draft, &mut deal, file);
    draft.put_deal(*file, deal);
    Ok(draft.done())
}

/// How many slots of a file one node may take over: one, unless there are fewer operators than slots. Then it is an even share, for
/// two slots on one node still bear the loss of any other, and a slot that nobody takes bears nothing. Two may be taken also
/// where the others had `LONG_EPOCHS` and did not: they may be full, or gone without having held anything. Copies are no use
/// twice on a node, and a sole operator is no second place.
pub fn share_of_node(deal: &Deal, operators: u64, waits_long: bool) -> usize {
    let (slots, operators) = (deal.placement.len(), usize::try_from(operators).unwrap_or(usize::MAX));
    let even = if operators < 2 { 1 } else { slots.div_ceil(operators).max(1) };
    match deal.data {
        1 => 1,
        _ if waits_long => even.max(2),
        _ => even,
    }
}

/// Epochs after which a file lacks slots for long. Within the first few, nodes without a slot of it that are distrusted, or back
/// from a restart, still come to it, and two slots on one node are worse than a slot that waits for them.
const LONG_EPOCHS: u64 = 4;

/// Whether a file that lacks slots since then has so for long.
pub fn is_long_since(since: Height, at: Height, epoch_blocks: u64) -> bool {
    at.get() >= since.get().saturating_add(epoch_blocks.saturating_mul(LONG_EPOCHS))
}

fn waits_long(draft: &Draft<'_>, file: &FileId) -> bool {
    match (draft.record(&Key::Lost(*file)), draft.params()) {
        (Some(Record::Lost { since }), Some(params)) => is_long_since(*since, draft.at, params.epoch_blocks),
        _ => false,
    }
}

/// Whether a holder of several slots of a file may give one of them to this node, which has none.
pub fn is_spread(deal: &Deal, holder: &NodeId, taker: &NodeId) -> bool {
    let of = |node: &NodeId| payment::slots(deal).filter(|slot| holds(deal, *slot, node)).count();
    of(holder) > 1 && of(taker) == 0
}

/// Whether the node has the slot, or room reserved for it.
pub(super) fn holds(deal: &Deal, slot: u8, node: &NodeId) -> bool {
    deal.placement.get(usize::from(slot)) == Some(node) && !deal.lost.has(slot)
}

fn check_consent(
    draft: &Draft<'_>,
    deal: &Deal,
    file: &FileId,
    slot: u8,
    taker: &NodeEntry,
    sender: &AccountId,
) -> Result<(), Reject> {
    let own = *sender == taker.account;
    let not_own = || Reject::NodeOwner { node: taker.announcement.node, have: taker.account, need: *sender };
    let placed = deal.placement.get(usize::from(slot)).copied();
    if deal.lost.has(slot) {
        let waits = !deal.repairing && placed != Some(taker.announcement.node);
        let (held, threshold) = (deal.confirmed.len() as u64, deal.repair_threshold);
        return match own {
            true if waits => Err(Reject::NotDue { file: *file, slot, held, threshold }),
            true => Ok(()),
            false => Err(not_own()),
        };
    }
    let Some((id, holder)) = placed.and_then(|id| draft.node(&id).map(|entry| (id, entry))) else {
        return Err(not_own());
    };
    let given = *sender == holder.account;
    if !own && !given {
        return Err(not_own());
    }
    let other = id != taker.announcement.node;
    let wished = || is_relief(holder, taker, deal.slot_len) || is_spread(deal, &id, &taker.announcement.node);
    if other && (holder.draining || given && wished()) {
        return Ok(());
    }
    Err(Reject::NotMovable { file: *file, slot, holder: id })
}

/// A slot that its holder has to prove now stays with it until it has, or until what it missed is counted, which in a full
/// block comes later than the last answer: otherwise two nodes could hand round what neither has, and no audit would ever
/// find it. Errors: `Asked`.
fn check_unasked(draft: &Draft<'_>, file: &FileId, slot: u8, holder: NodeId) -> Result<(), Reject> {
    let id = SlotId { file: *file, slot };
    match draft.record(&Key::Challenge(holder)) {
        Some(Record::Challenge(asked)) if asked.asks(&id) => {
            Err(Reject::Asked { file: *file, slot, holder, until: asked.until })
        }
        _ => Ok(()),
    }
}

/// A node that failed its audits again and again must not keep others from a slot by claiming it each time: they have an
/// epoch for it first. Errors: `Distrusted`.
fn check_trust(draft: &Draft<'_>, file: &FileId, taker: &NodeEntry) -> Result<(), Reject> {
    let (have, need, node) = (taker.audit.reputation, REPUTATION_LEAST, taker.announcement.node);
    let since = match draft.record(&Key::Lost(*file)) {
        Some(Record::Lost { since }) => *since,
        _ => return Ok(()),
    };
    let epoch = draft.params().map_or(0, |params| params.epoch_blocks);
    let from = Height::new(since.get().saturating_add(epoch));
    if have < need && draft.at < from { Err(Reject::Distrusted { node, have, need, from }) } else { Ok(()) }
}

/// Who takes a slot over is asked for it in its next audit, and loses it by one miss until it has proven it. Otherwise two nodes
/// could claim in turn what neither has, each time with all the grace there is.
fn on_probation(draft: &mut Draft<'_>, deal: &mut Deal, id: SlotId) {
    let grace = draft.params().map_or(0, |params| params.storage.grace);
    if let Some(state) = deal.slots.get_mut(usize::from(id.slot)) {
        state.strikes = grace;
    }
    if let Some(node) = deal.placement.get(usize::from(id.slot)) {
        audit::ask_first(draft, *node, id);
    }
}

/// Whether the holder is, by a quarter, fuller than the taker will be: then it may give a slot away.
pub fn is_relief(holder: &NodeEntry, taker: &NodeEntry, len: u64) -> bool {
    let product = |used: u64, capacity: ByteCount, weight: u128| {
        u128::from(used).checked_mul(capacity.get().into())?.checked_mul(weight)
    };
    let after = taker.used.get().saturating_add(len);
    let full = product(holder.used.get(), taker.announcement.capacity, 4);
    let empty = product(after, holder.announcement.capacity, 5);
    full.zip(empty).is_some_and(|(full, empty)| full > empty)
}

/// How many slots of a file one operator may have: as many as it can lose; two where nobody else took a slot for long.
pub fn share_of_operator(deal: &Deal, waits_long: bool) -> usize {
    let parity = deal.placement.len().saturating_sub(usize::from(deal.data));
    parity.max(if waits_long && deal.data > 1 { 2 } else { 1 })
}

/// The rule of `deal::check_spread` for the one operator that gets a slot more.
fn check_operator(draft: &Draft<'_>, deal: &Deal, slot: u8, operator: &str, waits_long: bool) -> Result<(), Reject> {
    let of_operator = |other: &u8| {
        let placed = deal.placement.get(usize::from(*other)).filter(|_| *other != slot && !deal.lost.has(*other));
        placed.and_then(|node| draft.node(node)).is_some_and(|entry| entry.announcement.operator == operator)
    };
    let have = payment::slots(deal).filter(of_operator).count().saturating_add(1) as u64;
    let (max, operators) = (share_of_operator(deal, waits_long) as u64, draft.state().operator_count());
    if have > max && operators >= deal.placement.len() as u64 {
        return Err(Reject::Operator { operator: operator.to_owned(), have, max, operators });
    }
    Ok(())
}

/// The keys that beginning or ending a drain reads.
pub(super) fn drain_needs(draft: &Draft<'_>, node: NodeId, keys: &mut Vec<Key>) {
    keys.extend([Key::Node(node), Key::OperatorCount]);
    keys.extend(draft.node(&node).map(|entry| Key::Operator(entry.announcement.operator.clone())));
}

/// Makes a node give its slots away and take no new ones, or ends that. Errors: `NoNode`, `NodeOwner`.
pub(super) fn drain(
    state: &State,
    at: &BlockContext,
    sender: &AccountId,
    node: NodeId,
    drain: bool,
) -> Result<Effects, Reject> {
    let mut draft = Draft::new(state, at.height);
    let old = draft.node(&node).ok_or(Reject::NoNode(node))?.clone();
    if old.account != *sender {
        return Err(Reject::NodeOwner { node, have: old.account, need: *sender });
    }
    let new = NodeEntry { draining: drain, ..old.clone() };
    count_operators(&mut draft, Some(&old), &new);
    let key = Key::Draining(node);
    match (old.draining, drain) {
        (false, true) => draft.put(key, Record::Draining),
        (true, false) => draft.remove(key),
        _ => {}
    }
    draft.event(Event::NodeDraining { node, drain });
    if drain && new.used == ByteCount::ZERO {
        draft.event(Event::NodeReleased(node));
    }
    draft.put_node(node, new);
    Ok(draft.done())
}

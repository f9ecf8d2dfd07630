//! Audits: once in an epoch a node is asked for leaves that are drawn over all bytes it holds.
//!
//! The draw follows from the beacon after the second block of an epoch began, and from the state before that block's
//! transactions. Nobody knows it before that block's proposer does, and no transaction of the block can turn it.
//! A sample whose slot the node need not hold any more is waived. What is missed is a strike: of the slot, if the rest was
//! answered; of the node, if most of it was missed. A slot's strike is forgiven when it is proven, a node's when it has proven
//! all that it was asked for meanwhile.

use std::collections::BTreeSet;

use super::block::BlockContext;
use super::draft::Draft;
use super::effects::{Effects, Event};
use super::key::Key;
use super::node::count_operators;
use super::promise::{REPUTATION_LEAST, reputation_gained, reputation_lost};
use super::record::{Audit, Challenge, Deal, Due, NodeEntry, Params, Record, Sample, SlotId};
use super::reject::Reject;
use super::state::State;
use super::{holding, slot};
use crate::crypto::{Domain, hash};
use crate::files::proof::{self, Grain};
use crate::types::{AccountId, ByteCount, Epoch, Height, NodeId, limits};
use crate::wire::tx::SampleProof;

/// What the draws of an audit begin with.
fn seed(beacon: &[u8; 32], node: &NodeId, epoch: Epoch) -> [u8; 32] {
    hash(Domain::Audit, &[beacon.as_slice(), node.as_bytes(), &epoch.get().to_be_bytes()].concat())
}

/// The draw of a sample: a number below `bound`, which is at least 1.
fn draw(seed: &[u8; 32], sample: u16, bound: u64) -> u64 {
    let drawn = hash(Domain::Audit, &[seed.as_slice(), &sample.to_be_bytes()].concat());
    let drawn = u64::from_be_bytes(*drawn.first_chunk().expect("a hash has 32 bytes"));
    // At most 2^-13 of the mean for the largest node there can be.
    (u128::from(drawn).saturating_mul(bound.into()) >> 64) as u64
}

/// The deal of a slot that the node must hold.
fn duty<'a>(draft: &'a Draft<'_>, node: &NodeId, id: &SlotId) -> Option<&'a Deal> {
    let deal = draft.deal(&id.file).filter(|deal| deal.status.is_open())?;
    (deal.confirmed.has(id.slot) && slot::holds(deal, id.slot, node)).then_some(deal)
}

/// The slots that are asked for again, the epoch's seed and how many bytes there are.
struct Draw<'a> {
    entry: &'a NodeEntry,
    params: Params,
    epoch: Epoch,
    seed: [u8; 32],
    again: Vec<SlotId>,
    until: Height,
    next: Height,
}

fn begin<'a>(draft: &'a Draft<'_>, node: NodeId) -> Option<Draw<'a>> {
    let (entry, params) = (draft.node(&node)?, draft.params()?);
    let Some(Record::Tip(tip)) = draft.peek(&Key::Tip) else { return None };
    let epoch = params.epoch_of(draft.at);
    let again = again(draft, &node);
    let until = draft.after(params.storage.answer_blocks);
    // A later start than planned must not reach into the next audit.
    let next = params.next_epoch_begins(draft.at).max(until).get().saturating_add(1);
    Some(Draw { entry, params, epoch, seed: seed(&tip.beacon, &node, epoch), again, until, next: Height::new(next) })
}

impl Draw<'_> {
    fn asks(&self) -> bool {
        self.entry.active && self.entry.held > ByteCount::ZERO
    }
    /// The slots that are to be asked for again, without those for which this audit has room and that the node need not hold any
    /// more: nobody asks for them.
    fn still_due(&self, draft: &Draft<'_>, node: NodeId) -> Vec<SlotId> {
        let (now, later) = self.again.split_at(self.params.storage.again_max().min(self.again.len()));
        let held = now.iter().filter(|id| duty(draft, &node, id).is_some());
        held.chain(later).copied().collect()
    }
    /// Errors: a key that has to be loaded first.
    fn samples(&self, draft: &Draft<'_>, node: NodeId) -> Result<Vec<Sample>, Key> {
        let mut samples = Vec::new();
        let count = self.params.storage.samples;
        for id in self.again.iter().take(self.params.storage.again_max()) {
            let key = Key::File(id.file);
            if !draft.is_loaded(&key) {
                return Err(key);
            }
            if let Some(deal) = duty(draft, &node, id) {
                let offset = draw(&self.seed, samples.len() as u16, deal.slot_len.max(1));
                samples.push(Sample { slot: *id, leaf: leaf_of(offset) });
            }
        }
        for index in samples.len() as u16..count {
            let offset = draw(&self.seed, index, self.entry.held.get());
            let place = holding::find(draft, node, self.entry.next_leaf, offset)?;
            let Some(place) = place else { continue };
            let key = Key::Held(node, place.leaf);
            if !draft.is_loaded(&key) {
                return Err(key);
            }
            if let Some(Record::Held(id)) = draft.record(&key) {
                samples.push(Sample { slot: *id, leaf: leaf_of(place.offset) });
            }
        }
        Ok(samples)
    }
}

/// The leaf of a slot that a byte lies in.
fn leaf_of(offset: u64) -> u64 {
    offset.checked_div(limits::LEAF_BYTES as u64).unwrap_or(0)
}

/// The keys that asking a node reads.
pub(super) fn ask_needs(draft: &Draft<'_>, node: NodeId, keys: &mut Vec<Key>) {
    keys.extend([Key::Node(node), Key::Missed(node), Key::Tip]);
    if !keys.iter().all(|key| draft.is_loaded(key)) {
        return;
    }
    let Some(draw) = begin(draft, node) else { return };
    if draw.entry.held == ByteCount::ZERO {
        return;
    }
    keys.push(Key::DueCount(draw.next));
    if draw.asks() {
        keys.push(Key::DueCount(Height::new(draw.until.get().saturating_add(1))));
        keys.extend(draw.samples(draft, node).err());
    }
}

/// Asks a node that holds something, and comes back in the next epoch.
pub(super) fn ask(draft: &mut Draft<'_>, node: NodeId) {
    let Some(draw) = begin(draft, node) else { return };
    let (asks, next, until, epoch) = (draw.asks(), draw.next, draw.until, draw.epoch);
    if draw.entry.held == ByteCount::ZERO {
        let mut entry = draw.entry.clone();
        entry.audit.scheduled = false;
        draft.put_node(node, entry);
        return;
    }
    let samples = if asks { draw.samples(draft, node).unwrap_or_default() } else { Vec::new() };
    if asks {
        let due = draw.still_due(draft, node);
        put_again(draft, node, due);
    }
    if let Ok(count @ 1..) = u16::try_from(samples.len()) {
        let challenge = Challenge { epoch, at: draft.at, until, samples };
        draft.put(Key::Challenge(node), Record::Challenge(Box::new(challenge)));
        draft.schedule(Height::new(until.get().saturating_add(1)), Due::AnswersEnd(node));
        draft.event(Event::Audited { node, epoch, samples: count });
    }
    draft.schedule(next, Due::Challenge(node));
}

fn challenge(draft: &Draft<'_>, node: &NodeId) -> Option<Challenge> {
    match draft.peek(&Key::Challenge(*node)) {
        Some(Record::Challenge(challenge)) => Some(challenge.as_ref().clone()),
        _ => None,
    }
}

/// The keys that ending an audit reads, answered or not.
pub(super) fn end_needs(draft: &Draft<'_>, node: NodeId, proven: bool, keys: &mut Vec<Key>) {
    keys.extend([Key::Node(node), Key::Challenge(node), Key::Missed(node), Key::OperatorCount]);
    keys.push(Key::DueCount(draft.after(1)));
    let Some(entry) = draft.node(&node) else { return };
    keys.push(Key::Operator(entry.announcement.operator.clone()));
    for Sample { slot: id, .. } in challenge(draft, &node).into_iter().flat_map(|challenge| challenge.samples) {
        keys.push(Key::File(id.file));
        if proven {
            keys.extend([Key::Manifest(id.file), Key::Lost(id.file)]);
            if let Some(deal) = duty(draft, &node, &id) {
                slot::leave_needs(draft, deal, id.slot, keys);
            }
        }
    }
}

/// How the samples of an audit fared.
#[derive(Default)]
struct Tally {
    answered: u64,
    bytes: u64,
    waived: u64,
    missed: u64,
    /// Slots with an answer, and slots without one to some sample.
    kept: BTreeSet<SlotId>,
    struck: BTreeSet<SlotId>,
    /// Slots that were asked for while nobody answered at all.
    unheard: BTreeSet<SlotId>,
}

/// Takes a node's answer to its audit. A wrong proof refuses all of it, and the node may send it again.
/// Errors: `NoNode`, `NodeOwner`, `NoChallenge`, `ProofCount`, `Proof`.
pub(super) fn prove(
    state: &State,
    at: &BlockContext,
    sender: &AccountId,
    node: NodeId,
    epoch: Epoch,
    proofs: &[Option<SampleProof>],
) -> Result<Effects, Reject> {
    let mut draft = Draft::new(state, at.height);
    let entry = draft.node(&node).ok_or(Reject::NoNode(node))?;
    if entry.account != *sender {
        return Err(Reject::NodeOwner { node, have: entry.account, need: *sender });
    }
    let asked = challenge(&draft, &node).filter(|asked| asked.epoch == epoch && at.height <= asked.until);
    let asked = asked.ok_or(Reject::NoChallenge { node, epoch })?;
    if proofs.len() != asked.samples.len() {
        return Err(Reject::ProofCount { have: proofs.len() as u64, need: asked.samples.len() as u64 });
    }
    let mut tally = Tally::default();
    for (index, (sample, answer)) in (0_u64..).zip(asked.samples.iter().zip(proofs)) {
        let Some(deal) = duty(&draft, &node, &sample.slot) else {
            tally.waived = tally.waived.saturating_add(1);
            continue;
        };
        match answer {
            Some(answer) => {
                let holds = check(state, deal.slot_len, sample, answer);
                let SlotId { file, slot } = sample.slot;
                holds.ok_or(Reject::Proof { sample: index, file, slot, leaf: sample.leaf })?;
                tally.answered = tally.answered.saturating_add(1);
                tally.bytes = tally.bytes.saturating_add(answer.bytes.len() as u64);
                tally.kept.insert(sample.slot);
            }
            None => {
                tally.missed = tally.missed.saturating_add(1);
                tally.struck.insert(sample.slot);
            }
        }
    }
    conclude(&mut draft, node, &asked, &tally, false);
    Ok(draft.done())
}

fn check(state: &State, slot_len: u64, sample: &Sample, answer: &SampleProof) -> Option<()> {
    let manifest = state.manifest(&sample.slot.file)?;
    let info = manifest.slots.get(usize::from(sample.slot.slot))?;
    proof::verify(&info.root, slot_len, Grain::Leaf, sample.leaf, &answer.bytes, &answer.path).ok()
}

/// Nobody has answered in time: all that was asked is missed, and it counts against the node, not against its slots.
pub(super) fn answers_end(draft: &mut Draft<'_>, node: NodeId) {
    let Some(asked) = challenge(draft, &node).filter(|asked| asked.until < draft.at) else { return };
    let mut tally = Tally::default();
    for sample in &asked.samples {
        if duty(draft, &node, &sample.slot).is_some() {
            tally.missed = tally.missed.saturating_add(1);
            tally.unheard.insert(sample.slot);
        } else {
            tally.waived = tally.waived.saturating_add(1);
        }
    }
    conclude(draft, node, &asked, &tally, true);
}

fn conclude(draft: &mut Draft<'_>, node: NodeId, ended: &Challenge, tally: &Tally, absent: bool) {
    let epoch = ended.epoch;
    let (Some(mut entry), Some(params)) = (draft.node(&node).cloned(), draft.params()) else { return };
    let grace = params.storage.grace;
    let Tally { answered, bytes, waived, missed, .. } = *tally;
    let audit = entry.audit;
    let asked = answered.saturating_add(missed);
    entry.audit = Audit {
        asked: audit.asked.saturating_add(asked).saturating_add(waived),
        answered: audit.answered.saturating_add(answered),
        missed: audit.missed.saturating_add(missed),
        waived: audit.waived.saturating_add(waived),
        bytes_proven: audit.bytes_proven.saturating_add(bytes),
        ..audit
    };
    draft.remove(Key::Challenge(node));
    let left = left_over(draft, node, ended);
    if missed > 0 {
        entry.audit.failed = audit.failed.saturating_add(1);
        entry.audit.reputation = reputation_lost(audit.reputation);
        if missed.saturating_mul(2) > asked {
            entry.audit.strikes = audit.strikes.saturating_add(1);
        }
        draft.event(Event::AuditFailed { node, epoch, missed: u16::try_from(missed).unwrap_or(u16::MAX) });
    } else if answered > 0 {
        entry.audit.passed = audit.passed.saturating_add(1);
        entry.audit.reputation = reputation_gained(audit.reputation);
        if left.is_empty() {
            entry.audit.strikes = 0;
        }
        draft.event(Event::AuditPassed { node, epoch });
    }
    let distrusted = missed > 0 && !absent && entry.audit.reputation < REPUTATION_LEAST;
    let out = entry.active && (entry.audit.strikes > grace && missed > 0 || distrusted);
    draft.put_node(node, entry);
    let before = again(draft, &node);
    let mut again = strike(draft, tally, grace);
    // Silence must not be a way out for who knows that it has not got what it was asked for.
    let (known, new): (Vec<_>, Vec<_>) = tally.unheard.iter().partition(|id| before.contains(id));
    again.extend(known.into_iter().chain(left).chain(new));
    put_again(draft, node, again);
    if out {
        expel(draft, node);
    }
}

/// The slots that the next audits ask for before others.
fn again(draft: &Draft<'_>, node: &NodeId) -> Vec<SlotId> {
    match draft.peek(&Key::Missed(*node)) {
        Some(Record::Missed(slots)) => slots.clone(),
        _ => Vec::new(),
    }
}

fn put_again(draft: &mut Draft<'_>, node: NodeId, mut again: Vec<SlotId>) {
    again.truncate(limits::AUDIT_SAMPLES_MAX);
    match (again.is_empty(), draft.record(&Key::Missed(node)).is_some()) {
        (false, _) => draft.put(Key::Missed(node), Record::Missed(again)),
        (true, true) => draft.remove(Key::Missed(node)),
        (true, false) => {}
    }
}

/// Has the node's next audit ask for a slot, before others. Needs `Key::Missed`.
pub(super) fn ask_first(draft: &mut Draft<'_>, node: NodeId, id: SlotId) {
    let mut first = vec![id];
    first.extend(again(draft, &node).into_iter().filter(|other| *other != id));
    put_again(draft, node, first);
}

/// The slots that the audit which ends did not ask for: it had no room for them, or the node has taken them over since it
/// was drawn.
fn left_over(draft: &Draft<'_>, node: NodeId, ended: &Challenge) -> Vec<SlotId> {
    let mut left = again(draft, &node);
    left.retain(|id| !ended.asks(id));
    left
}

/// Gives each missed slot a strike and takes those of the others away. Returns the missed ones that are not lost by it.
fn strike(draft: &mut Draft<'_>, tally: &Tally, grace: u8) -> Vec<SlotId> {
    let mut again = Vec::new();
    for id in tally.kept.difference(&tally.struck) {
        let struck = |deal: &&Deal| deal.slots.get(usize::from(id.slot)).is_some_and(|state| state.strikes > 0);
        if let Some(mut deal) = draft.deal(&id.file).filter(struck).cloned() {
            deal.slots.get_mut(usize::from(id.slot)).into_iter().for_each(|state| state.strikes = 0);
            draft.put_deal(id.file, deal);
        }
    }
    for id in &tally.struck {
        let Some(mut deal) = draft.deal(&id.file).cloned() else { continue };
        let Some(state) = deal.slots.get_mut(usize::from(id.slot)) else { continue };
        state.strikes = state.strikes.saturating_add(1);
        if state.strikes > grace {
            draft.count(|tally, _| tally.rotted = tally.rotted.saturating_add(1));
            slot::lose(draft, &mut deal, &id.file, id.slot);
        } else {
            again.push(*id);
        }
        draft.put_deal(id.file, deal);
    }
    again
}

/// The keys that sending a node away reads.
pub(super) fn expel_needs(draft: &Draft<'_>, node: NodeId, keys: &mut Vec<Key>) {
    keys.extend([Key::Node(node), Key::OperatorCount, Key::Tally, Key::DueCount(draft.after(1))]);
    if let Some(entry) = draft.node(&node) {
        keys.push(Key::Operator(entry.announcement.operator.clone()));
    }
}

/// The node takes no part any more until it registers again, and loses all that it holds now.
pub(super) fn expel(draft: &mut Draft<'_>, node: NodeId) {
    let Some(old) = draft.node(&node).cloned() else { return };
    let new = NodeEntry { active: false, ..old.clone() };
    count_operators(draft, Some(&old), &new);
    draft.count(|tally, _| tally.absent = tally.absent.saturating_add(1));
    draft.event(Event::NodeAbsent(node));
    let below = new.next_leaf;
    draft.put_node(node, new);
    let next = draft.after(1);
    draft.schedule(next, Due::Evict(node, below));
}

/// The keys that taking slots from a node that is gone reads.
pub(super) fn evict_needs(draft: &Draft<'_>, node: NodeId, below: u64, keys: &mut Vec<Key>) {
    keys.extend([Key::Node(node), Key::DueCount(draft.after(1))]);
    if draft.node(&node).is_none() {
        return;
    }
    let leaves = match holding::first(draft, node, below, limits::EVICTED_AT_ONCE) {
        Ok(leaves) => leaves,
        Err(key) => return keys.push(key),
    };
    for leaf in leaves {
        let key = Key::Held(node, leaf);
        if let Some(Record::Held(id)) = draft.peek(&key) {
            keys.extend([Key::File(id.file), Key::Lost(id.file)]);
            if let Some(deal) = draft.deal(&id.file) {
                slot::leave_needs(draft, deal, id.slot, keys);
            }
        }
        keys.push(key);
    }
}

/// Takes the first slots from a node that is gone, and comes back for the rest.
pub(super) fn evict(draft: &mut Draft<'_>, node: NodeId, below: u64) {
    let leaves = holding::first(draft, node, below, limits::EVICTED_AT_ONCE).unwrap_or_default();
    for leaf in &leaves {
        let Some(Record::Held(id)) = draft.record(&Key::Held(node, *leaf)).cloned() else { continue };
        let Some(mut deal) = draft.deal(&id.file).cloned() else { continue };
        slot::lose(draft, &mut deal, &id.file, id.slot);
        draft.put_deal(id.file, deal);
    }
    if !leaves.is_empty() {
        let next = draft.after(1);
        draft.schedule(next, Due::Evict(node, below));
    }
}

#[cfg(test)]
#[path = "audit_tests.rs"]
mod tests;

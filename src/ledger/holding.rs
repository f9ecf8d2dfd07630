//! What a node holds: a sum tree over the lengths of its slots, so that a byte offset finds its slot in O(log n) reads.
//!
//! A slot gets the next leaf; leaves are not used again. A record has `SUMS_FANOUT` numbers: at level 0 the lengths of
//! leaves, above it the sums of the records below. The lowest level that one record spans is the top. What is all zero has
//! no record, so the tree of a node that holds nothing is empty.
//! Invariant: the top sums up to `NodeEntry::held`; a leaf has a length and a `Held` record, or neither.

use super::draft::Draft;
use super::key::Key;
use super::record::{Due, NodeEntry, Record, SlotId};
use crate::types::{ByteCount, Height, NodeId, limits::SUMS_FANOUT};

/// Where a byte lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The slot's leaf.
    pub leaf: u64,
    /// The byte's offset within the slot.
    pub offset: u64,
    /// The slot's length.
    pub len: u64,
}

/// The top level of a tree with so many leaves.
fn top(leaves: u64) -> u8 {
    let mut above = leaves.saturating_sub(1) / SUMS_FANOUT;
    let mut level = 0_u8;
    while above > 0 {
        above /= SUMS_FANOUT;
        level = level.saturating_add(1);
    }
    level
}

/// The records over a leaf from the lowest level up, each with the leaf's place in it.
fn path(node: NodeId, leaf: u64, leaves: u64) -> impl Iterator<Item = (Key, usize)> {
    let mut below = leaf;
    (0..=top(leaves)).map(move |level| {
        let place = (below % SUMS_FANOUT) as usize;
        below /= SUMS_FANOUT;
        (Key::Sums(node, level, below), place)
    })
}

fn sums(draft: &Draft<'_>, key: &Key) -> Vec<u64> {
    match draft.record(key) {
        Some(Record::Sums(sums)) => sums.clone(),
        _ => Vec::new(),
    }
}

fn put(draft: &mut Draft<'_>, key: Key, mut sums: Vec<u64>) {
    let used = sums.iter().rposition(|sum| *sum != 0).map_or(0, |last| last.saturating_add(1));
    sums.truncate(used);
    if sums.is_empty() { draft.remove(key) } else { draft.put(key, Record::Sums(sums)) }
}

fn change(sums: &mut Vec<u64>, place: usize, to: impl FnOnce(u64) -> u64) {
    if sums.len() <= place {
        sums.resize(place.saturating_add(1), 0);
    }
    if let Some(sum) = sums.get_mut(place) {
        *sum = to(*sum);
    }
}

/// When a node is audited for the first time that takes its first slot in this block.
fn first_audit(draft: &Draft<'_>) -> Height {
    let begins = draft.params().map_or(draft.at, |params| params.next_epoch_begins(draft.at));
    Height::new(begins.get().saturating_add(1))
}

/// The keys that `add` reads, and with it `slot::hold`.
pub(super) fn add_needs(draft: &Draft<'_>, node: NodeId, keys: &mut Vec<Key>) {
    keys.extend([Key::Node(node), Key::Challenge(node)]);
    if let Some(entry) = draft.node(&node) {
        keys.extend(path(node, entry.next_leaf, entry.next_leaf.saturating_add(1)).map(|(key, _)| key));
        if !entry.audit.scheduled {
            keys.push(Key::DueCount(first_audit(draft)));
        }
    }
}

/// Takes a slot into the tree and returns its leaf. The entry's `held` follows; `used` is the caller's.
pub(super) fn add(draft: &mut Draft<'_>, node: NodeId, entry: &mut NodeEntry, slot: SlotId, len: u64) -> u64 {
    let leaf = entry.next_leaf;
    let leaves = leaf.saturating_add(1);
    let grown = leaf > 0 && top(leaves) > top(leaf);
    let (levels, before) = (top(leaves), entry.held.get());
    for (level, (key, place)) in (0..=levels).zip(path(node, leaf, leaves)) {
        let mut sums = sums(draft, &key);
        if grown && level == levels {
            change(&mut sums, 0, |_| before);
        }
        change(&mut sums, place, |sum| sum.saturating_add(len));
        put(draft, key, sums);
    }
    draft.put(Key::Held(node, leaf), Record::Held(slot));
    entry.next_leaf = leaves;
    entry.held = ByteCount::new(before.saturating_add(len));
    if !entry.audit.scheduled {
        entry.audit.scheduled = true;
        draft.schedule(first_audit(draft), Due::Challenge(node));
    }
    leaf
}

/// The keys that `remove` reads.
pub(super) fn remove_needs(draft: &Draft<'_>, node: NodeId, leaf: u64, keys: &mut Vec<Key>) {
    if let Some(entry) = draft.node(&node) {
        keys.extend(path(node, leaf, entry.next_leaf).map(|(key, _)| key));
    }
}

/// Takes a slot out of the tree.
pub(super) fn remove(draft: &mut Draft<'_>, node: NodeId, entry: &mut NodeEntry, leaf: u64, len: u64) {
    for (key, place) in path(node, leaf, entry.next_leaf) {
        let mut sums = sums(draft, &key);
        change(&mut sums, place, |sum| sum.saturating_sub(len));
        put(draft, key, sums);
    }
    draft.remove(Key::Held(node, leaf));
    entry.held = ByteCount::new(entry.held.get().saturating_sub(len));
}

/// The slot that a byte lies in; bytes are counted over all slots in the order of their leaves. Nothing beyond the last byte.
/// Errors: a key that has to be loaded first.
pub(super) fn find(draft: &Draft<'_>, node: NodeId, leaves: u64, offset: u64) -> Result<Option<Place>, Key> {
    let (mut index, mut rest) = (0_u64, offset);
    for level in (0..=top(leaves)).rev() {
        let key = Key::Sums(node, level, index);
        if !draft.is_loaded(&key) {
            return Err(key);
        }
        let Some(Record::Sums(sums)) = draft.record(&key) else { return Ok(None) };
        let mut child = index.saturating_mul(SUMS_FANOUT);
        let mut found = None;
        for sum in sums {
            if rest < *sum {
                found = Some(*sum);
                break;
            }
            rest = rest.saturating_sub(*sum);
            child = child.saturating_add(1);
        }
        let Some(len) = found else { return Ok(None) };
        if level == 0 {
            return Ok(Some(Place { leaf: child, offset: rest, len }));
        }
        index = child;
    }
    Ok(None)
}

/// The first leaves in use, at most `count`, all below a number. Errors: a key that has to be loaded first.
pub(super) fn first(draft: &Draft<'_>, node: NodeId, below: u64, count: u32) -> Result<Vec<u64>, Key> {
    let leaves = draft.node(&node).map_or(0, |entry| entry.next_leaf);
    let (mut found, mut offset) = (Vec::new(), 0_u64);
    for _ in 0..count {
        match find(draft, node, leaves, offset)? {
            Some(place) if place.leaf < below => {
                found.push(place.leaf);
                offset = offset.saturating_add(place.len);
            }
            _ => break,
        }
    }
    Ok(found)
}

#[cfg(test)]
#[path = "holding_tests.rs"]
mod tests;

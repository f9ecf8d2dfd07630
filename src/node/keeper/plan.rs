//! Plan: which node takes a slot over, when, and which slot comes first. Pure, and the same on every node that has seen the
//! same blocks, so that mostly one node sets to work; the ledger decides if two do.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::crypto::{Domain, hash};
use crate::files::placement::{self, Candidate};
use crate::ledger::record::{Deal, NodeEntry, SlotId};
use crate::ledger::{is_relief, is_spread, share_of_node, share_of_operator};
use crate::types::{ByteCount, Height, NodeId, Role};
use crate::wire;

/// Blocks that the next node in the order waits for the one before, and one more for so many bytes.
const STEP_BLOCKS: u64 = 8;
const STEP_BYTES: u64 = 4 << 20;
/// Longest pause after failed tries, blocks.
const BACKOFF_MAX: u64 = 4_096;

/// Why this node wants a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// It is this node's own, and damaged here.
    Own,
    /// Nobody holds it by the ledger, and its bytes are here.
    Back,
    /// Nobody holds it.
    Lost,
    /// Its holder drains.
    Drained,
}

/// A slot that this node could bring here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Want {
    /// The slot.
    pub id: SlotId,
    /// Why.
    pub kind: Kind,
    /// Slots that may still be lost before the file is.
    pub spare: i64,
    /// Since when it is lost.
    pub since: Height,
    /// When this node sets to work.
    pub from: Height,
}

/// The storage nodes by the ledger.
#[derive(Debug)]
pub struct Nodes {
    me: NodeId,
    all: BTreeMap<NodeId, NodeEntry>,
    operators: usize,
}

impl Nodes {
    /// What is known of all nodes, seen by one of them.
    pub fn new(me: NodeId, entries: Vec<NodeEntry>) -> Self {
        let all: BTreeMap<_, _> = entries.into_iter().map(|entry| (entry.announcement.node, entry)).collect();
        let operators: BTreeSet<_> =
            all.values().filter(|entry| takes(entry)).map(|entry| &entry.announcement.operator).collect();
        let operators = operators.len();
        Self { me, all, operators }
    }
    /// One of them.
    pub fn get(&self, node: &NodeId) -> Option<&NodeEntry> {
        self.all.get(node)
    }
    /// Whether this node may take slots at all.
    pub fn takes_part(&self) -> bool {
        self.get(&self.me).is_some_and(takes)
    }
    /// Counts a slot that moved, until the chain says so itself.
    pub fn moved(&mut self, from: &NodeId, to: &NodeId, len: ByteCount) {
        if let Some(entry) = self.all.get_mut(from) {
            entry.used = entry.used.checked_sub(len).unwrap_or(ByteCount::ZERO);
        }
        if let Some(entry) = self.all.get_mut(to) {
            entry.used = entry.used.checked_add(len).unwrap_or(entry.used);
        }
    }

    /// The nodes that may take the slot over, the first choice first: those with the fewest slots of the file, among them those of
    /// operators without one, then by placement.
    fn takers(&self, deal: &Deal, id: &SlotId, waits_long: bool) -> Vec<NodeId> {
        let mut of_operator: BTreeMap<&str, usize> = BTreeMap::new();
        let mut holders: BTreeMap<NodeId, usize> = BTreeMap::new();
        for (slot, node) in (0..=u8::MAX).zip(&deal.placement) {
            if slot != id.slot && !deal.lost.has(slot) {
                *holders.entry(*node).or_default() += 1;
                if let Some(entry) = self.get(node) {
                    *of_operator.entry(&entry.announcement.operator).or_default() += 1;
                }
            }
        }
        let spread = |operator: &str| {
            let have = of_operator.get(operator).copied().unwrap_or(0) + 1;
            have <= share_of_operator(deal, waits_long) || self.operators < deal.placement.len()
        };
        let share = share_of_node(deal, self.operators as u64, waits_long);
        let have = |node: &NodeId| holders.get(node).copied().unwrap_or(0);
        let allowed = self.all.values().filter(|entry| {
            takes(entry) && have(&entry.announcement.node) < share && spread(&entry.announcement.operator)
        });
        let mut takers = order(id, deal.slot_len, allowed);
        takers.sort_by_key(|node| {
            let operator = self.get(node).map(|entry| entry.announcement.operator.as_str());
            (have(node), operator.is_some_and(|operator| of_operator.contains_key(operator)))
        });
        takers
    }

    /// This node's place among those that may take the slot over. A node takes one slot of a file, so whoever is the first
    /// choice for a lost slot before this one comes last: several lost slots are worked on by as many nodes at once.
    pub fn rank(&self, deal: &Deal, id: &SlotId, waits_long: bool) -> Option<usize> {
        let mut engaged = BTreeSet::new();
        for slot in deal.lost.iter().filter(|slot| *slot < id.slot) {
            let takers = self.takers(deal, &SlotId { file: id.file, slot }, waits_long);
            engaged.extend(takers.into_iter().find(|node| !engaged.contains(node)));
        }
        let mut takers = self.takers(deal, id, waits_long);
        takers.sort_by_key(|node| engaged.contains(node));
        takers.iter().position(|node| *node == self.me)
    }

    /// The node that a slot of this one had better be on, if this one has several of the file and that one none.
    pub fn spread(&self, deal: &Deal, id: &SlotId) -> Option<NodeId> {
        self.takers(deal, id, false).into_iter().find(|node| is_spread(deal, &self.me, node))
    }

    /// The node that a slot of this one had better be on, if one is clearly emptier.
    pub fn relief(&self, deal: &Deal, id: &SlotId) -> Option<NodeId> {
        let mine = self.get(&self.me)?;
        let takers = self.takers(deal, id, false);
        let emptier = |node: &NodeId| self.get(node).is_some_and(|entry| is_relief(mine, entry, deal.slot_len));
        let chosen = takers.iter().copied().filter(|node| *node != self.me && emptier(node));
        let entries = chosen.chain([self.me]).filter_map(|node| self.get(&node));
        order(id, deal.slot_len, entries).first().copied().filter(|first| *first != self.me)
    }
}

/// Whether a node takes slots.
fn takes(entry: &NodeEntry) -> bool {
    entry.active && !entry.draining && entry.announcement.roles.has(Role::Storage)
}

/// Nodes with room for the slot, in the order of its placement.
fn order<'a>(id: &SlotId, len: u64, nodes: impl Iterator<Item = &'a NodeEntry>) -> Vec<NodeId> {
    let candidate = |entry: &NodeEntry| Candidate {
        node: entry.announcement.node,
        operator: entry.announcement.operator.clone(),
        free: entry.free(),
    };
    let candidates: Vec<_> = nodes.map(candidate).collect();
    let nonce = hash(Domain::Placement, &wire::encode(id));
    match placement::place(&nonce, 1, ByteCount::new(len), &candidates) {
        Ok(placed) => placed.slots.into_iter().chain(placed.spares).collect(),
        Err(_) => Vec::new(),
    }
}

/// When a node of this rank sets to work.
pub fn turn(since: Height, rank: usize, len: u64) -> Height {
    let step = STEP_BLOCKS.saturating_add(len / STEP_BYTES);
    Height::new(since.get().saturating_add(step.saturating_mul(rank as u64)))
}

/// How many more slots a file may lose.
pub fn spare(deal: &Deal) -> i64 {
    let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    count(deal.confirmed.len()) - i64::from(deal.data)
}

/// The most endangered first; what needs no network before what does; then the oldest.
pub fn sort(wants: &mut [Want]) {
    wants.sort_by_key(|want| (Reverse(want.kind == Kind::Back), want.spare, want.since, want.kind, want.id));
}

/// Slots whose takeover failed, and when they are tried again.
#[derive(Debug, Default)]
pub struct Backoff(BTreeMap<SlotId, (u32, Height)>);

impl Backoff {
    /// A try failed.
    pub fn failed(&mut self, id: SlotId, at: Height) {
        let (tries, until) = self.0.entry(id).or_insert((0, at));
        let pause = STEP_BLOCKS.checked_shl(*tries).unwrap_or(BACKOFF_MAX).min(BACKOFF_MAX);
        *tries = tries.saturating_add(1).min(32);
        *until = Height::new(at.get().saturating_add(pause));
    }
    /// Whether it is too early for another.
    pub fn holds(&self, id: &SlotId, at: Height) -> bool {
        self.0.get(id).is_some_and(|(_, until)| at < *until)
    }
    /// It came to something.
    pub fn done(&mut self, id: &SlotId) {
        self.0.remove(id);
    }
    /// Forgets all that nobody wants any more.
    pub fn keep(&mut self, wanted: &BTreeSet<SlotId>) {
        self.0.retain(|id, _| wanted.contains(id));
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;

//! Placement: which nodes hold a file's slots.
//!
//! Weighted rendezvous (Thaler, Ravishankar: "Using name-based mappings to increase hit rates", 1998; weights as in Schindelhauer,
//! Schomaker: "Weighted distributed hash tables", 2005): each node draws `-log2(h) / weight` from the file's nonce, and the lowest are chosen.
//! So a node's share follows its free capacity, and a node that comes or goes moves no slot between others. Integers
//! only: every machine finds the same.
//! Not here: which nodes are registered and active (`ledger`), whether one answers (`node`).

use std::collections::{BTreeMap, BTreeSet};

use crate::crypto::{Domain, hash};
use crate::types::{ByteCount, NodeId};

/// A storage node that may take slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its identity.
    pub node: NodeId,
    /// Who runs it: the failure domain.
    pub operator: String,
    /// What it still has room for.
    pub free: ByteCount,
}

/// Why slots cannot be placed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlacementError {
    /// A node takes one slot of a file at most.
    #[error("{have} storage nodes with {room} bytes free; {need} are needed, one for each slot")]
    TooFewNodes {
        /// Nodes with enough room.
        have: usize,
        /// Slots to place.
        need: usize,
        /// Bytes that a slot needs.
        room: ByteCount,
    },
}

/// Where the slots of one file go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The node of each slot, in the order of the slots; no node twice.
    pub slots: Vec<NodeId>,
    /// The nodes to turn to, in this order, when one of these fails before the file is committed.
    pub spares: Vec<NodeId>,
    /// The most slots that one operator holds. 1 if there were operators enough; the file survives the loss of any one operator
    /// while this is at most its number of parity shards.
    pub slots_per_operator: usize,
}

/// Chooses a node for each of `slots`, among those with at least `room` bytes free. Operators are used evenly: none takes a
/// second slot before every other one has its first. The same nonce and candidates, in any order, give the same placement.
/// Errors: `TooFewNodes`.
pub fn place(
    nonce: &[u8; 32],
    slots: u8,
    room: ByteCount,
    candidates: &[Candidate],
) -> Result<Placement, PlacementError> {
    let need = usize::from(slots);
    let mut ranked: Vec<Draw<'_>> = candidates.iter().filter(|c| c.free >= room).map(|c| Draw::new(nonce, c)).collect();
    ranked.sort_by(Draw::order);
    let mut known = BTreeSet::new();
    ranked.retain(|draw| known.insert(draw.candidate.node));
    if ranked.len() < need {
        return Err(PlacementError::TooFewNodes { have: ranked.len(), need, room });
    }
    // How many nodes of the same operator rank before: all firsts go before all seconds.
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let mut turns: Vec<(usize, NodeId)> = Vec::with_capacity(ranked.len());
    for draw in &ranked {
        let turn = seen.entry(&draw.candidate.operator).or_default();
        turns.push((*turn, draw.candidate.node));
        *turn += 1;
    }
    turns.sort_by_key(|(turn, _)| *turn);
    let slots_per_operator = turns[..need].iter().map(|(turn, _)| turn + 1).max().unwrap_or(0);
    let mut nodes: Vec<NodeId> = turns.into_iter().map(|(_, node)| node).collect();
    let spares = nodes.split_off(need);
    Ok(Placement { slots: nodes, spares, slots_per_operator })
}

/// What a candidate drew: `cost / weight`, the lower the better.
struct Draw<'a> {
    candidate: &'a Candidate,
    cost: u64,
    weight: u64,
}

impl<'a> Draw<'a> {
    fn new(nonce: &[u8; 32], candidate: &'a Candidate) -> Self {
        let drawn = hash(Domain::Placement, &[nonce.as_slice(), candidate.node.as_bytes()].concat());
        let drawn = u64::from_le_bytes(*drawn.first_chunk().expect("a hash has 32 bytes"));
        // In MiB, so that a few bytes of difference between two views of a node change nothing.
        let weight = (candidate.free.get() >> 20).max(1);
        Self { candidate, cost: cost(drawn), weight }
    }
    /// Compares the fractions by cross multiplication; node ids break ties and bring the same node together.
    fn order(&self, other: &Self) -> std::cmp::Ordering {
        let (mine, theirs) =
            (u128::from(self.cost) * u128::from(other.weight), u128::from(other.cost) * u128::from(self.weight));
        mine.cmp(&theirs).then_with(|| self.candidate.node.cmp(&other.candidate.node))
    }
}

/// `-log2((drawn + 1) / 2^64)` in units of 2^-32: the whole part from the leading zeros, the fraction by repeated squaring.
fn cost(drawn: u64) -> u64 {
    const FRACTION_BITS: u32 = 32;
    let drawn = drawn.max(1);
    let whole = u64::from(drawn.ilog2());
    // In [1, 2) as a fixed-point number with 63 fraction bits.
    let mut mantissa = drawn << (63 - drawn.ilog2());
    let mut log2 = whole;
    for _ in 0..FRACTION_BITS {
        let square = u128::from(mantissa) * u128::from(mantissa);
        let carry = square >> 127 == 1;
        log2 = log2 << 1 | u64::from(carry);
        mantissa = (square >> if carry { 64 } else { 63 }) as u64;
    }
    (64 << FRACTION_BITS) - log2
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ROOM: ByteCount = ByteCount::new(1 << 20);

    fn node(n: u16) -> NodeId {
        let mut raw = [0; 32];
        raw[..2].copy_from_slice(&n.to_le_bytes());
        NodeId::from_bytes(raw)
    }

    /// Nodes 0.. with these operators and free MiB.
    fn candidates(list: &[(u8, u64)]) -> Vec<Candidate> {
        let candidate = |(n, (operator, mib)): (usize, &(u8, u64))| Candidate {
            node: node(n as u16),
            operator: operator.to_string(),
            free: ByteCount::new(mib << 20),
        };
        list.iter().enumerate().map(candidate).collect()
    }

    fn nonce(n: u64) -> [u8; 32] {
        hash(Domain::Placement, &n.to_le_bytes())
    }

    #[test]
    fn the_cost_is_the_negative_logarithm() {
        assert_eq!(cost(1), 64 << 32);
        assert_eq!(cost(1 << 63), 1 << 32);
        assert!(cost(u64::MAX) <= 1);
        for drawn in [3, 1000, 1 << 40, 0x1234_5678_9abc_def0, u64::MAX / 3] {
            let want = (64.0 - (drawn as f64).log2()) * f64::from(1 << 16) * f64::from(1 << 16);
            assert!((cost(drawn) as f64 - want).abs() <= 4.0, "{drawn}");
        }
    }

    #[test]
    fn a_placement_is_the_same_on_every_machine() {
        let got = place(&[7; 32], 3, ROOM, &candidates(&[(0, 10), (1, 20), (2, 30), (3, 40), (0, 50)]));
        let got = got.expect("nodes enough");
        let numbers = |nodes: &[NodeId]| nodes.iter().map(|n| n.as_bytes()[0]).collect::<Vec<_>>();
        expect_test::expect!["([2, 3, 4], [1, 0])"].assert_eq(&format!(
            "({:?}, {:?})",
            numbers(&got.slots),
            numbers(&got.spares)
        ));
    }

    #[test]
    fn too_few_nodes_with_room_is_an_error() {
        let few = candidates(&[(0, 10), (1, 10), (2, 0)]);
        let want = PlacementError::TooFewNodes { have: 2, need: 3, room: ROOM };
        assert_eq!(place(&nonce(0), 3, ROOM, &few), Err(want));
        let twice = [few[0].clone(), few[0].clone()];
        assert!(place(&nonce(0), 2, ROOM, &twice).is_err());
    }

    #[test]
    fn operators_share_evenly_when_there_are_fewer_than_slots() {
        let got = place(&nonce(1), 6, ROOM, &candidates(&[(0, 9); 6])).expect("nodes enough");
        assert_eq!(got.slots_per_operator, 6);
        let two_operators = candidates(&[(0, 9), (0, 900), (0, 900), (1, 9), (1, 9), (1, 9)]);
        let got = place(&nonce(1), 4, ROOM, &two_operators).expect("nodes enough");
        assert_eq!(got.slots_per_operator, 2);
        let enough = candidates(&[(0, 9), (0, 900), (1, 9), (2, 9)]);
        assert_eq!(place(&nonce(1), 3, ROOM, &enough).map(|p| p.slots_per_operator), Ok(1));
    }

    #[test]
    fn a_nodes_share_follows_its_free_capacity() {
        let list = candidates(&[(0, 100), (1, 200), (2, 300), (3, 400)]);
        let mut held = [0_u32; 4];
        for n in 0..4000 {
            let got = place(&nonce(n), 1, ROOM, &list).expect("nodes enough");
            held[usize::from(got.slots[0].as_bytes()[0])] += 1;
        }
        // 400, 800, 1200, 1600 expected; the draws are fixed, so the bounds cannot fail by chance.
        for (held, want) in held.into_iter().zip([400, 800, 1200, 1600]) {
            assert!(held.abs_diff(want) < 120, "{held} instead of {want}");
        }
    }

    #[test]
    fn a_node_that_leaves_moves_its_own_slot_only() {
        let all = candidates(&[(0, 50), (1, 50), (2, 50), (3, 50), (4, 50), (5, 50)]);
        for n in 0..50 {
            let before = place(&nonce(n), 3, ROOM, &all).expect("nodes enough");
            let rest: Vec<_> = all.iter().filter(|c| c.node != before.slots[1]).cloned().collect();
            let after = place(&nonce(n), 3, ROOM, &rest).expect("nodes enough");
            assert_eq!(after.slots, [before.slots[0], before.slots[2], before.spares[0]]);
        }
    }

    proptest! {
        #[test]
        fn a_placement_is_distinct_complete_and_independent_of_order(
            list in prop::collection::vec((0_u8..6, 0_u64..5000), 1..40), slots in 1_u8..10, seed: u64,
        ) {
            let list = candidates(&list);
            let with_room = list.iter().filter(|c| c.free >= ROOM).count();
            let got = place(&nonce(seed), slots, ROOM, &list);
            let mut turned = list.clone();
            turned.reverse();
            prop_assert_eq!(&got, &place(&nonce(seed), slots, ROOM, &turned));
            let Ok(got) = got else {
                prop_assert!(with_room < usize::from(slots));
                return Ok(());
            };
            prop_assert_eq!(got.slots.len(), usize::from(slots));
            let all: std::collections::BTreeSet<_> = got.slots.iter().chain(&got.spares).collect();
            prop_assert_eq!(all.len(), with_room);
            prop_assert_eq!(got.slots.len() + got.spares.len(), with_room);
            let operator = |n: &NodeId| list.iter().find(|c| c.node == *n).map(|c| c.operator.as_str());
            let mut held: BTreeMap<_, usize> = BTreeMap::new();
            for slot in &got.slots {
                *held.entry(operator(slot)).or_default() += 1;
            }
            prop_assert_eq!(held.values().copied().max(), Some(got.slots_per_operator));
        }
    }
}

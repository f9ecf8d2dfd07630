//! Beacon: unpredictable numbers from what each proposer reveals (RANDAO).
//!
//! Every node registers the head of a hash chain. A block carries its proposer's next preimage, exactly one step down,
//! and the preimages of all blocks are hashed together. A leader can withhold its reveal with its block, but cannot choose it.
//! A block that is orphaned leaves the registered head where it was, so the same reveal is due again: others then know it
//! ahead, which is no choice either. Going further down per signed block would let a leader choose how far, and a
//! partition would use up the chain.
//! A new chain takes over two epochs after it was announced: by then reveals are in between that its owner could not know.
//! Not here: making chains and keeping their seeds (`node`).

use super::record::{BeaconChain, NodeEntry};
use crate::crypto::{Domain, hash};
use crate::types::Epoch;

/// The head of the chain that begins `steps` above the seed: what a node registers, or, for fewer steps, a reveal.
/// Cost: one hash a step.
pub fn chain(seed: &[u8; 32], steps: u64) -> [u8; 32] {
    (0..steps).fold(*seed, |link, _| step(&link))
}

/// One step up the chain: the hash of a reveal is the head that it fits.
pub fn step(link: &[u8; 32]) -> [u8; 32] {
    hash(Domain::Beacon, link)
}

/// The beacon after one more reveal.
pub fn mix(beacon: &[u8; 32], reveal: &[u8; 32]) -> [u8; 32] {
    hash(Domain::Beacon, &[*beacon, *reveal].concat())
}

/// The head that a reveal in this epoch must hash to.
pub fn head_in(beacon: &BeaconChain, epoch: Epoch) -> [u8; 32] {
    match beacon.next {
        Some((from, head)) if from <= epoch => head,
        _ => beacon.head,
    }
}

/// The node's chain after a reveal, or nothing if the reveal does not fit.
pub(super) fn revealed(beacon: &BeaconChain, epoch: Epoch, reveal: &[u8; 32]) -> Option<BeaconChain> {
    let next = beacon.next.filter(|(from, _)| *from > epoch);
    (step(reveal) == head_in(beacon, epoch)).then_some(BeaconChain { head: *reveal, next })
}

/// The node's chain after it announced a head. The head that it announced last changes nothing.
pub(super) fn announced(old: &NodeEntry, head: [u8; 32], epoch: Epoch) -> BeaconChain {
    if old.announcement.beacon_head == head {
        return old.beacon;
    }
    let from = epoch.next().and_then(Epoch::next).unwrap_or(Epoch::new(u64::MAX));
    BeaconChain { head: head_in(&old.beacon, epoch), next: Some((from, head)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reveal_is_exactly_one_step_down() {
        let seed = [7; 32];
        let beacon = BeaconChain { head: chain(&seed, 10), next: None };
        let after = revealed(&beacon, Epoch::ZERO, &chain(&seed, 9)).expect("the next preimage fits");
        assert_eq!(after.head, chain(&seed, 9));
        assert_eq!(revealed(&beacon, Epoch::ZERO, &chain(&seed, 8)), None, "two steps would be a choice");
        assert_eq!(revealed(&beacon, Epoch::ZERO, &chain(&seed, 10)), None);
    }

    #[test]
    fn a_new_chain_takes_over_at_its_epoch_and_not_before() {
        let (old, new) = (chain(&[1; 32], 3), chain(&[2; 32], 3));
        let beacon = BeaconChain { head: old, next: Some((Epoch::new(4), new)) };
        assert_eq!(revealed(&beacon, Epoch::new(3), &chain(&[2; 32], 2)), None);
        let kept = revealed(&beacon, Epoch::new(3), &chain(&[1; 32], 2)).expect("the old chain still holds");
        assert_eq!(kept.next, beacon.next);
        let taken = revealed(&kept, Epoch::new(4), &chain(&[2; 32], 2)).expect("the new chain holds now");
        assert_eq!(taken, BeaconChain { head: chain(&[2; 32], 2), next: None });
    }
}

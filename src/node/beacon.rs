//! The node's hash chain for the beacon: made from the node key, one preimage for each block that it proposes.

use zeroize::Zeroizing;

use crate::crypto::{Domain, hash};
use crate::ledger::beacon::{chain, step};

/// Links of one chain: reveals until the next must have been announced.
pub const LINKS: u64 = 1 << 20;
/// Every so many links one is kept in memory, so that finding a preimage costs at most as many hashes.
const STRIDE: u64 = 1 << 10;

/// One chain. Making it costs `LINKS` hashes, about a tenth of a second.
pub struct BeaconChain {
    /// Link `i * STRIDE`, counted from the seed upwards.
    kept: Vec<[u8; 32]>,
    /// Link number of the last head asked for; the next one is below it.
    at: u64,
}

impl BeaconChain {
    /// The node's chain of a generation: 0 is registered first, each later one takes over from the one before.
    pub fn of(node_seed: &[u8; 32], generation: u32) -> Self {
        let secret = Zeroizing::new(hash(
            Domain::Derive,
            &[b"beacon".as_slice(), node_seed, &generation.to_be_bytes()].concat(),
        ));
        let mut kept = vec![*secret];
        let mut link = *secret;
        for _ in 0..LINKS / STRIDE {
            link = chain(&link, STRIDE);
            kept.push(link);
        }
        Self { kept, at: LINKS }
    }
    /// What to register.
    pub fn head(&self) -> [u8; 32] {
        self.kept.last().copied().unwrap_or_default()
    }
    fn link(&self, number: u64) -> Option<[u8; 32]> {
        let from = self.kept.get(usize::try_from(number / STRIDE).ok()?)?;
        Some(chain(from, number % STRIDE))
    }
    /// The preimage of a head, or nothing if the head is not of this chain or is its seed.
    pub fn reveal(&mut self, head: &[u8; 32]) -> Option<[u8; 32]> {
        // Heads move down one at a time, so the one asked for is mostly where the last search ended or one below.
        let near = [self.at, self.at.saturating_sub(1)];
        let number = near.into_iter().find(|number| self.link(*number).as_ref() == Some(head));
        let number = number.or_else(|| self.search(head))?;
        self.at = number;
        self.link(number.checked_sub(1)?)
    }
    fn search(&self, head: &[u8; 32]) -> Option<u64> {
        let mut number = 0;
        for kept in &self.kept {
            let mut link = *kept;
            for within in 0..STRIDE {
                if link == *head {
                    return Some(number + within);
                }
                link = step(&link);
            }
            number += STRIDE;
        }
        None
    }
    /// Reveals that are left.
    pub fn left(&self) -> u64 {
        self.at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reveal_hashes_to_the_head_before_and_is_found_again_after_a_restart() {
        let mut chain = BeaconChain::of(&[7; 32], 0);
        let mut head = chain.head();
        for _ in 0..STRIDE + 3 {
            let reveal = chain.reveal(&head).expect("the chain is long");
            assert_eq!(step(&reveal), head);
            head = reveal;
        }
        let restarted = BeaconChain::of(&[7; 32], 0).reveal(&head);
        assert_eq!(restarted, chain.reveal(&head));
        assert_eq!(chain.reveal(&[1; 32]), None);
    }
}

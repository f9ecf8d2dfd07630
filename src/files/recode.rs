//! Recode: the roots of all slots, from any `data` of them.
//!
//! A file whose slots all have their roots can still be wrong: if its owner named roots of shards that do not belong together,
//! two readers of it read two contents, and repair makes nothing that fits. Needs no key, only what anyone may read.

use blake3::Hasher;

use super::erasure::{Erasure, ErasureError};
use super::parameters::{Layout, Parameters};
use crate::types::SlotRoot;

/// Bytes of each shard that parity is computed for at a time: bounds memory to so much a slot, whatever the stripe.
const SLICE: usize = 64 << 10;

/// Takes stripes in order, gives the roots that the slots must have.
pub struct Recode {
    parameters: Parameters,
    code: Erasure,
    slots: Vec<Hasher>,
    data: Vec<u8>,
    slice: Vec<u8>,
    parity: Vec<u8>,
}

impl Recode {
    /// Before the first stripe.
    pub fn new(layout: &Layout) -> Self {
        let parameters = layout.parameters();
        let slots = vec![Hasher::new(); usize::from(parameters.slots())];
        let (code, none) = (Erasure::new(parameters), Vec::new);
        Self { parameters, code, slots, data: none(), slice: none(), parity: none() }
    }
    /// Takes any `data` of the next stripe's shards, one place for each slot. Errors: each of `ErasureError`.
    pub fn push(&mut self, shards: &[Option<Vec<u8>>]) -> Result<(), ErasureError> {
        let (data, parity) = (usize::from(self.parameters.data()), usize::from(self.parameters.parity()));
        let shards: Vec<_> = shards.iter().map(Option::as_deref).collect();
        let shard_len = shards.iter().flatten().next().map_or(0, |shard| shard.len());
        self.data.resize(data.saturating_mul(shard_len), 0);
        self.code.restore(&shards, 0..data, &mut self.data)?;
        let mut at = 0;
        while at < shard_len {
            let end = shard_len.min(at.saturating_add(SLICE));
            self.slice.clear();
            for (shard, hasher) in self.data.chunks_exact(shard_len).zip(&mut self.slots) {
                hasher.update(&shard[at..end]);
                self.slice.extend_from_slice(&shard[at..end]);
            }
            self.parity.resize(parity.saturating_mul(end - at), 0);
            self.code.encode(&self.slice, &mut self.parity);
            for (shard, hasher) in self.parity.chunks_exact(end - at).zip(&mut self.slots[data..]) {
                hasher.update(shard);
            }
            at = end;
        }
        Ok(())
    }
    /// The roots, in the order of the slots.
    pub fn finish(self) -> Vec<SlotRoot> {
        self.slots.iter().map(|hasher| SlotRoot::from_bytes(*hasher.finalize().as_bytes())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stripes of a file of 2 + 2 slots, each with all of its shards.
    fn stripes(layout: &Layout) -> Vec<Vec<Vec<u8>>> {
        let code = Erasure::new(layout.parameters());
        let stripe = |stripe: u64| {
            let len = layout.shard_len(stripe);
            let mut data = vec![0; 2 * len];
            blake3::Hasher::new().update(&stripe.to_le_bytes()).finalize_xof().fill(&mut data);
            let mut parity = vec![0; 2 * len];
            code.encode(&data, &mut parity);
            data.chunks_exact(len).chain(parity.chunks_exact(len)).map(<[u8]>::to_vec).collect()
        };
        (0..layout.stripes()).map(stripe).collect()
    }

    fn layout() -> Layout {
        Layout::new(Parameters::new(2, 2, 256 << 10).expect("within the limits"), 700_000).expect("within the limits")
    }

    fn roots(layout: &Layout, stripes: &[Vec<Vec<u8>>], kept: &[usize]) -> Result<Vec<SlotRoot>, ErasureError> {
        let mut recode = Recode::new(layout);
        for stripe in stripes {
            let shards: Vec<_> =
                stripe.iter().enumerate().map(|(slot, shard)| kept.contains(&slot).then(|| shard.clone())).collect();
            recode.push(&shards)?;
        }
        Ok(recode.finish())
    }

    #[test]
    fn any_two_slots_give_the_roots_of_all_four() {
        let layout = layout();
        let stripes = stripes(&layout);
        assert!(stripes.len() > 2);
        let slot = |slot: usize| {
            let bytes: Vec<u8> = stripes.iter().flat_map(|stripe| stripe[slot].clone()).collect();
            SlotRoot::from_bytes(*blake3::hash(&bytes).as_bytes())
        };
        let all: Vec<_> = (0..4).map(slot).collect();
        for kept in [[0, 1], [0, 3], [1, 2], [2, 3]] {
            assert_eq!(roots(&layout, &stripes, &kept), Ok(all.clone()), "{kept:?}");
        }
        assert_eq!(roots(&layout, &stripes, &[3]), Err(ErasureError::TooFew { have: 1, need: 2 }));
    }

    #[test]
    fn a_slot_that_does_not_belong_to_the_others_shows() {
        let layout = layout();
        let mut stripes = stripes(&layout);
        let right = roots(&layout, &stripes, &[0, 1]).expect("two of two");
        stripes[1][2][77] ^= 1;
        assert_ne!(roots(&layout, &stripes, &[0, 2]), Ok(right.clone()));
        assert_eq!(roots(&layout, &stripes, &[0, 3]), Ok(right));
    }
}

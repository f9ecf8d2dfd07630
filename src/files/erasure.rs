//! Erasure coding of one stripe: Reed-Solomon over GF(2^8), systematic, any `data` of the shards restore it.
//!
//! The kernels of `reed-solomon-erasure` are C compiled for one processor family and choose nothing at run time:
//! a program calls `check_cpu` first, so that it ends with a sentence and not with an illegal instruction.

use std::sync::OnceLock;

use reed_solomon_erasure::galois_8::ReedSolomon;

use super::parameters::Parameters;

/// An instruction set that the erasure-coding kernels need and this processor lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this processor lacks {0}; trullo's x86-64 build needs a processor of 2013 (Intel Haswell, AMD Excavator) or later"
)]
pub struct MissingFeature(pub &'static str);

/// Whether this processor can run the erasure-coding kernels. Errors: `MissingFeature`.
pub fn check_cpu() -> Result<(), MissingFeature> {
    #[cfg(target_arch = "x86_64")]
    {
        // What a compiler may use under -march=haswell.
        let features = [
            ("AVX2", std::arch::is_x86_feature_detected!("avx2")),
            ("FMA", std::arch::is_x86_feature_detected!("fma")),
            ("BMI1", std::arch::is_x86_feature_detected!("bmi1")),
            ("BMI2", std::arch::is_x86_feature_detected!("bmi2")),
            ("LZCNT", std::arch::is_x86_feature_detected!("lzcnt")),
            ("MOVBE", std::arch::is_x86_feature_detected!("movbe")),
            ("POPCNT", std::arch::is_x86_feature_detected!("popcnt")),
            ("F16C", std::arch::is_x86_feature_detected!("f16c")),
        ];
        if let Some((name, _)) = features.into_iter().find(|(_, present)| !present) {
            return Err(MissingFeature(name));
        }
    }
    Ok(())
}

/// Why shards do not restore a stripe.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ErasureError {
    /// Fewer than `data` shards.
    #[error("{have} shards; {need} are needed")]
    TooFew {
        /// Shards given.
        have: usize,
        /// Shards needed.
        need: usize,
    },
    /// Not one place per shard.
    #[error("{have} places for shards; a stripe has {need}")]
    Places {
        /// Places given.
        have: usize,
        /// Shards of a stripe.
        need: usize,
    },
    /// A shard of another length than the stripe's.
    #[error("a shard of {have} bytes where the stripe has shards of {need}")]
    ShardLen {
        /// Bytes given.
        have: usize,
        /// Bytes expected.
        need: usize,
    },
}

/// The code of one file's stripes.
pub struct Erasure {
    data: usize,
    parity: usize,
    /// Made when it is first computed with: its matrix costs the cube of `data`, and a file whose data shards are all there
    /// needs none.
    code: OnceLock<ReedSolomon>,
}

impl Erasure {
    /// The code for these numbers of shards.
    pub fn new(parameters: Parameters) -> Self {
        let (data, parity) = (usize::from(parameters.data()), usize::from(parameters.parity()));
        Self { data, parity, code: OnceLock::new() }
    }
    /// None without parity, where there is nothing to compute.
    fn code(&self) -> Option<&ReedSolomon> {
        let new = || ReedSolomon::new(self.data, self.parity).expect("parameters are within GF(2^8)");
        (self.parity > 0).then(|| self.code.get_or_init(new))
    }
    /// Computes the parity shards. `data` is the data shards one after another, `parity` room for the parity
    /// shards likewise, all of one length.
    pub fn encode(&self, data: &[u8], parity: &mut [u8]) {
        let shard_len = data.len() / self.data;
        assert!(data.len() == shard_len * self.data && parity.len() == shard_len * self.parity, "shards of one length");
        if shard_len == 0 {
            return;
        }
        let Some(code) = self.code() else { return };
        let data: Vec<&[u8]> = data.chunks_exact(shard_len).collect();
        let mut parity: Vec<&mut [u8]> = parity.chunks_exact_mut(shard_len).collect();
        code.encode_sep(&data, &mut parity).expect("lengths were checked");
    }
    /// Writes the data shards into `data`, one after another, from any `data` of all the shards. What is there is copied, the
    /// rest computed. If only the shards in `wanted` matter and are there, nothing is computed and the others are
    /// left as they are. Errors: each of `ErasureError`; `data` is then undefined.
    pub fn restore(
        &self,
        shards: &[Option<&[u8]>],
        wanted: std::ops::Range<usize>,
        data: &mut [u8],
    ) -> Result<(), ErasureError> {
        let shard_len = data.len() / self.data;
        assert!(data.len() == shard_len * self.data, "room for shards of one length");
        self.check(shards, shard_len)?;
        if shard_len == 0 {
            return Ok(());
        }
        for (shard, room) in shards.iter().zip(data.chunks_exact_mut(shard_len)) {
            if let Some(shard) = shard {
                room.copy_from_slice(shard);
            }
        }
        if shards.iter().take(self.data).skip(wanted.start).take(wanted.len()).all(Option::is_some) {
            return Ok(());
        }
        let have = shards.iter().flatten().count();
        let Some(code) = (have >= self.data).then(|| self.code()).flatten() else {
            return Err(ErasureError::TooFew { have, need: self.data });
        };
        // The code wants mutable shards throughout, so the parity shards that take part are copied.
        let missing = shards.iter().take(self.data).filter(|shard| shard.is_none()).count();
        let mut parity: Vec<Vec<u8>> = Vec::with_capacity(self.parity);
        for shard in &shards[self.data..] {
            let takes_part = parity.iter().filter(|shard| !shard.is_empty()).count() < missing;
            parity.push(shard.filter(|_| takes_part).map(<[u8]>::to_vec).unwrap_or_default());
        }
        let present = shards.iter().map(Option::is_some);
        let mut all: Vec<(&mut [u8], bool)> = data.chunks_exact_mut(shard_len).zip(present).collect();
        all.extend(parity.iter_mut().map(|shard| {
            let present = !shard.is_empty();
            (shard.as_mut_slice(), present)
        }));
        code.reconstruct_data(&mut all).expect("count and lengths were checked");
        Ok(())
    }
    /// Computes one shard, data or parity, from any `data` of the others, in its place: repair, with no key. Others that are
    /// missing may be computed too. Errors: each of `ErasureError`.
    pub fn rebuild(&self, shards: &mut [Option<Vec<u8>>], index: usize) -> Result<(), ErasureError> {
        let present: Vec<_> = shards.iter().map(Option::as_deref).collect();
        let shard_len = present.iter().flatten().next().map_or(0, |shard| shard.len());
        self.check(&present, shard_len)?;
        let have = present.iter().flatten().count();
        let missing = shards.get(index).ok_or(ErasureError::Places { have: index + 1, need: shards.len() })?.is_none();
        if !missing {
            return Ok(());
        }
        let Some(code) = (have >= self.data).then(|| self.code()).flatten() else {
            return Err(ErasureError::TooFew { have, need: self.data });
        };
        if shard_len == 0 {
            shards[index] = Some(Vec::new());
            return Ok(());
        }
        let done = if index < self.data { code.reconstruct_data(shards) } else { code.reconstruct(shards) };
        done.expect("count and lengths were checked");
        Ok(())
    }

    fn check(&self, shards: &[Option<&[u8]>], shard_len: usize) -> Result<(), ErasureError> {
        let need = self.data + self.parity;
        if shards.len() != need {
            return Err(ErasureError::Places { have: shards.len(), need });
        }
        match shards.iter().flatten().find(|shard| shard.len() != shard_len) {
            Some(shard) => Err(ErasureError::ShardLen { have: shard.len(), need: shard_len }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::subsequence;

    use super::*;

    fn coded(data: u8, parity: u8, shard_len: usize, seed: u64) -> (Erasure, Vec<u8>, Vec<Vec<u8>>) {
        let erasure = Erasure::new(Parameters::with_shards(data, parity).expect("within the limits"));
        let mut bytes = vec![0; usize::from(data) * shard_len];
        blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
        let mut rest = vec![0; usize::from(parity) * shard_len];
        erasure.encode(&bytes, &mut rest);
        let shards = bytes.chunks_exact(shard_len).chain(rest.chunks_exact(shard_len)).map(<[u8]>::to_vec).collect();
        (erasure, bytes, shards)
    }

    fn only<'a>(shards: &'a [Vec<u8>], kept: &[usize]) -> Vec<Option<&'a [u8]>> {
        shards.iter().enumerate().map(|(j, s)| kept.contains(&j).then_some(s.as_slice())).collect()
    }

    /// The numbers are those of a manifest of the fuzzer, whose plans took seconds.
    #[test]
    fn data_shards_that_are_all_there_cost_no_matrix() {
        let erasure = Erasure::new(Parameters::with_shards(225, 2).expect("within the limits"));
        let shards = vec![Some([5; 8].as_slice()); 227];
        let mut data = vec![0; 225 * 8];
        assert_eq!(erasure.restore(&shards, 0..225, &mut data), Ok(()));
        assert_eq!((data, erasure.code.get().is_none()), (vec![5; 225 * 8], true));
    }

    /// Numbers of shards, and which `data` of them are left.
    fn any_survivors() -> impl Strategy<Value = (u8, u8, Vec<usize>)> {
        (1_u8..=12, 0_u8..=6).prop_flat_map(|(data, parity)| {
            let all: Vec<usize> = (0..usize::from(data + parity)).collect();
            (Just(data), Just(parity), subsequence(all, usize::from(data)))
        })
    }

    #[test]
    fn this_machine_can_run_the_kernels() {
        assert_eq!(check_cpu(), Ok(()));
    }

    #[test]
    fn one_data_shard_makes_copies() {
        let (_, bytes, shards) = coded(1, 3, 40, 0);
        assert!(shards.iter().all(|shard| *shard == bytes));
    }

    #[test]
    fn too_few_or_unequal_shards_are_refused() {
        let (erasure, bytes, shards) = coded(3, 2, 40, 0);
        let mut room = vec![0; bytes.len()];
        let few = only(&shards, &[1, 4]);
        assert_eq!(erasure.restore(&few, 0..3, &mut room), Err(ErasureError::TooFew { have: 2, need: 3 }));
        assert_eq!(erasure.restore(&few[1..], 0..3, &mut room), Err(ErasureError::Places { have: 4, need: 5 }));
        let mut unequal = only(&shards, &[0, 1, 2]);
        unequal[3] = Some(&bytes[..41]);
        assert_eq!(erasure.restore(&unequal, 0..3, &mut room), Err(ErasureError::ShardLen { have: 41, need: 40 }));
        let mut few: Vec<_> = few.iter().map(|shard| shard.map(<[u8]>::to_vec)).collect();
        assert_eq!(erasure.rebuild(&mut few, 5), Err(ErasureError::Places { have: 6, need: 5 }));
        assert_eq!(erasure.rebuild(&mut few, 0), Err(ErasureError::TooFew { have: 2, need: 3 }));
    }

    #[test]
    fn wanted_shards_that_are_there_need_no_others() {
        let (erasure, bytes, shards) = coded(4, 2, 40, 0);
        let mut room = vec![0; bytes.len()];
        assert_eq!(erasure.restore(&only(&shards, &[2]), 2..3, &mut room), Ok(()));
        assert_eq!(room[80..120], bytes[80..120]);
        assert!(erasure.restore(&only(&shards, &[2]), 2..4, &mut room).is_err());
    }

    #[test]
    fn the_kernels_and_the_tables_agree() {
        // The portable path of the same crate is its arithmetic on single bytes.
        use reed_solomon_erasure::galois_8::{add, exp, mul};
        let (_, bytes, shards) = coded(2, 1, 1000, 7);
        // Vandermonde rows (1, 0), (1, 1), (1, 2), made systematic: parity = a + 2 (a + b).
        let two = exp(2, 1);
        for (at, parity) in shards[2].iter().enumerate() {
            let (a, b) = (bytes[at], bytes[1000 + at]);
            assert_eq!(*parity, add(a, mul(two, add(a, b))));
        }
    }

    proptest! {
        #[test]
        fn any_k_of_n_restore((data, parity, kept) in any_survivors(), shard_len in 1_usize..200, seed: u64) {
            let (erasure, bytes, shards) = coded(data, parity, shard_len, seed);
            let mut room = vec![0xee; bytes.len()];
            let some = only(&shards, &kept);
            prop_assert_eq!(erasure.restore(&some, 0..usize::from(data), &mut room), Ok(()));
            prop_assert_eq!(&room, &bytes);
            for (index, shard) in shards.iter().enumerate() {
                let mut some: Vec<_> = some.iter().map(|shard| shard.map(<[u8]>::to_vec)).collect();
                prop_assert_eq!(erasure.rebuild(&mut some, index), Ok(()));
                prop_assert_eq!(some[index].as_ref(), Some(shard));
            }
        }
    }
}

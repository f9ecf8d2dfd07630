//! How a file is cut: the parameters its owner chose, and the arithmetic that follows from them.
//!
//! Three byte streams, one on top of the other: *plain* (what the owner sees), *stored* (plain or compressed, what is
//! encrypted), *cipher* (segments with their tags, what is erasure-coded in stripes). Everything here is about the
//! last two.

use std::ops::Range;

use crate::crypto::seal::TAG_BYTES;
use crate::types::limits;
use crate::wire::PublicManifest;

/// Bytes of one segment in the cipher stream.
pub(super) const SEALED_SEGMENT: u64 = (limits::SEGMENT_BYTES + TAG_BYTES) as u64;
/// Bytes of one segment in the stored stream.
pub(super) const SEGMENT: u64 = limits::SEGMENT_BYTES as u64;

/// Why parameters or a length are not allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParameterError {
    /// Impossible numbers of shards.
    #[error("{data} data and {parity} parity shards: at least 1 data shard and at most {max} in all", max = limits::SLOTS_MAX)]
    Shards {
        /// Data shards.
        data: u8,
        /// Parity shards.
        parity: u8,
    },
    /// Chunk size outside of the bounds.
    #[error("chunks of {0} bytes; allowed are {min} to {max}", min = limits::CHUNK_BYTES_MIN, max = limits::CHUNK_BYTES_MAX)]
    ChunkBytes(u32),
    /// A file over the limit.
    #[error("{0} bytes or more; a file has at most {max}", max = limits::FILE_BYTES_MAX)]
    TooLong(u64),
    /// A length that no sequence of segments has.
    #[error("no file has {0} bytes of ciphertext")]
    CipherLen(u64),
}

/// Into how many shards a stripe is coded, and how long it is. Always within the limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameters {
    data: u8,
    parity: u8,
    chunk_bytes: u32,
}

impl Parameters {
    /// `data` shards that restore a stripe, `parity` further ones, stripes of `chunk_bytes` of ciphertext.
    /// Errors: `Shards`, `ChunkBytes`.
    pub fn new(data: u8, parity: u8, chunk_bytes: u32) -> Result<Self, ParameterError> {
        if data == 0 || usize::from(data) + usize::from(parity) > limits::SLOTS_MAX {
            return Err(ParameterError::Shards { data, parity });
        }
        if !(limits::CHUNK_BYTES_MIN..=limits::CHUNK_BYTES_MAX).contains(&chunk_bytes) {
            return Err(ParameterError::ChunkBytes(chunk_bytes));
        }
        Ok(Self { data, parity, chunk_bytes })
    }
    /// These numbers of shards, with stripes of which one shard is one slot block, so that a stripe is read with
    /// one request to each node and nothing beyond it. Errors: `Shards`.
    pub fn with_shards(data: u8, parity: u8) -> Result<Self, ParameterError> {
        let chunk = (u32::from(data) * limits::SLOT_BLOCK_BYTES as u32).min(limits::CHUNK_BYTES_MAX);
        Self::new(data, parity, chunk.max(limits::CHUNK_BYTES_MIN))
    }
    /// The default for this many storage nodes: a third of them may be lost, one at least if there are two;
    /// no more than 10 + 4 slots. Example: 1 node 1+0, 2 nodes 1+1, 3 nodes 2+1, 6 nodes 4+2.
    pub fn for_nodes(nodes: usize) -> Self {
        let (data, parity) = match nodes {
            0 | 1 => (1, 0),
            2 => (1, 1),
            14.. => (10, 4),
            _ => (nodes - nodes / 3, nodes / 3),
        };
        Self::with_shards(data as u8, parity as u8).expect("the defaults are within the limits")
    }
    /// Shards that restore a stripe.
    pub const fn data(&self) -> u8 {
        self.data
    }
    /// Further shards.
    pub const fn parity(&self) -> u8 {
        self.parity
    }
    /// All shards of a stripe, and slots of a file.
    pub const fn slots(&self) -> u8 {
        self.data + self.parity
    }
    /// Ciphertext bytes of a stripe; the last of a file may be shorter.
    pub const fn chunk_bytes(&self) -> u32 {
        self.chunk_bytes
    }
}

/// Where each byte of the stored stream lies in the slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    parameters: Parameters,
    stored_len: u64,
}

impl Layout {
    /// The layout of a file whose stored stream has this many bytes. Errors: `TooLong`.
    pub fn new(parameters: Parameters, stored_len: u64) -> Result<Self, ParameterError> {
        if stored_len > limits::FILE_BYTES_MAX {
            return Err(ParameterError::TooLong(stored_len));
        }
        Ok(Self { parameters, stored_len })
    }
    /// The layout of a file by what everyone knows of it. Errors: each of `ParameterError`.
    pub fn of_manifest(manifest: &PublicManifest) -> Result<Self, ParameterError> {
        let parameters = Parameters::new(manifest.data, manifest.parity, manifest.chunk_bytes)?;
        let cipher_len = manifest.cipher_len;
        let tags = cipher_len.div_ceil(SEALED_SEGMENT).max(1) * TAG_BYTES as u64;
        let stored_len = cipher_len.checked_sub(tags).ok_or(ParameterError::CipherLen(cipher_len))?;
        let layout = Self::new(parameters, stored_len)?;
        // A last segment shorter than its tag has no length of content that makes it.
        if layout.cipher_len() == cipher_len { Ok(layout) } else { Err(ParameterError::CipherLen(cipher_len)) }
    }
    /// The parameters.
    pub const fn parameters(&self) -> Parameters {
        self.parameters
    }
    /// Bytes of the stored stream.
    pub const fn stored_len(&self) -> u64 {
        self.stored_len
    }
    /// Segments; an empty file has one, so that its emptiness is authenticated.
    pub fn segments(&self) -> u64 {
        self.stored_len.div_ceil(SEGMENT).max(1)
    }
    /// Bytes of the cipher stream.
    pub fn cipher_len(&self) -> u64 {
        self.stored_len + self.segments() * TAG_BYTES as u64
    }
    /// Bytes of a segment in the cipher stream; `segment` is below `segments()`.
    pub(super) fn sealed_len(&self, segment: u64) -> usize {
        let rest = self.cipher_len() - segment * SEALED_SEGMENT;
        rest.min(SEALED_SEGMENT) as usize
    }
    /// Stripes.
    pub fn stripes(&self) -> u64 {
        self.cipher_len().div_ceil(u64::from(self.parameters.chunk_bytes))
    }
    /// Bytes of a stripe in the cipher stream; 0 beyond the last.
    pub fn stripe_len(&self, stripe: u64) -> usize {
        let chunk = u64::from(self.parameters.chunk_bytes);
        let rest = self.cipher_len().saturating_sub(stripe.saturating_mul(chunk));
        rest.min(chunk) as usize
    }
    /// Bytes of each shard of a stripe.
    pub fn shard_len(&self, stripe: u64) -> usize {
        self.stripe_len(stripe).div_ceil(usize::from(self.parameters.data))
    }
    /// Where a stripe's shard begins in its slot, bytes; `stripe` is at most `stripes()`.
    pub fn slot_offset(&self, stripe: u64) -> u64 {
        let full = self.parameters.chunk_bytes.div_ceil(u32::from(self.parameters.data));
        (stripe * u64::from(full)).min(self.slot_len())
    }
    /// Bytes of each slot.
    pub fn slot_len(&self) -> u64 {
        let last = self.stripes() - 1;
        let full = self.parameters.chunk_bytes.div_ceil(u32::from(self.parameters.data));
        last * u64::from(full) + self.shard_len(last) as u64
    }
    /// The segments that hold a range of the stored stream; the range lies within it. An empty file has one.
    pub(super) fn segments_of(&self, stored: &Range<u64>) -> Range<u64> {
        let end = stored.end.div_ceil(SEGMENT).max(stored.start / SEGMENT + 1);
        (stored.start / SEGMENT).min(self.segments() - 1)..end.min(self.segments())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_defaults_survive_the_loss_of_a_third() {
        let shards = |nodes| {
            let p = Parameters::for_nodes(nodes);
            (p.data(), p.parity())
        };
        let cases = [(0, (1, 0)), (1, (1, 0)), (2, (1, 1)), (3, (2, 1)), (4, (3, 1)), (6, (4, 2)), (7, (5, 2))];
        for (nodes, want) in cases.into_iter().chain([(10, (7, 3)), (13, (9, 4)), (14, (10, 4)), (1000, (10, 4))]) {
            assert_eq!(shards(nodes), want, "{nodes} nodes");
        }
        let p = Parameters::for_nodes(6);
        assert_eq!(p.chunk_bytes() as usize, 4 * limits::SLOT_BLOCK_BYTES);
    }

    #[test]
    fn parameters_out_of_bounds_are_refused() {
        assert_eq!(Parameters::new(0, 2, 1 << 20), Err(ParameterError::Shards { data: 0, parity: 2 }));
        assert_eq!(Parameters::new(200, 56, 1 << 20), Err(ParameterError::Shards { data: 200, parity: 56 }));
        assert_eq!(Parameters::new(4, 2, 1 << 10), Err(ParameterError::ChunkBytes(1 << 10)));
        assert_eq!(Parameters::new(4, 2, 1 << 25), Err(ParameterError::ChunkBytes(1 << 25)));
        let parameters = Parameters::for_nodes(1);
        assert!(Layout::new(parameters, limits::FILE_BYTES_MAX).is_ok());
        let over = limits::FILE_BYTES_MAX + 1;
        assert_eq!(Layout::new(parameters, over), Err(ParameterError::TooLong(over)));
    }

    fn manifest(parameters: Parameters, cipher_len: u64) -> PublicManifest {
        PublicManifest {
            version: 1,
            owner: crate::types::AccountId::from_bytes([0; 32]),
            nonce: [0; 32],
            data: parameters.data(),
            parity: parameters.parity(),
            chunk_bytes: parameters.chunk_bytes(),
            cipher_len,
            slots: Vec::new(),
            sealed: Vec::new(),
        }
    }

    #[test]
    fn ciphertext_lengths_that_no_content_has_are_refused() {
        let parameters = Parameters::for_nodes(6);
        for len in [0, 15, SEALED_SEGMENT + 1, SEALED_SEGMENT + 16, 3 * SEALED_SEGMENT + 7] {
            assert_eq!(Layout::of_manifest(&manifest(parameters, len)), Err(ParameterError::CipherLen(len)));
        }
        assert!(Layout::of_manifest(&manifest(parameters, u64::MAX)).is_err());
        let layout = Layout::of_manifest(&manifest(parameters, SEALED_SEGMENT + 17)).expect("a segment and a byte");
        assert_eq!(layout.stored_len(), SEGMENT + 1);
    }

    proptest! {
        #[test]
        fn the_pieces_add_up(data in 1_u8..=20, parity in 0_u8..=10, chunk in (256_u32 << 10)..=(1 << 20), len in 0_u64..5_000_000) {
            let parameters = Parameters::new(data, parity, chunk).expect("within the limits");
            let layout = Layout::new(parameters, len).expect("within the limits");
            let stripes: u64 = (0..layout.stripes()).map(|s| layout.stripe_len(s) as u64).sum();
            prop_assert_eq!(stripes, layout.cipher_len());
            let segments: u64 = (0..layout.segments()).map(|s| layout.sealed_len(s) as u64).sum();
            prop_assert_eq!(segments, layout.cipher_len());
            let shards: u64 = (0..layout.stripes()).map(|s| layout.shard_len(s) as u64).sum();
            prop_assert_eq!(shards, layout.slot_len());
            prop_assert_eq!(layout.slot_offset(layout.stripes()), layout.slot_len());
            prop_assert_eq!(layout.stripe_len(layout.stripes()), 0);
            let manifest = manifest(parameters, layout.cipher_len());
            prop_assert_eq!(Layout::of_manifest(&manifest), Ok(layout));
            prop_assert_eq!(manifest.slot_len(), layout.slot_len());
        }
    }
}

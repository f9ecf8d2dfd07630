//! Which stripes, slot blocks and segments a byte range needs.

use std::ops::Range;

use crate::files::parameters::{Layout, SEALED_SEGMENT};
use crate::types::limits;

/// What to read of one stripe: the same bytes of every slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StripeRead {
    /// The stripe.
    pub stripe: u64,
    /// Where its shard begins in each slot, bytes.
    pub slot_offset: u64,
    /// Bytes of its shard.
    pub shard_len: usize,
    /// The data shards that hold the wanted bytes: if all of these are there no other is needed, else any `data` of all shards.
    pub wanted: Range<usize>,
}

impl StripeRead {
    /// The blocks of a slot that hold the shard.
    pub fn blocks(&self) -> Range<u64> {
        let block = limits::SLOT_BLOCK_BYTES as u64;
        self.slot_offset / block..(self.slot_offset + self.shard_len as u64).div_ceil(block)
    }
}

/// A range that is not within its file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// It ends before it begins or after the file does.
    #[error("bytes {start} to {end} of a file of {len} bytes")]
    Outside {
        /// First byte asked for.
        start: u64,
        /// Byte after the last one asked for.
        end: u64,
        /// Bytes of the file.
        len: u64,
    },
    /// A part of a compressed file is found through its seek table only.
    #[error("a part of a compressed file needs the file's seek table")]
    SeekTable,
}

/// How a byte range is read and decoded: made by `OpenManifest`, carried out by `Decoder`. Needs no key to be followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangePlan {
    pub(super) layout: Layout,
    /// The segments to open.
    pub(super) segments: Range<u64>,
    /// The part of the stored stream that is wanted of them.
    pub(super) stored: Range<u64>,
    /// For a compressed file.
    pub(super) expand: Option<Expand>,
}

/// What becomes of stored bytes that are whole frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Expand {
    /// The plaintext of these frames.
    pub(super) frames: Range<u64>,
    /// The part of it that is wanted.
    pub(super) wanted: Range<u64>,
}

impl RangePlan {
    /// Every stripe of a file, which needs no key: what repair reads.
    pub fn all_stripes(layout: Layout) -> Self {
        Self::stored(layout, 0..layout.stored_len())
    }
    /// Stored bytes as they are. The range lies within the stored stream.
    pub(in crate::files) fn stored(layout: Layout, stored: Range<u64>) -> Self {
        Self { layout, segments: layout.segments_of(&stored), stored, expand: None }
    }
    /// Stored bytes that are whole frames, which expand to `frames`, of which `wanted` is wanted.
    pub(in crate::files) fn expanded(
        layout: Layout,
        stored: Range<u64>,
        frames: Range<u64>,
        wanted: Range<u64>,
    ) -> Self {
        Self { expand: Some(Expand { frames, wanted }), ..Self::stored(layout, stored) }
    }
    /// Plaintext bytes that decoding yields.
    pub fn plain_len(&self) -> u64 {
        let range = self.expand.as_ref().map_or(&self.stored, |expand| &expand.wanted);
        range.end - range.start
    }
    /// What to read, in the order in which `Decoder` takes it.
    pub fn reads(&self) -> impl Iterator<Item = StripeRead> + use<> {
        let (layout, cipher) = (self.layout, self.cipher());
        self.stripes().map(move |stripe| read(&layout, &cipher, stripe))
    }
    /// What to read of a stripe, if it is one of these.
    pub(super) fn read(&self, stripe: u64) -> Option<StripeRead> {
        self.stripes().contains(&stripe).then(|| read(&self.layout, &self.cipher(), stripe))
    }
    /// The stripes to read.
    pub(super) fn stripes(&self) -> Range<u64> {
        let (chunk, cipher) = (u64::from(self.layout.parameters().chunk_bytes()), self.cipher());
        cipher.start / chunk..cipher.end.div_ceil(chunk)
    }
    /// The part of the cipher stream that is needed.
    fn cipher(&self) -> Range<u64> {
        self.segments.start * SEALED_SEGMENT..(self.segments.end * SEALED_SEGMENT).min(self.layout.cipher_len())
    }
}

fn read(layout: &Layout, cipher: &Range<u64>, stripe: u64) -> StripeRead {
    let shard_len = layout.shard_len(stripe);
    let start = stripe * u64::from(layout.parameters().chunk_bytes());
    let end = start + layout.stripe_len(stripe) as u64;
    let from = (cipher.start.max(start) - start) / shard_len as u64;
    let to = (cipher.end.min(end) - start).div_ceil(shard_len as u64);
    StripeRead { stripe, slot_offset: layout.slot_offset(stripe), shard_len, wanted: from as usize..to as usize }
}

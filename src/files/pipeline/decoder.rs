//! From stripes to plaintext.

use std::ops::Range;

use super::frames::{Compression, FrameReader};
use super::range::{Expand, RangePlan, StripeRead};
use crate::crypto::seal::{FileKey, SealError, Stream, TAG_BYTES};
use crate::files::erasure::{Erasure, ErasureError};
use crate::files::parameters::SEALED_SEGMENT;
use crate::types::limits;

/// Why stripes are not the file that the manifest names.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The shards do not restore the stripe.
    #[error("stripe {stripe}: {error}")]
    Stripe {
        /// Which one.
        stripe: u64,
        /// Why.
        error: ErasureError,
    },
    /// A segment is not what the owner sealed. Shards that were verified against their slots' roots never lead here.
    #[error("segment {segment} was changed, or belongs to another file")]
    Segment {
        /// Which one.
        segment: u64,
    },
    /// Authentic bytes that are no zstd frames: a fault of the program that wrote them.
    #[error("the compressed bytes are damaged: {0}")]
    Frame(String),
    /// Fewer or more bytes of plaintext than the manifest says.
    #[error("{have} bytes of plaintext where the manifest says {need}")]
    Length {
        /// Found, or found so far.
        have: u64,
        /// Expected.
        need: u64,
    },
    /// Called for more when a stripe is missing.
    #[error("stripe {0} has not been decoded yet")]
    Unfinished(u64),
}

/// Expands frames and picks the wanted part.
struct Expander {
    reader: FrameReader,
    plan: Expand,
    /// Where in the plaintext the next byte lies.
    at: u64,
}

/// Turns stripes into plaintext, in order: `push` the shards of `next_read`, `pull` until there is nothing more,
/// and again; at the end `finish`.
pub struct Decoder {
    erasure: Erasure,
    stream: Stream,
    plan: RangePlan,
    stripe: u64,
    segment: u64,
    /// The cipher bytes in `at..filled` were decoded and wait to be opened. The room is kept from stripe to stripe.
    cipher: Vec<u8>,
    at: usize,
    filled: usize,
    /// Stored bytes of the segment that was opened last, as places in `cipher`.
    opened: Range<usize>,
    expander: Option<Expander>,
}

impl Decoder {
    /// A decoder for a plan. Key, nonce and compression are those of the encoder.
    pub(in crate::files) fn new(
        key: &FileKey,
        nonce: &[u8; 32],
        compression: Compression,
        plan: RangePlan,
    ) -> Result<Self, DecodeError> {
        let parameters = plan.layout.parameters();
        let expander = match plan.expand.clone() {
            None => None,
            Some(expand) => Some(Expander::new(expand)?),
        };
        Ok(Self {
            erasure: Erasure::new(parameters),
            stream: super::stream(key, nonce, parameters, compression),
            stripe: plan.stripes().start,
            segment: plan.segments.start,
            cipher: Vec::new(),
            at: 0,
            filled: 0,
            opened: 0..0,
            expander,
            plan,
        })
    }
    /// What `push` wants next; nothing when all stripes were pushed.
    pub fn next_read(&self) -> Option<StripeRead> {
        self.plan.read(self.stripe)
    }
    /// Takes the shards of the stripe of `next_read`, one place for each slot: the wanted ones, or any `data` of
    /// them. They must have been verified. Everything was pulled before. After an error of the shards other ones may be
    /// pushed. Errors: `Stripe`; `Unfinished` when nothing is wanted or not everything was pulled.
    pub fn push(&mut self, shards: &[Option<&[u8]>]) -> Result<(), DecodeError> {
        let read = self.next_read().filter(|_| !self.can_pull()).ok_or(DecodeError::Unfinished(self.stripe))?;
        // What is left is less than a segment.
        self.cipher.copy_within(self.at..self.filled, 0);
        self.filled -= self.at;
        (self.at, self.opened) = (0, 0..0);
        let layout = self.plan.layout;
        let end = self.filled + read.shard_len * usize::from(layout.parameters().data());
        if self.cipher.len() < end {
            self.cipher.resize(end, 0);
        }
        let restored = self.erasure.restore(shards, read.wanted, &mut self.cipher[self.filled..end]);
        restored.map_err(|error| DecodeError::Stripe { stripe: read.stripe, error })?;
        self.filled += layout.stripe_len(read.stripe);
        if read.stripe == self.plan.stripes().start {
            let chunk = u64::from(layout.parameters().chunk_bytes());
            self.at = (self.segment * SEALED_SEGMENT - read.stripe * chunk) as usize;
        }
        self.stripe += 1;
        Ok(())
    }
    /// Appends the next piece of plaintext to `out`, at most `FRAME_BYTES`. False when the next stripe is needed or
    /// all is done. Errors: `Segment`, `Frame`, `Length`.
    pub fn pull(&mut self, out: &mut Vec<u8>) -> Result<bool, DecodeError> {
        if !self.has_opened() && !self.open_segment()? {
            return Ok(false);
        }
        let stored = &self.cipher[self.opened.clone()];
        match &mut self.expander {
            None => {
                out.extend_from_slice(stored);
                self.opened.start = self.opened.end;
            }
            Some(expander) => self.opened.start += expander.step(stored, out)?,
        }
        Ok(true)
    }
    /// Checks that the file was complete. Errors: `Unfinished`, `Length`, `Frame`.
    pub fn finish(self) -> Result<(), DecodeError> {
        if self.segment < self.plan.segments.end || self.has_opened() {
            return Err(DecodeError::Unfinished(self.stripe));
        }
        match self.expander {
            None => Ok(()),
            Some(expander) => expander.finish(),
        }
    }

    fn has_opened(&self) -> bool {
        let stored = &self.cipher[self.opened.clone()];
        self.expander.as_ref().map_or(!stored.is_empty(), |expander| expander.reader.can_step(stored))
    }

    fn can_pull(&self) -> bool {
        self.has_opened() || self.segment_in_buffer().is_some()
    }

    /// Where the next segment lies, if it is wanted and all of it is there.
    fn segment_in_buffer(&self) -> Option<Range<usize>> {
        if self.segment >= self.plan.segments.end {
            return None;
        }
        let end = self.at + self.plan.layout.sealed_len(self.segment);
        (end <= self.filled).then_some(self.at..end)
    }

    fn open_segment(&mut self) -> Result<bool, DecodeError> {
        let Some(place) = self.segment_in_buffer() else { return Ok(false) };
        let (segment, last) = (self.segment, self.segment + 1 == self.plan.layout.segments());
        let opened = self.stream.open(segment, last, &mut self.cipher[place.clone()]);
        opened.map_err(|SealError| DecodeError::Segment { segment })?;
        // The part of the segment that is wanted.
        let offset = segment * limits::SEGMENT_BYTES as u64;
        let len = (place.len() - TAG_BYTES) as u64;
        let from = self.plan.stored.start.saturating_sub(offset).min(len) as usize;
        let to = self.plan.stored.end.saturating_sub(offset).min(len) as usize;
        self.opened = place.start + from..place.start + to.max(from);
        self.at = place.end;
        self.segment += 1;
        Ok(true)
    }
}

impl Expander {
    fn new(plan: Expand) -> Result<Self, DecodeError> {
        let reader = FrameReader::new().map_err(|error| DecodeError::Frame(error.to_string()))?;
        Ok(Self { reader, at: plan.frames.start, plan })
    }
    /// Expands a piece and appends what is wanted of it. Returns how many stored bytes were taken.
    fn step(&mut self, stored: &[u8], out: &mut Vec<u8>) -> Result<usize, DecodeError> {
        let step = self.reader.step(stored);
        let (taken, expanded) = step.map_err(|error| DecodeError::Frame(error.to_string()))?;
        let (from, to) = (self.at, self.at + expanded.len() as u64);
        if to > self.plan.frames.end {
            return Err(DecodeError::Length { have: to, need: self.plan.frames.end });
        }
        let wanted = from.max(self.plan.wanted.start)..to.min(self.plan.wanted.end);
        if wanted.start < wanted.end {
            out.extend_from_slice(&expanded[(wanted.start - from) as usize..(wanted.end - from) as usize]);
        }
        self.at = to;
        Ok(taken)
    }
    fn finish(self) -> Result<(), DecodeError> {
        if self.at != self.plan.frames.end {
            return Err(DecodeError::Length { have: self.at, need: self.plan.frames.end });
        }
        if self.reader.is_done() { Ok(()) } else { Err(DecodeError::Frame("a frame is cut short".to_owned())) }
    }
}

//! From plaintext to stripes.

use bytes::{Bytes, BytesMut};

use super::frames::{self, Compress, Compression, FRAME_BYTES, FrameWriter};
use crate::crypto::seal::{FileKey, Stream, TAG_BYTES};
use crate::files::erasure::Erasure;
use crate::files::parameters::{Layout, ParameterError, Parameters};
use crate::types::limits;

/// Stripes whose memory is kept for the next ones.
const SPARE_STRIPES: usize = 4;

/// One stripe, coded: `data + parity` shards of one length.
#[derive(Clone, Debug)]
pub struct Stripe {
    index: u64,
    shard_len: usize,
    data: Bytes,
    parity: Bytes,
}

impl Stripe {
    /// Its place in the file, from 0.
    pub const fn index(&self) -> u64 {
        self.index
    }
    /// Bytes of each shard.
    pub const fn shard_len(&self) -> usize {
        self.shard_len
    }
    /// The shard of a slot, to be appended to it: first the data shards, then the parity shards. No copy. Panics if there is no such slot.
    pub fn shard(&self, slot: u8) -> Bytes {
        let start = usize::from(slot) * self.shard_len;
        match start.checked_sub(self.data.len()) {
            None => self.data.slice(start..start + self.shard_len),
            Some(start) => self.parity.slice(start..start + self.shard_len),
        }
    }
    /// All shards, in the order of the slots.
    pub fn shards(&self) -> impl Iterator<Item = &[u8]> {
        self.data.chunks_exact(self.shard_len).chain(self.parity.chunks_exact(self.shard_len))
    }
}

/// What the manifest needs to know of an encoded file, beside the slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// Bytes of plaintext.
    pub plain_len: u64,
    /// How they are stored.
    pub compression: Compression,
    /// How the stored bytes are laid out.
    pub layout: Layout,
}

enum Mode {
    /// Nothing known yet: the first frame's worth is gathered. The cipher is for the case that it shrinks.
    Undecided(FrameWriter, Stream),
    Plain,
    Zstd(FrameWriter),
}

/// Turns plaintext into stripes. First `push` all input, then `finish` until there is no more stripe, then `encoded`.
pub struct Encoder {
    parameters: Parameters,
    erasure: Erasure,
    stream: Stream,
    mode: Mode,
    /// Plaintext of the frame that is being gathered; unused in `Mode::Plain`.
    frame: Vec<u8>,
    /// Stored bytes that wait for a place in a segment, from `pending_at` on.
    pending: Vec<u8>,
    pending_at: usize,
    plain_len: u64,
    stored_len: u64,
    /// The stripe under construction: sealed segments, then from `segment_at` on the open one in plaintext.
    buffer: BytesMut,
    segment_at: usize,
    segment: u64,
    stripe: u64,
    /// Whether the last segment is sealed.
    sealed: bool,
    spare_data: Vec<BytesMut>,
    spare_parity: Vec<BytesMut>,
}

impl Encoder {
    /// An encoder for one content. The key and the nonce are random or of `AccountKeys::file_secrets`; both together serve one
    /// content only.
    pub fn new(key: &FileKey, nonce: &[u8; 32], parameters: Parameters, compress: Compress) -> Self {
        let stream = |compression| super::stream(key, nonce, parameters, compression);
        let mode = match compress {
            Compress::Auto => Mode::Undecided(FrameWriter::new(), stream(Compression::Zstd)),
            Compress::Never => Mode::Plain,
        };
        Self {
            parameters,
            erasure: Erasure::new(parameters),
            stream: stream(Compression::None),
            mode,
            frame: Vec::new(),
            pending: Vec::new(),
            pending_at: 0,
            plain_len: 0,
            stored_len: 0,
            buffer: BytesMut::new(),
            segment_at: 0,
            segment: 0,
            stripe: 0,
            sealed: false,
            spare_data: Vec::new(),
            spare_parity: Vec::new(),
        }
    }
    /// Takes bytes from the front of `input` until a stripe is complete, which is returned, or all are taken.
    /// Errors: `TooLong`.
    pub fn push(&mut self, input: &mut &[u8]) -> Result<Option<Stripe>, ParameterError> {
        assert!(!self.sealed, "nothing is pushed after `finish`");
        loop {
            if let Some(stripe) = self.store_pending() {
                return Ok(Some(stripe));
            }
            if input.is_empty() {
                return Ok(None);
            }
            let over = self.plain_len.saturating_add(input.len() as u64);
            if over > limits::FILE_BYTES_MAX || matches!(&self.mode, Mode::Zstd(frames) if !frames.has_room()) {
                return Err(ParameterError::TooLong(over));
            }
            if let Mode::Plain = self.mode {
                let before = input.len();
                let stripe = self.store(input);
                self.plain_len += (before - input.len()) as u64;
                return Ok(stripe);
            }
            let (now, later) = input.split_at((FRAME_BYTES - self.frame.len()).min(input.len()));
            self.frame.extend_from_slice(now);
            self.plain_len += now.len() as u64;
            *input = later;
            if self.frame.len() == FRAME_BYTES {
                self.close_frame();
            }
        }
    }
    /// After the last input: the stripes that are left, one with each call, then nothing.
    pub fn finish(&mut self) -> Option<Stripe> {
        while !self.sealed {
            if let Some(stripe) = self.store_pending() {
                return Some(stripe);
            }
            if !self.frame.is_empty() {
                self.close_frame();
                continue;
            }
            if let Mode::Zstd(frames) = &mut self.mode
                && frames.close(&mut self.pending)
            {
                continue;
            }
            self.seal(true);
            self.sealed = true;
        }
        let rest = self.buffer.len().min(self.parameters.chunk_bytes() as usize);
        (rest > 0).then(|| self.cut(rest))
    }
    /// What the manifest needs to know, once `finish` has nothing more. Errors: `TooLong`.
    pub fn encoded(&self) -> Result<Encoded, ParameterError> {
        assert!(self.sealed && self.buffer.is_empty(), "`finish` was called until it had nothing more");
        let compression = match self.mode {
            Mode::Zstd(_) => Compression::Zstd,
            Mode::Plain | Mode::Undecided(..) => Compression::None,
        };
        let layout = Layout::new(self.parameters, self.stored_len)?;
        Ok(Encoded { plain_len: self.plain_len, compression, layout })
    }
    /// Gives a stripe's memory back for the next one, if no shard of it is in use any more.
    pub fn recycle(&mut self, stripe: Stripe) {
        if let Ok(mut data) = stripe.data.try_into_mut()
            && self.spare_data.len() < SPARE_STRIPES
        {
            data.clear();
            self.spare_data.push(data);
        }
        if let Ok(parity) = stripe.parity.try_into_mut()
            && self.spare_parity.len() < SPARE_STRIPES
        {
            self.spare_parity.push(parity);
        }
    }

    /// Compresses the gathered frame, or finds that it is not worth it.
    fn close_frame(&mut self) {
        match std::mem::replace(&mut self.mode, Mode::Plain) {
            Mode::Plain => std::mem::swap(&mut self.pending, &mut self.frame),
            Mode::Zstd(mut frames) => {
                frames.frame(&self.frame, &mut self.pending);
                self.mode = Mode::Zstd(frames);
            }
            Mode::Undecided(mut frames, stream) => {
                frames.frame(&self.frame, &mut self.pending);
                if frames::is_worth_it(self.frame.len(), self.pending.len()) {
                    self.mode = Mode::Zstd(frames);
                    self.stream = stream;
                } else {
                    std::mem::swap(&mut self.pending, &mut self.frame);
                }
            }
        }
        self.frame.clear();
    }

    /// Stores what waits, up to the next complete stripe.
    fn store_pending(&mut self) -> Option<Stripe> {
        let pending = std::mem::take(&mut self.pending);
        let mut rest = &pending[self.pending_at..];
        let stripe = self.store(&mut rest);
        self.pending_at = pending.len() - rest.len();
        self.pending = pending;
        if self.pending_at == self.pending.len() {
            self.pending.clear();
            self.pending_at = 0;
        }
        stripe
    }

    /// Takes stored bytes from the front of `input` until a stripe is complete or all are taken. A full segment stays
    /// open until more comes, because the last one is sealed as such.
    fn store(&mut self, input: &mut &[u8]) -> Option<Stripe> {
        let chunk = self.parameters.chunk_bytes() as usize;
        while !input.is_empty() {
            let open = self.buffer.len() - self.segment_at;
            if open == limits::SEGMENT_BYTES {
                self.seal(false);
                if self.buffer.len() >= chunk {
                    return Some(self.cut(chunk));
                }
                continue;
            }
            let (now, later) = input.split_at((limits::SEGMENT_BYTES - open).min(input.len()));
            self.buffer.extend_from_slice(now);
            *input = later;
        }
        None
    }

    fn seal(&mut self, last: bool) {
        let segment = &mut self.buffer[self.segment_at..];
        self.stored_len += segment.len() as u64;
        let tag = self.stream.seal(self.segment, last, segment);
        self.buffer.extend_from_slice(&tag);
        self.segment += 1;
        self.segment_at = self.buffer.len();
    }

    /// Codes the first `len` bytes, all of them sealed, as a stripe; the rest begins the next one.
    fn cut(&mut self, len: usize) -> Stripe {
        let data_shards = usize::from(self.parameters.data());
        let shard_len = len.div_ceil(data_shards);
        let capacity = self.parameters.chunk_bytes() as usize + limits::SEGMENT_BYTES + TAG_BYTES;
        let next = self.spare_data.pop().unwrap_or_else(|| BytesMut::with_capacity(capacity));
        let mut data = std::mem::replace(&mut self.buffer, next);
        self.buffer.extend_from_slice(&data[len..]);
        self.segment_at -= len;
        data.truncate(len);
        data.resize(shard_len * data_shards, 0);
        let mut parity = self.spare_parity.pop().unwrap_or_default();
        parity.resize(shard_len * usize::from(self.parameters.parity()), 0);
        self.erasure.encode(&data, &mut parity);
        let index = self.stripe;
        self.stripe += 1;
        Stripe { index, shard_len, data: data.freeze(), parity: parity.freeze() }
    }
}

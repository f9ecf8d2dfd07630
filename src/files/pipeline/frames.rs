//! Compression in frames that open alone: the zstd seekable format (zstd, contrib/seekable_format).
//!
//! Every frame holds `FRAME_BYTES` of plaintext, the last one the rest; a table of their compressed sizes follows in a frame that
//! decoders skip. So the stored stream is one that any zstd program expands, and a byte range needs its own frames only.

use std::io;
use std::ops::Range;

use borsh::{BorshDeserialize, BorshSerialize};
use zstd::stream::raw::{InBuffer, Operation, OutBuffer};
use zstd::zstd_safe::DParameter;

/// Bytes of plaintext in one frame.
pub const FRAME_BYTES: usize = 1 << 20;
const FRAME: u64 = FRAME_BYTES as u64;
/// The fastest of zstd's ordinary levels: a put waits for it.
const LEVEL: i32 = 1;
const SKIPPABLE_MAGIC: u32 = 0x184D_2A5E;
const SEEKABLE_MAGIC: u32 = 0x8F92_EAB1;
const TABLE_HEAD: u64 = 8;
const TABLE_ENTRY: u64 = 8;
const TABLE_FOOT: u64 = 9;
/// Frames that the format allows: 128 TiB of plaintext.
const FRAMES_MAX: u64 = 1 << 27;

/// How plaintext is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum Compression {
    /// As it is.
    None = 0,
    /// In zstd frames with their table.
    Zstd = 1,
}

/// Whether the encoder may compress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compress {
    /// If the first `FRAME_BYTES` shrink by a sixteenth.
    Auto,
    /// Not at all.
    Never,
}

/// Frames of a plaintext of this length.
fn frames_of(plain_len: u64) -> u64 {
    plain_len.div_ceil(FRAME)
}

/// Bytes of the seek table of a plaintext of this length.
fn table_len(plain_len: u64) -> u64 {
    TABLE_HEAD + TABLE_ENTRY * frames_of(plain_len) + TABLE_FOOT
}

/// Makes frames and, at the end, their table. Memory beside the buffers: 4 bytes for each MiB.
pub(super) struct FrameWriter {
    context: zstd::bulk::Compressor<'static>,
    sizes: Vec<u32>,
    plain_len: u64,
    closed: bool,
}

impl FrameWriter {
    pub(super) fn new() -> Self {
        let context = zstd::bulk::Compressor::new(LEVEL).expect("the level is one of zstd's");
        Self { context, sizes: Vec::new(), plain_len: 0, closed: false }
    }
    /// Whether another frame fits the table.
    pub(super) fn has_room(&self) -> bool {
        (self.sizes.len() as u64) < FRAMES_MAX
    }
    /// Replaces `out` by the compressed frame. All frames but the last have `FRAME_BYTES`.
    pub(super) fn frame(&mut self, plain: &[u8], out: &mut Vec<u8>) {
        out.clear();
        out.reserve(zstd::zstd_safe::compress_bound(plain.len()));
        let size = self.context.compress_to_buffer(plain, out).expect("room for the worst case was made");
        self.sizes.push(u32::try_from(size).expect("a frame is about a MiB"));
        self.plain_len += plain.len() as u64;
    }
    /// Replaces `out` by the seek table, once: false if that was done before.
    pub(super) fn close(&mut self, out: &mut Vec<u8>) -> bool {
        if std::mem::replace(&mut self.closed, true) {
            return false;
        }
        out.clear();
        let len = table_len(self.plain_len);
        let body = u32::try_from(len - TABLE_HEAD).expect("a table has at most 2^30 bytes");
        out.extend(SKIPPABLE_MAGIC.to_le_bytes());
        out.extend(body.to_le_bytes());
        let mut rest = self.plain_len;
        for size in &self.sizes {
            let plain = rest.min(FRAME);
            rest -= plain;
            out.extend(size.to_le_bytes());
            out.extend((plain as u32).to_le_bytes());
        }
        out.extend((self.sizes.len() as u32).to_le_bytes());
        out.push(0);
        out.extend(SEEKABLE_MAGIC.to_le_bytes());
        true
    }
}

/// Whether a first frame shrank enough to be worth it, its table included.
pub(super) fn is_worth_it(plain: usize, compressed: usize) -> bool {
    compressed + plain / 16 + table_len(plain as u64) as usize <= plain
}

/// Expands frames that come in pieces, a bounded piece at a time: a few bytes may stand for very many.
pub(super) struct FrameReader {
    context: zstd::stream::raw::Decoder<'static>,
    expanded: Vec<u8>,
    /// Whether the bytes so far were whole frames.
    between_frames: bool,
    /// Whether there is more to come from the bytes taken so far.
    more: bool,
}

impl FrameReader {
    pub(super) fn new() -> io::Result<Self> {
        let mut context = zstd::stream::raw::Decoder::new()?;
        // Our frames look back at most a frame; more memory is never given.
        context.set_parameter(DParameter::WindowLogMax(FRAME_BYTES.ilog2()))?;
        Ok(Self { context, expanded: vec![0; FRAME_BYTES], between_frames: true, more: false })
    }
    /// Whether `step` can make something of these bytes.
    pub(super) fn can_step(&self, stored: &[u8]) -> bool {
        self.more || !stored.is_empty()
    }
    /// Takes bytes from the front of `stored`. Returns how many, and what they expand to, at most `FRAME_BYTES`.
    /// Errors: bytes that are no frame.
    pub(super) fn step(&mut self, stored: &[u8]) -> io::Result<(usize, &[u8])> {
        let mut input = InBuffer::around(stored);
        let mut output = OutBuffer::around(self.expanded.as_mut_slice());
        let hint = self.context.run(&mut input, &mut output)?;
        let made = output.pos();
        self.between_frames = hint == 0;
        self.more = made == FRAME_BYTES && hint != 0;
        Ok((input.pos(), &self.expanded[..made]))
    }
    /// Whether everything so far was whole frames.
    pub(super) fn is_done(&self) -> bool {
        self.between_frames
    }
}

/// Why a seek table cannot be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the file's table of compressed frames does not fit its length")]
pub struct SeekTableError;

/// Where each frame of a compressed file lies in the stored stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeekTable {
    plain_len: u64,
    /// Where each frame begins, and where the last one ends.
    starts: Vec<u64>,
}

impl SeekTable {
    /// Where the table of a compressed file lies in the stored stream. Errors: lengths that cannot be.
    pub fn range(plain_len: u64, stored_len: u64) -> Result<Range<u64>, SeekTableError> {
        let start = stored_len.checked_sub(table_len(plain_len));
        start.filter(|_| frames_of(plain_len) <= FRAMES_MAX).map(|start| start..stored_len).ok_or(SeekTableError)
    }
    /// Reads the bytes of that range. Errors: `SeekTableError`.
    pub fn parse(bytes: &[u8], plain_len: u64, stored_len: u64) -> Result<Self, SeekTableError> {
        let range = Self::range(plain_len, stored_len)?;
        let frames = frames_of(plain_len);
        if bytes.len() as u64 != range.end - range.start {
            return Err(SeekTableError);
        }
        let mut words = bytes[..bytes.len() - TABLE_FOOT as usize].chunks_exact(4).map(word);
        let mut foot = bytes[bytes.len() - TABLE_FOOT as usize..].iter().copied();
        let head = (words.next(), words.next());
        let want = (Some(SKIPPABLE_MAGIC), u32::try_from(bytes.len() as u64 - TABLE_HEAD).ok());
        let count = word(&foot.by_ref().take(4).collect::<Vec<_>>());
        let flags = foot.next();
        let magic = word(&foot.collect::<Vec<_>>());
        if head != want || u64::from(count) != frames || flags != Some(0) || magic != SEEKABLE_MAGIC {
            return Err(SeekTableError);
        }
        let mut starts = vec![0];
        let (mut at, mut rest) = (0_u64, plain_len);
        while let (Some(size), Some(plain)) = (words.next(), words.next()) {
            if u64::from(plain) != rest.min(FRAME) || size == 0 {
                return Err(SeekTableError);
            }
            rest -= u64::from(plain);
            at += u64::from(size);
            starts.push(at);
        }
        if at == range.start { Ok(Self { plain_len, starts }) } else { Err(SeekTableError) }
    }
    /// The stored bytes of the frames around a range of plaintext, and the plaintext that these frames expand to.
    /// The range lies within the file.
    pub(in crate::files) fn frames(&self, plain: &Range<u64>) -> (Range<u64>, Range<u64>) {
        let last = self.starts.len() - 1;
        let end = (plain.end.div_ceil(FRAME) as usize).min(last);
        let first = ((plain.start / FRAME) as usize).min(end);
        let expanded = first as u64 * FRAME..(end as u64 * FRAME).min(self.plain_len);
        (self.starts[first]..self.starts[end], expanded)
    }
}

fn word(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte))
}

//! The slot protocol: length-prefixed questions and answers, with raw bytes in between.
//!
//! Upload: `Upload` with its ticket is answered by `Offset`; then frames of raw bytes follow, each answered by `Offset` once it is taken in,
//! an empty one ends them; `Finish` is answered by `Receipt`. An offset is what the node has written so far: what a sender keeps
//! from there on is enough to go on after the node was killed. Read: `Read` is answered by one `Block` for each block, each followed by its bytes.
//! Any question may be answered by `Refused`, an upload by `Busy` or `Denied`.

use std::io;

use borsh::{BorshDeserialize, BorshSerialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::files::proof::Path;
use crate::types::{SlotRoot, limits};
use crate::wire::{self, PublicManifest, SlotInfo, StorageReceipt, UploadTicket};

/// A question or an answer, bytes.
const MESSAGE_BYTES_MAX: usize = limits::SLOTS_MAX * 40 + limits::MANIFEST_SEALED_BYTES_MAX + 1024;
/// One frame of raw bytes.
pub const FRAME_BYTES_MAX: usize = limits::SLOT_BLOCK_BYTES;

/// Frames that a storage node takes in before it has written them.
pub const FRAMES_AHEAD: usize = 4;
/// Frames that a sender has under way: more than can wait at the node, which otherwise would not answer.
pub const FRAMES_UNANSWERED: usize = FRAMES_AHEAD + 2;

/// What is asked of a storage node.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Ask {
    /// Begin an upload, or go on with it.
    Upload(UploadTicket),
    /// The upload is a slot of this file. The manifest is sent whole: its hash is the file's id, so the node sees what it signs for.
    Finish {
        /// The file.
        manifest: Box<PublicManifest>,
        /// The slot's place.
        slot: u8,
    },
    /// Send blocks of a slot.
    Read {
        /// The slot.
        root: SlotRoot,
        /// The first block.
        first: u64,
        /// How many.
        count: u64,
    },
}

/// What a storage node answers.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Answer {
    /// Bytes that are here; send from there on.
    Offset(u64),
    /// The slot is durable.
    Receipt {
        /// The node's word.
        receipt: StorageReceipt,
        /// Root and length that it is given for. Where they are not those of the manifest, both are evidence.
        info: SlotInfo,
    },
    /// A block follows.
    Block {
        /// Its length.
        len: u32,
        /// The values that prove it.
        path: Path,
    },
    /// Not done; why.
    Refused(String),
    /// Not done, but soon possible: an earlier try is not over yet.
    Busy(String),
    /// Not done, because of who asks: the ticket's account may not upload, or not so much; why.
    Denied(String),
}

/// Sends a question or an answer.
pub async fn send<T: BorshSerialize>(io: &mut (impl AsyncWrite + Unpin), message: &T) -> io::Result<()> {
    send_frame(io, &wire::encode(message)).await?;
    io.flush().await
}

/// Receives a question or an answer; nothing at the clean end of the stream.
pub async fn receive<T: BorshDeserialize>(io: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<T>> {
    let mut frame = Vec::new();
    if !receive_frame(io, &mut frame, MESSAGE_BYTES_MAX).await? {
        return Ok(None);
    }
    let message = wire::decode(&frame, MESSAGE_BYTES_MAX).map_err(io::Error::other)?;
    Ok(Some(message))
}

/// Sends raw bytes, at most `FRAME_BYTES_MAX`.
pub async fn send_frame(io: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    let len = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    io.write_all(&len.to_le_bytes()).await?;
    io.write_all(bytes).await
}

/// Receives raw bytes, at most `max`, into `frame`; false at the clean end of the stream.
pub async fn receive_frame(io: &mut (impl AsyncRead + Unpin), frame: &mut Vec<u8>, max: usize) -> io::Result<bool> {
    let mut len = [0; 4];
    if io.read(&mut len[..1]).await? == 0 {
        return Ok(false);
    }
    io.read_exact(&mut len[1..]).await?;
    let len = usize::try_from(u32::from_le_bytes(len)).map_err(io::Error::other)?;
    if len > max {
        return Err(io::Error::other(format!("a frame of {len} bytes; at most {max} are allowed")));
    }
    frame.resize(len, 0);
    io.read_exact(frame).await?;
    Ok(true)
}

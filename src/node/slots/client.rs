//! The asking side: one connection to one storage node.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::protocol::{Answer, Ask, FRAME_BYTES_MAX, FRAMES_UNANSWERED, receive, send, send_frame};
use super::serve;
use crate::files::proof::{self, Grain};
use crate::net::{Misbehaviour, StreamError};
use crate::node::accuse;
use crate::node::handle::Handle;
use crate::types::NodeId;
use crate::wire::{Accusation, FalseReceipt, PublicManifest, SlotInfo, StorageReceipt, UploadTicket};

/// How long a storage node may be silent.
const PATIENCE: Duration = Duration::from_secs(15);
/// How often, and after what pause, a stream is asked for again where as many are open as one of both sides wants.
const CROWDED_TRIES: u32 = 50;
const CROWDED_PAUSE: Duration = Duration::from_millis(100);

/// Why a storage node did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum SlotPeerError {
    /// It cannot be reached, or the connection broke.
    #[error("{0}")]
    Unreachable(String),
    /// It said no.
    #[error("it refuses: {0}")]
    Refused(String),
    /// It takes no upload of this node's account, or not so much.
    #[error("it takes no upload: {0}")]
    Denied(String),
    /// It has not let go of an earlier try yet.
    #[error("it is still busy with an earlier try: {0}")]
    Busy(String),
    /// It is away; its slot is on this node's disk.
    #[error("{0}; its slot is kept here and goes there when the node is back")]
    Kept(String),
    /// What it sent is not what was asked for.
    #[error("it sent wrong bytes: {0}")]
    Wrong(String),
}

impl From<std::io::Error> for SlotPeerError {
    fn from(error: std::io::Error) -> Self {
        Self::Unreachable(error.to_string())
    }
}

impl From<tokio::time::error::Elapsed> for SlotPeerError {
    fn from(_: tokio::time::error::Elapsed) -> Self {
        Self::Unreachable(format!("no answer within {PATIENCE:?}"))
    }
}

/// Why no stream could be opened, in one line. The network tells every address it tried, each with all its causes.
fn told(error: StreamError) -> String {
    const CAUSES: [&str; 4] = ["Connection refused", "No route to host", "Network is unreachable", "timed out"];
    match error {
        StreamError::Unreachable { reason, .. } => {
            let known = CAUSES.into_iter().find(|cause| reason.contains(cause)).map(str::to_lowercase);
            let first = || reason.lines().next().unwrap_or_default().to_owned();
            format!("it cannot be reached: {}", known.unwrap_or_else(first))
        }
        error => error.to_string(),
    }
}

/// Bytes to a storage node and back: over the network, or within this process.
trait Link: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Link for T {}

/// An open stream to a storage node.
pub struct SlotPeer {
    stream: Box<dyn Link>,
    node: NodeId,
    handle: Handle,
    /// Bytes of the upload that the node has written, by its word.
    written: u64,
    /// Frames that it has not answered yet.
    unanswered: usize,
}

impl SlotPeer {
    /// Connects; to this node itself, if it is the one. Errors: `Unreachable`.
    pub async fn connect(handle: &Handle, node: NodeId) -> Result<Self, SlotPeerError> {
        let stream: Box<dyn Link> = match serve::connect_here(handle, node) {
            Some(stream) => Box::new(stream),
            None => {
                let mut tries = 0;
                let stream = loop {
                    match handle.net().open_stream(node).await {
                        // Streams end all the time, and the other side learns of it a moment later.
                        Err(StreamError::TooMany) if tries < CROWDED_TRIES => tries += 1,
                        done => break done,
                    }
                    tokio::time::sleep(CROWDED_PAUSE).await;
                };
                Box::new(stream.map_err(|error| SlotPeerError::Unreachable(told(error)))?)
            }
        };
        Ok(Self { stream, node, handle: handle.clone(), written: 0, unanswered: 0 })
    }

    fn wrong(&self, what: impl Into<String>) -> SlotPeerError {
        self.handle.net().report_misbehaviour(self.node, Misbehaviour::InvalidAnswer);
        SlotPeerError::Wrong(what.into())
    }

    async fn ask(&mut self, ask: &Ask) -> Result<(), SlotPeerError> {
        Ok(tokio::time::timeout(PATIENCE, send(&mut self.stream, ask)).await??)
    }

    async fn answer(&mut self) -> Result<Answer, SlotPeerError> {
        match tokio::time::timeout(PATIENCE, receive(&mut self.stream)).await?? {
            Some(Answer::Refused(reason)) => Err(SlotPeerError::Refused(reason)),
            Some(Answer::Denied(reason)) => Err(SlotPeerError::Denied(reason)),
            Some(Answer::Busy(reason)) => Err(SlotPeerError::Busy(reason)),
            Some(answer) => Ok(answer),
            None => Err(SlotPeerError::Unreachable("the connection was closed".to_owned())),
        }
    }

    /// Begins or resumes an upload. Returns how many bytes are there already. Errors: all.
    pub async fn begin(&mut self, ticket: UploadTicket) -> Result<u64, SlotPeerError> {
        self.ask(&Ask::Upload(ticket)).await?;
        match self.answer().await? {
            Answer::Offset(offset) => {
                (self.written, self.unanswered) = (offset, 0);
                Ok(offset)
            }
            other => Err(self.wrong(format!("{other:?} instead of an offset"))),
        }
    }
    /// Bytes of the upload that the node had written when it last said so; a killed node still has them.
    pub fn written(&self) -> u64 {
        self.written
    }
    /// Sends the next bytes of the upload. Errors: all.
    pub async fn push(&mut self, bytes: &[u8]) -> Result<(), SlotPeerError> {
        for frame in bytes.chunks(FRAME_BYTES_MAX) {
            if self.unanswered >= FRAMES_UNANSWERED {
                match self.answer().await? {
                    Answer::Offset(written) => self.wrote(written),
                    other => return Err(self.wrong(format!("{other:?} in an upload"))),
                }
            }
            tokio::time::timeout(PATIENCE, send_frame(&mut self.stream, frame)).await??;
            self.unanswered += 1;
        }
        Ok(())
    }
    fn wrote(&mut self, written: u64) {
        self.written = self.written.max(written);
        self.unanswered = self.unanswered.saturating_sub(1);
    }
    /// Ends the upload and waits until the slot is durable there. Errors: all.
    pub async fn finish(&mut self, manifest: &PublicManifest, slot: u8) -> Result<StorageReceipt, SlotPeerError> {
        tokio::time::timeout(PATIENCE, send_frame(&mut self.stream, &[])).await??;
        self.ask(&Ask::Finish { manifest: Box::new(manifest.clone()), slot }).await?;
        loop {
            match self.answer().await? {
                Answer::Receipt { receipt, info } => return self.checked(manifest, slot, receipt, info),
                Answer::Offset(written) if self.unanswered > 0 => self.wrote(written),
                other => return Err(self.wrong(format!("{other:?} instead of a receipt"))),
            }
        }
    }
    /// The receipt, if it is the one that was asked for. One wrong receipt would have the ledger refuse the whole deal.
    fn checked(
        &self,
        manifest: &PublicManifest,
        slot: u8,
        receipt: StorageReceipt,
        info: SlotInfo,
    ) -> Result<StorageReceipt, SlotPeerError> {
        let (chain, file) = (self.handle.identity().chain, manifest.id());
        let asked = (receipt.node, receipt.slot) == (self.node, slot);
        let right = manifest.slots.get(usize::from(slot)).filter(|right| **right == info);
        if let Some(info) = right.filter(|_| asked)
            && receipt.verify(&chain, &file, info).is_ok()
        {
            return Ok(receipt);
        }
        let shown = Accusation::FalseReceipt(FalseReceipt { receipt, info, manifest: manifest.clone() });
        if receipt.node == self.node && shown.holds(&chain) {
            accuse::tell(&self.handle, shown);
        }
        Err(self.wrong("a receipt for something else"))
    }
    /// Asks for blocks of a slot; `block` then receives them one by one. Errors: `Unreachable`.
    pub async fn read(&mut self, info: &SlotInfo, first: u64, count: u64) -> Result<(), SlotPeerError> {
        self.ask(&Ask::Read { root: info.root, first, count }).await
    }
    /// The next block that was asked for, verified against the slot's root, into a buffer that is used again. Errors: all; the
    /// buffer's content is undefined then.
    pub async fn block(&mut self, info: &SlotInfo, index: u64, bytes: &mut Vec<u8>) -> Result<(), SlotPeerError> {
        let (len, path) = match self.answer().await? {
            Answer::Block { len, path } => (len, path),
            other => return Err(self.wrong(format!("{other:?} instead of a block"))),
        };
        let expected = Grain::Block.len_at(info.len, index);
        if expected != usize::try_from(len).ok() {
            return Err(self.wrong(format!("a block of {len} bytes")));
        }
        bytes.resize(expected.unwrap_or(0), 0);
        tokio::time::timeout(PATIENCE, self.stream.read_exact(bytes)).await??;
        proof::verify(&info.root, info.len, Grain::Block, index, bytes, &path)
            .map_err(|error| self.wrong(error.to_string()))
    }
    /// Ends the stream.
    pub async fn close(mut self) {
        // Nothing depends on a farewell.
        let _ = tokio::time::timeout(PATIENCE, self.stream.shutdown()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_one_line_that_a_person_can_read() {
        let node = NodeId::from_bytes([1; 32]);
        let told = |reason: &str| told(StreamError::Unreachable { node, reason: reason.to_owned() });
        let tried =
            "Failed to negotiate: [(/ip4/127.0.0.1/tcp/1: : errors occurred:\n - Connection refused (os error 111))]";
        assert_eq!(told(tried), "it cannot be reached: connection refused");
        assert_eq!(told("no connection within 10s\nmore"), "it cannot be reached: no connection within 10s");
    }
}

//! One slot on its way to one storage node. When the node goes away, what it is not known to have is kept here for it.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::Shared;
use tokio::sync::{mpsc, oneshot};

use super::spool::Part;
use crate::node::slots::client::{SlotPeer, SlotPeerError};
use crate::node::slots::protocol::FRAME_BYTES_MAX;
use crate::node::{Handle, NodeError};
use crate::types::{Height, NodeId, limits};
use crate::wire::{PublicManifest, StorageReceipt, UploadTicket};

/// Shards that wait for the network, per slot.
const SHARDS_AHEAD: usize = 2;
/// How often, and after what pause, a node that is busy with an earlier try is asked again.
const BUSY_TRIES: u32 = 50;
const BUSY_PAUSE: Duration = Duration::from_millis(200);

/// What ends an upload.
#[derive(Clone)]
pub struct Finish {
    pub manifest: Arc<PublicManifest>,
}

/// A slot that is being sent. Shards go in by `shards`; when they are through, `finish` asks for the receipt.
pub struct SlotUpload {
    pub node: NodeId,
    pub shards: mpsc::Sender<Bytes>,
    pub finish: oneshot::Sender<Finish>,
    /// Whether the node takes the slot, known before the first shard.
    pub opened: oneshot::Receiver<bool>,
    pub done: oneshot::Receiver<Result<StorageReceipt, SlotPeerError>>,
}

/// What is sent where.
#[derive(Clone)]
pub struct Target {
    pub node: NodeId,
    pub slot: u8,
    pub upload: [u8; 32],
    /// Bytes of the slot at the most, if known.
    pub bytes: Option<u64>,
    pub resumed: Arc<AtomicU64>,
    pub failed: Failures,
    /// Set when the put is given up: nothing is kept for the node then.
    pub given_up: Arc<AtomicBool>,
}

/// Slots that their nodes do not take, and why.
#[derive(Clone, Default)]
pub struct Failures(Arc<Mutex<Vec<Failure>>>);

#[derive(Clone)]
struct Failure {
    node: NodeId,
    reason: String,
    /// It was the account that the node did not take it of.
    denied: bool,
    /// It is kept here for the node.
    kept: bool,
}

impl Failures {
    fn lock(&self) -> MutexGuard<'_, Vec<Failure>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
    fn add(&self, node: NodeId, error: &SlotPeerError, kept: bool) {
        let denied = matches!(error, SlotPeerError::Denied(_));
        let mut all = self.lock();
        all.retain(|failure| failure.node != node);
        all.push(Failure { node, reason: error.to_string(), denied, kept });
    }
    /// How many failed, those whose slots are kept among them; and how many are lost to this put.
    pub fn count(&self) -> (usize, usize) {
        let all = self.lock();
        (all.len(), all.iter().filter(|failure| !failure.kept).count())
    }
    /// The node of each, and why.
    pub fn reasons(&self) -> Vec<(NodeId, String)> {
        self.lock().iter().map(|failure| (failure.node, failure.reason.clone())).collect()
    }
    /// A put that failed for these reasons: `NotAllowed` if a node did not take a slot of this account, else `Unavailable`.
    pub fn error(&self, text: String) -> NodeError {
        match self.lock().iter().any(|failure| failure.denied) {
            true => NodeError::NotAllowed(text),
            false => NodeError::Unavailable(text),
        }
    }
}

/// What a node is not known to have of its slot, as far as it was handed out.
#[derive(Debug, Default)]
struct Tail {
    /// Where it begins in the slot, bytes.
    from: u64,
    frames: VecDeque<Bytes>,
}

impl Tail {
    fn push(&mut self, frame: Bytes) {
        self.frames.push_back(frame);
    }
    /// Lets go of what the node has written.
    fn trim(&mut self, written: u64) {
        while let Some(front) = self.frames.front().map(|frame| frame.len() as u64)
            && self.from.saturating_add(front) <= written
        {
            self.from = self.from.saturating_add(front);
            self.frames.pop_front();
        }
    }
}

impl SlotUpload {
    /// Starts sending. A node that fails swallows the rest, so that the others go on.
    pub fn start(handle: Handle, target: Target) -> Self {
        let (shards, mut queue) = mpsc::channel::<Bytes>(SHARDS_AHEAD);
        let (finish, finishing) = oneshot::channel();
        let (done, outcome) = oneshot::channel();
        let (ready, opened) = oneshot::channel();
        let node = target.node;
        handle.clone().spawn_while_running(async move {
            let finishing = finishing.shared();
            let result = run(&handle, &target, &mut queue, ready, finishing.clone()).await;
            if let Err(error) = &result {
                let slot = target.slot;
                if is_given_up(&finishing) {
                    tracing::debug!(node = ?target.node, slot, "a put ended without a file; its slot is not kept");
                } else {
                    tracing::warn!(node = ?target.node, slot, %error, "a storage node does not take its slot");
                }
                while queue.recv().await.is_some() {}
            }
            // Nobody waits any more if the put was given up.
            let _ = done.send(result);
        });
        Self { node, shards, finish, opened, done: outcome }
    }
}

async fn run(
    handle: &Handle,
    target: &Target,
    queue: &mut mpsc::Receiver<Bytes>,
    ready: oneshot::Sender<bool>,
    finishing: Shared<oneshot::Receiver<Finish>>,
) -> Result<StorageReceipt, SlotPeerError> {
    let mut tail = Tail::default();
    let opened = open(handle, target).await;
    // Only a put that must not become pending asks.
    let _ = ready.send(opened.is_ok());
    let sent = match opened {
        Ok((peer, skip)) => {
            tail.from = skip;
            match send(peer, queue, &mut tail).await {
                Ok(peer) => conclude(handle, peer, target, finishing.clone()).await,
                Err(error) => Err(error),
            }
        }
        Err(error) => Err(error),
    };
    let Err(error) = sent else { return sent };
    if is_given_up(&finishing) {
        return Err(error);
    }
    let may_be_kept = may_be_kept(&error, target);
    target.failed.add(target.node, &error, may_be_kept);
    if !may_be_kept {
        return Err(error);
    }
    match keep(handle, target, tail, queue, finishing).await {
        Ok(()) => Err(SlotPeerError::Kept(error.to_string())),
        Err(disk) => {
            tracing::warn!(slot = target.slot, error = %disk, "a slot could not be kept until its node is back");
            target.failed.add(target.node, &error, false);
            Err(error)
        }
    }
}

/// Whether the put ended without a file, so that the slot can become part of none.
fn is_given_up(finishing: &Shared<oneshot::Receiver<Finish>>) -> bool {
    matches!(finishing.clone().now_or_never(), Some(Err(_)))
}

/// Connects and asks how much is there already from an earlier try: that is not sent again.
async fn open(handle: &Handle, target: &Target) -> Result<(SlotPeer, u64), SlotPeerError> {
    let mut peer = SlotPeer::connect(handle, target.node).await?;
    let skip = begin(handle, &mut peer, target).await?;
    target.resumed.fetch_add(skip, Ordering::Relaxed);
    Ok((peer, skip))
}

/// Sends what the node does not have. The tail is then what it has not said to have written.
async fn send(
    mut peer: SlotPeer,
    queue: &mut mpsc::Receiver<Bytes>,
    tail: &mut Tail,
) -> Result<SlotPeer, SlotPeerError> {
    let mut skip = tail.from;
    while let Some(mut shard) = queue.recv().await {
        let known = usize::try_from(skip).unwrap_or(usize::MAX).min(shard.len());
        skip -= known as u64;
        let mut rest = shard.split_off(known);
        while !rest.is_empty() {
            let frame = rest.split_to(rest.len().min(FRAME_BYTES_MAX));
            tail.push(frame.clone());
            if let Err(error) = peer.push(&frame).await {
                tail.trim(peer.written());
                tail.push(rest);
                return Err(error);
            }
            tail.trim(peer.written());
        }
    }
    Ok(peer)
}

/// Whether it makes sense to try again later. An input of unknown length may be endless.
fn may_be_kept(error: &SlotPeerError, target: &Target) -> bool {
    matches!(error, SlotPeerError::Unreachable(_) | SlotPeerError::Busy(_)) && target.bytes.is_some()
}

/// Writes the rest of a slot to this node's disk, for a node that is away.
async fn keep(
    handle: &Handle,
    target: &Target,
    tail: Tail,
    queue: &mut mpsc::Receiver<Bytes>,
    finishing: Shared<oneshot::Receiver<Finish>>,
) -> io::Result<()> {
    let expected = target.bytes.unwrap_or(0).saturating_sub(tail.from);
    let part = (tail.from > 0).then_some(Part { upload: target.upload, from: tail.from });
    let mut writing = handle.spool().begin(&target.upload, expected).await?;
    for frame in tail.frames {
        writing.append(&frame).await?;
    }
    while let Some(shard) = queue.recv().await {
        writing.append(&shard).await?;
    }
    // Without a file there is nothing that the slot could become part of.
    let Ok(Finish { manifest }) = finishing.await else { return Ok(()) };
    if target.given_up.load(Ordering::Acquire) {
        return Ok(());
    }
    writing.finish(&manifest.id(), target.slot, part).await
}

/// Begins the upload. A node that has not noticed yet that an earlier try broke off gets a moment for it.
async fn begin(handle: &Handle, peer: &mut SlotPeer, target: &Target) -> Result<u64, SlotPeerError> {
    let mut tries = 0;
    loop {
        match peer.begin(ticket(handle, &target.node, target.upload, target.bytes)?).await {
            Err(SlotPeerError::Busy(_)) if tries < BUSY_TRIES => tries += 1,
            done => return done,
        }
        tokio::time::sleep(BUSY_PAUSE).await;
    }
}

/// This account answers for the slot until its deal is on the ledger. Errors: `Denied` without an account.
pub fn ticket(
    handle: &Handle,
    node: &NodeId,
    upload: [u8; 32],
    bytes: Option<u64>,
) -> Result<UploadTicket, SlotPeerError> {
    let keys = handle.keys().map_err(|error| SlotPeerError::Denied(error.to_string()))?;
    let tip = handle.reader().tip().map_or(Height::GENESIS, |tip| tip.height);
    let expires = Height::new(tip.get().saturating_add(limits::TICKET_BLOCKS));
    Ok(UploadTicket::sign(&handle.identity().chain, node, upload, bytes, expires, keys.signing()))
}

async fn conclude(
    handle: &Handle,
    mut peer: SlotPeer,
    target: &Target,
    finishing: Shared<oneshot::Receiver<Finish>>,
) -> Result<StorageReceipt, SlotPeerError> {
    let Finish { manifest } =
        finishing.await.map_err(|_| SlotPeerError::Unreachable("the put was given up".to_owned()))?;
    let receipt = peer.finish(&manifest, target.slot).await?;
    // The receipt is in hand; what the node does with the farewell holds nobody up.
    handle.spawn_while_running(peer.close());
    Ok(receipt)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_not_kept_for_a_put_that_ended_without_a_file() {
        let (finish, finishing) = oneshot::channel();
        let finishing = finishing.shared();
        assert!(!is_given_up(&finishing), "it goes on");
        drop(finish);
        assert!(is_given_up(&finishing));
    }

    #[test]
    fn the_tail_begins_where_the_node_has_written_up_to_and_never_within_a_frame_that_it_may_lack() {
        let mut tail = Tail { from: 100, ..Tail::default() };
        for len in [10, 20, 30] {
            tail.push(Bytes::from(vec![7; len]));
        }
        let state = |tail: &Tail| (tail.from, tail.frames.len());
        tail.trim(99);
        assert_eq!(state(&tail), (100, 3));
        tail.trim(129);
        assert_eq!(state(&tail), (110, 2));
        tail.trim(130);
        assert_eq!(state(&tail), (130, 1));
        tail.trim(u64::MAX);
        assert_eq!(state(&tail), (160, 0));
    }
}

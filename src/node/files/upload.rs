//! One slot on its way to one storage node.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::node::Handle;
use crate::node::slots::client::{SlotPeer, SlotPeerError};
use crate::types::{FileId, NodeId};
use crate::wire::{SlotInfo, StorageReceipt};

/// Shards that wait for the network, per slot.
const SHARDS_AHEAD: usize = 2;
/// How often, and after what pause, a node that is busy with an earlier try is asked again.
const BUSY_TRIES: u32 = 50;
const BUSY_PAUSE: Duration = Duration::from_millis(200);

/// What ends an upload.
pub struct Finish {
    pub file: FileId,
    pub info: SlotInfo,
}

/// A slot that is being sent. Shards go in by `shards`; when they are through, `finish` asks for the receipt.
pub struct SlotUpload {
    pub node: NodeId,
    pub shards: mpsc::Sender<Bytes>,
    pub finish: oneshot::Sender<Finish>,
    pub done: oneshot::Receiver<Result<StorageReceipt, SlotPeerError>>,
}

/// What is sent where.
#[derive(Clone)]
pub struct Target {
    pub node: NodeId,
    pub slot: u8,
    pub upload: [u8; 32],
    pub reserve: u64,
    pub resumed: Arc<AtomicU64>,
    /// Slots that their nodes do not take.
    pub failed: Arc<AtomicUsize>,
}

impl SlotUpload {
    /// Starts sending. A node that fails swallows the rest, so that the others go on.
    pub fn start(handle: Handle, target: Target) -> Self {
        let (shards, mut queue) = mpsc::channel::<Bytes>(SHARDS_AHEAD);
        let (finish, finishing) = oneshot::channel();
        let (done, outcome) = oneshot::channel();
        let node = target.node;
        tokio::spawn(async move {
            let result = match send(&handle, &target, &mut queue).await {
                Ok(peer) => conclude(peer, &target, finishing).await,
                Err(error) => {
                    tracing::warn!(node = ?target.node, slot = target.slot, %error, "a storage node does not take its slot");
                    target.failed.fetch_add(1, Ordering::Relaxed);
                    while queue.recv().await.is_some() {}
                    Err(error)
                }
            };
            // Nobody waits any more if the put was given up.
            let _ = done.send(result);
        });
        Self { node, shards, finish, done: outcome }
    }
}

async fn send(handle: &Handle, target: &Target, queue: &mut mpsc::Receiver<Bytes>) -> Result<SlotPeer, SlotPeerError> {
    let mut peer = SlotPeer::connect(handle, target.node).await?;
    // What the node has from an earlier try is not sent again.
    let mut skip = begin(&mut peer, target).await?;
    target.resumed.fetch_add(skip, Ordering::Relaxed);
    while let Some(shard) = queue.recv().await {
        let len = u64::try_from(shard.len()).unwrap_or(u64::MAX);
        let known = skip.min(len);
        skip -= known;
        peer.push(&shard[usize::try_from(known).unwrap_or(shard.len())..]).await?;
    }
    Ok(peer)
}

/// Begins the upload. A node that has not noticed yet that an earlier try broke off gets a moment for it.
async fn begin(peer: &mut SlotPeer, target: &Target) -> Result<u64, SlotPeerError> {
    let mut tries = 0;
    loop {
        match peer.begin(target.upload, target.reserve).await {
            Err(SlotPeerError::Busy(_)) if tries < BUSY_TRIES => tries += 1,
            done => return done,
        }
        tokio::time::sleep(BUSY_PAUSE).await;
    }
}

async fn conclude(
    mut peer: SlotPeer,
    target: &Target,
    finishing: oneshot::Receiver<Finish>,
) -> Result<StorageReceipt, SlotPeerError> {
    let Finish { file, info } =
        finishing.await.map_err(|_| SlotPeerError::Unreachable("the put was given up".to_owned()))?;
    let receipt = peer.finish(file, target.slot, info).await?;
    // The receipt is in hand; what the node does with the farewell holds nobody up.
    tokio::spawn(peer.close());
    Ok(receipt)
}

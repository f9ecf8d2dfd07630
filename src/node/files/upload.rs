//! One slot on its way to one storage node.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::node::slots::client::{SlotPeer, SlotPeerError};
use crate::node::{Handle, NodeError};
use crate::types::{FileId, Height, NodeId, limits};
use crate::wire::{SlotInfo, StorageReceipt, UploadTicket};

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
    /// Bytes of the slot at the most, if known.
    pub bytes: Option<u64>,
    pub resumed: Arc<AtomicU64>,
    pub failed: Failures,
}

/// Slots that their nodes do not take, and why.
#[derive(Clone, Default)]
pub struct Failures(Arc<Mutex<Vec<Failure>>>);

struct Failure {
    node: NodeId,
    reason: String,
    /// It was the account that the node did not take it of.
    denied: bool,
}

impl Failures {
    fn lock(&self) -> MutexGuard<'_, Vec<Failure>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
    fn add(&self, node: NodeId, error: &SlotPeerError) {
        let denied = matches!(error, SlotPeerError::Denied(_));
        self.lock().push(Failure { node, reason: error.to_string(), denied });
    }
    /// How many.
    pub fn count(&self) -> usize {
        self.lock().len()
    }
    /// The node of each, and why.
    pub fn reasons(&self) -> Vec<(NodeId, String)> {
        self.lock().iter().map(|failure| (failure.node, failure.reason.clone())).collect()
    }
    /// A put that failed for these reasons: `NotAllowed` if a node did not take a slot of this account, else `Unavailable`.
    pub fn error(&self, what: &str, reasons: &[(NodeId, String)]) -> NodeError {
        let reasons: Vec<_> = reasons.iter().map(|(node, reason)| format!("{}: {reason}", node.short())).collect();
        let text = format!("{what}; run the same put again to go on ({})", reasons.join("; "));
        match self.lock().iter().any(|failure| failure.denied) {
            true => NodeError::NotAllowed(text),
            false => NodeError::Unavailable(text),
        }
    }
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
                Err(error) => Err(error),
            };
            if let Err(error) = &result {
                tracing::warn!(node = ?target.node, slot = target.slot, %error, "a storage node does not take its slot");
                target.failed.add(target.node, error);
                while queue.recv().await.is_some() {}
            }
            // Nobody waits any more if the put was given up.
            let _ = done.send(result);
        });
        Self { node, shards, finish, done: outcome }
    }
}

async fn send(handle: &Handle, target: &Target, queue: &mut mpsc::Receiver<Bytes>) -> Result<SlotPeer, SlotPeerError> {
    let mut peer = SlotPeer::connect(handle, target.node).await?;
    // What the node has from an earlier try is not sent again.
    let mut skip = begin(handle, &mut peer, target).await?;
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
async fn begin(handle: &Handle, peer: &mut SlotPeer, target: &Target) -> Result<u64, SlotPeerError> {
    let mut tries = 0;
    loop {
        match peer.begin(ticket(handle, target)?).await {
            Err(SlotPeerError::Busy(_)) if tries < BUSY_TRIES => tries += 1,
            done => return done,
        }
        tokio::time::sleep(BUSY_PAUSE).await;
    }
}

/// This account answers for the slot until its deal is on the ledger.
fn ticket(handle: &Handle, target: &Target) -> Result<UploadTicket, SlotPeerError> {
    let keys = handle.keys().map_err(|error| SlotPeerError::Denied(error.to_string()))?;
    let tip = handle.reader().tip().map_or(Height::GENESIS, |tip| tip.height);
    let expires = Height::new(tip.get().saturating_add(limits::TICKET_BLOCKS));
    let chain = handle.identity().chain;
    Ok(UploadTicket::sign(&chain, &target.node, target.upload, target.bytes, expires, keys.signing()))
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

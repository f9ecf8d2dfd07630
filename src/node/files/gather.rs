//! Gather: the receipts of a put, and who did not give one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::late;
use super::upload::{Finish, SlotUpload};
use crate::files::Thresholds;
use crate::node::handle::{Handle, NodeError};
use crate::node::slots::client::SlotPeerError;
use crate::types::{FileId, NodeId};
use crate::wire::{PublicManifest, StorageReceipt};

/// After enough receipts are in hand the rest may take this much longer before the deal is made without them.
const STRAGGLERS: Duration = Duration::from_secs(2);

/// A node that did not confirm its slot in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The node.
    pub node: NodeId,
    /// Why it did not.
    pub why: String,
    /// Whether its confirmation still comes by itself: its slot is kept here for it, or still under way.
    pub follows: bool,
}

/// A slot, its node, and what that says in the end.
type Outcome = (u8, NodeId, Result<Result<StorageReceipt, SlotPeerError>, oneshot::error::RecvError>);

/// What came of the uploads in time.
pub struct Gathered {
    /// By slot.
    pub receipts: Vec<StorageReceipt>,
    /// Nodes without one, by slot.
    pub missing: Vec<Missing>,
    /// Uploads that are still under way.
    pub waiting: FuturesUnordered<BoxFuture<'static, Outcome>>,
}

/// Asks for all receipts; waits up to the success threshold, or for the rest a little once the quorum is there.
pub async fn gather(
    uploads: Vec<SlotUpload>,
    manifest: &PublicManifest,
    thresholds: &Thresholds,
    within: Duration,
) -> Gathered {
    let manifest = Arc::new(manifest.clone());
    let mut waiting = FuturesUnordered::new();
    let mut missing = BTreeMap::new();
    for (slot, upload) in (0_u8..).zip(uploads) {
        drop(upload.shards);
        let why = format!("no answer within {within:?}");
        missing.insert(slot, Missing { node: upload.node, why, follows: true });
        // A node that failed before no longer listens; its outcome says why.
        let _ = upload.finish.send(Finish { manifest: Arc::clone(&manifest) });
        waiting.push(async move { (slot, upload.node, upload.done.await) }.boxed());
    }
    let mut receipts = Vec::new();
    let mut deadline = Instant::now() + within;
    while let Ok(Some((slot, node, done))) = tokio::time::timeout_at(deadline, waiting.next()).await {
        match done {
            Ok(Ok(receipt)) => {
                missing.remove(&slot);
                receipts.push(receipt);
            }
            Ok(Err(error)) => {
                let follows = matches!(error, SlotPeerError::Kept(_));
                missing.insert(slot, Missing { node, why: error.to_string(), follows });
            }
            Err(_) => {
                missing.insert(slot, Missing { node, why: "the upload was given up".to_owned(), follows: false });
            }
        }
        match thresholds.success {
            Some(success) if receipts.len() >= usize::from(success) => break,
            None if receipts.len() >= usize::from(thresholds.quorum) => {
                deadline = deadline.min(Instant::now() + STRAGGLERS);
            }
            _ => {}
        }
    }
    receipts.sort_by_key(|receipt| receipt.slot);
    Gathered { receipts, missing: missing.into_values().collect(), waiting }
}

/// Waits until it is known whether enough nodes take their slots. False if too few do, or not in time.
pub async fn enough_open(uploads: &mut [SlotUpload], quorum: u8, within: Duration) -> Result<(), Vec<NodeId>> {
    let need = usize::from(quorum);
    let may_fail = uploads.len().saturating_sub(need);
    let mut silent: BTreeMap<_, _> = uploads.iter().enumerate().map(|(slot, upload)| (slot, upload.node)).collect();
    let ask = uploads.iter_mut().enumerate();
    let ask = ask.map(|(slot, upload)| async move { (slot, (&mut upload.opened).await) }.boxed());
    let mut answers: FuturesUnordered<_> = ask.collect();
    let deadline = Instant::now() + within;
    let (mut open, mut failed) = (0, 0);
    while open < need && failed <= may_fail {
        let Ok(Some((slot, opened))) = tokio::time::timeout_at(deadline, answers.next()).await else { break };
        silent.remove(&slot);
        match opened {
            Ok(true) => open += 1,
            _ => failed += 1,
        }
    }
    if open >= need { Ok(()) } else { Err(silent.into_values().collect()) }
}

/// Brings receipts that come after the deal was made to the chain. A node that hangs is waited for no longer than its
/// connection lasts.
pub fn confirm_late(handle: &Handle, file: FileId, mut waiting: FuturesUnordered<BoxFuture<'static, Outcome>>) {
    if waiting.is_empty() {
        return;
    }
    let task = handle.clone();
    handle.spawn(async move {
        let confirming = async {
            while let Some((_, node, done)) = waiting.next().await {
                let Ok(Ok(receipt)) = done else { continue };
                if let Err(error) = late::confirm(&task, file, vec![receipt]).await {
                    tracing::info!(%file, node = %node.short(), %error, "a late receipt did not reach the chain");
                }
            }
        };
        tokio::select! {
            () = confirming => {}
            () = task.stop_token().cancelled() => {}
        }
    });
}

/// Nodes by name and id, each with its reason. Errors: `Store`.
pub fn told(handle: &Handle, nodes: &[(NodeId, String)]) -> Result<String, NodeError> {
    let known = handle.nodes()?;
    let one = |(node, why): &(NodeId, String)| {
        let entry = known.iter().find(|entry| entry.announcement.node == *node);
        let name = entry.map_or("a node", |entry| entry.announcement.name.as_str());
        format!("{name} ({}): {why}", node.short())
    };
    Ok(nodes.iter().map(one).collect::<Vec<_>>().join("; "))
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;
    use crate::crypto::SecretKey;
    use crate::types::{AccountId, ChainId, Height, SlotRoot};
    use crate::wire::SlotInfo;

    /// The far ends of an upload: whether the node takes it, and what it says in the end.
    type Ends = (oneshot::Sender<bool>, oneshot::Sender<Result<StorageReceipt, SlotPeerError>>);

    fn manifest() -> PublicManifest {
        PublicManifest {
            version: 1,
            owner: AccountId::from_bytes([1; 32]),
            nonce: [2; 32],
            data: 2,
            parity: 2,
            chunk_bytes: 1 << 20,
            cipher_len: 100,
            slots: vec![SlotInfo { root: SlotRoot::from_bytes([3; 32]), len: 50 }; 4],
            sealed: Vec::new(),
        }
    }

    fn uploads() -> (Vec<SlotUpload>, Vec<Ends>) {
        let one = |n: u8| {
            let (ready, opened) = oneshot::channel();
            let (say, done) = oneshot::channel();
            let (shards, finish) = (mpsc::channel(1).0, oneshot::channel().0);
            let node = SecretKey::from_seed(&[n; 32]).public().node_id();
            (SlotUpload { node, shards, finish, opened, done }, (ready, say))
        };
        (0..4).map(one).unzip()
    }

    fn receipt(slot: u8) -> StorageReceipt {
        let (chain, manifest) = (ChainId::from_bytes([9; 32]), manifest());
        let key = SecretKey::from_seed(&[slot; 32]);
        StorageReceipt::sign(&chain, &manifest.id(), slot, Height::new(9), &manifest.slots[0], &key)
    }

    /// Long enough to fail a test that waits.
    const LONG: Duration = Duration::from_secs(3_600);

    #[tokio::test]
    async fn a_put_waits_up_to_its_success_threshold_and_says_who_is_missing() {
        let (uploads, ends) = uploads();
        let nodes: Vec<_> = uploads.iter().map(|upload| upload.node).collect();
        let mut slow = Vec::new();
        for (slot, (_, say)) in (0_u8..).zip(ends) {
            match slot {
                1 => say.send(Err(SlotPeerError::Kept("away".to_owned()))).expect("it is asked"),
                3 => slow.push(say),
                _ => say.send(Ok(receipt(slot))).expect("it is asked"),
            }
        }
        let thresholds = Thresholds { quorum: 2, success: Some(2), repair: 3 };
        let gathered = tokio::time::timeout(LONG, gather(uploads, &manifest(), &thresholds, 2 * LONG)).await;
        let Gathered { receipts, missing, waiting } = gathered.expect("it does not wait for the slow one");
        assert_eq!(receipts.iter().map(|receipt| receipt.slot).collect::<Vec<_>>(), [0, 2]);
        assert_eq!(missing.iter().map(|missing| missing.node).collect::<Vec<_>>(), [nodes[1], nodes[3]]);
        assert!(missing.iter().all(|missing| missing.follows), "{missing:?}");
        assert!(!waiting.is_empty() && slow.len() == 1);
    }

    #[tokio::test]
    async fn it_is_known_at_the_start_whether_enough_nodes_take_their_slots() {
        for (opened, enough) in [([true, true, true, false], true), ([true, false, false, true], false)] {
            let (mut uploads, ends) = uploads();
            let mut kept = Vec::new();
            for (open, (ready, say)) in opened.into_iter().zip(ends) {
                ready.send(open).expect("it is asked");
                kept.push(say);
            }
            assert_eq!(enough_open(&mut uploads, 3, LONG).await.is_ok(), enough, "{opened:?}");
        }
        let (mut uploads, mut ends) = uploads();
        let _silent = ends.pop();
        let silent_node = uploads[3].node;
        assert_eq!(
            enough_open(&mut uploads, 4, Duration::ZERO).await.map_err(|silent| silent.contains(&silent_node)),
            Err(true)
        );
        ends.drain(..).for_each(|(ready, _)| ready.send(true).expect("it is asked"));
        assert!(enough_open(&mut uploads, 3, LONG).await.is_ok(), "the silent one is not waited for");
    }
}

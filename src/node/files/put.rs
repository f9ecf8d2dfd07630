//! Put: from a stream of plaintext to a deal on the chain.
//!
//! Memory is bounded by a few stripes whatever the file's length. Key, nonce and placement of a session are kept or
//! derived again, so that a put that was interrupted sends only what is missing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use borsh::{BorshDeserialize, BorshSerialize};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, Stream, StreamExt};
use tokio::sync::{mpsc, oneshot};

use super::late;
use super::upload::{Failures, Finish, SlotUpload, Target};
use crate::crypto::seal::{FileKey, NONCE_BYTES};
use crate::crypto::{Domain, hash};
use crate::files::manifest::{self, FileFacts, PutSecrets};
use crate::files::parameters::Parameters;
use crate::files::pipeline::{Compress, Encoded, Encoder};
use crate::files::placement::{self, Candidate};
use crate::ledger::record::{Deal, DealStatus};
use crate::ledger::{Key, Record};
use crate::node::handle::{FinalTx, Handle, NodeError};
use crate::node::slots::client::SlotPeerError;
use crate::types::{ByteCount, FileId, Height, Millis, NodeId, Role, SlotRoot, TxId, limits};
use crate::wire::tx::FileCommit;
use crate::wire::{self, Action, PublicManifest, StorageReceipt};

/// After enough receipts are in hand the rest may take this much longer before the deal is made without them.
const STRAGGLERS: Duration = Duration::from_secs(2);
/// Plaintext that waits for the encoder, pieces.
const PIECES_AHEAD: usize = 4;
/// Least room that a node must have for a slot of unknown length, bytes.
const ROOM_UNKNOWN: u64 = 64 << 20;

/// What is wanted of a put.
#[derive(Clone, Debug)]
pub struct PutRequest {
    /// The file's name.
    pub name: String,
    /// Bytes, if known.
    pub len: Option<u64>,
    /// Data and parity shards; by the number of nodes if not given.
    pub shards: Option<(u8, u8)>,
    /// Stripe size; by the shards if not given.
    pub chunk_bytes: Option<u32>,
    /// Epochs that the deal is paid for.
    pub epochs: u32,
    /// Receipts that make the deal final; all but half of the parity shards if not given.
    pub min_confirmations: Option<u8>,
    /// Names this put, so that another try goes on with it; random for a put that is not to be resumed.
    pub session: [u8; 32],
    /// How long to wait for receipts and for finality.
    pub timeout: Duration,
}

/// What came of a put.
#[derive(Clone, Debug)]
pub struct PutResult {
    /// The file.
    pub file: FileId,
    /// Where its deal stands.
    pub status: DealStatus,
    /// Height of the block with the deal.
    pub height: Height,
    /// Plaintext bytes.
    pub bytes: u64,
    /// Slots with a receipt, and all.
    pub confirmed: (u8, u8),
    /// The transaction that put it there, unless an earlier try did.
    pub tx: Option<TxId>,
    /// Bytes of slots that were there already.
    pub resumed_bytes: u64,
    /// Nodes that did not confirm, with the reason.
    pub missing: Vec<(NodeId, String)>,
}

/// What a session must do the same way again.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
struct Journal {
    source: Vec<u8>,
    /// Length that was announced: another one is another content, which must not be encrypted with the same key.
    len: Option<u64>,
    name: String,
    created: Millis,
    data: u8,
    parity: u8,
    chunk_bytes: u32,
    placement: Vec<NodeId>,
}

/// Encodes, places, confirms and finalizes a file.
/// Errors: `Bad` for impossible settings, `Unavailable` when no placement is possible or the input breaks off,
/// those of `Handle::act`.
pub async fn put<E: std::fmt::Display>(
    handle: &Handle,
    request: PutRequest,
    input: impl Stream<Item = Result<Bytes, E>> + Unpin,
) -> Result<PutResult, NodeError> {
    let (attempt, mut asked) = (handle.metrics().puts.begin(), handle.clock().now());
    let done = store(handle, request, input, &mut asked).await;
    match &done {
        Ok(done) => {
            let is_final = matches!(done.status, DealStatus::Final { .. });
            let after = handle.clock().now().saturating_sub(asked).get();
            attempt.stored(done.bytes, is_final, Duration::from_millis(after));
            if matches!(done.status, DealStatus::Pending { .. }) {
                handle.metrics().puts.pends(done.file, asked);
            }
        }
        Err(error) => attempt.failed(error),
    }
    done
}

/// See `put`; `asked` is when the receipts were asked for, from which the time to quorum counts.
async fn store<E: std::fmt::Display>(
    handle: &Handle,
    request: PutRequest,
    input: impl Stream<Item = Result<Bytes, E>> + Unpin,
    asked: &mut Millis,
) -> Result<PutResult, NodeError> {
    if request.name.len() > limits::FILE_NAME_BYTES_MAX {
        let (have, max) = (request.name.len(), limits::FILE_NAME_BYTES_MAX);
        return Err(NodeError::Bad(format!("a name of {have} bytes; at most {max} are allowed")));
    }
    let keys = handle.keys()?.clone();
    let journal = session(handle, &request).await?;
    let parameters = Parameters::new(journal.data, journal.parity, journal.chunk_bytes)
        .map_err(|error| NodeError::Bad(error.to_string()))?;
    let (key, nonce) = keys.file_secrets(&request.session, &journal.source);
    let bytes = request.len.map(|len| slot_room(len, parameters));
    let (resumed, failed) = (Arc::new(AtomicU64::new(0)), Failures::default());
    let target = |slot: usize, node: NodeId| {
        let slot = u8::try_from(slot).unwrap_or(u8::MAX);
        let upload = hash(Domain::Derive, &wire::encode(&(b"upload", nonce, slot)));
        let (resumed, failed) = (resumed.clone(), failed.clone());
        SlotUpload::start(handle.clone(), Target { node, slot, upload, bytes, resumed, failed })
    };
    let uploads: Vec<_> = journal.placement.iter().enumerate().map(|(slot, node)| target(slot, *node)).collect();
    let senders: Vec<_> = uploads.iter().map(|upload| upload.shards.clone()).collect();
    let encoder = Encoder::new(&key, &nonce, parameters, Compress::Auto);
    // With fewer slots than data shards nothing could be restored: the rest of the input need not be read.
    let doomed = || {
        let doomed = failed.count() > usize::from(parameters.parity());
        doomed.then(|| failed.error("too few storage nodes take their slots", &failed.reasons()))
    };
    let (encoded, roots) = encode(input, encoder, senders, doomed).await?;
    let facts = FileFacts { name: request.name.clone(), created: journal.created };
    let seal_nonces = seal_nonces(&key, &roots, &facts);
    let secrets = PutSecrets { owner: &keys, key: &key, nonce, seal_nonces };
    let manifest =
        manifest::seal(&secrets, &encoded, &roots, &facts).map_err(|error| NodeError::Bad(error.to_string()))?;
    let file = manifest.id();
    let default_confirmations = parameters.slots() - parameters.parity() / 2;
    let wanted = request.min_confirmations.unwrap_or(default_confirmations);
    let min_confirmations = wanted.clamp(parameters.data(), parameters.slots());
    *asked = handle.clock().now();
    let Gathered { receipts, missing, waiting } = gather(uploads, &manifest, min_confirmations, request.timeout).await;
    if receipts.is_empty() {
        return Err(failed.error("no storage node confirmed its slot", &missing));
    }
    let done = match handle.record(&Key::File(file))? {
        Some(Record::File(deal)) => confirm_more(handle, file, &deal, receipts, request.timeout).await?,
        _ => {
            let (placement, epochs) = (journal.placement.clone(), request.epochs);
            let commit = FileCommit { manifest, placement, min_confirmations, epochs, receipts };
            Some(handle.act(Action::CommitFile(Box::new(commit)), request.timeout).await?)
        }
    };
    confirm_late(handle, file, waiting);
    let (deal, _) = handle.file(&file)?;
    if matches!(deal.status, DealStatus::Final { .. }) {
        let (local, session) = (handle.local().clone(), request.session);
        blocking(move || local.remove_session(&session)).await?;
    }
    let (tx, height) = (done.as_ref().map(|done| done.id), done.map_or(deal.opened, |done| done.place.height));
    let confirmed = (u8::try_from(deal.confirmed.len()).unwrap_or(u8::MAX), parameters.slots());
    let (status, bytes, resumed_bytes) = (deal.status, encoded.plain_len, resumed.load(Ordering::Relaxed));
    Ok(PutResult { file, status, height, bytes, confirmed, tx, resumed_bytes, missing })
}

/// Adds the receipts that an open deal does not have yet.
async fn confirm_more(
    handle: &Handle,
    file: FileId,
    deal: &Deal,
    mut receipts: Vec<StorageReceipt>,
    within: Duration,
) -> Result<Option<FinalTx>, NodeError> {
    // A slot that was lost is not confirmed any more but taken over, by its node.
    receipts.retain(|receipt| !deal.confirmed.has(receipt.slot) && !deal.lost.has(receipt.slot));
    if receipts.is_empty() {
        return Ok(None);
    }
    handle.act(Action::ConfirmSlots { file, receipts }, within).await.map(Some)
}

/// Nonces that follow from everything they are used with: another try with the same content makes the same manifest, and
/// one with another content reuses no nonce.
fn seal_nonces(key: &FileKey, roots: &[SlotRoot], facts: &FileFacts) -> [[u8; NONCE_BYTES]; 2] {
    let nonce = |use_of: u8| {
        let parts = (use_of, key.as_bytes(), roots, &facts.name, facts.created);
        let hashed = hash(Domain::Derive, &wire::encode(&(b"seal nonce", parts)));
        *hashed.first_chunk().expect("a nonce is shorter than a hash")
    };
    [nonce(0), nonce(1)]
}

/// The journal of the session: what an earlier try wrote, or a new one.
async fn session(handle: &Handle, request: &PutRequest) -> Result<Journal, NodeError> {
    let known = handle.local().session(&request.session)?;
    let known = known.and_then(|bytes| wire::decode::<Journal>(&bytes, limits::TX_BYTES_MAX).ok());
    if let Some(journal) = known.filter(|journal| journal.len == request.len && journal.name == request.name) {
        tracing::info!("an earlier put of this file is resumed");
        return Ok(journal);
    }
    let candidates = candidates(handle)?;
    let parameters = parameters(request, candidates.len()).map_err(|error| NodeError::Bad(error.to_string()))?;
    let source = wire::encode(&(request.len, random::<16>()?));
    let (_, nonce) = handle.keys()?.file_secrets(&request.session, &source);
    let room = ByteCount::new(request.len.map_or(ROOM_UNKNOWN, |len| slot_room(len, parameters)));
    let placed = placement::place(&nonce, parameters.slots(), room, &candidates)
        .map_err(|error| NodeError::Unavailable(format!("{error}; add storage nodes or ask for fewer shards")))?;
    let slots = connected_first(handle, placed);
    let (data, parity, chunk_bytes) = (parameters.data(), parameters.parity(), parameters.chunk_bytes());
    let created = handle.clock().now();
    let journal = Journal {
        source,
        len: request.len,
        name: request.name.clone(),
        created,
        data,
        parity,
        chunk_bytes,
        placement: slots,
    };
    let (local, session, bytes) = (handle.local().clone(), request.session, wire::encode(&journal));
    blocking(move || local.put_session(&session, &bytes)).await?;
    Ok(journal)
}

/// A placement in which a node that is not connected gives way to a spare that is, if operators stay distinct.
fn connected_first(handle: &Handle, placed: placement::Placement) -> Vec<NodeId> {
    let connected = handle.net().connected().borrow().clone();
    let me = handle.identity().node;
    let up = |node: &NodeId| connected.contains(node) || *node == me;
    let mut spares = placed.spares.into_iter().filter(|node| up(node));
    let replace = |node: NodeId| if up(&node) { node } else { spares.next().unwrap_or(node) };
    placed.slots.into_iter().map(replace).collect()
}

fn parameters(request: &PutRequest, nodes: usize) -> Result<Parameters, crate::files::parameters::ParameterError> {
    let fitting = Parameters::for_nodes(nodes);
    let (data, parity) = request.shards.unwrap_or((fitting.data(), fitting.parity()));
    match request.chunk_bytes {
        Some(chunk_bytes) => Parameters::new(data, parity, chunk_bytes),
        None => Parameters::with_shards(data, parity),
    }
}

/// Bytes that a slot of a file of this length has at the most.
fn slot_room(len: u64, parameters: Parameters) -> u64 {
    let sealed = len.saturating_add((len / limits::SEGMENT_BYTES as u64 + 2).saturating_mul(16));
    (sealed / u64::from(parameters.data())).saturating_add(u64::from(parameters.chunk_bytes()))
}

/// Storage nodes that may take slots.
fn candidates(handle: &Handle) -> Result<Vec<Candidate>, NodeError> {
    let nodes = handle.nodes()?.into_iter();
    let storage = nodes.filter(|entry| entry.active && !entry.draining && entry.announcement.roles.has(Role::Storage));
    let candidate = |entry: crate::ledger::record::NodeEntry| {
        let free = entry.free();
        Candidate { node: entry.announcement.node, operator: entry.announcement.operator, free }
    };
    Ok(storage.map(candidate).collect())
}

/// Runs the input through the encoder on a thread of its own and hands each slot its shards.
async fn encode<E: std::fmt::Display>(
    mut input: impl Stream<Item = Result<Bytes, E>> + Unpin,
    encoder: Encoder,
    senders: Vec<mpsc::Sender<Bytes>>,
    doomed: impl Fn() -> Option<NodeError>,
) -> Result<(Encoded, Vec<SlotRoot>), NodeError> {
    let (pieces, queue) = mpsc::channel(PIECES_AHEAD);
    let worker = tokio::task::spawn_blocking(move || encode_all(encoder, queue, &senders));
    let mut broken = None;
    while let Some(piece) = input.next().await {
        if let Some(error) = doomed() {
            return Err(error);
        }
        match piece {
            // The worker ends early only with an error, which is found below.
            Ok(piece) => {
                if pieces.send(Some(piece)).await.is_err() {
                    break;
                }
            }
            Err(error) => {
                broken = Some(error.to_string());
                break;
            }
        }
    }
    if broken.is_none() {
        let _ = pieces.send(None).await;
    }
    drop(pieces);
    let encoded = worker.await.map_err(|_| NodeError::Stopping)?;
    match broken {
        Some(reason) => {
            Err(NodeError::Unavailable(format!("the input broke off: {reason}; run the same put again to go on")))
        }
        None => encoded?
            .ok_or_else(|| NodeError::Unavailable("the input broke off; run the same put again to go on".to_owned())),
    }
}

/// Nothing comes back if the input ended without its end mark.
fn encode_all(
    mut encoder: Encoder,
    mut queue: mpsc::Receiver<Option<Bytes>>,
    senders: &[mpsc::Sender<Bytes>],
) -> Result<Option<(Encoded, Vec<SlotRoot>)>, NodeError> {
    let too_long = |error: crate::files::parameters::ParameterError| NodeError::Bad(error.to_string());
    let mut hashers: Vec<_> = senders.iter().map(|_| blake3::Hasher::new()).collect();
    let mut ended = false;
    while let Some(piece) = queue.blocking_recv() {
        let Some(piece) = piece else {
            ended = true;
            break;
        };
        let mut rest = &piece[..];
        while let Some(stripe) = encoder.push(&mut rest).map_err(too_long)? {
            hand_out(&stripe, &mut hashers, senders);
            encoder.recycle(stripe);
        }
    }
    if !ended {
        return Ok(None);
    }
    while let Some(stripe) = encoder.finish() {
        hand_out(&stripe, &mut hashers, senders);
        encoder.recycle(stripe);
    }
    let encoded = encoder.encoded().map_err(too_long)?;
    let roots = hashers.iter().map(|hasher| SlotRoot::from_bytes(*hasher.finalize().as_bytes())).collect();
    Ok(Some((encoded, roots)))
}

fn hand_out(stripe: &crate::files::pipeline::Stripe, hashers: &mut [blake3::Hasher], senders: &[mpsc::Sender<Bytes>]) {
    for (slot, (hasher, sender)) in (0..).zip(hashers.iter_mut().zip(senders)) {
        let shard = stripe.shard(slot);
        // Sent before it is hashed, so that the network works while this thread hashes.
        let _ = sender.blocking_send(shard.clone());
        hasher.update(&shard);
    }
}

/// A slot, its node, and what that says in the end.
type Outcome = (u8, NodeId, Result<Result<StorageReceipt, SlotPeerError>, oneshot::error::RecvError>);

/// What came of the uploads in time.
struct Gathered {
    receipts: Vec<StorageReceipt>,
    /// Nodes without one, and why.
    missing: Vec<(NodeId, String)>,
    /// Uploads that are still under way.
    waiting: FuturesUnordered<BoxFuture<'static, Outcome>>,
}

/// Brings receipts that come after the deal was made to the chain. A node that hangs is waited for no longer than its
/// connection lasts.
fn confirm_late(handle: &Handle, file: FileId, mut waiting: FuturesUnordered<BoxFuture<'static, Outcome>>) {
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

/// Asks for all receipts; waits for the rest a little once enough are there.
async fn gather(uploads: Vec<SlotUpload>, manifest: &PublicManifest, enough: u8, within: Duration) -> Gathered {
    let file = manifest.id();
    let waiting = FuturesUnordered::new();
    let mut missing: std::collections::BTreeMap<u8, (NodeId, String)> = std::collections::BTreeMap::new();
    for (slot, (upload, info)) in (0_u8..).zip(uploads.into_iter().zip(&manifest.slots)) {
        drop(upload.shards);
        missing.insert(slot, (upload.node, "no answer in time".to_owned()));
        // A node that failed before no longer listens; its outcome says why.
        let _ = upload.finish.send(Finish { file, info: *info });
        waiting.push(async move { (slot, upload.node, upload.done.await) }.boxed());
    }
    let (mut waiting, mut receipts) = (waiting, Vec::new());
    let mut deadline = tokio::time::Instant::now() + within;
    while let Ok(Some((slot, node, done))) = tokio::time::timeout_at(deadline, waiting.next()).await {
        match done {
            Ok(Ok(receipt)) => {
                missing.remove(&slot);
                receipts.push(receipt);
            }
            Ok(Err(error)) => drop(missing.insert(slot, (node, error.to_string()))),
            Err(_) => drop(missing.insert(slot, (node, "the upload was given up".to_owned()))),
        }
        if receipts.len() >= usize::from(enough) {
            deadline = deadline.min(tokio::time::Instant::now() + STRAGGLERS);
        }
    }
    receipts.sort_by_key(|receipt| receipt.slot);
    Gathered { receipts, missing: missing.into_values().collect(), waiting }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, crate::store::StoreError> + Send + 'static,
) -> Result<T, NodeError> {
    Ok(tokio::task::spawn_blocking(work).await.map_err(|_| NodeError::Stopping)??)
}

fn random<const N: usize>() -> Result<[u8; N], NodeError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| NodeError::Unavailable(format!("no randomness: {error}")))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_that_nobody_has_asks_for_more_room_than_anybody_has() {
        let one = Parameters::with_shards(1, 0).expect("valid parameters");
        assert_eq!(slot_room(u64::MAX, one), u64::MAX);
        assert_eq!(slot_room(0, one), 32 + u64::from(one.chunk_bytes()));
    }
}

//! Put: from a stream of plaintext to a deal on the chain.
//!
//! Memory is bounded by a few stripes whatever the file's length. Key, nonce and placement of a session are kept or
//! derived again, so that a put that was interrupted sends only what is missing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use tokio::sync::mpsc;

pub use super::gather::Missing;
use super::gather::{Gathered, confirm_late, enough_open, gather, told};
use super::session::{Session, forget, session, slot_room};
use super::upload::{Failures, SlotUpload, Target};
use crate::crypto::seal::{FileKey, NONCE_BYTES};
use crate::crypto::{Domain, hash};
use crate::files::manifest::{self, FileFacts, PutSecrets};
use crate::files::pipeline::{Compress, Encoded, Encoder};
use crate::files::{FileKind, Wanted};
use crate::ledger::record::{Deal, DealStatus};
use crate::ledger::{Key, Record};
use crate::node::handle::{FinalTx, Handle, NodeError};
use crate::types::{FileId, Height, Millis, NodeId, SlotRoot, TxId, limits};
use crate::wire::tx::FileCommit;
use crate::wire::{self, Action, StorageReceipt};

/// Plaintext that waits for the encoder, pieces.
const PIECES_AHEAD: usize = 4;

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
    /// Confirmations that make the deal final and that are waited for, and slots left at which lost ones are rebuilt.
    pub wanted: Wanted,
    /// Whether the file goes to the chain with fewer confirmations than make it final.
    pub allow_pending: bool,
    /// Names this put, so that another try goes on with it; random for a put that is not to be resumed.
    pub session: [u8; 32],
    /// How long to wait for receipts and for finality.
    pub timeout: Duration,
    /// What the file is to the account.
    pub kind: FileKind,
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
    /// Nodes that did not confirm in time.
    pub missing: Vec<Missing>,
}

/// Encodes, places, confirms and finalizes a file.
/// Errors: `Bad` for impossible settings, `NoRoom` when no placement is possible, `Unavailable` when the input breaks off, or too few nodes
/// confirm a file that must not be pending; those of `Handle::act`.
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
    check(handle, &request)?;
    handle.takes_in()?;
    let keys = handle.keys()?.clone();
    let session = session(handle, &request).await?;
    let Session { journal, parameters, thresholds } = &session;
    let (key, nonce) = keys.file_secrets(&request.session, &journal.source);
    let watch = Watch::default();
    let mut uploads = start(handle, &request, &session, &nonce, &watch);
    if !request.allow_pending
        && let Err(silent) = enough_open(&mut uploads, thresholds.quorum, request.timeout).await
    {
        // The next try is placed anew, on nodes that are there then.
        forget(handle, request.session).await?;
        let mut reasons = watch.failed.reasons();
        reasons.extend(silent.into_iter().map(|node| (node, "it has not answered yet".to_owned())));
        return Err(too_few(handle, &session, &watch, &reasons));
    }
    let senders: Vec<_> = uploads.iter().map(|upload| upload.shards.clone()).collect();
    let encoder = Encoder::new(&key, &nonce, *parameters, Compress::Auto);
    // With fewer slots than data shards nothing could be restored, and with fewer than the quorum a file that must not be
    // pending is none: the rest of the input need not be read.
    let may_lack = usize::from(parameters.slots() - thresholds.quorum);
    let doomed = || {
        let (all, lost) = watch.failed.count();
        lost > usize::from(parameters.parity()) || !request.allow_pending && all > may_lack
    };
    let (encoded, roots) = match encode(input, encoder, senders, doomed).await {
        Err(Ended::Doomed) => return Err(too_few(handle, &session, &watch, &watch.failed.reasons())),
        Err(Ended::By(error)) => return Err(error),
        Ok(done) => done,
    };
    let facts = FileFacts { name: request.name.clone(), created: journal.created, kind: request.kind };
    let seal_nonces = seal_nonces(&key, &roots, &facts);
    let secrets = PutSecrets { owner: &keys, key: &key, nonce, seal_nonces };
    let manifest =
        manifest::seal(&secrets, &encoded, &roots, &facts).map_err(|error| NodeError::Bad(error.to_string()))?;
    let file = manifest.id();
    *asked = handle.clock().now();
    let Gathered { receipts, missing, waiting } = gather(uploads, &manifest, thresholds, request.timeout).await;
    let done = match handle.record(&Key::File(file))? {
        Some(Record::File(deal)) => confirm_more(handle, &request, file, &deal, receipts).await?,
        _ => {
            let lacks = receipts.len() < usize::from(thresholds.quorum) && !request.allow_pending;
            let hopeless = receipts.is_empty() && !missing.iter().any(|missing| missing.follows);
            if lacks || hopeless {
                watch.given_up.store(true, Ordering::Release);
                let disk = |error: std::io::Error| NodeError::Unavailable(format!("the spool: {error}"));
                handle.spool().remove(&file).await.map_err(disk)?;
                let reasons: Vec<_> = missing.into_iter().map(|missing| (missing.node, missing.why)).collect();
                return Err(too_few(handle, &session, &watch, &reasons));
            }
            let (placement, epochs) = (journal.placement.clone(), request.epochs);
            let (min_confirmations, repair_threshold) = (thresholds.quorum, thresholds.repair);
            let commit = FileCommit { manifest, placement, min_confirmations, repair_threshold, epochs, receipts };
            let acted = handle.act(Action::CommitFile(Box::new(commit)), request.timeout).await;
            match acted {
                Ok(done) => Some(done),
                // It was asked for before this node was stopped, and became final before this node had caught up.
                Err(NodeError::Rejected { code: "file_exists", .. })
                    if handle.file(&file).is_ok_and(|(deal, _)| deal.status.is_open()) =>
                {
                    None
                }
                Err(error) => return Err(name_file(error, &file)),
            }
        }
    };
    confirm_late(handle, file, waiting);
    let (deal, _) = handle.file(&file)?;
    if matches!(deal.status, DealStatus::Final { .. }) {
        forget(handle, request.session).await?;
    }
    let (tx, height) = (done.as_ref().map(|done| done.id), done.map_or(deal.opened, |done| done.place.height));
    let confirmed = (u8::try_from(deal.confirmed.len()).unwrap_or(u8::MAX), parameters.slots());
    let (status, bytes, resumed_bytes) = (deal.status, encoded.plain_len, watch.resumed.load(Ordering::Relaxed));
    Ok(PutResult { file, status, height, bytes, confirmed, tx, resumed_bytes, missing })
}

/// What the uploads of a put share.
#[derive(Default)]
struct Watch {
    resumed: Arc<AtomicU64>,
    failed: Failures,
    given_up: Arc<AtomicBool>,
}

fn start(handle: &Handle, request: &PutRequest, session: &Session, nonce: &[u8; 32], watch: &Watch) -> Vec<SlotUpload> {
    let bytes = request.len.map(|len| slot_room(len, session.parameters));
    let start = |(slot, node): (u8, &NodeId)| {
        let upload = hash(Domain::Derive, &wire::encode(&(b"upload", nonce, slot)));
        let (resumed, failed, given_up) = (watch.resumed.clone(), watch.failed.clone(), watch.given_up.clone());
        SlotUpload::start(handle.clone(), Target { node: *node, slot, upload, bytes, resumed, failed, given_up })
    };
    (0..=u8::MAX).zip(&session.journal.placement).map(start).collect()
}

/// A deal that is not final in time may still become so, and its owner has to know its file then.
fn name_file(error: NodeError, file: &FileId) -> NodeError {
    match error {
        NodeError::Timeout { what, within, hint } => {
            NodeError::Timeout { what: format!("file {file}: {what}"), within, hint }
        }
        error => error,
    }
}

/// Why a put ends without a deal.
fn too_few(handle: &Handle, session: &Session, watch: &Watch, reasons: &[(NodeId, String)]) -> NodeError {
    let (slots, quorum) = (session.parameters.slots(), session.thresholds.quorum);
    match told(handle, reasons) {
        Ok(nodes) => watch.failed.error(format!(
            "{quorum} of {slots} storage nodes have to confirm their slots, and too few do: {nodes}; \
             nothing is on the ledger; run the same put again to go on"
        )),
        Err(error) => error,
    }
}

/// What needs no look at the shards. Errors: `Bad`.
fn check(handle: &Handle, request: &PutRequest) -> Result<(), NodeError> {
    let (have, max) = (request.name.len(), limits::FILE_NAME_BYTES_MAX);
    if have > max {
        return Err(NodeError::Bad(format!("a name of {have} bytes; at most {max} are allowed")));
    }
    let (have, max) = (request.epochs, handle.genesis().storage.epochs_max);
    if !(1..=max).contains(&have) {
        return Err(NodeError::Bad(format!("epochs is {have}; on this network 1 to {max} are possible")));
    }
    Ok(())
}

/// Adds the receipts that an open deal does not have yet. Errors: `Unavailable` if it has ended; those of `Handle::act`.
async fn confirm_more(
    handle: &Handle,
    request: &PutRequest,
    file: FileId,
    deal: &Deal,
    mut receipts: Vec<StorageReceipt>,
) -> Result<Option<FinalTx>, NodeError> {
    if !deal.status.is_open() {
        forget(handle, request.session).await?;
        let ended = "the deal of an earlier try has ended; run the same put again to begin anew";
        return Err(NodeError::Unavailable(ended.to_owned()));
    }
    // A slot that was lost is not confirmed any more but taken over, by its node.
    receipts.retain(|receipt| !deal.confirmed.has(receipt.slot) && !deal.lost.has(receipt.slot));
    if receipts.is_empty() {
        return Ok(None);
    }
    handle.act(Action::ConfirmSlots { file, receipts }, request.timeout).await.map(Some)
}

/// Nonces that follow from everything they are used with: another try with the same content makes the same manifest, and
/// one with another content reuses no nonce.
fn seal_nonces(key: &FileKey, roots: &[SlotRoot], facts: &FileFacts) -> [[u8; NONCE_BYTES]; 2] {
    let nonce = |use_of: u8| {
        let parts = (use_of, key.as_bytes(), roots, &facts.name, facts.created, facts.kind);
        let hashed = hash(Domain::Derive, &wire::encode(&(b"seal nonce", parts)));
        *hashed.first_chunk().expect("a nonce is shorter than a hash")
    };
    [nonce(0), nonce(1)]
}

/// Why the input was not read to its end.
enum Ended {
    /// Too many nodes do not take their slots.
    Doomed,
    By(NodeError),
}

impl From<NodeError> for Ended {
    fn from(error: NodeError) -> Self {
        Self::By(error)
    }
}

/// Runs the input through the encoder on a thread of its own and hands each slot its shards.
async fn encode<E: std::fmt::Display>(
    mut input: impl Stream<Item = Result<Bytes, E>> + Unpin,
    encoder: Encoder,
    senders: Vec<mpsc::Sender<Bytes>>,
    doomed: impl Fn() -> bool,
) -> Result<(Encoded, Vec<SlotRoot>), Ended> {
    let (pieces, queue) = mpsc::channel(PIECES_AHEAD);
    let worker = tokio::task::spawn_blocking(move || encode_all(encoder, queue, &senders));
    let mut broken = None;
    while let Some(piece) = input.next().await {
        if doomed() {
            return Err(Ended::Doomed);
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
            Err(NodeError::Unavailable(format!("the input broke off: {reason}; run the same put again to go on"))
                .into())
        }
        None => encoded?.ok_or_else(|| {
            NodeError::Unavailable("the input broke off; run the same put again to go on".to_owned()).into()
        }),
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

/// Runs work that blocks on the disk.
pub(in crate::node) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, crate::store::StoreError> + Send + 'static,
) -> Result<T, NodeError> {
    Ok(tokio::task::spawn_blocking(work).await.map_err(|_| NodeError::Stopping)??)
}

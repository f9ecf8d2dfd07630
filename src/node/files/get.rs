//! Get: from the chain's record of a file to its plaintext, in order and verified.

use std::ops::Range;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::access::{open_deal, open_manifest};
use super::fetch::{Fetcher, Source};
use crate::crypto::seal::FileKey;
use crate::files::manifest::OpenManifest;
use crate::files::pipeline::{DecodeError, Decoder, FRAME_BYTES, RangePlan};
use crate::ledger::record::Deal;
use crate::node::handle::{Handle, NodeError};
use crate::types::limits::SEGMENT_BYTES;
use crate::types::{FileId, NodeId};
use crate::wire::PublicManifest;

/// Pieces of plaintext that wait for whoever reads them.
const PIECES_AHEAD: usize = 2;

/// A file that is ready to be read.
pub struct OpenFile {
    handle: Handle,
    file: FileId,
    deal: Deal,
    manifest: PublicManifest,
    open: OpenManifest,
}

impl OpenFile {
    /// Finds the file on the chain and opens its manifest, for its owner or for an account that it is shared with.
    /// Errors: `NotFound`, `NotAllowed` for another account's file, `Verification`, `Store`.
    pub fn open(handle: &Handle, file: FileId) -> Result<Self, NodeError> {
        Self::open_with(handle, file, None)
    }
    /// The same with a key that was brought, whoever this node's account is. Errors: those of `open`.
    pub fn open_with(handle: &Handle, file: FileId, key: Option<&FileKey>) -> Result<Self, NodeError> {
        let (deal, manifest) = open_deal(handle, &file)?;
        let open = open_manifest(handle, &file, &deal, &manifest, key)?;
        Ok(Self { handle: handle.clone(), file, deal, manifest, open })
    }
    /// What its owner knows of it.
    pub fn manifest(&self) -> &OpenManifest {
        &self.open
    }
    /// Its deal.
    pub fn deal(&self) -> &Deal {
        &self.deal
    }

    /// The bytes of a range, as they come. The last item is an error if not all of them could be read.
    /// Errors: `Bad` for a range outside of the file; else those of reading.
    pub async fn read(
        self,
        range: Option<Range<u64>>,
    ) -> Result<(u64, mpsc::Receiver<Result<Bytes, NodeError>>), NodeError> {
        let plan = match range {
            None => self.open.plan_all(),
            Some(range) if range == (0..self.open.plain_len()) => self.open.plan_all(),
            Some(range) => {
                let table = match self.open.plan_seek_table() {
                    None => None,
                    Some(plan) => {
                        let bytes = self.collect(plan).await?;
                        let table = self.open.seek_table(&bytes);
                        Some(table.map_err(|error| NodeError::Verification(error.to_string()))?)
                    }
                };
                self.open.plan(range, table.as_ref()).map_err(|error| NodeError::Bad(error.to_string()))?
            }
        };
        let len = plan.plain_len();
        let (sender, receiver) = mpsc::channel(PIECES_AHEAD);
        self.handle.clone().spawn_while_running(async move {
            if let Err(error) = self.stream(plan, &sender).await {
                tracing::warn!(file = %self.file, %error, "a file could not be read to its end");
                let _ = sender.send(Err(error)).await;
            }
        });
        Ok((len, receiver))
    }

    async fn collect(&self, plan: RangePlan) -> Result<Vec<u8>, NodeError> {
        let (sender, mut receiver) = mpsc::channel::<Result<Bytes, NodeError>>(PIECES_AHEAD);
        let mut bytes: Vec<u8> = Vec::new();
        let gather = async {
            while let Some(piece) = receiver.recv().await {
                let piece: Bytes = piece?;
                bytes.extend_from_slice(&piece);
            }
            Ok::<_, NodeError>(())
        };
        let stream = async {
            let done = self.stream(plan, &sender).await;
            drop(sender);
            done
        };
        let (gathered, streamed) = tokio::join!(gather, stream);
        gathered.and(streamed)?;
        Ok(bytes)
    }

    /// Slots in the order in which they are turned to: data shards need no decoding, connected nodes no waiting.
    fn sources(&self) -> Vec<Source> {
        let connected = self.handle.net().connected().borrow().clone();
        let source = |(slot, (node, info)): (usize, (&NodeId, _))| Source { slot, node: *node, info };
        let all = self.deal.placement.iter().zip(self.manifest.slots.iter().copied()).enumerate().map(source);
        let mut all: Vec<_> = all.collect();
        let confirmed = |source: &Source| u8::try_from(source.slot).is_ok_and(|slot| self.deal.confirmed.has(slot));
        all.sort_by_key(|source| (!confirmed(source), !connected.contains(&source.node), source.slot));
        all
    }

    async fn stream(&self, plan: RangePlan, out: &mpsc::Sender<Result<Bytes, NodeError>>) -> Result<(), NodeError> {
        let wrong = |error: DecodeError| NodeError::Verification(error.to_string());
        let reads: Vec<_> = plan.reads().collect();
        let mut decoder = self.open.decoder(plan).map_err(|error| NodeError::Verification(error.to_string()))?;
        let need = usize::from(self.manifest.data);
        let slots = self.manifest.slots.len();
        // What a stripe gives if it is not compressed, and what was left of the one before.
        let room = reads.iter().map(|read| read.shard_len).max().unwrap_or(0).saturating_mul(need) + SEGMENT_BYTES;
        let room = room.min(FRAME_BYTES);
        let mut fetcher = Fetcher::new(self.handle.clone(), reads, need, slots, self.sources());
        let mut at = 0;
        while decoder.next_read().is_some() {
            let mut given = Some(fetcher.stripe(at).await?);
            at += 1;
            let mut more = true;
            while more {
                // Decoding is work for a processor, not for the threads that serve the network.
                let working = tokio::task::spawn_blocking(move || {
                    let mut piece = Vec::with_capacity(room);
                    let pulled = pull(&mut decoder, given.as_deref(), &mut piece);
                    (decoder, given, piece, pulled)
                });
                let (back, shards, piece, pulled) = working.await.map_err(|_| NodeError::Stopping)?;
                (decoder, given) = (back, None);
                fetcher.recycle(shards.unwrap_or_default());
                more = pulled.map_err(wrong)?;
                if !piece.is_empty() && out.send(Ok(piece.into())).await.is_err() {
                    return Ok(());
                }
            }
        }
        decoder.finish().map_err(wrong)
    }
}

/// Takes the shards of the next stripe, if there are any, and appends plaintext to `piece` until it is long enough: a few
/// compressed bytes may stand for very many. Returns whether there is more.
fn pull(decoder: &mut Decoder, given: Option<&[Option<Vec<u8>>]>, piece: &mut Vec<u8>) -> Result<bool, DecodeError> {
    if let Some(shards) = given {
        let shards: Vec<_> = shards.iter().map(Option::as_deref).collect();
        decoder.push(&shards)?;
    }
    while piece.len() < FRAME_BYTES {
        if !decoder.pull(piece)? {
            return Ok(false);
        }
    }
    Ok(true)
}

//! Reading slots from several storage nodes at once, a stripe ahead of the decoder.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

use crate::files::pipeline::StripeRead;
use crate::node::handle::{Handle, NodeError};
use crate::node::slots::client::{SlotPeer, SlotPeerError};
use crate::types::{NodeId, limits};
use crate::wire::SlotInfo;

/// Stripes that a slot is read ahead of the decoder.
const STRIPES_AHEAD: usize = 2;
/// Questions that are ahead of the answer that is awaited, so that the way there and back costs nothing.
const ASKED_AHEAD: usize = 2;

/// A slot and who holds it.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    pub slot: usize,
    pub node: NodeId,
    pub info: SlotInfo,
}

/// Memory of shards that were decoded, for the next ones: new memory for each would cost as much as reading them.
#[derive(Clone, Default)]
struct Spares(Arc<Mutex<Vec<Vec<u8>>>>);

impl Spares {
    fn lock(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
    fn take(&self) -> Vec<u8> {
        self.lock().pop().unwrap_or_default()
    }
}

struct Reading {
    source: Source,
    shards: mpsc::Receiver<Result<Vec<u8>, SlotPeerError>>,
}

/// Reads stripes from any `need` slots; one that fails is replaced by the next spare, from the stripe on that is due.
pub struct Fetcher {
    handle: Handle,
    reads: Arc<Vec<StripeRead>>,
    need: usize,
    slots: usize,
    active: Vec<Reading>,
    spares: VecDeque<Source>,
    failed: Vec<(Source, String)>,
    memory: Spares,
}

impl Fetcher {
    /// Starts reading. `sources` in the order of preference.
    pub fn new(handle: Handle, reads: Vec<StripeRead>, need: usize, slots: usize, sources: Vec<Source>) -> Self {
        let (reads, spares) = (Arc::new(reads), sources.into());
        Self { handle, reads, need, slots, active: Vec::new(), spares, failed: Vec::new(), memory: Spares::default() }
    }

    fn start(&self, source: Source, from: usize) -> Reading {
        let (sender, shards) = mpsc::channel(STRIPES_AHEAD);
        let (handle, reads, memory) = (self.handle.clone(), self.reads.clone(), self.memory.clone());
        self.handle.spawn_while_running(async move {
            if let Err(error) = read_slot(&handle, source, &reads[from..], &sender, &memory).await {
                // Nobody listens if the read was given up.
                let _ = sender.send(Err(error)).await;
            }
        });
        Reading { source, shards }
    }

    /// The shards of the stripe at this place in the list of reads, one place for each slot.
    /// Errors: `Unavailable` when fewer than needed can be read.
    pub async fn stripe(&mut self, at: usize) -> Result<Vec<Option<Vec<u8>>>, NodeError> {
        let mut shards: Vec<Option<Vec<u8>>> = vec![None; self.slots];
        let mut have = 0;
        let mut next = 0;
        while have < self.need {
            if next == self.active.len() {
                let Some(spare) = self.spares.pop_front() else { return Err(self.unreadable(have)) };
                let reading = self.start(spare, at);
                self.active.push(reading);
            }
            // Asked one after the other, but all of them read ahead at the same time.
            while self.active.len() < self.need && !self.spares.is_empty() {
                let spare = self.spares.pop_front();
                let reading = spare.map(|spare| self.start(spare, at));
                self.active.extend(reading);
            }
            let reading = &mut self.active[next];
            let failure = match reading.shards.recv().await {
                Some(Ok(shard)) => {
                    shards[reading.source.slot] = Some(shard);
                    have += 1;
                    next += 1;
                    continue;
                }
                Some(Err(error)) => error.to_string(),
                None => "the connection ended".to_owned(),
            };
            let source = self.active.remove(next).source;
            tracing::warn!(node = ?source.node, slot = source.slot, reason = failure, "a slot cannot be read; another one is taken");
            self.failed.push((source, failure));
        }
        Ok(shards)
    }

    /// Gives the memory of shards back that are not needed any more.
    pub fn recycle(&self, shards: Vec<Option<Vec<u8>>>) {
        let mut memory = self.memory.lock();
        let room = self.need.saturating_mul(STRIPES_AHEAD).saturating_sub(memory.len());
        memory.extend(shards.into_iter().flatten().take(room));
    }

    fn unreadable(&self, have: usize) -> NodeError {
        let reasons: Vec<_> = self
            .failed
            .iter()
            .map(|(source, why)| format!("slot {} on {}: {why}", source.slot, source.node.short()))
            .collect();
        let need = self.need;
        NodeError::Unavailable(format!("only {have} of the {need} needed slots can be read: {}", reasons.join("; ")))
    }
}

async fn read_slot(
    handle: &Handle,
    source: Source,
    reads: &[StripeRead],
    sender: &mpsc::Sender<Result<Vec<u8>, SlotPeerError>>,
    memory: &Spares,
) -> Result<(), SlotPeerError> {
    let mut peer = SlotPeer::connect(handle, source.node).await?;
    let mut asks = reads.iter().map(StripeRead::blocks);
    for blocks in asks.by_ref().take(ASKED_AHEAD) {
        peer.read(&source.info, blocks.start, blocks.end - blocks.start).await?;
    }
    let mut bytes = Vec::new();
    for read in reads {
        if let Some(blocks) = asks.next() {
            peer.read(&source.info, blocks.start, blocks.end - blocks.start).await?;
        }
        let mut shard = memory.take();
        for block in read.blocks() {
            peer.block(&source.info, block, &mut bytes).await?;
            let start = block.saturating_mul(limits::SLOT_BLOCK_BYTES as u64);
            let from = usize::try_from(read.slot_offset.saturating_sub(start)).unwrap_or(usize::MAX).min(bytes.len());
            if from == 0 && bytes.len() == read.shard_len {
                // The usual case: the shard is the block.
                std::mem::swap(&mut shard, &mut bytes);
                break;
            }
            if block == read.blocks().start {
                shard.clear();
            }
            let left = read.shard_len - shard.len();
            let part = &bytes[from..];
            shard.extend_from_slice(&part[..part.len().min(left)]);
        }
        if sender.send(Ok(shard)).await.is_err() {
            return Ok(());
        }
    }
    peer.close().await;
    Ok(())
}

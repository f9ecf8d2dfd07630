//! Rebuild: brings the bytes of one slot here, straight from its holder or computed from other slots of the file. No key is
//! needed and nobody is trusted: the slot is taken in only if it has the root that the chain names.
//!
//! Memory is bounded by a few stripes. What was brought before an interruption is not brought again.

use std::sync::Arc;

use super::pace::Pace;
use super::{Keeper, blocking};
use crate::crypto::{Domain, hash};
use crate::files::pipeline::{RangePlan, StripeRead};
use crate::files::{Erasure, Layout};
use crate::ledger::record::{Deal, SlotId};
use crate::node::files::fetch::{Fetcher, Source};
use crate::node::handle::NodeError;
use crate::store::Upload;
use crate::types::NodeId;
use crate::wire::{self, PublicManifest, SlotInfo};

/// Stripes that are asked for on one set of connections.
const WINDOW: usize = 4_096;

/// A slot that is to be brought here.
pub struct Rebuild {
    id: SlotId,
    info: SlotInfo,
    layout: Layout,
    /// The node that has it, if it is thought to be there.
    holder: Option<Source>,
    others: Vec<Source>,
}

impl Rebuild {
    /// The slot by its deal; from its holder too, if it has one.
    /// Errors: `Verification` for a manifest that makes no sense, `Bad` for a slot that the file does not have.
    pub fn new(keeper: &Keeper, id: SlotId, deal: &Deal, manifest: &PublicManifest) -> Result<Self, NodeError> {
        let layout = Layout::of_manifest(manifest).map_err(|error| NodeError::Verification(error.to_string()))?;
        let index = usize::from(id.slot);
        let info = *manifest.slots.get(index).ok_or_else(|| NodeError::Bad(format!("no slot {}", id.slot)))?;
        let (me, connected) = (keeper.me(), keeper.handle.net().connected().borrow().clone());
        let source = |(slot, (node, info)): (usize, (&NodeId, &SlotInfo))| Source { slot, node: *node, info: *info };
        let all = deal.placement.iter().zip(&manifest.slots).enumerate().map(source);
        let held = |source: &Source| {
            let slot = u8::try_from(source.slot).unwrap_or(u8::MAX);
            deal.confirmed.has(slot) && !deal.lost.has(slot) && (source.node != me || source.slot != index)
        };
        let (mut holder, mut others): (Vec<_>, Vec<_>) = all.filter(held).partition(|source| source.slot == index);
        // What is here already comes first.
        others.sort_by_key(|source| (source.node != me, !connected.contains(&source.node), source.slot));
        Ok(Self { id, info, layout, holder: holder.pop(), others })
    }

    /// Brings it here, durably. Errors: `Unavailable` when too little can be read, `Slots`.
    pub async fn run(self, keeper: &Keeper, pace: &Pace) -> Result<(), NodeError> {
        let name = hash(Domain::Derive, &wire::encode(&(b"take", &self.id)));
        let (slots, len) = (keeper.slots.clone(), self.info.len);
        let upload = blocking(move || slots.upload(name, len)).await?;
        let mut filling = Filling { rebuild: &self, keeper, pace, upload: Some(upload), code: None };
        let mut copied = false;
        if let Some(holder) = self.holder {
            match filling.fill(vec![holder], 1).await {
                Ok(()) => copied = true,
                Err(NodeError::Unavailable(reason)) => {
                    tracing::info!(file = %self.id.file, slot = self.id.slot, reason, "a slot's holder does not give it; it is rebuilt");
                }
                Err(error) => return Err(error),
            }
        }
        if !copied {
            let need = usize::from(self.layout.parameters().data());
            filling.code = Some(Arc::new(Erasure::new(self.layout.parameters())));
            filling.fill(self.others.clone(), need).await?;
        }
        let upload = filling.upload.take().ok_or(NodeError::Stopping)?;
        let (info, SlotId { file, slot }) = (self.info, self.id);
        blocking(move || upload.finish(&info, file, slot)).await
    }
}

struct Filling<'a> {
    rebuild: &'a Rebuild,
    keeper: &'a Keeper,
    pace: &'a Pace,
    upload: Option<Upload>,
    /// Without it, what is read is the slot itself.
    code: Option<Arc<Erasure>>,
}

impl Filling<'_> {
    /// Appends what is missing yet, from `need` of the sources.
    async fn fill(&mut self, sources: Vec<Source>, need: usize) -> Result<(), NodeError> {
        let layout = self.rebuild.layout;
        let slots = usize::from(layout.parameters().slots());
        let have = self.upload.as_ref().map_or(0, Upload::offset);
        let end = |read: &StripeRead| read.slot_offset.saturating_add(read.shard_len as u64);
        let mut reads = RangePlan::all_stripes(layout).reads().skip_while(|read| end(read) <= have).peekable();
        while reads.peek().is_some() {
            let window: Vec<_> = reads.by_ref().take(WINDOW).collect();
            let mut fetcher = Fetcher::new(self.keeper.handle.clone(), window.clone(), need, slots, sources.clone());
            for (at, read) in window.into_iter().enumerate() {
                self.pace.spend((read.shard_len as u64).saturating_mul(need as u64)).await;
                let shards = fetcher.stripe(at).await?;
                fetcher.recycle(self.append(read, shards).await?);
            }
        }
        Ok(())
    }

    /// Appends the wanted shard of a stripe. Returns the memory of the shards that it was made of.
    async fn append(
        &mut self,
        read: StripeRead,
        mut shards: Vec<Option<Vec<u8>>>,
    ) -> Result<Vec<Option<Vec<u8>>>, NodeError> {
        let mut upload = self.upload.take().ok_or(NodeError::Stopping)?;
        let (code, slot) = (self.code.clone(), usize::from(self.rebuild.id.slot));
        let done = tokio::task::spawn_blocking(move || {
            let appended = shard(code.as_deref(), &mut shards, slot).and_then(|shard| {
                // The first stripe of a resumed upload may be here in part.
                let skip = usize::try_from(upload.offset().saturating_sub(read.slot_offset)).unwrap_or(usize::MAX);
                Ok::<_, NodeError>(upload.append(shard.get(skip..).unwrap_or_default())?)
            });
            (upload, appended.map(|()| shards))
        });
        let (upload, appended) = done.await.map_err(|_| NodeError::Stopping)?;
        self.upload = Some(upload);
        appended
    }
}

/// The wanted slot's shard of a stripe.
fn shard<'a>(code: Option<&Erasure>, shards: &'a mut [Option<Vec<u8>>], slot: usize) -> Result<&'a [u8], NodeError> {
    if let Some(code) = code {
        code.rebuild(shards, slot).map_err(|error| NodeError::Verification(error.to_string()))?;
    }
    let own = shards.get(slot).and_then(Option::as_deref);
    own.ok_or_else(|| NodeError::Verification("another slot than the one that was asked for".to_owned()))
}

//! Repair: takes over slots that are lost or whose node drains, and mends this node's own.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::look::{Found, Lookout};
use super::pace::Pace;
use super::plan::{Backoff, Kind, Want};
use super::rebuild::Rebuild;
use super::{Keeper, blocking};
use crate::ledger::record::{Deal, SlotId};
use crate::ledger::{Key, Record};
use crate::node::handle::NodeError;
use crate::node::slots::serve;
use crate::store::StoreError;
use crate::types::Height;
use crate::wire::{Action, SlotInfo};

/// Slots that are brought here at the same time, and those that are here and only have to be claimed.
const BRING_AT_ONCE: usize = 2;
const CLAIM_AT_ONCE: usize = 16;
/// How long to wait for a takeover to be final.
const TAKE_WITHIN: Duration = Duration::from_secs(60);

/// Repairs until the node stops.
pub async fn run(keeper: Keeper) {
    let pace = Arc::new(Pace::new(keeper.handle.config().storage.repair_rate));
    let mut tips = keeper.tips();
    let mut work = Work::default();
    let mut lookout = Some(Lookout::default());
    let mut height = Height::GENESIS;
    loop {
        tokio::select! {
            tip = tips.next() => match tip {
                Some(tip) => height = tip,
                None => return,
            },
            () = keeper.lacking().added() => {}
            Some(done) = work.running.join_next() => {
                if let Ok((want, done)) = done {
                    work.ended(&keeper, want, done, height);
                }
            }
        }
        if keeper.is_behind() || !keeper.has_voice() || work.is_full() {
            continue;
        }
        let Some(mut looking) = lookout.take() else { return };
        if work.has_more() || !matches!(looking.has_reason(&keeper, height), Ok(true)) {
            lookout = Some(looking);
        } else {
            let reader = keeper.clone();
            let looked = tokio::task::spawn_blocking(move || {
                let found = looking.look(&reader, height);
                (looking, found)
            });
            let Ok((looking, found)) = looked.await else { return };
            lookout = Some(looking);
            match found {
                Ok(found) => work.plan(found),
                Err(error) => tracing::warn!(%error, "lost slots could not be looked for"),
            }
        }
        work.start(&keeper, &pace, height);
    }
}

/// What is under way.
#[derive(Default)]
struct Work {
    running: JoinSet<(Want, Result<(), NodeError>)>,
    bringing: BTreeSet<SlotId>,
    claiming: BTreeSet<SlotId>,
    /// The most urgent last.
    waiting: Vec<Want>,
    backoff: Backoff,
}

impl Work {
    fn is_full(&self) -> bool {
        self.bringing.len() >= BRING_AT_ONCE && self.claiming.len() >= CLAIM_AT_ONCE
    }
    fn has_more(&self) -> bool {
        !self.waiting.is_empty()
    }
    fn plan(&mut self, found: Found) {
        self.backoff.keep(&found.wanted);
        self.waiting = found.due;
        self.waiting.reverse();
    }

    /// Starts what there is room for; what has to wait for room is looked for again then.
    fn start(&mut self, keeper: &Keeper, pace: &Arc<Pace>, at: Height) {
        let mut left = Vec::new();
        while let Some(want) = self.waiting.pop() {
            if self.bringing.contains(&want.id) || self.claiming.contains(&want.id) || self.backoff.holds(&want.id, at)
            {
                continue;
            }
            let (under_way, most) = match want.kind {
                Kind::Back => (&mut self.claiming, CLAIM_AT_ONCE),
                _ => (&mut self.bringing, BRING_AT_ONCE),
            };
            if under_way.len() >= most {
                left.push(want);
                continue;
            }
            under_way.insert(want.id);
            let (keeper, pace) = (keeper.clone(), pace.clone());
            self.running.spawn(async move {
                let done = tokio::select! {
                    done = one(&keeper, &want, &pace) => done,
                    () = keeper.handle.stop_token().cancelled() => Err(NodeError::Stopping),
                };
                (want, done)
            });
        }
        left.reverse();
        self.waiting = left;
    }

    fn ended(&mut self, keeper: &Keeper, want: Want, done: Result<(), NodeError>, at: Height) {
        self.bringing.remove(&want.id);
        self.claiming.remove(&want.id);
        let SlotId { file, slot } = want.id;
        match done {
            Ok(()) => self.backoff.done(&want.id),
            Err(NodeError::Stopping) => {}
            Err(error) => {
                keeper.counts().repairs_failed.inc();
                self.backoff.failed(want.id, at);
                tracing::warn!(%file, slot, kind = ?want.kind, %error, "a slot could not be taken over; it is tried again");
            }
        }
    }
}

/// Brings one slot here and claims it. That it is no longer wanted is fine.
async fn one(keeper: &Keeper, want: &Want, pace: &Pace) -> Result<(), NodeError> {
    let SlotId { file, slot } = want.id;
    let (deal, manifest) = keeper.handle.file(&file)?;
    let Some(manifest) = manifest.filter(|_| deal.status.is_open()) else { return Ok(()) };
    let Some(info) = manifest.slots.get(usize::from(slot)).copied() else { return Ok(()) };
    let mine = deal.placement.get(usize::from(slot)) == Some(&keeper.me()) && !deal.lost.has(slot);
    match want.kind {
        Kind::Own if !mine => return Ok(()),
        Kind::Lost | Kind::Back if !deal.lost.has(slot) => return Ok(()),
        Kind::Drained if mine || deal.lost.has(slot) => return Ok(()),
        // It was brought here before, or never went. Nothing is claimed but that: for anything else the next audit would have no proof.
        Kind::Back | Kind::Drained if is_here(keeper, want.id, info).await? => {}
        Kind::Own | Kind::Lost | Kind::Back | Kind::Drained => {
            Rebuild::new(keeper, want.id, &deal, &manifest)?.run(keeper, pace).await?
        }
    }
    if want.kind == Kind::Own {
        keeper.lacking().remove(&want.id);
        count(keeper, &info);
        tracing::info!(%file, slot, bytes = info.len, "a damaged slot is whole again");
        return Ok(());
    }
    take(keeper, want, info).await
}

/// Whether the slot's bytes are here, whole as far as is known.
async fn is_here(keeper: &Keeper, id: SlotId, info: SlotInfo) -> Result<bool, NodeError> {
    let slots = keeper.slots.clone();
    blocking(move || {
        Ok::<_, StoreError>(slots.of_file(&id.file)?.contains(&(id.slot, info.root)) && slots.has(&info.root)?)
    })
    .await
}

async fn take(keeper: &Keeper, want: &Want, info: SlotInfo) -> Result<(), NodeError> {
    let SlotId { file, slot } = want.id;
    let lost_since = match keeper.handle.record(&Key::Lost(file))? {
        Some(Record::Lost { since }) => Some(since),
        _ => None,
    };
    let receipt = serve::receipt(&keeper.handle, file, slot, &info);
    let taken = keeper.handle.act(Action::TakeSlot { file, receipt }, TAKE_WITHIN).await;
    let now = keeper.handle.record(&Key::File(file))?;
    let deal = match now {
        Some(Record::File(deal)) => Some(*deal),
        _ => None,
    };
    let is_mine = |deal: &Deal| deal.placement.get(usize::from(slot)) == Some(&keeper.me()) && !deal.lost.has(slot);
    match taken {
        Ok(_) => {
            count(keeper, &info);
            tracing::info!(%file, slot, bytes = info.len, kind = ?want.kind, "a slot was taken over");
            if let Some(since) = lost_since.filter(|_| deal.is_some_and(|deal| deal.lost.is_empty())) {
                redundant_again(keeper, since)?;
            }
            Ok(())
        }
        // Its holder has to prove it first; the copy here is claimed later.
        Err(NodeError::Rejected { code: "asked", reason, .. }) => Err(NodeError::Unavailable(reason)),
        Err(NodeError::Rejected { code, reason, .. }) => {
            let open = deal.filter(|deal| deal.status.is_open());
            if open.as_ref().is_some_and(is_mine) {
                return Ok(());
            }
            if open.is_none_or(|deal| !deal.lost.has(slot)) {
                // Another was faster, or the deal has ended.
                let slots = keeper.slots.clone();
                blocking(move || slots.remove_slot(&file, slot)).await?;
                tracing::info!(%file, slot, code, "a slot is with another node by now; its copy here is removed");
                return Ok(());
            }
            Err(NodeError::Unavailable(reason))
        }
        Err(error) => Err(error),
    }
}

fn count(keeper: &Keeper, info: &SlotInfo) {
    keeper.counts().repaired_slots.inc();
    keeper.counts().repaired_bytes.inc_by(info.len);
}

/// A file that had lost slots has none any more.
fn redundant_again(keeper: &Keeper, since: Height) -> Result<(), NodeError> {
    if let Some(header) = keeper.handle.snapshot()?.header(since)? {
        let took = keeper.handle.clock().now().saturating_sub(header.time).get();
        keeper.counts().full_redundancy.observe(Duration::from_millis(took).as_secs_f64());
    }
    Ok(())
}

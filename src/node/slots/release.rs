//! Letting go: of slots whose deal has ended or that another node has taken over, and of slots that never came into a deal.
//!
//! A slot that is merely lost stays: its node may come back with it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::serve::UNCOMMITTED_BLOCKS;
use crate::ledger::effects::Event;
use crate::ledger::record::{Deal, SlotId};
use crate::ledger::{Key, Record};
use crate::node::handle::{Handle, NodeError, receipts};
use crate::store::{SlotError, Slots, StoreError};
use crate::types::{FileId, Height, NodeId, SlotRoot};
use crate::wire::SlotInfo;

/// Uploads that nobody carries on are thrown away after this.
const UPLOAD_IDLE: Duration = Duration::from_secs(3_600);
/// How often all slots are looked through.
const SWEEP: Duration = Duration::from_secs(300);
/// After deals have ended, they are looked through again after this, and in at most one part in so many of the time.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
const LOOK_SHARE: u32 = 20;
/// Claims read at once.
const PAGE: usize = 1_024;

/// Lets go of what is no longer this node's: at the start and now and then all slots are looked through, then each final
/// block's events.
pub async fn run(handle: Handle, slots: Slots) {
    let mut tips = handle.reader().watch();
    let mut seen = handle.reader().tip().map_or(Height::GENESIS, |tip| tip.height);
    let mut orphans = Orphans::default();
    let mut sweep = tokio::time::interval(SWEEP);
    let mut deadlines = Deadlines::default();
    loop {
        let mut look = false;
        tokio::select! {
            changed = tips.changed() => if changed.is_err() { return },
            _ = sweep.tick() => {
                let idle = slots.clone();
                if let Err(error) = blocking(move || Ok(idle.drop_idle(UPLOAD_IDLE)?)).await {
                    tracing::warn!(%error, "idle uploads could not be dropped");
                }
                look = true;
            }
            () = handle.stop_token().cancelled() => return,
        }
        let begun = Instant::now();
        if look || deadlines.some_passed(&handle, begun) {
            if let Err(error) = orphans.look_through(&handle, &slots, seen).await {
                tracing::warn!(%error, "held slots could not be looked through");
            }
            deadlines.looked(begun, begun.elapsed());
        }
        let tip = handle.reader().tip().map_or(seen, |tip| tip.height);
        while let Some(height) = seen.next().filter(|next| *next <= tip) {
            match changed_in(&handle, height) {
                Ok(changed) => changed.follow(&handle, &slots).await,
                Err(error) => tracing::warn!(%error, "the events of a block could not be read"),
            }
            seen = height;
        }
    }
}

/// Deals that end by a deadline are in no receipt. The ledger counts them, and all slots are looked through when there are more.
#[derive(Default)]
struct Deadlines {
    ended: u64,
    next: Option<Instant>,
}

impl Deadlines {
    /// Whether deals have ended since the last look, and another look is not too early.
    fn some_passed(&mut self, handle: &Handle, now: Instant) -> bool {
        if self.next.is_some_and(|next| now < next) {
            return false;
        }
        let Ok(Some(Record::Tally(tally))) = handle.record(&Key::Tally) else { return false };
        let ended = tally.expired.saturating_add(tally.ended);
        std::mem::replace(&mut self.ended, ended) != ended
    }
    /// The next look comes after some seconds, and later if looking takes long.
    fn looked(&mut self, begun: Instant, took: Duration) {
        self.next = Some(begun + LOOK_AGAIN.max(took.saturating_mul(LOOK_SHARE)));
    }
}

/// What a block changed in this node's duties.
#[derive(Debug, Default, PartialEq, Eq)]
struct Changed {
    /// Deals that opened, or that this node has a slot of now.
    opened: Vec<FileId>,
    /// Deals that ended. Those that ended by deadline are in no receipt; the look-through finds them.
    ended: Vec<FileId>,
    /// Slots that another node has now.
    gone: Vec<SlotId>,
}

impl Changed {
    fn of(events: impl Iterator<Item = Event>, me: NodeId) -> Self {
        let mut changed = Self::default();
        for event in events {
            match event {
                Event::FileCommitted(file) => changed.opened.push(file),
                Event::FileDeleted(file) | Event::FileExpired(file) | Event::FileEnded(file) => {
                    changed.ended.push(file)
                }
                Event::SlotTaken { file, to, .. } if to == me => changed.opened.push(file),
                Event::SlotTaken { file, slot, from, .. } if from == me => changed.gone.push(SlotId { file, slot }),
                _ => {}
            }
        }
        changed
    }

    async fn follow(self, handle: &Handle, slots: &Slots) {
        for file in self.opened {
            covered(handle, slots, file).await;
        }
        for file in self.ended {
            remove(slots, file, None).await;
        }
        for SlotId { file, slot } in self.gone {
            // It may have come back since.
            match handle.record(&Key::File(file)) {
                Ok(Some(Record::File(deal))) if has_other_holder(&deal, slot, &handle.identity().node) => {
                    remove(slots, file, Some(slot)).await;
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(%file, slot, %error, "a file's deal could not be read"),
            }
        }
    }
}

fn changed_in(handle: &Handle, height: Height) -> Result<Changed, NodeError> {
    let receipts = receipts(&handle.snapshot()?, height)?;
    Ok(Changed::of(receipts.into_iter().flat_map(|receipt| receipt.events), handle.identity().node))
}

/// Whether the slot of an open deal is another node's, by the ledger.
fn has_other_holder(deal: &Deal, slot: u8, me: &NodeId) -> bool {
    !deal.lost.has(slot) && deal.placement.get(usize::from(slot)) != Some(me)
}

/// Slots that are this node's by an open deal count against whoever brought them no more. One that the ledger says it holds,
/// by an old receipt, and that is not here any more, is fetched anew before an audit asks for it.
pub(super) async fn covered(handle: &Handle, slots: &Slots, file: FileId) {
    let (deal, manifest) = match handle.file(&file) {
        Ok((deal, Some(manifest))) if deal.status.is_open() => (deal, manifest),
        _ => return,
    };
    let (held, me) = (slots.clone(), handle.identity().node);
    let done = blocking(move || {
        let listed = |(place, root): &(u8, SlotRoot)| {
            let slot = manifest.slots.get(usize::from(*place));
            deal.placement.get(usize::from(*place)) == Some(&me) && slot.is_some_and(|slot| slot.root == *root)
        };
        let here = held.of_file(&file)?;
        for place in foreign(&manifest.slots, &here) {
            if let Err(error) = held.remove_slot(&file, place) {
                tracing::warn!(%file, place, %error, "what is at a slot's place and is not that slot stays until the next look");
            }
        }
        let places: Vec<u8> = here.iter().filter(|slot| listed(slot)).map(|slot| slot.0).collect();
        held.covered(&file, &places);
        Ok(missing(&deal, &me, &places))
    });
    match done.await {
        Ok(missing) if missing.is_empty() => {}
        Ok(missing) => handle.lacking().add(missing.into_iter().map(|slot| SlotId { file, slot })),
        Err(error) => tracing::warn!(%file, %error, "the slots of a deal could not be looked up"),
    }
}

/// Places of a file with something else here than the file's slot. It may have come before the deal; it is of no use, and keeps
/// the slot itself out.
fn foreign(slots: &[SlotInfo], here: &[(u8, SlotRoot)]) -> Vec<u8> {
    let is_slot =
        |(place, root): &&(u8, SlotRoot)| slots.get(usize::from(*place)).is_some_and(|slot| slot.root == *root);
    here.iter().filter(|claim| !is_slot(claim)).map(|(place, _)| *place).collect()
}

/// Slots that the node holds by its receipt and that are not among those that are here.
fn missing(deal: &Deal, me: &NodeId, here: &[u8]) -> Vec<u8> {
    let mine = |slot: &u8| deal.placement.get(usize::from(*slot)) == Some(me) && !here.contains(slot);
    deal.confirmed.iter().filter(mine).collect()
}

/// Removes a file's slots, or one of them.
async fn remove(slots: &Slots, file: FileId, slot: Option<u8>) {
    let held = slots.clone();
    let removed = blocking(move || match slot {
        None => held.remove_file(&file),
        Some(slot) => held.remove_slot(&file, slot),
    });
    match removed.await {
        Ok(removed) if removed.is_empty() => {}
        Ok(removed) => {
            let bytes: u64 = removed.iter().map(|(_, len)| len).sum();
            tracing::info!(%file, slot, slots = removed.len(), bytes, "slots are no longer this node's; their space is free again");
        }
        Err(error) => tracing::warn!(%file, slot, %error, "slots that are no longer this node's could not be removed"),
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SlotError> + Send + 'static,
) -> Result<T, SlotError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(StoreError::Stopped.into()))
}

/// Slots here that are not this node's by the chain, and since when: of a file that it does not know, or with another
/// holder. They may be on their way into a deal.
#[derive(Default)]
struct Orphans(BTreeMap<SlotId, Height>);

impl Orphans {
    async fn look_through(&mut self, handle: &Handle, slots: &Slots, height: Height) -> Result<(), NodeError> {
        let mut strange = BTreeSet::new();
        let mut after = None;
        loop {
            let all = slots.clone();
            let page = blocking(move || Ok(all.claims(after.as_ref(), PAGE)?)).await?;
            let Some(last) = page.last() else { break };
            after = Some(*last);
            for (file, slot, _) in page {
                match handle.record(&Key::File(file))? {
                    Some(Record::File(deal)) if deal.status.is_open() => {
                        if has_other_holder(&deal, slot, &handle.identity().node) {
                            strange.insert(SlotId { file, slot });
                        } else {
                            covered(handle, slots, file).await;
                        }
                    }
                    Some(_) => remove(slots, file, None).await,
                    None => {
                        strange.insert(SlotId { file, slot });
                    }
                }
            }
        }
        // A node that is behind does not know yet what the chain knows.
        let behind = handle.status().is_none_or(|status| status.sync_target.is_some());
        for SlotId { file, slot } in self.overdue(&strange, height, behind) {
            remove(slots, file, Some(slot)).await;
        }
        Ok(())
    }

    /// Takes note of what is strange now. Returns what has been so for too long.
    fn overdue(&mut self, strange: &BTreeSet<SlotId>, height: Height, behind: bool) -> Vec<SlotId> {
        self.0.retain(|id, _| strange.contains(id));
        let mut overdue = Vec::new();
        for id in strange {
            let since = *self.0.entry(*id).or_insert(height);
            if !behind && height.get().saturating_sub(since.get()) > UNCOMMITTED_BLOCKS {
                overdue.push(*id);
            }
        }
        overdue
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: NodeId = NodeId::from_bytes([1; 32]);
    const OTHER: NodeId = NodeId::from_bytes([2; 32]);

    fn file(n: u8) -> FileId {
        FileId::from_bytes([n; 32])
    }

    #[test]
    fn what_was_taken_over_goes_and_what_is_lost_stays() {
        let taken = |slot, from, to| Event::SlotTaken { file: file(1), slot, from, to };
        let events = [
            Event::SlotLost { file: file(1), slot: 0, node: ME },
            taken(1, ME, OTHER),
            taken(2, OTHER, ME),
            taken(3, ME, ME),
            taken(4, OTHER, OTHER),
            Event::FileEnded(file(2)),
            Event::FileFinal(file(3)),
        ];
        let changed = Changed::of(events.into_iter(), ME);
        let gone = vec![SlotId { file: file(1), slot: 1 }];
        assert_eq!(changed, Changed { opened: vec![file(1), file(1)], ended: vec![file(2)], gone });
    }

    #[test]
    fn what_is_at_the_place_of_a_slot_and_is_not_that_slot_goes() {
        let root = |n| SlotRoot::from_bytes([n; 32]);
        let slots = [root(1), root(2), root(2)].map(|root| SlotInfo { root, len: 5 });
        assert!(foreign(&slots, &[(0, root(1)), (1, root(2)), (2, root(2))]).is_empty());
        assert_eq!(foreign(&slots, &[(0, root(2)), (1, root(2)), (2, root(9)), (3, root(1))]), [0, 2, 3]);
    }

    #[test]
    fn a_slot_without_a_deal_is_kept_as_long_as_a_receipt_for_it_may_be_used() {
        let mut orphans = Orphans::default();
        let (id, begin) = (SlotId { file: file(1), slot: 0 }, Height::new(5));
        let later = Height::new(begin.get() + UNCOMMITTED_BLOCKS + 1);
        let strange = BTreeSet::from([id]);
        assert_eq!(orphans.overdue(&strange, begin, false), []);
        assert_eq!(orphans.overdue(&strange, later, true), [], "a node that is behind throws nothing away");
        assert_eq!(orphans.overdue(&strange, later, false), [id]);
        assert_eq!(orphans.overdue(&BTreeSet::new(), later, false), []);
        assert_eq!(orphans.overdue(&strange, later, false), [], "it begins anew");
    }
}

//! Look: what the chain says is lost or leaves its node, and what of it this node could bring here.

use std::collections::{BTreeMap, BTreeSet};

use super::Keeper;
use super::plan::{Kind, Nodes, Want, sort, spare, turn};
use crate::ledger::record::{Deal, SlotId};
use crate::ledger::{Key, Record, is_long_since};
use crate::node::app::read_record;
use crate::node::handle::NodeError;
use crate::store::{Claim, Snapshot};
use crate::types::{FileId, Height, NodeId};

/// Files with a lost slot, and slots of a draining node, that one look takes in. The rest comes when these are done.
const FILES_MAX: usize = 4_096;
/// Claims of this node's own that one look takes in.
const CLAIMS_MAX: usize = 512;
/// Slots that are handed on, the most urgent ones.
const WANTS_MAX: usize = 64;
/// Rows read at once.
const PAGE: usize = 512;
/// A look is repeated after so many blocks even if nothing is due: new losses may have come.
const AGAIN_BLOCKS: u64 = 8;

/// What a look found.
#[derive(Debug, Default)]
pub struct Found {
    /// Slots whose turn it is, the most urgent first.
    pub due: Vec<Want>,
    /// All slots that this node could take, now or later.
    pub wanted: BTreeSet<SlotId>,
}

/// Looks, and remembers since when each slot was seen lost: the chain says it only of a file's first.
#[derive(Debug, Default)]
pub struct Lookout {
    seen: BTreeMap<SlotId, Height>,
    again: Height,
    lacking: usize,
    /// The last claim that was looked at; looking goes round.
    claim: Option<Claim>,
}

impl Lookout {
    /// Whether there is reason to look: something is lost, drains or is damaged, and the last look is old enough.
    pub fn has_reason(&self, keeper: &Keeper, at: Height) -> Result<bool, NodeError> {
        let lacking = keeper.lacking().all().len();
        if lacking != self.lacking {
            return Ok(true);
        }
        if at < self.again {
            return Ok(false);
        }
        let snapshot = keeper.handle.snapshot()?;
        let any = |prefix: &[u8]| snapshot.state_scan(prefix, None, 1).map(|rows| !rows.is_empty());
        let reason = lacking > 0 || !self.seen.is_empty() || any(&Key::lost())? || any(&Key::draining())?;
        Ok(reason || holds_more(keeper)?)
    }

    /// Looks at the chain as it is after the block at `at`. Blocks on the disk.
    pub fn look(&mut self, keeper: &Keeper, at: Height) -> Result<Found, NodeError> {
        let nodes = Nodes::new(keeper.me(), keeper.handle.nodes()?);
        let snapshot = keeper.handle.snapshot()?;
        let lacking = keeper.lacking().all();
        self.lacking = lacking.len();
        let mut view = View { keeper, snapshot, nodes, at, seen: &self.seen, wants: Vec::new(), oldest: None };
        for id in lacking {
            view.lacking(id)?;
        }
        if view.nodes.takes_part() {
            view.lost()?;
            view.draining()?;
            if holds_more(keeper)? {
                self.claim = view.back(self.claim.take())?;
            }
        }
        let View { mut wants, oldest, snapshot, .. } = view;
        self.seen = wants.iter().map(|want| (want.id, want.since)).collect();
        sort(&mut wants);
        let next = wants.iter().map(|want| want.from).filter(|from| *from > at).min();
        let later = Height::new(at.get().saturating_add(AGAIN_BLOCKS));
        self.again = next.unwrap_or(later).min(later);
        keeper.counts().queue.set(i64::try_from(wants.len()).unwrap_or(i64::MAX));
        let since = oldest.map(|since| snapshot.header(since)).transpose()?.flatten();
        let age = since.map_or(0, |header| keeper.handle.clock().now().saturating_sub(header.time).get() / 1_000);
        keeper.counts().oldest.set(i64::try_from(age).unwrap_or(i64::MAX));
        let wanted = wants.iter().map(|want| want.id).collect();
        wants.retain(|want| want.from <= at);
        wants.truncate(WANTS_MAX);
        Ok(Found { due: wants, wanted })
    }
}

/// Whether there are bytes here that the ledger does not say this node holds. They may be slots that it gave up.
fn holds_more(keeper: &Keeper) -> Result<bool, NodeError> {
    let held = keeper.entry()?.map_or(0, |entry| entry.held.get());
    Ok(keeper.slots.usage()?.stored.get() > held)
}

struct View<'a> {
    keeper: &'a Keeper,
    snapshot: Snapshot,
    nodes: Nodes,
    at: Height,
    seen: &'a BTreeMap<SlotId, Height>,
    wants: Vec<Want>,
    oldest: Option<Height>,
}

impl View<'_> {
    fn deal(&self, file: &FileId) -> Result<Option<Deal>, NodeError> {
        match read_record(&self.snapshot, &Key::File(*file))? {
            Some(Record::File(deal)) if deal.status.is_open() => Ok(Some(*deal)),
            _ => Ok(None),
        }
    }

    /// A slot of this node's that is not here, if it is still this node's.
    fn lacking(&mut self, id: SlotId) -> Result<(), NodeError> {
        let deal = self.deal(&id.file)?;
        let mine = |deal: &Deal| {
            deal.placement.get(usize::from(id.slot)) == Some(&self.keeper.me()) && !deal.lost.has(id.slot)
        };
        match deal.filter(mine) {
            Some(deal) => {
                let since = self.seen.get(&id).copied().unwrap_or(self.at);
                self.wants.push(Want { id, kind: Kind::Own, spare: spare(&deal), since, from: self.at });
            }
            None => self.keeper.lacking().remove(&id),
        }
        Ok(())
    }

    fn lost(&mut self) -> Result<(), NodeError> {
        let mut files = 0;
        let mut after: Option<Vec<u8>> = None;
        while files < FILES_MAX {
            let page = self.snapshot.state_scan(&Key::lost(), after.as_deref(), PAGE)?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            files += page.len();
            for (key, bytes) in page {
                let Some(key @ Key::Lost(file)) = Key::from_bytes(&key) else { continue };
                let Ok(Record::Lost { since }) = Record::from_bytes(&key, &bytes) else { continue };
                self.oldest = Some(self.oldest.map_or(since, |oldest| oldest.min(since)));
                let Some(deal) = self.deal(&file)? else { continue };
                let epoch = self.keeper.handle.genesis().epoch_blocks;
                let waits_long = is_long_since(since, self.at, epoch);
                let here = self.keeper.slots.of_file(&file)?;
                for slot in deal.lost.iter() {
                    let root = here.iter().find(|(place, _)| *place == slot).map(|(_, root)| root);
                    let whole = root.map(|root| self.keeper.slots.has(root)).transpose()?.unwrap_or(false);
                    let kind = if whole { Kind::Back } else { Kind::Lost };
                    self.want(&deal, SlotId { file, slot }, kind, waits_long);
                }
            }
        }
        Ok(())
    }

    /// Slots that the ledger has given up and that are here whole, of files that nobody else is to rebuild yet: those are not in
    /// the ledger's list. Returns where the next look goes on.
    fn back(&mut self, after: Option<Claim>) -> Result<Option<Claim>, NodeError> {
        let claims = self.keeper.slots.claims(after.as_ref(), CLAIMS_MAX)?;
        for (file, slot, root) in &claims {
            let Some(deal) = self.deal(file)? else { continue };
            let mine = deal.placement.get(usize::from(*slot)) == Some(&self.keeper.me()) && deal.lost.has(*slot);
            if mine && !deal.repairing && self.keeper.slots.has(root)? {
                self.want(&deal, SlotId { file: *file, slot: *slot }, Kind::Back, false);
            }
        }
        Ok(claims.last().copied().filter(|_| claims.len() == CLAIMS_MAX))
    }

    fn draining(&mut self) -> Result<(), NodeError> {
        let rows = self.snapshot.state_scan(&Key::draining(), None, PAGE)?;
        let nodes = rows.iter().filter_map(|(key, _)| match Key::from_bytes(key) {
            Some(Key::Draining(node)) => Some(node),
            _ => None,
        });
        for node in nodes.collect::<Vec<_>>() {
            self.draining_node(&node)?;
        }
        Ok(())
    }

    fn draining_node(&mut self, node: &NodeId) -> Result<(), NodeError> {
        let mut slots = 0;
        let mut after: Option<Vec<u8>> = None;
        while slots < FILES_MAX {
            let page = self.snapshot.state_scan(&Key::held_by(node), after.as_deref(), PAGE)?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            slots += page.len();
            for (key, bytes) in page {
                let Some(key) = Key::from_bytes(&key) else { continue };
                let Ok(Record::Held(id)) = Record::from_bytes(&key, &bytes) else { continue };
                let Some(deal) = self.deal(&id.file)? else { continue };
                if deal.placement.get(usize::from(id.slot)) == Some(node) {
                    self.want(&deal, id, Kind::Drained, false);
                }
            }
        }
        Ok(())
    }

    /// Notes a slot if this node may take it over.
    fn want(&mut self, deal: &Deal, id: SlotId, kind: Kind, waits_long: bool) {
        let Some(rank) = self.nodes.rank(deal, &id, waits_long) else { return };
        let since = self.seen.get(&id).copied().unwrap_or(self.at);
        // What is here already costs nobody anything.
        let from = if kind == Kind::Back { self.at } else { turn(since, rank, deal.slot_len) };
        self.wants.push(Want { id, kind, spare: spare(deal), since, from });
    }
}

//! Catching up: finalized blocks of a peer, verified by certificate, executed, and finalized here.
//!
//! One peer is asked at a time, and one run of blocks is under way at a time, so that memory stays bounded. The peer is
//! not believed: every run ends with a certificate of the epoch's validators, and every block is executed. A peer that does
//! not deliver gives way to the next that spoke of a height.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use super::exec::{Command, Executed, ReplayFault};
use super::perform::{Finalized, write_final};
use super::{Chain, Links};
use crate::consensus::Event;
use crate::store::{StoreError, SyncBlock};
use crate::types::{Height, Millis, NodeId, limits};
use crate::wire::Certificate;

/// How long a request may be unanswered before the next peer may be asked.
const REQUEST_MS: u64 = 5_000;
/// A validator hears of a height by certificate too, and has most of the block already: it is behind only beyond this.
const IN_PASSING: u64 = 2;

/// What is under way.
#[derive(Default)]
pub struct Sync {
    /// Heights that peers say are final.
    heard: BTreeMap<NodeId, Height>,
    asked: Option<(NodeId, Millis)>,
    /// The last peer that did not deliver: the next one in order has its turn.
    failed: Option<NodeId>,
    /// Blocks that wait for their certificate or for their turn, all of the same peer.
    received: VecDeque<SyncBlock>,
    source: Option<NodeId>,
    replaying: Option<(NodeId, Certificate)>,
}

impl Sync {
    /// The height to be reached, if it is above this one by more than a block in passing.
    pub fn target_above(&self, height: Height) -> Option<Height> {
        let target = self.heard.values().max().copied();
        target.filter(|target| target.get() > height.get().saturating_add(IN_PASSING))
    }

    fn hear(&mut self, from: NodeId, height: Height) {
        if self.heard.len() < limits::VALIDATORS_MAX || self.heard.contains_key(&from) {
            let known = self.heard.entry(from).or_insert(height);
            *known = height.max(*known);
        }
    }

    /// Whom to ask for a height: who sent the blocks before it, or else the first after the one that failed last.
    fn peer_with(&self, height: Height) -> Option<NodeId> {
        if !self.received.is_empty() {
            return self.source;
        }
        let after = self.failed.map_or(Bound::Unbounded, Bound::Excluded);
        let behind = self.heard.range((after, Bound::Unbounded)).chain(self.heard.iter());
        behind.into_iter().find(|(_, known)| **known >= height).map(|(peer, _)| *peer)
    }

    /// This peer did not deliver: what it said and sent is forgotten.
    fn gave_nothing(&mut self, from: NodeId) {
        self.heard.remove(&from);
        self.failed = Some(from);
        self.received.clear();
    }
}

impl<L: Links> Chain<L> {
    /// A peer tells everyone that this height is final.
    pub(super) fn tip_of(&mut self, from: NodeId, height: Height) {
        let validates = self.set.index_of(&self.config.me).is_some();
        let in_passing = if validates { IN_PASSING } else { 0 };
        if height.get() > self.final_height().get().saturating_add(in_passing) {
            self.heard_of(from, height);
        }
    }

    /// A peer knows this height as final, and this node needs it.
    pub(super) fn heard_of(&mut self, from: NodeId, height: Height) {
        if height > self.final_height() {
            self.sync.hear(from, height);
            self.ask_on();
        }
    }

    fn final_height(&self) -> Height {
        let unwritten = self.unwritten.last().map(|last| last.certificate.height);
        unwritten.or_else(|| self.reader.tip().map(|tip| tip.height)).unwrap_or(Height::GENESIS)
    }

    /// Asks for the next blocks, if something is missing and nothing is under way.
    fn ask_on(&mut self) {
        let now = self.clock.now();
        let waiting = self.sync.asked.is_some_and(|(_, since)| now < since.saturating_add(Millis::new(REQUEST_MS)));
        if waiting || self.sync.replaying.is_some() {
            return;
        }
        let tip = self.final_height();
        self.sync.heard.retain(|_, known| *known > tip);
        let last = self.sync.received.back().map_or(tip, |last| last.block.header().height);
        let Some(next) = last.next() else { return };
        let Some(peer) = self.sync.peer_with(next) else { return };
        self.sync.asked = Some((peer, now));
        self.links.request_blocks(peer, next);
    }

    /// Blocks have come, or the word that none come.
    pub(super) fn received_blocks(&mut self, from: NodeId, blocks: Vec<SyncBlock>) -> Result<(), StoreError> {
        if self.sync.asked.is_none_or(|(asked, _)| asked != from) {
            return Ok(());
        }
        self.sync.asked = None;
        if blocks.is_empty() {
            // This peer does not have what it said, or no longer.
            self.sync.gave_nothing(from);
            if self.sync.heard.is_empty() {
                let height = self.final_height().get().saturating_add(1);
                tracing::warn!(
                    height,
                    "no validator that was asked sends the blocks from here on; if all have pruned them, an archive has to be \
                     connected, or a new home joins with sync.mode = \"snapshot\""
                );
            }
            self.ask_on();
            return Ok(());
        }
        self.sync.source = Some(from);
        self.sync.received.extend(blocks.into_iter().take(limits::SYNC_BLOCKS_MAX));
        self.replay_next(from)
    }

    /// Starts executing the next run: up to the last certified block that is of the current epoch.
    fn replay_next(&mut self, from: NodeId) -> Result<(), StoreError> {
        // They are to follow what is on disk.
        self.write_rest()?;
        let tip = self.final_height();
        while self.sync.received.front().is_some_and(|first| first.block.header().height <= tip) {
            self.sync.received.pop_front();
        }
        let end = self.config.last_height(self.context.epoch);
        let certified = |block: &SyncBlock| block.certificate.is_some() && block.block.header().height <= end;
        let Some(last) = self.sync.received.iter().rposition(certified) else {
            self.ask_for_certificate(from);
            return Ok(());
        };
        let run: Vec<_> = self.sync.received.drain(..=last).collect();
        match self.certified_run(&run) {
            Some(certificate) => {
                self.sync.replaying = Some((from, certificate));
                let blocks = run.into_iter().map(|block| Arc::new(block.block)).collect();
                self.command(Command::Replay(blocks));
            }
            None => self.give_up_on(from, "finalized blocks that are not certified"),
        }
        Ok(())
    }

    /// Blocks that became final together have one certificate, with the last of them: more of the same peer's are needed.
    fn ask_for_certificate(&mut self, from: NodeId) {
        let bytes: usize = self.sync.received.iter().map(|block| block.block.block.payload.len()).sum();
        let too_many = bytes > limits::SYNC_RUN_BYTES_MAX || self.sync.received.len() > limits::UNFINAL_BLOCKS_MAX;
        if too_many {
            return self.give_up_on(from, "more blocks without a certificate than can be unfinal at once");
        }
        self.ask_on();
    }

    /// The certificate of a run of blocks that follows the tip, block by block, and ends certified. The justifications
    /// are verified too: they are no part of the hash, and whoever fetches the block from here will look at them.
    fn certified_run(&mut self, run: &[SyncBlock]) -> Option<Certificate> {
        let tip = self.reader.tip()?;
        let (mut parent, mut height) = (tip.hash, tip.height);
        for block in run {
            let (header, justify) = (block.block.header(), &block.block.justify);
            let follows = header.parent == parent && Some(header.height) == height.next();
            let justified = justify.block == parent && justify.height == height;
            if !follows || !justified || self.verifier.certificate(justify).is_err() {
                return None;
            }
            (parent, height) = (header.hash(), header.height);
        }
        let certificate = run.last()?.certificate.clone()?;
        let fits = certificate.block == parent && certificate.height == height;
        let commit = certificate.kind == crate::wire::VoteKind::Commit;
        (fits && commit && self.verifier.certificate(&certificate).is_ok()).then_some(certificate)
    }

    /// A run was executed: finalize it here, tell the core, and go on.
    pub(super) fn replayed(
        &mut self,
        done: Vec<Arc<Executed>>,
        failed: Option<ReplayFault>,
        events: &mut VecDeque<Event>,
    ) -> Result<(), StoreError> {
        let Some((from, certificate)) = self.sync.replaying.take() else { return Ok(()) };
        match failed {
            Some(ReplayFault::Tampered(reason)) => {
                tracing::warn!(peer = ?from, reason, "a finalized block came with a payload that is not its own");
                self.give_up_on(from, "a finalized block with another payload");
                return Ok(());
            }
            Some(ReplayFault::Invalid(reason)) => {
                // A quorum has certified what this node finds invalid: its own state or program is damaged, or a third is
                // Byzantine. Going on would serve wrong answers.
                tracing::error!(reason, height = certificate.height.get(), "a certified block is invalid here");
                return Err(StoreError::corrupted(
                    "state.v1",
                    format!("block {} does not execute", certificate.height),
                ));
            }
            None => {}
        }
        // What came in before is settled first: it may have made some of these blocks final already.
        let pending = std::mem::take(events);
        self.turn(pending)?;
        self.write_rest()?;
        let tip = self.final_height();
        let new: Vec<_> = done.into_iter().filter(|executed| executed.block.header().height > tip).collect();
        if let Some(last) = new.last() {
            let block = last.block.clone();
            self.caught_end = last.epoch_end.clone();
            let mut batch = self.db.batch()?;
            write_final(&mut batch, &new, &certificate)?;
            self.prune(&mut batch)?;
            batch.commit()?;
            self.commits += 1;
            let headers: Vec<_> = new.iter().map(|executed| executed.block.header().clone()).collect();
            self.look_at_final(&headers)?;
            self.headers.extend(headers);
            let waiting = self.after_final(vec![Finalized { blocks: new, certificate: certificate.clone() }]);
            self.turn(VecDeque::from([Event::CaughtUp { block, certificate }, Event::Waiting(waiting)]))?;
        }
        if self.sync.received.is_empty() {
            self.ask_on();
            return Ok(());
        }
        self.replay_next(from)
    }

    fn give_up_on(&mut self, from: NodeId, what: &'static str) {
        self.links.blame(from, what);
        self.sync.gave_nothing(from);
        self.ask_on();
    }
}

#[cfg(test)]
#[path = "sync_tests.rs"]
mod tests;

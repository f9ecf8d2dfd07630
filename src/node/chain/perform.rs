//! Carrying out what the core says: durable first, then seen by others.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::exec::{BuildRequest, Command, Executed};
use super::{Chain, Links};
use crate::consensus::{Action, Event, To};
use crate::store::{FinalBlock, StoreError};
use crate::types::{BlockHash, Height, Millis, NodeId, limits};
use crate::wire::{self, Certificate, Message, ProposedBlock, Unsigned};

/// Blocks that become final together, with the certificate of the last.
pub(super) struct Finalized {
    pub blocks: Vec<Arc<Executed>>,
    pub certificate: Certificate,
}

impl<L: Links> Chain<L> {
    /// Hands out the work for other threads, because nobody outside sees it, and keeps the rest. Whether that may wait:
    /// until the block that was just asked for is there, if it is sure to come soon.
    pub(super) fn put_off(&mut self, actions: Vec<Action>) -> bool {
        let mut asked = false;
        for action in &actions {
            match action {
                Action::Check(block) => self.command(Command::Check(block.clone())),
                Action::Build { round, justify, height, even_empty } => {
                    let (round, justify, height, even_empty) = (*round, justify.clone(), *height, *even_empty);
                    self.command(Command::Build(BuildRequest { round, justify, height, even_empty }));
                    asked = true;
                }
                _ => {}
            }
        }
        let persists = actions.iter().any(|action| matches!(action, Action::Persist { .. }));
        self.put_off.extend(actions);
        let now = self.clock.now();
        match self.put_off_until {
            Some(until) => now < until && !persists,
            None => {
                // What waits is often in the blocks that are under way, and then nothing is built.
                let comes = asked && (self.more_waits)(&mut self.executed.values());
                let within = self.replica.next_persist().filter(|_| comes);
                self.put_off_until = within.map(|within| now.saturating_add(within));
                within.is_some_and(|within| within > Millis::ZERO)
            }
        }
    }

    /// One batch of actions: one transaction makes everything durable that must be; then messages leave, in their order.
    pub(super) fn perform(&mut self, actions: Vec<Action>, events: &mut VecDeque<Event>) -> Result<(), StoreError> {
        let finalized = self.make_durable(&actions)?;
        for action in actions {
            match action {
                Action::Broadcast(unsigned) => self.broadcast(unsigned, events),
                Action::Send { to, message } => self.send(to, &message),
                Action::Serve { to, block } => self.serve(to, &block)?,
                Action::SetTimer { timer, after } => self.timers.set(timer, self.clock.now().saturating_add(after)),
                Action::StopTimer(timer) => self.timers.stop(timer),
                Action::CatchUp { height, from } => self.heard_of(from, height),
                Action::Evidence(evidence) => self.links.evidence(&evidence),
                Action::Check(_) | Action::Build { .. } | Action::Persist { .. } | Action::Finalize { .. } => {}
            }
        }
        if !finalized.is_empty() {
            events.push_back(Event::Waiting(self.after_final(finalized)));
        }
        Ok(())
    }

    /// Everything of this batch that must last, in one transaction with one commit. Final blocks alone wait a moment for
    /// the next vote's commit, if one is near: nothing that is sent rests on them, and nobody hears of them before.
    fn make_durable(&mut self, actions: &[Action]) -> Result<Vec<Finalized>, StoreError> {
        let mut blocks = Vec::new();
        let mut record = None;
        for action in actions {
            match action {
                Action::Persist { record: newer, blocks: more } => {
                    blocks.extend(more);
                    record = Some(newer);
                }
                Action::Finalize { blocks, certificate } => {
                    let blocks = blocks.iter().map(|block| self.executed_block(block)).collect();
                    self.unwritten.push(Finalized { blocks, certificate: certificate.clone() });
                }
                _ => {}
            }
        }
        if record.is_none() && !self.lifting && !self.must_write_now() {
            return Ok(Vec::new());
        }
        self.write_by = None;
        let mut batch = self.db.batch()?;
        for Finalized { blocks, certificate } in &self.unwritten {
            write_final(&mut batch, blocks, certificate)?;
        }
        batch.put_pending(blocks.into_iter().map(AsRef::as_ref))?;
        if let Some(record) = record {
            batch.put_record(&wire::encode(record.as_ref()))?;
        }
        if std::mem::take(&mut self.guard.unsaved) {
            batch.raise_watermarks(&self.guard.seen)?;
        }
        // Not before the end of the epoch in which the key had to be silent: both become durable together.
        if std::mem::take(&mut self.lifting) {
            batch.lift_quarantine()?;
        }
        self.prune(&mut batch)?;
        batch.commit()?;
        self.commits += 1;
        Ok(std::mem::take(&mut self.unwritten))
    }

    /// Removes some of the bodies that are no longer kept, with what is written anyway.
    pub(super) fn prune(&mut self, batch: &mut crate::store::Batch) -> Result<(), StoreError> {
        let tip = batch.height().get();
        let kept = self.keep.map_or(0, |keep| tip.saturating_add(1).saturating_sub(keep));
        let below = Height::new(kept).max(self.prune_below);
        if below > Height::GENESIS {
            batch.prune_bodies(below, limits::PRUNE_STEP)?;
        }
        Ok(())
    }

    fn must_write_now(&mut self) -> bool {
        if self.unwritten.is_empty() {
            return false;
        }
        let now = self.clock.now();
        // Without further transactions no vote is near, and whoever waits for these would wait in vain.
        let more = (self.more_waits)(&mut self.unwritten.iter().flat_map(|last| &last.blocks));
        match (self.write_by, self.replica.next_persist().filter(|_| more)) {
            (_, None) => true,
            (Some(by), _) => by <= now,
            (None, Some(within)) => {
                self.write_by = Some(now.saturating_add(within));
                within == Millis::ZERO
            }
        }
    }

    /// Carries out what was put off, and writes down the final blocks that wait for it.
    pub(super) fn write_rest(&mut self) -> Result<(), StoreError> {
        while !(self.put_off.is_empty() && self.unwritten.is_empty()) {
            (self.write_by, self.put_off_until) = (Some(Millis::ZERO), Some(Millis::ZERO));
            self.turn(VecDeque::new())?;
        }
        Ok(())
    }

    fn executed_block(&self, block: &Arc<ProposedBlock>) -> Arc<Executed> {
        let executed = self.executed.get(&block.block.hash());
        executed.expect("the core finalizes only blocks that were checked here").clone()
    }

    /// What is done once blocks are final on disk: the others hear of it, and what is settled is forgotten.
    pub(super) fn after_final(&mut self, finalized: Vec<Finalized>) -> bool {
        self.final_at = self.clock.now();
        let mut waiting = false;
        for Finalized { blocks, certificate } in finalized {
            waiting = (self.on_final)(&blocks);
            let proposed_here = blocks.last().is_some_and(|last| last.block.header().proposer == self.config.me);
            self.links.announce(certificate.height, proposed_here);
            self.executed.retain(|_, executed| executed.block.header().height > certificate.height);
            self.command(Command::Finalized(blocks));
            self.part(certificate.height);
        }
        waiting
    }

    /// The one place where the node key signs for consensus.
    fn broadcast(&mut self, unsigned: Unsigned, events: &mut VecDeque<Event>) {
        // What the core said before it was told to be silent.
        if self.guard.silence.is_some() {
            return;
        }
        let message = unsigned.sign(&self.config.chain, &self.key);
        self.send(To::All, &message);
        events.push_back(Event::Received { from: self.config.me, message });
    }

    fn send(&mut self, to: To, message: &Message) {
        let frame = Bytes::from(wire::encode(message));
        match to {
            To::One(node) => self.links.send(&[node], frame),
            To::All => {
                let all = self.set.members().iter().map(|validator| validator.node);
                let others: Vec<_> = all.filter(|node| *node != self.config.me).collect();
                self.links.send(&others, frame);
            }
        }
    }

    fn serve(&mut self, to: NodeId, hash: &BlockHash) -> Result<(), StoreError> {
        if let Some(block) = self.reader.snapshot()?.block_by_hash(hash)? {
            self.send(To::One(to), &Message::Block(Box::new(block)));
        }
        Ok(())
    }
}

/// Writes blocks that became final together; the certificate is of the last.
pub(super) fn write_final(
    batch: &mut crate::store::Batch,
    blocks: &[Arc<Executed>],
    certificate: &Certificate,
) -> Result<(), StoreError> {
    for executed in blocks {
        let own = (executed.hash == certificate.block).then_some(certificate);
        batch.finalize(&FinalBlock {
            block: &executed.block,
            certificate: own,
            receipts: &executed.receipts,
            txs: &executed.txs,
            state: &executed.state,
            tree: &executed.tree,
        })?;
    }
    Ok(())
}

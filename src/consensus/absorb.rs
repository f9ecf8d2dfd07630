//! What certificates do: they move the view, call for commit votes, finalize, and end epochs (protocol rules 1, 4, 5, 14-16).

use std::sync::Arc;

use crate::types::Round;
use crate::wire::{Certificate, Newest, ProposedBlock, TimeoutCertificate, VoteKind};

use super::context::EpochContext;
use super::event::{Action, Timer};
use super::leader::Leaders;
use super::replica::Replica;
use super::safety;

impl Replica {
    /// Takes the certificates that came with a message, of whatever view (rule 15).
    pub(super) fn absorb_newest(&mut self, newest: &Newest) {
        if let Some(commit) = &newest.commit {
            self.absorb(commit);
        }
        self.absorb(&newest.high);
        if let Some(timeout) = &newest.timeout {
            self.absorb_timeout(timeout);
        }
    }

    /// Takes a certificate of votes.
    pub(super) fn absorb(&mut self, certificate: &Certificate) {
        match certificate.kind {
            VoteKind::Prepare => self.absorb_prepare(certificate),
            VoteKind::Commit => self.absorb_commit(certificate),
        }
    }

    /// Rule 4: the high QC, the view entry, then the commit vote.
    fn absorb_prepare(&mut self, certificate: &Certificate) {
        if certificate.round.epoch != self.context.epoch {
            return;
        }
        self.pacemaker.certified(certificate.round, self.now);
        if certificate.rank() > self.record.high.rank() {
            self.record.high = certificate.clone();
            self.dirty = true;
            self.advance();
        }
        self.commit(certificate);
    }

    fn absorb_commit(&mut self, certificate: &Certificate) {
        let newest = self.record.commit.as_ref().is_none_or(|known| known.round < certificate.round);
        if newest && safety::is_above(certificate, self.tree.height()) {
            self.record.commit = Some(certificate.clone());
            self.dirty = true;
        }
    }

    /// The highest QC in a timeout certificate counts before the certificate itself.
    pub(super) fn absorb_timeout(&mut self, timeout: &TimeoutCertificate) {
        self.absorb(&timeout.high);
        let newest = self.record.timeout.as_ref().is_none_or(|known| known.round < timeout.round);
        if newest && timeout.round.epoch == self.context.epoch {
            self.record.timeout = Some(timeout.clone());
            self.dirty = true;
            self.advance();
        }
    }

    /// The view that the highest certificates open: a view is never known without them (rule 8).
    pub(super) fn opened_view(&self) -> Round {
        let timeout = self.record.timeout.as_ref().map(|timeout| timeout.round);
        let before = timeout.max(Some(self.record.high.rank())).unwrap_or_default();
        let view = before.next().unwrap_or(before);
        #[cfg(feature = "planted-bugs")]
        let view = self.bare.map_or(view, |bare| bare.max(view));
        view
    }

    /// Enters the view that the certificates open, if it is a later one.
    pub(super) fn advance(&mut self) {
        let round = self.opened_view();
        if round <= self.round {
            return;
        }
        let left_late = self.gave_up(self.round) && self.round.epoch == round.epoch;
        self.round = round;
        self.proposal = None;
        self.invalid = 0;
        self.asked = None;
        if left_late && !self.by_timeout() {
            self.pacemaker.too_early();
        }
        self.pacemaker.enter(self.now, self.by_timeout());
        self.timers.at(Timer::Repeat, None);
        self.votes.prune(round);
        if self.gave_up(round) {
            self.time_out();
        }
    }

    /// Whether this replica's own timer ran out in the view, or in a later one.
    pub(super) fn gave_up(&self, round: Round) -> bool {
        self.record.last_timeout.is_some_and(|last| last >= round)
    }

    /// Whether the current view was entered after a timeout, not by the QC of the view before.
    pub(super) fn by_timeout(&self) -> bool {
        self.record.high.rank().next() != Some(self.round)
    }

    /// Rule 14: the highest commit certificate is tried again after every event.
    pub(super) fn try_finalize(&mut self) {
        let above = |certificate: &&Certificate| safety::is_above(certificate, self.tree.height());
        let Some(certificate) = self.record.commit.as_ref().filter(above).cloned() else { return };
        if !self.prepare(&certificate) {
            return;
        }
        let Some(blocks) = self.tree.path(&certificate.block) else { return };
        self.settle(&certificate);
        self.out.push(Action::Finalize { blocks, certificate });
    }

    fn settle(&mut self, certificate: &Certificate) {
        self.tree.finalize(certificate.block, certificate.height);
        self.fetches.prune(certificate.height);
        self.pacemaker.finalized();
        self.last_final = certificate.round;
        self.asked_to_catch_up = None;
        if certificate.height >= self.config.last_height(self.context.epoch) {
            self.ended = true;
            self.proposal = None;
        }
    }

    /// Rule 16: the next epoch begins when the last block of the old one is final, and not before.
    pub(super) fn next_epoch(&mut self, context: EpochContext) {
        if context.epoch <= self.context.epoch {
            return;
        }
        self.leaders = Leaders::new(&context);
        self.index = context.set.index_of(&self.config.me);
        self.votes = Default::default();
        self.heard.clear();
        self.ended = self.tree.height() >= self.config.last_height(context.epoch);
        self.context = context;
        if self.context.opening.rank() > self.record.high.rank() {
            self.record.high = self.context.opening.clone();
            self.dirty = true;
        }
        self.advance();
    }

    /// The shell finalized blocks that a peer gave it whole.
    pub(super) fn caught_up(&mut self, block: &Arc<ProposedBlock>, certificate: Certificate) {
        if !safety::is_above(&certificate, self.tree.height()) || block.block.hash() != certificate.block {
            return;
        }
        self.settle(&certificate);
        if self.record.commit.as_ref().is_none_or(|known| known.round < certificate.round) {
            self.record.commit = Some(certificate);
            self.dirty = true;
        }
    }
}

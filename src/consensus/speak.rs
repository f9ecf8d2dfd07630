//! What this replica signs, and when: proposals, both votes, timeouts, and all of them again (protocol rules 3, 4, 8-11, 16).

use std::sync::Arc;

use crate::types::{BlockHash, Round};
use crate::wire::message::Offer;
use crate::wire::{Certificate, Newest, ProposedBlock, Unsigned, VoteKind};

use super::event::{Action, Timer};
use super::planted::Bug;
use super::record::{CastProposal, CastVote};
use super::replica::Replica;
use super::safety;

impl Replica {
    /// Rule 8: the record first, then what it guards.
    fn say(&mut self, blocks: Vec<Arc<ProposedBlock>>, messages: Vec<Unsigned>) {
        let messages = messages.into_iter().map(Action::Broadcast);
        let persist = (self.dirty || !blocks.is_empty())
            .then(|| Action::Persist { record: Box::new(self.record.clone()), blocks });
        self.dirty = false;
        if self.config.planted.has(Bug::VoteBeforePersist) {
            self.out.extend(messages);
            self.out.extend(persist);
        } else {
            self.out.extend(persist);
            self.out.extend(messages);
        }
    }

    /// Rule 3: votes for the current view's proposal once the block and its ancestors are executed.
    pub(super) fn try_vote(&mut self) {
        let Some(proposal) = &self.proposal else { return };
        if !self.may_sign() || proposal.round != self.round || !safety::may_vote(&self.record, self.round) {
            return;
        }
        if let Offer::Block(block) = &proposal.offer
            && !safety::is_timely(block.header(), self.now)
        {
            return;
        }
        let (block, height, justify) =
            (proposal.offer.hash(), proposal.offer.height(), proposal.offer.justify().clone());
        let tail = matches!(proposal.offer, Offer::Tail { .. });
        if !self.prepare(&justify) || !(tail || self.execute(&block)) {
            return;
        }
        let vote = self.cast_vote(block, height);
        let blocks = self.tree.take_unstored(&block);
        self.say(blocks, vote);
    }

    fn execute(&mut self, block: &BlockHash) -> bool {
        if self.tree.is_executed(block) {
            return true;
        }
        if let Some(proposed) = self.tree.ask(block) {
            self.out.push(Action::Check(proposed));
        }
        false
    }

    fn cast_vote(&mut self, block: BlockHash, height: crate::types::Height) -> Vec<Unsigned> {
        let cast = CastVote { round: self.round, block, height };
        self.record.last_vote = Some(cast);
        self.dirty = true;
        self.vote_message(VoteKind::Prepare, cast).into_iter().collect()
    }

    fn vote_message(&self, kind: VoteKind, cast: CastVote) -> Option<Unsigned> {
        let CastVote { round, block, height } = cast;
        Some(Unsigned::Vote { kind, round, height, block, index: self.index?, newest: self.newest() })
    }

    /// Rule 4.
    pub(super) fn commit(&mut self, certificate: &Certificate) {
        let allowed = self.may_sign() && self.floor.is_none_or(|floor| certificate.round > floor);
        if !allowed || !safety::may_commit(&self.config, &self.record, self.last_final, certificate) {
            return;
        }
        let cast = CastVote { round: certificate.round, block: certificate.block, height: certificate.height };
        self.record.last_commit_vote = Some(cast);
        self.dirty = true;
        let message = self.vote_message(VoteKind::Commit, cast);
        self.say(Vec::new(), message.into_iter().collect());
    }

    /// The current view is given up, for the first time.
    pub(super) fn give_up(&mut self) {
        if self.may_sign() && self.record.last_timeout.is_none_or(|last| last < self.round) {
            self.record.last_timeout = Some(self.round);
            self.dirty = true;
            self.time_out();
        }
    }

    /// Sends the timeout of the current view, which the record already holds, and keeps repeating it (rule 11).
    pub(super) fn time_out(&mut self) {
        let Some(index) = self.index.filter(|_| self.may_sign()) else { return };
        let message = Unsigned::Timeout { round: self.round, index, newest: self.newest() };
        self.say(Vec::new(), vec![message]);
        self.keep_repeating();
    }

    /// Starts repeating, if the current view was given up.
    pub(super) fn keep_repeating(&mut self) {
        if self.gave_up(self.round) {
            self.repeat_after = self.pacemaker.base();
            self.timers.at(Timer::Repeat, Some(self.now.saturating_add(self.repeat_after)));
        }
    }

    /// Sends the newest own messages again, with the newest certificates (rules 10, 11, 13).
    pub(super) fn repeat(&mut self) {
        let Some(index) = self.index.filter(|_| self.may_sign()) else { return };
        let mut messages = Vec::new();
        let record = &self.record;
        if let Some(cast) = record.last_proposal.as_ref().filter(|cast| cast.round == self.round) {
            messages.extend(self.proposal_message(index, cast));
        }
        if let Some(cast) = record.last_vote.filter(|cast| cast.round == self.round) {
            messages.extend(self.vote_message(VoteKind::Prepare, cast));
        }
        if let Some(cast) = record.last_commit_vote.filter(|cast| cast.round > self.last_final) {
            messages.extend(self.vote_message(VoteKind::Commit, cast));
        }
        if record.last_timeout.is_some_and(|last| last >= self.round) {
            messages.push(Unsigned::Timeout { round: self.round, index, newest: self.newest() });
        }
        if !messages.is_empty() {
            self.say(Vec::new(), messages);
        }
    }

    /// The leader's part: asks for a block on the highest QC, or proposes a tail.
    pub(super) fn try_propose(&mut self) {
        if !self.may_sign() || !self.leads() || !safety::may_propose(&self.record, self.round) {
            return;
        }
        let even_empty = self.pacemaker.is_eager() || self.now >= self.pacemaker.idle_end();
        let high = self.record.high.clone();
        if safety::is_tail_of(&self.config, &high) {
            if even_empty && !self.config.planted.has(Bug::NoTails) {
                self.propose(Offer::Tail { block: high.block, height: high.height, justify: high });
            }
            return;
        }
        if self.asked >= Some(even_empty) || !self.prepare(&high) {
            return;
        }
        let Some(height) = high.height.next() else { return };
        self.asked = Some(even_empty);
        self.out.push(Action::Build { round: self.round, justify: high, height, even_empty });
    }

    /// The shell has built a block; it is proposed if it still fits the view.
    pub(super) fn built(&mut self, round: Round, block: Arc<ProposedBlock>) {
        let fits = round == self.round
            && block.header().round == round
            && self.leads()
            && safety::may_propose(&self.record, round)
            && safety::is_justified(&self.config, round, &block.justify, self.record.timeout.as_ref())
            && safety::extends(&self.config, block.header(), &block.justify);
        if !fits || !self.may_sign() {
            return;
        }
        let hash = block.block.hash();
        let keep = block.justify.block;
        self.tree.insert(block.clone(), false, &keep);
        self.tree.executed(&hash);
        self.propose(Offer::Block(ProposedBlock::clone(&block)));
    }

    /// Rule 10: the proposal is durable before it is sent. The own vote goes along, at no further cost.
    fn propose(&mut self, offer: Offer) {
        let Some(index) = self.index else { return };
        let (block, height) = (offer.hash(), offer.height());
        let tail = match &offer {
            Offer::Block(_) => None,
            Offer::Tail { justify, .. } => Some(justify.clone()),
        };
        self.pacemaker.offered(self.round, self.now);
        let cast = CastProposal { round: self.round, block, height, tail };
        let mut messages: Vec<_> = self.proposal_message(index, &cast).into_iter().collect();
        self.record.last_proposal = Some(cast);
        self.dirty = true;
        if safety::may_vote(&self.record, self.round) && self.tree.is_executed(&block) {
            messages.extend(self.cast_vote(block, height));
        }
        let blocks = self.tree.take_unstored(&block);
        self.say(blocks, messages);
    }

    fn proposal_message(&self, index: u16, cast: &CastProposal) -> Option<Unsigned> {
        let (block, height, round) = (cast.block, cast.height, cast.round);
        let offer = match &cast.tail {
            Some(justify) => Offer::Tail { block, height, justify: justify.clone() },
            None => Offer::Block(ProposedBlock::clone(self.tree.get(&block)?)),
        };
        // The view's TC is part of the justification, also when a QC as high has come since.
        let justified_by_qc = offer.justify().rank().next() == Some(round);
        let timeout =
            self.record.timeout.clone().filter(|timeout| !justified_by_qc && timeout.round.next() == Some(round));
        let newest = Newest { timeout, ..self.newest() };
        Some(Unsigned::Proposal { round, index, offer, newest })
    }
}

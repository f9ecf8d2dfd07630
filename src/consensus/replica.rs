//! The replica: events in, actions out.
//!
//! An event changes what is known; `progress` then does whatever follows from it, however it came to be known. What
//! certificates do is in `absorb`, what is signed and when is in `speak`.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::types::{BlockHash, Epoch, Height, Millis, NodeId, Round, limits};
use crate::wire::message::{Offer, Proposal, Timeout, Vote};
use crate::wire::{Certificate, Message, Newest, ProposedBlock, TimeoutCertificate};

use super::blocks::{Need, Tree};
use super::context::{Config, EpochContext, Resume, Status};
use super::event::{Action, Event, Timer, To, Verdict};
use super::fetch::Fetches;
use super::leader::Leaders;
use super::pacemaker::{Pacemaker, Timers};
use super::planted::Bug;
use super::record::SafetyRecord;
use super::safety;
use super::votes::Votes;

/// One validator's, or follower's, part in the protocol. A node outside the set follows: it takes certificates, fetches
/// and finalizes, and signs nothing.
pub struct Replica {
    pub(super) config: Config,
    pub(super) context: EpochContext,
    pub(super) leaders: Leaders,
    /// Own place in the set.
    pub(super) index: Option<u16>,
    pub(super) silent_until: Option<Epoch>,
    /// Nothing of this view or an earlier one is signed: the key may have been used there without this record.
    pub(super) floor: Option<Round>,
    /// What is or will be on disk; `dirty` when it differs from what was persisted last.
    pub(super) record: SafetyRecord,
    pub(super) dirty: bool,
    /// View of the certificate that finalized the last final block.
    pub(super) last_final: Round,
    pub(super) tree: Tree,
    pub(super) fetches: Fetches,
    pub(super) votes: Votes,
    pub(super) pacemaker: Pacemaker,
    pub(super) timers: Timers,
    /// The current view.
    pub(super) round: Round,
    /// A view known without its certificate: only by a planted bug.
    #[cfg(feature = "planted-bugs")]
    pub(super) bare: Option<Round>,
    /// The current view's proposal, accepted and not voted for yet.
    pub(super) proposal: Option<Box<Proposal>>,
    pub(super) invalid: u32,
    /// What was asked of the shell in the current view: nothing, a block, a block even if empty.
    pub(super) asked: Option<bool>,
    pub(super) repeat_after: Millis,
    /// The epoch's last block is final.
    pub(super) ended: bool,
    pub(super) heard: BTreeMap<u16, Millis>,
    pub(super) answered: BTreeMap<NodeId, Millis>,
    /// Last request to catch up: when, and how often since the last final block changed.
    pub(super) asked_to_catch_up: Option<(Millis, u32)>,
    pub(super) last_from: NodeId,
    pub(super) now: Millis,
    pub(super) out: Vec<Action>,
}

impl Replica {
    /// A replica as its disk knows it. It does nothing before `Event::Start`.
    pub fn new(config: Config, context: EpochContext, resume: Resume) -> Self {
        let Resume { record, blocks, last_final, silent_until } = resume;
        let mut record = record.unwrap_or_else(|| SafetyRecord::new(context.opening.clone()));
        #[cfg(feature = "planted-bugs")]
        let bare = super::planted::bare_view(&config, &record);
        forget(&config, &mut record, &context.opening);
        if record.high.rank() < context.opening.rank() {
            record.high = context.opening.clone();
        }
        let mut tree = Tree::new(&last_final);
        for block in blocks {
            tree.insert(block, true, &record.high.block);
        }
        let is_first = last_final.is_genesis(&config.genesis);
        if !is_first && record.commit.as_ref().is_none_or(|commit| commit.round < last_final.round) {
            record.commit = Some(last_final.clone());
        }
        let mut replica = Self {
            leaders: Leaders::new(&context),
            index: context.set.index_of(&config.me),
            silent_until,
            floor: None,
            dirty: false,
            last_final: last_final.round,
            tree,
            fetches: Fetches::default(),
            votes: Votes::default(),
            pacemaker: Pacemaker::new(&config),
            timers: Timers::default(),
            round: Round::default(),
            #[cfg(feature = "planted-bugs")]
            bare,
            proposal: None,
            invalid: 0,
            asked: None,
            repeat_after: config.view_base,
            ended: last_final.height >= config.last_height(context.epoch),
            heard: BTreeMap::new(),
            answered: BTreeMap::new(),
            asked_to_catch_up: None,
            last_from: config.me,
            now: Millis::ZERO,
            out: Vec::new(),
            record,
            config,
            context,
        };
        replica.round = replica.opened_view();
        replica
    }

    /// Takes one event and says what is to be done, in order. `now` is this node's clock in milliseconds since the Unix
    /// epoch; it never goes back.
    pub fn on(&mut self, event: Event, now: Millis) -> Vec<Action> {
        self.now = self.now.max(now);
        match event {
            Event::Start => self.start(),
            Event::Received { from, message } => self.received(from, message),
            Event::Expired(timer) => self.expired(timer),
            Event::Checked { block, verdict } => self.checked(&block, verdict),
            Event::Built { round, block } => self.built(round, block),
            Event::Waiting(waiting) => self.pacemaker.waiting(waiting, self.now),
            Event::NextEpoch(context) => self.next_epoch(context),
            Event::Ahead { from, height } => self.catch_up(height, from),
            Event::CaughtUp { block, certificate } => self.caught_up(&block, certificate),
        }
        self.progress();
        self.set_timers();
        std::mem::take(&mut self.out)
    }

    /// Within what time the next `Persist` is to be expected, if one is: a shell may put off to it what is not urgent.
    pub fn next_persist(&self) -> Option<Millis> {
        self.pacemaker.busy().filter(|_| self.may_sign())
    }

    /// How the replica sees the world.
    pub fn status(&self) -> Status {
        let members = (0_u16..).zip(self.context.set.members());
        Status {
            round: self.round,
            leader: self.leaders.node(&self.context.set, self.round).unwrap_or(self.config.me),
            high: self.record.high.rank(),
            final_height: self.tree.height(),
            in_tail: safety::is_tail_of(&self.config, &self.record.high) && !self.ended,
            epoch_ended: self.ended,
            voting: self.may_sign(),
            unfinal_blocks: self.tree.len(),
            view_timeout: self.pacemaker.timeout(),
            heard: members.map(|(index, member)| (member.node, self.heard.get(&index).copied())).collect(),
        }
    }

    fn start(&mut self) {
        self.pacemaker.enter(self.now, self.by_timeout());
        self.repeat();
        self.keep_repeating();
    }

    /// Rule 5: the certificates of a message come first, its body after them.
    fn received(&mut self, from: NodeId, message: Message) {
        self.last_from = from;
        match message {
            Message::Proposal(proposal) => {
                self.absorb_newest(&proposal.newest);
                self.absorb(proposal.offer.justify());
                self.hear(proposal.round, proposal.index);
                self.answer(from, proposal.round, &proposal.newest.high, false);
                self.on_proposal(proposal);
            }
            Message::Vote(vote) => {
                self.absorb_newest(&vote.newest);
                self.hear(vote.round, vote.index);
                self.answer(from, vote.round, &vote.newest.high, false);
                self.on_vote(&vote);
            }
            Message::Timeout(timeout) => {
                #[cfg(feature = "planted-bugs")]
                self.join_sloppily(&timeout);
                self.absorb_newest(&timeout.newest);
                self.hear(timeout.round, timeout.index);
                self.answer(from, timeout.round, &timeout.newest.high, true);
                self.on_timeout(&timeout);
            }
            Message::Newest(newest) => self.absorb_newest(&newest),
            Message::Fetch(block) => self.serve(from, block),
            Message::Block(block) => self.arrived(&block),
        }
    }

    fn hear(&mut self, round: Round, index: u16) {
        if round.epoch == self.context.epoch && usize::from(index) < self.context.set.len() {
            self.heard.insert(index, self.now);
        }
    }

    fn on_proposal(&mut self, proposal: Box<Proposal>) {
        if !safety::is_in_window(self.round, proposal.round) || proposal.index != self.leaders.index(proposal.round) {
            return;
        }
        if let Some(evidence) = self.votes.propose(&self.context.set, &proposal) {
            self.out.push(Action::Evidence(Box::new(evidence)));
        }
        if let Offer::Block(block) = &proposal.offer {
            self.arrived(block);
        }
        let leader = self.leaders.node(&self.context.set, proposal.round);
        let by_leader = match &proposal.offer {
            Offer::Block(block) => Some(block.header().proposer) == leader,
            Offer::Tail { .. } => true,
        };
        let wanted =
            proposal.round == self.round && self.proposal.is_none() && self.invalid < limits::INVALID_PROPOSALS_MAX;
        if self.ended || !wanted || !by_leader || !safety::is_acceptable(&self.config, &proposal) {
            return;
        }
        self.pacemaker.offered(proposal.round, self.now);
        if let Offer::Block(block) = &proposal.offer {
            let keep = self.record.high.block;
            self.tree.insert(Arc::new(block.clone()), false, &keep);
        }
        self.proposal = Some(proposal);
    }

    fn on_vote(&mut self, vote: &Vote) {
        if !safety::is_in_window(self.round, vote.round) {
            return;
        }
        let (certificate, evidence) = self.votes.vote(&self.config, &self.context.set, vote);
        self.out.extend(evidence.map(|evidence| Action::Evidence(Box::new(evidence))));
        if let Some(certificate) = certificate {
            self.absorb(&certificate);
        }
    }

    /// Rule 6: joins on f+1 timeouts in the current view only; their certificates were absorbed before (rule 5).
    fn on_timeout(&mut self, timeout: &Timeout) {
        if !safety::is_in_window(self.round, timeout.round) || timeout.round < self.round {
            return;
        }
        if let Some(certificate) = self.votes.timeout(&self.config, &self.context.set, timeout) {
            self.absorb_timeout(&certificate);
        }
        if self.context.set.is_join(self.votes.timeout_power(&self.context.set, self.round)) {
            self.give_up();
        }
    }

    fn checked(&mut self, block: &BlockHash, verdict: Verdict) {
        match verdict {
            Verdict::Valid => {
                self.tree.executed(block);
                self.fetches.done(block);
            }
            Verdict::Invalid => {
                // The header names the block, not its payload: another copy may hold, so the hash is not condemned.
                self.tree.remove(block);
                if self.proposal.as_ref().is_some_and(|proposal| proposal.offer.hash() == *block) {
                    self.proposal = None;
                    self.invalid += 1;
                }
            }
        }
    }

    /// Only blocks that were asked for are taken.
    fn arrived(&mut self, proposed: &ProposedBlock) {
        let hash = proposed.block.hash();
        let held = self.tree.get(&hash).is_some();
        if !held && self.fetches.is_wanted(&hash) && safety::extends(&self.config, proposed.header(), &proposed.justify)
        {
            let keep = self.record.high.block;
            self.tree.insert(Arc::new(proposed.clone()), false, &keep);
        }
    }

    fn serve(&mut self, to: NodeId, block: BlockHash) {
        match self.tree.get(&block) {
            Some(held) => {
                let message = Message::Block(Box::new(ProposedBlock::clone(held)));
                self.out.push(Action::Send { to: To::One(to), message });
            }
            None => self.out.push(Action::Serve { to, block }),
        }
    }

    /// Rule 13: whoever speaks of a past view is answered with the newest certificates, rarely. Rule 17: also across the
    /// end of an epoch, with the certificate that opened this one.
    fn answer(&mut self, to: NodeId, round: Round, high: &Certificate, gave_up: bool) {
        if round >= self.round || to == self.config.me {
            return;
        }
        // The last votes of a view arrive after its certificate in any healthy network; their senders are not behind.
        let behind = gave_up
            || round.epoch < self.round.epoch
            || (round.view.get() + 1 < self.round.view.get() && high.rank() < self.record.high.rank());
        let pause = Millis::new(self.pacemaker.base().get() / 4);
        let lately = self.answered.get(&to).is_some_and(|at| at.saturating_add(pause) > self.now);
        if !behind || lately {
            return;
        }
        if self.answered.len() >= limits::ANSWERED_PEERS_MAX {
            self.answered.clear();
        }
        self.answered.insert(to, self.now);
        let opening = &self.context.opening;
        let newest = if round.epoch < self.round.epoch {
            Newest { high: opening.clone(), timeout: None, commit: Some(opening.clone()) }
        } else {
            self.newest()
        };
        self.out.push(Action::Send { to: To::One(to), message: Message::Newest(Box::new(newest)) });
    }

    /// Does whatever follows from what is known.
    fn progress(&mut self) {
        self.try_finalize();
        let high = self.record.high.clone();
        self.prepare(&high);
        if let Some(justify) = self.proposal.as_ref().map(|proposal| proposal.offer.justify().clone()) {
            self.prepare(&justify);
        }
        self.try_vote();
        self.try_propose();
    }

    /// Sees to it that the certified block gets executed; whether it is.
    pub(super) fn prepare(&mut self, certificate: &Certificate) -> bool {
        match self.tree.need(certificate) {
            Need::Nothing => return true,
            Need::Patience | Need::Conflict => {}
            Need::Execution(block) => {
                self.tree.asked(&block.block.hash());
                self.out.push(Action::Check(block));
            }
            Need::Block(missing) => self.want(certificate, &missing),
        }
        false
    }

    fn want(&mut self, certificate: &Certificate, missing: &Certificate) {
        if self.config.planted.has(Bug::NoBlockFetch) {
            return;
        }
        let gap = certificate.height.get().saturating_sub(self.tree.height().get());
        let tries = self.asked_to_catch_up.map_or(0, |(_, tries)| tries);
        if gap > limits::FETCH_HEIGHTS_MAX && tries < 3 {
            return self.catch_up(certificate.height, self.last_from);
        }
        // Votes may overtake the proposal itself, so the newest block gets some time to come by itself.
        let newest = missing.rank().next() == Some(self.round);
        let delay = if newest { Millis::new(self.pacemaker.base().get() / 8) } else { Millis::ZERO };
        self.fetches.want(missing, &self.context.set, &self.config.me, self.now.saturating_add(delay));
        self.fetch();
    }

    fn fetch(&mut self) {
        let (tree, patience) = (&self.tree, self.pacemaker.base());
        for (peer, block) in self.fetches.overdue(self.now, patience, |block| tree.get(block).is_some()) {
            self.out.push(Action::Send { to: To::One(peer), message: Message::Fetch(block) });
        }
    }

    /// Asks the shell to catch up, rarely.
    fn catch_up(&mut self, height: Height, from: NodeId) {
        let (at, tries) = self.asked_to_catch_up.unwrap_or((Millis::ZERO, 0));
        let pause = self.pacemaker.base();
        if from == self.config.me || (tries > 0 && at.saturating_add(pause) > self.now) {
            return;
        }
        self.asked_to_catch_up = Some((self.now, tries + 1));
        self.out.push(Action::CatchUp { height, from });
    }

    fn expired(&mut self, timer: Timer) {
        if !self.timers.expired(timer, self.now) {
            return;
        }
        match timer {
            Timer::View => self.give_up(),
            Timer::Repeat => {
                self.repeat();
                self.repeat_after =
                    Millis::new(self.repeat_after.get().saturating_mul(2)).min(self.pacemaker.timeout());
                self.timers.at(Timer::Repeat, Some(self.now.saturating_add(self.repeat_after)));
            }
            Timer::Fetch => self.fetch(),
            // `progress` sees that the time has come.
            Timer::Idle => {}
        }
    }

    fn set_timers(&mut self) {
        let speaks = self.may_sign();
        let given_up = self.gave_up(self.round);
        self.timers.at(Timer::View, (speaks && !given_up).then(|| self.pacemaker.deadline()));
        if !(speaks && given_up) {
            self.timers.at(Timer::Repeat, None);
        }
        let leads = speaks && self.leads() && safety::may_propose(&self.record, self.round) && self.asked != Some(true);
        let idle_end = self.pacemaker.idle_end();
        self.timers.at(Timer::Idle, (leads && idle_end > self.now).then_some(idle_end));
        let catch_up = self.asked_to_catch_up.map(|(at, _)| at.saturating_add(self.pacemaker.base()));
        let due = [self.fetches.due(), catch_up.filter(|due| *due > self.now)];
        self.timers.at(Timer::Fetch, due.into_iter().flatten().min());
        self.timers.sync(self.now, &mut self.out);
    }

    /// Own key may sign now (rule 12: not under a restored record).
    pub(super) fn may_sign(&self) -> bool {
        let silent = self.silent_until.is_some_and(|epoch| self.context.epoch < epoch);
        self.index.is_some() && !self.ended && !silent && self.floor.is_none_or(|floor| self.round > floor)
    }

    pub(super) fn leads(&self) -> bool {
        self.index == Some(self.leaders.index(self.round))
    }

    /// The newest certificates, for every message (rule 13).
    pub(super) fn newest(&self) -> Newest {
        let high = self.record.high.clone();
        let newer = |timeout: &&TimeoutCertificate| timeout.round > high.rank();
        let timeout = self.record.timeout.as_ref().filter(newer).cloned();
        Newest { timeout, commit: self.record.commit.clone(), high }
    }
}

/// The parts of the record that a planted bug does not restore.
fn forget(config: &Config, record: &mut SafetyRecord, opening: &Certificate) {
    if config.planted.has(Bug::LastTimeoutForgotten) {
        record.last_timeout = None;
    }
    if config.planted.has(Bug::LastVoteForgotten) {
        record.last_vote = None;
    }
    if config.planted.has(Bug::HighQcForgotten) {
        record.high = opening.clone();
    }
    if config.planted.has(Bug::BareView) {
        record.timeout = None;
    }
}

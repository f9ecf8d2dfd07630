//! Scripts of Byzantine validators.
//!
//! A scripted machine runs the real core, so that it is always where the others are, and twists what the core wants to say.
//! It signs with its own key alone; whatever else it shows, it has really seen.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

use bytes::Bytes;

use crate::types::{BlockHash, Height, Millis, Round, StateRoot};
use crate::wire::message::Offer;
use crate::wire::{Certificate, Message, Newest, ProposedBlock, TimeoutCertificate, Unsigned, VoteKind};

use super::app::{App, Ask};
use super::dice::Dice;
use super::options::Scenario;
use super::ring::Ring;

/// Certificates that a script remembers.
const REMEMBERED: usize = 48;

macro_rules! habits {
    ($($(#[$doc:meta])* $name:ident;)*) => {
        /// What a script does, each now and then.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Habits { $($(#[$doc])* pub $name: bool,)* }

        impl Habits {
            fn some(percent: u64, dice: &mut Dice) -> Self { Self { $($name: dice.percent(percent),)* } }
        }

        impl fmt::Display for Habits {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let named = [$((stringify!($name), self.$name),)*];
                let on: Vec<_> = named.iter().filter(|(_, on)| *on).map(|(name, _)| *name).collect();
                f.write_str(&on.join(" "))
            }
        }
    };
}

habits! {
    /// Proposes two blocks, each to one half.
    equivocate;
    /// Proposes two blocks to all, the second one later.
    repropose;
    /// Proposes on an older certificate than the highest.
    old_justify;
    /// Proposes a block whose parent is not the justified one.
    other_parent;
    /// Proposes a block of the wrong height.
    other_height;
    /// Proposes a block whose state root is wrong.
    bad_state;
    /// Proposes a block from the far future.
    far_future;
    /// Sends a proposal to some only.
    partial;
    /// Sends no proposal.
    mute;
    /// Votes late, to some, or not at all, so that it alone may hold a certificate.
    hold_votes;
    /// Shows its highest certificate to one validator, late.
    late_certificate;
    /// Claims an older certificate in its timeouts.
    stale_timeout;
    /// Gives up views at once.
    early_timeout;
    /// Sends old certificates again.
    replay;
    /// Votes for every block that is proposed.
    double_vote;
    /// Casts commit votes without asking whether it may.
    double_commit;
    /// Serves each side of the fatal partition its own block, and nothing else.
    collude;
    /// Sends a proposal to some, and to the others the same header with another payload.
    other_payload;
}

impl Habits {
    /// Habits for a scenario.
    pub fn draw(scenario: Scenario, dice: &mut Dice) -> Self {
        match scenario {
            Scenario::ForkingLeaders => {
                Self { collude: true, equivocate: true, double_vote: true, double_commit: true, ..Self::default() }
            }
            Scenario::Stale => Self { old_justify: true, stale_timeout: true, ..Self::default() },
            Scenario::Revotes => Self { repropose: true, ..Self::default() },
            _ => Self { collude: false, ..Self::some(35, dice) },
        }
    }
}

/// A message that a script sends.
#[derive(Clone, Debug)]
pub struct Cue {
    /// Receiving machines.
    pub to: Vec<usize>,
    /// Milliseconds from now.
    pub after: u64,
    /// The message.
    pub message: Message,
}

/// What a script has at hand.
pub struct Stage<'a> {
    /// Random choices.
    pub dice: &'a mut Dice,
    /// Keys; a script uses its own.
    pub ring: &'a mut Ring,
    /// The machine's application.
    pub app: &'a mut dyn App,
    /// Who was shown a block, for accomplices.
    pub plots: &'a mut BTreeMap<BlockHash, Vec<usize>>,
    /// All other machines.
    pub others: Vec<usize>,
    /// Side of each machine in the fatal partition, if there is one.
    pub sides: &'a [Option<bool>],
}

/// One scripted validator.
pub struct Script {
    habits: Habits,
    index: u16,
    certificates: VecDeque<Certificate>,
    timeouts: VecDeque<TimeoutCertificate>,
    said: BTreeSet<(Round, VoteKind, BlockHash)>,
}

impl Script {
    /// A script of the validator at this index.
    pub fn new(habits: Habits, index: u16) -> Self {
        let (certificates, timeouts, said) = Default::default();
        Self { habits, index, certificates, timeouts, said }
    }

    /// Something was received. What the script says to it.
    pub fn hear(&mut self, message: &Message, stage: &mut Stage) -> Vec<Cue> {
        let mut cues = Vec::new();
        match message {
            Message::Proposal(proposal) => {
                self.remember(&proposal.newest);
                self.remember_one(proposal.offer.justify());
                if self.habits.double_vote {
                    cues.extend(self.vote_too(proposal.round, &proposal.offer, &proposal.newest, stage));
                }
                if self.habits.early_timeout && stage.dice.percent(40) {
                    let (round, newest) = (proposal.round, proposal.newest.clone());
                    cues.push(self.cue(Unsigned::Timeout { round, index: self.index, newest }, stage));
                }
            }
            Message::Vote(vote) => self.remember(&vote.newest),
            Message::Timeout(timeout) => self.remember(&timeout.newest),
            Message::Newest(newest) => self.remember(newest),
            Message::Fetch(_) | Message::Block(_) => {}
        }
        cues
    }

    /// The core wants to say something. What is sent instead.
    pub fn speak(&mut self, unsigned: Unsigned, stage: &mut Stage) -> Vec<Cue> {
        let newest = match &unsigned {
            Unsigned::Proposal { newest, .. } | Unsigned::Vote { newest, .. } | Unsigned::Timeout { newest, .. } => {
                newest
            }
        };
        self.remember(newest);
        let mut cues = match unsigned {
            Unsigned::Proposal { round, offer, newest, .. } => self.propose(round, offer, newest, stage),
            Unsigned::Vote { kind, round, height, block, newest, .. } => {
                self.said.insert((round, kind, block));
                let vote = Unsigned::Vote { kind, round, height, block, index: self.index, newest };
                self.vote(vote, stage)
            }
            Unsigned::Timeout { round, newest, .. } => self.time_out(round, newest, stage),
        };
        if !self.habits.collude {
            self.linger(&mut cues, stage);
        }
        cues
    }

    fn cue(&self, unsigned: Unsigned, stage: &mut Stage) -> Cue {
        Cue { to: stage.others.clone(), after: 0, message: stage.ring.sign(self.index, unsigned) }
    }

    fn remember(&mut self, newest: &Newest) {
        self.remember_one(&newest.high);
        if let Some(timeout) = &newest.timeout {
            self.remember_one(&timeout.high);
            if !self.timeouts.contains(timeout) {
                self.timeouts.push_back(timeout.clone());
            }
            if self.timeouts.len() > REMEMBERED {
                self.timeouts.pop_front();
            }
        }
    }

    fn remember_one(&mut self, certificate: &Certificate) {
        if !self.certificates.iter().any(|known| known.rank() == certificate.rank()) {
            self.certificates.push_back(certificate.clone());
        }
        if self.certificates.len() > REMEMBERED {
            self.certificates.pop_front();
        }
    }

    /// Older certificates that may justify something in the same epoch.
    fn older(&self, than: Round) -> impl Iterator<Item = &Certificate> {
        self.certificates.iter().filter(move |known| known.rank() < than && known.rank().epoch == than.epoch)
    }

    fn propose(&mut self, round: Round, offer: Offer, newest: Newest, stage: &mut Stage) -> Vec<Cue> {
        let habits = self.habits.clone();
        let plain = Unsigned::Proposal { round, index: self.index, offer: offer.clone(), newest: newest.clone() };
        let mut honest = self.cue(plain, stage);
        let block = match &offer {
            Offer::Block(block) if stage.dice.percent(75) || habits.collude => block.clone(),
            _ => return vec![honest],
        };
        let mut ways: Vec<(bool, usize)> = vec![(habits.equivocate, 0), (habits.repropose, 1), (habits.old_justify, 2)];
        ways.extend([
            (habits.other_parent, 3),
            (habits.other_height, 4),
            (habits.bad_state, 5),
            (habits.far_future, 6),
        ]);
        ways.extend([(habits.partial, 7), (habits.mute, 8), (habits.other_payload, 9)]);
        ways.retain(|(on, _)| *on);
        if ways.is_empty() {
            return vec![honest];
        }
        // Without a timeout certificate of the view before, nobody would look at an old justification.
        let by_timeout = newest.timeout.as_ref().is_some_and(|timeout| timeout.round.next() == Some(round));
        let way = if by_timeout && habits.old_justify { 2 } else { stage.dice.pick(&ways).1 };
        let mut other = match way {
            0 | 1 => self.another(&block, &block.justify, stage),
            2 => {
                let executed = self.older(block.justify.rank()).filter(|known| stage.app.has(&known.block));
                let justify = executed.max_by_key(|known| known.rank()).cloned();
                justify.and_then(|justify| self.another(&block, &justify, stage))
            }
            3..=6 => self.twisted(&block, way, stage),
            9 => {
                let mut other = block.clone();
                other.block.payload = Bytes::from_static(&[0; 4]);
                Some(other)
            }
            7 => {
                honest.to.retain(|_| stage.dice.percent(50));
                return vec![honest];
            }
            _ => return Vec::new(),
        };
        let Some(other) = other.take() else { return vec![honest] };
        let offer = Offer::Block(other);
        let mut second = self
            .cue(Unsigned::Proposal { round, index: self.index, offer: offer.clone(), newest: newest.clone() }, stage);
        match way {
            0 => {
                self.split(&mut honest, &mut second, stage);
                stage.plots.insert(block.block.hash(), honest.to.clone());
                stage.plots.insert(offer.hash(), second.to.clone());
                let mut cues = vec![honest, second];
                if habits.double_vote {
                    cues.extend(self.vote_too(round, &Offer::Block(block), &newest, stage));
                    cues.extend(self.vote_too(round, &offer, &newest, stage));
                }
                cues
            }
            1 => {
                second.after = stage.dice.between(3, 80);
                vec![honest, second]
            }
            9 => {
                self.split(&mut honest, &mut second, stage);
                vec![honest, second]
            }
            _ => vec![second],
        }
    }

    /// Shares the receivers between two messages.
    fn split(&self, first: &mut Cue, second: &mut Cue, stage: &mut Stage) {
        let mut halves = (Vec::new(), Vec::new());
        for to in &stage.others {
            match stage.sides.get(*to).copied().flatten().filter(|_| self.habits.collude) {
                Some(side) if side => halves.1.push(*to),
                Some(_) => halves.0.push(*to),
                None if self.habits.collude => {
                    halves.0.push(*to);
                    halves.1.push(*to);
                }
                None if stage.dice.percent(50) => halves.0.push(*to),
                None => halves.1.push(*to),
            }
        }
        (first.to, second.to) = halves;
    }

    /// Another block of the same view, correct but for being a second one, or on an older certificate.
    fn another(&self, block: &ProposedBlock, justify: &Certificate, stage: &mut Stage) -> Option<ProposedBlock> {
        let header = block.header();
        let nonce = u64::from(stage.dice.any());
        let ask = Ask {
            chain: header.chain,
            round: header.round,
            height: justify.height.next()?,
            parent: justify.block,
            proposer: header.proposer,
            // An application that makes the same block of the same state differs in the time at least.
            time: header.time.saturating_add(Millis::new(1 + nonce % 8)),
            validator_set: header.validator_set,
            nonce,
            even_empty: true,
        };
        Some(ProposedBlock { block: stage.app.build(&ask)?, justify: justify.clone() })
    }

    fn twisted(&self, block: &ProposedBlock, way: usize, stage: &mut Stage) -> Option<ProposedBlock> {
        let mut other = block.clone();
        let header = &mut other.block.header;
        match way {
            3 => {
                let known: Vec<_> = self.certificates.iter().filter(|known| known.block != header.parent).collect();
                let parent = known.get(stage.dice.below(known.len().max(1)))?.block;
                let same = block.justify.clone();
                let moved = self.another(block, &Certificate { block: parent, ..same.clone() }, stage)?;
                return Some(ProposedBlock { block: moved.block, justify: same });
            }
            4 => header.height = if stage.dice.percent(50) { header.height.next()? } else { header.height.prev()? },
            5 => header.state_root = StateRoot::from_bytes([stage.dice.below(256) as u8; 32]),
            _ => header.time = header.time.saturating_add(Millis::new(stage.dice.between(9_000, 100_000))),
        }
        Some(other)
    }

    fn vote(&mut self, vote: Unsigned, stage: &mut Stage) -> Vec<Cue> {
        if self.habits.collude {
            return Vec::new();
        }
        let mut cue = self.cue(vote, stage);
        if self.habits.hold_votes && stage.dice.percent(50) {
            match stage.dice.below(3) {
                0 => cue.to.clear(),
                1 => cue.to.retain(|_| stage.dice.percent(40)),
                _ => cue.after = stage.dice.between(20, 600),
            }
        }
        vec![cue]
    }

    /// Votes for a block, whatever was voted for before.
    fn vote_too(&mut self, round: Round, offer: &Offer, newest: &Newest, stage: &mut Stage) -> Vec<Cue> {
        let block = offer.hash();
        let to = stage.plots.get(&block).cloned();
        let mut cues = vec![self.vote_of(VoteKind::Prepare, round, offer.height(), block, newest, stage)];
        if self.habits.double_commit {
            cues.push(self.vote_of(VoteKind::Commit, round, offer.height(), block, newest, stage));
        }
        let mut cues: Vec<_> = cues.into_iter().flatten().collect();
        if let Some(to) = to {
            cues.iter_mut().for_each(|cue| cue.to.clone_from(&to));
        }
        cues
    }

    fn vote_of(
        &mut self,
        kind: VoteKind,
        round: Round,
        height: Height,
        block: BlockHash,
        newest: &Newest,
        stage: &mut Stage,
    ) -> Option<Cue> {
        let vote = Unsigned::Vote { kind, round, height, block, index: self.index, newest: newest.clone() };
        self.said.insert((round, kind, block)).then(|| self.cue(vote, stage))
    }

    fn time_out(&mut self, round: Round, mut newest: Newest, stage: &mut Stage) -> Vec<Cue> {
        if self.habits.stale_timeout && stage.dice.percent(70) {
            let old: Vec<_> = self.older(newest.high.rank()).collect();
            if let Some(high) = old.get(stage.dice.below(old.len().max(1))) {
                newest.high = Certificate::clone(high);
            }
        }
        vec![self.cue(Unsigned::Timeout { round, index: self.index, newest }, stage)]
    }

    /// Old or hidden certificates, shown to one validator.
    fn linger(&self, cues: &mut Vec<Cue>, stage: &mut Stage) {
        let newest = |high: &Certificate, timeout| Newest { high: high.clone(), timeout, commit: None };
        if self.habits.late_certificate
            && stage.dice.percent(30)
            && let Some(high) = self.certificates.iter().max_by_key(|known| known.rank())
        {
            let message = Message::Newest(Box::new(newest(high, None)));
            let to = vec![*stage.dice.pick(&stage.others)];
            cues.push(Cue { to, after: stage.dice.between(10, 500), message });
        }
        if self.habits.replay && stage.dice.percent(30) && !self.certificates.is_empty() {
            let high = &self.certificates[stage.dice.below(self.certificates.len())];
            let timeout = match self.timeouts.len() {
                0 => None,
                length => self.timeouts.get(stage.dice.below(length)).cloned(),
            };
            let message = Message::Newest(Box::new(newest(high, timeout)));
            let to = vec![*stage.dice.pick(&stage.others)];
            cues.push(Cue { to, after: stage.dice.between(0, 100), message });
        }
    }
}

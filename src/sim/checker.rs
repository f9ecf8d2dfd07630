//! Checker: judges a run by what crosses the wire, what is durable and what is called final; never by a replica's word.
//!
//! It knows the roles of the machines, and the ring that remembers who signed what. Its first complaint ends the run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use crate::consensus::evidence::Evidence;
use crate::consensus::{EpochContext, SafetyRecord};
use crate::ledger::{Key, MemoryState, Record};
use crate::types::{BlockHash, Height, NodeId, Round};
use crate::wire::certificate::Statement;
use crate::wire::message::{Offer, Proposal, Timeout, Vote};
use crate::wire::{Certificate, Message, Newest, ProposedBlock, VoteKind};

use super::books::Books;
use super::disk::Disk;
use super::ring::Ring;
use super::verdict::{Failure, Said};

/// Views within which a message is certainly counted (protocol rule 15 allows more).
const WINDOW: u64 = 8;

/// Views of what a record says that was cast.
#[derive(Clone, Copy, Default)]
struct Asked {
    vote: Option<Round>,
    commit: Option<Round>,
    timeout: Option<Round>,
}

impl Asked {
    fn of(record: Option<&SafetyRecord>) -> Self {
        let Some(record) = record else { return Self::default() };
        Self {
            vote: record.last_vote.map(|vote| vote.round),
            commit: record.last_commit_vote.map(|vote| vote.round),
            timeout: record.last_timeout,
        }
    }
}

/// What one honest machine has let others see, and what it asked to be written.
#[derive(Default)]
struct Machine {
    said: BTreeMap<(Said, Round), BlockHash>,
    last_vote: Option<Round>,
    last_commit: Option<Round>,
    last_timeout: Option<Round>,
    asked: Asked,
    /// Statements of faulty validators that reached it since it started.
    heard: BTreeMap<(Said, Round, u16), BlockHash>,
    accused: BTreeSet<(Said, Round, u16)>,
}

/// A final block, and the machine that called it final first.
struct Final {
    hash: BlockHash,
    payload: Bytes,
    by: usize,
}

/// The checker of one run.
pub struct Checker {
    honest: Vec<bool>,
    nodes: Vec<NodeId>,
    innocent: Vec<bool>,
    epoch_blocks: u64,
    machines: Vec<Machine>,
    /// Whether what was proposed in a view was justified.
    offers: BTreeMap<(Round, BlockHash), bool>,
    proposed: BTreeSet<BlockHash>,
    chain: Vec<Final>,
    failure: Option<Failure>,
    /// The highest view that an honest machine spoke of, and those it spoke of since the faults ended.
    top: Round,
    healed: Option<Round>,
    views: BTreeSet<Round>,
    /// Evidence that came up.
    pub evidence: u64,
    /// The ledger's books, if the run has a ledger.
    pub books: Option<Books>,
}

impl Checker {
    /// A checker that knows which machines are honest, and which validators run honest machines only.
    pub fn new(
        honest: Vec<bool>,
        nodes: Vec<NodeId>,
        innocent: Vec<bool>,
        epoch_blocks: u64,
        books: Option<Books>,
    ) -> Self {
        let machines = honest.iter().map(|_| Machine::default()).collect();
        let (offers, proposed, chain, views) = Default::default();
        let (failure, top, healed, evidence) = (None, Round::default(), None, 0);
        Self {
            honest,
            nodes,
            innocent,
            epoch_blocks,
            machines,
            offers,
            proposed,
            chain,
            failure,
            top,
            healed,
            views,
            evidence,
            books,
        }
    }

    /// The first complaint.
    pub fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// Complains, unless there was a complaint before.
    pub fn complain(&mut self, failure: Failure) {
        self.failure.get_or_insert(failure);
    }

    /// Complains of a machine, if it is honest.
    pub fn complain_of(&mut self, at: usize, failure: Failure) {
        if self.honest[at] {
            self.complain(failure);
        }
    }

    /// Greatest final height of any honest machine.
    pub fn height(&self) -> u64 {
        self.chain.len() as u64
    }

    /// The faults end: views are counted from here.
    pub fn heal(&mut self) {
        self.healed = Some(self.top);
    }

    /// Views that honest machines spoke of since then.
    pub fn views(&self) -> u64 {
        self.views.len() as u64
    }

    /// A machine starts again, with this record: what it has heard is forgotten, what it asked to be written may be.
    pub fn restarted(&mut self, at: usize, record: Option<&SafetyRecord>) {
        let machine = &mut self.machines[at];
        machine.heard.clear();
        machine.accused.clear();
        machine.asked = Asked::of(record);
    }

    /// A proposal leaves a machine, honest or not: such a block exists.
    pub fn offered(&mut self, proposal: &Proposal) {
        let (round, offer) = (proposal.round, &proposal.offer);
        self.proposed.insert(offer.hash());
        let justified = self.is_justified(round, offer, &proposal.newest);
        *self.offers.entry((round, offer.hash())).or_default() |= justified;
    }

    /// Protocol rules 2 and 16, told anew.
    fn is_justified(&self, round: Round, offer: &Offer, newest: &Newest) -> bool {
        let justify = offer.justify();
        let rank = justify.rank();
        let by_timeout = newest
            .timeout
            .as_ref()
            .is_some_and(|timeout| timeout.round.next() == Some(round) && rank >= timeout.high.rank());
        let in_order = rank.epoch == round.epoch && rank < round && (rank.next() == Some(round) || by_timeout);
        let fits = match offer {
            Offer::Block(block) => {
                let header = block.header();
                header.parent == justify.block
                    && Some(header.height) == justify.height.next()
                    && header.round == round
                    && (header.height.get() - 1) / self.epoch_blocks == round.epoch.get()
            }
            Offer::Tail { block, height, .. } => {
                *block == justify.block
                    && *height == justify.height
                    && height.get() == (round.epoch.get() + 1) * self.epoch_blocks
                    && justify.kind == VoteKind::Prepare
            }
        };
        in_order && fits
    }

    /// An honest machine asks for its record to be written. `executed` are the blocks executed there.
    pub fn recorded(&mut self, at: usize, record: &SafetyRecord, executed: impl Fn(&BlockHash) -> bool) {
        if !self.honest[at] {
            return;
        }
        let machine = &mut self.machines[at];
        let before = std::mem::replace(&mut machine.asked, Asked::of(Some(record)));
        let vote = record.last_vote.filter(|vote| before.vote.is_none_or(|last| last < vote.round));
        let commit = record.last_commit_vote.filter(|vote| before.commit.is_none_or(|last| last < vote.round));
        let timeout = before.timeout.max(machine.last_timeout);
        if let Some(vote) = vote.filter(|vote| !executed(&vote.block)) {
            self.complain(Failure::NotExecuted { at, round: vote.round, block: vote.block });
        }
        if let (Some(vote), Some(timeout)) = (commit, timeout)
            && timeout >= vote.round
        {
            self.complain(Failure::CommitAfterTimeout { at, round: vote.round, timeout });
        }
    }

    /// A machine sends a signed message. Only honest ones are judged.
    pub fn sent(&mut self, at: usize, message: &Message, disk: &Disk) {
        if let Message::Proposal(proposal) = message {
            self.offered(proposal);
        }
        if !self.honest[at] {
            return;
        }
        match message {
            Message::Proposal(proposal) => self.sent_proposal(at, proposal, disk),
            Message::Vote(vote) => self.sent_vote(at, vote, disk),
            Message::Timeout(timeout) => self.sent_timeout(at, timeout, disk),
            Message::Newest(_) | Message::Fetch(_) | Message::Block(_) => {}
        }
    }

    fn sent_proposal(&mut self, at: usize, proposal: &Proposal, disk: &Disk) {
        let (round, block) = (proposal.round, proposal.offer.hash());
        self.speaks(at, round, Some(&proposal.newest));
        self.once(at, Said::Propose, round, block);
        let record = disk.record.as_ref();
        let cast = record.and_then(|record| record.last_proposal.as_ref());
        let noted = cast.is_some_and(|cast| cast.round > round || (cast.round == round && cast.block == block));
        // A tail names a block that is certified: others have it.
        let kept = matches!(proposal.offer, Offer::Tail { .. }) || disk.find(&block).is_some();
        if !noted || !kept {
            self.complain(Failure::NotDurable { at, said: Said::Propose, round });
        }
        if self.offers.get(&(round, block)) != Some(&true) {
            self.complain(Failure::NotJustified { at, round, block });
        }
    }

    fn sent_vote(&mut self, at: usize, vote: &Vote, disk: &Disk) {
        let (round, block, said) = (vote.round, vote.block, Said::Vote(vote.kind));
        // A commit vote is repeated until its block is final, also from later views.
        self.speaks(at, round, (vote.kind == VoteKind::Prepare).then_some(&vote.newest));
        let is_new = self.once(at, said, round, block);
        let record = disk.record.as_ref();
        // Protocol rule 9: a block that conflicts with a final one may go, though its vote is still repeated.
        let kept = disk.find(&block).is_some() || vote.height.get() <= disk.chain.height();
        let (cast, high) = match vote.kind {
            VoteKind::Prepare => (record.and_then(|record| record.last_vote), None),
            VoteKind::Commit => (record.and_then(|record| record.last_commit_vote), Some(round)),
        };
        let noted = cast.is_some_and(|cast| cast.round > round || (cast.round == round && cast.block == block))
            && record.is_some_and(|record| high.is_none_or(|high| record.high.rank() >= high))
            && (vote.kind == VoteKind::Commit || kept);
        if !noted {
            self.complain(Failure::NotDurable { at, said, round });
        }
        let machine = &mut self.machines[at];
        match vote.kind {
            VoteKind::Prepare => {
                if is_new && machine.last_vote.is_some_and(|last| last >= round) {
                    self.complain(Failure::OutOfOrder { at, said, round });
                } else {
                    machine.last_vote = machine.last_vote.max(Some(round));
                }
                if self.offers.get(&(round, block)) != Some(&true) {
                    self.complain(Failure::NotJustified { at, round, block });
                }
            }
            VoteKind::Commit => machine.last_commit = machine.last_commit.max(Some(round)),
        }
    }

    fn sent_timeout(&mut self, at: usize, timeout: &Timeout, disk: &Disk) {
        let (round, high) = (timeout.round, timeout.newest.high.rank());
        self.speaks(at, round, Some(&timeout.newest));
        let record = disk.record.as_ref();
        let noted = record
            .is_some_and(|record| record.last_timeout.is_some_and(|last| last >= round) && record.high.rank() >= high);
        if !noted {
            self.complain(Failure::NotDurable { at, said: Said::Timeout, round });
        }
        let machine = &mut self.machines[at];
        machine.last_timeout = machine.last_timeout.max(Some(round));
        if let Some(commit) = machine.last_commit.filter(|commit| *commit > high) {
            self.complain(Failure::LowTimeout { at, round, high, commit });
        }
    }

    /// Counts views; in its current view a machine shows the certificate that opened it (protocol rules 8 and 13).
    fn speaks(&mut self, at: usize, round: Round, newest: Option<&Newest>) {
        self.top = self.top.max(round);
        if self.healed.is_some_and(|healed| round > healed) {
            self.views.insert(round);
        }
        let Some(newest) = newest else { return };
        let timeout = newest.timeout.as_ref().map(|timeout| timeout.round);
        let opened = timeout.max(Some(newest.high.rank())).and_then(Round::next);
        if opened.is_none_or(|opened| opened < round) {
            self.complain(Failure::BareView { at, round });
        }
    }

    /// Notes what is said; complains if something else was said in its place. Whether it is new.
    fn once(&mut self, at: usize, said: Said, round: Round, block: BlockHash) -> bool {
        match self.machines[at].said.insert((said, round), block) {
            None => true,
            Some(before) => {
                if before != block {
                    self.complain(Failure::Contradiction { at, said, round, blocks: [before, block] });
                }
                false
            }
        }
    }

    /// A machine calls blocks final. `before` is the height and the hash of its last one.
    pub fn finalized(
        &mut self,
        at: usize,
        before: (u64, BlockHash),
        blocks: &[Arc<ProposedBlock>],
        certificate: &Certificate,
        ring: &mut Ring,
    ) {
        if !self.honest[at] {
            return;
        }
        let (mut height, mut parent) = before;
        for block in blocks {
            let (header, hash) = (block.header(), block.block.hash());
            height += 1;
            if header.height != Height::new(height) || header.parent != parent {
                return self.complain(Failure::Gap { at, height, block: hash });
            }
            if !self.proposed.contains(&hash) {
                return self.complain(Failure::NeverProposed { at, height, block: hash });
            }
            match self.chain.get(height as usize - 1) {
                None => {
                    self.chain.push(Final { hash, payload: block.block.payload.clone(), by: at });
                    let entered = self.books.as_mut().map_or(Ok(()), |books| books.enter(&block.block));
                    if let Err(failure) = entered {
                        return self.complain(failure);
                    }
                }
                Some(Final { hash: other, by, .. }) if *other != hash => {
                    let (blocks, by) = ([*other, hash], [*by, at]);
                    return self.complain(Failure::Fork { height, blocks, by });
                }
                // The hash names the header alone.
                Some(Final { payload, by, .. }) if *payload != block.block.payload => {
                    let problem = format!("machines {by} and {at} have different ones");
                    return self.complain(Failure::Payload { height, problem });
                }
                Some(_) => {}
            }
            parent = hash;
        }
        let fits =
            certificate.kind == VoteKind::Commit && certificate.block == parent && certificate.height.get() == height;
        if !fits || !ring.certifies(certificate) {
            self.complain(Failure::NotCertified { at, height, block: parent });
        }
    }

    /// A machine's ledger is in this state after its last final block; `whole` if the state comes from the disk.
    pub fn ledger_at(&mut self, at: usize, height: u64, state: &MemoryState, whole: bool) {
        let Some(books) = self.books.as_mut().filter(|_| self.honest[at]) else { return };
        let audited = match whole {
            true => books.audit_whole(at, height, state),
            false => books.audit(at, height, state),
        };
        if let Err(failure) = audited {
            self.complain(failure);
        }
    }

    /// A machine's core begins an epoch: it must have the validators there that others have, and its ledger must agree on who
    /// is skipped in it.
    pub fn epoch_begins(&mut self, at: usize, context: &EpochContext, state: Option<&MemoryState>, ring: &mut Ring) {
        if self.honest[at] && !ring.begin(context.epoch, &context.set) {
            let problem = format!("its validators of epoch {} are others than elsewhere", context.epoch);
            return self.complain(Failure::State { at, height: self.height(), problem });
        }
        let Some(state) = state else { return };
        let recorded = matches!(state.get(&Key::SkipList), Some(Record::SkipList(list))
            if list.epoch == context.epoch && list.indices == context.skip);
        if !recorded {
            let problem = format!("the core skips {:?} in epoch {}, the ledger does not", context.skip, context.epoch);
            self.complain_of(at, Failure::State { at, height: self.height(), problem });
        }
    }

    /// A message of a faulty validator reaches the core of an honest machine that is in view `now`.
    pub fn heard(&mut self, at: usize, message: &Message, now: Round, ring: &Ring) {
        let (said, round, index, block) = match message {
            Message::Proposal(proposal) => (Said::Propose, proposal.round, proposal.index, proposal.offer.hash()),
            Message::Vote(vote) => (Said::Vote(vote.kind), vote.round, vote.index, vote.block),
            _ => return,
        };
        // Places are those of the epoch's set.
        let Some(index) = ring.key_in(round.epoch, index) else { return };
        let near = round.epoch == now.epoch && round.view.get().abs_diff(now.view.get()) <= WINDOW;
        if !self.honest[at] || self.innocent[usize::from(index)] || !near {
            return;
        }
        let machine = &mut self.machines[at];
        let first = *machine.heard.entry((said, round, index)).or_insert(block);
        if first != block && !machine.accused.contains(&(said, round, index)) {
            self.complain(Failure::NoEvidence { at, said, round, against: index });
        }
    }

    /// A machine accuses a validator.
    pub fn accused(&mut self, at: usize, evidence: &Evidence, ring: &Ring) {
        if !self.honest[at] {
            return;
        }
        self.evidence += 1;
        let parts = |statement: &Statement| match statement {
            Statement::Propose { round, block } => Some((Said::Propose, *round, *block)),
            Statement::Vote { kind, round, block, .. } => Some((Said::Vote(*kind), *round, *block)),
            Statement::Timeout { .. } => None,
        };
        let index = self.nodes.iter().position(|node| *node == evidence.node);
        let (first, second) = (parts(&evidence.first.0), parts(&evidence.second.0));
        let (Some(index), Some(first), Some(second)) = (index, first, second) else {
            return self.complain(Failure::WrongEvidence { at, against: evidence.node });
        };
        let against = index as u16;
        let proves = (first.0, first.1) == (second.0, second.1)
            && first.2 != second.2
            && ring.holds(against, &evidence.first.0)
            && ring.holds(against, &evidence.second.0);
        if !proves || self.innocent[index] {
            return self.complain(Failure::WrongEvidence { at, against: evidence.node });
        }
        self.machines[at].accused.insert((first.0, first.1, against));
    }
}

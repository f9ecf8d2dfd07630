//! What one key has signed: as its safety record accounts for it, and as the messages of others show it.
//!
//! A signature of the own key that the record does not account for was made by another process, or by this one before its
//! record was rolled back. Either way the record is not what protocol rule 8 takes it for, and nothing may be signed.
//! Not here: what a node does about it (`node::chain`).

use borsh::{BorshDeserialize, BorshSerialize};

use crate::crypto::Signature;
use crate::types::{Epoch, Round};
use crate::wire::certificate::Statement;
use crate::wire::message::Offer;
use crate::wire::{Certificate, Message, Newest, TimeoutCertificate, VoteKind};

use super::record::SafetyRecord;
use super::replica::Replica;

/// A statement with its signature.
pub type Said = (Statement, Signature);

/// The highest view in which a key is known to have signed each kind of statement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Watermarks {
    /// Proposals.
    pub propose: Option<Round>,
    /// Prepare votes.
    pub prepare: Option<Round>,
    /// Commit votes.
    pub commit: Option<Round>,
    /// Timeouts.
    pub timeout: Option<Round>,
}

impl Watermarks {
    /// Those of a record.
    pub fn of(record: &SafetyRecord) -> Self {
        Self {
            propose: record.last_proposal.as_ref().map(|last| last.round),
            prepare: record.last_vote.map(|last| last.round),
            commit: record.last_commit_vote.map(|last| last.round),
            timeout: record.last_timeout,
        }
    }
    /// The higher of both, kind by kind: never below either.
    pub fn raised(&self, other: &Self) -> Self {
        Self {
            propose: self.propose.max(other.propose),
            prepare: self.prepare.max(other.prepare),
            commit: self.commit.max(other.commit),
            timeout: self.timeout.max(other.timeout),
        }
    }
    /// What of these lies above others, kind by kind.
    pub fn beyond(&self, others: &Self) -> Self {
        let above = |own: Option<Round>, other: Option<Round>| own.filter(|_| own > other);
        Self {
            propose: above(self.propose, others.propose),
            prepare: above(self.prepare, others.prepare),
            commit: above(self.commit, others.commit),
            timeout: above(self.timeout, others.timeout),
        }
    }
    /// Takes note of a signed statement.
    pub fn note(&mut self, said: &Statement) {
        let (of_kind, round) = match said {
            Statement::Propose { round, .. } => (&mut self.propose, round),
            Statement::Vote { kind: VoteKind::Prepare, round, .. } => (&mut self.prepare, round),
            Statement::Vote { kind: VoteKind::Commit, round, .. } => (&mut self.commit, round),
            Statement::Timeout { round, .. } => (&mut self.timeout, round),
        };
        *of_kind = (*of_kind).max(Some(*round));
    }
    /// Whether a statement lies at or below them.
    pub fn cover(&self, said: &Statement) -> bool {
        let mut raised = *self;
        raised.note(said);
        raised == *self
    }
    /// The highest view of all kinds. Who signs only above it contradicts none of them, and denies no certificate that a
    /// timeout or commit vote of then rests on: later views are entered through it (protocol rule 5).
    pub fn highest(&self) -> Option<Round> {
        self.propose.max(self.prepare).max(self.commit).max(self.timeout)
    }
}

/// The view of a statement.
pub fn round_of(said: &Statement) -> Round {
    match said {
        Statement::Propose { round, .. } | Statement::Vote { round, .. } | Statement::Timeout { round, .. } => *round,
    }
}

/// Whether the record's owner may have made the statement: of the last view of its kind only with the block that the record has.
pub fn accounts_for(record: &SafetyRecord, said: &Statement) -> bool {
    let vote = |last: Option<super::record::CastVote>| last.map(|last| (last.round, last.block));
    let (last, round, block) = match said {
        Statement::Timeout { round, .. } => return record.last_timeout.is_some_and(|last| *round <= last),
        Statement::Propose { round, block } => {
            (record.last_proposal.as_ref().map(|last| (last.round, last.block)), round, block)
        }
        Statement::Vote { kind: VoteKind::Prepare, round, block, .. } => (vote(record.last_vote), round, block),
        Statement::Vote { kind: VoteKind::Commit, round, block, .. } => (vote(record.last_commit_vote), round, block),
    };
    last.is_some_and(|(last, cast)| *round < last || (*round == last && *block == cast))
}

/// Everything in a message that claims to be signed by a validator whose place in an epoch's set is `place`, its certificates
/// included. Nothing is verified; what it costs does not depend on the set's size but for a search.
pub fn signed_by(message: &Message, place: &impl Fn(Epoch) -> Option<u16>) -> Vec<Said> {
    let mut found = Vec::new();
    if let Some((epoch, index, said)) = author(message)
        && place(epoch) == Some(index)
    {
        found.push(said);
    }
    let newest = match message {
        Message::Proposal(proposal) => {
            let (Offer::Block(crate::wire::ProposedBlock { justify, .. }) | Offer::Tail { justify, .. }) =
                &proposal.offer;
            in_certificate(justify, place, &mut found);
            &proposal.newest
        }
        Message::Vote(vote) => &vote.newest,
        Message::Timeout(timeout) => &timeout.newest,
        Message::Newest(newest) => newest,
        Message::Block(block) => {
            in_certificate(&block.justify, place, &mut found);
            return found;
        }
        Message::Fetch(_) => return found,
    };
    let Newest { high, timeout, commit } = newest;
    in_certificate(high, place, &mut found);
    if let Some(timeout) = timeout {
        in_timeouts(timeout, place, &mut found);
    }
    if let Some(commit) = commit {
        in_certificate(commit, place, &mut found);
    }
    found
}

/// What the sender of a message signed: the epoch, its place in that epoch's set, the statement and the signature.
pub fn author(message: &Message) -> Option<(Epoch, u16, Said)> {
    Some(match message {
        Message::Proposal(proposal) => {
            let said = Statement::Propose { round: proposal.round, block: proposal.offer.hash() };
            (proposal.round.epoch, proposal.index, (said, proposal.signature))
        }
        Message::Vote(vote) => {
            let said = Statement::Vote { kind: vote.kind, round: vote.round, height: vote.height, block: vote.block };
            (vote.round.epoch, vote.index, (said, vote.signature))
        }
        Message::Timeout(timeout) => {
            let said = Statement::Timeout { round: timeout.round, high: timeout.newest.high.rank() };
            (timeout.round.epoch, timeout.index, (said, timeout.signature))
        }
        Message::Newest(_) | Message::Fetch(_) | Message::Block(_) => return None,
    })
}

/// The same of a certificate.
pub fn in_certificate(certificate: &Certificate, place: &impl Fn(Epoch) -> Option<u16>, found: &mut Vec<Said>) {
    let Some(index) = place(certificate.round.epoch) else { return };
    // Those of a valid certificate ascend.
    if let Ok(at) = certificate.signatures.binary_search_by_key(&index, |signed| signed.index)
        && let Some(signed) = certificate.signatures.get(at)
    {
        found.push((certificate.statement(), signed.signature));
    }
}

/// The same of a timeout certificate, and of the certificate that it carries.
pub fn in_timeouts(timeout: &TimeoutCertificate, place: &impl Fn(Epoch) -> Option<u16>, found: &mut Vec<Said>) {
    in_certificate(&timeout.high, place, found);
    let Some(index) = place(timeout.round.epoch) else { return };
    if let Ok(at) = timeout.timeouts.binary_search_by_key(&index, |timed_out| timed_out.index)
        && let Some(timed_out) = timeout.timeouts.get(at)
    {
        let said = Statement::Timeout { round: timeout.round, high: timed_out.high };
        found.push((said, timed_out.signature));
    }
}

impl Replica {
    /// What is or will be on disk.
    pub fn record(&self) -> &SafetyRecord {
        &self.record
    }
    /// Stops signing, or signs again; the shell then gives `Event::Start`.
    pub fn silence(&mut self, silent: bool) {
        self.silent_until = silent.then_some(Epoch::new(u64::MAX));
    }
    /// Signs nothing of this view or an earlier one.
    pub fn sign_above(&mut self, floor: Option<Round>) {
        self.floor = self.floor.max(floor);
    }
}

#[cfg(test)]
#[path = "own_tests.rs"]
mod tests;

//! What was signed in the views around the current one: votes become certificates, timeouts become timeout
//! certificates, and contradictions become evidence (protocol rule 19).
//!
//! Bounded: rounds by the window of rule 15, each with one entry per validator. The first statement of a validator in a
//! view counts, a contradicting one is evidence and counts for nothing.

use std::collections::{BTreeMap, BTreeSet};

use crate::crypto::Signature;
use crate::types::{NodeId, Round};
use crate::wire::certificate::{Statement, TimedOut};
use crate::wire::message::{Proposal, Timeout, Vote};
use crate::wire::{Certificate, Signed, TimeoutCertificate, ValidatorSet, VoteKind};

use super::context::Config;
use super::evidence::{Evidence, contradict};
use super::safety;

/// What a validator can say once in a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Propose,
    Vote(VoteKind),
}

#[derive(Default)]
struct Ballot {
    first: BTreeMap<u16, (Statement, Signature)>,
    caught: BTreeSet<u16>,
    certified: bool,
}

#[derive(Default)]
struct Timeouts {
    by_index: BTreeMap<u16, (Round, Signature)>,
    /// The highest certificate that came with any of them.
    high: Option<Certificate>,
    certified: bool,
}

/// Everything signed that is not yet part of a certificate.
#[derive(Default)]
pub struct Votes {
    ballots: BTreeMap<(Round, Kind), Ballot>,
    timeouts: BTreeMap<Round, Timeouts>,
}

impl Votes {
    /// Notes a proposal; says whether its proposer contradicted itself for the first time.
    pub fn propose(&mut self, set: &ValidatorSet, proposal: &Proposal) -> Option<Evidence> {
        let statement = Statement::Propose { round: proposal.round, block: proposal.offer.hash() };
        let ballot = self.ballots.entry((proposal.round, Kind::Propose)).or_default();
        ballot.note(proposal.index, set.get(proposal.index)?.node, statement, proposal.signature)
    }

    /// Counts a vote; gives the certificate as soon as there is a quorum, once.
    pub fn vote(
        &mut self,
        config: &Config,
        set: &ValidatorSet,
        vote: &Vote,
    ) -> (Option<Certificate>, Option<Evidence>) {
        let Some(member) = set.get(vote.index) else { return (None, None) };
        let (kind, round, height, block) = (vote.kind, vote.round, vote.height, vote.block);
        let statement = Statement::Vote { kind, round, height, block };
        let ballot = self.ballots.entry((round, Kind::Vote(kind))).or_default();
        let evidence = ballot.note(vote.index, member.node, statement, vote.signature);
        if ballot.certified {
            return (None, evidence);
        }
        let same = || ballot.first.iter().filter(|(_, (said, _))| *said == statement);
        let power = same().filter_map(|(index, _)| set.get(*index)).map(|member| member.power).sum();
        if !safety::is_quorum(config, set, power) {
            return (None, evidence);
        }
        let signatures =
            same().map(|(index, (_, signature))| Signed { index: *index, signature: *signature }).collect();
        ballot.certified = true;
        (Some(Certificate { kind, round, height, block, signatures }), evidence)
    }

    /// Counts a timeout; a repeated one with a newer certificate replaces the first. Gives the timeout certificate as
    /// soon as there is a quorum, once.
    pub fn timeout(&mut self, config: &Config, set: &ValidatorSet, timeout: &Timeout) -> Option<TimeoutCertificate> {
        set.get(timeout.index)?;
        let slot = self.timeouts.entry(timeout.round).or_default();
        let high = &timeout.newest.high;
        if slot.by_index.get(&timeout.index).is_none_or(|(rank, _)| *rank < high.rank()) {
            slot.by_index.insert(timeout.index, (high.rank(), timeout.signature));
        }
        if slot.high.as_ref().is_none_or(|best| best.rank() < high.rank()) {
            slot.high = Some(high.clone());
        }
        if slot.certified || !safety::is_quorum(config, set, slot.power(set)) {
            return None;
        }
        slot.certified = true;
        let timed_out = |(index, (high, signature)): (&u16, &(Round, Signature))| TimedOut {
            index: *index,
            high: *high,
            signature: *signature,
        };
        let timeouts = slot.by_index.iter().map(timed_out).collect();
        Some(TimeoutCertificate { round: timeout.round, timeouts, high: slot.high.clone()? })
    }

    /// Weight of those who have timed out in a view.
    pub fn timeout_power(&self, set: &ValidatorSet, round: Round) -> u64 {
        self.timeouts.get(&round).map_or(0, |slot| slot.power(set))
    }

    /// Forgets what lies outside the window around the current view.
    pub fn prune(&mut self, now: Round) {
        self.ballots.retain(|(round, _), _| safety::is_in_window(now, *round));
        self.timeouts.retain(|round, _| *round >= now && safety::is_in_window(now, *round));
    }
}

impl Ballot {
    fn note(&mut self, index: u16, node: NodeId, said: Statement, signature: Signature) -> Option<Evidence> {
        let first = *self.first.entry(index).or_insert((said, signature));
        if !contradict(&first.0, &said) || !self.caught.insert(index) {
            return None;
        }
        Some(Evidence { node, first, second: (said, signature) })
    }
}

impl Timeouts {
    fn power(&self, set: &ValidatorSet) -> u64 {
        self.by_index.keys().filter_map(|index| set.get(*index)).map(|member| member.power).sum()
    }
}

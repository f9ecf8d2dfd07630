//! The predicates on which safety rests, alone, each with the number of its rule in the protocol.
//!
//! Pure functions of the record, the proposal and the certificates. Not here: when they are asked.

use crate::types::{Height, Millis, Round, View, limits};
use crate::wire::message::{Offer, Proposal};
use crate::wire::{Certificate, Header, TimeoutCertificate, ValidatorSet, VoteKind};

use super::context::Config;
use super::planted::Bug;
use super::record::SafetyRecord;

/// Rule 1: more than two thirds of the weight.
pub fn is_quorum(config: &Config, set: &ValidatorSet, power: u64) -> bool {
    if config.planted.has(Bug::QuorumTwoF) {
        return u128::from(power) * 2 >= u128::from(set.total_power());
    }
    set.is_quorum(power)
}

/// Rule 1: whether the certificate may justify anything in its epoch: a QC, the commit certificate of an epoch's last
/// block, or the genesis certificate.
pub fn may_justify(config: &Config, certificate: &Certificate) -> bool {
    match certificate.kind {
        VoteKind::Prepare => true,
        VoteKind::Commit => certificate.height == config.last_height(certificate.round.epoch),
    }
}

/// Rule 2: the justification of view v is QC(v-1), or TC(v-1) with a QC at least as high as the highest in it.
pub fn is_justified(
    config: &Config,
    round: Round,
    justify: &Certificate,
    timeout: Option<&TimeoutCertificate>,
) -> bool {
    let Some(before) = round.view.prev().map(|view| Round::new(round.epoch, view)) else { return false };
    let rank = justify.rank();
    if rank.epoch != round.epoch || rank >= round || !may_justify(config, justify) {
        return false;
    }
    let follows = |timeout: &TimeoutCertificate| {
        timeout.round == before && (rank >= timeout.high.rank() || config.planted.has(Bug::TcWithoutMaxQc))
    };
    rank == before || timeout.is_some_and(follows)
}

/// Rule 2: the parent is exactly the justification's block, and the height the next one, within the epoch.
pub fn extends(config: &Config, header: &Header, justify: &Certificate) -> bool {
    let tied = header.parent == justify.block || config.planted.has(Bug::ParentNotTied);
    let next = Some(header.height) == justify.height.next() || config.planted.has(Bug::NoHeightCheck);
    tied && next && justify.rank() < header.round && config.epoch_of(header.height) == header.round.epoch
}

/// Rules 2 and 16: whether what is offered in a view may be voted for, its contents aside. The caller has checked
/// who proposes.
pub fn is_acceptable(config: &Config, proposal: &Proposal) -> bool {
    let justify = proposal.offer.justify();
    if !is_justified(config, proposal.round, justify, proposal.newest.timeout.as_ref()) {
        return false;
    }
    match &proposal.offer {
        Offer::Block(proposed) => {
            let header = proposed.header();
            header.chain == config.chain && header.round == proposal.round && extends(config, header, justify)
        }
        Offer::Tail { block, height, .. } => {
            is_tail_of(config, justify) && justify.block == *block && justify.height == *height
        }
    }
}

/// Rule 16: whether the certificate is a QC of its epoch's last block, so that only a tail may follow in that epoch.
pub fn is_tail_of(config: &Config, high: &Certificate) -> bool {
    high.kind == VoteKind::Prepare
        && high.round.view > View::ZERO
        && high.height == config.last_height(high.round.epoch)
}

/// Rule 3: one vote a view, in rising views.
pub fn may_vote(record: &SafetyRecord, round: Round) -> bool {
    record.last_vote.is_none_or(|last| last.round < round)
}

/// Rule 4: a commit vote for QC(v), above the last final view, if no view from v on was timed out; once, in rising views.
/// The caller makes a high QC of at least v durable first.
pub fn may_commit(config: &Config, record: &SafetyRecord, last_final: Round, certificate: &Certificate) -> bool {
    let round = certificate.round;
    let guarded = match record.last_timeout {
        None => false,
        Some(_) if config.planted.has(Bug::NoCommitGuard) => false,
        Some(last) if config.planted.has(Bug::SloppyJoin) => last == round,
        Some(last) => last >= round,
    };
    certificate.kind == VoteKind::Prepare
        && round > last_final
        && round.view > View::ZERO
        && !guarded
        && record.last_commit_vote.is_none_or(|last| last.round < round)
}

/// Rule 10: one proposal a view, in rising views.
pub fn may_propose(record: &SafetyRecord, round: Round) -> bool {
    record.last_proposal.as_ref().is_none_or(|last| last.round < round)
}

/// Rule 15: the window within which uncertified messages are kept.
pub fn is_in_window(now: Round, round: Round) -> bool {
    let (low, high) = (round.view.get().saturating_add(limits::PAST_VIEWS_MAX), round.view.get());
    round.epoch == now.epoch && low >= now.view.get() && high <= now.view.get().saturating_add(limits::FUTURE_VIEWS_MAX)
}

/// Rule 20: a voter refuses only a time beyond its own clock plus a bound.
pub fn is_timely(header: &Header, now: Millis) -> bool {
    header.time <= now.saturating_add(Millis::new(limits::CLOCK_DRIFT_MS_MAX))
}

/// Whether finalizing this height says something new.
pub fn is_above(certificate: &Certificate, last_final: Height) -> bool {
    certificate.height > last_final
}

#[cfg(test)]
#[path = "safety_tests.rs"]
mod tests;

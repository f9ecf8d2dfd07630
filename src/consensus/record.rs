//! The safety record: what a replica must remember to never contradict itself (protocol rule 8).

use borsh::{BorshDeserialize, BorshSerialize};

use crate::types::{BlockHash, Height, Round};
use crate::wire::{Certificate, TimeoutCertificate};

/// A vote that was signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct CastVote {
    /// The view.
    pub round: Round,
    /// The block.
    pub block: BlockHash,
    /// Its height.
    pub height: Height,
}

/// A proposal that was signed. A proposed block lies with the persisted blocks, with its justification.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct CastProposal {
    /// The view.
    pub round: Round,
    /// The block.
    pub block: BlockHash,
    /// Its height.
    pub height: Height,
    /// The justification, if this is a tail.
    pub tail: Option<Certificate>,
}

/// Durable before any message that it guards is sent. A view is never stored bare: on start the current view is
/// the one that the highest certificates open.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct SafetyRecord {
    /// Last prepare vote.
    pub last_vote: Option<CastVote>,
    /// Last commit vote.
    pub last_commit_vote: Option<CastVote>,
    /// Highest view ever timed out in.
    pub last_timeout: Option<Round>,
    /// Highest prepare certificate.
    pub high: Certificate,
    /// Highest timeout certificate.
    pub timeout: Option<TimeoutCertificate>,
    /// Highest commit certificate.
    pub commit: Option<Certificate>,
    /// Last own proposal; sent again unchanged after a restart (rule 10).
    pub last_proposal: Option<CastProposal>,
}

impl SafetyRecord {
    /// The record of a replica that has signed nothing.
    pub fn new(high: Certificate) -> Self {
        Self {
            last_vote: None,
            last_commit_vote: None,
            last_timeout: None,
            high,
            timeout: None,
            commit: None,
            last_proposal: None,
        }
    }
}

//! Messages between validators, and the same before they are signed.

use borsh::{BorshDeserialize, BorshSerialize};

use super::certificate::{Certificate, Statement, TimeoutCertificate, VoteKind};
use super::{Block, Header};
use crate::crypto::{SecretKey, Signature};
use crate::types::{BlockHash, ChainId, Height, Round};

/// The newest certificates that the sender holds. Each message brings them along, and a message of a
/// past view is answered with them (protocol rule 13).
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Newest {
    /// Highest prepare certificate.
    pub high: Certificate,
    /// Highest timeout certificate, if it is newer than `high`.
    pub timeout: Option<TimeoutCertificate>,
    /// Highest commit certificate, unless none is known yet.
    pub commit: Option<Certificate>,
}

/// A block with the certificate of its parent that justified it.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct ProposedBlock {
    /// The block.
    pub block: Block,
    /// Certificate of its parent.
    pub justify: Certificate,
}

impl ProposedBlock {
    /// The block's header.
    pub fn header(&self) -> &Header {
        &self.block.header
    }
}

/// What a leader proposes.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
#[expect(clippy::large_enum_variant, reason = "blocks are the rule, tails the exception")]
pub enum Offer {
    /// A new block.
    Block(ProposedBlock),
    /// A tail (protocol rule 16): the epoch's last block, certified but not final, once more in a later view.
    /// It has the same height and state and never enters the chain; a commit certificate on it is one on the block.
    Tail {
        /// The epoch's last block.
        block: BlockHash,
        /// Its height.
        height: Height,
        /// The highest certificate, which is of that block.
        justify: Certificate,
    },
}

impl Offer {
    /// The block to be voted on.
    pub fn hash(&self) -> BlockHash {
        match self {
            Self::Block(proposed) => proposed.block.hash(),
            Self::Tail { block, .. } => *block,
        }
    }
    /// The certificate that justifies it.
    pub fn justify(&self) -> &Certificate {
        match self {
            Self::Block(proposed) => &proposed.justify,
            Self::Tail { justify, .. } => justify,
        }
    }
    /// The height of the block to be voted on.
    pub fn height(&self) -> Height {
        match self {
            Self::Block(proposed) => proposed.block.header.height,
            Self::Tail { height, .. } => *height,
        }
    }
}

/// A leader's proposal.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Proposal {
    /// The view.
    pub round: Round,
    /// Proposer's index in the epoch's set.
    pub index: u16,
    /// What is proposed.
    pub offer: Offer,
    /// Newest certificates; `timeout` justifies a proposal after a view that was given up.
    pub newest: Newest,
    /// Signature of `Statement::Propose`.
    pub signature: Signature,
}

/// A validator's vote, of either kind.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Vote {
    /// Which vote.
    pub kind: VoteKind,
    /// The view.
    pub round: Round,
    /// Height of the block.
    pub height: Height,
    /// The block.
    pub block: BlockHash,
    /// Voter's index in the epoch's set.
    pub index: u16,
    /// Newest certificates.
    pub newest: Newest,
    /// Signature of `Statement::Vote`.
    pub signature: Signature,
}

/// A validator gives up a view.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Timeout {
    /// The view.
    pub round: Round,
    /// Sender's index in the epoch's set.
    pub index: u16,
    /// Newest certificates; what is signed is the rank of `newest.high`.
    pub newest: Newest,
    /// Signature of `Statement::Timeout`.
    pub signature: Signature,
}

/// One message of the consensus protocol.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Message {
    /// A leader's proposal.
    Proposal(Box<Proposal>),
    /// A vote.
    Vote(Box<Vote>),
    /// A timeout.
    Timeout(Box<Timeout>),
    /// The answer to a message of a past view.
    Newest(Box<Newest>),
    /// "Send me this block."
    Fetch(BlockHash),
    /// The answer to `Fetch`.
    Block(Box<ProposedBlock>),
}

/// A message as the core makes it: the shell signs it, sends it to all, and hands it back to the core
/// as received from itself.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
#[expect(clippy::large_enum_variant, reason = "it lives until it is signed")]
pub enum Unsigned {
    /// See `Proposal`.
    Proposal {
        /// The view.
        round: Round,
        /// Own index.
        index: u16,
        /// What is proposed.
        offer: Offer,
        /// Newest certificates.
        newest: Newest,
    },
    /// See `Vote`.
    Vote {
        /// Which vote.
        kind: VoteKind,
        /// The view.
        round: Round,
        /// Height of the block.
        height: Height,
        /// The block.
        block: BlockHash,
        /// Own index.
        index: u16,
        /// Newest certificates.
        newest: Newest,
    },
    /// See `Timeout`.
    Timeout {
        /// The view.
        round: Round,
        /// Own index.
        index: u16,
        /// Newest certificates.
        newest: Newest,
    },
}

impl Unsigned {
    /// What is to be signed.
    pub fn statement(&self) -> Statement {
        match self {
            Self::Proposal { round, offer, .. } => Statement::Propose { round: *round, block: offer.hash() },
            Self::Vote { kind, round, height, block, .. } => {
                Statement::Vote { kind: *kind, round: *round, height: *height, block: *block }
            }
            Self::Timeout { round, newest, .. } => Statement::Timeout { round: *round, high: newest.high.rank() },
        }
    }
    /// The signed message.
    pub fn sign(self, chain: &ChainId, key: &SecretKey) -> Message {
        let signature = self.statement().sign(chain, key);
        self.signed(signature)
    }
    /// The message with a signature of its statement.
    pub fn signed(self, signature: Signature) -> Message {
        match self {
            Self::Proposal { round, index, offer, newest } => {
                Message::Proposal(Box::new(Proposal { round, index, offer, newest, signature }))
            }
            Self::Vote { kind, round, height, block, index, newest } => {
                Message::Vote(Box::new(Vote { kind, round, height, block, index, newest, signature }))
            }
            Self::Timeout { round, index, newest } => {
                Message::Timeout(Box::new(Timeout { round, index, newest, signature }))
            }
        }
    }
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;

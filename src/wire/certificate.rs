//! Certificates: quorums of signatures, and what exactly is signed.

use borsh::{BorshDeserialize, BorshSerialize};

use super::ValidatorSet;
use crate::crypto::{Batch, Domain, SecretKey, Signature, sign::SignError};
use crate::types::{BlockHash, ChainId, Height, Round};

/// Which of the two votes of a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum VoteKind {
    /// Vote 1: the block may be built upon.
    Prepare = 0,
    /// Vote 2: the block is final once a quorum says so.
    Commit = 1,
}

/// What a validator signs. Every form binds chain, epoch and view; the first byte tells the forms apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, BorshSerialize, BorshDeserialize)]
pub enum Statement {
    /// "In this view I propose this block."
    Propose {
        /// The view.
        round: Round,
        /// The block.
        block: BlockHash,
    },
    /// "In this view I vote for this block."
    Vote {
        /// Which vote.
        kind: VoteKind,
        /// The view.
        round: Round,
        /// The block's height.
        height: Height,
        /// The block.
        block: BlockHash,
    },
    /// "I have given up this view, and this is the view of the highest certificate that I hold."
    Timeout {
        /// The view.
        round: Round,
        /// Rank of the signer's highest certificate.
        high: Round,
    },
}

impl Statement {
    pub(super) fn bytes(&self, chain: &ChainId) -> Vec<u8> {
        super::encode(&(chain, self))
    }
    /// Signs the statement for a chain.
    pub fn sign(&self, chain: &ChainId, key: &SecretKey) -> Signature {
        key.sign(Domain::Consensus, &self.bytes(chain))
    }
    /// Verifies one signature of the statement. Errors: those of `crypto::sign::verify`.
    pub fn verify(&self, chain: &ChainId, key: &[u8; 32], signature: &Signature) -> Result<(), SignError> {
        crate::crypto::sign::verify(key, Domain::Consensus, &self.bytes(chain), signature)
    }
}

/// A validator's signature, by its index in the epoch's set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Signed {
    /// Place in the set.
    pub index: u16,
    /// The signature.
    pub signature: Signature,
}

/// Why a certificate proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Signers not strictly ascending, or not in the set.
    #[error("signers must be members of the set in ascending order")]
    Signers,
    /// Too little weight.
    #[error("weight {have} of {total} is no quorum")]
    NoQuorum {
        /// Weight of the signers.
        have: u64,
        /// Weight of the set.
        total: u64,
    },
    /// A signature is wrong.
    #[error("a signature of the certificate is wrong")]
    Signature,
    /// The parts of a timeout certificate contradict each other.
    #[error("the timeout certificate does not carry the highest certificate of its timeouts")]
    HighMismatch,
}

/// A quorum of one kind of vote for one block in one view: a QC (prepare), or the proof of finality (commit).
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Certificate {
    /// Which vote.
    pub kind: VoteKind,
    /// The view in which the votes were cast.
    pub round: Round,
    /// The block's height.
    pub height: Height,
    /// The block.
    pub block: BlockHash,
    /// The votes, ascending by index. Empty in the genesis certificate only.
    pub signatures: Vec<Signed>,
}

impl Certificate {
    /// The certificate that needs no signature: of the genesis block, in view 0 of epoch 0.
    pub fn genesis(block: BlockHash) -> Self {
        let (round, height) = (Round::default(), Height::GENESIS);
        Self { kind: VoteKind::Prepare, round, height, block, signatures: Vec::new() }
    }
    /// Whether this is the certificate of that genesis block.
    pub fn is_genesis(&self, genesis: &BlockHash) -> bool {
        *self == Self::genesis(*genesis)
    }
    /// Its place in the order of justifications (protocol rule 1): a QC counts by its view; the commit certificate of an
    /// epoch's last block counts as QC of view 0 of the next epoch.
    pub fn rank(&self) -> Round {
        match self.kind {
            VoteKind::Prepare => self.round,
            VoteKind::Commit => self.round.next_epoch().unwrap_or(self.round),
        }
    }
    /// What its signers signed.
    pub fn statement(&self) -> Statement {
        Statement::Vote { kind: self.kind, round: self.round, height: self.height, block: self.block }
    }
    /// Checks signers, weight and signatures. The genesis certificate is for the caller to recognize.
    /// Errors: `Signers`, `NoQuorum`, `Signature`.
    pub fn verify(&self, chain: &ChainId, set: &ValidatorSet) -> Result<(), CertificateError> {
        require_quorum(set, self.power(set)?)?;
        self.verify_signatures(chain, set)
    }
    /// Weight of the signers. Errors: `Signers`.
    pub fn power(&self, set: &ValidatorSet) -> Result<u64, CertificateError> {
        power_of(set, self.signatures.iter().map(|signed| signed.index))
    }
    /// Checks the signatures alone. Errors: `Signers`, `Signature`.
    pub fn verify_signatures(&self, chain: &ChainId, set: &ValidatorSet) -> Result<(), CertificateError> {
        let bytes = self.statement().bytes(chain);
        let mut batch = Batch::new();
        for signed in &self.signatures {
            let node = set.get(signed.index).ok_or(CertificateError::Signers)?.node;
            batch.push(node.as_bytes(), Domain::Consensus, &bytes, &signed.signature);
        }
        batch.verify().map_err(|_| CertificateError::Signature)
    }
}

/// One timeout inside a timeout certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct TimedOut {
    /// Place in the set.
    pub index: u16,
    /// Rank of the signer's highest certificate, as signed.
    pub high: Round,
    /// The signature.
    pub signature: Signature,
}

/// A quorum of timeouts of one view, with the highest certificate that any of them names (protocol rule 2).
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct TimeoutCertificate {
    /// The view that was given up.
    pub round: Round,
    /// The timeouts, ascending by index.
    pub timeouts: Vec<TimedOut>,
    /// The highest prepare certificate among them, in full.
    pub high: Certificate,
}

impl TimeoutCertificate {
    /// Checks signers, weight, signatures, and that `high` is as high as the highest timeout says.
    /// The signatures of `high` itself are for the caller to check, who may know them already.
    /// Errors: `Signers`, `NoQuorum`, `Signature`, `HighMismatch`.
    pub fn verify(&self, chain: &ChainId, set: &ValidatorSet) -> Result<(), CertificateError> {
        require_quorum(set, self.power(set)?)?;
        self.verify_signatures(chain, set)
    }
    /// Weight of the signers. Errors: `Signers`.
    pub fn power(&self, set: &ValidatorSet) -> Result<u64, CertificateError> {
        power_of(set, self.timeouts.iter().map(|timeout| timeout.index))
    }
    /// Checks the signatures, and that `high` is what the highest timeout says. Errors: `Signers`, `Signature`,
    /// `HighMismatch`.
    pub fn verify_signatures(&self, chain: &ChainId, set: &ValidatorSet) -> Result<(), CertificateError> {
        let highest = self.timeouts.iter().map(|timeout| timeout.high).max();
        if highest != Some(self.high.rank()) {
            return Err(CertificateError::HighMismatch);
        }
        let mut batch = Batch::new();
        for timeout in &self.timeouts {
            let node = set.get(timeout.index).ok_or(CertificateError::Signers)?.node;
            let statement = Statement::Timeout { round: self.round, high: timeout.high };
            batch.push(node.as_bytes(), Domain::Consensus, &statement.bytes(chain), &timeout.signature);
        }
        batch.verify().map_err(|_| CertificateError::Signature)
    }
}

fn power_of(set: &ValidatorSet, indices: impl Iterator<Item = u16>) -> Result<u64, CertificateError> {
    let mut power = 0_u64;
    let mut last = None;
    for index in indices {
        if last.is_some_and(|last| last >= index) {
            return Err(CertificateError::Signers);
        }
        last = Some(index);
        power += set.get(index).ok_or(CertificateError::Signers)?.power;
    }
    Ok(power)
}

fn require_quorum(set: &ValidatorSet, have: u64) -> Result<(), CertificateError> {
    if set.is_quorum(have) { Ok(()) } else { Err(CertificateError::NoQuorum { have, total: set.total_power() }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Epoch, View};
    use crate::wire::Validator;

    fn keys() -> Vec<SecretKey> {
        let mut keys: Vec<_> = (1..=4).map(|n| SecretKey::from_seed(&[n; 32])).collect();
        keys.sort_by_key(|key| key.public().node_id());
        keys
    }

    fn set() -> ValidatorSet {
        let members = keys().iter().map(|key| Validator { node: key.public().node_id(), power: 1 }).collect();
        ValidatorSet::new(members).expect("a valid set")
    }

    fn certificate(signers: &[u16]) -> Certificate {
        let mut certificate = Certificate::genesis(BlockHash::from_bytes([9; 32]));
        certificate.round = Round::new(Epoch::ZERO, View::new(3));
        let statement = certificate.statement();
        let sign = |index: &u16| {
            let signature = statement.sign(&ChainId::from_bytes([1; 32]), &keys()[usize::from(*index)]);
            Signed { index: *index, signature }
        };
        certificate.signatures = signers.iter().map(sign).collect();
        certificate
    }

    #[test]
    fn three_of_four_make_a_certificate_and_two_do_not() {
        let chain = ChainId::from_bytes([1; 32]);
        assert_eq!(certificate(&[0, 1, 3]).verify(&chain, &set()), Ok(()));
        let too_few = Err(CertificateError::NoQuorum { have: 2, total: 4 });
        assert_eq!(certificate(&[0, 1]).verify(&chain, &set()), too_few);
    }

    #[test]
    fn a_signer_counts_once_and_only_for_its_chain() {
        let chain = ChainId::from_bytes([1; 32]);
        assert_eq!(certificate(&[0, 1, 1]).verify(&chain, &set()), Err(CertificateError::Signers));
        let other = ChainId::from_bytes([2; 32]);
        assert_eq!(certificate(&[0, 1, 2]).verify(&other, &set()), Err(CertificateError::Signature));
    }
}

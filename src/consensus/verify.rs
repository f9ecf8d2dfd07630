//! Verification of everything a message carries, before the core sees it.
//!
//! Bounded: `limits::KNOWN_CERTIFICATES_MAX` certificates are remembered, so that each is verified once.
//! Not here: whether a proposal fits its view (`safety`), what is in a block (`ledger`).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::crypto::Signature;
use crate::types::{BlockHash, Epoch, Height, NodeId, Round, limits};
use crate::wire::certificate::{CertificateError, Statement};
use crate::wire::message::{Offer, Proposal};
use crate::wire::{Certificate, Message, Newest, TimeoutCertificate, ValidatorSet, VoteKind};

use super::context::{Config, EpochContext};
use super::safety;

/// Why a message is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The message belongs to an epoch that has not begun here: tell the core by `Event::Ahead`.
    #[error("epoch {epoch} has not begun here")]
    LaterEpoch {
        /// Its epoch.
        epoch: Epoch,
        /// The height it speaks of.
        height: Height,
    },
    /// The message belongs to an epoch whose validators are forgotten.
    #[error("epoch {0} is over")]
    PastEpoch(Epoch),
    /// The signer is not in the set of its epoch.
    #[error("the signer is no validator of the epoch")]
    NoMember,
    /// The message's own signature is wrong.
    #[error("the signature of the message is wrong")]
    Signature,
    /// A certificate of the message proves nothing.
    #[error("certificate: {0}")]
    Certificate(#[from] CertificateError),
    /// A certificate stands where its kind or epoch does not belong.
    #[error("a certificate of the wrong kind or epoch for its place")]
    Misplaced,
}

type Known = (Round, VoteKind, Height, BlockHash);

/// Epochs whose sets are known: the current one, the one before, of which messages are still answered (protocol rule 17),
/// and the one before that, which their certificates may come from.
const EPOCHS: usize = 3;

/// Checks messages against the sets of the current epoch and the two before.
pub struct Verifier {
    config: Config,
    sets: BTreeMap<Epoch, Arc<ValidatorSet>>,
    known: BTreeMap<Known, Certificate>,
    known_timeouts: VecDeque<TimeoutCertificate>,
}

impl Verifier {
    /// A verifier that knows one epoch. A node that resumes in a later one begins with the epoch before it.
    pub fn new(config: &Config, context: &EpochContext) -> Self {
        let (sets, known, known_timeouts) = Default::default();
        let mut verifier = Self { config: config.clone(), sets, known, known_timeouts };
        verifier.begin_epoch(context);
        verifier
    }

    /// The next epoch has begun; the oldest is forgotten.
    pub fn begin_epoch(&mut self, context: &EpochContext) {
        self.sets.insert(context.epoch, context.set.clone());
        while self.sets.len() > EPOCHS {
            self.sets.pop_first();
        }
        self.trust(&context.opening);
    }

    /// The place of a node in an epoch's set, if the epoch is known and it has one.
    pub fn place(&self, epoch: Epoch, node: &NodeId) -> Option<u16> {
        self.sets.get(&epoch)?.index_of(node)
    }

    /// The validator at a place in an epoch's set, if the epoch is known.
    pub fn member(&self, epoch: Epoch, index: u16) -> Option<NodeId> {
        self.sets.get(&epoch)?.get(index).map(|member| member.node)
    }

    /// Takes a certificate as known: one that the own core made of verified votes, or that is on the own disk.
    pub fn trust(&mut self, certificate: &Certificate) {
        self.known.insert(key_of(certificate), certificate.clone());
        if self.known.len() > limits::KNOWN_CERTIFICATES_MAX {
            self.known.pop_first();
        }
    }

    /// Verifies one certificate. Errors: `LaterEpoch`, `PastEpoch`, `Certificate`.
    pub fn certificate(&mut self, certificate: &Certificate) -> Result<(), VerifyError> {
        if certificate.is_genesis(&self.config.genesis) || self.known.get(&key_of(certificate)) == Some(certificate) {
            return Ok(());
        }
        let set = self.set(certificate.round.epoch, certificate.height)?;
        self.require_quorum(&set, certificate.power(&set)?)?;
        certificate.verify_signatures(&self.config.chain, &set)?;
        self.trust(certificate);
        Ok(())
    }

    /// Verifies the signatures of a message, those of its certificates included. What comes back is to be given to the core:
    /// certificates may be replaced by known ones that say the same, and of a message of a later epoch only the
    /// certificate that ends the known one is left.
    /// Errors: `LaterEpoch` and all others.
    pub fn verify(&mut self, mut message: Message) -> Result<Message, VerifyError> {
        let (round, height) = match &message {
            Message::Proposal(proposal) => (proposal.round, proposal.offer.height()),
            Message::Vote(vote) => (vote.round, vote.height),
            Message::Timeout(timeout) => (timeout.round, timeout.newest.high.height),
            Message::Newest(newest) => (newest.high.rank(), newest.high.height),
            Message::Block(block) => (Round::default(), block.block.header.height),
            Message::Fetch(_) => return Ok(message),
        };
        let last = self.sets.keys().next_back().copied().unwrap_or_default();
        if round.epoch > last {
            return self.reduce(message, round.epoch, height);
        }
        match &mut message {
            Message::Proposal(proposal) => self.verify_proposal(proposal)?,
            Message::Vote(vote) => {
                let statement =
                    Statement::Vote { kind: vote.kind, round: vote.round, height: vote.height, block: vote.block };
                self.signature(vote.round, vote.index, statement, &vote.signature)?;
                self.newest(&mut vote.newest, None)?;
            }
            Message::Timeout(timeout) => {
                let statement = Statement::Timeout { round: timeout.round, high: timeout.newest.high.rank() };
                self.signature(timeout.round, timeout.index, statement, &timeout.signature)?;
                self.newest(&mut timeout.newest, Some(timeout.round.epoch))?;
            }
            Message::Newest(newest) => self.newest(newest, None)?,
            Message::Block(block) => self.justification(&mut block.justify)?,
            Message::Fetch(_) => {}
        }
        Ok(message)
    }

    /// Of a message of an unknown epoch: the certificate that ends the known one, if it has it.
    fn reduce(&mut self, message: Message, epoch: Epoch, height: Height) -> Result<Message, VerifyError> {
        let (newest, justify) = match message {
            Message::Proposal(proposal) => (proposal.newest, Some(proposal.offer.justify().clone())),
            Message::Vote(vote) => (vote.newest, None),
            Message::Timeout(timeout) => (timeout.newest, None),
            Message::Newest(newest) => (*newest, None),
            Message::Fetch(_) | Message::Block(_) => return Err(VerifyError::LaterEpoch { epoch, height }),
        };
        for certificate in [newest.commit, Some(newest.high), justify].into_iter().flatten() {
            let ends = certificate.kind == VoteKind::Commit && safety::may_justify(&self.config, &certificate);
            if ends && self.sets.contains_key(&certificate.round.epoch) {
                self.certificate(&certificate)?;
                let newest = Newest { high: certificate.clone(), timeout: None, commit: Some(certificate) };
                return Ok(Message::Newest(Box::new(newest)));
            }
        }
        Err(VerifyError::LaterEpoch { epoch, height })
    }

    fn verify_proposal(&mut self, proposal: &mut Proposal) -> Result<(), VerifyError> {
        let statement = Statement::Propose { round: proposal.round, block: proposal.offer.hash() };
        self.signature(proposal.round, proposal.index, statement, &proposal.signature)?;
        match &mut proposal.offer {
            Offer::Block(block) => self.justification(&mut block.justify)?,
            Offer::Tail { justify, .. } => self.justification(justify)?,
        }
        self.newest(&mut proposal.newest, None)
    }

    fn signature(&self, round: Round, index: u16, said: Statement, signature: &Signature) -> Result<(), VerifyError> {
        let set = self.set(round.epoch, Height::GENESIS)?;
        let node = set.get(index).ok_or(VerifyError::NoMember)?.node;
        said.verify(&self.config.chain, node.as_bytes(), signature).map_err(|_| VerifyError::Signature)
    }

    /// `epoch` demands that the high certificate ranks in that epoch: a timeout must not claim less than its opening.
    fn newest(&mut self, newest: &mut Newest, epoch: Option<Epoch>) -> Result<(), VerifyError> {
        self.justification(&mut newest.high)?;
        if epoch.is_some_and(|epoch| newest.high.rank().epoch != epoch) {
            return Err(VerifyError::Misplaced);
        }
        if let Some(timeout) = &mut newest.timeout {
            self.timeout(timeout)?;
        }
        match &mut newest.commit {
            Some(commit) if commit.kind != VoteKind::Commit => Err(VerifyError::Misplaced),
            Some(commit) => self.replace(commit),
            None => Ok(()),
        }
    }

    fn timeout(&mut self, timeout: &mut TimeoutCertificate) -> Result<(), VerifyError> {
        self.justification(&mut timeout.high)?;
        if timeout.high.rank().epoch != timeout.round.epoch {
            return Err(VerifyError::Misplaced);
        }
        if self.known_timeouts.contains(timeout) {
            return Ok(());
        }
        let set = self.set(timeout.round.epoch, timeout.high.height)?;
        self.require_quorum(&set, timeout.power(&set)?)?;
        timeout.verify_signatures(&self.config.chain, &set)?;
        self.known_timeouts.push_back(timeout.clone());
        if self.known_timeouts.len() > limits::KNOWN_TIMEOUTS_MAX {
            self.known_timeouts.pop_front();
        }
        Ok(())
    }

    fn justification(&mut self, certificate: &mut Certificate) -> Result<(), VerifyError> {
        if !safety::may_justify(&self.config, certificate) {
            return Err(VerifyError::Misplaced);
        }
        self.replace(certificate)
    }

    /// Puts the known certificate in the place of one that says the same: whose signatures it has does not matter.
    fn replace(&mut self, certificate: &mut Certificate) -> Result<(), VerifyError> {
        match self.known.get(&key_of(certificate)) {
            Some(known) => {
                certificate.clone_from(known);
                Ok(())
            }
            None => self.certificate(certificate),
        }
    }

    fn set(&self, epoch: Epoch, height: Height) -> Result<Arc<ValidatorSet>, VerifyError> {
        let later = self.sets.keys().next_back().is_none_or(|last| *last < epoch);
        let missing = || if later { VerifyError::LaterEpoch { epoch, height } } else { VerifyError::PastEpoch(epoch) };
        self.sets.get(&epoch).cloned().ok_or_else(missing)
    }

    fn require_quorum(&self, set: &ValidatorSet, have: u64) -> Result<(), VerifyError> {
        if safety::is_quorum(&self.config, set, have) {
            return Ok(());
        }
        Err(CertificateError::NoQuorum { have, total: set.total_power() }.into())
    }
}

fn key_of(certificate: &Certificate) -> Known {
    (certificate.round, certificate.kind, certificate.height, certificate.block)
}

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;

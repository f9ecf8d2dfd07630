//! Gate: what a machine checks of a message before its core sees it.
//!
//! With real signatures this is the real `consensus::Verifier`. With ideal ones (`ring`) signatures are looked up instead,
//! and everything else that the verifier does is done here in the same way.

use crate::consensus::{Config, EpochContext, Verifier, VerifyError, safety};
use crate::types::{Epoch, Height, Round};
use crate::wire::certificate::Statement;
use crate::wire::{Certificate, Message, Newest, TimeoutCertificate, VoteKind};

use super::ring::Ring;

/// Epochs before the current one whose messages are taken.
const PAST_EPOCHS: u64 = 2;

/// One machine's checks.
pub enum Gate {
    /// The verifier of a node.
    Real(Box<Verifier>),
    /// Look-ups in place of signatures.
    Ideal {
        /// Settings of the machine's replica.
        config: Box<Config>,
        /// The newest epoch that has begun.
        last: Epoch,
    },
}

impl Gate {
    /// A gate that knows the newest epochs.
    pub fn new(real: bool, config: &Config, contexts: &[EpochContext]) -> Self {
        let known = &contexts[contexts.len().saturating_sub(3)..];
        let last = contexts.last().map(|context| context.epoch).unwrap_or_default();
        if !real {
            return Self::Ideal { config: Box::new(config.clone()), last };
        }
        let mut verifier = Verifier::new(config, &known[0]);
        known[1..].iter().for_each(|context| verifier.begin_epoch(context));
        Self::Real(Box::new(verifier))
    }
    /// The next epoch has begun.
    pub fn begin_epoch(&mut self, context: &EpochContext) {
        match self {
            Self::Real(verifier) => verifier.begin_epoch(context),
            Self::Ideal { last, .. } => *last = context.epoch,
        }
    }
    /// What the core is to be given. Errors: as `consensus::Verifier::verify`.
    pub fn verify(&mut self, ring: &Ring, message: Message) -> Result<Message, VerifyError> {
        match self {
            Self::Real(verifier) => verifier.verify(message),
            Self::Ideal { config, last } => Ideal { config, last: *last, ring }.verify(message),
        }
    }
}

struct Ideal<'a> {
    config: &'a Config,
    last: Epoch,
    ring: &'a Ring,
}

impl Ideal<'_> {
    fn verify(&self, message: Message) -> Result<Message, VerifyError> {
        let (round, height) = match &message {
            Message::Proposal(proposal) => (proposal.round, proposal.offer.height()),
            Message::Vote(vote) => (vote.round, vote.height),
            Message::Timeout(timeout) => (timeout.round, timeout.newest.high.height),
            Message::Newest(newest) => (newest.high.rank(), newest.high.height),
            Message::Block(block) => (Round::default(), block.block.header.height),
            Message::Fetch(_) => return Ok(message),
        };
        if round.epoch > self.last {
            return self.reduce(message, round.epoch, height);
        }
        match &message {
            Message::Proposal(proposal) => {
                let said = Statement::Propose { round: proposal.round, block: proposal.offer.hash() };
                self.signature(proposal.round, proposal.index, &said)?;
                self.justification(proposal.offer.justify())?;
                self.newest(&proposal.newest)?;
            }
            Message::Vote(vote) => {
                let (kind, round, height, block) = (vote.kind, vote.round, vote.height, vote.block);
                self.signature(round, vote.index, &Statement::Vote { kind, round, height, block })?;
                self.newest(&vote.newest)?;
            }
            Message::Timeout(timeout) => {
                let said = Statement::Timeout { round: timeout.round, high: timeout.newest.high.rank() };
                self.signature(timeout.round, timeout.index, &said)?;
                self.newest(&timeout.newest)?;
                if timeout.newest.high.rank().epoch != timeout.round.epoch {
                    return Err(VerifyError::Misplaced);
                }
            }
            Message::Newest(newest) => self.newest(newest)?,
            Message::Block(block) => self.justification(&block.justify)?,
            Message::Fetch(_) => {}
        }
        Ok(message)
    }

    fn reduce(&self, message: Message, epoch: Epoch, height: Height) -> Result<Message, VerifyError> {
        let (newest, justify) = match message {
            Message::Proposal(proposal) => (proposal.newest, Some(proposal.offer.justify().clone())),
            Message::Vote(vote) => (vote.newest, None),
            Message::Timeout(timeout) => (timeout.newest, None),
            Message::Newest(newest) => (*newest, None),
            Message::Fetch(_) | Message::Block(_) => return Err(VerifyError::LaterEpoch { epoch, height }),
        };
        for certificate in [newest.commit, Some(newest.high), justify].into_iter().flatten() {
            let ends = certificate.kind == VoteKind::Commit && safety::may_justify(self.config, &certificate);
            if ends && self.known(certificate.round.epoch, height).is_ok() {
                self.certificate(&certificate)?;
                let newest = Newest { high: certificate.clone(), timeout: None, commit: Some(certificate) };
                return Ok(Message::Newest(Box::new(newest)));
            }
        }
        Err(VerifyError::LaterEpoch { epoch, height })
    }

    fn signature(&self, round: Round, index: u16, said: &Statement) -> Result<(), VerifyError> {
        self.known(round.epoch, Height::GENESIS)?;
        if self.ring.holds_at(round.epoch, index, said) { Ok(()) } else { Err(VerifyError::Signature) }
    }

    fn known(&self, epoch: Epoch, height: Height) -> Result<(), VerifyError> {
        if epoch > self.last {
            return Err(VerifyError::LaterEpoch { epoch, height });
        }
        if epoch.get() + PAST_EPOCHS < self.last.get() {
            return Err(VerifyError::PastEpoch(epoch));
        }
        Ok(())
    }

    fn certificate(&self, certificate: &Certificate) -> Result<(), VerifyError> {
        if certificate.is_genesis(&self.config.genesis) {
            return Ok(());
        }
        self.known(certificate.round.epoch, certificate.height)?;
        let set = self.ring.set_in(certificate.round.epoch);
        let power = certificate.power(set)?;
        if !safety::is_quorum(self.config, set, power) || !self.ring.signed(certificate) {
            return Err(VerifyError::Signature);
        }
        Ok(())
    }

    fn justification(&self, certificate: &Certificate) -> Result<(), VerifyError> {
        if !safety::may_justify(self.config, certificate) {
            return Err(VerifyError::Misplaced);
        }
        self.certificate(certificate)
    }

    fn newest(&self, newest: &Newest) -> Result<(), VerifyError> {
        self.justification(&newest.high)?;
        if let Some(timeout) = &newest.timeout {
            self.timeout(timeout)?;
        }
        match &newest.commit {
            Some(commit) if commit.kind != VoteKind::Commit => Err(VerifyError::Misplaced),
            Some(commit) => self.certificate(commit),
            None => Ok(()),
        }
    }

    fn timeout(&self, timeout: &TimeoutCertificate) -> Result<(), VerifyError> {
        self.justification(&timeout.high)?;
        self.known(timeout.round.epoch, timeout.high.height)?;
        let set = self.ring.set_in(timeout.round.epoch);
        let quorum = safety::is_quorum(self.config, set, timeout.power(set)?);
        if timeout.high.rank().epoch != timeout.round.epoch || !quorum || !self.ring.signed_timeouts(timeout) {
            return Err(VerifyError::Misplaced);
        }
        Ok(())
    }
}

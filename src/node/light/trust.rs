//! Trust: from a genesis or a checkpoint to the validators of a height, each set certified by the one before.

use std::fmt;
use std::str::FromStr;

use borsh::{BorshDeserialize, BorshSerialize};

use crate::ledger::Genesis;
use crate::node::bundle::{BundleError, fault};
use crate::types::{BlockHash, ChainId, Height};
use crate::wire::{Certificate, Header, ValidatorSet, VoteKind};

/// Headers between a state and its certificate: one, unless blocks became final by a descendant.
pub const HEADERS_MAX: usize = 1_024;

/// One set taking over from another, certified by the one before.
#[derive(Clone, Debug, PartialEq, BorshSerialize, BorshDeserialize)]
pub struct SetChange {
    /// The last header that the set before certifies; it names the next set.
    pub header: Header,
    /// Proof that it is final.
    pub certificate: Certificate,
    /// The next set.
    pub next: ValidatorSet,
}

/// A final block by height and hash, told by somebody who is trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Its height.
    pub height: Height,
    /// Its hash.
    pub hash: BlockHash,
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.height, self.hash)
    }
}

impl FromStr for Checkpoint {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no HEIGHT:HASH, such as `trullo ledger status` shows as its checkpoint");
        let (height, hash) = text.split_once(':').ok_or_else(wrong)?;
        let height = height.parse().map(Height::new).map_err(|_| wrong())?;
        Ok(Self { height, hash: hash.parse().map_err(|_| wrong())? })
    }
}

/// What somebody believes before looking at any proof.
#[derive(Clone, Copy, Debug)]
pub enum Anchor<'a> {
    /// The genesis of the chain.
    Genesis(&'a Genesis),
    /// A final block.
    Checkpoint(Checkpoint),
}

/// A height that is known as final, and who certifies what comes after it.
#[derive(Clone, Debug, PartialEq, BorshSerialize, BorshDeserialize)]
pub struct Trusted {
    /// The chain.
    pub chain: ChainId,
    /// The height.
    pub height: Height,
    /// The hash of its block.
    pub hash: BlockHash,
    /// The validators of the next height.
    pub set: ValidatorSet,
}

impl Trusted {
    /// What a genesis says. Errors: it is none.
    pub fn genesis(genesis: &Genesis) -> Result<Self, BundleError> {
        let wrong = |error: crate::ledger::GenesisError| fault(format!("genesis: {error}"));
        let set = genesis.validator_set().map_err(wrong)?;
        let hash = genesis.block().map_err(wrong)?.hash();
        Ok(Self { chain: genesis.chain_id(), height: Height::GENESIS, hash, set })
    }

    /// What a checkpoint says: its header, and the validators that the header names for the next height.
    /// Errors: these are not those of the checkpoint.
    pub fn checkpoint(point: &Checkpoint, header: &Header, next: &ValidatorSet) -> Result<Self, BundleError> {
        if header.height != point.height || header.hash() != point.hash {
            return Err(fault(format!("header {} is not that of checkpoint {point}", header.height)));
        }
        if header.next_set != next.hash() {
            return Err(fault(format!("header {} names other validators than those that follow", header.height)));
        }
        Ok(Self { chain: header.chain, height: header.height, hash: point.hash, set: next.clone() })
    }

    /// Goes over to the next set. Errors: the set before does not certify that; then nothing is changed.
    pub fn change(&mut self, change: &SetChange) -> Result<(), BundleError> {
        let SetChange { header, certificate, next } = change;
        let at = header.height;
        if header.chain != self.chain || header.validator_set != self.set.hash() || at <= self.height {
            return Err(fault(format!("header {at} does not lead on from the validators before it")));
        }
        if !certifies(certificate, header) {
            return Err(fault(format!("the certificate at height {at} is of another block")));
        }
        let verified = certificate.verify(&self.chain, &self.set);
        verified.map_err(|error| fault(format!("certificate of height {at}: {error}")))?;
        if header.next_set != next.hash() {
            return Err(fault(format!("header {at} names other validators than those that follow")));
        }
        (self.set, self.height, self.hash) = (next.clone(), at, header.hash());
        Ok(())
    }

    /// Checks that headers follow one another and that the last is certified by these validators, and so all of them.
    /// Errors: `BundleError`.
    pub fn certified(&self, headers: &[Header], certificate: &Certificate) -> Result<(), BundleError> {
        if headers.is_empty() || headers.len() > HEADERS_MAX {
            return Err(fault(format!("{} headers", headers.len())));
        }
        for header in headers {
            if header.chain != self.chain {
                return Err(fault(format!(
                    "the bundle is of chain {}, what is trusted of {}",
                    header.chain, self.chain
                )));
            }
            if header.validator_set != self.set.hash() {
                return Err(fault(format!("header {} is not for these validators to certify", header.height)));
            }
        }
        for pair in headers.windows(2) {
            if let [parent, child] = pair
                && (child.parent != parent.hash() || Some(child.height) != parent.height.next())
            {
                return Err(fault(format!("header {} does not follow header {}", child.height, parent.height)));
            }
        }
        let first = headers.first().map_or(Height::GENESIS, |first| first.height);
        if first <= self.height && self.height > Height::GENESIS {
            return Err(fault(format!("header {first} is older than the validators that certify it")));
        }
        if !headers.last().is_some_and(|last| certifies(certificate, last)) {
            return Err(fault("the certificate is of another block"));
        }
        certificate.verify(&self.chain, &self.set).map_err(|error| fault(format!("certificate: {error}")))
    }

    /// Goes on to a certified header; `change` does that at a change of the validators, so those of the next height are the
    /// same. Errors: those of `certified`; that a header names others.
    pub fn advance(&mut self, headers: &[Header], certificate: &Certificate) -> Result<(), BundleError> {
        self.certified(headers, certificate)?;
        // The last header that keeps the set: what follows a change needs its new set.
        let own = self.set.hash();
        let kept = headers.iter().rev().find(|header| header.next_set == own);
        if let Some(header) = kept {
            (self.height, self.hash) = (header.height, header.hash());
        }
        Ok(())
    }
}

/// Whether a certificate is a commit certificate of a header.
pub fn certifies(certificate: &Certificate, header: &Header) -> bool {
    certificate.kind == VoteKind::Commit
        && certificate.block == header.hash()
        && certificate.height == header.height
        && certificate.round.epoch == header.round.epoch
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_is_read_as_it_is_written() {
        let point = Checkpoint { height: Height::new(7), hash: BlockHash::from_bytes([0xab; 32]) };
        assert_eq!(point.to_string().parse(), Ok(point));
        for wrong in ["", "7", "7:", ":ab", "7:abc", "x:00", &format!("-1:{}", point.hash)] {
            assert!(wrong.parse::<Checkpoint>().is_err(), "{wrong:?}");
        }
    }
}

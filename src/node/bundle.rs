//! Proof bundles: what the chain's state says, checkable with nothing but the genesis file.
//!
//! A bundle holds a record (or its absence), the proof of it under a state root, the header with that root, the headers
//! up to a certified one, and the certificate. Where the validators are not those of the genesis, it also holds each change of
//! them: the last header before it, which names the next set, its certificate by the set before, and the next set itself.

use borsh::{BorshDeserialize, BorshSerialize};

use super::handle::{Handle, NodeError};
use crate::ledger::record::validator_set;
use crate::ledger::tree::{Overlay, StateProof, TreeError, prove};
use crate::ledger::{Genesis, Key, Record};
use crate::store::{Snapshot, StoreError};
use crate::types::{Epoch, Height, limits};
use crate::wire::{self, Certificate, Header, ValidatorSet, VoteKind};

/// Headers between a state and its certificate: one, unless blocks became final by a descendant.
const HEADERS_MAX: usize = 1_024;

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

/// A record of the state, with everything that proves it.
#[derive(Clone, Debug, PartialEq, BorshSerialize, BorshDeserialize)]
pub struct Bundle {
    /// The record's key.
    pub key: Vec<u8>,
    /// Its bytes, or that there is none.
    pub record: Option<Vec<u8>>,
    /// Proof of that under the first header's state root.
    pub proof: StateProof,
    /// From the validators of the genesis to those who certify the headers.
    pub changes: Vec<SetChange>,
    /// From the header with the state root to the certified one, without gaps.
    pub headers: Vec<Header>,
    /// Proof that the last header is final.
    pub certificate: Certificate,
}

/// Why a bundle proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BundleError(pub String);

fn fault(text: impl Into<String>) -> BundleError {
    BundleError(text.into())
}

impl Bundle {
    /// Proves a record as of the last final block. Errors: `Unavailable` before the first block after genesis, or when the validators
    /// have changed too often for one bundle; `Store`.
    pub fn make(handle: &Handle, key: &Key) -> Result<Self, NodeError> {
        let snapshot = handle.snapshot()?;
        let tip = snapshot.tip()?.filter(|tip| tip.height > Height::GENESIS);
        let tip = tip.ok_or_else(|| NodeError::Unavailable("no block is final yet; try again".to_owned()))?;
        let bundle = Self::at(&snapshot, key, tip.height)?;
        if bundle.changes.len() > limits::SET_CHANGES_MAX {
            let changes = bundle.changes.len();
            let max = limits::SET_CHANGES_MAX;
            let text = format!("the validators have changed {changes} times; a bundle leads over {max}");
            return Err(NodeError::Unavailable(text));
        }
        Ok(bundle)
    }

    fn at(snapshot: &Snapshot, key: &Key, height: Height) -> Result<Self, StoreError> {
        let missing = |what: &str| StoreError::corrupted(what, height.to_string());
        let proof = prove(&Overlay::new(snapshot, &[]), height, key).map_err(|error| match error {
            TreeError::Read(error) => error,
            TreeError::Damaged(what) => StoreError::corrupted("tree_nodes.v1", what),
        })?;
        let certificate = snapshot.certificate_from(height)?.ok_or_else(|| missing("certificates.v1"))?;
        let count = certificate.height.get().saturating_sub(height.get()).saturating_add(1);
        let headers = snapshot.headers(height, usize::try_from(count).unwrap_or(HEADERS_MAX))?;
        let changes = changes(snapshot, certificate.round.epoch)?;
        let key = key.bytes();
        Ok(Self { record: snapshot.state(&key)?, key, proof, changes, headers, certificate })
    }

    /// The validators that certify the headers: those of the genesis, or others step by step, each certified by those before.
    fn certifiers(&self, genesis: &Genesis) -> Result<ValidatorSet, BundleError> {
        let chain = genesis.chain_id();
        let mut set = genesis.validator_set().map_err(|error| fault(format!("genesis: {error}")))?;
        if self.changes.len() > limits::SET_CHANGES_MAX {
            return Err(fault(format!("{} changes of the validators", self.changes.len())));
        }
        let mut height = Height::GENESIS;
        for SetChange { header, certificate, next } in &self.changes {
            let at = header.height;
            if header.chain != chain || header.validator_set != set.hash() || at <= height {
                return Err(fault(format!("header {at} does not lead on from the validators before it")));
            }
            if !certifies(certificate, header) {
                return Err(fault(format!("the certificate at height {at} is of another block")));
            }
            certificate.verify(&chain, &set).map_err(|error| fault(format!("certificate of height {at}: {error}")))?;
            if header.next_set != next.hash() {
                return Err(fault(format!("header {at} names other validators than those that follow")));
            }
            (set, height) = (next.clone(), at);
        }
        let first = self.headers.first().map_or(Height::GENESIS, |first| first.height);
        if first <= height && !self.changes.is_empty() {
            return Err(fault(format!("header {first} is older than the validators that certify it")));
        }
        Ok(set)
    }

    /// The height whose state the record is of.
    pub fn height(&self) -> Height {
        self.headers.first().map_or(Height::GENESIS, |header| header.height)
    }

    /// Checks everything against the genesis; nothing else is believed. Returns key and record.
    /// Errors: `BundleError`.
    pub fn verify(&self, genesis: &Genesis) -> Result<(Key, Option<Record>), BundleError> {
        let chain = genesis.chain_id();
        let set = self.certifiers(genesis)?;
        if self.headers.is_empty() || self.headers.len() > HEADERS_MAX {
            return Err(fault(format!("{} headers", self.headers.len())));
        }
        for header in &self.headers {
            if header.chain != chain {
                return Err(fault(format!("the bundle is of chain {}, the genesis of {chain}", header.chain)));
            }
            if header.validator_set != set.hash() {
                return Err(fault(format!("header {} is not for these validators to certify", header.height)));
            }
        }
        for pair in self.headers.windows(2) {
            if let [parent, child] = pair
                && (child.parent != parent.hash() || Some(child.height) != parent.height.next())
            {
                return Err(fault(format!("header {} does not follow header {}", child.height, parent.height)));
            }
        }
        if !self.headers.last().is_some_and(|last| certifies(&self.certificate, last)) {
            return Err(fault("the certificate is of another block"));
        }
        self.certificate.verify(&chain, &set).map_err(|error| fault(format!("certificate: {error}")))?;
        let key = Key::from_bytes(&self.key).ok_or_else(|| fault("the key is none of the ledger's"))?;
        let root = self.headers.first().map(|header| header.state_root);
        let root = root.ok_or_else(|| fault("no header"))?;
        self.proof.verify(&root, &key, self.record.as_deref()).map_err(|error| fault(error.to_string()))?;
        let record = self.record.as_deref().map(|bytes| Record::from_bytes(&key, bytes)).transpose();
        Ok((key, record.map_err(|error| fault(error.to_string()))?))
    }

    /// The bundle of some bytes. Errors: `BundleError`.
    pub fn decode(bytes: &[u8]) -> Result<Self, BundleError> {
        wire::decode(bytes, limits::BUNDLE_BYTES_MAX).map_err(|error| fault(error.to_string()))
    }
}

fn certifies(certificate: &Certificate, header: &Header) -> bool {
    certificate.kind == VoteKind::Commit
        && certificate.block == header.hash()
        && certificate.height == header.height
        && certificate.round.epoch == header.round.epoch
}

/// Every change of the validators up to an epoch.
fn changes(snapshot: &Snapshot, until: Epoch) -> Result<Vec<SetChange>, StoreError> {
    let mut epochs = Vec::new();
    let mut sets = Vec::new();
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = snapshot.state_scan(&Key::replaced(), after.as_deref(), 256)?;
        let Some((last, _)) = page.last() else { break };
        after = Some(last.clone());
        for (key, bytes) in page {
            let damaged = || StoreError::corrupted("state.v1", hex::encode(&key));
            let named = Key::from_bytes(&key).ok_or_else(damaged)?;
            let Key::Replaced(epoch) = named else { return Err(damaged()) };
            let Ok(Record::Validators(entries)) = Record::from_bytes(&named, &bytes) else { return Err(damaged()) };
            sets.push(validator_set(&entries).map_err(|_| damaged())?);
            epochs.push(epoch);
        }
    }
    sets.push(super::app::validators(snapshot)?);
    // A set is replaced by the one that the next change replaces.
    let next = sets.into_iter().skip(1);
    epochs
        .into_iter()
        .zip(next)
        .take_while(|(epoch, _)| *epoch <= until)
        .map(|(epoch, next)| change(snapshot, epoch, next))
        .collect()
}

/// The change with which an epoch begins.
fn change(snapshot: &Snapshot, epoch: Epoch, next: ValidatorSet) -> Result<SetChange, StoreError> {
    let missing = |what: &str| StoreError::corrupted(what, format!("epoch {epoch}"));
    let Some(Record::Params(params)) = super::app::read_record(snapshot, &Key::Params)? else {
        return Err(missing("state.v1"));
    };
    let last = Height::new(epoch.get().saturating_mul(params.epoch_blocks));
    let header = snapshot.headers(last, 1)?.into_iter().next().ok_or_else(|| missing("headers.v1"))?;
    let certificate = snapshot.certificate(last)?.ok_or_else(|| missing("certificates.v1"))?;
    Ok(SetChange { header, certificate, next })
}

#[cfg(test)]
#[path = "bundle_tests.rs"]
mod tests;

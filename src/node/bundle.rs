//! Proof bundles: what the chain's state says, checkable with nothing but the genesis file.
//!
//! A bundle holds a record (or its absence), the proof of it under a state root, the header with that root, the headers
//! up to a certified one, and the certificate. Changes of the validator set are not part of the chain yet: every epoch has the
//! validators of the genesis.

use borsh::{BorshDeserialize, BorshSerialize};

use super::handle::{Handle, NodeError};
use crate::ledger::tree::{Overlay, StateProof, TreeError, prove};
use crate::ledger::{Genesis, Key, Record};
use crate::store::{Snapshot, StoreError};
use crate::types::{Height, limits};
use crate::wire::{self, Certificate, Header, VoteKind};

/// Headers between a state and its certificate: one, unless blocks became final by a descendant.
const HEADERS_MAX: usize = 1_024;

/// A record of the state, with everything that proves it.
#[derive(Clone, Debug, PartialEq, BorshSerialize, BorshDeserialize)]
pub struct Bundle {
    /// The record's key.
    pub key: Vec<u8>,
    /// Its bytes, or that there is none.
    pub record: Option<Vec<u8>>,
    /// Proof of that under the first header's state root.
    pub proof: StateProof,
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
    /// Proves a record as of the last final block. Errors: `Unavailable` before the first block after genesis; `Store`.
    pub fn make(handle: &Handle, key: &Key) -> Result<Self, NodeError> {
        let snapshot = handle.snapshot()?;
        let tip = snapshot.tip()?.filter(|tip| tip.height > Height::GENESIS);
        let tip = tip.ok_or_else(|| NodeError::Unavailable("no block is final yet; try again".to_owned()))?;
        Ok(Self::at(&snapshot, key, tip.height)?)
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
        let key = key.bytes();
        Ok(Self { record: snapshot.state(&key)?, key, proof, headers, certificate })
    }

    /// The height whose state the record is of.
    pub fn height(&self) -> Height {
        self.headers.first().map_or(Height::GENESIS, |header| header.height)
    }

    /// Checks everything against the genesis; nothing else is believed. Returns key and record.
    /// Errors: `BundleError`.
    pub fn verify(&self, genesis: &Genesis) -> Result<(Key, Option<Record>), BundleError> {
        let chain = genesis.chain_id();
        let set = genesis.validator_set().map_err(|error| fault(format!("genesis: {error}")))?;
        if self.headers.is_empty() || self.headers.len() > HEADERS_MAX {
            return Err(fault(format!("{} headers", self.headers.len())));
        }
        for header in &self.headers {
            if header.chain != chain {
                return Err(fault(format!("the bundle is of chain {}, the genesis of {chain}", header.chain)));
            }
            if header.validator_set != set.hash() {
                return Err(fault(format!("header {} has another validator set than the genesis", header.height)));
            }
        }
        for pair in self.headers.windows(2) {
            if let [parent, child] = pair
                && (child.parent != parent.hash() || Some(child.height) != parent.height.next())
            {
                return Err(fault(format!("header {} does not follow header {}", child.height, parent.height)));
            }
        }
        let certified = self.headers.last().is_some_and(|last| {
            let certificate = &self.certificate;
            certificate.kind == VoteKind::Commit
                && certificate.block == last.hash()
                && certificate.height == last.height
        });
        if !certified {
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

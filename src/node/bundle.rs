//! Proof bundles: what the chain's state says, checkable with nothing but the genesis file, or a checkpoint.
//!
//! A bundle holds a record (or its absence), the proof of it under a state root, the header with that root, the headers
//! up to a certified one, and the certificate. Where the validators are not those of the genesis, it also holds each change of
//! them: the last header before it, which names the next set, its certificate by the set before, and the next set itself.

use borsh::{BorshDeserialize, BorshSerialize};

use super::handle::{Handle, NodeError};
use super::light::trust::HEADERS_MAX;
pub use super::light::trust::{Anchor, Checkpoint, SetChange, Trusted};
use crate::ledger::record::validator_set;
use crate::ledger::tree::{Overlay, StateProof, TreeError, prove};
use crate::ledger::{Key, Record};
use crate::store::{Snapshot, StoreError};
use crate::types::{ChainId, Epoch, Height, limits};
use crate::wire::{self, Certificate, Header, ValidatorSet};

/// A record of the state, with everything that proves it.
#[derive(Clone, Debug, PartialEq, BorshSerialize, BorshDeserialize)]
pub struct Bundle {
    /// The record's key.
    pub key: Vec<u8>,
    /// Its bytes, or that there is none.
    pub record: Option<Vec<u8>>,
    /// Proof of that under the first header's state root.
    pub proof: StateProof,
    /// The header of the checkpoint that the bundle begins with, and the validators that it names; none from the genesis.
    pub start: Option<(Header, ValidatorSet)>,
    /// From the validators of the genesis, or of the checkpoint, to those who certify the headers.
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

pub(super) fn fault(text: impl Into<String>) -> BundleError {
    BundleError(text.into())
}

impl Bundle {
    /// Proves a record as of the last final block, from the genesis or from a checkpoint of this height on.
    /// Errors: `Unavailable` before the first block after genesis, or when the validators have changed too often for one bundle;
    /// `NotFound` when the checkpoint is not known here, or is not below the last final block; `Store`.
    pub fn make(handle: &Handle, key: &Key, from: Option<Height>) -> Result<Self, NodeError> {
        let snapshot = handle.snapshot()?;
        let tip = snapshot.tip()?.filter(|tip| tip.height > Height::GENESIS);
        let tip = tip.ok_or_else(|| NodeError::Unavailable("no block is final yet; try again".to_owned()))?;
        let start = match from.filter(|from| *from > Height::GENESIS) {
            Some(from) => {
                let unknown =
                    || NodeError::NotFound { what: "a checkpoint below the last final block", id: from.to_string() };
                Some(checkpoint(&snapshot, from)?.filter(|_| from < tip.height).ok_or_else(unknown)?)
            }
            None => None,
        };
        let since = start.as_ref().map_or(Height::GENESIS, |(header, _)| header.height);
        let text = "this node began with a checkpoint and does not know the validators before it; ask for a bundle from there on";
        let bundle = Self::at(&snapshot, key, tip.height, since)?;
        let bundle = Self { start, ..bundle.ok_or_else(|| NodeError::Unavailable(text.to_owned()))? };
        if bundle.changes.len() > limits::SET_CHANGES_MAX {
            let changes = bundle.changes.len();
            let max = limits::SET_CHANGES_MAX;
            let text = format!(
                "the validators have changed {changes} times; a bundle leads over {max}; begin with a checkpoint"
            );
            return Err(NodeError::Unavailable(text));
        }
        Ok(bundle)
    }

    /// Proves a record as of a height whose tree is kept, with the changes of the validators after another height.
    /// None where these are not all known here. Errors: those of the store.
    pub fn at(snapshot: &Snapshot, key: &Key, height: Height, since: Height) -> Result<Option<Self>, StoreError> {
        let proof = prove(&Overlay::new(snapshot, &[]), height, key).map_err(|error| match error {
            TreeError::Read(error) => error,
            TreeError::Damaged(what) => StoreError::corrupted("tree_nodes.v1", what),
        })?;
        let (headers, certificate) = certified(snapshot, height)?;
        let Some(changes) = changes(snapshot, since, certificate.round.epoch, usize::MAX)? else { return Ok(None) };
        let key = key.bytes();
        Ok(Some(Self { record: snapshot.state(&key)?, key, proof, start: None, changes, headers, certificate }))
    }

    /// The validators that certify the headers: those of the anchor, or others step by step, each certified by those before.
    fn certifiers(&self, anchor: &Anchor<'_>) -> Result<Trusted, BundleError> {
        if self.changes.len() > limits::SET_CHANGES_MAX {
            return Err(fault(format!("{} changes of the validators", self.changes.len())));
        }
        let (mut trusted, changes) = match (anchor, &self.start) {
            (Anchor::Genesis(genesis), None) => (Trusted::genesis(genesis)?, self.changes.as_slice()),
            (Anchor::Checkpoint(point), Some((header, set))) => {
                (Trusted::checkpoint(point, header, set)?, self.changes.as_slice())
            }
            (Anchor::Genesis(_), Some((header, _))) => {
                return Err(fault(format!("it begins with the checkpoint of height {}; give --trust", header.height)));
            }
            // A change of the validators is as good a checkpoint as any.
            (Anchor::Checkpoint(point), None) => {
                let at = self.changes.iter().position(|change| change.header.height == point.height);
                let (before, after) = self.changes.split_at(at.map_or(0, |at| at.saturating_add(1)));
                let wrong = || fault(format!("it does not begin with checkpoint {point}; ask for one that does"));
                let change = before.last().ok_or_else(wrong)?;
                (Trusted::checkpoint(point, &change.header, &change.next)?, after)
            }
        };
        changes.iter().try_for_each(|change| trusted.change(change))?;
        Ok(trusted)
    }

    /// The height whose state the record is of.
    pub fn height(&self) -> Height {
        self.headers.first().map_or(Height::GENESIS, |header| header.height)
    }

    /// Checks everything against a genesis or a checkpoint; nothing else is believed. Returns key and record.
    /// Errors: `BundleError`.
    pub fn verify(&self, anchor: &Anchor<'_>) -> Result<(Key, Option<Record>), BundleError> {
        let trusted = self.certifiers(anchor)?;
        self.verify_after(&trusted)
    }

    /// Checks everything but the changes of the validators, which led to what is trusted. Errors: `BundleError`.
    pub fn verify_after(&self, trusted: &Trusted) -> Result<(Key, Option<Record>), BundleError> {
        trusted.certified(&self.headers, &self.certificate)?;
        let key = Key::from_bytes(&self.key).ok_or_else(|| fault("the key is none of the ledger's"))?;
        let root = self.headers.first().map(|header| header.state_root);
        let root = root.ok_or_else(|| fault("no header"))?;
        self.proof.verify(&root, &key, self.record.as_deref()).map_err(|error| fault(error.to_string()))?;
        let record = self.record.as_deref().map(|bytes| Record::from_bytes(&key, bytes)).transpose();
        Ok((key, record.map_err(|error| fault(error.to_string()))?))
    }

    /// The chain that it is of, by its own word.
    pub fn chain(&self) -> Option<ChainId> {
        self.headers.first().map(|header| header.chain)
    }

    /// The bundle of some bytes. Errors: `BundleError`.
    pub fn decode(bytes: &[u8]) -> Result<Self, BundleError> {
        wire::decode(bytes, limits::BUNDLE_BYTES_MAX).map_err(|error| fault(error.to_string()))
    }
}

/// The headers from a height to the first certified one, and its certificate. Errors: those of the store.
pub fn certified(snapshot: &Snapshot, height: Height) -> Result<(Vec<Header>, Certificate), StoreError> {
    let missing = || StoreError::corrupted("certificates.v1", height.to_string());
    let certificate = snapshot.certificate_from(height)?.ok_or_else(missing)?;
    let count = certificate.height.get().saturating_sub(height.get()).saturating_add(1);
    let headers = snapshot.headers(height, usize::try_from(count).unwrap_or(HEADERS_MAX).min(HEADERS_MAX))?;
    Ok((headers, certificate))
}

/// A final header, and the validators that it names for the next height; none where it is not known here.
/// Errors: those of the store.
pub fn checkpoint(snapshot: &Snapshot, height: Height) -> Result<Option<(Header, ValidatorSet)>, StoreError> {
    let Some(header) = snapshot.header(height)? else { return Ok(None) };
    // A set is known by the epoch in which others took its place, and the present one by itself.
    let mut sets = replaced(snapshot)?.into_iter().map(|(_, set)| set);
    if let Some(set) = sets.find(|set| set.hash() == header.next_set) {
        return Ok(Some((header, set)));
    }
    let present = super::app::validators(snapshot)?;
    Ok((present.hash() == header.next_set).then_some((header, present)))
}

/// Every set that others took the place of, and the epoch in which they did.
fn replaced(snapshot: &Snapshot) -> Result<Vec<(Epoch, ValidatorSet)>, StoreError> {
    let mut sets = Vec::new();
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = snapshot.state_scan(&Key::replaced(), after.as_deref(), 256)?;
        let Some((last, _)) = page.last() else { return Ok(sets) };
        after = Some(last.clone());
        for (key, bytes) in page {
            let damaged = || StoreError::corrupted("state.v1", hex::encode(&key));
            let named = Key::from_bytes(&key).ok_or_else(damaged)?;
            let Key::Replaced(epoch) = named else { return Err(damaged()) };
            let Ok(Record::Validators(entries)) = Record::from_bytes(&named, &bytes) else { return Err(damaged()) };
            sets.push((epoch, validator_set(&entries).map_err(|_| damaged())?));
        }
    }
}

/// The changes of the validators after a height and up to an epoch, the oldest first, at most so many. None where some of them
/// are from before this database begins. Errors: those of the store.
pub fn changes(
    snapshot: &Snapshot,
    since: Height,
    until: Epoch,
    limit: usize,
) -> Result<Option<Vec<SetChange>>, StoreError> {
    let Some(Record::Params(params)) = super::app::read_record(snapshot, &Key::Params)? else {
        return Err(StoreError::corrupted("state.v1", "params"));
    };
    let (epochs, mut sets): (Vec<_>, Vec<_>) = replaced(snapshot)?.into_iter().unzip();
    sets.push(super::app::validators(snapshot)?);
    // A set is replaced by the one that the next change replaces.
    let next = sets.into_iter().skip(1);
    let last = |epoch: Epoch| Height::new(epoch.get().saturating_mul(params.epoch_blocks));
    let wanted = epochs.into_iter().zip(next).take_while(|(epoch, _)| *epoch <= until);
    let wanted = wanted.filter(|(epoch, _)| last(*epoch) > since).take(limit);
    wanted.map(|(epoch, next)| change(snapshot, last(epoch), next)).collect()
}

/// The change after a height; none where its header is from before this database begins.
fn change(snapshot: &Snapshot, last: Height, next: ValidatorSet) -> Result<Option<SetChange>, StoreError> {
    let Some(header) = snapshot.header(last)? else { return Ok(None) };
    let certificate = snapshot.certificate(last)?;
    let certificate = certificate.ok_or_else(|| StoreError::corrupted("certificates.v1", last.to_string()))?;
    Ok(Some(SetChange { header, certificate, next }))
}

#[cfg(test)]
#[path = "bundle_tests.rs"]
pub(super) mod tests;
#[cfg(test)]
pub(super) use self::tests as fixtures;

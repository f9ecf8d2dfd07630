//! What the disk says about where the chain stands: epochs, their contexts, the last certificate.

use std::sync::Arc;

use crate::consensus::{self, EpochContext};
use crate::ledger::{Key, Record};
use crate::node::app::{read_record, replaced};
use crate::store::StoreError;
use crate::types::{Epoch, Height};
use crate::wire::{Certificate, Header, ValidatorSet};

/// The epoch of the block after this height.
pub(super) fn next_epoch_of(config: &consensus::Config, height: Height) -> Epoch {
    config.epoch_of(height.next().unwrap_or(height))
}

/// The finalized headers of an epoch.
pub(super) fn epoch_headers(
    config: &consensus::Config,
    snapshot: &crate::store::Snapshot,
    epoch: Epoch,
) -> Result<Vec<Header>, StoreError> {
    let first = match epoch.prev() {
        Some(previous) => config.last_height(previous).next(),
        None => Height::GENESIS.next(),
    };
    let count = usize::try_from(config.epoch_blocks).unwrap_or(usize::MAX);
    first.map_or(Ok(Vec::new()), |first| snapshot.headers(first, count))
}

/// The contexts of an epoch, which has this set, and of the one before it.
pub(super) fn contexts(
    config: &consensus::Config,
    set: &Arc<ValidatorSet>,
    snapshot: &crate::store::Snapshot,
    epoch: Epoch,
) -> Result<(EpochContext, Option<EpochContext>), StoreError> {
    let context = |epoch: Epoch, set: Arc<ValidatorSet>| -> Result<EpochContext, StoreError> {
        let Some(previous) = epoch.prev() else {
            let opening = Certificate::genesis(config.genesis);
            return Ok(EpochContext { epoch, set, skip: Vec::new(), opening });
        };
        let last = config.last_height(previous);
        let opening = snapshot.certificate(last)?;
        let opening = opening.ok_or_else(|| StoreError::corrupted("certificates.v1", last.to_string()))?;
        let skip = match read_record(snapshot, &Key::SkipList)? {
            Some(Record::SkipList(list)) if list.epoch == epoch => list.indices,
            // Of a past epoch only the set is asked for again.
            _ => Vec::new(),
        };
        Ok(EpochContext { epoch, set, skip, opening })
    };
    let before = replaced(snapshot, epoch)?.map_or_else(|| set.clone(), Arc::new);
    let previous = epoch.prev().map(|previous| context(previous, before)).transpose()?;
    Ok((context(epoch, set.clone())?, previous))
}

/// The commit certificate that made this height final, or the genesis certificate.
pub(super) fn last_final(
    config: &consensus::Config,
    snapshot: &crate::store::Snapshot,
    height: Height,
) -> Result<Certificate, StoreError> {
    if height == Height::GENESIS {
        return Ok(Certificate::genesis(config.genesis));
    }
    let certificate = snapshot.certificate(height)?;
    certificate.ok_or_else(|| StoreError::corrupted("certificates.v1", height.to_string()))
}

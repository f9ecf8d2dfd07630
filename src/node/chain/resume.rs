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
    // Who joined by a snapshot has no certificate from before the epoch that it ends: nobody asks this node about that one.
    let base = snapshot.base()?;
    let known = |epoch: &Epoch| epoch.prev().is_none_or(|before| config.last_height(before) >= base);
    let previous = epoch.prev().filter(known).map(|previous| context(previous, before)).transpose()?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::record::{StorageParams, ValidatorEntry};
    use crate::node::app::validators;
    use crate::node::chain::exec::{Application, BuildRequest};
    use crate::node::clock::Clock;
    use crate::node::testing;
    use crate::node::validator::validators_of;
    use crate::store::FinalBlock;
    use crate::types::{NodeId, Round, View};
    use crate::wire::VoteKind;

    #[test]
    fn a_node_that_went_down_between_two_epochs_knows_the_validators_of_both() {
        let (home, mut genesis) = (tempfile::tempdir().expect("a directory"), testing::genesis());
        (genesis.epoch_blocks, genesis.storage) = (1, StorageParams::usual(1));
        let store = testing::store(home.path(), [1; 32], &genesis);
        let mut app = testing::app(&store, &genesis, &testing::validator(), Clock::start());
        let justify = Certificate::genesis(genesis.block().expect("a genesis block").hash());
        let round = Round::new(Epoch::ZERO, View::new(1));
        let request = BuildRequest { round, justify, height: Height::new(1), even_empty: true };
        let executed = app.build(&request).expect("a readable state").expect("a block");
        let end = executed.epoch_end.clone().expect("it is the last block of its epoch");
        assert_eq!(end.set, testing::set(), "nobody asked for a change");
        // As if somebody had.
        let new = ValidatorEntry { node: NodeId::from_bytes([9; 32]), power: 2, ..genesis.validators[0] };
        let mut state = executed.state.clone();
        let mut put =
            |key: Key, set: Vec<ValidatorEntry>| state.insert(key.bytes(), Some(Record::Validators(set).bytes()));
        put(Key::Validators, vec![new]);
        put(Key::Replaced(Epoch::new(1)), genesis.validators.clone());
        let certificate = testing::certify(&genesis, VoteKind::Commit, &executed.block);
        let (block, receipts, tree) = (&executed.block, &executed.receipts, &executed.tree);
        let mut batch = store.batch().expect("a batch");
        let done = FinalBlock { block, certificate: Some(&certificate), receipts, txs: &[], state: &state, tree };
        batch.finalize(&done).expect("a written block");
        batch.commit().expect("a commit");
        let snapshot = store.reader().snapshot().expect("a snapshot");
        let set = Arc::new(validators(&snapshot).expect("a set"));
        let config = testing::config(&genesis, testing::validator().public().node_id());
        let (context, previous) = contexts(&config, &set, &snapshot, Epoch::new(1)).expect("a whole store");
        assert_eq!(context.set.members().first().map(|member| member.node), Some(new.node));
        assert_eq!((context.opening, previous.map(|previous| previous.set)), (certificate, Some(testing::set())));
        let of = |epoch| validators_of(&snapshot, Epoch::new(epoch)).expect("a set");
        assert_eq!((of(0), of(1)), ((*testing::set()).clone(), (*set).clone()));
    }
}

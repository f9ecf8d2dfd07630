//! One write to the chain's database: everything in it becomes durable together, by one commit, or not at all.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::WriteTransaction;

use super::blocks::Blocks;
use super::db::{Shared, WHAT, begin_durable, read_signer, write_signer};
use super::error::{StoreError, from_redb};
use super::keys::{AccountTxKey, BlockKey, TxIndex};
use super::reader::Tip;
use super::row::{guarded, open_write, put};
use super::signer::{Quarantine, Signer};
use super::{tables, tree};
use crate::consensus::Watermarks;
use crate::ledger::tree::TreeUpdate;
use crate::types::{AccountId, Height, TxId};
use crate::wire::{self, Certificate, ProposedBlock};

/// What a block changes in the ledger's records: the new bytes of a key, or nothing when it is removed.
pub type StateChanges = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// A transaction as the index knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexedTx {
    /// Its id.
    pub id: TxId,
    /// The accounts it touches, each once.
    pub accounts: Vec<AccountId>,
}

/// A block that is final, with all that came of it.
#[derive(Clone, Copy, Debug)]
pub struct FinalBlock<'a> {
    /// The block with its justification.
    pub block: &'a ProposedBlock,
    /// Its own commit certificate; a block finalized through a later one has none.
    pub certificate: Option<&'a Certificate>,
    /// Receipts of its transactions, canonical bytes.
    pub receipts: &'a [u8],
    /// Its transactions in order.
    pub txs: &'a [IndexedTx],
    /// Changes of the ledger's records.
    pub state: &'a StateChanges,
    /// Changes of the state tree; its version is the block's height.
    pub tree: &'a TreeUpdate,
}

/// A write in progress. Dropping it without `commit` leaves no trace.
pub struct Batch {
    shared: Arc<Shared>,
    txn: Option<WriteTransaction>,
    tip: Option<Tip>,
    /// Blocks that it writes.
    blocks: Vec<BlockKey>,
    failed: bool,
}

impl Batch {
    pub(super) fn begin(shared: Arc<Shared>) -> Result<Self, StoreError> {
        // redb would wait for the other write to end, which on one thread is for ever.
        if shared.writing.swap(true, Ordering::AcqRel) {
            return Err(StoreError::Busy);
        }
        let tip = shared.tip.borrow().clone();
        let mut batch = Self { shared, txn: None, tip, blocks: Vec::new(), failed: false };
        batch.txn = Some(guarded(WHAT, || begin_durable(WHAT, &batch.shared.db, batch.shared.quick_repair))?);
        Ok(batch)
    }

    /// The height of the last final block with what is in the batch.
    pub fn height(&self) -> Height {
        self.tip.as_ref().map_or(Height::GENESIS, |tip| tip.height)
    }

    pub(super) fn tip(&self) -> Option<&Tip> {
        self.tip.as_ref()
    }

    pub(super) fn set_tip(&mut self, tip: Tip) {
        self.tip = Some(tip);
    }

    /// Carries out writes; after one that failed the batch cannot be committed.
    pub(super) fn write<T>(
        &mut self,
        writes: impl FnOnce(&WriteTransaction) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let Some(txn) = self.txn.as_ref().filter(|_| !self.failed) else {
            return Err(StoreError::Stopped);
        };
        let done = guarded(WHAT, || writes(txn));
        self.failed = done.is_err();
        done
    }

    /// Changes the row of the node key.
    fn edit_signer(&mut self, edit: impl FnOnce(&mut Signer)) -> Result<(), StoreError> {
        self.write(|txn| {
            let mut signer = read_signer(&open_write(txn, tables::SIGNER)?)?;
            edit(&mut signer);
            write_signer(txn, &signer)
        })
    }

    /// Replaces the safety record (protocol rule 8); canonical bytes. Errors: `Corrupted`, `Io`, `Stopped`.
    pub fn put_record(&mut self, record: &[u8]) -> Result<(), StoreError> {
        self.edit_signer(|signer| signer.set_record(record))
    }

    /// Keeps the key from signing until further notice. Errors: `Corrupted`, `Io`, `Stopped`.
    pub fn quarantine(&mut self, why: Quarantine) -> Result<(), StoreError> {
        self.edit_signer(|signer| signer.set_quarantine(Some(why)))
    }

    /// Remembers views in which the key has signed; what is known already is never lowered. Errors: `Corrupted`, `Io`, `Stopped`.
    pub fn raise_watermarks(&mut self, seen: &Watermarks) -> Result<(), StoreError> {
        self.edit_signer(|signer| signer.raise_seen(seen))
    }

    /// Lets a quarantined key sign again, above its watermarks. Errors: `Corrupted`, `Io`, `Stopped`.
    pub fn lift_quarantine(&mut self) -> Result<(), StoreError> {
        self.edit_signer(|signer| signer.set_quarantine(None))
    }

    /// Keeps blocks that are or will be voted for, until they are final or conflict with a final one (protocol
    /// rule 9). Those that are there already cost a look; those of a height that is final are passed over, since nothing
    /// would ever remove them. Errors: `Corrupted`, `Io`, `Stopped`.
    pub fn put_pending<'b>(&mut self, blocks: impl IntoIterator<Item = &'b ProposedBlock>) -> Result<(), StoreError> {
        let tip = self.tip.as_ref().map(|tip| tip.height);
        let above = blocks.into_iter().filter(|block| tip.is_none_or(|tip| block.header().height > tip));
        let keyed = above.map(|block| (key_of(block), block));
        let new: Vec<_> = keyed.filter(|(key, _)| !self.is_written(key)).collect();
        self.blocks.extend(new.iter().map(|(key, _)| *key));
        self.write(|txn| {
            let mut table = Blocks::open(txn)?;
            new.into_iter().try_for_each(|(key, block)| table.write(key, block))
        })
    }

    /// Whether this process has written a block whole, so that nothing of it needs to be looked at again.
    fn is_written(&self, key: &BlockKey) -> bool {
        self.blocks.contains(key) || locked(&self.shared.pending).contains(key)
    }

    /// Appends a final block: header, payload, receipts, index, state and tree; drops the pending blocks that conflict
    /// with it. It must follow the last final one. Errors: `Corrupted`, `Io`, `Stopped`.
    pub fn finalize(&mut self, block: &FinalBlock<'_>) -> Result<(), StoreError> {
        let header = block.block.header();
        let key = key_of(block.block);
        let follows = match &self.tip {
            Some(tip) => tip.height.next() == Some(header.height) && tip.hash == header.parent,
            None => header.height == Height::GENESIS,
        };
        assert!(follows, "a final block follows the last final one");
        assert!(block.tree.height() == header.height, "the tree's version is the block's height");
        let written = self.is_written(&key);
        self.write(|txn| {
            write_chain(txn, key, block, written)?;
            write_index(txn, header.height, block.txs)?;
            write_state(txn, block.state)?;
            tree::write(txn, block.tree)
        })?;
        self.tip = Some(Tip { height: key.height, hash: key.hash, header: header.clone() });
        Ok(())
    }

    /// Removes payloads and receipts of final blocks below a height, at most `limit` blocks; headers, certificates and
    /// index stay. Returns how many were removed. Errors: `Corrupted`, `Io`, `Stopped`.
    pub fn prune_bodies(&mut self, below: Height, limit: usize) -> Result<usize, StoreError> {
        let tip = self.tip.as_ref().map_or(Height::GENESIS, |tip| tip.height);
        let end = BlockKey::first(below.min(tip));
        self.write(|txn| {
            let mut blocks = Blocks::open(txn)?;
            let old = blocks.keys(BlockKey::first(Height::GENESIS), end, limit)?;
            let mut receipts = open_write(txn, tables::RECEIPTS)?;
            for key in &old {
                blocks.remove(*key)?;
                receipts.remove(key.height).map_err(|error| from_redb("receipts.v1", error))?;
            }
            Ok(old.len())
        })
    }

    /// Makes all of it durable: returns only when it is on disk. Whoever watches the tip then hears of it.
    /// Errors: `Io`, `Stopped`; what was not acknowledged may or may not be there after the next start, as a whole.
    pub fn commit(mut self) -> Result<(), StoreError> {
        let txn = self.txn.take().filter(|_| !self.failed).ok_or(StoreError::Stopped)?;
        guarded(WHAT, || txn.commit().map_err(|error| from_redb(WHAT, error)))?;
        let tip = self.tip.take();
        let mut pending = locked(&self.shared.pending);
        pending.extend(self.blocks.drain(..));
        // What is final is not written again.
        pending.retain(|key| tip.as_ref().is_none_or(|tip| key.height > tip.height));
        drop(pending);
        self.shared.tip.send_if_modified(|last| {
            let moved = last.as_ref().map(|tip| tip.height) != tip.as_ref().map(|tip| tip.height);
            *last = tip;
            moved
        });
        Ok(())
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        let txn = self.txn.take();
        // Rolling back reads the same pages that made the write fail.
        let _: Result<(), StoreError> = guarded(WHAT, || {
            drop(txn);
            Ok(())
        });
        self.shared.writing.store(false, Ordering::Release);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn key_of(block: &ProposedBlock) -> BlockKey {
    BlockKey { height: block.header().height, hash: block.block.hash() }
}

fn write_chain(txn: &WriteTransaction, key: BlockKey, block: &FinalBlock<'_>, written: bool) -> Result<(), StoreError> {
    let mut blocks = Blocks::open(txn)?;
    if !written {
        blocks.write(key, block.block)?;
    }
    let mut rivals = blocks.keys(BlockKey::first(key.height), BlockKey::last(key.height), usize::MAX)?;
    rivals.retain(|rival| *rival != key);
    for rival in rivals {
        blocks.remove(rival)?;
    }
    let header = wire::encode(block.block.header());
    put(&mut open_write(txn, tables::HEADERS)?, tables::HEADERS, key.height, &header)?;
    let height = key.height.get().to_be_bytes();
    put(&mut open_write(txn, tables::BLOCK_HEIGHTS)?, tables::BLOCK_HEIGHTS, key.hash, &height)?;
    put(&mut open_write(txn, tables::RECEIPTS)?, tables::RECEIPTS, key.height, block.receipts)?;
    if let Some(certificate) = block.certificate {
        let bytes = wire::encode(certificate);
        put(&mut open_write(txn, tables::CERTIFICATES)?, tables::CERTIFICATES, key.height, &bytes)?;
    }
    Ok(())
}

/// Writes changes of the ledger's records.
pub(super) fn write_state(txn: &WriteTransaction, changes: &StateChanges) -> Result<(), StoreError> {
    let mut state = open_write(txn, tables::STATE)?;
    for (at, value) in changes {
        match value {
            Some(value) => put(&mut state, tables::STATE, at.as_slice(), value)?,
            None => {
                state.remove(at.as_slice()).map_err(|error| from_redb("state.v1", error))?;
            }
        }
    }
    Ok(())
}

fn write_index(txn: &WriteTransaction, height: Height, txs: &[IndexedTx]) -> Result<(), StoreError> {
    let mut places = open_write(txn, tables::TXS)?;
    let mut accounts = open_write(txn, tables::ACCOUNT_TXS)?;
    for (index, tx) in (0_u32..).map(TxIndex).zip(txs) {
        let mut place = [0; 12];
        place[..8].copy_from_slice(&height.get().to_be_bytes());
        place[8..].copy_from_slice(&index.0.to_be_bytes());
        put(&mut places, tables::TXS, tx.id, &place)?;
        for account in &tx.accounts {
            let key = AccountTxKey { account: *account, height, index };
            accounts.insert(key, ()).map_err(|error| from_redb("account_txs.v1", error))?;
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "batch_tests.rs"]
mod tests;

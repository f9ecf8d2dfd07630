//! Joining: a database that is made from a snapshot, piece by piece, and is no chain's before the last one is in it.
//!
//! While that is under way `Store::joining` has its progress, and there is no tip. Every piece and the progress after it become
//! durable together, so a process that was killed goes on with the next piece.

use redb::{ReadableDatabase, TableHandle};

use super::batch::{Batch, StateChanges, write_state};
use super::db::{META_BASE, META_JOINING, META_PIECES, Store, WHAT};
use super::error::{StoreError, from_redb};
use super::reader::Tip;
use super::row::{get, guarded, open_read, open_write, put};
use super::{tables, tree};
use crate::ledger::tree::TreeUpdate;
use crate::types::Height;
use crate::wire::{self, Certificate, Header};

/// How far a join is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joining {
    /// What is joined, in the bytes of whoever began it.
    pub plan: Vec<u8>,
    /// Pieces that are in the database.
    pub pieces: u32,
}

impl Store {
    /// The join that is under way, if one is. Errors: `Corrupted`, `Io`, `Stopped`.
    pub fn joining(&self) -> Result<Option<Joining>, StoreError> {
        guarded(WHAT, || {
            let txn = self.shared().db.begin_read().map_err(|error| from_redb(WHAT, error))?;
            let meta = open_read(&txn, tables::META)?;
            let Some(plan) = get(&meta, tables::META, META_JOINING)? else { return Ok(None) };
            let pieces = get(&meta, tables::META, META_PIECES)?.and_then(|bytes| bytes.try_into().ok());
            let pieces = pieces.ok_or_else(|| StoreError::corrupted("meta.v1", META_PIECES))?;
            Ok(Some(Joining { plan, pieces: u32::from_be_bytes(pieces) }))
        })
    }
}

impl Batch {
    /// Begins a join, in place of one that was under way; whatever is in the state goes. The base of the tree is a node as key
    /// and bytes. Errors: `Corrupted`, `Io`, `Stopped`.
    pub fn begin_join(&mut self, plan: &[u8], base: (&[u8], &[u8])) -> Result<(), StoreError> {
        assert!(self.tip().is_none(), "a database with a chain joins none");
        self.write(|txn| {
            for name in [tables::STATE.name(), tables::TREE_NODES.name()] {
                let table = redb::TableDefinition::<&[u8], &[u8]>::new(name);
                txn.delete_table(table).map_err(|error| from_redb(WHAT, error))?;
            }
            txn.delete_table(tables::TREE_STALE).map_err(|error| from_redb(WHAT, error))?;
            open_write(txn, tables::STATE)?;
            open_write(txn, tables::TREE_STALE)?;
            put(&mut open_write(txn, tables::TREE_NODES)?, tables::TREE_NODES, base.0, base.1)?;
            let mut meta = open_write(txn, tables::META)?;
            put(&mut meta, tables::META, META_JOINING, plan)?;
            put(&mut meta, tables::META, META_PIECES, &0_u32.to_be_bytes())
        })
    }

    /// Adds the next piece: its records, and what they change in the tree. Errors: `Corrupted`, `Io`, `Stopped`.
    pub fn put_piece(&mut self, number: u32, state: &StateChanges, update: &TreeUpdate) -> Result<(), StoreError> {
        self.write(|txn| {
            write_state(txn, state)?;
            tree::write(txn, update)?;
            let pieces = number.saturating_add(1).to_be_bytes();
            put(&mut open_write(txn, tables::META)?, tables::META, META_PIECES, &pieces)
        })
    }

    /// Keeps a header that is known as final by its certificate. Errors: `Corrupted`, `Io`, `Stopped`.
    pub fn put_known(&mut self, header: &Header, certificate: &Certificate) -> Result<(), StoreError> {
        let (height, hash) = (header.height, header.hash());
        self.write(|txn| {
            put(&mut open_write(txn, tables::HEADERS)?, tables::HEADERS, height, &wire::encode(header))?;
            let place = height.get().to_be_bytes();
            put(&mut open_write(txn, tables::BLOCK_HEIGHTS)?, tables::BLOCK_HEIGHTS, hash, &place)?;
            let bytes = wire::encode(certificate);
            put(&mut open_write(txn, tables::CERTIFICATES)?, tables::CERTIFICATES, height, &bytes)
        })
    }

    /// Ends a join whose pieces are all there: from now on this is a database of the chain, which begins with this block.
    /// Errors: `Corrupted`, `Io`, `Stopped`.
    pub fn end_join(&mut self, header: &Header, certificate: &Certificate) -> Result<(), StoreError> {
        self.put_known(header, certificate)?;
        self.write(|txn| {
            let mut meta = open_write(txn, tables::META)?;
            put(&mut meta, tables::META, META_BASE, &header.height.get().to_be_bytes())?;
            for key in [META_JOINING, META_PIECES] {
                meta.remove(key).map_err(|error| from_redb("meta.v1", error))?;
            }
            Ok(())
        })?;
        self.set_tip(Tip { height: header.height, hash: header.hash(), header: header.clone() });
        Ok(())
    }
}

/// Whether the tables are of a join that is under way.
pub(super) fn is_joining(txn: &redb::ReadTransaction) -> Result<bool, StoreError> {
    Ok(get(&open_read(txn, tables::META)?, tables::META, META_JOINING)?.is_some())
}

/// The height that a database begins with, if that is not genesis.
pub(super) fn base(bytes: Option<Vec<u8>>) -> Result<Height, StoreError> {
    let Some(bytes) = bytes else { return Ok(Height::GENESIS) };
    let bytes = bytes.try_into().map_err(|_| StoreError::corrupted("meta.v1", META_BASE))?;
    Ok(Height::new(u64::from_be_bytes(bytes)))
}

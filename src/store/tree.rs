//! The state tree's nodes on disk. The tree itself, its hashes and proofs, are `ledger::tree`'s.
//!
//! A version of the tree is the height of a block. The last `VERSIONS_KEPT` versions can be read and proven against;
//! older nodes go when what replaced them is that old.

use redb::{ReadableTable, WriteTransaction};

use super::error::{StoreError, from_redb};
use super::reader::Snapshot;
use super::row::{open_write, put};
use super::tables;
use crate::ledger::tree::{TreeReader, TreeUpdate};
use crate::types::Height;

/// Versions of the tree, the newest included, that can be read and proven against.
pub const VERSIONS_KEPT: u64 = 16;

const NODES: &str = "tree_nodes.v1";
const STALE: &str = "tree_stale.v1";

/// Writes what a block changed in the tree, and drops what no kept version needs.
pub(super) fn write(txn: &WriteTransaction, update: &TreeUpdate) -> Result<(), StoreError> {
    let height = update.height();
    let mut nodes = open_write(txn, tables::TREE_NODES)?;
    for (key, node) in update.nodes() {
        put(&mut nodes, tables::TREE_NODES, key.as_slice(), &node)?;
    }
    let mut stale = open_write(txn, tables::TREE_STALE)?;
    for node in update.stale() {
        let key = [height.get().to_be_bytes().as_slice(), &node].concat();
        stale.insert(key.as_slice(), ()).map_err(|error| from_redb(STALE, error))?;
    }
    let Some(oldest) = height.get().checked_sub(VERSIONS_KEPT - 1) else { return Ok(()) };
    for key in stale_until(&stale, Height::new(oldest))? {
        stale.remove(key.as_slice()).map_err(|error| from_redb(STALE, error))?;
        let node = key.get(8..).unwrap_or_default();
        nodes.remove(node).map_err(|error| from_redb(NODES, error))?;
    }
    Ok(())
}

/// Entries for nodes that were replaced at `oldest` or before.
fn stale_until(table: &redb::Table<'_, &'static [u8], ()>, oldest: Height) -> Result<Vec<Vec<u8>>, StoreError> {
    let end = oldest.get().saturating_add(1).to_be_bytes();
    let rows = table.range(..end.as_slice()).map_err(|error| from_redb(STALE, error))?;
    let keys = rows.map(|row| row.map(|(key, _)| key.value().to_vec()));
    keys.collect::<Result<_, _>>().map_err(|error| from_redb(STALE, error))
}

impl TreeReader for Snapshot {
    type Error = StoreError;
    fn node(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.bytes(tables::TREE_NODES, key)
    }
}

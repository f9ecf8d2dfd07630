//! Copies of the databases, made while they are in use: every row of one snapshot, in a new file.
//!
//! A copy is complete and durable when the call returns. In the copy the node key is in quarantine if it has ever signed:
//! whoever uses it does not know what the original signs from then on (protocol rule 12).

use std::path::Path;

use redb::{Key, ReadTransaction, ReadableTable, TableDefinition, TableHandle, Value, WriteTransaction};

use super::db::{Options, begin_durable, open_file, open_redb, read_signer, sync_parent, write_signer};
use super::error::{StoreError, from_redb};
use super::row::{Open, open_read, open_write};
use super::signer::Quarantine;
use super::tables;

/// Copies the rows of one table, as they are.
fn table<K: Key + 'static, V: Value + 'static>(
    from: &ReadTransaction,
    to: &WriteTransaction,
    definition: TableDefinition<'static, K, V>,
) -> Result<(), StoreError>
where
    for<'a> K::SelfType<'a>: Clone,
{
    let name = definition.name().to_owned();
    let (source, mut copy) = (open_read(from, definition)?, open_write(to, definition)?);
    for row in source.iter().map_err(|error| from_redb(&name, error))? {
        let (key, value) = row.map_err(|error| from_redb(&name, error))?;
        copy.insert(key.value(), value.value()).map_err(|error| from_redb(&name, error))?;
    }
    Ok(())
}

/// Makes a database at a path that is not there, with what `fill` writes.
fn make(
    what: &str,
    path: &Path,
    fill: impl FnOnce(&WriteTransaction) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    if path.try_exists().map_err(|error| StoreError::at("looking for", path, error))? {
        return Err(StoreError::Exists { path: path.to_owned() });
    }
    let backend = redb::backends::FileBackend::new(open_file(path, true)?).map_err(|error| from_redb(what, error))?;
    let db: Open = open_redb(what, backend, &Options::default(), &std::sync::Arc::default())?;
    let txn = begin_durable(what, &db, false)?;
    fill(&txn)?;
    txn.commit().map_err(|error| from_redb(what, error))?;
    drop(db);
    sync_parent(path)
}

/// Copies the chain's database. Errors: `Exists`, `Corrupted`, `Io`.
pub(super) fn chain(from: &ReadTransaction, path: &Path) -> Result<(), StoreError> {
    make(super::db::WHAT, path, |to| {
        table(from, to, tables::META)?;
        table(from, to, tables::BLOCKS)?;
        table(from, to, tables::BLOCK_PIECES)?;
        table(from, to, tables::HEADERS)?;
        table(from, to, tables::BLOCK_HEIGHTS)?;
        table(from, to, tables::CERTIFICATES)?;
        table(from, to, tables::RECEIPTS)?;
        table(from, to, tables::TXS)?;
        table(from, to, tables::ACCOUNT_TXS)?;
        table(from, to, tables::STATE)?;
        table(from, to, tables::TREE_NODES)?;
        table(from, to, tables::TREE_STALE)?;
        let mut signer = read_signer(&open_read(from, tables::SIGNER)?)?;
        if signer.record().is_some() && signer.quarantine().is_none() {
            signer.set_quarantine(Some(Quarantine::Restored));
        }
        write_signer(to, &signer)
    })
}

/// Copies the node's own database; what it says of slots only if they go along. Errors: `Exists`, `Corrupted`, `Io`.
pub(super) fn local(from: &ReadTransaction, path: &Path, slots: bool) -> Result<(), StoreError> {
    make(super::local::WHAT, path, |to| {
        for definition in super::local::TABLES {
            let is = |other: super::tables::Rows<&[u8]>| definition.name() == other.name();
            // An upload in progress lies half in a file that is not copied.
            if is(tables::UPLOADS) || (!slots && (is(tables::SLOTS) || is(tables::FILE_SLOTS))) {
                open_write(to, definition)?;
            } else {
                table(from, to, definition)?;
            }
        }
        Ok(())
    })
}

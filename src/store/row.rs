//! Rows: a value followed by 8 bytes that check table, key and value.
//!
//! redb checks its pages only when it repairs a file, so a bit that flips later would be served as good data.
//! The check is no defence against a person with write access to the file; it finds what a disk does.

use std::ops::{Bound, Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind};

use redb::{Database, Key, ReadableTable, Table, TableDefinition};

use super::error::{StoreError, from_redb};
use super::tables::Rows;
use crate::crypto::{Domain, hash};

/// A row of a scan: key and value.
pub type KeyValue = (Vec<u8>, Vec<u8>);

/// Bytes of the check.
const CHECK: usize = 8;

/// The check of a row. The table's name cannot run into the key: it ends with a byte that no name has.
fn check(table: &str, key: &[u8], value: &[u8]) -> [u8; CHECK] {
    let mut hasher = hash::hasher(Domain::StoreRow);
    hasher.update(table.as_bytes()).update(&[0]).update(&(key.len() as u64).to_be_bytes()).update(key).update(value);
    let mut out = [0; CHECK];
    out.copy_from_slice(&hasher.finalize().as_bytes()[..CHECK]);
    out
}

/// The value of a row. Errors: `Corrupted`.
pub(super) fn open<'a>(table: &str, key: &[u8], row: &'a [u8]) -> Result<&'a [u8], StoreError> {
    match row.split_last_chunk::<CHECK>() {
        Some((value, sum)) if *sum == check(table, key, value) => Ok(value),
        _ => Err(StoreError::corrupted(table, hex::encode(key))),
    }
}

/// Writes one row, straight into the page.
pub(super) fn put<'k, K: Key + 'static>(
    table: &mut Table<'_, K, &'static [u8]>,
    definition: Rows<K>,
    key: K::SelfType<'k>,
    value: &[u8],
) -> Result<(), StoreError> {
    let name = redb::TableHandle::name(&definition);
    let sum = check(name, K::as_bytes(&key).as_ref(), value);
    let mut row = table.insert_reserve(&key, value.len() + CHECK).map_err(|error| from_redb(name, error))?;
    let (place, check) = row.as_mut().split_at_mut(value.len());
    place.copy_from_slice(value);
    check.copy_from_slice(&sum);
    Ok(())
}

/// Writes one row unless it is there. What is there is read, so that a damaged row is replaced by the good one.
pub(super) fn put_unless_whole<'k, K: Key + 'static>(
    table: &mut Table<'_, K, &'static [u8]>,
    definition: Rows<K>,
    key: K::SelfType<'k>,
    value: &[u8],
) -> Result<(), StoreError> {
    let name = redb::TableHandle::name(&definition);
    let whole = match table.get(&key).map_err(|error| from_redb(name, error)) {
        Ok(row) => row.is_some_and(|row| open(name, K::as_bytes(&key).as_ref(), row.value()).is_ok()),
        Err(StoreError::Corrupted { .. }) => false,
        Err(error) => return Err(error),
    };
    if whole { Ok(()) } else { put(table, definition, key, value) }
}

/// Reads one row.
pub(super) fn get<'k, K: Key + 'static>(
    table: &impl ReadableTable<K, &'static [u8]>,
    definition: Rows<K>,
    key: K::SelfType<'k>,
) -> Result<Option<Vec<u8>>, StoreError> {
    let name = redb::TableHandle::name(&definition);
    match table.get(&key).map_err(|error| from_redb(name, error))? {
        Some(row) => Ok(Some(open(name, K::as_bytes(&key).as_ref(), row.value())?.to_vec())),
        None => Ok(None),
    }
}

/// Rows whose keys begin with a prefix, ascending, those after the key `after` if given, at most `limit`.
pub(super) fn scan(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    definition: Rows<&'static [u8]>,
    prefix: &[u8],
    after: Option<&[u8]>,
    limit: usize,
) -> Result<Vec<KeyValue>, StoreError> {
    let name = redb::TableHandle::name(&definition);
    let from = after.filter(|after| *after >= prefix).map_or(Bound::Included(prefix), Bound::Excluded);
    let rows = table.range::<&[u8]>((from, Bound::Unbounded)).map_err(|error| from_redb(name, error))?;
    let mut out = Vec::new();
    for row in rows.take(limit) {
        let (key, row) = row.map_err(|error| from_redb(name, error))?;
        let key = key.value();
        if !key.starts_with(prefix) {
            break;
        }
        out.push((key.to_vec(), open(name, key, row.value())?.to_vec()));
    }
    Ok(out)
}

/// Carries out calls of redb. A damaged file can make redb panic where it takes its own pages for granted (redb
/// issues 620, 1333); past this border that is an error like any other damage. The database is not used again after it.
pub(super) fn guarded<T>(what: &str, calls: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    match catch_unwind(AssertUnwindSafe(calls)) {
        Ok(result) => result,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Err(StoreError::corrupted(what, text.unwrap_or_else(|| "an inner page".to_owned())))
        }
    }
}

/// A database whose closing is guarded too: redb writes when it closes, and so may meet damage there.
pub(super) struct Open(Option<Database>);

impl Open {
    pub(super) fn new(db: Database) -> Self {
        Self(Some(db))
    }
}

impl Deref for Open {
    type Target = Database;
    fn deref(&self) -> &Database {
        self.0.as_ref().expect("the database is there until it is dropped")
    }
}

impl DerefMut for Open {
    fn deref_mut(&mut self) -> &mut Database {
        self.0.as_mut().expect("the database is there until it is dropped")
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let db = self.0.take();
        // Everything acknowledged is durable by now; the next start meets the same damage and says so.
        let _: Result<(), StoreError> = guarded("the database", || {
            drop(db);
            Ok(())
        });
    }
}

/// A table that must exist. Errors: those of redb.
pub(super) fn open_read<K: Key + 'static, V: redb::Value + 'static>(
    txn: &redb::ReadTransaction,
    definition: TableDefinition<'static, K, V>,
) -> Result<redb::ReadOnlyTable<K, V>, StoreError> {
    txn.open_table(definition).map_err(|error| from_redb(redb::TableHandle::name(&definition), error))
}

/// A table for writing, made when it is not there yet. Errors: those of redb.
pub(super) fn open_write<'t, K: Key + 'static, V: redb::Value + 'static>(
    txn: &'t redb::WriteTransaction,
    definition: TableDefinition<'static, K, V>,
) -> Result<Table<'t, K, V>, StoreError> {
    txn.open_table(definition).map_err(|error| from_redb(redb::TableHandle::name(&definition), error))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seal(table: &str, key: &[u8], value: &[u8]) -> Vec<u8> {
        [value, &check(table, key, value)].concat()
    }

    proptest! {
        #[test]
        fn a_row_opens_under_its_own_table_and_key_alone(key: Vec<u8>, value: Vec<u8>, at: prop::sample::Index, bit in 0..8_u8) {
            let row = seal("t.v1", &key, &value);
            prop_assert_eq!(open("t.v1", &key, &row).ok(), Some(value.as_slice()));
            let mut other = key.clone();
            other.push(0);
            prop_assert!(open("t.v1", &other, &row).is_err());
            prop_assert!(open("t.v2", &key, &row).is_err());
            let mut bad = row.clone();
            bad[at.index(row.len())] ^= 1_u8 << bit;
            prop_assert!(open("t.v1", &key, &bad).is_err());
            prop_assert!(open("t.v1", &key, &row[..row.len() - 1]).is_err());
        }
    }

    #[test]
    fn a_panic_inside_is_damage_outside() {
        let result: Result<(), _> = guarded("file", || panic!("a page that is none"));
        let Err(StoreError::Corrupted { table, key }) = result else { panic!("expected damage") };
        assert_eq!((table.as_str(), key.as_str()), ("file", "a page that is none"));
    }
}

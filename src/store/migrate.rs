//! Migrations: from the format of an earlier program to this one's, in pieces, so that a kill in the middle costs one piece.
//!
//! A database says its format. One of an earlier format is not opened before somebody asked for its migration, because the earlier
//! program cannot open it afterwards. Each piece is one durable commit that also says where the next one begins; the last raises
//! the format. A later format than this program's is refused.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use redb::{Database, Key, ReadableDatabase, WriteTransaction};

use super::db::{Options, begin_durable, open_file, open_redb};
use super::error::{StoreError, from_redb};
use super::row::{get, guarded, open_read, open_write, put};
use super::tables::{self, Rows};

/// What a piece leaves to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Left {
    /// Nothing.
    Nothing,
    /// Whatever comes after this key.
    After(Vec<u8>),
}

/// Brings a database from one format to the next.
#[derive(Clone, Copy)]
pub struct Migration {
    /// What it does, for people.
    pub about: &'static str,
    /// Does a piece of it: what comes after the key, or the beginning.
    pub piece: fn(&WriteTransaction, Option<&[u8]>) -> Result<Left, StoreError>,
}

/// Those of the chain's database, the first from format 1.
pub(super) const NODE: &[Migration] = &[];
/// Those of the node's own database.
pub(super) const LOCAL: &[Migration] = &[];

/// Where a database stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format {
    /// Its format.
    pub found: u32,
    /// The one that this program writes.
    pub known: u32,
    /// Whether a migration was begun and not ended.
    pub begun: bool,
    /// What is to be done, in order.
    pub due: Vec<&'static str>,
}

/// The facts of a file: where they stand, and their keys.
pub(super) struct Facts<K: Key + 'static> {
    /// What errors call the file.
    pub what: &'static str,
    /// The table.
    pub table: Rows<K>,
    /// The key of the format.
    pub format: K::SelfType<'static>,
    /// The key of where an unfinished migration goes on.
    pub cursor: K::SelfType<'static>,
    /// The migrations.
    pub list: &'static [Migration],
}

/// The facts of the chain's database.
pub(super) fn node() -> Facts<&'static str> {
    Facts { what: super::db::WHAT, table: tables::META, format: "format", cursor: "migrating", list: NODE }
}

/// The facts of the node's own database.
pub(super) fn local() -> Facts<&'static [u8]> {
    Facts { what: super::local::WHAT, table: tables::LOCAL_META, format: b"format", cursor: b"migrating", list: LOCAL }
}

impl<K: Key + 'static> Facts<K>
where
    K::SelfType<'static>: Copy,
{
    fn known(&self) -> u32 {
        u32::try_from(self.list.len()).unwrap_or(u32::MAX).saturating_add(1)
    }
    /// Where a database stands. Errors: `Corrupted`, `NewerFormat`, `Io`.
    pub fn look(&self, db: &Database) -> Result<Format, StoreError> {
        let txn = db.begin_read().map_err(|error| from_redb(self.what, error))?;
        let meta = open_read(&txn, self.table)?;
        let damaged = || StoreError::corrupted(redb::TableHandle::name(&self.table), "format");
        let found = get(&meta, self.table, self.format)?.and_then(|value| <[u8; 4]>::try_from(value).ok());
        let found = found.map(u32::from_be_bytes).filter(|found| *found > 0).ok_or_else(damaged)?;
        let known = self.known();
        if found > known {
            return Err(StoreError::NewerFormat { found, known });
        }
        let begun = get(&meta, self.table, self.cursor)?.is_some_and(|cursor| !cursor.is_empty());
        let due = self.list.iter().skip(found as usize - 1).map(|step| step.about).collect();
        Ok(Format { found, known, begun, due })
    }
    /// Whether a database may be used as it is. Errors: `OlderFormat`, and those of `look`.
    pub fn expect(&self, db: &Database) -> Result<(), StoreError> {
        let Format { found, known, .. } = self.look(db)?;
        if found < known { Err(StoreError::OlderFormat { found, known }) } else { Ok(()) }
    }
    /// Does all that is due, from where it was left. Errors: those of `look` and of the pieces; what was done stays.
    pub fn apply(&self, db: &Database, mut told: impl FnMut(&'static str, u64)) -> Result<Format, StoreError> {
        let before = self.look(db)?;
        for (step, format) in self.list.iter().zip(2_u32..).skip(before.found as usize - 1) {
            let mut pieces = 0;
            loop {
                let txn = begin_durable(self.what, db, false)?;
                let after = get(&open_write(&txn, self.table)?, self.table, self.cursor)?;
                let after = after.filter(|cursor| !cursor.is_empty());
                let left = (step.piece)(&txn, after.as_deref())?;
                let mut meta = open_write(&txn, self.table)?;
                match &left {
                    Left::After(key) => put(&mut meta, self.table, self.cursor, key)?,
                    Left::Nothing => {
                        put(&mut meta, self.table, self.cursor, &[])?;
                        put(&mut meta, self.table, self.format, &format.to_be_bytes())?;
                    }
                }
                drop(meta);
                txn.commit().map_err(|error| from_redb(self.what, error))?;
                pieces += 1;
                told(step.about, pieces);
                if left == Left::Nothing {
                    break;
                }
            }
        }
        Ok(before)
    }
}

/// Where both databases of a home stand: the chain's, then the node's own. Errors: `Missing`, `Locked`, and those of `look`.
pub fn check(home: &Path) -> Result<[(&'static str, Format); 2], StoreError> {
    with(home, |db| node().look(db), |db| local().look(db))
}

/// Migrates both databases of a home and says where they stood; `told` hears of each piece. Errors: as `check`, and those of the migrations.
pub fn apply(home: &Path, told: impl Fn(&'static str, u64)) -> Result<[(&'static str, Format); 2], StoreError> {
    with(home, |db| node().apply(db, &told), |db| local().apply(db, &told))
}

fn with(
    home: &Path,
    node: impl FnOnce(&Database) -> Result<Format, StoreError>,
    local: impl FnOnce(&Database) -> Result<Format, StoreError>,
) -> Result<[(&'static str, Format); 2], StoreError> {
    let (first, second) = (super::db::WHAT, super::local::WHAT);
    Ok([(first, on(&home.join(first), first, node)?), (second, on(&home.join(second), second, local)?)])
}

fn on(
    path: &Path,
    what: &'static str,
    call: impl FnOnce(&Database) -> Result<Format, StoreError>,
) -> Result<Format, StoreError> {
    let backend = redb::backends::FileBackend::new(open_file(path, false)?).map_err(|error| from_redb(what, error));
    let backend = backend.map_err(|error| match error {
        StoreError::Locked { .. } => StoreError::Locked { path: path.to_owned() },
        other => other,
    })?;
    guarded(what, || {
        let db = open_redb(what, backend, &Options::default(), &Arc::new(AtomicBool::new(false)))?;
        call(&db)
    })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use redb::{ReadableTable, TableDefinition};

    use super::*;

    const OLD: Rows<&[u8]> = TableDefinition::new("old");
    const ROWS: u32 = 25;
    const PIECE: usize = 10;

    thread_local! {
        /// Pieces until the process "dies".
        static LIVES: Cell<u32> = const { Cell::new(u32::MAX) };
    }

    /// Writes each row once more, with a byte at its end: done twice it would have two.
    fn append(txn: &WriteTransaction, after: Option<&[u8]>) -> Result<Left, StoreError> {
        if LIVES.get() == 0 {
            return Err(StoreError::Stopped);
        }
        LIVES.set(LIVES.get() - 1);
        let mut table = open_write(txn, OLD)?;
        let rows = super::super::row::scan(&table, OLD, &[], after, PIECE)?;
        for (key, value) in &rows {
            put(&mut table, OLD, key.as_slice(), &[value.as_slice(), b"+"].concat())?;
        }
        Ok(match rows.last().filter(|_| rows.len() == PIECE) {
            Some((key, _)) => Left::After(key.clone()),
            None => Left::Nothing,
        })
    }

    fn nothing(_: &WriteTransaction, _: Option<&[u8]>) -> Result<Left, StoreError> {
        Ok(Left::Nothing)
    }

    const TWO: &[Migration] =
        &[Migration { about: "appends", piece: append }, Migration { about: "nothing", piece: nothing }];

    fn facts() -> Facts<&'static str> {
        Facts { list: TWO, ..node() }
    }

    fn old(path: &Path) {
        let db = Database::create(path).expect("a file");
        let txn = db.begin_write().expect("a write");
        put(&mut open_write(&txn, tables::META).expect("a table"), tables::META, "format", &1_u32.to_be_bytes())
            .expect("a row");
        let mut table = open_write(&txn, OLD).expect("a table");
        (0..ROWS).for_each(|n| put(&mut table, OLD, n.to_be_bytes().as_slice(), b"old").expect("a row"));
        drop(table);
        txn.commit().expect("a commit");
    }

    fn opened(path: &Path) -> Database {
        Database::open(path).expect("it opens")
    }

    #[test]
    fn a_migration_that_is_killed_goes_on_where_it_was_and_does_nothing_twice() {
        for lives in 0..4 {
            let dir = tempfile::tempdir().expect("a directory");
            let path = dir.path().join("node.redb");
            old(&path);
            LIVES.set(lives);
            let first = facts().apply(&opened(&path), |_, _| {});
            LIVES.set(u32::MAX);
            let db = opened(&path);
            if lives < 3 {
                assert!(matches!(first, Err(StoreError::Stopped)));
                assert!(matches!(facts().expect(&db), Err(StoreError::OlderFormat { found: 1, known: 3 })), "not yet");
                let stands = facts().look(&db).expect("readable");
                assert_eq!((stands.begun, stands.due), (lives > 0, vec!["appends", "nothing"]));
            }
            facts().apply(&db, |_, _| {}).expect("it goes on");
            facts().expect(&db).expect("it is up to date");
            let stands = facts().look(&db).expect("readable");
            assert_eq!((stands.begun, stands.due), (false, vec![]));
            let txn = db.begin_read().expect("a read");
            let table = open_read(&txn, OLD).expect("a table");
            let rows: Vec<_> = table.iter().expect("rows").collect();
            assert_eq!(rows.len(), ROWS as usize);
            for n in 0..ROWS {
                let row = get(&table, OLD, n.to_be_bytes().as_slice()).expect("whole");
                assert_eq!(row.as_deref(), Some(b"old+".as_slice()), "{lives} pieces before the kill");
            }
        }
    }

    #[test]
    fn an_earlier_program_refuses_what_a_later_one_wrote() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("node.redb");
        old(&path);
        let db = opened(&path);
        facts().apply(&db, |_, _| {}).expect("it migrates");
        assert!(matches!(node().expect(&db), Err(StoreError::NewerFormat { found: 3, known: 1 })));
        assert!(matches!(node().apply(&db, |_, _| {}), Err(StoreError::NewerFormat { .. })), "nothing is undone");
    }
}

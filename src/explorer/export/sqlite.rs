//! All tables in one SQLite database. What an export adds to it, it adds in one transaction.

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, params_from_iter};

use super::error::WriteError;
use super::folder::{Folder, PARTIAL};
use crate::explorer::rows::{Row, Table};
use crate::explorer::schema::{ColumnType, Schema, Value};
use crate::types::Height;

/// The database while it is written. Dropping it without `commit` leaves the directory as it was.
pub(super) struct Database<'a> {
    path: PathBuf,
    // Closed before a file that is not finished is removed.
    connection: Connection,
    file: Unfinished<'a>,
}

/// A database that is to have a name once it is complete.
struct Unfinished<'a> {
    folder: &'a Folder,
    name: String,
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        // What cannot be removed now, the next run removes.
        let _ = self.folder.remove(&format!("{}{PARTIAL}", self.name));
    }
}

impl<'a> Database<'a> {
    /// Opens the database, or makes one that has its name only after `commit`; then begins the transaction.
    pub(super) fn begin(folder: &'a Folder, name: String) -> Result<Self, WriteError> {
        let mut path = folder.file(&name);
        if !path.exists() {
            let unfinished = format!("{name}{PARTIAL}");
            folder.remove(&unfinished)?;
            path = folder.file(&unfinished);
        }
        let connection = open(&path)?;
        let this = Self { path, connection, file: Unfinished { folder, name } };
        let tables: String = Table::ALL.iter().map(|table| create_sql(table.schema())).collect();
        this.run(&format!("BEGIN IMMEDIATE;\n{tables}"))?;
        Ok(this)
    }
    /// Empties a table, for a new state.
    pub(super) fn clear(&self, table: Table) -> Result<(), WriteError> {
        self.run(&format!("DELETE FROM \"{table}\""))
    }
    /// Writes a row in the place of one with the same key.
    pub(super) fn put(&self, sql: &str, row: &Row) -> Result<(), WriteError> {
        let values = row.values();
        let values: Result<Vec<_>, _> = values.into_iter().zip(row.table().schema().columns).map(to_sql).collect();
        let values = values.map_err(WriteError::at("writing", &self.path))?;
        let written = self.connection.prepare_cached(sql).and_then(|mut put| put.execute(params_from_iter(values)));
        written.map(|_| ()).map_err(|error| self.failed(error))
    }
    /// Makes it all durable.
    pub(super) fn commit(self) -> Result<(), WriteError> {
        self.run("COMMIT")?;
        let Self { path, connection, file } = self;
        connection.close().map_err(|(_, error)| failed("closing", &path, error))?;
        let Unfinished { folder, name } = &file;
        if path == folder.file(name) { Ok(()) } else { folder.rename(&path, name) }
    }
    fn run(&self, sql: &str) -> Result<(), WriteError> {
        self.connection.execute_batch(sql).map_err(|error| self.failed(error))
    }
    fn failed(&self, error: rusqlite::Error) -> WriteError {
        failed("writing", &self.path, error)
    }
}

/// Rows of a table between two heights in the database at `path`, none if there is no such file.
pub(super) fn count(path: &Path, table: Table, from: Height, to: Height) -> Result<Option<u64>, WriteError> {
    if !path.exists() {
        return Ok(None);
    }
    let connection = open(path)?;
    let height = table.schema().height;
    let sql = format!("SELECT count(*) FROM \"{table}\" WHERE \"{height}\" BETWEEN ?1 AND ?2");
    let bound = |height: Height| i64::try_from(height.get()).unwrap_or(i64::MAX);
    let rows = connection.query_row(&sql, [bound(from), bound(to)], |row| row.get::<_, i64>(0));
    rows.map(|rows| u64::try_from(rows).ok()).map_err(|error| failed("reading", path, error))
}

/// Statement that writes a row in the place of one with the same key.
pub(super) fn put_sql(table: Table) -> String {
    let places: Vec<_> = table.schema().columns.iter().map(|_| "?").collect();
    format!("INSERT OR REPLACE INTO \"{table}\" VALUES ({})", places.join(","))
}

fn open(path: &Path) -> Result<Connection, WriteError> {
    let open = || {
        let connection = Connection::open(path)?;
        // A rollback journal rather than a log beside the file: the file alone is the export.
        connection.execute_batch("PRAGMA journal_mode = DELETE; PRAGMA synchronous = FULL;")?;
        Ok(connection)
    };
    open().map_err(|error| failed("opening", path, error))
}

fn create_sql(schema: &Schema) -> String {
    let mut text = format!("CREATE TABLE IF NOT EXISTS \"{}\" (\n", schema.table);
    for column in schema.columns {
        let name = column.name;
        let null = if column.nullable { "" } else { " NOT NULL" };
        let kind = match column.kind {
            ColumnType::Text => format!("TEXT{null}"),
            ColumnType::U64 | ColumnType::TimeMs => format!("INTEGER{null} CHECK (\"{name}\" >= 0)"),
            ColumnType::Bool => format!("INTEGER{null} CHECK (\"{name}\" IN (0, 1))"),
        };
        text.push_str(&format!("  \"{name}\" {kind},\n"));
    }
    let key: Vec<_> = schema.key.iter().map(|name| format!("\"{name}\"")).collect();
    text + &format!("  PRIMARY KEY ({})\n) STRICT, WITHOUT ROWID;\n", key.join(", "))
}

fn to_sql<'v>((value, column): (Value<'v>, &crate::explorer::schema::Column)) -> Result<ToSqlOutput<'v>, io::Error> {
    let value = match value {
        Value::Null => ValueRef::Null,
        Value::Text(text) => ValueRef::Text(text.as_bytes()),
        Value::Bool(yes) => ValueRef::Integer(yes.into()),
        Value::U64(number) => {
            let too_large = |_| {
                let name = column.name;
                io::Error::other(format!("{name} {number} is beyond SQLite's integers; choose another format"))
            };
            ValueRef::Integer(i64::try_from(number).map_err(too_large)?)
        }
    };
    Ok(ToSqlOutput::Borrowed(value))
}

fn failed(doing: &'static str, path: &Path, error: rusqlite::Error) -> WriteError {
    let full = error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull);
    let source = if full { io::Error::new(io::ErrorKind::StorageFull, error) } else { io::Error::other(error) };
    WriteError::at(doing, path)(source)
}

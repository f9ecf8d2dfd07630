//! Export: tables as files for other programs, in a directory that a later run brings up to date.
//!
//! A file has its final name only when it is complete and durable; the manifest names what is complete. A run writes the
//! heights that the manifest does not cover, and replaces the tables of the state. After a run that was killed, the next
//! removes what is unfinished and goes on.
//! Not here: where rows come from over HTTP (`cli`).

mod error;
mod folder;
mod manifest;
mod parquet;
mod source;
mod sqlite;
mod writer;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use self::folder::Folder;
use self::manifest::{Work, file_name};
use self::source::Audit;
use self::writer::TableWriter;
use super::rows::{Row, Table};
use super::schema::{Schema, Span};
use crate::types::Height;

pub use self::error::{ExportError, Refusal, WriteError};
pub use self::manifest::{Entry, MANIFEST, Manifest};
pub use self::source::{LocalSource, Position, RowSource, RowStream};

/// Rows between two calls of the progress function.
const PROGRESS_ROWS: u64 = 1_024;

/// What the files are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Apache Parquet, compressed with zstd.
    Parquet,
    /// RFC 4180 with a header line.
    Csv,
    /// A JSON object a line.
    Jsonl,
    /// One SQLite database with all tables.
    Sqlite,
}

impl Format {
    /// All formats.
    pub const ALL: [Self; 4] = [Self::Parquet, Self::Csv, Self::Jsonl, Self::Sqlite];
    /// The name used on the command line and as the files' ending.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Csv => "csv",
            Self::Jsonl => "jsonl",
            Self::Sqlite => "sqlite",
        }
    }
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// How far an export is with a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The table.
    pub table: Table,
    /// Rows written of it in this run.
    pub rows: u64,
    /// Height of the last of them.
    pub height: Height,
    /// The last height that it will have.
    pub to: Height,
}

/// What a run did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The chain.
    pub chain_id: String,
    /// The files' format.
    pub format: Format,
    /// Height of the last block that is exported.
    pub height: u64,
    /// Rows written.
    pub rows: u64,
    /// What was written; nothing if there was nothing new.
    pub files: Vec<Entry>,
}

/// What a run would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// The chain.
    pub chain_id: String,
    /// The files' format.
    pub format: Format,
    /// Height of the last block that would be exported.
    pub height: u64,
    /// The files that would be written; none if there is nothing new.
    pub files: Vec<PlannedFile>,
    /// What the tables look like.
    pub schemas: Vec<&'static Schema>,
}

/// A table, or a range of heights of it, that would be written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlannedFile {
    /// Name of the file.
    pub file: String,
    /// The table.
    pub table: Table,
    /// The first height.
    pub min_height: u64,
    /// The last height.
    pub max_height: u64,
    /// Rows to expect; missing where the node cannot say, because it has pruned bodies.
    pub rows: Option<u64>,
}

/// An export into a directory.
#[derive(Clone, Debug)]
pub struct Exporter {
    out: PathBuf,
    format: Format,
    from: Height,
    to: Option<Height>,
}

impl Exporter {
    /// An export of all heights into a directory, which need not be there.
    pub fn new(out: &Path, format: Format) -> Self {
        Self { out: out.to_owned(), format, from: Height::GENESIS, to: None }
    }
    /// Only blocks and transactions at these heights, up to the last final one. The state is that of the last block
    /// all the same.
    pub fn heights(self, from: Height, to: Option<Height>) -> Self {
        Self { from, to, ..self }
    }

    /// What `run` would write now, without writing anything. Errors: those of `run`.
    pub fn plan<S: RowSource>(&self, source: &mut S) -> Result<Plan, ExportError<S::Error>> {
        let tip = source.position().map_err(ExportError::Source)?;
        let mut manifest = self.manifest(&tip)?;
        self.forget_missing(&mut manifest)?;
        let mut files = Vec::new();
        for work in manifest.missing(self.from, self.last(&tip), tip.height) {
            let (min_height, max_height) = (work.from.get(), work.to.get());
            let file = file_name(&tip.chain, self.format, work.table, min_height, max_height);
            files.push(PlannedFile { file, table: work.table, min_height, max_height, rows: expected(source, work)? });
        }
        let schemas = Table::ALL.iter().map(|table| table.schema()).collect();
        let height = self.last(&tip).get();
        Ok(Plan { chain_id: manifest.chain_id, format: self.format, height, files, schemas })
    }

    /// Writes what is new. Errors: `Source`, `Refused`, `Write`, `Rows`; what was complete by then stays.
    pub fn run<S: RowSource>(
        &self,
        source: &mut S,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Report, ExportError<S::Error>> {
        let tip = source.position().map_err(ExportError::Source)?;
        // Looked at before the directory is touched: what is not an export stays as it is.
        self.manifest::<S::Error>(&tip)?;
        let folder = Folder::open(&self.out)?;
        let mut manifest = self.manifest(&tip)?;
        self.forget_missing(&mut manifest)?;
        let work = manifest.missing(self.from, self.last(&tip), tip.height);
        if !work.is_empty() {
            manifest.save(&folder)?;
        }
        remove_strays(&folder, &tip, &manifest)?;
        let mut run = Run { folder: &folder, format: self.format, tip, progress };
        let files = match self.format {
            Format::Sqlite => run.database(source, &mut manifest, &work)?,
            _ => run.files(source, &mut manifest, &work)?,
        };
        let rows = files.iter().map(|entry| entry.rows).sum();
        let height = self.last(&tip).get();
        Ok(Report { chain_id: manifest.chain_id, format: self.format, height, rows, files })
    }

    fn last(&self, tip: &Position) -> Height {
        self.to.map_or(tip.height, |to| to.min(tip.height))
    }

    fn manifest<E>(&self, tip: &Position) -> Result<Manifest, ExportError<E>> {
        let found = Manifest::load(&self.out, &tip.chain, self.format)?;
        Ok(found.unwrap_or_else(|| Manifest::new(&tip.chain, self.format)))
    }

    /// Drops entries whose file is gone or has another length, so that they are exported again.
    fn forget_missing(&self, manifest: &mut Manifest) -> Result<(), WriteError> {
        let mut kept = Vec::new();
        for entry in std::mem::take(&mut manifest.files) {
            let path = self.out.join(&entry.file);
            let there = match self.format {
                // The database may be ahead of the manifest; its rows tell.
                Format::Sqlite => {
                    let (from, to) = (Height::new(entry.min_height), Height::new(entry.max_height));
                    sqlite::count(&path, entry.table, from, to)? == Some(entry.rows)
                }
                _ => std::fs::metadata(&path).is_ok_and(|found| found.is_file() && found.len() == entry.bytes),
            };
            kept.extend(there.then_some(entry));
        }
        manifest.files = kept;
        Ok(())
    }
}

/// Removes files of this chain's export that no manifest names: a run was killed before it could.
fn remove_strays(folder: &Folder, tip: &Position, manifest: &Manifest) -> Result<(), WriteError> {
    let prefix = format!("{}__", tip.chain.short());
    for name in folder.names()?.iter().filter(|name| name.starts_with(&prefix)) {
        // SQLite's own files beside a database belong to it.
        let known = |entry: &Entry| name == &entry.file || *name == format!("{}-journal", entry.file);
        if !manifest.files.iter().any(known) {
            folder.remove(name)?;
        }
    }
    Ok(())
}

fn expected<S: RowSource>(source: &mut S, work: Work) -> Result<Option<u64>, ExportError<S::Error>> {
    let Work { table, from, to } = work;
    if table == Table::Blocks {
        return Ok(Some(to.get() - from.get() + 1));
    }
    let counted = if table == Table::Transactions { Table::Blocks } else { table };
    let mut rows = Some(0);
    for row in source.rows(counted, from, to).map_err(ExportError::Source)? {
        let more = match row.map_err(ExportError::Source)? {
            Row::Blocks(block) => block.txs,
            _ => Some(1),
        };
        rows = rows.zip(more).map(|(rows, more)| rows + more);
    }
    Ok(rows)
}

/// One run, in a directory that is its own.
struct Run<'a> {
    folder: &'a Folder,
    format: Format,
    tip: Position,
    progress: &'a mut dyn FnMut(Progress),
}

impl Run<'_> {
    /// Writes a file for each piece of work, and the manifest after each.
    fn files<S: RowSource>(
        &mut self,
        source: &mut S,
        manifest: &mut Manifest,
        work: &[Work],
    ) -> Result<Vec<Entry>, ExportError<S::Error>> {
        let folder = self.folder;
        let mut done = Vec::new();
        for &work in work {
            let name =
                |from: Height, to: Height| file_name(&self.tip.chain, self.format, work.table, from.get(), to.get());
            let file = folder.create(&name(work.from, work.to))?;
            let path = file.path().to_owned();
            let writer = TableWriter::begin(self.format, work.table, file);
            let mut writer = writer.map_err(WriteError::at("writing", &path))?;
            let audit = copy(source, work, &self.tip, self.progress, &mut |row| {
                writer.push(row).map_err(WriteError::at("writing", &path))
            })?;
            let (from, to) = audit.end().map_err(|problem| ExportError::Rows { table: work.table, problem })?;
            let name = name(from, to);
            let written = writer.finish().map_err(WriteError::at("writing", &path))?.publish(&name)?;
            let entry =
                Entry { file: name, bytes: written.bytes, blake3: written.blake3, ..entry(work, &audit, from, to) };
            let replaced = manifest.add(entry.clone());
            manifest.save(folder)?;
            for old in replaced.iter().filter(|old| old.file != entry.file) {
                folder.remove(&old.file)?;
            }
            done.push(entry);
        }
        Ok(done)
    }

    /// Writes all work into the database in one transaction, then the manifest.
    fn database<S: RowSource>(
        &mut self,
        source: &mut S,
        manifest: &mut Manifest,
        work: &[Work],
    ) -> Result<Vec<Entry>, ExportError<S::Error>> {
        if work.is_empty() {
            return Ok(Vec::new());
        }
        let name = file_name(&self.tip.chain, self.format, Table::Blocks, 0, 0);
        let database = sqlite::Database::begin(self.folder, name.clone())?;
        let mut done = Vec::new();
        for &work in work {
            if work.table.schema().span == Span::State {
                database.clear(work.table)?;
            }
            let sql = sqlite::put_sql(work.table);
            let audit = copy(source, work, &self.tip, self.progress, &mut |row| database.put(&sql, row))?;
            let (from, to) = audit.end().map_err(|problem| ExportError::Rows { table: work.table, problem })?;
            done.push(entry(work, &audit, from, to));
        }
        database.commit()?;
        let written = folder::measure(&self.folder.file(&name))?;
        for entry in manifest.files.iter_mut().chain(&mut done) {
            (entry.file, entry.bytes, entry.blake3) = (name.clone(), written.bytes, written.blake3.clone());
        }
        for entry in &done {
            manifest.add(entry.clone());
        }
        manifest.merge();
        manifest.save(self.folder)?;
        Ok(done)
    }
}

/// The entry of finished work, still without its file.
fn entry(work: Work, audit: &Audit, from: Height, to: Height) -> Entry {
    Entry {
        file: String::new(),
        table: work.table,
        rows: audit.rows,
        min_height: from.get(),
        max_height: to.get(),
        bytes: 0,
        blake3: String::new(),
        schema: work.table.schema().hash(),
    }
}

/// Hands the rows of some work to `put`, one by one, and checks them on the way.
fn copy<S: RowSource>(
    source: &mut S,
    work: Work,
    tip: &Position,
    progress: &mut dyn FnMut(Progress),
    put: &mut dyn FnMut(&Row) -> Result<(), WriteError>,
) -> Result<Audit, ExportError<S::Error>> {
    let Work { table, from, to } = work;
    let mut audit = Audit::new(work, &tip.chain);
    let mut height = from;
    for row in source.rows(table, from, to).map_err(ExportError::Source)? {
        let row = row.map_err(ExportError::Source)?;
        audit.see(&row).map_err(|problem| ExportError::Rows { table, problem })?;
        put(&row)?;
        height = row.height();
        if audit.rows.is_multiple_of(PROGRESS_ROWS) {
            progress(Progress { table, rows: audit.rows, height, to });
        }
    }
    progress(Progress { table, rows: audit.rows, height, to });
    Ok(audit)
}

#[cfg(test)]
mod tests;

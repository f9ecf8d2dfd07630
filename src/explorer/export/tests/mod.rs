//! Tests of the export: what other programs read, what a second run adds, what a killed run leaves.

mod formats;
mod killed;
mod runs;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::*;
use crate::explorer::lines::{LineError, read_lines, write_line};
use crate::explorer::schema::Value;
use crate::explorer::testing::{Story, all_rows};

type Json = serde_json::Value;

/// Each table's rows, each row as its values: the form in which formats are compared.
type Canonical = BTreeMap<String, Vec<Vec<Json>>>;

fn canonical(row: &Row) -> Vec<Json> {
    let value = |value: Value<'_>| match value {
        Value::Null => Json::Null,
        Value::Text(text) => Json::from(text),
        Value::U64(number) => Json::from(number),
        Value::Bool(yes) => Json::from(yes),
    };
    row.values().into_iter().map(value).collect()
}

/// What an export of the story must have.
fn expected(story: &Story) -> Canonical {
    let snapshot = story.snapshot();
    let rows = |table: &Table| all_rows(&snapshot, *table).iter().map(canonical).collect();
    Table::ALL.iter().map(|table| (table.name().to_owned(), rows(table))).collect()
}

fn source(story: &Story) -> LocalSource {
    LocalSource::new(&story.store.reader()).expect("a good store")
}

/// Exports the story's chain as it is now.
fn export(story: &Story, out: &Path, format: Format) -> Report {
    Exporter::new(out, format).run(&mut source(story), &mut |_| {}).expect("a good export")
}

fn manifest(out: &Path) -> Manifest {
    let text = fs::read(out.join(MANIFEST)).expect("a manifest");
    serde_json::from_slice(&text).expect("a good manifest")
}

/// The directory's files but for the manifest, with their bytes.
fn contents(out: &Path) -> BTreeMap<String, Vec<u8>> {
    let names = folder::names(out).expect("a directory").into_iter().filter(|name| name != MANIFEST);
    names.map(|name| (name.clone(), fs::read(out.join(name)).expect("a file"))).collect()
}

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory")
}

/// Rows from files of JSON lines, one for each table: what a node sends over HTTP.
struct LineFiles(PathBuf);

impl LineFiles {
    fn write(story: &Story, dir: &Path) -> Self {
        for &table in Table::ALL {
            let file = File::create(dir.join(table.name())).expect("a file");
            let mut file = BufWriter::new(file);
            all_rows(&story.snapshot(), table).iter().for_each(|row| write_line(&mut file, row).expect("a line"));
            file.flush().expect("the end");
        }
        Self(dir.to_owned())
    }
    fn read(&self, table: Table) -> impl Iterator<Item = Result<Row, LineError>> + use<> {
        let file = File::open(self.0.join(table.name())).expect("a file");
        read_lines(table, BufReader::new(file))
    }
}

impl RowSource for LineFiles {
    type Error = LineError;
    fn position(&mut self) -> Result<Position, LineError> {
        let last = self.read(Table::Blocks).last().expect("genesis")?;
        Ok(Position { chain: last.chain_id().parse().expect("an id"), height: last.height() })
    }
    fn rows(&mut self, table: Table, from: Height, to: Height) -> Result<RowStream<'_, LineError>, LineError> {
        let within = move |row: &Row| table.schema().span == Span::State || (from..=to).contains(&row.height());
        Ok(Box::new(self.read(table).filter(move |row| row.as_ref().map_or(true, within))))
    }
}

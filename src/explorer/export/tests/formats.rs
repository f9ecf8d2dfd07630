//! What other programs read in the files, row by row.

use std::process::Command;

use ::parquet::file::reader::{FileReader, SerializedFileReader};
use ::parquet::record::Field;
use ::parquet::schema::printer::print_schema;

use super::*;
use crate::explorer::rows::{AccountRow, BlockRow};

fn schemas() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("schema/export")
}

fn python(out: &Path, format: Format) -> Canonical {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/explorer/export/tests/read_back.py");
    let done = Command::new("python3").arg(script).arg(out).arg(format.name()).arg(schemas()).output();
    let done = done.expect("python3 is installed");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    serde_json::from_slice(&done.stdout).expect("JSON")
}

fn has_pyarrow() -> bool {
    Command::new("python3").args(["-c", "import pyarrow"]).output().is_ok_and(|done| done.status.success())
}

fn field(field: &Field) -> Json {
    match field {
        Field::Null => Json::Null,
        Field::Bool(yes) => Json::from(*yes),
        Field::ULong(number) => Json::from(*number),
        Field::TimestampMillis(time) => Json::from(*time),
        Field::Str(text) => Json::from(text.as_str()),
        other => panic!("{other:?} is of no column type"),
    }
}

/// The export's Parquet files as the `parquet` crate's own reader has them.
fn parquet(out: &Path) -> Canonical {
    let mut tables = Canonical::new();
    for entry in manifest(out).files {
        let file = File::open(out.join(&entry.file)).expect("a file");
        let reader = SerializedFileReader::new(file).expect("a Parquet file");
        let rows = tables.entry(entry.table.name().to_owned()).or_default();
        for row in reader.get_row_iter(None).expect("rows") {
            let row = row.expect("a good row");
            let (names, values): (Vec<_>, Vec<_>) =
                row.get_column_iter().map(|(name, value)| (name, field(value))).unzip();
            assert!(names.into_iter().eq(entry.table.schema().columns.iter().map(|column| column.name)));
            rows.push(values);
        }
    }
    tables
}

/// The export as another program reads it.
pub(super) fn read_back(out: &Path, format: Format) -> Canonical {
    match format {
        Format::Parquet if has_pyarrow() => {
            assert_eq!(python(out, format), parquet(out), "two readers agree");
            parquet(out)
        }
        Format::Parquet => parquet(out),
        _ => python(out, format),
    }
}

#[test]
fn other_programs_read_the_same_rows_in_all_formats() {
    let story = Story::told();
    for format in Format::ALL {
        let out = directory();
        let report = export(&story, out.path(), format);
        let want = expected(&story);
        assert_eq!(read_back(out.path(), format), want, "{format}");
        assert_eq!(report.rows, want.values().map(|rows| rows.len() as u64).sum::<u64>());
    }
}

#[test]
fn rows_from_json_lines_make_the_same_files_as_those_from_the_store() {
    let story = Story::told();
    let lines = directory();
    let mut lines = LineFiles::write(&story, lines.path());
    for format in Format::ALL {
        let (from_store, from_lines) = (directory(), directory());
        export(&story, from_store.path(), format);
        Exporter::new(from_lines.path(), format).run(&mut lines, &mut |_| {}).expect("a good export");
        assert_eq!(contents(from_store.path()), contents(from_lines.path()), "{format}");
    }
}

/// A chain of a genesis block and one account.
struct OneAccount {
    balance: u64,
    time: u64,
}

impl RowSource for OneAccount {
    type Error = std::convert::Infallible;
    fn position(&mut self) -> Result<Position, Self::Error> {
        Ok(Position { chain: crate::types::ChainId::from_bytes([1; 32]), height: Height::GENESIS })
    }
    fn rows(&mut self, table: Table, _: Height, _: Height) -> Result<RowStream<'_, Self::Error>, Self::Error> {
        let chain_id = hex::encode([1; 32]);
        let row = match table {
            Table::Blocks => Row::Blocks(BlockRow {
                chain_id,
                height: 0,
                block_hash: String::new(),
                parent_hash: String::new(),
                version: 1,
                epoch: 0,
                view: 0,
                proposer: String::new(),
                time_ms: crate::explorer::rows::TimeMs(self.time),
                tx_root: String::new(),
                receipt_root: String::new(),
                state_root: String::new(),
                validator_set: String::new(),
                next_set: String::new(),
                reveal: String::new(),
                txs: None,
                payload_bytes: None,
            }),
            Table::Accounts => Row::Accounts(AccountRow {
                chain_id,
                as_of_height: 0,
                account_id: "a".to_owned(),
                balance: self.balance,
                stored: 0,
                nonce: 0,
            }),
            _ => return Ok(Box::new(std::iter::empty())),
        };
        Ok(Box::new(std::iter::once(Ok(row))))
    }
}

#[test]
fn the_highest_number_stays_what_it_is_or_is_refused() {
    for format in Format::ALL {
        let out = directory();
        let mut source = OneAccount { balance: u64::MAX, time: 5 };
        let done = Exporter::new(out.path(), format).run(&mut source, &mut |_| {});
        if format == Format::Sqlite {
            let text = done.expect_err("SQLite has no such number").to_string();
            assert!(text.contains("balance 18446744073709551615 is beyond SQLite's integers"), "{text}");
            assert!(contents(out.path()).is_empty(), "nothing half is left");
        } else {
            done.expect("a good export");
            assert_eq!(read_back(out.path(), format)["accounts"][0][3], Json::from(u64::MAX), "{format}");
        }
    }
    let out = directory();
    let mut source = OneAccount { balance: 0, time: u64::MAX };
    let done = Exporter::new(out.path(), Format::Parquet).run(&mut source, &mut |_| {});
    assert!(done.expect_err("no such instant").to_string().contains("time_ms is no instant"));
}

#[test]
fn parquet_says_what_its_columns_are() {
    let story = Story::told();
    let out = directory();
    export(&story, out.path(), Format::Parquet);
    let entries = manifest(out.path()).files;
    let validators = entries.iter().find(|entry| entry.table == Table::Validators).expect("an entry");
    let file = File::open(out.path().join(&validators.file)).expect("a file");
    let reader = SerializedFileReader::new(file).expect("a Parquet file");
    let mut text = Vec::new();
    print_schema(&mut text, reader.metadata().file_metadata().schema());
    expect_test::expect![[r#"
        message validators {
          REQUIRED BYTE_ARRAY chain_id (STRING);
          REQUIRED INT64 as_of_height (INTEGER(64,false));
          REQUIRED INT64 validator_index (INTEGER(64,false));
          REQUIRED BYTE_ARRAY node_id (STRING);
          REQUIRED BYTE_ARRAY account_id (STRING);
          REQUIRED INT64 power (INTEGER(64,false));
          REQUIRED BOOLEAN skipped;
        }
    "#]]
    .assert_eq(&String::from_utf8(text).expect("text"));
}

#[test]
fn many_rows_are_many_row_groups() {
    let schema = Table::Accounts.schema();
    let mut writer = super::parquet::Writer::begin(schema, Vec::new()).expect("a file in memory");
    let count = crate::types::limits::EXPORT_GROUP_ROWS as u64 * 2 + 5;
    for n in 0..count {
        let chain_id = "c".to_owned();
        let row = AccountRow {
            chain_id,
            as_of_height: 1,
            account_id: format!("{n:08}"),
            balance: n,
            nonce: n % 7,
            stored: 0,
        };
        writer.push(&Row::Accounts(row)).expect("memory takes it");
    }
    let bytes = bytes::Bytes::from(writer.finish().expect("memory takes it"));
    let reader = SerializedFileReader::new(bytes).expect("a Parquet file");
    assert_eq!(reader.num_row_groups(), 3);
    let balance = |row: ::parquet::record::Row| row.get_column_iter().nth(3).map(|(_, value)| field(value));
    let rows = reader.get_row_iter(None).expect("rows").map(|row| balance(row.expect("a good row")));
    assert!(rows.eq((0..count).map(|n| Some(Json::from(n)))));
}

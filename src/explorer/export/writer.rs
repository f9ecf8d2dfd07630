//! The formats that are one file for each table: CSV, JSON lines, Parquet.

use std::io::{self, Write};

use super::Format;
use super::folder::NewFile;
use super::parquet;
use crate::explorer::lines::write_line;
use crate::explorer::rows::{Row, Table};
use crate::explorer::schema::Value;

/// A file of one table in the making.
pub(super) enum TableWriter<'a> {
    /// RFC 4180 with a header line; a missing value is an empty field.
    Csv(Box<csv::Writer<NewFile<'a>>>),
    /// One JSON object a line.
    Jsonl(Box<NewFile<'a>>),
    Parquet(Box<parquet::Writer<NewFile<'a>>>),
}

impl<'a> TableWriter<'a> {
    /// Begins the table. The format is one of those that have a file for each.
    pub(super) fn begin(format: Format, table: Table, file: NewFile<'a>) -> io::Result<Self> {
        match format {
            Format::Csv => {
                let mut writer = csv::Writer::from_writer(file);
                writer.write_record(table.schema().columns.iter().map(|column| column.name))?;
                Ok(Self::Csv(Box::new(writer)))
            }
            Format::Jsonl => Ok(Self::Jsonl(Box::new(file))),
            Format::Parquet => Ok(Self::Parquet(Box::new(parquet::Writer::begin(table.schema(), file)?))),
            Format::Sqlite => Err(io::Error::from(io::ErrorKind::Unsupported)),
        }
    }
    pub(super) fn push(&mut self, row: &Row) -> io::Result<()> {
        match self {
            Self::Csv(writer) => {
                for value in row.values() {
                    match value {
                        Value::Null => writer.write_field("")?,
                        Value::Text(text) => writer.write_field(text)?,
                        Value::U64(number) => writer.write_field(number.to_string())?,
                        Value::Bool(yes) => writer.write_field(yes.to_string())?,
                    }
                }
                Ok(writer.write_record(None::<&[u8]>)?)
            }
            Self::Jsonl(file) => write_line(file, row),
            Self::Parquet(writer) => writer.push(row),
        }
    }
    /// Ends the table; its file is then complete but for its name.
    pub(super) fn finish(self) -> io::Result<NewFile<'a>> {
        match self {
            Self::Csv(writer) => writer.into_inner().map_err(csv::IntoInnerError::into_error),
            Self::Jsonl(mut file) => file.flush().map(|()| *file),
            Self::Parquet(writer) => writer.finish(),
        }
    }
}

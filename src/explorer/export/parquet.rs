//! Tables as Parquet: numbers are UINT_64, instants are timestamps in UTC, texts are UTF-8.

use std::io::{self, Write};
use std::sync::Arc;

use ::parquet::basic::{Compression, ZstdLevel};
use ::parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, Int64Type};
use ::parquet::errors::ParquetError;
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use ::parquet::schema::parser::parse_message_type;

use crate::explorer::rows::Row;
use crate::explorer::schema::{ColumnType, Schema, Value};
use crate::types::limits;

/// Values of one column for the row group in the making.
struct Column {
    values: Values,
    /// Whether each row has a value; only of columns where it may have none.
    present: Option<Vec<i16>>,
}

enum Values {
    Text(Vec<ByteArray>),
    Number(Vec<i64>),
    Bool(Vec<bool>),
}

/// A Parquet file in the making.
pub(super) struct Writer<W: Write + Send> {
    file: SerializedFileWriter<W>,
    schema: &'static Schema,
    columns: Vec<Column>,
    rows: usize,
}

impl<W: Write + Send> Writer<W> {
    pub(super) fn begin(schema: &'static Schema, out: W) -> io::Result<Self> {
        let message = parse_message_type(&message_type(schema)).map_err(failed)?;
        let compression = Compression::ZSTD(ZstdLevel::default());
        let created_by = concat!("trullo ", env!("CARGO_PKG_VERSION")).to_owned();
        let properties = WriterProperties::builder().set_compression(compression).set_created_by(created_by).build();
        let file = SerializedFileWriter::new(out, Arc::new(message), Arc::new(properties)).map_err(failed)?;
        Ok(Self { file, schema, columns: empty(schema), rows: 0 })
    }
    pub(super) fn push(&mut self, row: &Row) -> io::Result<()> {
        for ((value, column), about) in row.values().into_iter().zip(&mut self.columns).zip(self.schema.columns) {
            if let Some(present) = &mut column.present {
                present.push(i16::from(value != Value::Null));
            }
            match (value, &mut column.values) {
                (Value::Null, _) => {}
                (Value::Text(text), Values::Text(column)) => column.push(ByteArray::from(text)),
                (Value::Bool(yes), Values::Bool(column)) => column.push(yes),
                // Parquet keeps unsigned numbers in the bits of signed ones.
                (Value::U64(number), Values::Number(column)) if about.kind == ColumnType::U64 => {
                    column.push(number.cast_signed());
                }
                (Value::U64(time), Values::Number(column)) => {
                    let time = i64::try_from(time);
                    column.push(time.map_err(|_| io::Error::other(format!("{} is no instant", about.name)))?);
                }
                _ => return Err(io::Error::other(format!("{} has a value of another type", about.name))),
            }
        }
        self.rows += 1;
        if self.rows == limits::EXPORT_GROUP_ROWS { self.write_group() } else { Ok(()) }
    }
    fn write_group(&mut self) -> io::Result<()> {
        let mut group = self.file.next_row_group().map_err(failed)?;
        for Column { values, present } in std::mem::replace(&mut self.columns, empty(self.schema)) {
            let present = present.as_deref();
            match values {
                Values::Text(values) => write_column::<ByteArrayType, W>(&mut group, &values, present)?,
                Values::Number(values) => write_column::<Int64Type, W>(&mut group, &values, present)?,
                Values::Bool(values) => write_column::<BoolType, W>(&mut group, &values, present)?,
            }
        }
        group.close().map_err(failed)?;
        self.rows = 0;
        Ok(())
    }
    pub(super) fn finish(mut self) -> io::Result<W> {
        if self.rows > 0 {
            self.write_group()?;
        }
        self.file.into_inner().map_err(failed)
    }
}

fn write_column<T: DataType, W: Write + Send>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    values: &[T::T],
    present: Option<&[i16]>,
) -> io::Result<()> {
    let column = group.next_column().map_err(failed)?;
    let mut column = column.ok_or_else(|| io::Error::other("the schema has fewer columns"))?;
    column.typed::<T>().write_batch(values, present, None).map_err(failed)?;
    column.close().map_err(failed)
}

fn empty(schema: &Schema) -> Vec<Column> {
    let column = |column: &crate::explorer::schema::Column| Column {
        values: match column.kind {
            ColumnType::Text => Values::Text(Vec::new()),
            ColumnType::U64 | ColumnType::TimeMs => Values::Number(Vec::new()),
            ColumnType::Bool => Values::Bool(Vec::new()),
        },
        present: column.nullable.then(Vec::new),
    };
    schema.columns.iter().map(column).collect()
}

/// The schema in Parquet's own words.
fn message_type(schema: &Schema) -> String {
    let mut text = format!("message {} {{\n", schema.table);
    for column in schema.columns {
        let repetition = if column.nullable { "OPTIONAL" } else { "REQUIRED" };
        let (kind, meaning) = match column.kind {
            ColumnType::Text => ("BYTE_ARRAY", " (STRING)"),
            ColumnType::U64 => ("INT64", " (INTEGER(64,false))"),
            ColumnType::TimeMs => ("INT64", " (TIMESTAMP(MILLIS,true))"),
            ColumnType::Bool => ("BOOLEAN", ""),
        };
        text.push_str(&format!("  {repetition} {kind} {}{meaning};\n", column.name));
    }
    text + "}"
}

fn failed(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(inner) => match inner.downcast::<io::Error>() {
            Ok(error) => *error,
            Err(other) => io::Error::other(other),
        },
        other => io::Error::other(other),
    }
}

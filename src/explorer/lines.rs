//! JSON lines: rows as text, one object a line, as the HTTP API sends them and `export` writes them.
//!
//! A stream that breaks off must be told apart by what carries it: HTTP's chunks are, when the server drops the answer.

use std::io::{self, BufRead, Read, Write};

use super::rows::{Row, Table};
use crate::types::limits;

/// Why a line is no row.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// The line could not be read.
    #[error("reading rows of {table} failed: {source}")]
    Io {
        /// The table asked for.
        table: Table,
        /// What happened.
        source: io::Error,
    },
    /// The line is longer than any row.
    #[error("line {line} of {table} is longer than {max} bytes", max = limits::EXPORT_LINE_BYTES_MAX)]
    TooLong {
        /// The table asked for.
        table: Table,
        /// Which line, from 1.
        line: u64,
    },
    /// The line is not JSON, or not of this table.
    #[error("line {line} of {table} is no row of it: {reason}")]
    Malformed {
        /// The table asked for.
        table: Table,
        /// Which line, from 1.
        line: u64,
        /// What is wrong.
        reason: String,
    },
}

/// Writes one row and the end of its line. Errors: those of the writer.
pub fn write_line(out: &mut impl Write, row: &Row) -> io::Result<()> {
    serde_json::to_writer(&mut *out, row)?;
    out.write_all(b"\n")
}

/// The rows of a table from JSON lines. Ends at the first error. Errors: each of `LineError`.
pub fn read_lines<R: BufRead>(table: Table, input: R) -> impl Iterator<Item = Result<Row, LineError>> {
    Lines { table, input, line: 0, ended: false }
}

struct Lines<R> {
    table: Table,
    input: R,
    line: u64,
    ended: bool,
}

impl<R: BufRead> Lines<R> {
    fn read(&mut self) -> Result<Option<Row>, LineError> {
        let table = self.table;
        let mut text = Vec::new();
        let mut bounded = (&mut self.input).take(limits::EXPORT_LINE_BYTES_MAX as u64);
        bounded.read_until(b'\n', &mut text).map_err(|source| LineError::Io { table, source })?;
        if text.is_empty() {
            return Ok(None);
        }
        self.line += 1;
        let line = self.line;
        match text.pop() {
            Some(b'\n') => {}
            _ if text.len() + 1 == limits::EXPORT_LINE_BYTES_MAX => return Err(LineError::TooLong { table, line }),
            _ => return Err(LineError::Malformed { table, line, reason: "it breaks off".to_owned() }),
        }
        let malformed = |error: serde_json::Error| LineError::Malformed { table, line, reason: error.to_string() };
        Row::from_json(table, &text).map(Some).map_err(malformed)
    }
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = Result<Row, LineError>;
    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let row = self.read().transpose();
        self.ended = !matches!(row, Some(Ok(_)));
        row
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explorer::testing::{Story, all_rows};

    #[test]
    fn rows_come_back_from_their_lines() {
        let story = Story::told();
        for &table in Table::ALL {
            let rows = all_rows(&story.snapshot(), table);
            let mut text = Vec::new();
            rows.iter().for_each(|row| write_line(&mut text, row).expect("memory takes it"));
            let read: Result<Vec<_>, _> = read_lines(table, text.as_slice()).collect();
            assert_eq!(read.expect("good lines"), rows);
        }
    }

    #[test]
    fn an_object_has_the_columns_of_the_schema_in_their_order() {
        let story = Story::told();
        for &table in Table::ALL {
            for row in all_rows(&story.snapshot(), table) {
                let mut text = Vec::new();
                write_line(&mut text, &row).expect("memory takes it");
                let text = String::from_utf8(text).expect("JSON is UTF-8");
                let mut at = 0;
                for column in table.schema().columns {
                    let key = format!("\"{}\":", column.name);
                    at += text[at..].find(&key).expect("the next column comes later") + key.len();
                }
                let object: serde_json::Map<String, serde_json::Value> =
                    serde_json::from_str(&text).expect("an object");
                assert_eq!(object.len(), table.schema().columns.len());
            }
        }
    }

    #[test]
    fn a_line_that_breaks_off_has_no_end_or_is_of_another_table_is_an_error() {
        let story = Story::told();
        let mut text = Vec::new();
        write_line(&mut text, &all_rows(&story.snapshot(), Table::Blocks)[0]).expect("memory takes it");
        let read = |table, text: &[u8]| read_lines(table, text).collect::<Result<Vec<_>, _>>();
        assert!(read(Table::Blocks, &text).is_ok());
        for len in 1..text.len() {
            assert!(matches!(read(Table::Blocks, &text[..len]), Err(LineError::Malformed { line: 1, .. })), "{len}");
        }
        assert!(matches!(read(Table::Accounts, &text), Err(LineError::Malformed { .. })));
        let endless = vec![b' '; limits::EXPORT_LINE_BYTES_MAX * 2];
        assert!(matches!(read(Table::Blocks, &endless), Err(LineError::TooLong { line: 1, .. })));
    }
}

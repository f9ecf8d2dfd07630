//! Explorer: the chain as tables for other programs.
//!
//! `rows` says which tables there are and what their columns mean, once; every format is written from that. `tables`
//! reads rows from the store, final blocks and their state only; `lines` carries rows as JSON lines; `export` writes
//! them to files and keeps the files up to date.
//! Not here: the HTTP interface (`api`), the command line (`cli`).

pub mod export;
pub mod lines;
pub mod rows;
pub mod schema;
pub mod tables;

pub use export::{Exporter, Format, Position, RowSource};
pub use lines::{read_lines, write_line};
pub use rows::{Row, Table};
pub use tables::{Rows, rows};

#[cfg(test)]
mod testing;

//! Where the rows of an export come from, and the checks that they are what was asked for.

use super::manifest::Work;
use crate::explorer::rows::{Row, Table};
use crate::explorer::schema::Span;
use crate::explorer::tables::{self, TableError};
use crate::store::{Reader, Snapshot, StoreError, Tip};
use crate::types::{ChainId, Height};

/// How far a chain is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The chain.
    pub chain: ChainId,
    /// Height of its last final block.
    pub height: Height,
}

/// The rows of a table as they come.
pub type RowStream<'a, E> = Box<dyn Iterator<Item = Result<Row, E>> + 'a>;

/// Final blocks and their state as rows: this machine's store, or a node's HTTP interface.
pub trait RowSource {
    /// Why rows cannot be read.
    type Error: std::error::Error;
    /// How far the chain is. Later calls of `rows` see this height at least.
    fn position(&mut self) -> Result<Position, Self::Error>;
    /// Rows in the order of the table's key: of blocks and transactions all at the heights `from..=to`, of the other tables
    /// all as of one height, the position's.
    fn rows(&mut self, table: Table, from: Height, to: Height) -> Result<RowStream<'_, Self::Error>, Self::Error>;
}

/// The store of a node that runs in this process, or of one that does not run. All tables are as of one block.
pub struct LocalSource {
    snapshot: Snapshot,
    tip: Option<Tip>,
}

impl LocalSource {
    /// The store as it is now. Errors: those of `Reader::snapshot`.
    pub fn new(reader: &Reader) -> Result<Self, StoreError> {
        let snapshot = reader.snapshot()?;
        let tip = snapshot.tip()?;
        Ok(Self { snapshot, tip })
    }
}

impl RowSource for LocalSource {
    type Error = TableError;
    fn position(&mut self) -> Result<Position, TableError> {
        let tip = self.tip.as_ref().ok_or(TableError::NoBlock)?;
        Ok(Position { chain: tip.header.chain, height: tip.height })
    }
    fn rows(&mut self, table: Table, from: Height, to: Height) -> Result<RowStream<'_, TableError>, TableError> {
        Ok(Box::new(tables::rows(&self.snapshot, table, from, to)?))
    }
}

/// Looks at rows as they pass: a source that leaves something out, or mixes two states, must not end as a good export.
pub(super) struct Audit {
    work: Work,
    chain: String,
    pub(super) rows: u64,
    last: Option<Height>,
}

impl Audit {
    pub(super) fn new(work: Work, chain: &ChainId) -> Self {
        Self { work, chain: chain.to_string(), rows: 0, last: None }
    }
    /// Errors: what is wrong with the row.
    pub(super) fn see(&mut self, row: &Row) -> Result<(), String> {
        let (height, Work { table, from, to }) = (row.height(), self.work);
        if row.table() != table || row.chain_id() != self.chain {
            return Err(format!("a row of {} of chain {}", row.table(), row.chain_id()));
        }
        let (fits, want) = match (table, table.schema().span) {
            (Table::Blocks, _) => {
                let next = self.last.map_or(Some(from), Height::next);
                (Some(height) == next && height <= to, format!("block {}", next.unwrap_or(to)))
            }
            (_, Span::Heights) => {
                let least = self.last.unwrap_or(from);
                (height >= least && height <= to, format!("heights {least} to {to}"))
            }
            (_, Span::State) => {
                let least = self.last.unwrap_or(from);
                (height == least || self.last.is_none() && height >= from, format!("height {least}"))
            }
        };
        if !fits {
            return Err(format!("a row of height {height} where {want} belongs"));
        }
        (self.last, self.rows) = (Some(height), self.rows + 1);
        Ok(())
    }
    /// The heights that the rows cover. Errors: what is missing.
    pub(super) fn end(&self) -> Result<(Height, Height), String> {
        let Work { table, from, to } = self.work;
        if table.schema().span == Span::State {
            let at = self.last.unwrap_or(from);
            return Ok((at, at));
        }
        if table == Table::Blocks && self.last != Some(to) {
            let last = self.last.map_or("nothing".to_owned(), |last| last.to_string());
            return Err(format!("the rows end at {last}, before block {to}"));
        }
        Ok((from, to))
    }
}

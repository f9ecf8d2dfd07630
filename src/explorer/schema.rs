//! Schemas: what a table's columns are called, what they hold and which of them name a row.
//!
//! The files in `schema/export` are these, for people; a test holds them equal.

use serde::Serialize;

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnType {
    /// Text in UTF-8. Ids and hashes are lower-case hexadecimal. A text that may be missing is never empty, so that CSV
    /// tells the two apart.
    Text,
    /// An unsigned number of 64 bits.
    U64,
    /// An instant: milliseconds since the Unix epoch, UTC.
    TimeMs,
    /// Yes or no.
    Bool,
}

impl ColumnType {
    /// The name used in schemas.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::U64 => "u64",
            Self::TimeMs => "time_ms",
            Self::Bool => "bool",
        }
    }
}

/// One column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Column {
    /// Its name; the same fact has the same name and type in every table.
    pub name: &'static str,
    /// What it holds.
    #[serde(rename = "type")]
    pub kind: ColumnType,
    /// Whether it may be missing in a row.
    pub nullable: bool,
    /// What it means.
    pub about: &'static str,
}

/// What a table's rows stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Span {
    /// What happened at each height; rows are added, never changed.
    Heights,
    /// How things are after one block; a later export replaces it.
    State,
}

/// One table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Schema {
    /// Its name.
    pub table: &'static str,
    /// What a row is.
    pub about: &'static str,
    /// What its rows stand for.
    pub span: Span,
    /// The column with the height that a row belongs to.
    pub height: &'static str,
    /// The columns that name a row within its chain; rows come in their order.
    pub key: &'static [&'static str],
    /// All columns, in order.
    pub columns: &'static [Column],
}

impl Schema {
    /// BLAKE3 of everything that makes two files readable together: names, types and order, not the prose. 64
    /// hexadecimal digits.
    pub fn hash(&self) -> String {
        let mut text = format!("{} by {}\n", self.table, self.key.join(","));
        for column in self.columns {
            let null = if column.nullable { " or null" } else { "" };
            text.push_str(&format!("{} {}{null}\n", column.name, column.kind.name()));
        }
        blake3::hash(text.as_bytes()).to_hex().to_string()
    }
}

/// A value of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// Missing.
    Null,
    /// Text.
    Text(&'a str),
    /// A number or an instant.
    U64(u64),
    /// Yes or no.
    Bool(bool),
}

/// A type that columns can have.
pub(super) trait Cell {
    const KIND: ColumnType;
    const NULLABLE: bool = false;
    fn value(&self) -> Value<'_>;
}

impl Cell for String {
    const KIND: ColumnType = ColumnType::Text;
    fn value(&self) -> Value<'_> {
        Value::Text(self)
    }
}

impl Cell for u64 {
    const KIND: ColumnType = ColumnType::U64;
    fn value(&self) -> Value<'_> {
        Value::U64(*self)
    }
}

impl Cell for super::rows::TimeMs {
    const KIND: ColumnType = ColumnType::TimeMs;
    fn value(&self) -> Value<'_> {
        Value::U64(self.0)
    }
}

impl Cell for bool {
    const KIND: ColumnType = ColumnType::Bool;
    fn value(&self) -> Value<'_> {
        Value::Bool(*self)
    }
}

impl<T: Cell> Cell for Option<T> {
    const KIND: ColumnType = T::KIND;
    const NULLABLE: bool = true;
    fn value(&self) -> Value<'_> {
        self.as_ref().map_or(Value::Null, Cell::value)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::explorer::Table;

    #[test]
    fn the_checked_in_schemas_are_the_ones_in_use() {
        for table in Table::ALL {
            let json = serde_json::to_string_pretty(table.schema()).expect("a schema is JSON") + "\n";
            let path = format!("{}/schema/export/{}.json", env!("CARGO_MANIFEST_DIR"), table.name());
            let path = std::path::PathBuf::from(path);
            expect_test::expect_file![path].assert_eq(&json);
        }
    }

    #[test]
    fn one_fact_has_one_type_everywhere_and_every_table_names_its_chain() {
        let mut types = BTreeMap::new();
        for table in Table::ALL {
            let schema = table.schema();
            assert_eq!(schema.columns.first().map(|column| column.name), Some("chain_id"));
            for column in schema.columns {
                let first = *types.entry(column.name).or_insert(column.kind);
                assert_eq!(first, column.kind, "{}.{}", schema.table, column.name);
            }
            for name in schema.key.iter().chain([&schema.height]) {
                let column = schema.columns.iter().find(|column| column.name == *name).expect("a column");
                assert!(!column.nullable, "{}.{name} names a row", schema.table);
            }
        }
    }

    #[test]
    fn the_hash_knows_types_but_not_prose() {
        let schema = Table::Blocks.schema();
        assert_eq!(Schema { about: "other words", ..*schema }.hash(), schema.hash());
        assert_ne!(Schema { columns: &schema.columns[1..], ..*schema }.hash(), schema.hash());
        assert_ne!(Table::Slots.schema().hash(), Table::Files.schema().hash());
    }
}

//! The manifest of an export: which files there are, what they cover, and what their bytes hash to.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Format;
use super::error::{ExportError, Refusal, WriteError};
use super::folder::{self, Folder, PARTIAL};
use crate::explorer::rows::Table;
use crate::explorer::schema::Span;
use crate::types::{ChainId, Height, limits};

/// Name of the manifest's file.
pub const MANIFEST: &str = "manifest.json";
/// Version of the manifest.
const VERSION: u32 = 1;

/// One table, or a range of heights of it, in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Name of the file. All tables share one in the format `sqlite`.
    pub file: String,
    /// The table.
    pub table: Table,
    /// Its rows in the file, between these heights.
    pub rows: u64,
    /// The first height covered; for a table of the state, the height that it is as of.
    pub min_height: u64,
    /// The last height covered.
    pub max_height: u64,
    /// The file's length.
    pub bytes: u64,
    /// BLAKE3 hash of the file, as `b3sum` prints it.
    pub blake3: String,
    /// Hash of the table's schema.
    pub schema: String,
}

/// What an export's directory holds. Written after the files that it names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this format: 1.
    pub version: u32,
    /// The chain.
    pub chain_id: String,
    /// The files' format.
    pub format: Format,
    /// What there is, by table and height.
    pub files: Vec<Entry>,
}

/// Rows to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Work {
    pub(super) table: Table,
    pub(super) from: Height,
    pub(super) to: Height,
}

impl Manifest {
    pub(super) fn new(chain: &ChainId, format: Format) -> Self {
        Self { version: VERSION, chain_id: chain.to_string(), format, files: Vec::new() }
    }

    /// The manifest in a directory, or none where an export may begin.
    pub(super) fn load<E>(dir: &Path, chain: &ChainId, format: Format) -> Result<Option<Self>, ExportError<E>> {
        let path = dir.join(MANIFEST);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let unfinished = format!("{MANIFEST}{PARTIAL}");
                let foreign = folder::names(dir)?.into_iter().any(|name| name != unfinished);
                return if foreign { Err(Refusal::NotAnExport(dir.to_owned()).into()) } else { Ok(None) };
            }
            Err(error) => return Err(WriteError::at("reading", &path)(error).into()),
        };
        let damaged = |reason: String| Refusal::Manifest { path: path.clone(), reason };
        let manifest: Self = serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
        if manifest.version != VERSION {
            return Err(damaged(format!("version {}, this program knows {VERSION}", manifest.version)).into());
        }
        let need = chain.to_string();
        if manifest.chain_id != need {
            return Err(Refusal::Chain { dir: dir.to_owned(), have: manifest.chain_id, need }.into());
        }
        if manifest.format != format {
            let (have, need) = (manifest.format.to_string(), format.to_string());
            return Err(Refusal::Format { dir: dir.to_owned(), have, need }.into());
        }
        for entry in &manifest.files {
            let table = entry.table;
            // Names are made into paths, so they are taken from nowhere but here.
            let fits = entry.file == file_name(chain, format, table, entry.min_height, entry.max_height);
            if !fits || entry.min_height > entry.max_height {
                return Err(damaged(format!("{:?} is no file of this export", entry.file)).into());
            }
            if entry.schema != table.schema().hash() {
                return Err(Refusal::Schema { dir: dir.to_owned(), table }.into());
            }
        }
        Ok(Some(manifest))
    }

    pub(super) fn save(&self, folder: &Folder) -> Result<(), WriteError> {
        let mut text = serde_json::to_vec_pretty(self).map_err(WriteError::at("writing", Path::new(MANIFEST)))?;
        text.push(b'\n');
        folder.replace(MANIFEST, &text)
    }

    /// Adds what was written. Of a table of the state only the newest stays; the others are given back.
    pub(super) fn add(&mut self, entry: Entry) -> Vec<Entry> {
        let replaces = |old: &Entry| match entry.table.schema().span {
            Span::State => old.table == entry.table,
            Span::Heights => old.file == entry.file && old.table == entry.table && old.min_height == entry.min_height,
        };
        let (old, kept) = std::mem::take(&mut self.files).into_iter().partition(replaces);
        self.files = kept;
        self.files.push(entry);
        self.files.sort_by_key(|entry| (entry.table, entry.min_height));
        old
    }

    /// Puts neighbouring ranges of one file into one entry.
    pub(super) fn merge(&mut self) {
        self.files.dedup_by(|next, last| {
            let follows = last.max_height.checked_add(1) == Some(next.min_height);
            let joins = follows && last.file == next.file && last.table == next.table;
            if joins && next.table.schema().span == Span::Heights {
                last.max_height = next.max_height;
                last.rows += next.rows;
                return true;
            }
            false
        });
    }

    /// What is missing of the heights `from..=to`, and of the state after `tip`.
    pub(super) fn missing(&self, from: Height, to: Height, tip: Height) -> Vec<Work> {
        let mut work = Vec::new();
        for &table in Table::ALL {
            let covered = self.files.iter().filter(|entry| entry.table == table);
            match table.schema().span {
                Span::State if covered.clone().any(|entry| entry.max_height >= tip.get()) => {}
                Span::State => work.push(Work { table, from: tip, to: tip }),
                Span::Heights => {
                    let covered = covered.map(|entry| (entry.min_height, entry.max_height));
                    for (from, to) in gaps(covered, from.get(), to.get()) {
                        let step = if self.format == Format::Sqlite { u64::MAX } else { limits::EXPORT_FILE_HEIGHTS };
                        let part = |(from, to)| Work { table, from: Height::new(from), to: Height::new(to) };
                        work.extend(parts(from, to, step).map(part));
                    }
                }
            }
        }
        work
    }
}

/// The part of `from..=to` that no range covers; the ranges ascend.
fn gaps(covered: impl Iterator<Item = (u64, u64)>, from: u64, to: u64) -> Vec<(u64, u64)> {
    let mut gaps = Vec::new();
    let mut next = Some(from);
    for (first, last) in covered {
        if let Some(at) = next.filter(|at| *at < first && *at <= to) {
            gaps.push((at, to.min(first - 1)));
        }
        next = next.and_then(|at| if last < at { Some(at) } else { last.checked_add(1) });
    }
    gaps.extend(next.filter(|at| *at <= to).map(|at| (at, to)));
    gaps
}

/// A range in pieces that end before multiples of `step`.
fn parts(from: u64, to: u64, step: u64) -> impl Iterator<Item = (u64, u64)> {
    let mut next = Some(from).filter(|from| *from <= to);
    std::iter::from_fn(move || {
        let at = next?;
        let end = (at / step).saturating_add(1).saturating_mul(step).saturating_sub(1).min(to);
        next = end.checked_add(1).filter(|next| *next <= to);
        Some((at, end))
    })
}

/// Name of the file that holds a table's rows between two heights.
pub(super) fn file_name(chain: &ChainId, format: Format, table: Table, from: u64, to: u64) -> String {
    let (chain, ending) = (chain.short(), format.name());
    match (format, table.schema().span) {
        (Format::Sqlite, _) => format!("{chain}__all.{ending}"),
        (_, Span::State) => format!("{chain}__{table}__{from}.{ending}"),
        (_, Span::Heights) => format!("{chain}__{table}__{from}_{to}.{ending}"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn gaps_are_what_no_file_covers() {
        let found = |covered: &[(u64, u64)], from, to| gaps(covered.iter().copied(), from, to);
        assert_eq!(found(&[], 0, 9), [(0, 9)]);
        assert_eq!(found(&[(0, 9)], 0, 9), []);
        assert_eq!(found(&[(0, 3), (6, 7)], 0, 9), [(4, 5), (8, 9)]);
        assert_eq!(found(&[(5, 6)], 0, 5), [(0, 4)]);
        assert_eq!(found(&[(0, u64::MAX)], 3, u64::MAX), []);
        assert_eq!(found(&[(20, 30)], 0, 9), [(0, 9)]);
    }

    proptest! {
        #[test]
        fn pieces_make_up_the_range_and_end_at_multiples(from in 0_u64..500, len in 0_u64..500, step in 1_u64..200) {
            let to = from + len;
            let all: Vec<_> = parts(from, to, step).collect();
            let heights: Vec<_> = all.iter().flat_map(|(a, b)| *a..=*b).collect();
            prop_assert_eq!(heights, (from..=to).collect::<Vec<_>>());
            prop_assert!(all.iter().all(|(_, b)| *b == to || (b + 1).is_multiple_of(step)));
        }

        #[test]
        fn gaps_and_files_make_up_all_heights(picks in proptest::collection::vec(any::<bool>(), 1..40)) {
            let covered: Vec<_> = (0_u64..).zip(&picks).filter(|(_, on)| **on).map(|(at, _)| (at, at)).collect();
            let to = picks.len() as u64 - 1;
            let open: Vec<_> = gaps(covered.iter().copied(), 0, to).iter().flat_map(|(a, b)| *a..=*b).collect();
            let want: Vec<_> = (0_u64..).zip(&picks).filter(|(_, on)| !**on).map(|(at, _)| at).collect();
            prop_assert_eq!(open, want);
        }
    }
}

//! Why an export ends early: the directory, the disk, or the rows.

use std::io;
use std::path::{Path, PathBuf};

use crate::explorer::rows::Table;

/// The directory holds something that this export must not touch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There are files, but no manifest.
    #[error("{} holds other files; choose an empty directory or one of an earlier export", .0.display())]
    NotAnExport(PathBuf),
    /// Another export is writing there.
    #[error("another export is writing to {}; wait for it to end", .0.display())]
    Busy(PathBuf),
    /// It is of another chain.
    #[error("{} is an export of chain {have}, this is chain {need}; choose another directory", .dir.display())]
    Chain {
        /// The directory.
        dir: PathBuf,
        /// Its chain.
        have: String,
        /// The chain asked for.
        need: String,
    },
    /// It is in another format.
    #[error("{} is an export as {have}, not as {need}; choose another directory", .dir.display())]
    Format {
        /// The directory.
        dir: PathBuf,
        /// Its format.
        have: String,
        /// The format asked for.
        need: String,
    },
    /// A table had other columns then.
    #[error("{} has {table} with other columns, from another version of trullo; choose another directory", .dir.display())]
    Schema {
        /// The directory.
        dir: PathBuf,
        /// The table.
        table: Table,
    },
    /// The manifest is damaged.
    #[error("{}: {reason}; choose another directory", .path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// Files could not be written, or not with these values.
#[derive(Debug, thiserror::Error)]
#[error("{doing} {} failed: {source}", .path.display())]
pub struct WriteError {
    /// What was tried.
    pub doing: &'static str,
    /// The file or directory.
    pub path: PathBuf,
    /// What happened.
    pub source: io::Error,
}

impl WriteError {
    /// Wraps what happened at a path.
    pub(super) fn at<E: Into<io::Error>>(doing: &'static str, path: &Path) -> impl FnOnce(E) -> Self {
        move |error| Self { doing, path: path.to_owned(), source: error.into() }
    }
}

/// Why an export ends early. Every file under its final name is complete; the next run goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum ExportError<E> {
    /// The rows could not be read.
    #[error("the rows could not be read: {0}")]
    Source(#[source] E),
    /// The directory is not for this export.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The files could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The rows are not what was asked for.
    #[error("{table}: {problem}")]
    Rows {
        /// The table.
        table: Table,
        /// What is wrong.
        problem: String,
    },
}

//! What can go wrong with this node's disk, and why a slot is not taken.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::types::{AccountId, ByteCount, ChainId, FileId, SlotRoot};

/// This node's disk failed or its data is damaged. Never part of consensus: the node stops, or stops writing.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The operating system refused to read or write. After a failed write the file must be opened anew.
    #[error("{doing} failed: {source}; {} and start the node again", if is_full(.source) { "free space on the disk" } else { "mend the disk" })]
    Io {
        /// What was tried.
        doing: String,
        /// The operating system's answer.
        source: Arc<io::Error>,
    },
    /// Bytes on disk are not what was written.
    #[error(
        "{table} is damaged at {key}; move the file away and restore it from a backup, \
         or set the node up anew and let it catch up"
    )]
    Corrupted {
        /// The table or file.
        table: String,
        /// The row, the offset or what was noticed.
        key: String,
    },
    /// The file was written by a later version of the program.
    #[error("data format {found} is newer than {known}, the newest this program knows; use the newer program")]
    NewerFormat {
        /// Format of the file.
        found: u32,
        /// Newest known format.
        known: u32,
    },
    /// The file was written by an earlier version of the program.
    #[error("data format {found} is older than {known}; make a backup, then bring it up with `trullo migrate --apply`")]
    OlderFormat {
        /// Format of the file.
        found: u32,
        /// The program's format.
        known: u32,
    },
    /// The network follows later rules than the program knows.
    #[error(
        "the network follows version {found} of the rules, this program knows {known}; use the newer program, nothing is lost"
    )]
    NewerProtocol {
        /// The network's version.
        found: u16,
        /// Latest known version.
        known: u16,
    },
    /// Another process has the file open.
    #[error("{} is in use by another process; stop that node first", .path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// The file is not there.
    #[error("{} does not exist; restore it from a backup, or make a home with `trullo init`", .path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file is there already, where a new one was to be made.
    #[error("{} exists already; choose another home or open this one", .path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The file belongs to another chain.
    #[error("the data is of chain {found}, not of {expected}; use the genesis file it was made with, or another home")]
    WrongChain {
        /// Chain of the file.
        found: ChainId,
        /// Chain that was expected.
        expected: ChainId,
    },
    /// A reader or batch is still open where the file is needed alone.
    #[error("the database is in use inside this process; close its readers first")]
    Busy,
    /// The writer has stopped after an earlier failure.
    #[error("the store has stopped after an earlier failure; start the node again")]
    Stopped,
}

impl StoreError {
    /// An operating system error while doing something.
    pub(super) fn io(doing: impl Into<String>, source: io::Error) -> Self {
        Self::Io { doing: doing.into(), source: Arc::new(source) }
    }
    /// An operating system error at a path.
    pub(super) fn at(doing: &str, path: &Path, source: io::Error) -> Self {
        Self::io(format!("{doing} {}", path.display()), source)
    }
    /// Damage in a table or file.
    pub fn corrupted(table: impl Into<String>, key: impl Into<String>) -> Self {
        Self::Corrupted { table: table.into(), key: key.into() }
    }
    /// Whether the disk or quota is full.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Io { source, .. } if is_full(source))
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// What redb says, in this program's words; `table` is what was being read or written.
pub(super) fn from_redb(table: &str, error: impl Into<redb::Error>) -> StoreError {
    match error.into() {
        redb::Error::Io(source) => match source.kind() {
            // redb reads only where its header says that there are bytes.
            io::ErrorKind::UnexpectedEof => StoreError::corrupted(table, "the end: the file is too short"),
            // The one error of this kind is redb's own: the file does not begin as a database does.
            io::ErrorKind::InvalidData => StoreError::corrupted(table, source.to_string()),
            _ => StoreError::io(format!("reading or writing {table}"), source),
        },
        redb::Error::DatabaseAlreadyOpen => StoreError::Locked { path: PathBuf::from(table) },
        redb::Error::PreviousIo | redb::Error::DatabaseClosed => StoreError::Stopped,
        // Inside of one process redb's locks are poisoned by its own panics alone.
        redb::Error::LockPoisoned(_) => StoreError::Stopped,
        redb::Error::TransactionInProgress => StoreError::Busy,
        other => StoreError::corrupted(table, other.to_string()),
    }
}

/// Why a slot is not taken: the other side's matter, or there is no room.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SlotRefusal {
    /// The offered capacity or the disk's reserve is used up.
    #[error("no room for {need} bytes, {free} are free; give the node more capacity or free disk space")]
    Full {
        /// Bytes asked for.
        need: ByteCount,
        /// Bytes that may still be taken.
        free: ByteCount,
    },
    /// The account's share of what the node holds without a deal is used up.
    #[error(
        "account {account} has {have} bytes here that no deal covers, and {need} more are over its {max}; commit what was begun, or wait until it is thrown away"
    )]
    Quota {
        /// The account.
        account: AccountId,
        /// Bytes that count against it.
        have: ByteCount,
        /// Bytes asked for.
        need: ByteCount,
        /// Bytes that it may have.
        max: ByteCount,
    },
    /// Another number of bytes than the slot has.
    #[error("{have} bytes were sent, the slot has {announced}; send it again")]
    WrongLength {
        /// Bytes received.
        have: u64,
        /// Bytes of the slot.
        announced: u64,
    },
    /// The bytes have another root.
    #[error("the bytes hash to {have}, the slot is {announced}; send it again")]
    WrongRoot {
        /// Root of the bytes.
        have: SlotRoot,
        /// Root announced.
        announced: SlotRoot,
    },
    /// Another task is at the same upload or slot.
    #[error("{0} is being written or removed just now; try again")]
    Busy(String),
    /// The file's place has another slot.
    #[error("place {place} of file {file} is slot {held}")]
    Taken {
        /// The file.
        file: FileId,
        /// The place in the file.
        place: u8,
        /// The slot that is there.
        held: SlotRoot,
    },
    /// No such slot.
    #[error("slot {0} is not here")]
    Unknown(SlotRoot),
    /// A range that lies outside of the slot.
    #[error("no block {block} in a slot of {len} bytes")]
    Range {
        /// The block asked for.
        block: u64,
        /// Length of the slot.
        len: u64,
    },
}

/// Both kinds of failure with slots: the request is wrong, or this node's disk is.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SlotError {
    /// The request.
    #[error(transparent)]
    Refused(#[from] SlotRefusal),
    /// The disk.
    #[error(transparent)]
    Store(#[from] StoreError),
}

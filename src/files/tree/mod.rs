//! Tree: an account's folders, as one ordered map from paths to entries, kept in pages of bounded size.
//!
//! A page is an encrypted file of the account, put, paid and audited like any other, so names, sizes and times are in clear
//! nowhere but on the user's own node. Pages form a B+ tree by path, copied on write: a change writes the pages on its way up and
//! leaves all others as they are, and one new root on the ledger makes it visible, all or nothing.
//!
//! A path has no leading `/`. The key of a folder ends with `/`, and a folder is there as soon as a path below it is; its own
//! entry only keeps its mode and time, or that it is empty. So paths sort as bytes, a listing is a walk over neighbours, and
//! object stores map to it key by key: any text is a key here, and only the faces for people refuse empty parts or `..`.
//!
//! Pure: what has to be read is asked for (`Stop::Missing`), and the caller tries again with it.
//! Not here: where pages come from and how a change becomes final (`node::tree`).

mod ops;
mod page;
mod read;
mod update;

use std::collections::BTreeMap;
use std::sync::Arc;

use borsh::{BorshDeserialize, BorshSerialize};

pub use ops::{Batch, Expect, Op, Outcome, View};
pub use page::{Child, Page, PageError};
pub use read::{Cursor, Item, Leaf, Query, find, leaf_at, list};
pub use update::{Changes, NewPage, PageRef, Update, update};

use crate::types::{FileId, Millis, limits};

/// The folder of uploads in parts that object stores have under way. It is nobody's data yet: listings of all folders leave it out.
pub const UPLOADS: &str = ".s3-uploads";

/// What a path names.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Entry {
    /// File, folder or link.
    pub kind: Kind,
    /// Permission bits, as the operating system counts them.
    pub mode: u32,
    /// Time of the last change as its owner says, nanoseconds since the Unix epoch.
    pub mtime_ns: i64,
    /// What faces keep with it, e.g. its content type.
    pub meta: BTreeMap<String, Vec<u8>>,
    /// Older contents of a file, the newest first.
    pub versions: Vec<Version>,
}

/// File, folder or link.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Kind {
    /// A file.
    File(Content),
    /// A folder's own entry; its path ends with `/`.
    Folder,
    /// A symbolic link and where it leads, as it was read; nothing here follows it.
    Symlink(String),
}

/// What a file holds.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Content {
    /// Counts the contents that the path has had, from 1; set by the tree.
    pub number: u64,
    /// Files that hold its bytes, in order; none if it is empty. A piece belongs to one content of one path.
    pub pieces: Vec<Piece>,
    /// BLAKE3 of its bytes, where it is known.
    pub hash: Option<[u8; 32]>,
    /// When it was put, by the clock of the node that did.
    pub put: Millis,
}

/// A stored file that is a part of a content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub struct Piece {
    /// The file.
    pub file: FileId,
    /// Its bytes of plaintext, at least 1.
    pub len: u64,
}

/// An older content of a file.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Version {
    /// The content.
    pub content: Content,
    /// The mode that it had.
    pub mode: u32,
    /// The time that it had.
    pub mtime_ns: i64,
    /// What was kept with it.
    pub meta: BTreeMap<String, Vec<u8>>,
}

impl Content {
    /// Bytes.
    pub fn len(&self) -> u64 {
        self.pieces.iter().fold(0, |sum, piece| sum.saturating_add(piece.len))
    }
    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }
    /// Whether the other one has the same stored bytes.
    pub fn same_bytes(&self, other: &Self) -> bool {
        self.pieces == other.pieces
    }
}

impl Entry {
    /// An entry without anything beside its kind.
    pub fn of(kind: Kind) -> Self {
        Self { kind, mode: 0, mtime_ns: 0, meta: BTreeMap::new(), versions: Vec::new() }
    }
    /// The content of a file.
    pub const fn content(&self) -> Option<&Content> {
        match &self.kind {
            Kind::File(content) => Some(content),
            _ => None,
        }
    }
    /// The content of a number, be it the present or an older one.
    pub fn version(&self, number: u64) -> Option<&Content> {
        let all = self.content().into_iter().chain(self.versions.iter().map(|version| &version.content));
        all.into_iter().find(|content| content.number == number)
    }
    /// Every stored file that it refers to.
    pub fn files(&self) -> impl Iterator<Item = FileId> {
        self.pieces().map(|piece| piece.file)
    }
    /// The same, with their lengths.
    pub fn pieces(&self) -> impl Iterator<Item = Piece> {
        let all = self.content().into_iter().chain(self.versions.iter().map(|version| &version.content));
        all.flat_map(|content| content.pieces.iter().copied())
    }
    /// Bytes of its contents, older ones too.
    pub fn bytes(&self) -> u64 {
        let older = self.versions.iter().map(|version| version.content.len());
        older.chain(self.content().map(Content::len)).fold(0, u64::saturating_add)
    }
}

/// Why a change of the tree is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// Nothing at the path.
    #[error("there is no /{0}")]
    NotFound(String),
    /// No content of that number.
    #[error("/{path} has no version {number}")]
    NoVersion {
        /// The path.
        path: String,
        /// The number.
        number: u64,
    },
    /// Something is there already.
    #[error("/{0} exists")]
    Exists(String),
    /// A folder where a file is needed, or the other way round.
    #[error("/{path} is {is}, not {needed}")]
    Kind {
        /// The path.
        path: String,
        /// What it is.
        is: &'static str,
        /// What it would have to be.
        needed: &'static str,
    },
    /// It is not what the caller saw any more.
    #[error("/{0} was changed meanwhile")]
    Changed(String),
    /// A folder cannot go into itself.
    #[error("/{from} cannot be moved into itself, to /{to}")]
    IntoItself {
        /// The folder.
        from: String,
        /// The target.
        to: String,
    },
    /// A content that is not stored, or not any more, or not for this path.
    #[error("the content for /{0} is not stored for it by this node; put its bytes again")]
    Gone(String),
    /// A path or entry outside of its bounds.
    #[error("/{path}: {what}")]
    Bounds {
        /// The path.
        path: String,
        /// Which bound.
        what: String,
    },
    /// More entries than one change may touch.
    #[error("more than {max} entries in one change; do it folder by folder", max = limits::TREE_CHANGE_MAX)]
    TooMany,
}

/// Why work on the tree cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stop {
    /// These pages have to be read first; then the same call goes on.
    #[error("{} pages have to be read first", .0.len())]
    Missing(Vec<FileId>),
    /// A page that is not what the one above says.
    #[error("page {0} does not fit the one above it")]
    Damaged(FileId),
    /// The change is not allowed.
    #[error(transparent)]
    Refused(#[from] TreeError),
}

/// Pages that were read.
pub trait Source {
    /// The page, if it was.
    fn page(&self, id: &FileId) -> Option<Arc<Page>>;
}

impl Source for std::collections::HashMap<FileId, Arc<Page>> {
    fn page(&self, id: &FileId) -> Option<Arc<Page>> {
        self.get(id).cloned()
    }
}

/// Nothing was read.
impl Source for () {
    fn page(&self, _: &FileId) -> Option<Arc<Page>> {
        None
    }
}

/// The page, or what is missing. Errors: `Missing`.
fn need(source: &impl Source, id: &FileId) -> Result<Arc<Page>, Stop> {
    source.page(id).ok_or_else(|| Stop::Missing(vec![*id]))
}

/// A path as people write it, `/a/b` or `a/b/`, as the tree names it: `a/b`. The root is the empty text.
/// Errors: `Bounds` for empty parts, `.`, `..`, NUL, and parts or paths that are too long.
pub fn path(text: &str) -> Result<String, TreeError> {
    let inner = text.strip_prefix('/').unwrap_or(text);
    let inner = inner.strip_suffix('/').unwrap_or(inner);
    let wrong = |what: String| TreeError::Bounds { path: inner.to_owned(), what };
    if inner.is_empty() {
        return Ok(String::new());
    }
    if inner.len() > limits::TREE_PATH_BYTES_MAX {
        return Err(wrong(format!("{} bytes, at most {} are allowed", inner.len(), limits::TREE_PATH_BYTES_MAX)));
    }
    for part in inner.split('/') {
        name(part).map_err(|what| wrong(what.to_owned()))?;
    }
    Ok(inner.to_owned())
}

/// Whether a text can be a file's name on any system that keeps to POSIX. Errors: why not.
pub fn name(part: &str) -> Result<(), &'static str> {
    match part {
        "" => Err("a part of the path is empty"),
        "." | ".." => Err("`.` and `..` are no names"),
        _ if part.len() > limits::TREE_NAME_BYTES_MAX => Err("a part of the path is longer than 255 bytes"),
        _ if part.contains(['\0', '/']) => Err("a name has no NUL and no `/`"),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;

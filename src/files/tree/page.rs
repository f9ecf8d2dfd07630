//! Pages: a run of entries, or of pages below, in order; their bytes and bounds.

use borsh::{BorshDeserialize, BorshSerialize};

use super::{Entry, Kind};
use crate::types::{FileId, limits};
use crate::wire::{self, DecodeError};

/// The version of the pages' format.
const VERSION: u8 = 1;

/// A page of the tree. In a leaf there is at least one entry, elsewhere at least one page below.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Page {
    /// Entries by path, strictly ascending.
    Leaf(Vec<(String, Entry)>),
    /// Pages of the level below, strictly ascending.
    Inner {
        /// How many levels are below.
        level: u8,
        /// Those of the next.
        children: Vec<Child>,
    },
}

/// A page below another.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Child {
    /// Its first path.
    pub first: String,
    /// The file that holds it.
    pub page: FileId,
}

/// Why bytes are no page.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PageError {
    /// They do not decode, or not one to one.
    #[error("the bytes are no page: {0}")]
    Decode(#[from] DecodeError),
    /// A newer program wrote them.
    #[error("the page has format {0}, this program knows {VERSION}")]
    Version(u8),
    /// Empty, out of order or out of bounds.
    #[error("the page is not well formed: {0}")]
    Shape(String),
}

#[derive(BorshSerialize, BorshDeserialize)]
struct Stored {
    version: u8,
    page: Page,
}

impl Page {
    /// The canonical bytes.
    pub fn bytes(self) -> Vec<u8> {
        wire::encode(&Stored { version: VERSION, page: self })
    }
    /// The page of some bytes. Errors: each of `PageError`.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PageError> {
        if let Some(version) = bytes.first().filter(|version| **version != VERSION) {
            return Err(PageError::Version(*version));
        }
        let stored: Stored = wire::decode(bytes, limits::TREE_PAGE_BYTES_MAX)?;
        stored.page.check().map_err(PageError::Shape)?;
        if wire::encode(&stored) != bytes {
            return Err(PageError::Shape("another encoding than the canonical one".to_owned()));
        }
        Ok(stored.page)
    }
    /// How many levels are below.
    pub const fn level(&self) -> u8 {
        match self {
            Self::Leaf(_) => 0,
            Self::Inner { level, .. } => *level,
        }
    }
    /// Its first path.
    pub fn first(&self) -> Option<&str> {
        match self {
            Self::Leaf(entries) => entries.first().map(|(path, _)| path.as_str()),
            Self::Inner { children, .. } => children.first().map(|child| child.first.as_str()),
        }
    }

    fn check(&self) -> Result<(), String> {
        if self.first().is_none() {
            return Err("it is empty".to_owned());
        }
        match self {
            Self::Leaf(entries) => {
                ascending(entries.iter().map(|(path, _)| path))?;
                entries.iter().try_for_each(|(path, entry)| check_entry(path, entry))
            }
            Self::Inner { level, children } => {
                if !(1..=limits::TREE_LEVELS_MAX).contains(level) {
                    return Err(format!("level {level}"));
                }
                ascending(children.iter().map(|child| &child.first))?;
                children.iter().try_for_each(|child| check_path(&child.first))
            }
        }
    }
}

fn ascending<'a>(paths: impl Iterator<Item = &'a String>) -> Result<(), String> {
    if paths.is_sorted_by(|a, b| a < b) { Ok(()) } else { Err("its paths are not in order".to_owned()) }
}

fn check_path(path: &str) -> Result<(), String> {
    let (have, max) = (path.len(), limits::TREE_PATH_BYTES_MAX);
    if (1..=max).contains(&have) { Ok(()) } else { Err(format!("a path of {have} bytes; 1 to {max} are allowed")) }
}

/// Whether an entry may stand at a path. Errors: why not.
pub(super) fn check_entry(path: &str, entry: &Entry) -> Result<(), String> {
    check_path(path)?;
    let bytes = borsh::object_length(entry).unwrap_or(usize::MAX);
    if bytes > limits::TREE_ENTRY_BYTES_MAX {
        let max = limits::TREE_ENTRY_BYTES_MAX;
        return Err(format!("an entry of {bytes} bytes with its versions and what is kept with it; at most {max}"));
    }
    if matches!(entry.kind, Kind::Folder) && !path.ends_with('/') {
        return Err("a folder's path ends with `/`".to_owned());
    }
    // A folder's own entry would take its place, and its content with it.
    if !matches!(entry.kind, Kind::Folder) && path.ends_with('/') {
        return Err("a path that ends with `/` is a folder's".to_owned());
    }
    if !entry.versions.is_empty() && entry.content().is_none() {
        return Err("only a file has versions".to_owned());
    }
    if entry.versions.len() > limits::TREE_VERSIONS_MAX {
        return Err(format!("{} versions; at most {}", entry.versions.len(), limits::TREE_VERSIONS_MAX));
    }
    let mut contents = entry.content().into_iter().chain(entry.versions.iter().map(|version| &version.content));
    if contents.any(|content| content.pieces.iter().any(|piece| piece.len == 0)) {
        return Err("an empty piece".to_owned());
    }
    Ok(())
}

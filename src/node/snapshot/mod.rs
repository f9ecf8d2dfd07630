//! Snapshots: copies of the state at the ends of epochs, kept for nodes that join, and how a node joins by one.
//!
//! A snapshot is a file of pieces (`ledger::pieces`) in `snapshots/`, made from one view of the database, so that pieces can be
//! read for as long as it is kept while the chain goes on. Nothing depends on it: a file that is damaged or gone is made anew.
//! Memory is bounded by a piece and the number of pieces. Not here: which headers are final (`node::light`).

pub mod join;
pub mod make;

#[cfg(test)]
pub(in crate::node) use join::tests as fixtures;

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use borsh::{BorshDeserialize, BorshSerialize};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::ledger::pieces::{self, Manifest, RawRecord};
use crate::types::{Height, limits};
use crate::wire;

/// Snapshots that are kept: whoever began with one has the time of the next epoch to end with it.
const KEPT: usize = 2;
/// Questions that are answered at the same time.
const ANSWERS_AT_ONCE: usize = 8;
/// A list of pieces is no longer, bytes.
const INDEX_BYTES_MAX: usize = 8 << 20;

/// Where a piece is in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(super) struct Extent {
    /// First byte.
    pub at: u64,
    /// Bytes.
    pub len: u32,
    /// Records.
    pub records: u32,
}

/// What is known of a snapshot beside its records.
#[derive(Clone, Debug, PartialEq, BorshSerialize, BorshDeserialize)]
pub(super) struct Index {
    /// The height whose state it is.
    pub height: Height,
    /// The hashes of its pieces.
    pub manifest: Manifest,
    /// The pieces.
    pub extents: Vec<Extent>,
}

struct Kept {
    index: Index,
    file: File,
}

/// The snapshots that this node keeps.
pub struct Shelf {
    dir: PathBuf,
    kept: Mutex<Vec<Arc<Kept>>>,
    turns: Semaphore,
}

impl Shelf {
    /// The snapshots of a home. What is not whole there is removed. A directory that cannot be made or read has none.
    pub fn open(dir: PathBuf) -> Self {
        if let Err(error) = fs::create_dir_all(&dir) {
            tracing::warn!(%error, dir = %dir.display(), "no snapshots can be kept");
        }
        let entries = fs::read_dir(&dir).into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path());
        let indices = entries.filter(|path| path.extension().is_some_and(|name| name == "index"));
        let mut kept: Vec<_> = indices.filter_map(|path| read(&path)).map(Arc::new).collect();
        kept.sort_by_key(|kept| std::cmp::Reverse(kept.index.height));
        kept.truncate(KEPT);
        let shelf = Self { dir, kept: Mutex::new(kept), turns: Semaphore::new(ANSWERS_AT_ONCE) };
        shelf.sweep();
        shelf
    }

    /// A turn to answer a peer; none while enough others have one: an answer may have some MiB.
    pub(super) fn turn(&self) -> Option<SemaphorePermit<'_>> {
        self.turns.try_acquire().ok()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Kept>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Heights of the snapshots, the newest first.
    pub fn heights(&self) -> Vec<Height> {
        self.lock().iter().map(|kept| kept.index.height).collect()
    }

    fn of(&self, height: Height) -> Option<Arc<Kept>> {
        self.lock().iter().find(|kept| kept.index.height == height).cloned()
    }

    /// The hashes of a snapshot's pieces; none if it is not kept.
    pub fn manifest(&self, height: Height) -> Option<Manifest> {
        self.of(height).map(|kept| kept.index.manifest.clone())
    }

    /// A piece of a snapshot; none if it is not kept or there is no such piece. A snapshot that turns out to be damaged is
    /// kept no longer.
    pub fn piece(&self, height: Height, index: u32) -> Option<Vec<RawRecord>> {
        let kept = self.of(height)?;
        let extent = usize::try_from(index).ok().and_then(|at| kept.index.extents.get(at).copied())?;
        let mut bytes = vec![0; usize::try_from(extent.len).unwrap_or(usize::MAX)];
        let read = kept.file.read_exact_at(&mut bytes, extent.at);
        let records = read.ok().and_then(|()| parse(&bytes, extent.records));
        let manifest = &kept.index.manifest;
        let whole = records.filter(|records| manifest.check_piece(index, records).is_ok());
        if whole.is_none() {
            tracing::error!(height = height.get(), index, "a snapshot is damaged on disk; it is kept no longer");
            self.lock().retain(|kept| kept.index.height != height);
        }
        whole
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where a snapshot of a height is written.
    pub(super) fn path(&self, height: Height, kind: &str) -> PathBuf {
        self.dir.join(format!("{height}.{kind}"))
    }

    /// Keeps a snapshot that was written. Errors: its files cannot be opened.
    pub(super) fn keep(&self, height: Height) -> io::Result<()> {
        let path = self.path(height, "index");
        let kept = read(&path).ok_or_else(|| io::Error::other(format!("{} is not whole", path.display())))?;
        let mut all = self.lock();
        all.retain(|other| other.index.height != height);
        all.insert(0, Arc::new(kept));
        all.truncate(KEPT);
        drop(all);
        self.sweep();
        Ok(())
    }

    /// Removes the files of what is not kept. What cannot be removed now is so the next time.
    pub(super) fn sweep(&self) {
        let heights: Vec<_> = self.heights().iter().map(ToString::to_string).collect();
        for path in fs::read_dir(&self.dir).into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path()) {
            let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
            let complete = path.extension().is_some_and(|kind| kind == "index" || kind == "pieces");
            if !(complete && heights.contains(&stem)) {
                let _ = fs::remove_file(&path);
            }
        }
    }
}

fn read(path: &Path) -> Option<Kept> {
    let len = fs::metadata(path).ok()?.len();
    let bytes = (len <= INDEX_BYTES_MAX as u64).then(|| fs::read(path).ok()).flatten()?;
    let index: Index = wire::decode(&bytes, INDEX_BYTES_MAX).ok()?;
    let count = index.manifest.pieces.len();
    let sound = count == index.extents.len()
        && index.manifest.depth <= pieces::DEPTH_MAX
        && index.extents.iter().all(|extent| u64::from(extent.len) <= limits::PIECE_BYTES_MAX);
    let file = File::open(path.with_extension("pieces")).ok()?;
    sound.then_some(Kept { index, file })
}

/// The records of a piece's bytes; none if they are not that many.
pub(super) fn parse(mut bytes: &[u8], records: u32) -> Option<Vec<RawRecord>> {
    let mut all = Vec::new();
    for _ in 0..records {
        all.push(<RawRecord as BorshDeserialize>::deserialize(&mut bytes).ok()?);
    }
    bytes.is_empty().then_some(all)
}

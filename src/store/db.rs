//! The chain's database: making it, opening it, checking and compacting it.
//!
//! One process at a time (redb locks the file), one batch at a time, any number of readers. After a crash redb
//! walks the whole file and checks every page before the first read; a file that was closed in order is checked
//! the same way up to a size. Commits are two-phase: the new state is flushed before the header names it, so that
//! nobody who chose bytes of a block can make a torn commit look whole.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use redb::{Database, ReadableDatabase, ReadableTable, StorageBackend, WriteTransaction};
use tokio::sync::watch;

use super::batch::Batch;
use super::error::{StoreError, from_redb};
use super::keys::BlockKey;
use super::reader::{Reader, Tip};
use super::row::{Open, get, guarded, open_read, open_write, put};
use super::signer::{KeyOrigin, Quarantine, Signer};
use super::{migrate, place, tables};
use crate::types::{ByteCount, ChainId};

/// Format of the chain's database that this program writes.
pub const FORMAT: u32 = 1;

const _: () = assert!(migrate::NODE.len() + 1 == FORMAT as usize, "every format is reached by a migration");

const META_FORMAT: &str = "format";
const META_CHAIN: &str = "chain";
const META_INCARNATION: &str = "incarnation";
const META_PLACE: &str = "place";
const META_COMPACTED: &str = "compacted";
/// The height of the snapshot that the database was made from.
pub(super) const META_BASE: &str = "base";
/// What is being joined, while that is under way, and how many pieces of it are there.
pub(super) const META_JOINING: &str = "joining";
pub(super) const META_PIECES: &str = "joining_pieces";
/// The one row of `SIGNER`.
pub(super) const SIGNER_ROW: &str = "signer";
/// What errors call the whole file.
pub(super) const WHAT: &str = "node.redb";
/// A file smaller than this is never worth compacting, bytes.
const COMPACT_FROM: u64 = 64 << 20;

/// How to open a database.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Memory for pages.
    pub cache: ByteCount,
    /// Files up to this size are checked and, when wasteful, compacted at every start; both cost a walk over
    /// the file, about a second for each GiB.
    pub maintain_up_to: ByteCount,
    /// Store the allocator's state with each commit, so that opening after a crash walks nothing. Costs a quarter
    /// more for each commit, and the check of all pages after a crash is lost; for files of many GiB.
    pub quick_repair: bool,
}

impl Default for Options {
    fn default() -> Self {
        let (cache, maintain_up_to) = (ByteCount::new(64 << 20), ByteCount::new(512 << 20));
        Self { cache, maintain_up_to, quick_repair: false }
    }
}

/// What a new database is made for.
pub struct Identity {
    /// The chain.
    pub chain: ChainId,
    /// Seed of the node key.
    pub seed: zeroize::Zeroizing<[u8; 32]>,
    /// Where the key comes from.
    pub origin: KeyOrigin,
    /// Random; names this database among all that were ever made for the key.
    pub incarnation: [u8; 32],
}

/// What all handles of one open database share.
pub(super) struct Shared {
    pub(super) db: Open,
    pub(super) tip: watch::Sender<Option<Tip>>,
    pub(super) writing: AtomicBool,
    /// Blocks above the tip that this process has written whole.
    pub(super) pending: Mutex<BTreeSet<BlockKey>>,
    pub(super) quick_repair: bool,
}

/// The open database of the chain. Belongs to the thread that writes; others get a `Reader`.
pub struct Store {
    shared: Arc<Shared>,
    chain: ChainId,
    incarnation: [u8; 32],
    repaired: bool,
}

impl Store {
    /// Makes the database; it appears under its name only when it is complete and durable.
    /// Errors: `Exists`, `Locked`, `Io`.
    pub fn create(path: &Path, identity: &Identity) -> Result<(), StoreError> {
        if path.try_exists().map_err(|error| StoreError::at("looking for", path, error))? {
            return Err(StoreError::Exists { path: path.to_owned() });
        }
        let unfinished = path.with_extension("new");
        let file = open_file(&unfinished, true)?;
        let db =
            guarded(WHAT, || redb::Builder::new().create_file(file).map(Open::new).map_err(|e| from_redb(WHAT, e)))?;
        let place = place::of(&unfinished)?;
        guarded(WHAT, || initialize(&db, identity, Some(&place)))?;
        drop(db);
        std::fs::rename(&unfinished, path).map_err(|error| StoreError::at("renaming to", path, error))?;
        sync_parent(path)
    }

    /// Opens the database, repairs it after a crash, checks and compacts it as `options` say. A file that
    /// was copied here quarantines its key. Errors: `Missing`, `Locked`, `OlderFormat`, `NewerFormat`, `Corrupted`, `Io`.
    pub fn open(path: &Path, options: &Options) -> Result<Self, StoreError> {
        let file = open_file(path, false)?;
        let len = file.metadata().map_err(|error| StoreError::at("looking at", path, error))?.len();
        if len == 0 {
            return Err(StoreError::corrupted(path.display().to_string(), "the start: the file is empty"));
        }
        let place = place::of(path)?;
        let backend = redb::backends::FileBackend::new(file).map_err(|error| from_redb(WHAT, error))?;
        Self::open_backend(backend, len, Some(&place), options).map_err(|error| match error {
            StoreError::Locked { .. } => StoreError::Locked { path: path.to_owned() },
            other => other,
        })
    }

    /// Makes the database on a storage of one's own. For tests of crashes. Errors: those of `create`.
    pub fn create_on(backend: impl StorageBackend, identity: &Identity) -> Result<(), StoreError> {
        guarded(WHAT, || {
            let db = redb::Builder::new().create_with_backend(backend).map_err(|e| from_redb(WHAT, e))?;
            initialize(&db, identity, None)
        })
    }

    /// Opens the database on a storage of one's own. For tests of crashes. Errors: those of `open`.
    pub fn open_on(backend: impl StorageBackend, options: &Options) -> Result<Self, StoreError> {
        let len = backend.len().map_err(|error| StoreError::io("reading the length", error))?;
        Self::open_backend(backend, len, None, options)
    }

    fn open_backend(
        backend: impl StorageBackend,
        len: u64,
        place: Option<&[u8]>,
        options: &Options,
    ) -> Result<Self, StoreError> {
        let repaired = Arc::new(AtomicBool::new(false));
        let db = guarded(WHAT, || {
            let mut db = open_redb(WHAT, backend, options, &repaired)?;
            migrate::node().expect(&db)?;
            if len <= options.maintain_up_to.get() {
                maintain(&mut db, len, repaired.load(Ordering::Relaxed))?;
            }
            Ok(db)
        })?;
        let (chain, incarnation, tip) = guarded(WHAT, || {
            if let Some(place) = place {
                notice_copy(&db, place)?;
            }
            let txn = db.begin_read().map_err(|error| from_redb(WHAT, error))?;
            let meta = open_read(&txn, tables::META)?;
            Ok((meta_bytes(&meta, META_CHAIN)?, meta_bytes(&meta, META_INCARNATION)?, Tip::read(&txn)?))
        })?;
        let (tip, _) = watch::channel(tip);
        let quick_repair = options.quick_repair;
        let shared = Shared { db, tip, writing: AtomicBool::new(false), pending: Mutex::default(), quick_repair };
        let repaired = repaired.load(Ordering::Relaxed);
        Ok(Self { shared: Arc::new(shared), chain: ChainId::from_bytes(chain), incarnation, repaired })
    }

    /// The chain it is for.
    pub fn chain(&self) -> ChainId {
        self.chain
    }
    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }
    /// Whether it is for this chain. Errors: `WrongChain`.
    pub fn expect_chain(&self, expected: ChainId) -> Result<(), StoreError> {
        if self.chain == expected { Ok(()) } else { Err(StoreError::WrongChain { found: self.chain, expected }) }
    }
    /// Names this database among all that were made for its key.
    pub fn incarnation(&self) -> &[u8; 32] {
        &self.incarnation
    }
    /// Whether the last process ended without closing the file.
    pub fn was_repaired(&self) -> bool {
        self.repaired
    }
    /// A handle for reading; cheap, for any thread.
    pub fn reader(&self) -> Reader {
        Reader::new(Arc::clone(&self.shared))
    }
    /// The node key and its record. Errors: `Corrupted` when the row is not there, `Io`.
    pub fn signer(&self) -> Result<Signer, StoreError> {
        guarded(WHAT, || {
            let txn = self.shared.db.begin_read().map_err(|error| from_redb(WHAT, error))?;
            read_signer(&open_read(&txn, tables::SIGNER)?)
        })
    }
    /// Begins a write. There is one at a time. Errors: `Busy`, `Stopped`, `Io`.
    pub fn batch(&self) -> Result<Batch, StoreError> {
        Batch::begin(Arc::clone(&self.shared))
    }
    /// Gives space back to the file system. Takes a second or more for each GiB. Returns whether it did anything.
    /// Errors: `Busy` while a reader or batch is there, `Io`.
    pub fn compact(&mut self) -> Result<bool, StoreError> {
        let shared = Arc::get_mut(&mut self.shared).ok_or(StoreError::Busy)?;
        guarded(WHAT, || shared.db.compact().map_err(|error| from_redb(WHAT, error)))
    }
    /// Checks every page of the file. Errors: `Corrupted`, `Busy` while a reader or batch is there, `Io`.
    pub fn check(&mut self) -> Result<(), StoreError> {
        let shared = Arc::get_mut(&mut self.shared).ok_or(StoreError::Busy)?;
        guarded(WHAT, || check(WHAT, &mut shared.db))
    }
}

/// The file itself, readable by its owner alone: it holds the node key.
pub(super) fn open_file(path: &Path, new: bool) -> Result<File, StoreError> {
    let mut how = OpenOptions::new();
    how.read(true).write(true).mode(0o600);
    if new {
        how.create(true).truncate(true);
    }
    how.open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound if !new => StoreError::Missing { path: path.to_owned() },
        _ => StoreError::at("opening", path, error),
    })
}

/// Makes the names in a path's directory durable.
pub(super) fn sync_parent(path: &Path) -> Result<(), StoreError> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let synced = File::open(parent).and_then(|dir| dir.sync_all());
    synced.map_err(|error| StoreError::at("syncing", parent, error))
}

/// Opens redb's file and notes whether it had to be repaired. `what` is the file in errors.
pub(super) fn open_redb(
    what: &str,
    backend: impl StorageBackend,
    options: &Options,
    repaired: &Arc<AtomicBool>,
) -> Result<Open, StoreError> {
    let cache = usize::try_from(options.cache.get()).unwrap_or(usize::MAX);
    let note = Arc::clone(repaired);
    let mut builder = redb::Builder::new();
    builder.set_cache_size(cache).set_repair_callback(move |_| note.store(true, Ordering::Relaxed));
    builder.create_with_backend(backend).map(Open::new).map_err(|error| from_redb(what, error))
}

/// Begins a write that will be durable, in two phases, when committed.
pub(super) fn begin_durable(what: &str, db: &Database, quick_repair: bool) -> Result<WriteTransaction, StoreError> {
    let mut txn = db.begin_write().map_err(|error| from_redb(what, error))?;
    txn.set_two_phase_commit(true);
    txn.set_quick_repair(quick_repair);
    Ok(txn)
}

/// Checks every page. A check that had to rebuild the list of free pages is a pass: no data depends on it.
pub(super) fn check(what: &str, db: &mut Database) -> Result<(), StoreError> {
    db.check_integrity().map(|_| ()).map_err(|error| from_redb(what, error))
}

fn initialize(db: &Database, identity: &Identity, place: Option<&[u8]>) -> Result<(), StoreError> {
    let txn = begin_durable(WHAT, db, false)?;
    {
        let mut meta = open_write(&txn, tables::META)?;
        put(&mut meta, tables::META, META_FORMAT, &FORMAT.to_be_bytes())?;
        put(&mut meta, tables::META, META_CHAIN, identity.chain.as_bytes())?;
        put(&mut meta, tables::META, META_INCARNATION, &identity.incarnation)?;
        if let Some(place) = place {
            put(&mut meta, tables::META, META_PLACE, place)?;
        }
    }
    write_signer(&txn, &Signer::new(&identity.seed, identity.origin))?;
    open_write(&txn, tables::BLOCKS)?;
    open_write(&txn, tables::BLOCK_PIECES)?;
    open_write(&txn, tables::HEADERS)?;
    open_write(&txn, tables::BLOCK_HEIGHTS)?;
    open_write(&txn, tables::CERTIFICATES)?;
    open_write(&txn, tables::RECEIPTS)?;
    open_write(&txn, tables::TXS)?;
    open_write(&txn, tables::ACCOUNT_TXS)?;
    open_write(&txn, tables::STATE)?;
    open_write(&txn, tables::TREE_NODES)?;
    open_write(&txn, tables::TREE_STALE)?;
    txn.commit().map_err(|error| from_redb(WHAT, error))
}

/// A fact of fixed length. Errors: `Corrupted` when it is missing or has another length.
fn meta_bytes<const N: usize>(
    meta: &impl ReadableTable<&'static str, &'static [u8]>,
    key: &'static str,
) -> Result<[u8; N], StoreError> {
    let found = get(meta, tables::META, key)?.and_then(|value| <[u8; N]>::try_from(value).ok());
    found.ok_or_else(|| StoreError::corrupted("meta.v1", key))
}

/// Checks the file, unless the repair has just done so, and compacts it when it has doubled since the last time:
/// what that costs is paid for by what was written in between.
fn maintain(db: &mut Database, len: u64, repaired: bool) -> Result<(), StoreError> {
    if !repaired {
        check(WHAT, db)?;
    }
    let txn = db.begin_read().map_err(|error| from_redb(WHAT, error))?;
    let last = get(&open_read(&txn, tables::META)?, tables::META, META_COMPACTED)?;
    let last = last.and_then(|value| <[u8; 8]>::try_from(value).ok()).map_or(0, u64::from_be_bytes);
    drop(txn);
    if len < COMPACT_FROM.max(last.saturating_mul(2)) {
        return Ok(());
    }
    db.compact().map_err(|error| from_redb(WHAT, error))?;
    let txn = begin_durable(WHAT, db, false)?;
    let stats = txn.stats().map_err(|error| from_redb(WHAT, error))?;
    let used = stats.allocated_pages().saturating_mul(stats.page_size() as u64);
    put(&mut open_write(&txn, tables::META)?, tables::META, META_COMPACTED, &used.to_be_bytes())?;
    txn.commit().map_err(|error| from_redb(WHAT, error))
}

/// Quarantines the key of a file that is not where it was made, once it has signed anything.
fn notice_copy(db: &Database, place: &[u8]) -> Result<(), StoreError> {
    let txn = db.begin_read().map_err(|error| from_redb(WHAT, error))?;
    let same = get(&open_read(&txn, tables::META)?, tables::META, META_PLACE)?.as_deref() == Some(place);
    drop(txn);
    if same {
        return Ok(());
    }
    let txn = begin_durable(WHAT, db, false)?;
    let mut signer = read_signer(&open_write(&txn, tables::SIGNER)?)?;
    if signer.record().is_some() && signer.quarantine().is_none() {
        signer.set_quarantine(Some(Quarantine::Copied));
    }
    write_signer(&txn, &signer)?;
    put(&mut open_write(&txn, tables::META)?, tables::META, META_PLACE, place)?;
    txn.commit().map_err(|error| from_redb(WHAT, error))
}

/// The row of the node key. Errors: `Corrupted` when it is missing: the key has no life without it.
pub(super) fn read_signer(table: &impl ReadableTable<&'static str, &'static [u8]>) -> Result<Signer, StoreError> {
    let row = get(table, tables::SIGNER, SIGNER_ROW)?.map(zeroize::Zeroizing::new);
    let signer = row.and_then(|row| borsh::from_slice(&row).ok());
    signer.ok_or_else(|| StoreError::corrupted("signer.v1", SIGNER_ROW))
}

pub(super) fn write_signer(txn: &WriteTransaction, signer: &Signer) -> Result<(), StoreError> {
    let bytes = zeroize::Zeroizing::new(crate::wire::encode(signer));
    put(&mut open_write(txn, tables::SIGNER)?, tables::SIGNER, SIGNER_ROW, &bytes)
}

#[cfg(test)]
#[path = "db_tests.rs"]
mod tests;

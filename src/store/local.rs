//! The node's own database, `local.redb`: slots it holds, puts in progress, the owner's files, settings.
//!
//! It is a file of its own because it has other writers and another rhythm than the chain, and redb has one writer to a
//! file: beside a busy neighbour in the same file, a commit of the safety record took three times as long in the
//! median and six times at the 99th percentile. One thread writes it; whoever has something
//! to write hands it over and waits, and all that wait together share one durable commit.
//! Not here: the bytes of slots (`slots`).

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use redb::{Database, ReadableDatabase, StorageBackend};
use tokio::sync::watch;

use super::db::{Options, begin_durable, check, open_file, open_redb, sync_parent};
use super::error::{StoreError, from_redb};
use super::row::{KeyValue, Open, get, guarded, open_read, open_write, put};
use super::tables::Rows;
use super::{migrate, tables};
use crate::types::{ChainId, FileId};

/// Format of the node's own database that this program writes.
pub const LOCAL_FORMAT: u32 = 1;
const _: () = assert!(migrate::LOCAL.len() + 1 == LOCAL_FORMAT as usize, "every format is reached by a migration");
/// Writes that may wait for the writer; whoever comes next waits to hand over.
const QUEUE: usize = 256;
/// What errors call the whole file.
pub(super) const WHAT: &str = "local.redb";
const META_FORMAT: &[u8] = b"format";
const META_CHAIN: &[u8] = b"chain";
pub(super) const TABLES: [Rows<&[u8]>; 8] = [
    tables::LOCAL_META,
    tables::SLOTS,
    tables::FILE_SLOTS,
    tables::UPLOADS,
    tables::PUTS,
    tables::STAGED,
    tables::MY_FILES,
    tables::SETTINGS,
];

/// One change: the new value of a key, or nothing when it is removed.
pub(super) struct Write {
    pub(super) table: Rows<&'static [u8]>,
    pub(super) key: Vec<u8>,
    pub(super) value: Option<Vec<u8>>,
}

impl Write {
    pub(super) fn put(table: Rows<&'static [u8]>, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        Self { table, key: key.into(), value: Some(value.into()) }
    }
    pub(super) fn remove(table: Rows<&'static [u8]>, key: impl Into<Vec<u8>>) -> Self {
        Self { table, key: key.into(), value: None }
    }
}

/// Changes that become durable together, and who waits for them.
struct Request {
    writes: Vec<Write>,
    done: SyncSender<Result<(), StoreError>>,
}

/// The open database; cheap to clone, for any thread. The last clone to go closes it.
#[derive(Clone)]
pub struct Local {
    inner: Arc<Inner>,
}

struct Inner {
    db: Arc<Open>,
    chain: ChainId,
    queue: Mutex<Option<SyncSender<Request>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    /// The first write that failed; no later one can succeed.
    failed: watch::Receiver<Option<StoreError>>,
}

impl Local {
    /// Makes the database; it appears under its name only when it is complete and durable.
    /// Errors: `Exists`, `Io`.
    pub fn create(path: &Path, chain: ChainId) -> Result<(), StoreError> {
        if path.try_exists().map_err(|error| StoreError::at("looking for", path, error))? {
            return Err(StoreError::Exists { path: path.to_owned() });
        }
        let unfinished = path.with_extension("new");
        let file = open_file(&unfinished, true)?;
        let backend = redb::backends::FileBackend::new(file).map_err(|error| from_redb(WHAT, error))?;
        Self::create_on(backend, chain)?;
        std::fs::rename(&unfinished, path).map_err(|error| StoreError::at("renaming to", path, error))?;
        sync_parent(path)
    }

    /// Opens the database, repairs it after a crash and checks it as `options` say.
    /// Errors: `Missing`, `Locked`, `OlderFormat`, `NewerFormat`, `Corrupted`, `Io`.
    pub fn open(path: &Path, options: &Options) -> Result<Self, StoreError> {
        let file = open_file(path, false)?;
        let backend = redb::backends::FileBackend::new(file).map_err(|error| from_redb(WHAT, error))?;
        Self::open_on(backend, options).map_err(|error| match error {
            StoreError::Locked { .. } => StoreError::Locked { path: path.to_owned() },
            other => other,
        })
    }

    /// Makes the database on a storage of one's own. For tests of crashes. Errors: those of `create`.
    pub fn create_on(backend: impl StorageBackend, chain: ChainId) -> Result<(), StoreError> {
        guarded(WHAT, || {
            let db = redb::Builder::new().create_with_backend(backend).map_err(|e| from_redb(WHAT, e))?;
            let txn = begin_durable(WHAT, &db, false)?;
            for table in TABLES {
                open_write(&txn, table)?;
            }
            let mut meta = open_write(&txn, tables::LOCAL_META)?;
            put(&mut meta, tables::LOCAL_META, META_FORMAT, &LOCAL_FORMAT.to_be_bytes())?;
            put(&mut meta, tables::LOCAL_META, META_CHAIN, chain.as_bytes())?;
            drop(meta);
            txn.commit().map_err(|error| from_redb(WHAT, error))
        })
    }

    /// Opens the database on a storage of one's own. For tests of crashes. Errors: those of `open`.
    pub fn open_on(backend: impl StorageBackend, options: &Options) -> Result<Self, StoreError> {
        let len = backend.len().map_err(|error| StoreError::io("reading the length", error))?;
        if len == 0 {
            return Err(StoreError::corrupted(WHAT, "the start: the file is empty"));
        }
        let repaired = Arc::new(AtomicBool::new(false));
        let (db, chain) = guarded(WHAT, || {
            let mut db = open_redb(WHAT, backend, options, &repaired)?;
            if !repaired.load(Ordering::Relaxed) && len <= options.maintain_up_to.get() {
                check(WHAT, &mut db)?;
            }
            let chain = read_meta(&db)?;
            Ok((Arc::new(db), chain))
        })?;
        let (queue, requests) = sync_channel(QUEUE);
        let for_writer = Arc::clone(&db);
        let thread = std::thread::Builder::new().name("store-local".to_owned());
        let (failure, failed) = watch::channel(None);
        let writer = thread.spawn(move || write_all(&for_writer, &requests, &failure));
        let writer = writer.map_err(|error| StoreError::io("starting a thread", error))?;
        let (queue, writer) = (Mutex::new(Some(queue)), Mutex::new(Some(writer)));
        Ok(Self { inner: Arc::new(Inner { db, chain, queue, writer, failed }) })
    }

    /// Whether it is for this chain. Errors: `WrongChain`.
    pub fn expect_chain(&self, expected: ChainId) -> Result<(), StoreError> {
        let found = self.inner.chain;
        if found == expected { Ok(()) } else { Err(StoreError::WrongChain { found, expected }) }
    }

    /// A copy of it as it is now, in a new file; with what it says of slots if they go along. Errors: `Exists`, `Corrupted`, `Io`.
    pub fn copy_to(&self, path: &Path, slots: bool) -> Result<(), StoreError> {
        guarded(WHAT, || {
            let txn = self.inner.db.begin_read().map_err(|error| from_redb(WHAT, error))?;
            super::copy::local(&txn, path, slots)
        })
    }

    /// The failure after which nothing can be written any more, when there is one. The file must be opened anew then.
    pub fn failed(&self) -> watch::Receiver<Option<StoreError>> {
        self.inner.failed.clone()
    }

    /// Makes the changes durable, all or none; blocks until they are. Errors: `Io`, `Stopped`.
    pub(super) fn write(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        let (done, answer) = sync_channel(1);
        let queue = self.inner.queue.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let sent = queue.map(|queue| queue.send(Request { writes, done }));
        match sent {
            Some(Ok(())) => answer.recv().map_err(|_| StoreError::Stopped)?,
            _ => Err(StoreError::Stopped),
        }
    }

    pub(super) fn read(&self, table: Rows<&'static [u8]>, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        guarded(WHAT, || {
            let txn = self.inner.db.begin_read().map_err(|error| from_redb(WHAT, error))?;
            get(&open_read(&txn, table)?, table, key)
        })
    }

    /// Rows whose keys begin with a prefix, after the key `after` if given, at most `limit`.
    pub(super) fn scan(
        &self,
        table: Rows<&'static [u8]>,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<KeyValue>, StoreError> {
        guarded(WHAT, || {
            let txn = self.inner.db.begin_read().map_err(|error| from_redb(WHAT, error))?;
            super::row::scan(&open_read(&txn, table)?, table, prefix, after, limit)
        })
    }

    /// Keeps the journal of a put in progress. Errors: `Io`, `Stopped`.
    pub fn put_session(&self, session: &[u8; 32], journal: &[u8]) -> Result<(), StoreError> {
        self.write(vec![Write::put(tables::PUTS, *session, journal)])
    }
    /// The journal of a put in progress. Errors: `Corrupted`, `Io`.
    pub fn session(&self, session: &[u8; 32]) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(tables::PUTS, session)
    }
    /// Sessions of puts in progress with their journals, after a session if given. Errors: `Corrupted`, `Io`.
    pub fn sessions(&self, after: Option<&[u8; 32]>, limit: usize) -> Result<Vec<KeyValue>, StoreError> {
        self.scan(tables::PUTS, &[], after.map(|after| after.as_slice()), limit)
    }
    /// Forgets a put. Errors: `Io`, `Stopped`.
    pub fn remove_session(&self, session: &[u8; 32]) -> Result<(), StoreError> {
        self.write(vec![Write::remove(tables::PUTS, *session)])
    }
    /// Ends a put: its file is the owner's from now on, and its journal goes. Errors: `Io`, `Stopped`.
    pub fn finish_session(&self, session: &[u8; 32], file: &FileId, sealed: &[u8]) -> Result<(), StoreError> {
        let keep = Write::put(tables::MY_FILES, *file.as_bytes(), sealed);
        self.write(vec![keep, Write::remove(tables::PUTS, *session)])
    }

    /// Keeps what was put for a path until it is in the tree. Errors: `Io`, `Stopped`.
    pub fn put_staged(&self, session: &[u8; 32], content: &[u8]) -> Result<(), StoreError> {
        self.write(vec![Write::put(tables::STAGED, *session, content)])
    }
    /// What was put for a path in a session. Errors: `Corrupted`, `Io`.
    pub fn staged(&self, session: &[u8; 32]) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(tables::STAGED, session)
    }
    /// All that was put and is not in the tree, after a session if given. Errors: `Corrupted`, `Io`.
    pub fn all_staged(&self, after: Option<&[u8]>, limit: usize) -> Result<Vec<KeyValue>, StoreError> {
        self.scan(tables::STAGED, &[], after, limit)
    }
    /// Forgets what is in the tree now. Errors: `Io`, `Stopped`.
    pub fn remove_staged(&self, sessions: &[[u8; 32]]) -> Result<(), StoreError> {
        self.write(sessions.iter().map(|session| Write::remove(tables::STAGED, *session)).collect())
    }

    /// Keeps the sealed key and name of an own file. Errors: `Io`, `Stopped`.
    pub fn put_my_file(&self, file: &FileId, sealed: &[u8]) -> Result<(), StoreError> {
        self.write(vec![Write::put(tables::MY_FILES, *file.as_bytes(), sealed)])
    }
    /// The sealed key and name of an own file. Errors: `Corrupted`, `Io`.
    pub fn my_file(&self, file: &FileId) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(tables::MY_FILES, file.as_bytes())
    }
    /// Own files with their sealed keys and names, by id, after one if given. Errors: `Corrupted`, `Io`.
    pub fn my_files(&self, after: Option<&FileId>, limit: usize) -> Result<Vec<(FileId, Vec<u8>)>, StoreError> {
        let rows = self.scan(tables::MY_FILES, &[], after.map(|after| after.as_bytes().as_slice()), limit)?;
        let id = |key: Vec<u8>| match <[u8; 32]>::try_from(key) {
            Ok(raw) => Ok(FileId::from_bytes(raw)),
            Err(key) => Err(StoreError::corrupted("my_files.v1", hex::encode(key))),
        };
        rows.into_iter().map(|(key, sealed)| Ok((id(key)?, sealed))).collect()
    }
    /// Forgets an own file. Errors: `Io`, `Stopped`.
    pub fn remove_my_file(&self, file: &FileId) -> Result<(), StoreError> {
        self.write(vec![Write::remove(tables::MY_FILES, *file.as_bytes())])
    }

    /// Remembers a setting. Errors: `Io`, `Stopped`.
    pub fn put_setting(&self, name: &str, value: &[u8]) -> Result<(), StoreError> {
        self.write(vec![Write::put(tables::SETTINGS, name, value)])
    }
    /// A setting. Errors: `Corrupted`, `Io`.
    pub fn setting(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(tables::SETTINGS, name.as_bytes())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The writer ends when nobody can hand anything over; then the file is closed and unlocked.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // A writer that panicked has nothing more to write.
            let _ = writer.join();
        }
    }
}

fn read_meta(db: &Database) -> Result<ChainId, StoreError> {
    migrate::local().expect(db)?;
    let txn = db.begin_read().map_err(|error| from_redb(WHAT, error))?;
    let meta = open_read(&txn, tables::LOCAL_META)?;
    let damaged = |key: &[u8]| StoreError::corrupted("local_meta.v1", String::from_utf8_lossy(key).into_owned());
    let chain = get(&meta, tables::LOCAL_META, META_CHAIN)?.and_then(|value| <[u8; 32]>::try_from(value).ok());
    chain.map(ChainId::from_bytes).ok_or_else(|| damaged(META_CHAIN))
}

/// The writer: takes all that waits, commits it once, and tells everyone.
fn write_all(db: &Database, requests: &Receiver<Request>, failure: &watch::Sender<Option<StoreError>>) {
    while let Ok(first) = requests.recv() {
        let mut group = vec![first];
        group.extend(requests.try_iter().take(QUEUE - 1));
        let result = guarded(WHAT, || commit(db, &group));
        if let Err(error) = &result {
            failure.send_if_modified(|first| first.is_none() && first.replace(error.clone()).is_none());
        }
        for request in group {
            // Whoever no longer waits needs no answer.
            let _ = request.done.send(result.clone());
        }
    }
}

fn commit(db: &Database, group: &[Request]) -> Result<(), StoreError> {
    let txn = begin_durable(WHAT, db, false)?;
    for write in group.iter().flat_map(|request| &request.writes) {
        let mut table = open_write(&txn, write.table)?;
        match &write.value {
            Some(value) => put(&mut table, write.table, write.key.as_slice(), value)?,
            None => {
                table.remove(write.key.as_slice()).map_err(|error| from_redb(WHAT, error))?;
            }
        }
    }
    txn.commit().map_err(|error| from_redb(WHAT, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new() -> (tempfile::TempDir, std::path::PathBuf) {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("local.redb");
        Local::create(&path, ChainId::from_bytes([1; 32])).expect("a new database");
        (home, path)
    }

    fn open(path: &Path) -> Result<Local, StoreError> {
        Local::open(path, &Options::default())
    }

    #[test]
    fn what_is_written_is_there_after_a_restart() {
        let (_home, path) = new();
        let local = open(&path).expect("the database opens");
        let id = |n: u8| FileId::from_bytes([n; 32]);
        local.put_session(&[1; 32], b"journal").expect("a write");
        local.put_session(&[2; 32], b"other").expect("a write");
        (1..=5).for_each(|n| local.put_my_file(&id(n), &[n]).expect("a write"));
        local.put_setting("speed", b"fast").expect("a write");
        local.finish_session(&[1; 32], &id(9), b"sealed").expect("a write");
        local.remove_my_file(&id(3)).expect("a write");
        drop(local);
        let local = open(&path).expect("the database opens");
        assert_eq!(local.session(&[1; 32]).expect("a read"), None);
        assert_eq!(local.sessions(None, 10).expect("a read"), [(vec![2; 32], b"other".to_vec())]);
        let files = |after: Option<FileId>, limit| local.my_files(after.as_ref(), limit).expect("a read");
        assert_eq!(files(None, 2), [(id(1), vec![1]), (id(2), vec![2])]);
        assert_eq!(files(Some(id(2)), 9), [(id(4), vec![4]), (id(5), vec![5]), (id(9), b"sealed".to_vec())]);
        assert_eq!(local.setting("speed").expect("a read"), Some(b"fast".to_vec()));
        assert_eq!(local.my_file(&id(3)).expect("a read"), None);
    }

    #[test]
    fn it_is_locked_while_it_is_open_and_for_one_chain() {
        let (_home, path) = new();
        let first = open(&path).expect("the database opens");
        let clone = first.clone();
        drop(first);
        assert!(matches!(open(&path).err(), Some(StoreError::Locked { path: locked }) if locked == path));
        let other = ChainId::from_bytes([2; 32]);
        assert!(matches!(clone.expect_chain(other), Err(StoreError::WrongChain { .. })));
        drop(clone);
        assert!(open(&path).is_ok());
        assert!(matches!(Local::create(&path, other), Err(StoreError::Exists { .. })));
    }

    #[test]
    fn a_newer_format_is_refused_and_a_missing_or_foreign_file_too() {
        let (home, path) = new();
        let local = open(&path).expect("the database opens");
        let newer = (LOCAL_FORMAT + 1).to_be_bytes();
        local.write(vec![Write::put(tables::LOCAL_META, META_FORMAT, newer)]).expect("a write");
        drop(local);
        assert!(matches!(open(&path).err(), Some(StoreError::NewerFormat { found: 2, known: LOCAL_FORMAT })));
        let missing = home.path().join("missing");
        assert!(matches!(open(&missing).err(), Some(StoreError::Missing { .. })));
        std::fs::write(&missing, [7; 9_000]).expect("a file");
        assert!(matches!(open(&missing).err(), Some(StoreError::Corrupted { table, .. }) if table == "local.redb"));
    }
}

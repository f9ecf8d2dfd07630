//! The slots that this node holds: files under `slots/`, and their index in `local.redb`.
//!
//! A slot is in the index if and only if its bytes and its name are durable: on the way in the file comes first,
//! on the way out the index does. So after a crash there may be a file that the index does not know, which the next
//! start removes, but never an entry without its file. New slots are refused when the offered capacity is used up or the
//! disk comes near its reserve; serving and removing always works.
//! Not here: who may store what (`node`, by the ledger).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::error::{SlotError, SlotRefusal, StoreError};
use super::local::{Local, Write};
use super::room::{Idle, Key, State, UploadId, hold};
use super::slot_file::{Slot, file_len};
use super::tables;
use super::uncommitted::Uncommitted;
use super::upload::Upload;
use crate::types::{AccountId, ByteCount, FileId, SlotRoot};
use crate::wire::SlotInfo;

/// Rows read at once when all are looked through.
const SCAN: usize = 1_024;

/// Which run of the machine this is, by the system, and the one in which slots were last opened, beside them.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
const BOOT_FILE: &str = "boot";

/// How much a node may store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotSettings {
    /// Bytes of slots that it offers to hold.
    pub capacity: ByteCount,
    /// Bytes of the disk that stay free of slots.
    pub reserve: ByteCount,
}

/// How much a node stores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotUse {
    /// Slots held.
    pub slots: u64,
    /// Their bytes.
    pub stored: ByteCount,
    /// Bytes set aside for uploads in progress or kept for resuming.
    pub pending: ByteCount,
    /// Bytes that new slots may still have.
    pub free: ByteCount,
    /// Bytes of slots that were removed since the start.
    pub freed: ByteCount,
}

/// All slots of a node; cheap to clone, for any thread. Its calls block on the disk.
#[derive(Clone, Debug)]
pub struct Slots {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    dir: PathBuf,
    pub(super) local: Local,
    state: Mutex<State>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slots").field("dir", &self.dir).finish_non_exhaustive()
    }
}

/// A slot's row in the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) len: u64,
    /// Files that claim it.
    pub(super) claims: u32,
    /// Its bytes on disk are not the slot's any more. They count for nothing, and are replaced when the slot comes again.
    pub(super) damaged: bool,
}

impl Entry {
    pub(super) fn to_bytes(self) -> Vec<u8> {
        [self.len.to_be_bytes().as_slice(), &self.claims.to_be_bytes(), &[u8::from(self.damaged)]].concat()
    }
    pub(super) fn parse(root: &[u8], bytes: &[u8]) -> Result<Self, StoreError> {
        let parts = bytes.split_first_chunk::<8>().and_then(|(len, rest)| {
            let (claims, damaged) = rest.split_first_chunk::<4>()?;
            let damaged = match damaged {
                [0] => false,
                [1] => true,
                _ => return None,
            };
            Some(Self { len: u64::from_be_bytes(*len), claims: u32::from_be_bytes(*claims), damaged })
        });
        parts.ok_or_else(|| StoreError::corrupted("slots.v1", hex::encode(root)))
    }
}

pub(super) fn claim_key(file: &FileId, place: u8) -> Vec<u8> {
    [file.as_bytes().as_slice(), &[place]].concat()
}

pub(super) fn root_from(table: &str, bytes: &[u8]) -> Result<SlotRoot, StoreError> {
    let raw = <[u8; 32]>::try_from(bytes).map_err(|_| StoreError::corrupted(table, hex::encode(bytes)))?;
    Ok(SlotRoot::from_bytes(raw))
}

impl Inner {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // The state holds after any step of whoever panicked with it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// Where the file of a slot lies.
    pub(super) fn path(&self, root: &SlotRoot) -> PathBuf {
        let name = root.to_string();
        self.dir.join(name.get(..2).unwrap_or_default()).join(name)
    }
    /// Where an upload's bytes are collected.
    pub(super) fn unfinished(&self, id: &UploadId) -> PathBuf {
        self.dir.join("tmp").join(hex::encode(id))
    }
    /// Bytes that the file system has left for this process.
    pub(super) fn disk_free(&self) -> Result<u64, StoreError> {
        let stat = rustix::fs::statvfs(&self.dir);
        let stat = stat.map_err(|error| StoreError::at("asking for free space of", &self.dir, error.into()))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
    pub(super) fn entry(&self, root: &SlotRoot) -> Result<Option<Entry>, StoreError> {
        let row = self.local.read(tables::SLOTS, root.as_bytes())?;
        row.map(|row| Entry::parse(root.as_bytes(), &row)).transpose()
    }
    /// Keeps an upload's bytes for whoever carries it on.
    pub(super) fn keep(&self, id: UploadId, bytes: u64) {
        self.state().idle.push_back(Idle { id, bytes, since: Instant::now() });
    }
    /// Whether a slot is held already, and whole. Who asks must hold the slot.
    pub(super) fn is_stored(&self, root: &SlotRoot) -> Result<bool, StoreError> {
        Ok(self.entry(root)?.is_some_and(|entry| !entry.damaged))
    }
    /// Records a slot whose file is durable, the file's claim to it, and the end of the upload. Who asks must hold the slot.
    pub(super) fn record(&self, info: &SlotInfo, file: &FileId, place: u8, id: &UploadId) -> Result<(), SlotError> {
        let before = self.entry(&info.root)?;
        let mut claims = before.map_or(0, |entry| entry.claims);
        match self.local.read(tables::FILE_SLOTS, &claim_key(file, place))? {
            Some(row) if row == info.root.as_bytes() => {}
            Some(row) => {
                let held = root_from("file_slots.v1", &row)?;
                return Err(SlotRefusal::Taken { file: *file, place, held }.into());
            }
            None => claims = claims.saturating_add(1),
        }
        self.local.write(vec![
            Write::put(
                tables::SLOTS,
                *info.root.as_bytes(),
                Entry { len: info.len, claims, damaged: false }.to_bytes(),
            ),
            Write::put(tables::FILE_SLOTS, claim_key(file, place), *info.root.as_bytes()),
            Write::remove(tables::UPLOADS, *id),
        ])?;
        let mut state = self.state();
        state.uncommitted.stored(id, *file, place, info.len);
        if before.is_none_or(|entry| entry.damaged) {
            state.slots += 1;
            state.stored = state.stored.saturating_add(info.len);
        }
        Ok(())
    }
    /// Throws an upload away. Who asks must hold it.
    pub(super) fn discard(&self, id: &UploadId) -> Result<(), StoreError> {
        remove_file(&self.unfinished(id))?;
        match self.local.read(tables::UPLOADS, id)? {
            Some(_) => self.local.write(vec![Write::remove(tables::UPLOADS, *id)]),
            None => Ok(()),
        }
    }
}

impl Slots {
    /// Opens the slots in a directory, which is made if it is not there; removes files that the index does not know.
    /// Errors: `Corrupted`, `Io`.
    pub fn open(dir: &Path, local: Local, settings: SlotSettings) -> Result<Self, StoreError> {
        let tmp = dir.join("tmp");
        std::fs::create_dir_all(&tmp).map_err(|error| StoreError::at("making", &tmp, error))?;
        let (busy, idle, uncommitted) = (BTreeMap::new(), VecDeque::new(), Uncommitted::default());
        let state = State { settings, slots: 0, stored: 0, freed: 0, busy, idle, uncommitted };
        let slots = Self { inner: Arc::new(Inner { dir: dir.to_owned(), local, state: Mutex::new(state) }) };
        slots.sweep()?;
        Ok(slots)
    }

    /// Compares index and directory after a start.
    fn sweep(&self) -> Result<(), StoreError> {
        let all = self.list_all()?;
        let known: BTreeSet<PathBuf> = all.iter().map(|(root, _)| self.inner.path(root)).collect();
        let mut resumable = self.written_before()?;
        for (id, row) in self.inner.local.scan(tables::UPLOADS, &[], None, usize::MAX)? {
            let damaged = |_| StoreError::corrupted("uploads.v1", hex::encode(&id));
            let bytes = row.try_into().map(u64::from_be_bytes).map_err(damaged)?;
            let id = UploadId::try_from(id.as_slice()).map_err(|_| damaged(Vec::new()))?;
            let idle = resumable.entry(self.inner.unfinished(&id));
            idle.or_insert(Idle { id, bytes, since: Instant::now() });
        }
        for directory in entries(&self.inner.dir)? {
            for file in entries(&directory)? {
                if !known.contains(&file) && !resumable.contains_key(&file) {
                    remove_file(&file)?;
                }
            }
        }
        let mut state = self.inner.state();
        state.idle = resumable.into_values().collect();
        for (_, entry) in all.iter().filter(|(_, entry)| !entry.damaged) {
            state.slots += 1;
            state.stored = state.stored.saturating_add(entry.len);
        }
        Ok(())
    }

    /// Uploads as they were left by a process of this run of the machine: what such a process has written is there, whether it
    /// was made durable or not. After the machine itself went down only what the index says is. Whole slots are checked
    /// against their roots either way.
    fn written_before(&self) -> Result<BTreeMap<PathBuf, Idle>, StoreError> {
        let path = self.inner.dir.join(BOOT_FILE);
        // Where the system does not say which run this is, no two are the same.
        let this = std::fs::read(BOOT_ID).unwrap_or_default();
        let same = !this.is_empty() && std::fs::read(&path).is_ok_and(|last| last == this);
        let mut written = BTreeMap::new();
        for path in entries(&self.inner.dir.join("tmp"))?.into_iter().filter(|_| same) {
            let mut id = UploadId::default();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let bytes = std::fs::metadata(&path).map_err(|error| StoreError::at("looking at", &path, error))?.len();
            if hex::decode_to_slice(name, &mut id).is_ok() && bytes > 0 {
                written.insert(path, Idle { id, bytes, since: Instant::now() });
            }
        }
        std::fs::write(&path, this).map_err(|error| StoreError::at("writing", &path, error))?;
        Ok(written)
    }

    fn list_all(&self) -> Result<Vec<(SlotRoot, Entry)>, StoreError> {
        let mut all = Vec::new();
        loop {
            let page = self.page(all.last().map(|(root, _)| root), SCAN)?;
            if page.is_empty() {
                return Ok(all);
            }
            all.extend(page);
        }
    }

    /// Rows of the index, those after a slot if given.
    fn page(&self, after: Option<&SlotRoot>, limit: usize) -> Result<Vec<(SlotRoot, Entry)>, StoreError> {
        let after = after.map(|root| root.as_bytes().as_slice());
        let rows = self.inner.local.scan(tables::SLOTS, &[], after, limit)?;
        let slot = |(key, row): (Vec<u8>, Vec<u8>)| Ok((root_from("slots.v1", &key)?, Entry::parse(&key, &row)?));
        rows.into_iter().map(slot).collect()
    }

    /// Slots held with their lengths, by root, those after one if given; those set aside are in it too.
    /// Errors: `Corrupted`, `Io`.
    pub fn list(&self, after: Option<&SlotRoot>, limit: usize) -> Result<Vec<(SlotRoot, u64)>, StoreError> {
        Ok(self.page(after, limit)?.into_iter().map(|(root, entry)| (root, entry.len)).collect())
    }

    /// Slots that were set aside because their bytes are damaged. Errors: `Corrupted`, `Io`.
    pub fn damaged(&self) -> Result<Vec<SlotRoot>, StoreError> {
        let all = self.list_all()?.into_iter();
        Ok(all.filter(|(_, entry)| entry.damaged).map(|(root, _)| root).collect())
    }

    /// Slots whose files are missing or too short or too long. Reads no content: `Slot::block` checks that.
    /// Errors: `Corrupted`, `Io`.
    pub fn missing(&self) -> Result<Vec<SlotRoot>, StoreError> {
        let mut missing = Vec::new();
        for (root, entry) in self.list_all()?.into_iter().filter(|(_, entry)| !entry.damaged) {
            let have = std::fs::metadata(self.inner.path(&root)).map(|meta| meta.len());
            if have.ok() != Some(file_len(entry.len)) {
                missing.push(root);
            }
        }
        Ok(missing)
    }

    /// How much is stored and how much may come. Errors: `Io`.
    pub fn usage(&self) -> Result<SlotUse, StoreError> {
        let disk = self.inner.disk_free()?;
        let state = self.inner.state();
        let (stored, pending) = (ByteCount::new(state.stored), ByteCount::new(state.pending()));
        let (free, freed) = (ByteCount::new(state.free(disk)), ByteCount::new(state.freed));
        Ok(SlotUse { slots: state.slots, stored, pending, free, freed })
    }

    /// Changes the offered capacity and the disk's reserve. What is stored stays.
    pub fn set_settings(&self, settings: SlotSettings) {
        self.inner.state().settings = settings;
    }

    /// Whether a slot is held and, as far as is known, whole. Errors: `Corrupted`, `Io`.
    pub fn has(&self, root: &SlotRoot) -> Result<bool, StoreError> {
        self.inner.is_stored(root)
    }

    /// Opens a slot for reading. Errors: `Refused(Unknown)`, `Corrupted`, `Io`.
    pub fn get(&self, root: &SlotRoot) -> Result<Slot, SlotError> {
        let entry = self.inner.entry(root)?.filter(|entry| !entry.damaged).ok_or(SlotRefusal::Unknown(*root))?;
        Ok(Slot::open(&self.inner.path(root), *root, entry.len)?)
    }

    /// Slots of a file that are held, by their place in the file. Errors: `Corrupted`, `Io`.
    pub fn of_file(&self, file: &FileId) -> Result<Vec<(u8, SlotRoot)>, StoreError> {
        let rows = self.inner.local.scan(tables::FILE_SLOTS, file.as_bytes(), None, usize::MAX)?;
        let slot = |(key, root): (Vec<u8>, Vec<u8>)| {
            let place = key.last().copied().ok_or_else(|| StoreError::corrupted("file_slots.v1", "an empty key"))?;
            Ok((place, root_from("file_slots.v1", &root)?))
        };
        rows.into_iter().map(slot).collect()
    }

    /// Begins an upload, or resumes it at `Upload::offset`. `reserve` is the number of bytes that are expected; more can come,
    /// as long as there is room. Errors: `Refused(Full)`, `Refused(Busy)`, `Corrupted`, `Io`.
    pub fn upload(&self, id: UploadId, reserve: u64) -> Result<Upload, SlotError> {
        self.begin(None, id, reserve)
    }

    /// The same for an account, which answers for the bytes until a deal covers them. Errors: `Refused(Quota)` too.
    pub fn upload_of(&self, account: AccountId, id: UploadId, reserve: u64) -> Result<Upload, SlotError> {
        self.begin(Some(account), id, reserve)
    }

    fn begin(&self, account: Option<AccountId>, id: UploadId, reserve: u64) -> Result<Upload, SlotError> {
        let held = hold(&self.inner, Key::Upload(id))?;
        let before = {
            let mut state = self.inner.state();
            if let Some(account) = account {
                state.uncommitted.begin(id, account);
            }
            let at = state.idle.iter().position(|idle| idle.id == id);
            at.and_then(|at| state.idle.remove(at)).map_or(0, |idle| idle.bytes)
        };
        let room = reserve.max(before);
        let keep = || {
            if before > 0 {
                self.inner.keep(id, before);
            }
        };
        // It is still held then, so that it stays its account's.
        self.inner.set_aside(&id, room, before).inspect_err(|_| keep())?;
        Upload::open(held, Arc::clone(&self.inner), id, before, room).inspect_err(|_| keep())
    }

    /// A deal covers these places of the file: their bytes count against nobody any more.
    pub fn covered(&self, file: &FileId, places: &[u8]) {
        let mut state = self.inner.state();
        places.iter().for_each(|place| state.uncommitted.covered(*file, *place));
    }

    /// Throws away uploads that nobody has carried on for so long. Returns how many. Errors: `Io`, `Stopped`.
    pub fn drop_idle(&self, longer_than: Duration) -> Result<usize, StoreError> {
        let old: Vec<UploadId> = {
            let state = self.inner.state();
            state.idle.iter().filter(|idle| idle.since.elapsed() > longer_than).map(|idle| idle.id).collect()
        };
        let mut dropped = 0;
        for id in old {
            // One that is held is being carried on again.
            let Ok(_held) = hold(&self.inner, Key::Upload(id)) else { continue };
            let mut state = self.inner.state();
            let at = state.idle.iter().position(|idle| idle.id == id);
            let still_idle = at.and_then(|at| state.idle.remove(at)).is_some();
            drop(state);
            if still_idle {
                self.inner.discard(&id)?;
                dropped += 1;
            }
        }
        Ok(dropped)
    }
}

/// Removes a file; that it is not there is fine.
pub(super) fn remove_file(path: &Path) -> Result<(), StoreError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::at("removing", path, error)),
        _ => Ok(()),
    }
}

/// Paths in a directory; none when it is a file.
fn entries(dir: &Path) -> Result<Vec<PathBuf>, StoreError> {
    match std::fs::read_dir(dir) {
        Ok(entries) => {
            let paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>();
            paths.map_err(|error| StoreError::at("listing", dir, error))
        }
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(Vec::new()),
        Err(error) => Err(StoreError::at("listing", dir, error)),
    }
}

#[cfg(test)]
#[path = "slots_tests.rs"]
mod tests;

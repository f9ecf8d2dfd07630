//! A slot on its way in: bytes are appended, hashed as they come, and resumed where the disk has them for sure. What
//! they are to be, root and length, is asked at the end: who streams a file knows it only then.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write as _};
use std::num::NonZeroU64;
use std::path::Path;
use std::sync::Arc;

use super::db::sync_parent;
use super::error::{SlotError, SlotRefusal, StoreError};
use super::local::Write;
use super::room::{Hold, Key, UploadId, hold};
use super::slots::Inner;
use super::tables;
use crate::files::proof::SlotHasher;
use crate::types::limits::SLOT_BLOCK_BYTES;
use crate::types::{ByteCount, FileId};
use crate::wire::SlotInfo;

/// Bytes of an upload that a crash may cost, at most.
pub const UPLOAD_SYNC_BYTES: u64 = 32 << 20;
/// The disk is set to work each time so many bytes have come, so that little is left to wait for at the end.
const WRITE_BACK_BYTES: u64 = 2 << 20;
/// Room is asked for in steps of this many bytes when more comes than was expected.
const GROW_BYTES: u64 = 1 << 20;

/// A slot that is being written. Dropping it keeps what is there for a later try, as long as this process lives.
pub struct Upload {
    slots: Arc<Inner>,
    id: UploadId,
    file: File,
    hasher: Option<SlotHasher>,
    durable: u64,
    written: u64,
    /// What the disk was told to write.
    begun: u64,
    room: u64,
    // Last, so that the upload is free for others only when all else is done.
    _held: Hold,
}

impl std::fmt::Debug for Upload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upload").field("written", &self.written).field("durable", &self.durable).finish_non_exhaustive()
    }
}

impl Upload {
    /// Opens the file and hashes again what an earlier try left in it, of which `trusted` bytes count. For `room` bytes
    /// in all there is room already.
    pub(super) fn open(
        held: Hold,
        slots: Arc<Inner>,
        id: UploadId,
        trusted: u64,
        room: u64,
    ) -> Result<Self, SlotError> {
        let path = slots.unfinished(&id);
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = opened.map_err(|error| StoreError::at("opening", &path, error))?;
        let have = file.metadata().map_err(|error| StoreError::at("looking at", &path, error))?.len();
        let keep = trusted.min(have);
        file.set_len(keep).map_err(|error| StoreError::at("cutting", &path, error))?;
        let hasher = hash_all(&mut file, &path)?;
        let written = hasher.len();
        let durable = slots.local.read(tables::UPLOADS, &id)?.and_then(|row| row.try_into().ok());
        let durable = durable.map_or(0, u64::from_be_bytes).min(written);
        Ok(Self { slots, id, file, hasher: Some(hasher), durable, written, begun: written, room, _held: held })
    }

    /// Bytes that are here; the next to be sent is the one at this offset.
    pub fn offset(&self) -> u64 {
        self.written
    }

    /// Appends bytes. Errors: `Refused(Full)` when capacity or disk are used up; `Io`, `Stopped`.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), SlotError> {
        let after = self.written.saturating_add(bytes.len() as u64);
        if after > self.room {
            let steps = [after.saturating_add(GROW_BYTES), after];
            let grown = |room: &u64| self.slots.set_aside(&self.id, *room, self.written);
            // The last bytes of the capacity are less than a step.
            self.room = if grown(&steps[0]).is_ok() { steps[0] } else { grown(&steps[1]).map(|()| steps[1])? };
        }
        self.write(bytes)?;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(bytes);
        }
        self.written = after;
        if self.written - self.durable >= UPLOAD_SYNC_BYTES {
            self.make_durable()?;
        } else if self.written - self.begun >= WRITE_BACK_BYTES {
            self.begin_write_back();
        }
        Ok(())
    }

    /// Lets the disk begin with what has come. On Linux this advice starts the writing of dirty pages and does not wait;
    /// pages that are not written yet stay in memory. Nothing rests on it: what counts is synced.
    fn begin_write_back(&mut self) {
        let len = NonZeroU64::new(self.written - self.begun);
        // A file system that takes no advice does all the work at the end.
        let _ = rustix::fs::fadvise(&self.file, self.begun, len, rustix::fs::Advice::DontNeed);
        self.begun = self.written;
    }

    /// Writes at the end; what a failed try left there is overwritten by the next.
    fn write(&mut self, bytes: &[u8]) -> Result<(), SlotError> {
        let offset = self.written;
        let done = self.file.seek(SeekFrom::Start(offset)).and_then(|_| self.file.write_all(bytes));
        done.map_err(|error| match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                SlotRefusal::Full { need: ByteCount::new(bytes.len() as u64), free: ByteCount::ZERO }.into()
            }
            _ => self.failed("writing", error).into(),
        })
    }

    fn failed(&self, doing: &str, error: io::Error) -> StoreError {
        StoreError::io(format!("{doing} upload {}", hex::encode(self.id)), error)
    }

    fn make_durable(&mut self) -> Result<(), StoreError> {
        self.file.sync_data().map_err(|error| self.failed("syncing", error))?;
        // The name must be there as well for the row to mean anything.
        sync_parent(&self.slots.unfinished(&self.id))?;
        self.slots.local.write(vec![Write::put(tables::UPLOADS, self.id, self.written.to_be_bytes())])?;
        (self.durable, self.begun) = (self.written, self.written);
        Ok(())
    }

    /// Makes what is there durable, so that the upload can be resumed from here even after a crash.
    /// Errors: `Io`, `Stopped`.
    pub fn pause(mut self) -> Result<(), StoreError> {
        self.make_durable()
    }

    /// Throws the upload away. Errors: `Io`, `Stopped`.
    pub fn abandon(mut self) -> Result<(), StoreError> {
        self.hasher = None;
        self.slots.discard(&self.id)
    }

    /// Ends the upload as a slot at a place of a file: checks length and root, then makes bytes, name and index entry
    /// durable, in this order. When it returns, the slot survives any crash. A slot that is here already is claimed for the
    /// file too, whatever was sent now. Errors: `Refused(WrongLength)`, `Refused(WrongRoot)`, `Refused(Taken)`, and the upload is thrown away;
    /// `Refused(Busy)`, and it can be resumed; `Io`, `Stopped`.
    pub fn finish(mut self, info: &SlotInfo, file: FileId, place: u8) -> Result<(), SlotError> {
        let _slot = hold(&self.slots, Key::Slot(info.root))?;
        let Some(hasher) = self.hasher.take() else { return Err(StoreError::Stopped.into()) };
        let tree = hasher.finish();
        let here = self.slots.entry(&info.root)?.filter(|entry| !entry.damaged);
        // A root does not tell the length, so what is here decides what it is: another one would make it unreadable.
        let have = here.as_ref().map_or(tree.len(), |entry| entry.len);
        let done = if have != info.len {
            Err(SlotRefusal::WrongLength { have, announced: info.len }.into())
        } else if here.is_some() {
            self.slots.record(info, &file, place, &self.id)
        } else if *tree.root() != info.root {
            Err(SlotRefusal::WrongRoot { have: *tree.root(), announced: info.root }.into())
        } else {
            return self.store(info, tree.blocks().as_flattened(), &file, place);
        };
        self.slots.discard(&self.id)?;
        done
    }

    fn store(&mut self, info: &SlotInfo, values: &[u8], file: &FileId, place: u8) -> Result<(), SlotError> {
        self.write(values)?;
        self.file.sync_data().map_err(|error| self.failed("syncing", error))?;
        let to = self.slots.path(&info.root);
        name(&self.slots.unfinished(&self.id), &to)?;
        let recorded = self.slots.record(info, file, place, &self.id);
        if let Err(SlotError::Refused(_)) = &recorded {
            std::fs::remove_file(&to).map_err(|error| StoreError::at("removing", &to, error))?;
            self.slots.discard(&self.id)?;
        }
        recorded
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        // After `finish` there is nothing to resume.
        if self.hasher.is_some() && self.written > 0 {
            self.slots.keep(self.id, self.written);
        }
    }
}

/// Gives the file its name, durably.
fn name(from: &Path, to: &Path) -> Result<(), StoreError> {
    if let Some(dir) = to.parent() {
        match std::fs::create_dir(dir) {
            Ok(()) => sync_parent(dir)?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(StoreError::at("making", dir, error)),
        }
    }
    std::fs::rename(from, to).map_err(|error| StoreError::at("renaming to", to, error))?;
    sync_parent(to)
}

fn hash_all(file: &mut File, path: &Path) -> Result<SlotHasher, StoreError> {
    let mut hasher = SlotHasher::new();
    let mut buffer = vec![0; SLOT_BLOCK_BYTES];
    loop {
        let read = file.read(&mut buffer).map_err(|error| StoreError::at("reading", path, error))?;
        match buffer.get(..read) {
            Some(bytes) if read > 0 => hasher.update(bytes),
            _ => return Ok(hasher),
        }
    }
}

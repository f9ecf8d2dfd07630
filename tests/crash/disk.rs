//! A disk in memory that can lose what was not synced, fail a call, or stop at one.

use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, PoisonError};

use rand::Rng;
use redb::StorageBackend;

/// What the disk was asked to do since the last sync.
#[derive(Clone, Debug)]
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Resize(usize),
}

/// What happens at a call, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Power is lost: this call and all later ones fail.
    Crash(u64),
    /// This call alone fails. A sync that fails drops what it was to make durable, as kernels do.
    Once(u64),
    /// Power is lost at this call, and no sync before it did anything: a disk that lies.
    Lies(u64),
}

#[derive(Debug, Default)]
struct State {
    live: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
    calls: u64,
    fault: Option<Fault>,
}

/// A disk; clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct Disk(Arc<Mutex<State>>);

fn resize(image: &mut Vec<u8>, len: usize) {
    image.resize(len, 0);
}

fn apply(image: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write { at, bytes } => {
            if image.len() < at + bytes.len() {
                resize(image, at + bytes.len());
            }
            image[*at..at + bytes.len()].copy_from_slice(bytes);
        }
        Change::Resize(len) => resize(image, *len),
    }
}

impl Disk {
    /// A disk with these bytes, all durable.
    pub fn holding(image: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(State { live: image.clone(), durable: image, ..State::default() })))
    }
    /// The same disk, with a fault to come; calls are counted from here.
    pub fn with(self, fault: Fault) -> Self {
        let mut state = self.state();
        (state.calls, state.fault) = (0, Some(fault));
        drop(state);
        self
    }
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// Calls so far that reach the disk.
    pub fn calls(&self) -> u64 {
        self.state().calls
    }
    /// What the process sees.
    pub fn live(&self) -> Vec<u8> {
        self.state().live.clone()
    }

    /// What is left after power was lost: all that was synced, and of the rest whatever the disk had got to, in pieces of
    /// a sector or a page. A file's length changes before bytes beyond it can be there.
    pub fn after_power_loss(&self, rng: &mut impl Rng) -> Vec<u8> {
        let state = self.state();
        let mut image = state.durable.clone();
        let keep = [0.0, 0.1, 0.5, 0.9, 1.0][rng.random_range(0..5)];
        let piece = if rng.random() { 512 } else { 4096 };
        for change in &state.unsynced {
            match change {
                Change::Resize(len) => {
                    if rng.random_bool(keep) {
                        resize(&mut image, *len);
                    }
                }
                Change::Write { at, bytes } => {
                    let mut from = 0;
                    while from < bytes.len() {
                        let to = (((at + from) / piece + 1) * piece - at).min(bytes.len());
                        if rng.random_bool(keep) && at + from < image.len() {
                            let to = to.min(image.len() - at);
                            image[at + from..at + to].copy_from_slice(&bytes[from..to]);
                        }
                        from = to;
                    }
                }
            }
        }
        image
    }

    fn call(&self, sync: bool) -> io::Result<std::sync::MutexGuard<'_, State>> {
        let mut state = self.state();
        let now = state.calls;
        state.calls += 1;
        match state.fault {
            Some(Fault::Crash(at) | Fault::Lies(at)) if now >= at => Err(io::Error::other("the power is off")),
            Some(Fault::Once(at)) if now == at => {
                if sync {
                    state.unsynced.clear();
                }
                Err(io::Error::other("a bad call"))
            }
            _ => Ok(state),
        }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.call(false)?.live.len() as u64)
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.call(false)?;
        let at = usize::try_from(offset).map_err(io::Error::other)?;
        let found = at.checked_add(out.len()).and_then(|end| state.live.get(at..end));
        out.copy_from_slice(found.ok_or(ErrorKind::UnexpectedEof)?);
        Ok(())
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.call(false)?;
        let change = Change::Resize(usize::try_from(len).map_err(io::Error::other)?);
        apply(&mut state.live, &change);
        state.unsynced.push(change);
        Ok(())
    }
    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.call(true)?;
        if matches!(state.fault, Some(Fault::Lies(_))) {
            return Ok(());
        }
        let changes = std::mem::take(&mut state.unsynced);
        for change in &changes {
            apply(&mut state.durable, change);
        }
        Ok(())
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.call(false)?;
        let at = usize::try_from(offset).map_err(io::Error::other)?;
        let change = Change::Write { at, bytes: data.to_vec() };
        apply(&mut state.live, &change);
        state.unsynced.push(change);
        Ok(())
    }
}

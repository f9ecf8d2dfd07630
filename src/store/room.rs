//! Room for uploads: what is set aside for whom, what gives way, and what is refused.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use super::error::{SlotError, SlotRefusal};
use super::slots::{Inner, SlotSettings};
use super::uncommitted::{Uncommitted, cost};
use crate::types::{AccountId, ByteCount, SlotRoot, limits};

/// Uploads that nobody carries on and that are kept all the same, so that they can be resumed.
pub const IDLE_UPLOADS_MAX: usize = 1_024;

/// Names an upload. Its sender chooses it, at random, and resumes by it.
pub type UploadId = [u8; 32];

/// What a task holds for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    /// An upload.
    Upload(UploadId),
    /// A slot whose index entry changes.
    Slot(SlotRoot),
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Upload(id) => write!(f, "upload {}", hex::encode(id)),
            Self::Slot(root) => write!(f, "slot {root}"),
        }
    }
}

/// An upload that nobody carries on just now.
pub(super) struct Idle {
    pub(super) id: UploadId,
    /// Bytes on disk that can be trusted.
    pub(super) bytes: u64,
    pub(super) since: Instant,
}

/// What is held, and for what room is set aside.
pub(super) struct State {
    pub(super) settings: SlotSettings,
    pub(super) slots: u64,
    pub(super) stored: u64,
    /// Bytes of slots removed since the start.
    pub(super) freed: u64,
    /// What tasks hold, with the bytes set aside for it.
    pub(super) busy: BTreeMap<Key, u64>,
    /// Uploads that nobody carries on, the oldest first.
    pub(super) idle: VecDeque<Idle>,
    /// What no deal covers yet.
    pub(super) uncommitted: Uncommitted,
}

impl State {
    pub(super) fn pending(&self) -> u64 {
        let (busy, idle) = (self.busy.values(), self.idle.iter().map(|idle| &idle.bytes));
        busy.chain(idle).fold(0, |sum, bytes| sum.saturating_add(*bytes))
    }
    pub(super) fn free(&self, disk: u64) -> u64 {
        let offered = self.settings.capacity.get().saturating_sub(self.stored).saturating_sub(self.pending());
        // What idle uploads hold is already missing from the disk's own figure.
        let coming = self.busy.values().fold(0_u64, |sum, bytes| sum.saturating_add(*bytes));
        offered.min(disk.saturating_sub(self.settings.reserve.get()).saturating_sub(coming))
    }

    /// What is counted against an account, apart from one upload of it.
    fn uncommitted_by(&self, account: &AccountId, but: &UploadId) -> u64 {
        let counts = |id: &UploadId| id != but && self.uncommitted.account(id) == Some(*account);
        let busy = self.busy.iter().filter_map(|(key, bytes)| match key {
            Key::Upload(id) if counts(id) => Some(cost(*bytes)),
            _ => None,
        });
        let idle = self.idle.iter().filter(|idle| counts(&idle.id)).map(|idle| cost(idle.bytes));
        busy.chain(idle).fold(self.uncommitted.of_slots(account), u64::saturating_add)
    }

    /// Why an upload may not have so many bytes set aside, of which `free` are free for it.
    fn refuses(&self, id: &UploadId, bytes: u64, free: u64) -> Option<SlotRefusal> {
        if bytes > free || self.idle.len() >= IDLE_UPLOADS_MAX {
            return Some(SlotRefusal::Full { need: ByteCount::new(bytes), free: ByteCount::new(free) });
        }
        let account = self.uncommitted.account(id)?;
        let have = self.uncommitted_by(&account, id);
        let share = free.saturating_add(have) / limits::UNCOMMITTED_SHARE;
        let (need, max) = (cost(bytes), share.min(limits::UNCOMMITTED_BYTES_MAX));
        let [have, need, max] = [have, need, max].map(ByteCount::new);
        (have.get().saturating_add(need.get()) > max.get()).then_some(SlotRefusal::Quota { account, have, need, max })
    }
}

/// Keeps other tasks from the same upload or slot while it lives.
#[derive(Debug)]
pub(super) struct Hold {
    slots: Arc<Inner>,
    key: Key,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut state = self.slots.state();
        state.busy.remove(&self.key);
        if let Key::Upload(id) = &self.key
            && !state.idle.iter().any(|idle| idle.id == *id)
        {
            state.uncommitted.end(id);
        }
    }
}

/// Takes an upload or a slot for the calling task alone.
pub(super) fn hold(slots: &Arc<Inner>, key: Key) -> Result<Hold, SlotRefusal> {
    let mut state = slots.state();
    if state.busy.contains_key(&key) {
        return Err(SlotRefusal::Busy(key.to_string()));
    }
    state.busy.insert(key, 0);
    Ok(Hold { slots: Arc::clone(slots), key })
}

impl Inner {
    /// Sees to it that an upload has `bytes` set aside, at the cost of uploads that nobody carries on: any when the node is
    /// full, the account's own when its share is; `on_disk` of them take no new space. Who asks must hold it.
    pub(super) fn set_aside(self: &Arc<Self>, id: &UploadId, bytes: u64, on_disk: u64) -> Result<(), SlotError> {
        let key = Key::Upload(*id);
        loop {
            let disk = self.disk_free()?.saturating_add(on_disk);
            let evicted = {
                let mut state = self.state();
                let before = state.busy.insert(key, 0).unwrap_or_default();
                let free = state.free(disk);
                let Some(refusal) = state.refuses(id, bytes, free) else {
                    state.busy.insert(key, bytes.max(before));
                    return Ok(());
                };
                state.busy.insert(key, before);
                let idle = state.idle.iter().fold(free, |sum, idle| sum.saturating_add(idle.bytes));
                if bytes > idle {
                    // Nothing is given up for what does not fit then either.
                    return Err(refusal.into());
                }
                let owner = match &refusal {
                    SlotRefusal::Quota { account, .. } => Some(*account),
                    _ => None,
                };
                let gives_way = |idle: &Idle| {
                    let own = owner.is_none() || owner == state.uncommitted.account(&idle.id);
                    own && !state.busy.contains_key(&Key::Upload(idle.id))
                };
                let oldest = state.idle.iter().position(gives_way);
                let Some(idle) = oldest.and_then(|at| state.idle.remove(at)) else { return Err(refusal.into()) };
                state.busy.insert(Key::Upload(idle.id), 0);
                (Hold { slots: Arc::clone(self), key: Key::Upload(idle.id) }, idle.id)
            };
            self.discard(&evicted.1)?;
        }
    }
}

//! Slots on their way out: claims that end, and slots whose bytes are no longer what they were.
//!
//! A damaged slot is not served and counts for nothing, but its file stays until the slot comes again or its last claim
//! ends: if too few others are left, what is good of it may still be worth something.

use std::collections::BTreeMap;

use super::error::{SlotError, StoreError};
use super::local::Write;
use super::room::{Key, hold};
use super::slots::{Entry, Slots, claim_key, remove_file, root_from};
use super::tables;
use crate::types::{FileId, SlotRoot};

/// A file's claim to a slot: the file, the slot's place in it, the slot.
pub type Claim = (FileId, u8, SlotRoot);

impl Slots {
    /// Marks a slot as damaged: it is no longer served, and takes no capacity. False if it was not held, or marked already.
    /// Errors: `Refused(Busy)`, `Corrupted`, `Io`.
    pub fn set_aside(&self, root: &SlotRoot) -> Result<bool, SlotError> {
        let _held = hold(&self.inner, Key::Slot(*root))?;
        let Some(entry) = self.inner.entry(root)?.filter(|entry| !entry.damaged) else { return Ok(false) };
        let row = Entry { damaged: true, ..entry }.to_bytes();
        self.inner.local.write(vec![Write::put(tables::SLOTS, *root.as_bytes(), row)])?;
        let mut state = self.inner.state();
        state.slots = state.slots.saturating_sub(1);
        state.stored = state.stored.saturating_sub(entry.len);
        Ok(true)
    }

    /// Claims in the order of files, those after one if given. Errors: `Corrupted`, `Io`.
    pub fn claims(&self, after: Option<&Claim>, limit: usize) -> Result<Vec<Claim>, StoreError> {
        let after = after.map(|(file, place, _)| claim_key(file, *place));
        let rows = self.inner.local.scan(tables::FILE_SLOTS, &[], after.as_deref(), limit)?;
        let claim = |(key, root): (Vec<u8>, Vec<u8>)| {
            let damaged = || StoreError::corrupted("file_slots.v1", hex::encode(&key));
            let (file, place) = key.split_first_chunk().ok_or_else(damaged)?;
            let [place] = place else { return Err(damaged()) };
            Ok((FileId::from_bytes(*file), *place, root_from("file_slots.v1", &root)?))
        };
        rows.into_iter().map(claim).collect()
    }

    /// Ends a file's claims to its slots, and removes those that no other file claims. Returns the removed ones with their
    /// lengths. Errors: `Refused(Busy)` while one of them is being written: try again; `Corrupted`, `Io`.
    pub fn remove_file(&self, file: &FileId) -> Result<Vec<(SlotRoot, u64)>, SlotError> {
        let claims = self.of_file(file)?;
        self.end(file, &claims)
    }

    /// Ends a file's claim to the slot at one place, as `remove_file` does for all of them. Errors: those of `remove_file`.
    pub fn remove_slot(&self, file: &FileId, place: u8) -> Result<Vec<(SlotRoot, u64)>, SlotError> {
        let mut claims = self.of_file(file)?;
        claims.retain(|(other, _)| *other == place);
        self.end(file, &claims)
    }

    fn end(&self, file: &FileId, places: &[(u8, SlotRoot)]) -> Result<Vec<(SlotRoot, u64)>, SlotError> {
        let mut claims: BTreeMap<SlotRoot, u32> = BTreeMap::new();
        let mut writes = Vec::new();
        for (place, root) in places {
            *claims.entry(*root).or_default() += 1;
            writes.push(Write::remove(tables::FILE_SLOTS, claim_key(file, *place)));
        }
        if writes.is_empty() {
            return Ok(Vec::new());
        }
        let mut held = Vec::new();
        let mut removed = Vec::new();
        for (root, count) in claims {
            held.push(hold(&self.inner, Key::Slot(root))?);
            let Some(entry) = self.inner.entry(&root)? else { continue };
            match entry.claims.checked_sub(count).filter(|left| *left > 0) {
                Some(claims) => {
                    writes.push(Write::put(tables::SLOTS, *root.as_bytes(), Entry { claims, ..entry }.to_bytes()));
                }
                None => {
                    writes.push(Write::remove(tables::SLOTS, *root.as_bytes()));
                    removed.push((root, entry));
                }
            }
        }
        self.inner.local.write(writes)?;
        let places: Vec<u8> = places.iter().map(|(place, _)| *place).collect();
        self.covered(file, &places);
        for (root, entry) in &removed {
            if !entry.damaged {
                let mut state = self.inner.state();
                state.slots = state.slots.saturating_sub(1);
                state.stored = state.stored.saturating_sub(entry.len);
            }
            remove_file(&self.inner.path(root))?;
            let mut state = self.inner.state();
            state.freed = state.freed.saturating_add(entry.len);
        }
        drop(held);
        Ok(removed.into_iter().map(|(root, entry)| (root, entry.len)).collect())
    }
}

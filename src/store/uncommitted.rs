//! What accounts have brought and no deal covers yet: uploads under way, and slots whose file is not on the ledger.
//!
//! In memory: after a restart the count begins anew, and what was left from before goes by its age (`node`).
//! Invariant: an account's sum is that of its slots.

use std::collections::BTreeMap;

use super::room::UploadId;
use crate::types::{AccountId, FileId, limits};

/// What bytes of an upload or a slot are counted with.
pub(super) const fn cost(bytes: u64) -> u64 {
    bytes.saturating_add(limits::UNCOMMITTED_OVERHEAD_BYTES)
}

/// The count.
#[derive(Debug, Default)]
pub(super) struct Uncommitted {
    uploads: BTreeMap<UploadId, AccountId>,
    slots: BTreeMap<(FileId, u8), (AccountId, u64)>,
    sums: BTreeMap<AccountId, u64>,
}

impl Uncommitted {
    /// The upload is this account's.
    pub(super) fn begin(&mut self, id: UploadId, account: AccountId) {
        self.uploads.insert(id, account);
    }
    /// The upload is no more.
    pub(super) fn end(&mut self, id: &UploadId) {
        self.uploads.remove(id);
    }
    /// Whose upload it is; nobody's if the node itself makes it, or if it is from before a restart.
    pub(super) fn account(&self, id: &UploadId) -> Option<AccountId> {
        self.uploads.get(id).copied()
    }
    /// The upload has become a slot of so many bytes.
    pub(super) fn stored(&mut self, id: &UploadId, file: FileId, place: u8, bytes: u64) {
        self.covered(file, place);
        if let Some(account) = self.account(id) {
            self.slots.insert((file, place), (account, cost(bytes)));
            *self.sums.entry(account).or_default() += cost(bytes);
        }
    }
    /// The slot is covered by a deal, or gone.
    pub(super) fn covered(&mut self, file: FileId, place: u8) {
        let Some((account, bytes)) = self.slots.remove(&(file, place)) else { return };
        let Some(sum) = self.sums.get_mut(&account) else { return };
        *sum -= bytes;
        if *sum == 0 {
            self.sums.remove(&account);
        }
    }
    /// Whether nothing is counted.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.uploads.is_empty() && self.slots.is_empty() && self.sums.is_empty()
    }
    /// What the account's slots are counted with.
    pub(super) fn of_slots(&self, account: &AccountId) -> u64 {
        self.sums.get(account).copied().unwrap_or(0)
    }
}

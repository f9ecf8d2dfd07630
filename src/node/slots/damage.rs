//! Damage: slots that should be here and are not, or not whole. Whoever finds one says so here; repair takes it from there.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::ledger::record::SlotId;
use crate::node::handle::Handle;
use crate::store::{SlotError, Slots, StoreError};
use crate::types::SlotRoot;

/// Claims read at once when all are looked through.
const PAGE: usize = 1_024;

/// The slots that wait for repair. Clones are of the same.
#[derive(Clone, Debug, Default)]
pub struct Lacking {
    slots: Arc<Mutex<BTreeSet<SlotId>>>,
    more: Arc<Notify>,
}

impl Lacking {
    fn slots(&self) -> MutexGuard<'_, BTreeSet<SlotId>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// Notes slots.
    pub fn add(&self, slots: impl IntoIterator<Item = SlotId>) {
        self.slots().extend(slots);
        self.more.notify_one();
    }
    /// All of them.
    pub fn all(&self) -> Vec<SlotId> {
        self.slots().iter().copied().collect()
    }
    /// The slot is here, or is no longer missed.
    pub fn remove(&self, slot: &SlotId) {
        self.slots().remove(slot);
    }
    /// Waits until some were added.
    pub async fn added(&self) {
        self.more.notified().await;
    }
}

/// Whether an error of reading a slot says that its bytes are gone, not only that the disk is busy or full.
pub fn is_damage(error: &SlotError) -> bool {
    match error {
        SlotError::Store(StoreError::Corrupted { .. }) => true,
        SlotError::Store(StoreError::Io { source, .. }) => {
            // What a disk says of a sector that it cannot read.
            let unreadable = source.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error());
            unreadable || source.kind() == std::io::ErrorKind::UnexpectedEof
        }
        SlotError::Store(_) | SlotError::Refused(_) => false,
    }
}

/// Takes a damaged slot out of service and has it repaired. Blocks on the disk.
pub fn set_aside(handle: &Handle, slots: &Slots, root: &SlotRoot, why: &dyn std::fmt::Display) {
    tracing::error!(slot = %root, reason = %why, "a slot is damaged; it is set aside and will be fetched anew");
    match slots.set_aside(root) {
        Ok(true) => {
            handle.metrics().keeper.damaged_slots.inc();
        }
        Ok(false) => {}
        Err(error) => tracing::warn!(slot = %root, %error, "a damaged slot could not be set aside"),
    }
    match claims_of(slots, &[*root].into()) {
        Ok(claims) => handle.lacking().add(claims),
        Err(error) => tracing::warn!(slot = %root, %error, "the files of a damaged slot could not be found"),
    }
}

/// Whose these slots are. Blocks on the disk. Errors: `Corrupted`, `Io`.
pub fn claims_of(slots: &Slots, roots: &BTreeSet<SlotRoot>) -> Result<Vec<SlotId>, StoreError> {
    let mut found = Vec::new();
    let mut after = None;
    loop {
        let page = slots.claims(after.as_ref(), PAGE)?;
        let Some(last) = page.last() else { return Ok(found) };
        after = Some(*last);
        let ours = page.into_iter().filter(|(_, _, root)| roots.contains(root));
        found.extend(ours.map(|(file, slot, _)| SlotId { file, slot }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::SlotRefusal;

    fn io(error: std::io::Error) -> SlotError {
        StoreError::Io { doing: "reading".to_owned(), source: Arc::new(error) }.into()
    }

    #[test]
    fn lost_bytes_are_damage_and_a_disk_that_is_busy_is_not() {
        assert!(is_damage(&StoreError::corrupted("slot", "offset 5").into()));
        assert!(is_damage(&io(std::io::Error::from_raw_os_error(5))));
        assert!(is_damage(&io(std::io::ErrorKind::UnexpectedEof.into())));
        assert!(!is_damage(&io(std::io::Error::from_raw_os_error(24))), "too many open files");
        assert!(!is_damage(&StoreError::Stopped.into()));
        assert!(!is_damage(&SlotRefusal::Busy("a slot".to_owned()).into()));
    }
}

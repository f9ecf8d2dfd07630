//! Cache: pages that were read lately. A page never changes, so none is ever out of date.

use std::collections::HashMap;
use std::sync::Arc;

use crate::files::tree::Page;
use crate::types::{AccountId, FileId, limits};

/// Pages by their account as well: whoever names another account's page does not get to see it.
type Pages = HashMap<(AccountId, FileId), (Arc<Page>, usize)>;

/// Two generations: what is used moves to the new one, and when that has half of the room, the old one goes.
#[derive(Default)]
pub(super) struct Cache {
    new: Pages,
    new_bytes: usize,
    old: Pages,
}

impl Cache {
    pub fn get(&mut self, account: AccountId, id: &FileId) -> Option<Arc<Page>> {
        let key = (account, *id);
        if let Some((page, _)) = self.new.get(&key) {
            return Some(Arc::clone(page));
        }
        let (page, bytes) = self.old.remove(&key)?;
        self.insert(account, *id, Arc::clone(&page), bytes);
        Some(page)
    }

    /// `bytes` is the length of the page as it is encoded.
    pub fn insert(&mut self, account: AccountId, id: FileId, page: Arc<Page>, bytes: usize) {
        if self.new_bytes.saturating_add(bytes) > limits::TREE_CACHE_BYTES_MAX / 2 {
            (self.old, self.new_bytes) = (std::mem::take(&mut self.new), 0);
        }
        if self.new.insert((account, id), (page, bytes)).is_none() {
            self.new_bytes = self.new_bytes.saturating_add(bytes);
        }
    }

    pub fn remove(&mut self, account: AccountId, id: &FileId) {
        self.old.remove(&(account, *id));
        if let Some((_, bytes)) = self.new.remove(&(account, *id)) {
            self.new_bytes = self.new_bytes.saturating_sub(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::tree::{Entry, Kind};

    fn id(n: u32) -> FileId {
        let mut raw = [0; 32];
        raw[..4].copy_from_slice(&n.to_be_bytes());
        FileId::from_bytes(raw)
    }

    #[test]
    fn what_is_used_stays_what_is_not_goes_and_each_account_has_its_own() {
        let (me, other) = (AccountId::from_bytes([1; 32]), AccountId::from_bytes([2; 32]));
        let page = Arc::new(Page::Leaf(vec![("a/".to_owned(), Entry::of(Kind::Folder))]));
        let mut cache = Cache::default();
        let bytes = limits::TREE_CACHE_BYTES_MAX / 16;
        for n in 0..40 {
            cache.insert(me, id(n), Arc::clone(&page), bytes);
            assert!(cache.get(me, &id(0)).is_some(), "the one that is used");
            assert!((cache.new.len() + cache.old.len()) * bytes <= limits::TREE_CACHE_BYTES_MAX);
        }
        assert!(cache.get(me, &id(1)).is_none() && cache.get(me, &id(39)).is_some());
        assert!(cache.get(other, &id(39)).is_none());
        cache.remove(me, &id(39));
        assert!(cache.get(me, &id(39)).is_none());
    }
}

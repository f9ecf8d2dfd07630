//! Acting: for which account a handle signs.
//!
//! A node has its own account, and its interface may serve others. Each account has one turn, whichever handle acts for it, so
//! that no nonce is given out twice and no account waits for another. Keys are here only while a handle for them lives.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::crypto::keys::AccountKeys;
use crate::types::AccountId;

/// An account with its keys.
pub(super) struct Actor {
    pub keys: AccountKeys,
    pub id: AccountId,
    /// Held while a nonce is chosen and its transaction goes into the mempool.
    pub turn: tokio::sync::Mutex<()>,
}

/// The accounts that handles act for at present.
#[derive(Default)]
pub(super) struct Actors {
    known: Mutex<BTreeMap<AccountId, Weak<Actor>>>,
}

impl Actors {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<AccountId, Weak<Actor>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The account of these keys: one and the same for as long as anybody has it.
    pub fn of(&self, keys: AccountKeys) -> Arc<Actor> {
        let id = keys.account_id();
        let mut known = self.lock();
        if let Some(actor) = known.get(&id).and_then(Weak::upgrade) {
            return actor;
        }
        known.retain(|_, actor| actor.strong_count() > 0);
        let actor = Arc::new(Actor { keys, id, turn: tokio::sync::Mutex::new(()) });
        known.insert(id, Arc::downgrade(&actor));
        actor
    }

    /// An account that somebody acts for.
    pub fn get(&self, id: &AccountId) -> Option<Arc<Actor>> {
        self.lock().get(id).and_then(Weak::upgrade)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_has_one_turn_its_own_and_its_keys_go_with_its_last_handle() {
        let actors = Actors::default();
        let keys = |n| AccountKeys::from_master(&[n; 32]);
        let (first, again, other) = (actors.of(keys(1)), actors.of(keys(1)), actors.of(keys(2)));
        let _turn = first.turn.try_lock().expect("nobody else has it");
        assert!(again.turn.try_lock().is_err(), "the same account waits");
        assert!(other.turn.try_lock().is_ok(), "another one does not");
        let id = other.id;
        assert!(actors.get(&id).is_some());
        drop(other);
        assert!(actors.get(&id).is_none());
        actors.of(keys(3));
        actors.of(keys(4));
        assert_eq!(actors.lock().len(), 2, "those that are gone are not kept");
    }
}

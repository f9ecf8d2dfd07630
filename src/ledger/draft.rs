//! Drafts: the effects of a rule while it is at work. What it changed is what it reads from then on.
//!
//! The same lookups serve those who ask what a rule will read: `peek` says nothing of what is not loaded.

use super::effects::{Effects, Event};
use super::key::Key;
use super::record::{Account, Deal, Due, NodeEntry, Params, Record};
use super::state::State;
use super::tally::{Share, Tally};
use crate::types::{AccountId, FileId, Height, NodeId};

/// Effects over the state that they change.
pub(super) struct Draft<'a> {
    state: &'a State,
    /// Height of the block.
    pub at: Height,
    /// The effects so far.
    pub effects: Effects,
}

impl<'a> Draft<'a> {
    /// Nothing changed yet.
    pub fn new(state: &'a State, at: Height) -> Self {
        Self { state, at, effects: Effects::default() }
    }
    /// What came of it.
    pub fn done(self) -> Effects {
        self.effects
    }
    /// The state before.
    pub fn state(&self) -> &'a State {
        self.state
    }
    /// The key's record, if there is one. The key must be loaded.
    pub fn record(&self, key: &Key) -> Option<&Record> {
        match self.effects.changes.get(key) {
            Some(changed) => changed.as_ref(),
            None => self.state.record(key),
        }
    }
    /// The key's record, if it is loaded and there is one.
    pub fn peek(&self, key: &Key) -> Option<&Record> {
        if self.is_loaded(key) { self.record(key) } else { None }
    }
    /// Whether it is known what the key's record is.
    pub fn is_loaded(&self, key: &Key) -> bool {
        self.effects.changes.contains_key(key) || self.state.is_loaded(key)
    }
    /// What the genesis fixed. Always loaded first.
    pub fn params(&self) -> Option<Params> {
        match self.peek(&Key::Params) {
            Some(Record::Params(params)) => Some(*params),
            _ => None,
        }
    }
    /// An account; an empty one if there is none.
    pub fn account(&self, id: &AccountId) -> Account {
        match self.record(&Key::Account(*id)) {
            Some(Record::Account(account)) => *account,
            _ => Account::default(),
        }
    }
    /// A node's entry, if it is loaded and there is one.
    pub fn node(&self, id: &NodeId) -> Option<&NodeEntry> {
        match self.peek(&Key::Node(*id)) {
            Some(Record::Node(entry)) => Some(entry),
            _ => None,
        }
    }
    /// A deal, if it is loaded and there is one.
    pub fn deal(&self, id: &FileId) -> Option<&Deal> {
        match self.peek(&Key::File(*id)) {
            Some(Record::File(deal)) => Some(deal),
            _ => None,
        }
    }
    /// Changes a record.
    pub fn put(&mut self, key: Key, record: Record) {
        self.effects.put(key, record);
    }
    /// Changes the tally. Needs `Key::Tally`.
    pub fn count(&mut self, change: impl FnOnce(&mut Tally, Height)) {
        let Some(Record::Tally(tally)) = self.record(&Key::Tally) else { return };
        let mut tally = tally.clone();
        change(&mut tally, self.at);
        self.put(Key::Tally, Record::Tally(tally));
    }
    /// Changes a node's entry. Needs `Key::Tally` if that begins or ends to be watched.
    pub fn put_node(&mut self, id: NodeId, entry: NodeEntry) {
        let (before, after) = (self.node(&id).is_some_and(NodeEntry::is_watched), entry.is_watched());
        if before != after {
            self.count(|tally, at| tally.node(at, before, after));
        }
        self.put(Key::Node(id), Record::Node(Box::new(entry)));
    }
    /// Changes a deal. Needs `Key::Tally` if other slots of it are held or lost.
    pub fn put_deal(&mut self, id: FileId, deal: Deal) {
        let (before, after) = (self.deal(&id).map(Share::of).unwrap_or_default(), Share::of(&deal));
        if before != after {
            self.count(|tally, at| tally.deal(at, before, after));
        }
        self.put(Key::File(id), Record::File(Box::new(deal)));
    }
    /// Changes an account.
    pub fn put_account(&mut self, id: AccountId, account: Account) {
        self.put(Key::Account(id), Record::Account(account));
    }
    /// Takes a record away.
    pub fn remove(&mut self, key: Key) {
        self.effects.remove(key);
    }
    /// Says what happened.
    pub fn event(&mut self, event: Event) {
        self.effects.events.push(event);
    }
    /// Adds a deadline at a later height. Needs `Key::DueCount` of that height.
    pub fn schedule(&mut self, at: Height, due: Due) {
        let count = match self.record(&Key::DueCount(at)) {
            Some(Record::DueCount(count)) => *count,
            _ => 0,
        };
        self.put(Key::Due(at, count), Record::Due(due));
        self.put(Key::DueCount(at), Record::DueCount(count.saturating_add(1)));
    }
    /// The height so many blocks from now.
    pub fn after(&self, blocks: u64) -> Height {
        Height::new(self.at.get().saturating_add(blocks))
    }
}

//! State: the loaded part of the ledger that rules read from.

use std::collections::BTreeMap;

use super::key::Key;
use super::record::{Account, Deal, NodeEntry, Params, Record, Tip, ValidatorEntry};
use crate::types::{AccountId, FileId, NodeId};
use crate::wire::PublicManifest;

/// The records that were loaded, and which of them do not exist. A rule reads from here and nowhere else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    records: BTreeMap<Key, Option<Record>>,
}

macro_rules! accessors {
    ($($(#[$doc:meta])* $name:ident($($arg:ident: $argty:ty),*) -> $out:ty = $key:expr, $variant:ident;)*) => {$(
        $(#[$doc])*
        pub fn $name(&self, $($arg: $argty),*) -> Option<&$out> {
            match self.record(&$key) {
                Some(Record::$variant(value)) => Some(value),
                _ => None,
            }
        }
    )*};
}

impl State {
    /// Nothing loaded.
    pub fn new() -> Self {
        Self::default()
    }
    /// Takes in what a key's record is. A record of another kind than the key's is a broken caller.
    pub fn load(&mut self, key: Key, record: Option<Record>) {
        assert!(record.as_ref().is_none_or(|record| record.belongs_to(&key)), "a record is of its key's kind");
        self.records.insert(key, record);
    }
    /// Whether it is known what the key's record is.
    pub fn is_loaded(&self, key: &Key) -> bool {
        self.records.contains_key(key)
    }
    /// The key's record, if there is one. The key must be loaded: `needs` names every key that a rule reads.
    pub fn record(&self, key: &Key) -> Option<&Record> {
        let loaded = self.records.get(key);
        assert!(loaded.is_some(), "a rule reads only what was loaded: {key:?}");
        loaded.and_then(Option::as_ref)
    }
    /// All that is loaded, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, Option<&Record>)> {
        self.records.iter().map(|(key, record)| (key, record.as_ref()))
    }
    accessors! {
        /// What the genesis fixed.
        params() -> Params = Key::Params, Params;
        /// What every block moves on.
        tip() -> Tip = Key::Tip, Tip;
        /// The validators.
        validators() -> Vec<ValidatorEntry> = Key::Validators, Validators;
        /// An account.
        account(id: &AccountId) -> Account = Key::Account(*id), Account;
        /// A node.
        node(id: &NodeId) -> NodeEntry = Key::Node(*id), Node;
        /// A file's deal.
        deal(id: &FileId) -> Deal = Key::File(*id), File;
        /// A file's manifest.
        manifest(id: &FileId) -> PublicManifest = Key::Manifest(*id), Manifest;
    }
    /// An operator's active storage nodes.
    pub fn operator(&self, name: &str) -> u64 {
        match self.record(&Key::Operator(name.to_owned())) {
            Some(Record::Operator(nodes)) => *nodes,
            _ => 0,
        }
    }
    /// Operators with at least one active storage node.
    pub fn operator_count(&self) -> u64 {
        match self.record(&Key::OperatorCount) {
            Some(Record::OperatorCount(count)) => *count,
            _ => 0,
        }
    }
}

impl FromIterator<(Key, Option<Record>)> for State {
    fn from_iter<T: IntoIterator<Item = (Key, Option<Record>)>>(records: T) -> Self {
        let mut state = Self::new();
        records.into_iter().for_each(|(key, record)| state.load(key, record));
        state
    }
}

//! A finalized state in memory: what a store does, for the simulator and the tests. It can audit itself.
//!
//! Not here: anything durable (`store`).

use std::collections::BTreeMap;
use std::convert::Infallible;

use super::block::Reads;
use super::effects::Changes;
use super::fork::Executed;
use super::genesis::{EmptyTree, Genesis, GenesisError};
use super::key::Key;
use super::record::{Account, Record};
use super::soundness::{self, Unsound};
use super::tree::{self, Overlay, TreeReader, TreeUpdate};
use crate::types::{Amount, Height, StateRoot};

/// Records and tree nodes, as a store would keep them.
#[derive(Clone, Debug)]
pub struct MemoryState {
    records: BTreeMap<Key, Record>,
    nodes: BTreeMap<Vec<u8>, Vec<u8>>,
    root: StateRoot,
}

impl MemoryState {
    /// The state that a genesis begins with. Errors: each of `GenesisError`.
    pub fn genesis(genesis: &Genesis) -> Result<Self, GenesisError> {
        genesis.check()?;
        let tree = genesis.tree()?;
        let mut state = Self { records: BTreeMap::new(), nodes: BTreeMap::new(), root: tree.root() };
        state.write(&genesis.records()?, &tree);
        Ok(state)
    }
    /// Writes what a final block changed. Blocks come in the order of their heights.
    pub fn finalize(&mut self, block: &Executed) {
        self.write(&block.effects.changes, &block.tree);
    }
    fn write(&mut self, changes: &Changes, tree: &TreeUpdate) {
        for (key, record) in changes {
            match record {
                Some(record) => self.records.insert(key.clone(), record.clone()),
                None => self.records.remove(key),
            };
        }
        self.nodes.extend(tree.nodes());
        tree.stale().for_each(|key| _ = self.nodes.remove(&key));
        self.root = tree.root();
    }
    /// Puts a record in the state beside all rules.
    #[cfg(test)]
    pub(super) fn plant(&mut self, key: Key, record: Record) {
        self.records.insert(key, record);
    }
    /// Root of the state tree.
    pub fn root(&self) -> StateRoot {
        self.root
    }
    /// A record.
    pub fn get(&self, key: &Key) -> Option<&Record> {
        self.records.get(key)
    }
    /// All records, by key.
    pub fn records(&self) -> impl Iterator<Item = (&Key, &Record)> {
        self.records.iter()
    }
    /// Sum of all balances, or nothing if it does not fit.
    pub fn balances(&self) -> Option<Amount> {
        self.records.values().try_fold(Amount::ZERO, |sum, record| match record {
            Record::Account(Account { balance, .. }) => sum.checked_add(*balance),
            _ => Some(sum),
        })
    }
    /// Checks what must hold in every state, but for the tree. Cost: linear in the records and placements.
    /// Errors: each of `Unsound` but `Root`.
    pub fn audit(&self) -> Result<(), Unsound> {
        soundness::check(self)
    }
    /// Checks that the tree kept from block to block is that of the records alone. Cost: about 20 us a record.
    /// Errors: `Root`.
    pub fn audit_tree(&self) -> Result<(), Unsound> {
        let all = self.records.iter().map(|(key, record)| (key.clone(), Some(record.clone()))).collect();
        let tree = tree::update(&Overlay::new(&EmptyTree, &[]), Height::GENESIS, &all);
        let need = tree.expect("the first tree reads nothing, so reading cannot fail").root();
        let have = self.root;
        if have == need { Ok(()) } else { Err(Unsound::Root { have, need }) }
    }
}

impl Reads for MemoryState {
    type Error = Infallible;
    fn read(&self, key: &Key) -> Result<Option<Record>, Infallible> {
        Ok(self.records.get(key).cloned())
    }
}

impl TreeReader for MemoryState {
    type Error = Infallible;
    fn node(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Infallible> {
        Ok(self.nodes.get(key).cloned())
    }
}

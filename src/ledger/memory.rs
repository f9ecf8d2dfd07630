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
use super::node::counted_operator;
use super::record::{Account, Deal, DealStatus, Record};
use super::tree::{self, Overlay, TreeReader, TreeUpdate};
use crate::types::{Amount, FileId, Height, NodeId, StateRoot};

/// A state that no chain of allowed transactions leads to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsound {
    /// A record that every state has is missing.
    #[error("no record at {0:?}")]
    Missing(Key),
    /// Credits were made or lost.
    #[error("the balances add up to {have:?}, the supply is {need}")]
    Supply {
        /// Sum of the balances, if it fits.
        have: Option<Amount>,
        /// What the genesis minted.
        need: Amount,
    },
    /// A node's bytes in use are not those of the open deals on it, or more than it offers.
    #[error("node {node} has {have} bytes in use, open deals place {need} on it")]
    Used {
        /// The node.
        node: NodeId,
        /// What its entry says.
        have: u64,
        /// What the deals say.
        need: u64,
    },
    /// The count of operators, or of an operator's nodes, is not that of the nodes.
    #[error("the counts of operators are not those of the nodes")]
    Operators,
    /// A deal's status, its receipts, its manifest and its owner's list contradict each other.
    #[error("the deal of file {0} contradicts itself")]
    Deal(FileId),
    /// A record's bytes do not read back as the record.
    #[error("the record at {0:?} is not that of its bytes")]
    Bytes(Key),
    /// The tree that was kept from block to block is not that of the records.
    #[error("the state root is {have}, that of the records is {need}")]
    Root {
        /// The root kept.
        have: StateRoot,
        /// The root of a tree made of the records alone.
        need: StateRoot,
    },
}

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
        let Some(Record::Params(params)) = self.get(&Key::Params) else { return Err(Unsound::Missing(Key::Params)) };
        let (have, need) = (self.balances(), params.supply);
        if have != Some(need) {
            return Err(Unsound::Supply { have, need });
        }
        self.audit_nodes()?;
        for (key, record) in &self.records {
            if Record::from_bytes(key, &record.bytes()).as_ref() != Ok(record) {
                return Err(Unsound::Bytes(key.clone()));
            }
            if let (Key::File(file), Record::File(deal)) = (key, record)
                && !self.is_consistent(file, deal)
            {
                return Err(Unsound::Deal(*file));
            }
        }
        Ok(())
    }
    fn audit_nodes(&self) -> Result<(), Unsound> {
        let mut placed = BTreeMap::<NodeId, u64>::new();
        let (mut operators, mut counted) = (BTreeMap::<&str, u64>::new(), BTreeMap::<&str, u64>::new());
        for (key, record) in &self.records {
            match (key, record) {
                (_, Record::File(deal)) if deal.status.is_open() => {
                    for node in &deal.placement {
                        let bytes = placed.entry(*node).or_default();
                        *bytes = bytes.saturating_add(deal.slot_len);
                    }
                }
                (_, Record::Node(entry)) => {
                    if let Some(name) = counted_operator(entry) {
                        let nodes = operators.entry(name).or_default();
                        *nodes = nodes.saturating_add(1);
                    }
                }
                (Key::Operator(name), Record::Operator(nodes)) => _ = counted.insert(name, *nodes),
                _ => {}
            }
        }
        let count = Record::OperatorCount(operators.len() as u64);
        if operators != counted || self.get(&Key::OperatorCount) != Some(&count) {
            return Err(Unsound::Operators);
        }
        for record in self.records.values() {
            let Record::Node(entry) = record else { continue };
            let node = entry.announcement.node;
            let (have, need) = (entry.used.get(), placed.get(&node).copied().unwrap_or(0));
            if have != need || entry.used > entry.announcement.capacity {
                return Err(Unsound::Used { node, have, need });
            }
        }
        Ok(())
    }
    fn is_consistent(&self, file: &FileId, deal: &Deal) -> bool {
        let (open, enough) = (deal.status.is_open(), deal.confirmed.len() >= usize::from(deal.min_confirmations));
        let listed = !matches!(deal.status, DealStatus::Deleted { .. });
        (enough && open) == matches!(deal.status, DealStatus::Final { .. })
            && self.get(&Key::Manifest(*file)).is_some() == open
            && self.get(&Key::OwnerFile(deal.owner, *file)).is_some() == listed
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

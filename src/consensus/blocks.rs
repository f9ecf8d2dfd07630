//! Blocks that are not final: a tree on the last final block, with how far each is executed.
//!
//! Bounded by `limits::UNFINAL_BLOCKS_MAX`; what is voted for stays on disk beyond that (protocol rule 9).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::types::{BlockHash, Height, limits};
use crate::wire::{Certificate, ProposedBlock};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Execution {
    None,
    Asked,
    Done,
}

struct Node {
    block: Arc<ProposedBlock>,
    execution: Execution,
    stored: bool,
}

/// What has to happen before a block counts as executed.
#[derive(Clone, Debug)]
pub enum Need {
    /// Nothing: it is executed, or final.
    Nothing,
    /// Execution is under way.
    Patience,
    /// This block, an ancestor or the block itself, has to be executed first.
    Execution(Arc<ProposedBlock>),
    /// The block that this certificate names is missing.
    Block(Certificate),
    /// The block conflicts with a final one.
    Conflict,
}

/// The tree.
pub struct Tree {
    root: BlockHash,
    height: Height,
    nodes: BTreeMap<BlockHash, Node>,
}

impl Tree {
    /// A tree of its root, the last final block.
    pub fn new(last_final: &Certificate) -> Self {
        Self { root: last_final.block, height: last_final.height, nodes: BTreeMap::new() }
    }

    /// Height of the last final block.
    pub fn height(&self) -> Height {
        self.height
    }

    /// How many blocks are held.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// A block that is held.
    pub fn get(&self, block: &BlockHash) -> Option<&Arc<ProposedBlock>> {
        self.nodes.get(block).map(|node| &node.block)
    }

    /// Takes a block that is above the last final one. `keep` and its ancestors are not displaced when the tree is full.
    pub fn insert(&mut self, block: Arc<ProposedBlock>, stored: bool, keep: &BlockHash) {
        let hash = block.block.hash();
        if block.header().height <= self.height || self.nodes.contains_key(&hash) {
            return;
        }
        if self.nodes.len() >= limits::UNFINAL_BLOCKS_MAX {
            self.displace(keep);
        }
        self.nodes.insert(hash, Node { execution: Execution::None, stored, block });
    }

    fn displace(&mut self, keep: &BlockHash) {
        let mut kept = BTreeSet::new();
        let mut at = *keep;
        while let Some(node) = self.nodes.get(&at) {
            kept.insert(at);
            at = node.block.justify.block;
        }
        let oldest = self.nodes.iter().filter(|(hash, _)| !kept.contains(*hash));
        if let Some(hash) = oldest.min_by_key(|(_, node)| node.block.header().round).map(|(hash, _)| *hash) {
            self.nodes.remove(&hash);
        }
    }

    /// Forgets a block.
    pub fn remove(&mut self, block: &BlockHash) {
        self.nodes.remove(block);
    }

    /// What is missing before the certified block counts as executed.
    pub fn need(&self, certificate: &Certificate) -> Need {
        let mut certificate = certificate;
        let mut first = None;
        loop {
            if certificate.block == self.root {
                break;
            }
            if certificate.height <= self.height {
                return Need::Conflict;
            }
            let Some(node) = self.nodes.get(&certificate.block) else { return Need::Block(certificate.clone()) };
            match node.execution {
                Execution::Done => break,
                Execution::Asked => first = Some(Need::Patience),
                Execution::None => first = Some(Need::Execution(node.block.clone())),
            }
            certificate = &node.block.justify;
        }
        first.unwrap_or(Need::Nothing)
    }

    /// Whether the block is executed, or the last final one.
    pub fn is_executed(&self, block: &BlockHash) -> bool {
        *block == self.root || self.nodes.get(block).is_some_and(|node| node.execution == Execution::Done)
    }

    /// The block, if its execution was not asked for yet; from now on it was.
    pub fn ask(&mut self, block: &BlockHash) -> Option<Arc<ProposedBlock>> {
        let node = self.nodes.get_mut(block).filter(|node| node.execution == Execution::None)?;
        node.execution = Execution::Asked;
        Some(node.block.clone())
    }

    /// Execution was asked for.
    pub fn asked(&mut self, block: &BlockHash) {
        self.set(block, Execution::Asked);
    }

    /// Execution is done, all roots agree.
    pub fn executed(&mut self, block: &BlockHash) {
        self.set(block, Execution::Done);
    }

    fn set(&mut self, block: &BlockHash, execution: Execution) {
        if let Some(node) = self.nodes.get_mut(block) {
            node.execution = execution;
        }
    }

    /// The block and its ancestors up to the last final one, ascending; nothing if that path is not whole.
    pub fn path(&self, block: &BlockHash) -> Option<Vec<Arc<ProposedBlock>>> {
        let mut path = Vec::new();
        let mut at = *block;
        while at != self.root {
            let node = self.nodes.get(&at)?;
            path.push(node.block.clone());
            at = node.block.justify.block;
        }
        path.reverse();
        Some(path)
    }

    /// Those blocks of the path to `block` that are not on disk yet; from now on they count as stored.
    pub fn take_unstored(&mut self, block: &BlockHash) -> Vec<Arc<ProposedBlock>> {
        let mut fresh = Vec::new();
        let mut at = *block;
        while let Some(node) = self.nodes.get_mut(&at) {
            if !node.stored {
                node.stored = true;
                fresh.push(node.block.clone());
            }
            at = node.block.justify.block;
        }
        fresh.reverse();
        fresh
    }

    /// A block is final: the tree grows from it, and what conflicts with it is forgotten.
    pub fn finalize(&mut self, block: BlockHash, height: Height) {
        self.root = block;
        self.height = height;
        let mut order: Vec<_> =
            self.nodes.values().map(|node| (node.block.header().height, node.block.clone())).collect();
        order.sort_by_key(|(height, _)| *height);
        let mut gone = BTreeSet::new();
        for (at, block) in order {
            let parent = block.justify.block;
            let child_of_other = at.prev() == Some(height) && parent != self.root;
            if at <= height || child_of_other || gone.contains(&parent) {
                let hash = block.block.hash();
                gone.insert(hash);
                gone.remove(&self.root);
                self.nodes.remove(&hash);
            }
        }
    }
}

//! Disk: what one machine has durable, and nothing else.
//!
//! A write is one transaction: it is durable whole or not at all. When it becomes durable is the scheduler's choice.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::consensus::SafetyRecord;
use crate::ledger::{Executed, MemoryState};
use crate::types::BlockHash;
use crate::wire::{Certificate, ProposedBlock};

/// Final blocks, each with its hash, and the commit certificates that are known for some of them.
#[derive(Clone, Debug, Default)]
pub struct Chain {
    blocks: Vec<Arc<ProposedBlock>>,
    heights: BTreeMap<BlockHash, u64>,
    commits: BTreeMap<u64, Certificate>,
}

impl Chain {
    /// Height of the last final block.
    pub fn height(&self) -> u64 {
        self.blocks.len() as u64
    }
    /// All blocks, from height 1 on.
    pub fn blocks(&self) -> &[Arc<ProposedBlock>] {
        &self.blocks
    }
    /// Whether the block is final here.
    pub fn get(&self, block: &BlockHash) -> Option<&Arc<ProposedBlock>> {
        self.heights.get(block).and_then(|height| self.blocks.get(*height as usize - 1))
    }
    /// The commit certificates, by height.
    pub fn commits(&self) -> &BTreeMap<u64, Certificate> {
        &self.commits
    }
    /// The certificate of the last final block, if there is one.
    pub fn last_commit(&self) -> Option<&Certificate> {
        self.commits.get(&self.height())
    }
    /// Appends blocks, the last of which the certificate finalizes.
    pub fn append(&mut self, blocks: &[Arc<ProposedBlock>], certificate: &Certificate) {
        for block in blocks {
            self.blocks.push(block.clone());
            self.heights.insert(block.block.hash(), self.height());
        }
        self.commits.insert(self.height(), certificate.clone());
    }
}

/// One transaction.
#[derive(Clone, Debug)]
pub enum Write {
    /// The safety record, and the blocks that it names.
    Record(Box<SafetyRecord>, Vec<Arc<ProposedBlock>>),
    /// Final blocks, and what they do to the ledger, if there is one.
    Final(Vec<Arc<ProposedBlock>>, Certificate, Vec<Arc<Executed>>),
}

/// The durable image.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    /// The safety record.
    pub record: Option<SafetyRecord>,
    /// Blocks that are not final.
    pub blocks: BTreeMap<BlockHash, Arc<ProposedBlock>>,
    /// Final blocks.
    pub chain: Chain,
    /// The ledger's state after them, if there is a ledger.
    pub state: Option<MemoryState>,
}

impl Disk {
    /// The write is durable now.
    pub fn apply(&mut self, write: Write) {
        match write {
            Write::Record(record, blocks) => {
                self.record = Some(*record);
                self.blocks.extend(blocks.into_iter().map(|block| (block.block.hash(), block)));
            }
            Write::Final(blocks, certificate, executed) => {
                self.chain.append(&blocks, &certificate);
                if let Some(state) = &mut self.state {
                    executed.iter().for_each(|executed| state.finalize(executed));
                }
                let height = self.chain.height();
                self.blocks.retain(|_, block| block.header().height.get() > height);
            }
        }
    }
    /// A block, final or not.
    pub fn find(&self, block: &BlockHash) -> Option<&Arc<ProposedBlock>> {
        self.blocks.get(block).or_else(|| self.chain.get(block))
    }
}

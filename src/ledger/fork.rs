//! Forks: blocks executed over unfinalized ancestors, without a write.
//!
//! The smallest shell that does with blocks what `node` does, without a store: for the simulator and the tests.

use std::sync::Arc;

use super::block::{BlockContext, BlockEffects, ExecuteError, Reads, execute_block};
use super::key::Key;
use super::record::Record;
use super::tree::{self, Overlay, StateProof, TreeError, TreeReader, TreeUpdate};
use crate::types::Height;
use crate::wire::VerifiedTx;

/// What came of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Executed {
    /// The changed records, the receipts and their roots.
    pub effects: BlockEffects,
    /// The state tree after it.
    pub tree: TreeUpdate,
}

/// The state after some unfinalized blocks: a finalized base, and over it what came of each of them.
pub struct Fork<'a, B> {
    base: &'a B,
    blocks: &'a [Arc<Executed>],
}

impl<'a, B, E> Fork<'a, B>
where
    B: Reads<Error = E> + TreeReader<Error = E>,
{
    /// A branch over the finalized state: its unfinalized blocks, oldest first, none if the next block follows the base.
    pub fn new(base: &'a B, blocks: &'a [Arc<Executed>]) -> Self {
        Self { base, blocks }
    }
    /// Executes the next block of this branch. Errors: `Invalid`, `Local`.
    pub fn execute(&self, at: BlockContext, txs: &[VerifiedTx]) -> Result<Executed, ExecuteError<TreeError<E>>> {
        let effects = execute_block(self, at, txs).map_err(|error| match error {
            ExecuteError::Invalid(fault) => ExecuteError::Invalid(fault),
            ExecuteError::Local(error) => ExecuteError::Local(TreeError::Read(error)),
        })?;
        self.seal(effects).map_err(ExecuteError::Local)
    }
    /// Adds the state tree to the effects of the next block of this branch, which an `Executor` over it came to.
    /// Errors: `Read`, `Damaged`.
    pub fn seal(&self, effects: BlockEffects) -> Result<Executed, TreeError<E>> {
        let pending = self.updates();
        let tree = tree::update(&Overlay::new(self.base, &pending), effects.height, &effects.changes)?;
        Ok(Executed { effects, tree })
    }
    /// Proves a record, or its absence, after a block of this branch or of the base. Errors: `Read`, `Damaged`.
    pub fn prove(&self, height: Height, key: &Key) -> Result<StateProof, TreeError<E>> {
        let pending = self.updates();
        tree::prove(&Overlay::new(self.base, &pending), height, key)
    }
    fn updates(&self) -> Vec<&TreeUpdate> {
        self.blocks.iter().map(|block| &block.tree).collect()
    }
}

impl<B: Reads> Reads for Fork<'_, B> {
    type Error = B::Error;
    fn read(&self, key: &Key) -> Result<Option<Record>, B::Error> {
        match self.blocks.iter().rev().find_map(|block| block.effects.changes.get(key)) {
            Some(changed) => Ok(changed.clone()),
            None => self.base.read(key),
        }
    }
}

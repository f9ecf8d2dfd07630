//! Control: what an operator asks of a running node beside the ledger.

use std::sync::PoisonError;

use super::chain::Input;
use super::handle::{Handle, NodeError};
use crate::types::{Height, NodeId, limits};

impl Handle {
    /// Answers questions of peers about the chain.
    pub(super) fn answerer(&self) -> super::light::Answerer {
        super::light::Answerer { reader: self.reader().clone(), shelf: self.inner.shelf.clone() }
    }

    /// Removes the bodies of all but the last `keep` final blocks, step by step with the blocks that come, at least
    /// `limits::KEEP_BLOCKS_MIN`. Returns the height below which they go. Errors: `Bad`, `Stopping`.
    pub async fn prune(&self, keep: u64) -> Result<Height, NodeError> {
        if keep < limits::KEEP_BLOCKS_MIN {
            return Err(NodeError::Bad(format!("at least {} blocks are kept, not {keep}", limits::KEEP_BLOCKS_MIN)));
        }
        let tip = self.reader().tip().map_or(0, |tip| tip.height.get());
        let below = Height::new(tip.saturating_add(1).saturating_sub(keep));
        self.inner.chain.send(Input::Prune(below)).await.map_err(|_| NodeError::Stopping)?;
        Ok(below)
    }

    /// Cuts this node off from exactly these nodes. Errors: `Busy`.
    pub async fn set_denied(&self, nodes: Vec<NodeId>) -> Result<(), NodeError> {
        *self.inner.denied.lock().unwrap_or_else(PoisonError::into_inner) = nodes.iter().copied().collect();
        Ok(self.inner.net.set_denied(nodes).await?)
    }
    /// The nodes that this one is cut off from.
    pub fn denied(&self) -> Vec<NodeId> {
        self.inner.denied.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }
}

//! Keeper: what a storage node does for the slots that it holds, and for those that others have lost.
//!
//! It answers audits (`prover`), reads everything from time to time (`scrub`), rebuilds what is lost or leaves a draining
//! node (`repair`, by the order of `plan`), gives slots to emptier nodes (`give`), asks for pay (`settle`) and comes back when
//! the ledger has given it up (`back`). All of it follows from final blocks and can be begun again at any time.
//! Not here: the rules (`ledger`), whose slots are served to whom (`slots::serve`).

mod back;
pub mod counts;
mod give;
mod look;
mod pace;
mod plan;
mod prover;
mod rebuild;
mod repair;
mod scrub;
mod settle;

use tokio::sync::watch;

use crate::ledger::record::NodeEntry;
use crate::ledger::{Key, Record};
use crate::node::chain::ChainStatus;
use crate::node::handle::{Handle, NodeError};
use crate::node::slots::damage::Lacking;
use crate::store::{Slots, Tip};
use crate::types::{Height, NodeId};
use counts::Counts;

/// Claims read at once when all are looked through.
const CLAIMS: usize = 1_024;

/// A node that follows so many blocks behind the others still acts: under load all but the leader do.
const BEHIND_BLOCKS: u64 = 32;

/// What the workers share.
#[derive(Clone)]
struct Keeper {
    handle: Handle,
    slots: Slots,
}

/// Starts the workers of a storage node.
pub fn start(handle: &Handle, slots: &Slots) {
    let keeper = Keeper { handle: handle.clone(), slots: slots.clone() };
    handle.spawn(prover::run(keeper.clone()));
    handle.spawn(scrub::run(keeper.clone()));
    handle.spawn(repair::run(keeper.clone()));
    handle.spawn(give::run(keeper.clone()));
    handle.spawn(settle::run(keeper.clone()));
    handle.spawn(back::run(keeper));
}

impl Keeper {
    fn me(&self) -> NodeId {
        self.handle.identity().node
    }
    fn counts(&self) -> &Counts {
        &self.handle.metrics().keeper
    }
    /// Whether this node does not know yet what the chain knows, so that what it would do may be out of date.
    fn is_behind(&self) -> bool {
        let far = |status: &ChainStatus| {
            let target = status.sync_target.map_or(0, Height::get);
            target > status.core.final_height.get().saturating_add(BEHIND_BLOCKS)
        };
        self.handle.status().is_none_or(|status| far(&status))
    }
    /// Whether the node can speak for itself on the chain.
    fn has_voice(&self) -> bool {
        self.handle.identity().account.is_some()
    }
    /// This node's entry on the chain.
    fn entry(&self) -> Result<Option<NodeEntry>, NodeError> {
        match self.handle.record(&Key::Node(self.me()))? {
            Some(Record::Node(entry)) => Ok(Some(*entry)),
            _ => Ok(None),
        }
    }
    fn lacking(&self) -> &Lacking {
        self.handle.lacking()
    }
    fn tips(&self) -> Tips {
        Tips { tips: self.handle.reader().watch(), handle: self.handle.clone() }
    }
}

/// Runs work that blocks on the disk.
async fn blocking<T: Send + 'static, E>(work: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, NodeError>
where
    NodeError: From<E>,
    E: Send + 'static,
{
    Ok(tokio::task::spawn_blocking(work).await.map_err(|_| NodeError::Stopping)??)
}

/// Final blocks as they come; those that come while nobody looks are one.
struct Tips {
    tips: watch::Receiver<Option<Tip>>,
    handle: Handle,
}

impl Tips {
    /// The next height; nothing when the node stops.
    async fn next(&mut self) -> Option<Height> {
        tokio::select! {
            changed = self.tips.changed() => changed.ok()?,
            () = self.handle.stop_token().cancelled() => return None,
        }
        self.tips.borrow_and_update().as_ref().map(|tip| tip.height)
    }
}

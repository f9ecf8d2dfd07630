//! Accusations: evidence that this node has seen goes onto the ledger, which punishes once.

use std::time::Duration;

use tokio::sync::mpsc;

use super::clock::random_pause;
use super::handle::{Handle, NodeError};
use super::validator::Standing;
use crate::wire::{Action, Evidence};

/// Accusations that wait; evidence is gossiped and comes again.
pub const WAITING_MAX: usize = 64;
/// Longest pause before an accusation: all validators have seen the same, and one is enough.
const PAUSE: Duration = Duration::from_secs(2);
/// How long until one is on the ledger.
const WITHIN: Duration = Duration::from_secs(30);

/// Brings evidence onto the ledger until the node stops.
pub async fn run(handle: Handle, mut inbox: mpsc::Receiver<Evidence>) {
    loop {
        let evidence = tokio::select! {
            evidence = inbox.recv() => evidence,
            () = handle.stop_token().cancelled() => return,
        };
        let Some(evidence) = evidence else { return };
        let node = evidence.node;
        match accuse(&handle, evidence).await {
            Ok(()) | Err(NodeError::Stopping) => {}
            Err(error) => tracing::warn!(validator = ?node, %error, "evidence did not get onto the ledger"),
        }
    }
}

async fn accuse(handle: &Handle, evidence: Evidence) -> Result<(), NodeError> {
    // Others have no part in it, and nodes without an account cannot act.
    if !handle.proposes() || handle.keys().is_err() || !is_due(handle, &evidence)? {
        return Ok(());
    }
    random_pause(PAUSE).await;
    if !is_due(handle, &evidence)? {
        return Ok(());
    }
    // Without a quorum in reach it would be refused, and what was seen is told only once.
    handle.quorum().await?;
    match handle.act(Action::Accuse(Box::new(evidence)), WITHIN).await {
        // Somebody was quicker.
        Ok(_) | Err(NodeError::Rejected { code: "punished" | "no_stake", .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Whether a stake answers for it that was not punished. Errors: `Store`.
fn is_due(handle: &Handle, evidence: &Evidence) -> Result<bool, NodeError> {
    let stakes = Standing::read(handle)?.stakes;
    Ok(stakes.iter().any(|stake| stake.answers_for(&evidence.node) && !stake.punished))
}

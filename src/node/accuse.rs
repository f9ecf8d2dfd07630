//! Accusations: evidence that this node has seen goes onto the ledger, which punishes once.

use std::time::Duration;

use tokio::sync::mpsc;

use super::clock::random_pause;
use super::handle::{Handle, NodeError};
use super::validator::Standing;
use crate::ledger::record::Offence;
use crate::ledger::{Key, Record};
use crate::net::NetHandle;
use crate::store::StoreError;
use crate::types::{NodeId, limits};
use crate::wire::Tx;
use crate::wire::{self, Accusation, Action, Topic};

/// Accusations that wait; evidence is gossiped and comes again.
pub const WAITING_MAX: usize = 64;
/// Longest pause before an accusation: all validators have seen the same, and one is enough.
const PAUSE: Duration = Duration::from_secs(2);
/// How long until one is on the ledger.
const WITHIN: Duration = Duration::from_secs(30);

/// Brings evidence onto the ledger until the node stops.
pub async fn run(handle: Handle, mut inbox: mpsc::Receiver<Accusation>) {
    loop {
        let accusation = tokio::select! {
            accusation = inbox.recv() => accusation,
            () = handle.stop_token().cancelled() => return,
        };
        let Some(accusation) = accusation else { return };
        let node = accusation.node();
        match accuse(&handle, accusation).await {
            Ok(()) | Err(NodeError::Stopping) => {}
            Err(error) => tracing::warn!(?node, %error, "evidence did not get onto the ledger"),
        }
    }
}

/// Tells the network what this node has seen a node sign, and queues it for the ledger.
pub fn tell(handle: &Handle, accusation: Accusation) {
    gossip(handle.net(), &accusation);
    // A full queue has enough of it; others hear of it too.
    let _ = handle.inner.accusations.try_send(accusation);
}

/// Tells the network.
pub fn gossip(net: &NetHandle, accusation: &Accusation) {
    let (node, what) = (accusation.node(), accusation.name());
    tracing::error!(?node, what, "a node signed what no honest one does; the evidence is gossiped");
    if let Err(error) = net.gossip(Topic::Evidence, wire::encode(accusation)) {
        tracing::warn!(%error, "evidence was not gossiped");
    }
}

async fn accuse(handle: &Handle, accusation: Accusation) -> Result<(), NodeError> {
    // Others have no part in it, and nodes without an account cannot act.
    if !handle.proposes() || handle.keys().is_err() || !is_due(handle, &accusation)? {
        return Ok(());
    }
    random_pause(PAUSE).await;
    if !is_due(handle, &accusation)? {
        return Ok(());
    }
    // Without a quorum in reach it would be refused, and what was seen is told only once.
    handle.quorum().await?;
    match handle.act(Action::Accuse(Box::new(accusation)), WITHIN).await {
        // Somebody was quicker.
        Ok(_) | Err(NodeError::Rejected { code: "punished" | "no_stake" | "no_node", .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// What nodes were punished for, by node. Errors: `Store`.
pub fn offences(handle: &Handle) -> Result<Vec<(NodeId, Offence)>, NodeError> {
    let snapshot = handle.snapshot()?;
    let (mut offences, mut after) = (Vec::new(), None::<Vec<u8>>);
    loop {
        let page = snapshot.state_scan(&Key::offences(), after.as_deref(), 1_024)?;
        let Some((last, _)) = page.last() else { return Ok(offences) };
        after = Some(last.clone());
        for (key, bytes) in page {
            let damaged = || StoreError::corrupted("state.v1", hex::encode(&key));
            let key = Key::from_bytes(&key).ok_or_else(damaged)?;
            match (&key, Record::from_bytes(&key, &bytes).map_err(|_| damaged())?) {
                (Key::Offence(node), Record::Offence(offence)) => offences.push((*node, offence)),
                _ => return Err(damaged().into()),
            }
        }
    }
}

/// What proves an offence; nothing where the block's body is not kept. Errors: `Store`.
pub fn proof_of(handle: &Handle, offence: &Offence) -> Result<Option<Accusation>, NodeError> {
    let Some(done) = handle.final_tx(&offence.tx)? else { return Ok(None) };
    let Some(block) = handle.snapshot()?.block(done.place.height)? else { return Ok(None) };
    let txs: Vec<Tx> = wire::decode(&block.block.payload, limits::BLOCK_PAYLOAD_BYTES_MAX).unwrap_or_default();
    let tx = usize::try_from(done.place.index).ok().and_then(|index| txs.into_iter().nth(index));
    Ok(tx.and_then(|tx| match tx.body.action {
        Action::Accuse(accusation) => Some(*accusation),
        _ => None,
    }))
}

/// Whether there is somebody to punish for it who was not punished. Errors: `Store`.
fn is_due(handle: &Handle, accusation: &Accusation) -> Result<bool, NodeError> {
    let node = accusation.node();
    if handle.record(&Key::Offence(node))?.is_some() {
        return Ok(false);
    }
    let stakes = Standing::read(handle)?.stakes;
    let stake = stakes.iter().find(|stake| stake.answers_for(&node)).map(|stake| !stake.punished);
    match (stake, accusation) {
        (Some(due), _) => Ok(due),
        (None, Accusation::Contradiction(_)) => Ok(false),
        (None, Accusation::FalseReceipt(_)) => Ok(matches!(handle.record(&Key::Node(node))?, Some(Record::Node(_)))),
    }
}

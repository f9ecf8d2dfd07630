//! Standing: tells the network what the ledger says of nodes, from which each peer's rates follow.

use std::collections::BTreeMap;
use std::time::Duration;

use super::handle::{Handle, NodeError};
use crate::net::Standing;
use crate::types::NodeId;

/// Reputations change with epochs, so the ledger is looked at again no sooner.
const EVERY: Duration = Duration::from_secs(3);

/// Looks with final blocks, now and then, until the node stops.
pub async fn run(handle: Handle) {
    let mut tips = handle.reader().watch();
    loop {
        let reading = handle.clone();
        match tokio::task::spawn_blocking(move || read(&reading)).await {
            Ok(Ok(standings)) => handle.net().set_standings(standings),
            Ok(Err(error)) => tracing::warn!(%error, "what the ledger says of nodes cannot be read"),
            // It only fails by a panic, which is logged.
            Err(_) => {}
        }
        let next = async {
            tokio::time::sleep(EVERY).await;
            tips.changed().await
        };
        tokio::select! {
            changed = next => if changed.is_err() { return },
            () = handle.stop_token().cancelled() => return,
        }
    }
}

fn read(handle: &Handle) -> Result<BTreeMap<NodeId, Standing>, NodeError> {
    let active = handle.nodes()?.into_iter().filter(|entry| entry.active);
    let registered = active.map(|entry| (entry.announcement.node, Standing::Registered(entry.audit.reputation)));
    let mut standings: BTreeMap<_, _> = registered.collect();
    let set = handle.status().map(|status| status.set);
    standings.extend(set.iter().flat_map(|set| set.members()).map(|member| (member.node, Standing::Validator)));
    Ok(standings)
}

//! Status: how every node of a testnet is.

use anyhow::Result;
use serde::Serialize;
use serde_json::json;

use super::state::{NodeState, State};
use crate::cli::client::Client;
use crate::cli::context::{Context, NOTHING_CHANGED, block_on};
use crate::cli::errors::{CliError, Exit};

/// How one node is.
#[derive(Clone, Debug, Serialize)]
pub struct NodeStatus {
    /// Its name.
    pub name: String,
    /// Its role.
    pub role: String,
    /// Its id.
    pub node: String,
    /// Its account.
    pub account: String,
    /// Its home.
    pub home: String,
    /// Its process, if it runs.
    pub pid: Option<u32>,
    /// Where its API answers.
    pub api: String,
    /// Its last final block.
    pub height: Option<u64>,
    /// The state root after that block.
    pub state_root: Option<String>,
    /// How the network looks from it: ok, behind, halted or partitioned.
    pub network: Option<String>,
    /// Whether it runs, answers and is ready.
    pub ok: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Prints the status of all nodes. Errors: with `check`, exit 3 unless all are well.
pub fn run(context: &Context, state: &State, check: bool) -> Result<()> {
    let nodes = block_on(NOTHING_CHANGED, all(state))?;
    let sick: Vec<_> = nodes.iter().filter(|node| !node.ok).map(|node| node.name.as_str()).collect();
    let dir = state.dir().display().to_string();
    let value = json!({ "dir": dir, "chain": state.chain, "ok": sick.is_empty(), "nodes": nodes });
    context.out.result(&value, || text(&nodes))?;
    if check && !sick.is_empty() {
        return Err(CliError::new(Exit::Partial, format!("not well: {}", sick.join(", "))).into());
    }
    Ok(())
}

/// A table of nodes.
pub fn text(nodes: &[NodeStatus]) -> String {
    super::rows(nodes)
}

/// Every node's status, asked at the same time.
pub async fn all(state: &State) -> Result<Vec<NodeStatus>> {
    futures::future::try_join_all(state.nodes.iter().map(|node| one(state, node))).await
}

/// One node's status. A node that does not answer has one too.
pub async fn one(state: &State, node: &NodeState) -> Result<NodeStatus> {
    let home = state.home(&node.name)?;
    let mut status = NodeStatus {
        name: node.name.clone(),
        role: node.role.clone(),
        node: node.node.clone(),
        account: node.account.clone(),
        home: home.root().display().to_string(),
        pid: home.running()?,
        api: node.api.clone(),
        height: None,
        state_root: None,
        network: None,
        ok: false,
        reason: None,
    };
    if status.pid.is_none() {
        status.reason = Some("not running".to_owned());
        return Ok(status);
    }
    let answer = match Client::of(&home) {
        Ok(client) => client.status().await,
        Err(error) => Err(error),
    };
    match answer {
        Ok(view) => {
            status.height = Some(view.height);
            status.state_root = Some(view.state_root);
            status.network = Some(view.network.state);
            status.ok = view.ready;
            status.reason = view.reason;
        }
        Err(error) => status.reason = Some(CliError::of(&error).message),
    }
    Ok(status)
}

//! How the network looks from the node: whether it is ready, whom it misses, and the mark on answers that may be old.

use axum::extract::{Request, State};
use axum::http::{HeaderName, Method};
use axum::middleware::Next;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::fill;
use super::server::Api;
use crate::ledger::record::NodeEntry;
use crate::node::Handle;
use crate::node::partition::{BEHIND_MAX, Missing, Reach, Standing};

/// On answers to `GET` and `HEAD` below `/v1` while the node cannot know whether more is final elsewhere: the seconds since it
/// last learnt of a final block. `Age` would be a cache's word about one answer, and `Warning` has left HTTP (RFC 9111, 5.5).
pub const STALE: HeaderName = HeaderName::from_static("trullo-stale");

/// A validator that is away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MissingView {
    /// The validator.
    pub node: String,
    /// Its name, when its registration is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its voting weight.
    pub power: u64,
    /// When it was heard last, or when this node began to listen, milliseconds since 1970.
    pub since_ms: u64,
    /// Its word still comes here through others: it runs, and only the link with it is gone.
    pub relayed: bool,
}

/// How the network looks from a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NetworkView {
    /// `ok`; `behind`: others have more; `halted`: a quorum is in reach and nothing becomes final; `partitioned`: no quorum is in
    /// reach.
    pub state: String,
    /// Since when, milliseconds since 1970; 0 if since the start.
    pub since_ms: u64,
    /// Weight of the validators in reach, this node's own with them.
    pub power_heard: u64,
    /// The least weight that makes a block final.
    pub power_quorum: u64,
    /// Weight of all validators.
    pub power: u64,
    /// Validators that are away; there may be some while all is well.
    pub missing: Vec<MissingView>,
}

/// A validator that is away, with its name.
pub fn missing(missing: &Missing, nodes: &[NodeEntry]) -> MissingView {
    MissingView {
        node: missing.node.to_string(),
        name: fill::name_of(&missing.node, nodes),
        power: missing.power,
        since_ms: missing.since.get(),
        relayed: missing.relayed,
    }
}

/// How the network looks.
pub fn network(standing: &Standing, nodes: &[NodeEntry]) -> NetworkView {
    let verdict = &standing.verdict;
    NetworkView {
        state: verdict.reach.name().to_owned(),
        since_ms: verdict.since.get(),
        power_heard: verdict.heard,
        power_quorum: verdict.quorum,
        power: verdict.total,
        missing: verdict.missing.iter().map(|away| missing(away, nodes)).collect(),
    }
}

/// Why the node does not follow the chain, if it does not.
pub fn not_ready(handle: &Handle) -> Option<String> {
    let Some(status) = handle.status() else { return Some("starting".to_owned()) };
    if let Some(low) = handle.disk_low() {
        return Some(low.to_string());
    }
    let standing = handle.standing();
    if standing.verdict.reach == Reach::Partitioned {
        return Some(standing.text(handle.clock().now()));
    }
    if let Some(target) = status.sync_target {
        return Some(format!("catching up to height {target}"));
    }
    let me = handle.identity().node;
    let others = status.set.members().iter().any(|member| member.node != me);
    if others && handle.net().connected().borrow().is_empty() {
        return Some("no other node is connected".to_owned());
    }
    let behind = handle.behind();
    if behind > BEHIND_MAX {
        return Some(format!("{behind} blocks behind what validators have as final"));
    }
    match standing.verdict.reach {
        Reach::Halted => {
            let age = handle.final_age().as_secs();
            Some(format!("{}: none for {age} s", standing.text(handle.clock().now())))
        }
        Reach::Ok | Reach::Behind | Reach::Partitioned => None,
    }
}

/// Marks what was read while the node cannot know whether more is final elsewhere.
pub async fn mark(State(api): State<Api>, request: Request, next: Next) -> Response {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD) && request.uri().path().starts_with("/v1/");
    let mut response = next.run(request).await;
    if reads && response.status().is_success() && api.handle.standing().is_stale() {
        response.headers_mut().insert(STALE, api.handle.final_age().as_secs().into());
    }
    response
}

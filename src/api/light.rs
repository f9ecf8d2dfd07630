//! The interface of a light node: questions about the chain, answered by what peers prove. No token: it has nothing but what
//! everybody may know, and changes nothing.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::http::{Method, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::bundle::describe;
use super::connections::{self, Bounds};
use super::fill;
use super::problem::Problem;
use crate::ledger::{Key, Record};
use crate::net::NetHandle;
use crate::node::light::{Checkpoint, Light, LightError, Proven};
use crate::types::{AccountId, FileId, Height};

type Shared = Arc<Light<NetHandle>>;

/// Listens; what is returned beside the address answers until it is told to stop. Errors: the address cannot be had.
pub async fn serve(
    light: Shared,
    listen: SocketAddr,
    stop: CancellationToken,
) -> std::io::Result<(SocketAddr, impl Future<Output = ()>)> {
    let listener = TcpListener::bind(listen).await?;
    let address = listener.local_addr()?;
    Ok((address, connections::run(listener, routes(light), Bounds::STANDARD, stop)))
}

fn routes(light: Shared) -> Router {
    Router::new()
        .route("/livez", get(|| async { Json(json!({ "ok": true })) }))
        .route("/readyz", get(ready))
        .route("/status", get(status))
        .route("/v1/status", get(status))
        .route("/v1/validators", get(validators))
        .route("/v1/blocks/{id}", get(block))
        .route("/v1/accounts/{id}", get(account))
        .route("/v1/files/{id}", get(file))
        .fallback(|| async { Problem::not_found("a light node has no such route; see `trullo light --help`") })
        .layer(from_fn(only_this_machine))
        .with_state(light)
}

/// A page of another site must not ask under a name of its own that it let point here.
async fn only_this_machine(request: Request, next: Next) -> Response {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return Problem::refused(axum::http::StatusCode::METHOD_NOT_ALLOWED, "a light node changes nothing")
            .into_response();
    }
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let is_name = host.parse::<SocketAddr>().is_err() && host.parse::<std::net::IpAddr>().is_err();
    if is_name && host.split(':').next() != Some("localhost") {
        return Problem::forbidden(format!("host {host:?} is not this machine")).into_response();
    }
    next.run(request).await
}

impl From<LightError> for Problem {
    fn from(error: LightError) -> Self {
        match error {
            LightError::Nobody(text) => {
                Self::unavailable(text).hint("give more peers: --peer; see /status for what they did")
            }
            LightError::Conflict(_) => Self::unavailable(error.to_string()),
        }
    }
}

fn status_value(light: &Light<NetHandle>) -> Value {
    let status = light.status();
    let latest = status.latest.as_ref();
    let checkpoint = latest.map(|header| Checkpoint { height: header.height, hash: header.hash() }.to_string());
    let peer = |(node, peer): (&crate::types::NodeId, &crate::node::light::PeerState)| json!({ "node": node.to_string(), "height": peer.height.map(Height::get), "dropped": peer.dropped });
    json!({
        "chain": status.base.chain.to_string(),
        "height": latest.map_or(status.base.height, |header| header.height).get(),
        "checkpoint": checkpoint,
        "state_root": latest.map(|header| header.state_root.to_string()),
        "validators": status.validators,
        "stale_ms": u64::try_from(status.stale.as_millis()).unwrap_or(u64::MAX),
        "trusted_from": Checkpoint { height: status.base.height, hash: status.base.hash }.to_string(),
        "peers": status.peers.iter().map(peer).collect::<Vec<_>>(),
        "conflict": status.conflict.map(Height::get),
    })
}

async fn status(State(light): State<Shared>) -> Json<Value> {
    Json(status_value(&light))
}

async fn ready(State(light): State<Shared>) -> Result<Json<Value>, Problem> {
    match light.status().latest {
        Some(_) => Ok(Json(json!({ "ok": true }))),
        None => Err(Problem::unavailable("no final header was proven yet")),
    }
}

async fn validators(State(light): State<Shared>) -> Json<Value> {
    let trusted = light.newest();
    let member = |member: &crate::wire::Validator| json!({ "node": member.node.to_string(), "power": member.power });
    Json(json!({
        "height": trusted.height.get(),
        "validators": trusted.set.members().iter().map(member).collect::<Vec<_>>(),
    }))
}

async fn block(State(light): State<Shared>, Path(id): Path<String>) -> Result<Json<Value>, Problem> {
    let wrong =
        || Problem::bad(format!("{id:?} is no height and not `latest`; a light node knows blocks by their height"));
    let height = match id.as_str() {
        "latest" => None,
        text => Some(text.parse().map(Height::new).map_err(|_| wrong())?),
    };
    let header = light.header(height).await?;
    let header = header.ok_or_else(|| Problem::not_found(format!("block {id} is not final yet")))?;
    // Bodies are not proven here, so nothing is said of them.
    let mut view = serde_json::to_value(fill::header(&header)).unwrap_or_default();
    for field in ["txs", "bytes", "pruned"] {
        view.as_object_mut().map(|view| view.remove(field));
    }
    Ok(Json(view))
}

/// A record's JSON with what proves it.
fn proven(proven: &Proven, mut value: Value) -> Json<Value> {
    if let Some(fields) = value.as_object_mut() {
        let checkpoint = Checkpoint { height: proven.height, hash: proven.hash }.to_string();
        fields.insert("height".to_owned(), proven.height.get().into());
        fields.insert(
            "proof".to_owned(),
            json!({
                "checkpoint": checkpoint,
                "state_root": proven.state_root.to_string(),
                "signers": proven.signers,
                "peer": proven.peer.to_string(),
            }),
        );
    }
    Json(value)
}

async fn account(State(light): State<Shared>, Path(id): Path<String>) -> Result<Json<Value>, Problem> {
    let account: AccountId = id.parse().map_err(|error| Problem::bad(format!("account {id:?}: {error}")))?;
    let found = light.record(&Key::Account(account)).await?;
    match &found.record {
        Some(Record::Account(record)) => {
            let (balance, nonce, stored) = (record.balance.get(), record.nonce, record.stored.get());
            let value = json!({ "id": account.to_string(), "balance": balance, "nonce": nonce, "stored": stored });
            Ok(proven(&found, value))
        }
        _ => Err(absent("account", &id, &found)),
    }
}

async fn file(State(light): State<Shared>, Path(id): Path<String>) -> Result<Json<Value>, Problem> {
    let file: FileId = id.parse().map_err(|error| Problem::bad(format!("file {id:?}: {error}")))?;
    let found = light.record(&Key::File(file)).await?;
    match &found.record {
        Some(record) => {
            let mut value = describe(record);
            value.as_object_mut().map(|fields| fields.insert("id".to_owned(), file.to_string().into()));
            Ok(proven(&found, value))
        }
        None => Err(absent("file", &id, &found)),
    }
}

/// That there is none is proven too.
fn absent(what: &str, id: &str, found: &Proven) -> Problem {
    let signers = found.signers;
    Problem::not_found(format!(
        "{what} {id} is not on the chain at height {}: proven, {signers} validators signed",
        found.height
    ))
}

//! The server: routes, limits, and a clean end.

use std::net::SocketAddr;
use std::time::Instant;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use tokio::net::TcpListener;

use super::auth::{self, Guard};
use super::connections::{self, Bounds};
use super::problem::Problem;
use super::snapshots::Snapshots;
use super::{access, bundle, chain, files, linger, measured, snapshots, storage, tables, tree, uploads};
use crate::node::Handle;

/// Bodies other than files, bytes.
const BODY_BYTES_MAX: usize = 1 << 20;

/// What every handler is given.
#[derive(Clone)]
pub struct Api {
    /// The node.
    pub handle: Handle,
    /// When it began to answer.
    pub started: Instant,
    /// Views that several requests share.
    pub snapshots: Snapshots,
}

/// A running server.
pub struct ApiServer {
    /// Where it listens.
    pub address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

impl ApiServer {
    /// Waits for its end, which follows the node's stop.
    pub async fn finish(self) {
        // A connection that stays open must not keep the process.
        let _ = tokio::time::timeout(std::time::Duration::from_secs(2), self.task).await;
    }
}

/// Listens and answers until the node stops. Errors: the address cannot be had.
pub async fn serve(handle: Handle, address: SocketAddr, token: &str) -> std::io::Result<ApiServer> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    let guard = Guard::new(token, address);
    let stop = handle.stop_token().clone();
    let router = router(Api { handle, started: Instant::now(), snapshots: Snapshots::default() }, guard);
    let task = tokio::spawn(connections::run(listener, router, Bounds::STANDARD, stop));
    Ok(ApiServer { address, task })
}

fn router(api: Api, guard: Guard) -> Router {
    let open = Router::new()
        .route("/livez", get(chain::livez))
        .route("/readyz", get(chain::readyz))
        .route("/status", get(chain::status))
        .route("/metrics", get(chain::metrics));
    let files =
        Router::new().route("/v1/files", post(uploads::put).get(files::list)).layer(DefaultBodyLimit::disable());
    let contents = Router::new().route("/v1/tree/content", post(tree::put_content)).layer(DefaultBodyLimit::disable());
    let closed = Router::new()
        .route("/v1/status", get(chain::status))
        .route("/v1/blocks", get(chain::blocks))
        .route("/v1/blocks/{id}", get(chain::block))
        .route("/v1/txs", post(chain::submit))
        .route("/v1/txs/{id}", get(chain::tx))
        .route("/v1/transfers", post(chain::transfer))
        .route("/v1/accounts/{id}", get(chain::account))
        .route("/v1/validators", get(chain::validators))
        .route("/v1/nodes", get(chain::nodes))
        .route("/v1/peers", get(chain::peers))
        .route("/v1/events", get(chain::events))
        .route("/v1/snapshots", post(snapshots::create))
        .route("/v1/tables/{table}", get(tables::table))
        .route("/v1/files/{id}", get(files::get).delete(files::delete))
        .route("/v1/files/{id}/info", get(files::info))
        .route("/v1/files/{id}/health", get(storage::file))
        .route("/v1/files/{id}/renew", post(storage::renew))
        .route("/v1/storage/audits", get(storage::audits))
        .route("/v1/storage/health", get(storage::all))
        .route("/v1/metrics/consensus", get(measured::consensus))
        .route("/v1/storage/drain", post(storage::drain))
        .route("/v1/proofs/file/{id}", get(bundle::file))
        .route("/v1/proofs/account/{id}", get(bundle::account))
        .route("/v1/s3/keys", post(access::add).get(access::list))
        .route("/v1/s3/keys/{id}", delete(access::remove))
        .route("/v1/admin/links", post(chain::links))
        .route("/v1/admin/stop", post(chain::stop))
        .route("/v1/tree/stat", get(tree::stat))
        .route("/v1/tree/list", get(tree::list))
        .route("/v1/tree/file", get(tree::get))
        .route("/v1/tree/staged", post(tree::staged))
        .route("/v1/tree/changes", post(tree::change))
        .route("/v1/tree/collect", post(tree::collect))
        .route("/v1/tree/renew", post(tree::renew))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .merge(files)
        .merge(contents)
        .route_layer(from_fn_with_state(guard.clone(), auth::token));
    open.merge(closed)
        .fallback(|| async { Problem::not_found("there is no such route") })
        .layer(from_fn(problem_bodies))
        .layer(from_fn_with_state(guard, auth::same_origin))
        .layer(from_fn(linger::linger))
        .with_state(api)
}

/// Errors that the framework makes by itself, as problem JSON like all others.
async fn problem_bodies(request: axum::extract::Request, next: axum::middleware::Next) -> Response {
    let response = next.run(request).await;
    let status = response.status();
    let kind = response.headers().get(axum::http::header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let ours = kind.is_some_and(|kind| kind.starts_with("application/problem"));
    if !status.is_client_error() || ours {
        return response;
    }
    let text = axum::body::to_bytes(response.into_body(), 4_096).await.unwrap_or_default();
    let detail = String::from_utf8_lossy(&text).into_owned();
    let detail = if detail.is_empty() { status.canonical_reason().unwrap_or("refused").to_lowercase() } else { detail };
    Problem::refused(status, detail).into_response()
}

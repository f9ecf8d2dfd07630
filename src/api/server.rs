//! The server: routes, limits, and a clean end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::header;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use tokio::net::TcpListener;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::accounts::Accounts;
use super::auth::{self, Guard};
use super::caller::{self, Scope};
use super::connections::{self, Bounds};
use super::openapi::{self, Document};
use super::problem::Problem;
use super::snapshots::Snapshots;
use super::{
    access, bundle, chain, evidence, files, linger, measured, network, page, sharing, sign_in, signing, snapshots,
    stats, storage, tables, tree, uploads, validator,
};
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
    /// The users.
    pub accounts: Arc<Accounts>,
    /// Name of the page's cookie.
    pub cookie: Arc<str>,
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
    let accounts = Arc::new(Accounts::new(handle.clone()));
    let guard = Guard::new(token, address).of(handle.clone(), accounts.clone());
    let stop = handle.stop_token().clone();
    let (expiring, until) = (accounts.clone(), stop.clone());
    handle.spawn(async move {
        until.run_until_cancelled(expiring.tokens.expire()).await;
    });
    let cookie = guard.cookie();
    let api = Api { handle, started: Instant::now(), snapshots: Snapshots::default(), accounts, cookie };
    let task = tokio::spawn(connections::run(listener, router(api, guard), Bounds::STANDARD, stop));
    Ok(ApiServer { address, task })
}

/// Routes for which a caller needs this scope.
fn closed(scope: Scope, routes: OpenApiRouter<Api>) -> OpenApiRouter<Api> {
    routes.route_layer(from_fn(move |request, next| caller::require(scope, request, next)))
}

/// Every route, with its documentation and its guard. What is not for users is for the node's own token alone.
pub(super) fn routes() -> OpenApiRouter<Api> {
    let open = OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(chain::livez))
        .routes(routes!(chain::readyz))
        .routes(routes!(chain::status))
        .routes(routes!(chain::metrics))
        .routes(routes!(openapi::openapi))
        .routes(routes!(sign_in::register))
        .routes(routes!(sign_in::login));
    let any = OpenApiRouter::new().routes(routes!(sign_in::logout)).routes(routes!(sign_in::me));
    let read = OpenApiRouter::new()
        .routes(routes!(chain::status_v1))
        .routes(routes!(chain::tx))
        .routes(routes!(chain::account))
        .routes(routes!(chain::validators))
        .routes(routes!(validator::status))
        .routes(routes!(evidence::list))
        .routes(routes!(evidence::export))
        .routes(routes!(chain::nodes))
        .routes(routes!(stats::stats))
        .routes(routes!(stats::blocks))
        .routes(routes!(stats::peers))
        .routes(routes!(files::list))
        .routes(routes!(files::get, files::head))
        .routes(routes!(files::info))
        .routes(routes!(storage::file))
        .routes(routes!(storage::audits))
        .routes(routes!(measured::consensus))
        .routes(routes!(bundle::file))
        .routes(routes!(bundle::account))
        .routes(routes!(sharing::list))
        .routes(routes!(sharing::list_all))
        .routes(routes!(sharing::shared))
        .routes(routes!(sharing::verify))
        .routes(routes!(tree::stat))
        .routes(routes!(tree::list))
        .routes(routes!(tree::get));
    let write = OpenApiRouter::new()
        .routes(routes!(storage::renew))
        .routes(routes!(tree::staged))
        .routes(routes!(tree::change))
        .routes(routes!(tree::renew));
    let upload = OpenApiRouter::new()
        .routes(routes!(uploads::put))
        .routes(routes!(tree::put_content))
        .layer(DefaultBodyLimit::disable());
    let delete = OpenApiRouter::new().routes(routes!(files::delete)).routes(routes!(tree::collect));
    let share = OpenApiRouter::new().routes(routes!(sharing::put, sharing::delete)).routes(routes!(sharing::cap));
    let account = OpenApiRouter::new().routes(routes!(chain::transfer)).routes(routes!(sign_in::password));
    let admin = OpenApiRouter::new()
        .routes(routes!(chain::blocks))
        .routes(routes!(chain::block))
        .routes(routes!(chain::submit))
        .routes(routes!(chain::events))
        .routes(routes!(snapshots::create))
        .routes(routes!(tables::table))
        .routes(routes!(storage::all))
        .routes(routes!(storage::drain))
        .routes(routes!(validator::join))
        .routes(routes!(validator::leave))
        .routes(routes!(validator::rotate_key))
        .routes(routes!(validator::unjail))
        .routes(routes!(validator::ready))
        .routes(routes!(evidence::submit))
        .routes(routes!(signing::show))
        .routes(routes!(signing::back_up))
        .routes(routes!(chain::links))
        .routes(routes!(chain::prune))
        .routes(routes!(chain::stop))
        .routes(routes!(access::add, access::list))
        .routes(routes!(access::remove))
        .routes(routes!(sign_in::users))
        .routes(routes!(sign_in::remove_user));
    open.merge(any.route_layer(from_fn(caller::anybody)))
        .merge(closed(Scope::Read, read))
        .merge(closed(Scope::Write, write))
        .merge(closed(Scope::Delete, delete))
        .merge(closed(Scope::Share, share))
        .merge(closed(Scope::Account, account))
        .merge(closed(Scope::Admin, admin))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .merge(closed(Scope::Write, upload))
}

fn router(api: Api, guard: Guard) -> Router {
    Router::from(routes())
        .merge(page::routes())
        .fallback(|| async { Problem::not_found("there is no such route") })
        .layer(from_fn_with_state(api.clone(), network::mark))
        .layer(from_fn_with_state(guard.clone(), auth::identify))
        .layer(from_fn(problem_bodies))
        .layer(from_fn_with_state(guard, auth::same_origin))
        .layer(from_fn(linger::linger))
        .with_state(api)
}

/// Errors that the framework makes by itself, as problem JSON like all others.
async fn problem_bodies(request: axum::extract::Request, next: axum::middleware::Next) -> Response {
    let response = next.run(request).await;
    let status = response.status();
    let allow = response.headers().get(header::ALLOW).cloned();
    let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    // The page's are for a person.
    let ours = kind.is_some_and(|kind| kind.starts_with("application/problem") || kind.starts_with("text/html"));
    if !status.is_client_error() || ours {
        return response;
    }
    let text = axum::body::to_bytes(response.into_body(), 4_096).await.unwrap_or_default();
    let detail = String::from_utf8_lossy(&text).into_owned();
    let detail = if detail.is_empty() { status.canonical_reason().unwrap_or("refused").to_lowercase() } else { detail };
    let mut problem = Problem::refused(status, detail).into_response();
    problem.headers_mut().extend(allow.map(|methods| (header::ALLOW, methods)));
    problem
}

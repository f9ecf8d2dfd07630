//! The page: the same interface for a person with a browser. Made on the server, with one small script and one style of its own;
//! nothing comes from elsewhere. Logging in, the list, downloads, deletions and uploads work without the script, which adds progress.
//!
//! The login is in a cookie that scripts cannot read and other sites cannot send. What changes something comes by POST from this
//! page (`auth`).
//! Not here: what the routes of programs do (`files`, `uploads`), what the page looks like (`view`).

mod view;
mod words;

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, Form, Path, Query, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use maud::Markup;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::auth::Client;
use super::caller::{Caller, Scope, Who};
use super::files::{file_id, page as files_page};
use super::problem::Problem;
use super::server::Api;
use super::uploads::{self, PutQuery};
use super::views::FileView;
use super::{files, fill};
use crate::config::user::UserName;
use crate::ledger::record::NodeEntry;
use crate::types::FileId;

/// Files on one page.
const PAGE: usize = 50;
/// Only what this server sends is loaded, and nobody frames it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; form-action 'self'; \
                      base-uri 'none'; frame-ancestors 'none'";

/// The routes of the page.
pub(super) fn routes() -> Router<Api> {
    let upload = Router::new().route("/upload", post(upload)).layer(DefaultBodyLimit::disable());
    Router::new()
        .route("/", get(list))
        .route("/login", get(login_form).post(login))
        .route("/logout", post(logout))
        .route("/files/{id}", get(file))
        .route("/files/{id}/delete", get(delete_form).post(delete))
        .route("/assets/page.css", get(style))
        .route("/assets/page.js", get(script))
        .layer(DefaultBodyLimit::max(16 << 10))
        .merge(upload)
        .layer(from_fn(protect))
}

async fn protect(request: Request, next: Next) -> Response {
    let mut answer = next.run(request).await;
    let headers = answer.headers_mut();
    let set = |name: HeaderName, value: &'static str| (name, HeaderValue::from_static(value));
    headers.extend([
        set(header::CONTENT_SECURITY_POLICY, POLICY),
        set(header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        set(header::X_FRAME_OPTIONS, "DENY"),
        // With `no-referrer` browsers would not say where a form comes from, and it would be refused.
        set(header::REFERRER_POLICY, "same-origin"),
    ]);
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    answer
}

/// Text that only changes with the program.
fn asset(kind: &'static str, text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache")], text).into_response()
}

async fn style() -> Response {
    asset("text/css; charset=utf-8", include_str!("page.css"))
}

async fn script() -> Response {
    asset("text/javascript; charset=utf-8", include_str!("page.js"))
}

/// A failure, for a person.
struct Failed(Problem);

impl<T: Into<Problem>> From<T> for Failed {
    fn from(problem: T) -> Self {
        Self(problem.into())
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        if self.0.status() == StatusCode::UNAUTHORIZED {
            return Redirect::to("/login").into_response();
        }
        (self.0.status(), view::failure(self.0.detail())).into_response()
    }
}

/// The one who is logged in. Errors: 401, which leads to the login.
fn user(caller: Option<Caller>, scope: Scope) -> Result<Caller, Failed> {
    let caller = caller.ok_or_else(Problem::unauthorized)?;
    caller.may(scope)?;
    Ok(caller)
}

fn name(caller: &Caller) -> String {
    match &caller.who {
        Who::User { name, .. } => name.to_string(),
        Who::Owner => "owner of this node".to_owned(),
    }
}

#[derive(Deserialize)]
struct ListQuery {
    after: Option<String>,
}

async fn list(caller: Option<Caller>, Query(query): Query<ListQuery>) -> Result<Markup, Failed> {
    let caller = user(caller, Scope::Read)?;
    let after = query.after.as_deref().map(file_id).transpose()?;
    let page = files_page(&caller, after, PAGE).await?;
    let nodes = caller.handle.nodes()?;
    let mut rows = Vec::new();
    for file in page.files {
        rows.push(row(&caller, &nodes, file)?);
    }
    Ok(view::list(&name(&caller), &rows, page.next.as_deref(), after.is_some()))
}

/// A file and how well it is kept.
pub(super) struct Row {
    file: FileView,
    health: words::Health,
}

fn row(caller: &Caller, nodes: &[NodeEntry], file: FileView) -> Result<Row, Problem> {
    let (deal, _) = caller.file(&file_id(&file.id)?)?;
    Ok(Row { health: words::health(&deal, nodes, file.reason.as_deref()), file })
}

fn one(caller: &Caller, id: &str) -> Result<Row, Problem> {
    let id: FileId = file_id(id)?;
    let (deal, manifest) = caller.file(&id)?;
    let nodes = caller.handle.nodes()?;
    let file = fill::file(&caller.handle, &id, &deal, manifest.as_deref(), &nodes);
    row(caller, &nodes, file)
}

async fn file(caller: Option<Caller>, Path(id): Path<String>) -> Result<Markup, Failed> {
    let caller = user(caller, Scope::Read)?;
    Ok(view::file(&name(&caller), &one(&caller, &id)?))
}

async fn delete_form(caller: Option<Caller>, Path(id): Path<String>) -> Result<Markup, Failed> {
    let caller = user(caller, Scope::Delete)?;
    Ok(view::delete(&name(&caller), &one(&caller, &id)?))
}

async fn delete(caller: Option<Caller>, Path(id): Path<String>) -> Result<Redirect, Failed> {
    let caller = user(caller, Scope::Delete)?;
    let Json(_) = files::delete(caller, Path(id)).await?;
    Ok(Redirect::to("/"))
}

async fn upload(state: State<Api>, caller: Option<Caller>, request: Request) -> Result<Redirect, Failed> {
    let caller = user(caller, Scope::Write)?;
    let Json(done) = uploads::put(state, caller, Query(PutQuery::default()), request).await?;
    Ok(Redirect::to(&format!("/files/{}", done.file_id)))
}

async fn login_form(caller: Option<Caller>) -> Response {
    match caller {
        Some(_) => Redirect::to("/").into_response(),
        None => view::login(None).into_response(),
    }
}

#[derive(Deserialize)]
struct LoginForm {
    name: String,
    password: String,
}

async fn login(State(api): State<Api>, client: Client, Form(form): Form<LoginForm>) -> Response {
    match log_in(&api, client, form).await {
        Ok(cookie) => ([(header::SET_COOKIE, cookie)], Redirect::to("/")).into_response(),
        Err(problem) => (problem.status(), view::login(Some(problem.detail()))).into_response(),
    }
}

async fn log_in(api: &Api, client: Client, form: LoginForm) -> Result<HeaderValue, Problem> {
    let password = Zeroizing::new(form.password);
    let name: UserName = form.name.trim().parse().map_err(|_| Problem::wrong_password())?;
    api.accounts.try_from(client.network())?;
    let lasts = api.handle.config().api.token_ttl;
    let scopes = Arc::from(Scope::OF_USERS.as_slice());
    let (token, _) = api.accounts.log_in((name, password), scopes, lasts).await?;
    cookie(api, &token, lasts.as_secs())
}

async fn logout(State(api): State<Api>, caller: Option<Caller>) -> Result<Response, Failed> {
    if let Some(Caller { who: Who::User { token, .. }, .. }) = &caller {
        api.accounts.tokens.end(token);
    }
    Ok(([(header::SET_COOKIE, cookie(&api, "", 0)?)], Redirect::to("/login")).into_response())
}

/// A cookie of this site alone that no script can read.
fn cookie(api: &Api, token: &str, seconds: u64) -> Result<HeaderValue, Problem> {
    let text = format!("{}={token}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}", api.cookie);
    HeaderValue::try_from(text).map_err(|error| Problem::unavailable(error.to_string()))
}

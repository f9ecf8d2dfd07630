//! The page: the same interface for a person with a browser. Made on the server, with one small script and one style of its own;
//! nothing comes from elsewhere. Everything works without the script, which adds progress, dropped files and copying.
//!
//! The login is in a cookie that scripts cannot read and other sites cannot send. What changes something comes by POST from this
//! page (`auth`). Each handler asks for the scope that the route of programs asks for, and calls that route's function.
//! Not here: what the routes of programs do (`api`), what the page looks like (`view`).

mod files;
mod folders;
mod shares;
mod view;
mod words;

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Form, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::auth::Client;
use super::caller::{Caller, Scope, Who};
use super::problem::Problem;
use super::server::Api;
use crate::config::user::UserName;

/// Only what this server sends is loaded, and nobody frames it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; form-action 'self'; \
                      base-uri 'none'; frame-ancestors 'none'";
/// Forms other than those with files, bytes: a path has at most 4 KiB, three times as many as a form writes it.
const FORM_BYTES_MAX: usize = 32 << 10;
/// What stands in a path's place of an address as it is.
const PATH_CHARS: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The routes of the page.
pub(super) fn routes() -> Router<Api> {
    let uploads = Router::new()
        .route("/upload", post(files::upload))
        .route("/folders/upload", post(folders::upload))
        .layer(DefaultBodyLimit::disable());
    Router::new()
        .route("/", get(|| async { Redirect::to("/folders") }))
        .route("/login", get(login_form).post(login))
        .route("/logout", post(logout))
        .route("/folders", get(folders::list))
        .route("/folders/new", post(folders::create))
        .route("/folders/file", get(folders::file))
        .route("/folders/download", get(folders::download))
        .route("/folders/move", post(folders::rename))
        .route("/folders/restore", post(folders::restore))
        .route("/folders/remove", get(folders::remove_form).post(folders::remove))
        .route("/files", get(files::list))
        .route("/files/{id}", get(files::file))
        .route("/files/{id}/delete", get(files::delete_form).post(files::delete))
        .route("/files/{id}/share", post(shares::share))
        .route("/files/{id}/unshare", post(shares::unshare))
        .route("/files/{id}/capability", post(shares::capability))
        .route("/shared", get(shares::shared))
        .route("/shared/decline", post(shares::decline))
        .route("/shared/use", post(shares::use_capability))
        .route("/assets/page.css", get(style))
        .route("/assets/page.js", get(script))
        .layer(DefaultBodyLimit::max(FORM_BYTES_MAX))
        .merge(uploads)
        .layer(from_fn(protect))
}

async fn protect(request: Request, next: Next) -> Response {
    protected(next.run(request).await)
}

/// Adds the headers of pages. A download has its own, which are stricter.
fn protected(mut answer: Response) -> Response {
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        // With `no-referrer` browsers would not say where a form comes from, and it would be refused.
        (header::REFERRER_POLICY, "same-origin"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        let name: HeaderName = name;
        answer.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
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

/// The one who is logged in. Errors: 401, which leads to the login; 403 without the scope.
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

/// The address of a page about a path. `page` is one of this module's.
fn address(page: &str, path: &str) -> String {
    format!("{page}?path={}", encoded(path))
}

/// A text as a value in an address.
fn encoded(text: &str) -> impl std::fmt::Display {
    utf8_percent_encode(text, PATH_CHARS)
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

async fn login(State(api): State<Api>, client: Client, headers: HeaderMap, Form(form): Form<LoginForm>) -> Response {
    // A browser that came through a proxy with TLS says so, and never sends the cookie another way.
    let secure = headers.get(header::ORIGIN).is_some_and(|origin| origin.as_bytes().starts_with(b"https://"));
    match log_in(&api, client, form, secure).await {
        Ok(cookie) => ([(header::SET_COOKIE, cookie)], Redirect::to("/")).into_response(),
        Err(problem) => (problem.status(), view::login(Some(problem.detail()))).into_response(),
    }
}

async fn log_in(api: &Api, client: Client, form: LoginForm, secure: bool) -> Result<HeaderValue, Problem> {
    let password = Zeroizing::new(form.password);
    let name: UserName = form.name.trim().parse().map_err(|_| Problem::wrong_password())?;
    api.accounts.try_from(client.network())?;
    let lasts = api.handle.config().api.token_ttl;
    let scopes = Arc::from(Scope::OF_USERS.as_slice());
    let (token, _) = api.accounts.log_in((name, password), client.network(), scopes, lasts).await?;
    cookie(api, &token, lasts.as_secs(), secure)
}

async fn logout(State(api): State<Api>, caller: Option<Caller>) -> Result<Response, Failed> {
    if let Some(Caller { who: Who::User { token, .. }, .. }) = &caller {
        api.accounts.tokens.end(token);
    }
    Ok(([(header::SET_COOKIE, cookie(&api, "", 0, false)?)], Redirect::to("/login")).into_response())
}

/// A cookie of this site alone that no script can read.
fn cookie(api: &Api, token: &str, seconds: u64, secure: bool) -> Result<HeaderValue, Problem> {
    let secure = if secure { "; Secure" } else { "" };
    let text = format!("{}={token}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}", api.cookie);
    HeaderValue::try_from(text).map_err(|error| Problem::unavailable(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_path_is_one_value_of_an_address() {
        assert_eq!(address("/folders", "/a b/c&d=é?#%"), "/folders?path=/a%20b/c%26d%3D%C3%A9%3F%23%25");
        let uri: axum::http::Uri = address("/folders", "/\"<'>\r\n").parse().expect("an address");
        assert_eq!(uri.query(), Some("path=/%22%3C%27%3E%0D%0A"));
    }

    #[test]
    fn a_download_keeps_its_stricter_policy() {
        let download = ([(header::CONTENT_SECURITY_POLICY, "sandbox")], "bytes").into_response();
        for (answer, policy) in [(download, "sandbox"), ("page".into_response(), POLICY)] {
            let answer = protected(answer);
            assert_eq!(answer.headers()[header::CONTENT_SECURITY_POLICY], policy);
            assert_eq!(answer.headers()[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        }
    }
}

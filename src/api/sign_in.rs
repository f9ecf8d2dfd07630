//! Sign-in routes: register, log in and out, passwords; and the users of the node, for its owner.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use zeroize::Zeroizing;

use super::auth::Client;
use super::caller::{Caller, Scope, Who};
use super::problem::Problem;
use super::server::Api;
use super::whole;
use crate::config::user::UserName;
use crate::ledger::{Key, Record};
use crate::types::limits;

/// Users in one answer, unless asked otherwise, and at most.
const PAGE: usize = 100;
const PAGE_MAX: usize = 1_000;

/// Body of `POST /v1/auth/register`.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RegisterRequest {
    /// The user's name; capital letters are taken for small ones.
    #[schema(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]*$", min_length = 1, max_length = 64)]
    pub name: String,
    /// The password: without it nobody opens the account, nor its files.
    #[schema(min_length = 8, max_length = 1024)]
    pub password: String,
}

/// `POST /v1/auth/register`: a user that was added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RegisteredView {
    /// The name as it is kept.
    pub name: String,
    /// The account's id.
    pub account: String,
    /// Credits that the node gave to it.
    pub credits: u64,
    /// Why they are fewer than meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Body of `POST /v1/auth/login`.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LoginRequest {
    /// The user's name.
    #[schema(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]*$", min_length = 1, max_length = 64)]
    pub name: String,
    /// The password.
    #[schema(max_length = 1024)]
    pub password: String,
    /// What the login may do; everything that a user may if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_items = 1, max_items = 8)]
    pub scopes: Option<Vec<UserScope>>,
    /// Seconds that it lasts; at most, and if not given, as long as `api.token_ttl_s` says.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "whole::optional")]
    #[schema(minimum = 1, maximum = 31536000)]
    pub expires_s: Option<u64>,
}

/// What a user's login may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum UserScope {
    /// Look at own files and the network.
    Read,
    /// Store files and keep them for longer.
    Write,
    /// End files.
    Delete,
    /// Let others read files.
    Share,
    /// Spend credits, change the password.
    Account,
}

impl From<UserScope> for Scope {
    fn from(scope: UserScope) -> Self {
        match scope {
            UserScope::Read => Self::Read,
            UserScope::Write => Self::Write,
            UserScope::Delete => Self::Delete,
            UserScope::Share => Self::Share,
            UserScope::Account => Self::Account,
        }
    }
}

/// `POST /v1/auth/login`: a login.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct LoginView {
    /// The bearer token. It is told once, and no disk has it.
    pub token: String,
    /// `Bearer`.
    pub token_type: String,
    /// Seconds until it ends.
    pub expires_s: u64,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// The user's name.
    pub name: String,
    /// The account's id.
    pub account: String,
}

/// `GET /v1/auth/me`: for whom a token acts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MeView {
    /// The user's name; absent for the node's own token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The account's id; absent where the node runs without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// What the token may do.
    pub scopes: Vec<Scope>,
    /// Seconds until it ends; absent for the node's own, which does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_s: Option<u64>,
    /// The account's credits.
    pub balance: u64,
    /// Bytes of slots in its open deals.
    pub stored: u64,
}

/// Body of `POST /v1/auth/password`.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PasswordRequest {
    /// Whose; needed with the node's own token, and the caller's own name otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]*$", min_length = 1, max_length = 64)]
    pub name: Option<String>,
    /// The present password.
    #[schema(max_length = 1024)]
    pub old_password: String,
    /// The one to be.
    #[schema(min_length = 8, max_length = 1024)]
    pub new_password: String,
}

/// A page of users.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct UsersQuery {
    /// Users in the answer.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
    /// `next` of the page before.
    #[param(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]*$", min_length = 1, max_length = 64)]
    cursor: Option<String>,
}

/// `GET /v1/users`: users in the order of their names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UsersView {
    /// The page.
    pub users: Vec<UserView>,
    /// Asks for the next page; absent with the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UserView {
    /// The name.
    pub name: String,
    /// The account's id.
    pub account: String,
    /// When the user was added.
    pub created_ms: u64,
    /// Logins just now.
    pub logins: usize,
}

/// `DELETE /v1/users/{name}`: a user that was removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RemovedView {
    /// The name.
    pub name: String,
    /// The account, whose keys stay in the home's `users` directory, under the password.
    pub account: String,
}

/// Which user.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct UserPath {
    /// The user's name.
    #[param(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]*$", min_length = 1, max_length = 64)]
    name: String,
}

fn user_name(text: &str) -> Result<UserName, Problem> {
    text.parse().map_err(|error: crate::config::user::NotAName| Problem::invalid(error.to_string()))
}

/// A password that may be one. Errors: 422.
fn new_password(text: String) -> Result<Zeroizing<String>, Problem> {
    let (text, least, most) = (Zeroizing::new(text), limits::PASSWORD_CHARS_MIN, limits::PASSWORD_CHARS_MAX);
    match text.chars().count() {
        count if (least..=most).contains(&count) => Ok(text),
        _ => Err(Problem::invalid(format!("a password has {least} to {most} characters"))),
    }
}

/// A password to be tried. Errors: 422 for one that no user can have, for its length.
fn given_password(text: String) -> Result<Zeroizing<String>, Problem> {
    let text = Zeroizing::new(text);
    match text.chars().count() > limits::PASSWORD_CHARS_MAX {
        false => Ok(text),
        true => Err(Problem::invalid(format!("a password has at most {} characters", limits::PASSWORD_CHARS_MAX))),
    }
}

/// Make an account on this node
///
/// With `api.registration` closed, as by default, this is for the node's own token alone.
#[utoipa::path(post, path = "/v1/auth/register", tag = "accounts", request_body = RegisterRequest,
    responses((status = 201, body = RegisteredView, description = "The user, with an account of its own")),
    security((), ("bearer" = [])))]
pub async fn register(
    State(api): State<Api>,
    caller: Option<Caller>,
    client: Client,
    Json(request): Json<RegisterRequest>,
) -> Result<(StatusCode, Json<RegisteredView>), Problem> {
    let (name, password) = (user_name(&request.name)?, new_password(request.password)?);
    let is_owner = caller.as_ref().is_some_and(Caller::is_owner);
    if !is_owner {
        api.accounts.try_from(client.network())?;
        if !api.handle.config().api.open_registration {
            let closed = "registration is closed on this node; its owner adds users: `trullo user add`";
            return Err(Problem::forbidden(closed));
        }
    }
    api.handle.takes_in()?;
    let added = {
        let (accounts, name) = (api.accounts.clone(), name.clone());
        finish(async move { accounts.register(name, password).await }).await?
    };
    let (name, account) = (name.to_string(), added.account.to_string());
    Ok((StatusCode::CREATED, Json(RegisteredView { name, account, credits: added.credits, reason: added.reason })))
}

/// Work that is done to its end, also when the client goes.
async fn finish<T: Send + 'static>(
    work: impl Future<Output = Result<T, Problem>> + Send + 'static,
) -> Result<T, Problem> {
    tokio::spawn(work).await.map_err(|_| Problem::from(crate::node::NodeError::Stopping))?
}

/// Log in
///
/// The answer has a bearer token for the header `Authorization`. It ends by itself, by logout, and when the node stops. A wrong
/// password and an unknown name have the same answer.
#[utoipa::path(post, path = "/v1/auth/login", tag = "accounts", request_body = LoginRequest,
    responses((status = 200, body = LoginView, description = "A login")), security(()))]
pub async fn login(
    State(api): State<Api>,
    client: Client,
    Json(request): Json<LoginRequest>,
) -> Result<Json<LoginView>, Problem> {
    let (name, password) = (user_name(&request.name)?, given_password(request.password)?);
    let scopes: Vec<Scope> = match request.scopes {
        None => Scope::OF_USERS.to_vec(),
        Some(scopes) if scopes.is_empty() => {
            return Err(Problem::invalid("scopes is empty: such a login can do nothing"));
        }
        Some(scopes) => {
            let mut scopes: Vec<Scope> = scopes.into_iter().map(Scope::from).collect();
            scopes.sort();
            scopes.dedup();
            scopes
        }
    };
    let longest = api.handle.config().api.token_ttl;
    let lasts = match request.expires_s {
        Some(0) => return Err(Problem::invalid("expires_s is 0; a login lasts at least 1 s")),
        Some(wanted) => Duration::from_secs(wanted).min(longest),
        None => longest,
    };
    api.accounts.try_from(client.network())?;
    let (who, may) = ((name.clone(), password), Arc::from(scopes.as_slice()));
    let (token, account) = api.accounts.log_in(who, client.network(), may, lasts).await?;
    let (token, expires_s) = (token.to_string(), lasts.as_secs());
    let (name, account, token_type) = (name.to_string(), account.to_string(), "Bearer".to_owned());
    Ok(Json(LoginView { token, token_type, expires_s, scopes, name, account }))
}

/// Log out
///
/// Ends the token of this request. The node's own token cannot end: remove `api.token` and start the node again.
#[utoipa::path(post, path = "/v1/auth/logout", tag = "accounts",
    responses((status = 204, description = "The token has ended")))]
pub async fn logout(State(api): State<Api>, caller: Caller) -> Result<StatusCode, Problem> {
    match &caller.who {
        Who::User { token, .. } => {
            api.accounts.tokens.end(token);
            Ok(StatusCode::NO_CONTENT)
        }
        Who::Owner => Err(Problem::forbidden("the node's own token does not end by logout")),
    }
}

/// For whom this token acts
#[utoipa::path(get, path = "/v1/auth/me", tag = "accounts", responses((status = 200, body = MeView, description = "The caller")))]
pub async fn me(State(api): State<Api>, caller: Caller) -> Result<Json<MeView>, Problem> {
    let (name, left) = match &caller.who {
        Who::User { name, token } => (Some(name.to_string()), api.accounts.tokens.left(token)),
        Who::Owner => (None, None),
    };
    let account = caller.handle.account();
    let record = account.map(|account| caller.handle.record(&Key::Account(account))).transpose()?.flatten();
    let (balance, stored) = match record {
        Some(Record::Account(record)) => (record.balance.get(), record.stored.get()),
        _ => (0, 0),
    };
    Ok(Json(MeView {
        name,
        account: account.map(|account| account.to_string()),
        scopes: caller.scopes.to_vec(),
        expires_s: left.map(|left| left.as_secs()),
        balance,
        stored,
    }))
}

/// Change a password
///
/// Ends all other logins of the user. Account, keys and files stay the same.
#[utoipa::path(post, path = "/v1/auth/password", tag = "accounts", request_body = PasswordRequest,
    responses((status = 204, description = "The new password holds")))]
pub async fn password(
    State(api): State<Api>,
    caller: Caller,
    client: Client,
    Json(request): Json<PasswordRequest>,
) -> Result<StatusCode, Problem> {
    let named = request.name.as_deref().map(user_name).transpose()?;
    let (old, new) = (given_password(request.old_password)?, new_password(request.new_password)?);
    let name = match (&caller.who, named) {
        (Who::User { name, .. }, None) => name.clone(),
        (Who::User { name, .. }, Some(named)) if *name == named => named,
        (Who::User { .. }, Some(_)) => return Err(Problem::forbidden("a user changes the own password alone")),
        (Who::Owner, Some(named)) => named,
        (Who::Owner, None) => return Err(Problem::clash("the node's own token has no password: give a user's name")),
    };
    api.accounts.try_from(client.network())?;
    api.handle.has_room()?;
    let accounts = api.accounts.clone();
    let from = client.network();
    finish(async move { accounts.change_password((name, &caller), from, old, new).await }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The users of this node
#[utoipa::path(get, path = "/v1/users", tag = "accounts", params(UsersQuery),
    responses((status = 200, body = UsersView, description = "A page of users")))]
pub async fn users(State(api): State<Api>, Query(query): Query<UsersQuery>) -> Result<Json<UsersView>, Problem> {
    let limit = super::paging::limit(query.limit, PAGE, PAGE_MAX)?;
    let after = query.cursor.as_deref().map(str::parse::<UserName>).transpose();
    let after = after.map_err(|error| Problem::bad(format!("cursor: {error}")))?;
    let mut found = api.accounts.list(after.as_ref(), limit + 1).await?;
    let more = found.len() > limit;
    found.truncate(limit);
    let next = found.last().filter(|_| more).map(|user| user.name.to_string());
    let view = |user: &crate::config::user::User| UserView {
        name: user.name.to_string(),
        account: user.keystore.account().to_string(),
        created_ms: user.created.get(),
        logins: api.accounts.tokens.count(&user.name),
    };
    Ok(Json(UsersView { users: found.iter().map(view).collect(), next }))
}

/// Remove a user
///
/// Ends the user's logins. The account, its credits and its files are the ledger's and stay; its keys stay in the home, under the
/// password, as `users/NAME.ACCOUNT.removed`.
#[utoipa::path(delete, path = "/v1/users/{name}", tag = "accounts", params(UserPath),
    responses((status = 200, body = RemovedView, description = "The user is removed")))]
pub async fn remove_user(State(api): State<Api>, Path(path): Path<UserPath>) -> Result<Json<RemovedView>, Problem> {
    let name: UserName =
        path.name.parse().map_err(|error: crate::config::user::NotAName| Problem::bad(error.to_string()))?;
    let account = api.accounts.remove(name.clone()).await?;
    Ok(Json(RemovedView { name: name.to_string(), account: account.to_string() }))
}

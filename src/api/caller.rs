//! Caller: for whom a request acts, and what it may do. The one place where users are kept apart.
//!
//! The home's own token acts for the node's account and may do everything. A login acts for its user's account and may do what
//! its scopes say; of others' files it learns nothing, not even whether they exist.

use std::sync::Arc;

use axum::extract::{FromRequestParts, OptionalFromRequestParts, Request};
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::problem::Problem;
use super::tokens::TokenHash;
use crate::config::user::UserName;
use crate::crypto::seal::FileKey;
use crate::ledger::record::{Deal, DealStatus};
use crate::node::files::access;
use crate::node::{Handle, NodeError};
use crate::types::{AccountId, FileId};
use crate::wire::PublicManifest;

/// A kind of thing that a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
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
    /// Run the node. Only the home's own token can.
    Admin,
}

impl Scope {
    /// What a user can have.
    pub const OF_USERS: [Self; 5] = [Self::Read, Self::Write, Self::Delete, Self::Share, Self::Account];

    fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Delete => "delete",
            Self::Share => "share",
            Self::Account => "account",
            Self::Admin => "admin",
        }
    }
}

/// Who asks.
#[derive(Clone, Debug)]
pub enum Who {
    /// The holder of the home's token.
    Owner,
    /// A user who logged in.
    User {
        /// The name.
        name: UserName,
        /// The login.
        token: TokenHash,
    },
}

/// For whom a request acts. Handlers take it as an argument.
#[derive(Clone)]
pub struct Caller {
    /// Acts for the caller's account.
    pub handle: Handle,
    /// Who it is.
    pub who: Who,
    /// What the request may do; of the owner everything.
    pub scopes: Arc<[Scope]>,
}

impl Caller {
    /// The holder of the home's token.
    pub fn owner(handle: Handle) -> Self {
        Self { handle, who: Who::Owner, scopes: [Scope::Admin].into() }
    }

    /// Whether this is the home's own token.
    pub fn is_owner(&self) -> bool {
        matches!(self.who, Who::Owner)
    }

    /// Errors: 403 without the scope.
    pub fn may(&self, scope: Scope) -> Result<(), Problem> {
        if self.is_owner() || self.scopes.contains(&scope) {
            return Ok(());
        }
        Err(match scope {
            Scope::Admin => Problem::forbidden("this is for the node's own token alone"),
            _ => Problem::forbidden(format!("this login does not have the scope {:?}", scope.name())),
        })
    }

    /// The account that the request acts for. Errors: 403 on a node without one.
    pub fn account(&self) -> Result<AccountId, Problem> {
        Ok(self.handle.keys()?.account_id())
    }

    /// A file that the caller may know of: the owner of the node of any, as the ledger is public to it; a user of its own ones.
    /// Errors: 404, the same for a file of somebody else and for one that does not exist; also for an own one that was deleted.
    pub fn file(&self, id: &FileId) -> Result<(Deal, Option<Box<PublicManifest>>), Problem> {
        let found = self.handle.file(id)?;
        match (&self.who, &found.0.status) {
            (Who::Owner, _) => Ok(found),
            (Who::User { .. }, _) if self.handle.account() != Some(found.0.owner) => {
                Err(NodeError::NotFound { what: "file", id: id.to_string() }.into())
            }
            (Who::User { .. }, DealStatus::Deleted { at }) => {
                Err(Problem::not_found(format!("file {id} was deleted at height {at}")))
            }
            (Who::User { .. }, _) => Ok(found),
        }
    }

    /// A file that the caller may read: an own one, one that is shared with its account, or one that it brings the key of.
    /// The owner of the node is told why it cannot read one. Errors: 404, the same as for a file that does not exist.
    pub fn readable(&self, id: &FileId, key: Option<&FileKey>) -> Result<(Deal, Option<Box<PublicManifest>>), Problem> {
        let (deal, manifest) = self.handle.file(id)?;
        let opens = |manifest: &PublicManifest| access::open_manifest(&self.handle, id, &deal, manifest, key).is_ok();
        if self.is_owner() || self.handle.account() == Some(deal.owner) {
            return self.file(id);
        }
        if manifest.as_deref().is_some_and(opens) {
            return Ok((deal, manifest));
        }
        Err(NodeError::NotFound { what: "file", id: id.to_string() }.into())
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.get::<Self>().cloned().ok_or_else(Problem::unauthorized)
    }
}

impl<S: Sync> OptionalFromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Problem> {
        Ok(parts.extensions.get::<Self>().cloned())
    }
}

/// Lets a request through whose caller has the scope. Errors: 401, 403.
pub async fn require(scope: Scope, request: Request, next: Next) -> Response {
    let caller = request.extensions().get::<Caller>().ok_or_else(Problem::unauthorized);
    match caller.and_then(|caller| caller.may(scope)) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

/// Lets a request through that has a token which holds. Errors: 401.
pub async fn anybody(request: Request, next: Next) -> Response {
    match request.extensions().get::<Caller>() {
        Some(_) => next.run(request).await,
        None => Problem::unauthorized().into_response(),
    }
}

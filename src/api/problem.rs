//! Errors as problem JSON (RFC 9457), with the exit code that the command line ends with.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::views::{PROBLEM_PREFIX, ProblemView};
use crate::files::tree::TreeError;
use crate::node::NodeError;
use crate::node::users::UsersError;
use crate::store::SlotError;

/// After so many seconds it may be worth to try again what was refused for want of a quorum.
const PARTITIONED_RETRY: u64 = 10;

/// An error answer.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    kind: &'static str,
    title: &'static str,
    detail: String,
    code: u8,
    hint: Option<&'static str>,
    retry_after: Option<u64>,
}

impl Problem {
    fn new(status: StatusCode, code: u8, kind: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        Self { status, kind, title, detail: detail.into(), code, hint: None, retry_after: None }
    }
    pub(super) fn hint(mut self, hint: &'static str) -> Self {
        self.hint = Some(hint);
        self
    }
    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        self.status
    }
    /// What happened.
    pub fn detail(&self) -> &str {
        &self.detail
    }
    /// Says after how many seconds to try again.
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }
    /// 400: the request cannot be understood.
    pub fn bad(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, 2, "bad_request", "the request is not valid", detail)
    }
    /// A refusal that the framework makes by itself, with its own status.
    pub fn refused(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, ..Self::bad(detail) }
    }
    /// 401: no token, or a wrong one.
    pub fn unauthorized() -> Self {
        let detail = "the bearer token is missing or wrong, or it has ended";
        Self::new(StatusCode::UNAUTHORIZED, 12, "unauthorized", "not authorized", detail).hint(
            "send `Authorization: Bearer` with a token of `POST /v1/auth/login`, or with the content of api.token in the node's home",
        )
    }
    /// 401: a login that fails, whatever the reason.
    pub fn wrong_password() -> Self {
        let detail = "the name or the password is wrong";
        Self::new(StatusCode::UNAUTHORIZED, 12, "wrong_password", "not authorized", detail)
    }
    /// 422: the request can be read and asks for what cannot be.
    pub fn invalid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, 2, "invalid", "the request asks for what cannot be", detail)
    }
    /// 429: more requests than the client's rate allows.
    pub fn too_many(seconds: u64) -> Self {
        let detail = format!("too many requests; try again in {seconds} s");
        Self::new(StatusCode::TOO_MANY_REQUESTS, 6, "too_many_requests", "too many requests", detail)
            .retry_after(seconds)
    }
    /// 409: something is there already.
    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, 8, "conflict", "in conflict with what is there", detail)
    }
    /// 409: what is asked for can be read, and is impossible together or on this network.
    pub fn clash(detail: impl Into<String>) -> Self {
        Self { code: 2, ..Self::conflict(detail) }
    }
    /// An error of the node, where what it calls bad is a clash.
    pub fn conflicting(error: NodeError) -> Self {
        match error {
            NodeError::Bad(detail) => Self::clash(detail),
            error => error.into(),
        }
    }
    /// 500: this node failed.
    pub fn store(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, 1, "store", "this node's store failed", detail)
            .hint("look at the node's log; the disk may be full or damaged")
    }
    /// 403: the request comes from where it must not.
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, 12, "forbidden", "not allowed", detail)
    }
    /// 404: nothing there.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, 4, "not_found", "not found", detail)
    }
    /// 409: it is so already.
    pub fn nothing_to_do(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, 9, "nothing_to_do", "nothing to do", detail)
    }
    /// 409: a path refers to it.
    pub fn in_folders(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, 8, "in_folders", "a path refers to it", detail)
            .hint("remove its path: `trullo rm /PATH`; `trullo gc` deletes what no path refers to")
    }
    /// 410: it was here once.
    pub fn gone(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::GONE, 4, "gone", "no longer here", detail)
    }
    /// 503: not now.
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, 6, "unavailable", "not possible just now", detail)
    }
}

impl From<NodeError> for Problem {
    fn from(error: NodeError) -> Self {
        let detail = error.to_string();
        if disk_full(&error) {
            tracing::error!(detail, "a request failed for want of space");
            return Self::new(StatusCode::INSUFFICIENT_STORAGE, 13, "disk_full", "this node's disk is full", detail)
                .hint("free space on the disk of the node's home; what was acknowledged is safe");
        }
        match error {
            NodeError::NotFound { .. } => Self::not_found(detail),
            NodeError::Bad(_) => Self::bad(detail),
            NodeError::Tree(error) => match error {
                TreeError::NotFound(_) | TreeError::NoVersion { .. } => Self::not_found(detail),
                TreeError::Bounds { .. } | TreeError::TooMany | TreeError::IntoItself { .. } => Self::clash(detail),
                TreeError::Exists(_) | TreeError::Kind { .. } | TreeError::Changed(_) | TreeError::Gone(_) => {
                    Self::new(StatusCode::CONFLICT, 8, "conflict", "something else is there", detail)
                }
            },
            NodeError::NotAllowed(_) => Self::forbidden(detail),
            NodeError::Refused(_) => {
                Self::new(StatusCode::CONFLICT, 8, "refused", "the transaction is not taken in", detail)
            }
            NodeError::Rejected { code, .. } => {
                let problem =
                    Self::new(StatusCode::CONFLICT, 8, "rejected", "the ledger rejected the transaction", detail);
                match code {
                    "quota" => problem.hint("make room: `trullo ls` shows your files, `trullo rm` ends one"),
                    "funds" => problem.hint("ask for less or for fewer epochs, or get credits: `trullo account show`"),
                    _ => problem,
                }
            }
            NodeError::Timeout { .. } => Self::new(StatusCode::GATEWAY_TIMEOUT, 6, "timeout", "not in time", detail)
                .hint("look at `trullo ledger status`: is the height rising, are the validators connected?"),
            NodeError::NoRoom(_) => {
                Self::new(StatusCode::CONFLICT, 6, "no_room", "the network has no room for that", detail)
            }
            NodeError::Unavailable(_) | NodeError::Busy(_) => Self::unavailable(detail),
            NodeError::Partitioned(_) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, 6, "partitioned", "no quorum is in reach", detail)
                    .hint("nothing was stored or sent; see whether those nodes run and can be reached: when they are back the node goes on by itself, then try again")
                    .retry_after(PARTITIONED_RETRY)
            }
            NodeError::Stopping => Self::unavailable(detail)
                .hint("the node's log says why; when it runs again, run the same command again"),
            NodeError::Verification(_) => {
                Self::new(StatusCode::BAD_GATEWAY, 7, "verification", "bytes are not what they must be", detail)
            }
            NodeError::DiskLow(_) | NodeError::Store(_) | NodeError::Slots(_) => {
                tracing::error!(detail, "a request failed on this node's own store");
                Self::store(detail)
            }
        }
    }
}

impl From<UsersError> for Problem {
    fn from(error: UsersError) -> Self {
        let detail = error.to_string();
        match error {
            UsersError::Taken(_) => Self::conflict(detail),
            UsersError::Unknown(_) => Self::not_found(detail),
            UsersError::Full(_) => Self::unavailable(detail),
            UsersError::Home(_) => {
                tracing::error!(detail, "the users of this node cannot be read or written");
                Self::store(detail)
            }
        }
    }
}

fn disk_full(error: &NodeError) -> bool {
    match error {
        NodeError::Store(error) | NodeError::Slots(SlotError::Store(error)) => error.is_disk_full(),
        NodeError::DiskLow(_) => true,
        _ => false,
    }
}

impl From<crate::store::StoreError> for Problem {
    fn from(error: crate::store::StoreError) -> Self {
        NodeError::from(error).into()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let view = ProblemView {
            kind: format!("{PROBLEM_PREFIX}{}", self.kind),
            title: self.title.to_owned(),
            status: self.status.as_u16(),
            detail: self.detail,
            code: self.code,
            hint: self.hint.map(str::to_owned),
        };
        let body = serde_json::to_vec(&view).unwrap_or_default();
        let mut answer = (self.status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response();
        let headers = answer.headers_mut();
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_body_says_the_status_of_the_answer() {
        let answer = Problem::refused(StatusCode::PAYLOAD_TOO_LARGE, "too much").into_response();
        assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
        let body = axum::body::to_bytes(answer.into_body(), 4_096).await.expect("a short body");
        let view: ProblemView = serde_json::from_slice(&body).expect("JSON");
        assert_eq!((view.status, view.detail.as_str()), (413, "too much"));
    }
}

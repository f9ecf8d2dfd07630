//! Access keys of the S3 gateway: make, list, remove.

use axum::Json;
use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::problem::Problem;
use super::server::Api;
use crate::node::access::AccessKey;
use crate::types::Millis;

/// `POST /v1/s3/keys`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AccessKeyRequest {
    /// What its owner calls it.
    #[serde(default)]
    pub name: String,
    /// Whether it may only read.
    #[serde(default)]
    pub read_only: bool,
    /// For how many seconds it is valid; for good if not given.
    #[schema(maximum = 9007199254740991_u64)]
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "super::whole::optional")]
    pub expires_s: Option<u64>,
}

/// An access key of the S3 gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AccessKeyView {
    /// Names the pair in requests.
    pub id: String,
    /// Signs requests. Told once, when it is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// What its owner calls it.
    pub name: String,
    /// Whether it may only read.
    pub read_only: bool,
    /// When it was made, milliseconds since 1970.
    pub created_ms: u64,
    /// From when on it is not valid any more, milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_ms: Option<u64>,
}

fn view(key: &AccessKey) -> AccessKeyView {
    AccessKeyView {
        id: key.id.clone(),
        secret: None,
        name: key.name.clone(),
        read_only: key.read_only,
        created_ms: key.created.get(),
        expires_ms: key.expires.map(Millis::get),
    }
}

/// Work that waits for the disk.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, crate::node::NodeError> + Send + 'static,
) -> Result<T, Problem> {
    let done = tokio::task::spawn_blocking(work).await.map_err(|_| crate::node::NodeError::Stopping)?;
    done.map_err(Problem::conflicting)
}

/// Make an access key of the S3 gateway
///
/// Its secret is told in this answer and never again.
#[utoipa::path(post, path = "/v1/s3/keys", tag = "s3", operation_id = "add_access_key", request_body = AccessKeyRequest,
    responses((status = 200, body = AccessKeyView, description = "The key")))]
pub async fn add(
    State(api): State<Api>,
    Json(request): Json<AccessKeyRequest>,
) -> Result<Json<AccessKeyView>, Problem> {
    super::paging::number("expires_s", request.expires_s)?;
    let (keys, now) = (api.handle.access_keys()?.clone(), api.handle.clock().now());
    let expires = request.expires_s.map(|seconds| Millis::new(now.get().saturating_add(seconds.saturating_mul(1_000))));
    let made = blocking(move || keys.add(&request.name, request.read_only, now, expires)).await?;
    Ok(Json(AccessKeyView { secret: Some(made.secret().to_owned()), ..view(&made) }))
}

/// All access keys, without their secrets
#[utoipa::path(get, path = "/v1/s3/keys", tag = "s3", operation_id = "list_access_keys",
    responses((status = 200, body = Vec<AccessKeyView>, description = "The keys")))]
pub async fn list(State(api): State<Api>) -> Result<Json<Vec<AccessKeyView>>, Problem> {
    Ok(Json(api.handle.access_keys()?.list().iter().map(view).collect()))
}

/// Take an access key away
#[utoipa::path(delete, path = "/v1/s3/keys/{id}", tag = "s3", operation_id = "delete_access_key",
    params(("id" = String, Path, description = "The key's id")),
    responses((status = 200, body = Vec<AccessKeyView>, description = "The keys that are left")))]
pub async fn remove(State(api): State<Api>, Path(id): Path<String>) -> Result<Json<Vec<AccessKeyView>>, Problem> {
    let keys = api.handle.access_keys()?.clone();
    let left = keys.clone();
    blocking(move || keys.remove(&id)).await?;
    Ok(Json(left.list().iter().map(view).collect()))
}

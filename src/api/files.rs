//! File routes: get, list, info, delete.

use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::caller::Caller;
use super::download;
use super::problem::Problem;
use super::views::{DeletedView, FileView, ProblemView};
use super::{fill, paging, sharing};
use crate::files::FileKind;
use crate::ledger::Key;
use crate::node::files::get::OpenFile;
use crate::node::{Handle, NodeError};
use crate::types::{AccountId, FileId};

/// How long a deletion may take to become final.
const DELETE_WITHIN: Duration = Duration::from_secs(30);
/// Files in one answer, unless asked otherwise, and at most.
const PAGE: usize = 100;
const PAGE_MAX: usize = 1_000;
/// Files that are looked at for one page.
const LOOKED_MAX: usize = 8_192;

pub(super) fn file_id(text: &str) -> Result<FileId, Problem> {
    text.parse().map_err(|error| Problem::bad(format!("file {text:?}: {error}")))
}

/// Which files.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct FilesQuery {
    /// Files in the answer.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
    /// `next` of the page before.
    #[param(pattern = "^[0-9a-f]{64}$")]
    cursor: Option<String>,
}

/// `GET /v1/files`: files of the caller, in the order of their ids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FilesView {
    /// The page.
    pub files: Vec<FileView>,
    /// Asks for the next page; absent with the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// The caller's files, page by page
#[utoipa::path(get, path = "/v1/files", tag = "files", operation_id = "list_files", params(FilesQuery),
    responses((status = 200, body = FilesView, description = "A page of files")))]
pub async fn list(caller: Caller, Query(query): Query<FilesQuery>) -> Result<Json<FilesView>, Problem> {
    let limit = paging::limit(query.limit, PAGE, PAGE_MAX)?;
    let cursor = query.cursor.as_deref().map(str::parse::<FileId>).transpose();
    let cursor = cursor.map_err(|error| Problem::bad(format!("cursor: {error}")))?;
    Ok(Json(page(&caller, cursor, limit).await?))
}

/// The caller's files that were put alone, not what its folders hold. A page may be shorter than asked for, and there is more as
/// long as it has `next`. Errors: 403 without an account, those of the store.
pub(super) async fn page(caller: &Caller, after: Option<FileId>, limit: usize) -> Result<FilesView, Problem> {
    let (owner, handle) = (caller.account()?, caller.handle.clone());
    // Opening many manifests is work.
    let page = tokio::task::spawn_blocking(move || read_page(&handle, owner, after, limit));
    page.await.map_err(|_| NodeError::Stopping)?
}

fn read_page(handle: &Handle, owner: AccountId, after: Option<FileId>, limit: usize) -> Result<FilesView, Problem> {
    let (snapshot, nodes) = (handle.snapshot()?, handle.nodes()?);
    let mut after = after.map(|id| Key::OwnerFile(owner, id).bytes());
    let (mut files, mut looked) = (Vec::new(), 0);
    // What folders hold is passed over, a bounded number at a time.
    while looked < LOOKED_MAX {
        let found = snapshot.state_scan(&Key::files_of(&owner), after.as_deref(), PAGE_MAX)?;
        if found.is_empty() {
            return Ok(FilesView { files, next: None });
        }
        for (key, _) in found {
            let Some(Key::OwnerFile(_, id)) = Key::from_bytes(&key) else { continue };
            after = Some(key);
            looked += 1;
            let (deal, manifest) = handle.file(&id)?;
            let open = fill::open_own(handle, manifest.as_deref());
            if open.as_ref().is_some_and(|open| open.facts().kind != FileKind::Alone) {
                continue;
            }
            if files.len() == limit {
                let next = files.last().map(|file: &FileView| file.id.clone());
                return Ok(FilesView { files, next });
            }
            files.push(fill::file_open(handle, &id, &deal, (manifest.as_deref(), open.as_ref()), &nodes));
        }
    }
    let last = after.as_deref().and_then(Key::from_bytes);
    let next = last.and_then(|key| match key {
        Key::OwnerFile(_, id) => Some(id.to_string()),
        _ => None,
    });
    Ok(FilesView { files, next })
}

/// What the ledger has of a file: status, slots, terms
///
/// With the node's own token of any file; for a user of the own ones, of those that are shared with it, and of one that it
/// brings a read capability of, in the header `trullo-capability`.
#[utoipa::path(get, path = "/v1/files/{id}/info", tag = "files", operation_id = "file_info",
    params(("id" = String, Path, pattern = "^[0-9a-f]{64}$", description = "The file")),
    responses((status = 200, body = FileView, description = "The file")))]
pub async fn info(caller: Caller, Path(id): Path<String>, headers: HeaderMap) -> Result<Json<FileView>, Problem> {
    let id = file_id(&id)?;
    let key = sharing::brought(&headers, &id)?;
    let (deal, manifest) = caller.readable(&id, key.as_ref())?;
    let handle = &caller.handle;
    Ok(Json(fill::file_with(handle, &id, &deal, manifest.as_deref(), &handle.nodes()?, key.as_ref())))
}

/// A file's bytes, all or a range
///
/// `Range` takes one range of bytes, from the end too, and `If-Range` the `ETag`. `If-None-Match` is answered with 304. A file's
/// content never changes, so that its id is the tag.
#[utoipa::path(get, path = "/v1/files/{id}", tag = "files", operation_id = "get_file",
    params(("id" = String, Path, pattern = "^[0-9a-f]{64}$", description = "The file")),
    responses((status = 200, content_type = "application/octet-stream", body = Vec<u8>, description = "All of it"),
        (status = 206, content_type = "application/octet-stream", body = Vec<u8>, description = "The range"),
        (status = 304, description = "The client has it"),
        (status = 416, body = ProblemView, content_type = "application/problem+json", description = "No byte of it"),
        (status = 502, body = ProblemView, content_type = "application/problem+json", description = "Wrong bytes came")))]
pub async fn get(caller: Caller, Path(id): Path<String>, headers: HeaderMap) -> Result<Response, Problem> {
    let (file, head) = open(&caller, &id, &headers)?;
    download::answer(&headers, head, file.manifest().plain_len(), |range| file.read(range)).await
}

/// What `GET` would say of a file's bytes, without them
#[utoipa::path(head, path = "/v1/files/{id}", tag = "files", operation_id = "head_file",
    params(("id" = String, Path, pattern = "^[0-9a-f]{64}$", description = "The file")),
    responses((status = 200, description = "The file can be opened"), (status = 304, description = "The client has it")))]
pub async fn head(caller: Caller, Path(id): Path<String>, headers: HeaderMap) -> Result<Response, Problem> {
    let (file, mut head) = open(&caller, &id, &headers)?;
    if download::is_known(&headers, &download::tag(&id)) {
        return Ok((StatusCode::NOT_MODIFIED, head).into_response());
    }
    head.insert(header::CONTENT_LENGTH, file.manifest().plain_len().into());
    Ok((head, Body::empty()).into_response())
}

/// A file that the caller may read, and the head of its answer.
fn open(caller: &Caller, id: &str, headers: &HeaderMap) -> Result<(OpenFile, HeaderMap), Problem> {
    let parsed = file_id(id)?;
    let key = sharing::brought(headers, &parsed)?;
    caller.readable(&parsed, key.as_ref())?;
    let file = OpenFile::open_with(&caller.handle, parsed, key.as_ref())?;
    let head = download::head(&file.manifest().facts().name, &download::tag(id));
    Ok((file, head))
}

/// End a file's deal
///
/// The storage nodes free its slots. There is no way to undo it.
#[utoipa::path(delete, path = "/v1/files/{id}", tag = "files", operation_id = "delete_file",
    params(("id" = String, Path, pattern = "^[0-9a-f]{64}$", description = "The file")),
    responses((status = 200, body = DeletedView, description = "The deal has ended")))]
pub async fn delete(caller: Caller, Path(id): Path<String>) -> Result<Json<DeletedView>, Problem> {
    let id = file_id(&id)?;
    // A path would lead to nothing then.
    let (_, manifest) = caller.file(&id)?;
    let open = fill::open_own(&caller.handle, manifest.as_deref());
    if open.is_some_and(|open| open.facts().kind != FileKind::Alone) {
        return Err(Problem::in_folders(format!("file {id} belongs to the account's folders")));
    }
    let done = crate::node::files::remove(&caller.handle, id, DELETE_WITHIN).await?;
    let (file_id, tx, height) = (id.to_string(), done.id.to_string(), done.place.height.get());
    Ok(Json(DeletedView { file_id, tx, height }))
}

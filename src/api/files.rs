//! File routes: get, list, info, delete.

use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::caller::Caller;
use super::chain::tokio_stream;
use super::download::{self, Wanted};
use super::problem::Problem;
use super::views::{DeletedView, FileView, ProblemView};
use super::{fill, paging, sharing};
use crate::files::FileKind;
use crate::ledger::Key;
use crate::node::NodeError;
use crate::node::files::get::OpenFile;
use crate::types::FileId;

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
    Ok(Json(page(&caller, cursor, limit)?))
}

/// The caller's files that were put alone, not what its folders hold. A page may be shorter than asked for, and there is more as
/// long as it has `next`. Errors: 403 without an account, those of the store.
pub(super) fn page(caller: &Caller, after: Option<FileId>, limit: usize) -> Result<FilesView, Problem> {
    let (owner, handle) = (caller.account()?, &caller.handle);
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
            if fill::kind(handle, manifest.as_deref()).is_some_and(|kind| kind != FileKind::Alone) {
                continue;
            }
            if files.len() == limit {
                let next = files.last().map(|file: &FileView| file.id.clone());
                return Ok(FilesView { files, next });
            }
            files.push(fill::file(handle, &id, &deal, manifest.as_deref(), &nodes)?);
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
    Ok(Json(fill::file_with(handle, &id, &deal, manifest.as_deref(), &handle.nodes()?, key.as_ref())?))
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
    let (file, mut answer) = open(&caller, &id, &headers)?;
    let total = file.manifest().plain_len();
    let range = match download::wanted(&headers, &download::tag(&id), total) {
        Wanted::All => None,
        Wanted::Part(range) => Some(range),
        Wanted::Nothing => {
            *answer.status_mut() = StatusCode::NOT_MODIFIED;
            return Ok(answer);
        }
        Wanted::Outside => {
            let mut problem =
                Problem::bad(format!("the range lies outside of the file's {total} bytes")).into_response();
            *problem.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
            problem.headers_mut().extend(download::header(header::CONTENT_RANGE, format!("bytes */{total}")));
            return Ok(problem);
        }
    };
    let (len, mut pieces) = file.read(range.clone()).await?;
    // Whether the file can be read at all is known with the first piece, when the status can still say so.
    let first = pieces.recv().await.transpose()?;
    let first = futures::stream::iter(first.map(Ok::<_, NodeError>));
    *answer.body_mut() = Body::from_stream(first.chain(tokio_stream(pieces)));
    answer.headers_mut().insert(header::CONTENT_LENGTH, len.into());
    if let Some(range) = range {
        *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
        let text = format!("bytes {}-{}/{total}", range.start, range.end.saturating_sub(1));
        answer.headers_mut().extend(download::header(header::CONTENT_RANGE, text));
    }
    Ok(answer)
}

/// What `GET` would say of a file's bytes, without them
#[utoipa::path(head, path = "/v1/files/{id}", tag = "files", operation_id = "head_file",
    params(("id" = String, Path, pattern = "^[0-9a-f]{64}$", description = "The file")),
    responses((status = 200, description = "The file can be opened"), (status = 304, description = "The client has it")))]
pub async fn head(caller: Caller, Path(id): Path<String>, headers: HeaderMap) -> Result<Response, Problem> {
    let (file, mut answer) = open(&caller, &id, &headers)?;
    if download::is_known(&headers, &download::tag(&id)) {
        *answer.status_mut() = StatusCode::NOT_MODIFIED;
        return Ok(answer);
    }
    answer.headers_mut().insert(header::CONTENT_LENGTH, file.manifest().plain_len().into());
    Ok(answer)
}

/// A file that the caller may read, and the head of its answer.
fn open(caller: &Caller, id: &str, headers: &HeaderMap) -> Result<(OpenFile, Response), Problem> {
    let parsed = file_id(id)?;
    let key = sharing::brought(headers, &parsed)?;
    caller.readable(&parsed, key.as_ref())?;
    let file = OpenFile::open_with(&caller.handle, parsed, key.as_ref())?;
    let mut answer = Body::empty().into_response();
    answer.headers_mut().extend(download::head(&file.manifest().facts().name, &download::tag(id)));
    Ok((file, answer))
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
    if fill::kind(&caller.handle, manifest.as_deref()).is_some_and(|kind| kind != FileKind::Alone) {
        return Err(Problem::in_folders(format!("file {id} belongs to the account's folders")));
    }
    let done = crate::node::files::remove(&caller.handle, id, DELETE_WITHIN).await?;
    let (file_id, tx, height) = (id.to_string(), done.id.to_string(), done.place.height.get());
    Ok(Json(DeletedView { file_id, tx, height }))
}

//! File routes: get, list, info, delete.

use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;

use super::chain::tokio_stream;
use super::fill;
use super::problem::Problem;
use super::range;
use super::server::Api;
use super::views::{DeletedView, FileView};
use crate::files::FileKind;
use crate::ledger::{Key, Record};
use crate::node::NodeError;
use crate::node::files::get::OpenFile;
use crate::types::FileId;

/// How long a deletion may take to become final.
const DELETE_WITHIN: Duration = Duration::from_secs(30);

pub(super) fn file_id(text: &str) -> Result<FileId, Problem> {
    text.parse().map_err(|error| Problem::bad(format!("file {text:?}: {error}")))
}

/// The node's own files: those that were put alone, not what its folders hold.
pub async fn list(State(api): State<Api>) -> Result<Json<Vec<FileView>>, Problem> {
    let owner = api.handle.keys()?.account_id();
    let (snapshot, nodes) = (api.handle.snapshot()?, api.handle.nodes()?);
    let mut views = Vec::new();
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = snapshot.state_scan(&Key::files_of(&owner), after.as_deref(), 1_024)?;
        let Some((last, _)) = page.last() else { return Ok(Json(views)) };
        after = Some(last.clone());
        for (key, _) in page {
            let Some(Key::OwnerFile(_, id)) = Key::from_bytes(&key) else { continue };
            let (deal, manifest) = api.handle.file(&id)?;
            if fill::kind(&api.handle, manifest.as_deref()) == Some(FileKind::Alone) || manifest.is_none() {
                views.push(fill::file(&api.handle, &id, &deal, manifest.as_deref(), &nodes)?);
            }
        }
    }
}

/// A file's deal, whoever owns it.
pub async fn info(State(api): State<Api>, Path(id): Path<String>) -> Result<Json<FileView>, Problem> {
    let id = file_id(&id)?;
    let (deal, manifest) = api.handle.file(&id)?;
    Ok(Json(fill::file(&api.handle, &id, &deal, manifest.as_deref(), &api.handle.nodes()?)?))
}

/// A file's bytes, all or a range.
pub async fn get(State(api): State<Api>, Path(id): Path<String>, headers: HeaderMap) -> Result<Response, Problem> {
    let file = OpenFile::open(&api.handle, file_id(&id)?)?;
    let total = file.manifest().plain_len();
    let range = match headers.get(header::RANGE).map(|range| range.to_str()) {
        None => None,
        Some(Ok(text)) => match range::parse(text, total) {
            Ok(range) => range,
            Err(range::Unsatisfiable) => {
                let mut answer =
                    Problem::bad(format!("range {text:?} lies outside of the file's {total} bytes")).into_response();
                *answer.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
                return Ok(answer);
            }
        },
        Some(Err(_)) => return Err(Problem::bad("the Range header is not readable")),
    };
    let (len, mut pieces) = file.read(range.clone()).await?;
    // Whether the file can be read at all is known with the first piece, when the status can still say so.
    let first = pieces.recv().await.transpose()?;
    let first = futures::stream::iter(first.map(Ok::<_, NodeError>));
    let mut answer = Body::from_stream(first.chain(tokio_stream(pieces))).into_response();
    let out = answer.headers_mut();
    out.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/octet-stream"));
    out.insert(header::CONTENT_LENGTH, len.into());
    out.insert(header::ACCEPT_RANGES, header::HeaderValue::from_static("bytes"));
    if let Ok(etag) = format!("\"{id}\"").parse() {
        out.insert(header::ETAG, etag);
    }
    if let Some(range) = range {
        *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
        if let Ok(value) = format!("bytes {}-{}/{total}", range.start, range.end.saturating_sub(1)).parse() {
            answer.headers_mut().insert(header::CONTENT_RANGE, value);
        }
    }
    Ok(answer)
}

/// Ends a file's deal.
pub async fn delete(State(api): State<Api>, Path(id): Path<String>) -> Result<Json<DeletedView>, Problem> {
    let id = file_id(&id)?;
    match api.handle.record(&Key::File(id))? {
        Some(Record::File(_)) => {}
        _ => return Err(Problem::not_found(format!("file {id} is not known here"))),
    }
    // A path would lead to nothing then.
    let (_, manifest) = api.handle.file(&id)?;
    if fill::kind(&api.handle, manifest.as_deref()).is_some_and(|kind| kind != FileKind::Alone) {
        return Err(Problem::in_folders(format!("file {id} belongs to the account's folders")));
    }
    let done = crate::node::files::remove(&api.handle, id, DELETE_WITHIN).await?;
    let (file_id, tx, height) = (id.to_string(), done.id.to_string(), done.place.height.get());
    Ok(Json(DeletedView { file_id, tx, height }))
}

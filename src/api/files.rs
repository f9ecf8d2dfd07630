//! File routes: put, get, list, info, delete.

use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use serde::Deserialize;

use super::chain::tokio_stream;
use super::fill;
use super::problem::Problem;
use super::range;
use super::server::Api;
use super::terms::terms;
use super::views::{DeletedView, FileView, PutView};
use crate::ledger::{Key, Record};
use crate::node::NodeError;
use crate::node::files::get::OpenFile;
use crate::node::files::put::{PutRequest, put as put_file};
use crate::types::FileId;

/// How long a deletion may take to become final.
const DELETE_WITHIN: Duration = Duration::from_secs(30);

/// Settings of a put; the body is the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PutQuery {
    name: String,
    data: Option<u8>,
    parity: Option<u8>,
    chunk_size: Option<u32>,
    min_confirmations: Option<u8>,
    epochs: Option<u32>,
    session: Option<String>,
    timeout_ms: Option<u64>,
}

/// Stores a file; answers when its deal is on the chain.
pub async fn put(
    State(api): State<Api>,
    Query(query): Query<PutQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<PutView>, Problem> {
    if query.name.is_empty() || query.name.chars().any(char::is_control) {
        return Err(Problem::bad("a file needs a name, without control characters"));
    }
    let len = headers.get(header::CONTENT_LENGTH).and_then(|len| len.to_str().ok()).and_then(|len| len.parse().ok());
    let config = &api.handle.config().files;
    let session = match &query.session {
        Some(text) => {
            let mut session = [0; 32];
            hex::decode_to_slice(text, &mut session)
                .map_err(|_| Problem::bad("session must be 64 hexadecimal digits"))?;
            session
        }
        None => {
            let mut session = [0; 32];
            getrandom::fill(&mut session).map_err(|error| Problem::unavailable(error.to_string()))?;
            session
        }
    };
    let shards = match (query.data, query.parity) {
        (Some(data), Some(parity)) => Some((data, parity)),
        (None, None) => config.shards,
        _ => return Err(Problem::bad("data and parity shards are given together or not at all")),
    };
    let request = PutRequest {
        name: query.name.clone(),
        len,
        shards,
        chunk_bytes: query.chunk_size.or(config.chunk_bytes),
        min_confirmations: query.min_confirmations.or(config.min_confirmations),
        epochs: query.epochs.unwrap_or(config.epochs),
        session,
        timeout: query.timeout_ms.map_or(Duration::from_millis(config.timeout.get()), Duration::from_millis),
    };
    let done = put_file(&api.handle, request, body.into_data_stream()).await?;
    let (deal, manifest) = api.handle.file(&done.file)?;
    let (status, mut reason, height) = fill::status(&deal, &api.handle.nodes()?);
    if let Some(reason) = &mut reason {
        let said: Vec<_> = done.missing.iter().map(|(node, why)| format!("{}: {why}", node.short())).collect();
        reason.push_str(&format!(" ({})", said.join("; ")));
    }
    Ok(Json(PutView {
        file_id: done.file.to_string(),
        name: query.name,
        status,
        reason,
        height: height.max(done.height.get()),
        tx: done.tx.map(|tx| tx.to_string()).unwrap_or_default(),
        bytes: done.bytes,
        cipher_bytes: manifest.as_ref().map_or(0, |manifest| manifest.cipher_len),
        data: deal.data.into(),
        parity: manifest.as_ref().map_or(0, |manifest| manifest.parity.into()),
        confirmations: fill::count(deal.confirmed.len()),
        terms: terms(&api.handle, &deal),
        resumed_bytes: done.resumed_bytes,
    }))
}

pub(super) fn file_id(text: &str) -> Result<FileId, Problem> {
    text.parse().map_err(|error| Problem::bad(format!("file {text:?}: {error}")))
}

/// The node's own files.
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
            views.push(fill::file(&api.handle, &id, &deal, manifest.as_deref(), &nodes)?);
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
    let done = crate::node::files::remove(&api.handle, id, DELETE_WITHIN).await?;
    let (file_id, tx, height) = (id.to_string(), done.id.to_string(), done.place.height.get());
    Ok(Json(DeletedView { file_id, tx, height }))
}

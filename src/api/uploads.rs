//! The put route: its settings, and what came of it.

use std::time::Duration;

use axum::Json;
use axum::extract::multipart::{Field, MultipartError};
use axum::extract::{FromRequest, Multipart, Query, Request, State};
use axum::http::header;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::caller::Caller;
use super::fill;
use super::problem::Problem;
use super::server::Api;
use super::terms::{TermsView, terms};
use super::views::FileStatus;
use crate::files::Wanted;
use crate::ledger::record::DealStatus;
use crate::node::files::put::{Missing, PutRequest, put as put_file};
use crate::types::limits;

/// What a file is called whose name nobody told.
const UNNAMED: &str = "unnamed";
/// Characters of a file's name.
const NAME_CHARS_MAX: usize = 255;
const _: () = assert!(NAME_CHARS_MAX * 4 <= limits::FILE_NAME_BYTES_MAX, "in UTF-8 it fits a manifest");

/// Settings of a put. What is not given is as in the node's configuration, `[files]`.
#[derive(Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PutQuery {
    /// The file's name, without control characters. Otherwise as the form says, or `unnamed`.
    #[param(pattern = r"^[^\u0000-\u001f\u007f-\u009f]+$", min_length = 1, max_length = 255)]
    name: Option<String>,
    /// Slots that restore the file; with `parity_shards`.
    #[param(minimum = 1, maximum = 255)]
    data_shards: Option<u64>,
    /// Further slots.
    #[param(minimum = 0, maximum = 255)]
    parity_shards: Option<u64>,
    /// Bytes that are erasure-coded at once.
    #[param(minimum = 262144, maximum = 16777216)]
    chunk_size: Option<u64>,
    /// Confirmations that make the file final.
    #[param(maximum = 255)]
    min_confirmations: Option<u64>,
    /// The same as percent of the slots, or as a fraction such as 2/3.
    #[param(pattern = "^([1-9][0-9]?|100|1/2|2/3|3/4|3/5|4/5)$")]
    quorum_percent: Option<String>,
    /// Confirmations at which the put waits for no more.
    #[param(maximum = 255)]
    success_threshold: Option<u64>,
    /// Slots left at which others rebuild lost ones.
    #[param(maximum = 255)]
    repair_threshold: Option<u64>,
    /// Whether the file goes to the ledger with fewer confirmations than make it final.
    allow_pending: Option<bool>,
    /// Epochs that it is paid for.
    #[param(minimum = 1, maximum = 16777216)]
    epochs: Option<u64>,
    /// Names this put, so that another try with the same content goes on where it was; random.
    #[param(pattern = "^[0-9a-f]{64}$")]
    session: Option<String>,
    /// How long to wait for confirmations and for finality, milliseconds.
    #[param(minimum = 100, maximum = 3600000)]
    timeout_ms: Option<u64>,
}

/// A file in a form, after its name if that is given. What comes after the file is not looked at.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "it is read piece by piece; this is its description")]
pub struct UploadForm {
    /// The file's name; otherwise its part's `filename`.
    #[schema(pattern = r"^[^\u0000-\u001f\u007f-\u009f]+$", min_length = 1, max_length = 255)]
    name: Option<String>,
    /// Its bytes.
    #[schema(value_type = String, format = Binary)]
    file: Vec<u8>,
}

/// `POST /v1/files`, once the deal is on the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PutView {
    /// The file's id.
    pub file_id: String,
    /// Its name.
    pub name: String,
    /// Whether it is final.
    pub status: FileStatus,
    /// Why it is pending.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Height of the block with its deal.
    pub height: u64,
    /// The transaction that opened the deal.
    pub tx: String,
    /// Bytes of plaintext.
    pub bytes: u64,
    /// Bytes of ciphertext.
    pub cipher_bytes: u64,
    /// Slots that restore it.
    pub data: u32,
    /// Further slots.
    pub parity: u32,
    /// Confirmations that make it final.
    pub quorum: u32,
    /// Confirmations it has.
    pub confirmations: u32,
    /// Slots left at which others rebuild those that are lost.
    pub repair_threshold: u32,
    /// Nodes that did not confirm in time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<MissingView>,
    /// What has to happen until when, if it is pending.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<PendingView>,
    /// Until when it is kept, and at which price.
    #[serde(flatten)]
    pub terms: TermsView,
    /// Bytes of slots that an earlier, interrupted put of the session had placed already.
    pub resumed_bytes: u64,
}

/// A node that did not confirm its slot in time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MissingView {
    /// The node.
    pub node: String,
    /// Its name, when known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    /// Why.
    pub reason: String,
    /// Whether its confirmation still comes by itself, when the node is back.
    pub follows: bool,
}

/// How a pending file becomes final.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PendingView {
    /// Whether it becomes final by itself when nodes are back; otherwise the same put has to be run again.
    pub by_itself: bool,
    /// Confirmations that it lacks.
    pub lacks: u32,
    /// The last height whose block may make it final; the next one ends the deal.
    pub until: u64,
    /// In how many seconds that is about, at the pace of the last blocks.
    pub until_in_s: u64,
}

/// Store a file
///
/// The body is the file, of any type and length, or a form (`multipart/form-data`) with it as the part `file`. The answer comes when
/// the file's deal is on the chain.
#[utoipa::path(post, path = "/v1/files", tag = "files", operation_id = "put_file", params(PutQuery),
    request_body(content((Vec<u8> = "application/octet-stream"), (UploadForm = "multipart/form-data"))),
    responses((status = 200, body = PutView, description = "It is on the chain")))]
pub async fn put(
    State(api): State<Api>,
    caller: Caller,
    Query(query): Query<PutQuery>,
    request: Request,
) -> Result<Json<PutView>, Problem> {
    let headers = request.headers();
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if !kind.trim_start().to_ascii_lowercase().starts_with("multipart/form-data") {
        let len = headers.get(header::CONTENT_LENGTH).and_then(|len| len.to_str().ok());
        let wanted = settings(&api, &query, len.and_then(|len| len.parse().ok()), None)?;
        return store(&caller, wanted, request.into_body().into_data_stream()).await;
    }
    let mut form = Multipart::from_request(request, &api).await.map_err(|error| Problem::bad(error.body_text()))?;
    let wrong = |error: MultipartError| Problem::refused(error.status(), error.body_text());
    let mut name = None;
    while let Some(part) = form.next_field().await.map_err(wrong)? {
        if part.name() == Some("file") {
            let name = name.or_else(|| part.file_name().filter(|name| !name.is_empty()).map(str::to_owned));
            let wanted = settings(&api, &query, None, name)?;
            return store(&caller, wanted, part.map(|piece| piece.map_err(|error| error.body_text()))).await;
        }
        match part.name() {
            Some("name") => name = Some(text(part).await?),
            _ => {
                return Err(Problem::invalid(
                    "a form has the parts `name`, which need not be, and `file`, and no others",
                ));
            }
        }
    }
    Err(Problem::invalid("the form has no part `file`"))
}

/// A short part of a form. Errors: 413, 422.
async fn text(mut part: Field<'_>) -> Result<String, Problem> {
    let mut bytes = Vec::new();
    while let Some(piece) = part.chunk().await.map_err(|error| Problem::refused(error.status(), error.body_text()))? {
        if bytes.len() + piece.len() > limits::FILE_NAME_BYTES_MAX {
            return Err(Problem::invalid(format!("a file's name has at most {} bytes", limits::FILE_NAME_BYTES_MAX)));
        }
        bytes.extend_from_slice(&piece);
    }
    String::from_utf8(bytes).map_err(|_| Problem::invalid("the file's name is not UTF-8"))
}

async fn store<E: std::fmt::Display>(
    caller: &Caller,
    request: PutRequest,
    body: impl Stream<Item = Result<Bytes, E>> + Unpin,
) -> Result<Json<PutView>, Problem> {
    let (handle, name) = (&caller.handle, request.name.clone());
    // What cannot be is in conflict with the network as it is, or with itself: the request can be read.
    let done = put_file(handle, request, body).await.map_err(Problem::conflicting)?;
    let ((deal, manifest), nodes) = (handle.file(&done.file)?, handle.nodes()?);
    let (status, mut reason, height) = fill::status(&deal, &nodes);
    let told = |missing: &Missing| MissingView {
        node: missing.node.to_string(),
        node_name: fill::name_of(&missing.node, &nodes),
        reason: missing.why.clone(),
        follows: missing.follows,
    };
    let missing: Vec<_> = done.missing.iter().map(told).collect();
    let pending = match deal.status {
        DealStatus::Pending { until } => {
            let lacks = usize::from(deal.min_confirmations).saturating_sub(deal.confirmed.len());
            let by_itself = missing.iter().filter(|missing| missing.follows).count() >= lacks;
            let until_in_s = fill::seconds_until(handle, until)?;
            Some(PendingView { by_itself, lacks: fill::count(lacks), until: until.get(), until_in_s })
        }
        _ => None,
    };
    if let Some(reason) = &mut reason {
        let said: Vec<_> = done.missing.iter().map(|missing| missing.why.as_str()).collect();
        reason.push_str(&format!(" ({})", said.join("; ")));
    }
    Ok(Json(PutView {
        file_id: done.file.to_string(),
        name,
        status,
        reason,
        height: height.max(done.height.get()),
        tx: done.tx.map(|tx| tx.to_string()).unwrap_or_default(),
        bytes: done.bytes,
        cipher_bytes: manifest.as_ref().map_or(0, |manifest| manifest.cipher_len),
        data: deal.data.into(),
        parity: manifest.as_ref().map_or(0, |manifest| manifest.parity.into()),
        quorum: deal.min_confirmations.into(),
        confirmations: fill::count(deal.confirmed.len()),
        repair_threshold: deal.repair_threshold.into(),
        missing,
        pending,
        terms: terms(handle, &deal),
        resumed_bytes: done.resumed_bytes,
    }))
}

/// What is asked for, over what the configuration says; `told` is the form's name. Errors: 400 for what cannot be, with the bounds.
fn settings(api: &Api, query: &PutQuery, len: Option<u64>, told: Option<String>) -> Result<PutRequest, Problem> {
    let name = query.name.clone().or(told).unwrap_or_else(|| UNNAMED.to_owned());
    if name.is_empty() || name.chars().any(char::is_control) {
        return Err(Problem::bad("a file needs a name, without control characters"));
    }
    if name.chars().count() > NAME_CHARS_MAX {
        return Err(Problem::bad(format!("a file's name has at most {NAME_CHARS_MAX} characters")));
    }
    let config = &api.handle.config().files;
    let mut session = [0; 32];
    match &query.session {
        Some(text) => hex::decode_to_slice(text, &mut session)
            .map_err(|_| Problem::bad("session must be 64 hexadecimal digits"))?,
        None => getrandom::fill(&mut session).map_err(|error| Problem::unavailable(error.to_string()))?,
    }
    let shards = match (query.data_shards, query.parity_shards) {
        (Some(data), Some(parity)) => {
            let data = within("data_shards", data, 1, limits::SLOTS_MAX as u64)?;
            let parity = within::<u8>("parity_shards", parity, 0, limits::SLOTS_MAX as u64)?;
            if usize::from(data) + usize::from(parity) > limits::SLOTS_MAX {
                let detail = format!("{data} + {parity} slots; a file has at most {}", limits::SLOTS_MAX);
                return Err(Problem::clash(detail));
            }
            Some((data, parity))
        }
        (None, None) => config.shards,
        _ => return Err(Problem::clash("data_shards and parity_shards are given together or not at all")),
    };
    let (least, most) = (limits::CHUNK_BYTES_MIN.into(), limits::CHUNK_BYTES_MAX.into());
    let chunk = query.chunk_size.map(|bytes| within("chunk_size", bytes, least, most)).transpose()?;
    let quorum = query.quorum_percent.as_ref().map(|text| text.parse()).transpose();
    let quorum = quorum.map_err(|error| Problem::bad(format!("quorum_percent: {error}")))?;
    let timeout = query.timeout_ms.map(|timeout| within("timeout_ms", timeout, 100, 3_600_000)).transpose()?;
    let epochs = query.epochs.map(|epochs| within("epochs", epochs, 1, limits::DEAL_EPOCHS_MAX.into())).transpose()?;
    let usual = config.wanted;
    Ok(PutRequest {
        name,
        len,
        shards,
        chunk_bytes: chunk.or(config.chunk_bytes),
        epochs: epochs.unwrap_or(config.epochs),
        wanted: Wanted {
            min_confirmations: query.min_confirmations.or(usual.min_confirmations),
            quorum: quorum.or(usual.quorum),
            success_threshold: query.success_threshold.or(usual.success_threshold),
            repair_threshold: query.repair_threshold.or(usual.repair_threshold),
        },
        allow_pending: query.allow_pending.unwrap_or(config.allow_pending),
        session,
        timeout: Duration::from_millis(timeout.unwrap_or(config.timeout.get())),
    })
}

fn within<T: TryFrom<u64>>(what: &str, have: u64, min: u64, max: u64) -> Result<T, Problem> {
    let wrong = || Problem::bad(format!("{what} is {have}; {min} to {max} are possible"));
    if (min..=max).contains(&have) { T::try_from(have).map_err(|_| wrong()) } else { Err(wrong()) }
}

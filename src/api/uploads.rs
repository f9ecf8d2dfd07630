//! The put route: its settings, and what came of it.

use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, header};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::fill;
use super::problem::Problem;
use super::server::Api;
use super::terms::{TermsView, terms};
use super::views::FileStatus;
use crate::files::{FileKind, Wanted};
use crate::ledger::record::DealStatus;
use crate::node::files::put::{Missing, PutRequest, put as put_file};
use crate::types::limits;

/// Settings of a put; the body is the file. What is not given is as in the node's configuration, `[files]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PutQuery {
    name: String,
    data_shards: Option<u64>,
    parity_shards: Option<u64>,
    chunk_size: Option<u64>,
    min_confirmations: Option<u64>,
    quorum_percent: Option<String>,
    success_threshold: Option<u64>,
    repair_threshold: Option<u64>,
    allow_pending: Option<bool>,
    epochs: Option<u64>,
    session: Option<String>,
    timeout_ms: Option<u64>,
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

/// Stores a file; answers when its deal is on the chain.
pub async fn put(
    State(api): State<Api>,
    Query(query): Query<PutQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<PutView>, Problem> {
    let len = headers.get(header::CONTENT_LENGTH).and_then(|len| len.to_str().ok()).and_then(|len| len.parse().ok());
    let request = request(&api, &query, len)?;
    let done = put_file(&api.handle, request, body.into_data_stream()).await?;
    let ((deal, manifest), nodes) = (api.handle.file(&done.file)?, api.handle.nodes()?);
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
            let until_in_s = fill::seconds_until(&api.handle, until)?;
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
        name: query.name,
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
        terms: terms(&api.handle, &deal),
        resumed_bytes: done.resumed_bytes,
    }))
}

/// What is asked for, over what the configuration says. Errors: 400 for what cannot be, with the bounds.
fn request(api: &Api, query: &PutQuery, len: Option<u64>) -> Result<PutRequest, Problem> {
    if query.name.is_empty() || query.name.chars().any(char::is_control) {
        return Err(Problem::bad("a file needs a name, without control characters"));
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
            Some((data, within("parity_shards", parity, 0, limits::SLOTS_MAX as u64 - u64::from(data))?))
        }
        (None, None) => config.shards,
        _ => return Err(Problem::bad("data_shards and parity_shards are given together or not at all")),
    };
    let (least, most) = (limits::CHUNK_BYTES_MIN.into(), limits::CHUNK_BYTES_MAX.into());
    let chunk = query.chunk_size.map(|bytes| within("chunk_size", bytes, least, most)).transpose()?;
    let quorum = query.quorum_percent.as_ref().map(|text| text.parse()).transpose();
    let quorum = quorum.map_err(|error| Problem::bad(format!("quorum_percent: {error}")))?;
    let timeout = query.timeout_ms.map(|timeout| within("timeout_ms", timeout, 100, 3_600_000)).transpose()?;
    let epochs = query.epochs.map(|epochs| within("epochs", epochs, 1, limits::DEAL_EPOCHS_MAX.into())).transpose()?;
    let usual = config.wanted;
    Ok(PutRequest {
        name: query.name.clone(),
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
        kind: FileKind::Alone,
    })
}

fn within<T: TryFrom<u64>>(what: &str, have: u64, min: u64, max: u64) -> Result<T, Problem> {
    let wrong = || Problem::bad(format!("{what} is {have}; {min} to {max} are possible"));
    if (min..=max).contains(&have) { T::try_from(have).map_err(|_| wrong()) } else { Err(wrong()) }
}

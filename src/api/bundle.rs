//! Proof bundles as JSON text: readable for people, and every byte of it counts.
//!
//! The text is made from the bundle's bytes, which stand in it too. Whoever verifies makes the text again and compares, so
//! that nothing in it can say what is not proven.

use axum::extract::{Path, Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::IntoParams;

use super::caller::Caller;
use super::chain::parse_account;
use super::paging;
use super::problem::Problem;
use super::server::Api;
use crate::ledger::record::DealStatus;
use crate::ledger::{Key, Record};
use crate::node::bundle::{Anchor, Bundle, BundleError, Checkpoint};
use crate::types::{FileId, Height};
use crate::wire;

/// What the text says, for people, and the bytes that prove it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    format: String,
    chain: String,
    height: u64,
    state_root: String,
    subject: String,
    record: serde_json::Value,
    signers: usize,
    set_changes: usize,
    bundle: String,
}

const FORMAT: &str = "trullo-bundle-1";

/// What a verified bundle says.
#[derive(Debug)]
pub struct Verified {
    /// The chain.
    pub chain: String,
    /// The height whose state it is.
    pub height: u64,
    /// What it is about.
    pub subject: String,
    /// The record as JSON; null if there is none.
    pub record: serde_json::Value,
    /// Validators that certified it.
    pub signers: usize,
    /// Changes of the validators in it.
    pub set_changes: usize,
}

fn render(bundle: &Bundle, key: &Key, record: Option<&Record>) -> Text {
    let header = bundle.headers.first();
    Text {
        format: FORMAT.to_owned(),
        chain: header.map(|header| header.chain.to_string()).unwrap_or_default(),
        height: bundle.height().get(),
        state_root: header.map(|header| header.state_root.to_string()).unwrap_or_default(),
        subject: subject(key),
        record: record.map_or(serde_json::Value::Null, describe),
        signers: bundle.certificate.signatures.len(),
        set_changes: bundle.changes.len(),
        bundle: hex::encode(wire::encode(bundle)),
    }
}

/// Names a key in full: a proof that there is no record may hold for other keys too, and must not pass for them.
fn subject(key: &Key) -> String {
    match key {
        Key::Account(id) => format!("account {id}"),
        Key::Root(id) => format!("root of account {id}"),
        Key::File(id) => format!("file {id}"),
        Key::Manifest(id) => format!("manifest of file {id}"),
        Key::OwnerFile(owner, id) => format!("file {id} of account {owner}"),
        Key::Share(account, id) => format!("share of file {id} with account {account}"),
        Key::Shares(id) => format!("shares of file {id}"),
        Key::Lost(id) => format!("lost slots of file {id}"),
        Key::Node(id) => format!("node {id}"),
        Key::Sums(id, level, index) => format!("sums {level}.{index} of node {id}"),
        Key::Held(id, leaf) => format!("slot at leaf {leaf} of node {id}"),
        Key::Challenge(id) => format!("audit of node {id}"),
        Key::Missed(id) => format!("missed slots of node {id}"),
        Key::Draining(id) => format!("drain of node {id}"),
        Key::Offence(id) => format!("offence of node {id}"),
        // No id in these is shortened.
        Key::Params | Key::Tip | Key::Validators | Key::SkipList | Key::OperatorCount | Key::Tally | Key::Stakes => {
            format!("{key:?}")
        }
        Key::Protocol => "version of the rules".to_owned(),
        Key::Forfeited => "forfeited stakes".to_owned(),
        Key::Replaced(epoch) => format!("validators replaced in epoch {epoch}"),
        Key::Operator(_) | Key::DueCount(_) | Key::Due(..) => format!("{key:?}"),
    }
}

pub(super) fn describe(record: &Record) -> serde_json::Value {
    match record {
        Record::Account(account) => serde_json::json!({ "balance": account.balance.get(), "nonce": account.nonce }),
        Record::File(deal) => serde_json::json!({
            "owner": deal.owner.to_string(),
            "status": deal.status.name(),
            "since": match deal.status {
                DealStatus::Final { since } => since.get(),
                DealStatus::Pending { .. } => deal.opened.get(),
                DealStatus::Deleted { at } | DealStatus::Expired { at } | DealStatus::Ended { at } => at.get(),
            },
            "data": deal.data,
            "slot_len": deal.slot_len,
            "min_confirmations": deal.min_confirmations,
            "repair_threshold": deal.repair_threshold,
            "confirmed": deal.confirmed.iter().collect::<Vec<_>>(),
            "lost": deal.lost.iter().collect::<Vec<_>>(),
            "ends": deal.ends.get(),
            "escrow": deal.escrow.get(),
            "placement": deal.placement.iter().map(ToString::to_string).collect::<Vec<_>>(),
        }),
        other => serde_json::Value::String(format!("{other:?}")),
    }
}

/// The text of a bundle whose proof `Bundle::verify` has checked; key and record are what that returned.
pub fn text(bundle: &Bundle, key: &Key, record: Option<&Record>) -> String {
    // Values of plain JSON types; nothing in them can fail to be written.
    let mut text = serde_json::to_string_pretty(&render(bundle, key, record)).unwrap_or_default();
    text.push('\n');
    text
}

/// Verifies a bundle's text with a genesis or a checkpoint alone. Errors: `BundleError`.
pub fn verify(text_given: &str, anchor: &Anchor<'_>) -> Result<Verified, BundleError> {
    let parsed: Text =
        serde_json::from_str(text_given).map_err(|error| BundleError(format!("not a bundle: {error}")))?;
    if parsed.format != FORMAT {
        return Err(BundleError(format!("format {:?} is not known; this program knows {FORMAT}", parsed.format)));
    }
    let bytes = hex::decode(&parsed.bundle).map_err(|error| BundleError(format!("not a bundle: {error}")))?;
    let bundle = Bundle::decode(&bytes)?;
    let (key, record) = bundle.verify(anchor)?;
    if text(&bundle, &key, record.as_ref()) != text_given {
        return Err(BundleError("the text says something else than the proof in it".to_owned()));
    }
    Ok(Verified {
        chain: parsed.chain,
        height: parsed.height,
        subject: parsed.subject,
        record: parsed.record,
        signers: parsed.signers,
        set_changes: parsed.set_changes,
    })
}

/// Where a bundle begins.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct FromQuery {
    /// Height of the checkpoint that the bundle begins with; the genesis if not given.
    #[param(maximum = 9007199254740991_u64)]
    from: Option<u64>,
}

fn answer(api: &Api, key: &Key, query: &FromQuery) -> Result<Response, Problem> {
    paging::number("from", query.from)?;
    let bundle = Bundle::make(&api.handle, key, query.from.map(Height::new))?;
    let anchor = match &bundle.start {
        Some((header, _)) => Anchor::Checkpoint(Checkpoint { height: header.height, hash: header.hash() }),
        None => Anchor::Genesis(api.handle.genesis()),
    };
    // A bundle that this node cannot verify itself is not given away.
    let (key, record) = bundle.verify(&anchor).map_err(|error| Problem::unavailable(error.to_string()))?;
    Ok(([(header::CONTENT_TYPE, "application/json")], text(&bundle, &key, record.as_ref())).into_response())
}

/// Proves a file's deal
#[utoipa::path(get, path = "/v1/proofs/file/{id}", tag = "chain", operation_id = "prove_file",
    params(("id" = String, Path, pattern = "^[0-9a-f]{64}$", description = "The file"), FromQuery),
    responses((status = 200, content_type = "application/json", body = serde_json::Value, description = "A bundle for `trullo verify`")))]
pub async fn file(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<String>,
    Query(query): Query<FromQuery>,
) -> Result<Response, Problem> {
    let id: FileId = id.parse().map_err(|error| Problem::bad(format!("file {id:?}: {error}")))?;
    caller.file(&id)?;
    answer(&api, &Key::File(id), &query)
}

/// Proves an account, or that there is none
#[utoipa::path(get, path = "/v1/proofs/account/{id}", tag = "chain", operation_id = "prove_account",
    params(("id" = String, Path, pattern = "^(me|[0-9a-f]{64})$", description = "The account, or me"), FromQuery),
    responses((status = 200, content_type = "application/json", body = serde_json::Value, description = "A bundle for `trullo verify`")))]
pub async fn account(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<String>,
    Query(query): Query<FromQuery>,
) -> Result<Response, Problem> {
    let account = parse_account(&caller.handle, &id)?;
    if !caller.is_owner() && caller.handle.account() != Some(account) {
        return Err(Problem::not_found(format!("account {account} is not on the chain")));
    }
    answer(&api, &Key::Account(account), &query)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{AccountId, NodeId};

    /// The fuzzer changed the end of a key whose absence was proven, and the text stayed the same.
    #[test]
    fn keys_that_differ_in_their_last_byte_have_different_subjects() {
        let keys = |last: u8| {
            let mut raw = [3; 32];
            raw[31] = last;
            let (owner, file) = (AccountId::from_bytes(raw), FileId::from_bytes(raw));
            let fixed = FileId::from_bytes([3; 32]);
            let node = Key::Node(NodeId::from_bytes(raw));
            let pairs = [Key::OwnerFile(owner, fixed), Key::OwnerFile(AccountId::from_bytes([3; 32]), file)];
            [Key::Account(owner), Key::File(file), Key::Manifest(file), node].into_iter().chain(pairs)
        };
        for (a, b) in keys(1).zip(keys(2)) {
            assert_ne!(subject(&a), subject(&b), "{a:?}");
        }
    }
}

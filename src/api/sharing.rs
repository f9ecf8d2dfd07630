//! Sharing routes: who may read a file, capabilities, and checks by whoever has a file's id.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Query};
use axum::http::HeaderMap;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::caller::Caller;
use super::files::file_id;
use super::problem::Problem;
use super::storage::DoneView;
use super::views::FileStatus;
use super::{fill, paging};
use crate::crypto::seal::FileKey;
use crate::files::Capability;
use crate::ledger::record::Shared;
use crate::ledger::{Key, Record};
use crate::node::files::access;
use crate::node::files::verify::{self, SlotState};
use crate::node::{Handle, NodeError};
use crate::types::{AccountId, FileId, Height};

/// How long a transaction may take to become final.
const ACT_WITHIN: Duration = Duration::from_secs(30);
/// Files in one answer of what is shared, unless fewer are asked for.
const PAGE_MAX: usize = 1_000;
/// Longest that a check waits for repair, seconds.
const REPAIR_S_MAX: u64 = 24 * 3_600;
/// Blocks by which the pace of the chain is measured.
const PACE_SAMPLES: u64 = 256;
/// With fewer of them the network's idle interval counts: the first blocks of a network come in a burst.
const PACE_SAMPLES_MIN: usize = 32;
/// A block that comes after so many idle intervals comes after a halt.
const HALT_INTERVALS: u64 = 4;
/// The header with a read capability, in requests for a file and for its info.
pub const CAPABILITY_HEADER: &str = "trullo-capability";

/// An account that a file is shared with: `GET /v1/files/{id}/shares`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShareView {
    /// The file.
    pub file: String,
    /// Its name, on its owner's node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Who may read it.
    pub account: String,
    /// The last height at which the share counts; absent: until the deal ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
    /// In how many seconds that is about, at the mean pace of blocks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_in_s: Option<u64>,
    /// Whether its time is up.
    pub over: bool,
}

/// A file that somebody shares with this node's account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SharedView {
    /// The file.
    pub file: String,
    /// Its name, as its owner chose it; absent if the share does not open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Bytes of plaintext; absent if the share does not open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Who shares it.
    pub owner: String,
    /// Whether it is final.
    pub status: FileStatus,
    /// The last height at which the share counts; absent: until the deal ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
    /// In how many seconds that is about, at the mean pace of blocks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_in_s: Option<u64>,
}

/// `GET /v1/shared`: by file id, a page at a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SharedPageView {
    /// The files; fewer than asked for where shares are over.
    pub files: Vec<SharedView>,
    /// What to give as `after` for the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// What `GET /v1/shared` takes.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SharedQuery {
    /// `next` of the page before.
    #[param(pattern = "^[0-9a-f]{64}$")]
    pub(super) after: Option<String>,
    /// Files in the answer.
    #[param(minimum = 1, maximum = 1000, default = 1000)]
    pub(super) limit: Option<usize>,
}

/// What `PUT /v1/files/{id}/shares/{account}` takes; neither of them: until the deal ends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ShareRequest {
    /// The last height at which the share counts.
    #[schema(maximum = 9007199254740991_u64)]
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "super::whole::optional")]
    pub until: Option<u64>,
    /// After how many seconds it is about over, at the mean pace of blocks so far.
    #[schema(maximum = 9007199254740991_u64)]
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "super::whole::optional")]
    pub expires_s: Option<u64>,
}

/// What `POST /v1/files/{id}/cap` takes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CapRequest {
    /// Whether it is to check the file only, not to read it.
    pub verify: bool,
}

/// `POST /v1/files/{id}/cap`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CapView {
    /// The file.
    pub file: String,
    /// `read` or `verify`.
    pub kind: String,
    /// The capability. One to read is a secret.
    pub capability: String,
}

/// What `POST /v1/files/{id}/verify` takes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct VerifyRequest {
    /// For how many seconds to look again at what is not whole, at most a day; 0: once only.
    #[schema(maximum = 86400)]
    #[serde(deserialize_with = "super::whole::number")]
    pub repair_s: u64,
}

/// `POST /v1/files/{id}/verify`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VerifyView {
    /// The file.
    pub file: String,
    /// Whether nothing is missing and nothing is wrong.
    pub whole: bool,
    /// Slots that restore it.
    pub needed: u32,
    /// Whether the roots of all slots follow from those that were read; absent where too few could be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consistent: Option<bool>,
    /// Its slots, in order.
    pub slots: Vec<VerifiedSlotView>,
}

/// One slot of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VerifiedSlotView {
    /// Its place, from 0.
    pub slot: u32,
    /// The node that holds it by the ledger, or held it last.
    pub node: String,
    /// Its name, when known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    /// `whole`, `not_held`, `unreachable`, `lacking` or `wrong`.
    pub state: String,
    /// More of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The time of a block, for heights as times and times as heights.
struct Pace {
    tip: u64,
    block_ms: u64,
}

impl Pace {
    /// The mean since the first block, of intervals all over the chain: a burst of blocks now says little of the days to come.
    fn read(handle: &Handle) -> Result<Self, Problem> {
        let idle = handle.genesis().timing.idle_interval.get().max(1);
        let Some(tip) = handle.reader().tip().map(|tip| tip.height.get()) else { return Ok(Self::of(0, idle, &[])) };
        let snapshot = handle.snapshot()?;
        let blocks = tip.saturating_sub(1);
        let count = blocks.min(PACE_SAMPLES);
        let mut intervals = Vec::new();
        for sample in 0..count {
            let before = sample.saturating_mul(blocks).checked_div(count).unwrap_or(0).saturating_add(1);
            let at = |height| snapshot.header(Height::new(height));
            let (Some(from), Some(to)) = (at(before)?, at(before.saturating_add(1))?) else { continue };
            intervals.push(to.time.saturating_sub(from.time).get());
        }
        Ok(Self::of(tip, idle, &intervals))
    }
    /// A halt of the network counts as a slow block, not with all its time.
    fn of(tip: u64, idle: u64, intervals: &[u64]) -> Self {
        if intervals.len() < PACE_SAMPLES_MIN {
            return Self { tip, block_ms: idle };
        }
        let most = idle.saturating_mul(HALT_INTERVALS);
        let sum = intervals.iter().fold(0_u64, |sum, interval| sum.saturating_add(*interval.min(&most)));
        Self { tip, block_ms: sum.checked_div(intervals.len() as u64).unwrap_or(idle).max(1) }
    }
    /// The height that is about reached in so many seconds, at least the next one.
    fn height_in(&self, seconds: u64) -> Height {
        let blocks = seconds.saturating_mul(1_000).div_ceil(self.block_ms).max(1);
        Height::new(self.tip.saturating_add(blocks))
    }
    fn seconds_until(&self, height: Height) -> u64 {
        height.get().saturating_sub(self.tip).saturating_mul(self.block_ms) / 1_000
    }
    fn share(&self, file: &FileId, name: Option<String>, shared: &Shared) -> ShareView {
        ShareView {
            file: file.to_string(),
            name,
            account: shared.to.to_string(),
            until: shared.until.map(Height::get),
            until_in_s: shared.until.map(|until| self.seconds_until(until)),
            over: shared.is_over(Height::new(self.tip)),
        }
    }
}

fn account_id(text: &str) -> Result<AccountId, Problem> {
    text.parse().map_err(|error| Problem::bad(format!("account {text:?}: {error}")))
}

/// A name that somebody else chose, without what a terminal would take for a command or for a new line.
pub(super) fn harmless(name: &str) -> String {
    name.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// The capability that a request brings, if it does. Errors: 400 for what is none, or one of another file.
fn capability(headers: &HeaderMap, file: &FileId) -> Result<Option<Capability>, Problem> {
    let Some(text) = headers.get(CAPABILITY_HEADER) else { return Ok(None) };
    let capability = text.to_str().unwrap_or_default().parse::<Capability>();
    let capability = capability.map_err(|error| Problem::bad(error.to_string()))?;
    let (Capability::Read { file: of, .. } | Capability::Verify { file: of }) = &capability;
    if of != file {
        return Err(Problem::bad("the capability is for another file"));
    }
    Ok(Some(capability))
}

/// The key of the capability that a request brings, if it does.
/// Errors: 400 for what is none, or one of another file; 403 for one that reads nothing.
pub(super) fn brought(headers: &HeaderMap, file: &FileId) -> Result<Option<FileKey>, Problem> {
    match capability(headers, file)? {
        None => Ok(None),
        Some(Capability::Read { key, .. }) => Ok(Some(key)),
        Some(Capability::Verify { .. }) => {
            Err(Problem::forbidden("a verify capability checks a file and reads nothing"))
        }
    }
}

/// With whom an own file is shared
#[utoipa::path(get, path = "/v1/files/{id}/shares", tag = "sharing", operation_id = "list_shares",
    params(("id" = String, Path, pattern = "^[0-9a-f]{64}$", description = "The file")),
    responses((status = 200, body = Vec<ShareView>, description = "The accounts")))]
pub async fn list(caller: Caller, Path(id): Path<String>) -> Result<Json<Vec<ShareView>>, Problem> {
    let file = file_id(&id)?;
    caller.file(&file)?;
    let (shares, pace) = (access::shares(&caller.handle, &file)?, Pace::read(&caller.handle)?);
    Ok(Json(shares.iter().map(|shared| pace.share(&file, None, shared)).collect()))
}

/// With whom own files are shared
#[utoipa::path(get, path = "/v1/shares", tag = "sharing", operation_id = "list_all_shares",
    responses((status = 200, body = Vec<ShareView>, description = "Files and accounts")))]
pub async fn list_all(caller: Caller) -> Result<Json<Vec<ShareView>>, Problem> {
    let pace = Pace::read(&caller.handle)?;
    let mut views = Vec::new();
    caller.handle.each_own_file(|file, deal| {
        let Some(Record::Shares(list)) = caller.handle.record(&Key::Shares(file))? else { return Ok(()) };
        let (_, manifest) = caller.handle.file(&file)?;
        let open =
            manifest.and_then(|manifest| access::open_manifest(&caller.handle, &file, &deal, &manifest, None).ok());
        let name = open.map(|open| open.facts().name.clone());
        views.extend(list.iter().map(|shared| pace.share(&file, name.clone(), shared)));
        Ok(())
    })?;
    Ok(Json(views))
}

/// Share an own file with an account
///
/// Without a body, or with neither number in it, until the deal ends.
#[utoipa::path(put, path = "/v1/files/{id}/shares/{account}", tag = "sharing", operation_id = "share_file", request_body = Option<ShareRequest>,
    params(("id" = String, Path, pattern = "^[0-9a-f]{64}$", description = "The file"),
        ("account" = String, Path, pattern = "^[0-9a-f]{64}$", description = "The account")),
    responses((status = 200, body = DoneView, description = "It is on the ledger")))]
pub async fn put(
    caller: Caller,
    Path((id, account)): Path<(String, String)>,
    request: Option<Json<Option<ShareRequest>>>,
) -> Result<Json<DoneView>, Problem> {
    let request = request.and_then(|Json(request)| request).unwrap_or_default();
    let (file, to) = (file_id(&id)?, account_id(&account)?);
    caller.file(&file)?;
    paging::number("until", request.until)?;
    paging::number("expires_s", request.expires_s)?;
    let until = match (request.until, request.expires_s) {
        (Some(_), Some(_)) => return Err(Problem::clash("until and expires_s are two ways to say the same; give one")),
        (until, None) => until.map(Height::new),
        (None, Some(seconds)) => Some(Pace::read(&caller.handle)?.height_in(seconds)),
    };
    let done = access::share(&caller.handle, file, to, until, ACT_WITHIN).await.map_err(Problem::conflicting)?;
    Ok(Json(DoneView { tx: done.id.to_string(), height: done.place.height.get() }))
}

/// Take a share off the ledger
///
/// Asked for by the owner of the file, or by the account that it was given to. Who has read the key may have kept it.
#[utoipa::path(delete, path = "/v1/files/{id}/shares/{account}", tag = "sharing", operation_id = "delete_share",
    params(("id" = String, Path, pattern = "^[0-9a-f]{64}$", description = "The file"),
        ("account" = String, Path, pattern = "^[0-9a-f]{64}$", description = "The account")),
    responses((status = 200, body = DoneView, description = "It is on the ledger")))]
pub async fn delete(caller: Caller, Path((id, account)): Path<(String, String)>) -> Result<Json<DoneView>, Problem> {
    let (file, to) = (file_id(&id)?, account_id(&account)?);
    match caller.handle.record(&Key::Share(to, file))? {
        Some(_) => {}
        None => return Err(Problem::not_found(format!("file {file} is not shared with account {to}"))),
    }
    if caller.account()? != to {
        caller.file(&file)?;
    }
    let done = access::unshare(&caller.handle, file, to, ACT_WITHIN).await?;
    Ok(Json(DoneView { tx: done.id.to_string(), height: done.place.height.get() }))
}

/// What is shared with the caller's account
#[utoipa::path(get, path = "/v1/shared", tag = "sharing", operation_id = "list_shared",
    params(SharedQuery),
    responses((status = 200, body = SharedPageView, description = "A page of files")))]
pub async fn shared(caller: Caller, Query(query): Query<SharedQuery>) -> Result<Json<SharedPageView>, Problem> {
    let after = query.after.as_deref().map(file_id).transpose()?;
    let limit = paging::limit(query.limit, PAGE_MAX, PAGE_MAX)?;
    let access::SharedPage { files: found, next } = access::shared_with_me(&caller.handle, after, limit)?;
    let (pace, nodes) = (Pace::read(&caller.handle)?, caller.handle.nodes()?);
    let mut files = Vec::new();
    for (file, shared) in found {
        // A deal may have ended since its share was read.
        let (deal, Some(manifest)) = caller.handle.file(&file)? else { continue };
        let open = match access::open_manifest(&caller.handle, &file, &deal, &manifest, None) {
            Ok(open) => Some(open),
            Err(NodeError::Verification(_) | NodeError::NotAllowed(_)) => None,
            Err(error) => return Err(error.into()),
        };
        files.push(SharedView {
            file: file.to_string(),
            name: open.as_ref().map(|open| harmless(&open.facts().name)),
            bytes: open.as_ref().map(crate::files::OpenManifest::plain_len),
            owner: deal.owner.to_string(),
            status: fill::status(&deal, &nodes).0,
            until: shared.until.map(Height::get),
            until_in_s: shared.until.map(|until| pace.seconds_until(until)),
        });
    }
    Ok(Json(SharedPageView { files, next: next.map(|file| file.to_string()) }))
}

/// A capability of a file, to read it or to check it
///
/// One to read is a secret: whoever has it can read the file.
#[utoipa::path(post, path = "/v1/files/{id}/cap", tag = "sharing", operation_id = "make_capability", request_body = Option<CapRequest>,
    params(("id" = String, Path, pattern = "^[0-9a-f]{64}$", description = "The file")),
    responses((status = 200, body = CapView, description = "The capability")))]
pub async fn cap(
    caller: Caller,
    Path(id): Path<String>,
    request: Option<Json<Option<CapRequest>>>,
) -> Result<Json<CapView>, Problem> {
    let request = request.and_then(|Json(request)| request).unwrap_or_default();
    let file = file_id(&id)?;
    caller.readable(&file, None)?;
    let capability = access::capability(&caller.handle, file, request.verify)?;
    let kind = if request.verify { "verify" } else { "read" };
    let capability = capability.text().as_str().to_owned();
    Ok(Json(CapView { file: file.to_string(), kind: kind.to_owned(), capability }))
}

/// Read every slot of a file from its node and compare it with the ledger
///
/// A user may ask it of files that it may read, and of one that it brings a capability of in the header `trullo-capability`.
#[utoipa::path(post, path = "/v1/files/{id}/verify", tag = "sharing", operation_id = "verify_file", request_body = Option<VerifyRequest>,
    params(("id" = String, Path, pattern = "^[0-9a-f]{64}$", description = "The file")),
    responses((status = 200, body = VerifyView, description = "What was found")))]
pub async fn verify(
    caller: Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
    request: Option<Json<Option<VerifyRequest>>>,
) -> Result<Json<VerifyView>, Problem> {
    let request = request.and_then(|Json(request)| request).unwrap_or_default();
    let file = file_id(&id)?;
    if capability(&headers, &file)?.is_none() {
        caller.readable(&file, None)?;
    }
    if request.repair_s > REPAIR_S_MAX {
        return Err(Problem::bad(format!("repair_s is {}; at most {REPAIR_S_MAX} is possible", request.repair_s)));
    }
    let repair = (request.repair_s > 0).then(|| Duration::from_secs(request.repair_s));
    let report = verify::verify(&caller.handle, file, repair).await?;
    let nodes = caller.handle.nodes()?;
    let slot = |slot: &verify::SlotReport| {
        let (state, reason) = match &slot.state {
            SlotState::Whole => ("whole", None),
            SlotState::NotHeld => ("not_held", None),
            SlotState::Unreachable(why) => ("unreachable", Some(why.clone())),
            SlotState::Lacking(why) => ("lacking", Some(why.clone())),
            SlotState::Wrong(why) => ("wrong", Some(why.clone())),
        };
        VerifiedSlotView {
            slot: slot.slot.into(),
            node: slot.node.to_string(),
            node_name: fill::name_of(&slot.node, &nodes),
            state: state.to_owned(),
            reason,
        }
    };
    Ok(Json(VerifyView {
        file: file.to_string(),
        whole: report.is_whole(),
        needed: report.needed.into(),
        consistent: report.consistent,
        slots: report.slots.iter().map(slot).collect(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_become_heights_at_the_mean_pace_and_never_overflow() {
        let pace = Pace { tip: 100, block_ms: 500 };
        assert_eq!(pace.height_in(10), Height::new(120));
        assert_eq!(pace.height_in(0), Height::new(101), "not over before it begins");
        assert_eq!(pace.seconds_until(Height::new(120)), 10);
        assert_eq!((pace.seconds_until(Height::new(7)), pace.height_in(u64::MAX) > Height::new(1 << 50)), (0, true));
    }

    #[test]
    fn a_halt_of_the_network_hardly_changes_its_pace() {
        let of = |intervals: &[u64]| Pace::of(9, 2_000, intervals).block_ms;
        assert_eq!((of(&[]), of(&[100; 31])), (2_000, 2_000), "little is known but what the network wants");
        assert_eq!((of(&[100; 32]), of(&[0; 32])), (100, 1));
        let mut halted = [2_000; 60];
        halted[7] = 30 * 24 * 3_600 * 1_000;
        assert_eq!(of(&halted), 2_100, "and not half a day");
    }

    #[test]
    fn a_strangers_name_sends_no_command_and_no_line() {
        assert_eq!(harmless("a\n\u{1b}[2Jb é"), "a\u{fffd}\u{fffd}[2Jb é");
    }

    #[test]
    fn a_request_brings_only_a_key_of_the_file_it_asks_for() {
        let file = FileId::from_bytes([1; 32]);
        let read = Capability::Read { file, key: FileKey::from_bytes([2; 32]) };
        let with = |text: &str, file: &FileId| {
            let mut headers = HeaderMap::new();
            headers.insert(CAPABILITY_HEADER, text.parse().expect("a header"));
            brought(&headers, file)
        };
        assert_eq!(with(&read.text(), &file).ok(), Some(Some(FileKey::from_bytes([2; 32]))));
        assert_eq!(brought(&HeaderMap::new(), &file).ok(), Some(None));
        assert!(with(&read.text(), &FileId::from_bytes([3; 32])).is_err());
        assert!(with(&Capability::Verify { file }.text(), &file).is_err());
        assert!(with("trullo-read-x", &file).is_err());
    }
}

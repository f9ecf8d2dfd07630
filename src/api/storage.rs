//! Storage routes: how nodes answer audits, how well files are kept, and giving slots away.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::caller::Caller;
use super::files::file_id;
use super::fill;
use super::measured::{Evidence, LossView, MeasuredView};
use super::problem::Problem;
use super::server::Api;
use super::terms::{TermsView, terms};
use super::views::ProblemView;
use crate::files::Parameters;
use crate::ledger::record::{Deal, NodeEntry};
use crate::ledger::{Key, Record};
use crate::node::Handle;
use crate::node::measured::Measured;
use crate::types::{FileId, NodeId, Role};
use crate::wire::Action;

/// How long an action may take to become final.
const ACT_WITHIN: Duration = Duration::from_secs(30);
/// Files in one answer about those in danger.
const ENDANGERED_MAX: usize = 1_024;
/// Shares of a node's bytes whose loss `AuditView` tells the odds of finding.
const LOST_SHARES: [f64; 3] = [0.01, 0.05, 0.1];

/// How a storage node has answered its audits.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AuditView {
    /// The node.
    pub node: String,
    /// Its name.
    pub name: String,
    /// Who runs it.
    pub operator: String,
    /// Whether it may be placed in new deals.
    pub active: bool,
    /// Whether it gives its slots away.
    pub draining: bool,
    /// Bytes offered.
    pub capacity: u64,
    /// Bytes of slots that the ledger says it holds.
    pub used: u64,
    /// Samples asked.
    pub asked: u64,
    /// Samples answered.
    pub answered: u64,
    /// Samples missed.
    pub missed: u64,
    /// Samples that fell away because the slot had gone elsewhere or its deal had ended.
    pub waived: u64,
    /// Bytes in the answers.
    pub bytes_proven: u64,
    /// Audits answered in full.
    pub passed: u64,
    /// Audits with a sample missed.
    pub failed: u64,
    /// Of 1,000.
    pub reputation: u16,
    /// Whether an audit waits for its answer now.
    pub due: bool,
    /// Odds that the samples answered so far would have found a loss of 1 %, 5 % and 10 % of its bytes.
    pub detection: [f64; 3],
}

/// How well one file is kept.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = FileHealthView)]
pub struct HealthView {
    /// The file.
    pub file: String,
    /// Where its deal stands.
    pub status: String,
    /// Slots that restore it.
    pub needed: u32,
    /// Slots in all.
    pub slots: u32,
    /// Slots that a node holds by its receipt.
    pub held: u32,
    /// Of those, on nodes that answer their audits.
    pub answering: u32,
    /// Slots that nobody holds.
    pub lost: Vec<u8>,
    /// Slots held at or below which others rebuild all lost ones.
    #[serde(default)]
    pub repair_threshold: u32,
    /// Whether they do so now. Otherwise a lost slot waits for its last holder; it is neither rebuilt nor paid.
    #[serde(default)]
    pub repairing: bool,
    /// Operators among the holders that answer.
    pub operators: u32,
    /// Further slots that may be lost before the file is; negative when it cannot be read now.
    pub spare: i64,
    /// Nodes that may be lost before the file is, whichever they are: fewer than slots where one has several.
    pub spare_nodes: u32,
    /// Slots that wait for their node's first receipt.
    pub unconfirmed: u32,
    /// Seconds until all slots are expected to be on nodes that answer; 0 when they are. Absent where nothing is known of it: no
    /// slot was rebuilt yet, too few are left, or the rest waits for its first receipt.
    pub full_in_s: Option<f64>,
    /// How likely it is that the file is lost within a year if its deal lasts so long. Absent before any node was watched, when
    /// it cannot be read now, and for a deal that has ended.
    pub annual_loss: Option<LossView>,
    /// Until when it is kept, and at which price.
    #[serde(flatten)]
    pub terms: TermsView,
}

/// An own file whose deal ends soon.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct EndingView {
    /// The file.
    pub file: String,
    /// Height at which its deal ends unless it is renewed.
    pub ends: u64,
    /// Epochs until then.
    pub epochs_left: u64,
}

/// A file as this network would keep it by default.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct UsualView {
    /// Slots that restore it.
    pub data: u32,
    /// Further slots.
    pub parity: u32,
    /// How likely it is lost within a year. Absent before any node was watched.
    pub annual_loss: Option<LossView>,
}

/// How well all files are kept.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct StorageHealthView {
    /// Storage nodes that may be placed in new deals.
    pub active: u32,
    /// Storage nodes that hold slots and do not answer, or are out.
    pub away: Vec<String>,
    /// Storage nodes that give their slots away.
    pub draining: Vec<String>,
    /// Bytes offered by those that are active.
    pub capacity: u64,
    /// Bytes of slots that they hold.
    pub used: u64,
    /// Files whose lost slots others rebuild now, the most endangered first; at most 1,024.
    pub endangered: Vec<HealthView>,
    /// Own files whose deal ends soon, the first to end first; at most 1,024.
    pub ending: Vec<EndingView>,
    /// What was measured of losses and repair.
    pub measured: MeasuredView,
    /// A file with as many slots as the active nodes suggest.
    pub usual: UsualView,
}

/// What `POST /v1/storage/drain` takes.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DrainRequest {
    /// Whether the node gives its slots away from now on.
    pub drain: bool,
}

/// What `POST /v1/files/{id}/renew` takes.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RenewRequest {
    /// Epochs to add.
    #[schema(minimum = 1, maximum = 4294967295_u32)]
    #[serde(deserialize_with = "super::whole::number")]
    pub epochs: u32,
}

/// A transaction that is final.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct DoneView {
    /// The transaction.
    pub tx: String,
    /// Height of its block.
    pub height: u64,
}

/// How each storage node has answered.
#[utoipa::path(get, path = "/v1/storage/audits", tag = "storage",
    responses((status = 200, body = Vec<AuditView>, description = "The storage nodes")))]
pub async fn audits(State(api): State<Api>) -> Result<Json<Vec<AuditView>>, Problem> {
    let nodes = api.handle.nodes()?;
    let storage = nodes.iter().filter(|entry| is_storage(entry));
    storage.map(|entry| audit(&api, entry)).collect::<Result<_, _>>().map(Json)
}

fn audit(api: &Api, entry: &NodeEntry) -> Result<AuditView, Problem> {
    let (announced, audit) = (&entry.announcement, &entry.audit);
    let due = api.handle.record(&Key::Challenge(announced.node))?.is_some();
    let samples = i32::try_from(audit.answered).unwrap_or(i32::MAX);
    Ok(AuditView {
        node: announced.node.to_string(),
        name: announced.name.clone(),
        operator: announced.operator.clone(),
        active: entry.active,
        draining: entry.draining,
        capacity: announced.capacity.get(),
        used: entry.used.get(),
        asked: audit.asked,
        answered: audit.answered,
        missed: audit.missed,
        waived: audit.waived,
        bytes_proven: audit.bytes_proven,
        passed: audit.passed,
        failed: audit.failed,
        reputation: audit.reputation,
        due,
        detection: LOST_SHARES.map(|lost| 1.0 - (1.0 - lost).powi(samples)),
    })
}

/// How well one file is kept
#[utoipa::path(get, path = "/v1/files/{id}/health", tag = "files", operation_id = "file_health",
    params(("id" = String, Path, pattern = "^[0-9a-f]{64}$", description = "The file")),
    responses((status = 200, body = HealthView, description = "How well it is kept")))]
pub async fn file(State(api): State<Api>, caller: Caller, Path(id): Path<String>) -> Result<Json<HealthView>, Problem> {
    let id = file_id(&id)?;
    let (deal, _) = caller.file(&id)?;
    let nodes = api.handle.nodes()?;
    let evidence = Evidence::of(Measured::read(&api.handle)?);
    let own = standing(&deal, &nodes);
    let mut ahead = 0;
    if !deal.lost.is_empty() {
        let others = endangered(&api)?.into_iter().filter(|(other, _)| *other != id);
        let before = others.filter(|(_, deal)| standing(deal, &nodes).spare <= own.spare);
        ahead = before.map(|(_, deal)| deal.lost.len() as u64).sum();
    }
    Ok(Json(health(&api, &id, &deal, &own, &evidence, ahead)))
}

/// Open deals with a lost slot.
fn endangered(api: &Api) -> Result<Vec<(FileId, Deal)>, Problem> {
    let mut deals = Vec::new();
    for (key, _) in api.handle.snapshot()?.state_scan(&Key::lost(), None, ENDANGERED_MAX)? {
        let Some(Key::Lost(id)) = Key::from_bytes(&key) else { continue };
        deals.push((id, api.handle.file(&id)?.0));
    }
    Ok(deals)
}

/// Own files whose deal ends soon; none of a node without an account.
fn ending(api: &Api) -> Result<Vec<EndingView>, Problem> {
    let mut files = Vec::new();
    if api.handle.account().is_some() {
        api.handle.each_own_file(|file, deal| {
            if api.handle.ends_soon(&deal) {
                let (ends, epochs_left) = (deal.ends.get(), api.handle.epochs_left(&deal));
                files.push(EndingView { file: file.to_string(), ends, epochs_left });
            }
            Ok(())
        })?;
    }
    files.sort_by_key(|file| file.ends);
    files.truncate(ENDANGERED_MAX);
    Ok(files)
}

/// All files that lack something, and the nodes.
#[utoipa::path(get, path = "/v1/storage/health", tag = "storage", operation_id = "storage_health",
    responses((status = 200, body = StorageHealthView, description = "What lacks something")))]
pub async fn all(State(api): State<Api>) -> Result<Json<StorageHealthView>, Problem> {
    let nodes = api.handle.nodes()?;
    let evidence = Evidence::of(Measured::read(&api.handle)?);
    let mut lacking: Vec<_> = endangered(&api)?
        .into_iter()
        .map(|(id, deal)| {
            let standing = standing(&deal, &nodes);
            (id, deal, standing)
        })
        .collect();
    lacking.sort_by_key(|(_, _, standing)| standing.spare);
    let mut ahead = 0;
    let mut endangered = Vec::new();
    for (id, deal, standing) in lacking {
        endangered.push(health(&api, &id, &deal, &standing, &evidence, ahead));
        ahead += deal.lost.len() as u64;
    }
    let names = |chosen: &dyn Fn(&NodeEntry) -> bool| -> Vec<String> {
        nodes.iter().filter(|entry| is_storage(entry) && chosen(entry)).map(|e| e.announcement.name.clone()).collect()
    };
    let active: Vec<_> = nodes.iter().filter(|entry| is_storage(entry) && entry.active).collect();
    Ok(Json(StorageHealthView {
        active: fill::count(active.len()),
        away: names(&|entry| !answers(entry)),
        draining: names(&|entry| entry.draining),
        capacity: active.iter().map(|entry| entry.announcement.capacity.get()).fold(0, u64::saturating_add),
        used: active.iter().map(|entry| entry.used.get()).fold(0, u64::saturating_add),
        endangered,
        ending: ending(&api)?,
        measured: evidence.view(),
        usual: usual(active.len(), &evidence),
    }))
}

fn usual(nodes: usize, evidence: &Evidence) -> UsualView {
    let shape = Parameters::for_nodes(nodes);
    UsualView {
        data: shape.data().into(),
        parity: shape.parity().into(),
        annual_loss: evidence.annual_loss(shape.data(), shape.slots(), shape.slots(), shape.slots().saturating_sub(1)),
    }
}

/// Gives this node's slots away, or stops doing so.
#[utoipa::path(post, path = "/v1/storage/drain", tag = "storage", request_body = DrainRequest,
    responses((status = 200, body = DoneView, description = "It is on the ledger"),
        (status = 404, body = ProblemView, content_type = "application/problem+json", description = "No storage node")))]
pub async fn drain(State(api): State<Api>, Json(request): Json<DrainRequest>) -> Result<Json<DoneView>, Problem> {
    let node = api.handle.identity().node;
    match api.handle.record(&Key::Node(node))? {
        Some(Record::Node(entry)) if is_storage(&entry) => {
            if entry.draining == request.drain {
                return Err(Problem::nothing_to_do(match request.drain {
                    true => "the node is leaving already; `trullo storage status` says when it holds nothing",
                    false => "the node is not leaving",
                }));
            }
        }
        _ => return Err(Problem::not_found("this node is no storage node of the ledger")),
    }
    act(&api.handle, Action::DrainNode { node, drain: request.drain }).await
}

/// Adds epochs to a file's deal.
#[utoipa::path(post, path = "/v1/files/{id}/renew", tag = "files", request_body = RenewRequest,
    params(("id" = String, Path, pattern = "^[0-9a-f]{64}$", description = "The file")),
    responses((status = 200, body = DoneView, description = "It is on the ledger")))]
pub async fn renew(
    caller: Caller,
    Path(id): Path<String>,
    Json(request): Json<RenewRequest>,
) -> Result<Json<DoneView>, Problem> {
    let file = file_id(&id)?;
    caller.file(&file)?;
    act(&caller.handle, Action::RenewFile { file, epochs: request.epochs }).await
}

async fn act(handle: &Handle, action: Action) -> Result<Json<DoneView>, Problem> {
    let done = handle.act(action, ACT_WITHIN).await?;
    Ok(Json(DoneView { tx: done.id.to_string(), height: done.place.height.get() }))
}

fn is_storage(entry: &NodeEntry) -> bool {
    entry.announcement.roles.has(Role::Storage)
}

/// Whether the node did not miss its last audit.
fn answers(entry: &NodeEntry) -> bool {
    entry.active && entry.audit.strikes == 0
}

/// Where a file's slots are.
pub(super) struct Standing {
    /// On nodes that answer.
    pub(super) answering: u32,
    operators: u32,
    /// Slots that may still be lost.
    pub(super) spare: i64,
    /// Nodes that may still be lost, whichever they are.
    pub(super) spare_nodes: u32,
}

pub(super) fn standing(deal: &Deal, nodes: &[NodeEntry]) -> Standing {
    let of = |node: &NodeId| nodes.iter().find(|entry| entry.announcement.node == *node);
    let held = deal.confirmed.iter().filter_map(|slot| of(deal.placement.get(usize::from(slot))?));
    let answering: Vec<_> = held.filter(|entry| answers(entry)).collect();
    let operators: BTreeSet<_> = answering.iter().map(|entry| &entry.announcement.operator).collect();
    let mut of_node = BTreeMap::<&NodeId, usize>::new();
    for entry in &answering {
        *of_node.entry(&entry.announcement.node).or_default() += 1;
    }
    let spare_nodes = fill::count(losses_borne(of_node.into_values().collect(), deal.data.into()));
    let (answering, operators) = (fill::count(answering.len()), fill::count(operators.len()));
    Standing { spare_nodes, answering, operators, spare: i64::from(answering) - i64::from(deal.data) }
}

/// How many nodes with so many slots each may be lost so that the rest have as many as are needed, the fullest ones first.
fn losses_borne(mut slots: Vec<usize>, needed: usize) -> usize {
    slots.sort_unstable();
    let mut left: usize = slots.iter().sum();
    let mut borne = 0;
    while let Some(most) = slots.pop() {
        left -= most;
        if left < needed {
            break;
        }
        borne += 1;
    }
    borne
}

/// How well a file is kept. So many lost slots of others come first.
fn health(api: &Api, id: &FileId, deal: &Deal, at: &Standing, evidence: &Evidence, ahead: u64) -> HealthView {
    let (slots, held) = (fill::count(deal.placement.len()), fill::count(deal.confirmed.len()));
    let lost = fill::count(deal.lost.len());
    let (open, readable) = (deal.status.is_open(), at.spare >= 0);
    let unconfirmed = if open { slots.saturating_sub(held).saturating_sub(lost) } else { 0 };
    let away = held.saturating_sub(at.answering);
    // Above the repair threshold nobody rebuilds what is lost.
    let known = open && readable && unconfirmed == 0 && (lost == 0 || deal.repairing);
    let there = u8::try_from(at.answering).unwrap_or(u8::MAX);
    let all = u8::try_from(slots).unwrap_or(u8::MAX);
    HealthView {
        file: id.to_string(),
        status: deal.status.name().to_owned(),
        needed: deal.data.into(),
        slots,
        held,
        answering: at.answering,
        lost: deal.lost.iter().collect(),
        repair_threshold: deal.repair_threshold.into(),
        repairing: deal.repairing,
        operators: at.operators,
        spare: at.spare,
        spare_nodes: at.spare_nodes,
        unconfirmed,
        full_in_s: known.then(|| evidence.full_in_s(lost.into(), away.into(), ahead)).flatten(),
        annual_loss: (open && readable)
            .then(|| evidence.annual_loss(deal.data, all, there, deal.repair_threshold))
            .flatten(),
        terms: terms(&api.handle, deal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_counted_in_nodes_and_the_fullest_go_first() {
        assert_eq!(losses_borne(vec![1; 6], 4), 2);
        assert_eq!(losses_borne(vec![2, 2, 1, 1], 4), 1);
        assert_eq!(losses_borne(vec![2, 1], 2), 0, "three slots of two that are needed, and one node has two");
        assert_eq!(losses_borne(vec![1; 3], 4), 0, "it cannot be read as it is");
        assert_eq!(losses_borne(vec![1; 3], 1), 2);
    }
}

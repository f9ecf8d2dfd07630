//! Storage routes: how nodes answer audits, how well files are kept, and giving slots away.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};

use super::files::file_id;
use super::fill;
use super::problem::Problem;
use super::server::Api;
use crate::ledger::Key;
use crate::ledger::record::{Deal, NodeEntry};
use crate::types::{FileId, NodeId, Role};
use crate::wire::Action;

/// How long an action may take to become final.
const ACT_WITHIN: Duration = Duration::from_secs(30);
/// Files in one answer about those in danger.
const ENDANGERED_MAX: usize = 1_024;
/// Shares of a node's bytes whose loss `AuditView` tells the odds of finding.
const LOST_SHARES: [f64; 3] = [0.01, 0.05, 0.1];

/// How a storage node has answered its audits.
#[derive(Clone, Debug, Serialize, Deserialize)]
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
#[derive(Clone, Debug, Serialize, Deserialize)]
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
    /// Height whose block ends the deal unless it is renewed.
    pub ends: u64,
    /// Credits that are not paid out yet.
    pub escrow: u64,
}

/// How well all files are kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
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
}

/// What `POST /v1/storage/drain` takes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DrainRequest {
    /// Whether the node gives its slots away from now on.
    pub drain: bool,
}

/// What `POST /v1/files/{id}/renew` takes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RenewRequest {
    /// Epochs to add.
    pub epochs: u32,
}

/// A transaction that is final.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DoneView {
    /// The transaction.
    pub tx: String,
    /// Height of its block.
    pub height: u64,
}

/// How each storage node has answered.
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

/// One file.
pub async fn file(State(api): State<Api>, Path(id): Path<String>) -> Result<Json<HealthView>, Problem> {
    let id = file_id(&id)?;
    let (deal, _) = api.handle.file(&id)?;
    let repairing = api.handle.record(&Key::Lost(id))?.is_some();
    Ok(Json(health(&id, &deal, &api.handle.nodes()?, repairing)))
}

/// All files that lack something, and the nodes.
pub async fn all(State(api): State<Api>) -> Result<Json<StorageHealthView>, Problem> {
    let (snapshot, nodes) = (api.handle.snapshot()?, api.handle.nodes()?);
    let mut endangered = Vec::new();
    for (key, _) in snapshot.state_scan(&Key::lost(), None, ENDANGERED_MAX)? {
        let Some(Key::Lost(id)) = Key::from_bytes(&key) else { continue };
        let (deal, _) = api.handle.file(&id)?;
        endangered.push(health(&id, &deal, &nodes, true));
    }
    endangered.sort_by_key(|file| file.spare);
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
    }))
}

/// Gives this node's slots away, or stops doing so.
pub async fn drain(State(api): State<Api>, Json(request): Json<DrainRequest>) -> Result<Json<DoneView>, Problem> {
    let node = api.handle.identity().node;
    act(&api, Action::DrainNode { node, drain: request.drain }).await
}

/// Adds epochs to a file's deal.
pub async fn renew(
    State(api): State<Api>,
    Path(id): Path<String>,
    Json(request): Json<RenewRequest>,
) -> Result<Json<DoneView>, Problem> {
    let file = file_id(&id)?;
    api.handle.file(&file)?;
    act(&api, Action::RenewFile { file, epochs: request.epochs }).await
}

async fn act(api: &Api, action: Action) -> Result<Json<DoneView>, Problem> {
    let done = api.handle.act(action, ACT_WITHIN).await?;
    Ok(Json(DoneView { tx: done.id.to_string(), height: done.place.height.get() }))
}

fn is_storage(entry: &NodeEntry) -> bool {
    entry.announcement.roles.has(Role::Storage)
}

/// Whether the node did not miss its last audit.
fn answers(entry: &NodeEntry) -> bool {
    entry.active && entry.audit.strikes == 0
}

fn health(id: &FileId, deal: &Deal, nodes: &[NodeEntry], repairing: bool) -> HealthView {
    let of = |node: &NodeId| nodes.iter().find(|entry| entry.announcement.node == *node);
    let held = deal.confirmed.iter().filter_map(|slot| of(deal.placement.get(usize::from(slot))?));
    let answering: Vec<_> = held.filter(|entry| answers(entry)).collect();
    let operators: BTreeSet<_> = answering.iter().map(|entry| &entry.announcement.operator).collect();
    HealthView {
        file: id.to_string(),
        status: deal.status.name().to_owned(),
        needed: deal.data.into(),
        slots: fill::count(deal.placement.len()),
        held: fill::count(deal.confirmed.len()),
        answering: fill::count(answering.len()),
        lost: deal.lost.iter().collect(),
        repair_threshold: deal.repair_threshold.into(),
        repairing,
        operators: fill::count(operators.len()),
        spare: i64::from(fill::count(answering.len())) - i64::from(deal.data),
        ends: deal.ends.get(),
        escrow: deal.escrow.get(),
    }
}

//! What was measured of deals, nodes and repair, as averages and odds: `GET /v1/metrics/consensus`, and the part of the health
//! routes that looks ahead.
//!
//! Not here: the counts (`ledger::tally`, `node::files::counts`), the model (`files::durability`).

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::problem::Problem;
use super::server::Api;
use crate::files::durability::{Odds, Rate, rate};
use crate::node::measured::{Measured, Pace};

/// A year of 365.25 days, milliseconds.
const YEAR_MS: f64 = 31_557_600_000.0;
/// Odds below this are not evidence: nothing that was measured says that nodes are lost independently.
pub const ODDS_LEAST: f64 = 1e-9;

/// How likely it is that a file is lost within a year.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LossView {
    /// The probability, 0 to 1.
    pub probability: f64,
    /// Whether that is not an estimate but what it stays below: no node was lost yet, so the rule of three bounds the rate
    /// (with 95 % confidence), or no slot was restored yet, so no repair is counted on.
    pub is_bound: bool,
}

/// What the odds come from: counts since genesis.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct MeasuredView {
    /// Mean time from one block to the next, milliseconds.
    pub block_ms: f64,
    /// Years that storage nodes with slots were watched, all nodes together.
    pub node_years: f64,
    /// Nodes that were given up in that time.
    pub nodes_lost: u64,
    /// Of those, nodes that came back.
    pub nodes_returned: u64,
    /// Losses of one node in a year, or with `node_loss_is_bound` what they stay below. Absent before anything was watched.
    pub node_losses_per_year: Option<f64>,
    /// Whether no node was lost yet.
    pub node_loss_is_bound: bool,
    /// Slots that nobody held any more.
    pub slots_lost: u64,
    /// Of those, slots that a node had no proof of while it answered for others.
    pub slots_rotted: u64,
    /// Lost slots that got a holder again.
    pub slots_restored: u64,
    /// Mean time from the loss of a slot to its new holder, seconds. Absent before the first.
    pub repair_s: Option<f64>,
    /// Time from a node's death until its slots are lost, at most, seconds.
    pub detection_s: f64,
    /// Lost slots that wait for repair.
    pub queue_slots: u64,
    /// Their bytes.
    pub queue_bytes: u64,
    /// Age of the oldest loss, seconds; absent without any.
    pub oldest_s: Option<f64>,
    /// Time until all lost slots are expected to be held again, seconds. Absent before any was.
    pub full_in_s: Option<f64>,
}

/// `GET /v1/metrics/consensus`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ConsensusMetricsView {
    /// Height up to which the counts of the ledger go.
    pub height: u64,
    /// Puts on the answering node since it started.
    pub uploads: UploadsView,
    /// Deals of all accounts, since genesis.
    pub deals: DealsView,
    /// How long deals took to get the receipts they needed.
    pub time_to_quorum: QuorumView,
    /// Storage nodes.
    pub nodes: NodesView,
    /// Audits of all storage nodes, since genesis.
    pub proofs: ProofsView,
    /// Losses and repair.
    pub repair: MeasuredView,
}

/// Puts on the answering node since it started.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct UploadsView {
    /// Those whose deal was final at once.
    pub fulfilled: u64,
    /// Those whose deal was pending at first.
    pub pending: u64,
    /// Deals that were pending and became final later.
    pub completed: u64,
    /// Those that failed or were broken off.
    pub failed: u64,
    /// Those that were refused for what was asked; they do not count for the rate.
    pub refused: u64,
    /// The share that was stored, at once or later. Absent before the first.
    pub success_rate: Option<f64>,
}

/// Deals since genesis.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct DealsView {
    /// Opened.
    pub opened: u64,
    /// Of those, with all the receipts they needed.
    pub reached_quorum: u64,
    /// Ended by themselves before that.
    pub expired: u64,
    /// Ended by their owner before that.
    pub withdrawn: u64,
    /// Waiting for receipts.
    pub pending: u64,
    /// The share that reached it, of those that no longer wait. Absent before the first.
    pub quorum_share: Option<f64>,
}

/// Times to quorum.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct QuorumView {
    /// On the chain, of all deals since genesis: blocks from the one that opened the deal to the one with the last needed
    /// receipt, so 0 where all came with the deal. Mean; absent before the first.
    pub average_blocks: Option<f64>,
    /// 99 of 100 took at most so many blocks: the upper end of a bucket, a power of two less 1.
    pub p99_blocks: Option<u64>,
    /// As the answering node saw it, of files put on it since it started: milliseconds from asking for the receipts to the final
    /// deal. Mean; absent before the first.
    pub average_ms: Option<f64>,
    /// 99 of 100 took at most so long: the upper end of a bucket, each 1.5 times as long as the one before.
    pub p99_ms: Option<f64>,
    /// How many files that is.
    pub count: u64,
}

/// Storage nodes.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct NodesView {
    /// Registered.
    pub storage: u64,
    /// Not given up.
    pub active: u64,
    /// The share of all audits that were answered in full. Absent before the first.
    pub availability: Option<f64>,
}

/// Audits.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ProofsView {
    /// Audits that wait for their answer.
    pub due: u64,
    /// Audits answered in full.
    pub passed: u64,
    /// Audits with a sample missed.
    pub failed: u64,
    /// Samples asked.
    pub samples_asked: u64,
    /// Samples answered.
    pub samples_answered: u64,
    /// Samples missed.
    pub samples_missed: u64,
    /// Samples that fell away, because the slot had gone elsewhere or its deal had ended.
    pub samples_waived: u64,
}

/// The metrics of deals, nodes and repair.
#[utoipa::path(get, path = "/v1/metrics/consensus", tag = "storage", operation_id = "consensus_metrics",
    responses((status = 200, body = ConsensusMetricsView, description = "What was measured")))]
pub async fn consensus(State(api): State<Api>) -> Result<Json<ConsensusMetricsView>, Problem> {
    let evidence = Evidence::of(Measured::read(&api.handle)?);
    let Measured { height, tally, audits, .. } = evidence.measured;
    let puts = &api.handle.metrics().puts;
    let quorum = puts.quorum();
    let settled = tally.reached + tally.expired + tally.withdrawn;
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    Ok(Json(ConsensusMetricsView {
        height: height.get(),
        uploads: UploadsView {
            fulfilled: puts.fulfilled.get(),
            pending: puts.pending.get(),
            completed: puts.completed.get(),
            failed: puts.failed.get(),
            refused: puts.refused.get(),
            success_rate: puts.success_rate(),
        },
        deals: DealsView {
            opened: tally.opened,
            reached_quorum: tally.reached,
            expired: tally.expired,
            withdrawn: tally.withdrawn,
            pending: tally.opened.saturating_sub(settled),
            quorum_share: share(tally.reached, settled),
        },
        time_to_quorum: QuorumView {
            average_blocks: share(tally.quorum_blocks, tally.reached),
            p99_blocks: tally.quorum_within(99),
            average_ms: quorum.map(|quorum| ms(quorum.average)),
            p99_ms: quorum.map(|quorum| ms(quorum.p99)),
            count: quorum.map_or(0, |quorum| quorum.count),
        },
        nodes: NodesView {
            storage: audits.nodes,
            active: audits.active,
            availability: share(audits.passed, audits.passed + audits.failed),
        },
        proofs: ProofsView {
            due: audits.due,
            passed: audits.passed,
            failed: audits.failed,
            samples_asked: audits.asked,
            samples_answered: audits.answered,
            samples_missed: audits.missed,
            samples_waived: audits.waived,
        },
        repair: evidence.view(),
    }))
}

fn share(part: u64, of: u64) -> Option<f64> {
    (of > 0).then(|| part as f64 / of as f64)
}

/// What was measured, as rates. Odds are remembered, since many files have the same shape.
pub struct Evidence {
    measured: Measured,
    /// Losses of one slot in a block.
    loss: Option<Rate>,
    odds: RefCell<BTreeMap<(u8, u8, u8, u8), f64>>,
}

impl Evidence {
    /// Rates of the counts.
    pub fn of(measured: Measured) -> Self {
        let tally = &measured.tally;
        let rot = rate(tally.rotted, tally.held.sum as f64);
        // What was seen of nodes decides; rot that was never seen beside it is taken for none.
        let with_rot = |nodes: Rate| match rot {
            Some(rot) if nodes.is_bound || !rot.is_bound => Rate { value: nodes.value + rot.value, ..nodes },
            _ => nodes,
        };
        let loss = rate(tally.absent, tally.watched.sum as f64).map(with_rot);
        Self { measured, loss, odds: RefCell::default() }
    }

    /// Mean blocks from a slot's loss to its new holder. All blocks in which slots waited count, also for those that wait still
    /// or whose deal ended first: so a long wait is not left out because it has not ended.
    fn repair_blocks(&self) -> Option<f64> {
        share(self.measured.tally.waiting.sum, self.measured.tally.restored)
    }

    /// How likely it is that a file of so many slots, of which so many are on nodes that answer, is lost within a year. Nothing
    /// before any node was watched.
    /// `repair_at` is how many are left when the others rebuild those that are lost.
    pub fn annual_loss(&self, data: u8, slots: u8, there: u8, repair_at: u8) -> Option<LossView> {
        let loss = self.loss?;
        let year = YEAR_MS / ms_of(self.measured.pace)?;
        let detection = self.measured.detection_blocks() as f64;
        let repair = self.repair_blocks().map_or(0.0, |blocks| 1.0 / (detection + blocks));
        let file = Odds { data, slots, repair_at, loss: loss.value, repair };
        let mut odds = self.odds.borrow_mut();
        let probability = *odds.entry((data, slots, there, repair_at)).or_insert_with(|| file.lost_within(year, there));
        Some(LossView { probability, is_bound: loss.is_bound || repair == 0.0 })
    }

    /// Seconds until a file has all slots again: `lost` ones with so many others before them, and `away` ones, whose node does
    /// not answer and which are not given up yet. By the measured mean, or by the measured rate of repair where the queue is long.
    /// Nothing before any slot was restored.
    pub fn full_in_s(&self, lost: u64, away: u64, ahead: u64) -> Option<f64> {
        if lost + away == 0 {
            return Some(0.0);
        }
        let tally = &self.measured.tally;
        let each = share(tally.waiting.some, tally.restored)?;
        let queued = (lost + away + ahead) as f64 * each;
        let detection = if away > 0 { self.measured.detection_blocks() as f64 } else { 0.0 };
        let blocks = self.repair_blocks()?.max(queued) + detection;
        Some(blocks * ms_of(self.measured.recent)? / 1e3)
    }

    /// What the odds come from.
    pub fn view(&self) -> MeasuredView {
        let Measured { tally, pace, oldest, .. } = self.measured;
        let block_ms = ms_of(pace).unwrap_or(0.0);
        let years = |blocks: u64| blocks as f64 * block_ms / YEAR_MS;
        let nodes = rate(tally.absent, years(tally.watched.sum));
        MeasuredView {
            block_ms,
            node_years: years(tally.watched.sum),
            nodes_lost: tally.absent,
            nodes_returned: tally.returned,
            node_losses_per_year: nodes.map(|rate| rate.value),
            node_loss_is_bound: tally.absent == 0,
            slots_lost: tally.lost,
            slots_rotted: tally.rotted,
            slots_restored: tally.restored,
            repair_s: self.repair_blocks().map(|blocks| blocks * block_ms / 1e3),
            detection_s: self.measured.detection_blocks() as f64 * block_ms / 1e3,
            queue_slots: tally.waiting.now,
            queue_bytes: tally.waiting_bytes,
            oldest_s: oldest.map(|age| age.get() as f64 / 1e3),
            full_in_s: self.full_in_s(tally.waiting.now, 0, 0),
        }
    }
}

/// Milliseconds from one block to the next, unless there was only one.
fn ms_of(pace: Pace) -> Option<f64> {
    share(pace.time.get(), pace.blocks).filter(|ms| *ms > 0.0)
}

#[cfg(test)]
#[path = "measured_tests.rs"]
mod tests;

//! Chain routes for dashboards: counts, headers of blocks page by page, and the nodes that were heard of.

use std::time::Duration;

use axum::Json;
use axum::extract::{Query, State};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::chain::{millis, tx_count};
use super::problem::Problem;
use super::server::Api;
use super::views::BlockView;
use super::{fill, paging};
use crate::ledger::{Key, Record};
use crate::net::PeerInfo;
use crate::types::{Height, Role};

/// Blocks in one answer, unless asked otherwise, and at most.
const PAGE: usize = 20;
const PAGE_MAX: usize = 256;
/// A node that says nothing of itself for longer is not active: it does so every few seconds.
const ACTIVE_WITHIN: Duration = Duration::from_secs(60);

/// `GET /v1/chain/stats`: the chain in numbers, after the last final block.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ChainStatsView {
    /// The chain.
    pub chain: String,
    /// Height of the last final block.
    pub height: u64,
    /// Its hash.
    pub block_hash: String,
    /// When it was proposed.
    pub time_ms: u64,
    /// The epoch.
    pub epoch: u64,
    /// Blocks of an epoch.
    pub epoch_blocks: u64,
    /// Mean time from one block to the next since the first; absent before the second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_ms: Option<f64>,
    /// Validators of the epoch.
    pub validators: u32,
    /// Transactions that wait on the answering node.
    pub mempool_txs: u64,
    /// Deals opened since genesis.
    pub deals_opened: u64,
    /// Of those, deals that got all the receipts they needed.
    pub deals_reached_quorum: u64,
    /// Lost slots that got a holder again.
    pub slots_restored: u64,
    /// Registered nodes.
    pub nodes: u32,
    /// Storage nodes that may be placed in new deals.
    pub storage_nodes: u32,
    /// Bytes that these offer.
    pub capacity: u64,
    /// Bytes of slots that they hold.
    pub used: u64,
}

/// Which blocks.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ChainBlocksQuery {
    /// Blocks in the answer.
    #[param(minimum = 1, maximum = 256, default = 20)]
    limit: Option<usize>,
    /// `next` of the page before.
    #[param(pattern = "^[0-9]{1,15}$")]
    cursor: Option<String>,
}

/// `GET /v1/chain/blocks`: final blocks, the newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BlocksView {
    /// The page, without transactions.
    pub blocks: Vec<BlockView>,
    /// Asks for the next page; absent with the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Which nodes.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PeersQuery {
    /// Also those that have not been heard of for a minute, or never.
    #[param(default = false)]
    all: Option<bool>,
}

/// A node as the answering one knows it: `GET /v1/peers`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PeerView {
    /// Its id.
    pub node: String,
    /// Its name, when known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where it listens.
    pub address: String,
    /// Its roles, by name, when known.
    pub roles: Vec<String>,
    /// The height it last announced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<u64>,
    /// Round-trip time of the last ping.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_ms: Option<u64>,
    /// Whether there is a connection.
    #[serde(default)]
    pub connected: bool,
    /// Whether there is one, or it was heard of in the last minute.
    #[serde(default)]
    pub active: bool,
    /// How long ago its last word about itself came; absent: none did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen_ms_ago: Option<u64>,
    /// What the ledger says of it, which its rates follow from: `stranger`, `registered` or `validator`.
    #[serde(default)]
    pub standing: String,
    /// What it may bring, in thousandths of a whole rate.
    #[serde(default)]
    pub rate_share: u32,
    /// Points for its own faults; they fade, one a second, and with 100 it is sent away.
    #[serde(default)]
    pub penalty: u32,
    /// Its last fault, by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// For how much longer it is sent away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub away_for_ms: Option<u64>,
}

/// The chain in numbers
#[utoipa::path(get, path = "/v1/chain/stats", tag = "chain",
    responses((status = 200, body = ChainStatsView, description = "Counts after the last final block")))]
pub async fn stats(State(api): State<Api>) -> Result<Json<ChainStatsView>, Problem> {
    let handle = &api.handle;
    let starting = || Problem::unavailable("the node is starting");
    let status = handle.status().ok_or_else(starting)?;
    let snapshot = handle.snapshot()?;
    let tip = snapshot.tip()?.ok_or_else(starting)?;
    let tally = match crate::node::app::read_record(&snapshot, &Key::Tally)? {
        Some(Record::Tally(tally)) => *tally,
        _ => Default::default(),
    };
    let first = snapshot.header(Height::new(1))?;
    let block_ms = first.filter(|_| tip.height.get() > 1).map(|first| {
        let took = tip.header.time.saturating_sub(first.time).get();
        took as f64 / (tip.height.get() - 1) as f64
    });
    let nodes = handle.nodes()?;
    let storage: Vec<_> =
        nodes.iter().filter(|entry| entry.active && entry.announcement.roles.has(Role::Storage)).collect();
    Ok(Json(ChainStatsView {
        chain: handle.identity().chain.to_string(),
        height: tip.height.get(),
        block_hash: tip.hash.to_string(),
        time_ms: tip.header.time.get(),
        epoch: tip.header.round.epoch.get(),
        epoch_blocks: handle.genesis().epoch_blocks,
        block_ms,
        validators: fill::count(status.set.len()),
        mempool_txs: handle.mempool().len() as u64,
        deals_opened: tally.opened,
        deals_reached_quorum: tally.reached,
        slots_restored: tally.restored,
        nodes: fill::count(nodes.len()),
        storage_nodes: fill::count(storage.len()),
        capacity: storage.iter().map(|entry| entry.announcement.capacity.get()).fold(0, u64::saturating_add),
        used: storage.iter().map(|entry| entry.used.get()).fold(0, u64::saturating_add),
    }))
}

/// Final blocks, the newest first, page by page
#[utoipa::path(get, path = "/v1/chain/blocks", tag = "chain", operation_id = "chain_blocks", params(ChainBlocksQuery),
    responses((status = 200, body = BlocksView, description = "A page of blocks")))]
pub async fn blocks(
    State(api): State<Api>,
    Query(query): Query<ChainBlocksQuery>,
) -> Result<Json<BlocksView>, Problem> {
    let limit = paging::limit(query.limit, PAGE, PAGE_MAX)?;
    let snapshot = api.handle.snapshot()?;
    let tip = snapshot.tip()?.map_or(0, |tip| tip.height.get());
    let from = match &query.cursor {
        Some(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse::<u64>().ok(),
        Some(_) => None,
        None => Some(tip),
    };
    let from = from.ok_or_else(|| Problem::bad("cursor is not one that a page ended with"))?.min(tip);
    let mut blocks = Vec::new();
    let mut next = None;
    for height in (0..=from).rev() {
        if blocks.len() == limit {
            next = Some(height.to_string());
            break;
        }
        let height = Height::new(height);
        match (snapshot.block(height)?, snapshot.header(height)?) {
            (Some(block), _) => blocks.push(fill::block(&block.block, tx_count(&block.block.payload))),
            (None, Some(header)) => blocks.push(fill::header(&header)),
            // A node that began with a snapshot has no headers from before it.
            (None, None) => break,
        }
    }
    Ok(Json(BlocksView { blocks, next }))
}

/// The nodes that this one hears of, with the age of their last word
#[utoipa::path(get, path = "/v1/peers", tag = "node", params(PeersQuery),
    responses((status = 200, body = Vec<PeerView>, description = "The nodes")))]
pub async fn peers(State(api): State<Api>, Query(query): Query<PeersQuery>) -> Result<Json<Vec<PeerView>>, Problem> {
    let nodes = api.handle.nodes()?;
    let view = |peer: PeerInfo| PeerView {
        node: peer.node.to_string(),
        name: fill::name_of(&peer.node, &nodes),
        address: peer.addresses.first().map(ToString::to_string).unwrap_or_default(),
        roles: peer.presence.as_ref().map(|presence| fill::roles(presence.roles)).unwrap_or_default(),
        height: peer.presence.as_ref().map(|presence| presence.height.get()),
        rtt_ms: peer.rtt.map(millis),
        connected: peer.connected,
        active: is_active(&peer),
        seen_ms_ago: peer.seen.map(millis),
        standing: peer.standing.name().to_owned(),
        rate_share: peer.standing.share(),
        penalty: peer.penalty,
        fault: peer.fault.map(|fault| fault.name().to_owned()),
        away_for_ms: peer.away_for.map(millis),
    };
    let all = query.all.unwrap_or(false);
    Ok(Json(
        api.handle
            .net()
            .peers()
            .into_iter()
            .filter(|peer| all || is_active(peer) || peer.away_for.is_some())
            .map(view)
            .collect(),
    ))
}

fn is_active(peer: &PeerInfo) -> bool {
    peer.connected || peer.seen.is_some_and(|ago| ago <= ACTIVE_WITHIN)
}

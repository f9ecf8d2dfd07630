//! Chain routes: status, blocks, transactions, accounts, nodes.

use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::IntoParams;

use super::caller::Caller;
use super::fill;
use super::network::{self, not_ready};
use super::paging;
use super::problem::Problem;
use super::server::Api;
use super::views::{
    AcceptedView, AccountView, BlockView, HealthView, LinksView, NodeView, ProblemView, PruneRequest, PruneView,
    StatusView, StorageView, TransferRequest, TransferView, TxView, ValidatorView,
};
use crate::ledger::{Key, Record};
use crate::node::bundle::Checkpoint;
use crate::node::handle::receipts;
use crate::node::{Handle, NodeError};
use crate::store::Snapshot;
use crate::types::{AccountId, Amount, BlockHash, Height, NodeId, TxId, limits};
use crate::wire::{self, Action, Tx};

/// Blocks in one answer, unless asked otherwise, and at most.
const PAGE: usize = 20;
const PAGE_MAX: usize = 256;
/// More blocks than any chain has.
const KEEP_MAX: u64 = (1 << 53) - 1;
/// How long a transfer may take to become final.
const TRANSFER_WITHIN: Duration = Duration::from_secs(30);

/// The process answers.
#[utoipa::path(get, path = "/livez", tag = "node", security(()),
    responses((status = 200, body = HealthView, description = "It does")))]
pub async fn livez() -> Json<HealthView> {
    Json(HealthView { ok: true, reason: None })
}

/// The node follows the chain.
#[utoipa::path(get, path = "/readyz", tag = "node", security(()),
    responses((status = 200, body = HealthView, description = "It does"),
        (status = 503, body = HealthView, description = "Not now, and why")))]
pub async fn readyz(State(api): State<Api>) -> Response {
    match not_ready(&api.handle) {
        None => Json(HealthView { ok: true, reason: None }).into_response(),
        reason => (StatusCode::SERVICE_UNAVAILABLE, Json(HealthView { ok: false, reason })).into_response(),
    }
}

/// The node in one screen.
#[utoipa::path(get, path = "/status", tag = "node", security(()),
    responses((status = 200, body = StatusView, description = "The node")))]
pub async fn status(State(api): State<Api>) -> Result<Json<StatusView>, Problem> {
    let handle = &api.handle;
    let starting = || Problem::unavailable("the node is starting");
    let (status, tip) = (handle.status().ok_or_else(starting)?, handle.reader().tip().ok_or_else(starting)?);
    let leader_name = handle.record(&Key::Node(status.core.leader))?.and_then(|record| match record {
        Record::Node(entry) => Some(entry.announcement.name.clone()),
        _ => None,
    });
    let storage = match handle.slots() {
        Some(slots) => {
            let usage = slots.usage()?;
            let capacity = handle.config().storage.capacity.get();
            let (used, slots, disk_free) = (usage.stored.get(), usage.slots, usage.free.get());
            let me = handle.identity().node;
            let registered = matches!(handle.record(&Key::Node(me))?, Some(Record::Node(entry)) if entry.active);
            Some(StorageView { capacity, used, slots, disk_free, freed: usage.freed.get(), registered })
        }
        None => None,
    };
    let (mempool_txs, mempool_bytes) = {
        let mempool = handle.mempool();
        (long(mempool.len()), long(mempool.bytes()))
    };
    let reason = not_ready(handle);
    let standing = handle.standing();
    // A node that only follows sees views by the blocks that come out of them.
    let round = status.core.round.max(tip.header.round);
    Ok(Json(StatusView {
        name: handle.config().node.name.clone(),
        node: handle.identity().node.to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        roles: fill::roles(handle.config().node.roles),
        chain: handle.identity().chain.to_string(),
        addresses: handle.net().addresses().iter().map(ToString::to_string).collect(),
        height: tip.height.get(),
        state_root: tip.header.state_root.to_string(),
        block_hash: tip.hash.to_string(),
        checkpoint: Checkpoint { height: tip.height, hash: tip.hash }.to_string(),
        finalized_age_ms: handle.clock().now().saturating_sub(status.final_at).get(),
        epoch: round.epoch.get(),
        view: round.view.get(),
        leader: status.core.leader.to_string(),
        leader_name,
        validators: fill::count(status.set.len()),
        peers: fill::count(handle.net().connected().borrow().len()),
        mempool_txs,
        mempool_bytes,
        behind: handle.behind(),
        syncing: status.sync_target.is_some(),
        sync_target: status.sync_target.map(Height::get),
        ready: reason.is_none(),
        reason,
        network: network::network(&standing, &handle.nodes()?),
        stale: standing.is_stale(),
        account: handle.identity().account.map(|account| account.to_string()),
        storage,
        uptime_ms: u64::try_from(api.started.elapsed().as_millis()).unwrap_or(u64::MAX),
        signing: super::signing::silence(&status),
    }))
}

/// The node in one screen, for who has a token
#[utoipa::path(get, path = "/v1/status", tag = "node", operation_id = "status_v1",
    responses((status = 200, body = StatusView, description = "The node")))]
pub async fn status_v1(state: State<Api>) -> Result<Json<StatusView>, Problem> {
    status(state).await
}

/// Metrics in the OpenMetrics text format.
#[utoipa::path(get, path = "/metrics", tag = "node", security(()),
    responses((status = 200, content_type = "application/openmetrics-text", body = String, description = "The page")))]
pub async fn metrics(State(api): State<Api>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], api.handle.metrics().page(&api.handle)).into_response()
}

/// A page of blocks.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct BlocksQuery {
    /// The first height.
    #[param(maximum = 9007199254740991_u64)]
    from: Option<u64>,
    /// Blocks in the answer.
    #[param(minimum = 1, maximum = 256, default = 20)]
    limit: Option<usize>,
}

/// Blocks, ascending; the newest ones if no start is given.
#[utoipa::path(get, path = "/v1/blocks", tag = "chain", params(BlocksQuery),
    responses((status = 200, body = Vec<BlockView>, description = "The blocks, without their transactions")))]
pub async fn blocks(State(api): State<Api>, Query(query): Query<BlocksQuery>) -> Result<Json<Vec<BlockView>>, Problem> {
    let limit = paging::limit(query.limit, PAGE, PAGE_MAX)?;
    paging::number("from", query.from)?;
    let snapshot = api.handle.snapshot()?;
    let tip = snapshot.tip()?.map_or(0, |tip| tip.height.get());
    let from = query.from.unwrap_or_else(|| (tip + 1).saturating_sub(long(limit)));
    let mut views = Vec::new();
    // One body at a time: a page of full blocks would be a gigabyte.
    for height in (from..=tip).take(limit) {
        let height = Height::new(height);
        match snapshot.block(height)? {
            Some(block) => views.push(fill::block(&block.block, tx_count(&block.block.payload))),
            None => views.extend(snapshot.header(height)?.map(|header| fill::header(&header))),
        }
    }
    Ok(Json(views))
}

pub(super) fn tx_count(payload: &[u8]) -> usize {
    payload.first_chunk().map_or(0, |len| usize::try_from(u32::from_le_bytes(*len)).unwrap_or(0))
}

/// One block with its transactions, by height, hash or `latest`.
#[utoipa::path(get, path = "/v1/blocks/{id}", tag = "chain",
    params(("id" = String, Path, pattern = "^(latest|[0-9]{1,15}|[0-9a-f]{64})$", description = "Height, hash, or latest")),
    responses((status = 200, body = BlockView, description = "The block with its transactions")))]
pub async fn block(State(api): State<Api>, Path(id): Path<String>) -> Result<Json<BlockView>, Problem> {
    let snapshot = api.handle.snapshot()?;
    let unknown = || Problem::not_found(format!("block {id} is not known here"));
    let height = match id.as_str() {
        "latest" => snapshot.tip()?.map(|tip| tip.height),
        text => match (text.parse::<u64>(), text.parse::<BlockHash>()) {
            (Ok(height), _) => Some(Height::new(height)),
            (_, Ok(hash)) => snapshot.height_of(&hash)?,
            _ => return Err(Problem::bad(format!("{text:?} is no height, no block hash and not `latest`"))),
        },
    };
    let height = height.ok_or_else(unknown)?;
    let tip = snapshot.tip()?.map_or(Height::GENESIS, |tip| tip.height);
    let none = || if height <= tip { pruned(height) } else { unknown() };
    let block = snapshot.block(height)?.ok_or_else(none)?;
    let txs = txs(&block.block.payload);
    let receipts = receipts(&snapshot, height)?;
    let mut view = fill::block(&block.block, txs.len());
    if let Some(certificate) = snapshot.certificate_from(height)? {
        let set = crate::node::validator::validators_of(&snapshot, certificate.round.epoch)?;
        view.certificate = Some(fill::certificate(&certificate, &set));
    }
    view.transactions =
        Some(txs.iter().zip(&receipts).map(|(tx, receipt)| fill::settled(tx, height, receipt)).collect());
    Ok(Json(view))
}

/// A body that this node does not have, or no longer.
pub(super) fn pruned(height: Height) -> Problem {
    Problem::gone(format!("the body of block {height} is not kept here")).hint(
        "ask an archive: a node that replayed the chain from its genesis and whose node.keep_blocks is 0, as is the default",
    )
}

fn txs(payload: &[u8]) -> Vec<Tx> {
    wire::decode(payload, limits::BLOCK_PAYLOAD_BYTES_MAX).unwrap_or_default()
}

/// One transaction.
#[utoipa::path(get, path = "/v1/txs/{id}", tag = "chain",
    params(("id" = String, Path, pattern = "^[0-9a-f]{64}$", description = "The transaction")),
    responses((status = 200, body = TxView, description = "The transaction and what came of it")))]
pub async fn tx(caller: Caller, Path(id): Path<String>) -> Result<Json<TxView>, Problem> {
    let id: TxId = id.parse().map_err(|error| Problem::bad(format!("transaction {id:?}: {error}")))?;
    let handle = &caller.handle;
    let settled = final_tx(handle, &id)?;
    let found = settled.or_else(|| handle.mempool().get(&id).map(|tx| fill::waiting(tx.tx())));
    let own = handle.account().map(|account| account.to_string());
    let found = found.filter(|tx| caller.is_owner() || own.as_ref() == Some(&tx.sender));
    let unknown = || Problem::not_found(format!("transaction {id} is neither final nor waiting here"));
    found.map(Json).ok_or_else(unknown)
}

fn final_tx(handle: &Handle, id: &TxId) -> Result<Option<TxView>, Problem> {
    let snapshot = handle.snapshot()?;
    let Some(height) = snapshot.tx(id)?.map(|place| place.height) else { return Ok(None) };
    let block = snapshot.block(height)?;
    let block = block.ok_or_else(|| pruned(height))?;
    let Some(done) = handle.final_tx(id)? else { return Ok(None) };
    let tx = usize::try_from(done.place.index).ok().and_then(|index| txs(&block.block.payload).into_iter().nth(index));
    Ok(tx.map(|tx| fill::settled(&tx, height, &done.receipt)))
}

/// Takes a signed transaction.
#[utoipa::path(post, path = "/v1/txs", tag = "chain",
    request_body(content = Vec<u8>, content_type = "application/octet-stream", description = "The transaction in canonical bytes"),
    responses((status = 202, body = AcceptedView, description = "It waits in the mempool")))]
pub async fn submit(State(api): State<Api>, body: Bytes) -> Result<(StatusCode, Json<AcceptedView>), Problem> {
    let tx: Tx = wire::decode(&body, limits::TX_BYTES_MAX).map_err(|error| Problem::bad(error.to_string()))?;
    let id = api.handle.submit(tx).await?;
    Ok((StatusCode::ACCEPTED, Json(AcceptedView { tx: id.to_string() })))
}

/// Moves credits of the caller's account; answers when the transfer is final.
#[utoipa::path(post, path = "/v1/transfers", tag = "chain", request_body = TransferRequest,
    responses((status = 200, body = TransferView, description = "The transfer is final")))]
pub async fn transfer(caller: Caller, Json(request): Json<TransferRequest>) -> Result<Json<TransferView>, Problem> {
    let to: AccountId =
        request.to.parse().map_err(|error| Problem::bad(format!("account {:?}: {error}", request.to)))?;
    let from = caller.account()?;
    let action = Action::Transfer { to, amount: Amount::new(request.amount), memo: request.memo };
    // A memo that is too long in bytes can be read, and is no memo of this ledger.
    let done = caller.handle.act(action, TRANSFER_WITHIN).await.map_err(Problem::conflicting)?;
    Ok(Json(TransferView {
        tx: done.id.to_string(),
        height: done.place.height.get(),
        from: from.to_string(),
        to: to.to_string(),
        amount: request.amount,
    }))
}

/// An account; `me` is the caller's own, and of others a user learns nothing.
#[utoipa::path(get, path = "/v1/accounts/{id}", tag = "chain",
    params(("id" = String, Path, pattern = "^(me|[0-9a-f]{64})$", description = "The account, or me")),
    responses((status = 200, body = AccountView, description = "The account after the last final block")))]
pub async fn account(caller: Caller, Path(id): Path<String>) -> Result<Json<AccountView>, Problem> {
    let account = parse_account(&caller.handle, &id)?;
    let snapshot = caller.handle.snapshot()?;
    let height = snapshot.tip()?.map_or(0, |tip| tip.height.get());
    let record = crate::node::app::read_record(&snapshot, &Key::Account(account))?;
    match record.filter(|_| caller.is_owner() || caller.handle.account() == Some(account)) {
        Some(Record::Account(record)) => {
            let (balance, nonce, stored) = (record.balance.get(), record.nonce, record.stored.get());
            Ok(Json(AccountView { id: account.to_string(), balance, nonce, stored, height }))
        }
        _ => Err(Problem::not_found(format!(
            "account {account} is not on the chain; it begins with the first transfer to it"
        ))),
    }
}

/// An account id, or `me`.
pub fn parse_account(handle: &Handle, id: &str) -> Result<AccountId, Problem> {
    match id {
        "me" => Ok(handle.keys()?.account_id()),
        text => text.parse().map_err(|error| Problem::bad(format!("account {text:?}: {error}"))),
    }
}

/// The epoch's validators.
#[utoipa::path(get, path = "/v1/validators", tag = "chain",
    responses((status = 200, body = Vec<ValidatorView>, description = "The validators")))]
pub async fn validators(State(api): State<Api>) -> Result<Json<Vec<ValidatorView>>, Problem> {
    let status = api.handle.status().ok_or_else(|| Problem::unavailable("the node is starting"))?;
    let nodes = api.handle.nodes()?;
    let skipped = match api.handle.record(&Key::SkipList)? {
        Some(Record::SkipList(list)) if list.epoch == status.core.round.epoch => list.indices,
        _ => Vec::new(),
    };
    let view = |(index, member): (usize, &wire::Validator)| ValidatorView {
        index: fill::count(index),
        node: member.node.to_string(),
        name: fill::name_of(&member.node, &nodes),
        power: member.power,
        leader: member.node == status.core.leader,
        skipped: u16::try_from(index).is_ok_and(|index| skipped.contains(&index)),
    };
    Ok(Json(status.set.members().iter().enumerate().map(view).collect()))
}

/// All registered nodes.
#[utoipa::path(get, path = "/v1/nodes", tag = "chain",
    responses((status = 200, body = Vec<NodeView>, description = "The nodes")))]
pub async fn nodes(State(api): State<Api>) -> Result<Json<Vec<NodeView>>, Problem> {
    let peers = api.handle.net().peers();
    let seen = |node: &NodeId| peers.iter().find(|peer| peer.node == *node).and_then(|peer| peer.seen).map(millis);
    let view = |entry: crate::ledger::record::NodeEntry| {
        let (account, used) = (entry.account.to_string(), entry.used.get());
        let announcement = entry.announcement;
        NodeView {
            node: announcement.node.to_string(),
            seen_ms_ago: seen(&announcement.node),
            name: announcement.name,
            operator: announcement.operator,
            account,
            roles: fill::roles(announcement.roles),
            capacity: announcement.capacity.get(),
            used,
            active: entry.active,
            draining: entry.draining,
            reputation: entry.audit.reputation.into(),
            addresses: announcement.addresses,
        }
    };
    Ok(Json(api.handle.nodes()?.into_iter().map(view).collect()))
}

/// Where to begin.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EventsQuery {
    /// The height after which to begin; the last final one if not given.
    #[param(maximum = 9007199254740991_u64)]
    since: Option<u64>,
}

/// Final blocks with their transactions as JSON lines, from a height on and then as they come, until the client goes.
#[utoipa::path(get, path = "/v1/events", tag = "chain", params(EventsQuery),
    responses((status = 200, content_type = "application/x-ndjson", body = String, description = "A line for each block"),
        (status = 410, body = ProblemView, content_type = "application/problem+json", description = "Pruned here")))]
pub async fn events(State(api): State<Api>, Query(query): Query<EventsQuery>) -> Result<Response, Problem> {
    paging::number("since", query.since)?;
    let handle = api.handle.clone();
    let tip = handle.reader().tip().map_or(0, |tip| tip.height.get());
    let since = query.since.unwrap_or(tip);
    if since > tip {
        return Err(Problem::not_found(format!("block {since} is not final here yet; the last one is {tip}")));
    }
    let mut next = since.saturating_add(1);
    if next <= tip && handle.snapshot()?.block(Height::new(next))?.is_none() {
        return Err(pruned(Height::new(next)));
    }
    let (sender, receiver) = tokio::sync::mpsc::channel::<Result<Bytes, std::io::Error>>(16);
    let mut tips = handle.reader().watch();
    api.handle.spawn(async move {
        loop {
            while handle.reader().tip().is_some_and(|tip| next <= tip.height.get()) {
                // What cannot be read ends the stream as one that broke off, so that nobody takes it for silence.
                let line = event_line(&handle, Height::new(next)).map_err(std::io::Error::other);
                let failed = line.is_err();
                let sent = tokio::select! {
                    sent = sender.send(line) => sent.is_ok(),
                    () = handle.stop_token().cancelled() => false,
                };
                if failed || !sent {
                    return;
                }
                next = next.saturating_add(1);
            }
            tokio::select! {
                changed = tips.changed() => if changed.is_err() { return },
                () = handle.stop_token().cancelled() => return,
                () = sender.closed() => return,
            }
        }
    });
    let body = Body::from_stream(tokio_stream(receiver));
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

fn event_line(handle: &Handle, height: Height) -> Result<Bytes, NodeError> {
    let snapshot: Snapshot = handle.snapshot()?;
    let gone = || NodeError::NotFound { what: "the body of block", id: height.to_string() };
    let block = snapshot.block(height)?.ok_or_else(gone)?;
    let (txs, receipts) = (txs(&block.block.payload), receipts(&snapshot, height)?);
    let mut view = fill::block(&block.block, txs.len());
    view.transactions =
        Some(txs.iter().zip(&receipts).map(|(tx, receipt)| fill::settled(tx, height, receipt)).collect());
    let mut line = serde_json::to_vec(&view).map_err(|error| NodeError::Bad(error.to_string()))?;
    line.push(b'\n');
    Ok(line.into())
}

/// A channel as a stream of body pieces.
pub fn tokio_stream<T>(receiver: tokio::sync::mpsc::Receiver<T>) -> impl futures::Stream<Item = T> {
    futures::stream::unfold(receiver, |mut receiver| async move { receiver.recv().await.map(|item| (item, receiver)) })
}

/// Cuts this node off from exactly these nodes.
#[utoipa::path(post, path = "/v1/admin/links", tag = "node", request_body = LinksView,
    responses((status = 200, body = LinksView, description = "The links that are cut")))]
pub async fn links(State(api): State<Api>, Json(request): Json<LinksView>) -> Result<Json<LinksView>, Problem> {
    let nodes = request
        .deny
        .iter()
        .map(|id| id.parse::<NodeId>().map_err(|error| Problem::bad(format!("node {id:?}: {error}"))));
    api.handle.set_denied(nodes.collect::<Result<_, _>>()?).await?;
    Ok(Json(LinksView { deny: api.handle.denied().iter().map(ToString::to_string).collect() }))
}

/// Removes the bodies of old blocks, step by step.
#[utoipa::path(post, path = "/v1/admin/prune", tag = "node", request_body = PruneRequest,
    responses((status = 200, body = PruneView, description = "What goes")))]
pub async fn prune(State(api): State<Api>, Json(request): Json<PruneRequest>) -> Result<Json<PruneView>, Problem> {
    if request.keep > KEEP_MAX {
        return Err(Problem::bad(format!("at most {KEEP_MAX} blocks can be kept")));
    }
    let below = api.handle.prune(request.keep).await?;
    Ok(Json(PruneView { below: below.get() }))
}

/// Stops the node.
#[utoipa::path(post, path = "/v1/admin/stop", tag = "node",
    responses((status = 200, body = HealthView, description = "It stops")))]
pub async fn stop(State(api): State<Api>) -> Json<HealthView> {
    api.handle.stop_token().cancel();
    Json(HealthView { ok: true, reason: Some("stopping".to_owned()) })
}

fn long(value: usize) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

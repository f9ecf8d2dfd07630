//! Validator routes: stakes, the quorum, and this node's wishes to join, leave, change its key or be let out of jail.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::fill;
use super::problem::Problem;
use super::server::Api;
use super::views::ProblemView;
use crate::ledger::record::{NodeEntry, Stake};
use crate::ledger::stake::power_of;
use crate::ledger::turnover::{looked_at, step};
use crate::node::validator::{Outlook, Standing, Wish, outlook, wish};
use crate::types::{Amount, NodeId};
use crate::wire::ValidatorSet;

/// Credits behind one node.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct StakeView {
    /// The node.
    pub node: String,
    /// Its name, when it is registered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whose credits they are.
    pub account: String,
    /// Where it stands: active, waiting, leaving, unbonding or jailed.
    pub state: String,
    /// Credits.
    pub stake: u64,
    /// Its voting weight now.
    pub power: u64,
    /// The weight that it is to have.
    pub wanted_power: u64,
    /// Height of its last wish; the oldest is granted first.
    pub since: u64,
    /// Epochs in a row in which it lost most of its views.
    pub missed_epochs: u32,
    /// The latest version of the rules that it says it is ready for; 0 while it has not said.
    #[serde(default)]
    pub ready: u16,
    /// How far its node is trusted, of 1000: epochs that it led badly cost a quarter, those that it led well bring some back.
    #[serde(default)]
    pub reputation: u16,
    /// The epoch with which the credits are back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub returns_epoch: Option<u64>,
    /// Whether it contradicted itself: it lost a part of the stake and is jailed for good.
    pub punished: bool,
    /// The first epoch in which its time in jail may end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jailed_until_epoch: Option<u64>,
    /// The node that takes its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub successor: Option<String>,
    /// Since when the answering node has not heard it, milliseconds since 1970, if it votes and is away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub away_since_ms: Option<u64>,
}

/// What the validators of now bear.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = ValidatorQuorumView)]
pub struct QuorumView {
    /// How many validators.
    pub validators: u32,
    /// Their weight, N.
    pub power: u64,
    /// The most weight that may fail or lie, f: below a third.
    pub faults: u64,
    /// The least weight that makes a block final: more than 2N/3.
    pub quorum: u64,
    /// The least weight that would do if validators could only crash: more than N/2.
    pub crash_quorum: u64,
}

/// Validators and stakes: `GET /v1/validator/status`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ValidatorStatusView {
    /// The answering node.
    pub node: String,
    /// Its clock, milliseconds since 1970.
    #[serde(default)]
    pub time_ms: u64,
    /// Height of the last final block.
    pub height: u64,
    /// The epoch of the next block.
    pub epoch: u64,
    /// The last block of that epoch: wishes are looked at there.
    pub looked_at: u64,
    /// What the validators bear.
    pub quorum: QuorumView,
    /// The most weight that may go, and that may come, with one epoch.
    pub step: u64,
    /// Credits for one unit of weight.
    pub stake_unit: u64,
    /// Epochs for which a stake stays after its validator is out.
    pub unbonding_epochs: u32,
    /// The stakes.
    pub stakes: Vec<StakeView>,
    /// Why the answering node signs nothing though it is a validator or may be one, and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing: Option<String>,
    /// The version of the rules.
    pub protocol: ProtocolView,
}

/// The version of the rules that all nodes follow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProtocolView {
    /// The one in force.
    pub version: u16,
    /// The latest that the answering node's program knows.
    pub known: u16,
    /// The one that comes, if enough validators are ready for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u16>,
    /// The first block that has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_height: Option<u64>,
}

/// Body of `POST /v1/validator/ready`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReadyRequest {
    /// The version of the rules; at most the one that the node's program knows.
    #[schema(minimum = 1, maximum = 65_535)]
    pub version: u16,
    /// Only say what would happen.
    #[serde(default)]
    pub dry_run: bool,
}

/// Body of `POST /v1/validator/join`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JoinRequest {
    /// Credits to put behind this node; 0 takes back a wish to leave.
    #[schema(maximum = 9_007_199_254_740_991_u64)]
    pub stake: u64,
    /// Only say what would happen.
    #[serde(default)]
    pub dry_run: bool,
}

/// Body of `POST /v1/validator/leave` and `POST /v1/validator/unjail`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OfNodeRequest {
    /// The node, of this account; by default the answering one.
    #[serde(default)]
    #[schema(pattern = "^[0-9a-f]{64}$")]
    pub node: Option<String>,
    /// Only say what would happen.
    #[serde(default)]
    pub dry_run: bool,
}

/// Body of `POST /v1/validator/rotate-key`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateRequest {
    /// The node, of this account, whose place the answering one takes.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    pub from: String,
    /// Only say what would happen.
    #[serde(default)]
    pub dry_run: bool,
}

/// What a wish leads to, if nobody else wishes for anything.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct OutlookView {
    /// The node that it is about.
    pub node: String,
    /// Whether nothing was done yet.
    pub dry_run: bool,
    /// The transaction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tx: Option<String>,
    /// Height at which it is final.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<u64>,
    /// Whether the node is registered as a validator first.
    pub registers: bool,
    /// The block after which the wish is looked at.
    pub looked_at: u64,
    /// The first block that the new validators vote on.
    pub acts_from: u64,
    /// Weight of the node now.
    pub power_now: u64,
    /// Its weight from then on; more steps may follow with later epochs.
    pub power_then: u64,
    /// Its stake from then on, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stake: Option<StakeView>,
    /// What the validators bear now.
    pub quorum_now: QuorumView,
    /// What they bear from then on.
    pub quorum_then: QuorumView,
}

fn quorum(set: &ValidatorSet) -> QuorumView {
    QuorumView {
        validators: fill::count(set.len()),
        power: set.total_power(),
        faults: set.faults(),
        quorum: set.quorum(),
        crash_quorum: set.total_power() / 2 + 1,
    }
}

fn power_in(set: &ValidatorSet, node: &NodeId) -> u64 {
    set.index_of(node).and_then(|index| set.get(index)).map_or(0, |member| member.power)
}

fn stake_view(stake: &Stake, power: u64, wanted_power: u64, nodes: &[NodeEntry]) -> StakeView {
    let entry = nodes.iter().find(|entry| entry.announcement.node == stake.node);
    StakeView {
        node: stake.node.to_string(),
        name: fill::name_of(&stake.node, nodes),
        account: stake.account.to_string(),
        state: stake.state(power).to_owned(),
        stake: stake.staked.get(),
        power,
        wanted_power,
        since: stake.since.get(),
        missed_epochs: stake.missed,
        ready: stake.ready,
        reputation: entry.map_or(0, |entry| entry.audit.reputation),
        returns_epoch: stake.unbonds.map(|epoch| epoch.get()),
        punished: stake.punished,
        jailed_until_epoch: stake.jailed.filter(|_| !stake.punished).map(|epoch| epoch.get()),
        successor: stake.successor.map(|node| node.to_string()),
        away_since_ms: None,
    }
}

/// Who votes, who waits, what is staked, and what the validators bear.
#[utoipa::path(get, path = "/v1/validator/status", tag = "validator", operation_id = "validator_status",
    responses((status = 200, body = ValidatorStatusView, description = "Validators and stakes after the last final block")))]
pub async fn status(State(api): State<Api>) -> Result<Json<ValidatorStatusView>, Problem> {
    let standing = Standing::read(&api.handle)?;
    let nodes = api.handle.nodes()?;
    let params = &standing.params;
    let next = standing.height.next().unwrap_or(standing.height);
    let missing = &api.handle.standing().verdict.missing;
    let view = |stake: &Stake| {
        let (power, wanted) = (power_of(&standing.set, &stake.node), stake.wanted(&params.validators));
        let away = missing.iter().find(|missing| missing.node == stake.node);
        StakeView { away_since_ms: away.map(|missing| missing.since.get()), ..stake_view(stake, power, wanted, &nodes) }
    };
    Ok(Json(ValidatorStatusView {
        node: api.handle.identity().node.to_string(),
        time_ms: api.handle.clock().now().get(),
        height: standing.height.get(),
        epoch: params.epoch_of(next).get(),
        looked_at: looked_at(params, next).get(),
        quorum: quorum(&standing.validators()?),
        step: step(&standing.set),
        stake_unit: params.validators.stake_unit,
        unbonding_epochs: params.validators.unbonding_epochs,
        stakes: standing.stakes.iter().map(view).collect(),
        protocol: ProtocolView {
            version: standing.protocol.version,
            known: api.handle.known_protocol(),
            next: standing.protocol.next.map(|(version, _)| version),
            from_height: standing.protocol.next.map(|(_, epoch)| params.first_height(epoch).get()),
        },
        signing: api.handle.status().as_ref().and_then(super::signing::silence),
    }))
}

async fn answer(api: &Api, asked: Wish, dry_run: bool) -> Result<Json<OutlookView>, Problem> {
    let (seen, done) = match dry_run {
        true => (outlook(&api.handle, &asked)?, None),
        false => wish(&api.handle, &asked).await.map(|(seen, done)| (seen, Some(done)))?,
    };
    let Outlook { node, registers, looked_at, now, then, stake } = seen;
    let (params, nodes) = (Standing::read(&api.handle)?.params, api.handle.nodes()?);
    let view = |stake: &Stake| {
        let (power, wanted) = (power_in(&then, &stake.node), stake.wanted(&params.validators));
        stake_view(stake, power, wanted, &nodes)
    };
    Ok(Json(OutlookView {
        node: node.to_string(),
        dry_run,
        tx: done.as_ref().map(|done| done.id.to_string()),
        height: done.map(|done| done.place.height.get()),
        registers,
        looked_at: looked_at.get(),
        acts_from: looked_at.get().saturating_add(1),
        power_now: power_in(&now, &node),
        power_then: power_in(&then, &node),
        stake: stake.as_ref().map(view),
        quorum_now: quorum(&now),
        quorum_then: quorum(&then),
    }))
}

fn node_of(api: &Api, text: Option<&str>) -> Result<NodeId, Problem> {
    match text {
        Some(text) => text.parse().map_err(|error| Problem::bad(format!("node {text:?}: {error}"))),
        None => Ok(api.handle.identity().node),
    }
}

/// Puts credits behind this node: a validator from a later epoch on, or a weightier one.
#[utoipa::path(post, path = "/v1/validator/join", tag = "validator", operation_id = "validator_join", request_body = JoinRequest,
    responses((status = 200, body = OutlookView, description = "What comes of it")))]
pub async fn join(State(api): State<Api>, Json(request): Json<JoinRequest>) -> Result<Json<OutlookView>, Problem> {
    answer(&api, Wish::Join(Amount::new(request.stake)), request.dry_run).await
}

/// Asks for a validator's way out.
#[utoipa::path(post, path = "/v1/validator/leave", tag = "validator", operation_id = "validator_leave", request_body = OfNodeRequest,
    responses((status = 200, body = OutlookView, description = "What comes of it"),
        (status = 409, body = ProblemView, content_type = "application/problem+json", description = "It has no stake, or leaves already")))]
pub async fn leave(State(api): State<Api>, Json(request): Json<OfNodeRequest>) -> Result<Json<OutlookView>, Problem> {
    let node = node_of(&api, request.node.as_deref())?;
    answer(&api, Wish::Leave(node), request.dry_run).await
}

/// Puts this node in the place of another of the account.
#[utoipa::path(post, path = "/v1/validator/rotate-key", tag = "validator", operation_id = "validator_rotate_key",
    request_body = RotateRequest, responses((status = 200, body = OutlookView, description = "What comes of it")))]
pub async fn rotate_key(
    State(api): State<Api>,
    Json(request): Json<RotateRequest>,
) -> Result<Json<OutlookView>, Problem> {
    let from = node_of(&api, Some(&request.from))?;
    answer(&api, Wish::Rotate(from), request.dry_run).await
}

/// Says which version of the rules this node is ready for.
#[utoipa::path(post, path = "/v1/validator/ready", tag = "validator", operation_id = "validator_ready", request_body = ReadyRequest,
    responses((status = 200, body = OutlookView, description = "What comes of it"),
        (status = 409, body = ProblemView, content_type = "application/problem+json", description = "Its program does not know that version, or it has no stake")))]
pub async fn ready(State(api): State<Api>, Json(request): Json<ReadyRequest>) -> Result<Json<OutlookView>, Problem> {
    let known = api.handle.known_protocol();
    if request.version > known {
        let text =
            format!("this program knows the rules up to version {known}, not {}; update it first", request.version);
        return Err(Problem::conflict(text));
    }
    answer(&api, Wish::Ready(request.version), request.dry_run).await
}

/// Asks for the end of a validator's time in jail.
#[utoipa::path(post, path = "/v1/validator/unjail", tag = "validator", operation_id = "validator_unjail", request_body = OfNodeRequest,
    responses((status = 200, body = OutlookView, description = "What comes of it"),
        (status = 409, body = ProblemView, content_type = "application/problem+json", description = "It is not in jail, or must stay there")))]
pub async fn unjail(State(api): State<Api>, Json(request): Json<OfNodeRequest>) -> Result<Json<OutlookView>, Problem> {
    let node = node_of(&api, request.node.as_deref())?;
    answer(&api, Wish::Unjail(node), request.dry_run).await
}

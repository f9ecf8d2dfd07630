//! Session: what a put must do the same way when it is run again, kept until its deal is final; and where its slots go.

use borsh::{BorshDeserialize, BorshSerialize};

use super::put::{PutRequest, blocking};
use crate::crypto::{Domain, hash};
use crate::files::Thresholds;
use crate::files::parameters::{ParameterError, Parameters};
use crate::files::placement::{self, Candidate};
use crate::ledger::record::NodeEntry;
use crate::node::handle::{Handle, NodeError};
use crate::types::{ByteCount, Millis, NodeId, Role, limits};
use crate::wire;

/// Least room that a node must have for a slot of unknown length, bytes.
const ROOM_UNKNOWN: u64 = 64 << 20;

/// What a session must do the same way again.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Journal {
    pub source: Vec<u8>,
    /// Length that was announced: another one is another content, which must not be encrypted with the same key.
    pub len: Option<u64>,
    pub name: String,
    pub created: Millis,
    pub data: u8,
    pub parity: u8,
    pub chunk_bytes: u32,
    pub placement: Vec<NodeId>,
}

impl Journal {
    /// Whether another try may go on with it. What was asked for in so many words is not given up for that.
    fn serves(&self, request: &PutRequest) -> bool {
        let same = self.len == request.len && self.name == request.name;
        let shards = request.shards.is_none_or(|shards| shards == (self.data, self.parity));
        same && shards && request.chunk_bytes.is_none_or(|bytes| bytes == self.chunk_bytes)
    }
}

/// A put that can begin.
pub struct Session {
    pub journal: Journal,
    pub parameters: Parameters,
    pub thresholds: Thresholds,
}

impl Session {
    fn new(journal: Journal, request: &PutRequest) -> Result<Self, NodeError> {
        let parameters = Parameters::new(journal.data, journal.parity, journal.chunk_bytes);
        let parameters = parameters.map_err(|error| NodeError::Bad(error.to_string()))?;
        Ok(Self { journal, parameters, thresholds: thresholds(parameters, request)? })
    }
}

/// Errors: `Bad`, with what is possible.
fn thresholds(parameters: Parameters, request: &PutRequest) -> Result<Thresholds, NodeError> {
    Thresholds::new(parameters, &request.wanted).map_err(|error| NodeError::Bad(error.to_string()))
}

/// Under which name a session's journal is kept: no account sees, or gets in the way of, another one's of the same name.
fn journal_name(handle: &Handle, session: &[u8; 32]) -> Result<[u8; 32], NodeError> {
    let account = handle.keys()?.account_id();
    Ok(hash(Domain::Derive, &wire::encode(&(b"put session", account, session))))
}

/// Removes a session's journal. Errors: `NotAllowed`, `Store`.
pub async fn forget(handle: &Handle, session: [u8; 32]) -> Result<(), NodeError> {
    let (local, name) = (handle.local().clone(), journal_name(handle, &session)?);
    blocking(move || local.remove_session(&name)).await
}

/// The journal of the session: what an earlier try wrote, or a new one.
/// Errors: `Bad` for impossible settings, `NoRoom` when no placement is possible, `Store`.
pub async fn session(handle: &Handle, request: &PutRequest) -> Result<Session, NodeError> {
    let journal_name = journal_name(handle, &request.session)?;
    let known = handle.local().session(&journal_name)?;
    let known = known.and_then(|bytes| wire::decode::<Journal>(&bytes, limits::TX_BYTES_MAX).ok());
    if let Some(journal) = known.filter(|journal| journal.serves(request)) {
        tracing::info!("an earlier put of this file is resumed");
        return Session::new(journal, request);
    }
    let candidates = candidates(handle)?;
    let parameters = parameters(request, candidates.len()).map_err(|error| NodeError::Bad(error.to_string()))?;
    let thresholds = thresholds(parameters, request)?;
    let source = wire::encode(&(request.len, random::<16>()?));
    let (_, nonce) = handle.keys()?.file_secrets(&request.session, &source);
    let room = ByteCount::new(request.len.map_or(ROOM_UNKNOWN, |len| slot_room(len, parameters)));
    let placed = placement::place(&nonce, parameters.slots(), room, &candidates)
        .map_err(|error| NodeError::NoRoom(format!("{error}; add storage nodes or ask for fewer shards")))?;
    let slots = connected_first(handle, placed);
    let (data, parity, chunk_bytes) = (parameters.data(), parameters.parity(), parameters.chunk_bytes());
    let created = handle.clock().now();
    let journal = Journal {
        source,
        len: request.len,
        name: request.name.clone(),
        created,
        data,
        parity,
        chunk_bytes,
        placement: slots,
    };
    let (local, bytes) = (handle.local().clone(), wire::encode(&journal));
    blocking(move || local.put_session(&journal_name, &bytes)).await?;
    Ok(Session { journal, parameters, thresholds })
}

/// A placement in which a node that is not connected gives way to a spare that is, if operators stay distinct.
fn connected_first(handle: &Handle, placed: placement::Placement) -> Vec<NodeId> {
    let connected = handle.net().connected().borrow().clone();
    let me = handle.identity().node;
    let up = |node: &NodeId| connected.contains(node) || *node == me;
    let mut spares = placed.spares.into_iter().filter(|node| up(node));
    let replace = |node: NodeId| if up(&node) { node } else { spares.next().unwrap_or(node) };
    placed.slots.into_iter().map(replace).collect()
}

fn parameters(request: &PutRequest, nodes: usize) -> Result<Parameters, ParameterError> {
    let fitting = Parameters::for_nodes(nodes);
    let (data, parity) = request.shards.unwrap_or((fitting.data(), fitting.parity()));
    match request.chunk_bytes {
        Some(chunk_bytes) => Parameters::new(data, parity, chunk_bytes),
        None => Parameters::with_shards(data, parity),
    }
}

/// Bytes that a slot of a file of this length has at the most.
pub fn slot_room(len: u64, parameters: Parameters) -> u64 {
    let sealed = len.saturating_add((len / limits::SEGMENT_BYTES as u64 + 2).saturating_mul(16));
    (sealed / u64::from(parameters.data())).saturating_add(u64::from(parameters.chunk_bytes()))
}

/// Storage nodes that may take slots.
fn candidates(handle: &Handle) -> Result<Vec<Candidate>, NodeError> {
    let nodes = handle.nodes()?.into_iter();
    let storage = nodes.filter(|entry| entry.active && !entry.draining && entry.announcement.roles.has(Role::Storage));
    let candidate = |entry: NodeEntry| {
        let free = entry.free();
        Candidate { node: entry.announcement.node, operator: entry.announcement.operator, free }
    };
    Ok(storage.map(candidate).collect())
}

fn random<const N: usize>() -> Result<[u8; N], NodeError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| NodeError::Unavailable(format!("no randomness: {error}")))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_that_nobody_has_asks_for_more_room_than_anybody_has() {
        let one = Parameters::with_shards(1, 0).expect("valid parameters");
        assert_eq!(slot_room(u64::MAX, one), u64::MAX);
        assert_eq!(slot_room(0, one), 32 + u64::from(one.chunk_bytes()));
    }
}

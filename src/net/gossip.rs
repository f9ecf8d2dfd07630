//! Gossip: what everyone is told.
//!
//! Payloads carry their author's signature (`wire::Envelope`); gossipsub adds none. A message is handed to the
//! node once, after duplicates were dropped, and forwarded only when the node has accepted it.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use libp2p::PeerId;
use libp2p::gossipsub::{
    self, ConfigBuilder, IdentTopic, MessageAcceptance, MessageAuthenticity, MessageId, PeerScoreParams,
    PeerScoreThresholds, TopicHash, TopicScoreParams, ValidationMode,
};

use super::config::NetError;
use super::fair::FairQueue;
use crate::crypto::{Domain, hash};
use crate::types::{ChainId, NodeId, limits};
use crate::wire::gossip::{Envelope, EnvelopeError, Topic};

/// Which message a verdict is about.
#[derive(Clone, Debug)]
pub struct GossipId {
    pub(super) message: MessageId,
    pub(super) source: PeerId,
    pub(super) topic: Topic,
}

/// What the node thinks of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// True and useful: forward it.
    Accept,
    /// Not useful, and nobody's fault: old, known, or not to be judged from here.
    Ignore,
    /// Breaks a rule that every honest node checks alike: the peer that forwarded it loses score.
    Reject,
}

impl Verdict {
    pub(super) fn acceptance(self) -> MessageAcceptance {
        match self {
            Self::Accept => MessageAcceptance::Accept,
            Self::Ignore => MessageAcceptance::Ignore,
            Self::Reject => MessageAcceptance::Reject,
        }
    }
}

/// A message that waits for the node's verdict (`NetHandle::report`).
#[derive(Clone, Debug)]
pub struct GossipMessage {
    /// For the verdict.
    pub id: GossipId,
    /// What it is about.
    pub topic: Topic,
    /// The peer that forwarded it; its author is inside.
    pub from: NodeId,
    /// The encoded envelope, not verified yet.
    pub data: Bytes,
}

impl GossipMessage {
    /// Decodes and verifies the envelope: once per message, because duplicates do not get here.
    /// Errors: those of `Envelope::open`; the verdict is then `Reject`.
    pub fn open(&self, chain: &ChainId) -> Result<Envelope, EnvelopeError> {
        Envelope::open(chain, self.topic, &self.data)
    }
}

/// Where gossip comes in, each forwarding peer in its turn. Presence is handled by the network itself.
pub struct GossipInbox {
    pub(super) queue: Arc<FairQueue<GossipMessage>>,
}

impl GossipInbox {
    /// The next message, or nothing when the network has stopped.
    pub async fn recv(&mut self) -> Option<GossipMessage> {
        self.queue.pop().await.map(|(_, message)| message)
    }
}

impl Drop for GossipInbox {
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// Topics of one chain, both ways.
#[derive(Clone, Debug)]
pub(super) struct Topics(Vec<(Topic, IdentTopic, TopicHash)>);

impl Topics {
    pub(super) fn new(chain: &ChainId) -> Self {
        let of = |topic: Topic| {
            let ident = IdentTopic::new(format!("/trullo/{}/{}/1", chain.short(), topic.name()));
            let hash = ident.hash();
            (topic, ident, hash)
        };
        Self(Topic::ALL.into_iter().map(of).collect())
    }
    pub(super) fn hash(&self, topic: Topic) -> Option<&TopicHash> {
        self.0.iter().find(|entry| entry.0 == topic).map(|entry| &entry.2)
    }
    pub(super) fn topic(&self, hash: &TopicHash) -> Option<Topic> {
        self.0.iter().find(|entry| entry.2 == *hash).map(|entry| entry.0)
    }
}

/// Equal content, equal id: without author and number in the message, the content is all there is.
fn message_id(message: &gossipsub::Message) -> MessageId {
    let mut hasher = hash::hasher(Domain::GossipId);
    hasher.update(message.topic.as_str().as_bytes()).update(&[0]).update(&message.data);
    MessageId::new(&hasher.finalize().as_bytes()[..20])
}

/// What counts for and against a peer in the mesh: invalid messages weigh, being quiet does not, because most
/// topics are quiet most of the time.
fn topic_score() -> TopicScoreParams {
    TopicScoreParams {
        topic_weight: 1.0,
        time_in_mesh_weight: 0.01,
        time_in_mesh_quantum: Duration::from_secs(1),
        time_in_mesh_cap: 300.0,
        first_message_deliveries_weight: 0.1,
        first_message_deliveries_decay: 0.9,
        first_message_deliveries_cap: 50.0,
        mesh_message_deliveries_weight: 0.0,
        mesh_failure_penalty_weight: 0.0,
        invalid_message_deliveries_weight: -0.5,
        invalid_message_deliveries_decay: 0.97,
        ..TopicScoreParams::default()
    }
}

fn score(topics: &Topics) -> PeerScoreParams {
    // Nodes of a local testnet share one address, which says nothing about them.
    let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    PeerScoreParams {
        topics: topics.0.iter().map(|entry| (entry.2.clone(), topic_score())).collect(),
        topic_score_cap: 50.0,
        app_specific_weight: 1.0,
        ip_colocation_factor_whitelist: HashSet::from(loopback),
        ..PeerScoreParams::default()
    }
}

/// Lower than any sum that a peer reaches before its own points end the connection: a peer that is merely
/// ignored stays, and takes a place.
fn thresholds() -> PeerScoreThresholds {
    PeerScoreThresholds {
        gossip_threshold: -200.0,
        publish_threshold: -300.0,
        graylist_threshold: -400.0,
        ..PeerScoreThresholds::default()
    }
}

/// Gossipsub as trullo uses it. Errors: `Setup`, when the settings contradict each other.
pub(super) fn behaviour(chain: &ChainId, topics: &Topics) -> Result<gossipsub::Behaviour, NetError> {
    let setup = |error: String| NetError::Setup(error);
    let config = ConfigBuilder::default()
        .protocol_id_prefix(format!("/trullo/{}/gossip", chain.short()))
        .validation_mode(ValidationMode::Anonymous)
        .validate_messages()
        .message_id_fn(message_id)
        .max_transmit_size(limits::GOSSIP_BYTES_MAX + limits::GOSSIP_ENVELOPE_BYTES_MAX + 1024)
        // To the mesh instead of to everyone: measured 8 times faster at high rates.
        .flood_publish(false)
        .heartbeat_interval(Duration::from_millis(700))
        .heartbeat_initial_delay(Duration::from_millis(200))
        .prune_backoff(Duration::from_secs(15))
        .duplicate_cache_time(Duration::from_secs(120))
        .connection_handler_queue_len(1_024)
        .build()
        .map_err(|error| setup(error.to_string()))?;
    let mut behaviour =
        gossipsub::Behaviour::new(MessageAuthenticity::Anonymous, config).map_err(|error| setup(error.to_owned()))?;
    behaviour.with_peer_score(score(topics), thresholds()).map_err(setup)?;
    for (_, ident, _) in &topics.0 {
        behaviour.subscribe(ident).map_err(|error| setup(error.to_string()))?;
    }
    Ok(behaviour)
}

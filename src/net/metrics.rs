//! What the network counts.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::rates::Kind;
use super::score::Misbehaviour;
use crate::wire::Topic;

/// What bytes are carried for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Traffic {
    /// Consensus messages between validators.
    Consensus,
    /// Gossip payloads, each counted once.
    Gossip,
    /// Requests and answers.
    Request,
    /// Byte streams of slots.
    Stream,
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Direction {
    /// To this node.
    In,
    /// From this node.
    Out,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Flow {
    protocol: Traffic,
    direction: Direction,
}

/// A queue that gives up messages rather than growing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Queue {
    /// Consensus messages to a peer that does not read.
    ConsensusOut,
    /// Consensus messages to a node that is no consensus peer.
    ConsensusStranger,
    /// Gossip that the node was too slow for.
    Gossip,
    /// Requests that the node was too slow for.
    Request,
    /// Byte streams over the limit.
    Stream,
    /// Commands to the network task.
    Command,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Dropped {
    queue: Queue,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OverRate {
    kind: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Fault {
    what: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfTopic {
    topic: &'static str,
}

/// Counters and gauges of the network. Cheap to clone; all clones count together.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    pub(super) peers: Gauge,
    pub(super) peers_known: Gauge,
    pub(super) bans: Counter,
    pub(super) dials_failed: Counter,
    pub(super) connections_refused: Counter,
    bytes: Family<Flow, Counter>,
    dropped: Family<Dropped, Counter>,
    over_rate: Family<OverRate, Counter>,
    faults: Family<Fault, Counter>,
    gossip_rejected: Family<OfTopic, Counter>,
    mesh: Family<OfTopic, Gauge>,
}

impl Metrics {
    /// Makes the metrics and registers them under `p2p`.
    pub fn register(registry: &mut Registry) -> Self {
        let new = Self::default();
        let p2p = registry.sub_registry_with_prefix("p2p");
        p2p.register("peers", "Connected peers of this chain", new.peers.clone());
        p2p.register("peers_known", "Peers whose addresses are known", new.peers_known.clone());
        p2p.register("bans", "Peers sent away because their score ran out", new.bans.clone());
        p2p.register("dials_failed", "Dials that reached nobody", new.dials_failed.clone());
        p2p.register(
            "connections_refused",
            "Incoming connections that failed or were refused",
            new.connections_refused.clone(),
        );
        p2p.register_with_unit("carried", "Payload carried", Unit::Bytes, new.bytes.clone());
        p2p.register("queue_dropped", "Messages given up by a full queue", new.dropped.clone());
        p2p.register("over_rate", "What peers brought over their rates, and was dropped", new.over_rate.clone());
        p2p.register("faults", "Faults of peers, by kind", new.faults.clone());
        p2p.register("gossip_rejected", "Gossip that broke a rule", new.gossip_rejected.clone());
        p2p.register("mesh_peers", "Peers in the gossip mesh of a topic", new.mesh.clone());
        new
    }
    pub(super) fn carried(&self, protocol: Traffic, direction: Direction, bytes: usize) {
        self.bytes.get_or_create(&Flow { protocol, direction }).inc_by(bytes as u64);
    }
    pub(super) fn dropped(&self, queue: Queue) {
        self.dropped.get_or_create(&Dropped { queue }).inc();
    }
    pub(super) fn over_rate(&self, kind: Kind) {
        self.over_rate.get_or_create(&OverRate { kind: kind.name() }).inc();
    }
    pub(super) fn fault(&self, what: Misbehaviour) {
        self.faults.get_or_create(&Fault { what: what.name() }).inc();
    }
    pub(super) fn gossip_rejected(&self, topic: Topic) {
        self.gossip_rejected.get_or_create(&OfTopic { topic: topic.name() }).inc();
    }
    pub(super) fn set_mesh(&self, topic: Topic, peers: usize) {
        self.mesh.get_or_create(&OfTopic { topic: topic.name() }).set(i64::try_from(peers).unwrap_or(i64::MAX));
    }
    /// Connected peers of this chain.
    pub fn peers(&self) -> i64 {
        self.peers.get()
    }
    /// Peers in the gossip mesh of the topic.
    pub fn mesh(&self, topic: Topic) -> i64 {
        self.mesh.get_or_create(&OfTopic { topic: topic.name() }).get()
    }
    /// Messages that the queue has given up.
    pub fn dropped_by(&self, queue: Queue) -> u64 {
        self.dropped.get_or_create(&Dropped { queue }).get()
    }
    /// What peers brought of a kind over their rates.
    pub fn dropped_over_rate(&self, kind: Kind) -> u64 {
        self.over_rate.get_or_create(&OverRate { kind: kind.name() }).get()
    }
    /// Payload bytes carried.
    pub fn carried_bytes(&self, protocol: Traffic, direction: Direction) -> u64 {
        self.bytes.get_or_create(&Flow { protocol, direction }).get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_appears_in_the_text_format() {
        let mut registry = Registry::with_prefix("trullo");
        let metrics = Metrics::register(&mut registry);
        metrics.carried(Traffic::Gossip, Direction::In, 7);
        metrics.dropped(Queue::Gossip);
        metrics.set_mesh(Topic::Tips, 3);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("writing to a string");
        for line in [
            r#"trullo_p2p_carried_bytes_total{protocol="Gossip",direction="In"} 7"#,
            r#"trullo_p2p_queue_dropped_total{queue="Gossip"} 1"#,
            r#"trullo_p2p_mesh_peers{topic="tips"} 3"#,
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
    }
}

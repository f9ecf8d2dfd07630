//! Real networks in one process, over TCP on 127.0.0.1.

mod exchange;
mod floods;
mod hostile;
mod links;

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::crypto::SecretKey;
use crate::types::{ChainId, NodeId};

/// No state is waited for longer.
const DEADLINE: Duration = Duration::from_secs(20);

/// One node's network.
struct Node {
    net: NetHandle,
    inboxes: Inboxes,
}

impl Node {
    fn id(&self) -> NodeId {
        self.net.node()
    }
    /// Its address, for the bootstrap list of others.
    fn address(&self) -> PeerAddress {
        self.net.addresses()[0].clone()
    }
    async fn sees(&self, node: NodeId, connected: bool) {
        let mut watch = self.net.connected();
        let what = format!("{:?} sees {node:?} connected: {connected}", self.id());
        within(&what, watch.wait_for(|peers| peers.contains(&node) == connected)).await.expect("the network runs");
    }
    async fn next_message(&mut self) -> (NodeId, Bytes) {
        within("a consensus message", self.inboxes.consensus.recv()).await.expect("the network runs")
    }
    async fn next_gossip(&mut self) -> GossipMessage {
        within("gossip", self.inboxes.gossip.recv()).await.expect("the network runs")
    }
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited {DEADLINE:?} for {what}"),
    }
}

/// Waits until the condition holds; for states that nothing announces.
async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    within(what, async {
        while !condition() {
            ticks.tick().await;
        }
    })
    .await;
}

fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32])
}

fn config(seed: u8, bootstrap: &[PeerAddress]) -> NetConfig {
    NetConfig {
        key: key(seed),
        chain: ChainId::from_bytes([1; 32]),
        listen: vec!["/ip4/127.0.0.1/tcp/0".parse().expect("an address")],
        announce: Vec::new(),
        bootstrap: bootstrap.to_vec(),
        limits: NetLimits::default(),
    }
}

async fn start_with(config: NetConfig) -> Node {
    let (net, inboxes) = start(config, Metrics::default()).await.expect("a free port on loopback");
    Node { net, inboxes }
}

/// So many nodes, all of whom know the first.
async fn network(size: u8) -> Vec<Node> {
    let mut nodes: Vec<Node> = Vec::new();
    for seed in 1..=size {
        let bootstrap: Vec<_> = nodes.first().map(Node::address).into_iter().collect();
        nodes.push(start_with(config(seed, &bootstrap)).await);
    }
    nodes
}

/// A network of validators: each is a consensus peer of every other, and connected to it.
async fn validators(size: u8) -> Vec<Node> {
    let nodes = network(size).await;
    let ids: Vec<_> = nodes.iter().map(Node::id).collect();
    for node in &nodes {
        for other in &nodes {
            node.net.learn(other.id(), vec![other.address().address]).expect("room for a command");
        }
        node.net.set_consensus_peers(&ids).expect("room for a command");
    }
    for node in &nodes {
        for id in ids.iter().filter(|id| **id != node.id()) {
            node.sees(*id, true).await;
        }
    }
    nodes
}

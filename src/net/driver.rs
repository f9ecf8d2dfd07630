//! The network task: the only owner of the swarm.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use libp2p::request_response::OutboundRequestId;
use libp2p::swarm::DialError;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::{Swarm, gossipsub};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;

use super::address::{Address, node_id, peer_id};
use super::behaviour::{Behaviour, Protocols};
use super::book::Book;
use super::fair::FairQueue;
use super::gossip::{GossipId, GossipMessage, Topics, Verdict};
use super::handle::{Command, lock};
use super::metrics::{Direction, Metrics, Traffic};
use super::rates::Rates;
use super::request::{Answer, Answering, InboundRequest, Question, RequestError};
use super::score::Misbehaviour;
use crate::types::{ChainId, NodeId};
use crate::wire::Topic;

/// Even with nothing due, the gauges are brought up to date this often.
const REFRESH: Duration = Duration::from_secs(1);

pub(super) struct Driver {
    pub swarm: Swarm<Behaviour>,
    pub chain: ChainId,
    pub protocols: Protocols,
    pub topics: Topics,
    pub ban: Duration,
    pub rates: Arc<Rates>,
    pub book: Arc<Mutex<Book>>,
    pub connected: watch::Sender<Arc<BTreeSet<NodeId>>>,
    pub commands: mpsc::Receiver<Command>,
    /// For requests of peers, whose answers come back as commands.
    pub answers: mpsc::Sender<Command>,
    pub gossip: Arc<FairQueue<GossipMessage>>,
    pub requests: mpsc::Sender<InboundRequest>,
    pub metrics: Metrics,
    pub stop: CancellationToken,
    pub waiting: Waiting,
}

/// Who waits for something to happen on the network.
#[derive(Default)]
pub(super) struct Waiting {
    pub answers: HashMap<OutboundRequestId, oneshot::Sender<Result<Bytes, RequestError>>>,
    pub connections: BTreeMap<NodeId, Vec<oneshot::Sender<Result<(), String>>>>,
    /// Requests of peers.
    pub answering: Answering,
    pub cuts: Vec<(Vec<NodeId>, oneshot::Sender<()>)>,
}

impl Driver {
    pub(super) async fn run(mut self) {
        let stop = self.stop.clone();
        let mut refreshed = Instant::now();
        let (mut version, mut next) = (None, refreshed);
        loop {
            let now = Instant::now();
            if now >= next || version != Some(lock(&self.book).version()) {
                self.dial();
                let book = lock(&self.book);
                // Counted from the last refresh: a busy network must not put it off for ever.
                let latest = refreshed + REFRESH;
                next = book.next().map_or(latest, |next| next.min(latest));
                version = Some(book.version());
            }
            tokio::select! {
                () = stop.cancelled() => break,
                event = self.swarm.select_next_some() => self.on_event(event),
                Some(command) = self.commands.recv() => self.on_command(command),
                () = sleep_until(next.into()) => {
                    refreshed = Instant::now();
                    self.refresh();
                }
            }
        }
        self.gossip.close();
    }

    fn dial(&mut self) {
        let due = lock(&self.book).due(Instant::now());
        for (node, addresses) in due {
            let Some(peer) = peer_id(&node) else {
                lock(&self.book).failed(node, Instant::now());
                continue;
            };
            // A port of its own for each dial: reusing the listening one makes two nodes that dial each other
            // at once collide, and a redial run into the port's last connection.
            let options = DialOpts::peer_id(peer)
                .condition(PeerCondition::DisconnectedAndNotDialing)
                .addresses(addresses.iter().map(Address::multiaddr).cloned().collect())
                .allocate_new_port()
                .build();
            if let Err(error) = self.swarm.dial(options) {
                self.dial_failed(node, &error);
            }
        }
    }

    pub(super) fn dial_failed(&mut self, node: NodeId, error: &DialError) {
        self.metrics.dials_failed.inc();
        tracing::debug!(peer = ?node, %error, "dial failed");
        lock(&self.book).failed(node, Instant::now());
        if !lock(&self.book).has_connection(&node) {
            self.tell_connected(node, Err(error.to_string()));
        }
    }

    fn refresh(&mut self) {
        let now = Instant::now();
        let (overdue, pardoned) = {
            let mut book = lock(&self.book);
            (book.overdue(now), book.pardon(now))
        };
        for node in overdue {
            tracing::debug!(peer = ?node, "has not said which chain it follows");
            self.disconnect(node);
        }
        for node in pardoned {
            self.update_block(node);
        }
        let forgotten = lock(&self.book).take_forgotten();
        for node in forgotten {
            self.update_block(node);
        }
        for topic in Topic::ALL {
            let mesh = self.topics.hash(topic).map_or(0, |hash| self.swarm.behaviour().gossip.mesh_peers(hash).count());
            self.metrics.set_mesh(topic, mesh);
        }
        self.metrics.peers_known.set(i64::try_from(lock(&self.book).len()).unwrap_or(i64::MAX));
    }

    pub(super) fn disconnect(&mut self, node: NodeId) {
        if let Some(peer) = peer_id(&node) {
            // An error says that it is not connected any more.
            let _ = self.swarm.disconnect_peer_id(peer);
        }
    }

    /// Brings libp2p's list in line with the book's. Blocking ends connections at once.
    pub(super) fn update_block(&mut self, node: NodeId) {
        let Some(peer) = peer_id(&node) else { return };
        let blocked = lock(&self.book).is_blocked(&node);
        match blocked {
            true => self.swarm.behaviour_mut().blocked.block_peer(peer),
            false => self.swarm.behaviour_mut().blocked.unblock_peer(peer),
        };
    }

    pub(super) fn publish_connected(&mut self) {
        let set: BTreeSet<NodeId> = lock(&self.book).connected().collect();
        self.metrics.peers.set(i64::try_from(set.len()).unwrap_or(i64::MAX));
        self.connected.send_replace(Arc::new(set));
    }

    pub(super) fn tell_connected(&mut self, node: NodeId, result: Result<(), String>) {
        for waiter in self.waiting.connections.remove(&node).unwrap_or_default() {
            // Who has stopped waiting needs no word.
            let _ = waiter.send(result.clone());
        }
    }

    /// Tells those who cut links which of them are gone completely.
    pub(super) fn tell_cut(&mut self) {
        let book = lock(&self.book);
        for (nodes, done) in std::mem::take(&mut self.waiting.cuts) {
            match nodes.iter().any(|node| book.has_connection(node)) {
                true => self.waiting.cuts.push((nodes, done)),
                // Who has stopped waiting needs no word.
                false => drop(done.send(())),
            }
        }
    }
}

impl Driver {
    fn on_command(&mut self, command: Command) {
        match command {
            Command::Publish(topic, data) => self.publish(topic, data),
            Command::Report(id, verdict) => self.report(&id, verdict),
            Command::Misbehaviour(node, what) => self.punish(node, what),
            Command::Connect(node, done) => self.connect(node, done),
            Command::Request(node, question, done) => self.ask(node, question, done),
            Command::Answer(channel, answer) => {
                if let Answer::Data(data) = &answer {
                    self.metrics.carried(Traffic::Request, Direction::Out, data.len());
                }
                // An error says that the peer has gone or the request timed out.
                let _ = self.swarm.behaviour_mut().requests.send_response(channel, answer);
            }
            Command::Deny(nodes, done) => self.deny(nodes, done),
            Command::ConsensusPeers(nodes) => self.set_needed(&nodes),
            Command::Charge(node, kind, cost) => drop(self.within_rate(kind, node, cost)),
            Command::Learn(node, addresses) => lock(&self.book).learn(node, &addresses, Instant::now()),
        }
    }

    fn publish(&mut self, topic: Topic, data: Vec<u8>) {
        let Some(hash) = self.topics.hash(topic).cloned() else { return };
        self.metrics.carried(Traffic::Gossip, Direction::Out, data.len());
        match self.swarm.behaviour_mut().gossip.publish(hash, data) {
            Ok(_) | Err(gossipsub::PublishError::Duplicate) => {}
            // Nobody to tell yet, or nobody who keeps up: what matters is told again.
            Err(error) => tracing::debug!(topic = topic.name(), %error, "not gossiped"),
        }
    }

    pub(super) fn report(&mut self, id: &GossipId, verdict: Verdict) {
        let gossip = &mut self.swarm.behaviour_mut().gossip;
        gossip.report_message_validation_result(&id.message, &id.source, verdict.acceptance());
        if verdict == Verdict::Reject {
            self.metrics.gossip_rejected(id.topic);
            if let Some(node) = node_id(&id.source) {
                self.punish(node, Misbehaviour::InvalidGossip);
            }
        }
    }

    pub(super) fn punish(&mut self, node: NodeId, what: Misbehaviour) {
        let now = Instant::now();
        let (banned, points) = {
            let mut book = lock(&self.book);
            (book.punish(node, what, self.ban, now), book.points(&node, now))
        };
        tracing::debug!(peer = ?node, ?what, points, "misbehaviour");
        self.metrics.fault(what);
        if let Some(peer) = peer_id(&node) {
            self.swarm.behaviour_mut().gossip.set_application_score(&peer, -f64::from(points));
        }
        if banned {
            let standing = self.rates.standing(&node).name();
            tracing::warn!(peer = %node, standing, what = what.name(), "sent away for {:?}: its score has run out", self.ban);
            self.metrics.bans.inc();
            self.update_block(node);
        }
    }

    fn connect(&mut self, node: NodeId, done: oneshot::Sender<Result<(), String>>) {
        let asked = {
            let mut book = lock(&self.book);
            if book.is_connected(&node) { Ok(true) } else { book.ask(node, Instant::now()).map(|()| false) }
        };
        match asked {
            Ok(false) => {
                let waiters = self.waiting.connections.entry(node).or_default();
                waiters.retain(|waiter| !waiter.is_closed());
                waiters.push(done);
            }
            // Who has stopped waiting needs no word.
            Ok(true) => drop(done.send(Ok(()))),
            Err(reason) => drop(done.send(Err(reason.to_owned()))),
        }
    }

    fn ask(&mut self, node: NodeId, question: Question, done: oneshot::Sender<Result<Bytes, RequestError>>) {
        let Some(peer) = peer_id(&node).filter(|peer| self.swarm.is_connected(peer)) else {
            let reason = "the connection was lost".to_owned();
            drop(done.send(Err(RequestError::Unreachable { node, reason })));
            return;
        };
        self.metrics.carried(Traffic::Request, Direction::Out, question.data.len());
        let id = self.swarm.behaviour_mut().requests.send_request(&peer, question);
        self.waiting.answers.insert(id, done);
    }

    /// Those that are needed come in whoever else is there: strangers must not take up the places of validators.
    fn set_needed(&mut self, nodes: &[NodeId]) {
        let gone = lock(&self.book).set_needed(nodes, Instant::now());
        let limits = &mut self.swarm.behaviour_mut().limits;
        for peer in gone.iter().filter_map(peer_id) {
            limits.remove_peer_id(&peer);
        }
        for peer in nodes.iter().take(crate::types::limits::CONSENSUS_PEERS_MAX).filter_map(peer_id) {
            limits.bypass_peer_id(&peer);
        }
    }

    fn deny(&mut self, nodes: Vec<NodeId>, done: oneshot::Sender<()>) {
        let healed = lock(&self.book).set_denied(&nodes, Instant::now());
        for node in healed.iter().chain(&nodes) {
            self.update_block(*node);
        }
        self.waiting.cuts.push((nodes, done));
        self.tell_cut();
    }
}

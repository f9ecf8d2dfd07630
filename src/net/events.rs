//! What the swarm reports, and what the network task does about it.

use std::time::{Duration, Instant};

use libp2p::request_response::{self, InboundRequestId, OutboundFailure, OutboundRequestId};
use libp2p::swarm::SwarmEvent;
use libp2p::{PeerId, gossipsub, identify, ping};

use super::address::{Address, node_id};
use super::behaviour::BehaviourEvent;
use super::driver::Driver;
use super::gossip::{GossipId, GossipMessage, Verdict};
use super::handle::lock;
use super::metrics::{Direction, Queue, Traffic};
use super::rates::{Kind, Ruling, gossip_cost};
use super::request::{Answer, InboundRequest, Question, REQUEST_TIMEOUT_MAX, RequestError};
use super::score::Misbehaviour;
use crate::types::{NodeId, limits};
use crate::wire::{Envelope, Presence, Topic};

/// How long a node of another chain stays away.
const OTHER_CHAIN: Duration = Duration::from_secs(600);

impl Driver {
    pub(super) fn on_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.on_behaviour(event),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, num_established, .. } => {
                match node_id(&peer_id) {
                    Some(node) => {
                        lock(&self.book).established(node, num_established.get(), Instant::now());
                        // Those that are let in beyond all other bounds have this one here.
                        if num_established.get() > limits::CONNECTIONS_PER_PEER_MAX {
                            self.swarm.close_connection(connection_id);
                        }
                    }
                    None => drop(self.swarm.disconnect_peer_id(peer_id)),
                }
            }
            SwarmEvent::ConnectionClosed { peer_id, num_established, cause, .. } => {
                let Some(node) = node_id(&peer_id) else { return };
                if lock(&self.book).lost(node, num_established, Instant::now()) {
                    tracing::info!(peer = ?node, cause = cause.map(|error| error.to_string()), "peer lost");
                    self.publish_connected();
                }
                self.tell_cut();
            }
            SwarmEvent::OutgoingConnectionError { peer_id: Some(peer), error, .. } => {
                if let Some(node) = node_id(&peer) {
                    self.dial_failed(node, &error);
                }
            }
            SwarmEvent::IncomingConnectionError { error, send_back_addr, .. } => {
                self.metrics.connections_refused.inc();
                tracing::debug!(address = %send_back_addr, %error, "incoming connection failed");
            }
            SwarmEvent::ListenerError { error, .. } => tracing::warn!(%error, "listening"),
            SwarmEvent::ListenerClosed { addresses, reason, .. } => {
                tracing::error!(?addresses, ?reason, "not listening any more");
            }
            _ => {}
        }
    }

    fn on_behaviour(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Identify(identify::Event::Received { peer_id, info, .. }) => {
                self.on_identified(peer_id, info);
            }
            BehaviourEvent::Ping(ping::Event { peer, connection, result }) => match (node_id(&peer), result) {
                (Some(node), Ok(rtt)) => lock(&self.book).measured(node, rtt, Instant::now()),
                (_, Err(error)) => {
                    tracing::debug!(%peer, %error, "no answer to a ping");
                    self.swarm.close_connection(connection);
                }
                (None, Ok(_)) => {}
            },
            BehaviourEvent::Gossip(gossipsub::Event::Message { propagation_source, message_id, message }) => {
                self.on_gossip(propagation_source, message_id, message);
            }
            BehaviourEvent::Requests(event) => self.on_request_event(event),
            _ => {}
        }
    }

    fn on_identified(&mut self, peer: PeerId, info: identify::Info) {
        let Some(node) = node_id(&peer) else { return };
        if info.protocol_version != self.protocols.identity {
            tracing::warn!(
                peer = %node, follows = %info.protocol_version.escape_debug(), this_node_follows = %self.protocols.identity,
                "turned away: it follows another chain (its genesis file differs), or is no trullo node"
            );
            lock(&self.book).ban(node, OTHER_CHAIN, Instant::now());
            self.update_block(node);
            self.tell_connected(node, Err("it follows another chain: its genesis file differs".to_owned()));
            return;
        }
        let addresses: Vec<Address> =
            info.listen_addrs.into_iter().filter_map(|address| Address::new(address).ok()).collect();
        let news = {
            let mut book = lock(&self.book);
            book.learn(node, &addresses, Instant::now());
            book.identified(node)
        };
        if news {
            tracing::info!(peer = ?node, "peer connected");
            self.publish_connected();
        }
        self.tell_connected(node, Ok(()));
    }

    fn on_gossip(&mut self, source: PeerId, message: gossipsub::MessageId, content: gossipsub::Message) {
        let (Some(topic), Some(from)) = (self.topics.topic(&content.topic), node_id(&source)) else { return };
        self.metrics.carried(Traffic::Gossip, Direction::In, content.data.len());
        let id = GossipId { message, source, topic };
        // Before its signature is looked at, which is what it costs.
        if !self.within_rate(Kind::Gossip, from, gossip_cost(content.data.len())) {
            self.report(&id, Verdict::Ignore);
            return;
        }
        if topic == Topic::Presence {
            let verdict = self.on_presence(&content.data);
            self.report(&id, verdict);
            return;
        }
        let message = GossipMessage { id, topic, from, data: content.data.into() };
        if let Err(message) = self.gossip.try_push(from, message.data.len(), message) {
            self.metrics.dropped(Queue::Gossip);
            self.report(&message.id, Verdict::Ignore);
        }
    }

    /// Whether a piece that a peer brings is within its rate. Floods are its fault.
    pub(super) fn within_rate(&mut self, kind: Kind, from: NodeId, cost: usize) -> bool {
        let ruling = self.rates.check(kind, from, cost);
        if ruling != Ruling::Take {
            self.metrics.over_rate(kind);
        }
        if ruling == Ruling::Flood {
            self.punish(from, Misbehaviour::Flood);
        }
        ruling == Ruling::Take
    }

    fn on_presence(&mut self, data: &[u8]) -> Verdict {
        let Ok(envelope) = Envelope::open(&self.chain, Topic::Presence, data) else { return Verdict::Reject };
        let Ok(presence) = Presence::decode(&envelope.payload) else { return Verdict::Reject };
        match lock(&self.book).heard(envelope.author, presence, Instant::now()) {
            true => Verdict::Accept,
            false => Verdict::Ignore,
        }
    }

    fn on_request_event(&mut self, event: request_response::Event<Question, Answer>) {
        match event {
            request_response::Event::Message { peer, message, .. } => match message {
                request_response::Message::Request { request_id, request, channel } => {
                    if let Some(from) = node_id(&peer) {
                        self.on_question(from, request_id, request, channel);
                    }
                }
                request_response::Message::Response { request_id, response } => {
                    let answer = match response {
                        Answer::Data(data) => {
                            self.metrics.carried(Traffic::Request, Direction::In, data.len());
                            Ok(data)
                        }
                        Answer::Busy => Err(RequestError::Busy),
                    };
                    self.tell_answer(request_id, answer);
                }
            },
            request_response::Event::OutboundFailure { request_id, error, .. } => {
                let error = match error {
                    OutboundFailure::Timeout => RequestError::Timeout(REQUEST_TIMEOUT_MAX),
                    error => RequestError::Failed(error.to_string()),
                };
                self.tell_answer(request_id, Err(error));
            }
            request_response::Event::InboundFailure { peer, request_id, error, .. } => {
                tracing::debug!(%peer, %error, "request not answered");
                self.waiting.answering.end(request_id);
            }
            request_response::Event::ResponseSent { request_id, .. } => self.waiting.answering.end(request_id),
        }
    }

    fn tell_answer(&mut self, id: OutboundRequestId, answer: Result<bytes::Bytes, RequestError>) {
        if let Some(done) = self.waiting.answers.remove(&id) {
            // Who has stopped waiting needs no word.
            drop(done.send(answer));
        }
    }

    fn on_question(
        &mut self,
        from: NodeId,
        id: InboundRequestId,
        question: Question,
        channel: request_response::ResponseChannel<Answer>,
    ) {
        let Question { method, data } = question;
        self.metrics.carried(Traffic::Request, Direction::In, data.len());
        let within = self.within_rate(Kind::Request, from, method.cost());
        let refused = match within && self.waiting.answering.begin(id, from) {
            true => {
                let request = InboundRequest { from, method, data, channel, commands: self.answers.clone() };
                self.requests.try_send(request).err().map(|refused| refused.into_inner().channel)
            }
            false => Some(channel),
        };
        if let Some(channel) = refused {
            self.metrics.dropped(Queue::Request);
            // An error says that the peer has gone.
            let _ = self.swarm.behaviour_mut().requests.send_response(channel, Answer::Busy);
        }
    }
}

//! The handle: what the rest of the node asks of the network.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use libp2p::StreamProtocol;
use libp2p::request_response::ResponseChannel;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::address::{Address, PeerAddress, peer_id};
use super::book::{Book, PeerInfo};
use super::consensus::Links;
use super::frame;
use super::gossip::{GossipId, Verdict};
use super::metrics::{Metrics, Queue};
use super::rates::{Kind, Rates, Standing, useless_cost};
use super::request::{Answer, Method, OwnRequests, Question, REQUEST_TIMEOUT_MAX, RequestError};
use super::score::Misbehaviour;
use super::stream::{ByteStream, Open, StreamError};
use crate::crypto::SecretKey;
use crate::types::{ChainId, NodeId, limits};
use crate::wire::{self, Envelope, Presence, Topic};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a stream is asked for again when the peer had no place for it at that moment.
const OPEN_TRIES: u32 = 4;

/// What the network task is asked to do.
pub(super) enum Command {
    Publish(Topic, Vec<u8>),
    Report(GossipId, Verdict),
    Misbehaviour(NodeId, Misbehaviour),
    Connect(NodeId, oneshot::Sender<Result<(), String>>),
    Request(NodeId, Question, oneshot::Sender<Result<Bytes, RequestError>>),
    Answer(ResponseChannel<Answer>, Answer),
    Deny(Vec<NodeId>, oneshot::Sender<()>),
    ConsensusPeers(Vec<NodeId>),
    Learn(NodeId, Vec<Address>),
    Charge(NodeId, Kind, usize),
}

/// Why nothing was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The network task is behind, or has stopped; the message is lost.
    #[error("the network is overloaded or has stopped")]
    Overloaded,
    /// Over the limit of its kind.
    #[error("a message of {0} bytes is too long")]
    TooLong(usize),
}

/// Acts on the network. Clones act on the same one. Methods without `async` never block, on any thread.
#[derive(Clone)]
pub struct NetHandle {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub key: SecretKey,
    pub chain: ChainId,
    pub addresses: Vec<PeerAddress>,
    pub book: Arc<Mutex<Book>>,
    pub rates: Arc<Rates>,
    pub connected: watch::Receiver<Arc<BTreeSet<NodeId>>>,
    pub links: Arc<Links>,
    pub commands: mpsc::Sender<Command>,
    pub control: libp2p_stream::Control,
    pub slots: StreamProtocol,
    pub open: Open,
    pub requests: OwnRequests,
    pub metrics: Metrics,
    pub stop: CancellationToken,
    pub tasks: TaskTracker,
}

pub(super) fn lock(book: &Mutex<Book>) -> MutexGuard<'_, Book> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}

impl NetHandle {
    /// This node.
    pub fn node(&self) -> NodeId {
        self.shared.key.public().node_id()
    }
    /// Where this node listens, as others would put it into their bootstrap lists.
    pub fn addresses(&self) -> &[PeerAddress] {
        &self.shared.addresses
    }
    /// What the network counts.
    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    fn command(&self, command: Command) -> Result<(), SendError> {
        self.shared.commands.try_send(command).map_err(|_| {
            self.shared.metrics.dropped(Queue::Command);
            SendError::Overloaded
        })
    }

    // Consensus.

    /// Exactly these exchange consensus messages with this node from now on; they are dialed until they answer.
    /// At most `limits::CONSENSUS_PEERS_MAX`. Messages from others are not taken.
    pub fn set_consensus_peers(&self, nodes: &[NodeId]) -> Result<(), SendError> {
        let others: Vec<NodeId> = nodes.iter().copied().filter(|node| *node != self.node()).collect();
        self.shared.links.set(&others);
        self.command(Command::ConsensusPeers(others))
    }
    /// Exactly these are dialed until they answer, and nothing is exchanged with them: for a node that only follows.
    pub fn set_needed_peers(&self, nodes: &[NodeId]) -> Result<(), SendError> {
        self.command(Command::ConsensusPeers(nodes.to_vec()))
    }
    /// Sends a consensus message to each of the nodes; they share the bytes. It may be lost, never reordered:
    /// a peer that does not keep up loses the oldest. Errors: `TooLong`.
    pub fn send(&self, to: &[NodeId], message: Bytes) -> Result<(), SendError> {
        self.check(&message)?;
        self.shared.links.send(to, &message);
        Ok(())
    }
    /// Sends a consensus message to every consensus peer. Otherwise like `send`.
    pub fn send_all(&self, message: Bytes) -> Result<(), SendError> {
        self.check(&message)?;
        self.shared.links.send_all(&message);
        Ok(())
    }
    fn check(&self, message: &Bytes) -> Result<(), SendError> {
        match message.len() <= limits::CONSENSUS_MESSAGE_BYTES_MAX {
            true => Ok(()),
            false => Err(SendError::TooLong(message.len())),
        }
    }

    // Gossip.

    /// Signs the payload as this node and tells everyone. Errors: `TooLong`, `Overloaded`.
    pub fn gossip(&self, topic: Topic, payload: Vec<u8>) -> Result<(), SendError> {
        if payload.len() > limits::GOSSIP_BYTES_MAX {
            return Err(SendError::TooLong(payload.len()));
        }
        let envelope = Envelope::sign(&self.shared.chain, topic, payload, &self.shared.key);
        self.command(Command::Publish(topic, wire::encode(&envelope)))
    }
    /// Says what this node thinks of a message; without it, the message is not forwarded.
    pub fn report(&self, id: GossipId, verdict: Verdict) {
        // A verdict that is lost in an overload costs one forwarding; it is counted.
        let _ = self.command(Command::Report(id, verdict));
    }
    /// Tells everyone that this node is there. Errors: `Overloaded`.
    pub fn announce(&self, presence: &Presence) -> Result<(), SendError> {
        self.gossip(Topic::Presence, presence.encode())
    }

    // Peers.

    /// All known peers, by id.
    pub fn peers(&self) -> Vec<PeerInfo> {
        let mut peers = lock(&self.shared.book).snapshot(Instant::now());
        for peer in &mut peers {
            peer.standing = self.shared.rates.standing(&peer.node);
        }
        peers
    }
    /// Exactly these nodes have a standing from now on; their rates follow from it. All others are strangers.
    pub fn set_standings(&self, standings: BTreeMap<NodeId, Standing>) {
        self.shared.rates.set_standings(standings);
    }
    /// A peer brought so many bytes of gossip that no node can use. Who goes on with that is sent away.
    pub fn report_useless(&self, node: NodeId, bytes: usize) {
        // What is lost in an overload is not charged.
        let _ = self.command(Command::Charge(node, Kind::Useless, useless_cost(bytes)));
    }
    /// For each of the nodes, how long ago it answered this one, and how long ago its own word came, by whatever way.
    pub fn heard(&self, nodes: &[NodeId]) -> Vec<(Option<Duration>, Option<Duration>)> {
        let (book, now) = (lock(&self.shared.book), Instant::now());
        nodes.iter().map(|node| book.heard_of(node, now)).collect()
    }
    /// Who is connected and of this chain, and every change of it.
    pub fn connected(&self) -> watch::Receiver<Arc<BTreeSet<NodeId>>> {
        self.shared.connected.clone()
    }
    /// Learns where a node is, from the ledger say.
    pub fn learn(&self, node: NodeId, addresses: Vec<Address>) -> Result<(), SendError> {
        self.command(Command::Learn(node, addresses))
    }
    /// Says that a peer did wrong, knowingly. At 100 points it is sent away for a time.
    pub fn report_misbehaviour(&self, node: NodeId, what: Misbehaviour) {
        let _ = self.command(Command::Misbehaviour(node, what));
    }
    /// Cuts this node off from exactly these nodes, in both directions; an empty list heals everything.
    /// On return no connection with them is left.
    pub async fn set_denied(&self, nodes: Vec<NodeId>) -> Result<(), SendError> {
        let (done, cut) = oneshot::channel();
        self.shared.commands.send(Command::Deny(nodes, done)).await.map_err(|_| SendError::Overloaded)?;
        cut.await.map_err(|_| SendError::Overloaded)
    }

    /// Makes sure that the peer is connected. Errors: the reason, as text.
    async fn connect(&self, node: NodeId) -> Result<(), String> {
        if self.shared.connected.borrow().contains(&node) {
            return Ok(());
        }
        let stopped = || "the network has stopped".to_owned();
        let (done, connected) = oneshot::channel();
        self.shared.commands.send(Command::Connect(node, done)).await.map_err(|_| stopped())?;
        match timeout(CONNECT_TIMEOUT, connected).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(stopped()),
            Err(_) => Err(format!("no connection within {CONNECT_TIMEOUT:?}")),
        }
    }

    // Requests and streams.

    /// Asks a peer, connecting first when needed. Errors: each of `RequestError`.
    pub async fn request(
        &self,
        node: NodeId,
        method: Method,
        data: Bytes,
        within: Duration,
    ) -> Result<Bytes, RequestError> {
        if data.len() > limits::REQUEST_BYTES_MAX {
            return Err(RequestError::TooLong(data.len()));
        }
        let asking = async {
            let _turn = self.shared.requests.enter(node).await?;
            self.connect(node).await.map_err(|reason| RequestError::Unreachable { node, reason })?;
            let (done, answer) = oneshot::channel();
            let command = Command::Request(node, Question { method, data }, done);
            self.shared.commands.send(command).await.map_err(|_| RequestError::Overloaded)?;
            answer.await.map_err(|_| RequestError::Overloaded)?
        };
        let within = within.min(REQUEST_TIMEOUT_MAX);
        timeout(within, asking).await.map_err(|_| RequestError::Timeout(within))?
    }

    /// Opens a stream of bytes to a peer, connecting first when needed. Errors: each of `StreamError`.
    pub async fn open_stream(&self, node: NodeId) -> Result<ByteStream, StreamError> {
        let place = self.shared.open.enter(node, true).ok_or(StreamError::TooMany)?;
        let mut tries = 0;
        loop {
            self.connect(node).await.map_err(|reason| StreamError::Unreachable { node, reason })?;
            match timeout(OPEN_TIMEOUT, self.try_open(node)).await {
                Ok(Ok(stream)) => return Ok(ByteStream::new(stream, place, self.shared.metrics.clone())),
                Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => return Err(StreamError::TooMany),
                Ok(Err(error)) if tries >= OPEN_TRIES => return Err(StreamError::Failed(error.to_string())),
                Err(_) => return Err(StreamError::Failed(format!("no greeting within {OPEN_TIMEOUT:?}"))),
                Ok(Err(_)) => {}
            }
            tries += 1;
            sleep(Duration::from_millis(10) * tries).await;
        }
    }

    async fn try_open(&self, node: NodeId) -> io::Result<libp2p::Stream> {
        let peer = peer_id(&node).ok_or(io::ErrorKind::NotFound)?;
        let mut control = self.shared.control.clone();
        let mut stream = control.open_stream(peer, self.shared.slots.clone()).await.map_err(io::Error::other)?;
        frame::read_greeting(&mut stream).await?;
        Ok(stream)
    }

    /// Stops the network and returns when all of its tasks have ended.
    pub async fn shutdown(&self) {
        self.shared.stop.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }
}

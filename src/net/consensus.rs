//! Consensus messages by direct streams: one outbound stream to each consensus peer, kept open.
//!
//! Promises: order is kept per peer; a peer that does not read holds up nobody else, and its queue gives up the
//! oldest; nothing is delivered twice; nothing is delivered for sure, because consensus repeats itself.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::{PeerId, Stream, StreamProtocol};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::address::{node_id, peer_id};
use super::fair::{Bounds, FairQueue};
use super::frame::{self, Greeting};
use super::handle::Command;
use super::metrics::{Direction, Metrics, Queue, Traffic};
use super::rates::{Kind, Rates, Ruling, consensus_cost};
use super::score::Misbehaviour;
use crate::types::{NodeId, limits};

const OPEN_TIMEOUT: Duration = Duration::from_secs(5);
const REOPEN_FIRST: Duration = Duration::from_millis(50);
const REOPEN_LAST: Duration = Duration::from_secs(1);

/// The queue of what came in: for each peer a share, and a bound for all of them.
fn inbox() -> Arc<FairQueue<Bytes>> {
    Arc::new(FairQueue::new(Bounds {
        per_peer: limits::CONSENSUS_INBOX_PEER_BYTES_MAX,
        total: limits::CONSENSUS_INBOX_BYTES_MAX,
        assured: limits::CONSENSUS_INBOX_ASSURED_BYTES,
    }))
}

/// Where consensus messages come in, each peer in its turn.
pub struct ConsensusInbox {
    queue: Arc<FairQueue<Bytes>>,
}

/// Puts messages into an inbox that no network fills.
#[derive(Clone)]
pub struct ConsensusFeed {
    queue: Arc<FairQueue<Bytes>>,
}

impl ConsensusFeed {
    /// Takes nothing more, as when the network stops.
    pub fn close(&self) {
        self.queue.close();
    }
    /// A message of a peer. Returns false when there is no room for it, or nobody to take it.
    pub fn try_send(&self, from: NodeId, message: Bytes) -> bool {
        self.queue.try_push(from, message.len(), message).is_ok()
    }
}

impl ConsensusInbox {
    /// An inbox without a network, as bounded as one with it: for nodes that share a process.
    pub fn without_network() -> (ConsensusFeed, Self) {
        let queue = inbox();
        (ConsensusFeed { queue: Arc::clone(&queue) }, Self { queue })
    }
    /// The next message and the authenticated peer that sent it, or nothing when the network has stopped.
    pub async fn recv(&mut self) -> Option<(NodeId, Bytes)> {
        self.queue.pop().await
    }
    /// The next message, if one waits.
    pub fn try_recv(&mut self) -> Option<(NodeId, Bytes)> {
        self.queue.try_pop()
    }
}

impl Drop for ConsensusInbox {
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// What waits for one peer. When full the oldest goes first.
#[derive(Default)]
struct Outbox {
    state: Mutex<Waiting>,
    filled: Notify,
}

#[derive(Default)]
struct Waiting {
    frames: VecDeque<Bytes>,
    bytes: usize,
}

fn cost(frame: &Bytes) -> usize {
    frame.len() + limits::QUEUED_MESSAGE_OVERHEAD_BYTES
}

impl Outbox {
    /// Appends, and returns how many older frames were given up for it to keep within `bound` bytes.
    fn push(&self, frame: Bytes, bound: usize) -> usize {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut given_up = 0;
        while state.bytes + cost(&frame) > bound {
            let Some(oldest) = state.frames.pop_front() else { break };
            state.bytes -= cost(&oldest);
            given_up += 1;
        }
        state.bytes += cost(&frame);
        state.frames.push_back(frame);
        drop(state);
        self.filled.notify_one();
        given_up
    }
    fn pop(&self) -> Option<Bytes> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let frame = state.frames.pop_front()?;
        state.bytes -= cost(&frame);
        Some(frame)
    }
    /// Takes back what was popped last and not sent.
    fn put_back(&self, frame: Bytes) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.bytes += cost(&frame);
        state.frames.push_front(frame);
    }
}

/// The connection with one consensus peer.
struct Link {
    outbox: Arc<Outbox>,
    /// Ends the writer.
    stop: CancellationToken,
    /// Ends the reader of the peer's newest stream.
    reader: Option<CancellationToken>,
}

/// All of them. The map changes with the validator set, and only then.
pub(super) struct Links {
    links: Mutex<BTreeMap<NodeId, Link>>,
    /// Which peers are connected, by the network task's word; changes wake the writers.
    connected: watch::Receiver<Arc<BTreeSet<NodeId>>>,
    inbox: Arc<FairQueue<Bytes>>,
    control: libp2p_stream::Control,
    protocol: StreamProtocol,
    tasks: TaskTracker,
    stop: CancellationToken,
    metrics: Metrics,
    commands: mpsc::Sender<Command>,
    rates: Arc<Rates>,
}

/// What `Links` needs from the network that it is part of.
pub(super) struct Parts {
    pub connected: watch::Receiver<Arc<BTreeSet<NodeId>>>,
    pub control: libp2p_stream::Control,
    pub protocol: StreamProtocol,
    pub tasks: TaskTracker,
    pub stop: CancellationToken,
    pub metrics: Metrics,
    pub commands: mpsc::Sender<Command>,
    pub rates: Arc<Rates>,
}

impl Links {
    pub(super) fn new(parts: Parts) -> (Arc<Self>, ConsensusInbox) {
        let inbox = inbox();
        let links = Self {
            links: Mutex::default(),
            connected: parts.connected,
            inbox: Arc::clone(&inbox),
            control: parts.control,
            protocol: parts.protocol,
            tasks: parts.tasks,
            stop: parts.stop,
            metrics: parts.metrics,
            commands: parts.commands,
            rates: parts.rates,
        };
        (Arc::new(links), ConsensusInbox { queue: inbox })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, Link>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Exactly these are consensus peers from now on. What waits for one that stays is kept.
    pub(super) fn set(&self, peers: &[NodeId]) {
        let mut links = self.lock();
        links.retain(|node, link| {
            let stays = peers.contains(node);
            if !stays {
                link.stop.cancel();
                link.reader.iter().for_each(CancellationToken::cancel);
            }
            stays
        });
        for node in peers.iter().take(limits::CONSENSUS_PEERS_MAX) {
            let Some(peer) = peer_id(node) else { continue };
            links.entry(*node).or_insert_with(|| {
                let (outbox, stop) = (Arc::<Outbox>::default(), self.stop.child_token());
                let writer = Writer {
                    node: *node,
                    peer,
                    outbox: Arc::clone(&outbox),
                    connected: self.connected.clone(),
                    control: self.control.clone(),
                    protocol: self.protocol.clone(),
                    metrics: self.metrics.clone(),
                };
                let token = stop.clone();
                self.tasks.spawn(async move { token.run_until_cancelled(writer.run()).await });
                Link { outbox, stop, reader: None }
            });
        }
    }

    /// Queues the frame for each of the nodes that is a consensus peer; the bytes are shared.
    pub(super) fn send(&self, to: &[NodeId], frame: &Bytes) {
        let links = self.lock();
        for node in to {
            match links.get(node) {
                Some(link) => self.push(*node, link, frame),
                None => self.metrics.dropped(Queue::ConsensusStranger),
            }
        }
    }

    /// Queues the frame for every consensus peer.
    pub(super) fn send_all(&self, frame: &Bytes) {
        for (node, link) in self.lock().iter() {
            self.push(*node, link, frame);
        }
    }

    fn push(&self, node: NodeId, link: &Link, frame: &Bytes) {
        let connected = self.connected.borrow().contains(&node);
        let bound = if connected { limits::CONSENSUS_OUTBOX_BYTES_MAX } else { limits::CONSENSUS_ABSENT_BYTES_MAX };
        for _ in 0..link.outbox.push(frame.clone(), bound) {
            self.metrics.dropped(Queue::ConsensusOut);
        }
    }

    /// Accepts streams of consensus peers until the end.
    pub(super) async fn accept(self: Arc<Self>, mut incoming: libp2p_stream::IncomingStreams) {
        while let Some(Some((peer, stream))) = self.stop.run_until_cancelled(incoming.next()).await {
            let Some(node) = node_id(&peer) else { continue };
            let stop = self.stop.child_token();
            // A new stream replaces the old one: its sender has given that up, or is another incarnation.
            let old = match self.lock().get_mut(&node) {
                Some(link) => link.reader.replace(stop.clone()),
                None => {
                    tracing::debug!(peer = ?node, "consensus stream of a node that is no consensus peer");
                    continue;
                }
            };
            old.iter().for_each(CancellationToken::cancel);
            let links = Arc::clone(&self);
            self.tasks.spawn(async move { stop.run_until_cancelled(links.read(node, stream)).await });
        }
        self.inbox.close();
    }

    async fn read(&self, node: NodeId, mut stream: Stream) {
        if let Err(error) = self.read_frames(node, &mut stream).await {
            tracing::debug!(peer = ?node, %error, "consensus stream ended");
            if error.kind() == io::ErrorKind::InvalidData {
                let _ = self.commands.send(Command::Misbehaviour(node, Misbehaviour::Oversized)).await;
            }
        }
    }

    /// Whether a message is within its validator's rate. What is dropped is said again, if it was worth it.
    async fn within_rate(&self, node: NodeId, len: usize) -> bool {
        let ruling = self.rates.check(Kind::Consensus, node, consensus_cost(len));
        if ruling != Ruling::Take {
            self.metrics.over_rate(Kind::Consensus);
        }
        if ruling == Ruling::Flood {
            // A network that has stopped needs no word.
            let _ = self.commands.send(Command::Misbehaviour(node, Misbehaviour::Flood)).await;
        }
        ruling == Ruling::Take
    }

    async fn read_frames(&self, node: NodeId, stream: &mut Stream) -> io::Result<()> {
        frame::write_greeting(stream, Greeting::Welcome).await?;
        while let Some(frame) = frame::read_frame(stream, limits::CONSENSUS_MESSAGE_BYTES_MAX).await? {
            self.metrics.carried(Traffic::Consensus, Direction::In, frame.len());
            if !self.within_rate(node, frame.len()).await {
                continue;
            }
            if !self.inbox.push(node, frame.len(), frame).await {
                break;
            }
        }
        Ok(())
    }
}

/// Keeps a stream to one peer open and writes to it what waits.
struct Writer {
    node: NodeId,
    peer: PeerId,
    outbox: Arc<Outbox>,
    connected: watch::Receiver<Arc<BTreeSet<NodeId>>>,
    control: libp2p_stream::Control,
    protocol: StreamProtocol,
    metrics: Metrics,
}

impl Writer {
    async fn run(mut self) {
        let mut pause = REOPEN_FIRST;
        loop {
            let node = self.node;
            if self.connected.wait_for(|peers| peers.contains(&node)).await.is_err() {
                return;
            }
            match self.open().await {
                Ok(stream) => {
                    tracing::debug!(peer = ?self.node, "consensus stream open");
                    pause = REOPEN_FIRST;
                    if let Err(error) = self.write(stream).await {
                        tracing::debug!(peer = ?self.node, %error, "consensus stream lost");
                    }
                }
                Err(error) => {
                    tracing::debug!(peer = ?self.node, %error, "consensus stream refused");
                    pause = (pause * 2).min(REOPEN_LAST);
                }
            }
            sleep(pause).await;
        }
    }

    async fn open(&mut self) -> io::Result<Stream> {
        let opening = async {
            let mut stream =
                self.control.open_stream(self.peer, self.protocol.clone()).await.map_err(io::Error::other)?;
            frame::read_greeting(&mut stream).await?;
            Ok(stream)
        };
        timeout(OPEN_TIMEOUT, opening).await?
    }

    /// Writes until the stream fails. The peer sends nothing on it, so that reading shows its end at once.
    async fn write(&self, stream: Stream) -> io::Result<()> {
        let (mut reader, mut writer) = stream.split();
        let mut nothing = [0];
        let ended = async {
            reader.read_exact(&mut nothing).await?;
            Err(io::Error::new(io::ErrorKind::InvalidData, "bytes where none belong"))
        };
        let mut in_hand = None;
        let writing = async {
            loop {
                while let Some(frame) = self.outbox.pop() {
                    frame::write_frame(&mut writer, in_hand.insert(frame)).await?;
                    let sent = in_hand.take().map_or(0, |frame| frame.len());
                    self.metrics.carried(Traffic::Consensus, Direction::Out, sent);
                }
                writer.flush().await?;
                self.outbox.filled.notified().await;
            }
        };
        let result = tokio::select! {
            result = ended => result,
            result = writing => result,
        };
        // A frame that was not sent whole was not received: it goes first on the next stream.
        in_hand.into_iter().for_each(|frame| self.outbox.put_back(frame));
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_outbox_gives_up_the_oldest() {
        let outbox = Outbox::default();
        let frame = |n: u8| Bytes::from(vec![n; limits::CONSENSUS_MESSAGE_BYTES_MAX]);
        let given_up: usize = (0..5).map(|n| outbox.push(frame(n), limits::CONSENSUS_OUTBOX_BYTES_MAX)).sum();
        let kept: Vec<u8> = std::iter::from_fn(|| outbox.pop()).map(|frame| frame[0]).collect();
        assert_eq!(given_up + kept.len(), 5);
        assert!(given_up > 0 && kept.is_sorted() && kept.last() == Some(&4), "{kept:?}");
    }
}

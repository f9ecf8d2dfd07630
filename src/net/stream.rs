//! Byte streams between two nodes, for slots.
//!
//! Encrypted and authenticated by the connection, flow-controlled each on its own. How long a quiet stream may
//! stay open is the reader's decision, by its own timeouts.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::{AsyncWriteExt, StreamExt};
use libp2p::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::address::node_id;
use super::frame::{self, Greeting};
use super::handle::Command;
use super::metrics::{Direction, Metrics, Queue, Traffic};
use super::rates::{Kind, Rates, Ruling, Standing};
use super::score::Misbehaviour;
use crate::types::{NodeId, limits};

const GREETING_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a stream cannot be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// No connection could be made.
    #[error("{node} cannot be reached: {reason}")]
    Unreachable {
        /// Who.
        node: NodeId,
        /// Why not.
        reason: String,
    },
    /// One of the two sides has as many streams as it wants.
    #[error("too many streams are open")]
    TooMany,
    /// The peer does not serve streams, or the connection broke.
    #[error("the stream cannot be opened: {0}")]
    Failed(String),
}

/// How many streams are open with each peer, in one direction.
#[derive(Clone, Default)]
pub(super) struct Open(Arc<Mutex<BTreeMap<NodeId, usize>>>);

impl Open {
    /// A place for one more stream, or nothing when there is none left. Some are kept for those that are `known`.
    pub(super) fn enter(&self, node: NodeId, known: bool) -> Option<Place> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let max = if known { limits::STREAMS_MAX } else { limits::STREAMS_STRANGERS_MAX };
        if open.values().sum::<usize>() >= max {
            return None;
        }
        let count = open.entry(node).or_default();
        if *count >= limits::STREAMS_PER_PEER_MAX {
            return None;
        }
        *count += 1;
        Some(Place { open: self.clone(), node })
    }
}

/// Given back when dropped.
pub(super) struct Place {
    open: Open,
    node: NodeId,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.open.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.node) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.node);
            }
        }
    }
}

/// A stream of bytes to one authenticated peer and back. Dropping it without `shutdown` resets it.
pub struct ByteStream {
    io: Compat<Stream>,
    peer: NodeId,
    metrics: Metrics,
    _place: Place,
}

impl ByteStream {
    pub(super) fn new(io: Stream, place: Place, metrics: Metrics) -> Self {
        Self { io: io.compat(), peer: place.node, metrics, _place: place }
    }
    /// Who is at the other end.
    pub fn peer(&self) -> NodeId {
        self.peer
    }
}

impl AsyncRead for ByteStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.io).poll_read(cx, buf);
        self.metrics.carried(Traffic::Stream, Direction::In, buf.filled().len() - before);
        result
    }
}

impl AsyncWrite for ByteStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write(cx, buf);
        if let Poll::Ready(Ok(written)) = result {
            self.metrics.carried(Traffic::Stream, Direction::Out, written);
        }
        result
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Where streams of peers come in.
pub struct StreamInbox {
    streams: mpsc::Receiver<ByteStream>,
}

impl StreamInbox {
    /// The next stream, or nothing when the network has stopped.
    pub async fn accept(&mut self) -> Option<ByteStream> {
        self.streams.recv().await
    }
}

/// Accepts streams within the limits; those over them are told so.
pub(super) struct Acceptor {
    accepted: mpsc::Sender<ByteStream>,
    open: Open,
    parts: AcceptorParts,
}

/// What an `Acceptor` needs of the network that it is part of.
pub(super) struct AcceptorParts {
    pub incoming: libp2p_stream::IncomingStreams,
    pub tasks: TaskTracker,
    pub stop: CancellationToken,
    pub metrics: Metrics,
    pub rates: Arc<Rates>,
    pub commands: mpsc::Sender<Command>,
}

impl Acceptor {
    pub(super) fn new(parts: AcceptorParts) -> (Self, StreamInbox) {
        let (accepted, streams) = mpsc::channel(limits::STREAMS_PER_PEER_MAX);
        (Self { accepted, open: Open::default(), parts }, StreamInbox { streams })
    }

    /// A place for a stream of a peer, if it is within its rate and there is one.
    async fn enter(&self, node: NodeId) -> Option<Place> {
        let AcceptorParts { rates, metrics, commands, .. } = &self.parts;
        let ruling = rates.check(Kind::Stream, node, 1);
        if ruling == Ruling::Flood {
            // A network that has stopped needs no word.
            let _ = commands.send(Command::Misbehaviour(node, Misbehaviour::Flood)).await;
        }
        if ruling != Ruling::Take {
            metrics.over_rate(Kind::Stream);
            return None;
        }
        let known = rates.standing(&node) > Standing::Stranger;
        let place = self.open.enter(node, known);
        if place.is_none() {
            metrics.dropped(Queue::Stream);
        }
        place
    }

    pub(super) async fn run(mut self) {
        let stop = self.parts.stop.clone();
        while let Some(Some((peer, mut stream))) = stop.run_until_cancelled(self.parts.incoming.next()).await {
            let Some(node) = node_id(&peer) else { continue };
            let Some(place) = self.enter(node).await else {
                let refusal = async move {
                    frame::write_greeting(&mut stream, Greeting::Refused).await?;
                    stream.close().await
                };
                self.parts.tasks.spawn(timeout(GREETING_TIMEOUT, refusal));
                continue;
            };
            let (accepted, metrics, stop) = (self.accepted.clone(), self.parts.metrics.clone(), stop.clone());
            let welcome = async move {
                let greeting = frame::write_greeting(&mut stream, Greeting::Welcome);
                if let Ok(Ok(())) = timeout(GREETING_TIMEOUT, greeting).await {
                    // A node that serves no streams drops them here.
                    let _ = accepted.send(ByteStream::new(stream, place, metrics)).await;
                }
            };
            self.parts.tasks.spawn(async move { stop.run_until_cancelled(welcome).await });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_limited_per_peer_and_in_all_and_given_back() {
        let (open, node) = (Open::default(), |n: usize| NodeId::from_bytes([n as u8; 32]));
        let mut places: Vec<_> = (0..limits::STREAMS_PER_PEER_MAX).map(|_| open.enter(node(0), true)).collect();
        assert!(places.iter().all(Option::is_some));
        assert!(open.enter(node(0), true).is_none());
        places.pop();
        places.push(open.enter(node(0), true));
        assert!(places.last().is_some_and(Option::is_some));
        let peers = limits::STREAMS_MAX / limits::STREAMS_PER_PEER_MAX;
        places.extend(
            (1..peers)
                .flat_map(|n| (0..limits::STREAMS_PER_PEER_MAX).map(move |_| n))
                .map(|n| open.enter(node(n), true)),
        );
        assert!(places.iter().all(Option::is_some));
        assert!(open.enter(node(99), true).is_none());
        places.clear();
        assert!(open.0.lock().is_ok_and(|open| open.is_empty()));
    }

    #[test]
    fn strangers_do_not_take_the_last_places() {
        let (open, node) = (Open::default(), |n: usize| NodeId::from_bytes([n as u8; 32]));
        let places: Vec<_> = (0..limits::STREAMS_MAX).filter_map(|n| open.enter(node(n % 64), false)).collect();
        assert_eq!(places.len(), limits::STREAMS_STRANGERS_MAX);
        assert!(open.enter(node(100), false).is_none());
        assert!(open.enter(node(100), true).is_some());
    }
}

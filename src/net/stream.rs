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
use super::metrics::{Direction, Metrics, Queue, Traffic};
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
    /// A place for one more stream, or nothing when there is none left.
    pub(super) fn enter(&self, node: NodeId) -> Option<Place> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if open.values().sum::<usize>() >= limits::STREAMS_MAX {
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
    incoming: libp2p_stream::IncomingStreams,
    accepted: mpsc::Sender<ByteStream>,
    open: Open,
    tasks: TaskTracker,
    stop: CancellationToken,
    metrics: Metrics,
}

impl Acceptor {
    pub(super) fn new(
        incoming: libp2p_stream::IncomingStreams,
        tasks: TaskTracker,
        stop: CancellationToken,
        metrics: Metrics,
    ) -> (Self, StreamInbox) {
        let (accepted, streams) = mpsc::channel(limits::STREAMS_PER_PEER_MAX);
        (Self { incoming, accepted, open: Open::default(), tasks, stop, metrics }, StreamInbox { streams })
    }

    pub(super) async fn run(mut self) {
        let stop = self.stop.clone();
        while let Some(Some((peer, mut stream))) = stop.run_until_cancelled(self.incoming.next()).await {
            let Some(node) = node_id(&peer) else { continue };
            let Some(place) = self.open.enter(node) else {
                self.metrics.dropped(Queue::Stream);
                let refusal = async move {
                    frame::write_greeting(&mut stream, Greeting::Refused).await?;
                    stream.close().await
                };
                self.tasks.spawn(timeout(GREETING_TIMEOUT, refusal));
                continue;
            };
            let (accepted, metrics, stop) = (self.accepted.clone(), self.metrics.clone(), stop.clone());
            let welcome = async move {
                let greeting = frame::write_greeting(&mut stream, Greeting::Welcome);
                if let Ok(Ok(())) = timeout(GREETING_TIMEOUT, greeting).await {
                    // A node that serves no streams drops them here.
                    let _ = accepted.send(ByteStream::new(stream, place, metrics)).await;
                }
            };
            self.tasks.spawn(async move { stop.run_until_cancelled(welcome).await });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_limited_per_peer_and_in_all_and_given_back() {
        let (open, node) = (Open::default(), |n: usize| NodeId::from_bytes([n as u8; 32]));
        let mut places: Vec<_> = (0..limits::STREAMS_PER_PEER_MAX).map(|_| open.enter(node(0))).collect();
        assert!(places.iter().all(Option::is_some));
        assert!(open.enter(node(0)).is_none());
        places.pop();
        places.push(open.enter(node(0)));
        assert!(places.last().is_some_and(Option::is_some));
        let peers = limits::STREAMS_MAX / limits::STREAMS_PER_PEER_MAX;
        places.extend(
            (1..peers).flat_map(|n| (0..limits::STREAMS_PER_PEER_MAX).map(move |_| n)).map(|n| open.enter(node(n))),
        );
        assert!(places.iter().all(Option::is_some));
        assert!(open.enter(node(99)).is_none());
        places.clear();
        assert!(open.0.lock().is_ok_and(|open| open.is_empty()));
    }
}

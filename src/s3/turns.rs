//! Turns: who reads and who writes at the same time.
//!
//! The places are few, since each transfer needs a stream to each storage node and those are few. Neither those who read nor those who
//! write can take all of them, so that neither keeps the other out. A reader has its place while
//! the network's bytes come for it, and gives it up while its client takes nothing: such a client holds a piece in memory and its
//! connection, and nothing that others wait for.

use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use s3s::dto::StreamingBlob;
use s3s::{S3ErrorCode, S3Result};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::errors::{error, of_node};
use super::gateway::Gateway;
use crate::files::tree::Content;
use crate::node::NodeError;

/// How long a request waits for others to be done before it is told to come later.
const TURN_WITHIN: Duration = Duration::from_secs(20);
/// How long a client may take nothing before its place goes to others.
const PATIENCE: Duration = Duration::from_secs(2);

/// The places.
#[derive(Clone)]
pub struct Turns {
    all: Arc<Semaphore>,
    readers: Arc<Semaphore>,
    writers: Arc<Semaphore>,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub struct Turn {
    _of_its_kind: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

impl Turns {
    /// So many; each kind gets three quarters of them at the most.
    pub fn new(places: usize) -> Self {
        let kind = || Arc::new(Semaphore::new((places * 3 / 4).max(1)));
        Self { all: Arc::new(Semaphore::new(places)), readers: kind(), writers: kind() }
    }
    /// A place among those who write. Errors: `SlowDown`.
    pub async fn write(&self) -> S3Result<Turn> {
        within(TURN_WITHIN, self.place(&self.writers)).await
    }
    /// A place among those who read. Errors: `SlowDown`.
    async fn read(&self) -> S3Result<Turn> {
        within(TURN_WITHIN, self.place(&self.readers)).await
    }
    /// The next free place. Nothing comes back when the places are closed, which they never are.
    async fn place(&self, kind: &Arc<Semaphore>) -> Option<Turn> {
        let of_its_kind = Arc::clone(kind).acquire_owned().await.ok()?;
        let of_all = Arc::clone(&self.all).acquire_owned().await.ok()?;
        Some(Turn { _of_its_kind: of_its_kind, _of_all: of_all })
    }
}

async fn within(time: Duration, place: impl Future<Output = Option<Turn>>) -> S3Result<Turn> {
    let turn = tokio::time::timeout(time, place).await.ok().flatten();
    turn.ok_or_else(|| error(S3ErrorCode::SlowDown, "too many transfers; try again"))
}

type Pieces = mpsc::Receiver<Result<Bytes, NodeError>>;

/// Bytes that come from the network, and the place for it.
struct Source {
    pieces: Pieces,
    _turn: Turn,
}

impl Gateway {
    /// The bytes of a range, not empty. Whether they can be read at all is known with the first, when the status can still say so.
    /// Errors: `SlowDown`, and those of reading a file.
    pub async fn read(&self, content: &Content, range: Range<u64>) -> S3Result<StreamingBlob> {
        let turn = self.turns.read().await?;
        let (_, mut pieces) = self.tree.read_content(content, Some(range.clone())).await.map_err(of_node)?;
        let first = pieces.recv().await.transpose().map_err(of_node)?.unwrap_or_default();
        let (sender, mut receiver) = mpsc::channel(1);
        let (gateway, content) = (self.clone(), content.clone());
        let open = move |range| {
            let (gateway, content) = (gateway.clone(), content.clone());
            async move {
                // The status is told already, so this one waits as long as it takes.
                let turn = gateway.turns.place(&gateway.turns.readers).await.ok_or(NodeError::Stopping)?;
                let (_, pieces) = gateway.tree.read_content(&content, Some(range)).await?;
                Ok(Source { pieces, _turn: turn })
            }
        };
        let rest = range.start.saturating_add(first.len() as u64)..range.end;
        // There is room for one piece, and nobody else sends.
        let _ = sender.try_send(Ok(first));
        let source = Source { pieces, _turn: turn };
        let stop = self.tree.handle().stop_token().clone();
        tokio::spawn(stop.run_until_cancelled_owned(pass_on(rest, source, open, sender, PATIENCE)));
        Ok(StreamingBlob::wrap(futures::stream::poll_fn(move |cx| receiver.poll_recv(cx))))
    }
}

/// Passes pieces on as they are taken; while none is, the source is closed, and opened again where the last piece ended.
async fn pass_on<F>(
    mut left: Range<u64>,
    source: Source,
    open: impl Fn(Range<u64>) -> F,
    out: mpsc::Sender<Result<Bytes, NodeError>>,
    patience: Duration,
) where
    F: Future<Output = Result<Source, NodeError>>,
{
    let mut source = Some(source);
    while !left.is_empty() {
        let room = match tokio::time::timeout(patience, out.reserve()).await {
            Ok(room) => room,
            Err(_) => {
                source = None;
                out.reserve().await
            }
        };
        // Without room nobody listens any more.
        let Ok(room) = room else { return };
        let piece = next(&mut source, &left, &open).await;
        let ended = piece.is_err();
        left.start = left.start.saturating_add(piece.as_ref().map_or(0, |piece| piece.len() as u64));
        room.send(piece);
        if ended {
            return;
        }
    }
}

async fn next<F>(
    source: &mut Option<Source>,
    left: &Range<u64>,
    open: impl Fn(Range<u64>) -> F,
) -> Result<Bytes, NodeError>
where
    F: Future<Output = Result<Source, NodeError>>,
{
    let source = match source {
        Some(source) => source,
        None => source.insert(open(left.clone()).await?),
    };
    match source.pieces.recv().await {
        Some(piece) => piece,
        None => Err(NodeError::Unavailable(format!("the bytes broke off {} before their end", left.end - left.start))),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// A source of the bytes of a range, one a piece, each byte the lowest of its offset.
    fn opened(range: Range<u64>, turn: Turn) -> Source {
        let (sender, pieces) = mpsc::channel(2);
        tokio::spawn(async move {
            for at in range {
                let byte = u8::try_from(at % 256).expect("a byte");
                if sender.send(Ok(Bytes::from(vec![byte]))).await.is_err() {
                    return;
                }
            }
        });
        Source { pieces, _turn: turn }
    }

    #[tokio::test]
    async fn a_client_that_takes_nothing_gives_its_place_up_and_loses_no_byte() {
        let turns = Turns::new(1);
        let turn = turns.read().await.expect("it is free");
        let (sender, mut receiver) = mpsc::channel(1);
        let again = Arc::new(Mutex::new(Vec::new()));
        let (noted, shared) = (Arc::clone(&again), turns.clone());
        let open = move |range: Range<u64>| {
            noted.lock().expect("not poisoned").push(range.clone());
            let turns = shared.clone();
            async move {
                let turn = turns.place(&turns.readers).await.ok_or(NodeError::Stopping)?;
                Ok(opened(range, turn))
            }
        };
        tokio::spawn(pass_on(0..6, opened(0..6, turn), open, sender, Duration::from_millis(20)));
        // It has taken nothing so far, and another reads meanwhile.
        drop(turns.read().await.expect("the place is given up in time"));
        let mut taken = Vec::new();
        while let Some(piece) = receiver.recv().await {
            taken.extend_from_slice(&piece.expect("a piece"));
        }
        assert_eq!(taken, [0, 1, 2, 3, 4, 5]);
        let again: Vec<_> = again.lock().expect("not poisoned").iter().map(|range| (range.start, range.end)).collect();
        assert_eq!(again, [(1, 6)], "it goes on where it stopped");
        assert!(turns.read().await.is_ok(), "a place is free at the end");
    }

    #[tokio::test]
    async fn neither_readers_nor_writers_take_all_places_and_who_finds_none_is_told_to_come_later() {
        let turns = Turns::new(8);
        let soon = Duration::from_millis(1);
        let mut readers = Vec::new();
        while let Ok(turn) = within(soon, turns.place(&turns.readers)).await {
            readers.push(turn);
        }
        assert_eq!(readers.len(), 6);
        let mut writers = Vec::new();
        let refused = loop {
            match within(soon, turns.place(&turns.writers)).await {
                Ok(turn) => writers.push(turn),
                Err(refused) => break refused,
            }
        };
        assert_eq!((writers.len(), refused.code()), (2, &S3ErrorCode::SlowDown));
        readers.pop();
        assert!(turns.write().await.is_ok());
    }
}

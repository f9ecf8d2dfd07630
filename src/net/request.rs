//! Requests: one question, one answer, both small.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::StreamProtocol;
use libp2p::request_response::{self, InboundRequestId, ProtocolSupport, ResponseChannel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit, mpsc};

use super::handle::Command;
use crate::types::{NodeId, limits};

/// The longest that a request may take, whatever its own timeout says.
pub(super) const REQUEST_TIMEOUT_MAX: Duration = Duration::from_secs(60);

/// What is asked for. The bytes of question and answer are the node's business.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Method {
    /// Finalized blocks in a range of heights.
    Blocks = 0,
    /// One block by its hash.
    Block = 1,
    /// Take a transaction.
    Submit = 2,
    /// Height, state root, roles.
    Status = 3,
    /// Signatures of the asker's own key.
    Signed = 4,
    /// Headers, records with their proofs, and pieces of snapshots.
    Prove = 5,
}

impl Method {
    const ALL: [Self; 6] = [Self::Blocks, Self::Block, Self::Submit, Self::Status, Self::Signed, Self::Prove];
    /// What a question counts towards its peer's rate.
    pub(super) fn cost(self) -> usize {
        match self {
            Self::Blocks | Self::Block | Self::Prove => limits::REQUEST_COST_LONG,
            Self::Submit | Self::Status | Self::Signed => 1,
        }
    }
    fn of(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|method| *method as u8 == byte)
    }
}

/// Why there is no answer. Nothing is known about whether the peer has acted on the question, except where said.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// No connection could be made; the peer has not seen the question.
    #[error("{node} cannot be reached: {reason}")]
    Unreachable {
        /// Who.
        node: NodeId,
        /// Why not.
        reason: String,
    },
    /// No answer in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The peer has too much to do; it has not acted on the question.
    #[error("the peer is busy")]
    Busy,
    /// The peer closed the connection, broke the protocol or had no answer.
    #[error("the request failed: {0}")]
    Failed(String),
    /// The question is too long to be sent.
    #[error("a question of {0} bytes; at most {max}", max = limits::REQUEST_BYTES_MAX)]
    TooLong(usize),
    /// Too many requests of this node are under way, or the network has stopped.
    #[error("too many requests are under way, or the network has stopped")]
    Overloaded,
}

/// A peer's question. Dropping it tells the peer that there is no answer.
pub struct InboundRequest {
    /// Who asks.
    pub from: NodeId,
    /// What for.
    pub method: Method,
    /// The question.
    pub data: Bytes,
    pub(super) channel: ResponseChannel<Answer>,
    pub(super) commands: mpsc::Sender<Command>,
}

impl InboundRequest {
    /// Answers. Answers over `limits::ANSWER_BYTES_MAX` are not sent.
    pub async fn answer(self, data: Bytes) {
        if data.len() <= limits::ANSWER_BYTES_MAX {
            // A network that has stopped needs no answer.
            let _ = self.commands.send(Command::Answer(self.channel, Answer::Data(data))).await;
        }
    }
    /// Says that this node has too much to do.
    pub async fn busy(self) {
        let _ = self.commands.send(Command::Answer(self.channel, Answer::Busy)).await;
    }
}

/// Where requests of peers come in.
pub struct RequestInbox {
    pub(super) requests: mpsc::Receiver<InboundRequest>,
}

impl RequestInbox {
    /// The next request, or nothing when the network has stopped.
    pub async fn recv(&mut self) -> Option<InboundRequest> {
        self.requests.recv().await
    }
}

/// Bounds what this node asks: in all, and of each peer, where further requests wait for their turn.
pub(super) struct OwnRequests {
    all: Semaphore,
    peers: Mutex<BTreeMap<NodeId, Arc<Semaphore>>>,
}

impl Default for OwnRequests {
    fn default() -> Self {
        Self { all: Semaphore::new(limits::REQUESTS_OUTBOUND_MAX), peers: Mutex::default() }
    }
}

impl OwnRequests {
    /// Waits for the peer's turn. Errors: `Overloaded` at once when there are too many in all.
    pub(super) async fn enter(
        &self,
        node: NodeId,
    ) -> Result<(SemaphorePermit<'_>, OwnedSemaphorePermit), RequestError> {
        let one_of_all = self.all.try_acquire().map_err(|_| RequestError::Overloaded)?;
        let peer = {
            let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
            // Whoever is not being asked anything needs no entry.
            peers.retain(|_, turns| Arc::strong_count(turns) > 1);
            let turns = || Arc::new(Semaphore::new(limits::REQUESTS_PER_PEER_MAX));
            Arc::clone(peers.entry(node).or_insert_with(turns))
        };
        let one_of_peer = peer.acquire_owned().await.map_err(|_| RequestError::Overloaded)?;
        Ok((one_of_all, one_of_peer))
    }
}

/// Which requests of peers are being answered. An answer counts until the peer has read it, because until then it
/// is kept.
#[derive(Default)]
pub(super) struct Answering(HashMap<InboundRequestId, NodeId>);

impl Answering {
    /// False when there are too many, of this peer or in all.
    pub(super) fn begin(&mut self, id: InboundRequestId, from: NodeId) -> bool {
        let of_peer = self.0.values().filter(|node| **node == from).count();
        let room = self.0.len() < limits::ANSWERS_MAX && of_peer < limits::ANSWERS_PER_PEER_MAX;
        room && self.0.insert(id, from).is_none()
    }
    pub(super) fn end(&mut self, id: InboundRequestId) {
        self.0.remove(&id);
    }
}

#[derive(Debug)]
pub(super) struct Question {
    pub method: Method,
    pub data: Bytes,
}

#[derive(Debug)]
pub(super) enum Answer {
    Data(Bytes),
    Busy,
}

/// A byte that says what it is, then the bytes, then the end of the stream.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Codec;

async fn read(io: &mut (impl AsyncRead + Unpin + Send), max: usize) -> io::Result<(u8, Bytes)> {
    let mut first = [0];
    io.read_exact(&mut first).await?;
    let mut data = Vec::new();
    io.take(max as u64 + 1).read_to_end(&mut data).await?;
    match data.len() <= max {
        true => Ok((first[0], data.into())),
        false => Err(io::Error::new(io::ErrorKind::InvalidData, format!("over {max} bytes"))),
    }
}

async fn write(io: &mut (impl AsyncWrite + Unpin + Send), first: u8, data: &[u8]) -> io::Result<()> {
    io.write_all(&[first]).await?;
    io.write_all(data).await
}

fn unknown(byte: u8) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("no meaning for {byte}"))
}

impl request_response::Codec for Codec {
    type Protocol = StreamProtocol;
    type Request = Question;
    type Response = Answer;

    async fn read_request<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<Question> {
        let (byte, data) = read(io, limits::REQUEST_BYTES_MAX).await?;
        let method = Method::of(byte).ok_or_else(|| unknown(byte))?;
        Ok(Question { method, data })
    }

    async fn read_response<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<Answer> {
        match read(io, limits::ANSWER_BYTES_MAX).await? {
            (0, data) => Ok(Answer::Data(data)),
            (1, _) => Ok(Answer::Busy),
            (byte, _) => Err(unknown(byte)),
        }
    }

    async fn write_request<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        question: Question,
    ) -> io::Result<()> {
        write(io, question.method as u8, &question.data).await
    }

    async fn write_response<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        answer: Answer,
    ) -> io::Result<()> {
        match answer {
            Answer::Data(data) => write(io, 0, &data).await,
            Answer::Busy => write(io, 1, &[]).await,
        }
    }
}

pub(super) type Behaviour = request_response::Behaviour<Codec>;

pub(super) fn behaviour(protocol: StreamProtocol) -> Behaviour {
    let config = request_response::Config::default()
        .with_request_timeout(REQUEST_TIMEOUT_MAX)
        .with_max_concurrent_streams(limits::REQUESTS_PER_CONNECTION_MAX);
    Behaviour::new([(protocol, ProtocolSupport::Full)], config)
}

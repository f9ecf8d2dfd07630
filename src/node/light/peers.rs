//! Whom questions are put to, and what becomes of those who answer wrongly.

use std::time::Duration;

use borsh::BorshDeserialize;
use bytes::Bytes;

use super::question::Question;
use crate::net::{Method, Misbehaviour, NetHandle};
use crate::types::{NodeId, limits};
use crate::wire;

/// How long a peer has for an answer.
const WITHIN: Duration = Duration::from_secs(10);

/// Peers that can be asked.
pub trait Peers: Sync {
    /// Who can be asked now.
    fn connected(&self) -> Vec<NodeId>;
    /// The bytes of an answer; none if there is none.
    fn ask(&self, node: NodeId, question: &Question) -> impl Future<Output = Option<Bytes>> + Send;
    /// A peer answered with what is provably wrong.
    fn blame(&self, node: NodeId, what: &str);
}

/// What came of a question.
#[derive(Debug, PartialEq)]
pub enum Answer<T> {
    /// An answer, unchecked.
    Said(T),
    /// The peer has none.
    None,
    /// The peer cannot be reached, or is busy.
    Away,
    /// It sent bytes that are no answer; it was blamed.
    Lie,
}

/// Asks one peer.
pub async fn ask<T: BorshDeserialize>(peers: &impl Peers, node: NodeId, question: &Question) -> Answer<T> {
    let Some(bytes) = peers.ask(node, question).await else { return Answer::Away };
    match wire::decode::<Option<T>>(&bytes, limits::ANSWER_BYTES_MAX) {
        Ok(Some(answer)) => Answer::Said(answer),
        Ok(None) => Answer::None,
        Err(_) => {
            peers.blame(node, "an answer that cannot be decoded");
            Answer::Lie
        }
    }
}

impl Peers for NetHandle {
    fn connected(&self) -> Vec<NodeId> {
        let connected = NetHandle::connected(self).borrow().clone();
        connected.iter().copied().collect()
    }
    async fn ask(&self, node: NodeId, question: &Question) -> Option<Bytes> {
        let question = Bytes::from(wire::encode(question));
        let answer = self.request(node, Method::Prove, question, WITHIN).await;
        answer.map_err(|error| tracing::debug!(peer = ?node, %error, "no answer")).ok()
    }
    fn blame(&self, node: NodeId, what: &str) {
        tracing::warn!(peer = %node, what, "a peer answered wrongly");
        self.report_misbehaviour(node, Misbehaviour::InvalidAnswer);
    }
}

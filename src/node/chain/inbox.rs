//! What comes in for the chain thread: inputs of the node itself, and consensus messages of peers, each peer in its turn.
//!
//! Messages wait in the network's queue until the thread takes them, so they are bounded by their bytes, for each peer
//! and in all, and a flood of one peer costs the others one turn.

use std::time::Duration;

use tokio::sync::mpsc;

use super::Input;
use crate::net::ConsensusInbox;
use crate::store::StoreError;
use crate::types::limits;

/// Inputs that one turn takes at the most, so that a flood cannot keep the disk and the others waiting.
const INPUTS_PER_TURN: usize = 256;

/// Where the chain thread's inputs come from.
pub struct Inbox {
    /// The node itself.
    pub inputs: mpsc::Receiver<Input>,
    /// Peers.
    pub messages: ConsensusInbox,
}

pub(super) enum Received {
    Input(Input),
    Timeout,
    Closed,
}

impl Inbox {
    /// The next input, or the end of the wait. The node itself comes first: what it says is little, and may be the stop.
    pub(super) async fn receive(&mut self, wait_ms: Option<u64>) -> Received {
        let received = async {
            tokio::select! {
                biased;
                input = self.inputs.recv() => input.map_or(Received::Closed, Received::Input),
                // A network that has stopped says nothing more; the node's word is waited for then.
                Some((from, bytes)) = self.messages.recv() => Received::Input(Input::Peer { from, bytes }),
            }
        };
        match wait_ms {
            Some(ms) => tokio::time::timeout(Duration::from_millis(ms), received).await.unwrap_or(Received::Timeout),
            None => received.await,
        }
    }

    /// The inputs of one turn: what was received, and what waits behind it, as much as a turn takes.
    pub(super) fn turn(&mut self, received: Option<Input>) -> impl Iterator<Item = Input> {
        let mut first = received;
        let mut room = limits::CHAIN_TURN_BYTES_MAX;
        let inputs = std::iter::from_fn(move || {
            if room == 0 {
                return None;
            }
            let input = first.take().or_else(|| self.next())?;
            if let Input::Peer { bytes, .. } = &input {
                room = room.saturating_sub(bytes.len());
            }
            Some(input)
        });
        inputs.take(INPUTS_PER_TURN)
    }

    fn next(&mut self) -> Option<Input> {
        let message = |inbox: &mut Self| inbox.messages.try_recv().map(|(from, bytes)| Input::Peer { from, bytes });
        self.inputs.try_recv().ok().or_else(|| message(self))
    }
}

/// Keeps an input for later, if it comes only once: an answer to what this thread asked. What others say they say again.
/// Errors: the failure that the input tells of.
pub(super) fn hold(held: &mut Vec<Input>, input: Input) -> Result<(), StoreError> {
    match input {
        Input::Failed(error) => return Err(error),
        Input::Peer { .. } | Input::Tip { .. } | Input::Signed { .. } | Input::Pause(_) | Input::Stop => {}
        // Nothing is written meanwhile; it is done once the thread goes on.
        Input::Prune(_) => held.push(input),
        Input::Waiting(_) => {
            held.retain(|input| !matches!(input, Input::Waiting(_)));
            held.push(input);
        }
        Input::Checked { .. } | Input::Built { .. } | Input::Replayed { .. } | Input::Blocks { .. } => held.push(input),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::ConsensusFeed;
    use crate::types::NodeId;
    use bytes::Bytes;
    use futures::FutureExt;

    fn inbox() -> (mpsc::Sender<Input>, ConsensusFeed, Inbox) {
        let (own, inputs) = mpsc::channel(limits::CHAIN_INBOX_MAX);
        let (feed, messages) = ConsensusInbox::without_network();
        (own, feed, Inbox { inputs, messages })
    }

    fn peer(n: u8) -> NodeId {
        NodeId::from_bytes([n; 32])
    }

    /// Fills a peer's share with messages of this length. Returns how many it took.
    fn flood(feed: &ConsensusFeed, n: u8, len: usize) -> usize {
        (0..).take_while(|_| feed.try_send(peer(n), Bytes::from(vec![0; len]))).count()
    }

    fn turn(inbox: &mut Inbox) -> Vec<Input> {
        match inbox.receive(None).now_or_never() {
            Some(Received::Input(first)) => inbox.turn(Some(first)).collect(),
            _ => Vec::new(),
        }
    }

    fn from(inputs: &[Input], n: u8) -> usize {
        inputs.iter().filter(|input| matches!(input, Input::Peer { from, .. } if *from == peer(n))).count()
    }

    #[test]
    fn floods_are_bounded_by_their_bytes_and_keep_nobody_out() {
        let (_own, feed, mut inbox) = inbox();
        let large = limits::CONSENSUS_MESSAGE_BYTES_MAX - limits::QUEUED_MESSAGE_OVERHEAD_BYTES;
        let taken: usize = (1..=100).map(|n| flood(&feed, n, large)).sum();
        assert!(taken * large <= limits::CONSENSUS_INBOX_BYTES_MAX, "{taken} large messages wait");
        assert!(feed.try_send(peer(200), Bytes::from(vec![0; 1_000])), "a vote comes in all the same");
        let (mut turns, mut vote) = (0, None);
        while vote.is_none() {
            let inputs = turn(&mut inbox);
            assert!(inputs.len() * large <= limits::CHAIN_TURN_BYTES_MAX + large, "a turn of {} inputs", inputs.len());
            turns += 1;
            vote = (from(&inputs, 200) == 1).then_some(turns);
        }
        assert!(vote <= Some(taken), "its turn comes after at most one message of each other peer: {vote:?}");
    }

    #[test]
    fn small_messages_of_one_peer_end_no_turn_of_the_others() {
        let (own, feed, mut inbox) = inbox();
        assert!(flood(&feed, 1, 0) > INPUTS_PER_TURN);
        assert!(feed.try_send(peer(2), Bytes::new()));
        own.try_send(Input::Waiting(true)).expect("room");
        let inputs = turn(&mut inbox);
        assert_eq!(inputs.len(), INPUTS_PER_TURN);
        assert!(matches!(inputs.first(), Some(Input::Waiting(true))));
        assert_eq!(from(&inputs, 2), 1);
    }

    #[test]
    fn a_stopped_network_leaves_the_nodes_own_word() {
        let (own, feed, mut inbox) = inbox();
        feed.close();
        assert!(inbox.receive(None).now_or_never().is_none());
        own.try_send(Input::Stop).expect("room");
        assert!(matches!(inbox.receive(None).now_or_never(), Some(Received::Input(Input::Stop))));
        drop(own);
        assert!(matches!(inbox.receive(None).now_or_never(), Some(Received::Closed)));
    }
}

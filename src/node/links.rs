//! The network as the chain thread sees it: nothing here waits.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::chain::own::ASK_WITHIN;
use super::chain::{Input, Links};
use crate::consensus::evidence::Evidence;
use crate::net::{Method, Misbehaviour, NetHandle};
use crate::store::SyncBlock;
use crate::types::{Height, NodeId, limits};
use crate::wire::{self, Accusation, SignedQuestion, Topic};

/// How long a peer has for an answer with blocks.
const BLOCKS_WITHIN: Duration = Duration::from_secs(5);
/// How long one has for an answer with signatures, and the pause before it is asked again.
const SIGNED_WITHIN: Duration = Duration::from_secs(1);
const SIGNED_PAUSE: Duration = Duration::from_millis(50);
/// Bytes of such an answer: four statements with their signatures.
const SIGNED_BYTES_MAX: usize = 1_024;

/// Validators that did not propose a block announce every so many heights.
const OTHERS_ANNOUNCE_EVERY: u64 = 16;

/// Sends for the chain thread.
pub struct NetLinks {
    /// The network.
    pub net: NetHandle,
    /// Where answers go.
    pub chain: mpsc::Sender<Input>,
    /// Runs requests.
    pub runtime: tokio::runtime::Handle,
    /// Where evidence goes to be put on the ledger.
    pub accusations: mpsc::Sender<Accusation>,
    /// Whether this node is a validator: those talk with each other, and tell the rest of what becomes final. The chain says.
    pub validates: bool,
}

impl Links for NetLinks {
    fn send(&mut self, to: &[NodeId], frame: Bytes) {
        if let Err(error) = self.net.send(to, frame) {
            tracing::warn!(%error, "a consensus message was not sent");
        }
    }
    fn peers(&mut self, nodes: &[NodeId], validates: bool) {
        // Validators turn away the consensus streams of a node that is none, again and again.
        self.validates = validates;
        // The chain thread is none of the runtime's, and a new peer gets a task.
        let _entered = self.runtime.enter();
        let set = match validates {
            true => self.net.set_consensus_peers(nodes),
            // Without streams first: those that were open end.
            false => self.net.set_consensus_peers(&[]).and_then(|()| self.net.set_needed_peers(nodes)),
        };
        if let Err(error) = set {
            tracing::warn!(%error, "the validators could not be made known to the network");
        }
    }
    fn blame(&mut self, node: NodeId, what: &'static str) {
        tracing::warn!(peer = ?node, what, "a peer broke a rule");
        self.net.report_misbehaviour(node, Misbehaviour::InvalidConsensus);
    }
    fn request_blocks(&mut self, from: NodeId, height: Height) {
        let (net, chain) = (self.net.clone(), self.chain.clone());
        self.runtime.spawn(async move {
            let question = Bytes::from(wire::encode(&height));
            let blocks = match net.request(from, Method::Blocks, question, BLOCKS_WITHIN).await {
                Ok(answer) => decode_blocks(&answer).unwrap_or_else(|| {
                    net.report_misbehaviour(from, Misbehaviour::InvalidAnswer);
                    Vec::new()
                }),
                Err(error) => {
                    tracing::debug!(peer = ?from, %error, "no blocks");
                    Vec::new()
                }
            };
            // The thread has ended if nobody takes them.
            let _ = chain.send(Input::Blocks { from, blocks }).await;
        });
    }
    fn announce(&mut self, height: Height, proposed_here: bool) {
        // One voice is enough, so it is the proposer's; the others speak up now and then, in case it does not.
        let speaks = proposed_here || height.get().is_multiple_of(OTHERS_ANNOUNCE_EVERY);
        if self.validates
            && speaks
            && let Err(error) = self.net.gossip(Topic::Tips, wire::encode(&height))
        {
            tracing::debug!(%error, "a new height was not announced");
        }
    }
    fn ask_signed(&mut self, nodes: &[NodeId], process: u64) {
        for node in nodes.iter().copied() {
            let (net, chain) = (self.net.clone(), self.chain.clone());
            self.runtime.spawn(async move {
                // At the start the connections are only being made.
                let until = tokio::time::Instant::now() + Duration::from_millis(ASK_WITHIN.get());
                let question = Bytes::from(wire::encode(&SignedQuestion { process }));
                while tokio::time::Instant::now() < until {
                    match net.request(node, Method::Signed, question.clone(), SIGNED_WITHIN).await {
                        Ok(answer) => {
                            match wire::decode(&answer, SIGNED_BYTES_MAX) {
                                // The thread has ended if nobody takes it.
                                Ok(answer) => drop(chain.send(Input::Signed { from: node, answer }).await),
                                Err(_) => net.report_misbehaviour(node, Misbehaviour::InvalidAnswer),
                            }
                            return;
                        }
                        Err(error) => tracing::debug!(peer = ?node, %error, "not asked for signatures yet"),
                    }
                    tokio::time::sleep(SIGNED_PAUSE).await;
                }
            });
        }
    }
    fn evidence(&mut self, evidence: &Evidence) {
        let accusation = Accusation::Contradiction(evidence.clone());
        super::accuse::gossip(&self.net, &accusation);
        // A full queue has enough of it; others have seen it too.
        let _ = self.accusations.try_send(accusation);
    }
}

/// The bytes of an answer with blocks.
pub fn encode_blocks(blocks: &[SyncBlock]) -> Vec<u8> {
    wire::encode(&blocks.iter().map(|block| (&block.block, &block.certificate)).collect::<Vec<_>>())
}

/// The blocks of an answer, at most `limits::SYNC_BLOCKS_MAX`; nothing if the bytes are none.
pub fn decode_blocks(bytes: &[u8]) -> Option<Vec<SyncBlock>> {
    let pairs: Vec<(wire::ProposedBlock, Option<wire::Certificate>)> =
        wire::decode(bytes, limits::ANSWER_BYTES_MAX).ok()?;
    let block = |(block, certificate)| SyncBlock { block, certificate };
    (pairs.len() <= limits::SYNC_BLOCKS_MAX).then(|| pairs.into_iter().map(block).collect())
}

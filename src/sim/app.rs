//! The application under consensus, as the simulator sees it, and the light one that it runs by default.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::consensus::Verdict;
use crate::crypto::{Domain, hash};
use crate::ledger::{Executed, MemoryState};
use crate::types::{BlockHash, ChainId, Height, Millis, NodeId, Round, StateRoot};
use crate::wire::block::BLOCK_VERSION;
use crate::wire::{Block, Header, ProposedBlock};

use super::ledger::LedgerApp;

/// What a leader asks its application for.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The chain.
    pub chain: ChainId,
    /// The view.
    pub round: Round,
    /// Height of the block.
    pub height: Height,
    /// The executed block to build on.
    pub parent: BlockHash,
    /// Who proposes.
    pub proposer: NodeId,
    /// Proposer's clock.
    pub time: Millis,
    /// Hash of the validator set.
    pub validator_set: [u8; 32],
    /// Makes two blocks of the same proposer differ.
    pub nonce: u64,
    /// A block without transactions is wanted too.
    pub even_empty: bool,
}

/// An application: builds blocks, executes them, keeps the state of final ones. Deterministic.
pub trait App {
    /// Makes and executes a block; nothing if the parent is not executed here, or nothing is there to put in it.
    fn build(&mut self, ask: &Ask) -> Option<Block>;
    /// Executes a block; nothing if its parent is not executed here.
    fn check(&mut self, block: &Block) -> Option<Verdict>;
    /// Whether the block is executed here, or final.
    fn has(&self, block: &BlockHash) -> bool;
    /// The block is final, the next after the last one. What it does to the ledger, for the disk, if there is a ledger.
    /// Errors: it does not do what its header says.
    fn finalize(&mut self, block: &Arc<ProposedBlock>) -> Result<Option<Arc<Executed>>, String>;
    /// The process starts again with these final blocks, and with the ledger's state that is on disk; all else is gone.
    fn restart(&mut self, chain: &[Arc<ProposedBlock>], state: Option<&MemoryState>);
    /// The real ledger, if this is it.
    fn ledger(&mut self) -> Option<&mut LedgerApp> {
        None
    }
}

/// A state that is a hash chain over payloads.
pub struct LightApp {
    genesis: BlockHash,
    states: BTreeMap<BlockHash, State>,
}

#[derive(Clone, Copy)]
struct State {
    height: Height,
    root: StateRoot,
    time: Millis,
}

impl State {
    const GENESIS: Self = Self { height: Height::GENESIS, root: StateRoot::from_bytes([0; 32]), time: Millis::ZERO };
}

impl LightApp {
    /// The state of the genesis block.
    pub fn new(genesis: BlockHash) -> Self {
        Self { genesis, states: BTreeMap::from([(genesis, State::GENESIS)]) }
    }

    fn set_tip(&mut self, header: &Header) {
        let tip = header.hash();
        let state = State { height: header.height, root: header.state_root, time: header.time };
        self.states.insert(tip, state);
        self.states.retain(|hash, state| *hash == tip || state.height > header.height);
    }

    fn root(parent: &StateRoot, payload: &[u8]) -> StateRoot {
        let mut bytes = parent.as_bytes().to_vec();
        bytes.extend_from_slice(payload);
        StateRoot::from_bytes(hash(Domain::StateNode, &bytes))
    }
}

impl App for LightApp {
    fn build(&mut self, ask: &Ask) -> Option<Block> {
        let parent = *self.states.get(&ask.parent)?;
        let payload = Bytes::copy_from_slice(&ask.nonce.to_be_bytes());
        let header = Header {
            version: BLOCK_VERSION,
            chain: ask.chain,
            height: ask.height,
            round: ask.round,
            proposer: ask.proposer,
            parent: ask.parent,
            tx_root: hash(Domain::Payload, &payload),
            receipt_root: [0; 32],
            state_root: Self::root(&parent.root, &payload),
            validator_set: ask.validator_set,
            next_set: ask.validator_set,
            time: ask.time.max(parent.time.saturating_add(Millis::new(1))),
            reveal: [0; 32],
        };
        let state = State { height: ask.height, root: header.state_root, time: header.time };
        self.states.insert(header.hash(), state);
        Some(Block { header, payload })
    }

    fn check(&mut self, block: &Block) -> Option<Verdict> {
        let header = &block.header;
        let parent = *self.states.get(&header.parent)?;
        let valid = header.tx_root == hash(Domain::Payload, &block.payload)
            && header.state_root == Self::root(&parent.root, &block.payload)
            && header.time > parent.time;
        if !valid {
            return Some(Verdict::Invalid);
        }
        let state = State { height: header.height, root: header.state_root, time: header.time };
        self.states.insert(header.hash(), state);
        Some(Verdict::Valid)
    }

    fn has(&self, block: &BlockHash) -> bool {
        self.states.contains_key(block)
    }

    fn finalize(&mut self, block: &Arc<ProposedBlock>) -> Result<Option<Arc<Executed>>, String> {
        self.set_tip(block.header());
        Ok(None)
    }

    fn restart(&mut self, chain: &[Arc<ProposedBlock>], _: Option<&MemoryState>) {
        self.states = BTreeMap::from([(self.genesis, State::GENESIS)]);
        if let Some(last) = chain.last() {
            self.set_tip(last.header());
        }
    }
}

//! The ledger as an application of the chain: blocks of transactions, executed over unfinalized ones.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::beacon::BeaconChain;
use super::chain::exec::{Application, BuildRequest, EpochEnd, Executed, Outcome};
use super::clock::Clock;
use crate::consensus::{self, EpochContext, leader};
use crate::crypto::merkle::{self, Leaf};
use crate::ledger::effects::Changes;
use crate::ledger::protocol::Protocol;
use crate::ledger::record::{SkipList, validator_set};
use crate::ledger::tree::{self, Overlay, TreeError};
use crate::ledger::{self, BlockContext, BlockEffects, ExecuteError, Executor, Key, Reads, Record};
use crate::mempool::Mempool;
use crate::store::{IndexedTx, Reader, Snapshot, StateChanges, StoreError};
use crate::types::{AccountId, BlockHash, ChainId, Epoch, Height, Millis, NodeId, limits};
use crate::wire::block::encode_payload;
use crate::wire::{self, Action, Block, Certificate, Header, ProposedBlock, Tx, ValidatorSet, VerifiedTx};

/// An executed block that is not final.
struct Layer {
    executed: Arc<Executed>,
    changes: Changes,
}

/// The application.
pub struct LedgerApp {
    chain: ChainId,
    me: NodeId,
    config: consensus::Config,
    reader: Reader,
    mempool: Arc<Mutex<Mempool>>,
    beacon: BeaconChain,
    clock: Clock,
    known: u16,
    layers: BTreeMap<BlockHash, Layer>,
}

/// What an application is made of.
pub struct Parts {
    /// Settings of the core.
    pub config: consensus::Config,
    /// The finalized state.
    pub reader: Reader,
    /// Waiting transactions.
    pub mempool: Arc<Mutex<Mempool>>,
    /// This node's hash chain.
    pub beacon: BeaconChain,
    /// The clock.
    pub clock: Clock,
    /// The latest version of the rules that this node follows.
    pub known: u16,
}

impl LedgerApp {
    /// An application over the finalized state.
    pub fn new(parts: Parts) -> Self {
        let Parts { config, reader, mempool, beacon, clock, known } = parts;
        let (chain, me) = (config.chain, config.me);
        Self { chain, me, config, reader, mempool, beacon, clock, known, layers: BTreeMap::new() }
    }

    /// The state that a child of this block is executed on, if the block is known.
    fn state_after(&self, parent: &BlockHash) -> Result<Option<StateView<'_>>, StoreError> {
        let mut layers = Vec::new();
        let mut at = *parent;
        while let Some(layer) = self.layers.get(&at) {
            at = layer.executed.block.header().parent;
            layers.push(layer);
        }
        // The snapshot is opened after the layers were found: what became final in between is in both.
        let snapshot = self.reader.snapshot()?;
        let tip = snapshot.tip()?.ok_or_else(|| StoreError::corrupted("headers.v1", "tip".to_owned()))?;
        layers.retain(|layer| layer.executed.block.header().height > tip.height);
        let (base, parent) = match layers.last() {
            Some(oldest) => {
                (oldest.executed.block.header().parent, layers.first().map(|l| l.executed.block.header().clone()))
            }
            None => (*parent, None),
        };
        if base != tip.hash {
            return Ok(None);
        }
        let parent = parent.unwrap_or(tip.header);
        Ok(Some(StateView { layers, snapshot, parent }))
    }

    /// Executes the transactions and adds everything up.
    fn effects(
        &self,
        state: &StateView<'_>,
        at: BlockContext,
        txs: &[VerifiedTx],
    ) -> Result<Result<BlockEffects, String>, StoreError> {
        match ledger::execute_block(state, at, txs) {
            Ok(effects) => Ok(Ok(effects)),
            Err(ExecuteError::Invalid(fault)) => Ok(Err(fault.to_string())),
            Err(ExecuteError::Local(error)) => Err(error),
        }
    }

    fn decode_txs(&self, payload: &[u8]) -> Result<Vec<VerifiedTx>, String> {
        let txs: Vec<Tx> = wire::decode(payload, limits::BLOCK_PAYLOAD_BYTES_MAX).map_err(|error| error.to_string())?;
        if txs.len() > limits::BLOCK_TXS_MAX {
            return Err(format!("{} transactions in a block; at most {}", txs.len(), limits::BLOCK_TXS_MAX));
        }
        // Those that wait here were verified when they came.
        let mempool = self.mempool.lock().unwrap_or_else(PoisonError::into_inner);
        let known: Vec<_> = txs.iter().filter_map(|tx| mempool.get(&tx.id()).cloned()).collect();
        drop(mempool);
        let known: BTreeMap<_, _> = known.into_iter().map(|tx| (tx.id(), tx)).collect();
        VerifiedTx::verify_all(&self.chain, txs, |id| known.get(id).cloned()).map_err(|error| error.to_string())
    }

    /// The rules of a header that need no execution. How far its time may lie ahead is for the voter to judge (protocol
    /// rule 20): what a quorum has voted for holds here too, however late this node's clock is.
    fn check_header(&self, parent: &Header, set: &ValidatorSet, version: u16, header: &Header) -> Result<(), String> {
        let wrong = if header.version != version {
            "version"
        } else if header.chain != self.chain {
            "chain"
        } else if header.validator_set != set.hash() {
            "validator set"
        } else if header.time <= parent.time {
            "time: not later than the parent's"
        } else {
            return Ok(());
        };
        Err(format!("header field {wrong}"))
    }

    /// The version of the rules for the next block. Errors: `NewerProtocol` if this program does not know them.
    fn version(&self, state: &StateView<'_>) -> Result<u16, StoreError> {
        check_version(state.read(&Key::Protocol)?, self.known)
    }

    /// Who is skipped in the next epoch, with an epoch's last block only.
    fn next_skip(&self, state: &StateView<'_>, header: &Header) -> Result<Option<SkipList>, StoreError> {
        let epoch = self.config.epoch_of(header.height);
        if header.height != self.config.last_height(epoch) {
            return Ok(None);
        }
        let first = Height::new(header.height.get().saturating_sub(self.config.epoch_blocks.saturating_sub(1)));
        let count = usize::try_from(self.config.epoch_blocks).unwrap_or(usize::MAX);
        let mut headers = state.snapshot.headers(first, count)?;
        headers.extend(state.layers.iter().rev().map(|layer| layer.executed.block.header().clone()));
        headers.retain(|other| other.height >= first);
        headers.push(header.clone());
        let skipped = self.skipped_in(state, epoch)?;
        let opening = Certificate::genesis(self.config.genesis);
        let context = EpochContext { epoch, set: Arc::new(state.validators()?), skip: skipped, opening };
        let indices = leader::skip_list(&context, &headers);
        Ok(epoch.next().map(|epoch| SkipList { epoch, indices }))
    }

    fn skipped_in(&self, state: &StateView<'_>, epoch: Epoch) -> Result<Vec<u16>, StoreError> {
        match state.read(&Key::SkipList)? {
            Some(Record::SkipList(list)) if list.epoch == epoch => Ok(list.indices),
            _ => Ok(Vec::new()),
        }
    }

    fn context(&self, state: &StateView<'_>, header: &Header) -> Result<BlockContext, StoreError> {
        let next_skip = self.next_skip(state, header)?;
        let (height, round, proposer, reveal) = (header.height, header.round, header.proposer, header.reveal);
        Ok(BlockContext { height, round, proposer, reveal, next_skip })
    }

    /// The validators of the next epoch, with an epoch's last block only.
    fn epoch_end(&self, header: &Header, changes: &Changes) -> Result<Option<EpochEnd>, StoreError> {
        let Some(Some(Record::SkipList(skipped))) = changes.get(&Key::SkipList) else { return Ok(None) };
        let set = match changes.get(&Key::Validators) {
            Some(Some(Record::Validators(entries))) => validator_set(entries).map_err(|_| damaged())?,
            _ => self.state_after(&header.parent)?.ok_or_else(damaged)?.validators()?,
        };
        Ok(Some(EpochEnd { set: Arc::new(set), skip: skipped.indices.clone() }))
    }

    fn keep(
        &mut self,
        block: Arc<ProposedBlock>,
        effects: BlockEffects,
        txs: Vec<VerifiedTx>,
        tree: tree::TreeUpdate,
    ) -> Result<Arc<Executed>, StoreError> {
        let epoch_end = self.epoch_end(block.header(), &effects.changes)?;
        let executed = Arc::new(Executed {
            hash: block.block.hash(),
            block,
            receipts: wire::encode(&effects.receipts),
            txs: txs.iter().map(indexed).collect(),
            verified: txs,
            state: state_changes(&effects.changes),
            epoch_end,
            tree,
        });
        self.layers.insert(executed.hash, Layer { executed: executed.clone(), changes: effects.changes });
        Ok(executed)
    }

    /// Takes what the mempool has for the state, leaving out what is not next.
    fn fill(
        &self,
        state: &StateView<'_>,
        at: BlockContext,
    ) -> Result<Option<(BlockEffects, Vec<VerifiedTx>)>, StoreError> {
        let next = |account: &AccountId| match state.read(&Key::Account(*account))? {
            Some(Record::Account(account)) => Ok(account.nonce),
            _ => Ok::<_, StoreError>(0),
        };
        let mut mempool = self.mempool.lock().unwrap_or_else(PoisonError::into_inner);
        let txs = mempool.take(limits::BLOCK_PAYLOAD_BYTES_MAX - 4, limits::BLOCK_TXS_MAX, next);
        drop(mempool);
        let txs = txs?;
        let local = |error: ExecuteError<StoreError>| match error {
            ExecuteError::Local(error) => Err(error),
            ExecuteError::Invalid(fault) => {
                tracing::warn!(%fault, "this node cannot propose a block");
                Ok(None)
            }
        };
        let mut executor = match Executor::begin(state, at) {
            Ok(executor) => executor,
            Err(error) => return local(error),
        };
        let mut taken = Vec::with_capacity(txs.len());
        for tx in txs {
            if executor.push(&tx)?.is_ok() {
                taken.push(tx);
            }
        }
        Ok(Some((executor.finish()?, taken)))
    }
}

impl Application for LedgerApp {
    fn check(&mut self, block: &Arc<ProposedBlock>) -> Result<Outcome, StoreError> {
        let header = block.header();
        if let Some(layer) = self.layers.get(&block.block.hash()) {
            // The hash names the header alone.
            return Ok(match layer.executed.block.block.payload == block.block.payload {
                true => Outcome::Valid(layer.executed.clone()),
                false => Outcome::Tampered("another payload than that of the same block before".to_owned()),
            });
        }
        let Some(state) = self.state_after(&header.parent)? else { return Ok(Outcome::Stale) };
        let version = self.version(&state)?;
        if let Err(reason) = self.check_header(&state.parent, &state.validators()?, version, header) {
            return Ok(Outcome::Invalid(reason));
        }
        let txs = match self.decode_txs(&block.block.payload) {
            Ok(txs) => txs,
            Err(reason) => return Ok(wrong(&block.block, reason)),
        };
        let at = self.context(&state, header)?;
        let effects = match self.effects(&state, at, &txs)? {
            Ok(effects) => effects,
            Err(reason) => return Ok(wrong(&block.block, reason)),
        };
        let tree = state.update(header.height, &effects.changes)?;
        let roots = (header.tx_root, header.receipt_root, header.state_root);
        if roots != (effects.tx_root, effects.receipt_root, tree.root()) || header.next_set != effects.next_set {
            return Ok(wrong(
                &block.block,
                "its roots or its next validators are not those of its execution".to_owned(),
            ));
        }
        drop(state);
        Ok(Outcome::Valid(self.keep(block.clone(), effects, txs, tree)?))
    }

    fn build(&mut self, request: &BuildRequest) -> Result<Option<Arc<Executed>>, StoreError> {
        let parent_hash = request.justify.block;
        let head = {
            let Some(state) = self.state_after(&parent_hash)? else { return Ok(None) };
            match state.read(&Key::Node(self.me))? {
                Some(Record::Node(entry)) => Some(ledger::beacon::head_in(&entry.beacon, request.round.epoch)),
                _ => None,
            }
        };
        let Some(reveal) = head.and_then(|head| self.beacon.reveal(&head)) else {
            tracing::warn!("this node has no reveal for the beacon and cannot propose");
            return Ok(None);
        };
        let Some(state) = self.state_after(&parent_hash)? else { return Ok(None) };
        let next_ms = state.parent.time.saturating_add(Millis::new(1));
        let mut header = Header {
            version: self.version(&state)?,
            chain: self.chain,
            height: request.height,
            round: request.round,
            proposer: self.me,
            parent: parent_hash,
            tx_root: [0; 32],
            receipt_root: [0; 32],
            state_root: state.parent.state_root,
            validator_set: state.validators()?.hash(),
            next_set: [0; 32],
            time: self.clock.now().max(next_ms),
            reveal,
        };
        let at = self.context(&state, &header)?;
        let Some((effects, txs)) = self.fill(&state, at)? else { return Ok(None) };
        if txs.is_empty() && !request.even_empty {
            return Ok(None);
        }
        let tree = state.update(request.height, &effects.changes)?;
        (header.tx_root, header.receipt_root, header.state_root) = (effects.tx_root, effects.receipt_root, tree.root());
        header.next_set = effects.next_set;
        drop(state);
        let payload = encode_payload(&txs);
        let block = ProposedBlock { block: Block { header, payload }, justify: request.justify.clone() };
        Ok(Some(self.keep(Arc::new(block), effects, txs, tree)?))
    }

    fn finalized(&mut self, blocks: &[Arc<Executed>]) {
        let height = blocks.last().map(|last| last.block.header().height);
        self.layers.retain(|_, layer| Some(layer.executed.block.header().height) > height);
    }
}

/// The version of the rules in force by a record of the state. Errors: `NewerProtocol`.
pub fn check_version(record: Option<Record>, known: u16) -> Result<u16, StoreError> {
    let now = match record {
        Some(Record::Protocol(now)) => now,
        _ => Protocol::default(),
    };
    match now.version {
        found if found > known => Err(StoreError::NewerProtocol { found, known }),
        version => Ok(version),
    }
}

/// Whose fault it is that a block does not execute: the proposer's, or that of whoever changed its payload.
fn wrong(block: &Block, reason: String) -> Outcome {
    let txs = wire::decode::<Vec<Tx>>(&block.payload, limits::BLOCK_PAYLOAD_BYTES_MAX);
    match txs.is_ok_and(|txs| tx_root(&txs) == block.header.tx_root) {
        true => Outcome::Invalid(reason),
        false => Outcome::Tampered(reason),
    }
}

/// Accounts whose history a transaction belongs to.
fn indexed(tx: &VerifiedTx) -> IndexedTx {
    let mut accounts = vec![tx.sender()];
    if let Action::Transfer { to, .. } | Action::ShareFile { to, .. } | Action::UnshareFile { to, .. } = tx.action() {
        accounts.push(*to);
    }
    accounts.dedup();
    IndexedTx { id: tx.id(), accounts }
}

/// Changes as the store takes them.
pub fn state_changes(changes: &Changes) -> StateChanges {
    changes.iter().map(|(key, record)| (key.bytes(), record.as_ref().map(Record::bytes))).collect()
}

/// The transaction root of a list, for checks without execution.
pub fn tx_root(txs: &[Tx]) -> [u8; 32] {
    merkle::root(&txs.iter().map(|tx| Leaf::of(&wire::encode(tx))).collect::<Vec<_>>())
}

/// The state after some block: layers over the finalized state, newest first.
struct StateView<'a> {
    layers: Vec<&'a Layer>,
    snapshot: Snapshot,
    parent: Header,
}

impl StateView<'_> {
    /// Those of the next block.
    fn validators(&self) -> Result<ValidatorSet, StoreError> {
        match self.read(&Key::Validators)? {
            Some(Record::Validators(entries)) => validator_set(&entries).map_err(|_| damaged()),
            _ => Err(damaged()),
        }
    }
    fn update(&self, height: Height, changes: &Changes) -> Result<tree::TreeUpdate, StoreError> {
        let pending: Vec<_> = self.layers.iter().rev().map(|layer| &layer.executed.tree).collect();
        tree::update(&Overlay::new(&self.snapshot, &pending), height, changes).map_err(|error| match error {
            TreeError::Read(error) => error,
            TreeError::Damaged(what) => StoreError::corrupted("tree_nodes.v1", what),
        })
    }
}

impl Reads for StateView<'_> {
    type Error = StoreError;
    fn read(&self, key: &Key) -> Result<Option<Record>, StoreError> {
        if let Some(record) = self.layers.iter().find_map(|layer| layer.changes.get(key)) {
            return Ok(record.clone());
        }
        read_record(&self.snapshot, key)
    }
}

/// A record of the finalized state.
pub fn read_record(snapshot: &Snapshot, key: &Key) -> Result<Option<Record>, StoreError> {
    let bytes = snapshot.state(&key.bytes())?;
    let record = bytes.map(|bytes| Record::from_bytes(key, &bytes)).transpose();
    record.map_err(|_| StoreError::corrupted("state.v1", format!("{key:?}")))
}

/// The validator set of the finalized state.
pub fn validators(snapshot: &Snapshot) -> Result<ValidatorSet, StoreError> {
    set_at(snapshot, &Key::Validators)?.ok_or_else(damaged)
}

/// The validators whose place others took when an epoch began, if that was so.
pub fn replaced(snapshot: &Snapshot, epoch: Epoch) -> Result<Option<ValidatorSet>, StoreError> {
    set_at(snapshot, &Key::Replaced(epoch))
}

fn set_at(snapshot: &Snapshot, key: &Key) -> Result<Option<ValidatorSet>, StoreError> {
    match read_record(snapshot, key)? {
        Some(Record::Validators(entries)) => validator_set(&entries).map(Some).map_err(|_| damaged()),
        _ => Ok(None),
    }
}

fn damaged() -> StoreError {
    StoreError::corrupted("state.v1", "validators".to_owned())
}

#[cfg(test)]
#[path = "app_tests.rs"]
mod tests;

//! The real ledger and the real mempool as the application of one machine, over a state in memory.
//!
//! It does with blocks and transactions what a node does: blocks are executed over unfinal ones, a leader takes what its
//! mempool has, a voter compares all roots. Not here: what of it is right (`books`).

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;

use crate::consensus::{EpochContext, Verdict, leader};
use crate::ledger::effects::Changes;
use crate::ledger::protocol::Protocol;
use crate::ledger::record::{Account, Params, SkipList, validator_set};
use crate::ledger::{
    BlockContext, BlockEffects, Executed, Executor, Fork, Key, MemoryState, Reads, Record, beacon, execute_block,
};
use crate::mempool::{self, Capacity, Mempool};
use crate::types::{AccountId, Amount, BlockHash, Height, Millis, NodeId, limits};
use crate::wire::block::{decode_payload, encode_payload};
use crate::wire::{Action, Block, Certificate, Header, ProposedBlock, ValidatorSet, VerifiedTx};

use super::app::{App, Ask};
use super::fault::{LedgerFault, Planted};
use super::ring::{self, CHAIN, GENESIS};

/// Links of a validator's hash chain: more than blocks in a run.
const LINKS: usize = 1_024;

/// The hash chains of all validators, from the seed upwards.
static BEACONS: LazyLock<BTreeMap<NodeId, Vec<[u8; 32]>>> = LazyLock::new(|| {
    let links = |node: &NodeId| std::iter::successors(Some(*node.as_bytes()), |link| Some(beacon::step(link)));
    ring::nodes().map(|node| (node, links(&node).take(LINKS).collect())).collect()
});

/// What a validator's hash chain begins with, for the genesis.
pub fn beacon_head(node: &NodeId) -> [u8; 32] {
    BEACONS.get(node).and_then(|links| links.last()).copied().unwrap_or_default()
}

/// What the applications of all machines have in common.
#[derive(Clone)]
pub struct Common {
    /// The state that the chain begins with.
    pub genesis: Arc<MemoryState>,
    /// The validators.
    pub set: Arc<ValidatorSet>,
    /// How much a mempool may hold.
    pub capacity: Capacity,
    /// What is done wrong.
    pub planted: Planted,
}

/// An executed block that is not final.
struct Layer {
    header: Header,
    payload: Bytes,
    txs: Vec<VerifiedTx>,
    executed: Arc<Executed>,
}

/// The application of one machine.
pub struct LedgerApp {
    me: NodeId,
    common: Common,
    state: MemoryState,
    /// Headers of the final blocks, from height 1 on.
    headers: Vec<Header>,
    layers: BTreeMap<BlockHash, Layer>,
    mempool: Mempool,
}

/// Unfinal blocks from the first after the final ones on.
type Branch<'a> = Vec<&'a Layer>;

impl LedgerApp {
    /// The application of a machine that has not started yet.
    pub fn new(me: NodeId, common: Common) -> Self {
        let state = MemoryState::clone(&common.genesis);
        let (headers, layers) = Default::default();
        let mempool = new_mempool(&common);
        Self { me, common, state, headers, layers, mempool }
    }

    /// The state after the last final block.
    pub fn state(&self) -> &MemoryState {
        &self.state
    }

    /// Whether a transaction waits that is its sender's next.
    pub fn is_waiting(&self) -> bool {
        self.mempool.has_next()
    }

    /// A transaction comes in. Whether it was new here and taken.
    /// Errors: what waits is not what the mempool counts, or more than it may hold.
    pub fn submit(&mut self, tx: &VerifiedTx) -> Result<bool, String> {
        let next = account(&self.state, &tx.sender()).map(|account| account.nonce);
        let taken = self.mempool.insert(tx.clone(), next).is_ok();
        self.audit_mempool().map(|()| taken)
    }

    /// Whether the mempool keeps its bounds. Errors: which it does not keep.
    fn audit_mempool(&self) -> Result<(), String> {
        let Capacity { total, sender } = self.common.capacity;
        let mut bytes = BTreeMap::<AccountId, usize>::new();
        for tx in self.mempool.iter() {
            *bytes.entry(tx.sender()).or_default() += mempool::cost(tx);
        }
        let (have, most) = (bytes.values().sum::<usize>(), bytes.values().max().copied().unwrap_or(0));
        if have != self.mempool.bytes() {
            return Err(format!("{have} bytes wait, {} are counted", self.mempool.bytes()));
        }
        if have > total || most > sender {
            return Err(format!("{have} bytes wait, {most} of one sender; at most {total} and {sender} may"));
        }
        Ok(())
    }

    fn tip(&self) -> BlockHash {
        self.headers.last().map_or(GENESIS, Header::hash)
    }

    /// The branch that ends with this block, if it follows the last final one.
    fn branch(&self, end: &BlockHash) -> Option<Branch<'_>> {
        let mut layers = Vec::new();
        let mut at = *end;
        while let Some(layer) = self.layers.get(&at) {
            at = layer.header.parent;
            layers.push(layer);
        }
        layers.reverse();
        (at == self.tip()).then_some(layers)
    }

    /// Time of the last block of a branch.
    fn time(&self, branch: &[&Layer]) -> Millis {
        let last = branch.last().map(|layer| &layer.header).or(self.headers.last());
        last.map_or(Millis::ZERO, |header| header.time)
    }

    fn context(&self, branch: &[&Layer], header: &Header) -> BlockContext {
        let executed = executed(branch);
        let fork = Fork::new(&self.state, &executed);
        let (height, round, proposer, reveal) = (header.height, header.round, header.proposer, header.reveal);
        BlockContext { height, round, proposer, reveal, next_skip: self.next_skip(&fork, branch, header) }
    }

    /// Who is skipped in the next epoch, with an epoch's last block only.
    fn next_skip(&self, fork: &Fork<'_, MemoryState>, branch: &[&Layer], header: &Header) -> Option<SkipList> {
        let params = params(fork)?;
        let epoch = params.epoch_of(header.height);
        if !params.ends_epoch(header.height) {
            return None;
        }
        let skip = match read(fork, &Key::SkipList) {
            Some(Record::SkipList(list)) if list.epoch == epoch => list.indices,
            _ => Vec::new(),
        };
        let context =
            EpochContext { epoch, set: Arc::new(validators(fork)?), skip, opening: Certificate::genesis(GENESIS) };
        let unfinal = branch.iter().map(|layer| &layer.header);
        let headers = self.headers.iter().chain(unfinal).chain([header]);
        let headers = headers.filter(|other| params.epoch_of(other.height) == epoch);
        Some(SkipList { epoch: epoch.next()?, indices: leader::skip_list(&context, headers) })
    }

    /// Executes the block on the state after the branch. Errors: why no honest validator votes for it.
    fn execute(&self, branch: &[&Layer], block: &Block) -> Result<Layer, String> {
        let header = &block.header;
        let fits = header.version == version(&Fork::new(&self.state, &executed(branch)))
            && header.chain == CHAIN
            && Some(header.validator_set)
                == validators(&Fork::new(&self.state, &executed(branch))).map(|set| set.hash())
            && header.time > self.time(branch);
        if !fits {
            return Err("a header field is wrong".to_owned());
        }
        let txs = decode_payload(&block.payload).map_err(|error| error.to_string())?;
        let txs = VerifiedTx::verify_all(&CHAIN, txs, |id| self.mempool.get(id).cloned());
        let txs = txs.map_err(|error| error.to_string())?;
        let pending = executed(branch);
        let fork = Fork::new(&self.state, &pending);
        let effects = execute_block(&fork, self.context(branch, header), &txs).map_err(|error| error.to_string())?;
        let executed = self.seal(&fork, effects, &txs);
        let roots = (executed.effects.tx_root, executed.effects.receipt_root, executed.tree.root());
        if roots != (header.tx_root, header.receipt_root, header.state_root)
            || header.next_set != executed.effects.next_set
        {
            return Err(format!("its roots are not those of its execution, which ends with {}", executed.tree.root()));
        }
        Ok(Layer { header: header.clone(), payload: block.payload.clone(), txs, executed })
    }

    fn seal(&self, fork: &Fork<'_, MemoryState>, mut effects: BlockEffects, txs: &[VerifiedTx]) -> Arc<Executed> {
        let planted = self.common.planted;
        if planted.has(LedgerFault::LostCredit) {
            receivers(txs).for_each(|(_, to, _)| _ = effects.changes.remove(&Key::Account(to)));
        }
        if planted.has(LedgerFault::NonceForgotten) {
            forget_nonces(fork, &mut effects.changes);
        }
        let executed = fork.seal(effects);
        Arc::new(executed.expect("a tree in memory is whole, so reading it cannot fail"))
    }

    /// What the mempool has for the state after a block, executed, without what is not next.
    fn fill(&mut self, parent: &BlockHash, header: &Header) -> Option<(Arc<Executed>, Vec<VerifiedTx>)> {
        let branch = self.branch(parent)?;
        let (at, pending) = (self.context(&branch, header), executed(&branch));
        let fork = Fork::new(&self.state, &pending);
        let next = |id: &AccountId| Ok::<_, Infallible>(account(&fork, id).map_or(0, |account| account.nonce));
        let Ok(waiting) = self.mempool.take(limits::BLOCK_PAYLOAD_BYTES_MAX - 4, limits::BLOCK_TXS_MAX, next);
        let mut executor = Executor::begin(&fork, at).ok()?;
        let mut taken = Vec::new();
        for tx in waiting {
            let Ok(pushed) = executor.push(&tx);
            if pushed.is_ok() {
                taken.push(tx);
            }
        }
        let Ok(effects) = executor.finish();
        Some((self.seal(&fork, effects, &taken), taken))
    }

    /// The next preimage of this machine's hash chain after a branch.
    fn reveal(&self, ask: &Ask) -> Option<[u8; 32]> {
        let pending = executed(&self.branch(&ask.parent)?);
        let Some(Record::Node(entry)) = read(&Fork::new(&self.state, &pending), &Key::Node(self.me)) else {
            return None;
        };
        let head = beacon::head_in(&entry.beacon, ask.round.epoch);
        let links = BEACONS.get(&self.me)?;
        let at = links.iter().rposition(|link| *link == head)?;
        links.get(at.checked_sub(1)?).copied()
    }

    /// What is written down for a final block.
    fn written(&mut self, layer: &Layer) -> Arc<Executed> {
        let mut done = layer.executed.clone();
        let planted = self.common.planted;
        if planted.has(LedgerFault::BookedTwice) && self.common.set.index_of(&self.me) == Some(0) {
            let executed = Arc::make_mut(&mut done);
            for (from, to, amount) in receivers(&layer.txs).filter(|(from, to, _)| from != to) {
                move_again(&mut executed.effects.changes, &from, &to, amount);
            }
        }
        self.state.finalize(&done);
        if planted.has(LedgerFault::RecordNotWritten) {
            _ = Arc::make_mut(&mut done).effects.changes.pop_last();
        }
        done
    }
}

impl App for LedgerApp {
    fn build(&mut self, ask: &Ask) -> Option<Block> {
        let reveal = self.reveal(ask)?;
        let next_ms = self.time(&self.branch(&ask.parent)?).saturating_add(Millis::new(1));
        let mut header = Header {
            version: version(&Fork::new(&self.state, &executed(&self.branch(&ask.parent)?))),
            chain: ask.chain,
            height: ask.height,
            round: ask.round,
            proposer: ask.proposer,
            parent: ask.parent,
            tx_root: [0; 32],
            receipt_root: [0; 32],
            state_root: self.state.root(),
            validator_set: validators(&Fork::new(&self.state, &executed(&self.branch(&ask.parent)?)))?.hash(),
            next_set: [0; 32],
            time: ask.time.max(next_ms),
            reveal,
        };
        let (executed, txs) = self.fill(&ask.parent, &header)?;
        if txs.is_empty() && !ask.even_empty {
            return None;
        }
        (header.tx_root, header.receipt_root) = (executed.effects.tx_root, executed.effects.receipt_root);
        header.state_root = executed.tree.root();
        header.next_set = executed.effects.next_set;
        let payload = encode_payload(&txs);
        let layer = Layer { header: header.clone(), payload: payload.clone(), txs, executed };
        self.layers.insert(header.hash(), layer);
        Some(Block { header, payload })
    }

    fn check(&mut self, block: &Block) -> Option<Verdict> {
        let hash = block.hash();
        if let Some(layer) = self.layers.get(&hash) {
            // The hash names the header alone.
            return Some(if layer.payload == block.payload { Verdict::Valid } else { Verdict::Invalid });
        }
        match self.execute(&self.branch(&block.header.parent)?, block) {
            Ok(layer) => {
                self.layers.insert(hash, layer);
                Some(Verdict::Valid)
            }
            Err(_) => Some(Verdict::Invalid),
        }
    }

    fn has(&self, block: &BlockHash) -> bool {
        self.layers.contains_key(block) || *block == self.tip()
    }

    fn finalize(&mut self, block: &Arc<ProposedBlock>) -> Result<Option<Arc<Executed>>, String> {
        let (header, hash) = (block.header(), block.block.hash());
        let layer = match self.layers.remove(&hash) {
            Some(layer) => layer,
            // Caught up with: it was never proposed here.
            None => self.execute(&[], &block.block)?,
        };
        let done = self.written(&layer);
        self.headers.push(header.clone());
        self.layers.retain(|_, other| other.header.height > header.height);
        self.mempool.finalized(header.height, &layer.txs);
        self.audit_mempool()?;
        Ok(Some(done))
    }

    fn restart(&mut self, chain: &[Arc<ProposedBlock>], state: Option<&MemoryState>) {
        self.state = state.unwrap_or(&self.common.genesis).clone();
        self.headers = chain.iter().map(|block| block.header().clone()).collect();
        self.layers.clear();
        self.mempool = new_mempool(&self.common);
        self.mempool.finalized(Height::new(chain.len() as u64), std::iter::empty());
    }

    fn ledger(&mut self) -> Option<&mut LedgerApp> {
        Some(self)
    }
}

fn new_mempool(common: &Common) -> Mempool {
    let unbounded = common.planted.has(LedgerFault::PoolUnbounded);
    Mempool::new(if unbounded { Capacity::STANDARD } else { common.capacity })
}

fn executed(branch: &[&Layer]) -> Vec<Arc<Executed>> {
    branch.iter().map(|layer| layer.executed.clone()).collect()
}

fn read<R: Reads<Error = Infallible>>(reads: &R, key: &Key) -> Option<Record> {
    let Ok(record) = reads.read(key);
    record
}

fn params<R: Reads<Error = Infallible>>(reads: &R) -> Option<Params> {
    match read(reads, &Key::Params) {
        Some(Record::Params(params)) => Some(params),
        _ => None,
    }
}

/// The version of the rules for the next block.
fn version<R: Reads<Error = Infallible>>(reads: &R) -> u16 {
    match read(reads, &Key::Protocol) {
        Some(Record::Protocol(now)) => now.version,
        _ => Protocol::default().version,
    }
}

/// The validators of the next block.
fn validators<R: Reads<Error = Infallible>>(reads: &R) -> Option<ValidatorSet> {
    match read(reads, &Key::Validators) {
        Some(Record::Validators(entries)) => validator_set(&entries).ok(),
        _ => None,
    }
}

fn account<R: Reads<Error = Infallible>>(reads: &R, id: &AccountId) -> Option<Account> {
    match read(reads, &Key::Account(*id)) {
        Some(Record::Account(account)) => Some(account),
        _ => None,
    }
}

/// Payer, receiver and amount of each transfer.
fn receivers(txs: &[VerifiedTx]) -> impl Iterator<Item = (AccountId, AccountId, Amount)> {
    txs.iter().filter_map(|tx| match tx.action() {
        Action::Transfer { to, amount, .. } => Some((tx.sender(), *to, *amount)),
        _ => None,
    })
}

/// A fault: nonces are what they were before the block.
fn forget_nonces(before: &Fork<'_, MemoryState>, changes: &mut Changes) {
    for (key, record) in changes {
        if let (Key::Account(id), Some(Record::Account(now))) = (key, record) {
            now.nonce = account(before, id).map_or(0, |account| account.nonce);
        }
    }
}

/// A fault: an amount moves once more, if there is as much.
fn move_again(changes: &mut Changes, from: &AccountId, to: &AccountId, amount: Amount) {
    let balance = |changes: &Changes, id: &AccountId| match changes.get(&Key::Account(*id)) {
        Some(Some(Record::Account(account))) => Some(account.balance),
        _ => None,
    };
    let (Some(payer), Some(receiver)) = (balance(changes, from), balance(changes, to)) else { return };
    let (Some(less), Some(more)) = (payer.checked_sub(amount), receiver.checked_add(amount)) else { return };
    for (id, balance) in [(from, less), (to, more)] {
        if let Some(Some(Record::Account(account))) = changes.get_mut(&Key::Account(*id)) {
            account.balance = balance;
        }
    }
}

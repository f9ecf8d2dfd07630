//! trullo at the work: the node's own chain and execution threads, its own store, and channels in place of the network.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use trullo::consensus::{self, evidence::Evidence, planted::Planted};
use trullo::crypto::SecretKey;
use trullo::ledger::effects::Changes;
use trullo::ledger::tree::{self, Overlay, TreeUpdate};
use trullo::net::{ConsensusFeed, ConsensusInbox};
use trullo::node::chain::book::SharedBook;
use trullo::node::chain::exec::{self, Application, BuildRequest, Executed, Outcome};
use trullo::node::chain::{Chain, ChainStatus, Inbox, Input, Links, Setup};
use trullo::node::clock::Clock;
use trullo::store::{FinalBlock, Identity, KeyOrigin, Options, Reader, Snapshot, StateChanges, Store, StoreError};
use trullo::types::{BlockHash, ChainId, Height, Millis, NodeId, Round, StateRoot, limits};
use trullo::wire::block::BLOCK_VERSION;
use trullo::wire::{Block, Certificate, Header, ProposedBlock, SignedAnswer, Validator, ValidatorSet};
use zeroize::Zeroizing;

use super::work::{Cluster, REPLICAS, VICTIM, Workload, locked, payload_hash};

const CHAIN: ChainId = ChainId::from_bytes([7; 32]);

/// A cluster of the node's chain threads in this process.
pub struct Trullo {
    inboxes: Vec<mpsc::Sender<Input>>,
    statuses: Vec<watch::Receiver<Option<ChainStatus>>>,
    threads: Vec<[JoinHandle<()>; 2]>,
    views: Arc<AtomicU64>,
    dropped: Arc<AtomicU64>,
    killed: bool,
}

impl Trullo {
    /// Starts the replicas, each on a new database in `dir`.
    pub fn start(dir: &Path, workload: &Arc<Workload>) -> Self {
        let mut keys: Vec<_> = (1..=REPLICAS).map(|n| SecretKey::from_seed(&[n as u8; 32])).collect();
        keys.sort_by_key(|key| key.public().node_id());
        let members = keys.iter().map(|key| Validator { node: key.public().node_id(), power: 1 }).collect();
        let set = Arc::new(ValidatorSet::new(members).expect("a valid set"));
        let (inboxes, receivers): (Vec<_>, Vec<_>) =
            keys.iter().map(|_| mpsc::channel(limits::CHAIN_INBOX_MAX)).unzip();
        let (feeds, messages): (Vec<_>, Vec<_>) = keys.iter().map(|_| ConsensusInbox::without_network()).unzip();
        let dbs: Vec<_> = keys.iter().enumerate().map(|(index, key)| database(dir, index, key, &set)).collect();
        let mut peers = BTreeMap::new();
        for (((key, inbox), feed), db) in keys.iter().zip(&inboxes).zip(feeds).zip(&dbs) {
            peers.insert(key.public().node_id(), Peer { inbox: inbox.clone(), feed, reader: db.reader() });
        }
        let (statuses, threads) = (Vec::new(), Vec::new());
        let mut cluster =
            Self { inboxes, statuses, threads, views: Arc::default(), dropped: Arc::default(), killed: false };
        let inputs = receivers.into_iter().zip(messages).map(|(inputs, messages)| Inbox { inputs, messages });
        for (index, ((key, inbox), db)) in keys.into_iter().zip(inputs).zip(dbs).enumerate() {
            let (me, clock) = (key.public().node_id(), Clock::start());
            let links = ChannelLinks { me, peers: peers.clone(), dropped: cluster.dropped.clone() };
            let app = OpaqueApp {
                me,
                set: set.hash(),
                reader: db.reader(),
                clock,
                workload: workload.clone(),
                layers: BTreeMap::new(),
            };
            let (commands, queue) = std::sync::mpsc::channel();
            let (status_in, status) = watch::channel(None);
            let on_final = match index {
                0 => watcher(workload.clone(), cluster.views.clone()),
                _ => Box::new(|_: &[Arc<Executed>]| true) as _,
            };
            let config = config(me, genesis(&set, tree_of_nothing(None, Height::GENESIS).root()).block.hash());
            let set = set.clone();
            let (exec, book) = (commands, SharedBook::default());
            let (status_out, more_waits) =
                (status_in, Box::new(|_: &mut dyn Iterator<Item = &Arc<Executed>>| true) as _);
            let setup = Setup {
                db,
                key,
                config,
                set,
                book,
                process: index as u64,
                links,
                exec,
                inbox,
                status: status_out,
                on_final,
                more_waits,
                clock,
                keep: None,
            };
            cluster.statuses.push(status);
            cluster.threads.push(spawn(setup, app, queue, &cluster.inboxes[index]));
        }
        cluster
    }

    /// Ends all threads. Returns how many messages found a full inbox.
    pub fn stop(self) -> u64 {
        for inbox in &self.inboxes {
            // One that was killed is gone already.
            let _ = inbox.blocking_send(Input::Stop);
        }
        drop(self.inboxes);
        for thread in self.threads.into_iter().flatten() {
            thread.join().expect("a thread that ends well");
        }
        self.dropped.load(Ordering::Relaxed)
    }
}

impl Cluster for Trullo {
    fn commits(&self) -> u64 {
        let counted = self.statuses.iter().enumerate().filter(|(index, _)| !(self.killed && *index == VICTIM));
        counted.filter_map(|(_, status)| status.borrow().as_ref().map(|status| status.commits)).sum()
    }
    fn views(&self) -> u64 {
        self.views.load(Ordering::Relaxed)
    }
    fn kill(&mut self) {
        self.killed = true;
        self.inboxes[VICTIM].blocking_send(Input::Stop).expect("a running replica");
    }
}

fn spawn(
    setup: Setup<ChannelLinks>,
    app: OpaqueApp,
    queue: std::sync::mpsc::Receiver<exec::Command>,
    inbox: &mpsc::Sender<Input>,
) -> [JoinHandle<()>; 2] {
    let out = inbox.clone();
    let exec = std::thread::spawn(move || exec::run(app, queue, out));
    let inbox = inbox.clone();
    let chain = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let (chain, receiver) = Chain::open(setup).expect("a new database");
        // There is always work, and the pacemaker is to know.
        inbox.blocking_send(Input::Waiting(true)).expect("an open inbox");
        drop(inbox);
        chain.run(receiver, &runtime).expect("a store that works");
    });
    [exec, chain]
}

/// The settings of a new network, with an epoch short enough to see one end.
fn config(me: NodeId, genesis: BlockHash) -> consensus::Config {
    consensus::Config {
        chain: CHAIN,
        genesis,
        epoch_blocks: 100,
        idle_interval: Millis::new(2_000),
        me,
        view_base: Millis::new(1_000),
        view_floor: Millis::new(200),
        view_cap: Millis::new(16_000),
        planted: Planted::default(),
    }
}

fn database(dir: &Path, index: usize, key: &SecretKey, set: &ValidatorSet) -> Store {
    let path = dir.join(format!("trullo-{index}.redb"));
    let (seed, incarnation) = (Zeroizing::new(*key.seed()), [index as u8; 32]);
    Store::create(&path, &Identity { chain: CHAIN, seed, origin: KeyOrigin::Generated, incarnation })
        .expect("a new database");
    let store = Store::open(&path, &Options::default()).expect("the new database");
    let tree = tree_of_nothing(None, Height::GENESIS);
    let mut batch = store.batch().expect("a write");
    let (block, state) = (genesis(set, tree.root()), StateChanges::new());
    batch
        .finalize(&FinalBlock { block: &block, certificate: None, receipts: &[], txs: &[], state: &state, tree: &tree })
        .expect("a write");
    batch.commit().expect("a commit");
    store
}

fn genesis(set: &ValidatorSet, state_root: StateRoot) -> ProposedBlock {
    let header = Header {
        version: BLOCK_VERSION,
        chain: CHAIN,
        height: Height::GENESIS,
        round: Round::default(),
        proposer: NodeId::from_bytes([0; 32]),
        parent: BlockHash::from_bytes([0; 32]),
        tx_root: payload_hash(&[]),
        receipt_root: [0; 32],
        state_root,
        validator_set: set.hash(),
        next_set: set.hash(),
        time: Millis::ZERO,
        reveal: [0; 32],
    };
    let block = Block { header, payload: Bytes::new() };
    let justify = Certificate::genesis(block.hash());
    ProposedBlock { block, justify }
}

/// Counts views and final payloads at replica 0.
fn watcher(workload: Arc<Workload>, views: Arc<AtomicU64>) -> trullo::node::chain::OnFinal {
    let last = Mutex::new(Round::default());
    Box::new(move |blocks| {
        let mut last = locked(&last);
        for executed in blocks {
            let header = executed.block.header();
            workload.finalized(&header.tx_root);
            let before = if header.round.epoch == last.epoch { last.view.get() } else { 0 };
            views.fetch_add(header.round.view.get().saturating_sub(before), Ordering::Relaxed);
            *last = header.round;
        }
        true
    })
}

#[derive(Clone)]
struct Peer {
    inbox: mpsc::Sender<Input>,
    feed: ConsensusFeed,
    reader: Reader,
}

/// Channels that carry encoded messages, as bounded as those in a node.
struct ChannelLinks {
    me: NodeId,
    peers: BTreeMap<NodeId, Peer>,
    dropped: Arc<AtomicU64>,
}

impl Links for ChannelLinks {
    fn send(&mut self, to: &[NodeId], frame: Bytes) {
        for peer in to.iter().filter_map(|node| self.peers.get(node)) {
            if !peer.feed.try_send(self.me, frame.clone()) && !peer.inbox.is_closed() {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
    fn peers(&mut self, _: &[NodeId], _: bool) {}
    fn blame(&mut self, node: NodeId, what: &'static str) {
        panic!("{node:?} breaks a rule: {what}");
    }
    fn request_blocks(&mut self, from: NodeId, height: Height) {
        let snapshot = self.peers[&from].reader.snapshot().expect("a read");
        let blocks = snapshot.blocks(height, limits::SYNC_BLOCKS_MAX, limits::SYNC_BYTES_MAX).expect("a read");
        self.peers[&self.me].inbox.try_send(Input::Blocks { from, blocks }).expect("room for the one answer");
    }
    fn announce(&mut self, _: Height, _: bool) {}
    fn ask_signed(&mut self, nodes: &[NodeId], _: u64) {
        // All are new: nobody has seen anything of anybody's key.
        for from in nodes.iter().copied() {
            let answer = SignedAnswer { said: Vec::new(), another: false };
            self.peers[&self.me].inbox.try_send(Input::Signed { from, answer }).expect("room for an answer of each");
        }
    }
    fn evidence(&mut self, evidence: &Evidence) {
        panic!("all are honest: {evidence:?}");
    }
}

/// Payloads as blocks, without state.
struct OpaqueApp {
    me: NodeId,
    set: [u8; 32],
    reader: Reader,
    clock: Clock,
    workload: Arc<Workload>,
    layers: BTreeMap<BlockHash, Arc<Executed>>,
}

/// What a block is executed on.
struct Parent {
    header: Header,
    layers: Vec<Arc<Executed>>,
    snapshot: Snapshot,
}

impl OpaqueApp {
    fn parent(&self, hash: &BlockHash) -> Result<Option<Parent>, StoreError> {
        let mut layers = Vec::new();
        let mut at = *hash;
        while let Some(layer) = self.layers.get(&at) {
            at = layer.block.header().parent;
            layers.push(layer.clone());
        }
        let snapshot = self.reader.snapshot()?;
        let tip = snapshot.tip()?.expect("a genesis block");
        layers.retain(|layer| layer.block.header().height > tip.height);
        let base = layers.last().map_or(*hash, |oldest| oldest.block.header().parent);
        let header = layers.first().map_or(tip.header, |layer| layer.block.header().clone());
        layers.reverse();
        Ok((base == tip.hash).then_some(Parent { header, layers, snapshot }))
    }

    fn keep(&mut self, block: Arc<ProposedBlock>, tree: TreeUpdate) -> Arc<Executed> {
        let (hash, receipts, state) = (block.block.hash(), Vec::new(), StateChanges::new());
        let executed = Arc::new(Executed {
            block,
            hash,
            receipts,
            txs: Vec::new(),
            verified: Vec::new(),
            state,
            epoch_end: None,
            tree,
        });
        self.layers.insert(hash, executed.clone());
        executed
    }
}

/// The state tree after a block that changes nothing.
fn tree_of_nothing(parent: Option<&Parent>, height: Height) -> TreeUpdate {
    let layers: Vec<_> = parent.iter().flat_map(|parent| &parent.layers).map(|layer| &layer.tree).collect();
    let done = match parent {
        Some(parent) => tree::update(&Overlay::new(&parent.snapshot, &layers), height, &Changes::new()),
        None => tree::update(&Overlay::new(&NoNodes, &layers), height, &Changes::new()),
    };
    done.expect("a readable tree")
}

/// The tree before genesis.
struct NoNodes;

impl tree::TreeReader for NoNodes {
    type Error = StoreError;
    fn node(&self, _: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(None)
    }
}

impl Application for OpaqueApp {
    fn check(&mut self, block: &Arc<ProposedBlock>) -> Result<Outcome, StoreError> {
        if let Some(executed) = self.layers.get(&block.block.hash()) {
            return Ok(Outcome::Valid(executed.clone()));
        }
        let header = block.header();
        let Some(parent) = self.parent(&header.parent)? else { return Ok(Outcome::Stale) };
        let tree = tree_of_nothing(Some(&parent), header.height);
        let fits = header.validator_set == self.set && header.time > parent.header.time;
        if !fits || header.state_root != tree.root() || header.tx_root != payload_hash(&block.block.payload) {
            return Ok(Outcome::Invalid("a header that does not fit".to_owned()));
        }
        Ok(Outcome::Valid(self.keep(block.clone(), tree)))
    }

    fn build(&mut self, request: &BuildRequest) -> Result<Option<Arc<Executed>>, StoreError> {
        let Some(parent) = self.parent(&request.justify.block)? else { return Ok(None) };
        let (payload, tx_root) = self.workload.make();
        let tree = tree_of_nothing(Some(&parent), request.height);
        let header = Header {
            version: BLOCK_VERSION,
            chain: CHAIN,
            height: request.height,
            round: request.round,
            proposer: self.me,
            parent: request.justify.block,
            tx_root,
            receipt_root: [0; 32],
            state_root: tree.root(),
            validator_set: self.set,
            next_set: self.set,
            time: self.clock.now().max(parent.header.time.saturating_add(Millis::new(1))),
            reveal: [0; 32],
        };
        let block = Block { header, payload: payload.into() };
        let block = ProposedBlock { block, justify: request.justify.clone() };
        Ok(Some(self.keep(Arc::new(block), tree)))
    }

    fn finalized(&mut self, blocks: &[Arc<Executed>]) {
        let height = blocks.last().map(|last| last.block.header().height);
        self.layers.retain(|_, layer| Some(layer.block.header().height) > height);
    }
}

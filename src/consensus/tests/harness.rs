//! A lock-step network of replicas with disks, in virtual time. Every hop takes the same delay, execution none.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::consensus::evidence::Evidence;
use crate::consensus::leader::{Leaders, skip_list};
use crate::consensus::planted::Planted;
use crate::consensus::{
    Action, Config, EpochContext, Event, Replica, Resume, SafetyRecord, Timer, To, Verdict, Verifier, VerifyError,
};
use crate::crypto::SecretKey;
use crate::types::{BlockHash, ChainId, Epoch, Height, Millis, NodeId, Round, StateRoot};
use crate::wire::{Block, Certificate, Header, Message, ProposedBlock, Validator, ValidatorSet};

pub const CHAIN: ChainId = ChainId::from_bytes([7; 32]);
pub const GENESIS: BlockHash = BlockHash::from_bytes([0; 32]);
pub const HOP: u64 = 20;

pub fn keys(n: usize) -> Vec<SecretKey> {
    let mut keys: Vec<_> = (1..=n).map(|seed| SecretKey::from_seed(&[seed as u8; 32])).collect();
    keys.sort_by_key(|key| key.public().node_id());
    keys
}

pub fn set(n: usize) -> Arc<ValidatorSet> {
    let member = |key: &SecretKey| Validator { node: key.public().node_id(), power: 1 };
    Arc::new(ValidatorSet::new(keys(n).iter().map(member).collect()).expect("a valid set"))
}

pub fn first_epoch(n: usize) -> EpochContext {
    EpochContext { epoch: Epoch::ZERO, set: set(n), skip: Vec::new(), opening: Certificate::genesis(GENESIS) }
}

pub fn config(me: NodeId, epoch_blocks: u64) -> Config {
    Config {
        chain: CHAIN,
        genesis: GENESIS,
        epoch_blocks,
        idle_interval: Millis::new(2_000),
        me,
        view_base: Millis::new(500),
        view_floor: Millis::new(100),
        view_cap: Millis::new(5_000),
        planted: Planted::none(),
    }
}

pub fn block(round: Round, proposer: NodeId, justify: &Certificate, payload: &'static [u8]) -> ProposedBlock {
    let header = Header {
        version: 1,
        chain: CHAIN,
        height: justify.height.next().expect("a small height"),
        round,
        proposer,
        parent: justify.block,
        tx_root: crate::crypto::hash(crate::crypto::Domain::Payload, payload),
        receipt_root: [0; 32],
        state_root: StateRoot::from_bytes([0; 32]),
        validator_set: [0; 32],
        next_set: [0; 32],
        time: Millis::ZERO,
        reveal: [0; 32],
    };
    ProposedBlock { block: Block { header, payload: Bytes::from_static(payload) }, justify: justify.clone() }
}

#[derive(Default)]
pub struct Disk {
    pub record: Option<SafetyRecord>,
    pub blocks: BTreeMap<BlockHash, Arc<ProposedBlock>>,
    pub chain: Vec<Arc<ProposedBlock>>,
    pub last_final: Option<Certificate>,
    pub contexts: Vec<EpochContext>,
}

pub struct Node {
    pub id: NodeId,
    key: SecretKey,
    pub replica: Option<Replica>,
    verifier: Option<Verifier>,
    pub disk: Disk,
    timers: BTreeMap<Timer, u64>,
    pub waiting: bool,
    build: Option<Action>,
    pub evidence: Vec<Evidence>,
    inbox: VecDeque<Event>,
    busy: bool,
}

pub struct Net {
    pub now: u64,
    /// Delay of every message, milliseconds.
    pub hop: u64,
    pub nodes: Vec<Node>,
    epoch_blocks: u64,
    sequence: u64,
    queue: BTreeMap<(u64, u64), (usize, usize, Message)>,
    /// Ordered pairs that cannot talk.
    pub cut: BTreeSet<(usize, usize)>,
    /// Messages that are lost.
    pub lose: fn(&Message) -> bool,
    pub sent: u64,
    pub catch_ups: u64,
    /// Messages lost, percent.
    pub loss: u32,
    /// Delay beyond `hop`, milliseconds, random below this; messages overtake each other.
    pub jitter: u64,
    pub rng: ChaCha8Rng,
}

impl Net {
    pub fn new(n: usize, epoch_blocks: u64) -> Self {
        let node = |key: SecretKey| Node {
            id: key.public().node_id(),
            key,
            replica: None,
            verifier: None,
            disk: Disk { contexts: vec![first_epoch(n)], ..Disk::default() },
            timers: BTreeMap::new(),
            waiting: false,
            build: None,
            evidence: Vec::new(),
            inbox: VecDeque::new(),
            busy: false,
        };
        let nodes = keys(n).into_iter().map(node).collect();
        let (queue, cut) = Default::default();
        let lose = |_: &Message| false;
        Self {
            now: 1_000,
            hop: HOP,
            nodes,
            epoch_blocks,
            sequence: 0,
            queue,
            cut,
            lose,
            sent: 0,
            catch_ups: 0,
            loss: 0,
            jitter: 0,
            rng: rand::SeedableRng::seed_from_u64(0),
        }
    }

    pub fn started(n: usize, epoch_blocks: u64) -> Self {
        let mut net = Self::new(n, epoch_blocks);
        (0..n).for_each(|at| net.start(at));
        net
    }

    pub fn start(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let context = node.disk.contexts.last().expect("an epoch").clone();
        let config = config(node.id, self.epoch_blocks);
        let mut verifier = Verifier::new(&config, &node.disk.contexts[node.disk.contexts.len().saturating_sub(2)]);
        verifier.begin_epoch(&context);
        let resume = Resume {
            record: node.disk.record.clone(),
            blocks: node.disk.blocks.values().cloned().collect(),
            last_final: node.disk.last_final.clone().unwrap_or_else(|| Certificate::genesis(GENESIS)),
            silent_until: None,
        };
        node.verifier = Some(verifier);
        node.replica = Some(Replica::new(config, context, resume));
        node.timers.clear();
        node.build = None;
        self.feed(at, Event::Start);
        let waiting = self.nodes[at].waiting;
        self.feed(at, Event::Waiting(waiting));
    }

    pub fn crash(&mut self, at: usize) {
        self.nodes[at].replica = None;
        self.nodes[at].timers.clear();
    }

    pub fn set_waiting(&mut self, waiting: bool) {
        for at in 0..self.nodes.len() {
            self.nodes[at].waiting = waiting;
            self.feed(at, Event::Waiting(waiting));
            if let Some(build) = self.nodes[at].build.take() {
                self.act(at, build);
            }
        }
    }

    pub fn height(&self, at: usize) -> u64 {
        self.nodes[at].disk.chain.len() as u64
    }

    /// Runs for so many milliseconds.
    pub fn run(&mut self, millis: u64) {
        let end = self.now + millis;
        loop {
            let message = self.queue.first_key_value().map(|((at, _), _)| *at);
            let timers = self
                .nodes
                .iter()
                .enumerate()
                .flat_map(|(at, node)| node.timers.iter().map(move |(t, due)| (*due, at, *t)));
            let timer = timers.min();
            let next = [message, timer.map(|(due, ..)| due)].into_iter().flatten().min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            self.now = self.now.max(next);
            if message == Some(next) {
                let (_, (from, to, message)) = self.queue.pop_first().expect("a message");
                self.deliver(from, to, message);
            } else if let Some((_, at, timer)) = timer {
                self.nodes[at].timers.remove(&timer);
                self.feed(at, Event::Expired(timer));
            }
        }
        self.now = end;
    }

    pub fn deliver(&mut self, from: usize, to: usize, message: Message) {
        let (id, node) = (self.nodes[from].id, &mut self.nodes[to]);
        let (Some(verifier), Some(_)) = (&mut node.verifier, &node.replica) else { return };
        match verifier.verify(message) {
            Ok(message) => self.feed(to, Event::Received { from: id, message }),
            Err(VerifyError::LaterEpoch { height, .. }) => self.feed(to, Event::Ahead { from: id, height }),
            Err(VerifyError::PastEpoch(_)) => {}
            Err(error) => panic!("an honest message was refused: {error}"),
        }
    }

    /// Gives the event to the replica, and to it whatever it causes there, one after the other.
    pub fn feed(&mut self, at: usize, event: Event) {
        self.nodes[at].inbox.push_back(event);
        if self.nodes[at].busy {
            return;
        }
        self.nodes[at].busy = true;
        while let Some(event) = self.nodes[at].inbox.pop_front() {
            let Some(replica) = &mut self.nodes[at].replica else { break };
            for action in replica.on(event, Millis::new(self.now)) {
                self.act(at, action);
            }
        }
        self.nodes[at].inbox.clear();
        self.nodes[at].busy = false;
    }

    fn send(&mut self, from: usize, to: usize, message: Message) {
        self.sent += 1;
        if self.cut.contains(&(from, to)) || (self.lose)(&message) {
            return;
        }
        if self.loss > 0 && self.rng.random_range(0..100) < self.loss {
            return;
        }
        let jitter = if self.jitter > 0 { self.rng.random_range(0..self.jitter) } else { 0 };
        self.sequence += 1;
        self.queue.insert((self.now + self.hop + jitter, self.sequence), (from, to, message));
    }

    fn at(&self, id: &NodeId) -> usize {
        self.nodes.iter().position(|node| node.id == *id).expect("a node of the net")
    }

    fn act(&mut self, at: usize, action: Action) {
        match action {
            Action::Check(block) => {
                let verdict = if block.block.payload.starts_with(b"bad") { Verdict::Invalid } else { Verdict::Valid };
                self.feed(at, Event::Checked { block: block.block.hash(), verdict });
            }
            Action::Build { round, ref justify, even_empty, .. } => {
                let node = &mut self.nodes[at];
                if node.waiting || even_empty {
                    let block = Arc::new(block(round, node.id, justify, if node.waiting { b"txs" } else { b"" }));
                    self.feed(at, Event::Built { round, block });
                } else {
                    node.build = Some(action);
                }
            }
            Action::Persist { record, blocks } => {
                let disk = &mut self.nodes[at].disk;
                disk.record = Some(*record);
                disk.blocks.extend(blocks.into_iter().map(|block| (block.block.hash(), block)));
            }
            Action::Broadcast(unsigned) => {
                let message = unsigned.sign(&CHAIN, &self.nodes[at].key);
                (0..self.nodes.len()).filter(|to| *to != at).for_each(|to| self.send(at, to, message.clone()));
                let from = self.nodes[at].id;
                self.feed(at, Event::Received { from, message });
            }
            Action::Send { to: To::One(id), message } => self.send(at, self.at(&id), message),
            Action::Send { to: To::All, .. } => {}
            Action::Serve { to, block } => {
                let disk = &self.nodes[at].disk;
                let mut all = disk.blocks.values().chain(&disk.chain);
                if let Some(block) = all.find(|held| held.block.hash() == block) {
                    let message = Message::Block(Box::new(ProposedBlock::clone(block)));
                    self.send(at, self.at(&to), message);
                }
            }
            Action::SetTimer { timer, after } => {
                self.nodes[at].timers.insert(timer, self.now + after.get());
            }
            Action::StopTimer(timer) => {
                self.nodes[at].timers.remove(&timer);
            }
            Action::Finalize { blocks, certificate } => self.finalize(at, blocks, certificate),
            Action::CatchUp { from, .. } => self.catch_up(at, from),
            Action::Evidence(evidence) => self.nodes[at].evidence.push(*evidence),
        }
    }

    fn append(&mut self, at: usize, blocks: Vec<Arc<ProposedBlock>>, certificate: &Certificate) {
        let disk = &mut self.nodes[at].disk;
        for block in blocks {
            let parent = disk.chain.last().map_or(GENESIS, |last| last.block.hash());
            assert_eq!(block.header().parent, parent, "each final block extends the last");
            disk.chain.push(block);
        }
        assert_eq!(disk.chain.last().map(|last| last.block.hash()), Some(certificate.block));
        disk.last_final = Some(certificate.clone());
        let height = Height::new(disk.chain.len() as u64);
        disk.blocks.retain(|_, block| block.header().height > height);
    }

    fn finalize(&mut self, at: usize, blocks: Vec<Arc<ProposedBlock>>, certificate: Certificate) {
        self.append(at, blocks, &certificate);
        self.check_agreement();
        if self.height(at).is_multiple_of(self.epoch_blocks) {
            self.begin_epoch(at, certificate);
        }
    }

    fn begin_epoch(&mut self, at: usize, opening: Certificate) {
        let disk = &mut self.nodes[at].disk;
        let old = disk.contexts.last().expect("an epoch").clone();
        let skip = skip_list(&old, disk.chain.iter().map(|block| block.header()));
        let epoch = old.epoch.next().expect("a small epoch");
        let context = EpochContext { epoch, set: old.set, skip, opening };
        disk.contexts.push(context.clone());
        let verifier = self.nodes[at].verifier.as_mut().expect("a running node");
        verifier.begin_epoch(&context);
        self.nodes[at].inbox.push_front(Event::NextEpoch(context));
    }

    /// Takes whatever the peer has final, epoch by epoch.
    fn catch_up(&mut self, at: usize, from: NodeId) {
        self.catch_ups += 1;
        let from = self.at(&from);
        if self.cut.contains(&(from, at)) || self.cut.contains(&(at, from)) {
            return;
        }
        let mut events = Vec::new();
        loop {
            let have = self.height(at);
            let end = (have / self.epoch_blocks + 1) * self.epoch_blocks;
            let source = &self.nodes[from].disk;
            let up_to = end.min(source.chain.len() as u64);
            if up_to <= have {
                break;
            }
            let blocks: Vec<_> = source.chain[have as usize..up_to as usize].to_vec();
            let opening = |context: &&EpochContext| context.opening.height.get() == up_to;
            let found = source.contexts.iter().find(opening).map(|context| context.opening.clone());
            let Some(certificate) = found.or_else(|| source.last_final.clone()) else { break };
            let block = blocks.last().expect("at least one").clone();
            self.append(at, blocks, &certificate);
            events.push(Event::CaughtUp { block, certificate: certificate.clone() });
            if up_to == end {
                self.begin_epoch(at, certificate);
                events.extend(self.nodes[at].inbox.pop_front());
            }
        }
        events.into_iter().rev().for_each(|event| self.nodes[at].inbox.push_front(event));
    }

    pub fn check_agreement(&self) {
        for pair in self.nodes.windows(2) {
            for (a, b) in pair[0].disk.chain.iter().zip(&pair[1].disk.chain) {
                assert_eq!(a.block.hash(), b.block.hash(), "two final blocks at height {}", a.header().height);
            }
        }
    }

    pub fn leader(&self, round: Round) -> usize {
        usize::from(Leaders::new(self.nodes[0].disk.contexts.last().expect("an epoch")).index(round))
    }
}

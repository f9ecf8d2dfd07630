//! Catching up with peers that are slow, gone or lying.

use std::sync::mpsc::Receiver;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};

use super::super::exec::{Application, replay};
use super::super::{Inbox, Input, Setup};
use super::*;
use crate::consensus::evidence::Evidence;
use crate::crypto::SecretKey;
use crate::net::ConsensusInbox;
use crate::node::app::LedgerApp;
use crate::node::clock::Clock;
use crate::node::testing;
use crate::wire::{ProposedBlock, VoteKind};

/// Takes note of what the chain thread wants.
#[derive(Default)]
struct Noted {
    requests: Vec<(NodeId, u64)>,
    blamed: Vec<NodeId>,
}

impl Links for Noted {
    fn send(&mut self, _: &[NodeId], _: Bytes) {}
    fn peers(&mut self, _: &[NodeId], _: bool) {}
    fn blame(&mut self, node: NodeId, _: &'static str) {
        self.blamed.push(node);
    }
    fn request_blocks(&mut self, from: NodeId, height: Height) {
        self.requests.push((from, height.get()));
    }
    fn announce(&mut self, _: Height, _: bool) {}
    fn ask_signed(&mut self, _: &[NodeId], _: u64) {}
    fn evidence(&mut self, _: &Evidence) {}
}

/// A node that follows, and the chain that it is to learn.
struct Follower {
    _home: tempfile::TempDir,
    chain: Chain<Noted>,
    app: LedgerApp,
    commands: Receiver<Command>,
    blocks: Vec<SyncBlock>,
}

fn peer(n: u8) -> NodeId {
    NodeId::from_bytes([n; 32])
}

impl Follower {
    /// Only the last of the blocks has a certificate.
    fn new(count: u64) -> Self {
        let (home, genesis) = (tempfile::tempdir().expect("a directory"), testing::genesis());
        let clock = Clock::start();
        let blocks = testing::blocks(home.path(), &genesis, clock, count);
        let certificate = |block: &ProposedBlock| {
            (block.header().height.get() == count).then(|| testing::certify(&genesis, VoteKind::Commit, block))
        };
        let sync = |block: Arc<ProposedBlock>| SyncBlock { certificate: certificate(&block), block: (*block).clone() };
        let (key, db) = (SecretKey::from_seed(&[7; 32]), testing::store(home.path(), [7; 32], &genesis));
        let app = testing::app(&db, &genesis, &key, clock);
        let (exec, commands) = std::sync::mpsc::channel();
        let setup = Setup {
            config: testing::config(&genesis, key.public().node_id()),
            key,
            db,
            set: testing::set(),
            book: Default::default(),
            process: 1,
            links: Noted::default(),
            exec,
            inbox: Inbox { inputs: mpsc::channel(1).1, messages: ConsensusInbox::without_network().1 },
            status: watch::channel(None).0,
            on_final: Box::new(|_| false),
            more_waits: Box::new(|_| false),
            clock,
            keep: None,
        };
        let (chain, _) = Chain::open(setup).expect("a chain");
        Self { _home: home, chain, app, commands, blocks: blocks.into_iter().map(sync).collect() }
    }

    fn take(&mut self, input: Input) -> Result<(), StoreError> {
        let mut events = VecDeque::new();
        self.chain.take(input, &mut events)?;
        self.chain.turn(events)
    }

    /// Delivers blocks and executes what the chain thread wants executed.
    fn deliver(&mut self, from: NodeId, blocks: Vec<SyncBlock>) -> Result<(), StoreError> {
        self.take(Input::Blocks { from, blocks })?;
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Replay(blocks) => {
                    let replayed = replay(&mut self.app, blocks)?;
                    self.take(replayed)?;
                }
                Command::Finalized(blocks) => self.app.finalized(&blocks),
                _ => {}
            }
        }
        Ok(())
    }

    fn hear(&mut self, from: NodeId, height: u64) {
        self.take(Input::Tip { from, height: Height::new(height) }).expect("nothing is written");
    }

    fn height(&self) -> u64 {
        self.chain.final_height().get()
    }
}

#[test]
fn blocks_wait_for_a_certificate_that_comes_with_the_next_answer() {
    let mut follower = Follower::new(3);
    follower.hear(peer(1), 3);
    let last = follower.blocks.split_off(2);
    let first = follower.blocks.clone();
    follower.deliver(peer(1), first).expect("nothing is written");
    assert_eq!(follower.height(), 0);
    follower.deliver(peer(1), last).expect("a good disk");
    assert_eq!(follower.height(), 3);
    assert_eq!(follower.chain.links.requests, [(peer(1), 1), (peer(1), 3)]);
    assert!(follower.chain.links.blamed.is_empty());
}

#[test]
fn a_peer_that_delivers_nothing_gives_way_to_the_next() {
    let mut follower = Follower::new(2);
    follower.hear(peer(2), 2);
    follower.hear(peer(1), u64::MAX);
    follower.hear(peer(3), 2);
    for from in [2, 3, 1] {
        assert_eq!(follower.chain.links.requests.pop(), Some((peer(from), 1)));
        follower.deliver(peer(from), Vec::new()).expect("nothing is written");
    }
    assert!(follower.chain.links.requests.is_empty(), "nobody is left to be asked");
    follower.hear(peer(2), 2);
    assert_eq!(follower.chain.links.requests, [(peer(2), 1)]);
}

#[test]
fn a_changed_payload_costs_the_peer_that_sent_it_and_not_this_node() {
    let mut follower = Follower::new(2);
    follower.hear(peer(1), 2);
    follower.hear(peer(2), 2);
    let good = follower.blocks.clone();
    let mut changed = good.clone();
    changed[0].block.block.payload = Bytes::from_static(&[9]);
    follower.deliver(peer(1), changed).expect("the node goes on");
    assert_eq!(follower.chain.links.blamed, [peer(1)]);
    assert_eq!(follower.chain.links.requests, [(peer(1), 1), (peer(2), 1)]);
    follower.deliver(peer(2), good).expect("a good disk");
    assert_eq!(follower.height(), 2);
}

#[test]
fn a_block_with_a_justification_that_proves_nothing_is_refused() {
    let mut follower = Follower::new(2);
    follower.hear(peer(1), 2);
    let mut forged = follower.blocks.clone();
    forged[1].block.justify.signatures.clear();
    follower.deliver(peer(1), forged).expect("the node goes on");
    assert_eq!((follower.height(), follower.chain.links.blamed.as_slice()), (0, [peer(1)].as_slice()));
}

#[test]
fn endless_blocks_without_a_certificate_are_given_up_and_another_is_asked() {
    let mut follower = Follower::new(2);
    follower.hear(peer(1), u64::MAX);
    follower.hear(peer(2), 2);
    let good = follower.blocks.clone();
    let first = good[0].clone();
    // A run that never ends, a page at a time: always one more that is not certified.
    let mut pages = 0;
    while follower.chain.links.blamed.is_empty() {
        let page = vec![SyncBlock { certificate: None, block: first.block.clone() }; limits::SYNC_BLOCKS_MAX];
        follower.deliver(peer(1), page).expect("nothing is written");
        pages += 1;
        assert!(pages <= limits::UNFINAL_BLOCKS_MAX / limits::SYNC_BLOCKS_MAX + 1, "it is believed for too long");
    }
    assert_eq!(follower.chain.links.blamed, [peer(1)]);
    assert!(follower.chain.sync.received.is_empty(), "nothing of it is kept");
    assert_eq!(follower.chain.links.requests.last(), Some(&(peer(2), 1)));
    follower.deliver(peer(2), good).expect("a good disk");
    assert_eq!(follower.height(), 2);
}

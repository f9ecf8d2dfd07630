//! Peers that mean harm, against whole nodes: the chain goes on, memory stays bounded, and who did it is named and sent away.

use std::time::Duration;

use bytes::Bytes;
use trullo::crypto::SecretKey;
use trullo::crypto::keys::AccountKeys;
use trullo::net::{Inboxes, Kind, Misbehaviour, NetConfig, NetHandle, NetLimits, PeerInfo, Standing};
use trullo::node::Handle;
use trullo::types::{Amount, BlockHash, ChainId, Epoch, Height, NodeId, Round, View, limits};
use trullo::wire::message::Offer;
use trullo::wire::{self, Action, Certificate, Message, Newest, ProposedBlock, Topic, Tx, TxBody, Unsigned, VoteKind};

use crate::cluster::{Cluster, PATIENCE};

/// Somebody with a key, connected to all validators.
struct Attacker {
    net: NetHandle,
    inboxes: Inboxes,
    key: SecretKey,
    chain: ChainId,
}

impl Attacker {
    async fn with_key(cluster: &Cluster, key: SecretKey) -> Self {
        let chain = cluster.genesis.chain_id();
        let config = NetConfig {
            key: key.clone(),
            chain,
            listen: Vec::new(),
            announce: Vec::new(),
            bootstrap: cluster.running().map(|name| cluster.peer_address(&name)).collect(),
            limits: NetLimits::default(),
        };
        let (net, inboxes) = trullo::net::start(config, trullo::net::Metrics::default()).await.expect("it dials only");
        let attacker = Self { net, inboxes, key, chain };
        for name in cluster.running() {
            let node = cluster.peer_address(&name).node;
            let mut connected = attacker.net.connected();
            let seen = tokio::time::timeout(PATIENCE, connected.wait_for(|peers| peers.contains(&node))).await;
            seen.unwrap_or_else(|_| panic!("no connection with {name}")).expect("it runs on");
        }
        attacker
    }
    async fn stranger(cluster: &Cluster) -> Self {
        Self::with_key(cluster, SecretKey::from_seed(&[231; 32])).await
    }
    fn node(&self) -> NodeId {
        self.key.public().node_id()
    }
    fn transfer(&self, keys: &AccountKeys, nonce: u64) -> Tx {
        let action = Action::Transfer { to: keys.account_id(), amount: Amount::new(1), memo: String::new() };
        Tx::sign(TxBody { chain: self.chain, sender: keys.account_id(), nonce, action }, keys.signing())
    }
    /// Gossips what a network that is behind has room for.
    fn gossip(&self, txs: &[Tx]) {
        let _ = self.net.gossip(Topic::Transactions, wire::encode(&txs.to_vec()));
    }
}

fn known(at: &Handle, node: NodeId) -> Option<PeerInfo> {
    at.net().peers().into_iter().find(|peer| peer.node == node)
}

async fn until(what: &str, mut look: impl FnMut() -> bool) {
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    let looking = async {
        while !look() {
            ticks.tick().await;
        }
    };
    tokio::time::timeout(2 * PATIENCE, looking).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}

fn height(handle: &Handle) -> u64 {
    handle.reader().tip().map_or(0, |tip| tip.height.get())
}

/// A transfer of the cluster's user is final while whatever happens goes on.
async fn a_transfer_is_final(cluster: &mut Cluster) {
    let to = cluster.member("validator-1").keys.account_id();
    let action = Action::Transfer { to, amount: Amount::new(1), memo: String::new() };
    cluster.handle("user-1").act(action, PATIENCE).await.expect("a final transfer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_floods_with_transactions_of_nobody_is_named_and_sent_away_and_none_comes_in() {
    let mut cluster = Cluster::new(1, 0, 1);
    cluster.start_all().await;
    cluster.reach(2).await;
    let validator = cluster.handle("validator-1");
    let attacker = Attacker::stranger(&cluster).await;
    // Signed well, each by an account without credits, in ever another order.
    let mut txs: Vec<_> = (0..200).map(|n| attacker.transfer(&AccountKeys::from_master(&[n; 32]), 0)).collect();
    txs.retain(|tx| validator.record(&trullo::ledger::Key::Account(tx.body.sender)).is_ok_and(|found| found.is_none()));
    let who = attacker.node();
    until("the flooder is sent away", || {
        txs.rotate_left(1);
        attacker.gossip(&txs);
        known(&validator, who).is_some_and(|peer| peer.away_for.is_some())
    })
    .await;
    let peer = known(&validator, who).expect("it is remembered");
    assert_eq!((peer.fault, peer.standing), (Some(Misbehaviour::Flood), Standing::Stranger));
    assert!(validator.net().metrics().dropped_over_rate(Kind::Useless) > 0);
    assert!(validator.mempool().is_empty(), "none of them waits");
    a_transfer_is_final(&mut cluster).await;
    attacker.net.shutdown().await;
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_with_credits_that_floods_keeps_no_other_from_its_place() {
    let mut cluster = Cluster::new(1, 0, 2);
    cluster.start_all().await;
    cluster.reach(2).await;
    let validator = cluster.handle("validator-1");
    let attacker = Attacker::stranger(&cluster).await;
    let keys = cluster.member("user-2").keys.clone();
    let bound = validator.net().metrics().clone();
    // The same nonces again and again, with other contents: one waits for each.
    let flood: Vec<_> = (0..limits::NONCE_AHEAD_MAX + 1_000).map(|nonce| attacker.transfer(&keys, nonce)).collect();
    for part in flood.chunks(400).cycle().take(2 * flood.len() / 400) {
        attacker.gossip(part);
    }
    until("transactions of the flood wait or are final", || {
        validator.finalized(&keys).is_some_and(|nonce| nonce > 100) || validator.mempool().len() > 100
    })
    .await;
    a_transfer_is_final(&mut cluster).await;
    assert!(validator.mempool().bytes() <= limits::MEMPOOL_SENDER_BYTES_MAX + limits::TX_BYTES_MAX);
    assert!(validator.mempool().len() <= limits::NONCE_AHEAD_MAX as usize + 1);
    assert_eq!(bound.dropped_over_rate(Kind::Useless), 0, "what an account can pay for is not useless");
    attacker.net.shutdown().await;
    cluster.stop_all().await;
}

trait Finalized {
    /// The next nonce of an account in the finalized state.
    fn finalized(&self, keys: &AccountKeys) -> Option<u64>;
}

impl Finalized for Handle {
    fn finalized(&self, keys: &AccountKeys) -> Option<u64> {
        match self.record(&trullo::ledger::Key::Account(keys.account_id())) {
            Ok(Some(trullo::ledger::Record::Account(account))) => Some(account.nonce),
            _ => None,
        }
    }
}

/// The highest certificate that a message speaks of.
fn highest(message: &Message) -> Option<Certificate> {
    match message {
        Message::Proposal(proposal) => Some(proposal.newest.high.clone()),
        Message::Vote(vote) => Some(vote.newest.high.clone()),
        Message::Timeout(timeout) => Some(timeout.newest.high.clone()),
        Message::Newest(newest) => Some(newest.high.clone()),
        Message::Fetch(_) | Message::Block(_) => None,
    }
}

fn newest(high: &Certificate) -> Newest {
    Newest { high: high.clone(), timeout: None, commit: None }
}

/// A block on a certified one, in the view after it, with a payload that is too long.
fn huge(cluster_tip: &ProposedBlock, high: &Certificate, index: u16) -> Unsigned {
    let mut proposed = cluster_tip.clone();
    let round = Round::new(high.round.epoch, View::new(high.round.view.get() + 1));
    proposed.block.header.parent = high.block;
    proposed.block.header.height = high.height.next().expect("a next height");
    proposed.block.header.round = round;
    proposed.block.payload = Bytes::from(vec![0; limits::BLOCK_PAYLOAD_BYTES_MAX + (1 << 19)]);
    proposed.justify = high.clone();
    Unsigned::Proposal { round, index, offer: Offer::Block(proposed), newest: newest(high) }
}

/// A vote for nothing, in a view that nobody will see soon.
fn far_ahead(high: &Certificate, index: u16, ahead: u64) -> Unsigned {
    let round = Round::new(high.round.epoch, View::new(high.round.view.get() + ahead));
    let block = BlockHash::from_bytes([ahead as u8; 32]);
    let height = Height::new(high.height.get() + ahead);
    Unsigned::Vote { kind: VoteKind::Prepare, round, height, block, index, newest: newest(high) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_validators_key_with_huge_blocks_far_views_and_replays_stops_nobody() {
    let mut cluster = Cluster::new(4, 0, 1);
    let honest = ["validator-1", "validator-2", "validator-3"];
    for name in honest.into_iter().chain(["user-1"]) {
        cluster.start(name).await;
    }
    let mut attacker = Attacker::with_key(&cluster, SecretKey::from_seed(&[4; 32])).await;
    let nodes: Vec<_> = honest.iter().map(|name| cluster.peer_address(name).node).collect();
    attacker.net.set_consensus_peers(&nodes).expect("room for a command");
    cluster.reach(2).await;
    let first = cluster.handle("validator-1");
    let index = first.status().and_then(|status| status.set.index_of(&attacker.node())).expect("it votes");
    let block = first.snapshot().expect("a snapshot").block(Height::new(1)).expect("readable").expect("a final block");
    let (from, mut said, mut sent) = (height(&first), Vec::new(), 0_u64);
    let attack = async {
        while height(&first) < from + 30 {
            let Some((_, bytes)) = attacker.inboxes.consensus.recv().await else { return };
            let message: Message = wire::decode(&bytes, usize::MAX).expect("honest nodes send messages");
            let Some(high) = highest(&message).filter(|high| high.round.epoch > Epoch::ZERO || high.height.get() > 0)
            else {
                continue;
            };
            sent += 1;
            // A huge block in every eighth answer: as a leader, and where it is none.
            let lie = match sent % 8 {
                0 => huge(&block, &high, index),
                n => far_ahead(&high, index, 1_000 * n),
            };
            let lie = Bytes::from(wire::encode(&lie.sign(&attacker.chain, &attacker.key)));
            attacker.net.send_all(lie.clone()).expect("within the limit of a message");
            // And something old again.
            said.push(lie);
            let old = said.swap_remove(sent as usize % said.len());
            said.truncate(64);
            attacker.net.send_all(old).expect("within the limit of a message");
        }
    };
    tokio::time::timeout(3 * PATIENCE, attack).await.expect("the chain goes on");
    assert!(sent > 16, "{sent} lies were told");
    a_transfer_is_final(&mut cluster).await;
    for name in honest {
        let status = cluster.handle(name).status().expect("it runs");
        assert!(status.core.unfinal_blocks < 64, "{name} holds {} blocks", status.core.unfinal_blocks);
    }
    // What cannot be decoded is its sender's fault, on whatever key.
    for n in 0..8_u8 {
        attacker.net.send_all(Bytes::from(vec![0xff, n])).expect("within the limit of a message");
    }
    for name in honest {
        let (at, who) = (cluster.handle(name), attacker.node());
        until("it is sent away", || known(&at, who).is_some_and(|peer| peer.away_for.is_some())).await;
        assert_eq!(known(&at, who).and_then(|peer| peer.fault), Some(Misbehaviour::InvalidConsensus), "{name}");
    }
    a_transfer_is_final(&mut cluster).await;
    attacker.net.shutdown().await;
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_idle_connections_neither_stop_the_chain_nor_keep_a_validator_out() {
    const IDLE: usize = 3_000;
    let mut cluster = Cluster::new(4, 0, 1);
    cluster.start_all().await;
    cluster.reach(2).await;
    // Each end takes a descriptor of this process, in which other tests run too.
    let allowed = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    let count = usize::try_from(allowed / 4).map_or(IDLE, |quarter| quarter.min(IDLE));
    let mut idle = Vec::new();
    for n in 0..count {
        let port = cluster.port(["validator-1", "validator-2"][n % 2]);
        idle.push(tokio::net::TcpStream::connect(("127.0.0.1", port)).await.expect("the port is open"));
    }
    let before = height(&cluster.handle("validator-1"));
    cluster.stop("validator-3").await;
    cluster.reach(before + 5).await;
    cluster.start("validator-3").await;
    // It is back with the two that are beset, too.
    let back = height(&cluster.handle("validator-1"));
    cluster.reach(back + 5).await;
    for name in ["validator-1", "validator-2"] {
        let (at, node) = (cluster.handle(name), cluster.peer_address("validator-3").node);
        until("it is connected", || known(&at, node).is_some_and(|peer| peer.connected)).await;
    }
    a_transfer_is_final(&mut cluster).await;
    drop(idle);
    cluster.stop_all().await;
}

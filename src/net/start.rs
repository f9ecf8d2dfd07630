//! From settings to a running network.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::StreamExt;
use libp2p::swarm::SwarmEvent;
use libp2p::{Swarm, TransportError};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::address::{Address, PeerAddress};
use super::behaviour::{self, Behaviour, Protocols};
use super::book::Book;
use super::config::{NetConfig, NetError};
use super::consensus::{ConsensusInbox, Links, Parts};
use super::driver::{Driver, Waiting};
use super::fair::{Bounds, FairQueue};
use super::gossip::{GossipInbox, Topics};
use super::handle::{NetHandle, Shared};
use super::metrics::Metrics;
use super::rates::Rates;
use super::request::{OwnRequests, RequestInbox};
use super::stream::{Acceptor, AcceptorParts, Open, StreamInbox};
use crate::types::{NodeId, limits};

const LISTEN_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a port that was free may be held by others.
const HELD: Duration = Duration::from_secs(1);
/// How long another interface's address may take after the one before.
const LISTEN_PAUSE: Duration = Duration::from_millis(50);

/// What comes in, by kind. An inbox that is dropped refuses its kind from then on.
pub struct Inboxes {
    /// Consensus messages.
    pub consensus: ConsensusInbox,
    /// Gossip that waits for a verdict.
    pub gossip: GossipInbox,
    /// Requests that wait for an answer.
    pub requests: RequestInbox,
    /// Byte streams.
    pub streams: StreamInbox,
}

/// Listens and starts the network's tasks on the current tokio runtime. They run until `NetHandle::shutdown`.
/// Errors: `Listen`, `Setup`.
pub async fn start(config: NetConfig, metrics: Metrics) -> Result<(NetHandle, Inboxes), NetError> {
    let local = config.key.public().node_id();
    let protocols = Protocols::new(&config.chain)?;
    let topics = Topics::new(&config.chain);
    let mut swarm = behaviour::swarm(&config, &protocols, &topics)?;
    let addresses = listen(&mut swarm, &config, local).await?;

    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let (commands, command_inbox) = mpsc::channel(limits::NET_COMMANDS_MAX);
    let (connected_out, connected) = watch::channel(Arc::new(BTreeSet::new()));
    let (request_out, requests) = mpsc::channel(limits::ANSWERS_MAX);
    let gossip_bounds =
        Bounds { per_peer: limits::GOSSIP_INBOX_PEER_BYTES_MAX, total: limits::GOSSIP_INBOX_BYTES_MAX, assured: 0 };
    let gossip = Arc::new(FairQueue::new(gossip_bounds));
    let book = Arc::new(Mutex::new(open_book(&config, local)));
    let rates = Arc::new(Rates::default());

    let mut control = swarm.behaviour().streams.new_control();
    let setup = |error: libp2p_stream::AlreadyRegistered| NetError::Setup(error.to_string());
    let consensus_streams = control.accept(protocols.consensus.clone()).map_err(setup)?;
    let slot_streams = control.accept(protocols.slots.clone()).map_err(setup)?;
    let (links, consensus) = Links::new(Parts {
        connected: connected.clone(),
        control: control.clone(),
        protocol: protocols.consensus.clone(),
        tasks: tasks.clone(),
        stop: stop.clone(),
        metrics: metrics.clone(),
        commands: commands.clone(),
        rates: Arc::clone(&rates),
    });
    let (acceptor, streams) = Acceptor::new(AcceptorParts {
        incoming: slot_streams,
        tasks: tasks.clone(),
        stop: stop.clone(),
        metrics: metrics.clone(),
        rates: Arc::clone(&rates),
        commands: commands.clone(),
    });

    let slots = protocols.slots.clone();
    let driver = Driver {
        swarm,
        chain: config.chain,
        protocols,
        topics,
        ban: config.limits.ban,
        rates: Arc::clone(&rates),
        book: Arc::clone(&book),
        connected: connected_out,
        commands: command_inbox,
        answers: commands.clone(),
        gossip: Arc::clone(&gossip),
        requests: request_out,
        metrics: metrics.clone(),
        stop: stop.clone(),
        waiting: Waiting::default(),
    };
    tasks.spawn(driver.run());
    tasks.spawn(Arc::clone(&links).accept(consensus_streams));
    tasks.spawn(acceptor.run());

    let shared = Shared {
        key: config.key,
        chain: config.chain,
        addresses,
        book,
        rates,
        connected,
        links,
        commands,
        control,
        slots,
        open: Open::default(),
        requests: OwnRequests::default(),
        metrics,
        stop,
        tasks,
    };
    let inboxes =
        Inboxes { consensus, gossip: GossipInbox { queue: gossip }, requests: RequestInbox { requests }, streams };
    Ok((NetHandle { shared: Arc::new(shared) }, inboxes))
}

fn open_book(config: &NetConfig, local: NodeId) -> Book {
    let mut book = Book::new(local, config.limits.peers_wanted);
    for peer in &config.bootstrap {
        book.add_bootstrap(peer.node, peer.address.clone(), Instant::now());
    }
    book
}

/// Listens on all addresses and returns where others can reach this node.
async fn listen(swarm: &mut Swarm<Behaviour>, config: &NetConfig, local: NodeId) -> Result<Vec<PeerAddress>, NetError> {
    let mut bound = Vec::new();
    for address in &config.listen {
        let failed = |reason: String| NetError::Listen { address: address.clone(), reason };
        address.check_free().map_err(|error| failed(error.to_string()))?;
        let held_until = Instant::now() + HELD;
        let id = loop {
            match swarm.listen_on(address.multiaddr().clone()) {
                Ok(id) => break id,
                // A process that was forked while the port was looked at holds it until it runs its own program.
                Err(TransportError::Other(_)) if Instant::now() < held_until => tokio::time::sleep(LISTEN_PAUSE).await,
                Err(TransportError::Other(error)) => return Err(failed(error.to_string())),
                Err(error) => return Err(failed(error.to_string())),
            }
        };
        let until_bound = async {
            loop {
                match swarm.select_next_some().await {
                    SwarmEvent::NewListenAddr { listener_id, address } if listener_id == id => return Ok(address),
                    SwarmEvent::ListenerClosed { listener_id, reason, .. } if listener_id == id => {
                        return Err(reason.err().map_or("closed".to_owned(), |error| error.to_string()));
                    }
                    _ => {}
                }
            }
        };
        let first = timeout(LISTEN_TIMEOUT, until_bound).await.unwrap_or_else(|_| Err("no answer".to_owned()));
        let mut found = vec![Address::new(first.map_err(failed)?).map_err(|error| failed(error.to_string()))?];
        // An address for all interfaces has one for each of them, and they come together.
        while address.is_unspecified()
            && let Ok(event) = timeout(LISTEN_PAUSE, swarm.select_next_some()).await
        {
            if let SwarmEvent::NewListenAddr { listener_id, address } = event
                && listener_id == id
                && let Ok(address) = Address::new(address)
            {
                found.push(address);
            }
        }
        bound.extend(found);
    }
    for address in &config.announce {
        swarm.add_external_address(address.multiaddr().clone());
    }
    // An address of this machine alone is told to others only if there is no better one.
    let told: Vec<_> = config.announce.iter().chain(&bound).filter(|address| !address.is_loopback()).cloned().collect();
    let told = if told.is_empty() { bound } else { told };
    Ok(told.into_iter().take(limits::NODE_ADDRESSES_MAX).map(|address| address.of(local)).collect())
}

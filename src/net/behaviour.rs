//! The parts of libp2p that trullo uses, put together.

use std::time::Duration;

use futures::io::BufReader;
use libp2p::connection_limits::{self, ConnectionLimits};
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::Boxed;
use libp2p::core::upgrade;
use libp2p::identity::Keypair;
use libp2p::swarm::{self, NetworkBehaviour};
use libp2p::{PeerId, StreamProtocol, Swarm, Transport, dns, gossipsub, identify, identity, memory_connection_limits};
use libp2p::{noise, ping, tcp, yamux};
use libp2p_allow_block_list::{self as allow_block_list, BlockedPeers};

use super::config::{NetConfig, NetError, NetLimits};
use super::gossip::{self, Topics};
use super::request;
use crate::types::{ChainId, limits};

/// A connection over which nothing comes back is closed within these two, so that the next one is tried: where packets
/// vanish, a connection's own repetitions come ever more seldom.
const PING_EACH: Duration = Duration::from_secs(3);
const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes that are read from a connection at once, at most.
const READ_AHEAD: usize = 64 << 10;
/// Streams of one connection that are under negotiation at once.
const NEGOTIATING_MAX: usize = 64;

/// What turns peers away stands first: nothing behind it learns of a connection that it refuses.
#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    pub blocked: allow_block_list::Behaviour<BlockedPeers>,
    pub limits: connection_limits::Behaviour,
    pub memory: memory_connection_limits::Behaviour,
    pub identify: identify::Behaviour,
    pub ping: ping::Behaviour,
    pub gossip: gossipsub::Behaviour,
    pub requests: request::Behaviour,
    pub streams: libp2p_stream::Behaviour,
}

/// Names of the protocols of one chain: nodes of different chains have none in common.
#[derive(Clone, Debug)]
pub(super) struct Protocols {
    pub consensus: StreamProtocol,
    pub slots: StreamProtocol,
    pub request: StreamProtocol,
    /// Told to every peer by identify, whatever its chain: it says why two nodes do not talk.
    pub identity: String,
}

impl Protocols {
    pub(super) fn new(chain: &ChainId) -> Result<Self, NetError> {
        let named = |what: &str| {
            StreamProtocol::try_from_owned(format!("/trullo/{}/{what}/1", chain.short()))
                .map_err(|error| NetError::Setup(error.to_string()))
        };
        Ok(Self {
            consensus: named("consensus")?,
            slots: named("slots")?,
            request: named("request")?,
            identity: format!("trullo/{chain}"),
        })
    }
}

fn connection_limits(limits: &NetLimits) -> ConnectionLimits {
    ConnectionLimits::default()
        .with_max_pending_incoming(Some(limits::CONNECTIONS_PENDING_MAX))
        .with_max_pending_outgoing(Some(limits::CONNECTIONS_PENDING_MAX))
        .with_max_established(Some(limits.connections))
        .with_max_established_incoming(Some(limits.connections_inbound))
        .with_max_established_per_peer(Some(limits::CONNECTIONS_PER_PEER_MAX))
}

/// The swarm, not listening yet. Errors: `Setup`.
pub(super) fn swarm(config: &NetConfig, protocols: &Protocols, topics: &Topics) -> Result<Swarm<Behaviour>, NetError> {
    let setup = |error: &dyn std::fmt::Display| NetError::Setup(error.to_string());
    let secret = identity::ed25519::SecretKey::try_from_bytes(config.key.seed().to_vec()).map_err(|e| setup(&e))?;
    let keypair = Keypair::from(identity::ed25519::Keypair::from(secret));
    let identify = identify::Config::new(protocols.identity.clone(), keypair.public())
        .with_agent_version(concat!("trullo/", env!("CARGO_PKG_VERSION")).to_owned())
        .with_push_listen_addr_updates(true)
        .with_cache_size(0);
    let behaviour = Behaviour {
        blocked: allow_block_list::Behaviour::default(),
        limits: connection_limits::Behaviour::new(connection_limits(&config.limits)),
        memory: memory_connection_limits::Behaviour::with_max_bytes(config.limits.memory_bytes),
        identify: identify::Behaviour::new(identify),
        ping: ping::Behaviour::new(ping::Config::new().with_interval(PING_EACH).with_timeout(PING_TIMEOUT)),
        gossip: gossip::behaviour(&config.chain, topics)?,
        requests: request::behaviour(protocols.request.clone()),
        streams: libp2p_stream::Behaviour::new(),
    };
    let settings = swarm::Config::with_tokio_executor()
        .with_idle_connection_timeout(config.limits.idle)
        .with_max_negotiating_inbound_streams(NEGOTIATING_MAX);
    let transport = transport(&keypair, config.limits.handshake).map_err(|error| setup(&error))?;
    Ok(Swarm::new(transport, behaviour, keypair.public().to_peer_id(), settings))
}

/// TCP with names, encrypted, authenticated and multiplexed.
fn transport(keypair: &Keypair, handshake: Duration) -> Result<Boxed<(PeerId, StreamMuxerBox)>, noise::Error> {
    let tcp = || tcp::tokio::Transport::new(tcp::Config::default().nodelay(true));
    let named = dns::tokio::Transport::system(tcp()).unwrap_or_else(|error| {
        tracing::warn!(%error, "no resolver is configured on this machine: only numeric addresses can be dialed");
        dns::tokio::Transport::custom(tcp(), dns::ResolverConfig::default(), dns::ResolverOpts::default())
    });
    let mut muxer = yamux::Config::default();
    muxer.set_max_num_streams(limits::STREAMS_PER_CONNECTION_MAX);
    // The layer above asks for 8 KiB at a time: a buffer below it saves seven of eight system calls while slots come.
    let buffered = named.map(|stream, _| BufReader::with_capacity(READ_AHEAD, stream));
    let upgraded = buffered
        .upgrade(upgrade::Version::V1Lazy)
        .authenticate(noise::Config::new(keypair)?)
        .multiplex(muxer)
        .timeout(handshake);
    Ok(upgraded.map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer))).boxed())
}

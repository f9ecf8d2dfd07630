//! What the network needs to know to start, and why it may not.

use std::time::Duration;

use super::address::{Address, PeerAddress};
use crate::crypto::SecretKey;
use crate::types::{ChainId, limits};

/// Settings of one node's network.
#[derive(Clone, Debug)]
pub struct NetConfig {
    /// The node key; its public half is the node's identity.
    pub key: SecretKey,
    /// The chain. Nodes of another chain are turned away.
    pub chain: ChainId,
    /// Where to listen. Port 0 takes a free one; see `NetHandle::addresses`.
    pub listen: Vec<Address>,
    /// Where others reach this node, when that differs from where it listens.
    pub announce: Vec<Address>,
    /// Nodes that are dialed until they answer, and again whenever they are lost.
    pub bootstrap: Vec<PeerAddress>,
    /// What the network may cost.
    pub limits: NetLimits,
}

/// Bounds and times that differ between machines. `types::limits` has those that do not.
#[derive(Clone, Debug)]
pub struct NetLimits {
    /// Connections at once.
    pub connections: u32,
    /// Connections that others opened.
    pub connections_inbound: u32,
    /// No new connection is accepted while the process has this much resident memory, bytes.
    pub memory_bytes: usize,
    /// Peers that are dialed beyond bootstrap list and validators, until this many are connected.
    pub peers_wanted: usize,
    /// From the first byte to an authenticated connection.
    pub handshake: Duration,
    /// A connection without any open stream is closed after this.
    pub idle: Duration,
    /// How long a peer stays away after its score ran out.
    pub ban: Duration,
}

impl Default for NetLimits {
    fn default() -> Self {
        Self {
            connections: limits::CONNECTIONS_MAX,
            connections_inbound: limits::CONNECTIONS_INBOUND_MAX,
            memory_bytes: 2 << 30,
            peers_wanted: 24,
            handshake: Duration::from_secs(5),
            idle: Duration::from_secs(300),
            ban: Duration::from_secs(300),
        }
    }
}

/// Why the network does not start: this machine's or its operator's fault, never a peer's.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// The address is taken, or not of this machine.
    #[error("cannot listen on {address}: {reason}")]
    Listen {
        /// What was asked for.
        address: Address,
        /// Why not.
        reason: String,
    },
    /// libp2p refuses the settings.
    #[error("the network cannot be set up: {0}")]
    Setup(String),
}

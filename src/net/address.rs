//! Addresses and identities: trullo's words for libp2p's.

use std::fmt;
use std::io;
use std::net::{IpAddr, TcpListener};
use std::str::FromStr;

use libp2p::identity::{self, PublicKey};
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};

use crate::types::{NodeId, limits};

/// Why a text is not an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not a multiaddress.
    #[error("{text:?} is no multiaddress ({reason}); an example is /ip4/192.0.2.1/tcp/7000")]
    Syntax {
        /// What was given.
        text: String,
        /// What is wrong.
        reason: String,
    },
    /// Too long to be kept.
    #[error("an address of {0} bytes; at most {max}", max = limits::NODE_ADDRESS_BYTES_MAX)]
    Length(usize),
    /// The node is missing.
    #[error("{0} does not end in /p2p/<node>")]
    NoNode(String),
    /// The node is named where it must not be.
    #[error("{0} must not name a node")]
    Node(String),
    /// The peer id holds no ed25519 key.
    #[error("peer id {0} is not made of an ed25519 key")]
    Key(String),
}

/// Where a node can be reached, without saying which node it is: a multiaddress such as `/ip4/192.0.2.1/tcp/7000`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(Multiaddr);

impl Address {
    pub(super) fn new(raw: Multiaddr) -> Result<Self, AddressError> {
        if raw.len() > limits::NODE_ADDRESS_BYTES_MAX {
            return Err(AddressError::Length(raw.len()));
        }
        if raw.iter().any(|part| matches!(part, Protocol::P2p(_))) {
            return Err(AddressError::Node(raw.to_string()));
        }
        Ok(Self(raw))
    }
    pub(super) fn multiaddr(&self) -> &Multiaddr {
        &self.0
    }
    /// Whether the TCP port can be taken. libp2p shares the ports that it listens on, so that without this a
    /// second node with the same port would start, and each would get a part of the connections.
    pub(super) fn check_free(&self) -> io::Result<()> {
        let mut parts = self.0.iter();
        let ip = match parts.next() {
            Some(Protocol::Ip4(ip)) => IpAddr::from(ip),
            Some(Protocol::Ip6(ip)) => IpAddr::from(ip),
            _ => return Ok(()),
        };
        match parts.next() {
            Some(Protocol::Tcp(port)) if port != 0 => TcpListener::bind((ip, port)).map(drop),
            _ => Ok(()),
        }
    }
    /// Whether it stands for all interfaces of this machine.
    pub fn is_unspecified(&self) -> bool {
        match self.0.iter().next() {
            Some(Protocol::Ip4(ip)) => ip.is_unspecified(),
            Some(Protocol::Ip6(ip)) => ip.is_unspecified(),
            _ => false,
        }
    }
    /// Whether it leads no further than this machine.
    pub fn is_loopback(&self) -> bool {
        match self.0.iter().next() {
            Some(Protocol::Ip4(ip)) => ip.is_loopback(),
            Some(Protocol::Ip6(ip)) => ip.is_loopback(),
            _ => false,
        }
    }
    /// The address with its node.
    pub fn of(self, node: NodeId) -> PeerAddress {
        PeerAddress { node, address: self }
    }
}

fn parse(text: &str) -> Result<Multiaddr, AddressError> {
    text.parse().map_err(|error: libp2p::multiaddr::Error| AddressError::Syntax {
        text: text.chars().take(limits::NODE_ADDRESS_BYTES_MAX).collect(),
        reason: error.to_string(),
    })
}

impl FromStr for Address {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<Self, AddressError> {
        Self::new(parse(text)?)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A node and one place where it can be reached: `/ip4/192.0.2.1/tcp/7000/p2p/12D3Koo...`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerAddress {
    /// Which node is expected there; no other is talked to.
    pub node: NodeId,
    /// Where.
    pub address: Address,
}

impl FromStr for PeerAddress {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<Self, AddressError> {
        let mut raw = parse(text)?;
        let Some(Protocol::P2p(peer)) = raw.pop() else {
            return Err(AddressError::NoNode(text.to_owned()));
        };
        let node = node_id(&peer).ok_or_else(|| AddressError::Key(peer.to_string()))?;
        Ok(Address::new(raw)?.of(node))
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match peer_id(&self.node) {
            Some(peer) => write!(f, "{}/p2p/{peer}", self.address),
            None => write!(f, "{} of unusable key {}", self.address, self.node),
        }
    }
}

/// libp2p's name of the node, or nothing when the id is no point of the curve.
pub(super) fn peer_id(node: &NodeId) -> Option<PeerId> {
    let key = identity::ed25519::PublicKey::try_from_bytes(node.as_bytes()).ok()?;
    Some(PublicKey::from(key).to_peer_id())
}

/// The node of the name, or nothing when its key is not ed25519.
pub(super) fn node_id(peer: &PeerId) -> Option<NodeId> {
    let key = PublicKey::try_decode_protobuf(peer.as_ref().digest()).ok()?;
    Some(NodeId::from_bytes(key.try_into_ed25519().ok()?.to_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::SecretKey;

    fn node() -> NodeId {
        SecretKey::from_seed(&[5; 32]).public().node_id()
    }

    #[test]
    fn a_node_and_its_peer_id_name_each_other() {
        let peer = peer_id(&node()).expect("a usable key");
        assert_eq!(node_id(&peer), Some(node()));
        assert_eq!(node_id(&PeerId::random()), None);
    }

    #[test]
    fn addresses_round_trip_as_text() {
        let text = "/ip4/127.0.0.1/tcp/7000";
        let address: Address = text.parse().expect("an address");
        assert_eq!(address.to_string(), text);
        let full = address.of(node());
        assert_eq!(full.to_string().parse(), Ok(full));
    }

    #[test]
    fn a_wrong_text_is_refused_with_its_reason() {
        let of = |text: &str| text.parse::<PeerAddress>();
        assert!(matches!(of("127.0.0.1:7000"), Err(AddressError::Syntax { .. })));
        assert!(matches!(of("/ip4/127.0.0.1/tcp/7000"), Err(AddressError::NoNode(_))));
        let full = format!("/ip4/127.0.0.1/tcp/7000/p2p/{}", peer_id(&node()).expect("a usable key"));
        assert!(matches!(full.parse::<Address>(), Err(AddressError::Node(_))));
    }
}

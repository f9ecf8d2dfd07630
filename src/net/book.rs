//! The peers that are known: where they are, what they said, whether they are connected, when to dial them.
//!
//! A plain state machine: time is an argument, and nothing is dialed here.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::address::Address;
use super::rates::Standing;
use super::score::{BAN_AT, Misbehaviour, Penalty};
use crate::types::{NodeId, limits};
use crate::wire::Presence;

/// The first dial after a loss, on the side with the lower id; the other side waits for it first.
const REDIAL_FIRST: Duration = Duration::from_millis(50);
const REDIAL_SECOND: Duration = Duration::from_millis(300);
/// Back-off between failed dials: doubled from here up to one of the caps.
const BACK_OFF: Duration = Duration::from_millis(100);
const BACK_OFF_NEEDED: Duration = Duration::from_secs(1);
const BACK_OFF_OTHERS: Duration = Duration::from_secs(60);
/// A connection that ends sooner counts as a failed dial.
const STABLE: Duration = Duration::from_secs(5);
/// A peer that has not said within this time which chain it follows is sent away.
const IDENTIFY: Duration = Duration::from_secs(10);
/// A record older than this gives way to any newer word of its node, whatever its clock says.
const PRESENCE_STALE: Duration = Duration::from_secs(60);
/// An unconnected peer that was not heard of for this long may be forgotten.
const FORGOTTEN: Duration = Duration::from_secs(600);

/// What is known of a peer, at one moment.
#[derive(Clone, Debug)]
pub struct PeerInfo {
    /// Which node.
    pub node: NodeId,
    /// Where it was said to be.
    pub addresses: Vec<Address>,
    /// Whether it is connected, and of this chain.
    pub connected: bool,
    /// Its last word about itself.
    pub presence: Option<Presence>,
    /// How long ago that came.
    pub seen: Option<Duration>,
    /// Round trip time of the last ping.
    pub rtt: Option<Duration>,
    /// Points for its own faults; 100 end the connection.
    pub penalty: u32,
    /// Whether it is kept away: cut off by the operator, or banned for a time.
    pub blocked: bool,
    /// Its last fault.
    pub fault: Option<Misbehaviour>,
    /// For how much longer it is banned.
    pub away_for: Option<Duration>,
    /// What the ledger says of it.
    pub standing: Standing,
}

#[derive(Debug)]
struct Peer {
    addresses: Vec<Address>,
    /// In the bootstrap list.
    bootstrap: bool,
    /// Somebody waits for a connection.
    asked: bool,
    /// Established connections, and since when the first.
    established: u32,
    since: Instant,
    /// Has said that it follows this chain.
    identified: bool,
    presence: Option<(Presence, Instant)>,
    rtt: Option<Duration>,
    /// When it last answered a ping of this node.
    answered: Option<Instant>,
    penalty: Penalty,
    fault: Option<Misbehaviour>,
    banned_until: Option<Instant>,
    dialing: bool,
    failures: u32,
    next_dial: Instant,
    /// Last sign of life.
    touched: Instant,
}

impl Peer {
    fn new(now: Instant) -> Self {
        Self {
            addresses: Vec::new(),
            bootstrap: false,
            asked: false,
            established: 0,
            since: now,
            identified: false,
            presence: None,
            rtt: None,
            answered: None,
            penalty: Penalty::none(now),
            fault: None,
            banned_until: None,
            dialing: false,
            failures: 0,
            next_dial: now,
            touched: now,
        }
    }
    fn connected(&self) -> bool {
        self.established > 0 && self.identified
    }
    fn back_off(&mut self, now: Instant, cap: Duration) {
        let doubled = BACK_OFF.saturating_mul(1_u32.checked_shl(self.failures.min(16)).unwrap_or(u32::MAX));
        self.failures = self.failures.saturating_add(1);
        self.next_dial = now + doubled.min(cap);
    }
}

/// All known peers.
#[derive(Debug)]
pub(super) struct Book {
    local: NodeId,
    peers_wanted: usize,
    peers: BTreeMap<NodeId, Peer>,
    /// Consensus peers: dialed like the bootstrap list.
    needed: BTreeSet<NodeId>,
    denied: BTreeSet<NodeId>,
    /// Peers that were forgotten while they were kept away.
    forgotten: Vec<NodeId>,
    /// Changes with everything that `due` and `next` depend on, but time.
    version: u64,
}

impl Book {
    pub(super) fn new(local: NodeId, peers_wanted: usize) -> Self {
        let (peers, needed, denied) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
        Self { local, peers_wanted, peers, needed, denied, forgotten: Vec::new(), version: 0 }
    }

    /// The peer's entry, made when there is room: for connected and needed peers there always is.
    fn entry(&mut self, node: NodeId, now: Instant, always: bool) -> Option<&mut Peer> {
        if node == self.local {
            return None;
        }
        if !self.peers.contains_key(&node) && self.peers.len() >= limits::KNOWN_PEERS_MAX {
            let least = if always { Duration::ZERO } else { FORGOTTEN };
            if !self.forget_one(now, least) && !always {
                return None;
            }
        }
        self.version += 1;
        Some(self.peers.entry(node).or_insert_with(|| Peer::new(now)))
    }

    fn peer(&mut self, node: &NodeId) -> Option<&mut Peer> {
        self.version += 1;
        self.peers.get_mut(node)
    }

    /// As long as it stays the same, `next` does, and nothing new is due before that.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// Makes room: of those that nobody needs and that are not connected, the one that was not heard of for longest, and for
    /// so long at the least. Whoever is kept away goes last: it would be let in again.
    fn forget_one(&mut self, now: Instant, least: Duration) -> bool {
        let idle = |(node, peer): &(&NodeId, &Peer)| {
            !peer.bootstrap
                && !self.needed.contains(node)
                && peer.established == 0
                && now.saturating_duration_since(peer.touched) >= least
        };
        let candidates = self.peers.iter().filter(idle);
        let first = candidates.min_by_key(|(_, peer)| (peer.banned_until.is_some(), peer.touched));
        let Some(node) = first.map(|(node, _)| *node) else { return false };
        if self.peers.remove(&node).is_some_and(|peer| peer.banned_until.is_some()) {
            self.forgotten.push(node);
        }
        true
    }

    /// Those that were kept away and are not known any more.
    pub(super) fn take_forgotten(&mut self) -> Vec<NodeId> {
        std::mem::take(&mut self.forgotten)
    }

    /// Learns addresses of a peer. The newest come first, and push out the oldest beyond the limit.
    pub(super) fn learn(&mut self, node: NodeId, addresses: &[Address], now: Instant) {
        let always = self.needed.contains(&node);
        let Some(peer) = self.entry(node, now, always) else { return };
        peer.touched = now;
        for address in addresses.iter().rev() {
            match peer.addresses.iter().position(|known| known == address) {
                Some(_) if peer.bootstrap => {}
                Some(place) => peer.addresses[..=place].rotate_right(1),
                // Configured addresses stay in front: what peers say about themselves cannot displace them.
                None if peer.bootstrap => peer.addresses.push(address.clone()),
                None => peer.addresses.insert(0, address.clone()),
            }
        }
        peer.addresses.truncate(limits::NODE_ADDRESSES_MAX);
    }

    pub(super) fn add_bootstrap(&mut self, node: NodeId, address: Address, now: Instant) {
        if let Some(peer) = self.entry(node, now, true) {
            peer.bootstrap = true;
            peer.addresses.push(address);
        }
    }

    /// Exactly these are needed from now on, beside the bootstrap list. Returns those that no longer are.
    pub(super) fn set_needed(&mut self, nodes: &[NodeId], now: Instant) -> Vec<NodeId> {
        self.version += 1;
        let needed = nodes.iter().copied().take(limits::CONSENSUS_PEERS_MAX).collect();
        let before = std::mem::replace(&mut self.needed, needed);
        let gone = before.difference(&self.needed).copied().collect();
        for node in nodes.iter().take(limits::VALIDATORS_MAX) {
            if let Some(peer) = self.entry(*node, now, true) {
                peer.next_dial = peer.next_dial.min(now + BACK_OFF_NEEDED);
            }
        }
        gone
    }

    /// A presence record of the node. False when it is not newer than what is known.
    pub(super) fn heard(&mut self, node: NodeId, presence: Presence, now: Instant) -> bool {
        let fresh = |at: Instant| now.saturating_duration_since(at) < PRESENCE_STALE;
        let known = self.peers.get(&node).and_then(|peer| peer.presence.as_ref());
        if known.is_some_and(|(known, at)| fresh(*at) && presence.time <= known.time) {
            return false;
        }
        let addresses: Vec<Address> = presence.addresses.iter().filter_map(|text| text.parse().ok()).collect();
        self.learn(node, &addresses, now);
        let Some(peer) = self.peer(&node) else { return false };
        peer.presence = Some((presence, now));
        true
    }

    /// It answered a ping.
    pub(super) fn measured(&mut self, node: NodeId, rtt: Duration, now: Instant) {
        if let Some(peer) = self.peer(&node) {
            peer.rtt = Some(rtt);
            peer.answered = Some(now);
        }
    }

    /// How long ago the node answered this one, and how long ago its own word came, by whatever way.
    pub(super) fn heard_of(&self, node: &NodeId, now: Instant) -> (Option<Duration>, Option<Duration>) {
        let age = |at: Instant| now.saturating_duration_since(at);
        let Some(peer) = self.peers.get(node) else { return (None, None) };
        (peer.answered.map(age), peer.presence.as_ref().map(|(_, at)| age(*at)))
    }

    /// A connection stands. It counts when the peer has said which chain it follows.
    pub(super) fn established(&mut self, node: NodeId, connections: u32, now: Instant) {
        if let Some(peer) = self.entry(node, now, true) {
            if peer.established == 0 {
                peer.since = now;
                peer.identified = false;
            }
            peer.established = connections;
            peer.dialing = false;
            peer.touched = now;
        }
    }

    /// The peer follows this chain. True when that is news.
    pub(super) fn identified(&mut self, node: NodeId) -> bool {
        self.peer(&node).is_some_and(|peer| {
            peer.asked = false;
            peer.established > 0 && !std::mem::replace(&mut peer.identified, true)
        })
    }

    /// A connection has ended; so many are left. True when the peer is no longer connected, and was.
    pub(super) fn lost(&mut self, node: NodeId, connections: u32, now: Instant) -> bool {
        let cap = self.cap(&node);
        let first = if self.local < node { REDIAL_FIRST } else { REDIAL_SECOND };
        let Some(peer) = self.peer(&node) else { return false };
        let was = peer.connected();
        peer.established = connections;
        peer.touched = now;
        if connections == 0 {
            peer.rtt = None;
            if peer.identified && now.saturating_duration_since(peer.since) >= STABLE {
                peer.failures = 0;
                peer.next_dial = now + first;
            } else {
                peer.back_off(now, cap);
            }
        }
        was && connections == 0
    }

    fn cap(&self, node: &NodeId) -> Duration {
        let needed = self.needed.contains(node) || self.peers.get(node).is_some_and(|peer| peer.bootstrap);
        if needed { BACK_OFF_NEEDED } else { BACK_OFF_OTHERS }
    }

    /// A dial has reached nobody.
    pub(super) fn failed(&mut self, node: NodeId, now: Instant) {
        let cap = self.cap(&node);
        if let Some(peer) = self.peer(&node) {
            peer.dialing = false;
            peer.asked = false;
            peer.back_off(now, cap);
        }
    }

    /// Somebody wants a connection now. False when no address is known, or the peer is kept away.
    pub(super) fn ask(&mut self, node: NodeId, now: Instant) -> Result<(), &'static str> {
        if self.is_blocked(&node) {
            return Err("it is kept away");
        }
        match self.peer(&node) {
            Some(peer) if peer.established > 0 || !peer.addresses.is_empty() => {
                peer.asked = true;
                peer.next_dial = now;
                Ok(())
            }
            _ => Err("no address is known"),
        }
    }

    /// Whom to dial now, and where. They count as being dialed from here on.
    pub(super) fn due(&mut self, now: Instant) -> Vec<(NodeId, Vec<Address>)> {
        let due: Vec<NodeId> =
            self.dialable().filter(|(_, peer)| peer.next_dial <= now).map(|(node, _)| *node).collect();
        let mut dials = Vec::with_capacity(due.len());
        for node in due {
            if let Some(peer) = self.peer(&node) {
                peer.dialing = true;
                dials.push((node, peer.addresses.clone()));
            }
        }
        dials
    }

    fn dialable(&self) -> impl Iterator<Item = (&NodeId, &Peer)> {
        let lonely = self.connected().count() < self.peers_wanted;
        self.peers.iter().filter(move |(node, peer)| {
            let wanted = peer.bootstrap || peer.asked || lonely || self.needed.contains(node);
            wanted && peer.established == 0 && !peer.dialing && !peer.addresses.is_empty() && !self.is_blocked(node)
        })
    }

    /// When `due` or `overdue` may next have something to say.
    pub(super) fn next(&self) -> Option<Instant> {
        let dials = self.dialable().map(|(_, peer)| peer.next_dial);
        let silent = self.peers.values().filter(|peer| peer.established > 0 && !peer.identified);
        let bans = self.peers.values().filter_map(|peer| peer.banned_until);
        dials.chain(silent.map(|peer| peer.since + IDENTIFY)).chain(bans).min()
    }

    /// Connected peers that have not said which chain they follow.
    pub(super) fn overdue(&self, now: Instant) -> Vec<NodeId> {
        let silent = |peer: &Peer| peer.established > 0 && !peer.identified && peer.since + IDENTIFY <= now;
        self.peers.iter().filter(|(_, peer)| silent(peer)).map(|(node, _)| *node).collect()
    }

    /// Adds a fault. True when the peer is to be sent away: it is banned from now on.
    pub(super) fn punish(&mut self, node: NodeId, what: Misbehaviour, ban: Duration, now: Instant) -> bool {
        let Some(peer) = self.peer(&node) else { return false };
        peer.fault = Some(what);
        if peer.penalty.add(what, now) < BAN_AT || peer.banned_until.is_some() {
            return false;
        }
        peer.banned_until = Some(now + ban);
        true
    }

    /// Keeps the peer away for a time, without fault: it follows another chain.
    pub(super) fn ban(&mut self, node: NodeId, time: Duration, now: Instant) {
        if let Some(peer) = self.peer(&node) {
            peer.banned_until = Some(now + time);
        }
    }

    /// Ends the bans that have run out and returns whose.
    pub(super) fn pardon(&mut self, now: Instant) -> Vec<NodeId> {
        let over = |peer: &Peer| peer.banned_until.is_some_and(|until| until <= now);
        let pardoned: Vec<NodeId> = self.peers.iter().filter(|(_, peer)| over(peer)).map(|(node, _)| *node).collect();
        for node in &pardoned {
            if let Some(peer) = self.peer(node) {
                peer.banned_until = None;
                peer.penalty = Penalty::none(now);
            }
        }
        pardoned
    }

    /// Exactly these are cut off from now on. Returns those that no longer are; they will be dialed at once.
    pub(super) fn set_denied(&mut self, nodes: &[NodeId], now: Instant) -> Vec<NodeId> {
        self.version += 1;
        let before = std::mem::replace(&mut self.denied, nodes.iter().copied().collect());
        let healed: Vec<NodeId> = before.difference(&self.denied).copied().collect();
        for node in &healed {
            if let Some(peer) = self.peer(node) {
                peer.failures = 0;
                peer.next_dial = now;
            }
        }
        healed
    }

    /// Whom to keep away.
    pub(super) fn is_blocked(&self, node: &NodeId) -> bool {
        self.denied.contains(node) || self.peers.get(node).is_some_and(|peer| peer.banned_until.is_some())
    }
    /// Whether any connection with the peer stands, identified or not.
    pub(super) fn has_connection(&self, node: &NodeId) -> bool {
        self.peers.get(node).is_some_and(|peer| peer.established > 0)
    }
    pub(super) fn is_connected(&self, node: &NodeId) -> bool {
        self.peers.get(node).is_some_and(Peer::connected)
    }
    pub(super) fn connected(&self) -> impl Iterator<Item = NodeId> {
        self.peers.iter().filter(|(_, peer)| peer.connected()).map(|(node, _)| *node)
    }
    pub(super) fn len(&self) -> usize {
        self.peers.len()
    }
    pub(super) fn points(&self, node: &NodeId, now: Instant) -> u32 {
        self.peers.get(node).map_or(0, |peer| peer.penalty.points(now))
    }

    pub(super) fn snapshot(&self, now: Instant) -> Vec<PeerInfo> {
        let info = |(node, peer): (&NodeId, &Peer)| PeerInfo {
            node: *node,
            addresses: peer.addresses.clone(),
            connected: peer.connected(),
            presence: peer.presence.as_ref().map(|(presence, _)| presence.clone()),
            seen: peer.presence.as_ref().map(|(_, at)| now.saturating_duration_since(*at)),
            rtt: peer.rtt,
            penalty: peer.penalty.points(now),
            blocked: self.is_blocked(node),
            fault: peer.fault,
            away_for: peer.banned_until.map(|until| until.saturating_duration_since(now)),
            standing: Standing::default(),
        };
        self.peers.iter().map(info).collect()
    }
}

#[cfg(test)]
#[path = "book_tests.rs"]
mod tests;

//! Rates: how much each peer may bring in a second, by its standing on the ledger.
//!
//! What is over a peer's rate is dropped and costs it nothing, as long as that is rare: bursts are nobody's fault. Who goes on
//! uses its patience up, and then each further piece is a fault of its own (`Misbehaviour::Flood`).
//! Memory is bounded: where very many peers come, those that are not known one by one share one rate.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::{PoisonError, RwLock};

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use crate::types::{NodeId, limits};

/// What the ledger says of a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Nothing.
    #[default]
    Stranger,
    /// It is registered and active, with this reputation of 1,000.
    Registered(u16),
    /// It votes.
    Validator,
}

impl Standing {
    /// Its share of a whole rate, in thousandths: a quarter for a stranger, up to a whole one by reputation, and two for a validator.
    pub fn share(self) -> u32 {
        match self {
            Self::Stranger => 250,
            Self::Registered(reputation) => 250_u32.saturating_add(u32::from(reputation.min(1_000)) * 3 / 4),
            Self::Validator => 2_000,
        }
    }
    /// Its name for people and programs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stranger => "stranger",
            Self::Registered(_) => "registered",
            Self::Validator => "validator",
        }
    }
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Gossip that a peer brings first: KiB, and `limits::GOSSIP_COST` for each message.
    Gossip,
    /// Questions: one each, more for those whose answers are long.
    Request,
    /// Streams of bytes that a peer opens.
    Stream,
    /// Messages of a validator: one each, and one for every 16 KiB.
    Consensus,
    /// Gossip that no node can use: KiB.
    Useless,
}

impl Kind {
    pub(super) const ALL: [Self; 5] = [Self::Gossip, Self::Request, Self::Stream, Self::Consensus, Self::Useless];

    /// Its name for people and programs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gossip => "gossip",
            Self::Request => "request",
            Self::Stream => "stream",
            Self::Consensus => "consensus",
            Self::Useless => "useless",
        }
    }

    /// The whole rate, how much may come at once, and how many pieces over it are borne.
    const fn bounds(self) -> (u32, u32, u32) {
        match self {
            Self::Gossip => (limits::GOSSIP_RATE, limits::GOSSIP_BURST, limits::PATIENCE),
            Self::Request => (limits::REQUEST_RATE, limits::REQUEST_BURST, limits::PATIENCE),
            Self::Stream => (limits::STREAM_RATE, limits::STREAM_BURST, limits::PATIENCE),
            Self::Consensus => (limits::CONSENSUS_RATE, limits::CONSENSUS_BURST, limits::CONSENSUS_PATIENCE),
            Self::Useless => (limits::USELESS_RATE, limits::USELESS_BURST, limits::USELESS_PATIENCE),
        }
    }
}

/// What becomes of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ruling {
    /// Within the rate.
    Take,
    /// Over it.
    Drop,
    /// Over it again and again: the peer is at fault.
    Flood,
}

/// Whose rate it is: nobody's in particular when too many peers are known already.
type Whose = Option<NodeId>;

struct Limit {
    rate: DefaultKeyedRateLimiter<Whose>,
    patience: DefaultKeyedRateLimiter<Whose>,
}

fn whole(value: u32) -> NonZeroU32 {
    NonZeroU32::new(value).unwrap_or(NonZeroU32::MIN)
}

impl Limit {
    fn new((rate, burst, patience): (u32, u32, u32)) -> Self {
        let rate = Quota::per_second(whole(rate)).allow_burst(whole(burst));
        // It is whole again after a minute.
        let patience = Quota::per_minute(whole(patience)).allow_burst(whole(patience));
        Self { rate: RateLimiter::keyed(rate), patience: RateLimiter::keyed(patience) }
    }

    fn known(limiter: &DefaultKeyedRateLimiter<Whose>, node: NodeId, keys_max: usize) -> Whose {
        if limiter.len() >= keys_max {
            // Those that could bring all of their burst again need not be known.
            limiter.retain_recent();
            if limiter.len() >= keys_max {
                return None;
            }
        }
        Some(node)
    }

    fn check(&self, node: NodeId, cost: NonZeroU32, keys_max: usize) -> Ruling {
        let whose = Self::known(&self.rate, node, keys_max);
        if matches!(self.rate.check_key_n(&whose, cost), Ok(Ok(()))) {
            return Ruling::Take;
        }
        // Who shares a rate with others is not at fault for them.
        let Some(whose) = whose.and(Self::known(&self.patience, node, keys_max)) else { return Ruling::Drop };
        match self.patience.check_key(&Some(whose)) {
            Ok(()) => Ruling::Drop,
            Err(_) => Ruling::Flood,
        }
    }
}

/// The rates of all peers.
pub(super) struct Rates {
    limits: BTreeMap<Kind, Limit>,
    standings: RwLock<BTreeMap<NodeId, Standing>>,
    keys_max: usize,
}

impl Default for Rates {
    fn default() -> Self {
        Self::with(limits::KNOWN_PEERS_MAX, Kind::bounds)
    }
}

impl Rates {
    fn with(keys_max: usize, bounds: impl Fn(Kind) -> (u32, u32, u32)) -> Self {
        let limits = Kind::ALL.into_iter().map(|kind| (kind, Limit::new(bounds(kind)))).collect();
        Self { limits, standings: RwLock::default(), keys_max }
    }

    /// Exactly these have a standing from now on.
    pub(super) fn set_standings(&self, standings: BTreeMap<NodeId, Standing>) {
        *self.standings.write().unwrap_or_else(PoisonError::into_inner) = standings;
    }

    pub(super) fn standing(&self, node: &NodeId) -> Standing {
        self.standings.read().unwrap_or_else(PoisonError::into_inner).get(node).copied().unwrap_or_default()
    }

    /// Counts a piece of this cost.
    pub(super) fn check(&self, kind: Kind, node: NodeId, cost: usize) -> Ruling {
        let share = self.standing(&node).share();
        let scaled = (cost as u64).saturating_mul(1_000).div_ceil(u64::from(share)).max(1);
        let scaled = whole(u32::try_from(scaled).unwrap_or(u32::MAX));
        self.limits.get(&kind).map_or(Ruling::Take, |limit| limit.check(node, scaled, self.keys_max))
    }
}

/// What a gossip message of this length counts.
pub(super) fn gossip_cost(bytes: usize) -> usize {
    limits::GOSSIP_COST.saturating_add(bytes / 1_024)
}

/// What a consensus message of this length counts.
pub(super) fn consensus_cost(bytes: usize) -> usize {
    1_usize.saturating_add(bytes / (16 << 10))
}

/// What so many bytes that no node can use count.
pub(super) fn useless_cost(bytes: usize) -> usize {
    bytes.div_ceil(1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(n: u8) -> NodeId {
        NodeId::from_bytes([n; 32])
    }

    /// A rate that hardly refills while a test runs: 1,000 at once, and 4 pieces beyond it are borne.
    fn rates(keys_max: usize) -> Rates {
        Rates::with(keys_max, |_| (1, 1_000, 4))
    }

    fn taken(rates: &Rates, from: NodeId) -> usize {
        (0..5_000).take_while(|_| rates.check(Kind::Gossip, from, 1) == Ruling::Take).count()
    }

    #[test]
    fn what_a_peer_may_bring_grows_with_its_reputation() {
        let rates = rates(16);
        let standings = [
            (node(2), Standing::Registered(0)),
            (node(3), Standing::Registered(500)),
            (node(4), Standing::Registered(1_000)),
            (node(5), Standing::Validator),
        ];
        rates.set_standings(BTreeMap::from(standings));
        let brought: Vec<_> = (1..=5).map(|n| taken(&rates, node(n))).collect();
        assert_eq!(brought, [250, 250, 500, 1_000, 1_000], "a piece of a validator costs no less than one unit");
        let large = |n| (0..50).take_while(|_| rates.check(Kind::Request, node(n), 100) == Ruling::Take).count();
        assert_eq!([large(1), large(4), large(5)], [2, 10, 20]);
    }

    #[test]
    fn one_over_its_rate_is_dropped_first_and_at_fault_only_when_it_goes_on() {
        let rates = rates(16);
        assert_eq!(taken(&rates, node(1)), 250);
        // `taken` has used one piece of the patience.
        let rulings: Vec<_> = (0..5).map(|_| rates.check(Kind::Gossip, node(1), 1)).collect();
        assert_eq!(rulings, [Ruling::Drop, Ruling::Drop, Ruling::Drop, Ruling::Flood, Ruling::Flood]);
        assert_eq!(rates.check(Kind::Gossip, node(2), 1), Ruling::Take, "another one's rate is its own");
        assert_eq!(rates.check(Kind::Request, node(1), 1), Ruling::Take, "and each kind has its own");
    }

    #[test]
    fn peers_beyond_the_bound_share_a_rate_take_no_memory_and_are_not_blamed_for_each_other() {
        let rates = rates(4);
        for n in 1..=100 {
            for _ in 0..20 {
                assert_ne!(rates.check(Kind::Gossip, node(n), 50), Ruling::Flood, "peer {n} in a crowd");
                if n <= 4 {
                    break;
                }
            }
        }
        assert!(rates.limits[&Kind::Gossip].rate.len() <= 5);
        assert_eq!(rates.check(Kind::Gossip, node(101), 1), Ruling::Drop);
    }

    #[test]
    fn every_message_within_the_limits_fits_the_least_share() {
        let largest = [
            (Kind::Gossip, gossip_cost(limits::GOSSIP_BYTES_MAX + limits::GOSSIP_ENVELOPE_BYTES_MAX)),
            (Kind::Consensus, consensus_cost(limits::CONSENSUS_MESSAGE_BYTES_MAX)),
            (Kind::Useless, useless_cost(limits::GOSSIP_BYTES_MAX)),
            (Kind::Request, limits::REQUEST_COST_LONG),
            (Kind::Stream, 1),
        ];
        let rates = Rates::default();
        for (kind, cost) in largest {
            assert_eq!(rates.check(kind, node(1), cost), Ruling::Take, "{kind:?} of {cost}");
        }
    }
}

//! What a peer did wrong, and what that costs it.
//!
//! Only what the peer itself must have known to be wrong counts: not what it forwards in good faith, not
//! slowness, not a question that this node cannot answer.

use std::time::{Duration, Instant};

/// A peer's own fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misbehaviour {
    /// Forwarded gossip that every honest node refuses.
    InvalidGossip,
    /// Sent a consensus message with a wrong signature or shape.
    InvalidConsensus,
    /// Answered a request, or served a slot, with bytes that are provably wrong.
    InvalidAnswer,
    /// Announced a message longer than the limit.
    Oversized,
    /// Broke a protocol in a way that no version of this program does.
    Protocol,
    /// Went on for long with more than its rate (`rates`).
    Flood,
}

impl Misbehaviour {
    /// Its name for people and programs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::InvalidGossip => "invalid_gossip",
            Self::InvalidConsensus => "invalid_consensus",
            Self::InvalidAnswer => "invalid_answer",
            Self::Oversized => "oversized",
            Self::Protocol => "protocol",
            Self::Flood => "flood",
        }
    }
    /// Points; `BAN_AT` of them end the connection.
    const fn points(self) -> u32 {
        match self {
            Self::InvalidGossip | Self::Flood => 10,
            Self::InvalidConsensus | Self::InvalidAnswer => 20,
            Self::Oversized | Self::Protocol => 50,
        }
    }
}

/// Points at which a peer is sent away.
pub(super) const BAN_AT: u32 = 100;
/// One point is forgiven in this time.
const FORGIVEN_EACH: Duration = Duration::from_secs(1);

/// A peer's points. They fade.
#[derive(Clone, Copy, Debug)]
pub(super) struct Penalty {
    points: u32,
    at: Instant,
}

impl Penalty {
    pub(super) fn none(now: Instant) -> Self {
        Self { points: 0, at: now }
    }
    pub(super) fn points(&self, now: Instant) -> u32 {
        let forgiven = now.saturating_duration_since(self.at).as_secs() / FORGIVEN_EACH.as_secs();
        self.points.saturating_sub(u32::try_from(forgiven).unwrap_or(u32::MAX))
    }
    /// Adds the points and returns the sum.
    pub(super) fn add(&mut self, what: Misbehaviour, now: Instant) -> u32 {
        self.points = self.points(now).saturating_add(what.points());
        self.at = now;
        self.points
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_add_up_and_fade() {
        let start = Instant::now();
        let mut penalty = Penalty::none(start);
        assert_eq!(penalty.add(Misbehaviour::Oversized, start), 50);
        assert_eq!(penalty.add(Misbehaviour::Oversized, start), BAN_AT);
        assert_eq!(penalty.points(start + Duration::from_secs(30)), 70);
        assert_eq!(penalty.points(start + Duration::from_secs(3_000)), 0);
        assert_eq!(penalty.add(Misbehaviour::InvalidGossip, start + Duration::from_secs(95)), 15);
    }
}

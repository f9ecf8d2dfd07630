//! The version of the rules: which one is in force, and how validators move to the next.
//!
//! A validator says by a transaction which version it is ready for. When more than two thirds of the power that votes in the next
//! epoch are ready for a later one, that epoch is the notice, and the one after it begins with the new version. So whoever has not
//! updated has an epoch to do it, and everybody knows the height.

use borsh::{BorshDeserialize, BorshSerialize};

use super::effects::Event;
use super::record::ValidatorEntry;
use super::stake::Stake;
use crate::types::Epoch;
use crate::wire::block::BLOCK_VERSION_FIRST;

/// The version of the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Protocol {
    /// The one in force for the next block, as its header has it.
    pub version: u16,
    /// The one that comes, and the first epoch that has it.
    pub next: Option<(u16, Epoch)>,
}

impl Default for Protocol {
    fn default() -> Self {
        Self { version: BLOCK_VERSION_FIRST, next: None }
    }
}

/// What an epoch's end makes of it: the version of the epoch that begins, and whether a later one is on its way. Once that is so, it
/// comes.
pub(super) fn turn(now: Protocol, next: Epoch, set: &[ValidatorEntry], stakes: &[Stake]) -> (Protocol, Option<Event>) {
    if let Some((version, from)) = now.next {
        return match from <= next {
            true => (Protocol { version, next: None }, Some(Event::ProtocolChanged { version })),
            false => (now, None),
        };
    }
    let ready = |version: u16| {
        let says =
            |entry: &&ValidatorEntry| stakes.iter().any(|stake| stake.node == entry.node && stake.ready >= version);
        set.iter().filter(says).fold(0_u128, |sum, entry| sum.saturating_add(entry.power.into()))
    };
    let all = set.iter().fold(0_u128, |sum, entry| sum.saturating_add(entry.power.into()));
    let enough = |version: &u16| ready(*version).saturating_mul(3) > all.saturating_mul(2);
    let later = stakes.iter().map(|stake| stake.ready).filter(|version| *version > now.version);
    let (Some(version), Some(from)) = (later.filter(enough).max(), next.next()) else { return (now, None) };
    (Protocol { next: Some((version, from)), ..now }, Some(Event::ProtocolScheduled { version, from }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{AccountId, Amount, Height, NodeId};

    /// Validators of this power that are ready for these versions.
    fn told(ready: &[(u64, u16)]) -> (Vec<ValidatorEntry>, Vec<Stake>) {
        let account = AccountId::from_bytes([9; 32]);
        let node = |n: usize| NodeId::from_bytes([u8::try_from(n).expect("few"); 32]);
        let entries =
            ready.iter().enumerate().map(|(n, (power, _))| ValidatorEntry { node: node(n), power: *power, account });
        let stakes = ready.iter().enumerate().map(|(n, (power, ready))| Stake {
            ready: *ready,
            ..Stake::new(node(n), account, Amount::new(*power), Height::GENESIS)
        });
        (entries.collect(), stakes.collect())
    }

    fn after(now: Protocol, next: u64, ready: &[(u64, u16)]) -> Protocol {
        let (set, stakes) = told(ready);
        turn(now, Epoch::new(next), &set, &stakes).0
    }

    #[test]
    fn a_version_comes_with_the_epoch_after_the_one_in_which_more_than_two_thirds_are_ready() {
        let first = Protocol::default();
        assert_eq!(after(first, 4, &[(1, 2), (1, 2), (1, 0)]), first, "two thirds are not enough");
        let scheduled = after(first, 4, &[(3, 2), (3, 2), (2, 0)]);
        assert_eq!(scheduled, Protocol { version: 1, next: Some((2, Epoch::new(5))) });
        assert_eq!(after(scheduled, 5, &[(1, 0)]), Protocol { version: 2, next: None }, "what is announced comes");
        assert_eq!(after(Protocol { version: 2, next: None }, 6, &[(1, 1)]).version, 2, "it never goes back");
    }

    #[test]
    fn the_latest_version_that_enough_are_ready_for_comes_and_who_does_not_vote_does_not_count() {
        let first = Protocol::default();
        assert_eq!(after(first, 1, &[(5, 3), (5, 2), (4, 9)]).next, Some((2, Epoch::new(2))));
        assert_eq!(after(first, 1, &[(1, 7), (1, 7), (1, 7), (1, 0)]).next, Some((7, Epoch::new(2))));
        let (set, mut stakes) = told(&[(1, 0), (1, 0)]);
        let candidate = Stake {
            ready: 5,
            ..Stake::new(
                NodeId::from_bytes([99; 32]),
                AccountId::from_bytes([9; 32]),
                Amount::new(100),
                Height::GENESIS,
            )
        };
        stakes.push(candidate);
        assert_eq!(turn(first, Epoch::new(1), &set, &stakes).0, first);
    }

    #[test]
    fn the_largest_numbers_do_no_harm() {
        let all = after(Protocol::default(), u64::MAX - 1, &[(u64::MAX, u16::MAX), (u64::MAX, u16::MAX)]);
        assert_eq!(all.next, Some((u16::MAX, Epoch::new(u64::MAX))));
        assert_eq!(after(Protocol::default(), u64::MAX, &[(1, 2)]).next, None);
    }
}

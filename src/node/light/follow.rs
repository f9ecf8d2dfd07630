//! Following: which header is the last final one, by proofs alone, and the proof that a quorum certified two.

use std::collections::{BTreeMap, VecDeque};

use borsh::{BorshDeserialize, BorshSerialize};

use super::question::Head;
use super::trust::Trusted;
use crate::node::bundle::BundleError;
use crate::types::Height;
use crate::wire::{Certificate, Header};

/// How many steps back what is trusted is kept: so far apart may the heights of peers be for their words to be compared.
const TRAIL: usize = 8;
/// Headers that others are compared with.
const RECENT: usize = 64;

/// Two headers of one height, each certified: more than a third of the validators signed both histories.
#[derive(Clone, Debug, PartialEq, BorshSerialize, BorshDeserialize)]
pub struct Conflict {
    /// The one that came first, certified by the last header of its run.
    pub first: (Vec<Header>, Certificate),
    /// The other.
    pub second: (Vec<Header>, Certificate),
}

impl Conflict {
    /// The height at which the histories differ, as far as they are here.
    pub fn height(&self) -> Height {
        let header = self.second.0.iter().find(|second| {
            self.first.0.iter().any(|first| first.height == second.height && first.hash() != second.hash())
        });
        header.map_or(self.second.1.height, |header| header.height)
    }
}

/// Why a head is not taken.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// It proves nothing.
    Lie(BundleError),
    /// It proves another history than one that was proven before.
    Conflict(Box<Conflict>),
}

/// What is known of the chain.
pub struct Follower {
    trail: VecDeque<Trusted>,
    latest: Option<Header>,
    recent: BTreeMap<Height, (Vec<Header>, Certificate)>,
}

impl Follower {
    /// Begins with what is trusted.
    pub fn new(trusted: Trusted) -> Self {
        Self { trail: VecDeque::from([trusted]), latest: None, recent: BTreeMap::new() }
    }

    /// What answers are checked against: not the newest, so that those of peers somewhat behind can be checked too.
    pub fn base(&self) -> &Trusted {
        self.trail.front().expect("it begins with one, and the last is never taken out")
    }
    /// The newest that is trusted.
    pub fn newest(&self) -> &Trusted {
        self.trail.back().expect("it begins with one, and the last is never taken out")
    }
    /// The last final header that was proven.
    pub fn latest(&self) -> Option<&Header> {
        self.latest.as_ref()
    }
    /// The last height that was proven.
    pub fn height(&self) -> Height {
        self.latest.as_ref().map_or(self.newest().height, |latest| latest.height)
    }

    /// Takes what a peer proves. Says whether that is newer than what was known. One from before the base is passed over: an
    /// honest peer may be behind. Errors: `Lie`, `Conflict`; then nothing is changed.
    pub fn take(&mut self, head: &Head) -> Result<bool, Fault> {
        let last =
            if head.is_partial() { head.changes.last().map(|change| &change.header) } else { head.headers.last() };
        if last.is_none_or(|last| last.height <= self.base().height) {
            return Ok(false);
        }
        let mut trusted = self.base().clone();
        head.verify(&mut trusted).map_err(Fault::Lie)?;
        let changes = head.changes.iter().map(|change| (vec![change.header.clone()], change.certificate.clone()));
        let mut proven: Vec<_> = changes.collect();
        if !head.is_partial() {
            proven.push((head.headers.clone(), head.certificate.clone()));
            // What is checked already holds for it.
            trusted.advance(&head.headers, &head.certificate).map_err(Fault::Lie)?;
        }
        for (headers, certificate) in &proven {
            for header in headers {
                self.compare(header, headers, certificate)?;
            }
        }
        for (headers, certificate) in proven {
            for header in &headers {
                self.recent.insert(header.height, (headers.clone(), certificate.clone()));
            }
        }
        while self.recent.len() > RECENT {
            self.recent.pop_first();
        }
        let newer = last.filter(|last| last.height > self.height()).cloned();
        if trusted.height > self.newest().height {
            if head.is_partial() {
                // The rest of the changes is asked for from here on.
                self.trail.clear();
            }
            self.trail.push_back(trusted);
            if self.trail.len() > TRAIL {
                self.trail.pop_front();
            }
        }
        let advanced = newer.is_some();
        self.latest = newer.or_else(|| self.latest.take());
        Ok(advanced)
    }

    fn compare(&self, header: &Header, headers: &[Header], certificate: &Certificate) -> Result<(), Fault> {
        let Some(known) = self.recent.get(&header.height) else { return Ok(()) };
        let same = known.0.iter().find(|known| known.height == header.height);
        if same.is_some_and(|known| known.hash() == header.hash()) {
            return Ok(());
        }
        let second = (headers.to_vec(), certificate.clone());
        Err(Fault::Conflict(Box::new(Conflict { first: known.clone(), second })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::bundle::fixtures::{certify, header, key, set};
    use crate::node::light::trust::SetChange;
    use crate::node::testing;
    use crate::types::{Millis, limits};

    #[test]
    fn heads_are_followed_over_changes_and_two_certified_headers_of_a_height_are_a_conflict() {
        let genesis = testing::genesis();
        let (one, two) = (vec![testing::validator()], vec![testing::validator(), key(20)]);
        let mut follower = Follower::new(Trusted::genesis(&genesis).expect("a genesis"));
        let head = |header: &Header, by: &[_], changes: &[SetChange]| Head {
            changes: changes.to_vec(),
            headers: vec![header.clone()],
            certificate: certify(&genesis, header, by),
        };
        let five = header(&genesis, 5, &one, &one);
        assert_eq!(follower.take(&head(&five, &one, &[])), Ok(true));
        assert_eq!(follower.take(&head(&five, &one, &[])), Ok(false), "a second time it is no news");
        assert_eq!(follower.take(&head(&header(&genesis, 3, &one, &one), &one, &[])), Ok(false), "who is behind");
        let end = header(&genesis, 20, &one, &two);
        let change = SetChange { certificate: certify(&genesis, &end, &one), header: end, next: set(&two) };
        let late = header(&genesis, 30, &two, &two);
        let unproven = follower.take(&head(&late, &two, &[]));
        assert!(matches!(unproven, Err(Fault::Lie(_))), "by validators that nobody named: {unproven:?}");
        let half = head(&late, &two[..1], std::slice::from_ref(&change));
        assert!(matches!(follower.take(&half), Err(Fault::Lie(_))), "by less than a quorum");
        assert_eq!(follower.height(), Height::new(5), "what proves nothing changes nothing");
        assert_eq!(follower.take(&head(&late, &two, std::slice::from_ref(&change))), Ok(true));
        assert_eq!((follower.height(), &follower.newest().set), (Height::new(30), &set(&two)));
        let mut other = late.clone();
        other.time = other.time.saturating_add(Millis::new(1));
        match follower.take(&head(&other, &two, &[change])) {
            Err(Fault::Conflict(conflict)) => {
                assert_eq!((&conflict.first.0[0], &conflict.second.0[0]), (&late, &other));
            }
            taken => panic!("two certified headers of height 30: {taken:?}"),
        }
    }

    #[test]
    fn more_changes_than_one_answer_holds_are_followed_in_steps() {
        let genesis = testing::genesis();
        let max = limits::CHANGES_PER_ANSWER_MAX;
        let keys = |n: usize| match n {
            0 => vec![testing::validator()],
            n => vec![key(100 + u8::try_from(n % 100).expect("it is small"))],
        };
        let change = |n: usize| {
            let height = u64::try_from(n + 1).expect("few") * genesis.epoch_blocks;
            let header = header(&genesis, height, &keys(n), &keys(n + 1));
            SetChange { certificate: certify(&genesis, &header, &keys(n)), header, next: set(&keys(n + 1)) }
        };
        let count = max + 6;
        let all: Vec<_> = (0..count).map(change).collect();
        let last = keys(count);
        let tip = header(&genesis, u64::try_from(count + 1).expect("few") * genesis.epoch_blocks - 3, &last, &last);
        let mut follower = Follower::new(Trusted::genesis(&genesis).expect("a genesis"));
        // As a node answers: from what is known on, and no more than fit.
        for _ in 0..2 {
            let since = follower.base().height;
            let changes = all.iter().filter(|change| change.header.height > since).take(max).cloned().collect();
            let head = Head { changes, headers: vec![tip.clone()], certificate: certify(&genesis, &tip, &last) };
            assert_eq!(follower.take(&head), Ok(true));
        }
        assert_eq!((follower.height(), &follower.newest().set), (tip.height, &set(&last)));
    }

    #[test]
    fn words_of_peers_some_heights_apart_are_compared() {
        let genesis = testing::genesis();
        let one = vec![testing::validator()];
        let mut follower = Follower::new(Trusted::genesis(&genesis).expect("a genesis"));
        let head = |header: &Header| Head {
            changes: Vec::new(),
            headers: vec![header.clone()],
            certificate: certify(&genesis, header, &one),
        };
        for height in 1..8 {
            assert_eq!(follower.take(&head(&header(&genesis, height, &one, &one))), Ok(true));
        }
        let mut other = header(&genesis, 4, &one, &one);
        other.reveal = [9; 32];
        assert!(matches!(follower.take(&head(&other)), Err(Fault::Conflict(_))));
    }
}

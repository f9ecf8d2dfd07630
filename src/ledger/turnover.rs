//! Turnover: who votes from the next epoch on, as it follows from the stakes at the end of an epoch.
//!
//! In one epoch a third of the power goes at most, and as much comes (at least one unit each, so that small sets change
//! too); what is more waits, oldest wish first. So who was in the set is never outvoted at once by newcomers, and a set
//! does not lose its quorum to candidates that are not there. A key that takes the place of another counts as both; one
//! that is heavier than the bound is let through alone.

use std::collections::BTreeMap;

use super::effects::Event;
use super::record::ValidatorEntry;
use super::stake::{JAIL_LEAST, Stake, ValidatorParams, power_of};
use crate::types::{AccountId, Amount, Epoch, Height, NodeId, limits};

/// What an epoch ends with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turnover {
    /// The validators of the next epoch, ascending by node.
    pub set: Vec<ValidatorEntry>,
    /// The stakes from then on.
    pub stakes: Vec<Stake>,
    /// Credits that go back to their accounts.
    pub returned: Vec<(AccountId, Amount)>,
    /// What happened.
    pub events: Vec<Event>,
}

/// How an epoch ended.
pub struct Ended<'a> {
    /// The next epoch.
    pub next: Epoch,
    /// The validators of the epoch that ends, ascending by node.
    pub set: &'a [ValidatorEntry],
    /// The places in it of those that lost most of their views.
    pub missed: &'a [u16],
}

impl Ended<'_> {
    /// Each validator of the epoch, and whether it led most of its views to their end.
    pub fn duties(&self) -> impl Iterator<Item = (&ValidatorEntry, bool)> {
        let missed = |place: usize| self.missed.iter().any(|missed| usize::from(*missed) == place);
        self.set.iter().enumerate().map(move |(place, entry)| (entry, !missed(place)))
    }
}

/// The most power that may go, and that may come, in one epoch.
pub fn step(set: &[ValidatorEntry]) -> u64 {
    (total(set.iter().map(|entry| entry.power)) / 3).max(1)
}

fn total(powers: impl Iterator<Item = u64>) -> u64 {
    powers.fold(0, u64::saturating_add)
}

/// The turnover of an epoch. `ready` says of a node whether it could vote and propose in the next one.
pub fn turn(
    params: &ValidatorParams,
    ended: &Ended<'_>,
    stakes: &[Stake],
    ready: impl Fn(&NodeId) -> bool,
) -> Turnover {
    let mut turn = Turn {
        params,
        next: ended.next,
        powers: ended.set.iter().map(|entry| (entry.node, entry.power)).collect(),
        stakes: stakes.to_vec(),
        goes: step(ended.set),
        comes: step(ended.set),
        events: Vec::new(),
    };
    // Who asked first, or was jailed, has its turn first.
    turn.stakes.sort_by_key(|stake| (stake.jailed.is_none(), stake.since, stake.node));
    turn.count_absence(ended);
    turn.rotate(&ready);
    turn.lower();
    turn.raise(&ready);
    let returned = turn.unbond();
    let Turn { powers, mut stakes, mut events, .. } = turn;
    stakes.sort_by_key(|stake| stake.node);
    let account = |node: &NodeId| stakes.iter().find(|stake| stake.node == *node).map(|stake| stake.account);
    let entry =
        |(node, power): (&NodeId, &u64)| Some(ValidatorEntry { node: *node, power: *power, account: account(node)? });
    let set: Vec<_> = powers.iter().filter_map(entry).collect();
    if set != ended.set {
        events.push(Event::ValidatorSetChanged {
            epoch: ended.next,
            validators: u32::try_from(set.len()).unwrap_or(u32::MAX),
        });
    }
    Turnover { set, stakes, returned, events }
}

struct Turn<'a> {
    params: &'a ValidatorParams,
    next: Epoch,
    powers: BTreeMap<NodeId, u64>,
    stakes: Vec<Stake>,
    /// Power that may still go.
    goes: u64,
    /// Power that may still come.
    comes: u64,
    events: Vec<Event>,
}

impl Turn<'_> {
    fn after(&self, epochs: u32) -> Epoch {
        Epoch::new(self.next.get().saturating_add(epochs.into()))
    }
    fn power(&self, node: &NodeId) -> u64 {
        self.powers.get(node).copied().unwrap_or(0)
    }
    fn set_power(&mut self, node: NodeId, power: u64) {
        match power {
            0 => _ = self.powers.remove(&node),
            power => _ = self.powers.insert(node, power),
        }
    }

    /// Counts for how long each validator was away, and jails one that was for too long.
    fn count_absence(&mut self, ended: &Ended<'_>) {
        let away = |node: &NodeId| {
            let mut missed = ended.missed.iter().filter_map(|place| ended.set.get(usize::from(*place)));
            missed.any(|entry| entry.node == *node)
        };
        let until = self.after(self.params.jail_epochs);
        let limit = self.params.jail_after;
        let mut left =
            self.stakes.iter().filter(|stake| power_of(ended.set, &stake.node) > 0 && stake.jailed.is_none()).count();
        for stake in &mut self.stakes {
            let counts = power_of(ended.set, &stake.node) > 0 && away(&stake.node);
            stake.missed = if counts { stake.missed.saturating_add(1) } else { 0 };
            if limit > 0 && stake.missed >= limit && stake.jailed.is_none() && left >= JAIL_LEAST {
                stake.jailed = Some(until);
                left = left.saturating_sub(1);
                self.events.push(Event::ValidatorJailed { node: stake.node, until });
            }
        }
    }

    /// New keys in the place of old ones.
    fn rotate(&mut self, ready: &impl Fn(&NodeId) -> bool) {
        let until = self.after(self.params.unbonding_epochs);
        let mut first = true;
        for at in 0..self.stakes.len() {
            let Some(stake) = self.stakes.get(at) else { continue };
            let Some(new) = stake.successor.filter(|new| ready(new)) else { continue };
            let (old, power) = (stake.node, self.power(&stake.node));
            if !(first || power <= self.goes.min(self.comes)) {
                continue;
            }
            first = first && power == 0;
            (self.goes, self.comes) = (self.goes.saturating_sub(power), self.comes.saturating_sub(power));
            self.set_power(old, 0);
            self.set_power(new, power);
            if let Some(stake) = self.stakes.get_mut(at) {
                (stake.node, stake.successor, stake.missed) = (new, None, 0);
                stake.retired.push((old, until));
            }
            self.events.push(Event::ValidatorKeyRotated { old, new });
        }
    }

    /// Less power for who wants less. One unit of those who are there stays, whoever comes: newcomers may not be up.
    fn lower(&mut self) {
        for at in 0..self.stakes.len() {
            let Some(stake) = self.stakes.get(at) else { continue };
            let (node, have, want) = (stake.node, self.power(&stake.node), stake.wanted(self.params));
            let rest = total(self.powers.values().copied()).saturating_sub(1);
            let cut = have.saturating_sub(want).min(self.goes).min(rest);
            self.goes = self.goes.saturating_sub(cut);
            self.set_power(node, have.saturating_sub(cut));
        }
    }

    /// More power for who wants more, and has its place.
    fn raise(&mut self, ready: &impl Fn(&NodeId) -> bool) {
        for at in 0..self.stakes.len() {
            let Some(stake) = self.stakes.get(at) else { continue };
            let (node, have, want) = (stake.node, self.power(&stake.node), stake.wanted(self.params));
            let enters = self.powers.len() < limits::VALIDATORS_MAX && ready(&node);
            if want <= have || (have == 0 && !enters) {
                continue;
            }
            let room = limits::POWER_MAX.saturating_sub(total(self.powers.values().copied()));
            let more = want.saturating_sub(have).min(self.comes).min(room);
            self.comes = self.comes.saturating_sub(more);
            self.set_power(node, have.saturating_add(more));
        }
    }

    /// Stakes whose validator is out wait; those that have waited go back. Old keys are forgotten in time.
    fn unbond(&mut self) -> Vec<(AccountId, Amount)> {
        let (until, next) = (self.after(self.params.unbonding_epochs), self.next);
        let mut returned = Vec::new();
        for stake in &mut self.stakes {
            stake.retired.retain(|(_, until)| *until > next);
            if stake.leaving && stake.unbonds.is_none() && !self.powers.contains_key(&stake.node) {
                stake.unbonds = Some(until);
            }
        }
        let events = &mut self.events;
        self.stakes.retain(|stake| {
            let back = stake.unbonds.is_some_and(|epoch| epoch <= next);
            if back {
                returned.push((stake.account, stake.staked));
                events.push(Event::StakeReturned { node: stake.node, account: stake.account, amount: stake.staked });
            }
            !back
        });
        returned
    }
}

/// Height of the last block of the epoch with which the wishes of a height are looked at: the set changes after it.
pub fn looked_at(params: &super::record::Params, height: Height) -> Height {
    Height::new(params.next_epoch_begins(height).get().saturating_sub(1))
}

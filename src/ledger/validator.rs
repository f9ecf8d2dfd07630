//! Validators' wishes: to come, to go, to have another key, to be out of jail. They are looked at when an epoch ends (`turnover`).

use super::beacon;
use super::block::BlockContext;
use super::draft::Draft;
use super::effects::{Effects, Event};
use super::key::Key;
use super::record::{NodeEntry, Record, ValidatorEntry};
use super::reject::Reject;
use super::stake::Stake;
use super::state::State;
use crate::types::{AccountId, Amount, Epoch, NodeId, Role, limits};

pub(super) fn needs(nodes: &[&NodeId], keys: &mut Vec<Key>) {
    keys.push(Key::Stakes);
    keys.extend(nodes.iter().map(|node| Key::Node(**node)));
}

/// Whether a node can vote and propose in an epoch.
pub fn is_ready(entry: &NodeEntry, epoch: Epoch) -> bool {
    let begun = entry.beacon.next.is_none_or(|(from, _)| from <= epoch);
    entry.announcement.roles.has(Role::Validator) && begun && beacon::head_in(&entry.beacon, epoch) != [0; 32]
}

/// The stakes of a genesis: what makes up the power that it gives.
pub(super) fn genesis_stakes(validators: &[ValidatorEntry], stake_unit: u64) -> Vec<Stake> {
    let stake = |entry: &ValidatorEntry| {
        let staked = Amount::new(entry.power.saturating_mul(stake_unit));
        Stake::new(entry.node, entry.account, staked, crate::types::Height::GENESIS)
    };
    validators.iter().map(stake).collect()
}

/// The stakes, ascending by node. Needs `Key::Stakes`.
pub(super) fn stakes(draft: &Draft<'_>) -> Vec<Stake> {
    match draft.record(&Key::Stakes) {
        Some(Record::Stakes(stakes)) => stakes.clone(),
        _ => Vec::new(),
    }
}

/// The stake of a node of the sender. Errors: `NoStake`, `NodeOwner`.
fn own<'a>(stakes: &'a mut [Stake], node: &NodeId, sender: &AccountId) -> Result<&'a mut Stake, Reject> {
    let stake = stakes.iter_mut().find(|stake| stake.node == *node).ok_or(Reject::NoStake(*node))?;
    if stake.account != *sender {
        return Err(Reject::NodeOwner { node: *node, have: stake.account, need: *sender });
    }
    Ok(stake)
}

/// A node that the sender may put a stake behind. Errors: `NoNode`, `NodeOwner`, `NotValidator`.
fn eligible(draft: &Draft<'_>, node: &NodeId, sender: &AccountId) -> Result<(), Reject> {
    let entry = draft.node(node).ok_or(Reject::NoNode(*node))?;
    if entry.account != *sender {
        return Err(Reject::NodeOwner { node: *node, have: entry.account, need: *sender });
    }
    let announced = &entry.announcement;
    let fits = announced.roles.has(Role::Validator) && announced.beacon_head != [0; 32];
    if fits { Ok(()) } else { Err(Reject::NotValidator(*node)) }
}

/// Puts credits behind a node. Errors: `NoNode`, `NodeOwner`, `NotValidator`, `Jailed`, `KeyInUse`, `StakesFull`, `StakeTooSmall`,
/// `Funds`.
pub(super) fn join(
    state: &State,
    at: &BlockContext,
    sender: &AccountId,
    node: &NodeId,
    amount: Amount,
) -> Result<Effects, Reject> {
    let mut draft = Draft::new(state, at.height);
    eligible(&draft, node, sender)?;
    let mut stakes = stakes(&draft);
    let need = Amount::new(draft.params().map_or(1, |params| params.validators.stake_unit));
    let mut account = draft.account(sender);
    account.balance =
        account.balance.checked_sub(amount).ok_or(Reject::Funds { have: account.balance, need: amount })?;
    let have = match own(&mut stakes, node, sender) {
        Ok(stake) => {
            if stake.punished {
                return Err(Reject::Punished(*node));
            }
            if let Some(until) = stake.jailed {
                return Err(Reject::Jailed { node: *node, until });
            }
            let have = Reject::StakeTooSmall { have: amount, need };
            stake.staked = stake.staked.checked_add(amount).ok_or(have)?;
            (stake.leaving, stake.unbonds, stake.since) = (false, None, at.height);
            stake.staked
        }
        Err(Reject::NoStake(_)) => {
            if stakes.iter().any(|stake| stake.concerns(node)) {
                return Err(Reject::KeyInUse(*node));
            }
            if stakes.len() >= limits::STAKES_MAX {
                return Err(Reject::StakesFull { max: limits::STAKES_MAX as u64 });
            }
            let place = stakes.partition_point(|stake| stake.node < *node);
            stakes.insert(place, Stake::new(*node, *sender, amount, at.height));
            amount
        }
        Err(reject) => return Err(reject),
    };
    if have < need {
        return Err(Reject::StakeTooSmall { have, need });
    }
    draft.put_account(*sender, account);
    draft.put(Key::Stakes, Record::Stakes(stakes));
    draft.event(Event::ValidatorJoining { node: *node, stake: have });
    Ok(draft.done())
}

/// Asks for the way out. Errors: `NoStake`, `NodeOwner`, `NothingNew`.
pub(super) fn leave(state: &State, at: &BlockContext, sender: &AccountId, node: &NodeId) -> Result<Effects, Reject> {
    let mut draft = Draft::new(state, at.height);
    let mut stakes = stakes(&draft);
    let stake = own(&mut stakes, node, sender)?;
    if stake.leaving {
        return Err(Reject::Leaving(*node));
    }
    (stake.leaving, stake.since) = (true, at.height);
    draft.put(Key::Stakes, Record::Stakes(stakes));
    draft.event(Event::ValidatorLeaving(*node));
    Ok(draft.done())
}

/// Names the node that takes the place of another at the epoch's end. Errors: `NoStake`, `NodeOwner`, `Leaving`, `Jailed`, `NoNode`,
/// `NotValidator`, `KeyInUse`, `TooManyKeys`.
pub(super) fn rotate(
    state: &State,
    at: &BlockContext,
    sender: &AccountId,
    node: &NodeId,
    new: &NodeId,
) -> Result<Effects, Reject> {
    let mut draft = Draft::new(state, at.height);
    let mut stakes = stakes(&draft);
    let taken = stakes.iter().any(|stake| stake.concerns(new));
    let stake = own(&mut stakes, node, sender)?;
    if stake.leaving {
        return Err(Reject::Leaving(*node));
    }
    if let Some(until) = stake.jailed {
        return Err(Reject::Jailed { node: *node, until });
    }
    eligible(&draft, new, sender)?;
    if taken {
        return Err(Reject::KeyInUse(*new));
    }
    if stake.retired.len() >= limits::RETIRED_KEYS_MAX {
        return Err(Reject::TooManyKeys { node: *node, max: limits::RETIRED_KEYS_MAX as u64 });
    }
    (stake.successor, stake.since) = (Some(*new), at.height);
    draft.put(Key::Stakes, Record::Stakes(stakes));
    draft.event(Event::ValidatorRotating { node: *node, new: *new });
    Ok(draft.done())
}

/// Says which version of the rules a validator is ready for. Errors: `NoStake`, `NodeOwner`.
pub(super) fn ready(
    state: &State,
    at: &BlockContext,
    sender: &AccountId,
    node: &NodeId,
    version: u16,
) -> Result<Effects, Reject> {
    let mut draft = Draft::new(state, at.height);
    let mut stakes = stakes(&draft);
    own(&mut stakes, node, sender)?.ready = version;
    draft.put(Key::Stakes, Record::Stakes(stakes));
    draft.event(Event::ValidatorReady { node: *node, version });
    Ok(draft.done())
}

/// Ends a time in jail. Errors: `NoStake`, `NodeOwner`, `Punished`, `NotJailed`, `Jailed`.
pub(super) fn unjail(state: &State, at: &BlockContext, sender: &AccountId, node: &NodeId) -> Result<Effects, Reject> {
    let mut draft = Draft::new(state, at.height);
    let mut stakes = stakes(&draft);
    let stake = own(&mut stakes, node, sender)?;
    if stake.punished {
        return Err(Reject::Punished(*node));
    }
    let until = stake.jailed.ok_or(Reject::NotJailed(*node))?;
    if at.round.epoch < until {
        return Err(Reject::Jailed { node: *node, until });
    }
    (stake.jailed, stake.missed, stake.since) = (None, 0, at.height);
    draft.put(Key::Stakes, Record::Stakes(stakes));
    draft.event(Event::ValidatorUnjailed(*node));
    Ok(draft.done())
}

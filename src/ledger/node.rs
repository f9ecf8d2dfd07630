//! Node registration: who offers what to the others.

use super::beacon;
use super::block::BlockContext;
use super::effects::{Effects, Event};
use super::key::Key;
use super::record::{BeaconChain, NodeEntry, Record};
use super::reject::Reject;
use super::state::State;
use crate::types::{AccountId, ByteCount, Role};
use crate::wire::tx::NodeAnnouncement;

pub(super) fn needs(state: &State, new: &NodeAnnouncement, keys: &mut Vec<Key>) {
    let node = Key::Node(new.node);
    if state.is_loaded(&node)
        && let Some(entry) = state.node(&new.node)
    {
        keys.push(Key::Operator(entry.announcement.operator.clone()));
    }
    keys.extend([node, Key::Operator(new.operator.clone()), Key::OperatorCount]);
}

/// Registers a node, or replaces its entry. A node belongs to the account that registered it first.
/// Errors: `NodeOwner`, `Capacity`, `HoldsSlots`.
pub(super) fn register(
    state: &State,
    at: &BlockContext,
    sender: &AccountId,
    new: &NodeAnnouncement,
) -> Result<Effects, Reject> {
    let old = state.node(&new.node);
    let mut effects = Effects::default();
    let entry = match old {
        None => {
            effects.events.push(Event::NodeRegistered(new.node));
            first_entry(*sender, new.clone(), at)
        }
        Some(old) => {
            effects.events.push(Event::NodeUpdated(new.node));
            next_entry(old, sender, new, at)?
        }
    };
    count_operators(state, old, &entry, &mut effects);
    effects.put(Key::Node(new.node), Record::Node(Box::new(entry)));
    Ok(effects)
}

fn first_entry(account: AccountId, announcement: NodeAnnouncement, at: &BlockContext) -> NodeEntry {
    let beacon = BeaconChain { head: announcement.beacon_head, next: None };
    NodeEntry { account, announcement, registered: at.height, active: true, used: ByteCount::ZERO, beacon }
}

fn next_entry(
    old: &NodeEntry,
    sender: &AccountId,
    new: &NodeAnnouncement,
    at: &BlockContext,
) -> Result<NodeEntry, Reject> {
    if old.account != *sender {
        return Err(Reject::NodeOwner { node: new.node, have: old.account, need: *sender });
    }
    if new.capacity < old.used {
        return Err(Reject::Capacity { have: new.capacity, need: old.used });
    }
    if old.used > ByteCount::ZERO && !new.roles.has(Role::Storage) {
        return Err(Reject::HoldsSlots { held: old.used });
    }
    let beacon = beacon::announced(old, new.beacon_head, at.round.epoch);
    Ok(NodeEntry { announcement: new.clone(), beacon, ..old.clone() })
}

/// The operator under which a node counts: that of an active storage node.
pub(super) fn counted_operator(entry: &NodeEntry) -> Option<&str> {
    let counts = entry.active && entry.announcement.roles.has(Role::Storage);
    counts.then_some(entry.announcement.operator.as_str())
}

/// Keeps count of each operator's active storage nodes, and of the operators that have one.
fn count_operators(state: &State, old: Option<&NodeEntry>, new: &NodeEntry, effects: &mut Effects) {
    let (before, after) = (old.and_then(counted_operator), counted_operator(new));
    if before == after {
        return;
    }
    let mut operators = state.operator_count();
    if let Some(name) = before {
        let key = Key::Operator(name.to_owned());
        match state.operator(name).saturating_sub(1) {
            0 => {
                effects.remove(key);
                operators = operators.saturating_sub(1);
            }
            left => effects.put(key, Record::Operator(left)),
        }
    }
    if let Some(name) = after {
        let nodes = state.operator(name);
        if nodes == 0 {
            operators = operators.saturating_add(1);
        }
        effects.put(Key::Operator(name.to_owned()), Record::Operator(nodes.saturating_add(1)));
    }
    effects.put(Key::OperatorCount, Record::OperatorCount(operators));
}

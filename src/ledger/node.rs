//! Node registration: who offers what to the others.

use super::beacon;
use super::block::BlockContext;
use super::draft::Draft;
use super::effects::{Effects, Event};
use super::key::Key;
use super::record::{NodeEntry, OffenceKind, Record};
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
    keys.extend([node, Key::Operator(new.operator.clone()), Key::OperatorCount, Key::Offence(new.node)]);
}

/// Registers a node, or replaces its entry. A node belongs to the account that registered it first. One that was out takes part
/// again; what it lost it has to take over like any other, and its reputation stays.
/// Errors: `NodeOwner`, `Capacity`, `HoldsSlots`, `Punished`.
pub(super) fn register(
    state: &State,
    at: &BlockContext,
    sender: &AccountId,
    new: &NodeAnnouncement,
) -> Result<Effects, Reject> {
    let mut draft = Draft::new(state, at.height);
    if let Some(Record::Offence(offence)) = draft.record(&Key::Offence(new.node))
        && offence.kind == OffenceKind::FalseReceipt
    {
        return Err(Reject::Punished(new.node));
    }
    let old = state.node(&new.node);
    let entry = match old {
        None => {
            draft.event(Event::NodeRegistered(new.node));
            NodeEntry::new(*sender, new.clone(), at.height)
        }
        Some(old) => {
            draft.event(Event::NodeUpdated(new.node));
            if !old.active {
                draft.count(|tally, _| tally.returned = tally.returned.saturating_add(1));
            }
            next_entry(old, sender, new, at)?
        }
    };
    count_operators(&mut draft, old, &entry);
    draft.put_node(new.node, entry);
    Ok(draft.done())
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
    let mut entry = NodeEntry { announcement: new.clone(), beacon, ..old.clone() };
    if !old.active {
        entry.active = true;
        entry.audit.strikes = 0;
    }
    Ok(entry)
}

/// The operator under which a node counts: that of an active storage node that takes slots.
pub(super) fn counted_operator(entry: &NodeEntry) -> Option<&str> {
    let counts = entry.active && !entry.draining && entry.announcement.roles.has(Role::Storage);
    counts.then_some(entry.announcement.operator.as_str())
}

/// Keeps count of each operator's active storage nodes, and of the operators that have one.
pub(super) fn count_operators(draft: &mut Draft<'_>, old: Option<&NodeEntry>, new: &NodeEntry) {
    let (before, after) = (old.and_then(counted_operator), counted_operator(new));
    if before == after {
        return;
    }
    let state = draft.state();
    let mut operators = match draft.record(&Key::OperatorCount) {
        Some(Record::OperatorCount(count)) => *count,
        _ => 0,
    };
    if let Some(name) = before {
        let key = Key::Operator(name.to_owned());
        match state.operator(name).saturating_sub(1) {
            0 => {
                draft.remove(key);
                operators = operators.saturating_sub(1);
            }
            left => draft.put(key, Record::Operator(left)),
        }
    }
    if let Some(name) = after {
        let nodes = state.operator(name);
        if nodes == 0 {
            operators = operators.saturating_add(1);
        }
        draft.put(Key::Operator(name.to_owned()), Record::Operator(nodes.saturating_add(1)));
    }
    draft.put(Key::OperatorCount, Record::OperatorCount(operators));
}

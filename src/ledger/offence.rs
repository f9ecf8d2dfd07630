//! Offences: what a node is punished for, once. The transaction that accuses it has proven it.

use super::audit;
use super::block::BlockContext;
use super::draft::Draft;
use super::effects::{Effects, Event};
use super::key::Key;
use super::record::{Offence, Record};
use super::reject::Reject;
use super::stake::PERMILLE;
use super::state::State;
use super::validator::stakes;
use crate::types::{Amount, Epoch, NodeId};
use crate::wire::{Accusation, VerifiedTx};

/// The end of a time in jail that has none.
const FOR_GOOD: Epoch = Epoch::new(u64::MAX);

pub(super) fn needs(draft: &Draft<'_>, accusation: &Accusation, keys: &mut Vec<Key>) {
    let node = accusation.node();
    keys.extend([Key::Stakes, Key::Forfeited, Key::Offence(node)]);
    if matches!(accusation, Accusation::FalseReceipt(_)) {
        audit::expel_needs(draft, node, keys);
    }
}

/// Punishes a node, once. The stake that answers for it loses a part and never votes with the rest. Who signed for a slot that cannot be
/// is no storage node any more: it loses what it holds.
/// Errors: `NoStake` for a contradiction of who had no stake, `NoNode` for a receipt of an unknown node, `Punished`.
pub(super) fn accuse(
    state: &State,
    at: &BlockContext,
    tx: &VerifiedTx,
    accusation: &Accusation,
) -> Result<Effects, Reject> {
    let mut draft = Draft::new(state, at.height);
    let node = accusation.node();
    if draft.record(&Key::Offence(node)).is_some() {
        return Err(Reject::Punished(node));
    }
    let lost = slash(&mut draft, at, &node)?;
    match accusation {
        Accusation::Contradiction(_) if lost.is_none() => return Err(Reject::NoStake(node)),
        Accusation::Contradiction(_) => {}
        Accusation::FalseReceipt(_) => {
            let entry = draft.node(&node).ok_or(Reject::NoNode(node))?;
            if entry.active {
                audit::expel(&mut draft, node);
            }
        }
    }
    let lost = lost.unwrap_or_default();
    let offence = Offence { kind: accusation.into(), at: at.height, tx: tx.id(), lost };
    draft.put(Key::Offence(node), Record::Offence(offence));
    draft.event(Event::NodePunished { node, lost });
    Ok(draft.done())
}

/// Takes a part of the stake that answers for a node, and says how much; nothing if there is none.
/// Errors: `Punished` if it answered for another of its keys before.
fn slash(draft: &mut Draft<'_>, at: &BlockContext, node: &NodeId) -> Result<Option<Amount>, Reject> {
    let mut stakes = stakes(draft);
    let Some(stake) = stakes.iter_mut().find(|stake| stake.answers_for(node)) else { return Ok(None) };
    if stake.punished {
        return Err(Reject::Punished(*node));
    }
    let permille = draft.params().map_or(0, |params| params.validators.slash_permille);
    let parts = u128::from(stake.staked.get()).saturating_mul(permille.into());
    let share = parts.checked_div(PERMILLE.into()).and_then(|share| u64::try_from(share).ok());
    let lost = Amount::new(share.unwrap_or(0));
    stake.staked = stake.staked.checked_sub(lost).unwrap_or_default();
    (stake.punished, stake.jailed, stake.successor, stake.since) = (true, Some(FOR_GOOD), None, at.height);
    let held = match draft.record(&Key::Forfeited) {
        Some(Record::Forfeited(held)) => *held,
        _ => Amount::ZERO,
    };
    let forfeited = held.checked_add(lost).expect("all credits together fit");
    draft.put(Key::Forfeited, Record::Forfeited(forfeited));
    draft.put(Key::Stakes, Record::Stakes(stakes));
    Ok(Some(lost))
}

//! Deadlines: what falls due at a height, before the transactions of its block.

use super::draft::Draft;
use super::effects::Effects;
use super::key::Key;
use super::record::{Due, Record};
use super::state::State;
use super::{audit, deal, share};
use crate::types::{Height, limits};

/// The keys that working off a deadline reads and that are not loaded yet: load, ask again, until nothing is missing.
pub(super) fn needs(state: &State, at: Height, due: &Due) -> Vec<Key> {
    let draft = &Draft::new(state, at);
    let mut keys = vec![Key::Tally];
    match due {
        Due::PendingEnds(file) => deal::end_needs(draft, file, &mut keys),
        Due::DealEnds(file) => {
            keys.push(Key::File(*file));
            deal::time_up_needs(draft, file, &mut keys);
        }
        Due::Challenge(node) => audit::ask_needs(draft, *node, &mut keys),
        Due::AnswersEnd(node) => audit::end_needs(draft, *node, false, &mut keys),
        Due::Evict(node, below) => audit::evict_needs(draft, *node, *below, &mut keys),
    }
    keys.retain(|key| !state.is_loaded(key));
    keys
}

/// What happens at the deadline.
pub(super) fn fulfil(state: &State, at: Height, due: &Due) -> Effects {
    let mut draft = Draft::new(state, at);
    match due {
        Due::PendingEnds(file) => deal::expire(&mut draft, file),
        Due::DealEnds(file) => deal::time_up(&mut draft, file),
        Due::Challenge(node) => audit::ask(&mut draft, *node),
        Due::AnswersEnd(node) => audit::answers_end(&mut draft, *node),
        Due::Evict(node, below) => audit::evict(&mut draft, *node, *below),
    }
    draft.done()
}

/// How many slots the deadline may touch: what a block's work is counted in.
pub(super) fn slots_moved(state: &State, due: &Due) -> u32 {
    let slots = match due {
        Due::PendingEnds(file) | Due::DealEnds(file) => match state.record(&Key::File(*file)) {
            Some(Record::File(deal)) => deal.slots.len().saturating_add(share::count(state, file)),
            _ => 0,
        },
        Due::Challenge(_) | Due::AnswersEnd(_) => limits::AUDIT_SAMPLES_MAX,
        Due::Evict(..) => return limits::EVICTED_AT_ONCE,
    };
    u32::try_from(slots).unwrap_or(u32::MAX)
}

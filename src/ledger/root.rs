//! Root: which file is the root of an account's tree of folders.
//!
//! What the tree holds the ledger does not know. It keeps one name for it, and changes it only for who knows the present one: so
//! of two devices with the same keys none undoes what the other did.

use super::block::BlockContext;
use super::deal;
use super::effects::{Effects, Event};
use super::key::Key;
use super::record::{DealStatus, Record};
use super::reject::Reject;
use super::state::State;
use crate::types::{AccountId, FileId};

/// Sets the root, or takes it away.
/// Errors: `RootMoved`; of the new one `UnknownFile`, `FileOwner`, `Ended`, `NotFinal`.
pub(super) fn set(
    state: &State,
    sender: &AccountId,
    expect: Option<FileId>,
    new: Option<FileId>,
) -> Result<Effects, Reject> {
    must_be(state, sender, expect)?;
    let mut effects = Effects::default();
    match new {
        None => effects.remove(Key::Root(*sender)),
        Some(file) => {
            let deal = state.deal(&file).ok_or(Reject::UnknownFile(file))?;
            if deal.owner != *sender {
                return Err(Reject::FileOwner { file, have: deal.owner, need: *sender });
            }
            match deal.status {
                DealStatus::Final { .. } => {}
                DealStatus::Pending { .. } => return Err(Reject::NotFinal(file)),
                _ => return Err(Reject::Ended(file)),
            }
            effects.put(Key::Root(*sender), Record::Root(file));
        }
    }
    effects.events.push(Event::RootSet { account: *sender, root: new });
    Ok(effects)
}

/// Ends a deal for its owner whose root is still this one. Errors: `RootMoved`, those of `deal::delete`.
pub(super) fn collect(
    state: &State,
    at: &BlockContext,
    sender: &AccountId,
    file: &FileId,
    root: Option<FileId>,
) -> Result<Effects, Reject> {
    must_be(state, sender, root)?;
    deal::delete(state, at, sender, file)
}

fn must_be(state: &State, sender: &AccountId, expect: Option<FileId>) -> Result<(), Reject> {
    let have = match state.record(&Key::Root(*sender)) {
        Some(Record::Root(root)) => Some(*root),
        _ => None,
    };
    if have == expect { Ok(()) } else { Err(Reject::RootMoved { have, expect }) }
}

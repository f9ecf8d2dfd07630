//! Shares: a file's key, sealed to another account, for as long as the deal lasts or until a height.
//!
//! Nobody is asked whether files may be shared with it, so what strangers may do to an account's list is bounded: one open deal,
//! which has to be paid for, has one share with an account, and none is left when it ends. An account takes what it does
//! not want off its list itself.
//! A share whose time is up is passed over by whoever reads it. It has no deadline of its own: deadlines of a block are few, and
//! a flood of shares must not hold up audits. The next share of the file takes it off the ledger, or the deal's end.
//! Invariant: `Key::Shares` of a file lists exactly the accounts that have a `Key::Share` of it, and only open deals have one.

use super::block::BlockContext;
use super::deal;
use super::draft::Draft;
use super::effects::{Effects, Event};
use super::key::Key;
use super::record::{Record, Shared};
use super::reject::Reject;
use super::state::State;
use crate::crypto::PublicKey;
use crate::types::{AccountId, FileId, Height, limits};

/// The keys that sharing a file, and ending that, reads.
pub(super) fn needs(file: &FileId, keys: &mut Vec<Key>) {
    keys.extend([Key::File(*file), Key::Shares(*file)]);
}

/// How many shares a file has, if that is loaded.
pub(super) fn count(state: &State, file: &FileId) -> usize {
    let key = Key::Shares(*file);
    match state.is_loaded(&key).then(|| state.record(&key)).flatten() {
        Some(Record::Shares(list)) => list.len(),
        _ => 0,
    }
}

/// Gives an account the key of a file, and takes those shares of it off the ledger whose time is up.
/// Errors: `UnknownFile`, `FileOwner`, `Ended`, `ShareOwn`, `AccountKey`, `ShareOver`, `TooManyShares`.
pub(super) fn share(
    state: &State,
    at: &BlockContext,
    sender: &AccountId,
    file: &FileId,
    to: &AccountId,
    sealed: &[u8],
    until: Option<Height>,
) -> Result<Effects, Reject> {
    let mut draft = Draft::new(state, at.height);
    let deal = deal::owned(&draft, sender, file)?;
    if !deal.status.is_open() {
        return Err(Reject::Ended(*file));
    }
    if deal.owner == *to {
        return Err(Reject::ShareOwn(*file));
    }
    PublicKey::from_bytes(to.as_bytes()).map_err(|_| Reject::AccountKey(*to))?;
    let new = Shared { to: *to, until };
    if let Some(have) = until.filter(|_| new.is_over(at.height)) {
        return Err(Reject::ShareOver { have, need: at.height });
    }
    let mut list = listed(&draft, file);
    let over: Vec<_> = list.extract_if(.., |shared| shared.is_over(at.height) || shared.to == *to).collect();
    if list.len() >= limits::SHARES_PER_FILE_MAX {
        return Err(Reject::TooManyShares { file: *file, max: limits::SHARES_PER_FILE_MAX as u64 });
    }
    let place = list.partition_point(|shared| shared.to < *to);
    list.insert(place, new);
    over.iter().for_each(|shared| draft.remove(Key::Share(shared.to, *file)));
    draft.put(Key::Share(*to, *file), Record::Share { sealed: sealed.to_vec(), until });
    draft.put(Key::Shares(*file), Record::Shares(list));
    draft.event(Event::FileShared { file: *file, to: *to });
    Ok(draft.done())
}

/// Takes a share off the ledger, for the file's owner or for the account that it was given to.
/// Errors: `UnknownFile`, `FileOwner`, `NotShared`.
pub(super) fn unshare(
    state: &State,
    at: &BlockContext,
    sender: &AccountId,
    file: &FileId,
    to: &AccountId,
) -> Result<Effects, Reject> {
    let mut draft = Draft::new(state, at.height);
    if sender == to {
        draft.deal(file).ok_or(Reject::UnknownFile(*file))?;
    } else {
        deal::owned(&draft, sender, file)?;
    }
    let mut list = listed(&draft, file);
    let place = list.iter().position(|shared| shared.to == *to);
    list.remove(place.ok_or(Reject::NotShared { file: *file, account: *to })?);
    draft.remove(Key::Share(*to, *file));
    match list.is_empty() {
        true => draft.remove(Key::Shares(*file)),
        false => draft.put(Key::Shares(*file), Record::Shares(list)),
    }
    draft.event(Event::FileUnshared { file: *file, to: *to });
    Ok(draft.done())
}

/// Takes all shares of a file off the ledger: its deal ends. Needs `Key::Shares`.
pub(super) fn end_all(draft: &mut Draft<'_>, file: &FileId) {
    let list = listed(draft, file);
    if !list.is_empty() {
        list.iter().for_each(|shared| draft.remove(Key::Share(shared.to, *file)));
        draft.remove(Key::Shares(*file));
    }
}

fn listed(draft: &Draft<'_>, file: &FileId) -> Vec<Shared> {
    match draft.record(&Key::Shares(*file)) {
        Some(Record::Shares(list)) => list.clone(),
        _ => Vec::new(),
    }
}

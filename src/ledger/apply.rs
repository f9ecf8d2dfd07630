//! Apply: from a transaction to its effects. All branching is here, each rule in its own file.

use super::block::BlockContext;
use super::effects::Effects;
use super::key::Key;
use super::record::Record;
use super::reject::{NotNext, Reject};
use super::state::State;
use super::{deal, node, transfer};
use crate::wire::{Action, VerifiedTx};

/// The keys that `admit` and `apply` read for this transaction and that are not loaded yet. What a record names (a deal
/// its nodes) is known only once it is loaded, so: load, ask again, until nothing is missing. Two rounds always do.
pub fn needs(state: &State, at: &BlockContext, tx: &VerifiedTx) -> Vec<Key> {
    let mut keys = vec![Key::Params, Key::Account(tx.sender())];
    match tx.action() {
        Action::Transfer { to, .. } => keys.push(Key::Account(*to)),
        Action::RegisterNode(announcement) => node::needs(state, announcement, &mut keys),
        Action::CommitFile(commit) => deal::commit_needs(state, at, commit, &mut keys),
        Action::ConfirmSlots { file, .. } => keys.extend([Key::File(*file), Key::Manifest(*file)]),
        Action::DeleteFile { file } => deal::end_needs(state, file, &mut keys),
    }
    keys.retain(|key| !state.is_loaded(key));
    keys
}

/// Whether the transaction is the next one of its sender; the effect is the use of its nonce. It comes first, on its own,
/// because it holds for a rejected transaction too: each transaction is in the chain at most once, and in order.
/// Errors: `UnknownSender`, `Nonce`.
pub fn admit(state: &State, tx: &VerifiedTx) -> Result<Effects, NotNext> {
    let sender = tx.sender();
    let mut account = *state.account(&sender).ok_or(NotNext::UnknownSender(sender))?;
    let refused = NotNext::Nonce { have: tx.nonce(), need: account.nonce };
    if tx.nonce() != account.nonce {
        return Err(refused);
    }
    account.nonce = account.nonce.checked_add(1).ok_or(refused)?;
    let mut effects = Effects::default();
    effects.put(Key::Account(sender), Record::Account(account));
    Ok(effects)
}

/// What the transaction does, on a state in which it has been admitted. Reads only what `needs` names.
/// Errors: each of `Reject`; the state then keeps nothing but the used nonce.
pub fn apply(state: &State, at: &BlockContext, tx: &VerifiedTx) -> Result<Effects, Reject> {
    let sender = tx.sender();
    match tx.action() {
        Action::Transfer { to, amount, .. } => transfer::apply(state, &sender, to, *amount),
        Action::RegisterNode(announcement) => node::register(state, at, &sender, announcement),
        Action::CommitFile(commit) => deal::commit(state, at, commit),
        Action::ConfirmSlots { file, receipts } => deal::confirm(state, at, tx, file, receipts),
        Action::DeleteFile { file } => deal::delete(state, at, &sender, file),
    }
}

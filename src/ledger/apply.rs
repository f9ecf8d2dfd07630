//! Apply: from a transaction to its effects. All branching is here, each rule in its own file.

use super::block::BlockContext;
use super::draft::Draft;
use super::effects::Effects;
use super::key::Key;
use super::record::Record;
use super::reject::{NotNext, Reject};
use super::state::State;
use super::{audit, deal, node, offence, payment, root, share, slot, transfer, validator};
use crate::types::limits;
use crate::wire::{Action, VerifiedTx};

/// The keys that `admit` and `apply` read for this transaction and that are not loaded yet. What a record names (a deal
/// its nodes, a node its sums) is known only once it is loaded, so: load, ask again, until nothing is missing.
pub fn needs(state: &State, at: &BlockContext, tx: &VerifiedTx) -> Vec<Key> {
    let draft = &Draft::new(state, at.height);
    let mut keys = vec![Key::Params, Key::Account(tx.sender())];
    if !matches!(tx.action(), Action::Transfer { .. }) {
        keys.push(Key::Tally);
    }
    match tx.action() {
        Action::Transfer { to, .. } => keys.push(Key::Account(*to)),
        Action::RegisterNode(announcement) => node::needs(state, announcement, &mut keys),
        Action::CommitFile(commit) => deal::commit_needs(draft, commit, &mut keys),
        Action::ConfirmSlots { file, receipts } => deal::confirm_needs(draft, file, receipts, &mut keys),
        Action::DeleteFile { file } => deal::end_needs(draft, file, &mut keys),
        Action::ProveStorage { node, .. } => audit::end_needs(draft, *node, true, &mut keys),
        Action::TakeSlot { file, receipt } => slot::take_needs(draft, file, receipt, &mut keys),
        Action::DrainNode { node, .. } => slot::drain_needs(draft, *node, &mut keys),
        Action::SettleFile { file } => payment::settle_needs(draft, file, &mut keys),
        Action::RenewFile { file, .. } => keys.push(Key::File(*file)),
        Action::ShareFile { file, .. } | Action::UnshareFile { file, .. } => share::needs(file, &mut keys),
        Action::SetRoot { new, .. } => {
            keys.push(Key::Root(tx.sender()));
            keys.extend(new.map(Key::File));
        }
        Action::CollectFile { file, .. } => {
            keys.push(Key::Root(tx.sender()));
            deal::end_needs(draft, file, &mut keys);
        }
        Action::ValidatorJoin { node, .. } => validator::needs(&[node], &mut keys),
        Action::ValidatorRotateKey { new, .. } => validator::needs(&[new], &mut keys),
        Action::ValidatorLeave { .. } | Action::ValidatorUnjail { .. } | Action::ValidatorReady { .. } => {
            validator::needs(&[], &mut keys);
        }
        Action::Accuse(accusation) => offence::needs(draft, accusation, &mut keys),
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
        Action::ProveStorage { node, epoch, proofs } => audit::prove(state, at, &sender, *node, *epoch, proofs),
        Action::TakeSlot { file, receipt } => slot::take(state, at, tx, file, receipt),
        Action::DrainNode { node, drain } => slot::drain(state, at, &sender, *node, *drain),
        Action::SettleFile { file } => payment::settle(state, at, file),
        Action::RenewFile { file, epochs } => payment::renew(state, at, &sender, file, *epochs),
        Action::ShareFile { file, to, sealed, until } => share::share(state, at, &sender, file, to, sealed, *until),
        Action::UnshareFile { file, to } => share::unshare(state, at, &sender, file, to),
        Action::SetRoot { expect, new } => root::set(state, &sender, *expect, *new),
        Action::CollectFile { file, root } => root::collect(state, at, &sender, file, *root),
        Action::ValidatorJoin { node, stake } => validator::join(state, at, &sender, node, *stake),
        Action::ValidatorLeave { node } => validator::leave(state, at, &sender, node),
        Action::ValidatorRotateKey { node, new } => validator::rotate(state, at, &sender, node, new),
        Action::Accuse(accusation) => offence::accuse(state, at, tx, accusation),
        Action::ValidatorUnjail { node } => validator::unjail(state, at, &sender, node),
        Action::ValidatorReady { node, version } => validator::ready(state, at, &sender, node, *version),
    }
}

/// How many slots the transaction opens, ends or moves: what a block's work is counted in. Needs what `needs` names.
pub fn slots_moved(state: &State, tx: &VerifiedTx) -> u32 {
    let open = |file| state.deal(file).filter(|deal| deal.status.is_open()).map_or(0, |deal| deal.placement.len());
    let slots = match tx.action() {
        Action::CommitFile(commit) => commit.placement.len(),
        Action::ConfirmSlots { receipts, .. } => receipts.len(),
        Action::DeleteFile { file } | Action::CollectFile { file, .. } => {
            open(file).saturating_add(share::count(state, file))
        }
        Action::SettleFile { file } => open(file),
        // Those whose time is up go with it.
        Action::ShareFile { file, .. } => share::count(state, file).saturating_add(1),
        Action::UnshareFile { .. } => 1,
        Action::ProveStorage { .. } => limits::AUDIT_SAMPLES_MAX,
        Action::TakeSlot { .. } => 2,
        Action::Transfer { .. }
        | Action::RegisterNode(_)
        | Action::DrainNode { .. }
        | Action::RenewFile { .. }
        | Action::SetRoot { .. }
        | Action::ValidatorJoin { .. }
        | Action::ValidatorLeave { .. }
        | Action::ValidatorRotateKey { .. }
        | Action::Accuse(_)
        | Action::ValidatorReady { .. }
        | Action::ValidatorUnjail { .. } => 0,
    };
    u32::try_from(slots).unwrap_or(u32::MAX)
}

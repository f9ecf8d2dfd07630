//! Transfer: credits from one account to another.

use super::effects::{Effects, Event};
use super::key::Key;
use super::record::{Account, Record};
use super::reject::Reject;
use super::state::State;
use crate::crypto::PublicKey;
use crate::types::{AccountId, Amount};

/// Moves credits. An account begins with the first transfer to it; only then is its key looked at.
/// Errors: `Funds`, `BalanceOverflow`, `AccountKey`.
pub(super) fn apply(state: &State, from: &AccountId, to: &AccountId, amount: Amount) -> Result<Effects, Reject> {
    let payer = state.account(from).copied().unwrap_or_default();
    let funds = Reject::Funds { have: payer.balance, need: amount };
    let left = payer.balance.checked_sub(amount).ok_or(funds)?;
    let mut effects = Effects::default();
    if from != to {
        let receiver = match state.account(to) {
            Some(account) => *account,
            None => {
                PublicKey::from_bytes(to.as_bytes()).map(|_| Account::default()).map_err(|_| Reject::AccountKey(*to))?
            }
        };
        let overflow = Reject::BalanceOverflow { have: receiver.balance, add: amount };
        let balance = receiver.balance.checked_add(amount).ok_or(overflow)?;
        effects.put(Key::Account(*from), Record::Account(Account { balance: left, ..payer }));
        effects.put(Key::Account(*to), Record::Account(Account { balance, ..receiver }));
    }
    effects.events.push(Event::Transferred { from: *from, to: *to, amount });
    Ok(effects)
}

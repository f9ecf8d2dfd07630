//! Admission: which transactions of peers come into the mempool, and how many of one account.
//!
//! What cannot be of use is found out before its signature is verified, which costs most. An account's rate is charged for
//! what would be taken in, and only then: nobody can use up the rate of another by repeating or forging what it signs.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use super::handle::{Handle, NodeError};
use crate::types::{AccountId, limits};
use crate::wire::{self, Tx, VerifiedTx};

/// The rates of accounts. Where very many send, those that are not known one by one share one.
pub struct Admission {
    rates: DefaultKeyedRateLimiter<Option<AccountId>>,
    keys_max: usize,
}

impl Default for Admission {
    fn default() -> Self {
        Self::with(limits::ACCOUNT_TXS_RATE, limits::ACCOUNT_TXS_BURST, limits::RATE_KEYS_MAX)
    }
}

/// Transactions of a message, before any signature was looked at.
pub struct Sorted {
    /// Those that may be of use.
    pub usable: Vec<Tx>,
    /// Bytes of those whose account does not exist: nobody can use them.
    pub nobodys: usize,
    /// Bytes of those whose nonce is used up, or too far ahead.
    pub late: usize,
}

impl Admission {
    fn with(rate: u32, burst: u32, keys_max: usize) -> Self {
        let whole = |value| NonZeroU32::new(value).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::per_second(whole(rate)).allow_burst(whole(burst));
        Self { rates: RateLimiter::keyed(quota), keys_max }
    }

    fn within_rate(&self, account: AccountId) -> bool {
        let mut whose = Some(account);
        if self.rates.len() >= self.keys_max {
            // Those that could send all of their burst again need not be known.
            self.rates.retain_recent();
            if self.rates.len() >= self.keys_max {
                whose = None;
            }
        }
        self.rates.check_key(&whose).is_ok()
    }

    /// Whether a transaction of a peer may come in. It is counted. Errors: why not.
    pub fn check(&self, handle: &Handle, tx: &VerifiedTx) -> Result<(), NotAdmitted> {
        handle.admits(tx)?;
        let account = tx.sender();
        self.within_rate(account).then_some(()).ok_or(NotAdmitted::OverRate(account))
    }
}

/// Why a transaction of a peer does not come in.
#[derive(Debug, thiserror::Error)]
pub enum NotAdmitted {
    /// Its account sends too many.
    #[error("account {0} sends more than {rate} transactions a second", rate = limits::ACCOUNT_TXS_RATE)]
    OverRate(AccountId),
    /// It has no place in the mempool, or this node cannot tell.
    #[error(transparent)]
    Node(#[from] NodeError),
}

/// Tells the transactions that cannot be of use from the others, by the finalized state. Errors: `Store`.
pub fn sort(handle: &Handle, txs: Vec<Tx>) -> Result<Sorted, NodeError> {
    let mut nonces = BTreeMap::new();
    let mut sorted = Sorted { usable: Vec::with_capacity(txs.len()), nobodys: 0, late: 0 };
    for tx in txs {
        let sender = tx.body.sender;
        let next = match nonces.get(&sender) {
            Some(next) => *next,
            None => *nonces.entry(sender).or_insert(handle.finalized_nonce(&sender)?),
        };
        let ahead = next.map(|next| tx.body.nonce.checked_sub(next));
        match ahead {
            Some(Some(ahead)) if ahead < limits::NONCE_AHEAD_MAX => sorted.usable.push(tx),
            Some(_) => sorted.late += wire::encode(&tx).len(),
            None => sorted.nobodys += wire::encode(&tx).len(),
        }
    }
    Ok(sorted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(n: u8) -> AccountId {
        AccountId::from_bytes([n; 32])
    }

    #[test]
    fn an_account_has_its_rate_and_takes_nothing_of_anothers() {
        let admission = Admission::with(1, 5, 16);
        assert_eq!((0..50).filter(|_| admission.within_rate(account(1))).count(), 5);
        assert!(admission.within_rate(account(2)));
    }

    #[test]
    fn accounts_beyond_the_bound_share_a_rate_and_take_no_memory() {
        let admission = Admission::with(1, 1, 4);
        let taken = (0..100).filter(|n| admission.within_rate(account(*n))).count();
        assert_eq!(taken, 5, "four, and one of all others");
        assert!(admission.rates.len() <= 5);
    }
}

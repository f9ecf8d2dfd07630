//! Whether a storage node takes an upload: by the ticket that came with it, and what the ledger knows of its account.

use crate::types::{AccountId, Amount, ChainId, Height, NodeId, limits};
use crate::wire::UploadTicket;

/// Why it does not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// Not signed by its account, or for another node or chain.
    #[error("the upload ticket is not signed by account {0} for this node")]
    Signature(AccountId),
    /// Too old.
    #[error("the upload ticket held until block {expires}, this node is at {tip}; is the sender's node behind?")]
    Expired {
        /// Its last height.
        expires: Height,
        /// This node's height.
        tip: Height,
    },
    /// Holds longer than any ticket may.
    #[error("the upload ticket holds until block {expires}, this node is at {tip} and takes {max} blocks at most; it may be behind", max = limits::TICKET_BLOCKS_MAX)]
    TooLong {
        /// Its last height.
        expires: Height,
        /// This node's height.
        tip: Height,
    },
    /// The account has too little, or is not on the ledger.
    #[error("account {account} has {have} credits; to upload here it needs {need}")]
    Balance {
        /// The account.
        account: AccountId,
        /// What it has.
        have: Amount,
        /// What it needs.
        need: Amount,
    },
}

/// Who is asked, and where it stands.
pub struct Gate {
    /// The chain.
    pub chain: ChainId,
    /// The storage node.
    pub node: NodeId,
    /// Its height.
    pub tip: Height,
    /// Credits that an account must have.
    pub min_balance: Amount,
}

impl Gate {
    /// Checks a ticket; `balance` is the account's, if it is on the ledger. Errors: each of `Denial`.
    pub fn check(&self, ticket: &UploadTicket, balance: Option<Amount>) -> Result<(), Denial> {
        let (account, expires, tip) = (ticket.account, ticket.expires, self.tip);
        ticket.verify(&self.chain, &self.node).map_err(|_| Denial::Signature(account))?;
        if expires < tip {
            return Err(Denial::Expired { expires, tip });
        }
        if expires.get() - tip.get() > limits::TICKET_BLOCKS_MAX {
            return Err(Denial::TooLong { expires, tip });
        }
        match balance {
            Some(have) if have >= self.min_balance => Ok(()),
            _ => Err(Denial::Balance { account, have: balance.unwrap_or_default(), need: self.min_balance }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::SecretKey;

    const TIP: u64 = 100;
    const NEED: Amount = Amount::new(10);

    fn check(expires: u64, chain: u8, balance: Option<u64>) -> Result<(), Denial> {
        let (node, tip) = (NodeId::from_bytes([2; 32]), Height::new(TIP));
        let gate = Gate { chain: ChainId::from_bytes([1; 32]), node, tip, min_balance: NEED };
        let chain = ChainId::from_bytes([chain; 32]);
        let ticket = UploadTicket::sign(&chain, &node, [3; 32], None, Height::new(expires), &key());
        gate.check(&ticket, balance.map(Amount::new))
    }

    fn key() -> SecretKey {
        SecretKey::from_seed(&[7; 32])
    }

    #[test]
    fn a_ticket_of_an_account_with_credits_is_taken_while_it_holds() {
        for expires in [TIP, TIP + limits::TICKET_BLOCKS, TIP + limits::TICKET_BLOCKS_MAX] {
            assert_eq!(check(expires, 1, Some(10)), Ok(()));
        }
        let (tip, account) = (Height::new(TIP), key().public().account_id());
        assert_eq!(check(TIP - 1, 1, Some(10)), Err(Denial::Expired { expires: Height::new(TIP - 1), tip }));
        for expires in [TIP + limits::TICKET_BLOCKS_MAX + 1, u64::MAX] {
            assert_eq!(check(expires, 1, Some(10)), Err(Denial::TooLong { expires: Height::new(expires), tip }));
        }
        assert_eq!(check(TIP, 9, Some(10)), Err(Denial::Signature(account)));
        for (balance, have) in [(Some(9), 9), (None, 0)] {
            let have = Amount::new(have);
            assert_eq!(check(TIP, 1, balance), Err(Denial::Balance { account, have, need: NEED }));
        }
    }
}

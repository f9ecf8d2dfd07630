//! Books: what the checker knows of the ledger, kept apart from the ledger's own code.
//!
//! It books transfers and nonces by itself, from the payloads of final blocks alone, and holds every machine's state
//! against that, against the headers, and against what must hold in every state.

use std::collections::BTreeMap;
use std::fmt;

use crate::ledger::record::Account;
use crate::ledger::{Key, MemoryState, Record};
use crate::types::{AccountId, ByteCount, Height, StateRoot, TxId};
use crate::wire::block::decode_payload;
use crate::wire::{Action, Block, Tx};

use super::traffic::Traffic;
use super::verdict::Failure;

/// The books of one run.
pub struct Books {
    accounts: BTreeMap<AccountId, Account>,
    /// What was handed in, and the height at which it became final.
    txs: BTreeMap<TxId, Option<u64>>,
    /// State roots of the final blocks, from the genesis on.
    roots: Vec<StateRoot>,
    /// Final transactions.
    pub transactions: u64,
    /// Whether storage costs something. Then balances depend on it, and are only held against the supply.
    priced: bool,
    storage: Storage,
}

/// What the storage nodes of the last state have been through.
#[derive(Clone, Copy, Default)]
struct Storage {
    passed: u64,
    failed: u64,
    taken: u64,
    lost: u64,
    out: u64,
    draining: u64,
    /// Epochs that began with other validators.
    changes: u64,
}

impl Books {
    /// The books before the first block.
    pub fn new(traffic: &Traffic) -> Self {
        Self {
            accounts: accounts(&traffic.genesis),
            txs: traffic.txs.iter().map(|tx| (tx.id(), None)).collect(),
            roots: vec![traffic.genesis.root()],
            transactions: 0,
            priced: traffic.priced,
            storage: Storage::default(),
        }
    }

    /// A transaction that is made during the run.
    pub fn expect(&mut self, id: TxId) {
        self.txs.entry(id).or_insert(None);
    }

    fn height(&self) -> u64 {
        self.roots.len() as u64 - 1
    }

    /// The next block is final. Errors: it holds what it must not hold.
    pub fn enter(&mut self, block: &Block) -> Result<(), Failure> {
        let height = block.header.height.get();
        let problem = |problem: String| Failure::Payload { height, problem };
        let txs = decode_payload(&block.payload).map_err(|error| problem(error.to_string()))?;
        for tx in txs {
            let id = tx.id();
            let seen = self.txs.get_mut(&id).ok_or_else(|| problem(format!("nobody handed in {id:?}")))?;
            if let Some(before) = seen.replace(height) {
                return Err(Failure::Twice { tx: id, heights: [before, height] });
            }
            self.book(&tx).map_err(problem)?;
            self.transactions += 1;
        }
        self.roots.push(block.header.state_root);
        Ok(())
    }

    /// A nonce is used whatever comes of it; credits move if they are there.
    fn book(&mut self, tx: &Tx) -> Result<(), String> {
        let (sender, nonce) = (tx.body.sender, tx.body.nonce);
        if self.priced {
            self.accounts.entry(sender).or_default();
        }
        let payer = self.accounts.get_mut(&sender).ok_or_else(|| format!("{sender:?} has no account"))?;
        if payer.nonce != nonce {
            return Err(format!("nonce {nonce} of {sender:?}, whose next is {}", payer.nonce));
        }
        payer.nonce += 1;
        let Action::Transfer { to, amount, .. } = &tx.body.action else { return Ok(()) };
        if self.priced {
            return Ok(());
        }
        let Some(left) = payer.balance.checked_sub(*amount) else { return Ok(()) };
        payer.balance = left;
        let receiver = self.accounts.entry(*to).or_default();
        let more = receiver.balance.checked_add(*amount);
        receiver.balance = more.ok_or_else(|| format!("{to:?} has more credits than there are"))?;
        Ok(())
    }

    /// A machine has this state in use, after its last final block.
    /// Errors: it is not the one that the chain leads to, or one that no chain leads to.
    pub fn audit(&mut self, at: usize, height: u64, state: &MemoryState) -> Result<(), Failure> {
        let failed = |problem: String| Err(Failure::State { at, height, problem });
        match (self.roots.get(height as usize), state.root()) {
            (Some(need), have) if *need != have => return failed(format!("its root is {have}, the header's {need}")),
            (None, _) => return failed("no such block is final".to_owned()),
            _ => {}
        }
        if state.get(&Key::Tip).is_none_or(|tip| !matches!(tip, Record::Tip(tip) if tip.height == Height::new(height)))
        {
            return failed("it is that of another height".to_owned());
        }
        // Who is behind is at a state that was looked at before, as its root says.
        if height < self.height() {
            return Ok(());
        }
        let fits = if self.priced {
            nonces(&accounts(state)) == nonces(&self.accounts)
        } else {
            accounts(state) == self.accounts
        };
        if !fits {
            return failed("balances or nonces are not those that the transactions lead to".to_owned());
        }
        self.storage = Storage::of(state);
        state.audit().or_else(|unsound| failed(unsound.to_string()))
    }

    /// The same for a state as it comes from the disk: with its tree, and whatever its height.
    /// Errors: as `audit`; or the tree is not that of the records.
    pub fn audit_whole(&mut self, at: usize, height: u64, state: &MemoryState) -> Result<(), Failure> {
        self.audit(at, height, state)?;
        let sound = state.audit().and_then(|()| state.audit_tree());
        sound.map_err(|unsound| Failure::State { at, height, problem: unsound.to_string() })
    }
}

impl fmt::Display for Books {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} transactions final", self.transactions, self.txs.len())?;
        let Storage { passed, failed, taken, lost, out, draining, changes } = self.storage;
        if self.priced {
            write!(f, "\naudits: {passed} passed, {failed} failed; slots: {taken} taken over, {lost} lost; ")?;
            write!(f, "nodes: {out} out, {draining} draining")?;
            write!(f, "\nvalidators: {changes} changes")?;
        }
        Ok(())
    }
}

impl Storage {
    fn of(state: &MemoryState) -> Self {
        let mut seen = Self::default();
        for (key, record) in state.records() {
            seen.changes += u64::from(matches!(key, Key::Replaced(_)));
            match record {
                Record::Node(entry) => {
                    seen.passed += entry.audit.passed;
                    seen.failed += entry.audit.failed;
                    seen.out += u64::from(!entry.active);
                    seen.draining += u64::from(entry.draining);
                }
                Record::File(deal) => {
                    seen.taken += u64::from(deal.taken);
                    seen.lost += deal.lost.len() as u64;
                }
                _ => {}
            }
        }
        seen
    }
}

/// The nonces of those that have made a transaction.
fn nonces(accounts: &BTreeMap<AccountId, Account>) -> BTreeMap<AccountId, u64> {
    let used = accounts.iter().filter(|(_, account)| account.nonce > 0);
    used.map(|(id, account)| (*id, account.nonce)).collect()
}

fn accounts(state: &MemoryState) -> BTreeMap<AccountId, Account> {
    let accounts = state.records().filter_map(|(key, record)| match (key, record) {
        // Bytes of slots are looked at by the state itself.
        (Key::Account(id), Record::Account(account)) => Some((*id, Account { stored: ByteCount::ZERO, ..*account })),
        _ => None,
    });
    accounts.collect()
}

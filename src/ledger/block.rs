//! Blocks: what falls due, then transactions in their order.
//!
//! An `Executor` goes through a block step by step: `begin` takes the proposer's reveal and works off the deadlines, `push`
//! takes one transaction, `finish` ends the epoch. So a deadline finds the state that the parent left, and no transaction of the
//! block can turn what the reveal draws. A leader pushes what its mempool has and leaves out what is not next; a voter
//! calls `execute_block`, which treats that as a fault of the block. Both come to the same effects for the same list.

use std::collections::BTreeSet;

use super::apply::{admit, apply, needs, slots_moved};
use super::draft::Draft;
use super::effects::{Changes, Effects, Event, Outcome, Receipt};
use super::key::Key;
use super::promise::{reputation_gained, reputation_lost};
use super::protocol::{self, Protocol};
use super::record::{Account, Audit, NodeEntry, Params, Record, SkipList, Tip, ValidatorEntry, validator_set};
use super::reject::NotNext;
use super::state::State;
use super::{beacon, due, turnover, validator};
use crate::crypto::merkle::{self, Leaf};
use crate::types::{Epoch, Height, NodeId, Round, limits};
use crate::wire::{VerifiedTx, encode};

/// Where records come from: the finalized state, or an overlay of unfinalized blocks over it.
pub trait Reads {
    /// Why this node could not read. Never part of consensus: the caller stops.
    type Error;
    /// The record of a key, or nothing if there is none.
    fn read(&self, key: &Key) -> Result<Option<Record>, Self::Error>;
}

/// What the rules know of the block around a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockContext {
    /// The block's height.
    pub height: Height,
    /// The view in which it was first proposed.
    pub round: Round,
    /// Who proposed it.
    pub proposer: NodeId,
    /// The next preimage of the proposer's hash chain.
    pub reveal: [u8; 32],
    /// Leaders to skip in the next epoch: given with the last block of an epoch, and only with it.
    pub next_skip: Option<SkipList>,
}

/// What is wrong with a block. No honest validator votes for it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It does not follow the state it is executed on.
    #[error("height {have}, the state is before height {need}")]
    Height {
        /// The block's.
        have: Height,
        /// The next after the state.
        need: Height,
    },
    /// Its epoch is not that of its height.
    #[error("epoch {have}, its height is in epoch {need}")]
    Epoch {
        /// The block's.
        have: Epoch,
        /// The height's.
        need: Epoch,
    },
    /// The proposer is not registered.
    #[error("proposer {0} is not registered")]
    Proposer(NodeId),
    /// The reveal does not fit the proposer's hash chain.
    #[error("the reveal does not hash to the head that {0} registered")]
    Reveal(NodeId),
    /// A skip list where none belongs, none where one does, or one that fits neither epoch nor set.
    #[error(
        "the last block of an epoch, and no other, brings the next epoch's skip list, ascending and within the set"
    )]
    SkipList,
    /// A transaction that is not its sender's next.
    #[error("transaction {index}: {reason}")]
    NotNext {
        /// Its place in the block.
        index: usize,
        /// Why.
        reason: NotNext,
    },
}

/// Why a block was not executed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExecuteError<E> {
    /// The block is invalid, on every node.
    #[error(transparent)]
    Invalid(#[from] Fault),
    /// This node could not read its state.
    #[error("the state could not be read")]
    Local(#[source] E),
}

/// All that a block does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockEffects {
    /// The block's height.
    pub height: Height,
    /// The changed records; to be written, and handed to `tree::update`.
    pub changes: Changes,
    /// One for each transaction, in order.
    pub receipts: Vec<Receipt>,
    /// What happened at the beginning of the block, outside of any transaction.
    pub events: Vec<Event>,
    /// Root over the transactions, for the header.
    pub tx_root: [u8; 32],
    /// Root over the receipts, for the header.
    pub receipt_root: [u8; 32],
    /// Hash of the set that votes on the next block, for the header.
    pub next_set: [u8; 32],
}

/// Executes a whole block. Errors: `Invalid` for each `Fault`, `Local`.
pub fn execute_block<R: Reads>(
    reads: &R,
    at: BlockContext,
    txs: &[VerifiedTx],
) -> Result<BlockEffects, ExecuteError<R::Error>> {
    let mut executor = Executor::begin(reads, at)?;
    for (index, tx) in txs.iter().enumerate() {
        let pushed = executor.push(tx).map_err(ExecuteError::Local)?;
        pushed.map_err(|reason| Fault::NotNext { index, reason })?;
    }
    executor.finish().map_err(ExecuteError::Local)
}

/// A block in the making. Later transactions see the effects of earlier ones.
pub struct Executor<'a, R> {
    reads: &'a R,
    at: BlockContext,
    state: State,
    changed: BTreeSet<Key>,
    leaves: Vec<Leaf>,
    receipts: Vec<Receipt>,
    /// What fell due.
    events: Vec<Event>,
    /// Slots that transactions have moved.
    moved: u32,
}

impl<'a, R: Reads> Executor<'a, R> {
    /// Starts a block on the state of its parent, takes the proposer's reveal and works off what is due.
    /// Errors: `Height`, `Epoch`, `Proposer`, `Reveal`, `SkipList`; `Local`.
    pub fn begin(reads: &'a R, at: BlockContext) -> Result<Self, ExecuteError<R::Error>> {
        let (state, changed) = (State::new(), BTreeSet::new());
        let (leaves, receipts, events) = (Vec::new(), Vec::new(), Vec::new());
        let mut this = Self { reads, at, state, changed, leaves, receipts, events, moved: 0 };
        let first = vec![Key::Params, Key::Tip, Key::Validators, Key::Node(this.at.proposer)];
        this.load(first).map_err(ExecuteError::Local)?;
        this.check_place()?;
        let effects = this.take_reveal()?;
        this.take(effects);
        this.events = this.work_off_due().map_err(ExecuteError::Local)?;
        Ok(this)
    }
    fn params(&self) -> Params {
        *self.state.params().expect("the genesis wrote the parameters")
    }
    /// Those of the next block.
    fn validators(&self) -> &[ValidatorEntry] {
        self.state.validators().map_or(&[], Vec::as_slice)
    }
    fn tip(&self) -> Tip {
        *self.state.tip().expect("the genesis wrote the tip")
    }
    fn check_place(&self) -> Result<(), Fault> {
        let (at, params) = (&self.at, self.params());
        match self.tip().height.next() {
            Some(need) if at.height == need => {}
            need => return Err(Fault::Height { have: at.height, need: need.unwrap_or_default() }),
        }
        let (have, need) = (at.round.epoch, params.epoch_of(at.height));
        if have != need {
            return Err(Fault::Epoch { have, need });
        }
        let validators = self.state.validators().map_or(0, Vec::len);
        let fits = match (&at.next_skip, params.ends_epoch(at.height)) {
            (None, false) => true,
            (Some(list), true) => {
                let ascending = list.indices.is_sorted_by(|a, b| a < b);
                let within = list.indices.last().is_none_or(|last| usize::from(*last) < validators);
                Some(list.epoch) == need.next() && ascending && within
            }
            _ => false,
        };
        if fits { Ok(()) } else { Err(Fault::SkipList) }
    }
    fn take_reveal(&self) -> Result<Effects, Fault> {
        let (proposer, reveal) = (self.at.proposer, &self.at.reveal);
        let entry = self.state.node(&proposer).ok_or(Fault::Proposer(proposer))?;
        let chain = beacon::revealed(&entry.beacon, self.at.round.epoch, reveal).ok_or(Fault::Reveal(proposer))?;
        let tip = Tip { height: self.at.height, beacon: beacon::mix(&self.tip().beacon, reveal), ..self.tip() };
        let mut effects = Effects::default();
        effects.put(Key::Node(proposer), Record::Node(Box::new(NodeEntry { beacon: chain, ..entry.clone() })));
        effects.put(Key::Tip, Record::Tip(tip));
        Ok(effects)
    }
    /// Executes the next transaction. One that is not its sender's next leaves no trace.
    /// Errors: the outer one is this node's, the inner one the transaction's.
    pub fn push(&mut self, tx: &VerifiedTx) -> Result<Result<&Receipt, NotNext>, R::Error> {
        loop {
            let missing = needs(&self.state, &self.at, tx);
            if missing.is_empty() {
                break;
            }
            self.load(missing)?;
        }
        let have = slots_moved(&self.state, tx);
        let moved = self.moved.checked_add(have).filter(|moved| *moved <= limits::BLOCK_SLOTS_MAX);
        let Some(moved) = moved else {
            return Ok(Err(NotNext::Full { have, before: self.moved }));
        };
        match admit(&self.state, tx) {
            Ok(used_nonce) => self.take(used_nonce),
            Err(reason) => return Ok(Err(reason)),
        };
        let (outcome, events) = match apply(&self.state, &self.at, tx) {
            Ok(effects) => {
                // What is refused has moved nothing and takes no room from others.
                self.moved = moved;
                (Outcome::Applied, self.take(effects))
            }
            Err(reject) => (Outcome::Rejected(reject), Vec::new()),
        };
        let index = u32::try_from(self.receipts.len()).unwrap_or(u32::MAX);
        self.leaves.push(Leaf::of(tx.encoded()));
        let receipt = Receipt { tx: tx.id(), index, outcome, events };
        Ok(Ok(&*self.receipts.push_mut(receipt)))
    }
    /// Ends the epoch if this is its last block, and adds everything up.
    /// Errors: this node's own.
    pub fn finish(mut self) -> Result<BlockEffects, R::Error> {
        if let Some(list) = self.at.next_skip.take() {
            self.end_epoch(list)?;
        }
        let next_set = set_hash(self.validators());
        let state = &self.state;
        let changes = self.changed.into_iter().map(|key| {
            let record = state.record(&key).cloned();
            (key, record)
        });
        let receipt_leaves: Vec<_> = self.receipts.iter().map(|receipt| Leaf::of(&encode(receipt))).collect();
        Ok(BlockEffects {
            height: self.at.height,
            changes: changes.collect(),
            tx_root: merkle::root(&self.leaves),
            receipt_root: merkle::root(&receipt_leaves),
            receipts: self.receipts,
            events: self.events,
            next_set,
        })
    }
    /// The validators of the next epoch, and who of them is skipped: the list names places in the set that ends.
    fn end_epoch(&mut self, list: SkipList) -> Result<(), R::Error> {
        self.load(vec![Key::Stakes, Key::Protocol])?;
        let stakes = match self.state.record(&Key::Stakes) {
            Some(Record::Stakes(stakes)) => stakes.clone(),
            _ => Vec::new(),
        };
        let nodes = stakes.iter().flat_map(|stake| stake.successor.into_iter().chain([stake.node]));
        let voted: Vec<NodeId> = self.validators().iter().map(|entry| entry.node).collect();
        let nodes = nodes.chain(voted);
        let accounts = stakes.iter().map(|stake| Key::Account(stake.account));
        self.load(nodes.map(Key::Node).chain(accounts).collect())?;
        let old = self.validators().to_vec();
        let ended = turnover::Ended { next: list.epoch, set: &old, missed: &list.indices };
        let ready = |node: &NodeId| self.state.node(node).is_some_and(|entry| validator::is_ready(entry, list.epoch));
        let done = turnover::turn(&self.params().validators, &ended, &stakes, ready);
        let now = match self.state.record(&Key::Protocol) {
            Some(Record::Protocol(now)) => *now,
            _ => Protocol::default(),
        };
        let (next, event) = protocol::turn(now, list.epoch, &done.set, &done.stakes);
        let mut draft = Draft::new(&self.state, self.at.height);
        if next != now {
            draft.put(Key::Protocol, Record::Protocol(next));
        }
        event.into_iter().for_each(|event| draft.event(event));
        for (id, amount) in &done.returned {
            let account = draft.account(id);
            let balance = account.balance.checked_add(*amount).expect("all credits together fit");
            draft.put_account(*id, Account { balance, ..account });
        }
        for (entry, kept) in ended.duties() {
            let Some(node) = draft.node(&entry.node).cloned() else { continue };
            let before = node.audit.reputation;
            let reputation = if kept { reputation_gained(before) } else { reputation_lost(before) };
            // One that changes nothing costs the state tree nothing.
            if reputation != before {
                let audit = Audit { reputation, ..node.audit };
                draft.put_node(entry.node, NodeEntry { audit, ..node });
            }
        }
        let indices = match (validator_set(&old), validator_set(&done.set)) {
            (Ok(from), Ok(to)) => from.carry_over(&list.indices, &to),
            _ => Vec::new(),
        };
        draft.put(Key::SkipList, Record::SkipList(SkipList { epoch: list.epoch, indices }));
        draft.put(Key::Stakes, Record::Stakes(done.stakes));
        if done.set != old {
            draft.put(Key::Replaced(list.epoch), Record::Validators(old.clone()));
            draft.put(Key::Validators, Record::Validators(done.set));
        }
        done.events.into_iter().for_each(|event| draft.event(event));
        let effects = draft.done();
        let events = self.take(effects);
        self.events.extend(events);
        Ok(())
    }
    /// Works off deadlines up to this height, oldest first, at most `DUE_PER_BLOCK_MAX` and those of about
    /// `DUE_SLOTS_PER_BLOCK` slots; the rest waits in its place.
    fn work_off_due(&mut self) -> Result<Vec<Event>, R::Error> {
        let mut events = Vec::new();
        let (mut height, mut index) = self.tip().due;
        let mut moved = 0_u32;
        for _ in 0..limits::DUE_PER_BLOCK_MAX {
            if height > self.at.height || moved >= limits::DUE_SLOTS_PER_BLOCK {
                break;
            }
            let count_key = Key::DueCount(height);
            self.load(vec![count_key.clone()])?;
            let count = match self.state.record(&count_key) {
                Some(Record::DueCount(count)) => *count,
                _ => 0,
            };
            let mut done = Effects::default();
            if index < count {
                let key = Key::Due(height, index);
                self.load(vec![key.clone()])?;
                if let Some(Record::Due(due)) = self.state.record(&key).cloned() {
                    while let missing @ [_, ..] = due::needs(&self.state, self.at.height, &due).as_slice() {
                        self.load(missing.to_vec())?;
                    }
                    moved = moved.saturating_add(due::slots_moved(&self.state, &due));
                    let effects = due::fulfil(&self.state, self.at.height, &due);
                    events.extend(self.take(effects));
                }
                done.remove(key);
                index = index.saturating_add(1);
            } else {
                if count > 0 {
                    done.remove(count_key);
                }
                (height, index) = (height.next().unwrap_or(height), 0);
            }
            self.take(done);
        }
        let mut moved = Effects::default();
        moved.put(Key::Tip, Record::Tip(Tip { due: (height, index), ..self.tip() }));
        self.take(moved);
        Ok(events)
    }
    fn load(&mut self, keys: Vec<Key>) -> Result<(), R::Error> {
        for key in keys {
            if !self.state.is_loaded(&key) {
                let record = self.reads.read(&key)?;
                self.state.load(key, record);
            }
        }
        Ok(())
    }
    /// Makes effects visible to what follows.
    fn take(&mut self, effects: Effects) -> Vec<Event> {
        for (key, record) in effects.changes {
            self.changed.insert(key.clone());
            self.state.load(key, record);
        }
        effects.events
    }
}

fn set_hash(validators: &[ValidatorEntry]) -> [u8; 32] {
    validator_set(validators).map_or([0; 32], |set| set.hash())
}

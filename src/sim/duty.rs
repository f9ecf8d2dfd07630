//! Duty: what the storage nodes of a simulated ledger do, by the state that they see: they answer audits, well or badly, take
//! over lost slots, drain, come back and ask for pay.
//!
//! Who asks decides only when it is its turn, since what is asked for follows from the chain. Not here: owners (`traffic`).

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use crate::crypto::SecretKey;
use crate::files::{SlotHasher, SlotTree};
use crate::ledger::record::{Challenge, NodeEntry, Sample};
use crate::ledger::{Key, MemoryState, Record};
use crate::types::limits::{LEAF_BYTES, SLOT_BLOCK_BYTES};
use crate::types::{Amount, FileId, Height, NodeId, SlotRoot};
use crate::wire::tx::SampleProof;
use crate::wire::{Action, PublicManifest, StorageReceipt, Tx, TxBody, VerifiedTx};

use super::ring::CHAIN;
use super::traffic::UNIT;
use super::world::World;

/// What comes in at a machine.
#[derive(Clone, Debug)]
pub enum Wish {
    /// A transaction that was drawn before the run.
    Tx(VerifiedTx),
    /// A storage node's turn.
    Turn(Box<Turn>),
}

/// The turn of a storage node.
#[derive(Clone, Debug)]
pub struct Turn {
    /// The node's key; its account has the same.
    pub key: SecretKey,
    /// How well it does, of 100.
    pub luck: u64,
    /// What it may ask for, if it is a validator's.
    pub voter: Option<Voter>,
}

/// What a validator may ask for.
#[derive(Clone, Copy, Debug)]
pub struct Voter {
    /// More power.
    pub grows: bool,
    /// To leave, and to come back.
    pub leaves: bool,
}

impl World {
    /// Carries out a wish at a machine.
    pub(super) fn wish(&mut self, at: usize, wish: Wish) {
        let tx = match wish {
            Wish::Tx(tx) => tx,
            Wish::Turn(turn) => {
                let running = self.machines[at].running.is_some();
                let ledger = self.machines[at].app.ledger().filter(|_| running);
                let Some(tx) = ledger.and_then(|ledger| turn.tx(ledger.state())) else { return };
                self.checker.books.iter_mut().for_each(|books| books.expect(tx.id()));
                tx
            }
        };
        self.submit(at, tx);
    }
}

/// A slot's bytes and their tree: the same for every slot of one place and length.
struct Content {
    bytes: Vec<u8>,
    tree: SlotTree,
}

/// By place and length.
type Contents = BTreeMap<(u8, u64), Arc<Content>>;

static CONTENTS: LazyLock<Mutex<Contents>> = LazyLock::new(Mutex::default);

fn content(place: u8, len: u64) -> Arc<Content> {
    let make = || {
        let bytes = vec![place; usize::try_from(len).unwrap_or(usize::MAX)];
        let mut hasher = SlotHasher::new();
        hasher.update(&bytes);
        Arc::new(Content { bytes, tree: hasher.finish() })
    };
    let mut contents = CONTENTS.lock().unwrap_or_else(PoisonError::into_inner);
    contents.entry((place, len)).or_insert_with(make).clone()
}

/// The root of a slot.
pub fn slot_root(place: u8, len: u64) -> SlotRoot {
    *content(place, len).tree.root()
}

impl Turn {
    fn node(&self) -> NodeId {
        self.key.public().node_id()
    }

    /// What the node does now, if anything.
    fn tx(&self, state: &MemoryState) -> Option<VerifiedTx> {
        let sender = self.key.public().account_id();
        let Some(Record::Account(account)) = state.get(&Key::Account(sender)) else { return None };
        let body = TxBody { chain: CHAIN, sender, nonce: account.nonce, action: self.action(state)? };
        VerifiedTx::verify(&CHAIN, Tx::sign(body, &self.key)).ok()
    }

    fn action(&self, state: &MemoryState) -> Option<Action> {
        if let Some(voter) = self.voter {
            return self.vote_wish(state, voter);
        }
        let Some(Record::Node(entry)) = state.get(&Key::Node(self.node())) else { return None };
        if !entry.active {
            return Some(self.come_back(entry));
        }
        if let Some(Record::Challenge(asked)) = state.get(&Key::Challenge(self.node())) {
            return self.prove(state, asked);
        }
        if self.luck < 6 || entry.draining {
            return Some(Action::DrainNode { node: self.node(), drain: !entry.draining });
        }
        self.take(state).or_else(|| self.settle(state))
    }

    /// To leave, to come back with what it has or with what it had, to have more power.
    fn vote_wish(&self, state: &MemoryState, voter: Voter) -> Option<Action> {
        let Some(Record::Stakes(stakes)) = state.get(&Key::Stakes) else { return None };
        let node = self.node();
        let join = |stake| Some(Action::ValidatorJoin { node, stake: Amount::new(stake) });
        match stakes.iter().find(|stake| stake.node == node) {
            None => join(UNIT),
            Some(stake) if stake.leaving && self.luck < 60 => join(0),
            Some(stake) if !stake.leaving && voter.leaves && self.luck < 40 => Some(Action::ValidatorLeave { node }),
            Some(_) if voter.grows && self.luck > 70 => join(self.luck * UNIT / 50),
            // Versions of the rules that nothing depends on: the height of the change is what all must agree on.
            Some(stake) if self.luck < 60 => {
                Some(Action::ValidatorReady { node, version: stake.ready.saturating_add(1) })
            }
            Some(_) => None,
        }
    }

    fn come_back(&self, entry: &NodeEntry) -> Action {
        let mut announcement = entry.announcement.clone();
        announcement.bind(&CHAIN, &entry.account, &self.key);
        Action::RegisterNode(Box::new(announcement))
    }

    /// The answer: mostly a true one; sometimes silence, nothing, a part, or a lie.
    fn prove(&self, state: &MemoryState, asked: &Challenge) -> Option<Action> {
        let good = |sample: &Sample| Some(proof(manifest(state, &sample.slot.file)?, sample));
        let mut proofs: Vec<_> = asked.samples.iter().map(good).collect();
        match self.luck {
            0..=9 => return None,
            10..=19 => proofs.iter_mut().for_each(|proof| *proof = None),
            20..=34 => proofs.iter_mut().take(1).for_each(|proof| *proof = None),
            35..=39 => {
                proofs.iter_mut().flatten().take(1).for_each(|proof| proof.bytes.iter_mut().for_each(|byte| *byte ^= 1))
            }
            _ => {}
        }
        Some(Action::ProveStorage { node: self.node(), epoch: asked.epoch, proofs })
    }

    /// Takes over a slot that is lost, or that a draining node has.
    fn take(&self, state: &MemoryState) -> Option<Action> {
        let drains = |node: &NodeId| state.get(&Key::Draining(*node)).is_some();
        state.records().find_map(|(key, record)| {
            let (Key::File(file), Record::File(deal)) = (key, record) else { return None };
            let manifest = manifest(state, file)?;
            let free = |slot: &u8| deal.lost.has(*slot) || deal.placement.get(usize::from(*slot)).is_some_and(drains);
            let slot = (0..=u8::MAX).take(deal.placement.len()).find(free)?;
            let info = manifest.slots.get(usize::from(slot))?;
            let receipt = StorageReceipt::sign(&CHAIN, file, slot, Height::new(u64::MAX), info, &self.key);
            Some(Action::TakeSlot { file: *file, receipt })
        })
    }

    /// Asks for the pay of one of the open deals.
    fn settle(&self, state: &MemoryState) -> Option<Action> {
        let open = |(key, record): (&Key, &Record)| match (key, record) {
            (Key::File(file), Record::File(deal)) if deal.status.is_open() => Some(*file),
            _ => None,
        };
        let files: Vec<_> = state.records().filter_map(open).collect();
        let file = *files.get(usize::try_from(self.luck).ok()?.checked_rem(files.len())?)?;
        Some(Action::SettleFile { file })
    }
}

fn manifest<'a>(state: &'a MemoryState, file: &FileId) -> Option<&'a PublicManifest> {
    match state.get(&Key::Manifest(*file)) {
        Some(Record::Manifest(manifest)) => Some(manifest),
        _ => None,
    }
}

/// The true answer to a sample.
fn proof(manifest: &PublicManifest, sample: &Sample) -> SampleProof {
    let content = content(sample.slot.slot, manifest.slot_len());
    let at = usize::try_from(sample.leaf).unwrap_or(usize::MAX).saturating_mul(LEAF_BYTES);
    let block = at / SLOT_BLOCK_BYTES * SLOT_BLOCK_BYTES;
    let end = |from: usize, len: usize| content.bytes.len().min(from.saturating_add(len));
    let piece = |from, len| content.bytes.get(from..end(from, len)).unwrap_or_default();
    let path = content.tree.leaf_path(sample.leaf, piece(block, SLOT_BLOCK_BYTES)).unwrap_or_default();
    SampleProof { bytes: piece(at, LEAF_BYTES).to_vec(), path }
}

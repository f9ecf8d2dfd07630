//! A small chain for the tests of the ledger and the mempool.

use std::collections::BTreeMap;

use super::genesis::{GENESIS_VERSION, Genesis, GenesisAccount, GenesisNode, NO_BINDING, Timing};
use super::record::{
    Challenge, Deal, NodeEntry, Sample, SkipList, SlotId, StorageParams, ValidatorEntry, ValidatorParams,
};
use super::{BlockContext, Executed, Fork, Key, MemoryState, Record, beacon};
use crate::crypto::SecretKey;
use crate::files::proof::{LEAF_BYTES, SlotHasher};
use crate::types::{
    AccountId, Amount, ByteCount, ChainId, FileId, Height, Millis, NodeId, Role, Roles, Round, SlotRoot, View, limits,
};
use crate::wire::tx::{FileCommit, NodeAnnouncement, SampleProof};
use crate::wire::{Action, PublicManifest, SlotInfo, StorageReceipt, Tx, TxBody, VerifiedTx};

pub const EPOCH: u64 = 5;
pub const PENDING: u64 = 6;
/// For how long `commit` pays.
pub const EPOCHS: u32 = 20;
pub const USERS: u8 = 4;
pub const STORES: u8 = 6;
pub const CAPACITY: u64 = 1 << 20;
const REVEALS: u64 = 200;

pub fn user(n: u8) -> SecretKey {
    SecretKey::from_seed(&[n + 1; 32])
}

pub fn account(n: u8) -> AccountId {
    user(n).public().account_id()
}

pub fn validator_key(n: u8) -> SecretKey {
    SecretKey::from_seed(&[100 + n; 32])
}

pub fn store_key(n: u8) -> SecretKey {
    SecretKey::from_seed(&[150 + n; 32])
}

pub fn store(n: u8) -> NodeId {
    store_key(n).public().node_id()
}

pub fn announcement(key: &SecretKey, operator: &str, role: Role) -> NodeAnnouncement {
    NodeAnnouncement {
        node: key.public().node_id(),
        name: format!("node of {operator}"),
        operator: operator.to_owned(),
        roles: Roles::of(&[role]),
        capacity: ByteCount::new(CAPACITY),
        addresses: vec!["/ip4/127.0.0.1/tcp/1".to_owned()],
        beacon_head: beacon::chain(key.public().node_id().as_bytes(), REVEALS),
        binding: NO_BINDING,
    }
}

pub fn genesis() -> Genesis {
    let node = |key: SecretKey, operator: String, role| GenesisNode {
        account: account(0),
        announcement: announcement(&key, &operator, role),
    };
    let validators = (0..4).map(|n| node(validator_key(n), format!("validator {n}"), Role::Validator));
    let stores = (0..STORES).map(|n| node(store_key(n), format!("operator {n}"), Role::Storage));
    let vote = |n| ValidatorEntry { node: validator_key(n).public().node_id(), power: 1, account: account(0) };
    let credit = |n| GenesisAccount { account: account(n), balance: Amount::new(1_000) };
    Genesis {
        version: GENESIS_VERSION,
        name: "test".to_owned(),
        time: Millis::new(1_700_000_000_000),
        epoch_blocks: EPOCH,
        pending_blocks: PENDING,
        timing: Timing {
            idle_interval: Millis::new(2_000),
            view_floor: Millis::new(500),
            view_cap: Millis::new(60_000),
        },
        storage: StorageParams {
            samples: 4,
            answer_blocks: 3,
            grace: 1,
            price: 1 << 10,
            epochs_max: 1_000,
            quota: ByteCount::ZERO,
        },
        staking: ValidatorParams {
            stake_unit: 10,
            unbonding_epochs: 2,
            jail_after: 3,
            jail_epochs: 2,
            slash_permille: 100,
        },
        accounts: (0..USERS).map(credit).collect(),
        nodes: validators.chain(stores).collect(),
        validators: (0..4).map(vote).collect(),
    }
    .sorted()
}

pub fn manifest(owner: u8, seed: u8, data: u8, parity: u8, cipher_len: u64) -> PublicManifest {
    let mut manifest = PublicManifest {
        version: 1,
        owner: account(owner),
        nonce: [seed; 32],
        data,
        parity,
        chunk_bytes: 1 << 20,
        cipher_len,
        slots: Vec::new(),
        sealed: vec![seed; 10],
    };
    let len = manifest.slot_len();
    let root = |n| SlotRoot::from_bytes(*blake3::hash(&slot_bytes(&manifest.nonce, n, len)).as_bytes());
    let slot = |n: u8| SlotInfo { root: root(n), len };
    manifest.slots = (0..data + parity).map(slot).collect();
    manifest
}

/// The bytes of a slot: they follow from the manifest's nonce.
pub fn slot_bytes(nonce: &[u8; 32], slot: u8, len: u64) -> Vec<u8> {
    let mut bytes = vec![0; len as usize];
    blake3::Hasher::new_keyed(nonce).update(&[slot]).finalize_xof().fill(&mut bytes);
    bytes
}

/// The true answer to a sample.
pub fn sample_proof(manifest: &PublicManifest, sample: &Sample) -> SampleProof {
    let (slot, len) = (sample.slot.slot, manifest.slots[usize::from(sample.slot.slot)].len);
    let bytes = slot_bytes(&manifest.nonce, slot, len);
    let mut hasher = SlotHasher::new();
    hasher.update(&bytes);
    let tree = hasher.finish();
    let block = (sample.leaf as usize * LEAF_BYTES) / limits::SLOT_BLOCK_BYTES * limits::SLOT_BLOCK_BYTES;
    let around = &bytes[block..bytes.len().min(block + limits::SLOT_BLOCK_BYTES)];
    let path = tree.leaf_path(sample.leaf, around).expect("a leaf of the slot");
    let leaf = sample.leaf as usize * LEAF_BYTES;
    SampleProof { bytes: bytes[leaf..bytes.len().min(leaf + LEAF_BYTES)].to_vec(), path }
}

/// A deal over the stores in order, with receipts for the first `receipts` slots.
pub fn commit(chain: &ChainId, manifest: PublicManifest, receipts: u8, min_confirmations: u8) -> FileCommit {
    let placement = (0..manifest.data + manifest.parity).map(store).collect();
    let receipts = (0..receipts).map(|slot| receipt(chain, &manifest, slot)).collect();
    let repair_threshold = (manifest.data + manifest.parity).saturating_sub(1);
    FileCommit { placement, min_confirmations, repair_threshold, epochs: EPOCHS, receipts, manifest }
}

pub fn receipt(chain: &ChainId, manifest: &PublicManifest, slot: u8) -> StorageReceipt {
    receipt_of(chain, manifest, slot, &store_key(slot))
}

/// A receipt for a slot by any node, for all heights of a test.
pub fn receipt_of(chain: &ChainId, manifest: &PublicManifest, slot: u8, key: &SecretKey) -> StorageReceipt {
    let info = &manifest.slots[usize::from(slot)];
    StorageReceipt::sign(chain, &manifest.id(), slot, Height::new(10_000), info, key)
}

/// A chain in memory that makes its own blocks, each by the next validator in turn.
#[derive(Clone)]
pub struct Chain {
    pub id: ChainId,
    pub state: MemoryState,
    pub height: u64,
    reveals: BTreeMap<u8, u64>,
}

impl Chain {
    pub fn new() -> Self {
        Self::of(genesis())
    }
    pub fn of(genesis: Genesis) -> Self {
        let state = MemoryState::genesis(&genesis).expect("a good genesis");
        Self { id: genesis.chain_id(), state, height: 0, reveals: BTreeMap::new() }
    }
    /// The context of the next block.
    pub fn next(&self) -> BlockContext {
        let height = self.height + 1;
        let turn = (height % 4) as u8;
        let key = validator_key(turn);
        let left = REVEALS - 1 - self.reveals.get(&turn).copied().unwrap_or(0);
        let epoch = crate::types::Epoch::new((height - 1) / EPOCH);
        let validators = match self.state.get(&Key::Validators) {
            Some(Record::Validators(set)) => set.len() as u64,
            other => panic!("no validators: {other:?}"),
        };
        let next_skip = height.is_multiple_of(EPOCH).then(|| SkipList {
            epoch: epoch.next().expect("a next epoch"),
            indices: vec![(height % 4 % validators) as u16],
        });
        BlockContext {
            height: Height::new(height),
            round: Round::new(epoch, View::new(height)),
            proposer: key.public().node_id(),
            reveal: beacon::chain(key.public().node_id().as_bytes(), left),
            next_skip,
        }
    }
    pub fn nonce(&self, n: u8) -> u64 {
        match self.state.get(&Key::Account(account(n))) {
            Some(Record::Account(account)) => account.nonce,
            _ => 0,
        }
    }
    pub fn balance(&self, n: u8) -> u64 {
        match self.state.get(&Key::Account(account(n))) {
            Some(Record::Account(account)) => account.balance.get(),
            _ => 0,
        }
    }
    pub fn node(&self, n: u8) -> NodeEntry {
        match self.state.get(&Key::Node(store(n))) {
            Some(Record::Node(entry)) => entry.as_ref().clone(),
            other => panic!("no node: {other:?}"),
        }
    }
    pub fn deal(&self, file: &FileId) -> Deal {
        match self.state.get(&Key::File(*file)) {
            Some(Record::File(deal)) => deal.as_ref().clone(),
            other => panic!("no deal: {other:?}"),
        }
    }
    /// The same chain with another entry of a store. The state's root is no longer that of its records.
    pub fn with_node(&self, n: u8, edit: impl FnOnce(&mut NodeEntry)) -> Self {
        let mut entry = self.node(n);
        edit(&mut entry);
        let mut chain = self.clone();
        chain.state.plant(Key::Node(store(n)), Record::Node(Box::new(entry)));
        chain
    }
    /// The audit that waits for a node's answer.
    pub fn challenge(&self, n: u8) -> Option<Challenge> {
        match self.state.get(&Key::Challenge(store(n))) {
            Some(Record::Challenge(challenge)) => Some(challenge.as_ref().clone()),
            _ => None,
        }
    }
    /// The answer of a node that still has the slots which `has` says; nothing if it is not asked.
    pub fn answer(&self, n: u8, has: impl Fn(&SlotId) -> bool) -> Option<Action> {
        let Challenge { epoch, samples, .. } = self.challenge(n)?;
        let proof = |sample: &Sample| match self.state.get(&Key::Manifest(sample.slot.file)) {
            Some(Record::Manifest(manifest)) if has(&sample.slot) => Some(sample_proof(manifest, sample)),
            _ => None,
        };
        let proofs = samples.iter().map(proof).collect();
        Some(Action::ProveStorage { node: store(n), epoch, proofs })
    }
    /// Empty blocks up to a height.
    pub fn run_to(&mut self, height: u64) {
        while self.height < height {
            self.block(&[]);
        }
    }
    pub fn tx(&self, n: u8, nonce: u64, action: Action) -> VerifiedTx {
        let body = TxBody { chain: self.id, sender: account(n), nonce, action };
        VerifiedTx::verify(&self.id, Tx::sign(body, &user(n))).expect("a well-formed transaction")
    }
    /// Executes the next block and makes it final.
    pub fn block(&mut self, txs: &[VerifiedTx]) -> Executed {
        let at = self.next();
        let done = Fork::new(&self.state, &[]).execute(at, txs).expect("a valid block");
        self.state.finalize(&done);
        self.height += 1;
        *self.reveals.entry((self.height % 4) as u8).or_default() += 1;
        done
    }
    /// A block with one action of a user; its outcome.
    pub fn act(&mut self, n: u8, action: Action) -> super::Outcome {
        let tx = self.tx(n, self.nonce(n), action);
        self.block(&[tx]).effects.receipts.remove(0).outcome
    }
}

pub fn pay(to: u8, amount: u64) -> Action {
    Action::Transfer { to: account(to), amount: Amount::new(amount), memo: "for you".to_owned() }
}

//! Traffic: what the users of a simulated ledger have, and what they ask of it, good and bad.
//!
//! A few accounts pay each other, register nodes, open deals, confirm and end them. Some ask for what is not theirs or what
//! they cannot pay, use a nonce twice or too early, or have no account yet. All are signed for real. In about half of the runs
//! storage costs something, and the storage nodes do their duty too (`duty`).

use std::sync::{Arc, LazyLock};

use crate::crypto::SecretKey;
use crate::ledger::genesis::{GENESIS_VERSION, GenesisAccount, GenesisNode, NO_BINDING, Timing};
use crate::ledger::record::{StorageParams, ValidatorEntry, ValidatorParams};
use crate::ledger::{Genesis, MemoryState};
use crate::mempool::Capacity;
use crate::types::{AccountId, Amount, ByteCount, Height, Millis, NodeId, Role, Roles};
use crate::wire::tx::{FileCommit, NodeAnnouncement, repair_bounds};
use crate::wire::{Action, PublicManifest, SlotInfo, StorageReceipt, Tx, TxBody, ValidatorSet, VerifiedTx};

use super::dice::Dice;
use super::duty::{Turn, Voter, Wish, slot_root};
use super::ledger::beacon_head;
use super::plan::Plan;
use super::ring::{CHAIN, Ring};

/// Accounts that the genesis knows; one more begins when somebody pays it.
const USERS: usize = 5;
/// Storage nodes.
const STORES: usize = 5;
/// Credits of each account at the beginning.
const BALANCE: u64 = 1_000;
/// The same where storage costs something.
const RICH: u64 = 100_000;
/// Credits for one GiB and epoch there: 62 for one of the short slots.
const PRICE: u64 = 1 << 27;
/// Turns of storage nodes in a run, and for how long after the faults, ms.
const TURNS: usize = 150;
const TURNS_AFTER: u64 = 500;
/// Turns of validators in a run, where their set changes.
const VOTER_TURNS: usize = 40;
/// Credits for one unit of power.
pub const UNIT: u64 = 1_000;
/// Bytes that a storage node offers.
const CAPACITY: u64 = 1 << 20;
/// Data shards and parity shards of each file.
const SHARDS: (u8, u8) = (2, 1);

static USER_KEYS: LazyLock<Vec<SecretKey>> = LazyLock::new(|| keys(100, USERS + 1));
static STORE_KEYS: LazyLock<Vec<SecretKey>> = LazyLock::new(|| keys(150, STORES + 2));

fn keys(first: u8, count: usize) -> Vec<SecretKey> {
    (first..).take(count).map(|n| SecretKey::from_seed(&[n; 32])).collect()
}

/// The users of one run.
pub struct Traffic {
    /// The state that the chain begins with.
    pub genesis: Arc<MemoryState>,
    /// How much a mempool may hold.
    pub capacity: Capacity,
    /// What is asked for.
    pub txs: Vec<VerifiedTx>,
    /// Whether storage costs something, and storage nodes do their duty: in about half of the runs.
    pub priced: bool,
    /// Who hands which of them in, and where: time, machine, place in the list.
    submissions: Vec<(u64, usize, usize)>,
    /// When it is a storage node's turn, and at which machine.
    turns: Vec<(u64, usize, Turn)>,
}

impl Traffic {
    /// The traffic of a run.
    pub fn draw(seed: u64, plan: &Plan, set: &ValidatorSet) -> Self {
        let mut dice = Dice::new(seed, 4);
        let mut duties = Dice::new(seed, 5);
        let priced = duties.percent(50);
        let changes = duties.percent(60);
        let genesis = genesis(priced, plan.epoch_blocks, dice.between(1, 12), set);
        let genesis = MemoryState::genesis(&genesis).expect("the accounts, nodes and validators are listed");
        let total = dice.between(8 << 10, 64 << 10) as usize;
        let capacity = Capacity { total, sender: total / dice.between(1, 4) as usize };
        let count = dice.between(6, 40) as usize;
        let mut nonces = [0; USERS + 1];
        let txs: Vec<_> = (0..count).map(|_| draw_tx(priced, &mut nonces, &mut dice)).collect();
        let mut submissions = Vec::new();
        for number in 0..count {
            // Now and then all at once; else in their order, roughly.
            let about = plan.heal_at * number as u64 / count as u64;
            for _ in 0..dice.between(1, 3) {
                let at = dice.below(plan.places.len());
                submissions.push((dice.between(about, about + 300), at, number));
            }
            // Whoever has no answer asks again.
            submissions.push((plan.heal_at + dice.between(1, 200), dice.below(plan.places.len()), number));
        }
        let mut turns = Vec::new();
        let voters = voters(plan, set);
        for _ in 0..if priced { TURNS } else { 0 } {
            let (key, luck) = (duties.pick(&STORE_KEYS[..STORES]).clone(), duties.between(0, 99));
            let (when, at) = (duties.between(0, plan.heal_at + TURNS_AFTER), duties.below(plan.places.len()));
            turns.push((when, at, Turn { key, luck, voter: None }));
        }
        for _ in 0..if priced && changes { VOTER_TURNS } else { 0 } {
            let ((key, voter), luck) = (duties.pick(&voters).clone(), duties.between(0, 99));
            let (when, at) = (duties.between(0, plan.heal_at + TURNS_AFTER), duties.below(plan.places.len()));
            turns.push((when, at, Turn { key, luck, voter: Some(voter) }));
        }
        Self { genesis: Arc::new(genesis), capacity, txs, priced, submissions, turns }
    }

    /// All that is asked for: time, machine, wish.
    pub fn wishes(&self) -> impl Iterator<Item = (u64, usize, Wish)> {
        let drawn = self.submissions.iter().map(|(when, at, number)| (*when, *at, Wish::Tx(self.txs[*number].clone())));
        drawn.chain(self.turns.iter().map(|(when, at, turn)| (*when, *at, Wish::Turn(Box::new(turn.clone())))))
    }
}

/// The validators' keys, and what each may do so that the faulty ones stay below a third whatever the others do: one that is
/// not faulty may leave, if the rest bears it; those that are faulty get no more power.
fn voters(plan: &Plan, set: &ValidatorSet) -> Vec<(SecretKey, Voter)> {
    let faulty = plan.faulty();
    let weight = |index: &u16| set.get(*index).map_or(0, |member| member.power);
    let (all, lost): (u64, u64) = (set.total_power(), faulty.iter().map(weight).sum());
    let honest = (0..plan.validators).filter(|index| !faulty.contains(index));
    let leaves = honest.rev().find(|index| 3 * lost < all - weight(index));
    let voter = |(index, member): (u16, &crate::wire::Validator)| {
        let is_faulty = faulty.contains(&index);
        Some((
            Ring::key(&member.node)?.clone(),
            Voter { grows: !is_faulty, leaves: is_faulty || leaves == Some(index) },
        ))
    };
    (0..).zip(set.members()).filter_map(voter).collect()
}

fn account(user: usize) -> AccountId {
    USER_KEYS[user].public().account_id()
}

fn announcement(key: &SecretKey, operator: String, role: Role) -> NodeAnnouncement {
    let node = key.public().node_id();
    NodeAnnouncement {
        node,
        name: format!("node of {operator}"),
        operator,
        roles: Roles::of(&[role]),
        capacity: ByteCount::new(CAPACITY),
        addresses: Vec::new(),
        beacon_head: beacon_head(&node),
        binding: NO_BINDING,
    }
}

fn genesis(priced: bool, epoch_blocks: u64, pending_blocks: u64, set: &ValidatorSet) -> Genesis {
    let (account, millis) = (account(0), Millis::new);
    // Who does its duty has an account of its own, so that each can have its turn in the same block.
    let keeper = |key: &SecretKey| if priced { key.public().account_id() } else { account };
    let store = |(n, key): (usize, &SecretKey)| GenesisNode {
        account: keeper(key),
        announcement: announcement(key, format!("{n}"), Role::Storage),
    };
    let template = announcement(&STORE_KEYS[0], "validators".to_owned(), Role::Validator);
    let voter = |node: &NodeId| Ring::key(node).filter(|_| priced).map_or(account, |key| key.public().account_id());
    let validator = |node| {
        let announcement = NodeAnnouncement { node, beacon_head: beacon_head(&node), ..template.clone() };
        GenesisNode { account: voter(&node), announcement }
    };
    let validators = set.members().iter().map(|member| validator(member.node));
    let entry = |member: &crate::wire::Validator| ValidatorEntry {
        node: member.node,
        power: member.power,
        account: voter(&member.node),
    };
    let balance = Amount::new(if priced { RICH } else { BALANCE });
    let users = (0..USERS).map(self::account);
    let keepers = STORE_KEYS.iter().take(if priced { STORES } else { 0 }).map(keeper);
    let voters = set.members().iter().map(|member| voter(&member.node)).filter(|_| priced);
    let usual = StorageParams::usual(epoch_blocks);
    let storage = StorageParams { price: if priced { PRICE } else { 0 }, samples: 4, ..usual };
    Genesis {
        version: GENESIS_VERSION,
        name: "simulated".to_owned(),
        time: Millis::ZERO,
        epoch_blocks,
        pending_blocks,
        // Where deals cost nothing, balances follow from the transfers alone.
        storage,
        staking: ValidatorParams { stake_unit: UNIT, unbonding_epochs: 2, ..ValidatorParams::usual() },
        timing: Timing { idle_interval: millis(1), view_floor: millis(1), view_cap: millis(1) },
        accounts: users.chain(keepers).chain(voters).map(|account| GenesisAccount { account, balance }).collect(),
        nodes: STORE_KEYS.iter().take(STORES).enumerate().map(store).chain(validators).collect(),
        validators: set.members().iter().map(entry).collect(),
    }
    .sorted()
}

fn draw_tx(priced: bool, nonces: &mut [u64; USERS + 1], dice: &mut Dice) -> VerifiedTx {
    // User 0 has registered all nodes, so its wishes are granted more often.
    let user = if dice.percent(20) { 0 } else { dice.below(USERS + 1) };
    let next = &mut nonces[user];
    let nonce = match dice.below(20) {
        0 => next.saturating_sub(1),
        1 => *next + dice.between(1, 3),
        _ => {
            *next += 1;
            *next - 1
        }
    };
    let body = TxBody { chain: CHAIN, sender: account(user), nonce, action: draw_action(priced, user, dice) };
    VerifiedTx::verify(&CHAIN, Tx::sign(body, &USER_KEYS[user])).expect("every wish is well-formed")
}

fn draw_action(priced: bool, user: usize, dice: &mut Dice) -> Action {
    let owner = if dice.percent(80) { user } else { dice.below(USERS) };
    if priced && dice.percent(50) {
        return match dice.below(3) {
            0 => Action::RenewFile { file: manifest(owner, dice).id(), epochs: dice.between(1, 5) as u32 },
            _ => Action::CommitFile(Box::new(commit(user, dice))),
        };
    }
    match dice.below(12) {
        0 => register(user, dice),
        10 => {
            let to = account(dice.below(USERS + 1));
            let until = dice.percent(50).then(|| Height::new(dice.between(1, 200)));
            Action::ShareFile { file: manifest(owner, dice).id(), to, sealed: vec![1; 104], until }
        }
        11 => Action::UnshareFile { file: manifest(owner, dice).id(), to: account(dice.below(USERS + 1)) },
        1..=2 => Action::CommitFile(Box::new(commit(user, dice))),
        3 => {
            let (manifest, slot) = (manifest(owner, dice), dice.below(3) as u8);
            Action::ConfirmSlots { file: manifest.id(), receipts: vec![receipt(&manifest, slot)] }
        }
        4 => Action::DeleteFile { file: manifest(owner, dice).id() },
        _ => {
            let most = if dice.percent(20) { BALANCE * 3 } else { BALANCE / 4 };
            let amount = Amount::new(dice.between(1, most));
            Action::Transfer { to: account(dice.below(USERS + 1)), amount, memo: String::new() }
        }
    }
}

fn register(user: usize, dice: &mut Dice) -> Action {
    let key = dice.pick(&STORE_KEYS);
    let role = if dice.percent(80) { Role::Storage } else { Role::Relay };
    let mut entry = announcement(key, format!("{}", dice.below(STORES + 1)), role);
    entry.capacity = ByteCount::new(dice.between(0, 2 * CAPACITY));
    entry.bind(&CHAIN, &account(user), key);
    Action::RegisterNode(Box::new(entry))
}

/// One of a few files of a user, so that some meet again.
fn manifest(owner: usize, dice: &mut Dice) -> PublicManifest {
    let (data, parity) = SHARDS;
    let mut manifest = PublicManifest {
        version: 1,
        owner: account(owner),
        nonce: [dice.below(3) as u8; 32],
        data,
        parity,
        chunk_bytes: 1 << 20,
        cipher_len: 1_000,
        slots: Vec::new(),
        sealed: vec![1; 10],
    };
    if manifest.nonce[0] == 2 {
        manifest.cipher_len = CAPACITY;
    }
    let len = manifest.slot_len();
    manifest.slots = (0..data + parity).map(|n| SlotInfo { root: slot_root(n, len), len }).collect();
    manifest
}

fn receipt(manifest: &PublicManifest, slot: u8) -> StorageReceipt {
    let place = usize::from(slot);
    StorageReceipt::sign(
        &CHAIN,
        &manifest.id(),
        slot,
        Height::new(u64::MAX),
        &manifest.slots[place],
        &STORE_KEYS[place],
    )
}

/// A deal over the first stores, in order, with some of the receipts; or one that places a slot on another node.
fn commit(user: usize, dice: &mut Dice) -> FileCommit {
    let manifest = manifest(user, dice);
    let mut stores: Vec<usize> = (0..manifest.slots.len()).collect();
    let mut receipts = dice.below(stores.len() + 1) as u8;
    if dice.percent(20) {
        // The last store of all is never registered by the genesis.
        stores[2] = dice.pick(&[3, 4, STORE_KEYS.len() - 1]).to_owned();
        receipts = receipts.min(2);
    }
    let placement = stores.into_iter().map(|n| STORE_KEYS[n].public().node_id()).collect();
    let receipts = (0..receipts).map(|slot| receipt(&manifest, slot)).collect();
    let (least, most) = repair_bounds(manifest.data, manifest.slots.len() as u8);
    let repair_threshold = dice.between(u64::from(least), u64::from(most)) as u8;
    let epochs = dice.between(1, 9) as u32;
    FileCommit { placement, min_confirmations: SHARDS.0, repair_threshold, epochs, receipts, manifest }
}

//! A chain of one validator for the tests of the shell: real databases, real execution, and no network.

use std::path::Path;
use std::sync::{Arc, Mutex};

use super::app::{LedgerApp, Parts};
use super::beacon::BeaconChain;
use super::chain::exec::{Application, BuildRequest};
use super::clock::Clock;
use super::start::write_genesis;
use crate::consensus;
use crate::crypto::SecretKey;
use crate::ledger::Genesis;
use crate::ledger::genesis::{GENESIS_VERSION, GenesisAccount, GenesisNode, NO_BINDING, Timing};
use crate::ledger::record::{StorageParams, ValidatorEntry, ValidatorParams};
use crate::mempool::{Capacity, Mempool};
use crate::store::{Identity, KeyOrigin, Options, Store};
use crate::types::{Amount, ByteCount, Epoch, Height, Millis, NodeId, Role, Roles, Round, View};
use crate::wire::certificate::Signed;
use crate::wire::tx::NodeAnnouncement;
use crate::wire::{Certificate, ProposedBlock, Validator, ValidatorSet, VoteKind};

const SEED: [u8; 32] = [1; 32];

pub fn validator() -> SecretKey {
    SecretKey::from_seed(&SEED)
}

pub fn genesis() -> Genesis {
    let (node, account) = (validator().public().node_id(), validator().public().account_id());
    let announcement = NodeAnnouncement {
        node,
        name: "validator".to_owned(),
        operator: "operator".to_owned(),
        roles: Roles::of(&[Role::Validator]),
        capacity: ByteCount::ZERO,
        addresses: Vec::new(),
        beacon_head: BeaconChain::of(&SEED, 0).head(),
        binding: NO_BINDING,
    };
    Genesis {
        version: GENESIS_VERSION,
        name: "test".to_owned(),
        time: Millis::new(1_700_000_000_000),
        epoch_blocks: 20,
        pending_blocks: 10,
        storage: StorageParams::usual(20),
        staking: ValidatorParams::usual(),
        timing: Timing { idle_interval: Millis::new(200), view_floor: Millis::new(300), view_cap: Millis::new(3_000) },
        accounts: vec![GenesisAccount { account, balance: Amount::new(1_000) }],
        nodes: vec![GenesisNode { account, announcement }],
        validators: vec![ValidatorEntry { node, power: 1, account }],
    }
    .sorted()
}

pub fn set() -> Arc<ValidatorSet> {
    let member = Validator { node: validator().public().node_id(), power: 1 };
    Arc::new(ValidatorSet::new(vec![member]).expect("a valid set"))
}

pub fn config(genesis: &Genesis, me: NodeId) -> consensus::Config {
    consensus::Config {
        chain: genesis.chain_id(),
        genesis: genesis.block().expect("a genesis block").hash(),
        epoch_blocks: genesis.epoch_blocks,
        idle_interval: genesis.timing.idle_interval,
        me,
        view_base: genesis.timing.view_floor,
        view_floor: genesis.timing.view_floor,
        view_cap: genesis.timing.view_cap,
        planted: consensus::planted::Planted::default(),
    }
}

/// A node's database with the genesis block in it.
pub fn store(home: &Path, seed: [u8; 32], genesis: &Genesis) -> Store {
    let path = home.join(format!("{}.redb", seed[0]));
    let seed = zeroize::Zeroizing::new(seed);
    let identity = Identity { chain: genesis.chain_id(), seed, origin: KeyOrigin::Generated, incarnation: [9; 32] };
    Store::create(&path, &identity).expect("a database");
    let store = Store::open(&path, &Options::default()).expect("the database opens");
    write_genesis(&store, genesis).expect("a genesis block");
    store
}

pub fn app(store: &Store, genesis: &Genesis, key: &SecretKey, clock: Clock) -> LedgerApp {
    LedgerApp::new(Parts {
        config: config(genesis, key.public().node_id()),
        reader: store.reader(),
        mempool: Arc::new(Mutex::new(Mempool::new(Capacity::STANDARD))),
        beacon: BeaconChain::of(&SEED, 0),
        clock,
        known: crate::wire::block::BLOCK_VERSION,
    })
}

pub fn certify(genesis: &Genesis, kind: VoteKind, block: &ProposedBlock) -> Certificate {
    let (header, block) = (block.header(), block.block.hash());
    let mut certificate =
        Certificate { kind, round: header.round, height: header.height, block, signatures: Vec::new() };
    let signature = certificate.statement().sign(&genesis.chain_id(), &validator());
    certificate.signatures = vec![Signed { index: 0, signature }];
    certificate
}

/// The first empty blocks of the chain, each on the one before, by a validator with this clock.
pub fn blocks(home: &Path, genesis: &Genesis, clock: Clock, count: u64) -> Vec<Arc<ProposedBlock>> {
    let store = store(home, SEED, genesis);
    let mut app = app(&store, genesis, &validator(), clock);
    let mut justify = Certificate::genesis(genesis.block().expect("a genesis block").hash());
    let mut blocks = Vec::new();
    for height in 1..=count {
        let round = Round::new(Epoch::ZERO, View::new(height));
        let request = BuildRequest { round, justify, height: Height::new(height), even_empty: true };
        let block = app.build(&request).expect("a readable state").expect("a block").block.clone();
        justify = certify(genesis, VoteKind::Prepare, &block);
        blocks.push(block);
    }
    blocks
}

//! Good values of every kind that travels: a chain of four validators, its first block, a file's deal.

use std::sync::{Arc, LazyLock};

use trullo::consensus::evidence::Evidence;
use trullo::consensus::planted::Planted;
use trullo::consensus::{Config, EpochContext};
use trullo::crypto::keys::AccountKeys;
use trullo::crypto::{SecretKey, Signature};
use trullo::ledger::genesis::{GENESIS_VERSION, GenesisAccount, GenesisNode, NO_BINDING, Timing};
use trullo::ledger::record::{StorageParams, ValidatorEntry, ValidatorParams};
use trullo::ledger::tree::{Overlay, StateProof, TreeReader, prove};
use trullo::ledger::{Genesis, Key, Record};
use trullo::node::bundle::Bundle;
use trullo::types::{
    Amount, BlockHash, ByteCount, ChainId, Epoch, FileId, Height, Millis, Role, Roles, Round, SlotRoot, View,
};
use trullo::wire::block::{BLOCK_VERSION, encode_payload};
use trullo::wire::certificate::{Signed, Statement, TimedOut};
use trullo::wire::message::Offer;
use trullo::wire::tx::{FileCommit, NodeAnnouncement, SampleProof};
use trullo::wire::{
    Accusation, Action, Block, Certificate, Header, Message, Newest, ProposedBlock, PublicManifest, SlotInfo, StorageReceipt,
    TimeoutCertificate, Tx, TxBody, Unsigned, ValidatorSet, VerifiedTx, VoteKind,
};

/// The validators' keys, in the order of the set.
pub fn keys() -> &'static [SecretKey] {
    static KEYS: LazyLock<Vec<SecretKey>> = LazyLock::new(|| {
        let mut keys: Vec<_> = (1..=4).map(|n| SecretKey::from_seed(&[n; 32])).collect();
        keys.sort_by_key(|key| key.public().node_id());
        keys
    });
    &KEYS
}

/// The account that owns everything.
pub fn owner() -> &'static AccountKeys {
    static OWNER: LazyLock<AccountKeys> = LazyLock::new(|| AccountKeys::from_master(&[100; 32]));
    &OWNER
}

/// The genesis.
pub fn genesis() -> &'static Genesis {
    static GENESIS: LazyLock<Genesis> = LazyLock::new(make_genesis);
    &GENESIS
}

fn make_genesis() -> Genesis {
    let account = owner().account_id();
    let node = |(n, key): (usize, &SecretKey)| GenesisNode {
        account,
        announcement: NodeAnnouncement {
            node: key.public().node_id(),
            name: format!("node-{n}"),
            operator: format!("operator-{n}"),
            roles: Roles::of(&[Role::Validator, Role::Storage]),
            capacity: ByteCount::new(1 << 30),
            addresses: vec!["/ip4/127.0.0.1/tcp/7000".to_owned()],
            beacon_head: [7; 32],
            binding: NO_BINDING,
        },
    };
    let millis = Millis::new;
    Genesis {
        version: GENESIS_VERSION,
        name: "fuzz".to_owned(),
        time: millis(1_700_000_000_000),
        epoch_blocks: 2,
        pending_blocks: 100,
        storage: StorageParams::usual(2),
        staking: ValidatorParams::usual(),
        timing: Timing { idle_interval: millis(2_000), view_floor: millis(500), view_cap: millis(8_000) },
        accounts: vec![GenesisAccount { account, balance: Amount::new(1_000) }],
        nodes: keys().iter().enumerate().map(node).collect(),
        validators: keys().iter().map(|k| ValidatorEntry { node: k.public().node_id(), power: 1, account }).collect(),
    }
    .sorted()
}

/// The chain id.
pub fn chain() -> ChainId {
    static CHAIN: LazyLock<ChainId> = LazyLock::new(|| genesis().chain_id());
    *CHAIN
}

/// The validators.
pub fn set() -> ValidatorSet {
    genesis().validator_set().expect("a valid genesis")
}

/// The certificate of the genesis block.
pub fn opening() -> Certificate {
    Certificate::genesis(genesis().block().expect("a valid genesis").hash())
}

fn round(view: u64) -> Round {
    Round::new(Epoch::ZERO, View::new(view))
}

/// A replica's settings and its first epoch.
pub fn replica(me: usize) -> (Config, EpochContext) {
    let genesis = genesis();
    let config = Config {
        chain: genesis.chain_id(),
        genesis: opening().block,
        epoch_blocks: genesis.epoch_blocks,
        idle_interval: genesis.timing.idle_interval,
        me: keys()[me].public().node_id(),
        view_base: genesis.timing.view_floor,
        view_floor: genesis.timing.view_floor,
        view_cap: genesis.timing.view_cap,
        planted: Planted::default(),
    };
    (config, EpochContext { epoch: Epoch::ZERO, set: Arc::new(set()), skip: Vec::new(), opening: opening() })
}

/// A vote of all validators but the last.
pub fn certificate(kind: VoteKind, round: Round, height: Height, block: BlockHash) -> Certificate {
    let mut certificate = Certificate { kind, round, height, block, signatures: Vec::new() };
    let statement = certificate.statement();
    let sign = |(n, key): (usize, &SecretKey)| Signed { index: n as u16, signature: statement.sign(&chain(), key) };
    certificate.signatures = keys().iter().enumerate().take(3).map(sign).collect();
    certificate
}

/// The first block, with its justification. Its state root is that of the genesis.
pub fn block() -> ProposedBlock {
    let genesis = genesis();
    let parent = genesis.block().expect("a valid genesis");
    let payload = encode_payload(&VerifiedTx::verify_all(&chain(), txs(), |_| None).expect("good transactions"));
    let header = Header {
        version: BLOCK_VERSION,
        height: Height::new(1),
        round: round(1),
        proposer: keys()[3].public().node_id(),
        parent: parent.hash(),
        time: Millis::new(1_700_000_000_001),
        reveal: [9; 32],
        ..parent.header
    };
    ProposedBlock { block: Block { header, payload }, justify: opening() }
}

/// Prepare and commit certificate of the first block.
pub fn certified(kind: VoteKind) -> Certificate {
    certificate(kind, round(1), Height::new(1), block().block.hash())
}

/// What a replica holds after the first block and a view that was given up.
pub fn newest() -> Newest {
    let high = certified(VoteKind::Prepare);
    let statement = Statement::Timeout { round: round(2), high: high.rank() };
    let sign = |(n, key): (usize, &SecretKey)| TimedOut {
        index: n as u16,
        high: high.rank(),
        signature: statement.sign(&chain(), key),
    };
    let timeouts = keys().iter().enumerate().take(3).map(sign).collect();
    let timeout = TimeoutCertificate { round: round(2), timeouts, high: high.clone() };
    Newest { high, timeout: Some(timeout), commit: Some(certified(VoteKind::Commit)) }
}

/// One of each message, from the last validator.
pub fn messages() -> Vec<Message> {
    let (index, first) = (3, Newest { high: opening(), timeout: None, commit: None });
    let hash = block().block.hash();
    let vote =
        |kind, newest| Unsigned::Vote { kind, round: round(1), height: Height::new(1), block: hash, index, newest };
    let tail = Offer::Tail { block: hash, height: Height::new(1), justify: certified(VoteKind::Prepare) };
    let unsigned = [
        Unsigned::Proposal { round: round(1), index, offer: Offer::Block(block()), newest: first.clone() },
        Unsigned::Proposal { round: round(3), index, offer: tail, newest: newest() },
        vote(VoteKind::Prepare, first.clone()),
        vote(VoteKind::Commit, newest()),
        Unsigned::Timeout { round: round(1), index, newest: first },
        Unsigned::Timeout { round: round(3), index, newest: newest() },
    ];
    let signed = unsigned.into_iter().map(|unsigned| unsigned.sign(&chain(), &keys()[3]));
    signed
        .chain([Message::Newest(Box::new(newest())), Message::Fetch(hash), Message::Block(Box::new(block()))])
        .collect()
}

/// Signs a message anew as one of the validators.
pub fn signed_again(message: Message, signer: usize) -> Message {
    let (index, key) = (signer as u16, &keys()[signer]);
    let unsigned = match message {
        Message::Proposal(p) => Unsigned::Proposal { round: p.round, index, offer: p.offer, newest: p.newest },
        Message::Vote(v) => {
            let (kind, round, height, block, newest) = (v.kind, v.round, v.height, v.block, v.newest);
            Unsigned::Vote { kind, round, height, block, index, newest }
        }
        Message::Timeout(t) => Unsigned::Timeout { round: t.round, index, newest: t.newest },
        other => return other,
    };
    unsigned.sign(&chain(), key)
}

/// A validator's two votes in one view.
pub fn evidence() -> Evidence {
    let vote = |block| {
        let block = BlockHash::from_bytes([block; 32]);
        let said = Statement::Vote { kind: VoteKind::Prepare, round: round(1), height: Height::new(1), block };
        (said, said.sign(&chain(), &keys()[3]))
    };
    Evidence { node: keys()[3].public().node_id(), first: vote(1), second: vote(2) }
}

/// A public manifest without its sealed part.
pub fn manifest() -> PublicManifest {
    let slot = |n: u8| SlotInfo { root: SlotRoot::from_bytes([n; 32]), len: 5 };
    PublicManifest {
        version: 1,
        owner: owner().account_id(),
        nonce: [0; 32],
        data: 2,
        parity: 1,
        chunk_bytes: 1 << 20,
        cipher_len: 10,
        slots: (0..3).map(slot).collect(),
        sealed: Vec::new(),
    }
}

/// Signs an action of the owner.
pub fn tx(nonce: u64, action: Action) -> Tx {
    Tx::sign(TxBody { chain: chain(), sender: owner().account_id(), nonce, action }, owner().signing())
}

/// One transaction of each kind.
pub fn txs() -> Vec<Tx> {
    let (manifest, storage) = (manifest(), keys());
    let file = manifest.id();
    let receipt =
        |n: u8| StorageReceipt::sign(&chain(), &file, n, Height::new(9), &manifest.slots[usize::from(n)], &storage[usize::from(n)]);
    let receipts = vec![receipt(0), receipt(2)];
    let placement = storage.iter().take(3).map(|key| key.public().node_id()).collect();
    let deal = FileCommit { manifest: manifest.clone(), placement, min_confirmations: 2, repair_threshold: 2, epochs: 7, receipts };
    let mut node = genesis().nodes[0].announcement.clone();
    let node_key = SecretKey::from_seed(&[50; 32]);
    node.node = node_key.public().node_id();
    node.bind(&chain(), &owner().account_id(), &node_key);
    let to = storage[0].public().account_id();
    let actions = [
        Action::Transfer { to, amount: Amount::new(5), memo: "bread".to_owned() },
        Action::RegisterNode(Box::new(node)),
        Action::CommitFile(Box::new(deal)),
        Action::ConfirmSlots { file, receipts: vec![receipt(1)] },
        Action::DeleteFile { file },
        Action::ProveStorage {
            node: node_key.public().node_id(),
            epoch: Epoch::new(2),
            proofs: vec![Some(SampleProof { bytes: vec![3; 5], path: vec![[4; 32]; 2] }), None],
        },
        Action::TakeSlot { file, receipt: receipt(1) },
        Action::DrainNode { node: node_key.public().node_id(), drain: true },
        Action::SettleFile { file },
        Action::RenewFile { file, epochs: 3 },
        Action::ShareFile { file, to, sealed: vec![7; 104], until: Some(Height::new(9)) },
        Action::UnshareFile { file, to },
        Action::SetRoot { expect: Some(file), new: None },
        Action::ValidatorJoin { node: node_key.public().node_id(), stake: Amount::new(9) },
        Action::ValidatorLeave { node: node_key.public().node_id() },
        Action::ValidatorRotateKey { node: keys()[0].public().node_id(), new: node_key.public().node_id() },
        Action::ValidatorUnjail { node: node_key.public().node_id() },
        Action::Accuse(Box::new(Accusation::Contradiction(evidence()))),
    ];
    (0..).zip(actions).map(|(nonce, action)| tx(nonce, action)).collect()
}

/// A signature that fits nothing.
pub const NO_SIGNATURE: Signature = NO_BINDING;

/// Keys of the state, some with a record after the genesis and some without.
pub fn state_keys() -> Vec<Key> {
    let mut keys: Vec<_> = genesis().records().expect("a valid genesis").into_keys().collect();
    let file = FileId::from_bytes([3; 32]);
    keys.extend([Key::File(file), Key::Manifest(file), Key::OwnerFile(owner().account_id(), file)]);
    keys.extend([Key::Share(owner().account_id(), file), Key::Shares(file)]);
    keys.extend([Key::DueCount(Height::new(5)), Key::Due(Height::new(5), 1)]);
    keys
}

/// What the state says after the genesis.
pub fn record(key: &Key) -> Option<Record> {
    genesis().records().expect("a valid genesis").remove(key).flatten()
}

struct Empty;

impl TreeReader for Empty {
    type Error = std::convert::Infallible;
    fn node(&self, _: &[u8]) -> Result<Option<Vec<u8>>, Self::Error> {
        Ok(None)
    }
}

/// The proof of a record after the genesis.
pub fn state_proof(key: &Key) -> StateProof {
    let tree = genesis().tree().expect("a valid genesis");
    prove(&Overlay::new(&Empty, &[&tree]), Height::GENESIS, key).expect("a tree in memory")
}

/// The bundle of a record as of the first block.
pub fn bundle(key: &Key) -> Bundle {
    Bundle {
        key: key.bytes(),
        record: record(key).map(|record| record.bytes()),
        proof: state_proof(key),
        start: None,
        changes: Vec::new(),
        headers: vec![block().block.header],
        certificate: certified(VoteKind::Commit),
    }
}

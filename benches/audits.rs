//! What an audit costs: `cargo bench --bench audits`.
//!
//! Per sample, for slots of 1 MiB to 1 GiB: bytes of the proof, time of the prover (the slot is opened, one block of it is
//! read and checked, warm in the page cache) and time of the verifier. Then a whole epoch on a ledger in memory: 50 storage
//! nodes that each hold a slot, 16 samples each, every answer decoded, its signature checked, applied, and the state tree
//! updated, as each validator does. One thread. Prints one JSON line for each figure.

mod processes;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use trullo::crypto::SecretKey;
use trullo::files::proof::{self, Grain, LEAF_BYTES, SlotHasher};
use trullo::ledger::genesis::{GENESIS_VERSION, Genesis, GenesisAccount, GenesisNode, NO_BINDING, Timing};
use trullo::ledger::record::{Challenge, SkipList, StorageParams, ValidatorEntry, ValidatorParams};
use trullo::ledger::{BlockContext, Executed, Fork, Key, MemoryState, Outcome, Record, beacon};
use trullo::store::{Local, SlotSettings, Slots};
use trullo::types::{
    AccountId, Amount, ByteCount, ChainId, FileId, Height, Millis, NodeId, Role, Roles, Round, SlotRoot, View, limits,
};
use trullo::wire::tx::{FileCommit, NodeAnnouncement, SampleProof};
use trullo::wire::{self, Action, PublicManifest, SlotInfo, StorageReceipt, Tx, TxBody, VerifiedTx};

use processes::{asked_for, round};

/// Storage nodes of the epoch, and slots of a file.
const NODES: u8 = 50;
const SLOTS: u8 = 5;
/// Blocks of an epoch, as on a testnet.
const EPOCH: u64 = 64;
const REVEALS: u64 = 300;
/// Samples that are proven and verified for each length.
const SAMPLES: u64 = 256;

fn main() {
    processes::finish(run());
}

fn run() -> Result<()> {
    let lens: &[u64] = if asked_for("--test") { &[1 << 20] } else { &[1 << 20, 16 << 20, 128 << 20, 1 << 30] };
    let disk = Disk::new()?;
    for len in lens {
        let root = disk.store(*len)?;
        per_sample(&disk, root, *len)?;
        epoch(&disk, root, *len)?;
    }
    Ok(())
}

/// The slots of a node.
struct Disk {
    slots: Slots,
    _dir: tempfile::TempDir,
}

impl Disk {
    fn new() -> Result<Self> {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).context("a directory")?;
        let local = dir.path().join("local.redb");
        Local::create(&local, ChainId::from_bytes([1; 32]))?;
        let local = Local::open(&local, &Default::default())?;
        let settings = SlotSettings { capacity: ByteCount::new(8 << 30), reserve: ByteCount::ZERO };
        Ok(Self { slots: Slots::open(&dir.path().join("slots"), local, settings)?, _dir: dir })
    }

    /// Stores a slot of this length.
    fn store(&self, len: u64) -> Result<SlotRoot> {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&len.to_le_bytes());
        let mut upload = self.slots.upload(id, len)?;
        let mut bytes = blake3::Hasher::new_keyed(&id).finalize_xof();
        let (mut hasher, mut piece) = (SlotHasher::new(), vec![0; limits::SLOT_BLOCK_BYTES]);
        for _ in 0..len / piece.len() as u64 {
            bytes.fill(&mut piece);
            hasher.update(&piece);
            upload.append(&piece)?;
        }
        let tree = hasher.finish();
        upload.finish(&SlotInfo { root: *tree.root(), len }, FileId::from_bytes(id), 0)?;
        Ok(*tree.root())
    }

    fn prove(&self, root: &SlotRoot, leaf: u64) -> Result<SampleProof> {
        let (bytes, path) = self.slots.get(root)?.leaf(leaf)?;
        Ok(SampleProof { bytes, path })
    }
}

fn per_sample(disk: &Disk, root: SlotRoot, len: u64) -> Result<()> {
    let leaves = len / LEAF_BYTES as u64;
    // An odd step goes through the leaves out of order.
    let leaf = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % leaves;
    // So that every block is in the page cache, whatever was written last.
    (0..SAMPLES).try_for_each(|n| disk.prove(&root, leaf(n)).map(drop))?;
    let started = Instant::now();
    let proofs = (0..SAMPLES).map(|n| disk.prove(&root, leaf(n))).collect::<Result<Vec<_>>>()?;
    let prover = started.elapsed();
    let started = Instant::now();
    for (n, answer) in (0..SAMPLES).zip(&proofs) {
        proof::verify(&root, len, Grain::Leaf, leaf(n), &answer.bytes, &answer.path)?;
    }
    let verifier = started.elapsed();
    let bytes = wire::encode(&proofs[0]).len();
    let each = |time: Duration| round(time.as_secs_f64() * 1e3 / SAMPLES as f64, 4);
    println!(
        "{}",
        json!({
            "bench": "audits", "what": "sample", "slot_mib": len >> 20, "proof_bytes": bytes,
            "prover_ms": each(prover), "verifier_ms": each(verifier),
        })
    );
    Ok(())
}

fn key(kind: u8, n: u8) -> SecretKey {
    SecretKey::from_seed(&[kind, n].repeat(16).try_into().expect("32 bytes"))
}

fn account(n: u8) -> AccountId {
    key(1, n).public().account_id()
}

fn node(n: u8) -> NodeId {
    key(2, n).public().node_id()
}

/// One validator and 50 storage nodes of as many accounts.
fn genesis() -> Genesis {
    let entry = |n: u8, role: Role| GenesisNode {
        account: account(n),
        announcement: NodeAnnouncement {
            node: node(n),
            name: format!("node-{n}"),
            operator: format!("operator-{n}"),
            roles: Roles::of(&[role]),
            capacity: ByteCount::new(1 << 40),
            addresses: vec!["/ip4/127.0.0.1/tcp/1".to_owned()],
            beacon_head: beacon::chain(node(n).as_bytes(), REVEALS),
            binding: NO_BINDING,
        },
    };
    let storage = (0..NODES).map(|n| entry(n, Role::Storage));
    Genesis {
        staking: ValidatorParams::usual(),
        version: GENESIS_VERSION,
        name: "audits".to_owned(),
        time: Millis::new(1_700_000_000_000),
        epoch_blocks: EPOCH,
        pending_blocks: 100,
        timing: Timing {
            idle_interval: Millis::new(2_000),
            view_floor: Millis::new(500),
            view_cap: Millis::new(60_000),
        },
        storage: StorageParams::usual(EPOCH),
        accounts: (0..=NODES).map(|n| GenesisAccount { account: account(n), balance: Amount::new(1 << 40) }).collect(),
        nodes: storage.chain([entry(NODES, Role::Validator)]).collect(),
        validators: vec![ValidatorEntry { node: node(NODES), power: 1, account: account(NODES) }],
    }
    .sorted()
}

/// A ledger in memory.
struct Chain {
    id: ChainId,
    state: MemoryState,
    height: u64,
}

impl Chain {
    fn next(&self) -> BlockContext {
        let height = self.height + 1;
        let epoch = trullo::types::Epoch::new((height - 1) / EPOCH);
        let next = epoch.next().expect("a next epoch");
        BlockContext {
            height: Height::new(height),
            round: Round::new(epoch, View::new(height)),
            proposer: node(NODES),
            reveal: beacon::chain(node(NODES).as_bytes(), REVEALS - height),
            next_skip: height.is_multiple_of(EPOCH).then(|| SkipList { epoch: next, indices: Vec::new() }),
        }
    }

    fn execute(&self, txs: &[VerifiedTx]) -> Result<Executed> {
        let done =
            Fork::new(&self.state, &[]).execute(self.next(), txs).map_err(|error| anyhow::anyhow!("{error:?}"))?;
        for receipt in &done.effects.receipts {
            ensure!(receipt.outcome == Outcome::Applied, "{:?}", receipt.outcome);
        }
        Ok(done)
    }

    fn block(&mut self, txs: &[VerifiedTx]) -> Result<()> {
        let done = self.execute(txs)?;
        self.state.finalize(&done);
        self.height += 1;
        Ok(())
    }

    fn sign(&self, n: u8, nonce: u64, action: Action) -> Tx {
        Tx::sign(TxBody { chain: self.id, sender: account(n), nonce, action }, &key(1, n))
    }

    fn challenge(&self, n: u8) -> Option<Challenge> {
        match self.state.get(&Key::Challenge(node(n))) {
            Some(Record::Challenge(challenge)) => Some(challenge.as_ref().clone()),
            _ => None,
        }
    }
}

/// Files of one data shard: all their slots are the same bytes, which are on the disk.
fn deals(chain: &Chain, root: SlotRoot, len: u64) -> Vec<Tx> {
    let file = |n: u8| {
        let mut manifest = PublicManifest {
            version: 1,
            owner: account(0),
            nonce: [n; 32],
            data: 1,
            parity: SLOTS - 1,
            chunk_bytes: 1 << 20,
            cipher_len: len,
            slots: vec![SlotInfo { root, len }; usize::from(SLOTS)],
            sealed: vec![n; 200],
        };
        manifest.slots.iter_mut().for_each(|slot| slot.len = len);
        let holder = |slot: u8| n * SLOTS + slot;
        let receipt = |slot: u8| {
            let info = SlotInfo { root, len };
            StorageReceipt::sign(&chain.id, &manifest.id(), slot, Height::new(500), &info, &key(2, holder(slot)))
        };
        let receipts = (0..SLOTS).map(receipt).collect();
        let placement = (0..SLOTS).map(|slot| node(holder(slot))).collect();
        let commit = FileCommit {
            placement,
            min_confirmations: SLOTS,
            repair_threshold: SLOTS - 1,
            epochs: 10,
            receipts,
            manifest,
        };
        chain.sign(0, n.into(), Action::CommitFile(Box::new(commit)))
    };
    (0..NODES / SLOTS).map(file).collect()
}

/// All answers of an epoch, in one block.
fn epoch(disk: &Disk, root: SlotRoot, len: u64) -> Result<()> {
    let genesis = genesis();
    let mut chain = Chain { id: genesis.chain_id(), state: MemoryState::genesis(&genesis)?, height: 0 };
    let deals = VerifiedTx::verify_all(&chain.id, deals(&chain, root, len), |_| None)?;
    chain.block(&deals)?;
    while (0..NODES).any(|n| chain.challenge(n).is_none()) {
        ensure!(chain.height < 3 * EPOCH, "the nodes are not asked");
        chain.block(&[])?;
    }
    let mut answers = Vec::new();
    let mut samples = 0;
    for n in 0..NODES {
        let asked = chain.challenge(n).context("a node is not asked")?;
        let proofs = asked.samples.iter().map(|sample| disk.prove(&root, sample.leaf).map(Some));
        let proofs = proofs.collect::<Result<Vec<_>>>()?;
        samples += proofs.len();
        let nonce = if n == 0 { u64::from(NODES / SLOTS) } else { 0 };
        answers.push(chain.sign(n, nonce, Action::ProveStorage { node: node(n), epoch: asked.epoch, proofs }));
    }
    let encoded: Vec<_> = answers.iter().map(wire::encode).collect();
    let bytes: usize = encoded.iter().map(Vec::len).sum();
    let (mut verify, mut apply) = (Duration::MAX, Duration::MAX);
    for _ in 0..10 {
        let started = Instant::now();
        let txs = encoded.iter().map(|bytes| wire::decode(bytes, limits::TX_BYTES_MAX));
        let txs: Vec<Tx> = txs.collect::<Result<_, _>>().map_err(|error| anyhow::anyhow!("{error:?}"))?;
        let txs = VerifiedTx::verify_all(&chain.id, txs, |_| None)?;
        verify = verify.min(started.elapsed());
        let started = Instant::now();
        chain.execute(&txs)?;
        apply = apply.min(started.elapsed());
    }
    let ms = |time: Duration| round(time.as_secs_f64() * 1e3, 2);
    println!(
        "{}",
        json!({
            "bench": "audits", "what": "epoch", "nodes": NODES, "samples": samples, "slot_mib": len >> 20,
            "chain_bytes": bytes, "bytes_per_answer": bytes / usize::from(NODES),
            "signatures_ms": ms(verify), "apply_ms": ms(apply), "validator_ms": ms(verify + apply),
        })
    );
    Ok(())
}

//! `hotstuff_rs` 0.4.0 at the work: an application, a store on redb and a network of channels.
//!
//! As kind to it as its released state allows: view times are whole seconds and payloads one datum, because it needs that; empty
//! writes are skipped; its message buffer is large; finality is read from what it stores, because its events get lost.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bench_borsh::{BorshDeserialize, BorshSerialize};
use hotstuff_rs::app::{App, ProduceBlockRequest, ProduceBlockResponse, ValidateBlockRequest, ValidateBlockResponse};
use hotstuff_rs::block_tree::pluggables::{KVGet, KVStore, WriteBatch};
use hotstuff_rs::block_tree::variables::{BLOCK_AT_HEIGHT, BLOCK_DATA_HASH, BLOCKS};
use hotstuff_rs::networking::messages::Message;
use hotstuff_rs::networking::network::Network;
use hotstuff_rs::replica::{Configuration, Replica, ReplicaSpec};
use hotstuff_rs::types::crypto_primitives::{SigningKey, VerifyingKey};
use hotstuff_rs::types::data_types::{BufferSize, ChainID, CryptoHash, Data, Datum, EpochLength, Power};
use hotstuff_rs::types::update_sets::{AppStateUpdates, ValidatorSetUpdates};
use hotstuff_rs::types::validator_set::{ValidatorSet, ValidatorSetState};
use redb::{Database, ReadOnlyTable, ReadableDatabase, TableDefinition};

use super::work::{Cluster, REPLICAS, VICTIM, Workload, locked, payload_hash};

const TABLE: TableDefinition<&[u8], &[u8]> = TableDefinition::new("hotstuff");
/// Shorter ones count as zero.
const VIEW_TIME: Duration = Duration::from_secs(1);
/// How long a poll of the network waits at most; without waiting, the pollers take the processor from the replicas.
const RECEIVE_WITHIN: Duration = Duration::from_millis(20);

/// A cluster of it in this process.
pub struct HotStuff {
    replicas: Vec<Replica<RedbStore>>,
    commits: Vec<Arc<AtomicU64>>,
    cut: Arc<AtomicBool>,
}

impl HotStuff {
    /// Starts the replicas, each on a new database in `dir`.
    pub fn start(dir: &Path, workload: &Arc<Workload>, epoch_views: u32) -> Self {
        let keys: Vec<_> = (1..=REPLICAS).map(|n| SigningKey::from_bytes(&[n as u8; 32])).collect();
        let cut = Arc::new(AtomicBool::new(false));
        let networks = networks(&keys, &cut);
        let mut validators = ValidatorSet::new();
        let mut updates = ValidatorSetUpdates::new();
        keys.iter().for_each(|key| updates.insert(key.verifying_key(), Power::new(1)));
        validators.apply_updates(&updates);
        let mut cluster = Self { replicas: Vec::new(), commits: Vec::new(), cut };
        for (index, (key, network)) in keys.into_iter().zip(networks).enumerate() {
            let watched = (index == 0).then(|| workload.clone());
            let store = RedbStore::create(&dir.join(format!("hotstuff-{index}.redb")), watched);
            let set = ValidatorSetState::new(validators.clone(), validators.clone(), None, true);
            Replica::initialize(store.clone(), AppStateUpdates::new(), set);
            cluster.commits.push(store.commits.clone());
            let spec = ReplicaSpec::builder()
                .app(OpaqueApp(workload.clone()))
                .network(network)
                .kv_store(store)
                .configuration(configuration(key, epoch_views))
                .build();
            cluster.replicas.push(spec.start());
        }
        cluster
    }

    /// Highest committed height of a replica.
    #[allow(dead_code, reason = "the test of its liveness asks for it, the benchmark does not")]
    pub fn height(&self, replica: usize) -> Option<u64> {
        let tree = self.replicas[replica].block_tree_camera().snapshot();
        let block = tree.highest_committed_block().expect("a readable tree")?;
        tree.block_height(&block).expect("a readable tree").map(|height| height.int())
    }

    /// The highest view that a replica has entered.
    pub fn view(&self, replica: usize) -> u64 {
        let tree = self.replicas[replica].block_tree_camera().snapshot();
        tree.highest_view_entered().expect("a readable tree").int()
    }

    /// Lets go of the replicas without ending them: their `drop` waits for the end of a view that may be far away. The
    /// threads end with the process.
    pub fn abandon(self) {
        self.replicas.into_iter().for_each(std::mem::forget);
    }
}

impl Cluster for HotStuff {
    fn commits(&self) -> u64 {
        let cut = self.cut.load(Ordering::Relaxed);
        let counted = self.commits.iter().enumerate().filter(|(index, _)| !(cut && *index == VICTIM));
        counted.map(|(_, commits)| commits.load(Ordering::Relaxed)).sum()
    }
    fn views(&self) -> u64 {
        self.view(0)
    }
    fn kill(&mut self) {
        self.cut.store(true, Ordering::Relaxed);
    }
}

fn configuration(me: SigningKey, epoch_views: u32) -> Configuration {
    Configuration::builder()
        .me(me)
        .chain_id(ChainID::new(1))
        .block_sync_request_limit(10)
        .block_sync_server_advertise_time(Duration::from_secs(10))
        .block_sync_response_timeout(Duration::from_secs(3))
        .block_sync_blacklist_expiry_time(Duration::from_secs(10))
        .block_sync_trigger_min_view_difference(4)
        .block_sync_trigger_timeout(Duration::from_secs(60))
        .progress_msg_buffer_capacity(BufferSize::new(1 << 40))
        .epoch_length(EpochLength::new(epoch_views))
        .max_view_time(VIEW_TIME)
        .log_events(false)
        .build()
}

/// Payloads as blocks of one datum, without state.
struct OpaqueApp(Arc<Workload>);

impl App<RedbStore> for OpaqueApp {
    fn produce_block(&mut self, _: ProduceBlockRequest<RedbStore>) -> ProduceBlockResponse {
        let (payload, hash) = self.0.make();
        ProduceBlockResponse {
            data_hash: CryptoHash::new(hash),
            data: Data::new(vec![Datum::new(payload)]),
            app_state_updates: None,
            validator_set_updates: None,
        }
    }

    fn validate_block(&mut self, request: ValidateBlockRequest<RedbStore>) -> ValidateBlockResponse {
        self.validate_block_for_sync(request)
    }

    fn validate_block_for_sync(&mut self, request: ValidateBlockRequest<RedbStore>) -> ValidateBlockResponse {
        let block = request.proposed_block();
        match block.data.vec().as_slice() {
            [datum] if payload_hash(datum.bytes()) == block.data_hash.bytes() => {
                ValidateBlockResponse::Valid { app_state_updates: None, validator_set_updates: None }
            }
            _ => ValidateBlockResponse::Invalid,
        }
    }
}

/// Its key-value store: one table, each write one durable commit, of the same kind as in trullo's own store.
#[derive(Clone)]
pub struct RedbStore {
    db: Arc<Database>,
    commits: Arc<AtomicU64>,
    /// Told of what is committed; at replica 0 only.
    workload: Option<Arc<Workload>>,
}

impl RedbStore {
    fn create(path: &Path, workload: Option<Arc<Workload>>) -> Self {
        let db = Database::create(path).expect("a new database");
        let store = Self { db: Arc::new(db), commits: Arc::default(), workload };
        let txn = store.db.begin_write().expect("a write");
        txn.open_table(TABLE).expect("a new table");
        txn.commit().expect("a commit");
        store
    }

    /// Reports the blocks that a write has committed: those that it names by height.
    fn report(&self, workload: &Workload, batch: &RedbBatch) {
        for (key, block) in &batch.changes {
            let (true, Some(block)) = (key.starts_with(&BLOCK_AT_HEIGHT), block) else { continue };
            let hash = self.get(&[&BLOCKS, block.as_slice(), &BLOCK_DATA_HASH].concat());
            if let Some(hash) = hash.and_then(|hash| hash.try_into().ok()) {
                workload.finalized(&hash);
            }
        }
    }
}

impl KVStore for RedbStore {
    type WriteBatch = RedbBatch;
    type Snapshot<'a> = RedbSnapshot;

    fn write(&mut self, batch: RedbBatch) {
        if batch.changes.is_empty() {
            return;
        }
        let mut txn = self.db.begin_write().expect("a write");
        txn.set_two_phase_commit(true);
        let mut table = txn.open_table(TABLE).expect("the table");
        for (key, value) in &batch.changes {
            match value {
                Some(value) => table.insert(key.as_slice(), value.as_slice()).map(|_| ()).expect("an insertion"),
                None => table.remove(key.as_slice()).map(|_| ()).expect("a removal"),
            }
        }
        drop(table);
        txn.commit().expect("a commit");
        self.commits.fetch_add(1, Ordering::Relaxed);
        if let Some(workload) = &self.workload {
            self.report(workload, &batch);
        }
    }

    fn clear(&mut self) {
        let txn = self.db.begin_write().expect("a write");
        txn.delete_table(TABLE).expect("a deletion");
        txn.open_table(TABLE).expect("a new table");
        txn.commit().expect("a commit");
    }

    fn snapshot(&self) -> RedbSnapshot {
        let txn = self.db.begin_read().expect("a read");
        RedbSnapshot(txn.open_table(TABLE).expect("the table"))
    }
}

impl KVGet for RedbStore {
    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.snapshot().get(key)
    }
}

/// The store at one moment.
pub struct RedbSnapshot(ReadOnlyTable<&'static [u8], &'static [u8]>);

impl KVGet for RedbSnapshot {
    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.0.get(key).expect("a read").map(|value| value.value().to_vec())
    }
}

/// Changes that are written together; the last one of a key counts.
pub struct RedbBatch {
    changes: HashMap<Vec<u8>, Option<Vec<u8>>>,
}

impl WriteBatch for RedbBatch {
    fn new() -> Self {
        Self { changes: HashMap::new() }
    }
    fn set(&mut self, key: &[u8], value: &[u8]) {
        self.changes.insert(key.to_vec(), Some(value.to_vec()));
    }
    fn delete(&mut self, key: &[u8]) {
        self.changes.insert(key.to_vec(), None);
    }
}

type Frame = (VerifyingKey, Arc<Vec<u8>>);

/// Channels that carry encoded messages.
#[derive(Clone)]
struct ChannelNetwork {
    me: VerifyingKey,
    peers: HashMap<[u8; 32], Sender<Frame>>,
    inbox: Arc<Mutex<Receiver<Frame>>>,
    /// The one who is cut off when the flag is up.
    victim: [u8; 32],
    cut: Arc<AtomicBool>,
}

fn networks(keys: &[SigningKey], cut: &Arc<AtomicBool>) -> Vec<ChannelNetwork> {
    let (outboxes, inboxes): (Vec<_>, Vec<_>) = keys.iter().map(|_| channel()).unzip();
    let names: Vec<_> = keys.iter().map(|key| key.verifying_key().to_bytes()).collect();
    let peers: HashMap<_, _> = names.iter().copied().zip(outboxes).collect();
    let network = |(key, inbox): (&SigningKey, Receiver<Frame>)| ChannelNetwork {
        me: key.verifying_key(),
        peers: peers.clone(),
        inbox: Arc::new(Mutex::new(inbox)),
        victim: names[VICTIM],
        cut: cut.clone(),
    };
    keys.iter().zip(inboxes).map(network).collect()
}

impl ChannelNetwork {
    fn deliver(&self, to: &[u8; 32], frame: &Arc<Vec<u8>>) {
        let me = self.me.to_bytes();
        let crosses = me != *to && (me == self.victim || *to == self.victim);
        if crosses && self.cut.load(Ordering::Relaxed) {
            return;
        }
        if let Some(peer) = self.peers.get(to) {
            // A receiver that is gone belongs to a cluster that was let go.
            let _ = peer.send((self.me, frame.clone()));
        }
    }
}

impl Network for ChannelNetwork {
    fn init_validator_set(&mut self, _: ValidatorSet) {}

    fn update_validator_set(&mut self, _: ValidatorSetUpdates) {}

    fn broadcast(&mut self, message: Message) {
        let frame = Arc::new(message.try_to_vec().expect("encoding into memory"));
        self.peers.keys().for_each(|to| self.deliver(to, &frame));
    }

    fn send(&mut self, peer: VerifyingKey, message: Message) {
        let frame = Arc::new(message.try_to_vec().expect("encoding into memory"));
        self.deliver(&peer.to_bytes(), &frame);
    }

    fn recv(&mut self) -> Option<(VerifyingKey, Message)> {
        let (from, frame) = locked(&self.inbox).recv_timeout(RECEIVE_WITHIN).ok()?;
        Some((from, Message::try_from_slice(&frame).expect("a message of our own")))
    }
}

//! From a home directory to a running node, and back.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::timeout_at;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::access::AccessKeys;
use super::acting::Actors;
use super::admission::Admission;
use super::app::{LedgerApp, Parts, check_version, read_record, state_changes, validators};
use super::beacon::BeaconChain;
use super::chain::book::SharedBook;
use super::chain::{Chain, Inbox, Input, MoreWaits, OnFinal, Setup, exec};
use super::clock::Clock;
use super::disk;
use super::handle::{Handle, Identity, Inner};
use super::light::Checkpoint;
use super::links::NetLinks;
use super::metrics::Metrics;
use super::snapshot::{Shelf, join, join::JoinError};
use super::{accuse, files, gossip, home, keeper, partition, slots, snapshot, standing};
use crate::config::{Config, Net};
use crate::consensus;
use crate::crypto::SecretKey;
use crate::crypto::keys::AccountKeys;
use crate::files::erasure;
use crate::ledger::{Genesis, GenesisError, Key};
use crate::mempool::{Capacity, Mempool};
use crate::net::{self, Address, AddressError, NetConfig, NetError, NetLimits, PeerAddress};
use crate::store::{FinalBlock, Local, Options, SlotSettings, Slots, Store, StoreError};
use crate::types::{Millis, Role, limits};
use crate::wire::{Certificate, ProposedBlock};

/// How long everything has to end by itself when the node stops.
const STOP_WITHIN: Duration = Duration::from_secs(4);
/// Longest time to a view's end before anything was measured, if the timers are longer.
const VIEW_BASE: Millis = Millis::new(1_000);

/// Why a node does not start or ends.
#[derive(Debug, thiserror::Error)]
pub enum NodeFailure {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The network.
    #[error(transparent)]
    Net(#[from] NetError),
    /// The genesis file.
    #[error("the genesis file is not valid: {0}")]
    Genesis(#[from] GenesisError),
    /// A setting.
    #[error("{0}")]
    Setting(String),
    /// The machine.
    #[error(transparent)]
    Machine(#[from] erasure::MissingFeature),
    /// A thread could not be started, or ended badly.
    #[error("{0}")]
    Thread(String),
}

/// What a node starts from.
pub struct Start {
    /// The home directory.
    pub home: PathBuf,
    /// Its settings.
    pub config: Config,
    /// The chain's genesis.
    pub genesis: Genesis,
    /// The account's keys, if its keystore was opened.
    pub account: Option<AccountKeys>,
    /// The latest version of the rules that it follows: `BLOCK_VERSION`, but in tests of upgrades.
    pub known: u16,
}

/// A running node.
pub struct Node {
    handle: Handle,
    chain: std::thread::JoinHandle<Result<(), StoreError>>,
    exec: std::thread::JoinHandle<()>,
}

impl Node {
    /// Acts on the node.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Waits until the node is told to stop or cannot go on, then ends everything: what was acknowledged is durable.
    /// Errors: the failure that ended it.
    pub async fn finish(self) -> Result<(), NodeFailure> {
        self.handle.stop_token().cancelled().await;
        let inner = &self.handle.inner;
        // The thread may have ended already, with the failure that stopped the node.
        let deadline = tokio::time::Instant::now() + STOP_WITHIN;
        let _ = timeout_at(deadline, inner.chain.send(Input::Stop)).await;
        let threads = tokio::task::spawn_blocking(move || (self.chain.join(), self.exec.join()));
        let tasks = async {
            inner.net.shutdown().await;
            inner.tasks.close();
            inner.tasks.wait().await;
        };
        if timeout_at(deadline, tasks).await.is_err() {
            tracing::warn!("some tasks did not end in time");
        }
        let died = |which| NodeFailure::Thread(format!("the {which} thread died; its last words are above"));
        match timeout_at(deadline, threads).await {
            Ok(Ok((chain, exec))) => {
                chain.map_err(|_| died("chain"))??;
                exec.map_err(|_| died("execution"))?;
                inner.local.failed().borrow().clone().map_or(Ok(()), |error| Err(error.into()))
            }
            Ok(Err(_)) => Err(died("joining")),
            Err(_) => Err(NodeFailure::Thread("the chain thread did not end in time".to_owned())),
        }
    }
}

/// Starts a node on the current tokio runtime. Errors: each of `NodeFailure`.
pub async fn start(start: Start) -> Result<Node, NodeFailure> {
    let Start { home, config, genesis, account, known } = start;
    erasure::check_cpu()?;
    genesis.check()?;
    let chain_id = genesis.chain_id();
    let store = Store::open(&home.join("node.redb"), &Options::default())?;
    store.expect_chain(chain_id)?;
    let local = Local::open(&home.join("local.redb"), &Options::default())?;
    local.expect_chain(chain_id)?;
    let signer = store.signer()?;
    let key = SecretKey::from_seed(&signer.seed());
    let reader = store.reader();
    // Before anything listens: a node that cannot follow leaves nothing behind.
    check_version(read_record(&reader.snapshot()?, &Key::Protocol)?, known)?;
    let core = core_config(&config, &genesis, &key)?;
    let slots = match config.node.roles.has(Role::Storage) {
        true => {
            let settings = SlotSettings { capacity: config.storage.capacity, reserve: config.storage.reserve };
            Some(Slots::open(&home.join("slots"), local.clone(), settings)?)
        }
        false => None,
    };
    let (metrics, net_metrics) = Metrics::new();
    let (net, inboxes) = net::start(net_config(&config, &genesis, &key)?, net_metrics).await?;
    let joins = store.joining()?.is_some() || (reader.tip().is_none() && config.history.by_snapshot);
    match joins {
        true => join_by_snapshot(&store, &net, &config, &genesis).await?,
        false => write_genesis(&store, &genesis)?,
    }
    let snapshot = reader.snapshot()?;
    // What was joined by a snapshot may have other rules than the genesis.
    check_version(read_record(&snapshot, &Key::Protocol)?, known)?;
    let set = Arc::new(validators(&snapshot)?);
    drop(snapshot);
    let shelf = Arc::new(Shelf::open(home.join("snapshots")));
    let clock = Clock::start();
    let stop = CancellationToken::new();
    let mempool = Arc::new(Mutex::new(Mempool::new(Capacity::STANDARD)));
    let net::Inboxes { consensus: messages, gossip, requests, streams } = inboxes;
    let (chain_in, inputs) = mpsc::channel(limits::CHAIN_INBOX_MAX);
    let (accusations, accused) = mpsc::channel(accuse::WAITING_MAX);
    let (outbox, outgoing) = mpsc::channel(limits::CHAIN_INBOX_MAX);
    let (status_in, status) = watch::channel(None);
    let (low, disk) = watch::channel(None);
    let (judged, standing) = watch::channel(Arc::default());
    let watching = disk::watch(home.clone(), config.node.disk_reserve.get(), low, chain_in.clone(), stop.clone());
    let beacon = BeaconChain::of(&signer.seed(), 0);
    let beacon_head = beacon.head();
    let parts = Parts { config: core.clone(), reader: reader.clone(), mempool: mempool.clone(), beacon, clock, known };
    let (commands, exec) = start_exec(LedgerApp::new(parts), chain_in.clone(), stop.clone())?;
    let links = NetLinks {
        net: net.clone(),
        chain: chain_in.clone(),
        runtime: tokio::runtime::Handle::current(),
        accusations: accusations.clone(),
        validates: false,
    };
    let book = SharedBook::default();
    let process = home::random().map_err(|error| NodeFailure::Setting(error.to_string()))?;
    let setup = Setup {
        db: store,
        key: key.clone(),
        config: core,
        set,
        book: book.clone(),
        process: u64::from_be_bytes(process),
        links,
        exec: commands,
        inbox: Inbox { inputs, messages },
        status: status_in,
        on_final: on_final(mempool.clone()),
        more_waits: more_waits(mempool.clone()),
        clock,
        keep: config.history.keep_blocks,
    };
    let chain = start_chain(setup, stop.clone())?;
    let access = account.as_ref().map(|account| AccessKeys::open(&home, account)).transpose();
    let access = access.map_err(|error| NodeFailure::Setting(error.to_string()))?;
    let identity =
        Identity { chain: chain_id, node: net.node(), account: account.as_ref().map(AccountKeys::account_id) };
    let inner = Inner {
        identity,
        config,
        genesis,
        home,
        reader,
        local,
        slots,
        lacking: slots::damage::Lacking::default(),
        key,
        beacon_head,
        known,
        net,
        mempool,
        chain: chain_in,
        status,
        book,
        disk,
        standing,
        actors: Actors::default(),
        access,
        clock,
        metrics,
        outbox,
        accusations,
        shelf: shelf.clone(),
        denied: Mutex::new(BTreeSet::new()),
        trees: super::tree::Trees::default(),
        stop,
        tasks: TaskTracker::new(),
    };
    let handle = Handle::new(Arc::new(inner), account);
    gossip::recall(&handle);
    handle.spawn(watching);
    handle.spawn(partition::watch(handle.clone(), judged));
    handle.spawn(end_with_local(handle.clone()));
    let admission = Arc::<Admission>::default();
    handle.spawn(gossip::receive(handle.clone(), gossip, Arc::clone(&admission)));
    handle.spawn(standing::run(handle.clone()));
    handle.spawn(gossip::send_txs(handle.clone(), outgoing));
    handle.spawn(gossip::repeat_txs(handle.clone()));
    handle.spawn(gossip::answer(handle.clone(), requests, admission));
    handle.spawn(gossip::announce(handle.clone()));
    handle.spawn(accuse::run(handle.clone(), accused));
    if handle.config().history.snapshots {
        handle.spawn(snapshot::make::run(handle.clone(), shelf));
    }
    if handle.identity().account.is_some() {
        handle.spawn(files::late::run(handle.clone()));
        handle.spawn(files::watch::run(handle.clone()));
    }
    if let Some(slots) = handle.slots() {
        keeper::start(&handle, slots);
        handle.spawn(slots::serve::run(handle.clone(), slots.clone(), streams));
        handle.spawn(slots::release::run(handle.clone(), slots.clone()));
    }
    Ok(Node { handle, chain, exec })
}

/// A node that cannot write its own database must not look alive: the failure is the node's end.
async fn end_with_local(handle: Handle) {
    let mut failed = handle.local().failed();
    tokio::select! {
        failed = failed.wait_for(Option::is_some) => {
            if let Some(error) = failed.ok().and_then(|failed| failed.clone()) {
                tracing::error!(%error, "the node's own database cannot be written; the node stops");
            }
            handle.stop_token().cancel();
        }
        () = handle.stop_token().cancelled() => {}
    }
}

/// Gets the state from peers, where the home has none yet.
async fn join_by_snapshot(
    store: &Store,
    net: &net::NetHandle,
    config: &Config,
    genesis: &Genesis,
) -> Result<(), NodeFailure> {
    let point = config.history.trust.as_ref().map(|text| text.parse::<Checkpoint>()).transpose();
    let point = point.map_err(|error| NodeFailure::Setting(format!("sync.trust: {error}")))?;
    let failed = |error: JoinError| match error {
        JoinError::Store(error) => NodeFailure::Store(error),
        JoinError::Trust(error) => NodeFailure::Setting(error.to_string()),
    };
    let trusted = join::anchor(net, genesis, point).await.map_err(|error| failed(error.into()))?;
    join::join(store, net, trusted).await.map(|_| ()).map_err(failed)
}

/// Writes the genesis block and state, the first time.
pub(super) fn write_genesis(store: &Store, genesis: &Genesis) -> Result<(), NodeFailure> {
    if store.reader().tip().is_some() {
        return Ok(());
    }
    let block = genesis.block()?;
    let justify = Certificate::genesis(block.hash());
    let proposed = ProposedBlock { block, justify: justify.clone() };
    let (records, tree) = (genesis.records()?, genesis.tree()?);
    let receipts = crate::wire::encode(&Vec::<crate::ledger::Receipt>::new());
    let mut batch = store.batch()?;
    batch.finalize(&FinalBlock {
        block: &proposed,
        certificate: None,
        receipts: &receipts,
        txs: &[],
        state: &state_changes(&records),
        tree: &tree,
    })?;
    Ok(batch.commit()?)
}

fn core_config(config: &Config, genesis: &Genesis, key: &SecretKey) -> Result<consensus::Config, NodeFailure> {
    let idle_interval = config.consensus.idle_interval.unwrap_or(genesis.timing.idle_interval);
    let floor = config.consensus.view_floor.unwrap_or(genesis.timing.view_floor);
    let cap = config.consensus.view_cap.unwrap_or(genesis.timing.view_cap).max(floor);
    Ok(consensus::Config {
        chain: genesis.chain_id(),
        genesis: genesis.block()?.hash(),
        epoch_blocks: genesis.epoch_blocks,
        idle_interval,
        me: key.public().node_id(),
        view_base: VIEW_BASE.max(floor).min(cap),
        view_floor: floor,
        view_cap: cap,
        planted: consensus::planted::Planted::default(),
    })
}

/// The addresses of a configuration, as the network reads them.
pub struct Addresses {
    /// Where to listen.
    pub listen: Vec<Address>,
    /// Under which others reach this node, beside those.
    pub announce: Vec<Address>,
    /// Where the network is.
    pub bootstrap: Vec<PeerAddress>,
}

/// Reads the addresses of a configuration. Errors: `Setting` names the wrong one.
pub fn addresses(config: &Config) -> Result<Addresses, NodeFailure> {
    fn all<T: FromStr<Err = AddressError>>(what: &str, texts: &[String]) -> Result<Vec<T>, NodeFailure> {
        let one =
            |text: &String| text.parse().map_err(|error| NodeFailure::Setting(format!("net.{what} {text:?}: {error}")));
        texts.iter().map(one).collect()
    }
    let Net { listen, announce, bootstrap, .. } = &config.net;
    Ok(Addresses {
        listen: all("listen", listen)?,
        announce: all("announce", announce)?,
        bootstrap: all("bootstrap", bootstrap)?,
    })
}

fn net_config(config: &Config, genesis: &Genesis, key: &SecretKey) -> Result<NetConfig, NodeFailure> {
    let Addresses { listen, announce, bootstrap } = addresses(config)?;
    let memory_bytes = usize::try_from(config.net.memory_max.get()).unwrap_or(usize::MAX);
    Ok(NetConfig {
        key: key.clone(),
        chain: genesis.chain_id(),
        listen,
        announce,
        bootstrap,
        limits: NetLimits { connections: config.net.connections_max, memory_bytes, ..NetLimits::default() },
    })
}

/// A node that does not execute must not look alive either: the thread's end is the node's end.
fn start_exec(
    app: LedgerApp,
    out: mpsc::Sender<Input>,
    stop: CancellationToken,
) -> Result<(exec::Commands, std::thread::JoinHandle<()>), NodeFailure> {
    let (commands, queue) = std::sync::mpsc::channel();
    let thread = std::thread::Builder::new().name("exec".to_owned()).spawn(move || {
        let _stops = stop.drop_guard();
        exec::run(app, queue, out);
    });
    Ok((commands, thread.map_err(|error| NodeFailure::Thread(error.to_string()))?))
}

/// The thread's end is the node's end: a node without a chain must not look alive.
fn start_chain(
    setup: Setup<NetLinks>,
    stop: CancellationToken,
) -> Result<std::thread::JoinHandle<Result<(), StoreError>>, NodeFailure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.map_err(|error| NodeFailure::Thread(error.to_string()))?;
    let (chain, inbox) = Chain::open(setup)?;
    let thread = std::thread::Builder::new().name("chain".to_owned()).spawn(move || {
        let _stops = stop.drop_guard();
        let ended = chain.run(inbox, &runtime);
        if let Err(error) = &ended {
            tracing::error!(%error, "the chain cannot go on; the node stops");
        }
        ended
    });
    thread.map_err(|error| NodeFailure::Thread(error.to_string()))
}

/// Whether transactions wait beside those of some blocks.
fn more_waits(mempool: Arc<Mutex<Mempool>>) -> MoreWaits {
    Box::new(move |blocks| {
        let blocks: Vec<_> = blocks.collect();
        let count = blocks.iter().map(|executed| executed.verified.len()).sum();
        let ids = blocks.iter().flat_map(|executed| &executed.verified).map(|tx| tx.id());
        mempool.lock().unwrap_or_else(std::sync::PoisonError::into_inner).has_beyond(count, ids)
    })
}

/// What is done with each final block: its transactions no longer wait.
fn on_final(mempool: Arc<Mutex<Mempool>>) -> OnFinal {
    Box::new(move |blocks| {
        let mut mempool = mempool.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for executed in blocks {
            mempool.finalized(executed.block.header().height, &executed.verified);
        }
        mempool.has_next()
    })
}

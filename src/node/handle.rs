//! The handle: what faces and workers ask of a running node.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::access::AccessKeys;
use super::acting::{Actor, Actors};
use super::app::read_record;
use super::chain::book::SharedBook;
use super::chain::{ChainStatus, Input};
use super::clock::{Clock, random_pause};
use super::disk::Low;
use super::files::spool::Spool;
use super::metrics::Metrics;
use super::partition::Standing;
use super::slots::damage::Lacking;
use crate::config::Config;
use crate::crypto::keys::AccountKeys;
use crate::ledger::effects::{Outcome, Receipt};
use crate::ledger::{Genesis, Key, Record};
use crate::mempool::{Mempool, Refusal};
use crate::net::{NetHandle, SendError};
use crate::store::{Local, Reader, SlotError, Slots, Snapshot, StoreError, TxPlace};
use crate::types::{AccountId, ChainId, FileId, Height, NodeId, TxId, limits};
use crate::wire::{self, Action, Topic, Tx, TxBody, VerifiedTx};

/// Longest pause before an action is signed anew because another transaction of the account took its nonce.
const ACT_PAUSE_MAX: Duration = Duration::from_millis(500);

/// Why a node cannot do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// Nothing of that name.
    #[error("{what} {id} is not known here")]
    NotFound {
        /// What kind of thing.
        what: &'static str,
        /// Its id.
        id: String,
    },
    /// The caller asked for something that cannot be.
    #[error("{0}")]
    Bad(String),
    /// The account may not do this, or has no keys here.
    #[error("{0}")]
    NotAllowed(String),
    /// The mempool does not take the transaction.
    #[error("the transaction is not taken in: {0}")]
    Refused(#[from] Refusal),
    /// The ledger rejected the transaction.
    #[error("the ledger rejected the transaction: {reason}")]
    Rejected {
        /// The transaction.
        tx: TxId,
        /// Name of the reason.
        code: &'static str,
        /// Why.
        reason: String,
    },
    /// Not in time.
    #[error("{what} within {within:?}; {hint}")]
    Timeout {
        /// What did not happen.
        what: String,
        /// How long was waited.
        within: Duration,
        /// What to do.
        hint: &'static str,
    },
    /// Not enough other nodes, or they do not answer.
    #[error("{0}")]
    Unavailable(String),
    /// The network has too few nodes, or too little room, for what was asked.
    #[error("{0}")]
    NoRoom(String),
    /// Bytes are not what they must be.
    #[error("{0}")]
    Verification(String),
    /// The tree of folders does not allow the change.
    #[error(transparent)]
    Tree(#[from] crate::files::tree::TreeError),
    /// Too much is under way.
    #[error(transparent)]
    Busy(#[from] SendError),
    /// This node's store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// This node's slots failed.
    #[error(transparent)]
    Slots(#[from] SlotError),
    /// This node's disk is almost full.
    #[error("this node pauses: {0}")]
    DiskLow(Low),
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopping,
    /// No quorum of validators is in reach, so that nothing can become final.
    #[error("{0}")]
    Partitioned(String),
}

/// What a node is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The chain.
    pub chain: ChainId,
    /// The node.
    pub node: NodeId,
    /// Its account, if its keystore was opened.
    pub account: Option<AccountId>,
}

pub(super) struct Inner {
    pub identity: Identity,
    pub config: Config,
    pub genesis: Genesis,
    pub home: std::path::PathBuf,
    pub reader: Reader,
    pub local: Local,
    pub slots: Option<Slots>,
    pub lacking: Lacking,
    pub key: crate::crypto::SecretKey,
    /// Head of its hash chain for the beacon.
    pub beacon_head: [u8; 32],
    /// The latest version of the rules that it follows.
    pub known: u16,
    pub net: NetHandle,
    pub mempool: Arc<Mutex<Mempool>>,
    pub chain: mpsc::Sender<Input>,
    pub status: watch::Receiver<Option<ChainStatus>>,
    pub book: SharedBook,
    pub disk: watch::Receiver<Option<Low>>,
    pub standing: watch::Receiver<Arc<Standing>>,
    pub actors: Actors,
    pub access: Option<AccessKeys>,
    pub clock: Clock,
    pub metrics: Metrics,
    pub outbox: mpsc::Sender<VerifiedTx>,
    pub accusations: mpsc::Sender<crate::wire::Accusation>,
    pub shelf: Arc<super::snapshot::Shelf>,
    pub denied: Mutex<BTreeSet<NodeId>>,
    pub trees: super::tree::Trees,
    pub stop: CancellationToken,
    pub tasks: TaskTracker,
}

/// Acts on a running node, for one account: the node's own, or that of `for_account`. Clones act on the same node for the same
/// account.
#[derive(Clone)]
pub struct Handle {
    pub(super) inner: Arc<Inner>,
    actor: Option<Arc<Actor>>,
}

/// A transaction that is final.
#[derive(Clone, Debug)]
pub struct FinalTx {
    /// Its id.
    pub id: TxId,
    /// Where it is.
    pub place: TxPlace,
    /// What came of it.
    pub receipt: Receipt,
}

impl Handle {
    /// A handle that acts for the node's own account, if there are keys.
    pub(super) fn new(inner: Arc<Inner>, account: Option<AccountKeys>) -> Self {
        let actor = account.map(|keys| inner.actors.of(keys));
        Self { inner, actor }
    }

    /// The same node, acting for another account: what it signs, puts, reads and waits for is that account's. Cheap. Handles of one
    /// account take turns, those of different ones do not wait for each other.
    pub fn for_account(&self, keys: AccountKeys) -> Self {
        Self { inner: self.inner.clone(), actor: Some(self.inner.actors.of(keys)) }
    }

    /// A handle for an account that somebody acts for just now, the node itself or a user who is logged in.
    pub(super) fn acting_for(&self, account: &AccountId) -> Option<Self> {
        let actor = self.inner.actors.get(account)?;
        Some(Self { inner: self.inner.clone(), actor: Some(actor) })
    }

    /// What this node is.
    pub fn identity(&self) -> &Identity {
        &self.inner.identity
    }
    /// Its settings.
    pub fn config(&self) -> &Config {
        &self.inner.config
    }
    /// Its home directory.
    pub fn home(&self) -> &std::path::Path {
        &self.inner.home
    }
    /// The chain's genesis.
    pub fn genesis(&self) -> &Genesis {
        &self.inner.genesis
    }
    /// Finalized data.
    pub fn reader(&self) -> &Reader {
        &self.inner.reader
    }
    /// A snapshot of it. Errors: `Store`.
    pub fn snapshot(&self) -> Result<Snapshot, NodeError> {
        Ok(self.inner.reader.snapshot()?)
    }
    /// The network.
    pub fn net(&self) -> &NetHandle {
        &self.inner.net
    }
    /// The slots that it holds, if it is a storage node.
    pub fn slots(&self) -> Option<&Slots> {
        self.inner.slots.as_ref()
    }
    /// The slots that it should hold and does not, or not whole.
    pub fn lacking(&self) -> &Lacking {
        &self.inner.lacking
    }
    /// How consensus is doing; nothing before the first turn.
    pub fn status(&self) -> Option<ChainStatus> {
        self.inner.status.borrow().clone()
    }
    /// Why the node pauses, if it does.
    pub fn disk_low(&self) -> Option<Low> {
        *self.inner.disk.borrow()
    }
    /// Errors: `DiskLow` while nothing new can be taken in, `Partitioned` while it could not become final.
    pub fn takes_in(&self) -> Result<(), NodeError> {
        self.has_room()?;
        self.reaches_a_quorum()
    }
    /// Errors: `DiskLow` while nothing new can be written.
    pub fn has_room(&self) -> Result<(), NodeError> {
        self.disk_low().map_or(Ok(()), |low| Err(NodeError::DiskLow(low)))
    }
    /// The clock.
    pub fn clock(&self) -> Clock {
        self.inner.clock
    }
    /// What is counted.
    pub fn metrics(&self) -> &Metrics {
        &self.inner.metrics
    }
    /// Waiting transactions.
    pub fn mempool(&self) -> MutexGuard<'_, Mempool> {
        self.inner.mempool.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// The token that stops everything.
    pub fn stop_token(&self) -> &CancellationToken {
        &self.inner.stop
    }
    /// The node's own database.
    pub fn local(&self) -> &Local {
        &self.inner.local
    }
    pub(super) fn spool(&self) -> Spool {
        Spool::of(&self.inner.home, self.inner.config.storage.reserve.get())
    }
    /// Runs a task that the node waits for when it stops.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.inner.tasks.spawn(task);
    }

    /// Runs a task that ends, wherever it is, when the node stops.
    pub(super) fn spawn_while_running(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.inner.stop.clone();
        self.inner.tasks.spawn(async move {
            stop.run_until_cancelled(task).await;
        });
    }

    /// The keys of the account that this handle acts for. Errors: `NotAllowed` when there are none.
    pub fn keys(&self) -> Result<&AccountKeys, NodeError> {
        Ok(&self.actor()?.keys)
    }

    /// The account that this handle acts for, if there is one.
    pub fn account(&self) -> Option<AccountId> {
        self.actor.as_ref().map(|actor| actor.id)
    }

    fn actor(&self) -> Result<&Actor, NodeError> {
        let hint = "this node was started without an account: run it with --password-file";
        self.actor.as_deref().ok_or_else(|| NodeError::NotAllowed(hint.to_owned()))
    }

    /// The pairs by which programs act for the account. Errors: `NotAllowed` when this node has none.
    pub fn access_keys(&self) -> Result<&AccessKeys, NodeError> {
        self.keys()?;
        self.inner.access.as_ref().ok_or(NodeError::Stopping)
    }

    /// A record of the finalized state. Errors: `Store`.
    pub fn record(&self, key: &Key) -> Result<Option<Record>, NodeError> {
        Ok(read_record(&self.snapshot()?, key)?)
    }

    /// Verifies a transaction and takes it in. Errors: `Bad`, `Refused`, `Busy`, `DiskLow`, `Partitioned`, `Store`.
    pub async fn submit(&self, tx: Tx) -> Result<TxId, NodeError> {
        self.takes_in()?;
        let tx =
            VerifiedTx::verify(&self.inner.identity.chain, tx).map_err(|error| NodeError::Bad(error.to_string()))?;
        self.submit_verified(tx).await
    }

    pub(super) async fn submit_verified(&self, tx: VerifiedTx) -> Result<TxId, NodeError> {
        let id = tx.id();
        self.take_in(tx.clone())?;
        self.poke();
        self.inner.outbox.send(tx).await.map_err(|_| NodeError::Stopping)?;
        Ok(id)
    }

    /// Puts a transaction into the mempool. The nonce is read while nobody else changes the pool: a block that becomes final
    /// after that finds the transaction there and drops it. Errors: `Refused`, `Store`.
    pub(super) fn take_in(&self, tx: VerifiedTx) -> Result<(), NodeError> {
        let mut mempool = self.mempool();
        let next = self.finalized_nonce(&tx.sender())?;
        mempool.insert(tx, next)?;
        Ok(())
    }

    /// Whether a transaction is one that the mempool takes in. Errors: `Refused`, `Store`.
    pub(super) fn admits(&self, tx: &VerifiedTx) -> Result<(), NodeError> {
        let next = self.finalized_nonce(&tx.sender())?;
        self.mempool().admits(tx, next)?;
        Ok(())
    }

    /// Tells the chain thread that transactions wait, if some can be next. A full queue will be looked at anyway.
    pub(super) fn poke(&self) {
        if self.mempool().has_next() {
            let _ = self.inner.chain.try_send(Input::Waiting(true));
        }
    }

    pub(super) fn finalized_nonce(&self, account: &AccountId) -> Result<Option<u64>, NodeError> {
        match self.record(&Key::Account(*account))? {
            Some(Record::Account(account)) => Ok(Some(account.nonce)),
            _ => Ok(None),
        }
    }

    /// Signs an action with the handle's account, submits it, and waits until it is final. If another transaction of the
    /// account took its nonce, of a node with the same keys or of this one before a restart, it is signed anew: what lost its
    /// nonce can never be applied. Errors: those of `submit`, `NotAllowed`, `Rejected`, `Timeout`.
    pub async fn act(&self, action: Action, within: Duration) -> Result<FinalTx, NodeError> {
        let deadline = tokio::time::Instant::now() + within;
        let done = loop {
            match self.act_once(&action, deadline, within).await {
                Err(NodeError::Refused(Refusal::StaleNonce { .. })) if tokio::time::Instant::now() < deadline => {
                    random_pause(ACT_PAUSE_MAX).await;
                }
                done => break done?,
            }
        };
        match &done.receipt.outcome {
            Outcome::Applied => Ok(done),
            Outcome::Rejected(reject) => {
                Err(NodeError::Rejected { tx: done.id, code: reject.code(), reason: reject.to_string() })
            }
        }
    }

    async fn act_once(
        &self,
        action: &Action,
        deadline: tokio::time::Instant,
        within: Duration,
    ) -> Result<FinalTx, NodeError> {
        let actor = self.actor()?;
        let sender = actor.id;
        let (id, nonce) = {
            // One at a time, so that no nonce is given out twice.
            let _turn = actor.turn.lock().await;
            let next = self.finalized_nonce(&sender)?.unwrap_or(0);
            let nonce = self.mempool().next_nonce(&sender, next);
            let body = TxBody { chain: self.inner.identity.chain, sender, nonce, action: action.clone() };
            (self.submit(Tx::sign(body, actor.keys.signing())).await?, nonce)
        };
        let mut tips = self.inner.reader.watch();
        let waiting = async {
            loop {
                // The nonce is read first: if it is used up then, whatever used it is found.
                let next = self.finalized_nonce(&sender)?.unwrap_or(0);
                if let Some(done) = self.final_tx(&id)? {
                    return Ok(done);
                }
                if nonce < next {
                    return Err(Refusal::StaleNonce { have: nonce, next }.into());
                }
                tokio::select! {
                    changed = tips.changed() => changed.map_err(|_| NodeError::Stopping)?,
                    () = self.inner.stop.cancelled() => return Err(NodeError::Stopping),
                }
            }
        };
        match tokio::time::timeout_at(deadline, waiting).await {
            Ok(done) => done,
            Err(_) => Err(NodeError::Timeout {
                what: format!("transaction {} is not final", id.short()),
                within,
                hint: "it stays in the mempool and may still become final; see `trullo ledger tx`",
            }),
        }
    }

    pub(super) fn gossip_txs(&self, txs: &[Tx]) {
        if let Err(error) = self.inner.net.gossip(Topic::Transactions, wire::encode(&txs)) {
            tracing::debug!(%error, "transactions were not gossiped");
        }
    }

    /// A final transaction and its receipt. Errors: `Store`.
    pub fn final_tx(&self, id: &TxId) -> Result<Option<FinalTx>, NodeError> {
        let snapshot = self.snapshot()?;
        let Some(place) = snapshot.tx(id)? else { return Ok(None) };
        let receipts = receipts(&snapshot, place.height)?;
        let receipt = usize::try_from(place.index).ok().and_then(|index| receipts.into_iter().nth(index));
        let receipt = receipt.ok_or_else(|| StoreError::corrupted("receipts.v1", place.height.to_string()))?;
        Ok(Some(FinalTx { id: *id, place, receipt }))
    }

    /// A file's deal and manifest. Errors: `NotFound`, `Store`.
    pub fn file(
        &self,
        id: &FileId,
    ) -> Result<(crate::ledger::record::Deal, Option<Box<wire::PublicManifest>>), NodeError> {
        let snapshot = self.snapshot()?;
        let Some(Record::File(deal)) = read_record(&snapshot, &Key::File(*id))? else {
            return Err(NodeError::NotFound { what: "file", id: id.to_string() });
        };
        match read_record(&snapshot, &Key::Manifest(*id))? {
            Some(Record::Manifest(manifest)) => Ok((*deal, Some(manifest))),
            _ => Ok((*deal, None)),
        }
    }

    /// The latest version of the rules that this program follows.
    pub fn known_protocol(&self) -> u16 {
        self.inner.known
    }

    /// All registered nodes. Errors: `Store`.
    pub fn nodes(&self) -> Result<Vec<crate::ledger::record::NodeEntry>, NodeError> {
        let snapshot = self.snapshot()?;
        let mut nodes = Vec::new();
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = snapshot.state_scan(&Key::nodes(), after.as_deref(), 1_024)?;
            let Some((last, _)) = page.last() else { return Ok(nodes) };
            after = Some(last.clone());
            for (key, bytes) in page {
                let damaged = || StoreError::corrupted("state.v1", hex::encode(&key));
                let key = Key::from_bytes(&key).ok_or_else(damaged)?;
                if let Record::Node(entry) = Record::from_bytes(&key, &bytes).map_err(|_| damaged())? {
                    nodes.push(*entry);
                }
            }
        }
    }

    /// Size of the chain's database, bytes.
    pub fn database_bytes(&self) -> u64 {
        std::fs::metadata(self.inner.home.join("node.redb")).map_or(0, |meta| meta.len())
    }
}

/// The receipts of a block. Errors: `Store`.
pub fn receipts(snapshot: &Snapshot, height: Height) -> Result<Vec<Receipt>, StoreError> {
    let Some(bytes) = snapshot.receipts(height)? else { return Ok(Vec::new()) };
    let receipts = wire::decode(&bytes, limits::BLOCK_PAYLOAD_BYTES_MAX * 4);
    receipts.map_err(|_| StoreError::corrupted("receipts.v1", height.to_string()))
}

//! Chain: the thread that owns the core, the safety record and the only writer of the store.
//!
//! Each turn takes what has come in, asks the core, makes everything that must last durable in one transaction, and
//! only then lets messages out. A failure of the store ends the thread, and with it the node.
//! Not here: executing blocks (`exec`), carrying bytes (`net`).

pub mod book;
pub mod exec;
pub mod inbox;
pub mod own;
pub mod sync;
pub mod timers;

mod epochs;
mod perform;
mod resume;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;

use crate::consensus::{self, Action, EpochContext, Event, Replica, Verifier, VerifyError};
use crate::crypto::SecretKey;
use crate::node::clock::Clock;
use crate::store::{Reader, Store, StoreError, SyncBlock};
use crate::types::{BlockHash, Epoch, Height, Millis, NodeId};
use crate::wire::{self, Header, Message, ValidatorSet};
use exec::{Command, Commands, EpochEnd, Executed};
pub use inbox::Inbox;
use inbox::{Received, hold};
use perform::Finalized;
use resume::{contexts, epoch_headers, last_final, next_epoch_of};
use sync::Sync;
use timers::Timers;

/// Everything that can happen to the chain thread.
pub enum Input {
    /// A consensus message, not decoded yet.
    Peer {
        /// The authenticated peer.
        from: NodeId,
        /// The message.
        bytes: Bytes,
    },
    /// The answer to `Command::Check`.
    Checked {
        /// The block.
        hash: BlockHash,
        /// What came of it, or why it is invalid.
        result: Result<Arc<Executed>, String>,
    },
    /// The answer to `Command::Build`.
    Built {
        /// The view it was asked for.
        round: crate::types::Round,
        /// The block.
        executed: Arc<Executed>,
    },
    /// The answer to `Command::Replay`.
    Replayed {
        /// What was executed, in order.
        done: Vec<Arc<Executed>>,
        /// What is wrong with the next one.
        failed: Option<exec::ReplayFault>,
    },
    /// Whether the mempool holds transactions.
    Waiting(bool),
    /// A peer says that this height is final.
    Tip {
        /// The peer.
        from: NodeId,
        /// The height.
        height: Height,
    },
    /// Finalized blocks, as asked for; none when the peer did not answer.
    Blocks {
        /// The peer.
        from: NodeId,
        /// The blocks, ascending.
        blocks: Vec<SyncBlock>,
    },
    /// What a validator knows of the own key.
    Signed {
        /// The validator.
        from: NodeId,
        /// What it says.
        answer: crate::wire::SignedAnswer,
    },
    /// The store failed in another thread.
    Failed(StoreError),
    /// The disk is almost full, or no longer: take nothing in from now on, or go on.
    Pause(bool),
    /// End now.
    Stop,
    /// Remove the bodies of final blocks below this height, step by step.
    Prune(Height),
}

/// What the chain thread needs of the network.
pub trait Links {
    /// Sends a frame to each of these nodes; may drop it.
    fn send(&mut self, to: &[NodeId], frame: Bytes);
    /// The validators that consensus talks with, and whether this node is one of them, or was until now.
    fn peers(&mut self, nodes: &[NodeId], validates: bool);
    /// A peer broke a rule.
    fn blame(&mut self, node: NodeId, what: &'static str);
    /// Ask a peer for finalized blocks from this height on; answered by `Input::Blocks`.
    fn request_blocks(&mut self, from: NodeId, height: Height);
    /// This height has become final here.
    fn announce(&mut self, height: Height, proposed_here: bool);
    /// Ask these validators which signatures of the own key they hold; answered by `Input::Signed`.
    fn ask_signed(&mut self, nodes: &[NodeId], process: u64);
    /// A validator contradicted itself.
    fn evidence(&mut self, evidence: &consensus::evidence::Evidence);
}

/// Takes note of blocks that are final on disk, and says whether transactions still wait.
pub type OnFinal = Box<dyn FnMut(&[Arc<Executed>]) -> bool + Send>;

/// Says whether transactions wait that are in none of these blocks.
pub type MoreWaits = Box<dyn Fn(&mut dyn Iterator<Item = &Arc<Executed>>) -> bool + Send>;

/// How the chain is doing, after each turn.
#[derive(Clone, Debug)]
pub struct ChainStatus {
    /// The core's view.
    pub core: consensus::Status,
    /// The epoch's validators.
    pub set: Arc<ValidatorSet>,
    /// When the last block became final here.
    pub final_at: Millis,
    /// The height that a peer is known to have, when this node is behind.
    pub sync_target: Option<Height>,
    /// Durable commits of the store so far, and views entered.
    pub commits: u64,
    /// Why this node signs nothing, if it might else.
    pub silence: Option<own::Silence>,
    /// What its key is known to have signed.
    pub signed: consensus::Watermarks,
}

/// What a chain thread starts from.
pub struct Setup<L> {
    /// The store.
    pub db: Store,
    /// The node key.
    pub key: SecretKey,
    /// Settings of the core.
    pub config: consensus::Config,
    /// The validators.
    pub set: Arc<ValidatorSet>,
    /// What validators were seen to sign.
    pub book: book::SharedBook,
    /// Tells this process from others with the same key.
    pub process: u64,
    /// The network.
    pub links: L,
    /// The way to the execution thread.
    pub exec: Commands,
    /// What comes in.
    pub inbox: Inbox,
    /// Where the status goes.
    pub status: watch::Sender<Option<ChainStatus>>,
    /// What is done with each finalized block, after it is durable.
    pub on_final: OnFinal,
    /// Whether there is work for a next block.
    pub more_waits: MoreWaits,
    /// The clock.
    pub clock: Clock,
    /// Bodies of blocks that are kept; all if none.
    pub keep: Option<u64>,
}

/// The thread's state.
pub struct Chain<L> {
    db: Store,
    reader: Reader,
    key: SecretKey,
    config: consensus::Config,
    context: EpochContext,
    set: Arc<ValidatorSet>,
    /// The set of the epoch before, while no block of this one is final.
    leaving: Option<Arc<ValidatorSet>>,
    /// What the epoch ends with that blocks of a peer have just brought to its end.
    caught_end: Option<EpochEnd>,
    replica: Replica,
    verifier: Verifier,
    links: L,
    exec: Commands,
    executed: BTreeMap<BlockHash, Arc<Executed>>,
    /// Final blocks that are not written yet, and until when they may wait for the next vote's transaction.
    unwritten: Vec<Finalized>,
    write_by: Option<Millis>,
    /// Actions that wait for the block that this leader is building, and until when: its proposal and the commit vote before
    /// it then share a transaction.
    put_off: Vec<Action>,
    put_off_until: Option<Millis>,
    /// Headers of the current epoch that are final.
    headers: Vec<Header>,
    timers: Timers,
    sync: Sync,
    status: watch::Sender<Option<ChainStatus>>,
    on_final: OnFinal,
    more_waits: MoreWaits,
    clock: Clock,
    final_at: Millis,
    commits: u64,
    /// Whether this node may sign.
    guard: own::Guard,
    book: book::SharedBook,
    /// The quarantine ends with the next durable step.
    lifting: bool,
    /// Bodies of blocks that are kept, and the height below which they were asked to go.
    keep: Option<u64>,
    prune_below: Height,
    /// While the disk is almost full: answers to what was asked before it was.
    paused: Option<Vec<Input>>,
}

impl<L: Links> Chain<L> {
    /// Reads what the disk knows and prepares the core. The genesis block is in the store already.
    /// Errors: those of the store.
    pub fn open(setup: Setup<L>) -> Result<(Self, Inbox), StoreError> {
        let Setup {
            db,
            key,
            config,
            set,
            book,
            process,
            links,
            exec,
            inbox,
            status,
            on_final,
            more_waits,
            clock,
            keep,
        } = setup;
        let reader = db.reader();
        let snapshot = reader.snapshot()?;
        let tip = snapshot.tip()?.ok_or_else(|| StoreError::corrupted("headers.v1", "genesis".to_owned()))?;
        let epoch = next_epoch_of(&config, tip.height);
        let (context, previous) = contexts(&config, &set, &snapshot, epoch)?;
        let record = read_safety_record(&db)?;
        let signer = db.signer()?;
        if let Some(why) = signer.quarantine() {
            tracing::warn!(%why, "this node signs nothing: {}", why.advice());
        }
        let asks = set.index_of(&config.me).is_some() && set.len() > 1;
        let guard = own::Guard::new(signer.quarantine(), *signer.seen(), asks, process, clock.now());
        let silent_until = guard.silence.map(|_| Epoch::new(u64::MAX));
        let last_final = last_final(&config, &snapshot, tip.height)?;
        let blocks = snapshot.pending_blocks()?.into_iter().map(Arc::new).collect();
        let headers = epoch_headers(&config, &snapshot, epoch)?;
        let resume = consensus::Resume { record, blocks, last_final, silent_until };
        let mut verifier = match &previous {
            Some(previous) => {
                let mut verifier = Verifier::new(&config, previous);
                verifier.begin_epoch(&context);
                verifier
            }
            None => Verifier::new(&config, &context),
        };
        verifier.trust(&context.opening);
        let mut replica = Replica::new(config.clone(), context.clone(), resume);
        replica.sign_above(signer.seen().highest());
        // Whoever went down between the epochs may still be asked about the one before.
        let leaving = previous.filter(|_| headers.is_empty()).map(|previous| previous.set);
        let mut chain = Self {
            db,
            reader,
            key,
            config,
            context,
            set,
            leaving,
            caught_end: None,
            replica,
            verifier,
            links,
            exec,
            headers,
            status,
            on_final,
            more_waits,
            clock,
            executed: BTreeMap::new(),
            unwritten: Vec::new(),
            write_by: None,
            put_off: Vec::new(),
            put_off_until: None,
            timers: Timers::default(),
            sync: Sync::default(),
            final_at: clock.now(),
            commits: 0,
            guard,
            book,
            lifting: false,
            keep,
            prune_below: Height::GENESIS,
            paused: None,
        };
        chain.connect();
        chain.recall(chain.replica.record());
        Ok((chain, inbox))
    }

    /// Turns until told to stop. Errors: those of the store, which end the node.
    pub fn run(mut self, mut inbox: Inbox, runtime: &tokio::runtime::Runtime) -> Result<(), StoreError> {
        let mut first = VecDeque::from([Event::Start]);
        self.attend(&mut first);
        self.turn(first)?;
        loop {
            let now = self.clock.now();
            let next = self.timers.next().into_iter().chain(self.write_by).chain(self.put_off_until);
            let next = next.chain(self.guard.due()).min();
            let next = next.filter(|_| self.paused.is_none());
            let wait = next.map(|at| at.saturating_sub(now).get());
            let first = match runtime.block_on(inbox.receive(wait)) {
                Received::Input(input) => Some(input),
                Received::Timeout => None,
                Received::Closed => return self.write_rest(),
            };
            let mut events: VecDeque<_> = VecDeque::new();
            for input in inbox.turn(first) {
                match input {
                    Input::Stop => return self.write_rest(),
                    Input::Pause(pause) => self.pause(pause, &mut events)?,
                    input => match &mut self.paused {
                        Some(held) => hold(held, input)?,
                        None => self.take(input, &mut events)?,
                    },
                }
            }
            if self.paused.is_some() && events.is_empty() {
                continue;
            }
            let due = self.timers.due(self.clock.now());
            events.extend(due.into_iter().map(Event::Expired));
            self.attend(&mut events);
            self.turn(events)?;
        }
    }

    /// Holds everything from now on, or goes on with what was held.
    fn pause(&mut self, pause: bool, events: &mut VecDeque<Event>) -> Result<(), StoreError> {
        if pause {
            self.paused.get_or_insert_default();
            return Ok(());
        }
        let held = self.paused.take().unwrap_or_default();
        held.into_iter().try_for_each(|input| self.take(input, events))
    }

    /// Turns one input into events for the core.
    fn take(&mut self, input: Input, events: &mut VecDeque<Event>) -> Result<(), StoreError> {
        match input {
            Input::Peer { from, bytes } => events.extend(self.message(from, &bytes)?),
            Input::Checked { hash, result } => {
                let verdict = match result {
                    Ok(executed) => {
                        self.executed.insert(hash, executed);
                        consensus::Verdict::Valid
                    }
                    Err(reason) => {
                        tracing::warn!(block = ?hash, reason, "a proposed block is invalid");
                        consensus::Verdict::Invalid
                    }
                };
                events.push_back(Event::Checked { block: hash, verdict });
            }
            Input::Built { round, executed } => {
                let block = executed.block.clone();
                self.executed.insert(executed.hash, executed);
                events.push_back(Event::Built { round, block });
            }
            Input::Waiting(waiting) => {
                if waiting {
                    self.command(Command::Poke);
                }
                events.push_back(Event::Waiting(waiting));
            }
            Input::Tip { from, height } => self.tip_of(from, height),
            Input::Blocks { from, blocks } => self.received_blocks(from, blocks)?,
            Input::Replayed { done, failed } => self.replayed(done, failed, events)?,
            Input::Signed { from, answer } => self.answered(from, answer)?,
            Input::Failed(error) => return Err(error),
            Input::Prune(below) => self.prune_below = self.prune_below.max(below),
            Input::Pause(_) | Input::Stop => {}
        }
        Ok(())
    }

    fn message(&mut self, from: NodeId, bytes: &[u8]) -> Result<Option<Event>, StoreError> {
        let message: Message = match wire::decode(bytes, crate::types::limits::CONSENSUS_MESSAGE_BYTES_MAX) {
            Ok(message) => message,
            Err(_) => {
                self.links.blame(from, "a consensus message that cannot be decoded");
                return Ok(None);
            }
        };
        self.look_for_own(&message)?;
        Ok(match self.verifier.verify(message) {
            Ok(message) => {
                self.keep_for_author(&message);
                Some(Event::Received { from, message })
            }
            Err(VerifyError::LaterEpoch { height, .. }) => Some(Event::Ahead { from, height }),
            Err(VerifyError::PastEpoch(_)) => None,
            Err(error) => {
                tracing::debug!(peer = ?from, %error, "a consensus message is refused");
                self.links.blame(from, "a consensus message with a wrong signature");
                None
            }
        })
    }

    fn command(&self, command: Command) {
        // A closed channel means that the execution thread has ended; its last input says why.
        let _ = self.exec.send(command);
    }

    /// Gives events to the core and carries out what it says, until nothing is left.
    fn turn(&mut self, mut events: VecDeque<Event>) -> Result<(), StoreError> {
        loop {
            let mut actions = Vec::new();
            while let Some(event) = events.pop_front() {
                self.feed(event, &mut actions)?;
            }
            if !self.put_off(actions) {
                self.put_off_until = None;
                let actions = std::mem::take(&mut self.put_off);
                self.perform(actions, &mut events)?;
            }
            if events.is_empty() {
                self.publish();
                return Ok(());
            }
        }
    }

    /// One event; the next epoch follows at once on what ended the last.
    fn feed(&mut self, event: Event, actions: &mut Vec<Action>) -> Result<(), StoreError> {
        let caught_up = match &event {
            Event::CaughtUp { certificate, .. } => Some(certificate.clone()),
            _ => None,
        };
        let new = self.replica.on(event, self.clock.now());
        let mut ended = caught_up.filter(|certificate| self.ends_epoch(certificate.height));
        for action in &new {
            if let Action::Finalize { blocks, certificate } = action {
                let headers: Vec<_> = blocks.iter().map(|block| block.header().clone()).collect();
                self.look_at_final(&headers)?;
                self.headers.extend(headers);
                if self.ends_epoch(certificate.height) {
                    ended = Some(certificate.clone());
                }
            }
        }
        actions.extend(new);
        match ended {
            Some(opening) => {
                let over = self.quarantine_is_over();
                let executed = self.executed.get(&opening.block).and_then(|executed| executed.epoch_end.clone());
                let end = self.caught_end.take().or(executed);
                let context = self.begin_epoch(opening, end);
                let event = if over { self.wake(context)? } else { Event::NextEpoch(context) };
                self.feed(event, actions)
            }
            None => Ok(()),
        }
    }

    fn publish(&mut self) {
        let core = self.replica.status();
        let (set, final_at, commits) = (self.set.clone(), self.final_at, self.commits);
        let sync_target = self.sync.target_above(core.final_height);
        let (silence, signed) = (self.guard.silence, self.signed());
        self.status.send_replace(Some(ChainStatus { core, set, final_at, sync_target, commits, silence, signed }));
    }
}

/// The record on disk, unless none was ever written. Errors: `Corrupted` also when it is no record.
pub(super) fn read_safety_record(db: &Store) -> Result<Option<consensus::SafetyRecord>, StoreError> {
    let record = db.signer()?.record().map(|bytes| wire::decode(bytes, usize::MAX)).transpose();
    record.map_err(|_| StoreError::corrupted("signer.v1", "record".to_owned()))
}

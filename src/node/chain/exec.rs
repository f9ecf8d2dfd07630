//! The execution thread: runs blocks ahead of consensus, so that votes and timers never wait for it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError};

use super::Input;
use crate::ledger::tree::TreeUpdate;
use crate::store::{IndexedTx, StateChanges, StoreError};
use crate::types::{BlockHash, Height, Round};
use crate::wire::{Certificate, ProposedBlock, ValidatorSet, VerifiedTx};

/// A block and everything that it does, ready to be written down.
pub struct Executed {
    /// The block.
    pub block: Arc<ProposedBlock>,
    /// Its hash.
    pub hash: BlockHash,
    /// Encoded receipts.
    pub receipts: Vec<u8>,
    /// What the transaction index gets.
    pub txs: Vec<IndexedTx>,
    /// The transactions themselves, for the mempool.
    pub verified: Vec<VerifiedTx>,
    /// Changed state, by raw key.
    pub state: StateChanges,
    /// What the next epoch begins with, if this is the last block of one. Without it, what it was and who the core skips.
    pub epoch_end: Option<EpochEnd>,
    /// New and stale nodes of the state tree.
    pub tree: TreeUpdate,
}

/// What the last block of an epoch says of the next.
#[derive(Clone, Debug)]
pub struct EpochEnd {
    /// The validators.
    pub set: Arc<ValidatorSet>,
    /// Places of those that are skipped as leaders.
    pub skip: Vec<u16>,
}

/// What a leader is asked for.
#[derive(Clone, Debug)]
pub struct BuildRequest {
    /// The view.
    pub round: Round,
    /// Certificate of the parent.
    pub justify: Certificate,
    /// Height of the block.
    pub height: Height,
    /// Whether a block without transactions is wanted too.
    pub even_empty: bool,
}

/// What came of executing a block.
pub enum Outcome {
    /// It is what its header says.
    Valid(Arc<Executed>),
    /// It breaks a rule; why.
    Invalid(String),
    /// Its payload is not the one that its header commits to; why. That is the fault of whoever sent this copy.
    Tampered(String),
    /// Its parent is neither the last final block nor an executed one: it has been overtaken.
    Stale,
}

/// Why blocks of a peer were not replayed to their end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplayFault {
    /// The peer sent a block with another payload than its header's.
    Tampered(String),
    /// The block breaks a rule here, although a quorum has certified it.
    Invalid(String),
}

/// What blocks mean: the ledger in a node, something lighter in a benchmark.
pub trait Application {
    /// Executes a block on its parent's state. Errors: a failure of this node.
    fn check(&mut self, block: &Arc<ProposedBlock>) -> Result<Outcome, StoreError>;
    /// Makes and executes a block, or nothing when there is nothing to put in it.
    fn build(&mut self, request: &BuildRequest) -> Result<Option<Arc<Executed>>, StoreError>;
    /// These blocks are final and written down; what conflicts with them is forgotten.
    fn finalized(&mut self, blocks: &[Arc<Executed>]);
}

/// Work for the execution thread.
pub enum Command {
    /// Answered by `Input::Checked`.
    Check(Arc<ProposedBlock>),
    /// Answered by `Input::Built`, at once or when transactions come, and never if a newer one comes first.
    Build(BuildRequest),
    /// The mempool has new transactions.
    Poke,
    /// Finalized blocks of a peer, in order; answered by `Input::Replayed`.
    Replay(Vec<Arc<ProposedBlock>>),
    /// See `Application::finalized`.
    Finalized(Vec<Arc<Executed>>),
}

/// Carries out commands until their sender is gone.
pub fn run(mut app: impl Application, commands: Receiver<Command>, out: tokio::sync::mpsc::Sender<Input>) {
    let mut waiting: Option<BuildRequest> = None;
    let mut queue = VecDeque::new();
    while let Some(command) = next(&commands, &mut queue) {
        let input = match command {
            Command::Check(block) => {
                let hash = block.block.hash();
                match app.check(&block) {
                    Ok(Outcome::Valid(executed)) => Some(Ok(Input::Checked { hash, result: Ok(executed) })),
                    Ok(Outcome::Invalid(reason) | Outcome::Tampered(reason)) => {
                        Some(Ok(Input::Checked { hash, result: Err(reason) }))
                    }
                    Ok(Outcome::Stale) => None,
                    Err(error) => Some(Err(error)),
                }
            }
            Command::Build(request) => try_build(&mut app, &mut waiting, Some(request)),
            Command::Poke => try_build(&mut app, &mut waiting, None),
            Command::Replay(blocks) => Some(replay(&mut app, blocks)),
            Command::Finalized(blocks) => {
                app.finalized(&blocks);
                None
            }
        };
        let input = input.map(|input| input.unwrap_or_else(Input::Failed));
        if input.is_some_and(|input| out.blocking_send(input).is_err()) {
            return;
        }
    }
}

/// The next command. Pokes that pile up are one poke.
fn next(commands: &Receiver<Command>, queue: &mut VecDeque<Command>) -> Option<Command> {
    if queue.is_empty() {
        queue.push_back(commands.recv().ok()?);
    }
    loop {
        match commands.try_recv() {
            Ok(Command::Poke) if matches!(queue.back(), Some(Command::Poke)) => {}
            Ok(command) => queue.push_back(command),
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => return queue.pop_front(),
        }
    }
}

fn try_build(
    app: &mut impl Application,
    waiting: &mut Option<BuildRequest>,
    request: Option<BuildRequest>,
) -> Option<Result<Input, StoreError>> {
    if request.is_some() {
        *waiting = request;
    }
    let request = waiting.as_ref()?;
    let built = app.build(request).transpose()?;
    let round = request.round;
    *waiting = None;
    Some(built.map(|executed| Input::Built { round, executed }))
}

pub(super) fn replay(app: &mut impl Application, blocks: Vec<Arc<ProposedBlock>>) -> Result<Input, StoreError> {
    let mut done = Vec::with_capacity(blocks.len());
    for block in blocks {
        match app.check(&block)? {
            Outcome::Valid(executed) => done.push(executed),
            Outcome::Invalid(reason) => {
                return Ok(Input::Replayed { done, failed: Some(ReplayFault::Invalid(reason)) });
            }
            Outcome::Tampered(reason) => {
                return Ok(Input::Replayed { done, failed: Some(ReplayFault::Tampered(reason)) });
            }
            // Final here already; the chain thread keeps only what is above its tip.
            Outcome::Stale => {}
        }
    }
    Ok(Input::Replayed { done, failed: None })
}

/// The way into the execution thread. Its queue is bounded by what the core has under way: one check for each unfinal
/// block, one build, one replay.
pub type Commands = Sender<Command>;

//! Verdict: what the checker says of a run.

use crate::types::{BlockHash, NodeId, Round, TxId};
use crate::wire::VoteKind;

/// A kind of statement that a validator makes once per view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Said {
    /// A proposal.
    Propose,
    /// A vote.
    Vote(VoteKind),
    /// A timeout.
    Timeout,
}

/// What was wrong first. `at` and `by` are machines, by their place in the plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Two blocks final at one height.
    #[error("fork at height {height}: {} at machine {}, {} at machine {}", blocks[0].short(), by[0], blocks[1].short(), by[1])]
    Fork {
        /// The height.
        height: u64,
        /// The blocks.
        blocks: [BlockHash; 2],
        /// Where each is final.
        by: [usize; 2],
    },
    /// A final block does not follow the one before.
    #[error("machine {at} calls {} final at height {height}, which does not follow its last final block", block.short())]
    Gap {
        /// The machine.
        at: usize,
        /// The height.
        height: u64,
        /// The block.
        block: BlockHash,
    },
    /// A final block that nobody proposed.
    #[error("machine {at} calls {} final at height {height}, which nobody proposed", block.short())]
    NeverProposed {
        /// The machine.
        at: usize,
        /// The height.
        height: u64,
        /// The block.
        block: BlockHash,
    },
    /// No quorum stands behind a final block.
    #[error("machine {at} calls {} final at height {height} without a quorum's commit votes", block.short())]
    NotCertified {
        /// The machine.
        at: usize,
        /// The height.
        height: u64,
        /// The block.
        block: BlockHash,
    },
    /// Two statements where one is allowed.
    #[error("honest machine {at} said {said:?} twice in view {round}: {} and {}", blocks[0].short(), blocks[1].short())]
    Contradiction {
        /// The machine.
        at: usize,
        /// What it said.
        said: Said,
        /// The view.
        round: Round,
        /// The blocks.
        blocks: [BlockHash; 2],
    },
    /// A vote of a view after one of a later view.
    #[error("honest machine {at} said {said:?} of view {round} after one of a later view")]
    OutOfOrder {
        /// The machine.
        at: usize,
        /// What it said.
        said: Said,
        /// The view.
        round: Round,
    },
    /// A vote or proposal that rule 2 or 16 forbids.
    #[error("honest machine {at} stands for {} in view {round}, which is not justified there", block.short())]
    NotJustified {
        /// The machine.
        at: usize,
        /// The view.
        round: Round,
        /// The block.
        block: BlockHash,
    },
    /// A vote for a block that was not executed.
    #[error("honest machine {at} voted in view {round} for {} without having executed it", block.short())]
    NotExecuted {
        /// The machine.
        at: usize,
        /// The view.
        round: Round,
        /// The block.
        block: BlockHash,
    },
    /// A commit vote after a timeout.
    #[error("honest machine {at} cast its commit vote of view {round} after its timeout of view {timeout}")]
    CommitAfterTimeout {
        /// The machine.
        at: usize,
        /// The view.
        round: Round,
        /// The timeout.
        timeout: Round,
    },
    /// A timeout that hides a certificate.
    #[error(
        "honest machine {at} timed out in view {round} with certificate {high}, after its commit vote of view {commit}"
    )]
    LowTimeout {
        /// The machine.
        at: usize,
        /// The view.
        round: Round,
        /// The certificate it named.
        high: Round,
        /// Its commit vote.
        commit: Round,
    },
    /// A message in a view that nothing opened.
    #[error("honest machine {at} speaks in view {round} without the certificate that opened it")]
    BareView {
        /// The machine.
        at: usize,
        /// The view.
        round: Round,
    },
    /// A message that would be forgotten by a crash.
    #[error("honest machine {at} said {said:?} of view {round} before it was durable")]
    NotDurable {
        /// The machine.
        at: usize,
        /// What it said.
        said: Said,
        /// The view.
        round: Round,
    },
    /// An accusation that proves nothing, or hits an honest validator.
    #[error("machine {at} accuses {against:?} without proof")]
    WrongEvidence {
        /// The machine.
        at: usize,
        /// Whom.
        against: NodeId,
    },
    /// A contradiction that went unnoticed.
    #[error(
        "machine {at} has both contradicting statements ({said:?}, view {round}) of validator {against}, and no evidence"
    )]
    NoEvidence {
        /// The machine.
        at: usize,
        /// What it said.
        said: Said,
        /// The view.
        round: Round,
        /// Whom.
        against: u16,
    },
    /// A core asked for the impossible.
    #[error("machine {at} asked to execute {} on a parent that is not executed", block.short())]
    Orphan {
        /// The machine.
        at: usize,
        /// The block.
        block: BlockHash,
    },
    /// A state of the ledger that is not the one of its height.
    #[error("machine {at}, the ledger's state after height {height}: {problem}")]
    State {
        /// The machine.
        at: usize,
        /// The height.
        height: u64,
        /// What is wrong with it.
        problem: String,
    },
    /// A transaction that is final more than once.
    #[error("transaction {tx} is final at height {} and again at height {}", heights[0], heights[1])]
    Twice {
        /// The transaction.
        tx: TxId,
        /// The heights.
        heights: [u64; 2],
    },
    /// A final block with transactions that it must not hold.
    #[error("the transactions of the block at height {height}: {problem}")]
    Payload {
        /// The height.
        height: u64,
        /// What is wrong with them.
        problem: String,
    },
    /// A mempool that does not keep its bounds.
    #[error("the mempool of machine {at}: {problem}")]
    Mempool {
        /// The machine.
        at: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// No progress after the faults.
    #[error("stalled: {waited} ms after the faults ended, machine {at} is at height {height} of {wanted}")]
    Stall {
        /// The machine.
        at: usize,
        /// The height.
        height: u64,
        /// What was to be reached.
        wanted: u64,
        /// How long, ms.
        waited: u64,
    },
    /// Events without end.
    #[error("storm: {events} events")]
    Storm {
        /// How many.
        events: u64,
    },
    /// Too little progress after the faults.
    #[error("slow: {views} views for three more heights after the faults ended, allowed are {allowed}")]
    Slow {
        /// Views counted.
        views: u64,
        /// Views allowed.
        allowed: u64,
    },
}

/// The verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every rule held.
    Clean,
    /// The first that did not, and at which virtual millisecond.
    Failed {
        /// What was wrong.
        failure: Failure,
        /// When.
        at: u64,
    },
}

impl Verdict {
    /// Whether every rule held.
    pub fn is_clean(&self) -> bool {
        *self == Self::Clean
    }
    /// Whether two blocks were final at one height.
    pub fn is_fork(&self) -> bool {
        matches!(self, Self::Failed { failure: Failure::Fork { .. }, .. })
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Clean => f.write_str("clean"),
            Self::Failed { failure, at } => write!(f, "at {at} ms: {failure}"),
        }
    }
}

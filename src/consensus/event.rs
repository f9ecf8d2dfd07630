//! What goes into a replica and what comes out.

use std::sync::Arc;

use crate::types::{BlockHash, Height, Millis, NodeId, Round};
use crate::wire::{Certificate, Message, ProposedBlock, Unsigned};

use super::context::EpochContext;
use super::record::SafetyRecord;

/// A timer of the core. Starting one that runs replaces it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// The current view has taken too long.
    View,
    /// Time to repeat the newest messages of the view that is not left.
    Repeat,
    /// The leader has waited long enough for transactions and proposes an empty block.
    Idle,
    /// A fetched block has not come; ask the next peer.
    Fetch,
}

/// Whether a block is what its header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Executed; all roots agree.
    Valid,
    /// The block breaks a rule; no honest replica votes for it.
    Invalid,
}

/// One cause of work.
#[derive(Clone, Debug)]
pub enum Event {
    /// The first event. The replica resumes from its record.
    Start,
    /// A message whose signatures, certificates included, the shell has verified. Own broadcasts come back
    /// here too, from the own node id.
    Received {
        /// Who sent it: the authenticated peer.
        from: NodeId,
        /// The message.
        message: Message,
    },
    /// A timer has run out.
    Expired(Timer),
    /// The answer to `Action::Check`.
    Checked {
        /// The block.
        block: BlockHash,
        /// What came of it.
        verdict: Verdict,
    },
    /// The answer to `Action::Build`; a shell that has nothing to propose yet answers later or never.
    Built {
        /// The view it was asked for.
        round: Round,
        /// The block, already executed.
        block: Arc<ProposedBlock>,
    },
    /// Whether this replica's mempool holds transactions (pacing, protocol rule 18).
    Waiting(bool),
    /// The epoch's last block is final, and this is the next one. The shell gives it right after the `Finalize` or
    /// `CaughtUp` that ended the epoch, before anything else.
    NextEpoch(EpochContext),
    /// A peer sent a message of an epoch that is not known here (`VerifyError::LaterEpoch`).
    Ahead {
        /// The peer.
        from: NodeId,
        /// The height it speaks of; not verified.
        height: Height,
    },
    /// Blocks were executed and finalized past the core, by catch-up from finalized blocks of a peer. When the last of
    /// them lies in a later epoch, `NextEpoch` with that epoch follows at once.
    CaughtUp {
        /// The last of them.
        block: Arc<ProposedBlock>,
        /// The commit certificate that finalizes it.
        certificate: Certificate,
    },
}

/// Who is to receive a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// Every other validator of the epoch.
    All,
    /// One node.
    One(NodeId),
}

/// What the shell has to do, in this order.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "actions live for one step, in a list of a few")]
pub enum Action {
    /// Execute the block on the state of its parent and answer `Event::Checked`.
    Check(Arc<ProposedBlock>),
    /// Make a block on this parent, execute it and answer `Event::Built`.
    Build {
        /// The view it is for.
        round: Round,
        /// Certificate of the parent.
        justify: Certificate,
        /// Height of the block.
        height: Height,
        /// An empty block is wanted too, at once; else answer only when transactions wait.
        even_empty: bool,
    },
    /// Make the record, and the blocks, durable before any later action is carried out (protocol rules 8-10).
    Persist {
        /// The record; replaces the last one.
        record: Box<SafetyRecord>,
        /// Blocks that it names and that may not be on disk yet.
        blocks: Vec<Arc<ProposedBlock>>,
    },
    /// Sign, send to all other validators, and hand back as received from the own node.
    Broadcast(Unsigned),
    /// Send a message that needs no signature of its own.
    Send {
        /// Receiver.
        to: To,
        /// The message.
        message: Message,
    },
    /// Answer a fetch from disk with `Message::Block`, if the block is there, final or not (rules 9 and 17).
    Serve {
        /// Who asked.
        to: NodeId,
        /// For what.
        block: BlockHash,
    },
    /// Start or replace a timer.
    SetTimer {
        /// Which.
        timer: Timer,
        /// How long from now.
        after: Millis,
    },
    /// Stop a timer.
    StopTimer(Timer),
    /// These blocks are final, in this order; the certificate is of the last of them. Persisted blocks that are
    /// not among them, up to this height, conflict with them and may be deleted (protocol rule 9).
    Finalize {
        /// Ascending by height, without gaps, following the last final block.
        blocks: Vec<Arc<ProposedBlock>>,
        /// Commit certificate of the last block (possibly cast on a tail of it).
        certificate: Certificate,
    },
    /// This replica is behind by more than single fetches mend: catch up from finalized blocks of a peer.
    CatchUp {
        /// A height that is known to be certified.
        height: Height,
        /// Who knows it.
        from: NodeId,
    },
    /// Two signed statements that no honest validator makes (protocol rule 19).
    Evidence(Box<super::evidence::Evidence>),
}

//! Effects: what a transaction changes, and the receipt that says so.

use std::collections::BTreeMap;

use borsh::{BorshDeserialize, BorshSerialize};

use super::key::Key;
use super::record::Record;
use super::reject::Reject;
use crate::types::{AccountId, Amount, Epoch, FileId, Height, NodeId, TxId};

/// Changed records by key; `None` removes.
pub type Changes = BTreeMap<Key, Option<Record>>;

/// What an allowed transaction does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// The records that it changes.
    pub changes: Changes,
    /// What happened, for people and indexes.
    pub events: Vec<Event>,
}

impl Effects {
    pub(super) fn put(&mut self, key: Key, record: Record) {
        self.changes.insert(key, Some(record));
    }
    pub(super) fn remove(&mut self, key: Key) {
        self.changes.insert(key, None);
    }
}

/// Something that happened. New kinds are added at the end only.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Event {
    /// Credits moved.
    Transferred {
        /// Payer.
        from: AccountId,
        /// Receiver.
        to: AccountId,
        /// How much.
        amount: Amount,
    },
    /// A node was registered for the first time.
    NodeRegistered(NodeId),
    /// A node's entry was replaced.
    NodeUpdated(NodeId),
    /// A deal was opened.
    FileCommitted(FileId),
    /// Receipts were added.
    SlotsConfirmed {
        /// The file.
        file: FileId,
        /// Slots with a receipt now.
        confirmed: u8,
        /// Slots of the file.
        slots: u8,
    },
    /// A deal has all the receipts that it needs.
    FileFinal(FileId),
    /// A deal was ended by its owner.
    FileDeleted(FileId),
    /// A deal ended because too few receipts came in time.
    FileExpired(FileId),
    /// A deal ended because its time was up.
    FileEnded(FileId),
    /// A deal lasts longer now.
    FileRenewed {
        /// The file.
        file: FileId,
        /// Height whose block ends it now.
        ends: Height,
    },
    /// Nobody holds a slot any more.
    SlotLost {
        /// The file.
        file: FileId,
        /// The slot.
        slot: u8,
        /// Its last holder.
        node: NodeId,
    },
    /// A slot has a new holder.
    SlotTaken {
        /// The file.
        file: FileId,
        /// The slot.
        slot: u8,
        /// The holder before.
        from: NodeId,
        /// The holder now.
        to: NodeId,
    },
    /// A node was asked for samples.
    Audited {
        /// The node.
        node: NodeId,
        /// The epoch.
        epoch: Epoch,
        /// Samples.
        samples: u16,
    },
    /// A node answered its audit in full.
    AuditPassed {
        /// The node.
        node: NodeId,
        /// The epoch of the audit.
        epoch: Epoch,
    },
    /// A node answered its audit in part, or not at all.
    AuditFailed {
        /// The node.
        node: NodeId,
        /// The epoch of the audit.
        epoch: Epoch,
        /// Samples missed.
        missed: u16,
    },
    /// A node failed too often: it is inactive and loses its slots.
    NodeAbsent(NodeId),
    /// A node began or ended giving its slots away.
    NodeDraining {
        /// The node.
        node: NodeId,
        /// Whether it drains now.
        drain: bool,
    },
    /// A draining node has given away its last slot.
    NodeReleased(NodeId),
    /// A node's account was paid for a slot.
    Paid {
        /// The file.
        file: FileId,
        /// The node.
        node: NodeId,
        /// How much.
        amount: Amount,
    },
    /// What nobody had earned went back to the owner.
    Refunded {
        /// The file.
        file: FileId,
        /// How much.
        amount: Amount,
    },
    /// A file was shared.
    FileShared {
        /// The file.
        file: FileId,
        /// With whom.
        to: AccountId,
    },
    /// A share was taken off the ledger.
    FileUnshared {
        /// The file.
        file: FileId,
        /// Whose share.
        to: AccountId,
    },
    /// An account's tree of folders has another root.
    RootSet {
        /// The account.
        account: AccountId,
        /// The root now.
        root: Option<FileId>,
    },
    /// Credits were put behind a node.
    ValidatorJoining {
        /// The node.
        node: NodeId,
        /// Its stake now.
        stake: Amount,
    },
    /// A validator asked for its way out.
    ValidatorLeaving(NodeId),
    /// A validator is to have another key.
    ValidatorRotating {
        /// The node that votes now.
        node: NodeId,
        /// The one that takes its place.
        new: NodeId,
    },
    /// A validator's time in jail is over.
    ValidatorUnjailed(NodeId),
    /// A validator is jailed.
    ValidatorJailed {
        /// The node.
        node: NodeId,
        /// The first epoch in which it may ask to be let out.
        until: Epoch,
    },
    /// Another version of the rules is in force from the next block on.
    ProtocolChanged {
        /// The version.
        version: u16,
    },
    /// Enough validators are ready for another version of the rules.
    ProtocolScheduled {
        /// The version.
        version: u16,
        /// The first epoch that has it.
        from: Epoch,
    },
    /// A validator says which version of the rules it is ready for.
    ValidatorReady {
        /// The node.
        node: NodeId,
        /// The version.
        version: u16,
    },
    /// A node was shown to have signed what no honest one does.
    NodePunished {
        /// The node.
        node: NodeId,
        /// Credits that its stake lost.
        lost: Amount,
    },
    /// A validator has another key.
    ValidatorKeyRotated {
        /// The node that voted.
        old: NodeId,
        /// The one that votes in its place.
        new: NodeId,
    },
    /// A stake went back to its account.
    StakeReturned {
        /// The node.
        node: NodeId,
        /// The account.
        account: AccountId,
        /// How much.
        amount: Amount,
    },
    /// Other validators, or the same with other power, vote from an epoch on.
    ValidatorSetChanged {
        /// The epoch.
        epoch: Epoch,
        /// How many they are.
        validators: u32,
    },
}

impl Event {
    /// The event's stable name, for JSON and exports.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Transferred { .. } => "transferred",
            Self::NodeRegistered(_) => "node_registered",
            Self::NodeUpdated(_) => "node_updated",
            Self::FileCommitted(_) => "file_committed",
            Self::SlotsConfirmed { .. } => "slots_confirmed",
            Self::FileFinal(_) => "file_final",
            Self::FileDeleted(_) => "file_deleted",
            Self::FileExpired(_) => "file_expired",
            Self::FileEnded(_) => "file_ended",
            Self::FileRenewed { .. } => "file_renewed",
            Self::SlotLost { .. } => "slot_lost",
            Self::SlotTaken { .. } => "slot_taken",
            Self::Audited { .. } => "audited",
            Self::AuditPassed { .. } => "audit_passed",
            Self::AuditFailed { .. } => "audit_failed",
            Self::NodeAbsent(_) => "node_absent",
            Self::NodeDraining { .. } => "node_draining",
            Self::NodeReleased(_) => "node_released",
            Self::Paid { .. } => "paid",
            Self::Refunded { .. } => "refunded",
            Self::FileShared { .. } => "file_shared",
            Self::FileUnshared { .. } => "file_unshared",
            Self::RootSet { .. } => "root_set",
            Self::ValidatorJoining { .. } => "validator_joining",
            Self::ValidatorLeaving(_) => "validator_leaving",
            Self::ValidatorRotating { .. } => "validator_rotating",
            Self::ValidatorUnjailed(_) => "validator_unjailed",
            Self::ValidatorJailed { .. } => "validator_jailed",
            Self::ProtocolChanged { .. } => "protocol_changed",
            Self::ProtocolScheduled { .. } => "protocol_scheduled",
            Self::ValidatorReady { .. } => "validator_ready",
            Self::NodePunished { .. } => "node_punished",
            Self::ValidatorKeyRotated { .. } => "validator_key_rotated",
            Self::StakeReturned { .. } => "stake_returned",
            Self::ValidatorSetChanged { .. } => "validator_set_changed",
        }
    }
}

/// How a transaction ended.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Outcome {
    /// It took effect.
    Applied,
    /// It is not allowed; only its nonce is used up.
    Rejected(Reject),
}

/// The ledger's answer to one transaction of a block. The header's `receipt_root` is taken over their hashes.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Receipt {
    /// The transaction.
    pub tx: TxId,
    /// Its place in the block.
    pub index: u32,
    /// How it ended.
    pub outcome: Outcome,
    /// What happened; nothing if it was rejected.
    pub events: Vec<Event>,
}

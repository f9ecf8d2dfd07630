//! The view of what a transaction asks for, one variant for each action of the ledger.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a transaction asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ActionView {
    /// Credits move.
    Transfer {
        /// Receiver.
        to: String,
        /// Credits.
        amount: u64,
        /// A note for people.
        memo: String,
    },
    /// A node is registered or its entry replaced.
    RegisterNode {
        /// The node.
        node: String,
        /// Its name.
        name: String,
        /// Its operator.
        operator: String,
        /// Its roles, by name.
        roles: Vec<String>,
        /// Bytes it offers.
        capacity: u64,
    },
    /// A file's deal is opened.
    CommitFile {
        /// The file.
        file: String,
        /// Number of slots.
        slots: u32,
        /// Receipts that make it final.
        min_confirmations: u32,
        /// Slots left at which lost ones are rebuilt.
        #[serde(default)]
        repair_threshold: u32,
        /// Receipts in this transaction.
        receipts: u32,
        /// Epochs that the deal is paid for.
        #[serde(default)]
        epochs: u32,
    },
    /// Receipts that came later.
    ConfirmSlots {
        /// The file.
        file: String,
        /// Receipts in this transaction.
        receipts: u32,
    },
    /// A file's deal ends.
    DeleteFile {
        /// The file.
        file: String,
    },
    /// A storage node answers its audit.
    ProveStorage {
        /// The node.
        node: String,
        /// The epoch of the audit.
        epoch: u64,
        /// Samples asked.
        samples: u32,
        /// Samples answered.
        proofs: u32,
    },
    /// A node takes over a slot.
    TakeSlot {
        /// The file.
        file: String,
        /// The slot.
        slot: u32,
        /// The new holder.
        node: String,
    },
    /// A node begins or ends giving its slots away.
    DrainNode {
        /// The node.
        node: String,
        /// Whether it drains from now on.
        drain: bool,
    },
    /// The nodes of a deal are paid what they have earned so far.
    SettleFile {
        /// The file.
        file: String,
    },
    /// A deal lasts longer.
    RenewFile {
        /// The file.
        file: String,
        /// Epochs added.
        epochs: u32,
    },
    /// An account is given a file's key.
    ShareFile {
        /// The file.
        file: String,
        /// Who may read it.
        to: String,
        /// The last height at which the share counts; absent: until the deal ends.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<u64>,
    },
    /// A share is taken off the ledger.
    UnshareFile {
        /// The file.
        file: String,
        /// Whose share.
        to: String,
    },
    /// An account's tree of folders has another root.
    SetRoot {
        /// The root before.
        expect: Option<String>,
        /// The root from now on.
        new: Option<String>,
    },
    /// A file's deal ends, as no path leads to it.
    CollectFile {
        /// The file.
        file: String,
        /// The root that does not lead to it.
        root: Option<String>,
    },
    /// Credits are put behind a node.
    ValidatorJoin {
        /// The node.
        node: String,
        /// Credits.
        stake: u64,
    },
    /// A validator asks for its way out.
    ValidatorLeave {
        /// The node.
        node: String,
    },
    /// A validator is to have another key.
    ValidatorRotateKey {
        /// The node that votes.
        node: String,
        /// The node that takes its place.
        new: String,
    },
    /// A node is shown to have signed what no honest one does.
    Accuse {
        /// The node.
        node: String,
        /// What it did: `contradiction` or `false_receipt`.
        offence: String,
    },
    /// A validator asks to be let out of jail.
    ValidatorUnjail {
        /// The node.
        node: String,
    },
    /// A validator is ready for a version of the rules.
    ValidatorReady {
        /// The node.
        node: String,
        /// The version.
        version: u16,
    },
}

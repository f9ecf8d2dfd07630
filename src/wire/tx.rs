//! Transactions: what an account asks the ledger to do.

use borsh::{BorshDeserialize, BorshSerialize};

use super::evidence::Accusation;
use super::file::{PublicManifest, StorageReceipt};
use crate::crypto::{Domain, SecretKey, Signature, hash};
use crate::types::{AccountId, Amount, ByteCount, ChainId, Epoch, FileId, Height, NodeId, Roles, TxId};

/// A node's entry in the ledger, as its account announces it.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct NodeAnnouncement {
    /// The node's identity.
    pub node: NodeId,
    /// A name for people.
    pub name: String,
    /// Who runs it: the failure domain of placement.
    pub operator: String,
    /// What it does.
    pub roles: Roles,
    /// Bytes of slots it offers to hold.
    pub capacity: ByteCount,
    /// Where it listens, as multiaddresses.
    pub addresses: Vec<String>,
    /// Head of its hash chain for the beacon.
    pub beacon_head: [u8; 32],
    /// The node key's signature over chain, account and all of the above: the node accepts the account.
    pub binding: Signature,
}

impl NodeAnnouncement {
    /// Signs the binding with the node's key.
    pub fn bind(&mut self, chain: &ChainId, account: &AccountId, node_key: &SecretKey) {
        self.binding = node_key.sign(Domain::NodeBinding, &self.binding_bytes(chain, account));
    }
    /// The bytes that `binding` signs.
    pub fn binding_bytes(&self, chain: &ChainId, account: &AccountId) -> Vec<u8> {
        let who = (chain, account, self.node, &self.name, &self.operator);
        super::encode(&(who, self.roles, self.capacity, &self.addresses, self.beacon_head))
    }
}

/// A file's deal: where its slots shall be, and the receipts so far.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct FileCommit {
    /// The public manifest.
    pub manifest: PublicManifest,
    /// The node for each slot, in the order of the slots.
    pub placement: Vec<NodeId>,
    /// Receipts that make the deal final; fewer leave it pending.
    pub min_confirmations: u8,
    /// Slots still held at or below which others rebuild those that are lost.
    pub repair_threshold: u8,
    /// Epochs that the deal is paid for, at least 1.
    pub epochs: u32,
    /// Receipts in hand, ascending by slot.
    pub receipts: Vec<StorageReceipt>,
}

/// The least and the greatest repair threshold. Fewer slots than `data` restore nothing; without parity a loss is one too
/// many, whatever the threshold.
pub fn repair_bounds(data: u8, slots: u8) -> (u8, u8) {
    let most = slots.saturating_sub(1);
    (data.min(most), most)
}

/// The answer to one sample of a storage audit.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct SampleProof {
    /// The leaf: 1 KiB of the slot, fewer bytes at its end.
    pub bytes: Vec<u8>,
    /// The chaining values from the leaf up to the slot's root, lowest first.
    pub path: Vec<[u8; 32]>,
}

/// What a transaction does.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Action {
    /// Moves credits.
    Transfer {
        /// Receiver.
        to: AccountId,
        /// How much; more than zero.
        amount: Amount,
        /// A note for people.
        memo: String,
    },
    /// Registers a node or replaces its entry.
    RegisterNode(Box<NodeAnnouncement>),
    /// Opens a file's deal.
    CommitFile(Box<FileCommit>),
    /// Adds receipts that came later.
    ConfirmSlots {
        /// The file.
        file: FileId,
        /// The receipts, ascending by slot.
        receipts: Vec<StorageReceipt>,
    },
    /// Ends a file's deal; its nodes then free the space.
    DeleteFile {
        /// The file.
        file: FileId,
    },
    /// Answers the node's storage audit of an epoch.
    ProveStorage {
        /// The node that was asked.
        node: NodeId,
        /// The epoch of the audit.
        epoch: Epoch,
        /// One for each sample, in order; nothing where the node has no proof.
        proofs: Vec<Option<SampleProof>>,
    },
    /// Takes over a slot that is lost, or that its holder gives away.
    TakeSlot {
        /// The file.
        file: FileId,
        /// The new holder's receipt, which names the slot.
        receipt: StorageReceipt,
    },
    /// Makes a node give its slots away and take no new ones, or ends that.
    DrainNode {
        /// The node.
        node: NodeId,
        /// Whether it drains from now on.
        drain: bool,
    },
    /// Pays the nodes of a deal what they have earned so far. Anyone may ask for it.
    SettleFile {
        /// The file.
        file: FileId,
    },
    /// Makes a deal last longer.
    RenewFile {
        /// The file.
        file: FileId,
        /// Epochs to add, at least 1.
        epochs: u32,
    },
    /// Gives an account the key of a file; in the place of what it was given before.
    ShareFile {
        /// The file.
        file: FileId,
        /// Who may read it.
        to: AccountId,
        /// The file's key, sealed to that account.
        sealed: Vec<u8>,
        /// The last height at which the share counts; until the deal ends without it.
        until: Option<Height>,
    },
    /// Takes a share off the ledger: asked for by the file's owner, or by the account that it was given to.
    UnshareFile {
        /// The file.
        file: FileId,
        /// Whose share.
        to: AccountId,
    },
    /// Makes another file the root of the sender's tree of folders, if the root is still the one that is expected.
    SetRoot {
        /// The root that the change was made on; nothing for the first one.
        expect: Option<FileId>,
        /// The root from now on, a final file of the sender; nothing to have no tree any more.
        new: Option<FileId>,
    },
    /// Ends a file's deal as `DeleteFile` does, if the root of the sender's tree of folders is still the one in which the file was
    /// looked for in vain: what another device has begun to refer to meanwhile stays.
    CollectFile {
        /// The file.
        file: FileId,
        /// The root.
        root: Option<FileId>,
    },
    /// Puts credits behind a node, so that it becomes a validator, or a weightier one. Takes back a wish to leave.
    ValidatorJoin {
        /// The node, registered by the sender as a validator.
        node: NodeId,
        /// Credits to add to its stake; 0 only for one that has a stake.
        stake: Amount,
    },
    /// Asks for a validator's way out: it stops when the set without it begins, and its stake comes back later.
    ValidatorLeave {
        /// The node.
        node: NodeId,
    },
    /// Gives a stake another key at the end of an epoch; the old one is not used again.
    ValidatorRotateKey {
        /// The node that has the stake.
        node: NodeId,
        /// The node that takes its place, registered by the sender as a validator.
        new: NodeId,
    },
    /// Shows that a validator contradicted itself: it loses a part of its stake and never votes with the rest.
    Accuse(Box<Accusation>),
    /// Ends a validator's time in jail, when it has been there long enough.
    ValidatorUnjail {
        /// The node.
        node: NodeId,
    },
    /// Says which version of the rules a validator is ready for.
    ValidatorReady {
        /// The node.
        node: NodeId,
        /// The version, and all before it.
        version: u16,
    },
}

impl Action {
    /// The action's stable name, for views and exports.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Transfer { .. } => "transfer",
            Self::RegisterNode(_) => "register_node",
            Self::CommitFile(_) => "commit_file",
            Self::ConfirmSlots { .. } => "confirm_slots",
            Self::DeleteFile { .. } => "delete_file",
            Self::ProveStorage { .. } => "prove_storage",
            Self::TakeSlot { .. } => "take_slot",
            Self::DrainNode { .. } => "drain_node",
            Self::SettleFile { .. } => "settle_file",
            Self::RenewFile { .. } => "renew_file",
            Self::ShareFile { .. } => "share_file",
            Self::UnshareFile { .. } => "unshare_file",
            Self::SetRoot { .. } => "set_root",
            Self::CollectFile { .. } => "collect_file",
            Self::ValidatorJoin { .. } => "validator_join",
            Self::ValidatorLeave { .. } => "validator_leave",
            Self::ValidatorRotateKey { .. } => "validator_rotate_key",
            Self::Accuse(_) => "accuse",
            Self::ValidatorReady { .. } => "validator_ready",
            Self::ValidatorUnjail { .. } => "validator_unjail",
        }
    }
}

/// A transaction without its signature. Its hash is the transaction's id.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct TxBody {
    /// The chain it is for.
    pub chain: ChainId,
    /// Who asks and signs.
    pub sender: AccountId,
    /// Number of transactions that this account has on the chain before this one.
    pub nonce: u64,
    /// What to do.
    pub action: Action,
}

/// A signed transaction.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Tx {
    /// The content.
    pub body: TxBody,
    /// The sender's signature over the body.
    pub signature: Signature,
}

impl Tx {
    /// Signs a body.
    pub fn sign(body: TxBody, key: &SecretKey) -> Self {
        let signature = key.sign(Domain::Tx, &super::encode(&body));
        Self { body, signature }
    }
    /// The transaction's id: the hash of its body, so that another signature makes no other transaction.
    pub fn id(&self) -> TxId {
        TxId::from_bytes(hash(Domain::Tx, &super::encode(&self.body)))
    }
}

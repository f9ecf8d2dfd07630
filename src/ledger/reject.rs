//! Why a transaction is not allowed. Same on every node; goes into the receipt.

use borsh::{BorshDeserialize, BorshSerialize};

use crate::types::{AccountId, Amount, ByteCount, Epoch, FileId, Height, NodeId};

/// Why a transaction cannot be the next one of its sender, and so cannot be in a block at this place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotNext {
    /// The sender has no account; it gets one with the first transfer to it.
    #[error("account {0} does not exist; it begins with the first transfer to it")]
    UnknownSender(AccountId),
    /// The nonce is not the account's next.
    #[error("nonce {have}, the account's next is {need}")]
    Nonce {
        /// The transaction's.
        have: u64,
        /// The account's.
        need: u64,
    },
    /// The block has as many slots to move as one block may.
    #[error("{have} slots to move after the {before} of this block; a block moves at most {max}", max = crate::types::limits::BLOCK_SLOTS_MAX)]
    Full {
        /// Slots of the transaction.
        have: u32,
        /// Slots of the block so far.
        before: u32,
    },
}

/// Why a transaction has no effect but the use of its nonce. New kinds are added at the end only.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, thiserror::Error)]
pub enum Reject {
    /// Too few credits.
    #[error("balance {have} does not cover {need}")]
    Funds {
        /// Balance.
        have: Amount,
        /// Amount asked for.
        need: Amount,
    },
    /// The receiver would have more credits than there can be.
    #[error("balance {have} and {add} are more than an account can hold")]
    BalanceOverflow {
        /// The receiver's balance.
        have: Amount,
        /// What would be added.
        add: Amount,
    },
    /// The receiver is no usable public key, so nobody could ever spend from it.
    #[error("account {0} is no usable ed25519 public key")]
    AccountKey(AccountId),
    /// The node belongs to another account.
    #[error("node {node} belongs to account {have}, not to {need}")]
    NodeOwner {
        /// The node.
        node: NodeId,
        /// Its account.
        have: AccountId,
        /// The sender.
        need: AccountId,
    },
    /// A node cannot offer less than what it holds.
    #[error("capacity {have} is below the {need} bytes that the node holds")]
    Capacity {
        /// The announced capacity.
        have: ByteCount,
        /// Bytes placed on the node.
        need: ByteCount,
    },
    /// A node that holds slots stays a storage node.
    #[error("the node holds {held} bytes and cannot give up the storage role")]
    HoldsSlots {
        /// Bytes placed on the node.
        held: ByteCount,
    },
    /// There is a deal of that id already, open or ended.
    #[error("file {0} has a deal already")]
    FileExists(FileId),
    /// No such file.
    #[error("file {0} is not known")]
    UnknownFile(FileId),
    /// Someone else's file.
    #[error("file {file} belongs to account {have}, not to {need}")]
    FileOwner {
        /// The file.
        file: FileId,
        /// Its owner.
        have: AccountId,
        /// The sender.
        need: AccountId,
    },
    /// The deal has ended.
    #[error("the deal of file {0} has ended")]
    Ended(FileId),
    /// A placed node is not registered.
    #[error("slot {slot}: node {node} is not registered")]
    UnknownNode {
        /// The slot.
        slot: u8,
        /// The node.
        node: NodeId,
    },
    /// A node does not take slots.
    #[error("slot {slot}: node {node} takes no slots: it is no storage node, inactive or draining")]
    NotStorage {
        /// The slot.
        slot: u8,
        /// The node.
        node: NodeId,
    },
    /// A placed node has too little room.
    #[error("slot {slot}: node {node} has {have} bytes free, the slot needs {need}")]
    NoRoom {
        /// The slot.
        slot: u8,
        /// The node.
        node: NodeId,
        /// Bytes free on the node.
        have: ByteCount,
        /// Bytes of the slot.
        need: ByteCount,
    },
    /// The file would not survive the loss of one operator, where there are operators enough.
    #[error("operator {operator:?} has {have} slots of the file; with {operators} operators at most {max}")]
    Operator {
        /// The operator.
        operator: String,
        /// Slots placed with it.
        have: u64,
        /// Slots allowed.
        max: u64,
        /// Operators that have storage nodes.
        operators: u64,
    },
    /// A receipt for a slot that the file does not have.
    #[error("receipt for slot {slot} of a file with {slots} slots")]
    UnknownSlot {
        /// The slot.
        slot: u8,
        /// Slots of the file.
        slots: u64,
    },
    /// A receipt of another node than the one placed at the slot.
    #[error("receipt for slot {slot} is of node {have}, placed there is {need}")]
    ReceiptNode {
        /// The slot.
        slot: u8,
        /// Who signed.
        have: NodeId,
        /// Who should.
        need: NodeId,
    },
    /// A receipt's signature does not fit.
    #[error("the signature of the receipt for slot {0} does not fit")]
    Receipt(u8),
    /// Every receipt was there already.
    #[error("all {0} receipts are known already")]
    NothingNew(u64),
    /// A receipt that is too old.
    #[error("the receipt for slot {slot} held up to height {have}, this is height {need}")]
    ReceiptExpired {
        /// The slot.
        slot: u8,
        /// The receipt's last height.
        have: Height,
        /// This block's.
        need: Height,
    },
    /// A deal that would last too long.
    #[error("the deal would last {have} epochs; at most {max} are allowed")]
    Epochs {
        /// Epochs from now on.
        have: u64,
        /// Epochs allowed.
        max: u64,
    },
    /// The account's open deals would have too many bytes.
    #[error("{have} bytes of slots in open deals; the quota is {max}")]
    Quota {
        /// Bytes with this deal.
        have: ByteCount,
        /// Bytes allowed.
        max: ByteCount,
    },
    /// A slot that was lost is not confirmed but taken over.
    #[error("slot {slot} of file {file} is lost; a storage node has to take it over")]
    SlotLost {
        /// The file.
        file: FileId,
        /// The slot.
        slot: u8,
    },
    /// The slot's holder keeps it.
    #[error("slot {slot} of file {file} is not lost, and its holder {holder} does not give it away to this node")]
    NotMovable {
        /// The file.
        file: FileId,
        /// The slot.
        slot: u8,
        /// Its holder.
        holder: NodeId,
    },
    /// A node holds one slot of a file, or an even share where there are fewer operators than slots.
    #[error("node {node} holds slot {slot} of the file already, and no more than its share may be on one node")]
    HoldsAnother {
        /// The node.
        node: NodeId,
        /// The slot that it holds.
        slot: u8,
    },
    /// No such audit waits for an answer.
    #[error("no audit of node {node} in epoch {epoch} waits for an answer")]
    NoChallenge {
        /// The node.
        node: NodeId,
        /// The epoch named.
        epoch: Epoch,
    },
    /// Not one answer for each sample.
    #[error("{have} answers to {need} samples")]
    ProofCount {
        /// Answers.
        have: u64,
        /// Samples.
        need: u64,
    },
    /// A proof does not prove what was asked.
    #[error("sample {sample}: the proof does not lead from leaf {leaf} to the root of slot {slot} of file {file}")]
    Proof {
        /// The sample's place.
        sample: u64,
        /// The file.
        file: FileId,
        /// The slot.
        slot: u8,
        /// The leaf asked for.
        leaf: u64,
    },
    /// Nobody has passed an audit since the deal was settled last.
    #[error("nothing was earned with file {0} since it was settled last")]
    NothingEarned(FileId),
    /// No such node.
    #[error("node {0} is not registered")]
    NoNode(NodeId),
    /// A lost slot waits for its last holder while enough others are held.
    #[error(
        "slot {slot} of file {file} waits for its last holder: {held} slots are held, and others rebuild when {threshold} are left"
    )]
    NotDue {
        /// The file.
        file: FileId,
        /// The slot.
        slot: u8,
        /// Slots held.
        held: u64,
        /// The deal's repair threshold.
        threshold: u8,
    },
    /// A slot that its holder has to prove now stays with it until then.
    #[error("slot {slot} of file {file} is asked for; its holder {holder} has until height {until} to prove it")]
    Asked {
        /// The file.
        file: FileId,
        /// The slot.
        slot: u8,
        /// Its holder.
        holder: NodeId,
        /// The last height for the answer.
        until: Height,
    },
    /// A node with a low reputation leaves lost slots to others for an epoch.
    #[error(
        "node {node} has a reputation of {have}, below {need}; until height {from} lost slots of the file are for others"
    )]
    Distrusted {
        /// The node.
        node: NodeId,
        /// Its reputation.
        have: u16,
        /// The reputation that is enough.
        need: u16,
        /// From which height on it may take them.
        from: Height,
    },
    /// The owner has the file's key already.
    #[error("file {0} belongs to the account that it would be shared with")]
    ShareOwn(FileId),
    /// A share that would be over before it begins.
    #[error("the share would end at height {have}, this is height {need}")]
    ShareOver {
        /// Its last height.
        have: Height,
        /// This block's.
        need: Height,
    },
    /// A file is shared with as many accounts as it may be.
    #[error("file {file} is shared with {max} accounts, which is the most; end a share first")]
    TooManyShares {
        /// The file.
        file: FileId,
        /// Accounts allowed.
        max: u64,
    },
    /// There is no such share.
    #[error("file {file} is not shared with account {account}")]
    NotShared {
        /// The file.
        file: FileId,
        /// The account.
        account: AccountId,
    },
    /// Someone else with the account's keys was quicker: the change has to be made on the present root.
    #[error("the root of the account's tree is {}, the change was made on {}", root(.have), root(.expect))]
    RootMoved {
        /// The root.
        have: Option<FileId>,
        /// The one that was expected.
        expect: Option<FileId>,
    },
    /// A file that is not final yet.
    #[error("file {0} is not final yet")]
    NotFinal(FileId),
    /// A node that is not registered as a validator, or without a hash chain.
    #[error("node {0} is not registered as a validator with a hash chain")]
    NotValidator(NodeId),
    /// No credits are behind the node.
    #[error("node {0} has no stake")]
    NoStake(NodeId),
    /// Fewer credits than one unit of power costs, or more than there can be.
    #[error("a stake of {have} credits; the least is {need}")]
    StakeTooSmall {
        /// What it would be.
        have: Amount,
        /// What it must be.
        need: Amount,
    },
    /// As many stakes as there can be.
    #[error("there are {max} stakes already; wait until one is taken back")]
    StakesFull {
        /// How many.
        max: u64,
    },
    /// A node that has, had or is to have another stake.
    #[error("node {0} has, had or is to have a stake; take a node with a new key")]
    KeyInUse(NodeId),
    /// Too many changes of a key within the time in which they can be accused.
    #[error("the stake of node {node} has had {max} other keys lately; wait until the oldest is forgotten")]
    TooManyKeys {
        /// The node.
        node: NodeId,
        /// How many are allowed.
        max: u64,
    },
    /// The validator is on its way out.
    #[error("validator {0} is on its way out; join again to stay")]
    Leaving(NodeId),
    /// The validator is in jail.
    #[error("validator {node} is in jail; from epoch {until} on it may ask to be let out")]
    Jailed {
        /// The node.
        node: NodeId,
        /// That epoch.
        until: Epoch,
    },
    /// The node has signed what no honest one does.
    #[error("node {0} signed what no honest node signs, and was punished for it: once, and for good")]
    Punished(NodeId),
    /// The validator is not in jail.
    #[error("validator {0} is not in jail")]
    NotJailed(NodeId),
}

fn root(root: &Option<FileId>) -> String {
    root.map_or_else(|| "empty".to_owned(), |root| root.to_string())
}

impl Reject {
    /// The stable name of the reason, for JSON and exports.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Funds { .. } => "funds",
            Self::BalanceOverflow { .. } => "balance_overflow",
            Self::AccountKey(_) => "account_key",
            Self::NodeOwner { .. } => "node_owner",
            Self::Capacity { .. } => "capacity",
            Self::HoldsSlots { .. } => "holds_slots",
            Self::FileExists(_) => "file_exists",
            Self::UnknownFile(_) => "unknown_file",
            Self::FileOwner { .. } => "file_owner",
            Self::Ended(_) => "ended",
            Self::UnknownNode { .. } => "unknown_node",
            Self::NotStorage { .. } => "not_storage",
            Self::NoRoom { .. } => "no_room",
            Self::Operator { .. } => "operator",
            Self::UnknownSlot { .. } => "unknown_slot",
            Self::ReceiptNode { .. } => "receipt_node",
            Self::Receipt(_) => "receipt",
            Self::NothingNew(_) => "nothing_new",
            Self::ReceiptExpired { .. } => "receipt_expired",
            Self::Epochs { .. } => "epochs",
            Self::Quota { .. } => "quota",
            Self::SlotLost { .. } => "slot_lost",
            Self::NotMovable { .. } => "not_movable",
            Self::HoldsAnother { .. } => "holds_another",
            Self::NoChallenge { .. } => "no_challenge",
            Self::ProofCount { .. } => "proof_count",
            Self::Proof { .. } => "proof",
            Self::NothingEarned(_) => "nothing_earned",
            Self::NoNode(_) => "no_node",
            Self::NotDue { .. } => "not_due",
            Self::Asked { .. } => "asked",
            Self::Distrusted { .. } => "distrusted",
            Self::ShareOwn(_) => "share_own",
            Self::ShareOver { .. } => "share_over",
            Self::TooManyShares { .. } => "too_many_shares",
            Self::NotShared { .. } => "not_shared",
            Self::RootMoved { .. } => "root_moved",
            Self::NotFinal(_) => "not_final",
            Self::NotValidator(_) => "not_validator",
            Self::NoStake(_) => "no_stake",
            Self::StakeTooSmall { .. } => "stake_too_small",
            Self::StakesFull { .. } => "stakes_full",
            Self::KeyInUse(_) => "key_in_use",
            Self::TooManyKeys { .. } => "too_many_keys",
            Self::Leaving(_) => "leaving",
            Self::Jailed { .. } => "jailed",
            Self::Punished(_) => "punished",
            Self::NotJailed(_) => "not_jailed",
        }
    }
}

//! Records: the values of the state.

use borsh::{BorshDeserialize, BorshSerialize};

use super::key::Key;
pub use super::promise::{Audit, Challenge, Sample, SlotId, SlotState, StorageParams};
use super::protocol::Protocol;
pub use super::stake::{Stake, ValidatorParams};
use super::tally::Tally;
use crate::types::{AccountId, Amount, ByteCount, Epoch, FileId, Height, NodeId, TxId, limits};
use crate::wire::tx::NodeAnnouncement;
use crate::wire::{Accusation, DecodeError, PublicManifest, ValidatorSet, decode, encode};

/// Longest encoding of a record, bytes: a deal with a full placement, or a full validator set.
pub const RECORD_BYTES_MAX: usize = limits::TX_BYTES_MAX;

/// A value of the state. Its bytes begin with a number for the kind, so that later versions of a kind get their own.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Record {
    /// At `Key::Params`.
    Params(Params),
    /// At `Key::Tip`.
    Tip(Tip),
    /// At `Key::Validators` and `Key::Replaced`, ascending by node.
    Validators(Vec<ValidatorEntry>),
    /// At `Key::SkipList`.
    SkipList(SkipList),
    /// At `Key::OperatorCount`: operators with at least one active storage node.
    OperatorCount(u64),
    /// At `Key::Account`.
    Account(Account),
    /// At `Key::Node`.
    Node(Box<NodeEntry>),
    /// At `Key::Operator`: the operator's active storage nodes, at least one.
    Operator(u64),
    /// At `Key::Sums`: at level 0 the lengths of slots, above it the sums of the records below; at most `SUMS_FANOUT`
    /// numbers, the last one not 0. Missing where all are 0.
    Sums(Vec<u64>),
    /// At `Key::Held`.
    Held(SlotId),
    /// At `Key::Challenge`.
    Challenge(Box<Challenge>),
    /// At `Key::Missed`: slots, each once, at least one.
    Missed(Vec<SlotId>),
    /// At `Key::Draining`.
    Draining,
    /// At `Key::File`.
    File(Box<Deal>),
    /// At `Key::Manifest`.
    Manifest(Box<PublicManifest>),
    /// At `Key::OwnerFile`.
    OwnerFile,
    /// At `Key::Lost`.
    Lost {
        /// Height since which they are.
        since: Height,
    },
    /// At `Key::DueCount`, at least one.
    DueCount(u32),
    /// At `Key::Due`.
    Due(Due),
    /// At `Key::Tally`.
    Tally(Box<Tally>),
    /// At `Key::Share`.
    Share {
        /// The file's key, sealed to the account.
        sealed: Vec<u8>,
        /// The last height at which it counts.
        until: Option<Height>,
    },
    /// At `Key::Shares`: with whom, strictly ascending and at least one; each has a `Record::Share` with the same last height.
    Shares(Vec<Shared>),
    /// At `Key::Forfeited`: credits that nobody has any more; they count to the supply.
    Forfeited(Amount),
    /// At `Key::Stakes`: ascending by node.
    Stakes(Vec<Stake>),
    /// At `Key::Root`: a file of the account, final when it became the root.
    Root(FileId),
    /// At `Key::Offence`.
    Offence(Offence),
    /// At `Key::Protocol`.
    Protocol(Protocol),
}

impl Record {
    /// The canonical bytes.
    pub fn bytes(&self) -> Vec<u8> {
        encode(self)
    }
    /// The record of some bytes, which must be of the kind that belongs to the key.
    /// Errors: `TooLong`, `Malformed`.
    pub fn from_bytes(key: &Key, bytes: &[u8]) -> Result<Self, DecodeError> {
        let record: Self = decode(bytes, RECORD_BYTES_MAX)?;
        if record.belongs_to(key) {
            Ok(record)
        } else {
            Err(DecodeError::Malformed(format!("a record of another kind at {key:?}")))
        }
    }
    /// Whether the record is of the kind that belongs to the key.
    pub fn belongs_to(&self, key: &Key) -> bool {
        match self {
            Self::Params(_) => matches!(key, Key::Params),
            Self::Tip(_) => matches!(key, Key::Tip),
            Self::Validators(_) => matches!(key, Key::Validators | Key::Replaced(_)),
            Self::Stakes(_) => matches!(key, Key::Stakes),
            Self::Forfeited(_) => matches!(key, Key::Forfeited),
            Self::Protocol(_) => matches!(key, Key::Protocol),
            Self::Offence(_) => matches!(key, Key::Offence(_)),
            Self::SkipList(_) => matches!(key, Key::SkipList),
            Self::OperatorCount(_) => matches!(key, Key::OperatorCount),
            Self::Account(_) => matches!(key, Key::Account(_)),
            Self::Node(_) => matches!(key, Key::Node(_)),
            Self::Operator(_) => matches!(key, Key::Operator(_)),
            Self::Sums(_) => matches!(key, Key::Sums(..)),
            Self::Held(_) => matches!(key, Key::Held(..)),
            Self::Challenge(_) => matches!(key, Key::Challenge(_)),
            Self::Missed(_) => matches!(key, Key::Missed(_)),
            Self::Draining => matches!(key, Key::Draining(_)),
            Self::File(_) => matches!(key, Key::File(_)),
            Self::Manifest(_) => matches!(key, Key::Manifest(_)),
            Self::OwnerFile => matches!(key, Key::OwnerFile(..)),
            Self::Lost { .. } => matches!(key, Key::Lost(_)),
            Self::DueCount(_) => matches!(key, Key::DueCount(_)),
            Self::Due(_) => matches!(key, Key::Due(..)),
            Self::Tally(_) => matches!(key, Key::Tally),
            Self::Share { .. } => matches!(key, Key::Share(..)),
            Self::Shares(_) => matches!(key, Key::Shares(_)),
            Self::Root(_) => matches!(key, Key::Root(_)),
        }
    }
}

/// What the genesis fixed for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Params {
    /// Credits in existence.
    pub supply: Amount,
    /// Blocks in an epoch, at least 1.
    pub epoch_blocks: u64,
    /// Blocks that a deal may stay pending, at least 1.
    pub pending_blocks: u64,
    /// Audits, payment and quotas.
    pub storage: StorageParams,
    /// Stakes.
    pub validators: ValidatorParams,
}

impl Params {
    /// The epoch of a block: epoch e covers the heights e·L + 1 to (e + 1)·L; genesis counts to epoch 0.
    pub fn epoch_of(&self, height: Height) -> Epoch {
        let before = height.get().saturating_sub(1);
        Epoch::new(before.checked_div(self.epoch_blocks).unwrap_or(0))
    }
    /// The first height of the epoch after the one of a height.
    pub fn next_epoch_begins(&self, height: Height) -> Height {
        let next = self.epoch_of(height).get().saturating_add(1);
        Height::new(next.saturating_mul(self.epoch_blocks).saturating_add(1))
    }
    /// The first height of an epoch.
    pub fn first_height(&self, epoch: Epoch) -> Height {
        Height::new(epoch.get().saturating_mul(self.epoch_blocks).saturating_add(1))
    }
    /// Whether the height is the last of its epoch.
    pub fn ends_epoch(&self, height: Height) -> bool {
        height != Height::GENESIS && height.get().checked_rem(self.epoch_blocks) == Some(0)
    }
}

/// What every block moves on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Tip {
    /// Height of the block that this state is after.
    pub height: Height,
    /// All reveals so far, hashed together (see `beacon`).
    pub beacon: [u8; 32],
    /// The next deadline to look at: height and place.
    pub due: (Height, u32),
}

/// What a node did that no honest one does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum OffenceKind {
    /// It signed two blocks in one view.
    Contradiction = 0,
    /// It signed for a slot that the file does not have.
    FalseReceipt = 1,
}

impl OffenceKind {
    /// Its stable name, for JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Contradiction => "contradiction",
            Self::FalseReceipt => "false_receipt",
        }
    }
}

impl From<&Accusation> for OffenceKind {
    fn from(accusation: &Accusation) -> Self {
        match accusation {
            Accusation::Contradiction(_) => Self::Contradiction,
            Accusation::FalseReceipt(_) => Self::FalseReceipt,
        }
    }
}

/// What a node was punished for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Offence {
    /// What it did.
    pub kind: OffenceKind,
    /// The block that punished it.
    pub at: Height,
    /// The transaction that proves it.
    pub tx: TxId,
    /// Credits that its stake lost.
    pub lost: Amount,
}

/// One validator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct ValidatorEntry {
    /// The node that votes.
    pub node: NodeId,
    /// Its weight.
    pub power: u64,
    /// The account behind it.
    pub account: AccountId,
}

/// The validator set of these entries, which are sorted by node.
/// Errors: those of `ValidatorSet::new`.
pub fn validator_set(entries: &[ValidatorEntry]) -> Result<ValidatorSet, crate::wire::validators::ValidatorSetError> {
    let member = |entry: &ValidatorEntry| crate::wire::Validator { node: entry.node, power: entry.power };
    ValidatorSet::new(entries.iter().map(member).collect())
}

/// Validators that do not lead in an epoch, because they lost most of their views in the one before.
/// Which they are, the shell finds out (protocol rule 1); the ledger only keeps it.
#[derive(Clone, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct SkipList {
    /// The epoch in which they are skipped.
    pub epoch: Epoch,
    /// Their places in the set, strictly ascending.
    pub indices: Vec<u16>,
}

/// An account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Account {
    /// Credits at hand.
    pub balance: Amount,
    /// Transactions made; the next one carries this nonce.
    pub nonce: u64,
    /// Bytes of slots in its open deals.
    pub stored: ByteCount,
}

/// A registered node.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct NodeEntry {
    /// The account it belongs to; never changes.
    pub account: AccountId,
    /// What it last announced.
    pub announcement: NodeAnnouncement,
    /// Height of its first registration.
    pub registered: Height,
    /// Whether it may be placed in new deals.
    pub active: bool,
    /// Bytes of slots that open deals have placed on it, lost ones left out.
    pub used: ByteCount,
    /// Bytes of those that it has a receipt for: what its audits ask about.
    pub held: ByteCount,
    /// The leaf of its sum tree for the next slot; leaves are not used again.
    pub next_leaf: u64,
    /// How its audits went.
    pub audit: Audit,
    /// Whether it gives its slots away and takes no new ones.
    pub draining: bool,
    /// Its hash chain for the beacon.
    pub beacon: BeaconChain,
}

impl NodeEntry {
    /// The entry of a node that was not registered before.
    pub fn new(account: AccountId, announcement: NodeAnnouncement, registered: Height) -> Self {
        Self {
            account,
            registered,
            active: true,
            used: ByteCount::ZERO,
            held: ByteCount::ZERO,
            next_leaf: 0,
            audit: Audit::default(),
            draining: false,
            beacon: BeaconChain { head: announcement.beacon_head, next: None },
            announcement,
        }
    }
    /// Bytes that new deals may still place on it.
    pub fn free(&self) -> ByteCount {
        self.announcement.capacity.checked_sub(self.used).unwrap_or(ByteCount::ZERO)
    }
}

/// A node's hash chain: each reveal is the preimage of the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct BeaconChain {
    /// What the next reveal must hash to.
    pub head: [u8; 32],
    /// Head of a new chain, and the epoch with which it takes over.
    pub next: Option<(Epoch, [u8; 32])>,
}

/// A file's deal. Small, so that a confirmation rewrites little: the manifest is a record of its own.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Deal {
    /// Whose file it is.
    pub owner: AccountId,
    /// The node for each slot, in the order of the slots; the last holder of one that is lost.
    pub placement: Vec<NodeId>,
    /// More of each slot, in the same order; nothing once the deal has ended.
    pub slots: Vec<SlotState>,
    /// Bytes of each slot.
    pub slot_len: u64,
    /// Slots that restore the file.
    pub data: u8,
    /// Receipts that make the deal final.
    pub min_confirmations: u8,
    /// Slots still held at or below which others may take over those that are lost.
    pub repair_threshold: u8,
    /// Slots that their node holds by its receipt.
    pub confirmed: SlotSet,
    /// Slots that nobody holds, for others to take over. Those in neither set wait for their node's first receipt.
    pub lost: SlotSet,
    /// Whether others rebuild the lost slots: from when so few are left as the repair threshold says, until none is lost.
    pub repairing: bool,
    /// Slots taken over so far.
    pub taken: u32,
    /// Credits per GiB and epoch.
    pub price: u64,
    /// Credits that are not paid out yet.
    pub escrow: Amount,
    /// Credits paid out to nodes so far.
    pub paid: Amount,
    /// Height whose block ends the deal unless it is renewed.
    pub ends: Height,
    /// Height of the block that opened it.
    pub opened: Height,
    /// Where it stands.
    pub status: DealStatus,
}

impl Deal {
    /// Whether so few slots are held that others are to rebuild the lost ones. Once begun, it goes on until none is lost:
    /// `Key::Lost` marks that.
    pub fn is_endangered(&self) -> bool {
        !self.lost.is_empty() && self.confirmed.len() <= usize::from(self.repair_threshold)
    }
}

/// An account that a file is shared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub struct Shared {
    /// The account.
    pub to: AccountId,
    /// The last height at which the share counts; without it, it counts until the deal ends.
    pub until: Option<Height>,
}

impl Shared {
    /// Whether its time is up at a height. It stays on the ledger until the file is shared again, or its deal ends.
    pub fn is_over(&self, at: Height) -> bool {
        self.until.is_some_and(|until| until < at)
    }
}

/// Where a deal stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum DealStatus {
    /// Open, with too few receipts.
    Pending {
        /// The last height whose block may make the deal final; the next one ends it.
        until: Height,
    },
    /// Open, with enough receipts.
    Final {
        /// Height at which the last needed receipt came.
        since: Height,
    },
    /// Ended by its owner.
    Deleted {
        /// Height at which it ended.
        at: Height,
    },
    /// Ended because too few receipts came in time.
    Expired {
        /// Height at which it ended.
        at: Height,
    },
    /// Ended because the time was up that its owner paid for.
    Ended {
        /// Height at which it ended.
        at: Height,
    },
}

impl DealStatus {
    /// Whether the deal's nodes must hold its slots.
    pub const fn is_open(&self) -> bool {
        matches!(self, Self::Pending { .. } | Self::Final { .. })
    }
    /// The status' stable name, for JSON and exports.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Pending { .. } => "pending",
            Self::Final { .. } => "final",
            Self::Deleted { .. } => "deleted",
            Self::Expired { .. } => "expired",
            Self::Ended { .. } => "ended",
        }
    }
}

/// A set of slots, as bits: slot j is bit j mod 8 of byte j / 8.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct SlotSet([u8; 32]);

impl SlotSet {
    /// Adds a slot; false if it was there.
    pub fn insert(&mut self, slot: u8) -> bool {
        let Some(byte) = self.0.get_mut(usize::from(slot >> 3)) else { return false };
        let bit = 1 << (slot & 7);
        let new = *byte & bit == 0;
        *byte |= bit;
        new
    }
    /// Takes a slot out; false if it was not there.
    pub fn remove(&mut self, slot: u8) -> bool {
        let Some(byte) = self.0.get_mut(usize::from(slot >> 3)) else { return false };
        let bit = 1 << (slot & 7);
        let there = *byte & bit != 0;
        *byte &= !bit;
        there
    }
    /// Whether the slot is in the set.
    pub fn has(&self, slot: u8) -> bool {
        self.0.get(usize::from(slot >> 3)).is_some_and(|byte| byte & (1 << (slot & 7)) != 0)
    }
    /// How many slots there are in the set.
    pub fn len(&self) -> usize {
        self.0.iter().fold(0, |sum, byte| sum.saturating_add(byte.count_ones() as usize))
    }
    /// Whether no slot is in the set.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The slots, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u8> {
        (0..=u8::MAX).filter(|slot| self.has(*slot))
    }
}

/// What happens when a height is reached, before the transactions of its block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Due {
    /// The deal ends if it is still pending. If it is final, slots without a receipt are lost: others may take them.
    PendingEnds(FileId),
    /// The deal ends unless it was renewed.
    DealEnds(FileId),
    /// The node is audited.
    Challenge(NodeId),
    /// An audit of the node that nobody has answered has failed.
    AnswersEnd(NodeId),
    /// A node that is gone loses some of the slots that it holds at leaves below the number; the rest in the next block.
    Evict(NodeId, u64),
}

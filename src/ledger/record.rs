//! Records: the values of the state.

use borsh::{BorshDeserialize, BorshSerialize};

use super::key::Key;
use crate::types::{AccountId, Amount, ByteCount, Epoch, FileId, Height, NodeId, limits};
use crate::wire::tx::NodeAnnouncement;
use crate::wire::{DecodeError, PublicManifest, ValidatorSet, decode, encode};

/// Longest encoding of a record, bytes: a deal with a full placement, or a full validator set.
pub const RECORD_BYTES_MAX: usize = limits::TX_BYTES_MAX;

/// A value of the state. Its bytes begin with a number for the kind, so that later versions of a kind get their own.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Record {
    /// At `Key::Params`.
    Params(Params),
    /// At `Key::Tip`.
    Tip(Tip),
    /// At `Key::Validators`.
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
    /// At `Key::File`.
    File(Box<Deal>),
    /// At `Key::Manifest`.
    Manifest(Box<PublicManifest>),
    /// At `Key::OwnerFile`.
    OwnerFile,
    /// At `Key::DueCount`, at least one.
    DueCount(u32),
    /// At `Key::Due`.
    Due(Due),
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
            Self::Validators(_) => matches!(key, Key::Validators),
            Self::SkipList(_) => matches!(key, Key::SkipList),
            Self::OperatorCount(_) => matches!(key, Key::OperatorCount),
            Self::Account(_) => matches!(key, Key::Account(_)),
            Self::Node(_) => matches!(key, Key::Node(_)),
            Self::Operator(_) => matches!(key, Key::Operator(_)),
            Self::File(_) => matches!(key, Key::File(_)),
            Self::Manifest(_) => matches!(key, Key::Manifest(_)),
            Self::OwnerFile => matches!(key, Key::OwnerFile(..)),
            Self::DueCount(_) => matches!(key, Key::DueCount(_)),
            Self::Due(_) => matches!(key, Key::Due(..)),
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
}

impl Params {
    /// The epoch of a block: epoch e covers the heights e·L + 1 to (e + 1)·L; genesis counts to epoch 0.
    pub fn epoch_of(&self, height: Height) -> Epoch {
        let before = height.get().saturating_sub(1);
        Epoch::new(before.checked_div(self.epoch_blocks).unwrap_or(0))
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
    /// Bytes of slots that open deals have placed on it.
    pub used: ByteCount,
    /// Its hash chain for the beacon.
    pub beacon: BeaconChain,
}

impl NodeEntry {
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
    /// The node for each slot, in the order of the slots.
    pub placement: Vec<NodeId>,
    /// Bytes of each slot.
    pub slot_len: u64,
    /// Slots that restore the file.
    pub data: u8,
    /// Receipts that make the deal final.
    pub min_confirmations: u8,
    /// Slots with a receipt.
    pub confirmed: SlotSet,
    /// Height of the block that opened it.
    pub opened: Height,
    /// Where it stands.
    pub status: DealStatus,
}

/// Where a deal stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum DealStatus {
    /// Open, with too few receipts.
    Pending {
        /// Height whose block ends the deal unless it is final by then.
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

/// What happens when a height is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Due {
    /// The deal ends if it is still pending.
    PendingEnds(FileId),
}

//! Pieces: the state cut by the first nibbles of its records' places in the tree, each piece provable by itself.
//!
//! A piece is all records below one node of the tree, or none. The manifest has the hash of each such node; together they add
//! up to the state root. So a record that is wrong, missing, surplus or of another state shows with its own piece.
//! Not here: who sends pieces (`node::snapshot`), where they are written (`store`).

use borsh::{BorshDeserialize, BorshSerialize};
use jmt::storage::{LeafNode, Node, NodeKey};
use jmt::{KeyHash, SimpleHasher, ValueHash};

use super::effects::Changes;
use super::key::Key;
use super::record::Record;
use super::tree::{NodeHasher, key_bytes};
use crate::crypto::{Domain, hash};
use crate::types::{Height, StateRoot};
use crate::wire::encode;

/// Nibbles that pieces are cut by, at most: 65,536 pieces.
pub const DEPTH_MAX: u8 = 4;

/// What the tree's hashes have where there is no record; the crate does not export it.
const NOTHING: [u8; 32] = *b"SPARSE_MERKLE_PLACEHOLDER_HASH__";

/// Why pieces or their manifest are refused. The sender's fault, or of whoever made them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PieceError {
    /// Not 16^depth hashes, or cut too finely for the height.
    #[error("a manifest of depth {depth} with {pieces} pieces at height {height}")]
    Shape {
        /// Its depth.
        depth: u8,
        /// Its pieces.
        pieces: usize,
        /// The height.
        height: Height,
    },
    /// Its hashes do not add up to the state root.
    #[error("the pieces of the manifest do not add up to the state root {0}")]
    Root(StateRoot),
    /// A record that is not of the piece, or not in its place.
    #[error("record {0} of the piece stands where it must not")]
    Place(usize),
    /// Bytes that are no record of the ledger.
    #[error("record {0} of the piece is none of the ledger's")]
    Record(usize),
    /// The records do not have the hash that the manifest says.
    #[error("the records of piece {0} are not those of the manifest")]
    Piece(u32),
}

/// The hash of a part of the tree, and whether more than one record is in it: a record alone moves up to where it is alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Sum {
    /// No record.
    None,
    /// One record: the hash of its leaf.
    One([u8; 32]),
    /// More: the hash of the node above them.
    More([u8; 32]),
}

impl Sum {
    fn hash(self) -> [u8; 32] {
        match self {
            Self::None => NOTHING,
            Self::One(hash) | Self::More(hash) => hash,
        }
    }
    fn join(self, right: Self) -> Self {
        match (self, right) {
            (Self::None, Self::None) => Self::None,
            (Self::One(hash), Self::None) | (Self::None, Self::One(hash)) => Self::One(hash),
            (left, right) => {
                let mut hasher = NodeHasher::new();
                hasher.update(jmt::proof::INTERNAL_DOMAIN_SEPARATOR);
                hasher.update(&left.hash());
                hasher.update(&right.hash());
                Self::More(hasher.finalize())
            }
        }
    }
}

/// A record as key and bytes.
pub type RawRecord = (Vec<u8>, Vec<u8>);

/// The hashes of all pieces of a state.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Manifest {
    /// Nibbles that the pieces are cut by.
    pub depth: u8,
    /// The hash of each, in order.
    pub pieces: Vec<Sum>,
}

impl Manifest {
    /// Checks that the pieces are all of the state with this root, and can be added to a tree one version after the other.
    /// Errors: `Shape`, `Root`.
    pub fn check(&self, height: Height, root: &StateRoot) -> Result<(), PieceError> {
        let pieces = self.pieces.len();
        let fits = self.depth <= DEPTH_MAX && pieces == count(self.depth) && pieces as u64 <= height.get();
        if !fits {
            return Err(PieceError::Shape { depth: self.depth, pieces, height });
        }
        let mut level = self.pieces.clone();
        while level.len() > 1 {
            level = level.chunks(2).map(|pair| pair.iter().copied().reduce(Sum::join).unwrap_or(Sum::None)).collect();
        }
        let sum = level.first().map_or(NOTHING, |sum| sum.hash());
        if sum == *root.as_bytes() { Ok(()) } else { Err(PieceError::Root(*root)) }
    }

    /// Checks one piece: every record of it, in its place, and no other. Errors: `Place`, `Record`, `Piece`.
    pub fn check_piece(&self, index: u32, records: &[RawRecord]) -> Result<Changes, PieceError> {
        let places: Vec<_> = records.iter().map(|(key, _)| place(key)).collect();
        let (mut last, mut changes) = (None, Changes::new());
        for (at, (place, (key, bytes))) in places.iter().zip(records).enumerate() {
            if piece_of(place, self.depth) != index || last.is_some_and(|last| last >= place) {
                return Err(PieceError::Place(at));
            }
            last = Some(place);
            let named = Key::from_bytes(key).filter(|named| named.bytes() == *key).ok_or(PieceError::Record(at))?;
            let record = Record::from_bytes(&named, bytes).map_err(|_| PieceError::Record(at))?;
            changes.insert(named, Some(record));
        }
        let found = sum(self.depth, records);
        let said = usize::try_from(index).ok().and_then(|index| self.pieces.get(index));
        if said.is_some_and(|said| said.hash() == found.hash()) { Ok(changes) } else { Err(PieceError::Piece(index)) }
    }
}

/// Pieces of a depth.
pub const fn count(depth: u8) -> usize {
    match depth {
        0 => 1,
        1 => 16,
        2 => 256,
        3 => 4_096,
        _ => 65_536,
    }
}

/// Where in the tree a record is.
pub fn place(key: &[u8]) -> [u8; 32] {
    hash(Domain::StateKey, key)
}

/// Which piece of a depth a place is in.
pub fn piece_of(place: &[u8; 32], depth: u8) -> u32 {
    let [high, low, ..] = *place;
    let shift = 16_u32.saturating_sub(u32::from(depth).saturating_mul(4));
    u32::from(u16::from_be_bytes([high, low])).checked_shr(shift).unwrap_or(0)
}

/// The hash of a piece of a depth, whose records are all of it, ascending by place. Cost: about 1 us a record.
pub fn sum(depth: u8, records: &[RawRecord]) -> Sum {
    let leaf = |(key, bytes): &RawRecord| {
        let place = place(key);
        let leaf = LeafNode::new(KeyHash(place), ValueHash::with::<NodeHasher>(bytes));
        (place, leaf.hash::<NodeHasher>())
    };
    let leaves: Vec<_> = records.iter().map(leaf).collect();
    sum_from(usize::from(depth).saturating_mul(4), &leaves)
}

fn sum_from(bit: usize, leaves: &[([u8; 32], [u8; 32])]) -> Sum {
    match leaves {
        [] => Sum::None,
        [(_, hash)] => Sum::One(*hash),
        _ => {
            let is_left = |place: &[u8; 32]| {
                let byte = place.get(bit >> 3).copied().unwrap_or(0);
                byte & 0x80_u8.checked_shr(u32::try_from(bit & 7).unwrap_or(0)).unwrap_or(0) == 0
            };
            let (left, right) = leaves.split_at(leaves.partition_point(|(place, _)| is_left(place)));
            let next = bit.saturating_add(1);
            if next > 256 {
                // Places differ before their end; equal ones were refused.
                return Sum::None;
            }
            sum_from(next, left).join(sum_from(next, right))
        }
    }
}

/// The node of an empty tree of a height, as key and bytes: what the first piece is added to.
pub fn empty_tree(height: Height) -> (Vec<u8>, Vec<u8>) {
    (key_bytes(&NodeKey::new(height.get(), std::iter::empty().collect())), encode(&Node::Null))
}

#[cfg(test)]
#[path = "pieces_tests.rs"]
mod tests;

//! Proofs over slots: BLAKE3's own tree (BLAKE3 specification, section 2.1), whose root is the slot's hash.
//!
//! A slot is read in blocks of `SLOT_BLOCK_BYTES` and audited in leaves of 1 KiB; both are subtrees, so one path of chaining values
//! leads from either to the root. BLAKE3 puts a leaf's offset into its hash and marks the root, so bytes cannot be moved and an
//! inner node cannot pass for a slot.
//! A root does not tell the slot's length; the file's manifest does. Bytes that verify are the slot's bytes at that
//! offset under any length given; the last block or leaf verifies under the true length only.
//! Not here: which slots a node must hold (`ledger`), how a path travels (`net`).

use blake3::Hasher;
use blake3::hazmat::{HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};

use crate::types::{SlotRoot, limits};

pub use blake3::hazmat::ChainingValue;

/// Bytes of a leaf of BLAKE3's tree.
pub const LEAF_BYTES: usize = limits::LEAF_BYTES;
const _: () = assert!(LEAF_BYTES == blake3::CHUNK_LEN, "a leaf is a leaf of BLAKE3");
const BLOCK: u64 = limits::SLOT_BLOCK_BYTES as u64;
/// Levels between a block and its leaves.
const BLOCK_LEVELS: u32 = (limits::SLOT_BLOCK_BYTES / LEAF_BYTES).ilog2();

/// The chaining values beside the way from a block or leaf up to the root, lowest first.
pub type Path = Vec<ChainingValue>;

/// What a proof opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grain {
    /// `SLOT_BLOCK_BYTES`: what is read at once.
    Block,
    /// 1 KiB: what a storage proof samples.
    Leaf,
}

impl Grain {
    /// Bytes of one, except the last of a slot.
    pub const fn bytes(self) -> usize {
        match self {
            Self::Block => limits::SLOT_BLOCK_BYTES,
            Self::Leaf => LEAF_BYTES,
        }
    }
    /// How many a slot of this length has.
    pub const fn count(self, slot_len: u64) -> u64 {
        slot_len.div_ceil(self.bytes() as u64)
    }
    /// Bytes of the one at an index, or nothing beyond the last.
    pub fn len_at(self, slot_len: u64, index: u64) -> Option<usize> {
        let start = index.checked_mul(self.bytes() as u64).filter(|start| *start < slot_len)?;
        Some((slot_len - start).min(self.bytes() as u64) as usize)
    }
}

/// Why bytes are not proven to be part of a slot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The slot has no such block or leaf.
    #[error("index {index} in a slot that has {count}")]
    Index {
        /// Asked for.
        index: u64,
        /// In the slot.
        count: u64,
    },
    /// Too few or too many bytes.
    #[error("{have} bytes where the slot has {need}")]
    Length {
        /// Given.
        have: usize,
        /// Expected.
        need: usize,
    },
    /// Too few or too many hashes.
    #[error("a path of {have} hashes where {need} lead to the root")]
    PathLength {
        /// Given.
        have: usize,
        /// Expected.
        need: usize,
    },
    /// The bytes or the path lead to another root.
    #[error("the bytes do not belong to the slot's root")]
    Root,
}

/// Checks that `bytes` are the block or leaf `index` of the slot with this root and length. The length comes from
/// the manifest. Nothing may be missing or left over. Errors: each of `ProofError`.
pub fn verify(
    root: &SlotRoot,
    slot_len: u64,
    grain: Grain,
    index: u64,
    bytes: &[u8],
    path: &[ChainingValue],
) -> Result<(), ProofError> {
    let count = grain.count(slot_len);
    let need = grain.len_at(slot_len, index).ok_or(ProofError::Index { index, count })?;
    if bytes.len() != need {
        return Err(ProofError::Length { have: bytes.len(), need });
    }
    let need = path_len(index, count);
    if path.len() != need {
        return Err(ProofError::PathLength { have: path.len(), need });
    }
    let found = if count == 1 {
        blake3::hash(bytes)
    } else {
        fold(subtree(index * grain.bytes() as u64, bytes), index, count, path)
    };
    // `blake3::Hash` compares in constant time; nothing here is secret.
    if found.as_bytes() == root.as_bytes() { Ok(()) } else { Err(ProofError::Root) }
}

/// How many of `count` subtrees' paths have a neighbour at each level: BLAKE3 fills the tree from the left, so a level's
/// odd last node has none and moves up as it is.
fn path_len(mut index: u64, mut count: u64) -> usize {
    let mut len = 0;
    while count > 1 {
        len += usize::from((index ^ 1) < count);
        index /= 2;
        count = count.div_ceil(2);
    }
    len
}

/// The root that a subtree's value leads to; `path` has the right length and `count` is at least 2.
fn fold(mut value: ChainingValue, mut index: u64, mut count: u64, path: &[ChainingValue]) -> blake3::Hash {
    let mut path = path.iter();
    loop {
        if (index ^ 1) < count {
            let beside = path.next().expect("the path has its length");
            let (left, right) = if index.is_multiple_of(2) { (&value, beside) } else { (beside, &value) };
            if count == 2 {
                return merge_subtrees_root(left, right, Mode::Hash);
            }
            value = merge_subtrees_non_root(left, right, Mode::Hash);
        }
        index /= 2;
        count = count.div_ceil(2);
    }
}

/// The chaining value of bytes at an offset of a slot.
fn subtree(offset: u64, bytes: &[u8]) -> ChainingValue {
    Hasher::new().set_input_offset(offset).update(bytes).finalize_non_root()
}

/// All levels over a list of subtrees, the list first, up to the level of two.
fn levels_over(list: Vec<ChainingValue>) -> Vec<Vec<ChainingValue>> {
    let mut levels = vec![list];
    while levels[levels.len() - 1].len() > 2 {
        let below = &levels[levels.len() - 1];
        let join = |pair: &[ChainingValue]| match pair {
            [left, right] => merge_subtrees_non_root(left, right, Mode::Hash),
            odd => odd[0],
        };
        levels.push(below.chunks(2).map(join).collect());
    }
    levels
}

/// The path from an entry of the lowest level to the top one.
fn path_through(levels: &[Vec<ChainingValue>], index: u64) -> impl Iterator<Item = ChainingValue> {
    levels.iter().enumerate().filter_map(move |(height, level)| {
        let beside = (index >> height) ^ 1;
        usize::try_from(beside).ok().and_then(|beside| level.get(beside)).copied()
    })
}

/// Hashes a slot that comes in pieces and keeps the chaining value of every block: 32 bytes for each 256 KiB.
/// Who needs the root alone takes a `blake3::Hasher`.
#[derive(Clone)]
pub struct SlotHasher {
    /// The block that has room left, or was filled by the last byte so far.
    open: Hasher,
    closed: Vec<ChainingValue>,
}

impl Default for SlotHasher {
    fn default() -> Self {
        Self::new()
    }
}

impl SlotHasher {
    /// Before the first byte.
    pub fn new() -> Self {
        Self { open: Hasher::new(), closed: Vec::new() }
    }
    /// Takes the next bytes of the slot, any number of them.
    pub fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.open.count() == BLOCK {
                self.closed.push(self.open.finalize_non_root());
                self.open = Hasher::new();
                self.open.set_input_offset(self.closed.len() as u64 * BLOCK);
            }
            let room = (BLOCK - self.open.count()) as usize;
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.open.update(now);
            bytes = later;
        }
    }
    /// Bytes taken.
    pub fn len(&self) -> u64 {
        self.closed.len() as u64 * BLOCK + self.open.count()
    }
    /// Whether no byte was taken.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The tree over all bytes taken.
    pub fn finish(self) -> SlotTree {
        let len = self.len();
        if self.closed.is_empty() {
            let root = SlotRoot::from_bytes(*self.open.finalize().as_bytes());
            return SlotTree { len, root, levels: Vec::new() };
        }
        let mut blocks = self.closed;
        blocks.push(self.open.finalize_non_root());
        SlotTree::over(len, blocks)
    }
}

/// The upper part of a slot's tree, from its blocks to the root: 64 bytes for each 256 KiB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotTree {
    len: u64,
    root: SlotRoot,
    /// From the blocks up to the level of two; none for a slot of one block.
    levels: Vec<Vec<ChainingValue>>,
}

impl SlotTree {
    fn over(len: u64, blocks: Vec<ChainingValue>) -> Self {
        let levels = levels_over(blocks);
        let top = &levels[levels.len() - 1];
        let root = merge_subtrees_root(&top[0], &top[1], Mode::Hash);
        Self { len, root: SlotRoot::from_bytes(*root.as_bytes()), levels }
    }
    /// The tree of a slot from what `blocks` gave, if it leads to the root. Errors: `Length` for another number of
    /// blocks, `Root`.
    pub fn load(root: &SlotRoot, len: u64, blocks: Vec<ChainingValue>) -> Result<Self, ProofError> {
        let count = Grain::Block.count(len);
        let need = if count < 2 { 0 } else { count };
        if blocks.len() as u64 != need {
            return Err(ProofError::Length { have: blocks.len(), need: need as usize });
        }
        if need == 0 {
            return Ok(Self { len, root: *root, levels: Vec::new() });
        }
        let tree = Self::over(len, blocks);
        if tree.root == *root { Ok(tree) } else { Err(ProofError::Root) }
    }
    /// Bytes of the slot.
    pub const fn len(&self) -> u64 {
        self.len
    }
    /// Whether the slot has no byte.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
    /// The slot's hash.
    pub const fn root(&self) -> &SlotRoot {
        &self.root
    }
    /// The chaining values of the blocks, in order; none if the whole slot fits one block. To be kept beside the slot.
    pub fn blocks(&self) -> &[ChainingValue] {
        self.levels.first().map_or(&[], Vec::as_slice)
    }
    /// The path that proves a block. Errors: `Index`.
    pub fn block_path(&self, block: u64) -> Result<Path, ProofError> {
        let count = Grain::Block.count(self.len);
        if block >= count {
            return Err(ProofError::Index { index: block, count });
        }
        Ok(path_through(&self.levels, block).collect())
    }
    /// The path that proves a leaf; `block` is the bytes of the whole block around it, as read from disk.
    /// Errors: `Index`, `Length`; `Root` if the bytes are not that block (not found out where the slot has one block only).
    pub fn leaf_path(&self, leaf: u64, block: &[u8]) -> Result<Path, ProofError> {
        let count = Grain::Leaf.count(self.len);
        if leaf >= count {
            return Err(ProofError::Index { index: leaf, count });
        }
        let index = leaf >> BLOCK_LEVELS;
        let need = Grain::Block.len_at(self.len, index).unwrap_or_default();
        if block.len() != need {
            return Err(ProofError::Length { have: block.len(), need });
        }
        if self.blocks().get(index as usize).is_some_and(|known| *known != subtree(index * BLOCK, block)) {
            return Err(ProofError::Root);
        }
        let first = index << BLOCK_LEVELS;
        let leaves = block.chunks(LEAF_BYTES).zip(first..).map(|(bytes, i)| subtree(i * LEAF_BYTES as u64, bytes));
        let within = levels_over(leaves.collect());
        let path = path_through(&within, leaf - first).chain(path_through(&self.levels, index));
        Ok(path.collect())
    }
}

#[cfg(test)]
#[path = "proof_tests.rs"]
mod tests;

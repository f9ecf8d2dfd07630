//! A slot as a file: its bytes, then the chaining values of its blocks, so that a block can be checked and proven
//! without reading the others. The tree they make is `files::proof`'s.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::error::{SlotError, SlotRefusal, StoreError};
use crate::files::proof::{self, Grain, LEAF_BYTES, Path, SlotTree};
use crate::types::SlotRoot;
use crate::types::limits::SLOT_BLOCK_BYTES;

const BLOCK: u64 = SLOT_BLOCK_BYTES as u64;

/// Length of the values, bytes: 32 for each block, none for a slot of one block, whose hash is the root.
const fn values_len(len: u64) -> u64 {
    let blocks = Grain::Block.count(len);
    if blocks < 2 { 0 } else { blocks * 32 }
}

/// Length of the file of a slot, bytes.
pub(super) const fn file_len(len: u64) -> u64 {
    len.saturating_add(values_len(len))
}

/// A slot that is on disk, open for reading. It can be read on while it is removed.
#[derive(Debug)]
pub struct Slot {
    file: File,
    tree: SlotTree,
}

impl Slot {
    /// Opens a slot's file and checks that its block values make its root. Reads 32 bytes for each 256 KiB.
    pub(super) fn open(path: &std::path::Path, root: SlotRoot, len: u64) -> Result<Self, StoreError> {
        let damaged = |at: String| StoreError::corrupted(format!("slot {root}"), at);
        let file = File::open(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => damaged("the whole of it: there is no such file".to_owned()),
            _ => StoreError::at("opening", path, error),
        })?;
        let have = file.metadata().map_err(|error| StoreError::at("looking at", path, error))?.len();
        if have != file_len(len) {
            return Err(damaged(format!("offset {}: {have} bytes in place of {}", have.min(len), file_len(len))));
        }
        let mut raw = vec![0; usize::try_from(values_len(len)).unwrap_or(usize::MAX)];
        file.read_exact_at(&mut raw, len).map_err(|error| StoreError::at("reading", path, error))?;
        let (values, _) = raw.as_chunks::<32>();
        let tree = SlotTree::load(&root, len, values.to_vec());
        let tree = tree.map_err(|error| damaged(format!("offset {len}, the values of its blocks: {error}")))?;
        Ok(Self { file, tree })
    }

    /// Its upper tree: root, length, and the paths that prove blocks and leaves.
    pub fn tree(&self) -> &SlotTree {
        &self.tree
    }

    /// Reads a block and checks it against the root. Cost: the hash of one block.
    /// Errors: `Refused(Range)`; `Corrupted` names slot and offset when the disk gave other bytes back; `Io`.
    pub fn block(&self, index: u64) -> Result<Vec<u8>, SlotError> {
        let mut bytes = Vec::new();
        self.block_into(index, &mut bytes)?;
        Ok(bytes)
    }

    /// The same into a buffer that is used again, and the path that proves the block. Errors: those of `block`; the buffer's
    /// content is undefined then.
    pub fn block_into(&self, index: u64, bytes: &mut Vec<u8>) -> Result<Path, SlotError> {
        let (root, len) = (self.tree.root(), self.tree.len());
        let block_len = Grain::Block.len_at(len, index).ok_or(SlotRefusal::Range { block: index, len })?;
        bytes.resize(block_len, 0);
        let offset = index * BLOCK;
        let read = self.file.read_exact_at(bytes, offset);
        read.map_err(|error| StoreError::io(format!("reading slot {root} at offset {offset}"), error))?;
        let damaged = |_| StoreError::corrupted(format!("slot {root}"), format!("offset {offset}"));
        let path = self.tree.block_path(index).map_err(damaged)?;
        proof::verify(root, len, Grain::Block, index, bytes, &path).map_err(damaged)?;
        Ok(path)
    }

    /// A leaf and the path that proves it. Reads the block around it and nothing else. Errors: those of `block`.
    pub fn leaf(&self, index: u64) -> Result<(Vec<u8>, Path), SlotError> {
        let (root, len) = (self.tree.root(), self.tree.len());
        let around = index / (SLOT_BLOCK_BYTES / LEAF_BYTES) as u64;
        let block = self.block(around)?;
        let path = self.tree.leaf_path(index, &block).map_err(|_| SlotRefusal::Range { block: around, len });
        let from = usize::try_from(index.saturating_mul(LEAF_BYTES as u64) - around * BLOCK).unwrap_or(usize::MAX);
        let end = from.saturating_add(LEAF_BYTES).min(block.len());
        let bytes =
            block.get(from..end).ok_or_else(|| StoreError::corrupted(format!("slot {root}"), index.to_string()));
        Ok((bytes?.to_vec(), path?))
    }
}

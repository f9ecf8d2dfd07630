//! Blocks in pieces.
//!
//! redb keeps a value in a run of pages whose length is a power of two, and writes all of it: a block just over 2 MiB
//! would cost 4 MiB of every disk. So a block is cut where a piece, its key and its check just fill half a MiB.

use redb::{ReadTransaction, ReadableTable, Table, WriteTransaction};

use super::error::{StoreError, from_redb};
use super::keys::{BlockKey, PieceKey};
use super::row::{get, open_read, open_write, put_unless_whole};
use super::tables;
use crate::wire::{self, ProposedBlock};

/// Bytes of a block in one row.
const PIECE: usize = (512 << 10) - 256;
const HEADS: &str = "blocks.v1";
const RESTS: &str = "block_pieces.v1";

/// The tables of blocks, open for writing.
pub(super) struct Blocks<'t> {
    heads: Table<'t, BlockKey, &'static [u8]>,
    rests: Table<'t, PieceKey, &'static [u8]>,
}

impl<'t> Blocks<'t> {
    /// Errors: those of redb.
    pub(super) fn open(txn: &'t WriteTransaction) -> Result<Self, StoreError> {
        Ok(Self { heads: open_write(txn, tables::BLOCKS)?, rests: open_write(txn, tables::BLOCK_PIECES)? })
    }

    /// Writes a block, the pieces that are not there whole. Errors: those of redb.
    pub(super) fn write(&mut self, key: BlockKey, block: &ProposedBlock) -> Result<(), StoreError> {
        let encoded = wire::encode(block);
        let head = &encoded[..encoded.len().min(PIECE)];
        put_unless_whole(&mut self.heads, tables::BLOCKS, key, head)?;
        for (piece, bytes) in (1_u16..).zip(encoded[head.len()..].chunks(PIECE)) {
            let key = PieceKey { block: key, piece };
            put_unless_whole(&mut self.rests, tables::BLOCK_PIECES, key, bytes)?;
        }
        Ok(())
    }

    /// Removes a block. Errors: those of redb.
    pub(super) fn remove(&mut self, key: BlockKey) -> Result<(), StoreError> {
        self.heads.remove(key).map_err(|error| from_redb(HEADS, error))?;
        let pieces = PieceKey::first(key)..=PieceKey::last(key);
        self.rests.retain_in(pieces, |_, _| false).map_err(|error| from_redb(RESTS, error))
    }

    /// At most `limit` keys from `first` up to, not including, `end`. Errors: those of redb.
    pub(super) fn keys(&self, first: BlockKey, end: BlockKey, limit: usize) -> Result<Vec<BlockKey>, StoreError> {
        let rows = self.heads.range(first..end).map_err(|error| from_redb(HEADS, error))?;
        let keys = rows.take(limit).map(|row| row.map(|(key, _)| key.value()));
        keys.collect::<Result<_, _>>().map_err(|error| from_redb(HEADS, error))
    }
}

/// The bytes of a block. Errors: `Corrupted`, and those of redb. A missing piece shows when the bytes are decoded.
pub(super) fn read(txn: &ReadTransaction, key: BlockKey) -> Result<Option<Vec<u8>>, StoreError> {
    let Some(mut bytes) = get(&open_read(txn, tables::BLOCKS)?, tables::BLOCKS, key)? else { return Ok(None) };
    if bytes.len() < PIECE {
        return Ok(Some(bytes));
    }
    let rests = open_read(txn, tables::BLOCK_PIECES)?;
    for piece in 1.. {
        match get(&rests, tables::BLOCK_PIECES, PieceKey { block: key, piece })? {
            Some(more) => bytes.extend_from_slice(&more),
            None => break,
        }
    }
    Ok(Some(bytes))
}

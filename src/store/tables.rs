//! All tables, one line of meaning each. A change of a table's bytes is a new name and a migration (`db`).
//!
//! Values are rows of `row`: the bytes and a check of table, key and bytes. Keys that are not byte strings are
//! newtypes of `keys`, whose byte order is their order.

use redb::TableDefinition;

use super::keys::{AccountTxKey, BlockKey, PieceKey};
use crate::types::{BlockHash, Height, TxId};

/// A table of rows under a key.
pub(super) type Rows<K> = TableDefinition<'static, K, &'static [u8]>;

// Of the chain, in `node.redb`; written by the chain thread alone.

/// Facts about the file: format version, chain id, incarnation, the place it was made at.
pub(super) const META: Rows<&str> = TableDefinition::new("meta.v1");
/// The node key with its safety record, in one row: neither is ever there without the other.
pub(super) const SIGNER: Rows<&str> = TableDefinition::new("signer.v1");
/// Blocks with their justification, or the first piece of a long one: final ones, and those voted for that are not final yet.
pub(super) const BLOCKS: Rows<BlockKey> = TableDefinition::new("blocks.v1");
/// What of a block is over the first piece, by the block and the piece's number from 1 on.
pub(super) const BLOCK_PIECES: Rows<PieceKey> = TableDefinition::new("block_pieces.v1");
/// Headers of final blocks. Heights have no gaps.
pub(super) const HEADERS: Rows<Height> = TableDefinition::new("headers.v1");
/// Height of a final block, by its hash.
pub(super) const BLOCK_HEIGHTS: Rows<BlockHash> = TableDefinition::new("block_heights.v1");
/// Commit certificates of final blocks that have one of their own.
pub(super) const CERTIFICATES: Rows<Height> = TableDefinition::new("certificates.v1");
/// Receipts of a final block's transactions.
pub(super) const RECEIPTS: Rows<Height> = TableDefinition::new("receipts.v1");
/// Place of a transaction in the chain.
pub(super) const TXS: Rows<TxId> = TableDefinition::new("txs.v1");
/// Transactions that touch an account, by their place. The key says it all.
pub(super) const ACCOUNT_TXS: TableDefinition<'static, AccountTxKey, ()> = TableDefinition::new("account_txs.v1");
/// The ledger's records after the last final block, by the ledger's own keys.
pub(super) const STATE: Rows<&[u8]> = TableDefinition::new("state.v1");
/// Nodes of the state tree, by the tree's own keys, which begin with a height.
pub(super) const TREE_NODES: Rows<&[u8]> = TableDefinition::new("tree_nodes.v1");
/// Nodes that a height replaced: that height, then the node's key. Pruned when old enough.
pub(super) const TREE_STALE: TableDefinition<'static, &[u8], ()> = TableDefinition::new("tree_stale.v1");

// Of the node itself, in `local.redb`; written by any task through its writer.

/// Facts about the file: format version, chain id.
pub(super) const LOCAL_META: Rows<&[u8]> = TableDefinition::new("local_meta.v1");
/// Slots that are durable in `slots/`: root to length and number of references.
pub(super) const SLOTS: Rows<&[u8]> = TableDefinition::new("slots.v1");
/// Slots of a file that this node holds: file id and place to root.
pub(super) const FILE_SLOTS: Rows<&[u8]> = TableDefinition::new("file_slots.v1");
/// Uploads in progress: the offset up to which their bytes are durable, by the sender's id.
pub(super) const UPLOADS: Rows<&[u8]> = TableDefinition::new("uploads.v1");
/// The owner's puts in progress, by session.
pub(super) const PUTS: Rows<&[u8]> = TableDefinition::new("puts.v1");
/// Contents that were put for a path and are not in the tree yet, by session.
pub(super) const STAGED: Rows<&[u8]> = TableDefinition::new("staged.v1");
/// The owner's files: file id to sealed key and name.
pub(super) const MY_FILES: Rows<&[u8]> = TableDefinition::new("my_files.v1");
/// Settings that the node remembers for itself.
pub(super) const SETTINGS: Rows<&[u8]> = TableDefinition::new("settings.v1");

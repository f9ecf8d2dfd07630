//! Store: the adapter of redb, and the slot files beside it.
//!
//! `Store` is the chain's file: blocks, state, index, and the node key with its safety record; one thread
//! writes it, in batches that are one durable commit each. `Local` is the node's own file: which slots it holds,
//! what is being put and which files are the owner's; any task writes it, in groups. `Slots` keeps the bytes of
//! slots as plain files. What is acknowledged is durable.
//! Not here: what the bytes mean (`wire`, `ledger`), when they are written (`node`).

pub mod batch;
mod blocks;
pub mod claims;
mod copy;
pub mod db;
pub mod error;
pub mod join;
mod keys;
pub mod local;
pub mod migrate;
mod place;
pub mod reader;
mod room;
mod row;
pub mod signer;
pub mod slot_file;
pub mod slots;
pub mod tables;
pub mod tree;
mod uncommitted;
pub mod upload;

pub use batch::{Batch, FinalBlock, IndexedTx, StateChanges};
pub use claims::Claim;
pub use db::{Identity, Options, Store};
pub use error::{SlotError, SlotRefusal, StoreError};
pub use join::Joining;
pub use local::Local;
pub use reader::{AccountTx, Reader, Snapshot, SyncBlock, Tip, TxPlace};
pub use room::UploadId;
pub use row::KeyValue;
pub use signer::{KeyOrigin, Quarantine, Signer};
pub use slot_file::Slot;
pub use slots::{SlotSettings, SlotUse, Slots};
pub use upload::Upload;

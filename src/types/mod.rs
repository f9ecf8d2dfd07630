//! Types: what the words of trullo mean, one type for each meaning, and every limit.
//!
//! Pure, and below everything else: no other module of the crate is named here.
//! Not here: how values are hashed and signed (`crypto`), how they look as bytes on the wire (`wire`).

pub mod amount;
pub mod chain;
pub mod ids;
pub mod limits;
pub mod roles;
pub mod time;

pub use amount::{Amount, ByteCount};
pub use chain::{Epoch, Height, Round, View};
pub use ids::{AccountId, BlockHash, ChainId, FileId, NodeId, SlotRoot, StateRoot, TxId};
pub use roles::{Role, Roles};
pub use time::Millis;

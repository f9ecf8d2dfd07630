//! Node: the shell, the only place where logic meets IO.
//!
//! Promises: what is sent is covered by what is on disk; finality is read from the store; a stop is clean within seconds.
//! Not here: rules (`consensus`, `ledger`, `files`), bytes on disk (`store`) and on the network (`net`).

pub mod access;
pub mod accuse;
mod acting;
mod admission;
pub mod app;
pub mod backup;
pub mod beacon;
pub mod bundle;
pub mod chain;
mod chain_levels;
pub mod clock;
mod control;
pub mod disk;
pub mod files;
pub mod gossip;
pub mod handle;
pub mod home;
pub mod keeper;
pub mod light;
pub mod links;
pub mod measured;
pub mod metrics;
pub mod partition;
pub mod signing;
pub mod slots;
pub mod snapshot;
mod standing;
pub mod start;
#[cfg(test)]
mod testing;
pub mod tree;
pub mod users;
pub mod validator;

pub use handle::{Handle, NodeError};
pub use start::{Node, NodeFailure, Start, start};

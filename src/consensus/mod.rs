//! Consensus: which block is next. HotStuff-2 with timeout certificates, as a state machine.
//!
//! Pure: events in, actions out; no clock, disk, network, key or randomness.
//! Invariant: whatever is sent is covered by a `Persist` that stands before it.
//! Not here: what a block does (`ledger`), signing and sending (`node`).

mod absorb;
mod blocks;
pub mod context;
pub mod event;
mod fetch;
pub mod leader;
pub mod own;
mod pacemaker;
pub mod planted;
pub mod record;
pub mod replica;
pub mod safety;
mod speak;
pub mod verify;
mod votes;

pub use crate::wire::evidence;
pub use context::{Config, EpochContext, Resume, Status};
pub use event::{Action, Event, Timer, To, Verdict};
pub use own::Watermarks;
pub use record::SafetyRecord;
pub use replica::Replica;
#[cfg(test)]
mod tests;

pub use verify::{Verifier, VerifyError};

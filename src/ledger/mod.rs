//! Ledger: what one transaction does to the chain state.
//!
//! Pure: no clock, disk, network or randomness. Same input, same bytes, on every machine: no float, no hash order.
//! Invariant: balances and escrows add up to the minted supply, after every `apply`.
//!
//! The state is a map from `Key` to `Record`. A block is executed by an `Executor` on what a `Reads` hands in; out come
//! `BlockEffects`: the changed records, a receipt for each transaction, and the roots over both lists. `tree` turns the
//! changes into the state root and proves single records.
//!
//! Three ways of saying no, never mixed:
//! - `wire::Malformed`: no state could make the transaction good. `NotNext`: it is not the sender's next one. Neither can
//!   be in a valid block (`Fault`), so an id is on the chain at most once and nobody can replay.
//! - `Reject`: it had its turn and is not allowed. It is in the block, uses up its nonce and changes nothing else; the
//!   receipt says why.
//! - the caller's own error type: this node could not read its state. Never part of consensus.
//!
//! Not here: the order of blocks (`consensus`), writing effects down (`store`).

// Core of consensus: what could panic or wrap is spelled out. The assertions that remain are on own invariants.
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::panic))]

pub mod apply;
mod audit;
pub mod beacon;
pub mod block;
mod deal;
mod draft;
mod due;
pub mod effects;
mod fork;
pub mod genesis;
mod holding;
pub mod key;
mod memory;
mod node;
mod offence;
mod payment;
pub mod pieces;
pub mod promise;
pub mod protocol;
pub mod record;
pub mod reject;
mod root;
mod share;
mod slot;
mod soundness;
pub mod stake;
pub mod state;
pub mod tally;
mod transfer;
pub mod tree;
pub mod turnover;
mod validator;

pub use apply::{admit, apply, needs, slots_moved};
pub use block::{BlockContext, BlockEffects, ExecuteError, Executor, Fault, Reads, execute_block};
pub use effects::{Effects, Event, Outcome, Receipt};
pub use fork::{Executed, Fork};
pub use genesis::{Genesis, GenesisError};
pub use key::Key;
pub use memory::MemoryState;
pub use record::Record;
pub use reject::{NotNext, Reject};
pub use slot::{is_long_since, is_relief, is_spread, share_of_node, share_of_operator};
pub use soundness::Unsound;
pub use state::State;
pub use tally::Tally;
pub use tree::{StateProof, TreeUpdate};
pub use validator::is_ready;

#[cfg(test)]
mod attack_tests;
#[cfg(test)]
mod offence_tests;
#[cfg(test)]
mod promise_tests;
#[cfg(test)]
mod property_tests;
#[cfg(test)]
mod repair_tests;
#[cfg(test)]
mod root_tests;
#[cfg(test)]
mod rule_tests;
#[cfg(test)]
mod share_tests;
#[cfg(test)]
mod stake_tests;
#[cfg(test)]
pub(crate) mod testing;

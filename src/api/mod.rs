//! Api: the node's own HTTP interface, for the person or program that the node belongs to.
//!
//! On loopback unless told otherwise. Every route but health and status wants the bearer token of the home; Host and Origin
//! are checked, so that a web page in the owner's browser gets nowhere. Errors are problem JSON (RFC 9457).
//! Not here: what is done (`node`), what the answers look like (`views`).

pub mod access;
pub mod actions;
mod auth;
pub mod bundle;
mod chain;
pub(crate) mod connections;
mod files;
mod fill;
pub(crate) mod linger;
pub mod measured;
mod problem;
pub mod range;
pub mod server;
pub mod snapshots;
pub mod storage;
mod tables;
pub mod terms;
mod tree;
pub mod tree_views;
pub mod uploads;
pub mod views;

pub use problem::Problem;
pub use server::{ApiServer, serve};

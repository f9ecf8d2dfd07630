//! Api: the node's own HTTP interface, for the person or program that the node belongs to.
//!
//! On loopback unless told otherwise. Every route but health and status wants a bearer token: the home's own, or a login of one of
//! the node's users, which acts for that user's account (`caller`). Host and Origin are checked, so that a web page in somebody's
//! browser gets nowhere. Errors are problem JSON (RFC 9457). The routes are listed in `server`, with their documentation.
//! Not here: what is done (`node`), what the answers look like (`views`).

pub mod access;
mod accounts;
pub mod actions;
mod auth;
pub mod bundle;
pub mod caller;
mod chain;
pub(crate) mod connections;
mod download;
pub mod evidence;
pub mod files;
mod fill;
pub mod light;
pub(crate) mod linger;
pub mod measured;
pub mod network;
pub mod openapi;
mod page;
mod paging;
mod problem;
pub mod range;
mod rates;
pub mod server;
pub mod sharing;
pub mod sign_in;
pub mod signing;
pub mod snapshots;
pub mod stats;
pub mod storage;
mod tables;
pub mod terms;
pub mod tokens;
mod tree;
pub mod tree_views;
pub mod uploads;
pub mod validator;
pub mod views;
mod whole;

pub use problem::Problem;
pub use server::{ApiServer, serve};

//! trullo: one node program for people who share machines without trusting one another.
//!
//! ```text
//!  main  cli  api  s3  explorer  sim    faces: read through store::Reader, act through node::Handle
//!             node                      the shell: the only place where logic meets IO
//!  store      net      compute          adapters of redb, libp2p, wasmtime; none knows node
//!  ═════════════════ pure from here down: no tokio, fs, net, clock, OS randomness ═══════════
//!  consensus  ledger  mempool  files  learning  messaging
//!             wire                      canonical bytes
//!             crypto
//!             types                     with all limits
//! ```
//! Imports go downwards only; neighbours in a row never import each other. `tests/tidy.rs` checks it.

pub mod api;
pub mod cli;
pub mod config;
pub mod consensus;
pub mod crypto;
pub mod explorer;
pub mod files;
pub mod ledger;
pub mod mempool;
pub mod net;
pub mod node;
pub mod s3;
pub mod sim;
pub mod store;
pub mod types;
pub mod wire;

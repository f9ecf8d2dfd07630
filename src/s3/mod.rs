//! S3: the account's folders as buckets, for programs that speak that protocol.
//!
//! The crate `s3s` reads requests, checks signatures and writes answers; what they mean is here: a bucket is a folder, an object
//! a path below it, an upload in parts a folder beside the buckets. An answer that says that something is stored comes when it
//! is final on the ledger and in the tree.
//! Not here: folders and contents (`node::tree`), access keys (`node::access`).

mod asked;
mod bucket;
mod conditions;
mod cut;
mod details;
mod digest;
mod errors;
mod gateway;
mod host;
mod late;
mod listing;
mod meta;
mod objects;
mod offered;
mod server;
mod signed;
mod turns;
mod uploads;

pub use server::{S3Server, ServeError, serve};

//! Crypto: hashes with domains, signatures, sealing, Merkle roots, keys.
//!
//! Pure: randomness is an argument. Every hash and every signature names its domain, so that no byte
//! string made for one purpose is valid for another.
//! Not here: what is signed (`wire`), who may sign what (`ledger`, `consensus`).

pub mod hash;
pub mod keys;
pub mod merkle;
pub mod phrase;
pub mod seal;
pub mod share;
pub mod sign;

pub use hash::{Domain, hash};
pub use sign::{Batch, PublicKey, SecretKey, Signature};

//! Slots between nodes: the protocol on a byte stream, the side that serves, and the side that asks.

pub mod client;
pub mod protocol;
pub mod serve;
pub mod ticket;

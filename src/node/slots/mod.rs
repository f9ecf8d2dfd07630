//! Slots between nodes: the protocol on a byte stream, the side that serves, the side that asks, and letting go.

pub mod client;
pub mod damage;
pub mod protocol;
pub mod release;
pub mod serve;
pub mod ticket;

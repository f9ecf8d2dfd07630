//! Net: the adapter of libp2p.
//!
//! Promises: every peer is authenticated, and follows this chain before anything is taken from it; every queue is
//! bounded; what one peer costs, in memory or in turns, is bounded too; links that are cut are really cut.
//! Sending promises nothing: whoever needs an effect asks for it, or repeats.
//! Not here: what messages mean (`consensus`, `node`), how they look (`wire`).

mod address;
mod behaviour;
mod book;
mod config;
mod consensus;
mod driver;
mod events;
mod fair;
mod frame;
mod gossip;
mod handle;
mod metrics;
mod rates;
mod request;
mod score;
mod start;
mod stream;
#[cfg(test)]
mod tests;

pub use address::{Address, AddressError, PeerAddress};
pub use book::PeerInfo;
pub use config::{NetConfig, NetError, NetLimits};
pub use consensus::{ConsensusFeed, ConsensusInbox};
pub use gossip::{GossipId, GossipInbox, GossipMessage, Verdict};
pub use handle::{NetHandle, SendError};
pub use metrics::{Direction, Metrics, Queue, Traffic};
pub use rates::{Kind, Standing};
pub use request::{InboundRequest, Method, RequestError, RequestInbox};
pub use score::Misbehaviour;
pub use start::{Inboxes, start};
pub use stream::{ByteStream, StreamError, StreamInbox};

//! Light: the chain without its blocks, for who keeps none and for who begins late.
//!
//! Promises: what is answered was proven under a header that the validators certified, from a genesis or a checkpoint on.
//! What a peer says is never believed: an answer that does not verify names the peer. Memory is bounded by the answers' limits.
//! Not here: executing blocks (`node::chain`), the pieces of a snapshot (`node::snapshot`).

pub mod follow;
pub mod node;
pub mod peers;
pub mod question;
pub mod trust;

pub use follow::{Conflict, Fault, Follower};
pub use node::{Light, LightError, LightStatus, PeerState, Proven};
pub use question::{Answerer, Head, Question};
pub use trust::{Anchor, Checkpoint, SetChange, Trusted};

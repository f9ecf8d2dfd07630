//! The consensus benchmark's parts: the work, and each engine at it.

pub mod hotstuff;
pub mod trullo;
pub mod work;

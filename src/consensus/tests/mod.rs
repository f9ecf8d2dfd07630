//! Tests of the core: one replica fed by hand (`rules`), and four of them on a lock-step network (`network`).

mod faults;
pub mod harness;
mod network;
mod rules;
mod script;

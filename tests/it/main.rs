//! Integration tests: whole nodes with real databases and real connections.

mod accounts;
mod bad_input;
mod cluster;
mod nodes;
mod processes;

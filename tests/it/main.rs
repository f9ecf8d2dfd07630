//! Integration tests: whole nodes with real databases and real connections.

mod accounts;
mod acting;
mod attacks;
mod bad_input;
mod cluster;
mod command_line;
mod deals;
mod folders;
mod foreign;
mod full_disk;
mod hostile;
mod keepers;
mod nodes;
mod page;
mod processes;
mod promise;
mod quorum;
mod s3;
mod sharing;
mod thieves;
mod thresholds;
mod tree;
mod uploads;
mod users;
mod validators;

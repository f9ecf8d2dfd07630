//! Files from the owner's side: put, get, remove.

pub mod access;
pub mod counts;
pub(super) mod fetch;
mod gather;
pub mod get;
pub(super) mod late;
pub mod put;
mod session;
pub(super) mod spool;
pub(super) mod upload;
pub mod verify;
pub mod watch;

use std::time::Duration;

use super::handle::{FinalTx, Handle, NodeError};
use crate::types::FileId;
use crate::wire::Action;

/// Ends a file's deal. Errors: those of `Handle::act`.
pub async fn remove(handle: &Handle, file: FileId, within: Duration) -> Result<FinalTx, NodeError> {
    handle.act(Action::DeleteFile { file }, within).await
}

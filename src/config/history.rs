//! History: what a node keeps of the chain, and how a new one gets it.

use super::raw::RawConfig;
use super::{Check, ConfigError};
use crate::types::limits;

/// What a node keeps of the chain, and how it gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// Bodies of blocks that it keeps; all if none.
    pub keep_blocks: Option<u64>,
    /// Whether it keeps snapshots of the state for others.
    pub snapshots: bool,
    /// Whether a new home gets the state by a snapshot, not by all blocks.
    pub by_snapshot: bool,
    /// A checkpoint for that as it is written, `HEIGHT:HASH`. For `node` to parse.
    pub trust: Option<String>,
}

impl Check<'_> {
    pub(super) fn history(&self, raw: &RawConfig) -> Result<History, ConfigError> {
        let keep_blocks = match raw.node.keep_blocks {
            0 => None,
            blocks => Some(self.within("node.keep_blocks", blocks, limits::KEEP_BLOCKS_MIN..=u64::MAX)?),
        };
        let by_snapshot = match raw.sync.mode.as_str() {
            "replay" => false,
            "snapshot" => true,
            other => return self.wrong("sync.mode", format!("{other:?} is neither replay nor snapshot")),
        };
        Ok(History { keep_blocks, snapshots: raw.node.snapshots, by_snapshot, trust: raw.sync.trust.clone() })
    }
}

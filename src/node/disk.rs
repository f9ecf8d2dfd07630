//! Disk: how much is free where the node's databases are, and the pause while it is too little.
//!
//! A node that pauses takes in nothing new, neither blocks nor votes nor transactions, and goes on answering from what
//! it has. It stops before the last byte is used, so that it can still be opened, read and pruned.

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::chain::Input;
use crate::types::ByteCount;

/// How often the disk is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// The disk has less free than it is to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Low {
    /// Bytes free.
    pub free: ByteCount,
    /// Bytes that must be free for the node to go on.
    pub need: ByteCount,
}

impl std::fmt::Display for Low {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the disk has {} bytes free and the node goes on with {} (node.disk_reserve)", self.free, self.need)
    }
}

/// Whether the node pauses, by what is free. It goes on only with an eighth more than made it pause, so that it does not
/// do both in turns.
fn judge(free: u64, reserve: u64, paused: bool) -> Option<Low> {
    let need = if paused { reserve.saturating_add(reserve / 8) } else { reserve };
    (free < need).then(|| Low { free: ByteCount::new(free), need: ByteCount::new(need) })
}

/// Looks at the disk of a directory until the node stops, and tells the chain of each change.
pub(super) async fn watch(
    home: PathBuf,
    reserve: u64,
    low: watch::Sender<Option<Low>>,
    chain: mpsc::Sender<Input>,
    stop: CancellationToken,
) {
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while stop.run_until_cancelled(looks.tick()).await.is_some() {
        let dir = home.clone();
        let looked = tokio::task::spawn_blocking(move || rustix::fs::statvfs(&dir)).await;
        // What cannot be looked at fails where it is used.
        let Ok(Ok(disk)) = looked else { continue };
        let paused = low.borrow().is_some();
        let now = judge(disk.f_bavail.saturating_mul(disk.f_frsize), reserve, paused);
        match now {
            Some(low) if !paused => tracing::warn!(%low, "the node pauses; free space and it goes on"),
            None if paused => tracing::info!("there is space again; the node goes on"),
            _ => {}
        }
        low.send_replace(now);
        if now.is_some() != paused && chain.send(Input::Pause(now.is_some())).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_pauses_below_the_reserve_and_goes_on_clearly_above_it() {
        assert_eq!(judge(800, 800, false), None);
        let low = judge(799, 800, false).expect("less than the reserve");
        assert_eq!((low.free.get(), low.need.get()), (799, 800));
        assert_eq!(judge(899, 800, true).map(|low| low.need.get()), Some(900));
        assert_eq!(judge(900, 800, true), None);
        assert_eq!(judge(0, 0, false), None, "without a reserve it never pauses");
        assert_eq!(judge(0, 0, true), None);
    }
}

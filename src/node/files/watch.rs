//! Watch: what becomes of this account's files after they were put. Says when a deal ends soon, and counts deals that become
//! final later.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::ledger::record::{Deal, DealStatus};
use crate::ledger::{Key, Record};
use crate::node::handle::{Handle, NodeError};
use crate::node::tree::renew;
use crate::types::{FileId, Height, Millis};

/// Files looked at in one go.
const PAGE: usize = 1_024;
/// Looking through all files may take one part in so many of the time.
const LOOK_SHARE: u32 = 20;

/// Whether a deal that is open ends so soon that its owner should know: in the last tenth of its time, or so many epochs
/// before its end.
pub fn ends_soon(deal: &Deal, at: Height, epoch_blocks: u64, warn_epochs: Option<u64>) -> bool {
    let left = deal.ends.get().saturating_sub(at.get());
    let warn = match warn_epochs {
        Some(epochs) => epochs.saturating_mul(epoch_blocks),
        None => deal.ends.get().saturating_sub(deal.opened.get()) / 10,
    };
    deal.status.is_open() && warn > 0 && left <= warn
}

/// Whole epochs until a deal ends, 1 in the last; 0 for one that has ended. A deal is there for the answers to its last audit, so
/// it ends up to an epoch later than its epochs alone would have it.
pub fn epochs_left(deal: &Deal, at: Height, epoch_blocks: u64) -> u64 {
    let left = deal.ends.get().saturating_sub(at.get()) / epoch_blocks.max(1);
    if deal.status.is_open() { left.max(1) } else { 0 }
}

impl Handle {
    /// See `ends_soon`, by this node's settings and its last final block.
    pub fn ends_soon(&self, deal: &Deal) -> bool {
        ends_soon(deal, self.tip_height(), self.genesis().epoch_blocks, self.config().files.warn_epochs)
    }
    /// See `epochs_left`.
    pub fn epochs_left(&self, deal: &Deal) -> u64 {
        epochs_left(deal, self.tip_height(), self.genesis().epoch_blocks)
    }
    fn tip_height(&self) -> Height {
        self.reader().tip().map_or(Height::GENESIS, |tip| tip.height)
    }

    /// Calls back for each file of this node's account whose deal is listed: all but those that their owner deleted.
    /// Errors: `NotAllowed` when this node has no account, `Store`, those of the callback.
    pub fn each_own_file(&self, mut with: impl FnMut(FileId, Deal) -> Result<(), NodeError>) -> Result<(), NodeError> {
        let (owner, snapshot) = (self.keys()?.account_id(), self.snapshot()?);
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = snapshot.state_scan(&Key::files_of(&owner), after.as_deref(), PAGE)?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some(last.clone());
            for (key, _) in page {
                let Some(Key::OwnerFile(_, file)) = Key::from_bytes(&key) else { continue };
                if let Some(Record::File(deal)) = crate::node::app::read_record(&snapshot, &Key::File(file))? {
                    with(file, *deal)?;
                }
            }
        }
    }
}

/// Watches until the node stops.
pub async fn run(handle: Handle) {
    let mut tips = handle.reader().watch();
    let mut watch = Watch::default();
    loop {
        let (handle_, mut watched) = (handle.clone(), std::mem::take(&mut watch));
        let looked = tokio::task::spawn_blocking(move || {
            let looked = watched.look(&handle_);
            (watched, looked)
        });
        let Ok((watched, looked)) = looked.await else { return };
        watch = watched;
        if let Err(error) = looked {
            tracing::warn!(%error, "this account's files could not be looked through");
        }
        tokio::select! {
            changed = tips.changed() => if changed.is_err() { return },
            () = handle.stop_token().cancelled() => return,
        }
    }
}

#[derive(Default)]
struct Watch {
    /// The epoch of the last look through all files.
    epoch: Option<u64>,
    /// Not before this is all looked through again: who has very many files must not do it all the time.
    next: Option<Instant>,
    /// Files whose end was told of.
    told: BTreeSet<FileId>,
    /// Deals that had settled at the last look, and own files that were pending: one of these may have settled before it was
    /// noted here.
    settled: (u64, usize),
}

impl Watch {
    fn look(&mut self, handle: &Handle) -> Result<(), NodeError> {
        let height = handle.tip_height();
        let epoch = height.get().saturating_sub(1) / handle.genesis().epoch_blocks.max(1);
        let first = self.epoch.is_none();
        let begun = Instant::now();
        if self.epoch != Some(epoch) && self.next.is_none_or(|next| begun >= next) {
            self.look_through(handle, first)?;
            self.epoch = Some(epoch);
            self.next = Some(begun + begun.elapsed().saturating_mul(LOOK_SHARE));
        }
        let Some(Record::Tally(tally)) = handle.record(&Key::Tally)? else { return Ok(()) };
        let settled = tally.reached + tally.expired + tally.withdrawn;
        let pending = handle.metrics().puts.pending_files();
        let now = (settled, pending.len());
        if !pending.is_empty() && self.settled != now {
            follow_pending(handle, pending)?;
        }
        self.settled = now;
        Ok(())
    }

    /// Looks at all files of the account.
    fn look_through(&mut self, handle: &Handle, first: bool) -> Result<(), NodeError> {
        let counts = &handle.metrics().puts;
        let (mut ending, mut pages) = (BTreeSet::new(), Vec::new());
        let snapshot = handle.snapshot()?;
        handle.each_own_file(|file, deal| {
            if first && matches!(deal.status, DealStatus::Pending { .. }) {
                // Put before this node was started again.
                let opened = snapshot.header(deal.opened)?;
                counts.pends(file, opened.map_or(handle.clock().now(), |header| header.time));
            }
            if handle.ends_soon(&deal) && renew::is_page(handle, &file) {
                pages.push(file);
            } else if handle.ends_soon(&deal) {
                ending.insert(file);
                if !self.told.contains(&file) {
                    let epochs = handle.epochs_left(&deal);
                    tracing::warn!(%file, ends = deal.ends.get(), epochs, "a file's deal ends soon; `trullo renew` keeps it");
                }
            }
            Ok(())
        })?;
        counts.ending.set(i64::try_from(ending.len()).unwrap_or(i64::MAX));
        self.told = ending;
        if !pages.is_empty() {
            renew::keep_pages(handle, pages);
        }
        Ok(())
    }
}

/// Counts pending files that became final.
fn follow_pending(handle: &Handle, pending: Vec<(FileId, Millis)>) -> Result<(), NodeError> {
    let counts = &handle.metrics().puts;
    for (file, since) in pending {
        match handle.record(&Key::File(file))? {
            Some(Record::File(deal)) => match deal.status {
                DealStatus::Pending { .. } => {}
                DealStatus::Final { .. } => {
                    counts.settled(&file);
                    counts.completed.inc();
                    let after = handle.clock().now().saturating_sub(since).get();
                    counts.reached(Duration::from_millis(after));
                }
                _ => counts.settled(&file),
            },
            _ => counts.settled(&file),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::record::{SlotSet, SlotState};
    use crate::types::{AccountId, Amount, NodeId};

    fn deal(opened: u64, ends: u64) -> Deal {
        Deal {
            owner: AccountId::from_bytes([0; 32]),
            placement: vec![NodeId::from_bytes([1; 32])],
            slots: vec![SlotState::default()],
            slot_len: 1,
            data: 1,
            min_confirmations: 1,
            repair_threshold: 2,
            confirmed: SlotSet::default(),
            lost: SlotSet::default(),
            taken: 0,
            repairing: false,
            price: 1,
            escrow: Amount::ZERO,
            paid: Amount::ZERO,
            ends: Height::new(ends),
            opened: Height::new(opened),
            status: DealStatus::Final { since: Height::new(opened) },
        }
    }

    #[test]
    fn a_deal_ends_soon_in_its_last_tenth_or_by_the_epochs_that_are_set() {
        let deal = deal(100, 1_100);
        let soon = |at, epochs| ends_soon(&deal, Height::new(at), 10, epochs);
        assert!(!soon(999, None) && soon(1_000, None) && soon(1_099, None));
        assert!(!soon(1_069, Some(3)) && soon(1_070, Some(3)));
        assert!(!soon(1_099, Some(0)), "0 is for never");
        let ended = Deal { status: DealStatus::Ended { at: Height::new(1_100) }, ..deal.clone() };
        assert!(!ends_soon(&ended, Height::new(1_100), 10, None));
    }

    #[test]
    fn whole_epochs_are_left_and_one_until_the_end() {
        let left = |at| epochs_left(&deal(1, 101), Height::new(at), 20);
        assert_eq!([left(1), left(2), left(81), left(100), left(101)], [5, 4, 1, 1, 1]);
        let ended = Deal { status: DealStatus::Ended { at: Height::new(101) }, ..deal(1, 101) };
        assert_eq!(epochs_left(&ended, Height::new(101), 20), 0);
    }
}

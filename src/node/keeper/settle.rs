//! Settle: asks the ledger to pay for the deals that this node has a slot of, each once in so many epochs. One node asks for
//! all of a deal's; another one the next time.

use std::collections::VecDeque;
use std::time::Duration;

use super::{CLAIMS, Keeper, blocking};
use crate::ledger::record::Deal;
use crate::ledger::{Key, Record};
use crate::node::handle::NodeError;
use crate::types::{Epoch, FileId, NodeId};
use crate::wire::Action;

/// Settlements that wait for their block at the same time.
const AT_ONCE: usize = 4;
/// Deals that one epoch settles at the most; the others have their turn another time, or when they end.
const FILES_MAX: usize = 16_384;
/// How long to wait until one is final.
const WITHIN: Duration = Duration::from_secs(60);

/// Settles until the node stops.
pub async fn run(keeper: Keeper) {
    let Some(every) = keeper.handle.config().storage.settle_epochs else { return };
    if !keeper.has_voice() {
        return;
    }
    let mut tips = keeper.tips();
    let mut waiting = VecDeque::new();
    let mut last = None;
    let epoch_blocks = keeper.handle.genesis().epoch_blocks.max(1);
    while let Some(height) = tips.next().await {
        let epoch = Epoch::new(height.get().saturating_sub(1) / epoch_blocks);
        if keeper.is_behind() {
            continue;
        }
        if last.is_some_and(|last| last < epoch) {
            let reader = keeper.clone();
            match blocking(move || due(&reader, epoch, every)).await {
                Ok(files) => waiting = files,
                Err(error) => tracing::warn!(%error, "deals to settle could not be looked for"),
            }
        }
        last = Some(epoch);
        let some = waiting.drain(..waiting.len().min(AT_ONCE));
        let asked = some.map(|file| keeper.handle.act(Action::SettleFile { file }, WITHIN));
        for asked in futures::future::join_all(asked).await {
            match asked {
                Ok(_) | Err(NodeError::Rejected { .. }) => {}
                Err(NodeError::Stopping) => return,
                Err(error) => tracing::info!(%error, "a deal was not settled"),
            }
        }
    }
}

/// Deals that this node settles in the epoch. Blocks on the disk.
fn due(keeper: &Keeper, epoch: Epoch, every: u64) -> Result<VecDeque<FileId>, NodeError> {
    let mut due = VecDeque::new();
    let Some(entry) = keeper.entry()? else { return Ok(due) };
    let mut after = None;
    while due.len() < FILES_MAX {
        let page = keeper.slots.claims(after.as_ref(), CLAIMS)?;
        let Some(last) = page.last() else { break };
        after = Some(*last);
        for (file, slot, _) in page.into_iter().filter(|(file, _, _)| in_turn(file, epoch, every)) {
            let Some(Record::File(deal)) = keeper.handle.record(&Key::File(file))? else { continue };
            let earned = deal.slots.get(usize::from(slot)).is_some_and(|state| state.passed < entry.audit.passed);
            if earned && asks(&deal, slot, &keeper.me(), epoch, every) {
                due.push_back(file);
            }
        }
    }
    Ok(due)
}

/// Whether it is the file's epoch: its id spreads the files over all of them.
fn in_turn(file: &FileId, epoch: Epoch, every: u64) -> bool {
    let id = u64::from_le_bytes(*file.as_bytes().first_chunk().expect("an id has 32 bytes"));
    id.checked_rem(every) == epoch.get().checked_rem(every)
}

/// Whether the holder of this slot is the one that asks this time.
fn asks(deal: &Deal, slot: u8, me: &NodeId, epoch: Epoch, every: u64) -> bool {
    let mut held: Vec<u8> = deal.confirmed.iter().collect();
    held.retain(|slot| !deal.lost.has(*slot));
    let time = epoch.get().checked_div(every).unwrap_or(0);
    let chosen = time.checked_rem(held.len() as u64).and_then(|turn| held.get(usize::try_from(turn).ok()?));
    deal.status.is_open() && chosen == Some(&slot) && deal.placement.get(usize::from(slot)) == Some(me)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::record::{DealStatus, SlotSet, SlotState};
    use crate::types::{AccountId, Amount, Height};

    const EVERY: u64 = 10;

    #[test]
    fn each_file_has_one_turn_in_a_period_and_another_node_asks_each_time() {
        let file = FileId::from_bytes([23; 32]);
        let turns: Vec<u64> = (0..40).filter(|epoch| in_turn(&file, Epoch::new(*epoch), EVERY)).collect();
        assert_eq!(turns.len(), 4);
        let node = |n| NodeId::from_bytes([n; 32]);
        let mut confirmed = SlotSet::default();
        for slot in [0, 2, 3] {
            confirmed.insert(slot);
        }
        let mut deal = Deal {
            owner: AccountId::from_bytes([0; 32]),
            placement: (0..4).map(node).collect(),
            slots: vec![SlotState::default(); 4],
            slot_len: 1,
            data: 2,
            min_confirmations: 2,
            repair_threshold: 2,
            confirmed,
            lost: SlotSet::default(),
            taken: 0,
            repairing: false,
            price: 1,
            escrow: Amount::ZERO,
            paid: Amount::ZERO,
            ends: Height::new(9),
            opened: Height::new(1),
            status: DealStatus::Final { since: Height::new(1) },
        };
        let who = |deal: &Deal, epoch| {
            let asks = |slot: &u8| asks(deal, *slot, &node(*slot), Epoch::new(epoch), EVERY);
            (0..4).filter(asks).collect::<Vec<u8>>()
        };
        let asked: Vec<_> = turns.iter().map(|epoch| who(&deal, *epoch)).collect();
        assert_eq!(asked, [[0], [2], [3], [0]]);
        deal.status = DealStatus::Ended { at: Height::new(9) };
        assert!(who(&deal, turns[0]).is_empty());
    }
}

//! Scrub: reads every slot in full once in a while, slowly, so that rot is found before the slot is needed.
//!
//! Where a round stands is remembered, so that a node that is restarted often gets through all the same.

use borsh::{BorshDeserialize, BorshSerialize};

use super::pace::Pace;
use super::{Keeper, blocking};
use crate::files::proof::Grain;
use crate::node::handle::NodeError;
use crate::node::slots::damage;
use crate::store::SlotError;
use crate::types::{Millis, SlotRoot};
use crate::wire;

/// The setting that remembers.
const SETTING: &str = "scrub";
/// Slots between two writes of it.
const REMEMBER: usize = 64;

/// Where scrubbing stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
struct Round {
    /// When the round began.
    begun: Millis,
    /// Slots up to this one are done; all of them if there is none.
    done: Option<[u8; 32]>,
    /// Whether the round is under way.
    open: bool,
}

impl Round {
    /// The round that is due at `now`, or how long it takes until one is. A node that never scrubbed has new slots only.
    fn due(known: Option<Self>, now: Millis, every: Millis) -> Result<Self, (Self, Millis)> {
        match known {
            Some(round) if round.open => Ok(round),
            // A clock that was set back must not stop it for long.
            Some(round) if now >= round.begun.saturating_add(every) || round.begun > now => {
                Ok(Self { begun: now, done: None, open: true })
            }
            Some(round) => Err((round, round.begun.saturating_add(every).saturating_sub(now))),
            None => Err((Self { begun: now, done: None, open: false }, every)),
        }
    }
}

/// Scrubs until the node stops.
pub async fn run(keeper: Keeper) {
    if let Err(error) = already_damaged(&keeper).await {
        tracing::warn!(%error, "slots that are set aside could not be listed");
    }
    let storage = keeper.handle.config().storage;
    let Some(every) = storage.scrub_every else { return };
    let pace = Pace::new(storage.scrub_rate);
    loop {
        let now = keeper.handle.clock().now();
        let wait = match Round::due(remembered(&keeper), now, every) {
            Ok(round) => {
                let scrubbed = tokio::select! {
                    scrubbed = scrub(&keeper, round, &pace) => scrubbed,
                    () = keeper.handle.stop_token().cancelled() => return,
                };
                if let Err(error) = scrubbed {
                    tracing::warn!(%error, "scrubbing broke off; it is tried again");
                }
                every.min(Millis::new(60_000))
            }
            Err((round, wait)) => {
                remember(&keeper, round).await;
                wait
            }
        };
        tokio::select! {
            () = tokio::time::sleep(std::time::Duration::from_millis(wait.get())) => {}
            () = keeper.handle.stop_token().cancelled() => return,
        }
    }
}

/// What was found before the last restart still waits for repair.
async fn already_damaged(keeper: &Keeper) -> Result<(), NodeError> {
    let reader = keeper.clone();
    let slots = blocking(move || {
        let roots = reader.slots.missing()?;
        let damaged = reader.slots.damaged()?;
        let known = if damaged.is_empty() {
            Vec::new()
        } else {
            damage::claims_of(&reader.slots, &damaged.into_iter().collect())?
        };
        for root in roots {
            damage::set_aside(&reader.handle, &reader.slots, &root, &"its file is missing or has another length");
        }
        Ok::<_, crate::store::StoreError>(known)
    });
    keeper.lacking().add(slots.await?);
    Ok(())
}

fn remembered(keeper: &Keeper) -> Option<Round> {
    let bytes = keeper.handle.local().setting(SETTING).ok()??;
    wire::decode(&bytes, bytes.len()).ok()
}

async fn remember(keeper: &Keeper, round: Round) {
    let local = keeper.handle.local().clone();
    if let Err(error) = blocking(move || local.put_setting(SETTING, &wire::encode(&round))).await {
        tracing::warn!(%error, "how far scrubbing got is not remembered");
    }
}

async fn scrub(keeper: &Keeper, mut round: Round, pace: &Pace) -> Result<(), NodeError> {
    remember(keeper, round).await;
    let (mut slots, mut bytes, mut damaged) = (0_u64, 0_u64, 0_u64);
    loop {
        let (reader, after) = (keeper.slots.clone(), round.done.map(SlotRoot::from_bytes));
        let page = blocking(move || reader.list(after.as_ref(), REMEMBER)).await?;
        if page.is_empty() {
            break;
        }
        for (root, len) in page {
            round.done = Some(*root.as_bytes());
            slots += 1;
            match read_all(keeper, root, len, pace).await {
                Ok(read) => bytes += read,
                Err(NodeError::Slots(error)) if damage::is_damage(&error) => {
                    damaged += 1;
                    let keeper = keeper.clone();
                    blocking(move || {
                        damage::set_aside(&keeper.handle, &keeper.slots, &root, &error);
                        Ok::<_, SlotError>(())
                    })
                    .await?;
                }
                // It has gone since it was listed, or is set aside.
                Err(NodeError::Slots(SlotError::Refused(_))) => {}
                Err(error) => return Err(error),
            }
        }
        remember(keeper, round).await;
    }
    tracing::info!(slots, bytes, damaged, "all slots were read and checked");
    remember(keeper, Round { done: None, open: false, ..round }).await;
    Ok(())
}

/// Reads a slot block by block; each is checked against the root.
async fn read_all(keeper: &Keeper, root: SlotRoot, len: u64, pace: &Pace) -> Result<u64, NodeError> {
    let slots = keeper.slots.clone();
    let mut slot = blocking(move || slots.get(&root)).await?;
    for index in 0..Grain::Block.count(len) {
        let read;
        (slot, read) = blocking(move || slot.block(index).map(|bytes| (slot, bytes.len() as u64))).await?;
        keeper.counts().scrubbed_bytes.inc_by(read);
        pace.spend(read).await;
    }
    Ok(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn round(begun: u64, open: bool) -> Round {
        Round { begun: Millis::new(begun), done: None, open }
    }

    #[test]
    fn a_round_begins_when_the_last_one_is_old_enough_and_an_open_one_goes_on() {
        let (now, every) = (Millis::new(1_000), Millis::new(300));
        assert_eq!(Round::due(None, now, every), Err((round(1_000, false), every)), "a new node waits a whole period");
        assert_eq!(Round::due(Some(round(800, false)), now, every), Err((round(800, false), Millis::new(100))));
        assert_eq!(Round::due(Some(round(700, false)), now, every), Ok(round(1_000, true)));
        let halfway = Round { done: Some([7; 32]), ..round(10, true) };
        assert_eq!(Round::due(Some(halfway), now, every), Ok(halfway));
        assert_eq!(Round::due(Some(round(5_000, false)), now, every), Ok(round(1_000, true)), "the clock was set back");
    }

    #[test]
    fn what_is_remembered_reads_back() {
        let halfway = Round { done: Some([7; 32]), ..round(10, true) };
        let bytes = wire::encode(&halfway);
        assert_eq!(wire::decode::<Round>(&bytes, bytes.len()), Ok(halfway));
    }
}

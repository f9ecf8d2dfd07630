//! Prover: answers this node's audits. An answer that was lost, by a restart or on its way, is given again until the audit
//! is closed; the ledger takes one of them.

use std::time::Duration;

use super::{Keeper, blocking};
use crate::ledger::record::{Challenge, Sample};
use crate::ledger::{Key, Record};
use crate::node::handle::NodeError;
use crate::node::slots::damage;
use crate::store::{SlotError, SlotRefusal};
use crate::types::{Epoch, Height};
use crate::wire::Action;
use crate::wire::tx::SampleProof;

/// How long to wait for an answer to be final before it is looked at again.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// Answers to one audit that the ledger rejects before the node gives up: something is wrong that repeating does not mend.
const REJECTED_MAX: u32 = 3;

/// Answers audits until the node stops.
pub async fn run(keeper: Keeper) {
    let mut tips = keeper.tips();
    let mut docket = Docket::default();
    while let Some(height) = tips.next().await {
        if keeper.is_behind() {
            continue;
        }
        let challenge = match keeper.handle.record(&Key::Challenge(keeper.me())) {
            Ok(Some(Record::Challenge(challenge))) => Some(*challenge),
            Ok(_) => None,
            Err(error) => {
                tracing::warn!(%error, "this node's audit could not be read");
                continue;
            }
        };
        let seen = docket.see(challenge.as_ref(), height);
        if seen.missed {
            keeper.counts().proofs_missed.inc();
            tracing::error!("an audit of this node went by without an answer");
        }
        let Some(challenge) = challenge else { continue };
        if seen.new {
            keeper.counts().proofs_due.inc();
            keeper.counts().samples.inc_by(challenge.samples.len() as u64);
        }
        if !seen.answer {
            continue;
        }
        if !keeper.has_voice() {
            tracing::error!("an audit waits for an answer, and this node was started without its account");
            continue;
        }
        let epoch = challenge.epoch;
        match answer(&keeper, challenge).await {
            Ok(missing) => {
                docket.answered(epoch);
                keeper.counts().proofs_answered.inc();
                keeper.counts().samples_missing.inc_by(missing);
            }
            Err(NodeError::Stopping) => return,
            Err(error) => {
                docket.failed(epoch, matches!(error, NodeError::Rejected { .. }));
                tracing::warn!(epoch = epoch.get(), %error, "the answer to an audit did not go through");
            }
        }
    }
}

/// Sends the proofs. Returns how many samples have none.
async fn answer(keeper: &Keeper, challenge: Challenge) -> Result<u64, NodeError> {
    let (reader, epoch) = (keeper.clone(), challenge.epoch);
    let proofs = blocking(move || prove(&reader, &challenge)).await?;
    let missing = proofs.iter().filter(|proof| proof.is_none()).count() as u64;
    let action = Action::ProveStorage { node: keeper.me(), epoch, proofs };
    keeper.handle.act(action, ANSWER_WITHIN).await?;
    Ok(missing)
}

/// A proof for each sample that there is one for.
fn prove(keeper: &Keeper, challenge: &Challenge) -> Result<Vec<Option<SampleProof>>, NodeError> {
    challenge.samples.iter().map(|sample| prove_one(keeper, sample)).collect()
}

fn prove_one(keeper: &Keeper, sample: &Sample) -> Result<Option<SampleProof>, NodeError> {
    let manifest = match keeper.handle.record(&Key::Manifest(sample.slot.file))? {
        Some(Record::Manifest(manifest)) => manifest,
        // The deal has ended since; the ledger waives the sample.
        _ => return Ok(None),
    };
    let Some(info) = manifest.slots.get(usize::from(sample.slot.slot)) else { return Ok(None) };
    match keeper.slots.get(&info.root).and_then(|slot| slot.leaf(sample.leaf)) {
        Ok((bytes, path)) => Ok(Some(SampleProof { bytes, path })),
        Err(error) => {
            if damage::is_damage(&error) {
                damage::set_aside(&keeper.handle, &keeper.slots, &info.root, &error);
            } else if matches!(error, SlotError::Refused(SlotRefusal::Unknown(_))) {
                keeper.lacking().add([sample.slot]);
            }
            tracing::error!(file = %sample.slot.file, slot = sample.slot.slot, %error, "an audit asks for a slot that cannot be proven");
            Ok(None)
        }
    }
}

/// Where this node stands with its audit.
#[derive(Debug, Default)]
struct Docket {
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    epoch: Epoch,
    answered: bool,
    rejected: u32,
}

/// What a look at the chain says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    /// The audit is new.
    new: bool,
    /// It should be answered now.
    answer: bool,
    /// The one before was closed without this node's answer.
    missed: bool,
}

impl Docket {
    /// Takes note of the audit that is open after the block at `height`.
    fn see(&mut self, challenge: Option<&Challenge>, height: Height) -> Seen {
        let same = |open: &Open| challenge.is_some_and(|challenge| challenge.epoch == open.epoch);
        let closed = self.open.take_if(|open| !same(open));
        let missed = closed.is_some_and(|open| !open.answered);
        let Some(challenge) = challenge else { return Seen { missed, ..Seen::default() } };
        let new = self.open.is_none();
        let open = self.open.get_or_insert(Open { epoch: challenge.epoch, answered: false, rejected: 0 });
        // An answer comes with the next block at the earliest.
        let answer = !open.answered && open.rejected < REJECTED_MAX && height < challenge.until;
        Seen { new, answer, missed }
    }
    fn answered(&mut self, epoch: Epoch) {
        if let Some(open) = self.open.as_mut().filter(|open| open.epoch == epoch) {
            open.answered = true;
        }
    }
    fn failed(&mut self, epoch: Epoch, rejected: bool) {
        if let Some(open) = self.open.as_mut().filter(|open| open.epoch == epoch && rejected) {
            open.rejected += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn audit(epoch: u64) -> Challenge {
        let at = Height::new(epoch * 10 + 2);
        Challenge { epoch: Epoch::new(epoch), at, until: Height::new(at.get() + 5), samples: Vec::new() }
    }

    fn seen(new: bool, answer: bool, missed: bool) -> Seen {
        Seen { new, answer, missed }
    }

    #[test]
    fn an_audit_is_counted_once_and_answered_until_an_answer_is_final() {
        let mut docket = Docket::default();
        let at = Height::new;
        assert_eq!(docket.see(None, at(1)), Seen::default());
        assert_eq!(docket.see(Some(&audit(1)), at(12)), seen(true, true, false));
        docket.failed(Epoch::new(1), false);
        assert_eq!(docket.see(Some(&audit(1)), at(13)), seen(false, true, false));
        docket.answered(Epoch::new(1));
        assert_eq!(docket.see(Some(&audit(1)), at(14)), seen(false, false, false));
        assert_eq!(docket.see(None, at(15)), Seen::default());
        assert_eq!(docket.see(Some(&audit(2)), at(22)), seen(true, true, false));
    }

    #[test]
    fn one_that_closes_without_an_answer_is_missed_and_a_late_answer_is_not_tried() {
        let mut docket = Docket::default();
        assert_eq!(docket.see(Some(&audit(1)), Height::new(17)), seen(true, false, false));
        assert_eq!(docket.see(None, Height::new(18)), seen(false, false, true));
        docket.see(Some(&audit(2)), Height::new(22));
        assert_eq!(docket.see(Some(&audit(3)), Height::new(32)), seen(true, true, true));
    }

    #[test]
    fn what_the_ledger_rejects_again_and_again_is_given_up() {
        let mut docket = Docket::default();
        for _ in 0..REJECTED_MAX {
            assert!(docket.see(Some(&audit(1)), Height::new(12)).answer);
            docket.failed(Epoch::new(1), true);
        }
        assert!(!docket.see(Some(&audit(1)), Height::new(12)).answer);
    }
}

//! Words: how well a file is kept, for who does not think in slots.

use crate::api::storage::standing;
use crate::ledger::record::{Deal, DealStatus, NodeEntry};

/// How a file is; what is worse comes later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// All as it should be.
    Well,
    /// Safe, with less in reserve.
    Weak,
    /// Not safe yet.
    Waiting,
    /// It cannot be read now.
    Unreadable,
    /// No longer kept.
    Gone,
}

/// How a file is, and a sentence on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// In one word.
    pub state: State,
    /// In a sentence.
    pub text: String,
}

/// A file's health; `reason` is why it is pending or has ended.
pub fn health(deal: &Deal, nodes: &[NodeEntry], reason: Option<&str>) -> Health {
    let at = standing(deal, nodes);
    let slots = deal.placement.len();
    let reason = reason.unwrap_or("no reason is known");
    let (state, text) = match deal.status {
        DealStatus::Deleted { .. } | DealStatus::Ended { .. } | DealStatus::Expired { .. } => {
            (State::Gone, format!("No longer kept: {reason}."))
        }
        DealStatus::Pending { .. } => (State::Waiting, format!("Not safe yet: {reason}.")),
        DealStatus::Final { .. } if at.spare < 0 => (
            State::Unreadable,
            format!("Cannot be read now: {} of its {slots} parts answer, and {} are needed.", at.answering, deal.data),
        ),
        DealStatus::Final { .. } => {
            let spare = match at.spare_nodes {
                0 => "no node may fail".to_owned(),
                1 => "any one node may fail".to_owned(),
                many => format!("any {many} nodes may fail"),
            };
            let all = usize::try_from(at.answering) == Ok(slots);
            match (all, deal.repairing) {
                (true, _) => (State::Well, format!("Safe: all {slots} parts are held, and {spare}.")),
                (false, true) => (
                    State::Weak,
                    format!("Safe: {} of {slots} parts are held, the rest is being rebuilt; {spare}.", at.answering),
                ),
                (false, false) => {
                    (State::Weak, format!("Safe: {} of {slots} parts are held, and {spare}.", at.answering))
                }
            }
        }
    };
    Health { state, text }
}

/// The health of what a folder names and nobody keeps.
pub fn lost() -> Health {
    Health { state: State::Gone, text: "Its bytes are no longer kept.".to_owned() }
}

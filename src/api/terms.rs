//! Terms: until when a file is kept, and at which price.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ledger::record::Deal;
use crate::node::Handle;

/// The terms of a file's deal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct TermsView {
    /// Credits for one GiB of slots and one epoch.
    pub price: u64,
    /// Credits that are not paid out yet.
    pub escrow: u64,
    /// Credits that were paid out to storage nodes so far.
    pub paid: u64,
    /// Height at which the deal ends unless it is renewed.
    pub ends: u64,
    /// Whole epochs until then, 1 in the last; 0 once it has ended.
    pub epochs_left: u64,
    /// Whether that is soon: in the last tenth of its time, or as `files.warn_epochs` of the answering node says.
    pub ends_soon: bool,
}

/// The terms of a deal, by the last final block.
pub fn terms(handle: &Handle, deal: &Deal) -> TermsView {
    TermsView {
        price: deal.price,
        escrow: deal.escrow.get(),
        paid: deal.paid.get(),
        ends: deal.ends.get(),
        epochs_left: handle.epochs_left(deal),
        ends_soon: handle.ends_soon(deal),
    }
}

//! Faults of the application, planted by name in a test build to show that the checker finds them.
//!
//! Without the feature `planted-bugs` none can be switched on, and `Planted` has no size. Faults of the core itself are in
//! `consensus::planted`.

use super::options::Options;
use crate::consensus::planted as consensus;

/// Something that the application does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LedgerFault {
    /// Every replica drops what the receiver of a transfer gets.
    LostCredit,
    /// Every replica forgets that a nonce was used.
    NonceForgotten,
    /// One replica books the transfers of a final block twice.
    BookedTwice,
    /// What a final block changes is written without its last record.
    RecordNotWritten,
    /// Mempools have no bound.
    PoolUnbounded,
}

/// The fault that is switched on, if one is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Planted {
    #[cfg(feature = "planted-bugs")]
    fault: Option<LedgerFault>,
}

impl Planted {
    /// This fault, or none.
    #[cfg(feature = "planted-bugs")]
    pub const fn this(fault: Option<LedgerFault>) -> Self {
        Self { fault }
    }
    /// Whether the fault is switched on.
    #[cfg(feature = "planted-bugs")]
    pub fn has(self, fault: LedgerFault) -> bool {
        self.fault == Some(fault)
    }
    /// Whether the fault is switched on: never.
    #[cfg(not(feature = "planted-bugs"))]
    pub const fn has(self, _: LedgerFault) -> bool {
        false
    }
}

/// What the application does wrong.
#[cfg(feature = "planted-bugs")]
pub fn ledger_fault(options: &Options) -> Planted {
    Planted::this(options.ledger_fault)
}

/// What the application does wrong.
#[cfg(not(feature = "planted-bugs"))]
pub fn ledger_fault(_: &Options) -> Planted {
    Planted::default()
}

/// The rules that every replica leaves out.
#[cfg(feature = "planted-bugs")]
pub fn planted(options: &Options) -> consensus::Planted {
    options.bug.map_or_else(consensus::Planted::none, |bug| consensus::Planted::these(&[bug]))
}

/// The rules that every replica leaves out.
#[cfg(not(feature = "planted-bugs"))]
pub fn planted(_: &Options) -> consensus::Planted {
    consensus::Planted::none()
}

/// Whether a restored validator signs at once.
#[cfg(feature = "planted-bugs")]
pub fn restore_signs(options: &Options) -> bool {
    options.restore_signs
}

/// Whether a restored validator signs at once.
#[cfg(not(feature = "planted-bugs"))]
pub fn restore_signs(_: &Options) -> bool {
    false
}

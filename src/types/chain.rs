//! Positions in the chain and in the protocol.

use std::fmt;

use borsh::{BorshDeserialize, BorshSerialize};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize)]
        pub struct $name(u64);

        impl $name {
            /// The lowest value.
            pub const ZERO: Self = Self(0);
            /// From a number.
            pub const fn new(raw: u64) -> Self { Self(raw) }
            /// As a number.
            pub const fn get(self) -> u64 { self.0 }
            /// One higher, or nothing at the end of the range.
            pub fn next(self) -> Option<Self> { self.0.checked_add(1).map(Self) }
            /// One lower, or nothing at zero.
            pub fn prev(self) -> Option<Self> { self.0.checked_sub(1).map(Self) }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { self.0.fmt(f) }
        }
    )*};
}

counters! {
    /// Number of blocks before this one. Genesis is 0.
    Height;
    /// One attempt at a block, with one leader. Views restart at 1 in each epoch; 0 is the epoch's start.
    View;
    /// A run of blocks with one validator set. The first is 0.
    Epoch;
}

impl Height {
    /// The genesis block.
    pub const GENESIS: Self = Self::ZERO;
}

/// A view within its epoch: the pair that votes, timeouts, locks and certificates are ordered by
/// (protocol rule 1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize)]
pub struct Round {
    /// The epoch; it outranks the view.
    pub epoch: Epoch,
    /// The view in that epoch.
    pub view: View,
}

impl Round {
    /// The pair.
    pub const fn new(epoch: Epoch, view: View) -> Self {
        Self { epoch, view }
    }
    /// The next view of the same epoch, or nothing at the end of the range.
    pub fn next(self) -> Option<Self> {
        self.view.next().map(|view| Self { epoch: self.epoch, view })
    }
    /// View 0 of the next epoch, where that epoch begins.
    pub fn next_epoch(self) -> Option<Self> {
        self.epoch.next().map(|epoch| Self { epoch, view: View::ZERO })
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.view)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_epoch_outranks_any_view() {
        let late_view = Round::new(Epoch::new(1), View::new(900));
        let next_epoch = Round::new(Epoch::new(2), View::ZERO);
        assert!(next_epoch > late_view);
        assert_eq!(late_view.next_epoch(), Some(next_epoch));
    }

    #[test]
    fn the_last_number_has_no_next() {
        assert_eq!(Height::new(u64::MAX).next(), None);
        assert_eq!(Height::GENESIS.prev(), None);
    }
}

//! Time as a number: durations and instants are milliseconds; the shell says what zero is.

use std::fmt;

use borsh::{BorshDeserialize, BorshSerialize};

/// Milliseconds: a duration, or an instant since an origin that the context names
/// (in a block header: the Unix epoch).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize)]
pub struct Millis(u64);

impl Millis {
    /// Zero.
    pub const ZERO: Self = Self(0);
    /// From a number of milliseconds.
    pub const fn new(raw: u64) -> Self {
        Self(raw)
    }
    /// As a number of milliseconds.
    pub const fn get(self) -> u64 {
        self.0
    }
    /// The sum, or the end of the range.
    pub fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
    /// The difference, or zero.
    pub fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", self.0)
    }
}

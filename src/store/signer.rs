//! The node key and the safety record that belongs to it: one row, so that neither is there without the other.

use std::fmt;

use borsh::{BorshDeserialize, BorshSerialize};
use zeroize::Zeroizing;

use crate::consensus::Watermarks;

/// Where a key comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyOrigin {
    /// Made for this home just now; it has never signed.
    Generated,
    /// Brought from elsewhere without its record; what it signed there is not known.
    Imported,
}

/// Why a key must not sign (protocol rule 12). All but the last end by themselves, when an epoch ends in which this node has
/// listened for signatures of its own key and heard none; or by the operator's word (`trullo validator signing release`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum Quarantine {
    /// The key came without its record.
    Imported = 0,
    /// The file was copied or put back from elsewhere, so that its record may be an old one.
    Copied = 1,
    /// Others hold signatures of the key that its record does not account for.
    RolledBack = 2,
    /// Another process signs with the key. Ends by the operator's word alone.
    Twin = 3,
    /// The home was restored from a backup.
    Restored = 4,
}

impl Quarantine {
    /// Its name for programs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Imported => "imported",
            Self::Copied => "copied",
            Self::RolledBack => "rolled_back",
            Self::Twin => "twin",
            Self::Restored => "restored",
        }
    }
    /// What the operator is to do, if anything.
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Twin => {
                "stop the other one; then stop this node, run `trullo validator signing release --yes` and start it \
                 again, or take a new key: `trullo validator rotate-key --help`"
            }
            Self::Imported | Self::Copied | Self::RolledBack | Self::Restored => {
                "nothing is to be done: the node follows and listens for its own votes, and signs again with a new \
                 epoch; see to it that no other home has this key"
            }
        }
    }
}

impl fmt::Display for Quarantine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Imported => "the node key was imported without its safety record",
            Self::Copied => "the database was copied or restored from elsewhere",
            Self::RolledBack => "others hold signatures of the node key that the safety record does not know",
            Self::Twin => "another process signs with the node key",
            Self::Restored => "the home was restored from a backup",
        })
    }
}

/// The node key and all that decides whether it may sign.
#[derive(Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Signer {
    seed: [u8; 32],
    record: Option<Vec<u8>>,
    quarantine: Option<Quarantine>,
    seen: Watermarks,
}

impl Drop for Signer {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.seed);
    }
}

impl Signer {
    /// A key that has no record yet.
    pub(super) fn new(seed: &[u8; 32], origin: KeyOrigin) -> Self {
        let quarantine = (origin == KeyOrigin::Imported).then_some(Quarantine::Imported);
        Self { seed: *seed, record: None, quarantine, seen: Watermarks::default() }
    }
    /// The seed of the node key.
    pub fn seed(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.seed)
    }
    /// The canonical bytes of the last safety record, unless none was ever written.
    pub fn record(&self) -> Option<&[u8]> {
        self.record.as_deref()
    }
    /// Why the key must not sign now, if so.
    pub fn quarantine(&self) -> Option<Quarantine> {
        self.quarantine
    }
    /// The highest views in which the key signed beyond what the record says, as seen from others or imported. It signs above them only.
    pub fn seen(&self) -> &Watermarks {
        &self.seen
    }
    pub(super) fn raise_seen(&mut self, seen: &Watermarks) {
        self.seen = self.seen.raised(seen);
    }
    pub(super) fn set_record(&mut self, record: &[u8]) {
        self.record = Some(record.to_vec());
    }
    pub(super) fn set_quarantine(&mut self, quarantine: Option<Quarantine>) {
        self.quarantine = quarantine;
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.record.as_ref().map(Vec::len);
        f.debug_struct("Signer").field("record_bytes", &bytes).field("quarantine", &self.quarantine).finish()
    }
}

//! The node key and the safety record that belongs to it: one row, so that neither is there without the other.

use std::fmt;

use borsh::{BorshDeserialize, BorshSerialize};
use zeroize::Zeroizing;

/// Where a key comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyOrigin {
    /// Made for this home just now; it has never signed.
    Generated,
    /// Brought from elsewhere without its record; what it signed there is not known.
    Imported,
}

/// Why a key must not sign (protocol rule 12). It ends when an epoch begins that started after the cause, or by the
/// operator's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum Quarantine {
    /// The key came without its record.
    Imported = 0,
    /// The file was copied or restored, so that its record may be an old one.
    Copied = 1,
}

impl fmt::Display for Quarantine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Imported => "the node key was imported without its safety record",
            Self::Copied => "the database was copied or restored from elsewhere",
        })
    }
}

/// The node key and all that decides whether it may sign.
#[derive(Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Signer {
    seed: [u8; 32],
    record: Option<Vec<u8>>,
    quarantine: Option<Quarantine>,
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
        Self { seed: *seed, record: None, quarantine }
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

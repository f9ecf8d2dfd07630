//! Presence: what a node says about itself every few seconds.

use borsh::{BorshDeserialize, BorshSerialize};

use super::codec::{self, DecodeError};
use crate::types::{ByteCount, Height, Millis, Roles, limits};

/// Why a presence record is not well formed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PresenceError {
    /// The bytes are no record.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// Too many addresses.
    #[error("{0} addresses; at most {max}", max = limits::NODE_ADDRESSES_MAX)]
    Addresses(usize),
    /// An address that is too long.
    #[error("an address of {0} bytes; at most {max}", max = limits::NODE_ADDRESS_BYTES_MAX)]
    AddressLen(usize),
}

/// One node's word about itself. Travels in an `Envelope`, whose author is the node.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Presence {
    /// What the node does. Bits of roles that a later version knows are kept and ignored.
    pub roles: Roles,
    /// Where it listens, as multiaddresses without the node.
    pub addresses: Vec<String>,
    /// Its last final block.
    pub height: Height,
    /// Bytes that it can still take for others.
    pub free: ByteCount,
    /// Milliseconds since the Unix epoch by the node's clock. Of two records of one node the later counts.
    pub time: Millis,
}

impl Presence {
    /// The canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }
    /// Decodes and checks the bounds. Errors: each of `PresenceError`.
    pub fn decode(bytes: &[u8]) -> Result<Self, PresenceError> {
        let max = 64 + limits::NODE_ADDRESSES_MAX * (limits::NODE_ADDRESS_BYTES_MAX + 4);
        let record: Self = codec::decode(bytes, max)?;
        if record.addresses.len() > limits::NODE_ADDRESSES_MAX {
            return Err(PresenceError::Addresses(record.addresses.len()));
        }
        match record.addresses.iter().find(|address| address.len() > limits::NODE_ADDRESS_BYTES_MAX) {
            Some(address) => Err(PresenceError::AddressLen(address.len())),
            None => Ok(record),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Role;

    fn record(addresses: Vec<String>) -> Presence {
        Presence {
            roles: Roles::of(&[Role::Storage]),
            addresses,
            height: Height::new(9),
            free: ByteCount::new(1 << 30),
            time: Millis::new(1_700_000_000_000),
        }
    }

    #[test]
    fn bytes_round_trip_and_bounds_hold() {
        let full = record(vec!["a".repeat(limits::NODE_ADDRESS_BYTES_MAX); limits::NODE_ADDRESSES_MAX]);
        assert_eq!(Presence::decode(&full.encode()), Ok(full));
        let many = record(vec!["a".into(); limits::NODE_ADDRESSES_MAX + 1]);
        assert_eq!(Presence::decode(&many.encode()), Err(PresenceError::Addresses(limits::NODE_ADDRESSES_MAX + 1)));
        let long = record(vec!["a".repeat(limits::NODE_ADDRESS_BYTES_MAX + 1)]);
        assert_eq!(
            Presence::decode(&long.encode()),
            Err(PresenceError::AddressLen(limits::NODE_ADDRESS_BYTES_MAX + 1))
        );
    }

    #[test]
    fn the_bytes_are_the_golden_ones() {
        let bytes = record(vec!["/ip4/192.0.2.1/tcp/7000".into()]).encode();
        expect_test::expect_file!["../../fixtures/wire/presence.hex"].assert_eq(&hex::encode(bytes));
    }

    proptest::proptest! {
        #[test]
        fn what_decodes_encodes_to_the_same_bytes(
            addresses in proptest::collection::vec("[ -~]{0,40}", 0..limits::NODE_ADDRESSES_MAX),
            noise in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..100),
        ) {
            let built = record(addresses);
            proptest::prop_assert_eq!(Presence::decode(&built.encode()), Ok(built));
            if let Ok(decoded) = Presence::decode(&noise) {
                proptest::prop_assert_eq!(decoded.encode(), noise);
            }
        }
    }
}

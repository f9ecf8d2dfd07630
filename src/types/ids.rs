//! Identifiers: 32 bytes each, and never one in place of another.
//!
//! Those that are hashes are made by `crypto::hash`; `from_bytes` is for decoding. `Debug` prints the
//! first 8 bytes, `Display` all of them, as lower-case hexadecimal.

use std::fmt;
use std::str::FromStr;

use borsh::{BorshDeserialize, BorshSerialize};

/// Why a text is not an identifier.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The text has the wrong number of characters.
    #[error("an id has 64 hexadecimal digits, this has {0} characters")]
    Length(usize),
    /// A character is not a hexadecimal digit.
    #[error("an id has only the digits 0-9 and a-f")]
    Digit,
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize)]
        pub struct $name([u8; 32]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = 32;
            /// Takes the bytes as they are; for decoding and for `crypto`.
            pub const fn from_bytes(raw: [u8; 32]) -> Self { Self(raw) }
            /// The bytes.
            pub const fn as_bytes(&self) -> &[u8; 32] { &self.0 }
            /// The first 8 bytes in hexadecimal: enough to tell ids apart in a log or a table.
            pub fn short(&self) -> String { hex::encode(self.0.first_chunk::<8>().unwrap_or(&[0; 8])) }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.short())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                // Lists print many ids; this takes no memory.
                let mut text = [0; 64];
                hex::encode_to_slice(self.0, &mut text).map_err(|_| fmt::Error)?;
                f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                if text.len() != 64 {
                    return Err(IdError::Length(text.chars().count()));
                }
                let mut raw = [0; 32];
                hex::decode_to_slice(text, &mut raw).map_err(|_| IdError::Digit)?;
                Ok(Self(raw))
            }
        }
    )*};
}

ids! {
    /// Hash of the genesis file's canonical bytes; every signature is bound to it.
    ChainId;
    /// Hash of a block header.
    BlockHash;
    /// Hash of a transaction body (without its signature).
    TxId;
    /// Hash of a manifest's public part.
    FileId;
    /// BLAKE3 hash of a slot's bytes: the root of BLAKE3's own tree over them.
    SlotRoot;
    /// Root of the state tree after a block.
    StateRoot;
    /// Ed25519 public key of a node: its identity in consensus and on the network.
    NodeId;
    /// Ed25519 public key of an account.
    AccountId;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_bytes_round_trip() {
        let id = FileId::from_bytes([0xab; 32]);
        assert_eq!(id.to_string().parse::<FileId>(), Ok(id));
        assert_eq!(format!("{id:?}"), "abababababababab");
    }

    #[test]
    fn a_wrong_text_is_refused_with_its_reason() {
        assert_eq!("ab".parse::<FileId>(), Err(IdError::Length(2)));
        assert_eq!("zz".repeat(32).parse::<FileId>(), Err(IdError::Digit));
    }
}

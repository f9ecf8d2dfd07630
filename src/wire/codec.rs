//! Bytes to values and back, with bounds.

use borsh::{BorshDeserialize, BorshSerialize};

/// Why bytes are not a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// More bytes than this kind of value may have.
    #[error("{have} bytes, at most {max} are allowed")]
    TooLong {
        /// Bytes given.
        have: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// The bytes have the wrong shape, or some are left over.
    #[error("malformed bytes: {0}")]
    Malformed(String),
}

/// The canonical bytes of a value.
pub fn encode<T: BorshSerialize>(value: &T) -> Vec<u8> {
    // Counting first costs less than growing: large values are a few long byte strings.
    let mut out = Vec::with_capacity(borsh::object_length(value).unwrap_or_default());
    // A Vec takes every write, and the derived encoders fail on nothing else.
    let written = value.serialize(&mut out);
    assert!(written.is_ok(), "encoding into memory does not fail");
    out
}

/// The value of the bytes, of which there may be at most `max` and none left over.
/// Errors: `TooLong`, `Malformed`.
pub fn decode<T: BorshDeserialize>(bytes: &[u8], max: usize) -> Result<T, DecodeError> {
    if bytes.len() > max {
        return Err(DecodeError::TooLong { have: bytes.len(), max });
    }
    borsh::from_slice(bytes).map_err(|error| DecodeError::Malformed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn left_over_bytes_and_lengths_that_lie_are_refused() {
        assert!(matches!(decode::<u8>(&[1, 2], 8), Err(DecodeError::Malformed(_))));
        assert!(matches!(decode::<Vec<u8>>(&[0xff, 0xff, 0xff, 0x7f], 8), Err(DecodeError::Malformed(_))));
        assert_eq!(decode::<Vec<u8>>(&[0; 9], 8), Err(DecodeError::TooLong { have: 9, max: 8 }));
    }
}

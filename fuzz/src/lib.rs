//! What the fuzz targets share: inputs that are edits of good samples, and the samples.
//!
//! Random bytes seldom get past a decoder, and never past a signature. So an input either stands for itself or
//! is a list of edits of a sample that is good to the last check; targets sign again where a hostile sender could.

pub mod sample;

use borsh::{BorshDeserialize, BorshSerialize};
use trullo::wire;

/// The bytes that an input stands for: its first byte chooses a sample, whose edits are the rest, or the rest itself.
pub fn bytes(data: &[u8], samples: &[Vec<u8>]) -> Vec<u8> {
    let Some((choice, rest)) = data.split_first() else { return Vec::new() };
    match samples.get(usize::from(*choice) % (samples.len() + 1)) {
        Some(sample) => edited(sample.clone(), rest),
        None => rest.to_vec(),
    }
}

/// The same as text; what is no UTF-8 is replaced.
pub fn text(data: &[u8], samples: &[String]) -> String {
    let samples: Vec<_> = samples.iter().map(|sample| sample.as_bytes().to_vec()).collect();
    String::from_utf8_lossy(&bytes(data, &samples)).into_owned()
}

/// Applies edits of five bytes each: what, where (two bytes, modulo the length), and two bytes of argument.
pub fn edited(mut bytes: Vec<u8>, edits: &[u8]) -> Vec<u8> {
    let (edits, _) = edits.as_chunks::<5>();
    for [what, high, low, first, second] in edits {
        let len = bytes.len();
        let at = usize::from(u16::from_be_bytes([*high, *low])).checked_rem(len + 1).unwrap_or(0);
        match what % 8 {
            0 if at < len => bytes[at] = *first,
            1 if at < len => bytes[at] ^= 1 << (first % 8),
            2 => bytes.truncate(at),
            3 => bytes.insert(at, *first),
            4 => drop(bytes.drain(at..(at + usize::from(*first)).min(len))),
            // A number of four or eight bytes at a border of what it can be.
            5 => {
                let number = (1_u64 << (first % 64)).wrapping_sub(u64::from(*second & 1)).to_le_bytes();
                let width = if second & 2 == 0 { 4 } else { 8 };
                bytes.iter_mut().skip(at).zip(&number[..width]).for_each(|(byte, new)| *byte = *new);
            }
            6 => {
                let copy: Vec<_> = bytes.iter().skip(at).take(usize::from(*first)).copied().collect();
                let to = (at + usize::from(*second)).min(len);
                drop(bytes.splice(to..to, copy));
            }
            _ => bytes.extend([*first, *second]),
        }
    }
    bytes
}

/// Decodes, and holds the format to its promise: what decodes encodes to the same bytes.
pub fn canonical<T: BorshDeserialize + BorshSerialize>(bytes: &[u8], max: usize) -> Option<T> {
    let value = wire::decode::<T>(bytes, max).ok()?;
    assert!(wire::encode(&value) == bytes, "a value has one encoding");
    Some(value)
}

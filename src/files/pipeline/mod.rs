//! The pipeline: `Encoder` turns plaintext into stripes of shards, `Decoder` turns stripes back into plaintext.
//!
//! Both take bytes in any pieces and hold a stripe or two, whatever the file. The encoder's output depends on key, nonce,
//! parameters and content alone, so an interrupted upload is resumed by encoding again.
//! Not here: the slots' hashes (`proof`), which the caller computes for each slot on its own, in parallel if it likes.

mod decoder;
mod encoder;
mod frames;
mod range;

pub use decoder::{DecodeError, Decoder};
pub use encoder::{Encoded, Encoder, Stripe};
pub use frames::{Compress, Compression, FRAME_BYTES, SeekTable, SeekTableError};
pub use range::{RangeError, RangePlan, StripeRead};

use crate::crypto::seal::{FileKey, Stream};
use crate::files::parameters::Parameters;

/// The cipher of a file's content. Nonce, parameters and compression go into its key: the same content cut or
/// stored in another way is another stream, even under the same file key.
fn stream(key: &FileKey, nonce: &[u8; 32], parameters: Parameters, compression: Compression) -> Stream {
    let mut context = nonce.to_vec();
    context.extend([parameters.data(), parameters.parity(), compression as u8]);
    context.extend(parameters.chunk_bytes().to_le_bytes());
    key.stream(&context)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;

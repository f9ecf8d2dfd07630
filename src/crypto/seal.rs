//! Sealing: authenticated encryption of streams and of small secrets.
//!
//! Streams: STREAM (Hoang, Reyhanitabar, Rogaway, Vizár: "Online Authenticated-Encryption and its Nonce-Reuse
//! Misuse-Resistance", 2015) over ChaCha20-Poly1305. The nonce is the segment's number and a flag for the last one, so
//! a changed, moved, missing or surplus segment does not open, and neither does a stream that was cut short; any segment
//! opens alone. Every stream has a key of its own, so no nonce comes twice.
//! Small secrets: XChaCha20-Poly1305, whose nonce is long enough to be random.
//! ChaCha20-Poly1305 does not commit to its key: who opens a stream compares `FileKey::commitment` before.
//! Not here: where keys come from (`keys`), how a file is cut into segments (`files`).

use std::fmt;

use chacha20poly1305::aead::{Aead, AeadInPlace, KeyInit, Payload};
use chacha20poly1305::{ChaCha20Poly1305, XChaCha20Poly1305};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::hash::{self, Domain};

/// Bytes that authenticate one segment or one secret.
pub const TAG_BYTES: usize = 16;
/// Bytes of the random nonce of a small secret.
pub const NONCE_BYTES: usize = 24;
/// Bytes that a sealed secret has beyond its plaintext.
pub const SECRET_OVERHEAD: usize = NONCE_BYTES + TAG_BYTES;

/// The bytes were changed, belong elsewhere, or the key is another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the sealed bytes do not open with this key and context")]
pub struct SealError;

/// A symmetric key. Wiped from memory when dropped.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct SealKey([u8; 32]);

impl SealKey {
    /// Takes 32 secret bytes, uniformly random or derived.
    pub const fn from_bytes(raw: [u8; 32]) -> Self {
        Self(raw)
    }
    /// The bytes, for wrapping and for signing seeds.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
    /// Another key, independent of this one, for the purpose that `label` names and the context.
    /// Labels are part of the format and at most 255 bytes long.
    pub fn derive(&self, label: &'static str, context: &[u8]) -> Self {
        let label_len = u8::try_from(label.len()).expect("labels are short");
        let mut hasher = hash::hasher(Domain::Derive);
        // The label's length and the key's fixed size leave one way only to read the input.
        hasher.update(&[label_len]).update(label.as_bytes()).update(&self.0).update(context);
        Self(*hasher.finalize().as_bytes())
    }
    /// Encrypts a small secret and binds it to `associated`. The nonce is random and never used again with this key.
    /// Returns the nonce, the ciphertext and the tag: `SECRET_OVERHEAD` bytes more than `plain`.
    pub fn seal(&self, nonce: &[u8; NONCE_BYTES], associated: &[u8], plain: &[u8]) -> Vec<u8> {
        let payload = Payload { msg: plain, aad: associated };
        let cipher = XChaCha20Poly1305::new(&self.0.into());
        let sealed = cipher.encrypt(nonce.into(), payload).expect("secrets are far below the cipher's 256 GiB");
        [nonce.as_slice(), &sealed].concat()
    }
    /// Opens what `seal` made with the same key and `associated`. Errors: `SealError`.
    pub fn open(&self, associated: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let (nonce, msg) = sealed.split_first_chunk::<NONCE_BYTES>().ok_or(SealError)?;
        let cipher = XChaCha20Poly1305::new(&self.0.into());
        let plain = cipher.decrypt(nonce.into(), Payload { msg, aad: associated });
        plain.map(Zeroizing::new).map_err(|_| SealError)
    }
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealKey(..)")
    }
}

/// The key of one version of one file. Wiped from memory when dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileKey(SealKey);

impl FileKey {
    /// Takes 32 secret bytes, uniformly random or derived, never used for another content.
    pub const fn from_bytes(raw: [u8; 32]) -> Self {
        Self(SealKey::from_bytes(raw))
    }
    /// The bytes, for wrapping.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }
    /// What binds to this key without telling it.
    pub fn commitment(&self) -> [u8; 32] {
        hash::hash(Domain::KeyCommitment, self.as_bytes())
    }
    /// The cipher of the file's content. The context (format, parameters) goes into its key.
    pub fn stream(&self, context: &[u8]) -> Stream {
        let key = self.0.derive("file content", context);
        Stream { cipher: ChaCha20Poly1305::new(key.as_bytes().into()) }
    }
    /// The key of the manifest's private part.
    pub fn manifest_key(&self) -> SealKey {
        self.0.derive("file manifest", &[])
    }
}

impl From<SealKey> for FileKey {
    fn from(key: SealKey) -> Self {
        Self(key)
    }
}

/// STREAM: segments that are sealed and opened in place, each alone.
pub struct Stream {
    cipher: ChaCha20Poly1305,
}

impl Stream {
    /// The counter takes 11 bytes, big-endian, and the flag the last one.
    fn nonce(index: u64, last: bool) -> [u8; 12] {
        let mut nonce = [0; 12];
        nonce[3..11].copy_from_slice(&index.to_be_bytes());
        nonce[11] = u8::from(last);
        nonce
    }
    /// Encrypts a segment in place and returns its tag. Each index is sealed once, and one of them as the last.
    pub fn seal(&self, index: u64, last: bool, segment: &mut [u8]) -> [u8; TAG_BYTES] {
        let nonce = Self::nonce(index, last);
        let tag = self.cipher.encrypt_in_place_detached(&nonce.into(), &[], segment);
        tag.expect("a segment is far below the cipher's 256 GiB").into()
    }
    /// Decrypts a segment with the tag at its end in place and returns the plaintext. After an error the bytes
    /// are as they were. Errors: `SealError`.
    pub fn open<'a>(&self, index: u64, last: bool, sealed: &'a mut [u8]) -> Result<&'a mut [u8], SealError> {
        let (segment, tag) = sealed.split_last_chunk_mut::<TAG_BYTES>().ok_or(SealError)?;
        let nonce = Self::nonce(index, last);
        let opened = self.cipher.decrypt_in_place_detached(&nonce.into(), &[], segment, (&*tag).into());
        opened.map(|()| segment).map_err(|_| SealError)
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stream(..)")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(n: u8) -> FileKey {
        FileKey::from_bytes([n; 32])
    }

    fn sealed(stream: &Stream, parts: &[&[u8]]) -> Vec<Vec<u8>> {
        let seal = |(index, part): (usize, &&[u8])| {
            let mut segment = part.to_vec();
            let tag = stream.seal(index as u64, index + 1 == parts.len(), &mut segment);
            segment.extend_from_slice(&tag);
            segment
        };
        parts.iter().enumerate().map(seal).collect()
    }

    #[test]
    fn each_segment_opens_alone_and_in_its_place_only() {
        let stream = key(1).stream(b"context");
        let segments = sealed(&stream, &[b"first", b"second", b"third"]);
        assert_eq!(stream.open(1, false, &mut segments[1].clone()).as_deref(), Ok(b"second".as_slice()));
        assert_eq!(stream.open(2, true, &mut segments[2].clone()).as_deref(), Ok(b"third".as_slice()));
        assert_eq!(stream.open(0, false, &mut segments[1].clone()), Err(SealError), "moved");
        assert_eq!(stream.open(1, true, &mut segments[1].clone()), Err(SealError), "cut short after it");
        assert_eq!(stream.open(2, false, &mut segments[2].clone()), Err(SealError), "continued after the last");
    }

    #[test]
    fn another_key_or_context_does_not_open() {
        let segments = sealed(&key(1).stream(b"context"), &[b"only"]);
        for other in [key(2).stream(b"context"), key(1).stream(b"other")] {
            assert_eq!(other.open(0, true, &mut segments[0].clone()), Err(SealError));
        }
        assert_ne!(key(1).commitment(), key(2).commitment());
    }

    #[test]
    fn derived_keys_differ_by_label_and_context() {
        let base = SealKey::from_bytes([7; 32]);
        assert_ne!(base.derive("a", b"x"), base.derive("b", b"x"));
        assert_ne!(base.derive("a", b"x"), base.derive("a", b"y"));
        assert_ne!(base.derive("a", b""), base);
    }

    proptest! {
        #[test]
        fn a_changed_bit_or_length_does_not_open(
            plain in prop::collection::vec(any::<u8>(), 0..300), at in any::<prop::sample::Index>(), bit in 0_u32..8,
        ) {
            let stream = key(3).stream(&[]);
            let good = sealed(&stream, &[&plain]).remove(0);
            let open = |mut bytes: Vec<u8>| stream.open(0, true, &mut bytes).map(|plain| plain.to_vec());
            prop_assert_eq!(open(good.clone()), Ok(plain));
            let mut changed = good.clone();
            changed[at.index(good.len())] ^= 1_u8 << bit;
            prop_assert_eq!(open(changed), Err(SealError));
            prop_assert_eq!(open(good[..at.index(good.len())].to_vec()), Err(SealError));
        }

        #[test]
        fn a_secret_opens_with_its_key_and_context_only(
            plain in prop::collection::vec(any::<u8>(), 0..100), at in any::<prop::sample::Index>(), bit in 0_u32..8,
        ) {
            let secret = SealKey::from_bytes([9; 32]);
            let good = secret.seal(&[5; NONCE_BYTES], b"context", &plain);
            prop_assert_eq!(good.len(), plain.len() + SECRET_OVERHEAD);
            prop_assert_eq!(secret.open(b"context", &good).map(|p| p.to_vec()), Ok(plain));
            prop_assert_eq!(secret.open(b"other", &good), Err(SealError));
            prop_assert_eq!(SealKey::from_bytes([8; 32]).open(b"context", &good), Err(SealError));
            let mut changed = good.clone();
            changed[at.index(good.len())] ^= 1_u8 << bit;
            prop_assert_eq!(secret.open(b"context", &changed), Err(SealError));
            prop_assert_eq!(secret.open(b"context", &good[..at.index(good.len())]), Err(SealError));
        }
    }
}

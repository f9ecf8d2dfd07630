//! Ed25519 signatures under ZIP 215.
//!
//! A block is valid or not for all nodes alike, and some verify its signatures one by one while others
//! verify them together. Cofactorless batch verification accepts, with some luck, signatures that strict
//! single verification refuses (Chalkias, Garillot, Nikolaenko: "Taming the many EdDSAs", 2020). ZIP 215 is the
//! rule under which both always agree, so it is the rule here. Keys of small order, for which one
//! signature fits many messages, are refused where a key enters (`PublicKey::from_bytes`).

use std::fmt;

use borsh::{BorshDeserialize, BorshSerialize};
use curve25519_dalek::edwards::CompressedEdwardsY;
use ed25519_zebra as zebra;
use sha2::{Digest, Sha512};
use zeroize::Zeroizing;

use super::hash::{self, Domain};
use crate::types::{AccountId, NodeId};

/// Why a key or a signature does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// The bytes are no point of the curve, or one of small order.
    #[error("these bytes are no usable ed25519 public key")]
    Key,
    /// The signature does not fit key and message.
    #[error("the signature does not fit its key and message")]
    Signature,
}

/// 64 bytes of an ed25519 signature.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize)]
pub struct Signature([u8; 64]);

impl Signature {
    /// Takes the bytes as they are.
    pub const fn from_bytes(raw: [u8; 64]) -> Self {
        Self(raw)
    }
    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0[..8]))
    }
}

/// A signing key. Wiped from memory when dropped.
#[derive(Clone)]
pub struct SecretKey(zebra::SigningKey);

impl SecretKey {
    /// The key of a 32-byte seed (RFC 8032, section 5.1.5). The caller brings the randomness.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(zebra::SigningKey::from(*seed))
    }
    /// The seed, for the keystore.
    pub fn seed(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }
    /// The secret scalar (RFC 8032, section 5.1.5), to be clamped: that of the same key in X25519.
    pub(super) fn exchange_scalar(&self) -> Zeroizing<[u8; 32]> {
        let digest = Zeroizing::new(<[u8; 64]>::from(Sha512::digest(self.seed().as_slice())));
        let mut scalar = Zeroizing::new([0; 32]);
        scalar.copy_from_slice(&digest[..32]);
        scalar
    }
    /// The public half.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verification_key())
    }
    /// Signs the bytes in the domain.
    pub fn sign(&self, domain: Domain, bytes: &[u8]) -> Signature {
        Signature(self.0.sign(&hash::hash(domain, bytes)).to_bytes())
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey(of {})", hex::encode(&self.public().bytes()[..8]))
    }
}

/// A public key that is known to be a usable point.
#[derive(Clone, Copy)]
pub struct PublicKey(zebra::VerificationKey);

impl PublicKey {
    /// Checks that the bytes are a point of the curve, in its one canonical encoding, and not of small order.
    /// Errors: `Key`.
    pub fn from_bytes(raw: &[u8; 32]) -> Result<Self, SignError> {
        let point = CompressedEdwardsY(*raw).decompress().ok_or(SignError::Key)?;
        if point.is_small_order() || point.compress().as_bytes() != raw {
            return Err(SignError::Key);
        }
        zebra::VerificationKey::try_from(*raw).map(Self).map_err(|_| SignError::Key)
    }
    /// The 32 bytes.
    pub fn bytes(&self) -> [u8; 32] {
        self.0.into()
    }
    /// The key as a node's identity.
    pub fn node_id(&self) -> NodeId {
        NodeId::from_bytes(self.bytes())
    }
    /// The key as an account's identity.
    pub fn account_id(&self) -> AccountId {
        AccountId::from_bytes(self.bytes())
    }
    /// Whether the signature fits the bytes in the domain. Errors: `Signature`.
    pub fn verify(&self, domain: Domain, bytes: &[u8], signature: &Signature) -> Result<(), SignError> {
        let signature = zebra::Signature::from_bytes(&signature.0);
        self.0.verify(&signature, &hash::hash(domain, bytes)).map_err(|_| SignError::Signature)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.bytes()[..8]))
    }
}

/// Verifies one signature by the raw bytes of its key, which may be any that ZIP 215 allows.
/// Errors: `Key`, `Signature`.
pub fn verify(key: &[u8; 32], domain: Domain, bytes: &[u8], signature: &Signature) -> Result<(), SignError> {
    let key = zebra::VerificationKey::try_from(*key).map_err(|_| SignError::Key)?;
    PublicKey(key).verify(domain, bytes, signature)
}

/// Signatures to be verified together, at about a third of the cost of one by one.
/// Accepts exactly when each of them would be accepted alone.
pub struct Batch {
    verifier: zebra::batch::Verifier,
    transcript: blake3::Hasher,
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

impl Batch {
    /// An empty batch, which verifies.
    pub fn new() -> Self {
        Self { verifier: zebra::batch::Verifier::new(), transcript: hash::hasher(Domain::Batch) }
    }
    /// Adds one signature.
    pub fn push(&mut self, key: &[u8; 32], domain: Domain, bytes: &[u8], signature: &Signature) {
        let digest = hash::hash(domain, bytes);
        self.transcript.update(key).update(&digest).update(&signature.0);
        let parts = (zebra::VerificationKeyBytes::from(*key), zebra::Signature::from_bytes(&signature.0), &digest);
        self.verifier.queue(parts);
    }
    /// Whether all hold. The coefficients come from a hash of the whole batch, so whoever chose the
    /// signatures could not know them. Errors: `Signature`, without saying which entry: verify one by one for that.
    pub fn verify(self) -> Result<(), SignError> {
        let coefficients = Coefficients(self.transcript.finalize_xof());
        self.verifier.verify(coefficients).map_err(|_| SignError::Signature)
    }
}

/// The output of a hash as a source of unpredictable numbers.
struct Coefficients(blake3::OutputReader);

impl rand_core::TryRng for Coefficients {
    type Error = core::convert::Infallible;
    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        let mut raw = [0; 4];
        self.0.fill(&mut raw);
        Ok(u32::from_le_bytes(raw))
    }
    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        let mut raw = [0; 8];
        self.0.fill(&mut raw);
        Ok(u64::from_le_bytes(raw))
    }
    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Self::Error> {
        self.0.fill(out);
        Ok(())
    }
}

impl rand_core::TryCryptoRng for Coefficients {}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u8) -> SecretKey {
        SecretKey::from_seed(&[n; 32])
    }

    #[test]
    fn a_signature_holds_for_its_key_domain_and_bytes_only() {
        let signature = key(1).sign(Domain::Tx, b"pay");
        assert_eq!(key(1).public().verify(Domain::Tx, b"pay", &signature), Ok(()));
        assert_eq!(key(2).public().verify(Domain::Tx, b"pay", &signature), Err(SignError::Signature));
        assert_eq!(key(1).public().verify(Domain::Block, b"pay", &signature), Err(SignError::Signature));
        assert_eq!(key(1).public().verify(Domain::Tx, b"pax", &signature), Err(SignError::Signature));
    }

    #[test]
    fn a_batch_holds_when_each_signature_holds() {
        for wrong in [None, Some(0), Some(4)] {
            let mut batch = Batch::new();
            for n in 0..5 {
                let message = if Some(n) == wrong { [n; 3] } else { [7; 3] };
                batch.push(&key(n).public().bytes(), Domain::Tx, &[7; 3], &key(n).sign(Domain::Tx, &message));
            }
            assert_eq!(batch.verify().is_ok(), wrong.is_none());
        }
    }

    #[test]
    fn keys_of_small_order_and_twisted_encodings_are_refused() {
        let identity = {
            let mut raw = [0; 32];
            raw[0] = 1;
            raw
        };
        let not_reduced = {
            let mut raw = [0xff; 32];
            raw[0] = 0xee;
            raw[31] = 0x7f;
            raw
        };
        for raw in [identity, [0; 32], not_reduced] {
            assert_eq!(PublicKey::from_bytes(&raw).err(), Some(SignError::Key));
        }
        assert!(PublicKey::from_bytes(&key(3).public().bytes()).is_ok());
    }

    #[test]
    fn single_and_batched_verification_agree_on_small_order_keys() {
        // Key and R are the identity, s is zero: fits every message under ZIP 215.
        let identity = {
            let mut raw = [0; 32];
            raw[0] = 1;
            raw
        };
        let mut raw = [0; 64];
        raw[..32].copy_from_slice(&identity);
        let signature = Signature::from_bytes(raw);
        let mut batch = Batch::new();
        batch.push(&identity, Domain::Tx, b"any", &signature);
        assert_eq!(batch.verify(), verify(&identity, Domain::Tx, b"any", &signature));
    }
}

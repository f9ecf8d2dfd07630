//! Sharing: a file key, sealed so that one account alone opens it.
//!
//! An account is an ed25519 public key and has no other. Its X25519 form (RFC 7748, section 4.1: the same point on the
//! Montgomery curve) meets an ephemeral key; what both have in common, hashed with both public keys, is the key of an
//! XChaCha20-Poly1305 box around the file key. The box is bound to file, giver and receiver: moved to another file,
//! or passed on as somebody else's, it does not open. One scalar for signing and for this is safe, because what either
//! hashes begins with a domain of its own (Thormarker: "On using the same key pair for Ed25519 and an X25519 based KEM", 2021).
//! There is no secrecy after the fact: who learns the receiver's key later opens what was sealed to it before.
//! Pure: the randomness is an argument. Not here: who may share what, and until when (`ledger`).

use curve25519_dalek::edwards::CompressedEdwardsY;
use curve25519_dalek::montgomery::MontgomeryPoint;
use zeroize::Zeroizing;

use super::hash::{self, Domain};
use super::seal::{FileKey, NONCE_BYTES, SECRET_OVERHEAD, SealError, SealKey};
use super::sign::{PublicKey, SecretKey, SignError};
use crate::types::{AccountId, FileId, limits};

/// Bytes of a sealed file key: the ephemeral public key and the box.
pub const SEALED_BYTES: usize = 32 + SECRET_OVERHEAD + 32;
const _: () = assert!(SEALED_BYTES <= limits::SHARE_SEALED_BYTES_MAX, "a sealed key fits the ledger's record");

/// What a sealed key belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// The file.
    pub file: FileId,
    /// Its owner, who shares it.
    pub from: AccountId,
    /// Who may read it.
    pub to: AccountId,
}

impl Bound {
    fn bytes(&self) -> Vec<u8> {
        [self.file.as_bytes().as_slice(), self.from.as_bytes(), self.to.as_bytes()].concat()
    }
}

/// Randomness of one sealing: never used twice.
pub struct Fresh {
    /// The ephemeral secret key.
    pub ephemeral: Zeroizing<[u8; 32]>,
    /// The box's nonce.
    pub nonce: [u8; NONCE_BYTES],
}

/// Seals a file's key to an account; `SEALED_BYTES` long. Errors: `Key` for an account that is no usable public key.
pub fn seal(key: &FileKey, bound: &Bound, fresh: &Fresh) -> Result<Vec<u8>, SignError> {
    PublicKey::from_bytes(bound.to.as_bytes())?;
    let point = CompressedEdwardsY(*bound.to.as_bytes()).decompress().ok_or(SignError::Key)?;
    let ephemeral = MontgomeryPoint::mul_base_clamped(*fresh.ephemeral).to_bytes();
    let common = Zeroizing::new(point.to_montgomery().mul_clamped(*fresh.ephemeral).to_bytes());
    let sealed = box_key(&common, &ephemeral, &bound.to).seal(&fresh.nonce, &bound.bytes(), key.as_bytes());
    Ok([ephemeral.as_slice(), &sealed].concat())
}

/// Opens what `seal` made, with the receiver's key. Errors: `SealError`.
pub fn open(sealed: &[u8], bound: &Bound, receiver: &SecretKey) -> Result<FileKey, SealError> {
    let (ephemeral, sealed) = sealed.split_first_chunk::<32>().ok_or(SealError)?;
    let common = Zeroizing::new(MontgomeryPoint(*ephemeral).mul_clamped(*receiver.exchange_scalar()).to_bytes());
    // A point of small order has the same in common with every key: whoever sent it proves nothing and hides nothing.
    if *common == [0; 32] {
        return Err(SealError);
    }
    let opened = box_key(&common, ephemeral, &receiver.public().account_id()).open(&bound.bytes(), sealed)?;
    opened.as_slice().try_into().map(FileKey::from_bytes).map_err(|_| SealError)
}

/// The key of the box. The curve's secret is the same for several encodings of its points, so both public keys go in.
fn box_key(common: &[u8; 32], ephemeral: &[u8; 32], to: &AccountId) -> SealKey {
    let mut hasher = hash::hasher(Domain::Share);
    hasher.update(common).update(ephemeral).update(to.as_bytes());
    SealKey::from_bytes(*hasher.finalize().as_bytes())
}

#[cfg(test)]
mod tests {
    use curve25519_dalek::constants::EIGHT_TORSION;
    use proptest::prelude::*;

    use super::*;

    fn account(n: u8) -> SecretKey {
        SecretKey::from_seed(&[n; 32])
    }

    fn bound() -> Bound {
        let id = |n| account(n).public().account_id();
        Bound { file: FileId::from_bytes([9; 32]), from: id(1), to: id(2) }
    }

    fn fresh() -> Fresh {
        Fresh { ephemeral: Zeroizing::new([5; 32]), nonce: [6; NONCE_BYTES] }
    }

    fn key() -> FileKey {
        FileKey::from_bytes([7; 32])
    }

    #[test]
    fn the_receiver_opens_it_and_nobody_else_does() {
        let sealed = seal(&key(), &bound(), &fresh()).expect("a usable key");
        assert_eq!(sealed.len(), SEALED_BYTES);
        assert_eq!(open(&sealed, &bound(), &account(2)), Ok(key()));
        for other in [1, 3] {
            assert_eq!(open(&sealed, &bound(), &account(other)), Err(SealError));
            let to = account(other).public().account_id();
            assert_eq!(open(&sealed, &Bound { to, ..bound() }, &account(other)), Err(SealError));
        }
    }

    #[test]
    fn moved_to_another_file_or_another_giver_it_does_not_open() {
        let sealed = seal(&key(), &bound(), &fresh()).expect("a usable key");
        let file = FileId::from_bytes([8; 32]);
        assert_eq!(open(&sealed, &Bound { file, ..bound() }, &account(2)), Err(SealError));
        let from = account(3).public().account_id();
        assert_eq!(open(&sealed, &Bound { from, ..bound() }, &account(2)), Err(SealError));
    }

    #[test]
    fn points_of_small_order_are_refused_on_both_sides() {
        for point in EIGHT_TORSION {
            let to = AccountId::from_bytes(point.compress().to_bytes());
            assert_eq!(seal(&key(), &Bound { to, ..bound() }, &fresh()).err(), Some(SignError::Key));
            // The box such a point leads to is known to all: it must not open although it is made right.
            let ephemeral = point.to_montgomery().to_bytes();
            let key_of_all = box_key(&[0; 32], &ephemeral, &bound().to);
            let forged = key_of_all.seal(&[0; NONCE_BYTES], &bound().bytes(), &[7; 32]);
            let forged = [ephemeral.as_slice(), &forged].concat();
            assert_eq!(open(&forged, &bound(), &account(2)), Err(SealError));
        }
        let no_point = AccountId::from_bytes([2; 32]);
        assert_eq!(seal(&key(), &Bound { to: no_point, ..bound() }, &fresh()).err(), Some(SignError::Key));
    }

    #[test]
    fn every_changed_bit_and_every_other_length_is_noticed() {
        let sealed = seal(&key(), &bound(), &fresh()).expect("a usable key");
        for at in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[at / 8] ^= 1 << (at % 8);
            // The highest bit of a Montgomery coordinate has no meaning (RFC 7748, section 5), but it is hashed.
            assert_eq!(open(&changed, &bound(), &account(2)), Err(SealError), "bit {at}");
        }
        for len in 0..sealed.len() {
            assert_eq!(open(&sealed[..len], &bound(), &account(2)), Err(SealError));
        }
        assert_eq!(open(&[sealed.as_slice(), &[0]].concat(), &bound(), &account(2)), Err(SealError));
    }

    #[test]
    fn other_randomness_gives_other_bytes_throughout() {
        let one = seal(&key(), &bound(), &fresh()).expect("a usable key");
        let two = Fresh { ephemeral: Zeroizing::new([4; 32]), nonce: [5; NONCE_BYTES] };
        let two = seal(&key(), &bound(), &two).expect("a usable key");
        assert_ne!((&one[..32], &one[56..]), (&two[..32], &two[56..]));
    }

    #[test]
    fn the_format_stays_as_it_is() {
        let sealed = seal(&key(), &bound(), &fresh()).expect("a usable key");
        expect_test::expect!["50a61409b1ddd0325e9b16b700e719e9772c07000b1bd7786e907c653d20495d0606060606060606060606060606060606060606060606062e65d4eff72175a46efcac370b62ced06b5cc6ac9bbbdb87bd44b3f78c801d6e8b82c78818795fbe34202691400e74af"].assert_eq(&hex::encode(sealed));
    }

    proptest! {
        #[test]
        fn every_account_opens_what_was_sealed_to_it(seed: [u8; 32], ephemeral: [u8; 32], nonce: [u8; NONCE_BYTES], secret: [u8; 32]) {
            let receiver = SecretKey::from_seed(&seed);
            let bound = Bound { to: receiver.public().account_id(), ..bound() };
            let fresh = Fresh { ephemeral: Zeroizing::new(ephemeral), nonce };
            let sealed = seal(&FileKey::from_bytes(secret), &bound, &fresh).expect("a usable key");
            prop_assert_eq!(open(&sealed, &bound, &receiver), Ok(FileKey::from_bytes(secret)));
        }
    }
}

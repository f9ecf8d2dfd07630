//! Claims about manifests: the owner opens them, nobody else does, and parts that do not fit are found.

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::crypto::SecretKey;
use crate::files::parameters::Parameters;
use crate::types::AccountId;

fn owner() -> AccountKeys {
    AccountKeys::from_master(&[1; 32])
}

fn encoded(plain_len: u64, stored_len: u64, compression: Compression) -> Encoded {
    let layout = Layout::new(Parameters::for_nodes(6), stored_len).expect("within the limits");
    Encoded { plain_len, compression, layout }
}

fn sealed_with(owner: &AccountKeys, encoded: &Encoded, name: &str) -> Result<PublicManifest, SealManifestError> {
    let key = FileKey::from_bytes([3; 32]);
    let secrets = PutSecrets { owner, key: &key, nonce: [4; 32], seal_nonces: [[5; 24], [6; 24]] };
    let facts = FileFacts { name: name.to_owned(), created: Millis::new(99), kind: FileKind::Content };
    seal(&secrets, encoded, &[SlotRoot::from_bytes([7; 32]); 6], &facts)
}

fn sealed() -> PublicManifest {
    sealed_with(&owner(), &encoded(1000, 1000, Compression::None), "holiday.jpg").expect("the parts fit")
}

/// The manifest with another sealed part.
fn resealed(change: impl FnOnce(&mut Sealed)) -> PublicManifest {
    let mut manifest = sealed();
    let mut sealed = wire::decode(&manifest.sealed, limits::MANIFEST_SEALED_BYTES_MAX).expect("our own bytes");
    change(&mut sealed);
    manifest.sealed = wire::encode(&sealed);
    manifest
}

#[test]
fn the_owner_finds_what_was_sealed() {
    let open = OpenManifest::open(&sealed(), &owner()).expect("the owner opens it");
    assert_eq!(
        open.facts(),
        &FileFacts { name: "holiday.jpg".to_owned(), created: Millis::new(99), kind: FileKind::Content }
    );
    assert_eq!((open.plain_len(), open.compression()), (1000, Compression::None));
    assert_eq!(open.layout(), &encoded(1000, 1000, Compression::None).layout);
    assert_eq!(open.plan_all().plain_len(), 1000);
    assert_eq!(open.plan_seek_table(), None);
}

#[test]
fn the_public_part_tells_neither_name_nor_key() {
    let bytes = wire::encode(&sealed());
    for secret in [b"holiday".as_slice(), &[3; 32]] {
        assert!(!bytes.windows(secret.len()).any(|window| window == secret));
    }
}

#[test]
fn another_account_does_not_open_it() {
    let other = AccountKeys::from_master(&[2; 32]);
    assert_eq!(OpenManifest::open(&sealed(), &other).err(), Some(OpenError::NotOwner));
    let claimed = PublicManifest { owner: other.account_id(), ..sealed() };
    assert_eq!(OpenManifest::open(&claimed, &other).err(), Some(OpenError::Sealed));
    // The right account's name with another wrapping key.
    let mixed = AccountKeys { wrapping: other.wrapping.clone(), ..owner() };
    assert_eq!(OpenManifest::open(&sealed(), &mixed).err(), Some(OpenError::Sealed));
}

#[test]
fn a_key_that_was_not_committed_to_is_refused_before_it_is_used() {
    let public = wire::encode(&PublicManifest { sealed: Vec::new(), ..sealed() });
    let other_key = owner().wrapping.seal(&[8; 24], &public, &[9; 32]);
    let manifest = resealed(|sealed| sealed.wrapped_key = other_key);
    assert_eq!(OpenManifest::open(&manifest, &owner()).err(), Some(OpenError::Commitment));
    let manifest = resealed(|sealed| sealed.commitment[0] ^= 1);
    assert_eq!(OpenManifest::open(&manifest, &owner()).err(), Some(OpenError::Commitment));
}

#[test]
fn a_sealed_part_does_not_open_in_another_public_part() {
    let changes: [fn(&mut PublicManifest); 4] = [
        |m| m.nonce[0] ^= 1,
        |m| m.slots[2].root = SlotRoot::from_bytes([0; 32]),
        |m| m.chunk_bytes /= 2,
        |m| (m.data, m.parity) = (m.data + 1, m.parity - 1),
    ];
    for change in changes {
        let mut manifest = sealed();
        change(&mut manifest);
        let len = manifest.slot_len();
        manifest.slots.iter_mut().for_each(|slot| slot.len = len);
        assert_eq!(OpenManifest::open(&manifest, &owner()).err(), Some(OpenError::Sealed));
    }
}

#[test]
fn lengths_that_contradict_each_other_are_refused() {
    let cases = [
        encoded(999, 1000, Compression::None),
        encoded(1001, 1000, Compression::None),
        encoded(1 << 40, 1000, Compression::Zstd),
        encoded(u64::MAX, 1000, Compression::Zstd),
    ];
    for encoded in cases {
        let manifest = sealed_with(&owner(), &encoded, "").expect("the public part fits");
        let want = OpenError::Facts("plain and stored length do not fit");
        assert_eq!(OpenManifest::open(&manifest, &owner()).err(), Some(want));
    }
}

#[test]
fn a_manifest_with_wrong_parts_is_not_made() {
    let fits = encoded(5, 5, Compression::None);
    let long = "n".repeat(limits::FILE_NAME_BYTES_MAX);
    assert!(sealed_with(&owner(), &fits, &long).is_ok());
    let over = sealed_with(&owner(), &fits, &(long + "n"));
    assert_eq!(over, Err(SealManifestError::Name(limits::FILE_NAME_BYTES_MAX + 1)));
    let three_nodes = Layout::new(Parameters::for_nodes(3), 5).expect("within the limits");
    let wrong = sealed_with(&owner(), &Encoded { layout: three_nodes, ..fits }, "");
    let want = ManifestError::Shards { data: 2, parity: 1, slots: 6 };
    assert_eq!(wrong, Err(SealManifestError::Manifest(want)));
}

#[test]
fn a_debug_text_tells_no_key() {
    let text = format!("{:?} {:?}", OpenManifest::open(&sealed(), &owner()), SecretKey::from_seed(&[3; 32]));
    assert!(!text.contains("3, 3, 3") && !text.contains("0303"));
}

proptest! {
    #[test]
    fn a_changed_bit_or_length_does_not_open(at in any::<Index>(), bit in 0_u32..8) {
        let good = wire::encode(&sealed());
        let mut changed = good.clone();
        changed[at.index(good.len())] ^= 1_u8 << bit;
        for bytes in [&changed[..], &good[..at.index(good.len())]] {
            if let Ok(manifest) = wire::decode::<PublicManifest>(bytes, 1 << 20) {
                prop_assert!(OpenManifest::open(&manifest, &owner()).is_err());
            }
        }
    }

    #[test]
    fn a_sealed_part_of_noise_never_panics(noise in prop::collection::vec(any::<u8>(), 0..300), owned: bool) {
        let owner_id = if owned { owner().account_id() } else { AccountId::from_bytes([0; 32]) };
        let manifest = PublicManifest { sealed: noise, owner: owner_id, ..sealed() };
        prop_assert!(OpenManifest::open(&manifest, &owner()).is_err());
    }
}

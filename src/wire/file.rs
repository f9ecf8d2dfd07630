//! What the chain and the storage nodes know of a file: no name, no key, no content.

use borsh::{BorshDeserialize, BorshSerialize};

use crate::crypto::{Domain, SecretKey, Signature, hash, sign::SignError};
use crate::types::{AccountId, ChainId, FileId, Height, NodeId, SlotRoot, limits};

/// Ciphertext of the longest file: each segment has a tag of 16 bytes.
const CIPHER_BYTES_MAX: u64 = limits::FILE_BYTES_MAX + limits::FILE_BYTES_MAX / limits::SEGMENT_BYTES as u64 * 16;

/// One slot of a file: shard j of all its chunks, concatenated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct SlotInfo {
    /// BLAKE3 hash of the slot's bytes.
    pub root: SlotRoot,
    /// Their number.
    pub len: u64,
}

/// The public part of a manifest. Its hash is the file's id.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct PublicManifest {
    /// Version of the file format: 1.
    pub version: u16,
    /// Whose file it is; in the id, so that nobody can open the deal in another's place.
    pub owner: AccountId,
    /// Random; makes the id unique and seeds the placement.
    pub nonce: [u8; 32],
    /// Shards that restore a chunk.
    pub data: u8,
    /// Further shards.
    pub parity: u8,
    /// Ciphertext bytes that are erasure-coded at once; the last chunk may be shorter.
    pub chunk_bytes: u32,
    /// Length of the whole ciphertext, bytes.
    pub cipher_len: u64,
    /// The slots, `data + parity` of them, in order.
    pub slots: Vec<SlotInfo>,
    /// Name, sizes, compression and key commitment, sealed for the owner.
    pub sealed: Vec<u8>,
}

/// Why a public manifest is not well formed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// A version that this program does not know.
    #[error("file format {0} is not known")]
    Version(u16),
    /// Impossible numbers of shards.
    #[error("{data} data and {parity} parity shards with {slots} slots: at least 1 data shard, at most {max} slots, one slot a shard", max = limits::SLOTS_MAX)]
    Shards {
        /// Data shards.
        data: u8,
        /// Parity shards.
        parity: u8,
        /// Slots listed.
        slots: usize,
    },
    /// Chunk size outside of the bounds.
    #[error("chunks of {0} bytes; allowed are {min} to {max}", min = limits::CHUNK_BYTES_MIN, max = limits::CHUNK_BYTES_MAX)]
    ChunkBytes(u32),
    /// Sealed part too long.
    #[error("{0} sealed bytes; at most {max}", max = limits::MANIFEST_SEALED_BYTES_MAX)]
    Sealed(usize),
    /// No ciphertext, or more than a file may have.
    #[error("{0} bytes of ciphertext; allowed are 1 to {max}", max = CIPHER_BYTES_MAX)]
    CipherLen(u64),
    /// Ciphertext or slot lengths that do not fit each other.
    #[error("slot of {have} bytes where the file's length asks for {need}")]
    SlotLen {
        /// Bytes listed.
        have: u64,
        /// Bytes expected.
        need: u64,
    },
}

impl PublicManifest {
    /// The file's id.
    pub fn id(&self) -> FileId {
        FileId::from_bytes(hash(Domain::File, &super::encode(self)))
    }
    /// Bytes that each slot must have: for every chunk the chunk's length over `data`, rounded up.
    pub fn slot_len(&self) -> u64 {
        let (data, chunk) = (u64::from(self.data.max(1)), u64::from(self.chunk_bytes.max(1)));
        let whole = (self.cipher_len / chunk).saturating_mul(chunk.div_ceil(data));
        whole.saturating_add((self.cipher_len % chunk).div_ceil(data))
    }
    /// Whether the numbers are within the limits and fit each other.
    /// Errors: each of `ManifestError`.
    pub fn check(&self) -> Result<(), ManifestError> {
        if self.version != 1 {
            return Err(ManifestError::Version(self.version));
        }
        let (data, parity, slots) = (self.data, self.parity, self.slots.len());
        if data == 0 || slots > limits::SLOTS_MAX || usize::from(data) + usize::from(parity) != slots {
            return Err(ManifestError::Shards { data, parity, slots });
        }
        if !(limits::CHUNK_BYTES_MIN..=limits::CHUNK_BYTES_MAX).contains(&self.chunk_bytes) {
            return Err(ManifestError::ChunkBytes(self.chunk_bytes));
        }
        if self.sealed.len() > limits::MANIFEST_SEALED_BYTES_MAX {
            return Err(ManifestError::Sealed(self.sealed.len()));
        }
        if self.cipher_len == 0 || self.cipher_len > CIPHER_BYTES_MAX {
            return Err(ManifestError::CipherLen(self.cipher_len));
        }
        let need = self.slot_len();
        match self.slots.iter().find(|slot| slot.len != need) {
            Some(slot) => Err(ManifestError::SlotLen { have: slot.len, need }),
            None => Ok(()),
        }
    }
}

/// What a storage node signs once a slot is durable on its disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct StorageReceipt {
    /// The node that holds the slot.
    pub node: NodeId,
    /// The slot's place in the file.
    pub slot: u8,
    /// The last height whose block may take the receipt: the node keeps a slot without a deal no longer.
    pub until: Height,
    /// Signature of the node key over chain, file, place, last height, root and length.
    pub signature: Signature,
}

impl StorageReceipt {
    /// The bytes that `signature` signs: chain, file, place, last height, root and length.
    pub fn bytes(chain: &ChainId, file: &FileId, slot: u8, until: Height, info: &SlotInfo) -> Vec<u8> {
        super::encode(&(chain, file, slot, until, info))
    }
    /// Signs that the slot is held, for blocks up to a height.
    pub fn sign(chain: &ChainId, file: &FileId, slot: u8, until: Height, info: &SlotInfo, key: &SecretKey) -> Self {
        let signature = key.sign(Domain::Receipt, &Self::bytes(chain, file, slot, until, info));
        Self { node: key.public().node_id(), slot, until, signature }
    }
    /// Verifies the signature for a file's slot. Errors: those of `crypto::sign::verify`.
    pub fn verify(&self, chain: &ChainId, file: &FileId, info: &SlotInfo) -> Result<(), SignError> {
        let bytes = Self::bytes(chain, file, self.slot, self.until, info);
        crate::crypto::sign::verify(self.node.as_bytes(), Domain::Receipt, &bytes, &self.signature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> PublicManifest {
        PublicManifest {
            version: 1,
            owner: AccountId::from_bytes([1; 32]),
            nonce: [2; 32],
            data: 4,
            parity: 2,
            chunk_bytes: 1 << 20,
            cipher_len: (1 << 20) + 5,
            slots: vec![SlotInfo { root: SlotRoot::from_bytes([3; 32]), len: (1 << 18) + 2 }; 6],
            sealed: vec![4, 5, 6],
        }
    }

    #[test]
    fn slot_lengths_follow_from_the_ciphertext() {
        let mut manifest = manifest();
        assert_eq!(manifest.check(), Ok(()));
        manifest.slots[3].len += 1;
        assert_eq!(manifest.check(), Err(ManifestError::SlotLen { have: (1 << 18) + 3, need: (1 << 18) + 2 }));
        for len in [0, u64::MAX] {
            manifest.cipher_len = len;
            assert_eq!(manifest.check(), Err(ManifestError::CipherLen(len)));
        }
    }

    #[test]
    fn numbers_out_of_bounds_are_refused() {
        let with = |change: fn(&mut PublicManifest)| {
            let mut manifest = manifest();
            change(&mut manifest);
            manifest.check()
        };
        assert_eq!(with(|m| m.version = 2), Err(ManifestError::Version(2)));
        assert_eq!(with(|m| m.data = 0), Err(ManifestError::Shards { data: 0, parity: 2, slots: 6 }));
        assert_eq!(with(|m| m.parity = 3), Err(ManifestError::Shards { data: 4, parity: 3, slots: 6 }));
        assert_eq!(with(|m| m.chunk_bytes = 0), Err(ManifestError::ChunkBytes(0)));
        assert_eq!(with(|m| m.sealed = vec![0; 8193]), Err(ManifestError::Sealed(8193)));
    }

    #[test]
    fn the_canonical_bytes_stay_as_they_are() {
        let key = SecretKey::from_seed(&[7; 32]);
        let chain = ChainId::from_bytes([8; 32]);
        let receipt = StorageReceipt::sign(&chain, &manifest().id(), 3, Height::new(9), &manifest().slots[3], &key);
        let manifest_bytes = hex::encode(super::super::encode(&manifest())) + "\n";
        expect_test::expect_file!["../../fixtures/wire/public_manifest.hex"].assert_eq(&manifest_bytes);
        let receipt_bytes = hex::encode(super::super::encode(&receipt)) + "\n";
        expect_test::expect_file!["../../fixtures/wire/storage_receipt.hex"].assert_eq(&receipt_bytes);
        expect_test::expect!["ef0c8d8d69aae5a109f7f8cfb2b9a6f2bb29293c57aeb05b385cb8573309420d"]
            .assert_eq(&manifest().id().to_string());
    }

    #[test]
    fn a_receipt_holds_for_its_chain_file_slot_and_content_only() {
        let key = SecretKey::from_seed(&[7; 32]);
        let (chain, file, info) = (ChainId::from_bytes([8; 32]), manifest().id(), manifest().slots[0]);
        let receipt = StorageReceipt::sign(&chain, &file, 0, Height::new(9), &info, &key);
        assert_eq!(receipt.verify(&chain, &file, &info), Ok(()));
        let other_file = FileId::from_bytes([0; 32]);
        let longer = SlotInfo { len: info.len + 1, ..info };
        let other_slot = StorageReceipt { slot: 1, ..receipt };
        let later = StorageReceipt { until: Height::new(10), ..receipt };
        assert!(later.verify(&chain, &file, &info).is_err());
        assert!(receipt.verify(&ChainId::from_bytes([9; 32]), &file, &info).is_err());
        assert!(receipt.verify(&chain, &other_file, &info).is_err());
        assert!(receipt.verify(&chain, &file, &longer).is_err());
        assert!(other_slot.verify(&chain, &file, &info).is_err());
    }

    proptest::proptest! {
        #[test]
        fn manifests_round_trip_and_noise_never_panics(
            numbers: (u16, u8, u8, u32, u64), slots in proptest::collection::vec(proptest::prelude::any::<([u8; 32], u64)>(), 0..20),
            noise in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200),
        ) {
            let (version, data, parity, chunk_bytes, cipher_len) = numbers;
            let slots = slots.iter().map(|(root, len)| SlotInfo { root: SlotRoot::from_bytes(*root), len: *len }).collect();
            let built = PublicManifest { version, data, parity, chunk_bytes, cipher_len, slots, sealed: noise.clone(), ..manifest() };
            let bytes = super::super::encode(&built);
            let _ = built.check();
            proptest::prop_assert_eq!(super::super::decode::<PublicManifest>(&bytes, 1 << 16), Ok(built));
            if let Ok(decoded) = super::super::decode::<PublicManifest>(&noise, 1 << 16) {
                proptest::prop_assert_eq!(super::super::encode(&decoded), noise);
            }
        }
    }
}

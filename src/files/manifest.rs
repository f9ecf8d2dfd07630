//! Manifests: what a file's owner needs to read it again, sealed inside what everyone may know.
//!
//! The sealed part holds the file key, wrapped for the owner's account, the commitment to it, and the private facts (name, sizes,
//! compression) under a key derived from the file key, so that sharing a file is wrapping one key. Both are bound to the
//! public part: a sealed part that was moved to another file does not open.
//! Not here: the public part's bytes (`wire::file`), who may open a deal (`ledger`).

use std::ops::Range;

use borsh::{BorshDeserialize, BorshSerialize};

use super::parameters::Layout;
use super::pipeline::{
    Compression, DecodeError as PipelineError, Decoder, Encoded, RangeError, RangePlan, SeekTable, SeekTableError,
};
use crate::crypto::keys::AccountKeys;
use crate::crypto::seal::{FileKey, NONCE_BYTES, SealError};
use crate::types::{Millis, SlotRoot, limits};
use crate::wire::file::ManifestError;
use crate::wire::{self, DecodeError, PublicManifest, SlotInfo};

/// The version of the file format.
const VERSION: u16 = 1;

/// What a file is to its owner. Nobody else can tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum FileKind {
    /// A file that was put by itself.
    #[default]
    Alone,
    /// What a file in the account's folders holds.
    Content,
    /// A page of the folders themselves.
    Page,
}

/// What the owner wants to know again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileFacts {
    /// The file's name.
    pub name: String,
    /// When it was put, since the Unix epoch.
    pub created: Millis,
    /// What it is.
    pub kind: FileKind,
}

/// The private facts as they are sealed.
#[derive(BorshSerialize, BorshDeserialize)]
struct Private {
    name: String,
    created: Millis,
    kind: FileKind,
    plain_len: u64,
    compression: Compression,
}

/// The sealed part of a manifest.
#[derive(BorshSerialize, BorshDeserialize)]
struct Sealed {
    commitment: [u8; 32],
    wrapped_key: Vec<u8>,
    private: Vec<u8>,
}

/// Why a manifest cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealManifestError {
    /// A name that is too long.
    #[error("a name of {0} bytes; at most {max} are allowed", max = limits::FILE_NAME_BYTES_MAX)]
    Name(usize),
    /// Parts that do not fit each other.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

/// Why a manifest does not open.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The public part is not well formed.
    #[error(transparent)]
    Public(#[from] ManifestError),
    /// It belongs to another account.
    #[error("the file belongs to another account")]
    NotOwner,
    /// The sealed part was changed, or sealed for another key or file.
    #[error("the manifest's sealed part was changed, or belongs to another file")]
    Sealed,
    /// The wrapped key is not the one that was committed to.
    #[error("the file key does not fit its commitment")]
    Commitment,
    /// The sealed facts and the public part contradict each other.
    #[error("the manifest contradicts itself: {0}")]
    Facts(&'static str),
}

impl From<SealError> for OpenError {
    fn from(_: SealError) -> Self {
        Self::Sealed
    }
}

impl From<DecodeError> for OpenError {
    fn from(_: DecodeError) -> Self {
        Self::Sealed
    }
}

/// The secrets and the randomness of one put.
pub struct PutSecrets<'a> {
    /// The owner's keys.
    pub owner: &'a AccountKeys,
    /// The file's key, that of the encoder.
    pub key: &'a FileKey,
    /// The file's nonce, that of the encoder.
    pub nonce: [u8; 32],
    /// Two nonces, random and new for every manifest.
    pub seal_nonces: [[u8; NONCE_BYTES]; 2],
}

/// Puts a manifest together. `slots` are the roots of the slots, in order. Errors: each of `SealManifestError`.
pub fn seal(
    secrets: &PutSecrets<'_>,
    encoded: &Encoded,
    slots: &[SlotRoot],
    facts: &FileFacts,
) -> Result<PublicManifest, SealManifestError> {
    if facts.name.len() > limits::FILE_NAME_BYTES_MAX {
        return Err(SealManifestError::Name(facts.name.len()));
    }
    let (layout, parameters) = (encoded.layout, encoded.layout.parameters());
    let slot = |root: &SlotRoot| SlotInfo { root: *root, len: layout.slot_len() };
    let mut manifest = PublicManifest {
        version: VERSION,
        owner: secrets.owner.account_id(),
        nonce: secrets.nonce,
        data: parameters.data(),
        parity: parameters.parity(),
        chunk_bytes: parameters.chunk_bytes(),
        cipher_len: layout.cipher_len(),
        slots: slots.iter().map(slot).collect(),
        sealed: Vec::new(),
    };
    let private = Private {
        name: facts.name.clone(),
        created: facts.created,
        kind: facts.kind,
        plain_len: encoded.plain_len,
        compression: encoded.compression,
    };
    let public = wire::encode(&manifest);
    let [wrap_nonce, private_nonce] = &secrets.seal_nonces;
    let sealed = Sealed {
        commitment: secrets.key.commitment(),
        wrapped_key: secrets.owner.wrapping.seal(wrap_nonce, &public, secrets.key.as_bytes()),
        private: secrets.key.manifest_key().seal(private_nonce, &public, &wire::encode(&private)),
    };
    manifest.sealed = wire::encode(&sealed);
    manifest.check()?;
    Ok(manifest)
}

/// A manifest that its owner opened, and whose parts fit each other.
#[derive(Clone, Debug)]
pub struct OpenManifest {
    facts: FileFacts,
    plain_len: u64,
    compression: Compression,
    layout: Layout,
    key: FileKey,
    nonce: [u8; 32],
}

impl OpenManifest {
    /// Opens and checks a manifest. Errors: each of `OpenError`.
    pub fn open(manifest: &PublicManifest, keys: &AccountKeys) -> Result<Self, OpenError> {
        manifest.check()?;
        if manifest.owner != keys.account_id() {
            return Err(OpenError::NotOwner);
        }
        let sealed: Sealed = wire::decode(&manifest.sealed, limits::MANIFEST_SEALED_BYTES_MAX)?;
        let public = wire::encode(&PublicManifest { sealed: Vec::new(), ..manifest.clone() });
        let key = keys.wrapping.open(&public, &sealed.wrapped_key)?;
        let key = FileKey::from_bytes(key.as_slice().try_into().map_err(|_| OpenError::Sealed)?);
        if key.commitment() != sealed.commitment {
            return Err(OpenError::Commitment);
        }
        let private = key.manifest_key().open(&public, &sealed.private)?;
        let private: Private = wire::decode(&private, limits::MANIFEST_SEALED_BYTES_MAX)?;
        let layout = layout_of(manifest, &private).map_err(OpenError::Facts)?;
        let facts = FileFacts { name: private.name, created: private.created, kind: private.kind };
        let (plain_len, compression) = (private.plain_len, private.compression);
        Ok(Self { facts, plain_len, compression, layout, key, nonce: manifest.nonce })
    }
    /// Name and time.
    pub const fn facts(&self) -> &FileFacts {
        &self.facts
    }
    /// Bytes of plaintext.
    pub const fn plain_len(&self) -> u64 {
        self.plain_len
    }
    /// How they are stored.
    pub const fn compression(&self) -> Compression {
        self.compression
    }
    /// How the stored bytes are laid out.
    pub const fn layout(&self) -> &Layout {
        &self.layout
    }
    /// The plan that reads the whole file.
    pub fn plan_all(&self) -> RangePlan {
        let stored = 0..self.layout.stored_len();
        match self.compression {
            Compression::None => RangePlan::stored(self.layout, stored),
            // The table of frames is itself a frame, one that expands to nothing.
            Compression::Zstd => RangePlan::expanded(self.layout, stored, 0..self.plain_len, 0..self.plain_len),
        }
    }
    /// The plan that reads the seek table of a compressed file, for `seek_table`; nothing for other files.
    pub fn plan_seek_table(&self) -> Option<RangePlan> {
        let range = SeekTable::range(self.plain_len, self.layout.stored_len()).ok()?;
        (self.compression == Compression::Zstd).then(|| RangePlan::stored(self.layout, range))
    }
    /// The seek table from the bytes that its plan yields. Errors: `SeekTableError`.
    pub fn seek_table(&self, bytes: &[u8]) -> Result<SeekTable, SeekTableError> {
        SeekTable::parse(bytes, self.plain_len, self.layout.stored_len())
    }
    /// The plan that reads a range of the plaintext; a compressed file's needs the seek table, unless it is the whole.
    /// Errors: each of `RangeError`.
    pub fn plan(&self, plain: Range<u64>, table: Option<&SeekTable>) -> Result<RangePlan, RangeError> {
        let len = self.plain_len;
        if plain.start > plain.end || plain.end > len {
            return Err(RangeError::Outside { start: plain.start, end: plain.end, len });
        }
        match (self.compression, table) {
            _ if plain == (0..len) => Ok(self.plan_all()),
            (Compression::None, _) => Ok(RangePlan::stored(self.layout, plain)),
            (Compression::Zstd, None) => Err(RangeError::SeekTable),
            (Compression::Zstd, Some(table)) => {
                let (stored, frames) = table.frames(&plain);
                Ok(RangePlan::expanded(self.layout, stored, frames, plain))
            }
        }
    }
    /// The decoder for a plan of this file. Errors: `Frame` when zstd has no memory.
    pub fn decoder(&self, plan: RangePlan) -> Result<Decoder, PipelineError> {
        Decoder::new(&self.key, &self.nonce, self.compression, plan)
    }
}

/// The layout, if private and public part agree, or what they contradict each other in.
fn layout_of(manifest: &PublicManifest, private: &Private) -> Result<Layout, &'static str> {
    let layout = Layout::of_manifest(manifest).map_err(|_| "no file has this much ciphertext")?;
    if private.name.len() > limits::FILE_NAME_BYTES_MAX {
        return Err("its name is too long");
    }
    let (plain_len, stored_len) = (private.plain_len, layout.stored_len());
    let fits = match private.compression {
        Compression::None => plain_len == stored_len,
        Compression::Zstd => plain_len <= limits::FILE_BYTES_MAX && SeekTable::range(plain_len, stored_len).is_ok(),
    };
    if fits { Ok(layout) } else { Err("plain and stored length do not fit") }
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;

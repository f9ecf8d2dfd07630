//! Files: from plaintext to slots on other people's disks, and back.
//!
//! plaintext ▸ zstd frames, if they shrink ▸ STREAM segments ▸ stripes ▸ Reed-Solomon shards ▸ slots, and each step back
//! checks what it gets. Slot j is shard j of all stripes, one after another, and is named by its BLAKE3 root.
//!
//! Pure: bytes in, bytes out; keys and nonces are arguments. Memory is bounded by a few stripes, whatever the file.
//! Not here: who holds a slot according to the chain (`ledger`), sending and storing (`node`).

pub mod durability;
pub mod erasure;
pub mod manifest;
pub mod parameters;
pub mod pipeline;
pub mod placement;
pub mod proof;
pub mod quorum;
pub mod tree;

pub use erasure::{Erasure, MissingFeature, check_cpu};
pub use manifest::{FileFacts, FileKind, OpenError, OpenManifest};
pub use parameters::{Layout, ParameterError, Parameters};
pub use pipeline::{Compress, Compression, Decoder, Encoded, Encoder, RangePlan, SeekTable, Stripe, StripeRead};
pub use placement::{Candidate, Placement, PlacementError};
pub use proof::{Grain, Path, ProofError, SlotHasher, SlotTree};
pub use quorum::{QuorumError, Share, Thresholds, Wanted};

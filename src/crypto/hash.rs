//! BLAKE3 with a domain: `derive_key` mode, one context string per purpose (BLAKE3 specification, section 2.3).

use std::sync::LazyLock;

macro_rules! domains {
    ($($(#[$doc:meta])* $name:ident = $context:literal;)*) => {
        /// What a hash is for. The context strings are part of the format and never change.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        pub enum Domain { $($(#[$doc])* $name,)* }

        static HASHERS: LazyLock<Vec<blake3::Hasher>> =
            LazyLock::new(|| vec![$(blake3::Hasher::new_derive_key($context),)*]);

        #[cfg(test)]
        const CONTEXTS: &[&str] = &[$($context,)*];
    };
}

domains! {
    /// Genesis file to chain id.
    Chain = "trullo 2026 chain id v1";
    /// Block header to block hash.
    Block = "trullo 2026 block header v1";
    /// Transaction body to transaction id, also what its sender signs.
    Tx = "trullo 2026 transaction v1";
    /// Opaque payload of a block, where no Merkle root is taken.
    Payload = "trullo 2026 block payload v1";
    /// Vote, commit vote, timeout and proposal: what a validator signs.
    Consensus = "trullo 2026 consensus signature v1";
    /// Validator set to its hash in the header.
    ValidatorSet = "trullo 2026 validator set v1";
    /// Storage receipt: what a storage node signs.
    Receipt = "trullo 2026 storage receipt v1";
    /// Upload ticket: what an account signs so that a storage node takes a slot of it.
    Ticket = "trullo 2026 upload ticket v1";
    /// Login token of the HTTP interface to what is kept of it.
    Token = "trullo 2026 api token v1";
    /// Gossip envelope: what a node signs.
    Gossip = "trullo 2026 gossip v1";
    /// Gossip message to its id, by which duplicates are known.
    GossipId = "trullo 2026 gossip id v1";
    /// Node registration: what the node key signs to accept its account.
    NodeBinding = "trullo 2026 node binding v1";
    /// Public part of a manifest to file id.
    File = "trullo 2026 file manifest v1";
    /// File key to its commitment.
    KeyCommitment = "trullo 2026 file key commitment v1";
    /// What two X25519 keys have in common to the key of what is sealed between them.
    Share = "trullo 2026 share v1";
    /// Capability to its checksum.
    Capability = "trullo 2026 capability v1";
    /// Placement: a node's rank for a slot.
    Placement = "trullo 2026 placement v1";
    /// Beacon: the chain of preimages and what is mixed of them.
    Beacon = "trullo 2026 beacon v1";
    /// Storage audits: what an epoch asks of a node.
    Audit = "trullo 2026 storage audit v1";
    /// State key to its place in the state tree.
    StateKey = "trullo 2026 state key v1";
    /// Node of the state tree.
    StateNode = "trullo 2026 state tree v1";
    /// Row of a database: table, key and value to the check that finds damage.
    StoreRow = "trullo 2026 store row v1";
    /// Leaf of a Merkle tree over transactions or receipts.
    MerkleLeaf = "trullo 2026 merkle leaf v1";
    /// Inner node of such a tree.
    MerkleNode = "trullo 2026 merkle node v1";
    /// Root of such a tree together with its number of leaves.
    MerkleRoot = "trullo 2026 merkle root v1";
    /// Key derivation from an account's or a file's secret.
    Derive = "trullo 2026 derive v1";
    /// What a put reads to the name of its session, so that the same put goes on after an interruption.
    Session = "trullo 2026 put session v1";
    /// Coefficients of a batched signature check.
    Batch = "trullo 2026 signature batch v1";
}

/// A hasher of the domain, for input that comes in pieces.
pub fn hasher(domain: Domain) -> blake3::Hasher {
    HASHERS[domain as usize].clone()
}

/// The 32-byte hash of the bytes in the domain.
pub fn hash(domain: Domain, bytes: &[u8]) -> [u8; 32] {
    *hasher(domain).update(bytes).finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_domain_has_its_own_context() {
        let distinct: std::collections::BTreeSet<_> = CONTEXTS.iter().collect();
        assert_eq!(distinct.len(), CONTEXTS.len());
        assert_ne!(hash(Domain::Block, b"x"), hash(Domain::Tx, b"x"));
        assert_eq!(hash(Domain::Block, b"x"), blake3::derive_key(CONTEXTS[Domain::Block as usize], b"x"));
    }
}

//! State tree: one root over all records, and proofs of single ones. The `jmt` crate over BLAKE3, version = height.
//!
//! What a store has to keep: the nodes of each `TreeUpdate` (`nodes`), by their key bytes, and nothing else. The tree holds
//! hashes of values only; the records themselves are the store's own table, by `Key::bytes`. A node is never changed. Those in
//! `stale` are no longer part of the tree from that height on; they may be removed as soon as no older height has to be
//! proven any more. A key's bytes begin with the height that wrote the node, so the nodes of a height lie together.
//! Blocks that are not final yet keep their updates in memory, stacked by an `Overlay`: two blocks of one height have
//! nodes with equal keys, so only those of the final one may reach the store.

use std::cell::RefCell;
use std::collections::BTreeMap;

use borsh::{BorshDeserialize, BorshSerialize};
use jmt::proof::SparseMerkleProof;
use jmt::storage::{LeafNode, Node, NodeKey};
use jmt::{JellyfishMerkleTree, KeyHash, OwnedValue, RootHash, SimpleHasher, ValueHash, Version};

use super::effects::Changes;
use super::key::Key;
use crate::crypto::{Domain, hash};
use crate::types::{Height, StateRoot, limits};
use crate::wire::{DecodeError, decode, encode};

/// BLAKE3, keyed for the nodes of the state tree. What the tree hashes is short, so it is gathered and hashed at once.
pub(super) struct NodeHasher {
    bytes: Vec<u8>,
}

/// Key of the node hashes.
fn node_hash_key() -> &'static [u8; 32] {
    static KEY: std::sync::LazyLock<[u8; 32]> = std::sync::LazyLock::new(|| hash(Domain::StateNode, &[]));
    &KEY
}

impl SimpleHasher for NodeHasher {
    fn new() -> Self {
        // An inner node has 16 bytes of its kind and two hashes, a leaf three bytes less.
        Self { bytes: Vec::with_capacity(80) }
    }
    fn update(&mut self, data: &[u8]) {
        self.bytes.extend_from_slice(data);
    }
    fn finalize(self) -> [u8; 32] {
        Self::hash(&self.bytes)
    }
    fn hash(data: impl AsRef<[u8]>) -> [u8; 32] {
        *blake3::keyed_hash(node_hash_key(), data.as_ref()).as_bytes()
    }
}

fn place(key: &Key) -> KeyHash {
    KeyHash(hash(Domain::StateKey, &key.bytes()))
}

/// The bytes under which a store keeps a node: the height that wrote it, big-endian, the number of nibbles on its path, and
/// the nibbles, two a byte.
pub(super) fn key_bytes(key: &NodeKey) -> Vec<u8> {
    let path = key.nibble_path();
    let mut out = Vec::with_capacity(48);
    out.extend_from_slice(&key.version().to_be_bytes());
    out.push(u8::try_from(path.num_nibbles()).unwrap_or(u8::MAX));
    let nibbles: Vec<u8> = path.nibbles().map(u8::from).collect();
    out.extend(nibbles.chunks(2).map(|pair| pair.iter().fold(0, |byte, nibble| (byte << 4) | nibble)));
    out
}

/// Longest encoding of a node, bytes: sixteen children of at most 64 bytes.
const NODE_BYTES_MAX: usize = 2_048;

/// Where the nodes of a tree come from: the store's table.
pub trait TreeReader {
    /// Why this node could not read.
    type Error;
    /// The bytes of a node, as `TreeUpdate::nodes` gave them.
    fn node(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Self::Error>;
}

/// Why the tree could not be read. Always this node's own failure.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TreeError<E> {
    /// The store failed.
    #[error("the state tree could not be read")]
    Read(#[source] E),
    /// Nodes are missing or contradict each other.
    #[error("the state tree is damaged: {0}")]
    Damaged(String),
}

/// What one block changes in the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeUpdate {
    height: Height,
    root: StateRoot,
    nodes: BTreeMap<NodeKey, Node>,
    stale: Vec<NodeKey>,
}

impl TreeUpdate {
    /// The block's height.
    pub fn height(&self) -> Height {
        self.height
    }
    /// The root after the block, for its header.
    pub fn root(&self) -> StateRoot {
        self.root
    }
    /// The new nodes, as key and bytes.
    pub fn nodes(&self) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
        self.nodes.iter().map(|(key, node)| (key_bytes(key), encode(node)))
    }
    /// Keys of the nodes that are part of the tree before this height, and not from it on.
    pub fn stale(&self) -> impl Iterator<Item = Vec<u8>> {
        self.stale.iter().map(key_bytes)
    }
}

/// Updates of unfinalized blocks over the finalized tree, oldest first and without gaps.
pub struct Overlay<'a, R> {
    base: &'a R,
    pending: &'a [&'a TreeUpdate],
}

impl<'a, R: TreeReader> Overlay<'a, R> {
    /// Stacks the updates of a block's unfinalized ancestors, oldest first, over the finalized tree.
    pub fn new(base: &'a R, pending: &'a [&'a TreeUpdate]) -> Self {
        Self { base, pending }
    }
    fn get(&self, key: &NodeKey) -> Result<Option<Node>, TreeError<R::Error>> {
        // A node's version says which block wrote it.
        if let Ok(at) = self.pending.binary_search_by_key(&key.version(), |update| update.height.get()) {
            return Ok(self.pending.get(at).and_then(|update| update.nodes.get(key)).cloned());
        }
        let Some(bytes) = self.base.node(&key_bytes(key)).map_err(TreeError::Read)? else { return Ok(None) };
        let node = decode(&bytes, NODE_BYTES_MAX).map_err(|error| TreeError::Damaged(error.to_string()))?;
        if fits(key, &node) { Ok(Some(node)) } else { Err(TreeError::Damaged(format!("misplaced node at {key:?}"))) }
    }
}

/// Whether a node can stand where it was found. The crate asserts on it, so damage is caught before.
fn fits(key: &NodeKey, node: &Node) -> bool {
    let path = key.nibble_path();
    match node {
        Node::Null => path.is_empty(),
        Node::Leaf(leaf) => {
            let full = leaf.key_hash().0;
            let nibbles = full.iter().flat_map(|byte| [byte >> 4, byte & 15]);
            path.nibbles().map(u8::from).zip(nibbles).all(|(a, b)| a == b)
        }
        Node::Internal(node) => node.children_unsorted().next().is_some() && path.num_nibbles() < 64,
    }
}

/// The reader that the crate wants. It cannot carry our errors, so the first failure is kept here.
struct Adapter<'a, 'b, R: TreeReader> {
    overlay: &'a Overlay<'b, R>,
    failure: RefCell<Option<TreeError<R::Error>>>,
    /// Proving unwraps what the reader answers. It gets a stand-in for a node that could not be read, and the proof is
    /// thrown away.
    stand_in: bool,
}

impl<'a, 'b, R: TreeReader> Adapter<'a, 'b, R> {
    fn new(overlay: &'a Overlay<'b, R>, stand_in: bool) -> Self {
        Self { overlay, failure: RefCell::new(None), stand_in }
    }
    fn fail<T>(&self, error: TreeError<R::Error>) -> anyhow::Result<T> {
        self.failure.borrow_mut().get_or_insert(error);
        Err(anyhow::Error::msg("the failure is kept in the adapter"))
    }
    fn outcome<T>(self, result: anyhow::Result<T>) -> Result<T, TreeError<R::Error>> {
        match self.failure.into_inner() {
            Some(error) => Err(error),
            None => result.map_err(|error| TreeError::Damaged(error.to_string())),
        }
    }
}

impl<R: TreeReader> jmt::storage::TreeReader for Adapter<'_, '_, R> {
    fn get_node(&self, key: &NodeKey) -> anyhow::Result<Node> {
        let found = match self.get_node_option(key) {
            Ok(Some(node)) => Ok(node),
            Ok(None) => self.fail(TreeError::Damaged(format!("no node at {key:?}"))),
            Err(error) => Err(error),
        };
        let stand_in = || Node::Leaf(LeafNode::new(KeyHash([0; 32]), ValueHash([0; 32])));
        found.or_else(|error| if self.stand_in { Ok(stand_in()) } else { Err(error) })
    }
    fn get_node_option(&self, key: &NodeKey) -> anyhow::Result<Option<Node>> {
        self.overlay.get(key).or_else(|error| self.fail(error))
    }
    /// The crate hands a value through beside its proof; nobody takes it from here.
    fn get_value_option(&self, _: Version, _: KeyHash) -> anyhow::Result<Option<OwnedValue>> {
        Ok(Some(Vec::new()))
    }
    fn get_rightmost_leaf(&self) -> anyhow::Result<Option<(NodeKey, LeafNode)>> {
        Ok(None)
    }
}

/// The tree after a block: the new root and the nodes to write. The reader holds the tree of the height before, or
/// nothing for genesis. Cost: about 20 us a changed key.
/// Errors: `Read`, `Damaged`.
pub fn update<R: TreeReader>(
    reader: &Overlay<'_, R>,
    height: Height,
    changes: &Changes,
) -> Result<TreeUpdate, TreeError<R::Error>> {
    let adapter = Adapter::new(reader, false);
    let tree = JellyfishMerkleTree::<_, NodeHasher>::new(&adapter);
    let removes = changes.values().any(Option::is_none);
    let result = if removes || changes.is_empty() {
        let values = changes.iter().map(|(key, record)| (place(key), record.as_ref().map(|record| record.bytes())));
        tree.put_value_set(values, height.get())
    } else {
        // Shares the hashing of the upper levels among all keys, which the crate offers for blocks without removals.
        let values = changes.iter().filter_map(|(key, record)| Some((place(key), record.as_ref()?.bytes()))).collect();
        let result = tree.batch_put_value_sets(vec![values], None, height.get());
        result.map(|(roots, batch)| (roots.first().copied().unwrap_or(RootHash([0; 32])), batch))
    };
    let (root, batch) = adapter.outcome(result)?;
    Ok(TreeUpdate {
        height,
        root: StateRoot::from_bytes(root.0),
        nodes: batch.node_batch.nodes().clone(),
        stale: batch.stale_node_index_batch.into_iter().map(|stale| stale.node_key).collect(),
    })
}

/// The root of the tree after a block. Errors: `Read`, `Damaged`; the latter too when the height's nodes are not there.
pub fn root<R: TreeReader>(reader: &Overlay<'_, R>, height: Height) -> Result<StateRoot, TreeError<R::Error>> {
    let adapter = Adapter::new(reader, false);
    let tree = JellyfishMerkleTree::<_, NodeHasher>::new(&adapter);
    let result = tree.get_root_hash(height.get());
    adapter.outcome(result).map(|root| StateRoot::from_bytes(root.0))
}

/// Why a state proof proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the proof does not fit the state root: {0}")]
pub struct ProofError(String);

/// That a record has certain bytes under a state root, or that there is none. About 100 bytes for each doubling of the
/// number of records, never more than `limits::STATE_PROOF_BYTES_MAX`.
#[derive(Clone, Debug, PartialEq)]
pub struct StateProof(SparseMerkleProof<NodeHasher>);

impl StateProof {
    /// Checks that the record at `key` has exactly these bytes, or with `None` that there is no such record.
    /// Errors: `ProofError`.
    pub fn verify(&self, root: &StateRoot, key: &Key, record: Option<&[u8]>) -> Result<(), ProofError> {
        let root = RootHash(*root.as_bytes());
        self.0.verify(root, place(key), record).map_err(|error| ProofError(error.to_string()))
    }
    /// The proof's canonical bytes.
    pub fn bytes(&self) -> Vec<u8> {
        encode(&self.0)
    }
    /// The proof of some bytes. Errors: `TooLong`, `Malformed`.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        decode(bytes, limits::STATE_PROOF_BYTES_MAX).map(Self)
    }
}

impl BorshSerialize for StateProof {
    fn serialize<W: std::io::Write>(&self, writer: &mut W) -> std::io::Result<()> {
        self.0.serialize(writer)
    }
}

impl BorshDeserialize for StateProof {
    fn deserialize_reader<R: std::io::Read>(reader: &mut R) -> std::io::Result<Self> {
        SparseMerkleProof::deserialize_reader(reader).map(Self)
    }
}

/// Proves what a key's record is after a block, or that there is none. Errors: `Read`, `Damaged`; the latter too when
/// the height's nodes were removed.
pub fn prove<R: TreeReader>(
    reader: &Overlay<'_, R>,
    height: Height,
    key: &Key,
) -> Result<StateProof, TreeError<R::Error>> {
    let adapter = Adapter::new(reader, true);
    let tree = JellyfishMerkleTree::<_, NodeHasher>::new(&adapter);
    let result = tree.get_with_proof(place(key), height.get());
    adapter.outcome(result).map(|(_, proof)| StateProof(proof))
}

#[cfg(test)]
#[path = "tree_tests.rs"]
mod tests;

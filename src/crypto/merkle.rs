//! Merkle roots over lists: `rs_merkle` over BLAKE3, hardened.
//!
//! The crate alone leaves three holes, closed here: leaves and inner nodes have domains of their own, so neither passes
//! for the other; the number of leaves is hashed into the root, so a promoted odd node cannot pass for a leaf of a shorter
//! list; and a proof has exactly the hashes that its place asks for, so there is one proof for each leaf.

use borsh::{BorshDeserialize, BorshSerialize};
use rs_merkle::{Hasher, MerkleProof, MerkleTree};

use super::hash::{Domain, hash};

/// The hash of one list entry. Made from the entry's canonical bytes only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf([u8; 32]);

impl Leaf {
    /// The leaf of an entry.
    pub fn of(bytes: &[u8]) -> Self {
        Self(hash(Domain::MerkleLeaf, bytes))
    }
}

#[derive(Clone)]
struct Nodes;

impl Hasher for Nodes {
    type Hash = [u8; 32];

    /// Not called: leaves come hashed, and `concat_and_hash` is our own.
    fn hash(data: &[u8]) -> [u8; 32] {
        hash(Domain::MerkleNode, data)
    }
    fn concat_and_hash(left: &[u8; 32], right: Option<&[u8; 32]>) -> [u8; 32] {
        match right {
            Some(right) => hash(Domain::MerkleNode, &[*left, *right].concat()),
            None => *left,
        }
    }
    fn hash_size() -> usize {
        32
    }
}

fn tree(leaves: &[Leaf]) -> MerkleTree<Nodes> {
    let raw: Vec<_> = leaves.iter().map(|leaf| leaf.0).collect();
    MerkleTree::from_leaves(&raw)
}

fn seal(count: u64, top: &[u8; 32]) -> [u8; 32] {
    let mut bytes = [0; 40];
    bytes[..8].copy_from_slice(&count.to_be_bytes());
    bytes[8..].copy_from_slice(top);
    hash(Domain::MerkleRoot, &bytes)
}

/// The root of a list; of the empty one too. Cost: two hashes an entry.
pub fn root(leaves: &[Leaf]) -> [u8; 32] {
    let top = tree(leaves).root().unwrap_or([0; 32]);
    seal(leaves.len() as u64, &top)
}

/// That an entry stands at a place of a list with a known root.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Inclusion {
    /// The entry's place.
    pub index: u32,
    /// Length of the list.
    pub count: u32,
    /// Sibling hashes from the leaf upwards.
    pub hashes: Vec<[u8; 32]>,
}

/// Why a proof of inclusion proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InclusionError {
    /// The place is not in the list.
    #[error("place {index} in a list of {count}")]
    Index {
        /// The place.
        index: u32,
        /// Length of the list.
        count: u32,
    },
    /// Too many or too few hashes.
    #[error("{have} hashes where the place asks for {need}")]
    Hashes {
        /// Hashes in the proof.
        have: usize,
        /// Hashes that this place needs.
        need: usize,
    },
    /// Another root comes out.
    #[error("the proof leads to another root")]
    Root,
}

/// Proves the entry at a place; nothing if the list has no such place. Cost: that of `root`.
pub fn prove(leaves: &[Leaf], index: usize) -> Option<Inclusion> {
    leaves.get(index)?;
    let hashes = tree(leaves).proof(&[index]).proof_hashes().to_vec();
    Some(Inclusion { index: u32::try_from(index).ok()?, count: u32::try_from(leaves.len()).ok()?, hashes })
}

impl Inclusion {
    /// Whether the entry stands at the place in the list with this root.
    /// Errors: `Index`, `Hashes`, `Root`.
    pub fn verify(&self, root: &[u8; 32], leaf: Leaf) -> Result<(), InclusionError> {
        let (index, count) = (self.index, self.count);
        if index >= count {
            return Err(InclusionError::Index { index, count });
        }
        let (have, need) = (self.hashes.len(), siblings(index, count));
        if have != need {
            return Err(InclusionError::Hashes { have, need });
        }
        let proof = MerkleProof::<Nodes>::new(self.hashes.clone());
        let top = proof.root(&[index as usize], &[leaf.0], count as usize).map_err(|_| InclusionError::Root)?;
        if seal(u64::from(count), &top) == *root { Ok(()) } else { Err(InclusionError::Root) }
    }
}

/// How many siblings a place has on its way up: one for each level where it is not the odd last node.
fn siblings(mut index: u32, mut count: u32) -> usize {
    let mut need = 0;
    while count > 1 {
        if index ^ 1 < count {
            need += 1;
        }
        index /= 2;
        count = count.div_ceil(2);
    }
    need
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn leaves(count: usize) -> Vec<Leaf> {
        (0..count).map(|n| Leaf::of(&n.to_le_bytes())).collect()
    }

    proptest! {
        #[test]
        fn every_place_has_a_proof_and_it_proves_that_place_alone(count in 1_usize..70, pick in any::<prop::sample::Index>()) {
            let (list, index) = (leaves(count), pick.index(count));
            let root = root(&list);
            let proof = prove(&list, index).expect("a place of the list");
            prop_assert_eq!(proof.verify(&root, list[index]), Ok(()));
            for other in 0..count {
                let moved = Inclusion { index: other as u32, ..proof.clone() };
                prop_assert_eq!(moved.verify(&root, list[index]).is_ok(), other == index);
                prop_assert_eq!(proof.verify(&root, list[other]).is_ok(), other == index);
            }
            prop_assert_eq!(prove(&list, count), None);
        }

        #[test]
        fn surplus_missing_and_changed_hashes_are_refused(count in 1_usize..70, pick in any::<prop::sample::Index>(), bit in 0_usize..256) {
            let (list, index) = (leaves(count), pick.index(count));
            let root = root(&list);
            let proof = prove(&list, index).expect("a place of the list");
            let mut longer = proof.clone();
            longer.hashes.push([0; 32]);
            let (have, need) = (longer.hashes.len(), proof.hashes.len());
            prop_assert_eq!(longer.verify(&root, list[index]), Err(InclusionError::Hashes { have, need }));
            if let Some(at) = need.checked_sub(1) {
                let mut shorter = proof.clone();
                shorter.hashes.pop();
                prop_assert_eq!(shorter.verify(&root, list[index]), Err(InclusionError::Hashes { have: at, need }));
                let mut changed = proof.clone();
                changed.hashes[at][bit / 8] ^= 1 << (bit % 8);
                prop_assert_eq!(changed.verify(&root, list[index]), Err(InclusionError::Root));
            }
        }

        #[test]
        fn another_count_is_another_root(count in 1_usize..70, other in 0_u32..200) {
            let list = leaves(count);
            let proof = prove(&list, 0).expect("a place of the list");
            let claimed = Inclusion { count: other, ..proof };
            prop_assert_eq!(claimed.verify(&root(&list), list[0]).is_ok(), other as usize == count);
        }

        #[test]
        fn random_bytes_never_panic_the_decoder_or_the_check(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(proof) = borsh::from_slice::<Inclusion>(&bytes) {
                prop_assert!(proof.verify(&[1; 32], Leaf::of(b"x")).is_err());
            }
        }
    }

    /// In a list of three the last leaf is promoted: it is also the right child of the top node. A verifier that took the
    /// count from the prover and had no domains would take the list for one of two, [node(a, b), c].
    #[test]
    fn a_promoted_odd_node_cannot_pass_for_a_leaf_of_a_shorter_list() {
        let list = leaves(3);
        let root = root(&list);
        let inner = Nodes::concat_and_hash(&list[0].0, Some(&list[1].0));
        let forged = Inclusion { index: 1, count: 2, hashes: vec![inner] };
        assert_eq!(forged.verify(&root, list[2]), Err(InclusionError::Root), "the count is part of the root");
        let honest = prove(&list, 2).expect("a place of the list");
        assert_eq!((honest.count, honest.hashes.as_slice()), (3, &[inner][..]));
        let raw = [list[0].0, list[1].0].concat();
        assert_ne!(Leaf::of(&raw).0, inner, "an entry made of two leaves is no inner node");
    }

    #[test]
    fn lists_with_a_repeated_tail_have_other_roots() {
        let (abc, mut abcc) = (leaves(3), leaves(3));
        abcc.push(abc[2]);
        assert_ne!(root(&abc), root(&abcc));
        assert_ne!(root(&[]), root(&leaves(1)));
    }
}

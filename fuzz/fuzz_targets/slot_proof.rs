//! Proofs of blocks and leaves of a slot, and of entries of a list: what passes is what is there.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use trullo::crypto::merkle::{self, Inclusion, Leaf};
use trullo::files::proof::{LEAF_BYTES, verify};
use trullo::files::{Grain, SlotHasher, SlotTree};
use trullo_fuzz::{bytes, canonical, edited};

/// A slot of two blocks and a bit, and its tree.
static SLOT: LazyLock<(Vec<u8>, SlotTree)> = LazyLock::new(|| {
    let bytes: Vec<u8> = (0..2 * Grain::Block.bytes() + 3 * LEAF_BYTES + 100).map(|n| (n % 251) as u8).collect();
    let mut hasher = SlotHasher::new();
    hasher.update(&bytes);
    (bytes, hasher.finish())
});
static LIST: LazyLock<Vec<Leaf>> = LazyLock::new(|| (0..7_u8).map(|n| Leaf::of(&[n])).collect());
static INCLUSION: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    (0..7).filter_map(|n| merkle::prove(&LIST, n)).map(|proof| trullo::wire::encode(&proof)).collect()
});

fn leaf(which: u64, claimed: u64, len: u64, edits: &[u8], at: usize) {
    let (slot, tree) = &*SLOT;
    let block = which / 256;
    let start = block as usize * Grain::Block.bytes();
    let around = &slot[start..(start + Grain::Block.bytes()).min(slot.len())];
    let path = tree.leaf_path(which, around).expect("the slot has the leaf");
    let start = which as usize * LEAF_BYTES;
    let honest = slot[start..(start + LEAF_BYTES).min(slot.len())].to_vec();
    let (content, beside) = edits.split_at(at.min(edits.len()));
    let given = edited(honest, content);
    let beside = edited(path.concat(), beside);
    let (path, _) = beside.as_chunks::<32>();
    if verify(tree.root(), len, Grain::Leaf, claimed, &given, path).is_ok() {
        let start = claimed as usize * LEAF_BYTES;
        assert!(slot[start..].starts_with(&given), "what is proven is what is there");
    }
    if verify(tree.root(), len, Grain::Block, claimed, &given, path).is_ok() {
        panic!("a leaf passes for a block");
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((head, rest)) = data.split_first_chunk::<12>() else { return };
    let (slot, tree) = &*SLOT;
    let leaves = Grain::Leaf.count(slot.len() as u64);
    let which = u64::from(u16::from_le_bytes([head[0], head[1]])) % leaves;
    let number = u64::from_le_bytes(head[4..].try_into().expect("eight bytes"));
    let claimed = if head[2] & 1 == 0 { which } else { number };
    let len = if head[2] & 2 == 0 { tree.len() } else { number };
    leaf(which, claimed, len, rest, usize::from(head[3]));
    let _ = SlotTree::load(tree.root(), number % (1 << 24), rest.as_chunks::<32>().0.to_vec());

    let proof = bytes(rest, &INCLUSION);
    let Some(proof) = canonical::<Inclusion>(&proof, 1 << 16) else { return };
    for (place, leaf) in LIST.iter().enumerate() {
        if proof.verify(&merkle::root(&LIST), *leaf).is_ok() {
            assert_eq!(proof.index as usize, place, "an entry stands where it is proven");
        }
    }
});

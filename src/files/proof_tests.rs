//! Claims about slot proofs, against `blake3::hash` and against tampering.

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

const B: usize = limits::SLOT_BLOCK_BYTES;

fn bytes(len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new().update(&len.to_le_bytes()).finalize_xof().fill(&mut out);
    out
}

fn tree_of(slot: &[u8]) -> SlotTree {
    let mut hasher = SlotHasher::new();
    hasher.update(slot);
    hasher.finish()
}

fn part(slot: &[u8], grain: Grain, index: u64) -> &[u8] {
    let start = index as usize * grain.bytes();
    &slot[start..start + grain.len_at(slot.len() as u64, index).expect("within the slot")]
}

fn path(tree: &SlotTree, slot: &[u8], grain: Grain, index: u64) -> Path {
    let path = match grain {
        Grain::Block => tree.block_path(index),
        Grain::Leaf => tree.leaf_path(index, part(slot, Grain::Block, index / 256)),
    };
    path.expect("within the slot")
}

fn any_grain() -> impl Strategy<Value = Grain> {
    prop_oneof![Just(Grain::Block), Just(Grain::Leaf)]
}

#[test]
fn every_block_of_slots_of_all_shapes_is_proven() {
    for len in [1, 1023, 1024, 1025, B - 1, B, B + 1, 2 * B, 2 * B + 5, 3 * B, 4 * B, 5 * B + 7, 7 * B, 8 * B + 1] {
        let slot = bytes(len);
        let tree = tree_of(&slot);
        assert_eq!(tree.root().as_bytes(), blake3::hash(&slot).as_bytes(), "{len} bytes");
        assert_eq!(tree.len(), len as u64);
        for index in 0..Grain::Block.count(len as u64) {
            let path = tree.block_path(index).expect("within the slot");
            let block = part(&slot, Grain::Block, index);
            assert_eq!(verify(tree.root(), len as u64, Grain::Block, index, block, &path), Ok(()), "{len}, {index}");
        }
    }
}

#[test]
fn an_empty_slot_has_a_root_and_nothing_to_prove() {
    let tree = SlotHasher::new().finish();
    assert!(tree.is_empty() && tree.blocks().is_empty());
    assert_eq!(tree.root().as_bytes(), blake3::hash(b"").as_bytes());
    for grain in [Grain::Block, Grain::Leaf] {
        assert_eq!(verify(tree.root(), 0, grain, 0, b"", &[]), Err(ProofError::Index { index: 0, count: 0 }));
    }
    assert_eq!(tree.block_path(0), Err(ProofError::Index { index: 0, count: 0 }));
}

#[test]
fn surplus_and_missing_hashes_are_refused() {
    let slot = bytes(3 * B);
    let tree = tree_of(&slot);
    let good = tree.block_path(0).expect("within the slot");
    let check = |path: &[ChainingValue]| verify(tree.root(), tree.len(), Grain::Block, 0, &slot[..B], path);
    assert_eq!(check(&good), Ok(()));
    assert_eq!(check(&good[..1]), Err(ProofError::PathLength { have: 1, need: 2 }));
    assert_eq!(check(&[&good[..], &[[0; 32]]].concat()), Err(ProofError::PathLength { have: 3, need: 2 }));
    let small = bytes(10);
    let root = *tree_of(&small).root();
    let surplus = verify(&root, 10, Grain::Block, 0, &small, &[[0; 32]]);
    assert_eq!(surplus, Err(ProofError::PathLength { have: 1, need: 0 }));
}

#[test]
fn an_inner_node_does_not_pass_for_a_slot() {
    // The two chaining values under the root, taken for 64 bytes of content.
    let tree = tree_of(&bytes(2 * B));
    let inner = tree.blocks().concat();
    assert_eq!(verify(tree.root(), 64, Grain::Block, 0, &inner, &[]), Err(ProofError::Root));
}

#[test]
fn chaining_values_that_do_not_lead_to_the_root_are_not_loaded() {
    for len in [0, 10, B, B + 1, 5 * B] {
        let tree = tree_of(&bytes(len));
        let load = |blocks: Vec<ChainingValue>| SlotTree::load(tree.root(), len as u64, blocks);
        assert_eq!(load(tree.blocks().to_vec()).as_ref(), Ok(&tree));
        let surplus = [tree.blocks(), &[[1; 32]]].concat();
        assert!(matches!(load(surplus), Err(ProofError::Length { .. })));
        let mut changed = tree.blocks().to_vec();
        if let Some(last) = changed.last_mut() {
            last[31] ^= 1;
            assert_eq!(load(changed), Err(ProofError::Root));
        }
    }
}

#[test]
fn a_leaf_path_is_not_made_from_wrong_bytes() {
    let slot = bytes(2 * B + 3000);
    let tree = tree_of(&slot);
    let mut wrong = slot[B..2 * B].to_vec();
    assert!(tree.leaf_path(256, &wrong).is_ok());
    assert_eq!(tree.leaf_path(256, &wrong[1..]), Err(ProofError::Length { have: B - 1, need: B }));
    wrong[5] ^= 1;
    assert_eq!(tree.leaf_path(256, &wrong), Err(ProofError::Root));
    assert_eq!(tree.leaf_path(515, &wrong), Err(ProofError::Index { index: 515, count: 515 }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn bytes_in_any_pieces_make_blake3s_hash(len in 0..3 * B + 2000, cuts in prop::collection::vec(any::<Index>(), 0..6)) {
        let slot = bytes(len);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(len + 1)).chain([0, len]).collect();
        cuts.sort_unstable();
        let mut hasher = SlotHasher::new();
        for cut in cuts.windows(2) {
            hasher.update(&slot[cut[0]..cut[1]]);
        }
        let tree = hasher.finish();
        prop_assert_eq!(tree.root(), &SlotRoot::from_bytes(*blake3::hash(&slot).as_bytes()));
        prop_assert_eq!(tree, tree_of(&slot));
    }

    #[test]
    fn any_part_is_proven_and_any_change_is_found(
        len in 1..5 * B, grain in any_grain(), at in any::<Index>(), byte in any::<Index>(), bit in 0_u32..8, hash in any::<Index>(),
    ) {
        let slot = bytes(len);
        let tree = tree_of(&slot);
        let index = at.index(grain.count(len as u64) as usize) as u64;
        let path = path(&tree, &slot, grain, index);
        let good = part(&slot, grain, index);
        let check = |index, bytes: &[u8], path: &[ChainingValue]| verify(tree.root(), len as u64, grain, index, bytes, path);
        prop_assert_eq!(check(index, good, &path), Ok(()));

        let mut changed = good.to_vec();
        changed[byte.index(good.len())] ^= 1_u8 << bit;
        prop_assert_eq!(check(index, &changed, &path), Err(ProofError::Root));
        prop_assert!(check(index, &good[..good.len() - 1], &path).is_err());
        prop_assert!(check(index + 1, good, &path).is_err());
        if !path.is_empty() {
            let mut forged = path.clone();
            forged[hash.index(path.len())][byte.index(32)] ^= 1_u8 << bit;
            prop_assert_eq!(check(index, good, &forged), Err(ProofError::Root));
        }
    }

    #[test]
    fn the_last_part_is_proven_under_the_true_length_only(len in 1..5 * B as u64, grain in any_grain(), forged in 1..6 * B as u64) {
        prop_assume!(forged != len);
        let slot = bytes(len as usize);
        let tree = tree_of(&slot);
        // Both the slot's last part, and whatever is last under the forged length.
        for index in [grain.count(len) - 1, grain.count(forged) - 1] {
            let Some(need) = grain.len_at(forged, index) else { continue };
            let start = index as usize * grain.bytes();
            let mut claimed = slot.get(start..).unwrap_or_default().to_vec();
            claimed.resize(need, 0);
            let true_path = if index < grain.count(len) { path(&tree, &slot, grain, index) } else { Path::new() };
            for path in [true_path, vec![[0; 32]; path_len(index, grain.count(forged))]] {
                prop_assert!(verify(tree.root(), forged, grain, index, &claimed, &path).is_err());
            }
        }
    }

    #[test]
    fn foreign_input_never_panics(
        root: [u8; 32], len: u64, index: u64, grain in any_grain(), bytes in prop::collection::vec(any::<u8>(), 0..2000),
        path in prop::collection::vec(any::<[u8; 32]>(), 0..70),
    ) {
        let root = SlotRoot::from_bytes(root);
        prop_assert!(verify(&root, len, grain, index, &bytes, &path).is_err());
        prop_assert!(verify(&root, bytes.len() as u64, grain, 0, &bytes, &path).is_err());
        let _ = SlotTree::load(&root, len % (1 << 24), path);
    }
}

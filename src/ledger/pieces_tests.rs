//! Pieces add up to the tree's root, and whatever is done to one shows.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::ledger::record::Account;
use crate::ledger::tree::{Overlay, TreeReader, update};
use crate::types::{AccountId, Amount};

/// A store of tree nodes.
#[derive(Default)]
struct Nodes(BTreeMap<Vec<u8>, Vec<u8>>);

impl TreeReader for Nodes {
    type Error = std::convert::Infallible;
    fn node(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Self::Error> {
        Ok(self.0.get(key).cloned())
    }
}

fn state(accounts: impl IntoIterator<Item = u16>) -> Changes {
    let one = |n: u16| {
        let mut raw = [0; 32];
        raw[..2].copy_from_slice(&n.to_be_bytes());
        let account = Account { balance: Amount::new(u64::from(n)), ..Account::default() };
        (Key::Account(AccountId::from_bytes(raw)), Some(Record::Account(account)))
    };
    accounts.into_iter().map(one).collect()
}

fn root_of(state: &Changes) -> StateRoot {
    let tree = update(&Overlay::new(&Nodes::default(), &[]), Height::GENESIS, state);
    tree.expect("a tree in memory").root()
}

/// The state cut to pieces of a depth.
fn cut(state: &Changes, depth: u8) -> (Manifest, Vec<Vec<RawRecord>>) {
    let mut pieces = vec![Vec::new(); count(depth)];
    for (key, record) in state {
        let (key, bytes) = (key.bytes(), record.as_ref().expect("a record").bytes());
        pieces[piece_of(&place(&key), depth) as usize].push((key, bytes));
    }
    for piece in &mut pieces {
        piece.sort_by_key(|(key, _)| place(key));
    }
    let sums = pieces.iter().map(|piece| sum(depth, piece)).collect();
    (Manifest { depth, pieces: sums }, pieces)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn the_pieces_of_a_state_add_up_to_its_root(accounts in prop::collection::btree_set(any::<u16>(), 1..300), depth in 0_u8..3) {
        let state = state(accounts);
        let (root, height) = (root_of(&state), Height::new(1_000));
        let (manifest, pieces) = cut(&state, depth);
        prop_assert_eq!(manifest.check(height, &root), Ok(()));
        // Added to an empty tree one version after the other they make the same tree.
        let base = height.get() - pieces.len() as u64;
        let mut nodes = Nodes(BTreeMap::from([empty_tree(Height::new(base))]));
        let mut last = None;
        for (index, piece) in (0_u32..).zip(&pieces) {
            let changes = manifest.check_piece(index, piece).expect("a good piece");
            let at = Height::new(base + 1 + u64::from(index));
            let tree = update(&Overlay::new(&nodes, &[]), at, &changes).expect("a tree in memory");
            nodes.0.extend(tree.nodes());
            last = Some(tree.root());
        }
        prop_assert_eq!(last, Some(root));
    }
}

#[test]
fn a_piece_that_is_not_what_it_must_be_is_refused() {
    let state = state(0..200);
    let (manifest, pieces) = cut(&state, 1);
    let index = (0..16).find(|index| pieces[*index as usize].len() > 2).expect("a piece with some records");
    let good = &pieces[index as usize];
    assert!(manifest.check_piece(index, good).is_ok());
    let refused = |edit: &dyn Fn(&mut Vec<RawRecord>)| {
        let mut records = good.clone();
        edit(&mut records);
        manifest.check_piece(index, &records).expect_err("not the piece")
    };
    let wrong = |records: &mut Vec<RawRecord>| *records[0].1.last_mut().expect("bytes") ^= 1;
    assert!(matches!(refused(&wrong), PieceError::Piece(_) | PieceError::Record(0)), "a wrong value");
    assert_eq!(refused(&|records| _ = records.remove(1)), PieceError::Piece(index), "a missing record");
    assert_eq!(refused(&|records| _ = records.pop()), PieceError::Piece(index), "cut short");
    assert_eq!(refused(&Vec::clear), PieceError::Piece(index), "nothing");
    assert_eq!(refused(&|records| records.swap(0, 1)), PieceError::Place(1), "another order");
    assert_eq!(refused(&|records| records.insert(1, records[0].clone())), PieceError::Place(1), "one twice");
    let stranger = pieces.iter().enumerate().find(|(at, piece)| *at != index as usize && !piece.is_empty());
    let stranger = stranger.expect("another piece").1[0].clone();
    assert!(matches!(refused(&|records| records.push(stranger.clone())), PieceError::Place(_)), "one of another piece");
    assert_eq!(refused(&|records| records[0].0 = vec![0xff; 3]), PieceError::Place(0), "no key");
    let surplus = (0_u16..).map(|n| super::tests::state([1_000 + n]));
    let surplus = surplus
        .map(|one| one.into_iter().next().expect("one"))
        .find(|(key, _)| piece_of(&place(&key.bytes()), 1) == index);
    let (key, record) = surplus.expect("some account is of the piece");
    let add = |records: &mut Vec<RawRecord>| {
        records.push((key.bytes(), record.as_ref().expect("a record").bytes()));
        records.sort_by_key(|(key, _)| place(key));
    };
    assert_eq!(refused(&add), PieceError::Piece(index), "a surplus record");
}

#[test]
fn a_manifest_of_another_state_or_shape_is_refused() {
    let (now, before) = (state(0..100), state(0..99));
    let (manifest, _) = cut(&now, 1);
    let height = Height::new(16);
    assert_eq!(manifest.check(height, &root_of(&now)), Ok(()));
    assert_eq!(manifest.check(height, &root_of(&before)), Err(PieceError::Root(root_of(&before))), "another height");
    let refused = |edit: &dyn Fn(&mut Manifest)| {
        let mut manifest = manifest.clone();
        edit(&mut manifest);
        manifest.check(height, &root_of(&now)).expect_err("not the manifest")
    };
    assert!(matches!(refused(&|manifest| _ = manifest.pieces.pop()), PieceError::Shape { .. }));
    assert!(matches!(refused(&|manifest| manifest.depth = 5), PieceError::Shape { .. }));
    assert!(matches!(refused(&|manifest| manifest.pieces.swap(0, 1)), PieceError::Root(_)));
    let early = manifest.check(Height::new(15), &root_of(&now));
    assert!(matches!(early, Err(PieceError::Shape { .. })), "more pieces than versions before the height");
}

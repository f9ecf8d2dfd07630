//! The sum tree against a list.

use proptest::prelude::*;

use super::*;
use crate::ledger::State;
use crate::ledger::record::Params;
use crate::ledger::testing::{self, account};
use crate::types::FileId;

const NODE: NodeId = NodeId::from_bytes([7; 32]);

/// A state that reads as empty whatever is asked: what `needs` names is loaded as missing.
fn state(keys: impl Fn(&Draft<'_>, &mut Vec<Key>)) -> State {
    let mut state = State::new();
    let params: Params = testing::genesis().params().expect("a good genesis");
    state.load(Key::Params, Some(Record::Params(params)));
    state.load(Key::Tally, Some(Record::Tally(Box::default())));
    let entry = NodeEntry::new(account(0), testing::genesis().nodes[0].announcement.clone(), Height::GENESIS);
    state.load(Key::Node(NODE), Some(Record::Node(Box::new(entry))));
    let mut list = Vec::new();
    keys(&Draft::new(&state, Height::new(1)), &mut list);
    for key in list {
        if !state.is_loaded(&key) {
            state.load(key, None);
        }
    }
    state
}

fn slot(n: u64) -> SlotId {
    let mut raw = [0; 32];
    raw[..8].copy_from_slice(&n.to_be_bytes());
    SlotId { file: FileId::from_bytes(raw), slot: 0 }
}

/// Leaves enough for three levels.
const MANY: u64 = SUMS_FANOUT * SUMS_FANOUT + 3;

fn all_levels(_: &Draft<'_>, keys: &mut Vec<Key>) {
    keys.push(Key::DueCount(Height::new(testing::EPOCH + 2)));
    keys.extend((0..=SUMS_FANOUT + 1).map(|index| Key::Sums(NODE, 0, index)));
    keys.extend((0..=1).map(|index| Key::Sums(NODE, 1, index)));
    keys.push(Key::Sums(NODE, 2, 0));
}

#[test]
fn a_tree_grows_by_a_level_and_still_finds_every_byte() {
    let state = state(all_levels);
    let mut draft = Draft::new(&state, Height::new(1));
    let mut entry = draft.node(&NODE).expect("loaded").clone();
    for n in 0..MANY {
        assert_eq!(add(&mut draft, NODE, &mut entry, slot(n), n + 1), n);
        let top_sums: u64 = match draft.record(&Key::Sums(NODE, top(entry.next_leaf), 0)) {
            Some(Record::Sums(sums)) => sums.iter().sum(),
            other => panic!("no sums: {other:?}"),
        };
        assert_eq!(top_sums, entry.held.get(), "after {n}");
    }
    assert_eq!(top(entry.next_leaf), 2);
    let mut begin = 0;
    for n in 0..MANY {
        for (byte, offset) in [(begin, 0), (begin + n, n)] {
            let place = find(&draft, NODE, entry.next_leaf, byte).expect("loaded");
            assert_eq!(place, Some(Place { leaf: n, offset, len: n + 1 }));
        }
        begin += n + 1;
    }
    assert_eq!(find(&draft, NODE, entry.next_leaf, begin), Ok(None), "beyond the last byte");
    for n in 0..MANY {
        remove(&mut draft, NODE, &mut entry, n, n + 1);
    }
    let left = draft.done().changes.into_iter().filter(|(_, record)| record.is_some());
    let left: Vec<_> = left.map(|(key, _)| key).filter(|key| matches!(key, Key::Sums(..) | Key::Held(..))).collect();
    assert_eq!((left, entry.held), (Vec::new(), ByteCount::ZERO), "nothing is left of it");
}

#[test]
fn needs_name_the_path_of_a_leaf_and_no_more() {
    let state = state(|_, _| {});
    let (draft, mut keys) = (Draft::new(&state, Height::new(1)), Vec::new());
    add_needs(&draft, NODE, &mut keys);
    let first = Key::DueCount(Height::new(testing::EPOCH + 2));
    assert_eq!(
        keys,
        [Key::Node(NODE), Key::Challenge(NODE), Key::Sums(NODE, 0, 0), first],
        "the second block of the next epoch"
    );
    let leaf = SUMS_FANOUT * SUMS_FANOUT;
    let want = [Key::Sums(NODE, 0, SUMS_FANOUT), Key::Sums(NODE, 1, 1), Key::Sums(NODE, 2, 0)];
    assert_eq!(path(NODE, leaf, leaf + 1).map(|(key, _)| key).collect::<Vec<_>>(), want);
    assert_eq!(find(&draft, NODE, leaf, 0), Err(Key::Sums(NODE, 1, 0)), "it asks for what is not loaded");
}

proptest! {
    #[test]
    fn a_byte_is_found_where_a_list_has_it(
        lens in proptest::collection::vec(1_u64..50, 1..150), gone in proptest::collection::vec(any::<prop::sample::Index>(), 0..80),
    ) {
        let state = state(all_levels);
        let mut draft = Draft::new(&state, Height::new(1));
        let mut entry = draft.node(&NODE).expect("loaded").clone();
        let mut list: Vec<Option<u64>> = Vec::new();
        for (n, len) in (0..).zip(&lens) {
            add(&mut draft, NODE, &mut entry, slot(n), *len);
            list.push(Some(*len));
        }
        for index in gone {
            let leaf = index.index(lens.len());
            if let Some(len) = list[leaf].take() {
                remove(&mut draft, NODE, &mut entry, leaf as u64, len);
            }
        }
        draft.put_node(NODE, entry.clone());
        let mut byte = 0;
        for (leaf, len) in (0..).zip(&list) {
            let Some(len) = len else { continue };
            let want = Place { leaf, offset: len - 1, len: *len };
            prop_assert_eq!(find(&draft, NODE, entry.next_leaf, byte + len - 1), Ok(Some(want)));
            byte += len;
        }
        prop_assert_eq!(entry.held.get(), byte);
        prop_assert_eq!(find(&draft, NODE, entry.next_leaf, byte), Ok(None));
        let held: Vec<_> = (0..).zip(&list).filter_map(|(leaf, len)| len.map(|_| leaf)).collect();
        let below = lens.len() as u64 / 2;
        let want: Vec<_> = held.into_iter().filter(|leaf| *leaf < below).take(16).collect();
        prop_assert_eq!(first(&draft, NODE, below, 16), Ok(want));
    }
}

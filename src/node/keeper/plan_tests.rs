//! Who takes a lost slot, when, and in which order.

use super::*;
use crate::ledger::record::{DealStatus, SlotSet, SlotState};
use crate::types::{AccountId, Amount, FileId, Roles};
use crate::wire::tx::NodeAnnouncement;

const MIB: u64 = 1 << 20;

fn id(n: u8) -> NodeId {
    NodeId::from_bytes([n; 32])
}

fn entry(n: u8, operator: &str, used_mib: u64) -> NodeEntry {
    let announcement = NodeAnnouncement {
        node: id(n),
        name: n.to_string(),
        operator: operator.to_owned(),
        roles: Roles::of(&[Role::Storage]),
        capacity: ByteCount::new(100 * MIB),
        addresses: Vec::new(),
        beacon_head: [0; 32],
        binding: crate::ledger::genesis::NO_BINDING,
    };
    let used = ByteCount::new(used_mib * MIB);
    NodeEntry { used, ..NodeEntry::new(AccountId::from_bytes([n; 32]), announcement, Height::GENESIS) }
}

/// Nodes 1 to `count`, each with an operator of its own.
fn entries(count: u8) -> Vec<NodeEntry> {
    (1..=count).map(|n| entry(n, &n.to_string(), 10)).collect()
}

/// A file of 3 and 2 slots on nodes 1 to 5; those in `lost` are.
fn deal(lost: &[u8]) -> Deal {
    let mut deal = Deal {
        owner: AccountId::from_bytes([0; 32]),
        placement: (1..=5).map(id).collect(),
        slots: vec![SlotState::default(); 5],
        slot_len: 2 * MIB,
        data: 3,
        min_confirmations: 4,
        repair_threshold: 5,
        confirmed: SlotSet::default(),
        lost: SlotSet::default(),
        taken: 0,
        repairing: false,
        price: 1,
        escrow: Amount::ZERO,
        paid: Amount::ZERO,
        ends: Height::new(1_000),
        opened: Height::new(1),
        status: DealStatus::Final { since: Height::new(1) },
    };
    for slot in 0..5 {
        if lost.contains(&slot) {
            deal.lost.insert(slot)
        } else {
            deal.confirmed.insert(slot)
        };
    }
    deal
}

fn slot(slot: u8) -> SlotId {
    SlotId { file: FileId::from_bytes([9; 32]), slot }
}

fn rank(of: u8, entries: &[NodeEntry], deal: &Deal, of_slot: u8) -> Option<usize> {
    Nodes::new(id(of), entries.to_vec()).rank(deal, &slot(of_slot), false)
}

#[test]
fn all_nodes_agree_on_one_order_of_those_that_hold_nothing_of_the_file() {
    let (entries, deal) = (entries(9), deal(&[1]));
    let ranks: Vec<_> = (1..=9).map(|n| rank(n, &entries, &deal, 1)).collect();
    let mut places: Vec<_> = ranks.iter().flatten().copied().collect();
    places.sort_unstable();
    assert_eq!(places, [0, 1, 2, 3, 4], "nodes 6 to 9, and the last holder");
    assert!([1, 3, 4, 5].iter().all(|n| ranks[n - 1].is_none()), "{ranks:?}");
    assert!(ranks[1].is_some(), "the last holder may have it again");
}

#[test]
fn as_many_nodes_set_to_work_at_once_as_slots_of_a_file_are_lost() {
    let entries = entries(9);
    for file in 0..50 {
        let deal = deal(&[0, 2]);
        let first = |slot: u8| {
            let id_of = SlotId { file: FileId::from_bytes([file; 32]), slot };
            let of = |n: &u8| Nodes::new(id(*n), entries.clone()).rank(&deal, &id_of, false) == Some(0);
            (1..=9).filter(of).collect::<Vec<_>>()
        };
        let (one, other) = (first(0), first(2));
        assert!(one.len() == 1 && other.len() == 1 && one != other, "file {file}: {one:?} and {other:?}");
    }
}

#[test]
fn who_is_out_drains_or_is_full_takes_nothing() {
    let mut entries = entries(9);
    entries[5].active = false;
    entries[6].draining = true;
    entries[7].used = ByteCount::new(99 * MIB);
    let nodes = Nodes::new(id(6), entries.clone());
    assert!(!nodes.takes_part());
    let mut takers = nodes.takers(&deal(&[1]), &slot(1), false);
    takers.sort_unstable();
    assert_eq!(takers, [id(2), id(9)]);
}

#[test]
fn an_operator_without_a_slot_of_the_file_comes_first_and_one_with_too_many_not_at_all() {
    let mut entries = entries(9);
    for (at, operator) in [(5, "1"), (6, "1"), (7, "3"), (8, "new")] {
        entries[at].announcement.operator = operator.to_owned();
    }
    entries[1].announcement.operator = "1".to_owned();
    let deal = deal(&[4]);
    let nodes = Nodes::new(id(9), entries);
    let takers = nodes.takers(&deal, &slot(4), false);
    assert_eq!(nodes.operators, 5, "as many as slots: the ledger's bound holds");
    let first: BTreeSet<_> = takers[..2].iter().copied().collect();
    assert_eq!(first, [id(5), id(9)].into(), "{takers:?}");
    assert_eq!(takers[2..], [id(8)], "operator 1 has two slots already, as many as the file can lose");
}

#[test]
fn later_ranks_wait_longer_and_for_large_slots_longer_still() {
    let since = Height::new(100);
    assert_eq!(turn(since, 0, u64::MAX), since);
    assert_eq!(turn(since, 2, 0), Height::new(100 + 2 * STEP_BLOCKS));
    assert_eq!(turn(since, 1, 40 * MIB), Height::new(100 + STEP_BLOCKS + 10));
    assert_eq!(turn(since, usize::MAX, u64::MAX), Height::new(u64::MAX));
}

#[test]
fn the_most_endangered_file_comes_first() {
    let want = |slot_number, kind, spare, since| Want {
        id: slot(slot_number),
        kind,
        spare,
        since: Height::new(since),
        from: Height::GENESIS,
    };
    let mut wants = [
        want(0, Kind::Drained, 2, 1),
        want(1, Kind::Lost, 1, 9),
        want(2, Kind::Lost, 0, 20),
        want(3, Kind::Back, 2, 30),
        want(4, Kind::Lost, 1, 3),
    ];
    sort(&mut wants);
    assert_eq!(wants.map(|want| want.id.slot), [3, 2, 4, 1, 0]);
    assert_eq!((spare(&deal(&[])), spare(&deal(&[0, 1])), spare(&deal(&[0, 1, 2]))), (2, 0, -1));
}

#[test]
fn relief_goes_to_a_clearly_emptier_node_that_ranks_before_the_holder() {
    let mut entries = entries(8);
    entries[0].used = ByteCount::new(90 * MIB);
    let mut given = 0;
    for n in 0..50 {
        let id_of = SlotId { file: FileId::from_bytes([n; 32]), slot: 0 };
        let to = Nodes::new(id(1), entries.clone()).relief(&deal(&[]), &id_of);
        assert!(to.is_none_or(|to| [id(6), id(7), id(8)].contains(&to)), "nobody who has a slot of the file");
        given += u32::from(to.is_some());
    }
    assert!(given > 40, "10 MiB of room against 3 times 90: {given} of 50");
    entries[0].used = ByteCount::new(14 * MIB);
    let id_of = slot(0);
    assert_eq!(Nodes::new(id(1), entries).relief(&deal(&[]), &id_of), None, "14 are no quarter more than 12");
}

#[test]
fn a_slot_that_moves_changes_what_is_free_at_once() {
    let mut nodes = Nodes::new(id(1), entries(2));
    nodes.moved(&id(1), &id(2), ByteCount::new(4 * MIB));
    let used = |n| nodes.get(&id(n)).map(|entry| entry.used.get() / MIB);
    assert_eq!((used(1), used(2)), (Some(6), Some(14)));
}

#[test]
fn what_fails_is_tried_again_later_and_later() {
    let mut backoff = Backoff::default();
    let mut at = Height::new(10);
    let mut pauses = Vec::new();
    for _ in 0..12 {
        backoff.failed(slot(0), at);
        let begin = at;
        while backoff.holds(&slot(0), at) {
            at = Height::new(at.get() + 1);
        }
        pauses.push(at.get() - begin.get());
    }
    assert_eq!((pauses[0], pauses[1], pauses[2]), (8, 16, 32));
    assert_eq!(pauses.last(), Some(&BACKOFF_MAX));
    backoff.done(&slot(0));
    assert!(!backoff.holds(&slot(0), Height::GENESIS));
    backoff.failed(slot(1), at);
    backoff.keep(&BTreeSet::new());
    assert!(!backoff.holds(&slot(1), at));
}

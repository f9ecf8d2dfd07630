//! Nodes that lose bytes or leave while others fail: files stay whole.

use std::collections::BTreeSet;
use std::path::PathBuf;

use trullo::ledger::record::{Deal, NodeEntry};
use trullo::node::Handle;
use trullo::types::{FileId, NodeId};
use trullo::wire::Action;

use crate::cluster::PATIENCE;
use crate::keepers::{deal, entry, is_whole, name_of, put_slots, slot_file, started, until};
use crate::nodes::{get_bytes, sample};

/// Files of this many bytes and more, each a little longer than the one before.
async fn put_many(user: &Handle, count: usize, shards: (u8, u8)) -> Vec<(FileId, Vec<u8>)> {
    let mut files = Vec::new();
    for n in 0..count {
        let bytes = sample(200_000 + n);
        files.push((put_slots(user, &bytes, shards).await.file, bytes));
    }
    files
}

async fn all_readable(user: &Handle, files: &[(FileId, Vec<u8>)]) {
    for (file, bytes) in files {
        assert!(get_bytes(user, *file, None).await.expect("a readable file") == *bytes);
    }
}

fn place_of(deal: &Deal, node: NodeId) -> Option<usize> {
    deal.placement.iter().position(|other| *other == node)
}

/// The zeros of a thief: a slot's file keeps its length, and nothing else.
fn wipe(path: &PathBuf) {
    let len = std::fs::metadata(path).expect("a slot's file").len();
    std::fs::write(path, vec![0; len as usize]).expect("a file of zeros");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_operator_deletes_a_tenth_of_its_bytes_loses_those_slots_to_others() {
    let mut cluster = started(5).await;
    let user = cluster.handle("user-1");
    let files = put_many(&user, 20, (2, 1)).await;
    let placed = |node| files.iter().filter(|(file, _)| place_of(&deal(&user, *file).0, node).is_some()).count();
    let nodes: BTreeSet<_> = files.iter().flat_map(|(file, _)| deal(&user, *file).0.placement).collect();
    let thief = nodes.into_iter().max_by_key(|node| placed(*node)).expect("a holder");
    let name = name_of(&cluster, thief);
    let held = files.iter().filter_map(|(file, _)| Some((*file, place_of(&deal(&user, *file).0, thief)?)));
    let held: Vec<_> = held.collect();
    let stolen = &held[..held.len().div_ceil(10)];
    let path = |(file, slot): &(FileId, usize)| {
        let root = deal(&user, *file).1.slots[*slot].root.to_string();
        slot_file(&cluster, &name, &root)
    };
    let paths: Vec<_> = stolen.iter().map(path).collect();
    // A thief does not fetch again what it has deleted.
    cluster.stop(&name).await;
    cluster.member(&name).settings = "repair_bytes_per_s = \"1 KiB\"";
    cluster.start(&name).await;
    paths.iter().for_each(wipe);
    until(&user, "others hold what was stolen", || {
        stolen.iter().all(|(file, slot)| {
            let now = deal(&user, *file).0;
            now.placement[*slot] != thief && is_whole(&now)
        })
    })
    .await;
    let NodeEntry { audit, .. } = entry(&user, thief);
    assert!(audit.failed > 0 && audit.missed > 0, "{audit:?}");
    let honest =
        |deal: &Deal| deal.placement.iter().filter(|node| **node != thief).all(|node| entry(&user, *node).active);
    assert!(files.iter().all(|(file, _)| honest(&deal(&user, *file).0)), "nobody else was given up");
    all_readable(&user, &files).await;
    cluster.stop(&name).await;
    all_readable(&user, &files).await;
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slot_files_that_are_removed_under_a_running_node_are_found_and_come_again() {
    let mut cluster = started(4).await;
    let user = cluster.handle("user-1");
    let files = put_many(&user, 6, (2, 1)).await;
    let (first, manifest) = deal(&user, files[0].0);
    let (node, info) = (first.placement[1], manifest.slots[1]);
    let path = slot_file(&cluster, &name_of(&cluster, node), &info.root.to_string());
    std::fs::remove_file(&path).expect("a slot's file");
    let whole = |(file, _): &(FileId, Vec<u8>)| is_whole(&deal(&user, *file).0);
    let mut missed = false;
    until(&user, "an audit misses it, and each slot is held again", || {
        missed |= entry(&user, node).audit.missed > 0;
        let now = deal(&user, files[0].0).0;
        let held = slot_file(&cluster, &name_of(&cluster, now.placement[1]), &info.root.to_string());
        missed && files.iter().all(whole) && held.exists()
    })
    .await;
    all_readable(&user, &files).await;
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_leaves_while_another_dies_and_nothing_is_lost() {
    let mut cluster = started(6).await;
    let user = cluster.handle("user-1");
    let files = put_many(&user, 8, (2, 2)).await;
    let first = deal(&user, files[0].0).0.placement;
    let (leaving, dying) = (first[0], first[1]);
    let (handle, name) = (cluster.handle(&name_of(&cluster, leaving)), name_of(&cluster, dying));
    handle.act(Action::DrainNode { node: leaving, drain: true }, PATIENCE).await.expect("it drains");
    cluster.stop(&name).await;
    until(&user, "all slots are on the other four", || {
        files.iter().all(|(file, _)| {
            let now = deal(&user, *file).0;
            is_whole(&now) && place_of(&now, leaving).is_none() && place_of(&now, dying).is_none()
        })
    })
    .await;
    assert_eq!((entry(&user, leaving).used.get(), entry(&user, dying).used.get()), (0, 0));
    cluster.stop(&name_of(&cluster, leaving)).await;
    all_readable(&user, &files).await;
    cluster.stop_all().await;
}

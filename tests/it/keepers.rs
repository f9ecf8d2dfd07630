//! Files keep their promise: lost slots are rebuilt, damaged ones mended, and nodes come, go and are paid.

use std::collections::BTreeSet;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use trullo::files::Wanted;
use trullo::ledger::record::{Deal, DealStatus, NodeEntry};
use trullo::ledger::{Key, Record};
use trullo::node::Handle;
use trullo::node::files::put::{PutRequest, PutResult, put};
use trullo::types::{Amount, FileId, NodeId};
use trullo::wire::{Action, PublicManifest};

use crate::cluster::{BALANCE, Cluster, PATIENCE};
use crate::nodes::{get_bytes, sample};

/// Puts a file of so many slots.
pub async fn put_slots(handle: &Handle, bytes: &[u8], shards: (u8, u8)) -> PutResult {
    let request = PutRequest {
        name: "a file".to_owned(),
        len: Some(bytes.len() as u64),
        shards: Some(shards),
        chunk_bytes: None,
        wanted: Wanted { min_confirmations: Some((shards.0 + shards.1).into()), ..Wanted::default() },
        allow_pending: true,
        epochs: 200,
        session: *blake3::hash(bytes).as_bytes(),
        timeout: PATIENCE,
        kind: trullo::files::FileKind::Alone,
    };
    let pieces: Vec<_> =
        bytes.chunks(100_000).map(|piece| Ok::<_, std::io::Error>(Bytes::copy_from_slice(piece))).collect();
    put(handle, request, futures::stream::iter(pieces)).await.expect("a put")
}

pub fn deal(handle: &Handle, file: FileId) -> (Deal, PublicManifest) {
    let (deal, manifest) = handle.file(&file).expect("a known file");
    (deal, *manifest.expect("an open deal"))
}

pub fn entry(handle: &Handle, node: NodeId) -> NodeEntry {
    match handle.record(&Key::Node(node)).expect("a readable state") {
        Some(Record::Node(entry)) => *entry,
        other => panic!("no node: {other:?}"),
    }
}

/// Looks again with each block until the world is as it should be.
pub async fn until(handle: &Handle, what: &str, mut look: impl FnMut() -> bool) {
    let mut tips = handle.reader().watch();
    let looking = async {
        while !look() {
            tips.changed().await.expect("it runs on");
        }
    };
    assert!(tokio::time::timeout(2 * PATIENCE, looking).await.is_ok(), "not in time: {what}");
}

/// Whether each slot of the file is confirmed and lost by nobody.
pub fn is_whole(deal: &Deal) -> bool {
    deal.lost.is_empty() && deal.confirmed.len() == deal.placement.len()
}

pub fn name_of(cluster: &Cluster, node: NodeId) -> String {
    let user = cluster.handle("user-1");
    entry(&user, node).announcement.name
}

pub fn slot_file(cluster: &Cluster, name: &str, root: &str) -> PathBuf {
    cluster.home(name).join("slots").join(&root[..2]).join(root)
}

pub async fn started(storage: u8) -> Cluster {
    let mut cluster = Cluster::audited(storage, 1);
    cluster.start_all().await;
    cluster.reach(1).await;
    cluster
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_of_nodes_that_died_are_rebuilt_on_others_and_restore_the_file_alone() {
    let mut cluster = started(6).await;
    let user = cluster.handle("user-1");
    let bytes = sample(1_500_000);
    let file = put_slots(&user, &bytes, (2, 2)).await.file;
    let old = deal(&user, file).0.placement;
    let names: Vec<_> = old.iter().map(|node| name_of(&cluster, *node)).collect();
    for name in &names[..2] {
        cluster.stop(name).await;
    }
    until(&user, "the lost slots are on other nodes", || {
        let now = deal(&user, file).0;
        is_whole(&now) && now.placement[..2].iter().all(|node| !old.contains(node))
    })
    .await;
    assert!(!entry(&user, old[0]).active && entry(&user, old[2]).active);
    for name in &names[2..] {
        cluster.stop(name).await;
    }
    assert!(get_bytes(&user, file, None).await.expect("readable from the rebuilt slots") == bytes);
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_comes_back_is_used_again_and_takes_its_slots_as_they_are() {
    let mut cluster = started(3).await;
    let user = cluster.handle("user-1");
    // A copy is never twice on a node, so that nobody else takes it meanwhile.
    let file = put_slots(&user, &sample(700_000), (1, 2)).await.file;
    let node = deal(&user, file).0.placement[1];
    let name = name_of(&cluster, node);
    cluster.stop(&name).await;
    until(&user, "the slot is lost", || deal(&user, file).0.lost.has(1)).await;
    let back = cluster.start(&name).await;
    until(&user, "the slot is held again", || is_whole(&deal(&user, file).0)).await;
    assert_eq!(deal(&user, file).0.placement[1], node);
    assert!(entry(&user, node).active);
    assert_eq!(back.slots().expect("a storage node").usage().expect("a look").slots, 1);
    cluster.stop_all().await;
}

fn flip(path: &Path, offsets: impl Iterator<Item = u64>) {
    let mut file = std::fs::File::options().read(true).write(true).open(path).expect("a file to damage");
    for offset in offsets {
        let mut byte = [0];
        file.seek(SeekFrom::Start(offset)).expect("an offset");
        file.read_exact(&mut byte).expect("a byte");
        file.seek(SeekFrom::Start(offset)).expect("an offset");
        file.write_all(&[byte[0] ^ 1]).expect("a damaged byte");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_rots_is_found_by_its_audit_and_mended_in_its_place() {
    let mut cluster = started(3).await;
    let user = cluster.handle("user-1");
    let file = put_slots(&user, &sample(900_000), (2, 1)).await.file;
    let (before, manifest) = deal(&user, file);
    let (name, info) = (name_of(&cluster, before.placement[2]), manifest.slots[2]);
    let path = slot_file(&cluster, &name, &info.root.to_string());
    let good = std::fs::read(&path).expect("a slot");
    flip(&path, (0..info.len).step_by(1_024));
    until(&user, "the slot is whole again", || std::fs::read(&path).is_ok_and(|now| now == good)).await;
    let page = cluster.handle(&name).metrics().page(&cluster.handle(&name));
    assert!(page.contains("trullo_damaged_slots_total 1"), "{page}");
    until(&user, "its node still has the slot", || is_whole(&deal(&user, file).0)).await;
    assert_eq!(deal(&user, file).0.placement, before.placement);
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_flipped_bit_is_found_by_reading_everything_and_mended() {
    let mut cluster = Cluster::audited(3, 1);
    for number in 1..=3 {
        cluster.member(&format!("storage-{number}")).settings = "scrub_every_s = 1";
    }
    cluster.start_all().await;
    cluster.reach(1).await;
    let user = cluster.handle("user-1");
    let file = put_slots(&user, &sample(4_000_000), (2, 1)).await.file;
    let (before, manifest) = deal(&user, file);
    let (name, info) = (name_of(&cluster, before.placement[0]), manifest.slots[0]);
    let path = slot_file(&cluster, &name, &info.root.to_string());
    let good = std::fs::read(&path).expect("a slot");
    flip(&path, [1_234_567].into_iter());
    until(&user, "the slot is whole again", || std::fs::read(&path).is_ok_and(|now| now == good)).await;
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_drains_gives_everything_away_while_its_files_are_read() {
    let mut cluster = started(5).await;
    let user = cluster.handle("user-1");
    let files = [sample(400_000), sample(1_100_000), sample(1)];
    let mut ids = Vec::new();
    for bytes in &files {
        ids.push(put_slots(&user, bytes, (2, 1)).await.file);
    }
    let node = deal(&user, ids[1]).0.placement[0];
    let name = name_of(&cluster, node);
    let leaving = cluster.handle(&name);
    leaving.act(Action::DrainNode { node, drain: true }, PATIENCE).await.expect("it drains");
    let held = |node| entry(&user, node).used.get();
    while held(node) > 0 {
        for (bytes, id) in files.iter().zip(&ids) {
            assert!(get_bytes(&user, *id, None).await.expect("readable all the time") == *bytes);
        }
    }
    for (bytes, id) in files.iter().zip(&ids) {
        let now = deal(&user, *id).0;
        assert!(is_whole(&now) && !now.placement.contains(&node));
        assert!(get_bytes(&user, *id, None).await.expect("readable") == *bytes);
    }
    let slots = leaving.slots().expect("a storage node").clone();
    until(&user, "its disk is free", || slots.usage().is_ok_and(|usage| usage.slots == 0)).await;
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_joins_empty_gets_its_share() {
    let mut cluster = Cluster::audited(4, 1);
    for number in 1..=4 {
        cluster.member(&format!("storage-{number}")).settings = "relief_percent = 0";
    }
    for name in ["validator-1", "storage-1", "storage-2", "storage-3", "user-1"] {
        cluster.start(name).await;
    }
    cluster.reach(1).await;
    let user = cluster.handle("user-1");
    let mut files = Vec::new();
    for n in 1..=6 {
        let bytes = sample(300_000 + n);
        files.push((put_slots(&user, &bytes, (2, 1)).await.file, bytes));
    }
    let node = cluster.start("storage-4").await.identity().node;
    assert_eq!(entry(&user, node).used.get(), 0);
    let slot = deal(&user, files[0].0).0.slot_len;
    until(&user, "it has some of the slots", || entry(&user, node).used.get() >= 2 * slot).await;
    for (file, bytes) in files {
        assert!(get_bytes(&user, file, None).await.expect("readable") == bytes);
    }
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_no_other_node_is_left_a_holder_takes_a_second_slot_and_gives_it_to_one_that_joins() {
    let mut cluster = Cluster::audited(4, 1);
    for name in ["validator-1", "storage-1", "storage-2", "storage-3", "user-1"] {
        cluster.start(name).await;
    }
    cluster.reach(1).await;
    let user = cluster.handle("user-1");
    let bytes = sample(300_000);
    let file = put_slots(&user, &bytes, (2, 1)).await.file;
    let holders = || -> BTreeSet<NodeId> { deal(&user, file).0.placement.into_iter().collect() };
    let gone = cluster.handle("storage-2").identity().node;
    cluster.stop("storage-2").await;
    until(&user, "two nodes hold three slots", || is_whole(&deal(&user, file).0) && !holders().contains(&gone)).await;
    assert_eq!(holders().len(), 2);
    let joined = cluster.start("storage-4").await.identity().node;
    until(&user, "each slot has a node of its own", || holders().len() == 3 && holders().contains(&joined)).await;
    assert!(get_bytes(&user, file, None).await.expect("readable") == bytes);
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_are_paid_for_what_they_have_proven_without_being_asked() {
    let mut cluster = Cluster::with(1, 3, 1, |genesis| {
        genesis.storage.grace = 1;
        genesis.storage.price = 1 << 20;
        genesis.timing.idle_interval = trullo::types::Millis::new(50);
    });
    for number in 1..=3 {
        cluster.member(&format!("storage-{number}")).settings = "settle_epochs = 1";
    }
    cluster.start_all().await;
    cluster.reach(1).await;
    let user = cluster.handle("user-1");
    put_slots(&user, &sample(300_000), (2, 1)).await;
    let accounts: Vec<_> = (1..=3).map(|n| cluster.member(&format!("storage-{n}")).keys.account_id()).collect();
    until(&user, "all three were paid", || {
        accounts.iter().all(|account| match user.record(&Key::Account(*account)) {
            Ok(Some(Record::Account(account))) => account.balance > Amount::new(BALANCE),
            _ => false,
        })
    })
    .await;
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storage_node_answers_every_audit_also_after_a_restart() {
    let mut cluster = started(3).await;
    let user = cluster.handle("user-1");
    let file = put_slots(&user, &sample(900_000), (2, 1)).await.file;
    let node = deal(&user, file).0.placement[0];
    let name = name_of(&cluster, node);
    let passed = |least: u64| move |entry: &NodeEntry| entry.audit.passed >= least;
    until(&user, "it passes an audit", || passed(1)(&entry(&user, node))).await;
    cluster.stop(&name).await;
    cluster.start(&name).await;
    let so_far = entry(&user, node).audit.passed;
    until(&user, "it passes two more", || passed(so_far + 2)(&entry(&user, node))).await;
    let audit = entry(&user, node).audit;
    assert_eq!(audit.reputation > 500, audit.failed == 0, "{audit:?}");
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_while_most_nodes_are_away_becomes_final_by_itself_when_they_are_back() {
    let mut cluster = started(3).await;
    let user = cluster.handle("user-1");
    for name in ["storage-1", "storage-3"] {
        cluster.stop(name).await;
    }
    let bytes = sample(1_200_000);
    let done = put_slots(&user, &bytes, (2, 1)).await;
    assert!(matches!(done.status, DealStatus::Pending { .. }), "{done:?}");
    assert_eq!((done.confirmed, done.missing.len()), ((1, 3), 2));
    assert!(done.missing.iter().all(|missing| missing.follows && missing.why.contains("kept here")), "{done:?}");
    assert!(get_bytes(&user, done.file, None).await.is_err(), "one slot restores nothing");
    drop(user);
    cluster.stop("user-1").await;
    let user = cluster.start("user-1").await;
    for name in ["storage-1", "storage-3"] {
        cluster.start(name).await;
    }
    until(&user, "the deal is final and complete", || {
        let now = deal(&user, done.file).0;
        matches!(now.status, DealStatus::Final { .. }) && is_whole(&now)
    })
    .await;
    assert!(get_bytes(&user, done.file, None).await.expect("readable") == bytes);
    let spool = cluster.home("user-1").join("spool");
    until(&user, "nothing is kept any more", || std::fs::read_dir(&spool).is_ok_and(|dir| dir.count() == 0)).await;
    cluster.stop_all().await;
}

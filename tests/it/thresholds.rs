//! Losses above and at the repair threshold, among whole nodes within this process.

use bytes::Bytes;
use trullo::files::Wanted;
use trullo::ledger::{Key, Record};
use trullo::node::Handle;
use trullo::node::files::put::{PutRequest, PutResult, put};
use trullo::types::FileId;

use crate::cluster::{Cluster, PATIENCE};
use crate::keepers::{deal, is_whole, name_of, until};
use crate::nodes::{get_bytes, sample};

async fn put_with(handle: &Handle, bytes: &[u8], shards: (u8, u8), wanted: Wanted) -> PutResult {
    let request = PutRequest {
        name: "a file".to_owned(),
        len: Some(bytes.len() as u64),
        shards: Some(shards),
        chunk_bytes: None,
        wanted,
        allow_pending: true,
        epochs: 200,
        session: *blake3::hash(bytes).as_bytes(),
        timeout: 2 * PATIENCE,
        kind: trullo::files::FileKind::Alone,
    };
    let pieces: Vec<_> =
        bytes.chunks(100_000).map(|piece| Ok::<_, std::io::Error>(Bytes::copy_from_slice(piece))).collect();
    put(handle, request, futures::stream::iter(pieces)).await.expect("a put")
}

/// Whether the ledger lists the file for others to rebuild its lost slots.
fn is_listed(handle: &Handle, file: FileId) -> bool {
    matches!(handle.record(&Key::Lost(file)).expect("a readable state"), Some(Record::Lost { .. }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loss_above_the_repair_threshold_waits_and_one_at_it_is_rebuilt_with_all_others() {
    let mut cluster = Cluster::audited(5, 1);
    cluster.start_all().await;
    cluster.reach(1).await;
    let user = cluster.handle("user-1");
    let bytes = sample(900_000);
    let wanted = Wanted { min_confirmations: Some(3), repair_threshold: Some(1), ..Wanted::default() };
    let file = put_with(&user, &bytes, (1, 2), wanted).await.file;
    let old = deal(&user, file).0.placement;
    let names: Vec<_> = old.iter().map(|node| name_of(&cluster, *node)).collect();
    cluster.stop(&names[0]).await;
    until(&user, "the first slot is lost", || deal(&user, file).0.lost.has(0)).await;
    let height = user.reader().tip().expect("a tip").height.get();
    cluster.reach(height + 60).await;
    let waiting = deal(&user, file).0;
    assert!(waiting.lost.has(0) && waiting.placement == old && !is_listed(&user, file), "nobody rebuilds it");

    cluster.start(&names[0]).await;
    until(&user, "its holder brought it back", || is_whole(&deal(&user, file).0)).await;
    assert_eq!(deal(&user, file).0.placement, old);

    for name in &names[..2] {
        cluster.stop(name).await;
    }
    until(&user, "both are on other nodes", || {
        let now = deal(&user, file).0;
        is_whole(&now) && now.placement[..2].iter().all(|node| !old.contains(node))
    })
    .await;
    assert!(!is_listed(&user, file));
    assert!(get_bytes(&user, file, None).await.expect("readable") == bytes);
    cluster.stop_all().await;
}

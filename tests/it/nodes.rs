//! Nodes among themselves: finality, transfers, catching up, files.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use trullo::files::Wanted;
use trullo::ledger::record::DealStatus;
use trullo::ledger::{Key, Record};
use trullo::node::files::get::OpenFile;
use trullo::node::files::put::{PutRequest, PutResult, put};
use trullo::node::{Handle, NodeError};
use trullo::types::{Amount, FileId};
use trullo::wire::{Action, Tx, TxBody};

use crate::cluster::{BALANCE, Cluster, PATIENCE};

fn balance(handle: &Handle, key: &Key) -> u64 {
    match handle.record(key).expect("a readable state") {
        Some(Record::Account(account)) => account.balance.get(),
        _ => 0,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_validators_finalize_a_transfer_and_agree_on_the_state() {
    let mut cluster = Cluster::new(4, 0, 1);
    cluster.start_all().await;
    cluster.reach(2).await;
    let (from, to) = (cluster.handle("user-1"), cluster.member("validator-1").keys.account_id());
    let action = Action::Transfer { to, amount: Amount::new(7), memo: "bread".to_owned() };
    let done = from.act(action, PATIENCE).await.expect("a final transfer");
    cluster.reach(done.place.height.get()).await;
    for name in ["validator-1", "validator-2", "validator-3", "validator-4", "user-1"] {
        assert_eq!(balance(&cluster.handle(name), &Key::Account(to)), BALANCE + 7, "{name}");
    }
    let height = done.place.height;
    let root = |name| {
        let snapshot = cluster.handle(name).snapshot().expect("a snapshot");
        snapshot.header(height).expect("a readable header").expect("a final header").state_root
    };
    assert_eq!(root("validator-1"), root("validator-4"));
    assert_eq!(root("validator-1"), root("user-1"));
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_of_four_go_on_and_the_fourth_catches_up_across_epochs() {
    let mut cluster = Cluster::new(4, 0, 0);
    cluster.start_all().await;
    cluster.reach(3).await;
    cluster.stop("validator-2").await;
    let height = cluster.handle("validator-1").reader().tip().expect("a tip").height.get();
    cluster.reach(height + 30).await;
    cluster.start("validator-2").await;
    cluster.reach(height + 45).await;
    cluster.stop_all().await;
}

fn transfer(cluster: &mut Cluster) -> Action {
    let to = cluster.member("validator-1").keys.account_id();
    Action::Transfer { to, amount: Amount::new(1), memo: String::new() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_reached_nobody_does_not_hold_up_the_next() {
    let mut cluster = Cluster::new(4, 0, 1);
    let action = transfer(&mut cluster);
    let user = cluster.start("user-1").await;
    let alone = user.act(action.clone(), Duration::from_millis(100)).await;
    assert!(matches!(alone, Err(NodeError::Timeout { .. })), "{alone:?}");
    for number in 1..=4 {
        cluster.start(&format!("validator-{number}")).await;
    }
    user.act(action, PATIENCE).await.expect("final, after the one that nobody took");
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_validator_that_is_cut_off_from_the_others_hands_its_transactions_on() {
    let mut cluster = Cluster::new(4, 0, 1);
    let keys = cluster.member("user-1").keys.clone();
    let action = transfer(&mut cluster);
    cluster.start_all().await;
    cluster.reach(1).await;
    let (alone, user) = (cluster.handle("validator-4"), cluster.handle("user-1"));
    let node = |name: &str| cluster.handle(name).identity().node;
    let mut others: Vec<_> = (1..=3).map(|number| node(&format!("validator-{number}"))).collect();
    let quorum = others.clone();
    others.push(user.identity().node);
    alone.set_denied(others).await.expect("the links are cut");
    let connected = |wanted: usize| {
        let mut connected = alone.net().connected();
        async move {
            let changed = connected.wait_for(|peers| peers.len() == wanted);
            tokio::time::timeout(PATIENCE, changed).await.expect("in time").expect("it runs on");
        }
    };
    connected(0).await;
    let body = TxBody { chain: user.identity().chain, sender: keys.account_id(), nonce: 0, action };
    let id = alone.submit(Tx::sign(body, keys.signing())).await.expect("taken in where nobody hears of it");
    alone.set_denied(quorum).await.expect("one link is mended");
    connected(1).await;
    let mut tips = user.reader().watch();
    let settled = async {
        while user.final_tx(&id).expect("a readable chain").is_none() {
            tips.changed().await.expect("it runs on");
        }
    };
    tokio::time::timeout(PATIENCE, settled).await.expect("the others make it final");
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_action_whose_nonce_another_transaction_took_is_signed_anew() {
    let mut cluster = Cluster::new(4, 0, 1);
    let action = transfer(&mut cluster);
    cluster.start_all().await;
    cluster.reach(1).await;
    let (user, keys) = (cluster.handle("user-1"), cluster.member("user-1").keys.clone());
    let body = |action| TxBody { chain: user.identity().chain, sender: keys.account_id(), nonce: 0, action };
    let rival = Tx::sign(
        body(Action::Transfer { to: keys.account_id(), amount: Amount::new(2), memo: String::new() }),
        keys.signing(),
    );
    for number in 1..=4 {
        // Those that have it by gossip already refuse it.
        let _ = cluster.handle(&format!("validator-{number}")).submit(rival.clone()).await;
    }
    user.act(action, PATIENCE).await.expect("final, with the next nonce");
    assert_eq!(
        user.record(&Key::Account(keys.account_id())).expect("a readable state").map(|record| match record {
            Record::Account(account) => account.nonce,
            _ => 0,
        }),
        Some(2)
    );
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_validator_is_silent_until_a_new_epoch_begins() {
    let mut cluster = Cluster::new(4, 0, 0);
    cluster.start_all().await;
    cluster.reach(3).await;
    cluster.stop("validator-2").await;
    cluster.restore_from_copy("validator-2");
    let restored = cluster.start("validator-2").await;
    let mut tips = restored.reader().watch();
    let mut silent = 0;
    let voting = async {
        loop {
            tips.changed().await.expect("it runs on");
            match restored.status() {
                Some(status) if status.core.voting => return status.core.round.epoch.get(),
                Some(_) => silent += 1,
                None => {}
            }
        }
    };
    let epoch = tokio::time::timeout(PATIENCE, voting).await.expect("it votes again");
    assert!(silent > 0 && epoch > 0, "it follows {silent} blocks silently, and votes in epoch {epoch}");
    let height = restored.reader().tip().expect("a tip").height.get();
    cluster.stop("validator-3").await;
    cluster.reach(height + 3).await;
    cluster.stop_all().await;
}

/// Puts a file with two data slots and a parity slot.
pub async fn put_bytes(handle: &Handle, bytes: Vec<u8>) -> Result<PutResult, NodeError> {
    let request = PutRequest {
        name: "a file".to_owned(),
        len: Some(bytes.len() as u64),
        shards: Some((2, 1)),
        chunk_bytes: None,
        wanted: Wanted::default(),
        allow_pending: true,
        epochs: 10,
        session: [bytes.len() as u8; 32],
        timeout: Duration::from_secs(20),
        kind: trullo::files::FileKind::Alone,
    };
    let pieces: Vec<_> =
        bytes.chunks(100_000).map(|piece| Ok::<_, std::io::Error>(Bytes::copy_from_slice(piece))).collect();
    put(handle, request, futures::stream::iter(pieces)).await
}

/// Reads a file or a range of it.
pub async fn get_bytes(
    handle: &Handle,
    file: FileId,
    range: Option<std::ops::Range<u64>>,
) -> Result<Vec<u8>, NodeError> {
    let (len, receiver) = OpenFile::open(handle, file)?.read(range).await?;
    let pieces = futures::stream::unfold(receiver, |mut r| async move { r.recv().await.map(|piece| (piece, r)) });
    let pieces: Vec<Result<Bytes, NodeError>> = pieces.collect().await;
    let mut bytes = Vec::new();
    for piece in pieces {
        bytes.extend_from_slice(&piece?);
    }
    assert_eq!(bytes.len() as u64, len);
    Ok(bytes)
}

/// Bytes that do not shrink.
pub fn sample(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(b"sample").finalize_xof().fill(&mut bytes);
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_final_and_read_back_with_a_storage_node_dead() {
    let mut cluster = Cluster::new(4, 3, 1);
    cluster.start_all().await;
    cluster.reach(1).await;
    let user = cluster.handle("user-1");
    let chunk = 2 * 256 * 1024;
    let mut files = Vec::new();
    for len in [0, 1, chunk - 1, chunk, chunk + 1, 3_000_000] {
        let done = put_bytes(&user, sample(len)).await.expect("a put");
        assert!(matches!(done.status, DealStatus::Final { .. }), "{done:?}");
        files.push((done.file, len));
    }
    cluster.stop("storage-2").await;
    for (file, len) in &files {
        assert!(get_bytes(&user, *file, None).await.expect("readable") == sample(*len), "{len} bytes come back");
    }
    let part = get_bytes(&user, files[5].0, Some(1_234_567..2_345_678)).await.expect("a range");
    assert!(part == sample(3_000_000)[1_234_567..2_345_678]);
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_that_too_few_nodes_take_ends_before_its_input_does() {
    let mut cluster = Cluster::new(1, 3, 1);
    cluster.start_all().await;
    cluster.reach(1).await;
    let user = cluster.handle("user-1");
    cluster.stop("storage-1").await;
    cluster.stop("storage-3").await;
    let request = PutRequest {
        name: "endless".to_owned(),
        len: None,
        shards: Some((2, 1)),
        chunk_bytes: None,
        wanted: Wanted::default(),
        allow_pending: true,
        epochs: 10,
        session: [9; 32],
        timeout: PATIENCE,
        kind: trullo::files::FileKind::Alone,
    };
    let endless = futures::stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from_static(&[7; 65_536])));
    let refused = tokio::time::timeout(PATIENCE, put(&user, request, endless)).await.expect("an end in time");
    assert!(matches!(refused, Err(NodeError::Unavailable(_))), "{refused:?}");
    cluster.stop_all().await;
}

//! One node acting for several accounts: their transactions, their files, and what they see of one another.

use std::time::Duration;

use bytes::Bytes;
use trullo::crypto::keys::AccountKeys;
use trullo::files::Wanted;
use trullo::ledger::record::DealStatus;
use trullo::node::files::get::OpenFile;
use trullo::node::files::put::{PutRequest, put};
use trullo::node::{Handle, NodeError};
use trullo::types::Amount;
use trullo::wire::Action;

use crate::cluster::{Cluster, PATIENCE};
use crate::nodes::{get_bytes, sample};

/// A handle for a new account with these credits.
async fn account(node: &Handle, seed: u8, credits: u64) -> Handle {
    let keys = AccountKeys::from_master(&[seed; 32]);
    let action = Action::Transfer { to: keys.account_id(), amount: Amount::new(credits), memo: String::new() };
    node.act(action, PATIENCE).await.expect("a final transfer");
    node.for_account(keys)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn actions_of_several_accounts_at_once_are_all_final_and_take_no_nonce_twice() {
    let mut cluster = Cluster::new(1, 0, 1);
    cluster.start_all().await;
    cluster.reach(1).await;
    let node = cluster.handle("user-1");
    let (a, b) = (account(&node, 81, 1_000).await, account(&node, 82, 1_000).await);
    // Another handle of the same account, as a second request of the same user has.
    let a_again = node.for_account(a.keys().expect("keys").clone());
    let to = cluster.member("validator-1").keys.account_id();
    let pay = || Action::Transfer { to, amount: Amount::new(1), memo: String::new() };
    let all = (0..8).flat_map(|_| [&a, &b, &a_again]).map(|handle| handle.act(pay(), PATIENCE));
    let done = futures::future::join_all(all).await;
    assert!(done.iter().all(Result::is_ok), "{done:?}");
    let nonce = |handle: &Handle| {
        let account = handle.account().expect("an account");
        match node.record(&trullo::ledger::Key::Account(account)).expect("a readable state") {
            Some(trullo::ledger::Record::Account(account)) => account.nonce,
            other => panic!("no account: {other:?}"),
        }
    };
    assert_eq!((nonce(&a), nonce(&b)), (16, 8));
    cluster.stop_all().await;
}

fn request(len: usize) -> PutRequest {
    PutRequest {
        kind: trullo::files::FileKind::Alone,
        name: "a file".to_owned(),
        len: Some(len as u64),
        shards: Some((2, 0)),
        chunk_bytes: None,
        wanted: Wanted::default(),
        allow_pending: true,
        epochs: 10,
        session: [7; 32],
        timeout: Duration::from_secs(20),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_and_files_of_one_account_are_hidden_from_another_on_the_same_node() {
    let mut cluster = Cluster::new(1, 2, 1);
    cluster.start_all().await;
    cluster.reach(1).await;
    let node = cluster.handle("user-1");
    let (a, b) = (account(&node, 81, 10_000).await, account(&node, 82, 10_000).await);
    let (of_a, of_b) = (sample(3_000_000), vec![9; 3_000_000]);
    let half = of_a[..2_000_000].chunks(100_000).map(|piece| Ok(Bytes::copy_from_slice(piece)));
    let broken = futures::stream::iter(half.chain([Err(std::io::Error::other("the client went away"))]));
    let ended = put(&a, request(of_a.len()), broken).await;
    assert!(matches!(ended, Err(NodeError::Unavailable(_))), "{ended:?}");
    let whole = |bytes: &[u8]| {
        let pieces = bytes.chunks(100_000).map(|piece| Ok::<_, std::io::Error>(Bytes::copy_from_slice(piece)));
        futures::stream::iter(pieces.collect::<Vec<_>>())
    };
    let done = put(&b, request(of_b.len()), whole(&of_b)).await.expect("a put");
    assert_eq!(done.resumed_bytes, 0, "the other account's session of that name is none of its");
    assert!(get_bytes(&b, done.file, None).await.expect("its own file") == of_b);
    let resumed = put(&a, request(of_a.len()), whole(&of_a)).await.expect("the rest");
    assert!(resumed.resumed_bytes > 0, "the first account goes on where it was: {resumed:?}");
    assert!(get_bytes(&a, resumed.file, None).await.expect("its own file") == of_a);
    for (other, file) in [(&a, done.file), (&b, resumed.file), (&node, done.file)] {
        let refused = OpenFile::open(other, file).err();
        assert!(matches!(refused, Some(NodeError::NotAllowed(_))), "{refused:?}");
    }
    let mut listed = Vec::new();
    a.each_own_file(|file, _| {
        listed.push(file);
        Ok(())
    })
    .expect("a list");
    assert_eq!(listed, [resumed.file]);
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_late_of_an_accounts_file_goes_on_while_somebody_acts_for_it_and_waits_otherwise() {
    let mut cluster = Cluster::new(1, 3, 1);
    cluster.start_all().await;
    cluster.reach(1).await;
    let node = cluster.handle("user-1");
    let user = account(&node, 81, 10_000).await;
    cluster.stop("storage-3").await;
    let all = Wanted { min_confirmations: Some(3), ..Wanted::default() };
    let wanted = PutRequest { shards: Some((2, 1)), wanted: all, timeout: Duration::from_secs(2), ..request(100_000) };
    let pieces = futures::stream::iter([Ok::<_, std::io::Error>(Bytes::from(sample(100_000)))]);
    let done = put(&user, wanted, pieces).await.expect("a pending file");
    assert!(matches!(done.status, DealStatus::Pending { .. }), "{done:?}");
    let keys = user.keys().expect("keys").clone();
    drop(user);
    let mut tips = node.reader().watch();
    cluster.start("storage-3").await;
    let connected = async {
        let id = cluster.handle("storage-3").identity().node;
        let mut connected = node.net().connected();
        connected.wait_for(|nodes| nodes.contains(&id)).await.expect("it runs on");
        // Two looks through the spool, told by blocks.
        for _ in 0..25 {
            tips.changed().await.expect("it runs on");
        }
    };
    tokio::time::timeout(PATIENCE, connected).await.expect("it comes back");
    let status = || node.file(&done.file).expect("a deal").0.status;
    assert!(matches!(status(), DealStatus::Pending { .. }), "nobody can sign for its owner");
    let _user = node.for_account(keys);
    let is_final = async {
        while !matches!(status(), DealStatus::Final { .. }) {
            tips.changed().await.expect("it runs on");
        }
    };
    tokio::time::timeout(PATIENCE, is_final).await.expect("it becomes final by itself");
    cluster.stop_all().await;
}

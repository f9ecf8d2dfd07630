//! Upgrades of a running network: the height at which new rules begin, and who does not know them.

use trullo::ledger::genesis::Timing;
use trullo::node::validator::{Standing, Wish, outlook, wish};
use trullo::node::{Handle, NodeFailure};
use trullo::store::StoreError;
use trullo::types::{Amount, Height, Millis};
use trullo::wire::Action;
use trullo::wire::block::BLOCK_VERSION;

use crate::cluster::{Cluster, PATIENCE};

/// The version that comes.
const NEXT: u16 = BLOCK_VERSION + 1;

async fn until(handle: &Handle, what: &str, is_so: impl Fn(&Standing) -> bool) -> Standing {
    let mut tips = handle.reader().watch();
    let so = async {
        loop {
            let standing = Standing::read(handle).expect("a readable state");
            if is_so(&standing) {
                return standing;
            }
            tips.changed().await.expect("it runs on");
        }
    };
    tokio::time::timeout(PATIENCE, so).await.unwrap_or_else(|_| panic!("not in time: {what}"))
}

fn version_at(handle: &Handle, height: u64) -> u16 {
    let snapshot = handle.snapshot().expect("a snapshot");
    snapshot.headers(Height::new(height), 1).expect("readable")[0].version
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_rules_begin_at_the_announced_height_and_a_program_that_does_not_know_them_stops_there_and_loses_nothing() {
    let mut cluster = Cluster::with(4, 0, 1, |genesis| {
        genesis.epoch_blocks = 6;
        genesis.storage = trullo::ledger::record::StorageParams::usual(6);
        genesis.timing = Timing { idle_interval: Millis::new(100), ..genesis.timing };
    });
    for name in ["validator-1", "validator-2", "validator-3", "user-1"] {
        cluster.member(name).known = NEXT;
    }
    cluster.start_all().await;
    cluster.reach(1).await;
    let user = cluster.handle("user-1");
    let before = Standing::read(&user).expect("a readable state").protocol;
    assert_eq!((before.version, before.next), (BLOCK_VERSION, None));
    let first = cluster.handle("validator-1");
    assert!(outlook(&first, &Wish::Ready(NEXT)).is_ok(), "asking changes nothing");
    for name in ["validator-1", "validator-2"] {
        wish(&cluster.handle(name), &Wish::Ready(NEXT)).await.expect("it is said");
    }
    let half =
        until(&user, "two of four are ready", |now| now.stakes.iter().filter(|stake| stake.ready == NEXT).count() == 2)
            .await;
    assert_eq!(half.protocol.next, None);
    wish(&cluster.handle("validator-3"), &Wish::Ready(NEXT)).await.expect("it is said");
    let announced = until(&user, "three of four are enough", |now| now.protocol.next.is_some()).await;
    let (version, epoch) = announced.protocol.next.expect("it is announced");
    let begins = announced.params.first_height(epoch).get();
    assert_eq!(version, NEXT);
    assert!(begins > announced.height.get() + 1, "there is time to update");

    // The fourth has the old program: it votes until then, and stops.
    let ended = cluster.ended("validator-4").await;
    let newer = matches!(&ended, Err(NodeFailure::Store(StoreError::NewerProtocol { found, known })) if (*found, *known) == (NEXT, BLOCK_VERSION));
    assert!(newer, "{ended:?}");
    let again = cluster.try_start("validator-4").await;
    assert!(
        matches!(again.err(), Some(NodeFailure::Store(StoreError::NewerProtocol { .. }))),
        "at the start it says the same"
    );
    let now = until(&user, "the new rules are in force", |now| now.height.get() > begins).await;
    assert_eq!((now.protocol.version, now.protocol.next), (NEXT, None));
    assert_eq!((version_at(&user, begins - 1), version_at(&user, begins)), (BLOCK_VERSION, NEXT));

    // With the new program it goes on from where it was, and its vote counts again.
    cluster.member("validator-4").known = NEXT;
    cluster.start("validator-4").await;
    cluster.stop("validator-1").await;
    let to = cluster.member("validator-4").keys.account_id();
    let action = Action::Transfer { to, amount: Amount::new(1), memo: String::new() };
    user.act(action, PATIENCE).await.expect("final by the votes of the three that are left");
    cluster.stop_all().await;
}

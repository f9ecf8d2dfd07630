//! Who may upload slots to a storage node: accounts of the ledger, within their share of it.

use trullo::crypto::keys::AccountKeys;
use trullo::ledger::record::DealStatus;
use trullo::node::slots::client::{SlotPeer, SlotPeerError};
use trullo::node::{Handle, NodeError};
use trullo::types::Height;
use trullo::wire::{PublicManifest, SlotInfo, UploadTicket};

use crate::cluster::Cluster;
use crate::keepers::put_slots;
use crate::nodes::{put_bytes, sample};

/// Sends bytes under a ticket of these keys. Returns whether the storage node has them then.
async fn upload(
    from: &Handle,
    to: &Handle,
    keys: &AccountKeys,
    id: u8,
    bytes: Option<u64>,
    content: &[u8],
) -> Result<(), SlotPeerError> {
    let info = SlotInfo {
        root: trullo::types::SlotRoot::from_bytes(*blake3::hash(content).as_bytes()),
        len: content.len() as u64,
    };
    let manifest = PublicManifest {
        version: 1,
        owner: keys.account_id(),
        nonce: [id; 32],
        data: 1,
        parity: 0,
        chunk_bytes: 1 << 20,
        cipher_len: info.len,
        slots: vec![info],
        sealed: Vec::new(),
    };
    upload_as(from, to, keys, id, bytes, content, (&manifest, 0)).await
}

/// The same as this slot of a file.
async fn upload_as(
    from: &Handle,
    to: &Handle,
    keys: &AccountKeys,
    id: u8,
    bytes: Option<u64>,
    content: &[u8],
    (manifest, slot): (&PublicManifest, u8),
) -> Result<(), SlotPeerError> {
    let (chain, node) = (to.identity().chain, to.identity().node);
    let expires = Height::new(to.reader().tip().expect("a tip").height.get() + 100);
    let mut peer = SlotPeer::connect(from, node).await.expect("it is connected");
    peer.begin(UploadTicket::sign(&chain, &node, [id; 32], bytes, expires, keys.signing())).await?;
    peer.push(content).await?;
    peer.finish(manifest, slot).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storage_node_takes_uploads_of_accounts_within_their_share_and_of_nobody_else() {
    let mut cluster = Cluster::new(1, 1, 1);
    cluster.member("storage-1").capacity = "8MiB";
    cluster.start_all().await;
    cluster.reach(1).await;
    let (user, storage) = (cluster.handle("user-1"), cluster.handle("storage-1"));
    let keys = cluster.member("user-1").keys.clone();
    let stranger = AccountKeys::from_master(&[99; 32]);
    let denied = upload(&user, &storage, &stranger, 1, None, b"a stranger's").await.expect_err("nobody's word");
    assert!(matches!(&denied, SlotPeerError::Denied(why) if why.contains("has 0 credits")), "{denied}");
    upload(&user, &storage, &keys, 2, Some(11), b"an upload's").await.expect("within the share");
    let longer = upload(&user, &storage, &keys, 3, Some(10), b"an upload's").await.expect_err("one byte too many");
    assert!(matches!(&longer, SlotPeerError::Refused(why) if why.contains("11 bytes were sent")), "{longer}");
    let large = upload(&user, &storage, &keys, 4, Some(5 << 20), b"").await.expect_err("over the share");
    assert!(matches!(&large, SlotPeerError::Denied(why) if why.contains("no deal covers")), "{large}");
    let grown = upload(&user, &storage, &keys, 5, None, &sample(5 << 20)).await.expect_err("over the share");
    assert!(matches!(&grown, SlotPeerError::Denied(why) if why.contains("no deal covers")), "{grown}");
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_fills_the_place_of_a_slot_with_other_bytes() {
    let mut cluster = Cluster::new(1, 2, 1);
    cluster.start_all().await;
    cluster.reach(1).await;
    let (user, storage) = (cluster.handle("user-1"), cluster.handle("storage-1"));
    let keys = cluster.member("user-1").keys.clone();
    let done = put_slots(&user, &sample(1_000), (1, 0)).await;
    cluster.reach(done.height.get()).await;
    let manifest = user.file(&done.file).expect("a final file").1.expect("an open deal");
    let (mut made_up, mut other) = (manifest.clone(), manifest.clone());
    made_up.cipher_len = u64::MAX;
    other.slots[0].root = trullo::types::SlotRoot::from_bytes([7; 32]);
    for (manifest, slot, reason) in
        [(&other, 0, "bytes"), (&manifest, u8::MAX, "has no slot 255"), (&made_up, 0, "bytes of ciphertext")]
    {
        let refused = upload_as(&user, &storage, &keys, slot, None, b"a squatter's", (manifest, slot)).await;
        let refused = refused.expect_err("it would keep the slot itself out");
        assert!(matches!(&refused, SlotPeerError::Refused(why) if why.contains(reason)), "{refused}");
    }
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_deals_cover_does_not_count_and_a_put_without_credits_says_why_it_fails() {
    let mut cluster = Cluster::new(1, 3, 2);
    for number in 1..=3 {
        cluster.member(&format!("storage-{number}")).capacity = "8MiB";
    }
    cluster.member("user-2").keys = AccountKeys::from_master(&[99; 32]);
    cluster.start_all().await;
    cluster.reach(1).await;
    let user = cluster.handle("user-1");
    for n in 0..5 {
        // Half a share each: the fifth fits only if the first four no longer count.
        let done = put_bytes(&user, sample((2 << 20) + n)).await.expect("a put");
        assert!(matches!(done.status, DealStatus::Final { .. }), "{done:?}");
        // A storage node knows of the deal once it has the block.
        cluster.reach(done.height.get()).await;
    }
    let poor = put_bytes(&cluster.handle("user-2"), sample(1_000)).await.expect_err("no credits");
    assert!(matches!(poor, NodeError::NotAllowed(_)), "{poor:?}");
    assert!(poor.to_string().contains("has 0 credits; to upload here it needs 1"), "{poor}");
    cluster.stop_all().await;
}

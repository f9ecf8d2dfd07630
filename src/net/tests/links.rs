//! Connections: made, lost, made again, cut, refused.

use futures::{AsyncWriteExt as _, FutureExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::types::limits;

/// The TCP address behind a multiaddress on loopback.
fn socket(address: &PeerAddress) -> String {
    let text = address.address.to_string();
    format!("127.0.0.1:{}", text.rsplit('/').next().expect("a port"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_link_carries_nothing_and_heals() {
    let mut nodes = validators(3).await;
    let ids: Vec<_> = nodes.iter().map(Node::id).collect();
    within("the cut", nodes[0].net.set_denied(vec![ids[1]])).await.expect("the network runs");
    assert!(!nodes[0].net.connected().borrow().contains(&ids[1]));
    nodes[1].sees(ids[0], false).await;
    // Neither side gets through, and node 1 does try.
    let error = nodes[0].net.request(ids[1], Method::Status, Bytes::new(), DEADLINE).await;
    assert!(matches!(error, Err(RequestError::Unreachable { .. })), "{error:?}");
    let error = nodes[1].net.request(ids[0], Method::Status, Bytes::new(), DEADLINE).await;
    assert!(error.is_err(), "{error:?}");
    nodes[1].net.send_all(Bytes::from_static(b"cut")).expect("within the limit");
    assert_eq!(nodes[2].next_message().await, (ids[1], Bytes::from_static(b"cut")));
    assert!(nodes[0].inboxes.consensus.recv().now_or_never().is_none());

    within("the healing", nodes[0].net.set_denied(Vec::new())).await.expect("the network runs");
    nodes[0].sees(ids[1], true).await;
    nodes[1].sees(ids[0], true).await;
    // What was said meanwhile may come late; the new word comes after it.
    nodes[1].net.send_all(Bytes::from_static(b"healed")).expect("within the limit");
    while nodes[0].next_message().await.1 != Bytes::from_static(b"healed") {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_peer_is_back_soon_on_the_same_port() {
    let mut nodes = validators(2).await;
    let (gone, stays) = (nodes.remove(1), &mut nodes[0]);
    let (id, address) = (gone.id(), gone.address());
    within("the stop", gone.net.shutdown()).await;
    drop(gone);
    stays.sees(id, false).await;
    stays.net.send_all(Bytes::from_static(b"while away")).expect("within the limit");

    // The new incarnation knows nobody: the other side must find it.
    let start = std::time::Instant::now();
    let mut again = start_with(NetConfig { listen: vec![address.address], ..config(2, &[]) }).await;
    again.net.set_consensus_peers(&[stays.id()]).expect("room for a command");
    again.sees(stays.id(), true).await;
    stays.sees(id, true).await;
    let took = start.elapsed();
    assert!(took < Duration::from_secs(3), "{took:?}");
    assert_eq!(again.next_message().await, (stays.id(), Bytes::from_static(b"while away")));
    again.net.send_all(Bytes::from_static(b"back")).expect("within the limit");
    assert_eq!(stays.next_message().await, (id, Bytes::from_static(b"back")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_of_another_chain_is_turned_away() {
    let node = start_with(config(1, &[])).await;
    let other = NetConfig { chain: ChainId::from_bytes([2; 32]), ..config(2, &[node.address()]) };
    let other = start_with(other).await;
    until("both keep away", || {
        let blocks = |of: &Node, whom| of.net.peers().iter().any(|peer| peer.node == whom && peer.blocked);
        blocks(&node, other.id()) || blocks(&other, node.id())
    })
    .await;
    assert!(node.net.connected().borrow().is_empty() && other.net.connected().borrow().is_empty());
    let error = other.net.request(node.id(), Method::Status, Bytes::new(), DEADLINE).await;
    assert!(matches!(error, Err(RequestError::Unreachable { .. })), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_on_the_port_disturbs_nobody() {
    let mut nodes = validators(2).await;
    let target = socket(&nodes[0].address());
    let mut silent = Vec::new();
    for n in 0..40_u8 {
        let mut socket = TcpStream::connect(&target).await.expect("the port is open");
        if n % 2 == 0 {
            // The node may hang up before it has read everything.
            let _ = socket.write_all(&[n; 4096]).await;
            let mut answer = Vec::new();
            let _ = within("the node hangs up", socket.read_to_end(&mut answer)).await;
        } else {
            silent.push(socket);
        }
    }
    let to = nodes[0].id();
    nodes[1].net.send(&[to], Bytes::from_static(b"still here")).expect("within the limit");
    assert_eq!(nodes[0].next_message().await.1, Bytes::from_static(b"still here"));
    let late = start_with(config(3, &[nodes[0].address()])).await;
    late.sees(to, true).await;
    for mut socket in silent {
        let mut answer = Vec::new();
        let _ = within("the node hangs up on the silent", socket.read_to_end(&mut answer)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_oversized_frame_ends_its_stream_and_counts_against_its_sender() {
    let mut nodes = validators(2).await;
    let (victim, sender) = (nodes[0].id(), nodes[1].id());
    let shared = &nodes[1].net.shared;
    let peer = address::peer_id(&victim).expect("a usable key");
    let mut control = shared.control.clone();
    let protocol = behaviour::Protocols::new(&shared.chain).expect("valid names").consensus;
    let head = (limits::CONSENSUS_MESSAGE_BYTES_MAX as u32 + 1).to_be_bytes();
    let counted = || nodes[0].net.peers().iter().any(|peer| peer.node == sender && peer.penalty > 0);
    // The sender's own stream and this one displace each other, so that one attempt may come to nothing.
    while !counted() {
        let mut stream = within("a stream", control.open_stream(peer, protocol.clone())).await.expect("connected");
        let attempt = async {
            frame::read_greeting(&mut stream).await?;
            futures::AsyncWriteExt::write_all(&mut stream, &head).await?;
            stream.flush().await?;
            futures::AsyncReadExt::read(&mut stream, &mut [0]).await
        };
        // Whatever became of it, the stream has ended.
        let _ = within("the stream ends", attempt).await;
        let _ = tokio::time::timeout(Duration::from_millis(200), until("it counts", counted)).await;
    }
    // The stream is gone, the connection is not: a request on it finds the node, and messages go on.
    assert!(nodes[0].net.connected().borrow().contains(&sender));
    let mut sent = 0_u64;
    let heard = async {
        loop {
            // The sender's own stream was displaced by ours; it opens a new one, and may lose a message over it.
            sent += 1;
            nodes[1].net.send(&[victim], Bytes::from(sent.to_be_bytes().to_vec())).expect("within the limit");
            if let Ok(Some((from, _))) =
                tokio::time::timeout(Duration::from_millis(100), nodes[0].inboxes.consensus.recv()).await
            {
                return from;
            }
        }
    };
    assert_eq!(within("messages go on", heard).await, sender);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_taken_port_is_an_error_that_names_it() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("bound").port();
    let listen: Address = format!("/ip4/127.0.0.1/tcp/{port}").parse().expect("an address");
    let result = start(NetConfig { listen: vec![listen.clone()], ..config(1, &[]) }, Metrics::default()).await;
    assert!(matches!(result, Err(NetError::Listen { address, .. }) if address == listen));
    // The same goes for a port that another node has.
    let node = start_with(config(2, &[])).await;
    let listen = node.address().address;
    let result = start(NetConfig { listen: vec![listen.clone()], ..config(1, &[]) }, Metrics::default()).await;
    assert!(matches!(result, Err(NetError::Listen { address, .. }) if address == listen));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_network_ends_its_inboxes_and_refuses() {
    let mut nodes = validators(2).await;
    let mut node = nodes.remove(0);
    within("the stop", node.net.shutdown()).await;
    assert_eq!(within("the end", node.inboxes.consensus.recv()).await, None);
    assert!(within("the end", node.inboxes.gossip.recv()).await.is_none());
    assert!(within("the end", node.inboxes.requests.recv()).await.is_none());
    assert!(within("the end", node.inboxes.streams.accept()).await.is_none());
    let error = node.net.request(nodes[0].id(), Method::Status, Bytes::new(), DEADLINE).await;
    assert!(error.is_err(), "{error:?}");
    nodes[0].sees(node.id(), false).await;
}

//! What is sent arrives: consensus messages, gossip, requests, byte streams.

use std::collections::BTreeSet;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::types::{ByteCount, Height, Millis, Role, Roles, limits};
use crate::wire::{Presence, Topic};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_any_size_arrive_whole_and_in_order() {
    let mut nodes = validators(2).await;
    let to = nodes[1].id();
    let sizes = [0, 1, 100, 5 << 20, 7, limits::CONSENSUS_MESSAGE_BYTES_MAX, 3];
    for (n, size) in sizes.iter().enumerate() {
        nodes[0].net.send(&[to], Bytes::from(vec![n as u8; *size])).expect("within the limit");
    }
    for (n, size) in sizes.iter().enumerate() {
        let (from, message) = nodes[1].next_message().await;
        assert_eq!(from, nodes[0].id());
        assert_eq!(message, vec![n as u8; *size]);
    }
    let long = Bytes::from(vec![0; limits::CONSENSUS_MESSAGE_BYTES_MAX + 1]);
    assert!(matches!(nodes[0].net.send(&[to], long), Err(SendError::TooLong(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broadcast_reaches_every_validator_once_and_nobody_else() {
    let mut nodes = validators(4).await;
    let outsider = start_with(config(9, &[nodes[0].address()])).await;
    outsider.sees(nodes[0].id(), true).await;
    for n in 0..100_u8 {
        nodes[0].net.send_all(Bytes::from(vec![n])).expect("within the limit");
    }
    for node in &mut nodes[1..] {
        for n in 0..100_u8 {
            assert_eq!(node.next_message().await.1, vec![n]);
        }
    }
    // The outsider may send, but is not heard: the next message is the validator's.
    outsider.net.set_consensus_peers(&[nodes[0].id()]).expect("room for a command");
    outsider.net.send_all(Bytes::from_static(b"outsider")).expect("within the limit");
    nodes[1].net.send_all(Bytes::from_static(b"validator")).expect("within the limit");
    assert_eq!(nodes[0].next_message().await, (nodes[1].id(), Bytes::from_static(b"validator")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_does_not_read_holds_up_nobody_and_loses_the_oldest() {
    let mut nodes = validators(3).await;
    let big = Bytes::from(vec![1; 5 << 20]);
    // Node 1 reads nothing until its share, the stream's window and the outbox are full.
    let (slow, fast) = (nodes[1].id(), nodes[2].id());
    let sender = nodes[0].net.clone();
    until("the slow peer's outbox is full", || {
        sender.send(&[slow], big.clone()).expect("within the limit");
        sender.metrics().dropped_by(Queue::ConsensusOut) > 0
    })
    .await;
    for n in 0..10_u8 {
        sender.send(&[slow, fast], Bytes::from(vec![n; 9])).expect("within the limit");
        assert_eq!(nodes[2].next_message().await.1, vec![n; 9]);
    }
    // The newest still come, in order.
    let mut small = Vec::new();
    while small.len() < 10 {
        let (_, message) = nodes[1].next_message().await;
        if message.len() == 9 {
            small.push(message[0]);
        }
    }
    assert_eq!(small, (0..10).collect::<Vec<u8>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gossip_reaches_everyone_once_through_a_mesh() {
    let mut nodes = network(5).await;
    // Presence spreads the addresses, so that those who know only the first node find one another.
    let ids: BTreeSet<_> = nodes.iter().map(Node::id).collect();
    let mut time = 0;
    let mut everyone = 0;
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    while everyone < nodes.len() {
        within("the next announcement", ticks.tick()).await;
        time += 1;
        assert!(time < 200, "{everyone} of {} nodes have a mesh and know everyone", nodes.len());
        for node in &nodes {
            node.net.announce(&presence(node, time)).expect("room for a command");
        }
        everyone = nodes
            .iter()
            .filter(|node| {
                let heard = node.net.peers().iter().filter(|peer| peer.presence.is_some()).count();
                heard == ids.len() - 1 && Topic::ALL.iter().all(|topic| node.net.metrics().mesh(*topic) > 0)
            })
            .count();
    }
    let chain = ChainId::from_bytes([1; 32]);
    for n in 0..20_u8 {
        nodes[1].net.gossip(Topic::Transactions, vec![n; 300]).expect("room for a command");
        // The same bytes again are the same message.
        nodes[1].net.gossip(Topic::Transactions, vec![n; 300]).expect("room for a command");
    }
    let author = nodes[1].id();
    for node in nodes.iter_mut().filter(|node| node.id() != author) {
        let mut seen = BTreeSet::new();
        while seen.len() < 20 {
            let message = node.next_gossip().await;
            let envelope = message.open(&chain).expect("signed by its author");
            assert_eq!((envelope.author, message.topic), (author, Topic::Transactions));
            assert!(seen.insert(envelope.payload), "a message came twice");
            node.net.report(message.id, Verdict::Accept);
        }
    }
}

fn presence(node: &Node, time: u64) -> Presence {
    Presence {
        roles: Roles::of(&[Role::Validator]),
        addresses: vec![node.address().address.to_string()],
        height: Height::new(time),
        free: ByteCount::ZERO,
        time: Millis::new(time),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_forwards_invalid_gossip_is_sent_away() {
    let mut nodes = network(2).await;
    nodes[1].sees(nodes[0].id(), true).await;
    nodes[0].sees(nodes[1].id(), true).await;
    let bad = nodes[1].id();
    until("it is banned", || {
        nodes[1].net.gossip(Topic::Evidence, rand_payload()).expect("room for a command");
        while let Some(Some(message)) = futures::FutureExt::now_or_never(nodes[0].inboxes.gossip.recv()) {
            nodes[0].net.report(message.id, Verdict::Reject);
        }
        nodes[0].net.peers().iter().any(|peer| peer.node == bad && peer.blocked)
    })
    .await;
    nodes[0].sees(bad, false).await;
}

fn rand_payload() -> Vec<u8> {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed).to_be_bytes().to_vec()
}

/// Answers every request with its method and its bytes.
fn serve(mut requests: RequestInbox) {
    tokio::spawn(async move {
        while let Some(request) = requests.recv().await {
            let mut answer = vec![request.method as u8];
            answer.extend_from_slice(&request.data);
            match request.data.first() {
                Some(0xff) => request.busy().await,
                Some(0xfe) => drop(request),
                Some(0xfd) => request.answer(Bytes::from(vec![0; limits::ANSWER_BYTES_MAX])).await,
                _ => request.answer(answer.into()).await,
            }
        }
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_answered_connecting_first_when_needed() {
    let asker = start_with(config(1, &[])).await;
    let server = start_with(config(2, &[])).await;
    let (node, second) = (server.id(), Duration::from_secs(10));
    serve(server.inboxes.requests);
    let ask = |data: Vec<u8>| asker.net.request(node, Method::Block, data.into(), second);
    assert!(matches!(ask(vec![1]).await, Err(RequestError::Unreachable { .. })), "no address is known yet");
    asker.net.learn(node, vec![server.net.addresses()[0].address.clone()]).expect("room for a command");
    assert_eq!(ask(vec![1, 2]).await, Ok(Bytes::from_static(&[1, 1, 2])));
    assert_eq!(ask(vec![0xff]).await, Err(RequestError::Busy));
    assert!(matches!(ask(vec![0xfe]).await, Err(RequestError::Failed(_))), "no answer is an error, not a wait");
    assert_eq!(ask(vec![0xfd]).await.map(|answer| answer.len()), Ok(limits::ANSWER_BYTES_MAX));
    let long = limits::REQUEST_BYTES_MAX + 1;
    assert_eq!(ask(vec![0; long]).await, Err(RequestError::TooLong(long)));
    let many = futures::future::join_all((0..50).map(|n| ask(vec![n]))).await;
    assert_eq!(many, (0..50).map(|n| Ok(Bytes::from(vec![1, n]))).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_asks_too_much_at_once_is_told_to_come_later() {
    let nodes = network(2).await;
    let (asker, node) = (&nodes[1], nodes[0].id());
    asker.sees(node, true).await;
    // Past the asker's own bound, straight to its network task; nobody answers.
    let ask = || {
        let (done, answer) = tokio::sync::oneshot::channel();
        let question = request::Question { method: Method::Block, data: Bytes::new() };
        let sent = asker.net.shared.commands.try_send(handle::Command::Request(node, question, done));
        assert!(sent.is_ok(), "there is room for a command");
        answer
    };
    let first: Vec<_> = (0..limits::ANSWERS_PER_PEER_MAX).map(|_| ask()).collect();
    let busy = within("the refusal", ask()).await.expect("an answer");
    assert_eq!(busy, Err(RequestError::Busy));
    drop(first);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn byte_streams_carry_megabytes_both_ways_and_are_limited() {
    let client = start_with(config(1, &[])).await;
    let mut server = start_with(config(2, &[])).await;
    client.net.learn(server.id(), vec![server.address().address]).expect("room for a command");
    let mut near = within("a stream", client.net.open_stream(server.id())).await.expect("a place");
    let mut far = within("a stream", server.inboxes.streams.accept()).await.expect("the network runs");
    assert_eq!((near.peer(), far.peer()), (server.id(), client.id()));
    let sent: Vec<u8> = (0..3_000_000_u32).map(|n| n as u8).collect();
    let echo = tokio::spawn(async move {
        let mut all = Vec::new();
        far.read_to_end(&mut all).await.expect("the stream ends well");
        far.write_all(&all).await.expect("the peer reads");
        far.shutdown().await.expect("the peer reads");
    });
    near.write_all(&sent).await.expect("the peer reads");
    near.shutdown().await.expect("the peer reads");
    let mut back = Vec::new();
    within("the echo", near.read_to_end(&mut back)).await.expect("the stream ends well");
    assert!(back == sent);
    echo.await.expect("no panic");
    drop(near);

    let mut held = Vec::new();
    for _ in 0..limits::STREAMS_PER_PEER_MAX {
        let near = within("a stream", client.net.open_stream(server.id())).await.expect("a place");
        let far = within("a stream", server.inboxes.streams.accept()).await.expect("the network runs");
        held.push((near, far));
    }
    assert_eq!(client.net.open_stream(server.id()).await.err(), Some(StreamError::TooMany));
    held.pop();
    assert!(within("a stream", client.net.open_stream(server.id())).await.is_ok());
}

//! Peers that bring too much of what is well-formed.

use std::collections::BTreeMap;

use super::*;
use crate::types::limits;
use crate::wire::Topic;

fn peer(of: &Node, who: NodeId) -> PeerInfo {
    of.net.peers().into_iter().find(|peer| peer.node == who).expect("a known peer")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_gossip_is_dropped_first_and_then_its_sender_is_named_and_sent_away() {
    let mut nodes = network(2).await;
    nodes[1].sees(nodes[0].id(), true).await;
    nodes[0].sees(nodes[1].id(), true).await;
    let flooder = nodes[1].id();
    // Small and valid, each another one: what it costs is the signature.
    let mut sent = 0_u64;
    until("the flooder is sent away", || {
        for _ in 0..500 {
            sent += 1;
            // A full queue of its own network is no matter.
            let _ = nodes[1].net.gossip(Topic::Tips, sent.to_be_bytes().to_vec());
        }
        peer(&nodes[0], flooder).away_for.is_some()
    })
    .await;
    let known = peer(&nodes[0], flooder);
    assert_eq!((known.fault, known.standing), (Some(Misbehaviour::Flood), Standing::Stranger));
    nodes[0].sees(flooder, false).await;
    let metrics = nodes[0].net.metrics();
    assert!(metrics.dropped_over_rate(Kind::Gossip) > u64::from(limits::PATIENCE), "a burst alone is no fault");
    // What waits is bounded by what the peer was let in with.
    let mut waiting = 0;
    while let Some(Some(_)) = futures::FutureExt::now_or_never(nodes[0].inboxes.gossip.recv()) {
        waiting += 1;
    }
    let once = limits::GOSSIP_BURST as usize / (4 * limits::GOSSIP_COST);
    assert!(waiting > 0 && waiting < 4 * once, "{waiting} messages wait");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_questions_is_told_to_come_later_and_then_its_sender_is_sent_away() {
    let mut nodes = network(2).await;
    nodes[1].sees(nodes[0].id(), true).await;
    nodes[0].sees(nodes[1].id(), true).await;
    let (victim, flooder) = (nodes[0].id(), nodes[1].id());
    let first = nodes.remove(0);
    let (net, mut requests) = (first.net.clone(), first.inboxes.requests);
    tokio::spawn(async move {
        while let Some(request) = requests.recv().await {
            request.answer(Bytes::new()).await;
        }
    });
    let known = move || net.peers().into_iter().find(|peer| peer.node == flooder).expect("a known peer");
    let asking: Vec<_> = (0..limits::REQUESTS_PER_PEER_MAX)
        .map(|_| {
            let net = nodes[0].net.clone();
            tokio::spawn(async move {
                let mut busy = 0_u32;
                loop {
                    match net.request(victim, Method::Blocks, Bytes::new(), Duration::from_secs(5)).await {
                        Ok(_) => {}
                        Err(RequestError::Busy) => busy += 1,
                        Err(_) => return busy,
                    }
                }
            })
        })
        .collect();
    until("the flooder is sent away", || known().away_for.is_some()).await;
    assert_eq!(known().fault, Some(Misbehaviour::Flood));
    let mut busy = 0;
    for task in asking {
        busy += within("the end of a flood", task).await.expect("it does not panic");
    }
    assert!(busy > 0, "it was told to come later before");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_streams_is_refused_and_then_its_sender_is_sent_away() {
    let mut nodes = network(2).await;
    nodes[1].sees(nodes[0].id(), true).await;
    nodes[0].sees(nodes[1].id(), true).await;
    let (victim, flooder) = (nodes[0].id(), nodes[1].id());
    let first = nodes.remove(0);
    let (net, mut streams) = (first.net.clone(), first.inboxes.streams);
    tokio::spawn(async move { while streams.accept().await.is_some() {} });
    let opening: Vec<_> = (0..16)
        .map(|_| {
            let net = nodes[0].net.clone();
            tokio::spawn(async move {
                while !matches!(net.open_stream(victim).await, Err(StreamError::Unreachable { .. })) {}
            })
        })
        .collect();
    until("the flooder is sent away", || {
        net.peers().iter().any(|peer| peer.node == flooder && peer.away_for.is_some())
    })
    .await;
    assert!(net.metrics().dropped_over_rate(Kind::Stream) > u64::from(limits::PATIENCE));
    opening.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_validator_that_floods_is_sent_away_and_the_others_are_heard() {
    let mut nodes = validators(3).await;
    let standings: BTreeMap<_, _> = nodes.iter().map(|node| (node.id(), Standing::Validator)).collect();
    nodes[0].net.set_standings(standings);
    let (victim, flooder, other) = (nodes[0].id(), nodes[1].id(), nodes[2].id());
    let flood = nodes[1].net.clone();
    let flooding = tokio::task::spawn_blocking(move || {
        // More than it may bring is in its own outbox at no moment, so it goes on.
        while flood.connected().borrow().contains(&victim) {
            let _ = flood.send(&[victim], Bytes::from_static(&[1; 64]));
        }
    });
    let mut heard = 0_u8;
    until_sent_away(&mut nodes, flooder, other, &mut heard).await;
    assert!(heard > 0, "the other one is heard meanwhile");
    within("the flood", flooding).await.expect("it does not panic");
}

async fn until_sent_away(nodes: &mut [Node], flooder: NodeId, other: NodeId, heard: &mut u8) {
    let victim = nodes[0].id();
    within("the flooder is sent away", async {
        loop {
            let word = Bytes::from(vec![heard.wrapping_add(1)]);
            nodes[2].net.send(&[victim], word.clone()).expect("within the limit");
            loop {
                match nodes[0].next_message().await {
                    (from, message) if from == other => {
                        assert_eq!(message, word);
                        *heard = heard.wrapping_add(1).max(1);
                        break;
                    }
                    _ => {}
                }
            }
            if peer(&nodes[0], flooder).away_for.is_some() {
                return;
            }
        }
    })
    .await;
    assert_eq!(peer(&nodes[0], flooder).fault, Some(Misbehaviour::Flood));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_that_take_all_places_keep_no_validator_out() {
    let places = 4;
    let mut settings = config(1, &[]);
    settings.limits.connections_inbound = places;
    let first = start_with(settings).await;
    let late = key(200).public().node_id();
    first.net.set_needed_peers(&[late]).expect("room for a command");
    let mut strangers = Vec::new();
    for seed in 2..2 + 2 * places as u8 {
        strangers.push(start_with(config(seed, &[first.address()])).await);
    }
    until("all places are taken", || first.net.connected().borrow().len() == places as usize).await;
    let validator = start_with(config(200, &[first.address()])).await;
    first.sees(late, true).await;
    validator.sees(first.id(), true).await;
    assert_eq!(first.net.connected().borrow().len(), places as usize + 1);
}

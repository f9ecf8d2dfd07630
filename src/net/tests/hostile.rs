//! A peer that is authenticated and means harm.

use std::collections::BTreeSet;
use std::time::Instant;

use futures::AsyncWriteExt;
use libp2p::StreamProtocol;

use super::*;
use crate::wire::{Presence, Topic};

/// Field `number` of a protobuf message, with a length.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    varint(bytes.len() as u64, &mut out);
    out.extend_from_slice(bytes);
    out
}

/// Field `number` of a protobuf message, a number.
fn numeric(number: u8, value: u64) -> Vec<u8> {
    let mut out = vec![number << 3];
    varint(value, &mut out);
    out
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A gossipsub RPC with one control message, with its length before it.
fn control(kind: u8, body: &[u8]) -> Vec<u8> {
    let rpc = field(3, &field(kind, body));
    let mut framed = Vec::new();
    varint(rpc.len() as u64, &mut framed);
    framed.extend_from_slice(&rpc);
    framed
}

/// Gossipsub RPCs at the ends of what their fields can hold. PRUNE with such a back-off once crashed nodes
/// (CVE-2026-33040 and CVE-2026-34219).
fn extreme_rpcs(chain: &ChainId) -> Vec<Vec<u8>> {
    let topic = format!("/trullo/{}/tips/1", chain.short());
    let (ihave, iwant, graft, prune, idontwant) = (1, 2, 3, 4, 5);
    let mut rpcs = Vec::new();
    for back_off in [0, 1, u64::MAX / 1_000_000_000, i64::MAX as u64, u64::MAX - 1, u64::MAX] {
        rpcs.push(control(prune, &[field(1, topic.as_bytes()), numeric(3, back_off)].concat()));
        rpcs.push(control(graft, &field(1, topic.as_bytes())));
    }
    let ids: Vec<u8> = (0..200_u64).flat_map(|n| field(2, &n.to_be_bytes())).collect();
    rpcs.push(control(ihave, &[field(1, topic.as_bytes()), ids].concat()));
    let ids: Vec<u8> = (0..200_u64).flat_map(|n| field(1, &n.to_be_bytes())).collect();
    rpcs.push(control(iwant, &ids));
    rpcs.push(control(idontwant, &ids));
    rpcs.push(control(prune, &[]));
    rpcs.push(vec![0]);
    // Malformed, which ends the stream: a field without its value.
    rpcs.push(vec![2, 0x1a, 0xff]);
    rpcs
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn extreme_gossip_control_messages_crash_nothing() {
    let mut nodes = validators(2).await;
    let shared = &nodes[1].net.shared;
    let victim = address::peer_id(&nodes[0].id()).expect("a usable key");
    let name = format!("/trullo/{}/gossip/1.1.0", shared.chain.short());
    let protocol = StreamProtocol::try_from_owned(name).expect("a valid name");
    // On one stream: gossipsub gives up on a connection that opens many.
    let mut control = shared.control.clone();
    let mut stream = within("a stream", control.open_stream(victim, protocol)).await.expect("connected");
    stream.write_all(&extreme_rpcs(&shared.chain).concat()).await.expect("the peer reads");
    stream.flush().await.expect("the peer reads");
    // Long enough for several heartbeats, in which stored back-offs are handled; all the while nodes talk.
    let start = Instant::now();
    let mut sent = 0_u32;
    let (id, mut ticks) = (nodes[1].id(), tokio::time::interval(Duration::from_millis(50)));
    while start.elapsed() < Duration::from_secs(3) {
        ticks.tick().await;
        sent += 1;
        nodes[1].net.send_all(Bytes::from(sent.to_be_bytes().to_vec())).expect("within the limit");
        assert_eq!(nodes[0].next_message().await, (id, Bytes::from(sent.to_be_bytes().to_vec())));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_one_peer_delays_the_others_by_turns_only() {
    let mut nodes = validators(3).await;
    let (victim, flooder, other) = (nodes[0].id(), nodes[1].id(), nodes[2].id());
    for _ in 0..20_000 {
        nodes[1].net.send(&[victim], Bytes::from_static(&[1; 500])).expect("within the limit");
    }
    // Messages of the flood wait before the other one says its first word.
    assert_eq!(nodes[0].next_message().await.0, flooder);
    for n in 0..50_u8 {
        nodes[2].net.send(&[victim], Bytes::from(vec![n])).expect("within the limit");
        let mut before = 0;
        loop {
            match nodes[0].next_message().await {
                (from, message) if from == other => {
                    assert_eq!(message, vec![n]);
                    break;
                }
                _ => before += 1,
            }
        }
        // What passes meanwhile is what the loop reads while the word is on its way, never the whole flood.
        assert!(before < 10_000, "{before} messages of the flood went before");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forged_and_malformed_presence_bans_who_sends_it_and_teaches_nothing() {
    let nodes = network(2).await;
    nodes[1].sees(nodes[0].id(), true).await;
    nodes[0].sees(nodes[1].id(), true).await;
    let mut forged = 0_u8;
    until("the forger is banned", || {
        forged = forged.wrapping_add(1);
        // Signed well, but no presence record.
        nodes[1].net.gossip(Topic::Presence, vec![forged; 40]).expect("room for a command");
        nodes[0].net.peers().iter().any(|peer| peer.node == nodes[1].id() && peer.blocked)
    })
    .await;
    let known: BTreeSet<_> = nodes[0].net.peers().into_iter().map(|peer| peer.node).collect();
    assert_eq!(known, BTreeSet::from([nodes[1].id()]));
    assert!(nodes[0].net.peers().iter().all(|peer| peer.presence.is_none()));
    assert!(Presence::decode(&[1; 40]).is_err());
}

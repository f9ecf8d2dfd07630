//! Claims about the book of peers.

use super::*;
use crate::types::{ByteCount, Height, Millis, Roles};

const SECOND: Duration = Duration::from_secs(1);

fn node(n: u8) -> NodeId {
    NodeId::from_bytes([n; 32])
}

fn address(port: u16) -> Address {
    format!("/ip4/127.0.0.1/tcp/{port}").parse().expect("an address")
}

/// A book of node 5 that wants no peers for their own sake.
fn book() -> (Book, Instant) {
    (Book::new(node(5), 0), Instant::now())
}

fn due(book: &mut Book, now: Instant) -> Vec<NodeId> {
    book.due(now).into_iter().map(|(node, _)| node).collect()
}

fn presence(time: u64, port: u16) -> Presence {
    Presence {
        roles: Roles::NONE,
        addresses: vec![address(port).to_string()],
        height: Height::ZERO,
        free: ByteCount::ZERO,
        time: Millis::new(time),
    }
}

#[test]
fn only_needed_and_asked_peers_are_dialed_once_there_are_enough() {
    let (mut book, now) = book();
    book.add_bootstrap(node(1), address(1), now);
    for n in 2..=4 {
        book.learn(node(n), &[address(n.into())], now);
    }
    book.set_needed(&[node(2), node(9), node(5)], now);
    assert_eq!(book.ask(node(3), now), Ok(()));
    assert!(book.ask(node(8), now).is_err(), "nobody knows where it is");
    assert_eq!(due(&mut book, now), [node(1), node(2), node(3)]);
    assert_eq!(due(&mut book, now), [], "they are being dialed");
    let mut lonely = Book::new(node(5), 1);
    lonely.learn(node(4), &[address(4)], now);
    assert_eq!(due(&mut lonely, now), [node(4)]);
}

#[test]
fn needed_peers_are_tried_every_second_at_least_and_others_ever_more_rarely() {
    let (mut book, start) = book();
    book.add_bootstrap(node(1), address(1), start);
    book.learn(node(2), &[address(2)], start);
    let mut longest = [Duration::ZERO; 2];
    let mut now = start;
    for _ in 0..12 {
        assert_eq!(book.ask(node(2), now), Ok(()));
        for dialed in due(&mut book, now) {
            book.failed(dialed, now);
        }
        for (wait, n) in longest.iter_mut().zip([1, 2]) {
            *wait = (*wait).max(book.peers[&node(n)].next_dial.saturating_duration_since(now));
        }
        now += 2 * SECOND;
    }
    assert_eq!(longest, [BACK_OFF_NEEDED, BACK_OFF_OTHERS]);
}

#[test]
fn a_lost_peer_is_redialed_first_by_the_side_with_the_lower_id() {
    let (mut book, start) = book();
    for n in [1, 9] {
        book.add_bootstrap(node(n), address(n.into()), start);
        book.established(node(n), 1, start);
        assert!(book.identified(node(n)));
    }
    let later = start + 60 * SECOND;
    assert!(book.lost(node(1), 0, later) && book.lost(node(9), 0, later));
    assert_eq!(book.next(), Some(later + REDIAL_FIRST));
    assert_eq!(due(&mut book, later + REDIAL_FIRST), [node(9)]);
    assert_eq!(due(&mut book, later + REDIAL_SECOND), [node(1)]);
}

#[test]
fn connections_that_end_at_once_count_as_failed_dials() {
    let (mut book, mut now) = book();
    book.add_bootstrap(node(1), address(1), now);
    let mut dials = 0;
    let end = now + 20 * SECOND;
    while now < end {
        dials += due(&mut book, now).len();
        book.established(node(1), 1, now);
        book.lost(node(1), 0, now);
        now = book.next().expect("a bootstrap peer is always due some time");
    }
    assert!(dials < 30, "{dials} in 20 s");
}

#[test]
fn one_of_two_connections_lost_is_no_loss() {
    let (mut book, now) = book();
    book.established(node(1), 1, now);
    assert!(book.identified(node(1)) && !book.identified(node(1)));
    book.established(node(1), 2, now);
    assert!(!book.lost(node(1), 1, now) && book.is_connected(&node(1)));
    assert!(book.lost(node(1), 0, now) && !book.is_connected(&node(1)));
    book.established(node(1), 1, now);
    assert!(!book.is_connected(&node(1)), "it has to say anew which chain it follows");
}

#[test]
fn who_does_not_say_which_chain_it_follows_is_overdue() {
    let (mut book, now) = book();
    book.established(node(1), 1, now);
    assert_eq!(book.next(), Some(now + IDENTIFY));
    assert_eq!(book.overdue(now + IDENTIFY - SECOND), []);
    assert_eq!(book.overdue(now + IDENTIFY), [node(1)]);
    assert!(book.identified(node(1)));
    assert_eq!(book.overdue(now + IDENTIFY), []);
}

#[test]
fn blocked_peers_are_not_dialed_until_they_are_healed_or_pardoned() {
    let (mut book, now) = book();
    book.add_bootstrap(node(1), address(1), now);
    book.add_bootstrap(node(2), address(2), now);
    assert_eq!(book.set_denied(&[node(1)], now), []);
    assert!(!book.punish(node(2), Misbehaviour::Protocol, 300 * SECOND, now));
    assert!(book.punish(node(2), Misbehaviour::Protocol, 300 * SECOND, now), "100 points");
    assert!(!book.punish(node(2), Misbehaviour::Protocol, 300 * SECOND, now), "it is banned already");
    assert_eq!(due(&mut book, now), []);
    assert!(book.ask(node(1), now).is_err());
    assert_eq!(book.next(), Some(now + 300 * SECOND));
    assert_eq!(book.set_denied(&[], now), [node(1)]);
    assert_eq!(due(&mut book, now), [node(1)]);
    assert_eq!(book.pardon(now + 300 * SECOND), [node(2)]);
    assert_eq!(due(&mut book, now + 300 * SECOND), [node(2)]);
    assert_eq!(book.points(&node(2), now + 300 * SECOND), 0);
}

#[test]
fn only_newer_presence_counts_unless_the_known_one_is_stale() {
    let (mut book, now) = book();
    assert!(book.heard(node(1), presence(100, 1), now));
    assert!(!book.heard(node(1), presence(100, 2), now) && !book.heard(node(1), presence(99, 3), now));
    assert!(book.heard(node(1), presence(101, 4), now));
    assert!(book.heard(node(1), presence(7, 5), now + 2 * PRESENCE_STALE), "its clock was set back");
    assert!(!book.heard(node(5), presence(1, 1), now), "nobody speaks for this node");
    let known = book.snapshot(now + 2 * PRESENCE_STALE);
    assert_eq!(known[0].addresses[0], address(5), "the newest first");
    assert_eq!(known[0].seen, Some(Duration::ZERO));
}

#[test]
fn addresses_are_bounded_and_configured_ones_stay_first() {
    let (mut book, now) = book();
    book.add_bootstrap(node(1), address(1), now);
    for port in 2..100 {
        book.learn(node(1), &[address(port)], now);
        book.learn(node(2), &[address(port)], now);
    }
    let known = book.snapshot(now);
    assert_eq!(known[0].addresses[0], address(1));
    assert_eq!(known[1].addresses[0], address(99));
    assert!(known.iter().all(|peer| peer.addresses.len() == limits::NODE_ADDRESSES_MAX));
}

#[test]
fn the_book_is_bounded_and_forgets_only_who_is_long_gone() {
    let (mut book, now) = book();
    let many = |n: usize| {
        let mut raw = [7; 32];
        raw[..8].copy_from_slice(&(n as u64).to_be_bytes());
        NodeId::from_bytes(raw)
    };
    for n in 0..limits::KNOWN_PEERS_MAX + 10 {
        book.learn(many(n), &[address(1)], now);
    }
    assert_eq!(book.len(), limits::KNOWN_PEERS_MAX);
    book.established(node(200), 1, now);
    assert!(book.has_connection(&node(200)), "there is always room for who is connected");
    let later = now + 2 * FORGOTTEN;
    book.learn(node(201), &[address(2)], later);
    assert!(book.snapshot(later).iter().any(|peer| peer.node == node(201)));
}

#[test]
fn connections_of_ever_new_peers_do_not_make_the_book_grow() {
    let (mut book, now) = book();
    let many = |n: usize| {
        let mut raw = [7; 32];
        raw[..8].copy_from_slice(&(n as u64).to_be_bytes());
        NodeId::from_bytes(raw)
    };
    book.set_needed(&[node(3)], now);
    let banned = many(0);
    for n in 0..limits::KNOWN_PEERS_MAX * 2 {
        book.established(many(n), 1, now);
        if n == 0 {
            book.ban(banned, 600 * SECOND, now);
        }
        book.lost(many(n), 0, now);
    }
    assert_eq!(book.len(), limits::KNOWN_PEERS_MAX);
    assert!(book.is_blocked(&banned), "who is kept away goes last");
    assert!(book.snapshot(now).iter().any(|peer| peer.node == node(3)), "who is needed stays");
    for n in 0..limits::KNOWN_PEERS_MAX * 2 {
        book.established(many(n), 1, now);
        book.ban(many(n), 600 * SECOND, now);
        book.lost(many(n), 0, now);
    }
    assert_eq!(book.len(), limits::KNOWN_PEERS_MAX);
    let forgotten = book.take_forgotten();
    assert!(!forgotten.is_empty() && forgotten.iter().all(|node| !book.is_blocked(node)), "the network is told");
}

#[test]
fn what_a_peer_did_and_for_how_long_it_is_away_is_known() {
    let (mut book, now) = book();
    book.established(node(1), 1, now);
    for _ in 0..10 {
        book.punish(node(1), Misbehaviour::Flood, 300 * SECOND, now);
    }
    let known = book.snapshot(now + 100 * SECOND);
    assert_eq!((known[0].fault, known[0].away_for), (Some(Misbehaviour::Flood), Some(200 * SECOND)));
    book.pardon(now + 300 * SECOND);
    let known = book.snapshot(now + 300 * SECOND);
    assert_eq!((known[0].fault, known[0].away_for, known[0].penalty), (Some(Misbehaviour::Flood), None, 0));
}

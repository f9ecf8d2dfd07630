//! Gossip: envelopes and what is in them, for every topic.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use trullo::net::{Address, PeerAddress};
use trullo::types::limits::{GOSSIP_BYTES_MAX, GOSSIP_ENVELOPE_BYTES_MAX};
use trullo::types::{ByteCount, Height, Millis, Role, Roles};
use trullo::wire::{Accusation, Envelope, Presence, Topic, Tx, VerifiedTx, encode};
use trullo_fuzz::{bytes, canonical, sample};

static PAYLOADS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let presence = Presence {
        roles: Roles::of(&[Role::Storage]),
        addresses: vec!["/ip4/127.0.0.1/tcp/7000".to_owned(), "/dns4/host/udp/1/quic-v1".to_owned()],
        height: Height::new(9),
        free: ByteCount::new(1 << 30),
        time: Millis::new(1_700_000_000_000),
    };
    vec![encode(&sample::txs()), encode(&Height::new(7)), presence.encode(), encode(&Accusation::Contradiction(sample::evidence()))]
});
static ENVELOPES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let sign = |payload: &Vec<u8>| Envelope::sign(&sample::chain(), Topic::Tips, payload.clone(), &sample::keys()[0]);
    PAYLOADS.iter().map(|payload| encode(&sign(payload))).collect()
});

fn check_presence(bytes: &[u8]) {
    let Ok(presence) = Presence::decode(bytes) else { return };
    assert!(presence.encode() == bytes, "a record has one encoding");
    for text in &presence.addresses {
        if let Ok(address) = text.parse::<Address>() {
            assert_eq!(address.to_string().parse(), Ok(address));
        }
        if let Ok(address) = text.parse::<PeerAddress>() {
            assert_eq!(address.to_string().parse(), Ok(address));
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let envelope = bytes(data, &ENVELOPES);
    canonical::<Envelope>(&envelope, GOSSIP_BYTES_MAX + GOSSIP_ENVELOPE_BYTES_MAX);
    if Envelope::open(&sample::chain(), Topic::Tips, &envelope).is_ok() {
        assert!(ENVELOPES.contains(&envelope), "nobody else can sign");
    }
    let payload = bytes(data, &PAYLOADS);
    check_presence(&payload);
    canonical::<Height>(&payload, 8);
    if let Some(evidence) = canonical::<Accusation>(&payload, GOSSIP_BYTES_MAX) {
        if evidence.holds(&sample::chain()) {
            assert_eq!(evidence.node(), sample::evidence().node, "only who signed twice is accused");
        }
    }
    if let Some(txs) = canonical::<Vec<Tx>>(&payload, GOSSIP_BYTES_MAX) {
        let _ = VerifiedTx::verify_all(&sample::chain(), txs, |_| None);
    }
});

//! Tests of the consensus messages: their bytes, their signatures, their size.

use std::fmt::Write;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::types::{Epoch, Millis, NodeId, StateRoot, View, limits};
use crate::wire::certificate::TimedOut;
use crate::wire::{Signed, decode, encode};

const MAX: usize = limits::CONSENSUS_MESSAGE_BYTES_MAX;

fn round(view: u64) -> Round {
    Round::new(Epoch::new(2), View::new(view))
}

fn certificate(kind: VoteKind, view: u64) -> Certificate {
    let signed = |index| Signed { index, signature: Signature::from_bytes([index as u8; 64]) };
    let (height, block) = (Height::new(21), BlockHash::from_bytes([5; 32]));
    Certificate { kind, round: round(view), height, block, signatures: vec![signed(0), signed(2), signed(3)] }
}

fn newest() -> Newest {
    let timed_out = |index| TimedOut { index, high: round(3), signature: Signature::from_bytes([9; 64]) };
    let high = certificate(VoteKind::Prepare, 3);
    let timeout =
        TimeoutCertificate { round: round(4), timeouts: vec![timed_out(1), timed_out(2)], high: high.clone() };
    Newest { high, timeout: Some(timeout), commit: Some(certificate(VoteKind::Commit, 2)) }
}

fn proposed(payload: Vec<u8>) -> ProposedBlock {
    let header = Header {
        version: 1,
        chain: ChainId::from_bytes([1; 32]),
        height: Height::new(22),
        round: round(5),
        proposer: NodeId::from_bytes([2; 32]),
        parent: BlockHash::from_bytes([5; 32]),
        tx_root: [3; 32],
        receipt_root: [4; 32],
        state_root: StateRoot::from_bytes([6; 32]),
        validator_set: [7; 32],
        next_set: [8; 32],
        time: Millis::new(1_800_000_000_000),
        reveal: [8; 32],
    };
    ProposedBlock { block: Block { header, payload: Bytes::from(payload) }, justify: certificate(VoteKind::Prepare, 3) }
}

/// One of each message, signed.
fn all(payload: Vec<u8>) -> Vec<(&'static str, Message)> {
    let key = SecretKey::from_seed(&[7; 32]);
    let sign = |unsigned: Unsigned| unsigned.sign(&ChainId::from_bytes([1; 32]), &key);
    let (index, block) = (1, BlockHash::from_bytes([5; 32]));
    let tail = Offer::Tail { block, height: Height::new(21), justify: certificate(VoteKind::Prepare, 3) };
    let propose = |offer| sign(Unsigned::Proposal { round: round(5), index, offer, newest: newest() });
    let vote = |kind| {
        let (round, height) = (round(5), Height::new(22));
        sign(Unsigned::Vote { kind, round, height, block, index, newest: newest() })
    };
    vec![
        ("proposal", propose(Offer::Block(proposed(payload.clone())))),
        ("tail", propose(tail)),
        ("vote", vote(VoteKind::Prepare)),
        ("commit", vote(VoteKind::Commit)),
        ("timeout", sign(Unsigned::Timeout { round: round(5), index, newest: newest() })),
        ("newest", Message::Newest(Box::new(newest()))),
        ("fetch", Message::Fetch(block)),
        ("block", Message::Block(Box::new(proposed(payload)))),
    ]
}

#[test]
fn the_canonical_bytes_stay_as_they_are() {
    let mut lines = String::new();
    for (name, message) in all(b"payload".to_vec()) {
        writeln!(lines, "{name} {}", hex::encode(encode(&message))).expect("writing to a string");
    }
    expect_test::expect_file!["../../fixtures/wire/consensus_messages.txt"].assert_eq(&lines);
}

#[test]
fn each_message_is_signed_by_its_statement_and_the_certificates_are_not() {
    let key = SecretKey::from_seed(&[7; 32]);
    let chain = ChainId::from_bytes([1; 32]);
    let sign = |newest| {
        let (round, height, block) = (round(5), Height::new(22), BlockHash::from_bytes([5; 32]));
        let vote = Unsigned::Vote { kind: VoteKind::Prepare, round, height, block, index: 1, newest };
        (vote.statement(), vote.sign(&chain, &key))
    };
    let (statement, Message::Vote(vote)) = sign(newest()) else { panic!("a vote") };
    let (_, Message::Vote(bare)) = sign(Newest { timeout: None, commit: None, ..newest() }) else { panic!("a vote") };
    assert_eq!(vote.signature, bare.signature, "rule 19");
    assert_eq!(statement.verify(&chain, &key.public().bytes(), &vote.signature), Ok(()));
}

#[test]
fn the_largest_block_fits_a_message() {
    for (name, message) in all(vec![0; limits::BLOCK_PAYLOAD_BYTES_MAX]) {
        assert!(encode(&message).len() <= MAX, "{name}");
    }
}

proptest! {
    #[test]
    fn messages_survive_their_encoding(payload in prop::collection::vec(any::<u8>(), 0..100)) {
        for (_, message) in all(payload) {
            let bytes = encode(&message);
            let decoded = decode::<Message>(&bytes, MAX);
            prop_assert_eq!(decoded.as_ref(), Ok(&message));
            prop_assert_eq!(encode(&message), bytes);
        }
    }

    #[test]
    fn any_bytes_are_decoded_or_refused_and_cut_ones_refused(
        bytes in prop::collection::vec(any::<u8>(), 0..300), which in 0_usize..8, cut in 1_usize..40,
    ) {
        if let Ok(message) = decode::<Message>(&bytes, MAX) {
            prop_assert_eq!(encode(&message), bytes);
        }
        let whole = encode(&all(b"payload".to_vec())[which].1);
        let cut = &whole[..whole.len().saturating_sub(cut)];
        prop_assert!(decode::<Message>(cut, MAX).is_err());
    }
}

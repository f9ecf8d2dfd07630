//! Payloads of blocks: a bounded list of transactions, which encodes to the same bytes once it is verified.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use trullo::types::limits::BLOCK_TXS_MAX;
use trullo::wire::block::{decode_payload, encode_payload};
use trullo::wire::{VerifiedTx, encode};
use trullo_fuzz::{bytes, sample};

static SAMPLES: LazyLock<Vec<Vec<u8>>> =
    LazyLock::new(|| vec![encode(&sample::txs()), encode(&sample::txs()[..1].to_vec())]);

fuzz_target!(|data: &[u8]| {
    let bytes = bytes(data, &SAMPLES);
    let Ok(txs) = decode_payload(&bytes) else { return };
    assert!(txs.len() <= BLOCK_TXS_MAX && encode(&txs) == bytes);
    if let Ok(verified) = VerifiedTx::verify_all(&sample::chain(), txs, |_| None) {
        assert!(encode_payload(&verified) == bytes, "a payload has one encoding");
    }
});

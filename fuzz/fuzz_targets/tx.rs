//! Transactions: one encoding, and alone or in a batch the same verdict.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use trullo::types::limits::TX_BYTES_MAX;
use trullo::wire::{Tx, VerifiedTx, encode};
use trullo_fuzz::{bytes, canonical, sample};

static SAMPLES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| sample::txs().iter().map(encode).collect());

fn check(tx: Tx) {
    let (id, bytes) = (tx.id(), encode(&tx));
    let alone = VerifiedTx::verify(&sample::chain(), tx.clone());
    let good = sample::txs().swap_remove(0);
    let together = VerifiedTx::verify_all(&sample::chain(), vec![good, tx], |_| None);
    match alone {
        Ok(verified) => {
            assert_eq!((verified.id(), verified.encoded().as_ref()), (id, bytes.as_slice()));
            assert!(together.is_ok_and(|all| all[1].id() == id));
        }
        Err(reason) => assert!(together.is_err_and(|bad| bad.index == 1 && bad.reason == reason)),
    }
}

fuzz_target!(|data: &[u8]| {
    let Some(tx) = canonical::<Tx>(&bytes(data, &SAMPLES), TX_BYTES_MAX) else { return };
    check(tx.clone());
    let mut body = tx.body;
    (body.chain, body.sender) = (sample::chain(), sample::owner().account_id());
    check(Tx::sign(body, sample::owner().signing()));
});

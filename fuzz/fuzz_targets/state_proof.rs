//! State proofs: nothing passes but what the state says.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use trullo::ledger::{Key, StateProof};
use trullo::types::StateRoot;
use trullo_fuzz::{bytes, edited, sample};

static TRUTH: LazyLock<Vec<(Key, Option<Vec<u8>>)>> = LazyLock::new(|| {
    let say = |key: Key| (sample::record(&key).map(|record| record.bytes()), key);
    sample::state_keys().into_iter().map(say).map(|(record, key)| (key, record)).collect()
});
static PROOFS: LazyLock<Vec<Vec<u8>>> =
    LazyLock::new(|| TRUTH.iter().map(|(key, _)| sample::state_proof(key).bytes()).collect());
static ROOT: LazyLock<StateRoot> = LazyLock::new(|| sample::block().block.header.state_root);

fuzz_target!(|data: &[u8]| {
    let Some((head, rest)) = data.split_first_chunk::<8>() else { return };
    let given = bytes(rest, &PROOFS);
    let Ok(proof) = StateProof::from_bytes(&given) else { return };
    assert!(proof.bytes() == given, "a proof has one encoding");
    let (key, record) = &TRUTH[usize::from(head[0]) % TRUTH.len()];
    let said = match head[1] % 3 {
        0 => record.clone(),
        1 => None,
        _ => Some(edited(record.clone().unwrap_or_default(), &head[2..7])),
    };
    if proof.verify(&ROOT, key, said.as_deref()).is_ok() {
        assert_eq!(&said, record, "what is proven is what the state says");
    }
});

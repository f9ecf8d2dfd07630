//! Consensus messages: one encoding each, and the verifier lets nothing through that it would refuse again.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use trullo::consensus::{Verifier, VerifyError};
use trullo::types::limits::CONSENSUS_MESSAGE_BYTES_MAX;
use trullo::wire::{Message, encode};
use trullo_fuzz::{bytes, canonical, sample};

static SAMPLES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| sample::messages().iter().map(encode).collect());

fn check(message: Message) {
    let (config, context) = sample::replica(0);
    let mut verifier = Verifier::new(&config, &context);
    let result = verifier.verify(message);
    if let Ok(verified) = result {
        assert!(encode(&verified).len() <= CONSENSUS_MESSAGE_BYTES_MAX);
        assert_eq!(verifier.verify(verified.clone()), Ok(verified.clone()), "what is verified stays so");
        let fresh = Verifier::new(&config, &context).verify(verified);
        assert!(fresh.is_ok(), "what was remembered decided nothing: {fresh:?}");
    } else if let Err(VerifyError::LaterEpoch { epoch, .. }) = result {
        assert!(epoch > context.epoch);
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((signer, rest)) = data.split_first() else { return };
    let Some(message) = canonical::<Message>(&bytes(rest, &SAMPLES), CONSENSUS_MESSAGE_BYTES_MAX) else { return };
    check(message.clone());
    check(sample::signed_again(message, usize::from(signer % 4)));
});

//! Keystores, as bytes and as a file. What asks for much memory is refused; what asks for little is opened.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use trullo::config::keystore::KeystoreFile;
use trullo::crypto::keys::{AccountKeys, KdfParams, Keystore};
use trullo::wire::encode;
use trullo_fuzz::{bytes, canonical};

fn keystore(seed: u8) -> Keystore {
    Keystore::create(&[seed; 32], b"password", KdfParams::TESTNET, [1; 16], [2; 24]).expect("valid parameters")
}

static BYTES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| vec![encode(&keystore(1))]);
static TEXTS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let mut file = KeystoreFile::default();
    file.add("default", keystore(1)).expect("the first name");
    file.add("savings", keystore(2)).expect("another name");
    vec![file.write()]
});

fn open(keystore: &Keystore) {
    let KdfParams { memory_kib, passes, lanes } = keystore.kdf();
    // More is allowed, and takes as long as it says.
    let bounded = memory_kib <= 256 && passes <= 2 && lanes <= 2;
    let over = memory_kib > 1 << 20 || passes > 16 || lanes > 16;
    if !bounded && !over {
        return;
    }
    match keystore.open(b"password") {
        Ok(keys) => {
            assert!(!over && keys.account_id() == *keystore.account());
            let known = (1..=2).any(|seed| AccountKeys::from_master(&[seed; 32]).account_id() == keys.account_id());
            assert!(known, "nothing opens but what was sealed");
        }
        Err(error) => drop(error.to_string()),
    }
}

fuzz_target!(|data: &[u8]| {
    if let Some(keystore) = canonical::<Keystore>(&bytes(data, &BYTES), 4 << 10) {
        open(&keystore);
    }
    if let Ok(file) = KeystoreFile::read(&trullo_fuzz::text(data, &TEXTS)) {
        assert_eq!(KeystoreFile::read(&file.write()).ok().as_ref(), Some(&file));
        file.entries().for_each(|(_, keystore)| open(keystore));
    }
});

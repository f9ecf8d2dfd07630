//! What people hand to one another: capabilities, recovery phrases, and file keys sealed to an account.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use trullo::crypto::seal::FileKey;
use trullo::crypto::share::{self, Bound, Fresh};
use trullo::crypto::{SecretKey, phrase};
use trullo::files::Capability;
use trullo::types::FileId;
use trullo_fuzz::{bytes, text};

const FILE: FileId = FileId::from_bytes([1; 32]);

fn key() -> FileKey {
    FileKey::from_bytes([2; 32])
}

fn receiver() -> SecretKey {
    SecretKey::from_seed(&[3; 32])
}

fn bound() -> Bound {
    let from = SecretKey::from_seed(&[4; 32]).public().account_id();
    Bound { file: FILE, from, to: receiver().public().account_id() }
}

static TEXTS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let read = Capability::Read { file: FILE, key: key() }.text().to_string();
    vec![read, Capability::Verify { file: FILE }.text().to_string(), phrase::write(&[5; 32]).to_string()]
});
static SEALED: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let fresh = Fresh { ephemeral: [6; 32].into(), nonce: [7; 24] };
    vec![share::seal(&key(), &bound(), &fresh).expect("a usable key")]
});

fuzz_target!(|data: &[u8]| {
    let typed = text(data, &TEXTS);
    if let Ok(capability) = typed.parse::<Capability>() {
        assert_eq!(*capability.text(), typed.trim().to_ascii_lowercase(), "one right, one text");
    }
    if let Ok(seed) = phrase::read(&typed) {
        assert_eq!(phrase::read(&phrase::write(&seed)), Ok(seed));
    }
    let sealed = bytes(data, &SEALED);
    if let Ok(opened) = share::open(&sealed, &bound(), &receiver()) {
        assert!(opened == key() && SEALED.contains(&sealed), "nothing opens but what was sealed");
    }
});

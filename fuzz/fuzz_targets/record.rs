//! Keys and records of the state: one encoding, and a record only where its kind belongs.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use trullo::ledger::{Key, Receipt, Record};
use trullo::types::limits::BLOCK_PAYLOAD_BYTES_MAX;
use trullo::wire::encode;
use trullo_fuzz::{bytes, canonical, edited, sample};

static KEYS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| sample::state_keys().iter().map(Key::bytes).collect());
static RECORDS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let mut all: Vec<_> = sample::state_keys().iter().filter_map(sample::record).map(|r| r.bytes()).collect();
    all.push(Record::Manifest(Box::new(sample::manifest())).bytes());
    all
});

fuzz_target!(|data: &[u8]| {
    let Some((head, rest)) = data.split_first_chunk::<7>() else { return };
    let key = KEYS[usize::from(head[0]) % KEYS.len()].clone();
    let key = if head[1] & 1 == 0 { key } else { edited(key, &head[2..]) };
    for candidate in [&key, &bytes(rest, &KEYS)] {
        if let Some(key) = Key::from_bytes(candidate) {
            assert_eq!(&key.bytes(), candidate, "a key has one encoding");
            assert!(candidate.len() <= Key::BYTES_MAX);
        }
    }
    let value = bytes(rest, &RECORDS);
    if let Some(record) = Key::from_bytes(&key).and_then(|key| Some((Record::from_bytes(&key, &value).ok()?, key))) {
        assert!(record.0.belongs_to(&record.1) && record.0.bytes() == value, "a record has one encoding");
        let _ = format!("{:?}", record.0);
    }
    if let Some(receipts) = canonical::<Vec<Receipt>>(&value, BLOCK_PAYLOAD_BYTES_MAX) {
        assert!(encode(&receipts) == value);
    }
});

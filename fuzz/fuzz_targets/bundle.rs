//! Proof bundles, as bytes and as text: with the genesis alone, nothing passes but what the chain says.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use trullo::api::bundle::{text, verify};
use trullo::ledger::Key;
use trullo::node::bundle::{Anchor, Bundle};
use trullo::types::limits::BUNDLE_BYTES_MAX;
use trullo::wire::encode;
use trullo_fuzz::{bytes, canonical, sample};

static KEYS: LazyLock<Vec<Key>> = LazyLock::new(sample::state_keys);
static BUNDLES: LazyLock<Vec<Vec<u8>>> =
    LazyLock::new(|| KEYS.iter().map(|key| encode(&sample::bundle(key))).collect());
static TEXTS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let text = |key: &Key| text(&sample::bundle(key), key, sample::record(key).as_ref());
    let texts: Vec<_> = KEYS.iter().map(text).collect();
    let checked = texts.iter().all(|text| verify(text, &Anchor::Genesis(sample::genesis())).is_ok());
    assert!(checked, "the samples are good");
    texts
});

/// What there is a record of.
static PRESENT: LazyLock<Vec<String>> = LazyLock::new(|| {
    let verified = TEXTS.iter().filter_map(|text| verify(text, &Anchor::Genesis(sample::genesis())).ok());
    verified.filter(|verified| !verified.record.is_null()).map(|verified| verified.subject).collect()
});

/// Making the samples takes longer than an input may on a busy machine, so it is no input's time.
fn prepare() {
    LazyLock::force(&BUNDLES);
    LazyLock::force(&PRESENT);
}

fuzz_target!(init: prepare(), |data: &[u8]| {
    let given = bytes(data, &BUNDLES);
    if let Some(bundle) = canonical::<Bundle>(&given, BUNDLE_BYTES_MAX) {
        if let Ok((key, record)) = bundle.verify(&Anchor::Genesis(sample::genesis())) {
            assert_eq!(record, sample::record(&key), "what is proven is what the chain says");
        }
    }
    let given = trullo_fuzz::text(data, &TEXTS);
    if let Ok(verified) = verify(&given, &Anchor::Genesis(sample::genesis())) {
        // That there is no record may be proven for other keys by the same proof.
        let is_absent = verified.record.is_null() && !PRESENT.contains(&verified.subject);
        assert!(TEXTS.contains(&given) || is_absent, "every byte of a text counts: {verified:?}");
    }
});

//! Genesis in its canonical bytes: whatever passes the check, a chain can begin with.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use trullo::config::genesis::{read, write};
use trullo::ledger::Genesis;
use trullo::types::limits::GENESIS_BYTES_MAX;
use trullo::wire::encode;
use trullo_fuzz::{bytes, canonical, sample};

static SAMPLES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| vec![encode(sample::genesis())]);

fuzz_target!(|data: &[u8]| {
    let Some(genesis) = canonical::<Genesis>(&bytes(data, &SAMPLES), GENESIS_BYTES_MAX) else { return };
    if genesis.check().is_err() {
        return;
    }
    let block = genesis.block().expect("a checked genesis has a block");
    assert_eq!(block.header.state_root, genesis.tree().expect("a checked genesis has a tree").root());
    let set = genesis.validator_set().expect("a checked genesis has validators");
    assert_eq!(block.header.validator_set, set.hash());
    assert_eq!(read(&write(&genesis)).expect("the text of a good genesis reads back"), genesis);
});

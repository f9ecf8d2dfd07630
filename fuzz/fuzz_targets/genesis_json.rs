//! Genesis files: what is read is valid, and written it reads back as the same chain.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use trullo::config::genesis::{GenesisFileError, read, write};
use trullo_fuzz::{sample, text};

static SAMPLES: LazyLock<Vec<String>> = LazyLock::new(|| vec![write(sample::genesis())]);

fn check(text: &str) -> Option<GenesisFileError> {
    match read(text) {
        Ok(genesis) => {
            assert_eq!(genesis.check(), Ok(()));
            assert_eq!(read(&write(&genesis)).expect("own text"), genesis);
            None
        }
        Err(error) => Some(error),
    }
}

fuzz_target!(|data: &[u8]| {
    let text = text(data, &SAMPLES);
    // An edited file names the chain of another one; with the right name the rest is looked at.
    if let Some(GenesisFileError::Chain { named, made }) = check(&text) {
        check(&text.replacen(&named.to_string(), &made.to_string(), 1));
    }
});

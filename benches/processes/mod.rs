//! What the benchmarks with real processes share: a testnet, and what the system says of its processes.
//!
//! Not here: what is measured. Linux only, as it reads `/proc`.

#![allow(dead_code, reason = "each benchmark uses its part")]

pub mod process;
pub mod testnet;

use std::time::Duration;

/// Runs a benchmark and prints why it failed, if it did.
pub fn finish(done: anyhow::Result<()>) {
    if let Err(error) = done {
        eprintln!("{error:#}");
        std::process::exit(1);
    }
}

/// Whether the command line has this word. Cargo adds `--bench`, and `--test` when it only wants to see that it runs.
pub fn asked_for(word: &str) -> bool {
    std::env::args().any(|arg| arg == word)
}

/// Seconds, to three places.
pub fn seconds(duration: Duration) -> f64 {
    round(duration.as_secs_f64(), 3)
}

/// A number with so many places.
pub fn round(value: f64, places: i32) -> f64 {
    let unit = 10_f64.powi(places);
    (value * unit).round() / unit
}

/// Bytes in MiB, to one place.
pub fn mib(bytes: u64) -> f64 {
    round(bytes as f64 / f64::from(1 << 20), 1)
}

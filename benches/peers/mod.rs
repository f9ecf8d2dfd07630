//! Two programs that keep files, behind one HTTP client: trullo and Tahoe-LAFS, each with five storage nodes, 3-of-5.
//!
//! Not here: what is measured.

#![allow(dead_code, reason = "each benchmark uses its part")]

pub mod tahoe;
pub mod trullo;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use futures::StreamExt;

/// Data and parity shards.
pub const SHARDS: (u64, u64) = (3, 2);

/// A network that keeps files.
pub trait Keeper {
    /// What it is called in the figures.
    fn name(&self) -> &str;
    /// Stores a file and returns what finds it again.
    async fn put(&self, name: &str, bytes: Bytes) -> Result<String>;
    /// The answer whose body is the file.
    async fn get(&self, id: &str) -> Result<reqwest::Response>;
    /// Throws a file away, as far as the network can.
    async fn remove(&self, id: &str) -> Result<()>;
    /// Bytes of everything the storage nodes hold.
    fn stored(&self) -> Result<u64>;
    /// Processes: the user's own, and the storage nodes'.
    fn processes(&self) -> (u32, Vec<u32>);
}

/// Time of a put.
pub async fn time_put(keeper: &impl Keeper, name: &str, bytes: Bytes) -> Result<(Duration, String)> {
    // What was written before is not this file's to wait for.
    rustix::fs::sync();
    let started = Instant::now();
    let id = keeper.put(name, bytes).await.with_context(|| format!("put into {}", keeper.name()))?;
    Ok((started.elapsed(), id))
}

/// Time of a get whose bytes are compared with what went in.
pub async fn time_get(keeper: &impl Keeper, id: &str, expected: &[u8]) -> Result<Duration> {
    let started = Instant::now();
    let answer = keeper.get(id).await.with_context(|| format!("get from {}", keeper.name()))?;
    let mut pieces = answer.error_for_status()?.bytes_stream();
    let mut at = 0;
    while let Some(piece) = pieces.next().await {
        let piece = piece?;
        ensure!(expected.get(at..at + piece.len()) == Some(&piece), "{} gave other bytes at {at}", keeper.name());
        at += piece.len();
    }
    ensure!(at == expected.len(), "{} gave {at} bytes", keeper.name());
    Ok(started.elapsed())
}

/// Bytes that do not shrink, another content for each name.
pub fn random(name: &str, len: usize) -> Bytes {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(name.as_bytes()).finalize_xof().fill(&mut bytes);
    bytes.into()
}

/// Bytes of all files below a directory.
pub fn bytes_below(dir: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in std::fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))? {
        let entry = entry?;
        let meta = entry.metadata()?;
        sum += if meta.is_dir() { bytes_below(&entry.path())? } else { meta.len() };
    }
    Ok(sum)
}

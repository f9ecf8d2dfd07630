//! Trace: everything that happened, as a hash, and as lines if they are wanted.

use crate::types::{BlockHash, Round};

/// The trace of one run.
pub struct Trace {
    hasher: blake3::Hasher,
    lines: Option<Vec<String>>,
}

impl Trace {
    /// An empty trace, with lines or without.
    pub fn new(lines: bool) -> Self {
        Self { hasher: blake3::Hasher::new(), lines: lines.then(Vec::new) }
    }
    /// Something happened at a machine.
    pub fn note(&mut self, now: u64, at: usize, what: &str, round: Round, block: Option<&BlockHash>) {
        let mut bytes = [0; 56];
        bytes[..8].copy_from_slice(&now.to_le_bytes());
        bytes[8] = at as u8;
        let length = what.len().min(15);
        bytes[9..9 + length].copy_from_slice(&what.as_bytes()[..length]);
        bytes[24..32].copy_from_slice(&round.epoch.get().to_le_bytes());
        bytes[32..40].copy_from_slice(&round.view.get().to_le_bytes());
        if let Some(block) = block {
            bytes[40..].copy_from_slice(&block.as_bytes()[..16]);
        }
        self.hasher.update(&bytes);
        self.line(|| {
            let block = block.map(BlockHash::short).unwrap_or_default();
            format!("{now:>6} {at:>2} {what:<10} {round:>6} {block}")
        });
    }
    /// A line for people, which is not part of the hash.
    pub fn line(&mut self, text: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines {
            lines.push(text());
        }
    }
    /// The hash of everything noted, in hexadecimal, and the lines.
    pub fn finish(self) -> (String, Vec<String>) {
        (self.hasher.finalize().to_hex().to_string(), self.lines.unwrap_or_default())
    }
}

//! The manifest of a backup: JSON lines that say what the backup holds, and that it is complete.
//!
//! The first line says of what it is, each further one names a file with its BLAKE3 hash, and the last one closes the list
//! with the hash of all lines before it. So it is written and read in one pass, whatever the number of files, and a
//! backup that was interrupted has no last line.

use std::io::{self, BufRead, Read, Write};

use serde::{Deserialize, Serialize};

/// Format that this program writes.
pub const BACKUP_FORMAT: u32 = 1;
/// Bytes of one line, at the most.
const LINE_BYTES_MAX: u64 = 4 << 10;

/// Why a manifest is not one.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It cannot be read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A line that is none.
    #[error("line {line} is malformed")]
    Line {
        /// Its number, from 1.
        line: u64,
    },
    /// The last line is missing: the backup was interrupted.
    #[error("it ends before its last line: the backup was interrupted")]
    Unfinished,
    /// What the last line says of the others is not so.
    #[error("its last line does not fit the others")]
    Sum,
    /// Written by a later version of the program.
    #[error("format {0} is newer than {known}, the newest this program knows", known = BACKUP_FORMAT)]
    Newer(u32),
}

/// The first line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The format.
    pub trullo_backup: u32,
    /// The chain.
    pub chain: String,
    /// The node.
    pub node: String,
    /// Height of the last final block in it.
    pub height: u64,
    /// Whether the slots that the node held are in it.
    pub slots: bool,
}

/// A file, as one line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileLine {
    /// Where it lies in the home, with `/`.
    pub path: String,
    /// Its length in bytes.
    pub len: u64,
    /// Its BLAKE3 hash, hex.
    pub blake3: String,
}

impl FileLine {
    /// Whether the path stays inside of a home: plain names, of which there are few.
    fn is_plain(&self) -> bool {
        let names: Vec<_> = self.path.split('/').collect();
        names.len() <= 4 && names.iter().all(|name| !matches!(*name, "" | "." | "..") && !name.contains(['\\', '\0']))
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tail {
    files: u64,
    bytes: u64,
    blake3: String,
}

/// What a manifest lists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Writes a manifest, line by line.
pub struct ManifestWriter<W> {
    out: W,
    sum: blake3::Hasher,
    totals: Totals,
}

impl<W: Write> ManifestWriter<W> {
    /// Begins one. Errors: `Io`.
    pub fn new(out: W, head: &Head) -> Result<Self, ManifestError> {
        let mut writer = Self { out, sum: blake3::Hasher::new(), totals: Totals::default() };
        writer.line(head)?;
        Ok(writer)
    }
    fn line(&mut self, line: &impl Serialize) -> Result<(), ManifestError> {
        let mut text = serde_json::to_vec(line).map_err(io::Error::from)?;
        text.push(b'\n');
        self.sum.update(&text);
        Ok(self.out.write_all(&text)?)
    }
    /// Adds a file. Errors: `Io`.
    pub fn file(&mut self, file: &FileLine) -> Result<(), ManifestError> {
        self.totals.files += 1;
        self.totals.bytes = self.totals.bytes.saturating_add(file.len);
        self.line(file)
    }
    /// Writes the last line, and hands the file back for a sync. Errors: `Io`.
    pub fn finish(mut self) -> Result<(W, Totals), ManifestError> {
        let Totals { files, bytes } = self.totals;
        let blake3 = self.sum.finalize().to_hex().to_string();
        self.line(&Tail { files, bytes, blake3 })?;
        Ok((self.out, self.totals))
    }
}

/// Reads a manifest to its end: the head, and every file in its order. What `each` was given counts only when this succeeds.
/// Errors: those of `each`, and of the manifest.
pub fn read<E: From<ManifestError>>(
    mut from: impl BufRead,
    mut each: impl FnMut(&Head, &FileLine) -> Result<(), E>,
) -> Result<(Head, Totals), E> {
    let (mut sum, mut totals, mut line) = (blake3::Hasher::new(), Totals::default(), Vec::new());
    let mut head: Option<Head> = None;
    for number in 1_u64.. {
        line.clear();
        let read = from.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line);
        read.map_err(ManifestError::from)?;
        let malformed = || E::from(ManifestError::Line { line: number });
        if line.is_empty() {
            break;
        }
        if line.last() != Some(&b'\n') {
            return Err(if line.len() as u64 == LINE_BYTES_MAX {
                malformed()
            } else {
                ManifestError::Unfinished.into()
            });
        }
        let Some(head) = &head else {
            let first: Head = serde_json::from_slice(&line).map_err(|_| malformed())?;
            if first.trullo_backup > BACKUP_FORMAT {
                return Err(ManifestError::Newer(first.trullo_backup).into());
            }
            head = Some(first);
            sum.update(&line);
            continue;
        };
        if let Ok(tail) = serde_json::from_slice::<Tail>(&line) {
            let fits = (tail.files, tail.bytes) == (totals.files, totals.bytes);
            if !fits || tail.blake3 != sum.finalize().to_hex().as_str() {
                return Err(ManifestError::Sum.into());
            }
            return Ok((head.clone(), totals));
        }
        let file: FileLine = serde_json::from_slice(&line).map_err(|_| malformed())?;
        if !file.is_plain() {
            return Err(malformed());
        }
        sum.update(&line);
        totals = Totals { files: totals.files + 1, bytes: totals.bytes.saturating_add(file.len) };
        each(head, &file)?;
    }
    Err(ManifestError::Unfinished.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> Head {
        Head { trullo_backup: BACKUP_FORMAT, chain: "c".into(), node: "n".into(), height: 3, slots: false }
    }

    fn manifest(paths: &[&str]) -> Vec<u8> {
        let mut writer = ManifestWriter::new(Vec::new(), &head()).expect("memory");
        for path in paths {
            let file = FileLine { path: (*path).to_owned(), len: 2, blake3: "00".into() };
            writer.file(&file).expect("memory");
        }
        writer.finish().expect("memory").0
    }

    fn paths(bytes: &[u8]) -> Result<Vec<String>, ManifestError> {
        let mut found = Vec::new();
        read(bytes, |_, file| {
            found.push(file.path.clone());
            Ok::<_, ManifestError>(())
        })?;
        Ok(found)
    }

    #[test]
    fn a_manifest_lists_what_was_written_into_it() {
        assert_eq!(paths(&manifest(&["a", "users/b.json"])).expect("whole"), ["a", "users/b.json"]);
        assert_eq!(paths(&manifest(&[])).expect("whole"), [] as [&str; 0]);
    }

    #[test]
    fn a_manifest_that_was_cut_or_changed_anywhere_is_none() {
        let whole = manifest(&["a", "b"]);
        for len in 0..whole.len() {
            assert!(paths(&whole[..len]).is_err(), "cut to {len}");
        }
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            assert!(paths(&changed).is_err(), "changed at {at}");
        }
    }

    #[test]
    fn a_path_that_leaves_the_home_and_a_later_format_are_refused() {
        for path in ["../x", "/etc/passwd", "a/../b", "a//b", ".", "a\\b", "1/2/3/4/5"] {
            assert!(matches!(paths(&manifest(&[path])), Err(ManifestError::Line { line: 2 })), "{path}");
        }
        let later = Head { trullo_backup: 2, ..head() };
        let bytes = ManifestWriter::new(Vec::new(), &later).expect("memory").finish().expect("memory").0;
        assert!(matches!(paths(&bytes), Err(ManifestError::Newer(2))));
    }
}

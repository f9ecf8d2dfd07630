//! Spool: slots of own files whose nodes were away, on this node's disk until the nodes are back.
//!
//! A file here is one slot, encrypted like any other, named by its file and its place; or the end of a slot whose node went away in
//! the middle of it, with the upload that the node has the beginning of, and the length of that. It appears under that name only when
//! it is whole and durable; what was begun and not named is of a put that broke off, and goes with the next start.

use std::io;
use std::path::{Path, PathBuf};

use tokio::fs::{self, File};
use tokio::io::AsyncWriteExt;

use crate::types::FileId;

/// What unfinished ones begin with.
const UNFINISHED: &str = "new-";

/// The directory.
#[derive(Clone, Debug)]
pub struct Spool {
    dir: PathBuf,
    /// Bytes of the disk that stay free.
    reserve: u64,
}

/// A slot that waits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kept {
    /// The file.
    pub file: FileId,
    /// The slot's place in it.
    pub slot: u8,
    /// What is here of it, if not all.
    pub part: Option<Part>,
    /// Where its bytes are.
    pub path: PathBuf,
}

/// The end of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Part {
    /// The upload that brought the beginning to its node.
    pub upload: [u8; 32],
    /// Bytes of the slot before this part.
    pub from: u64,
}

impl Spool {
    /// The spool of a home.
    pub fn of(home: &Path, reserve: u64) -> Self {
        Self { dir: home.join("spool"), reserve }
    }

    /// Begins a slot of about this length. Errors: `StorageFull` where it would use up the reserve; those of the disk.
    pub async fn begin(&self, upload: &[u8; 32], expected: u64) -> io::Result<Writing> {
        fs::create_dir_all(&self.dir).await?;
        let disk = rustix::fs::statvfs(&self.dir)?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        if free < self.reserve.saturating_add(expected) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let path = self.dir.join(format!("{UNFINISHED}{}", hex::encode(upload)));
        let file = File::create(&path).await?;
        Ok(Writing { file, path, dir: self.dir.clone(), named: false })
    }

    /// Slots that wait, by file and place. Errors: those of the disk.
    pub async fn list(&self) -> io::Result<Vec<Kept>> {
        let mut entries = match fs::read_dir(&self.dir).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut kept = Vec::new();
        while let Some(entry) = entries.next_entry().await? {
            let name = entry.file_name().to_string_lossy().into_owned();
            kept.extend(parse(&name).map(|(file, slot, part)| Kept { file, slot, part, path: entry.path() }));
        }
        kept.sort();
        Ok(kept)
    }

    /// Removes all that is kept of a file. Errors: those of the disk.
    pub async fn remove(&self, file: &FileId) -> io::Result<()> {
        for kept in self.list().await?.into_iter().filter(|kept| kept.file == *file) {
            fs::remove_file(&kept.path).await?;
        }
        Ok(())
    }

    /// Removes what was begun and not finished before the start. Errors: those of the disk.
    pub async fn sweep(&self) -> io::Result<()> {
        let mut entries = match fs::read_dir(&self.dir).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        while let Some(entry) = entries.next_entry().await? {
            if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
                fs::remove_file(entry.path()).await?;
            }
        }
        Ok(())
    }
}

fn name(file: &FileId, slot: u8, part: Option<Part>) -> String {
    match part {
        None => format!("{file}-{slot}"),
        Some(Part { upload, from }) => format!("{file}-{slot}-{from}-{}", hex::encode(upload)),
    }
}

fn parse(name: &str) -> Option<(FileId, u8, Option<Part>)> {
    let mut words = name.split('-');
    let (file, slot) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let Some(from) = words.next() else { return Some((file, slot, None)) };
    let mut part = Part { upload: [0; 32], from: from.parse().ok()? };
    hex::decode_to_slice(words.next()?, &mut part.upload).ok()?;
    words.next().is_none().then_some((file, slot, Some(part)))
}

/// A slot that is being written; it is removed unless it gets its name.
pub struct Writing {
    file: File,
    path: PathBuf,
    dir: PathBuf,
    named: bool,
}

impl Writing {
    /// Appends bytes. Errors: those of the disk.
    pub async fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes).await
    }
    /// Makes it durable as a file's slot, or as a part of it. Errors: those of the disk.
    pub async fn finish(mut self, file: &FileId, slot: u8, part: Option<Part>) -> io::Result<()> {
        self.file.flush().await?;
        self.file.sync_all().await?;
        fs::rename(&self.path, self.dir.join(name(file, slot, part))).await?;
        self.named = true;
        File::open(&self.dir).await?.sync_all().await
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        if !self.named {
            // What stays goes with the next start.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_slot_is_listed_when_it_is_whole_and_what_broke_off_is_removed() {
        let home = tempfile::tempdir().expect("a directory");
        let spool = Spool::of(home.path(), 0);
        assert_eq!(spool.list().await.expect("no directory is no slots"), []);
        let file = FileId::from_bytes([7; 32]);
        let mut writing = spool.begin(&[1; 32], 3).await.expect("room");
        writing.append(b"abc").await.expect("a write");
        assert_eq!(spool.list().await.expect("a look"), []);
        writing.finish(&file, 200, None).await.expect("a name");
        let [kept] = spool.list().await.expect("a look").try_into().expect("one slot");
        assert_eq!((kept.file, kept.slot), (file, 200));
        assert_eq!(std::fs::read(&kept.path).expect("a file"), b"abc");
        drop(spool.begin(&[2; 32], 3).await.expect("room"));
        std::fs::write(home.path().join("spool/new-3"), b"of a crash").expect("a file");
        spool.sweep().await.expect("a sweep");
        let left = || std::fs::read_dir(home.path().join("spool")).expect("a directory").count();
        assert_eq!(left(), 1);
        let part = Part { upload: [3; 32], from: 77 };
        let writing = spool.begin(&[1; 32], 3).await.expect("room");
        writing.finish(&file, 7, Some(part)).await.expect("a name");
        assert_eq!(spool.list().await.expect("a look")[0].part, Some(part));
        spool.remove(&FileId::from_bytes([8; 32])).await.expect("no such file");
        assert_eq!(left(), 2);
        spool.remove(&file).await.expect("a removal");
        assert_eq!(left(), 0);
    }

    #[tokio::test]
    async fn the_disks_reserve_is_left_alone() {
        let home = tempfile::tempdir().expect("a directory");
        let full = Spool::of(home.path(), u64::MAX).begin(&[1; 32], 1).await;
        assert_eq!(full.err().map(|error| error.kind()), Some(io::ErrorKind::StorageFull));
    }

    #[test]
    fn names_that_are_no_slots_are_passed_over() {
        let id = FileId::from_bytes([7; 32]);
        let part = Part { upload: [9; 32], from: u64::MAX };
        for part in [None, Some(part)] {
            assert_eq!(parse(&name(&id, 3, part)), Some((id, 3, part)));
        }
        let long = name(&id, 3, Some(part)) + "-";
        for name in ["new-3", "-", "", &format!("{id}-256"), &format!("{id}"), &format!("{id}-3-7-ab"), &long] {
            assert_eq!(parse(name), None, "{name:?}");
        }
    }
}

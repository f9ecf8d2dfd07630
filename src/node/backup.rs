//! Backups: a directory with copies of a home's files, and a manifest with their sums.
//!
//! Made while the node runs: the databases are copied from one snapshot each. The manifest is closed last, so a backup that
//! was interrupted does not verify. Keys are in it as they are in the home, in files that only their owner may read. In a
//! restored home a key that has signed is in quarantine (protocol rule 12). Everything streams; nothing is overwritten.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::home::{HomeError, at, make_dir, sync_dir};
use crate::config::backup::{BACKUP_FORMAT, FileLine, Head, ManifestError, ManifestWriter, Totals, read};
use crate::store::{Local, Snapshot, StoreError};
use crate::types::{ChainId, NodeId};

/// The list of what is in a backup.
const MANIFEST: &str = "manifest.jsonl";
/// Files of a home that go along as they are, where they are there. The first makes it a home, so it is restored last.
const FILES: [&str; 5] = ["config.toml", "genesis.json", "keystore.json", "password", "s3.keys"];
/// Bytes copied at once.
const PIECE: usize = 1 << 20;

/// Why there is no backup, or none that can be used.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A file of the home or of the backup.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The databases.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Something is where the backup is to be.
    #[error("{} exists already", .0.display())]
    Exists(PathBuf),
    /// There is no backup.
    #[error("{} is no backup: it has no {MANIFEST}", .0.display())]
    Missing(PathBuf),
    /// The manifest.
    #[error("the list of the backup: {0}")]
    Manifest(#[from] ManifestError),
    /// A file is not what it was.
    #[error("{path} of the backup is damaged")]
    Damaged {
        /// Its path in the backup.
        path: String,
    },
}

/// What a backup holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    /// Of which node and chain, and up to which block.
    pub head: Head,
    /// How much.
    pub totals: Totals,
}

/// What a backup is made from.
pub struct Source<'a> {
    /// The home.
    pub home: &'a Path,
    /// The chain's database.
    pub snapshot: &'a Snapshot,
    /// The node's own.
    pub local: &'a Local,
    /// The chain.
    pub chain: ChainId,
    /// The node.
    pub node: NodeId,
}

/// Makes a backup in a directory that is not there yet; if that fails, nothing of it is left. Blocks on the disk. Errors: `Exists`,
/// `Home`, `Store`.
pub fn create(source: &Source<'_>, dir: &Path, slots: bool) -> Result<Backup, BackupError> {
    if dir.symlink_metadata().is_ok() {
        return Err(BackupError::Exists(dir.to_owned()));
    }
    if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::create_dir_all(parent).map_err(|error| at("making", parent, error))?;
    }
    // Only one process can be the one that made it.
    fs::create_dir(dir).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => BackupError::Exists(dir.to_owned()),
        _ => at("making", dir, error).into(),
    })?;
    let made = fill(source, dir, slots);
    if made.is_err() {
        // What is left would look like a backup.
        let _ = fs::remove_dir_all(dir);
    }
    made
}

fn fill(source: &Source<'_>, dir: &Path, slots: bool) -> Result<Backup, BackupError> {
    make_dir(dir)?;
    let height = source.snapshot.tip()?.map_or(0, |tip| tip.height.get());
    let (chain, node) = (source.chain.to_string(), source.node.to_string());
    let head = Head { trullo_backup: BACKUP_FORMAT, chain, node, height, slots };
    let path = dir.join(MANIFEST);
    let file = new_file(&path).map_err(|error| at("making", &path, error))?;
    let mut manifest = ManifestWriter::new(BufWriter::new(file), &head)?;
    source.snapshot.copy_to(&dir.join("node.redb"))?;
    source.local.copy_to(&dir.join("local.redb"), slots)?;
    for name in ["node.redb", "local.redb"] {
        let path = dir.join(name);
        let (len, blake3) = sum(&path).map_err(|error| at("reading", &path, error))?;
        manifest.file(&FileLine { path: name.to_owned(), len, blake3 })?;
    }
    for name in FILES.into_iter().rev() {
        add(&mut manifest, source.home, dir, name)?;
    }
    folder(&mut manifest, source.home, dir, "users")?;
    if slots {
        for name in names(&source.home.join("slots"))?.iter().filter(|name| name.len() == 2) {
            folder(&mut manifest, source.home, dir, &format!("slots/{name}"))?;
        }
    }
    let (out, totals) = manifest.finish()?;
    let file = out.into_inner().map_err(|error| at("writing", &path, error.into_error()))?;
    file.sync_all().map_err(|error| at("syncing", &path, error))?;
    sync_dir(dir)?;
    sync_dir(dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")))?;
    Ok(Backup { head, totals })
}

type Manifest = ManifestWriter<BufWriter<File>>;

/// Copies the files of one directory of the home.
fn folder(manifest: &mut Manifest, home: &Path, dir: &Path, name: &str) -> Result<(), BackupError> {
    let found = names(&home.join(name))?;
    if found.is_empty() {
        return Ok(());
    }
    make_dir(&dir.join(name))?;
    for file in found {
        add(manifest, home, dir, &format!("{name}/{file}"))?;
    }
    Ok(sync_dir(&dir.join(name))?)
}

/// Copies one file, if it is there: what goes meanwhile, as slots do, was to go.
fn add(manifest: &mut Manifest, home: &Path, dir: &Path, name: &str) -> Result<(), BackupError> {
    let (from, to) = (home.join(name), dir.join(name));
    let source = match File::open(&from) {
        Ok(source) => source,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(at("opening", &from, error).into()),
    };
    let (len, blake3) = copy(source, &to).map_err(|error| at("copying to", &to, error))?;
    Ok(manifest.file(&FileLine { path: name.to_owned(), len, blake3 })?)
}

/// Names of the plain files in a directory, or of the directories in it, in order; none where there is no directory. A
/// name that is no UTF-8 is not the node's.
fn names(dir: &Path) -> Result<Vec<String>, HomeError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(at("looking into", dir, error)),
    };
    let names: io::Result<Vec<_>> = entries.map(|entry| Ok(entry?.file_name().into_string().ok())).collect();
    let mut names: Vec<_> = names.map_err(|error| at("looking into", dir, error))?.into_iter().flatten().collect();
    // A file that is being replaced has this ending until it is complete.
    names.retain(|name| !name.ends_with(".new"));
    names.sort_unstable();
    Ok(names)
}

fn new_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// Copies into a new file, durably; its length and hash.
fn copy(from: File, to: &Path) -> io::Result<(u64, String)> {
    let mut file = new_file(to)?;
    let done = stream(from, |piece| file.write_all(piece))?;
    file.sync_all()?;
    Ok(done)
}

/// Length and hash of a file.
fn sum(path: &Path) -> io::Result<(u64, String)> {
    stream(File::open(path)?, |_| Ok(()))
}

fn stream(mut from: File, mut each: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<(u64, String)> {
    let (mut piece, mut hasher, mut len) = (vec![0; PIECE], blake3::Hasher::new(), 0_u64);
    loop {
        let read = match from.read(&mut piece) {
            Ok(0) => return Ok((len, hasher.finalize().to_hex().to_string())),
            Ok(read) => &piece[..read],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hasher.update(read);
        each(read)?;
        len += read.len() as u64;
    }
}

fn open_manifest(dir: &Path) -> Result<BufReader<File>, BackupError> {
    let path = dir.join(MANIFEST);
    match File::open(&path) {
        Ok(file) => Ok(BufReader::new(file)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Err(BackupError::Missing(dir.to_owned()))
        }
        Err(error) => Err(at("opening", &path, error).into()),
    }
}

/// Opens a file of the backup for reading. Errors: `Damaged` when it is not there.
fn open(dir: &Path, file: &FileLine) -> Result<File, BackupError> {
    let path = dir.join(&file.path);
    File::open(&path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => BackupError::Damaged { path: file.path.clone() },
        _ => at("opening", &path, error).into(),
    })
}

/// Reads every file of a backup and compares it with the manifest. Errors: `Missing`, `Manifest`, `Damaged`, `Home`.
pub fn verify(dir: &Path) -> Result<Backup, BackupError> {
    let (head, totals) = read(open_manifest(dir)?, |_, file| {
        let found = stream(open(dir, file)?, |_| Ok(()));
        match found.map_err(|error| at("reading", &dir.join(&file.path), error))? {
            (len, blake3) if len == file.len && blake3 == file.blake3 => Ok(()),
            _ => Err(BackupError::Damaged { path: file.path.clone() }),
        }
    })?;
    Ok(Backup { head, totals })
}

/// Makes a home of a backup, in a directory that is not there or empty; each file is compared with the manifest as it is
/// copied. Until the last one is durable it is no home. Errors: those of `verify`; `Home` with `Exists`.
pub fn restore(dir: &Path, home: &Path) -> Result<Backup, BackupError> {
    // The list must be whole before anything is made.
    read(open_manifest(dir)?, |_, _| Ok::<_, BackupError>(()))?;
    let occupied = match fs::read_dir(home) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(at("looking into", home, error).into()),
    };
    if occupied {
        return Err(HomeError::Exists { path: home.to_owned() }.into());
    }
    if let Some(parent) = home.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::create_dir_all(parent).map_err(|error| at("making", parent, error))?;
    }
    let new_here = fs::create_dir(home).is_ok();
    let made = unpack(dir, home);
    if made.is_err() && new_here {
        // What is left would be in the way of the next try.
        let _ = fs::remove_dir_all(home);
    }
    made
}

fn unpack(dir: &Path, home: &Path) -> Result<Backup, BackupError> {
    make_dir(home)?;
    make_dir(&home.join("slots"))?;
    let mut config = None;
    let (head, totals) = read(open_manifest(dir)?, |_, file| {
        if file.path == FILES[0] {
            config = Some(file.clone());
            return Ok(());
        }
        put_back(dir, home, file)
    })?;
    let config = config.ok_or_else(|| BackupError::Damaged { path: FILES[0].to_owned() })?;
    put_back(dir, home, &config)?;
    sync_dir(home.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")))?;
    Ok(Backup { head, totals })
}

fn put_back(dir: &Path, home: &Path, file: &FileLine) -> Result<(), BackupError> {
    let to = home.join(&file.path);
    let parent = to.parent().unwrap_or(home);
    make_dir(parent)?;
    let (len, blake3) = copy(open(dir, file)?, &to).map_err(|error| at("copying to", &to, error))?;
    if len != file.len || blake3 != file.blake3 {
        return Err(BackupError::Damaged { path: file.path.clone() });
    }
    Ok(sync_dir(parent)?)
}

#[cfg(test)]
#[path = "backup_tests.rs"]
mod tests;

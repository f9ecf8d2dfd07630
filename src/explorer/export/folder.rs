//! The directory of an export: one writer at a time, and files that are complete or not there.

use std::fs::{self, File, TryLockError};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::error::{ExportError, Refusal, WriteError};

/// Ending of a file that is being written.
pub(super) const PARTIAL: &str = ".partial";

/// The open directory. Locked against other exports while it lives.
pub(super) struct Folder {
    path: PathBuf,
    lock: File,
}

impl Folder {
    /// Makes the directory if need be, and locks it.
    pub(super) fn open<E>(path: &Path) -> Result<Self, ExportError<E>> {
        fs::create_dir_all(path).map_err(WriteError::at("making", path))?;
        let lock = File::open(path).map_err(WriteError::at("opening", path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Refusal::Busy(path.to_owned()).into()),
            Err(TryLockError::Error(error)) => return Err(WriteError::at("locking", path)(error).into()),
        }
        Ok(Self { path: path.to_owned(), lock })
    }
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
    /// Names of all entries.
    pub(super) fn names(&self) -> Result<Vec<String>, WriteError> {
        names(&self.path)
    }
    /// Begins a file that nobody sees under its name before `publish`.
    pub(super) fn create(&self, name: &str) -> Result<NewFile<'_>, WriteError> {
        let temporary = self.file(&format!("{name}{PARTIAL}"));
        let file = File::create(&temporary).map_err(WriteError::at("making", &temporary))?;
        let out = Hashed { file, hasher: blake3::Hasher::new(), bytes: 0 };
        Ok(NewFile { folder: self, temporary, out: BufWriter::new(out) })
    }
    /// Writes a small file as a whole.
    pub(super) fn replace(&self, name: &str, content: &[u8]) -> Result<(), WriteError> {
        let mut file = self.create(name)?;
        file.write_all(content).map_err(WriteError::at("writing", &file.temporary))?;
        file.publish(name).map(|_| ())
    }
    /// Removes a file; one that is not there is fine.
    pub(super) fn remove(&self, name: &str) -> Result<(), WriteError> {
        let path = self.file(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(WriteError::at("removing", &path)(error)),
            _ => Ok(()),
        }
    }
    /// Gives a complete file its name, durably.
    pub(super) fn rename(&self, temporary: &Path, name: &str) -> Result<(), WriteError> {
        let path = self.file(name);
        fs::rename(temporary, &path).map_err(WriteError::at("renaming to", &path))?;
        self.lock.sync_all().map_err(WriteError::at("syncing", &self.path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Closing the file is not enough: a process that is just being started elsewhere holds a copy of it until it runs.
        let _ = self.lock.unlock();
    }
}

/// Names of a directory's entries; none if it does not exist.
pub(super) fn names(path: &Path) -> Result<Vec<String>, WriteError> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(WriteError::at("listing", path))?,
    };
    let name = |entry: io::Result<fs::DirEntry>| entry.map(|entry| entry.file_name().to_string_lossy().into_owned());
    entries.map(name).collect::<Result<_, _>>().map_err(WriteError::at("listing", path))
}

/// Length and hash of a file that is there.
pub(super) fn measure(path: &Path) -> Result<Written, WriteError> {
    let mut hasher = blake3::Hasher::new();
    let hashed = File::open(path).and_then(|file| hasher.update_reader(file).map(|_| ()));
    hashed.map_err(WriteError::at("reading", path))?;
    Ok(Written { bytes: hasher.count(), blake3: hasher.finalize().to_hex().to_string() })
}

/// What became of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) bytes: u64,
    pub(super) blake3: String,
}

/// A file in the making; hashed as it is written, removed unless it is published.
pub(super) struct NewFile<'a> {
    folder: &'a Folder,
    temporary: PathBuf,
    out: BufWriter<Hashed>,
}

impl NewFile<'_> {
    /// Makes the content durable, then gives it its name.
    pub(super) fn publish(mut self, name: &str) -> Result<Written, WriteError> {
        self.out.flush().map_err(WriteError::at("writing", &self.temporary))?;
        let out = self.out.get_ref();
        out.file.sync_all().map_err(WriteError::at("syncing", &self.temporary))?;
        self.folder.rename(&self.temporary, name)?;
        Ok(Written { bytes: out.bytes, blake3: out.hasher.finalize().to_hex().to_string() })
    }
    pub(super) fn path(&self) -> &Path {
        &self.temporary
    }
}

impl Write for NewFile<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl Drop for NewFile<'_> {
    fn drop(&mut self) {
        // A published file is no longer under this name. What cannot be removed now, the next run removes.
        let _ = fs::remove_file(&self.temporary);
    }
}

/// The file itself, with the hash of what went into it.
struct Hashed {
    file: File,
    hasher: blake3::Hasher,
    bytes: u64,
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(bytes.get(..written).unwrap_or_default());
        self.bytes += written as u64;
        Ok(written)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

//! Local: what a directory of this machine holds, as it can go into a folder.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::Failure;
use crate::cli::context::unreadable;
use crate::cli::errors::{CliError, Exit};

/// A file, directory or link.
#[derive(Clone, Debug)]
pub(super) struct Found {
    /// Its path from the directory on; empty for the directory itself.
    pub rest: String,
    /// Where it is.
    pub path: PathBuf,
    /// What it is.
    pub kind: Kind,
    /// What the system says of it; of the link, not of what it leads to.
    pub meta: Metadata,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Folder,
    Link(String),
}

/// Permission bits.
pub(super) fn mode(meta: &Metadata) -> u32 {
    meta.mode() & 0o7777
}

/// Time of the last change, nanoseconds since the Unix epoch.
pub(super) fn mtime_ns(meta: &Metadata) -> i64 {
    meta.mtime().saturating_mul(1_000_000_000).saturating_add(meta.mtime_nsec())
}

/// Everything in a directory, itself first, each directory before what is in it. What cannot go into a folder is told apart;
/// links are not followed. Errors: the directory cannot be read.
pub(super) fn walk(dir: &Path) -> Result<(Vec<Found>, Vec<Failure>)> {
    let meta = std::fs::metadata(dir).map_err(|error| unreadable(dir, &error))?;
    if !meta.is_dir() {
        let error = CliError::new(Exit::Usage, format!("{} is no directory", dir.display()));
        return Err(error.hint(format!("without -r: trullo put {} /PATH", dir.display())).into());
    }
    let (mut found, mut failures) = (Vec::new(), Vec::new());
    let mut open = vec![Found { rest: String::new(), path: dir.to_owned(), kind: Kind::Folder, meta }];
    while let Some(here) = open.pop() {
        let (path, rest) = (here.path.clone(), here.rest.clone());
        found.push(here);
        let entries = match std::fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if rest.is_empty() => return Err(unreadable(&path, &error).into()),
            Err(error) => {
                failures.push(Failure::new(path.display().to_string(), error.to_string()));
                continue;
            }
        };
        for entry in entries {
            match entry.map_err(|error| Failure::new(path.display().to_string(), error.to_string())) {
                Ok(entry) => match look(&rest, &entry) {
                    Ok(next) if next.kind == Kind::Folder => open.push(next),
                    Ok(next) => found.push(next),
                    Err(failure) => failures.push(failure),
                },
                Err(failure) => failures.push(failure),
            }
        }
    }
    found.sort_by(|a, b| a.rest.cmp(&b.rest));
    Ok((found, failures))
}

fn look(above: &str, entry: &std::fs::DirEntry) -> Result<Found, Failure> {
    let path = entry.path();
    let failure = |reason: String| Failure::new(path.display().to_string(), reason);
    let name = entry.file_name();
    let name = name.to_str().ok_or_else(|| failure("its name is not UTF-8; rename it".to_owned()))?;
    crate::files::tree::name(name).map_err(|reason| failure(reason.to_owned()))?;
    let rest = if above.is_empty() { name.to_owned() } else { format!("{above}/{name}") };
    let meta = entry.metadata().map_err(|error| failure(error.to_string()))?;
    let kind = if meta.is_dir() {
        Kind::Folder
    } else if meta.is_file() {
        Kind::File
    } else if meta.is_symlink() {
        let target = std::fs::read_link(&path).map_err(|error| failure(error.to_string()))?;
        let target = target.to_str().ok_or_else(|| failure("where it leads is not UTF-8".to_owned()))?;
        Kind::Link(target.to_owned())
    } else {
        return Err(failure("it is no file, directory or link".to_owned()));
    };
    Ok(Found { rest, path: path.clone(), kind, meta })
}

//! Pull: folders and files back to this machine.
//!
//! A file is written beside its place and takes its name when it is whole and has the right hash. Links are made last, and
//! nothing is ever written through a link, so that no name and no link leads out of the directory.

use std::collections::HashSet;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use futures::StreamExt;
use reqwest::{Method, header};
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::local::mtime_ns;
use super::push::hash_file;
use super::{Failure, below, is_fatal, join, stat, tell_failures};
use crate::api::tree_views::{ContentView, EntryKind, EntryView};
use crate::cli::client::Client;
use crate::cli::context::Context;
use crate::cli::errors::{CliError, Exit};
use crate::cli::get::lock_part;
use crate::cli::output::{Progress, short, size};

/// Files that are fetched at the same time.
const AT_ONCE: usize = 16;
/// How long the node may take for the next bytes.
const WAIT: Duration = Duration::from_secs(60);

/// How to pull.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pull {
    /// Replace what is there and differs.
    pub force: bool,
    /// Compare contents even where size and time are the same.
    pub checksum: bool,
    /// The version of a single file.
    pub version: Option<u64>,
}

/// What came of it.
#[derive(Clone, Debug, Default, Serialize)]
struct Summary {
    fetched: u64,
    fetched_bytes: u64,
    folders: u64,
    links: u64,
    unchanged: u64,
    failed: u64,
    seconds: f64,
}

/// Makes a directory what a folder is.
pub async fn pull(context: &Context, client: &Client, base: &str, dir: &Path, how: &Pull) -> Result<()> {
    let started = Instant::now();
    if stat(client, base).await?.kind != EntryKind::Folder {
        let error = CliError::new(Exit::Usage, format!("{base} is no folder"));
        return Err(error.hint(format!("without -r: trullo get {base}")).into());
    }
    let (mut summary, mut failures) = (Summary::default(), Vec::new());
    fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    let places = Arc::new(Places::of(dir));
    let (mut folders, mut files, mut links) = (Vec::new(), Vec::new(), Vec::new());
    for (rest, entry) in below(client, base).await? {
        let placed = if rest.is_empty() { Ok(dir.to_owned()) } else { places.place(&rest) };
        match placed {
            Err(reason) => failures.push(Failure::new(join(base, &rest), reason)),
            Ok(path) if entry.kind == EntryKind::Folder => folders.push((path, entry)),
            Ok(path) if entry.kind == EntryKind::Symlink => links.push((path, entry)),
            Ok(path) => files.push((path, entry)),
        }
    }
    for (path, entry) in &folders {
        match places.folder(path) {
            Ok(()) => summary.folders += 1,
            Err(reason) => failures.push(Failure::new(entry.path.clone(), reason)),
        }
    }
    let total = files.iter().filter_map(|(_, entry)| entry.content.as_ref()).map(|content| content.bytes).sum();
    let progress = context.out.progress("fetching", Some(total), 0);
    let fetching = futures::stream::iter(files).map(|(path, entry)| {
        let (progress, places) = (&progress, &places);
        async move {
            let done = fetch(client, &entry, &path, places, how, progress).await;
            (entry, done)
        }
    });
    let mut fetching = std::pin::pin!(fetching.buffer_unordered(AT_ONCE));
    while let Some((entry, done)) = fetching.next().await {
        match done {
            Ok(None) => summary.unchanged += 1,
            Ok(Some(bytes)) => {
                summary.fetched += 1;
                summary.fetched_bytes += bytes;
                context.out.line("item", &serde_json::json!({ "action": "get", "path": entry.path }), || None)?;
            }
            Err(error) => match CliError::of(&error) {
                error if is_fatal(&error) => return Err(error.into()),
                error => failures.push(Failure::of(entry.path, &error)),
            },
        }
    }
    progress.clear();
    for (path, entry) in links {
        match places.link(&path, &entry, how.force) {
            Ok(true) => summary.links += 1,
            Ok(false) => summary.unchanged += 1,
            Err(reason) => failures.push(Failure::new(entry.path, reason)),
        }
    }
    // The deepest first: what is made in a folder changes its time.
    for (path, entry) in folders.iter().rev() {
        if let Err(error) = dress(path, entry) {
            failures.push(Failure::new(path.display().to_string(), error.to_string()));
        }
    }
    (summary.seconds, summary.failed) = (started.elapsed().as_secs_f64(), failures.len() as u64);
    let text = format!(
        "{} files ({}) fetched, {} unchanged, in {:.1} s",
        summary.fetched,
        size(summary.fetched_bytes),
        summary.unchanged,
        summary.seconds
    );
    context.out.say(&text);
    context.out.line("summary", &summary, || None)?;
    tell_failures(context, &failures, &text)
}

/// Where things go below a directory, and what was found to be a real directory there.
struct Places {
    root: PathBuf,
    real: Mutex<HashSet<PathBuf>>,
}

impl Places {
    fn of(root: &Path) -> Self {
        Self { root: root.to_owned(), real: Mutex::new(HashSet::from([root.to_owned()])) }
    }

    /// The place of a path. Errors: a part of it is no name.
    fn place(&self, rest: &str) -> Result<PathBuf, String> {
        let mut path = self.root.clone();
        for part in rest.split('/') {
            crate::files::tree::name(part).map_err(str::to_owned)?;
            path.push(part);
        }
        Ok(path)
    }

    /// Makes a directory, and those above it. Errors: something else is there, above all a link.
    fn folder(&self, path: &Path) -> Result<(), String> {
        let mut real = self.real.lock().unwrap_or_else(PoisonError::into_inner);
        let below = path.strip_prefix(&self.root).map_err(|_| "it lies outside of the directory".to_owned())?;
        let mut here = self.root.clone();
        for part in below.components() {
            here.push(part);
            if real.contains(&here) {
                continue;
            }
            match fs::symlink_metadata(&here) {
                Ok(meta) if meta.is_dir() => {}
                Ok(meta) if meta.is_symlink() => {
                    return Err(format!("{} is a link; nothing is written through it", here.display()));
                }
                Ok(_) => return Err(format!("{} is no directory", here.display())),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    fs::create_dir(&here).map_err(|error| format!("making {}: {error}", here.display()))?;
                }
                Err(error) => return Err(format!("{}: {error}", here.display())),
            }
            real.insert(here.clone());
        }
        Ok(())
    }

    /// Makes a link; false if it was there. Errors: something else is there.
    fn link(&self, path: &Path, entry: &EntryView, force: bool) -> Result<bool, String> {
        let target = entry.target.as_deref().unwrap_or_default();
        self.folder(path.parent().unwrap_or(&self.root))?;
        match fs::symlink_metadata(path) {
            Ok(meta) if meta.is_symlink() && fs::read_link(path).is_ok_and(|have| have == Path::new(target)) => {
                return Ok(false);
            }
            Ok(meta) if !force || meta.is_dir() => return Err(exists(path)),
            Ok(_) => fs::remove_file(path).map_err(|error| error.to_string())?,
            Err(_) => {}
        }
        symlink(target, path).map_err(|error| format!("making the link: {error}"))?;
        let nanos = entry.mtime_ns.unwrap_or_default();
        let (tv_sec, tv_nsec) = (nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000));
        let time = rustix::fs::Timespec { tv_sec, tv_nsec };
        let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
        let follow = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::utimensat(rustix::fs::CWD, path, &times, follow)
            .map(|()| true)
            .map_err(|error| format!("setting the link's time: {error}"))
    }
}

fn exists(path: &Path) -> String {
    format!("{} exists and is another one; -f replaces files", path.display())
}

/// Gives a file or directory its mode and time. No bits that give its owner's rights to whoever runs it.
fn dress(path: &Path, entry: &EntryView) -> io::Result<()> {
    let file = fs::File::open(path)?;
    if let Some(nanos) = entry.mtime_ns {
        file.set_modified(time(nanos))?;
    }
    entry.mode.map_or(Ok(()), |mode| file.set_permissions(Permissions::from_mode(mode & 0o777)))
}

fn time(nanos: i64) -> SystemTime {
    let by = Duration::from_nanos(nanos.unsigned_abs());
    let at = if nanos < 0 { UNIX_EPOCH.checked_sub(by) } else { UNIX_EPOCH.checked_add(by) };
    at.unwrap_or(UNIX_EPOCH)
}

/// Fetches one file to its place; nothing if it is there already.
async fn fetch(
    client: &Client,
    entry: &EntryView,
    path: &Path,
    places: &Places,
    how: &Pull,
    progress: &Progress,
) -> Result<Option<u64>> {
    let failed = |reason: String| CliError::new(Exit::Conflict, reason);
    let dir = path.parent().unwrap_or(&places.root);
    places.folder(dir).map_err(failed)?;
    let content = entry.content.as_ref().with_context(|| format!("{} has no content", entry.path))?;
    if let Ok(meta) = fs::symlink_metadata(path) {
        let same = meta.is_file() && meta.len() == content.bytes && Some(mtime_ns(&meta)) == entry.mtime_ns;
        if same && (!how.checksum || same_bytes(path, content).await?) {
            progress.add(content.bytes);
            return Ok(None);
        }
        if meta.is_file() && meta.len() == content.bytes && same_bytes(path, content).await? {
            dress(path, entry).with_context(|| format!("changing {}", path.display()))?;
            progress.add(content.bytes);
            return Ok(None);
        }
        if meta.is_dir() || !how.force {
            return Err(failed(exists(path)).into());
        }
    }
    // The content is in the name, so that bytes of two never meet in one.
    let id = content.pieces.first().map_or_else(|| "empty".to_owned(), |piece| short(&piece.file_id));
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let told = short(blake3::hash(name.as_bytes()).to_hex().as_str());
    let part = dir.join(format!(".{told}.{id}.part"));
    // It stays locked until it has its name.
    let _written = write(client, entry, content, &part, progress).await?;
    dress(&part, entry).with_context(|| format!("changing {}", part.display()))?;
    if let Err(error) = fs::rename(&part, path) {
        let _ = fs::remove_file(&part);
        return Err(error).with_context(|| format!("renaming to {}", path.display()));
    }
    Ok(Some(content.bytes))
}

async fn same_bytes(path: &Path, content: &ContentView) -> Result<bool> {
    let Some(hash) = &content.hash else { return Ok(false) };
    let owned = path.to_owned();
    let hashed = tokio::task::spawn_blocking(move || hash_file(&owned)).await?;
    Ok(hashed.with_context(|| format!("reading {}", path.display()))? == *hash)
}

/// Writes a content to a file that may have its beginning already, and checks the whole.
async fn write(
    client: &Client,
    entry: &EntryView,
    content: &ContentView,
    part: &Path,
    progress: &Progress,
) -> Result<tokio::fs::File> {
    let writing = || format!("writing {}", part.display());
    let mut options = fs::OpenOptions::new();
    options.create(true).read(true).append(true).mode(0o600).custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32);
    let mut file = lock_part(options.open(part).with_context(writing)?, part)?;
    let mut hasher = blake3::Hasher::new();
    let mut have = file.metadata().await.with_context(writing)?.len();
    // Without a hash nobody can tell whether a beginning is that of this content.
    if have > content.bytes || content.hash.is_none() {
        file.set_len(0).await.with_context(writing)?;
        have = 0;
    }
    let mut buffer = vec![0; 256 << 10];
    let mut left = have;
    while left > 0 {
        let read = file.read(&mut buffer).await.with_context(writing)?;
        left = left.saturating_sub(read as u64);
        hasher.update(&buffer[..read]);
    }
    progress.add(have);
    copy(client, &entry.path, content, have, &mut file, Some(&mut hasher), progress).await?;
    if content.hash.as_ref().is_some_and(|hash| *hash != hasher.finalize().to_hex().to_string()) {
        // What is wrong is not gone on with.
        let _ = tokio::fs::remove_file(part).await;
        let message = format!("{} does not have the hash that its folder says", entry.path);
        return Err(CliError::new(Exit::Verification, message).into());
    }
    file.sync_data().await.with_context(writing)?;
    Ok(file)
}

/// Copies a content from an offset on. Errors: exit 6 if fewer bytes come.
async fn copy(
    client: &Client,
    path: &str,
    content: &ContentView,
    from: u64,
    target: &mut (impl AsyncWrite + Unpin),
    mut hasher: Option<&mut blake3::Hasher>,
    progress: &Progress,
) -> Result<()> {
    let mut left = content.bytes - from;
    if left == 0 {
        return Ok(());
    }
    let query = [("path", path.to_owned()), ("version", content.version.to_string())];
    let mut request = client.request(Method::GET, "/v1/tree/file").query(&query);
    if from > 0 {
        request = request.header(header::RANGE, format!("bytes={from}-"));
    }
    let response = client.within(WAIT, client.send(request)).await?;
    let mut pieces = response.bytes_stream();
    while let Some(Ok(piece)) = client.within(WAIT, async { Ok(pieces.next().await) }).await? {
        left = left.checked_sub(piece.len() as u64).context("the node sent more bytes than were asked for")?;
        if let Some(hasher) = &mut hasher {
            hasher.update(&piece);
        }
        target.write_all(&piece).await.context("writing")?;
        progress.add(piece.len() as u64);
    }
    target.flush().await.context("writing")?;
    if left == 0 {
        return Ok(());
    }
    Err(CliError::new(Exit::NotReady, format!("the node ended {path} {left} bytes too early")).into())
}

/// Reads a content to its end and says whether it has its hash.
pub(super) async fn reads_whole(
    client: &Client,
    path: &str,
    content: &ContentView,
    progress: &Progress,
) -> Result<bool> {
    let mut hasher = blake3::Hasher::new();
    copy(client, path, content, 0, &mut tokio::io::sink(), Some(&mut hasher), progress).await?;
    Ok(content.hash.as_ref().is_none_or(|hash| *hash == hasher.finalize().to_hex().to_string()))
}

/// Fetches one file, or an older version of it, to a path or to stdout.
pub async fn pull_file(context: &Context, client: &Client, from: &str, out: Option<&Path>, how: &Pull) -> Result<()> {
    let started = Instant::now();
    let mut entry = stat(client, &super::remote(from)?).await?;
    if entry.kind != EntryKind::File {
        let what = if entry.kind == EntryKind::Folder { "a folder" } else { "a link" };
        let error = CliError::new(Exit::Usage, format!("{} is {what}", entry.path));
        return Err(error
            .hint(format!("trullo get -r {} DIR fetches a folder with all that is in it", entry.path))
            .into());
    }
    if let Some(number) = how.version.filter(|number| Some(*number) != entry.content.as_ref().map(|c| c.version)) {
        let older = entry.versions.iter().find(|content| content.version == number).cloned();
        let missing = || CliError::new(Exit::NotFound, format!("{} has no version {number}", entry.path));
        let older = older.ok_or_else(|| missing().hint(format!("see trullo versions {}", entry.path)))?;
        // Its time is that of the present one, so nothing here can be taken for it.
        (entry.content, entry.mtime_ns) = (Some(older), None);
    }
    let content = entry.content.clone().with_context(|| format!("{} has no content", entry.path))?;
    let name = PathBuf::from(entry.path.rsplit('/').next().unwrap_or_default());
    let mut out = out.map_or_else(|| name.clone(), Path::to_owned);
    let progress = context.out.progress("fetching", Some(content.bytes), 0);
    if out == Path::new("-") {
        let done = copy(client, &entry.path, &content, 0, &mut tokio::io::stdout(), None, &progress).await;
        progress.clear();
        return done;
    }
    if out.is_dir() {
        out.push(&name);
    }
    let dir = out.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned();
    if !dir.is_dir() {
        let error = CliError::new(Exit::Usage, format!("there is no directory {}", dir.display()));
        return Err(error.hint(format!("make it first: mkdir -p {}", dir.display())).into());
    }
    let path = dir.join(out.file_name().unwrap_or_default());
    let done = fetch(client, &entry, &path, &Places::of(&dir), how, &progress).await;
    progress.clear();
    let fetched = done?;
    let seconds = started.elapsed().as_secs_f64();
    context.out.say(match fetched {
        Some(bytes) => format!("{} in {seconds:.1} s", size(bytes)),
        None => format!("{} is the same already", path.display()),
    });
    let value = serde_json::json!({
        "path": entry.path, "out": out.display().to_string(), "bytes": content.bytes,
        "unchanged": fetched.is_none(), "seconds": seconds,
    });
    context.out.line("summary", &value, || Some(out.display().to_string()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(target: &str) -> EntryView {
        EntryView {
            path: "/l".to_owned(),
            kind: EntryKind::Symlink,
            mode: None,
            mtime_ns: Some(-1),
            target: Some(target.to_owned()),
            content: None,
            versions: Vec::new(),
        }
    }

    #[test]
    fn no_name_leads_out_of_the_directory() {
        let places = Places::of(Path::new("/tmp/x"));
        for bad in ["..", "../a", "a/../../b", "/a", "a//b", ".", "a/./b", "a\0b"] {
            assert!(places.place(bad).is_err(), "{bad}");
        }
        assert_eq!(places.place("a/b").expect("plain names"), Path::new("/tmp/x/a/b"));
    }

    #[test]
    fn nothing_is_written_through_a_link_that_is_there_or_was_made() {
        let dir = tempfile::tempdir().expect("a directory");
        let outside = tempfile::tempdir().expect("another");
        let places = Places::of(dir.path());
        let way_out = dir.path().join("way out");
        assert_eq!(places.link(&way_out, &link(outside.path().to_str().expect("UTF-8")), false), Ok(true));
        for below in ["way out", "way out/folder"] {
            assert!(places.folder(&dir.path().join(below)).is_err(), "{below}");
        }
        assert_eq!(fs::read_dir(outside.path()).expect("readable").count(), 0);
        assert_eq!(places.link(&way_out, &link(outside.path().to_str().expect("UTF-8")), false), Ok(false));
        assert!(places.link(&way_out, &link("elsewhere"), false).is_err(), "another one stays without force");
        assert_eq!(places.link(&way_out, &link("elsewhere"), true), Ok(true));
    }
}

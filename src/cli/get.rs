//! `trullo get`: a file back from the network.

use std::fs::TryLockError;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use futures::StreamExt;
use reqwest::{Method, header};
use serde::Serialize;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::client::Client;
use super::context::{Context, block_on};
use super::errors::{CliError, Exit};
use super::files::{refuse_ended, resolve_readable};
use super::output::{Progress, short, size};
use super::sharing::{self, Brought};
use super::tree::{Pull, is_remote, pull, pull_file, remote};
use crate::api::views::FileView;

const EXAMPLES: &str = "Examples:
  trullo get photo.jpg                       # by name, into ./photo.jpg
  trullo get 3f9c0a41d2b7e685 -o copy.jpg    # by the first digits of its id
  trullo get docs.tar - | tar x
  trullo get photo.jpg --range 0..1024 -o head.bin
  trullo get --cap-file photo.cap -o photo.jpg
  trullo get /docs/notes.txt --version 3 -o old.txt
  trullo get -r /docs ~/docs

FILE may be shared with you by another account; see `trullo ls --shared`. A capability is a secret:
give it in a file for its owner alone (chmod 600) or on stdin. As an argument it works too, but
others on the machine can see it while get runs.
Bytes go to OUT.<id>.part, which becomes OUT when it is complete. An interrupted get goes on where it was.
Every byte is verified by the node against the roots on the chain before it arrives here.";

/// How long the node may take for the next bytes.
const WAIT: std::time::Duration = std::time::Duration::from_secs(60);
const KEPT: &str = "what has arrived is kept in the .part file: run the same command again to go on";

/// Arguments of `get`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// The file: its id, the first digits of it, its name, its path, or a read capability
    #[arg(required_unless_present = "cap_file", conflicts_with = "cap_file")]
    file: Option<String>,
    /// Where to write it; `-` for stdout; default: its name, in this directory
    #[arg(value_name = "OUT", conflicts_with = "output")]
    out: Option<PathBuf>,
    /// The same as OUT
    #[arg(short, long, value_name = "OUT")]
    output: Option<PathBuf>,
    /// File with a read capability, in place of FILE; `-` for stdin
    #[arg(long, value_name = "PATH")]
    cap_file: Option<PathBuf>,
    /// Replace OUT if it exists
    #[arg(short, long)]
    force: bool,
    /// Only these bytes: FROM..TO, without TO; either may be left out
    #[arg(long, value_name = "FROM..TO", value_parser = parse_range, conflicts_with = "version")]
    range: Option<Range>,
    /// Make the directory OUT what the folder is, with all that is in it
    #[arg(short, long, requires = "out")]
    recursive: bool,
    /// A path's version, as `versions` says
    #[arg(long, value_name = "N", conflicts_with = "recursive")]
    version: Option<u64>,
    /// Compare contents even where size and time are the same
    #[arg(long)]
    checksum: bool,
}

impl Args {
    /// A get of a whole file to a path.
    pub fn of(file: &str, out: &Path) -> Self {
        let (file, output) = (Some(file.to_owned()), Some(out.to_owned()));
        let (cap_file, range, version) = (None, None, None);
        Self { file, out: None, output, cap_file, force: false, range, recursive: false, version, checksum: false }
    }
}

/// A range of bytes as it was typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    from: u64,
    to: Option<u64>,
}

#[derive(Serialize)]
struct Summary {
    file_id: String,
    out: String,
    bytes: u64,
    resumed_bytes: u64,
    seconds: f64,
}

fn parse_range(text: &str) -> Result<Range, String> {
    let (from, to) = text.split_once("..").ok_or("write FROM..TO, e.g. 0..1024")?;
    let number = |text: &str| text.parse::<u64>().map_err(|_| format!("{text:?} is no number of bytes"));
    let from = if from.is_empty() { 0 } else { number(from)? };
    let to = if to.is_empty() { None } else { Some(number(to)?) };
    if to.is_some_and(|to| to <= from) {
        return Err("the range is empty".to_owned());
    }
    Ok(Range { from, to })
}

/// Fetches the file.
pub fn run(context: &Context, args: &Args) -> Result<()> {
    let client = context.client()?;
    // A range of what is at a path is one of the file that holds it.
    if let Some(path) = args.file.as_deref().filter(|path| is_remote(path) && args.range.is_none()) {
        return block_on(KEPT, fetch_path(context, args, path, &client));
    }
    let started = std::time::Instant::now();
    let (file_id, out, bytes, resumed_bytes) = block_on(KEPT, fetch(context, args, &client))?;
    let seconds = started.elapsed().as_secs_f64();
    context.out.say(format!("{} in {seconds:.1} s", size(bytes)));
    let summary = Summary { file_id, out: out.clone(), bytes, resumed_bytes, seconds };
    if out == "-" {
        // The bytes have stdout to themselves.
        return Ok(());
    }
    context.out.line("summary", &summary, || Some(out))?;
    Ok(())
}

/// Fetches what is at a path.
async fn fetch_path(context: &Context, args: &Args, path: &str, client: &Client) -> Result<()> {
    let how = Pull { force: args.force, checksum: args.checksum, version: args.version };
    let out = args.output.as_deref().or(args.out.as_deref());
    match out.filter(|_| args.recursive) {
        Some(dir) => pull(context, client, &remote(path)?, dir, &how).await,
        None => pull_file(context, client, path, out, &how).await,
    }
}

/// Fetches the file; gives its id, where it is, its bytes, and how many of them were there already.
pub async fn fetch(context: &Context, args: &Args, client: &Client) -> Result<(String, String, u64, u64)> {
    let text = args.file.as_deref();
    let brought = sharing::brought(context, text, args.cap_file.as_ref())?;
    let file = match &brought {
        Some(brought) => brought.file(client).await?,
        None => resolve_readable(client, text.unwrap_or_default()).await?,
    };
    refuse_ended(&file)?;
    let source = Source { client, brought: brought.as_ref(), file: &file };
    let total = match file.bytes {
        Some(total) => total,
        None => return Err(source.refusal().await),
    };
    let (from, to) = wanted(args.range, total)?;
    let out = args.output.as_ref().or(args.out.as_ref()).cloned().unwrap_or_else(|| own_name(&file));
    if out == Path::new("-") {
        let progress = context.out.progress("fetching", Some(to - from), 0);
        copy(&source, (from, to), &mut tokio::io::stdout(), &progress).await?;
        progress.clear();
        return Ok((file.id, "-".to_owned(), to - from, 0));
    }
    if out.is_dir() {
        let error = CliError::new(Exit::Usage, format!("{} is a directory", out.display()));
        return Err(error.hint(format!("give a file: {}", out.join(own_name(&file)).display())).into());
    }
    if std::fs::symlink_metadata(&out).is_ok_and(|meta| !meta.is_file()) {
        let error = CliError::new(Exit::Usage, format!("{} is no regular file", out.display()));
        return Err(error.hint(format!("trullo get {} - > {}", short(&file.id), out.display())).into());
    }
    if out.exists() && !args.force {
        let error = CliError::new(Exit::Conflict, format!("{} exists", out.display()));
        return Err(error.hint("give -f to replace it, or another OUT").into());
    }
    // The id is in the name, so that bytes of two files never meet in one.
    let part = match args.range {
        None => format!("{}.{}.part", out.display(), short(&file.id)),
        Some(_) => format!("{}.{}.{from}-{to}.part", out.display(), short(&file.id)),
    };
    let part = PathBuf::from(part);
    let writing = || format!("writing {}", part.display());
    let dir = out.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !dir.is_dir() {
        let error = CliError::new(Exit::Usage, format!("there is no directory {}", dir.display()));
        return Err(error.hint(format!("make it first: mkdir -p {}", dir.display())).into());
    }
    let mut target = open_part(&part)?;
    let have = target.metadata().await.with_context(writing)?.len();
    if have > to - from {
        let error = CliError::new(Exit::Conflict, format!("{} has more bytes than the file", part.display()));
        return Err(error.hint("remove it and try again").into());
    }
    let progress = context.out.progress("fetching", Some(to - from), have);
    copy(&source, (from + have, to), &mut target, &progress).await?;
    progress.clear();
    target.sync_all().await.with_context(writing)?;
    let len = target.metadata().await.with_context(writing)?.len();
    if len != to - from {
        let message = format!("{} has {len} bytes, {} were expected", part.display(), to - from);
        return Err(CliError::new(Exit::Verification, message).hint("remove it and try again").into());
    }
    tokio::fs::rename(&part, &out).await.with_context(|| format!("renaming to {}", out.display()))?;
    std::fs::File::open(dir).and_then(|dir| dir.sync_all()).with_context(|| format!("syncing {}", dir.display()))?;
    Ok((file.id, out.display().to_string(), to - from, have))
}

/// The file that bytes are appended to.
fn open_part(part: &Path) -> Result<tokio::fs::File> {
    let opened = std::fs::OpenOptions::new().create(true).append(true).open(part);
    lock_part(opened.with_context(|| format!("writing {}", part.display()))?, part)
}

/// One process at a time writes to a file that grows: two would mix their bytes. Errors: exit 8 while another does.
pub fn lock_part(file: std::fs::File, part: &Path) -> Result<tokio::fs::File> {
    match file.try_lock() {
        Ok(()) => Ok(file.into()),
        Err(TryLockError::WouldBlock) => {
            let error = CliError::new(Exit::Conflict, format!("another get writes to {}", part.display()));
            Err(error.hint("wait for it, or give another OUT").into())
        }
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("locking {}", part.display())),
    }
}

fn wanted(range: Option<Range>, total: u64) -> Result<(u64, u64)> {
    let Some(Range { from, to }) = range else { return Ok((0, total)) };
    let to = to.unwrap_or(total);
    if from > total || to > total {
        return Err(CliError::new(Exit::Usage, format!("the file has {total} bytes, {from}..{to} is outside")).into());
    }
    Ok((from, to))
}

/// The file's name without any directory in it, else its id.
fn own_name(file: &FileView) -> PathBuf {
    let name = file.name.as_ref().and_then(|name| Path::new(name).file_name());
    name.map_or_else(|| PathBuf::from(&file.id), PathBuf::from)
}

/// A file and by which right it is read.
struct Source<'a> {
    client: &'a Client,
    brought: Option<&'a Brought>,
    file: &'a FileView,
}

impl Source<'_> {
    /// Why the node does not read it: it says so when it is asked for the bytes.
    async fn refusal(&self) -> anyhow::Error {
        let mut request = self.client.request(Method::GET, &format!("/v1/files/{}", self.file.id));
        if let Some(brought) = self.brought {
            request = brought.on(request);
        }
        let file = short(&self.file.id);
        let unknown = || CliError::new(Exit::Denied, format!("file {file} cannot be opened by this account"));
        match self.client.within(WAIT, self.client.send(request)).await {
            Err(error) if CliError::of(&error).code == Exit::Denied => {
                let error = CliError::of(&error);
                error.hint(format!("its owner shares it with: trullo share {file} ACCOUNT")).into()
            }
            Err(error) => error,
            Ok(_) => unknown().into(),
        }
    }
}

/// Copies the bytes of a range to the target. Errors: fewer or more bytes than asked for; what was written stays.
async fn copy(
    Source { client, brought, file }: &Source<'_>,
    (from, to): (u64, u64),
    target: &mut (impl AsyncWrite + Unpin),
    progress: &Progress,
) -> Result<()> {
    if from == to {
        return Ok(());
    }
    let mut request = client.request(Method::GET, &format!("/v1/files/{}", file.id));
    if (from, Some(to)) != (0, file.bytes) {
        request = request.header(header::RANGE, format!("bytes={from}-{}", to - 1));
    }
    if let Some(brought) = brought {
        request = brought.on(request);
    }
    let response = client.within(WAIT, client.send(request)).await?;
    let mut pieces = response.bytes_stream();
    let mut left = to - from;
    while let Some(piece) = client.within(WAIT, async { Ok(pieces.next().await) }).await? {
        let piece = match piece {
            Ok(piece) => piece,
            Err(_) => break,
        };
        let len = piece.len() as u64;
        left = left.checked_sub(len).context("the node sent more bytes than were asked for")?;
        target.write_all(&piece).await.context("writing")?;
        progress.add(len);
    }
    target.flush().await.context("writing")?;
    if left == 0 {
        return Ok(());
    }
    progress.clear();
    let message = format!("the node ended the file {} bytes too early", left);
    Err(CliError::new(Exit::NotReady, message).hint(format!("{KEPT}; the node's log says why it ended")).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_half_open_and_may_lack_an_end() {
        assert_eq!(parse_range("3..10"), Ok(Range { from: 3, to: Some(10) }));
        assert_eq!(parse_range("3.."), Ok(Range { from: 3, to: None }));
        assert_eq!(parse_range("..10"), Ok(Range { from: 0, to: Some(10) }));
        assert!(parse_range("10..10").is_err() && parse_range("10").is_err() && parse_range("a..b").is_err());
    }

    #[test]
    fn a_range_outside_of_the_file_is_refused() {
        let range = |from, to| wanted(Some(Range { from, to }), 100).ok();
        assert_eq!(range(10, None), Some((10, 100)));
        assert_eq!((range(101, None), range(0, Some(101))), (None, None));
        assert_eq!(wanted(None, 0).ok(), Some((0, 0)));
    }
}

//! `trullo put`: a file, or stdin, into the network.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{self, Poll, ready};
use std::time::{Duration, Instant};

use anyhow::Result;
use futures::{StreamExt, TryStreamExt};
use reqwest::{Body, Method, RequestBuilder, header};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf, Take};
use tokio_util::io::ReaderStream;

use super::client::Client;
use super::context::{Context, block_on, unreadable};
use super::errors::{CliError, Exit};
use super::output::{Progress, short, size};
use super::tree::{Push, push, push_file, remote};
use crate::api::uploads::{PendingView, PutView};
use crate::api::views::{FileStatus, StatusView};
use crate::config::raw::Size;
use crate::crypto::{Domain, hash};
use crate::files::{QuorumError, Share};
use crate::wire;

const EXAMPLES: &str = "Examples:
  trullo put photo.jpg
  trullo put photo.jpg --name holiday.jpg --data-shards 4 --parity-shards 2
  trullo put photo.jpg --data-shards 2 --parity-shards 1 --quorum-percent 2/3
  trullo put photo.jpg --min-confirmations 5 --allow-pending false --timeout 2m
  tar c ~/docs | trullo put - --name docs.tar
  id=$(trullo put -q photo.jpg)
  trullo put photo.jpg /holiday/beach.jpg
  trullo put -r ~/docs /docs --keep 3

Without a path the file stands alone, and its id is printed. With --json the last line is
  {\"type\":\"summary\",\"file_id\":..,\"status\":\"final\",\"height\":..,\"bytes\":..,\"seconds\":..}
An interrupted put goes on where it was when the same command is run again, unless the file was changed.

What a flag does not set is as in [files] of the configuration; see `trullo config show`.
Exit 6 with the id on stdout: pending, with too few confirmations so far. The missing nodes
stand on stderr; it becomes final by itself when enough of them are back: see `trullo stat`.
Exit 6 without an id: nothing is on the ledger, unless the message names the file: then its deal may
still become final.";

const KEPT: &str = "what was stored is kept: run the same command again to go on";

/// Bytes that are read at once.
const PIECE: usize = 256 << 10;

/// Arguments of `put`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// The file, or `-` for stdin; with -r a directory
    file: PathBuf,
    /// Where to, in your folders: a path from `/` on; without it the file stands alone, by its id
    #[arg(value_name = "/PATH", conflicts_with = "name")]
    to: Option<String>,
    /// Make the folder what the directory is, with all that is in it
    #[arg(short, long, requires = "to")]
    recursive: bool,
    /// Older contents of a file that are kept; default: files.keep_versions, or as many as it has
    #[arg(long, value_name = "N", requires = "to")]
    keep: Option<usize>,
    /// Compare contents even where size and time are the same
    #[arg(long, requires = "to")]
    checksum: bool,
    /// Name to keep it under; default: the file's own. Needed with `-`
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    settings: Settings,
}

/// How a file is stored. What is not given is as in the node's configuration.
#[derive(Clone, Debug, Default, clap::Args)]
struct Settings {
    /// Slots that restore it; default: by the number of storage nodes
    #[arg(long, visible_alias = "data", requires = "parity_shards", value_name = "N")]
    data_shards: Option<u8>,
    /// Further slots: so many nodes may be lost
    #[arg(long, visible_alias = "parity", requires = "data_shards", value_name = "N")]
    parity_shards: Option<u8>,
    /// Bytes that are erasure-coded at once: 256KiB to 16MiB
    #[arg(long, value_name = "SIZE")]
    chunk_size: Option<String>,
    /// Confirmations that make it final, from the data shards to all slots
    #[arg(long, value_name = "N")]
    min_confirmations: Option<u64>,
    /// The same as a share of its slots: 1 to 100, or 2/3; what asks for more of them counts
    #[arg(long, value_name = "SHARE", value_parser = share)]
    quorum_percent: Option<String>,
    /// Confirmations at which the put waits for no more, from the quorum to all slots
    #[arg(long, value_name = "N")]
    success_threshold: Option<u64>,
    /// Slots left at which other nodes rebuild all lost ones, from the data shards to all but one
    #[arg(long, value_name = "N")]
    repair_threshold: Option<u64>,
    /// Whether it goes to the ledger as pending when too few nodes confirm in time
    #[arg(long, value_name = "BOOL")]
    allow_pending: Option<bool>,
    /// How long to wait for confirmations and for finality, e.g. 30s or 5m
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    timeout: Option<Duration>,
    /// Epochs that it is paid for
    #[arg(long, value_name = "N")]
    epochs: Option<u64>,
}

/// Checked here, sent as it was typed.
fn share(text: &str) -> Result<String, QuorumError> {
    text.parse::<Share>().map(|_| text.to_owned())
}

impl Settings {
    /// As the node's interface takes them. Errors: exit 2 for a size that is none.
    fn query(&self) -> Result<Vec<(&'static str, String)>> {
        let chunk = self.chunk_size.as_ref().map(|text| {
            let bytes = Size::Text(text.clone()).bytes();
            bytes.ok_or_else(|| CliError::new(Exit::Usage, format!("--chunk-size {text:?} is no size")))
        });
        let timeout = self.timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
        let numbers = [
            ("data_shards", self.data_shards.map(u64::from)),
            ("parity_shards", self.parity_shards.map(u64::from)),
            ("chunk_size", chunk.transpose()?),
            ("min_confirmations", self.min_confirmations),
            ("success_threshold", self.success_threshold),
            ("repair_threshold", self.repair_threshold),
            ("timeout_ms", timeout),
            ("epochs", self.epochs),
        ];
        let mut query: Vec<_> =
            numbers.into_iter().filter_map(|(name, value)| Some((name, value?.to_string()))).collect();
        query.extend(self.quorum_percent.clone().map(|share| ("quorum_percent", share)));
        query.extend(self.allow_pending.map(|allow| ("allow_pending", allow.to_string())));
        Ok(query)
    }
}

impl Settings {
    /// Those that a file at a path can have. Errors: exit 2 for the others.
    fn of_contents(&self) -> Result<Vec<(&'static str, String)>> {
        let query = self.query()?;
        match query.iter().find(|(name, _)| !["data_shards", "parity_shards", "timeout_ms"].contains(name)) {
            Some((name, _)) => {
                let flag = name.replace('_', "-");
                let error = CliError::new(Exit::Usage, format!("--{flag} is for a file that stands alone"));
                Err(error.hint(format!("set {name} in [files] of the configuration, or leave the path out")).into())
            }
            None => Ok(query),
        }
    }
}

impl Args {
    /// A put of a file as it is.
    pub fn of(file: &Path) -> Self {
        let file = file.to_owned();
        let (to, keep, name, settings) = (None, None, None, Settings::default());
        Self { file, to, recursive: false, keep, checksum: false, name, settings }
    }
}

#[derive(Serialize)]
struct Summary {
    #[serde(flatten)]
    put: PutView,
    seconds: f64,
}

/// Stores the file.
pub fn run(context: &Context, args: &Args) -> Result<()> {
    let client = context.client()?;
    if let Some(to) = &args.to {
        let (settings, keep, checksum) = (args.settings.of_contents()?, args.keep, args.checksum);
        let how = Push { settings, keep, checksum, ..Push::default() };
        return block_on(KEPT, async {
            match args.recursive {
                true => push(context, &client, &args.file, &remote(to)?, &how).await,
                false => push_file(context, &client, &args.file, to, &how).await,
            }
        });
    }
    let started = Instant::now();
    let put = block_on(KEPT, store(context, args, &client))?;
    let seconds = started.elapsed().as_secs_f64();
    let (status, pending) = (put.status, put.pending.clone());
    context.out.say(format!(
        "{}: {} at height {} in {seconds:.1} s, {}/s",
        put.name,
        status,
        put.height,
        size((put.bytes as f64 / seconds.max(0.001)) as u64)
    ));
    context.out.say(super::terms::sentence(&put.terms));
    for missing in &put.missing {
        let name = missing.node_name.as_deref().unwrap_or("a node");
        context.out.warn(format!("{name} ({}) has not confirmed its slot: {}", short(&missing.node), missing.reason));
    }
    let (id, have, need) = (put.file_id.clone(), put.confirmations, put.quorum);
    context.out.line("summary", &Summary { put, seconds }, || Some(id.clone()))?;
    match pending {
        Some(pending) => Err(not_final(&id, have, need, &pending).into()),
        None if status != FileStatus::Final => {
            Err(CliError::new(Exit::NotReady, format!("file {} is {status}", short(&id))).into())
        }
        None => Ok(()),
    }
}

/// What a pending file lacks, and whether and until when it comes by itself.
fn not_final(id: &str, have: u32, need: u32, pending: &PendingView) -> CliError {
    let PendingView { by_itself, lacks, until, until_in_s } = pending;
    let time = humantime::format_duration(Duration::from_secs(*until_in_s));
    let what = format!("file {} is pending: {have} of {need} confirmations", short(id));
    let (what, hint) = match by_itself {
        true => (
            format!(
                "{what}; it becomes final by itself when {lacks} of the missing nodes are back, until height {until}, in about {time}"
            ),
            format!("let this node run; trullo stat {} says when it is final", short(id)),
        ),
        false => (
            format!("{what}; it ends at height {until}, in about {time}, unless {lacks} more come"),
            "when more storage nodes answer, run the same command again to go on".to_owned(),
        ),
    };
    CliError::new(Exit::NotReady, what).hint(hint)
}

/// Sends the file to the node and waits until its deal is on the chain.
pub async fn store(context: &Context, args: &Args, client: &Client) -> Result<PutView> {
    let mut query = args.settings.query()?;
    if args.file == Path::new("-") {
        let name = args.name.clone().ok_or_else(|| {
            CliError::new(Exit::Usage, "put - needs a name").hint("add --name NAME for what is read from stdin")
        })?;
        query.push(("name", name));
        let progress = Arc::new(context.out.progress("sending", None, 0));
        let request = client.request(Method::POST, "/v1/files").query(&query);
        let put = send_stdin(client, request, &progress).await;
        progress.clear();
        return put;
    }
    let path = tokio::fs::canonicalize(&args.file).await.map_err(|error| unreadable(&args.file, &error))?;
    let meta = tokio::fs::metadata(&path).await.map_err(|error| unreadable(&path, &error))?;
    if meta.is_dir() {
        let error = CliError::new(Exit::Usage, format!("{} is a directory", path.display()));
        let hint = format!(
            "trullo put -r {0} /PATH keeps it as a folder; or tar c {0} | trullo put - --name DIR.tar",
            path.display()
        );
        return Err(error.hint(hint).into());
    }
    let own = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    query.push(("name", args.name.clone().unwrap_or(own)));
    query.push(("session", session(&path, &meta, &client.status().await?)));
    let progress = Arc::new(context.out.progress("sending", Some(meta.len()), 0));
    let request = client.request(Method::POST, "/v1/files").query(&query);
    let put: Result<Sent<PutView>> = send_file(client, request, &path, &meta, &progress).await;
    progress.clear();
    let Sent { answer: put, changed } = put?;
    if changed {
        let (path, id) = (path.display(), &put.file_id);
        let error =
            CliError::new(Exit::Conflict, format!("{path} was changed while it was read; {id} may be a mixture"));
        return Err(error.hint(format!("put it again, and remove that one: trullo rm {id}")).into());
    }
    Ok(put)
}

/// The node's answer to a file that was sent.
pub struct Sent<T> {
    /// The answer.
    pub answer: T,
    /// Whether the file was changed while it was read.
    pub changed: bool,
}

/// Sends a file as the body of a request. `meta` is what its session was made of: another content would not fit that.
/// Errors: exit 8 if it is another file by now; 2 for what is no regular file; what the node says.
pub async fn send_file<T: DeserializeOwned>(
    client: &Client,
    request: RequestBuilder,
    path: &Path,
    meta: &Metadata,
    progress: &Arc<Progress>,
) -> Result<Sent<T>> {
    let mut file = tokio::fs::File::open(path).await.map_err(|error| unreadable(path, &error))?;
    let before = file.metadata().await.map_err(|error| unreadable(path, &error))?;
    if !before.is_file() {
        return Err(CliError::new(Exit::Usage, format!("{} is no file", path.display())).into());
    }
    if before.len() == 0 && file.read(&mut [0]).await.map_err(|error| unreadable(path, &error))? > 0 {
        let error = CliError::new(Exit::Usage, format!("{} does not say how long it is", path.display()));
        return Err(error.hint(format!("trullo put - --name NAME < {}", path.display())).into());
    }
    if (before.len(), version(&before)) != (meta.len(), version(meta)) {
        let error = CliError::new(Exit::Conflict, format!("{} was changed meanwhile", path.display()));
        return Err(error.hint("run the same command again when nothing writes to it").into());
    }
    let broken = Arc::new(OnceLock::new());
    let body = body(Whole { source: file.take(before.len()), broken: Arc::clone(&broken) }, progress);
    let answer = client.json(request.header(header::CONTENT_LENGTH, before.len()).body(body)).await;
    // A source that breaks off ends the request too; only the source knows why.
    if let Some(error) = broken.get() {
        return Err(unreadable(path, error).into());
    }
    let answer = answer?;
    let after = tokio::fs::metadata(path).await.map_err(|error| unreadable(path, &error))?;
    Ok(Sent { answer, changed: version(&before) != version(&after) })
}

/// Sends stdin as the body of a request. Errors: what the node says.
pub async fn send_stdin<T: DeserializeOwned>(
    client: &Client,
    request: RequestBuilder,
    progress: &Arc<Progress>,
) -> Result<T> {
    client.json(request.body(body(tokio::io::stdin(), progress))).await
}

/// A file that has as many bytes as were announced, or breaks off with an error that is kept.
struct Whole<R> {
    source: Take<R>,
    broken: Arc<OnceLock<io::Error>>,
}

impl<R: AsyncRead + Unpin> AsyncRead for Whole<R> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let mut read = ready!(Pin::new(&mut self.source).poll_read(cx, buf));
        if read.is_ok() && buf.filled().len() == before && buf.remaining() > 0 && self.source.limit() > 0 {
            read = Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it became shorter meanwhile"));
        }
        Poll::Ready(read.map_err(|error| {
            let kind = error.kind();
            // The first error is the cause.
            let _ = self.broken.set(error);
            kind.into()
        }))
    }
}

/// The bytes as a request's body; the last wait, for the chain, is said when they have ended.
fn body(source: impl AsyncRead + Send + 'static, progress: &Arc<Progress>) -> Body {
    let counted = Arc::clone(progress);
    let pieces = ReaderStream::with_capacity(source, PIECE).inspect_ok(move |piece| counted.add(piece.len() as u64));
    let ended = Arc::clone(progress);
    let end = futures::stream::poll_fn(move |_| {
        ended.phase("waiting for confirmations and finality");
        Poll::Ready(None)
    });
    Body::wrap_stream(pieces.chain(end))
}

/// What changes whenever a file's content does. The time of the last status change cannot be set back.
fn version(meta: &Metadata) -> [i64; 4] {
    [meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()]
}

/// Names this put: the same file, unchanged, of the same account goes on where it was.
fn session(path: &Path, meta: &Metadata, status: &StatusView) -> String {
    hex::encode(hash(Domain::Session, &wire::encode(&(facts(path, meta), &status.chain, &status.account))))
}

/// The same for a file that is to be at a remote path. `whose` are chain and account.
pub fn session_of(path: &Path, meta: &Metadata, whose: &(String, Option<String>), remote: &str) -> String {
    hex::encode(hash(Domain::Session, &wire::encode(&(facts(path, meta), whose, remote))))
}

/// What tells one content of a file from another.
fn facts<'a>(path: &'a Path, meta: &Metadata) -> (&'a [u8], u64, u64, u64, [i64; 4]) {
    (path.as_os_str().as_encoded_bytes(), meta.dev(), meta.ino(), meta.len(), version(meta))
}

//! `trullo put`: a file, or stdin, into the network.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{self, Poll, ready};
use std::time::Instant;

use anyhow::Result;
use futures::{StreamExt, TryStreamExt};
use reqwest::{Body, Method, header};
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf, Take};
use tokio_util::io::ReaderStream;

use super::client::Client;
use super::context::{Context, block_on, unreadable};
use super::errors::{CliError, Exit};
use super::output::{Progress, size};
use crate::api::views::{FileStatus, PutView, StatusView};
use crate::config::raw::Size;
use crate::crypto::{Domain, hash};
use crate::wire;

const EXAMPLES: &str = "Examples:
  trullo put photo.jpg
  trullo put photo.jpg --name holiday.jpg --data 4 --parity 2
  tar c ~/docs | trullo put - --name docs.tar
  id=$(trullo put -q photo.jpg)

Prints the file's id. With --json the last line is
  {\"type\":\"summary\",\"file_id\":..,\"status\":\"final\",\"height\":..,\"bytes\":..,\"seconds\":..}
An interrupted put goes on where it was when the same command is run again, unless the file was changed.
Exit 3: stored, but with too few confirmations; `trullo stat` says when it is final.";

const KEPT: &str = "what was stored is kept: run the same command again to go on";

/// Bytes that are read at once.
const PIECE: usize = 256 << 10;

/// Arguments of `put`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// The file, or `-` for stdin
    file: PathBuf,
    /// Name to keep it under; default: the file's own. Needed with `-`
    #[arg(long)]
    name: Option<String>,
    /// Slots that restore it; default: files.data, else by the number of storage nodes
    #[arg(long, requires = "parity", value_name = "N")]
    data: Option<u8>,
    /// Further slots: so many nodes may be lost
    #[arg(long, requires = "data", value_name = "N")]
    parity: Option<u8>,
    /// Bytes that are erasure-coded at once, e.g. 1MiB
    #[arg(long, value_name = "SIZE")]
    chunk_size: Option<String>,
    /// Confirmations that make it final
    #[arg(long, value_name = "N")]
    min_confirmations: Option<u8>,
    /// Epochs that it is kept and paid for; default: files.epochs
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    epochs: Option<u32>,
}

impl Args {
    /// A put of a file as it is.
    pub fn of(file: &Path) -> Self {
        let file = file.to_owned();
        Self { file, name: None, data: None, parity: None, chunk_size: None, min_confirmations: None, epochs: None }
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
    let started = Instant::now();
    let put = block_on(KEPT, store(context, args, &client))?;
    let seconds = started.elapsed().as_secs_f64();
    let (status, reason) = (put.status, put.reason.clone());
    context.out.say(format!(
        "{}: {} at height {} in {seconds:.1} s, {}/s",
        put.name,
        status,
        put.height,
        size((put.bytes as f64 / seconds.max(0.001)) as u64)
    ));
    context.out.say(super::terms::sentence(&put.terms));
    let id = put.file_id.clone();
    context.out.line("summary", &Summary { put, seconds }, || Some(id.clone()))?;
    if status != FileStatus::Final {
        let error = CliError::new(Exit::Partial, format!("stored, but not final: {}", reason.unwrap_or_default()));
        return Err(error.hint(format!("late confirmations complete it; see trullo stat {id}")).into());
    }
    Ok(())
}

/// Sends the file to the node and waits until its deal is on the chain.
pub async fn store(context: &Context, args: &Args, client: &Client) -> Result<PutView> {
    let mut query = vec![];
    if let (Some(data), Some(parity)) = (args.data, args.parity) {
        query.extend([("data", data.to_string()), ("parity", parity.to_string())]);
    }
    if let Some(text) = &args.chunk_size {
        let bytes = Size::Text(text.clone()).bytes();
        let bytes = bytes.ok_or_else(|| CliError::new(Exit::Usage, format!("--chunk-size {text:?} is no size")))?;
        query.push(("chunk_size", bytes.to_string()));
    }
    if let Some(epochs) = args.epochs {
        query.push(("epochs", epochs.to_string()));
    }
    if let Some(min) = args.min_confirmations {
        query.push(("min_confirmations", min.to_string()));
    }
    if args.file == Path::new("-") {
        let name = args.name.clone().ok_or_else(|| {
            CliError::new(Exit::Usage, "put - needs a name").hint("add --name NAME for what is read from stdin")
        })?;
        query.push(("name", name));
        let progress = Arc::new(context.out.progress("sending", None, 0));
        let body = body(tokio::io::stdin(), &progress);
        let request = client.request(Method::POST, "/v1/files").query(&query).body(body);
        return finish(client.json(request).await, &progress);
    }
    let path = tokio::fs::canonicalize(&args.file).await.map_err(|error| unreadable(&args.file, &error))?;
    let mut file = tokio::fs::File::open(&path).await.map_err(|error| unreadable(&path, &error))?;
    let before = file.metadata().await.map_err(|error| unreadable(&path, &error))?;
    if !before.is_file() {
        let error = CliError::new(Exit::Usage, format!("{} is no file", path.display()));
        return Err(error.hint("pack a directory: tar c DIR | trullo put - --name DIR.tar").into());
    }
    if before.len() == 0 && file.read(&mut [0]).await.map_err(|error| unreadable(&path, &error))? > 0 {
        let error = CliError::new(Exit::Usage, format!("{} does not say how long it is", path.display()));
        return Err(error.hint(format!("trullo put - --name NAME < {}", path.display())).into());
    }
    let own = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    query.push(("name", args.name.clone().unwrap_or(own)));
    query.push(("session", session(&path, &before, &client.status().await?)));
    let progress = Arc::new(context.out.progress("sending", Some(before.len()), 0));
    let broken = Arc::new(OnceLock::new());
    let body = body(Whole { source: file.take(before.len()), broken: Arc::clone(&broken) }, &progress);
    let request = client.request(Method::POST, "/v1/files").query(&query);
    let request = request.header(header::CONTENT_LENGTH, before.len()).body(body);
    let put = finish(client.json(request).await, &progress);
    // A source that breaks off ends the request too; only the source knows why.
    if let Some(error) = broken.get() {
        return Err(unreadable(&path, error).into());
    }
    let put = put?;
    let after = tokio::fs::metadata(&path).await.map_err(|error| unreadable(&path, &error))?;
    if version(&before) != version(&after) {
        let (path, id) = (path.display(), &put.file_id);
        let error =
            CliError::new(Exit::Conflict, format!("{path} was changed while it was read; {id} may be a mixture"));
        return Err(error.hint(format!("put it again, and remove that one: trullo rm {id}")).into());
    }
    Ok(put)
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

fn finish(put: Result<PutView>, progress: &Progress) -> Result<PutView> {
    progress.clear();
    put
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
    let path = path.as_os_str().as_encoded_bytes();
    let file = (path, meta.dev(), meta.ino(), meta.len(), version(meta));
    hex::encode(hash(Domain::Session, &wire::encode(&(file, &status.chain, &status.account))))
}

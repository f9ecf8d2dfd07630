//! `trullo export`: the chain as files for other programs.

use std::io::{self, BufReader, Read};
use std::path::PathBuf;
use std::pin::Pin;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use clap::ValueEnum;
use futures::{Stream, StreamExt};
use reqwest::Method;
use serde::Serialize;
use tokio::runtime::Handle;

use super::client::Client;
use super::context::{Context, block_on};
use super::errors::{CliError, Exit};
use super::output::{Output, size, table};
use crate::api::snapshots::SnapshotView;
use crate::explorer::export::{ExportError, LocalSource, Plan, Position, Progress, Report, RowSource, RowStream};
use crate::explorer::lines::LineError;
use crate::explorer::{Exporter, Format, Table, read_lines};
use crate::node::home::Home;
use crate::store::{Options, Store};
use crate::types::Height;

const EXAMPLES: &str = "Examples:
  trullo export -o chain
  trullo export --format sqlite -o chain-db
  trullo export --format csv -o blocks --from 1000 --to 2000
  trullo export --format parquet -o chain --dry-run --json

Writes blocks, transactions, accounts, nodes, validators, files and slots, and a manifest.json with rows, heights and the
BLAKE3 hash of each file. A second run into the same directory adds only what is new. Only final blocks are exported.
Asks the running node of --home, or reads its database when it does not run.";

const KEPT: &str = "finished files are kept: run the same command again to go on";

/// Arguments of `export`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// What the files are
    #[arg(long, value_enum, default_value_t = FormatName::Parquet)]
    format: FormatName,
    /// Directory to write to: a new one, or that of an earlier export
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// First height of blocks and transactions
    #[arg(long, value_name = "HEIGHT", default_value_t = 0)]
    from: u64,
    /// Last height of blocks and transactions; default: the last final one
    #[arg(long, value_name = "HEIGHT")]
    to: Option<u64>,
    /// Say what would be written, and the columns of every table, and write nothing
    #[arg(long)]
    dry_run: bool,
}

/// A format's name on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FormatName {
    /// Apache Parquet
    Parquet,
    /// Comma-separated values with a header line
    Csv,
    /// One JSON object a line
    Jsonl,
    /// One SQLite database
    Sqlite,
}

impl Args {
    /// An export of everything into a directory.
    pub fn all(format: FormatName, output: PathBuf) -> Self {
        Self { format, output, from: 0, to: None, dry_run: false }
    }

    fn exporter(&self) -> Exporter {
        let format = match self.format {
            FormatName::Parquet => Format::Parquet,
            FormatName::Csv => Format::Csv,
            FormatName::Jsonl => Format::Jsonl,
            FormatName::Sqlite => Format::Sqlite,
        };
        Exporter::new(&self.output, format).heights(Height::new(self.from), self.to.map(Height::new))
    }
}

/// What came of an export.
pub enum Done {
    /// Files were written.
    Written(Report),
    /// They were not, as was wanted.
    Planned(Plan),
}

/// Exports, and says what was written.
pub fn run(context: &Context, args: &Args) -> Result<()> {
    let home = context.open_home()?;
    match export(context.out, &home, args)? {
        Done::Planned(plan) => {
            let row = |file: &crate::explorer::export::PlannedFile| {
                let rows = file.rows.map_or_else(|| "?".to_owned(), |rows| rows.to_string());
                [file.table.to_string(), rows, format!("{}-{}", file.min_height, file.max_height), file.file.clone()]
            };
            context.out.result(&plan, || table(["table", "rows", "heights", "file"], plan.files.iter().map(row)))?;
        }
        Done::Written(report) => {
            for entry in &report.files {
                context.out.line("item", entry, || Some(entry_text(entry)))?;
            }
            context.out.line("summary", &Summary::of(&report, args), || None)?;
            let dir = args.output.display();
            match report.files.len() {
                0 => context.out.say(format!("nothing new since height {}", report.height)),
                files => context
                    .out
                    .say(format!("{} rows, {files} parts in {dir}, up to height {}", report.rows, report.height)),
            }
        }
    }
    Ok(())
}

#[derive(Serialize)]
struct Summary<'a> {
    chain_id: &'a str,
    format: Format,
    height: u64,
    rows: u64,
    files: usize,
    out: String,
}

impl<'a> Summary<'a> {
    fn of(report: &'a Report, args: &Args) -> Self {
        let (chain_id, out) = (report.chain_id.as_str(), args.output.display().to_string());
        Self {
            chain_id,
            format: report.format,
            height: report.height,
            rows: report.rows,
            files: report.files.len(),
            out,
        }
    }
}

fn entry_text(entry: &crate::explorer::export::Entry) -> String {
    let heights = format!("{}-{}", entry.min_height, entry.max_height);
    format!(
        "{:<14} {:>10} rows  heights {heights:<14} {} ({})",
        entry.table.name(),
        entry.rows,
        entry.file,
        size(entry.bytes)
    )
}

/// Exports from the home's running node, or from its database.
pub fn export(out: Output, home: &Home, args: &Args) -> Result<Done> {
    if home.running()?.is_none() {
        // Nobody may start the node meanwhile; the database would be locked anyway.
        let _lock = home.lock()?;
        let store = Store::open(&home.database(), &Options::default())?;
        let mut source = LocalSource::new(&store.reader())?;
        return write(out, args, &mut source);
    }
    let client = Client::of(home)?;
    let args = args.clone();
    block_on(KEPT, async move {
        let runtime = Handle::current();
        let work = move || write(out, &args, &mut HttpSource { client, runtime, view: None });
        tokio::task::spawn_blocking(work).await.context("the export ended badly")?
    })
}

fn write<S>(out: Output, args: &Args, source: &mut S) -> Result<Done>
where
    S: RowSource,
    S::Error: Send + Sync + 'static,
{
    let exporter = args.exporter();
    let done = match args.dry_run {
        true => exporter.plan(source).map(Done::Planned),
        false => exporter.run(source, &mut |progress| say(out, &progress)).map(Done::Written),
    };
    done.map_err(|error| match error {
        ExportError::Source(error) => anyhow::Error::from(error).context("reading the rows"),
        ExportError::Refused(refusal) => CliError::new(Exit::Conflict, refusal.to_string()).into(),
        ExportError::Write(error) if error.source.kind() == io::ErrorKind::StorageFull => {
            CliError::new(Exit::Refused, error.to_string()).hint(format!("free disk space; {KEPT}")).into()
        }
        ExportError::Write(error) => anyhow::Error::from(error),
        ExportError::Rows { .. } => CliError::new(Exit::Verification, error.to_string()).into(),
    })
}

fn say(out: Output, progress: &Progress) {
    #[derive(Serialize)]
    struct Line {
        phase: &'static str,
        rows: u64,
        height: u64,
        to: u64,
    }
    let (height, to) = (progress.height.get(), progress.to.get());
    let line = Line { phase: progress.table.name(), rows: progress.rows, height, to };
    // A reader that is gone will be noticed with the summary.
    let _ = out.line("progress", &line, || None);
    out.detail(format!("{}: {} rows, height {height} of {to}", line.phase, line.rows));
}

/// The tables of a running node, over HTTP.
struct HttpSource {
    client: Client,
    runtime: Handle,
    /// The view that all tables are read from.
    view: Option<SnapshotView>,
}

impl HttpSource {
    fn view(&mut self) -> Result<&SnapshotView, HttpError> {
        let view = match self.view.take() {
            Some(view) => view,
            None => {
                let request = self.client.post("/v1/snapshots", &());
                self.runtime.block_on(request).map_err(|error| HttpError::of(&error))?
            }
        };
        Ok(self.view.insert(view))
    }
}

/// Why rows of a running node cannot be read.
#[derive(Debug, thiserror::Error)]
enum HttpError {
    #[error(transparent)]
    Node(CliError),
    #[error(transparent)]
    Line(#[from] LineError),
    #[error("the node names the chain {0:?}")]
    Chain(String),
}

impl HttpError {
    fn of(error: &anyhow::Error) -> Self {
        Self::Node(CliError::of(error))
    }
}

impl RowSource for HttpSource {
    type Error = HttpError;

    fn position(&mut self) -> Result<Position, HttpError> {
        let view = self.view()?;
        let chain = view.chain.parse().map_err(|_| HttpError::Chain(view.chain.clone()))?;
        Ok(Position { chain, height: Height::new(view.height) })
    }

    fn rows(&mut self, table: Table, from: Height, to: Height) -> Result<RowStream<'_, HttpError>, HttpError> {
        let id = self.view()?.snapshot;
        let path = format!("/v1/tables/{table}?from={from}&to={to}&snapshot={id}");
        let request = self.client.request(Method::GET, &path);
        let response = self.runtime.block_on(self.client.send(request)).map_err(|error| HttpError::of(&error))?;
        let pieces = Box::pin(response.bytes_stream());
        let body = Body { runtime: self.runtime.clone(), pieces, piece: Bytes::new() };
        Ok(Box::new(read_lines(table, BufReader::new(body)).map(|row| Ok(row?))))
    }
}

type Pieces = Pin<Box<dyn Stream<Item = reqwest::Result<Bytes>> + Send>>;

/// An answer's body, for code that waits.
struct Body {
    runtime: Handle,
    pieces: Pieces,
    piece: Bytes,
}

impl Read for Body {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.runtime.block_on(self.pieces.next()) {
                None => return Ok(0),
                Some(piece) => self.piece = piece.map_err(io::Error::other)?,
            }
        }
        let len = out.len().min(self.piece.len());
        out[..len].copy_from_slice(&self.piece.split_to(len));
        Ok(len)
    }
}

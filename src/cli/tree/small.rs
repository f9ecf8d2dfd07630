//! Small commands: one change each, and `sync`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::push::{Push, push};
use super::{Failure, change, remote, tell_failures};
use crate::api::tree_views::{CollectRequest, CollectView, EntryKind, OpRequest, RenewRequest, RenewedView};
use crate::cli::context::{Context, block_on};
use crate::cli::errors::{CliError, Exit};

const KEPT: &str = "the change may still take effect; see `trullo ls /PATH`";

const MV: &str = "Examples:
  trullo mv /docs/draft.txt /docs/final.txt
  trullo mv /docs /archive          # into /archive, if that is a folder

A folder moves with all that is in it, at once. Nothing at the target is replaced.";

const MKDIR: &str = "Examples:
  trullo mkdir /docs/empty

Folders need not be made: they are there with the first file in them.";

const DU: &str = "Examples:
  trullo du /
  trullo du /docs --json";

const VERSIONS: &str = "Examples:
  trullo versions /docs/notes.txt
  trullo get /docs/notes.txt --version 3 -o old.txt

Older contents are kept with `put --keep N`, or as files.keep_versions says.";

const RESTORE: &str = "Examples:
  trullo versions /docs/notes.txt
  trullo restore /docs/notes.txt 3

The content that is there now becomes a version. Nothing is sent.";

const SYNC: &str = "Examples:
  trullo sync ~/docs /docs
  trullo sync ~/docs /docs --delete --dry-run
  trullo sync ~/docs /docs --delete --keep 3

The folder becomes what the directory is. What has the same size and time is not sent, nor what has the
same content. Only with --delete is anything taken away.";

const GC: &str = "Examples:
  trullo gc
  trullo gc --older-than 1h

A node or program that was killed may leave stored files behind that no folder refers to. What is younger
than a day may be on its way into a folder, also from another device of the account: whose put is then
refused. Pages of the folders themselves stay for an hour at the least.";

/// Arguments of `mv`.
#[derive(Debug, Args)]
#[command(after_long_help = MV)]
pub struct MvArgs {
    /// What to move
    #[arg(value_name = "/FROM")]
    from: String,
    /// Where to; into the folder, if that is one
    #[arg(value_name = "/TO")]
    to: String,
}

/// Arguments of `mkdir`.
#[derive(Debug, Args)]
#[command(after_long_help = MKDIR)]
pub struct MkdirArgs {
    /// The folder
    #[arg(value_name = "/PATH")]
    path: String,
}

/// Arguments of `du`.
#[derive(Debug, Args)]
#[command(after_long_help = DU)]
pub struct DuArgs {
    /// The folder
    #[arg(value_name = "/PATH", default_value = "/")]
    pub path: String,
}

/// Arguments of `versions`.
#[derive(Debug, Args)]
#[command(after_long_help = VERSIONS)]
pub struct VersionsArgs {
    /// The file
    #[arg(value_name = "/PATH")]
    pub path: String,
}

/// Arguments of `restore`.
#[derive(Debug, Args)]
#[command(after_long_help = RESTORE)]
pub struct RestoreArgs {
    /// The file
    #[arg(value_name = "/PATH")]
    path: String,
    /// The number of the version, as `versions` says
    version: u64,
}

/// Arguments of `sync`.
#[derive(Debug, Args)]
#[command(after_long_help = SYNC)]
pub struct SyncArgs {
    /// The directory
    dir: PathBuf,
    /// The folder
    #[arg(value_name = "/PATH")]
    path: String,
    /// Take away from the folder what is not in the directory
    #[arg(long)]
    delete: bool,
    /// Change nothing, say what would be changed
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Compare contents even where size and time are the same
    #[arg(long)]
    checksum: bool,
    /// Older contents of a file that are kept; default: files.keep_versions, or as many as it has
    #[arg(long, value_name = "N")]
    keep: Option<usize>,
}

/// Arguments of `gc`.
#[derive(Debug, Args)]
#[command(after_long_help = GC)]
pub struct GcArgs {
    /// How old what nothing refers to must be
    #[arg(long, value_name = "TIME", default_value = "1d", value_parser = humantime::parse_duration)]
    older_than: Duration,
}

/// Carries out one change and says that it is done.
fn one(context: &Context, op: OpRequest, text: String) -> Result<()> {
    let client = context.client()?;
    let done = block_on(KEPT, change(&client, vec![op]))?;
    context.out.result(&done, || text)?;
    Ok(())
}

/// Moves a file or folder.
pub fn mv(context: &Context, args: &MvArgs) -> Result<()> {
    let (from, to) = (remote(&args.from)?, remote(&args.to)?);
    let text = format!("{from} moved to {to}");
    one(context, OpRequest::Move { from, to }, text)
}

/// Makes an empty folder.
pub fn mkdir(context: &Context, args: &MkdirArgs) -> Result<()> {
    let path = remote(&args.path)?;
    let text = path.clone();
    let op = OpRequest::Put {
        path,
        kind: EntryKind::Folder,
        content: None,
        target: None,
        mode: None,
        mtime_ns: None,
        keep: None,
        new: false,
        touch: false,
        session: None,
    };
    one(context, op, text)
}

/// Takes a path away, with all below it if it is a folder.
pub fn rm(context: &Context, path: &str, recursive: bool) -> Result<()> {
    let path = remote(path)?;
    if path == "/" {
        let error = CliError::new(Exit::Refused, "this would remove everything that the account has in folders");
        return Err(error.hint("remove them one by one: `trullo ls /` lists them").into());
    }
    let text = format!("{path} removed");
    one(context, OpRequest::Remove { path, recursive, missing_ok: false }, text)
}

/// Makes an older content of a file the present one.
pub fn restore(context: &Context, args: &RestoreArgs) -> Result<()> {
    let (path, version) = (remote(&args.path)?, args.version);
    let text = format!("{path} has the content of version {version} again");
    one(context, OpRequest::Restore { path, version }, text)
}

/// Makes a folder what a directory is.
pub fn sync(context: &Context, args: &SyncArgs) -> Result<()> {
    let client = context.client()?;
    let SyncArgs { dir, path, delete, dry_run, checksum, keep } = args;
    let how = Push { checksum: *checksum, keep: *keep, delete: *delete, dry_run: *dry_run, settings: Vec::new() };
    let kept = "what was stored is kept: run the same command again to go on";
    block_on(kept, async { push(context, &client, dir, &remote(path)?, &how).await })
}

/// Makes everything at a path and below it last longer.
pub fn renew(context: &Context, path: &str, epochs: u32) -> Result<()> {
    let client = context.client()?;
    let request = RenewRequest { path: remote(path)?, epochs };
    let done: RenewedView = block_on("what was renewed stays so; run it again for the rest", async {
        client.json(client.request(reqwest::Method::POST, "/v1/tree/renew").json(&request)).await
    })?;
    let RenewedView { contents, pages, failed } = &done;
    let text = format!("{contents} stored files and {pages} of the folders themselves last {epochs} epochs longer");
    let failures: Vec<_> = failed.iter().map(|file| Failure::new(file.file_id.clone(), file.reason.clone())).collect();
    context.out.result(&done, || text.clone())?;
    tell_failures(context, &failures, &text)
}

/// Deletes stored files that no folder refers to.
pub fn gc(context: &Context, args: &GcArgs) -> Result<()> {
    let client = context.client()?;
    let request = CollectRequest { older_than_s: args.older_than.as_secs() };
    let done: CollectView = block_on("run it again to go on", async {
        let request = client.request(reqwest::Method::POST, "/v1/tree/collect").json(&request);
        client.json(request).await
    })?;
    let CollectView { reached, deleted, failed, young } = done;
    let value = json!({ "reached": reached, "deleted": deleted, "failed": failed, "young": young });
    context.out.result(&value, || {
        let failed = if failed > 0 { format!(", {failed} could not be deleted yet") } else { String::new() };
        let young = if young > 0 { format!(", {young} are too young") } else { String::new() };
        format!("{deleted} stored files deleted that nothing refers to{failed}{young}; {reached} are in use")
    })?;
    Ok(())
}

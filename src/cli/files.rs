//! `trullo ls`, `stat` and `rm`, and how a file is named on the command line.

use anyhow::Result;
use clap::Args;
use reqwest::Method;

use super::client::Client;
use super::context::{Context, NOTHING_CHANGED, block_on};
use super::errors::{CliError, Exit};
use super::output::{facts, short, size, table};
use crate::api::sharing::{SharedPageView, SharedView};
use crate::api::views::{DeletedView, FileStatus, FileView, FilesView};

/// Digits with which an id may be begun.
const ID_DIGITS_MIN: usize = 8;

const LS: &str = "Examples:
  trullo ls
  trullo ls --json | jq -r .[].id
  trullo ls --shared
  trullo ls -l /docs
  trullo ls -R / --json

Without a path: files that stand alone, by their ids. With one: a folder. A file ends soon in the last tenth of its time, or as many epochs before as files.warn_epochs says.";

const STAT: &str = "Examples:
  trullo stat photo.jpg
  trullo stat 3f9c0a41d2b7e685 --json";

const RM: &str = "Examples:
  trullo rm photo.jpg
  trullo rm 3f9c0a41d2b7e685
  trullo rm /docs/draft.txt
  trullo rm -r /docs/old

The ledger ends the file's deal and the storage nodes free its slots. The epoch that has begun is paid; what is left of the
price comes back. There is no way to undo it.";

/// Pages of what is shared in which a name is looked for.
const SHARED_PAGES_MAX: usize = 64;
/// Files that are asked for at once.
const PAGE: usize = 1_000;
/// Files of one name that an error lists.
const AMBIGUOUS_TOLD: usize = 8;

/// Arguments of `ls`.
#[derive(Debug, Args)]
#[command(after_long_help = LS)]
pub struct LsArgs {
    /// A folder; default: files that stand alone
    #[arg(value_name = "/PATH", conflicts_with = "shared")]
    path: Option<String>,
    /// What others share with you, in place of your own
    #[arg(long)]
    shared: bool,
    /// Mode, size, time, version and id too
    #[arg(short, long, requires = "path")]
    long: bool,
    /// With all that is below
    #[arg(short = 'R', long, requires = "path")]
    recursive: bool,
}

/// Arguments of `stat`.
#[derive(Debug, Args)]
#[command(after_long_help = STAT)]
pub struct StatArgs {
    /// The file: its id, the first digits of it, or its name
    file: String,
}

/// Arguments of `rm`.
#[derive(Debug, Args)]
#[command(after_long_help = RM)]
pub struct RmArgs {
    /// The file: its id, the first digits of it, its name; or its path
    file: String,
    /// A folder goes with all that is in it
    #[arg(short, long)]
    recursive: bool,
}

/// Lists the account's files.
pub fn ls(context: &Context, args: &LsArgs) -> Result<()> {
    if args.shared {
        return super::sharing::list_shared(context);
    }
    if let Some(path) = &args.path {
        return super::tree::ls(context, path, args.long, args.recursive);
    }
    let client = context.client()?;
    let files: Vec<FileView> = block_on(NOTHING_CHANGED, own(&client))?;
    context.out.result(&files, || {
        let row = |file: &FileView| {
            let bytes = file.bytes.map(size).unwrap_or_default();
            let confirmed = format!("{}/{}", file.confirmations, file.slots.len());
            let name = file.name.clone().unwrap_or_default();
            let left = super::terms::left(&file.terms);
            [short(&file.id), file.status.to_string(), bytes, confirmed, file.height.to_string(), left, name]
        };
        table(["id", "status", "size", "confirmed", "height", "epochs left", "name"], files.iter().map(row))
    })?;
    super::terms::warn(context, files.iter().map(|file| (file.name.as_deref().unwrap_or(&file.id), &file.terms)));
    Ok(())
}

/// Shows one file.
pub fn stat(context: &Context, args: &StatArgs) -> Result<()> {
    let client = context.client()?;
    let file = block_on(NOTHING_CHANGED, resolve_readable(&client, &args.file))?;
    context.out.result(&file, || describe(&file))?;
    super::terms::warn(context, [(file.name.as_deref().unwrap_or(&file.id), &file.terms)]);
    Ok(())
}

/// Deletes one file.
pub fn rm(context: &Context, args: &RmArgs) -> Result<()> {
    if super::tree::is_remote(&args.file) {
        return super::tree::rm(context, &args.file, args.recursive);
    }
    let client = context.client()?;
    let deleted: DeletedView = block_on("the deletion may still become final; see `trullo ls`", async {
        let file = resolve(&client, &args.file).await?;
        refuse_ended(&file)?;
        client.json(client.request(Method::DELETE, &format!("/v1/files/{}", file.id))).await
    })?;
    context.out.result(&deleted, || format!("{} deleted at height {}", deleted.file_id, deleted.height))?;
    Ok(())
}

/// A file and its slots, for reading.
pub fn describe(file: &FileView) -> String {
    let status = match &file.reason {
        Some(reason) => format!("{}: {reason}", file.status),
        None => file.status.to_string(),
    };
    let lost = format!("any {} of {} slots restore it", file.data, file.data + file.parity);
    let mut rows = vec![("id", file.id.clone())];
    rows.extend(file.name.clone().map(|name| ("name", name)));
    rows.push(("owner", file.owner.clone()));
    rows.push(("status", status));
    rows.extend(file.bytes.map(|bytes| ("size", format!("{bytes} bytes ({})", size(bytes)))));
    if file.status == FileStatus::Ended {
        rows.push(("height", file.height.to_string()));
        return facts(rows);
    }
    rows.push(("stored", format!("{} bytes of ciphertext; {lost}", file.cipher_bytes)));
    rows.push(("chunk size", size(file.chunk_size)));
    let needed = format!("final with {}", file.min_confirmations);
    rows.push(("confirmed", format!("{} of {}; {needed}", file.confirmations, file.slots.len())));
    rows.push(("repaired", format!("when {} slots or fewer are held", file.repair_threshold)));
    rows.push(("height", file.height.to_string()));
    rows.extend(super::terms::rows(&file.terms));
    let slots = file.slots.iter().map(|slot| {
        let node = slot.node_name.clone().unwrap_or_else(|| short(&slot.node));
        let confirmed = if slot.confirmed { "yes" } else { "no" };
        [slot.index.to_string(), node, size(slot.len), confirmed.to_owned(), short(&slot.root)]
    });
    format!("{}\n{}", facts(rows), table(["slot", "node", "size", "confirmed", "root"], slots))
}

/// All files of the node's account.
async fn own(client: &Client) -> Result<Vec<FileView>> {
    let mut page: FilesView = client.get(&format!("/v1/files?limit={PAGE}")).await?;
    let mut files = std::mem::take(&mut page.files);
    while let Some(next) = page.next {
        page = client.get(&format!("/v1/files?limit={PAGE}&cursor={next}")).await?;
        files.append(&mut page.files);
    }
    Ok(files)
}

/// The file that a text names: its id, what is stored for a path, or an own file by name or by the first digits of the id.
/// Errors: exit 4 without any, 8 with several.
pub async fn resolve(client: &Client, text: &str) -> Result<FileView> {
    if super::tree::is_remote(text) {
        return at_path(client, text).await;
    }
    if is_id(text) {
        return client.get(&format!("/v1/files/{text}/info")).await;
    }
    one_of(own(client).await?, text)
}

/// The same, and if no own file is meant one that is shared with the account.
pub async fn resolve_readable(client: &Client, text: &str) -> Result<FileView> {
    let own = match resolve(client, text).await {
        Err(error) if CliError::of(&error).code == Exit::NotFound && !is_id(text) && !super::tree::is_remote(text) => {
            error
        }
        done => return done,
    };
    let mut found = Vec::new();
    let mut path = "/v1/shared".to_owned();
    for _ in 0..SHARED_PAGES_MAX {
        let page: SharedPageView = client.get(&path).await?;
        let named = |file: &&SharedView| meets(&file.file, file.name.as_deref(), text);
        for shared in page.files.iter().filter(named).take(AMBIGUOUS_TOLD) {
            found.push(client.get(&format!("/v1/files/{}/info", shared.file)).await?);
        }
        let Some(next) = page.next.filter(|_| found.len() < AMBIGUOUS_TOLD) else { break };
        path = format!("/v1/shared?after={next}");
    }
    if found.is_empty() { Err(own) } else { one_of(found, text) }
}

/// The stored file that holds what is at a path now. Errors: exit 2 for a folder or a link, 8 where there are several.
async fn at_path(client: &Client, text: &str) -> Result<FileView> {
    let entry = super::tree::stat(client, &super::tree::remote(text)?).await?;
    let path = &entry.path;
    let Some(content) = &entry.content else {
        return Err(CliError::new(Exit::Usage, format!("{path} is no file")).into());
    };
    let [piece] = content.pieces.as_slice() else {
        let error = CliError::new(Exit::Conflict, format!("{path} is stored as {} files", content.pieces.len()));
        return Err(error.hint(format!("`trullo ls {path} --json` lists their ids")).into());
    };
    let mut file: FileView = client.get(&format!("/v1/files/{}/info", piece.file_id)).await?;
    file.name = path.rsplit('/').next().map(str::to_owned);
    Ok(file)
}

fn one_of(mut files: Vec<FileView>, text: &str) -> Result<FileView> {
    files.retain(|file| meets(&file.id, file.name.as_deref(), text));
    match files.len() {
        1 => Ok(files.remove(0)),
        0 if is_too_short(text) => {
            let error = CliError::new(Exit::NotFound, format!("no file is named {text:?}"));
            Err(error.hint(format!("to name one by its id, give {ID_DIGITS_MIN} digits or more")).into())
        }
        0 => Err(CliError::new(Exit::NotFound, format!("no file {text:?}")).hint("see `trullo ls`").into()),
        n => {
            files.sort_by_key(|file| std::cmp::Reverse(file.created_ms));
            let newest = files.first().map(|file| short(&file.id)).unwrap_or_default();
            let told: Vec<_> = files.iter().take(AMBIGUOUS_TOLD).map(ambiguous).collect();
            let rest = if n > told.len() { format!(", and {} older ones", n - told.len()) } else { String::new() };
            let error =
                CliError::new(Exit::Conflict, format!("{n} files are named {text:?}: {}{rest}", told.join(", ")));
            Err(error.hint(format!("give the id of one of them; {newest} is the newest, `trullo ls` lists all")).into())
        }
    }
}

fn ambiguous(file: &FileView) -> String {
    let put = file.created_ms.map(|ms| std::time::UNIX_EPOCH + std::time::Duration::from_millis(ms));
    let put = put.map_or_else(|| "?".to_owned(), |at| humantime::format_rfc3339_seconds(at).to_string());
    let bytes = file.bytes.map(size).unwrap_or_default();
    format!("{} ({}, {bytes}, put {put})", short(&file.id), file.status)
}

/// Whether there is still something of it. Errors: exit 4.
pub fn refuse_ended(file: &FileView) -> Result<()> {
    if file.status != FileStatus::Ended {
        return Ok(());
    }
    let reason = file.reason.as_deref().unwrap_or("its deal has ended");
    Err(CliError::new(Exit::NotFound, format!("file {} is gone: {reason}", short(&file.id))).into())
}

/// Whether it is a whole id.
pub fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether it may be meant as the begin of an id.
fn is_too_short(text: &str) -> bool {
    text.len() < ID_DIGITS_MIN && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn meets(id: &str, name: Option<&str>, text: &str) -> bool {
    let is_prefix = text.len() >= ID_DIGITS_MIN && id.starts_with(text);
    is_prefix || name == Some(text)
}

//! Show: listings, sums, versions, and whether what is in a folder is well kept.

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::Result;
use futures::StreamExt;
use serde::Serialize;

use super::pull::reads_whole;
use super::small::{DuArgs, VersionsArgs};
use super::{Failure, is_fatal, list, remote, stat};
use crate::api::storage::HealthView;
use crate::api::tree_views::{ContentView, EntryKind, EntryView};
use crate::cli::client::Client;
use crate::cli::context::{Context, NOTHING_CHANGED, block_on};
use crate::cli::errors::{CliError, Exit};
use crate::cli::output::{short, size, table};

/// Files whose health is asked for at the same time.
const AT_ONCE: usize = 8;
/// Files in danger that are told one by one.
const TOLD: usize = 50;

fn time_of(entry: &EntryView) -> String {
    let nanos = entry.mtime_ns.and_then(|nanos| u64::try_from(nanos).ok());
    let time = nanos.map(|nanos| UNIX_EPOCH + Duration::from_nanos(nanos));
    time.map(|time| humantime::format_rfc3339_seconds(time).to_string()).unwrap_or_default()
}

fn mode_of(entry: &EntryView) -> String {
    let kind = match entry.kind {
        EntryKind::File => '-',
        EntryKind::Folder => 'd',
        EntryKind::Symlink => 'l',
    };
    let mode = entry.mode.unwrap_or(0o755);
    let bit = |at: u32| if mode >> (8 - at) & 1 == 0 { '-' } else { ['r', 'w', 'x'][at as usize % 3] };
    std::iter::once(kind).chain((0..9).map(bit)).collect()
}

/// Lists a folder.
pub fn ls(context: &Context, path: &str, long: bool, recursive: bool) -> Result<()> {
    let client = context.client()?;
    let base = remote(path)?;
    let entries = block_on(NOTHING_CHANGED, list(&client, &base, recursive))?;
    let prefix = if base == "/" { base.clone() } else { format!("{base}/") };
    let name = |entry: &EntryView| {
        let name = entry.path.strip_prefix(&prefix).unwrap_or(&entry.path);
        match (&entry.kind, &entry.target) {
            (EntryKind::Folder, _) => format!("{name}/"),
            (EntryKind::Symlink, Some(target)) if long => format!("{name} -> {target}"),
            _ => name.to_owned(),
        }
    };
    context.out.result(&entries, || {
        let entries = entries.iter().filter(|entry| entry.path != base || entry.kind != EntryKind::Folder);
        if !long {
            return entries.map(|entry| name(entry) + "\n").collect();
        }
        let row = |entry: &EntryView| {
            let content = entry.content.as_ref();
            let bytes = content.map(|content| size(content.bytes)).unwrap_or_default();
            let id = content.and_then(|content| content.pieces.first()).map(|piece| short(&piece.file_id));
            let version = content.map(|content| content.version.to_string()).unwrap_or_default();
            [mode_of(entry), bytes, time_of(entry), version, id.unwrap_or_default(), name(entry)]
        };
        table(["mode", "size", "changed", "version", "id", "name"], entries.map(row))
    })?;
    Ok(())
}

#[derive(Clone, Debug, Default, Serialize)]
struct Sum {
    path: String,
    files: u64,
    bytes: u64,
    version_bytes: u64,
}

/// Adds up what a folder holds, by what is in it.
pub fn du(context: &Context, args: &DuArgs) -> Result<()> {
    let client = context.client()?;
    let base = remote(&args.path)?;
    let all = block_on(NOTHING_CHANGED, list(&client, &base, true))?;
    let prefix = if base == "/" { base.clone() } else { format!("{base}/") };
    let mut sums = BTreeMap::<String, Sum>::new();
    let mut total = Sum { path: base.clone(), ..Sum::default() };
    for entry in &all {
        let rest = entry.path.strip_prefix(&prefix).unwrap_or_default();
        let name = rest.split('/').next().unwrap_or_default();
        let own = (!name.is_empty()).then(|| sums.entry(name.to_owned()).or_default());
        let older = entry.versions.iter().map(|content| content.bytes).sum::<u64>();
        for sum in own.into_iter().chain([&mut total]) {
            sum.files += u64::from(entry.kind == EntryKind::File);
            sum.bytes += entry.content.as_ref().map_or(0, |content| content.bytes);
            sum.version_bytes += older;
        }
    }
    let mut rows: Vec<_> = sums.into_iter().map(|(name, sum)| Sum { path: format!("{prefix}{name}"), ..sum }).collect();
    rows.push(total);
    context.out.result(&rows, || {
        let row = |sum: &Sum| [size(sum.bytes), sum.files.to_string(), size(sum.version_bytes), sum.path.clone()];
        table(["size", "files", "older versions", "path"], rows.iter().map(row))
    })?;
    Ok(())
}

/// Lists the contents that a file has had and that are kept.
pub fn versions(context: &Context, args: &VersionsArgs) -> Result<()> {
    let client = context.client()?;
    let path = remote(&args.path)?;
    let entry = block_on(NOTHING_CHANGED, stat(&client, &path))?;
    let Some(newest) = &entry.content else {
        return Err(CliError::new(Exit::Usage, format!("{path} is no file: only files have versions")).into());
    };
    let all: Vec<&ContentView> = std::iter::once(newest).chain(&entry.versions).collect();
    context.out.result(&all, || {
        let row = |content: &&ContentView| {
            let put = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_millis(content.put_ms));
            let id = content.pieces.first().map(|piece| short(&piece.file_id)).unwrap_or_default();
            let present = if content.version == newest.version { "present" } else { "" };
            [content.version.to_string(), put.to_string(), size(content.bytes), id, present.to_owned()]
        };
        table(["version", "put", "size", "id", ""], all.iter().map(row))
    })?;
    Ok(())
}

/// What `verify` found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Check {
    files: u64,
    bytes: u64,
    /// Stored files, older versions too.
    objects: u64,
    /// Of those, with every slot held by a node that answers.
    whole: u64,
    /// Readable, with slots missing.
    degraded: u64,
    /// Not readable now, or with other bytes than they should have.
    bad: Vec<Failure>,
    /// Whether all bytes were read and compared.
    read: bool,
    /// Contents without a hash of the whole to compare with.
    unhashed: usize,
}

/// Says whether every file of a folder is there and whole.
pub fn verify(context: &Context, path: &str, read: bool) -> Result<()> {
    let client = context.client()?;
    let base = remote(path)?;
    let check = block_on(NOTHING_CHANGED, check(context, &client, &base, read))?;
    let Check { files, bytes, objects, whole, degraded, bad, .. } = &check;
    for failure in bad.iter().take(TOLD) {
        context.out.warn(format!("{}: {}", failure.path, failure.reason));
    }
    let compared = match (read, check.unhashed) {
        (false, _) => String::new(),
        (true, 0) => ", all bytes read and compared".to_owned(),
        (true, n) => {
            format!(", all bytes read, and compared but for {n} that came in parts and have no hash of the whole")
        }
    };
    let text = format!(
        "{files} files ({}): {whole} of {objects} stored files are whole, {degraded} lack slots, {} are bad{compared}",
        size(*bytes),
        bad.len()
    );
    context.out.result(&check, || text)?;
    if bad.is_empty() {
        return Ok(());
    }
    let error = CliError::new(Exit::Verification, format!("{} of {objects} stored files are bad", bad.len()));
    Err(error.hint("start the nodes that are away; `trullo file health /PATH` says more of one file").into())
}

async fn check(context: &Context, client: &Client, base: &str, read: bool) -> Result<Check> {
    let entries = list(client, base, true).await?;
    let mut check = Check { read, ..Check::default() };
    let mut contents = Vec::new();
    for entry in entries.into_iter().filter(|entry| entry.kind == EntryKind::File) {
        check.files += 1;
        check.bytes += entry.content.as_ref().map_or(0, |content| content.bytes);
        let all = entry.content.into_iter().chain(entry.versions);
        contents.extend(all.map(|content| (entry.path.clone(), content)));
    }
    for (_, content) in &contents {
        check.objects += content.pieces.len() as u64;
        check.unhashed += usize::from(content.hash.is_none());
    }
    let total = contents.iter().map(|(_, content)| content.bytes).sum();
    let progress = context.out.progress("checking", Some(total), 0);
    let checking = futures::stream::iter(contents).map(|(path, content)| {
        let progress = &progress;
        async move {
            let done = look(client, &path, &content, read, progress).await;
            (format!("{path} version {}", content.version), done)
        }
    });
    let mut checking = std::pin::pin!(checking.buffer_unordered(AT_ONCE));
    while let Some((path, done)) = checking.next().await {
        match done {
            Ok((whole, degraded, bad)) => {
                check.whole += whole;
                check.degraded += degraded;
                check.bad.extend(bad.map(|reason| Failure::new(path, reason)));
            }
            Err(error) => match CliError::of(&error) {
                error if is_fatal(&error) => return Err(error.into()),
                error => check.bad.push(Failure::of(path, &error)),
            },
        }
    }
    progress.clear();
    check.bad.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(check)
}

/// Stored files that are whole, those that lack slots, and what is wrong with the content, if anything is.
type Looked = (u64, u64, Option<String>);

async fn look(
    client: &Client,
    path: &str,
    content: &ContentView,
    read: bool,
    progress: &crate::cli::output::Progress,
) -> Result<Looked> {
    let (mut whole, mut degraded, mut bad) = (0, 0, None);
    for piece in &content.pieces {
        let health: HealthView = client.get(&format!("/v1/files/{}/health", piece.file_id)).await?;
        if health.status != "final" {
            bad = Some(format!("its deal is {}", health.status));
        } else if health.answering < health.needed {
            bad = Some(format!("{} of {} slots answer, {} are needed", health.answering, health.slots, health.needed));
        } else if health.answering < health.slots {
            degraded += 1;
        } else {
            whole += 1;
        }
    }
    match read {
        true if !reads_whole(client, path, content, progress).await? => {
            bad = Some("its bytes do not have the hash that its folder says".to_owned());
        }
        true => {}
        false => progress.add(content.bytes),
    }
    Ok((whole, degraded, bad))
}

//! Push of one file, or of stdin, to a path.

use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use reqwest::Method;

use super::local::{Found, Kind};
use super::push::{Did, Push, Run, Todo, told};
use super::{find, join};
use crate::api::tree_views::{ContentView, EntryKind, OpRequest};
use crate::cli::client::Client;
use crate::cli::context::{Context, unreadable};
use crate::cli::errors::{CliError, Exit};
use crate::cli::put::send_stdin;

/// Puts one file, or stdin, at a path; into the folder, if that is one.
pub async fn push_file(context: &Context, client: &Client, file: &Path, to: &str, how: &Push) -> Result<()> {
    let started = Instant::now();
    let mut path = super::remote(to)?;
    let is_folder =
        to.ends_with('/') || find(client, &path).await?.is_some_and(|entry| entry.kind == EntryKind::Folder);
    let stdin = file == Path::new("-");
    if is_folder {
        let name = file.file_name().and_then(|name| name.to_str()).filter(|_| !stdin);
        let name = name.ok_or_else(|| {
            CliError::new(Exit::Usage, format!("{to} is a folder")).hint("give the file's whole path there")
        })?;
        path = join(&path, name);
    }
    let mut run = Run::new(context, client, "/", how, Vec::new());
    if stdin {
        let request = client.request(Method::POST, "/v1/tree/content").query(&how.settings);
        let content: ContentView = send_stdin(client, request, &run.progress).await?;
        let (bytes, keep) = (content.bytes, how.keep);
        let op = OpRequest::Put {
            path: path.clone(),
            kind: EntryKind::File,
            content: Some(content),
            target: None,
            mode: None,
            mtime_ns: None,
            keep,
            new: false,
            touch: false,
            session: None,
        };
        run.apply_all(vec![Todo { op, did: Did::Send, bytes }]).await?;
    } else {
        let local = std::path::absolute(file).map_err(|error| unreadable(file, &error))?;
        let meta = std::fs::metadata(&local).map_err(|error| unreadable(file, &error))?;
        if meta.is_dir() {
            let error = CliError::new(Exit::Usage, format!("{} is a directory", file.display()));
            return Err(error.hint(format!("trullo put -r {} {to}", file.display())).into());
        }
        let there = find(client, &path).await?;
        let rest = path.trim_start_matches('/').to_owned();
        let found = Found { rest: rest.clone(), path: local, kind: Kind::File, meta };
        let there = there.map(|entry| (rest, entry)).into_iter().collect();
        run.put_all(vec![found], there).await?;
    }
    run.progress.clear();
    let Run { mut summary, failures, .. } = run;
    if let Some(failure) = failures.first() {
        let what = format!("{}: {}", failure.path, failure.reason);
        let error = CliError::new(Exit::from_code(failure.code), what);
        return Err(error.hint("run the same command again to go on").into());
    }
    summary.seconds = started.elapsed().as_secs_f64();
    context.out.say(told(&summary));
    if how.dry_run {
        return Ok(());
    }
    let entry = super::stat(client, &path).await?;
    let value = serde_json::json!({ "path": path, "entry": entry, "summary": summary });
    context.out.line("summary", &value, || Some(path.clone()))?;
    Ok(())
}

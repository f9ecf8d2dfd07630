//! Folders on the command line: what is at remote paths, which begin with `/`, and how it gets there and back.

mod local;
mod pull;
mod push;
mod push_file;
mod show;
mod small;

use std::collections::BTreeMap;

use anyhow::Result;
use reqwest::Method;
use serde::Serialize;

pub use pull::{Pull, pull, pull_file};
pub use push::{Push, push};
pub use push_file::push_file;
pub use show::{du, ls, verify, versions};
pub use small::{
    DuArgs, GcArgs, MkdirArgs, MvArgs, RestoreArgs, SyncArgs, VersionsArgs, gc, mkdir, mv, renew, restore, rm, sync,
};

use super::client::Client;
use super::context::Context;
use super::errors::{CliError, Exit};
use crate::api::tree_views::{ChangesRequest, ChangesView, EntryView, ListView, OpRequest};

/// Failures that are told one by one.
const TOLD: usize = 50;

/// Whether an argument names something in the account's folders.
pub fn is_remote(text: &str) -> bool {
    text.starts_with('/')
}

/// A remote path without `/` at its end. Errors: exit 2 for one that does not begin with `/` or cannot be.
pub fn remote(text: &str) -> Result<String> {
    if !is_remote(text) {
        let error = CliError::new(Exit::Usage, format!("{text:?} is no remote path"));
        return Err(error.hint(format!("remote paths begin with `/`: /{text}")).into());
    }
    let path = crate::files::tree::path(text).map_err(|error| CliError::new(Exit::Usage, error.to_string()))?;
    Ok(format!("/{path}"))
}

/// A path below another.
fn join(base: &str, rest: &str) -> String {
    match (base, rest) {
        (base, "") => base.to_owned(),
        ("/", rest) => format!("/{rest}"),
        (base, rest) => format!("{base}/{rest}"),
    }
}

/// What is at a path. Errors: exit 4.
pub async fn stat(client: &Client, path: &str) -> Result<EntryView> {
    client.json(client.request(Method::GET, "/v1/tree/stat").query(&[("path", path)])).await
}

/// The same, or nothing.
async fn find(client: &Client, path: &str) -> Result<Option<EntryView>> {
    match stat(client, path).await {
        Ok(entry) => Ok(Some(entry)),
        Err(error) if CliError::of(&error).code == Exit::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Everything in a folder, or with all depths below it. Errors: exit 4.
async fn list(client: &Client, path: &str, recursive: bool) -> Result<Vec<EntryView>> {
    let (mut all, mut after) = (Vec::new(), String::new());
    loop {
        let recursive = if recursive { "true" } else { "false" };
        let query = [("path", path), ("recursive", recursive), ("after", &after), ("limit", "4096")];
        let page: ListView = client.json(client.request(Method::GET, "/v1/tree/list").query(&query)).await?;
        all.extend(page.entries);
        match page.next {
            Some(next) => after = next,
            None => return Ok(all),
        }
    }
}

/// What is below a folder by its path from there on; the folder itself is the empty path. Empty if there is no such folder.
async fn below(client: &Client, base: &str) -> Result<BTreeMap<String, EntryView>> {
    let all = match list(client, base, true).await {
        Err(error) if CliError::of(&error).code == Exit::NotFound => Vec::new(),
        all => all?,
    };
    let rest = |entry: EntryView| {
        let rest = entry.path.strip_prefix(base).unwrap_or(&entry.path).trim_start_matches('/').to_owned();
        (rest, entry)
    };
    Ok(all.into_iter().map(rest).collect())
}

/// Changes that take effect together.
async fn change(client: &Client, ops: Vec<OpRequest>) -> Result<ChangesView> {
    client.json(client.request(Method::POST, "/v1/tree/changes").json(&ChangesRequest { ops })).await
}

/// Something that was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// The local or remote path.
    pub path: String,
    /// Why.
    pub reason: String,
    /// The exit code that it would be alone.
    pub code: u8,
}

impl Failure {
    fn new(path: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { path: path.into(), reason: reason.into(), code: Exit::Other as u8 }
    }
    fn of(path: impl Into<String>, error: &CliError) -> Self {
        Self { code: error.code as u8, ..Self::new(path, error.message.clone()) }
    }
}

/// Tells what was not done, and ends with exit 3 if that is anything.
fn tell_failures(context: &Context, failures: &[Failure], done: &str) -> Result<()> {
    if failures.is_empty() {
        return Ok(());
    }
    for failure in failures.iter().take(TOLD) {
        context.out.warn(format!("{}: {}", failure.path, failure.reason));
    }
    if failures.len() > TOLD {
        context.out.warn(format!("and {} more", failures.len() - TOLD));
    }
    let error = CliError::new(Exit::Partial, format!("{} of them failed; {done}", failures.len()));
    Err(error.hint("run the same command again: what is done already is not done again").into())
}

/// A failure that ends everything: what comes next would fail the same way.
fn is_fatal(error: &CliError) -> bool {
    matches!(error.code, Exit::Unreachable | Exit::Denied | Exit::Refused | Exit::NoHome)
}

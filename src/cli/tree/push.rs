//! Push: files and directories of this machine into folders.
//!
//! Contents go first, several at once; the paths follow in batches, of which one is under way at a time, so that many small
//! files share a change of the root. What is there and unchanged is not sent.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use reqwest::Method;
use serde::Serialize;

use super::local::{Found, Kind, mode, mtime_ns, walk};
use super::{Failure, below, change, is_fatal, join, tell_failures};
use crate::api::tree_views::{ContentView, EntryKind, EntryView, OpRequest, StagedRequest, StagedView};
use crate::cli::client::Client;
use crate::cli::context::{Context, unreadable};
use crate::cli::errors::{CliError, Exit};
use crate::cli::output::{Progress, size};
use crate::cli::put::{Sent, send_file, session_of};

/// Files that are looked at or sent at the same time.
const AT_ONCE: usize = 24;
/// Changes in one batch, and the bytes of their paths.
const BATCH_OPS: usize = 512;
const BATCH_PATH_BYTES: usize = 256 << 10;
/// Changes that wait for their batch; then no further file is sent.
const WAITING_MAX: usize = 4_096;
/// Sessions in one question.
const SESSIONS: usize = 1_024;

/// How to push.
#[derive(Clone, Debug, Default)]
pub struct Push {
    /// Compare contents even where size and time are the same.
    pub checksum: bool,
    /// Older contents that are kept.
    pub keep: Option<usize>,
    /// Take away what is not here.
    pub delete: bool,
    /// Change nothing, say what would be changed.
    pub dry_run: bool,
    /// Settings of the contents, as the node's interface takes them.
    pub settings: Vec<(&'static str, String)>,
}

/// What came of it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Summary {
    /// Files whose content was sent.
    pub sent: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Files whose content was stored already by an interrupted run.
    pub resumed: u64,
    /// Folders, links, modes and times that were put.
    pub updated: u64,
    /// Entries that were as they are here.
    pub unchanged: u64,
    /// Paths that were taken away, each with all below it.
    pub removed: u64,
    /// What failed.
    pub failed: u64,
    /// Whether nothing was changed, only told.
    pub dry_run: bool,
    /// Seconds in all.
    pub seconds: f64,
}

/// A path that is to be changed, and why.
pub(super) struct Todo {
    pub op: OpRequest,
    pub did: Did,
    pub bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Did {
    Send,
    Resume,
    Update,
    Remove,
}

impl Did {
    const fn name(self) -> &'static str {
        match self {
            Self::Send => "put",
            Self::Resume => "resume",
            Self::Update => "update",
            Self::Remove => "remove",
        }
    }
}

fn path_of(op: &OpRequest) -> &str {
    match op {
        OpRequest::Put { path, .. } | OpRequest::Remove { path, .. } | OpRequest::Restore { path, .. } => path,
        OpRequest::Move { from, .. } => from,
    }
}

/// Makes a folder what a directory is.
pub async fn push(context: &Context, client: &Client, dir: &Path, base: &str, how: &Push) -> Result<()> {
    let started = Instant::now();
    let (found, failures) = walk(dir)?;
    let there = below(client, base).await?;
    let (before, after) = if how.delete { removals(&found, &failures, &there, base)? } else { Default::default() };
    let mut run = Run::new(context, client, base, how, failures);
    if how.dry_run {
        run.tell_removals(&before, &after)?;
    } else {
        run.apply_all(before).await?;
    }
    run.put_all(found, there).await?;
    if !how.dry_run {
        run.apply_all(after).await?;
    }
    run.progress.clear();
    let Run { mut summary, failures, .. } = run;
    summary.seconds = started.elapsed().as_secs_f64();
    summary.failed = failures.len() as u64;
    let text = told(&summary);
    context.out.say(&text);
    context.out.line("summary", &summary, || None)?;
    tell_failures(context, &failures, &text)
}

pub(super) fn told(summary: &Summary) -> String {
    let Summary { sent, sent_bytes, resumed, updated, unchanged, removed, seconds, .. } = summary;
    let would = if summary.dry_run { "would be " } else { "" };
    let resumed = if *resumed > 0 { format!(" ({resumed} more were stored already)") } else { String::new() };
    format!(
        "{sent} files ({}) {would}sent{resumed}, {updated} updated, {removed} removed, {unchanged} unchanged, in {seconds:.1} s",
        size(*sent_bytes)
    )
}

/// What has to go before something else can take its place, and what goes at the end.
fn removals(
    found: &[Found],
    failures: &[Failure],
    there: &BTreeMap<String, EntryView>,
    base: &str,
) -> Result<(Vec<Todo>, Vec<Todo>)> {
    if !failures.is_empty() {
        // What could not be read is not gone.
        let error = CliError::new(Exit::Refused, format!("{} could not be read", failures[0].path));
        return Err(error.hint("--delete takes away what is not here: make it readable, or leave --delete out").into());
    }
    let here: BTreeMap<&str, &Kind> = found.iter().map(|found| (found.rest.as_str(), &found.kind)).collect();
    let is_folder = |rest: &str| here.get(rest).is_some_and(|kind| **kind == Kind::Folder);
    let (mut before, mut after) = (BTreeSet::new(), BTreeSet::new());
    for (rest, entry) in there.iter().filter(|(rest, _)| !rest.is_empty()) {
        // The first part of the path that is no directory here takes all below it along.
        let above = rest.match_indices('/').map(|(at, _)| &rest[..at]).find(|above| !is_folder(above));
        match (above, here.get(rest.as_str())) {
            (Some(above), _) if here.contains_key(above) => drop(before.insert(above)),
            (Some(above), _) => drop(after.insert(above)),
            (None, None) => drop(after.insert(rest.as_str())),
            (None, Some(kind)) if (**kind == Kind::Folder) != (entry.kind == EntryKind::Folder) => {
                before.insert(rest.as_str());
            }
            (None, Some(_)) => {}
        }
    }
    let todo = |rest: &str| Todo {
        op: OpRequest::Remove { path: join(base, rest), recursive: true, missing_ok: true },
        did: Did::Remove,
        bytes: 0,
    };
    Ok((before.into_iter().map(todo).collect(), after.into_iter().map(todo).collect()))
}

/// A push under way.
pub(super) struct Run<'a> {
    context: &'a Context,
    client: &'a Client,
    base: &'a str,
    how: &'a Push,
    pub progress: Arc<Progress>,
    pub summary: Summary,
    pub failures: Vec<Failure>,
}

type Applied = (Vec<(Did, u64, String)>, Vec<Failure>, Option<CliError>);

impl<'a> Run<'a> {
    pub fn new(context: &'a Context, client: &'a Client, base: &'a str, how: &'a Push, failures: Vec<Failure>) -> Self {
        let progress = Arc::new(context.out.progress("sending", None, 0));
        let summary = Summary { dry_run: how.dry_run, ..Summary::default() };
        Self { context, client, base, how, progress, summary, failures }
    }

    fn tell_removals(&mut self, before: &[Todo], after: &[Todo]) -> Result<()> {
        for todo in before.iter().chain(after) {
            self.done(todo.did, 0, path_of(&todo.op))?;
        }
        Ok(())
    }

    fn done(&mut self, did: Did, bytes: u64, path: &str) -> Result<()> {
        match did {
            Did::Send => {
                self.summary.sent += 1;
                self.summary.sent_bytes += bytes;
            }
            Did::Resume => self.summary.resumed += 1,
            Did::Update => self.summary.updated += 1,
            Did::Remove => self.summary.removed += 1,
        }
        let item = serde_json::json!({ "action": did.name(), "path": path, "bytes": bytes });
        let text = || self.how.dry_run.then(|| format!("{} {path}", did.name()));
        self.context.out.line("item", &item, text)?;
        if !self.how.dry_run {
            self.context.out.detail(format!("{} {path}", did.name()));
        }
        Ok(())
    }

    fn settle(&mut self, (done, failures, fatal): Applied) -> Result<()> {
        for (did, bytes, path) in done {
            self.done(did, bytes, &path)?;
        }
        self.failures.extend(failures);
        fatal.map_or(Ok(()), |error| Err(error.into()))
    }

    /// Makes changes final, batch by batch.
    pub async fn apply_all(&mut self, mut todo: Vec<Todo>) -> Result<()> {
        while !todo.is_empty() {
            let batch = next_batch(&mut todo);
            let applied = apply(self.client, batch).await;
            self.settle(applied)?;
        }
        Ok(())
    }

    /// Sends what has changed, and puts it at its paths.
    pub async fn put_all(&mut self, found: Vec<Found>, there: BTreeMap<String, EntryView>) -> Result<()> {
        let status = self.client.status().await?;
        let whose = (status.chain.clone(), status.account.clone());
        let staged = self.staged(&found, &there, &whose).await?;
        let (client, how, base, progress) = (self.client, self.how, self.base, Arc::clone(&self.progress));
        let progress = &progress;
        let (there, staged, whose) = (&there, &staged, &whose);
        let looking = futures::stream::iter(found).map(|found| async move {
            let one = One { client, how, base, progress, there: there.get(&found.rest), staged, whose };
            let path = found.path.display().to_string();
            one.look(found).await.map_err(|error| (path, CliError::of(&error)))
        });
        let mut looking = std::pin::pin!(looking.buffer_unordered(AT_ONCE).fuse());
        let mut flying: FuturesUnordered<BoxFuture<'_, Applied>> = FuturesUnordered::new();
        let (mut waiting, mut ended): (Vec<Todo>, bool) = (Vec::new(), false);
        loop {
            if flying.is_empty() && !waiting.is_empty() {
                let batch = next_batch(&mut waiting);
                flying.push(apply(client, batch).boxed());
            }
            if ended && flying.is_empty() {
                return Ok(());
            }
            tokio::select! {
                looked = looking.next(), if !ended && waiting.len() < WAITING_MAX => match looked {
                    None => ended = true,
                    Some(Ok(None)) => self.summary.unchanged += 1,
                    Some(Ok(Some(todo))) if how.dry_run => self.done(todo.did, todo.bytes, path_of(&todo.op))?,
                    Some(Ok(Some(todo))) => waiting.push(todo),
                    Some(Err((_, error))) if is_fatal(&error) => return Err(error.into()),
                    Some(Err((path, error))) => self.failures.push(Failure::of(path, &error)),
                },
                Some(applied) = flying.next() => self.settle(applied)?,
            }
        }
    }

    /// What an interrupted run has stored already, by session.
    async fn staged(
        &self,
        found: &[Found],
        there: &BTreeMap<String, EntryView>,
        whose: &(String, Option<String>),
    ) -> Result<BTreeMap<String, ContentView>> {
        let mut staged = BTreeMap::new();
        if self.how.dry_run {
            return Ok(staged);
        }
        let files = found.iter().filter(|found| found.kind == Kind::File && found.meta.len() > 0);
        let new = files.filter(|found| !same_times(found, there.get(&found.rest)));
        let sessions: Vec<_> =
            new.map(|found| session_of(&found.path, &found.meta, whose, &join(self.base, &found.rest))).collect();
        for sessions in sessions.chunks(SESSIONS) {
            let request = StagedRequest { sessions: sessions.to_vec() };
            let view: StagedView = self.client.post("/v1/tree/staged", &request).await?;
            staged.extend(view.contents);
        }
        Ok(staged)
    }
}

/// Takes so many changes as fit one batch.
fn next_batch(todo: &mut Vec<Todo>) -> Vec<Todo> {
    let mut bytes = 0;
    let fits = |todo: &&Todo| {
        bytes += path_of(&todo.op).len();
        bytes <= BATCH_PATH_BYTES
    };
    let count = todo.iter().take(BATCH_OPS).take_while(fits).count().max(1);
    todo.drain(..count.min(todo.len())).collect()
}

/// Makes a batch final. If it is refused, each of its changes is tried alone, so that one does not hold up the others.
async fn apply(client: &Client, batch: Vec<Todo>) -> Applied {
    let (mut done, mut failures) = (Vec::new(), Vec::new());
    let all = |batch: Vec<Todo>| {
        batch.into_iter().map(|todo| (todo.did, todo.bytes, path_of(&todo.op).to_owned())).collect::<Vec<_>>()
    };
    let error = match change(client, batch.iter().map(|todo| todo.op.clone()).collect()).await {
        Ok(_) => return (all(batch), failures, None),
        Err(error) => CliError::of(&error),
    };
    if is_fatal(&error) {
        return (done, failures, Some(error));
    }
    let one_by_one = matches!(error.code, Exit::Conflict | Exit::NotFound | Exit::Usage) && batch.len() > 1;
    for todo in batch {
        let path = path_of(&todo.op).to_owned();
        if !one_by_one {
            failures.push(Failure::of(path, &error));
            continue;
        }
        match change(client, vec![todo.op]).await {
            Ok(_) => done.push((todo.did, todo.bytes, path)),
            Err(error) => match CliError::of(&error) {
                error if is_fatal(&error) => return (done, failures, Some(error)),
                error => failures.push(Failure::of(path, &error)),
            },
        }
    }
    (done, failures, None)
}

/// What is needed to look at one entry.
struct One<'a> {
    client: &'a Client,
    how: &'a Push,
    base: &'a str,
    progress: &'a Arc<Progress>,
    there: Option<&'a EntryView>,
    staged: &'a BTreeMap<String, ContentView>,
    whose: &'a (String, Option<String>),
}

/// Whether a file has the size and time that it has there.
fn same_times(found: &Found, there: Option<&EntryView>) -> bool {
    let Some(EntryView { content: Some(content), mtime_ns: Some(time), .. }) = there else { return false };
    content.bytes == found.meta.len() && *time == mtime_ns(&found.meta)
}

impl One<'_> {
    /// What has to be changed, if anything; a new content is stored then.
    async fn look(&self, found: Found) -> Result<Option<Todo>> {
        let path = join(self.base, &found.rest);
        if path == "/" {
            return Ok(None);
        }
        let same_mode = self.there.is_some_and(|there| there.mode == Some(mode(&found.meta)));
        match &found.kind {
            Kind::Folder => {
                let same = self.there.is_some_and(|there| there.mtime_ns == Some(mtime_ns(&found.meta)));
                let op = self.put(&found, path, EntryKind::Folder, None, None, None);
                Ok((!same || !same_mode).then_some(Todo { op, did: Did::Update, bytes: 0 }))
            }
            Kind::Link(target) => {
                let same = self.there.is_some_and(|there| there.target.as_ref() == Some(target));
                let op = self.put(&found, path, EntryKind::Symlink, None, Some(target.clone()), None);
                Ok((!same).then_some(Todo { op, did: Did::Update, bytes: 0 }))
            }
            Kind::File => self.file(found, path, same_mode).await,
        }
    }

    async fn file(&self, found: Found, path: String, same_mode: bool) -> Result<Option<Todo>> {
        let (len, same_times) = (found.meta.len(), same_times(&found, self.there));
        let content = self.there.and_then(|there| there.content.clone()).filter(|content| content.bytes == len);
        if let Some(content) = content
            && (same_times && !self.how.checksum || self.same_bytes(&found, &content).await?)
        {
            let op = self.put(&found, path, EntryKind::File, Some(content), None, None);
            return Ok((!same_times || !same_mode).then_some(Todo { op, did: Did::Update, bytes: 0 }));
        }
        if self.how.dry_run {
            let op = self.put(&found, path, EntryKind::File, None, None, None);
            return Ok(Some(Todo { op, did: Did::Send, bytes: len }));
        }
        let session = session_of(&found.path, &found.meta, self.whose, &path);
        let (content, did) = match self.staged.get(&session) {
            Some(content) => (content.clone(), Did::Resume),
            None => {
                let mut query = self.how.settings.clone();
                query.push(("session", session.clone()));
                let request = self.client.request(Method::POST, "/v1/tree/content").query(&query);
                let sent: Sent<ContentView> =
                    send_file(self.client, request, &found.path, &found.meta, self.progress).await?;
                if sent.changed {
                    let what = format!("{} was changed while it was read", found.path.display());
                    return Err(CliError::new(Exit::Conflict, what).into());
                }
                (sent.answer, Did::Send)
            }
        };
        let op = self.put(&found, path, EntryKind::File, Some(content), None, Some(session));
        Ok(Some(Todo { op, did, bytes: len }))
    }

    async fn same_bytes(&self, found: &Found, content: &ContentView) -> Result<bool> {
        let Some(hash) = &content.hash else { return Ok(false) };
        let path = found.path.clone();
        let hashed = tokio::task::spawn_blocking(move || hash_file(&path)).await?;
        Ok(hashed.map_err(|error| unreadable(&found.path, &error))? == *hash)
    }

    fn put(
        &self,
        found: &Found,
        path: String,
        kind: EntryKind,
        content: Option<ContentView>,
        target: Option<String>,
        session: Option<String>,
    ) -> OpRequest {
        let (mode, mtime_ns) = (Some(mode(&found.meta)), Some(mtime_ns(&found.meta)));
        let touch = content.is_some() && session.is_none();
        OpRequest::Put { path, kind, content, target, mode, mtime_ns, keep: self.how.keep, new: false, touch, session }
    }
}

pub(super) fn hash_file(path: &Path) -> std::io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(std::fs::File::open(path)?)?;
    Ok(hasher.finalize().to_hex().to_string())
}

//! Folders: the account's tree, for a person.

use axum::Json;
use axum::extract::multipart::MultipartError;
use axum::extract::{Form, FromRequest, Multipart, Query, Request, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Redirect, Response};
use futures::StreamExt;
use maud::Markup;
use serde::Deserialize;

use super::words::{self, Health};
use super::{Failed, address, encoded, files, name, user, view};
use crate::api::caller::{Caller, Scope};
use crate::api::download;
use crate::api::problem::Problem;
use crate::api::server::Api;
use crate::api::sharing::ShareView;
use crate::api::tree::{self, ListQuery, PathQuery, StatQuery};
use crate::api::tree_views::{ChangesRequest, ContentView, EntryKind, EntryView, ListView, OpRequest};
use crate::files::tree as rules;
use crate::ledger::record::NodeEntry;
use crate::node::tree::{ContentRequest, Tree};
use crate::types::limits;

/// Entries on one page.
const PAGE: usize = 200;
/// Older contents that are kept of a file that is replaced here, if the settings do not say more.
const VERSIONS: usize = 10;

/// A path as people write it, without a `/` at its end but for that of all folders. Errors: 409 for what is none.
fn written(path: &str) -> Result<String, Problem> {
    Ok(format!("/{}", tree::path(path)?))
}

/// The path of something in a folder. Errors: 400 for what can be no name.
fn within(folder: &str, name: &str) -> Result<String, Problem> {
    rules::name(name).map_err(|why| Problem::bad(format!("{name:?} cannot be a name here: {why}")))?;
    written(&format!("{}/{name}", tree::path(folder)?))
}

/// The folder that a path is in.
pub(super) fn parent(path: &str) -> &str {
    match path.rsplit_once('/') {
        Some(("", _)) | None => "/",
        Some((parent, _)) => parent,
    }
}

/// The last part of a path.
pub(super) fn last(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// An entry and how well its bytes are kept, if it has any.
pub(super) struct Line {
    pub entry: EntryView,
    pub health: Option<Health>,
}

/// A part of what is in a folder, folders first.
pub(super) struct Listing {
    pub path: String,
    pub lines: Vec<Line>,
    /// The address of the part before, and of the part after.
    pub first: Option<String>,
    pub next: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct FolderQuery {
    #[serde(default)]
    path: String,
    /// What the entries come after, in the order of paths.
    after: Option<String>,
    /// How many of those are on the pages before.
    #[serde(default)]
    from: usize,
}

pub(super) async fn list(caller: Option<Caller>, Query(query): Query<FolderQuery>) -> Result<Response, Failed> {
    let caller = user(caller, Scope::Read)?;
    let path = written(&query.path)?;
    let after = query.after.clone();
    let wanted = ListQuery { path: path.clone(), recursive: false, after, limit: Some(limits::TREE_LIST_MAX) };
    let Json(found) = tree::list(caller.clone(), Query(wanted)).await?;
    if found.entries.first().is_some_and(|entry| entry.path == path) {
        return Ok(Redirect::to(&address("/folders/file", &path)).into_response());
    }
    let nodes = caller.handle.nodes()?;
    let (entries, next) = part(found, &path, query.after.as_deref(), query.from);
    let mut lines = Vec::new();
    for entry in entries {
        let health = entry.content.as_ref().map(|content| health(&caller, &nodes, content)).transpose()?.flatten();
        lines.push(Line { entry, health });
    }
    let later = query.after.is_some() || query.from > 0;
    let first = later.then(|| address("/folders", &path));
    Ok(view::folders::list(&name(&caller), &Listing { path, lines, first, next }).into_response())
}

/// The entries of one page, and the address of the next. Folders come first among as many entries as are read at once.
fn part(found: ListView, path: &str, after: Option<&str>, from: usize) -> (Vec<EntryView>, Option<String>) {
    let ListView { mut entries, next } = found;
    entries.sort_by_cached_key(|entry| (entry.kind != EntryKind::Folder, entry.path.to_lowercase()));
    let end = from.saturating_add(PAGE);
    let further = |after: Option<&str>, from: usize| {
        let after = after.map(|after| format!("&after={}", encoded(after)));
        format!("{}{}&from={from}", address("/folders", path), after.unwrap_or_default())
    };
    let next = if end < entries.len() { Some(further(after, end)) } else { next.map(|next| further(Some(&next), 0)) };
    (entries.into_iter().skip(from).take(PAGE).collect(), next)
}

/// How well a content is kept: as its worst piece. One without bytes has nothing to be kept.
fn health(caller: &Caller, nodes: &[NodeEntry], content: &ContentView) -> Result<Option<Health>, Problem> {
    let mut worst: Option<Health> = None;
    for piece in &content.pieces {
        let health = files::health(caller, nodes, &piece.file_id)?;
        if worst.as_ref().is_none_or(|worst| health.state > worst.state) {
            worst = Some(health);
        }
    }
    Ok(worst)
}

#[derive(Deserialize)]
pub(super) struct EntryQuery {
    path: String,
}

async fn entry(caller: &Caller, path: &str) -> Result<EntryView, Problem> {
    let Json(entry) = tree::stat(caller.clone(), Query(StatQuery { path: path.to_owned() })).await?;
    Ok(entry)
}

pub(super) async fn file(caller: Option<Caller>, Query(query): Query<EntryQuery>) -> Result<Response, Failed> {
    let caller = user(caller, Scope::Read)?;
    let entry = entry(&caller, &query.path).await?;
    if entry.kind == EntryKind::Folder {
        return Ok(Redirect::to(&address("/folders", &entry.path)).into_response());
    }
    let content = entry.content.as_ref();
    let health = match content {
        Some(content) => health(&caller, &caller.handle.nodes()?, content)?,
        None => None,
    };
    let stored = health.as_ref().is_some_and(|health| health.state != words::State::Gone);
    let shares: Option<Vec<ShareView>> = match content.map(|content| content.pieces.as_slice()) {
        Some([only]) if stored => files::shares(&caller, &only.file_id).await?,
        _ => None,
    };
    Ok(view::folders::file(&name(&caller), &Line { entry, health }, shares.as_deref()).into_response())
}

#[derive(Deserialize)]
pub(super) struct DownloadQuery {
    path: String,
    version: Option<u64>,
}

pub(super) async fn download(
    caller: Option<Caller>,
    Query(DownloadQuery { path, version }): Query<DownloadQuery>,
    headers: HeaderMap,
) -> Result<Response, Failed> {
    let caller = user(caller, Scope::Read)?;
    let path = written(&path)?;
    let mut head = download::head(last(&path), "");
    // Another content may be here the next time, and that request is for the route to judge by its range alone.
    head.remove(header::ETAG);
    let mut answer = tree::get(caller, Query(PathQuery { path, version }), headers).await?;
    answer.headers_mut().extend(head);
    Ok(answer)
}

async fn change(caller: Caller, ops: Vec<OpRequest>) -> Result<(), Problem> {
    let Json(_) = tree::change(caller, Json(ChangesRequest { ops })).await?;
    Ok(())
}

fn put(path: String, content: Option<ContentView>, keep: Option<usize>, new: bool) -> OpRequest {
    let kind = if content.is_some() { EntryKind::File } else { EntryKind::Folder };
    let (mode, mtime_ns) = (None, None);
    OpRequest::Put { path, kind, content, target: None, mode, mtime_ns, keep, new, touch: false, session: None }
}

#[derive(Deserialize)]
pub(super) struct UploadQuery {
    path: String,
    /// Whether files of the same name are replaced.
    #[serde(default)]
    replace: bool,
}

/// Stores the files of a form in a folder; all of them appear there, or none.
pub(super) async fn upload(
    State(api): State<Api>,
    caller: Option<Caller>,
    Query(query): Query<UploadQuery>,
    request: Request,
) -> Result<Redirect, Failed> {
    let caller = user(caller, Scope::Write)?;
    let (tree, folder) = (Tree::of(&caller.handle)?, written(&query.path)?);
    let wrong = |error: MultipartError| Problem::refused(error.status(), error.body_text());
    let form = Multipart::from_request(request, &api).await;
    let mut form = form.map_err(|error| Problem::refused(error.status(), error.body_text()))?;
    let mut ops = Vec::new();
    while let Some(part) = form.next_field().await.map_err(wrong)? {
        let told = part.file_name().unwrap_or_default().to_owned();
        if part.name() != Some("file") || told.is_empty() {
            return Err(Problem::invalid("no file was chosen").into());
        }
        if ops.len() == limits::TREE_BATCH_OPS_MAX {
            return Err(Problem::invalid(format!("more than {} files at once", ops.len())).into());
        }
        let path = within(&folder, &told)?;
        let bare = tree::path(&path)?;
        // Said before the bytes come, not after them.
        if tree.is_folder(&bare).await? {
            return Err(Problem::conflict(format!("{path} is a folder")).into());
        }
        let before = tree.stat(&bare).await?;
        if before.is_some() && !query.replace {
            let detail = format!("{path} exists; to keep what it holds as an older version, store it as a replacement");
            return Err(Problem::conflict(detail).into());
        }
        let pieces = part.map(|piece| piece.map_err(|error| error.body_text()));
        let content = tree.put_content(ContentRequest::default(), pieces).await.map_err(Problem::conflicting)?;
        let keep = before.map_or(0, |entry| entry.versions.len()).max(VERSIONS);
        let keep = keep.max(caller.handle.config().files.keep_versions);
        ops.push(put(path, Some(tree::content_view(&content)), Some(keep), !query.replace));
    }
    if ops.is_empty() {
        return Err(Problem::invalid("no file was chosen").into());
    }
    change(caller, ops).await?;
    Ok(Redirect::to(&address("/folders", &folder)))
}

#[derive(Deserialize)]
pub(super) struct CreateForm {
    path: String,
    name: String,
}

pub(super) async fn create(caller: Option<Caller>, Form(form): Form<CreateForm>) -> Result<Redirect, Failed> {
    let caller = user(caller, Scope::Write)?;
    let path = within(&form.path, &form.name)?;
    // A folder may be there without an entry of its own.
    if Tree::of(&caller.handle)?.is_folder(&tree::path(&path)?).await? {
        return Err(Problem::conflict(format!("{path} exists")).into());
    }
    let op = put(path.clone(), None, None, true);
    change(caller, vec![op]).await?;
    Ok(Redirect::to(&address("/folders", &path)))
}

#[derive(Deserialize)]
pub(super) struct MoveForm {
    path: String,
    to: String,
}

pub(super) async fn rename(caller: Option<Caller>, Form(form): Form<MoveForm>) -> Result<Redirect, Failed> {
    let caller = user(caller, Scope::Write)?;
    let to = written(&form.to)?;
    change(caller, vec![OpRequest::Move { from: form.path, to: to.clone() }]).await?;
    // Into the folder that was there, or it is there itself now: both are seen there.
    Ok(Redirect::to(&address("/folders", &to)))
}

#[derive(Deserialize)]
pub(super) struct RestoreForm {
    path: String,
    version: u64,
}

pub(super) async fn restore(caller: Option<Caller>, Form(form): Form<RestoreForm>) -> Result<Redirect, Failed> {
    let caller = user(caller, Scope::Write)?;
    let RestoreForm { path, version } = form;
    change(caller, vec![OpRequest::Restore { path: path.clone(), version }]).await?;
    Ok(Redirect::to(&address("/folders/file", &path)))
}

pub(super) async fn remove_form(caller: Option<Caller>, Query(query): Query<EntryQuery>) -> Result<Markup, Failed> {
    let caller = user(caller, Scope::Delete)?;
    let entry = entry(&caller, &query.path).await?;
    Ok(view::folders::remove(&name(&caller), &entry))
}

pub(super) async fn remove(caller: Option<Caller>, Form(form): Form<EntryQuery>) -> Result<Redirect, Failed> {
    let caller = user(caller, Scope::Write)?;
    let path = written(&form.path)?;
    let above = address("/folders", parent(&path));
    change(caller, vec![OpRequest::Remove { path, recursive: true, missing_ok: false }]).await?;
    Ok(Redirect::to(&above))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, kind: EntryKind) -> EntryView {
        EntryView {
            path: path.to_owned(),
            kind,
            mode: None,
            mtime_ns: None,
            target: None,
            content: None,
            versions: Vec::new(),
        }
    }

    #[test]
    fn folders_come_first_and_every_entry_is_on_one_page() {
        let mut entries: Vec<_> = (0..PAGE * 2).map(|n| entry(&format!("/a/{n:04}"), EntryKind::File)).collect();
        entries.push(entry("/a/Zoo", EntryKind::Folder));
        let (mut seen, mut from) = (Vec::new(), 0);
        loop {
            let found = ListView { entries: entries.clone(), next: None };
            let (page, next) = part(found, "/a", None, from);
            seen.extend(page.into_iter().map(|entry| entry.path));
            from += PAGE;
            match next {
                Some(next) => assert_eq!(next, format!("/folders?path=/a&from={from}")),
                None => break,
            }
        }
        assert_eq!(seen.first().map(String::as_str), Some("/a/Zoo"));
        assert_eq!((seen.len(), from), (PAGE * 2 + 1, PAGE * 3));
    }

    #[test]
    fn what_was_not_read_at_once_is_on_further_pages() {
        let found = ListView { entries: vec![entry("/a/b", EntryKind::File)], next: Some("a/b & c".to_owned()) };
        assert_eq!(part(found, "/a", None, 0).1.as_deref(), Some("/folders?path=/a&after=a/b%20%26%20c&from=0"));
    }

    #[test]
    fn a_name_leads_to_no_other_folder() {
        assert_eq!(within("/a", "b c").ok().as_deref(), Some("/a/b c"));
        assert_eq!(within("/", "b").ok().as_deref(), Some("/b"));
        for name in ["", ".", "..", "b/c", "/b", "b\0"] {
            assert!(within("/a", name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn a_path_has_a_last_part_and_a_folder() {
        assert_eq!((parent("/a/b"), last("/a/b")), ("/a", "b"));
        assert_eq!((parent("/a"), last("/a")), ("/", "a"));
        assert_eq!((parent("/"), last("/")), ("/", ""));
    }
}

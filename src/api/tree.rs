//! Folder routes: listing, changing and reading the folders of the node's account.
//!
//! Paths are as people write them, `/a/b`. What a folder holds is changed by a list of operations that take effect together; the
//! bytes of a file are stored first, and a path is given to them by such an operation.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::Query;
use axum::http::{HeaderMap, header};
use axum::response::Response;
use serde::Deserialize;
use utoipa::IntoParams;

use super::caller::{Caller, Scope};
use super::download;
use super::paging;
use super::problem::Problem;
use super::tree_views::{
    ChangesRequest, ChangesView, CollectRequest, CollectView, ContentView, EntryKind, EntryView, ListView, NotRenewed,
    OpRequest, PieceView, RenewRequest, RenewedView, StagedRequest, StagedView,
};
use super::views::ProblemView;
use crate::crypto::{Domain, hash};
use crate::files::tree::{self, Batch, Content, Entry, Expect, Item, Kind, Op, Piece, TreeError};
use crate::node::NodeError;
use crate::node::tree::{ContentRequest, Tree};
use crate::types::{Millis, limits};
use crate::wire;

/// Sessions in one question.
const SESSIONS_MAX: usize = 4_096;

/// Where.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct StatQuery {
    /// The path, from `/` on.
    pub(super) path: String,
}

/// Which content.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PathQuery {
    /// The path, from `/` on.
    pub(super) path: String,
    /// The number of an older content.
    pub(super) version: Option<u64>,
}

/// What is to be listed.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// The folder, from `/` on.
    pub(super) path: String,
    /// With all that is below it.
    #[serde(default)]
    #[param(default = false)]
    pub(super) recursive: bool,
    /// `next` of the page before.
    pub(super) after: Option<String>,
    /// Entries in the answer.
    #[param(minimum = 1, maximum = 4096, default = 1000)]
    pub(super) limit: Option<usize>,
}

/// Settings of a content; the body is its bytes.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ContentQuery {
    /// Names the put, so that it is gone on with when it is asked for again.
    #[param(pattern = "^[0-9a-f]{64}$")]
    session: Option<String>,
    /// Slots that restore it; with `parity_shards`.
    #[param(minimum = 1, maximum = 255)]
    data_shards: Option<u8>,
    /// Further slots.
    #[param(minimum = 0, maximum = 255)]
    parity_shards: Option<u8>,
    /// How long to wait for confirmations and finality, milliseconds.
    #[param(minimum = 100, maximum = 3600000)]
    timeout_ms: Option<u64>,
}

pub(super) fn path(text: &str) -> Result<String, Problem> {
    Ok(tree::path(text).map_err(NodeError::from)?)
}

fn prefix(path: &str) -> String {
    if path.is_empty() { String::new() } else { format!("{path}/") }
}

fn not_found(path: &str) -> Problem {
    NodeError::from(TreeError::NotFound(path.to_owned())).into()
}

pub(super) fn content_view(content: &Content) -> ContentView {
    let piece = |piece: &Piece| PieceView { file_id: piece.file.to_string(), bytes: piece.len };
    ContentView {
        version: content.number,
        bytes: content.len(),
        hash: content.hash.map(hex::encode),
        put_ms: content.put.get(),
        pieces: content.pieces.iter().map(piece).collect(),
    }
}

fn content(view: &ContentView) -> Result<Content, Problem> {
    let piece = |piece: &PieceView| {
        let file = super::files::file_id(&piece.file_id)?;
        Ok::<_, Problem>(Piece { file, len: piece.bytes })
    };
    let pieces: Vec<_> = view.pieces.iter().map(piece).collect::<Result<_, _>>()?;
    let hash = view.hash.as_ref().map(|text| session(text)).transpose()?;
    let content = Content { number: 0, pieces, hash, put: Millis::new(view.put_ms) };
    if content.len() != view.bytes {
        return Err(Problem::clash(format!("a content of {} bytes in pieces of {}", view.bytes, content.len())));
    }
    Ok(content)
}

/// The tag of a content: what it is stored as, in order.
fn tag(content: &Content) -> String {
    let pieces: Vec<_> = content.pieces.iter().map(|piece| piece.file).collect();
    download::tag(&hex::encode(hash(Domain::Derive, &wire::encode(&(b"content tag", pieces)))))
}

fn nanos(time: Millis) -> i64 {
    i64::try_from(time.get()).unwrap_or(i64::MAX).saturating_mul(1_000_000)
}

/// 32 bytes in hexadecimal.
fn session(text: &str) -> Result<[u8; 32], Problem> {
    let mut session = [0; 32];
    hex::decode_to_slice(text, &mut session).map_err(|_| Problem::bad("64 hexadecimal digits are needed"))?;
    Ok(session)
}

fn entry_view(path: &str, entry: &Entry) -> EntryView {
    let (kind, target, content) = match &entry.kind {
        Kind::File(content) => (EntryKind::File, None, Some(content_view(content))),
        Kind::Folder => (EntryKind::Folder, None, None),
        Kind::Symlink(target) => (EntryKind::Symlink, Some(target.clone()), None),
    };
    EntryView {
        path: format!("/{}", path.strip_suffix('/').unwrap_or(path)),
        kind,
        mode: Some(entry.mode),
        mtime_ns: Some(entry.mtime_ns),
        target,
        content,
        versions: entry.versions.iter().map(|version| content_view(&version.content)).collect(),
    }
}

fn folder_view(prefix: &str, own: Option<&Entry>) -> EntryView {
    EntryView {
        path: format!("/{}", prefix.strip_suffix('/').unwrap_or(prefix)),
        kind: EntryKind::Folder,
        mode: own.filter(|entry| matches!(entry.kind, Kind::Folder)).map(|entry| entry.mode),
        mtime_ns: own.filter(|entry| matches!(entry.kind, Kind::Folder)).map(|entry| entry.mtime_ns),
        target: None,
        content: None,
        versions: Vec::new(),
    }
}

/// What is at a path
#[utoipa::path(get, path = "/v1/tree/stat", tag = "folders", operation_id = "tree_stat",
    params(StatQuery),
    responses((status = 200, body = EntryView, description = "The entry"),
        (status = 404, body = ProblemView, content_type = "application/problem+json", description = "Nothing is there")))]
pub async fn stat(caller: Caller, Query(query): Query<StatQuery>) -> Result<Json<EntryView>, Problem> {
    let (tree, path) = (Tree::of(&caller.handle)?, path(&query.path)?);
    if let Some(entry) = tree.stat(&path).await? {
        return Ok(Json(entry_view(&path, &entry)));
    }
    if !tree.is_folder(&path).await? {
        return Err(not_found(&path));
    }
    let own = if path.is_empty() { None } else { tree.stat(&prefix(&path)).await? };
    Ok(Json(folder_view(&path, own.as_ref())))
}

/// Whether an item of a listing of everything belongs to an upload in parts.
fn is_upload(item: &Item) -> bool {
    item.key().strip_prefix(tree::UPLOADS).is_some_and(|rest| rest.starts_with('/'))
}

/// What is in a folder, or below it at any depth
#[utoipa::path(get, path = "/v1/tree/list", tag = "folders", operation_id = "tree_list",
    params(ListQuery),
    responses((status = 200, body = ListView, description = "A page of entries"),
        (status = 404, body = ProblemView, content_type = "application/problem+json", description = "There is no such folder")))]
pub async fn list(caller: Caller, Query(query): Query<ListQuery>) -> Result<Json<ListView>, Problem> {
    let (tree, path) = (Tree::of(&caller.handle)?, path(&query.path)?);
    let wanted = tree::Query {
        prefix: prefix(&path),
        after: query.after.clone().unwrap_or_default(),
        delimiter: if query.recursive { String::new() } else { "/".to_owned() },
        limit: paging::limit(query.limit, 1_000, limits::TREE_LIST_MAX)?,
    };
    let listing = tree.list(&wanted).await?;
    if listing.items.is_empty() && wanted.after.is_empty() && !path.is_empty() {
        return match tree.stat(&path).await? {
            Some(entry) => Ok(Json(ListView { entries: vec![entry_view(&path, &entry)], next: None })),
            None => Err(not_found(&path)),
        };
    }
    let next = listing.items.last().filter(|_| listing.more).map(|item| item.key().to_owned());
    let view = |item: &Item| match item {
        // The folder's own entry is what was asked about, not what is in it; with all depths it is of use.
        Item::Entry(path, _) if *path == wanted.prefix && !query.recursive => None,
        // Uploads under way are not what the account keeps; who asks for their folder by name sees them.
        item if path.is_empty() && is_upload(item) => None,
        Item::Entry(path, entry) if path.ends_with('/') => Some(folder_view(path, Some(entry))),
        Item::Entry(path, entry) => Some(entry_view(path, entry)),
        Item::Folder(path, own) => Some(folder_view(path, own.as_ref())),
    };
    Ok(Json(ListView { entries: listing.items.iter().filter_map(view).collect(), next }))
}

/// Store the bytes of a file that is to get a path
#[utoipa::path(post, path = "/v1/tree/content", tag = "folders", operation_id = "tree_put_content",
    request_body(content = Option<Vec<u8>>, content_type = "application/octet-stream"),
    params(ContentQuery),
    responses((status = 200, body = ContentView, description = "The content")))]
pub async fn put_content(
    caller: Caller,
    Query(query): Query<ContentQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<ContentView>, Problem> {
    let len = headers.get(header::CONTENT_LENGTH).and_then(|len| len.to_str().ok()).and_then(|len| len.parse().ok());
    let shards = match (query.data_shards, query.parity_shards) {
        (Some(data), Some(parity)) => Some((data, parity)),
        (None, None) => None,
        _ => return Err(Problem::clash("data_shards and parity_shards are given together or not at all")),
    };
    if query.data_shards == Some(0) {
        return Err(Problem::bad("data_shards is 0; at least 1 is needed"));
    }
    let timeout = query.timeout_ms.map(|ms| match ms {
        100..=3_600_000 => Ok(Duration::from_millis(ms)),
        _ => Err(Problem::bad(format!("timeout_ms is {ms}; 100 to 3600000 are possible"))),
    });
    let request = ContentRequest {
        len,
        session: query.session.as_ref().map(|text| session(text)).transpose()?,
        shards,
        timeout: timeout.transpose()?,
    };
    let tree = Tree::of(&caller.handle)?;
    let content = tree.put_content(request, body.into_data_stream()).await.map_err(Problem::conflicting)?;
    Ok(Json(content_view(&content)))
}

/// What an interrupted put has stored already
#[utoipa::path(post, path = "/v1/tree/staged", tag = "folders", operation_id = "tree_staged", request_body = StagedRequest,
    responses((status = 200, body = StagedView, description = "What is stored")))]
pub async fn staged(caller: Caller, Json(request): Json<StagedRequest>) -> Result<Json<StagedView>, Problem> {
    if request.sessions.len() > SESSIONS_MAX {
        return Err(Problem::bad(format!("{} sessions; at most {SESSIONS_MAX}", request.sessions.len())));
    }
    let tree = Tree::of(&caller.handle)?;
    let mut contents = BTreeMap::new();
    for text in request.sessions {
        if let Some(content) = tree.staged(&session(&text)?)? {
            contents.insert(text, content_view(&content));
        }
    }
    Ok(Json(StagedView { contents }))
}

/// Change folders
///
/// All operations take effect together, or none. Those that remove need the scope `delete`; without it a content that is replaced
/// stays as a version, whatever `keep` says, up to 100.
#[utoipa::path(post, path = "/v1/tree/changes", tag = "folders", operation_id = "tree_change", request_body = ChangesRequest,
    responses((status = 200, body = ChangesView, description = "The changes are final"),
        (status = 404, body = ProblemView, content_type = "application/problem+json", description = "A path is not there")))]
pub async fn change(caller: Caller, Json(request): Json<ChangesRequest>) -> Result<Json<ChangesView>, Problem> {
    let may_delete = caller.may(Scope::Delete).is_ok();
    if request.ops.iter().any(|op| matches!(op, OpRequest::Remove { .. })) {
        caller.may(Scope::Delete)?;
    }
    let tree = Tree::of(&caller.handle)?;
    let least = if may_delete { 0 } else { limits::TREE_VERSIONS_MAX };
    let keep = Keep { least, usual: caller.handle.config().files.keep_versions };
    let (mut ops, mut sessions) = (Vec::new(), Vec::new());
    for op in &request.ops {
        if let OpRequest::Put { session: Some(text), .. } = op {
            sessions.push(session(text)?);
        }
        ops.extend(resolve(&tree, op, keep).await?);
    }
    let done = tree.apply(Batch { ops, folders: true, ..Batch::default() }, sessions).await?;
    Ok(Json(ChangesView { root: done.root.map(|root| root.to_string()), changed: done.changed as u64 }))
}

/// How many older contents of a file are kept.
#[derive(Clone, Copy)]
struct Keep {
    /// Whatever a request says.
    least: usize,
    /// Where it says nothing.
    usual: usize,
}

/// The operations that a request means, by what is there now.
async fn resolve(tree: &Tree, op: &OpRequest, keep: Keep) -> Result<Vec<Op>, Problem> {
    let some = |text: &str| match path(text)? {
        root if root.is_empty() => Err(Problem::clash("the root of all folders has no name to change")),
        path => Ok(path),
    };
    Ok(vec![match op {
        OpRequest::Put { path, kind, content: bytes, target, mode, mtime_ns, keep: own_keep, new, touch, .. } => {
            let bare = some(path)?;
            let (path, kind) = match (kind, bytes, target) {
                (EntryKind::File, Some(bytes), None) => (bare, Kind::File(content(bytes)?)),
                (EntryKind::Folder, None, None) => (prefix(&bare), Kind::Folder),
                (EntryKind::Symlink, None, Some(target)) => (bare, Kind::Symlink(target.clone())),
                _ => {
                    return Err(Problem::clash(format!(
                        "{path}: a file has content, a link a target, a folder neither"
                    )));
                }
            };
            let usual = if matches!(kind, Kind::Folder) { 0o755 } else { 0o644 };
            let mtime_ns = mtime_ns.unwrap_or_else(|| nanos(tree.handle().clock().now()));
            let entry = Entry { mode: mode.unwrap_or(usual), mtime_ns, ..Entry::of(kind) };
            let expect = match entry.content() {
                Some(content) if *touch => Expect::Holds(Box::new(content.clone())),
                _ if *new => Expect::Absent,
                _ => Expect::Any,
            };
            let keep = match own_keep {
                Some(wanted) => keep.least.max(*wanted),
                // Versions that were kept on purpose do not go by the way.
                None => keep.least.max(keep.usual).max(tree.stat(&path).await?.map_or(0, |e| e.versions.len())),
            };
            Op::Put { path, entry: Box::new(entry), keep, expect }
        }
        OpRequest::Remove { path: text, recursive, missing_ok } => {
            let bare = path(text)?;
            let expect = if *missing_ok { Expect::Any } else { Expect::Present };
            let file = !bare.is_empty() && tree.stat(&bare).await?.is_some();
            let folder = tree.is_folder(&bare).await?;
            match (folder, recursive) {
                // An object store may have both.
                (true, true) if file => {
                    let prefix = prefix(&bare);
                    return Ok(vec![Op::Remove { path: bare, expect }, Op::RemoveAll { prefix }]);
                }
                _ if file => Op::Remove { path: bare, expect },
                (true, true) => Op::RemoveAll { prefix: prefix(&bare) },
                (true, false) => {
                    let (is, needed) = ("a folder", "a file; -r removes folders");
                    return Err(NodeError::from(TreeError::Kind { path: bare, is, needed }).into());
                }
                (false, _) if *missing_ok => return Ok(Vec::new()),
                (false, _) => return Err(not_found(&bare)),
            }
        }
        OpRequest::Move { from, to } => {
            let (from, mut to) = (some(from)?, path(to)?);
            let file = tree.stat(&from).await?.is_some();
            if !file && !tree.is_folder(&from).await? {
                return Err(not_found(&from));
            }
            if tree.is_folder(&to).await? && to != from {
                let name = from.rsplit('/').next().unwrap_or(&from);
                to = format!("{}{name}", prefix(&to));
            }
            if file { Op::Move { from, to } } else { Op::Move { from: prefix(&from), to: prefix(&to) } }
        }
        OpRequest::Restore { path, version } => {
            Op::Restore { path: some(path)?, number: *version, keep: limits::TREE_VERSIONS_MAX }
        }
    }])
}

/// The bytes of a file at a path, all or a range
///
/// Of the present or an older version. `Range`, `If-Range` and `If-None-Match` are as with `/v1/files/{id}`; the `ETag` is that of
/// the content, whatever path it has.
#[utoipa::path(get, path = "/v1/tree/file", tag = "folders", operation_id = "tree_get_file",
    params(PathQuery),
    responses((status = 200, content_type = "application/octet-stream", body = Vec<u8>, description = "All of it"),
        (status = 206, content_type = "application/octet-stream", body = Vec<u8>, description = "The range"),
        (status = 304, description = "The client has it"),
        (status = 404, body = ProblemView, content_type = "application/problem+json", description = "Nothing is there"),
        (status = 409, body = ProblemView, content_type = "application/problem+json", description = "No file"),
        (status = 416, body = ProblemView, content_type = "application/problem+json", description = "No byte of it"),
        (status = 502, body = ProblemView, content_type = "application/problem+json", description = "Wrong bytes came")))]
pub async fn get(caller: Caller, Query(query): Query<PathQuery>, headers: HeaderMap) -> Result<Response, Problem> {
    let (tree, path) = (Tree::of(&caller.handle)?, path(&query.path)?);
    let entry = tree.stat(&path).await?.ok_or_else(|| not_found(&path))?;
    let Some(newest) = entry.content() else {
        let is = if matches!(entry.kind, Kind::Folder) { "a folder" } else { "a link" };
        return Err(NodeError::from(TreeError::Kind { path, is, needed: "a file" }).into());
    };
    let content = match query.version {
        None => newest,
        Some(number) => {
            let missing = || NodeError::from(TreeError::NoVersion { path: path.clone(), number });
            entry.version(number).ok_or_else(missing)?
        }
    };
    let name = path.rsplit('/').next().unwrap_or(&path);
    let head = download::head(name, &tag(content));
    download::answer(&headers, head, content.len(), |range| tree.read_content(content, range)).await
}

/// Delete stored files that no folder refers to
#[utoipa::path(post, path = "/v1/tree/collect", tag = "folders", operation_id = "tree_collect", request_body = CollectRequest,
    responses((status = 200, body = CollectView, description = "What was collected")))]
pub async fn collect(caller: Caller, Json(request): Json<CollectRequest>) -> Result<Json<CollectView>, Problem> {
    paging::number("older_than_s", Some(request.older_than_s))?;
    let done = Tree::of(&caller.handle)?.collect(Duration::from_secs(request.older_than_s)).await?;
    Ok(Json(CollectView {
        reached: done.reached as u64,
        deleted: done.deleted as u64,
        failed: done.failed as u64,
        young: done.young as u64,
    }))
}

/// Make everything at a path and below it last longer
#[utoipa::path(post, path = "/v1/tree/renew", tag = "folders", operation_id = "tree_renew", request_body = RenewRequest,
    responses((status = 200, body = RenewedView, description = "What lasts longer"),
        (status = 404, body = ProblemView, content_type = "application/problem+json", description = "Nothing is there")))]
pub async fn renew(caller: Caller, Json(request): Json<RenewRequest>) -> Result<Json<RenewedView>, Problem> {
    let (tree, path) = (Tree::of(&caller.handle)?, path(&request.path)?);
    if tree.stat(&path).await?.is_none() && !tree.is_folder(&path).await? {
        return Err(not_found(&path));
    }
    if request.epochs == 0 {
        return Err(Problem::bad("epochs is 0; at least 1 is needed"));
    }
    let done = tree.renew(&path, request.epochs).await.map_err(Problem::conflicting)?;
    let failed = done.failed.into_iter().map(|(file, reason)| NotRenewed { file_id: file.to_string(), reason });
    Ok(Json(RenewedView { contents: done.contents as u64, pages: done.pages as u64, failed: failed.collect() }))
}

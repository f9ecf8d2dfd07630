//! Single files: those that were put alone, and what a file's own page says of it.

use axum::Json;
use axum::extract::{Path, Query, Request, State};
use axum::response::Redirect;
use maud::Markup;
use serde::Deserialize;

use super::{Failed, name, user, view, words};
use crate::api::caller::{Caller, Scope};
use crate::api::files::{self, file_id, page};
use crate::api::fill;
use crate::api::problem::Problem;
use crate::api::server::Api;
use crate::api::sharing::{self, ShareView};
use crate::api::uploads::{self, PutQuery};
use crate::api::views::FileView;
use crate::files::FileKind;
use crate::ledger::record::NodeEntry;
use crate::ledger::{Key, Record};
use crate::types::FileId;

/// Files on one page.
const PAGE: usize = 50;

#[derive(Deserialize)]
pub(super) struct ListQuery {
    after: Option<String>,
}

pub(super) async fn list(caller: Option<Caller>, Query(query): Query<ListQuery>) -> Result<Markup, Failed> {
    let caller = user(caller, Scope::Read)?;
    let after = query.after.as_deref().map(file_id).transpose()?;
    let page = page(&caller, after, PAGE).await?;
    let nodes = caller.handle.nodes()?;
    let mut rows = Vec::new();
    for file in page.files {
        rows.push(row(&caller, &nodes, file)?);
    }
    Ok(view::files::list(&name(&caller), &rows, page.next.as_deref(), after.is_some()))
}

/// A file and how well it is kept.
pub(super) struct Row {
    pub file: FileView,
    pub health: words::Health,
}

fn row(caller: &Caller, nodes: &[NodeEntry], file: FileView) -> Result<Row, Problem> {
    Ok(Row { health: health(caller, nodes, &file.id)?, file })
}

/// How well a file is kept; only its deal is read.
pub(super) fn health(caller: &Caller, nodes: &[NodeEntry], id: &str) -> Result<words::Health, Problem> {
    Ok(match caller.handle.record(&Key::File(file_id(id)?))? {
        Some(Record::File(deal)) => words::health(&deal, nodes, fill::status(&deal, nodes).1.as_deref()),
        _ => words::lost(),
    })
}

/// A file, and whether it was put alone.
fn one(caller: &Caller, id: &str) -> Result<(Row, bool), Problem> {
    let id: FileId = file_id(id)?;
    let (deal, manifest) = caller.file(&id)?;
    let nodes = caller.handle.nodes()?;
    let file = fill::file(&caller.handle, &id, &deal, manifest.as_deref(), &nodes);
    let open = fill::open_own(&caller.handle, manifest.as_deref());
    let alone = open.is_none_or(|open| open.facts().kind == FileKind::Alone);
    Ok((row(caller, &nodes, file)?, alone))
}

/// With whom a file is shared, if that is the caller's to say.
pub(super) async fn shares(caller: &Caller, id: &str) -> Result<Option<Vec<ShareView>>, Problem> {
    let (deal, _) = caller.file(&file_id(id)?)?;
    if caller.handle.account() != Some(deal.owner) || !deal.status.is_open() {
        return Ok(None);
    }
    let Json(shares) = sharing::list(caller.clone(), Path(id.to_owned())).await?;
    Ok(Some(shares))
}

pub(super) async fn file(caller: Option<Caller>, Path(id): Path<String>) -> Result<Markup, Failed> {
    let caller = user(caller, Scope::Read)?;
    let (row, alone) = one(&caller, &id)?;
    let shares = shares(&caller, &id).await?;
    Ok(view::files::file(&name(&caller), &row, alone, shares.as_deref()))
}

pub(super) async fn delete_form(caller: Option<Caller>, Path(id): Path<String>) -> Result<Markup, Failed> {
    let caller = user(caller, Scope::Delete)?;
    Ok(view::files::delete(&name(&caller), &one(&caller, &id)?.0))
}

pub(super) async fn delete(caller: Option<Caller>, Path(id): Path<String>) -> Result<Redirect, Failed> {
    let caller = user(caller, Scope::Delete)?;
    let Json(_) = files::delete(caller, Path(id)).await?;
    Ok(Redirect::to("/files"))
}

pub(super) async fn upload(state: State<Api>, caller: Option<Caller>, request: Request) -> Result<Redirect, Failed> {
    let caller = user(caller, Scope::Write)?;
    let Json(done) = uploads::put(state, caller, Query(PutQuery::default()), request).await?;
    Ok(Redirect::to(&format!("/files/{}", done.file_id)))
}

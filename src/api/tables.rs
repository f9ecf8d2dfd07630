//! Tables: the explorer's rows as JSON lines, for exports from a running node.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Deserialize;
use tokio::sync::mpsc::{Sender, channel};
use utoipa::IntoParams;

use super::chain::tokio_stream;
use super::paging;
use super::problem::Problem;
use super::server::Api;
use super::views::ProblemView;
use crate::explorer::rows::UnknownTable;
use crate::explorer::{Table, rows, write_line};
use crate::store::Snapshot;
use crate::types::Height;

/// Bytes of lines that are sent at once.
const PIECE: usize = 64 << 10;
/// Pieces that may wait for a slow reader.
const PIECES: usize = 8;

/// Which heights are wanted of a table of blocks or transactions; other tables are as of the last final block, or as of
/// the one of a snapshot that is held.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TableQuery {
    /// The first height.
    #[param(maximum = 9007199254740991_u64)]
    from: Option<u64>,
    /// The last height.
    #[param(maximum = 9007199254740991_u64)]
    to: Option<u64>,
    /// A snapshot that is held.
    #[param(maximum = 9007199254740991_u64)]
    snapshot: Option<u64>,
}

/// The rows of a table, all of them as of one block. An answer that fails half-way breaks off.
#[utoipa::path(get, path = "/v1/tables/{table}", tag = "export",
    params(("table" = String, Path, description = "Its name"), TableQuery),
    responses((status = 200, content_type = "application/x-ndjson", body = String, description = "A line for each row"),
        (status = 410, body = ProblemView, content_type = "application/problem+json", description = "No longer held")))]
pub async fn table(
    State(api): State<Api>,
    Path(name): Path<String>,
    Query(query): Query<TableQuery>,
) -> Result<Response, Problem> {
    for (key, value) in [("from", query.from), ("to", query.to), ("snapshot", query.snapshot)] {
        paging::number(key, value)?;
    }
    let table: Table = name.parse().map_err(|error: UnknownTable| Problem::not_found(error.to_string()))?;
    let (from, to) = (Height::new(query.from.unwrap_or(0)), Height::new(query.to.unwrap_or(u64::MAX)));
    let snapshot = match query.snapshot {
        Some(id) => api.snapshots.get(id, Instant::now())?,
        None => Arc::new(api.handle.snapshot()?),
    };
    whole(&snapshot, table, from)?;
    let (sender, receiver) = channel(PIECES);
    tokio::task::spawn_blocking(move || {
        if let Err(error) = send(&snapshot, table, (from, to), &sender) {
            tracing::warn!(%table, %error, "the rows of a table broke off");
            // A reader that is gone needs no more.
            let _ = sender.blocking_send(Err(io::Error::other(error)));
        }
    });
    let body = Body::from_stream(tokio_stream(receiver));
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

/// Whether what is asked for reaches back no further than this node does. Errors: 410 with where it begins.
fn whole(snapshot: &Snapshot, table: Table, from: Height) -> Result<(), Problem> {
    let first = match table {
        Table::Transactions => snapshot.first_body()?,
        Table::Blocks => Some(snapshot.base()?),
        _ => None,
    };
    match first.filter(|first| from < *first) {
        None => Ok(()),
        Some(first) => {
            let text = format!("{table} from before height {first} are not kept here; export with --from {first}");
            Err(Problem::gone(text).hint("for all of them ask an archive, a node that keeps every block"))
        }
    }
}

type Piece = Result<Bytes, io::Error>;

/// Sends all rows, and stops early when nobody reads. Errors: a row cannot be read or written, in words.
fn send(snapshot: &Snapshot, table: Table, heights: (Height, Height), to: &Sender<Piece>) -> Result<(), String> {
    let mut piece = Vec::with_capacity(PIECE);
    for row in rows(snapshot, table, heights.0, heights.1).map_err(|error| error.to_string())? {
        let row = row.map_err(|error| error.to_string())?;
        write_line(&mut piece, &row).map_err(|error| error.to_string())?;
        if piece.len() >= PIECE && to.blocking_send(Ok(std::mem::take(&mut piece).into())).is_err() {
            return Ok(());
        }
    }
    // Nobody reads any more: then nothing is missing either.
    let _ = to.blocking_send(Ok(piece.into()));
    Ok(())
}

//! Making a snapshot: the state in the order of its places, written once, by three passes with bounded memory.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::time::Duration;

use super::{Extent, Index, Shelf, parse};
use crate::ledger::pieces::{DEPTH_MAX, Manifest, PieceError, count, piece_of, place, sum};
use crate::node::handle::Handle;
use crate::store::{Snapshot, StoreError};
use crate::types::{Height, limits};
use crate::wire;

/// Records that are read at once.
const PAGE: usize = 1_024;
/// The next snapshot is made no sooner than so many times what the last one took.
const REST: u32 = 20;

/// Why there is no snapshot of a state.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// The chain is too short for a state of this size to be cut into pieces that fit an answer.
    #[error("the state is too large for a chain of {0} blocks")]
    TooEarly(Height),
    /// The disk is to keep what is free.
    #[error("{need} bytes do not fit the disk beside its reserve")]
    NoSpace {
        /// Bytes of the snapshot.
        need: u64,
    },
    /// The pieces do not add up to the state root: this node's state is damaged, or changed meanwhile.
    #[error(transparent)]
    Pieces(#[from] PieceError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The snapshot's file.
    #[error("writing a snapshot: {0}")]
    Io(#[from] io::Error),
}

/// Makes a snapshot of the state after the last final block of a view of the database, and keeps it. Cost: reads all records
/// twice. `reserve` bytes of the disk stay free. Errors: `MakeError`; then nothing is kept of it.
pub fn make(shelf: &Shelf, snapshot: &Snapshot, reserve: u64) -> Result<Height, MakeError> {
    let made = write(shelf, snapshot, reserve);
    if made.is_err() {
        shelf.sweep();
    }
    made
}

fn write(shelf: &Shelf, snapshot: &Snapshot, reserve: u64) -> Result<Height, MakeError> {
    let tip = snapshot.tip()?.ok_or_else(|| StoreError::corrupted("headers.v1", "tip"))?;
    let height = tip.height;
    let mut sizes = vec![0_u64; count(DEPTH_MAX)];
    each_record(snapshot, |place, entry| {
        if let Some(size) = sizes.get_mut(piece_of(place, DEPTH_MAX) as usize) {
            *size += entry.len() as u64;
        }
        Ok(())
    })?;
    let (depth, sizes) = cut(&sizes, height).ok_or(MakeError::TooEarly(height))?;
    let need = sizes.iter().sum::<u64>();
    let disk = rustix::fs::statvfs(shelf.dir()).map_err(io::Error::from)?;
    // An eighth more, so that the snapshot is not what makes the node pause.
    let wanted = need.saturating_add(reserve).saturating_add(reserve / 8);
    if disk.f_bavail.saturating_mul(disk.f_frsize) < wanted {
        return Err(MakeError::NoSpace { need });
    }
    let path = shelf.path(height, "new");
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(&path)?;
    let mut at = 0;
    let starts = sizes.iter().map(|size| {
        let start = at;
        at += size;
        start
    });
    let mut extents: Vec<_> = starts.map(|at| Extent { at, len: 0, records: 0 }).collect();
    each_record(snapshot, |place, entry| {
        let Some(extent) = extents.get_mut(piece_of(place, depth) as usize) else { return Ok(()) };
        file.write_all_at(entry, extent.at + u64::from(extent.len))?;
        extent.len += u32::try_from(entry.len()).unwrap_or(u32::MAX);
        extent.records += 1;
        Ok(())
    })?;
    let pieces = extents.iter().map(|extent| order(&file, depth, *extent)).collect::<Result<Vec<_>, _>>()?;
    let manifest = Manifest { depth, pieces };
    manifest.check(height, &tip.header.state_root)?;
    std::fs::rename(&path, shelf.path(height, "pieces"))?;
    let index = wire::encode(&Index { height, manifest, extents });
    std::fs::write(shelf.path(height, "index"), index)?;
    shelf.keep(height)?;
    Ok(height)
}

/// Calls for every record, with its place and its bytes as they stand in a piece.
fn each_record(
    snapshot: &Snapshot,
    mut visit: impl FnMut(&[u8; 32], &[u8]) -> Result<(), io::Error>,
) -> Result<(), MakeError> {
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = snapshot.state_scan(&[], after.as_deref(), PAGE)?;
        let Some((last, _)) = page.last() else { return Ok(()) };
        after = Some(last.clone());
        for entry in &page {
            visit(&place(&entry.0), &wire::encode(entry))?;
        }
    }
}

/// How deep the state is cut: so that pieces have the size that is wanted, if the height allows so many, and fit an answer.
fn cut(finest: &[u64], height: Height) -> Option<(u8, Vec<u64>)> {
    let at = |depth: u8| {
        let per_piece = finest.len().checked_div(count(depth)).unwrap_or(1).max(1);
        finest.chunks(per_piece).map(|sizes| sizes.iter().sum::<u64>()).collect::<Vec<_>>()
    };
    let allowed = (0..=DEPTH_MAX).filter(|depth| count(*depth) as u64 <= height.get()).map(|depth| (depth, at(depth)));
    let largest = |sizes: &[u64]| sizes.iter().copied().max().unwrap_or(0);
    let mut last = None;
    for (depth, sizes) in allowed {
        let fine = largest(&sizes) <= limits::PIECE_BYTES_WANTED;
        last = Some((depth, sizes));
        if fine {
            break;
        }
    }
    last.filter(|(_, sizes)| largest(sizes) <= limits::PIECE_BYTES_MAX)
}

/// Brings the records of a piece into the order of their places. Returns its hash.
fn order(file: &File, depth: u8, extent: Extent) -> Result<crate::ledger::pieces::Sum, MakeError> {
    let mut bytes = vec![0; usize::try_from(extent.len).unwrap_or(usize::MAX)];
    file.read_exact_at(&mut bytes, extent.at)?;
    let damaged = || io::Error::other("what was written for a snapshot is not there");
    let mut records = parse(&bytes, extent.records).ok_or_else(damaged)?;
    records.sort_by_cached_key(|(key, _)| place(key));
    bytes.clear();
    records.iter().for_each(|record| bytes.extend(wire::encode(record)));
    file.write_all_at(&bytes, extent.at)?;
    Ok(sum(depth, &records))
}

/// Makes a snapshot at the end of each epoch, until the node stops. Where blocks come so fast that the last one of an epoch is
/// not the last final one when this looks, there is none of that epoch.
pub async fn run(handle: Handle, shelf: std::sync::Arc<Shelf>) {
    let epoch_blocks = handle.genesis().epoch_blocks;
    let mut tips = handle.reader().watch();
    let mut not_before = tokio::time::Instant::now();
    loop {
        let tip = tips.borrow_and_update().as_ref().map(|tip| tip.height.get()).unwrap_or(0);
        if tip > 0 && tip.is_multiple_of(epoch_blocks) && tokio::time::Instant::now() >= not_before {
            let (took, made) = look(&handle, &shelf, epoch_blocks).await;
            not_before = tokio::time::Instant::now() + took * REST;
            match made {
                Ok(Some(height)) => tracing::info!(height = height.get(), ?took, "a snapshot of the state is kept"),
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, "no snapshot of the state was made"),
            }
        }
        tokio::select! {
            changed = tips.changed() => if changed.is_err() { return },
            () = handle.stop_token().cancelled() => return,
        }
    }
}

async fn look(
    handle: &Handle,
    shelf: &std::sync::Arc<Shelf>,
    epoch_blocks: u64,
) -> (Duration, Result<Option<Height>, MakeError>) {
    let started = std::time::Instant::now();
    let (reader, shelf, reserve) = (handle.reader().clone(), shelf.clone(), handle.config().node.disk_reserve.get());
    let made = tokio::task::spawn_blocking(move || {
        let snapshot = reader.snapshot()?;
        let at = snapshot.tip()?.map_or(0, |tip| tip.height.get());
        let due = at > 0 && at.is_multiple_of(epoch_blocks) && !shelf.heights().contains(&Height::new(at));
        if due { make(&shelf, &snapshot, reserve).map(Some) } else { Ok(None) }
    });
    let made = made.await.unwrap_or(Ok(None));
    (started.elapsed(), made)
}

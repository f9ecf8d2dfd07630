//! Snapshots: views of one final block that several requests share, so that what they answer belongs together.
//!
//! A view keeps old pages of the database from being used again, so there are few, and one that nobody asks for ends soon.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::problem::Problem;
use super::server::Api;
use crate::store::Snapshot;

/// Views at once.
const SNAPSHOTS_MAX: usize = 4;
/// How long one is kept that no request uses.
const KEPT: Duration = Duration::from_secs(60);

/// A view that is held, as `POST /v1/snapshots` answers.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct SnapshotView {
    /// Names it, in `?snapshot=`.
    pub snapshot: u64,
    /// The chain.
    pub chain: String,
    /// Height of the final block that it is after.
    pub height: u64,
    /// Seconds without use after which it is let go.
    pub kept_s: u64,
}

/// The views that are held.
#[derive(Clone, Default)]
pub struct Snapshots {
    held: Arc<Mutex<Held>>,
}

#[derive(Default)]
struct Held {
    next: u64,
    views: BTreeMap<u64, (Arc<Snapshot>, Instant)>,
}

impl Snapshots {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds a view. Errors: `unavailable` where as many as may be are in use.
    fn hold(&self, snapshot: Snapshot, now: Instant) -> Result<u64, Problem> {
        let mut held = self.held();
        held.let_go(now);
        if held.views.len() >= SNAPSHOTS_MAX {
            let detail = format!("{SNAPSHOTS_MAX} snapshots are in use; try again in {} s", KEPT.as_secs());
            return Err(Problem::unavailable(detail));
        }
        let id = held.next;
        held.next += 1;
        held.views.insert(id, (Arc::new(snapshot), now));
        Ok(id)
    }

    /// A view that is held, for a further time. Errors: `gone`.
    pub fn get(&self, id: u64, now: Instant) -> Result<Arc<Snapshot>, Problem> {
        let mut held = self.held();
        held.let_go(now);
        let (view, used) = held.views.get_mut(&id).ok_or_else(|| {
            Problem::gone(format!("snapshot {id} is not held: none is kept for over {} s without use", KEPT.as_secs()))
        })?;
        *used = now;
        Ok(Arc::clone(view))
    }

    /// Lets go of a view once nobody has used it for long enough.
    async fn watch(self, id: u64) {
        loop {
            tokio::time::sleep(KEPT).await;
            let mut held = self.held();
            held.let_go(Instant::now());
            if !held.views.contains_key(&id) {
                return;
            }
        }
    }
}

impl Held {
    /// Forgets views that nobody used for long. A request that still reads one is a use of it.
    fn let_go(&mut self, now: Instant) {
        self.views.retain(|_, (view, used)| {
            if Arc::strong_count(view) > 1 {
                *used = now;
            }
            now.duration_since(*used) < KEPT
        });
    }
}

/// Holds a view of the last final block.
#[utoipa::path(post, path = "/v1/snapshots", tag = "export", operation_id = "hold_snapshot",
    responses((status = 200, body = SnapshotView, description = "It is held")))]
pub async fn create(State(api): State<Api>) -> Result<Json<SnapshotView>, Problem> {
    let snapshot = api.handle.snapshot()?;
    let tip = snapshot.tip()?.ok_or_else(|| Problem::unavailable("the node is starting"))?;
    let id = api.snapshots.hold(snapshot, Instant::now())?;
    tokio::spawn(api.snapshots.clone().watch(id));
    Ok(Json(SnapshotView {
        snapshot: id,
        chain: tip.header.chain.to_string(),
        height: tip.height.get(),
        kept_s: KEPT.as_secs(),
    }))
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;
    use crate::store::{Identity, KeyOrigin, Options, Store};
    use crate::types::ChainId;

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("node.redb");
        let chain = ChainId::from_bytes([1; 32]);
        let identity =
            Identity { chain, seed: Zeroizing::new([7; 32]), origin: KeyOrigin::Generated, incarnation: [9; 32] };
        Store::create(&path, &identity).expect("a new database");
        let store = Store::open(&path, &Options::default()).expect("it opens");
        (dir, store)
    }

    #[test]
    fn a_view_is_kept_while_it_is_used_and_let_go_after() {
        let (_dir, store) = store();
        let (snapshots, start) = (Snapshots::default(), Instant::now());
        let id = snapshots.hold(store.reader().snapshot().expect("a view"), start).expect("room");
        let half = KEPT / 2 + Duration::from_secs(1);
        let reading = snapshots.get(id, start + half).expect("it is kept");
        let late = start + half + KEPT * 3;
        snapshots.held().let_go(late);
        drop(reading);
        assert!(snapshots.get(id, late + half).is_ok(), "a long answer was a use all along");
        assert!(snapshots.get(id, late + half + KEPT).is_err());
        assert_eq!(snapshots.held().views.len(), 0);
    }

    #[test]
    fn there_are_few_and_none_is_taken_from_who_uses_it() {
        let (_dir, store) = store();
        let (snapshots, start) = (Snapshots::default(), Instant::now());
        let hold = |at| snapshots.hold(store.reader().snapshot().expect("a view"), at);
        let ids: Vec<_> = (0..SNAPSHOTS_MAX).map(|_| hold(start).expect("room")).collect();
        assert!(hold(start).is_err());
        let used = snapshots.get(ids[0], start + KEPT / 2).expect("it is held");
        let later = start + KEPT;
        assert!(hold(later).is_ok());
        assert!(snapshots.get(ids[0], later).is_ok());
        assert!(ids[1..].iter().all(|id| snapshots.get(*id, later).is_err()));
        drop(used);
    }
}

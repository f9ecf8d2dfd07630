//! What this node's key has signed, why it does not sign, and backups of the node.

use std::path::PathBuf;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::problem::Problem;
use super::server::Api;
use super::views::ProblemView;
use crate::consensus::Watermarks;
use crate::node::backup::{self, Backup, BackupError, Source};
use crate::node::chain::ChainStatus;
use crate::node::chain::own::Silence;
use crate::node::home::HomeError;
use crate::node::signing::Signing;
use crate::types::{Epoch, Round, View};

/// Format of an exported signing state.
pub const SIGNING_FORMAT: u32 = 1;

/// A view of an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RoundView {
    /// The epoch.
    pub epoch: u64,
    /// The view in it.
    pub view: u64,
}

/// The highest views in which a key is known to have signed, by kind of statement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WatermarksView {
    /// Proposals.
    #[serde(default)]
    pub propose: Option<RoundView>,
    /// Prepare votes.
    #[serde(default)]
    pub prepare: Option<RoundView>,
    /// Commit votes.
    #[serde(default)]
    pub commit: Option<RoundView>,
    /// Timeouts.
    #[serde(default)]
    pub timeout: Option<RoundView>,
}

/// The signing state of a node, as `validator signing export` writes it and `import` takes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SigningView {
    /// Format, 1.
    pub version: u32,
    /// The chain.
    pub chain: String,
    /// The node, which is its key.
    pub node: String,
    /// What it has signed.
    pub watermarks: WatermarksView,
    /// Why it must not sign, by name: imported, copied, rolled_back, twin, restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarantine: Option<String>,
    /// The same in words, with what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl From<&Watermarks> for WatermarksView {
    fn from(signed: &Watermarks) -> Self {
        let view =
            |round: Option<Round>| round.map(|round| RoundView { epoch: round.epoch.get(), view: round.view.get() });
        Self {
            propose: view(signed.propose),
            prepare: view(signed.prepare),
            commit: view(signed.commit),
            timeout: view(signed.timeout),
        }
    }
}

impl From<&WatermarksView> for Watermarks {
    fn from(signed: &WatermarksView) -> Self {
        let round = |view: Option<RoundView>| view.map(|view| Round::new(Epoch::new(view.epoch), View::new(view.view)));
        Self {
            propose: round(signed.propose),
            prepare: round(signed.prepare),
            commit: round(signed.commit),
            timeout: round(signed.timeout),
        }
    }
}

impl From<&Signing> for SigningView {
    fn from(signing: &Signing) -> Self {
        Self {
            version: SIGNING_FORMAT,
            chain: signing.chain.to_string(),
            node: signing.node.to_string(),
            watermarks: (&signing.signed).into(),
            quarantine: signing.quarantine.map(|why| why.name().to_owned()),
            reason: signing.quarantine.map(|why| format!("{why}; {}", why.advice())),
        }
    }
}

/// Why a node signs nothing though it might, in words, with what to do.
pub(super) fn silence(status: &ChainStatus) -> Option<String> {
    status.silence.map(|silence| match silence {
        Silence::Asking => "it has just started and asks the others what they hold of its key".to_owned(),
        Silence::Quarantined(why) => format!("{why}; {}", why.advice()),
    })
}

/// What this node's key has signed.
#[utoipa::path(get, path = "/v1/validator/signing", tag = "validator", operation_id = "validator_signing",
    responses((status = 200, body = SigningView, description = "The signing state, as `import` takes it")))]
pub async fn show(State(api): State<Api>) -> Result<Json<SigningView>, Problem> {
    let status = api.handle.status().ok_or_else(|| Problem::unavailable("the node is starting"))?;
    let quarantine = match status.silence {
        Some(Silence::Quarantined(why)) => Some(why),
        Some(Silence::Asking) | None => None,
    };
    let (chain, node) = (api.handle.identity().chain, api.handle.identity().node);
    Ok(Json((&Signing { chain, node, signed: status.signed, quarantine }).into()))
}

/// Body of `POST /v1/backup`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BackupRequest {
    /// A directory that is not there yet, on the node's machine, as an absolute path.
    #[schema(pattern = "^/")]
    pub dir: String,
    /// Take the slots along that the node holds for others.
    #[serde(default)]
    pub slots: bool,
}

/// A backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BackupView {
    /// Where it is.
    pub dir: String,
    /// The chain.
    pub chain: String,
    /// The node.
    pub node: String,
    /// Height of the last final block in it.
    pub height: u64,
    /// Whether slots are in it.
    pub slots: bool,
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl BackupView {
    /// Of a backup in a directory.
    pub fn of(dir: String, backup: Backup) -> Self {
        let Backup { head, totals } = backup;
        Self {
            dir,
            chain: head.chain,
            node: head.node,
            height: head.height,
            slots: head.slots,
            files: totals.files,
            bytes: totals.bytes,
        }
    }
}

/// Makes a backup of this node in a directory of its machine; the node goes on meanwhile.
#[utoipa::path(post, path = "/v1/backup", tag = "node", operation_id = "backup", request_body = BackupRequest,
    responses((status = 200, body = BackupView, description = "The backup, complete and durable"),
        (status = 409, body = ProblemView, content_type = "application/problem+json", description = "Something is there already")))]
pub async fn back_up(State(api): State<Api>, Json(request): Json<BackupRequest>) -> Result<Json<BackupView>, Problem> {
    let (dir, handle) = (PathBuf::from(&request.dir), api.handle.clone());
    if !dir.is_absolute() || request.dir.contains('\0') {
        return Err(Problem::bad(format!("dir {:?} is no absolute path", request.dir)));
    }
    let made = tokio::task::spawn_blocking(move || {
        let (chain, node) = (handle.identity().chain, handle.identity().node);
        let snapshot = handle.reader().snapshot()?;
        let source = Source { home: handle.home(), snapshot: &snapshot, local: handle.local(), chain, node };
        backup::create(&source, &dir, request.slots)
    });
    match made.await {
        Ok(Ok(backup)) => Ok(Json(BackupView::of(request.dir, backup))),
        Ok(Err(BackupError::Exists(path))) => Err(Problem::conflict(format!("{} exists already", path.display()))),
        Ok(Err(BackupError::Store(error))) => Err(error.into()),
        Ok(Err(BackupError::Home(HomeError::Io { path, source, .. }))) => Err(unwritable(&path, &source)),
        Ok(Err(error)) => Err(Problem::store(error.to_string())),
        Err(_) => Err(Problem::unavailable("the node is stopping")),
    }
}

/// A place that cannot be written is the caller's choice; a full disk is said as that.
fn unwritable(path: &std::path::Path, source: &std::io::Error) -> Problem {
    let detail = format!("{}: {source}", path.display());
    match source.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            Problem::unavailable(format!("{detail}; free space there, nothing of the backup is left"))
        }
        _ => Problem::clash(detail),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_round() -> impl Strategy<Value = Option<RoundView>> {
        prop::option::of((0..4_u64, 0..9_u64).prop_map(|(epoch, view)| RoundView { epoch, view }))
    }
    fn any_watermarks() -> impl Strategy<Value = WatermarksView> {
        (any_round(), any_round(), any_round(), any_round())
            .prop_map(|(propose, prepare, commit, timeout)| WatermarksView { propose, prepare, commit, timeout })
    }

    proptest! {
        #[test]
        fn an_export_read_again_says_the_same(signed in any_watermarks()) {
            let text = serde_json::to_string(&signed).expect("JSON");
            let read: WatermarksView = serde_json::from_str(&text).expect("the same shape");
            prop_assert_eq!(WatermarksView::from(&Watermarks::from(&read)), signed);
        }
    }
}

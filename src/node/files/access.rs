//! Access: which keys open a file for this node's account, and giving them to others.
//!
//! The owner's own, the one that a share on the ledger holds, or the one of a capability that somebody brought.

use std::time::Duration;

use zeroize::Zeroizing;

use crate::crypto::seal::FileKey;
use crate::crypto::share::{self, Bound, Fresh};
use crate::files::{Capability, OpenError, OpenManifest};
use crate::ledger::record::{Deal, Shared};
use crate::ledger::{Key, Record};
use crate::node::app::read_record;
use crate::node::handle::{FinalTx, Handle, NodeError};
use crate::store::{Snapshot, StoreError};
use crate::types::{AccountId, FileId, Height};
use crate::wire::{Action, PublicManifest};

/// Opens a file's manifest, with the key that was brought or one that the account has.
/// Errors: `NotAllowed` without a key or with a wrong one, `Verification`, `Store`.
pub fn open_manifest(
    handle: &Handle,
    file: &FileId,
    deal: &Deal,
    manifest: &PublicManifest,
    brought: Option<&FileKey>,
) -> Result<OpenManifest, NodeError> {
    let wrong = |error: OpenError| NodeError::Verification(error.to_string());
    if let Some(key) = brought {
        return OpenManifest::open_with_key(manifest, key).map_err(|error| match error {
            OpenError::Commitment => NodeError::NotAllowed("the capability does not open this file".to_owned()),
            error => wrong(error),
        });
    }
    let keys = handle.keys()?;
    if deal.owner == keys.account_id() {
        return OpenManifest::open(manifest, keys).map_err(wrong);
    }
    let key = shared_key(handle, file, deal)?;
    OpenManifest::open_with_key(manifest, &key).map_err(|error| match error {
        OpenError::Commitment => NodeError::Verification("the share holds another key than the file's".to_owned()),
        error => wrong(error),
    })
}

/// The key of a file that is shared with this node's account. Errors: `NotAllowed`, `Verification`, `Store`.
fn shared_key(handle: &Handle, file: &FileId, deal: &Deal) -> Result<FileKey, NodeError> {
    let (keys, snapshot) = (handle.keys()?, handle.snapshot()?);
    let me = keys.account_id();
    let Some(Record::Share { sealed, until }) = read_record(&snapshot, &Key::Share(me, *file))? else {
        let (owner, me) = (deal.owner.short(), me.short());
        let reason = format!("the file belongs to account {owner} and is not shared with this node's, {me}");
        return Err(NodeError::NotAllowed(reason));
    };
    if let Some(until) =
        until.filter(|_| Shared { to: me, until }.is_over(height(&snapshot).unwrap_or(Height::GENESIS)))
    {
        let owner = deal.owner.short();
        return Err(NodeError::NotAllowed(format!(
            "account {owner} shared the file until height {until}, which is over"
        )));
    }
    let bound = Bound { file: *file, from: deal.owner, to: me };
    let unfit = |_| NodeError::Verification("the share on the ledger does not open with this account's key".to_owned());
    share::open(&sealed, &bound, keys.signing()).map_err(unfit)
}

/// A read capability of a file that this node's account may read; another one, which is no secret, for any file.
/// Errors: `NotFound`, and those of `open_manifest`.
pub fn capability(handle: &Handle, file: FileId, verify: bool) -> Result<Capability, NodeError> {
    let (deal, manifest) = open_deal(handle, &file)?;
    match verify {
        true => Ok(Capability::Verify { file }),
        false => {
            let open = open_manifest(handle, &file, &deal, &manifest, None)?;
            Ok(Capability::Read { file, key: open.key().clone() })
        }
    }
}

/// Shares an own file with an account, up to a height.
/// Errors: `NotFound`, `NotAllowed` for another's file, `Bad` for what is no account, those of `Handle::act`.
pub async fn share(
    handle: &Handle,
    file: FileId,
    to: AccountId,
    until: Option<Height>,
    within: Duration,
) -> Result<FinalTx, NodeError> {
    let (deal, manifest) = open_deal(handle, &file)?;
    let keys = handle.keys()?;
    let me = keys.account_id();
    if deal.owner != me {
        let (owner, me) = (deal.owner.short(), me.short());
        let reason = format!("only its owner shares a file: account {owner}, this node's is {me}");
        return Err(NodeError::NotAllowed(reason));
    }
    let open = OpenManifest::open(&manifest, keys).map_err(|error| NodeError::Verification(error.to_string()))?;
    let random = |raw: &mut [u8]| getrandom::fill(raw).map_err(|error| NodeError::Unavailable(error.to_string()));
    let mut fresh = Fresh { ephemeral: Zeroizing::new([0; 32]), nonce: [0; 24] };
    random(fresh.ephemeral.as_mut())?;
    random(&mut fresh.nonce)?;
    let bound = Bound { file, from: me, to };
    let no_account = |_| NodeError::Bad(format!("{to} is no account: no usable public key"));
    let sealed = share::seal(open.key(), &bound, &fresh).map_err(no_account)?;
    handle.act(Action::ShareFile { file, to, sealed, until }, within).await
}

/// Takes a share off the ledger: of an own file, or one that this node's account was given.
/// Errors: `NotFound`, those of `Handle::act`.
pub async fn unshare(handle: &Handle, file: FileId, to: AccountId, within: Duration) -> Result<FinalTx, NodeError> {
    handle.file(&file)?;
    handle.act(Action::UnshareFile { file, to }, within).await
}

/// With whom an own file is shared. Errors: `NotFound`, `NotAllowed` for another's file, `Store`.
pub fn shares(handle: &Handle, file: &FileId) -> Result<Vec<Shared>, NodeError> {
    let (deal, _) = handle.file(file)?;
    if deal.owner != handle.keys()?.account_id() {
        return Err(NodeError::NotAllowed("only its owner lists with whom a file is shared".to_owned()));
    }
    match handle.record(&Key::Shares(*file))? {
        Some(Record::Shares(list)) => Ok(list),
        _ => Ok(Vec::new()),
    }
}

/// A page of what is shared with an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedPage {
    /// Files and their shares, by file. Those whose time is up are left out, so there may be few although more follow.
    pub files: Vec<(FileId, Shared)>,
    /// The last file that was looked at, if more may follow.
    pub next: Option<FileId>,
}

/// What is shared with this node's account: those after a file if given; at most `limit` are looked at.
/// Errors: `NotAllowed`, `Store`.
pub fn shared_with_me(handle: &Handle, after: Option<FileId>, limit: usize) -> Result<SharedPage, NodeError> {
    let (me, snapshot) = (handle.keys()?.account_id(), handle.snapshot()?);
    let at = height(&snapshot)?;
    let after = after.map(|file| Key::Share(me, file).bytes());
    let page = snapshot.state_scan(&Key::shared_with(&me), after.as_deref(), limit)?;
    let full = page.len() >= limit;
    let mut last = None;
    let mut found = Vec::new();
    for (key, bytes) in page {
        let damaged = || StoreError::corrupted("state.v1", hex::encode(&key));
        let at_key = Key::from_bytes(&key).ok_or_else(damaged)?;
        let record = Record::from_bytes(&at_key, &bytes).map_err(|_| damaged())?;
        let (Key::Share(to, file), Record::Share { until, .. }) = (at_key, record) else {
            return Err(damaged().into());
        };
        last = Some(file);
        let shared = Shared { to, until };
        if !shared.is_over(at) {
            found.push((file, shared));
        }
    }
    Ok(SharedPage { files: found, next: last.filter(|_| full) })
}

/// A file whose deal is open. Errors: `NotFound`, `Store`.
pub(super) fn open_deal(handle: &Handle, file: &FileId) -> Result<(Deal, PublicManifest), NodeError> {
    match handle.file(file)? {
        (deal, Some(manifest)) => Ok((deal, *manifest)),
        (deal, None) => {
            let id = format!("{file} (its deal has ended: {})", deal.status.name());
            Err(NodeError::NotFound { what: "file", id })
        }
    }
}

fn height(snapshot: &Snapshot) -> Result<Height, NodeError> {
    Ok(snapshot.tip()?.map_or(Height::GENESIS, |tip| tip.height))
}

//! Filling views from the chain's types.

use super::problem::Problem;
use super::sharing::harmless;
use super::terms::terms;
use super::views::{ActionView, BlockView, CertificateView, FileStatus, FileView, SlotView, TxStatus, TxView};
use crate::crypto::seal::FileKey;
use crate::files::OpenManifest;
use crate::ledger::effects::{Outcome, Receipt};
use crate::ledger::record::{Deal, DealStatus, NodeEntry};
use crate::node::Handle;
use crate::node::bundle::Checkpoint;
use crate::node::files::access::open_manifest;
use crate::types::{FileId, Height, NodeId, Roles};
use crate::wire::{Action, Certificate, PublicManifest, Tx, ValidatorSet};

/// Role names.
pub fn roles(roles: Roles) -> Vec<String> {
    roles.iter().map(|role| role.name().to_owned()).collect()
}

/// What a transaction does.
pub fn action(action: &Action) -> ActionView {
    match action {
        Action::Transfer { to, amount, memo } => {
            ActionView::Transfer { to: to.to_string(), amount: amount.get(), memo: memo.clone() }
        }
        Action::RegisterNode(node) => ActionView::RegisterNode {
            node: node.node.to_string(),
            name: node.name.clone(),
            operator: node.operator.clone(),
            roles: roles(node.roles),
            capacity: node.capacity.get(),
        },
        Action::CommitFile(deal) => ActionView::CommitFile {
            file: deal.manifest.id().to_string(),
            slots: count(deal.manifest.slots.len()),
            min_confirmations: deal.min_confirmations.into(),
            repair_threshold: deal.repair_threshold.into(),
            receipts: count(deal.receipts.len()),
            epochs: deal.epochs,
        },
        Action::ConfirmSlots { file, receipts } => {
            ActionView::ConfirmSlots { file: file.to_string(), receipts: count(receipts.len()) }
        }
        Action::DeleteFile { file } => ActionView::DeleteFile { file: file.to_string() },
        Action::ProveStorage { node, epoch, proofs } => ActionView::ProveStorage {
            node: node.to_string(),
            epoch: epoch.get(),
            samples: count(proofs.len()),
            proofs: count(proofs.iter().flatten().count()),
        },
        Action::TakeSlot { file, receipt } => {
            ActionView::TakeSlot { file: file.to_string(), slot: receipt.slot.into(), node: receipt.node.to_string() }
        }
        Action::DrainNode { node, drain } => ActionView::DrainNode { node: node.to_string(), drain: *drain },
        Action::SettleFile { file } => ActionView::SettleFile { file: file.to_string() },
        Action::RenewFile { file, epochs } => ActionView::RenewFile { file: file.to_string(), epochs: *epochs },
        Action::ShareFile { file, to, until, .. } => {
            let until = until.map(Height::get);
            ActionView::ShareFile { file: file.to_string(), to: to.to_string(), until }
        }
        Action::UnshareFile { file, to } => ActionView::UnshareFile { file: file.to_string(), to: to.to_string() },
        Action::SetRoot { expect, new } => {
            let text = |root: &Option<FileId>| root.map(|root| root.to_string());
            ActionView::SetRoot { expect: text(expect), new: text(new) }
        }
        Action::CollectFile { file, root } => {
            ActionView::CollectFile { file: file.to_string(), root: root.map(|root| root.to_string()) }
        }
        Action::ValidatorJoin { node, stake } => {
            ActionView::ValidatorJoin { node: node.to_string(), stake: stake.get() }
        }
        Action::ValidatorLeave { node } => ActionView::ValidatorLeave { node: node.to_string() },
        Action::ValidatorRotateKey { node, new } => {
            ActionView::ValidatorRotateKey { node: node.to_string(), new: new.to_string() }
        }
        Action::Accuse(accusation) => {
            ActionView::Accuse { node: accusation.node().to_string(), offence: accusation.name().to_owned() }
        }
        Action::ValidatorUnjail { node } => ActionView::ValidatorUnjail { node: node.to_string() },
        Action::ValidatorReady { node, version } => {
            ActionView::ValidatorReady { node: node.to_string(), version: *version }
        }
    }
}

/// A transaction that waits.
pub fn waiting(tx: &Tx) -> TxView {
    TxView {
        id: tx.id().to_string(),
        status: TxStatus::Waiting,
        height: None,
        index: None,
        sender: tx.body.sender.to_string(),
        nonce: tx.body.nonce,
        reason: None,
        action: action(&tx.body.action),
    }
}

/// A transaction of a final block.
pub fn settled(tx: &Tx, height: Height, receipt: &Receipt) -> TxView {
    let (status, reason) = match &receipt.outcome {
        Outcome::Applied => (TxStatus::Applied, None),
        Outcome::Rejected(reject) => (TxStatus::Rejected, Some(reject.to_string())),
    };
    TxView { status, reason, height: Some(height.get()), index: Some(receipt.index), ..waiting(tx) }
}

/// A certificate with the names of its signers.
pub fn certificate(certificate: &Certificate, set: &ValidatorSet) -> CertificateView {
    let signers = certificate.signatures.iter().filter_map(|signed| set.get(signed.index));
    CertificateView {
        block: certificate.block.to_string(),
        height: certificate.height.get(),
        epoch: certificate.round.epoch.get(),
        view: certificate.round.view.get(),
        signers: signers.map(|member| member.node.to_string()).collect(),
    }
}

/// A block without its transactions.
pub fn block(block: &crate::wire::Block, txs: usize) -> BlockView {
    let (txs, bytes) = (u64::try_from(txs).unwrap_or(u64::MAX), u64::try_from(block.payload.len()).unwrap_or(u64::MAX));
    BlockView { txs, bytes, pruned: false, ..header(&block.header) }
}

/// A final block of which only the header is here.
pub fn header(header: &crate::wire::Header) -> BlockView {
    let hash = header.hash();
    BlockView {
        height: header.height.get(),
        hash: hash.to_string(),
        checkpoint: Checkpoint { height: header.height, hash }.to_string(),
        parent: header.parent.to_string(),
        epoch: header.round.epoch.get(),
        view: header.round.view.get(),
        proposer: header.proposer.to_string(),
        time_ms: header.time.get(),
        tx_root: hex::encode(header.tx_root),
        receipt_root: hex::encode(header.receipt_root),
        state_root: header.state_root.to_string(),
        validator_set: hex::encode(header.validator_set),
        next_set: hex::encode(header.next_set),
        txs: 0,
        bytes: 0,
        pruned: true,
        certificate: None,
        transactions: None,
    }
}

/// A file's deal. Name and size are there if this node's account can open the manifest.
pub fn file(
    handle: &Handle,
    id: &FileId,
    deal: &Deal,
    manifest: Option<&PublicManifest>,
    nodes: &[NodeEntry],
) -> FileView {
    file_with(handle, id, deal, manifest, nodes, None)
}

/// The same for whoever brings the file's key.
pub fn file_with(
    handle: &Handle,
    id: &FileId,
    deal: &Deal,
    manifest: Option<&PublicManifest>,
    nodes: &[NodeEntry],
    key: Option<&FileKey>,
) -> FileView {
    let open = manifest.and_then(|manifest| open_manifest(handle, id, deal, manifest, key).ok());
    file_open(handle, id, deal, (manifest, open.as_ref()), nodes)
}

/// The same of a manifest that is open, if it can be opened.
pub fn file_open(
    handle: &Handle,
    id: &FileId,
    deal: &Deal,
    (manifest, open): (Option<&PublicManifest>, Option<&OpenManifest>),
    nodes: &[NodeEntry],
) -> FileView {
    let own = handle.keys().is_ok_and(|keys| keys.account_id() == deal.owner);
    let name = |name: &str| if own { name.to_owned() } else { harmless(name) };
    let (status, reason, height) = status(deal, nodes);
    let slot = |(index, (node, info)): (usize, (&NodeId, &crate::wire::SlotInfo))| SlotView {
        index: count(index),
        root: info.root.to_string(),
        len: info.len,
        node: node.to_string(),
        node_name: name_of(node, nodes),
        confirmed: u8::try_from(index).is_ok_and(|index| deal.confirmed.has(index)),
        lost: u8::try_from(index).is_ok_and(|index| deal.lost.has(index)),
    };
    let infos = manifest.map(|manifest| manifest.slots.as_slice()).unwrap_or_default();
    FileView {
        id: id.to_string(),
        name: open.map(|open| name(&open.facts().name)),
        owner: deal.owner.to_string(),
        status,
        reason,
        bytes: open.map(crate::files::manifest::OpenManifest::plain_len),
        cipher_bytes: manifest.map_or(0, |manifest| manifest.cipher_len),
        data: deal.data.into(),
        parity: manifest.map_or(0, |manifest| manifest.parity.into()),
        chunk_size: manifest.map_or(0, |manifest| manifest.chunk_bytes.into()),
        min_confirmations: deal.min_confirmations.into(),
        repair_threshold: deal.repair_threshold.into(),
        confirmations: count(deal.confirmed.len()),
        created_ms: open.map(|open| open.facts().created.get()),
        height,
        lost: count(deal.lost.len()),
        terms: terms(handle, deal),
        slots: deal.placement.iter().zip(infos).enumerate().map(slot).collect(),
    }
}

/// An own file's manifest; nothing if this node's account cannot open it.
pub fn open_own(handle: &Handle, manifest: Option<&PublicManifest>) -> Option<OpenManifest> {
    OpenManifest::open(manifest?, handle.keys().ok()?).ok()
}

/// Where a deal stands, why, and since which height.
pub fn status(deal: &Deal, nodes: &[NodeEntry]) -> (FileStatus, Option<String>, u64) {
    match deal.status {
        DealStatus::Final { since } => (FileStatus::Final, None, since.get()),
        DealStatus::Pending { until } => {
            let missing = deal.placement.iter().enumerate();
            let missing = missing.filter(|(slot, _)| u8::try_from(*slot).is_ok_and(|slot| !deal.confirmed.has(slot)));
            let name = |node: &NodeId| name_of(node, nodes).unwrap_or_else(|| "a node".to_owned());
            let names: Vec<_> = missing.map(|(_, node)| format!("{} ({})", name(node), node.short())).collect();
            let (have, need) = (deal.confirmed.len(), deal.min_confirmations);
            let reason = format!(
                "{have} of {need} confirmations; missing: {}; ends at height {until} unless they come",
                names.join(", ")
            );
            (FileStatus::Pending, Some(reason), deal.opened.get())
        }
        DealStatus::Deleted { at } => (FileStatus::Ended, Some(format!("deleted at height {at}")), at.get()),
        DealStatus::Ended { at } => {
            (FileStatus::Ended, Some(format!("ended at height {at}: its paid time was up")), at.get())
        }
        DealStatus::Expired { at } => {
            (FileStatus::Ended, Some(format!("ended at height {at}: too few confirmations in time")), at.get())
        }
    }
}

/// In how many seconds the height is about reached, at the pace of the last blocks.
pub fn seconds_until(handle: &Handle, height: Height) -> Result<u64, Problem> {
    const LOOK_BACK: u64 = 100;
    let Some(tip) = handle.reader().tip().map(|tip| tip.height) else { return Ok(0) };
    let snapshot = handle.snapshot()?;
    let before = Height::new(tip.get().saturating_sub(LOOK_BACK).max(1));
    let (Some(from), Some(to)) = (snapshot.header(before)?, snapshot.header(tip)?) else { return Ok(0) };
    let blocks = tip.get().saturating_sub(before.get()).max(1);
    let took = to.time.saturating_sub(from.time).get();
    Ok(took.saturating_mul(height.get().saturating_sub(tip.get())) / blocks / 1_000)
}

/// A node's name, if it is registered.
pub fn name_of(node: &NodeId, nodes: &[NodeEntry]) -> Option<String> {
    nodes.iter().find(|entry| entry.announcement.node == *node).map(|entry| entry.announcement.name.clone())
}

/// A small number.
pub fn count(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

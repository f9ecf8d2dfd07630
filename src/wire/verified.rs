//! Verified transactions: what can be checked without any state, checked once.
//!
//! Invariant: a `VerifiedTx` is for this chain, within all limits, and each signature in it holds: the sender's, a
//! node's binding, the receipts of a deal that it opens. `VerifiedTx::verify` and `verify_all` are the only ways to one.
//! A transaction that fails here is *malformed*: no honest leader includes it, and a block that holds it is invalid.
//! What depends on the state is judged by the ledger and recorded in the receipt.
//! Not here: nonces, funds, capacity (`ledger`).

use std::sync::Arc;

use bytes::Bytes;

use super::file::{ManifestError, StorageReceipt};
use super::tx::{Action, FileCommit, NodeAnnouncement, SampleProof, Tx, repair_bounds};
use crate::crypto::{Batch, Domain, PublicKey, Signature, hash, sign};
use crate::types::{AccountId, ChainId, NodeId, TxId, limits};

/// Why no block may hold a transaction, whatever the state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Made for another chain.
    #[error("made for chain {have}, this is chain {need}")]
    Chain {
        /// The chain it names.
        have: ChainId,
        /// This chain.
        need: ChainId,
    },
    /// Its encoding is too long.
    #[error("{have} bytes; a transaction has at most {max}")]
    Bytes {
        /// Its length.
        have: usize,
        /// The limit.
        max: usize,
    },
    /// The sender's signature does not fit.
    #[error("the sender's signature does not fit the transaction")]
    Signature,
    /// A text is too short or too long, bytes of UTF-8.
    #[error("{what} of {have} bytes; allowed are {min} to {max}")]
    Text {
        /// Which text.
        what: &'static str,
        /// Its length.
        have: usize,
        /// The least.
        min: usize,
        /// The most.
        max: usize,
    },
    /// A text with a character that would confuse a terminal.
    #[error("{0} has a control character")]
    Control(&'static str),
    /// A list is too long.
    #[error("{have} {what}; at most {max}")]
    List {
        /// Which list.
        what: &'static str,
        /// Its length.
        have: usize,
        /// The limit.
        max: usize,
    },
    /// A transfer of nothing.
    #[error("a transfer moves at least 1 credit")]
    NoAmount,
    /// No role, or one that this version does not know.
    #[error("a node has at least one role, and only known ones")]
    Roles,
    /// The node's key is no usable public key.
    #[error("node id {0} is no usable ed25519 public key")]
    NodeKey(NodeId),
    /// The node has not signed that it belongs to this account.
    #[error("the binding signature of node {0} does not fit")]
    Binding(NodeId),
    /// The manifest contradicts itself.
    #[error("manifest: {0}")]
    Manifest(#[from] ManifestError),
    /// The manifest names another owner than the sender.
    #[error("the manifest's owner is {have}, the sender is {need}")]
    Owner {
        /// The manifest's owner.
        have: AccountId,
        /// The sender.
        need: AccountId,
    },
    /// Not one node for each slot.
    #[error("{have} nodes placed for {need} slots")]
    Placement {
        /// Nodes listed.
        have: usize,
        /// Slots of the file.
        need: usize,
    },
    /// A node twice in one placement.
    #[error("node {0} is placed for more than one slot")]
    PlacedTwice(NodeId),
    /// A file must be restorable once it is final.
    #[error("final at {have} confirmations; allowed are {min} (data shards) to {max} (slots)")]
    Confirmations {
        /// Asked for.
        have: u8,
        /// Data shards.
        min: u8,
        /// Slots.
        max: usize,
    },
    /// Lost slots rebuilt too late to be rebuilt at all, or before any is lost.
    #[error("lost slots rebuilt when {have} are left; allowed are {min} to {max}")]
    Repair {
        /// Asked for.
        have: u8,
        /// Data shards.
        min: u8,
        /// Slots but one.
        max: u8,
    },
    /// Receipts not strictly ascending by slot, or none where some are needed.
    #[error("receipts must be listed by ascending slot, each slot once")]
    ReceiptOrder,
    /// A receipt for a slot that the file does not have.
    #[error("receipt for slot {slot} of a file with {slots} slots")]
    ReceiptSlot {
        /// The slot named.
        slot: u8,
        /// Slots of the file.
        slots: usize,
    },
    /// A receipt of another node than the one placed at the slot.
    #[error("receipt for slot {slot} is of node {have}, placed there is {need}")]
    ReceiptNode {
        /// The slot.
        slot: u8,
        /// Who signed.
        have: NodeId,
        /// Who should.
        need: NodeId,
    },
    /// A receipt's signature does not fit.
    #[error("the signature of the receipt for slot {0} does not fit")]
    Receipt(u8),
    /// A deal for no time.
    #[error("a deal lasts at least 1 epoch")]
    NoEpochs,
    /// Evidence that shows nothing.
    #[error("node {0} has not signed what it is accused of, or it is no offence")]
    Evidence(NodeId),
}

impl Malformed {
    /// The stable name of the reason, for JSON.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Chain { .. } => "wrong_chain",
            Self::Bytes { .. } => "too_long",
            Self::Signature => "bad_signature",
            Self::Text { .. } => "bad_text_length",
            Self::Control(_) => "control_character",
            Self::List { .. } => "list_too_long",
            Self::NoAmount => "no_amount",
            Self::Roles => "bad_roles",
            Self::NodeKey(_) => "bad_node_key",
            Self::Binding(_) => "bad_binding",
            Self::Manifest(_) => "bad_manifest",
            Self::Owner { .. } => "not_owner",
            Self::Placement { .. } => "bad_placement",
            Self::PlacedTwice(_) => "node_placed_twice",
            Self::Confirmations { .. } => "bad_confirmations",
            Self::Repair { .. } => "bad_repair_threshold",
            Self::ReceiptOrder => "receipt_order",
            Self::ReceiptSlot { .. } => "unknown_slot",
            Self::ReceiptNode { .. } => "wrong_receipt_node",
            Self::Receipt(_) => "bad_receipt",
            Self::NoEpochs => "no_epochs",
            Self::Evidence(_) => "no_evidence",
        }
    }
}

/// Which of several transactions is malformed, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("transaction {index}: {reason}")]
pub struct MalformedAt {
    /// Its place in the list.
    pub index: usize,
    /// What is wrong with it.
    pub reason: Malformed,
}

/// A transaction that passed every check that needs no state. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifiedTx(Arc<Inner>);

#[derive(PartialEq, Eq)]
struct Inner {
    id: TxId,
    encoded: Bytes,
    tx: Tx,
}

impl VerifiedTx {
    /// Checks one transaction for a chain. Errors: each of `Malformed`.
    pub fn verify(chain: &ChainId, tx: Tx) -> Result<Self, Malformed> {
        let shaped = Shaped::check(chain, tx)?;
        shaped.verify_signatures(chain)?;
        Ok(shaped.into_verified())
    }
    /// Checks many for a chain, in the given order, their signatures together: about a third of the cost of one by one.
    /// What `known` returns for an id is taken over unchecked if it is the same to the byte.
    /// Errors: the first malformed one.
    pub fn verify_all(
        chain: &ChainId,
        txs: Vec<Tx>,
        known: impl Fn(&TxId) -> Option<Self>,
    ) -> Result<Vec<Self>, MalformedAt> {
        let mut batch = Batch::new();
        let mut done = Vec::with_capacity(txs.len());
        let mut unverified = Vec::new();
        for (index, tx) in txs.into_iter().enumerate() {
            let shaped = Shaped::check(chain, tx).map_err(|reason| MalformedAt { index, reason })?;
            match known(&shaped.0.id) {
                Some(same) if same.0.encoded == shaped.0.encoded => done.push(same),
                _ => {
                    shaped
                        .each_signature(chain, |check| {
                            batch.push(&check.key, check.domain, check.bytes, check.signature);
                            Ok(())
                        })
                        .map_err(|reason| MalformedAt { index, reason })?;
                    unverified.push(index);
                    done.push(shaped.into_verified());
                }
            }
        }
        // The batch only says that some signature is wrong; one by one says which, and decides.
        if batch.verify().is_err() {
            for index in unverified {
                let Some(tx) = done.get(index) else { continue };
                each_signature(&tx.0, chain, verify_one).map_err(|reason| MalformedAt { index, reason })?;
            }
        }
        Ok(done)
    }
    /// The transaction's id.
    pub fn id(&self) -> TxId {
        self.0.id
    }
    /// Who signed it and whose nonce it uses.
    pub fn sender(&self) -> AccountId {
        self.0.tx.body.sender
    }
    /// Its place among the sender's transactions.
    pub fn nonce(&self) -> u64 {
        self.0.tx.body.nonce
    }
    /// What it does.
    pub fn action(&self) -> &Action {
        &self.0.tx.body.action
    }
    /// The transaction itself.
    pub fn tx(&self) -> &Tx {
        &self.0.tx
    }
    /// Its canonical bytes.
    pub fn encoded(&self) -> &Bytes {
        &self.0.encoded
    }
}

impl std::fmt::Debug for VerifiedTx {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "VerifiedTx({:?}, {:?} #{})", self.id(), self.sender(), self.nonce())
    }
}

/// Length of a signature at the end of an encoded transaction, bytes.
const SIGNATURE_BYTES: usize = 64;

/// A transaction within all limits, whose signatures are still unchecked.
struct Shaped(Inner);

struct Check<'a> {
    key: [u8; 32],
    domain: Domain,
    bytes: &'a [u8],
    signature: &'a Signature,
    fault: Malformed,
}

fn verify_one(check: Check<'_>) -> Result<(), Malformed> {
    sign::verify(&check.key, check.domain, check.bytes, check.signature).map_err(|_| check.fault)
}

impl Shaped {
    fn check(chain: &ChainId, tx: Tx) -> Result<Self, Malformed> {
        let body = &tx.body;
        if body.chain != *chain {
            return Err(Malformed::Chain { have: body.chain, need: *chain });
        }
        match &body.action {
            Action::Transfer { amount, memo, .. } => {
                if amount.get() == 0 {
                    return Err(Malformed::NoAmount);
                }
                text("memo", memo, 0, limits::MEMO_BYTES_MAX)?;
            }
            Action::RegisterNode(node) => check_announcement(node)?,
            Action::CommitFile(deal) => check_commit(deal, &body.sender)?,
            Action::ConfirmSlots { receipts, .. } => {
                if receipts.is_empty() {
                    return Err(Malformed::ReceiptOrder);
                }
                check_receipt_order(receipts)?;
            }
            Action::ProveStorage { proofs, .. } => check_proofs(proofs)?,
            Action::RenewFile { epochs, .. } => some_epochs(*epochs)?,
            Action::ShareFile { sealed, .. } => within("sealed bytes", sealed.len(), limits::SHARE_SEALED_BYTES_MAX)?,
            Action::Accuse(accusation) if !accusation.is_offence() => {
                return Err(Malformed::Evidence(accusation.node()));
            }
            Action::Accuse(_)
            | Action::DeleteFile { .. }
            | Action::TakeSlot { .. }
            | Action::DrainNode { .. }
            | Action::SettleFile { .. }
            | Action::UnshareFile { .. }
            | Action::SetRoot { .. }
            | Action::ValidatorJoin { .. }
            | Action::ValidatorLeave { .. }
            | Action::ValidatorRotateKey { .. }
            | Action::ValidatorUnjail { .. }
            | Action::ValidatorReady { .. }
            | Action::CollectFile { .. } => {}
        }
        let encoded = super::encode(&tx);
        if encoded.len() > limits::TX_BYTES_MAX {
            return Err(Malformed::Bytes { have: encoded.len(), max: limits::TX_BYTES_MAX });
        }
        let id = TxId::from_bytes(hash(Domain::Tx, body_bytes(&encoded)));
        Ok(Self(Inner { id, encoded: encoded.into(), tx }))
    }
    fn verify_signatures(&self, chain: &ChainId) -> Result<(), Malformed> {
        each_signature(&self.0, chain, verify_one)
    }
    fn each_signature(
        &self,
        chain: &ChainId,
        visit: impl FnMut(Check<'_>) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        each_signature(&self.0, chain, visit)
    }
    fn into_verified(self) -> VerifiedTx {
        VerifiedTx(Arc::new(self.0))
    }
}

fn body_bytes(encoded: &[u8]) -> &[u8] {
    &encoded[..encoded.len().saturating_sub(SIGNATURE_BYTES)]
}

/// Every signature that the transaction holds, except receipts for an open deal: what those sign is in the state.
fn each_signature(
    inner: &Inner,
    chain: &ChainId,
    mut visit: impl FnMut(Check<'_>) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    let Tx { body, signature } = &inner.tx;
    let key = *body.sender.as_bytes();
    let bytes = body_bytes(&inner.encoded);
    visit(Check { key, domain: Domain::Tx, bytes, signature, fault: Malformed::Signature })?;
    match &body.action {
        Action::RegisterNode(node) => {
            let bytes = node.binding_bytes(chain, &body.sender);
            let fault = Malformed::Binding(node.node);
            let key = *node.node.as_bytes();
            let check = Check { key, domain: Domain::NodeBinding, bytes: &bytes, signature: &node.binding, fault };
            visit(check)
        }
        Action::CommitFile(deal) => {
            let file = deal.manifest.id();
            for receipt in &deal.receipts {
                let Some(info) = deal.manifest.slots.get(usize::from(receipt.slot)) else { continue };
                let bytes = StorageReceipt::bytes(chain, &file, receipt.slot, receipt.until, info);
                let fault = Malformed::Receipt(receipt.slot);
                let (key, signature) = (*receipt.node.as_bytes(), &receipt.signature);
                visit(Check { key, domain: Domain::Receipt, bytes: &bytes, signature, fault })?;
            }
            Ok(())
        }
        Action::Accuse(accusation) => {
            let (key, fault) = (*accusation.node().as_bytes(), Malformed::Evidence(accusation.node()));
            accusation.signed(chain).into_iter().try_for_each(|(domain, bytes, signature)| {
                visit(Check { key, domain, bytes: &bytes, signature: &signature, fault: fault.clone() })
            })
        }
        Action::Transfer { .. }
        | Action::ConfirmSlots { .. }
        | Action::DeleteFile { .. }
        | Action::ProveStorage { .. }
        | Action::TakeSlot { .. }
        | Action::DrainNode { .. }
        | Action::SettleFile { .. }
        | Action::RenewFile { .. }
        | Action::ShareFile { .. }
        | Action::UnshareFile { .. }
        | Action::SetRoot { .. }
        | Action::ValidatorJoin { .. }
        | Action::ValidatorLeave { .. }
        | Action::ValidatorRotateKey { .. }
        | Action::ValidatorUnjail { .. }
        | Action::ValidatorReady { .. }
        | Action::CollectFile { .. } => Ok(()),
    }
}

fn text(what: &'static str, value: &str, min: usize, max: usize) -> Result<(), Malformed> {
    let have = value.len();
    if have < min || have > max {
        return Err(Malformed::Text { what, have, min, max });
    }
    if value.chars().any(char::is_control) { Err(Malformed::Control(what)) } else { Ok(()) }
}

/// Whether an announcement is within the limits and its node id a usable key. The binding is not looked at.
/// Errors: `Text`, `Control`, `List`, `Roles`, `NodeKey`.
pub fn check_announcement(node: &NodeAnnouncement) -> Result<(), Malformed> {
    text("node name", &node.name, 1, limits::NAME_BYTES_MAX)?;
    text("operator", &node.operator, 1, limits::NAME_BYTES_MAX)?;
    if node.roles == crate::types::Roles::NONE || !node.roles.is_known() {
        return Err(Malformed::Roles);
    }
    within("addresses", node.addresses.len(), limits::NODE_ADDRESSES_MAX)?;
    for address in &node.addresses {
        text("address", address, 1, limits::NODE_ADDRESS_BYTES_MAX)?;
    }
    PublicKey::from_bytes(node.node.as_bytes()).map(|_| ()).map_err(|_| Malformed::NodeKey(node.node))
}

fn check_commit(deal: &FileCommit, sender: &AccountId) -> Result<(), Malformed> {
    let FileCommit { manifest, placement, min_confirmations, repair_threshold, epochs, receipts } = deal;
    manifest.check()?;
    some_epochs(*epochs)?;
    if manifest.owner != *sender {
        return Err(Malformed::Owner { have: manifest.owner, need: *sender });
    }
    let slots = manifest.slots.len();
    if placement.len() != slots {
        return Err(Malformed::Placement { have: placement.len(), need: slots });
    }
    let mut seen = std::collections::BTreeSet::new();
    if let Some(twice) = placement.iter().find(|node| !seen.insert(**node)) {
        return Err(Malformed::PlacedTwice(*twice));
    }
    if *min_confirmations < manifest.data || usize::from(*min_confirmations) > slots {
        return Err(Malformed::Confirmations { have: *min_confirmations, min: manifest.data, max: slots });
    }
    let ((min, max), have) = (repair_bounds(manifest.data, u8::try_from(slots).unwrap_or(u8::MAX)), *repair_threshold);
    if !(min..=max).contains(&have) {
        return Err(Malformed::Repair { have, min, max });
    }
    check_receipt_order(receipts)?;
    for receipt in receipts {
        let slot = receipt.slot;
        let need = *placement.get(usize::from(slot)).ok_or(Malformed::ReceiptSlot { slot, slots })?;
        if receipt.node != need {
            return Err(Malformed::ReceiptNode { slot, have: receipt.node, need });
        }
    }
    Ok(())
}

fn within(what: &'static str, have: usize, max: usize) -> Result<(), Malformed> {
    if have > max { Err(Malformed::List { what, have, max }) } else { Ok(()) }
}

fn some_epochs(epochs: u32) -> Result<(), Malformed> {
    if epochs == 0 { Err(Malformed::NoEpochs) } else { Ok(()) }
}

/// Bounds what a verifier has to look at; whether a proof holds depends on the state.
fn check_proofs(proofs: &[Option<SampleProof>]) -> Result<(), Malformed> {
    within("proofs", proofs.len(), limits::AUDIT_SAMPLES_MAX)?;
    for proof in proofs.iter().flatten() {
        within("bytes of a sample", proof.bytes.len(), limits::LEAF_BYTES)?;
        within("hashes of a path", proof.path.len(), limits::LEAF_PATH_MAX)?;
    }
    Ok(())
}

fn check_receipt_order(receipts: &[StorageReceipt]) -> Result<(), Malformed> {
    if receipts.is_sorted_by(|a, b| a.slot < b.slot) { Ok(()) } else { Err(Malformed::ReceiptOrder) }
}

#[cfg(test)]
#[path = "verified_tests.rs"]
mod tests;

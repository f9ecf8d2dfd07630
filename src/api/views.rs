//! Views: the JSON of the HTTP API, one type for each answer. The server writes them, the command line reads them.
//! Ids are 64 lower-case hexadecimal digits, sizes are bytes, times are milliseconds since the Unix epoch, ages and
//! durations are milliseconds. Fields may be added, never removed or renamed; readers ignore what they do not know.
//! Not here: how a view is filled (`api`), bundles, export rows.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use super::actions::ActionView;
pub use super::files::FilesView;
pub use super::stats::PeerView;
pub use super::terms::TermsView;

/// `GET /status`: the node in one screen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StatusView {
    /// The node's name.
    pub name: String,
    /// Its id.
    pub node: String,
    /// Version of the program.
    pub version: String,
    /// Its roles, by name.
    pub roles: Vec<String>,
    /// The chain it follows.
    pub chain: String,
    /// Height of the last final block.
    pub height: u64,
    /// State root after that block.
    pub state_root: String,
    /// Hash of that block.
    pub block_hash: String,
    /// Both as `--trust` takes them: `HEIGHT:HASH`.
    #[serde(default)]
    pub checkpoint: String,
    /// How long ago this node learnt that the block is final.
    pub finalized_age_ms: u64,
    /// The current epoch.
    pub epoch: u64,
    /// The current view.
    pub view: u64,
    /// The current view's leader.
    pub leader: String,
    /// The leader's name, when its registration is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader_name: Option<String>,
    /// Number of validators in the epoch's set.
    pub validators: u32,
    /// Nodes it has a connection to.
    pub peers: u32,
    /// Where others reach it, as they would put it into `net.bootstrap`.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// Transactions waiting.
    pub mempool_txs: u64,
    /// Their bytes.
    pub mempool_bytes: u64,
    /// Whether it is behind and catching up.
    pub syncing: bool,
    /// Blocks that validators have as final and this node does not: by the word of so many that not all of them lie.
    #[serde(default)]
    pub behind: u64,
    /// The height it is catching up to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sync_target: Option<u64>,
    /// What `/readyz` says.
    pub ready: bool,
    /// Why it is not ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How the network looks from here, and who is away.
    pub network: super::network::NetworkView,
    /// Whether more may be final elsewhere than this node knows of.
    pub stale: bool,
    /// The account in its keystore, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Its storage, if it has that role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<StorageView>,
    /// How long it has been running.
    pub uptime_ms: u64,
    /// Why it signs nothing though it is a validator or may be one, and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing: Option<String>,
}

/// How much of the chain is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PruneRequest {
    /// Blocks whose bodies are kept, at least 64.
    #[schema(minimum = 64, maximum = 9_007_199_254_740_991_u64)]
    pub keep: u64,
}

/// What goes of the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PruneView {
    /// The bodies of blocks below this height, step by step with the blocks that come.
    pub below: u64,
}

/// A storage node's space.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StorageView {
    /// Bytes it offers.
    pub capacity: u64,
    /// Bytes of slots it holds.
    pub used: u64,
    /// Number of slots it holds.
    pub slots: u64,
    /// Bytes free on its disk.
    pub disk_free: u64,
    /// Bytes of slots that were removed since it started.
    #[serde(default)]
    pub freed: u64,
    /// Whether the ledger knows the node, so that slots are placed on it.
    #[serde(default)]
    pub registered: bool,
}

/// `GET /livez` and `GET /readyz`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HealthView {
    /// Whether the answer is yes; the HTTP status says the same (200 or 503).
    pub ok: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A final block: `GET /v1/blocks/..`, `GET /v1/events`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BlockView {
    /// Height; genesis is 0.
    pub height: u64,
    /// The block's hash.
    pub hash: String,
    /// Height and hash as `--trust` takes them: `HEIGHT:HASH`.
    #[serde(default)]
    pub checkpoint: String,
    /// Its parent's hash.
    pub parent: String,
    /// Epoch of the view in which it was first proposed.
    pub epoch: u64,
    /// The view in which it was first proposed.
    pub view: u64,
    /// Who proposed it.
    pub proposer: String,
    /// The proposer's clock.
    pub time_ms: u64,
    /// Merkle root over its transactions.
    pub tx_root: String,
    /// Merkle root over its receipts.
    pub receipt_root: String,
    /// State root after it.
    pub state_root: String,
    /// Hash of the validator set.
    pub validator_set: String,
    /// Hash of the validator set of the block after it.
    pub next_set: String,
    /// Number of transactions; 0 where the body was pruned.
    pub txs: u64,
    /// Bytes of its payload; 0 where it was pruned.
    pub bytes: u64,
    /// Whether the body was pruned here: then only its header and certificate are left.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pruned: bool,
    /// The commit certificate that finalized it or a block above it; in the answer for one block only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<CertificateView>,
    /// The transactions; in the answer for one block only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transactions: Option<Vec<TxView>>,
}

/// Who voted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CertificateView {
    /// The block that was voted for.
    pub block: String,
    /// Its height.
    pub height: u64,
    /// Epoch of the votes.
    pub epoch: u64,
    /// View of the votes.
    pub view: u64,
    /// The signers' node ids.
    pub signers: Vec<String>,
}

/// A transaction: `GET /v1/txs/{id}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TxView {
    /// Its id.
    pub id: String,
    /// Whether it waits or is in a final block.
    pub status: TxStatus,
    /// The block's height, once final.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<u64>,
    /// Its place in the block, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u32>,
    /// Who sent it.
    pub sender: String,
    /// The sender's number for it.
    pub nonce: u64,
    /// Why the ledger refused it, for `rejected`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What it asks for.
    pub action: ActionView,
}

/// What became of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TxStatus {
    /// In the mempool.
    Waiting,
    /// In a final block, and it took effect.
    Applied,
    /// In a final block, and the ledger refused it.
    Rejected,
}

impl fmt::Display for TxStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Waiting => "waiting",
            Self::Applied => "applied",
            Self::Rejected => "rejected",
        })
    }
}

/// An account after the last final block: `GET /v1/accounts/{id|me}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AccountView {
    /// Its id.
    pub id: String,
    /// Its credits.
    pub balance: u64,
    /// Transactions it made.
    pub nonce: u64,
    /// Bytes of slots in its open deals.
    #[serde(default)]
    pub stored: u64,
    /// The height at which this holds.
    pub height: u64,
}

/// A registered node: `GET /v1/nodes`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeView {
    /// Its id.
    pub node: String,
    /// Its name.
    pub name: String,
    /// Its operator: the failure domain of placement.
    pub operator: String,
    /// The account that registered it.
    pub account: String,
    /// Its roles, by name.
    pub roles: Vec<String>,
    /// Bytes it offers.
    pub capacity: u64,
    /// Bytes of slots placed on it.
    pub used: u64,
    /// Whether it takes part in storage: not after it failed too many audits on end.
    #[serde(default)]
    pub active: bool,
    /// Whether it gives its slots away and takes no new ones.
    #[serde(default)]
    pub draining: bool,
    /// How far it is trusted, of 1000.
    #[serde(default)]
    pub reputation: u32,
    /// Where it listens.
    pub addresses: Vec<String>,
    /// How long ago the answering node last heard of it; absent: not since its own start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen_ms_ago: Option<u64>,
}

/// A validator of the current epoch: `GET /v1/validators`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ValidatorView {
    /// Its place in the set.
    pub index: u32,
    /// Its node id.
    pub node: String,
    /// Its name, when it is registered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its voting weight.
    pub power: u64,
    /// Whether it leads the current view.
    pub leader: bool,
    /// Whether this epoch skips it as leader.
    pub skipped: bool,
}

/// Whether a file is safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FileStatus {
    /// On the chain with enough confirmations.
    Final,
    /// On the chain with too few confirmations; late ones complete it.
    Pending,
    /// No longer kept: deleted, never confirmed by enough, or no longer paid for.
    Ended,
}

impl fmt::Display for FileStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Final => "final",
            Self::Pending => "pending",
            Self::Ended => "ended",
        })
    }
}

/// A file's ledger record, and what the owner's node knows besides: `GET /v1/files`, `GET /v1/files/{id}/info`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FileView {
    /// Its id.
    pub id: String,
    /// Its name; only on the owner's node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its owner.
    pub owner: String,
    /// Whether it is final.
    pub status: FileStatus,
    /// Why it is pending.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Bytes of plaintext; only on the owner's node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Bytes of ciphertext.
    pub cipher_bytes: u64,
    /// Slots that restore it.
    pub data: u32,
    /// Further slots.
    pub parity: u32,
    /// Bytes that are erasure-coded at once.
    pub chunk_size: u64,
    /// Confirmations that make it final.
    pub min_confirmations: u32,
    /// Slots left at which others rebuild those that are lost.
    #[serde(default)]
    pub repair_threshold: u32,
    /// Confirmations it has.
    pub confirmations: u32,
    /// When it was put, milliseconds since 1970; only on the owner's node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_ms: Option<u64>,
    /// Height of the block that opened its deal.
    pub height: u64,
    /// Slots that nobody holds.
    #[serde(default)]
    pub lost: u32,
    /// Until when it is kept, and at which price.
    #[serde(flatten)]
    pub terms: TermsView,
    /// Its slots, in order.
    pub slots: Vec<SlotView>,
}

/// One slot of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SlotView {
    /// Its place, from 0.
    pub index: u32,
    /// BLAKE3 hash of its bytes.
    pub root: String,
    /// Their number.
    pub len: u64,
    /// The node it is placed on.
    pub node: String,
    /// That node's name, when known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    /// Whether the chain holds the node's receipt.
    pub confirmed: bool,
    /// Whether nobody holds it any more.
    #[serde(default)]
    pub lost: bool,
}

/// `DELETE /v1/files/{id}`, once final.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeletedView {
    /// The file.
    pub file_id: String,
    /// The transaction that ended its deal.
    pub tx: String,
    /// Height of its block.
    pub height: u64,
}

/// Body of `POST /v1/transfers`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TransferRequest {
    /// Receiver.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    pub to: String,
    /// Credits, more than zero.
    #[schema(minimum = 1, maximum = 9007199254740991_u64)]
    #[serde(deserialize_with = "super::whole::number")]
    pub amount: u64,
    /// A note for people.
    #[serde(default)]
    #[schema(max_length = 256, pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$")]
    pub memo: String,
}

/// `POST /v1/transfers`, once final.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TransferView {
    /// The transaction.
    pub tx: String,
    /// Height of its block.
    pub height: u64,
    /// Who paid.
    pub from: String,
    /// Who was paid.
    pub to: String,
    /// Credits.
    pub amount: u64,
}

/// `POST /v1/txs`: accepted into the mempool, not yet final.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AcceptedView {
    /// The transaction's id, to ask for at `/v1/txs/{id}`.
    pub tx: String,
}

/// Body and answer of `POST /v1/admin/links`: the nodes to have no connection with. Empty: all links are allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LinksView {
    /// Node ids.
    #[schema(max_items = 4096)]
    pub deny: Vec<String>,
}

/// An error, as RFC 9457 problem JSON (`application/problem+json`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProblemView {
    /// `urn:trullo:problem:` and the kind, e.g. `not_found`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind in words, the same for every occurrence.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened this time.
    pub detail: String,
    /// The exit code that the command line ends with.
    pub code: u8,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// What every problem's `type` begins with.
pub const PROBLEM_PREFIX: &str = "urn:trullo:problem:";

#[cfg(test)]
#[path = "views_tests.rs"]
mod tests;

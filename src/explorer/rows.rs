//! Rows: one type for each table. From it come the table's schema, its JSON and its values, so that all formats agree.
//!
//! Pure. Ids and hashes are lower-case hexadecimal, sizes are bytes, lists are JSON texts. A text that may be missing is
//! never empty.

use serde::{Deserialize, Serialize};

use super::schema::{Cell, Column, Schema, Span, Value};
use crate::types::Height;

/// An instant: milliseconds since the Unix epoch, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TimeMs(pub u64);

/// A text that is no table's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no table; tables are blocks, transactions, accounts, nodes, validators, files, slots")]
pub struct UnknownTable(pub String);

macro_rules! tables {
    ($(
        #[doc = $about:literal]
        $table:ident($row:ident) = $name:literal, $span:ident at $height:ident, key [$($key:ident),+] {
            $(#[doc = $column_about:literal] $column:ident: $type:ty,)+
        }
    )+) => {
        /// The tables.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Table { $(#[doc = $about] $table,)+ }

        impl Table {
            /// All tables; those that others refer to come first.
            pub const ALL: &[Self] = &[$(Self::$table),+];

            /// What the table looks like.
            pub const fn schema(self) -> &'static Schema {
                match self { $(Self::$table => &const { Schema {
                    table: $name,
                    about: $about.trim_ascii(),
                    span: Span::$span,
                    height: stringify!($height),
                    key: &[$(stringify!($key)),+],
                    columns: &[$(Column {
                        name: stringify!($column),
                        kind: <$type as Cell>::KIND,
                        nullable: <$type as Cell>::NULLABLE,
                        about: $column_about.trim_ascii(),
                    }),+],
                } },)+ }
            }
        }

        $(
            #[doc = $about]
            #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
            pub struct $row { $(#[doc = $column_about] pub $column: $type,)+ }
        )+

        /// A row of any table. Its JSON is that of the table's own type.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize)]
        #[serde(untagged)]
        #[expect(clippy::large_enum_variant, reason = "one page of rows at a time; a box each would cost more")]
        pub enum Row { $(#[doc = $about] $table($row),)+ }

        impl Row {
            /// The row of a JSON text. Errors: those of `serde_json`.
            pub fn from_json(table: Table, text: &[u8]) -> Result<Self, serde_json::Error> {
                match table { $(Table::$table => serde_json::from_slice(text).map(Self::$table),)+ }
            }
            /// The table that it belongs to.
            pub const fn table(&self) -> Table {
                match self { $(Self::$table(_) => Table::$table,)+ }
            }
            /// The chain that it is of.
            pub fn chain_id(&self) -> &str {
                match self { $(Self::$table(row) => &row.chain_id,)+ }
            }
            /// The height that it belongs to, or that it holds after.
            pub const fn height(&self) -> Height {
                match self { $(Self::$table(row) => Height::new(row.$height),)+ }
            }
            /// Its values, one for each column in order.
            pub fn values(&self) -> Vec<Value<'_>> {
                match self { $(Self::$table(row) => vec![$(Cell::value(&row.$column)),+],)+ }
            }
        }
    };
}

tables! {
    /// A final block: all fields of its header, so that its hash can be taken again, and the size of its body.
    Blocks(BlockRow) = "blocks", Heights at height, key [height] {
        /// The chain.
        chain_id: String,
        /// Number of blocks before this one; genesis is 0.
        height: u64,
        /// Hash of the header: the block's name.
        block_hash: String,
        /// Hash of the block before.
        parent_hash: String,
        /// Version of the block rules.
        version: u64,
        /// Epoch of the view in which it was first proposed.
        epoch: u64,
        /// The view in which it was first proposed.
        view: u64,
        /// Node id of who proposed it; all zeros for genesis.
        proposer: String,
        /// The proposer's clock.
        time_ms: TimeMs,
        /// Merkle root over its transactions.
        tx_root: String,
        /// Merkle root over its receipts.
        receipt_root: String,
        /// Root of the state tree after it.
        state_root: String,
        /// Hash of the validator set that votes on it.
        validator_set: String,
        /// Hash of the set that votes on the block after it.
        next_set: String,
        /// The preimage that the proposer reveals for the beacon.
        reveal: String,
        /// Number of transactions; missing when the node has pruned the body.
        txs: Option<u64>,
        /// Bytes of the body; missing when the node has pruned it.
        payload_bytes: Option<u64>,
    }
    /// A transaction in a final block, and what the ledger said to it.
    Transactions(TransactionRow) = "transactions", Heights at height, key [height, tx_index] {
        /// The chain.
        chain_id: String,
        /// Height of its block.
        height: u64,
        /// Its place in the block, from 0.
        tx_index: u64,
        /// Its id: hash of its body.
        tx_id: String,
        /// Time of its block.
        time_ms: TimeMs,
        /// Account that signed it.
        sender: String,
        /// The sender's number for it.
        nonce: u64,
        /// What it asks for: transfer, register_node, commit_file, confirm_slots, delete_file, prove_storage, take_slot, drain_node, settle_file, renew_file, share_file, unshare_file, set_root.
        action: String,
        /// What became of it: applied or rejected.
        status: String,
        /// Stable name of the reason for a rejection.
        reject_code: Option<String>,
        /// The reason in words.
        reject_reason: Option<String>,
        /// Account that a transfer goes to.
        receiver: Option<String>,
        /// Credits of a transfer.
        amount: Option<u64>,
        /// Note of a transfer.
        memo: Option<String>,
        /// Node that is registered, drained or audited, or that takes a slot over.
        node_id: Option<String>,
        /// Name of the node that is registered.
        name: Option<String>,
        /// Operator of the node that is registered.
        operator: Option<String>,
        /// Roles of the node that is registered.
        roles: Option<String>,
        /// Bytes of slots that the registered node offers to hold.
        capacity: Option<u64>,
        /// File that it is about.
        file_id: Option<String>,
        /// Slots of the file whose deal it opens.
        slots: Option<u64>,
        /// Receipts that make the deal final which it opens.
        min_confirmations: Option<u64>,
        /// Slots left at which lost ones are rebuilt.
        repair_threshold: Option<u64>,
        /// Storage receipts that it carries.
        receipts: Option<u64>,
        /// Epochs that it pays for.
        epochs: Option<u64>,
        /// Slot that is taken over.
        slot: Option<u64>,
        /// Epoch of the audit that it answers.
        audit_epoch: Option<u64>,
        /// Samples that it answers.
        proofs: Option<u64>,
        /// Whether the node drains from now on.
        drain: Option<bool>,
    }
    /// An account.
    Accounts(AccountRow) = "accounts", State at as_of_height, key [account_id] {
        /// The chain.
        chain_id: String,
        /// Height of the block after which this holds.
        as_of_height: u64,
        /// The account: its public key.
        account_id: String,
        /// Credits at hand.
        balance: u64,
        /// Transactions that it has made.
        nonce: u64,
        /// Bytes of slots in its open deals.
        stored: u64,
    }
    /// A registered node.
    Nodes(NodeRow) = "nodes", State at as_of_height, key [node_id] {
        /// The chain.
        chain_id: String,
        /// Height of the block after which this holds.
        as_of_height: u64,
        /// The node: its public key.
        node_id: String,
        /// The account that it belongs to.
        account_id: String,
        /// Its name for people.
        name: String,
        /// Who runs it: the failure domain of placement.
        operator: String,
        /// What it does: role names as a JSON list.
        roles: String,
        /// Bytes of slots that it offers to hold.
        capacity: u64,
        /// Bytes of slots that open deals have placed on it.
        used: u64,
        /// Where it listens: multiaddresses as a JSON list.
        addresses: String,
        /// Whether it may be placed in new deals.
        active: bool,
        /// Height of its first registration.
        registered_height: u64,
        /// Bytes of slots that it has receipts for: what its audits ask about.
        held: u64,
        /// Whether it gives its slots away and takes no new ones.
        draining: bool,
        /// How far it is trusted, of 1000.
        reputation: u64,
        /// Audits answered in full.
        audits_passed: u64,
        /// Audits with a sample missed.
        audits_failed: u64,
        /// Samples asked.
        samples_asked: u64,
        /// Samples answered.
        samples_answered: u64,
        /// Samples missed.
        samples_missed: u64,
        /// Bytes in the answers.
        bytes_proven: u64,
    }
    /// A validator of the current set.
    Validators(ValidatorRow) = "validators", State at as_of_height, key [validator_index] {
        /// The chain.
        chain_id: String,
        /// Height of the block after which this holds.
        as_of_height: u64,
        /// Its place in the set, by which certificates name it.
        validator_index: u64,
        /// The node that votes.
        node_id: String,
        /// The account behind it.
        account_id: String,
        /// Its voting weight.
        power: u64,
        /// Whether the epoch of the next block skips it as leader.
        skipped: bool,
    }
    /// A file's deal, open or ended. Names and contents are the owner's secret.
    Files(FileRow) = "files", State at as_of_height, key [file_id] {
        /// The chain.
        chain_id: String,
        /// Height of the block after which this holds.
        as_of_height: u64,
        /// The file: hash of its public manifest.
        file_id: String,
        /// Account whose file it is.
        owner: String,
        /// Where the deal stands: pending, final, deleted, expired or ended.
        status: String,
        /// Height at which it became so; for a pending deal, the height that ends it.
        status_height: u64,
        /// Height of the block that opened the deal.
        opened_height: u64,
        /// Slots that restore the file.
        data: u64,
        /// All its slots.
        slots: u64,
        /// Bytes of each slot.
        slot_bytes: u64,
        /// Receipts that make the deal final.
        min_confirmations: u64,
        /// Slots left at which lost ones are rebuilt.
        repair_threshold: u64,
        /// Slots with a receipt.
        confirmations: u64,
        /// Slots that nobody holds.
        lost_slots: u64,
        /// Slots taken over so far.
        taken: u64,
        /// Credits per GiB of slots and epoch.
        price: u64,
        /// Credits that are not paid out yet.
        escrow: u64,
        /// Height at which the deal ends unless it is renewed.
        ends_height: u64,
        /// Ciphertext bytes that are erasure-coded at once; missing once the deal has ended.
        chunk_bytes: Option<u64>,
        /// Bytes of the whole ciphertext; missing once the deal has ended.
        cipher_bytes: Option<u64>,
    }
    /// A slot of a file: a part of it, on one node.
    Slots(SlotRow) = "slots", State at as_of_height, key [file_id, slot] {
        /// The chain.
        chain_id: String,
        /// Height of the block after which this holds.
        as_of_height: u64,
        /// The file.
        file_id: String,
        /// Its place in the file, from 0.
        slot: u64,
        /// The node where it is placed.
        node_id: String,
        /// BLAKE3 hash of its bytes; missing once the deal has ended.
        slot_root: Option<String>,
        /// Its bytes.
        slot_bytes: u64,
        /// Whether there is a receipt for it.
        confirmed: bool,
        /// Whether nobody holds it.
        lost: bool,
        /// Audits on end in which a sample of it was missed.
        strikes: u64,
    }
}

impl Table {
    /// The name used in addresses, files and schemas.
    pub const fn name(self) -> &'static str {
        self.schema().table
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Table {
    type Err = UnknownTable;
    fn from_str(text: &str) -> Result<Self, UnknownTable> {
        let found = Self::ALL.iter().find(|table| table.name() == text);
        found.copied().ok_or_else(|| UnknownTable(text.to_owned()))
    }
}

//! Tables: their rows, read from one snapshot of the store.
//!
//! Memory is bounded: one block, or one page of records, at a time.

use std::collections::VecDeque;

use borsh::BorshDeserialize;

use super::rows::{AccountRow, BlockRow, FileRow, NodeRow, Row, SlotRow, Table, TimeMs, TransactionRow, ValidatorRow};
use crate::ledger::record::{Deal, DealStatus, NodeEntry, SkipList, ValidatorEntry};
use crate::ledger::{Key, Outcome, Receipt, Record};
use crate::store::{Snapshot, StoreError};
use crate::types::{FileId, Height, limits};
use crate::wire::block::decode_payload;
use crate::wire::{self, Action, Header, PublicManifest, Tx};

/// Why a table cannot be read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TableError {
    /// This node's disk failed or its data is damaged.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The transactions of a block are no longer here.
    #[error("the body of block {0} was pruned; ask a node that keeps all blocks, or begin at a later height")]
    Pruned(Height),
    /// There is no chain yet.
    #[error("there is no final block yet; start the node first")]
    NoBlock,
}

/// Rows of a table in the order of its key: of blocks and transactions those at the heights `from..=to` that are final,
/// of the other tables all rows as of the snapshot's last block. Nothing when there is no block yet.
/// Errors: `Store`; each row may fail, and nothing comes after a failure.
pub fn rows(snapshot: &Snapshot, table: Table, from: Height, to: Height) -> Result<Rows<'_>, TableError> {
    let Some(tip) = snapshot.tip()? else {
        return Ok(Rows {
            snapshot,
            chain: String::new(),
            table,
            at: Height::GENESIS,
            next: None,
            page: VecDeque::new(),
        });
    };
    let at = match table {
        Table::Blocks | Table::Transactions => to.min(tip.height),
        _ => tip.height,
    };
    let next = match table {
        Table::Blocks | Table::Transactions => (from <= at).then_some(Next::Height(from)),
        Table::Validators => Some(Next::Validators),
        Table::Accounts => Some(Next::Records { prefix: Key::accounts(), after: None }),
        Table::Nodes => Some(Next::Records { prefix: Key::nodes(), after: None }),
        Table::Files | Table::Slots => Some(Next::Records { prefix: Key::files(), after: None }),
    };
    let chain = tip.header.chain.to_string();
    Ok(Rows { snapshot, chain, table, at, next, page: VecDeque::new() })
}

/// See `rows`.
pub struct Rows<'a> {
    snapshot: &'a Snapshot,
    chain: String,
    table: Table,
    /// The last height, or the height that the state is after.
    at: Height,
    next: Option<Next>,
    page: VecDeque<Row>,
}

/// What is read next.
enum Next {
    Height(Height),
    Records { prefix: Vec<u8>, after: Option<Vec<u8>> },
    Validators,
}

impl Iterator for Rows<'_> {
    type Item = Result<Row, TableError>;
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(row) = self.page.pop_front() {
                return Some(Ok(row));
            }
            let read = match self.next.take()? {
                Next::Height(height) => self.read_height(height),
                Next::Records { prefix, after } => self.read_records(prefix, after),
                Next::Validators => self.read_validators(),
            };
            if let Err(error) = read {
                self.page.clear();
                self.next = None;
                return Some(Err(error));
            }
        }
    }
}

impl Rows<'_> {
    fn read_height(&mut self, height: Height) -> Result<(), TableError> {
        // What is missing by damage is the store's error.
        let header = self.snapshot.header(height)?.ok_or(TableError::Pruned(height))?;
        let body = self.snapshot.block(height)?.map(|block| block.block.payload);
        if self.table == Table::Blocks {
            let row = block_row(&self.chain, &header, body.as_deref())?;
            self.page.push_back(Row::Blocks(row));
        } else {
            let body = body.ok_or(TableError::Pruned(height))?;
            self.read_txs(&header, &body)?;
        }
        self.next = height.next().filter(|next| *next <= self.at).map(Next::Height);
        Ok(())
    }

    fn read_txs(&mut self, header: &Header, body: &[u8]) -> Result<(), TableError> {
        let height = header.height;
        let damaged = |table: &str| StoreError::corrupted(table, format!("height {height}"));
        let txs = decode_payload(body).map_err(|_| damaged("blocks.v1"))?;
        let receipts = self.snapshot.receipts(height)?.ok_or_else(|| damaged("receipts.v1"))?;
        let receipts: Vec<Receipt> = wire::decode(&receipts, receipts.len()).map_err(|_| damaged("receipts.v1"))?;
        if receipts.len() != txs.len() {
            return Err(damaged("receipts.v1").into());
        }
        for (tx, receipt) in txs.into_iter().zip(receipts) {
            if receipt.tx != tx.id() {
                return Err(damaged("receipts.v1").into());
            }
            self.page.push_back(Row::Transactions(transaction_row(&self.chain, header, &tx, &receipt)));
        }
        Ok(())
    }

    fn read_records(&mut self, prefix: Vec<u8>, after: Option<Vec<u8>>) -> Result<(), TableError> {
        let limit = limits::EXPORT_PAGE_RECORDS;
        let page = self.snapshot.state_scan(&prefix, after.as_deref(), limit)?;
        let last = page.last().map(|(key, _)| key.clone());
        let full = page.len() == limit;
        for (key, bytes) in page {
            let damaged = || StoreError::corrupted("state.v1", hex::encode(&key));
            let key = Key::from_bytes(&key).ok_or_else(damaged)?;
            let record = Record::from_bytes(&key, &bytes).map_err(|_| damaged())?;
            self.read_record(&key, &record)?;
        }
        self.next = last.filter(|_| full).map(|last| Next::Records { prefix, after: Some(last) });
        Ok(())
    }

    fn read_record(&mut self, key: &Key, record: &Record) -> Result<(), TableError> {
        let (chain_id, as_of_height) = (self.chain.clone(), self.at.get());
        match (key, record) {
            (Key::Account(id), Record::Account(account)) => self.page.push_back(Row::Accounts(AccountRow {
                chain_id,
                as_of_height,
                account_id: id.to_string(),
                balance: account.balance.get(),
                nonce: account.nonce,
                stored: account.stored.get(),
            })),
            (Key::Node(_), Record::Node(entry)) => {
                self.page.push_back(Row::Nodes(node_row(chain_id, as_of_height, entry)));
            }
            (Key::File(file), Record::File(deal)) => {
                let manifest = self.manifest(file)?;
                self.read_deal(file, deal, manifest.as_ref());
            }
            _ => return Err(StoreError::corrupted("state.v1", format!("{key:?}")).into()),
        }
        Ok(())
    }

    fn read_deal(&mut self, file: &FileId, deal: &Deal, manifest: Option<&PublicManifest>) {
        if self.table == Table::Files {
            let row = file_row(self.chain.clone(), self.at.get(), file, deal, manifest);
            self.page.push_back(Row::Files(row));
            return;
        }
        for (slot, node) in (0_u8..=u8::MAX).zip(&deal.placement) {
            let info = manifest.and_then(|manifest| manifest.slots.get(usize::from(slot)));
            self.page.push_back(Row::Slots(SlotRow {
                chain_id: self.chain.clone(),
                as_of_height: self.at.get(),
                file_id: file.to_string(),
                slot: slot.into(),
                node_id: node.to_string(),
                slot_root: info.map(|info| info.root.to_string()),
                slot_bytes: deal.slot_len,
                confirmed: deal.confirmed.has(slot),
                lost: deal.lost.has(slot),
                strikes: deal.slots.get(usize::from(slot)).map_or(0, |state| state.strikes.into()),
            }));
        }
    }

    fn read_validators(&mut self) -> Result<(), TableError> {
        let damaged = || StoreError::corrupted("state.v1", "validators");
        let Some(Record::Validators(entries)) = self.record(&Key::Validators)? else { return Err(damaged().into()) };
        let skipped = match self.record(&Key::SkipList)? {
            Some(Record::SkipList(SkipList { indices, .. })) => indices,
            _ => Vec::new(),
        };
        for (index, entry) in (0_u16..).zip(&entries) {
            let ValidatorEntry { node, power, account } = entry;
            self.page.push_back(Row::Validators(ValidatorRow {
                chain_id: self.chain.clone(),
                as_of_height: self.at.get(),
                validator_index: index.into(),
                node_id: node.to_string(),
                account_id: account.to_string(),
                power: *power,
                skipped: skipped.contains(&index),
            }));
        }
        Ok(())
    }

    fn manifest(&self, file: &FileId) -> Result<Option<PublicManifest>, TableError> {
        match self.record(&Key::Manifest(*file))? {
            Some(Record::Manifest(manifest)) => Ok(Some(*manifest)),
            _ => Ok(None),
        }
    }

    fn record(&self, key: &Key) -> Result<Option<Record>, StoreError> {
        let bytes = self.snapshot.state(&key.bytes())?;
        let record = bytes.map(|bytes| Record::from_bytes(key, &bytes)).transpose();
        record.map_err(|_| StoreError::corrupted("state.v1", format!("{key:?}")))
    }
}

fn block_row(chain: &str, header: &Header, body: Option<&[u8]>) -> Result<BlockRow, StoreError> {
    let count = |mut body: &[u8]| u32::deserialize(&mut body).map(u64::from);
    let damaged = |_| StoreError::corrupted("blocks.v1", format!("height {}", header.height));
    Ok(BlockRow {
        chain_id: chain.to_owned(),
        height: header.height.get(),
        block_hash: header.hash().to_string(),
        parent_hash: header.parent.to_string(),
        version: header.version.into(),
        epoch: header.round.epoch.get(),
        view: header.round.view.get(),
        proposer: header.proposer.to_string(),
        time_ms: TimeMs(header.time.get()),
        tx_root: hex::encode(header.tx_root),
        receipt_root: hex::encode(header.receipt_root),
        state_root: header.state_root.to_string(),
        validator_set: hex::encode(header.validator_set),
        next_set: hex::encode(header.next_set),
        reveal: hex::encode(header.reveal),
        txs: body.map(count).transpose().map_err(damaged)?,
        payload_bytes: body.map(|body| body.len() as u64),
    })
}

fn transaction_row(chain: &str, header: &Header, tx: &Tx, receipt: &Receipt) -> TransactionRow {
    let (status, reject) = match &receipt.outcome {
        Outcome::Applied => ("applied", None),
        Outcome::Rejected(reject) => ("rejected", Some(reject)),
    };
    let mut row = TransactionRow {
        chain_id: chain.to_owned(),
        height: header.height.get(),
        tx_index: receipt.index.into(),
        tx_id: receipt.tx.to_string(),
        time_ms: TimeMs(header.time.get()),
        sender: tx.body.sender.to_string(),
        nonce: tx.body.nonce,
        action: tx.body.action.name().to_owned(),
        status: status.to_owned(),
        reject_code: reject.map(|reject| reject.code().to_owned()),
        reject_reason: reject.map(ToString::to_string),
        receiver: None,
        amount: None,
        memo: None,
        node_id: None,
        name: None,
        operator: None,
        roles: None,
        capacity: None,
        file_id: None,
        slots: None,
        min_confirmations: None,
        repair_threshold: None,
        receipts: None,
        epochs: None,
        slot: None,
        audit_epoch: None,
        proofs: None,
        drain: None,
    };
    fill_action(&mut row, &tx.body.action);
    row
}

fn fill_action(row: &mut TransactionRow, action: &Action) {
    match action {
        Action::Transfer { to, amount, memo } => {
            row.receiver = Some(to.to_string());
            row.amount = Some(amount.get());
            row.memo = Some(memo.clone()).filter(|memo| !memo.is_empty());
        }
        Action::RegisterNode(node) => {
            row.node_id = Some(node.node.to_string());
            row.name = Some(node.name.clone());
            row.operator = Some(node.operator.clone());
            row.roles = Some(json_list(node.roles.iter().map(|role| role.name())));
            row.capacity = Some(node.capacity.get());
        }
        Action::CommitFile(commit) => {
            row.file_id = Some(commit.manifest.id().to_string());
            row.slots = Some(commit.placement.len() as u64);
            row.min_confirmations = Some(commit.min_confirmations.into());
            row.repair_threshold = Some(commit.repair_threshold.into());
            row.epochs = Some(commit.epochs.into());
            row.receipts = Some(commit.receipts.len() as u64);
        }
        Action::ConfirmSlots { file, receipts } => {
            row.file_id = Some(file.to_string());
            row.receipts = Some(receipts.len() as u64);
        }
        Action::DeleteFile { file } | Action::SettleFile { file } | Action::CollectFile { file, .. } => {
            row.file_id = Some(file.to_string())
        }
        Action::ProveStorage { node, epoch, proofs } => {
            row.node_id = Some(node.to_string());
            row.audit_epoch = Some(epoch.get());
            row.proofs = Some(proofs.iter().flatten().count() as u64);
        }
        Action::TakeSlot { file, receipt } => {
            row.file_id = Some(file.to_string());
            row.node_id = Some(receipt.node.to_string());
            row.slot = Some(receipt.slot.into());
        }
        Action::DrainNode { node, drain } => {
            row.node_id = Some(node.to_string());
            row.drain = Some(*drain);
        }
        Action::RenewFile { file, epochs } => {
            row.file_id = Some(file.to_string());
            row.epochs = Some((*epochs).into());
        }
        Action::ShareFile { file, to, .. } | Action::UnshareFile { file, to } => {
            row.file_id = Some(file.to_string());
            row.receiver = Some(to.to_string());
        }
        Action::SetRoot { new, .. } => row.file_id = new.map(|file| file.to_string()),
        Action::ValidatorJoin { node, stake } => {
            row.node_id = Some(node.to_string());
            row.amount = Some(stake.get());
        }
        Action::Accuse(accusation) => row.node_id = Some(accusation.node().to_string()),
        Action::ValidatorLeave { node }
        | Action::ValidatorRotateKey { node, .. }
        | Action::ValidatorReady { node, .. }
        | Action::ValidatorUnjail { node } => row.node_id = Some(node.to_string()),
    }
}

fn node_row(chain_id: String, as_of_height: u64, entry: &NodeEntry) -> NodeRow {
    let announced = &entry.announcement;
    NodeRow {
        chain_id,
        as_of_height,
        node_id: announced.node.to_string(),
        account_id: entry.account.to_string(),
        name: announced.name.clone(),
        operator: announced.operator.clone(),
        roles: json_list(announced.roles.iter().map(|role| role.name())),
        capacity: announced.capacity.get(),
        used: entry.used.get(),
        addresses: json_list(announced.addresses.iter()),
        active: entry.active,
        registered_height: entry.registered.get(),
        held: entry.held.get(),
        draining: entry.draining,
        reputation: entry.audit.reputation.into(),
        audits_passed: entry.audit.passed,
        audits_failed: entry.audit.failed,
        samples_asked: entry.audit.asked,
        samples_answered: entry.audit.answered,
        samples_missed: entry.audit.missed,
        bytes_proven: entry.audit.bytes_proven,
    }
}

fn file_row(
    chain_id: String,
    as_of_height: u64,
    file: &FileId,
    deal: &Deal,
    manifest: Option<&PublicManifest>,
) -> FileRow {
    let status_height = match deal.status {
        DealStatus::Pending { until } => until,
        DealStatus::Final { since } => since,
        DealStatus::Deleted { at } | DealStatus::Expired { at } | DealStatus::Ended { at } => at,
    };
    FileRow {
        chain_id,
        as_of_height,
        file_id: file.to_string(),
        owner: deal.owner.to_string(),
        status: deal.status.name().to_owned(),
        status_height: status_height.get(),
        opened_height: deal.opened.get(),
        data: deal.data.into(),
        slots: deal.placement.len() as u64,
        slot_bytes: deal.slot_len,
        min_confirmations: deal.min_confirmations.into(),
        repair_threshold: deal.repair_threshold.into(),
        confirmations: deal.confirmed.len() as u64,
        lost_slots: deal.lost.len() as u64,
        taken: deal.taken.into(),
        price: deal.price,
        escrow: deal.escrow.get(),
        ends_height: deal.ends.get(),
        chunk_bytes: manifest.map(|manifest| manifest.chunk_bytes.into()),
        cipher_bytes: manifest.map(|manifest| manifest.cipher_len),
    }
}

fn json_list<T: AsRef<str>>(items: impl Iterator<Item = T>) -> String {
    let items: Vec<_> = items.map(|item| serde_json::Value::from(item.as_ref())).collect();
    serde_json::Value::from(items).to_string()
}

#[cfg(test)]
#[path = "tables_tests.rs"]
mod tests;

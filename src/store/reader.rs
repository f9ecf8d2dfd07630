//! Reading the chain's database: snapshots for any thread, and word of each new final block.

use std::sync::Arc;

use borsh::BorshDeserialize;
use redb::{ReadTransaction, ReadableDatabase, ReadableTable};
use tokio::sync::watch;

use super::db::{META_BASE, Shared, WHAT};
use super::error::{StoreError, from_redb};
use super::keys::{AccountTxKey, BlockKey, TxIndex};
use super::row::{KeyValue, get, guarded, open, open_read, scan};
use super::tables;
use super::{blocks, join};
use crate::types::{AccountId, BlockHash, Height, TxId};
use crate::wire::{Certificate, Header, ProposedBlock};

/// The last final block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tip {
    /// Its height.
    pub height: Height,
    /// Its hash.
    pub hash: BlockHash,
    /// Its header.
    pub header: Header,
}

impl Tip {
    pub(super) fn read(txn: &ReadTransaction) -> Result<Option<Self>, StoreError> {
        if join::is_joining(txn)? {
            return Ok(None);
        }
        let table = open_read(txn, tables::HEADERS)?;
        let Some((key, row)) = table.last().map_err(|error| from_redb("headers.v1", error))? else {
            return Ok(None);
        };
        let height = key.value();
        let header: Header = decoded("headers.v1", &height.get().to_be_bytes(), row.value())?;
        Ok(Some(Self { height, hash: header.hash(), header }))
    }
}

/// A final block as it is handed to those who catch up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncBlock {
    /// The block with its justification.
    pub block: ProposedBlock,
    /// Its own commit certificate, if it has one.
    pub certificate: Option<Certificate>,
}

/// Where a transaction stands in the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TxPlace {
    /// Height of the block.
    pub height: Height,
    /// Place in the block, from 0.
    pub index: u32,
}

/// A transaction of an account: only where it stands, the body is in the block.
pub type AccountTx = TxPlace;

/// Reads the chain's database; cheap to clone, for any thread.
#[derive(Clone)]
pub struct Reader {
    shared: Arc<Shared>,
}

impl Reader {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
    /// The last final block, unless there is none yet.
    pub fn tip(&self) -> Option<Tip> {
        self.shared.tip.borrow().clone()
    }
    /// Follows the last final block; heights between two looks may be skipped, the database has them all.
    pub fn watch(&self) -> watch::Receiver<Option<Tip>> {
        self.shared.tip.subscribe()
    }
    /// The database as it is now. Pages that it sees are not reused while it lives, so it should not live long.
    /// Errors: `Io`, `Stopped`.
    pub fn snapshot(&self) -> Result<Snapshot, StoreError> {
        let txn = guarded(WHAT, || self.shared.db.begin_read().map_err(|error| from_redb(WHAT, error)))?;
        Ok(Snapshot { txn })
    }
}

/// One consistent view of the chain's database, and the state tree's nodes in it (`ledger::tree::TreeReader`). Errors of all its methods: `Corrupted`, `Io`, `Stopped`.
pub struct Snapshot {
    txn: ReadTransaction,
}

impl Snapshot {
    /// A copy of all of it in a new file, where a key that has signed is in quarantine. Errors: also `Exists`.
    pub fn copy_to(&self, path: &std::path::Path) -> Result<(), StoreError> {
        guarded(WHAT, || super::copy::chain(&self.txn, path))
    }

    /// The last final block.
    pub fn tip(&self) -> Result<Option<Tip>, StoreError> {
        guarded("headers.v1", || Tip::read(&self.txn))
    }

    /// Header of a final block; none above the tip, and where this database does not reach back to.
    pub fn header(&self, height: Height) -> Result<Option<Header>, StoreError> {
        let header = self.value(tables::HEADERS, height)?;
        if header.is_none() && height >= self.base()? && self.tip()?.is_some_and(|tip| height <= tip.height) {
            return Err(StoreError::corrupted("headers.v1", format!("height {height}, which is missing")));
        }
        Ok(header)
    }

    /// The height that this database begins with: genesis, or the height of the snapshot that it was made from. Of the
    /// headers before it only some are there.
    pub fn base(&self) -> Result<Height, StoreError> {
        join::base(self.bytes(tables::META, META_BASE)?)
    }

    /// The lowest final height whose body is here.
    pub fn first_body(&self) -> Result<Option<Height>, StoreError> {
        guarded("blocks.v1", || {
            let table = open_read(&self.txn, tables::BLOCKS)?;
            let first = table.first().map_err(|error| from_redb("blocks.v1", error))?;
            Ok(first.map(|(key, _)| key.value().height))
        })
    }

    /// Headers of final blocks from a height on, ascending, at most `limit`.
    pub fn headers(&self, from: Height, limit: usize) -> Result<Vec<Header>, StoreError> {
        guarded("headers.v1", || {
            let table = open_read(&self.txn, tables::HEADERS)?;
            let rows = table.range(from..).map_err(|error| from_redb("headers.v1", error))?;
            let one = |row: Result<(redb::AccessGuard<'_, Height>, redb::AccessGuard<'_, &[u8]>), _>| {
                let (key, row) = row.map_err(|error| from_redb("headers.v1", error))?;
                decoded("headers.v1", &key.value().get().to_be_bytes(), row.value())
            };
            rows.take(limit).map(one).collect()
        })
    }

    /// Height of a final block.
    pub fn height_of(&self, hash: &BlockHash) -> Result<Option<Height>, StoreError> {
        let bytes = self.bytes(tables::BLOCK_HEIGHTS, *hash)?;
        let height = |bytes: Vec<u8>| <[u8; 8]>::try_from(bytes).map(u64::from_be_bytes).map(Height::new);
        let height = bytes.map(height).transpose();
        height.map_err(|_| StoreError::corrupted("block_heights.v1", hash.to_string()))
    }

    /// A final block; none when it is above the tip or its body was pruned.
    pub fn block(&self, height: Height) -> Result<Option<ProposedBlock>, StoreError> {
        match self.header(height)? {
            Some(header) => self.block_at(BlockKey { height, hash: header.hash() }),
            None => Ok(None),
        }
    }

    /// A block by its hash, final or pending.
    pub fn block_by_hash(&self, hash: &BlockHash) -> Result<Option<ProposedBlock>, StoreError> {
        let height = match self.height_of(hash)? {
            Some(height) => Some(height),
            None => self.pending_keys()?.into_iter().find(|key| key.hash == *hash).map(|key| key.height),
        };
        match height {
            Some(height) => self.block_at(BlockKey { height, hash: *hash }),
            None => Ok(None),
        }
    }

    /// All blocks kept that are not final yet, ascending by height.
    pub fn pending_blocks(&self) -> Result<Vec<ProposedBlock>, StoreError> {
        let keys = self.pending_keys()?;
        keys.into_iter().filter_map(|key| self.block_at(key).transpose()).collect()
    }

    fn pending_keys(&self) -> Result<Vec<BlockKey>, StoreError> {
        let above = self.tip()?.map_or(Some(Height::GENESIS), |tip| tip.height.next());
        let Some(above) = above else { return Ok(Vec::new()) };
        guarded("blocks.v1", || {
            let table = open_read(&self.txn, tables::BLOCKS)?;
            let rows = table.range(BlockKey::first(above)..).map_err(|error| from_redb("blocks.v1", error))?;
            let keys: Result<_, _> = rows.map(|row| row.map(|(key, _)| key.value())).collect();
            keys.map_err(|error| from_redb("blocks.v1", error))
        })
    }

    /// Commit certificate of a final block, if it has its own.
    pub fn certificate(&self, height: Height) -> Result<Option<Certificate>, StoreError> {
        self.value(tables::CERTIFICATES, height)
    }

    /// The first commit certificate at a height or above: it finalizes that block and all below.
    pub fn certificate_from(&self, height: Height) -> Result<Option<Certificate>, StoreError> {
        guarded("certificates.v1", || {
            let table = open_read(&self.txn, tables::CERTIFICATES)?;
            let mut rows = table.range(height..).map_err(|error| from_redb("certificates.v1", error))?;
            let Some(row) = rows.next() else { return Ok(None) };
            let (key, row) = row.map_err(|error| from_redb("certificates.v1", error))?;
            decoded("certificates.v1", &key.value().get().to_be_bytes(), row.value()).map(Some)
        })
    }

    /// Final blocks from a height on for one who catches up: at most `count`, and no more than `bytes` of encoded
    /// blocks, but always the first. Ends early at the tip or before a pruned body.
    pub fn blocks(&self, from: Height, count: usize, bytes: usize) -> Result<Vec<SyncBlock>, StoreError> {
        let mut left = bytes;
        let mut out = Vec::new();
        let mut next = Some(from);
        while let Some(height) = next.filter(|_| out.len() < count) {
            let Some(header) = self.header(height)? else { break };
            let key = BlockKey { height, hash: header.hash() };
            let Some(encoded) = self.block_bytes(key)? else { break };
            if encoded.len() > left && !out.is_empty() {
                break;
            }
            left = left.saturating_sub(encoded.len());
            out.push(SyncBlock { block: decoded_block(key, &encoded)?, certificate: self.certificate(height)? });
            next = height.next();
        }
        Ok(out)
    }

    /// Receipts of a final block's transactions, canonical bytes.
    pub fn receipts(&self, height: Height) -> Result<Option<Vec<u8>>, StoreError> {
        self.bytes(tables::RECEIPTS, height)
    }

    /// Place of a final transaction.
    pub fn tx(&self, id: &TxId) -> Result<Option<TxPlace>, StoreError> {
        let Some(bytes) = self.bytes(tables::TXS, *id)? else { return Ok(None) };
        let place = bytes.split_first_chunk::<8>().and_then(|(height, index)| {
            let index = u32::from_be_bytes(index.try_into().ok()?);
            Some(TxPlace { height: Height::new(u64::from_be_bytes(*height)), index })
        });
        place.map(Some).ok_or_else(|| StoreError::corrupted("txs.v1", id.to_string()))
    }

    /// Transactions that touch an account, the newest first, those before `before` if given, at most `limit`.
    pub fn account_txs(
        &self,
        account: &AccountId,
        before: Option<TxPlace>,
        limit: usize,
    ) -> Result<Vec<AccountTx>, StoreError> {
        let at = |height, index| AccountTxKey { account: *account, height, index: TxIndex(index) };
        let first = at(Height::GENESIS, 0);
        // The place past the last one is no transaction's: a block has far fewer.
        let end = before.map_or(at(Height::new(u64::MAX), u32::MAX), |place| at(place.height, place.index));
        guarded("account_txs.v1", || {
            let table = open_read(&self.txn, tables::ACCOUNT_TXS)?;
            let rows = table.range(first..end).map_err(|error| from_redb("account_txs.v1", error))?;
            let place = |key: AccountTxKey| TxPlace { height: key.height, index: key.index.0 };
            let places = rows.rev().take(limit).map(|row| row.map(|(key, _)| place(key.value())));
            places.collect::<Result<_, _>>().map_err(|error| from_redb("account_txs.v1", error))
        })
    }

    /// One of the ledger's records.
    pub fn state(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.bytes(tables::STATE, key)
    }

    /// The ledger's records whose keys begin with a prefix, ascending, those after the key `after` if given, at most
    /// `limit`. The last key is the next call's `after`.
    pub fn state_scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<KeyValue>, StoreError> {
        guarded("state.v1", || scan(&open_read(&self.txn, tables::STATE)?, tables::STATE, prefix, after, limit))
    }

    fn block_bytes(&self, key: BlockKey) -> Result<Option<Vec<u8>>, StoreError> {
        guarded("blocks.v1", || blocks::read(&self.txn, key))
    }

    fn block_at(&self, key: BlockKey) -> Result<Option<ProposedBlock>, StoreError> {
        self.block_bytes(key)?.map(|bytes| decoded_block(key, &bytes)).transpose()
    }

    pub(super) fn bytes<'k, K: redb::Key + 'static>(
        &self,
        table: tables::Rows<K>,
        key: K::SelfType<'k>,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let name = redb::TableHandle::name(&table);
        guarded(name, || get(&open_read(&self.txn, table)?, table, key))
    }

    fn value<'k, K: redb::Key + 'static, T: BorshDeserialize>(
        &self,
        table: tables::Rows<K>,
        key: K::SelfType<'k>,
    ) -> Result<Option<T>, StoreError> {
        let text = format!("{key:?}");
        let Some(bytes) = self.bytes(table, key)? else { return Ok(None) };
        let damaged = || StoreError::corrupted(redb::TableHandle::name(&table), text);
        decode(&bytes).map(Some).ok_or_else(damaged)
    }
}

fn decoded_block(key: BlockKey, bytes: &[u8]) -> Result<ProposedBlock, StoreError> {
    decode(bytes).ok_or_else(|| StoreError::corrupted("blocks.v1", key.hash.to_string()))
}

fn decode<T: BorshDeserialize>(bytes: &[u8]) -> Option<T> {
    crate::wire::decode(bytes, bytes.len()).ok()
}

fn decoded<T: BorshDeserialize>(table: &str, key: &[u8], row: &[u8]) -> Result<T, StoreError> {
    decode(open(table, key, row)?).ok_or_else(|| StoreError::corrupted(table, hex::encode(key)))
}

//! Keys of the tables: newtypes with fixed width and big-endian bytes, so that byte order is their order.

use std::cmp::Ordering;

use redb::{Key, TypeName, Value};

use crate::types::{AccountId, BlockHash, Height, TxId};

/// Place of a transaction in its block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TxIndex(pub u32);

/// A block's height, then its hash: final and pending blocks of one height lie together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BlockKey {
    /// The height.
    pub height: Height,
    /// The hash.
    pub hash: BlockHash,
}

impl BlockKey {
    /// The lowest key of a height.
    pub(super) const fn first(height: Height) -> Self {
        Self { height, hash: BlockHash::from_bytes([0; 32]) }
    }
    /// The highest key of a height.
    pub(super) const fn last(height: Height) -> Self {
        Self { height, hash: BlockHash::from_bytes([0xff; 32]) }
    }
}

/// A piece of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PieceKey {
    /// The block.
    pub block: BlockKey,
    /// Which piece.
    pub piece: u16,
}

impl PieceKey {
    /// The lowest key of a block.
    pub(super) const fn first(block: BlockKey) -> Self {
        Self { block, piece: 0 }
    }
    /// The highest key of a block.
    pub(super) const fn last(block: BlockKey) -> Self {
        Self { block, piece: u16::MAX }
    }
}

/// An account's transaction, by its place in the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AccountTxKey {
    /// The account.
    pub account: AccountId,
    /// Height of the block.
    pub height: Height,
    /// Place in the block.
    pub index: TxIndex,
}

/// A key as its bytes.
pub(super) trait FixedKey: Copy {
    type Bytes: AsRef<[u8]>;
    fn to_bytes(self) -> Self::Bytes;
    fn parse(bytes: &[u8]) -> Self;
}

/// The `N` bytes at an offset. redb gives back what it was given, with the table's fixed width.
fn part<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    if let Some(found) = bytes.get(at..at + N) {
        out.copy_from_slice(found);
    }
    out
}

impl FixedKey for Height {
    type Bytes = [u8; 8];
    fn to_bytes(self) -> [u8; 8] {
        self.get().to_be_bytes()
    }
    fn parse(bytes: &[u8]) -> Self {
        Self::new(u64::from_be_bytes(part(bytes, 0)))
    }
}

impl FixedKey for BlockHash {
    type Bytes = [u8; 32];
    fn to_bytes(self) -> [u8; 32] {
        *self.as_bytes()
    }
    fn parse(bytes: &[u8]) -> Self {
        Self::from_bytes(part(bytes, 0))
    }
}

impl FixedKey for TxId {
    type Bytes = [u8; 32];
    fn to_bytes(self) -> [u8; 32] {
        *self.as_bytes()
    }
    fn parse(bytes: &[u8]) -> Self {
        Self::from_bytes(part(bytes, 0))
    }
}

impl FixedKey for BlockKey {
    type Bytes = [u8; 40];
    fn to_bytes(self) -> [u8; 40] {
        let mut out = [0; 40];
        out[..8].copy_from_slice(&self.height.get().to_be_bytes());
        out[8..].copy_from_slice(self.hash.as_bytes());
        out
    }
    fn parse(bytes: &[u8]) -> Self {
        let height = Height::new(u64::from_be_bytes(part(bytes, 0)));
        Self { height, hash: BlockHash::from_bytes(part(bytes, 8)) }
    }
}

impl FixedKey for PieceKey {
    type Bytes = [u8; 42];
    fn to_bytes(self) -> [u8; 42] {
        let mut out = [0; 42];
        out[..40].copy_from_slice(&self.block.to_bytes());
        out[40..].copy_from_slice(&self.piece.to_be_bytes());
        out
    }
    fn parse(bytes: &[u8]) -> Self {
        let block = BlockKey::parse(bytes.get(..40).unwrap_or_default());
        Self { block, piece: u16::from_be_bytes(part(bytes, 40)) }
    }
}

impl FixedKey for AccountTxKey {
    type Bytes = [u8; 44];
    fn to_bytes(self) -> [u8; 44] {
        let mut out = [0; 44];
        out[..32].copy_from_slice(self.account.as_bytes());
        out[32..40].copy_from_slice(&self.height.get().to_be_bytes());
        out[40..].copy_from_slice(&self.index.0.to_be_bytes());
        out
    }
    fn parse(bytes: &[u8]) -> Self {
        Self {
            account: AccountId::from_bytes(part(bytes, 0)),
            height: Height::new(u64::from_be_bytes(part(bytes, 32))),
            index: TxIndex(u32::from_be_bytes(part(bytes, 40))),
        }
    }
}

macro_rules! redb_keys {
    ($($name:ident: $width:literal;)*) => {$(
        impl Value for $name {
            type SelfType<'a> = $name;
            type AsBytes<'a> = [u8; $width];
            fn fixed_width() -> Option<usize> { Some($width) }
            fn from_bytes<'a>(data: &'a [u8]) -> Self where Self: 'a { Self::parse(data) }
            fn as_bytes<'a, 'b: 'a>(value: &'a Self) -> [u8; $width] where Self: 'b { value.to_bytes() }
            fn type_name() -> TypeName { TypeName::new(concat!("trullo::", stringify!($name))) }
        }

        impl Key for $name {
            fn compare(left: &[u8], right: &[u8]) -> Ordering { left.cmp(right) }
        }
    )*};
}

redb_keys! {
    Height: 8;
    BlockHash: 32;
    TxId: 32;
    BlockKey: 40;
    PieceKey: 42;
    AccountTxKey: 44;
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn account_tx(n: (u8, u64, u32)) -> AccountTxKey {
        let account = AccountId::from_bytes([n.0; 32]);
        AccountTxKey { account, height: Height::new(n.1), index: TxIndex(n.2) }
    }

    proptest! {
        #[test]
        fn byte_order_is_key_order_and_bytes_come_back(a: (u8, u64, u32), b: (u8, u64, u32)) {
            let (left, right) = (account_tx(a), account_tx(b));
            prop_assert_eq!(left.to_bytes().cmp(&right.to_bytes()), left.cmp(&right));
            prop_assert_eq!(AccountTxKey::parse(&left.to_bytes()), left);
            let block = |n: (u8, u64, u32)| BlockKey { height: Height::new(n.1), hash: BlockHash::from_bytes([n.0; 32]) };
            prop_assert_eq!(block(a).to_bytes().cmp(&block(b).to_bytes()), block(a).cmp(&block(b)));
            prop_assert_eq!(BlockKey::parse(&block(a).to_bytes()), block(a));
            let piece = |n: (u8, u64, u32)| PieceKey { block: block(n), piece: n.2 as u16 };
            prop_assert_eq!(piece(a).to_bytes().cmp(&piece(b).to_bytes()), piece(a).cmp(&piece(b)));
            prop_assert_eq!(PieceKey::parse(&piece(a).to_bytes()), piece(a));
        }
    }
}

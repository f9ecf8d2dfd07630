//! Blocks: a header that is hashed and signed, and the payload that it commits to.

use std::io::Read as _;

use borsh::{BorshDeserialize, BorshSerialize, io};
use bytes::Bytes;

use super::{DecodeError, Tx, VerifiedTx};
use crate::crypto::{Domain, hash};
use crate::types::{BlockHash, ChainId, Height, Millis, NodeId, Round, StateRoot, limits};

/// The first version of the rules.
pub const BLOCK_VERSION_FIRST: u16 = 1;
/// The latest version of the rules that this program knows.
pub const BLOCK_VERSION: u16 = 1;

/// Everything that a block promises. Its hash is the block's name.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Header {
    /// Version of the rules under which it was made.
    pub version: u16,
    /// The chain.
    pub chain: ChainId,
    /// Parent's height plus one.
    pub height: Height,
    /// The view in which it was first proposed.
    pub round: Round,
    /// Who proposed it.
    pub proposer: NodeId,
    /// The block it extends.
    pub parent: BlockHash,
    /// Merkle root over its transactions.
    pub tx_root: [u8; 32],
    /// Merkle root over its receipts.
    pub receipt_root: [u8; 32],
    /// Root of the state tree after it.
    pub state_root: StateRoot,
    /// Hash of the validator set that votes on it.
    pub validator_set: [u8; 32],
    /// Hash of the validator set that votes on the block after it: another one only in an epoch's last block, so that each
    /// set is certified by the one before it.
    pub next_set: [u8; 32],
    /// Proposer's clock, milliseconds since the Unix epoch; greater than the parent's (protocol rule 20).
    pub time: Millis,
    /// Next preimage of the proposer's registered hash chain.
    pub reveal: [u8; 32],
}

impl Header {
    /// The block's name.
    pub fn hash(&self) -> BlockHash {
        BlockHash::from_bytes(hash(Domain::Block, &super::encode(self)))
    }
}

/// A header with its payload. Whether they belong together is for the ledger's shell to check.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Block {
    /// The header.
    pub header: Header,
    /// Encoded transactions; consensus never looks inside.
    #[borsh(deserialize_with = "read_payload")]
    pub payload: Bytes,
}

impl Block {
    /// The block's name.
    pub fn hash(&self) -> BlockHash {
        self.header.hash()
    }
}

/// The bytes of a payload, in one copy. A length that lies costs at most the room of the longest payload.
fn read_payload<R: io::Read>(reader: &mut R) -> io::Result<Bytes> {
    let len = u32::deserialize_reader(reader)?;
    let mut payload = Vec::with_capacity((len as usize).min(limits::BLOCK_PAYLOAD_BYTES_MAX));
    reader.take(u64::from(len)).read_to_end(&mut payload)?;
    if payload.len() != len as usize {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(payload.into())
}

/// The payload of a block with these transactions: the canonical bytes of their list.
pub fn encode_payload(txs: &[VerifiedTx]) -> Bytes {
    let count = u32::try_from(txs.len());
    assert!(count.is_ok_and(|n| n as usize <= limits::BLOCK_TXS_MAX), "a block holds a bounded number of transactions");
    let bytes: usize = txs.iter().map(|tx| tx.encoded().len()).sum();
    let mut out = Vec::with_capacity(bytes + 4);
    out.extend_from_slice(&(txs.len() as u32).to_le_bytes());
    for tx in txs {
        out.extend_from_slice(tx.encoded());
    }
    out.into()
}

/// The transactions of a payload. Errors: `TooLong`, `Malformed`, also for too many transactions.
pub fn decode_payload(payload: &[u8]) -> Result<Vec<Tx>, DecodeError> {
    let txs: Vec<Tx> = super::decode(payload, limits::BLOCK_PAYLOAD_BYTES_MAX)?;
    if txs.len() > limits::BLOCK_TXS_MAX {
        let (have, max) = (txs.len(), limits::BLOCK_TXS_MAX);
        return Err(DecodeError::Malformed(format!("{have} transactions; a block has at most {max}")));
    }
    Ok(txs)
}

//! Genesis: what a chain begins with. Its hash is the chain id, to which every signature is bound.
//!
//! The nodes listed here carry no binding signature: what they would sign contains the chain id, which is not known before
//! the list is complete. They are bound by the genesis itself; whoever joins the chain agrees to all of it.
//! Not here: the JSON file (`config`).

use std::collections::BTreeSet;

use borsh::{BorshDeserialize, BorshSerialize};

use super::effects::Changes;
use super::key::Key;
use super::node::counted_operator;
use super::record::{
    Account, NodeEntry, Params, Record, SkipList, StorageParams, Tip, ValidatorEntry, ValidatorParams, validator_set,
};
use super::tree::{self, Overlay, TreeReader, TreeUpdate};
use super::validator::genesis_stakes;
use crate::crypto::{Domain, PublicKey, Signature, hash, merkle};
use crate::types::{AccountId, Amount, BlockHash, ChainId, Height, Millis, NodeId, Role, Round, limits};
use crate::wire::block::BLOCK_VERSION_FIRST;
use crate::wire::tx::NodeAnnouncement;
use crate::wire::validators::ValidatorSetError;
use crate::wire::verified::{Malformed, check_announcement};
use crate::wire::{Block, Header, ValidatorSet, encode};

/// Version of the genesis format.
pub const GENESIS_VERSION: u16 = 1;

/// What a chain begins with. Lists are strictly ascending by id (`sorted` makes them so): one content, one chain id.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Genesis {
    /// Version of this format: 1.
    pub version: u16,
    /// A name for people.
    pub name: String,
    /// Time of the genesis block, milliseconds since the Unix epoch.
    pub time: Millis,
    /// Blocks in an epoch, at least 1.
    pub epoch_blocks: u64,
    /// Blocks that a file's deal may stay pending, at least 1.
    pub pending_blocks: u64,
    /// Pacing that all validators share.
    pub timing: Timing,
    /// Audits, payment and quotas of storage.
    pub storage: StorageParams,
    /// Stakes of validators.
    pub staking: ValidatorParams,
    /// Accounts and their credits.
    pub accounts: Vec<GenesisAccount>,
    /// Nodes that are registered from the start; the validators among them.
    pub nodes: Vec<GenesisNode>,
    /// The validators.
    pub validators: Vec<ValidatorEntry>,
}

/// Pacing of consensus, alike on all validators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Timing {
    /// How long a leader without transactions waits before it proposes an empty block.
    pub idle_interval: Millis,
    /// Least time that a view is given before it is given up.
    pub view_floor: Millis,
    /// Most time that a view is given, however often the ones before failed.
    pub view_cap: Millis,
}

/// An account that exists from the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct GenesisAccount {
    /// Its public key.
    pub account: AccountId,
    /// Its credits; all of them together are the supply.
    pub balance: Amount,
}

/// A node that is registered from the start.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct GenesisNode {
    /// The account that it belongs to, one of those listed.
    pub account: AccountId,
    /// Its announcement, with a binding of zeros.
    pub announcement: NodeAnnouncement,
}

/// The binding of a node that the genesis itself binds.
pub const NO_BINDING: Signature = Signature::from_bytes([0; 64]);

/// Why a genesis is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GenesisError {
    /// A version that this program does not know.
    #[error("genesis version {have}, this program knows {need}", need = GENESIS_VERSION)]
    Version {
        /// The version.
        have: u16,
    },
    /// Longer than the limit.
    #[error("{have} bytes; a genesis has at most {max}", max = limits::GENESIS_BYTES_MAX)]
    Bytes {
        /// Its length.
        have: usize,
    },
    /// The name is empty or too long.
    #[error("chain name of {have} bytes; allowed are 1 to {max}", max = limits::NAME_BYTES_MAX)]
    Name {
        /// Its length.
        have: usize,
    },
    /// A number of blocks that must not be zero.
    #[error("{0} must be at least 1")]
    Zero(&'static str),
    /// Pacing that contradicts itself.
    #[error("view_floor {floor} must be above zero and not above view_cap {cap}")]
    Timing {
        /// `view_floor`.
        floor: Millis,
        /// `view_cap`.
        cap: Millis,
    },
    /// Storage parameters that contradict themselves.
    #[error("storage: {0}")]
    Storage(&'static str),
    /// Parameters of stakes that contradict themselves.
    #[error("staking: {0}")]
    Staking(&'static str),
    /// An id twice.
    #[error("{list}: {id} is listed twice")]
    Twice {
        /// Which list.
        list: &'static str,
        /// The id.
        id: String,
    },
    /// A list out of order.
    #[error("{list}: {id} stands out of order; sort by id")]
    Order {
        /// Which list.
        list: &'static str,
        /// The id.
        id: String,
    },
    /// An account's key is unusable.
    #[error("account {0} is no usable ed25519 public key")]
    AccountKey(AccountId),
    /// The balances add up to more than there can be.
    #[error("the balances and stakes add up to more than 2^64 - 1 credits")]
    Supply,
    /// An account that is named but not listed.
    #[error("{list}: {id} belongs to account {account}, which is not listed")]
    NoAccount {
        /// Which list.
        list: &'static str,
        /// The node.
        id: NodeId,
        /// Its account.
        account: AccountId,
    },
    /// A node's announcement is not within the limits.
    #[error("node {node}: {reason}")]
    Node {
        /// The node.
        node: NodeId,
        /// What is wrong.
        reason: Malformed,
    },
    /// A binding signature where none can be.
    #[error("node {0} has a binding signature; in a genesis it is all zeros")]
    Binding(NodeId),
    /// A validator that is no registered validator node of its account.
    #[error("validator {node}: {problem}")]
    Validator {
        /// The node.
        node: NodeId,
        /// What is wrong.
        problem: &'static str,
    },
    /// The validators are no validator set.
    #[error("validators: {0}")]
    Validators(#[from] ValidatorSetError),
}

impl Genesis {
    /// The same with all lists in order.
    pub fn sorted(mut self) -> Self {
        self.accounts.sort_by_key(|entry| entry.account);
        self.nodes.sort_by_key(|entry| entry.announcement.node);
        self.validators.sort_by_key(|entry| entry.node);
        self
    }
    /// The chain id: the hash of the canonical bytes.
    pub fn chain_id(&self) -> ChainId {
        ChainId::from_bytes(hash(Domain::Chain, &encode(self)))
    }
    /// Whether a chain can begin with it. Everything else here expects that it can.
    /// Errors: each of `GenesisError`.
    pub fn check(&self) -> Result<(), GenesisError> {
        if self.version != GENESIS_VERSION {
            return Err(GenesisError::Version { have: self.version });
        }
        let have = encode(self).len();
        if have > limits::GENESIS_BYTES_MAX {
            return Err(GenesisError::Bytes { have });
        }
        let have = self.name.len();
        if have == 0 || have > limits::NAME_BYTES_MAX {
            return Err(GenesisError::Name { have });
        }
        let counts = [("epoch_blocks", self.epoch_blocks), ("pending_blocks", self.pending_blocks)];
        if let Some((name, _)) = counts.into_iter().find(|(_, blocks)| *blocks == 0) {
            return Err(GenesisError::Zero(name));
        }
        let Timing { view_floor: floor, view_cap: cap, .. } = self.timing;
        if floor == Millis::ZERO || floor > cap {
            return Err(GenesisError::Timing { floor, cap });
        }
        if let Some(problem) = self.storage.problem(self.epoch_blocks) {
            return Err(GenesisError::Storage(problem));
        }
        if let Some(problem) = self.staking.problem() {
            return Err(GenesisError::Staking(problem));
        }
        self.check_accounts()?;
        self.check_nodes()?;
        self.check_validators()
    }
    fn check_accounts(&self) -> Result<(), GenesisError> {
        ascending("accounts", self.accounts.iter().map(|entry| entry.account))?;
        for GenesisAccount { account, .. } in &self.accounts {
            PublicKey::from_bytes(account.as_bytes()).map_err(|_| GenesisError::AccountKey(*account))?;
        }
        self.supply().map(|_| ())
    }
    fn supply(&self) -> Result<Amount, GenesisError> {
        let sum = |sum: Amount, entry: &GenesisAccount| sum.checked_add(entry.balance);
        let stake = |sum: Amount, entry: &ValidatorEntry| {
            sum.checked_add(Amount::new(entry.power.checked_mul(self.staking.stake_unit)?))
        };
        let balances = self.accounts.iter().try_fold(Amount::ZERO, sum);
        balances.and_then(|balances| self.validators.iter().try_fold(balances, stake)).ok_or(GenesisError::Supply)
    }
    fn check_nodes(&self) -> Result<(), GenesisError> {
        ascending("nodes", self.nodes.iter().map(|entry| entry.announcement.node))?;
        let accounts: BTreeSet<_> = self.accounts.iter().map(|entry| entry.account).collect();
        for GenesisNode { account, announcement } in &self.nodes {
            let node = announcement.node;
            check_announcement(announcement).map_err(|reason| GenesisError::Node { node, reason })?;
            if announcement.binding != NO_BINDING {
                return Err(GenesisError::Binding(node));
            }
            if !accounts.contains(account) {
                return Err(GenesisError::NoAccount { list: "nodes", id: node, account: *account });
            }
        }
        Ok(())
    }
    fn check_validators(&self) -> Result<(), GenesisError> {
        ascending("validators", self.validators.iter().map(|entry| entry.node))?;
        for entry in &self.validators {
            let node = entry.node;
            let problem = match self.node(&node) {
                None => "is not among the nodes",
                Some(listed) if !listed.announcement.roles.has(Role::Validator) => "has not the role validator",
                Some(listed) if listed.account != entry.account => "belongs to another account",
                Some(_) => continue,
            };
            return Err(GenesisError::Validator { node, problem });
        }
        validator_set(&self.validators)?;
        Ok(())
    }
    fn node(&self, node: &NodeId) -> Option<&GenesisNode> {
        let at = self.nodes.binary_search_by(|entry| entry.announcement.node.cmp(node)).ok()?;
        self.nodes.get(at)
    }
    /// The validators of the first epochs. Errors: those of `ValidatorSet::new`.
    pub fn validator_set(&self) -> Result<ValidatorSet, GenesisError> {
        Ok(validator_set(&self.validators)?)
    }
    /// What the genesis fixes for good. Errors: `Supply`.
    pub fn params(&self) -> Result<Params, GenesisError> {
        let (epoch_blocks, pending_blocks, storage) = (self.epoch_blocks, self.pending_blocks, self.storage);
        Ok(Params { supply: self.supply()?, epoch_blocks, pending_blocks, storage, validators: self.staking })
    }
    /// Every record that the state begins with. Errors: `Supply`.
    pub fn records(&self) -> Result<Changes, GenesisError> {
        let params = self.params()?;
        let beacon = hash(Domain::Beacon, &[b"genesis", self.chain_id().as_bytes().as_slice()].concat());
        let tip = Tip { height: Height::GENESIS, beacon, due: (Height::new(1), 0) };
        let mut all = Changes::from([
            (Key::Params, Some(Record::Params(params))),
            (Key::Tip, Some(Record::Tip(tip))),
            (Key::Validators, Some(Record::Validators(self.validators.clone()))),
            (Key::SkipList, Some(Record::SkipList(SkipList::default()))),
            (Key::Stakes, Some(Record::Stakes(genesis_stakes(&self.validators, self.staking.stake_unit)))),
            (Key::Tally, Some(Record::Tally(Box::default()))),
        ]);
        for GenesisAccount { account, balance } in &self.accounts {
            let record = Record::Account(Account { balance: *balance, ..Account::default() });
            all.insert(Key::Account(*account), Some(record));
        }
        let mut operators = std::collections::BTreeMap::<String, u64>::new();
        for GenesisNode { account, announcement } in &self.nodes {
            let entry = NodeEntry::new(*account, announcement.clone(), Height::GENESIS);
            if let Some(operator) = counted_operator(&entry) {
                let nodes = operators.entry(operator.to_owned()).or_default();
                *nodes = nodes.saturating_add(1);
            }
            all.insert(Key::Node(announcement.node), Some(Record::Node(Box::new(entry))));
        }
        all.insert(Key::OperatorCount, Some(Record::OperatorCount(operators.len() as u64)));
        all.extend(operators.into_iter().map(|(name, n)| (Key::Operator(name), Some(Record::Operator(n)))));
        Ok(all)
    }
    /// The state tree of the genesis block. Errors: those of `check`.
    pub fn tree(&self) -> Result<TreeUpdate, GenesisError> {
        let tree = tree::update(&Overlay::new(&EmptyTree, &[]), Height::GENESIS, &self.records()?);
        Ok(tree.expect("the first tree reads nothing, so reading cannot fail"))
    }
    /// The genesis block, which no one signs. Errors: those of `check`.
    pub fn block(&self) -> Result<Block, GenesisError> {
        let empty = merkle::root(&[]);
        let header = Header {
            version: BLOCK_VERSION_FIRST,
            chain: self.chain_id(),
            height: Height::GENESIS,
            round: Round::default(),
            proposer: NodeId::from_bytes([0; 32]),
            parent: BlockHash::from_bytes([0; 32]),
            tx_root: empty,
            receipt_root: empty,
            state_root: self.tree()?.root(),
            validator_set: self.validator_set()?.hash(),
            next_set: self.validator_set()?.hash(),
            time: self.time,
            reveal: [0; 32],
        };
        Ok(Block { header, payload: crate::wire::block::encode_payload(&[]) })
    }
}

/// The tree before genesis.
pub(super) struct EmptyTree;

impl TreeReader for EmptyTree {
    type Error = std::convert::Infallible;
    fn node(&self, _: &[u8]) -> Result<Option<Vec<u8>>, Self::Error> {
        Ok(None)
    }
}

fn ascending<T: Ord + ToString>(list: &'static str, ids: impl Iterator<Item = T>) -> Result<(), GenesisError> {
    let mut last: Option<T> = None;
    for id in ids {
        match last.as_ref().map(|last| last.cmp(&id)) {
            Some(std::cmp::Ordering::Equal) => return Err(GenesisError::Twice { list, id: id.to_string() }),
            Some(std::cmp::Ordering::Greater) => return Err(GenesisError::Order { list, id: id.to_string() }),
            _ => last = Some(id),
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "genesis_tests.rs"]
mod tests;

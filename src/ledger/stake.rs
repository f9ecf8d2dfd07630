//! Stakes: the credits behind validators, and what the genesis fixed for them.
//!
//! Not here: the rules (`validator`), who votes from the next epoch on (`turnover`).

use borsh::{BorshDeserialize, BorshSerialize};

use super::record::ValidatorEntry;
use crate::types::{AccountId, Amount, Epoch, Height, NodeId};

/// With fewer validators than this nobody is jailed for being away: without them the set bears no failure at all.
pub const JAIL_LEAST: usize = 5;
/// A thousand: what `slash_permille` is a part of.
pub const PERMILLE: u16 = 1_000;

/// What the genesis fixed for validators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct ValidatorParams {
    /// Credits for one unit of power, at least 1.
    pub stake_unit: u64,
    /// Epochs for which a stake stays after its validator is out of the set, at least 1: so long it answers for offences.
    pub unbonding_epochs: u32,
    /// Epochs in a row on the skip list after which a validator is jailed; 0 for never.
    pub jail_after: u32,
    /// Epochs in jail for that, at least 1.
    pub jail_epochs: u32,
    /// Thousandths of the stake that a validator loses when it contradicts itself, at most 1,000.
    pub slash_permille: u16,
}

impl ValidatorParams {
    /// What suits most networks. Being away is not punished: where validators are few, each jailed one is missed.
    pub const fn usual() -> Self {
        Self { stake_unit: 1_000, unbonding_epochs: 8, jail_after: 0, jail_epochs: 4, slash_permille: 100 }
    }
    /// What is wrong with them.
    pub fn problem(&self) -> Option<&'static str> {
        if self.stake_unit == 0 {
            Some("stake_unit must be at least 1")
        } else if self.unbonding_epochs == 0 {
            Some("unbonding_epochs must be at least 1")
        } else if self.jail_epochs == 0 {
            Some("jail_epochs must be at least 1")
        } else if self.slash_permille > PERMILLE {
            Some("slash_permille must be at most 1000")
        } else {
            None
        }
    }
}

/// The credits behind one validator, or one that wants to be or was.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Stake {
    /// The node that votes with it.
    pub node: NodeId,
    /// Whose credits they are.
    pub account: AccountId,
    /// The credits.
    pub staked: Amount,
    /// Height of the last wish: who asked first has its turn first.
    pub since: Height,
    /// Whether it wants out.
    pub leaving: bool,
    /// Set when it is out: the epoch with which the credits are back.
    pub unbonds: Option<Epoch>,
    /// Set when it is jailed: the first epoch in which that may end.
    pub jailed: Option<Epoch>,
    /// Whether it has lost a part for a contradiction: then it is jailed for good.
    pub punished: bool,
    /// Epochs in a row for which it was on the skip list.
    pub missed: u32,
    /// The node that is to take its place.
    pub successor: Option<NodeId>,
    /// The latest version of the rules that its node is ready for; 0 while it has not said.
    pub ready: u16,
    /// Nodes that had the stake before, and until when they can be accused for it.
    pub retired: Vec<(NodeId, Epoch)>,
}

impl Stake {
    /// A stake of a node that had none.
    pub fn new(node: NodeId, account: AccountId, staked: Amount, since: Height) -> Self {
        let (unbonds, jailed, successor, retired) = (None, None, None, Vec::new());
        Self {
            node,
            account,
            staked,
            since,
            leaving: false,
            unbonds,
            jailed,
            punished: false,
            missed: 0,
            ready: 0,
            successor,
            retired,
        }
    }
    /// The power that it is to have.
    pub fn wanted(&self, params: &ValidatorParams) -> u64 {
        let out = self.leaving || self.jailed.is_some();
        if out { 0 } else { self.staked.get().checked_div(params.stake_unit).unwrap_or(0) }
    }
    /// Whether the stake answers for what a node signed.
    pub fn answers_for(&self, node: &NodeId) -> bool {
        self.node == *node || self.retired.iter().any(|(key, _)| key == node)
    }
    /// Whether a node has the stake, had it, or is to have it.
    pub fn concerns(&self, node: &NodeId) -> bool {
        self.answers_for(node) || self.successor.as_ref() == Some(node)
    }
    /// Its state's stable name, given its power in the set, for JSON and people.
    pub const fn state(&self, power: u64) -> &'static str {
        match (self.jailed.is_some(), self.leaving, power) {
            (true, ..) => "jailed",
            (false, true, 0) => "unbonding",
            (false, true, _) => "leaving",
            (false, false, 0) => "waiting",
            (false, false, _) => "active",
        }
    }
}

/// The place of a node in a list of validators.
pub fn power_of(set: &[ValidatorEntry], node: &NodeId) -> u64 {
    let found = set.binary_search_by(|entry| entry.node.cmp(node)).ok().and_then(|at| set.get(at));
    found.map_or(0, |entry| entry.power)
}

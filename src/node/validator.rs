//! This node as a validator: its wishes to the ledger, and what would come of them.
//!
//! What a wish does is found by the ledger's own rules on the finalized state, so that a dry run and the real thing agree as
//! long as nobody else is quicker.

use std::collections::BTreeMap;
use std::time::Duration;

use super::app::validators;
use super::handle::{FinalTx, Handle, NodeError};
use crate::ledger::protocol::Protocol;
use crate::ledger::record::{NodeEntry, Params, Stake, ValidatorEntry, validator_set};
use crate::ledger::stake::power_of;
use crate::ledger::turnover::{Ended, looked_at, turn};
use crate::ledger::{self, BlockContext, Key, Record, State};
use crate::store::{Snapshot, StoreError};
use crate::types::{Amount, ByteCount, Epoch, Height, NodeId, Role, Roles, Round, View};
use crate::wire::tx::NodeAnnouncement;
use crate::wire::{Action, Tx, TxBody, ValidatorSet, VerifiedTx};

/// Epochs that an outlook goes through until something changes for the node.
const EPOCHS_AHEAD: u64 = 16;
/// Blocks that a node may be behind what validators say of themselves when it asks to vote: words of heights are seconds old.
const BEHIND_MAX: u64 = 32;
/// How long until a wish is on the ledger.
const WITHIN: Duration = Duration::from_secs(30);

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// To put credits behind this node; it is registered as a validator if it is not.
    Join(Amount),
    /// A node's way out.
    Leave(NodeId),
    /// This node in the place of another of the account; it is registered as a validator if it is not.
    Rotate(NodeId),
    /// The end of a node's time in jail.
    Unjail(NodeId),
    /// That this node is ready for a version of the rules.
    Ready(u16),
}

/// The validators and stakes after the last final block.
#[derive(Clone, Debug)]
pub struct Standing {
    /// That block's height.
    pub height: Height,
    /// What the genesis fixed.
    pub params: Params,
    /// The validators of the next block, ascending by node.
    pub set: Vec<ValidatorEntry>,
    /// The stakes, ascending by node.
    pub stakes: Vec<Stake>,
    /// The version of the rules.
    pub protocol: Protocol,
}

/// What a wish leads to if nobody else wishes for anything.
#[derive(Clone, Debug)]
pub struct Outlook {
    /// The node that it is about.
    pub node: NodeId,
    /// Whether this node is registered for it first.
    pub registers: bool,
    /// The block with which the node's power changes, the next epoch's end if it does not soon; it acts from the next one on.
    pub looked_at: Height,
    /// The validators now, and from then on.
    pub now: ValidatorSet,
    /// The validators from then on.
    pub then: ValidatorSet,
    /// The stake from then on.
    pub stake: Option<Stake>,
}

impl Standing {
    /// Reads it. Errors: `Store`.
    pub fn read(handle: &Handle) -> Result<Self, NodeError> {
        let snapshot = handle.snapshot()?;
        let height = snapshot.tip()?.map_or(Height::GENESIS, |tip| tip.height);
        let record = |key: &Key| super::app::read_record(&snapshot, key);
        let damaged = |what: &str| StoreError::corrupted("state.v1", what.to_owned());
        let Some(Record::Params(params)) = record(&Key::Params)? else { return Err(damaged("params").into()) };
        let Some(Record::Validators(set)) = record(&Key::Validators)? else { return Err(damaged("set").into()) };
        let Some(Record::Stakes(stakes)) = record(&Key::Stakes)? else { return Err(damaged("stakes").into()) };
        let protocol = match record(&Key::Protocol)? {
            Some(Record::Protocol(protocol)) => protocol,
            _ => Protocol::default(),
        };
        Ok(Self { height, params, set, stakes, protocol })
    }
    /// The validators as a set. Errors: `Store`.
    pub fn validators(&self) -> Result<ValidatorSet, NodeError> {
        set_of(&self.set)
    }
}

fn set_of(entries: &[ValidatorEntry]) -> Result<ValidatorSet, NodeError> {
    let set = validator_set(entries).map_err(|_| StoreError::corrupted("state.v1", "validators".to_owned()));
    Ok(set?)
}

/// What would come of a wish now. Errors: `Rejected` with the ledger's reason, `NotAllowed` without an account, `Store`.
pub fn outlook(handle: &Handle, wish: &Wish) -> Result<Outlook, NodeError> {
    let actions = actions(handle, wish)?;
    let snapshot = handle.snapshot()?;
    let tip = snapshot.tip()?.ok_or_else(|| NodeError::Unavailable("no block is known yet; try again".to_owned()))?;
    let height = tip.height.next().unwrap_or(tip.height);
    let mut trial = Trial { snapshot: &snapshot, state: State::new(), at: tip_context(handle, height) };
    for action in &actions {
        trial.apply(handle, action)?;
    }
    let Some(Record::Params(params)) = trial.read(Key::Params)? else {
        return Err(StoreError::corrupted("state.v1", "params".to_owned()).into());
    };
    let node = match wish {
        Wish::Leave(node) | Wish::Unjail(node) => *node,
        Wish::Join(_) | Wish::Rotate(_) | Wish::Ready(_) => handle.identity().node,
    };
    let (now, then, stakes, looked_at) = trial.epochs_ahead(&params, height, &node)?;
    let stake = stakes.into_iter().find(|stake| stake.concerns(&node));
    Ok(Outlook { node, registers: actions.len() > 1, looked_at, now: set_of(&now)?, then: set_of(&then)?, stake })
}

/// Brings a wish onto the ledger. Errors: `Unavailable` while the node is behind and wants to vote; those of `outlook` and of `Handle::act`.
pub async fn wish(handle: &Handle, wish: &Wish) -> Result<(Outlook, FinalTx), NodeError> {
    let behind = handle.behind();
    if matches!(wish, Wish::Join(_) | Wish::Rotate(_)) && behind > BEHIND_MAX {
        let text =
            format!("this node is {behind} blocks behind; as a validator it would be missed: ask again when it is up");
        return Err(NodeError::Unavailable(text));
    }
    // What is refused now is not worth a nonce.
    let mut seen = outlook(handle, wish)?;
    let mut last = None;
    for action in actions(handle, wish)? {
        // Looked at again when registered: an epoch may have ended meanwhile.
        let registers = seen.registers;
        seen = outlook(handle, wish).unwrap_or(seen);
        seen.registers = registers;
        last = Some(handle.act(action, WITHIN).await?);
    }
    last.map(|done| (seen, done)).ok_or(NodeError::Stopping)
}

/// The transactions of a wish, in order. Errors: `Store`, `NotAllowed`.
fn actions(handle: &Handle, wish: &Wish) -> Result<Vec<Action>, NodeError> {
    let me = handle.identity().node;
    let mut actions = Vec::new();
    if matches!(wish, Wish::Join(_) | Wish::Rotate(_))
        && let Some(announcement) = registration(handle)?
    {
        actions.push(Action::RegisterNode(Box::new(announcement)));
    }
    actions.push(match wish {
        Wish::Join(stake) => Action::ValidatorJoin { node: me, stake: *stake },
        Wish::Leave(node) => Action::ValidatorLeave { node: *node },
        Wish::Rotate(old) => Action::ValidatorRotateKey { node: *old, new: me },
        Wish::Unjail(node) => Action::ValidatorUnjail { node: *node },
        Wish::Ready(version) => Action::ValidatorReady { node: me, version: *version },
    });
    Ok(actions)
}

/// How this node has to be registered to be a validator, unless it is. Errors: `Store`, `NotAllowed`.
fn registration(handle: &Handle) -> Result<Option<NodeAnnouncement>, NodeError> {
    let account = handle.keys()?.account_id();
    let entry = match handle.record(&Key::Node(handle.identity().node))? {
        Some(Record::Node(entry)) => Some(*entry),
        _ => None,
    };
    let mut announcement = match entry {
        Some(NodeEntry { announcement, .. }) if is_registered(&announcement) => return Ok(None),
        Some(NodeEntry { announcement, .. }) => announcement,
        None => fresh(handle),
    };
    let roles: Vec<_> = announcement.roles.iter().chain([Role::Validator]).collect();
    announcement.roles = Roles::of(&roles);
    if announcement.beacon_head == [0; 32] {
        announcement.beacon_head = handle.inner.beacon_head;
    }
    announcement.bind(&handle.identity().chain, &account, &handle.inner.key);
    Ok(Some(announcement))
}

fn is_registered(announcement: &NodeAnnouncement) -> bool {
    announcement.roles.has(Role::Validator) && announcement.beacon_head != [0; 32]
}

/// This node as its configuration describes it.
pub fn fresh(handle: &Handle) -> NodeAnnouncement {
    let config = handle.config();
    let offers = config.node.roles.has(Role::Storage);
    NodeAnnouncement {
        node: handle.identity().node,
        name: config.node.name.clone(),
        operator: config.node.operator.clone(),
        roles: config.node.roles,
        capacity: if offers { config.storage.capacity } else { ByteCount::ZERO },
        addresses: handle.net().addresses().iter().map(|peer| peer.address.to_string()).collect(),
        beacon_head: handle.inner.beacon_head,
        binding: ledger::genesis::NO_BINDING,
    }
}

fn tip_context(handle: &Handle, height: Height) -> BlockContext {
    let blocks = handle.genesis().epoch_blocks.max(1);
    let epoch = Epoch::new(height.get().saturating_sub(1) / blocks);
    let round = Round::new(epoch, View::new(1));
    BlockContext { height, round, proposer: handle.identity().node, reveal: [0; 32], next_skip: None }
}

/// Transactions tried on the finalized state; nobody sees them.
struct Trial<'a> {
    snapshot: &'a Snapshot,
    state: State,
    at: BlockContext,
}

impl Trial<'_> {
    fn load(&mut self, key: Key) -> Result<(), NodeError> {
        if !self.state.is_loaded(&key) {
            let record = super::app::read_record(self.snapshot, &key)?;
            self.state.load(key, record);
        }
        Ok(())
    }
    fn read(&mut self, key: Key) -> Result<Option<Record>, NodeError> {
        self.load(key.clone())?;
        Ok(self.state.record(&key).cloned())
    }
    fn apply(&mut self, handle: &Handle, action: &Action) -> Result<(), NodeError> {
        let keys = handle.keys()?;
        let chain = handle.identity().chain;
        let body = TxBody { chain, sender: keys.account_id(), nonce: 0, action: action.clone() };
        let tx = VerifiedTx::verify(&chain, Tx::sign(body, keys.signing()));
        let tx = tx.map_err(|error| NodeError::Bad(error.to_string()))?;
        while let missing @ [_, ..] = ledger::needs(&self.state, &self.at, &tx).as_slice() {
            missing.iter().cloned().try_for_each(|key| self.load(key))?;
        }
        let effects = ledger::apply(&self.state, &self.at, &tx);
        let effects = effects.map_err(|reject| {
            let (code, reason) = (reject.code(), reject.to_string());
            NodeError::Rejected { tx: tx.id(), code, reason }
        })?;
        effects.changes.into_iter().for_each(|(key, record)| self.state.load(key, record));
        Ok(())
    }
    /// The validators now, those and the stakes of the first epoch in which the node's power is another, or else of the next
    /// one, and the last block before it.
    fn epochs_ahead(&mut self, params: &Params, height: Height, node: &NodeId) -> Result<Ends, NodeError> {
        let Some(Record::Validators(now)) = self.read(Key::Validators)? else {
            return Err(StoreError::corrupted("state.v1", "validators".to_owned()).into());
        };
        let stakes = match self.read(Key::Stakes)? {
            Some(Record::Stakes(stakes)) => stakes,
            _ => Vec::new(),
        };
        let mut nodes = BTreeMap::new();
        for node in stakes.iter().flat_map(|stake| stake.successor.into_iter().chain([stake.node])) {
            if let Some(Record::Node(entry)) = self.read(Key::Node(node))? {
                nodes.insert(node, entry);
            }
        }
        let end = |epoch: Epoch, set: &[ValidatorEntry], stakes: &[Stake]| {
            let ready = |node: &NodeId| nodes.get(node).is_some_and(|entry| ledger::is_ready(entry, epoch));
            turn(&params.validators, &Ended { next: epoch, set, missed: &[] }, stakes, ready)
        };
        let first = looked_at(params, height);
        let epoch = params.epoch_of(params.next_epoch_begins(height));
        let soon = end(epoch, &now, &stakes);
        let (mut set, mut stakes) = (soon.set.clone(), soon.stakes.clone());
        for ahead in 0..EPOCHS_AHEAD {
            if power_of(&set, node) != power_of(&now, node) {
                let last = Height::new(first.get().saturating_add(ahead.saturating_mul(params.epoch_blocks)));
                return Ok((now, set, stakes, last));
            }
            let next = Epoch::new(epoch.get().saturating_add(ahead).saturating_add(1));
            let done = end(next, &set, &stakes);
            (set, stakes) = (done.set, done.stakes);
        }
        Ok((now, soon.set, soon.stakes, first))
    }
}

type Ends = (Vec<ValidatorEntry>, Vec<ValidatorEntry>, Vec<Stake>, Height);

/// The validators that vote in an epoch that has begun. Errors: `Store`.
pub fn validators_of(snapshot: &Snapshot, epoch: Epoch) -> Result<ValidatorSet, StoreError> {
    let next = snapshot.state_scan(&Key::replaced(), Some(&Key::Replaced(epoch).bytes()), 1)?;
    let key = next.first().and_then(|(key, _)| Key::from_bytes(key));
    match key {
        Some(Key::Replaced(changed)) => match super::app::replaced(snapshot, changed)? {
            Some(set) => Ok(set),
            None => validators(snapshot),
        },
        _ => validators(snapshot),
    }
}

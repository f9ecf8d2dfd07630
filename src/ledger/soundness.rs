//! What must hold in every state: a second count of all that the rules keep by adding and taking away.
//!
//! For the simulator and the tests; the rules read nothing from here.

use std::collections::BTreeMap;

use super::key::Key;
use super::memory::MemoryState;
use super::node::counted_operator;
use super::promise::REPUTATION_MAX;
use super::record::{Deal, DealStatus, Due, NodeEntry, Record, SlotId, Stake, ValidatorEntry, validator_set};
use super::slot::share_of_node;
use super::tally::Share;
use crate::types::limits::{SHARES_PER_FILE_MAX, STAKES_MAX, SUMS_FANOUT};
use crate::types::{AccountId, Amount, FileId, NodeId, StateRoot};

/// A state that no chain of allowed transactions leads to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsound {
    /// A record that every state has is missing.
    #[error("no record at {0:?}")]
    Missing(Key),
    /// Credits were made or lost.
    #[error("balances, escrows and stakes add up to {have:?}, the supply is {need}")]
    Supply {
        /// Sum of the balances, escrows and stakes, if it fits.
        have: Option<Amount>,
        /// What the genesis minted.
        need: Amount,
    },
    /// A node's bytes in use are not those of the open deals on it, or more than it offers.
    #[error("node {node} has {have} bytes in use, open deals place {need} on it")]
    Used {
        /// The node.
        node: NodeId,
        /// What its entry says.
        have: u64,
        /// What the deals say.
        need: u64,
    },
    /// What a node has to hold is another thing by its deals, by its list, by its sums or by its entry.
    #[error("node {node}: {what} are not those of the deals")]
    Held {
        /// The node.
        node: NodeId,
        /// What contradicts the deals.
        what: &'static str,
    },
    /// An account's bytes of slots are not those of its open deals.
    #[error("account {0} has not the bytes of slots of its open deals")]
    Stored(AccountId),
    /// The count of operators, or of an operator's nodes, is not that of the nodes.
    #[error("the counts of operators are not those of the nodes")]
    Operators,
    /// Who has a share of a file is another by the file's list, or the file has no open deal.
    #[error("the shares of file {0} are not those of its list")]
    Shares(FileId),
    /// The tally does not say what a count of deals and nodes gives.
    #[error("the tally's count of {what} is {have}, by the records it is {need}")]
    Tally {
        /// Which count.
        what: &'static str,
        /// The tally's.
        have: u64,
        /// That of the records.
        need: u64,
    },
    /// A deal's status, its receipts, its manifest and its owner's list contradict each other.
    #[error("the deal of file {0} contradicts itself")]
    Deal(FileId),
    /// The validators are no set, or the stakes are not those behind them.
    #[error("the validators are not those of the stakes")]
    Stakes,
    /// The root of an account's tree is no file of the account.
    #[error("the root of account {0} is no file of it")]
    TreeRoot(AccountId),
    /// A record's bytes do not read back as the record.
    #[error("the record at {0:?} is not that of its bytes")]
    Bytes(Key),
    /// The tree that was kept from block to block is not that of the records.
    #[error("the state root is {have}, that of the records is {need}")]
    Root {
        /// The root kept.
        have: StateRoot,
        /// The root of a tree made of the records alone.
        need: StateRoot,
    },
}

/// What the open deals say of one node.
#[derive(Default)]
struct Duty {
    used: u64,
    held: u64,
    /// Slot and length by leaf.
    leaves: BTreeMap<u64, (SlotId, u64)>,
}

/// What the ledger keeps of one node beside its entry.
#[derive(Default)]
struct Kept<'a> {
    list: BTreeMap<u64, SlotId>,
    sums: BTreeMap<(u8, u64), &'a [u64]>,
    audits: usize,
}

/// Errors: each of `Unsound` but `Root`.
pub(super) fn check(state: &MemoryState) -> Result<(), Unsound> {
    let Some(Record::Params(params)) = state.get(&Key::Params) else { return Err(Unsound::Missing(Key::Params)) };
    let (have, need) = (credits(state), params.supply);
    if have != Some(need) {
        return Err(Unsound::Supply { have, need });
    }
    check_operators(state)?;
    check_deals(state)?;
    check_shares(state)?;
    check_tally(state)?;
    check_stakes(state)?;
    let (duties, kept) = (duties(state), kept(state));
    for record in state.records().map(|(_, record)| record) {
        let Record::Node(entry) = record else { continue };
        let node = entry.announcement.node;
        let (no_duty, nothing) = (Duty::default(), Kept::default());
        let (duty, kept) = (duties.get(&node).unwrap_or(&no_duty), kept.get(&node).unwrap_or(&nothing));
        check_node(state, entry, duty, kept)?;
    }
    for (key, record) in state.records() {
        if let (Key::Root(account), Record::Root(file)) = (key, record) {
            let own = matches!(state.get(&Key::File(*file)), Some(Record::File(deal)) if deal.owner == *account);
            own.then_some(()).ok_or(Unsound::TreeRoot(*account))?;
        }
        if Record::from_bytes(key, &record.bytes()).as_ref() != Ok(record) {
            return Err(Unsound::Bytes(key.clone()));
        }
    }
    Ok(())
}

/// All credits there are, if they fit.
fn credits(state: &MemoryState) -> Option<Amount> {
    let escrow = |sum: Amount, (_, deal): (FileId, &Deal)| sum.checked_add(deal.escrow);
    let held = deals(state).try_fold(state.balances()?, escrow)?;
    let held = match state.get(&Key::Forfeited) {
        Some(Record::Forfeited(lost)) => held.checked_add(*lost)?,
        _ => held,
    };
    stakes(state).iter().try_fold(held, |sum, stake| sum.checked_add(stake.staked))
}

fn stakes(state: &MemoryState) -> &[Stake] {
    match state.get(&Key::Stakes) {
        Some(Record::Stakes(stakes)) => stakes,
        _ => &[],
    }
}

/// Behind every validator is a stake of the same account, and no node is named by two.
fn check_stakes(state: &MemoryState) -> Result<(), Unsound> {
    let (Some(Record::Validators(set)), stakes) = (state.get(&Key::Validators), stakes(state)) else {
        return Err(Unsound::Missing(Key::Validators));
    };
    let backed = |entry: &ValidatorEntry| {
        let mut behind = stakes.iter().filter(|stake| stake.concerns(&entry.node));
        behind.next().is_some_and(|stake| stake.node == entry.node && stake.account == entry.account)
            && behind.next().is_none()
    };
    let ordered = stakes.is_sorted_by(|a, b| a.node < b.node) && stakes.len() <= STAKES_MAX;
    if ordered && validator_set(set).is_ok() && set.iter().all(backed) { Ok(()) } else { Err(Unsound::Stakes) }
}

fn deals(state: &MemoryState) -> impl Iterator<Item = (FileId, &Deal)> {
    state.records().filter_map(|(key, record)| match (key, record) {
        (Key::File(file), Record::File(deal)) => Some((*file, deal.as_ref())),
        _ => None,
    })
}

fn check_operators(state: &MemoryState) -> Result<(), Unsound> {
    let (mut operators, mut counted) = (BTreeMap::<&str, u64>::new(), BTreeMap::<&str, u64>::new());
    for (key, record) in state.records() {
        match (key, record) {
            (_, Record::Node(entry)) => {
                if let Some(name) = counted_operator(entry) {
                    let nodes = operators.entry(name).or_default();
                    *nodes = nodes.saturating_add(1);
                }
            }
            (Key::Operator(name), Record::Operator(nodes)) => _ = counted.insert(name, *nodes),
            _ => {}
        }
    }
    let count = Record::OperatorCount(operators.len() as u64);
    let sound = operators == counted && state.get(&Key::OperatorCount) == Some(&count);
    if sound { Ok(()) } else { Err(Unsound::Operators) }
}

fn check_deals(state: &MemoryState) -> Result<(), Unsound> {
    let mut stored = BTreeMap::<AccountId, u64>::new();
    for (file, deal) in deals(state) {
        if !is_consistent(state, &file, deal) {
            return Err(Unsound::Deal(file));
        }
        if deal.status.is_open() {
            let bytes = stored.entry(deal.owner).or_default();
            *bytes = bytes.saturating_add(super::payment::stored(deal).get());
        }
    }
    for (key, record) in state.records() {
        if let (Key::Account(id), Record::Account(account)) = (key, record)
            && account.stored.get() != stored.get(id).copied().unwrap_or(0)
        {
            return Err(Unsound::Stored(*id));
        }
    }
    Ok(())
}

fn is_consistent(state: &MemoryState, file: &FileId, deal: &Deal) -> bool {
    let (open, enough) = (deal.status.is_open(), deal.confirmed.len() >= usize::from(deal.min_confirmations));
    let listed = !matches!(deal.status, DealStatus::Deleted { .. });
    let pending = matches!(deal.status, DealStatus::Pending { .. });
    let (lost, repaired) = (open && !deal.lost.is_empty(), state.get(&Key::Lost(*file)).is_some());
    let mut holders = BTreeMap::<&NodeId, usize>::new();
    let placed = (0..=u8::MAX).zip(&deal.placement).filter(|(slot, _)| !deal.lost.has(*slot));
    // An ended deal keeps the last holders of lost slots, and no longer says which were lost.
    placed.filter(|_| open).for_each(|(_, node)| {
        let slots = holders.entry(node).or_default();
        *slots = slots.saturating_add(1);
    });
    let most = share_of_node(deal, 2, true);
    holders.values().all(|slots| *slots <= most)
        && !(pending && enough)
        && deal.lost.iter().all(|slot| !deal.confirmed.has(slot))
        && (open || deal.escrow == Amount::ZERO)
        && (lost || !repaired)
        && repaired == deal.repairing
        && (repaired || !(open && deal.is_endangered()))
        && state.get(&Key::Manifest(*file)).is_some() == open
        && state.get(&Key::OwnerFile(deal.owner, *file)).is_some() == listed
}

fn check_shares(state: &MemoryState) -> Result<(), Unsound> {
    let (mut listed, mut given) = (BTreeMap::new(), BTreeMap::new());
    for (key, record) in state.records() {
        match (key, record) {
            (Key::Shares(file), Record::Shares(list)) => {
                let open = matches!(state.get(&Key::File(*file)), Some(Record::File(deal)) if deal.status.is_open());
                let ordered = !list.is_empty() && list.is_sorted_by(|a, b| a.to < b.to);
                if !open || !ordered || list.len() > SHARES_PER_FILE_MAX {
                    return Err(Unsound::Shares(*file));
                }
                listed.extend(list.iter().map(|shared| ((*file, shared.to), shared.until)));
            }
            (Key::Share(to, file), Record::Share { until, .. }) => _ = given.insert((*file, *to), *until),
            _ => {}
        }
    }
    let differ = |a: &BTreeMap<_, _>, b: &BTreeMap<_, _>| {
        a.iter().find(|(at, until)| b.get(*at) != Some(*until)).map(|((file, _), _)| *file)
    };
    match differ(&listed, &given).or_else(|| differ(&given, &listed)) {
        Some(file) => Err(Unsound::Shares(file)),
        None => Ok(()),
    }
}

/// What the tally says of the present, and what it must add up to.
fn check_tally(state: &MemoryState) -> Result<(), Unsound> {
    let Some(Record::Tally(tally)) = state.get(&Key::Tally) else { return Err(Unsound::Missing(Key::Tally)) };
    let (mut opened, mut pending, mut now) = (0_u64, 0_u64, Share::default());
    for (_, deal) in deals(state) {
        let share = Share::of(deal);
        opened = opened.saturating_add(1);
        pending = pending.saturating_add(matches!(deal.status, DealStatus::Pending { .. }).into());
        now.held = now.held.saturating_add(share.held);
        now.waiting = now.waiting.saturating_add(share.waiting);
        now.waiting_bytes = now.waiting_bytes.saturating_add(share.waiting_bytes);
    }
    let watched = state.records().filter(|(_, record)| matches!(record, Record::Node(entry) if entry.is_watched()));
    let settled = tally.reached.saturating_add(tally.expired).saturating_add(tally.withdrawn);
    let buckets = tally.quorum_buckets.iter().fold(0_u64, |sum, count| sum.saturating_add(*count));
    let counts = [
        ("deals opened", tally.opened, opened),
        ("deals that are pending", tally.opened.saturating_sub(settled), pending),
        ("times to quorum", buckets, tally.reached),
        ("slots held", tally.held.now, now.held),
        ("lost slots that wait", tally.waiting.now, now.waiting),
        ("bytes of those", tally.waiting_bytes, now.waiting_bytes),
        ("nodes that are watched", tally.watched.now, watched.count() as u64),
    ];
    match counts.into_iter().find(|(_, have, need)| have != need) {
        Some((what, have, need)) => Err(Unsound::Tally { what, have, need }),
        None => Ok(()),
    }
}

fn duties(state: &MemoryState) -> BTreeMap<NodeId, Duty> {
    let mut duties = BTreeMap::<NodeId, Duty>::new();
    for (file, deal) in deals(state).filter(|(_, deal)| deal.status.is_open()) {
        let slots = (0..=u8::MAX).zip(deal.placement.iter().zip(&deal.slots));
        for (slot, (node, kept)) in slots.filter(|(slot, _)| !deal.lost.has(*slot)) {
            let duty = duties.entry(*node).or_default();
            duty.used = duty.used.saturating_add(deal.slot_len);
            if deal.confirmed.has(slot) {
                duty.held = duty.held.saturating_add(deal.slot_len);
                duty.leaves.insert(kept.leaf, (SlotId { file, slot }, deal.slot_len));
            }
        }
    }
    duties
}

fn kept(state: &MemoryState) -> BTreeMap<NodeId, Kept<'_>> {
    let mut kept = BTreeMap::<NodeId, Kept<'_>>::new();
    for (key, record) in state.records() {
        match (key, record) {
            (Key::Held(node, leaf), Record::Held(slot)) => {
                _ = kept.entry(*node).or_default().list.insert(*leaf, *slot);
            }
            (Key::Sums(node, level, index), Record::Sums(list)) => {
                _ = kept.entry(*node).or_default().sums.insert((*level, *index), list);
            }
            (_, Record::Due(Due::Challenge(node))) => {
                let audits = &mut kept.entry(*node).or_default().audits;
                *audits = audits.saturating_add(1);
            }
            _ => {}
        }
    }
    kept
}

fn check_node(state: &MemoryState, entry: &NodeEntry, duty: &Duty, kept: &Kept<'_>) -> Result<(), Unsound> {
    let node = entry.announcement.node;
    if entry.used.get() != duty.used || entry.used > entry.announcement.capacity {
        return Err(Unsound::Used { node, have: entry.used.get(), need: duty.used });
    }
    let sound = |sound: bool, what| if sound { Ok(()) } else { Err(Unsound::Held { node, what }) };
    sound(entry.held.get() == duty.held, "the bytes that it holds")?;
    let slots = duty.leaves.iter().map(|(leaf, (slot, _))| (*leaf, *slot)).collect();
    sound(kept.list == slots, "the slots in its list")?;
    let tree = tree(duty, entry.next_leaf);
    let sums = tree.iter().map(|(place, list)| (*place, list.as_slice())).collect();
    sound(kept.sums == sums, "its sums")?;
    sound(kept.audits == usize::from(entry.audit.scheduled), "the audits that are due")?;
    sound(entry.audit.scheduled || duty.held == 0, "audits, which are due for no one who holds nothing,")?;
    let audit = entry.audit;
    let answers = audit.answered.saturating_add(audit.missed).saturating_add(audit.waived);
    sound(audit.asked == answers && audit.reputation <= REPUTATION_MAX, "the counts of its audits")?;
    sound(entry.draining == state.get(&Key::Draining(node)).is_some(), "the marks of draining nodes")
}

/// The sum tree over a node's slots, made anew.
fn tree(duty: &Duty, leaves: u64) -> BTreeMap<(u8, u64), Vec<u64>> {
    let mut tree = BTreeMap::<(u8, u64), Vec<u64>>::new();
    for (leaf, (_, len)) in &duty.leaves {
        let (mut below, mut spanned, mut level) = (*leaf, SUMS_FANOUT, 0_u8);
        loop {
            let (index, place) = (below / SUMS_FANOUT, (below % SUMS_FANOUT) as usize);
            let sums = tree.entry((level, index)).or_default();
            if sums.len() <= place {
                sums.resize(place.saturating_add(1), 0);
            }
            sums.get_mut(place).into_iter().for_each(|sum| *sum = sum.saturating_add(*len));
            if spanned >= leaves {
                break;
            }
            (below, spanned, level) = (index, spanned.saturating_mul(SUMS_FANOUT), level.saturating_add(1));
        }
    }
    tree
}

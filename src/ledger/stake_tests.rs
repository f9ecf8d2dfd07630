//! Stakes and turnover: who votes when, how much may change at once, and that no credit is made or lost.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::promise::{REPUTATION_FIRST, REPUTATION_MAX, reputation_gained, reputation_lost};
use super::record::{Account, Stake, ValidatorEntry, ValidatorParams};
use super::stake::power_of;
use super::testing::*;
use super::turnover::{Ended, Turnover, step, turn};
use super::*;
use crate::crypto::SecretKey;
use crate::types::{AccountId, Amount, BlockHash, Epoch, Height, NodeId, Role, Round, View};
use crate::wire::certificate::Statement;
use crate::wire::{Accusation, Action, Evidence, Malformed, Tx, TxBody, VerifiedTx, VoteKind};

const UNIT: u64 = 10;

fn validator(n: u8) -> NodeId {
    validator_key(n).public().node_id()
}

/// A chain on which user 1 has registered the nodes of these keys as validators.
fn chain_with(keys: &[&SecretKey]) -> Chain {
    let mut chain = Chain::new();
    for key in keys {
        let mut node = announcement(key, "newcomer", Role::Validator);
        node.bind(&chain.id, &account(1), key);
        assert_eq!(chain.act(1, Action::RegisterNode(Box::new(node))), Outcome::Applied);
    }
    chain
}

fn set(chain: &Chain) -> Vec<ValidatorEntry> {
    match chain.state.get(&Key::Validators) {
        Some(Record::Validators(set)) => set.clone(),
        other => panic!("no validators: {other:?}"),
    }
}

fn power(chain: &Chain, node: &NodeId) -> u64 {
    power_of(&set(chain), node)
}

fn stake(chain: &Chain, node: &NodeId) -> Option<Stake> {
    match chain.state.get(&Key::Stakes) {
        Some(Record::Stakes(stakes)) => stakes.iter().find(|stake| stake.node == *node).cloned(),
        other => panic!("no stakes: {other:?}"),
    }
}

/// Empty blocks up to the end of the epoch.
fn end_epoch(chain: &mut Chain) {
    chain.run_to(chain.height.next_multiple_of(EPOCH).max(EPOCH));
    assert_eq!(chain.state.audit(), Ok(()));
}

fn refused(outcome: Outcome) -> Reject {
    match outcome {
        Outcome::Rejected(reject) => reject,
        Outcome::Applied => panic!("it was allowed"),
    }
}

fn join(node: NodeId, credits: u64) -> Action {
    Action::ValidatorJoin { node, stake: Amount::new(credits) }
}

#[test]
fn a_candidate_votes_from_the_next_epoch_on_and_its_credits_are_behind_it() {
    let key = validator_key(9);
    let (node, mut chain) = (key.public().node_id(), chain_with(&[&key]));
    let before = chain.balance(1);
    assert_eq!(chain.act(1, join(node, 2 * UNIT + 3)), Outcome::Applied);
    assert_eq!((chain.balance(1), power(&chain, &node)), (before - 23, 0));
    let old = set(&chain);
    end_epoch(&mut chain);
    assert_eq!(power(&chain, &node), 1, "a third of four at a time");
    assert_eq!(chain.state.get(&Key::Replaced(Epoch::new(1))), Some(&Record::Validators(old)));
    chain.block(&[]);
    end_epoch(&mut chain);
    assert_eq!(power(&chain, &node), 2, "all that 23 credits buy");
    chain.block(&[]);
    end_epoch(&mut chain);
    assert_eq!(chain.state.get(&Key::Replaced(Epoch::new(3))), None, "nothing has changed");
}

#[test]
fn the_header_names_the_next_set_with_the_last_block_of_an_epoch() {
    let key = validator_key(9);
    let mut chain = chain_with(&[&key]);
    chain.act(1, join(key.public().node_id(), UNIT));
    let hash = |chain: &Chain| record::validator_set(&set(chain)).expect("a set").hash();
    let old = hash(&chain);
    while chain.height < EPOCH - 1 {
        assert_eq!(chain.block(&[]).effects.next_set, old);
    }
    let last = chain.block(&[]);
    assert_ne!(last.effects.next_set, old);
    assert_eq!(last.effects.next_set, hash(&chain));
}

#[test]
fn who_leaves_votes_to_the_end_of_the_epoch_and_has_its_credits_back_later() {
    let mut chain = Chain::new();
    let (node, before) = (validator(0), chain.balance(0));
    let leave = Action::ValidatorLeave { node };
    assert_eq!(chain.act(0, leave.clone()), Outcome::Applied);
    assert_eq!(refused(chain.act(0, leave)), Reject::Leaving(node));
    assert_eq!(power(&chain, &node), 1);
    end_epoch(&mut chain);
    assert_eq!((power(&chain, &node), set(&chain).len()), (0, 3));
    let unbonds = stake(&chain, &node).expect("it still answers for what it did").unbonds;
    assert_eq!(unbonds, Some(Epoch::new(3)), "two epochs after the one that begins");
    chain.run_to(3 * EPOCH - 1);
    assert_eq!(chain.balance(0), before);
    chain.run_to(3 * EPOCH);
    assert_eq!((chain.balance(0), stake(&chain, &node)), (before + UNIT, None));
    assert_eq!(chain.state.audit(), Ok(()));
}

#[test]
fn to_join_again_takes_a_wish_to_leave_back() {
    let mut chain = Chain::new();
    let node = validator(0);
    chain.act(0, Action::ValidatorLeave { node });
    assert_eq!(chain.act(0, join(node, 0)), Outcome::Applied);
    end_epoch(&mut chain);
    assert_eq!(power(&chain, &node), 1);
}

#[test]
fn one_validator_stays_whoever_wants_to_leave() {
    let mut chain = Chain::new();
    for n in 0..4 {
        chain.act(0, Action::ValidatorLeave { node: validator(n) });
    }
    let mut sizes = Vec::new();
    for _ in 0..5 {
        chain.block(&[]);
        end_epoch(&mut chain);
        sizes.push(set(&chain).len());
    }
    assert_eq!(sizes, [3, 2, 1, 1, 1]);
}

#[test]
fn a_new_key_takes_the_place_of_the_old_one_which_is_not_used_again() {
    let key = SecretKey::from_seed(&[120; 32]);
    let mut chain = Chain::new();
    let (old, new) = (validator(0), key.public().node_id());
    let mut node = announcement(&key, "validator 0", Role::Validator);
    node.bind(&chain.id, &account(0), &key);
    chain.act(0, Action::RegisterNode(Box::new(node)));
    assert_eq!(chain.act(0, Action::ValidatorRotateKey { node: old, new }), Outcome::Applied);
    end_epoch(&mut chain);
    assert_eq!((power(&chain, &old), power(&chain, &new), set(&chain).len()), (0, 1, 4));
    assert_eq!(stake(&chain, &new).map(|stake| stake.retired), Some(vec![(old, Epoch::new(3))]));
    assert_eq!(refused(chain.act(0, join(old, UNIT))), Reject::KeyInUse(old));
    let back = Action::ValidatorRotateKey { node: new, new: old };
    assert_eq!(refused(chain.act(0, back)), Reject::KeyInUse(old));
}

#[test]
fn what_cannot_be_is_refused_with_its_reason() {
    let key = validator_key(9);
    let (node, mut chain) = (key.public().node_id(), chain_with(&[&key]));
    let stranger = SecretKey::from_seed(&[121; 32]).public().node_id();
    assert_eq!(refused(chain.act(1, join(stranger, UNIT))), Reject::NoNode(stranger));
    assert_eq!(refused(chain.act(2, join(node, UNIT))), Reject::NodeOwner { node, have: account(1), need: account(2) });
    assert_eq!(refused(chain.act(0, join(store(0), UNIT))), Reject::NotValidator(store(0)));
    let (have, need) = (Amount::new(UNIT - 1), Amount::new(UNIT));
    assert_eq!(refused(chain.act(1, join(node, UNIT - 1))), Reject::StakeTooSmall { have, need });
    let (have, need) = (Amount::new(chain.balance(1)), Amount::new(5_000));
    assert_eq!(refused(chain.act(1, join(node, 5_000))), Reject::Funds { have, need });
    assert_eq!(refused(chain.act(1, Action::ValidatorLeave { node })), Reject::NoStake(node));
    let foreign = Action::ValidatorLeave { node: validator(0) };
    let owner = Reject::NodeOwner { node: validator(0), have: account(0), need: account(1) };
    assert_eq!(refused(chain.act(1, foreign)), owner);
    assert_eq!(refused(chain.act(0, Action::ValidatorUnjail { node: validator(0) })), Reject::NotJailed(validator(0)));
}

#[test]
fn a_node_without_a_running_hash_chain_waits_for_it() {
    let (key, mut chain) = (store_key(0), Chain::new());
    let mut node = announcement(&key, "operator 0", Role::Storage);
    node.roles = crate::types::Roles::of(&[Role::Storage, Role::Validator]);
    node.beacon_head = [7; 32];
    node.bind(&chain.id, &account(0), &key);
    chain.act(0, Action::RegisterNode(Box::new(node)));
    chain.act(0, join(store(0), UNIT));
    end_epoch(&mut chain);
    assert_eq!(power(&chain, &store(0)), 0, "its new hash chain is not in force");
    chain.block(&[]);
    end_epoch(&mut chain);
    assert_eq!(power(&chain, &store(0)), 1);
}

#[test]
fn who_is_jailed_comes_back_when_its_time_is_over_and_it_asks() {
    let mut chain = Chain::new();
    let node = validator(0);
    let Some(Record::Stakes(mut stakes)) = chain.state.get(&Key::Stakes).cloned() else { panic!("no stakes") };
    stakes.iter_mut().filter(|stake| stake.node == node).for_each(|stake| stake.jailed = Some(Epoch::new(2)));
    chain.state.plant(Key::Stakes, Record::Stakes(stakes));
    end_epoch(&mut chain);
    assert_eq!(power(&chain, &node), 0);
    let until = Epoch::new(2);
    assert_eq!(refused(chain.act(0, Action::ValidatorUnjail { node })), Reject::Jailed { node, until });
    assert_eq!(refused(chain.act(0, join(node, UNIT))), Reject::Jailed { node, until });
    end_epoch(&mut chain);
    assert_eq!(power(&chain, &node), 0, "nobody comes back without asking");
    assert_eq!(chain.act(0, Action::ValidatorUnjail { node }), Outcome::Applied);
    end_epoch(&mut chain);
    assert_eq!(power(&chain, &node), 1);
}

fn double_vote(chain: &Chain, key: &SecretKey) -> Action {
    let round = Round::new(Epoch::ZERO, View::new(1));
    let vote = |block: u8| {
        let block = BlockHash::from_bytes([block; 32]);
        let said = Statement::Vote { kind: VoteKind::Prepare, round, height: Height::new(1), block };
        (said, said.sign(&chain.id, key))
    };
    let evidence = Evidence { node: key.public().node_id(), first: vote(1), second: vote(2) };
    Action::Accuse(Box::new(Accusation::Contradiction(evidence)))
}

#[test]
fn who_contradicts_itself_is_punished_once_and_never_votes_with_that_stake_again() {
    let mut chain = Chain::new();
    let (node, evidence) = (validator(1), double_vote(&chain, &validator_key(1)));
    assert_eq!(chain.act(2, evidence.clone()), Outcome::Applied);
    assert_eq!(stake(&chain, &node).map(|stake| (stake.staked.get(), stake.punished)), Some((9, true)));
    assert_eq!(chain.state.get(&Key::Forfeited), Some(&Record::Forfeited(Amount::new(1))));
    assert_eq!(chain.state.audit(), Ok(()), "what is lost counts to the supply");
    assert_eq!(refused(chain.act(3, evidence)), Reject::Punished(node));
    end_epoch(&mut chain);
    assert_eq!((power(&chain, &node), set(&chain).len()), (0, 3));
    assert_eq!(refused(chain.act(0, Action::ValidatorUnjail { node })), Reject::Punished(node));
    assert_eq!(refused(chain.act(0, join(node, 100))), Reject::Punished(node));
    assert_eq!(chain.act(0, Action::ValidatorLeave { node }), Outcome::Applied, "the rest is its owner's");
    let stranger = double_vote(&chain, &SecretKey::from_seed(&[122; 32]));
    assert!(matches!(refused(chain.act(2, stranger)), Reject::NoStake(_)));
}

#[test]
fn a_stake_answers_for_its_old_key_too() {
    let key = SecretKey::from_seed(&[120; 32]);
    let (mut chain, new) = (Chain::new(), key.public().node_id());
    let mut node = announcement(&key, "validator 0", Role::Validator);
    node.bind(&chain.id, &account(0), &key);
    chain.act(0, Action::RegisterNode(Box::new(node)));
    chain.act(0, Action::ValidatorRotateKey { node: validator(0), new });
    end_epoch(&mut chain);
    let evidence = double_vote(&chain, &validator_key(0));
    assert_eq!(chain.act(2, evidence), Outcome::Applied);
    assert_eq!(stake(&chain, &new).map(|stake| stake.punished), Some(true));
}

#[test]
fn one_statement_twice_or_that_of_another_is_no_evidence() {
    let chain = Chain::new();
    let Action::Accuse(good) = double_vote(&chain, &validator_key(1)) else { panic!("an accusation") };
    let Accusation::Contradiction(good) = *good else { panic!("a contradiction") };
    let check = |evidence: Evidence| {
        let action = Action::Accuse(Box::new(Accusation::Contradiction(evidence)));
        let body = TxBody { chain: chain.id, sender: account(2), nonce: 0, action };
        VerifiedTx::verify(&chain.id, Tx::sign(body, &user(2))).map(|_| ())
    };
    assert_eq!(check(good.clone()), Ok(()));
    let same = Evidence { second: good.first, ..good.clone() };
    assert_eq!(check(same), Err(Malformed::Evidence(good.node)));
    let foreign = Evidence { node: validator(2), ..good };
    assert_eq!(check(foreign), Err(Malformed::Evidence(validator(2))));
}

// The rule alone.

fn id(n: u8) -> NodeId {
    NodeId::from_bytes([n; 32])
}

fn stakes(powers: &[(u8, u64)]) -> (Vec<ValidatorEntry>, Vec<Stake>) {
    let account = AccountId::from_bytes([9; 32]);
    let entry = |(n, power): &(u8, u64)| ValidatorEntry { node: id(*n), power: *power, account };
    let stake = |(n, power): &(u8, u64)| Stake::new(id(*n), account, Amount::new(*power), Height::new(u64::from(*n)));
    (powers.iter().map(entry).collect(), powers.iter().map(stake).collect())
}

const PARAMS: ValidatorParams =
    ValidatorParams { stake_unit: 1, unbonding_epochs: 3, jail_after: 2, jail_epochs: 2, slash_permille: 100 };

fn turned(set: &[ValidatorEntry], stakes: &[Stake], missed: &[u16]) -> Turnover {
    turn(&PARAMS, &Ended { next: Epoch::new(7), set, missed }, stakes, |_| true)
}

#[test]
fn a_heavy_validator_leaves_in_steps_and_a_heavy_key_moves_alone() {
    let (mut set, mut list) = stakes(&[(1, 90), (2, 10)]);
    list[0].leaving = true;
    let mut powers = Vec::new();
    for _ in 0..6 {
        let done = turned(&set, &list, &[]);
        (set, list) = (done.set, done.stakes);
        powers.push(power_of(&set, &id(1)));
    }
    assert_eq!(powers, [57, 35, 20, 10, 4, 0]);
    let (set, mut list) = stakes(&[(1, 90), (2, 10), (3, 1)]);
    (list[0].successor, list[1].successor, list[2].leaving) = (Some(id(8)), Some(id(9)), true);
    let done = turned(&set, &list, &[]);
    assert_eq!((power_of(&done.set, &id(8)), power_of(&done.set, &id(1))), (90, 0));
    assert_eq!((power_of(&done.set, &id(2)), power_of(&done.set, &id(3))), (10, 1), "nothing else changes with it");
}

#[test]
fn who_is_away_for_long_is_jailed_while_enough_are_left() {
    let (set, mut list) = stakes(&[(1, 1), (2, 1), (3, 1), (4, 1), (5, 1)]);
    list[0].missed = 1;
    list[1].missed = 1;
    let done = turned(&set, &list, &[0, 1]);
    assert_eq!((power_of(&done.set, &id(1)), done.stakes[0].jailed), (0, Some(Epoch::new(9))));
    assert_eq!((power_of(&done.set, &id(2)), done.stakes[1].jailed), (1, None), "four are too few to lose one");
    let back = turned(&done.set, &done.stakes, &[]);
    assert_eq!(back.stakes[1].missed, 0, "one epoch without losing its views makes good for it");
}

#[test]
fn who_asked_first_has_its_turn_first() {
    let (set, mut list) = stakes(&[(1, 1), (2, 1), (3, 1)]);
    for (n, since) in [(7, 30), (8, 20), (9, 40)] {
        list.push(Stake::new(id(n), AccountId::from_bytes([9; 32]), Amount::new(1), Height::new(since)));
    }
    let done = turned(&set, &list, &[]);
    let new: Vec<_> = done.set.iter().map(|entry| entry.node).filter(|node| *node > id(3)).collect();
    assert_eq!(new, [id(8)]);
}

fn any_stakes() -> impl Strategy<Value = (Vec<ValidatorEntry>, Vec<Stake>, Vec<u16>)> {
    let one = (0_u64..60, 0_u64..60, any::<[bool; 4]>(), 0_u64..5, 0_u32..3);
    proptest::collection::vec(one, 1..12).prop_filter_map("somebody votes", |all| {
        let account = AccountId::from_bytes([9; 32]);
        let (mut set, mut stakes, mut missed) = (Vec::new(), Vec::new(), Vec::new());
        for (n, (power, staked, [leaving, jailed, rotates, away], since, absent)) in (0_u8..).zip(all) {
            let mut stake = Stake::new(id(n), account, Amount::new(staked.max(1)), Height::new(since));
            (stake.leaving, stake.missed) = (leaving, absent);
            stake.jailed = (jailed && rotates).then_some(Epoch::new(9));
            stake.successor = (rotates && !jailed).then_some(id(100 + n));
            stakes.push(stake);
            if power > 0 {
                missed.extend(away.then_some(set.len() as u16));
                set.push(ValidatorEntry { node: id(n), power, account });
            }
        }
        (!set.is_empty()).then_some((set, stakes, missed))
    })
}

proptest! {
    #[test]
    fn an_epoch_changes_at_most_a_third_of_the_power_and_leaves_a_set((set, stakes, missed) in any_stakes()) {
        let done = turned(&set, &stakes, &missed);
        let next = record::validator_set(&done.set);
        prop_assert!(next.is_ok(), "{next:?}");
        let powers = |list: &[ValidatorEntry]| list.iter().map(|e| (e.node, e.power)).collect::<BTreeMap<_, _>>();
        let (old, new) = (powers(&set), powers(&done.set));
        let less = |from: &BTreeMap<NodeId, u64>, to: &BTreeMap<NodeId, u64>| -> u64 {
            from.iter().map(|(node, power)| power.saturating_sub(to.get(node).copied().unwrap_or(0))).sum()
        };
        let (goes, comes) = (less(&old, &new), less(&new, &old));
        let heaviest = old.values().copied().max().unwrap_or(0);
        let alone = new.keys().filter(|node| !old.contains_key(*node)).count() == 1 && goes == comes && goes <= heaviest;
        prop_assert!(goes.max(comes) <= step(&set) || alone, "{goes} go and {comes} come of {}", step(&set));
        let credits = |list: &[Stake]| list.iter().map(|stake| stake.staked.get()).sum::<u64>();
        let returned: u64 = done.returned.iter().map(|(_, amount)| amount.get()).sum();
        prop_assert_eq!(credits(&stakes), credits(&done.stakes) + returned);
        prop_assert!(done.stakes.is_sorted_by(|a, b| a.node < b.node));
        let backed = |entry: &ValidatorEntry| done.stakes.iter().any(|stake| stake.node == entry.node);
        prop_assert!(done.set.iter().all(backed), "somebody answers for every vote");
        prop_assert_eq!(&turned(&set, &stakes, &missed), &done, "one outcome");
    }

    #[test]
    fn wishes_are_granted_in_the_end((mut set, mut stakes, _) in any_stakes()) {
        for _ in 0..60 {
            let done = turned(&set, &stakes, &[]);
            (set, stakes) = (done.set, done.stakes);
        }
        let wanted = |stake: &Stake| stake.wanted(&PARAMS);
        let some = stakes.iter().any(|stake| wanted(stake) > 0);
        for stake in stakes.iter().filter(|_| some) {
            prop_assert_eq!(power_of(&set, &stake.node), wanted(stake));
            prop_assert_eq!(stake.successor, None);
        }
    }
}

#[test]
fn credits_of_a_stake_are_counted_with_the_supply() {
    let mut chain = Chain::new();
    let Some(Record::Params(params)) = chain.state.get(&Key::Params) else { panic!("parameters") };
    let staked = 4 * UNIT;
    assert_eq!(params.supply, Amount::new(u64::from(USERS) * 1_000 + staked));
    let rich = Account { balance: Amount::new(1_001), ..Account::default() };
    chain.state.plant(Key::Account(account(3)), Record::Account(rich));
    assert!(matches!(chain.state.audit(), Err(Unsound::Supply { .. })));
}

fn reputation(chain: &Chain, node: &NodeId) -> u16 {
    match chain.state.get(&Key::Node(*node)) {
        Some(Record::Node(entry)) => entry.audit.reputation,
        other => panic!("no node: {other:?}"),
    }
}

#[test]
fn who_loses_most_of_its_views_loses_a_quarter_of_its_reputation_and_the_others_gain() {
    let mut chain = Chain::new();
    let members: Vec<_> = set(&chain).iter().map(|entry| entry.node).collect();
    chain.run_to(EPOCH - 1);
    assert!(members.iter().all(|node| reputation(&chain, node) == REPUTATION_FIRST), "not before the epoch's end");
    let missed = chain.next().next_skip.expect("the epoch's last block").indices;
    end_epoch(&mut chain);
    for (place, node) in members.iter().enumerate() {
        let lost = missed.contains(&(place as u16));
        let expected = if lost { REPUTATION_FIRST - REPUTATION_FIRST / 4 } else { REPUTATION_FIRST + 32 };
        assert_eq!(reputation(&chain, node), expected, "place {place}");
    }
    chain.run_to(5 * EPOCH);
    assert!(members.iter().all(|node| reputation(&chain, node) <= REPUTATION_MAX));
    assert_eq!(chain.state.audit(), Ok(()));
}

proptest! {
    #[test]
    fn reputation_stays_within_its_bounds_moves_the_right_way_and_can_always_be_won_back(
        first in 0..=REPUTATION_MAX,
        duties in prop::collection::vec(any::<bool>(), 0..100),
    ) {
        let mut now = first;
        for kept in duties {
            let next = if kept { reputation_gained(now) } else { reputation_lost(now) };
            prop_assert!(next <= REPUTATION_MAX);
            let moved = if kept { next > now || now == REPUTATION_MAX } else { next < now || now < 4 };
            prop_assert!(moved, "from {} to {}, kept: {}", now, next, kept);
            now = next;
        }
        let won_back = (0..200).fold(now, |now, _| reputation_gained(now));
        prop_assert_eq!(won_back, REPUTATION_MAX);
    }
}

//! Properties of the ledger over random histories.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::record::{Deal, DealStatus, NodeEntry};
use super::testing::*;
use super::*;
use crate::crypto::SecretKey;
use crate::types::{Amount, ByteCount, FileId, Role};
use crate::wire::{Action, PublicManifest, VerifiedTx};

/// One thing that a user does; what it names may or may not exist.
#[derive(Clone, Debug)]
enum Act {
    Pay { to: u8, amount: u64 },
    Put { seed: u8, len: u64, receipts: u8, skew: u8 },
    Confirm { owner: u8, seed: u8, len: u64, slot: u8 },
    Delete { owner: u8, seed: u8, len: u64 },
    Register { node: u8, operator: u8, capacity: u64, storage: bool },
    Prove { node: u8, has: u8 },
    Take { owner: u8, seed: u8, len: u64, slot: u8, by: u8 },
    Drain { node: u8, drain: bool },
    Settle { owner: u8, seed: u8, len: u64 },
    Renew { seed: u8, len: u64, epochs: u32 },
}

fn any_act() -> impl Strategy<Value = Act> {
    let (len, seed) = (prop_oneof![4 => Just(3_000_u64), 1 => Just(CAPACITY)], 0_u8..3);
    let file = (0..USERS, seed.clone(), len.clone());
    prop_oneof![
        4 => (0..STORES, any::<u8>()).prop_map(|(node, has)| Act::Prove { node, has: has | has << 1 }),
        3 => (file.clone(), 0_u8..3, 0..STORES).prop_map(|((owner, seed, len), slot, by)| Act::Take {
            owner,
            seed,
            len,
            slot,
            by
        }),
        1 => (0..STORES, any::<bool>()).prop_map(|(node, drain)| Act::Drain { node, drain }),
        1 => file.prop_map(|(owner, seed, len)| Act::Settle { owner, seed, len }),
        1 => (seed.clone(), len.clone(), 1_u32..4).prop_map(|(seed, len, epochs)| Act::Renew { seed, len, epochs }),
        1 => (0_u8..8, 0_u64..1_500).prop_map(|(to, amount)| Act::Pay { to, amount: amount + 1 }),
        4 => (seed.clone(), len.clone(), 0_u8..4, 0_u8..4).prop_map(|(seed, len, receipts, skew)| Act::Put {
            seed,
            len,
            receipts,
            skew
        }),
        2 => (0..USERS, seed.clone(), len.clone(), 0_u8..3).prop_map(|(owner, seed, len, slot)| Act::Confirm {
            owner,
            seed,
            len,
            slot
        }),
        1 => (0..USERS, seed, len).prop_map(|(owner, seed, len)| Act::Delete { owner, seed, len }),
        1 => (0..STORES + 3, 0_u8..9, prop_oneof![Just(CAPACITY), 0..CAPACITY], any::<bool>())
            .prop_map(|(node, operator, capacity, storage)| Act::Register { node, operator, capacity, storage }),
    ]
}

fn file(owner: u8, seed: u8, len: u64) -> PublicManifest {
    manifest(owner, seed, 2, 1, len)
}

impl Act {
    fn action(&self, chain: &Chain, who: u8) -> Action {
        match *self {
            Self::Pay { to, amount } => pay(to, amount),
            Self::Put { seed, len, receipts, skew } => {
                let mut deal = commit(&chain.id, file(who, seed, len), receipts.min(3), 2);
                deal.epochs = 1 + u32::from(seed) * 2;
                if skew > 0 {
                    deal.placement[2] = store(2 + skew);
                    deal.receipts.truncate(2);
                }
                Action::CommitFile(Box::new(deal))
            }
            Self::Confirm { owner, seed, len, slot } => {
                let manifest = file(owner, seed, len);
                let receipts = vec![receipt(&chain.id, &manifest, slot)];
                Action::ConfirmSlots { file: manifest.id(), receipts }
            }
            Self::Delete { owner, seed, len } => Action::DeleteFile { file: file(owner, seed, len).id() },
            Self::Prove { node, has } => {
                // Files by their seed: some are there, some are not.
                let kept = |slot: &record::SlotId| match chain.state.get(&Key::Manifest(slot.file)) {
                    Some(Record::Manifest(manifest)) => {
                        has >> (manifest.nonce[0] + manifest.owner.as_bytes()[0] % 2) & 1 != 0
                    }
                    _ => false,
                };
                let (node_id, none) = (store(node), crate::types::Epoch::ZERO);
                let unasked = || Action::ProveStorage { node: node_id, epoch: none, proofs: Vec::new() };
                chain.answer(node, kept).unwrap_or_else(unasked)
            }
            Self::Take { owner, seed, len, slot, by } => {
                let manifest = file(owner, seed, len);
                let receipt = receipt_of(&chain.id, &manifest, slot, &store_key(by));
                Action::TakeSlot { file: manifest.id(), receipt }
            }
            Self::Drain { node, drain } => Action::DrainNode { node: store(node), drain },
            Self::Settle { owner, seed, len } => Action::SettleFile { file: file(owner, seed, len).id() },
            Self::Renew { seed, len, epochs } => Action::RenewFile { file: file(who, seed, len).id(), epochs },
            Self::Register { node, operator, capacity, storage } => {
                let key = if node < STORES { store_key(node) } else { SecretKey::from_seed(&[60 + node; 32]) };
                let role = if storage { Role::Storage } else { Role::Relay };
                let mut entry = announcement(&key, &format!("operator {operator}"), role);
                entry.capacity = ByteCount::new(capacity);
                entry.bind(&chain.id, &account(who), &key);
                Action::RegisterNode(Box::new(entry))
            }
        }
    }
}

/// Rounds of loading after which nothing is missing: a deal, its nodes, their accounts and sums.
const ROUNDS: usize = 4;

/// A block: which nodes answer their audits, who takes over lost slots, and what users do beside that.
type Block = (u8, u8, Vec<(u8, Act)>);
type History = Vec<Block>;

fn any_history() -> impl Strategy<Value = History> {
    // User 0 registered the stores, so acts of user 0 are more frequent.
    let who = prop_oneof![Just(0_u8), 0..USERS];
    // Mostly most nodes answer, sometimes few do.
    let honest = (any::<(u8, u8)>(), 0..4).prop_map(|((a, b), how)| if how == 0 { a & b } else { a | b });
    let acts = proptest::collection::vec((who, any_act()), 0..5);
    proptest::collection::vec((honest, any::<u8>(), acts), 1..30)
}

fn txs(chain: &Chain, (honest, taker, acts): &Block) -> Vec<VerifiedTx> {
    let mut nonces: Vec<_> = (0..USERS).map(|n| chain.nonce(n)).collect();
    let mut sign = |who: u8, action| {
        let nonce = &mut nonces[usize::from(who)];
        *nonce += 1;
        chain.tx(who, *nonce - 1, action)
    };
    let mut list: Vec<_> = acts.iter().map(|(who, act)| sign(*who, act.action(chain, *who))).collect();
    let answering = (0..STORES).filter(|n| honest >> n & 1 != 0);
    list.extend(answering.filter_map(|n| chain.answer(n, |_| true)).map(|action| sign(0, action)));
    for (file, deal) in deals(&chain.state).filter(|(_, deal)| deal.status.is_open()) {
        if let (Some(slot), Some(Record::Manifest(manifest))) =
            (deal.lost.iter().next(), chain.state.get(&Key::Manifest(file)))
        {
            let receipt = receipt_of(&chain.id, manifest, slot, &store_key(taker % STORES));
            list.push(sign(0, Action::TakeSlot { file, receipt }));
        }
        if *taker >= 200 {
            list.push(sign(3, Action::SettleFile { file }));
        }
    }
    list
}

/// What must hold in every state.
fn check(state: &MemoryState) -> Result<(), TestCaseError> {
    let Some(Record::Params(params)) = state.get(&Key::Params) else {
        return Err(TestCaseError::fail("no parameters"));
    };
    let escrows = deals(state).map(|(_, deal)| deal.escrow.get()).sum::<u64>();
    let balances = state.balances().map(|sum| sum.get() + escrows);
    prop_assert_eq!(balances, Some(params.supply.get()), "credits are neither made nor lost");
    let nodes = || {
        state.records().filter_map(|(_, record)| match record {
            Record::Node(entry) => Some(entry.as_ref()),
            _ => None,
        })
    };
    for entry in nodes() {
        check_node(state, entry)?;
    }
    for (key, record) in state.records() {
        if let (Key::Account(id), Record::Account(account)) = (key, record) {
            let own = deals(state).filter(|(_, deal)| deal.owner == *id && deal.status.is_open());
            let stored: u64 = own.map(|(_, deal)| deal.slot_len * deal.placement.len() as u64).sum();
            prop_assert_eq!(account.stored.get(), stored, "what counts for the quota");
        }
    }
    let mut operators = BTreeMap::<&str, u64>::new();
    for entry in nodes().filter(|entry| entry.active && !entry.draining && entry.announcement.roles.has(Role::Storage))
    {
        *operators.entry(&entry.announcement.operator).or_default() += 1;
    }
    let counted: Vec<_> = state
        .records()
        .filter_map(|(key, record)| match (key, record) {
            (Key::Operator(name), Record::Operator(nodes)) => Some((name.as_str(), *nodes)),
            _ => None,
        })
        .collect();
    prop_assert_eq!(counted, operators.iter().map(|(name, nodes)| (*name, *nodes)).collect::<Vec<_>>());
    prop_assert_eq!(state.get(&Key::OperatorCount), Some(&Record::OperatorCount(operators.len() as u64)));
    for (key, record) in state.records() {
        prop_assert_eq!(&Record::from_bytes(key, &record.bytes()), &Ok(record.clone()));
        if let (Key::File(file), Record::File(deal)) = (key, record) {
            let enough = deal.confirmed.len() >= usize::from(deal.min_confirmations);
            let pending = matches!(deal.status, DealStatus::Pending { .. });
            prop_assert!(!(pending && enough), "final once there are receipts enough");
            let lost = deal.status.is_open() && !deal.lost.is_empty();
            prop_assert_eq!(state.get(&Key::Lost(*file)).is_some(), lost, "each deal with a lost slot is listed");
            prop_assert!(deal.lost.iter().all(|slot| !deal.confirmed.has(slot)));
            prop_assert!(deal.status.is_open() || deal.escrow == Amount::ZERO, "nothing stays in an ended deal");
            prop_assert_eq!(state.get(&Key::Manifest(*file)).is_some(), deal.status.is_open());
            let listed = !matches!(deal.status, DealStatus::Deleted { .. });
            prop_assert_eq!(state.get(&Key::OwnerFile(deal.owner, *file)).is_some(), listed);
        }
    }
    Ok(())
}

fn deals(state: &MemoryState) -> impl Iterator<Item = (FileId, &Deal)> {
    state.records().filter_map(|(key, record)| match (key, record) {
        (Key::File(file), Record::File(deal)) => Some((*file, deal.as_ref())),
        _ => None,
    })
}

/// What a node has to hold by the deals, by its list, and by its sums.
fn check_node(state: &MemoryState, entry: &NodeEntry) -> Result<(), TestCaseError> {
    let node = entry.announcement.node;
    let mut by_deals = BTreeMap::new();
    let mut used = 0;
    for (file, deal) in deals(state).filter(|(_, deal)| deal.status.is_open()) {
        let mine = (0..deal.placement.len()).filter(|slot| deal.placement[*slot] == node);
        let mine: Vec<_> = mine.filter(|slot| !deal.lost.has(*slot as u8)).collect();
        prop_assert!(mine.len() <= 1, "one slot of a file at most");
        used += deal.slot_len * mine.len() as u64;
        for slot in mine.into_iter().filter(|slot| deal.confirmed.has(*slot as u8)) {
            by_deals.insert(deal.slots[slot].leaf, (record::SlotId { file, slot: slot as u8 }, deal.slot_len));
        }
    }
    prop_assert_eq!(entry.used.get(), used, "bytes used are those of the open deals");
    prop_assert!(entry.used <= entry.announcement.capacity, "no node holds more than it offers");
    let (mut by_list, mut levels) = (BTreeMap::new(), BTreeMap::<(u8, u64), Vec<u64>>::new());
    for (key, record) in state.records() {
        match (key, record) {
            (Key::Held(of, leaf), Record::Held(slot)) if *of == node => _ = by_list.insert(*leaf, *slot),
            (Key::Sums(of, level, index), Record::Sums(sums)) if *of == node => {
                prop_assert!(sums.last().is_some_and(|last| *last > 0) && sums.len() <= 64);
                levels.insert((*level, *index), sums.clone());
            }
            _ => {}
        }
    }
    let slots: BTreeMap<_, _> = by_deals.iter().map(|(leaf, (slot, _))| (*leaf, *slot)).collect();
    prop_assert_eq!(by_list, slots, "deals and lists name the same slots");
    let mut want = vec![0; entry.next_leaf as usize];
    by_deals.iter().for_each(|(leaf, (_, len))| want[*leaf as usize] = *len);
    let mut leaves = vec![0; entry.next_leaf.next_multiple_of(64) as usize];
    for ((_, index), sums) in levels.iter().filter(|((level, _), _)| *level == 0) {
        sums.iter().enumerate().for_each(|(place, sum)| leaves[*index as usize * 64 + place] = *sum);
    }
    leaves.truncate(want.len());
    prop_assert_eq!(&leaves, &want, "the sums are over the lengths");
    prop_assert_eq!(entry.held.get(), want.iter().sum::<u64>());
    let due = |record: &Record| *record == Record::Due(record::Due::Challenge(node));
    let due = state.records().filter(|(_, record)| due(record)).count();
    prop_assert_eq!(due, usize::from(entry.audit.scheduled), "one audit is due, or none");
    prop_assert!(entry.audit.scheduled || entry.held == ByteCount::ZERO);
    prop_assert_eq!(entry.draining, state.get(&Key::Draining(node)).is_some());
    let audit = entry.audit;
    prop_assert_eq!(audit.asked, audit.answered + audit.missed + audit.waived);
    prop_assert!(audit.reputation <= promise::REPUTATION_MAX);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_history_keeps_the_supply_and_the_books(history in any_history()) {
        let mut chain = Chain::new();
        for block in &history {
            let list = txs(&chain, block);
            let done = chain.block(&list);
            prop_assert_eq!(done.effects.receipts.len(), list.len());
            check(&chain.state)?;
        }
        let rebuilt = chain.state.records().map(|(key, record)| (key.clone(), Some(record.clone()))).collect();
        let empty = tree::Overlay::new(&NoNodes, &[]);
        let tree = tree::update(&empty, crate::types::Height::GENESIS, &rebuilt).expect("nothing is read");
        prop_assert_eq!(tree.root(), chain.state.root(), "the root is that of the records alone");
    }

    #[test]
    fn a_block_twice_and_a_block_in_steps_come_to_the_same(history in any_history()) {
        let mut chain = Chain::new();
        for block in &history {
            let list = txs(&chain, block);
            let whole = execute_block(&chain.state, chain.next(), &list).expect("a valid block");
            prop_assert_eq!(&execute_block(&chain.state, chain.next(), &list).expect("a valid block"), &whole);
            let mut steps = Executor::begin(&chain.state, chain.next()).expect("a valid place");
            for tx in &list {
                let stale = chain.tx(1, 999, pay(2, 1));
                prop_assert!(steps.push(&stale).expect("memory can be read").is_err(), "what is left out leaves no trace");
                prop_assert!(steps.push(tx).expect("memory can be read").is_ok());
            }
            prop_assert_eq!(steps.finish().expect("memory can be read"), whole);
            chain.block(&list);
        }
    }

    #[test]
    fn apply_is_a_function_of_what_needs_names(history in any_history()) {
        let mut chain = Chain::new();
        for block in &history {
            let at = chain.next();
            for tx in txs(&chain, block) {
                let mut state = State::new();
                for _ in 0..ROUNDS {
                    for key in needs(&state, &at, &tx) {
                        let record = chain.state.get(&key).cloned();
                        state.load(key, record);
                    }
                }
                prop_assert_eq!(needs(&state, &at, &tx), Vec::new(), "a few rounds always do");
                prop_assert_eq!(apply(&state, &at, &tx), apply(&state, &at, &tx));
            }
            chain.block(&txs(&chain, block));
        }
    }

    #[test]
    fn random_bytes_never_panic_the_decoders(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let at_any = [Key::Params, Key::Tip, Key::Validators, Key::Account(account(0)), Key::Node(store(0))];
        for key in at_any {
            if let Ok(record) = Record::from_bytes(&key, &bytes) {
                prop_assert_eq!(record.bytes(), bytes.clone(), "one record, one encoding");
            }
        }
        _ = crate::wire::decode::<Receipt>(&bytes, 1 << 16);
        _ = crate::wire::decode::<Genesis>(&bytes, 1 << 16);
        _ = crate::wire::block::decode_payload(&bytes);
    }
}

struct NoNodes;

impl tree::TreeReader for NoNodes {
    type Error = std::convert::Infallible;
    fn node(&self, _: &[u8]) -> Result<Option<Vec<u8>>, Self::Error> {
        Ok(None)
    }
}

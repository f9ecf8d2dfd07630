//! Properties of the ledger over random histories.

use proptest::prelude::*;

use super::record::Deal;
use super::testing::*;
use super::*;
use crate::crypto::SecretKey;
use crate::types::{ByteCount, FileId, Role};
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
    Root { owner: u8, expect: Option<u8>, new: Option<u8>, right: bool },
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
        1 => (0..USERS, proptest::option::of(0_u8..3), proptest::option::of(0_u8..3), any::<bool>())
            .prop_map(|(owner, expect, new, right)| Act::Root { owner, expect, new, right }),
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

/// Of three slots, two or one restore it.
fn file(owner: u8, seed: u8, len: u64) -> PublicManifest {
    let data = 2 - seed % 2;
    manifest(owner, seed, data, 3 - data, len)
}

impl Act {
    fn action(&self, chain: &Chain, who: u8) -> Action {
        match *self {
            Self::Pay { to, amount } => pay(to, amount),
            Self::Put { seed, len, receipts, skew } => {
                let mut deal = commit(&chain.id, file(who, seed, len), receipts.min(3), 2);
                deal.epochs = 1 + u32::from(seed) * 2;
                deal.repair_threshold = deal.manifest.data;
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
            Self::Root { owner, expect, new, right } => {
                let named = |seed: Option<u8>| seed.map(|seed| file(owner, seed, 3_000).id());
                let have = match chain.state.get(&Key::Root(account(who))) {
                    Some(Record::Root(root)) => Some(*root),
                    _ => None,
                };
                Action::SetRoot { expect: if right { have } else { named(expect) }, new: named(new) }
            }
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

fn deals(state: &MemoryState) -> impl Iterator<Item = (FileId, &Deal)> {
    state.records().filter_map(|(key, record)| match (key, record) {
        (Key::File(file), Record::File(deal)) => Some((*file, deal.as_ref())),
        _ => None,
    })
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
            prop_assert_eq!(chain.state.audit(), Ok(()));
        }
        prop_assert_eq!(chain.state.audit_tree(), Ok(()));
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

//! The mempool: order, shares, bounds.

use proptest::prelude::*;

use super::*;
use crate::crypto::SecretKey;
use crate::types::{Amount, ChainId};
use crate::wire::{Action, Tx, TxBody};

fn key(sender: u8) -> SecretKey {
    SecretKey::from_seed(&[sender + 1; 32])
}

fn account(sender: u8) -> AccountId {
    key(sender).public().account_id()
}

fn tx_of(sender: u8, nonce: u64, memo: usize) -> VerifiedTx {
    let chain = ChainId::from_bytes([5; 32]);
    let action = Action::Transfer { to: account(0), amount: Amount::new(1), memo: "x".repeat(memo) };
    let body = TxBody { chain, sender: account(sender), nonce, action };
    VerifiedTx::verify(&chain, Tx::sign(body, &key(sender))).expect("a well-formed transaction")
}

fn tx(sender: u8, nonce: u64) -> VerifiedTx {
    tx_of(sender, nonce, 0)
}

/// A pool for `total` short transactions, `share` of them for one sender.
fn pool(total: usize, share: usize) -> Mempool {
    let one = cost(&tx(0, 0));
    Mempool::new(Capacity { total: total * one, sender: share * one })
}

fn take(pool: &mut Mempool, txs: usize, next: u64) -> Vec<(AccountId, u64)> {
    let taken = pool.take(1 << 20, txs, |_| Ok::<_, ()>(next)).expect("nonces can be read");
    taken.iter().map(|tx| (tx.sender(), tx.nonce())).collect()
}

#[test]
fn whoever_submits_learns_why_not() {
    let mut pool = pool(4, 3);
    assert_eq!(pool.insert(tx(1, 5), Some(5)), Ok(vec![]));
    let id = tx(1, 5).id();
    assert_eq!(pool.insert(tx(1, 5), Some(5)), Err(Refusal::Known(id)));
    assert_eq!(pool.insert(tx_of(1, 5, 9), Some(5)), Err(Refusal::NonceTaken { nonce: 5, other: id }));
    assert_eq!(pool.insert(tx(1, 4), Some(5)), Err(Refusal::StaleNonce { have: 4, next: 5 }));
    let far = 5 + limits::NONCE_AHEAD_MAX;
    assert_eq!(pool.insert(tx(1, far), Some(5)), Err(Refusal::NonceGap { have: far, next: 5 }));
    assert_eq!(pool.insert(tx(2, 0), None), Err(Refusal::UnknownSender(account(2))));
    assert_eq!(pool.insert(tx(1, 7), Some(5)), Ok(vec![]), "gossip has no order, so a gap may fill up");
    assert_eq!(pool.insert(tx(1, 6), Some(5)), Ok(vec![]));
    let one = cost(&tx(1, 5));
    assert_eq!(pool.insert(tx(1, 8), Some(5)), Err(Refusal::SenderFull { have: 3 * one, max: 3 * one }));
    assert_eq!((pool.admits(&tx(2, 0), Some(0)), pool.admits(&tx(2, 0), None).is_err()), (Ok(0), true));
    assert_eq!((pool.len(), pool.bytes()), (3, 3 * one), "to ask changes nothing");
}

#[test]
fn what_is_in_a_block_already_is_no_work_for_the_next() {
    let mut pool = pool(9, 9);
    let none = || std::iter::empty::<TxId>();
    assert!(!pool.has_beyond(0, none()));
    pool.insert(tx(1, 0), Some(0)).expect("room");
    assert!(pool.has_beyond(0, none()));
    let block = [tx(1, 0).id(), tx(2, 0).id()];
    assert!(!pool.has_beyond(2, block.into_iter()), "the other one was never here");
    pool.insert(tx(3, 0), Some(0)).expect("room");
    assert!(pool.has_beyond(2, block.into_iter()));
    pool.insert(tx(3, 1), Some(0)).expect("room");
    assert!(pool.has_beyond(2, block.into_iter()));
}

#[test]
fn a_newcomer_takes_the_place_of_the_last_of_whoever_holds_most() {
    let mut pool = pool(6, 6);
    (0..4).for_each(|nonce| assert_eq!(pool.insert(tx(1, nonce), Some(0)), Ok(vec![])));
    (0..2).for_each(|nonce| assert_eq!(pool.insert(tx(2, nonce), Some(0)), Ok(vec![])));
    assert_eq!(pool.insert(tx(3, 0), Some(0)), Ok(vec![tx(1, 3)]));
    assert_eq!(pool.insert(tx(3, 1), Some(0)), Ok(vec![tx(1, 2)]));
    let (have, max) = (pool.bytes(), pool.bytes());
    for sender in 1..4 {
        let refused = pool.insert(tx(sender, 9), Some(0));
        assert_eq!(refused, Err(Refusal::Full { have, max }), "all hold the same, so nobody is pushed out");
    }
    assert_eq!(pool.len(), 6);
}

#[test]
fn whoever_holds_most_pushes_out_nobody() {
    let mut pool = pool(5, 5);
    (0..3).for_each(|nonce| _ = pool.insert(tx(1, nonce), Some(0)));
    (0..2).for_each(|nonce| _ = pool.insert(tx(2, nonce), Some(0)));
    assert!(matches!(pool.insert(tx(1, 3), Some(0)), Err(Refusal::Full { .. })));
    assert_eq!(pool.len(), 5);
}

#[test]
fn a_large_newcomer_takes_room_from_several_or_leaves_all_as_it_was() {
    let one = cost(&tx(0, 0));
    let mut pool = Mempool::new(Capacity { total: 6 * one, sender: 6 * one });
    for sender in 1..4 {
        (0..2).for_each(|nonce| _ = pool.insert(tx(sender, nonce), Some(0)));
    }
    let large = tx_of(4, 0, 256);
    assert!(cost(&large) > one && cost(&large) < 2 * one);
    let evicted = pool.insert(large, Some(0)).expect("there is more in the pool of each than this");
    assert_eq!(evicted.len(), 2);
    assert_eq!(evicted.iter().map(VerifiedTx::nonce).collect::<Vec<_>>(), [1, 1], "the last of two senders");
    let before: Vec<_> = pool.iter().map(VerifiedTx::id).collect();
    assert!(pool.insert(tx_of(5, 0, 256), Some(0)).is_err(), "two more would push out someone who holds less");
    assert_eq!(pool.iter().map(VerifiedTx::id).collect::<Vec<_>>(), before);
}

#[test]
fn senders_take_turns_and_nobody_is_always_first() {
    let mut pool = pool(100, 100);
    (0..6).for_each(|nonce| _ = pool.insert(tx(1, nonce), Some(0)));
    (0..2).for_each(|nonce| _ = pool.insert(tx(2, nonce), Some(0)));
    _ = pool.insert(tx(3, 0), Some(0));
    _ = pool.insert(tx(3, 2), Some(0));
    let all = take(&mut pool, 100, 0);
    let of = |sender| all.iter().filter(|(who, _)| *who == account(sender)).map(|(_, n)| *n).collect::<Vec<_>>();
    assert_eq!([of(1), of(2), of(3)], [vec![0, 1, 2, 3, 4, 5], vec![0, 1], vec![0]], "in nonce order, up to a gap");
    let mut first: Vec<_> = all[..3].iter().map(|(who, _)| *who).collect();
    first.sort();
    first.dedup();
    assert_eq!(first.len(), 3, "one of each before the second of any");
    let starts: BTreeSet<_> = (0..3).map(|_| take(&mut pool, 1, 0)[0].0).collect();
    assert_eq!(starts.len(), 3);
    assert_eq!(pool.len(), 10, "what is taken stays until it is final");
}

#[test]
fn a_block_is_filled_by_bytes_and_by_the_nonces_it_is_built_on() {
    let mut pool = pool(100, 100);
    (0..5).for_each(|nonce| _ = pool.insert(tx(1, nonce), Some(0)));
    let two = 2 * tx(1, 0).encoded().len();
    let taken = pool.take(two + 1, 100, |_| Ok::<_, ()>(2)).expect("nonces can be read");
    assert_eq!(taken.iter().map(VerifiedTx::nonce).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(pool.take(two, 100, |_| Err("the disk failed")), Err("the disk failed"));
}

#[test]
fn what_is_final_or_useless_or_old_goes() {
    let mut pool = pool(100, 100);
    (0..4).for_each(|nonce| _ = pool.insert(tx(1, nonce), Some(0)));
    _ = pool.insert(tx(2, 1), Some(0));
    pool.finalized(Height::new(3), &[tx_of(1, 0, 7), tx(1, 1), tx(3, 0)]);
    assert_eq!(pool.iter().map(VerifiedTx::nonce).collect::<BTreeSet<_>>(), BTreeSet::from([1, 2, 3]));
    assert_eq!((pool.len(), pool.get(&tx(1, 0).id())), (3, None));
    _ = pool.insert(tx(2, 2), Some(0));
    pool.finalized(Height::new(limits::MEMPOOL_BLOCKS_MAX + 1), &[]);
    assert_eq!(pool.iter().cloned().collect::<Vec<_>>(), [tx(2, 2)]);
}

#[test]
fn the_next_nonce_is_the_first_that_is_free() {
    let mut pool = pool(100, 100);
    [3, 4, 6].into_iter().for_each(|nonce| _ = pool.insert(tx(1, nonce), Some(3)));
    assert_eq!([2, 3, 5].map(|next| pool.next_nonce(&account(1), next)), [2, 5, 5]);
    assert_eq!(pool.next_nonce(&account(2), 9), 9);
}

#[derive(Clone, Debug)]
enum Step {
    Insert { sender: u8, nonce: u64, memo: usize },
    Remove { sender: u8, nonce: u64 },
    Finalize { sender: u8, nonce: u64, blocks: u64 },
    Take { bytes: usize, txs: usize },
}

fn any_step() -> impl Strategy<Value = Step> {
    let (sender, nonce, memo) = (0_u8..5, 0_u64..8, prop_oneof![Just(0_usize), Just(256)]);
    prop_oneof![
        6 => (sender.clone(), nonce.clone(), memo).prop_map(|(sender, nonce, memo)| Step::Insert { sender, nonce, memo }),
        1 => (sender.clone(), nonce.clone()).prop_map(|(sender, nonce)| Step::Remove { sender, nonce }),
        1 => (sender, nonce, 1_u64..9_000).prop_map(|(sender, nonce, blocks)| Step::Finalize { sender, nonce, blocks }),
        1 => (0_usize..3_000, 0_usize..9).prop_map(|(bytes, txs)| Step::Take { bytes, txs }),
    ]
}

/// Bounds, and every index telling the same.
fn check(pool: &Mempool) -> Result<(), TestCaseError> {
    let mut held = BTreeMap::<AccountId, usize>::new();
    for tx in pool.iter() {
        *held.entry(tx.sender()).or_default() += cost(tx);
        prop_assert_eq!(pool.get(&tx.id()), Some(tx));
    }
    prop_assert_eq!(pool.bytes(), held.values().sum::<usize>());
    prop_assert!(pool.bytes() <= pool.capacity.total);
    prop_assert!(held.values().all(|bytes| *bytes <= pool.capacity.sender));
    prop_assert_eq!(&pool.by_weight, &held.iter().map(|(who, bytes)| (*bytes, *who)).collect::<BTreeSet<_>>());
    prop_assert_eq!(pool.by_age.len(), pool.len());
    let ready = pool.queues.iter().filter(|(_, queue)| queue.by_nonce.contains_key(&queue.next)).map(|(who, _)| *who);
    prop_assert_eq!(&pool.ready, &ready.collect::<BTreeSet<_>>());
    prop_assert_eq!(pool.iter().count(), pool.len());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn bounds_and_books_hold_under_any_use(steps in proptest::collection::vec(any_step(), 0..80), next in 0_u64..3) {
        let mut pool = pool(9, 5);
        let mut height = 0;
        for step in steps {
            match step {
                Step::Insert { sender, nonce, memo } => {
                    let (before, new) = (pool.len(), tx_of(sender, nonce, memo));
                    match pool.insert(new.clone(), Some(next)) {
                        Ok(evicted) => {
                            prop_assert_eq!(pool.len(), before + 1 - evicted.len());
                            prop_assert!(evicted.iter().all(|old| old.sender() != new.sender()));
                            prop_assert_eq!(pool.get(&new.id()), Some(&new));
                        }
                        Err(_) => prop_assert_eq!(pool.len(), before),
                    }
                }
                Step::Remove { sender, nonce } => _ = pool.remove(&tx(sender, nonce).id()),
                Step::Finalize { sender, nonce, blocks } => {
                    height += blocks;
                    pool.finalized(Height::new(height), &[tx(sender, nonce)]);
                    prop_assert!(pool.iter().all(|tx| tx.sender() != account(sender) || tx.nonce() > nonce));
                }
                Step::Take { bytes, txs } => {
                    let taken = pool.take(bytes, txs, |_| Ok::<_, ()>(next)).expect("nonces can be read");
                    prop_assert!(taken.len() <= txs);
                    prop_assert!(taken.iter().map(|tx| tx.encoded().len()).sum::<usize>() <= bytes);
                    let mut nonces = BTreeMap::<AccountId, u64>::new();
                    for tx in taken {
                        let due = nonces.entry(tx.sender()).or_insert(next);
                        prop_assert_eq!(tx.nonce(), *due, "each is its sender's next");
                        *due += 1;
                    }
                }
            }
            check(&pool)?;
        }
    }
}

#[test]
fn only_a_senders_next_transaction_is_worth_a_block() {
    let mut pool = pool(9, 9);
    assert!(!pool.has_next());
    pool.insert(tx(1, 6), Some(5)).expect("taken in");
    assert!(!pool.has_next(), "nonce 5 is missing");
    pool.insert(tx(1, 5), Some(5)).expect("taken in");
    assert!(pool.has_next());
    pool.finalized(Height::new(1), &[tx(1, 5)]);
    assert!(pool.has_next(), "nonce 6 is next now");
    pool.finalized(Height::new(2), &[tx(1, 6)]);
    assert!(!pool.has_next());
    pool.insert(tx(1, 9), Some(8)).expect("taken in");
    pool.insert(tx(1, 11), Some(10)).expect("taken in");
    assert_eq!(pool.len(), 1, "nonce 9 was used up meanwhile");
    assert!(!pool.has_next());
}

#[test]
fn what_has_waited_for_a_block_is_overdue_in_turns() {
    let mut pool = pool(9, 9);
    (0..3).for_each(|nonce| assert_eq!(pool.insert(tx(1, nonce), Some(0)), Ok(vec![])));
    assert_eq!((pool.overdue(0, 9, false), pool.overdue(0, 9, true).len()), (vec![], 3));
    pool.finalized(Height::new(1), &[]);
    pool.insert(tx(2, 0), Some(0)).expect("taken in");
    let (first, rest) = (pool.overdue(0, 2, false), pool.overdue(2, 9, false));
    assert_eq!((first.len(), rest.len()), (2, 3));
    assert!(!first.contains(&rest[0]) && !rest.contains(&tx(2, 0)));
}

//! Shares of files, block by block.

use super::promise_tests::{put, rejected};
use super::record::Shared;
use super::testing::*;
use super::*;
use crate::crypto::SecretKey;
use crate::types::{AccountId, FileId, Height, limits};
use crate::wire::Action;

fn share(file: FileId, to: AccountId, until: Option<u64>) -> Action {
    Action::ShareFile { file, to, sealed: vec![7; 104], until: until.map(Height::new) }
}

fn unshare(file: FileId, to: AccountId) -> Action {
    Action::UnshareFile { file, to }
}

fn shares(chain: &Chain, file: &FileId) -> Vec<AccountId> {
    match chain.state.get(&Key::Shares(*file)) {
        Some(Record::Shares(list)) => list.iter().map(|Shared { to, .. }| *to).collect(),
        _ => Vec::new(),
    }
}

/// Files that an account's node finds by one scan.
fn shared_with(chain: &Chain, account: &AccountId) -> usize {
    let prefix = Key::shared_with(account);
    chain.state.records().filter(|(key, _)| key.bytes().starts_with(&prefix)).count()
}

/// Accounts beyond those of the genesis.
fn stranger(n: u8) -> AccountId {
    SecretKey::from_seed(&[n; 32]).public().account_id()
}

#[test]
fn only_the_owner_shares_and_the_owner_or_the_receiver_ends_it() {
    let mut chain = Chain::new();
    let file = put(&mut chain, 1, 9).id();
    let refused = rejected(chain.act(2, share(file, account(3), None)));
    assert_eq!(refused, Reject::FileOwner { file, have: account(1), need: account(2) });
    assert_eq!(chain.act(1, share(file, account(2), None)), Outcome::Applied);
    assert_eq!(chain.act(1, share(file, account(3), None)), Outcome::Applied);
    assert_eq!((shares(&chain, &file).len(), shared_with(&chain, &account(2))), (2, 1));
    let refused = rejected(chain.act(2, unshare(file, account(3))));
    assert_eq!(refused, Reject::FileOwner { file, have: account(1), need: account(2) });
    assert_eq!(chain.act(2, unshare(file, account(2))), Outcome::Applied, "off its own list");
    assert_eq!(chain.act(1, unshare(file, account(3))), Outcome::Applied, "by the owner");
    assert_eq!(chain.state.get(&Key::Shares(file)), None);
    let refused = rejected(chain.act(1, unshare(file, account(3))));
    assert_eq!(refused, Reject::NotShared { file, account: account(3) });
    assert_eq!(chain.state.audit(), Ok(()));
    assert_eq!(chain.state.audit_tree(), Ok(()));
}

#[test]
fn what_cannot_be_shared_is_refused() {
    let mut chain = Chain::new();
    let file = put(&mut chain, 1, 9).id();
    let unknown = FileId::from_bytes([9; 32]);
    let no_key = AccountId::from_bytes([0; 32]);
    let need = Height::new(chain.height + 5);
    let cases = [
        (share(unknown, account(2), None), Reject::UnknownFile(unknown)),
        (unshare(unknown, account(2)), Reject::UnknownFile(unknown)),
        (unshare(unknown, account(1)), Reject::UnknownFile(unknown)),
        (share(file, account(1), None), Reject::ShareOwn(file)),
        (share(file, account(2), Some(1)), Reject::ShareOver { have: Height::new(1), need }),
        (share(file, no_key, None), Reject::AccountKey(no_key)),
    ];
    for (action, reason) in cases {
        assert_eq!(rejected(chain.act(1, action)), reason);
    }
    chain.act(1, Action::DeleteFile { file });
    assert_eq!(rejected(chain.act(1, share(file, account(2), None))), Reject::Ended(file));
}

#[test]
fn a_share_again_takes_the_place_of_the_one_before() {
    let mut chain = Chain::new();
    let file = put(&mut chain, 1, 9).id();
    chain.act(1, share(file, account(2), None));
    let until = Some(Height::new(500));
    let sealed = vec![8; 104];
    chain.act(1, Action::ShareFile { file, to: account(2), sealed: sealed.clone(), until });
    assert_eq!(chain.state.get(&Key::Share(account(2), file)), Some(&Record::Share { sealed, until }));
    assert_eq!(chain.state.get(&Key::Shares(file)), Some(&Record::Shares(vec![Shared { to: account(2), until }])));
    assert_eq!(chain.state.audit(), Ok(()));
}

#[test]
fn a_file_has_so_many_shares_and_those_whose_time_is_up_make_room() {
    let mut chain = Chain::new();
    let file = put(&mut chain, 1, 50).id();
    let max = limits::SHARES_PER_FILE_MAX;
    let last = chain.height + 2;
    let all: Vec<_> = (0..max).map(|n| stranger(100 + n as u8)).collect();
    let nonce = chain.nonce(1);
    // Two of them end with the next block.
    let until = |n: usize| (n < 2).then_some(last);
    let shares_of = |(n, to): (usize, &AccountId)| chain.tx(1, nonce + n as u64, share(file, *to, until(n)));
    let txs: Vec<_> = all.iter().enumerate().map(shares_of).collect();
    chain.block(&txs);
    assert_eq!(shares(&chain, &file).len(), max);
    let full = Reject::TooManyShares { file, max: max as u64 };
    assert_eq!(rejected(chain.act(1, share(file, account(2), None))), full, "they count in their last block");
    assert_eq!(chain.height, last);
    assert_eq!(chain.act(1, share(file, account(2), None)), Outcome::Applied);
    assert_eq!(shares(&chain, &file).len(), max - 1, "both are gone");
    assert_eq!(shared_with(&chain, &all[0]) + shared_with(&chain, &all[1]), 0);
    assert_eq!(chain.state.audit(), Ok(()));
}

#[test]
fn a_block_counts_the_shares_that_go_with_a_deal_as_work() {
    let mut chain = Chain::new();
    let file = put(&mut chain, 1, 9).id();
    for to in [account(0), account(2)] {
        chain.act(1, share(file, to, None));
    }
    let moved = |action| {
        let (tx, mut state) = (chain.tx(1, chain.nonce(1), action), State::new());
        while let missing @ [_, ..] = needs(&state, &chain.next(), &tx).as_slice() {
            missing.iter().for_each(|key| state.load(key.clone(), chain.state.get(key).cloned()));
        }
        slots_moved(&state, &tx)
    };
    assert_eq!(moved(Action::DeleteFile { file }), 3 + 2);
    assert_eq!(moved(share(file, account(3), None)), 3, "as if all that are there were over");
    assert_eq!(moved(unshare(file, account(2))), 1);
}

#[test]
fn no_share_is_left_of_a_deal_that_has_ended() {
    let mut chain = Chain::new();
    let (deleted, timed) = (put(&mut chain, 1, 9).id(), put(&mut chain, 2, 1).id());
    let pending = manifest(1, 3, 2, 1, 10_000);
    let commit = commit(&chain.id, pending.clone(), 1, 3);
    assert_eq!(chain.act(1, Action::CommitFile(Box::new(commit))), Outcome::Applied);
    let wanted = [deleted, timed, pending.id()].map(|file| [account(0), account(2), stranger(90)].map(|to| (file, to)));
    let wanted = wanted.into_iter().flatten().zip(chain.nonce(1)..);
    let txs: Vec<_> = wanted.map(|((file, to), nonce)| chain.tx(1, nonce, share(file, to, Some(10_000)))).collect();
    let receipts = chain.block(&txs).effects.receipts;
    assert!(receipts.iter().all(|receipt| receipt.outcome == Outcome::Applied));
    assert_eq!(shared_with(&chain, &account(2)), 3);
    chain.act(1, Action::DeleteFile { file: deleted });
    assert_eq!(shared_with(&chain, &account(2)), 2);
    chain.run_to(chain.height + 4 * EPOCH);
    assert!(matches!(chain.deal(&timed).status, record::DealStatus::Ended { .. }));
    assert!(matches!(chain.deal(&pending.id()).status, record::DealStatus::Expired { .. }));
    assert_eq!(shared_with(&chain, &account(2)), 0);
    assert!(chain.state.records().all(|(key, _)| !matches!(key, Key::Share(..) | Key::Shares(_))));
    assert_eq!(chain.state.audit(), Ok(()));
    assert_eq!(chain.state.audit_tree(), Ok(()));
}

//! The root of an account's tree: what may become it, and that nobody undoes another's change.

use super::testing::*;
use super::*;
use crate::types::FileId;
use crate::wire::Action;

fn set(expect: Option<FileId>, new: Option<FileId>) -> Action {
    Action::SetRoot { expect, new }
}

fn put(chain: &mut Chain, owner: u8, seed: u8, receipts: u8) -> FileId {
    let manifest = manifest(owner, seed, 2, 1, 1_000);
    let (file, deal) = (manifest.id(), commit(&chain.id, manifest, receipts, 2));
    assert_eq!(chain.act(owner, Action::CommitFile(Box::new(deal))), Outcome::Applied);
    file
}

fn root(chain: &Chain, n: u8) -> Option<FileId> {
    match chain.state.get(&Key::Root(account(n))) {
        Some(Record::Root(file)) => Some(*file),
        _ => None,
    }
}

#[test]
fn of_two_changes_on_the_same_root_the_second_is_refused() {
    let mut chain = Chain::new();
    let [a, b, c] = [1, 2, 3].map(|seed| put(&mut chain, 1, seed, 3));
    assert_eq!(chain.act(1, set(None, Some(a))), Outcome::Applied);
    let nonce = chain.nonce(1);
    let txs = [chain.tx(1, nonce, set(Some(a), Some(b))), chain.tx(1, nonce + 1, set(Some(a), Some(c)))];
    let done: Vec<_> = chain.block(&txs).effects.receipts.into_iter().map(|receipt| receipt.outcome).collect();
    let refused = Reject::RootMoved { have: Some(b), expect: Some(a) };
    assert_eq!(done, [Outcome::Applied, Outcome::Rejected(refused)]);
    assert_eq!(root(&chain, 1), Some(b));
    assert_eq!(chain.act(1, set(Some(b), None)), Outcome::Applied);
    assert_eq!(root(&chain, 1), None);
    assert_eq!(chain.state.audit_tree(), Ok(()));
}

#[test]
fn a_file_is_collected_only_by_its_owner_and_on_the_root_in_which_it_was_looked_for() {
    let mut chain = Chain::new();
    let [a, b, c] = [1, 2, 3].map(|seed| put(&mut chain, 1, seed, 3));
    let collect = |root| Action::CollectFile { file: c, root };
    assert_eq!(chain.act(1, set(None, Some(a))), Outcome::Applied);
    assert_eq!(chain.act(1, set(Some(a), Some(b))), Outcome::Applied);
    let moved = Reject::RootMoved { have: Some(b), expect: Some(a) };
    assert_eq!(chain.act(1, collect(Some(a))), Outcome::Rejected(moved));
    let other = Reject::FileOwner { file: c, have: account(1), need: account(2) };
    assert_eq!(chain.act(2, collect(None)), Outcome::Rejected(other));
    assert_eq!(chain.act(1, collect(Some(b))), Outcome::Applied);
    assert_eq!(chain.act(1, collect(Some(b))), Outcome::Rejected(Reject::Ended(c)));
    assert_eq!(chain.state.audit_tree(), Ok(()));
}

#[test]
fn only_an_own_final_file_becomes_a_root() {
    let mut chain = Chain::new();
    let (other, pending, gone) = (put(&mut chain, 2, 1, 3), put(&mut chain, 1, 2, 1), put(&mut chain, 1, 3, 3));
    assert_eq!(chain.act(1, Action::DeleteFile { file: gone }), Outcome::Applied);
    let nowhere = FileId::from_bytes([7; 32]);
    let cases = [
        (nowhere, Reject::UnknownFile(nowhere)),
        (other, Reject::FileOwner { file: other, have: account(2), need: account(1) }),
        (pending, Reject::NotFinal(pending)),
        (gone, Reject::Ended(gone)),
    ];
    for (file, reject) in cases {
        assert_eq!(chain.act(1, set(None, Some(file))), Outcome::Rejected(reject));
    }
    assert_eq!(root(&chain, 1), None);
}

#[test]
fn the_canonical_bytes_of_a_root_stay_as_they_are() {
    let mut chain = Chain::new();
    let file = put(&mut chain, 1, 1, 3);
    let tx = chain.tx(1, chain.nonce(1), set(None, Some(file)));
    let again = chain.tx(1, chain.nonce(1) + 1, set(None, None));
    let mut golden = String::new();
    for receipt in chain.block(&[tx, again]).effects.receipts {
        golden += &format!("receipt {}\n", hex::encode(crate::wire::encode(&receipt)));
    }
    let key = Key::Root(account(1));
    let record = chain.state.get(&key).expect("a root");
    golden += &format!("{} {}\n", hex::encode(key.bytes()), hex::encode(record.bytes()));
    expect_test::expect_file!["../../fixtures/wire/tree_root.txt"].assert_eq(&golden);
}

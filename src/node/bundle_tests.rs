//! Bundles over changes of the validators: each set is certified by the one before it, and by no other.

use super::*;
use crate::crypto::SecretKey;
use crate::ledger::Genesis;
use crate::node::testing;
use crate::types::{Round, View};
use crate::wire::certificate::Signed;
use crate::wire::{Validator, VoteKind};

pub fn key(n: u8) -> SecretKey {
    SecretKey::from_seed(&[n; 32])
}

pub fn set(keys: &[SecretKey]) -> ValidatorSet {
    let mut members: Vec<_> = keys.iter().map(|key| Validator { node: key.public().node_id(), power: 1 }).collect();
    members.sort_by_key(|member| member.node);
    ValidatorSet::new(members).expect("a set")
}

pub fn certify(genesis: &Genesis, header: &Header, keys: &[SecretKey]) -> Certificate {
    let mut certificate = Certificate {
        kind: VoteKind::Commit,
        round: header.round,
        height: header.height,
        block: header.hash(),
        signatures: Vec::new(),
    };
    let (set, statement) = (set(keys), certificate.statement());
    let sign = |key: &SecretKey| Signed {
        index: set.index_of(&key.public().node_id()).expect("a member"),
        signature: statement.sign(&genesis.chain_id(), key),
    };
    certificate.signatures = keys.iter().map(sign).collect();
    certificate.signatures.sort_by_key(|signed| signed.index);
    certificate
}

pub fn header(genesis: &Genesis, height: u64, by: &[SecretKey], next: &[SecretKey]) -> Header {
    let first = genesis.block().expect("a genesis block").header;
    let (height, epoch) = (Height::new(height), Epoch::new((height - 1) / genesis.epoch_blocks));
    let (validator_set, next_set) = (set(by).hash(), set(next).hash());
    Header { height, round: Round::new(epoch, View::new(1)), validator_set, next_set, ..first }
}

/// From the one validator of the genesis to two, and to two others; of the state it proves the parameters.
fn bundle(genesis: &Genesis) -> (Bundle, [Vec<SecretKey>; 3]) {
    let home = tempfile::tempdir().expect("a directory");
    let store = testing::store(home.path(), [1; 32], genesis);
    let snapshot = store.reader().snapshot().expect("a snapshot");
    let proof = prove(&Overlay::new(&snapshot, &[]), Height::GENESIS, &Key::Params);
    let sets = [vec![testing::validator()], vec![testing::validator(), key(20)], vec![key(20), key(21)]];
    let change = |height, from: usize| {
        let header = header(genesis, height, &sets[from], &sets[from + 1]);
        let next = set(&sets[from + 1]);
        SetChange { certificate: certify(genesis, &header, &sets[from]), header, next }
    };
    let last = header(genesis, 50, &sets[2], &sets[2]);
    let bundle = Bundle {
        key: Key::Params.bytes(),
        record: snapshot.state(&Key::Params.bytes()).expect("a record"),
        proof: proof.expect("a proof"),
        start: None,
        changes: vec![change(20, 0), change(40, 1)],
        certificate: certify(genesis, &last, &sets[2]),
        headers: vec![last],
    };
    (bundle, sets)
}

#[test]
fn each_set_is_certified_by_the_one_before_it() {
    let genesis = testing::genesis();
    let (good, sets) = bundle(&genesis);
    let (named, record) = good.verify(&Anchor::Genesis(&genesis)).expect("a proof over two changes");
    assert_eq!((named, record.is_some()), (Key::Params, true));
    let refused = |edit: &dyn Fn(&mut Bundle)| {
        let mut bundle = good.clone();
        edit(&mut bundle);
        bundle.verify(&Anchor::Genesis(&genesis)).expect_err("not proven").0
    };
    assert!(refused(&|bundle| _ = bundle.changes.remove(0)).contains("does not lead on"), "a change is left out");
    assert!(refused(&|bundle| _ = bundle.changes.pop()).contains("not for these validators"));
    assert!(refused(&|bundle| bundle.changes.swap(0, 1)).contains("does not lead on"));
    let thief = vec![key(66)];
    let theirs = |bundle: &mut Bundle, keys: &[SecretKey]| {
        let change = &mut bundle.changes[1];
        change.certificate = certify(&genesis, &change.header, keys);
    };
    assert!(refused(&|bundle| theirs(bundle, &sets[2])).contains("certificate of height 40"), "by those who come");
    assert!(refused(&|bundle| theirs(bundle, &thief)).contains("certificate of height 40"));
    assert!(refused(&|bundle| bundle.changes[1].next = set(&thief)).contains("names other validators"));
    let half = |bundle: &mut Bundle| _ = bundle.changes[1].certificate.signatures.pop();
    assert!(refused(&half).contains("no quorum"));
}

#[test]
fn validators_of_the_genesis_certify_nothing_after_their_time() {
    let genesis = testing::genesis();
    let (mut old, sets) = bundle(&genesis);
    let last = header(&genesis, 30, &sets[2], &sets[2]);
    (old.certificate, old.headers) = (certify(&genesis, &last, &sets[2]), vec![last]);
    assert!(
        old.verify(&Anchor::Genesis(&genesis))
            .expect_err("height 30 is before the last change")
            .0
            .contains("older than")
    );
}

#[test]
fn a_checkpoint_stands_for_everything_before_it() {
    let genesis = testing::genesis();
    let (whole, sets) = bundle(&genesis);
    let point = |header: &Header| Checkpoint { height: header.height, hash: header.hash() };
    let trust = |bundle: &Bundle, point| bundle.verify(&Anchor::Checkpoint(point)).map(|(key, _)| key);
    let before = header(&genesis, 30, &sets[1], &sets[1]);
    let mut late = whole.clone();
    (late.start, late.changes) = (Some((before.clone(), set(&sets[1]))), vec![whole.changes[1].clone()]);
    assert_eq!(trust(&late, point(&before)), Ok(Key::Params), "over the change after it");
    let change = &whole.changes[0].header;
    assert_eq!(trust(&whole, point(change)), Ok(Key::Params), "one from the genesis holds the headers of its changes");
    let refused = |bundle: &Bundle, point| trust(bundle, point).expect_err("not proven").0;
    let other = Checkpoint { hash: change.hash(), ..point(&before) };
    assert!(refused(&late, other).contains("is not that of checkpoint"));
    assert!(refused(&whole, point(&before)).contains("does not begin with checkpoint"));
    let mut thieves = late.clone();
    thieves.start = Some((before.clone(), set(&[key(66)])));
    assert!(refused(&thieves, point(&before)).contains("names other validators"));
    let mut ahead = late.clone();
    ahead.start = Some((header(&genesis, 60, &sets[2], &sets[2]), set(&sets[2])));
    let start = ahead.start.clone().expect("a start").0;
    ahead.changes.clear();
    assert!(refused(&ahead, point(&start)).contains("older than"), "nothing before a checkpoint is proven by it");
    assert!(late.verify(&Anchor::Genesis(&genesis)).expect_err("no genesis in it").0.contains("--trust"));
}

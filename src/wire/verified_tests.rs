//! Verified transactions: what passes and what does not.

use proptest::prelude::*;

use super::*;
use crate::crypto::SecretKey;
use crate::types::{Amount, ByteCount, Epoch, FileId, Height, Role, Roles, SlotRoot};
use crate::wire::block::{decode_payload, encode_payload};
use crate::wire::certificate::Statement;
use crate::wire::{Accusation, DecodeError, Evidence, PublicManifest, SlotInfo, TxBody};

const CHAIN: ChainId = ChainId::from_bytes([5; 32]);

fn key(n: u8) -> SecretKey {
    SecretKey::from_seed(&[n + 1; 32])
}

fn signed(action: Action) -> Tx {
    let body = TxBody { chain: CHAIN, sender: key(0).public().account_id(), nonce: 3, action };
    Tx::sign(body, &key(0))
}

fn pay(memo: &str) -> Tx {
    let (to, amount) = (key(1).public().account_id(), Amount::new(5));
    signed(Action::Transfer { to, amount, memo: memo.to_owned() })
}

fn node(edit: impl FnOnce(&mut NodeAnnouncement)) -> Tx {
    let mut node = NodeAnnouncement {
        node: key(7).public().node_id(),
        name: "barn".to_owned(),
        operator: "farm".to_owned(),
        roles: Roles::of(&[Role::Storage]),
        capacity: ByteCount::new(1),
        addresses: vec!["/ip4/127.0.0.1/tcp/1".to_owned()],
        beacon_head: [1; 32],
        binding: Signature::from_bytes([0; 64]),
    };
    edit(&mut node);
    node.bind(&CHAIN, &key(0).public().account_id(), &key(7));
    signed(Action::RegisterNode(Box::new(node)))
}

fn deal(edit: impl FnOnce(&mut FileCommit)) -> Tx {
    let mut manifest = PublicManifest {
        version: 1,
        owner: key(0).public().account_id(),
        nonce: [0; 32],
        data: 2,
        parity: 1,
        chunk_bytes: 1 << 20,
        cipher_len: 10,
        slots: Vec::new(),
        sealed: Vec::new(),
    };
    let slot = |n: u8| SlotInfo { root: SlotRoot::from_bytes([n; 32]), len: 5 };
    manifest.slots = (0..3).map(slot).collect();
    let file = manifest.id();
    let receipt =
        |n: u8| StorageReceipt::sign(&CHAIN, &file, n, Height::new(9), &manifest.slots[usize::from(n)], &key(10 + n));
    let receipts = vec![receipt(0), receipt(2)];
    let placement = (10..13).map(|n| key(n).public().node_id()).collect();
    let mut deal = FileCommit { manifest, placement, min_confirmations: 2, repair_threshold: 2, epochs: 7, receipts };
    edit(&mut deal);
    signed(Action::CommitFile(Box::new(deal)))
}

fn verify(tx: Tx) -> Result<VerifiedTx, Malformed> {
    VerifiedTx::verify(&CHAIN, tx)
}

#[test]
fn a_good_transaction_is_verified_and_keeps_its_id_and_bytes() {
    let delete = signed(Action::DeleteFile { file: FileId::from_bytes([1; 32]) });
    for tx in [pay("hello"), node(|_| {}), deal(|_| {}), delete] {
        let verified = verify(tx.clone()).expect("nothing is wrong with it");
        assert_eq!(verified.id(), tx.id());
        assert_eq!(verified.encoded().as_ref(), crate::wire::encode(&tx));
        assert_eq!((verified.tx(), verified.nonce(), verified.sender()), (&tx, 3, tx.body.sender));
    }
}

#[test]
fn another_chain_another_signer_and_another_content_are_refused() {
    let other = ChainId::from_bytes([6; 32]);
    assert_eq!(VerifiedTx::verify(&other, pay("")), Err(Malformed::Chain { have: CHAIN, need: other }));
    let mut changed = pay("");
    changed.body.nonce += 1;
    assert_eq!(verify(changed), Err(Malformed::Signature));
    let mut stolen = pay("");
    stolen.body.sender = key(1).public().account_id();
    assert_eq!(verify(stolen), Err(Malformed::Signature));
}

#[test]
fn texts_and_lists_have_their_limits() {
    let max = limits::MEMO_BYTES_MAX;
    assert!(verify(pay(&"x".repeat(max))).is_ok());
    let (what, have) = ("memo", max + 1);
    assert_eq!(verify(pay(&"x".repeat(max + 1))), Err(Malformed::Text { what, have, min: 0, max }));
    assert_eq!(verify(pay("a\u{1b}[2Jb")), Err(Malformed::Control("memo")));
    let nothing =
        signed(Action::Transfer { to: key(1).public().account_id(), amount: Amount::ZERO, memo: String::new() });
    assert_eq!(verify(nothing), Err(Malformed::NoAmount));
    let (have, max) = (9, limits::NODE_ADDRESSES_MAX);
    let many = node(|node| node.addresses = vec!["/a".to_owned(); 9]);
    assert_eq!(verify(many), Err(Malformed::List { what: "addresses", have, max }));
    let (have, max) = (0, limits::NAME_BYTES_MAX);
    let unnamed = node(|node| node.operator.clear());
    assert_eq!(verify(unnamed), Err(Malformed::Text { what: "operator", have, min: 1, max }));
    assert_eq!(verify(node(|node| node.roles = Roles::NONE)), Err(Malformed::Roles));
}

#[test]
fn a_node_must_accept_its_account() {
    let mut tx = node(|_| {});
    let Action::RegisterNode(node) = &mut tx.body.action else { panic!("a registration") };
    node.bind(&CHAIN, &key(1).public().account_id(), &key(7));
    let id = node.node;
    let tx = Tx::sign(tx.body, &key(0));
    assert_eq!(verify(tx.clone()), Err(Malformed::Binding(id)));
    let at = VerifiedTx::verify_all(&CHAIN, vec![pay(""), tx, pay("x")], |_| None);
    assert_eq!(at, Err(MalformedAt { index: 1, reason: Malformed::Binding(id) }));
    let small = NodeId::from_bytes([0; 32]);
    assert_eq!(verify(self::node(|node| node.node = small)), Err(Malformed::NodeKey(small)));
}

#[test]
fn a_deal_fits_its_manifest_and_its_receipts_fit_the_placement() {
    let (ten, eleven) = (key(10).public().node_id(), key(11).public().node_id());
    let owner = key(1).public().account_id();
    let sender = key(0).public().account_id();
    let cases: Vec<(Tx, Malformed)> = vec![
        (deal(|deal| deal.manifest.owner = owner), Malformed::Owner { have: owner, need: sender }),
        (deal(|deal| deal.placement.truncate(2)), Malformed::Placement { have: 2, need: 3 }),
        (deal(|deal| deal.placement[1] = ten), Malformed::PlacedTwice(ten)),
        (deal(|deal| deal.min_confirmations = 1), Malformed::Confirmations { have: 1, min: 2, max: 3 }),
        (deal(|deal| deal.min_confirmations = 4), Malformed::Confirmations { have: 4, min: 2, max: 3 }),
        (deal(|deal| deal.repair_threshold = 1), Malformed::Repair { have: 1, min: 2, max: 2 }),
        (deal(|deal| deal.repair_threshold = 3), Malformed::Repair { have: 3, min: 2, max: 2 }),
        (deal(|deal| deal.receipts.reverse()), Malformed::ReceiptOrder),
        (deal(|deal| deal.receipts[1].slot = 9), Malformed::ReceiptSlot { slot: 9, slots: 3 }),
        (deal(|deal| deal.receipts[0].node = eleven), Malformed::ReceiptNode { slot: 0, have: eleven, need: ten }),
        (deal(|deal| deal.receipts[0].signature = deal.receipts[1].signature), Malformed::Receipt(0)),
        (deal(|deal| deal.epochs = 0), Malformed::NoEpochs),
        (deal(|deal| deal.manifest.version = 9), Malformed::Manifest(ManifestError::Version(9))),
    ];
    for (tx, reason) in cases {
        assert_eq!(verify(tx), Err(reason));
    }
    let late = signed(Action::ConfirmSlots { file: FileId::from_bytes([1; 32]), receipts: Vec::new() });
    assert_eq!(verify(late), Err(Malformed::ReceiptOrder));
}

#[test]
fn an_answer_to_an_audit_has_its_limits() {
    let answer = |count: usize, bytes: usize, path: usize| {
        let proof = SampleProof { bytes: vec![0; bytes], path: vec![[0; 32]; path] };
        let node = key(7).public().node_id();
        verify(signed(Action::ProveStorage { node, epoch: Epoch::ZERO, proofs: vec![Some(proof); count] }))
    };
    let (count, bytes, path) = (limits::AUDIT_SAMPLES_MAX, limits::LEAF_BYTES, limits::LEAF_PATH_MAX);
    assert!(answer(count, bytes, path).is_ok(), "the longest answer fits a transaction");
    let refused = |what, have, max| Err(Malformed::List { what, have, max });
    assert_eq!(answer(count + 1, 1, 1), refused("proofs", count + 1, count));
    assert_eq!(answer(1, bytes + 1, 1), refused("bytes of a sample", bytes + 1, bytes));
    assert_eq!(answer(1, 1, path + 1), refused("hashes of a path", path + 1, path));
    let none = signed(Action::RenewFile { file: FileId::from_bytes([1; 32]), epochs: 0 });
    assert_eq!(verify(none), Err(Malformed::NoEpochs));
}

#[test]
fn a_share_has_few_sealed_bytes() {
    let (file, to) = (FileId::from_bytes([1; 32]), key(1).public().account_id());
    let share = |bytes| verify(signed(Action::ShareFile { file, to, sealed: vec![1; bytes], until: None }));
    let max = limits::SHARE_SEALED_BYTES_MAX;
    assert!(share(max).is_ok());
    assert_eq!(share(max + 1), Err(Malformed::List { what: "sealed bytes", have: max + 1, max }));
}

#[test]
fn what_is_known_is_taken_over_only_if_it_is_the_same_to_the_byte() {
    let known = verify(pay("")).expect("nothing is wrong with it");
    let taken = VerifiedTx::verify_all(&CHAIN, vec![pay("")], |id| (*id == known.id()).then(|| known.clone()));
    assert!(Arc::ptr_eq(&taken.expect("nothing is wrong with it")[0].0, &known.0));
    let mut forged = pay("");
    forged.signature = pay("x").signature;
    assert_eq!(forged.id(), known.id());
    let refused = VerifiedTx::verify_all(&CHAIN, vec![forged], |_| Some(known.clone()));
    assert_eq!(refused, Err(MalformedAt { index: 0, reason: Malformed::Signature }));
}

#[test]
fn a_payload_is_the_list_of_its_transactions() {
    let txs = [pay("a"), node(|_| {}), deal(|_| {})];
    let verified: Vec<_> = txs.iter().map(|tx| verify(tx.clone()).expect("nothing is wrong with it")).collect();
    let payload = encode_payload(&verified);
    assert_eq!(payload.as_ref(), crate::wire::encode(&txs.to_vec()));
    assert_eq!(decode_payload(&payload), Ok(txs.to_vec()));
    assert_eq!(decode_payload(&encode_payload(&[])), Ok(Vec::new()));
    assert!(matches!(decode_payload(&payload[..payload.len() - 1]), Err(DecodeError::Malformed(_))));
}

#[test]
fn the_canonical_bytes_of_transactions_stay_as_they_are() {
    let file = FileId::from_bytes([1; 32]);
    let receipt = StorageReceipt {
        node: key(10).public().node_id(),
        slot: 1,
        until: Height::new(9),
        signature: Signature::from_bytes([2; 64]),
    };
    let confirm = signed(Action::ConfirmSlots { file, receipts: vec![receipt] });
    let proof = SampleProof { bytes: vec![3; 5], path: vec![[4; 32]; 2] };
    let node_id = key(7).public().node_id();
    let round = crate::types::Round::default();
    let said = |block: u8| {
        let block = crate::types::BlockHash::from_bytes([block; 32]);
        (Statement::Propose { round, block }, Signature::from_bytes([block.as_bytes()[0]; 64]))
    };
    let all = [
        pay("hello"),
        node(|_| {}),
        deal(|_| {}),
        confirm,
        signed(Action::DeleteFile { file }),
        signed(Action::ProveStorage { node: node_id, epoch: Epoch::new(2), proofs: vec![Some(proof), None] }),
        signed(Action::TakeSlot { file, receipt }),
        signed(Action::DrainNode { node: node_id, drain: true }),
        signed(Action::SettleFile { file }),
        signed(Action::RenewFile { file, epochs: 3 }),
        signed(Action::ShareFile { file, to: key(1).public().account_id(), sealed: vec![5; 3], until: None }),
        signed(Action::UnshareFile { file, to: key(1).public().account_id() }),
        signed(Action::SetRoot { expect: None, new: Some(file) }),
        signed(Action::CollectFile { file, root: Some(file) }),
        signed(Action::ValidatorJoin { node: node_id, stake: Amount::new(9) }),
        signed(Action::ValidatorLeave { node: node_id }),
        signed(Action::ValidatorRotateKey { node: node_id, new: key(8).public().node_id() }),
        signed(Action::ValidatorUnjail { node: node_id }),
        signed(Action::ValidatorReady { node: node_id, version: 2 }),
        signed(Action::Accuse(Box::new(Accusation::Contradiction(Evidence {
            node: node_id,
            first: said(1),
            second: said(2),
        })))),
    ];
    let line = |tx: &Tx| {
        let (name, bytes) = (tx.body.action.name(), hex::encode(crate::wire::encode(tx)));
        format!("{name} {} {bytes}\n", tx.id())
    };
    let lines: String = all.iter().map(line).collect();
    expect_test::expect_file!["../../fixtures/wire/transactions.txt"].assert_eq(&lines);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn together_and_one_by_one_come_to_the_same(count in 1_usize..12, wrong in proptest::option::of(any::<prop::sample::Index>())) {
        let mut txs: Vec<_> = (0..count).map(|n| if n % 3 == 2 { deal(|_| {}) } else { pay(&n.to_string()) }).collect();
        let wrong = wrong.map(|wrong| wrong.index(count));
        if let Some(at) = wrong {
            txs[at].signature = pay("something else").signature;
        }
        let alone: Result<Vec<_>, _> = txs
            .iter()
            .enumerate()
            .map(|(index, tx)| verify(tx.clone()).map_err(|reason| MalformedAt { index, reason }))
            .collect();
        prop_assert_eq!(VerifiedTx::verify_all(&CHAIN, txs, |_| None), alone.clone());
        prop_assert_eq!(alone.err().map(|bad| bad.index), wrong);
    }

    #[test]
    fn a_flipped_bit_never_passes(at in any::<prop::sample::Index>(), bit in 0..8, which in 0..3) {
        let tx = match which { 0 => pay("hello"), 1 => node(|_| {}), _ => deal(|_| {}) };
        let mut bytes = crate::wire::encode(&tx);
        let at = at.index(bytes.len());
        bytes[at] ^= 1_u8 << bit;
        if let Ok(changed) = crate::wire::decode::<Tx>(&bytes, limits::TX_BYTES_MAX) {
            prop_assert_eq!(crate::wire::encode(&changed), bytes, "one value, one encoding");
            prop_assert!(verify(changed).is_err());
        }
    }
}

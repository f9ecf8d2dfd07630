//! Who signed for what cannot be is no storage node any more.

use super::record::{DealStatus, OffenceKind, Record};
use super::testing::*;
use super::*;
use crate::crypto::SecretKey;
use crate::types::{Amount, Role, Roles, SlotRoot};
use crate::wire::{Accusation, Action, FalseReceipt, PublicManifest, SlotInfo};

/// Store 0 has signed for another root of a slot.
fn accusation(chain: &Chain, manifest: &PublicManifest, key: &SecretKey) -> Action {
    let info = SlotInfo { root: SlotRoot::from_bytes([9; 32]), ..manifest.slots[1] };
    let signed = PublicManifest { slots: vec![info; manifest.slots.len()], ..manifest.clone() };
    let mut receipt = receipt_of(&chain.id, &signed, 1, key);
    let bytes = crate::wire::StorageReceipt::bytes(&chain.id, &manifest.id(), 1, receipt.until, &info);
    receipt.signature = key.sign(crate::crypto::Domain::Receipt, &bytes);
    let shown = FalseReceipt { receipt, info, manifest: manifest.clone() };
    assert!(shown.holds(&chain.id));
    Action::Accuse(Box::new(Accusation::FalseReceipt(shown)))
}

fn register(chain: &mut Chain, key: &SecretKey, roles: &[Role]) -> Outcome {
    let mut node = announcement(key, "operator 0", Role::Storage);
    node.roles = Roles::of(roles);
    node.bind(&chain.id, &account(0), key);
    chain.act(0, Action::RegisterNode(Box::new(node)))
}

#[test]
fn who_signed_for_a_slot_that_cannot_be_loses_what_it_holds_and_never_comes_back() {
    let mut chain = Chain::new();
    let manifest = manifest(1, 1, 1, 3, 5_000);
    let deal = commit(&chain.id, manifest.clone(), 4, 2);
    assert_eq!(chain.act(1, Action::CommitFile(Box::new(deal))), Outcome::Applied);
    let (node, key) = (store(0), store_key(0));
    let accusation = accusation(&chain, &manifest, &key);
    assert_eq!(chain.act(2, accusation.clone()), Outcome::Applied, "anybody may accuse");
    let Some(Record::Offence(offence)) = chain.state.get(&Key::Offence(node)) else { panic!("no offence") };
    assert_eq!((offence.kind, offence.lost), (OffenceKind::FalseReceipt, Amount::ZERO));
    assert!(!chain.node(0).active);
    chain.block(&[]);
    let deal = chain.deal(&manifest.id());
    assert_eq!(deal.lost.iter().collect::<Vec<_>>(), [0], "others may rebuild it");
    assert!(matches!(deal.status, DealStatus::Final { .. }));
    assert_eq!(chain.act(3, accusation), Outcome::Rejected(Reject::Punished(node)), "once");
    assert_eq!(register(&mut chain, &key, &[Role::Storage]), Outcome::Rejected(Reject::Punished(node)));
    assert_eq!(chain.state.audit(), Ok(()));
}

#[test]
fn its_stake_answers_for_it_and_nobody_unknown_can_be_accused() {
    let mut chain = Chain::new();
    let key = store_key(0);
    assert_eq!(register(&mut chain, &key, &[Role::Storage, Role::Validator]), Outcome::Applied);
    let stake = Amount::new(1_000);
    assert_eq!(chain.act(0, Action::ValidatorJoin { node: store(0), stake }), Outcome::Applied);
    let manifest = manifest(1, 1, 1, 3, 5_000);
    let shown = accusation(&chain, &manifest, &key);
    assert_eq!(chain.act(2, shown), Outcome::Applied);
    let Some(Record::Stakes(stakes)) = chain.state.get(&Key::Stakes) else { panic!("no stakes") };
    let own = stakes.iter().find(|stake| stake.node == store(0)).map(|stake| (stake.staked.get(), stake.punished));
    assert_eq!(own, Some((900, true)));
    assert_eq!(chain.state.audit(), Ok(()), "what is lost counts to the supply");
    let stranger = SecretKey::from_seed(&[77; 32]);
    let shown = accusation(&chain, &manifest, &stranger);
    assert_eq!(chain.act(2, shown), Outcome::Rejected(Reject::NoNode(stranger.public().node_id())));
}

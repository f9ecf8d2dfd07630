//! Genesis: what is taken, what is refused, and its golden bytes.

use super::*;
use crate::ledger::testing::{account, genesis, store, store_key, validator_key};

fn refused(edit: impl FnOnce(&mut Genesis)) -> GenesisError {
    let mut genesis = genesis();
    edit(&mut genesis);
    genesis.check().expect_err("this genesis is not one")
}

#[test]
fn one_content_has_one_chain_id_and_one_block() {
    let (a, mut b) = (genesis(), genesis());
    assert_eq!(a.check(), Ok(()));
    b.accounts.reverse();
    b.nodes.reverse();
    assert_eq!(a.chain_id(), b.sorted().chain_id());
    assert_eq!(a.block(), a.block());
    let bytes = |genesis: &Genesis| hex::encode(encode(genesis)) + "\n";
    expect_test::expect_file!["../../fixtures/wire/genesis.hex"].assert_eq(&bytes(&a));
    let block = hex::encode(encode(&a.block().expect("a good genesis"))) + "\n";
    expect_test::expect_file!["../../fixtures/wire/block.hex"].assert_eq(&block);
    let mut other = genesis();
    other.name.push('!');
    assert_ne!(a.chain_id(), other.chain_id());
    assert_ne!(a.block().expect("a good genesis").hash(), other.block().expect("a good genesis").hash());
    expect_test::expect!["0016c1b129d9162270e674734e2e99678d07af6d80b548930fad0b296d09fabd"]
        .assert_eq(&a.chain_id().to_string());
    expect_test::expect!["1ab8466edc54a7cf555632e80359354438f17e1b632b983dd648fec0a6f944a4"]
        .assert_eq(&a.block().expect("a good genesis").hash().to_string());
}

#[test]
fn lists_name_each_id_once_and_in_order() {
    let twice = account(0);
    let mut ids: Vec<_> = genesis().accounts.iter().map(|entry| entry.account).collect();
    assert_eq!(
        refused(|genesis| {
            let again = genesis.accounts.iter().find(|entry| entry.account == twice).copied().expect("an account");
            genesis.accounts.push(again);
            genesis.accounts.sort_by_key(|entry| entry.account);
        }),
        GenesisError::Twice { list: "accounts", id: twice.to_string() }
    );
    ids.reverse();
    let id = ids[1].to_string();
    assert_eq!(refused(|genesis| genesis.accounts.reverse()), GenesisError::Order { list: "accounts", id });
}

#[test]
fn the_supply_fits_and_every_account_can_sign() {
    assert_eq!(refused(|genesis| genesis.accounts[0].balance = Amount::new(u64::MAX)), GenesisError::Supply);
    let nobody = AccountId::from_bytes([0; 32]);
    assert_eq!(refused(|genesis| genesis.accounts[0].account = nobody), GenesisError::AccountKey(nobody));
}

#[test]
fn nodes_are_within_the_limits_and_bound_by_the_genesis_alone() {
    let at = genesis().nodes.iter().position(|entry| entry.announcement.node == store(0)).expect("listed");
    let node = store(0);
    let chain = genesis().chain_id();
    assert_eq!(
        refused(|genesis| genesis.nodes[at].announcement.bind(&chain, &account(0), &store_key(0))),
        GenesisError::Binding(node)
    );
    assert_eq!(
        refused(|genesis| genesis.nodes[at].announcement.roles = crate::types::Roles::NONE),
        GenesisError::Node { node, reason: Malformed::Roles }
    );
    let stranger = account(77);
    assert_eq!(
        refused(|genesis| genesis.nodes[at].account = stranger),
        GenesisError::NoAccount { list: "nodes", id: node, account: stranger }
    );
}

#[test]
fn validators_are_registered_validator_nodes() {
    assert!(matches!(refused(|genesis| genesis.validators.clear()), GenesisError::Validators(_)));
    assert!(matches!(refused(|genesis| genesis.validators[0].power = 0), GenesisError::Validators(_)));
    let node = genesis().validators[0].node;
    let problem = |edit: fn(&mut Genesis)| match refused(edit) {
        GenesisError::Validator { problem, .. } => problem,
        other => panic!("refused for another reason: {other}"),
    };
    assert_eq!(problem(|genesis| genesis.validators[0].account = account(1)), "belongs to another account");
    let relay = problem(|genesis| {
        let node = genesis.validators[0].node;
        let entry = genesis.nodes.iter_mut().find(|entry| entry.announcement.node == node).expect("listed");
        entry.announcement.roles = crate::types::Roles::of(&[Role::Relay]);
    });
    assert_eq!(relay, "has not the role validator");
    let unlisted = refused(|genesis| genesis.nodes.retain(|entry| entry.announcement.node != node));
    assert_eq!(unlisted, GenesisError::Validator { node, problem: "is not among the nodes" });
    let set = genesis().validator_set().expect("a set");
    assert!(set.index_of(&validator_key(0).public().node_id()).is_some());
}

#[test]
fn numbers_that_would_stop_the_chain_are_refused() {
    assert_eq!(refused(|genesis| genesis.epoch_blocks = 0), GenesisError::Zero("epoch_blocks"));
    assert_eq!(refused(|genesis| genesis.pending_blocks = 0), GenesisError::Zero("pending_blocks"));
    assert_eq!(refused(|genesis| genesis.version = 2), GenesisError::Version { have: 2 });
    let storage = [
        refused(|genesis| genesis.storage.samples = 0),
        refused(|genesis| genesis.storage.samples = 25),
        refused(|genesis| genesis.storage.answer_blocks = 0),
        refused(|genesis| genesis.storage.answer_blocks = genesis.epoch_blocks),
        refused(|genesis| genesis.storage.epochs_max = 0),
        refused(|genesis| genesis.storage.price = u64::MAX),
    ];
    assert!(storage.iter().all(|error| matches!(error, GenesisError::Storage(_))), "{storage:?}");
    let usual = |blocks| crate::ledger::record::StorageParams::usual(blocks).problem(blocks);
    assert_eq!([1, 2, 3, 4, 20, 1_000].map(usual), [None; 6], "the usual values suit every length");
    assert!(matches!(refused(|genesis| genesis.timing.view_floor = Millis::ZERO), GenesisError::Timing { .. }));
    assert!(matches!(refused(|genesis| genesis.name.clear()), GenesisError::Name { have: 0 }));
}

//! Identity: fresh keys for a node and its account, and their entries in a genesis.

use anyhow::Result;
use zeroize::Zeroizing;

use crate::config::keystore::KeystoreFile;
use crate::crypto::SecretKey;
use crate::crypto::keys::{AccountKeys, KdfParams, Keystore};
use crate::ledger::genesis::{GenesisAccount, GenesisNode, NO_BINDING};
use crate::ledger::record::ValidatorEntry;
use crate::node::beacon::BeaconChain;
use crate::node::home::random;
use crate::types::{AccountId, Amount, ByteCount, NodeId, Role, Roles};
use crate::wire::tx::NodeAnnouncement;

/// Name of a home's first account.
pub const FIRST_ACCOUNT: &str = "default";

/// A node that does not exist yet.
pub struct Identity {
    /// Its name.
    pub name: String,
    /// Who runs it.
    pub operator: String,
    /// What it does.
    pub roles: Roles,
    /// Bytes it offers.
    pub capacity: ByteCount,
    /// Where it listens, if that is known already.
    pub addresses: Vec<String>,
    /// Seed of its key.
    pub node_seed: Zeroizing<[u8; 32]>,
    /// Its account.
    pub keystore: KeystoreFile,
    account: AccountId,
}

impl Identity {
    /// Fresh keys; the account's are locked with the password. Errors: no randomness.
    pub fn new(name: &str, roles: Roles, password: &str, kdf: KdfParams) -> Result<Self> {
        Self::of(name, roles, &Zeroizing::new(random()?), password, kdf)
    }

    /// A fresh node of the account of a master seed. Errors: no randomness.
    pub fn of(name: &str, roles: Roles, seed: &[u8; 32], password: &str, kdf: KdfParams) -> Result<Self> {
        let mut keystore = KeystoreFile::default();
        let account = add_account(&mut keystore, FIRST_ACCOUNT, seed, password, kdf)?;
        let capacity = ByteCount::ZERO;
        let node_seed = Zeroizing::new(random()?);
        let (name, operator) = (name.to_owned(), name.to_owned());
        Ok(Self { name, operator, roles, capacity, addresses: Vec::new(), node_seed, keystore, account })
    }

    /// The node's id.
    pub fn node(&self) -> NodeId {
        SecretKey::from_seed(&self.node_seed).public().node_id()
    }

    /// The account's id.
    pub fn account(&self) -> AccountId {
        self.account
    }

    /// Its account in a genesis.
    pub fn genesis_account(&self, balance: Amount) -> GenesisAccount {
        GenesisAccount { account: self.account, balance }
    }

    /// Its node in a genesis.
    pub fn genesis_node(&self) -> GenesisNode {
        // Making a hash chain takes a moment; only who proposes blocks needs one.
        let beacon_head = match self.roles.has(Role::Validator) {
            true => BeaconChain::of(&self.node_seed, 0).head(),
            false => [0; 32],
        };
        let announcement = NodeAnnouncement {
            node: self.node(),
            name: self.name.clone(),
            operator: self.operator.clone(),
            roles: self.roles,
            capacity: self.capacity,
            addresses: self.addresses.clone(),
            beacon_head,
            binding: NO_BINDING,
        };
        GenesisNode { account: self.account, announcement }
    }

    /// Its place among the validators of a genesis, if it is one.
    pub fn genesis_validator(&self) -> Option<ValidatorEntry> {
        let entry = ValidatorEntry { node: self.node(), power: 1, account: self.account };
        self.roles.has(Role::Validator).then_some(entry)
    }
}

/// Adds the account of a master seed to a keystore. Errors: the name is taken; no randomness.
pub fn add_account(
    file: &mut KeystoreFile,
    name: &str,
    seed: &[u8; 32],
    password: &str,
    kdf: KdfParams,
) -> Result<AccountId> {
    let keystore = Keystore::create(seed, password.as_bytes(), kdf, random()?, random()?)?;
    file.add(name, keystore)?;
    Ok(AccountKeys::from_master(seed).account_id())
}

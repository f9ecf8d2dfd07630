//! The genesis file: `ledger::Genesis` as JSON that people can read and compare.
//!
//! The file may list things in any order; the chain id is the hash of the sorted, canonical form. The file names its
//! chain id too, so that an edited file is noticed before a node starts with it.
//! Not here: what makes a genesis valid (`ledger::genesis`).

use serde::{Deserialize, Serialize};

use crate::ledger::Genesis;
use crate::ledger::genesis::{GENESIS_VERSION, GenesisAccount, GenesisError, GenesisNode, NO_BINDING, Timing};
use crate::ledger::record::{StorageParams, ValidatorEntry, ValidatorParams};
use crate::types::roles::UnknownRole;
use crate::types::{Amount, ByteCount, ChainId, Millis, Role, Roles, ids::IdError, limits};
use crate::wire::tx::NodeAnnouncement;

/// Why a text is no genesis file.
#[derive(Debug, thiserror::Error)]
pub enum GenesisFileError {
    /// Longer than the limit.
    #[error("{0} bytes; a genesis file has at most {max}", max = limits::GENESIS_BYTES_MAX)]
    Bytes(usize),
    /// Not JSON, or of another shape.
    #[error("the genesis file is malformed: {0}")]
    Json(#[from] serde_json::Error),
    /// An id that is none.
    #[error("the genesis file has a wrong id: {0}")]
    Id(#[from] IdError),
    /// A role that is none.
    #[error("the genesis file: {0}")]
    Role(#[from] UnknownRole),
    /// A chain cannot begin with it.
    #[error("the genesis file: {0}")]
    Invalid(#[from] GenesisError),
    /// It was edited: its content makes another chain than it says.
    #[error("the genesis file says chain {named}, its content makes {made}")]
    Chain {
        /// What it says.
        named: ChainId,
        /// What its content makes.
        made: ChainId,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct GenesisJson {
    chain: String,
    version: u16,
    name: String,
    time_ms: u64,
    epoch_blocks: u64,
    pending_blocks: u64,
    idle_interval_ms: u64,
    view_floor_ms: u64,
    view_cap_ms: u64,
    storage: StorageJson,
    staking: StakingJson,
    accounts: Vec<AccountJson>,
    nodes: Vec<NodeJson>,
    validators: Vec<ValidatorJson>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StorageJson {
    samples: u16,
    answer_blocks: u64,
    grace: u8,
    price: u64,
    epochs_max: u32,
    quota: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StakingJson {
    stake_unit: u64,
    unbonding_epochs: u32,
    jail_after: u32,
    jail_epochs: u32,
    slash_permille: u16,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AccountJson {
    account: String,
    balance: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeJson {
    node: String,
    account: String,
    name: String,
    operator: String,
    roles: Vec<String>,
    capacity: u64,
    addresses: Vec<String>,
    beacon_head: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ValidatorJson {
    node: String,
    power: u64,
    account: String,
}

/// The genesis of a file's text, checked. Errors: each of `GenesisFileError`.
pub fn read(text: &str) -> Result<Genesis, GenesisFileError> {
    if text.len() > limits::GENESIS_BYTES_MAX {
        return Err(GenesisFileError::Bytes(text.len()));
    }
    let json: GenesisJson = serde_json::from_str(text)?;
    let named = json.chain.parse::<ChainId>()?;
    let genesis = genesis(json)?.sorted();
    genesis.check()?;
    let made = genesis.chain_id();
    if named == made { Ok(genesis) } else { Err(GenesisFileError::Chain { named, made }) }
}

/// The text of a genesis file.
pub fn write(genesis: &Genesis) -> String {
    let node = |GenesisNode { account, announcement }: &GenesisNode| NodeJson {
        node: announcement.node.to_string(),
        account: account.to_string(),
        name: announcement.name.clone(),
        operator: announcement.operator.clone(),
        roles: announcement.roles.iter().map(|role| role.name().to_owned()).collect(),
        capacity: announcement.capacity.get(),
        addresses: announcement.addresses.clone(),
        beacon_head: hex::encode(announcement.beacon_head),
    };
    let StorageParams { samples, answer_blocks, grace, price, epochs_max, quota } = genesis.storage;
    let ValidatorParams { stake_unit, unbonding_epochs, jail_after, jail_epochs, slash_permille } = genesis.staking;
    let json = GenesisJson {
        chain: genesis.chain_id().to_string(),
        version: genesis.version,
        name: genesis.name.clone(),
        time_ms: genesis.time.get(),
        epoch_blocks: genesis.epoch_blocks,
        pending_blocks: genesis.pending_blocks,
        idle_interval_ms: genesis.timing.idle_interval.get(),
        view_floor_ms: genesis.timing.view_floor.get(),
        view_cap_ms: genesis.timing.view_cap.get(),
        storage: StorageJson { samples, answer_blocks, grace, price, epochs_max, quota: quota.get() },
        staking: StakingJson { stake_unit, unbonding_epochs, jail_after, jail_epochs, slash_permille },
        accounts: (genesis.accounts.iter())
            .map(|entry| AccountJson { account: entry.account.to_string(), balance: entry.balance.get() })
            .collect(),
        nodes: genesis.nodes.iter().map(node).collect(),
        validators: (genesis.validators.iter())
            .map(|entry| ValidatorJson {
                node: entry.node.to_string(),
                power: entry.power,
                account: entry.account.to_string(),
            })
            .collect(),
    };
    let text = serde_json::to_string_pretty(&json).expect("plain structs are JSON");
    text + "\n"
}

fn genesis(json: GenesisJson) -> Result<Genesis, GenesisFileError> {
    if json.version != GENESIS_VERSION {
        return Err(GenesisError::Version { have: json.version }.into());
    }
    let account = |entry: AccountJson| {
        Ok(GenesisAccount { account: entry.account.parse()?, balance: Amount::new(entry.balance) })
    };
    let validator = |entry: ValidatorJson| {
        Ok(ValidatorEntry { node: entry.node.parse()?, power: entry.power, account: entry.account.parse()? })
    };
    Ok(Genesis {
        version: json.version,
        name: json.name,
        time: Millis::new(json.time_ms),
        epoch_blocks: json.epoch_blocks,
        pending_blocks: json.pending_blocks,
        timing: Timing {
            idle_interval: Millis::new(json.idle_interval_ms),
            view_floor: Millis::new(json.view_floor_ms),
            view_cap: Millis::new(json.view_cap_ms),
        },
        storage: storage(json.storage),
        staking: staking(json.staking),
        accounts: json.accounts.into_iter().map(account).collect::<Result<_, IdError>>()?,
        nodes: json.nodes.into_iter().map(node).collect::<Result<_, GenesisFileError>>()?,
        validators: json.validators.into_iter().map(validator).collect::<Result<_, IdError>>()?,
    })
}

const fn storage(json: StorageJson) -> StorageParams {
    let StorageJson { samples, answer_blocks, grace, price, epochs_max, quota } = json;
    StorageParams { samples, answer_blocks, grace, price, epochs_max, quota: ByteCount::new(quota) }
}

const fn staking(json: StakingJson) -> ValidatorParams {
    let StakingJson { stake_unit, unbonding_epochs, jail_after, jail_epochs, slash_permille } = json;
    ValidatorParams { stake_unit, unbonding_epochs, jail_after, jail_epochs, slash_permille }
}

fn node(json: NodeJson) -> Result<GenesisNode, GenesisFileError> {
    let roles = json.roles.iter().map(|role| role.parse::<Role>()).collect::<Result<Vec<_>, _>>()?;
    let announcement = NodeAnnouncement {
        node: json.node.parse()?,
        name: json.name,
        operator: json.operator,
        roles: Roles::of(&roles),
        capacity: ByteCount::new(json.capacity),
        addresses: json.addresses,
        // Any 32 bytes; `ChainId` reads the same 64 digits as every other id.
        beacon_head: *json.beacon_head.parse::<ChainId>()?.as_bytes(),
        binding: NO_BINDING,
    };
    Ok(GenesisNode { account: json.account.parse()?, announcement })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::SecretKey;

    fn sample() -> Genesis {
        let account = SecretKey::from_seed(&[1; 32]).public().account_id();
        let node = SecretKey::from_seed(&[2; 32]).public().node_id();
        let announcement = NodeAnnouncement {
            node,
            name: "validator-1".into(),
            operator: "alice".into(),
            roles: Roles::of(&[Role::Validator, Role::Storage]),
            capacity: ByteCount::new(1 << 30),
            addresses: vec!["/ip4/127.0.0.1/tcp/7000".into()],
            beacon_head: [7; 32],
            binding: NO_BINDING,
        };
        let timing =
            Timing { idle_interval: Millis::new(2000), view_floor: Millis::new(500), view_cap: Millis::new(8000) };
        Genesis {
            version: GENESIS_VERSION,
            name: "test".into(),
            time: Millis::new(1),
            epoch_blocks: 100,
            pending_blocks: 100,
            timing,
            storage: StorageParams::usual(100),
            staking: ValidatorParams::usual(),
            accounts: vec![GenesisAccount { account, balance: Amount::new(5) }],
            nodes: vec![GenesisNode { account, announcement }],
            validators: vec![ValidatorEntry { node, power: 1, account }],
        }
    }

    #[test]
    fn the_text_of_a_genesis_reads_back_as_the_same_chain() {
        let genesis = sample();
        assert_eq!(read(&write(&genesis)).expect("own text"), genesis);
    }

    #[test]
    fn an_edited_file_is_noticed() {
        let edited = write(&sample()).replace("\"balance\": 5", "\"balance\": 6");
        assert!(matches!(read(&edited), Err(GenesisFileError::Chain { .. })));
        let edited = write(&sample()).replace("\"balance\"", "\"ballance\"");
        assert!(matches!(read(&edited), Err(GenesisFileError::Json(_))));
    }
}

//! Create: keys, genesis, ports and homes of a new testnet.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use toml::Value;

use super::state::{NodeState, State};
use super::{UpArgs, state};
use crate::cli::errors::{CliError, Exit};
use crate::cli::identity::Identity;
use crate::config::{genesis, template};
use crate::crypto::keys::KdfParams;
use crate::ledger::Genesis;
use crate::ledger::genesis::{GENESIS_VERSION, Timing};
use crate::ledger::record::{StorageParams, ValidatorParams};
use crate::net::Address;
use crate::node::home::{Home, NewHome, random};
use crate::types::{Amount, ByteCount, Millis, Role, Roles};

/// Pause before an empty block.
pub const IDLE_INTERVAL_MS: u64 = 2_000;
/// Credits of every account.
const BALANCE: u64 = 1_000_000_000;
/// Bytes that each storage node offers.
const CAPACITY: u64 = 64 << 30;
/// Blocks of an epoch: short, so that validators that are gone are soon skipped as leaders.
pub const EPOCH_BLOCKS: u64 = 64;
/// Blocks that a file may stay pending.
const PENDING_BLOCKS: u64 = 10_000;
/// Ports are taken from here: below the range from which the kernel gives out ports of outgoing connections, so that
/// a node that is down finds its own port free when it comes back.
const PORTS: std::ops::Range<u16> = 10_000..30_000;

/// How many nodes of each role.
#[derive(Clone, Debug)]
pub struct Plan {
    counts: [(Role, Option<u16>, u16); 3],
    operators: Option<u16>,
    idle_interval: Millis,
    epoch_blocks: u64,
    /// 0 for none.
    quota: ByteCount,
}

impl Plan {
    /// 4 validators, 6 storage nodes and 1 user.
    pub fn standard() -> Self {
        let counts = [(Role::Validator, None, 4), (Role::Storage, None, 6), (Role::User, None, 1)];
        let idle_interval = Millis::new(IDLE_INTERVAL_MS);
        Self { counts, operators: None, idle_interval, epoch_blocks: EPOCH_BLOCKS, quota: ByteCount::ZERO }
    }

    /// As the command line says.
    pub fn new(args: &UpArgs) -> Self {
        let counts =
            [(Role::Validator, args.validators, 4), (Role::Storage, args.storage, 6), (Role::User, args.users, 1)];
        Self {
            counts,
            operators: args.operators,
            idle_interval: Millis::new(args.idle_interval_ms),
            epoch_blocks: args.epoch_blocks,
            quota: ByteCount::new(args.quota.map_or(0, |quota| quota.as_u64())),
        }
    }

    fn numbers(&self) -> impl Iterator<Item = (Role, u16)> {
        self.counts.iter().map(|(role, wanted, default)| (*role, wanted.unwrap_or(*default)))
    }

    /// The plan in words.
    pub fn describe(&self) -> String {
        let parts: Vec<_> = self.numbers().map(|(role, count)| format!("{count} {role}")).collect();
        format!("a network of {} nodes", parts.join(", "))
    }

    /// Whether a network that is there is what was asked for. Errors: exit 8.
    pub fn check_same(&self, state: &State) -> Result<()> {
        for (role, wanted, _) in &self.counts {
            let have = state.nodes.iter().filter(|node| node.role == role.name()).count();
            if let Some(wanted) = wanted.filter(|wanted| usize::from(*wanted) != have) {
                let message = format!("the testnet has {have} {role} nodes, not {wanted}");
                return Err(CliError::new(Exit::Conflict, message).hint("--reset begins anew").into());
            }
        }
        Ok(())
    }
}

/// A node of the plan, with its ports and its password.
struct Member {
    identity: Identity,
    role: Role,
    listen: String,
    api: String,
    s3: Option<String>,
    password: String,
}

/// Makes the network. Nothing of it runs yet.
pub fn create(dir: &Path, plan: &Plan) -> Result<State> {
    std::fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    let dir = std::fs::canonicalize(dir).with_context(|| format!("{}", dir.display()))?;
    if std::fs::read_dir(&dir).with_context(|| format!("looking into {}", dir.display()))?.next().is_some() {
        let error = CliError::new(Exit::Conflict, format!("{} is not empty and no testnet", dir.display()));
        return Err(error.hint("choose a directory that is not there yet").into());
    }
    let members = members(plan)?;
    let genesis = describe(plan, &members);
    genesis.check().context("the genesis of the testnet")?;
    let text = genesis::write(&genesis);
    std::fs::write(dir.join("genesis.json"), &text).with_context(|| format!("writing into {}", dir.display()))?;
    let bootstrap = bootstrap(&members)?;
    for member in &members {
        let others = bootstrap.iter().filter(|(name, _)| *name != member.identity.name);
        let others: Vec<_> = others.map(|(_, address)| address.clone()).collect();
        let new = NewHome {
            config: &config_text(member, &others),
            genesis: &text,
            chain: genesis.chain_id(),
            node_seed: member.identity.node_seed.clone(),
            keystore: &member.identity.keystore,
            password: Some(&member.password),
        };
        Home::create(&dir.join(&member.identity.name), &new)?;
    }
    let nodes = members.iter().map(|member| NodeState {
        name: member.identity.name.clone(),
        role: member.role.to_string(),
        node: member.identity.node().to_string(),
        account: member.identity.account().to_string(),
        api: member.api.clone(),
    });
    let state = state::State::new(&dir, genesis.chain_id().to_string(), nodes.collect());
    state.save()?;
    Ok(state)
}

fn members(plan: &Plan) -> Result<Vec<Member>> {
    let total: u16 = plan.numbers().map(|(_, count)| count).sum();
    let mut ports = free_ports(3 * usize::from(total))?.into_iter();
    let mut members = Vec::new();
    for (role, count) in plan.numbers() {
        for number in 1..=count {
            let (Some(net), Some(api), Some(s3)) = (ports.next(), ports.next(), ports.next()) else { break };
            let password = hex::encode(random::<16>()?);
            let name = format!("{role}-{number}");
            let mut identity = Identity::new(&name, Roles::of(&[role]), &password, KdfParams::TESTNET)?;
            let listen = format!("/ip4/127.0.0.1/tcp/{net}");
            identity.addresses = vec![listen.clone()];
            identity.capacity = ByteCount::new(if role == Role::Storage { CAPACITY } else { 0 });
            if let Some(operators) = plan.operators {
                identity.operator = format!("operator-{}", members.len() % usize::from(operators) + 1);
            }
            let (api, s3) = (format!("127.0.0.1:{api}"), format!("127.0.0.1:{s3}"));
            let s3 = (role == Role::User).then_some(s3);
            members.push(Member { identity, role, listen, api, s3, password });
        }
    }
    Ok(members)
}

fn describe(plan: &Plan, members: &[Member]) -> Genesis {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let identities = || members.iter().map(|member| &member.identity);
    let genesis = Genesis {
        version: GENESIS_VERSION,
        name: "testnet".to_owned(),
        time: Millis::new(u64::try_from(now).unwrap_or(u64::MAX)),
        epoch_blocks: plan.epoch_blocks,
        pending_blocks: PENDING_BLOCKS,
        timing: Timing {
            idle_interval: plan.idle_interval,
            view_floor: Millis::new(200),
            view_cap: Millis::new(8_000),
        },
        storage: StorageParams { quota: plan.quota, ..StorageParams::usual(plan.epoch_blocks) },
        staking: ValidatorParams::usual(),
        accounts: identities().map(|identity| identity.genesis_account(Amount::new(BALANCE))).collect(),
        nodes: identities().map(Identity::genesis_node).collect(),
        validators: identities().filter_map(Identity::genesis_validator).collect(),
    };
    genesis.sorted()
}

/// The validators' addresses, by which all nodes find the network.
fn bootstrap(members: &[Member]) -> Result<Vec<(String, String)>> {
    let validators = members.iter().filter(|member| member.role == Role::Validator);
    let addresses = validators.map(|member| {
        let address: Address = member.listen.parse()?;
        Ok((member.identity.name.clone(), address.of(member.identity.node()).to_string()))
    });
    addresses.collect()
}

fn config_text(member: &Member, bootstrap: &[String]) -> String {
    let mut values = vec![
        ("node.name", Value::from(member.identity.name.clone())),
        ("node.roles", template::list([member.role])),
        ("node.operator", Value::from(member.identity.operator.clone())),
        ("net.listen", template::list([&member.listen])),
        ("net.bootstrap", template::list(bootstrap)),
        ("api.listen", Value::from(member.api.clone())),
        ("storage.capacity", Value::from(CAPACITY as i64)),
        ("account.password_file", Value::from("password")),
    ];
    values.extend(member.s3.as_ref().map(|address| ("s3.listen", Value::from(address.clone()))));
    template::write(&values)
}

/// So many ports that nobody listens on now.
fn free_ports(count: usize) -> Result<Vec<u16>> {
    let begin = u16::from_le_bytes(random()?) % (PORTS.end - PORTS.start);
    let all = PORTS.cycle().skip(usize::from(begin)).take(usize::from(PORTS.end - PORTS.start));
    let free: Vec<u16> =
        all.filter(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok()).take(count).collect();
    if free.len() < count {
        return Err(CliError::new(Exit::Conflict, format!("fewer than {count} free ports on 127.0.0.1")).into());
    }
    Ok(free)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::config::{Config, Layers};

    fn plan() -> Plan {
        Plan::new(&UpArgs {
            dir: PathBuf::new(),
            validators: Some(1),
            storage: Some(2),
            users: Some(1),
            operators: Some(2),
            idle_interval_ms: 100,
            epoch_blocks: EPOCH_BLOCKS,
            quota: None,
            reset: false,
        })
    }

    #[test]
    fn a_new_testnet_has_homes_with_one_genesis_and_valid_configurations() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let made = create(&dir.path().join("net"), &plan()).expect("a new testnet");
        let loaded = State::load(made.dir()).expect("just saved");
        let names: Vec<_> = loaded.nodes.iter().map(|node| node.name.as_str()).collect();
        assert_eq!(names, ["validator-1", "storage-1", "storage-2", "user-1"]);
        for node in &loaded.nodes {
            let home = loaded.home(&node.name).expect("a home");
            let genesis = genesis::read(&home.read_genesis().expect("readable")).expect("valid");
            assert_eq!(genesis.chain_id().to_string(), loaded.chain);
            let text = home.read_config().expect("readable");
            let layers = Layers::defaults().and_then(|layers| layers.file(&home.config(), &text)).expect("valid");
            let config = Config::load(&layers).expect("valid");
            assert_eq!(
                (config.node.name.as_str(), config.api.listen.to_string()),
                (node.name.as_str(), node.api.clone())
            );
            let password = home.read_password(&config.password_file.expect("set")).expect("private");
            let keystore = home.read_keystore().expect("readable");
            let (account, entry) = keystore.first().expect("an account");
            assert_eq!(account.to_string(), node.account);
            assert!(entry.open(password.as_bytes()).is_ok());
        }
        assert!(plan().check_same(&loaded).is_ok());
    }

    #[test]
    fn another_number_of_nodes_than_there_are_is_a_conflict() {
        let state = State::new(Path::new("/n"), String::new(), Vec::new());
        let error = plan().check_same(&state).expect_err("no validators there");
        assert_eq!(CliError::of(&error).code, Exit::Conflict);
    }
}

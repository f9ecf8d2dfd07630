//! `trullo init`: a new home.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use serde::Serialize;
use zeroize::Zeroizing;

use super::context::{self, Context};
use super::errors::{CliError, Exit};
use super::identity::Identity;
use super::invite;
use super::output::facts;
use super::phrase;
use crate::config::{Config, Layers, Origin, genesis, template};
use crate::crypto::keys::KdfParams;
use crate::ledger::Genesis;
use crate::ledger::genesis::{GENESIS_VERSION, Timing};
use crate::ledger::record::{StorageParams, ValidatorParams};
use crate::node::home::{Home, NewHome, random};
use crate::node::start::addresses;
use crate::types::{Amount, ByteCount, Millis, Role, Roles};

const EXAMPLES: &str = "Examples:
  trullo --home ~/net init --name founder        # a network of its own, for others to join
  trullo --home ~/net init --name alice --invite invite.json
  trullo --home ~/net init --name disk --role storage --invite invite.json
  trullo --home ~/net init --name alice --genesis genesis.json \\
    --bootstrap /ip4/192.0.2.1/tcp/7000/p2p/12D3KooWBVwVWdqFNFJBFhW1qKLCe3YPz1cSCTVZ3S4N7dNhHRZ6
  trullo --home /tmp/solo init --name solo --password-file pw     # a network of one node of its own
  trullo --home ~/net init --name alice --genesis genesis.json --recover --phrase-file words

Without --genesis and --invite a new network is made, whose only validator and storage node is this one.
A port is chosen that is free now and stays; --set net.listen=... names another.
A storage node registers by itself once a member has sent its account credits.
The account's password is asked for, or read from --password-file (`-`: stdin, /dev/fd/N: a descriptor);
such a file must be for its owner alone: chmod 600.
--recover brings an account back on a fresh machine: its files are listed and read there, its credits
are there. The password is a new one, for this machine.
A home that exists is never overwritten (exit 8).";

/// Ports for a node to listen on.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
/// Tries until one is free.
const PORT_TRIES: usize = 64;
/// Blocks of an epoch, and credits of the first account, of a new network.
const EPOCH_BLOCKS: u64 = 1_000;
const FIRST_BALANCE: u64 = 1_000_000_000;

/// Arguments of `init`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// Name of the node, for people
    #[arg(long, default_value = "node")]
    name: String,
    /// What it does: validator, storage, worker, relay, user
    ///
    /// Default: user; in a network of its own: validator,storage,user.
    #[arg(long = "role", value_delimiter = ',')]
    roles: Vec<Role>,
    /// Genesis file of the network to join
    #[arg(long, value_name = "FILE")]
    genesis: Option<PathBuf>,
    /// What `trullo invite` wrote on a machine of the network: its genesis, and addresses to find it by
    #[arg(long, value_name = "FILE", conflicts_with = "genesis")]
    invite: Option<PathBuf>,
    /// Address of a node to find the network by; may be repeated
    #[arg(long, value_name = "ADDRESS")]
    bootstrap: Vec<String>,
    /// File with the account's password on this machine; `-` for stdin
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Bring an account back by its recovery phrase, in place of a new one
    #[arg(long)]
    recover: bool,
    /// File with the 24 words; `-` for stdin, one line before the password; asked for by default
    #[arg(long, value_name = "FILE", requires = "recover")]
    phrase_file: Option<PathBuf>,
}

#[derive(Serialize)]
struct Made {
    home: String,
    node: String,
    account: String,
    chain: String,
}

/// Makes the home.
pub fn run(context: &Context, args: &Args) -> Result<()> {
    if Home::open(&context.home).is_ok() {
        let message = format!("{} is the home of a node already", context.home.display());
        return Err(CliError::new(Exit::Conflict, message).hint("choose another --home, or remove it first").into());
    }
    let joined = args.genesis.as_ref().map(|path| -> Result<Genesis> {
        let text = std::fs::read_to_string(path).map_err(|error| context::unreadable(path, &error))?;
        Ok(genesis::read(&text)?)
    });
    let invited = args.invite.as_deref().map(invite::accept).transpose()?;
    let (joined, mut bootstrap) = match (joined.transpose()?, invited) {
        (_, Some((genesis, found))) => (Some(genesis), found),
        (joined, None) => (joined, Vec::new()),
    };
    bootstrap.extend(args.bootstrap.iter().cloned());
    let is_known = |genesis: &Genesis| genesis.nodes.iter().any(|node| !node.announcement.addresses.is_empty());
    if bootstrap.is_empty() && joined.as_ref().is_some_and(|genesis| !is_known(genesis)) {
        context.out.warn(
            "no --bootstrap, and the genesis names no address: this node cannot find the network. Use --invite, or --bootstrap with an address that `trullo ledger status` shows there",
        );
    }
    let alone = [Role::Validator, Role::Storage, Role::User];
    let roles = match (args.roles.as_slice(), &joined) {
        ([], Some(_)) => &[Role::User],
        ([], None) => alone.as_slice(),
        (roles, _) => roles,
    };
    let text = config_text(context, args, roles, &bootstrap)?;
    let config = check(context, &text)?;
    let seed = match args.recover {
        true => phrase::read(args.phrase_file.as_deref())?,
        false => Zeroizing::new(random()?),
    };
    let password = context::new_password(args.password_file.as_deref(), "password of the account")?;
    let mut identity = Identity::of(&args.name, Roles::of(roles), &seed, &password, KdfParams::STANDARD)?;
    identity.operator = config.node.operator;
    identity.capacity = if config.node.roles.has(Role::Storage) { config.storage.capacity } else { ByteCount::ZERO };
    let is_own = joined.is_none();
    let genesis = joined.unwrap_or_else(|| own_network(&identity));
    genesis.check().map_err(|error| CliError::new(Exit::Usage, error.to_string()))?;
    let new = NewHome {
        config: &text,
        genesis: &genesis::write(&genesis),
        chain: genesis.chain_id(),
        node_seed: identity.node_seed.clone(),
        keystore: &identity.keystore,
        password: None,
    };
    Home::create(&context.home, &new)?;
    let made = Made {
        home: context.home.display().to_string(),
        node: identity.node().to_string(),
        account: identity.account().to_string(),
        chain: genesis.chain_id().to_string(),
    };
    context.out.result(&made, || {
        facts([
            ("home", made.home.clone()),
            ("node", made.node.clone()),
            ("account", made.account.clone()),
            ("chain", made.chain.clone()),
        ])
    })?;
    if args.recover {
        context
            .out
            .say("the account is back; once the node runs and has caught up, its files are listed with `trullo ls`");
    } else {
        let print = format!("trullo --home {} account phrase", made.home);
        context.out.say(format!("24 words bring the account back on another machine; write them down: {print}"));
    }
    context.out.say(format!("next: trullo --home {} node run", made.home));
    if is_own {
        context.out.say(format!("for others to join, when it runs: trullo --home {} invite -o invite.json", made.home));
    }
    Ok(())
}

/// The text of the new file: what the command line sets stands in it, so that it lasts.
fn config_text(context: &Context, args: &Args, roles: &[Role], bootstrap: &[String]) -> Result<String> {
    let mut values = vec![("node.name", toml::Value::from(args.name.clone())), ("node.roles", template::list(roles))];
    if !bootstrap.is_empty() {
        values.push(("net.bootstrap", template::list(bootstrap)));
    }
    // Who is to be found keeps its address. Two homes of one machine do not get the same port.
    if let Some(port) = free_port()? {
        values.push(("net.listen", template::list([format!("/ip4/0.0.0.0/tcp/{port}")])));
    }
    let layers = Layers::defaults()?.flags(context.sets.iter().map(String::as_str))?;
    for (name, setting) in layers.settings().filter(|(_, setting)| setting.origin == Origin::Flag) {
        values.retain(|(other, _)| *other != name);
        values.push((name, setting.value.clone()));
    }
    Ok(template::write(&values))
}

/// A port that nobody has now, below those that the system gives to outgoing connections, so that it is free at the next start too.
fn free_port() -> Result<Option<u16>> {
    for _ in 0..PORT_TRIES {
        let port = PORTS.start + u16::from_le_bytes(random()?) % (PORTS.end - PORTS.start);
        if std::net::TcpListener::bind(("0.0.0.0", port)).is_ok() {
            return Ok(Some(port));
        }
    }
    Ok(None)
}

/// Checks the new file.
fn check(context: &Context, text: &str) -> Result<Config> {
    let layers = Layers::defaults()?.file(&context.home.join("config.toml"), text)?;
    let config = Config::load(&layers)?;
    addresses(&config)?;
    Ok(config)
}

/// A network whose only node is this one.
fn own_network(identity: &Identity) -> Genesis {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let timing =
        Timing { idle_interval: Millis::new(2_000), view_floor: Millis::new(200), view_cap: Millis::new(16_000) };
    Genesis {
        version: GENESIS_VERSION,
        name: identity.name.clone(),
        time: Millis::new(u64::try_from(now).unwrap_or(u64::MAX)),
        epoch_blocks: EPOCH_BLOCKS,
        pending_blocks: 10_000,
        timing,
        storage: StorageParams::usual(EPOCH_BLOCKS),
        staking: ValidatorParams::usual(),
        accounts: vec![identity.genesis_account(Amount::new(FIRST_BALANCE))],
        nodes: vec![identity.genesis_node()],
        validators: identity.genesis_validator().into_iter().collect(),
    }
}

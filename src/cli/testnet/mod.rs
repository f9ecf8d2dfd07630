//! `trullo testnet`: a network of real processes on this machine, each with its own home and log.
//!
//! Homes are `D/validator-1`.., `D/storage-1`.., `D/user-1`..; what they share is `D/genesis.json` and
//! `D/testnet.json`. Everything survives `down`, `up` and kills; `--reset` begins anew.

mod create;
mod links;
mod process;
mod state;
mod status;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::{Subcommand, ValueEnum};
use rustix::process::Signal;
use serde_json::json;

use super::context::{Context, block_on};
use super::output::{age, table};
pub use create::Plan;
pub use process::{Launcher, signal};
pub use state::State;
pub use status::NodeStatus;

const UP: &str = "Examples:
  trullo testnet up --dir /tmp/net
  trullo testnet up --dir /tmp/net --validators 4 --storage 6 --users 1 --json
  trullo testnet up --dir /tmp/net --reset

Returns when a block is final on every node. The keys of a testnet guard nothing: their passwords lie beside them.";
const STATUS: &str = "Examples:
  trullo testnet status --dir /tmp/net
  trullo testnet status --dir /tmp/net --json | jq .nodes[].height
  trullo testnet status --dir /tmp/net --check     # exit 3 unless every node is well";
const KILL: &str = "Examples:
  trullo testnet kill storage-2 --dir /tmp/net
  trullo testnet kill storage-1 storage-2 --dir /tmp/net
  trullo testnet kill validator-1 --dir /tmp/net --signal stop";
const START: &str = "Examples:
  trullo testnet start storage-2 --dir /tmp/net
  trullo testnet start storage-1 storage-2 --dir /tmp/net";
const PARTITION: &str = "Examples:
  trullo testnet partition validator-1 --dir /tmp/net
  trullo testnet partition validator-1,validator-2 validator-3,validator-4 --dir /tmp/net

Cuts every link between the groups. With one group, all other nodes are the other side; with more, nodes that are not
named stay with the first. It lasts until `heal`, also for nodes that are started again.";
const HEAL: &str = "Examples:
  trullo testnet heal --dir /tmp/net";
const LOGS: &str = "Examples:
  trullo testnet logs validator-1 --dir /tmp/net
  trullo testnet logs validator-1 --dir /tmp/net -f
  trullo testnet logs user-1 --dir /tmp/net --lines 200";
const DOWN: &str = "Examples:
  trullo testnet down --dir /tmp/net
  trullo testnet down --dir /tmp/net --remove";

/// How long a network may take until its first block.
const UP_WITHIN: Duration = Duration::from_secs(90);
/// How long a node has to stop by itself.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// Verbs of `testnet`.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Make the network if it is not there, and start its nodes
    #[command(after_long_help = UP)]
    Up(UpArgs),
    /// Show every node: process, address, height, state root
    #[command(after_long_help = STATUS)]
    Status {
        /// Where the network is
        #[command(flatten)]
        dir: Dir,
        /// End with exit 3 unless every node is well
        #[arg(long)]
        check: bool,
    },
    /// Send nodes a signal; SIGKILL by default
    #[command(after_long_help = KILL)]
    Kill {
        /// The nodes
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
        /// Where the network is
        #[command(flatten)]
        dir: Dir,
        /// Which signal
        #[arg(long, value_enum, ignore_case = true, default_value_t = SignalName::Kill)]
        signal: SignalName,
    },
    /// Start nodes that do not run
    #[command(after_long_help = START)]
    Start {
        /// The nodes
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
        /// Where the network is
        #[command(flatten)]
        dir: Dir,
    },
    /// Cut the links between groups of nodes
    #[command(after_long_help = PARTITION)]
    Partition {
        /// A group: names with commas between
        #[arg(required = true, value_name = "NAMES")]
        groups: Vec<String>,
        /// Where the network is
        #[command(flatten)]
        dir: Dir,
    },
    /// Allow all links again
    #[command(after_long_help = HEAL)]
    Heal {
        /// Where the network is
        #[command(flatten)]
        dir: Dir,
    },
    /// Print a node's log
    #[command(after_long_help = LOGS)]
    Logs {
        /// The node
        name: String,
        /// Where the network is
        #[command(flatten)]
        dir: Dir,
        /// Go on as the log grows, until Ctrl-C
        #[arg(short, long)]
        follow: bool,
        /// How many of the last lines
        #[arg(short = 'n', long, default_value_t = 100)]
        lines: usize,
    },
    /// Stop all nodes; their homes stay
    #[command(after_long_help = DOWN)]
    Down {
        /// Where the network is
        #[command(flatten)]
        dir: Dir,
        /// Remove the directory afterwards
        #[arg(long)]
        remove: bool,
    },
}

/// Where a network is.
#[derive(Clone, Debug, clap::Args)]
pub struct Dir {
    /// Directory of the network
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
}

/// Arguments of `testnet up`.
#[derive(Clone, Debug, clap::Args)]
pub struct UpArgs {
    /// Directory of the network
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Validators; 4 by default
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    validators: Option<u16>,
    /// Storage nodes; 6 by default
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(0..=255))]
    storage: Option<u16>,
    /// Users' nodes; 1 by default
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(0..=64))]
    users: Option<u16>,
    /// Operators that share the nodes; by default every node has its own
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    operators: Option<u16>,
    /// Pause before an empty block, milliseconds
    #[arg(long, value_name = "MS", default_value_t = create::IDLE_INTERVAL_MS)]
    idle_interval_ms: u64,
    /// Blocks in an epoch
    #[arg(long, value_name = "N", default_value_t = create::EPOCH_BLOCKS, value_parser = clap::value_parser!(u64).range(4..))]
    epoch_blocks: u64,
    /// Bytes of slots that each account may have in open deals, e.g. 10MiB; by default as many as it pays for
    #[arg(long, value_name = "SIZE")]
    quota: Option<bytesize::ByteSize>,
    /// Stop what runs there and begin anew
    #[arg(long)]
    reset: bool,
}

/// A signal that a node can be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SignalName {
    /// End at once, without any notice
    Kill,
    /// End cleanly
    Term,
    /// Pause
    Stop,
    /// Go on after `stop`
    Cont,
}

impl SignalName {
    fn signal(self) -> Signal {
        match self {
            Self::Kill => Signal::KILL,
            Self::Term => Signal::TERM,
            Self::Stop => Signal::STOP,
            Self::Cont => Signal::CONT,
        }
    }
}

/// Runs a verb.
pub fn run(context: &Context, verb: &Verb) -> Result<()> {
    match verb {
        Verb::Up(args) => up(context, args),
        Verb::Status { dir, check } => status::run(context, &State::load(&dir.dir)?, *check),
        Verb::Kill { names, dir, signal } => kill(context, &State::load(&dir.dir)?, names, *signal),
        Verb::Start { names, dir } => start(context, &State::load(&dir.dir)?, names),
        Verb::Partition { groups, dir } => links::partition(context, State::load(&dir.dir)?, groups),
        Verb::Heal { dir } => links::heal(context, State::load(&dir.dir)?),
        Verb::Logs { name, dir, follow, lines } => {
            process::logs(context.out, &State::load(&dir.dir)?.home(name)?.log(), *lines, *follow)
        }
        Verb::Down { dir, remove } => down(context, &dir.dir, *remove),
    }
}

fn up(context: &Context, args: &UpArgs) -> Result<()> {
    let started = Instant::now();
    let plan = Plan::new(args);
    let state = prepare(context, &args.dir, &plan, args.reset)?;
    let kept = format!("started nodes go on; stop them with: trullo testnet down --dir {}", args.dir.display());
    let nodes = block_on(&kept, launch(context, &state))?;
    let took = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let value = json!({
        "dir": state.dir().display().to_string(),
        "chain": state.chain,
        "genesis": state.dir().join("genesis.json").display().to_string(),
        "milliseconds": took,
        "nodes": nodes,
    });
    context.out.line("summary", &value, || Some(status::text(&nodes)))?;
    context.out.say(format!("up in {}", age(took)));
    if let Some(user) = nodes.iter().find(|node| node.role == "user") {
        let home = state.dir().join(&user.name);
        context.out.say(format!("next: trullo --home {} put FILE", home.display()));
    }
    Ok(())
}

/// The network in a directory: the one that is there, or a new one.
pub fn prepare(context: &Context, dir: &Path, plan: &Plan, reset: bool) -> Result<State> {
    if reset && State::exists(dir) {
        stop_all(context, &State::load(dir)?)?;
        state::remove(dir)?;
    }
    if State::exists(dir) {
        let state = State::load(dir)?;
        plan.check_same(&state)?;
        return Ok(state);
    }
    context.out.say(format!("making {} in {}", plan.describe(), dir.display()));
    create::create(dir, plan)
}

/// Starts what does not run, and waits until a block is final on every node.
pub async fn launch(context: &Context, state: &State) -> Result<Vec<NodeStatus>> {
    let mut launcher = Launcher::new(state);
    for node in &state.nodes {
        launcher.start(node)?;
    }
    context.out.say(format!("starting {} nodes", state.nodes.len()));
    launcher.wait_ready(UP_WITHIN).await?;
    links::restore(state).await?;
    status::all(state).await
}

/// Nothing is sent before all names are known.
fn kill(context: &Context, state: &State, names: &[String], signal: SignalName) -> Result<()> {
    let homes: Vec<_> = names.iter().map(|name| state.home(name)).collect::<Result<_>>()?;
    let pids: Vec<_> = homes.iter().map(|home| process::signal(home, signal.signal())).collect::<Result<_>>()?;
    let ends = matches!(signal, SignalName::Kill | SignalName::Term);
    let word = format!("{signal:?}").to_lowercase();
    let (mut values, mut lines) = (Vec::new(), Vec::new());
    for ((name, home), pid) in names.iter().zip(&homes).zip(pids) {
        let ended = ends && process::wait_ended(home, STOP_WITHIN)?;
        values.push(json!({ "name": name, "pid": pid, "signal": word, "ended": ended }));
        lines.push(format!("{name} (process {pid}) was sent {word}"));
    }
    context.out.result(&values, || lines.join("\n"))?;
    Ok(())
}

fn start(context: &Context, state: &State, names: &[String]) -> Result<()> {
    let nodes: Vec<_> = names.iter().map(|name| state.node(name)).collect::<Result<_>>()?;
    let statuses = block_on("the nodes go on starting", async {
        let mut launcher = Launcher::new(state);
        nodes.iter().try_for_each(|node| launcher.start(node))?;
        launcher.wait_answering(UP_WITHIN).await?;
        links::restore(state).await?;
        let mut statuses = Vec::new();
        for node in nodes {
            statuses.push(status::one(state, node).await?);
        }
        Ok(statuses)
    })?;
    context.out.result(&statuses, || status::text(&statuses))?;
    Ok(())
}

fn down(context: &Context, dir: &Path, remove: bool) -> Result<()> {
    let state = State::load(dir)?;
    let killed = stop_all(context, &state)?;
    if remove {
        state::remove(dir)?;
    }
    let value = json!({ "dir": dir.display().to_string(), "killed": killed, "removed": remove });
    context.out.result(&value, || {
        if killed.is_empty() {
            "all nodes stopped".to_owned()
        } else {
            format!("had to be killed: {}", killed.join(", "))
        }
    })?;
    Ok(())
}

/// Stops every node; returns the names of those that had to be killed.
pub fn stop_all(context: &Context, state: &State) -> Result<Vec<String>> {
    for node in &state.nodes {
        let home = state.home(&node.name)?;
        if home.running()?.is_some() {
            // One that is paused could not hear anything else.
            process::signal(&home, Signal::CONT)?;
            process::signal(&home, Signal::TERM)?;
        }
    }
    let deadline = Instant::now() + STOP_WITHIN;
    let mut killed = Vec::new();
    for node in &state.nodes {
        let home = state.home(&node.name)?;
        if process::wait_ended(&home, deadline.saturating_duration_since(Instant::now()))? {
            continue;
        }
        context.out.warn(format!("{} did not stop within {} s and is killed", node.name, STOP_WITHIN.as_secs()));
        process::signal(&home, Signal::KILL)?;
        process::wait_ended(&home, STOP_WITHIN)?;
        killed.push(node.name.clone());
    }
    Ok(killed)
}

/// Rows of a table of nodes.
fn rows(nodes: &[NodeStatus]) -> String {
    let row = |node: &NodeStatus| {
        let pid = node.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
        let height = node.height.map_or_else(|| "-".to_owned(), |height| height.to_string());
        let root = node.state_root.as_deref().map_or_else(|| "-".to_owned(), super::output::short);
        let ok = match (&node.reason, node.ok) {
            (_, true) => "ok".to_owned(),
            (reason, false) => reason.clone().unwrap_or_else(|| "not ready".to_owned()),
        };
        [node.name.clone(), node.role.clone(), pid, node.api.clone(), height, root, ok]
    };
    table(["name", "role", "pid", "api", "height", "state root", "state"], nodes.iter().map(row))
}

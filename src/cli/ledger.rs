//! `trullo ledger`: questions to the chain, and proofs of the answers.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use clap::Subcommand;
use futures::StreamExt;
use reqwest::Method;
use serde_json::json;

use super::client::Client;
use super::context::{Context, NOTHING_CHANGED, block_on};
use super::files::{describe, resolve};
use super::output::{age, facts, short, size, table};
use crate::api::network::NetworkView;
use crate::api::stats::PeerView;
use crate::api::views::{AccountView, BlockView, NodeView, StatusView, TxView, ValidatorView};

const STATUS: &str = "Examples:
  trullo ledger status
  trullo --home /tmp/net/validator-1 ledger status --json";
const BLOCK: &str = "Examples:
  trullo ledger block latest
  trullo ledger block 12
  trullo ledger block 12 --json | jq .state_root";
const BLOCKS: &str = "Examples:
  trullo ledger blocks
  trullo ledger blocks --from 100 --limit 50 --json";
const TX: &str = "Examples:
  trullo ledger tx 5d41402abc4b2a76b9719d911017c5925d41402abc4b2a76b9719d911017c592";
const ACCOUNT: &str = "Examples:
  trullo ledger account me
  trullo ledger account me --proof -o account.json
  trullo ledger account me --proof --from 1200 -o account.json";
const FILE: &str = "Examples:
  trullo ledger file photo.jpg
  trullo ledger file 3f9c0a41d2b7e685 --proof -o bundle.json
  trullo verify bundle.json --genesis genesis.json

The proof holds the record, its path to the state root, the headers up to a certified one, and the certificate: whoever has
the network's genesis file can check it without any node.";
const VALIDATORS: &str = "Examples:
  trullo ledger validators";
const NODES: &str = "Examples:
  trullo ledger nodes --json";
const PEERS: &str = "Examples:
  trullo ledger peers
  trullo ledger peers --all --json

A peer's rates follow from its standing on the ledger: a stranger has a quarter of a whole rate, a registered node more
by its reputation, a validator two. With 100 points for its own faults it is sent away for a time; points fade, one a second.";
const EVENTS: &str = "Examples:
  trullo ledger events
  trullo ledger events --since 0 --json | jq .height";

/// Verbs of `ledger`.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Where the node is: height, state root, peers
    #[command(after_long_help = STATUS)]
    Status,
    /// One final block with its transactions
    #[command(after_long_help = BLOCK)]
    Block {
        /// Height, hash, or `latest`
        block: String,
    },
    /// Final blocks, the newest or from a height on
    #[command(after_long_help = BLOCKS)]
    Blocks {
        /// First height
        #[arg(long)]
        from: Option<u64>,
        /// How many
        #[arg(long, default_value_t = 20)]
        limit: u32,
    },
    /// One transaction
    #[command(after_long_help = TX)]
    Tx {
        /// Its id
        id: String,
    },
    /// An account's credits
    #[command(after_long_help = ACCOUNT)]
    Account {
        /// Its id, or `me`
        #[arg(default_value = "me")]
        id: String,
        /// How to prove it
        #[command(flatten)]
        proof: Proof,
    },
    /// A file's record: status, slots, nodes
    #[command(after_long_help = FILE)]
    File {
        /// Its id, the first digits of it, or its name
        file: String,
        /// How to prove it
        #[command(flatten)]
        proof: Proof,
    },
    /// The validators of this epoch
    #[command(after_long_help = VALIDATORS)]
    Validators,
    /// The registered nodes
    #[command(after_long_help = NODES)]
    Nodes,
    /// The peers of the node: standing, faults, and who is sent away until when
    #[command(after_long_help = PEERS)]
    Peers {
        /// Also those that were not heard of for a minute, or never
        #[arg(long)]
        all: bool,
    },
    /// Final blocks as they come, one a line, until Ctrl-C
    #[command(after_long_help = EVENTS)]
    Events {
        /// Begin after this height; default: with the next block
        #[arg(long)]
        since: Option<u64>,
    },
}

/// Whether and where a proof is wanted.
#[derive(Debug, clap::Args)]
pub struct Proof {
    /// Give a proof bundle for `trullo verify` instead
    #[arg(long)]
    proof: bool,
    /// Write the bundle to this file; `-` or nothing: stdout
    #[arg(short, long, requires = "proof", value_name = "FILE")]
    output: Option<PathBuf>,
    /// Begin the bundle with the checkpoint of this height, for `trullo verify --trust`; default: with the genesis
    #[arg(long, requires = "proof", value_name = "HEIGHT")]
    from: Option<u64>,
}

/// Runs a verb.
pub fn run(context: &Context, verb: &Verb) -> Result<()> {
    let client = context.client()?;
    block_on(NOTHING_CHANGED, ask(context, &client, verb))
}

async fn ask(context: &Context, client: &Client, verb: &Verb) -> Result<()> {
    let out = context.out;
    match verb {
        Verb::Status => {
            let status = client.status().await?;
            out.result(&status, || status_text(&status))?;
        }
        Verb::Block { block } => {
            let block: BlockView = client.get(&format!("/v1/blocks/{}", segment(block)?)).await?;
            out.result(&block, || block_text(&block))?;
        }
        Verb::Blocks { from, limit } => {
            let from = from.map(|from| format!("&from={from}")).unwrap_or_default();
            let blocks: Vec<BlockView> = client.get(&format!("/v1/blocks?limit={limit}{from}")).await?;
            out.result(&blocks, || table(BLOCK_HEADER, blocks.iter().map(block_row)))?;
        }
        Verb::Tx { id } => {
            let tx: TxView = client.get(&format!("/v1/txs/{}", segment(id)?)).await?;
            out.result(&tx, || tx_text(&tx))?;
        }
        Verb::Account { id, proof } if proof.proof => {
            bundle(context, client, &format!("/v1/proofs/account/{}", segment(id)?), proof).await?;
        }
        Verb::Account { id, .. } => {
            let account: AccountView = client.get(&format!("/v1/accounts/{}", segment(id)?)).await?;
            out.result(&account, || account_text(&account))?;
        }
        Verb::File { file, proof } if proof.proof => {
            let file = resolve(client, file).await?;
            bundle(context, client, &format!("/v1/proofs/file/{}", file.id), proof).await?;
        }
        Verb::File { file, .. } => {
            let file = resolve(client, file).await?;
            out.result(&file, || describe(&file))?;
        }
        Verb::Validators => {
            let validators: Vec<ValidatorView> = client.get("/v1/validators").await?;
            out.result(&validators, || validators_text(&validators))?;
        }
        Verb::Nodes => {
            let nodes: Vec<NodeView> = client.get("/v1/nodes").await?;
            out.result(&nodes, || nodes_text(&nodes))?;
        }
        Verb::Peers { all } => {
            let peers: Vec<PeerView> = client.get(&format!("/v1/peers?all={all}")).await?;
            out.result(&peers, || peers_text(&peers))?;
        }
        Verb::Events { since } => events(context, client, *since).await?,
    }
    Ok(())
}

/// A part of a path as the user typed it. Errors: exit 2 for what cannot stand in a path.
fn segment(text: &str) -> Result<&str> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Ok(text);
    }
    let message = format!("{text:?} is no height, hash or id");
    Err(super::errors::CliError::new(super::errors::Exit::Usage, message).into())
}

/// Fetches a bundle and hands it on unchanged: every byte of it counts.
async fn bundle(context: &Context, client: &Client, path: &str, proof: &Proof) -> Result<()> {
    let query = proof.from.map(|from| format!("?from={from}")).unwrap_or_default();
    let bytes = fetch_bundle(client, &format!("{path}{query}")).await?;
    match proof.output.as_deref().filter(|path| *path != Path::new("-")) {
        None => Ok(std::io::stdout().write_all(&bytes)?),
        Some(path) => {
            std::fs::write(path, &bytes).with_context(|| format!("writing {}", path.display()))?;
            let text = path.display().to_string();
            let value = json!({ "bundle": text, "bytes": bytes.len() });
            context.out.result(&value, || text.clone())?;
            let genesis = context.open_home()?.genesis();
            let trust = match proof.from.filter(|from| *from > 0) {
                Some(from) => format!("--trust {from}:HASH, with the hash from a source that you trust"),
                None => format!("--genesis {}", genesis.display()),
            };
            context.out.say(format!("check it with: trullo verify {text} {trust}"));
            Ok(())
        }
    }
}

/// The bytes of a bundle.
pub async fn fetch_bundle(client: &Client, path: &str) -> Result<Bytes> {
    let response = client.send(client.request(Method::GET, path)).await?;
    response.bytes().await.map_err(|error| client.failed(&error).into())
}

/// Prints blocks as the node tells of them.
async fn events(context: &Context, client: &Client, since: Option<u64>) -> Result<()> {
    let since = since.map(|since| format!("?since={since}")).unwrap_or_default();
    let response = client.send(client.request(Method::GET, &format!("/v1/events{since}"))).await?;
    let mut pieces = response.bytes_stream();
    let mut buffer = Vec::new();
    while let Some(piece) = pieces.next().await {
        buffer.extend_from_slice(&piece.map_err(|error| client.failed(&error))?);
        while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = buffer.drain(..=end).collect();
            let block: BlockView = serde_json::from_slice(&line).context("an event is not what was expected")?;
            let text = || Some(format!("{} {} {} txs {}", block.height, short(&block.hash), block.txs, block.time_ms));
            context.out.line("item", &block, text)?;
        }
    }
    Ok(())
}

/// The network in a line; then who is away, if anybody is.
fn network_text(network: &NetworkView) -> String {
    let missing = network.missing.iter().map(|missing| missing.name.clone().unwrap_or_else(|| short(&missing.node)));
    let missing: Vec<_> = missing.collect();
    let power = format!("power {} of {} in reach, quorum {}", network.power_heard, network.power, network.power_quorum);
    match missing.is_empty() {
        true => format!("{}, {power}", network.state),
        false => format!("{}, {power}, missing: {}", network.state, missing.join(", ")),
    }
}

fn status_text(status: &StatusView) -> String {
    let leader = status.leader_name.clone().unwrap_or_else(|| short(&status.leader));
    let ready = match (&status.reason, status.ready) {
        (_, true) => "yes".to_owned(),
        (reason, false) => format!("no: {}", reason.clone().unwrap_or_default()),
    };
    let syncing = status.sync_target.map(|target| format!("up to height {target}"));
    let mut rows = vec![
        ("node", format!("{} ({})", status.name, status.node)),
        ("roles", status.roles.join(", ")),
        ("chain", status.chain.clone()),
        ("height", status.height.to_string()),
        ("block", status.block_hash.clone()),
        ("checkpoint", status.checkpoint.clone()),
        ("state root", status.state_root.clone()),
        ("final since", age(status.finalized_age_ms)),
        ("epoch, view", format!("{}, {} led by {leader}", status.epoch, status.view)),
        ("validators", status.validators.to_string()),
        ("network", network_text(&status.network)),
        ("peers", status.peers.to_string()),
        ("reached at", status.addresses.join("\n")),
        ("waiting", format!("{} transactions, {}", status.mempool_txs, size(status.mempool_bytes))),
        ("ready", ready),
    ];
    rows.extend(status.signing.clone().map(|why| ("signs nothing", why)));
    if status.behind > 0 {
        rows.push(("behind", format!("{} blocks", status.behind)));
    }
    if status.syncing {
        rows.push(("catching up", syncing.unwrap_or_else(|| "yes".to_owned())));
    }
    if let Some(storage) = &status.storage {
        let (used, capacity) = (size(storage.used), size(storage.capacity));
        let free = size(storage.disk_free);
        rows.push(("storage", format!("{used} of {capacity} in {} slots, disk {free} free", storage.slots)));
        if !storage.registered {
            rows.push(("", "not registered: it needs an account with credits, see `trullo storage status`".to_owned()));
        }
    }
    rows.extend(status.account.clone().map(|account| ("account", account)));
    rows.push(("running since", age(status.uptime_ms)));
    facts(rows)
}

const BLOCK_HEADER: [&str; 6] = ["height", "hash", "txs", "bytes", "view", "proposer"];

fn block_row(block: &BlockView) -> [String; 6] {
    let view = format!("{}.{}", block.epoch, block.view);
    let numbers = [block.height.to_string(), short(&block.hash), block.txs.to_string(), block.bytes.to_string()];
    let [height, hash, txs, bytes] = numbers;
    [height, hash, txs, bytes, view, short(&block.proposer)]
}

fn block_text(block: &BlockView) -> String {
    let mut text = facts([
        ("height", block.height.to_string()),
        ("hash", block.hash.clone()),
        ("checkpoint", block.checkpoint.clone()),
        ("parent", block.parent.clone()),
        ("epoch, view", format!("{}, {}", block.epoch, block.view)),
        ("proposer", block.proposer.clone()),
        ("time", format!("{} ms since 1970", block.time_ms)),
        ("state root", block.state_root.clone()),
        ("tx root", block.tx_root.clone()),
        ("receipt root", block.receipt_root.clone()),
        ("transactions", format!("{}, {} bytes", block.txs, block.bytes)),
    ]);
    if let Some(certificate) = &block.certificate {
        let (height, signers) = (certificate.height, certificate.signers.len());
        text += &facts([("certificate", format!("of height {height}, signed by {signers} validators"))]);
    }
    if let Some(txs) = block.transactions.as_ref().filter(|txs| !txs.is_empty()) {
        let row = |tx: &TxView| [short(&tx.id), tx.status.to_string(), short(&tx.sender), action(tx)];
        text += "\n";
        text += &table(["transaction", "status", "sender", "action"], txs.iter().map(row));
    }
    text
}

/// The action's name and fields, as in its JSON.
fn action(tx: &TxView) -> String {
    let Ok(serde_json::Value::Object(fields)) = serde_json::to_value(&tx.action) else { return String::new() };
    let text = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let kind = fields.get("type").map(text).unwrap_or_default();
    let rest = fields.iter().filter(|(name, _)| *name != "type");
    rest.fold(kind, |all, (name, value)| format!("{all} {name}={}", short(&text(value))))
}

fn tx_text(tx: &TxView) -> String {
    let mut rows = vec![("id", tx.id.clone()), ("status", tx.status.to_string())];
    rows.extend(tx.reason.clone().map(|reason| ("reason", reason)));
    rows.extend(tx.height.map(|height| ("height", height.to_string())));
    rows.extend(tx.index.map(|index| ("index", index.to_string())));
    rows.push(("sender", tx.sender.clone()));
    rows.push(("nonce", tx.nonce.to_string()));
    rows.push(("action", action(tx)));
    facts(rows)
}

/// An account for reading.
pub fn account_text(account: &AccountView) -> String {
    facts([
        ("account", account.id.clone()),
        ("credits", account.balance.to_string()),
        ("transactions", account.nonce.to_string()),
        ("as of height", account.height.to_string()),
    ])
}

fn peers_text(peers: &[PeerView]) -> String {
    let row = |peer: &PeerView| {
        let state = match (peer.away_for_ms, peer.connected) {
            (Some(away), _) => format!("sent away for {}", age(away)),
            (None, true) => "connected".to_owned(),
            (None, false) => String::new(),
        };
        let (name, fault) = (peer.name.clone().unwrap_or_default(), peer.fault.clone().unwrap_or_default());
        [name, state, peer.standing.clone(), peer.penalty.to_string(), fault, peer.node.clone()]
    };
    table(["name", "state", "standing", "points", "last fault", "node"], peers.iter().map(row))
}

fn validators_text(validators: &[ValidatorView]) -> String {
    let row = |validator: &ValidatorView| {
        let now = match (validator.leader, validator.skipped) {
            (true, _) => "leads",
            (false, true) => "skipped",
            (false, false) => "",
        };
        let name = validator.name.clone().unwrap_or_default();
        [validator.index.to_string(), name, validator.power.to_string(), now.to_owned(), validator.node.clone()]
    };
    table(["index", "name", "power", "now", "node"], validators.iter().map(row))
}

fn nodes_text(nodes: &[NodeView]) -> String {
    let row = |node: &NodeView| {
        let seen = node.seen_ms_ago.map(age).unwrap_or_else(|| "never".to_owned());
        let used = format!("{} of {}", size(node.used), size(node.capacity));
        [node.name.clone(), node.roles.join(","), node.operator.clone(), used, seen, short(&node.node)]
    };
    table(["name", "roles", "operator", "used", "seen ago", "node"], nodes.iter().map(row))
}

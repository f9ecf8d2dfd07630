//! Four validator processes while strangers attack them: `cargo bench --bench hostile`.
//!
//! Transfers at an easy rate give blocks at a pace; each attack goes on for as long as a quiet run before it, so what is kept is a
//! ratio of two runs side by side. Prints one JSON line for each. Words after `--` choose among `transactions`, `requests`,
//! `connections`. The attackers are in this process, on the same machine: what they use of it is lost to the nodes as well.

mod processes;

#[path = "processes/load.rs"]
#[allow(dead_code, reason = "each benchmark uses its part")]
mod load;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use serde_json::{Value, json};
use trullo::api::stats::PeerView;
use trullo::api::views::{NodeView, StatusView};
use trullo::crypto::SecretKey;
use trullo::crypto::keys::AccountKeys;
use trullo::net::{Address, Method, NetConfig, NetHandle, NetLimits, PeerAddress};
use trullo::types::{Amount, ChainId};
use trullo::wire::{self, Action, Topic, Tx, TxBody};

use load::{Load, Outcome};
use processes::testnet::{Node, Testnet};
use processes::{asked_for, mib, process, round};

const ATTACKS: [&str; 3] = ["transactions", "requests", "connections"];
/// Transfers per second that honest accounts send.
const RATE: u32 = 100;
/// Attackers at once.
const ATTACKERS: u8 = 3;
/// Pause between two messages of an attacker, so that it is the nodes that are tried and not this machine.
const PACE: Duration = Duration::from_millis(4);
/// Connections that say nothing.
const IDLE: usize = 10_000;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    processes::finish(runtime.context("a runtime").and_then(|runtime| runtime.block_on(run())));
}

async fn run() -> Result<()> {
    let lasting = Duration::from_secs(if asked_for("--test") { 2 } else { 15 });
    let some = ATTACKS.into_iter().any(asked_for);
    let net = tokio::task::spawn_blocking(|| Testnet::up("hostile", 4, 0, 0)).await??;
    let mut load = Load::start(&net).await?;
    let target = Target::of(&net).await?;
    for attack in ATTACKS.into_iter().filter(|attack| !some || asked_for(attack)) {
        let quiet = measure(&net, &mut load, lasting).await?;
        let attackers = Attackers::start(attack, &target).await;
        let attacked = measure(&net, &mut load, lasting).await?;
        let after = attackers.stop().await;
        report(attack, &net, &quiet, &attacked, after).await?;
    }
    Ok(())
}

/// Whom to attack.
#[derive(Clone)]
struct Target {
    chain: ChainId,
    validators: Vec<PeerAddress>,
}

impl Target {
    async fn of(net: &Testnet) -> Result<Self> {
        let first = net.nodes.first().context("no node")?;
        let status: StatusView = get(first, "/status").await?;
        let nodes: Vec<NodeView> = get(first, "/v1/nodes").await?;
        let chain = status.chain.parse().ok().context("a chain id")?;
        let address = |node: &NodeView| {
            let address: Address = node.addresses.first()?.parse().ok()?;
            Some(address.of(node.node.parse().ok()?))
        };
        Ok(Self { chain, validators: nodes.iter().filter_map(address).collect() })
    }
}

async fn get<T: serde::de::DeserializeOwned>(node: &Node, path: &str) -> Result<T> {
    Ok(node.client()?.get(node.url(path)).send().await?.json().await?)
}

/// How the chain did for a while.
struct Pace {
    outcome: Outcome,
    blocks_per_s: f64,
    rss_mib: f64,
    /// Cores of all validators, and of this process: load and attackers.
    cores: [f64; 2],
}

async fn measure(net: &Testnet, load: &mut Load, lasting: Duration) -> Result<Pace> {
    let first = net.nodes.first().context("no node")?;
    let (start, before) = (Instant::now(), get::<StatusView>(first, "/status").await?.height);
    let cpu = || -> Result<[Duration; 2]> {
        let nodes = net.nodes.iter().map(|node| process::cpu(node.pid)).sum::<Result<Duration>>()?;
        Ok([nodes, process::cpu(std::process::id())?])
    };
    let used = cpu()?;
    let outcome = load.run(RATE, lasting).await?;
    let [nodes, own] = cpu()?;
    let wall = start.elapsed().as_secs_f64();
    let cores = [nodes - used[0], own - used[1]].map(|time| round(time.as_secs_f64() / wall, 2));
    let blocks = get::<StatusView>(first, "/status").await?.height - before;
    let rss = net.nodes.iter().map(|node| Ok(mib(process::memory(node.pid)?.resident)));
    let rss = rss.collect::<Result<Vec<f64>>>()?.into_iter().fold(0.0, f64::max);
    Ok(Pace { outcome, blocks_per_s: blocks as f64 / start.elapsed().as_secs_f64(), rss_mib: rss, cores })
}

async fn report(attack: &str, net: &Testnet, quiet: &Pace, attacked: &Pace, sent: Value) -> Result<()> {
    let first = net.nodes.first().context("no node")?;
    let peers: Vec<PeerView> = get(first, "/v1/peers?all=true").await?;
    let away = peers.iter().filter(|peer| peer.away_for_ms.is_some()).count();
    let ms = |outcome: &Outcome, share| round(outcome.percentile(share).as_secs_f64() * 1e3, 1);
    let kept = attacked.blocks_per_s / quiet.blocks_per_s;
    let line = json!({
        "bench": "hostile", "attack": attack, "offered_tx_per_s": RATE, "attackers": ATTACKERS, "sent": sent,
        "quiet": { "blocks_per_s": round(quiet.blocks_per_s, 2), "final_tx_per_s": round(quiet.outcome.rate, 1),
            "p50_ms": ms(&quiet.outcome, 0.5), "p99_ms": ms(&quiet.outcome, 0.99), "rss_mib_max": quiet.rss_mib, "cores": quiet.cores },
        "attacked": { "blocks_per_s": round(attacked.blocks_per_s, 2), "final_tx_per_s": round(attacked.outcome.rate, 1),
            "p50_ms": ms(&attacked.outcome, 0.5), "p99_ms": ms(&attacked.outcome, 0.99), "rss_mib_max": attacked.rss_mib, "cores": attacked.cores },
        "blocks_kept": round(kept, 3), "tx_kept": round(attacked.outcome.rate / quiet.outcome.rate, 3),
        "sent_away": away, "goal_kept": 0.8, "met": kept >= 0.8,
    });
    println!("{line}");
    Ok(())
}

/// Strangers at work until they are stopped. One that is sent away comes back under another key.
struct Attackers {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    keys: Arc<AtomicU64>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Attackers {
    async fn start(attack: &'static str, target: &Target) -> Self {
        let (stop, sent, keys) =
            (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let mut tasks = Vec::new();
        for _ in 0..ATTACKERS {
            let (target, stop, sent, keys) = (target.clone(), Arc::clone(&stop), Arc::clone(&sent), Arc::clone(&keys));
            tasks.push(tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    if attack == "connections" {
                        hold(&target, &stop, &sent).await;
                    } else {
                        let key = keys.fetch_add(1, Ordering::Relaxed);
                        come(attack, &target, key, &stop, &sent).await;
                    }
                }
            }));
        }
        Self { stop, sent, keys, tasks }
    }

    async fn stop(self) -> Value {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            // One that panics has stopped too.
            let _ = task.await;
        }
        json!({ "pieces": self.sent.load(Ordering::Relaxed), "keys": self.keys.load(Ordering::Relaxed) })
    }
}

/// Opens connections and holds them without a word.
async fn hold(target: &Target, stop: &AtomicBool, sent: &AtomicU64) {
    let mut held = Vec::new();
    let ports: Vec<String> = target.validators.iter().filter_map(|peer| socket(&peer.address.to_string())).collect();
    for port in ports.iter().cycle() {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        if held.len() >= IDLE / usize::from(ATTACKERS) {
            tokio::time::sleep(PACE).await;
            continue;
        }
        if let Ok(stream) = tokio::net::TcpStream::connect(port).await {
            held.push(stream);
            sent.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// `1.2.3.4:5` of `/ip4/1.2.3.4/tcp/5`.
fn socket(address: &str) -> Option<String> {
    let mut parts = address.split('/').skip(2);
    Some(format!("{}:{}", parts.next()?, parts.nth(1)?))
}

/// A stranger with a new key floods until all have sent it away, or for as long as nobody does.
async fn come(attack: &str, target: &Target, key: u64, stop: &AtomicBool, sent: &AtomicU64) {
    let mut seed = [201; 32];
    seed[..8].copy_from_slice(&key.to_be_bytes());
    let config = NetConfig {
        key: SecretKey::from_seed(&seed),
        chain: target.chain,
        listen: Vec::new(),
        announce: Vec::new(),
        bootstrap: target.validators.clone(),
        limits: NetLimits::default(),
    };
    let Ok((net, _inboxes)) = trullo::net::start(config, trullo::net::Metrics::default()).await else { return };
    let mut connected = net.connected();
    let all = target.validators.len();
    let came = connected.wait_for(|peers| peers.len() == all);
    if tokio::time::timeout(Duration::from_secs(2), came).await.is_ok() {
        let mut txs = transactions(target, key);
        while !stop.load(Ordering::Relaxed) && !net.connected().borrow().is_empty() {
            match attack {
                "transactions" => trash(&net, &mut txs, sent).await,
                _ => ask(&net, target, sent).await,
            }
        }
    }
    net.shutdown().await;
}

/// Transfers of accounts that do not exist.
fn transactions(target: &Target, key: u64) -> Vec<Tx> {
    let one = |n: u8| {
        let mut master = [n; 32];
        master[..8].copy_from_slice(&key.to_be_bytes());
        let keys = AccountKeys::from_master(&master);
        let action = Action::Transfer { to: keys.account_id(), amount: Amount::new(1), memo: String::new() };
        let body = TxBody { chain: target.chain, sender: keys.account_id(), nonce: 0, action };
        Tx::sign(body, keys.signing())
    };
    (0..64).map(one).collect()
}

async fn trash(net: &NetHandle, txs: &mut [Tx], sent: &AtomicU64) {
    // Another order is another message.
    let at = sent.fetch_add(1, Ordering::Relaxed) as usize % txs.len();
    txs.swap(0, at);
    txs.rotate_left(1);
    // What its own network has no room for is not sent.
    let _ = net.gossip(Topic::Transactions, wire::encode(&txs.to_vec()));
    tokio::time::sleep(PACE).await;
}

/// Asks all for as many blocks as fit an answer.
async fn ask(net: &NetHandle, target: &Target, sent: &AtomicU64) {
    let question = Bytes::from(wire::encode(&trullo::types::Height::new(1)));
    let asking = target.validators.iter().map(|peer| {
        sent.fetch_add(1, Ordering::Relaxed);
        net.request(peer.node, Method::Blocks, question.clone(), Duration::from_secs(2))
    });
    drop(futures::future::join_all(asking).await);
    tokio::time::sleep(PACE).await;
}

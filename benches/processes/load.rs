//! Signed transfers at a given rate, and when each of them is final.
//!
//! Open loop: a transfer has a time at which it is due, and its latency counts from there, whether or not the network
//! was ready to take it. Each account posts to one validator; finality is what validator 1 streams from `/v1/events`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use futures::StreamExt;
use reqwest::StatusCode;
use serde::Deserialize;
use trullo::api::views::{AccountView, StatusView};
use trullo::config::keystore::KeystoreFile;
use trullo::crypto::keys::AccountKeys;
use trullo::types::{AccountId, Amount, ChainId};
use trullo::wire::{self, Action, Tx, TxBody};

use crate::processes::testnet::{Node, Testnet};

/// Accounts that send and receive in turn: so many records of the state tree change with each block at most.
const ACCOUNTS: usize = 512;
/// Connections to each validator. A request waits for the one before it on its connection.
const LANES: usize = 16;
/// How long the last transfers may take to become final after the last was sent.
const DRAIN: Duration = Duration::from_secs(30);

/// Everything that has become final.
#[derive(Default)]
struct Finals {
    when: HashMap<String, Instant>,
    rejected: usize,
    /// When each block came and how many transactions it has.
    blocks: Vec<(Instant, usize)>,
}

/// Sends transfers to a network and follows it.
pub struct Load {
    nodes: Vec<Node>,
    chain: ChainId,
    senders: Vec<Sender>,
    next: usize,
    finals: Arc<Mutex<Finals>>,
    watcher: tokio::task::JoinHandle<()>,
}

struct Sender {
    keys: AccountKeys,
    nonce: u64,
}

/// What came of sending for a while.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub sent: usize,
    /// Not taken in by a validator, with the first reason.
    pub refused: Vec<String>,
    /// From due to final, ascending.
    pub latencies: Vec<Duration>,
    /// Final per second, over the second half of the time.
    pub rate: f64,
    /// Due per second, over the same half.
    pub due: f64,
    pub blocks: usize,
}

impl Outcome {
    /// The latency that this share of transfers had at most.
    pub fn percentile(&self, share: f64) -> Duration {
        let last = self.latencies.len().saturating_sub(1);
        self.latencies.get((last as f64 * share).round() as usize).copied().unwrap_or_default()
    }
    /// Whether the network took everything as fast as it came.
    pub fn kept_up(&self) -> bool {
        self.refused.is_empty() && self.latencies.len() == self.sent && self.rate >= 0.97 * self.due
    }
}

impl Load {
    /// Funds the accounts from those of the validators.
    pub async fn start(net: &Testnet) -> Result<Self> {
        let nodes: Vec<_> = net.role("validator").cloned().collect();
        let first = nodes.first().context("no validator")?;
        let status: StatusView = first.client()?.get(first.url("/status")).send().await?.json().await?;
        let finals = Arc::default();
        let watcher = tokio::spawn(watch(first.clone(), status.height, Arc::clone(&finals)));
        let key =
            |at: usize| AccountKeys::from_master(wire::encode(&[at as u64; 4])[..].first_chunk().expect("32 bytes"));
        let senders = (1..=ACCOUNTS).map(|at| Sender { keys: key(at), nonce: 0 }).collect();
        let chain = status.chain.parse().context("the chain's id")?;
        let load = Self { nodes, chain, senders, next: 0, finals, watcher };
        let mut txs = Vec::new();
        for (at, node) in load.nodes.iter().enumerate() {
            let (keys, mut nonce) = owner(node).await?;
            for sender in load.senders.iter().skip(at).step_by(load.nodes.len()) {
                txs.push(load.transfer(&keys, nonce, sender.keys.account_id(), 1_000_000));
                nonce += 1;
            }
        }
        // Nonces of one account follow each other on one connection.
        let txs = (0..).zip(txs).map(|(at, tx)| Due {
            at: Duration::ZERO,
            node: at / (ACCOUNTS / load.nodes.len()),
            lane: 0,
            tx,
        });
        let outcome = load.send(txs.collect(), Duration::ZERO).await?;
        ensure!(outcome.latencies.len() == ACCOUNTS, "the accounts were not funded: {:?}", outcome.refused);
        Ok(load)
    }

    /// Posts nothing more to this node.
    pub fn leave_out(&mut self, node: &Node) {
        self.nodes.retain(|other| other.name != node.name);
    }

    fn transfer(&self, from: &AccountKeys, nonce: u64, to: AccountId, amount: u64) -> Tx {
        let action = Action::Transfer { to, amount: Amount::new(amount), memo: String::new() };
        Tx::sign(TxBody { chain: self.chain, sender: from.account_id(), nonce, action }, from.signing())
    }

    /// Sends at this many transfers per second for so long, and waits until they are final.
    pub async fn run(&mut self, rate: u32, lasting: Duration) -> Result<Outcome> {
        let count = (f64::from(rate) * lasting.as_secs_f64()) as usize;
        let txs = (0..count).map(|at| {
            let from = self.next % ACCOUNTS;
            let to = self.senders[(from + 1) % ACCOUNTS].keys.account_id();
            let tx = self.transfer(&self.senders[from].keys, self.senders[from].nonce, to, 1);
            self.senders[from].nonce += 1;
            self.next += 1;
            // An account keeps to one connection as well, so that its nonces come in order.
            let (node, lane) = (from % self.nodes.len(), from / self.nodes.len() % LANES);
            Due { at: Duration::from_secs_f64(at as f64 / f64::from(rate)), node, lane, tx }
        });
        let txs = txs.collect();
        self.send(txs, lasting).await
    }

    async fn send(&self, txs: Vec<Due>, lasting: Duration) -> Result<Outcome> {
        let mut lanes: Vec<Vec<(Duration, Bytes)>> = vec![Vec::new(); self.nodes.len() * LANES];
        let ids: Vec<_> = txs.iter().map(|due| (due.tx.id().to_string(), due.at)).collect();
        for due in txs {
            lanes[due.node * LANES + due.lane].push((due.at, wire::encode(&due.tx).into()));
        }
        let rejected = self.finals().rejected;
        let start = Instant::now() + Duration::from_millis(20);
        let mut posting = tokio::task::JoinSet::new();
        for (at, lane) in lanes.into_iter().enumerate().filter(|(_, lane)| !lane.is_empty()) {
            posting.spawn(post(self.nodes[at / LANES].clone(), start, lane));
        }
        let mut refused = Vec::new();
        while let Some(lane) = posting.join_next().await {
            refused.extend(lane??);
        }
        let wanted = ids.len() - refused.len();
        let deadline = Instant::now() + DRAIN;
        while Instant::now() < deadline
            && ids.iter().filter(|(id, _)| self.finals().when.contains_key(id)).count() < wanted
        {
            ensure!(!self.watcher.is_finished(), "the stream of events ended");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let finals = self.finals();
        if finals.rejected > rejected {
            bail!("the ledger rejected {} transfers", finals.rejected - rejected);
        }
        let when = |id: &String| finals.when.get(id).copied();
        let mut latencies: Vec<_> =
            ids.iter().filter_map(|(id, at)| Some(when(id)?.saturating_duration_since(start + *at))).collect();
        latencies.sort();
        let half = lasting / 2;
        let late = |moment: &Instant| *moment >= start + half && *moment < start + lasting;
        let per_second = |count: usize| count as f64 / half.as_secs_f64();
        let rate = per_second(ids.iter().filter_map(|(id, _)| when(id)).filter(late).count());
        let due = per_second(ids.iter().filter(|(_, at)| *at >= half).count());
        let blocks = finals.blocks.iter().filter(|(moment, txs)| *moment >= start && *txs > 0).count();
        Ok(Outcome { sent: ids.len(), refused, latencies, rate, due, blocks })
    }

    fn finals(&self) -> MutexGuard<'_, Finals> {
        self.finals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A transfer, when it is due, and by which connection of which validator it goes.
struct Due {
    at: Duration,
    node: usize,
    lane: usize,
    tx: Tx,
}

/// Posts transactions on one connection, each when it is due or when the one before it is answered.
/// Returns why some were refused.
async fn post(node: Node, start: Instant, txs: Vec<(Duration, Bytes)>) -> Result<Vec<String>> {
    let (client, url) = (node.client()?, node.url("/v1/txs"));
    let mut refused = Vec::new();
    for (at, bytes) in txs {
        tokio::time::sleep_until((start + at).into()).await;
        let answer = client.post(&url).body(bytes).send().await.with_context(|| format!("posting to {}", node.name))?;
        if answer.status() != StatusCode::ACCEPTED {
            refused.push(answer.text().await?);
        }
    }
    Ok(refused)
}

/// The account of a node, and its next nonce.
async fn owner(node: &Node) -> Result<(AccountKeys, u64)> {
    let read = |name: &str| {
        std::fs::read_to_string(node.home.join(name)).with_context(|| format!("{} of {}", name, node.name))
    };
    let keystore = KeystoreFile::read(&read("keystore.json")?)?;
    let (_, entry) = keystore.first().context("no account")?;
    let keys = entry.open(read("password")?.trim().as_bytes())?;
    let account: AccountView = node.client()?.get(node.url("/v1/accounts/me")).send().await?.json().await?;
    Ok((keys, account.nonce))
}

/// A final block, as far as it matters here.
#[derive(Deserialize)]
struct Line {
    transactions: Vec<Settled>,
}

#[derive(Deserialize)]
struct Settled {
    id: String,
    status: String,
}

/// Notes when transactions become final, as long as the node streams them.
async fn watch(node: Node, since: u64, finals: Arc<Mutex<Finals>>) {
    if let Err(error) = follow(&node, since, &finals).await {
        eprintln!("events of {}: {error:#}", node.name);
    }
}

async fn follow(node: &Node, since: u64, finals: &Mutex<Finals>) -> Result<()> {
    let answer = node.client()?.get(node.url(&format!("/v1/events?since={since}"))).send().await?;
    let mut pieces = answer.error_for_status()?.bytes_stream();
    let mut open = Vec::new();
    while let Some(piece) = pieces.next().await {
        let now = Instant::now();
        open.extend_from_slice(&piece?);
        while let Some(end) = open.iter().position(|byte| *byte == b'\n') {
            let line: Line = serde_json::from_slice(&open[..end])?;
            open.drain(..=end);
            let mut finals = finals.lock().unwrap_or_else(PoisonError::into_inner);
            finals.blocks.push((now, line.transactions.len()));
            finals.rejected += line.transactions.iter().filter(|tx| tx.status != "applied").count();
            finals.when.extend(line.transactions.into_iter().map(|tx| (tx.id, now)));
        }
    }
    Ok(())
}

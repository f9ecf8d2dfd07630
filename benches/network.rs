//! Four validators as processes on this machine: `cargo bench --bench network`.
//!
//! What an idle network costs; finality of signed transfers at 100 a second; the highest rate at which nothing piles up,
//! with what the processes did meanwhile; how soon a killed validator votes again. Prints one JSON line for each figure.
//! Words after `--` choose among `idle`, `finality`, `ramp`, `restart`. The load comes from this process on the same
//! machine; `other_cores` says what else ran beside it.

mod processes;

#[path = "processes/load.rs"]
mod load;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use trullo::api::views::{BlockView, StatusView};

use load::{Load, Outcome};
use processes::testnet::{Node, Testnet, last_line};
use processes::{asked_for, mib, process, round, seconds};

/// What the command line may choose from.
const PARTS: [&str; 4] = ["idle", "finality", "ramp", "restart"];
/// First rate of the ramp, transfers per second.
const RAMP_FROM: u32 = 500;
/// How long each rate is held.
const HOLD: Duration = Duration::from_secs(10);
/// How long the idle network is looked at.
const IDLE: Duration = Duration::from_secs(20);
/// How long a restarted validator may take; the goal is much less.
const RESTART_WITHIN: Duration = Duration::from_secs(60);

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    processes::finish(runtime.context("a runtime").and_then(|runtime| runtime.block_on(run())));
}

async fn run() -> Result<()> {
    let brief = asked_for("--test");
    let shorter = |time: Duration| if brief { time / 10 } else { time };
    let some = PARTS.into_iter().any(asked_for);
    let wanted = |part| asked_for(part) || !(some || brief && part == "ramp");
    let net = tokio::task::spawn_blocking(|| Testnet::up("network", 4, 0, 0)).await??;
    if wanted("idle") {
        tokio::time::sleep(shorter(Duration::from_secs(10))).await;
        idle(&net, "idle", shorter(IDLE)).await?;
    }
    let mut load = Load::start(&net).await?;
    if wanted("finality") {
        finality(&net, &mut load, shorter(Duration::from_secs(20))).await?;
    }
    if wanted("ramp") {
        ramp(&net, &mut load).await?;
        tokio::time::sleep(Duration::from_secs(5)).await;
        idle(&net, "idle_after_load", IDLE).await?;
    }
    if wanted("restart") {
        restart_under_load(&net, &mut load).await?;
        restart_without_quorum(&net).await?;
    }
    Ok(())
}

/// Processor time of every process at one moment.
struct Meter {
    at: Instant,
    machine: Duration,
    own: Duration,
    nodes: Vec<Duration>,
    threads: BTreeMap<String, Duration>,
    commits: u64,
}

/// What the processes used between two moments, in cores.
struct Used {
    nodes: Vec<f64>,
    threads: BTreeMap<String, f64>,
    own: f64,
    other: f64,
    commits_per_s: f64,
}

impl Meter {
    async fn read(net: &Testnet) -> Result<Self> {
        let mut threads = BTreeMap::new();
        for node in &net.nodes {
            for (name, time) in process::cpu_by_thread(node.pid)? {
                *threads.entry(name).or_default() += time;
            }
        }
        let first = net.nodes.first().context("no node")?;
        let page = first.client()?.get(first.url("/metrics")).send().await?.text().await?;
        let commits = page.lines().find_map(|line| line.strip_prefix("trullo_store_commits ")?.parse().ok());
        Ok(Self {
            commits: commits.context("no trullo_store_commits")?,
            nodes: net.nodes.iter().map(|node| process::cpu(node.pid)).collect::<Result<_>>()?,
            own: process::cpu(std::process::id())?,
            machine: process::machine_cpu()?,
            at: Instant::now(),
            threads,
        })
    }

    async fn until_now(&self, net: &Testnet) -> Result<Used> {
        let now = Self::read(net).await?;
        let wall = now.at.duration_since(self.at).as_secs_f64();
        let cores = |after: Duration, before: Duration| after.saturating_sub(before).as_secs_f64() / wall;
        let nodes: Vec<_> = now.nodes.iter().zip(&self.nodes).map(|(after, before)| cores(*after, *before)).collect();
        let own = cores(now.own, self.own);
        let other = cores(now.machine, self.machine) - own - nodes.iter().sum::<f64>();
        let before = |name: &String| self.threads.get(name).copied().unwrap_or_default();
        let threads = now.threads.iter().map(|(name, after)| (name.clone(), round(cores(*after, before(name)), 3)));
        let commits_per_s = (now.commits - self.commits) as f64 / wall;
        Ok(Used { threads: threads.collect(), nodes, own, other: other.max(0.0), commits_per_s })
    }
}

/// What nodes cost that have nothing to do but the empty block of each idle interval.
async fn idle(net: &Testnet, what: &str, lasting: Duration) -> Result<()> {
    let meter = Meter::read(net).await?;
    tokio::time::sleep(lasting).await;
    let used = meter.until_now(net).await?;
    let percent: Vec<_> = used.nodes.iter().map(|cores| round(cores * 100.0, 2)).collect();
    let resident = net.nodes.iter().map(|node| Ok(mib(process::memory(node.pid)?.resident)));
    let resident: Vec<f64> = resident.collect::<Result<_>>()?;
    let worst = |values: &[f64]| values.iter().copied().fold(0.0, f64::max);
    let (percent_max, resident_max) = (worst(&percent), worst(&resident));
    println!(
        "{}",
        json!({
            "bench": "network", "what": what, "validators": net.nodes.len(), "seconds": lasting.as_secs(),
            "cpu_percent_max": percent_max, "cpu_percent": percent, "rss_mib_max": resident_max, "rss_mib": resident,
            "commits_per_s": round(used.commits_per_s, 2), "other_cores": round(used.other, 2),
            "goal_cpu_percent": 2, "goal_rss_mib": 60, "met": percent_max < 2.0 && resident_max < 60.0,
        })
    );
    Ok(())
}

/// Finality at an easy rate.
async fn finality(net: &Testnet, load: &mut Load, lasting: Duration) -> Result<()> {
    let meter = Meter::read(net).await?;
    let outcome = load.run(100, lasting).await?;
    let used = meter.until_now(net).await?;
    ensure!(outcome.refused.is_empty(), "transfers were refused");
    report("finality", 100, &outcome, &used);
    Ok(())
}

/// Doubles the rate by halves until the network no longer keeps up, then looks between the last two.
async fn ramp(net: &Testnet, load: &mut Load) -> Result<()> {
    let mut good: Option<(u32, Outcome, Used)> = None;
    let (mut rate, mut bad) = (RAMP_FROM, None);
    loop {
        let meter = Meter::read(net).await?;
        let outcome = load.run(rate, HOLD).await?;
        let used = meter.until_now(net).await?;
        report("ramp", rate, &outcome, &used);
        // A nonce that is missing would hold up all that follow it.
        ensure!(outcome.refused.is_empty(), "transfers were refused");
        if outcome.kept_up() {
            good = Some((rate, outcome, used));
        } else {
            bad = Some(rate);
        }
        let low = good.as_ref().map_or(0, |(rate, ..)| *rate);
        rate = match bad {
            None => rate + rate / 2,
            // A twentieth is finer than the runs differ.
            Some(high) if high - low <= high / 20 + 1 => break,
            Some(high) => (low + high) / 2,
        };
    }
    let (rate, outcome, used) = good.context("no rate is sustained")?;
    report("sustained", rate, &outcome, &used);
    Ok(())
}

fn report(what: &str, rate: u32, outcome: &Outcome, used: &Used) {
    let ms = |share: f64| round(outcome.percentile(share).as_secs_f64() * 1e3, 1);
    let cores: Vec<_> = used.nodes.iter().map(|cores| round(*cores, 3)).collect();
    println!(
        "{}",
        json!({
            "bench": "network", "what": what, "validators": cores.len(), "offered_tx_per_s": rate,
            "final_tx_per_s": round(outcome.rate, 1), "kept_up": outcome.kept_up(),
            "p50_ms": ms(0.5), "p99_ms": ms(0.99), "max_ms": ms(1.0),
            "tx_per_block": round(outcome.latencies.len() as f64 / outcome.blocks.max(1) as f64, 1),
            "refused": outcome.refused.len(), "first_refusal": outcome.refused.first(),
            "commits_per_s": round(used.commits_per_s, 1), "cores_per_validator": cores,
            "cores_by_thread": used.threads, "load_cores": round(used.own, 3), "other_cores": round(used.other, 2),
        })
    );
}

/// Kills a validator and starts it again while transfers go on; it is back when a certificate has its signature.
async fn restart_under_load(net: &Testnet, load: &mut Load) -> Result<()> {
    let (witness, victim) = (net.nodes[0].clone(), net.nodes[3].clone());
    load.leave_out(&victim);
    let during = load.run(50, Duration::from_secs(10));
    let back = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let started = restart(net, &victim).await?;
        let from = status(&witness).await?.height;
        let mut height = from + 1;
        while started.elapsed() < RESTART_WITHIN {
            let answer = witness.client()?.get(witness.url(&format!("/v1/blocks/{height}"))).send().await?;
            if !answer.status().is_success() {
                tokio::time::sleep(Duration::from_millis(5)).await;
                continue;
            }
            let block: BlockView = answer.json().await?;
            if block.certificate.is_some_and(|certificate| certificate.signers.contains(&victim.node)) {
                return Ok((started.elapsed(), height - from));
            }
            height += 1;
        }
        anyhow::bail!("no certificate has the restarted validator's signature")
    };
    let (outcome, back) = tokio::join!(during, back);
    let (outcome, (took, blocks)) = (outcome?, back?);
    println!(
        "{}",
        json!({
            "bench": "network", "what": "restart_under_load", "until_its_vote_is_in_a_certificate_s": seconds(took),
            "blocks_meanwhile": blocks, "offered_tx_per_s": 50, "p50_ms": round(outcome.percentile(0.5).as_secs_f64() * 1e3, 1),
            "p99_ms": round(outcome.percentile(0.99).as_secs_f64() * 1e3, 1), "goal_s": 5, "met": took.as_secs_f64() < 5.0,
        })
    );
    Ok(())
}

/// With another validator paused nothing is final without the restarted one: the next block needs its vote.
async fn restart_without_quorum(net: &Testnet) -> Result<()> {
    let (witness, victim, paused) = (net.nodes[0].clone(), net.nodes[1].clone(), net.nodes[2].clone());
    signal(net, &paused, "stop").await?;
    let started = restart(net, &victim).await?;
    // What was under way when it was killed has become final by now, or cannot.
    let before = status(&witness).await?.height;
    let took = loop {
        if status(&witness).await?.height > before {
            break started.elapsed();
        }
        ensure!(started.elapsed() < RESTART_WITHIN, "the network does not go on");
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    signal(net, &paused, "cont").await?;
    println!(
        "{}",
        json!({
            "bench": "network", "what": "restart_without_quorum", "until_the_next_final_block_s": seconds(took),
            "idle_interval_s": 2, "goal_s": 5, "met": took.as_secs_f64() < 5.0,
        })
    );
    Ok(())
}

/// SIGKILL and a new start; the time is that of the start.
async fn restart(net: &Testnet, node: &Node) -> Result<Instant> {
    signal(net, node, "kill").await?;
    let mut start = net.testnet("start");
    start.arg(&node.name);
    let started = Instant::now();
    tokio::task::spawn_blocking(move || last_line(&mut start)).await??;
    Ok(started)
}

async fn signal(net: &Testnet, node: &Node, signal: &str) -> Result<()> {
    let mut kill = net.testnet("kill");
    kill.args([&node.name, "--signal", signal]);
    tokio::task::spawn_blocking(move || last_line(&mut kill)).await??;
    Ok(())
}

async fn status(node: &Node) -> Result<StatusView> {
    Ok(node.client()?.get(node.url("/status")).send().await?.json().await?)
}

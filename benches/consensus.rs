//! Consensus beside `hotstuff_rs` on the same work: `cargo bench --bench consensus`.
//!
//! Four replicas in one process, each with its own database on disk, every commit durable; 512-byte opaque transactions; every
//! message is encoded and decoded. One process for each case, one after the other, so that no case pays for the threads of
//! another. Prints one JSON line for each figure, and what was aimed at.
//! Options after `--`: `--seconds N` of each window, `--engine NAME`, `--per-block N`, `--dead N`.

mod support;

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use support::hotstuff::HotStuff;
use support::trullo::Trullo;
use support::work::{Cluster, REPLICAS, TX_BYTES, Workload};

const SIZES: [usize; 3] = [100, 1_000, 5_000];
/// Size of the cases with one replica dead.
const DEAD_SIZE: usize = 1_000;
const ENGINES: [&str; 2] = ["trullo", "hotstuff_rs"];
const WARM_UP: Duration = Duration::from_secs(1);
/// From the death of a replica to the window: the epoch in which it dies is slow, and then it is skipped.
const MOURNING: Duration = Duration::from_secs(10);
const WINDOW_SECONDS: f64 = 8.0;
/// Views of an epoch of the peer: few when one is dead, so that its deadlines, which add up within an epoch, explain nothing.
const PEER_EPOCH: [u32; 2] = [50, 4];

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let option = |name: &str| args.iter().position(|arg| arg == name).and_then(|at| args.get(at + 1)).cloned();
    // Cargo passes `--test` when it only wants to see that this runs.
    let short = args.iter().any(|arg| arg == "--test");
    let seconds = option("--seconds").map_or(WINDOW_SECONDS, |text| text.parse().expect("a number of seconds"));
    let window = Duration::from_secs_f64(if short { 0.5 } else { seconds });
    let number = |name: &str| option(name).map(|text| text.parse::<usize>().expect("a number"));
    if args.iter().any(|arg| arg == "--case") {
        let engine = option("--engine").expect("an engine");
        let (per_block, dead) = (number("--per-block").expect("a size"), number("--dead").expect("a number"));
        println!("{}", run(&engine, per_block, dead, window));
        return;
    }
    let cases = SIZES.map(|size| (size, 0)).into_iter().chain([(DEAD_SIZE, 1)]);
    let cases = cases.flat_map(|(size, dead)| ENGINES.map(|engine| (engine, size, dead)));
    let wanted = |(engine, size, dead): &(&str, usize, usize)| {
        option("--engine").is_none_or(|name| name == *engine)
            && number("--per-block").is_none_or(|n| n == *size)
            && number("--dead").is_none_or(|n| n == *dead)
    };
    let figures: Vec<_> = cases.filter(wanted).map(|case| in_own_process(case, window)).collect();
    compare(&figures);
}

fn in_own_process((engine, per_block, dead): (&str, usize, usize), window: Duration) -> Value {
    let me = std::env::current_exe().expect("the path of this program");
    let output = Command::new(me)
        .args(["--case", "--engine", engine])
        .args(["--per-block", &per_block.to_string(), "--dead", &dead.to_string()])
        .args(["--seconds", &window.as_secs_f64().to_string()])
        .stderr(Stdio::inherit())
        .output()
        .expect("this program again");
    let text = String::from_utf8(output.stdout).expect("a line of JSON");
    assert!(output.status.success(), "the case {engine}, {per_block} a block, {dead} dead, failed");
    print!("{text}");
    serde_json::from_str(&text).expect("a line of JSON")
}

fn run(engine: &str, per_block: usize, dead: usize, window: Duration) -> Value {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory for databases");
    let workload = Arc::new(Workload::new(per_block));
    let mut figures = match engine {
        "trullo" => {
            let mut cluster = Trullo::start(dir.path(), &workload);
            let figures = measure(&mut cluster, &workload, dead, window);
            let dropped = cluster.stop();
            if dropped > 0 {
                eprintln!("{dropped} messages found a full inbox");
            }
            figures
        }
        "hotstuff_rs" => {
            let mut cluster = HotStuff::start(dir.path(), &workload, PEER_EPOCH[dead]);
            let figures = measure(&mut cluster, &workload, dead, window);
            cluster.abandon();
            figures
        }
        other => panic!("no engine is called {other}"),
    };
    let about = json!({
        "bench": "consensus", "engine": engine, "validators": REPLICAS, "dead": dead,
        "payload_bytes": TX_BYTES, "durable": true,
    });
    let Value::Object(figures) = &mut figures else { unreachable!("figures are an object") };
    for (name, value) in about.as_object().into_iter().flatten() {
        figures.insert(name.clone(), value.clone());
    }
    json!(figures)
}

/// Lets the cluster run and looks at one span of time.
fn measure(cluster: &mut impl Cluster, workload: &Workload, dead: usize, window: Duration) -> Value {
    std::thread::sleep(WARM_UP);
    if dead > 0 {
        cluster.kill();
        std::thread::sleep(MOURNING);
    }
    let (from, cpu, commits, views) = (Instant::now(), cpu_time(), cluster.commits(), cluster.views());
    std::thread::sleep(window);
    let (to, cpu) = (Instant::now(), cpu_time().saturating_sub(cpu));
    let (commits, views) = (cluster.commits() - commits, cluster.views() - views);
    let finals = workload.finals(from, to);
    let blocks = finals.len();
    let mut latencies: Vec<_> = finals.iter().map(|one| one.latency).collect();
    latencies.sort_unstable();
    let seconds = (to - from).as_secs_f64();
    let milliseconds = |time: Option<&Duration>| time.map(|time| round(time.as_secs_f64() * 1e3));
    let per = |total: f64, count: usize| (count > 0).then(|| round(total / count as f64));
    json!({
        "per_block": workload.per_block(),
        "tx_per_s": round((blocks * workload.per_block()) as f64 / seconds),
        "blocks_per_s": round(blocks as f64 / seconds),
        "views_per_s": round(views as f64 / seconds),
        "p50_ms": milliseconds(latencies.get(blocks / 2)),
        "p99_ms": milliseconds(latencies.get(blocks * 99 / 100)),
        "fsyncs_per_view": per(commits as f64, views as usize * (REPLICAS - dead)),
        "cpu_ms_per_block": per(cpu.as_secs_f64() * 1e3, blocks),
    })
}

/// To three decimals: more would pretend.
fn round(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

/// Processor time of this process, all threads.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    // The name of the program, in parentheses, may hold spaces; user and system time are the 12th and 13th field after it.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).map(|field| field.parse::<u64>().expect("a number")).sum();
    Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// One line for each goal whose figures are there.
fn compare(figures: &[Value]) {
    let find = |engine: &str, size: usize, dead: usize| {
        figures.iter().find(|f| f["engine"] == engine && f["per_block"] == size && f["dead"] == dead)
    };
    let ratio = |a: &Value, b: &Value, name: &str| Some(round(a[name].as_f64()? / b[name].as_f64()?));
    let goal = |what: &str, size: usize, have: Option<f64>, met: bool, aim: &str| {
        println!(
            "{}",
            json!({"bench": "consensus", "goal": what, "per_block": size, "have": have, "aim": aim, "met": met})
        );
    };
    for size in SIZES {
        let (Some(own), peer) = (find("trullo", size, 0), find("hotstuff_rs", size, 0)) else { continue };
        if let Some(peer) = peer {
            let rate = ratio(own, peer, "tx_per_s");
            goal("tx_per_s beside hotstuff_rs", size, rate, rate.is_some_and(|rate| rate >= 2.0), ">= 2");
            let delay = ratio(own, peer, "p50_ms");
            goal("p50_ms beside hotstuff_rs", size, delay, delay.is_some_and(|delay| delay <= 0.5), "<= 0.5");
        }
        let syncs = own["fsyncs_per_view"].as_f64();
        goal("fsyncs per view and replica", size, syncs, syncs.is_some_and(|syncs| syncs <= 2.0), "<= 2");
    }
    if let (Some(healthy), Some(one_dead)) = (find("trullo", DEAD_SIZE, 0), find("trullo", DEAD_SIZE, 1)) {
        let rate = ratio(one_dead, healthy, "tx_per_s");
        goal("tx_per_s with one dead beside none", DEAD_SIZE, rate, rate.is_some_and(|rate| rate >= 0.5), ">= 0.5");
    }
    if let Some(peer) = find("hotstuff_rs", DEAD_SIZE, 1) {
        let rate = peer["tx_per_s"].as_f64();
        goal("tx_per_s of hotstuff_rs with one dead", DEAD_SIZE, rate, rate == Some(0.0), "shown: 0");
    }
}

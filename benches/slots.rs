//! Files through six storage nodes on this machine: `cargo bench --bench slots`, with `-- --big` for 1 GiB once.
//!
//! put and get by the command line, every node a process of its own, each slot synced to disk before its receipt; beside
//! them, in turn in each round, `cp` and a sync of as many bytes as the slots have (put) and as the file has (get), on the
//! same file system. All nodes share one disk and two processors here, so the ratio is what carries over to other machines.
//! Peak memory is counted above what each process held before the round. Prints one JSON line for each figure.

mod processes;

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use processes::process::{self, Memory};
use processes::testnet::{Node, Testnet, trullo};
use processes::{asked_for, mib, round, seconds};

/// Data and parity shards.
const SHARDS: (u64, u64) = (4, 2);
/// Pause between two looks at a process's memory.
const LOOK: Duration = Duration::from_millis(10);

fn main() {
    processes::finish(run());
}

fn run() -> Result<()> {
    let (bytes, rounds) = match (asked_for("--test"), asked_for("--big")) {
        (true, _) => (4 << 20, 1),
        (false, true) => (1 << 30, 1),
        (false, false) => (256 << 20, 5),
    };
    let net = Testnet::up("slots", 4, 6, 1)?;
    let bench = Bench::new(net, bytes)?;
    let idle = bench.client(&["ledger", "status"])?;
    let rounds = (0..rounds).map(|_| bench.round()).collect::<Result<Vec<_>>>()?;
    bench.report("put", &rounds.iter().map(|round| &round.put).collect::<Vec<_>>(), idle.peak);
    bench.report("get", &rounds.iter().map(|round| &round.get).collect::<Vec<_>>(), idle.peak);
    Ok(())
}

struct Bench {
    net: Testnet,
    dir: tempfile::TempDir,
    bytes: u64,
}

/// One way of a file, and a copy beside it.
struct Leg {
    took: Duration,
    copy: Duration,
    client: Client,
    nodes: Vec<NodeUse>,
    /// Processor time of everything else on the machine.
    other: Duration,
}

struct Round {
    put: Leg,
    get: Leg,
}

/// What a node's process used.
struct NodeUse {
    cpu: Duration,
    above_base: u64,
}

/// What the command line used, and its last line.
#[derive(Default)]
struct Client {
    cpu: Duration,
    peak: u64,
    answer: Value,
}

impl Bench {
    fn new(net: Testnet, bytes: u64) -> Result<Self> {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).context("a directory")?;
        let bench = Self { net, dir, bytes };
        // Bytes that do not shrink, and more of them for the copy of all slots.
        let mut random = blake3::Hasher::new().update(b"slots").finalize_xof();
        for (name, len) in [("plain", bytes), ("slots", bytes / SHARDS.0 * (SHARDS.0 + SHARDS.1))] {
            let mut file = File::create(bench.path(name))?;
            let mut piece = vec![0; 1 << 20];
            for _ in 0..len >> 20 {
                random.fill(&mut piece);
                file.write_all(&piece)?;
            }
            file.sync_all()?;
        }
        Ok(bench)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn round(&self) -> Result<Round> {
        let copy = self.copy("slots")?;
        let plain = self.path("plain");
        let put = self.leg(copy, &["put".as_ref(), &plain])?;
        let id = put.client.answer["file_id"].as_str().context("no file_id")?.to_owned();
        ensure!(put.client.answer["status"] == "final", "the file is not final: {}", put.client.answer);
        let copy = self.copy("plain")?;
        let back = self.path("back");
        let get = self.leg(copy, &["get".as_ref(), id.as_ref(), "-o".as_ref(), &back])?;
        let same = Command::new("cmp").args([&plain, &back]).status().context("starting cmp")?;
        ensure!(same.success(), "other bytes came back than went in");
        std::fs::remove_file(&back)?;
        self.client(&["rm", &id])?;
        Ok(Round { put, get })
    }

    /// `cp` and a sync of the new file.
    fn copy(&self, name: &str) -> Result<Duration> {
        let copy = self.path("copy");
        let started = Instant::now();
        let copied = Command::new("cp").arg("--reflink=never").args([&self.path(name), &copy]).status()?;
        ensure!(copied.success(), "cp failed");
        File::open(&copy)?.sync_all()?;
        let took = started.elapsed();
        std::fs::remove_file(&copy)?;
        Ok(took)
    }

    fn leg(&self, copy: Duration, args: &[&Path]) -> Result<Leg> {
        let before = self.net.nodes.iter().map(look).collect::<Result<Vec<_>>>()?;
        let (machine, own) = (process::machine_cpu()?, process::cpu(std::process::id())?);
        let started = Instant::now();
        let client = self.client(args)?;
        let took = started.elapsed();
        let mut nodes = Vec::new();
        for (node, (cpu, memory)) in self.net.nodes.iter().zip(before) {
            let (after, peak) = (process::cpu(node.pid)?, process::memory(node.pid)?.peak);
            nodes.push(NodeUse { cpu: after - cpu, above_base: peak.saturating_sub(memory.resident) });
        }
        let used = nodes.iter().map(|node| node.cpu).sum::<Duration>() + client.cpu;
        let other = process::machine_cpu()? - machine;
        let other = other.saturating_sub(used).saturating_sub(process::cpu(std::process::id())? - own);
        Ok(Leg { took, copy, client, nodes, other })
    }

    /// Runs the command line for the user's home and looks at its process while it lasts.
    fn client(&self, args: &[impl AsRef<std::ffi::OsStr>]) -> Result<Client> {
        let user = self.net.role("user").next().context("no user")?;
        let mut command = trullo();
        let answer = self.path("answer");
        command.arg("--home").arg(&user.home).args(args).arg("--json").stdout(File::create(&answer)?);
        let mut child = command.stdin(Stdio::null()).spawn().context("starting trullo")?;
        let mut client = Client::default();
        let status = loop {
            if let (Ok(cpu), Ok(memory)) = (process::cpu(child.id()), process::memory(child.id())) {
                (client.cpu, client.peak) = (cpu, memory.peak);
            }
            if let Some(status) = child.try_wait()? {
                break status;
            }
            std::thread::sleep(LOOK);
        };
        let text = std::fs::read_to_string(answer)?;
        ensure!(status.success(), "{command:?} ended with {status}: {text}");
        let line = text.lines().last().context("trullo printed nothing")?;
        client.answer = serde_json::from_str(line).with_context(|| format!("{line:?} is no JSON"))?;
        Ok(client)
    }

    fn report(&self, what: &str, legs: &[&Leg], client_base: u64) {
        let rate = |time: Duration| round(self.bytes as f64 / 1e6 / time.as_secs_f64(), 1);
        let by = |key: fn(&Leg) -> Duration| {
            let mut times: Vec<_> = legs.iter().map(|leg| key(leg)).collect();
            times.sort();
            times
        };
        let (took, copy) = (by(|leg| leg.took), by(|leg| leg.copy));
        let best = legs.iter().min_by_key(|leg| leg.took).expect("at least one round");
        let cpu = |role: &str| {
            let of_role = self.net.nodes.iter().zip(&best.nodes).filter(|(node, _)| node.name.starts_with(role));
            seconds(of_role.map(|(_, used)| used.cpu).sum())
        };
        let above = |role: &str| {
            let all = legs.iter().flat_map(|leg| self.net.nodes.iter().zip(&leg.nodes));
            mib(all.filter(|(node, _)| node.name.starts_with(role)).map(|(_, used)| used.above_base).max().unwrap_or(0))
        };
        let client = mib(legs.iter().map(|leg| leg.client.peak).max().unwrap_or(0).saturating_sub(client_base));
        let peaks = [above("user"), above("storage"), client];
        let ratios: Vec<_> = legs.iter().map(|leg| round(leg.copy.as_secs_f64() / leg.took.as_secs_f64(), 3)).collect();
        println!(
            "{}",
            json!({
                "bench": "slots", "what": what, "bytes": self.bytes, "data": SHARDS.0, "parity": SHARDS.1, "rounds": legs.len(),
                "mb_per_s_best": rate(took[0]), "mb_per_s_median": rate(took[took.len() / 2]),
                "mb_per_s_worst": rate(took[took.len() - 1]),
                "copied_bytes": if what == "put" { self.bytes / SHARDS.0 * (SHARDS.0 + SHARDS.1) } else { self.bytes },
                "cp_file_mb_per_s_best": rate(copy[0]), "cp_file_mb_per_s_median": rate(copy[copy.len() / 2]),
                "share_of_cp_by_round": ratios, "seconds_best": seconds(took[0]),
                "cpu_s_client": seconds(best.client.cpu), "cpu_s_user": cpu("user"), "cpu_s_storage": cpu("storage"),
                "cpu_s_validators": cpu("validator"), "cpu_s_other": seconds(best.other),
                "peak_mib_above_base_user": peaks[0], "peak_mib_above_base_storage": peaks[1],
                "peak_mib_above_base_client": peaks[2], "goal_mib": 64, "met": peaks.iter().all(|peak| *peak < 64.0),
            })
        );
    }
}

/// A node's processor time and memory, with its peak set back to what it holds now.
fn look(node: &Node) -> Result<(Duration, Memory)> {
    std::fs::write(format!("/proc/{}/clear_refs", node.pid), "5").context("resetting the peak of memory")?;
    Ok((process::cpu(node.pid)?, process::memory(node.pid)?))
}

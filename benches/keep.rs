//! trullo beside Tahoe-LAFS 1.20, which keeps files the same way and syncs nothing: `cargo bench --bench keep`.
//!
//! Three networks on this machine, all up during the whole run, take turns in each round: trullo, trullo with every sync
//! made free (for this comparison only), and Tahoe-LAFS; each with five storage nodes, 3-of-5, asked by the same HTTP client
//! for the same bytes. Then a fourth one, of seven storage nodes, in which two holders are killed in each round.
//! Words choose parts: `-- --files`, `--dead`, `--repair`, `--small`, `--big`; `--files`, `--dead` and `--repair` without any.
//! Prints one JSON line for each figure.

mod peers;
mod processes;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use serde_json::{Value, json};

use peers::tahoe::Tahoe;
use peers::trullo::{Trullo, nosync};
use peers::{Keeper, SHARDS, random, time_get, time_put};
use processes::process;
use processes::{asked_for, mib, round, seconds};

/// A large file and a small one, bytes.
const LARGE: usize = 100_000_000;
const SMALL: usize = 10_000;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    processes::finish(runtime.block_on(run()));
}

async fn run() -> Result<()> {
    if asked_for("--test") {
        return brief().await;
    }
    let parts = ["--files", "--dead", "--repair", "--small", "--big"];
    let any = parts.iter().any(|part| asked_for(part));
    let wanted = |part: &str| asked_for(part) || !any && part != "--small" && part != "--big";
    let rounds = number("--rounds").unwrap_or(5);
    let mut peer_repair = None;
    if wanted("--files") {
        peer_repair = Some(files(rounds).await?);
    }
    if wanted("--dead") {
        dead(rounds).await?;
    }
    if wanted("--repair") {
        repair(rounds, peer_repair).await?;
    }
    if wanted("--small") {
        small(number("--count").unwrap_or(1_000)).await?;
    }
    if wanted("--big") {
        big(number("--gib").unwrap_or(10)).await?;
    }
    Ok(())
}

/// The number after a word.
fn number(word: &str) -> Option<usize> {
    std::env::args().skip_while(|arg| arg != word).nth(1)?.parse().ok()
}

/// Shows that it runs: without the peer, which may have to be installed.
async fn brief() -> Result<()> {
    let net = Trullo::up("keep", 5, 2_000, None)?;
    let bytes = random("brief", 1 << 20);
    let (_, id) = time_put(&net, "brief", bytes.clone()).await?;
    time_get(&net, &id, &bytes).await?;
    Ok(())
}

/// Times of the same thing, ascending.
fn sorted(times: &[Duration]) -> Vec<Duration> {
    let mut times = times.to_vec();
    times.sort();
    times
}

fn median(times: &[Duration]) -> Duration {
    sorted(times)[times.len() / 2]
}

fn best(times: &[Duration]) -> Duration {
    sorted(times)[0]
}

fn ratio(a: Duration, b: Duration) -> f64 {
    round(a.as_secs_f64() / b.as_secs_f64(), 2)
}

fn rate(bytes: usize, time: Duration) -> f64 {
    round(bytes as f64 / 1e6 / time.as_secs_f64(), 1)
}

fn ms(time: Duration) -> f64 {
    round(time.as_secs_f64() * 1e3, 1)
}

/// What one network did with files.
#[derive(Default)]
struct Times {
    put: Vec<Duration>,
    get: Vec<Duration>,
    small: Vec<Duration>,
}

impl Times {
    async fn round(&mut self, keeper: &impl Keeper, at: usize) -> Result<String> {
        let name = format!("large-{at}");
        let bytes = random(&name, LARGE);
        let (took, id) = time_put(keeper, &name, bytes.clone()).await?;
        self.put.push(took);
        self.get.push(time_get(keeper, &id, &bytes).await?);
        Ok(id)
    }

    async fn small(&mut self, keeper: &impl Keeper, at: usize) -> Result<()> {
        let name = format!("small-{at}");
        let bytes = random(&name, SMALL);
        let started = Instant::now();
        keeper.put(&name, bytes).await?;
        self.small.push(started.elapsed());
        Ok(())
    }
}

/// put and get of a large file and put of a small one; stored bytes; peak memory. Returns the times of the peer's repair.
async fn files(rounds: usize) -> Result<Vec<Duration>> {
    let ours = Trullo::up("keep", 5, 2_000, None)?;
    let free = Trullo::up("keep-nosync", 5, 2_000, Some(&nosync()?))?;
    let tahoe = Tahoe::up()?;
    let (mut a, mut b, mut c) = (Times::default(), Times::default(), Times::default());
    let mut repairs = Vec::new();
    let mut stored = Vec::new();
    for at in 0..rounds {
        let before = (ours.stored()?, tahoe.stored()?);
        let ids = (a.round(&ours, at).await?, b.round(&free, at).await?, c.round(&tahoe, at).await?);
        let share = |after: u64, before: u64| (after - before) as f64 / LARGE as f64;
        stored.push((share(ours.stored()?, before.0), share(tahoe.stored()?, before.1)));
        repairs.push(tahoe.repair(&ids.2).await?);
        for turn in at * 10..(at + 1) * 10 {
            a.small(&ours, turn).await?;
            b.small(&free, turn).await?;
            c.small(&tahoe, turn).await?;
        }
        ours.remove(&ids.0).await?;
        free.remove(&ids.1).await?;
        tahoe.remove(&ids.2).await?;
    }
    let figure = |what: &str, syncs: bool, own: &[Duration], peer: &[Duration], goal: f64| {
        let by_round: Vec<_> = own.iter().zip(peer).map(|(own, peer)| ratio(*peer, *own)).collect();
        print(json!({
            "what": what, "bytes": LARGE, "rounds": rounds, "fsync": syncs,
            "mb_per_s_best": rate(LARGE, best(own)), "mb_per_s_median": rate(LARGE, median(own)),
            "tahoe_mb_per_s_best": rate(LARGE, best(peer)), "tahoe_mb_per_s_median": rate(LARGE, median(peer)),
            "ratio_best": ratio(best(peer), best(own)), "ratio_median": ratio(median(peer), median(own)),
            "ratio_by_round": by_round, "goal": goal, "met": ratio(median(peer), median(own)) >= goal,
        }));
    };
    figure("put", true, &a.put, &c.put, 3.0);
    figure("get", true, &a.get, &c.get, 3.0);
    figure("put", false, &b.put, &c.put, 5.0);
    figure("get", false, &b.get, &c.get, 5.0);
    print(json!({
        "what": "put of 10 kB", "bytes": SMALL, "files": a.small.len(),
        "ms_median": ms(median(&a.small)), "ms_best": ms(best(&a.small)),
        "nosync_ms_median": ms(median(&b.small)), "nosync_ms_best": ms(best(&b.small)),
        "tahoe_ms_median": ms(median(&c.small)), "tahoe_ms_best": ms(best(&c.small)),
        "share_of_tahoe": ratio(median(&a.small), median(&c.small)), "goal": 1.0,
        "met": median(&a.small) <= median(&c.small),
    }));
    let ideal = (SHARDS.0 + SHARDS.1) as f64 / SHARDS.0 as f64;
    let worst = stored.iter().map(|(own, _)| *own).fold(0.0, f64::max);
    print(json!({
        "what": "stored bytes per byte", "trullo": round(worst, 4), "tahoe": round(stored[0].1, 4), "ideal": round(ideal, 4),
        "over_percent": round((worst / ideal - 1.0) * 100.0, 3), "goal_percent": 0.5, "met": worst / ideal <= 1.005,
    }));
    let peak = |keeper: &dyn Fn() -> (u32, Vec<u32>)| -> Result<(u64, u64)> {
        let (user, storage) = keeper();
        let peaks = storage.into_iter().map(|pid| Ok(process::memory(pid)?.peak)).collect::<Result<Vec<_>>>()?;
        Ok((process::memory(user)?.peak, peaks.into_iter().max().unwrap_or(0)))
    };
    let (own, peer) = (peak(&|| ours.processes())?, peak(&|| tahoe.processes())?);
    print(json!({
        "what": "peak memory", "user_mib": mib(own.0), "storage_mib": mib(own.1),
        "tahoe_client_mib": mib(peer.0), "tahoe_storage_mib": mib(peer.1),
        "share_user": round(own.0 as f64 / peer.0 as f64, 2), "share_storage": round(own.1 as f64 / peer.1 as f64, 2),
        "goal": 0.5, "met": 2 * own.0 <= peer.0 && 2 * own.1 <= peer.1,
    }));
    // At the end, because the grid takes long to find them again.
    let bytes = random("dead", LARGE);
    let (_, id) = time_put(&tahoe, "dead", bytes.clone()).await?;
    let healthy = time_get(&tahoe, &id, &bytes).await?;
    tahoe.kill_two()?;
    let with_dead = time_get(&tahoe, &id, &bytes).await?;
    print(
        json!({ "what": "tahoe: get with 2 of 5 dead", "healthy_s": seconds(healthy), "dead_s": seconds(with_dead) }),
    );
    Ok(repairs)
}

/// get of a large file with all nodes, and right after two holders were killed, in turn.
async fn dead(rounds: usize) -> Result<()> {
    let net = Trullo::up("keep-dead", 5, 2_000, None)?;
    let bytes = random("dead", LARGE);
    let (_, id) = time_put(&net, "dead", bytes.clone()).await?;
    let holders: Vec<_> = net.file(&id).await?.slots.into_iter().filter_map(|slot| slot.node_name).collect();
    time_get(&net, &id, &bytes).await?;
    let (mut healthy, mut with_dead) = (Vec::new(), Vec::new());
    for at in 0..rounds {
        healthy.push(time_get(&net, &id, &bytes).await?);
        let names = [&holders[at % 5], &holders[(at + 1) % 5]];
        for name in names {
            net.order("kill", name)?;
        }
        with_dead.push(time_get(&net, &id, &bytes).await?);
        for name in names {
            net.order("start", name)?;
        }
        for name in names {
            net.wait_connected(name, true).await?;
        }
        time_get(&net, &id, &bytes).await?;
    }
    print(json!({
        "what": "get with 2 of 5 dead", "bytes": LARGE, "rounds": rounds,
        "healthy_s_median": seconds(median(&healthy)), "dead_s_median": seconds(median(&with_dead)),
        "healthy_s_best": seconds(best(&healthy)), "dead_s_best": seconds(best(&with_dead)),
        "ratio_median": ratio(median(&with_dead), median(&healthy)), "ratio_best": ratio(best(&with_dead), best(&healthy)),
        "by_round": healthy.iter().zip(&with_dead).map(|(h, d)| ratio(*d, *h)).collect::<Vec<_>>(),
        "goal": 1.15, "met": ratio(median(&with_dead), median(&healthy)) <= 1.15,
    }));
    Ok(())
}

/// Two holders of a large file are killed: how long from the block that gives their slots up to the one that says that
/// others hold both.
async fn repair(rounds: usize, peer: Option<Vec<Duration>>) -> Result<()> {
    let (mut times, mut given_up) = (Vec::new(), Vec::new());
    for at in 0..rounds {
        // A new network for each round: nodes that were given up come back with a pause.
        // Blocks come often enough for the ledger to notice soon, and seldom enough to leave the processors to the repair.
        let net = Trullo::up("keep-repair", 7, 200, None)?;
        let bytes = random(&format!("repair-{at}"), LARGE);
        let (_, id) = time_put(&net, "repair", bytes.clone()).await?;
        let mut killed = Vec::new();
        let (took, lost) = net.repair(&id, &mut killed).await?;
        ensure!(killed.len() == 2, "two nodes are killed");
        time_get(&net, &id, &bytes).await?;
        times.push(took);
        given_up.push(lost);
    }
    let peer = peer.unwrap_or_default();
    let peer_median = if peer.is_empty() { None } else { Some(median(&peer)) };
    print(json!({
        "what": "repair of 2 lost slots", "bytes": LARGE, "rounds": rounds,
        "s_median": seconds(median(&times)), "s_best": seconds(best(&times)),
        "by_round": times.iter().map(|time| seconds(*time)).collect::<Vec<_>>(),
        "until_given_up_s": given_up.iter().map(|time| seconds(*time)).collect::<Vec<_>>(),
        "tahoe_s_median": peer_median.map(seconds), "tahoe_s_best": peer_median.map(|_| seconds(best(&peer))),
        "share_of_tahoe": peer_median.map(|peer| ratio(median(&times), peer)), "goal": 0.2,
        "met": peer_median.map(|peer| median(&times) <= peer / 5),
    }));
    Ok(())
}

/// Many small files, one after another and sixteen at once.
async fn small(count: usize) -> Result<()> {
    for (fsync, preload) in [(true, None), (false, Some(nosync()?))] {
        let net = Trullo::up("keep-small", 5, 2_000, preload.as_deref())?;
        for at_once in [1, 16] {
            let before = cpu(&net)?;
            let put = Instant::now();
            let one = |at: usize| {
                let net = &net;
                async move {
                    let name = format!("{at_once}-{at}");
                    Ok::<_, anyhow::Error>((net.put(&name, random(&name, SMALL)).await?, name))
                }
            };
            let ids: Vec<_> =
                futures::stream::iter((0..count).map(one)).buffer_unordered(at_once).try_collect().await?;
            let put = put.elapsed();
            let after_put = cpu(&net)?;
            let get = Instant::now();
            let one = |(id, name): &(String, String)| {
                let (net, id, bytes) = (&net, id.clone(), random(name, SMALL));
                async move { time_get(net, &id, &bytes).await }
            };
            let gets =
                futures::stream::iter(ids.iter().map(one)).buffer_unordered(at_once).try_collect::<Vec<_>>().await?;
            let get = get.elapsed();
            let after_get = cpu(&net)?;
            let cores = |time: Duration, from: &[Duration; 3], to: &[Duration; 3]| {
                let share = |at: usize| round((to[at] - from[at]).as_secs_f64() / time.as_secs_f64(), 2);
                json!({ "validators": share(0), "storage": share(1), "user": share(2) })
            };
            print(json!({
                "what": "small files", "bytes": SMALL, "files": count, "at_once": at_once, "fsync": fsync,
                "put_per_s": round(count as f64 / put.as_secs_f64(), 1), "get_per_s": round(gets.len() as f64 / get.as_secs_f64(), 1),
                "put_cores": cores(put, &before, &after_put), "get_cores": cores(get, &after_put, &after_get),
            }));
        }
    }
    Ok(())
}

/// Processor time by role.
fn cpu(net: &Trullo) -> Result<[Duration; 3]> {
    let of = |role| net.net.role(role).map(|node| process::cpu(node.pid)).sum::<Result<Duration>>();
    Ok([of("validator")?, of("storage")?, of("user")?])
}

/// One very large file in, and out again, beside one of 1 GiB: rates, and memory as it goes.
async fn big(gib: usize) -> Result<()> {
    let net = Trullo::up("keep-big", 5, 2_000, None)?;
    for gib in [1, gib] {
        let len = gib << 30;
        let watch = tokio::spawn(watch_memory(net.processes()));
        let started = Instant::now();
        let id = net.put_stream("big", len as u64, stream("big", len)).await?;
        let put = started.elapsed();
        let started = Instant::now();
        let mut pieces = net.get(&id).await?.error_for_status()?.bytes_stream();
        let (mut came, mut expected) = (blake3::Hasher::new(), 0);
        while let Some(piece) = pieces.next().await {
            let piece: Bytes = piece?;
            came.update(&piece);
            expected += piece.len();
        }
        let get = started.elapsed();
        let mut sent = blake3::Hasher::new();
        stream("big", len)
            .try_for_each(|piece| {
                sent.update(&piece);
                futures::future::ready(Ok(()))
            })
            .await
            .context("the source")?;
        ensure!(expected == len && came.finalize() == sent.finalize(), "other bytes came back");
        watch.abort();
        let (user, storage) = net.processes();
        let peak = storage.into_iter().map(|pid| Ok(process::memory(pid)?.peak)).collect::<Result<Vec<_>>>()?;
        let stored = net.stored()?;
        net.remove(&id).await?;
        print(json!({
            "what": "one large file", "gib": gib, "put_mb_per_s": rate(len, put), "get_mb_per_s": rate(len, get),
            "user_peak_mib": mib(process::memory(user)?.peak), "storage_peak_mib": mib(peak.into_iter().max().unwrap_or(0)),
            "stored_per_byte": round(stored as f64 / len as f64, 4),
        }));
    }
    Ok(())
}

/// Prints resident memory every few seconds.
async fn watch_memory((user, storage): (u32, Vec<u32>)) {
    let started = Instant::now();
    loop {
        tokio::time::sleep(Duration::from_secs(5)).await;
        let resident = |pid: u32| process::memory(pid).map_or(0, |memory| memory.resident);
        let storage = storage.iter().map(|pid| resident(*pid)).max().unwrap_or(0);
        let (user, at) = (mib(resident(user)), started.elapsed().as_secs());
        print(json!({ "what": "memory", "at_s": at, "user_mib": user, "storage_mib": mib(storage) }));
    }
}

/// Bytes that do not shrink, made as they are needed and cheap: one random MiB under a counter.
fn stream(name: &str, len: usize) -> impl futures::Stream<Item = std::io::Result<Bytes>> + Send + 'static {
    const PIECE: usize = 1 << 20;
    let piece = random(name, PIECE);
    futures::stream::iter((0..len / PIECE).map(move |at| {
        let mut bytes = piece.to_vec();
        // The pieces differ, which no compression of a piece alone can see.
        bytes[..8].copy_from_slice(&at.to_le_bytes());
        Ok(Bytes::from(bytes))
    }))
}

fn print(mut figure: Value) {
    figure["bench"] = "keep".into();
    println!("{figure}");
}

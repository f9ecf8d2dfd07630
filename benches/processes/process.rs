//! What the system says of a process: processor time, also by thread, and resident memory.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// What `/proc` counts processor time in; the same on every Linux.
const TICK: Duration = Duration::from_millis(10);

/// Processor time that a process has used, ended threads included.
pub fn cpu(pid: u32) -> Result<Duration> {
    cpu_of(Path::new(&format!("/proc/{pid}/stat")))
}

fn cpu_of(stat: &Path) -> Result<Duration> {
    let text = read(stat)?;
    // The name stands in parentheses and may hold anything; user and system time are fields 14 and 15.
    let fields: Vec<_> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u32>().ok());
    Ok(TICK * ticks(11).zip(ticks(12)).map(|(user, system)| user + system).context("/proc/PID/stat is too short")?)
}

/// The same by the threads' names, of those that live.
pub fn cpu_by_thread(pid: u32) -> Result<BTreeMap<String, Duration>> {
    let mut times = BTreeMap::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let dir = entry?.path();
        // A thread may end between one line and the next.
        if let (Ok(name), Ok(time)) = (read(&dir.join("comm")), cpu_of(&dir.join("stat"))) {
            *times.entry(name.trim().to_owned()).or_default() += time;
        }
    }
    Ok(times)
}

/// Processor time that everything on this machine has used.
pub fn machine_cpu() -> Result<Duration> {
    let text = read(Path::new("/proc/stat"))?;
    let first = text.lines().next().unwrap_or_default();
    let ticks: Vec<u32> = first.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    // User, nice, system; then idle and waiting, which are none; interrupts, and what the host took away.
    Ok(TICK
        * ticks.iter().take(8).enumerate().filter(|(at, _)| *at != 3 && *at != 4).map(|(_, ticks)| ticks).sum::<u32>())
}

/// Resident memory, bytes: now, and the most since `reset_peak`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    pub resident: u64,
    pub peak: u64,
}

/// The resident memory of a process.
pub fn memory(pid: u32) -> Result<Memory> {
    let text = read(Path::new(&format!("/proc/{pid}/status")))?;
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib << 10)
    };
    let memory = field("VmRSS:").zip(field("VmHWM:")).map(|(resident, peak)| Memory { resident, peak });
    memory.context("the process has ended")
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}

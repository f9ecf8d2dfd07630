//! Process: starting nodes as processes of their own, signals, logs.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use super::state::{NodeState, State};
use crate::cli::client::Client;
use crate::cli::errors::{CliError, Exit};
use crate::cli::output::Output;
use crate::node::home::Home;

/// Pause between two looks at something that takes its time.
const POLL: Duration = Duration::from_millis(50);
/// Lines of a log that an error shows.
const TAIL_LINES: usize = 15;
/// Bytes from the end of a log within which its last lines are looked for.
const TAIL_BYTES: u64 = 1 << 20;

/// Starts nodes and waits for them.
pub struct Launcher<'a> {
    state: &'a State,
    started: Vec<(&'a NodeState, Home, Option<Child>)>,
}

impl<'a> Launcher<'a> {
    /// A launcher for a testnet.
    pub fn new(state: &'a State) -> Self {
        Self { state, started: Vec::new() }
    }

    /// Starts a node that does not run. One that runs is only waited for.
    pub fn start(&mut self, node: &'a NodeState) -> Result<()> {
        let home = self.state.home(&node.name)?;
        let child = match home.running()? {
            Some(_) => None,
            None => Some(spawn(&home)?),
        };
        self.started.push((node, home, child));
        Ok(())
    }

    /// Waits until a block is final on every started node. Errors: exit 6, with the log of one that has none; that
    /// of one that ended.
    pub async fn wait_ready(&mut self, within: Duration) -> Result<()> {
        self.wait(within, "has no final block", |status| status.ready && status.height > 0).await
    }

    /// Waits until every started node answers. Errors: exit 6, with the log of one that does not; that
    /// of one that ended.
    pub async fn wait_answering(&mut self, within: Duration) -> Result<()> {
        self.wait(within, "does not answer", |_| true).await
    }

    async fn wait(
        &mut self,
        within: Duration,
        what: &str,
        good: impl Fn(&crate::api::views::StatusView) -> bool,
    ) -> Result<()> {
        let deadline = Instant::now() + within;
        for (node, home, child) in &mut self.started {
            loop {
                let client = Client::of(home);
                if let Ok(client) = client
                    && client.status().await.is_ok_and(|status| good(&status))
                {
                    break;
                }
                let ended = child.as_mut().map(Child::try_wait).transpose().context("waiting for a process")?.flatten();
                if let Some(status) = ended {
                    let code =
                        status.code().and_then(|code| u8::try_from(code).ok()).map_or(Exit::Other, Exit::from_code);
                    return Err(failed(node, home, code, &format!("ended with {status}")));
                }
                if Instant::now() > deadline {
                    let what = format!("{what} after {} s", within.as_secs());
                    return Err(failed(node, home, Exit::NotReady, &what));
                }
                tokio::time::sleep(POLL).await;
            }
        }
        Ok(())
    }
}

fn failed(node: &NodeState, home: &Home, code: Exit, what: &str) -> anyhow::Error {
    let log = home.log();
    let tail = tail(&log, TAIL_LINES).unwrap_or_default();
    let message = format!("{} {what}; the end of {}:\n{}", node.name, log.display(), tail.trim_end());
    CliError::new(code, message).hint("the other nodes run; stop them with `trullo testnet down`").into()
}

/// Starts the node of a home as a process that outlives this one.
fn spawn(home: &Home) -> Result<Child> {
    let program = std::env::current_exe().context("finding this program")?;
    let log = OpenOptions::new().create(true).append(true).mode(0o600).open(home.log());
    let log = log.with_context(|| format!("opening {}", home.log().display()))?;
    let errors = log.try_clone().with_context(|| format!("opening {}", home.log().display()))?;
    let mut command = Command::new(program);
    command.arg("--home").arg(home.root()).args(["node", "run"]);
    // What is set here for one node must not hold for all.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TRULLO_")) {
        command.env_remove(name);
    }
    // A group of its own, so that Ctrl-C here does not end the network.
    command.stdin(Stdio::null()).stdout(log).stderr(errors).process_group(0);
    command.spawn().with_context(|| format!("starting the node of {}", home.root().display()))
}

/// Sends a signal to the node of a home; returns its process id. Errors: exit 5 when it does not run.
pub fn signal(home: &Home, signal: Signal) -> Result<u32> {
    let not_running = || {
        let error = CliError::new(Exit::Unreachable, format!("no node is running in {}", home.root().display()));
        anyhow::Error::from(error.hint("see `trullo testnet status`"))
    };
    let raw = home.running()?.ok_or_else(not_running)?;
    let pid = i32::try_from(raw).ok().and_then(Pid::from_raw).ok_or_else(not_running)?;
    match kill_process(pid, signal) {
        Ok(()) => Ok(raw),
        Err(rustix::io::Errno::SRCH) => Err(not_running()),
        Err(error) => Err(error).with_context(|| format!("sending a signal to process {raw}")),
    }
}

/// Waits until no process has the home. Returns whether that came to be in time.
pub fn wait_ended(home: &Home, within: Duration) -> Result<bool> {
    let deadline = Instant::now() + within;
    while home.running()?.is_some() {
        if Instant::now() > deadline {
            return Ok(false);
        }
        std::thread::sleep(POLL);
    }
    Ok(true)
}

/// Prints the last lines of a log, and what comes after them if `follow`.
pub fn logs(out: Output, path: &Path, lines: usize, follow: bool) -> Result<()> {
    let reading = || format!("reading {}", path.display());
    let print = |line: &str| out.line("item", &json!({ "line": line }), || Some(line.to_owned()));
    for line in tail(path, lines).with_context(reading)?.lines() {
        print(line)?;
    }
    if !follow {
        return Ok(());
    }
    let mut file = File::open(path).with_context(reading)?;
    file.seek(SeekFrom::End(0)).with_context(reading)?;
    let mut pending = Vec::new();
    loop {
        file.read_to_end(&mut pending).with_context(reading)?;
        let whole = pending.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        for line in String::from_utf8_lossy(&pending[..whole]).lines() {
            print(line)?;
        }
        pending.drain(..whole);
        std::thread::sleep(POLL * 4);
    }
}

/// The last lines of a file.
fn tail(path: &Path, lines: usize) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let len = file.metadata()?.len();
    file.seek(SeekFrom::Start(len.saturating_sub(TAIL_BYTES)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.lines().collect();
    let last = all.iter().skip(all.len().saturating_sub(lines));
    Ok(last.map(|line| format!("{line}\n")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_of_a_log_is_its_last_lines() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("node.log");
        std::fs::write(&path, "a\nb\nc\n").expect("writable");
        assert_eq!(tail(&path, 2).expect("readable"), "b\nc\n");
        assert_eq!(tail(&path, 9).expect("readable"), "a\nb\nc\n");
    }
}

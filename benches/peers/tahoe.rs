//! Tahoe-LAFS, by `tahoe.py` beside this file and its web interface.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;

use super::{Keeper, bytes_below};

/// A grid that ends with this value.
pub struct Tahoe {
    dir: PathBuf,
    grid: Grid,
    client: reqwest::Client,
}

#[derive(Deserialize)]
struct Grid {
    web: String,
    client: u32,
    storage: Vec<Server>,
}

#[derive(Deserialize)]
struct Server {
    pid: u32,
    shares: PathBuf,
}

fn script() -> Command {
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/peers/tahoe.py"));
    command.stdin(Stdio::null()).stderr(Stdio::inherit());
    command
}

impl Tahoe {
    /// Makes and starts a grid where the build does. The program is installed the first time.
    pub fn up() -> Result<Self> {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("tahoe");
        // What an earlier run left.
        script().arg("down").arg(&dir).status().context("starting tahoe.py")?;
        let up = script().arg("up").arg(&dir).output().context("starting tahoe.py")?;
        ensure!(up.status.success(), "Tahoe-LAFS did not start");
        let grid = serde_json::from_slice(&up.stdout).context("what tahoe.py says")?;
        let client = reqwest::Client::builder().no_proxy().tcp_nodelay(true).build()?;
        Ok(Self { dir, grid, client })
    }

    /// Removes shares 0 and 1 of every large file, as two lost servers would, and has the file repaired. Tahoe's client looks
    /// for what is missing as a part of it.
    pub async fn repair(&self, id: &str) -> Result<Duration> {
        for server in &self.grid.storage {
            remove_shares(&server.shares, &["0", "1"])?;
        }
        rustix::fs::sync();
        let started = Instant::now();
        let url = format!("{}uri/{id}?t=check&repair=true&output=JSON", self.grid.web);
        let answer: Value =
            serde_json::from_slice(&self.client.post(url).send().await?.error_for_status()?.bytes().await?)?;
        let took = started.elapsed();
        ensure!(answer["repair-successful"] == true, "Tahoe-LAFS repaired nothing: {answer}");
        Ok(took)
    }

    /// Kills two servers for good.
    pub fn kill_two(&self) -> Result<()> {
        for server in self.grid.storage.iter().take(2) {
            kill(server.pid)?;
        }
        Ok(())
    }
}

/// SIGKILL to one process.
pub fn kill(pid: u32) -> Result<()> {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw).context("a process id")?;
    Ok(rustix::process::kill_process(pid, rustix::process::Signal::KILL)?)
}

/// Share files of more than 1 MB with one of these names, or with any.
fn remove_shares(dir: &Path, names: &[&str]) -> Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_shares(&entry.path(), names)?;
        } else if entry.metadata()?.len() > 1_000_000 && names.iter().any(|name| entry.file_name() == *name) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

impl Keeper for Tahoe {
    fn name(&self) -> &str {
        "tahoe"
    }
    async fn put(&self, _name: &str, bytes: Bytes) -> Result<String> {
        let answer = self.client.put(format!("{}uri", self.grid.web)).body(bytes).send().await?.error_for_status()?;
        Ok(answer.text().await?)
    }
    async fn get(&self, id: &str) -> Result<reqwest::Response> {
        Ok(self.client.get(format!("{}uri/{id}", self.grid.web)).send().await?)
    }
    async fn remove(&self, _id: &str) -> Result<()> {
        // It cannot delete; its disk is cleared so that the rounds do not fill this machine's.
        self.grid.storage.iter().try_for_each(|server| remove_shares(&server.shares, &["0", "1", "2", "3", "4"]))
    }
    fn stored(&self) -> Result<u64> {
        self.grid.storage.iter().map(|server| bytes_below(&server.shares)).sum()
    }
    fn processes(&self) -> (u32, Vec<u32>) {
        (self.grid.client, self.grid.storage.iter().map(|server| server.pid).collect())
    }
}

impl Drop for Tahoe {
    fn drop(&mut self) {
        if !script().arg("down").arg(&self.dir).status().is_ok_and(|status| status.success()) {
            eprintln!("the grid in {} was not removed", self.dir.display());
        }
    }
}

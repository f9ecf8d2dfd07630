//! A network of real processes on this machine, made and ended by the program itself.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use serde_json::Value;

/// A testnet that ends with this value.
pub struct Testnet {
    dir: PathBuf,
    /// Its nodes, in the order validators, storage nodes, users.
    pub nodes: Vec<Node>,
    flags: Vec<String>,
    preload: Option<PathBuf>,
}

/// A node of it.
#[derive(Clone, Debug, Deserialize)]
pub struct Node {
    pub name: String,
    pub node: String,
    pub home: PathBuf,
    pub api: String,
    pub pid: u32,
}

impl Testnet {
    /// Makes and starts a network; it lies where the build does, so not in memory.
    pub fn up(name: &str, validators: u16, storage: u16, users: u16) -> Result<Self> {
        Self::with(name, [validators, storage, users], &[], None)
    }

    /// The same with further flags, and with a library that every process loads first.
    pub fn with(name: &str, counts: [u16; 3], flags: &[&str], preload: Option<&Path>) -> Result<Self> {
        let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        let counts = ["--validators", "--storage", "--users"].into_iter().zip(counts.map(|count| count.to_string()));
        let counts = counts.flat_map(|(flag, count)| [flag.to_owned(), count]);
        let flags = counts.chain(flags.iter().map(|flag| (*flag).to_owned())).collect();
        let mut net = Self { dir, nodes: Vec::new(), flags, preload: preload.map(Path::to_owned) };
        net.start(true)?;
        Ok(net)
    }

    fn start(&mut self, anew: bool) -> Result<()> {
        let mut command = self.testnet("up");
        command.args(&self.flags).args(anew.then_some("--reset"));
        if let Some(library) = &self.preload {
            command.env("LD_PRELOAD", library);
        }
        let up = last_line(&mut command)?;
        self.nodes = serde_json::from_value(up["nodes"].clone()).context("the nodes of the testnet")?;
        Ok(())
    }

    /// Stops all nodes and starts them again, so that they read their changed configuration.
    pub fn restart(&mut self) -> Result<()> {
        last_line(&mut self.testnet("down"))?;
        self.start(false)
    }

    /// A verb of `trullo testnet` for this network, with JSON as its answer.
    pub fn testnet(&self, verb: &str) -> Command {
        let mut command = trullo();
        command.args(["testnet", verb, "--json", "--quiet", "--dir"]).arg(&self.dir);
        command
    }

    /// The nodes of a role.
    pub fn role<'a>(&'a self, role: &'a str) -> impl Iterator<Item = &'a Node> {
        self.nodes.iter().filter(move |node| node.name.starts_with(role))
    }
}

impl Drop for Testnet {
    fn drop(&mut self) {
        if let Err(error) = last_line(self.testnet("down").arg("--remove")) {
            eprintln!("the testnet in {} was not removed: {error:#}", self.dir.display());
        }
    }
}

impl Node {
    /// An HTTP client for its API, and the address of a path there.
    pub fn client(&self) -> Result<reqwest::Client> {
        let token = std::fs::read_to_string(self.home.join("api.token")).context("reading a token")?;
        let mut headers = reqwest::header::HeaderMap::new();
        headers.insert(reqwest::header::AUTHORIZATION, format!("Bearer {}", token.trim()).parse()?);
        Ok(reqwest::Client::builder().no_proxy().default_headers(headers).tcp_nodelay(true).build()?)
    }

    /// The address of a path of its API.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.api)
    }
}

/// The program.
pub fn trullo() -> Command {
    Command::new(env!("CARGO_BIN_EXE_trullo"))
}

/// Runs a command that ends with a line of JSON. Errors: it fails; what it says goes to this process's stderr.
pub fn last_line(command: &mut Command) -> Result<Value> {
    let done = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().context("starting trullo")?;
    if !done.status.success() {
        bail!("{command:?} ended with {}", done.status);
    }
    let text = String::from_utf8_lossy(&done.stdout);
    let line = text.lines().rfind(|line| !line.is_empty()).context("trullo printed nothing")?;
    serde_json::from_str(line).with_context(|| format!("{command:?} printed {line:?}"))
}

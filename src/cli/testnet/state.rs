//! State: what a testnet is, in `D/testnet.json`. Which nodes run is asked of their homes, never remembered.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::cli::errors::{CliError, Exit};
use crate::node::home::Home;

const FILE: &str = "testnet.json";

/// A testnet.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Format of this file: 1.
    version: u32,
    /// The chain's id.
    pub chain: String,
    /// Its nodes, in the order in which they are started.
    pub nodes: Vec<NodeState>,
    /// Which nodes each node has no link to, by name, while there is a partition.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub denied: BTreeMap<String, Vec<String>>,
    #[serde(skip)]
    dir: PathBuf,
}

/// A node of a testnet.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeState {
    /// Its name and the name of its home.
    pub name: String,
    /// Its role.
    pub role: String,
    /// Its id.
    pub node: String,
    /// Its account.
    pub account: String,
    /// Where its API answers.
    pub api: String,
}

impl State {
    /// A new testnet.
    pub fn new(dir: &Path, chain: String, nodes: Vec<NodeState>) -> Self {
        Self { version: 1, chain, nodes, denied: BTreeMap::new(), dir: dir.to_owned() }
    }

    /// Whether there is one in a directory.
    pub fn exists(dir: &Path) -> bool {
        dir.join(FILE).exists()
    }

    /// The one in a directory. Errors: exit 10.
    pub fn load(dir: &Path) -> Result<Self> {
        let path = dir.join(FILE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let error = CliError::new(Exit::NoHome, format!("there is no testnet in {}", dir.display()));
                return Err(error.hint(format!("make one with: trullo testnet up --dir {}", dir.display())).into());
            }
            Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
        };
        let state: Self = serde_json::from_str(&text).with_context(|| format!("{} is damaged", path.display()))?;
        let dir = std::fs::canonicalize(dir).with_context(|| format!("{}", dir.display()))?;
        Ok(Self { dir, ..state })
    }

    /// Writes it, as a whole.
    pub fn save(&self) -> Result<()> {
        let path = self.dir.join(FILE);
        let unfinished = self.dir.join("testnet.json.new");
        let text = serde_json::to_string_pretty(self)? + "\n";
        let saved = std::fs::write(&unfinished, text).and_then(|()| std::fs::rename(&unfinished, &path));
        saved.with_context(|| format!("writing {}", path.display()))
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A node by name. Errors: exit 4.
    pub fn node(&self, name: &str) -> Result<&NodeState> {
        self.nodes.iter().find(|node| node.name == name).ok_or_else(|| {
            let names: Vec<_> = self.nodes.iter().map(|node| node.name.as_str()).collect();
            let error = CliError::new(Exit::NotFound, format!("the testnet has no node {name:?}"));
            error.hint(format!("its nodes are {}", names.join(", "))).into()
        })
    }

    /// A node's home. Errors: exit 4, 10.
    pub fn home(&self, name: &str) -> Result<Home> {
        Ok(Home::open(&self.dir.join(&self.node(name)?.name))?)
    }
}

/// Removes a testnet's files, and the directory if nothing else is in it.
pub fn remove(dir: &Path) -> Result<()> {
    let state = State::load(dir)?;
    for node in &state.nodes {
        let home = state.dir.join(&node.name);
        std::fs::remove_dir_all(&home).with_context(|| format!("removing {}", home.display()))?;
    }
    for name in ["genesis.json", FILE] {
        let path = state.dir.join(name);
        std::fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
    }
    // What else lies there is not ours.
    let _ = std::fs::remove_dir(&state.dir);
    Ok(())
}

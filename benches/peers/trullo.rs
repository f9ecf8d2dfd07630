//! trullo by its HTTP interface: a testnet of four validators, storage nodes and a user.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::Value;
use trullo::api::uploads::PutView;
use trullo::api::views::{FileStatus, FileView, PeerView};

use super::{Keeper, SHARDS, bytes_below};
use crate::processes::testnet::{Node, Testnet, last_line};

/// How long a change of the network may take.
const WITHIN: Duration = Duration::from_secs(120);

/// A testnet and its user.
pub struct Trullo {
    name: String,
    pub net: Testnet,
    user: Node,
    client: reqwest::Client,
}

impl Trullo {
    /// Starts a testnet. `preload` is a library that every process of it loads first.
    pub fn up(name: &str, storage: u16, idle_ms: u64, preload: Option<&Path>) -> Result<Self> {
        let flags = ["--idle-interval-ms", &idle_ms.to_string()];
        let mut net = Testnet::with(name, [4, storage, 1], &flags, preload)?;
        // Repair as fast as the machine can; what limits it by default protects a node's owner.
        for node in net.role("storage") {
            let path = node.home.join("config.toml");
            let text = std::fs::read_to_string(&path)?;
            let text = text.replace("[storage]\n", "[storage]\nrepair_bytes_per_s = \"10 GiB\"\n");
            std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        }
        net.restart()?;
        let user = net.role("user").next().context("no user")?.clone();
        let client = user.client()?;
        Ok(Self { name: name.to_owned(), net, user, client })
    }

    async fn ask<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        Ok(self.client.get(self.user.url(path)).send().await?.error_for_status()?.json().await?)
    }
    /// What the ledger says of a file.
    pub async fn file(&self, id: &str) -> Result<FileView> {
        self.ask(&format!("/v1/files/{id}/info")).await
    }

    /// Stores what a stream gives, of a length that is told before.
    pub async fn put_stream(
        &self,
        name: &str,
        len: u64,
        bytes: impl futures::Stream<Item = std::io::Result<Bytes>> + Send + 'static,
    ) -> Result<String> {
        let body = reqwest::Body::wrap_stream(bytes);
        self.send(name, self.client.post(self.user.url("/v1/files")).header("content-length", len).body(body)).await
    }

    async fn send(&self, name: &str, request: reqwest::RequestBuilder) -> Result<String> {
        let (data, parity) = (SHARDS.0.to_string(), SHARDS.1.to_string());
        let query = [("name", name), ("data_shards", &data), ("parity_shards", &parity)];
        let put: PutView = request.query(&query).send().await?.error_for_status()?.json().await?;
        ensure!(put.status == FileStatus::Final && put.confirmations == 5, "the put ended {}", put.status);
        Ok(put.file_id)
    }

    /// A verb of `trullo testnet` with a node's name.
    pub fn order(&self, verb: &str, node: &str) -> Result<Value> {
        last_line(self.net.testnet(verb).arg(node))
    }

    /// Waits until the user's node is connected to this one, or not any more.
    pub async fn wait_connected(&self, node: &str, connected: bool) -> Result<()> {
        let name = self.net.nodes.iter().find(|known| known.name == node).context("no such node")?.node.clone();
        let started = Instant::now();
        while started.elapsed() < WITHIN {
            let peers: Vec<PeerView> = self.ask("/v1/peers").await?;
            if peers.iter().any(|peer| peer.node == name) == connected {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bail!("{node} did not become {}connected", if connected { "" } else { "dis" })
    }

    /// Kills the holders of slots 0 and 1. Returns for how long the file lacked them: from when this user's node has the block
    /// with which the ledger gives them up, to when it has the block with which others hold both. Beside it, how long the
    /// ledger took to give up.
    pub async fn repair(&self, id: &str, killed: &mut Vec<String>) -> Result<(Duration, Duration)> {
        let before = self.file(id).await?;
        for slot in before.slots.iter().take(2) {
            let name = slot.node_name.clone().context("a node without a name")?;
            self.order("kill", &name)?;
            killed.push(name);
        }
        let started = Instant::now();
        let lost = self.wait_lost(id, |lost| lost == 2).await?;
        let whole = self.wait_lost(id, |lost| lost == 0).await?;
        let after = self.file(id).await?;
        ensure!(after.confirmations == 5, "only {} slots are held", after.confirmations);
        Ok((whole - lost, lost - started))
    }

    async fn wait_lost(&self, id: &str, is: impl Fn(u32) -> bool) -> Result<Instant> {
        let started = Instant::now();
        while started.elapsed() < WITHIN {
            if is(self.file(id).await?.lost) {
                return Ok(Instant::now());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        bail!("the ledger did not change within {WITHIN:?}")
    }
}

impl Keeper for Trullo {
    fn name(&self) -> &str {
        &self.name
    }
    async fn put(&self, name: &str, bytes: Bytes) -> Result<String> {
        self.send(name, self.client.post(self.user.url("/v1/files")).body(bytes)).await
    }
    async fn get(&self, id: &str) -> Result<reqwest::Response> {
        Ok(self.client.get(self.user.url(&format!("/v1/files/{id}"))).send().await?)
    }
    async fn remove(&self, id: &str) -> Result<()> {
        self.client.delete(self.user.url(&format!("/v1/files/{id}"))).send().await?.error_for_status()?;
        Ok(())
    }
    fn stored(&self) -> Result<u64> {
        self.net.role("storage").map(|node| bytes_below(&node.home.join("slots"))).sum()
    }
    fn processes(&self) -> (u32, Vec<u32>) {
        (self.user.pid, self.net.role("storage").map(|node| node.pid).collect())
    }
}

/// Compiles the library that makes syncs free, for a comparison with a program that has none.
pub fn nosync() -> Result<PathBuf> {
    let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join("nosync.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/peers/nosync.c");
    let done = Command::new("cc").args(["-shared", "-fPIC", "-O2", "-o"]).arg(&library).arg(source).status();
    ensure!(done.context("starting cc")?.success(), "cc failed");
    Ok(library)
}

//! Real processes, driven by the command line alone, as a user drives them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// A network of processes that is taken down at the end of the test.
pub struct Testnet {
    pub dir: TempDir,
}

pub fn trullo(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_trullo")).args(args).output().expect("the program runs")
}

/// The JSON on the last line of a run that must succeed.
pub fn json(args: &[&str]) -> Value {
    let out = trullo(args);
    let (stdout, stderr) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "trullo {args:?}: {:?}\n{stdout}\n{stderr}", out.status);
    let last = stdout.trim_end().lines().last().unwrap_or_default();
    serde_json::from_str(&stdout)
        .or_else(|_| serde_json::from_str(last))
        .unwrap_or_else(|_| panic!("no JSON: {stdout}"))
}

/// The exit code and the last line of stderr.
pub fn failure(args: &[&str]) -> (i32, String) {
    let out = trullo(args);
    let stderr = String::from_utf8_lossy(&out.stderr);
    (out.status.code().unwrap_or(-1), stderr.trim_end().lines().last().unwrap_or_default().to_owned())
}

/// Repeats a look at the world until it is as it should be.
pub fn until(what: &str, within: Duration, look: impl FnMut() -> bool) {
    assert!(is_true_within(within, look), "not within {within:?}: {what}");
}

/// The same for who has more to say when it is not.
pub fn is_true_within(within: Duration, mut look: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + within;
    while !look() {
        if Instant::now() >= end {
            return false;
        }
    }
    true
}

impl Testnet {
    pub fn up(validators: u8, storage: u8, users: u8) -> Self {
        let net = Self { dir: tempfile::tempdir().expect("a temporary directory") };
        net.start_all(validators, storage, users);
        net
    }
    /// A network of one validator and short epochs, with further options.
    pub fn audited(storage: u8, options: &[&str]) -> Self {
        let net = Self { dir: tempfile::tempdir().expect("a temporary directory") };
        let storage = storage.to_string();
        let mut args = vec!["testnet", "up", "--dir", net.path(), "--validators", "1", "--storage", &storage];
        args.extend(["--users", "1", "--idle-interval-ms", "100", "--json"]);
        args.extend(options);
        json(&args);
        net
    }
    pub fn start_all(&self, validators: u8, storage: u8, users: u8) {
        let (v, s, u) = (validators.to_string(), storage.to_string(), users.to_string());
        json(&["testnet", "up", "--dir", self.path(), "--validators", &v, "--storage", &s, "--users", &u, "--json"]);
    }
    pub fn path(&self) -> &str {
        self.dir.path().to_str().expect("a path in UTF-8")
    }
    pub fn home(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().expect("a path in UTF-8").to_owned()
    }
    pub fn kill(&self, name: &str) {
        json(&["testnet", "kill", name, "--dir", self.path(), "--json"]);
    }
    pub fn start(&self, name: &str) {
        json(&["testnet", "start", name, "--dir", self.path(), "--json"]);
    }
    pub fn node(&self, name: &str) -> Value {
        let status = json(&["testnet", "status", "--dir", self.path(), "--json"]);
        let nodes = status["nodes"].as_array().expect("a list of nodes").clone();
        nodes.into_iter().find(|node| node["name"] == name).expect("a known node")
    }
    pub fn height(&self, name: &str) -> u64 {
        self.node(name)["height"].as_u64().unwrap_or(0)
    }
    pub fn account(&self, name: &str) -> String {
        let view = json(&["--home", &self.home(name), "account", "show", "--json"]);
        view["id"].as_str().expect("an id").to_owned()
    }
    pub fn balance(&self, asked: &str, account: &str) -> Option<u64> {
        let out = trullo(&["--home", &self.home(asked), "ledger", "account", account, "--json"]);
        let view: Value = serde_json::from_slice(&out.stdout).ok()?;
        view["balance"].as_u64()
    }
    pub fn transfer(&self, from: &str, to: &str, amount: u64) -> u64 {
        let amount = amount.to_string();
        let view = json(&["--home", &self.home(from), "account", "transfer", to, &amount, "--json"]);
        view["height"].as_u64().expect("a height")
    }
}

impl Drop for Testnet {
    fn drop(&mut self) {
        trullo(&["testnet", "down", "--dir", self.path()]);
    }
}

pub fn write_sample(path: &Path, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(b"process sample").finalize_xof().fill(&mut bytes);
    std::fs::write(path, &bytes).expect("a written file");
    bytes
}

#[test]
fn an_acknowledged_transfer_survives_kill_9_of_one_and_then_of_all_nodes() {
    let net = Testnet::up(4, 0, 1);
    let to = net.account("validator-4");
    let before = net.balance("user-1", &to).expect("a balance");
    net.transfer("user-1", &to, 5);
    net.kill("validator-1");
    net.transfer("user-1", &to, 6);
    net.start("validator-1");
    let height = net.height("user-1");
    until("the killed validator catches up", Duration::from_secs(20), || net.height("validator-1") >= height);
    for name in ["validator-1", "validator-2", "validator-3", "validator-4", "user-1"] {
        net.kill(name);
    }
    net.start_all(4, 0, 1);
    for name in ["validator-1", "validator-2", "validator-3", "validator-4", "user-1"] {
        until("nothing acknowledged is lost", Duration::from_secs(20), || net.balance(name, &to) == Some(before + 11));
    }
}

#[test]
fn a_minority_halts_a_majority_goes_on_and_healing_needs_no_operator() {
    let net = Testnet::up(4, 0, 1);
    let groups = ["validator-1,validator-2,validator-3,user-1", "validator-4"];
    json(&["testnet", "partition", "--dir", net.path(), groups[0], groups[1], "--json"]);
    let to = net.account("validator-4");
    net.transfer("user-1", &to, 1);
    let (cut_off, others) = (net.height("validator-4"), net.height("validator-1"));
    until("the majority goes on", Duration::from_secs(20), || net.height("validator-1") > others + 2);
    assert!(net.height("validator-4") <= cut_off + 1, "the minority does not finalize");
    json(&["testnet", "heal", "--dir", net.path(), "--json"]);
    let height = net.height("validator-1");
    until("the minority catches up", Duration::from_secs(20), || net.height("validator-4") >= height);
}

#[test]
fn a_file_is_put_read_with_nodes_dead_proven_offline_and_removed() {
    let net = Testnet::up(4, 6, 1);
    let user = net.home("user-1");
    let (source, back) = (net.dir.path().join("source"), net.dir.path().join("back"));
    let bytes = write_sample(&source, 5_000_001);
    let put = json(&["--home", &user, "put", source.to_str().expect("UTF-8"), "--json"]);
    assert_eq!((put["type"].as_str(), put["status"].as_str()), (Some("summary"), Some("final")), "{put}");
    assert_eq!(put["bytes"].as_u64(), Some(5_000_001));
    let id = put["file_id"].as_str().expect("an id").to_owned();
    net.kill("storage-2");
    net.kill("storage-5");
    net.kill("validator-2");
    let got = trullo(&["--home", &user, "get", &id, "-o", back.to_str().expect("UTF-8")]);
    assert!(got.status.success(), "{}", String::from_utf8_lossy(&got.stderr));
    assert!(std::fs::read(&back).expect("a file") == bytes);
    exports_at_one_height(&net, &user);
    proves_offline(&net, &user, &id);
    let removed = trullo(&["--home", &user, "rm", &id]);
    assert!(removed.status.success(), "{}", String::from_utf8_lossy(&removed.stderr));
    assert_eq!(failure(&["--home", &user, "get", &id, "-o", "-"]).0, 4);
}

fn proves_offline(net: &Testnet, user: &str, id: &str) {
    let bundle: PathBuf = net.dir.path().join("bundle.json");
    let (path, genesis) = (bundle.to_str().expect("UTF-8"), net.home("genesis.json"));
    let made = trullo(&["--home", user, "ledger", "file", id, "--proof", "-o", path]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    assert!(trullo(&["verify", path, "--genesis", &genesis]).status.success());
    let good = std::fs::read(&bundle).expect("a bundle");
    for at in (0..good.len()).step_by(good.len() / 40 + 1) {
        let mut bad = good.clone();
        bad[at] ^= 1;
        std::fs::write(&bundle, &bad).expect("a written bundle");
        assert_eq!(failure(&["verify", path, "--genesis", &genesis]).0, 7, "byte {at}");
    }
}

/// All tables of one export of a running node belong to one block, though the chain goes on meanwhile.
fn exports_at_one_height(net: &Testnet, user: &str) {
    let out = net.dir.path().join("tables");
    let out = out.to_str().expect("a path in UTF-8");
    let summary = json(&["--home", user, "export", "--format", "jsonl", "-o", out, "--json"]);
    let manifest = std::fs::read(Path::new(out).join("manifest.json")).expect("a manifest");
    let manifest: Value = serde_json::from_slice(&manifest).expect("JSON");
    let files = manifest["files"].as_array().expect("a list");
    assert!(files.len() >= 7, "{manifest}");
    for file in files {
        assert_eq!(file["max_height"], summary["height"], "{}", file["file"]);
    }
}

#[test]
fn what_goes_wrong_has_its_exit_code_and_a_line_that_says_what_to_do() {
    let net = Testnet::up(1, 1, 1);
    let user = net.home("user-1");
    let unknown = "00".repeat(32);
    let (code, line) = failure(&["--home", &user, "get", &unknown, "-o", "-"]);
    assert_eq!(code, 4, "{line}");
    assert_eq!(failure(&["--home", &user, "ledger", "tx", &unknown]).0, 4);
    assert_eq!(failure(&["--home", &net.home("nowhere"), "ls"]).0, 10);
    assert_eq!(failure(&["--home", &user, "node", "run"]).0, 11);
    assert_eq!(failure(&["no-such-command"]).0, 2);
    net.kill("user-1");
    let (code, line) = failure(&["--home", &user, "ls"]);
    assert_eq!(code, 5, "{line}");
}

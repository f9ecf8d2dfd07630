//! Who has not the whole chain: light nodes, nodes that joined by a snapshot, and pruned ones, as real processes.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::processes::{Testnet, failure, json, trullo, until};

const SOON: Duration = Duration::from_secs(60);

fn network(storage: &str) -> Testnet {
    let net = Testnet { dir: tempfile::tempdir().expect("a temporary directory") };
    let short = ["--epoch-blocks", "8", "--idle-interval-ms", "150"];
    let mut args =
        vec!["testnet", "up", "--dir", net.path(), "--validators", "4", "--storage", storage, "--users", "1"];
    args.extend(short);
    args.push("--json");
    json(&args);
    net
}

/// Where the nodes of a network listen for peers.
fn addresses(net: &Testnet) -> Vec<String> {
    let text = std::fs::read_to_string(net.dir.path().join("user-1/config.toml")).expect("a configuration");
    let line = text.lines().find(|line| line.starts_with("bootstrap = ")).expect("it knows others");
    line.split('"').filter(|part| part.starts_with('/')).map(str::to_owned).collect()
}

/// A process that does not outlive its test.
struct Running(Child);

impl Running {
    fn begin(args: &[&str], log: &std::path::Path) -> Self {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(log).expect("a log");
        let mut command = Command::new(env!("CARGO_BIN_EXE_trullo"));
        Self(command.args(args).stdout(Stdio::piped()).stderr(log).spawn().expect("the program runs"))
    }
    /// The first line that it prints, as JSON.
    fn first(&mut self) -> Value {
        let mut line = String::new();
        BufReader::new(self.0.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("no JSON: {line:?}"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The status and the JSON of an answer.
fn get(address: &str, path: &str) -> (u16, Value) {
    let mut stream = TcpStream::connect(address).expect("it listens");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").expect("sent");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    let body = text.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
    (status, serde_json::from_str(body).unwrap_or_else(|_| panic!("no JSON: {text}")))
}

fn status(net: &Testnet, home: &str) -> Option<Value> {
    let out = trullo(&["--home", &net.home(home), "ledger", "status", "--json"]);
    serde_json::from_slice(&out.stdout).ok()
}

#[test]
fn a_light_node_answers_what_peers_prove_from_a_checkpoint_on_and_goes_on_after_a_kill() {
    let net = network("0");
    until("there is a first checkpoint", SOON, || net.height("user-1") >= 2);
    let checkpoint = status(&net, "user-1").expect("it answers")["checkpoint"].as_str().expect("a text").to_owned();
    let (height, _) = checkpoint.split_once(':').expect("a height");
    // The validators change after it.
    let left = json(&["--home", &net.home("validator-4"), "--json", "validator", "leave"]);
    assert_eq!(left["power_then"].as_u64(), Some(0), "{left}");
    let powers = || json(&["--home", &net.home("user-1"), "--json", "validator", "quorum"])["power"].as_u64();
    until("one is out", SOON, || powers() == Some(3));
    // The last block of an epoch is certified by those of that epoch.
    let last = net.height("user-1");
    until("the next epoch goes on", SOON, || net.height("user-1") > last + 1);
    proves_from(&net, height, &checkpoint);

    let (genesis, state, log) = (net.home("genesis.json"), net.home("light.state"), net.dir.path().join("light.log"));
    let mut args = vec!["light", "--genesis", &genesis, "--trust", &checkpoint, "--state", &state, "--json"];
    let peers = addresses(&net);
    peers.iter().for_each(|peer| args.extend(["--peer", peer.as_str()]));
    let mut light = Running::begin(&args, &log);
    let address = light.first()["address"].as_str().expect("an address").to_owned();
    let height = || get(&address, "/status").1["height"].as_u64().unwrap_or(0);
    let tip = net.height("user-1");
    until("it follows", SOON, || height() >= tip);
    let account = net.account("user-1");
    let (code, proven) = get(&address, &format!("/v1/accounts/{account}"));
    assert_eq!((code, proven["balance"].as_u64()), (200, net.balance("user-1", &account)), "{proven}");
    assert_eq!(proven["proof"]["signers"].as_u64(), Some(3), "{proven}");
    assert_eq!(get(&address, &format!("/v1/accounts/{}", "00".repeat(32))).0, 404);
    let (code, members) = get(&address, "/v1/validators");
    assert_eq!((code, members["validators"].as_array().map(Vec::len)), (200, Some(3)), "{members}");
    let (code, block) = get(&address, "/v1/blocks/latest");
    let number = block["height"].to_string();
    let known = json(&["--home", &net.home("user-1"), "ledger", "block", &number, "--json"]);
    assert_eq!((code, &block["hash"]), (200, &known["hash"]));
    until("it has written down how far it is", SOON, || std::fs::metadata(&state).is_ok());
    drop(light);
    // What it wrote down stands in for the checkpoint.
    let trust = args.iter().position(|arg| *arg == "--trust").expect("it is there");
    args.drain(trust..trust + 2);
    let mut light = Running::begin(&args, &log);
    let address = light.first()["address"].as_str().expect("an address").to_owned();
    until("it follows again", SOON, || get(&address, "/status").1["height"].as_u64() >= Some(tip));
    json(&["testnet", "down", "--dir", net.path(), "--json"]);
    let (code, problem) = get(&address, &format!("/v1/accounts/{account}"));
    assert_eq!(code, 503, "{problem}");
    assert!(problem["detail"].as_str().is_some_and(|text| text.contains("s old")), "{problem}");
}

/// A bundle from a checkpoint on is proven by it, and by no other.
fn proves_from(net: &Testnet, height: &str, checkpoint: &str) {
    let (path, user, genesis) = (net.home("bundle.json"), net.home("user-1"), net.home("genesis.json"));
    let made = trullo(&["--home", &user, "ledger", "account", "me", "--proof", "--from", height, "-o", &path]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let proven = json(&["verify", &path, "--trust", checkpoint, "--json"]);
    assert_eq!((proven["verified"].as_bool(), proven["set_changes"].as_u64()), (Some(true), Some(1)), "{proven}");
    let other = format!("{height}:{}", "ab".repeat(32));
    assert_eq!(failure(&["verify", &path, "--trust", &other]).0, 7, "another block of that height");
    assert_eq!(failure(&["verify", &path, "--genesis", &genesis]).0, 7, "the genesis is not in it");
}

#[test]
fn a_node_joins_by_a_snapshot_survives_a_kill_executes_on_and_votes() {
    let net = network("0");
    until("some epochs are over", SOON, || net.height("user-1") >= 24);
    let late = net.home("late");
    let (genesis, password) = (net.home("genesis.json"), net.home("late-password"));
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&password)
        .expect("a file");
    file.write_all(b"a password for this test\n").expect("written");
    let mut init = vec!["--home", &late, "init", "--name", "late", "--genesis", &genesis, "--role", "validator,user"];
    let peers = addresses(&net);
    peers.iter().for_each(|peer| init.extend(["--bootstrap", peer.as_str()]));
    init.extend(["--password-file", &password, "--json"]);
    let account = json(&init)["account"].as_str().expect("an id").to_owned();
    let run = ["--home", &late, "node", "run", "--set", "sync.mode=snapshot", "--password-file", &password];
    let log = net.dir.path().join("late.log");
    let begin = || Running::begin(&run, &log);
    let node = begin();
    let height = || status(&net, "late").and_then(|status| status["height"].as_u64()).unwrap_or(0);
    until("it is on the chain", SOON, || height() >= 24);
    drop(node);
    let _node = begin();
    let tip = net.height("user-1");
    until("it goes on after a kill", SOON, || height() > tip);
    let at = height().to_string();
    let root = |home: &str| json(&["--home", &net.home(home), "ledger", "block", &at, "--json"])["state_root"].clone();
    assert_eq!(root("late"), root("user-1"), "it executes as the others do");
    let (code, line) = failure(&["--home", &late, "ledger", "block", "3"]);
    assert_eq!(code, 4, "{line}");
    // It becomes a validator, and with one of the others gone its vote is needed.
    net.transfer("user-1", &account, 5_000);
    until("it knows its credits", SOON, || net.balance("late", &account) == Some(5_000));
    let joined = json(&["--home", &late, "--json", "validator", "join", "--stake", "1000"]);
    let me = joined["node"].as_str().map(str::to_owned);
    let active = || {
        let view = json(&["--home", &net.home("user-1"), "--json", "validator", "status"]);
        let stakes = view["stakes"].as_array().cloned().unwrap_or_default();
        stakes.iter().filter(|stake| stake["state"] == "active").count() == 5
    };
    until("it votes", SOON, active);
    net.kill("validator-1");
    let before = net.height("user-1");
    assert!(net.transfer("user-1", &account, 1) > before, "{me:?} votes");
    // Whoever joins next may have the state from it.
    until("it keeps a snapshot itself", SOON, || {
        let kept = std::fs::read_dir(net.dir.path().join("late/snapshots")).expect("a directory");
        kept.filter_map(Result::ok).any(|entry| entry.path().extension().is_some_and(|kind| kind == "index"))
    });
}

#[test]
fn pruned_bodies_are_gone_headers_stay_and_the_others_still_have_them() {
    let net = network("1");
    until("the chain is long enough", SOON, || net.height("user-1") >= 72);
    let user = net.home("user-1");
    assert_eq!(failure(&["--home", &user, "prune", "--keep", "5"]).0, 2, "too few to go on with");
    let asked = json(&["--home", &user, "prune", "--keep", "64", "--json"]);
    assert!(asked["below"].as_u64() >= Some(8), "{asked}");
    let gone = || failure(&["--home", &user, "ledger", "block", "5", "--json"]).1;
    until("the body goes with the blocks that come", SOON, || gone().contains("not kept here"));
    let page = json(&["--home", &user, "ledger", "blocks", "--from", "5", "--limit", "1", "--json"]);
    assert_eq!(
        (page[0]["height"].as_u64(), page[0]["pruned"].as_bool()),
        (Some(5), Some(true)),
        "its header stays: {page}"
    );
    let path = net.home("bundle.json");
    let proof = ["--home", &user, "ledger", "account", "me", "--proof", "--from", "5", "-o", &path];
    assert!(trullo(&proof).status.success(), "old headers still prove");
    let out = net.home("tables");
    let (code, line) = failure(&["--home", &user, "export", "--format", "jsonl", "-o", &out, "--json"]);
    assert!(code != 0 && line.contains("--from"), "an export over them does not pass for a whole one: {code} {line}");
    // A stopped home gives them up at once, and starts again.
    let storage = net.home("storage-1");
    net.kill("storage-1");
    let pruned = json(&["--home", &storage, "prune", "--keep", "64", "--json"]);
    assert!(pruned["removed"].as_u64() >= Some(8), "{pruned}");
    let again = json(&["--home", &storage, "prune", "--keep", "64", "--json"]);
    assert_eq!(again["removed"].as_u64(), Some(0), "{again}");
    net.start("storage-1");
    let height = net.height("user-1");
    until("it follows as before", SOON, || net.height("storage-1") > height);
    assert_eq!(
        json(&["--home", &net.home("validator-1"), "ledger", "block", "5", "--json"])["height"],
        5,
        "an archive has it"
    );
}

//! Validators that come and go on a running network, by the command line alone.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::Value;
use trullo::crypto::SecretKey;
use trullo::node::Handle;
use trullo::node::validator::Standing;
use trullo::types::{Amount, BlockHash, Epoch, Height, Round, View};
use trullo::wire::certificate::Statement;
use trullo::wire::{Accusation, Action, Evidence, Topic, VoteKind, encode};

use crate::cluster::{Cluster, PATIENCE};
use crate::processes::{Testnet, failure, json, trullo, until};

const SOON: Duration = Duration::from_secs(60);

/// A network of four validators, one storage node and two users, with short epochs.
fn network() -> Testnet {
    let net = Testnet { dir: tempfile::tempdir().expect("a temporary directory") };
    let counts = ["--validators", "4", "--storage", "1", "--users", "1"];
    let mut args =
        vec!["testnet", "up", "--dir", net.path(), "--epoch-blocks", "8", "--idle-interval-ms", "150", "--json"];
    args.extend(counts);
    json(&args);
    net
}

fn ask(net: &Testnet, name: &str, args: &[&str]) -> Value {
    let home = net.home(name);
    let mut all = vec!["--home", &home, "--json", "validator"];
    all.extend(args);
    json(&all)
}

/// A node's stake as another node sees it, if it has one.
fn stake(net: &Testnet, asked: &str, node: &str) -> Option<Value> {
    let stakes = ask(net, asked, &["status"])["stakes"].as_array().expect("a list").clone();
    stakes.into_iter().find(|stake| stake["node"] == node)
}

fn state(net: &Testnet, asked: &str, node: &str) -> String {
    let stake = stake(net, asked, node);
    stake.and_then(|stake| stake["state"].as_str().map(str::to_owned)).unwrap_or_else(|| "none".to_owned())
}

fn node_id(net: &Testnet, name: &str) -> String {
    ask(net, name, &["status"])["node"].as_str().expect("an id").to_owned()
}

/// Transfers on and on, until it is dropped.
struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Load {
    fn on(net: &Testnet) -> Self {
        let (stop, done) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (home, to) = (net.home("user-1"), net.account("validator-1"));
        let (until, count) = (stop.clone(), done.clone());
        let thread = std::thread::spawn(move || {
            while !until.load(Ordering::Relaxed) {
                let sent = trullo(&["--home", &home, "account", "transfer", &to, "1", "--json"]);
                assert!(sent.status.success(), "{}", String::from_utf8_lossy(&sent.stderr));
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { stop, done, thread: Some(thread) }
    }
    fn end(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().expect("it runs").join().expect("each transfer was final");
        self.done.load(Ordering::Relaxed)
    }
}

#[test]
fn a_fifth_validator_joins_under_load_one_leaves_and_then_two_of_the_first_four_may_die() {
    let net = network();
    let (fifth, first) = (node_id(&net, "storage-1"), node_id(&net, "validator-1"));
    let quorum = ask(&net, "user-1", &["quorum"]);
    assert_eq!((quorum["power"].as_u64(), quorum["quorum"].as_u64()), (Some(4), Some(3)), "{quorum}");
    let load = Load::on(&net);
    let trial = ask(&net, "storage-1", &["join", "--stake", "1000", "--dry-run"]);
    assert_eq!((trial["power_now"].as_u64(), trial["dry_run"].as_bool()), (Some(0), Some(true)), "{trial}");
    assert_eq!(state(&net, "user-1", &fifth), "none", "nothing was done");
    let joined = ask(&net, "storage-1", &["join", "--stake", "1000"]);
    assert_eq!(joined["registers"], true, "{joined}");
    until("the fifth votes", SOON, || state(&net, "user-1", &fifth) == "active");
    let quorum = ask(&net, "user-1", &["quorum"]);
    assert_eq!((quorum["power"].as_u64(), quorum["quorum"].as_u64()), (Some(5), Some(4)), "{quorum}");
    let left = ask(&net, "validator-1", &["leave"]);
    assert_eq!((left["power_then"].as_u64(), left["quorum_then"]["quorum"].as_u64()), (Some(0), Some(3)), "{left}");
    assert_eq!(failure(&["--home", &net.home("validator-1"), "validator", "leave"]).0, 8);
    until("the first is out", SOON, || matches!(state(&net, "user-1", &first).as_str(), "unbonding" | "none"));
    let transfers = load.end();
    assert!(transfers > 0, "there was load");
    // Of the first four only two are left: without the fifth nothing would be final any more.
    net.kill("validator-1");
    net.kill("validator-2");
    let height = net.height("user-1");
    let to = net.account("user-1");
    assert!(net.transfer("storage-1", &to, 5) > height);
    proves_offline(&net);
    // A restart of all finds the same set.
    for name in ["validator-3", "validator-4", "storage-1", "user-1"] {
        net.kill(name);
    }
    for name in ["validator-3", "validator-4", "storage-1", "user-1", "validator-2"] {
        net.start(name);
    }
    net.transfer("storage-1", &to, 6);
    let stake = stake(&net, "validator-2", &fifth).expect("a stake");
    assert_eq!(stake["stake"], 1_000, "{stake}");
    let back = stake_returns(&net, &first);
    assert!(back, "the stake of who left comes back");
}

fn stake_returns(net: &Testnet, node: &str) -> bool {
    until("the stake is back", SOON, || state(net, "user-1", node) == "none");
    true
}

/// A proof leads from the genesis over the changes of the validators.
fn proves_offline(net: &Testnet) {
    let (path, genesis, user) = (net.home("bundle.json"), net.home("genesis.json"), net.home("user-1"));
    let made = trullo(&["--home", &user, "ledger", "account", "me", "--proof", "-o", &path]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let proven = json(&["verify", &path, "--genesis", &genesis, "--json"]);
    assert_eq!(proven["verified"], true, "{proven}");
    assert!(proven["set_changes"].as_u64() >= Some(2), "{proven}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_validator_that_contradicts_itself_loses_its_place_and_a_part_of_its_stake() {
    let mut cluster = Cluster::new(5, 0, 1);
    cluster.start_all().await;
    cluster.reach(1).await;
    let (chain, user) = (cluster.genesis.chain_id(), cluster.handle("user-1"));
    let key = SecretKey::from_seed(&[5; 32]);
    let node = key.public().node_id();
    assert_eq!(cluster.handle("validator-5").identity().node, node);
    let vote = |block: u8| {
        let (round, block) = (Round::new(Epoch::ZERO, View::new(1)), BlockHash::from_bytes([block; 32]));
        let said = Statement::Vote { kind: VoteKind::Commit, round, height: Height::new(1), block };
        (said, said.sign(&chain, &key))
    };
    let evidence = Evidence { node, first: vote(1), second: vote(2) };
    // Any node may tell; validators put it on the chain by themselves.
    let accusation = Accusation::Contradiction(evidence);
    user.net().gossip(Topic::Evidence, encode(&accusation)).expect("room for a command");
    let mut tips = user.reader().watch();
    let out = async {
        loop {
            let standing = Standing::read(&user).expect("a readable state");
            let punished = standing.stakes.iter().find(|stake| stake.node == node).is_some_and(|stake| stake.punished);
            if punished && standing.set.iter().all(|entry| entry.node != node) {
                return standing;
            }
            tips.changed().await.expect("it runs on");
        }
    };
    let standing = tokio::time::timeout(PATIENCE, out).await.expect("the others make it final");
    let stake = standing.stakes.iter().find(|stake| stake.node == node).map(|stake| stake.staked.get());
    assert_eq!((standing.set.len(), stake), (4, Some(900)));
    is_told_and_proves_itself(&cluster, &user, &node.to_string()).await;
    cluster.stop("validator-1").await;
    let to = cluster.member("validator-2").keys.account_id();
    let action = Action::Transfer { to, amount: Amount::new(1), memo: String::new() };
    user.act(action, PATIENCE).await.expect("three of the four that are left go on");
    cluster.stop_all().await;
}

/// Who was punished can be asked for, and the proof of it checked by whoever has it, without a network.
async fn is_told_and_proves_itself(cluster: &Cluster, user: &Handle, node: &str) {
    let server = trullo::api::serve(user.clone(), "127.0.0.1:0".parse().expect("an address"), "secret").await;
    let server = server.expect("the API listens");
    let http = reqwest::Client::new();
    let ask = async |path: &str| {
        let asked = http.get(format!("http://{}{path}", server.address)).bearer_auth("secret").send().await;
        asked.expect("an answer").text().await.expect("text")
    };
    let listed: Value = serde_json::from_str(&ask("/v1/evidence").await).expect("JSON");
    let offence = &listed["offences"][0];
    assert_eq!(
        (&offence["node"], &offence["offence"], &offence["lost"]),
        (&node.into(), &"contradiction".into(), &100.into())
    );
    let dir = tempfile::tempdir().expect("a directory");
    let path = |name: &str| dir.path().join(name).to_str().expect("UTF-8").to_owned();
    let (file, genesis) = (path("evidence.json"), path("genesis.json"));
    let proof = ask(&format!("/v1/evidence/{node}")).await;
    std::fs::write(&file, &proof).expect("written");
    std::fs::write(&genesis, trullo::config::genesis::write(&cluster.genesis)).expect("written");
    let proven = json(&["evidence", "verify", &file, "--genesis", &genesis, "--json"]);
    assert_eq!((&proven["node"], &proven["chain_compared"]), (&node.into(), &true.into()), "{proven}");
    // Once is enough, also for who submits it by hand.
    let again = http.post(format!("http://{}/v1/evidence", server.address)).bearer_auth("secret");
    let again = again.header("content-type", "application/json").body(proof.clone()).send().await.expect("an answer");
    assert_eq!(again.status(), 409, "{:?}", again.text().await);
    std::fs::write(&file, proof.replace(&cluster.genesis.chain_id().to_string(), &"1".repeat(64))).expect("written");
    let (code, said) = failure(&["evidence", "verify", &file]);
    assert!(code == 7 && said.contains("has not signed this"), "{code}: {said}");
    server.finish().await;
}

/// A node that the test runs itself.
struct Own(Child);

impl Drop for Own {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn private(path: &str, text: &str) {
    let mut file = std::fs::File::create(path).expect("a file");
    file.set_permissions(std::fs::Permissions::from_mode(0o600)).expect("a private file");
    file.write_all(text.as_bytes()).expect("written");
}

#[test]
fn a_new_key_takes_the_place_of_a_validators_old_one() {
    let net = network();
    let (old, home) = (node_id(&net, "validator-4"), net.home("new"));
    let password = net.dir.path().join("validator-4").join("password");
    let password = password.to_str().expect("UTF-8");
    let words = json(&["--home", &net.home("validator-4"), "--json", "account", "phrase", "--password-file", password]);
    private(&net.home("words"), words["phrase"].as_str().expect("24 words"));
    private(&net.home("pw"), "a new password\n");
    let (words, pw, genesis) = (net.home("words"), net.home("pw"), net.home("genesis.json"));
    let init = ["--home", &home, "--json", "init", "--name", "v4b", "--role", "validator", "--genesis", &genesis];
    let rest = ["--recover", "--phrase-file", &words, "--password-file", &pw];
    json(&[init.as_slice(), rest.as_slice()].concat());
    let sets = ["--set", "net.listen=/ip4/127.0.0.1/tcp/0", "--set", "api.listen=127.0.0.1:0"];
    let run = ["--home", &home, "node", "run", "--password-file", &pw];
    let child = Command::new(env!("CARGO_BIN_EXE_trullo"))
        .args(run)
        .args(sets)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let _own = Own(child.expect("the node runs"));
    let ready = || {
        let seen = trullo(&["--home", &home, "--json", "ledger", "status"]);
        let view: Value = serde_json::from_slice(&seen.stdout).unwrap_or_default();
        view["height"].as_u64().is_some_and(|height| height > 3 && height + 2 >= net.height("user-1"))
    };
    until("the new node follows", SOON, ready);
    let rotate = ["--home", &home, "--json", "validator", "rotate-key", "--from", &old];
    let asked = json(&rotate);
    let new = asked["node"].as_str().expect("an id").to_owned();
    assert_eq!((asked["power_then"].as_u64(), asked["registers"].as_bool()), (Some(1), Some(true)), "{asked}");
    until("the new key votes", SOON, || state(&net, "user-1", &new) == "active");
    assert_eq!(state(&net, "user-1", &old), "none");
    // With the old node and another one gone, the new key's vote is needed.
    net.kill("validator-4");
    net.kill("validator-1");
    net.transfer("user-1", &net.account("storage-1"), 3);
    let (code, line) = failure(&rotate);
    assert_eq!(code, 8, "{line}");
}

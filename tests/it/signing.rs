//! One key, one signer: copied homes, restored backups, lost and older records, over whole nodes.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use redb::ReadableTable;
use serde_json::Value;
use trullo::node::Handle;
use trullo::node::chain::own::Silence;
use trullo::node::validator::Standing;
use trullo::store::{Options, Quarantine, Store};
use trullo::types::Millis;

use crate::cluster::{Cluster, PATIENCE};
use crate::processes::{Testnet, failure, json, trullo, until};

const SOON: Duration = Duration::from_secs(60);

/// Four validators whose epochs, and so their quarantines, are short.
fn quick() -> Cluster {
    Cluster::with(4, 0, 0, |genesis| {
        (genesis.epoch_blocks, genesis.timing.idle_interval) = (8, Millis::new(100));
        genesis.storage = trullo::ledger::record::StorageParams::usual(8);
    })
}

/// Waits until a node says this of its silence, and that it did not vote meanwhile.
async fn silent_until(node: &Handle, what: &str, good: impl Fn(Option<Silence>) -> bool) {
    let mut tips = node.reader().watch();
    let wait = async {
        loop {
            if let Some(status) = node.status() {
                if good(status.silence) {
                    return;
                }
                assert!(!status.core.voting, "{what}: it votes in {}", status.core.round);
            }
            tips.changed().await.expect("it runs on");
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{what}: {:?}", node.status()));
}

/// Waits until a node is heard to vote.
async fn votes(node: &Handle) {
    let mut tips = node.reader().watch();
    let wait = async {
        while !node.status().is_some_and(|status| status.core.voting) {
            tips.changed().await.expect("it runs on");
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("it does not vote: {:?}", node.status()));
}

/// Nobody was caught, by anyone.
fn is_clean(cluster: &Cluster, name: &str) {
    let standing = Standing::read(&cluster.handle(name)).expect("a readable state");
    assert!(standing.stakes.iter().all(|stake| !stake.punished), "nobody contradicted itself");
    assert_eq!(cluster.handle(name).metrics().evidence.get(), 0, "no evidence was gossiped");
}

fn quarantined(why: Quarantine) -> impl Fn(Option<Silence>) -> bool {
    move |silence| silence == Some(Silence::Quarantined(why))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copied_home_beside_the_original_follows_and_never_signs() {
    let mut cluster = quick();
    cluster.start_all().await;
    cluster.reach(3).await;
    cluster.stop("validator-2").await;
    cluster.copy_home("validator-2", "copy");
    let original = cluster.start("validator-2").await;
    votes(&original).await;
    let copy = cluster.start("copy").await;
    silent_until(&copy, "it is a copy", quarantined(Quarantine::Copied)).await;
    silent_until(&copy, "it hears the original", quarantined(Quarantine::Twin)).await;
    assert!(!copy.status().expect("it runs").core.voting);
    assert!(original.status().expect("it runs").core.voting, "the original goes on");
    // What it has found out lasts, and a further start does not ask anew.
    drop(copy);
    cluster.stop("copy").await;
    let store = Store::open(&cluster.home("copy").join("node.redb"), &Options::default()).expect("a database");
    let signer = store.signer().expect("the key");
    assert_eq!(signer.quarantine(), Some(Quarantine::Twin));
    assert!(signer.seen().highest().is_some(), "it remembers how far the other has signed");
    is_clean(&cluster, "validator-1");
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_is_put_back_in_place_is_noticed_before_the_first_signature() {
    let mut cluster = quick();
    cluster.start_all().await;
    cluster.reach(3).await;
    cluster.stop("validator-2").await;
    let path = cluster.home("validator-2").join("node.redb");
    let old = std::fs::read(&path).expect("the database");
    let later = cluster.start("validator-2").await;
    votes(&later).await;
    let height = later.reader().tip().expect("a tip").height.get();
    cluster.reach(height + 8).await;
    // A handle keeps the database open.
    drop(later);
    cluster.stop("validator-2").await;
    // The same file, as after a snapshot of the machine: neither its place nor its birth tell.
    std::fs::write(&path, old).expect("written over");
    let back = cluster.start("validator-2").await;
    silent_until(&back, "others hold its later votes", quarantined(Quarantine::RolledBack)).await;
    let signed = back.status().expect("it runs").signed.highest().expect("it knows of its votes");
    silent_until(&back, "nobody else signs", |silence| silence.is_none()).await;
    votes(&back).await;
    assert!(back.status().expect("it runs").core.round > signed, "above all that it signed before");
    is_clean(&cluster, "validator-1");
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_original_that_comes_back_after_its_copy_signed_is_silent_and_says_why() {
    let mut cluster = quick();
    cluster.start_all().await;
    cluster.reach(3).await;
    cluster.stop("validator-2").await;
    cluster.copy_home("validator-2", "copy");
    let copy = cluster.start("copy").await;
    silent_until(&copy, "it hears nobody", |silence| silence.is_none()).await;
    votes(&copy).await;
    let height = copy.reader().tip().expect("a tip").height.get();
    cluster.reach(height + 8).await;
    let original = cluster.start("validator-2").await;
    silent_until(&original, "others hold votes of the copy", |silence| {
        matches!(silence, Some(Silence::Quarantined(Quarantine::RolledBack | Quarantine::Twin)))
    })
    .await;
    silent_until(&original, "the copy goes on", quarantined(Quarantine::Twin)).await;
    assert!(copy.status().expect("it runs").core.voting, "one of the two votes");
    is_clean(&cluster, "validator-1");
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_copies_that_start_together_hear_of_each_other_and_neither_signs() {
    let mut cluster = quick();
    cluster.start_all().await;
    cluster.reach(3).await;
    cluster.stop("validator-2").await;
    cluster.copy_home("validator-2", "copy-1");
    cluster.copy_home("validator-2", "copy-2");
    let (one, two) = (cluster.start("copy-1").await, cluster.start("copy-2").await);
    silent_until(&one, "the other asks too", quarantined(Quarantine::Twin)).await;
    silent_until(&two, "the other asks too", quarantined(Quarantine::Twin)).await;
    is_clean(&cluster, "validator-1");
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn validators_that_all_restart_at_once_vote_again_without_waiting_for_each_other() {
    let mut cluster = quick();
    cluster.start_all().await;
    cluster.reach(3).await;
    cluster.stop_all().await;
    cluster.start_all().await;
    for number in 1..=4 {
        votes(&cluster.handle(&format!("validator-{number}"))).await;
    }
    let height = cluster.handle("validator-1").reader().tip().expect("a tip").height.get();
    cluster.reach(height + 3).await;
    is_clean(&cluster, "validator-1");
    cluster.stop_all().await;
}

/// A node that the test runs itself, beside those of the testnet.
struct Own(Child);

impl Own {
    fn run(home: &str, password: &str) -> Self {
        let sets = ["--set", "net.listen=/ip4/127.0.0.1/tcp/0", "--set", "api.listen=127.0.0.1:0"];
        let log = std::fs::File::create(Path::new(home).join("own.log")).expect("a log");
        let child = Command::new(env!("CARGO_BIN_EXE_trullo"))
            .args(["--home", home, "node", "run", "--password-file", password])
            .args(sets)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        Self(child.expect("the node runs"))
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn network() -> Testnet {
    let net = Testnet { dir: tempfile::tempdir().expect("a temporary directory") };
    let counts = ["--validators", "4", "--storage", "0", "--users", "1"];
    let mut args =
        vec!["testnet", "up", "--dir", net.path(), "--epoch-blocks", "8", "--idle-interval-ms", "100", "--json"];
    args.extend(counts);
    json(&args);
    net
}

fn signing(home: &str) -> Value {
    json(&["--home", home, "--json", "validator", "signing", "export"])
}

/// Why a running node signs nothing, by its own word.
fn reason(home: &str) -> String {
    let seen = trullo(&["--home", home, "--json", "validator", "status"]);
    let view: Value = serde_json::from_slice(&seen.stdout).unwrap_or_default();
    view["signing"].as_str().unwrap_or_default().to_owned()
}

fn no_one_is_punished(net: &Testnet) {
    let status = json(&["--home", &net.home("user-1"), "--json", "validator", "status"]);
    let stakes = status["stakes"].as_array().expect("a list");
    assert!(stakes.len() == 4 && stakes.iter().all(|stake| stake["punished"] == false), "{status}");
}

#[test]
fn a_backup_of_a_running_validator_comes_back_and_votes_after_it_has_listened() {
    let net = network();
    let (home, again, backup) = (net.home("validator-2"), net.home("again"), net.home("backup"));
    let made = json(&["--home", &home, "--json", "backup", "create", &backup]);
    assert!(made["files"].as_u64() >= Some(5), "{made}");
    assert_eq!(failure(&["--home", &home, "backup", "create", &backup]).0, 8);
    let checked = json(&["--json", "backup", "verify", &backup]);
    assert_eq!((&checked["bytes"], &checked["node"]), (&made["bytes"], &made["node"]));
    let before = signing(&home);
    net.kill("validator-2");
    json(&["--home", &again, "--json", "backup", "restore", &backup]);
    assert_eq!(failure(&["--home", &again, "backup", "restore", &backup]).0, 8, "a home is never overwritten");
    assert_eq!(signing(&again)["quarantine"], "restored");
    let state = net.home("state.json");
    std::fs::write(&state, before.to_string()).expect("written");
    let imported = json(&["--home", &again, "--json", "validator", "signing", "import", &state]);
    assert_eq!(imported["signing"]["quarantine"], "restored", "an import ends no quarantine");
    let password = format!("{home}/password");
    let _own = Own::run(&again, &password);
    until("it says that it was restored", SOON, || reason(&again).contains("restored from a backup"));
    // Without it, and with another one gone, nothing would be final.
    until("it signs again", SOON, || {
        reason(&again).is_empty() && trullo(&["--home", &again, "validator", "status"]).status.success()
    });
    net.kill("validator-3");
    net.transfer("user-1", &net.account("validator-1"), 1);
    no_one_is_punished(&net);
}

#[test]
fn a_copied_home_in_a_process_of_its_own_is_told_and_released_by_word_alone() {
    let net = network();
    let (home, copy) = (net.home("validator-2"), net.home("copy"));
    net.kill("validator-2");
    let copied = Command::new("cp").args(["-r", &home, &copy]).status().expect("cp");
    assert!(copied.success());
    let running = failure(&["--home", &net.home("validator-1"), "validator", "signing", "release", "--yes"]);
    assert_eq!(running.0, 11, "{}", running.1);
    net.start("validator-2");
    let own = Own::run(&copy, &format!("{home}/password"));
    until("it hears the original", SOON, || reason(&copy).contains("another process signs with the node key"));
    assert_eq!(reason(&home), "", "the original goes on");
    no_one_is_punished(&net);
    drop(own);
    assert_eq!(signing(&copy)["quarantine"], "twin");
    let refused = failure(&["--home", &copy, "validator", "signing", "release"]);
    assert_eq!(refused.0, 13, "{}", refused.1);
    let released = json(&["--home", &copy, "--json", "validator", "signing", "release", "--yes"]);
    assert_eq!(released["was"], "twin");
    assert_eq!(failure(&["--home", &copy, "validator", "signing", "release", "--yes"]).0, 9);
    // By a wrong word: the original still runs, and its votes are what the others tell of.
    let _own = Own::run(&copy, &format!("{home}/password"));
    until("it is silent again", SOON, || reason(&copy).contains("the node key"));
    no_one_is_punished(&net);
}

/// A home of a network of its own that has never run.
fn solo(dir: &Path) -> (String, String) {
    use std::os::unix::fs::PermissionsExt as _;
    let at = |name: &str| dir.join(name).to_str().expect("UTF-8").to_owned();
    std::fs::write(at("pw"), "a password\n").expect("written");
    std::fs::set_permissions(at("pw"), std::fs::Permissions::from_mode(0o600)).expect("own file");
    json(&["--home", &at("home"), "--json", "init", "--name", "solo", "--password-file", &at("pw")]);
    (at("home"), at("pw"))
}

#[test]
fn a_lower_watermark_changes_nothing_and_anothers_is_refused() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (home, _) = solo(dir.path());
    let state = dir.path().join("state.json");
    let path = state.to_str().expect("UTF-8");
    let import = |change: &dyn Fn(&mut Value)| {
        let mut view = signing(&home);
        change(&mut view);
        std::fs::write(&state, view.to_string()).expect("written");
        trullo(&["--home", &home, "--json", "validator", "signing", "import", path])
    };
    let raised = |out: &std::process::Output| {
        let view: Value = serde_json::from_slice(&out.stdout).unwrap_or_default();
        (out.status.code(), view["raised"].as_bool())
    };
    let set = |epoch: u64, view: u64| {
        move |state: &mut Value| state["watermarks"]["commit"] = serde_json::json!({ "epoch": epoch, "view": view })
    };
    assert_eq!(raised(&import(&set(3, 7))), (Some(0), Some(true)));
    for (epoch, view) in [(3, 7), (3, 6), (2, 900), (0, 0)] {
        assert_eq!(raised(&import(&set(epoch, view))), (Some(0), Some(false)), "{epoch}.{view}");
        assert_eq!(signing(&home)["watermarks"]["commit"], serde_json::json!({ "epoch": 3, "view": 7 }));
    }
    assert_eq!(raised(&import(&|state| state["watermarks"]["commit"] = Value::Null)), (Some(0), Some(false)));
    assert_eq!(import(&|state| state["node"] = "00".repeat(32).into()).status.code(), Some(13));
    assert_eq!(import(&|state| state["chain"] = "00".repeat(32).into()).status.code(), Some(13));
    assert_eq!(import(&|state| state["version"] = 2.into()).status.code(), Some(13));
    assert_eq!(import(&|state| state["surplus"] = 2.into()).status.code(), Some(7));
    assert_eq!(failure(&["--home", &home, "validator", "signing", "export", path]).0, 8, "nothing is overwritten");
}

type SignerTable<'txn> = redb::Table<'txn, &'static str, &'static [u8]>;

#[test]
fn a_home_without_its_safety_record_refuses_and_says_what_to_do() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (home, password) = solo(dir.path());
    let table: redb::TableDefinition<&str, &[u8]> = redb::TableDefinition::new("signer.v1");
    let harm = |harm: &dyn Fn(&mut SignerTable<'_>)| {
        let db = redb::Database::open(Path::new(&home).join("node.redb")).expect("a database");
        let txn = db.begin_write().expect("a write");
        harm(&mut txn.open_table(table).expect("a table"));
        txn.commit().expect("a commit");
    };
    let refuses = |what: &str| {
        let run = ["--home", &home, "node", "run", "--password-file", &password];
        let (code, line) = failure(&run);
        assert_eq!(code, 13, "{what}: {line}");
        let (code, line) = failure(&["--home", &home, "validator", "signing", "release", "--yes"]);
        assert_eq!(code, 13, "{what}: a word is no record: {line}");
        let said = trullo(&run);
        let text = String::from_utf8_lossy(&said.stderr).into_owned();
        assert!(text.contains("backup restore") && text.contains("rotate-key"), "{what}: {text}");
    };
    harm(&|signer| {
        let mut row = signer.get("signer").expect("readable").expect("the row").value().to_vec();
        row[3] ^= 1;
        signer.insert("signer", row.as_slice()).expect("a write");
    });
    refuses("a changed row");
    harm(&|signer| drop(signer.remove("signer").expect("a write")));
    refuses("a removed row");
}

//! Files and other accounts: shares, capabilities, checks without a key, accounts that come back. Each account has its own
//! node, and all is done by the command line.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use trullo::crypto::keys::AccountKeys;
use trullo::ledger::{Key, Record};
use trullo::node::NodeError;
use trullo::node::files::get::OpenFile;
use trullo::node::files::{access, verify};
use trullo::types::{FileId, Height};
use trullo::wire::Action;

use crate::cluster::{Cluster, PATIENCE};
use crate::nodes::{get_bytes, put_bytes, sample};
use crate::processes::{Testnet, failure, json, trullo, until, write_sample};

const SOON: Duration = Duration::from_secs(30);

/// One validator, four storage nodes, and so many users; ten blocks a second at rest.
fn network(users: &str) -> Testnet {
    let net = Testnet { dir: tempfile::tempdir().expect("a temporary directory") };
    let nodes = ["--validators", "1", "--storage", "4", "--users", users, "--idle-interval-ms", "100"];
    json(&[["testnet", "up", "--dir", net.path()].as_slice(), &nodes, &["--json"]].concat());
    net
}

/// A command of a user.
fn as_user(net: &Testnet, user: u8, args: &[&str]) -> Value {
    json(&[["--home", &net.home(&format!("user-{user}"))].as_slice(), args, &["--json"]].concat())
}

/// A command of a user that fails: its exit code and its error.
fn refused(net: &Testnet, user: u8, args: &[&str]) -> (i32, Value) {
    let home = net.home(&format!("user-{user}"));
    let (code, line) = failure(&[["--home", &home].as_slice(), args, &["--json"]].concat());
    (code, serde_json::from_str(&line).unwrap_or_default())
}

fn account(net: &Testnet, user: u8) -> String {
    net.account(&format!("user-{user}"))
}

/// Puts a file of a user; its id and its bytes.
fn put(net: &Testnet, user: u8, name: &str, len: usize) -> (String, Vec<u8>) {
    let path = net.dir.path().join(name);
    let bytes = write_sample(&path, len);
    let path = path.to_str().expect("UTF-8");
    // A slot on each of the four.
    let done = as_user(net, user, &["put", path, "--data-shards", "2", "--parity-shards", "2"]);
    assert_eq!(done["status"], "final", "{done}");
    (done["file_id"].as_str().expect("an id").to_owned(), bytes)
}

/// What a user gets, if it does.
fn got(net: &Testnet, user: u8, args: &[&str]) -> Option<Vec<u8>> {
    let out = trullo(&[["--home", &net.home(&format!("user-{user}")), "get", "-q"].as_slice(), args].concat());
    out.status.success().then_some(out.stdout)
}

/// A file that only its owner reads.
fn private(path: &Path, text: &str) -> String {
    std::fs::write(path, text).expect("a written file");
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o600)).expect("own file");
    path.to_str().expect("UTF-8").to_owned()
}

#[test]
fn a_shared_file_is_listed_and_read_by_that_account_alone_until_it_is_unshared() {
    let net = network("3");
    let (id, bytes) = put(&net, 1, "photo.jpg", 1_500_000);
    let (two, three) = (account(&net, 2), account(&net, 3));
    let (code, error) = refused(&net, 2, &["get", &id, "-o", "-"]);
    assert!(code == 12 && error["hint"].as_str().is_some_and(|hint| hint.contains("trullo share")), "{error}");
    as_user(&net, 1, &["share", "photo.jpg", &two]);
    let listed = |user| as_user(&net, user, &["ls", "--shared"]);
    until("the share is on its node", SOON, || listed(2)[0]["file"] == id);
    assert_eq!((&listed(2)[0]["name"], &listed(2)[0]["bytes"]), (&"photo.jpg".into(), &1_500_000.into()));
    assert_eq!(listed(2)[0]["owner"], account(&net, 1));
    for named in [id.as_str(), &id[..12], "photo.jpg"] {
        assert!(got(&net, 2, &[named, "-"]) == Some(bytes.clone()), "{named}");
    }
    assert!(
        got(&net, 2, &["photo.jpg", "-", "--range", "700000..700010"]).as_deref() == Some(&bytes[700_000..700_010])
    );
    let shares = as_user(&net, 1, &["shares", "photo.jpg"]);
    assert_eq!((&shares["mine"][0]["account"], shares["mine"][0]["until"].as_u64()), (&two.clone().into(), None));
    // It is on the ledger that the file exists and whose it is, so the third is told "not allowed", not "not found".
    assert_eq!(listed(3), Value::Array(Vec::new()));
    assert_eq!(refused(&net, 3, &["get", &id, "-o", "-"]).0, 12);
    assert_eq!(refused(&net, 3, &["cap", &id]).0, 12);
    assert_eq!(refused(&net, 2, &["share", &id, &three]).0, 12, "only the owner shares");
    assert_eq!(refused(&net, 3, &["unshare", &id, &two]).0, 8, "the ledger keeps others from ending it");
    as_user(&net, 1, &["unshare", "photo.jpg", &two]);
    until("the share is gone from its node", SOON, || listed(2) == Value::Array(Vec::new()));
    assert_eq!(refused(&net, 2, &["get", &id, "-o", "-"]).0, 12);
    assert_eq!(refused(&net, 2, &["get", "photo.jpg", "-o", "-"]).0, 4, "no such name any more");
    assert_eq!(refused(&net, 1, &["unshare", "photo.jpg", &two]).0, 4);
    as_user(&net, 1, &["share", "photo.jpg", &two]);
    until("the share is on its node", SOON, || listed(2)[0]["file"] == id);
    as_user(&net, 2, &["unshare", &id, "me"]);
    assert_eq!(as_user(&net, 1, &["shares"])["mine"], Value::Array(Vec::new()), "who was given it gave it back");
}

#[test]
fn a_share_is_over_after_its_height_and_with_its_file() {
    let net = network("2");
    let (id, bytes) = put(&net, 1, "plan.txt", 50_000);
    let two = account(&net, 2);
    let height = net.height("user-1");
    let last = (height + 60).to_string();
    as_user(&net, 1, &["share", &id, &two, "--until", &last]);
    until("the share is there", SOON, || got(&net, 2, &[&id, "-"]) == Some(bytes.clone()));
    until("its time is up", SOON, || net.height("user-2") > height + 60);
    let (code, error) = refused(&net, 2, &["get", &id, "-o", "-"]);
    let message = error["message"].as_str().unwrap_or_default();
    assert!(code == 12 && message.contains(&format!("until height {last}")), "{error}");
    assert_eq!(as_user(&net, 2, &["ls", "--shared"]), Value::Array(Vec::new()));
    assert_eq!(as_user(&net, 1, &["shares"])["mine"][0]["over"], true);
    assert_eq!(refused(&net, 1, &["share", &id, &two, "--until", "1"]).0, 8);
    as_user(&net, 1, &["share", &id, &two, "--expires", "7d"]);
    let share = &as_user(&net, 1, &["shares"])["mine"][0];
    let (in_s, week) = (share["until_in_s"].as_u64().expect("a time"), 7 * 24 * 3_600);
    assert!(share["over"] == false && (week * 9 / 10..week * 11 / 10).contains(&in_s), "{share}");
    until("the share is there again", SOON, || got(&net, 2, &[&id, "-"]) == Some(bytes.clone()));
    as_user(&net, 1, &["rm", &id]);
    until("the share ends with the file", SOON, || {
        as_user(&net, 2, &["shares"])["with_me"] == Value::Array(Vec::new())
    });
    assert_eq!(refused(&net, 2, &["get", &id, "-o", "-"]).0, 4);
}

#[test]
fn a_capability_reads_with_any_account_and_a_verify_capability_checks_and_mends_and_reads_nothing() {
    let net = network("2");
    let (id, bytes) = put(&net, 1, "song.ogg", 2_000_000);
    let read = as_user(&net, 1, &["cap", "song.ogg"])["capability"].as_str().expect("a text").to_owned();
    let verify = as_user(&net, 1, &["cap", "song.ogg", "--verify"])["capability"].as_str().expect("a text").to_owned();
    assert_eq!(refused(&net, 2, &["get", &id, "-o", "-"]).0, 12);
    let path = private(&net.dir.path().join("song.cap"), &format!("{read}\n"));
    assert!(got(&net, 2, &["--cap-file", &path, "-o", "-"]) == Some(bytes.clone()));
    assert!(got(&net, 2, &[&read, "-"]) == Some(bytes));
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).expect("own file");
    assert_eq!(refused(&net, 2, &["get", "--cap-file", &path, "-o", "-"]).0, 12, "others can read the file");
    assert_eq!(refused(&net, 2, &["get", &read[..read.len() - 1], "-o", "-"]).0, 2);
    assert_eq!(refused(&net, 2, &["get", &verify, "-o", "-"]).0, 12);
    let whole = as_user(&net, 2, &["file", "verify", &verify]);
    assert_eq!((&whole["file"], &whole["whole"], &whole["consistent"]), (&id.into(), &true.into(), &true.into()));
    let (damaged, gone) = (slot_file(&net, "storage-1"), slot_file(&net, "storage-2"));
    let mut slot = std::fs::read(&damaged).expect("a slot");
    slot[70_000] ^= 1;
    std::fs::write(&damaged, slot).expect("a damaged slot");
    std::fs::remove_file(&gone).expect("a slot");
    let out = trullo(&["--home", &net.home("user-2"), "file", "verify", &verify, "--json"]);
    let report: Value = serde_json::from_slice(&out.stdout).expect("a report");
    let state = |node: &str| {
        let slots = report["slots"].as_array().expect("slots");
        slots.iter().find(|slot| slot["node_name"] == node).map(|slot| slot["state"].clone())
    };
    assert_eq!(out.status.code(), Some(7), "{report}");
    assert_eq!((state("storage-1"), state("storage-2")), (Some("lacking".into()), Some("lacking".into())), "{report}");
    assert_eq!((state("storage-3"), state("storage-4")), (Some("whole".into()), Some("whole".into())), "{report}");
    let mended = as_user(&net, 2, &["file", "verify", &verify, "--repair", "--timeout", "60s"]);
    assert_eq!((&mended["whole"], &mended["consistent"]), (&true.into(), &true.into()), "{mended}");
    net.kill("storage-4");
    let out = trullo(&["--home", &net.home("user-2"), "file", "verify", &verify, "--json"]);
    let report: Value = serde_json::from_slice(&out.stdout).expect("a report");
    let away = report["slots"].as_array().expect("slots").iter().filter(|slot| slot["state"] == "unreachable").count();
    assert_eq!((out.status.code(), away), (Some(7), 1), "{report}");
}

/// The file of the only slot that a storage node holds.
fn slot_file(net: &Testnet, node: &str) -> PathBuf {
    let mut found = None;
    let mut left = vec![net.dir.path().join(node).join("slots")];
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry")) {
            let (path, name) = (entry.path(), entry.file_name());
            match path.is_dir() {
                true => left.push(path),
                false if name.len() == 64 => found = Some(path),
                false => {}
            }
        }
    }
    found.expect("it holds a slot")
}

/// A node of its own beside the network, ended with the test.
struct Beside(Child);

impl Drop for Beside {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn an_account_comes_back_on_a_fresh_machine_by_its_words_and_reads_its_files() {
    let net = network("1");
    let (id, bytes) = put(&net, 1, "diary.txt", 300_000);
    let (user, me) = (net.home("user-1"), account(&net, 1));
    let words = trullo(&["--home", &user, "account", "phrase", "--password-file", &format!("{user}/password")]);
    assert!(words.status.success() && String::from_utf8_lossy(&words.stderr).contains("has the account"));
    let words = String::from_utf8(words.stdout).expect("words");
    assert_eq!(words.split_whitespace().count(), 24);
    let path = |name: &str| net.dir.path().join(name);
    let bootstrap = bootstrap(&user);
    let password = private(&path("pw"), "another\n");
    let fresh = net.home("fresh");
    let init = |words: &str| {
        let words = private(&path("words"), words);
        let genesis = net.home("genesis.json");
        let args = ["--home", &fresh, "init", "--name", "fresh", "--genesis", &genesis, "--bootstrap", &bootstrap];
        trullo(&[args.as_slice(), &["--recover", "--phrase-file", &words, "--password-file", &password]].concat())
    };
    let first = words.split_whitespace().next().expect("a word");
    let typo = init(&words.replacen(first, &format!("{first}q"), 1));
    let said = String::from_utf8_lossy(&typo.stderr).into_owned();
    assert!(typo.status.code() == Some(2) && said.contains("word 1") && said.contains(first), "{said}");
    let short = init(&words[first.len()..]);
    assert!(short.status.code() == Some(2) && String::from_utf8_lossy(&short.stderr).contains("23 words"));
    assert!(!Path::new(&fresh).exists(), "words that are wrong leave nothing behind");
    let made = init(&words);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    net.kill("user-1");
    let node = Command::new(env!("CARGO_BIN_EXE_trullo"))
        .args(["--home", &fresh, "node", "run", "--password-file", &password])
        .stderr(Stdio::null())
        .spawn();
    let _node = Beside(node.expect("it starts"));
    let listed = || {
        let out = trullo(&["--home", &fresh, "ls", "--json"]);
        serde_json::from_slice::<Value>(&out.stdout).is_ok_and(|files| files[0]["name"] == "diary.txt")
    };
    until("its files are listed", SOON, listed);
    let back = || trullo(&["--home", &fresh, "get", "-q", &id, "-o", "-"]).stdout;
    until("its files are read", SOON, || back() == bytes);
    assert_eq!(json(&["--home", &fresh, "account", "show", "--json"])["id"], me);
}

/// An address of the network, as a user's configuration has it.
fn bootstrap(home: &str) -> String {
    let config = std::fs::read_to_string(Path::new(home).join("config.toml")).expect("a configuration");
    let config: toml::Table = config.parse().expect("TOML");
    config["net"]["bootstrap"][0].as_str().expect("an address").to_owned()
}

#[test]
fn a_new_password_writes_one_blob_however_many_files_there_are() {
    let net = network("1");
    for n in 0..4 {
        put(&net, 1, &format!("file-{n}"), 20_000);
    }
    let user = net.home("user-1");
    let old = format!("{user}/password");
    json(&["--home", &user, "account", "new", "savings", "--password-file", &old, "--json"]);
    net.kill("user-1");
    let before = contents(Path::new(&user));
    let new = private(&net.dir.path().join("new"), "longer\n");
    json(&[
        "--home",
        &user,
        "account",
        "passwd",
        "default",
        "--password-file",
        &old,
        "--new-password-file",
        &new,
        "--json",
    ]);
    let after = contents(Path::new(&user));
    assert!(before.keys().eq(after.keys()), "no file comes or goes");
    let changed: Vec<_> = before.iter().filter(|(path, file)| after.get(*path) != Some(*file)).collect();
    let [(path, file)] = changed.as_slice() else { panic!("{:?}", changed.iter().map(|(p, _)| p).collect::<Vec<_>>()) };
    assert!(path.ends_with("keystore.json"));
    let (old, new) = (String::from_utf8_lossy(file), String::from_utf8_lossy(&after[*path]));
    let lines: Vec<_> = old.lines().zip(new.lines()).filter(|(old, new)| old != new).collect();
    assert!(old.len() == new.len() && lines.len() == 1 && lines[0].0.contains("\"keystore\""), "one blob of two");
}

/// Every file below a directory.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").path()) {
        match entry.is_dir() {
            true => found.append(&mut contents(&entry)),
            false => _ = found.insert(entry.clone(), std::fs::read(&entry).expect("own file")),
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_that_holds_something_else_than_the_key_harms_nobody() {
    let mut cluster = Cluster::new(1, 3, 2);
    cluster.start_all().await;
    let keys = |cluster: &Cluster, name: &str| -> AccountKeys {
        cluster.members.iter().find(|member| member.name == name).expect("a member").keys.clone()
    };
    let (owner, reader) = (cluster.handle("user-1"), cluster.handle("user-2"));
    let me = keys(&cluster, "user-2").account_id();
    let bytes = sample(100_000);
    let file: FileId = put_bytes(&owner, bytes.clone()).await.expect("stored").file;
    for sealed in [Vec::new(), vec![7; 104], vec![0; 128]] {
        let share = Action::ShareFile { file, to: me, sealed, until: None };
        let height = owner.act(share, PATIENCE).await.expect("the ledger cannot look inside").place.height;
        cluster.reach(height.get()).await;
        let page = access::shared_with_me(&reader, None, 10).expect("a list");
        assert_eq!((page.files.len(), page.files[0].0, page.next), (1, file, None));
        assert!(matches!(OpenFile::open(&reader, file), Err(NodeError::Verification(_))));
    }
    let until = Some(Height::new(1 << 40));
    let height = access::share(&owner, file, me, until, PATIENCE).await.expect("shared").place.height;
    cluster.reach(height.get()).await;
    assert!(matches!(reader.record(&Key::Share(me, file)), Ok(Some(Record::Share { until: u, .. })) if u == until));
    assert!(get_bytes(&reader, file, None).await.expect("readable") == bytes);
    let report = verify::verify(&reader, file, None).await.expect("a report");
    assert!(report.is_whole(), "{report:?}");
    cluster.stop_all().await;
}

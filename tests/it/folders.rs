//! Folders through the command line, as a user has them: what comes back, what is interrupted, what others can see.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::processes::{Testnet, failure, json, trullo, until, write_sample};

/// A name that is nowhere else.
const MARKER: &str = "dauntless-marker-of-a-name";

/// What is told of one entry: kind and content, mode, and time of the last change.
type Told = (String, u32, (i64, i64));

/// Everything in a directory, by its path.
fn tree(dir: &Path) -> BTreeMap<PathBuf, Told> {
    let (mut all, mut open) = (BTreeMap::new(), vec![dir.to_owned()]);
    while let Some(path) = open.pop() {
        let meta = std::fs::symlink_metadata(&path).expect("an entry");
        let what = if meta.is_symlink() {
            format!("to {}", std::fs::read_link(&path).expect("a link").display())
        } else if meta.is_dir() {
            open.extend(std::fs::read_dir(&path).expect("a directory").map(|entry| entry.expect("an entry").path()));
            "a directory".to_owned()
        } else {
            blake3::hash(&std::fs::read(&path).expect("a file")).to_hex().to_string()
        };
        let mode = if meta.is_symlink() { 0 } else { meta.mode() & 0o777 };
        let rest = path.strip_prefix(dir).expect("below").to_owned();
        all.insert(rest, (what, mode, (meta.mtime(), meta.mtime_nsec())));
    }
    all
}

fn utf8(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
    std::fs::write(path, text).expect("a written file");
}

/// The account's transactions so far.
fn actions(net: &Testnet, user: &str) -> u64 {
    let view = json(&["--home", user, "ledger", "account", &net.account("user-1"), "--json"]);
    view["nonce"].as_u64().expect("a nonce")
}

fn listed(user: &str, path: &str) -> Vec<String> {
    let out = trullo(&["--home", user, "ls", "-R", path, "--json"]);
    let entries: Vec<Value> = serde_json::from_slice(&out.stdout).unwrap_or_default();
    let files = entries.iter().filter(|entry| entry["kind"] == "file");
    files.map(|entry| entry["path"].as_str().expect("a path").to_owned()).collect()
}

/// Runs a command until `enough` says that it is in the middle, and kills it.
fn killed(args: &[&str], what: &str, enough: impl FnMut() -> bool) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trullo"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().expect("the program runs");
    until(what, Duration::from_secs(60), enough);
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a process id");
    kill_process(pid, Signal::KILL).expect("it still runs");
    child.wait().expect("it ends");
}

/// Files below a directory in whose bytes a text stands.
fn that_hold(dir: &Path, text: &str) -> Vec<PathBuf> {
    let (mut found, mut open) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(std::fs::read_dir(&path).expect("a directory").map(|entry| entry.expect("an entry").path()));
        } else {
            let bytes = std::fs::read(&path).unwrap_or_default();
            if bytes.windows(text.len()).any(|window| window == text.as_bytes()) {
                found.push(path);
            }
        }
    }
    found
}

#[test]
fn a_directory_comes_back_as_it_was_and_a_second_put_sends_nothing_and_no_name_is_seen_elsewhere() {
    let net = Testnet::up(1, 3, 1);
    let (user, dir) = (net.home("user-1"), net.dir.path());
    let (source, back) = (dir.join("source"), dir.join("back"));
    write(&source.join(MARKER).join("notes.txt"), "a note");
    write(&source.join("deep/er/ünï ☃ %20&+.txt"), "unicode");
    write(&source.join("zero"), "");
    write_sample(&source.join("large"), 2_500_000);
    std::fs::create_dir(source.join("empty folder")).expect("a directory");
    symlink("../large", source.join("deep/link")).expect("a link");
    symlink("/etc/passwd", source.join("absolute")).expect("a link");
    std::fs::set_permissions(source.join("zero"), std::fs::Permissions::from_mode(0o640)).expect("a mode");
    let old = std::fs::File::open(source.join("large")).expect("a file");
    old.set_modified(std::time::UNIX_EPOCH + Duration::from_nanos(1_234_567_891_234_567_891)).expect("a time");
    let put = ["--home", &user, "put", "-r", utf8(&source), "/docs", "--json"];
    let first = json(&put);
    assert_eq!((&first["sent"], &first["failed"]), (&4.into(), &0.into()), "{first}");
    json(&["--home", &user, "gc", "--json"]);
    let before = actions(&net, &user);
    let second = json(&put);
    assert_eq!((&second["sent"], &second["updated"], &second["unchanged"]), (&0.into(), &0.into(), &11.into()));
    assert_eq!(actions(&net, &user), before, "nothing goes to the ledger");
    json(&["--home", &user, "get", "-r", "/docs", utf8(&back), "--json"]);
    assert_eq!(tree(&back), tree(&source));
    let alone = json(&["--home", &user, "ls", "--json"]);
    assert_eq!(alone, Value::Array(Vec::new()), "what folders hold is not listed as standing alone");
    let zero = json(&["--home", &user, "ls", "-R", "/docs", "--json"]);
    let held =
        zero.as_array().expect("a list").iter().find_map(|entry| entry["content"]["pieces"][0]["file_id"].as_str());
    let (code, line) = failure(&["--home", &user, "rm", held.expect("a stored file")]);
    assert!(code == 8 && line.contains("remove its path"), "{line}");
    let check = json(&["--home", &user, "verify", "/docs", "--read", "--json"]);
    assert_eq!((&check["whole"], &check["objects"], &check["files"]), (&3.into(), &3.into(), &4.into()), "{check}");
    for node in ["validator-1", "storage-1", "storage-2", "storage-3"] {
        assert_eq!(that_hold(&dir.join(node), MARKER), Vec::<PathBuf>::new(), "a name in clear at {node}");
    }
    assert!(!that_hold(&source.join(MARKER), "a note").is_empty(), "the search finds what is there");
    refusals(&user, dir, &source, &back);
}

/// What cannot be, each with its code; and what is not UTF-8 does not hold up the rest.
fn refusals(user: &str, dir: &Path, source: &Path, back: &Path) {
    let odd = source.join(std::ffi::OsStr::from_bytes(b"odd \xff"));
    std::fs::write(&odd, "odd").expect("a written file");
    write(&source.join("new"), "new");
    let out = trullo(&["--home", user, "put", "-r", utf8(source), "/docs"]);
    let told = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.code() == Some(3) && told.contains("its name is not UTF-8"), "{told}");
    assert!(listed(user, "/docs").contains(&"/docs/new".to_owned()));
    std::fs::remove_file(&odd).expect("it goes");
    // A link that leads out of the directory is not written through.
    let outside = dir.join("outside");
    std::fs::create_dir(&outside).expect("a directory");
    std::fs::remove_dir_all(back.join("deep")).expect("it goes");
    symlink(&outside, back.join("deep")).expect("a link");
    let (code, _) = failure(&["--home", user, "get", "-r", "/docs", utf8(back)]);
    assert!(code == 3 && std::fs::read_dir(&outside).expect("a directory").count() == 0);
    let cases: [(&[&str], i32); 7] = [
        (&["put", utf8(source), "/docs"], 2),
        (&["get", "/docs"], 2),
        (&["get", "/nowhere"], 4),
        (&["rm", "/docs"], 8),
        (&["mv", "/docs", "/docs/below"], 2),
        (&["mkdir", "/docs/zero/below"], 8),
        (&["ls", "/a/../b"], 2),
    ];
    for (args, code) in cases {
        let (have, line) = failure(&[&["--home", user], args].concat());
        assert_eq!(have, code, "{args:?}: {line}");
    }
}

#[test]
fn a_put_and_a_get_of_a_directory_that_are_killed_anywhere_leave_nothing_half_and_go_on() {
    let net = Testnet::up(1, 3, 1);
    let (user, dir) = (net.home("user-1"), net.dir.path());
    let (source, back) = (dir.join("source"), dir.join("back"));
    std::fs::create_dir(&source).expect("a directory");
    for n in 0..90 {
        let bytes = write_sample(&source.join(format!("{n:02}")), 20_000 + n * 3_000);
        assert!(!bytes.is_empty());
    }
    let put = ["--home", &user, "put", "-r", utf8(&source), "/docs", "--json"];
    killed(&put, "some are there", || listed(&user, "/docs").len() > 5);
    let there = listed(&user, "/docs");
    assert!(there.len() < 90, "it was killed in the middle");
    let check = json(&["--home", &user, "verify", "/docs", "--read", "--json"]);
    assert_eq!((&check["files"], &check["bad"]), (&check["whole"], &Value::Array(Vec::new())), "{check}");
    // The node goes in the middle of the next run; the command says so.
    let mut child = Command::new(env!("CARGO_BIN_EXE_trullo"));
    let mut child = child.args(put).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the program runs");
    until("more are there", Duration::from_secs(60), || listed(&user, "/docs").len() > there.len());
    net.kill("user-1");
    assert_eq!(child.wait().expect("it ends").code(), Some(5));
    net.start("user-1");
    let done = json(&put);
    let all = |name: &str| done[name].as_u64().expect("a number");
    assert!(all("unchanged") >= there.len() as u64 && all("sent") + all("resumed") < 90, "{done}");
    assert_eq!(listed(&user, "/docs").len(), 90);
    // What the killed ones left behind is found, and what is in use is not touched.
    json(&["--home", &user, "gc", "--older-than", "0s", "--json"]);
    let again = json(&["--home", &user, "gc", "--older-than", "0s", "--json"]);
    assert_eq!((&again["deleted"], &again["failed"]), (&0.into(), &0.into()));
    let get = ["--home", &user, "get", "-r", "/docs", utf8(&back), "--json"];
    let whole = || {
        let names = std::fs::read_dir(&back).into_iter().flatten().map(|entry| entry.expect("an entry").file_name());
        names.filter(|name| !name.to_string_lossy().ends_with(".part")).collect::<Vec<_>>()
    };
    killed(&get, "some have come", || whole().len() > 3);
    for name in whole() {
        assert!(std::fs::read(back.join(&name)).expect("a file") == std::fs::read(source.join(&name)).expect("a file"));
    }
    json(&get);
    let parts = tree(&back).into_keys().filter(|path| utf8(path).ends_with(".part")).count();
    assert_eq!((parts, tree(&back) == tree(&source)), (0, true));
}

#[test]
fn a_folder_follows_its_directory_keeps_versions_and_is_moved_and_removed() {
    let net = Testnet::up(1, 3, 1);
    let (user, dir) = (net.home("user-1"), net.dir.path());
    let source = dir.join("source");
    for n in 1..=3 {
        write(&source.join("notes"), &format!("content {n}"));
        write(&source.join(format!("only {n}")), "x");
        json(&["--home", &user, "sync", utf8(&source), "/docs", "--keep", "1", "--json"]);
        std::fs::remove_file(source.join(format!("only {n}"))).expect("it goes");
    }
    assert_eq!(listed(&user, "/docs"), ["/docs/notes", "/docs/only 1", "/docs/only 2", "/docs/only 3"]);
    let sync = ["--home", &user, "sync", utf8(&source), "/docs", "--delete", "--json"];
    json(&["--home", &user, "gc", "--json"]);
    let before = actions(&net, &user);
    let dry = json(&[&sync[..], &["--dry-run"]].concat());
    assert_eq!((&dry["removed"], &dry["dry_run"]), (&3.into(), &true.into()), "{dry}");
    assert_eq!((actions(&net, &user), listed(&user, "/docs").len()), (before, 4), "nothing was changed");
    assert_eq!(json(&sync)["removed"], 3);
    assert_eq!(listed(&user, "/docs"), ["/docs/notes"]);
    let versions = json(&["--home", &user, "versions", "/docs/notes", "--json"]);
    let numbers: Vec<_> = versions.as_array().expect("a list").iter().map(|v| v["version"].as_u64()).collect();
    assert_eq!(numbers, [Some(3), Some(2)]);
    let old = trullo(&["--home", &user, "get", "/docs/notes", "-", "--version", "2"]);
    assert_eq!(old.stdout, b"content 2");
    json(&["--home", &user, "restore", "/docs/notes", "2", "--json"]);
    assert_eq!(trullo(&["--home", &user, "get", "/docs/notes", "-"]).stdout, b"content 2");
    // The directory has another content, so it is compared and sent.
    assert_eq!(json(&sync)["sent"], 1);
    let home = ["--home", &user];
    let part = trullo(&[&home[..], &["get", "/docs/notes", "-", "--range", "3..7"]].concat());
    assert_eq!(part.stdout, b"tent");
    assert_eq!(json(&[&home[..], &["file", "health", "/docs/notes", "--json"]].concat())["status"], "final");
    assert_eq!(failure(&[&home[..], &["rm", "-r", "/"]].concat()).0, 13);
    json(&["--home", &user, "mv", "/docs", "/archive/docs", "--json"]);
    json(&["--home", &user, "mkdir", "/docs", "--json"]);
    json(&["--home", &user, "mv", "/archive/docs/notes", "/docs", "--json"]);
    assert_eq!(listed(&user, "/"), ["/docs/notes"]);
    let sums = json(&["--home", &user, "du", "/docs", "--json"]);
    assert_eq!((&sums[1]["bytes"], &sums[1]["files"]), (&9.into(), &1.into()), "{sums}");
    assert_eq!(failure(&["--home", &user, "versions", "/docs/other"]).0, 4);
    net.kill("storage-1");
    net.kill("storage-2");
    let (code, line) = failure(&["--home", &user, "verify", "/docs", "--read", "--json"]);
    assert!(code == 7 && line.contains("2 of 2"), "what cannot be read is told: {code} {line}");
    net.start("storage-1");
    net.start("storage-2");
    json(&["--home", &user, "rm", "-r", "/docs", "--json"]);
    assert_eq!(listed(&user, "/"), Vec::<String>::new());
}

//! What an unlucky user meets at the command line: odd sizes, odd ranges, interruptions, damaged homes.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::processes::{Testnet, failure, json, trullo, until, write_sample};

fn utf8(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

fn put(user: &str, path: &Path) -> String {
    let view = json(&["--home", user, "put", utf8(path), "--json"]);
    assert_eq!(view["status"], "final");
    view["file_id"].as_str().expect("an id").to_owned()
}

#[test]
fn files_of_every_odd_size_and_ranges_at_their_edges_come_back_through_the_command_line() {
    let net = Testnet::up(1, 3, 1);
    let user = net.home("user-1");
    let (source, back) = (net.dir.path().join("source"), net.dir.path().join("back"));
    let chunk = 512 * 1024;
    for len in [0, 1, chunk - 1, chunk, chunk + 1] {
        let bytes = write_sample(&source, len);
        let id = put(&user, &source);
        json(&["--home", &user, "get", &id, "-f", "-o", utf8(&back), "--json"]);
        assert!(std::fs::read(&back).expect("a file") == bytes, "{len} bytes");
        let whole = trullo(&["--home", &user, "get", &id, "-"]);
        assert!(whole.stdout == bytes, "{len} bytes on stdout");
        let last = format!("{}..", len.saturating_sub(1));
        let part = trullo(&["--home", &user, "get", &id, "-", "--range", &last]);
        assert!(part.status.success() && part.stdout == bytes[len.saturating_sub(1)..], "{last} of {len}");
        let beyond = format!("0..{}", len + 1);
        assert_eq!(failure(&["--home", &user, "get", &id, "-", "--range", &beyond]).0, 2);
    }
    let (code, line) = failure(&["--home", &user, "get", "source", "-o", utf8(&back)]);
    assert!(code == 8 && line.contains("give the id"), "{line}");
    refusals(&net, &user, &source, &back);
}

/// Requests that cannot be, each with its code and what to do.
fn refusals(net: &Testnet, user: &str, source: &Path, back: &Path) {
    let id = put(user, source);
    let dir = net.dir.path();
    let nowhere = dir.join("no such directory").join("out");
    let cases: [(&[&str], i32, &str); 8] = [
        (&["get", &id, "-o", utf8(back)], 8, "-f"),
        (&["get", &id, "-f", "-o", utf8(dir)], 2, "give a file"),
        (&["get", &id, "-o", utf8(&nowhere)], 2, "mkdir"),
        (&["get", &id, "-", "--range", "7..7"], 2, "--help"),
        (&["put", utf8(dir)], 2, "tar"),
        (&["put", utf8(&nowhere)], 4, "check the path"),
        (&["put", "/proc/self/status"], 2, "put -"),
        (&["ledger", "tx", "xyz"], 2, "64 hexadecimal digits"),
    ];
    for (args, code, advice) in cases {
        let (have, line) = failure(&[&["--home", user], args].concat());
        assert!(have == code && line.contains(advice), "{args:?}: {have} {line}");
    }
    assert!(trullo(&["--home", user, "rm", &id]).status.success());
    for verb in ["rm", "get"] {
        let (code, line) = failure(&["--home", user, verb, &id]);
        assert!(code == 4 && line.contains("is gone"), "{verb}: {code} {line}");
    }
}

/// Runs a command until `enough` says that it is in the middle, sends the signal, and gives the exit code.
fn interrupted(args: &[&str], signal: Signal, what: &str, enough: impl FnMut() -> bool) -> Option<i32> {
    let mut child = Command::new(env!("CARGO_BIN_EXE_trullo"))
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program runs");
    until(what, Duration::from_secs(30), enough);
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a process id");
    kill_process(pid, signal).expect("it still runs");
    child.wait().expect("it ends").code()
}

#[test]
fn a_put_and_a_get_that_were_interrupted_go_on_where_they_were() {
    let net = Testnet::up(1, 3, 1);
    let user = net.home("user-1");
    let (source, back) = (net.dir.path().join("source"), net.dir.path().join("back"));
    let bytes = write_sample(&source, 40_000_000);
    let put = ["--home", &user, "put", utf8(&source), "--json"];
    let arrived = || bytes_in(&PathBuf::from(net.home("storage-1")).join("slots/tmp")) > 1_000_000;
    assert_eq!(interrupted(&put, Signal::INT, "a part was sent", arrived), Some(130));
    let done = json(&put);
    assert!(done["status"] == "final" && done["resumed_bytes"].as_u64() > Some(500_000), "{done}");
    let id = done["file_id"].as_str().expect("an id");
    let get = ["--home", &user, "get", id, "-o", utf8(&back), "--json"];
    let part = net.dir.path().join(format!("back.{}.part", &id[..16]));
    let len = || std::fs::metadata(&part).map_or(0, |meta| meta.len());
    assert_eq!(interrupted(&get, Signal::INT, "a part has come", || len() > 1_000_000), Some(130));
    let had = len();
    assert_eq!(interrupted(&get, Signal::KILL, "a further part has come", || len() > had + 1_000_000), None);
    net.kill("user-1");
    net.start("user-1");
    let got = json(&get);
    assert!(got["resumed_bytes"].as_u64() > Some(had), "{got}");
    assert!(std::fs::read(&back).expect("a file") == bytes);
}

fn bytes_in(dir: &Path) -> u64 {
    let files = std::fs::read_dir(dir).into_iter().flatten().flatten();
    files.filter_map(|file| file.metadata().ok()).map(|meta| meta.len()).sum()
}

fn cut(path: &Path) {
    let len = std::fs::metadata(path).expect("a file").len();
    std::fs::File::options().write(true).open(path).and_then(|file| file.set_len(len / 2)).expect("a cut file");
}

fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).expect("a file");
    bytes.iter_mut().step_by(997).for_each(|byte| *byte ^= 0x10);
    std::fs::write(path, bytes).expect("a damaged file");
}

fn empty(path: &Path) {
    std::fs::write(path, []).expect("an empty file");
}

fn remove(path: &Path) {
    std::fs::remove_file(path).expect("a removed file");
}

fn other(path: &Path) {
    std::fs::write(path, "other").expect("another file");
}

#[test]
fn a_damaged_home_is_told_in_a_line_with_what_to_do_and_a_code_of_its_own() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let net = dir.path().join("net");
    let arguments = ["--validators", "1", "--storage", "0", "--users", "1", "--json"];
    json(&[&["testnet", "up", "--dir", utf8(&net)], &arguments[..]].concat());
    json(&["testnet", "down", "--dir", utf8(&net), "--json"]);
    let home = net.join("user-1");
    type Harm = fn(&Path);
    let cases: [(&str, Harm, i32, &str); 17] = [
        ("node.redb", flip, 7, "node.redb is damaged"),
        ("node.redb", cut, 7, "restore it from a backup"),
        ("node.redb", remove, 10, "restore it from a backup"),
        ("local.redb", flip, 7, "local.redb is damaged"),
        ("local.redb", empty, 7, "restore it from a backup"),
        ("keystore.json", cut, 7, "restore it from a backup"),
        ("keystore.json", remove, 4, "comes back from a backup"),
        ("password", other, 12, "try again"),
        ("password", remove, 4, "comes back from a backup"),
        ("api.token", empty, 7, "remove it"),
        ("config.toml", other, 2, "config.toml"),
        ("config.toml", empty, 2, "config.toml"),
        ("config.toml", remove, 10, "make it again"),
        ("genesis.json", cut, 2, "operator again"),
        ("genesis.json", remove, 4, "comes back from a backup"),
        ("node.redb", other, 7, "restore it from a backup"),
        ("local.redb", cut, 7, "local.redb is damaged"),
    ];
    for (name, harm, code, advice) in cases {
        let path = home.join(name);
        let good = std::fs::read(&path).expect("a file of the home");
        let permissions = std::fs::metadata(&path).expect("a file of the home").permissions();
        harm(&path);
        let (have, line) = failure(&["--home", utf8(&home), "node", "run", "--json"]);
        let told: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{name}: {line}"));
        assert!(have == code && line.contains(advice), "{name}: {have} {line}");
        let message = told["message"].as_str().expect("a message");
        assert!(message.lines().count() == 1 && !message.contains("panicked"), "{name}: {message}");
        std::fs::write(&path, good).expect("the good bytes");
        std::fs::set_permissions(&path, permissions).expect("as it was");
    }
    json(&[&["testnet", "up", "--dir", utf8(&net)], &arguments[..]].concat());
    json(&["testnet", "down", "--dir", utf8(&net), "--json"]);
}

//! Quorum settings over real processes: who has to confirm a file, what happens when they do not, and what they owe when they
//! are back.

use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::processes::{Testnet, failure, json, trullo, until, write_sample};

const PATIENCE: Duration = Duration::from_secs(60);

/// What a run said: exit code, JSON on the last line of stdout, last line of stderr.
fn run(args: &[&str]) -> (i32, Value, Value) {
    let out = trullo(args);
    let last = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes).into_owned();
        serde_json::from_str(text.trim_end().lines().last().unwrap_or_default()).unwrap_or(Value::String(text))
    };
    (out.status.code().unwrap_or(-1), last(&out.stdout), last(&out.stderr))
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no text {key}: {value}"))
}

fn stat(user: &str, id: &str) -> Value {
    json(&["--home", user, "stat", id, "--json"])
}

/// Whether the file comes back as it was put.
fn reads(net: &Testnet, id: &str, bytes: &[u8]) -> bool {
    let back = net.dir.path().join(format!("back-{id}"));
    let got = trullo(&["--home", &net.home("user-1"), "get", id, "-f", "-o", back.to_str().expect("UTF-8")]);
    got.status.success() && std::fs::read(&back).expect("a file") == bytes
}

fn sample(net: &Testnet, name: &str, len: usize) -> (String, Vec<u8>) {
    let path = net.dir.path().join(name);
    let bytes = write_sample(&path, len);
    (path.to_str().expect("UTF-8").to_owned(), bytes)
}

#[test]
fn a_network_of_one_storage_node_confirms_alone_and_impossible_settings_are_refused_with_their_bounds() {
    let net = Testnet::up(1, 1, 1);
    let (user, (path, bytes)) = (net.home("user-1"), sample(&net, "in", 400_000));
    let put = json(&["--home", &user, "put", &path, "--json"]);
    let numbers = ["data", "parity", "quorum", "confirmations", "repair_threshold"].map(|key| put[key].as_u64());
    assert_eq!(numbers, [1, 0, 1, 1, 0].map(Some), "{put}");
    assert_eq!(text(&put, "status"), "final");
    assert!(reads(&net, text(&put, "file_id"), &bytes));
    let wrong = |args: &[&str]| {
        let (code, line) = failure(&[&["--home", &user, "put", &path], args].concat());
        assert_eq!(code, 2, "{args:?}: {line}");
        String::from_utf8_lossy(&trullo(&[&["--home", &user, "put", &path], args].concat()).stderr).into_owned()
    };
    let three = ["--data-shards", "2", "--parity-shards", "1"];
    for (setting, have, bounds) in [
        ("--min-confirmations", "1", "min_confirmations is 1; with 2 data and 1 parity shards 2 to 3 are possible"),
        ("--success-threshold", "2", "success_threshold is 2; with 2 data and 1 parity shards 3 to 3 are possible"),
        ("--repair-threshold", "3", "repair_threshold is 3; with 2 data and 1 parity shards 2 to 2 are possible"),
        ("--quorum-percent", "0", "a whole percentage from 1 to 100, or a fraction such as 2/3"),
        ("--epochs", "0", "epochs is 0; 1 to"),
        ("--timeout", "1ms", "timeout_ms is 1; 100 to 3600000 are possible"),
        ("--chunk-size", "1KiB", "chunk_size is 1024; 262144 to 16777216 are possible"),
    ] {
        let said = wrong(&[&three[..], &[setting, have]].concat());
        assert!(said.contains(bounds), "{setting} {have}: {said}");
    }
    assert_eq!(json(&["--home", &user, "ls", "--json"]).as_array().map(Vec::len), Some(1));
}

#[test]
fn two_of_three_make_a_file_final_without_the_node_that_died_whose_slot_follows() {
    let net = Testnet::up(1, 3, 1);
    let (user, (path, bytes)) = (net.home("user-1"), sample(&net, "in", 3_000_000));
    net.kill("storage-2");
    let two_thirds = ["--data-shards", "2", "--parity-shards", "1", "--quorum-percent", "2/3", "--json"];
    let put = json(&[&["--home", &user, "put", &path][..], &two_thirds].concat());
    assert_eq!(
        (text(&put, "status"), put["quorum"].as_u64(), put["confirmations"].as_u64()),
        ("final", Some(2), Some(2))
    );
    assert_eq!(text(&put["missing"][0], "node_name"), "storage-2", "{put}");
    let id = text(&put, "file_id").to_owned();
    assert!(reads(&net, &id, &bytes));
    net.start("storage-2");
    until("the missing slot follows by itself", PATIENCE, || stat(&user, &id)["confirmations"] == 3);
    net.kill("storage-1");
    assert!(reads(&net, &id, &bytes), "readable after a node died that had confirmed");
}

#[test]
fn a_file_without_its_majority_is_pending_with_names_and_becomes_final_by_itself() {
    let net = Testnet::up(1, 3, 1);
    let (user, (path, bytes)) = (net.home("user-1"), sample(&net, "in", 1_500_000));
    for name in ["storage-1", "storage-3"] {
        net.kill(name);
    }
    let shards = ["--data-shards", "2", "--parity-shards", "1", "--quorum-percent", "67"];
    refused_before_the_input_is_read(&user, &shards);
    assert_eq!(json(&["--home", &user, "ls", "--json"]).as_array().map(Vec::len), Some(0), "nothing is on the ledger");

    let (code, put, error) = run(&[&["--home", &user, "put", &path, "--json"], &shards[..]].concat());
    assert_eq!((code, text(&put, "status"), put["confirmations"].as_u64()), (6, "pending", Some(1)), "{put}");
    assert_eq!(put["pending"]["by_itself"], true, "{put}");
    let names: Vec<_> = put["missing"].as_array().expect("a list").iter().map(|one| text(one, "node_name")).collect();
    assert_eq!(names.len(), 2);
    assert!(names.contains(&"storage-1") && names.contains(&"storage-3"), "{put}");
    assert!(text(&error, "message").contains("becomes final by itself when 1 of the missing nodes"), "{error}");
    let id = text(&put, "file_id").to_owned();

    let plain = trullo(&[&["--home", &user, "put", &path, "--name", "again"], &shards[..]].concat());
    let (out, talk) = (String::from_utf8_lossy(&plain.stdout), String::from_utf8_lossy(&plain.stderr));
    assert_eq!((plain.status.code(), out.trim().len()), (Some(6), 64), "{talk}");
    for part in ["storage-1 (", "storage-3 (", "its slot is kept here", "until height"] {
        assert!(talk.contains(part), "{part:?} in {talk}");
    }
    let again = out.trim().to_owned();
    for name in ["storage-1", "storage-3"] {
        net.start(name);
    }
    for id in [&id, &again] {
        until("final and complete by itself", PATIENCE, || {
            let now = stat(&user, id);
            text(&now, "status") == "final" && now["confirmations"] == 3
        });
        assert!(reads(&net, id, &bytes));
    }
}

/// A put that must not be pending ends although its input never does.
fn refused_before_the_input_is_read(user: &str, shards: &[&str]) {
    let args = [&["--home", user, "put", "-", "--name", "x", "--allow-pending", "false", "--json"], shards].concat();
    let command =
        Command::new(env!("CARGO_BIN_EXE_trullo")).args(args).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut put = command.expect("the program runs");
    let input = put.stdin.take().expect("a pipe");
    until("it ends", PATIENCE, || put.try_wait().expect("a child").is_some());
    drop(input);
    let out = put.wait_with_output().expect("its output");
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(6), "{said}");
    for part in ["2 of 3 storage nodes have to confirm", "storage-1 (", "storage-3 (", "nothing is on the ledger"] {
        assert!(said.contains(part), "{part:?} in {said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_majority_that_dies_in_the_middle_of_an_upload_gets_the_rest_when_it_is_back() {
    let net = Testnet::up(1, 3, 1);
    let user = net.home("user-1");
    let (_, bytes) = sample(&net, "in", 24_000_000);
    let (sender, body) = futures::channel::mpsc::unbounded::<Result<bytes::Bytes, std::io::Error>>();
    let (first, second) = bytes.split_at(bytes.len() / 2);
    let read = |name: &str| std::fs::read_to_string(format!("{user}/{name}")).expect("a file of the home");
    let query = "name=large&data_shards=2&parity_shards=1&quorum_percent=2/3";
    let url = format!("http://{}/v1/files?{query}", read("api.addr").trim());
    let request = reqwest::Client::new().post(url).bearer_auth(read("api.token").trim());
    let request = request.header("content-length", bytes.len()).body(reqwest::Body::wrap_stream(body));
    let put = tokio::spawn(async move { request.send().await.expect("an answer").text().await.expect("a body") });
    let send = |part: &[u8]| {
        for piece in part.chunks(1 << 20) {
            sender.unbounded_send(Ok(bytes::Bytes::copy_from_slice(piece))).expect("it listens");
        }
    };
    send(first);
    let homes = ["storage-1", "storage-3"].map(|name| net.home(name));
    tokio::task::block_in_place(|| {
        for home in &homes {
            until("it has a part of its slot", PATIENCE, || uploaded(home) > 5_000_000);
        }
        net.kill("storage-1");
        net.kill("storage-3");
    });
    send(second);
    drop(sender);
    let put: Value = serde_json::from_str(&put.await.expect("it ends")).expect("JSON");
    assert_eq!((text(&put, "status"), put["confirmations"].as_u64()), ("pending", Some(1)), "{put}");
    assert_eq!(put["pending"]["by_itself"], true, "{put}");
    let spool = std::path::Path::new(&user).join("spool");
    let kept = || std::fs::read_dir(&spool).expect("a directory").flatten().collect::<Vec<_>>();
    let slot = 12_000_000;
    let small = |entry: &std::fs::DirEntry| entry.metadata().is_ok_and(|meta| meta.len() < slot * 3 / 4);
    assert!(kept().len() == 2 && kept().iter().all(small), "only the ends of the slots are kept: {:?}", kept());
    let id = text(&put, "file_id").to_owned();
    tokio::task::block_in_place(|| {
        net.start("storage-1");
        net.start("storage-3");
        until("final and complete by itself", PATIENCE, || {
            let now = stat(&user, &id);
            text(&now, "status") == "final" && now["confirmations"] == 3
        });
        assert!(reads(&net, &id, &bytes));
        until("nothing is kept any more", PATIENCE, || kept().is_empty());
    });
}

/// Bytes of unfinished uploads at a storage node.
fn uploaded(home: &str) -> u64 {
    let entries = std::fs::read_dir(format!("{home}/slots/tmp")).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|meta| meta.len()).sum()
}

#[test]
fn twenty_uploads_at_once_all_finish_and_each_is_whole() {
    let net = Testnet::up(1, 4, 1);
    let user = net.home("user-1");
    let files: Vec<_> = (0..20).map(|n| sample(&net, &format!("in-{n}"), n * n * 3_001)).collect();
    let put = |path: &String| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_trullo"));
        command.args(["--home", &user, "put", path, "-q"]).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("the program runs")
    };
    let running: Vec<_> = files.iter().map(|(path, _)| put(path)).collect();
    let mut ids = std::collections::BTreeSet::new();
    for (put, (path, bytes)) in running.into_iter().zip(&files) {
        let out = put.wait_with_output().expect("its output");
        assert!(out.status.success(), "{path}: {}", String::from_utf8_lossy(&out.stderr));
        let id = String::from_utf8(out.stdout).expect("UTF-8").trim().to_owned();
        assert!(reads(&net, &id, bytes), "{path}");
        ids.insert(id);
    }
    assert_eq!(ids.len(), 20);
}

#[test]
fn a_name_that_several_files_have_is_an_error_that_lists_them() {
    let net = Testnet::up(1, 1, 1);
    let user = net.home("user-1");
    let mut ids = Vec::new();
    for len in [1_000, 2_000] {
        let (path, _) = sample(&net, &format!("in-{len}"), len);
        let put = json(&["--home", &user, "put", &path, "--name", "twice", "--json"]);
        ids.push(text(&put, "file_id")[..16].to_owned());
    }
    let (code, _, error) = run(&["--home", &user, "get", "twice", "-o", "-", "--json"]);
    assert_eq!(code, 8, "{error}");
    let said = text(&error, "message");
    for part in ["2 files are named", &ids[0], &ids[1], "1000 B", "2.0 KiB", "put 20"] {
        assert!(said.contains(part), "{part:?} in {said}");
    }
    assert!(text(&error, "hint").contains("give the id of one of them"), "{error}");
    assert_eq!(trullo(&["--home", &user, "get", &ids[1], "-o", "-"]).stdout.len(), 2_000);
}

#[test]
fn fifty_nodes_hold_a_file_and_one_put_while_a_third_of_them_is_away_becomes_final_when_they_are_back() {
    let net = Testnet::up(1, 50, 1);
    let (user, (path, bytes)) = (net.home("user-1"), sample(&net, "in", 1_000_000));
    let settings = ["--data-shards", "34", "--parity-shards", "16", "--timeout", "60s", "--json"];
    let put = |name: &str| run(&[&["--home", &user, "put", &path, "--name", name][..], &settings].concat());
    let (code, first, error) = put("first");
    assert_eq!((code, text(&first, "status"), first["quorum"].as_u64()), (0, "final", Some(42)), "{first} {error}");

    let names: Vec<_> = (1..=16).map(|number| format!("storage-{number}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let all = |verb| json(&[&["testnet", verb, "--dir", net.path(), "--json"], &names[..]].concat());
    all("kill");
    assert!(reads(&net, text(&first, "file_id"), &bytes));
    let (code, second, _) = put("second");
    assert_eq!((code, text(&second, "status")), (6, "pending"), "{second}");
    assert_eq!((second["confirmations"].as_u64(), second["missing"].as_array().map(Vec::len)), (Some(34), Some(16)));
    all("start");
    let id = text(&second, "file_id");
    until("the file is final by itself", Duration::from_secs(120), || stat(&user, id)["status"] == "final");
    assert!(reads(&net, id, &bytes));
}

//! Partitions of real processes: what the sides say, take and make final, and what happens when the links are back.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::processes::{Testnet, failure, json, trullo, until, write_sample};

/// A side without a quorum says so within this.
const TOLD_WITHIN: Duration = Duration::from_secs(20);
/// Two views of the longest kind: a testnet's views take eight seconds at the most.
const BACK_WITHIN: Duration = Duration::from_secs(16);
/// What a script ends with when the machine has not what it needs.
const MISSING: i32 = 77;

fn status(net: &Testnet, name: &str) -> Value {
    json(&["--home", &net.home(name), "ledger", "status", "--json"])
}

fn is_missing(status: &Value, names: &[&str]) -> bool {
    let missing = status["network"]["missing"].as_array().expect("a list");
    let mut missing: Vec<_> = missing.iter().filter_map(|missing| missing["name"].as_str()).collect();
    missing.sort_unstable();
    missing == names
}

fn is_partitioned(net: &Testnet, name: &str, missing: &[&str]) -> bool {
    let status = status(net, name);
    status["network"]["state"] == "partitioned" && is_missing(&status, missing)
}

/// What a node on a side without a quorum says, takes and shows.
fn stands_still(net: &Testnet, name: &str, missing: &[&str]) {
    let home = net.home(name);
    let sample = net.dir.path().join("sample");
    write_sample(&sample, 1_000_000);
    let height = net.height(name);
    let account = net.account(name);
    for write in [vec!["put", sample.to_str().expect("UTF-8")], vec!["account", "transfer", &account, "1"]] {
        let begin = Instant::now();
        let out = trullo(&[&["--home", &home], write.as_slice()].concat());
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(6), "{write:?}: {said}");
        assert!(said.contains("a quorum is 3") && missing.iter().all(|name| said.contains(name)), "{said}");
        assert!(said.contains("hint: nothing was stored or sent"), "{said}");
        assert!(begin.elapsed() < Duration::from_secs(5), "{write:?} took {:?}", begin.elapsed());
    }
    let status = status(net, name);
    assert_eq!((&status["stale"], &status["ready"], &status["mempool_txs"]), (&true.into(), &false.into(), &0.into()));
    assert!(status["reason"].as_str().is_some_and(|reason| reason.starts_with("partitioned: ")), "{status}");
    let read = trullo(&["--home", &home, "account", "show"]);
    let said = String::from_utf8_lossy(&read.stderr).into_owned();
    assert!(read.status.success() && said.contains("s ago: what it shows may be older"), "{said}");
    let validators = json(&["--home", &home, "validator", "status", "--json"]);
    let away = |name: &&str| {
        let stakes = validators["stakes"].as_array().expect("a list");
        stakes.iter().any(|stake| stake["name"] == *name && stake["away_since_ms"].as_u64() > Some(0))
    };
    assert!(missing.iter().all(away), "{validators}");
    assert_eq!(net.height(name), height, "a side without a quorum makes nothing final");
}

/// All nodes have a new block within two views of the longest kind, agree, and say that all is well.
fn heals(net: &Testnet, names: &[&str]) {
    json(&["testnet", "heal", "--dir", net.path(), "--json"]);
    let high = names.iter().map(|name| net.height(name)).max().expect("some nodes");
    until("every node goes on by itself", BACK_WITHIN, || {
        names.iter().all(|name| {
            let status = status(net, name);
            status["height"].as_u64() > Some(high)
                && status["stale"] == false
                && status["network"]["state"] == "ok"
                && is_missing(&status, &[])
        })
    });
}

#[test]
fn a_side_without_a_quorum_says_who_is_missing_marks_its_reads_and_refuses_writes_until_it_heals() {
    let net = Testnet::up(4, 0, 1);
    let names = ["validator-1", "validator-2", "validator-3", "validator-4", "user-1"];
    let fresh = trullo(&["--home", &net.home("user-1"), "account", "show"]);
    assert!(fresh.status.success() && fresh.stderr.is_empty(), "{}", String::from_utf8_lossy(&fresh.stderr));

    json(&[
        "testnet",
        "partition",
        "--dir",
        net.path(),
        "validator-1,validator-2,user-1",
        "validator-3,validator-4",
        "--json",
    ]);
    let sides = [
        (["validator-1", "user-1"], ["validator-3", "validator-4"]),
        (["validator-3", "validator-4"], ["validator-1", "validator-2"]),
    ];
    for (side, missing) in sides {
        for name in side {
            until("each side names the other", TOLD_WITHIN, || is_partitioned(&net, name, &missing));
        }
    }
    stands_still(&net, "user-1", &["validator-3", "validator-4"]);
    stands_still(&net, "validator-3", &["validator-1", "validator-2"]);
    heals(&net, &names);

    json(&["testnet", "partition", "--dir", net.path(), "validator-4", "--json"]);
    let alone = ["validator-1", "validator-2", "validator-3"];
    until("the one that is alone names the others", TOLD_WITHIN, || is_partitioned(&net, "validator-4", &alone));
    stands_still(&net, "validator-4", &alone);
    let to = net.account("validator-4");
    let height = net.transfer("user-1", &to, 3);
    until("the others name the one that is gone, and are well", TOLD_WITHIN, || {
        let status = status(&net, "validator-1");
        status["network"]["state"] == "ok" && status["ready"] == true && is_missing(&status, &["validator-4"])
    });
    heals(&net, &names);
    assert!(net.height("validator-4") >= height);
    let again = failure(&["--home", &net.home("validator-4"), "account", "transfer", &net.account("user-1"), "1"]);
    assert_eq!(again.0, 0, "writes are taken again: {}", again.1);
}

#[test]
fn what_is_acknowledged_while_packets_vanish_between_namespaces_is_on_the_chain_in_order_and_once() {
    let mut script = Command::new("python3");
    script.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/ops/partitions.py"));
    let out = match script.args([env!("CARGO_BIN_EXE_trullo"), "5", "1"]).output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return eprintln!("skipped: python3 is not here"),
        out => out.expect("the script runs"),
    };
    let said = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    match out.status.code() {
        Some(0) => {}
        Some(MISSING) => eprintln!("{}", said.trim_end()),
        _ => panic!("{said}"),
    }
}

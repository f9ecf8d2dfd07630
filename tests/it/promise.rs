//! How well files are kept, as a user sees it: audits, health, leaving, renewal, by the command line and real processes.

use std::time::Duration;

use crate::processes::{Testnet, failure, json, until};

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_node_that_leaves_gives_its_slots_away_first_and_the_file_says_how_well_it_is_kept() {
    let net = Testnet::up(1, 4, 1);
    let user = net.home("user-1");
    let input = net.dir.path().join("in");
    std::fs::write(&input, vec![7; 300_000]).expect("a file");
    let put = json(&["--home", &user, "put", input.to_str().expect("UTF-8"), "--data", "2", "--parity", "1", "--json"]);
    let id = put["file_id"].as_str().expect("an id").to_owned();
    let health = || json(&["--home", &user, "file", "health", &id, "--json"]);
    until("all slots held", PATIENCE, || health()["answering"] == 3);
    let before = health();
    assert_eq!((before["needed"].as_u64(), before["spare"].as_i64()), (Some(2), Some(1)), "{before}");
    assert_eq!(before["spare_nodes"], 1, "{before}");
    assert_eq!((before["operators"].as_u64(), before["lost"].as_array().map(Vec::len)), (Some(3), Some(0)), "{before}");

    json(&["--home", &user, "renew", &id, "--epochs", "10", "--json"]);
    let ends = |view: &serde_json::Value| view["ends"].as_u64().expect("a height");
    assert_eq!(ends(&health()), ends(&before) + 10 * 64);

    let audits = || json(&["--home", &user, "storage", "audits", "--json"]).as_array().expect("a list").clone();
    let holder = audits().into_iter().find(|node| node["used"] != 0).expect("a holder");
    let name = holder["name"].as_str().expect("a name").to_owned();
    json(&["--home", &net.home(&name), "storage", "leave", "--json"]);
    assert_eq!(failure(&["--home", &net.home(&name), "storage", "leave"]).0, 9, "it is leaving already");
    for other in [&user, &net.home("validator-1")] {
        assert_eq!(failure(&["--home", other, "storage", "leave"]).0, 4, "{other} is no storage node");
    }
    until("the node holds nothing", PATIENCE, || {
        let own = json(&["--home", &net.home(&name), "storage", "status", "--json"]);
        own["used"] == 0 && own["draining"] == true
    });
    net.kill(&name);
    let after = health();
    assert_eq!((after["held"].as_u64(), after["answering"].as_u64()), (Some(3), Some(3)), "{after}");
    let overview = json(&["--home", &user, "storage", "health", "--json"]);
    assert_eq!(overview["draining"].as_array().map(Vec::len), Some(1), "{overview}");
    assert_eq!(overview["endangered"].as_array().map(Vec::len), Some(0), "{overview}");
    let output = net.dir.path().join("out");
    json(&["--home", &user, "get", &id, "-o", output.to_str().expect("UTF-8"), "--json"]);
    assert_eq!(std::fs::read(&output).expect("the file"), vec![7; 300_000]);

    let set = ["--home", &user, "put", input.to_str().expect("UTF-8"), "--set", "files.epochs=5"];
    assert_eq!(failure(&set).0, 2, "a setting of the running node is not silently ignored");
    let (code, error) = failure(&["--home", &user, "storage", "status"]);
    assert_eq!(code, 4, "{error}");
    let (code, error) = failure(&["--home", &user, "file", "health", &"0".repeat(64)]);
    assert_eq!(code, 4, "{error}");
}

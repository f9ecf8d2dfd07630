//! Deals over their life, by the command line and real processes: what they cost, when they end, the space that comes back, and
//! what is measured of them.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::processes::{Testnet, failure, is_true_within, json, trullo, until, write_sample};

const PATIENCE: Duration = Duration::from_secs(90);
const STORES: [&str; 3] = ["storage-1", "storage-2", "storage-3"];

/// Puts a file of 2 + 1 slots and gives what the command says.
fn put(net: &Testnet, name: &str, len: usize, more: &[&str]) -> Value {
    let (user, path) = (net.home("user-1"), net.dir.path().join(name));
    write_sample(&path, len);
    let path = path.to_str().expect("UTF-8");
    let mut args = vec!["--home", &user, "put", path, "--data", "2", "--parity", "1", "--json"];
    args.extend(more);
    json(&args)
}

fn id(put: &Value) -> String {
    put["file_id"].as_str().expect("an id").to_owned()
}

fn number(value: &Value, field: &str) -> u64 {
    value[field].as_u64().unwrap_or_else(|| panic!("no {field}: {value}"))
}

/// Bytes of the slots in a directory, without uploads under way and the note of the machine's run.
fn on_disk(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry"));
    let bytes = entries.map(|entry| match entry.file_type().expect("a kind").is_dir() {
        true if entry.file_name() == "tmp" => 0,
        false if entry.file_name() == "boot" => 0,
        true => on_disk(&entry.path()),
        false => entry.metadata().map_or(0, |meta| meta.len()),
    });
    bytes.sum()
}

/// A slot's file: its bytes, and 32 more for each block of 256 KiB if there are several.
fn file_len(slot: u64) -> u64 {
    let blocks = slot.div_ceil(1 << 18);
    slot + if blocks > 1 { 32 * blocks } else { 0 }
}

/// Waits until each storage node holds slots of these lengths and no more: by the ledger, by its own count and on its disk.
fn until_held(net: &Testnet, what: &str, slots: &[u64]) {
    let (bytes, files) = (slots.iter().sum::<u64>(), slots.iter().map(|slot| file_len(*slot)).sum::<u64>());
    for name in STORES {
        let dir = net.dir.path().join(name).join("slots");
        let mut last = String::new();
        let held = || {
            let own = json(&["--home", &net.home(name), "storage", "status", "--json"]);
            let on_disk = on_disk(&dir);
            last = format!("{name}, {what}: {bytes} bytes in {files}; {on_disk} on disk, {own}");
            own["used"] == bytes && own["storage"]["used"] == bytes && on_disk == files
        };
        assert!(is_true_within(PATIENCE, held), "{last}");
    }
}

#[test]
fn deleted_and_ended_files_give_their_space_back_on_every_node_and_renewed_ones_stay() {
    let net = Testnet::audited(3, &["--epoch-blocks", "40"]);
    let user = net.home("user-1");
    until_held(&net, "nothing yet", &[]);
    let deleted = put(&net, "deleted", 300_000, &["--epochs", "1000"]);
    let ended = put(&net, "ended", 700_000, &["--epochs", "3"]);
    let renewed = put(&net, "renewed", 1_100_000, &["--epochs", "3"]);
    let slot = |put: &Value| {
        let view = json(&["--home", &user, "stat", &id(put), "--json"]);
        number(&view["slots"][0], "len")
    };
    let lens = [slot(&deleted), slot(&ended), slot(&renewed)];
    assert!(number(&ended, "escrow") > 0 && number(&ended, "price") > 0 && ended["epochs_left"] == 3, "{ended}");
    json(&["--home", &user, "renew", &id(&renewed), "--epochs", "1000", "--json"]);

    let status = |put: &Value| json(&["--home", &user, "stat", &id(put), "--json"])["status"].clone();
    until("the deal ends by itself", PATIENCE, || status(&ended) == "ended");
    until_held(&net, "the ended file is gone", &[lens[0], lens[2]]);
    assert_eq!(status(&renewed), "final", "it would have ended at the same time");
    json(&["--home", &user, "rm", &id(&deleted), "--json"]);
    until_held(&net, "the deleted file is gone", &lens[2..]);
    let back = net.dir.path().join("back");
    json(&["--home", &user, "get", &id(&renewed), "-o", back.to_str().expect("UTF-8"), "--json"]);
    assert!(std::fs::read(&back).expect("a file") == std::fs::read(net.dir.path().join("renewed")).expect("a file"));
    json(&["--home", &user, "rm", &id(&renewed), "--json"]);
    until_held(&net, "nothing is left", &[]);
    for name in STORES {
        let own = json(&["--home", &net.home(name), "storage", "status", "--json"]);
        assert_eq!(number(&own["storage"], "freed"), lens.iter().sum::<u64>(), "{name}: {own}");
    }
}

#[test]
fn a_deal_that_ends_soon_is_said_everywhere_until_it_is_renewed() {
    let net = Testnet::audited(3, &["--epoch-blocks", "40"]);
    let user = net.home("user-1");
    let lasting = put(&net, "lasting", 1_000, &["--epochs", "100000"]);
    let file = id(&put(&net, "a file", 1_000, &["--epochs", "100"]));
    let health = || json(&["--home", &user, "file", "health", &file, "--json"]);
    let before = health();
    assert!(before["ends_soon"] == false && number(&before, "epochs_left") > 90, "{before}");
    let ending = || json(&["--home", &user, "storage", "health", "--json"])["ending"].clone();
    assert_eq!(ending().as_array().map(Vec::len), Some(0));

    // With a longer notice it ends soon at once.
    net.kill("user-1");
    let config = net.dir.path().join("user-1/config.toml");
    let text = std::fs::read_to_string(&config).expect("a configuration");
    let text = text.replace("[files]", "[files]\nwarn_epochs = 1000");
    std::fs::write(&config, text).expect("a written configuration");
    net.start("user-1");
    until("its end is near", PATIENCE, || health()["ends_soon"] == true);
    assert_eq!(
        ending().as_array().map(|list| list.iter().map(|file| file["file"].clone()).collect()),
        Some(vec![Value::from(file.clone())])
    );
    let listed = json(&["--home", &user, "ls", "--json"]);
    let soon =
        |file: &str| listed.as_array().expect("a list").iter().any(|f| f["id"] == file && f["ends_soon"] == true);
    assert!(soon(&file) && !soon(&id(&lasting)), "{listed}");
    let said = trullo(&["--home", &user, "ls"]);
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("trullo renew") && said.contains("a file ends in"), "{said}");
    until("the log and the metrics say so", PATIENCE, || {
        let log = trullo(&["testnet", "logs", "user-1", "--dir", net.path()]);
        String::from_utf8_lossy(&log.stdout).contains("ends soon")
            && metric(&net, "user-1", "trullo_files_ending") == 1.0
    });
    json(&["--home", &user, "renew", &file, "--epochs", "5000", "--json"]);
    assert_eq!((health()["ends_soon"].clone(), ending()), (Value::from(false), Value::from(Vec::<Value>::new())));
    until("the metrics follow", PATIENCE, || metric(&net, "user-1", "trullo_files_ending") == 0.0);
}

/// A value of a node's metrics page.
fn metric(net: &Testnet, node: &str, name: &str) -> f64 {
    let page = page(net, node);
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name}: {page}")).parse().expect("a number")
}

fn page(net: &Testnet, node: &str) -> String {
    let address = std::fs::read_to_string(net.dir.path().join(node).join("api.addr")).expect("the API's address");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let answer = reqwest::get(format!("http://{}/metrics", address.trim())).await.expect("an answer");
        answer.text().await.expect("a page")
    })
}

#[test]
fn a_quota_refuses_what_is_over_it_and_takes_it_again_once_there_is_room() {
    let net = Testnet::audited(3, &["--epoch-blocks", "40", "--quota", "2MiB"]);
    let user = net.home("user-1");
    let first = id(&put(&net, "first", 900_000, &[]));
    let path = net.dir.path().join("second");
    write_sample(&path, 1_000_000);
    let path = path.to_str().expect("UTF-8");
    let second = ["--home", &user, "put", path, "--data", "2", "--parity", "1"];
    let refused = trullo(&second);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(8), "{said}");
    assert!(said.contains("the quota is 2097152") && said.contains("trullo rm"), "{said}");
    let stored = || number(&json(&["--home", &user, "account", "show", "--json"]), "stored");
    assert!(stored() < 2 << 20);
    let metrics = json(&["--home", &user, "storage", "metrics", "--json"]);
    assert_eq!((number(&metrics["uploads"], "refused"), metrics["uploads"]["success_rate"].as_f64()), (1, Some(1.0)));
    json(&["--home", &user, "rm", &first, "--json"]);
    assert_eq!(stored(), 0);
    let taken = trullo(&second);
    assert!(taken.status.success(), "{}", String::from_utf8_lossy(&taken.stderr));
    let (code, line) = failure(&["--home", &user, "renew", "second", "--epochs", "4000000000"]);
    assert_eq!(code, 8, "{line}");
}

#[test]
fn what_happened_to_deals_nodes_and_slots_is_measured_the_same_on_every_node_and_after_restarts() {
    let net = Testnet::audited(4, &["--epoch-blocks", "40"]);
    let user = net.home("user-1");
    let metrics = |node: &str| json(&["--home", &net.home(node), "storage", "metrics", "--json"]);
    let new = metrics("user-1");
    assert_eq!((number(&new["deals"], "opened"), new["uploads"]["success_rate"].clone()), (0, Value::Null), "{new}");
    assert_eq!(new["time_to_quorum"]["p99_ms"], Value::Null, "{new}");
    let file = id(&put(&net, "a file", 400_000, &[]));
    id(&put(&net, "another", 500_000, &[]));
    let now = metrics("user-1");
    assert_eq!(
        (number(&now["uploads"], "fulfilled"), now["uploads"]["success_rate"].as_f64()),
        (2, Some(1.0)),
        "{now}"
    );
    assert_eq!((number(&now["deals"], "opened"), number(&now["deals"], "reached_quorum")), (2, 2), "{now}");
    let times = &now["time_to_quorum"];
    assert!(times["p99_ms"].as_f64() >= times["average_ms"].as_f64() && number(times, "count") == 2, "{now}");
    until("an audit was passed", PATIENCE, || metrics("user-1")["nodes"]["availability"].as_f64() > Some(0.0));
    let health = || json(&["--home", &user, "file", "health", &file, "--json"]);
    until("all slots are there", PATIENCE, || health()["answering"] == 3);
    assert_eq!(health()["full_in_s"].as_f64(), Some(0.0));

    // A node with a slot dies for good, and the fourth takes over.
    let slots = json(&["--home", &user, "stat", &file, "--json"])["slots"].clone();
    let gone = slots[0]["node_name"].as_str().expect("a name").to_owned();
    net.kill(&gone);
    until("its slots are on other nodes", PATIENCE, || {
        let now = metrics("user-1");
        let repair = &now["repair"];
        number(repair, "nodes_lost") >= 1 && number(repair, "slots_restored") >= 1 && number(repair, "queue_slots") == 0
    });
    let repair = metrics("user-1")["repair"].clone();
    assert!(number(&repair, "slots_lost") >= number(&repair, "slots_restored"), "{repair}");
    assert!(repair["repair_s"].as_f64() > Some(0.0) && repair["detection_s"].as_f64() > Some(0.0), "{repair}");
    let loss = health()["annual_loss"].clone();
    assert!(loss["is_bound"] == false && loss["probability"].as_f64().is_some_and(|p| p > 0.0 && p <= 1.0), "{loss}");

    // With two of the four away most slots do not come, and the deal is final when they are back.
    let others: Vec<_> = (1..=4).map(|n| format!("storage-{n}")).filter(|name| *name != gone).collect();
    net.kill(&others[0]);
    net.kill(&others[1]);
    let path = net.dir.path().join("pending");
    write_sample(&path, 100_000);
    let wide = ["put", path.to_str().expect("UTF-8"), "--data", "2", "--parity", "0", "--json"];
    let out = trullo(&[&["--home", &user][..], &wide].concat());
    let pending = metrics("user-1");
    assert_eq!(number(&pending["uploads"], "pending"), u64::from(!out.status.success()), "{pending}");
    for name in &others[..2] {
        net.start(name);
    }
    until("every deal is final", PATIENCE, || {
        let now = metrics("user-1");
        number(&now["deals"], "pending") == 0 && now["uploads"]["completed"] == now["uploads"]["pending"]
    });
    let page = page(&net, "user-1");
    for name in [
        "trullo_chain_deals_opened_total 3",
        "trullo_chain_repair_queue_slots 0",
        "trullo_put_quorum_seconds_count 3",
        "trullo_chain_repair_queue_bytes",
        "trullo_chain_proofs_due",
    ] {
        assert!(page.contains(name), "no {name}: {page}");
    }

    // Counts of the ledger are everybody's and outlast a crash; those of the node itself begin anew.
    net.kill("user-1");
    net.start("user-1");
    until("the same counts everywhere", PATIENCE, || {
        let of = |node: &str| {
            let now = metrics(node);
            (now["deals"].clone(), now["repair"]["nodes_lost"].clone(), now["repair"]["slots_restored"].clone())
        };
        let (user, validator) = (of("user-1"), of("validator-1"));
        user == validator && number(&user.0, "opened") == 3
    });
    assert_eq!(number(&metrics("user-1")["time_to_quorum"], "count"), 0);
}

#[test]
fn a_node_that_hears_of_blocks_and_cannot_get_them_says_how_far_it_is_behind() {
    let net = Testnet::audited(1, &[]);
    let (user, validator) = (net.home("user-1"), net.node("validator-1")["node"].as_str().expect("an id").to_owned());
    let status = || json(&["--home", &user, "ledger", "status", "--json"]);
    until("ready", PATIENCE, || status()["ready"] == true);
    assert!(number(&status(), "behind") <= 32);
    // Cut off from the validator alone: its word still comes by way of the storage node.
    let address = std::fs::read_to_string(net.dir.path().join("user-1/api.addr")).expect("the API's address");
    let token = std::fs::read_to_string(net.dir.path().join("user-1/api.token")).expect("the API's token");
    let deny = |nodes: Vec<String>| {
        let url = format!("http://{}/v1/admin/links", address.trim());
        let body = serde_json::json!({ "deny": nodes }).to_string();
        let request = reqwest::Client::new().post(url).bearer_auth(token.trim());
        let request = request.header("content-type", "application/json").body(body);
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let answer = runtime.block_on(request.send()).expect("an answer");
        assert!(answer.status().is_success(), "{answer:?}");
    };
    deny(vec![validator]);
    until("it says how far it is behind", PATIENCE, || {
        let now = status();
        let reason = now["reason"].as_str().unwrap_or_default();
        now["ready"] == false
            && number(&now, "behind") > 32
            && reason.contains("blocks behind")
            && number(&now, "peers") > 0
    });
    deny(Vec::new());
    until("ready again", PATIENCE, || status()["ready"] == true);
}

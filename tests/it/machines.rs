//! A network by hand, as on several machines: one founds it, others join by its invitation.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::processes::{failure, json, trullo, until};

const SOON: Duration = Duration::from_secs(60);

/// A node that runs until it is dropped.
struct Node(Child);

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(home: &str, password: &str) -> Node {
    let run = ["--home", home, "node", "run", "--password-file", password];
    let child =
        Command::new(env!("CARGO_BIN_EXE_trullo")).args(run).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let node = Node(child.expect("the node runs"));
    until("it answers", SOON, || trullo(&["--home", home, "ledger", "status"]).status.success());
    node
}

fn asked(home: &str, args: &[&str]) -> Value {
    json(&[&["--home", home, "--json"], args].concat())
}

#[test]
fn machines_join_by_an_invitation_and_storage_nodes_register_by_themselves() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = |name: &str| dir.path().join(name).to_str().expect("UTF-8").to_owned();
    let (founder, disk, password) = (path("founder"), path("disk"), path("password"));
    let mut file = std::fs::File::create(&password).expect("a file");
    file.set_permissions(std::fs::Permissions::from_mode(0o600)).expect("a private file");
    file.write_all(b"correct horse\n").expect("written");

    let storage = ["--set", "storage.capacity=64MiB"];
    asked(&founder, &[["init", "--name", "founder", "--password-file", &password].as_slice(), &storage].concat());
    let _founder = start(&founder, &password);
    let invite = path("invite.json");
    assert!(trullo(&["--home", &founder, "invite", "-o", &invite]).status.success());
    let invitation: Value = serde_json::from_slice(&std::fs::read(&invite).expect("a file")).expect("JSON");
    let addresses = asked(&founder, &["ledger", "status"])["addresses"].clone();
    assert!(addresses[0].as_str().is_some_and(|address| address.contains("/p2p/")), "{addresses}");
    assert_eq!(invitation["bootstrap"], addresses);

    // The address is the same after a restart.
    drop(_founder);
    let _founder = start(&founder, &password);
    assert_eq!(asked(&founder, &["ledger", "status"])["addresses"], addresses);

    let init = ["init", "--name", "disk", "--role", "storage", "--invite", &invite, "--password-file", &password];
    let account = asked(&disk, &[init.as_slice(), &storage].concat())["account"].as_str().expect("an id").to_owned();
    let _disk = start(&disk, &password);
    let out = trullo(&["--home", &disk, "storage", "status"]);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.code() == Some(4) && said.contains(&format!("account transfer {account} 1")), "{said}");
    asked(&founder, &["account", "transfer", &account, "1"]);
    until("the ledger knows it", SOON, || {
        let seen = trullo(&["--home", &disk, "--json", "storage", "status"]);
        serde_json::from_slice(&seen.stdout).is_ok_and(|status: Value| status["storage"]["registered"] == true)
    });

    let (source, back) = (path("source"), path("back"));
    std::fs::write(&source, vec![7; 300_000]).expect("written");
    let put = asked(&founder, &["put", &source, "--data", "1", "--parity", "1"]);
    assert_eq!(put["status"], "final", "{put}");
    asked(&founder, &["get", put["file_id"].as_str().expect("an id"), "-o", &back]);
    assert!(std::fs::read(&back).expect("it came back") == vec![7; 300_000]);
    let held = asked(&disk, &["storage", "status"])["storage"]["slots"].as_u64();
    assert_eq!(held, Some(1), "one of two slots is on the new machine");

    // Who has no way to the network is told so before anything is made to wait.
    let (lost, genesis) = (path("lost"), Path::new(&founder).join("genesis.json"));
    let genesis = genesis.to_str().expect("UTF-8");
    let out = trullo(&["--home", &lost, "init", "--genesis", genesis, "--password-file", &password]);
    assert!(String::from_utf8_lossy(&out.stderr).contains("cannot find the network"), "{out:?}");
    let (code, line) = failure(&["--home", &path("none"), "init", "--invite", genesis, "--password-file", &password]);
    assert!(code == 2, "{code}: {line}");
}

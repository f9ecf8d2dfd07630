//! Accounts of a home and their passwords, by the command line alone.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::processes::{failure, json};

/// A directory with a home and password files.
struct Desk {
    dir: TempDir,
}

impl Desk {
    /// A home whose account has the password `old`.
    fn new() -> Self {
        let desk = Self { dir: tempfile::tempdir().expect("a temporary directory") };
        json(&["--home", &desk.home(), "init", "--password-file", &desk.password("old"), "--json"]);
        desk
    }
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
    fn home(&self) -> String {
        self.path("home").to_str().expect("UTF-8").to_owned()
    }
    /// A private file with this password.
    fn password(&self, text: &str) -> String {
        let path = self.path(&format!("password-{text}"));
        std::fs::write(&path, format!("{text}\n")).expect("a password file");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("a private file");
        path.to_str().expect("UTF-8").to_owned()
    }
    fn keystore(&self) -> Value {
        let text = std::fs::read(self.path("home/keystore.json")).expect("a keystore");
        serde_json::from_slice(&text).expect("JSON")
    }
    fn passwd(&self, name: &str, old: &str, new: &str) -> (i32, String) {
        let (home, old, new) = (self.home(), self.password(old), self.password(new));
        failure(&["--home", &home, "account", "passwd", name, "--password-file", &old, "--new-password-file", &new])
    }
}

#[test]
fn a_new_password_takes_the_place_of_the_old_one_and_touches_nothing_else() {
    let desk = Desk::new();
    let home = desk.home();
    json(&["--home", &home, "account", "new", "savings", "--password-file", &desk.password("other"), "--json"]);
    let before = desk.keystore();
    assert_eq!(desk.passwd("default", "old", "new").0, 0);
    let after = desk.keystore();
    assert_eq!(after["accounts"][1], before["accounts"][1]);
    assert_eq!(after["accounts"][0]["account"], before["accounts"][0]["account"]);
    assert_ne!(after["accounts"][0]["keystore"], before["accounts"][0]["keystore"]);
    let mode = std::fs::metadata(desk.path("home/keystore.json")).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(desk.passwd("default", "old", "newer").0, 12);
    assert_eq!(desk.passwd(after["accounts"][0]["account"].as_str().expect("an id"), "new", "newer").0, 0);
    let (code, _) = failure(&["--home", &home, "node", "run", "--password-file", &desk.password("new")]);
    assert_eq!(code, 12);
}

#[test]
fn a_password_change_that_cannot_be_leaves_the_keystore_as_it_was() {
    let desk = Desk::new();
    let before = desk.keystore();
    let (code, line) = desk.passwd("default", "wrong", "new");
    assert!(code == 12 && line.contains("try again"), "{code} {line}");
    let (code, line) = desk.passwd("default", "old", "");
    assert!(code == 2 && line.contains("choose one"), "{code} {line}");
    let (code, line) = desk.passwd("nobody", "old", "new");
    assert!(code == 4 && line.contains("account list"), "{code} {line}");
    let open = desk.password("open");
    std::fs::set_permissions(&open, PermissionsExt::from_mode(0o644)).expect("an open file");
    let home = desk.home();
    let (code, line) = failure(&["--home", &home, "account", "passwd", "default", "--password-file", &open]);
    assert!(code == 12 && line.contains("chmod 600"), "{code} {line}");
    assert_eq!(desk.keystore(), before);
}

#[test]
fn both_passwords_can_come_from_stdin_a_line_each() {
    let desk = Desk::new();
    let arguments = ["account", "passwd", "default", "--password-file", "-", "--new-password-file", "-", "--json"];
    let program = Command::new(env!("CARGO_BIN_EXE_trullo"))
        .args(["--home", &desk.home()])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut program = program.expect("the program runs");
    program.stdin.take().expect("a pipe").write_all(b"old\nnew\n").expect("read");
    let out = program.wait_with_output().expect("it ends");
    let value: Value = serde_json::from_slice(&out.stdout).expect("JSON");
    assert!(out.status.success() && value["name"] == "default", "{value}");
    assert_eq!(desk.passwd("default", "new", "newer").0, 0);
}

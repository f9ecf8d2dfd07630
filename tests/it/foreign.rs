//! The HTTP interface seen by programs that know nothing of it but its document and its page: schemathesis and Chromium.
//! Where these cannot be had, a line on stderr says so.

use std::process::Command;

use crate::processes::write_sample;
use crate::users::{Desk, PASSWORD};

/// What the scripts end with when the program that they need cannot be had.
const MISSING: i32 = 77;

/// Runs a script that must succeed, or that has nothing to run with.
fn run(command: &mut Command, without: &str) {
    let out = match command.output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("skipped: {without} is not here");
            return;
        }
        out => out.expect("the script runs"),
    };
    let (said, told) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    if out.status.code() == Some(MISSING) {
        eprintln!("{}", told.lines().last().unwrap_or_default());
        return;
    }
    assert!(out.status.success(), "{said}\n{told}");
}

#[test]
fn a_person_with_a_browser_stores_reads_shares_moves_restores_and_deletes_files() {
    let desk = Desk::up(3, "welcome_credits = 100000");
    desk.add_user("anna");
    desk.add_user("bert");
    let file = desk.net.dir.path().join("holiday photo.bin");
    write_sample(&file, 300_001);
    let pictures = desk.net.dir.path().join("pictures");
    let mut script = Command::new("python3");
    script.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/page.py"));
    script.args([&desk.url("/"), "anna", "bert", PASSWORD]).args([&file, &pictures]);
    run(&mut script, "python3");
}

#[test]
fn generated_requests_get_the_answers_that_the_document_tells() {
    let mut script = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/ops/schemathesis.sh"));
    script.args(["1", "1"]).env("TRULLO", env!("CARGO_BIN_EXE_trullo"));
    // The phase that is the same each time. Random requests are for who runs the script by hand.
    script.env("PHASES", "coverage");
    run(&mut script, "bash");
}

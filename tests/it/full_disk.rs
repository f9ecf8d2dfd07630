//! File systems that are really full: small ones in memory, mounted in a namespace that only the test sees.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::processes::{Testnet, failure, json, trullo, until, write_sample};

/// Set where a test runs in a namespace of its own.
const INSIDE: &str = "IT_INSIDE_NAMESPACE";

/// Whether the calling test may mount. Outside of a namespace the test is run once more inside of one, and is done with that.
fn inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let unshare = |program: &Path, args: &[&str]| {
        let run = Command::new("unshare").arg("-Urm").arg(program).args(args).env(INSIDE, "1").output();
        run.map_err(|error| error.to_string())
    };
    match unshare(Path::new("true"), &[]) {
        Ok(tried) if tried.status.success() => {}
        other => {
            let _ = writeln!(std::io::stderr(), "skipped: this machine gives no namespace to mount in: {other:?}");
            return false;
        }
    }
    let program = std::env::current_exe().expect("the test program");
    let run = unshare(&program, &[test, "--exact", "--nocapture"]).expect("it was possible a moment ago");
    let (out, talk) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success() && out.contains("1 passed"), "{out}\n{talk}");
    false
}

/// Lays a file system of this size over a directory, with what is in it.
fn shrink(dir: &Path, size: &str) {
    let aside = dir.with_extension("aside");
    std::fs::rename(dir, &aside).expect("the directory moves");
    std::fs::create_dir(dir).expect("a place to mount");
    let options = format!("size={size},mode=700");
    run("mount", &["-t", "tmpfs", "-o", &options, "none", utf8(dir)]);
    run("cp", &["-a", &format!("{}/.", utf8(&aside)), utf8(dir)]);
}

fn run(program: &str, args: &[&str]) {
    let out = Command::new(program).args(args).output().expect("the program is there");
    assert!(out.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&out.stderr));
}

fn utf8(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// Takes the last byte that is free.
fn fill(dir: &Path) -> PathBuf {
    let path = dir.join("filler");
    let mut file = std::fs::File::options().create(true).append(true).open(&path).expect("a file");
    while file.write_all(&[0; 4_096]).is_ok() {}
    path
}

/// Leaves about so many bytes free.
fn fill_up_to(dir: &Path, free: u64) -> PathBuf {
    let path = dir.join("filler");
    let mut file = std::fs::File::create(&path).expect("a file");
    let left = || rustix::fs::statvfs(dir).map(|disk| disk.f_bavail * disk.f_frsize).expect("a file system");
    while left() > free {
        file.write_all(&[0; 4_096]).expect("there is room");
    }
    path
}

fn put(user: &str, path: &Path) -> (String, String) {
    // Two of three slots restore a file; the third may lie on the full disk.
    let view = json(&["--home", user, "put", utf8(path), "--min-confirmations", "2", "--json"]);
    (view["file_id"].as_str().expect("an id").to_owned(), view["status"].as_str().expect("a status").to_owned())
}

#[test]
fn nodes_whose_disk_is_full_stop_with_their_reason_and_nothing_acknowledged_is_lost() {
    if !inside("full_disk::nodes_whose_disk_is_full_stop_with_their_reason_and_nothing_acknowledged_is_lost") {
        return;
    }
    let net = Testnet { dir: tempfile::tempdir().expect("a temporary directory") };
    let counts = ["--validators", "4", "--storage", "3", "--users", "1", "--idle-interval-ms", "200", "--json"];
    json(&[&["testnet", "up", "--dir", net.path()], &counts[..]].concat());
    let names = ["validator-2", "storage-2", "user-1"];
    json(&["testnet", "down", "--dir", net.path(), "--json"]);
    for name in names {
        shrink(Path::new(&net.home(name)), "12m");
    }
    // Without a reserve slots take the last byte too, and a node works until a write fails.
    set(&net, "storage-2", "storage", "reserve = 0");
    names.iter().for_each(|name| set(&net, name, "node", "disk_reserve = 0"));
    net.start_all(4, 3, 1);
    let user = net.home("user-1");
    let source = net.dir.path().join("source");
    let mut files = Vec::new();
    let keep = |len: usize, files: &mut Vec<(String, Vec<u8>)>| {
        let bytes = write_sample(&source, len);
        let (id, status) = put(&user, &source);
        assert_eq!(status, "final");
        files.push((id, bytes));
    };
    keep(700_000, &mut files);
    for name in names {
        let filler = fill(Path::new(&net.home(name)));
        until("the full node stops", Duration::from_secs(20), || net.node(name)["pid"].is_null());
        let (code, line) = failure(&["--home", &net.home(name), "node", "run"]);
        assert!(code == 13 && line.contains("free space on"), "{name}: {code} {line}");
        if name != "user-1" {
            keep(700_000 + files.len(), &mut files);
        }
        std::fs::remove_file(filler).expect("space again");
        net.start(name);
    }
    for (id, bytes) in &files {
        let out = trullo(&["--home", &user, "get", id, "-"]);
        assert!(out.status.success() && out.stdout == *bytes, "{id}: {}", String::from_utf8_lossy(&out.stderr));
    }
    results_do_not_fit(&net, &user, &files[0]);
    json(&["testnet", "down", "--dir", net.path(), "--json"]);
    for name in names.iter().chain(&["small"]) {
        run("umount", &[&net.home(name)]);
    }
}

#[test]
fn nodes_whose_disk_is_almost_full_pause_and_answer_and_go_on_when_there_is_space() {
    if !inside("full_disk::nodes_whose_disk_is_almost_full_pause_and_answer_and_go_on_when_there_is_space") {
        return;
    }
    let net = Testnet { dir: tempfile::tempdir().expect("a temporary directory") };
    let counts = ["--validators", "4", "--storage", "3", "--users", "1", "--idle-interval-ms", "200", "--json"];
    json(&[&["testnet", "up", "--dir", net.path()], &counts[..]].concat());
    let names = ["validator-2", "storage-2", "user-1"];
    json(&["testnet", "down", "--dir", net.path(), "--json"]);
    for name in names {
        shrink(Path::new(&net.home(name)), "24m");
        set(&net, name, "node", "disk_reserve = \"4 MiB\"");
        set(&net, name, "storage", "reserve = 0");
    }
    net.start_all(4, 3, 1);
    let user = net.home("user-1");
    let source = net.dir.path().join("source");
    let bytes = write_sample(&source, 700_000);
    let (id, status) = put(&user, &source);
    assert_eq!(status, "final");
    for name in names {
        let filler = fill_up_to(Path::new(&net.home(name)), 3 << 20);
        let reason = || net.node(name)["reason"].as_str().unwrap_or_default().to_owned();
        until("the node pauses", Duration::from_secs(20), || reason().contains("node.disk_reserve"));
        if name == "user-1" {
            let (code, line) = failure(&["--home", &user, "put", utf8(&source)]);
            assert!(code == 13 && line.contains("free space on the disk"), "{code} {line}");
        } else {
            write_sample(&source, 700_000 + name.len());
            assert_eq!(put(&user, &source).1, "final", "the others go on without {name}");
        }
        if name == "storage-2" {
            // Its slot is needed now, and it pauses still.
            json(&["testnet", "kill", "storage-1", "--dir", net.path(), "--json"]);
        }
        let out = trullo(&["--home", &user, "get", &id, "-"]);
        assert!(out.status.success() && out.stdout == bytes, "{name}: {}", String::from_utf8_lossy(&out.stderr));
        assert!(reason().contains("node.disk_reserve"), "{name} pauses until there is space");
        std::fs::remove_file(filler).expect("space again");
        until("the node goes on", Duration::from_secs(20), || net.node(name)["ok"] == true);
        if name == "storage-2" {
            net.start("storage-1");
        }
    }
    assert_eq!(put(&user, &source).1, "final");
    json(&["testnet", "down", "--dir", net.path(), "--json"]);
    names.iter().for_each(|name| run("umount", &[&net.home(name)]));
}

/// Adds a setting to a node's configuration.
fn set(net: &Testnet, name: &str, section: &str, line: &str) {
    let config = Path::new(&net.home(name)).join("config.toml");
    let text = std::fs::read_to_string(&config).expect("a configuration");
    let header = format!("\n[{section}]\n");
    assert!(text.contains(&header), "{text}");
    std::fs::write(&config, text.replace(&header, &format!("{header}{line}\n"))).expect("a configuration");
}

/// Where what a command writes finds no room, it says so, and goes on when there is some.
fn results_do_not_fit(net: &Testnet, user: &str, (id, bytes): &(String, Vec<u8>)) {
    let small = net.dir.path().join("small");
    std::fs::create_dir(&small).expect("a directory");
    shrink(&small, "1m");
    let filler = fill(&small);
    let (out, export) = (small.join("out"), small.join("export"));
    let get = ["--home", user, "get", id, "-o", utf8(&out), "--json"];
    for args in [&get[..], &["--home", user, "export", "--format", "csv", "-o", utf8(&export), "--json"]] {
        let (code, line) = failure(args);
        assert!(code == 13 && line.contains("free"), "{args:?}: {code} {line}");
    }
    std::fs::remove_file(filler).expect("space again");
    json(&get);
    assert!(std::fs::read(&out).expect("a file") == *bytes);
}

//! The rules of the house, as tests: layout, import directions, banned names, file length, headers.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What each module of `src` may name with `crate::`. A module may always name itself.
const MAY_USE: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("crypto", &["types"]),
    ("wire", &["types", "crypto"]),
    ("consensus", &["types", "crypto", "wire"]),
    ("ledger", &["types", "crypto", "wire", "files::proof"]),
    ("mempool", &["types", "crypto", "wire"]),
    ("files", &["types", "crypto", "wire"]),
    ("store", PURE),
    ("net", PURE),
    ("node", &["types", "crypto", "wire", "consensus", "ledger", "mempool", "files", "store", "net", "config"]),
    ("config", &["types", "crypto", "wire", "ledger", "files"]),
    // The interface serves the explorer's tables.
    (
        "api",
        &[
            "types",
            "crypto",
            "wire",
            "consensus",
            "ledger",
            "mempool",
            "files",
            "store",
            "net",
            "config",
            "node",
            "explorer",
        ],
    ),
    // It has the interface's bounds on connections.
    ("s3", &["types", "crypto", "wire", "files", "store", "config", "node", "api::connections", "api::linger"]),
    ("explorer", BELOW_FACES),
    ("sim", BELOW_FACES),
    (
        "cli",
        &[
            "types",
            "crypto",
            "wire",
            "consensus",
            "ledger",
            "mempool",
            "files",
            "store",
            "net",
            "config",
            "node",
            "api",
            "s3",
            "explorer",
            "sim",
        ],
    ),
    ("main", &["cli"]),
];
const PURE: &[&str] = &["types", "crypto", "wire", "consensus", "ledger", "mempool", "files"];
const BELOW_FACES: &[&str] =
    &["types", "crypto", "wire", "consensus", "ledger", "mempool", "files", "store", "net", "config", "node"];

/// Modules that do no IO, read no clock and draw no randomness.
const PURE_MODULES: &[&str] = &["types", "crypto", "wire", "consensus", "ledger", "mempool", "files"];
const IMPURE_NAMES: &[&str] = &[
    "tokio",
    "std::fs",
    "std::net",
    "std::env",
    "std::process",
    "std::thread",
    "Instant",
    "SystemTime",
    "OsRng",
    "getrandom",
    "rand::rng",
    "thread_rng",
    "redb",
    "libp2p",
    "println!",
    "eprintln!",
];
/// Names that belong to one module each.
const ONLY_IN: &[(&str, &[&str])] = &[
    ("redb::", &["store"]),
    ("libp2p", &["net"]),
    ("wasmtime", &["compute"]),
    ("clap", &["cli", "main"]),
    ("axum", &["api", "s3"]),
    ("s3s::", &["s3"]),
    ("anyhow", &["cli", "main"]),
    ("serde::", &["api", "explorer", "cli", "config"]),
];
/// A file that may name what only another module may. The trait that `jmt` reads through returns `anyhow::Result`.
const EXCEPTIONS: &[(&str, &str)] = &[("src/ledger/tree.rs", "anyhow")];
const TOP_LEVEL: &[&str] = &[
    ".ci",
    ".gitignore",
    "ARCHITECTURE.md",
    "BENCHMARKS.md",
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "ROADMAP.md",
    "benches",
    "fixtures",
    "fuzz",
    "ops",
    "rustfmt.toml",
    "schema",
    "src",
    "tests",
];
const LINES_MAX: usize = 500;

struct Source {
    path: PathBuf,
    module: String,
    text: String,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn walk(dir: &Path, out: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() { walk(&path, out) } else { out.push(path) }
    }
}

fn rust_files(dir: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    walk(&root().join(dir), &mut files);
    files.retain(|path| path.extension().is_some_and(|ext| ext == "rs"));
    files.sort();
    files
}

fn sources() -> Vec<Source> {
    let read = |path: PathBuf| {
        let inside = path.strip_prefix(root().join("src")).expect("a file of src");
        let first = inside.components().next().expect("a name").as_os_str().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).expect("a readable source");
        Source { module: first.trim_end_matches(".rs").trim_end_matches("_tests").to_owned(), text, path }
    };
    rust_files("src").into_iter().map(read).filter(|source| source.module != "lib").collect()
}

/// Code without comments, so that prose may name what code may not.
fn code(text: &str) -> String {
    let strip = |line: &str| {
        let at = line.find("//").filter(|at| !line[..*at].ends_with(':')).unwrap_or(line.len());
        line[..at].to_owned()
    };
    text.lines().map(strip).collect::<Vec<_>>().join("\n")
}

/// The paths after each `crate::`, braces opened one level.
fn crate_paths(code: &str) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        if code[..at].ends_with('$') {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        let list = rest.strip_prefix('{').map(|inner| inner.split('}').next().unwrap_or(inner).split(','));
        let one = rest.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).next();
        match list {
            Some(items) => paths.extend(items.map(|item| item.trim().to_owned()).filter(|item| !item.is_empty())),
            None => paths.extend(one.map(str::to_owned)),
        }
    }
    paths
}

fn has_word(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
}

fn report(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn the_top_level_holds_only_what_it_should() {
    let listed = std::process::Command::new("git").arg("ls-files").current_dir(root()).output();
    let listed = String::from_utf8(listed.expect("git lists the files").stdout).expect("paths in UTF-8");
    let names: BTreeSet<_> = listed.lines().filter_map(|line| line.split('/').next()).collect();
    let unknown = names.iter().filter(|name| !TOP_LEVEL.contains(name));
    report(unknown.map(|name| format!("{name} does not belong at the top level")).collect());
}

#[test]
fn modules_use_only_what_is_below_them() {
    let mut complaints = Vec::new();
    for source in sources() {
        let Some((_, allowed)) = MAY_USE.iter().find(|(module, _)| *module == source.module) else {
            complaints.push(format!("{}: module {} is not in the layout", source.path.display(), source.module));
            continue;
        };
        for path in crate_paths(&code(&source.text)) {
            let name = path.split("::").next().unwrap_or_default();
            let by_path = allowed.iter().any(|ok| path == *ok || path.starts_with(&format!("{ok}::")));
            let is_module = MAY_USE.iter().any(|(module, _)| *module == name);
            if is_module && name != source.module && !by_path {
                complaints.push(format!("{}: may not use crate::{path}", source.path.display()));
            }
        }
    }
    report(complaints);
}

#[test]
fn pure_modules_name_no_clock_disk_net_or_randomness() {
    let mut complaints = Vec::new();
    for source in sources().iter().filter(|source| PURE_MODULES.contains(&source.module.as_str())) {
        let code = code(source.text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default());
        let banned = IMPURE_NAMES.iter().filter(|name| has_word(&code, name));
        complaints.extend(banned.map(|name| format!("{}: names {name}", source.path.display())));
    }
    report(complaints);
}

#[test]
fn the_ledger_and_consensus_iterate_no_hash_map_and_use_no_float() {
    let mut complaints = Vec::new();
    for source in sources().iter().filter(|source| ["ledger", "consensus"].contains(&source.module.as_str())) {
        let code = code(&source.text);
        let banned = ["HashMap", "HashSet", "f32", "f64"].into_iter().filter(|name| has_word(&code, name));
        complaints.extend(banned.map(|name| format!("{}: names {name}", source.path.display())));
    }
    report(complaints);
}

#[test]
fn each_adapter_is_the_only_one_to_name_its_library() {
    let mut complaints = Vec::new();
    for source in sources() {
        let code = code(&source.text);
        for (name, modules) in ONLY_IN {
            let excepted = EXCEPTIONS.iter().any(|(file, word)| word == name && source.path.ends_with(file));
            if has_word(&code, name) && !modules.contains(&source.module.as_str()) && !excepted {
                complaints.push(format!("{}: names {name}", source.path.display()));
            }
        }
    }
    report(complaints);
}

#[test]
fn every_file_has_a_header_and_at_most_500_lines() {
    let mut complaints = Vec::new();
    for path in ["src", "tests", "benches"].into_iter().flat_map(rust_files) {
        let text = fs::read_to_string(&path).expect("a readable source");
        let lines = text.lines().count();
        if lines > LINES_MAX {
            complaints.push(format!("{}: {lines} lines", path.display()));
        }
        if !text.starts_with("//!") {
            complaints.push(format!("{}: no header", path.display()));
        }
    }
    report(complaints);
}

#[test]
fn no_test_is_ignored_retried_or_slept_through() {
    let mut complaints = Vec::new();
    let ignored = concat!("#[ign", "ore");
    let sleeps = [concat!("thread::sl", "eep("), concat!("time::sl", "eep(")];
    for path in rust_files("tests") {
        let code = code(&fs::read_to_string(&path).expect("a readable source"));
        if code.contains(ignored) || sleeps.iter().any(|sleep| code.contains(sleep)) {
            complaints.push(format!("{}: ignores a test or sleeps", path.display()));
        }
    }
    report(complaints);
}

#[test]
fn every_dependency_says_why_it_is_there() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("a manifest");
    let mut complaints = Vec::new();
    let mut inside = false;
    let mut reason = false;
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line.ends_with("dependencies]");
            reason = false;
        } else if line.starts_with('#') {
            reason = true;
        } else if line.is_empty() {
            reason = false;
        } else if inside && !reason {
            complaints.push(format!("Cargo.toml: no reason above {line}"));
        }
    }
    report(complaints);
}

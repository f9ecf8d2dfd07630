//! Backups of a home: what comes back, what is refused.

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::node::testing;
use crate::store::{Options, Quarantine, Store};

struct Original {
    dir: tempfile::TempDir,
    store: Store,
    local: Local,
    chain: ChainId,
}

impl Original {
    fn new() -> Self {
        let (dir, genesis) = (tempfile::tempdir().expect("a directory"), testing::genesis());
        let home = dir.path().join("home");
        fs::create_dir_all(home.join("users")).expect("a directory");
        fs::create_dir_all(home.join("slots/ab")).expect("a directory");
        for name in ["config.toml", "genesis.json", "keystore.json", "users/anna.json", "slots/ab/abcd", "node.log"] {
            fs::write(home.join(name), name).expect("a file");
        }
        let store = testing::store(&home, [7; 32], &genesis);
        Local::create(&home.join("local.redb"), genesis.chain_id()).expect("a database");
        let local = Local::open(&home.join("local.redb"), &Options::default()).expect("a database");
        Self { dir, store, local, chain: genesis.chain_id() }
    }
    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
    fn back_up(&self, name: &str, slots: bool) -> Result<Backup, BackupError> {
        let (home, snapshot) = (self.at("home"), self.store.reader().snapshot().expect("a snapshot"));
        let node = NodeId::from_bytes([1; 32]);
        let source = Source { home: &home, snapshot: &snapshot, local: &self.local, chain: self.chain, node };
        create(&source, &self.at(name), slots)
    }
}

#[test]
fn a_restored_home_has_every_file_again_and_its_key_is_in_quarantine() {
    let original = Original::new();
    let mut batch = original.store.batch().expect("a batch");
    batch.put_record(b"signed").expect("a write");
    batch.commit().expect("a commit");
    original.local.put_session(&[3; 32], b"journal").expect("a write");
    let made = original.back_up("backup", true).expect("a backup");
    assert_eq!(verify(&original.at("backup")).expect("it is whole"), made);
    let restored = restore(&original.at("backup"), &original.at("again")).expect("a home");
    assert_eq!(restored, made);
    for name in ["config.toml", "genesis.json", "keystore.json", "users/anna.json", "slots/ab/abcd"] {
        assert_eq!(fs::read_to_string(original.at("again").join(name)).expect("it is there"), name);
    }
    assert!(!original.at("again/node.log").exists(), "a log is no state");
    let mode = fs::metadata(original.at("again/node.redb")).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let store = Store::open(&original.at("again/node.redb"), &Options::default()).expect("a database");
    let signer = store.signer().expect("the key");
    assert_eq!((signer.record(), signer.quarantine()), (Some(b"signed".as_slice()), Some(Quarantine::Restored)));
    assert_eq!(store.reader().tip(), original.store.reader().tip());
    assert_eq!(original.store.signer().expect("the key").quarantine(), None, "the original goes on");
    let local = Local::open(&original.at("again/local.redb"), &Options::default()).expect("a database");
    assert_eq!(local.session(&[3; 32]).expect("readable").as_deref(), Some(b"journal".as_slice()));
}

#[test]
fn a_backup_overwrites_nothing_and_a_restore_neither() {
    let original = Original::new();
    original.back_up("backup", false).expect("a backup");
    assert!(!original.at("backup/slots").exists());
    assert!(matches!(original.back_up("backup", false), Err(BackupError::Exists(_))));
    let occupied = restore(&original.at("backup"), &original.at("home"));
    assert!(matches!(occupied, Err(BackupError::Home(HomeError::Exists { .. }))), "{occupied:?}");
    assert!(matches!(verify(&original.at("home")), Err(BackupError::Missing(_))));
}

#[test]
fn a_damaged_cut_or_interrupted_backup_neither_verifies_nor_makes_a_home() {
    let original = Original::new();
    let refused = |name: &str, harm: &dyn Fn(&Path)| {
        original.back_up(name, false).expect("a backup");
        harm(&original.at(name));
        let home = original.at(&format!("{name}-home"));
        assert!(verify(&original.at(name)).is_err(), "{name}");
        assert!(restore(&original.at(name), &home).is_err(), "{name}");
        assert!(!home.exists(), "{name}: nothing is left of it");
    };
    refused("flipped", &|dir| {
        let mut bytes = fs::read(dir.join("node.redb")).expect("it is there");
        bytes[9_000] ^= 1;
        fs::write(dir.join("node.redb"), bytes).expect("written");
    });
    refused("longer", &|dir| fs::write(dir.join("genesis.json"), "genesis.json ").expect("written"));
    refused("missing", &|dir| fs::remove_file(dir.join("keystore.json")).expect("removed"));
    refused("interrupted", &|dir| {
        let text = fs::read_to_string(dir.join(MANIFEST)).expect("it is there");
        let lines: Vec<_> = text.lines().collect();
        fs::write(dir.join(MANIFEST), lines[..lines.len() - 1].join("\n") + "\n").expect("written");
    });
}

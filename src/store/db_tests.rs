//! Making, opening, migrating, copying and compacting the chain's database.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::*;

fn identity(origin: KeyOrigin) -> Identity {
    let seed = zeroize::Zeroizing::new([7; 32]);
    Identity { chain: ChainId::from_bytes([1; 32]), seed, origin, incarnation: [9; 32] }
}

fn home(origin: KeyOrigin) -> (tempfile::TempDir, PathBuf) {
    let home = tempfile::tempdir().expect("a directory");
    let path = home.path().join("node.redb");
    Store::create(&path, &identity(origin)).expect("a new database");
    (home, path)
}

fn open(path: &Path) -> Result<Store, StoreError> {
    Store::open(path, &Options::default())
}

fn write_record(store: &Store, record: &[u8]) {
    let mut batch = store.batch().expect("a batch");
    batch.put_record(record).expect("a write");
    batch.commit().expect("a commit");
}

#[test]
fn a_new_database_knows_its_chain_and_key_and_is_its_owners_alone() {
    let (_home, path) = home(KeyOrigin::Generated);
    let store = open(&path).expect("the database opens");
    assert_eq!((store.chain(), store.incarnation()), (ChainId::from_bytes([1; 32]), &[9; 32]));
    assert!(store.expect_chain(ChainId::from_bytes([1; 32])).is_ok());
    let other = ChainId::from_bytes([2; 32]);
    assert!(matches!(store.expect_chain(other), Err(StoreError::WrongChain { expected, .. }) if expected == other));
    let signer = store.signer().expect("the row");
    assert_eq!((*signer.seed(), signer.record(), signer.quarantine()), ([7; 32], None, None));
    let mode = std::fs::metadata(&path).expect("the file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(store.reader().tip(), None);
}

#[test]
fn nothing_is_made_over_what_is_there_and_nothing_is_opened_that_is_not() {
    let (home, path) = home(KeyOrigin::Generated);
    assert!(matches!(Store::create(&path, &identity(KeyOrigin::Generated)), Err(StoreError::Exists { .. })));
    let missing = home.path().join("other.redb");
    assert!(matches!(open(&missing).err(), Some(StoreError::Missing { path }) if path == missing));
    assert!(!missing.exists());
    for bytes in [b"".as_slice(), b"short", &[0; 10_000]] {
        std::fs::write(&missing, bytes).expect("a file");
        assert!(matches!(open(&missing).err(), Some(StoreError::Corrupted { .. })));
    }
}

#[test]
fn an_open_database_is_locked() {
    let (_home, path) = home(KeyOrigin::Generated);
    let first = open(&path).expect("the database opens");
    let second = open(&path).err();
    assert!(matches!(second, Some(StoreError::Locked { path: locked }) if locked == path));
    drop(first);
    assert!(open(&path).is_ok());
}

#[test]
fn a_newer_format_is_refused_with_both_numbers() {
    let (_home, path) = home(KeyOrigin::Generated);
    {
        let db = Database::create(&path).expect("the database opens");
        let txn = db.begin_write().expect("a write");
        let mut meta = open_write(&txn, tables::META).expect("the table");
        put(&mut meta, tables::META, META_FORMAT, &(FORMAT + 1).to_be_bytes()).expect("a write");
        drop(meta);
        txn.commit().expect("a commit");
    }
    let refused = open(&path).err();
    assert!(matches!(refused, Some(StoreError::NewerFormat { found, known: FORMAT }) if found == FORMAT + 1));
}

#[test]
fn a_key_without_its_row_is_damage() {
    let (_home, path) = home(KeyOrigin::Generated);
    {
        let db = Database::create(&path).expect("the database opens");
        let txn = db.begin_write().expect("a write");
        open_write(&txn, tables::SIGNER).expect("the table").remove(SIGNER_ROW).expect("a write");
        txn.commit().expect("a commit");
    }
    let store = open(&path).expect("the database opens");
    assert!(matches!(store.signer(), Err(StoreError::Corrupted { .. })));
    let mut batch = store.batch().expect("a batch");
    assert!(batch.put_record(b"record").is_err());
    assert!(matches!(batch.commit(), Err(StoreError::Stopped)), "a batch that failed commits nothing");
}

#[test]
fn a_copied_key_that_has_signed_is_quarantined_until_it_is_lifted() {
    let (home, path) = home(KeyOrigin::Generated);
    let copy = home.path().join("copy.redb");
    std::fs::copy(&path, &copy).expect("a copy");
    let fresh = open(&copy).expect("the copy opens");
    assert_eq!(fresh.signer().expect("the row").quarantine(), None, "a key that never signed cannot contradict itself");
    drop(fresh);

    write_record(&open(&path).expect("the database opens"), b"signed");
    let moved = home.path().join("moved.redb");
    std::fs::rename(&path, &moved).expect("a new name");
    let store = open(&moved).expect("the database opens");
    assert_eq!(store.signer().expect("the row").quarantine(), None, "a new name is no copy");
    drop(store);

    std::fs::remove_file(&copy).expect("the copy");
    std::fs::copy(&moved, &copy).expect("a copy");
    let store = open(&copy).expect("the copy opens");
    assert_eq!(store.signer().expect("the row").quarantine(), Some(Quarantine::Copied));
    write_record(&store, b"followed");
    drop(store);
    let store = open(&copy).expect("the copy opens");
    assert_eq!(store.signer().expect("the row").quarantine(), Some(Quarantine::Copied), "it lasts over a restart");
    let mut batch = store.batch().expect("a batch");
    batch.lift_quarantine().expect("a write");
    batch.commit().expect("a commit");
    let signer = store.signer().expect("the row");
    assert_eq!((signer.record(), signer.quarantine()), (Some(b"followed".as_slice()), None));
}

#[test]
fn an_imported_key_is_quarantined_from_the_start() {
    let (_home, path) = home(KeyOrigin::Imported);
    let store = open(&path).expect("the database opens");
    assert_eq!(store.signer().expect("the row").quarantine(), Some(Quarantine::Imported));
}

#[test]
fn compaction_gives_space_back_and_keeps_the_rest() {
    let (_home, path) = home(KeyOrigin::Generated);
    let mut store = open(&path).expect("the database opens");
    write_record(&store, &vec![1; 8 << 20]);
    write_record(&store, b"small");
    let before = std::fs::metadata(&path).expect("the file").len();
    let reader = store.reader();
    assert!(matches!(store.compact(), Err(StoreError::Busy)));
    drop(reader);
    assert!(store.compact().expect("a compaction"));
    store.check().expect("all pages are whole");
    let after = std::fs::metadata(&path).expect("the file").len();
    assert!(after < before / 2, "{before} bytes became {after}");
    assert_eq!(store.signer().expect("the row").record(), Some(b"small".as_slice()));
}

#[test]
fn a_wasteful_file_is_compacted_when_it_is_opened() {
    let (_home, path) = home(KeyOrigin::Generated);
    let store = open(&path).expect("the database opens");
    write_record(&store, &vec![1; 40 << 20]);
    write_record(&store, b"small");
    let before = std::fs::metadata(&path).expect("the file").len();
    assert!(before > COMPACT_FROM, "{before} bytes are too few to be compacted");
    // As after a kill: the file is not closed in order.
    let killed = path.with_extension("killed");
    std::fs::copy(&path, &killed).expect("a copy");
    let store = open(&killed).expect("the database opens");
    assert!(store.was_repaired());
    drop(store);
    let after = std::fs::metadata(&killed).expect("the file").len();
    assert!(after < before / 2, "{before} bytes became {after}");
}

//! The node's own database and its slots across a loss of power.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use trullo::store::{Local, Options, SlotSettings, Slots, StoreError};
use trullo::types::{ByteCount, ChainId, FileId, SlotRoot};
use trullo::wire::SlotInfo;

use super::disk::{Disk, Fault};
use super::{damage, with_seed};

const SETTINGS: SlotSettings = SlotSettings { capacity: ByteCount::new(1 << 30), reserve: ByteCount::ZERO };

fn empty() -> Disk {
    let disk = Disk::default();
    Local::create_on(disk.clone(), ChainId::from_bytes([1; 32])).expect("a disk without faults");
    disk
}

fn open(disk: &Disk) -> Result<Local, StoreError> {
    Local::open_on(disk.clone(), &Options::default())
}

/// A slot and whose it is.
struct Sample {
    file: FileId,
    info: SlotInfo,
    bytes: Vec<u8>,
}

fn sample(n: u8, rng: &mut ChaCha8Rng) -> Sample {
    // Roots differ: only the first can be empty.
    let len = [if n == 0 { 0 } else { 20 }, 21, 5_000, 1 << 18, (1 << 18) + 1, 600_000][rng.random_range(0..6)];
    let mut bytes = vec![n; len];
    rng.fill(bytes.as_mut_slice());
    let root = SlotRoot::from_bytes(*blake3::hash(&bytes).as_bytes());
    Sample { file: FileId::from_bytes([n; 32]), info: SlotInfo { root, len: len as u64 }, bytes }
}

fn put(slots: &Slots, sample: &Sample, id: u8) -> bool {
    let upload = || {
        let mut upload = slots.upload([id; 32], sample.info.len)?;
        for piece in sample.bytes.chunks(100_000) {
            upload.append(piece)?;
        }
        upload.finish(&sample.info, sample.file, 0)
    };
    upload().is_ok()
}

/// Names of all slot files in the directory, without the uploads.
fn files(dir: &Path) -> BTreeSet<String> {
    let list = |dir: &Path| std::fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").path());
    let shelves = list(dir).filter(|path| path.is_dir() && !path.ends_with("tmp"));
    let names = shelves.flat_map(|shelf| list(&shelf).collect::<Vec<_>>());
    names.filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned())).collect()
}

fn read(slots: &Slots, sample: &Sample) -> Vec<u8> {
    let slot = slots.get(&sample.info.root).expect("the slot is there");
    let blocks = sample.info.len.div_ceil(1 << 18);
    (0..blocks).flat_map(|n| slot.block(n).expect("the block is whole")).collect()
}

/// Puts and removes slots until the power goes. Returns what was acknowledged: whether each is held.
fn work(dir: &Path, disk: &Disk, samples: &[Sample], rng: &mut ChaCha8Rng) -> BTreeMap<usize, bool> {
    let mut acknowledged = BTreeMap::new();
    let Ok(slots) = open(disk).and_then(|local| Slots::open(dir, local, SETTINGS)) else { return acknowledged };
    for (n, sample) in samples.iter().enumerate() {
        if !put(&slots, sample, n as u8) {
            break;
        }
        acknowledged.insert(n, true);
        let other = rng.random_range(0..=n);
        if rng.random_bool(0.4) && acknowledged.contains_key(&other) {
            // Until it is acknowledged, either is right.
            acknowledged.remove(&other);
            if slots.remove_file(&samples[other].file).is_err() {
                break;
            }
            acknowledged.insert(other, false);
        }
    }
    acknowledged
}

#[test]
fn acknowledged_slots_survive_and_what_was_not_leaves_nothing_behind() {
    let mut interrupted = 0;
    for seed in 0..60 {
        with_seed(seed, || {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let home = tempfile::tempdir().expect("a directory");
            let dir = home.path().join("slots");
            let samples: Vec<Sample> = (0..6).map(|n| sample(n, &mut rng)).collect();
            let disk = empty().with(Fault::Crash(rng.random_range(10..260)));
            let acknowledged = work(&dir, &disk, &samples, &mut rng);
            interrupted += u32::from(acknowledged.len() < samples.len());

            let disk = Disk::holding(disk.after_power_loss(&mut rng));
            // It is another run of the machine that finds this.
            std::fs::create_dir_all(&dir).expect("a directory");
            std::fs::write(dir.join("boot"), "another run").expect("a file");
            let local = open(&disk).expect("an image after a crash opens");
            let slots = Slots::open(&dir, local, SETTINGS).expect("the slots open");
            for (n, held) in acknowledged {
                assert_eq!(slots.has(&samples[n].info.root).expect("the index is whole"), held, "slot {n}");
            }
            let listed = slots.list(None, 100).expect("the index is whole");
            for (root, _) in &listed {
                let sample = samples.iter().find(|sample| sample.info.root == *root).expect("a slot that was sent");
                assert_eq!(read(&slots, sample), sample.bytes);
            }
            assert_eq!(files(&dir), listed.iter().map(|(root, _)| root.to_string()).collect());
            assert_eq!(slots.missing().expect("the index is whole"), Vec::new());
            let stored = listed.iter().map(|(_, len)| len).sum();
            assert_eq!(slots.usage().expect("figures").stored, ByteCount::new(stored));
        });
    }
    assert!(interrupted > 20, "only {interrupted} of the runs were interrupted");
}

#[test]
fn a_damaged_file_of_the_node_is_refused_or_whole() {
    let disk = empty();
    let local = open(&disk).expect("a disk without faults");
    for n in 0..40 {
        local.put_session(&[n; 32], &[n; 700]).expect("a disk without faults");
    }
    let killed = disk.live();
    drop(local);
    let images = [killed, disk.live()];
    let mut refused = 0;
    for seed in 0..200 {
        with_seed(seed, || {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let mut image = images[(seed % 2) as usize].clone();
            let kind = damage(&mut image, &mut rng);
            match open(&Disk::holding(image)) {
                Ok(local) => {
                    let rows = local.sessions(None, 100).expect("a file that passed its check can be read");
                    assert!(rows.len() == 40 && rows.iter().all(|(key, row)| *row == [key[0]; 700]), "{kind}");
                }
                Err(StoreError::Corrupted { .. }) => refused += 1,
                Err(other) => panic!("{kind} is no {other}"),
            }
        });
    }
    assert!(refused > 30, "{refused} refused");
}

#[test]
fn writes_of_many_tasks_survive_once_acknowledged() {
    let mut acknowledged_in_all = 0;
    for seed in 0..60 {
        with_seed(seed, || {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let disk = empty().with(Fault::Crash(rng.random_range(20..200)));
            let Ok(local) = open(&disk) else { return };
            let task = |n: u8| {
                let local = local.clone();
                std::thread::spawn(move || {
                    let put = |i: &u8| local.put_session(&[n; 32], &[*i]).is_ok();
                    (1..40).take_while(put).last().unwrap_or(0)
                })
            };
            let tasks: Vec<_> = (0..4).map(task).collect();
            let last: Vec<u8> = tasks.into_iter().map(|task| task.join().expect("the task ends")).collect();
            drop(local);

            let local = open(&Disk::holding(disk.after_power_loss(&mut rng))).expect("an image after a crash opens");
            for (n, last) in (0..).zip(last) {
                let found = local.session(&[n; 32]).expect("the row is whole").map_or(0, |row| row[0]);
                assert!((last..=last + 1).contains(&found), "task {n}: {last} acknowledged, {found} there");
                acknowledged_in_all += u32::from(last);
            }
        });
    }
    assert!(acknowledged_in_all > 200, "{acknowledged_in_all} acknowledged");
}

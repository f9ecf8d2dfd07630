//! What is acknowledged survives a crash: images of a disk that lost any part of its unsynced writes, failing calls,
//! damaged files. Every test prints the seed of the image that it fails on.

#[path = "crash/disk.rs"]
mod disk;
#[path = "crash/held.rs"]
mod held;
#[path = "crash/script.rs"]
mod script;

use std::panic::{AssertUnwindSafe, catch_unwind};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use trullo::store::{Options, Store, StoreError};

use disk::{Disk, Fault};
use script::{Script, identity};

const BLOCKS: u64 = 24;
/// Steps from one starting image to the next.
const STRIDE: u64 = 6;

/// How many images of a crash are looked at; the battery asks for more than every run of the tests does.
fn images_wanted() -> u64 {
    std::env::var("TRULLO_CRASH_IMAGES").map_or(300, |text| text.parse().expect("a number of images"))
}

/// Names the seed when the test of an image fails.
fn with_seed<T>(seed: u64, test: impl FnOnce() -> T) -> T {
    match catch_unwind(AssertUnwindSafe(test)) {
        Ok(value) => value,
        Err(panic) => {
            eprintln!("failed with seed {seed}");
            std::panic::resume_unwind(panic)
        }
    }
}

/// Images of the database after every `STRIDE` steps, as a process leaves them that is killed between two commits.
fn starting_images(script: &Script) -> Vec<Vec<u8>> {
    let disk = Disk::default();
    Store::create_on(disk.clone(), &identity()).expect("a disk without faults");
    let store = Store::open_on(disk.clone(), &Options::default()).expect("a disk without faults");
    let mut images = Vec::new();
    for step in 0..script.steps() {
        if step.is_multiple_of(STRIDE) {
            images.push(disk.live());
        }
        script.step(&store, step).expect("a disk without faults");
    }
    images
}

/// Runs a few steps until the disk fails. Returns how many steps were acknowledged in all.
fn run(script: &Script, disk: &Disk, from: u64, count: u64) -> u64 {
    let Ok(store) = Store::open_on(disk.clone(), &Options::default()) else { return from };
    let end = script.steps().min(from + count);
    (from..end).find(|step| script.step(&store, *step).is_err()).unwrap_or(end)
}

/// Opens what is left and says how many steps it holds.
fn reopened(script: &Script, image: Vec<u8>) -> (Store, u64) {
    let store = Store::open_on(Disk::holding(image), &Options::default()).expect("an image after a crash opens");
    let steps = script.check(&store).expect("an image after a crash can be read");
    (store, steps)
}

#[test]
fn no_acknowledged_commit_is_lost_whatever_part_of_the_unsynced_writes_is() {
    let script = Script::new(1, BLOCKS);
    let images = starting_images(&script);
    let (mut whole, mut recovered_twice) = (0, 0);
    for seed in 0..images_wanted() {
        with_seed(seed, || {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let at = rng.random_range(0..images.len());
            let (from, image) = (at as u64 * STRIDE, images[at].clone());
            let disk = Disk::holding(image).with(Fault::Crash(rng.random_range(0..200)));
            let acknowledged = run(&script, &disk, from, 4);
            let mut left = disk.after_power_loss(&mut rng);
            if rng.random_bool(0.3) {
                let disk = Disk::holding(left).with(Fault::Crash(rng.random_range(0..60)));
                let opened = Store::open_on(disk.clone(), &Options::default());
                recovered_twice += u32::from(opened.is_err());
                drop(opened);
                left = disk.after_power_loss(&mut rng);
            }
            let (store, steps) = reopened(&script, left);
            assert!((acknowledged..=acknowledged + 1).contains(&steps), "{acknowledged} acknowledged, {steps} there");
            whole += u32::from(steps > from);
            for step in steps..script.steps().min(steps + 2) {
                script.step(&store, step).expect("the store goes on after a crash");
            }
        });
    }
    assert!(whole > 60 && recovered_twice > 20, "too few images crashed where it matters: {whole}, {recovered_twice}");
}

#[test]
fn a_disk_that_lies_about_its_syncs_is_found_out() {
    let script = Script::new(1, BLOCKS);
    let image = starting_images(&script)[1].clone();
    let lost = (0..40).filter(|seed| {
        let mut rng = ChaCha8Rng::seed_from_u64(*seed);
        let disk = Disk::holding(image.clone()).with(Fault::Lies(rng.random_range(60..200)));
        let acknowledged = run(&script, &disk, STRIDE, 4);
        let opened = Store::open_on(Disk::holding(disk.after_power_loss(&mut rng)), &Options::default());
        opened.and_then(|store| script.check(&store)).map_or(true, |steps| steps < acknowledged)
    });
    assert!(lost.count() > 10, "these tests would not notice a missing sync");
}

#[test]
fn a_failing_call_is_an_error_and_loses_nothing() {
    let script = Script::new(2, BLOCKS);
    let image = starting_images(&script)[2].clone();
    let from = 2 * STRIDE;
    let calls = {
        let disk = Disk::holding(image.clone()).with(Fault::Once(u64::MAX));
        assert_eq!(run(&script, &disk, from, 4), from + 4);
        disk.calls()
    };
    assert!(calls > 60, "the sweep must cover commits, {calls} calls do not");
    for call in 0..calls {
        with_seed(call, || {
            let disk = Disk::holding(image.clone()).with(Fault::Once(call));
            let acknowledged = run(&script, &disk, from, 4);
            let mut rng = ChaCha8Rng::seed_from_u64(call);
            for left in [disk.live(), disk.after_power_loss(&mut rng)] {
                let (_, steps) = reopened(&script, left);
                assert!((acknowledged..=acknowledged + 1).contains(&steps), "{acknowledged}, {steps} there");
            }
        });
    }
}

#[test]
fn after_a_failed_sync_no_commit_is_acknowledged() {
    let script = Script::new(3, BLOCKS);
    let image = starting_images(&script)[1].clone();
    let mut refused = 0;
    for call in 0..120 {
        with_seed(call, || {
            let disk = Disk::holding(image.clone()).with(Fault::Once(call));
            let Ok(store) = Store::open_on(disk.clone(), &Options::default()) else { return };
            let Some(failed) = (STRIDE..STRIDE + 4).find(|step| script.step(&store, *step).is_err()) else { return };
            let again = script.step(&store, failed);
            refused += u32::from(again.is_err());
            let mut rng = ChaCha8Rng::seed_from_u64(call);
            let (_, steps) = reopened(&script, disk.after_power_loss(&mut rng));
            assert!(steps >= failed + u64::from(again.is_ok()), "acknowledged and lost");
        });
    }
    assert!(refused > 20, "only {refused} of the failures hit a commit");
}

/// One kind of damage to a file.
fn damage(image: &mut Vec<u8>, rng: &mut impl Rng) -> &'static str {
    let at = rng.random_range(0..image.len());
    match rng.random_range(0..5) {
        0 => {
            image[at] ^= 1 << rng.random_range(0..8);
            "a flipped bit"
        }
        1 => {
            let header = at % 400;
            image[header] ^= 1 << rng.random_range(0..8);
            "a flipped bit in the header"
        }
        2 => {
            let page = at / 4096 * 4096;
            image[page..].iter_mut().take(4096).for_each(|byte| *byte = 0);
            "a page of zeros"
        }
        3 => {
            let (from, to) = (at / 4096 * 4096, rng.random_range(0..image.len()) / 4096 * 4096);
            let page = image[from..image.len().min(from + 4096)].to_vec();
            image[to..].iter_mut().zip(page).for_each(|(byte, other)| *byte = other);
            "a misdirected page"
        }
        _ => {
            image.truncate(at);
            "a cut file"
        }
    }
}

#[test]
fn a_damaged_file_is_refused_or_holds_everything() {
    let script = Script::new(4, BLOCKS);
    let killed = starting_images(&script)[5].clone();
    let disk = Disk::holding(killed.clone());
    drop(Store::open_on(disk.clone(), &Options::default()).expect("a disk without faults"));
    let images = [killed, disk.live()];
    let (mut refused, mut harmless) = (0, 0);
    for seed in 0..300 {
        with_seed(seed, || {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let mut image = images[(seed % 2) as usize].clone();
            let kind = damage(&mut image, &mut rng);
            match Store::open_on(Disk::holding(image), &Options::default()) {
                Ok(store) => {
                    assert_eq!(script.check(&store).ok(), Some(5 * STRIDE), "{kind} was not noticed");
                    harmless += 1;
                }
                Err(StoreError::Corrupted { .. }) => refused += 1,
                Err(other) => panic!("{kind} is no {other}"),
            }
        });
    }
    assert!(refused > 50 && harmless > 0, "{refused} refused, {harmless} harmless");
}

#[test]
fn damage_under_an_open_database_is_never_read_as_good_data() {
    let script = Script::new(5, BLOCKS);
    let image = starting_images(&script)[6].clone();
    let disk = Disk::holding(image);
    drop(Store::open_on(disk.clone(), &Options::default()).expect("a disk without faults"));
    // Nothing is checked at the start, as with a file too large for it.
    let unchecked = Options { maintain_up_to: trullo::types::ByteCount::ZERO, ..Options::default() };
    let (image, mut noticed) = (disk.live(), 0);
    // Seed 3271 made redb panic while it closed the file.
    for seed in (0..300).chain([3271]) {
        with_seed(seed, || {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let mut image = image.clone();
            let at = rng.random_range(4096..image.len());
            image[at] ^= 1 << rng.random_range(0..8);
            let Ok(store) = Store::open_on(Disk::holding(image), &unchecked) else {
                noticed += 1;
                return;
            };
            noticed += u32::from(script.check_values(&store, 3 * STRIDE).is_err());
        });
    }
    assert!(noticed > 20, "{noticed} noticed");
}

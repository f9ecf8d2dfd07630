//! Slots and uploads: resuming, refusing, claiming, damage on disk.

use proptest::prelude::*;

use super::*;
use crate::store::Options;
use crate::types::ChainId;
use crate::types::limits::SLOT_BLOCK_BYTES;

const ROOMY: SlotSettings = SlotSettings { capacity: ByteCount::new(1 << 40), reserve: ByteCount::ZERO };

/// A home whose process can be started again.
struct Home {
    dir: tempfile::TempDir,
    slots: Option<Slots>,
}

impl Home {
    fn new(settings: SlotSettings) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        Local::create(&dir.path().join("local.redb"), ChainId::from_bytes([1; 32])).expect("a new database");
        let mut home = Self { dir, slots: None };
        home.restart(settings);
        home
    }
    fn restart(&mut self, settings: SlotSettings) {
        self.slots = None;
        let local = Local::open(&self.dir.path().join("local.redb"), &Options::default()).expect("the database opens");
        self.slots = Some(Slots::open(&self.dir.path().join("slots"), local, settings).expect("the slots open"));
    }
    fn slots(&self) -> &Slots {
        self.slots.as_ref().expect("a running process")
    }
    fn stored(&self, info: &SlotInfo) -> PathBuf {
        self.slots().inner.path(&info.root)
    }
}

fn bytes(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|n| (n as u8).wrapping_mul(31).wrapping_add((n >> 8) as u8) ^ seed).collect()
}

fn info(bytes: &[u8]) -> SlotInfo {
    SlotInfo { root: SlotRoot::from_bytes(*blake3::hash(bytes).as_bytes()), len: bytes.len() as u64 }
}

fn file(n: u8) -> FileId {
    FileId::from_bytes([n; 32])
}

fn put(slots: &Slots, id: u8, bytes: &[u8], file: FileId, place: u8) -> Result<(), SlotError> {
    let mut upload = slots.upload([id; 32], bytes.len() as u64)?;
    upload.append(bytes)?;
    upload.finish(&info(bytes), file, place)
}

fn read(slot: &Slot) -> Vec<u8> {
    let blocks = slot.tree().len().div_ceil(SLOT_BLOCK_BYTES as u64);
    (0..blocks).flat_map(|n| slot.block(n).expect("the block is whole")).collect()
}

fn refusal(result: Result<impl std::fmt::Debug, SlotError>) -> SlotRefusal {
    match result {
        Err(SlotError::Refused(refusal)) => refusal,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_slot_reads_back_however_it_was_cut_up(
        len in prop_oneof![Just(0), Just(1), Just(SLOT_BLOCK_BYTES - 1), Just(SLOT_BLOCK_BYTES), Just(SLOT_BLOCK_BYTES + 1),
            Just(3 * SLOT_BLOCK_BYTES), 0..4 * SLOT_BLOCK_BYTES],
        piece in 1..400_000_usize,
        stop in 0..4 * SLOT_BLOCK_BYTES,
    ) {
        let home = Home::new(ROOMY);
        let (bytes, stop) = (bytes(len, 1), stop.min(len));
        let mut upload = home.slots().upload([1; 32], 0)?;
        for piece in bytes[..stop].chunks(piece) {
            upload.append(piece)?;
        }
        drop(upload);
        let mut upload = home.slots().upload([1; 32], len as u64)?;
        prop_assert_eq!(upload.offset(), stop as u64);
        upload.append(&bytes[stop..])?;
        upload.finish(&info(&bytes), file(1), 0)?;
        let slot = home.slots().get(&info(&bytes).root)?;
        prop_assert_eq!(read(&slot), bytes);
        let past = slot.block((len as u64).div_ceil(SLOT_BLOCK_BYTES as u64));
        let refused = matches!(past, Err(SlotError::Refused(SlotRefusal::Range { .. })));
        prop_assert!(refused);
    }
}

#[test]
fn an_upload_goes_on_after_its_node_was_killed_and_a_paused_one_also_after_the_machine_was() {
    let mut home = Home::new(ROOMY);
    let bytes = bytes(700_000, 1);
    for (id, pause) in [(1, true), (2, false)] {
        let mut upload = home.slots().upload([id; 32], 0).expect("there is room");
        upload.append(&bytes[..300_000]).expect("there is room");
        if pause {
            upload.pause().expect("the disk works");
        }
    }
    home.restart(ROOMY);
    assert_eq!(home.slots().upload([2; 32], 0).expect("there is room").offset(), 300_000);
    std::fs::write(home.dir.path().join("slots").join(BOOT_FILE), "another run").expect("a file");
    home.restart(ROOMY);
    let fresh = home.slots().upload([2; 32], 0).expect("there is room");
    assert_eq!(fresh.offset(), 0);
    drop(fresh);
    let mut upload = home.slots().upload([1; 32], 0).expect("there is room");
    assert_eq!(upload.offset(), 300_000);
    upload.append(&bytes[300_000..]).expect("there is room");
    upload.finish(&info(&bytes), file(1), 0).expect("the right bytes");
    home.restart(ROOMY);
    assert_eq!(read(&home.slots().get(&info(&bytes).root).expect("the slot")), bytes);
    let usage = home.slots().usage().expect("figures");
    assert_eq!((usage.slots, usage.stored, usage.pending), (1, ByteCount::new(700_000), ByteCount::ZERO));
}

#[test]
fn wrong_bytes_are_refused_and_leave_nothing() {
    let home = Home::new(ROOMY);
    let (sent, meant) = (bytes(1_000, 1), bytes(1_000, 2));
    let finish = |sent: &[u8]| {
        let mut upload = home.slots().upload([1; 32], 0).expect("there is room");
        upload.append(sent).expect("there is room");
        upload.finish(&info(&meant), file(1), 0)
    };
    let (have, announced) = (info(&sent).root, info(&meant).root);
    assert_eq!(refusal(finish(&sent)), SlotRefusal::WrongRoot { have, announced });
    assert_eq!(refusal(finish(&meant[1..])), SlotRefusal::WrongLength { have: 999, announced: 1_000 });
    assert_eq!(entries(&home.dir.path().join("slots/tmp")).expect("a directory"), Vec::<PathBuf>::new());
    assert_eq!(refusal(home.slots().get(&announced)), SlotRefusal::Unknown(announced));
    assert_eq!(home.slots().usage().expect("figures").pending, ByteCount::ZERO);
}

#[test]
fn a_slot_of_two_files_stays_until_both_are_removed() {
    let home = Home::new(ROOMY);
    let bytes = bytes(5_000, 1);
    let slots = home.slots();
    put(slots, 1, &bytes, file(1), 0).expect("the first file");
    put(slots, 2, &bytes, file(2), 3).expect("the second file");
    put(slots, 3, &bytes, file(2), 3).expect("a repeated claim is no new one");
    assert_eq!(slots.usage().expect("figures").stored, ByteCount::new(5_000));
    assert_eq!(slots.of_file(&file(2)).expect("a read"), [(3, info(&bytes).root)]);
    assert_eq!(slots.remove_file(&file(1)).expect("a removal"), []);
    let open = slots.get(&info(&bytes).root).expect("the slot is still there");
    assert_eq!(slots.remove_file(&file(2)).expect("a removal"), [(info(&bytes).root, 5_000)]);
    assert_eq!(slots.remove_file(&file(2)).expect("nothing to remove"), []);
    assert!(!slots.has(&info(&bytes).root).expect("a read") && !home.stored(&info(&bytes)).exists());
    assert_eq!(read(&open), bytes, "who has it open reads on");
    assert_eq!(slots.usage().expect("figures").stored, ByteCount::ZERO);
}

#[test]
fn a_claim_with_another_length_to_a_slot_that_is_here_is_refused_and_harms_it_not() {
    let home = Home::new(ROOMY);
    let bytes = bytes(300_000, 1);
    put(home.slots(), 1, &bytes, file(1), 0).expect("a slot");
    let upload = || home.slots().upload([2; 32], 0).expect("an upload");
    for len in [0, 1, 299_999, 300_001, 1 << 40] {
        let announced = SlotInfo { len, ..info(&bytes) };
        let refused = refusal(upload().finish(&announced, file(2), 0));
        assert_eq!(refused, SlotRefusal::WrongLength { have: 300_000, announced: len });
    }
    assert_eq!(read(&home.slots().get(&info(&bytes).root).expect("the slot")), bytes);
    upload().finish(&info(&bytes), file(2), 0).expect("nothing needs to be sent again");
    assert_eq!(home.slots().usage().expect("a look").slots, 1);
}

#[test]
fn a_place_of_a_file_has_one_slot() {
    let home = Home::new(ROOMY);
    let (first, second) = (bytes(100, 1), bytes(100, 2));
    put(home.slots(), 1, &first, file(1), 0).expect("the first slot");
    let held = info(&first).root;
    let taken = refusal(put(home.slots(), 2, &second, file(1), 0));
    assert_eq!(taken, SlotRefusal::Taken { file: file(1), place: 0, held });
    assert!(!home.stored(&info(&second)).exists() && !home.slots().has(&info(&second).root).expect("a read"));
}

#[test]
fn one_task_at_a_time_has_an_upload() {
    let home = Home::new(ROOMY);
    let first = home.slots().upload([1; 32], 0).expect("there is room");
    assert!(matches!(refusal(home.slots().upload([1; 32], 0)), SlotRefusal::Busy(_)));
    drop(first);
    assert!(home.slots().upload([1; 32], 0).is_ok());
}

#[test]
fn a_full_node_takes_no_slot_and_serves_and_removes_on() {
    let mut home = Home::new(SlotSettings { capacity: ByteCount::new(10_000), reserve: ByteCount::ZERO });
    let kept = bytes(6_000, 1);
    put(home.slots(), 1, &kept, file(1), 0).expect("there is room");
    let full = SlotRefusal::Full { need: ByteCount::new(4_001), free: ByteCount::new(4_000) };
    assert_eq!(refusal(home.slots().upload([2; 32], 4_001)), full);
    let mut unannounced = home.slots().upload([3; 32], 0).expect("nothing is announced");
    unannounced.append(&[0; 4_000]).expect("up to the last byte");
    assert!(matches!(refusal(unannounced.append(&[0])), SlotRefusal::Full { .. }));
    unannounced.abandon().expect("the disk works");
    // A reserve that the disk does not have.
    home.restart(SlotSettings { capacity: ByteCount::new(1 << 40), reserve: ByteCount::new(u64::MAX) });
    assert!(matches!(refusal(home.slots().upload([4; 32], 1)), SlotRefusal::Full { .. }));
    assert_eq!(read(&home.slots().get(&info(&kept).root).expect("the slot")), kept);
    assert_eq!(home.slots().remove_file(&file(1)).expect("a removal").len(), 1);
}

#[test]
fn room_is_made_by_dropping_uploads_that_nobody_carries_on() {
    let home = Home::new(SlotSettings { capacity: ByteCount::new(10_000), reserve: ByteCount::ZERO });
    let mut left = home.slots().upload([1; 32], 0).expect("there is room");
    left.append(&[0; 6_000]).expect("there is room");
    drop(left);
    assert_eq!(home.slots().usage().expect("figures").free, ByteCount::new(4_000));
    let taken = home.slots().upload([2; 32], 9_000).expect("an idle upload makes room");
    assert!(matches!(refusal(home.slots().upload([1; 32], 6_000)), SlotRefusal::Full { .. }));
    drop(taken);
    let again = home.slots().upload([1; 32], 6_000).expect("there is room again");
    assert_eq!(again.offset(), 0, "its bytes were given up");
}

#[test]
fn idle_uploads_are_dropped_when_they_are_old() {
    let home = Home::new(ROOMY);
    for id in 1..=2 {
        let mut upload = home.slots().upload([id; 32], 0).expect("there is room");
        upload.append(&[0; 1_000]).expect("there is room");
    }
    let resumed = home.slots().upload([2; 32], 0).expect("there is room");
    assert_eq!(home.slots().drop_idle(Duration::from_secs(3_600)).expect("the disk works"), 0);
    assert_eq!(home.slots().drop_idle(Duration::ZERO).expect("the disk works"), 1, "not the one that goes on");
    assert_eq!(resumed.offset(), 1_000);
    drop(resumed);
    assert_eq!(home.slots().usage().expect("figures").pending, ByteCount::new(1_000));
}

fn account(n: u8) -> AccountId {
    AccountId::from_bytes([n; 32])
}

#[test]
fn an_account_has_a_share_of_what_is_free_until_a_deal_covers_its_slots() {
    let home = Home::new(SlotSettings { capacity: ByteCount::new(100_000), reserve: ByteCount::ZERO });
    let slots = home.slots();
    let kept = bytes(40_000, 1);
    let mut upload = slots.upload_of(account(1), [1; 32], 40_000).expect("within its share");
    let over = || refusal(slots.upload_of(account(1), [2; 32], 10_000));
    assert!(matches!(over(), SlotRefusal::Quota { account: of, .. } if of == account(1)));
    drop(slots.upload_of(account(2), [3; 32], 20_000).expect("another account has its own share"));
    drop(slots.upload([4; 32], 60_000).expect("the node itself may use all of its room"));
    upload.append(&kept).expect("there is room");
    upload.finish(&info(&kept), file(1), 7).expect("a slot");
    assert!(matches!(over(), SlotRefusal::Quota { .. }), "a slot without a deal counts on");
    slots.covered(&file(1), &[6]);
    assert!(matches!(over(), SlotRefusal::Quota { .. }), "another slot's deal changes nothing");
    slots.covered(&file(1), &[7]);
    drop(slots.upload_of(account(1), [2; 32], 10_000).expect("a deal covers the other"));
    let mut again = slots.upload_of(account(1), [5; 32], 20_000).expect("within its share");
    again.append(&kept[..20_000]).expect("there is room");
    assert!(matches!(refusal(again.append(&kept)), SlotRefusal::Quota { .. }), "more than was set aside");
    again.finish(&info(&kept[..20_000]), file(2), 0).expect("a slot");
    assert!(matches!(refusal(slots.upload_of(account(1), [2; 32], 15_000)), SlotRefusal::Quota { .. }));
    slots.remove_file(&file(2)).expect("a removal");
    assert!(slots.upload_of(account(1), [2; 32], 15_000).is_ok(), "what is removed counts no more");
    let state = slots.inner.state();
    assert!(state.uncommitted.is_empty(), "{:?}", state.uncommitted);
}

#[test]
fn an_accounts_own_interrupted_uploads_give_way_to_its_next() {
    let home = Home::new(SlotSettings { capacity: ByteCount::new(100_000), reserve: ByteCount::ZERO });
    for id in [1, 2] {
        let mut upload = home.slots().upload_of(account(id), [id; 32], 0).expect("there is room");
        upload.append(&[0; 20_000]).expect("there is room");
    }
    drop(home.slots().upload_of(account(2), [3; 32], 30_000).expect("its own makes room"));
    let pending = home.slots().usage().expect("figures").pending;
    assert_eq!(pending, ByteCount::new(20_000), "the other account's stays");
    assert_eq!(home.slots().upload_of(account(1), [1; 32], 0).expect("it is there").offset(), 20_000);
}

#[test]
fn any_flipped_bit_names_slot_and_offset() {
    let home = Home::new(ROOMY);
    let bytes = bytes(3 * SLOT_BLOCK_BYTES + 10, 1);
    let info = info(&bytes);
    put(home.slots(), 1, &bytes, file(1), 0).expect("there is room");
    let path = home.stored(&info);
    let good = std::fs::read(&path).expect("the file");
    for at in [0, SLOT_BLOCK_BYTES - 1, SLOT_BLOCK_BYTES, 3 * SLOT_BLOCK_BYTES + 9, bytes.len(), good.len() - 1] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        std::fs::write(&path, &bad).expect("the file");
        let slot = home.slots().get(&info.root);
        let found = slot.and_then(|slot| (0..4).try_for_each(|block| slot.block(block).map(|_| ())));
        let Err(SlotError::Store(StoreError::Corrupted { table, key })) = found else { panic!("not noticed at {at}") };
        assert_eq!(table, format!("slot {}", info.root));
        let block = (at / SLOT_BLOCK_BYTES * SLOT_BLOCK_BYTES).min(bytes.len());
        let block = if at >= bytes.len() { bytes.len() } else { block };
        assert!(key.starts_with(&format!("offset {block}")), "{key} for {at}");
    }
    std::fs::write(&path, &good[..good.len() - 1]).expect("the file");
    assert!(matches!(home.slots().get(&info.root), Err(SlotError::Store(StoreError::Corrupted { .. }))));
    assert_eq!(home.slots().missing().expect("a read"), [info.root]);
    std::fs::remove_file(&path).expect("the file");
    assert!(matches!(home.slots().get(&info.root), Err(SlotError::Store(StoreError::Corrupted { .. }))));
    assert_eq!(home.slots().remove_file(&file(1)).expect("a removal"), [(info.root, info.len)]);
}

#[test]
fn files_that_the_index_does_not_know_go_at_the_start_and_the_others_stay() {
    let mut home = Home::new(ROOMY);
    let bytes = bytes(5_000, 1);
    put(home.slots(), 1, &bytes, file(1), 0).expect("there is room");
    let dir = home.dir.path().join("slots");
    let strays = [dir.join("tmp/stray"), home.stored(&info(&bytes)).with_file_name("stray")];
    for stray in &strays {
        std::fs::write(stray, b"left by a crash").expect("the file");
    }
    home.restart(ROOMY);
    assert!(strays.iter().all(|stray| !stray.exists()));
    assert_eq!(read(&home.slots().get(&info(&bytes).root).expect("the slot")), bytes);
}

#[test]
fn a_slot_that_is_set_aside_is_not_served_takes_no_room_and_is_replaced_when_it_comes_again() {
    let mut home = Home::new(ROOMY);
    let good = bytes(3 * SLOT_BLOCK_BYTES + 5, 1);
    let root = info(&good).root;
    put(home.slots(), 1, &good, file(1), 0).expect("a slot");
    std::fs::write(home.stored(&info(&good)), b"rot").expect("damage");
    assert!(home.slots().set_aside(&root).expect("a write"));
    assert!(!home.slots().set_aside(&root).expect("no write"), "once is enough");
    for _ in 0..2 {
        assert_eq!(refusal(home.slots().get(&root)), SlotRefusal::Unknown(root));
        assert!(!home.slots().has(&root).expect("a read"));
        assert_eq!(home.slots().usage().expect("a look").stored, ByteCount::ZERO);
        assert_eq!(home.slots().damaged().expect("a read"), [root]);
        assert_eq!(home.slots().missing().expect("a look"), []);
        home.restart(ROOMY);
    }
    put(home.slots(), 2, &good, file(1), 0).expect("the same slot again");
    assert_eq!(read(&home.slots().get(&root).expect("served")), good);
    assert_eq!(home.slots().usage().expect("a look").slots, 1);
    assert_eq!(home.slots().damaged().expect("a read"), []);
    assert_eq!(home.slots().remove_file(&file(1)).expect("a removal"), [(root, good.len() as u64)], "one claim");
}

#[test]
fn one_slot_of_a_file_can_go_and_the_others_stay() {
    let home = Home::new(ROOMY);
    let (first, second) = (bytes(10, 1), bytes(10, 2));
    put(home.slots(), 1, &first, file(1), 0).expect("a slot");
    put(home.slots(), 2, &second, file(1), 4).expect("a slot");
    put(home.slots(), 3, &first, file(2), 1).expect("the same slot of another file");
    assert_eq!(home.slots().remove_slot(&file(1), 0).expect("a removal"), [], "another file claims it");
    assert_eq!(home.slots().remove_slot(&file(1), 4).expect("a removal"), [(info(&second).root, 10)]);
    assert_eq!(home.slots().remove_slot(&file(1), 4).expect("nothing to do"), []);
    assert_eq!(home.slots().claims(None, 9).expect("a read"), [(file(2), 1, info(&first).root)]);
    let all = home.slots().claims(Some(&(file(1), 0, info(&first).root)), 9).expect("a read");
    assert_eq!(all.len(), 1);
}

#[test]
fn each_leaf_is_proven_from_the_block_around_it() {
    let home = Home::new(ROOMY);
    let long = bytes(SLOT_BLOCK_BYTES + 1_500, 1);
    for (id, bytes) in [(1, long.as_slice()), (2, &long[..700]), (3, &long[..2_048])] {
        put(home.slots(), id, bytes, file(id), 0).expect("a slot");
        let slot = home.slots().get(&info(bytes).root).expect("served");
        let leaves = bytes.len().div_ceil(1_024) as u64;
        for leaf in [0, leaves / 2, leaves - 1] {
            let (part, path) = slot.leaf(leaf).expect("a leaf");
            let at = usize::try_from(leaf).expect("small") * 1_024;
            assert_eq!(part, bytes[at..bytes.len().min(at + 1_024)]);
            let grain = crate::files::proof::Grain::Leaf;
            let proven = crate::files::proof::verify(&info(bytes).root, bytes.len() as u64, grain, leaf, &part, &path);
            assert_eq!(proven, Ok(()));
        }
        assert!(slot.leaf(leaves).is_err());
    }
}

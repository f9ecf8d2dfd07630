//! Claims about the pipeline as a whole: what goes in comes out, from any k of n slots, and nothing else does.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::sample::{Index, subsequence};

use super::*;
use crate::crypto::keys::AccountKeys;
use crate::files::erasure::Erasure;
use crate::files::manifest::{self, FileFacts, OpenManifest, PutSecrets};
use crate::files::parameters::{Layout, Parameters};
use crate::files::proof::SlotHasher;
use crate::types::{Millis, SlotRoot, limits};
use crate::wire::PublicManifest;

const NONCE: [u8; 32] = [5; 32];
const CHUNK: usize = limits::CHUNK_BYTES_MIN as usize;

fn key() -> FileKey {
    FileKey::from_bytes([4; 32])
}

fn owner() -> AccountKeys {
    AccountKeys::from_master(&[1; 32])
}

/// Bytes that do not shrink.
fn noise(len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new().update(&len.to_le_bytes()).finalize_xof().fill(&mut out);
    out
}

/// Bytes that shrink to about a half, and differ from place to place.
fn text(len: usize) -> Vec<u8> {
    let mut out = noise(len);
    for byte in &mut out {
        *byte &= 15;
    }
    out
}

/// A file as it lies in the network.
struct Put {
    slots: Vec<Vec<u8>>,
    encoded: Encoded,
    manifest: PublicManifest,
}

impl Put {
    fn open(&self) -> OpenManifest {
        OpenManifest::open(&self.manifest, &owner()).expect("the owner opens the file")
    }
}

/// Encodes the input, given in pieces of these lengths and then the rest at once.
fn put_in_pieces(input: &[u8], parameters: Parameters, compress: Compress, pieces: &[usize]) -> Put {
    let mut encoder = Encoder::new(&key(), &NONCE, parameters, compress);
    let mut slots = vec![Vec::new(); usize::from(parameters.slots())];
    let mut stripes = 0;
    let mut take = |stripe: &Stripe| {
        assert_eq!(stripe.index(), stripes, "stripes come in order");
        stripes += 1;
        for (j, (slot, shard)) in slots.iter_mut().zip(stripe.shards()).enumerate() {
            assert_eq!(shard, stripe.shard(j as u8));
            slot.extend_from_slice(shard);
        }
    };
    let mut rest = input;
    for piece in pieces.iter().copied().chain([usize::MAX]) {
        let (mut now, later) = rest.split_at(piece.min(rest.len()));
        rest = later;
        while let Some(stripe) = encoder.push(&mut now).expect("a short file") {
            take(&stripe);
            encoder.recycle(stripe);
        }
        assert!(now.is_empty(), "all input is taken");
    }
    while let Some(stripe) = encoder.finish() {
        take(&stripe);
        encoder.recycle(stripe);
    }
    let encoded = encoder.encoded().expect("a short file");
    let manifest = sealed(&encoded, &slots);
    Put { slots, encoded, manifest }
}

fn sealed(encoded: &Encoded, slots: &[Vec<u8>]) -> PublicManifest {
    let roots: Vec<SlotRoot> = slots.iter().map(|slot| SlotRoot::from_bytes(*blake3::hash(slot).as_bytes())).collect();
    let facts = FileFacts { name: "file".to_owned(), created: Millis::new(7), kind: Default::default() };
    let (owner, key) = (owner(), key());
    let secrets = PutSecrets { owner: &owner, key: &key, nonce: NONCE, seal_nonces: [[6; 24], [7; 24]] };
    manifest::seal(&secrets, encoded, &roots, &facts).expect("the parts fit")
}

fn put(input: &[u8], data: u8, parity: u8, compress: Compress) -> Put {
    let parameters = Parameters::new(data, parity, CHUNK as u32).expect("within the limits");
    put_in_pieces(input, parameters, compress, &[])
}

/// Decodes a plan from some of the slots, reading what it asks for and nothing else.
fn get(file: &OpenManifest, plan: &RangePlan, slots: &[Vec<u8>], kept: &[usize]) -> Result<Vec<u8>, DecodeError> {
    let mut decoder = file.decoder(plan.clone())?;
    let mut out = Vec::new();
    while let Some(read) = decoder.next_read() {
        let shard = |j: usize| slots[j].get(read.slot_offset as usize..).and_then(|rest| rest.get(..read.shard_len));
        let shards: Vec<_> = (0..slots.len()).map(|j| kept.contains(&j).then(|| shard(j)).flatten()).collect();
        decoder.push(&shards)?;
        loop {
            let before = out.len();
            if !decoder.pull(&mut out)? {
                break;
            }
            assert!(out.len() - before <= FRAME_BYTES, "pieces are bounded");
        }
    }
    decoder.finish()?;
    Ok(out)
}

fn get_all(put: &Put, kept: &[usize]) -> Result<Vec<u8>, DecodeError> {
    let file = put.open();
    get(&file, &file.plan_all(), &put.slots, kept)
}

#[test]
fn lengths_at_every_edge_round_trip() {
    let edges = [0, 1, 15, limits::SEGMENT_BYTES, CHUNK, 4 * limits::SEGMENT_BYTES - 64, 2 * CHUNK, FRAME_BYTES];
    let lengths: BTreeSet<usize> = edges.iter().flat_map(|edge| [edge.saturating_sub(1), *edge, edge + 1]).collect();
    for len in lengths {
        for (input, compress) in [(noise(len), Compress::Never), (text(len), Compress::Auto)] {
            let put = put(&input, 3, 2, compress);
            assert!(put.slots.iter().all(|slot| slot.len() as u64 == put.encoded.layout.slot_len()), "{len} bytes");
            assert_eq!(get_all(&put, &[0, 1, 2]).as_ref(), Ok(&input), "{len} bytes, data slots");
            assert_eq!(get_all(&put, &[0, 3, 4]).as_ref(), Ok(&input), "{len} bytes, with parity");
        }
    }
}

#[test]
fn replication_is_one_data_shard() {
    let input = noise(CHUNK + 1000);
    let put = put(&input, 1, 2, Compress::Never);
    for slot in 0..3 {
        assert_eq!(put.slots[slot], put.slots[0]);
        assert_eq!(get_all(&put, &[slot]).as_ref(), Ok(&input));
    }
}

#[test]
fn any_thirty_four_of_fifty_slots_restore_a_file() {
    let input = noise(3_000_000);
    let put = put(&input, 34, 16, Compress::Never);
    for kept in
        [(0..34).collect::<Vec<_>>(), (16..50).collect(), (0..50).filter(|slot| slot % 3 != 0).chain([0]).collect()]
    {
        assert_eq!(get_all(&put, &kept), Ok(input.clone()), "{kept:?}");
    }
}

#[test]
fn only_what_shrinks_is_compressed() {
    let len = 2 * FRAME_BYTES + 9;
    let compressed = put(&text(len), 2, 1, Compress::Auto);
    assert_eq!(compressed.encoded.compression, Compression::Zstd);
    assert!(compressed.encoded.layout.stored_len() < len as u64 * 3 / 4);
    assert_eq!(put(&noise(len), 2, 1, Compress::Auto).encoded.compression, Compression::None);
    assert_eq!(put(&text(len), 2, 1, Compress::Never).encoded.compression, Compression::None);
    assert_eq!(put(b"aaaaaaaaaaaaaaaaaaaaaaaa", 2, 1, Compress::Auto).encoded.compression, Compression::None);
}

#[test]
fn no_keystream_serves_two_ways_of_storing() {
    // The same content under the same key and nonce, compressed and not; replicated, so that slots are ciphertext.
    let input = text(1000);
    let (zstd, plain) = (put(&input, 1, 0, Compress::Auto), put(&input, 1, 0, Compress::Never));
    assert_eq!(zstd.encoded.compression, Compression::Zstd);
    let stored = zstd::bulk::compress(&input, 1).expect("compresses");
    let both = |at: usize| zstd.slots[0][at] ^ plain.slots[0][at] == stored[at] ^ input[at];
    let same = (0..stored.len()).filter(|at| both(*at)).count();
    assert!(same < stored.len() / 8, "{same} of {} bytes under one keystream", stored.len());
}

#[test]
fn a_file_that_shrinks_a_thousandfold_is_expanded_in_bounded_pieces() {
    let input = vec![0; 40 * FRAME_BYTES + 3];
    let put = put(&input, 2, 1, Compress::Auto);
    assert!(put.encoded.layout.cipher_len() < CHUNK as u64);
    assert_eq!(get_all(&put, &[0, 2]).as_ref(), Ok(&input));
}

#[test]
fn the_stored_stream_is_plain_zstd() {
    let input = text(FRAME_BYTES + 100);
    let put = put(&input, 1, 0, Compress::Auto);
    let file = put.open();
    let stored = RangePlan::stored(*file.layout(), 0..file.layout().stored_len());
    let stored = get(&file, &stored, &put.slots, &[0]).expect("decodes");
    assert_eq!(zstd::stream::decode_all(stored.as_slice()).expect("zstd reads it"), input);
}

#[test]
fn decoding_goes_on_with_other_shards_after_a_failure() {
    let input = noise(CHUNK * 2);
    let put = put(&input, 2, 1, Compress::Never);
    let file = put.open();
    let mut decoder = file.decoder(file.plan_all()).expect("a plan of this file");
    let mut out = Vec::new();
    while let Some(read) = decoder.next_read() {
        let at = read.slot_offset as usize;
        let shard = |slot: usize| Some(&put.slots[slot][at..at + read.shard_len]);
        assert!(matches!(decoder.push(&[None, None, shard(2)]), Err(DecodeError::Stripe { .. })));
        assert!(matches!(decoder.push(&[shard(0), Some(b"short"), None]), Err(DecodeError::Stripe { .. })));
        assert_eq!(decoder.push(&[shard(0), None, shard(2)]), Ok(()));
        assert_eq!(decoder.push(&[shard(0), None, shard(2)]), Err(DecodeError::Unfinished(read.stripe + 1)));
        while decoder.pull(&mut out).expect("authentic") {}
    }
    assert_eq!(decoder.finish(), Ok(()));
    assert_eq!(out, input);
}

#[test]
fn a_decoder_that_did_not_see_everything_is_not_finished() {
    let put = put(&noise(CHUNK * 2), 2, 1, Compress::Never);
    let file = put.open();
    let decoder = file.decoder(file.plan_all()).expect("a plan of this file");
    assert_eq!(decoder.finish(), Err(DecodeError::Unfinished(0)));
}

#[test]
fn encoder_and_decoder_move_between_threads() {
    fn send<T: Send>() {}
    send::<Encoder>();
    send::<Decoder>();
    send::<Stripe>();
}

#[test]
fn a_lost_slot_is_rebuilt_without_the_key() {
    for len in [0, 5, 3 * CHUNK + 77] {
        let put = put(&noise(len), 3, 2, Compress::Never);
        let layout = Layout::of_manifest(&put.manifest).expect("a file's length");
        let erasure = Erasure::new(layout.parameters());
        for lost in 0..5 {
            let mut rebuilt = blake3::Hasher::new();
            for read in RangePlan::all_stripes(layout).reads() {
                let at = read.slot_offset as usize;
                let part = |slot: usize| put.slots[slot][at..at + read.shard_len].to_vec();
                let mut shards: Vec<_> = (0..5).map(|slot| (slot != lost).then(|| part(slot))).collect();
                assert_eq!(erasure.rebuild(&mut shards, lost), Ok(()));
                rebuilt.update(shards[lost].as_ref().expect("the shard that was computed"));
            }
            assert_eq!(rebuilt.finalize().as_bytes(), put.manifest.slots[lost].root.as_bytes(), "{len} bytes");
        }
    }
}

#[test]
fn the_format_stays_as_it_is() {
    // Uncompressed, because another version of zstd may find other frames for the same content.
    let put = put(&noise(CHUNK + 1000), 2, 1, Compress::Never);
    let roots: Vec<String> = put.manifest.slots.iter().map(|slot| slot.root.short()).collect();
    expect_test::expect!["2cfe5be5a3931ff2 93cdd3f3df733130 7b79dcac303b14c7"].assert_eq(&roots.join(" "));
    expect_test::expect!["5fa04de0ab251c31"].assert_eq(&put.manifest.id().short());
}

#[test]
fn ranges_outside_of_the_file_are_refused() {
    let file = put(&text(1000), 2, 1, Compress::Never).open();
    for (start, end) in [(0, 1001), (1000, 1001), (10, 9), (u64::MAX, u64::MAX)] {
        assert_eq!(file.plan(start..end, None), Err(RangeError::Outside { start, end, len: 1000 }));
    }
    let compressed = put(&text(5000), 2, 1, Compress::Auto).open();
    assert_eq!(compressed.plan(1..2, None), Err(RangeError::SeekTable));
}

#[test]
fn a_small_range_reads_one_stripe_and_few_slots() {
    let parameters = Parameters::with_shards(4, 2).expect("within the limits");
    let put = put_in_pieces(&noise(5 << 20), parameters, Compress::Never, &[]);
    let plan = put.open().plan(3_000_000..3_000_010, None).expect("within the file");
    let reads: Vec<_> = plan.reads().collect();
    assert_eq!(reads.len(), 1);
    assert_eq!((reads[0].stripe, reads[0].blocks()), (2, 2..3));
    assert!(reads[0].wanted.len() <= 2, "a segment lies in two shards at most");
}

#[test]
fn a_seek_table_that_does_not_fit_is_refused() {
    let input = text(3 * FRAME_BYTES);
    let put = put(&input, 1, 0, Compress::Auto);
    let file = put.open();
    let plan = file.plan_seek_table().expect("a compressed file has one");
    let good = get(&file, &plan, &put.slots, &[0]).expect("decodes");
    assert!(file.seek_table(&good).is_ok());
    assert_eq!(file.seek_table(&good[1..]), Err(SeekTableError));
    for at in 0..good.len() {
        let mut changed = good.clone();
        changed[at] ^= 1;
        assert_eq!(file.seek_table(&changed), Err(SeekTableError), "byte {at}");
    }
}

/// Mostly a few segments, at times a few stripes, seldom more than a frame.
fn any_len() -> impl Strategy<Value = usize> {
    prop_oneof![4 => 0..3 * limits::SEGMENT_BYTES, 2 => 0..3 * CHUNK, 1 => FRAME_BYTES..3 * FRAME_BYTES / 2]
}

/// Numbers of shards, and which `data` of them are left.
fn any_survivors() -> impl Strategy<Value = (u8, u8, Vec<usize>)> {
    (1_u8..=6, 0_u8..=3).prop_flat_map(|(data, parity)| {
        let all: Vec<usize> = (0..usize::from(data + parity)).collect();
        (Just(data), Just(parity), subsequence(all, usize::from(data)))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_k_of_n_slots_restore_the_file(
        (data, parity, kept) in any_survivors(), len in any_len(), shrinks: bool, extra in 0_u32..5000,
        pieces in prop::collection::vec(0..CHUNK, 0..5),
    ) {
        let input = if shrinks { text(len) } else { noise(len) };
        let parameters = Parameters::new(data, parity, CHUNK as u32 + extra).expect("within the limits");
        let put = put_in_pieces(&input, parameters, Compress::Auto, &pieces);
        prop_assert!(get_all(&put, &kept) == Ok(input));
    }

    #[test]
    fn the_same_content_makes_the_same_slots_in_any_pieces(
        len in any_len(), pieces in prop::collection::vec(0..CHUNK, 0..6), shrinks: bool,
    ) {
        let input = if shrinks { text(len) } else { noise(len) };
        let parameters = Parameters::new(2, 1, CHUNK as u32).expect("within the limits");
        let whole = put_in_pieces(&input, parameters, Compress::Auto, &[]);
        let pieced = put_in_pieces(&input, parameters, Compress::Auto, &pieces);
        prop_assert!(whole.slots == pieced.slots);
        prop_assert_eq!(whole.manifest, pieced.manifest);
    }

    #[test]
    fn any_range_is_what_the_file_has_there(
        len in any_len(), ends in any::<[Index; 2]>(), shrinks: bool, kept in subsequence(vec![0, 1, 2, 3, 4], 3),
    ) {
        let input = if shrinks { text(len) } else { noise(len) };
        let put = put(&input, 3, 2, Compress::Auto);
        let file = put.open();
        let table = file.plan_seek_table().map(|plan| {
            file.seek_table(&get(&file, &plan, &put.slots, &kept).expect("decodes")).expect("fits")
        });
        let mut ends = ends.map(|end| end.index(len + 1));
        ends.sort_unstable();
        let plan = file.plan(ends[0] as u64..ends[1] as u64, table.as_ref()).expect("within the file");
        prop_assert_eq!(plan.plain_len(), (ends[1] - ends[0]) as u64);
        prop_assert!(get(&file, &plan, &put.slots, &kept) == Ok(input[ends[0]..ends[1]].to_vec()));
        // The wanted data shards are enough without any other.
        let wanted: BTreeSet<usize> = plan.reads().flat_map(|read| read.wanted).collect();
        let wanted: Vec<usize> = wanted.into_iter().collect();
        prop_assert!(get(&file, &plan, &put.slots, &wanted) == Ok(input[ends[0]..ends[1]].to_vec()));
    }

    #[test]
    fn a_changed_byte_of_a_slot_is_found(len in 1..3 * limits::SEGMENT_BYTES, slot in 0_usize..3, at in any::<Index>(), bit in 0_u32..8) {
        let mut put = put(&noise(len), 3, 2, Compress::Auto);
        let at = at.index(put.slots[slot].len());
        put.slots[slot][at] ^= 1_u8 << bit;
        // Only the padding after the last stripe belongs to no segment.
        let layout = put.encoded.layout;
        let last = layout.stripes() - 1;
        let in_stripe = (at as u64).checked_sub(layout.slot_offset(last)).map(|at| slot * layout.shard_len(last) + at as usize);
        let padding = in_stripe.is_some_and(|at| at >= layout.stripe_len(last));
        let result = get_all(&put, &[0, 1, 2]);
        prop_assert_eq!(matches!(result, Err(DecodeError::Segment { .. })), !padding);
    }

    #[test]
    fn slots_of_noise_never_decode_and_never_panic(len in 0_u64..2_000_000, plain_len in 0_u64..4_000_000, zstd: bool, seed in 0_usize..1000) {
        // What a hostile owner may seal: any lengths that fit, over slots of anything.
        let parameters = Parameters::new(2, 1, CHUNK as u32).expect("within the limits");
        let layout = Layout::new(parameters, len).expect("within the limits");
        let compression = if zstd { Compression::Zstd } else { Compression::None };
        let encoded = Encoded { plain_len, compression, layout };
        let slots = vec![noise(layout.slot_len() as usize + seed); 3];
        let slots: Vec<Vec<u8>> = slots.iter().map(|slot| slot[seed..].to_vec()).collect();
        if let Ok(file) = OpenManifest::open(&sealed(&encoded, &slots), &owner()) {
            prop_assert!(get(&file, &file.plan_all(), &slots, &[0, 2]).is_err());
        }
    }

    #[test]
    fn frames_of_noise_never_panic_the_expander(stored in prop::collection::vec(any::<u8>(), 0..3000), cut in any::<Index>()) {
        let mut frame = zstd::bulk::compress(&text(5000), 1).expect("compresses");
        let at = cut.index(frame.len());
        frame[at] ^= 0x10;
        frame.truncate(frame.len() - at % 7);
        for bytes in [stored, frame] {
            let mut reader = frames::FrameReader::new().expect("memory");
            let mut rest = bytes.as_slice();
            while reader.can_step(rest) {
                match reader.step(rest) {
                    Ok((taken, _)) => rest = &rest[taken..],
                    Err(_) => break,
                }
            }
            let _ = SeekTable::parse(&bytes, 5000, 9000 + bytes.len() as u64);
        }
    }

    #[test]
    fn a_slot_hasher_fed_with_shards_names_the_slot(len in any_len()) {
        let parameters = Parameters::with_shards(2, 1).expect("within the limits");
        let mut encoder = Encoder::new(&key(), &NONCE, parameters, Compress::Never);
        let mut hashers = vec![SlotHasher::new(); 3];
        let mut feed = |stripe: Stripe| hashers.iter_mut().zip(stripe.shards()).for_each(|(h, shard)| h.update(shard));
        let input = noise(len);
        let mut rest = input.as_slice();
        while let Some(stripe) = encoder.push(&mut rest).expect("a short file") {
            feed(stripe);
        }
        while let Some(stripe) = encoder.finish() {
            feed(stripe);
        }
        let whole = put_in_pieces(&input, parameters, Compress::Never, &[]);
        for (hasher, slot) in hashers.into_iter().zip(whole.manifest.slots) {
            let tree = hasher.finish();
            prop_assert_eq!((*tree.root(), tree.len()), (slot.root, slot.len));
        }
    }
}

//! The file pipeline in one thread, beside the limit of its parts: `cargo bench --bench files`.
//!
//! Encoding: plaintext to hashed shards, limit 1 / (1/aead + (n/k)/blake3 + 1/rs). Decoding: verified blocks to plaintext,
//! limit 1 / (1/aead + 1/blake3), and with all parity shards in use 1 / (1/aead + 1/blake3 + 1/rs). The parts are measured alone,
//! over the same bytes in the same pieces, in turn with the whole, and the best of the rounds counts for each: so both see
//! the same machine, however busy it is. Prints one JSON line for each figure.

use std::time::{Duration, Instant};

use trullo::crypto::keys::AccountKeys;
use trullo::crypto::seal::{FileKey, TAG_BYTES};
use trullo::files::manifest::{self, FileFacts, OpenManifest, PutSecrets};
use trullo::files::{Compress, Encoder, Erasure, Grain, Parameters, Path, SlotHasher, SlotTree, Stripe, proof};
use trullo::types::{Millis, SlotRoot, limits};

const BYTES: usize = 96 << 20;
const ROUNDS: usize = 9;
const NONCE: [u8; 32] = [2; 32];

fn main() {
    if let Err(missing) = trullo::files::check_cpu() {
        eprintln!("{missing}");
        std::process::exit(1);
    }
    // Cargo passes `--bench`, and `--test` when it only wants to see that this runs.
    let (bytes, rounds) = if std::env::args().any(|arg| arg == "--test") { (2 << 20, 1) } else { (BYTES, ROUNDS) };
    let mut plain = vec![0; bytes];
    blake3::Hasher::new().update(b"files").finalize_xof().fill(&mut plain);
    for (data, parity) in [(4, 2), (10, 4)] {
        let parameters = Parameters::with_shards(data, parity).expect("within the limits");
        run(&plain, parameters, rounds);
    }
}

/// The shortest time of each thing measured.
#[derive(Default)]
struct Best(std::collections::BTreeMap<&'static str, Duration>);

impl Best {
    fn time<T>(&mut self, what: &'static str, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = std::hint::black_box(work());
        let took = start.elapsed();
        self.0.entry(what).and_modify(|best| *best = took.min(*best)).or_insert(took);
        result
    }
    fn seconds(&self, what: &str) -> f64 {
        self.0[what].as_secs_f64()
    }
}

fn run(plain: &[u8], parameters: Parameters, rounds: usize) {
    let key = FileKey::from_bytes([1; 32]);
    let (slots, trees, manifest) = put(plain, &key, parameters);
    let file = OpenManifest::open(&manifest, &owner()).expect("our own manifest");
    let blocks: Vec<Vec<Path>> = trees.iter().map(paths).collect();
    let data = usize::from(parameters.data());
    let healthy: Vec<bool> = (0..slots.len()).map(|slot| slot < data).collect();
    let degraded: Vec<bool> = (0..slots.len()).map(|slot| slot >= usize::from(parameters.parity())).collect();
    let mut best = Best::default();
    for _ in 0..rounds {
        parts(&mut best, plain, &key, parameters);
        best.time("encode", || encode(plain, &key, parameters, |_, _| ()));
        best.time("decode", || decode(&file, &slots, &trees, &blocks, &healthy));
        best.time("decode_degraded", || decode(&file, &slots, &trees, &blocks, &degraded));
    }
    let limit = best.seconds("aead") + best.seconds("blake3_slots") + best.seconds("rs_encode");
    report(plain.len(), parameters, "encode", best.seconds("encode"), limit, &best);
    let limit = best.seconds("aead") + best.seconds("blake3_data");
    report(plain.len(), parameters, "decode", best.seconds("decode"), limit, &best);
    let limit = limit + best.seconds("rs_restore");
    report(plain.len(), parameters, "decode_degraded", best.seconds("decode_degraded"), limit, &best);
}

fn report(bytes: usize, parameters: Parameters, what: &str, seconds: f64, limit: f64, best: &Best) {
    let rate = |seconds: f64| (bytes as f64 / 1e6 / seconds).round();
    println!(
        r#"{{"bench":"files","what":"{what}","data":{},"parity":{},"chunk_bytes":{},"mb_per_s":{},"limit_mb_per_s":{},"share_of_limit":{:.3},"aead_mb_per_s":{},"blake3_slots_mb_per_s":{},"rs_encode_mb_per_s":{},"rs_restore_mb_per_s":{}}}"#,
        parameters.data(),
        parameters.parity(),
        parameters.chunk_bytes(),
        rate(seconds),
        rate(limit),
        limit / seconds,
        rate(best.seconds("aead")),
        rate(best.seconds("blake3_slots")),
        rate(best.seconds("rs_encode")),
        rate(best.seconds("rs_restore")),
    );
}

/// Each part alone, over as many bytes as the pipeline gives it.
fn parts(best: &mut Best, plain: &[u8], key: &FileKey, parameters: Parameters) {
    let chunk = parameters.chunk_bytes() as usize;
    let (data, slots) = (usize::from(parameters.data()), usize::from(parameters.slots()));
    let shard = chunk / data;
    let stream = key.stream(b"bench");
    let mut segment = vec![0; limits::SEGMENT_BYTES + TAG_BYTES];
    best.time("aead", || {
        for index in 0..plain.len() / limits::SEGMENT_BYTES {
            stream.seal(index as u64, false, &mut segment[..limits::SEGMENT_BYTES]);
        }
    });
    // Shards of one stripe, again and again: as warm in the cache as the pipeline's own.
    let stripes = plain.len() / chunk;
    let mut stripe = plain[..chunk].to_vec();
    let mut rest = vec![0; shard * usize::from(parameters.parity())];
    for (what, count) in [("blake3_slots", slots), ("blake3_data", data)] {
        best.time(what, || {
            let mut hashers = vec![blake3::Hasher::new(); count];
            for _ in 0..stripes {
                for (slot, hasher) in hashers.iter_mut().enumerate() {
                    hasher.update(&stripe[(slot % data) * shard..][..shard]);
                }
            }
            hashers.iter().map(|hasher| hasher.finalize()).collect::<Vec<_>>()
        });
    }
    let erasure = Erasure::new(parameters);
    best.time("rs_encode", || (0..stripes).for_each(|_| erasure.encode(&stripe, &mut rest)));
    best.time("rs_restore", || {
        let code = reed_solomon_erasure::galois_8::ReedSolomon::new(data, rest.len() / shard).expect("valid numbers");
        for _ in 0..stripes {
            let present = (0..slots).map(|slot| slot >= slots - data);
            let shards = stripe.chunks_exact_mut(shard).chain(rest.chunks_exact_mut(shard));
            let mut shards: Vec<_> = shards.zip(present).collect();
            code.reconstruct_data(&mut shards).expect("enough shards");
        }
    });
}

fn owner() -> AccountKeys {
    AccountKeys::from_master(&[3; 32])
}

/// Encodes and hashes, as a put does; `keep` sees every stripe.
fn encode(
    plain: &[u8],
    key: &FileKey,
    parameters: Parameters,
    mut keep: impl FnMut(&Stripe, &Encoder),
) -> (Encoder, Vec<SlotTree>) {
    let mut encoder = Encoder::new(key, &NONCE, parameters, Compress::Never);
    let mut hashers = vec![SlotHasher::new(); usize::from(parameters.slots())];
    let mut take = |encoder: &mut Encoder, stripe: Stripe| {
        hashers.iter_mut().zip(stripe.shards()).for_each(|(hasher, shard)| hasher.update(shard));
        keep(&stripe, encoder);
        encoder.recycle(stripe);
    };
    // A put reads pieces of this size.
    for mut piece in plain.chunks(256 << 10) {
        while let Some(stripe) = encoder.push(&mut piece).expect("a short file") {
            take(&mut encoder, stripe);
        }
    }
    while let Some(stripe) = encoder.finish() {
        take(&mut encoder, stripe);
    }
    let trees = hashers.into_iter().map(SlotHasher::finish).collect();
    (encoder, trees)
}

fn put(
    plain: &[u8],
    key: &FileKey,
    parameters: Parameters,
) -> (Vec<Vec<u8>>, Vec<SlotTree>, trullo::wire::PublicManifest) {
    let mut slots = vec![Vec::new(); usize::from(parameters.slots())];
    let (encoder, trees) = encode(plain, key, parameters, |stripe, _| {
        slots.iter_mut().zip(stripe.shards()).for_each(|(slot, shard)| slot.extend_from_slice(shard));
    });
    let roots: Vec<SlotRoot> = trees.iter().map(|tree| *tree.root()).collect();
    let owner = owner();
    let secrets = PutSecrets { owner: &owner, key, nonce: NONCE, seal_nonces: [[4; 24], [5; 24]] };
    let facts = FileFacts { name: String::new(), created: Millis::ZERO, kind: trullo::files::FileKind::Alone };
    let encoded = encoder.encoded().expect("a short file");
    (slots, trees, manifest::seal(&secrets, &encoded, &roots, &facts).expect("the parts fit"))
}

fn paths(tree: &SlotTree) -> Vec<Path> {
    let blocks = Grain::Block.count(tree.len());
    (0..blocks).map(|block| tree.block_path(block).expect("within the slot")).collect()
}

/// Verifies blocks and decodes, as a get does, from the slots that are there.
fn decode(file: &OpenManifest, slots: &[Vec<u8>], trees: &[SlotTree], paths: &[Vec<Path>], there: &[bool]) -> u64 {
    let mut decoder = file.decoder(file.plan_all()).expect("a plan of this file");
    let mut out = Vec::with_capacity(1 << 20);
    let mut len = 0;
    while let Some(read) = decoder.next_read() {
        let shard = |slot: usize| {
            let tree = &trees[slot];
            for block in read.blocks() {
                let bytes = slots[slot].chunks(limits::SLOT_BLOCK_BYTES).nth(block as usize).expect("within the slot");
                let path = &paths[slot][block as usize];
                proof::verify(tree.root(), tree.len(), Grain::Block, block, bytes, path).expect("our own slot");
            }
            &slots[slot][read.slot_offset as usize..][..read.shard_len]
        };
        let shards: Vec<_> = (0..slots.len()).map(|slot| there[slot].then(|| shard(slot))).collect();
        decoder.push(&shards).expect("enough shards");
        while decoder.pull(&mut out).expect("authentic") {
            if out.len() >= 256 << 10 {
                len += std::hint::black_box(&out).len() as u64;
                out.clear();
            }
        }
    }
    decoder.finish().expect("complete");
    len + out.len() as u64
}

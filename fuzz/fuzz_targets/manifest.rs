//! Manifests, as everyone sees them and as their owner opens them: whatever the sealed part says, every plan stays
//! within the file and the decoder ends with bytes or an error.

#![no_main]

use std::sync::LazyLock;

use borsh::{BorshDeserialize, BorshSerialize};
use libfuzzer_sys::fuzz_target;
use trullo::crypto::seal::FileKey;
use trullo::files::{Compression, OpenManifest, RangePlan};
use trullo::types::limits::TX_BYTES_MAX;
use trullo::wire::{PublicManifest, encode};
use trullo_fuzz::{canonical, edited, sample};

/// The sealed parts, as the format has them.
#[derive(BorshSerialize, BorshDeserialize)]
struct Private {
    name: String,
    created: u64,
    plain_len: u64,
    compression: Compression,
}

#[derive(BorshSerialize)]
struct Sealed {
    commitment: [u8; 32],
    wrapped_key: Vec<u8>,
    private: Vec<u8>,
}

static PUBLIC: LazyLock<Vec<u8>> = LazyLock::new(|| encode(&sample::manifest()));
/// Stripes of a plan that are looked at.
const STRIPES_MAX: usize = 64;

fn private(compression: Compression) -> Vec<u8> {
    encode(&Private { name: "a file".to_owned(), created: 1, plain_len: 0, compression })
}

/// Seals any bytes as the owner would seal the private facts.
fn seal(manifest: &mut PublicManifest, private: &[u8]) {
    let key = FileKey::from_bytes([7; 32]);
    manifest.sealed.clear();
    manifest.owner = sample::owner().account_id();
    let public = encode(&*manifest);
    let sealed = Sealed {
        commitment: key.commitment(),
        wrapped_key: sample::owner().wrapping.seal(&[1; 24], &public, key.as_bytes()),
        private: key.manifest_key().seal(&[2; 24], &public, private),
    };
    manifest.sealed = encode(&sealed);
}

fn follow(open: &OpenManifest, plan: RangePlan, table: bool) {
    let slot_len = open.layout().slot_len();
    assert!(plan.plain_len() <= open.plain_len() || table);
    for read in plan.reads().take(STRIPES_MAX) {
        assert!(read.slot_offset + read.shard_len as u64 <= slot_len, "a read lies within the slot");
        assert!(read.wanted.end <= usize::from(open.layout().parameters().data()));
        assert!(!read.blocks().is_empty());
    }
    let Ok(mut decoder) = open.decoder(plan) else { return };
    while let Some(read) = decoder.next_read().filter(|read| read.shard_len < 1 << 16) {
        let shard = vec![5; read.shard_len];
        let shards = vec![Some(shard.as_slice()); usize::from(open.layout().parameters().slots())];
        if decoder.push(&shards).is_err() {
            return;
        }
        let mut out = Vec::new();
        while decoder.pull(&mut out).is_ok_and(|more| more) {
            assert!(out.len() as u64 <= open.plain_len() || table);
        }
    }
}

fn read(manifest: &PublicManifest, range: std::ops::Range<u64>, table: &[u8]) {
    let Ok(open) = OpenManifest::open(manifest, sample::owner()) else { return };
    follow(&open, open.plan_all(), false);
    let table = match open.plan_seek_table() {
        Some(plan) => {
            follow(&open, plan, true);
            open.seek_table(table).ok()
        }
        None => None,
    };
    if let Ok(plan) = open.plan(range.clone(), table.as_ref()) {
        assert_eq!(plan.plain_len(), range.end - range.start);
        follow(&open, plan, false);
    }
}

fuzz_target!(|data: &[u8]| {
    let [kind, len @ ..] = data else { return };
    let Some((numbers, rest)) = len.split_first_chunk::<18>() else { return };
    let at = usize::from(numbers[16]).min(rest.len());
    let (public, private_edits) = rest.split_at(at);
    let Some(mut manifest) = canonical::<PublicManifest>(&edited(PUBLIC.clone(), public), TX_BYTES_MAX) else { return };
    if kind & 4 == 0 {
        // Slots that fit the lengths, so that more than the check is reached.
        manifest.slots = vec![sample::manifest().slots[0]; usize::from(manifest.data) + usize::from(manifest.parity)];
        let len = manifest.slot_len();
        manifest.slots.iter_mut().for_each(|slot| slot.len = len);
    }
    let number = |at: usize| u64::from_le_bytes(numbers[at..at + 8].try_into().expect("eight bytes"));
    let compression = if kind & 1 == 0 { Compression::None } else { Compression::Zstd };
    let mut plain = edited(private(compression), private_edits);
    if let Some(layout) = (kind & 2 == 0).then(|| trullo::files::Layout::of_manifest(&manifest).ok()).flatten() {
        if let Ok(mut facts) = borsh::from_slice::<Private>(&plain) {
            // A length that the layout allows.
            facts.plain_len = match facts.compression {
                Compression::None => layout.stored_len(),
                Compression::Zstd => number(8) % layout.stored_len().saturating_mul(1 << 17).max(1),
            };
            plain = encode(&facts);
        }
    }
    read(&manifest, 0..1, &[]);
    seal(&mut manifest, &plain);
    let start = number(0) % (number(8).max(1));
    read(&manifest, start..number(8).max(start), private_edits);
});

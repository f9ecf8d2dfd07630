//! Answers with blocks: bounded in number, one encoding each.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use trullo::node::links::{decode_blocks, encode_blocks};
use trullo::store::SyncBlock;
use trullo::types::limits::{ANSWER_BYTES_MAX, SYNC_BLOCKS_MAX};
use trullo::wire::{ProposedBlock, VoteKind, encode};
use trullo_fuzz::{bytes, canonical, sample};

static SAMPLES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let blocks = [None, Some(sample::certified(VoteKind::Commit))];
    let blocks = blocks.map(|certificate| SyncBlock { block: sample::block(), certificate });
    vec![encode_blocks(&blocks), encode(&sample::block())]
});

fuzz_target!(|data: &[u8]| {
    let bytes = bytes(data, &SAMPLES);
    if let Some(blocks) = decode_blocks(&bytes) {
        assert!(blocks.len() <= SYNC_BLOCKS_MAX);
        assert!(encode_blocks(&blocks) == bytes, "an answer has one encoding");
    }
    if let Some(block) = canonical::<ProposedBlock>(&bytes, ANSWER_BYTES_MAX) {
        assert_eq!(block.block.hash(), block.header().hash());
    }
});

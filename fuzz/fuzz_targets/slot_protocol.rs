//! The slot protocol: questions, answers and frames from a stream, each bounded and with one encoding.

#![no_main]

use std::sync::LazyLock;

use futures::FutureExt;
use libfuzzer_sys::fuzz_target;
use trullo::node::slots::protocol::{Answer, Ask, FRAME_BYTES_MAX, receive, receive_frame, send};
use trullo::types::{Height, SlotRoot};
use trullo::wire::{StorageReceipt, UploadTicket};
use trullo_fuzz::{bytes, sample};

fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("memory does not block")
}

static SAMPLES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let manifest = sample::manifest();
    let (file, info) = (manifest.id(), manifest.slots[0]);
    let (key, node) = (&sample::keys()[0], sample::keys()[1].public().node_id());
    let ticket = UploadTicket::sign(&sample::chain(), &node, [1; 32], Some(5), Height::new(9), key);
    let (mut asks, mut answers) = (Vec::new(), Vec::new());
    let questions = [
        Ask::Upload(ticket),
        Ask::Finish { manifest: Box::new(manifest), slot: 0 },
        Ask::Read { root: SlotRoot::from_bytes([1; 32]), first: 0, count: 1 },
    ];
    let receipt = StorageReceipt::sign(&sample::chain(), &file, 0, Height::new(9), &info, key);
    let replies = [
        Answer::Offset(3),
        Answer::Receipt { receipt, info },
        Answer::Block { len: 5, path: vec![[1; 32]; 3] },
        Answer::Refused("no room".to_owned()),
        Answer::Denied("no credits".to_owned()),
    ];
    questions.iter().for_each(|ask| now(send(&mut asks, ask)).expect("memory takes it"));
    replies.iter().for_each(|answer| now(send(&mut answers, answer)).expect("memory takes it"));
    vec![asks, answers]
});

fn all<T>(bytes: &[u8]) -> usize
where
    T: borsh::BorshDeserialize + borsh::BorshSerialize,
{
    let mut stream = bytes;
    loop {
        let before = stream;
        let Ok(Some(message)) = now(receive::<T>(&mut stream)) else { return before.len() };
        let mut again = Vec::new();
        now(send(&mut again, &message)).expect("memory takes it");
        assert!(before.starts_with(&again), "a message has one encoding");
    }
}

fuzz_target!(|data: &[u8]| {
    let bytes = bytes(data, &SAMPLES);
    all::<Ask>(&bytes);
    all::<Answer>(&bytes);
    let (mut stream, mut frame) = (bytes.as_slice(), Vec::new());
    while now(receive_frame(&mut stream, &mut frame, FRAME_BYTES_MAX)).is_ok_and(|more| more) {
        assert!(frame.len() <= FRAME_BYTES_MAX);
    }
});

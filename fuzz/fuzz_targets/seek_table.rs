//! Seek tables of compressed files: the frames of any range lie within the file and around the range.

#![no_main]

use libfuzzer_sys::fuzz_target;
use trullo::files::SeekTable;
use trullo_fuzz::edited;

const FRAME: u64 = 1 << 20;

/// The table of frames of this size each.
fn table(frames: u32, plain_len: u64, size: u32) -> Vec<u8> {
    let mut out = 0x184D_2A5E_u32.to_le_bytes().to_vec();
    out.extend((8 * frames + 9).to_le_bytes());
    for n in 0..u64::from(frames) {
        out.extend(size.to_le_bytes());
        out.extend(((plain_len - n * FRAME).min(FRAME) as u32).to_le_bytes());
    }
    out.extend(frames.to_le_bytes());
    out.push(0);
    out.extend(0x8F92_EAB1_u32.to_le_bytes());
    out
}

fuzz_target!(|data: &[u8]| {
    let Some((numbers, rest)) = data.split_first_chunk::<16>() else { return };
    let number = |at: usize| u64::from_le_bytes(numbers[at..at + 8].try_into().expect("eight bytes"));
    // Any lengths and any bytes.
    let (plain_len, stored_len) = (number(0), number(8));
    if let Ok(range) = SeekTable::range(plain_len, stored_len) {
        assert!(range.end == stored_len && range.start < range.end);
    }
    let _ = SeekTable::parse(rest, plain_len, stored_len);
    // Edits of a good table.
    let frames = numbers[0] % 16;
    let plain_len = (u64::from(frames) * FRAME).saturating_sub(number(8) % FRAME);
    let size = u32::from(numbers[9]) + 1;
    let good = table(plain_len.div_ceil(FRAME) as u32, plain_len, size);
    let stored_len = plain_len.div_ceil(FRAME) * u64::from(size) + good.len() as u64;
    assert!(SeekTable::parse(&good, plain_len, stored_len).is_ok());
    let _ = SeekTable::parse(&edited(good, rest), plain_len, stored_len);
});

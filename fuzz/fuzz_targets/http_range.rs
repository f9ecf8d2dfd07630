//! Range headers: whatever they say, the range is not empty and within the file.

#![no_main]

use libfuzzer_sys::fuzz_target;
use trullo::api::range::parse;

fuzz_target!(|data: &[u8]| {
    let Some((total, rest)) = data.split_first_chunk::<9>() else { return };
    let (shift, number) = (u32::from(total[0] % 64), &total[1..]);
    let total = u64::from_le_bytes(number.try_into().expect("eight bytes")) >> shift;
    let text = String::from_utf8_lossy(rest);
    for text in [text.to_string(), format!("bytes={text}"), format!("bytes={}-{text}", total >> 1)] {
        if let Ok(Some(range)) = parse(&text, total) {
            assert!(range.start < range.end && range.end <= total);
            let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
            assert!(text.strip_prefix("bytes=").is_some_and(digits), "only digits make a range");
        }
    }
});

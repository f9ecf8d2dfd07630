//! The Range header (RFC 9110, section 14.1.2).

use std::ops::Range;

/// A range that holds no byte of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsatisfiable;

/// The one range that a header asks for of `total` bytes, not empty; nothing for forms that may be ignored.
/// Errors: `Unsatisfiable`.
pub fn parse(text: &str, total: u64) -> Result<Option<Range<u64>>, Unsatisfiable> {
    let Some(spec) = text.strip_prefix("bytes=").filter(|spec| !spec.contains(',')) else { return Ok(None) };
    let Some((first, last)) = spec.split_once('-') else { return Ok(None) };
    let range = match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => first..last.saturating_add(1).min(total),
        (Some(first), None) if last.is_empty() => first..total,
        (None, Some(last)) if first.is_empty() => total.saturating_sub(last)..total,
        _ => return Ok(None),
    };
    if range.start < range.end { Ok(Some(range)) } else { Err(Unsatisfiable) }
}

/// Digits alone; Rust's own parser takes a sign too.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_the_rfc_says() {
        assert_eq!(parse("bytes=0-9", 100), Ok(Some(0..10)));
        assert_eq!(parse("bytes=90-", 100), Ok(Some(90..100)));
        assert_eq!(parse("bytes=-10", 100), Ok(Some(90..100)));
        assert_eq!(parse("bytes=50-1000", 100), Ok(Some(50..100)));
        assert_eq!(parse("bytes=100-", 100), Err(Unsatisfiable));
        assert_eq!(parse("bytes=0-1,5-6", 100), Ok(None));
        assert_eq!(parse("lines=0-1", 100), Ok(None));
        assert_eq!(parse("bytes=+5-9", 100), Ok(None));
    }
}

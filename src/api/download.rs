//! Download: the headers of a file's bytes: which of them are wanted, and under which name they are to be saved.

use std::ops::Range;

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::range;

/// What stands in an extended parameter as it is (RFC 8187, section 3.2.1: attr-char).
const ATTR_CHARS: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
    .remove(b'~');

/// Which bytes of a file a client wants.
#[derive(Debug, PartialEq, Eq)]
pub enum Wanted {
    /// All.
    All,
    /// Some.
    Part(Range<u64>),
    /// None: it has them.
    Nothing,
    /// Some that the file does not have.
    Outside,
}

/// A file's tag.
pub fn tag(id: &str) -> String {
    format!("\"{id}\"")
}

/// One header, if the text can stand in one.
pub fn header(name: HeaderName, text: String) -> Option<(HeaderName, HeaderValue)> {
    HeaderValue::try_from(text).ok().map(|value| (name, value))
}

/// The headers of every answer with a file of this name. Browsers are to save it, whatever is in it.
pub fn head(name: &str, tag: &str) -> HeaderMap {
    let fixed = |text| HeaderValue::from_static(text);
    let mut headers = HeaderMap::from_iter([
        (header::CONTENT_TYPE, fixed("application/octet-stream")),
        (header::X_CONTENT_TYPE_OPTIONS, fixed("nosniff")),
        (header::ACCEPT_RANGES, fixed("bytes")),
        (header::CACHE_CONTROL, fixed("private, no-cache")),
        (header::CONTENT_SECURITY_POLICY, fixed("default-src 'none'; sandbox")),
    ]);
    headers.extend(header(header::ETAG, tag.to_owned()));
    headers.extend(header(header::CONTENT_DISPOSITION, disposition(name)));
    headers
}

/// RFC 6266: the name as plain ASCII for old clients, and in full where that is not it.
fn disposition(name: &str) -> String {
    // No directory of the client's comes from here.
    let base: String = name.chars().map(|c| if matches!(c, '/' | '\\') || c.is_control() { '_' } else { c }).collect();
    let plain: String = base.chars().map(|c| if c.is_ascii() && !matches!(c, '"' | '%') { c } else { '_' }).collect();
    match plain == base {
        true => format!("attachment; filename=\"{plain}\""),
        false => {
            format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{}", utf8_percent_encode(&base, ATTR_CHARS))
        }
    }
}

/// Whether the client has the file, as `If-None-Match` says (RFC 9110, section 13.1.2).
pub fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    let all = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut tags = all.flat_map(|text| text.split(',')).map(str::trim);
    tags.any(|given| given == "*" || given.strip_prefix("W/").unwrap_or(given) == tag)
}

/// Which bytes are wanted of so many.
pub fn wanted(headers: &HeaderMap, tag: &str, total: u64) -> Wanted {
    if is_known(headers, tag) {
        return Wanted::Nothing;
    }
    // A range of something else than this is none (RFC 9110, section 13.1.5); a date is not known here.
    let holds = headers.get(header::IF_RANGE).is_none_or(|given| given.as_bytes() == tag.as_bytes());
    let range = headers.get(header::RANGE).filter(|_| holds).and_then(|range| range.to_str().ok());
    match range.map(|text| range::parse(text, total)) {
        None | Some(Ok(None)) => Wanted::All,
        Some(Ok(Some(range))) => Wanted::Part(range),
        Some(Err(range::Unsatisfiable)) => Wanted::Outside,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(pairs: &[(HeaderName, &'static str)]) -> Wanted {
        let headers = pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect();
        wanted(&headers, "\"ab\"", 100)
    }

    #[test]
    fn conditions_go_before_ranges_and_a_range_of_another_version_is_none() {
        use header::{IF_NONE_MATCH, IF_RANGE, RANGE};
        assert_eq!(ask(&[]), Wanted::All);
        assert_eq!(ask(&[(RANGE, "bytes=0-9")]), Wanted::Part(0..10));
        assert_eq!(ask(&[(RANGE, "bytes=-10")]), Wanted::Part(90..100));
        assert_eq!(ask(&[(RANGE, "bytes=100-")]), Wanted::Outside);
        assert_eq!(ask(&[(RANGE, "bytes=0-9"), (IF_RANGE, "\"ab\"")]), Wanted::Part(0..10));
        assert_eq!(ask(&[(RANGE, "bytes=0-9"), (IF_RANGE, "\"cd\"")]), Wanted::All);
        assert_eq!(ask(&[(RANGE, "bytes=0-9"), (IF_RANGE, "W/\"ab\"")]), Wanted::All, "a range needs a strong tag");
        for known in ["\"ab\"", "*", "\"cd\", \"ab\"", "W/\"ab\""] {
            assert_eq!(ask(&[(IF_NONE_MATCH, known), (RANGE, "bytes=0-9")]), Wanted::Nothing, "{known}");
        }
        assert_eq!(ask(&[(IF_NONE_MATCH, "\"cd\"")]), Wanted::All);
    }

    #[test]
    fn any_name_can_be_told_and_none_leads_out_of_the_clients_directory() {
        assert_eq!(disposition("a b.txt"), "attachment; filename=\"a b.txt\"");
        assert_eq!(disposition("é\"%.txt"), "attachment; filename=\"___.txt\"; filename*=UTF-8''%C3%A9%22%25.txt");
        assert_eq!(disposition("../a\\b"), "attachment; filename=\".._a_b\"");
        assert!(disposition("a\r\nX: 1").parse::<HeaderValue>().is_ok());
    }
}

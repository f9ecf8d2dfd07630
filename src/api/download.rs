//! Download: the headers of a file's bytes: which of them are wanted, and under which name they are to be saved.

use std::ops::Range;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::StreamExt;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::sync::mpsc;

use super::chain::tokio_stream;
use super::problem::Problem;
use super::range;
use crate::node::NodeError;

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
enum Wanted {
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
fn wanted(headers: &HeaderMap, tag: &str, total: u64) -> Wanted {
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

/// A length, and that many bytes in pieces.
type Pieces = (u64, mpsc::Receiver<Result<Bytes, NodeError>>);

/// The answer with those bytes of a file that a client wants, or without any if it has them. `head` is as `head` makes it;
/// `read` is asked for a range, or for all. Errors: those of `read` and of the first piece.
pub async fn answer<F>(
    headers: &HeaderMap,
    head: HeaderMap,
    total: u64,
    read: impl FnOnce(Option<Range<u64>>) -> F,
) -> Result<Response, Problem>
where
    F: Future<Output = Result<Pieces, NodeError>>,
{
    let tag = head.get(header::ETAG).and_then(|tag| tag.to_str().ok()).unwrap_or_default();
    let range = match wanted(headers, tag, total) {
        Wanted::All => None,
        Wanted::Part(range) => Some(range),
        Wanted::Nothing => return Ok((StatusCode::NOT_MODIFIED, head).into_response()),
        Wanted::Outside => {
            let outside = Problem::refused(
                StatusCode::RANGE_NOT_SATISFIABLE,
                format!("the range lies outside of the file's {total} bytes"),
            );
            let mut answer = outside.into_response();
            answer.headers_mut().extend(self::header(header::CONTENT_RANGE, format!("bytes */{total}")));
            return Ok(answer);
        }
    };
    let (len, mut pieces) = read(range.clone()).await?;
    // Whether the file can be read at all is known with the first piece, when the status can still say so.
    let first = pieces.recv().await.transpose()?;
    let first = futures::stream::iter(first.map(Ok::<_, NodeError>));
    let mut answer = (head, Body::from_stream(first.chain(tokio_stream(pieces)))).into_response();
    answer.headers_mut().insert(header::CONTENT_LENGTH, len.into());
    if let Some(range) = range {
        *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
        let text = format!("bytes {}-{}/{total}", range.start, range.end.saturating_sub(1));
        answer.headers_mut().extend(self::header(header::CONTENT_RANGE, text));
    }
    Ok(answer)
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

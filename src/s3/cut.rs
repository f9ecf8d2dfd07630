//! Cut: which bytes of an object a read is for.

use axum::http::{HeaderMap, StatusCode, header};
use s3s::{S3Error, S3ErrorCode, S3Result};

use super::bucket::Object;
use super::conditions::{self, Conditions, Met};
use super::errors::error;
use super::uploads::PARTS_MAX;

/// What is asked for of an object.
pub struct Cut {
    /// Its bytes.
    pub range: std::ops::Range<u64>,
    /// Whether they were asked for as a part of it.
    pub partial: bool,
    part: bool,
}

impl Cut {
    /// The range in the words of `Content-Range`, if it is a part of `len` bytes.
    pub fn told(&self, len: u64) -> Option<String> {
        let last = self.range.end.saturating_sub(1);
        self.partial.then(|| format!("bytes {}-{last}/{len}", self.range.start))
    }
    /// How many parts the object has, for who asked for one.
    pub fn parts_count(&self, object: &Object) -> Option<i32> {
        let count = object.meta.parts_count().filter(|_| self.part)?;
        i32::try_from(count).ok()
    }
}

/// What of an object is wanted; nothing if the client has it already. A range that cannot be read, or several at once, mean the
/// whole (RFC 9110, section 14.2). Errors: `PreconditionFailed`, `InvalidRange`, `InvalidPartNumber`, `InvalidArgument`.
pub fn cut(object: &Object, asked: &HeaderMap, part: Option<i32>) -> S3Result<Option<Cut>> {
    match Conditions::of(asked, "").check(&object.meta.etag, object.modified()) {
        Met::Failed => return Err(conditions::failed()),
        Met::NotModified => return Ok(None),
        Met::Yes => {}
    }
    let len = object.len();
    let mut lines = asked.get_all(header::RANGE).iter().filter_map(|line| line.to_str().ok());
    let range = lines.next().filter(|_| lines.next().is_none());
    let range = range.and_then(|text| s3s::dto::Range::parse(text.trim()).ok());
    let range = range.filter(|_| conditions::in_range(asked, &object.meta.etag, object.modified()));
    match (range, part) {
        (Some(_), Some(_)) => Err(error(S3ErrorCode::InvalidRequest, "a range and a part at once")),
        (None, None) => Ok(Some(Cut { range: 0..len, partial: false, part: false })),
        (Some(range), None) => {
            let range = range.check(len).ok().filter(|range| !range.is_empty());
            let text = "the object has no byte of the range";
            let range = range.ok_or_else(|| outside(S3ErrorCode::InvalidRange, text.to_owned(), len))?;
            Ok(Some(Cut { range, partial: true, part: false }))
        }
        (None, Some(number)) => {
            if !(1..=PARTS_MAX).contains(&number) {
                let text = format!("parts are counted from 1 to {PARTS_MAX}");
                return Err(error(S3ErrorCode::InvalidArgument, text));
            }
            let range = u32::try_from(number).ok().and_then(|number| object.meta.part(number, len));
            let text = || format!("the object has no part {number} that can be told");
            let code = || S3ErrorCode::Custom("InvalidPartNumber".into());
            let range = range.ok_or_else(|| outside(code(), text(), len))?;
            let partial = !range.is_empty();
            Ok(Some(Cut { range, partial, part: true }))
        }
    }
}

/// The answer to who asks for bytes that the object does not have: how many it has.
fn outside(code: S3ErrorCode, text: String, len: u64) -> S3Error {
    let mut answer = error(code, text);
    answer.set_status_code(StatusCode::RANGE_NOT_SATISFIABLE);
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/xml"));
    headers.extend(format!("bytes */{len}").parse().ok().map(|range| (header::CONTENT_RANGE, range)));
    answer.set_headers(headers);
    answer
}

#[cfg(test)]
mod tests {
    use super::super::bucket;
    use super::*;
    use crate::files::tree::{Content, Entry, Kind, Piece};
    use crate::types::{FileId, Millis};

    fn object(len: u64) -> Object {
        let pieces = (len > 0).then(|| Piece { file: FileId::from_bytes([1; 32]), len }).into_iter().collect();
        Object::of(Entry::of(Kind::File(Content { pieces, ..bucket::no_bytes(Millis::new(0)) }))).expect("no link")
    }

    fn range(len: u64, text: &'static str) -> Result<Option<std::ops::Range<u64>>, Option<u16>> {
        let asked = HeaderMap::from_iter([(header::RANGE, header::HeaderValue::from_static(text))]);
        let cut = cut(&object(len), &asked, None);
        let status = |error: S3Error| error.status_code().map(|status| status.as_u16());
        cut.map_err(status).map(|cut| cut.filter(|cut| cut.partial).map(|cut| cut.range))
    }

    #[test]
    fn a_range_that_cannot_be_read_is_passed_over_and_one_without_a_byte_is_refused() {
        assert_eq!(range(10, "bytes=2-4"), Ok(Some(2..5)));
        assert_eq!(range(10, "bytes=-3"), Ok(Some(7..10)));
        assert_eq!(range(10, "bytes=8-99"), Ok(Some(8..10)));
        for whole in ["bytes=4-2", "bytes=a-b", "bytes=0-1,3-4", "lines=0-1", "bytes", ""] {
            assert_eq!(range(10, whole), Ok(None), "{whole}");
        }
        for (len, none) in [(10, "bytes=10-"), (10, "bytes=-0"), (0, "bytes=-3"), (0, "bytes=0-")] {
            assert_eq!(range(len, none), Err(Some(416)), "{none} of {len}");
        }
    }

    #[test]
    fn a_part_that_the_object_does_not_have_is_refused_with_its_length() {
        let part = |number| cut(&object(10), &HeaderMap::new(), Some(number));
        assert!(part(1).is_ok_and(|cut| cut.is_some_and(|cut| cut.range == (0..10))));
        let refused = part(2).err().expect("there is one part").to_http_response().expect("an answer");
        assert_eq!(refused.status(), StatusCode::RANGE_NOT_SATISFIABLE);
        assert_eq!(refused.headers()[header::CONTENT_RANGE], "bytes */10");
        assert!(part(0).is_err() && part(PARTS_MAX + 1).is_err());
    }
}

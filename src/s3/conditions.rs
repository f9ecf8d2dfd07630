//! Conditions: what a request wants an object to be before it is read or replaced (RFC 9110, section 13).

use axum::http::{HeaderMap, header};
use s3s::dto::Timestamp;
use s3s::{S3Error, S3ErrorCode};

use super::bucket::Object;
use super::errors::error;
use super::meta;
use crate::files::tree::Expect;
use crate::types::Millis;

/// Entity tags that a header names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tags {
    /// `*`
    Any,
    /// These.
    Listed(Vec<String>),
}

impl Tags {
    /// Those of a header, of all its lines; nothing if it is not there or empty.
    pub fn of(headers: &HeaderMap, name: &str) -> Option<Self> {
        let lines = headers.get_all(name).iter().map(|line| String::from_utf8_lossy(line.as_bytes()));
        let text = lines.collect::<Vec<_>>().join(",");
        (!text.trim().is_empty()).then(|| Self::parse(text.trim()))
    }
    /// A list, with commas between tags. Clients of S3 leave the quotes out at times.
    pub fn parse(text: &str) -> Self {
        if text == "*" {
            return Self::Any;
        }
        let (mut tags, mut tag, mut quoted) = (Vec::new(), String::new(), false);
        for letter in text.chars().chain([',']) {
            match letter {
                '"' => quoted = !quoted,
                ',' if !quoted => tags.push(std::mem::take(&mut tag)),
                letter => tag.push(letter),
            }
        }
        let bare = |tag: String| tag.trim().trim_start_matches("W/").to_owned();
        Self::Listed(tags.into_iter().map(bare).filter(|tag| !tag.is_empty()).collect())
    }
    /// Whether an object's tag is one of them.
    fn has(&self, etag: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Listed(tags) => tags.iter().any(|tag| tag == etag),
        }
    }
}

/// What a read wants.
#[derive(Clone, Debug, Default)]
pub struct Conditions {
    /// `If-Match`
    pub is: Option<Tags>,
    /// `If-None-Match`
    pub is_not: Option<Tags>,
    /// `If-Modified-Since`
    pub since: Option<Timestamp>,
    /// `If-Unmodified-Since`
    pub not_since: Option<Timestamp>,
}

/// What comes of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Met {
    /// Go on.
    Yes,
    /// The client has it.
    NotModified,
    /// It is another one.
    Failed,
}

/// Whole seconds since 1970, as far as such headers tell.
fn seconds(time: &Timestamp) -> i64 {
    // Timestamps tell their seconds in their text only.
    let mut text = Vec::new();
    let told = time.format(s3s::dto::TimestampFormat::EpochSeconds, &mut text).ok();
    let text = told.and_then(|()| String::from_utf8(text).ok()).unwrap_or_default();
    text.split('.').next().and_then(|whole| whole.parse().ok()).unwrap_or(0)
}

fn whole_seconds(at: Millis) -> i64 {
    i64::try_from(at.get() / 1_000).unwrap_or(i64::MAX)
}

impl Conditions {
    /// Those of a request's headers, whose names begin with `prefix`. Dates that are none are passed over.
    pub fn of(headers: &HeaderMap, prefix: &str) -> Self {
        let tags = |name: header::HeaderName| Tags::of(headers, &format!("{prefix}{name}"));
        let time = |name: header::HeaderName| {
            let text = headers.get(format!("{prefix}{name}"))?.to_str().ok()?;
            meta::parse_http_date(text)
        };
        Self {
            is: tags(header::IF_MATCH),
            is_not: tags(header::IF_NONE_MATCH),
            since: time(header::IF_MODIFIED_SINCE),
            not_since: time(header::IF_UNMODIFIED_SINCE),
        }
    }
    /// Whether an object with this tag and time is wanted.
    pub fn check(&self, etag: &str, modified: Millis) -> Met {
        let modified = whole_seconds(modified);
        match (&self.is, &self.not_since) {
            (Some(is), _) if !is.has(etag) => return Met::Failed,
            (None, Some(time)) if modified > seconds(time) => return Met::Failed,
            _ => {}
        }
        match (&self.is_not, &self.since) {
            (Some(is_not), _) if is_not.has(etag) => Met::NotModified,
            (None, Some(time)) if modified <= seconds(time) => Met::NotModified,
            _ => Met::Yes,
        }
    }
}

/// Whether a range is wanted of an object with this tag and time; `If-Range` says of which one (RFC 9110, section 13.1.5).
pub fn in_range(headers: &HeaderMap, etag: &str, modified: Millis) -> bool {
    let Some(wanted) = headers.get(header::IF_RANGE) else { return true };
    let Ok(wanted) = wanted.to_str().map(str::trim) else { return false };
    match meta::parse_http_date(wanted) {
        Some(time) => seconds(&time) == whole_seconds(modified),
        None => !wanted.starts_with("W/") && wanted.trim_matches('"') == etag,
    }
}

/// The error of a condition that is not met.
pub fn failed() -> S3Error {
    error(S3ErrorCode::PreconditionFailed, "at least one of the preconditions does not hold")
}

/// What must be at a path for a write. Errors: `PreconditionFailed`, `NoSuchKey` where nothing is and something is wanted.
pub fn expect(is: Option<&Tags>, is_not: Option<&Tags>, have: Option<&Object>) -> Result<Expect, S3Error> {
    let expect = match (is, have) {
        (None, _) => Expect::Any,
        (Some(_), None) => return Err(error(S3ErrorCode::NoSuchKey, "there is nothing to replace")),
        (Some(is), Some(object)) if is.has(&object.meta.etag) => Expect::Same(Box::new(object.entry.clone())),
        (Some(_), Some(_)) => return Err(failed()),
    };
    match (is_not, have) {
        (None, _) => Ok(expect),
        (Some(is_not), Some(object)) if is_not.has(&object.meta.etag) => Err(failed()),
        (Some(_), Some(object)) => Ok(Expect::Same(Box::new(object.entry.clone()))),
        (Some(_), None) => Ok(Expect::Absent),
    }
}

/// What a request to delete wants an object to be.
#[derive(Clone, Debug, Default)]
pub struct Doomed {
    /// Its tag.
    pub is: Option<Tags>,
    /// Its bytes.
    pub size: Option<i64>,
    /// When it was put, in whole seconds.
    pub modified: Option<Timestamp>,
}

impl Doomed {
    /// Whether anything is wanted at all.
    pub const fn is_some(&self) -> bool {
        self.is.is_some() || self.size.is_some() || self.modified.is_some()
    }
    /// What must be at the path. Errors: `PreconditionFailed`, `NoSuchKey` where nothing is and something is wanted.
    pub fn expect(&self, have: Option<&Object>) -> Result<Expect, S3Error> {
        if !self.is_some() {
            return Ok(Expect::Any);
        }
        let Some(object) = have else {
            return Err(error(S3ErrorCode::NoSuchKey, "there is nothing that the condition could hold for"));
        };
        let size = self.size.is_none_or(|size| u64::try_from(size) == Ok(object.len()));
        let modified = self.modified.as_ref().map(seconds);
        let modified = modified.is_none_or(|wanted| wanted == whole_seconds(object.modified()));
        match size && modified && self.is.as_ref().is_none_or(|is| is.has(&object.meta.etag)) {
            true => Ok(Expect::Same(Box::new(object.entry.clone()))),
            false => Err(failed()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::tree::{Entry, Kind};

    fn tag(text: &str) -> Option<Tags> {
        Some(Tags::Listed(vec![text.to_owned()]))
    }

    fn at(seconds: u64) -> Option<Timestamp> {
        Some(super::super::meta::timestamp(Millis::new(seconds * 1_000)))
    }

    #[test]
    fn reads_go_by_the_rules_of_http() {
        let check = |conditions: Conditions| conditions.check("a", Millis::new(10_999));
        let none = Conditions::default;
        assert_eq!(check(none()), Met::Yes);
        assert_eq!(check(Conditions { is: tag("a"), ..none() }), Met::Yes);
        assert_eq!(check(Conditions { is: tag("b"), ..none() }), Met::Failed);
        assert_eq!(check(Conditions { is_not: tag("a"), ..none() }), Met::NotModified);
        assert_eq!(check(Conditions { is_not: Some(Tags::Any), ..none() }), Met::NotModified);
        assert_eq!(check(Conditions { since: at(10), ..none() }), Met::NotModified);
        assert_eq!(check(Conditions { since: at(9), ..none() }), Met::Yes);
        assert_eq!(check(Conditions { not_since: at(9), ..none() }), Met::Failed);
        assert_eq!(check(Conditions { not_since: at(10), ..none() }), Met::Yes);
        // A tag goes before a time.
        assert_eq!(check(Conditions { is: tag("a"), not_since: at(1), ..none() }), Met::Yes);
        assert_eq!(check(Conditions { is_not: tag("b"), since: at(10), ..none() }), Met::Yes);
    }

    #[test]
    fn a_write_on_a_condition_names_what_must_be_there() {
        let object = Object::of(Entry::of(Kind::Folder)).expect("no link");
        let etag = object.meta.etag.clone();
        assert_eq!(expect(None, None, None).ok(), Some(Expect::Any));
        assert_eq!(expect(None, Some(&Tags::Any), None).ok(), Some(Expect::Absent));
        assert!(expect(None, Some(&Tags::Any), Some(&object)).is_err());
        let same = expect(tag(&etag).as_ref(), None, Some(&object)).ok();
        assert_eq!(same, Some(Expect::Same(Box::new(object.entry.clone()))));
        assert!(expect(tag("b").as_ref(), None, Some(&object)).is_err());
        assert!(expect(tag("b").as_ref(), None, None).is_err());
    }

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&str, &str)| Some((name.parse().ok()?, value.parse().ok()?));
        pairs.iter().filter_map(pair).collect::<Vec<(header::HeaderName, header::HeaderValue)>>().into_iter().collect()
    }

    #[test]
    fn tags_come_in_lists_weak_or_without_quotes() {
        let of = |text: &str| Tags::of(&headers(&[("if-match", text)]), "if-match");
        let listed = |tags: &[&str]| Some(Tags::Listed(tags.iter().map(|tag| (*tag).to_owned()).collect()));
        assert_eq!(of(r#""a", W/"b" ,c"#), listed(&["a", "b", "c"]));
        assert_eq!(of(r#""a,b""#), listed(&["a,b"]));
        assert_eq!(of("*"), Some(Tags::Any));
        assert_eq!(of(""), None);
        // What is none matches nothing.
        assert_eq!(of(r#""a"#), listed(&[]));
        let conditions =
            Conditions::of(&headers(&[("if-none-match", r#""x", "a""#), ("if-modified-since", "soon")]), "");
        assert!(conditions.since.is_none());
        assert_eq!(conditions.check("a", Millis::new(0)), Met::NotModified);
    }

    #[test]
    fn a_range_of_another_object_is_not_wanted() {
        let wanted = |text: &str| in_range(&headers(&[("if-range", text)]), "a", Millis::new(784_111_777_999));
        assert!(wanted(r#""a""#) && wanted("Sun, 06 Nov 1994 08:49:37 GMT"));
        assert!(!wanted(r#""b""#) && !wanted(r#"W/"a""#) && !wanted("Sun, 06 Nov 1994 08:49:38 GMT"));
        assert!(in_range(&HeaderMap::new(), "a", Millis::new(0)));
    }

    #[test]
    fn only_the_object_that_is_meant_is_deleted() {
        let object = Object::of(Entry::of(Kind::Folder)).expect("no link");
        let (etag, none) = (tag(&object.meta.etag), Doomed::default);
        let may = |doomed: Doomed| doomed.expect(Some(&object)).is_ok();
        assert_eq!(none().expect(None).ok(), Some(Expect::Any));
        assert!(may(none()) && may(Doomed { is: etag, size: Some(0), modified: at(0) }));
        assert!(!may(Doomed { is: tag("b"), ..none() }));
        assert!(!may(Doomed { size: Some(1), ..none() }) && !may(Doomed { size: Some(-1), ..none() }));
        assert!(!may(Doomed { modified: at(1), ..none() }));
        assert!(Doomed { size: Some(0), ..none() }.expect(None).is_err());
    }
}

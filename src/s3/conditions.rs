//! Conditions: what a request wants an object to be before it is read or replaced (RFC 9110, section 13).

use s3s::dto::{ETag, ETagCondition, Timestamp};
use s3s::{S3Error, S3ErrorCode};

use super::bucket::Object;
use super::errors::error;
use crate::files::tree::Expect;
use crate::types::Millis;

/// What a read wants.
#[derive(Clone, Debug, Default)]
pub struct Conditions {
    /// `If-Match`
    pub is: Option<ETagCondition>,
    /// `If-None-Match`
    pub is_not: Option<ETagCondition>,
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

fn matches(condition: &ETagCondition, etag: &str) -> bool {
    match condition {
        ETagCondition::Any => true,
        ETagCondition::ETag(ETag::Strong(value) | ETag::Weak(value)) => value == etag,
    }
}

/// Whole seconds since 1970, as far as such headers tell.
fn seconds(time: &Timestamp) -> i64 {
    // Timestamps tell their seconds in their text only.
    let mut text = Vec::new();
    let told = time.format(s3s::dto::TimestampFormat::EpochSeconds, &mut text).ok();
    let text = told.and_then(|()| String::from_utf8(text).ok()).unwrap_or_default();
    text.split('.').next().and_then(|whole| whole.parse().ok()).unwrap_or(0)
}

impl Conditions {
    /// Whether an object with this tag and time is wanted.
    pub fn check(&self, etag: &str, modified: Millis) -> Met {
        let modified = i64::try_from(modified.get() / 1_000).unwrap_or(i64::MAX);
        match (&self.is, &self.not_since) {
            (Some(is), _) if !matches(is, etag) => return Met::Failed,
            (None, Some(time)) if modified > seconds(time) => return Met::Failed,
            _ => {}
        }
        match (&self.is_not, &self.since) {
            (Some(is_not), _) if matches(is_not, etag) => Met::NotModified,
            (None, Some(time)) if modified <= seconds(time) => Met::NotModified,
            _ => Met::Yes,
        }
    }
}

/// The error of a condition that is not met.
pub fn failed() -> S3Error {
    error(S3ErrorCode::PreconditionFailed, "at least one of the preconditions does not hold")
}

/// What must be at a path for a write. Errors: `PreconditionFailed`, `NoSuchKey` where nothing is and something is wanted.
pub fn expect(
    is: Option<&ETagCondition>,
    is_not: Option<&ETagCondition>,
    have: Option<&Object>,
) -> Result<Expect, S3Error> {
    let expect = match (is, have) {
        (None, _) => Expect::Any,
        (Some(_), None) => return Err(error(S3ErrorCode::NoSuchKey, "there is nothing to replace")),
        (Some(is), Some(object)) if matches(is, &object.meta.etag) => Expect::Same(Box::new(object.entry.clone())),
        (Some(_), Some(_)) => return Err(failed()),
    };
    match (is_not, have) {
        (None, _) => Ok(expect),
        (Some(is_not), Some(object)) if matches(is_not, &object.meta.etag) => Err(failed()),
        (Some(_), Some(object)) => Ok(Expect::Same(Box::new(object.entry.clone()))),
        (Some(_), None) => Ok(Expect::Absent),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::tree::{Entry, Kind};

    fn tag(text: &str) -> Option<ETagCondition> {
        Some(ETagCondition::ETag(ETag::Strong(text.to_owned())))
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
        assert_eq!(check(Conditions { is_not: Some(ETagCondition::Any), ..none() }), Met::NotModified);
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
        assert_eq!(expect(None, Some(&ETagCondition::Any), None).ok(), Some(Expect::Absent));
        assert!(expect(None, Some(&ETagCondition::Any), Some(&object)).is_err());
        let same = expect(tag(&etag).as_ref(), None, Some(&object)).ok();
        assert_eq!(same, Some(Expect::Same(Box::new(object.entry.clone()))));
        assert!(expect(tag("b").as_ref(), None, Some(&object)).is_err());
        assert!(expect(tag("b").as_ref(), None, None).is_err());
    }
}

//! Meta: what is kept with an object beside its bytes, in the entry of its path.

use borsh::{BorshDeserialize, BorshSerialize};
use percent_encoding::percent_decode_str;
use s3s::dto::{self, ETag, Timestamp, TimestampFormat};
use s3s::{S3ErrorCode, S3Result};

use super::digest::{Algorithm, Digest, base64};
use super::errors::{error, is_xml};
use crate::files::tree::{Content, Entry, Kind};
use crate::types::{Millis, limits};
use crate::wire;

/// Under which name it is kept in an entry.
pub const KEPT_AS: &str = "s3";
/// Names and values of user metadata, bytes.
const USER_BYTES_MAX: usize = 2 << 10;
/// The other headers, bytes each.
const HEADER_BYTES_MAX: usize = 1 << 10;
/// Tags of an object, and the characters of their names and values.
const TAGS_MAX: usize = 10;
const TAG_NAME_MAX: usize = 128;
const TAG_VALUE_MAX: usize = 256;
/// Runs of parts of equal length that are kept; an object with more has parts no longer.
const RUNS_MAX: usize = 32;

/// What is kept with an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Meta {
    /// The entity tag, without quotes.
    pub etag: String,
    /// Headers that come back as they were sent.
    pub headers: Headers,
    /// `x-amz-meta-` headers.
    pub user: Vec<(String, String)>,
    /// Tags.
    pub tags: Vec<(String, String)>,
    /// A checksum of the bytes.
    pub checksum: Option<Checksum>,
    /// Lengths of the parts that it was uploaded in, as runs of so many of a length.
    pub parts: Vec<(u32, u64)>,
}

/// Headers that come back as they were sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Headers {
    pub content_type: Option<String>,
    pub cache_control: Option<String>,
    pub content_disposition: Option<String>,
    pub content_encoding: Option<String>,
    pub content_language: Option<String>,
    pub expires: Option<String>,
}

/// A checksum of an object.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Checksum {
    /// Its algorithm.
    pub algorithm: Algorithm,
    /// Its text, in base 64; a checksum of checksums of parts has their number behind it.
    pub text: String,
    /// Whether it is one of checksums.
    pub composite: bool,
}

impl Checksum {
    /// The checksum of whole bytes.
    pub fn whole(algorithm: Algorithm, digest: &Digest) -> Option<Self> {
        Some(Self { algorithm, text: base64(digest.sum(algorithm)?), composite: false })
    }
    /// Its fields.
    pub fn told(&self) -> dto::Checksum {
        let kind = if self.composite { dto::ChecksumType::COMPOSITE } else { dto::ChecksumType::FULL_OBJECT };
        let sums = self.algorithm.told(self.text.clone());
        dto::Checksum { checksum_type: Some(dto::ChecksumType::from_static(kind)), ..sums }
    }
}

impl Meta {
    /// As an entry keeps it.
    pub fn entry(&self, kind: Kind, now: Millis) -> Entry {
        let mode = if matches!(kind, Kind::Folder) { 0o755 } else { 0o644 };
        let mtime_ns = i64::try_from(now.get().saturating_mul(1_000_000)).unwrap_or(i64::MAX);
        let meta = [(KEPT_AS.to_owned(), wire::encode(self))].into();
        Entry { mode, mtime_ns, meta, ..Entry::of(kind) }
    }
    /// What an entry keeps. What was not put through S3 gets an entity tag that looks like no MD5.
    pub fn of(entry: &Entry) -> Self {
        let kept = entry.meta.get(KEPT_AS);
        let kept = kept.and_then(|bytes| wire::decode::<Self>(bytes, limits::TREE_ENTRY_BYTES_MAX).ok());
        let etag = || match &entry.kind {
            Kind::File(Content { hash: Some(hash), .. }) => format!("{}-1", hex::encode(&hash[..16])),
            Kind::File(content) => {
                let pieces = wire::encode(&content.pieces);
                format!("{}-1", hex::encode(&blake3::hash(&pieces).as_bytes()[..16]))
            }
            _ => hex::encode(super::digest::md5(b"")),
        };
        kept.unwrap_or_else(|| Self { etag: etag(), ..Self::default() })
    }
    /// The entity tag.
    pub fn etag(&self) -> ETag {
        ETag::Strong(self.etag.clone())
    }
    /// Errors: `MetadataTooLarge`.
    pub fn check(&self) -> S3Result<()> {
        let bytes: usize = self.user.iter().map(|(name, value)| name.len() + value.len()).sum();
        if bytes > USER_BYTES_MAX {
            let text = format!("{bytes} bytes of user metadata; at most {USER_BYTES_MAX} are possible");
            return Err(error(S3ErrorCode::MetadataTooLarge, text));
        }
        let Headers { content_type, cache_control, content_disposition, content_encoding, content_language, expires } =
            &self.headers;
        let all = [content_type, cache_control, content_disposition, content_encoding, content_language, expires];
        if all.into_iter().flatten().any(|text| text.len() > HEADER_BYTES_MAX) {
            let text = format!("a header of more than {HEADER_BYTES_MAX} bytes");
            return Err(error(S3ErrorCode::MetadataTooLarge, text));
        }
        Ok(())
    }
    /// The user metadata as the protocol has it.
    pub fn user(&self) -> Option<dto::Metadata> {
        (!self.user.is_empty()).then(|| self.user.iter().cloned().collect())
    }
    /// How many parts it was uploaded in, if that is known.
    pub fn parts_count(&self) -> Option<u32> {
        (!self.parts.is_empty()).then(|| self.parts.iter().map(|(count, _)| count).sum())
    }
    /// The bytes of a part, counted from 1; an object of one piece has one.
    pub fn part(&self, number: u32, len: u64) -> Option<std::ops::Range<u64>> {
        if self.parts.is_empty() {
            return (number == 1).then_some(0..len);
        }
        let (mut first, mut from) = (1, 0);
        for (count, each) in &self.parts {
            if number >= first && number - first < *count {
                let from = from + u64::from(number - first) * each;
                return Some(from..from + each);
            }
            first += count;
            from += u64::from(*count) * each;
        }
        None
    }
    /// Notes the lengths of parts; not if they are of too many lengths.
    pub fn note_parts(&mut self, lengths: impl Iterator<Item = u64>) {
        let mut runs: Vec<(u32, u64)> = Vec::new();
        for len in lengths {
            match runs.last_mut() {
                Some((count, each)) if *each == len => *count += 1,
                _ => runs.push((1, len)),
            }
        }
        self.parts = if runs.len() > RUNS_MAX { Vec::new() } else { runs };
    }
}

/// User metadata in the order of names, so that equal ones are equal bytes.
pub fn user(metadata: Option<dto::Metadata>) -> Vec<(String, String)> {
    let mut all: Vec<_> = metadata.unwrap_or_default().into_iter().collect();
    all.sort();
    all
}

/// A time as the `Expires` header has it.
pub fn http_date(time: &Timestamp) -> Option<String> {
    let mut text = Vec::new();
    time.format(TimestampFormat::HttpDate, &mut text).ok()?;
    String::from_utf8(text).ok()
}

/// The time of such a text.
pub fn parse_http_date(text: &str) -> Option<Timestamp> {
    Timestamp::parse(TimestampFormat::HttpDate, text).ok()
}

/// A time of the node's clock.
pub fn timestamp(at: Millis) -> Timestamp {
    let at = std::time::UNIX_EPOCH.checked_add(std::time::Duration::from_millis(at.get()));
    at.unwrap_or(std::time::UNIX_EPOCH).into()
}

/// Tags as a header has them: `a=1&b=2`. Errors: `InvalidTag`.
pub fn tags_of_header(header: Option<&str>) -> S3Result<Vec<(String, String)>> {
    let decode = |text: &str| {
        let text = text.replace('+', " ");
        let text = percent_decode_str(&text).decode_utf8();
        text.map(|text| text.into_owned()).map_err(|_| error(S3ErrorCode::InvalidTag, "a tag is not UTF-8"))
    };
    let pairs = header.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    let tags: S3Result<Vec<_>> = pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(name)?, decode(value)?))
        })
        .collect();
    check_tags(tags?)
}

/// Tags as a body has them. Errors: `InvalidTag`.
pub fn tags_of_set(set: dto::TagSet) -> S3Result<Vec<(String, String)>> {
    check_tags(set.into_iter().map(|tag| (tag.key.unwrap_or_default(), tag.value.unwrap_or_default())).collect())
}

fn check_tags(mut tags: Vec<(String, String)>) -> S3Result<Vec<(String, String)>> {
    tags.sort();
    let names_valid = tags.iter().all(|(name, value)| {
        let written = name.chars().chain(value.chars()).all(is_xml);
        written && (1..=TAG_NAME_MAX).contains(&name.chars().count()) && value.chars().count() <= TAG_VALUE_MAX
    });
    let unique = tags.windows(2).all(|pair| pair[0].0 != pair[1].0);
    match tags.len() <= TAGS_MAX && names_valid && unique {
        true => Ok(tags),
        false => Err(error(
            S3ErrorCode::InvalidTag,
            format!(
                "at most {TAGS_MAX} tags of different names, names of 1 to {TAG_NAME_MAX} characters, values of at most {TAG_VALUE_MAX}, all of them such as XML can write"
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_with_an_object_comes_back() {
        let user = vec![("a".to_owned(), "é".to_owned())];
        let mut meta = Meta { etag: "x-3".to_owned(), user, ..Meta::default() };
        meta.note_parts([5, 5, 2].into_iter());
        assert_eq!(Meta::of(&meta.entry(Kind::Folder, Millis::new(7))), meta);
        assert_eq!(meta.parts_count(), Some(3));
        let parts: Vec<_> = (0..5).map(|number| meta.part(number, 12)).collect();
        assert_eq!(parts, [None, Some(0..5), Some(5..10), Some(10..12), None]);
        meta.note_parts((0..100).map(|number| number % 7));
        assert_eq!((meta.parts_count(), meta.part(1, 12), meta.part(2, 12)), (None, Some(0..12), None));
    }

    #[test]
    fn a_file_that_came_another_way_has_an_entity_tag_that_is_no_md5() {
        let content = Content { number: 1, pieces: Vec::new(), hash: Some([7; 32]), put: Millis::new(0) };
        let etag = Meta::of(&Entry::of(Kind::File(content))).etag;
        assert_eq!(etag, format!("{}-1", "07".repeat(16)));
    }

    #[test]
    fn tags_are_bounded() {
        let tags = tags_of_header(Some("b=2+2&a=%C3%A9&c")).expect("valid");
        let expected = [("a", "é"), ("b", "2 2"), ("c", "")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(tags, expected);
        assert_eq!(tags_of_header(None).expect("none"), []);
        let many = (0..11).map(|n| format!("t{n}=1")).collect::<Vec<_>>().join("&");
        let long = format!("{}=1", "x".repeat(129));
        for wrong in [many.as_str(), "a=1&a=2", "=1", "a=%01", &long] {
            assert!(tags_of_header(Some(wrong)).is_err(), "{wrong}");
        }
    }
}

//! Buckets: folders at the top of the account's tree, and objects: the paths below them.
//!
//! The key `a/b` of bucket `c` is the path `c/a/b`: the tree is ordered by whole paths and takes any text, so keys need no
//! translation, and `trullo ls /c/a` shows what a client put under `a/`. An object without bytes whose key ends with `/` is a
//! folder's own entry, as clients mean it. Links are no objects.

use s3s::{S3ErrorCode, S3Result};

use super::errors::{error, is_xml, of_node};
use super::meta::Meta;
use crate::files::tree::{Content, Entry, Kind};
use crate::node::tree::Tree;
use crate::types::Millis;

/// Longest key, bytes.
pub const KEY_BYTES_MAX: usize = 1_024;
/// Longest name of a bucket that is there, bytes. New ones keep to the protocol's own rules.
const NAME_BYTES_MAX: usize = 255;

/// Whether a folder of this name is shown as a bucket: clients take no other names.
pub fn is_name(name: &str) -> bool {
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(valid)
}

/// Names of buckets as `is_name` has them.
pub struct Names;

impl s3s::validation::NameValidation for Names {
    fn validate_bucket_name(&self, name: &str) -> bool {
        is_name(name)
    }
}

/// The path of a bucket's own entry.
pub fn bucket_path(bucket: &str) -> String {
    format!("{bucket}/")
}

/// The path of an object. Errors: `KeyTooLongError`, `InvalidArgument`.
pub fn object_path(bucket: &str, key: &str) -> S3Result<String> {
    if key.len() > KEY_BYTES_MAX {
        let text = format!("a key of {} bytes; at most {KEY_BYTES_MAX} are possible", key.len());
        return Err(error(S3ErrorCode::KeyTooLongError, text));
    }
    if key.is_empty() {
        return Err(error(S3ErrorCode::InvalidArgument, "the key is empty"));
    }
    Ok(format!("{bucket}/{key}"))
}

/// The path of an object that is to be made. Answers are XML, so a key with a character that XML cannot write would be in the way
/// of every listing. Errors: those of `object_path`, and `InvalidArgument`.
pub fn new_path(bucket: &str, key: &str) -> S3Result<String> {
    let path = object_path(bucket, key)?;
    match key.chars().find(|letter| !is_xml(*letter)) {
        None => Ok(path),
        Some(letter) => {
            let text = format!("the key has the character U+{:04X}, which XML cannot write", u32::from(letter));
            Err(error(S3ErrorCode::InvalidArgument, text))
        }
    }
}

/// The entry of a bucket's own folder.
pub fn entry(now: Millis) -> Entry {
    Entry { meta: std::collections::BTreeMap::new(), ..Meta::default().entry(Kind::Folder, now) }
}

/// An object, and the entry that it was read from.
#[derive(Clone, Debug)]
pub struct Object {
    /// The entry.
    pub entry: Entry,
    /// What is kept with it.
    pub meta: Meta,
}

impl Object {
    /// The object of an entry; nothing for a link.
    pub fn of(entry: Entry) -> Option<Self> {
        if matches!(entry.kind, Kind::Symlink(_)) {
            return None;
        }
        Some(Self { meta: Meta::of(&entry), entry })
    }
    /// Bytes.
    pub fn len(&self) -> u64 {
        self.entry.content().map_or(0, Content::len)
    }
    /// When it was put.
    pub fn modified(&self) -> Millis {
        let by_mtime = u64::try_from(self.entry.mtime_ns / 1_000_000).unwrap_or(0);
        let own = self.entry.meta.contains_key(super::meta::KEPT_AS);
        match self.entry.content() {
            // What a person puts keeps the time that the file had.
            Some(content) if !own => content.put,
            _ => Millis::new(by_mtime),
        }
    }
}

/// Content without bytes.
pub const fn no_bytes(now: Millis) -> Content {
    Content { number: 0, pieces: Vec::new(), hash: None, put: now }
}

/// Errors: `InvalidArgument` for bytes at a key of a folder, where nothing but S3 would find them.
pub fn may_hold(key: &str, len: u64) -> S3Result<()> {
    if len == 0 || !key.ends_with('/') {
        return Ok(());
    }
    let text = "a key that ends with / is a folder here and has no bytes; leave the / out to store bytes";
    Err(error(S3ErrorCode::InvalidArgument, text))
}

/// The kind of an entry for an object's bytes. Errors: those of `may_hold`.
pub fn kind(key: &str, content: Content) -> S3Result<Kind> {
    may_hold(key, content.len())?;
    Ok(if key.ends_with('/') { Kind::Folder } else { Kind::File(content) })
}

/// Whether there is a bucket. Errors: those of reading the tree.
pub async fn exists(tree: &Tree, bucket: &str) -> S3Result<bool> {
    Ok(is_name(bucket) && tree.is_folder(bucket).await.map_err(of_node)?)
}

/// Errors: `NoSuchBucket`.
pub async fn must_exist(tree: &Tree, bucket: &str) -> S3Result<()> {
    match exists(tree, bucket).await? {
        true => Ok(()),
        false => Err(error(S3ErrorCode::NoSuchBucket, format!("there is no bucket {bucket}"))),
    }
}

/// An object. Errors: `NoSuchKey`, `NoSuchBucket`.
pub async fn object(tree: &Tree, bucket: &str, key: &str) -> S3Result<Object> {
    let path = object_path(bucket, key)?;
    let found = if is_name(bucket) { tree.stat(&path).await.map_err(of_node)? } else { None };
    match found.and_then(Object::of) {
        Some(object) => Ok(object),
        None => {
            must_exist(tree, bucket).await?;
            Err(error(S3ErrorCode::NoSuchKey, format!("there is no {key} in bucket {bucket}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::tree::Piece;
    use crate::types::FileId;

    #[test]
    fn keys_that_answers_cannot_hold_are_not_taken() {
        assert_eq!(new_path("b", "a/é\tx").ok().as_deref(), Some("b/a/é\tx"));
        let refused = new_path("b", "a\u{1}").expect_err("it has no place in XML");
        assert!(refused.message().is_some_and(|text| text.contains("U+0001")));
        assert!(new_path("b", "\u{ffff}").is_err());
        // What came another way can be read.
        assert!(object_path("b", "a\u{1}").is_ok());
    }

    #[test]
    fn a_key_with_a_slash_at_its_end_is_a_folder_and_holds_no_bytes() {
        let one =
            Content { pieces: vec![Piece { file: FileId::from_bytes([1; 32]), len: 1 }], ..no_bytes(Millis::new(0)) };
        assert!(matches!(kind("a/", no_bytes(Millis::new(0))), Ok(Kind::Folder)));
        assert!(matches!(kind("a", no_bytes(Millis::new(0))), Ok(Kind::File(_))));
        assert!(matches!(kind("a", one.clone()), Ok(Kind::File(_))));
        assert!(kind("a/", one).is_err());
    }
}

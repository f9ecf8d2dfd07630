//! Buckets: folders at the top of the account's tree, and objects: the paths below them.
//!
//! The key `a/b` of bucket `c` is the path `c/a/b`: the tree is ordered by whole paths and takes any text, so keys need no
//! translation, and `trullo ls /c/a` shows what a client put under `a/`. An object without bytes whose key ends with `/` is a
//! folder's own entry, as clients mean it. Links are no objects.

use s3s::{S3ErrorCode, S3Result};

use super::errors::{error, of_node};
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

/// The kind of an entry for an object's bytes.
pub fn kind(key: &str, content: Content) -> Kind {
    if key.ends_with('/') && content.is_empty() { Kind::Folder } else { Kind::File(content) }
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

//! Uploads in parts.
//!
//! An upload is a folder of the account's tree outside of all buckets, `.s3-uploads/BUCKET/ID/`, and each part that came is a file
//! in it: stored, encrypted and kept by the network like any other, so that nothing of it lies on this node's disk, a restart
//! loses none, and another node of the account may go on with it. Completing it gives the parts' stored files to the object's path,
//! in one change of the tree with the end of the upload; no byte moves, unless there are more parts than one entry can name.

use borsh::{BorshDeserialize, BorshSerialize};
use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, CompleteMultipartUploadInput, CompleteMultipartUploadOutput,
    CompletedPart, CreateMultipartUploadInput, CreateMultipartUploadOutput, UploadPartCopyInput, UploadPartCopyOutput,
    UploadPartInput, UploadPartOutput,
};
use s3s::{S3ErrorCode, S3Request, S3Response, S3Result};

use super::bucket::{self, kind, may_hold, new_path};
use super::conditions::{Conditions, Met, failed};
use super::digest::{Algorithm, Digest, base64, check, md5};
use super::errors::{error, of_node};
use super::gateway::Gateway;
use super::meta::{self, Checksum, Headers, Meta};
use super::objects::{UPLOAD_BYTES_MAX, declared, source};
use super::offered;
use crate::files::tree::{Content, Entry, Expect, Item, Kind, Op, Query};
use crate::node::home::random;
use crate::node::tree::Tree;
use crate::types::{Millis, limits};
use crate::wire;

/// Where uploads are. No bucket has such a name.
pub const FOLDER: &str = crate::files::tree::UPLOADS;
/// Parts of an upload.
pub const PARTS_MAX: i32 = 10_000;
/// Least bytes of a part, if it is not the last.
const PART_BYTES_MIN: u64 = 5 << 20;
/// Uploads of one bucket at the same time.
pub const UPLOADS_MAX: usize = 1_000;
/// Stored files that one entry names; an object of more parts is stored again in larger ones.
const PIECES_MAX: usize = 800;
/// Under which name an entry keeps what is known of an upload or a part.
const KEPT_AS: &str = "s3-upload";

/// What is known of an upload.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Upload {
    /// The object's key.
    pub key: String,
    /// What is to be kept with the object.
    pub meta: Meta,
    /// When it began.
    pub begun: Millis,
    /// The checksum that its parts have.
    pub algorithm: Algorithm,
    /// Whether the object's checksum is one of the parts' checksums.
    pub composite: bool,
}

/// What is known of a part beside its bytes.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Part {
    /// MD5.
    pub md5: [u8; 16],
    /// The checksum by the upload's algorithm.
    pub sum: Vec<u8>,
}

/// A part that is there.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Its number.
    pub number: i32,
    /// What is known of it.
    pub part: Part,
    /// Its bytes.
    pub content: Content,
}

fn keep<T: BorshSerialize>(kind: Kind, value: &T) -> Entry {
    let meta = [(KEPT_AS.to_owned(), wire::encode(value))].into();
    Entry { meta, ..Entry::of(kind) }
}

fn kept<T: BorshDeserialize>(entry: &Entry) -> Option<T> {
    wire::decode(entry.meta.get(KEPT_AS)?, limits::TREE_ENTRY_BYTES_MAX).ok()
}

/// The upload of an entry.
pub fn upload_of(entry: &Entry) -> Option<Upload> {
    kept(entry)
}

/// The folder of an upload. Errors: `NoSuchUpload` for an id that is none.
pub fn upload_path(bucket: &str, id: &str) -> S3Result<String> {
    match id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        true => Ok(format!("{FOLDER}/{bucket}/{id}/")),
        false => Err(no_upload(id)),
    }
}

fn part_path(upload: &str, number: i32) -> String {
    format!("{upload}{number:05}")
}

fn no_upload(id: &str) -> s3s::S3Error {
    error(S3ErrorCode::NoSuchUpload, format!("there is no upload {id}: it was completed, aborted, or has expired"))
}

fn part_number(number: i32) -> S3Result<i32> {
    match (1..=PARTS_MAX).contains(&number) {
        true => Ok(number),
        false => Err(error(S3ErrorCode::InvalidArgument, format!("parts are counted from 1 to {PARTS_MAX}"))),
    }
}

/// The changes that end all uploads of a bucket. Errors: those of reading the tree.
pub async fn remove_all_of(tree: &Tree, bucket: &str) -> S3Result<Option<Op>> {
    let folder = format!("{FOLDER}/{bucket}");
    let there = tree.is_folder(&folder).await.map_err(of_node)?;
    Ok(there.then(|| Op::RemoveAll { prefix: format!("{folder}/") }))
}

/// Ends uploads that nobody completed in time. Errors: those of the tree.
pub async fn expire(gateway: &Gateway, older_than: Millis) -> S3Result<usize> {
    let mut query = Query { prefix: format!("{FOLDER}/"), limit: limits::TREE_LIST_MAX, ..Query::default() };
    let mut ended = 0;
    loop {
        let listing = gateway.tree.list(&query).await.map_err(of_node)?;
        let old = listing.items.iter().filter_map(|item| match item {
            Item::Entry(path, entry) => {
                let upload = kept::<Upload>(entry).filter(|_| matches!(entry.kind, Kind::Folder))?;
                (upload.begun < older_than).then(|| Op::RemoveAll { prefix: path.clone() })
            }
            Item::Folder(..) => None,
        });
        for op in old.collect::<Vec<_>>() {
            gateway.apply(vec![op]).await?;
            ended += 1;
        }
        let Some(last) = listing.items.last().filter(|_| listing.more) else { return Ok(ended) };
        query.after = last.key().to_owned();
    }
}

impl Gateway {
    /// An upload that was begun. Errors: `NoSuchUpload`.
    pub(super) async fn upload(&self, bucket: &str, key: &str, id: &str) -> S3Result<(String, Upload)> {
        let path = upload_path(bucket, id)?;
        let entry = self.tree.stat(&path).await.map_err(of_node)?;
        let upload = entry.as_ref().and_then(upload_of).filter(|upload| upload.key == key);
        Ok((path, upload.ok_or_else(|| no_upload(id))?))
    }

    /// The parts that are there, by number, after a number.
    pub(super) async fn parts(&self, upload: &str, after: i32) -> S3Result<Vec<Stored>> {
        let (prefix, after) = (upload.to_owned(), part_path(upload, after));
        let mut query = Query { prefix, after, limit: limits::TREE_LIST_MAX, ..Query::default() };
        let mut parts = Vec::new();
        loop {
            let listing = self.tree.list(&query).await.map_err(of_node)?;
            let more = listing.items.last().filter(|_| listing.more).map(|last| last.key().to_owned());
            parts.extend(listing.items.into_iter().filter_map(|item| {
                let Item::Entry(path, entry) = item else { return None };
                let number = path.strip_prefix(upload)?.parse().ok()?;
                let part = kept(&entry)?;
                let Kind::File(content) = entry.kind else { return None };
                Some(Stored { number, part, content })
            }));
            let Some(last) = more else { return Ok(parts) };
            query.after = last;
        }
    }

    pub(super) async fn begin_upload(
        &self,
        req: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let input = req.input;
        new_path(&input.bucket, &input.key)?;
        // An upload is for bytes.
        may_hold(&input.key, 1)?;
        bucket::must_exist(&self.tree, &input.bucket).await?;
        let named = input.checksum_algorithm.as_ref().map(|name| {
            let unknown = || error(S3ErrorCode::InvalidRequest, "the checksum's algorithm is not known");
            Algorithm::named(name.as_str()).ok_or_else(unknown)
        });
        let algorithm = named.transpose()?.unwrap_or(Algorithm::Crc64Nvme);
        let kind = input.checksum_type.as_ref().map(s3s::dto::ChecksumType::as_str);
        let composite = match (kind, algorithm) {
            (Some(s3s::dto::ChecksumType::COMPOSITE), Algorithm::Crc64Nvme)
            | (Some(s3s::dto::ChecksumType::FULL_OBJECT), Algorithm::Sha1 | Algorithm::Sha256) => {
                let text = format!("{} has no checksum of that type", algorithm.name());
                return Err(error(S3ErrorCode::InvalidRequest, text));
            }
            (Some(kind), _) => kind == s3s::dto::ChecksumType::COMPOSITE,
            (None, algorithm) => algorithm != Algorithm::Crc64Nvme,
        };
        let meta = Meta {
            headers: Headers {
                content_type: input.content_type,
                cache_control: input.cache_control,
                content_disposition: input.content_disposition,
                content_encoding: offered::encoding(input.content_encoding),
                content_language: input.content_language,
                expires: input.expires.as_ref().and_then(meta::http_date),
            },
            user: meta::user(input.metadata),
            tags: meta::tags_of_header(input.tagging.as_deref())?,
            ..Meta::default()
        };
        meta.check()?;
        let under_way = Query {
            prefix: format!("{FOLDER}/{}/", input.bucket),
            delimiter: "/".to_owned(),
            limit: UPLOADS_MAX,
            ..Query::default()
        };
        if self.tree.list(&under_way).await.map_err(of_node)?.items.len() >= UPLOADS_MAX {
            let text = format!("{UPLOADS_MAX} uploads are under way in this bucket; complete or abort some");
            return Err(error(S3ErrorCode::SlowDown, text));
        }
        let no_random =
            |failed: crate::node::home::HomeError| error(S3ErrorCode::ServiceUnavailable, failed.to_string());
        let id = hex::encode(random::<16>().map_err(no_random)?);
        let upload = Upload { key: input.key.clone(), meta, begun: self.now(), algorithm, composite };
        self.put_entry(upload_path(&input.bucket, &id)?, keep(Kind::Folder, &upload), Expect::Any).await?;
        let declared = input.checksum_algorithm.is_some();
        let kind = if composite { s3s::dto::ChecksumType::COMPOSITE } else { s3s::dto::ChecksumType::FULL_OBJECT };
        Ok(S3Response::new(CreateMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(id),
            checksum_algorithm: input.checksum_algorithm,
            checksum_type: declared.then(|| s3s::dto::ChecksumType::from_static(kind)),
            ..CreateMultipartUploadOutput::default()
        }))
    }

    pub(super) async fn take_part(
        &self,
        mut req: S3Request<UploadPartInput>,
    ) -> S3Result<S3Response<UploadPartOutput>> {
        let body = req.input.body.take();
        let sums = s3s::dto::Checksum {
            checksum_crc32: req.input.checksum_crc32.take(),
            checksum_crc32c: req.input.checksum_crc32c.take(),
            checksum_crc64nvme: req.input.checksum_crc64nvme.take(),
            checksum_sha1: req.input.checksum_sha1.take(),
            checksum_sha256: req.input.checksum_sha256.take(),
            checksum_type: None,
        };
        let declared = declared(&req, &sums, req.input.content_md5.clone(), req.input.content_length)?;
        let input = req.input;
        let number = part_number(input.part_number)?;
        let (path, upload) = self.upload(&input.bucket, &input.key, &input.upload_id).await?;
        let _turn = self.turns.write().await?;
        let (len, told) = (declared.len, declared.algorithm.unwrap_or(upload.algorithm));
        let (bytes, ended) = check(body, declared, req.trailing_headers, Some(upload.algorithm));
        let (content, digest) = self.store(len, bytes, &ended).await?;
        self.keep_part(&path, number, &upload, content, &digest).await?;
        let told = told.told(digest.sum(told).map(base64).unwrap_or_default());
        Ok(S3Response::new(UploadPartOutput {
            e_tag: Some(s3s::dto::ETag::Strong(hex::encode(digest.md5))),
            checksum_crc32: told.checksum_crc32,
            checksum_crc32c: told.checksum_crc32c,
            checksum_crc64nvme: told.checksum_crc64nvme,
            checksum_sha1: told.checksum_sha1,
            checksum_sha256: told.checksum_sha256,
            ..UploadPartOutput::default()
        }))
    }

    /// A part is there with the upload that it belongs to, or not at all.
    async fn keep_part(
        &self,
        path: &str,
        number: i32,
        upload: &Upload,
        content: Content,
        digest: &Digest,
    ) -> S3Result<()> {
        let sum = digest.sum(upload.algorithm).map(<[u8]>::to_vec).unwrap_or_default();
        let entry = keep(Kind::File(content), &Part { md5: digest.md5, sum });
        let entry = Entry { mtime_ns: i64::try_from(self.now().get().saturating_mul(1_000_000)).unwrap_or(0), ..entry };
        let begun = keep(Kind::Folder, upload);
        let ops = vec![
            Op::Put { path: path.to_owned(), entry: Box::new(begun), keep: 0, expect: Expect::Present },
            Op::Put { path: part_path(path, number), entry: Box::new(entry), keep: 0, expect: Expect::Any },
        ];
        let batch = crate::files::tree::Batch { ops, ..Default::default() };
        match self.tree.apply(batch, Vec::new()).await {
            Ok(_) => Ok(()),
            Err(crate::node::NodeError::Tree(crate::files::tree::TreeError::NotFound(_))) => Err(no_upload(path)),
            Err(failed) => Err(of_node(failed)),
        }
    }

    pub(super) async fn copy_part(
        &self,
        req: S3Request<UploadPartCopyInput>,
    ) -> S3Result<S3Response<UploadPartCopyOutput>> {
        let input = req.input;
        let number = part_number(input.part_number)?;
        let (from_bucket, from_key) = source(&input.copy_source)?;
        let (path, upload) = self.upload(&input.bucket, &input.key, &input.upload_id).await?;
        let object = bucket::object(&self.tree, &from_bucket, &from_key).await?;
        let wanted = Conditions::of(&req.headers, "x-amz-copy-source-");
        if wanted.check(&object.meta.etag, object.modified()) != Met::Yes {
            return Err(failed());
        }
        let range = input.copy_source_range.as_deref().map(|text| {
            let wrong =
                || error(S3ErrorCode::InvalidArgument, "the range of a copy is bytes=FIRST-LAST, within the source");
            let range = s3s::dto::Range::parse(text).map_err(|_| wrong())?;
            match range {
                s3s::dto::Range::Int { last: Some(last), .. } if last < object.len() => Ok(range.check(object.len())?),
                _ => Err(wrong()),
            }
        });
        let range = range.transpose()?.unwrap_or(0..object.len());
        if range.end - range.start > UPLOAD_BYTES_MAX {
            return Err(error(S3ErrorCode::InvalidRequest, "more than 5 GiB in one part"));
        }
        let empty = bucket::no_bytes(self.now());
        let content = object.entry.content().unwrap_or(&empty);
        let (content, digest) = self.copy_bytes(content, Some(range), Some(upload.algorithm)).await?;
        self.keep_part(&path, number, &upload, content, &digest).await?;
        let told = upload.algorithm.told(digest.sum(upload.algorithm).map(base64).unwrap_or_default());
        let result = s3s::dto::CopyPartResult {
            e_tag: Some(s3s::dto::ETag::Strong(hex::encode(digest.md5))),
            last_modified: Some(meta::timestamp(self.now())),
            checksum_crc32: told.checksum_crc32,
            checksum_crc32c: told.checksum_crc32c,
            checksum_crc64nvme: told.checksum_crc64nvme,
            checksum_sha1: told.checksum_sha1,
            checksum_sha256: told.checksum_sha256,
        };
        Ok(S3Response::new(UploadPartCopyOutput { copy_part_result: Some(result), ..UploadPartCopyOutput::default() }))
    }

    pub(super) async fn abort(
        &self,
        req: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let AbortMultipartUploadInput { bucket, key, upload_id, .. } = req.input;
        let (prefix, _) = self.upload(&bucket, &key, &upload_id).await?;
        self.apply(vec![Op::RemoveAll { prefix }]).await?;
        let output = AbortMultipartUploadOutput::default();
        Ok(S3Response::with_status(output, axum::http::StatusCode::NO_CONTENT))
    }
}

#[path = "complete.rs"]
mod complete;

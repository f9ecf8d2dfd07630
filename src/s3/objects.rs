//! Objects: put, get, head, copy, delete, tags.

use axum::http::{HeaderMap, StatusCode, header};
use s3s::dto::{
    CopyObjectInput, CopyObjectOutput, CopyObjectResult, CopySource, DeleteObjectInput, DeleteObjectOutput,
    DeleteObjectsInput, DeleteObjectsOutput, DeletedObject, GetObjectInput, GetObjectOutput, HeadObjectInput,
    HeadObjectOutput, MetadataDirective, PutObjectInput, PutObjectOutput, StreamingBlob, TaggingDirective,
};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result};
use tokio::sync::mpsc;

use super::asked::Asked;
use super::bucket::{self, Object, bucket_path, kind, may_hold, new_path, object_path};
use super::conditions::{self, Conditions, Doomed, Met, Tags};
use super::cut::{Cut, cut};
use super::digest::{Algorithm, Checked, Declared, Digest, Ended, check};
use super::errors::{error, of_fault, of_node, xml_text};
use super::gateway::Gateway;
use super::meta::{self, Checksum, Headers, Meta};
use super::offered;
use crate::files::tree::{Batch, Content, Expect, Op};
use crate::node::NodeError;
use crate::node::tree::ContentRequest;

/// Bytes of one upload, as the protocol has it.
pub const UPLOAD_BYTES_MAX: u64 = 5 << 30;
/// Keys of one request to delete.
const DELETES_MAX: usize = 1_000;
/// How often objects are looked at that are deleted on conditions, if someone changes one meanwhile.
const DELETE_TRIES: usize = 4;

/// What a request says of its bytes. Errors: `InvalidRequest`, `EntityTooLarge`.
pub fn declared<T>(
    req: &S3Request<T>,
    sums: &s3s::dto::Checksum,
    md5: Option<String>,
    len: Option<i64>,
) -> S3Result<Declared> {
    let header = |name: &str| req.headers.get(name).and_then(|value| value.to_str().ok());
    let (trailer, named) = (header("x-amz-trailer"), header("x-amz-sdk-checksum-algorithm"));
    let declared = Declared::new(sums, trailer, named, md5, len);
    let declared = declared.map_err(|text| error(S3ErrorCode::InvalidRequest, text))?;
    if declared.len.is_some_and(|len| len > UPLOAD_BYTES_MAX) {
        let text = "more than 5 GiB at once; upload it in parts";
        return Err(error(S3ErrorCode::EntityTooLarge, text));
    }
    Ok(declared)
}

/// Bytes from the node.
fn blob(mut pieces: mpsc::Receiver<Result<bytes::Bytes, NodeError>>) -> StreamingBlob {
    StreamingBlob::wrap(futures::stream::poll_fn(move |cx| pieces.poll_recv(cx)))
}

/// What both of these answers tell of an object.
macro_rules! head {
    ($output:ident, $object:expr, $cut:expr, $mode:expr) => {{
        let (object, cut): (&Object, &Cut) = (&$object, &$cut);
        let told = told_checksum(object, $mode.as_ref(), cut);
        let headers = &object.meta.headers;
        $output {
            accept_ranges: Some("bytes".to_owned()),
            content_length: i64::try_from(cut.range.end - cut.range.start).ok(),
            content_range: cut.told(object.len()),
            parts_count: cut.parts_count(object),
            e_tag: Some(object.meta.etag()),
            last_modified: Some(meta::timestamp(object.modified())),
            metadata: object.meta.user(),
            content_type: Some(headers.content_type.clone().unwrap_or_else(octets)),
            cache_control: headers.cache_control.clone(),
            content_disposition: headers.content_disposition.clone(),
            content_encoding: headers.content_encoding.clone(),
            content_language: headers.content_language.clone(),
            expires: headers.expires.as_deref().and_then(meta::parse_http_date),
            checksum_crc32: told.checksum_crc32,
            checksum_crc32c: told.checksum_crc32c,
            checksum_crc64nvme: told.checksum_crc64nvme,
            checksum_sha1: told.checksum_sha1,
            checksum_sha256: told.checksum_sha256,
            checksum_type: told.checksum_type,
            ..$output::default()
        }
    }};
}

impl Gateway {
    /// Stores bytes that a client sends. Errors: those of the bytes, else those of the node.
    pub async fn store(&self, len: Option<u64>, bytes: Checked, ended: &Ended) -> S3Result<(Content, Digest)> {
        let request = ContentRequest { len, ..ContentRequest::default() };
        let stored = self.tree.put_content(request, bytes).await;
        match (stored, ended.fault(), ended.digest()) {
            (_, Some(fault), _) => Err(of_fault(&fault)),
            (Err(failed), None, _) => Err(of_node(failed)),
            (Ok(content), None, Some(digest)) => Ok((content, digest)),
            (Ok(_), None, None) => Err(error(S3ErrorCode::IncompleteBody, "the body did not come to its end")),
        }
    }

    /// Puts one entry. Errors: those of the tree.
    pub async fn put_entry(&self, path: String, entry: crate::files::tree::Entry, expect: Expect) -> S3Result<()> {
        let op = Op::Put { path, entry: Box::new(entry), keep: self.keep, expect };
        self.apply(vec![op]).await
    }

    /// Carries changes out. Errors: those of the tree.
    pub async fn apply(&self, ops: Vec<Op>) -> S3Result<()> {
        let batch = Batch { ops, ..Batch::default() };
        self.tree.apply(batch, Vec::new()).await.map(|_| ()).map_err(of_node)
    }

    /// The object at a path, if there is one.
    async fn present(&self, path: &str) -> S3Result<Option<Object>> {
        Ok(self.tree.stat(path).await.map_err(of_node)?.and_then(Object::of))
    }

    /// What a write on conditions wants at a path. The object is looked up only where there is one.
    pub async fn expect(&self, path: &str, headers: &HeaderMap) -> S3Result<Expect> {
        let (is, is_not) = (Tags::of(headers, "if-match"), Tags::of(headers, "if-none-match"));
        if is.is_none() && is_not.is_none() {
            return Ok(Expect::Any);
        }
        conditions::expect(is.as_ref(), is_not.as_ref(), self.present(path).await?.as_ref())
    }

    /// Carries out changes that take objects away. The bucket stays when its last object goes, also one that is there only as
    /// the folder of what a person put. Errors: those of the tree.
    async fn remove(&self, bucket: &str, mut ops: Vec<Op>) -> S3Result<()> {
        let path = bucket_path(bucket);
        if self.tree.stat(&path).await.map_err(of_node)?.is_none() {
            let entry = Box::new(bucket::entry(self.now()));
            ops.insert(0, Op::Put { path, entry, keep: 0, expect: Expect::Any });
        }
        self.apply(ops).await
    }

    pub(super) async fn put(&self, mut req: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
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
        let path = new_path(&input.bucket, &input.key)?;
        may_hold(&input.key, declared.len.unwrap_or(0))?;
        bucket::must_exist(&self.tree, &input.bucket).await?;
        let expect = self.expect(&path, &req.headers).await?;
        let mut kept = Meta {
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
        kept.check()?;
        let _turn = self.turns.write().await?;
        let algorithm = declared.algorithm.unwrap_or(Algorithm::Crc64Nvme);
        let len = declared.len;
        let (bytes, ended) = check(body, declared, req.trailing_headers, Some(algorithm));
        let (content, digest) = self.store(len, bytes, &ended).await?;
        kept.etag = hex::encode(digest.md5);
        kept.checksum = Checksum::whole(algorithm, &digest);
        let (etag, told) = (kept.etag(), kept.checksum.as_ref().map(Checksum::told).unwrap_or_default());
        self.put_entry(path, kept.entry(kind(&input.key, content)?, self.now()), expect).await?;
        Ok(S3Response::new(PutObjectOutput {
            e_tag: Some(etag),
            checksum_crc32: told.checksum_crc32,
            checksum_crc32c: told.checksum_crc32c,
            checksum_crc64nvme: told.checksum_crc64nvme,
            checksum_sha1: told.checksum_sha1,
            checksum_sha256: told.checksum_sha256,
            checksum_type: told.checksum_type,
            ..PutObjectOutput::default()
        }))
    }

    pub(super) async fn head(&self, req: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        let Asked(asked) = Asked::of(&req);
        let HeadObjectInput { bucket, key, version_id, part_number, checksum_mode, .. } = req.input;
        offered::version(version_id.as_deref())?;
        let object = bucket::object(&self.tree, &bucket, &key).await?;
        let Some(cut) = cut(&object, &asked, part_number)? else {
            return Err(not_modified(&object));
        };
        Ok(S3Response::new(head!(HeadObjectOutput, object, cut, checksum_mode)))
    }

    pub(super) async fn get(&self, req: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let Asked(asked) = Asked::of(&req);
        let GetObjectInput { bucket, key, version_id, part_number, checksum_mode, .. } = req.input;
        offered::version(version_id.as_deref())?;
        let object = bucket::object(&self.tree, &bucket, &key).await?;
        let Some(cut) = cut(&object, &asked, part_number)? else {
            return Err(not_modified(&object));
        };
        let body = match object.entry.content() {
            Some(content) if !cut.range.is_empty() => Some(self.read(content, cut.range.clone()).await?),
            _ => None,
        };
        let tag_count = i32::try_from(object.meta.tags.len()).ok().filter(|count| *count > 0);
        let head = head!(GetObjectOutput, object, cut, checksum_mode);
        Ok(S3Response::new(GetObjectOutput { body, tag_count, ..head }))
    }

    pub(super) async fn copy(&self, req: S3Request<CopyObjectInput>) -> S3Result<S3Response<CopyObjectOutput>> {
        let input = req.input;
        let (from_bucket, from_key) = source(&input.copy_source)?;
        let path = new_path(&input.bucket, &input.key)?;
        bucket::must_exist(&self.tree, &input.bucket).await?;
        let object = bucket::object(&self.tree, &from_bucket, &from_key).await?;
        let wanted = Conditions::of(&req.headers, "x-amz-copy-source-");
        if wanted.check(&object.meta.etag, object.modified()) != Met::Yes {
            return Err(conditions::failed());
        }
        let is = |given: Option<&str>, what: &str| given.is_some_and(|given| given == what);
        let replace = is(input.metadata_directive.as_ref().map(MetadataDirective::as_str), MetadataDirective::REPLACE);
        let retag = is(input.tagging_directive.as_ref().map(TaggingDirective::as_str), TaggingDirective::REPLACE);
        let same = object_path(&from_bucket, &from_key)? == path;
        if same && !replace && !retag {
            let text = "a copy of an object to itself has to change its metadata or its tags";
            return Err(error(S3ErrorCode::InvalidRequest, text));
        }
        let mut kept = object.meta.clone();
        if replace {
            kept.user = meta::user(input.metadata);
            kept.headers = Headers {
                content_type: input.content_type,
                cache_control: input.cache_control,
                content_disposition: input.content_disposition,
                content_encoding: offered::encoding(input.content_encoding),
                content_language: input.content_language,
                expires: input.expires.as_ref().and_then(meta::http_date),
            };
        }
        if retag {
            kept.tags = meta::tags_of_header(input.tagging.as_deref())?;
        }
        kept.check()?;
        may_hold(&input.key, object.len())?;
        let mut expect = self.expect(&path, &req.headers).await?;
        if same && !matches!(expect, Expect::Absent) {
            expect = Expect::Same(Box::new(object.entry.clone()));
        }
        let kind = match object.entry.content() {
            _ if same => object.entry.kind.clone(),
            Some(content) => {
                let algorithm = input.checksum_algorithm.as_ref().and_then(|name| Algorithm::named(name.as_str()));
                let (content, digest) = self.copy_bytes(content, None, algorithm).await?;
                kept.etag = hex::encode(digest.md5);
                kept.parts = Vec::new();
                kept.checksum = Checksum::whole(algorithm.unwrap_or(Algorithm::Crc64Nvme), &digest);
                kind(&input.key, content)?
            }
            None => kind(&input.key, bucket::no_bytes(self.now()))?,
        };
        let (etag, told) = (kept.etag(), kept.checksum.as_ref().map(Checksum::told).unwrap_or_default());
        let now = self.now();
        self.put_entry(path, kept.entry(kind, now), expect).await?;
        let result = CopyObjectResult {
            e_tag: Some(etag),
            last_modified: Some(meta::timestamp(now)),
            checksum_crc32: told.checksum_crc32,
            checksum_crc32c: told.checksum_crc32c,
            checksum_crc64nvme: told.checksum_crc64nvme,
            checksum_sha1: told.checksum_sha1,
            checksum_sha256: told.checksum_sha256,
            checksum_type: told.checksum_type,
        };
        Ok(S3Response::new(CopyObjectOutput { copy_object_result: Some(result), ..CopyObjectOutput::default() }))
    }

    /// Reads bytes and stores them again: a stored file belongs to one path.
    pub async fn copy_bytes(
        &self,
        content: &Content,
        range: Option<std::ops::Range<u64>>,
        algorithm: Option<Algorithm>,
    ) -> S3Result<(Content, Digest)> {
        let _turn = self.turns.write().await?;
        let (len, pieces) = self.tree.read_content(content, range).await.map_err(of_node)?;
        let declared = Declared { len: Some(len), ..Declared::default() };
        let algorithm = algorithm.unwrap_or(Algorithm::Crc64Nvme);
        let (bytes, ended) = check(Some(blob(pieces)), declared, None, Some(algorithm));
        let stored = self.store(Some(len), bytes, &ended).await;
        // The bytes are not the client's, so it is not the client that they did not come from.
        stored.map_err(|failed| match ended.fault() {
            Some(fault) => error(S3ErrorCode::ServiceUnavailable, format!("the source cannot be read: {fault}")),
            None => failed,
        })
    }

    pub(super) async fn delete(&self, req: S3Request<DeleteObjectInput>) -> S3Result<S3Response<DeleteObjectOutput>> {
        let input = req.input;
        offered::version(input.version_id.as_deref())?;
        bucket::must_exist(&self.tree, &input.bucket).await?;
        let doomed = Doomed {
            is: Tags::of(&req.headers, "if-match"),
            size: input.if_match_size,
            modified: input.if_match_last_modified_time,
        };
        let op = self.removal(&input.bucket, &input.key, &doomed).await?;
        self.remove(&input.bucket, vec![op]).await?;
        Ok(S3Response::with_status(DeleteObjectOutput::default(), StatusCode::NO_CONTENT))
    }

    /// The change that takes an object away. Errors: those of its path and of its conditions.
    async fn removal(&self, bucket: &str, key: &str, doomed: &Doomed) -> S3Result<Op> {
        let path = object_path(bucket, key)?;
        let have = if doomed.is_some() { self.present(&path).await? } else { None };
        Ok(Op::Remove { expect: doomed.expect(have.as_ref())?, path })
    }

    pub(super) async fn delete_all(
        &self,
        req: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let DeleteObjectsInput { bucket, delete, .. } = req.input;
        bucket::must_exist(&self.tree, &bucket).await?;
        if delete.objects.is_empty() || delete.objects.len() > DELETES_MAX {
            let text = format!("1 to {DELETES_MAX} keys can be deleted at once");
            return Err(error(S3ErrorCode::MalformedXML, text));
        }
        let mut tries = 0;
        let (deleted, errors) = loop {
            let (mut ops, mut deleted, mut errors) = (Vec::new(), Vec::new(), Vec::new());
            for wanted in &delete.objects {
                let doomed = Doomed {
                    is: wanted.e_tag.as_ref().map(|tag| Tags::parse(tag.value())),
                    size: wanted.size,
                    modified: wanted.last_modified_time.clone(),
                };
                let op = match offered::version(wanted.version_id.as_deref()) {
                    Ok(()) => self.removal(&bucket, &wanted.key, &doomed).await,
                    Err(error) => Err(error),
                };
                let key = Some(xml_text(&wanted.key));
                match op {
                    Ok(op) => {
                        ops.push(op);
                        deleted.push(DeletedObject { key, ..DeletedObject::default() });
                    }
                    Err(error) => errors.push(listed_error(key, &error)),
                }
            }
            tries += 1;
            match self.remove(&bucket, ops).await {
                Ok(()) => break (deleted, errors),
                // Someone changed an object after it was looked at.
                Err(failed) if failed.code() == &S3ErrorCode::PreconditionFailed && tries < DELETE_TRIES => {}
                Err(failed) => return Err(failed),
            }
        };
        let deleted = (!delete.quiet.unwrap_or(false)).then_some(deleted);
        let errors = Some(errors).filter(|errors| !errors.is_empty());
        Ok(S3Response::new(DeleteObjectsOutput { deleted, errors, ..DeleteObjectsOutput::default() }))
    }
}

/// The answer to who has the object already: its head alone, which the library knows as an error.
fn not_modified(object: &Object) -> S3Error {
    let mut answer = error(S3ErrorCode::NotModified, "the object is the one that the client has");
    let mut headers = HeaderMap::new();
    let etag = object.meta.etag().to_http_header().ok();
    let modified = meta::http_date(&meta::timestamp(object.modified())).and_then(|date| date.parse().ok());
    headers.extend(etag.map(|etag| (header::ETAG, etag)));
    headers.extend(modified.map(|modified| (header::LAST_MODIFIED, modified)));
    answer.set_headers(headers);
    answer
}

fn octets() -> String {
    "application/octet-stream".to_owned()
}

fn listed_error(key: Option<String>, error: &S3Error) -> s3s::dto::Error {
    let code = Some(error.code().as_str().to_owned());
    let message = error.message().map(str::to_owned);
    s3s::dto::Error { code, message, key, version_id: None }
}

/// Bucket and key of a source. Errors: `NotImplemented` for one that is none of ours, or a version.
pub fn source(source: &CopySource) -> S3Result<(String, String)> {
    match source {
        CopySource::Bucket { bucket, key, version_id } => {
            offered::version(version_id.as_deref())?;
            Ok((bucket.to_string(), key.to_string()))
        }
        _ => Err(error(S3ErrorCode::NotImplemented, "copies come from a bucket and a key")),
    }
}

/// The checksum of a whole object, for who asks.
fn told_checksum(object: &Object, mode: Option<&s3s::dto::ChecksumMode>, cut: &Cut) -> s3s::dto::Checksum {
    let asked = mode.is_some_and(|mode| mode.as_str() == s3s::dto::ChecksumMode::ENABLED) && !cut.partial;
    object.meta.checksum.as_ref().filter(|_| asked).map(Checksum::told).unwrap_or_default()
}

//! Details: parts and uploads that are under way, tags, attributes.

use s3s::dto::{
    CommonPrefix, DeleteObjectTaggingInput, DeleteObjectTaggingOutput, GetObjectAttributesInput,
    GetObjectAttributesOutput, GetObjectAttributesParts, GetObjectTaggingInput, GetObjectTaggingOutput, Initiator,
    ListMultipartUploadsInput, ListMultipartUploadsOutput, ListPartsInput, ListPartsOutput, MultipartUpload,
    ObjectAttributes, PutObjectTaggingInput, PutObjectTaggingOutput, StorageClass, Tag,
};
use s3s::{S3ErrorCode, S3Request, S3Response, S3Result};

use super::bucket::{self, Object, object_path};
use super::digest::base64;
use super::errors::{error, of_node};
use super::gateway::Gateway;
use super::listing::{Encoding, limit};
use super::meta::{self, Checksum, KEPT_AS};
use super::offered;
use super::uploads::{FOLDER, UPLOADS_MAX, Upload, upload_of};
use crate::files::tree::{Expect, Item, Query};
use crate::wire;

/// The name and the value of an upload in the order of listings.
type Listed = (String, String, Upload);

impl Gateway {
    pub(super) async fn list_parts(&self, req: S3Request<ListPartsInput>) -> S3Result<S3Response<ListPartsOutput>> {
        let ListPartsInput { bucket, key, upload_id, max_parts, part_number_marker, .. } = req.input;
        let limit = limit(max_parts)?;
        let marker = part_number_marker.unwrap_or(0);
        let (path, upload) = self.upload(&bucket, &key, &upload_id).await?;
        let all = self.parts(&path, marker.max(0)).await?;
        // Of no parts there is no next page.
        let more = limit > 0 && all.len() > limit;
        let part = |stored: &super::uploads::Stored| {
            let sums = upload.algorithm.told(base64(&stored.part.sum));
            s3s::dto::Part {
                part_number: Some(stored.number),
                e_tag: Some(s3s::dto::ETag::Strong(hex::encode(stored.part.md5))),
                size: i64::try_from(stored.content.len()).ok(),
                last_modified: Some(meta::timestamp(stored.content.put)),
                checksum_crc32: sums.checksum_crc32,
                checksum_crc32c: sums.checksum_crc32c,
                checksum_crc64nvme: sums.checksum_crc64nvme,
                checksum_sha1: sums.checksum_sha1,
                checksum_sha256: sums.checksum_sha256,
            }
        };
        let parts: Vec<_> = all.iter().take(limit).map(part).collect();
        Ok(S3Response::new(ListPartsOutput {
            next_part_number_marker: parts.last().filter(|_| more).and_then(|last| last.part_number),
            is_truncated: Some(more),
            parts: Some(parts),
            part_number_marker: Some(marker),
            max_parts: i32::try_from(limit).ok(),
            bucket: Some(bucket),
            key: Some(key),
            upload_id: Some(upload_id),
            owner: Some(self.owner()),
            initiator: Some(self.initiator()),
            storage_class: Some(StorageClass::from_static(StorageClass::STANDARD)),
            checksum_algorithm: Some(s3s::dto::ChecksumAlgorithm::from_static(upload.algorithm.name())),
            ..ListPartsOutput::default()
        }))
    }

    fn initiator(&self) -> Initiator {
        Initiator { display_name: None, id: self.owner().id }
    }

    pub(super) async fn list_uploads(
        &self,
        req: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        let input = req.input;
        let (encoding, limit) = (Encoding::of(input.encoding_type.as_ref())?, limit(input.max_uploads)?);
        bucket::must_exist(&self.tree, &input.bucket).await?;
        let folder = format!("{FOLDER}/{}/", input.bucket);
        // There are few enough to be put in the order of their keys at once.
        let query = Query { prefix: folder.clone(), delimiter: "/".to_owned(), limit: UPLOADS_MAX, ..Query::default() };
        let listing = self.tree.list(&query).await.map_err(of_node)?;
        let all = listing.items.into_iter().filter_map(|item| {
            let Item::Folder(path, Some(entry)) = item else { return None };
            let id = path.strip_prefix(&folder)?.trim_end_matches('/').to_owned();
            let upload = upload_of(&entry)?;
            Some((upload.key.clone(), id, upload))
        });
        let prefix = input.prefix.clone().unwrap_or_default();
        let (key_marker, id_marker) = (input.key_marker.clone(), input.upload_id_marker.clone());
        let after = |(key, id, _): &Listed| match (&key_marker, &id_marker) {
            (Some(marker), Some(id_marker)) => (key, id) > (marker, id_marker),
            (Some(marker), None) => key > marker,
            (None, _) => true,
        };
        let mut all: Vec<Listed> = all.filter(|upload| upload.0.starts_with(&prefix) && after(upload)).collect();
        all.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
        let delimiter = input.delimiter.clone().unwrap_or_default();
        let (mut uploads, mut prefixes, mut more) = (Vec::new(), Vec::<String>::new(), false);
        let mut last = None;
        for (key, id, upload) in all {
            let cut = key[prefix.len()..].find(&delimiter).filter(|_| !delimiter.is_empty());
            let common = cut.map(|at| key[..prefix.len() + at + delimiter.len()].to_owned());
            if common.is_some() && common.as_ref() == prefixes.last() {
                last = Some((key, id));
                continue;
            }
            if uploads.len() + prefixes.len() == limit {
                more = limit > 0;
                break;
            }
            last = Some((key.clone(), id.clone()));
            match common {
                Some(common) => prefixes.push(common),
                None => uploads.push(self.told(key, id, &upload, encoding)),
            }
        }
        let (next_key, next_id) = last.filter(|_| more).unzip();
        let common = |prefix: &String| CommonPrefix { prefix: Some(encoding.text(prefix)) };
        Ok(S3Response::new(ListMultipartUploadsOutput {
            bucket: Some(input.bucket),
            uploads: Some(uploads),
            common_prefixes: Some(prefixes.iter().map(common).collect()),
            is_truncated: Some(more),
            max_uploads: i32::try_from(limit).ok(),
            prefix: encoding.given(input.prefix),
            delimiter: encoding.given(input.delimiter),
            encoding_type: input.encoding_type,
            key_marker: encoding.given(input.key_marker),
            upload_id_marker: input.upload_id_marker,
            next_key_marker: encoding.given(next_key),
            next_upload_id_marker: next_id,
            ..ListMultipartUploadsOutput::default()
        }))
    }

    fn told(&self, key: String, id: String, upload: &Upload, encoding: Encoding) -> MultipartUpload {
        MultipartUpload {
            key: Some(encoding.text(&key)),
            upload_id: Some(id),
            initiated: Some(meta::timestamp(upload.begun)),
            owner: Some(self.owner()),
            initiator: Some(self.initiator()),
            storage_class: Some(StorageClass::from_static(StorageClass::STANDARD)),
            checksum_algorithm: Some(s3s::dto::ChecksumAlgorithm::from_static(upload.algorithm.name())),
            ..MultipartUpload::default()
        }
    }

    pub(super) async fn tags(
        &self,
        req: S3Request<GetObjectTaggingInput>,
    ) -> S3Result<S3Response<GetObjectTaggingOutput>> {
        offered::version(req.input.version_id.as_deref())?;
        let object = bucket::object(&self.tree, &req.input.bucket, &req.input.key).await?;
        let tags = object.meta.tags.into_iter();
        let tag_set = tags.map(|(key, value)| Tag { key: Some(key), value: Some(value) }).collect();
        Ok(S3Response::new(GetObjectTaggingOutput { tag_set, version_id: None }))
    }

    pub(super) async fn set_tags(
        &self,
        req: S3Request<PutObjectTaggingInput>,
    ) -> S3Result<S3Response<PutObjectTaggingOutput>> {
        offered::version(req.input.version_id.as_deref())?;
        let tags = meta::tags_of_set(req.input.tagging.tag_set)?;
        self.retag(&req.input.bucket, &req.input.key, tags).await?;
        Ok(S3Response::new(PutObjectTaggingOutput::default()))
    }

    pub(super) async fn remove_tags(
        &self,
        req: S3Request<DeleteObjectTaggingInput>,
    ) -> S3Result<S3Response<DeleteObjectTaggingOutput>> {
        offered::version(req.input.version_id.as_deref())?;
        self.retag(&req.input.bucket, &req.input.key, Vec::new()).await?;
        let output = DeleteObjectTaggingOutput::default();
        Ok(S3Response::with_status(output, axum::http::StatusCode::NO_CONTENT))
    }

    /// Only the tags change: neither the bytes nor the time.
    async fn retag(&self, bucket: &str, key: &str, tags: Vec<(String, String)>) -> S3Result<()> {
        let Object { entry, mut meta } = bucket::object(&self.tree, bucket, key).await?;
        let expect = Expect::Same(Box::new(entry.clone()));
        meta.tags = tags;
        let mut new = entry;
        new.meta.insert(KEPT_AS.to_owned(), wire::encode(&meta));
        self.put_entry(object_path(bucket, key)?, new, expect).await
    }

    pub(super) async fn attributes(
        &self,
        req: S3Request<GetObjectAttributesInput>,
    ) -> S3Result<S3Response<GetObjectAttributesOutput>> {
        let GetObjectAttributesInput { bucket, key, object_attributes, version_id, .. } = req.input;
        offered::version(version_id.as_deref())?;
        let object = bucket::object(&self.tree, &bucket, &key).await?;
        let named = || object_attributes.iter().flat_map(|names| names.as_str().split(',')).map(str::trim);
        let asked = |what: &str| named().any(|asked| asked == what);
        if object_attributes.is_empty() {
            return Err(error(S3ErrorCode::InvalidArgument, "at least one attribute has to be named"));
        }
        let parts = object.meta.parts_count().and_then(|count| i32::try_from(count).ok());
        let parts =
            parts.map(|count| GetObjectAttributesParts { total_parts_count: Some(count), ..Default::default() });
        let class = StorageClass::from_static(StorageClass::STANDARD);
        Ok(S3Response::new(GetObjectAttributesOutput {
            last_modified: Some(meta::timestamp(object.modified())),
            e_tag: asked(ObjectAttributes::ETAG).then(|| object.meta.etag()),
            object_size: i64::try_from(object.len()).ok().filter(|_| asked(ObjectAttributes::OBJECT_SIZE)),
            storage_class: asked(ObjectAttributes::STORAGE_CLASS).then_some(class),
            object_parts: parts.filter(|_| asked(ObjectAttributes::OBJECT_PARTS)),
            checksum: object.meta.checksum.as_ref().filter(|_| asked(ObjectAttributes::CHECKSUM)).map(Checksum::told),
            ..GetObjectAttributesOutput::default()
        }))
    }
}

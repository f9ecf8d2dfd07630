//! Listing: buckets, and what is in one.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use s3s::dto::{
    Bucket, CommonPrefix, CreateBucketInput, CreateBucketOutput, DeleteBucketInput, DeleteBucketOutput, EncodingType,
    HeadBucketInput, HeadBucketOutput, ListBucketsInput, ListBucketsOutput, ListObjectsInput, ListObjectsOutput,
    ListObjectsV2Input, ListObjectsV2Output, ObjectStorageClass, Owner,
};
use s3s::{S3ErrorCode, S3Request, S3Response, S3Result};

use super::bucket::{self, Object, bucket_path};
use super::errors::{error, of_node, xml_text};
use super::gateway::Gateway;
use super::meta;
use super::uploads;
use crate::files::tree::{Expect, Item, Op, Query};

/// Items of one page.
const PAGE_MAX: usize = 1_000;
/// Buckets of one answer.
const BUCKETS_MAX: usize = 10_000;
/// What URLs have as it is, beside letters and digits.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');

/// A page of keys, and whether there is more.
struct Page {
    objects: Vec<s3s::dto::Object>,
    prefixes: Vec<String>,
    more: bool,
    last: Option<String>,
}

/// What a listing asks for, the same for both versions of the request.
struct Asked<'a> {
    bucket: &'a str,
    prefix: &'a str,
    delimiter: &'a str,
    after: &'a str,
    limit: usize,
    owner: bool,
}

/// A limit as clients give it. Errors: `InvalidArgument`.
pub fn limit(asked: Option<i32>) -> S3Result<usize> {
    match asked.map(usize::try_from) {
        None => Ok(PAGE_MAX),
        Some(Ok(limit)) => Ok(limit.min(PAGE_MAX)),
        Some(Err(_)) => Err(error(S3ErrorCode::InvalidArgument, "a limit is a whole number, not less than 0")),
    }
}

/// Texts as the client can read them: XML knows no control characters, so clients ask for URLs' texts.
#[derive(Clone, Copy)]
pub struct Encoding(bool);

impl Encoding {
    /// Errors: `InvalidArgument` for one that is not known.
    pub fn of(asked: Option<&EncodingType>) -> S3Result<Self> {
        match asked.map(EncodingType::as_str) {
            None => Ok(Self(false)),
            Some(EncodingType::URL) => Ok(Self(true)),
            Some(_) => Err(error(S3ErrorCode::InvalidArgument, "the encoding type is url, or none")),
        }
    }
    /// A text.
    pub fn text(self, text: &str) -> String {
        if self.0 { utf8_percent_encode(text, PLAIN).to_string() } else { xml_text(text) }
    }
    /// A text that was given.
    pub fn given(self, text: Option<String>) -> Option<String> {
        text.map(|text| self.text(&text))
    }
}

impl Gateway {
    /// The account, as owner of everything.
    pub fn owner(&self) -> Owner {
        Owner { display_name: None, id: Some(self.account.clone()) }
    }

    async fn page(&self, asked: &Asked<'_>) -> S3Result<Page> {
        let Asked { bucket, prefix, delimiter, after, limit, owner } = *asked;
        bucket::must_exist(&self.tree, bucket).await?;
        let root = bucket_path(bucket);
        let mut page = Page { objects: Vec::new(), prefixes: Vec::new(), more: false, last: None };
        let mut query = Query {
            prefix: format!("{root}{prefix}"),
            // The bucket's own entry is none of its objects.
            after: format!("{root}{after}"),
            delimiter: delimiter.to_owned(),
            limit,
        };
        // Links are passed over, so one page may take several looks; with none of them it takes one.
        while limit > 0 && page.objects.len() + page.prefixes.len() < limit {
            query.limit = limit - page.objects.len() - page.prefixes.len();
            let listing = self.tree.list(&query).await.map_err(of_node)?;
            let Some(last) = listing.items.last().map(|item| item.key().to_owned()) else { break };
            for item in listing.items {
                match item {
                    Item::Folder(path, _) => page.prefixes.push(path[root.len()..].to_owned()),
                    Item::Entry(path, entry) => {
                        let object = Object::of(entry).map(|object| self.listed(&path[root.len()..], &object, owner));
                        page.objects.extend(object);
                    }
                }
            }
            page.last = Some(last[root.len()..].to_owned());
            page.more = listing.more;
            query.after = last;
            if !listing.more {
                break;
            }
        }
        Ok(page)
    }

    fn listed(&self, key: &str, object: &Object, owner: bool) -> s3s::dto::Object {
        let checksum = object.meta.checksum.as_ref();
        let algorithm = checksum.map(|sum| s3s::dto::ChecksumAlgorithm::from_static(sum.algorithm.name()));
        s3s::dto::Object {
            key: Some(key.to_owned()),
            size: i64::try_from(object.len()).ok(),
            e_tag: Some(object.meta.etag()),
            last_modified: Some(meta::timestamp(object.modified())),
            owner: owner.then(|| self.owner()),
            storage_class: Some(ObjectStorageClass::from_static(ObjectStorageClass::STANDARD)),
            checksum_algorithm: algorithm.map(|algorithm| vec![algorithm]),
            checksum_type: checksum.and_then(|sum| sum.told().checksum_type),
            ..s3s::dto::Object::default()
        }
    }

    pub(super) async fn list(&self, req: S3Request<ListObjectsInput>) -> S3Result<S3Response<ListObjectsOutput>> {
        let ListObjectsInput { bucket, delimiter, encoding_type, marker, max_keys, prefix, .. } = req.input;
        let (encoding, limit) = (Encoding::of(encoding_type.as_ref())?, limit(max_keys)?);
        let asked = Asked {
            bucket: &bucket,
            prefix: prefix.as_deref().unwrap_or_default(),
            delimiter: delimiter.as_deref().unwrap_or_default(),
            after: marker.as_deref().unwrap_or_default(),
            limit,
            owner: true,
        };
        let page = self.page(&asked).await?;
        Ok(S3Response::new(ListObjectsOutput {
            name: Some(bucket),
            prefix: Some(encoding.text(prefix.as_deref().unwrap_or_default())),
            marker: Some(encoding.text(marker.as_deref().unwrap_or_default())),
            max_keys: i32::try_from(limit).ok(),
            is_truncated: Some(page.more),
            next_marker: page.last.filter(|_| page.more).map(|last| encoding.text(&last)),
            contents: Some(encoded(page.objects, encoding)),
            common_prefixes: Some(common(page.prefixes, encoding)),
            delimiter: encoding.given(delimiter),
            encoding_type,
            ..ListObjectsOutput::default()
        }))
    }

    pub(super) async fn list_v2(
        &self,
        req: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let ListObjectsV2Input { bucket, delimiter, encoding_type, max_keys, prefix, .. } = req.input;
        let (encoding, limit) = (Encoding::of(encoding_type.as_ref())?, limit(max_keys)?);
        let (token, start) = (req.input.continuation_token, req.input.start_after);
        let wrong = || error(S3ErrorCode::InvalidArgument, "the continuation token is none of ours");
        let after = match &token {
            Some(token) => {
                let bytes = hex::decode(token).map_err(|_| wrong())?;
                Some(String::from_utf8(bytes).map_err(|_| wrong())?)
            }
            None => start.clone(),
        };
        let asked = Asked {
            bucket: &bucket,
            prefix: prefix.as_deref().unwrap_or_default(),
            delimiter: delimiter.as_deref().unwrap_or_default(),
            after: after.as_deref().unwrap_or_default(),
            limit,
            owner: req.input.fetch_owner.unwrap_or(false),
        };
        let page = self.page(&asked).await?;
        Ok(S3Response::new(ListObjectsV2Output {
            name: Some(bucket),
            prefix: Some(encoding.text(prefix.as_deref().unwrap_or_default())),
            max_keys: i32::try_from(limit).ok(),
            key_count: i32::try_from(page.objects.len() + page.prefixes.len()).ok(),
            continuation_token: token,
            is_truncated: Some(page.more),
            next_continuation_token: page.last.filter(|_| page.more).map(hex::encode),
            contents: Some(encoded(page.objects, encoding)),
            common_prefixes: Some(common(page.prefixes, encoding)),
            delimiter: encoding.given(delimiter),
            encoding_type,
            start_after: encoding.given(start),
            ..ListObjectsV2Output::default()
        }))
    }

    pub(super) async fn buckets(&self, req: S3Request<ListBucketsInput>) -> S3Result<S3Response<ListBucketsOutput>> {
        let mut query = Query { delimiter: "/".to_owned(), limit: PAGE_MAX, ..Query::default() };
        let mut buckets = Vec::new();
        loop {
            let listing = self.tree.list(&query).await.map_err(of_node)?;
            for item in &listing.items {
                let Item::Folder(path, own) = item else { continue };
                let name = path.trim_end_matches('/');
                let wanted = req.input.prefix.as_deref().is_none_or(|prefix| name.starts_with(prefix));
                if !bucket::is_name(name) || !wanted {
                    continue;
                }
                let made = own.clone().and_then(Object::of).map(|object| meta::timestamp(object.modified()));
                let creation_date = Some(made.unwrap_or_else(|| meta::timestamp(crate::types::Millis::new(0))));
                buckets.push(Bucket { name: Some(name.to_owned()), creation_date, ..Bucket::default() });
            }
            let Some(last) = listing.items.last().filter(|_| listing.more && buckets.len() < BUCKETS_MAX) else {
                break;
            };
            query.after = last.key().to_owned();
        }
        let owner = Some(self.owner());
        Ok(S3Response::new(ListBucketsOutput { buckets: Some(buckets), owner, ..ListBucketsOutput::default() }))
    }

    pub(super) async fn make_bucket(
        &self,
        req: S3Request<CreateBucketInput>,
    ) -> S3Result<S3Response<CreateBucketOutput>> {
        let bucket = req.input.bucket;
        if !s3s::path::check_bucket_name(&bucket) {
            let text =
                "a bucket's name has 3 to 63 small letters, digits, dots and hyphens, a letter or digit at both ends";
            return Err(error(S3ErrorCode::InvalidBucketName, text));
        }
        if req.input.object_lock_enabled_for_bucket.unwrap_or(false) {
            return Err(error(S3ErrorCode::NotImplemented, "object lock is not offered here"));
        }
        if bucket::exists(&self.tree, &bucket).await? {
            return Err(error(
                S3ErrorCode::BucketAlreadyOwnedByYou,
                format!("there is a bucket {bucket}, and it is yours"),
            ));
        }
        self.put_entry(bucket_path(&bucket), bucket::entry(self.now()), Expect::Any).await?;
        Ok(S3Response::new(CreateBucketOutput { location: Some(format!("/{bucket}")) }))
    }

    pub(super) async fn head_bucket(&self, req: S3Request<HeadBucketInput>) -> S3Result<S3Response<HeadBucketOutput>> {
        bucket::must_exist(&self.tree, &req.input.bucket).await?;
        Ok(S3Response::new(HeadBucketOutput::default()))
    }

    pub(super) async fn remove_bucket(
        &self,
        req: S3Request<DeleteBucketInput>,
    ) -> S3Result<S3Response<DeleteBucketOutput>> {
        let bucket = req.input.bucket;
        bucket::must_exist(&self.tree, &bucket).await?;
        let root = bucket_path(&bucket);
        let query = Query { prefix: root.clone(), after: root.clone(), limit: PAGE_MAX, ..Query::default() };
        let listing = self.tree.list(&query).await.map_err(of_node)?;
        let is_link = |item: &Item| matches!(item, Item::Entry(_, entry) if Object::of(entry.clone()).is_none());
        if !listing.items.is_empty() && listing.items.iter().all(is_link) {
            let text =
                format!("bucket {bucket} has links, which S3 does not show; `trullo rm -r /{bucket}` removes it");
            return Err(error(S3ErrorCode::BucketNotEmpty, text));
        }
        if !listing.items.is_empty() {
            return Err(error(S3ErrorCode::BucketNotEmpty, format!("bucket {bucket} is not empty")));
        }
        // Of what comes at the same time nothing goes with it: its folder is then there without an entry of its own.
        let mut ops = vec![Op::Remove { path: root, expect: Expect::Any }];
        ops.extend(uploads::remove_all_of(&self.tree, &bucket).await?);
        self.apply(ops).await?;
        Ok(S3Response::with_status(DeleteBucketOutput::default(), axum::http::StatusCode::NO_CONTENT))
    }
}

fn encoded(mut objects: Vec<s3s::dto::Object>, encoding: Encoding) -> Vec<s3s::dto::Object> {
    for object in &mut objects {
        object.key = encoding.given(object.key.take());
    }
    objects
}

fn common(prefixes: Vec<String>, encoding: Encoding) -> Vec<CommonPrefix> {
    prefixes.iter().map(|prefix| CommonPrefix { prefix: Some(encoding.text(prefix)) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_told_so_that_every_client_reads_them_alike() {
        let url = Encoding::of(Some(&EncodingType::from_static(EncodingType::URL))).expect("it is known");
        assert_eq!(url.text("a b+c/&%é\u{1}"), "a%20b%2Bc/%26%25%C3%A9%01");
        let plain = Encoding::of(None).expect("none is fine");
        assert_eq!(plain.text("a b\u{1}"), "a b\u{fffd}");
        assert!(Encoding::of(Some(&EncodingType::from_static("base64"))).is_err());
    }

    #[test]
    fn limits_are_within_bounds() {
        assert_eq!(
            [None, Some(0), Some(7), Some(5_000)].map(|asked| limit(asked).ok()),
            [Some(1_000), Some(0), Some(7), Some(1_000)]
        );
        assert!(limit(Some(-1)).is_err());
    }
}

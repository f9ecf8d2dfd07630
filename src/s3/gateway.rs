//! Gateway: which request of the protocol is answered where. What is not here answers 501 NotImplemented.

use s3s::dto::*;
use s3s::{S3, S3Request, S3Response, S3Result};

use super::bucket;
use super::turns::Turns;
use crate::node::tree::Tree;
use crate::node::{Handle, NodeError};
use crate::types::Millis;

/// Acts for the node's account.
#[derive(Clone)]
pub struct Gateway {
    /// Its folders.
    pub tree: Tree,
    /// Its id.
    pub account: String,
    /// Places of those that read and write at the same time.
    pub turns: Turns,
    /// Older contents of an object that are kept.
    pub keep: usize,
}

impl Gateway {
    /// A gateway to the folders of the node's account. Errors: `NotAllowed` without one.
    pub fn new(handle: &Handle) -> Result<Self, NodeError> {
        let account = handle.keys()?.account_id().to_string();
        let turns = Turns::new(handle.config().s3.transfers_max);
        Ok(Self { tree: Tree::of(handle)?, account, turns, keep: handle.config().files.keep_versions })
    }

    /// The node's time.
    pub fn now(&self) -> Millis {
        self.tree.handle().clock().now()
    }
}

/// Requests that are passed on to a method.
macro_rules! passed_on {
    ($($name:ident, $input:ty, $output:ty => $to:ident;)*) => {
        #[async_trait::async_trait]
        impl S3 for Gateway {
            $(async fn $name(&self, req: S3Request<$input>) -> S3Result<S3Response<$output>> {
                self.$to(req).await
            })*
        }
    };
}

passed_on! {
    list_buckets, ListBucketsInput, ListBucketsOutput => buckets;
    create_bucket, CreateBucketInput, CreateBucketOutput => make_bucket;
    head_bucket, HeadBucketInput, HeadBucketOutput => head_bucket;
    delete_bucket, DeleteBucketInput, DeleteBucketOutput => remove_bucket;
    get_bucket_location, GetBucketLocationInput, GetBucketLocationOutput => location;
    get_bucket_versioning, GetBucketVersioningInput, GetBucketVersioningOutput => versioning;
    list_objects, ListObjectsInput, ListObjectsOutput => list;
    list_objects_v2, ListObjectsV2Input, ListObjectsV2Output => list_v2;
    put_object, PutObjectInput, PutObjectOutput => put;
    get_object, GetObjectInput, GetObjectOutput => get;
    head_object, HeadObjectInput, HeadObjectOutput => head;
    copy_object, CopyObjectInput, CopyObjectOutput => copy;
    delete_object, DeleteObjectInput, DeleteObjectOutput => delete;
    delete_objects, DeleteObjectsInput, DeleteObjectsOutput => delete_all;
    get_object_attributes, GetObjectAttributesInput, GetObjectAttributesOutput => attributes;
    get_object_tagging, GetObjectTaggingInput, GetObjectTaggingOutput => tags;
    put_object_tagging, PutObjectTaggingInput, PutObjectTaggingOutput => set_tags;
    delete_object_tagging, DeleteObjectTaggingInput, DeleteObjectTaggingOutput => remove_tags;
    create_multipart_upload, CreateMultipartUploadInput, CreateMultipartUploadOutput => begin_upload;
    upload_part, UploadPartInput, UploadPartOutput => take_part;
    upload_part_copy, UploadPartCopyInput, UploadPartCopyOutput => copy_part;
    complete_multipart_upload, CompleteMultipartUploadInput, CompleteMultipartUploadOutput => complete;
    abort_multipart_upload, AbortMultipartUploadInput, AbortMultipartUploadOutput => abort;
    list_parts, ListPartsInput, ListPartsOutput => list_parts;
    list_multipart_uploads, ListMultipartUploadsInput, ListMultipartUploadsOutput => list_uploads;
}

impl Gateway {
    /// There are no regions; the empty one is what clients take for the first.
    async fn location(&self, req: S3Request<GetBucketLocationInput>) -> S3Result<S3Response<GetBucketLocationOutput>> {
        bucket::must_exist(&self.tree, &req.input.bucket).await?;
        Ok(S3Response::new(GetBucketLocationOutput::default()))
    }

    /// Objects have no versions that the protocol could name.
    async fn versioning(
        &self,
        req: S3Request<GetBucketVersioningInput>,
    ) -> S3Result<S3Response<GetBucketVersioningOutput>> {
        bucket::must_exist(&self.tree, &req.input.bucket).await?;
        Ok(S3Response::new(GetBucketVersioningOutput::default()))
    }
}

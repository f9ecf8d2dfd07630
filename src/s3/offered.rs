//! Offered: what of the protocol is refused, and in which words. What is not offered answers 501, so that a client knows that
//! it is not its mistake, and nothing that a client relies on is passed over in silence.

use s3s::dto::{CopyObjectInput, CreateMultipartUploadInput, ObjectCannedACL, PutObjectInput, StorageClass};
use s3s::{S3ErrorCode, S3Result};

use super::errors::error;

/// Errors: `NotImplemented` if any of these is asked for.
fn none_of(asked: &[(&str, bool)]) -> S3Result<()> {
    match asked.iter().find(|(_, asked)| *asked) {
        Some((what, _)) => Err(error(S3ErrorCode::NotImplemented, format!("{what} is not offered here"))),
        None => Ok(()),
    }
}

/// Everything belongs to its account alone.
fn shared(acl: Option<&ObjectCannedACL>) -> bool {
    let own =
        [ObjectCannedACL::PRIVATE, ObjectCannedACL::BUCKET_OWNER_FULL_CONTROL, ObjectCannedACL::BUCKET_OWNER_READ];
    acl.is_some_and(|acl| !own.contains(&acl.as_str()))
}

fn other_class(class: Option<&StorageClass>) -> bool {
    class.is_some_and(|class| class.as_str() != StorageClass::STANDARD)
}

/// `aws-chunked` says how a body travels, not what it is.
pub fn encoding(header: Option<String>) -> Option<String> {
    let rest: Vec<_> = header.as_deref()?.split(',').map(str::trim).filter(|word| *word != "aws-chunked").collect();
    (!rest.is_empty()).then(|| rest.join(","))
}

/// Errors: `NotImplemented` for versions of objects.
pub fn version(id: Option<&str>) -> S3Result<()> {
    none_of(&[("versionId", id.is_some_and(|id| id != "null"))])
}

/// What each request that makes an object may ask for and is refused.
macro_rules! asked {
    ($input:expr) => {
        [
            ("an ACL other than private", shared($input.acl.as_ref())),
            ("x-amz-grant", $input.grant_full_control.is_some() || $input.grant_read.is_some()),
            ("object lock", $input.object_lock_mode.is_some() || $input.object_lock_legal_hold_status.is_some()),
            ("encryption with a key of the client's", $input.sse_customer_key.is_some()),
            ("server-side encryption (all is encrypted)", $input.server_side_encryption.is_some()),
            ("a storage class other than STANDARD", other_class($input.storage_class.as_ref())),
            ("website redirection", $input.website_redirect_location.is_some()),
        ]
    };
}

/// Errors: `NotImplemented`.
pub fn put(input: &PutObjectInput) -> S3Result<()> {
    none_of(&asked!(input))?;
    none_of(&[("appending", input.write_offset_bytes.is_some())])
}

/// Errors: `NotImplemented`.
pub fn copy(input: &CopyObjectInput) -> S3Result<()> {
    none_of(&asked!(input))?;
    none_of(&[("encryption with a key of the client's", input.copy_source_sse_customer_key.is_some())])
}

/// Errors: `NotImplemented`.
pub fn upload(input: &CreateMultipartUploadInput) -> S3Result<()> {
    none_of(&asked!(input))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_a_body_travelled_is_not_kept_as_what_it_is() {
        let encoding = |text: &str| encoding(Some(text.to_owned()));
        assert_eq!(encoding("aws-chunked"), None);
        assert_eq!(encoding("aws-chunked, gzip").as_deref(), Some("gzip"));
        assert_eq!(encoding("gzip").as_deref(), Some("gzip"));
    }

    #[test]
    fn what_would_be_passed_over_in_silence_is_refused() {
        assert!(!shared(None) && !shared(Some(&ObjectCannedACL::from_static(ObjectCannedACL::PRIVATE))));
        assert!(shared(Some(&ObjectCannedACL::from_static(ObjectCannedACL::PUBLIC_READ))));
        assert!(other_class(Some(&StorageClass::from_static(StorageClass::GLACIER))));
        assert!(version(Some("null")).is_ok() && version(Some("3")).is_err());
    }
}

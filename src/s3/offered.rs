//! Offered: what of the protocol is refused, and in which words. What is not offered answers 501, so that a client knows that
//! it is not its mistake, and nothing that a client relies on is passed over in silence.

use axum::http::HeaderMap;
use s3s::dto::{ObjectCannedACL, StorageClass};
use s3s::{S3ErrorCode, S3Result};

use super::errors::error;

/// Headers that nothing is offered for, by how their names begin.
const NOT_OFFERED: [(&str, &str); 9] = [
    ("x-amz-grant-", "access for others (x-amz-grant)"),
    ("x-amz-server-side-encryption-customer", "encryption with a key of the client's"),
    ("x-amz-copy-source-server-side-encryption", "encryption with a key of the client's"),
    ("x-amz-server-side-encryption", "server-side encryption (all is encrypted)"),
    ("x-amz-object-lock", "object lock"),
    ("x-amz-website-redirect-location", "website redirection"),
    ("x-amz-write-offset-bytes", "appending"),
    ("x-amz-if-match-initiated-time", "aborting on a condition"),
    ("x-amz-mfa", "deletion by a second factor"),
];
/// Whom a request takes for the owner of a bucket.
const OWNERS: [&str; 2] = ["x-amz-expected-bucket-owner", "x-amz-source-expected-bucket-owner"];

fn not_offered(what: &str) -> S3Result<()> {
    Err(error(S3ErrorCode::NotImplemented, format!("{what} is not offered here")))
}

/// Everything belongs to its account alone.
fn is_own(acl: &str) -> bool {
    [ObjectCannedACL::PRIVATE, ObjectCannedACL::BUCKET_OWNER_FULL_CONTROL, ObjectCannedACL::BUCKET_OWNER_READ]
        .contains(&acl)
}

/// What the headers of a request ask for, whatever request it is. `account` is the owner of all buckets.
/// Errors: `NotImplemented`; `AccessDenied` if the client takes someone else for the owner.
pub fn headers(headers: &HeaderMap, account: &str) -> S3Result<()> {
    for name in headers.keys() {
        if let Some((_, what)) = NOT_OFFERED.iter().find(|(prefix, _)| name.as_str().starts_with(prefix)) {
            return not_offered(what);
        }
    }
    let all = |name: &str| headers.get_all(name).into_iter().map(|value| value.to_str().unwrap_or_default());
    if all("x-amz-acl").any(|acl| !is_own(acl)) {
        return not_offered("an ACL other than private");
    }
    if all("x-amz-storage-class").any(|class| class != StorageClass::STANDARD) {
        return not_offered("a storage class other than STANDARD");
    }
    for name in OWNERS {
        if all(name).any(|owner| owner != account) {
            let text = format!("the owner of the bucket is another account than {name} says");
            return Err(error(S3ErrorCode::AccessDenied, text));
        }
    }
    Ok(())
}

/// `aws-chunked` says how a body travels, not what it is.
pub fn encoding(header: Option<String>) -> Option<String> {
    let rest: Vec<_> = header.as_deref()?.split(',').map(str::trim).filter(|word| *word != "aws-chunked").collect();
    (!rest.is_empty()).then(|| rest.join(","))
}

/// Errors: `NotImplemented` for versions of objects.
pub fn version(id: Option<&str>) -> S3Result<()> {
    if id.is_some_and(|id| id != "null") { not_offered("versionId") } else { Ok(()) }
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
        let code = |name: &'static str, value: &str| {
            let map = HeaderMap::from_iter([(name.parse().expect("a name"), value.parse().expect("a value"))]);
            headers(&map, "me").err().map(|error| error.code().clone())
        };
        for (name, value) in [
            ("x-amz-acl", "private"),
            ("x-amz-storage-class", "STANDARD"),
            ("x-amz-expected-bucket-owner", "me"),
            ("x-amz-meta-grant", "x"),
        ] {
            assert_eq!(code(name, value), None, "{name}");
        }
        for (name, value) in [
            ("x-amz-acl", "public-read"),
            ("x-amz-storage-class", "GLACIER"),
            ("x-amz-grant-write-acp", "id=1"),
            ("x-amz-server-side-encryption-customer-algorithm", "AES256"),
            ("x-amz-server-side-encryption", "AES256"),
            ("x-amz-object-lock-mode", "GOVERNANCE"),
        ] {
            assert_eq!(code(name, value), Some(S3ErrorCode::NotImplemented), "{name}");
        }
        assert_eq!(code("x-amz-expected-bucket-owner", "you"), Some(S3ErrorCode::AccessDenied));
        assert_eq!(code("x-amz-source-expected-bucket-owner", "you"), Some(S3ErrorCode::AccessDenied));
        assert!(version(Some("null")).is_ok() && version(Some("3")).is_err());
    }
}

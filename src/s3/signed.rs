//! Signed: what the signature of a request has to cover. The S3 library checks that what is listed as signed is what came; here
//! it is seen to that nothing else came which changes what the request means.
//!
//! Links of version 2 are what boto3 makes unless told otherwise; they sign every `x-amz-` header by their own rule. Requests with
//! a header of that version sign no hash of their body and are refused.

use axum::body::Body;
use axum::extract::Query;
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use s3s::S3ErrorCode;

use super::errors::error;

/// Longest life of a link, seconds: a week.
const LINK_SECONDS_MAX: u64 = 604_800;
/// A header that a link leaves unsigned: it says nothing but the hash of the body, which is then checked.
const HASH_OF_THE_BODY: &str = "x-amz-content-sha256";

/// Why a signature is no good before it is computed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// These headers came and are not signed.
    Unsigned(Vec<String>),
    /// A link is valid for longer than a week, or says no number of seconds.
    Expires,
    /// A request is signed in more than one way.
    Twice,
    /// A header says that it is signed in a way that is not known.
    Unknown,
}

/// Looks at the head of a request; one without a signature passes. Errors: each of `Refusal`.
pub fn check(head: &Parts) -> Result<(), Refusal> {
    // The same reader of queries as the library's. What it cannot read is refused there.
    let query = Query::<Vec<(String, String)>>::try_from_uri(&head.uri).map(|Query(query)| query).unwrap_or_default();
    let of_query = |wanted: &str| query.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
    let authorization = head.headers.get(header::AUTHORIZATION);
    let (link, old_link) = (of_query("X-Amz-Signature").is_some(), of_query("Signature").is_some());
    if [link, old_link, authorization.is_some()].into_iter().filter(|way| *way).count() > 1 {
        return Err(Refusal::Twice);
    }
    let signed = if link {
        let seconds = of_query("X-Amz-Expires").and_then(|text| text.parse::<u64>().ok());
        if seconds.is_none_or(|seconds| seconds > LINK_SECONDS_MAX) {
            return Err(Refusal::Expires);
        }
        of_query("X-Amz-SignedHeaders").unwrap_or_default()
    } else {
        let Some(authorization) = authorization else { return Ok(()) };
        // The library takes any word for the algorithm, and nobody signs that word.
        let text = authorization.to_str().ok().and_then(|text| text.strip_prefix("AWS4-HMAC-SHA256 "));
        let list = text.ok_or(Refusal::Unknown)?.split_once("SignedHeaders=").map(|(_, list)| list);
        list.and_then(|list| list.split([',', ' ']).next()).unwrap_or_default()
    };
    let is_signed = |name: &str| signed.split(';').any(|signed| signed == name);
    let came = head.headers.keys().map(header::HeaderName::as_str);
    let came = came.filter(|name| name.starts_with("x-amz-") && !(link && *name == HASH_OF_THE_BODY));
    let unsigned: Vec<_> = std::iter::once("host").chain(came).filter(|name| !is_signed(name)).collect();
    match unsigned.is_empty() {
        true => Ok(()),
        false => Err(Refusal::Unsigned(unsigned.into_iter().map(str::to_owned).collect())),
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let answer = match self {
            Self::Unsigned(names) => {
                // Of what XML has a use for only `&` can be in the name of a header.
                let names = names.join(", ").replace('&', "&amp;");
                let body = format!(
                    concat!(
                        r#"<?xml version="1.0" encoding="UTF-8"?><Error><Code>AccessDenied</Code>"#,
                        "<Message>There were headers present in the request which were not signed</Message>",
                        "<HeadersNotSigned>{}</HeadersNotSigned></Error>"
                    ),
                    names
                );
                return (StatusCode::FORBIDDEN, [(header::CONTENT_TYPE, "application/xml")], body).into_response();
            }
            Self::Expires => {
                let text = "X-Amz-Expires must be a number of seconds, and at most a week: 604800";
                let mut answer = error(S3ErrorCode::Custom("AuthorizationQueryParametersError".into()), text);
                answer.set_status_code(StatusCode::BAD_REQUEST);
                answer
            }
            Self::Unknown => error(
                S3ErrorCode::InvalidRequest,
                "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256.",
            ),
            Self::Twice => error(
                S3ErrorCode::InvalidArgument,
                "Only one auth mechanism allowed: X-Amz-Signature, Signature or the Authorization header",
            ),
        };
        match answer.to_http_response() {
            Ok(response) => response.map(Body::new),
            Err(_) => StatusCode::FORBIDDEN.into_response(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(uri: &str, headers: &[(&str, &str)]) -> Option<Refusal> {
        let mut request = axum::http::Request::builder().uri(uri).header("host", "x");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        check(&request.body(()).expect("a request").into_parts().0).err()
    }

    fn unsigned(names: &[&str]) -> Option<Refusal> {
        Some(Refusal::Unsigned(names.iter().map(|name| (*name).to_owned()).collect()))
    }

    fn link(signed: &str, seconds: &str) -> String {
        format!("/b/k?X-Amz-Signature=ab&X-Amz-SignedHeaders={signed}&X-Amz-Expires={seconds}")
    }

    #[test]
    fn a_link_does_nothing_that_its_maker_did_not_sign() {
        let put = link("host", "60");
        assert_eq!(refused(&put, &[("range", "bytes=0-1"), ("content-type", "a/b")]), None);
        assert_eq!(refused(&put, &[("x-amz-copy-source", "/b/other")]), unsigned(&["x-amz-copy-source"]));
        assert_eq!(refused(&put, &[("X-Amz-Tagging", "a=1")]), unsigned(&["x-amz-tagging"]));
        assert_eq!(refused(&link("host%3Bx-amz-tagging", "60"), &[("x-amz-tagging", "a=1")]), None);
        assert_eq!(refused(&link("x-amz-date", "60"), &[]), unsigned(&["host"]));
        assert_eq!(refused("/b/k?X-Amz-Signature=ab&X-Amz-Expires=1", &[]), unsigned(&["host"]));
        // The body is then checked against it.
        assert_eq!(refused(&put, &[("x-amz-content-sha256", "UNSIGNED-PAYLOAD")]), None);
    }

    #[test]
    fn a_signed_request_has_no_header_of_the_protocol_that_is_not_signed() {
        let header = |signed: &str| {
            format!("AWS4-HMAC-SHA256 Credential=I/D/R/s3/aws4_request,SignedHeaders={signed},Signature=0")
        };
        let both = [("x-amz-date", "1"), ("x-amz-content-sha256", "2")];
        let with = |signed: &str| {
            let header = header(signed);
            refused("/b/k", &[both[0], both[1], ("authorization", &header)])
        };
        assert_eq!(with("host;x-amz-content-sha256;x-amz-date"), None);
        assert_eq!(with("host;x-amz-date"), unsigned(&["x-amz-content-sha256"]));
        assert_eq!(with("x-amz-content-sha256;x-amz-date"), unsigned(&["host"]));
        let names = [
            ("authorization", "SignedHeaders=host;x-amz-tagging,AWS4-HMAC-SHA256 Credential=I"),
            ("x-amz-tagging", "a=1"),
        ];
        assert_eq!(refused("/b/k", &names), Some(Refusal::Unknown));
        assert_eq!(refused("/b/k", &[("authorization", "AWS id:signature")]), Some(Refusal::Unknown));
        let spaced = header("host").replace(",", ", ");
        assert_eq!(refused("/b/k", &[("authorization", &spaced)]), None);
    }

    #[test]
    fn links_last_a_week_at_most_and_requests_are_signed_in_one_way() {
        assert_eq!(refused(&link("host", "604800"), &[]), None);
        for seconds in ["604801", "", "-1", "99999999999999999999"] {
            assert_eq!(refused(&link("host", seconds), &[]), Some(Refusal::Expires), "{seconds}");
        }
        assert_eq!(refused("/b/k?Signature=a&X-Amz-Signature=b", &[]), Some(Refusal::Twice));
        assert_eq!(refused(&link("host", "60"), &[("authorization", "AWS4-HMAC-SHA256 x")]), Some(Refusal::Twice));
        assert_eq!(refused("/b/k?AWSAccessKeyId=a&Signature=b&Expires=9", &[("x-amz-tagging", "a=1")]), None);
        assert_eq!(refused("/b/k", &[("x-amz-copy-source", "/b/o")]), None);
    }
}

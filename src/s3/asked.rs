//! Asked: ranges and conditions of reads, by the rules of HTTP.
//!
//! The S3 library answers 400 to a range, date or list of tags that it cannot read, where RFC 9110 says that such a header is
//! passed over, and it looks at them before a request comes to the gateway. So reads with any of these headers take a way
//! around: once the signature is checked, the headers are put aside for the gateway, and the request goes through the library again
//! without them and without its signature.

use axum::extract::Query;
use axum::http::{Extensions, HeaderMap, HeaderName, Method, Uri, header};
use s3s::route::S3Route;
use s3s::service::S3Service;
use s3s::{Body, S3ErrorCode, S3Request, S3Response, S3Result};

use super::errors::error;
use super::server::Rights;

/// Headers of which the gateway decides itself.
const OWN: [HeaderName; 6] = [
    header::RANGE,
    header::IF_RANGE,
    header::IF_MATCH,
    header::IF_NONE_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_UNMODIFIED_SINCE,
];
/// Parameters by which a link is signed.
const SIGNATURES: [&str; 2] = ["X-Amz-Signature", "Signature"];

/// Those headers of a request.
#[derive(Clone, Debug, Default)]
pub struct Asked(pub HeaderMap);

impl Asked {
    /// Those of a request that took the way around; none of one that did not.
    pub fn of<T>(request: &S3Request<T>) -> Self {
        request.extensions.get::<Self>().cloned().unwrap_or_default()
    }
}

/// The way around.
pub struct Around {
    /// Whether the key may do so.
    pub rights: Rights,
    /// The same gateway, without a look at signatures.
    pub inner: S3Service,
}

#[async_trait::async_trait]
impl S3Route for Around {
    fn is_match(&self, method: &Method, _uri: &Uri, headers: &HeaderMap, _extensions: &mut Extensions) -> bool {
        (method == Method::GET || method == Method::HEAD) && OWN.iter().any(|name| headers.contains_key(name))
    }

    async fn check_access(&self, request: &mut S3Request<Body>) -> S3Result<()> {
        self.rights.check(request.credentials.as_ref(), "Get", &request.headers, &request.extensions)
    }

    async fn call(&self, request: S3Request<Body>) -> S3Result<S3Response<Body>> {
        let S3Request { method, uri, mut headers, mut extensions, .. } = request;
        let mut own = HeaderMap::new();
        for name in OWN {
            own.extend(headers.get_all(&name).iter().map(|value| (name.clone(), value.clone())));
            headers.remove(name);
        }
        headers.remove(header::AUTHORIZATION);
        extensions.insert(Asked(own));
        let mut inner = axum::http::Request::new(Body::empty());
        *inner.method_mut() = method;
        *inner.uri_mut() = unsigned(&uri).ok_or_else(|| error(S3ErrorCode::InvalidURI, "the query cannot be read"))?;
        *inner.headers_mut() = headers;
        *inner.extensions_mut() = extensions;
        let failed = |_| error(S3ErrorCode::InternalError, "the answer could not be written");
        let (head, body) = self.inner.call(inner).await.map_err(failed)?.into_parts();
        let mut response = S3Response::with_headers(body, head.headers);
        response.status = Some(head.status);
        Ok(response)
    }
}

/// An address without the parameters of a signature.
fn unsigned(uri: &Uri) -> Option<Uri> {
    let Some(query) = uri.query() else { return Some(uri.clone()) };
    let is_signature = |pair: &str| {
        let pair = format!("/?{pair}").parse::<Uri>().ok();
        let pairs = pair.and_then(|uri| Query::<Vec<(String, String)>>::try_from_uri(&uri).ok());
        pairs.is_some_and(|Query(pairs)| pairs.iter().any(|(name, _)| SIGNATURES.contains(&name.as_str())))
    };
    let kept: Vec<_> = query.split('&').filter(|pair| !is_signature(pair)).collect();
    format!("{}?{}", uri.path(), kept.join("&")).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_was_checked_is_passed_on_without_its_signature_and_with_all_else() {
        let bare = |uri: &str| unsigned(&uri.parse().expect("a uri")).map(|uri| uri.to_string());
        assert_eq!(
            bare("/b/k%20?partNumber=1&X%2DAmz-Signature=a&x=%26").as_deref(),
            Some("/b/k%20?partNumber=1&x=%26")
        );
        assert_eq!(
            bare("/b/k?Signature=a&Expires=9&AWSAccessKeyId=i").as_deref(),
            Some("/b/k?Expires=9&AWSAccessKeyId=i")
        );
        assert_eq!(bare("/b/k").as_deref(), Some("/b/k"));
    }
}

//! The server: who may ask, what is refused before the protocol is looked at, and a clean end.
//!
//! The S3 library checks signatures and nothing else, so the bounds on connections, on bodies and on patience are set here.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Extensions, HeaderMap, Method, StatusCode, header};
use axum::middleware::from_fn;
use axum::response::{IntoResponse, Response};
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{Credentials, S3Auth, SecretKey};
use s3s::config::{S3Config, StaticConfigProvider};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{S3Error, S3ErrorCode, S3Result};
use tokio::net::TcpListener;

use super::asked::Around;
use super::bucket::Names;
use super::errors::error;
use super::gateway::Gateway;
use super::host::Domain;
use super::objects::UPLOAD_BYTES_MAX;
use super::{late, offered, signed, uploads};
use crate::api::connections::{self, Bounds, Seat};
use crate::api::linger;
use crate::node::{Handle, NodeError};
use crate::types::Millis;

/// Bodies of requests that are XML: the longest lists the parts of an upload.
const XML_BYTES_MAX: usize = 8 << 20;
/// What signatures of pieces add to a body, at most one part in so many.
const CHUNKED_SHARE: u64 = 16;
/// How long a client may send nothing of a body, or take nothing of an answer.
const STALLED: Duration = Duration::from_secs(60);
/// How often uploads that nobody completes are looked for.
const EXPIRE_EVERY: Duration = Duration::from_secs(3_600);
/// And when that did not succeed.
const EXPIRE_AGAIN: Duration = Duration::from_secs(20);

/// Why the gateway does not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address cannot be had.
    #[error("the S3 gateway cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The node has no account.
    #[error(transparent)]
    Node(#[from] NodeError),
}

/// A running gateway.
pub struct S3Server {
    /// Where it listens.
    pub address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

impl S3Server {
    /// Waits for its end, which follows the node's stop.
    pub async fn finish(self) {
        // A connection that stays open must not keep the process.
        let _ = tokio::time::timeout(Duration::from_secs(2), self.task).await;
    }
}

/// Listens and answers until the node stops. Errors: each of `ServeError`.
pub async fn serve(handle: &Handle, address: SocketAddr) -> Result<S3Server, ServeError> {
    let gateway = Gateway::new(handle)?;
    let service = service(handle, &gateway);
    let at = |source| ServeError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(at)?;
    let address = listener.local_addr().map_err(at)?;
    let router = Router::new().fallback(answer).layer(from_fn(linger::linger)).with_state(service);
    let stop = handle.stop_token().clone();
    let bounds = Bounds { body: STALLED, answer: STALLED, ..Bounds::STANDARD };
    let task = tokio::spawn(connections::run(listener, router, bounds, stop));
    handle.spawn(expire(gateway, handle.config().s3.upload_expiry));
    Ok(S3Server { address, task })
}

fn service(handle: &Handle, gateway: &Gateway) -> S3Service {
    let rights = || Rights { handle: handle.clone(), account: gateway.account.clone() };
    let mut outer = builder(handle, gateway);
    outer.set_auth(Keys { handle: handle.clone() });
    outer.set_access(rights());
    outer.set_route(Around { rights: rights(), inner: builder(handle, gateway).build() });
    outer.build()
}

fn builder(handle: &Handle, gateway: &Gateway) -> S3ServiceBuilder {
    let mut builder = S3ServiceBuilder::new(gateway.clone());
    let mut config = S3Config::default();
    config.xml_max_body_size = XML_BYTES_MAX;
    config.post_object_max_file_size = 0;
    builder.set_config(Arc::new(StaticConfigProvider::new(Arc::new(config))));
    builder.set_validation(Names);
    if let Some(domain) = &handle.config().s3.domain {
        builder.set_host(Domain::new(domain));
    }
    builder
}

/// Ends uploads that nobody completes, now and then.
async fn expire(gateway: Gateway, after: Millis) {
    let stop = gateway.tree.handle().stop_token().clone();
    // One that is too young at this look is old enough at the next, also where the setting is short.
    let every = EXPIRE_EVERY.min(Duration::from_millis(after.get())).max(EXPIRE_AGAIN);
    loop {
        let older_than = gateway.now().saturating_sub(after);
        let pause = match stop.run_until_cancelled(uploads::expire(&gateway, older_than)).await {
            None => return,
            Some(Ok(0)) => every,
            Some(Ok(ended)) => {
                tracing::info!(ended, "uploads that nobody completed are given up");
                every
            }
            // A node that has just started may not reach the others yet.
            Some(Err(error)) => {
                tracing::debug!(%error, "uploads could not be looked through; again soon");
                EXPIRE_AGAIN
            }
        };
        if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
            return;
        }
    }
}

async fn answer(State(service): State<S3Service>, request: Request) -> Response {
    if let Err(refused) = gate(&request) {
        return refusal(refused);
    }
    if !has_region(&request) {
        return other_region();
    }
    let (head, body) = request.into_parts();
    if let Err(refused) = signed::check(&head) {
        return refused.into_response();
    }
    let (may_be_late, is_head) = (late::may_be(&head), head.method == Method::HEAD);
    let work = serve_one(service, Request::from_parts(head, body));
    let mut response = if may_be_late { late::answer(Box::pin(work)).await } else { work.await };
    // The library knows the status of a part for GET alone.
    if is_head && response.headers().contains_key(header::CONTENT_RANGE) && response.status() == StatusCode::OK {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    response
}

async fn serve_one(service: S3Service, request: Request) -> Response {
    // The layers above do not pass on that there is no body, and the library asks for the length of any.
    let has_body =
        [header::CONTENT_LENGTH, header::TRANSFER_ENCODING].iter().any(|name| request.headers().contains_key(name));
    let request = request.map(|body| if has_body { s3s::Body::http_body_unsync(body) } else { s3s::Body::empty() });
    match service.call(request).await {
        // An answer without a body, which the library writes as an error with one (RFC 9110, section 15.4.5).
        Ok(response) if response.status() == StatusCode::NOT_MODIFIED => response.map(|_| Body::empty()),
        Ok(response) => response.map(Body::new),
        Err(_) => refusal(error(S3ErrorCode::InternalError, "the answer could not be written")),
    }
}

fn refusal(refused: S3Error) -> Response {
    match refused.to_http_response() {
        Ok(response) => response.map(Body::new),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// What is refused by its head alone. Errors: why.
fn gate(request: &Request) -> S3Result<()> {
    let header = |name: header::HeaderName| request.headers().get(name).and_then(|value| value.to_str().ok());
    let form = header(header::CONTENT_TYPE).is_some_and(|kind| kind.to_ascii_lowercase().starts_with("multipart/"));
    if form && request.method() == Method::POST {
        // The library would hold the whole of it in memory, and take it without a signature.
        return Err(error(S3ErrorCode::NotImplemented, "uploads by forms are not offered here; use PUT"));
    }
    let len = header(header::CONTENT_LENGTH).and_then(|len| len.parse::<u64>().ok());
    if len.is_some_and(|len| len > UPLOAD_BYTES_MAX + UPLOAD_BYTES_MAX / CHUNKED_SHARE) {
        return Err(error(S3ErrorCode::EntityTooLarge, "more than 5 GiB at once; upload it in parts"));
    }
    Ok(())
}

/// Whether the region of a signature is one that the library takes, or there is none.
fn has_region(request: &Request) -> bool {
    let header = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    // Credential=ID/DATE/REGION/SERVICE/aws4_request
    let scope = header.and_then(|header| header.split_once("Credential=")).map(|(_, scope)| scope);
    let region = scope.and_then(|scope| scope.split('/').nth(2));
    region.is_none_or(|region| s3s::region::Region::new(region.into()).is_ok())
}

/// Any region is right; who signed for one that cannot be is told one that can, and s3cmd, whose own is `US`, tries again with it.
fn other_region() -> Response {
    let body = concat!(
        r#"<?xml version="1.0" encoding="UTF-8"?><Error><Code>AuthorizationHeaderMalformed</Code>"#,
        "<Message>the region of the signature is none; us-east-1 is one</Message><Region>us-east-1</Region></Error>"
    );
    (StatusCode::BAD_REQUEST, [(header::CONTENT_TYPE, "application/xml")], body).into_response()
}

/// Secrets by the ids of access keys.
struct Keys {
    handle: Handle,
}

#[async_trait::async_trait]
impl S3Auth for Keys {
    async fn get_secret_key(&self, id: &str) -> S3Result<SecretKey> {
        let keys = self.handle.access_keys().map_err(super::errors::of_node)?;
        let found = keys.find(id, self.handle.clock().now());
        let none =
            || error(S3ErrorCode::InvalidAccessKeyId, "there is no such access key, or it is not valid any more");
        found.map(|key| SecretKey::from(key.secret())).ok_or_else(none)
    }
}

/// What an access key allows.
pub struct Rights {
    handle: Handle,
    account: String,
}

impl Rights {
    /// Whether an operation may be carried out, and whether what its headers ask for is offered. Errors: `AccessDenied`,
    /// `NotImplemented`.
    pub fn check(
        &self,
        credentials: Option<&Credentials>,
        operation: &str,
        headers: &HeaderMap,
        extensions: &Extensions,
    ) -> S3Result<()> {
        let denied = |text: &'static str| error(S3ErrorCode::AccessDenied, text);
        let Some(credentials) = credentials else { return Err(denied("the request is not signed")) };
        let keys = self.handle.access_keys().map_err(super::errors::of_node)?;
        let key = keys.find(&credentials.access_key, self.handle.clock().now());
        let key = key.ok_or_else(|| denied("the access key is not valid any more"))?;
        if key.read_only && !reads(operation) {
            return Err(denied("the access key may only read"));
        }
        if let Some(seat) = extensions.get::<Seat>() {
            seat.prove();
        }
        offered::headers(headers, &self.account)
    }
}

#[async_trait::async_trait]
impl S3Access for Rights {
    async fn check(&self, context: &mut S3AccessContext<'_>) -> S3Result<()> {
        let extensions = context.extensions_mut().clone();
        Self::check(self, context.credentials(), context.s3_op().name(), context.headers(), &extensions)
    }
}

/// Whether a request of this name changes nothing.
fn reads(operation: &str) -> bool {
    ["Get", "Head", "List"].iter().any(|reads| operation.starts_with(reads))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: Method, uri: &str, headers: &[(header::HeaderName, &str)]) -> Request {
        let mut request = axum::http::Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        request.body(Body::empty()).expect("a request")
    }

    fn refused(request: &Request) -> Option<u16> {
        gate(request).err().and_then(|error| error.status_code()).map(|status| status.as_u16())
    }

    #[test]
    fn forms_and_endless_bodies_are_refused_by_their_head() {
        let form = [(header::CONTENT_TYPE, "multipart/form-data; boundary=x")];
        assert_eq!(refused(&request(Method::POST, "/b", &form)), Some(501));
        assert_eq!(refused(&request(Method::PUT, "/b/k", &form)), None);
        let long = [(header::CONTENT_LENGTH, "99999999999")];
        assert_eq!(refused(&request(Method::PUT, "/b/k", &long)), Some(400));
    }

    #[test]
    fn who_signs_for_no_region_is_told_one() {
        let signed = |region: &str| {
            let header =
                format!("AWS4-HMAC-SHA256 Credential=ID/20260101/{region}/s3/aws4_request, SignedHeaders=host");
            has_region(&request(Method::GET, "/", &[(header::AUTHORIZATION, &header)]))
        };
        assert!(signed("us-east-1") && signed("eu-central-2"));
        assert!(!signed("US"));
        assert!(has_region(&request(Method::GET, "/", &[])));
    }

    #[test]
    fn a_key_that_may_only_read_changes_nothing() {
        assert!(["GetObject", "HeadBucket", "ListObjectsV2", "ListParts"].into_iter().all(reads));
        let writes = ["PutObject", "DeleteObject", "CopyObject", "CreateBucket", "UploadPart", "AbortMultipartUpload"];
        assert!(!writes.into_iter().any(reads));
    }
}

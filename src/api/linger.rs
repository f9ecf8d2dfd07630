//! Linger: whoever is refused early gets to read why.
//!
//! A connection that is closed while its client still sends is reset, and the answer may be lost with it. So what is left of
//! a request's body when nobody wants it any more is read for a while, within bounds (RFC 9112, section 9.6).

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::{HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;
use futures::StreamExt;

/// Bytes that are read of a body that nobody wants.
const BYTES_MAX: usize = 64 << 20;
/// How long that may take.
const LONGEST: Duration = Duration::from_secs(5);

/// A body that is read on when it is dropped.
struct Lingering {
    body: Option<Body>,
    /// Whether its client sends it without being told to.
    comes: Arc<AtomicBool>,
}

/// Lets the body of each request linger. A client that waits to be told to send it (`Expect: 100-continue`) and was not will
/// not send it: its connection ends with the answer, so that nobody takes the next request for the body.
pub async fn linger(request: Request, next: Next) -> Response {
    let comes = Arc::new(AtomicBool::new(!request.headers().contains_key(header::EXPECT)));
    let has_body = !request.body().is_end_stream();
    let request = request.map(|body| match has_body {
        false => body,
        true => Body::new(Lingering { body: Some(body), comes: comes.clone() }),
    });
    let mut response = next.run(request).await;
    if has_body && !comes.load(Ordering::Relaxed) {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

impl HttpBody for Lingering {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, axum::Error>>> {
        self.comes.store(true, Ordering::Relaxed);
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = std::task::ready!(Pin::new(body).poll_frame(cx));
        if !matches!(frame, Some(Ok(_))) {
            self.body = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.as_ref().map_or_else(|| hyper::body::SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        let Some(body) = self.body.take().filter(|body| !body.is_end_stream()) else { return };
        if !self.comes.load(Ordering::Relaxed) {
            return;
        }
        // Outside of a runtime nobody sends any more.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(tokio::time::timeout(LONGEST, read_on(body)));
        }
    }
}

async fn read_on(body: Body) {
    let mut pieces = body.into_data_stream();
    let mut left = BYTES_MAX;
    while let Some(Ok(piece)) = pieces.next().await {
        match left.checked_sub(piece.len()) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

//! Late: answers that take long. Clients wait for the first byte only so long, so until the work is done they are sent blanks,
//! as the protocol has it for copies and for completing an upload.
//!
//! The status is told with the first blank and is 200 then; an error that comes later is in the body, where clients of these
//! requests look for it.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::{once, unfold};

/// How long an answer may take before blanks are sent, and how long between them.
const PAUSE: Duration = Duration::from_secs(5);
/// Bytes of such an answer.
const ANSWER_BYTES_MAX: usize = 1 << 20;
const DECLARATION: &str = r#"<?xml version="1.0" encoding="UTF-8"?>"#;

/// Whether this is a request of those kinds: a copy, or the end of an upload.
pub fn may_be(head: &Parts) -> bool {
    let parameter = |pair: &str| pair.split('=').next() == Some("uploadId");
    match head.method {
        Method::PUT => head.headers.contains_key("x-amz-copy-source"),
        Method::POST => head.uri.query().is_some_and(|query| query.split('&').any(parameter)),
        _ => false,
    }
}

/// The answer of some work: as it is if it comes soon, else behind blanks.
pub async fn answer(work: BoxFuture<'static, Response>) -> Response {
    behind_blanks(work, PAUSE).await
}

async fn behind_blanks(mut work: BoxFuture<'static, Response>, pause: Duration) -> Response {
    if let Ok(response) = tokio::time::timeout(pause, &mut work).await {
        return response;
    }
    let rest = unfold(Some(work), move |work| async move {
        let mut work = work?;
        Some(match tokio::time::timeout(pause, &mut work).await {
            Ok(response) => (without_declaration(response).await, None),
            Err(_) => (Ok(Bytes::from_static(b" ")), Some(work)),
        })
    });
    let body = once(async { Ok::<_, axum::Error>(Bytes::from_static(DECLARATION.as_bytes())) }).chain(rest);
    (StatusCode::OK, [(header::CONTENT_TYPE, "application/xml")], Body::from_stream(body)).into_response()
}

async fn without_declaration(response: Response) -> Result<Bytes, axum::Error> {
    let bytes = axum::body::to_bytes(response.into_body(), ANSWER_BYTES_MAX).await?;
    if !bytes.starts_with(b"<?xml") {
        return Ok(bytes);
    }
    let end = bytes.windows(2).position(|pair| pair == b"?>").map_or(0, |at| at + 2);
    Ok(bytes.slice(end..))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_quick_answer_has_its_status_and_a_late_one_is_one_document_behind_blanks() {
        let work = |until: tokio::sync::oneshot::Receiver<()>| -> BoxFuture<'static, Response> {
            Box::pin(async move {
                let _ = until.await;
                (StatusCode::CONFLICT, format!("{DECLARATION}\n<Error/>")).into_response()
            })
        };
        let (done, until) = tokio::sync::oneshot::channel();
        drop(done);
        let quick = behind_blanks(work(until), Duration::from_secs(30)).await;
        assert_eq!(quick.status(), StatusCode::CONFLICT);
        let (done, until) = tokio::sync::oneshot::channel();
        let late = behind_blanks(work(until), Duration::from_millis(1)).await;
        assert_eq!(late.status(), StatusCode::OK);
        let mut pieces = late.into_body().into_data_stream();
        let mut text = String::new();
        for _ in 0..3 {
            let piece = pieces.next().await.expect("more comes").expect("a piece");
            text.push_str(std::str::from_utf8(&piece).expect("text"));
        }
        assert_eq!(text, format!("{DECLARATION}  "));
        drop(done);
        while let Some(piece) = pieces.next().await {
            text.push_str(std::str::from_utf8(&piece.expect("a piece")).expect("text"));
        }
        assert_eq!(text.trim_start_matches(DECLARATION).trim(), "<Error/>");
    }

    #[test]
    fn copies_and_the_ends_of_uploads_may_be_late() {
        let head = |method: &str, uri: &str, copy: bool| {
            let request = axum::http::Request::builder().method(method).uri(uri);
            let request = if copy { request.header("x-amz-copy-source", "/b/k") } else { request };
            may_be(&request.body(()).expect("a request").into_parts().0)
        };
        assert!(head("PUT", "/b/k", true) && head("POST", "/b/k?uploadId=1", false));
        assert!(!head("PUT", "/b/k", false) && !head("POST", "/b/k?uploads", false) && !head("GET", "/b/k", true));
    }
}

//! Connections of the interface: how many there may be, and how long each may keep the server waiting.
//!
//! A client that sends half a request, or takes half an answer, loses its connection; one that goes on, however slowly,
//! keeps it, and so does one that listens to a stream on which nothing happens. Where all places are taken, whoever has
//! been there longest without having shown the token gives way to the next.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::serve::Listener;
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tower_http::timeout::RequestBodyTimeoutLayer;

use crate::types::limits;

/// What clients may ask of the server's places and of its patience.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Connections at once; further ones wait where all of them have shown the token.
    pub connections: usize,
    /// From the connection's begin, or from the last answer's end, until the head of a request is there.
    pub head: Duration,
    /// Without a further piece of a request's body.
    pub body: Duration,
    /// Without the client taking a further piece of an answer.
    pub answer: Duration,
}

impl Bounds {
    /// For a node in use. Bodies and answers may come from and go to pipes that pause.
    pub(crate) const STANDARD: Self = Self {
        connections: limits::API_CONNECTIONS_MAX,
        head: Duration::from_secs(30),
        body: Duration::from_secs(300),
        answer: Duration::from_secs(600),
    };
}

/// A connection's place, for whoever checks its requests.
#[derive(Clone, Debug)]
pub(crate) struct Seat {
    /// Where the client is.
    pub(super) address: IpAddr,
    proven: Arc<AtomicBool>,
    leave: CancellationToken,
}

impl Seat {
    fn new(address: IpAddr) -> Self {
        Self { address, proven: Arc::default(), leave: CancellationToken::new() }
    }
    /// A request of this connection had the token.
    pub(crate) fn prove(&self) {
        self.proven.store(true, Ordering::Relaxed);
    }
    fn is_proven(&self) -> bool {
        self.proven.load(Ordering::Relaxed)
    }
}

/// Serves connections until told to stop, and then waits for the requests that are under way.
pub(crate) async fn run(listener: TcpListener, router: Router, bounds: Bounds, stop: CancellationToken) {
    let router = router.layer(RequestBodyTimeoutLayer::new(bounds.body));
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(bounds.head);
    let mut hall = Hall { listener, places: Arc::new(Semaphore::new(bounds.connections)), strangers: VecDeque::new() };
    let under_way = GracefulShutdown::new();
    while let Some(accepted) = stop.run_until_cancelled(hall.accept()).await {
        let Some((stream, place, seat)) = accepted else { continue };
        if let Err(error) = cut_when_not_read(&stream, bounds.answer) {
            tracing::debug!(%error, "a connection is gone before it was served");
            continue;
        }
        let service = TowerToHyperService::new(router.clone().layer(Extension(seat.clone())));
        let connection = under_way.watch(server.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            match seat.leave.run_until_cancelled(connection).await {
                Some(Err(error)) => tracing::debug!(%error, "a connection ended early"),
                Some(Ok(())) => {}
                None => tracing::debug!("a connection without a token gave way to another"),
            }
            drop(place);
        });
    }
    drop(hall);
    under_way.shutdown().await;
}

/// Where connections come in.
struct Hall {
    listener: TcpListener,
    places: Arc<Semaphore>,
    /// Those that had not shown the token when last looked at, the oldest first. Some may have ended meanwhile.
    strangers: VecDeque<Seat>,
}

impl Hall {
    /// The next connection, with its place.
    async fn accept(&mut self) -> Option<(TcpStream, OwnedSemaphorePermit, Seat)> {
        let (stream, address) = Listener::accept(&mut self.listener).await;
        let place = match Arc::clone(&self.places).try_acquire_owned() {
            Ok(place) => place,
            Err(_) => {
                self.make_room();
                Arc::clone(&self.places).acquire_owned().await.ok()?
            }
        };
        let seat = Seat::new(address.ip());
        // Each connection holds one reference, so that those that have ended are known by it.
        self.strangers.retain(|seat| !seat.is_proven() && Arc::strong_count(&seat.proven) > 1);
        self.strangers.push_back(seat.clone());
        Some((stream, place, seat))
    }

    /// Sends the oldest away that never showed the token.
    fn make_room(&mut self) {
        while let Some(seat) = self.strangers.pop_front() {
            if !seat.is_proven() && Arc::strong_count(&seat.proven) > 1 {
                return seat.leave.cancel();
            }
        }
    }
}

/// Has the system close the connection when what was sent is not taken for so long: the client is gone, or reads nothing.
fn cut_when_not_read(stream: &TcpStream, within: Duration) -> std::io::Result<()> {
    let millis = u32::try_from(within.as_millis()).unwrap_or(u32::MAX);
    Ok(rustix::net::sockopt::set_tcp_user_timeout(stream, millis)?)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::body::{Body, Bytes};
    use axum::extract::Request;
    use axum::middleware::{Next, from_fn};
    use axum::response::Response;
    use axum::routing::{get, post};
    use futures::StreamExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::mpsc;

    use super::*;

    /// More than anything needs; the end of a test that would hang.
    const PATIENCE: Duration = Duration::from_secs(30);
    const SHORT: Duration = Duration::from_millis(50);
    const PATIENT: Bounds = Bounds { connections: 8, head: PATIENCE, body: PATIENCE, answer: PATIENCE };

    /// Takes any Authorization for the token.
    async fn prove(request: Request, next: Next) -> Response {
        if request.headers().contains_key("authorization") {
            request.extensions().get::<Seat>().expect("each connection has one").prove();
        }
        next.run(request).await
    }

    /// A server whose route `/events` sends what the sender is given, until nobody listens.
    async fn serve(bounds: Bounds) -> (SocketAddr, mpsc::Sender<Bytes>, CancellationToken) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (lines, receiver) = mpsc::channel::<Bytes>(1);
        let receiver = Arc::new(std::sync::Mutex::new(Some(receiver)));
        let events = move || async move {
            let receiver = receiver.lock().expect("not poisoned").take().expect("asked for once");
            Body::from_stream(crate::api::chain::tokio_stream(receiver).map(Ok::<_, std::io::Error>))
        };
        let router = Router::new()
            .route("/", get(|| async { "here" }))
            .route("/length", post(|body: Bytes| async move { body.len().to_string() }))
            .route("/events", get(events))
            .layer(from_fn(prove));
        let stop = CancellationToken::new();
        tokio::spawn(run(listener, router, bounds, stop.clone()));
        (address, lines, stop)
    }

    async fn begin(address: SocketAddr, text: &str) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        stream.write_all(text.as_bytes()).await.expect("it takes bytes");
        stream
    }

    /// All that comes until the server closes the connection.
    async fn to_the_end(mut stream: TcpStream) -> String {
        let mut answer = Vec::new();
        let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
        // A reset is an end too.
        let _ = read.expect("the connection is closed in time");
        String::from_utf8_lossy(&answer).into_owned()
    }

    async fn ask(address: SocketAddr) -> String {
        to_the_end(begin(address, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await).await
    }

    #[tokio::test]
    async fn half_a_head_is_cut_and_others_are_served_meanwhile() {
        let (address, _lines, _stop) = serve(Bounds { head: SHORT, ..PATIENT }).await;
        let half = [begin(address, "").await, begin(address, "GET / HTTP/1.1\r\nHo").await];
        assert!(ask(address).await.ends_with("here"));
        for stream in half {
            assert!(!to_the_end(stream).await.contains("here"));
        }
        let idle = begin(address, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert!(to_the_end(idle).await.ends_with("here"), "an idle connection ends after its answer");
    }

    #[tokio::test]
    async fn a_body_that_stops_is_cut_and_one_that_goes_on_is_not() {
        let (address, _lines, _stop) = serve(Bounds { body: Duration::from_secs(1), ..PATIENT }).await;
        let head = "POST /length HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
        let mut steady = begin(address, head).await;
        let mut cut = std::pin::pin!(to_the_end(begin(address, &format!("{head}2\r\nab")).await));
        let mut ticks = tokio::time::interval(Duration::from_millis(10));
        let mut sent = 0;
        let answer = loop {
            tokio::select! {
                answer = &mut cut => break answer,
                _ = ticks.tick() => {
                    steady.write_all(b"1\r\nx\r\n").await.expect("it takes bytes");
                    sent += 1;
                }
            }
        };
        assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
        steady.write_all(b"0\r\n\r\n").await.expect("it takes the end");
        let answer = to_the_end(steady).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with(&sent.to_string()), "{sent}: {answer}");
    }

    #[tokio::test]
    async fn a_stream_without_events_stays_and_an_answer_that_is_not_read_is_given_up() {
        let bounds = Bounds { head: SHORT, body: SHORT, answer: SHORT, ..PATIENT };
        let (address, lines, _stop) = serve(bounds).await;
        let mut listener = begin(address, "GET /events HTTP/1.1\r\nHost: x\r\n\r\n").await;
        let mut head = vec![0; 512];
        assert!(listener.read(&mut head).await.expect("a head") > 0);
        // Another client is cut meanwhile by the same bound.
        assert_eq!(to_the_end(begin(address, "GET").await).await, "");
        lines.send(Bytes::from_static(b"line")).await.expect("somebody listens");
        let read = listener.read(&mut head).await.expect("a line");
        assert!(String::from_utf8_lossy(&head[..read]).contains("line"));
        // From here on nothing is read any more.
        let flood = async { while lines.send(Bytes::from_static(&[7; 1 << 16])).await.is_ok() {} };
        tokio::time::timeout(PATIENCE, flood).await.expect("it is given up in time");
    }

    #[tokio::test]
    async fn connections_beyond_the_bound_wait_where_all_others_have_shown_the_token() {
        let (address, lines, _stop) = serve(Bounds { connections: 1, ..PATIENT }).await;
        let mut listening = begin(address, "GET /events HTTP/1.1\r\nHost: x\r\nAuthorization: yes\r\n\r\n").await;
        let mut head = [0; 512];
        assert!(listening.read(&mut head).await.expect("a head") > 0);
        let next = begin(address, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
        let mut buffer = [0; 512];
        for _ in 0..20 {
            lines.send(Bytes::from_static(b"line")).await.expect("somebody listens");
            assert!(listening.read(&mut buffer).await.expect("a line") > 0);
        }
        let early = next.try_read(&mut buffer).expect_err("no answer yet");
        assert_eq!(early.kind(), std::io::ErrorKind::WouldBlock);
        drop(listening);
        assert!(to_the_end(next).await.ends_with("here"));
    }

    #[tokio::test]
    async fn who_never_showed_the_token_gives_way_and_who_did_stays() {
        let (address, lines, _stop) = serve(Bounds { connections: 4, ..PATIENT }).await;
        let mut listening = begin(address, "GET /events HTTP/1.1\r\nHost: x\r\nAuthorization: yes\r\n\r\n").await;
        let mut buffer = [0; 512];
        assert!(listening.read(&mut buffer).await.expect("a head") > 0);
        let mut idle = Vec::new();
        for _ in 0..16 {
            idle.push(begin(address, "").await);
        }
        assert!(ask(address).await.ends_with("here"), "strangers that idle do not keep others out");
        for stream in idle.drain(..12) {
            assert_eq!(to_the_end(stream).await, "");
        }
        lines.send(Bytes::from_static(b"line")).await.expect("it is still there");
        assert!(listening.read(&mut buffer).await.expect("a line") > 0);
    }

    #[tokio::test]
    async fn a_stop_ends_idle_connections() {
        let (address, _lines, stop) = serve(PATIENT).await;
        let idle = begin(address, "").await;
        assert!(ask(address).await.ends_with("here"));
        stop.cancel();
        assert_eq!(to_the_end(idle).await, "");
    }
}

//! Who may ask: the holder of the token, from this machine, and no web page.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::ConstantTimeEq;

use super::connections::Seat;
use super::problem::Problem;

/// What requests are checked against.
#[derive(Clone)]
pub struct Guard {
    token: Arc<str>,
    /// Names under which this server may be addressed, port included.
    hosts: Arc<[String]>,
}

impl Guard {
    /// A guard for a server at this address.
    pub fn new(token: &str, address: std::net::SocketAddr) -> Self {
        let port = address.port();
        let names =
            [address.to_string(), format!("localhost:{port}"), format!("127.0.0.1:{port}"), format!("[::1]:{port}")];
        Self { token: token.trim().into(), hosts: names.into() }
    }

    /// A page that a browser loads from elsewhere can send requests here; its Host (after DNS rebinding) or its Origin tells.
    fn check_origin(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        if !host.is_some_and(|host| self.hosts.iter().any(|name| name == host)) {
            return Err(Problem::forbidden("the Host header names another server"));
        }
        if headers.contains_key(header::ORIGIN) {
            return Err(Problem::forbidden("requests of web pages are not taken"));
        }
        Ok(())
    }

    fn check_token(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        // The scheme's name may be in any case (RFC 9110, section 11.1).
        let given = given.and_then(|value| value.split_once(' '));
        let given = given.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, given)| given);
        let given = given.filter(|given| !given.is_empty());
        match given.map(|given| bool::from(given.as_bytes().ct_eq(self.token.as_bytes()))) {
            Some(true) => Ok(()),
            Some(false) | None => Err(Problem::unauthorized()),
        }
    }
}

/// Checks where every request comes from.
pub async fn same_origin(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    match guard.check_origin(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

/// Checks the token.
pub async fn token(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    match guard.check_token(request.headers()) {
        Ok(()) => {
            if let Some(seat) = request.extensions().get::<Seat>() {
                seat.prove();
            }
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(token: &str, given: Option<&'static str>) -> bool {
        let guard = Guard::new(token, ([127, 0, 0, 1], 1).into());
        let mut headers = HeaderMap::new();
        headers.extend(given.map(|given| (header::AUTHORIZATION, header::HeaderValue::from_static(given))));
        guard.check_token(&headers).is_ok()
    }

    #[test]
    fn only_the_token_opens_and_an_empty_one_opens_nothing() {
        assert!(check("secret", Some("Bearer secret")) && check("secret\n", Some("Bearer secret")));
        for given in [None, Some("Bearer "), Some("Bearer secre"), Some("Bearer secrets"), Some("Basic secret")] {
            assert!(!check("secret", given) && !check("", given), "{given:?}");
        }
    }
}

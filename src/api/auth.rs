//! Who asks: the holder of the home's token, or a user who logged in; and no web page but this node's own.
//!
//! A request of a web page has an Origin, which must be this very server: the node's own page. Where the token comes in the
//! page's cookie, a request that changes something must have one.

use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::ConstantTimeEq;

use super::accounts::Accounts;
use super::caller::Caller;
use super::connections::Seat;
use super::problem::Problem;
use super::rates::Network;
use crate::node::Handle;

/// What the cookie of the node's own page is called, before the port: a browser sends cookies of all ports of a machine to each.
const COOKIE: &str = "trullo_login";

/// What requests are checked against.
#[derive(Clone)]
pub struct Guard {
    token: Arc<str>,
    /// Names under which this server may be addressed, port included, with the scheme of its pages there.
    origins: Arc<[String]>,
    cookie: Arc<str>,
    handle: Option<Handle>,
    accounts: Option<Arc<Accounts>>,
}

impl Guard {
    /// A guard for a server at this address.
    pub fn new(token: &str, address: std::net::SocketAddr) -> Self {
        let port = address.port();
        let names =
            [address.to_string(), format!("localhost:{port}"), format!("127.0.0.1:{port}"), format!("[::1]:{port}")];
        let own = names.map(|name| format!("http://{name}"));
        Self {
            token: token.trim().into(),
            origins: own.into(),
            cookie: format!("{COOKIE}_{port}").into(),
            handle: None,
            accounts: None,
        }
    }

    /// Name of the page's cookie.
    pub fn cookie(&self) -> Arc<str> {
        self.cookie.clone()
    }

    /// With the node that its owner acts on, where that is reached through proxies, and the node's users.
    pub fn of(self, handle: Handle, accounts: Arc<Accounts>) -> Self {
        let further = handle.config().api.origins.iter().cloned();
        let origins = self.origins.iter().cloned().chain(further).collect();
        Self { handle: Some(handle), accounts: Some(accounts), origins, ..self }
    }

    /// A page that a browser loads from elsewhere can send requests here; its Host (after DNS rebinding) or its Origin tells.
    fn check_origin(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let named =
            |origin: &&String| origin.split_once("://").is_some_and(|(_, name)| name.eq_ignore_ascii_case(host));
        let mut here = self.origins.iter().filter(named).peekable();
        if here.peek().is_none() {
            let text = "the Host header names another server; names of a proxy before it are set with api.origins";
            return Err(Problem::forbidden(text));
        }
        match headers.get(header::ORIGIN) {
            // The one and the other have to be of the same server.
            Some(origin) if !here.any(|name| name.as_bytes() == origin.as_bytes()) => {
                Err(Problem::forbidden("requests of other web pages are not taken"))
            }
            _ => Ok(()),
        }
    }

    fn is_owner(&self, given: &str) -> bool {
        !given.is_empty() && bool::from(given.as_bytes().ct_eq(self.token.as_bytes()))
    }

    /// For whom a request acts, if it has a token that holds.
    fn caller(&self, method: &Method, headers: &HeaderMap) -> Option<Caller> {
        let (handle, accounts) = (self.handle.as_ref()?, self.accounts.as_ref()?);
        if headers.contains_key(header::AUTHORIZATION) {
            let given = bearer(headers)?;
            return match self.is_owner(given) {
                true => Some(Caller::owner(handle.clone())),
                false => accounts.tokens.caller(given),
            };
        }
        // Browsers send cookies along unasked. They are of this site alone (SameSite), and who sends one with a request that
        // changes something says which page it comes from.
        let looks = [Method::GET, Method::HEAD].contains(method);
        let given = cookie(headers, &self.cookie).filter(|_| looks || headers.contains_key(header::ORIGIN))?;
        accounts.tokens.caller(given)
    }
}

/// The token of the Authorization header. The scheme's name may be in any case (RFC 9110, section 11.1).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let given = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, given) = given.split_once(' ')?;
    (scheme.eq_ignore_ascii_case("bearer") && !given.is_empty()).then_some(given)
}

/// The token of the page's cookie.
fn cookie<'a>(headers: &'a HeaderMap, wanted: &str) -> Option<&'a str> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|cookies| cookies.to_str().ok());
    let mut pairs = all.flat_map(|cookies| cookies.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == wanted).map(|(_, token)| token)
}

/// Checks where every request comes from.
pub async fn same_origin(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    match guard.check_origin(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

/// Finds out for whom a request acts, and whether it comes too early. What it needs, its route checks.
pub async fn identify(State(guard): State<Guard>, mut request: Request, next: Next) -> Response {
    let caller = guard.caller(request.method(), request.headers());
    let seat = request.extensions().get::<Seat>();
    if let (Some(seat), Some(_)) = (seat, &caller) {
        seat.prove();
    }
    let rates = guard.accounts.as_ref().map(|accounts| &accounts.rates);
    let early = match (rates, &caller) {
        (Some(_), Some(caller)) if caller.is_owner() => Ok(()),
        (Some(rates), Some(caller)) => caller.account().and_then(|account| rates.user(account)),
        (Some(rates), None) => seat.map_or(Ok(()), |seat| rates.stranger(Network::of(seat.address))),
        (None, _) => Ok(()),
    };
    if let Err(problem) = early {
        return problem.into_response();
    }
    if let Some(caller) = caller {
        request.extensions_mut().insert(caller);
    }
    next.run(request).await
}

/// Where a request comes from.
#[derive(Clone, Copy, Debug)]
pub struct Client(Option<Network>);

impl Client {
    /// Its network.
    pub fn network(self) -> Network {
        self.0.unwrap_or(Network::of(std::net::Ipv4Addr::LOCALHOST.into()))
    }
}

impl<S: Sync> FromRequestParts<S> for Client {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(parts.extensions.get::<Seat>().map(|seat| Network::of(seat.address))))
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn guard(token: &str) -> Guard {
        Guard::new(token, ([127, 0, 0, 1], 1).into())
    }

    fn headers(pairs: &[(header::HeaderName, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn only_the_token_opens_and_an_empty_one_opens_nothing() {
        let check = |token: &str, given: &'static str| {
            bearer(&headers(&[(header::AUTHORIZATION, given)])).is_some_and(|given| guard(token).is_owner(given))
        };
        assert!(check("secret", "Bearer secret") && check("secret\n", "bearer secret"));
        for given in ["", "Bearer ", "Bearer secre", "Bearer secrets", "Basic secret"] {
            assert!(!check("secret", given) && !check("", given), "{given:?}");
        }
    }

    #[test]
    fn the_page_may_ask_through_the_proxies_that_are_set_and_no_other() {
        let proxied = ["http://127.0.0.1:1", "https://files.example.org"].map(str::to_owned).into();
        let guard = Guard { origins: proxied, ..guard("t") };
        let check =
            |host, origin| guard.check_origin(&headers(&[(header::HOST, host), (header::ORIGIN, origin)])).is_ok();
        assert!(check("files.example.org", "https://files.example.org"));
        assert!(check("FILES.example.org", "https://files.example.org"));
        assert!(guard.check_origin(&headers(&[(header::HOST, "files.example.org")])).is_ok());
        assert!(!check("files.example.org", "http://files.example.org"), "another scheme");
        assert!(!check("127.0.0.1:1", "https://files.example.org"), "the proxy has to pass the name on");
        assert!(!check("files.example.org:8443", "https://files.example.org:8443"));
    }

    #[test]
    fn a_web_page_may_ask_if_this_server_sent_it() {
        let check = |host, origin| guard("t").check_origin(&headers(&[(header::HOST, host), (header::ORIGIN, origin)]));
        assert!(check("localhost:1", "http://localhost:1").is_ok());
        assert!(check("127.0.0.1:1", "http://127.0.0.1:1").is_ok());
        for (host, origin) in [
            ("localhost:1", "http://127.0.0.1:1"),
            ("localhost:1", "https://localhost:1"),
            ("localhost:1", "http://localhost:2"),
            ("localhost:1", "null"),
            ("evil.example:1", "http://evil.example:1"),
        ] {
            assert!(check(host, origin).is_err(), "{host} {origin}");
        }
        assert!(guard("t").check_origin(&headers(&[(header::HOST, "localhost:1")])).is_ok());
        assert!(guard("t").check_origin(&headers(&[])).is_err());
    }

    #[test]
    fn the_pages_cookie_is_found_among_others() {
        let found = |text| cookie(&headers(&[(header::COOKIE, text)]), &guard("t").cookie()).map(str::to_owned);
        assert_eq!(found("a=b; trullo_login_1=abc; c=d").as_deref(), Some("abc"));
        assert_eq!(found("xtrullo_login_1=abc; trullo_login_2=abc"), None);
    }
}

//! Client: HTTP to the running node of a home.

use std::io::{self, Write};
use std::sync::Once;
use std::time::Duration;

use anyhow::{Context, Result};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::errors::{CliError, Exit};
use crate::api::network::STALE;
use crate::api::views::{ProblemView, StatusView};
use crate::node::home::Home;

/// How long a connection to the own machine may take.
const CONNECT: Duration = Duration::from_secs(3);
/// How long a node may take to say how it is.
const STATUS: Duration = Duration::from_secs(2);

/// How long an answer may take; the node itself gives up after less.
const ANSWER: Duration = Duration::from_secs(60);

/// Talks to one node.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    token: Zeroizing<String>,
    home: Home,
}

impl Client {
    /// A client of the home's running node. Errors: exit 5 when none runs, 6 when it is still starting.
    pub fn of(home: &Home) -> Result<Self> {
        let dir = home.root().display();
        let Some(pid) = home.running()? else {
            let error = CliError::new(Exit::Unreachable, format!("no node is running in {dir}"));
            return Err(error.hint(format!("start it with: trullo --home {dir} node run")).into());
        };
        let Some(address) = home.read_address()? else {
            let error = CliError::new(Exit::NotReady, format!("the node of {dir} (process {pid}) is starting"));
            return Err(error.hint("try again in a moment; its log says what it does").into());
        };
        // The node is on this machine: a proxy from the environment has no part in it.
        let http = reqwest::Client::builder().no_proxy().connect_timeout(CONNECT).build();
        let http = http.context("setting up HTTP")?;
        Ok(Self { http, base: format!("http://{address}"), token: home.read_token()?, home: home.clone() })
    }

    /// A request to a path, with the token.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base)).bearer_auth(self.token.as_str())
    }

    /// Sends a request. Errors: exit 5 when the node does not answer, else what the node says.
    pub async fn send(&self, request: RequestBuilder) -> Result<Response> {
        let response = request.send().await.map_err(|error| self.failed(&error))?;
        if response.status().is_success() {
            tell_age(&response);
            return Ok(response);
        }
        Err(problem(response).await.into())
    }

    /// The JSON of an answer.
    pub async fn json<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T> {
        let response = self.send(request).await?;
        let bytes = response.bytes().await.map_err(|error| self.failed(&error))?;
        serde_json::from_slice(&bytes).context("the node's answer is not what this program expects")
    }

    /// `GET` of a path.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.json(self.request(Method::GET, path).timeout(ANSWER)).await
    }

    /// What the node does, if it is done in time. Errors: exit 6.
    pub async fn within<T>(&self, time: Duration, doing: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::time::timeout(time, doing).await.unwrap_or_else(|_| {
            let message = format!("the node of {} did not answer within {time:?}", self.home.root().display());
            Err(CliError::new(Exit::NotReady, message).hint(format!("see {}", self.home.log().display())).into())
        })
    }

    /// `POST` of a JSON body.
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T> {
        self.json(self.request(Method::POST, path).json(body).timeout(ANSWER)).await
    }

    /// How the node is; quick to give up.
    pub async fn status(&self) -> Result<StatusView> {
        self.json(self.request(Method::GET, "/status").timeout(STATUS)).await
    }

    /// A failure below HTTP.
    pub fn failed(&self, error: &reqwest::Error) -> CliError {
        let dir = self.home.root().display();
        let code = if error.is_timeout() { Exit::NotReady } else { Exit::Unreachable };
        let what = if error.is_timeout() { "did not answer in time" } else { "does not answer" };
        // The outer ones say only in which step it happened.
        let cause = std::iter::successors(std::error::Error::source(error), |cause| cause.source()).last();
        let cause = cause.map(|cause| format!(": {cause}")).unwrap_or_default();
        let message = format!("the node of {dir} at {} {what}{cause}", self.base);
        CliError::new(code, message).hint(format!("see {}", self.home.log().display()))
    }
}

/// Says, once for each run, that the node may know less than is final.
fn tell_age(response: &Response) {
    static TOLD: Once = Once::new();
    let Some(seconds) = response.headers().get(STALE).and_then(|seconds| seconds.to_str().ok()) else { return };
    TOLD.call_once(|| {
        let text = format!(
            "the node last learnt of a final block {seconds} s ago: what it shows may be older than what is final"
        );
        // Nobody reads stderr, then.
        let _ = writeln!(io::stderr(), "warning: {text}; see `trullo ledger status`");
    });
}

/// What the node says is wrong.
async fn problem(response: Response) -> CliError {
    let status = response.status();
    let body = response.bytes().await.unwrap_or_default();
    if let Ok(problem) = serde_json::from_slice::<ProblemView>(&body) {
        return problem.into();
    }
    let code = match status {
        StatusCode::NOT_FOUND => Exit::NotFound,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Exit::Denied,
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => Exit::NotReady,
        _ => Exit::Other,
    };
    let text: String = String::from_utf8_lossy(&body).chars().take(200).collect();
    CliError::new(code, format!("the node answered {status}: {text}"))
}

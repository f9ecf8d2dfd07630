//! The page's forms as somebody else's page would send them, and with a login that may do less than they do.

use std::collections::BTreeMap;

use reqwest::header::{COOKIE, LOCATION, ORIGIN};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, Response, StatusCode};
use serde_json::json;

use crate::users::{Desk, OPEN, body};

/// A browser with the login of a user in its cookie.
struct Browser {
    http: Client,
    origin: String,
    cookie: String,
}

impl Browser {
    async fn with(desk: &Desk, scopes: &[&str]) -> Self {
        let view = body(desk.log_in("anna", json!({ "scopes": scopes })).await, StatusCode::OK).await;
        let origin = desk.url("");
        let port = origin.rsplit(':').next().expect("a port").to_owned();
        let cookie = format!("trullo_login_{port}={}", view["token"].as_str().expect("a token"));
        let http = Client::builder().no_proxy().redirect(Policy::none()).build().expect("a client");
        Self { http, origin, cookie }
    }

    async fn ask(&self, method: Method, path: &str, form: &str, origin: Option<&str>) -> Response {
        let request = self.http.request(method, format!("{}{path}", self.origin)).header(COOKIE, &self.cookie);
        let request = request.header("content-type", "application/x-www-form-urlencoded").body(form.to_owned());
        let request = origin.into_iter().fold(request, |request, origin| request.header(ORIGIN, origin));
        request.send().await.expect("an answer")
    }

    async fn get(&self, path: &str) -> StatusCode {
        self.ask(Method::GET, path, "", None).await.status()
    }

    async fn post(&self, path: &str, form: &str) -> Response {
        self.ask(Method::POST, path, form, Some(&self.origin)).await
    }
}

#[tokio::test]
async fn the_pages_forms_want_this_site_and_the_scope_of_what_they_do() {
    let desk = Desk::up(0, OPEN);
    body(desk.register("anna", "").await, StatusCode::CREATED).await;
    let file = format!("/files/{}", "0".repeat(64));
    let account = format!("account={}", "0".repeat(64));
    let forms = [
        ("write", "/folders/new".to_owned(), "path=/&name=a".to_owned()),
        ("write", "/folders/move".to_owned(), "path=/a&to=/b".to_owned()),
        ("write", "/folders/restore".to_owned(), "path=/a&version=1".to_owned()),
        ("write", "/folders/upload?path=/".to_owned(), String::new()),
        ("write", "/upload".to_owned(), String::new()),
        ("delete", "/folders/remove".to_owned(), "path=/a".to_owned()),
        ("delete", format!("{file}/delete"), String::new()),
        ("share", format!("{file}/share"), account.clone()),
        ("share", format!("{file}/unshare"), account),
        ("share", format!("{file}/capability"), "kind=read".to_owned()),
        ("share", "/shared/decline".to_owned(), format!("file={}", "0".repeat(64))),
    ];
    let all = ["read", "write", "delete", "share"];
    let anna = Browser::with(&desk, &all).await;
    let mut without = BTreeMap::new();
    for scope in ["write", "delete", "share"] {
        let others: Vec<_> = all.into_iter().filter(|other| *other != scope).collect();
        without.insert(scope, Browser::with(&desk, &others).await);
    }
    for (scope, path, form) in &forms {
        let unasked = anna.ask(Method::POST, path, form, None).await;
        let location = unasked.headers().get(LOCATION).map(|place| place.as_bytes());
        assert_eq!((unasked.status(), location), (StatusCode::SEE_OTHER, Some(b"/login".as_slice())), "{path}");
        let foreign = anna.ask(Method::POST, path, form, Some("http://evil.example")).await;
        assert_eq!(foreign.status(), StatusCode::FORBIDDEN, "{path}");
        let told = without[scope].post(path, form).await;
        assert_eq!(told.status(), StatusCode::FORBIDDEN, "{path}");
        let text = told.text().await.expect("a page");
        assert!(text.contains(&format!("scope &quot;{scope}&quot;")), "{path}: {text}");
    }
    // With it, it is looked for what they are about.
    for (_, path, form) in forms.iter().filter(|(scope, ..)| *scope == "share") {
        assert_eq!(anna.post(path, form).await.status(), StatusCode::NOT_FOUND, "{path}");
    }
    let reader = Browser::with(&desk, &["read"]).await;
    for path in ["/folders", "/folders?path=/&from=7", "/files", "/shared"] {
        assert_eq!(reader.get(path).await, StatusCode::OK, "{path}");
    }
    for path in ["/folders?path=/none", "/folders/file?path=/none", "/folders/download?path=/none", &file] {
        assert_eq!(reader.get(path).await, StatusCode::NOT_FOUND, "{path}");
    }
    for path in ["/folders/remove?path=/none", &format!("{file}/delete")] {
        assert_eq!(reader.get(path).await, StatusCode::FORBIDDEN, "{path}");
    }
    // What is no capability is not repeated.
    let told = reader.post("/shared/use", "capability=trullo-read-secret&do=download").await;
    assert_eq!(told.status(), StatusCode::BAD_REQUEST);
    assert!(!told.text().await.expect("a page").contains("secret"));
}

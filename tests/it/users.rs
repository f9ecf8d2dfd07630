//! Users of one node over HTTP: what each may do, what none learns of another, and how logins end.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use reqwest::header::{
    ALLOW, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_NONE_MATCH, IF_RANGE, RANGE,
    RETRY_AFTER,
};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};

use crate::processes::{Testnet, failure, json as run, write_sample};

/// How long anything may take that should take a moment.
const PATIENCE: Duration = Duration::from_secs(30);
pub const PASSWORD: &str = "correct horse";

/// A network whose user node has these settings, and a client of it.
pub struct Desk {
    pub net: Testnet,
    http: Client,
}

impl Desk {
    pub fn up(storage: u8, settings: &str) -> Self {
        let net = Testnet::audited(storage, &[]);
        if !settings.is_empty() {
            net.kill("user-1");
            let path = net.dir.path().join("user-1/config.toml");
            let text = std::fs::read_to_string(&path).expect("a configuration");
            let text = text.replace("[api]\n", &format!("[api]\n{settings}\n"));
            std::fs::write(&path, text).expect("a written configuration");
            net.start("user-1");
        }
        Self { net, http: Client::builder().no_proxy().pool_max_idle_per_host(0).build().expect("a client") }
    }
    /// Adds a user by the command line.
    pub fn add_user(&self, name: &str) {
        let path = self.net.dir.path().join("password");
        std::fs::write(&path, format!("{PASSWORD}\n")).expect("a password file");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("a private file");
        let (home, path) = (self.net.home("user-1"), path.to_str().expect("UTF-8").to_owned());
        run(&user(&home, &["add", name, "--password-file", &path]));
    }
    fn read(&self, file: &str) -> String {
        let path = self.net.dir.path().join("user-1").join(file);
        std::fs::read_to_string(path).expect("a running node").trim().to_owned()
    }
    pub fn owner(&self) -> String {
        self.read("api.token")
    }
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.read("api.addr"))
    }
    /// A request; an empty token is none.
    pub fn ask(&self, method: Method, path: &str, token: &str) -> RequestBuilder {
        let request = self.http.request(method, self.url(path)).timeout(PATIENCE);
        if token.is_empty() { request } else { request.bearer_auth(token) }
    }
    pub async fn get(&self, path: &str, token: &str) -> Response {
        self.ask(Method::GET, path, token).send().await.expect("an answer")
    }
    pub async fn post(&self, path: &str, token: &str, body: Value) -> Response {
        self.ask(Method::POST, path, token).json(&body).send().await.expect("an answer")
    }
    pub async fn register(&self, name: &str, token: &str) -> Response {
        self.post("/v1/auth/register", token, json!({ "name": name, "password": PASSWORD })).await
    }
    pub async fn log_in(&self, name: &str, more: Value) -> Response {
        let mut body = json!({ "name": name, "password": PASSWORD });
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        self.post("/v1/auth/login", "", body).await
    }
    /// A token with all scopes.
    pub async fn token(&self, name: &str) -> String {
        let view = body(self.log_in(name, json!({})).await, StatusCode::OK).await;
        view["token"].as_str().expect("a token").to_owned()
    }
    async fn status(&self, path: &str, token: &str) -> StatusCode {
        self.get(path, token).await.status()
    }
    async fn put(&self, token: &str, name: &str, bytes: &[u8]) -> String {
        let request = self.ask(Method::POST, &format!("/v1/files?name={name}"), token).body(bytes.to_vec());
        let view = body(request.send().await.expect("an answer"), StatusCode::OK).await;
        assert_eq!(view["status"], "final", "{view}");
        view["file_id"].as_str().expect("an id").to_owned()
    }
    async fn hashes(&self) -> u64 {
        let page = self.get("/metrics", "").await.text().await.expect("a page");
        let line = page.lines().find_map(|line| line.strip_prefix("trullo_password_hashes_total "));
        line.and_then(|count| count.parse().ok()).expect("it is counted")
    }
}

/// The JSON of an answer that must have this status; problems are told as such.
pub async fn body(response: Response, expected: StatusCode) -> Value {
    let status = response.status();
    let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default().to_owned();
    let text = response.text().await.expect("a body");
    assert_eq!(status, expected, "{text}");
    assert_eq!(kind.starts_with("application/problem+json"), !status.is_success(), "{kind}");
    serde_json::from_str(&text).unwrap_or_else(|_| panic!("no JSON: {text}"))
}

fn header(response: &Response, name: reqwest::header::HeaderName) -> String {
    response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

pub const OPEN: &str = "registration = \"open\"\nwelcome_credits = 100000";

#[tokio::test]
async fn a_user_stores_and_reads_files_and_others_learn_nothing_of_them() {
    let desk = Desk::up(2, OPEN);
    for name in ["Anna", "bert"] {
        let view = body(desk.register(name, "").await, StatusCode::CREATED).await;
        assert_eq!((view["name"].as_str(), view["credits"].as_u64()), (Some(&*name.to_lowercase()), Some(100_000)));
    }
    assert_eq!(body(desk.register("anna", "").await, StatusCode::CONFLICT).await["code"], 8);
    let (anna, bert) = (desk.token("ANNA").await, desk.token("bert").await);
    let me = body(desk.get("/v1/auth/me", &anna).await, StatusCode::OK).await;
    assert_eq!((me["name"].as_str(), me["balance"].as_u64()), (Some("anna"), Some(100_000)), "{me}");
    let bytes = write_sample(&desk.net.dir.path().join("sample"), 300_001);
    let file = desk.put(&anna, "caf%C3%A9.bin", &bytes).await;
    assert_eq!(reads_back(&desk, &anna, &format!("/v1/files/{file}"), &bytes).await, format!("\"{file}\""));
    takes_forms(&desk, &anna, &bytes).await;
    pages(&desk, &anna, &bert).await;
    tells_nothing(&desk, &anna, &bert, &file).await;
    guards_every_route(&desk, &bert).await;
    let content = desk.ask(Method::POST, "/v1/tree/content", &anna).body(bytes.clone()).send().await;
    let content = body(content.expect("an answer"), StatusCode::OK).await;
    let put = json!({ "op": "put", "path": "/docs/café.bin", "kind": "file", "content": content });
    body(desk.post("/v1/tree/changes", &anna, json!({ "ops": [put] })).await, StatusCode::OK).await;
    reads_back(&desk, &anna, "/v1/tree/file?path=/docs/caf%C3%A9.bin", &bytes).await;
    // The owner of the node sees what the ledger has, and not what is inside.
    let owner = desk.owner();
    let seen = body(desk.get(&format!("/v1/files/{file}/info"), &owner).await, StatusCode::OK).await;
    assert!(seen["name"].is_null() && seen["owner"] == me["account"], "{seen}");
    body(desk.get(&format!("/v1/files/{file}"), &owner).await, StatusCode::FORBIDDEN).await;
    let gone = desk.ask(Method::DELETE, &format!("/v1/files/{file}"), &anna).send().await.expect("an answer");
    body(gone, StatusCode::OK).await;
    for end in ["", "/info", "/health"] {
        body(desk.get(&format!("/v1/files/{file}{end}"), &anna).await, StatusCode::NOT_FOUND).await;
    }
}

/// Ranges, conditions and names of a file's bytes; gives its tag.
async fn reads_back(desk: &Desk, anna: &str, path: &str, bytes: &[u8]) -> String {
    let all = desk.get(path, anna).await;
    let tag = header(&all, ETAG);
    assert_eq!(header(&all, CONTENT_TYPE), "application/octet-stream");
    assert_eq!(header(&all, CONTENT_DISPOSITION), "attachment; filename=\"caf_.bin\"; filename*=UTF-8''caf%C3%A9.bin");
    assert_eq!(header(&all, "x-content-type-options".parse().expect("a name")), "nosniff");
    assert!(all.bytes().await.expect("the bytes") == bytes);
    let head = desk.ask(Method::HEAD, path, anna).send().await.expect("an answer");
    assert_eq!((head.status(), header(&head, CONTENT_LENGTH)), (StatusCode::OK, "300001".into()));
    assert!(head.bytes().await.expect("no body").is_empty());
    for (range, part) in [("bytes=0-9", 0..10), ("bytes=299999-", 299_999..300_001), ("bytes=-7", 299_994..300_001)] {
        let answer = desk.ask(Method::GET, path, anna).header(RANGE, range).send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::PARTIAL_CONTENT);
        assert_eq!(header(&answer, CONTENT_RANGE), format!("bytes {}-{}/300001", part.start, part.end - 1));
        assert!(answer.bytes().await.expect("the part") == bytes[part]);
    }
    let outside = desk.ask(Method::GET, path, anna).header(RANGE, "bytes=300001-").send().await.expect("an answer");
    assert_eq!(header(&outside, CONTENT_RANGE), "bytes */300001");
    body(outside, StatusCode::RANGE_NOT_SATISFIABLE).await;
    let other = desk.ask(Method::GET, path, anna).header(RANGE, "bytes=0-9").header(IF_RANGE, "\"another\"");
    assert_eq!(other.send().await.expect("an answer").status(), StatusCode::OK);
    for method in [Method::GET, Method::HEAD] {
        let known = desk.ask(method, path, anna).header(IF_NONE_MATCH, tag.as_str());
        assert_eq!(known.send().await.expect("an answer").status(), StatusCode::NOT_MODIFIED);
    }
    let part = desk.ask(Method::GET, path, anna).header(RANGE, "bytes=0-9").header(IF_RANGE, tag.as_str());
    assert_eq!(part.send().await.expect("an answer").status(), StatusCode::PARTIAL_CONTENT);
    tag
}

/// Files in forms, of a length that nobody tells.
async fn takes_forms(desk: &Desk, anna: &str, bytes: &[u8]) {
    let form = |part: &str| {
        let head = format!("--b\r\nContent-Disposition: form-data; {part}\r\n\r\n").into_bytes();
        [head, bytes.to_vec(), b"\r\n--b--\r\n".to_vec()].concat()
    };
    let send = |text: Vec<u8>| {
        let pieces: Vec<_> = text.chunks(50_000).map(|piece| Ok::<_, std::io::Error>(piece.to_vec())).collect();
        let stream = reqwest::Body::wrap_stream(futures::stream::iter(pieces));
        let request = desk.ask(Method::POST, "/v1/files", anna).header(CONTENT_TYPE, "multipart/form-data; boundary=b");
        request.body(stream).send()
    };
    let done = send(form("name=\"file\"; filename=\"form.bin\"")).await.expect("an answer");
    let done = body(done, StatusCode::OK).await;
    assert_eq!((done["name"].as_str(), done["bytes"].as_u64()), (Some("form.bin"), Some(300_001)));
    let path = format!("/v1/files/{}", done["file_id"].as_str().expect("an id"));
    assert!(desk.get(&path, anna).await.bytes().await.expect("the bytes") == bytes);
    body(send(form("name=\"else\"")).await.expect("an answer"), StatusCode::UNPROCESSABLE_ENTITY).await;
    let mut cut = form("name=\"file\"; filename=\"cut.bin\"");
    cut.truncate(200_000);
    let broken = send(cut).await.expect("an answer");
    assert!(!broken.status().is_success(), "half a form is no file: {}", broken.status());
}

async fn pages(desk: &Desk, anna: &str, bert: &str) {
    let first = body(desk.get("/v1/files?limit=1", anna).await, StatusCode::OK).await;
    let next = first["next"].as_str().expect("there is more");
    let second = body(desk.get(&format!("/v1/files?limit=1&cursor={next}"), anna).await, StatusCode::OK).await;
    assert_ne!(first["files"][0]["id"], second["files"][0]["id"]);
    assert!(second["next"].is_null(), "{second}");
    let all = body(desk.get("/v1/files", anna).await, StatusCode::OK).await;
    assert_eq!(all["files"].as_array().expect("a list").len(), 2);
    let none = body(desk.get("/v1/files", bert).await, StatusCode::OK).await;
    assert_eq!(none, json!({ "files": [] }));
    body(desk.get("/v1/files?limit=0", anna).await, StatusCode::BAD_REQUEST).await;
    let blocks = body(desk.get("/v1/chain/blocks?limit=2", anna).await, StatusCode::OK).await;
    let cursor = blocks["next"].as_str().expect("there are more");
    let older = body(desk.get(&format!("/v1/chain/blocks?limit=2&cursor={cursor}"), anna).await, StatusCode::OK).await;
    let height = |view: &Value, at: usize| view["blocks"][at]["height"].as_u64().expect("a height");
    assert_eq!(height(&blocks, 1), height(&older, 0) + 1);
    let stats = body(desk.get("/v1/chain/stats", anna).await, StatusCode::OK).await;
    assert_eq!((stats["deals_opened"].as_u64(), stats["storage_nodes"].as_u64()), (Some(2), Some(2)), "{stats}");
}

/// Another user's file has the same answers as one that does not exist.
async fn tells_nothing(desk: &Desk, anna: &str, bert: &str, file: &str) {
    let unknown = "0".repeat(64);
    let routes = [
        (Method::GET, ""),
        (Method::HEAD, ""),
        (Method::DELETE, ""),
        (Method::GET, "/info"),
        (Method::GET, "/health"),
        (Method::POST, "/renew"),
    ];
    let mut paths: Vec<_> = routes.map(|(method, end)| (method, "/v1/files/".to_owned(), end)).into();
    paths.push((Method::GET, "/v1/proofs/file/".to_owned(), ""));
    for (method, start, end) in paths {
        let mut answers = Vec::new();
        for id in [file, &unknown] {
            let request = desk.ask(method.clone(), &format!("{start}{id}{end}"), bert);
            let request = if method == Method::POST { request.json(&json!({ "epochs": 1 })) } else { request };
            let answer = request.send().await.expect("an answer");
            let status = answer.status();
            let headers: Vec<_> = answer.headers().keys().map(ToString::to_string).collect();
            answers.push((status, headers, answer.text().await.expect("a body").replace(id, "ID")));
        }
        assert_eq!(answers[0], answers[1], "{method} {start}..{end}");
        assert_eq!(answers[0].0, StatusCode::NOT_FOUND, "{method} {start}..{end}");
    }
    // A transaction and an account of another one, too.
    let account = body(desk.get("/v1/accounts/me", anna).await, StatusCode::OK).await;
    let id = account["id"].as_str().expect("an id");
    body(desk.get(&format!("/v1/accounts/{id}"), bert).await, StatusCode::NOT_FOUND).await;
    body(desk.get(&format!("/v1/proofs/account/{id}"), bert).await, StatusCode::NOT_FOUND).await;
}

/// Each route of the document that wants a token: none without one, and the node's own business not with a user's.
async fn guards_every_route(desk: &Desk, user: &str) {
    let document = body(desk.get("/openapi.json", "").await, StatusCode::OK).await;
    let id = "0".repeat(64);
    let mut closed = 0;
    for (path, operations) in document["paths"].as_object().expect("paths") {
        let path = path.replace("{id}", &id).replace("{name}", "nobody").replace("{table}", "blocks");
        for (method, operation) in operations.as_object().expect("operations") {
            let method: Method = method.to_uppercase().parse().expect("a method");
            for token in ["", "wrong"] {
                if operation.get("security").is_some() {
                    continue;
                }
                let request = desk.ask(method.clone(), &path, token);
                let answer = request.send().await.expect("an answer");
                assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{method} {path}");
                closed += 1;
            }
        }
    }
    assert!(closed > 50, "{closed}");
    for path in ["/v1/blocks", "/v1/blocks/latest", "/v1/events", "/v1/tables/files", "/v1/storage/health", "/v1/users"]
    {
        body(desk.get(path, user).await, StatusCode::FORBIDDEN).await;
    }
    for path in ["/v1/admin/stop", "/v1/admin/links", "/v1/storage/drain", "/v1/txs", "/v1/snapshots"] {
        body(desk.post(path, user, json!({})).await, StatusCode::FORBIDDEN).await;
    }
    body(desk.get("/v1/nothing", "").await, StatusCode::NOT_FOUND).await;
    let wrong = desk.ask(Method::PATCH, "/v1/files", user).send().await.expect("an answer");
    assert_eq!(header(&wrong, ALLOW).split(',').count(), 3, "{}", header(&wrong, ALLOW));
    body(wrong, StatusCode::METHOD_NOT_ALLOWED).await;
    let text = desk.ask(Method::POST, "/v1/transfers", user).header(CONTENT_TYPE, "text/plain").body("x");
    body(text.send().await.expect("an answer"), StatusCode::UNSUPPORTED_MEDIA_TYPE).await;
    let long = desk.ask(Method::POST, "/v1/transfers", user).header(CONTENT_TYPE, "application/json");
    body(long.body(vec![b' '; 2 << 20]).send().await.expect("an answer"), StatusCode::PAYLOAD_TOO_LARGE).await;
}

/// Who may write and not delete replaces a file; what was there stays as a version.
async fn replaces_without_losing(desk: &Desk) {
    let view = body(desk.log_in("anna", json!({ "scopes": ["read", "write"] })).await, StatusCode::OK).await;
    let writer = view["token"].as_str().expect("a token").to_owned();
    for bytes in ["first", "second"] {
        let sent = desk.ask(Method::POST, "/v1/tree/content", &writer).body(bytes).send().await.expect("an answer");
        let content = body(sent, StatusCode::OK).await;
        let put = json!({ "op": "put", "path": "/notes", "kind": "file", "content": content, "keep": 0 });
        body(desk.post("/v1/tree/changes", &writer, json!({ "ops": [put] })).await, StatusCode::OK).await;
        let twice = json!({ "op": "put", "path": "/copy", "kind": "file", "content": content });
        body(desk.post("/v1/tree/changes", &writer, json!({ "ops": [twice] })).await, StatusCode::CONFLICT).await;
    }
    let entry = body(desk.get("/v1/tree/stat?path=/notes", &writer).await, StatusCode::OK).await;
    let older = entry["versions"][0]["version"].as_u64().expect("a version");
    let first = desk.get(&format!("/v1/tree/file?path=/notes&version={older}"), &writer).await;
    assert_eq!(first.text().await.expect("a text"), "first");
    let remove = json!({ "ops": [{ "op": "remove", "path": "/notes" }] });
    body(desk.post("/v1/tree/changes", &writer, remove).await, StatusCode::FORBIDDEN).await;
}

#[tokio::test]
async fn a_login_does_what_its_scopes_say_and_ends_in_each_way_that_it_should() {
    let desk = Desk::up(3, "logins_per_minute = 30\ntokens_max = 6\nwelcome_credits = 100000");
    let owner = desk.owner();
    body(desk.register("anna", "").await, StatusCode::FORBIDDEN).await;
    body(desk.register("anna", &owner).await, StatusCode::CREATED).await;
    let mode = |path: &str| {
        let path = desk.net.dir.path().join("user-1/users").join(path);
        std::fs::metadata(path).expect("a file").permissions().mode() & 0o777
    };
    assert_eq!((mode(""), mode("anna.json")), (0o700, 0o600));

    let view = body(desk.log_in("anna", json!({ "scopes": ["read", "read"] })).await, StatusCode::OK).await;
    assert_eq!(view["scopes"], json!(["read"]));
    let reader = view["token"].as_str().expect("a token").to_owned();
    assert_eq!(desk.status("/v1/files", &reader).await, StatusCode::OK);
    let post = desk.ask(Method::POST, "/v1/files?name=x", &reader).body("x").send().await.expect("an answer");
    let told = body(post, StatusCode::FORBIDDEN).await;
    assert!(told["detail"].as_str().is_some_and(|text| text.contains("write")), "{told}");
    let id = "0".repeat(64);
    let delete = desk.ask(Method::DELETE, &format!("/v1/files/{id}"), &reader).send().await.expect("an answer");
    body(delete, StatusCode::FORBIDDEN).await;
    body(desk.post("/v1/transfers", &reader, json!({ "to": id, "amount": 1 })).await, StatusCode::FORBIDDEN).await;
    body(desk.log_in("anna", json!({ "scopes": ["admin"] })).await, StatusCode::UNPROCESSABLE_ENTITY).await;
    replaces_without_losing(&desk).await;

    let short = body(desk.log_in("anna", json!({ "expires_s": 1 })).await, StatusCode::OK).await;
    let short = short["token"].as_str().expect("a token").to_owned();
    let end = Instant::now() + PATIENCE;
    while desk.status("/v1/auth/me", &short).await != StatusCode::UNAUTHORIZED {
        assert!(Instant::now() < end, "it does not expire");
    }

    let (first, second) = (desk.token("anna").await, desk.token("anna").await);
    assert_eq!(desk.post("/v1/auth/logout", &first, json!({})).await.status(), StatusCode::NO_CONTENT);
    assert_eq!(desk.status("/v1/auth/me", &first).await, StatusCode::UNAUTHORIZED);
    assert_eq!(desk.status("/v1/auth/me", &second).await, StatusCode::OK);

    let change = json!({ "old_password": PASSWORD, "new_password": "battery staple" });
    let third = desk.token("anna").await;
    assert_eq!(desk.post("/v1/auth/password", &second, change.clone()).await.status(), StatusCode::NO_CONTENT);
    assert_eq!(desk.status("/v1/auth/me", &second).await, StatusCode::OK, "the login that changed it goes on");
    assert_eq!(desk.status("/v1/auth/me", &third).await, StatusCode::UNAUTHORIZED);
    body(desk.post("/v1/auth/password", &second, change).await, StatusCode::UNAUTHORIZED).await;

    desk.net.kill("user-1");
    desk.net.start("user-1");
    assert_eq!(desk.status("/v1/auth/me", &second).await, StatusCode::UNAUTHORIZED);
    body(desk.log_in("anna", json!({})).await, StatusCode::UNAUTHORIZED).await;
    for _ in 0..6 {
        body(desk.log_in("anna", json!({ "password": "battery staple" })).await, StatusCode::OK).await;
    }
    let full = desk.log_in("anna", json!({ "password": "battery staple" })).await;
    assert_eq!(header(&full, RETRY_AFTER), "60");
    body(full, StatusCode::SERVICE_UNAVAILABLE).await;
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_name_cost_the_same_and_tell_the_same() {
    let desk = Desk::up(0, "logins_per_minute = 3\nlogins_per_minute_address = 12");
    body(desk.register("anna", &desk.owner()).await, StatusCode::CREATED).await;
    let mut told = Vec::new();
    for name in ["anna", "nobody"] {
        let before = desk.hashes().await;
        told.push(body(desk.log_in(name, json!({ "password": "not this one" })).await, StatusCode::UNAUTHORIZED).await);
        assert_eq!(desk.hashes().await, before + 1, "{name}");
    }
    assert_eq!(told[0], told[1]);
    // A name's tries are bounded, whether somebody has it or not, and cost nothing then.
    for name in ["anna", "nobody"] {
        for _ in 0..2 {
            body(desk.log_in(name, json!({ "password": "nor this one" })).await, StatusCode::UNAUTHORIZED).await;
        }
        let before = desk.hashes().await;
        let early = desk.log_in(name, json!({})).await;
        let wait: u64 = header(&early, RETRY_AFTER).parse().expect("seconds");
        assert!((1..=60).contains(&wait), "{wait}");
        body(early, StatusCode::TOO_MANY_REQUESTS).await;
        assert_eq!(desk.hashes().await, before);
    }
    // So are those of an address: nine were used up, and the twelve go by any name.
    // All at once, because an allowance comes back every five seconds, and a hash may take one.
    let names: Vec<_> = (0..24).map(|number| format!("other-{number}")).collect();
    let tries = names.iter().map(|name| async { desk.log_in(name, json!({})).await.status() });
    let told = futures::future::join_all(tries).await;
    assert!(told.contains(&StatusCode::TOO_MANY_REQUESTS), "{told:?}");
}

fn user<'a>(home: &'a str, args: &[&'a str]) -> Vec<&'a str> {
    [&["--home", home, "user"], args, &["--json"]].concat()
}

#[test]
fn the_owner_of_a_node_manages_its_users_by_the_command_line() {
    let desk = Desk::up(0, "");
    let home = desk.net.home("user-1");
    let password = |text: &str| {
        let path = desk.net.dir.path().join(format!("password-{}", text.len()));
        std::fs::write(&path, format!("{text}\n")).expect("a password file");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("a private file");
        path.to_str().expect("UTF-8").to_owned()
    };
    let (old, new, short) = (password(PASSWORD), password("battery staple 2"), password("short"));
    let added = run(&user(&home, &["add", "anna", "--password-file", &old]));
    assert_eq!(added["account"].as_str().map(str::len), Some(64), "{added}");
    assert_eq!(failure(&user(&home, &["add", "anna", "--password-file", &old])).0, 8);
    assert_eq!(failure(&user(&home, &["add", "bert", "--password-file", &short])).0, 2);
    assert_eq!(failure(&user(&home, &["add", "a/b", "--password-file", &old])).0, 2);
    let listed = run(&user(&home, &["list"]));
    assert_eq!(listed.as_array().map(|all| all.len()), Some(1), "{listed}");
    assert_eq!(failure(&user(&home, &["passwd", "anna", "--password-file", &new, "--new-password-file", &old])).0, 12);
    run(&user(&home, &["passwd", "anna", "--password-file", &old, "--new-password-file", &new]));
    run(&user(&home, &["remove", "anna"]));
    assert_eq!(failure(&user(&home, &["remove", "anna"])).0, 4);
    assert_eq!(run(&user(&home, &["list"])), json!([]));
}

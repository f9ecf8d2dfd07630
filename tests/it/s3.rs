//! The S3 gateway over real processes: programs that speak the protocol, and what no such program does.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use crate::processes::{Testnet, failure, json, until};

fn script(args: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/ops/s3-clients.sh"));
    let done = command.args(args).env("TRULLO", env!("CARGO_BIN_EXE_trullo")).output().expect("the script runs");
    let texts = [done.stdout, done.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    (done.status.code(), texts.concat())
}

#[test]
fn boto3_awscli_s3cmd_rclone_and_restic_are_content_at_their_default_settings() {
    let (code, said) = script(&["small"]);
    match code {
        Some(0) => assert!(said.contains("all clients are content"), "{said}"),
        Some(77) => println!("skipped, the clients cannot be installed here: {}", said.trim_end()),
        _ => panic!("{said}"),
    }
}

struct Gateway {
    net: Testnet,
}

impl Gateway {
    fn up() -> Self {
        let net = Testnet { dir: tempfile::tempdir().expect("a temporary directory") };
        let args =
            ["testnet", "up", "--dir", net.path(), "--validators", "1", "--storage", "1", "--users", "1", "--json"];
        json(&args);
        Self { net }
    }
    fn address(&self) -> String {
        let path = self.net.dir.path().join("user-1/s3.addr");
        std::fs::read_to_string(path).expect("the gateway says where it is").trim().to_owned()
    }
    fn cli(&self, args: &[&str]) -> serde_json::Value {
        let home = self.net.home("user-1");
        json(&[&["--home", &home, "--json"], args].concat())
    }
    /// The status line and the rest of the answer.
    fn ask(&self, request: &str) -> (String, String) {
        let mut stream = TcpStream::connect(self.address()).expect("the gateway listens");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
        stream.write_all(request.as_bytes()).expect("a request");
        let mut answer = Vec::new();
        // A reset after the answer is an end too.
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (status, rest) = answer.split_once("\r\n").unwrap_or((&answer, ""));
        (status.to_owned(), rest.to_owned())
    }
}

#[test]
fn access_keys_are_told_once_and_are_there_after_kill_9() {
    let gateway = Gateway::up();
    let home = gateway.net.home("user-1");
    let made = gateway.cli(&["s3", "keys", "add", "laptop", "--expires", "30d"]);
    let (id, secret) = (made["id"].as_str().expect("an id"), made["secret"].as_str().expect("a secret"));
    assert_eq!(secret.len(), 48);
    gateway.net.kill("user-1");
    gateway.net.start("user-1");
    let listed = gateway.cli(&["s3", "keys", "list"]);
    assert_eq!(listed.as_array().map(Vec::len), Some(1));
    assert_eq!((&listed[0]["id"], &listed[0]["name"]), (&made["id"], &made["name"]));
    assert!(listed[0]["expires_ms"].as_u64() > listed[0]["created_ms"].as_u64());
    assert!(listed[0].get("secret").is_none(), "{listed}");
    gateway.cli(&["s3", "keys", "remove", id]);
    assert_eq!(failure(&["--home", &home, "s3", "keys", "remove", id]).0, 4);
    assert_eq!(gateway.cli(&["s3", "keys", "list"]).as_array().map(Vec::len), Some(0));
}

#[test]
fn who_does_not_sign_is_refused_and_does_not_hold_up_the_node() {
    let gateway = Gateway::up();
    let close = "Host: x\r\nConnection: close\r\n";
    for (request, status, code) in [
        (format!("GET / HTTP/1.1\r\n{close}\r\n"), "403", "AccessDenied"),
        (format!("PUT /b/k HTTP/1.1\r\n{close}Content-Length: 1\r\n\r\nx"), "403", "AccessDenied"),
        (format!("PUT /b/k HTTP/1.1\r\n{close}Content-Length: 99999999999\r\n\r\n"), "400", "EntityTooLarge"),
        (
            format!(
                "POST /b HTTP/1.1\r\n{close}Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 9\r\n\r\n--x\r\n\r\n--"
            ),
            "501",
            "NotImplemented",
        ),
        (format!("GET /b?AWSAccessKeyId=a&Signature=b&Expires=9 HTTP/1.1\r\n{close}\r\n"), "403", "AccessDenied"),
        (format!("GET /b HTTP/1.1\r\n{close}Authorization: AWS a:b\r\n\r\n"), "400", "InvalidRequest"),
        (format!("GET /%ff HTTP/1.1\r\n{close}\r\n"), "400", "InvalidURI"),
    ] {
        let (line, rest) = gateway.ask(&request);
        assert!(line.contains(status), "{request}: {line} {rest}");
        assert!(rest.contains(&format!("<Code>{code}</Code>")), "{request}: {rest}");
    }
    // A client that asks first is told, and does not send its body: the connection is no place for a next request.
    let asks = "PUT /b/k HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
    let (line, rest) = gateway.ask(asks);
    assert!(line.contains("403") && rest.to_ascii_lowercase().contains("connection: close"), "{line} {rest}");
    until("the node is well", Duration::from_secs(20), || gateway.net.node("user-1")["ok"] == true);
}

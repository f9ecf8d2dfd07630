//! What nodes do with damaged files, full disks, garbage on their ports and wrong requests: the one that is hit says
//! so in one clear line, the others go on, and nothing that was acknowledged is lost.

use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use trullo::api::ApiServer;
use trullo::crypto::keys::{KdfParams, Keystore, KeystoreError};
use trullo::ledger::record::DealStatus;
use trullo::ledger::{Key, Record};
use trullo::node::files::get::OpenFile;
use trullo::node::files::put::Missing;
use trullo::node::{Handle, NodeError, NodeFailure};
use trullo::store::{Options, Store, StoreError};
use trullo::types::{Amount, FileId, Height};
use trullo::wire::PublicManifest;

use crate::cluster::{Cluster, PATIENCE};
use crate::nodes::{get_bytes, put_bytes, sample};

/// The warnings of all nodes in this process.
static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Sink;

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LOG.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn keep_log() {
    let log = tracing_subscriber::fmt().with_max_level(tracing::Level::WARN).with_ansi(false);
    // Another test of this process may have done it.
    let _ = log.with_writer(|| Sink).try_init();
}

fn log_has(parts: &[&str]) -> bool {
    let log = String::from_utf8_lossy(&LOG.lock().unwrap_or_else(PoisonError::into_inner)).into_owned();
    log.lines().any(|line| parts.iter().all(|part| line.contains(part)))
}

fn flip(path: &Path, offsets: impl Iterator<Item = u64>) {
    let mut file = std::fs::File::options().read(true).write(true).open(path).expect("a file to damage");
    for offset in offsets {
        let mut byte = [0];
        file.seek(SeekFrom::Start(offset)).expect("an offset");
        file.read_exact(&mut byte).expect("a byte");
        file.seek(SeekFrom::Start(offset)).expect("an offset");
        file.write_all(&[byte[0] ^ 0x10]).expect("a damaged byte");
    }
}

fn height(cluster: &Cluster, name: &str) -> u64 {
    cluster.handle(name).reader().tip().map_or(0, |tip| tip.height.get())
}

/// Whether the running members go on.
async fn go_on(cluster: &Cluster, witness: &str) {
    cluster.reach(height(cluster, witness) + 5).await;
}

fn failure(started: Result<Handle, NodeFailure>) -> NodeFailure {
    match started {
        Err(failure) => failure,
        Ok(_) => panic!("the node starts all the same"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_another_genesis_says_so_and_keeps_its_data() {
    let mut cluster = Cluster::new(4, 0, 0);
    cluster.start_all().await;
    cluster.reach(2).await;
    cluster.stop("validator-4").await;
    let right = cluster.genesis.clone();
    cluster.genesis.accounts[0].balance = Amount::new(1);
    let failure = failure(cluster.try_start("validator-4").await);
    let (found, expected) = (right.chain_id(), cluster.genesis.chain_id());
    assert!(
        matches!(failure, NodeFailure::Store(StoreError::WrongChain { found: f, expected: e }) if (f, e) == (found, expected))
    );
    assert!(failure.to_string().contains("use the genesis file it was made with"), "{failure}");
    cluster.genesis = right;
    cluster.start("validator-4").await;
    go_on(&cluster, "validator-1").await;
    cluster.stop_all().await;
}

/// Damages a database in every way at hand; each start must say what is wrong, and with the bytes back all is well.
async fn damage(cluster: &mut Cluster, name: &str, file: &str) {
    let path = cluster.home(name).join(file);
    let good = std::fs::read(&path).expect("a database");
    let len = good.len() as u64;
    type Harm = (&'static str, fn(&Path, u64));
    let harms: [Harm; 6] = [
        ("empty", |path, _| std::fs::write(path, []).expect("an empty file")),
        ("cut short", |path, len| {
            std::fs::File::options().write(true).open(path).and_then(|file| file.set_len(len / 2)).expect("a cut");
        }),
        ("zeroed head", |path, _| {
            let file = std::fs::File::options().write(true).open(path);
            file.and_then(|mut file| file.write_all(&[0; 512])).expect("a zeroed head");
        }),
        ("text", |path, _| std::fs::write(path, "not a database\n".repeat(1_000)).expect("another file")),
        ("a bit in each 512 bytes", |path, len| flip(path, (256..len).step_by(512))),
        ("a bit in each page", |path, len| flip(path, (4_096..len).step_by(4_096))),
    ];
    for (what, harm) in harms {
        harm(&path, len);
        let failure = failure(cluster.try_start(name).await);
        let text = failure.to_string();
        assert!(matches!(failure, NodeFailure::Store(StoreError::Corrupted { .. })), "{what}: {failure:?}");
        assert!(text.lines().count() == 1 && text.contains("restore it from a backup"), "{what}: {text}");
        std::fs::write(&path, &good).expect("the good bytes");
    }
    cluster.start(name).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_database_stops_its_node_alone() {
    let mut cluster = Cluster::new(4, 3, 1);
    cluster.start_all().await;
    cluster.reach(3).await;
    let user = cluster.handle("user-1");
    let file = put_bytes(&user, sample(600_000)).await.expect("a put").file;
    cluster.stop("validator-2").await;
    cluster.stop("storage-1").await;
    damage(&mut cluster, "validator-2", "node.redb").await;
    damage(&mut cluster, "storage-1", "local.redb").await;
    go_on(&cluster, "validator-1").await;
    assert!(get_bytes(&user, file, None).await.expect("readable") == sample(600_000));
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_overwritten_under_a_running_node_stops_that_node_at_most() {
    let mut cluster = Cluster::new(4, 0, 0);
    cluster.start_all().await;
    cluster.reach(3).await;
    let path = cluster.home("validator-3").join("node.redb");
    let len = std::fs::metadata(&path).expect("a database").len();
    flip(&path, (0..len).step_by(64));
    let stopped = cluster.handle("validator-3").stop_token().clone();
    let before = height(&cluster, "validator-1");
    for name in ["validator-1", "validator-2", "validator-4"] {
        let mut tips = cluster.handle(name).reader().watch();
        let reached = tips.wait_for(|tip| tip.as_ref().is_some_and(|tip| tip.height.get() >= before + 10));
        tokio::time::timeout(PATIENCE, reached).await.expect("the others go on").expect("it runs");
    }
    stopped.cancel();
    match cluster.ended("validator-3").await {
        // What it needed was in memory.
        Ok(()) => {}
        Err(NodeFailure::Store(error)) => assert!(error.to_string().lines().count() == 1, "{error}"),
        Err(other) => panic!("{other:?}"),
    }
    if let Err(failure) = cluster.try_start("validator-3").await {
        assert!(matches!(failure, NodeFailure::Store(StoreError::Corrupted { .. })), "{failure:?}");
    }
    cluster.stop_all().await;
}

fn manifest(handle: &Handle, file: FileId) -> PublicManifest {
    match handle.record(&Key::Manifest(file)).expect("a readable state") {
        Some(Record::Manifest(manifest)) => *manifest,
        other => panic!("no manifest: {other:?}"),
    }
}

/// Where each slot of a file lies, in the order of the slots.
fn slot_files(cluster: &Cluster, manifest: &PublicManifest) -> Vec<PathBuf> {
    let find = |root: String| {
        let places = (1..=3).map(|n| cluster.home(&format!("storage-{n}")).join("slots").join(&root[..2]).join(&root));
        places.into_iter().find(|path| path.exists()).expect("a node holds the slot")
    };
    manifest.slots.iter().map(|slot| find(slot.root.to_string())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_slot_is_replaced_by_others_and_the_log_says_where() {
    keep_log();
    let mut cluster = Cluster::new(4, 3, 1);
    cluster.start_all().await;
    cluster.reach(1).await;
    let user = cluster.handle("user-1");
    let bytes = sample(1_500_000);
    let file = put_bytes(&user, bytes.clone()).await.expect("a put").file;
    let manifest = manifest(&user, file);
    let path = slot_files(&cluster, &manifest)[0].clone();
    let root = manifest.slots[0].root.to_string();
    let good = std::fs::read(&path).expect("a slot");
    let len = manifest.slots[0].len;
    assert!(len > 600_000, "three blocks");

    flip(&path, [300_000].into_iter());
    assert!(get_bytes(&user, file, None).await.expect("readable") == bytes);
    assert!(log_has(&[&root, "damaged at offset 262144"]), "a flipped byte in the second block");

    std::fs::write(&path, &good[..400_000]).expect("a cut slot");
    assert!(get_bytes(&user, file, None).await.expect("readable") == bytes);

    flip_after(&path, &good, len);
    assert!(get_bytes(&user, file, None).await.expect("readable") == bytes);

    std::fs::remove_file(&path).expect("a lost slot");
    assert!(get_bytes(&user, file, None).await.expect("readable") == bytes);
    let part = get_bytes(&user, file, Some(700_000..800_000)).await.expect("a range");
    assert!(part == bytes[700_000..800_000]);
    cluster.stop_all().await;
}

/// The slot with a flipped bit among the values of its blocks, which stand behind its bytes.
fn flip_after(path: &Path, good: &[u8], len: u64) {
    std::fs::write(path, good).expect("the good bytes");
    flip(path, [len + 5].into_iter());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_storage_node_leaves_the_file_pending_with_its_reason_and_room_for_none_is_an_error() {
    let mut cluster = Cluster::new(4, 3, 1);
    cluster.member("storage-2").capacity = "64KiB";
    cluster.start_all().await;
    cluster.reach(1).await;
    let user = cluster.handle("user-1");
    let done = put_bytes(&user, sample(1_000_000)).await.expect("a put");
    assert!(matches!(done.status, DealStatus::Pending { .. }), "{done:?}");
    let [Missing { why: reason, .. }] = done.missing.as_slice() else { panic!("one node is full: {done:?}") };
    assert!(reason.contains("no room for") && reason.contains("give the node more capacity"), "{reason}");
    assert!(get_bytes(&user, done.file, None).await.expect("readable") == sample(1_000_000));

    for name in ["storage-1", "storage-3"] {
        cluster.stop(name).await;
        cluster.member(name).capacity = "64KiB";
        cluster.start(name).await;
    }
    let failure = put_bytes(&user, sample(1_000_001)).await.expect_err("no room anywhere");
    assert!(matches!(failure, NodeError::Unavailable(_)), "{failure:?}");
    assert!(failure.to_string().contains("storage nodes have to confirm their slots, and too few do"), "{failure}");
    go_on(&cluster, "validator-1").await;
    cluster.stop_all().await;
}

/// Bytes that no protocol of ours begins with, and some that begin well and go wrong.
fn garbage() -> Vec<Vec<u8>> {
    let select = b"\x13/multistream/1.0.0\n\x07/noise\n".to_vec();
    let mut noise = select.clone();
    noise.extend([0xff; 70_000]);
    vec![
        Vec::new(),
        vec![0],
        vec![0xff; 1 << 20],
        sample(300_000),
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        select,
        noise,
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01".repeat(1_000),
    ]
}

/// Sends bytes and reads until the other side closes or says nothing more.
async fn throw(port: u16, bytes: &[u8], keep: &mut Vec<TcpStream>) {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)).await else { return };
    // The other side may close before it has read all.
    let _ = stream.write_all(bytes).await;
    keep.push(stream);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_on_the_ports_for_peers_disturbs_nobody() {
    let mut cluster = Cluster::new(4, 0, 0);
    cluster.start_all().await;
    cluster.reach(2).await;
    let mut half_open = Vec::new();
    for _ in 0..5 {
        for bytes in garbage() {
            for name in ["validator-1", "validator-2"] {
                throw(cluster.port(name), &bytes, &mut half_open).await;
            }
        }
    }
    go_on(&cluster, "validator-1").await;
    for name in ["validator-1", "validator-2"] {
        assert_eq!(cluster.handle(name).net().connected().borrow().len(), 3, "{name} keeps its peers");
    }
    drop(half_open);
    go_on(&cluster, "validator-1").await;
    cluster.stop_all().await;
}

/// The status and the body of an answer to a raw request.
async fn ask(server: &ApiServer, head: &str, body: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(server.address).await.expect("the API listens");
    let host = server.address;
    let request = format!("{head}\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    // A request that is refused early is not read to its end.
    let _ = stream.write_all(&[request.as_bytes(), body].concat()).await;
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    read.expect("an answer in time").ok();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    (status, answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_requests_get_a_reason_and_a_code_and_garbage_is_dropped() {
    let mut cluster = Cluster::new(4, 0, 1);
    cluster.start_all().await;
    cluster.reach(1).await;
    let user = cluster.handle("user-1");
    let listen = "127.0.0.1:0".parse().expect("an address");
    let server = trullo::api::serve(user.clone(), listen, "secret").await.expect("the API listens");
    let unknown = FileId::from_bytes([7; 32]);

    let good = "\r\nAuthorization: Bearer secret";
    let cases = [
        (format!("GET /v1/files/{unknown} HTTP/1.1{good}"), 404, "\"code\":4"),
        (format!("GET /v1/files/{unknown}/info HTTP/1.1{good}"), 404, "is not known here"),
        (format!("GET /v1/proofs/file/{unknown} HTTP/1.1{good}"), 404, "is not known here"),
        (format!("DELETE /v1/files/{unknown} HTTP/1.1{good}"), 404, "is not known here"),
        (format!("GET /v1/files/abc HTTP/1.1{good}"), 400, "64 hexadecimal digits"),
        ("GET /v1/files HTTP/1.1\r\nAuthorization: Bearer wrong".to_owned(), 401, "\"code\":12"),
        ("GET /v1/files HTTP/1.1".to_owned(), 401, "content of api.token in the node's home"),
        (format!("GET /v1/files HTTP/1.1{good}\r\nOrigin: http://page"), 403, "requests of other web pages"),
        (format!("GET /v1/nothing HTTP/1.1{good}"), 404, "no such route"),
        (format!("GET /v1/events?since=99999999 HTTP/1.1{good}"), 404, "is not final here yet"),
        (format!("POST /v1/txs HTTP/1.1{good}\r\nContent-Length: 3"), 400, "malformed bytes"),
        (
            format!("POST /v1/transfers HTTP/1.1{good}\r\nContent-Type: application/json\r\nContent-Length: 3"),
            400,
            "code",
        ),
        (
            format!(
                "POST /v1/files?name=a&data_shards=1&parity_shards=0 HTTP/1.1{good}\r\nContent-Length: 18446744073709551613"
            ),
            409,
            "storage nodes",
        ),
        (
            format!("POST /v1/files?name=a&data_shards=0&parity_shards=0 HTTP/1.1{good}\r\nContent-Length: 3"),
            400,
            "shard",
        ),
    ];
    for (head, status, text) in &cases {
        let (have, body) = ask(&server, head, b"abc").await;
        assert!(have == *status && body.contains(text), "{head}: {have} {body}");
    }
    let mut half_open = Vec::new();
    for bytes in garbage() {
        throw(server.address.port(), &bytes, &mut half_open).await;
    }
    let (status, _) = ask(&server, "GET /livez HTTP/1.1", b"").await;
    assert_eq!(status, 200);

    let opened = OpenFile::open(&user, unknown).err().expect("no such file");
    assert!(
        matches!(opened, NodeError::NotFound { .. }) && opened.to_string().contains("is not known here"),
        "{opened}"
    );
    go_on(&cluster, "validator-1").await;
    drop(half_open);
    cluster.stop_all().await;
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_from_a_height_that_was_pruned_are_gone_and_later_ones_come() {
    let mut cluster = Cluster::new(1, 0, 0);
    cluster.start_all().await;
    cluster.reach(6).await;
    cluster.stop("validator-1").await;
    let store = Store::open(&cluster.home("validator-1").join("node.redb"), &Options::default()).expect("a database");
    let mut batch = store.batch().expect("a write");
    assert_eq!(batch.prune_bodies(Height::new(5), 100).expect("a write"), 5);
    batch.commit().expect("a commit");
    drop(store);
    let node = cluster.start("validator-1").await;
    let listen = "127.0.0.1:0".parse().expect("an address");
    let server = trullo::api::serve(node, listen, "secret").await.expect("the API listens");
    let head = |since: u64| format!("GET /v1/events?since={since} HTTP/1.1\r\nAuthorization: Bearer secret");
    let (status, body) = ask(&server, &head(3), b"").await;
    assert!(status == 410 && body.contains("the body of block 4 is not kept here"), "{status} {body}");
    let mut stream = TcpStream::connect(server.address).await.expect("the API listens");
    let request = format!("{}\r\nHost: {}\r\n\r\n", head(4), server.address);
    stream.write_all(request.as_bytes()).await.expect("it takes a request");
    let mut answer = String::new();
    let reading = async {
        let mut piece = [0; 4_096];
        while !answer.contains("\"height\":5") {
            let read = stream.read(&mut piece).await.expect("an answer");
            assert!(read > 0, "{answer}");
            answer.push_str(&String::from_utf8_lossy(&piece[..read]));
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("the first block that is there comes");
    drop(stream);
    cluster.stop_all().await;
    server.finish().await;
}

#[test]
fn a_wrong_password_is_one_clear_error_and_costs_no_more_than_a_right_one() {
    let keystore = Keystore::create(&[1; 32], b"right", KdfParams::TESTNET, [1; 16], [2; 24]).expect("a keystore");
    assert_eq!(keystore.open(b"wrong").err(), Some(KeystoreError::Password));
    assert_eq!(KeystoreError::Password.to_string(), "wrong password, or the keystore is damaged");
}

//! Folders by the node's own interface: changes at once, two devices of one account, and what is left behind.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use trullo::files::tree::{Batch, Entry, Expect, Item, Kind, Op, Query, TreeError};
use trullo::ledger::{Key, Record};
use trullo::node::tree::{ContentRequest, Tree};
use trullo::node::{Handle, NodeError};

use crate::cluster::{Cluster, PATIENCE};
use crate::nodes::sample;

async fn started() -> (Cluster, Tree) {
    let mut cluster = Cluster::new(1, 3, 2);
    cluster.member("user-2").keys = cluster.member("user-1").keys.clone();
    cluster.start_all().await;
    cluster.reach(1).await;
    let tree = Tree::of(&cluster.handle("user-1")).expect("an account");
    (cluster, tree)
}

async fn file(tree: &Tree, bytes: Vec<u8>) -> Result<Entry, NodeError> {
    let input =
        futures::stream::iter(bytes.chunks(100_000).map(|p| Ok::<_, std::io::Error>(Bytes::copy_from_slice(p))));
    let request = ContentRequest { len: Some(bytes.len() as u64), ..ContentRequest::default() };
    Ok(Entry::of(Kind::File(tree.put_content(request, input).await?)))
}

fn op(path: &str, entry: Entry, keep: usize) -> Op {
    Op::Put { path: path.to_owned(), entry: Box::new(entry), keep, expect: Expect::Any }
}

async fn apply(tree: &Tree, ops: Vec<Op>) -> Result<(), NodeError> {
    tree.apply(Batch { ops, folders: true, ..Batch::default() }, Vec::new()).await.map(drop)
}

async fn put(tree: &Tree, path: &str, bytes: Vec<u8>) -> Result<(), NodeError> {
    let entry = file(tree, bytes).await?;
    apply(tree, vec![op(path, entry, 0)]).await
}

async fn read(tree: &Tree, path: &str) -> Vec<u8> {
    let entry = tree.stat(path).await.expect("a readable tree").expect("an entry");
    let content = entry.content().expect("a file").clone();
    let (len, mut pieces) = tree.read_content(&content, None).await.expect("readable");
    let mut bytes = Vec::new();
    while let Some(piece) = pieces.recv().await {
        bytes.extend_from_slice(&piece.expect("readable"));
    }
    assert_eq!((bytes.len() as u64, content.hash), (len, Some(*blake3::hash(&bytes).as_bytes())));
    bytes
}

async fn paths(tree: &Tree) -> Vec<String> {
    let listing = tree.list(&Query { limit: 1_000, ..Query::default() }).await.expect("a readable tree");
    assert!(!listing.more);
    listing.items.iter().map(|item| item.key().to_owned()).collect()
}

/// Stored files of the account whose deals are open.
fn open_files(handle: &Handle) -> usize {
    let mut open = 0;
    let each = handle.each_own_file(|_, deal| {
        open += usize::from(deal.status.is_open());
        Ok(())
    });
    each.expect("a readable state");
    open
}

async fn until(handle: &Handle, what: impl Fn() -> bool) {
    let mut tips = handle.reader().watch();
    let waiting = async {
        while !what() {
            tips.changed().await.expect("it runs on");
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("in time");
}

fn actions(handle: &Handle) -> u64 {
    let account = handle.identity().account.expect("an account");
    match handle.record(&Key::Account(account)).expect("a readable state") {
        Some(Record::Account(account)) => account.nonce,
        _ => 0,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_that_come_at_once_are_written_together_and_what_they_replace_is_freed() {
    let (mut cluster, tree) = started().await;
    let user = cluster.handle("user-1");
    put(&tree, "docs/large", sample(1_500_000)).await.expect("final");
    assert!(read(&tree, "docs/large").await == sample(1_500_000));
    put(&tree, "docs/empty", Vec::new()).await.expect("final");
    assert!(read(&tree, "docs/empty").await.is_empty());
    let before = actions(&user);
    let links = (0..40).map(|n| {
        let (tree, entry) = (tree.clone(), Entry::of(Kind::Symlink(format!("to {n}"))));
        async move { apply(&tree, vec![op(&format!("links/{n:02}"), entry, 0)]).await }
    });
    for done in futures::future::join_all(links).await {
        done.expect("each is final");
    }
    assert!(actions(&user) - before < 40, "{} actions of the account for 40 changes", actions(&user) - before);
    assert_eq!(paths(&tree).await.len(), 42);
    // One page and one content are referred to.
    until(&user, || open_files(&user) == 2).await;
    let first = (0..8).map(|_| {
        let (tree, entry) = (tree.clone(), Box::new(Entry::of(Kind::Symlink("the first".to_owned()))));
        async move {
            let path = "links/once".to_owned();
            let done = apply(&tree, vec![Op::Put { path: path.clone(), entry, keep: 0, expect: Expect::Absent }]).await;
            let found = tree.stat(&path).await.expect("a readable tree");
            assert!(found.is_some(), "told {done:?}, which is not yet so");
            done.is_ok()
        }
    });
    let first = futures::future::join_all(first).await;
    assert_eq!(first.into_iter().filter(|done| *done).count(), 1);
    apply(&tree, vec![Op::Remove { path: "links/once".to_owned(), expect: Expect::Present }]).await.expect("final");
    until(&user, || open_files(&user) == 2).await;
    let refused = apply(&tree, vec![op("docs/large/below", Entry::of(Kind::Symlink("x".to_owned())), 0)]).await;
    assert!(matches!(refused, Err(NodeError::Tree(TreeError::Kind { .. }))), "{refused:?}");
    let top = Query { prefix: String::new(), delimiter: "/".to_owned(), limit: 9, ..Query::default() };
    let folder = tree.list(&top).await.expect("a readable tree").items;
    assert_eq!(folder, [Item::Folder("docs/".to_owned(), None), Item::Folder("links/".to_owned(), None)]);
    apply(&tree, vec![Op::RemoveAll { prefix: String::new() }]).await.expect("final");
    assert_eq!((tree.root().expect("a readable state"), paths(&tree).await), (None, Vec::new()));
    until(&user, || open_files(&user) == 0).await;
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_devices_of_one_account_never_lose_each_others_changes() {
    let (mut cluster, tree) = started().await;
    let other = Tree::of(&cluster.handle("user-2")).expect("an account");
    let writes = |tree: Tree, device: &'static str| async move {
        for n in 0..6 {
            put(&tree, &format!("{device}/{n}"), format!("{n} of {device}").into_bytes()).await.expect("final");
        }
    };
    tokio::join!(writes(tree.clone(), "one"), writes(other.clone(), "two"));
    let user = cluster.handle("user-1");
    let tip = cluster.handle("user-2").reader().tip().expect("a tip").height;
    until(&user, || user.reader().tip().is_some_and(|mine| mine.height >= tip)).await;
    let all: Vec<_> = ["one", "two"].into_iter().flat_map(|who| (0..6).map(move |n| format!("{who}/{n}"))).collect();
    assert_eq!(paths(&tree).await, all);
    assert_eq!(read(&tree, "two/3").await, b"3 of two");
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_device_has_put_is_no_garbage_to_another_that_knows_older_folders() {
    let (mut cluster, tree) = started().await;
    let other = Tree::of(&cluster.handle("user-2")).expect("an account");
    let written = async {
        let mut written = Vec::new();
        for n in 0..8_u8 {
            // One that goes before its path is final is told, and is no more said to be there.
            match put(&other, &format!("from two/{n}"), vec![n; 100]).await {
                Ok(()) => written.push(n),
                Err(NodeError::Tree(TreeError::Gone(_))) => {}
                Err(NodeError::Rejected { code: "ended", .. }) => {}
                Err(NodeError::Unavailable(why)) if why.contains("deleted it as garbage") => {}
                Err(error) => panic!("{error}"),
            }
        }
        written
    };
    let mut written = std::pin::pin!(written);
    let written = loop {
        tokio::select! {
            written = &mut written => break written,
            looked = tree.collect(Duration::ZERO) => drop(looked.expect("a look")),
        }
    };
    for n in written {
        assert_eq!(read(&other, &format!("from two/{n}")).await, vec![n; 100]);
    }
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_come_back_and_a_content_that_is_gone_is_never_named() {
    let (mut cluster, tree) = started().await;
    let user = cluster.handle("user-1");
    let contents: Vec<Vec<u8>> = (1..=3_u8).map(|n| vec![n; 1_000]).collect();
    for bytes in &contents {
        let entry = file(&tree, bytes.clone()).await.expect("a content");
        apply(&tree, vec![op("notes", entry, 1)]).await.expect("final");
    }
    let entry = tree.stat("notes").await.expect("a readable tree").expect("an entry");
    assert_eq!(entry.versions.iter().map(|version| version.content.number).collect::<Vec<_>>(), [2]);
    apply(&tree, vec![Op::Restore { path: "notes".to_owned(), number: 2, keep: 1 }]).await.expect("final");
    assert_eq!(read(&tree, "notes").await, contents[1]);
    let gone = entry.clone();
    apply(&tree, vec![Op::Remove { path: "notes".to_owned(), expect: Expect::Present }]).await.expect("final");
    let refused = apply(&tree, vec![op("again", gone, 0)]).await;
    assert!(matches!(refused, Err(NodeError::Tree(TreeError::Gone(_)))), "{refused:?}");
    until(&user, || open_files(&user) == 0).await;
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_refers_to_is_collected_and_what_is_on_its_way_is_not() {
    let (mut cluster, tree) = started().await;
    let user = cluster.handle("user-1");
    put(&tree, "kept", b"kept".to_vec()).await.expect("final");
    file(&tree, b"forgotten".to_vec()).await.expect("a content that no path gets");
    let session = Some([7; 32]);
    let input = || futures::stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"on its way"))]);
    let request = || ContentRequest { len: Some(10), session, ..ContentRequest::default() };
    let staged = tree.put_content(request(), input()).await.expect("a content");
    assert_eq!(open_files(&user), 4, "a page, and three contents");
    let alone = crate::nodes::put_bytes(&user, b"put alone".to_vec()).await.expect("a put").file;
    let day = tree.collect(Duration::from_secs(86_400)).await.expect("a look");
    assert_eq!((day.reached, day.deleted, day.young), (2, 0, 1));
    // The node forgets nothing that it has begun, whoever asks it to go on.
    drop((tree, user));
    cluster.stop("user-1").await;
    let user = cluster.start("user-1").await;
    let tree = Tree::of(&user).expect("an account");
    assert_eq!(tree.staged(&[7; 32]).expect("a readable store"), Some(staged.clone()));
    let arrived = vec![op("arrived", Entry::of(Kind::File(staged)), 0)];
    let refused = apply(&tree, arrived.clone()).await;
    assert!(
        matches!(refused, Err(NodeError::Tree(TreeError::Gone(_)))),
        "whose it is, only its session says: {refused:?}"
    );
    let batch = Batch { ops: arrived, folders: true, ..Batch::default() };
    tree.apply(batch, vec![[7; 32]]).await.expect("final");
    let now = tree.collect(Duration::ZERO).await.expect("a look");
    assert_eq!((now.reached, now.deleted), (3, 1));
    let names: BTreeSet<_> = paths(&tree).await.into_iter().collect();
    assert_eq!(names, BTreeSet::from(["arrived".to_owned(), "kept".to_owned()]));
    assert_eq!(read(&tree, "arrived").await, b"on its way");
    assert!(user.file(&alone).expect("a deal").0.status.is_open(), "what was put alone is no garbage");
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_a_folder_lasts_longer_with_its_pages_and_pages_by_themselves() {
    let (mut cluster, tree) = started().await;
    let user = cluster.handle("user-1");
    put(&tree, "docs/one", vec![1; 100]).await.expect("final");
    put(&tree, "other", vec![2; 100]).await.expect("final");
    until(&user, || open_files(&user) == 3).await;
    let ends = |tree: &Tree, path: &'static str| {
        let (tree, user) = (tree.clone(), user.clone());
        async move {
            let file = match path {
                "" => tree.root().expect("a readable state").expect("a root"),
                path => tree.stat(path).await.expect("a tree").expect("an entry").files().next().expect("a content"),
            };
            user.file(&file).expect("a deal").0.ends.get()
        }
    };
    let before = [ends(&tree, "docs/one").await, ends(&tree, "other").await, ends(&tree, "").await];
    let done = tree.renew("docs", 5).await.expect("a readable tree");
    assert_eq!((done.contents, done.pages, done.failed), (1, 1, Vec::new()));
    let after = [ends(&tree, "docs/one").await, ends(&tree, "other").await, ends(&tree, "").await];
    assert_eq!(after, [before[0] + 100, before[1], before[2] + 100], "5 epochs of 20 blocks");
    cluster.stop_all().await;
}

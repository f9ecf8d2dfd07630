//! The tree against a plain map, its bounds, and its bytes.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use proptest::prelude::*;

use super::*;
use crate::crypto::{Domain, hash};

/// Pages by id, as a node would have stored them.
#[derive(Default)]
struct Store {
    pages: HashMap<FileId, Arc<Page>>,
    root: Option<FileId>,
}

/// Knows only the pages that were asked for.
#[derive(Default)]
struct Read<'a> {
    store: Option<&'a Store>,
    read: HashMap<FileId, Arc<Page>>,
}

impl Source for Read<'_> {
    fn page(&self, id: &FileId) -> Option<Arc<Page>> {
        self.read.get(id).cloned()
    }
}

impl<'a> Read<'a> {
    fn of(store: &'a Store) -> Self {
        Self { store: Some(store), read: HashMap::new() }
    }
    /// Calls until nothing is missing.
    fn with<T>(&mut self, mut call: impl FnMut(&Self) -> Result<T, Stop>) -> Result<T, Stop> {
        loop {
            match call(self) {
                Err(Stop::Missing(ids)) => {
                    assert!(!ids.is_empty(), "what is missing is named");
                    for id in ids {
                        let page = self.store.and_then(|store| store.pages.get(&id)).expect("a page that was written");
                        assert!(self.read.insert(id, Arc::clone(page)).is_none(), "nothing is asked for twice");
                    }
                }
                done => return done,
            }
        }
    }
}

impl Store {
    fn find(&self, path: &str) -> Option<Entry> {
        Read::of(self).with(|read| find(self.root.as_ref(), path, read)).expect("a sound tree")
    }
    fn list(&self, query: &Query) -> (Vec<Item>, bool) {
        Read::of(self).with(|read| list(self.root.as_ref(), query, read)).expect("a sound tree")
    }
    fn all(&self) -> BTreeMap<String, Entry> {
        let (mut all, mut query) = (BTreeMap::new(), Query { limit: 7, ..Query::default() });
        loop {
            let (items, more) = self.list(&query);
            query.after = items.last().map(|item| item.key().to_owned()).unwrap_or_default();
            for item in items {
                let Item::Entry(path, entry) = item else { panic!("a folder without a delimiter") };
                assert!(all.insert(path, entry).is_none(), "an item comes once");
            }
            if !more {
                return all;
            }
        }
    }
    /// Carries out a batch, writes what is new, and forgets what is replaced. Gives the stored files that were freed.
    fn apply(&mut self, batch: &Batch) -> Result<Vec<FileId>, Stop> {
        let mut read = Read::of(self);
        let view = read.with(|read| {
            let mut view = View::new(self.root, read);
            view.apply(batch).map(|_| view.over(&()))
        })?;
        let done = read.with(|read| update(self.root.as_ref(), view.changes(), read)).expect("a sound tree");
        let (mut ids, mut written) = (Vec::new(), Vec::new());
        for page in &done.pages {
            let page = page.page(|at| ids[at]);
            let bytes = page.clone().bytes();
            assert!(bytes.len() <= limits::TREE_PAGE_BYTES_MAX, "a page of {} bytes", bytes.len());
            assert_eq!(Page::from_bytes(&bytes).as_ref(), Ok(&page));
            let id = FileId::from_bytes(hash(Domain::File, &bytes));
            ids.push(id);
            written.push((id, Arc::new(page)));
        }
        for page in &done.replaced {
            assert!(self.pages.remove(page).is_some(), "a page is replaced once");
        }
        self.pages.extend(written);
        self.root = done.root.map(|root| match root {
            PageRef::Old(id) => id,
            PageRef::New(at) => ids[at],
        });
        Ok(view.freed())
    }
    /// Pages that the root leads to; each is on the level below its parent's.
    fn reached(&self) -> BTreeSet<FileId> {
        let (mut reached, mut open) = (BTreeSet::new(), self.root.into_iter().collect::<Vec<_>>());
        while let Some(id) = open.pop() {
            assert!(reached.insert(id), "a page has one parent");
            if let Page::Inner { level, children } = &*self.pages[&id] {
                for child in children {
                    assert_eq!(self.pages[&child.page].level(), level - 1);
                    open.push(child.page);
                }
            }
        }
        reached
    }
}

fn id(n: u64) -> FileId {
    FileId::from_bytes(hash(Domain::File, &n.to_be_bytes()))
}

fn file(n: u64) -> Entry {
    let pieces = vec![Piece { file: id(n), len: n + 1 }];
    Entry::of(Kind::File(Content { number: 0, pieces, hash: Some([n as u8; 32]), put: Millis::new(n) }))
}

/// An entry so long that few fit a page.
fn long(n: u64, bytes: usize) -> Entry {
    Entry { meta: BTreeMap::from([("pad".to_owned(), vec![n as u8; bytes])]), ..file(n) }
}

fn put(path: &str, entry: Entry, keep: usize) -> Op {
    Op::Put { path: path.to_owned(), entry: Box::new(entry), keep, expect: Expect::Any }
}

/// A batch whose contents were all stored for it.
fn fresh(ops: Vec<Op>, folders: bool) -> Batch {
    let entries = ops.iter().filter_map(|op| match op {
        Op::Put { entry, .. } => Some(entry),
        _ => None,
    });
    let fresh = entries.flat_map(|entry| entry.pieces()).collect();
    Batch { ops, folders, fresh }
}

fn batch(ops: Vec<Op>) -> Batch {
    fresh(ops, true)
}

fn remove(path: &str) -> Op {
    Op::Remove { path: path.to_owned(), expect: Expect::Present }
}

fn numbered(mut entry: Entry, number: u64) -> Entry {
    if let Kind::File(content) = &mut entry.kind {
        content.number = number;
    }
    entry
}

/// Paths long enough that few fit a page of any level.
fn any_path() -> impl Strategy<Value = String> {
    (0_u32..150, 0_usize..3_000).prop_map(|(n, pad)| format!("{n:03}{}", "x".repeat(pad % 7 * 500)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_tree_is_a_map_whatever_is_done_to_it(
        steps in proptest::collection::vec(proptest::collection::vec((any_path(), 0_u64..400, 0_usize..30_000), 1..60), 1..14)
    ) {
        let (mut store, mut model) = (Store::default(), BTreeMap::<String, Entry>::new());
        let (mut last, mut stored) = (1_000, BTreeMap::<String, u64>::new());
        for step in steps {
            let mut ops = Vec::new();
            for (path, n, pad) in step {
                let op = match (n % 4, model.contains_key(&path)) {
                    (0, true) => {
                        model.remove(&path);
                        remove(&path)
                    }
                    _ => {
                        // The same content for its own path, or one that no path has.
                        let n = match stored.get(&path).filter(|_| n % 4 == 1 && model.contains_key(&path)) {
                            Some(n) => *n,
                            None => {
                                last += 1;
                                last
                            }
                        };
                        stored.insert(path.clone(), n);
                        let entry = long(n, pad);
                        let number = match model.get(&path).and_then(|old| old.content()) {
                            Some(old) if old.same_bytes(entry.content().expect("a file")) => old.number,
                            Some(old) => old.number + 1,
                            None => 1,
                        };
                        model.insert(path.clone(), numbered(entry.clone(), number));
                        put(&path, entry, 0)
                    }
                };
                ops.push(op);
            }
            store.apply(&fresh(ops, false)).expect("an allowed batch");
            prop_assert_eq!(&store.all(), &model);
            let kept: BTreeSet<_> = store.pages.keys().copied().collect();
            prop_assert_eq!(store.reached(), kept, "what is not replaced is reached, and the other way round");
        }
        let all = model.keys().map(|path| remove(path)).collect();
        store.apply(&batch(all)).expect("all can go");
        prop_assert_eq!((store.root, store.pages.len()), (None, 0));
    }

    #[test]
    fn a_listing_shows_each_name_of_a_folder_once_and_in_order(
        paths in proptest::collection::btree_set("[ab/-]{1,6}", 0..60), prefix in "[ab]{0,1}/?", limit in 1_usize..9
    ) {
        let mut store = Store::default();
        let entry = |path: &str, n| if path.ends_with('/') { Entry::of(Kind::Folder) } else { long(n, 9_000) };
        let ops = paths.iter().zip(1..).map(|(path, n)| put(path, entry(path, n), 0)).collect();
        store.apply(&fresh(ops, false)).expect("any text is a key");
        let mut wanted = BTreeSet::new();
        for rest in paths.iter().filter_map(|path| path.strip_prefix(&prefix)) {
            let end = rest.find('/').map_or(rest.len(), |at| at + 1);
            wanted.insert(format!("{prefix}{}", &rest[..end]));
        }
        let mut query = Query { prefix: prefix.clone(), delimiter: "/".to_owned(), limit, ..Query::default() };
        let mut seen = Vec::new();
        loop {
            let (items, more) = store.list(&query);
            seen.extend(items.iter().map(|item| item.key().to_owned()));
            if !more {
                break;
            }
            prop_assert_eq!(items.len(), limit);
            query.after = items[limit - 1].key().to_owned();
        }
        prop_assert_eq!(seen, wanted.into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn random_bytes_never_panic_the_decoder_and_a_page_has_one_encoding(
        bytes in proptest::collection::vec(any::<u8>(), 0..300), at in any::<prop::sample::Index>(), bit in 0..8
    ) {
        let _ = Page::from_bytes(&bytes);
        let mut changed = Page::Leaf(vec![("a".to_owned(), long(1, 20)), ("b".to_owned(), file(2))]).bytes();
        let at = at.index(changed.len());
        changed[at] ^= 1_u8 << bit;
        if let Ok(page) = Page::from_bytes(&changed) {
            prop_assert_eq!(page.bytes(), changed);
        }
    }
}

#[test]
fn one_more_file_in_a_large_folder_writes_one_page_of_each_level() {
    let mut store = Store::default();
    let name = |n: u64| format!("folder/file {n:06}");
    for part in (0..100_000).collect::<Vec<u64>>().chunks(4_000) {
        let ops = part.iter().map(|n| put(&name(*n), file(*n), 0)).collect();
        store.apply(&batch(ops)).expect("an allowed batch");
    }
    let before: BTreeSet<_> = store.pages.keys().copied().collect();
    store.apply(&batch(vec![put(&(name(51_234) + "b"), file(7), 0)])).expect("an allowed batch");
    let new = store.pages.keys().filter(|page| !before.contains(page)).count();
    assert!(before.len() > 60 && (2..=3).contains(&new), "{} pages, {new} of them new", before.len());
    let mut read = Read::of(&store);
    let found = read.with(|read| find(store.root.as_ref(), &name(99_999), read)).expect("a sound tree");
    assert_eq!((found, read.read.len()), (Some(numbered(file(99_999), 1)), 2), "one page of each level is read");
}

#[test]
fn older_contents_are_kept_up_to_the_number_asked_for_and_come_back() {
    let mut store = Store::default();
    for n in 1..=3 {
        assert_eq!(store.apply(&batch(vec![put("a", file(n), 2)])).expect("a put"), []);
    }
    assert_eq!(store.apply(&batch(vec![put("a", file(4), 2)])).expect("a put"), [id(1)], "the oldest goes");
    let numbers = |entry: &Entry| {
        let older = entry.versions.iter().map(|version| version.content.number);
        entry.content().map(|content| content.number).into_iter().chain(older).collect::<Vec<_>>()
    };
    assert_eq!(numbers(&store.find("a").expect("a file")), [4, 3, 2]);
    let restore = |number| batch(vec![Op::Restore { path: "a".to_owned(), number, keep: 2 }]);
    assert_eq!(store.apply(&restore(2)).expect("a version"), [], "nothing is lost by it");
    let entry = store.find("a").expect("a file");
    assert_eq!((numbers(&entry), entry.files().next()), (vec![5, 4, 3], Some(id(2))));
    let refused = store.apply(&restore(2)).expect_err("it has another number now");
    assert_eq!(refused, TreeError::NoVersion { path: "a".to_owned(), number: 2 }.into());
    let touched = Entry { mtime_ns: 9, ..file(2) };
    let holds = |n: u64| Expect::Holds(Box::new(file(n).content().expect("a file").clone()));
    let touch = |n| Op::Put { path: "a".to_owned(), entry: Box::new(touched.clone()), keep: 0, expect: holds(n) };
    assert_eq!(store.apply(&batch(vec![touch(3)])), Err(TreeError::Changed("a".to_owned()).into()));
    assert_eq!(store.apply(&batch(vec![touch(2)])).expect("a put"), []);
    let entry = store.find("a").expect("a file");
    assert_eq!((numbers(&entry), entry.mtime_ns), (vec![5, 4, 3], 9), "the same content is no new version");
    let freed: BTreeSet<_> = store.apply(&batch(vec![remove("a")])).expect("a removal").into_iter().collect();
    assert_eq!(freed, BTreeSet::from([id(2), id(3), id(4)]));
}

#[test]
fn a_batch_that_is_refused_changes_nothing_and_frees_nothing() {
    let mut store = Store::default();
    store.apply(&batch(vec![put("a/b", file(1), 0), put("c", file(2), 0)])).expect("an allowed batch");
    let before = store.all();
    let page = Read::of(&store).with(|read| need(read, &store.root.expect("a root"))).expect("a page");
    let pages = HashMap::from([(store.root.expect("a root"), page)]);
    let mut view = View::new(store.root, &pages);
    let absent = Op::Put { path: "c".to_owned(), entry: Box::new(file(3)), keep: 0, expect: Expect::Absent };
    let refused = view.apply(&batch(vec![remove("a/b"), put("d", file(4), 0), absent]));
    assert_eq!(refused, Err(TreeError::Exists("c".to_owned()).into()));
    assert_eq!((view.changes().len(), view.freed()), (0, Vec::new()));
    assert_eq!(store.all(), before);
}

#[test]
fn a_folder_moves_with_all_that_is_in_it() {
    let mut store = Store::default();
    let folder = || Entry::of(Kind::Folder);
    let ops = vec![put("a/", folder(), 0), put("a/b/c", file(1), 0), put("a-", file(2), 0), put("z/", folder(), 0)];
    store.apply(&batch(ops)).expect("an allowed batch");
    let move_to = |from: &str, to: &str| batch(vec![Op::Move { from: from.to_owned(), to: to.to_owned() }]);
    assert_eq!(store.apply(&move_to("a/", "d/e/")), Ok(Vec::new()), "no content goes");
    assert_eq!(store.all().into_keys().collect::<Vec<_>>(), ["a-", "d/e/", "d/e/b/c", "z/"]);
    let into = TreeError::IntoItself { from: "d/".to_owned(), to: "d/e/f/".to_owned() };
    assert_eq!(store.apply(&move_to("d/", "d/e/f/")), Err(into.into()));
    assert_eq!(store.apply(&move_to("d/", "z/")), Err(TreeError::Exists("z/".to_owned()).into()));
    assert_eq!(store.apply(&move_to("q", "r")), Err(TreeError::NotFound("q".to_owned()).into()));
    assert_eq!(store.apply(&batch(vec![Op::RemoveAll { prefix: "d/".to_owned() }])), Ok(vec![id(1)]));
    assert_eq!(store.all().into_keys().collect::<Vec<_>>(), ["a-", "z/"]);
}

#[test]
fn where_folders_are_folders_a_file_has_nothing_below_it() {
    let mut store = Store::default();
    store.apply(&batch(vec![put("a/b", file(1), 0)])).expect("an allowed batch");
    let kind = |path: &str, is, needed| Err(Stop::from(TreeError::Kind { path: path.to_owned(), is, needed }));
    assert_eq!(store.apply(&batch(vec![put("a/b/c", file(2), 0)])), kind("a/b", "a file", "a folder"));
    assert_eq!(store.apply(&batch(vec![put("a", file(2), 0)])), kind("a", "a folder", "a file"));
    assert_eq!(store.apply(&batch(vec![put("a/b/", Entry::of(Kind::Folder), 0)])), kind("a/b", "a file", "a folder"));
    let free = fresh(vec![put("a", file(3), 0), put("a/b//c", file(4), 0)], false);
    assert_eq!(store.apply(&free), Ok(Vec::new()), "an object store has no such rule");
}

#[test]
fn only_a_folder_has_a_path_that_ends_with_a_slash_so_no_folder_takes_a_files_place() {
    let mut store = Store::default();
    for folders in [true, false] {
        for (path, entry) in
            [("d/", file(1)), ("d/", Entry::of(Kind::Symlink("x".to_owned()))), ("d", Entry::of(Kind::Folder))]
        {
            let refused = store.apply(&fresh(vec![put(path, entry, 0)], folders));
            assert!(matches!(refused, Err(Stop::Refused(TreeError::Bounds { .. }))), "{path}: {refused:?}");
        }
    }
    assert!(store.apply(&batch(vec![put("d/", Entry::of(Kind::Folder), 0)])).is_ok());
}

#[test]
fn entries_out_of_bounds_are_refused_and_versions_give_way() {
    let mut store = Store::default();
    let too_long = store.apply(&batch(vec![put("a", long(1, limits::TREE_ENTRY_BYTES_MAX), 0)]));
    assert!(matches!(too_long, Err(Stop::Refused(TreeError::Bounds { .. }))));
    for path in ["", &"p".repeat(limits::TREE_PATH_BYTES_MAX + 1)] {
        let refused = store.apply(&batch(vec![put(path, file(1), 0)]));
        assert!(matches!(refused, Err(Stop::Refused(TreeError::Bounds { .. }))));
    }
    for n in 1..=5 {
        store.apply(&batch(vec![put("a", long(n, 15_000), 100)])).expect("versions make room");
    }
    let entry = store.find("a").expect("a file");
    assert_eq!((entry.versions.len(), entry.content().map(|content| content.number)), (1, Some(5)));
}

#[test]
fn paths_of_people_have_no_hidden_ways() {
    assert_eq!(path("/a/b/").as_deref(), Ok("a/b"));
    assert_eq!(path("/").as_deref(), Ok(""));
    for bad in ["/a//b", "/a/../b", "/./a", "/a\0b", &format!("/{}", "n".repeat(256))] {
        assert!(path(bad).is_err(), "{bad}");
    }
}

#[test]
fn the_canonical_bytes_of_pages_stay_as_they_are() {
    let mut entry = Entry { mode: 0o644, mtime_ns: -5, ..long(7, 2) };
    entry.versions = vec![Version {
        content: Content { number: 1, pieces: Vec::new(), hash: None, put: Millis::new(3) },
        mode: 0o600,
        mtime_ns: 4,
        meta: BTreeMap::new(),
    }];
    let link = Entry::of(Kind::Symlink("../b".to_owned()));
    let leaf = vec![("a/".to_owned(), Entry::of(Kind::Folder)), ("a/f".to_owned(), entry), ("a/l".to_owned(), link)];
    let children = vec![Child { first: "a/".to_owned(), page: id(1) }];
    let lines: String = [Page::Leaf(leaf), Page::Inner { level: 1, children }]
        .into_iter()
        .map(|page| hex::encode(page.bytes()) + "\n")
        .collect();
    expect_test::expect_file!["../../../fixtures/wire/tree_pages.txt"].assert_eq(&lines);
}

#[test]
fn one_stored_file_belongs_to_one_path() {
    let mut store = Store::default();
    store.apply(&batch(vec![put("a", file(1), 0)])).expect("an allowed batch");
    let gone = |path: &str| Err(Stop::from(TreeError::Gone(path.to_owned())));
    let none = |ops| Batch { ops, folders: true, fresh: BTreeSet::new() };
    assert_eq!(store.apply(&none(vec![put("b", file(1), 0)])), gone("b"), "a path has it");
    assert_eq!(store.apply(&none(vec![put("b", file(2), 0)])), gone("b"), "nobody stored it for this");
    assert_eq!(store.apply(&batch(vec![put("b", file(2), 0), put("c", file(2), 0)])), gone("c"));
    let touched = Entry { mode: 0o600, ..file(1) };
    assert_eq!(store.apply(&none(vec![put("a", touched, 0)])), Ok(Vec::new()), "its own path may keep it");
    let meta = BTreeMap::from([("x".to_owned(), vec![1])]);
    store.apply(&none(vec![put("a", Entry { meta: meta.clone(), ..file(1) }, 0)])).expect("an allowed batch");
    let holds = Expect::Holds(Box::new(file(1).content().expect("a file").clone()));
    let touched = Op::Put { path: "a".to_owned(), entry: Box::new(file(1)), keep: 0, expect: holds };
    store.apply(&none(vec![touched])).expect("an allowed batch");
    assert_eq!(store.find("a").expect("a file").meta, meta, "another time is no reason to let go of it");
    let moved = none(vec![remove("a"), put("b", file(1), 0)]);
    assert_eq!(store.apply(&moved), Ok(Vec::new()), "nothing is lost by it");
    let mut longer = file(1);
    if let Kind::File(content) = &mut longer.kind {
        content.pieces[0].len += 1;
    }
    assert_eq!(store.apply(&none(vec![remove("b"), put("a", longer, 0)])), gone("a"), "a length that is not its own");
}

//! Reading: one path, or a run of them.

use std::sync::Arc;

use super::page::Page;
use super::{Entry, Source, Stop, need};
use crate::types::{FileId, limits};

/// A place in the order of paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cursor {
    /// At the path or the first one after it.
    At(String),
    /// After the path.
    After(String),
    /// After all that begin with it.
    Past(String),
}

impl Cursor {
    /// Whether a path lies before the place.
    pub fn is_after(&self, path: &str) -> bool {
        match self {
            Self::At(at) => path < at.as_str(),
            Self::After(at) => path <= at.as_str(),
            Self::Past(prefix) => path < prefix.as_str() || path.starts_with(prefix.as_str()),
        }
    }
    /// Whether what comes at the place may be on a page with this first path.
    fn reaches(&self, first: &str) -> bool {
        match self {
            Self::At(at) => first <= at.as_str(),
            _ => self.is_after(first),
        }
    }
}

/// A leaf and where the next one begins.
#[derive(Clone, Debug)]
pub struct Leaf {
    page: Arc<Page>,
    /// The first path of the next leaf, if there is one.
    pub next: Option<String>,
}

impl Leaf {
    /// Its entries, in order.
    pub fn entries(&self) -> &[(String, Entry)] {
        match &*self.page {
            Page::Leaf(entries) => entries,
            Page::Inner { .. } => &[],
        }
    }
}

/// The leaf on which a cursor comes to lie. If it has to be read first, up to `ahead` further ones after it are named too.
/// Errors: `Missing`, `Damaged`.
pub fn leaf_at(root: &FileId, cursor: &Cursor, ahead: usize, source: &impl Source) -> Result<Leaf, Stop> {
    let mut page = need(source, root)?;
    let mut next = None;
    loop {
        let Page::Inner { level, children } = &*page else { return Ok(Leaf { page, next }) };
        let at = children.partition_point(|child| cursor.reaches(&child.first)).saturating_sub(1);
        let Some(child) = children.get(at) else { return Err(Stop::Damaged(*root)) };
        if let Some(after) = children.get(at + 1) {
            next = Some(after.first.clone());
        }
        let Some(below) = source.page(&child.page) else {
            let many = if *level == 1 { ahead + 1 } else { 1 };
            let wanted = children.iter().skip(at).take(many).map(|child| child.page);
            return Err(Stop::Missing(wanted.filter(|id| source.page(id).is_none()).collect()));
        };
        if below.level() != level - 1 || below.first() != Some(child.first.as_str()) {
            return Err(Stop::Damaged(child.page));
        }
        page = below;
    }
}

/// The entry at a path. Errors: `Missing`, `Damaged`.
pub fn find(root: Option<&FileId>, path: &str, source: &impl Source) -> Result<Option<Entry>, Stop> {
    let Some(root) = root else { return Ok(None) };
    let leaf = leaf_at(root, &Cursor::At(path.to_owned()), 0, source)?;
    let found = leaf.entries().binary_search_by(|(have, _)| have.as_str().cmp(path));
    Ok(found.ok().and_then(|at| leaf.entries().get(at)).map(|(_, entry)| entry.clone()))
}

/// Calls back for each entry from the cursor on, until it says that it has enough (false). Errors: `Missing`, `Damaged`.
pub(super) fn walk(
    root: Option<&FileId>,
    mut cursor: Cursor,
    ahead: usize,
    source: &impl Source,
    mut visit: impl FnMut(&str, &Entry) -> Step,
) -> Result<(), Stop> {
    let Some(root) = root else { return Ok(()) };
    loop {
        let leaf = leaf_at(root, &cursor, ahead, source)?;
        let entries = leaf.entries();
        let mut at = entries.partition_point(|(path, _)| cursor.is_after(path));
        while let Some((path, entry)) = entries.get(at) {
            match visit(path, entry) {
                Step::Next => at += 1,
                Step::End => return Ok(()),
                Step::Skip(to) => {
                    cursor = to;
                    at += 1 + entries[at + 1..].partition_point(|(path, _)| cursor.is_after(path));
                }
            }
        }
        match leaf.next {
            None => return Ok(()),
            // A skip may lead over many leaves.
            Some(next) if !cursor.is_after(&next) => cursor = Cursor::At(next),
            Some(_) => {}
        }
    }
}

/// How a walk goes on.
pub(super) enum Step {
    Next,
    Skip(Cursor),
    End,
}

/// What is to be listed.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// What the paths begin with.
    pub prefix: String,
    /// Where to go on: the `key` of the last item so far. Empty at the beginning.
    pub after: String,
    /// Paths that have this after the prefix are one item, up to and with it: `/` lists a folder. Empty: every path is an item.
    pub delimiter: String,
    /// Items at most; no more than `TREE_LIST_MAX` come at once.
    pub limit: usize,
}

/// An item of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A path and its entry.
    Entry(String, Entry),
    /// What paths have in common, up to and with the delimiter; and the entry of that very path, if there is one.
    Folder(String, Option<Entry>),
}

impl Item {
    /// What `Query::after` goes on from.
    pub fn key(&self) -> &str {
        match self {
            Self::Entry(path, _) | Self::Folder(path, _) => path,
        }
    }
}

/// Lists in the order of paths; whether there is more, the second part says. Errors: `Missing`, `Damaged`.
pub fn list(root: Option<&FileId>, query: &Query, source: &impl Source) -> Result<(Vec<Item>, bool), Stop> {
    let limit = query.limit.clamp(1, limits::TREE_LIST_MAX);
    let (prefix, delimiter) = (query.prefix.as_str(), query.delimiter.as_str());
    let start = match query.after.as_str() {
        after if after < prefix || after.is_empty() => Cursor::At(prefix.to_owned()),
        after if common(after, prefix, delimiter) == Some(after) => Cursor::Past(after.to_owned()),
        after => Cursor::After(after.to_owned()),
    };
    let (mut items, mut more) = (Vec::new(), false);
    let ahead = if delimiter.is_empty() { limit / 256 } else { 0 };
    walk(root, start, ahead, source, |path, entry| {
        if !path.starts_with(prefix) {
            return Step::End;
        }
        if items.len() == limit {
            more = true;
            return Step::End;
        }
        match common(path, prefix, delimiter) {
            None => {
                items.push(Item::Entry(path.to_owned(), entry.clone()));
                Step::Next
            }
            Some(folder) => {
                let own = (path == folder).then(|| entry.clone());
                items.push(Item::Folder(folder.to_owned(), own));
                Step::Skip(Cursor::Past(folder.to_owned()))
            }
        }
    })?;
    Ok((items, more))
}

/// What a path has up to and with the first delimiter after the prefix.
fn common<'a>(path: &'a str, prefix: &str, delimiter: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(prefix).filter(|_| !delimiter.is_empty())?;
    rest.find(delimiter).and_then(|at| path.get(..prefix.len() + at + delimiter.len()))
}

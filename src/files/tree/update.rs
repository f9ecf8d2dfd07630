//! Update: from a root and changes to the pages that have to be written, and those that nobody needs any more.

use std::collections::BTreeMap;

use super::page::{Child, Page};
use super::{Entry, Source, Stop, need};
use crate::types::{FileId, limits};

/// Changed entries by path; nothing removes.
pub type Changes = BTreeMap<String, Option<Entry>>;

/// A page below: one that is stored, or one of the update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageRef {
    /// It stays as it is.
    Old(FileId),
    /// The place in `Update::pages`.
    New(usize),
}

/// A page to be written.
#[derive(Clone, Debug)]
pub struct NewPage(Items);

/// What an update comes to.
#[derive(Clone, Debug)]
pub struct Update {
    /// Pages to be written. Each refers only to earlier ones.
    pub pages: Vec<NewPage>,
    /// The root from then on; nothing if no entry is left.
    pub root: Option<PageRef>,
    /// Pages of the old root that the new one does not have.
    pub replaced: Vec<FileId>,
}

/// What a page holds, while it is at work.
#[derive(Clone, Debug)]
enum Items {
    Leaf(Vec<(String, Entry)>),
    Inner(u8, Vec<(String, PageRef)>),
}

impl NewPage {
    /// How many levels are below.
    pub const fn level(&self) -> u8 {
        self.0.level()
    }
    /// The page, with the ids of those below it, which are known by their place once they are written.
    pub fn page(&self, id: impl Fn(usize) -> FileId) -> Page {
        match &self.0 {
            Items::Leaf(entries) => Page::Leaf(entries.clone()),
            Items::Inner(level, children) => {
                let child = |(first, page): &(String, PageRef)| Child {
                    first: first.clone(),
                    page: match page {
                        PageRef::Old(page) => *page,
                        PageRef::New(at) => id(*at),
                    },
                };
                Page::Inner { level: *level, children: children.iter().map(child).collect() }
            }
        }
    }
}

impl Items {
    const fn level(&self) -> u8 {
        match self {
            Self::Leaf(_) => 0,
            Self::Inner(level, _) => *level,
        }
    }
    fn len(&self) -> usize {
        match self {
            Self::Leaf(entries) => entries.len(),
            Self::Inner(_, children) => children.len(),
        }
    }
    fn first(&self) -> String {
        match self {
            Self::Leaf(entries) => entries.first().map(|(path, _)| path.clone()),
            Self::Inner(_, children) => children.first().map(|(path, _)| path.clone()),
        }
        .unwrap_or_default()
    }
    /// Bytes of each item on a page.
    fn sizes(&self) -> Vec<usize> {
        match self {
            Self::Leaf(entries) => {
                let size = |item: &(String, Entry)| borsh::object_length(item).unwrap_or(limits::TREE_PAGE_BYTES_MAX);
                entries.iter().map(size).collect()
            }
            Self::Inner(_, children) => children.iter().map(|(first, _)| 4 + first.len() + FileId::LEN).collect(),
        }
    }
    fn bytes(&self) -> usize {
        self.sizes().iter().sum()
    }
    fn append(&mut self, other: Self) {
        match (self, other) {
            (Self::Leaf(have), Self::Leaf(more)) => have.extend(more),
            (Self::Inner(_, have), Self::Inner(_, more)) => have.extend(more),
            _ => unreachable!("pages of one level are of one kind"),
        }
    }
    fn split_off(&mut self, at: usize) -> Self {
        match self {
            Self::Leaf(entries) => Self::Leaf(entries.split_off(at)),
            Self::Inner(level, children) => Self::Inner(*level, children.split_off(at)),
        }
    }
    fn of(page: &Page) -> Self {
        match page {
            Page::Leaf(entries) => Self::Leaf(entries.clone()),
            Page::Inner { level, children } => {
                let child = |child: &Child| (child.first.clone(), PageRef::Old(child.page));
                Self::Inner(*level, children.iter().map(child).collect())
            }
        }
    }
    /// Runs of about half of what a page may have, if it is too much for one. Half, so that what comes next finds room; the
    /// longest item is less than the other half.
    fn split(mut self) -> Vec<Self> {
        let sizes = self.sizes();
        let all: usize = sizes.iter().sum();
        if all <= limits::TREE_PAGE_BYTES_MAX - PAGE_HEAD_BYTES {
            return vec![self];
        }
        let each = all.div_ceil(all.div_ceil(limits::TREE_PAGE_BYTES_MAX / 2));
        let (mut cuts, mut sum) = (Vec::new(), 0);
        for (at, size) in sizes.iter().enumerate() {
            if sum >= each {
                cuts.push(at);
                sum = 0;
            }
            sum += size;
        }
        let mut runs: Vec<_> = cuts.into_iter().rev().map(|at| self.split_off(at)).collect();
        runs.push(self);
        runs.reverse();
        runs
    }
}

/// Version, kind, level and the number of items.
const PAGE_HEAD_BYTES: usize = 16;

/// Writes changes into the tree of a root. Pages that come out nearly empty take in a neighbour.
/// Errors: `Missing` with all pages that are known to be needed, `Damaged`.
pub fn update(root: Option<&FileId>, changes: &Changes, source: &impl Source) -> Result<Update, Stop> {
    let mut work = Work { source, pages: Vec::new(), replaced: Vec::new() };
    let changes: Vec<_> = changes.iter().collect();
    let mut items = match root {
        None => merge(&[], &changes),
        Some(root) => work.rebuild(root, &changes)?,
    };
    let root = loop {
        match &items {
            _ if items.len() == 0 => break None,
            Items::Inner(_, children) if children.len() == 1 => break children.first().map(|(_, page)| *page),
            _ => {}
        }
        let level = items.level();
        let above = work.write(items);
        if let [(_, page)] = above.as_slice() {
            break Some(*page);
        }
        items = Items::Inner(level + 1, above);
    };
    Ok(Update { pages: work.pages, root, replaced: work.replaced })
}

type Change<'a> = (&'a String, &'a Option<Entry>);

struct Work<'a, S> {
    source: &'a S,
    pages: Vec<NewPage>,
    replaced: Vec<FileId>,
}

/// A page below: as it was, or its new items.
enum Part {
    Kept(String, FileId),
    Fresh(Items),
}

impl<S: Source> Work<'_, S> {
    /// What a page's items are after the changes, which all belong on it.
    fn rebuild(&mut self, id: &FileId, changes: &[Change<'_>]) -> Result<Items, Stop> {
        let page = need(self.source, id)?;
        self.replaced.push(*id);
        let children = match &*page {
            Page::Leaf(entries) => return Ok(merge(entries, changes)),
            Page::Inner { children, .. } => children,
        };
        let (mut parts, mut missing, mut rest) = (Vec::new(), Vec::new(), changes);
        for (at, child) in children.iter().enumerate() {
            let end = children.get(at + 1);
            let own = end.map_or(rest.len(), |next| rest.partition_point(|(path, _)| *path < &next.first));
            let (own, others) = rest.split_at(own);
            rest = others;
            if own.is_empty() {
                parts.push(Part::Kept(child.first.clone(), child.page));
                continue;
            }
            match self.checked(child, page.level()).and_then(|()| self.rebuild(&child.page, own)) {
                Ok(items) => parts.push(Part::Fresh(items)),
                Err(Stop::Missing(pages)) => missing.extend(pages),
                Err(stop) => return Err(stop),
            }
        }
        if !missing.is_empty() {
            return Err(Stop::Missing(missing));
        }
        parts.retain(|part| !matches!(part, Part::Fresh(items) if items.len() == 0));
        self.absorb(&mut parts, page.level())?;
        Ok(Items::Inner(page.level(), self.join(parts)))
    }

    /// Errors: `Missing`, `Damaged` if a page is not what the one above says.
    fn checked(&self, child: &Child, level: u8) -> Result<(), Stop> {
        let below = need(self.source, &child.page)?;
        let fits = Some(below.level()) == level.checked_sub(1) && below.first() == Some(child.first.as_str());
        if fits { Ok(()) } else { Err(Stop::Damaged(child.page)) }
    }

    /// Loads a neighbour of each new page that is nearly empty, so that `join` makes one of both.
    fn absorb(&mut self, parts: &mut [Part], level: u8) -> Result<(), Stop> {
        for at in 0..parts.len() {
            let small = matches!(&parts[at], Part::Fresh(items) if items.bytes() < limits::TREE_PAGE_BYTES_MAX / 8);
            if !small {
                continue;
            }
            let neighbour = if at + 1 < parts.len() { at + 1 } else { at.wrapping_sub(1) };
            if let Some(Part::Kept(first, page)) = parts.get(neighbour) {
                let child = Child { first: first.clone(), page: *page };
                self.checked(&child, level)?;
                self.replaced.push(child.page);
                parts[neighbour] = Part::Fresh(Items::of(&*need(self.source, &child.page)?));
            }
        }
        Ok(())
    }

    /// Makes pages of neighbours that are new, and the list of all that stay.
    fn join(&mut self, parts: Vec<Part>) -> Vec<(String, PageRef)> {
        let (mut out, mut run) = (Vec::new(), None::<Items>);
        for part in parts {
            match (part, &mut run) {
                (Part::Fresh(items), Some(run)) => run.append(items),
                (Part::Fresh(items), none) => *none = Some(items),
                (Part::Kept(first, page), _) => {
                    out.extend(run.take().map(|items| self.write(items)).unwrap_or_default());
                    out.push((first, PageRef::Old(page)));
                }
            }
        }
        out.extend(run.map(|items| self.write(items)).unwrap_or_default());
        out
    }

    fn write(&mut self, items: Items) -> Vec<(String, PageRef)> {
        let page = |items: Items| {
            let first = items.first();
            self.pages.push(NewPage(items));
            (first, PageRef::New(self.pages.len() - 1))
        };
        items.split().into_iter().map(page).collect()
    }
}

fn merge(entries: &[(String, Entry)], changes: &[Change<'_>]) -> Items {
    let (mut out, mut old) = (Vec::with_capacity(entries.len() + changes.len()), entries.iter().peekable());
    for (path, change) in changes {
        while let Some(entry) = old.next_if(|(have, _)| have < *path) {
            out.push(entry.clone());
        }
        old.next_if(|(have, _)| have == *path);
        if let Some(entry) = change {
            out.push(((*path).clone(), entry.clone()));
        }
    }
    out.extend(old.cloned());
    Items::Leaf(out)
}

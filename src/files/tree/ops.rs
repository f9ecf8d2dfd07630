//! Operations: what callers ask for, and what it changes. A batch takes effect as a whole or not at all.

use std::collections::BTreeSet;

use super::page::check_entry;
use super::read::{Cursor, Step, find, walk};
use super::update::Changes;
use super::{Content, Entry, Kind, Piece, Source, Stop, TreeError, Version};
use crate::types::{FileId, limits};

/// What must be at a path before it is changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Expect {
    /// Anything or nothing.
    #[default]
    Any,
    /// Nothing.
    Absent,
    /// Something.
    Present,
    /// Exactly what the caller saw.
    Same(Box<Entry>),
    /// A file with these bytes. Who puts a content again that is there already, for another mode or time, has to ask for this:
    /// another device may have replaced it, and then its bytes are about to go.
    Holds(Box<Content>),
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Puts an entry at a path. A file's content gets the path's next number, and up to `keep` older ones are kept; the
    /// entry's own list of versions is not looked at. The same content again changes only what is kept with it.
    Put {
        /// Where; a folder's ends with `/`.
        path: String,
        /// What.
        entry: Box<Entry>,
        /// Older contents that are kept.
        keep: usize,
        /// What must be there.
        expect: Expect,
    },
    /// Takes a path away, with all its versions.
    Remove {
        /// Which; a folder's own entry has a path that ends with `/`, and what is below it stays.
        path: String,
        /// What must be there; `Any` is content if nothing is.
        expect: Expect,
    },
    /// Takes away all paths that begin so. The prefix ends with `/`, or is empty for the whole tree.
    RemoveAll {
        /// The folder.
        prefix: String,
    },
    /// Gives a file or link another path, or if both end with `/` a folder with all that is in it.
    Move {
        /// From where.
        from: String,
        /// To where; nothing may be there.
        to: String,
    },
    /// Makes an older content of a file the present one. The present one becomes a version.
    Restore {
        /// The file.
        path: String,
        /// The number of the content.
        number: u64,
        /// Older contents that are kept.
        keep: usize,
    },
}

/// Changes that belong together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// In order; each sees what those before it did.
    pub ops: Vec<Op>,
    /// Whether a file can have nothing below it and nothing above it but folders, as in a file system. An object store has no
    /// such rule.
    pub folders: bool,
    /// Pieces that were stored for these changes and that no path has yet. A put takes none but these, what is at its path
    /// already, and what the changes before it have freed: one stored file belongs to one path.
    pub fresh: BTreeSet<Piece>,
}

/// What a batch comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Entries changed, added or taken away.
    pub changed: usize,
}

/// The tree with changes that are not written yet.
#[derive(Clone)]
pub struct View<'a, S> {
    root: Option<FileId>,
    source: &'a S,
    changes: Changes,
    freed: BTreeSet<Piece>,
    /// Pieces that a path has got by these changes.
    taken: BTreeSet<FileId>,
    undo: Vec<Undo>,
}

/// How one step of a batch is taken back.
#[derive(Clone)]
enum Undo {
    Change(String, Option<Option<Entry>>),
    Freed(Piece),
    Taken(FileId),
}

impl<'a, S: Source> View<'a, S> {
    /// The tree of a root.
    pub fn new(root: Option<FileId>, source: &'a S) -> Self {
        let (changes, freed, taken) = (Changes::new(), BTreeSet::new(), BTreeSet::new());
        Self { root, source, changes, freed, taken, undo: Vec::new() }
    }
    /// The same changes over pages of which more may have been read.
    pub fn over<'b, T>(self, source: &'b T) -> View<'b, T> {
        let Self { root, changes, freed, taken, undo, .. } = self;
        View { root, source, changes, freed, taken, undo }
    }
    /// The entries that differ from the root's.
    pub const fn changes(&self) -> &Changes {
        &self.changes
    }
    /// Stored files that no path refers to any more.
    pub fn freed(&self) -> Vec<FileId> {
        let used: BTreeSet<_> = self.changes.values().flatten().flat_map(Entry::pieces).collect();
        self.freed.difference(&used).map(|piece| piece.file).collect()
    }
    /// The entry at a path. Errors: `Missing`, `Damaged`.
    pub fn get(&self, path: &str) -> Result<Option<Entry>, Stop> {
        match self.changes.get(path) {
            Some(changed) => Ok(changed.clone()),
            None => find(self.root.as_ref(), path, self.source),
        }
    }

    /// Carries a batch out, wholly or not at all. Errors: each of `Stop`; after `Missing` the same call goes on.
    pub fn apply(&mut self, batch: &Batch) -> Result<Outcome, Stop> {
        self.undo.clear();
        let done = self.carry_all_out(batch);
        if done.is_err() {
            while let Some(undo) = self.undo.pop() {
                match undo {
                    Undo::Change(path, Some(before)) => drop(self.changes.insert(path, before)),
                    Undo::Change(path, None) => drop(self.changes.remove(&path)),
                    Undo::Freed(piece) => drop(self.freed.remove(&piece)),
                    Undo::Taken(file) => drop(self.taken.remove(&file)),
                }
            }
        }
        done
    }

    fn carry_all_out(&mut self, batch: &Batch) -> Result<Outcome, Stop> {
        let mut outcome = Outcome::default();
        let mut missing = BTreeSet::new();
        for op in &batch.ops {
            match self.carry_out(op, batch) {
                Ok(changed) => outcome.changed += changed,
                // Later operations are tried only to find out what they need.
                Err(Stop::Missing(pages)) => missing.extend(pages),
                Err(_) if !missing.is_empty() => {}
                Err(stop) => return Err(stop),
            }
        }
        if missing.is_empty() { Ok(outcome) } else { Err(Stop::Missing(missing.into_iter().collect())) }
    }

    fn carry_out(&mut self, op: &Op, batch: &Batch) -> Result<usize, Stop> {
        match op {
            Op::Put { path, entry, keep, expect } => self.put(path, entry, *keep, expect, batch),
            Op::Remove { path, expect } => self.remove(path, expect),
            Op::RemoveAll { prefix } => self.remove_all(prefix),
            Op::Move { from, to } => self.move_to(from, to, batch.folders),
            Op::Restore { path, number, keep } => self.restore(path, *number, *keep),
        }
    }

    fn put(&mut self, path: &str, new: &Entry, keep: usize, expect: &Expect, batch: &Batch) -> Result<usize, Stop> {
        let old = self.get(path)?;
        expected(path, old.as_ref(), expect)?;
        if batch.folders {
            self.fits(path, new)?;
        }
        self.take(path, old.as_ref(), new, &batch.fresh)?;
        let mut entry = Entry { versions: Vec::new(), ..new.clone() };
        if let (Expect::Holds(_), Some(old)) = (expect, &old) {
            // Another mode or time is no reason to let go of what an object store keeps with it.
            entry.meta.clone_from(&old.meta);
        }
        if let Kind::File(content) = &mut entry.kind {
            content.number = 1;
        }
        self.replace(path, old, entry, keep)
    }

    /// Errors: `Gone` for a content that is not there for this path.
    fn take(&mut self, path: &str, old: Option<&Entry>, new: &Entry, fresh: &BTreeSet<Piece>) -> Result<(), Stop> {
        let Some(content) = new.content() else { return Ok(()) };
        if old.and_then(Entry::content).is_some_and(|old| old.same_bytes(content)) {
            return Ok(());
        }
        for piece in &content.pieces {
            let free = fresh.contains(piece) || self.freed.contains(piece);
            if !free || !self.taken.insert(piece.file) {
                return Err(TreeError::Gone(path.to_owned()).into());
            }
            self.undo.push(Undo::Taken(piece.file));
        }
        Ok(())
    }

    /// Puts an entry where another was, whose content becomes a version if it is another one.
    fn replace(&mut self, path: &str, old: Option<Entry>, mut entry: Entry, keep: usize) -> Result<usize, Stop> {
        let (mut dropped, mut keep) = (Vec::new(), keep.min(limits::TREE_VERSIONS_MAX));
        if let Some(old) = &old {
            dropped = old.pieces().collect();
            if let (Kind::File(new), Some(before)) = (&mut entry.kind, old.content()) {
                entry.versions = old.versions.clone();
                new.number = before.number;
                if new.same_bytes(before) {
                    // Another mode or time is no reason to let versions go.
                    keep = limits::TREE_VERSIONS_MAX;
                } else {
                    let number = before.number.checked_add(1);
                    new.number = number.ok_or_else(|| bounds(path, "too many versions".to_owned()))?;
                    let Entry { mode, mtime_ns, meta, .. } = old.clone();
                    entry.versions.insert(0, Version { content: before.clone(), mode, mtime_ns, meta });
                }
            }
        }
        entry.versions.truncate(keep);
        // Versions give way to what is there now.
        while borsh::object_length(&entry).unwrap_or(usize::MAX) > limits::TREE_ENTRY_BYTES_MAX {
            if entry.versions.pop().is_none() {
                break;
            }
        }
        check_entry(path, &entry).map_err(|what| bounds(path, what))?;
        if old.as_ref() == Some(&entry) {
            return Ok(0);
        }
        let kept: BTreeSet<_> = entry.pieces().collect();
        self.free(dropped.into_iter().filter(|piece| !kept.contains(piece)));
        self.change(path, Some(entry))?;
        Ok(1)
    }

    fn change(&mut self, path: &str, entry: Option<Entry>) -> Result<(), Stop> {
        let before = self.changes.insert(path.to_owned(), entry);
        self.undo.push(Undo::Change(path.to_owned(), before));
        if self.changes.len() > limits::TREE_CHANGE_MAX { Err(TreeError::TooMany.into()) } else { Ok(()) }
    }

    fn free(&mut self, pieces: impl Iterator<Item = Piece>) {
        for piece in pieces {
            if self.freed.insert(piece) {
                self.undo.push(Undo::Freed(piece));
            }
        }
    }

    /// Errors: `Kind` where a file would have something below it, or a path would have a file above it.
    fn fits(&self, path: &str, entry: &Entry) -> Result<(), Stop> {
        let bare = path.strip_suffix('/').unwrap_or(path);
        let is = |entry: &Entry| if entry.content().is_some() { "a file" } else { "a link" };
        for (at, _) in bare.match_indices('/') {
            let above = &bare[..at];
            if let Some(entry) = self.get(above)? {
                let (path, is) = (above.to_owned(), is(&entry));
                return Err(TreeError::Kind { path, is, needed: "a folder" }.into());
            }
        }
        let folder = matches!(entry.kind, Kind::Folder);
        let needed = if folder { "a folder" } else { "a file" };
        let clash = match folder {
            true => self.get(bare)?.map(|entry| is(&entry)),
            false => self.any_under(&format!("{bare}/"))?.then_some("a folder"),
        };
        match clash {
            Some(is) => Err(TreeError::Kind { path: bare.to_owned(), is, needed }.into()),
            None => Ok(()),
        }
    }

    fn remove(&mut self, path: &str, expect: &Expect) -> Result<usize, Stop> {
        let old = self.get(path)?;
        expected(path, old.as_ref(), expect)?;
        let Some(old) = old else { return Ok(0) };
        self.free(old.pieces());
        self.change(path, None)?;
        Ok(1)
    }

    fn remove_all(&mut self, prefix: &str) -> Result<usize, Stop> {
        folder_prefix(prefix)?;
        let all = self.under(prefix)?;
        if all.is_empty() && !prefix.is_empty() {
            return Err(TreeError::NotFound(prefix.to_owned()).into());
        }
        let count = all.len();
        for (path, entry) in all {
            self.free(entry.pieces());
            self.change(&path, None)?;
        }
        Ok(count)
    }

    fn move_to(&mut self, from: &str, to: &str, folders: bool) -> Result<usize, Stop> {
        let moved = match from.ends_with('/') {
            true => self.under(from)?,
            false => self.get(from)?.map(|entry| (from.to_owned(), entry)).into_iter().collect(),
        };
        if moved.is_empty() || from.is_empty() {
            return Err(TreeError::NotFound(from.to_owned()).into());
        }
        if from.ends_with('/') != to.ends_with('/') {
            return Err(bounds(to, "a folder is moved to a folder's path, a file to a file's".to_owned()));
        }
        if from.ends_with('/') && to.starts_with(from) {
            return Err(TreeError::IntoItself { from: from.to_owned(), to: to.to_owned() }.into());
        }
        let taken = if to.ends_with('/') { self.any_under(to)? } else { self.get(to)?.is_some() };
        if taken {
            return Err(TreeError::Exists(to.to_owned()).into());
        }
        for (path, _) in &moved {
            self.change(path, None)?;
        }
        let count = moved.len();
        for (index, (path, entry)) in moved.into_iter().enumerate() {
            let path = format!("{to}{}", &path[from.len()..]);
            if folders && index == 0 {
                // What is above the target is the same for all of a folder.
                let probe = Entry::of(if to.ends_with('/') { Kind::Folder } else { entry.kind.clone() });
                self.fits(to, &probe)?;
            }
            check_entry(&path, &entry).map_err(|what| bounds(&path, what))?;
            self.change(&path, Some(entry))?;
        }
        Ok(count)
    }

    fn restore(&mut self, path: &str, number: u64, keep: usize) -> Result<usize, Stop> {
        let Some(mut old) = self.get(path)? else { return Err(TreeError::NotFound(path.to_owned()).into()) };
        if old.content().is_some_and(|content| content.number == number) {
            return Ok(0);
        }
        let at = old.versions.iter().position(|version| version.content.number == number);
        let Some(at) = at else { return Err(TreeError::NoVersion { path: path.to_owned(), number }.into()) };
        let Version { content, mode, mtime_ns, meta } = old.versions.remove(at);
        let Content { pieces, hash, put, .. } = content;
        let content = Content { number, pieces, hash, put };
        let entry = Entry { kind: Kind::File(content), mode, mtime_ns, meta, versions: Vec::new() };
        // The content is taken out of the old ones first, so that it is in the entry once.
        self.replace(path, Some(old), entry, keep.max(1))
    }

    fn any_under(&self, prefix: &str) -> Result<bool, Stop> {
        let after = self.changes.range(prefix.to_owned()..).take_while(|(path, _)| path.starts_with(prefix));
        if after.clone().any(|(_, entry)| entry.is_some()) {
            return Ok(true);
        }
        let mut found = false;
        walk(self.root.as_ref(), Cursor::At(prefix.to_owned()), 0, self.source, |path, _| {
            found = path.starts_with(prefix) && !self.changes.contains_key(path);
            if found || !path.starts_with(prefix) { Step::End } else { Step::Next }
        })?;
        Ok(found)
    }

    /// Everything below a prefix. Errors: `TooMany`, `Missing`, `Damaged`.
    fn under(&self, prefix: &str) -> Result<Vec<(String, Entry)>, Stop> {
        let mut all = std::collections::BTreeMap::new();
        walk(self.root.as_ref(), Cursor::At(prefix.to_owned()), limits::TREE_AHEAD_MAX, self.source, |path, entry| {
            if !path.starts_with(prefix) || all.len() > limits::TREE_CHANGE_MAX {
                return Step::End;
            }
            all.insert(path.to_owned(), entry.clone());
            Step::Next
        })?;
        for (path, entry) in self.changes.range(prefix.to_owned()..).take_while(|(path, _)| path.starts_with(prefix)) {
            match entry {
                Some(entry) => all.insert(path.clone(), entry.clone()),
                None => all.remove(path),
            };
        }
        if all.len() > limits::TREE_CHANGE_MAX { Err(TreeError::TooMany.into()) } else { Ok(all.into_iter().collect()) }
    }
}

fn bounds(path: &str, what: String) -> Stop {
    TreeError::Bounds { path: path.to_owned(), what }.into()
}

fn folder_prefix(prefix: &str) -> Result<(), Stop> {
    let whole = prefix.is_empty() || prefix.ends_with('/');
    if whole { Ok(()) } else { Err(bounds(prefix, "a folder's path ends with `/`".to_owned())) }
}

fn expected(path: &str, have: Option<&Entry>, expect: &Expect) -> Result<(), Stop> {
    let fault = match (expect, have) {
        (Expect::Any, _) | (Expect::Absent, None) | (Expect::Present, Some(_)) => return Ok(()),
        (Expect::Same(entry), Some(have)) if **entry == *have => return Ok(()),
        (Expect::Holds(content), Some(have)) if have.content().is_some_and(|have| have.same_bytes(content)) => {
            return Ok(());
        }
        (Expect::Absent, Some(_)) => TreeError::Exists(path.to_owned()),
        (Expect::Present, None) => TreeError::NotFound(path.to_owned()),
        (Expect::Same(_) | Expect::Holds(_), _) => TreeError::Changed(path.to_owned()),
    };
    Err(fault.into())
}

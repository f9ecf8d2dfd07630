//! Garbage: stored files of the tree that no path leads to.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Tree, lock};
use crate::files::tree::{Content, Entry, Page, Source};
use crate::files::{FileKind, OpenManifest};
use crate::node::files::put::blocking;
use crate::node::handle::NodeError;
use crate::types::{FileId, Millis, limits};
use crate::wire::{self, Action};

/// How old garbage is before it is taken for that. What is younger may be on its way into the tree.
pub(super) const GARBAGE_AGE: Duration = Duration::from_secs(86_400);
/// Pages are never taken for garbage before this. What else is deleted too early is noticed by who has put it, but of a page the
/// ledger does not know which root leads to it.
const PAGE_AGE: Millis = Millis::new(3_600_000);
/// How often garbage is looked for anew when another device changes the folders meanwhile.
const TRIES: u32 = 8;
/// How long one deletion may take.
const DELETE_WITHIN: Duration = Duration::from_secs(60);
/// Stored contents that are looked at in one go.
const STAGED_PAGE: usize = 256;
/// How long to wait for deletions that are under way.
const DELETIONS_WITHIN: Duration = Duration::from_secs(30);
/// Pages that are read in one go.
const PAGES: usize = 64;

/// What there was to collect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Files of the tree that paths lead to, pages too.
    pub reached: usize,
    /// Files that were deleted.
    pub deleted: usize,
    /// Files that could not be deleted yet.
    pub failed: usize,
    /// Files that no path leads to and that are too young.
    pub young: usize,
    /// Whether another device changed the folders meanwhile, so that it is not known of the rest whether a path leads there now.
    pub moved: bool,
}

impl Tree {
    /// See `collect`; runs in the writer, so that nothing changes meanwhile on this node. Where another device changes the folders,
    /// the ledger refuses what was found before, and all is looked through again.
    pub(super) async fn collect_now(&self, age: Duration) -> Result<Collected, NodeError> {
        self.deletions_end().await;
        let (mut tries, mut deleted) = (0, 0);
        loop {
            let mut done = self.collect_once(age).await?;
            deleted += done.deleted;
            tries += 1;
            if !done.moved || tries == TRIES {
                done.deleted = deleted;
                return Ok(done);
            }
        }
    }

    async fn collect_once(&self, age: Duration) -> Result<Collected, NodeError> {
        let root = self.root()?;
        let reached = self.reached(root).await?;
        let now = self.handle.clock().now();
        let is_young = |created: crate::types::Millis| u128::from(now.saturating_sub(created).get()) < age.as_millis();
        let mut staged = BTreeSet::new();
        let (mut after, mut forgotten) = (None::<Vec<u8>>, Vec::new());
        loop {
            let rows = self.handle.local().all_staged(after.as_deref(), STAGED_PAGE)?;
            let Some((last, _)) = rows.last() else { break };
            after = Some(last.clone());
            for (session, bytes) in rows {
                match wire::decode::<Content>(&bytes, limits::TREE_ENTRY_BYTES_MAX) {
                    Ok(content) if is_young(content.put) => {
                        staged.extend(content.pieces.iter().map(|piece| piece.file));
                    }
                    _ => forgotten.extend(<[u8; 32]>::try_from(session)),
                }
            }
        }
        let local = self.handle.local().clone();
        blocking(move || local.remove_staged(&forgotten)).await?;
        let mut done = Collected { reached: reached.len(), ..Collected::default() };
        let mut garbage = Vec::new();
        let keys = self.handle.keys()?;
        self.handle.each_own_file(|file, deal| {
            // What is being deleted already needs nobody else to do it.
            let doomed = lock(&self.trees().doomed).contains(&file);
            if !deal.status.is_open() || doomed || reached.contains(&file) || staged.contains(&file) {
                return Ok(());
            }
            let (_, manifest) = self.handle.file(&file)?;
            let open = manifest.and_then(|manifest| OpenManifest::open(&manifest, keys).ok());
            match open.map(|open| open.facts().clone()) {
                Some(facts) if facts.kind == FileKind::Alone => {}
                Some(facts) if is_young(facts.created) => done.young += 1,
                // Another device may be about to set a root that leads to it.
                Some(facts) if facts.kind == FileKind::Page && now.saturating_sub(facts.created) < PAGE_AGE => {
                    done.young += 1;
                }
                Some(_) => garbage.push(file),
                // What does not open may be anything.
                None => {}
            }
            Ok(())
        })?;
        let count = garbage.len();
        for file in garbage {
            match self.handle.act(Action::CollectFile { file, root }, DELETE_WITHIN).await {
                Ok(_) => done.deleted += 1,
                Err(NodeError::Stopping) => return Err(NodeError::Stopping),
                Err(NodeError::Rejected { code: "root_moved", .. }) => {
                    done.moved = true;
                    done.failed = count - done.deleted;
                    return Ok(done);
                }
                // Another device was quicker.
                Err(NodeError::Rejected { code: "ended", .. }) => {}
                Err(error) => {
                    tracing::info!(%file, %error, "garbage could not be deleted yet");
                    done.failed += 1;
                }
            }
        }
        Ok(done)
    }

    /// Waits for deletions that are under way, so that afterwards it is known what there is; not for ever.
    async fn deletions_end(&self) {
        let deadline = tokio::time::Instant::now() + DELETIONS_WITHIN;
        let mut tips = self.handle.reader().watch();
        while !lock(&self.trees().doomed).is_empty() {
            // They end with blocks.
            match tokio::time::timeout_at(deadline, tips.changed()).await {
                Ok(Ok(())) => {}
                _ => return,
            }
        }
    }

    /// Every stored file that a root leads to, pages too.
    async fn reached(&self, root: Option<FileId>) -> Result<BTreeSet<FileId>, NodeError> {
        let mut reached = BTreeSet::new();
        self.each_page(root, |id, page| {
            reached.insert(id);
            if let Page::Leaf(entries) = page {
                reached.extend(entries.iter().map(|(_, entry)| entry).flat_map(Entry::files));
            }
        })
        .await?;
        Ok(reached)
    }

    /// Every page that the present root leads to.
    pub(super) async fn reached_pages(&self) -> Result<Vec<FileId>, NodeError> {
        let mut pages = Vec::new();
        self.each_page(self.root()?, |id, _| pages.push(id)).await?;
        Ok(pages)
    }

    async fn each_page(&self, root: Option<FileId>, mut with: impl FnMut(FileId, &Page)) -> Result<(), NodeError> {
        let mut open: Vec<_> = root.into_iter().collect();
        while !open.is_empty() {
            let some = open.split_off(open.len().saturating_sub(PAGES));
            let mut loaded = self.loaded();
            let missing: Vec<_> = some.iter().filter(|page| loaded.page(page).is_none()).copied().collect();
            loaded.load(&missing).await?;
            for id in some {
                let page = loaded.page(&id).ok_or_else(|| super::damaged(&id))?;
                with(id, &page);
                if let Page::Inner { children, .. } = &*page {
                    open.extend(children.iter().map(|child| child.page));
                }
            }
        }
        Ok(())
    }
}

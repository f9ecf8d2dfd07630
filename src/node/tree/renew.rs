//! Renewal: what folders hold lasts longer. Pages are renewed by the node itself: no path names them, and with one of them all
//! below it would be gone.

use futures::{StreamExt, stream};

use super::Tree;
use crate::files::tree::{Cursor, Entry, Stop, leaf_at};
use crate::files::{FileKind, OpenManifest};
use crate::node::handle::{Handle, NodeError};
use crate::types::{FileId, limits};
use crate::wire::Action;

/// Deals that are renewed at the same time.
const AT_ONCE: usize = 64;
/// How long one renewal may take.
const WITHIN: std::time::Duration = std::time::Duration::from_secs(60);

/// What was renewed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Renewed {
    /// Stored contents, older versions too.
    pub contents: usize,
    /// Pages that hold the folders.
    pub pages: usize,
    /// What could not be renewed, and why.
    pub failed: Vec<(FileId, String)>,
}

impl Tree {
    /// Makes everything at a path and below it last so many epochs longer, and the pages of the tree.
    /// Errors: those of reading pages. What cannot be renewed is in the result.
    pub async fn renew(&self, path: &str, epochs: u32) -> Result<Renewed, NodeError> {
        let mut contents = Vec::new();
        self.each_below(path, |entry| contents.extend(entry.files())).await?;
        let mut done = Renewed::default();
        let failed = self.renew_all(contents, epochs, &mut done.contents).await;
        done.failed = failed;
        let pages = self.reached_pages().await?;
        let failed = self.renew_all(pages, epochs, &mut done.pages).await;
        done.failed.extend(failed);
        Ok(done)
    }

    async fn renew_all(&self, files: Vec<FileId>, epochs: u32, done: &mut usize) -> Vec<(FileId, String)> {
        let renewing = stream::iter(files)
            .map(|file| async move { (file, self.handle.act(Action::RenewFile { file, epochs }, WITHIN).await) });
        let mut renewing = std::pin::pin!(renewing.buffer_unordered(AT_ONCE));
        let mut failed = Vec::new();
        while let Some((file, renewed)) = renewing.next().await {
            match renewed {
                Ok(_) => *done += 1,
                Err(error) => failed.push((file, error.to_string())),
            }
        }
        failed
    }

    /// Calls back for the entry at a path and all below it, leaf by leaf.
    async fn each_below(&self, path: &str, mut with: impl FnMut(&Entry)) -> Result<(), NodeError> {
        let Some(root) = self.root()? else { return Ok(()) };
        let folder = if path.is_empty() { String::new() } else { format!("{path}/") };
        let mut loaded = self.loaded();
        if let Some(entry) = self.stat(path).await? {
            with(&entry);
        }
        let mut cursor = Cursor::At(folder.clone());
        loop {
            let leaf = match leaf_at(&root, &cursor, limits::TREE_AHEAD_MAX, &loaded) {
                Ok(leaf) => leaf,
                Err(Stop::Missing(pages)) => {
                    loaded.load(&pages).await?;
                    continue;
                }
                Err(Stop::Damaged(page)) => return Err(super::damaged(&page)),
                Err(Stop::Refused(error)) => return Err(error.into()),
            };
            for (path, entry) in leaf.entries().iter().filter(|(path, _)| !cursor.is_after(path)) {
                if !path.starts_with(&folder) {
                    return Ok(());
                }
                with(entry);
            }
            match leaf.next {
                Some(next) => cursor = Cursor::At(next),
                None => return Ok(()),
            }
        }
    }
}

/// Whether an own file is a page of its account's folders.
pub(in crate::node) fn is_page(handle: &Handle, file: &FileId) -> bool {
    let (Ok((_, Some(manifest))), Ok(keys)) = (handle.file(file), handle.keys()) else { return false };
    OpenManifest::open(&manifest, keys).is_ok_and(|open| open.facts().kind == FileKind::Page)
}

/// Renews those of some pages that the present root leads to, in the background.
pub(in crate::node) fn keep_pages(handle: &Handle, ending: Vec<FileId>) {
    let Ok(tree) = Tree::of(handle) else { return };
    let epochs = handle.config().files.epochs;
    handle.spawn_while_running(async move {
        let mut pages = match tree.reached_pages().await {
            Ok(pages) => pages,
            Err(error) => return tracing::warn!(%error, "pages of the account's folders end soon and cannot be read"),
        };
        pages.retain(|page| ending.contains(page));
        let mut done = 0;
        for (page, reason) in tree.renew_all(pages, epochs, &mut done).await {
            tracing::warn!(%page, reason, "a page of the account's folders ends soon and could not be renewed");
        }
        if done > 0 {
            tracing::info!(pages = done, epochs, "pages of the account's folders were renewed");
        }
    });
}

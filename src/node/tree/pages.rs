//! Pages as files: read with whatever is missing at once, written level by level.

use std::collections::HashMap;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};

use super::{Tree, lock};
use crate::files::FileKind;
use crate::files::tree::{Page, PageRef, Source, Update};
use crate::node::files::get::OpenFile;
use crate::node::files::put::{PutRequest, put};
use crate::node::handle::{Handle, NodeError};
use crate::types::{FileId, limits};

/// Pages that are read or written at the same time.
const AT_ONCE: usize = 8;

/// Pages that were read for one piece of work, over those that the node has in memory.
pub(super) struct Loaded<'a> {
    tree: &'a Tree,
    read: HashMap<FileId, Arc<Page>>,
}

impl Source for Loaded<'_> {
    fn page(&self, id: &FileId) -> Option<Arc<Page>> {
        let kept = || lock(&self.tree.trees().cache).get(self.tree.account, id);
        self.read.get(id).cloned().or_else(kept)
    }
}

impl Loaded<'_> {
    /// Reads pages. Errors: those of reading files, `Verification` for one that is no page.
    pub async fn load(&mut self, pages: &[FileId]) -> Result<(), NodeError> {
        let tree = self.tree;
        let loading = stream::iter(pages.iter().copied()).map(|id| async move { Ok((id, tree.load(id).await?)) });
        let loaded: Vec<_> = loading.buffer_unordered(AT_ONCE).try_collect::<Vec<_>>().await.map_err(page_error)?;
        self.read.extend(loaded);
        Ok(())
    }
}

fn page_error(error: NodeError) -> NodeError {
    match error {
        NodeError::NotFound { id, .. } => NodeError::NotFound { what: "page of the account's folders", id },
        error => error,
    }
}

impl Tree {
    pub(super) fn loaded(&self) -> Loaded<'_> {
        Loaded { tree: self, read: HashMap::new() }
    }

    async fn load(&self, id: FileId) -> Result<Arc<Page>, NodeError> {
        let wrong = |what: String| NodeError::Verification(format!("page {id} of the account's folders: {what}"));
        let file = OpenFile::open(&self.handle, id)?;
        let (kind, len) = (file.manifest().facts().kind, file.manifest().plain_len());
        if kind != FileKind::Page || len > limits::TREE_PAGE_BYTES_MAX as u64 {
            return Err(wrong(format!("a file of {len} bytes that is no page")));
        }
        let (_, mut pieces) = file.read(None).await?;
        let mut bytes = Vec::new();
        while let Some(piece) = pieces.recv().await {
            bytes.extend_from_slice(&piece?);
        }
        let page = Arc::new(Page::from_bytes(&bytes).map_err(|error| wrong(error.to_string()))?);
        lock(&self.trees().cache).insert(self.account, id, Arc::clone(&page), bytes.len());
        Ok(page)
    }

    /// Writes the pages of an update, those below before those above, each final before the next level begins. Gives the root
    /// and all that was written, also when it fails.
    pub(super) async fn write(&self, update: &Update) -> (Vec<FileId>, Result<Option<FileId>, NodeError>) {
        let mut ids: Vec<Option<FileId>> = vec![None; update.pages.len()];
        let of =
            |ids: &[Option<FileId>], at: usize| ids.get(at).copied().flatten().expect("pages below are written first");
        let mut failed = None;
        for level in 0..=limits::TREE_LEVELS_MAX {
            let pages = update.pages.iter().enumerate().filter(|(_, page)| page.level() == level);
            let pages: Vec<_> = pages.map(|(at, page)| (at, page.page(|below| of(&ids, below)))).collect();
            let writing = stream::iter(pages).map(|(at, page)| async move { (at, self.write_one(page).await) });
            let mut writing = std::pin::pin!(writing.buffer_unordered(AT_ONCE));
            while let Some((at, written)) = writing.next().await {
                match written {
                    Ok(id) => ids[at] = Some(id),
                    Err(error) => failed = Some(error),
                }
            }
            if failed.is_some() {
                break;
            }
        }
        let root = match failed {
            Some(error) => Err(error),
            None => Ok(update.root.map(|root| match root {
                PageRef::Old(id) => id,
                PageRef::New(at) => of(&ids, at),
            })),
        };
        (ids.into_iter().flatten().collect(), root)
    }

    async fn write_one(&self, page: Page) -> Result<FileId, NodeError> {
        let bytes = page.clone().bytes();
        let len = bytes.len();
        let mut session = [0; 32];
        getrandom::fill(&mut session).map_err(|error| NodeError::Unavailable(format!("no randomness: {error}")))?;
        let request = usual(&self.handle, FileKind::Page, Some(len as u64), session);
        let input = stream::iter([Ok::<_, std::convert::Infallible>(bytes.into())]);
        let done = put(&self.handle, request, input).await?;
        super::content::must_be_final(&done)?;
        lock(&self.trees().cache).insert(self.account, done.file, Arc::new(page), len);
        Ok(done.file)
    }
}

/// A put as the node's settings say. It is final or there is none: nothing may name what could still expire.
pub(super) fn usual(handle: &Handle, kind: FileKind, len: Option<u64>, session: [u8; 32]) -> PutRequest {
    let config = &handle.config().files;
    PutRequest {
        name: String::new(),
        len,
        shards: config.shards,
        chunk_bytes: config.chunk_bytes,
        epochs: config.epochs,
        wanted: config.wanted,
        allow_pending: false,
        session,
        timeout: std::time::Duration::from_millis(config.timeout.get()),
        kind,
    }
}

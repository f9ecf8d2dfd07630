//! Tree: an account's folders, read and changed through its node.
//!
//! A change is on the ledger in this order: contents are final, then pages are final, then the root is set, and only then goes
//! what nobody refers to any more. So a name always leads to bytes that are there, whenever a node or a program is killed; what
//! such an end leaves behind is garbage that `collect` finds. Two devices of one account never undo each other's changes: the
//! ledger refuses the later root, and the later one makes its change again.
//!
//! Changes of one account that come at the same time are written together: one writer gathers what waits, writes each changed
//! page once and sets the root once (`commit`).
//! Not here: what a change does to the pages (`files::tree`).

mod cache;
mod collect;
mod commit;
mod content;
mod pages;
pub(super) mod renew;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, oneshot};

pub use collect::Collected;
pub use content::ContentRequest;
pub use renew::Renewed;

use self::cache::Cache;
use self::commit::Job;
use self::content::Fresh;
use self::pages::Loaded;
use super::handle::{Handle, NodeError};
use crate::files::tree::{self, Batch, Entry, Item, Query, Stop};
use crate::ledger::{Key, Record};
use crate::types::{AccountId, FileId, limits};

/// Roots on which a read is tried: each time someone changed the tree and took away a page that was to be read.
const READ_TRIES: usize = 8;

/// What the trees of a node's accounts share.
#[derive(Default)]
pub struct Trees {
    cache: Mutex<Cache>,
    writers: Mutex<BTreeMap<AccountId, mpsc::Sender<Job>>>,
    /// Stored files that are about to be deleted: nothing may come to refer to them.
    doomed: Mutex<BTreeSet<FileId>>,
    fresh: Mutex<Fresh>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The folders of a handle's account.
#[derive(Clone)]
pub struct Tree {
    handle: Handle,
    account: AccountId,
}

/// A part of a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The items, in the order of paths.
    pub items: Vec<Item>,
    /// Whether more come after the last one.
    pub more: bool,
}

/// A change that is final.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The root that has it.
    pub root: Option<FileId>,
    /// Entries changed.
    pub changed: usize,
}

impl Tree {
    /// The folders of the handle's account. Errors: `NotAllowed` without one.
    pub fn of(handle: &Handle) -> Result<Self, NodeError> {
        Ok(Self { handle: handle.clone(), account: handle.keys()?.account_id() })
    }
    /// The handle.
    pub const fn handle(&self) -> &Handle {
        &self.handle
    }
    /// The present root, by the last final block. Errors: `Store`.
    pub fn root(&self) -> Result<Option<FileId>, NodeError> {
        match self.handle.record(&Key::Root(self.account))? {
            Some(Record::Root(root)) => Ok(Some(root)),
            _ => Ok(None),
        }
    }
    fn trees(&self) -> &Trees {
        &self.handle.inner.trees
    }

    /// The entry at a path, with or without `/` at its end as the path is. A folder may be there without one: see `is_folder`.
    /// Errors: `Store`, and those of reading pages.
    pub async fn stat(&self, path: &str) -> Result<Option<Entry>, NodeError> {
        self.read(|root, pages| tree::find(root, path, pages)).await
    }

    /// Whether there is a folder at a path; the whole tree is one, at the empty path. Errors: those of `stat`.
    pub async fn is_folder(&self, path: &str) -> Result<bool, NodeError> {
        let prefix = if path.is_empty() { String::new() } else { format!("{}/", path.trim_end_matches('/')) };
        let query = Query { prefix, limit: 1, ..Query::default() };
        Ok(path.is_empty() || !self.list(&query).await?.items.is_empty())
    }

    /// Lists paths; `Query::after` goes on. Errors: those of `stat`.
    pub async fn list(&self, query: &Query) -> Result<Listing, NodeError> {
        let (items, more) = self.read(|root, pages| tree::list(root, query, pages)).await?;
        Ok(Listing { items, more })
    }

    /// Reads on the present root, and again if that has moved on meanwhile and its pages are gone.
    async fn read<T>(
        &self,
        mut call: impl FnMut(Option<&FileId>, &Loaded<'_>) -> Result<T, Stop>,
    ) -> Result<T, NodeError> {
        let mut tries = 0;
        loop {
            let root = self.root()?;
            let mut loaded = self.loaded();
            let failed = loop {
                match call(root.as_ref(), &loaded) {
                    Ok(done) => return Ok(done),
                    Err(Stop::Refused(error)) => return Err(error.into()),
                    Err(Stop::Damaged(page)) => break damaged(&page),
                    Err(Stop::Missing(pages)) => {
                        if let Err(error) = loaded.load(&pages).await {
                            break error;
                        }
                    }
                }
            };
            tries += 1;
            if self.root()? == root || tries == READ_TRIES {
                // An old root leads to what has gone since.
                return Err(match self.handle.behind() {
                    0 => failed,
                    behind => NodeError::Unavailable(format!(
                        "this node is {behind} blocks behind the network and knows older folders only; wait until `trullo status` says that it is ready"
                    )),
                });
            }
        }
    }

    /// Carries changes out, all or none, and waits until they are final. Contents that they put must be stored by
    /// `put_content` before; their sessions, if given, are done with then.
    /// Errors: `Tree` if they are not allowed, `Bad` for too many at once, `Verification` for damaged pages, and those of `put` and of
    /// `Handle::act`. After `Timeout` the change may still become final.
    pub async fn apply(&self, batch: Batch, sessions: Vec<[u8; 32]>) -> Result<Applied, NodeError> {
        let (have, max) = (batch.ops.len(), limits::TREE_BATCH_OPS_MAX);
        if have > max {
            return Err(NodeError::Bad(format!("{have} changes at once; at most {max} are possible")));
        }
        self.handle.takes_in()?;
        let (answer, answered) = oneshot::channel();
        self.ask(Job::Change { batch, sessions, answer }).await?;
        answered.await.map_err(|_| NodeError::Stopping)?
    }

    /// Deletes stored files of the account's folders that no path refers to and that are older than `age`: what a node or a
    /// program left behind that was killed. A younger one may be on its way into the tree on another device.
    /// Errors: `Store`, `Verification`, and those of reading pages.
    pub async fn collect(&self, age: std::time::Duration) -> Result<Collected, NodeError> {
        let (answer, answered) = oneshot::channel();
        self.ask(Job::Collect { age, answer }).await?;
        answered.await.map_err(|_| NodeError::Stopping)?
    }

    /// Gives the account's writer something to do. Errors: `Stopping`.
    async fn ask(&self, mut job: Job) -> Result<(), NodeError> {
        loop {
            match self.writer().send(job).await {
                Ok(()) => return Ok(()),
                Err(_) if self.handle.stop_token().is_cancelled() => return Err(NodeError::Stopping),
                // It ended for want of work in this moment; the next one does it.
                Err(mpsc::error::SendError(back)) => job = back,
            }
        }
    }

    /// The queue of the account's writer, which begins with a change and ends when there has been none for a while: it holds
    /// the account's keys.
    fn writer(&self) -> mpsc::Sender<Job> {
        let mut writers = lock(&self.trees().writers);
        writers.retain(|_, queue| !queue.is_closed());
        let start = || {
            let (queue, jobs) = mpsc::channel(limits::TREE_WAITING_MAX);
            self.handle.spawn_while_running(commit::run(self.clone(), jobs));
            queue
        };
        writers.entry(self.account).or_insert_with(start).clone()
    }
}

fn damaged(page: &FileId) -> NodeError {
    NodeError::Verification(format!("page {page} of the account's folders is not what it must be"))
}

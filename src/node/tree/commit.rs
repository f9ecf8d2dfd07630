//! The writer: gathers changes that wait, writes their pages once, sets the root once, and answers all.

use std::collections::VecDeque;
use std::time::Duration;

use borsh::{BorshDeserialize, BorshSerialize};
use futures::{StreamExt, stream};
use tokio::sync::{mpsc, oneshot};

use super::collect::{Collected, GARBAGE_AGE};
use super::{Applied, Loaded, Tree, damaged, lock};
use crate::files::tree::{Batch, Op, Stop, Update, View, update};
use crate::mempool::Refusal;
use crate::node::clock::random_pause;
use crate::node::files::put::blocking;
use crate::node::handle::NodeError;
use crate::types::{AccountId, FileId, Millis, limits};
use crate::wire::{self, Action};

/// Roots on which a change is made before it is given up: each time another device was quicker.
const TRIES: u32 = 64;
/// Longest pause before a change is made again.
const PAUSE_MAX: Duration = Duration::from_millis(300);
/// Files that are deleted at the same time.
const DELETES_AT_ONCE: usize = 64;
/// How long one deletion may take.
const DELETE_WITHIN: Duration = Duration::from_secs(60);
/// How long a writer waits for more.
const IDLE: Duration = Duration::from_secs(600);
/// How often garbage is looked for.
const COLLECT_EVERY: Duration = Duration::from_secs(86_400);

/// What a writer is asked for.
pub(super) enum Job {
    Change { batch: Batch, sessions: Vec<[u8; 32]>, answer: oneshot::Sender<Result<Applied, NodeError>> },
    Collect { age: Duration, answer: oneshot::Sender<Result<Collected, NodeError>> },
}

struct Change {
    batch: Batch,
    sessions: Vec<[u8; 32]>,
    answer: oneshot::Sender<Result<Applied, NodeError>>,
    changed: usize,
    /// Why it is not made, if what was made before it in the group becomes final.
    refused: Option<NodeError>,
}

/// What a root change leaves behind if it takes effect, or if it does not; kept on disk before it is asked for.
#[derive(Clone, Default, BorshSerialize, BorshDeserialize)]
struct Intent {
    expect: Option<FileId>,
    new: Option<FileId>,
    written: Vec<FileId>,
    freed: Vec<FileId>,
}

/// Writes until nothing has come for a while, or the node stops. What waits stays in the queue, which is bounded, until it is its
/// turn.
pub(super) async fn run(tree: Tree, mut jobs: mpsc::Receiver<Job>) {
    let mut undecided = recall(&tree).await;
    let start = tokio::time::Instant::now() + COLLECT_EVERY;
    let mut looks = tokio::time::interval_at(start, COLLECT_EVERY);
    loop {
        let mut next = tokio::select! {
            job = jobs.recv() => match job {
                Some(job) => Some(job),
                None => return,
            },
            () = tokio::time::sleep(IDLE) => {
                collect_if_due(&tree).await;
                // Nothing more gets in; what did is still done.
                jobs.close();
                None
            }
            _ = looks.tick() => {
                collect_if_due(&tree).await;
                None
            }
        };
        let (mut group, mut ops, mut collect) = (Vec::new(), 0, None);
        while let Some(job) = next.take() {
            match job {
                Job::Change { batch, sessions, answer } => {
                    ops += batch.ops.len().max(1);
                    group.push(Change { batch, sessions, answer, changed: 0, refused: None });
                    next = if ops < limits::TREE_BATCH_OPS_MAX { jobs.try_recv().ok() } else { None };
                }
                // What was asked for before is written first.
                Job::Collect { age, answer } => collect = Some((age, answer)),
            }
        }
        if !group.is_empty() {
            commit(&tree, group, &mut undecided).await;
        }
        if let Some((age, answer)) = collect {
            let _ = answer.send(tree.collect_now(age).await);
        }
    }
}

/// Looks for garbage if the last look was long enough ago, whoever made it.
async fn collect_if_due(tree: &Tree) {
    let (name, now) = (format!("tree.collected.{}", tree.account), tree.handle.clock().now());
    let last = tree.handle.local().setting(&name).ok().flatten();
    let last = last.and_then(|bytes| borsh::from_slice::<Millis>(&bytes).ok()).unwrap_or_default();
    if u128::from(now.saturating_sub(last).get()) < COLLECT_EVERY.as_millis() {
        return;
    }
    if let Err(error) = tree.collect_now(GARBAGE_AGE).await {
        tracing::warn!(%error, "garbage of the account's folders could not be collected");
    }
    let local = tree.handle.local().clone();
    if let Err(error) = blocking(move || local.put_setting(&name, &wire::encode(&now))).await {
        tracing::warn!(%error, "the time of the look for garbage is not kept");
    }
}

/// What the last change left behind when the node ended; gives one of which it is not known yet whether it takes effect.
async fn recall(tree: &Tree) -> Option<Intent> {
    let bytes = tree.handle.local().setting(&intent_name(&tree.account)).ok().flatten()?;
    let intent = borsh::from_slice::<Intent>(&bytes).ok()?;
    let root = tree.root().ok()?;
    if root == intent.expect {
        return Some(intent);
    }
    if root == intent.new {
        tree.forget(intent.freed);
    }
    None
}

fn intent_name(account: &AccountId) -> String {
    format!("tree.intent.{account}")
}

/// Makes the changes of a group final, on one root after another until no other device is quicker, and answers each.
async fn commit(tree: &Tree, mut group: Vec<Change>, undecided: &mut Option<Intent>) {
    let mut tries = 0;
    let done = loop {
        match attempt(tree, &mut group).await {
            Err(Failed::Moved) if tries < TRIES => tries += 1,
            Err(Failed::Moved) => {
                let what = format!("the account's folders changed {TRIES} times while this change was made; try again");
                break Err(NodeError::Unavailable(what));
            }
            Err(Failed::By(error)) => break Err(error),
            Ok(done) => break Ok(done),
        }
        group.retain(|change| !change.answer.is_closed());
        random_pause(PAUSE_MAX).await;
    };
    match done {
        Ok((root, intent)) => {
            // Before anything goes: what a change put and a later one of the group replaced was there for its path.
            let (group, refused): (Vec<_>, Vec<_>) = group.into_iter().partition(|change| change.refused.is_none());
            let placed: Vec<_> = group.iter().map(|change| tree.placed(&change.batch)).collect();
            if let Some(intent) = intent {
                if let Some(earlier) = undecided.take().filter(|earlier| earlier.expect == intent.expect) {
                    // That root was not set before this one was, and now it never can be.
                    tree.forget(earlier.written);
                }
                tree.forget(intent.freed);
            }
            done_with(tree, group.iter().flat_map(|change| change.sessions.iter().copied()).collect()).await;
            for (change, placed) in group.into_iter().zip(placed) {
                let said = placed.map(|()| Applied { root, changed: change.changed });
                // Whoever asked may have gone.
                let _ = change.answer.send(said);
            }
            // Those who look why find it: what stood in their way is final now.
            for Change { answer, refused, .. } in refused {
                let _ = refused.map(|error| answer.send(Err(error)));
            }
        }
        Err(error) => {
            for change in group {
                let _ = change.answer.send(Err(alike(&error)));
            }
        }
    }
}

async fn done_with(tree: &Tree, sessions: Vec<[u8; 32]>) {
    if sessions.is_empty() {
        return;
    }
    let local = tree.handle.local().clone();
    if let Err(error) = blocking(move || local.remove_staged(&sessions)).await {
        tracing::warn!(%error, "what is in the tree now is still kept as being on its way");
    }
}

/// The same failure for each of those who wait.
fn alike(error: &NodeError) -> NodeError {
    match error {
        NodeError::Timeout { what, within, hint } => NodeError::Timeout { what: what.clone(), within: *within, hint },
        NodeError::Rejected { tx, code, reason } => NodeError::Rejected { tx: *tx, code, reason: reason.clone() },
        NodeError::Verification(what) => NodeError::Verification(what.clone()),
        NodeError::NotFound { what, id } => NodeError::NotFound { what, id: id.clone() },
        NodeError::Bad(what) => NodeError::Bad(what.clone()),
        NodeError::NotAllowed(what) => NodeError::NotAllowed(what.clone()),
        NodeError::DiskLow(low) => NodeError::DiskLow(*low),
        NodeError::Stopping => NodeError::Stopping,
        other => NodeError::Unavailable(other.to_string()),
    }
}

enum Failed {
    /// Another device was quicker.
    Moved,
    By(NodeError),
}

impl From<NodeError> for Failed {
    fn from(error: NodeError) -> Self {
        Self::By(error)
    }
}

/// Makes the changes on the present root. Gives the root and what to clean up, if anything changed.
async fn attempt(tree: &Tree, group: &mut Vec<Change>) -> Result<(Option<FileId>, Option<Intent>), Failed> {
    let root = tree.root()?;
    let (view, mut loaded) = evaluate(tree, root, group).await?;
    if view.changes().is_empty() {
        return Ok((root, None));
    }
    let next = loop {
        match update(root.as_ref(), view.changes(), &loaded) {
            Ok(next) => break next,
            Err(Stop::Missing(pages)) => load(tree, &root, &mut loaded, &pages).await?,
            Err(Stop::Damaged(page)) => return Err(damaged(&page).into()),
            Err(Stop::Refused(error)) => return Err(NodeError::from(error).into()),
        }
    };
    drop(loaded);
    set_root(tree, root, &next, view.freed()).await.map(|(root, intent)| (root, Some(intent)))
}

/// Carries the changes out in memory, one after another, and notes in those that are not allowed why.
async fn evaluate<'a>(
    tree: &'a Tree,
    root: Option<FileId>,
    group: &mut Vec<Change>,
) -> Result<(View<'static, ()>, Loaded<'a>), Failed> {
    let mut view = View::new(root, &());
    let mut loaded = tree.loaded();
    let mut waiting = VecDeque::from(std::mem::take(group));
    while let Some(mut change) = waiting.pop_front() {
        match tree.fresh(&change.batch, &change.sessions) {
            Ok(fresh) => change.batch.fresh = fresh,
            Err(error) => {
                group.push(change);
                group.extend(waiting);
                return Err(Failed::By(error));
            }
        }
        let (next, done) = carry_out(tree, root, view, &mut loaded, &change.batch).await;
        view = next;
        match done {
            Ok(changed) => {
                (change.changed, change.refused) = (changed, None);
                group.push(change);
            }
            Err(Carried::Refused(error)) => {
                change.refused = Some(error);
                group.push(change);
            }
            Err(Carried::Failed(failed)) => {
                // Nobody is forgotten: all are answered together, or tried again.
                group.push(change);
                group.extend(waiting);
                return Err(failed);
            }
        }
    }
    Ok((view, loaded))
}

/// Why a batch was not carried out.
enum Carried {
    /// It is not allowed, which is for whoever asked for it.
    Refused(NodeError),
    /// Nothing can be carried out on this root.
    Failed(Failed),
}

async fn carry_out(
    tree: &Tree,
    root: Option<FileId>,
    mut view: View<'static, ()>,
    loaded: &mut Loaded<'_>,
    batch: &Batch,
) -> (View<'static, ()>, Result<usize, Carried>) {
    let stored = batch.ops.iter().try_for_each(|op| match op {
        Op::Put { path, entry, .. } => tree.check_stored(path, entry),
        _ => Ok(()),
    });
    if let Err(error) = stored {
        return (view, Err(Carried::Refused(error)));
    }
    loop {
        let mut trying = view.over(loaded);
        let done = trying.apply(batch);
        view = trying.over(&());
        let failed = match done {
            Ok(done) => return (view, Ok(done.changed)),
            Err(Stop::Refused(error)) => return (view, Err(Carried::Refused(error.into()))),
            Err(Stop::Damaged(page)) => damaged(&page).into(),
            Err(Stop::Missing(pages)) => match load(tree, &root, loaded, &pages).await {
                Ok(()) => continue,
                Err(failed) => failed,
            },
        };
        return (view, Err(Carried::Failed(failed)));
    }
}

async fn load(tree: &Tree, root: &Option<FileId>, loaded: &mut Loaded<'_>, pages: &[FileId]) -> Result<(), Failed> {
    match loaded.load(pages).await {
        // Who moved the root on has taken away what it replaced.
        Err(_) if tree.root()? != *root => Err(Failed::Moved),
        done => Ok(done?),
    }
}

/// Writes the pages, sets the root, and says what nobody refers to any more.
async fn set_root(
    tree: &Tree,
    expect: Option<FileId>,
    next: &Update,
    freed: Vec<FileId>,
) -> Result<(Option<FileId>, Intent), Failed> {
    let (written, new) = tree.write(next).await;
    let new = match new {
        Ok(new) => new,
        Err(error) => {
            tree.forget(written);
            return Err(error.into());
        }
    };
    let freed = freed.into_iter().chain(next.replaced.iter().copied()).collect();
    let intent = Intent { expect, new, written, freed };
    let (local, name, bytes) = (tree.handle.local().clone(), intent_name(&tree.account), wire::encode(&intent));
    blocking(move || local.put_setting(&name, &bytes)).await?;
    let within = Duration::from_millis(tree.handle.config().files.timeout.get());
    match tree.handle.act(Action::SetRoot { expect, new }, within).await {
        Ok(_) => Ok((new, intent)),
        Err(NodeError::Rejected { code: "root_moved", .. }) => {
            tree.forget(intent.written);
            Err(Failed::Moved)
        }
        // The account's next number was taken each time: another device is busy with the same account. Nothing was sent.
        Err(NodeError::Refused(Refusal::StaleNonce { .. })) => {
            tree.forget(intent.written);
            Err(Failed::Moved)
        }
        // It may still become final, so nothing is taken away.
        Err(error) => Err(error.into()),
    }
}

impl Tree {
    /// Deletes stored files that nothing refers to, in the background. One that cannot be deleted now is garbage for later.
    pub(super) fn forget(&self, files: Vec<FileId>) {
        if files.is_empty() {
            return;
        }
        {
            let (mut doomed, mut cache) = (lock(&self.trees().doomed), lock(&self.trees().cache));
            for file in &files {
                doomed.insert(*file);
                cache.remove(self.account, file);
            }
        }
        let tree = self.clone();
        self.handle.spawn_while_running(async move {
            let deleting = stream::iter(files).for_each_concurrent(DELETES_AT_ONCE, |file| {
                let tree = &tree;
                async move {
                    if let Err(error) = tree.delete(file).await {
                        tracing::debug!(%file, %error, "a file that nothing refers to could not be deleted yet");
                    }
                    lock(&tree.trees().doomed).remove(&file);
                }
            });
            deleting.await;
        });
    }

    /// Ends the deal of a stored file, if it is open.
    pub(super) async fn delete(&self, file: FileId) -> Result<(), NodeError> {
        match self.handle.file(&file) {
            Ok((deal, _)) if deal.status.is_open() => {
                crate::node::files::remove(&self.handle, file, DELETE_WITHIN).await.map(drop)
            }
            Ok(_) | Err(NodeError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

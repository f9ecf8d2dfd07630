//! Contents: the bytes of a file in the tree, stored before any path names them.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use tokio::sync::mpsc;

use super::pages::usual;
use super::{Tree, lock};
use crate::files::FileKind;
use crate::files::tree::{Batch, Content, Entry, Op, Piece, TreeError};
use crate::ledger::record::DealStatus;
use crate::ledger::{Key, Record};
use crate::node::files::get::OpenFile;
use crate::node::files::put::{PutResult, blocking, put};
use crate::node::handle::NodeError;
use crate::types::{AccountId, FileId, limits};
use crate::wire;

/// Pieces of plaintext that wait for whoever reads them.
const PIECES_AHEAD: usize = 2;

/// Pieces that were stored and that no path has yet, by account. A put without a session is known by this alone.
///
/// Two generations: when the new one is full, the old one goes, and what was in it has to be stored again.
#[derive(Default)]
pub(super) struct Fresh {
    new: BTreeSet<(AccountId, Piece)>,
    old: BTreeSet<(AccountId, Piece)>,
}

impl Fresh {
    fn insert(&mut self, account: AccountId, piece: Piece) {
        if self.new.len() >= limits::TREE_FRESH_MAX / 2 {
            self.old = std::mem::take(&mut self.new);
        }
        self.new.insert((account, piece));
    }
    fn has(&self, account: AccountId, piece: Piece) -> bool {
        self.new.contains(&(account, piece)) || self.old.contains(&(account, piece))
    }
    fn remove(&mut self, account: AccountId, piece: Piece) {
        self.new.remove(&(account, piece));
        self.old.remove(&(account, piece));
    }
}

/// The pieces that a batch puts.
fn pieces(batch: &Batch) -> impl Iterator<Item = Piece> {
    let entries = batch.ops.iter().filter_map(|op| match op {
        Op::Put { entry, .. } => entry.content(),
        _ => None,
    });
    entries.flat_map(|content| content.pieces.iter().copied())
}

/// What is wanted of a content.
#[derive(Clone, Debug, Default)]
pub struct ContentRequest {
    /// Bytes, if known.
    pub len: Option<u64>,
    /// Names this put, so that another try goes on with it: it must follow from all that tells one content from another.
    /// Without it another try begins anew.
    pub session: Option<[u8; 32]>,
    /// Data and parity shards, if others than the node's settings say.
    pub shards: Option<(u8, u8)>,
    /// How long to wait for receipts and for finality, if not as the node's settings say.
    pub timeout: Option<Duration>,
}

impl Tree {
    /// Stores a content, so that `apply` can give it to a path. It is final when this comes back; if no path refers to it within
    /// a day, it is garbage. A content without bytes stores nothing.
    /// Errors: those of `put`; `Unavailable` if too few nodes confirm.
    pub async fn put_content<E: std::fmt::Display>(
        &self,
        request: ContentRequest,
        input: impl Stream<Item = Result<Bytes, E>> + Unpin,
    ) -> Result<Content, NodeError> {
        let put_at = self.handle.clock().now();
        let mut session = [0; 32];
        match request.session {
            // A path's content and a file put alone never share a session.
            Some(named) => {
                session = crate::crypto::hash(crate::crypto::Domain::Session, &wire::encode(&("tree", named)))
            }
            None => {
                getrandom::fill(&mut session)
                    .map_err(|error| NodeError::Unavailable(format!("no randomness: {error}")))?;
            }
        }
        let mut input = input;
        // What is empty is known only when nothing comes.
        let first = loop {
            match input.next().await {
                None => break None,
                Some(Ok(piece)) if piece.is_empty() => {}
                Some(piece) => break Some(piece),
            }
        };
        let Some(first) = first else {
            if let Some(len) = request.len.filter(|len| *len > 0) {
                let why = format!("the input broke off: it has no bytes, {len} were announced");
                return Err(NodeError::Unavailable(why));
            }
            let hash = Some(*blake3::hash(b"").as_bytes());
            return Ok(Content { number: 0, pieces: Vec::new(), hash, put: put_at });
        };
        let mut wanted = usual(&self.handle, FileKind::Content, request.len, session);
        wanted.shards = request.shards.or(wanted.shards);
        wanted.timeout = request.timeout.unwrap_or(wanted.timeout);
        let hasher = Arc::new(Mutex::new(blake3::Hasher::new()));
        let hashing = Arc::clone(&hasher);
        let input = futures::stream::iter([first]).chain(input).inspect(move |piece| {
            if let Ok(piece) = piece {
                lock(&hashing).update(piece);
            }
        });
        let done = put(&self.handle, wanted, Box::pin(input)).await?;
        must_be_final(&done)?;
        let hash = Some(*lock(&hasher).finalize().as_bytes());
        let pieces = vec![Piece { file: done.file, len: done.bytes }];
        let content = Content { number: 0, pieces, hash, put: put_at };
        for piece in &content.pieces {
            lock(&self.trees().fresh).insert(self.account, *piece);
        }
        if let Some(session) = request.session {
            let (local, bytes) = (self.handle.local().clone(), wire::encode(&content));
            blocking(move || local.put_staged(&session, &bytes)).await?;
        }
        Ok(content)
    }

    /// The content that a session has stored and that no path refers to yet, if it is still there. Errors: `Store`.
    pub fn staged(&self, session: &[u8; 32]) -> Result<Option<Content>, NodeError> {
        let Some(bytes) = self.handle.local().staged(session)? else { return Ok(None) };
        let content = wire::decode::<Content>(&bytes, limits::TREE_ENTRY_BYTES_MAX).ok();
        match content {
            Some(content) if self.is_stored(&content)? => Ok(Some(content)),
            _ => Ok(None),
        }
    }

    /// Errors: `Gone` for an entry whose content is not stored, or about to be deleted; `Store`.
    pub(super) fn check_stored(&self, path: &str, entry: &Entry) -> Result<(), NodeError> {
        match entry.content() {
            Some(content) if !self.is_stored(content)? => Err(TreeError::Gone(path.to_owned()).into()),
            _ => Ok(()),
        }
    }

    /// Pieces of a batch that were stored for it and that no path has yet. Errors: `Store`.
    pub(super) fn fresh(&self, batch: &Batch, sessions: &[[u8; 32]]) -> Result<BTreeSet<Piece>, NodeError> {
        let mut fresh: BTreeSet<_> = {
            let known = lock(&self.trees().fresh);
            pieces(batch).filter(|piece| known.has(self.account, *piece)).collect()
        };
        for session in sessions {
            fresh.extend(self.staged(session)?.into_iter().flat_map(|content| content.pieces));
        }
        Ok(fresh)
    }

    /// Forgets that what a batch put has no path, as it has one now. Errors: `Gone` if another device has deleted it meanwhile;
    /// `Store`.
    pub(super) fn placed(&self, batch: &Batch) -> Result<(), NodeError> {
        let mut fresh = lock(&self.trees().fresh);
        pieces(batch).for_each(|piece| fresh.remove(self.account, piece));
        drop(fresh);
        batch.ops.iter().try_for_each(|op| match op {
            Op::Put { path, entry, .. } => self.check_stored(path, entry),
            _ => Ok(()),
        })
    }

    fn is_stored(&self, content: &Content) -> Result<bool, NodeError> {
        for Piece { file, .. } in &content.pieces {
            let Some(Record::File(deal)) = self.handle.record(&Key::File(*file))? else { return Ok(false) };
            let is_final = matches!(deal.status, DealStatus::Final { .. });
            if deal.owner != self.account || !is_final || lock(&self.trees().doomed).contains(file) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The bytes of a range, as they come; the last item is an error if not all could be read.
    /// Errors: `Bad` for a range outside of the content; those of reading a file.
    pub async fn read_content(
        &self,
        content: &Content,
        range: Option<Range<u64>>,
    ) -> Result<(u64, mpsc::Receiver<Result<Bytes, NodeError>>), NodeError> {
        let len = content.len();
        let range = range.unwrap_or(0..len);
        if range.start > range.end || range.end > len {
            return Err(NodeError::Bad(format!("bytes {}..{} of {len}", range.start, range.end)));
        }
        let (mut parts, mut from) = (Vec::new(), 0);
        for piece in &content.pieces {
            let (start, end) = (range.start.max(from), range.end.min(from + piece.len));
            if start < end {
                parts.push((*piece, start - from..end - from));
            }
            from += piece.len;
        }
        let (sender, receiver) = mpsc::channel(PIECES_AHEAD);
        let handle = self.handle.clone();
        self.handle.spawn_while_running(async move {
            for (piece, range) in parts {
                if let Err(error) = pass_on(&handle, piece, range, &sender).await {
                    let _ = sender.send(Err(error)).await;
                    return;
                }
            }
        });
        Ok((range.end - range.start, receiver))
    }
}

async fn pass_on(
    handle: &crate::node::Handle,
    piece: Piece,
    range: Range<u64>,
    out: &mpsc::Sender<Result<Bytes, NodeError>>,
) -> Result<(), NodeError> {
    let file = OpenFile::open(handle, piece.file)?;
    let have = file.manifest().plain_len();
    if have != piece.len {
        let what = format!("file {} has {have} bytes, its folder says {}", piece.file, piece.len);
        return Err(NodeError::Verification(what));
    }
    let (_, mut pieces) = file.read(Some(range)).await?;
    while let Some(piece) = pieces.recv().await {
        if out.send(Ok(piece?)).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// Errors: `Unavailable` for a deal that is not final.
pub(super) fn must_be_final(done: &PutResult) -> Result<FileId, NodeError> {
    match done.status {
        DealStatus::Final { .. } => return Ok(done.file),
        DealStatus::Deleted { .. } => {
            let why =
                "another device of the account deleted it as garbage before it had a path; run the same command again";
            return Err(NodeError::Unavailable(why.to_owned()));
        }
        _ => {}
    }
    let why: Vec<_> = done.missing.iter().map(|missing| missing.why.as_str()).collect();
    let (have, all) = done.confirmed;
    let why = format!("{have} of {all} slots are confirmed, too few to be final: {}", why.join("; "));
    Err(NodeError::Unavailable(format!("{why}; run the same command again to go on")))
}

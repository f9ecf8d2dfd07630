//! Questions about the chain that are answered with proofs, and what a node answers. Anybody connected may ask.

use std::sync::Arc;

use borsh::{BorshDeserialize, BorshSerialize};

use super::trust::{HEADERS_MAX, SetChange, Trusted};
use crate::ledger::Key;
use crate::node::bundle::{self, Bundle, BundleError};
use crate::node::snapshot::Shelf;
use crate::store::{Reader, Snapshot, StoreError};
use crate::types::{Height, limits};
use crate::wire::{self, Certificate, Header, ValidatorSet};

/// What is asked. `since` is a height up to which the asker knows the validators: changes of them after it come along.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Question {
    /// The last final header: a `Head`.
    Head {
        /// Known up to here.
        since: Height,
    },
    /// The header of a height: a `Head` whose first header is that one.
    Header {
        /// Which.
        height: Height,
        /// Known up to here.
        since: Height,
    },
    /// A record of the state after the last final block: a `Bundle`.
    Record {
        /// Its key.
        key: Vec<u8>,
        /// Known up to here.
        since: Height,
    },
    /// A header and the validators that it names for the next height.
    Checkpoint {
        /// Which.
        height: Height,
    },
    /// Heights of the snapshots that are kept: a list, the newest first.
    Snapshots,
    /// The hashes of a snapshot's pieces: a `Manifest`.
    Manifest {
        /// Of which snapshot.
        height: Height,
    },
    /// One piece of a snapshot: its records.
    Piece {
        /// Of which snapshot.
        height: Height,
        /// Which piece.
        index: u32,
    },
}

/// Certified headers, and the changes of the validators before them.
#[derive(Clone, Debug, PartialEq, BorshSerialize, BorshDeserialize)]
pub struct Head {
    /// Changes, the oldest first. As many as `limits::CHANGES_PER_ANSWER_MAX` may be not all of them.
    pub changes: Vec<SetChange>,
    /// From the header asked for to a certified one, without gaps.
    pub headers: Vec<Header>,
    /// Proof that the last is final.
    pub certificate: Certificate,
}

impl Head {
    /// Whether there may be more changes than are in it: then its headers cannot be checked yet.
    pub fn is_partial(&self) -> bool {
        self.changes.len() >= limits::CHANGES_PER_ANSWER_MAX
    }

    /// Goes over its changes and checks its headers. What is trusted is then as of the last change. Errors: `BundleError`.
    pub fn verify(&self, trusted: &mut Trusted) -> Result<(), BundleError> {
        self.changes.iter().try_for_each(|change| trusted.change(change))?;
        if self.is_partial() { Ok(()) } else { trusted.certified(&self.headers, &self.certificate) }
    }
}

/// A header with the validators that it names for the next height.
pub type Named = (Header, ValidatorSet);

/// Answers questions from what this node has.
#[derive(Clone)]
pub struct Answerer {
    /// The chain.
    pub reader: Reader,
    /// The snapshots.
    pub shelf: Arc<Shelf>,
}

impl Answerer {
    /// The bytes of an answer: an option, none for what this node does not have; nothing at all for what is no question.
    /// Errors: those of the store.
    pub fn answer(&self, question: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let Ok(question) = wire::decode::<Question>(question, limits::REQUEST_BYTES_MAX) else { return Ok(None) };
        let snapshot = self.reader.snapshot()?;
        let Some(tip) = snapshot.tip()?.filter(|tip| tip.height > Height::GENESIS) else {
            return Ok(Some(wire::encode(&None::<()>)));
        };
        let bytes = match question {
            Question::Head { since } => wire::encode(&head(&snapshot, tip.height, since)?),
            Question::Header { height, since } if height <= tip.height && height > Height::GENESIS => {
                wire::encode(&head(&snapshot, height, since)?)
            }
            Question::Record { key, since } => match Key::from_bytes(&key) {
                Some(key) => {
                    let mut bundle = Bundle::at(&snapshot, &key, tip.height, since)?;
                    bundle.iter_mut().for_each(|bundle| bundle.changes.truncate(limits::CHANGES_PER_ANSWER_MAX));
                    wire::encode(&bundle)
                }
                None => wire::encode(&None::<()>),
            },
            Question::Checkpoint { height } => wire::encode(&bundle::checkpoint(&snapshot, height)?),
            Question::Snapshots => wire::encode(&Some(self.shelf.heights())),
            Question::Manifest { height } => wire::encode(&self.shelf.manifest(height)),
            Question::Piece { height, index } => wire::encode(&self.shelf.piece(height, index)),
            Question::Header { .. } => wire::encode(&None::<()>),
        };
        Ok(Some(bytes))
    }
}

/// The certified headers from a height on. None where the header is not here.
fn head(snapshot: &Snapshot, height: Height, since: Height) -> Result<Option<Head>, StoreError> {
    if snapshot.header(height)?.is_none() {
        return Ok(None);
    }
    let (headers, certificate) = bundle::certified(snapshot, height)?;
    let whole = headers.last().is_some_and(|last| last.height == certificate.height) && headers.len() <= HEADERS_MAX;
    if !whole {
        return Ok(None);
    }
    let changes = bundle::changes(snapshot, since, certificate.round.epoch, limits::CHANGES_PER_ANSWER_MAX)?;
    Ok(changes.map(|changes| Head { changes, headers, certificate }))
}

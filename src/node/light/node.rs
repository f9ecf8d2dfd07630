//! A light node: follows headers by what peers prove, and answers from records that peers prove. It keeps no chain.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::follow::{Conflict, Fault, Follower};
use super::peers::{Answer, Peers, ask};
use super::question::{Head, Question};
use super::trust::Trusted;
use crate::ledger::{Key, Record};
use crate::node::bundle::Bundle;
use crate::node::home::{HomeError, write_file};
use crate::types::{BlockHash, Height, NodeId, StateRoot, limits};
use crate::wire::{self, Header};

/// How often peers are asked for their last final header.
const EVERY: Duration = Duration::from_secs(1);
/// What is trusted is written down at most so often.
const SAVE_EVERY: Duration = Duration::from_secs(5);

/// Why a question is not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LightError {
    /// Nobody proves an answer.
    #[error("{0}")]
    Nobody(String),
    /// The chain has two histories; nothing is answered any more.
    #[error("a quorum certified two different blocks of height {0}; this node has stopped, and kept both as evidence")]
    Conflict(Height),
}

/// What a peer has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerState {
    /// The last height that it proved.
    pub height: Option<Height>,
    /// Why it is asked no more.
    pub dropped: Option<String>,
}

/// A record that was proven, or that there is none.
#[derive(Clone, Debug)]
pub struct Proven {
    /// The record.
    pub record: Option<Record>,
    /// The height whose state it is of.
    pub height: Height,
    /// The block of that height.
    pub hash: BlockHash,
    /// The state root that it was proven under.
    pub state_root: StateRoot,
    /// Validators who certified that.
    pub signers: usize,
    /// The peer that proved it.
    pub peer: NodeId,
}

/// How the light node is.
#[derive(Clone, Debug)]
pub struct LightStatus {
    /// What it began with, or last wrote down.
    pub base: Trusted,
    /// The last final header that was proven.
    pub latest: Option<Header>,
    /// Validators of the next height.
    pub validators: usize,
    /// How long ago a newer header was proven.
    pub stale: Duration,
    /// The peers.
    pub peers: BTreeMap<NodeId, PeerState>,
    /// The height of two certified blocks, if there is one.
    pub conflict: Option<Height>,
}

struct State {
    follower: Follower,
    advanced: Instant,
    /// The height that was written down last, and when.
    saved: Option<(Height, Instant)>,
    peers: BTreeMap<NodeId, PeerState>,
    conflict: Option<Height>,
}

/// A light node.
pub struct Light<P> {
    peers: P,
    file: PathBuf,
    state: Mutex<State>,
}

impl<P: Peers> Light<P> {
    /// Begins with what is trusted. `file` is where it writes down how far it is.
    pub fn new(peers: P, trusted: Trusted, file: PathBuf) -> Self {
        let (follower, peer_states) = (Follower::new(trusted), BTreeMap::new());
        let state = State { follower, advanced: Instant::now(), saved: None, peers: peer_states, conflict: None };
        Self { peers, file, state: Mutex::new(state) }
    }

    /// What was written down in a file, if it is there. Errors: it holds something else.
    pub fn resume(file: &std::path::Path) -> Result<Option<Trusted>, HomeError> {
        let io = |source| HomeError::Io { doing: "reading", path: file.to_owned(), source };
        let bytes = match std::fs::read(file) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io(error)),
        };
        let wrong =
            |_| io(std::io::Error::other("it is no state of a light node; remove it and give --trust or --genesis"));
        wire::decode(&bytes, limits::ANSWER_BYTES_MAX).map(Some).map_err(wrong)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How it is.
    pub fn status(&self) -> LightStatus {
        let connected = self.peers.connected();
        let state = self.lock();
        let mut peers = state.peers.clone();
        connected.into_iter().for_each(|node| _ = peers.entry(node).or_default());
        let (base, latest) = (state.follower.base().clone(), state.follower.latest().cloned());
        let validators = state.follower.newest().set.len();
        LightStatus { base, latest, validators, stale: state.advanced.elapsed(), peers, conflict: state.conflict }
    }

    /// The validators of the next height.
    pub fn newest(&self) -> Trusted {
        self.lock().follower.newest().clone()
    }

    /// Peers that are connected and were not dropped.
    fn honest(&self) -> Vec<NodeId> {
        let connected = self.peers.connected();
        let state = self.lock();
        let dropped = |node: &NodeId| state.peers.get(node).is_some_and(|peer| peer.dropped.is_some());
        connected.into_iter().filter(|node| !dropped(node)).collect()
    }

    fn drop_peer(&self, node: NodeId, why: &str) {
        self.peers.blame(node, why);
        self.lock().peers.entry(node).or_default().dropped = Some(why.to_owned());
    }

    /// Follows until there is a conflict, which is returned. Errors: what is trusted cannot be written down.
    pub async fn run(&self) -> Result<Conflict, HomeError> {
        loop {
            if let Err(conflict) = self.round().await {
                return Ok(*conflict);
            }
            self.save()?;
            tokio::time::sleep(EVERY).await;
        }
    }

    /// Asks every peer for its last final header, and for the one that was the last known: where two peers follow two histories,
    /// their last headers rarely are of one height. Errors: two headers contradict each other, both certified.
    pub async fn round(&self) -> Result<(), Box<Conflict>> {
        let (known, since) = {
            let state = self.lock();
            (state.follower.height(), state.follower.base().height)
        };
        let one = |node: NodeId| async move {
            let said = self.hear(node, &Question::Head { since }).await?;
            if said.is_some_and(|said| said != known) && known > since {
                self.hear(node, &Question::Header { height: known, since }).await?;
            }
            Ok(())
        };
        futures::future::join_all(self.honest().into_iter().map(one)).await.into_iter().collect()
    }

    /// Takes a peer's word. Returns the height that it proves. Errors: it contradicts another's.
    async fn hear(&self, node: NodeId, question: &Question) -> Result<Option<Height>, Box<Conflict>> {
        let head = match ask::<Head>(&self.peers, node, question).await {
            Answer::Said(head) => head,
            Answer::None | Answer::Away => return Ok(None),
            Answer::Lie => {
                self.drop_peer(node, "an answer that cannot be decoded");
                return Ok(None);
            }
        };
        let taken = self.lock().follower.take(&head);
        match taken {
            Ok(newer) => {
                let mut state = self.lock();
                if newer {
                    state.advanced = Instant::now();
                }
                let proven = head.headers.last().map(|last| last.height);
                let peer = state.peers.entry(node).or_default();
                peer.height = proven.max(peer.height);
                Ok(proven)
            }
            Err(Fault::Lie(error)) => {
                self.drop_peer(node, &error.to_string());
                Ok(None)
            }
            Err(Fault::Conflict(conflict)) => {
                self.lock().conflict = Some(conflict.height());
                Err(conflict)
            }
        }
    }

    /// Writes down what is trusted, durably. Errors: the file cannot be written.
    pub fn save(&self) -> Result<(), HomeError> {
        let base = {
            let mut state = self.lock();
            if state
                .saved
                .is_some_and(|(height, at)| height == state.follower.base().height || at.elapsed() < SAVE_EVERY)
            {
                return Ok(());
            }
            let base = state.follower.base().clone();
            state.saved = Some((base.height, Instant::now()));
            base
        };
        write_file(&self.file, &wire::encode(&base))
    }

    /// A record after the last final block, proven by a peer. Errors: `Nobody`, `Conflict`.
    pub async fn record(&self, key: &Key) -> Result<Proven, LightError> {
        self.stopped()?;
        let bytes = key.bytes();
        for node in self.honest() {
            let base = self.lock().follower.base().clone();
            let question = Question::Record { key: bytes.clone(), since: base.height };
            let Answer::Said(bundle) = ask::<Bundle>(&self.peers, node, &question).await else { continue };
            // One from before what is known, or more changes than an answer holds: this node or the peer is still behind.
            if bundle.height() <= base.height || bundle.changes.len() >= limits::CHANGES_PER_ANSWER_MAX {
                continue;
            }
            match prove(&bundle, &bytes, base) {
                Ok(record) => {
                    let header = bundle.headers.first();
                    let Some((hash, state_root)) = header.map(|header| (header.hash(), header.state_root)) else {
                        continue;
                    };
                    let (height, signers) = (bundle.height(), bundle.certificate.signatures.len());
                    return Ok(Proven { record, height, hash, state_root, signers, peer: node });
                }
                Err(why) => self.drop_peer(node, &why),
            }
        }
        Err(self.nobody())
    }

    /// The header of a final block, proven by a peer; none if it is not final yet. Errors: `Nobody`, also for heights before what
    /// this node began with; `Conflict`.
    pub async fn header(&self, height: Option<Height>) -> Result<Option<Header>, LightError> {
        self.stopped()?;
        let (latest, base) = {
            let state = self.lock();
            (state.follower.latest().cloned(), state.follower.base().clone())
        };
        let Some(height) = height.filter(|height| latest.as_ref().is_none_or(|latest| latest.height != *height)) else {
            return latest.map(Some).ok_or_else(|| self.nobody());
        };
        if height <= base.height {
            let text = format!("headers are proven here from height {} on; ask for a later one", base.height.get() + 1);
            return Err(LightError::Nobody(text));
        }
        if latest.as_ref().is_some_and(|latest| height > latest.height) {
            return Ok(None);
        }
        for node in self.honest() {
            let question = Question::Header { height, since: base.height };
            let Answer::Said(head) = ask::<Head>(&self.peers, node, &question).await else { continue };
            let verified = head.verify(&mut base.clone());
            match (verified, head.headers.first().filter(|first| first.height == height && !head.is_partial())) {
                (Ok(()), Some(header)) => return Ok(Some(header.clone())),
                (Err(error), _) => self.drop_peer(node, &error.to_string()),
                (Ok(()), None) => self.drop_peer(node, "the header of another height"),
            }
        }
        Err(self.nobody())
    }

    fn stopped(&self) -> Result<(), LightError> {
        self.lock().conflict.map_or(Ok(()), |height| Err(LightError::Conflict(height)))
    }

    fn nobody(&self) -> LightError {
        let status = self.status();
        let dropped = status.peers.values().filter(|peer| peer.dropped.is_some()).count();
        let stale = status.stale.as_secs();
        let text = match (status.peers.len(), dropped) {
            (0, _) => "no peer is connected".to_owned(),
            (all, dropped) if all == dropped => format!("all {all} peers answered wrongly and are asked no more"),
            (all, dropped) => format!("none of {} peers proves an answer; {dropped} answered wrongly", all),
        };
        let height = self.lock().follower.height();
        LightError::Nobody(format!("{text}; the last final header known is of height {height}, {stale} s old"))
    }
}

/// What a bundle says about a key. Errors: why it does not.
fn prove(bundle: &Bundle, key: &[u8], mut trusted: Trusted) -> Result<Option<Record>, String> {
    if bundle.key != key {
        return Err("an answer about another record".to_owned());
    }
    let changed = bundle.changes.iter().try_for_each(|change| trusted.change(change));
    let verified = changed.and_then(|()| bundle.verify_after(&trusted));
    verified.map(|(_, record)| record).map_err(|error| error.to_string())
}

#[cfg(test)]
#[path = "node_tests.rs"]
mod tests;

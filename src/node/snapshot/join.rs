//! Joining by a snapshot: a final header first, then the state under its root, piece by piece, from several peers.
//!
//! Nothing is believed: the header is proven from the genesis or a checkpoint on, the manifest by the header's state root, each
//! piece by the manifest before it is written, and in the end the whole tree by its root. A peer that sends something else is
//! blamed and asked no more. Every piece is durable with the progress, so a join that was interrupted goes on.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use borsh::{BorshDeserialize, BorshSerialize};
use futures::StreamExt;

use crate::ledger::Genesis;
use crate::ledger::effects::Changes;
use crate::ledger::pieces::{Manifest, RawRecord, empty_tree};
use crate::ledger::tree::{self, Overlay, TreeError};
use crate::node::app::state_changes;
use crate::node::bundle::{BundleError, Checkpoint};
use crate::node::light::peers::{Answer, Peers, ask};
use crate::node::light::question::{Head, Named, Question};
use crate::node::light::trust::{SetChange, Trusted};
use crate::store::{Store, StoreError};
use crate::types::{Height, NodeId};
use crate::wire::{self, Certificate, Header};

/// Pieces that are asked for at the same time: so many answers are in memory.
const WINDOW: usize = 4;
/// Before the peers are asked again.
const PAUSE: Duration = Duration::from_millis(500);
/// How often it is told that nothing goes on, in pauses.
const TELL_EVERY: u32 = 20;
/// Times that peers which are away are asked for a piece before others are looked for.
const TRIES: u32 = 20;

/// Why a join does not go on.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// This node's database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What is to be trusted contradicts itself.
    #[error("{0}")]
    Trust(#[from] BundleError),
}

/// What is joined.
#[derive(Clone, Debug, PartialEq, BorshSerialize, BorshDeserialize)]
struct Plan {
    header: Header,
    certificate: Certificate,
    manifest: Manifest,
}

/// A join under way.
struct Join<'a, P> {
    store: &'a Store,
    peers: &'a P,
    trusted: Trusted,
    /// Those who sent what is provably wrong.
    liars: Mutex<BTreeSet<NodeId>>,
}

/// What is trusted at first: the genesis, or a checkpoint, whose header and validators a peer tells and the hash proves. Waits
/// for a peer that knows the checkpoint. Errors: the genesis is none.
pub async fn anchor(peers: &impl Peers, genesis: &Genesis, point: Option<Checkpoint>) -> Result<Trusted, BundleError> {
    let Some(point) = point else { return Trusted::genesis(genesis) };
    for round in 0_u32.. {
        for node in peers.connected() {
            let named: Answer<Named> = ask(peers, node, &Question::Checkpoint { height: point.height }).await;
            let Answer::Said((header, set)) = named else { continue };
            match Trusted::checkpoint(&point, &header, &set) {
                Ok(trusted) if trusted.chain == genesis.chain_id() => return Ok(trusted),
                Ok(other) => {
                    let text = format!(
                        "checkpoint {point} is of chain {}, the genesis of {}",
                        other.chain,
                        genesis.chain_id()
                    );
                    return Err(BundleError(text));
                }
                // Which of the two is wrong, the peer or what was given as trusted, cannot be told from here.
                Err(error) => tracing::warn!(peer = %node, %error, "a peer knows another block than the checkpoint"),
            }
        }
        if round.is_multiple_of(TELL_EVERY) {
            tracing::warn!(%point, "no connected node knows the checkpoint yet");
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err(BundleError("nobody knows the checkpoint".to_owned()))
}

/// Makes the database one of the chain, by a snapshot of the peers; goes on with a join that was begun. Waits for peers for as
/// long as there are none. Errors: `JoinError`.
pub async fn join<P: Peers>(store: &Store, peers: &P, trusted: Trusted) -> Result<Height, JoinError> {
    let join = Join { store, peers, trusted, liars: Mutex::default() };
    loop {
        let under_way =
            store.joining()?.and_then(|joining| wire::decode::<Plan>(&joining.plan, joining.plan.len()).ok());
        let plan = match under_way {
            Some(plan) => plan,
            None => join.begin().await?,
        };
        if join.fetch(&plan).await? && join.finish(&plan).await? {
            return Ok(plan.header.height);
        }
        tracing::warn!(height = plan.header.height.get(), "the snapshot is no longer there; another one is looked for");
        join.begin().await?;
    }
}

impl<P: Peers> Join<'_, P> {
    fn honest(&self) -> Vec<NodeId> {
        let liars = self.liars.lock().unwrap_or_else(PoisonError::into_inner);
        self.peers.connected().into_iter().filter(|node| !liars.contains(node)).collect()
    }

    fn is_lie(&self, node: NodeId, what: &str) {
        self.peers.blame(node, what);
        self.liars.lock().unwrap_or_else(PoisonError::into_inner).insert(node);
    }

    /// Looks for the newest snapshot that can be proven, until there is one, and begins with it.
    async fn begin(&self) -> Result<Plan, JoinError> {
        for round in 0_u32.. {
            if let Some(plan) = self.find().await {
                let pieces = u64::try_from(plan.manifest.pieces.len()).unwrap_or(u64::MAX);
                let height = plan.header.height;
                let base = empty_tree(Height::new(height.get().saturating_sub(pieces)));
                let mut batch = self.store.batch()?;
                batch.begin_join(&wire::encode(&plan), (&base.0, &base.1))?;
                batch.commit()?;
                tracing::info!(height = height.get(), pieces, "joining by a snapshot");
                return Ok(plan);
            }
            if round.is_multiple_of(TELL_EVERY) {
                let peers = self.honest().len();
                tracing::warn!(
                    peers,
                    "no connected node has a snapshot that is proven; one is made at the end of each epoch. \
                     With sync.mode = \"replay\" a new home begins with the genesis"
                );
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(BundleError("nobody has a snapshot".to_owned()).into())
    }

    async fn find(&self) -> Option<Plan> {
        let mut offers = Vec::new();
        for node in self.honest() {
            if let Answer::Said(heights) = ask::<Vec<Height>>(self.peers, node, &Question::Snapshots).await {
                offers.extend(heights.into_iter().take(16).map(|height| (height, node)));
            }
        }
        offers.retain(|(height, _)| *height > self.trusted.height);
        offers.sort_by_key(|(height, _)| std::cmp::Reverse(*height));
        for (height, node) in offers {
            let Some((header, certificate)) = self.prove(node, height, &mut |_| Ok(())).await.ok().flatten() else {
                continue;
            };
            let Answer::Said(manifest) = ask::<Manifest>(self.peers, node, &Question::Manifest { height }).await else {
                continue;
            };
            match manifest.check(height, &header.state_root) {
                Ok(()) => return Some(Plan { header, certificate, manifest }),
                Err(error) => self.is_lie(node, &error.to_string()),
            }
        }
        None
    }

    /// The header of a height with a certificate of its own, proven over all changes of the validators before it, which are
    /// handed on. None if the peer does not prove it. Errors: those of `note`.
    async fn prove(
        &self,
        node: NodeId,
        height: Height,
        note: &mut (impl FnMut(&SetChange) -> Result<(), StoreError> + Send),
    ) -> Result<Option<(Header, Certificate)>, StoreError> {
        let mut trusted = self.trusted.clone();
        loop {
            let question = Question::Header { height, since: trusted.height };
            let Answer::Said(head) = ask::<Head>(self.peers, node, &question).await else { return Ok(None) };
            let before = trusted.height;
            if let Err(error) = head.verify(&mut trusted) {
                self.is_lie(node, &error.to_string());
                return Ok(None);
            }
            head.changes.iter().try_for_each(&mut *note)?;
            match (head.is_partial(), head.headers.as_slice()) {
                (true, _) if trusted.height > before => {}
                (false, [header]) if header.height == height => {
                    return Ok(Some((header.clone(), head.certificate)));
                }
                _ => return Ok(None),
            }
        }
    }

    /// Fetches the pieces that are not there yet. False when the peers no longer have them. Errors: `JoinError`.
    async fn fetch(&self, plan: &Plan) -> Result<bool, JoinError> {
        let count = u32::try_from(plan.manifest.pieces.len()).unwrap_or(u32::MAX);
        let first = self.store.joining()?.map_or(0, |joining| joining.pieces);
        let pieces =
            futures::stream::iter(first..count).map(|index| async move { (index, self.piece(plan, index).await) });
        let mut pieces = std::pin::pin!(pieces.buffered(WINDOW));
        while let Some((index, changes)) = pieces.next().await {
            let Some(changes) = changes else { return Ok(false) };
            self.write(plan, index, count, &changes)?;
            if index % 64 == 63 {
                tracing::info!(pieces = index + 1, of = count, "the state is coming in");
            }
        }
        Ok(true)
    }

    fn write(&self, plan: &Plan, index: u32, count: u32, changes: &Changes) -> Result<(), StoreError> {
        let left = u64::from(count.saturating_sub(1).saturating_sub(index));
        let version = Height::new(plan.header.height.get().saturating_sub(left));
        let snapshot = self.store.reader().snapshot()?;
        let update = tree::update(&Overlay::new(&snapshot, &[]), version, changes).map_err(of_tree)?;
        let mut batch = self.store.batch()?;
        batch.put_piece(index, &state_changes(changes), &update)?;
        batch.commit()
    }

    /// One piece, of whoever has it. None when somebody can be asked and nobody has it.
    async fn piece(&self, plan: &Plan, index: u32) -> Option<Changes> {
        let height = plan.header.height;
        for round in 0_u32.. {
            let mut peers = self.honest();
            let turn = peers.len().min(index as usize % peers.len().max(1));
            peers.rotate_left(turn);
            let (mut away, asked) = (0, peers.len());
            for node in peers {
                match ask::<Vec<RawRecord>>(self.peers, node, &Question::Piece { height, index }).await {
                    Answer::Said(records) => match plan.manifest.check_piece(index, &records) {
                        Ok(changes) => return Some(changes),
                        Err(error) => self.is_lie(node, &error.to_string()),
                    },
                    Answer::Away => away += 1,
                    Answer::None | Answer::Lie => {}
                }
            }
            if (asked > 0 && away == 0) || round > TRIES {
                return None;
            }
            if round.is_multiple_of(TELL_EVERY) {
                tracing::warn!(index, "no connected node sends this piece of the snapshot; they are asked again");
            }
            tokio::time::sleep(PAUSE).await;
        }
        None
    }

    /// Compares the whole tree, keeps the changes of the validators for proofs, and makes it the database of the chain.
    /// False when the peers do not tell the changes. Errors: `JoinError`.
    async fn finish(&self, plan: &Plan) -> Result<bool, JoinError> {
        let Plan { header, certificate, .. } = plan;
        let snapshot = self.store.reader().snapshot()?;
        let root = tree::root(&Overlay::new(&snapshot, &[]), header.height).map_err(of_tree)?;
        if root != header.state_root {
            return Err(StoreError::corrupted("tree_nodes.v1", "the root of a snapshot").into());
        }
        drop(snapshot);
        for node in self.honest() {
            let mut note = |change: &SetChange| {
                let mut batch = self.store.batch()?;
                batch.put_known(&change.header, &change.certificate)?;
                batch.commit()
            };
            if self.prove(node, header.height, &mut note).await?.is_none() {
                continue;
            }
            let mut batch = self.store.batch()?;
            batch.end_join(header, certificate)?;
            batch.commit()?;
            tracing::info!(height = header.height.get(), root = %root, "the state is that of the chain");
            return Ok(true);
        }
        Ok(false)
    }
}

fn of_tree(error: TreeError<StoreError>) -> StoreError {
    match error {
        TreeError::Read(error) => error,
        TreeError::Damaged(what) => StoreError::corrupted("tree_nodes.v1", what),
    }
}

#[cfg(test)]
#[path = "join_tests.rs"]
pub(in crate::node) mod tests;

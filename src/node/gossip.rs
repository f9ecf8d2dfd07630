//! Gossip: transactions and heights that others tell of, and what this node tells.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::admission::{self, Admission, NotAdmitted};
use super::chain::Input;
use super::handle::{Handle, NodeError};
use crate::net::{GossipInbox, GossipMessage, InboundRequest, Method, RequestInbox, Verdict};
use crate::types::{Height, NodeId, TxId, limits};
use crate::wire::{
    self, Accusation, Envelope, Presence, SignedAnswer, SignedQuestion, Topic, Tx, ValidatorSet, VerifiedTx,
};

/// How often a node says that it is there.
const PRESENCE: Duration = Duration::from_secs(5);
/// How often transactions that are not final yet are told again.
const REPEAT: Duration = Duration::from_secs(2);
/// How many of them at once.
const REPEAT_TXS: usize = 64;
/// How long a validator may take to answer.
const SUBMIT_WITHIN: Duration = Duration::from_secs(2);
/// Time between two messages with transactions: every message costs each node its ids and scores for two minutes, so what
/// comes in between goes together. One that comes alone does not wait.
const GATHER: Duration = Duration::from_millis(10);
/// Room that a list of transactions leaves for the envelope around it, bytes.
const ENVELOPE_ROOM: usize = 512;

/// Judges what comes in by gossip, until the network stops.
pub async fn receive(handle: Handle, mut inbox: GossipInbox, admission: Arc<Admission>) {
    while let Some(message) = inbox.recv().await {
        let verdict = judge(&handle, &admission, &message).await;
        handle.net().report(message.id, verdict);
    }
}

async fn judge(handle: &Handle, admission: &Admission, message: &GossipMessage) -> Verdict {
    let Ok(envelope) = Envelope::open(&handle.identity().chain, message.topic, &message.data) else {
        return Verdict::Reject;
    };
    match message.topic {
        Topic::Transactions => judge_txs(handle, admission, message.from, &envelope.payload).await,
        Topic::Tips => match wire::decode::<Height>(&envelope.payload, 8) {
            Ok(height) => {
                // Only validators are asked for blocks, so only their word of a height counts.
                let known = handle.status().is_some_and(|status| status.set.index_of(&envelope.author).is_some());
                if !known {
                    return Verdict::Ignore;
                }
                // A full queue means that the chain thread has enough to do.
                let _ = handle.inner.chain.try_send(Input::Tip { from: envelope.author, height });
                Verdict::Accept
            }
            Err(_) => Verdict::Reject,
        },
        Topic::Evidence => judge_evidence(handle, &envelope.payload),
        Topic::Presence | Topic::Consensus => Verdict::Ignore,
    }
}

async fn judge_txs(handle: &Handle, admission: &Admission, from: NodeId, payload: &[u8]) -> Verdict {
    let Ok(txs) = wire::decode::<Vec<Tx>>(payload, limits::GOSSIP_BYTES_MAX) else { return Verdict::Reject };
    let (chain, sorting) = (handle.identity().chain, handle.clone());
    let known = handle.clone();
    let known = move |id: &TxId| known.mempool().get(id).cloned();
    let verified = tokio::task::spawn_blocking(move || {
        let Ok(sorted) = admission::sort(&sorting, txs) else { return Ok(None) };
        VerifiedTx::verify_all(&chain, sorted.usable, known).map(|txs| Some((txs, sorted.nobodys, sorted.late)))
    });
    let (txs, nobodys, late) = match verified.await {
        Ok(Ok(Some(sorted))) => sorted,
        // This node's own disk, or its own fault, which is logged.
        Ok(Ok(None)) | Err(_) => return Verdict::Ignore,
        Ok(Err(_)) => return Verdict::Reject,
    };
    // Who does not propose keeps nothing of others, but can tell as well what is of use.
    let proposes = handle.proposes();
    let (mut bytes, mut useful) = (nobodys + late, 0);
    for tx in txs {
        let len = tx.encoded().len();
        bytes += len;
        let checked = admission.check(handle, &tx);
        match checked.and_then(|()| if proposes { Ok(handle.take_in(tx)?) } else { Ok(()) }) {
            Ok(()) => useful += len,
            Err(NotAdmitted::Node(NodeError::Store(_))) => break,
            Err(_) => {}
        }
    }
    if useful > 0 && proposes {
        handle.poke();
    }
    // Nobody forwards what is mostly of accounts that do not exist, unless it knows of younger ones than this node does.
    if nobodys > bytes / 2 && handle.behind() == 0 {
        handle.net().report_useless(from, payload.len());
    }
    verdict(useful, bytes)
}

/// Whether a list of transactions is forwarded: when half of its bytes at the least are admitted. A list is one message, and
/// the others in it may have become final on the way; with more of them, forwarding would serve whoever sends trash.
fn verdict(useful: usize, bytes: usize) -> Verdict {
    if useful > 0 && useful >= bytes.div_ceil(2) { Verdict::Accept } else { Verdict::Ignore }
}

fn judge_evidence(handle: &Handle, payload: &[u8]) -> Verdict {
    let Ok(accusation) = wire::decode::<Accusation>(payload, limits::GOSSIP_BYTES_MAX) else { return Verdict::Reject };
    if !accusation.holds(&handle.identity().chain) {
        return Verdict::Reject;
    }
    tracing::error!(node = ?accusation.node(), what = accusation.name(), "evidence: a node signed what no honest one does");
    handle.metrics().evidence.inc();
    if let Accusation::Contradiction(evidence) = &accusation
        && evidence.node == handle.identity().node
    {
        // One of the two is another process's. A full queue means that more of it comes.
        let answer = SignedAnswer { said: vec![evidence.first, evidence.second], another: false };
        let _ = handle.inner.chain.try_send(Input::Signed { from: evidence.node, answer });
    }
    // A full queue has enough of it.
    let _ = handle.inner.accusations.try_send(accusation);
    Verdict::Accept
}

/// Tells the others of transactions that were submitted here, as many at once as have gathered.
pub async fn send_txs(handle: Handle, mut outbox: mpsc::Receiver<VerifiedTx>) {
    let mut batch = Vec::new();
    let mut not_before = tokio::time::Instant::now();
    loop {
        tokio::time::sleep_until(not_before).await;
        // The handle owns the sending side, so the queue never ends by itself.
        let received = tokio::select! {
            received = outbox.recv_many(&mut batch, limits::BLOCK_TXS_MAX) => received,
            () = handle.stop_token().cancelled() => return,
        };
        if received == 0 {
            return;
        }
        not_before = tokio::time::Instant::now() + GATHER;
        tell(&handle, &batch);
        batch.clear();
    }
}

/// Gossips transactions, in as few messages as they fit.
fn tell(handle: &Handle, txs: &[VerifiedTx]) {
    let mut rest = txs;
    while !rest.is_empty() {
        let (mut bytes, mut count) = (ENVELOPE_ROOM, 0);
        while count < rest.len() && (count == 0 || bytes + rest[count].encoded().len() <= limits::GOSSIP_BYTES_MAX) {
            bytes += rest[count].encoded().len();
            count += 1;
        }
        let (message, behind) = rest.split_at(count);
        handle.gossip_txs(&message.iter().map(|tx| tx.tx().clone()).collect::<Vec<_>>());
        rest = behind;
    }
}

/// Tells again of transactions that wait here for long, to everyone and to one validator after the other: gossip forgets, a
/// validator forgets when it restarts or is full, and what is lost keeps all later ones of its account waiting. A validator
/// that is cut off from the others does not get its own into a block, so it tells as well.
pub async fn repeat_txs(handle: Handle) {
    let mut last = None;
    for round in 0.. {
        tokio::select! {
            () = tokio::time::sleep(REPEAT) => {}
            () = handle.stop_token().cancelled() => return,
        }
        let tip = handle.reader().tip().map(|tip| tip.height);
        let stalled = std::mem::replace(&mut last, tip) == tip;
        let overdue = handle.mempool().overdue(REPEAT_TXS.saturating_mul(round), REPEAT_TXS, stalled);
        tell(&handle, &overdue);
        if handle.proposes() {
            continue;
        }
        let connected = connected_validators(&handle);
        let Some(validator) = round.checked_rem(connected.len()).and_then(|turn| connected.get(turn)) else { continue };
        for tx in overdue {
            let submitted = handle.net().request(*validator, Method::Submit, tx.encoded().clone(), SUBMIT_WITHIN);
            if let Err(error) = submitted.await {
                tracing::debug!(%error, "a validator does not take transactions again");
                break;
            }
        }
    }
}

fn connected_validators(handle: &Handle) -> Vec<NodeId> {
    let connected = handle.net().connected().borrow().clone();
    let members = handle.status().map(|status| status.set);
    let members = members.iter().flat_map(|set| set.members()).map(|member| member.node);
    members.filter(|node| connected.contains(node)).collect()
}

/// Tells the chain thread what validators said of their heights: a word of a new one may have been lost, and when it was
/// the last, no other follows.
fn heights_of_validators(handle: &Handle) {
    let Some(status) = handle.status() else { return };
    for peer in handle.net().peers().into_iter().filter(|peer| status.set.index_of(&peer.node).is_some()) {
        let height = peer.presence.map_or(Height::GENESIS, |presence| presence.height);
        if height > status.core.final_height {
            // A full queue means that the chain thread has enough to do.
            let _ = handle.inner.chain.try_send(Input::Tip { from: peer.node, height });
        }
    }
}

impl Handle {
    /// Whether this node makes blocks: the ledger says so, whatever its configuration.
    pub(super) fn proposes(&self) -> bool {
        self.status().is_some_and(|status| status.set.index_of(&self.identity().node).is_some())
    }
    /// Blocks that are final elsewhere and not here, by what validators say of themselves. Enough of them say so that one of
    /// them at least is honest: a third of the weight may claim any height.
    pub fn behind(&self) -> u64 {
        let Some(status) = self.status() else { return 0 };
        let own = self.reader().tip().map_or(0, |tip| tip.height.get());
        let me = self.identity().node;
        let peers = self.net().peers();
        let said = |node: &NodeId| {
            let peer = peers.iter().find(|peer| peer.node == *node)?;
            peer.presence.as_ref().map(|presence| presence.height.get())
        };
        let members = status.set.members().iter();
        let heights = members.map(|member| {
            let height = if member.node == me { Some(own) } else { said(&member.node) };
            (height.unwrap_or(0), member.power)
        });
        vouched(&status.set, heights.collect()).saturating_sub(own)
    }
}

/// The highest height that more than a third of the weight has reached by its own word: an honest one is among them.
fn vouched(set: &ValidatorSet, mut heights: Vec<(u64, u64)>) -> u64 {
    heights.sort_unstable_by(|a, b| b.cmp(a));
    let mut sum = 0_u64;
    let reached = heights.into_iter().find(|(_, power)| {
        sum = sum.saturating_add(*power);
        set.is_join(sum)
    });
    reached.map_or(0, |(height, _)| height)
}

/// Tells the network where the ledger says that nodes are: after a restart none of them has spoken yet, and those that
/// nobody is connected to could not be asked for their slots.
pub fn recall(handle: &Handle) {
    let nodes = match handle.nodes() {
        Ok(nodes) => nodes,
        Err(error) => return tracing::warn!(%error, "the addresses on the ledger cannot be read"),
    };
    let me = handle.identity().node;
    let others = nodes.into_iter().filter(|entry| entry.active && entry.announcement.node != me);
    // Half of the queue: it holds other things too, and what is left out will speak for itself.
    for entry in others.take(limits::NET_COMMANDS_MAX / 2) {
        let addresses = entry.announcement.addresses.iter().filter_map(|text| text.parse().ok()).collect();
        if handle.net().learn(entry.announcement.node, addresses).is_err() {
            return;
        }
    }
}

/// Says every few seconds that this node is there.
pub async fn announce(handle: Handle) {
    let mut ticks = tokio::time::interval(PRESENCE);
    let mut connected = handle.net().connected();
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            // Whoever has just come knows nobody yet.
            changed = connected.changed() => if changed.is_err() { return },
            () = handle.stop_token().cancelled() => return,
        }
        heights_of_validators(&handle);
        let free = handle.slots().and_then(|slots| slots.usage().ok()).map(|usage| usage.free);
        let presence = Presence {
            roles: handle.config().node.roles,
            addresses: handle.net().addresses().iter().map(|peer| peer.address.to_string()).collect(),
            height: handle.reader().tip().map_or(Height::GENESIS, |tip| tip.height),
            free: free.unwrap_or_default(),
            time: handle.clock().now(),
        };
        if let Err(error) = handle.net().announce(&presence) {
            tracing::debug!(%error, "presence was not announced");
        }
    }
}

/// Answers what peers ask, until the network stops.
pub async fn answer(handle: Handle, mut inbox: RequestInbox, admission: Arc<Admission>) {
    while let Some(request) = inbox.recv().await {
        let (handle, admission) = (handle.clone(), Arc::clone(&admission));
        handle.clone().spawn(async move { answer_one(&handle, &admission, request).await });
    }
}

async fn answer_one(handle: &Handle, admission: &Admission, request: InboundRequest) {
    match request.method {
        Method::Blocks => {
            let Ok(from) = wire::decode::<Height>(&request.data, 8) else { return };
            let reader = handle.reader().clone();
            let blocks = tokio::task::spawn_blocking(move || {
                reader.snapshot()?.blocks(from, limits::SYNC_BLOCKS_MAX, limits::SYNC_BYTES_MAX)
            });
            match blocks.await {
                Ok(Ok(blocks)) => request.answer(super::links::encode_blocks(&blocks).into()).await,
                Ok(Err(error)) => tracing::error!(%error, "blocks could not be read for a peer"),
                Err(_) => {}
            }
        }
        Method::Prove => {
            let Some(_turn) = handle.inner.shelf.turn() else { return request.busy().await };
            let (answerer, question) = (handle.answerer(), request.data.clone());
            match tokio::task::spawn_blocking(move || answerer.answer(&question)).await {
                Ok(Ok(Some(answer))) => request.answer(answer.into()).await,
                Ok(Ok(None)) => {}
                Ok(Err(error)) => tracing::error!(%error, "a peer's question could not be answered"),
                Err(_) => {}
            }
        }
        Method::Submit => {
            let Ok(tx) = wire::decode::<Tx>(&request.data, limits::TX_BYTES_MAX) else { return };
            let taken = take_one(handle, admission, tx).await;
            request.answer(vec![u8::from(taken.is_ok())].into()).await;
        }
        Method::Status => {
            let height = handle.reader().tip().map_or(Height::GENESIS, |tip| tip.height);
            request.answer(wire::encode(&height).into()).await;
        }
        Method::Signed => {
            let Ok(question) = wire::decode::<SignedQuestion>(&request.data, 8) else { return };
            let validates = handle.status().is_some_and(|status| status.set.index_of(&request.from).is_some());
            let now = handle.clock().now();
            let answer = handle.inner.book.lock().answer(request.from, question.process, validates, now);
            request.answer(wire::encode(&answer).into()).await;
        }
        Method::Block => {
            let Ok(hash) = wire::decode(&request.data, 32) else { return };
            if let Ok(Some(block)) = handle.reader().snapshot().and_then(|snapshot| snapshot.block_by_hash(&hash)) {
                request.answer(wire::encode(&block).into()).await;
            }
        }
    }
}

/// A transaction that a peer hands in. Errors: why it is not taken.
async fn take_one(handle: &Handle, admission: &Admission, tx: Tx) -> Result<(), NotAdmitted> {
    handle.takes_in()?;
    let Some(tx) = admission::sort(handle, vec![tx])?.usable.pop() else {
        return Err(NodeError::Bad("no account can use it now".to_owned()).into());
    };
    let verified = VerifiedTx::verify(&handle.identity().chain, tx);
    let tx = verified.map_err(|error| NodeError::Bad(error.to_string()))?;
    admission.check(handle, &tx)?;
    handle.submit_verified(tx).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Validator;

    #[test]
    fn a_height_counts_when_more_than_a_third_of_the_weight_vouches_for_it() {
        let of = |heights: &[(u64, u64)]| {
            let member =
                |(n, (_, power)): (u8, &(u64, u64))| Validator { node: NodeId::from_bytes([n; 32]), power: *power };
            let set = ValidatorSet::new((0..).zip(heights).map(member).collect()).expect("a set");
            vouched(&set, heights.to_vec())
        };
        assert_eq!(of(&[(u64::MAX, 1), (50, 1), (40, 1), (30, 1)]), 50, "one of four may lie");
        assert_eq!(of(&[(7, 1)]), 7);
        assert_eq!(of(&[(u64::MAX, 33), (60, 33), (60, 34)]), 60);
        assert_eq!(of(&[(60, 33), (u64::MAX, 34), (60, 33)]), u64::MAX, "more than a third cannot all lie");
        assert_eq!(of(&[(0, 1), (0, 1), (90, 1), (0, 1)]), 0, "who was not heard of says nothing");
    }

    #[test]
    fn a_list_is_forwarded_for_what_is_admitted_of_it() {
        let cases = [(0, 0, false), (0, 200, false), (99, 200, false), (100, 200, true), (200, 200, true)];
        for (useful, bytes, forwarded) in cases {
            let expected = if forwarded { Verdict::Accept } else { Verdict::Ignore };
            assert_eq!(verdict(useful, bytes), expected, "{useful} of {bytes}");
        }
    }
}

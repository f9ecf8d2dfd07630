//! Whether this node may sign with its key: what others hold of it, at the start and while it runs (protocol rule 12).
//!
//! Before its first signature a validator asks the others which signatures of its key they hold, and while it runs it looks
//! at everything that it receives. One that its record does not account for silences it, durably: its record was rolled
//! back, or another process has the key. In quarantine it follows and listens. What is signed in a view that began after the
//! quarantine did is another process's, and then only the operator's word ends the silence.

use std::collections::{BTreeSet, VecDeque};

use super::{Chain, Links};
use crate::consensus::own::{self, Said};
use crate::consensus::{Event, SafetyRecord, Watermarks};
use crate::store::{Quarantine, StoreError};
use crate::types::{Millis, NodeId, Round, limits};
use crate::wire::certificate::Statement;
use crate::wire::{Header, Message, SignedAnswer};

/// How long the others have for an answer before they are asked again.
pub const ASK_WITHIN: Millis = Millis::new(2_000);
/// How long a validator waits for the rest of them when enough have answered.
const ASK_PATIENCE: Millis = Millis::new(300);
/// How often it asks in quarantine: two that are silent notice each other by nothing else.
const ASK_AGAIN: Millis = Millis::new(5_000);
/// Final blocks for each validator that are listened to before a quarantine ends: each has led about twice by then.
const LISTEN_PER_VALIDATOR: u64 = 2;

/// Why nothing is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silence {
    /// The node has just started, and asks the others.
    Asking,
    /// The key is in quarantine.
    Quarantined(Quarantine),
}

/// What is known of the own key beyond the record.
pub(super) struct Guard {
    pub silence: Option<Silence>,
    /// Views in which the key signed beyond what the record says.
    pub seen: Watermarks,
    /// `seen` is higher than on disk.
    pub unsaved: bool,
    /// When the quarantine began, as this process knows it.
    since: Millis,
    /// The first view that is sure to have begun after that.
    young: Option<Round>,
    /// Final blocks from there on.
    listened: u64,
    process: u64,
    /// Until when the rest of the others are waited for.
    patience: Option<Millis>,
    ask: Option<Millis>,
    answered: BTreeSet<NodeId>,
    /// Who knows of another process with the key.
    told_of_another: BTreeSet<NodeId>,
}

impl Guard {
    /// Of a node that starts. Without others there is nobody to be asked.
    pub fn new(quarantine: Option<Quarantine>, seen: Watermarks, asks: bool, process: u64, now: Millis) -> Self {
        let silence = match quarantine {
            Some(why) => Some(Silence::Quarantined(why)),
            None => asks.then_some(Silence::Asking),
        };
        Self {
            silence,
            seen,
            unsaved: false,
            since: now,
            young: None,
            listened: 0,
            process,
            patience: Some(now.saturating_add(ASK_PATIENCE)),
            ask: silence.map(|_| now),
            answered: BTreeSet::new(),
            told_of_another: BTreeSet::new(),
        }
    }

    /// Why the key is in quarantine, if it is.
    fn quarantine(&self) -> Option<Quarantine> {
        match self.silence {
            Some(Silence::Quarantined(why)) => Some(why),
            Some(Silence::Asking) | None => None,
        }
    }

    /// When `attend` is to be called next.
    pub fn due(&self) -> Option<Millis> {
        match self.silence {
            Some(Silence::Asking) => self.ask.into_iter().chain(self.patience).min(),
            Some(Silence::Quarantined(_)) => self.ask,
            None => None,
        }
    }

    /// Rule 12: an epoch ends that ended after this node knew of its quarantine, so the next one is new to whoever signed with the
    /// key before; and nobody has signed with it since, in so many blocks that a running validator would have been
    /// heard. A block's time is at most the bound ahead of those who voted for it.
    pub fn is_over(&self, validators: usize) -> bool {
        let enough = u64::try_from(validators).unwrap_or(u64::MAX).saturating_mul(LISTEN_PER_VALIDATOR);
        self.quarantine().is_some_and(|why| why != Quarantine::Twin) && self.listened >= enough
    }

    /// The silence is over.
    pub fn end(&mut self) {
        (self.silence, self.ask) = (None, None);
    }

    /// What a signature of the own key means that the record does not account for.
    fn judge(&self, round: Round) -> Quarantine {
        match self.quarantine() {
            Some(_) if self.young.is_some_and(|young| round >= young) => Quarantine::Twin,
            Some(why) => why,
            None => Quarantine::RolledBack,
        }
    }

    /// Listens to a final block; its view may be the first that is young.
    fn listen(&mut self, header: &Header) {
        let bound = Millis::new(limits::CLOCK_DRIFT_MS_MAX);
        if self.quarantine().is_some() && header.time > self.since.saturating_add(bound) {
            self.young.get_or_insert(header.round);
            self.listened += 1;
        }
    }
}

impl<L: Links> Chain<L> {
    /// Looks for signatures of the own key in a message, before anything in it is verified or replaced by what is known.
    pub(super) fn look_for_own(&mut self, message: &Message) -> Result<(), StoreError> {
        let (verifier, me) = (&self.verifier, &self.config.me);
        let claims = own::signed_by(message, &|epoch| verifier.place(epoch, me));
        claims.into_iter().try_for_each(|claim| self.claimed(claim))
    }

    /// Keeps what the author of a verified message said, for when it asks.
    pub(super) fn keep_for_author(&self, message: &Message) {
        if let Some((epoch, index, (said, signature))) = own::author(message)
            && let Some(node) = self.verifier.member(epoch, index)
        {
            self.book.lock().note(node, said, signature);
        }
    }

    /// Looks at blocks that are final: who proposed them has signed them.
    pub(super) fn look_at_final(&mut self, headers: &[Header]) -> Result<(), StoreError> {
        for header in headers {
            self.guard.listen(header);
            if header.proposer == self.config.me {
                let said = Statement::Propose { round: header.round, block: header.hash() };
                if !self.is_accounted_for(&said) {
                    self.found(&said)?;
                }
            }
        }
        Ok(())
    }

    fn is_accounted_for(&self, said: &Statement) -> bool {
        own::accounts_for(self.replica.record(), said) || self.guard.seen.cover(said)
    }

    /// Somebody claims that the own key has signed this.
    fn claimed(&mut self, (said, signature): Said) -> Result<(), StoreError> {
        let known = self.is_accounted_for(&said);
        if known || said.verify(&self.config.chain, self.config.me.as_bytes(), &signature).is_err() {
            return Ok(());
        }
        self.found(&said)
    }

    /// The own key has signed what the record does not account for.
    fn found(&mut self, said: &Statement) -> Result<(), StoreError> {
        self.guard.seen.note(said);
        self.guard.unsaved = true;
        let why = self.guard.judge(own::round_of(said));
        self.quarantine(why)
    }

    /// From now on nothing is signed, whatever happens to this process.
    fn quarantine(&mut self, why: Quarantine) -> Result<(), StoreError> {
        if self.guard.silence == Some(Silence::Quarantined(why)) {
            return Ok(());
        }
        if self.guard.quarantine().is_none() {
            (self.guard.since, self.guard.young, self.guard.listened) = (self.clock.now(), None, 0);
            self.guard.ask = Some(self.guard.since);
        }
        self.guard.silence = Some(Silence::Quarantined(why));
        self.replica.silence(true);
        tracing::error!(%why, signed = ?self.guard.seen, "this node signs nothing: {}", why.advice());
        let mut batch = self.db.batch()?;
        batch.quarantine(why)?;
        batch.raise_watermarks(&self.guard.seen)?;
        batch.commit()?;
        self.commits += 1;
        self.guard.unsaved = false;
        // It was to end with the next durable step.
        self.lifting = false;
        Ok(())
    }

    /// A validator has answered, or somebody has shown evidence against this node.
    pub(super) fn answered(&mut self, from: NodeId, answer: SignedAnswer) -> Result<(), StoreError> {
        if self.set.index_of(&from).is_none() {
            return Ok(());
        }
        answer.said.into_iter().take(4).try_for_each(|said| self.claimed(said))?;
        if from != self.config.me {
            self.guard.answered.insert(from);
        }
        if answer.another {
            self.guard.told_of_another.insert(from);
        }
        // One of more than a third is honest.
        if self.guard.silence.is_some() && self.set.is_join(self.power_of(&self.guard.told_of_another)) {
            return self.quarantine(Quarantine::Twin);
        }
        Ok(())
    }

    fn power_of(&self, nodes: &BTreeSet<NodeId>) -> u64 {
        let members = self.set.members().iter();
        members.filter(|member| nodes.contains(&member.node)).map(|member| member.power).sum()
    }

    /// Asks the others when it is time to, and begins to sign when all of them have answered, or after a moment so many that
    /// they and this node are a quorum: without that nothing could become final anyway. Who is silent answers too, so no
    /// two wait for each other.
    pub(super) fn attend(&mut self, events: &mut VecDeque<Event>) {
        let now = self.clock.now();
        if self.guard.silence.is_none() {
            return;
        }
        let others: Vec<_> =
            self.set.members().iter().map(|member| member.node).filter(|node| *node != self.config.me).collect();
        if self.guard.ask.is_some_and(|at| at <= now) {
            let pause = if self.guard.silence == Some(Silence::Asking) { ASK_WITHIN } else { ASK_AGAIN };
            self.guard.ask = Some(now.saturating_add(pause));
            self.links.ask_signed(&others, self.guard.process);
        }
        if self.guard.silence != Some(Silence::Asking) {
            return;
        }
        self.guard.patience = self.guard.patience.filter(|patience| *patience > now);
        let own = self.power_of(&BTreeSet::from([self.config.me]));
        let enough = self.set.is_quorum(self.power_of(&self.guard.answered).saturating_add(own));
        let all = others.iter().all(|node| self.guard.answered.contains(node));
        if all || (enough && self.guard.patience.is_none()) {
            tracing::debug!(answers = self.guard.answered.len(), "nobody holds an unknown signature of this node");
            self.guard.end();
            self.replica.silence(false);
            events.push_back(Event::Start);
        }
    }

    /// What the key is known to have signed.
    pub(super) fn signed(&self) -> Watermarks {
        Watermarks::of(self.replica.record()).raised(&self.guard.seen)
    }

    /// What a new core has to be told: `record` is what it starts from.
    pub(super) fn recall(&self, record: &SafetyRecord) {
        self.book.lock().recall(record, self.context.epoch, &self.set);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::testing;
    use crate::types::{Epoch, View};

    const DRIFT: u64 = limits::CLOCK_DRIFT_MS_MAX;

    fn round(view: u64) -> Round {
        Round::new(Epoch::ZERO, View::new(view))
    }

    /// A guard that began at 1,000 ms and has listened to one block a view, each a second after the other.
    fn listened(why: Quarantine, views: u64) -> Guard {
        let mut guard = Guard::new(Some(why), Watermarks::default(), true, 1, Millis::new(1_000));
        let mut header = testing::genesis().block().expect("a genesis block").header;
        for view in 1..=views {
            (header.round, header.time) = (round(view), Millis::new(1_000 + view * 1_000));
            guard.listen(&header);
        }
        guard
    }

    #[test]
    fn an_own_signature_is_anothers_only_in_a_view_that_is_sure_to_be_later_than_the_quarantine() {
        let early = listened(Quarantine::Copied, DRIFT / 1_000);
        assert_eq!(early.judge(round(900)), Quarantine::Copied, "it may have been signed before");
        let later = listened(Quarantine::Copied, DRIFT / 1_000 + 3);
        assert_eq!(later.judge(round(DRIFT / 1_000)), Quarantine::Copied);
        assert_eq!(later.judge(round(DRIFT / 1_000 + 1)), Quarantine::Twin);
        assert_eq!(listened(Quarantine::Twin, 0).judge(round(1)), Quarantine::Twin, "that does not end");
        let running = Guard::new(None, Watermarks::default(), true, 1, Millis::new(1_000));
        assert_eq!(running.judge(round(1)), Quarantine::RolledBack);
    }

    #[test]
    fn a_quarantine_ends_after_each_validator_could_be_heard_twice_and_beside_another_process_never() {
        let quiet = DRIFT / 1_000;
        assert!(!listened(Quarantine::Restored, quiet + 7).is_over(4));
        assert!(listened(Quarantine::Restored, quiet + 8).is_over(4));
        assert!(!listened(Quarantine::Twin, quiet + 800).is_over(4));
        let asking = Guard::new(None, Watermarks::default(), true, 1, Millis::new(1_000));
        assert!(!asking.is_over(0) && asking.silence == Some(Silence::Asking));
        let alone = Guard::new(None, Watermarks::default(), false, 1, Millis::new(1_000));
        assert_eq!((alone.silence, alone.due()), (None, None), "nobody is there to be asked");
    }
}

//! From one epoch to the next: its validators, who talks with whom, and the end of a quarantine.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::exec::EpochEnd;
use super::timers::Timers;
use super::{Chain, Links, read_safety_record};
use crate::consensus::{self, EpochContext, Event, Replica, leader};
use crate::store::StoreError;
use crate::types::Height;
use crate::wire::Certificate;

impl<L: Links> Chain<L> {
    pub(super) fn ends_epoch(&self, height: Height) -> bool {
        height == self.config.last_height(self.context.epoch)
    }

    pub(super) fn begin_epoch(&mut self, opening: Certificate, end: Option<EpochEnd>) -> EpochContext {
        let by_core = || EpochEnd { set: self.set.clone(), skip: leader::skip_list(&self.context, &self.headers) };
        let EpochEnd { set, skip } = end.unwrap_or_else(by_core);
        let changes = *set != *self.set;
        if changes {
            tracing::info!(validators = set.len(), power = set.total_power(), "another validator set takes over");
        }
        let before = std::mem::replace(&mut self.set, set);
        self.leaving = changes.then_some(before);
        let epoch = self.context.epoch.next().unwrap_or(self.context.epoch);
        self.headers.clear();
        self.verifier.trust(&opening);
        self.context = EpochContext { epoch, set: self.set.clone(), skip, opening };
        self.verifier.begin_epoch(&self.context);
        tracing::debug!(epoch = epoch.get(), skipped = ?self.context.skip, "epoch begins");
        if changes {
            self.connect();
        }
        self.context.clone()
    }

    /// Talks with the validators, and, until a block of this epoch is final, with those of the one before (rule 17).
    pub(super) fn connect(&mut self) {
        let sets = [Some(&self.set), self.leaving.as_ref()];
        let members: BTreeSet<_> =
            sets.into_iter().flatten().flat_map(|set| set.members()).map(|member| member.node).collect();
        let validates = members.contains(&self.config.me);
        let others: Vec<_> = members.into_iter().filter(|node| *node != self.config.me).collect();
        self.links.peers(&others, validates);
    }

    /// A block of this epoch is final: the epoch before is over for everybody.
    pub(super) fn part(&mut self, height: Height) {
        if self.leaving.is_some() && self.config.epoch_of(height) == self.context.epoch {
            self.leaving = None;
            self.connect();
        }
    }

    /// Rule 12, at the end of an epoch.
    pub(super) fn quarantine_is_over(&self) -> bool {
        self.guard.is_over(self.set.len())
    }

    /// A replica that may sign, in place of the silent one.
    pub(super) fn wake(&mut self, context: EpochContext) -> Result<Event, StoreError> {
        tracing::info!(epoch = context.epoch.get(), "the quarantine is over; this node signs again");
        let (record, last_final) = (read_safety_record(&self.db)?, context.opening.clone());
        let blocks = self.reader.snapshot()?.pending_blocks()?.into_iter().map(Arc::new).collect();
        let resume = consensus::Resume { record, blocks, last_final, silent_until: None };
        self.replica = Replica::new(self.config.clone(), context, resume);
        self.replica.sign_above(self.guard.seen.highest());
        self.timers = Timers::default();
        self.guard.end();
        self.lifting = true;
        Ok(Event::Start)
    }
}

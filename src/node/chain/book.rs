//! What this node has seen validators sign: the newest statement of each kind, for those who ask after their own key.
//!
//! In memory, and bounded by the number of validators. Written by the chain thread, read by whoever answers requests.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::consensus::SafetyRecord;
use crate::consensus::own::{self, Said};
use crate::crypto::Signature;
use crate::types::{Epoch, Millis, NodeId, limits};
use crate::wire::certificate::Statement;
use crate::wire::{SignedAnswer, ValidatorSet, VoteKind};

/// Processes that are told apart for one key; the one that was heard of longest ago gives way.
const PROCESSES: usize = 4;

/// A process that has asked.
#[derive(Clone, Copy, Debug)]
struct Asker {
    process: u64,
    first: Millis,
    last: Millis,
}

/// What was seen of one validator.
#[derive(Clone, Debug, Default)]
struct Entry {
    said: [Option<Said>; 4],
    askers: Vec<Asker>,
}

/// Everything seen.
#[derive(Debug, Default)]
pub struct Book(BTreeMap<NodeId, Entry>);

/// The one book of a node.
#[derive(Clone, Debug, Default)]
pub struct SharedBook(Arc<Mutex<Book>>);

impl SharedBook {
    /// The book, while nobody else has it.
    pub fn lock(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    /// Takes note of a statement whose signature holds.
    pub fn note(&mut self, node: NodeId, said: Statement, signature: Signature) {
        if self.0.len() >= 4 * limits::VALIDATORS_MAX && !self.0.contains_key(&node) {
            self.0.clear();
        }
        let kind = match said {
            Statement::Propose { .. } => 0,
            Statement::Vote { kind: VoteKind::Prepare, .. } => 1,
            Statement::Vote { kind: VoteKind::Commit, .. } => 2,
            Statement::Timeout { .. } => 3,
        };
        let newest = &mut self.0.entry(node).or_default().said[kind];
        if newest.as_ref().is_none_or(|(known, _)| own::round_of(known) < own::round_of(&said)) {
            *newest = Some((said, signature));
        }
    }

    /// Takes note of what the certificates on the own disk show of an epoch's validators: after a restart nothing else is known.
    pub fn recall(&mut self, record: &SafetyRecord, epoch: Epoch, set: &ValidatorSet) {
        for (index, member) in (0_u16..).zip(set.members()) {
            let place = |of| (of == epoch).then_some(index);
            let mut found = Vec::new();
            own::in_certificate(&record.high, &place, &mut found);
            if let Some(timeout) = &record.timeout {
                own::in_timeouts(timeout, &place, &mut found);
            }
            if let Some(commit) = &record.commit {
                own::in_certificate(commit, &place, &mut found);
            }
            found.into_iter().for_each(|(said, signature)| self.note(member.node, said, signature));
        }
    }

    /// The answer to a validator's question. Of others nothing is kept.
    pub fn answer(&mut self, node: NodeId, process: u64, validates: bool, now: Millis) -> SignedAnswer {
        if !validates && !self.0.contains_key(&node) {
            return SignedAnswer::default();
        }
        let entry = self.0.entry(node).or_default();
        let first = match entry.askers.iter_mut().find(|asker| asker.process == process) {
            Some(asker) => {
                asker.last = now;
                asker.first
            }
            None => {
                if entry.askers.len() >= PROCESSES {
                    entry.askers.sort_by_key(|asker| asker.last);
                    entry.askers.remove(0);
                }
                entry.askers.push(Asker { process, first: now, last: now });
                now
            }
        };
        let another = entry.askers.iter().any(|asker| asker.process != process && asker.last > first);
        SignedAnswer { said: entry.said.iter().flatten().copied().collect(), another }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::SecretKey;
    use crate::types::{ChainId, Round, View};

    fn timeout(view: u64) -> Said {
        let round = Round::new(Epoch::ZERO, View::new(view));
        let said = Statement::Timeout { round, high: Round::default() };
        (said, said.sign(&ChainId::from_bytes([1; 32]), &SecretKey::from_seed(&[1; 32])))
    }

    #[test]
    fn the_newest_statement_of_a_kind_is_what_its_signer_is_told() {
        let (mut book, node) = (Book::default(), NodeId::from_bytes([1; 32]));
        for view in [3, 7, 5] {
            let (said, signature) = timeout(view);
            book.note(node, said, signature);
        }
        let answer = book.answer(node, 1, true, Millis::new(1));
        assert_eq!((answer.said, answer.another), (vec![timeout(7)], false));
        assert_eq!(book.answer(NodeId::from_bytes([2; 32]), 1, false, Millis::new(1)), SignedAnswer::default());
    }

    #[test]
    fn two_processes_that_ask_in_turn_hear_of_each_other_and_a_restart_hears_of_nobody() {
        let (mut book, node) = (Book::default(), NodeId::from_bytes([1; 32]));
        let mut ask = |process, now| book.answer(node, process, true, Millis::new(now)).another;
        assert!(!ask(1, 10));
        assert!(!ask(1, 20));
        assert!(!ask(2, 30), "the first one asked before and may be gone");
        assert!(ask(1, 40), "but it is not");
        assert!(ask(2, 50));
    }
}

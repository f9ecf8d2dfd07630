//! Planted bugs: named faults that a test build can switch on, to show that the simulator's checker finds them.
//!
//! Without the feature `planted-bugs` no bug can be switched on, and `Planted` has no size.

/// One rule left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bug {
    /// A message leaves before its record is durable (rule 8).
    VoteBeforePersist,
    /// Commit votes are cast in views that were timed out (rule 4).
    NoCommitGuard,
    /// A proposal after a timeout certificate may extend less than its highest QC (rule 2).
    TcWithoutMaxQc,
    /// Two thirds of the weight, rather than more than that, make a quorum (rule 1).
    QuorumTwoF,
    /// The last timeout is not restored after a restart (rule 8).
    LastTimeoutForgotten,
    /// The last vote is not restored after a restart (rule 8).
    LastVoteForgotten,
    /// The highest QC is not restored after a restart (rule 8).
    HighQcForgotten,
    /// The view is restored without the certificate that opened it (rule 8).
    BareView,
    /// Missing blocks are never asked for (rule 7).
    NoBlockFetch,
    /// Leaders propose nothing while the epoch's last block is not final (rule 16).
    NoTails,
    /// A block's parent need not be the block of its justification (rule 2).
    ParentNotTied,
    /// A block's height need not be its parent's plus one (rule 2).
    NoHeightCheck,
    /// Any later view is joined on f+1 timeouts before their certificates are absorbed, and a commit vote is refused only
    /// in the very view that was timed out last (rules 4, 5 and 6).
    SloppyJoin,
}

impl Bug {
    /// Every bug.
    pub const ALL: [Self; 13] = [
        Self::VoteBeforePersist,
        Self::NoCommitGuard,
        Self::TcWithoutMaxQc,
        Self::QuorumTwoF,
        Self::LastTimeoutForgotten,
        Self::LastVoteForgotten,
        Self::HighQcForgotten,
        Self::BareView,
        Self::NoBlockFetch,
        Self::NoTails,
        Self::ParentNotTied,
        Self::NoHeightCheck,
        Self::SloppyJoin,
    ];
}

/// Which bugs are switched on.
#[derive(Clone, Debug, Default)]
pub struct Planted {
    #[cfg(feature = "planted-bugs")]
    bugs: Vec<Bug>,
}

impl Planted {
    /// No bug.
    pub const fn none() -> Self {
        Self {
            #[cfg(feature = "planted-bugs")]
            bugs: Vec::new(),
        }
    }
    /// These bugs.
    #[cfg(feature = "planted-bugs")]
    pub fn these(bugs: &[Bug]) -> Self {
        Self { bugs: bugs.to_vec() }
    }
    /// Whether the bug is switched on.
    #[cfg(feature = "planted-bugs")]
    pub fn has(&self, bug: Bug) -> bool {
        self.bugs.contains(&bug)
    }
    /// Whether the bug is switched on: never.
    #[cfg(not(feature = "planted-bugs"))]
    pub const fn has(&self, _bug: Bug) -> bool {
        false
    }
}

#[cfg(feature = "planted-bugs")]
mod faults {
    use super::Bug;
    use crate::consensus::context::Config;
    use crate::consensus::record::SafetyRecord;
    use crate::consensus::replica::Replica;
    use crate::consensus::safety;
    use crate::types::Round;
    use crate::wire::message::Timeout;

    /// The view as it was before the restart, when its certificate is not restored.
    pub fn bare_view(config: &Config, record: &SafetyRecord) -> Option<Round> {
        let timeout = record.timeout.as_ref().map(|timeout| timeout.round);
        let view = timeout.max(Some(record.high.rank()))?.next();
        view.filter(|_| config.planted.has(Bug::BareView))
    }

    impl Replica {
        /// Follows f+1 timeouts into any later view, before their certificates are known.
        pub(in crate::consensus) fn join_sloppily(&mut self, timeout: &Timeout) {
            let later = timeout.round > self.round && safety::is_in_window(self.round, timeout.round);
            if !later || !self.config.planted.has(Bug::SloppyJoin) {
                return;
            }
            self.votes.timeout(&self.config, &self.context.set, timeout);
            if self.context.set.is_join(self.votes.timeout_power(&self.context.set, timeout.round)) {
                self.bare = Some(timeout.round);
                self.advance();
                self.give_up();
            }
        }
    }
}

#[cfg(feature = "planted-bugs")]
pub(super) use faults::bare_view;

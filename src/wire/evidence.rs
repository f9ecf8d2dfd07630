//! Evidence: two signed statements of one validator that contradict each other (protocol rule 19).

use borsh::{BorshDeserialize, BorshSerialize};

use super::certificate::{Statement, VoteKind};
use crate::crypto::Signature;
use crate::types::{BlockHash, ChainId, NodeId, Round};

/// Two different blocks under one kind, epoch, view and key. It proves itself: nothing but the chain id is needed.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Evidence {
    /// Who signed both.
    pub node: NodeId,
    /// The first statement and its signature.
    pub first: (Statement, Signature),
    /// The second.
    pub second: (Statement, Signature),
}

impl Evidence {
    /// Whether both statements hold and contradict each other.
    pub fn holds(&self, chain: &ChainId) -> bool {
        let ((first, by_first), (second, by_second)) = (&self.first, &self.second);
        let key = self.node.as_bytes();
        contradict(first, second)
            && first.verify(chain, key, by_first).is_ok()
            && second.verify(chain, key, by_second).is_ok()
    }
}

/// Whether no honest validator makes both statements. Heights and attached certificates do not count, nor do timeouts:
/// one that is repeated with a newer certificate is honest.
pub fn contradict(first: &Statement, second: &Statement) -> bool {
    match (subject(first), subject(second)) {
        (Some((kind, round, block)), Some(other)) => (kind, round) == (other.0, other.1) && block != other.2,
        _ => false,
    }
}

fn subject(statement: &Statement) -> Option<(Option<VoteKind>, Round, BlockHash)> {
    match statement {
        Statement::Propose { round, block } => Some((None, *round, *block)),
        Statement::Vote { kind, round, block, .. } => Some((Some(*kind), *round, *block)),
        Statement::Timeout { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::SecretKey;
    use crate::types::{Epoch, Height, View};

    const CHAIN: ChainId = ChainId::from_bytes([1; 32]);

    fn vote(kind: VoteKind, view: u64, block: u8) -> Statement {
        let round = Round::new(Epoch::ZERO, View::new(view));
        Statement::Vote { kind, round, height: Height::new(1), block: BlockHash::from_bytes([block; 32]) }
    }

    fn evidence(first: Statement, second: Statement) -> Evidence {
        let key = SecretKey::from_seed(&[1; 32]);
        let signed = |statement: Statement| (statement, statement.sign(&CHAIN, &key));
        Evidence { node: key.public().node_id(), first: signed(first), second: signed(second) }
    }

    #[test]
    fn two_blocks_in_one_view_are_evidence() {
        assert!(evidence(vote(VoteKind::Prepare, 3, 1), vote(VoteKind::Prepare, 3, 2)).holds(&CHAIN));
    }

    #[test]
    fn one_block_twice_another_view_or_another_kind_is_none() {
        for second in [vote(VoteKind::Prepare, 3, 1), vote(VoteKind::Prepare, 4, 2), vote(VoteKind::Commit, 3, 2)] {
            assert!(!evidence(vote(VoteKind::Prepare, 3, 1), second).holds(&CHAIN));
        }
        let round = Round::default();
        let timeout = |view| Statement::Timeout { round, high: Round::new(Epoch::ZERO, View::new(view)) };
        assert!(!evidence(timeout(1), timeout(2)).holds(&CHAIN));
    }

    #[test]
    fn a_false_signature_or_another_chain_is_none() {
        let mut evidence = evidence(vote(VoteKind::Prepare, 3, 1), vote(VoteKind::Prepare, 3, 2));
        assert!(!evidence.holds(&ChainId::from_bytes([2; 32])));
        evidence.second.1 = evidence.first.1;
        assert!(!evidence.holds(&CHAIN));
    }
}

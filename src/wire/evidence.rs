//! Evidence: what a node has signed and no honest one signs. It proves itself: nothing but the chain id is needed.

use borsh::{BorshDeserialize, BorshSerialize};

use super::certificate::{Statement, VoteKind};
use super::file::{PublicManifest, SlotInfo, StorageReceipt};
use crate::crypto::{Domain, Signature};
use crate::types::{BlockHash, ChainId, NodeId, Round};

/// What a node can be accused of.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum Accusation {
    /// A validator contradicted itself.
    Contradiction(Evidence) = 0,
    /// A storage node signed for what cannot be.
    FalseReceipt(FalseReceipt) = 1,
}

impl Accusation {
    /// Who signed it.
    pub const fn node(&self) -> NodeId {
        match self {
            Self::Contradiction(evidence) => evidence.node,
            Self::FalseReceipt(shown) => shown.receipt.node,
        }
    }
    /// Its stable name, for JSON.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Contradiction(_) => "contradiction",
            Self::FalseReceipt(_) => "false_receipt",
        }
    }
    /// Whether it shows an offence, if its signatures hold.
    pub fn is_offence(&self) -> bool {
        match self {
            Self::Contradiction(evidence) => contradict(&evidence.first.0, &evidence.second.0),
            Self::FalseReceipt(shown) => shown.cannot_be(),
        }
    }
    /// What the node has signed: domains, bytes and signatures.
    pub fn signed(&self, chain: &ChainId) -> Vec<(Domain, Vec<u8>, Signature)> {
        match self {
            Self::Contradiction(Evidence { first, second, .. }) => {
                [first, second].map(|(said, signature)| (Domain::Consensus, said.bytes(chain), *signature)).to_vec()
            }
            Self::FalseReceipt(FalseReceipt { receipt, info, manifest }) => {
                let bytes = StorageReceipt::bytes(chain, &manifest.id(), receipt.slot, receipt.until, info);
                vec![(Domain::Receipt, bytes, receipt.signature)]
            }
        }
    }
    /// Whether it shows an offence on a chain.
    pub fn holds(&self, chain: &ChainId) -> bool {
        match self {
            Self::Contradiction(evidence) => evidence.holds(chain),
            Self::FalseReceipt(shown) => shown.holds(chain),
        }
    }
}

/// A receipt for a slot that the file does not have: another root, another length, or a place beyond its slots. The file's id is the
/// hash of its manifest, and an honest node signs no receipt before it has looked into that.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct FalseReceipt {
    /// The receipt.
    pub receipt: StorageReceipt,
    /// Root and length for which it was signed.
    pub info: SlotInfo,
    /// What the file really consists of.
    pub manifest: PublicManifest,
}

impl FalseReceipt {
    /// Whether no honest node signs for this root and length.
    fn cannot_be(&self) -> bool {
        self.manifest.check().is_ok() && self.manifest.slots.get(usize::from(self.receipt.slot)) != Some(&self.info)
    }
    /// Whether the receipt is signed and cannot be.
    pub fn holds(&self, chain: &ChainId) -> bool {
        self.cannot_be() && self.receipt.verify(chain, &self.manifest.id(), &self.info).is_ok()
    }
}

/// Two different blocks under one kind, epoch, view and key (protocol rule 19).
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
    use crate::types::{AccountId, Epoch, Height, SlotRoot, View};

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
    fn a_receipt_for_what_the_file_does_not_have_is_evidence() {
        let key = SecretKey::from_seed(&[1; 32]);
        let info = SlotInfo { root: SlotRoot::from_bytes([3; 32]), len: 100 };
        let manifest = PublicManifest {
            version: 1,
            owner: AccountId::from_bytes([1; 32]),
            nonce: [2; 32],
            data: 1,
            parity: 1,
            chunk_bytes: 1 << 20,
            cipher_len: 100,
            slots: vec![info; 2],
            sealed: Vec::new(),
        };
        let signed = |slot: u8, info: SlotInfo| {
            let receipt = StorageReceipt::sign(&CHAIN, &manifest.id(), slot, Height::new(9), &info, &key);
            FalseReceipt { receipt, info, manifest: manifest.clone() }
        };
        let other = SlotInfo { root: SlotRoot::from_bytes([4; 32]), ..info };
        let longer = SlotInfo { len: 101, ..info };
        for shown in [signed(0, other), signed(1, longer), signed(2, info)] {
            assert!(shown.holds(&CHAIN));
            assert!(!shown.holds(&ChainId::from_bytes([2; 32])));
            let unsigned = SlotInfo { root: SlotRoot::from_bytes([5; 32]), ..info };
            let accusation = Accusation::FalseReceipt(FalseReceipt { info: unsigned, ..shown.clone() });
            assert!(!accusation.holds(&CHAIN), "another root than the one signed for");
            // Somebody could make up a manifest for a receipt, but not one with the same id.
            let mut made_up = shown;
            made_up.manifest.nonce = [9; 32];
            assert!(!made_up.holds(&CHAIN));
        }
        assert!(!signed(0, info).holds(&CHAIN), "an honest receipt");
        let mut odd = signed(0, other);
        odd.manifest.version = 2;
        assert!(!Accusation::FalseReceipt(odd).is_offence(), "a manifest that no node takes");
    }

    #[test]
    fn a_false_signature_or_another_chain_is_none() {
        let mut evidence = evidence(vote(VoteKind::Prepare, 3, 1), vote(VoteKind::Prepare, 3, 2));
        assert!(!evidence.holds(&ChainId::from_bytes([2; 32])));
        evidence.second.1 = evidence.first.1;
        assert!(!evidence.holds(&CHAIN));
    }
}

//! Ring: the validators' keys, and who has signed what.
//!
//! In most runs a signature is ideal: it holds exactly if the key's owner made it, which the ring remembers. Some runs sign
//! and verify for real (`gate`). Either way the checker asks the ring alone.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Arc, LazyLock};

use crate::crypto::{SecretKey, Signature};
use crate::types::{BlockHash, ChainId, Epoch, Height, NodeId, Round};
use crate::wire::certificate::Statement;
use crate::wire::{Certificate, Message, TimeoutCertificate, Unsigned, Validator, ValidatorSet, VoteKind};

/// The simulated chain.
pub const CHAIN: ChainId = ChainId::from_bytes([7; 32]);
/// Its genesis block.
pub const GENESIS: BlockHash = BlockHash::from_bytes([0; 32]);
/// Most validators that a run may have.
pub const VALIDATORS_MAX: u16 = 32;

static KEYS: LazyLock<Vec<(NodeId, SecretKey)>> = LazyLock::new(|| {
    let key = |n: u8| SecretKey::from_seed(&[n; 32]);
    (1..=VALIDATORS_MAX as u8).map(key).map(|key| (key.public().node_id(), key)).collect()
});

/// The nodes of all validators that any run may have.
pub fn nodes() -> impl Iterator<Item = NodeId> {
    KEYS.iter().map(|(node, _)| *node)
}

/// The keys of one run.
pub struct Ring {
    keys: Vec<(NodeId, SecretKey)>,
    /// By the epoch with which each set began.
    sets: BTreeMap<Epoch, Arc<ValidatorSet>>,
    real: bool,
    said: HashSet<(u16, Statement)>,
    known: BTreeSet<(Round, VoteKind, Height, BlockHash)>,
}

impl Ring {
    /// Keys of validators with these weights, 1 to `VALIDATORS_MAX` of them; `real` ones sign with ed25519.
    pub fn new(weights: &[u64], real: bool) -> Self {
        let mut keys = KEYS[..weights.len()].to_vec();
        keys.sort_by_key(|(node, _)| *node);
        let weighted = keys.iter().zip(weights);
        let members = weighted.map(|((node, _), power)| Validator { node: *node, power: *power }).collect();
        let set = ValidatorSet::new(members);
        let set = Arc::new(set.expect("distinct nodes with weights, in order, are a set"));
        let sets = BTreeMap::from([(Epoch::ZERO, set)]);
        Self { keys, sets, real, said: HashSet::new(), known: BTreeSet::new() }
    }
    /// The validators of the first epoch.
    pub fn set(&self) -> &Arc<ValidatorSet> {
        self.set_in(Epoch::ZERO)
    }
    /// The validators of an epoch, as far as it has begun anywhere.
    pub fn set_in(&self, epoch: Epoch) -> &Arc<ValidatorSet> {
        let begun = self.sets.range(..=epoch).next_back();
        begun.map(|(_, set)| set).expect("the first epoch has a set")
    }
    /// An epoch begins on a machine. Whether it has the set there that it has elsewhere.
    pub fn begin(&mut self, epoch: Epoch, set: &Arc<ValidatorSet>) -> bool {
        self.sets.entry(epoch).or_insert_with(|| set.clone()) == set
    }
    /// Whose key a place in an epoch's set is.
    pub fn key_in(&self, epoch: Epoch, index: u16) -> Option<u16> {
        let node = self.set_in(epoch).get(index)?.node;
        let at = self.keys.binary_search_by(|(key, _)| key.cmp(&node)).ok()?;
        u16::try_from(at).ok()
    }
    /// The key of a validator.
    pub fn key(node: &NodeId) -> Option<&'static SecretKey> {
        KEYS.iter().find(|(known, _)| known == node).map(|(_, key)| key)
    }
    /// Whether signatures are real.
    pub fn is_real(&self) -> bool {
        self.real
    }
    /// The node of a validator.
    pub fn node(&self, index: u16) -> NodeId {
        self.keys[usize::from(index)].0
    }
    /// Signs a message with a validator's key.
    pub fn sign(&mut self, signer: u16, unsigned: Unsigned) -> Message {
        let statement = unsigned.statement();
        self.said.insert((signer, statement));
        if self.real {
            return unsigned.sign(&CHAIN, &self.keys[usize::from(signer)].1);
        }
        unsigned.signed(ideal(signer, &statement))
    }
    /// Whether the validator has signed this.
    pub fn holds(&self, signer: u16, statement: &Statement) -> bool {
        self.said.contains(&(signer, *statement))
    }
    /// Whether whoever has this place in the epoch's set has signed this.
    pub fn holds_at(&self, epoch: Epoch, index: u16, statement: &Statement) -> bool {
        self.key_in(epoch, index).is_some_and(|key| self.holds(key, statement))
    }
    /// Whether a quorum has signed this: the checker's own judgement.
    pub fn certifies(&mut self, certificate: &Certificate) -> bool {
        if certificate.is_genesis(&GENESIS) {
            return true;
        }
        let name = (certificate.round, certificate.kind, certificate.height, certificate.block);
        if self.known.contains(&name) {
            return true;
        }
        let set = self.set_in(certificate.round.epoch);
        let power = certificate.power(set).unwrap_or(0);
        let holds = self.signed(certificate) && set.is_quorum(power);
        if holds {
            self.known.insert(name);
        }
        holds
    }
    /// Whether the validators named in a certificate have signed it, a quorum or not.
    pub fn signed(&self, certificate: &Certificate) -> bool {
        let (statement, epoch) = (certificate.statement(), certificate.round.epoch);
        certificate.is_genesis(&GENESIS)
            || certificate.signatures.iter().all(|signed| self.holds_at(epoch, signed.index, &statement))
    }
    /// Whether the validators named in a timeout certificate have signed it, and it carries their highest certificate.
    pub fn signed_timeouts(&self, timeout: &TimeoutCertificate) -> bool {
        let said = |high: Round| Statement::Timeout { round: timeout.round, high };
        timeout.timeouts.iter().all(|one| self.holds_at(timeout.round.epoch, one.index, &said(one.high)))
            && timeout.timeouts.iter().map(|one| one.high).max() == Some(timeout.high.rank())
            && self.signed(&timeout.high)
    }
}

/// Bytes that tell signatures apart; they prove nothing by themselves.
fn ideal(signer: u16, statement: &Statement) -> Signature {
    let mut raw = [0; 64];
    let (round, rest) = match statement {
        Statement::Propose { round, block } | Statement::Vote { round, block, .. } => (round, *block.as_bytes()),
        Statement::Timeout { round, high } => {
            let mut rest = [0; 32];
            rest[..8].copy_from_slice(&high.epoch.get().to_be_bytes());
            rest[8..16].copy_from_slice(&high.view.get().to_be_bytes());
            (round, rest)
        }
    };
    raw[..2].copy_from_slice(&signer.to_be_bytes());
    raw[2..10].copy_from_slice(&round.view.get().to_be_bytes());
    raw[10..18].copy_from_slice(&round.epoch.get().to_be_bytes());
    raw[32..].copy_from_slice(&rest);
    Signature::from_bytes(raw)
}

//! The validators of one epoch and what makes a quorum of them.

use borsh::{BorshDeserialize, BorshSerialize};

use crate::crypto::{Domain, hash};
use crate::types::{NodeId, limits};

/// One validator and its weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Validator {
    /// Its identity: the key that signs votes.
    pub node: NodeId,
    /// Its voting weight, at least 1.
    pub power: u64,
}

/// Why a list is not a validator set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValidatorSetError {
    /// No validator, or too many.
    #[error("{0} validators; a set has 1 to {max}", max = limits::VALIDATORS_MAX)]
    Size(usize),
    /// Ids not strictly ascending.
    #[error("validators must be sorted by node id, each once")]
    Order,
    /// A weight of zero, or a sum that does not fit.
    #[error("weights must be at least 1 and add up to less than 2^62")]
    Power,
}

/// The validators of an epoch, sorted by node id. A validator's index in certificates is its place here.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize)]
pub struct ValidatorSet {
    members: Vec<Validator>,
}

impl ValidatorSet {
    /// Checks and takes the list. Errors: `Size`, `Order`, `Power`.
    pub fn new(members: Vec<Validator>) -> Result<Self, ValidatorSetError> {
        if members.is_empty() || members.len() > limits::VALIDATORS_MAX {
            return Err(ValidatorSetError::Size(members.len()));
        }
        if !members.is_sorted_by(|a, b| a.node < b.node) {
            return Err(ValidatorSetError::Order);
        }
        let total = members.iter().try_fold(0_u64, |sum, v| sum.checked_add(v.power));
        if members.iter().any(|v| v.power == 0) || total.is_none_or(|sum| sum >= 1 << 62) {
            return Err(ValidatorSetError::Power);
        }
        Ok(Self { members })
    }
    /// The validators in order.
    pub fn members(&self) -> &[Validator] {
        &self.members
    }
    /// How many there are; never zero.
    #[expect(clippy::len_without_is_empty, reason = "a set is never empty")]
    pub fn len(&self) -> usize {
        self.members.len()
    }
    /// The validator at an index.
    pub fn get(&self, index: u16) -> Option<&Validator> {
        self.members.get(usize::from(index))
    }
    /// The index of a node, if it is in the set.
    pub fn index_of(&self, node: &NodeId) -> Option<u16> {
        let at = self.members.binary_search_by(|v| v.node.cmp(node)).ok()?;
        u16::try_from(at).ok()
    }
    /// Sum of all weights.
    pub fn total_power(&self) -> u64 {
        self.members.iter().map(|v| v.power).sum()
    }
    /// Whether this weight is more than two thirds of the whole (protocol rule 1).
    pub fn is_quorum(&self, power: u64) -> bool {
        u128::from(power) * 3 > u128::from(self.total_power()) * 2
    }
    /// Whether this weight is more than one third: at least one honest validator is in it (protocol rule 1).
    pub fn is_join(&self, power: u64) -> bool {
        u128::from(power) * 3 > u128::from(self.total_power())
    }
    /// The places in another set of members of this one, given by their places here: those that are in both, ascending, and no
    /// more of them than a third of the weight there.
    pub fn carry_over(&self, indices: &[u16], to: &Self) -> Vec<u16> {
        let mut places: Vec<_> = indices.iter().filter_map(|index| to.index_of(&self.get(*index)?.node)).collect();
        places.sort_unstable();
        let mut weight = 0_u64;
        places.retain(|place| {
            let power = to.get(*place).map_or(0, |member| member.power);
            let fits = !to.is_join(weight.saturating_add(power));
            weight = if fits { weight.saturating_add(power) } else { weight };
            fits
        });
        places
    }
    /// The least weight that is a quorum.
    pub fn quorum(&self) -> u64 {
        (self.total_power() / 3 * 2).saturating_add(self.total_power() % 3 * 2 / 3).saturating_add(1)
    }
    /// The most weight that may fail without harm: a third, less a bit.
    pub fn faults(&self) -> u64 {
        self.total_power().saturating_sub(1) / 3
    }
    /// The hash that a header carries.
    pub fn hash(&self) -> [u8; 32] {
        hash(Domain::ValidatorSet, &super::encode(self))
    }
}

impl BorshDeserialize for ValidatorSet {
    fn deserialize_reader<R: std::io::Read>(reader: &mut R) -> std::io::Result<Self> {
        let members = Vec::deserialize_reader(reader)?;
        Self::new(members).map_err(|error| std::io::Error::new(std::io::ErrorKind::InvalidData, error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(powers: &[u64]) -> Result<ValidatorSet, ValidatorSetError> {
        let member = |(n, power): (usize, &u64)| Validator { node: NodeId::from_bytes([n as u8; 32]), power: *power };
        ValidatorSet::new(powers.iter().enumerate().map(member).collect())
    }

    #[test]
    fn a_quorum_is_more_than_two_thirds_and_a_join_more_than_one() {
        for (n, quorum, join) in [(1, 1, 1), (3, 3, 2), (4, 3, 2), (7, 5, 3), (10, 7, 4)] {
            let set = set(&vec![1; n]).expect("a valid set");
            assert!(set.is_quorum(quorum) && !set.is_quorum(quorum - 1));
            assert!(set.is_join(join) && !set.is_join(join - 1));
            assert_eq!((set.quorum(), set.faults()), (quorum, (n as u64 - 1) / 3));
        }
    }

    #[test]
    fn who_is_skipped_keeps_that_by_name_and_within_a_third_of_the_new_weight() {
        let at = |ids: &[u8], powers: &[u64]| {
            let member = |(id, power): (&u8, &u64)| Validator { node: NodeId::from_bytes([*id; 32]), power: *power };
            ValidatorSet::new(ids.iter().zip(powers).map(member).collect()).expect("a valid set")
        };
        let old = at(&[1, 2, 3, 4, 5, 6, 7], &[1; 7]);
        assert_eq!(old.carry_over(&[0, 6], &at(&[2, 3, 4, 5, 6, 7, 8], &[1; 7])), [5], "the first has left");
        assert_eq!(old.carry_over(&[0, 6], &at(&[1, 2, 3, 7], &[1; 4])), [0], "two of four are more than a third");
        assert_eq!(old.carry_over(&[0, 6], &at(&[1, 7], &[1; 2])), [] as [u16; 0]);
    }

    #[test]
    fn empty_unsorted_and_weightless_sets_are_refused() {
        assert_eq!(set(&[]), Err(ValidatorSetError::Size(0)));
        assert_eq!(set(&[1, 0]), Err(ValidatorSetError::Power));
        assert_eq!(set(&[1 << 61, 1 << 61]), Err(ValidatorSetError::Power));
        let twice = Validator { node: NodeId::from_bytes([1; 32]), power: 1 };
        assert_eq!(ValidatorSet::new(vec![twice, twice]), Err(ValidatorSetError::Order));
    }
}

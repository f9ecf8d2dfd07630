//! Who leads a view: weighted round robin over the epoch's set. Those on its skip list lead one view each, near its
//! start: whoever is back then wins it and is off the list, and whoever is not costs one view an epoch.

use std::collections::BTreeMap;

use crate::types::{Epoch, NodeId, Round, limits};
use crate::wire::{Header, ValidatorSet};

use super::context::EpochContext;

/// The leaders of one epoch. Validators of equal weight take strict turns; a heavier one leads its share of
/// the views, spread out.
#[derive(Clone, Debug)]
pub struct Leaders {
    /// Running sums of the weights, divided by their greatest common divisor, with the index they belong to.
    sums: Vec<(u64, u16)>,
    total: u64,
    /// Coprime to `total` and near its golden section, so that consecutive views fall far apart.
    step: u64,
    /// Those who lead one view each: the first of them view 2, the next view 4, and so on. Between them stand views of
    /// others, so that back-off ends.
    probed: Vec<u16>,
}

impl Leaders {
    /// The leaders of an epoch.
    pub fn new(context: &EpochContext) -> Self {
        Self::of(&context.set, &context.skip)
    }

    fn of(set: &ValidatorSet, skip: &[u16]) -> Self {
        let all: Vec<(u16, u64)> = (0_u16..).zip(set.members()).map(|(index, member)| (index, member.power)).collect();
        let mut rest: Vec<_> = all.iter().copied().filter(|(index, _)| !skip.contains(index)).collect();
        let mut probed = skip.to_vec();
        if rest.is_empty() {
            rest = all;
            probed.clear();
        }
        let unit = rest.iter().fold(0, |unit, (_, power)| gcd(unit, *power)).max(1);
        let mut total = 0;
        let mut sums = Vec::with_capacity(rest.len());
        for (index, power) in rest {
            total += power / unit;
            sums.push((total, index));
        }
        Self { sums, total, step: step(total), probed }
    }

    /// The index of the view's leader. Cost: logarithmic in the size of the set.
    pub fn index(&self, round: Round) -> u16 {
        if let Some(probed) = self.probed(round) {
            return probed;
        }
        let turn = u128::from(round.epoch.get()) + u128::from(round.view.get());
        let place = u64::try_from(turn * u128::from(self.step) % u128::from(self.total)).unwrap_or(0);
        let at = self.sums.partition_point(|(sum, _)| *sum <= place);
        self.sums.get(at).map_or(0, |(_, index)| *index)
    }

    fn probed(&self, round: Round) -> Option<u16> {
        let view = usize::try_from(round.view.get()).ok()?;
        let place = (view % 2 == 0).then_some(view / 2)?.checked_sub(1)?;
        self.probed.get(place).copied()
    }

    /// The node that leads the view.
    pub fn node(&self, set: &ValidatorSet, round: Round) -> Option<NodeId> {
        set.get(self.index(round)).map(|member| member.node)
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn step(total: u64) -> u64 {
    let golden = u64::try_from(u128::from(total) * 618 / 1000).unwrap_or(0).max(1);
    (golden..=total).find(|step| gcd(*step, total) == 1).unwrap_or(1)
}

/// Who is skipped in the epoch after `context`: whoever lost most of its views there, as the gaps between the views
/// of the final headers show, together no more than f by weight (protocol rule 1). `headers` are all of
/// the epoch's, ascending. Ascending indices.
pub fn skip_list<'a>(context: &EpochContext, headers: impl IntoIterator<Item = &'a Header>) -> Vec<u16> {
    let leaders = Leaders::new(context);
    let mut score: BTreeMap<u16, (u64, u64)> = BTreeMap::new();
    let mut counted = 0_u64;
    let mut view = 1_u64;
    for header in headers.into_iter().filter(|header| header.round.epoch == context.epoch) {
        let won = header.round.view.get();
        for lost in view..won.min(view.saturating_add(limits::SKIP_VIEWS_MAX - counted)) {
            score.entry(leaders.index(round(context.epoch, lost))).or_default().0 += 1;
            counted += 1;
        }
        score.entry(leaders.index(header.round)).or_default().1 += 1;
        view = won.saturating_add(1);
    }
    let mut worst: Vec<_> =
        score.into_iter().filter(|(_, (lost, won))| lost > won).map(|(index, (lost, _))| (lost, index)).collect();
    worst.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
    let mut skip = Vec::new();
    let mut weight = 0;
    for (_, index) in worst {
        let power = context.set.get(index).map_or(0, |member| member.power);
        if !context.set.is_join(weight + power) {
            weight += power;
            skip.push(index);
        }
    }
    skip.sort_unstable();
    skip
}

fn round(epoch: Epoch, view: u64) -> Round {
    Round::new(epoch, crate::types::View::new(view))
}

#[cfg(test)]
#[path = "leader_tests.rs"]
mod tests;

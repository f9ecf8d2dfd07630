//! Durability: how likely it is that a file is lost within a time, from how often nodes are lost and how fast slots come back.
//!
//! The model is a birth-death chain over the number i of slots that are there, from all n down to k; with k - 1 the file is
//! lost. From i one more slot goes at the rate i·λ; each of the n - i missing ones comes back at the rate μ by itself, as
//! soon as no more than `repair_at` are left. It assumes that
//! - slots are lost independently of one another, at one rate: no rack, operator, program or disaster takes several at once;
//! - times to loss and to repair are exponential with the measured means, and the future is like the past;
//! - a slot that comes back is whole. It is, because its root is checked.
//!
//! The first is the weakest: below about 1e-9 the answer says nothing about a real network.
//!
//! The chain is followed in `STAGES` implicit Euler steps, which is its exact value for a time that is spread around the
//! wanted one (Erlang distribution, standard deviation 3 % of it). Every quantity is a sum and product of positive numbers
//! (elimination after Grassmann, Taksar and Heyman, 1985), so that small odds keep their digits.
//! Floats: for people alone, never for a decision of the ledger.

/// Steps of the time.
const STAGES: u32 = 1_024;

/// What a file is and what happens to its slots.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Odds {
    /// Slots that restore the file, at least 1.
    pub data: u8,
    /// Slots in all, at least `data`.
    pub slots: u8,
    /// Repair begins when at most so many slots are left; `slots - 1` for at once.
    pub repair_at: u8,
    /// Losses of one slot per unit of time: λ.
    pub loss: f64,
    /// 1 over the mean time until a missing slot is there again, per unit of time: μ; 0 for no repair.
    pub repair: f64,
}

impl Odds {
    /// The probability, 0 to 1, that the file is lost within a time, of which so many slots are there at the beginning. A file
    /// with fewer than `data` of them is lost.
    /// Cost: linear in the slots, a millisecond for 255.
    pub fn lost_within(&self, time: f64, there: u8) -> f64 {
        let (n, k) = (usize::from(self.slots), usize::from(self.data.max(1)));
        let begin = usize::from(there).min(n);
        if begin < k {
            return 1.0;
        }
        let step = time.max(0.0) / f64::from(STAGES);
        let down: Vec<f64> = (k..=n).map(|i| step * i as f64 * self.loss.max(0.0)).collect();
        let up: Vec<f64> = (k..=n).map(|i| step * self.repaired(i)).collect();
        let mut odds: Vec<f64> = (k..=n).map(|i| if i == begin { 1.0 } else { 0.0 }).collect();
        let mut lost = 0.0;
        let factors = eliminate(&down, &up);
        for _ in 0..STAGES {
            advance(&mut odds, &down, &up, &factors);
            lost += down.first().zip(odds.first()).map_or(0.0, |(rate, at_least)| rate * at_least);
        }
        lost.clamp(0.0, 1.0)
    }

    /// At which rate slots come back when so many are there.
    fn repaired(&self, there: usize) -> f64 {
        let missing = usize::from(self.slots).saturating_sub(there);
        let begun = there <= usize::from(self.repair_at);
        if begun { missing as f64 * self.repair.max(0.0) } else { 0.0 }
    }
}

/// The pivots of the implicit step, from the fewest slots up. No difference is formed: `excess` is what is left of a pivot
/// without the rate upwards.
fn eliminate(down: &[f64], up: &[f64]) -> Vec<f64> {
    let mut pivots = Vec::with_capacity(down.len());
    let mut kept = 1.0;
    for (down, up) in down.iter().zip(up) {
        let excess = 1.0 + down * kept;
        let pivot = excess + up;
        kept = excess / pivot;
        pivots.push(pivot);
    }
    pivots
}

/// One step: solves (1 - h·Q) x = odds, in place.
fn advance(odds: &mut [f64], down: &[f64], up: &[f64], pivots: &[f64]) {
    // What comes up from the states below is added first, then what comes down from those above.
    let mut from_below = 0.0;
    for ((odds, up), pivot) in odds.iter_mut().zip(up).zip(pivots) {
        *odds = (*odds + from_below) / pivot;
        from_below = up * *odds;
    }
    let mut from_above = 0.0;
    for ((odds, down), pivot) in odds.iter_mut().zip(down).zip(pivots).rev() {
        *odds += from_above / pivot;
        from_above = down * *odds;
    }
}

/// An event's rate as it was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// Events for each unit of exposure.
    pub value: f64,
    /// Whether nothing was seen, so that the value is no estimate but what it stays below with 95 % confidence.
    pub is_bound: bool,
}

/// So many events in so much exposure. Without any event the rule of three gives a bound: were the rate 3 / exposure, nothing
/// would be seen in one of twenty cases only. Without exposure nothing is known.
pub fn rate(events: u64, exposure: f64) -> Option<Rate> {
    let is_bound = events == 0;
    let events = if is_bound { 3.0 } else { events as f64 };
    (exposure > 0.0).then_some(Rate { value: events / exposure, is_bound })
}

#[cfg(test)]
#[path = "durability_tests.rs"]
mod tests;

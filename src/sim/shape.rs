//! Shapes: partitions with a name, of a network in which nothing else goes wrong.
//!
//! So it can be said of each side what it must do: one with a quorum goes on, none without one makes anything final, and
//! all go on when the links are back.

use super::dice::Dice;
use super::options::Scenario;
use super::plan::Fault;

/// Virtual time before the first cut, and how long a cut lasts: some view timeouts at their cap.
const BEFORE: u64 = 2_000;
const LASTS: u64 = 6_000;
/// Links that flap are there for so long, and then away for as long.
const FLAP: u64 = 1_000;
const FLAPS: u64 = 5;

/// The heights of all machines when links were cut, came back, or all faults ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Virtual time, ms.
    pub at: u64,
    /// What happened.
    pub what: String,
    /// Machines that are on the smaller side, or alone.
    pub gone: Vec<usize>,
    /// Final height of each machine.
    pub heights: Vec<u64>,
}

/// The faults of a shape, by time, and when they end; nothing for other scenarios.
pub fn faults(scenario: Scenario, machines: usize, dice: &mut Dice) -> Option<(Vec<(u64, Fault)>, u64)> {
    let order = dice.shuffled((0..machines).collect());
    let faulty = (machines - 1) / 3;
    let begin = BEFORE + dice.between(0, 500);
    let one = |name, cut| Some((vec![(begin, Fault::Partition(name, cut))], begin + LASTS));
    let pairs = || (0..machines).flat_map(|a| (0..machines).map(move |b| (a, b))).filter(|(a, b)| a != b);
    let place = |at: usize| order.iter().position(|other| *other == at).unwrap_or(0);
    // The first so many are cut off from the rest, together or each from everybody.
    let off = |count: usize| pairs().filter(|(a, b)| (place(*a) < count) != (place(*b) < count)).collect::<Vec<_>>();
    let alone = |count: usize| pairs().filter(|(a, b)| place(*a) < count || place(*b) < count).collect::<Vec<_>>();
    match scenario {
        Scenario::Halves => one("halves", off(machines / 2)),
        Scenario::Minority => one("minority", off(faulty)),
        Scenario::Ring => {
            let near = |a, b| matches!(place(a).abs_diff(place(b)), apart if apart == 1 || apart == machines - 1);
            one("ring", pairs().filter(|(a, b)| !near(*a, *b)).collect())
        }
        Scenario::Bridge => {
            // The last one is the bridge.
            let side = |at: usize| (place(at) + 1 < machines).then(|| place(at) < (machines - 1) / 2);
            let apart = |a: usize, b: usize| matches!((side(a), side(b)), (Some(a), Some(b)) if a != b);
            one("bridge", pairs().filter(|(a, b)| apart(*a, *b)).collect())
        }
        Scenario::OneWay => {
            one("one-way", pairs().filter(|(a, b)| place(*a) < machines / 2 && place(*b) >= machines / 2).collect())
        }
        Scenario::Cascade => {
            // One more than may fail, one after another, and back to as many as may.
            let steps = (1..=faulty + 1).chain([faulty]);
            let cut =
                |(step, count): (u64, usize)| (begin + step * LASTS / 2, Fault::Partition("cascade", alone(count)));
            let faults: Vec<_> = (0..).zip(steps).map(cut).collect();
            let end = faults.last().map_or(begin, |(at, _)| at + LASTS / 2);
            Some((faults, end))
        }
        Scenario::Flapping => {
            let cut = off(machines / 2);
            let flap = |n| {
                let at = begin + n * 2 * FLAP;
                [(at, Fault::Partition("flapping", cut.clone())), (at + FLAP, Fault::Mend)]
            };
            Some(((0..FLAPS).flat_map(flap).collect(), begin + FLAPS * 2 * FLAP - FLAP))
        }
        _ => None,
    }
}

/// Who cannot talk with most of the others in both directions.
pub fn gone(cut: &[(usize, usize)], machines: usize) -> Vec<usize> {
    let reached =
        |at: usize| (0..machines).filter(|other| !cut.contains(&(at, *other)) && !cut.contains(&(*other, at))).count();
    (0..machines).filter(|at| reached(*at) * 3 <= machines * 2).collect()
}

//! Sim: the real consensus core, ledger and mempool under a seeded scheduler of faults, with a checker of its own.
//!
//! One process, virtual time; the same options give the same run, event by event.
//! Not here: real processes (`tests/it`).

pub mod app;
mod books;
mod checker;
mod dice;
mod disk;
mod duty;
mod fault;
mod gate;
mod ledger;
mod machine;
mod network;
mod options;
mod plan;
mod ring;
mod script;
mod shape;
mod shell;
mod trace;
mod traffic;
mod verdict;
mod world;

pub use fault::LedgerFault;
pub use options::{Options, OptionsError, Scenario, UnknownScenario, VALIDATORS_MIN};
pub use ring::{CHAIN, GENESIS, VALIDATORS_MAX};
pub use shape::Mark;
pub use verdict::{Failure, Said, Verdict};

use world::World;

/// What came of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The checker's verdict.
    pub verdict: Verdict,
    /// Final blocks.
    pub heights: u64,
    /// Views from the end of the faults to three more final blocks.
    pub views: u64,
    /// Final transactions, in a scenario with the ledger.
    pub transactions: u64,
    /// Contradictions that honest machines reported.
    pub evidence: u64,
    /// Events that happened.
    pub events: u64,
    /// Virtual time that passed, milliseconds.
    pub millis: u64,
    /// Heights when links were cut, came back, and when all faults ended.
    pub marks: Vec<Mark>,
    /// Virtual time from the end of the faults to the next final block on every machine, milliseconds.
    pub recovered: Option<u64>,
    /// The longest time of a view in the run, milliseconds.
    pub view_cap: u64,
    /// Settings, roles and faults with their virtual times, for people.
    pub schedule: String,
    /// Hash of everything that happened, hexadecimal.
    pub trace_hash: String,
    /// A line for everything that happened, if `Options::trace` asked for it.
    pub trace: Vec<String>,
    /// Whether the verdict is what the scenario demands: clean, or a fork.
    pub is_expected: bool,
}

/// Runs a seed. Errors: `OptionsError` when there is no such run.
pub fn run(options: &Options) -> Result<Outcome, OptionsError> {
    options.check()?;
    let mut world = World::new(options);
    let verdict = world.run();
    Ok(world.outcome(options, verdict))
}

/// Runs the seeds with otherwise the same options, and calls `each` after each. Stops at the first outcome that the scenario
/// does not demand and gives it with its seed. Errors: `OptionsError` when there are no such runs.
pub fn run_range(
    options: &Options,
    seeds: std::ops::Range<u64>,
    mut each: impl FnMut(u64, &Outcome),
) -> Result<Option<(u64, Outcome)>, OptionsError> {
    for seed in seeds {
        let outcome = run(&Options { seed, ..options.clone() })?;
        each(seed, &outcome);
        if !outcome.is_expected {
            return Ok(Some((seed, outcome)));
        }
    }
    Ok(None)
}

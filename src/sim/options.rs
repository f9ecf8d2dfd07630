//! What a caller chooses of a run.

use std::fmt;
use std::str::FromStr;

#[cfg(feature = "planted-bugs")]
use crate::consensus::planted::Bug;

#[cfg(feature = "planted-bugs")]
use super::fault::LedgerFault;
use super::ring::VALIDATORS_MAX;

/// Fewest validators that tolerate one faulty one.
pub const VALIDATORS_MIN: u16 = 4;

macro_rules! scenarios {
    ($($name:ident = $text:literal: $about:literal;)*) => {
        /// Which faults a run may have. Their times, places and strengths come from the seed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Scenario { $(#[doc = $about] $name,)* }

        impl Scenario {
            /// Every scenario.
            pub const ALL: &[Self] = &[$(Self::$name,)*];
            /// Its name on the command line.
            pub const fn name(self) -> &'static str { match self { $(Self::$name => $text,)* } }
            /// What it does, in one line.
            pub const fn about(self) -> &'static str { match self { $(Self::$name => $about,)* } }
        }
    };
}

scenarios! {
    Mixed = "mixed": "each seed draws its own mix of everything that a correct network survives";
    Ledger = "ledger": "as mixed, with the real ledger and mempool, and transactions good and bad";
    Calm = "calm": "no fault but a dead validator, if one is named";
    Loss = "loss": "messages are lost, delayed, reordered and duplicated";
    Partitions = "partitions": "the network falls apart: halves, one-way, ring, single, clogs one by one";
    Crashes = "crashes": "crashes before, during and after writes, one by one and all at once; restarts and pauses";
    Epochs = "epochs": "epochs of one to three blocks, with loss and crashes at their ends";
    Restore = "restore": "a validator comes back with an old copy of its disk and stays silent for an epoch";
    Twins = "twins": "f validators run twice, with one key each, in changing partitions";
    Leaders = "leaders": "f validators follow scripts: equivocation, old justifications, withheld and replayed certificates";
    Revotes = "revotes": "f validators propose two blocks per view while the others crash right after their votes";
    Stale = "stale": "f scripted validators propose on old certificates and hide new ones, while messages are lost";
    ForkingTwins = "forking-twins": "f+1 validators run twice across a partition: must fork";
    ForkingLeaders = "forking-leaders": "f+1 scripted validators across a partition: must fork";
    Halves = "halves": "nothing but two halves: 2+2, 3+2, 4+3; none has a quorum";
    Minority = "minority": "nothing but f validators cut off: 3+1, 5+2; the others go on";
    Ring = "ring": "nothing but links to two neighbours each";
    Bridge = "bridge": "nothing but two groups with one validator in both";
    OneWay = "one-way": "nothing but messages of one half that do not reach the other";
    Cascade = "cascade": "one after another is cut off from all, f+1 in the end, and one comes back";
    Flapping = "flapping": "the links between two halves come and go every second";
}

impl Scenario {
    /// Whether more validators are faulty than the protocol tolerates, so that the checker must report a fork.
    pub const fn must_fork(self) -> bool {
        matches!(self, Self::ForkingTwins | Self::ForkingLeaders)
    }
    /// Whether the application is the real ledger with the real mempool; else it is a light one.
    pub const fn has_ledger(self) -> bool {
        matches!(self, Self::Ledger)
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The text names no scenario.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no scenario {0:?}; there are {list}", list = Scenario::ALL.iter().map(|s| s.name()).collect::<Vec<_>>().join(", "))]
pub struct UnknownScenario(String);

impl FromStr for Scenario {
    type Err = UnknownScenario;
    fn from_str(text: &str) -> Result<Self, UnknownScenario> {
        let named = |scenario: &&Self| scenario.name() == text;
        Self::ALL.iter().find(named).copied().ok_or_else(|| UnknownScenario(text.to_owned()))
    }
}

/// Why options fit no run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// Too few or too many validators.
    #[error("{0} validators; a run has {VALIDATORS_MIN} to {VALIDATORS_MAX}")]
    Validators(u16),
    /// The dead validator is none of them.
    #[error("position {position} is dead, but the positions of {validators} validators are 0 to {last}", last = validators - 1)]
    Dead {
        /// The position named.
        position: u16,
        /// How many validators there are.
        validators: u16,
    },
}

/// One run. The same options give the same run, event by event.
#[derive(Clone, Debug)]
pub struct Options {
    /// Seed of every random choice.
    pub seed: u64,
    /// How many validators, `VALIDATORS_MIN` to `VALIDATORS_MAX`.
    pub validators: u16,
    /// Which faults.
    pub scenario: Scenario,
    /// The validator that is dead, by its place in the set: from the start if the seed is even, else when the other faults end.
    pub dead: Option<u16>,
    /// Keeps a line for every event.
    pub trace: bool,
    /// A rule that every replica leaves out.
    #[cfg(feature = "planted-bugs")]
    pub bug: Option<Bug>,
    /// The restored validator of `Scenario::Restore` signs at once: the checker must find that.
    #[cfg(feature = "planted-bugs")]
    pub restore_signs: bool,
    /// What the application of `Scenario::Ledger` does wrong.
    #[cfg(feature = "planted-bugs")]
    pub ledger_fault: Option<LedgerFault>,
}

impl Options {
    /// The run of a seed: four validators, every fault that they must survive.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            validators: VALIDATORS_MIN,
            scenario: Scenario::Mixed,
            dead: None,
            trace: false,
            #[cfg(feature = "planted-bugs")]
            bug: None,
            #[cfg(feature = "planted-bugs")]
            restore_signs: false,
            #[cfg(feature = "planted-bugs")]
            ledger_fault: None,
        }
    }
    /// The same with so many validators.
    pub fn validators(self, validators: u16) -> Self {
        Self { validators, ..self }
    }
    /// The same with these faults.
    pub fn scenario(self, scenario: Scenario) -> Self {
        Self { scenario, ..self }
    }
    /// The same with this validator dead.
    pub fn dead(self, dead: Option<u16>) -> Self {
        Self { dead, ..self }
    }
    /// Whether there is such a run. Errors: `Validators`, `Dead`.
    pub fn check(&self) -> Result<(), OptionsError> {
        let validators = self.validators;
        if !(VALIDATORS_MIN..=VALIDATORS_MAX).contains(&validators) {
            return Err(OptionsError::Validators(validators));
        }
        match self.dead.filter(|dead| *dead >= validators) {
            Some(position) => Err(OptionsError::Dead { position, validators }),
            None => Ok(()),
        }
    }
    /// The command that repeats this run.
    pub fn command(&self) -> String {
        let mut text = format!("trullo sim --seed {} --validators {}", self.seed, self.validators);
        if self.scenario != Scenario::Mixed {
            text.push_str(&format!(" --scenario {}", self.scenario));
        }
        if let Some(dead) = self.dead {
            text.push_str(&format!(" --dead {dead}"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_is_found_by_its_name() {
        for scenario in Scenario::ALL {
            assert_eq!(scenario.name().parse(), Ok(*scenario));
        }
        let error = "storm".parse::<Scenario>().expect_err("no such scenario");
        assert!(error.to_string().starts_with("no scenario \"storm\"; there are mixed, ledger, calm"));
    }

    #[test]
    fn runs_that_cannot_be_are_refused() {
        assert_eq!(Options::new(0).validators(3).check(), Err(OptionsError::Validators(3)));
        assert_eq!(Options::new(0).dead(Some(4)).check(), Err(OptionsError::Dead { position: 4, validators: 4 }));
        assert_eq!(Options::new(0).dead(Some(3)).check(), Ok(()));
    }
}

//! The plan of a run: everything that the seed decides before it begins.
//!
//! Swarm style (Groce et al., "Swarm Testing", 2012): each seed switches kinds of faults on or off and draws their
//! strengths, so that no fault hides another one in every run.

use std::collections::BTreeSet;
use std::fmt;

use super::dice::Dice;
use super::options::{Options, Scenario};
use super::script::Habits;
use super::shape;

/// Runs in which the weights are unequal, in a hundred.
const WEIGHTED_PERCENT: u64 = 25;
/// Greatest weight in those.
const WEIGHT_MAX: u64 = 9;
/// Times that weights are drawn until the faulty ones have less than a third.
const WEIGHTS_TRIED: usize = 16;

/// Delays and losses of messages, in milliseconds and permille.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// Least and greatest delay.
    pub delay: (u64, u64),
    /// How many are lost.
    pub loss: u64,
    /// How many come twice.
    pub duplicate: u64,
    /// How many come very late: up to twenty times the greatest delay.
    pub late: u64,
}

impl Weather {
    /// After the faults have ended.
    pub const FAIR: Self = Self { delay: (1, 10), loss: 0, duplicate: 0, late: 0 };
}

/// When a machine crashes, seen from its next write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The write is lost.
    Before,
    /// The write is durable; nothing behind it has happened.
    During,
    /// The write is durable, and the first message behind it reached some of its receivers.
    After,
}

/// One thing that goes wrong, or right again.
#[derive(Clone, Debug)]
pub enum Fault {
    /// A machine crashes and starts again after so many milliseconds.
    Crash(usize, u64),
    /// The machine crashes around its next write, and starts again.
    CrashAtWrite(usize, Phase, u64),
    /// All machines crash at once and start again within so many milliseconds.
    CrashAll(u64),
    /// A machine stands still for so many milliseconds; messages to it wait.
    Pause(usize, u64),
    /// These ordered pairs cannot talk; replaces the last partition.
    Partition(&'static str, Vec<(usize, usize)>),
    /// All pairs can talk.
    Mend,
    /// Messages to and from a machine wait.
    Clog(usize),
    /// They go on.
    Unclog(usize),
    /// Whether transactions wait at a machine.
    Waiting(usize, bool),
    /// A copy of a machine's disk is taken.
    Copy(usize),
    /// The machine crashes and starts from that copy.
    Restore(usize),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Crash(at, down) => write!(f, "crash {at}, restart after {down} ms"),
            Self::CrashAtWrite(at, phase, down) => {
                write!(f, "crash {at} {} its next write, restart after {down} ms", format!("{phase:?}").to_lowercase())
            }
            Self::CrashAll(down) => write!(f, "crash all, restart within {down} ms"),
            Self::Pause(at, length) => write!(f, "pause {at} for {length} ms"),
            Self::Partition(shape, cut) => {
                let pairs: Vec<_> = cut.iter().map(|(from, to)| format!("{from}>{to}")).collect();
                write!(f, "partition {shape}: {}", pairs.join(" "))
            }
            Self::Mend => f.write_str("mend the partition"),
            Self::Clog(at) => write!(f, "clog {at}"),
            Self::Unclog(at) => write!(f, "unclog {at}"),
            Self::Waiting(at, true) => write!(f, "transactions wait at {at}"),
            Self::Waiting(at, false) => write!(f, "no transaction waits at {at}"),
            Self::Copy(at) => write!(f, "copy the disk of {at}"),
            Self::Restore(at) => write!(f, "crash {at}, restart from the copy"),
        }
    }
}

/// What a machine is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// Runs the core and may crash.
    Honest,
    /// One of two honest machines with one key.
    Twin,
    /// Follows a script.
    Scripted(Habits),
    /// Never starts.
    Dead,
    /// Honest until the faults end, then dead.
    Doomed,
}

/// One machine.
#[derive(Clone, Debug)]
pub struct Place {
    /// The validator whose key it has.
    pub validator: u16,
    /// What it is.
    pub role: Role,
    /// Its clock is ahead by so many milliseconds.
    pub skew: i64,
    /// Its timers take so many percent of their time.
    pub pace: u64,
}

/// The plan.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many validators.
    pub validators: u16,
    /// Weight of each validator, by its index.
    pub weights: Vec<u64>,
    /// The machines, first one per validator, then the second ones of twins.
    pub places: Vec<Place>,
    /// Blocks in an epoch.
    pub epoch_blocks: u64,
    /// Settings of the pacemaker, in milliseconds: idle interval, view base, floor, cap.
    pub pacing: [u64; 4],
    /// Least and greatest time of a write, ms.
    pub write: (u64, u64),
    /// Least and greatest time to execute a block, ms.
    pub execute: (u64, u64),
    /// Messages while faults last.
    pub weather: Weather,
    /// What goes wrong, by time.
    pub faults: Vec<(u64, Fault)>,
    /// When faults end.
    pub heal_at: u64,
    /// Signatures are real.
    pub real: bool,
    /// Whether the network must go on after the faults.
    pub live: bool,
}

/// Which kinds of faults a run has.
#[derive(Clone, Copy, Debug, Default)]
struct Mix {
    loss: bool,
    delay: bool,
    partitions: u64,
    clogs: bool,
    crashes: u64,
    at_write: u64,
    all_at_once: bool,
    pauses: u64,
    skew: bool,
    short_epochs: bool,
    restore: bool,
    twins: usize,
    scripted: usize,
}

impl Mix {
    fn draw(scenario: Scenario, spare: usize, faulty: usize, dice: &mut Dice) -> Self {
        let none = Self::default();
        let mut mix = match scenario {
            Scenario::Calm
            | Scenario::Halves
            | Scenario::Minority
            | Scenario::Ring
            | Scenario::Bridge
            | Scenario::OneWay
            | Scenario::Cascade
            | Scenario::Flapping => return none,
            Scenario::Mixed | Scenario::Ledger => Self::swarm(spare, dice),
            Scenario::Loss => Self { loss: true, delay: true, ..none },
            Scenario::Partitions => Self { partitions: 4, clogs: dice.percent(40), loss: dice.percent(30), ..none },
            Scenario::Crashes => {
                let (crashes, at_write) = (dice.between(1, 5), dice.between(2, 10));
                Self { crashes, at_write, all_at_once: dice.percent(30), loss: dice.percent(60), pauses: 1, ..none }
            }
            Scenario::Epochs => Self {
                short_epochs: true,
                loss: true,
                at_write: dice.between(0, 4),
                all_at_once: dice.percent(30),
                ..none
            },
            Scenario::Restore => Self { restore: spare > 0, loss: dice.percent(40), crashes: 1, ..none },
            Scenario::Twins => {
                Self { twins: spare, partitions: 6, loss: dice.percent(40), at_write: dice.between(0, 2), ..none }
            }
            Scenario::Leaders => Self {
                scripted: spare,
                loss: dice.percent(50),
                delay: dice.percent(50),
                at_write: dice.between(0, 3),
                partitions: dice.between(0, 2),
                ..none
            },
            Scenario::Revotes => Self { scripted: spare, at_write: 16, delay: true, ..none },
            Scenario::Stale => Self { scripted: spare, loss: true, at_write: dice.between(0, 3), pauses: 2, ..none },
            Scenario::ForkingTwins => Self { twins: faulty + 1, ..none },
            Scenario::ForkingLeaders => Self { scripted: faulty + 1, ..none },
        };
        mix.skew = !scenario.must_fork() && dice.percent(50);
        mix.short_epochs |= dice.percent(15);
        mix
    }

    fn swarm(spare: usize, dice: &mut Dice) -> Self {
        let mut some = |most: u64| if dice.percent(50) { dice.between(1, most) } else { 0 };
        let (partitions, crashes, at_write, pauses) = (some(4), some(4), some(6), some(3));
        let mut mix = Self { partitions, crashes, at_write, pauses, ..Self::default() };
        mix.loss = dice.percent(50);
        mix.delay = dice.percent(40);
        mix.clogs = dice.percent(20);
        mix.all_at_once = dice.percent(20);
        match dice.below(4) {
            0 => mix.twins = spare,
            1 => mix.scripted = spare,
            2 => mix.restore = spare > 0 && dice.percent(40),
            _ => {}
        }
        mix
    }
}

impl Plan {
    /// The plan of a run.
    pub fn draw(options: &Options) -> Self {
        let mut dice = Dice::new(options.seed, 1);
        let validators = options.validators;
        let faulty = usize::from(validators - 1) / 3;
        let spare = faulty - usize::from(options.dead.is_some()).min(faulty);
        let mix = Mix::draw(options.scenario, spare, faulty, &mut dice);
        let places = places(options, &mix, &mut dice);
        let (low, high) = if mix.short_epochs { (1, 3) } else { (4, 7) };
        let weather = Weather {
            delay: if mix.delay { (1, dice.between(20, 80)) } else { (1, dice.between(2, 15)) },
            loss: if mix.loss {
                dice.between(if options.scenario == Scenario::Stale { 150 } else { 10 }, 300)
            } else {
                0
            },
            duplicate: if mix.loss { dice.between(0, 200) } else { 0 },
            late: if mix.delay { dice.between(10, 150) } else { 0 },
        };
        let base = dice.between(80, 250);
        let mut plan = Self {
            validators,
            weights: vec![1; usize::from(validators)],
            epoch_blocks: dice.between(low, high),
            pacing: [dice.between(100, 600), base, dice.between(60, base), dice.between(1_000, 3_000)],
            write: (0, dice.between(0, 6)),
            execute: (0, dice.between(0, 8)),
            weather,
            faults: Vec::new(),
            heal_at: match options.scenario {
                Scenario::Calm => 300,
                scenario if scenario.must_fork() => 30_000,
                _ => dice.between(1_000, 3_000),
            },
            real: options.seed % 50 == 17,
            live: !options.scenario.must_fork(),
            places,
        };
        plan.draw_faults(&mix, options.scenario, &mut dice);
        if let Some((faults, end)) = shape::faults(options.scenario, plan.places.len(), &mut Dice::new(options.seed, 4))
        {
            plan.faults.extend(faults);
            plan.heal_at = end;
        } else if plan.live {
            plan.draw_weights(&mut Dice::new(options.seed, 3));
        }
        plan
    }

    /// In some runs the validators are of unequal weight, as far as the others outweigh the faulty ones.
    fn draw_weights(&mut self, dice: &mut Dice) {
        if !dice.percent(WEIGHTED_PERCENT) {
            return;
        }
        let faulty = self.faulty();
        for _ in 0..WEIGHTS_TRIED {
            let weights: Vec<_> = (0..self.validators).map(|_| dice.between(1, WEIGHT_MAX)).collect();
            let bad: u64 = faulty.iter().map(|index| weights[usize::from(*index)]).sum();
            if bad * 3 < weights.iter().sum() {
                self.weights = weights;
                return;
            }
        }
    }

    /// The validators that are not honest all the time, or silent for long.
    pub fn faulty(&self) -> BTreeSet<u16> {
        let restored = self.faults.iter().filter_map(|(_, fault)| match fault {
            Fault::Restore(at) => Some(*at),
            _ => None,
        });
        let at = (0..self.places.len()).filter(|at| self.places[*at].role != Role::Honest);
        at.chain(restored).map(|at| self.places[at].validator).collect()
    }

    /// Whether all validators have the same weight.
    pub fn is_even(&self) -> bool {
        self.weights.iter().all(|weight| *weight == self.weights[0])
    }

    fn draw_faults(&mut self, mix: &Mix, scenario: Scenario, dice: &mut Dice) {
        let (end, all) = (self.heal_at, self.places.len());
        for at in 0..all {
            let waiting = dice.percent(70);
            self.faults.push((0, Fault::Waiting(at, waiting)));
            if dice.percent(30) {
                self.faults.push((dice.between(0, end), Fault::Waiting(at, !waiting)));
            }
        }
        if scenario.must_fork() {
            self.faults.push((0, self.fatal_partition()));
        }
        for _ in 0..mix.partitions {
            let begin = dice.between(0, end);
            self.faults.push((begin, self.partition(dice)));
            self.faults.push((begin + dice.between(100, 1_200), Fault::Mend));
        }
        if mix.clogs {
            self.swizzle(dice);
        }
        for _ in 0..mix.crashes {
            self.faults.push((dice.between(0, end), Fault::Crash(dice.below(all), dice.between(0, 600))));
        }
        for _ in 0..mix.at_write {
            let phase = *dice.pick(&[Phase::Before, Phase::During, Phase::After, Phase::After]);
            let down = if dice.percent(60) { dice.between(0, 20) } else { dice.between(20, 600) };
            self.faults.push((dice.between(0, end), Fault::CrashAtWrite(dice.below(all), phase, down)));
        }
        if mix.all_at_once {
            self.faults.push((dice.between(0, end), Fault::CrashAll(dice.between(0, 300))));
        }
        for _ in 0..mix.pauses {
            self.faults.push((dice.between(0, end), Fault::Pause(dice.below(all), dice.between(50, 800))));
        }
        if mix.restore {
            let honest: Vec<_> = (0..all).filter(|at| self.places[*at].role == Role::Honest).collect();
            let at = *dice.pick(&honest);
            let copied = dice.between(50, end / 2);
            self.faults.push((copied, Fault::Copy(at)));
            self.faults.push((copied + dice.between(1, end / 2 - 25), Fault::Restore(at)));
        }
        self.faults.sort_by_key(|(at, _)| *at);
    }

    /// Clogs a random part of the machines one by one, and opens them in another order.
    fn swizzle(&mut self, dice: &mut Dice) {
        let all = dice.shuffled((0..self.places.len()).collect());
        let some = dice.between(1, all.len() as u64) as usize;
        let (mut at, step) = (dice.between(0, self.heal_at / 2), dice.between(20, 300));
        for place in &all[..some] {
            self.faults.push((at, Fault::Clog(*place)));
            at += dice.between(1, step);
        }
        for place in dice.shuffled(all[..some].to_vec()) {
            self.faults.push((at, Fault::Unclog(place)));
            at += dice.between(1, step);
        }
    }

    fn partition(&self, dice: &mut Dice) -> Fault {
        let all = self.places.len();
        let side: Vec<bool> = (0..all).map(|_| dice.percent(50)).collect();
        let one = dice.below(all);
        let ring = dice.shuffled((0..all).collect());
        let next_to = |a: usize, b: usize| {
            let place = |x: usize| ring.iter().position(|y| *y == x).unwrap_or(0);
            let apart = place(a).abs_diff(place(b));
            apart <= 1 || apart == all - 1
        };
        let shape = *dice.pick(&["halves", "halves", "one-way", "ring", "single", "scattered"]);
        let mut cut = Vec::new();
        for (a, b) in (0..all).flat_map(|a| (0..all).map(move |b| (a, b))).filter(|(a, b)| a != b) {
            let is_cut = match shape {
                "halves" => side[a] != side[b],
                "one-way" => side[a] && !side[b],
                "ring" => !next_to(a, b),
                "single" => a == one || b == one,
                _ => dice.percent(40),
            };
            if is_cut {
                cut.push((a, b));
            }
        }
        Fault::Partition(shape, cut)
    }

    /// Which side of the fatal partition each machine is on: the honest fall into halves, first twins are with one, second
    /// ones with the other, scripted ones with both.
    pub fn sides(&self) -> Vec<Option<bool>> {
        let mut honest = 0;
        let mut sides = Vec::new();
        for (at, place) in self.places.iter().enumerate() {
            sides.push(match place.role {
                Role::Twin => Some(at >= usize::from(self.validators)),
                Role::Honest => {
                    honest += 1;
                    Some(honest % 2 == 0)
                }
                _ => None,
            });
        }
        sides
    }

    /// Whether a machine shares its key with another one.
    pub fn is_twin(&self, at: usize) -> bool {
        self.places[at].role == Role::Twin
    }

    fn fatal_partition(&self) -> Fault {
        let (side, all) = (self.sides(), self.places.len());
        let pairs = (0..all).flat_map(|a| (0..all).map(move |b| (a, b)));
        let apart = |(a, b): &(usize, usize)| side[*a].is_some() && side[*b].is_some() && side[*a] != side[*b];
        Fault::Partition("fatal", pairs.filter(apart).collect())
    }

    /// The plan as lines for people: settings, roles, then faults by their time.
    pub fn describe(&self) -> String {
        let mut text = format!(
            "{} validators, epochs of {} blocks, idle/base/floor/cap {:?} ms, signatures {}\n",
            self.validators,
            self.epoch_blocks,
            self.pacing,
            if self.real { "real" } else { "ideal" },
        );
        text.push_str(&format!("write {:?} ms, execute {:?} ms, {:?}\n", self.write, self.execute, self.weather));
        for (at, place) in self.places.iter().enumerate() {
            let Place { validator, role, skew, pace } = place;
            let weight = self.weights[usize::from(*validator)];
            text.push_str(&format!(
                "machine {at}: validator {validator} of weight {weight}, {role}, clock {skew:+} ms, timers {pace} %\n",
            ));
        }
        for (at, fault) in &self.faults {
            text.push_str(&format!("{at:>6} ms  {fault}\n"));
        }
        text.push_str(&format!("{:>6} ms  all faults end\n", self.heal_at));
        text
    }
}

fn places(options: &Options, mix: &Mix, dice: &mut Dice) -> Vec<Place> {
    let rest = (0..options.validators).filter(|index| Some(*index) != options.dead).collect();
    let rest = dice.shuffled(rest);
    let twins = &rest[..mix.twins.min(rest.len())];
    let scripted = &rest[twins.len()..(twins.len() + mix.scripted).min(rest.len())];
    let mut places = Vec::new();
    for validator in (0..options.validators).chain(twins.iter().copied()) {
        let role = if Some(validator) == options.dead {
            if options.seed.is_multiple_of(2) { Role::Dead } else { Role::Doomed }
        } else if twins.contains(&validator) {
            Role::Twin
        } else if scripted.contains(&validator) {
            Role::Scripted(Habits::draw(options.scenario, dice))
        } else {
            Role::Honest
        };
        let skew = if mix.skew { dice.between(0, 8_000) as i64 - 4_000 } else { 0 };
        let pace = if mix.skew { dice.between(100, 120) } else { 100 };
        places.push(Place { validator, role, skew, pace });
    }
    places
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Honest => f.write_str("honest"),
            Self::Twin => f.write_str("twin"),
            Self::Scripted(habits) => write!(f, "scripted ({habits})"),
            Self::Dead => f.write_str("dead"),
            Self::Doomed => f.write_str("honest, dies when the faults end"),
        }
    }
}

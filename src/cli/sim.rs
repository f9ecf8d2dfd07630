//! `trullo sim`: the consensus under a seeded scheduler of faults.

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::context::{Context, block_on};
use super::errors::{CliError, Exit};
use crate::sim::{self, Options, Outcome, Scenario};

const EXAMPLES: &str = "Examples:
  trullo sim --seed 42
  trullo sim --seed 42 --validators 7 --scenario crashes --trace
  trullo sim --seeds 0..2000 --validators 4 --dead 2
  trullo sim --seeds 0..100 --scenario forking-twins --json

One seed prints its schedule and the checker's verdict; the same seed gives the same run, event by event. A range ends with
exit 1 at the first verdict that the scenario does not demand, and says its seed.";

/// Arguments of `sim`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = EXAMPLES, group = clap::ArgGroup::new("which").required(true))]
pub struct Args {
    /// Run this seed
    #[arg(long, value_name = "N", group = "which")]
    seed: Option<u64>,
    /// Run the seeds FROM..TO, without TO
    #[arg(long, value_name = "FROM..TO", group = "which", value_parser = parse_seeds)]
    seeds: Option<Seeds>,
    /// How many validators
    #[arg(long, value_name = "N", default_value_t = sim::VALIDATORS_MIN)]
    validators: u16,
    /// Which faults: mixed, ledger, calm, loss, partitions, crashes, epochs, restore, twins, leaders, revotes, stale,
    /// forking-twins, forking-leaders, halves, minority, ring, bridge, one-way, cascade, flapping
    #[arg(long, value_name = "NAME", default_value = "mixed")]
    scenario: Scenario,
    /// The validator at this position is dead
    #[arg(long, value_name = "POSITION")]
    dead: Option<u16>,
    /// Print a line for every event
    #[arg(long, requires = "seed")]
    trace: bool,
}

/// A range of seeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seeds {
    from: u64,
    to: u64,
}

fn parse_seeds(text: &str) -> Result<Seeds, String> {
    let (from, to) = text.split_once("..").ok_or("write FROM..TO, e.g. 0..2000")?;
    let number = |text: &str| text.parse::<u64>().map_err(|_| format!("{text:?} is no seed"));
    let seeds = Seeds { from: number(from)?, to: number(to)? };
    if seeds.from < seeds.to { Ok(seeds) } else { Err("the range is empty".to_owned()) }
}

#[derive(Serialize)]
struct RunView {
    seed: u64,
    verdict: String,
    expected: bool,
    heights: u64,
    views: u64,
    evidence: u64,
    events: u64,
    milliseconds: u64,
    trace_hash: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    schedule: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    trace: Vec<String>,
    command: String,
}

#[derive(Serialize)]
struct RangeView {
    runs: u64,
    failed_seed: Option<u64>,
    heights: u64,
    events: u64,
    seconds: f64,
}

/// Runs one seed or a range.
pub fn run(context: &Context, args: &Args) -> Result<()> {
    let seed = args.seed.or(args.seeds.map(|seeds| seeds.from)).unwrap_or_default();
    let mut options = Options::new(seed).validators(args.validators).scenario(args.scenario).dead(args.dead);
    options.trace = args.trace;
    options.check().map_err(|error| CliError::new(Exit::Usage, error.to_string()))?;
    match args.seeds {
        None => one(context, &options),
        Some(seeds) => range(context, options, seeds),
    }
}

fn one(context: &Context, options: &Options) -> Result<()> {
    let outcome = simulate(options.clone())?;
    let view = view(options.seed, &outcome, options);
    let text = || {
        let trace: String = outcome.trace.iter().map(|line| format!("{line}\n")).collect();
        format!("{}\n{trace}{}\n", outcome.schedule.trim_end(), verdict(options.seed, &outcome))
    };
    context.out.result(&view, text)?;
    expected(options.seed, &outcome, options)
}

fn simulate(options: Options) -> Result<Outcome> {
    let outcome = block_on("nothing was changed", async {
        let run = tokio::task::spawn_blocking(move || sim::run(&options));
        run.await.context("the simulation ended badly")
    })?;
    outcome.map_err(|error| CliError::new(Exit::Usage, error.to_string()).into())
}

fn range(context: &Context, options: Options, seeds: Seeds) -> Result<()> {
    let started = std::time::Instant::now();
    let out = context.out;
    let (mut runs, mut heights, mut events) = (0, 0, 0);
    let total = seeds.to - seeds.from;
    let given = options.clone();
    let work = move || {
        let failed = sim::run_range(&options, seeds.from..seeds.to, |seed, outcome| {
            runs += 1;
            heights += outcome.heights;
            events += outcome.events;
            if runs % 100 == 0 {
                out.say(format!("{runs} of {total} runs, seed {seed}"));
            }
        });
        (failed, runs, heights, events)
    };
    let done = block_on("nothing was changed", async {
        tokio::task::spawn_blocking(work).await.context("the simulation ended badly")
    })?;
    let (failed, runs, heights, events) = done;
    let failed = failed.map_err(|error| CliError::new(Exit::Usage, error.to_string()))?;
    if let Some((seed, outcome)) = &failed {
        let options = Options { seed: *seed, ..given.clone() };
        context.out.line("item", &view(*seed, outcome, &options), || Some(verdict(*seed, outcome)))?;
    }
    let seconds = started.elapsed().as_secs_f64();
    let view = RangeView { runs, failed_seed: failed.as_ref().map(|(seed, _)| *seed), heights, events, seconds };
    let text = || Some(format!("{runs} runs, {heights} heights, {events} events in {seconds:.1} s"));
    context.out.line("summary", &view, text)?;
    match failed {
        Some((seed, outcome)) => expected(seed, &outcome, &Options { seed, ..given }),
        None => Ok(()),
    }
}

fn view(seed: u64, outcome: &Outcome, options: &Options) -> RunView {
    RunView {
        seed,
        verdict: outcome.verdict.to_string(),
        expected: outcome.is_expected,
        heights: outcome.heights,
        views: outcome.views,
        evidence: outcome.evidence,
        events: outcome.events,
        milliseconds: outcome.millis,
        trace_hash: outcome.trace_hash.clone(),
        schedule: outcome.schedule.clone(),
        trace: outcome.trace.clone(),
        command: options.command(),
    }
}

fn verdict(seed: u64, outcome: &Outcome) -> String {
    let Outcome { heights, views, evidence, events, millis, .. } = outcome;
    let expected = if outcome.is_expected { "as the scenario demands" } else { "NOT what the scenario demands" };
    format!(
        "seed {seed}: {} ({expected}); {heights} heights, {views} views after the faults, {evidence} evidence, \
         {events} events, {millis} ms, trace {}",
        outcome.verdict, outcome.trace_hash
    )
}

fn expected(seed: u64, outcome: &Outcome, options: &Options) -> Result<()> {
    if outcome.is_expected {
        return Ok(());
    }
    let error = CliError::new(Exit::Other, format!("seed {seed}: {}", outcome.verdict));
    Err(error.hint(format!("repeat it with: {} --trace", options.command())).into())
}

//! The simulator: correct networks are clean, and whatever is broken is found.
//!
//! A failing seed is printed with the command that repeats it. Full ranges run by `trullo sim --seeds A..B`.

use std::ops::Range;

use trullo::sim::{Mark, Options, Outcome, Scenario, run, run_range};

/// Runs the seeds and fails with the first that is not as its scenario demands.
fn check(options: &Options, seeds: Range<u64>) {
    let failed = run_range(options, seeds, |_, _| {}).expect("options of a run that exists");
    if let Some((seed, outcome)) = failed {
        let command = Options { seed, ..options.clone() }.command();
        panic!("repeat with: {command}\n{}", outcome.schedule);
    }
}

#[test]
fn four_validators_are_clean_with_any_one_dead_and_with_none() {
    check(&Options::new(0), 0..40);
    for position in 0..4 {
        check(&Options::new(0).dead(Some(position)), 0..20);
    }
}

#[test]
fn seven_validators_are_clean_with_any_one_dead_and_with_none() {
    check(&Options::new(0).validators(7), 0..12);
    for position in 0..7 {
        check(&Options::new(0).validators(7).dead(Some(position)), 0..4);
    }
}

#[test]
fn every_scenario_comes_out_as_it_must() {
    for scenario in Scenario::ALL {
        check(&Options::new(0).scenario(*scenario), 100..110);
    }
}

#[test]
fn the_real_ledger_is_clean_with_any_one_dead_and_with_none() {
    let ledger = Options::new(0).scenario(Scenario::Ledger);
    check(&ledger, 0..40);
    for position in 0..4 {
        check(&ledger.clone().dead(Some(position)), 40..48);
    }
    check(&ledger.validators(7), 0..8);
}

#[test]
fn transactions_become_final_under_faults() {
    let mut transactions = Vec::new();
    let failed = run_range(&Options::new(0).scenario(Scenario::Ledger), 50..60, |_, outcome| {
        transactions.push(outcome.transactions);
    });
    assert_eq!(failed.expect("options of a run that exists"), None);
    assert!(transactions.iter().all(|count| *count > 0), "{transactions:?}");
}

#[test]
fn storage_nodes_prove_miss_lose_and_take_over_under_faults() {
    let mut seen = [0; 3];
    let failed = run_range(&Options::new(0).scenario(Scenario::Ledger), 60..100, |_, outcome| {
        let line = outcome.schedule.lines().find(|line| line.starts_with("audits: "));
        let numbers =
            line.into_iter().flat_map(|line| line.split_whitespace().filter_map(|word| word.parse::<u64>().ok()));
        seen.iter_mut().zip(numbers).for_each(|(sum, number)| *sum += number);
    });
    assert_eq!(failed.expect("options of a run that exists"), None);
    assert!(seen.iter().all(|sum| *sum > 0), "passed, failed, taken over: {seen:?}");
}

#[test]
fn validators_leave_come_back_and_grow_under_faults() {
    let mut changes = Vec::new();
    let failed = run_range(&Options::new(0).scenario(Scenario::Ledger), 100..130, |_, outcome| {
        let line = outcome.schedule.lines().find_map(|line| line.strip_prefix("validators: "));
        let count = line.and_then(|line| line.split(' ').next()).and_then(|count| count.parse::<u64>().ok());
        changes.extend(count);
    });
    assert_eq!(failed.expect("options of a run that exists"), None);
    assert!(changes.iter().filter(|count| **count >= 3).count() >= 3, "changes of the set, by run: {changes:?}");
}

#[test]
fn some_runs_have_validators_of_unequal_weight() {
    let weighted = |seed| {
        let outcome = run(&Options::new(seed)).expect("a run that exists");
        outcome.schedule.lines().any(|line| line.contains("of weight ") && !line.contains("of weight 1,"))
    };
    assert!((0..20).any(weighted) && !(0..20).all(weighted));
}

/// With one of four dead all others must cast the commit vote; one of them holds transactions that the leaders do not have.
#[test]
fn whoever_is_always_the_first_to_give_up_learns_to_wait() {
    check(&Options::new(0).dead(Some(1)), 30_010..30_011);
}

#[test]
fn one_validator_too_many_with_a_twin_or_a_script_makes_a_fork_that_is_reported() {
    for scenario in [Scenario::ForkingTwins, Scenario::ForkingLeaders] {
        for validators in [4, 7] {
            check(&Options::new(0).validators(validators).scenario(scenario), 0..5);
        }
    }
}

#[test]
fn twins_and_scripts_are_caught_and_their_deeds_do_no_harm() {
    for scenario in [Scenario::Twins, Scenario::Leaders, Scenario::Revotes] {
        let mut evidence = 0;
        let options = Options::new(0).validators(7).scenario(scenario);
        let failed = run_range(&options, 0..6, |_, outcome| evidence += outcome.evidence);
        assert_eq!(failed.expect("options of a run that exists"), None);
        assert!(evidence > 0, "no evidence in {scenario}");
    }
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_seed_another_one() {
    for scenario in [Scenario::Mixed, Scenario::Leaders, Scenario::Twins, Scenario::Ledger] {
        let one = |seed| run(&Options { seed, trace: true, ..Options::new(0).scenario(scenario) });
        let first = one(7).expect("a run that exists");
        assert_eq!(Ok(first.clone()), one(7));
        assert_ne!(Ok(first.trace_hash), one(8).map(|outcome| outcome.trace_hash));
    }
}

#[test]
fn a_run_with_real_signatures_is_clean() {
    let seed = 17;
    let outcome = run(&Options::new(seed)).expect("a run that exists");
    assert!(outcome.schedule.contains("signatures real"));
    assert!(outcome.is_expected, "{}", outcome.schedule);
}

#[test]
fn a_schedule_tells_settings_faults_and_verdict() {
    let outcome = run(&Options::new(3).scenario(Scenario::Crashes)).expect("a run that exists");
    let lines: Vec<_> = outcome.schedule.lines().collect();
    assert!(lines[0].starts_with("4 validators, epochs of "));
    assert!(lines.iter().any(|line| line.contains("ms  crash ")), "{}", outcome.schedule);
    assert_eq!(lines.last(), Some(&"clean"));
}

/// Heights of the sides from one mark to the next: who is in reach of a quorum, and who is not.
fn spans(outcome: &Outcome) -> impl Iterator<Item = (&Mark, Vec<(usize, u64)>)> {
    outcome.marks.windows(2).map(|pair| {
        let grown = pair[0].heights.iter().zip(&pair[1].heights).map(|(before, after)| after - before);
        (&pair[0], grown.enumerate().collect())
    })
}

/// Runs a shape of partition. Whatever the sides did, every machine has a new block within two views of the longest kind.
fn shape(scenario: Scenario, validators: u16, seeds: Range<u64>, mut each: impl FnMut(&Outcome)) {
    let options = Options::new(0).scenario(scenario).validators(validators);
    let failed = run_range(&options, seeds, |seed, outcome| {
        let command = Options { seed, ..options.clone() }.command();
        let recovered = outcome.recovered.unwrap_or(u64::MAX);
        assert!(recovered <= 2 * outcome.view_cap, "{recovered} ms, cap {}: {command}", outcome.view_cap);
        each(outcome);
    });
    if let Some((seed, outcome)) = failed.expect("options of a run that exists") {
        panic!("repeat with: {}\n{}", Options { seed, ..options.clone() }.command(), outcome.schedule);
    }
}

#[test]
fn no_half_makes_anything_final_and_both_go_on_when_the_links_are_back() {
    for validators in [4, 5, 7] {
        shape(Scenario::Halves, validators, 0..15, |outcome| {
            for (mark, grown) in spans(outcome).filter(|(mark, _)| mark.what == "halves") {
                // What was on its way when the links were cut may still arrive.
                assert!(grown.iter().all(|(_, grown)| *grown <= 2), "{mark:?} {grown:?}");
            }
        });
    }
}

#[test]
fn a_majority_goes_on_without_a_minority_which_stands_still() {
    for validators in [4, 5, 7] {
        shape(Scenario::Minority, validators, 0..12, |outcome| {
            for (mark, grown) in spans(outcome).filter(|(mark, _)| mark.what == "minority") {
                for (at, grown) in grown {
                    assert_eq!(mark.gone.contains(&at), grown <= 2, "machine {at} got {grown} blocks: {mark:?}");
                }
            }
        });
    }
}

#[test]
fn a_cascade_is_survived_down_to_the_quorum_and_back_from_below_it() {
    shape(Scenario::Cascade, 7, 0..12, |outcome| {
        let steps: Vec<_> = spans(outcome).filter(|(mark, _)| mark.what == "cascade").collect();
        assert_eq!(steps.iter().map(|(mark, _)| mark.gone.len()).collect::<Vec<_>>(), [1, 2, 7, 2]);
        for (mark, grown) in steps {
            for (at, grown) in grown {
                assert_eq!(mark.gone.contains(&at), grown <= 2, "machine {at} got {grown} blocks: {mark:?}");
            }
        }
    });
}

#[test]
fn rings_bridges_one_way_links_and_links_that_flap_leave_every_node_able_to_go_on() {
    for scenario in [Scenario::Ring, Scenario::Bridge, Scenario::OneWay, Scenario::Flapping] {
        for validators in [4, 5, 7] {
            shape(scenario, validators, 0..6, |outcome| assert!(outcome.heights > 3));
        }
    }
}

/// Every planted bug is found within so many seeds of a scenario that is clean without it.
#[cfg(feature = "planted-bugs")]
mod planted {
    use super::*;
    use trullo::consensus::planted::Bug;
    use trullo::sim::{Failure, LedgerFault};

    /// The first seed that finds the bug, and what was wrong there.
    fn found(bug: Bug, scenario: Scenario, dead: Option<u16>, seeds: u64) -> Failure {
        let clean = Options::new(0).scenario(scenario).dead(dead);
        let options = Options { bug: Some(bug), ..clean.clone() };
        let failed = run_range(&options, 0..seeds, |_, _| {}).expect("options of a run that exists");
        let (seed, outcome) = failed.unwrap_or_else(|| panic!("{bug:?} was not found in {seeds} seeds"));
        check(&clean, seed..seed + 1);
        match outcome.verdict {
            trullo::sim::Verdict::Failed { failure, .. } => failure,
            trullo::sim::Verdict::Clean => panic!("seed {seed} of {bug:?} is both clean and not"),
        }
    }

    #[test]
    fn a_vote_before_its_record_is_found() {
        let failure = found(Bug::VoteBeforePersist, Scenario::Calm, None, 5);
        assert!(matches!(failure, Failure::NotDurable { .. }), "{failure}");
    }

    #[test]
    fn a_commit_vote_after_a_timeout_is_found() {
        let failure = found(Bug::NoCommitGuard, Scenario::Loss, None, 20);
        assert!(matches!(failure, Failure::CommitAfterTimeout { .. }), "{failure}");
    }

    #[test]
    fn a_proposal_below_its_timeout_certificate_is_found() {
        let failure = found(Bug::TcWithoutMaxQc, Scenario::Stale, None, 200);
        assert!(matches!(failure, Failure::NotJustified { .. }), "{failure}");
    }

    #[test]
    fn a_quorum_of_two_thirds_is_found() {
        let failure = found(Bug::QuorumTwoF, Scenario::Calm, None, 5);
        assert!(matches!(failure, Failure::NotCertified { .. } | Failure::Fork { .. }), "{failure}");
    }

    #[test]
    fn a_forgotten_timeout_is_found() {
        let failure = found(Bug::LastTimeoutForgotten, Scenario::Crashes, None, 100);
        assert!(matches!(failure, Failure::CommitAfterTimeout { .. }), "{failure}");
    }

    #[test]
    fn a_forgotten_vote_is_found() {
        let failure = found(Bug::LastVoteForgotten, Scenario::Revotes, None, 100);
        assert!(matches!(failure, Failure::Contradiction { .. }), "{failure}");
    }

    #[test]
    fn a_forgotten_certificate_is_found() {
        let failure = found(Bug::HighQcForgotten, Scenario::Crashes, None, 50);
        assert!(matches!(failure, Failure::LowTimeout { .. }), "{failure}");
    }

    #[test]
    fn a_view_without_its_certificate_is_found() {
        let failure = found(Bug::BareView, Scenario::Crashes, None, 50);
        assert!(matches!(failure, Failure::BareView { .. }), "{failure}");
    }

    #[test]
    fn blocks_that_are_never_fetched_are_found() {
        let failure = found(Bug::NoBlockFetch, Scenario::Loss, Some(1), 20);
        assert!(matches!(failure, Failure::Stall { .. } | Failure::Slow { .. }), "{failure}");
    }

    #[test]
    fn an_epoch_end_without_tails_is_found() {
        let failure = found(Bug::NoTails, Scenario::Epochs, None, 50);
        assert!(matches!(failure, Failure::Stall { .. } | Failure::Slow { .. }), "{failure}");
    }

    #[test]
    fn a_parent_that_is_not_the_justified_block_is_found() {
        let failure = found(Bug::ParentNotTied, Scenario::Leaders, None, 300);
        assert!(matches!(failure, Failure::NotJustified { .. } | Failure::Orphan { .. }), "{failure}");
    }

    #[test]
    fn a_height_that_is_not_the_next_is_found() {
        let failure = found(Bug::NoHeightCheck, Scenario::Leaders, None, 100);
        assert!(matches!(failure, Failure::NotJustified { .. } | Failure::Gap { .. }), "{failure}");
    }

    #[test]
    fn a_view_joined_before_its_certificates_is_found() {
        let failure = found(Bug::SloppyJoin, Scenario::Loss, None, 50);
        assert!(matches!(failure, Failure::CommitAfterTimeout { .. }), "{failure}");
    }

    #[test]
    fn a_restored_record_that_signs_at_once_is_found() {
        let options = Options { restore_signs: true, ..Options::new(0).scenario(Scenario::Restore) };
        let failed = run_range(&options, 0..100, |_, _| {}).expect("options of a run that exists");
        assert!(failed.is_some(), "an old record signed, and nothing was found");
    }

    /// The first seed whose ledger shows the fault, and what was wrong there.
    fn found_in_ledger(fault: LedgerFault, seeds: u64) -> Failure {
        let clean = Options::new(0).scenario(Scenario::Ledger);
        let options = Options { ledger_fault: Some(fault), ..clean.clone() };
        let failed = run_range(&options, 0..seeds, |_, _| {}).expect("options of a run that exists");
        let (seed, outcome) = failed.unwrap_or_else(|| panic!("{fault:?} was not found in {seeds} seeds"));
        check(&clean, seed..seed + 1);
        match outcome.verdict {
            trullo::sim::Verdict::Failed { failure, .. } => failure,
            trullo::sim::Verdict::Clean => panic!("seed {seed} of {fault:?} is both clean and not"),
        }
    }

    #[test]
    fn an_effect_that_all_drop_is_found() {
        let failure = found_in_ledger(LedgerFault::LostCredit, 5);
        assert!(matches!(failure, Failure::State { .. }), "{failure}");
    }

    #[test]
    fn a_nonce_that_all_forget_is_found() {
        let failure = found_in_ledger(LedgerFault::NonceForgotten, 5);
        assert!(matches!(failure, Failure::State { .. } | Failure::Twice { .. }), "{failure}");
    }

    #[test]
    fn a_replica_that_books_a_transaction_twice_is_found() {
        let failure = found_in_ledger(LedgerFault::BookedTwice, 20);
        assert!(matches!(failure, Failure::State { .. }), "{failure}");
    }

    #[test]
    fn a_state_that_is_not_written_whole_is_found() {
        let failure = found_in_ledger(LedgerFault::RecordNotWritten, 20);
        assert!(matches!(failure, Failure::State { .. }), "{failure}");
    }

    #[test]
    fn a_mempool_without_bounds_is_found() {
        let failure = found_in_ledger(LedgerFault::PoolUnbounded, 20);
        assert!(matches!(failure, Failure::Mempool { .. }), "{failure}");
    }
}

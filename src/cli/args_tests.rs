//! Tests of the command line: it is consistent, every command is documented, every example can be typed.

use clap::{CommandFactory, Parser};

use super::*;

/// Examples are to be copied as they are, so that no line of them may be broken.
const COLUMNS: usize = 100;

/// Commands and groups of commands, with the words that lead to them.
fn collect(command: &clap::Command, path: &[String], found: &mut Vec<(String, clap::Command)>) {
    let mut path = path.to_vec();
    path.push(command.get_name().to_owned());
    if path.len() > 1 {
        found.push((path.join(" "), command.clone()));
    }
    command.get_subcommands().for_each(|sub| collect(sub, &path, found));
}

fn all_commands() -> Vec<(String, clap::Command)> {
    let mut found = Vec::new();
    collect(&Cli::command(), &[], &mut found);
    found
}

/// The words of an example's line, without what the shell would take away.
fn words(line: &str) -> Vec<String> {
    let line = line.split(['|', '>', '#']).next().unwrap_or_default();
    line.split_whitespace().map(|word| word.trim_matches('"').to_owned()).filter(|word| word != "<").collect()
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_has_a_help_with_examples_that_can_be_typed() {
    for (path, command) in all_commands() {
        let help = command.get_after_long_help().map(ToString::to_string).unwrap_or_default();
        assert!(help.starts_with("Examples:\n"), "{path} has no examples");
        assert!(command.get_about().is_some(), "{path} does not say what it does");
        let examples = help.lines().skip(1).take_while(|line| line.starts_with("  "));
        for line in examples.clone() {
            assert!(line.chars().count() <= COLUMNS, "{path}: a terminal of {COLUMNS} columns breaks {line}");
        }
        let joined = examples.map(|line| format!("{line}\n")).collect::<String>().replace("\\\n", "");
        let lines = joined.lines();
        let examples: Vec<_> = lines.filter_map(|line| line.find("trullo ").map(|at| &line[at..])).collect();
        assert!(!examples.is_empty(), "{path} has no example");
        for example in examples {
            if let Err(error) = Cli::try_parse_from(words(example)) {
                panic!("{path}: {example}\n{error}");
            }
        }
        let own = examples_of(&help, &path);
        assert!(own, "{path}: no example uses the command itself");
    }
}

/// Whether some example contains the command's own words.
fn examples_of(help: &str, path: &str) -> bool {
    let verb: Vec<_> = path.split(' ').skip(1).collect();
    help.lines().any(|line| {
        let words = words(line);
        words.windows(verb.len()).any(|window| window == verb)
    })
}

#[test]
fn every_argument_says_what_it_is() {
    for (path, command) in all_commands() {
        for argument in command.get_arguments().filter(|argument| !argument.is_global_set()) {
            let documented = argument.get_help().is_some() || ["help", "version"].contains(&argument.get_id().as_str());
            assert!(documented, "{path}: {} has no help", argument.get_id());
        }
    }
}

#[test]
fn global_flags_stand_before_or_after_the_command() {
    let before = Cli::try_parse_from(["trullo", "--home", "/h", "--json", "ledger", "status"]).expect("valid");
    let after = Cli::try_parse_from(["trullo", "ledger", "status", "--json", "--home", "/h"]).expect("valid");
    assert_eq!(before.global.home, after.global.home);
    assert!(before.global.json && after.global.json);
}

#[test]
fn no_flag_takes_a_secret() {
    for (path, command) in all_commands() {
        for argument in command.get_arguments() {
            let name = argument.get_long().unwrap_or_default();
            let secret = name.contains("password") || name.contains("token") || name.contains("key");
            assert!(!secret || name.ends_with("-file"), "{path} takes the secret --{name}");
        }
    }
}

//! Cli: what a person or a script types, and what it prints.
//!
//! Noun, verb. Results to stdout, talk to stderr, `--json` everywhere, exit codes as in `errors::Exit`. Commands that use a
//! node talk HTTP to the running one of `--home`. `anyhow` is used here and nowhere else.
//! Not here: anything that a library user would need.

pub mod args;
pub mod errors;
pub mod output;

mod account;
mod backup;
mod client;
mod config;
mod context;
mod demo;
mod evidence;
mod export;
mod files;
mod get;
mod identity;
mod init;
mod invite;
mod ledger;
mod light;
mod measured;
mod migrate;
mod node;
mod phrase;
mod prune;
mod put;
mod s3;
mod sharing;
mod signing;
mod sim;
mod storage;
mod terms;
mod testnet;
mod tools;
mod tree;
mod user;
mod validator;
mod verify;

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use clap::error::ErrorKind;

use args::{Cli, Command};
use context::Context;
use errors::{CliError, Exit};
use output::Output;

/// Runs a command line and says how the process ends.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(error) => return refuse(&error, args.iter().any(|arg| arg == "--json")),
    };
    let global = cli.global;
    let out = Output::new(global.json, global.quiet, global.verbose > 0);
    let home = global.home.unwrap_or_else(context::default_home);
    let context = Context { home, out, sets: global.sets };
    match dispatch(&context, cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let error = CliError::of(&error);
            out.error(&error);
            ExitCode::from(error.code as u8)
        }
    }
}

fn dispatch(context: &Context, command: Command) -> Result<()> {
    let takes_settings = matches!(command, Command::Init(_) | Command::Node(_) | Command::Config(_));
    if !takes_settings && !context.sets.is_empty() {
        let error =
            CliError::new(Exit::Usage, "--set is for init, node run and config; a running node keeps its own settings");
        return Err(error.hint("give the command's own flags, or change config.toml and start the node again").into());
    }
    match command {
        Command::Init(args) => init::run(context, &args),
        Command::Node(verb) => node::run(context, &verb),
        Command::Testnet(verb) => testnet::run(context, &verb),
        Command::Put(args) => put::run(context, &args),
        Command::Get(args) => get::run(context, &args),
        Command::Ls(args) => files::ls(context, &args),
        Command::Stat(args) => files::stat(context, &args),
        Command::Rm(args) => files::rm(context, &args),
        Command::Mv(args) => tree::mv(context, &args),
        Command::Mkdir(args) => tree::mkdir(context, &args),
        Command::Du(args) => tree::du(context, &args),
        Command::Sync(args) => tree::sync(context, &args),
        Command::Versions(args) => tree::versions(context, &args),
        Command::Restore(args) => tree::restore(context, &args),
        Command::Gc(args) => tree::gc(context, &args),
        Command::Renew(args) => storage::renew(context, &args),
        Command::Share(args) => sharing::share(context, &args),
        Command::Unshare(args) => sharing::unshare(context, &args),
        Command::Shares(args) => sharing::shares(context, &args),
        Command::Cap(args) => sharing::cap(context, &args),
        Command::File(verb) => storage::file(context, &verb),
        Command::Storage(verb) => storage::run(context, &verb),
        Command::Ledger(verb) => ledger::run(context, &verb),
        Command::Verify(args) => verify::run(context, &args),
        Command::Light(args) => light::run(context, &args),
        Command::Prune(args) => prune::run(context, &args),
        Command::Export(args) => export::run(context, &args),
        Command::Account(verb) => account::run(context, &verb),
        Command::User(verb) => user::run(context, &verb),
        Command::Migrate(args) => migrate::run(context, &args),
        Command::Invite(args) => invite::run(context, &args),
        Command::Evidence(verb) => evidence::run(context, &verb),
        Command::Validator(verb) => validator::run(context, &verb),
        Command::Backup(verb) => backup::run(context, &verb),
        Command::Config(verb) => config::run(context, &verb),
        Command::S3(verb) => s3::run(context, &verb),
        Command::Demo(args) => demo::run(context, &args),
        Command::Sim(args) => sim::run(context, &args),
        Command::Completions(args) => tools::completions(context, &args),
        Command::Man(args) => tools::man(context, &args),
    }
}

/// Help and version end well; anything else that clap says is a usage error.
fn refuse(error: &clap::Error, json: bool) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        // Where nobody reads there is nobody to tell.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    if json {
        let text = error.render().to_string();
        let message = text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        let error = CliError::new(Exit::Usage, message).hint("see --help");
        Output::new(true, false, false).error(&error);
    } else {
        let _ = error.print();
    }
    ExitCode::from(Exit::Usage as u8)
}

/// Whether the reader of stdout went away, as `head` does when it has enough.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe))
}

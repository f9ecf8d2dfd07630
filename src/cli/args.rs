//! Args: the command line as it is typed. Each noun's file has its own arguments and what they do.

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand};

use super::{
    account, backup, config, demo, evidence, export, files, get, init, invite, ledger, light, migrate, node, prune,
    put, s3, sharing, sim, storage, testnet, tools, tree, user, validator, verify,
};

/// Exit codes, at the end of the long help.
const EXIT_CODES: &str = "\
Exit codes:
  0 done · 1 other failure · 2 usage or configuration · 3 partly done · 4 not found · 5 no node answers ·
  6 not ready or not in time · 7 verification failed · 8 conflict · 9 nothing to do · 10 no home there ·
  11 home in use · 12 wrong password or not allowed · 13 refused for safety, or the disk is full · 130 interrupted

Environment:
  TRULLO_HOME, and TRULLO_<SECTION>_<KEY> for every key of config.toml; NO_COLOR.

First steps:
  trullo testnet up --dir /tmp/net
  trullo --home /tmp/net/user-1 put photo.jpg
  trullo --home /tmp/net/user-1 ls";

/// One node program for people who share machines without trusting one another.
#[derive(Debug, Parser)]
#[command(name = "trullo", version, propagate_version = false, after_long_help = EXIT_CODES)]
#[command(disable_help_subcommand = true, subcommand_required = true, arg_required_else_help = true)]
pub struct Cli {
    /// What applies to every command.
    #[command(flatten)]
    pub global: Global,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags of every command.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// The node's home directory
    ///
    /// By default $XDG_DATA_HOME/trullo, else ~/.local/share/trullo.
    #[arg(long, global = true, env = "TRULLO_HOME", value_name = "DIR")]
    pub home: Option<PathBuf>,
    /// Print results as JSON
    ///
    /// Long commands print JSON lines with `type`: progress, item, warning, summary. A failure is the last line on stderr.
    #[arg(long, global = true)]
    pub json: bool,
    /// Say nothing but results and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Say more
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    /// Override a key of config.toml, e.g. api.listen=127.0.0.1:8080
    #[arg(long = "set", global = true, value_name = "KEY=VALUE")]
    pub sets: Vec<String>,
}

const NODE: &str = "Examples:
  trullo --home ~/net node run";
const TESTNET: &str = "Examples:
  trullo testnet up --dir net --validators 4 --storage 6 --users 1
  trullo testnet status --dir net
  trullo testnet down --dir net";
const FILE: &str = "Examples:
  trullo --home net/user-1 file health photo.jpg
  trullo --home net/user-1 file verify photo.jpg";
const STORAGE: &str = "Examples:
  trullo --home net/user-1 storage audits
  trullo --home net/user-1 storage health
  trullo --home net/storage-1 storage leave";
const S3: &str = "Examples:
  trullo --home net/user-1 s3 keys add laptop";
const LEDGER: &str = "Examples:
  trullo --home net/user-1 ledger status
  trullo --home net/user-1 ledger file FILE_ID --proof -o bundle.json";
const ACCOUNT: &str = "Examples:
  trullo --home net/user-1 account list
  trullo --home net/user-1 account show";
const USER: &str = "Examples:
  trullo --home net/user-1 user add anna
  trullo --home net/user-1 user list";
const EVIDENCE: &str = "Examples:
  trullo evidence list
  trullo evidence export NODE_ID -o evidence.json
  trullo evidence verify evidence.json --genesis genesis.json";
const VALIDATOR: &str = "Examples:
  trullo validator status
  trullo validator quorum
  trullo --home ~/net validator join --stake 5000 --dry-run";
const BACKUP: &str = "Examples:
  trullo --home net/user-1 backup create /mnt/usb/user-1
  trullo backup verify /mnt/usb/user-1
  trullo --home ~/again backup restore /mnt/usb/user-1";
const CONFIG: &str = "Examples:
  trullo --home net/user-1 config show";

/// Every command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a home: configuration, node key, account
    Init(init::Args),
    /// Write what another machine needs to join, in one file
    Invite(invite::Args),
    /// Run a node
    #[command(subcommand, after_long_help = NODE)]
    Node(node::Verb),
    /// Run a network of real processes on this machine
    #[command(subcommand, after_long_help = TESTNET)]
    Testnet(testnet::Verb),
    /// Store a file or a directory
    Put(put::Args),
    /// Fetch a file or a folder
    Get(get::Args),
    /// List your files, or a folder
    Ls(files::LsArgs),
    /// Show a file: status, slots, nodes
    Stat(files::StatArgs),
    /// Delete a file, or a folder
    Rm(files::RmArgs),
    /// Give a file or folder another path
    Mv(tree::MvArgs),
    /// Make an empty folder
    Mkdir(tree::MkdirArgs),
    /// Add up what a folder holds
    Du(tree::DuArgs),
    /// Make a folder what a directory is
    Sync(tree::SyncArgs),
    /// List the contents that a file has had
    Versions(tree::VersionsArgs),
    /// Make an older content of a file the present one
    Restore(tree::RestoreArgs),
    /// Delete stored files that no folder refers to
    Gc(tree::GcArgs),
    /// Keep a file for longer
    Renew(storage::RenewArgs),
    /// Let another account read a file
    Share(sharing::ShareArgs),
    /// End that
    Unshare(sharing::UnshareArgs),
    /// List what you share, and what is shared with you
    Shares(sharing::SharesArgs),
    /// Print a file's read or verify capability: one string, for anybody
    Cap(sharing::CapArgs),
    /// How well a file is kept, and whether it is whole
    #[command(subcommand, after_long_help = FILE)]
    File(storage::FileVerb),
    /// How storage nodes keep their promise
    #[command(subcommand, after_long_help = STORAGE)]
    Storage(storage::Verb),
    /// Access for programs that speak S3
    #[command(subcommand, after_long_help = S3)]
    S3(s3::Verb),
    /// Ask the ledger
    #[command(subcommand, after_long_help = LEDGER)]
    Ledger(ledger::Verb),
    /// Check the files of a folder, or a proof bundle offline
    Verify(verify::Args),
    /// Follow the chain by headers alone, and answer what is proven
    Light(light::Args),
    /// Remove the bodies of old blocks
    Prune(prune::Args),
    /// Write the chain to files for other programs: Parquet, CSV, JSON lines, SQLite
    Export(export::Args),
    /// Accounts and credits
    #[command(subcommand, after_long_help = ACCOUNT)]
    Account(account::Verb),
    /// Who else may use this node, over HTTP
    #[command(subcommand, after_long_help = USER)]
    User(user::Verb),
    /// Proofs of what no honest node does: list, export, submit, verify offline
    #[command(subcommand, after_long_help = EVIDENCE)]
    Evidence(evidence::Verb),
    /// Validators: stakes, the quorum, joining and leaving
    #[command(subcommand, after_long_help = VALIDATOR)]
    Validator(validator::Verb),
    /// Bring the data of an earlier program to this one's format
    Migrate(migrate::Args),
    /// Copy a node's home while it runs, and bring it back
    #[command(subcommand, after_long_help = BACKUP)]
    Backup(backup::Verb),
    /// Look at the configuration
    #[command(subcommand, after_long_help = CONFIG)]
    Config(config::Verb),
    /// See the main job done on a network of real processes
    Demo(demo::Args),
    /// Run the consensus under a seeded scheduler of faults
    Sim(sim::Args),
    /// Print the completion script of a shell
    Completions(tools::CompletionsArgs),
    /// Print or write the manual pages
    Man(tools::ManArgs),
}

#[cfg(test)]
#[path = "args_tests.rs"]
mod tests;

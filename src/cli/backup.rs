//! `trullo backup`: copies of a node's home, made while it runs.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Subcommand;
use reqwest::Method;

use super::context::{Context, block_on};
use super::errors::{CliError, Exit};
use super::output::{facts, size};
use crate::api::signing::{BackupRequest, BackupView};
use crate::node::backup::{self, Source};
use crate::node::signing;
use crate::store::{Local, Options, Store};

const CREATE: &str = "Examples:
  trullo --home net/user-1 backup create /mnt/usb/user-1-monday
  trullo --home net/storage-1 backup create /mnt/big/storage-1 --with-slots

Of a running node, which goes on meanwhile, or of a home whose node is stopped. DIR is made and must not exist (exit 8). It
holds the configuration, the keys as they are in the home (the account's locked with its password, the node's plain: keep
it as safe as the home), the chain, the index of your files, users, access keys. A create that is interrupted leaves
nothing that verifies.";

const VERIFY: &str = "Examples:
  trullo backup verify /mnt/usb/user-1-monday

Reads every file and compares it with the list of the backup. Exit 4: no backup there. Exit 7: damaged or incomplete.";

const RESTORE: &str = "Examples:
  trullo --home ~/again backup restore /mnt/usb/user-1-monday

Makes the home given with --home, which must not exist or be empty (exit 8). Each file is checked as it is copied. A
validator's key is in quarantine there: it follows, listens for its own votes, and signs again with a new epoch. Never run
it beside the home that the backup is of.";

/// Verbs of `backup`.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Copy the home into a new directory
    #[command(after_long_help = CREATE)]
    Create {
        /// The new directory
        dir: PathBuf,
        /// Take the slots along that the node holds for others
        #[arg(long)]
        with_slots: bool,
    },
    /// Check a backup
    #[command(after_long_help = VERIFY)]
    Verify {
        /// Its directory
        dir: PathBuf,
    },
    /// Make a home of a backup
    #[command(after_long_help = RESTORE)]
    Restore {
        /// Its directory
        dir: PathBuf,
    },
}

/// Runs a verb.
pub fn run(context: &Context, verb: &Verb) -> Result<()> {
    match verb {
        Verb::Create { dir, with_slots } => {
            let done = create(context, dir, *with_slots)?;
            context.out.result(&done, || describe(&done))?;
        }
        Verb::Verify { dir } => {
            let done = BackupView::of(dir.display().to_string(), backup::verify(dir)?);
            context.out.result(&done, || describe(&done))?;
        }
        Verb::Restore { dir } => {
            let done = BackupView::of(dir.display().to_string(), backup::restore(dir, &context.home)?);
            context.out.result(&done, || describe(&done))?;
            let home = context.home.display();
            context.out.say(format!("next: trullo --home {home} node run, if the home that this is of does not run"));
        }
    }
    Ok(())
}

fn create(context: &Context, dir: &Path, slots: bool) -> Result<BackupView> {
    let home = context.open_home()?;
    let dir = std::path::absolute(dir).context("the path of the new directory")?;
    let Some(text) = dir.to_str() else {
        return Err(CliError::new(Exit::Usage, "the path of the new directory is no UTF-8").into());
    };
    if home.running()?.is_some() {
        let client = context.client()?;
        let request = client.request(Method::POST, "/v1/backup");
        let request = request.json(&BackupRequest { dir: text.to_owned(), slots });
        return block_on("the node may still complete the backup", client.json(request));
    }
    let _lock = home.lock()?;
    let own = signing::look(&home)?;
    let store = Store::open(&home.database(), &Options::default())?;
    let local = Local::open(&home.local_database(), &Options::default())?;
    let snapshot = store.reader().snapshot()?;
    let source = Source { home: home.root(), snapshot: &snapshot, local: &local, chain: own.chain, node: own.node };
    Ok(BackupView::of(text.to_owned(), backup::create(&source, &dir, slots)?))
}

fn describe(done: &BackupView) -> String {
    facts([
        ("backup", done.dir.clone()),
        ("node", done.node.clone()),
        ("chain", done.chain.clone()),
        ("height", done.height.to_string()),
        ("slots", if done.slots { "with those it holds for others" } else { "without" }.to_owned()),
        ("files", format!("{}, {}", done.files, size(done.bytes))),
    ])
}

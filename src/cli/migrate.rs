//! `trullo migrate`: the data of an earlier program for this one.

use anyhow::Result;
use serde::Serialize;

use super::context::Context;
use super::errors::{CliError, Exit};
use super::output::table;
use crate::store::migrate::{self, Format};

const EXAMPLES: &str = "Examples:
  trullo --home ~/net migrate --check
  trullo --home ~/net migrate --apply

A node of a later program refuses data of an earlier format (exit 13) until this was asked for, because the earlier
program cannot read it afterwards: make a backup first. Stop the node. A migration that is interrupted goes on where
it was when it is asked for again; nothing is done twice.
Exit 9: --apply has nothing to do. Exit 11: the node runs. Exit 13: the data is of a later program.";

/// Arguments of `migrate`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// Say which formats the data has, and what is to be done
    #[arg(long, required_unless_present = "apply", conflicts_with = "apply")]
    check: bool,
    /// Do it
    #[arg(long)]
    apply: bool,
}

#[derive(Serialize)]
struct FileView {
    file: &'static str,
    format: u32,
    program: u32,
    begun: bool,
    due: Vec<&'static str>,
}

/// Checks or migrates.
pub fn run(context: &Context, args: &Args) -> Result<()> {
    let home = context.open_home()?;
    let _lock = home.lock()?;
    let before = migrate::check(home.root())?;
    let is_due = before.iter().any(|(_, format)| !format.due.is_empty());
    if args.apply {
        if !is_due {
            return Err(CliError::new(Exit::Nothing, "the data has this program's format already").into());
        }
        migrate::apply(home.root(), |about, pieces| context.out.say(format!("{about}: {pieces} pieces")))?;
    }
    let now = migrate::check(home.root())?;
    let view = |(file, format): &(&'static str, Format)| FileView {
        file,
        format: format.found,
        program: format.known,
        begun: format.begun,
        due: format.due.clone(),
    };
    let files: Vec<_> = now.iter().map(view).collect();
    context.out.result(&files, || {
        let row = |file: &FileView| {
            let due = match (file.due.is_empty(), file.begun) {
                (true, _) => "nothing to do".to_owned(),
                (false, begun) => format!("{}{}", file.due.join(", "), if begun { " (begun)" } else { "" }),
            };
            [file.file.to_owned(), file.format.to_string(), file.program.to_string(), due]
        };
        table(["file", "format", "this program's", "to do"], files.iter().map(row))
    })?;
    Ok(())
}

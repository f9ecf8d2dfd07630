//! Completion scripts and manual pages.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::CommandFactory;
use clap_complete::Shell;
use serde_json::json;

use super::args::Cli;
use super::context::Context;

const COMPLETIONS: &str = "Examples:
  trullo completions bash > /etc/bash_completion.d/trullo
  trullo completions zsh > ~/.zfunc/_trullo
  trullo completions fish > ~/.config/fish/completions/trullo.fish";

const MAN: &str = "Examples:
  trullo man | man -l -
  trullo man --dir /usr/local/share/man/man1     # one page for each command";

/// Arguments of `completions`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = COMPLETIONS)]
pub struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

/// Arguments of `man`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = MAN)]
pub struct ManArgs {
    /// Write one page for each command into this directory; without it the main page is printed
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Prints the completion script.
pub fn completions(context: &Context, args: &CompletionsArgs) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "trullo", &mut script);
    let script = String::from_utf8(script)?;
    context.out.result(&json!({ "shell": args.shell.to_string(), "script": script }), || script.clone())?;
    Ok(())
}

/// Prints or writes the manual.
pub fn man(context: &Context, args: &ManArgs) -> Result<()> {
    let command = Cli::command();
    let Some(dir) = &args.dir else {
        let mut page = Vec::new();
        clap_mangen::Man::new(command).render(&mut page)?;
        let page = String::from_utf8(page)?;
        context.out.result(&json!({ "page": page }), || page.clone())?;
        return Ok(());
    };
    std::fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    clap_mangen::generate_to(command, dir).with_context(|| format!("writing to {}", dir.display()))?;
    let dir = dir.display().to_string();
    context.out.result(&json!({ "dir": dir }), || dir.clone())?;
    Ok(())
}

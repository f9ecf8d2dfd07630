//! Completion scripts and manual pages.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::CommandFactory;
use clap_complete::Shell;

use super::args::Cli;

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
pub fn completions(args: &CompletionsArgs) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "trullo", &mut script);
    Ok(std::io::stdout().write_all(&script)?)
}

/// Prints or writes the manual.
pub fn man(args: &ManArgs) -> Result<()> {
    let command = Cli::command();
    let Some(dir) = &args.dir else {
        let mut page = Vec::new();
        clap_mangen::Man::new(command).render(&mut page)?;
        return Ok(std::io::stdout().write_all(&page)?);
    };
    std::fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    clap_mangen::generate_to(command, dir).with_context(|| format!("writing to {}", dir.display()))
}

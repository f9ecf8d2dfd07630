//! Context: what every command is given, and the helpers that most of them use.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use zeroize::Zeroizing;

use super::client::Client;
use super::errors::{CliError, Exit};
use super::output::Output;
use crate::config::{Config, Layers};
use crate::node::home::{Home, read_secret};

/// What the global flags say.
#[derive(Clone, Debug)]
pub struct Context {
    /// The home, which need not exist.
    pub home: PathBuf,
    /// How to speak.
    pub out: Output,
    /// `--set` texts.
    pub sets: Vec<String>,
}

impl Context {
    /// The home. Errors: exit 10.
    pub fn open_home(&self) -> Result<Home> {
        Ok(Home::open(&self.home)?)
    }

    /// A client of the home's running node. Errors: exit 10, 5, 6.
    pub fn client(&self) -> Result<Client> {
        Client::of(&self.open_home()?)
    }

    /// The home's configuration, in its layers. Errors: exit 10, 2.
    pub fn layers(&self, home: &Home) -> Result<Layers> {
        let layers = Layers::defaults()?.file(&home.config(), &home.read_config()?)?;
        let layers = layers.environment(std::env::vars_os().filter_map(|(name, value)| {
            // A variable of ours is plain text; others may be anything.
            Some((name.into_string().ok()?, value.into_string().ok()?))
        }))?;
        Ok(layers.flags(self.sets.iter().map(String::as_str))?)
    }

    /// The home's configuration. Errors: exit 10, 2.
    pub fn config(&self, home: &Home) -> Result<Config> {
        Ok(Config::load(&self.layers(home)?)?)
    }
}

/// `--home`'s default: `$XDG_DATA_HOME/trullo` or `~/.local/share/trullo`.
pub fn default_home() -> PathBuf {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let data = variable("XDG_DATA_HOME").or_else(|| variable("HOME").map(|home| home.join(".local/share")));
    data.unwrap_or_else(|| PathBuf::from(".")).join("trullo")
}

/// Runs work that waits for the network. Ctrl-C ends it with exit 130, saying what is kept.
pub fn block_on<T>(kept: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("starting the async runtime")?;
    let done = runtime.block_on(async {
        tokio::select! {
            done = work => done,
            signal = tokio::signal::ctrl_c() => {
                signal.context("waiting for Ctrl-C")?;
                Err(CliError::new(Exit::Interrupted, format!("interrupted; {kept}")).into())
            }
        }
    });
    // Work on threads that was interrupted is not waited for.
    runtime.shutdown_background();
    done
}

/// Why a file cannot be read, with what to do.
pub fn unreadable(path: &Path, error: &io::Error) -> CliError {
    let (code, hint) = match error.kind() {
        io::ErrorKind::NotFound => (Exit::NotFound, "check the path"),
        io::ErrorKind::PermissionDenied => (Exit::Denied, "run this as a user who may read it"),
        io::ErrorKind::UnexpectedEof => (Exit::Conflict, "put it again when nothing writes to it"),
        _ => (Exit::Other, "see whether other programs can read it"),
    };
    CliError::new(code, format!("reading {}: {error}", path.display())).hint(hint)
}

/// What an interrupted query leaves behind.
pub const NOTHING_CHANGED: &str = "nothing was changed";

/// A password from a file, from stdin (`-`, one line), or asked for on a terminal.
/// Errors: exit 2 without any of them, 12 when others can read the file.
pub fn password(file: Option<&Path>, prompt: &str) -> Result<Zeroizing<String>> {
    match file {
        Some(path) if path == Path::new("-") => {
            let mut text = Zeroizing::new(String::new());
            std::io::stdin().read_line(&mut text).context("reading the password from stdin")?;
            Ok(Zeroizing::new(text.trim_end_matches(['\n', '\r']).to_owned()))
        }
        Some(path) => Ok(read_secret(path)?),
        None => ask(prompt),
    }
}

/// A password that is to be: asked for twice, and not empty. Errors: those of `password`, exit 2.
pub fn new_password(file: Option<&Path>, prompt: &str) -> Result<Zeroizing<String>> {
    let first = password(file, prompt)?;
    if first.is_empty() {
        let error = CliError::new(Exit::Usage, format!("the {prompt} is empty"));
        return Err(error.hint("choose one: whoever has the keystore has what it guards").into());
    }
    if file.is_none() && *ask("once more")? != *first {
        return Err(CliError::new(Exit::Usage, "the two passwords differ").hint("try again").into());
    }
    Ok(first)
}

/// Whether a person can be asked.
pub fn can_ask() -> bool {
    std::io::IsTerminal::is_terminal(&std::io::stdin())
}

/// A secret asked for on a terminal, which does not show it. Errors: exit 2 without a terminal, with the hint.
pub fn ask_secret(prompt: &str, hint: &str) -> Result<Zeroizing<String>> {
    if !can_ask() {
        let error = CliError::new(Exit::Usage, format!("{prompt}: there is no terminal to ask on"));
        return Err(error.hint(hint).into());
    }
    rpassword::prompt_password(format!("{prompt}: ")).map(Zeroizing::new).context("reading from the terminal")
}

fn ask(prompt: &str) -> Result<Zeroizing<String>> {
    if !can_ask() {
        let error = CliError::new(Exit::Usage, "a password is needed and there is no terminal to ask on");
        return Err(error.hint("give --password-file FILE, or - for stdin, or /dev/fd/N for a descriptor").into());
    }
    rpassword::prompt_password(format!("{prompt}: ")).map(Zeroizing::new).context("reading the password")
}

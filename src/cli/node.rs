//! `trullo node`: a node in the foreground.

use std::io::IsTerminal;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Subcommand;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use super::context::{self, Context};
use super::errors::{CliError, Exit};
use crate::api;
use crate::config::{Config, genesis};
use crate::crypto::keys::AccountKeys;
use crate::node::home::Home;
use crate::node::{self, Start};
use crate::s3;
use crate::types::Role;
use crate::wire::block::BLOCK_VERSION;

const RUN: &str = "Examples:
  trullo --home ~/net node run
  trullo --home ~/net node run --password-file /run/secrets/trullo
  trullo --home ~/net node run --set api.listen=127.0.0.1:8080 --set log.level=debug

Runs in the foreground and logs to stderr. Ctrl-C or SIGTERM stops it cleanly within 5 seconds.
A password file must be for its owner alone: chmod 600.
The API's address stands in api.addr, its bearer token in api.token (0600), both in the home.";

/// Verbs of `node`.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run the node of --home until it is stopped
    #[command(after_long_help = RUN)]
    Run(RunArgs),
}

/// Arguments of `node run`.
#[derive(Debug, clap::Args)]
pub struct RunArgs {
    /// File with the keystore's password; `-` for stdin
    ///
    /// Default: account.password_file of the configuration, else asked for on a terminal.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

/// Runs a verb.
pub fn run(context: &Context, verb: &Verb) -> Result<()> {
    let Verb::Run(args) = verb;
    let home = context.open_home()?;
    let config = context.config(&home)?;
    let genesis = genesis::read(&home.read_genesis()?)?;
    let _lock = home.lock()?;
    let account = unlock(&home, &config, args)?;
    start_log(&config)?;
    let start = Start { home: home.root().to_owned(), config, genesis, account, known: BLOCK_VERSION };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.context("starting the async runtime")?;
    runtime.block_on(serve(&home, start))
}

/// The account's keys; a node that only serves others runs without them.
fn unlock(home: &Home, config: &Config, args: &RunArgs) -> Result<Option<AccountKeys>> {
    let accounts = home.read_keystore()?;
    let Some((_, keystore)) = accounts.first() else { return Ok(None) };
    let password = match (&args.password_file, &config.password_file) {
        (Some(path), _) => context::password(Some(path), "")?,
        (None, Some(path)) => home.read_password(path)?,
        (None, None) if context::can_ask() => context::password(None, "password of the keystore")?,
        (None, None) if !config.node.roles.has(Role::User) => return Ok(None),
        (None, None) => {
            let error = CliError::new(Exit::Denied, "a user's node needs the keystore's password");
            return Err(error.hint("give --password-file FILE, or set account.password_file").into());
        }
    };
    keystore.open(password.as_bytes()).map(Some).context("opening keystore.json")
}

fn start_log(config: &Config) -> Result<()> {
    // What the S3 library calls errors are its clients' mistakes, and those are answered.
    let quiet = if config.log.level.contains("s3s") { "" } else { ",s3s=off" };
    let filter = EnvFilter::try_new(format!("{}{quiet}", config.log.level))
        .map_err(|error| CliError::new(Exit::Usage, format!("log.level {:?}: {error}", config.log.level)))?;
    // A log that cannot be written, on a full disk or to a reader that is gone, must not end the thread that wrote to it.
    let builder = tracing_subscriber::fmt().log_internal_errors(false);
    let builder = builder.with_env_filter(filter).with_writer(std::io::stderr);
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let started = match config.log.json {
        true => builder.json().try_init(),
        false => builder.with_ansi(colour).try_init(),
    };
    started.map_err(|error| CliError::new(Exit::Other, format!("starting the log: {error}")).into())
}

async fn serve(home: &Home, start: Start) -> Result<()> {
    // Before anything else, so that a signal during the start is not lost.
    let mut terminated = signal(SignalKind::terminate()).context("waiting for SIGTERM")?;
    let mut interrupted = signal(SignalKind::interrupt()).context("waiting for SIGINT")?;
    let listen = start.config.api.listen;
    home.make_token()?;
    let token = home.read_token()?;
    // A home that joins by a snapshot may wait for peers for long.
    let node = tokio::select! {
        node = node::start(start) => node?,
        _ = terminated.recv() => return Ok(()),
        _ = interrupted.recv() => return Ok(()),
    };
    let handle = node.handle().clone();
    let stop = handle.stop_token().clone();
    let server = match api::serve(handle.clone(), listen, &token).await {
        Ok(server) => server,
        Err(error) => {
            stop.cancel();
            node.finish().await?;
            let error = CliError::new(Exit::Conflict, format!("the API cannot listen on {listen}: {error}"));
            return Err(error.hint("choose another address: --set api.listen=127.0.0.1:0").into());
        }
    };
    let gateway = match s3_gateway(home, &handle).await {
        Ok(gateway) => gateway,
        Err(error) => {
            stop.cancel();
            node.finish().await?;
            return Err(error);
        }
    };
    home.write_address(&server.address.to_string())?;
    tracing::info!(address = %server.address, "the API answers");
    tokio::select! {
        _ = terminated.recv() => tracing::info!("SIGTERM: stopping"),
        _ = interrupted.recv() => tracing::info!("interrupted: stopping"),
        () = stop.cancelled() => {}
    }
    stop.cancel();
    let ended = node.finish().await;
    server.finish().await;
    if let Some(gateway) = gateway {
        gateway.finish().await;
    }
    tracing::info!("stopped");
    Ok(ended?)
}

/// The S3 gateway, where the configuration has one. Errors: exit 8 when it cannot listen.
async fn s3_gateway(home: &Home, handle: &node::Handle) -> Result<Option<s3::S3Server>> {
    let Some(listen) = handle.config().s3.listen else {
        home.write_s3_address(None)?;
        return Ok(None);
    };
    let gateway = s3::serve(handle, listen).await.map_err(|error| {
        let error = CliError::new(Exit::Conflict, error.to_string());
        error.hint("choose another address: --set s3.listen=127.0.0.1:0; a gateway needs the account's password")
    })?;
    home.write_s3_address(Some(&gateway.address.to_string()))?;
    tracing::info!(address = %gateway.address, "the S3 gateway answers");
    Ok(Some(gateway))
}

//! `trullo validator signing`: what a node's key has signed, to be taken to another home, and the way out of a quarantine.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Subcommand;
use serde::Serialize;

use super::context::{self, Context, NOTHING_CHANGED, block_on};
use super::errors::{CliError, Exit};
use super::output::facts;
use crate::api::signing::{RoundView, SIGNING_FORMAT, SigningView};
use crate::node::signing;

const EXPORT: &str = "Examples:
  trullo --home net/validator-1 validator signing export
  trullo --home net/validator-1 validator signing export state.json

Of a running node or of a home whose node is stopped. The file holds no secret: the chain, the node, and for each kind of
statement the highest view (epoch, view) in which the key has signed. A file that is there is not overwritten (exit 8).";

const IMPORT: &str = "Examples:
  trullo --home ~/restored validator signing import state.json
  trullo --home ~/restored validator signing import -

For a home whose node is stopped. Watermarks are only ever raised: the node signs nothing at or below any of them. What is
lower than what the home knows changes nothing. Exit 13: the state is of another chain or another key.";

const RELEASE: &str = "Examples:
  trullo --home net/validator-1 validator signing export   # and whether it is in quarantine
  trullo --home net/validator-1 validator signing release --yes

Ends the quarantine of a key by your word, for a home whose node is stopped. Mostly this is not needed: a node that follows
and hears nothing of its own key signs again with a new epoch. It is needed when another process has signed with the key,
and for the only validator of a network. YOU SAY WITH IT that no other process has this key now, and that none signed
more than this home and the other validators know. If that is wrong, the validator contradicts itself, loses a part of its
stake and never votes with the rest. Watermarks stay, and at the start the node still asks the others.";

/// Verbs of `validator signing`.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Write down what the node's key has signed
    #[command(after_long_help = EXPORT)]
    Export {
        /// The new file; by default stdout
        file: Option<PathBuf>,
    },
    /// Raise the views above which alone the key signs
    #[command(after_long_help = IMPORT)]
    Import {
        /// A file that `export` wrote; `-` for stdin
        file: PathBuf,
    },
    /// End a quarantine by your word
    #[command(after_long_help = RELEASE)]
    Release {
        /// Say that you have read what you risk
        #[arg(long)]
        yes: bool,
    },
}

/// An exported state is small.
const STATE_BYTES_MAX: u64 = 64 << 10;

#[derive(Serialize)]
struct Imported {
    raised: bool,
    signing: SigningView,
}

#[derive(Serialize)]
struct Released {
    node: String,
    was: &'static str,
}

/// Runs a verb.
pub fn run(context: &Context, verb: &Verb) -> Result<()> {
    match verb {
        Verb::Export { file } => export(context, file.as_deref()),
        Verb::Import { file } => import(context, file),
        Verb::Release { yes } => release(context, *yes),
    }
}

fn export(context: &Context, file: Option<&Path>) -> Result<()> {
    let home = context.open_home()?;
    let view: SigningView = match home.running()? {
        Some(_) => {
            let client = context.client()?;
            block_on(NOTHING_CHANGED, client.get("/v1/validator/signing"))?
        }
        None => {
            let _lock = home.lock()?;
            (&signing::look(&home)?).into()
        }
    };
    let Some(path) = file else {
        context.out.result(&view, || serde_json::to_string_pretty(&view).unwrap_or_default())?;
        return Ok(());
    };
    let mut text = serde_json::to_vec_pretty(&view)?;
    text.push(b'\n');
    let new = std::fs::OpenOptions::new().write(true).create_new(true).open(path);
    let written = new.and_then(|mut file| std::io::Write::write_all(&mut file, &text).and_then(|()| file.sync_all()));
    written.map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            CliError::new(Exit::Conflict, format!("{} exists already", path.display())).hint("choose another name")
        }
        _ => CliError::new(Exit::Other, format!("writing {}: {error}", path.display())),
    })?;
    context.out.result(&view, || describe(&view))?;
    Ok(())
}

fn import(context: &Context, path: &Path) -> Result<()> {
    let home = context.open_home()?;
    let view = read(path)?;
    let _lock = home.lock()?;
    let own = signing::look(&home)?;
    let refused = |what: &str, theirs: &str, ours: String| {
        let message = format!("the state is of {what} {theirs}, the home of {ours}");
        CliError::new(Exit::Refused, message).hint("export it from the home whose key this is")
    };
    if view.chain != own.chain.to_string() {
        return Err(refused("chain", &view.chain, own.chain.to_string()).into());
    }
    if view.node != own.node.to_string() {
        return Err(refused("node", &view.node, own.node.to_string()).into());
    }
    let after = signing::raise(&home, &(&view.watermarks).into())?;
    let done = Imported { raised: after.signed != own.signed, signing: (&after).into() };
    context.out.result(&done, || match done.raised {
        true => describe(&done.signing),
        false => "the home knows of all that already; nothing was changed".to_owned(),
    })?;
    Ok(())
}

fn read(path: &Path) -> Result<SigningView> {
    let mut text = String::new();
    let from: Box<dyn std::io::Read> = match path == Path::new("-") {
        true => Box::new(std::io::stdin()),
        false => Box::new(std::fs::File::open(path).map_err(|error| context::unreadable(path, &error))?),
    };
    let mut from = std::io::Read::take(from, STATE_BYTES_MAX);
    std::io::Read::read_to_string(&mut from, &mut text).map_err(|error| context::unreadable(path, &error))?;
    let malformed = |error: &dyn std::fmt::Display| {
        let message = format!("{} is no signing state: {error}", path.display());
        CliError::new(Exit::Verification, message).hint("write one with: trullo validator signing export FILE")
    };
    let version = serde_json::from_str::<serde_json::Value>(&text).map_err(|error| malformed(&error))?;
    match version["version"].as_u64() {
        Some(version) if version > u64::from(SIGNING_FORMAT) => {
            let message = format!("the state has format {version}, this program knows {SIGNING_FORMAT}");
            Err(CliError::new(Exit::Refused, message).hint("use the newer program").into())
        }
        _ => Ok(serde_json::from_str(&text).map_err(|error| malformed(&error))?),
    }
}

fn release(context: &Context, yes: bool) -> Result<()> {
    let home = context.open_home()?;
    let _lock = home.lock()?;
    let own = signing::look(&home).context("looking at the signing state")?;
    let Some(why) = own.quarantine else {
        let message = "the key is not in quarantine; it signs when the node runs";
        return Err(CliError::new(Exit::Nothing, message).into());
    };
    if !yes {
        let message = format!(
            "the key is in quarantine: {why}. If another process has it, or it signed more than this home and the other \
             validators know, the validator contradicts itself and loses its place and a part of its stake"
        );
        return Err(CliError::new(Exit::Refused, message).hint("if you are sure, add --yes").into());
    }
    signing::release(&home)?;
    let done = Released { node: own.node.to_string(), was: why.name() };
    context.out.result(&done, || format!("the quarantine is over by your word; it was: {why}"))?;
    Ok(())
}

fn describe(view: &SigningView) -> String {
    let round = |round: Option<RoundView>| match round {
        Some(round) => format!("epoch {}, view {}", round.epoch, round.view),
        None => "none known".to_owned(),
    };
    let signed = &view.watermarks;
    let mut rows = vec![
        ("node", view.node.clone()),
        ("chain", view.chain.clone()),
        ("proposals", round(signed.propose)),
        ("prepare votes", round(signed.prepare)),
        ("commit votes", round(signed.commit)),
        ("timeouts", round(signed.timeout)),
    ];
    rows.extend(view.reason.clone().map(|reason| ("signs nothing", reason)));
    facts(rows)
}

//! `trullo evidence`: proofs of what no honest node does.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Subcommand;
use serde_json::json;

use super::context::{Context, NOTHING_CHANGED, block_on, unreadable};
use super::errors::{CliError, Exit};
use super::output::{facts, short, table};
use super::verify::read;
use crate::api::evidence::{EvidenceView, OffencesView, PunishedView, told};
use crate::config::genesis;

const LIST: &str = "Examples:
  trullo evidence list
  trullo evidence list --json | jq -r '.offences[].node'";

const EXPORT: &str = "Examples:
  trullo evidence export NODE_ID -o evidence.json
  trullo evidence export NODE_ID | trullo evidence verify -

The file holds what the node signed; whoever has it can check it without any network.
Exit 4: the node was not punished for anything.";

const SUBMIT: &str = "Examples:
  trullo evidence submit evidence.json

Nodes that see a contradiction put it on the ledger by themselves; this is for what came another way.
Exit 7: it shows nothing. Exit 8: refused, for example because the node was punished before.";

const VERIFY: &str = "Examples:
  trullo evidence verify evidence.json --genesis genesis.json
  trullo evidence verify evidence.json          # of the network of --home, if there is one
  cat evidence.json | trullo evidence verify - --json

Needs no node and no network. Without a genesis file it says of which chain the evidence is, and you compare.
Whether the node was a validator then is not in the evidence: `trullo validator evidence` shows who was punished.
Exit 0: the node has signed what no honest node signs. Exit 7: the file shows nothing of the kind.";

/// `trullo evidence`.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Show who was punished, for what, and in which transaction
    #[command(after_long_help = LIST)]
    List,
    /// Write the proof of a node's offence to a file
    #[command(after_long_help = EXPORT)]
    Export {
        /// The node
        #[arg(value_name = "NODE_ID")]
        node: String,
        /// Where to; default: stdout
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Bring evidence onto the ledger
    #[command(after_long_help = SUBMIT)]
    Submit {
        /// The file, `-` for stdin
        file: PathBuf,
    },
    /// Check evidence offline
    #[command(after_long_help = VERIFY)]
    Verify {
        /// The file, `-` for stdin
        file: PathBuf,
        /// The network's genesis file; default: the one in --home, if there is one
        #[arg(long, value_name = "FILE")]
        genesis: Option<PathBuf>,
    },
}

/// Runs `trullo evidence`.
pub fn run(context: &Context, verb: &Verb) -> Result<()> {
    match verb {
        Verb::List => list(context),
        Verb::Export { node, output } => export(context, node, output.as_deref()),
        Verb::Submit { file } => submit(context, file),
        Verb::Verify { file, genesis } => verify(context, file, genesis.as_deref()),
    }
}

/// Shows who was punished.
pub fn list(context: &Context) -> Result<()> {
    let client = context.client()?;
    let listed: OffencesView = block_on(NOTHING_CHANGED, client.get("/v1/evidence"))?;
    context.out.result(&listed, || {
        if listed.offences.is_empty() {
            return "nobody was punished\n".to_owned();
        }
        let rows = listed.offences.iter().map(|offence| {
            let (height, lost) = (offence.height.to_string(), offence.lost.to_string());
            let name = offence.name.clone().unwrap_or_default();
            [short(&offence.node), name, offence.offence.clone(), height, lost, short(&offence.tx)]
        });
        table(["NODE", "NAME", "OFFENCE", "HEIGHT", "LOST", "TRANSACTION"], rows)
    })?;
    Ok(())
}

fn export(context: &Context, node: &str, output: Option<&Path>) -> Result<()> {
    let client = context.client()?;
    // A short id, as the list shows it, is enough.
    let listed: OffencesView = block_on(NOTHING_CHANGED, client.get("/v1/evidence"))?;
    let mut named = listed
        .offences
        .iter()
        .filter(|offence| offence.node.starts_with(node) || offence.name.as_deref() == Some(node));
    let unknown = || CliError::new(Exit::NotFound, format!("node {node} was not punished for anything"));
    let found = named.next().ok_or_else(unknown)?;
    if let Some(other) = named.next() {
        let message = format!("{node} is both {} and {}; give more digits", found.node, other.node);
        return Err(CliError::new(Exit::Usage, message).into());
    }
    let file: EvidenceView = block_on(NOTHING_CHANGED, client.get(&format!("/v1/evidence/{}", found.node)))?;
    let text = serde_json::to_string_pretty(&file)? + "\n";
    match output {
        None => std::io::stdout().write_all(text.as_bytes())?,
        Some(path) => {
            std::fs::write(path, text).map_err(|error| unreadable(path, &error))?;
            context.out.say(format!("evidence against {} is in {}", short(&found.node), path.display()));
        }
    }
    Ok(())
}

fn parse(path: &Path) -> Result<EvidenceView> {
    let bytes = read(path)?;
    let parsed = serde_json::from_slice(&bytes);
    Ok(parsed.map_err(|error| wrong(path, &format!("not an evidence file: {error}")))?)
}

fn wrong(path: &Path, reason: &str) -> CliError {
    CliError::new(Exit::Verification, format!("{} is no evidence: {reason}", path.display()))
}

fn submit(context: &Context, path: &Path) -> Result<()> {
    let file = parse(path)?;
    file.check().map_err(|error| wrong(path, &error.to_string()))?;
    let client = context.client()?;
    let kept = "it may still become final; see `trullo evidence list`";
    let done: PunishedView = block_on(kept, client.post("/v1/evidence", &file))?;
    context.out.result(&done, || format!("{} was punished at height {}\n", short(&done.node), done.height))?;
    Ok(())
}

fn verify(context: &Context, path: &Path, genesis: Option<&Path>) -> Result<()> {
    let file = parse(path)?;
    let (chain, accusation) = file.check().map_err(|error| wrong(path, &error.to_string()))?;
    let text = match genesis {
        Some(path) => Some(std::fs::read_to_string(path).map_err(|error| unreadable(path, &error))?),
        None => context.open_home().ok().and_then(|home| home.read_genesis().ok()),
    };
    if let Some(text) = &text {
        let own = genesis::read(text)?.chain_id();
        if own != chain {
            return Err(wrong(path, &format!("it is of chain {chain}, the genesis file of chain {own}")).into());
        }
    }
    let (compared, signed) = (text.is_some(), told(&accusation));
    let value = json!({
        "verified": true,
        "chain": chain.to_string(),
        "chain_compared": compared,
        "node": accusation.node().to_string(),
        "offence": accusation.name(),
        "signed": signed,
    });
    context.out.result(&value, || {
        let of = if compared { "the one of the genesis file" } else { "compare it with your network's" };
        let mut rows = vec![
            ("proven", format!("{} by node {}", accusation.name().replace('_', " "), accusation.node())),
            ("chain", format!("{chain} ({of})")),
        ];
        rows.extend(signed.iter().map(|said| ("signed", said.clone())));
        facts(rows)
    })?;
    Ok(())
}

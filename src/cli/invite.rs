//! `trullo invite`: what another machine needs to join the network, in one file.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::context::{Context, NOTHING_CHANGED, block_on, unreadable};
use super::errors::{CliError, Exit};
use crate::config::genesis;
use crate::ledger::Genesis;
use crate::net::PeerAddress;

const EXAMPLES: &str = "Examples:
  trullo --home ~/net invite -o invite.json      # on a machine whose node runs
  trullo --home ~/net init --name bob --invite invite.json
  trullo --home ~/net init --name disk --role storage --invite invite.json

The file holds the genesis and addresses of nodes: nothing secret, but whoever uses it trusts that the genesis is
the right one, so get it from somebody you trust. Where a router stands between, set net.announce first.";

/// The form of an invitation.
const FORMAT: &str = "trullo invitation 1";
/// Longest invitation, bytes: a genesis has a bound of its own.
const BYTES_MAX: u64 = 16 << 20;

/// Arguments of `invite`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// Where to; default: stdout
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Serialize, Deserialize)]
struct Invitation {
    format: String,
    /// Where the network is.
    bootstrap: Vec<String>,
    /// The text of the genesis file.
    genesis: String,
}

/// Writes an invitation.
pub fn run(context: &Context, args: &Args) -> Result<()> {
    let text = context.open_home()?.read_genesis()?;
    genesis::read(&text)?;
    let client = context.client()?;
    let status = block_on(NOTHING_CHANGED, client.status())?;
    let alone = status.addresses.iter().filter_map(|text| text.parse::<PeerAddress>().ok());
    if alone.clone().all(|peer| peer.address.is_loopback()) {
        context.out.warn("the node is reached on this machine alone; set net.listen, or net.announce behind a router");
    }
    let invitation = Invitation { format: FORMAT.to_owned(), bootstrap: status.addresses, genesis: text };
    let text = serde_json::to_string_pretty(&invitation)? + "\n";
    match &args.output {
        None => std::io::stdout().write_all(text.as_bytes())?,
        Some(path) => {
            std::fs::write(path, text).map_err(|error| unreadable(path, &error))?;
            context.out.say(format!("give {} to the new machine: trullo init --invite {0}", path.display()));
        }
    }
    Ok(())
}

/// The genesis and the addresses of an invitation. Errors: it cannot be read, or is none.
pub fn accept(path: &Path) -> Result<(Genesis, Vec<String>)> {
    let wrong = |why: String| CliError::new(Exit::Usage, format!("{} is no invitation: {why}", path.display()));
    let size = std::fs::metadata(path).map_err(|error| unreadable(path, &error))?.len();
    if size > BYTES_MAX {
        return Err(wrong(format!("{size} bytes")).into());
    }
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
    let invitation: Invitation = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    if invitation.format != FORMAT {
        return Err(wrong(format!("its format is {:?}, not {FORMAT:?}", invitation.format)).into());
    }
    Ok((genesis::read(&invitation.genesis)?, invitation.bootstrap))
}

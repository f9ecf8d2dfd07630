//! `trullo verify`: a proof bundle against a genesis file, without any network.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::json;

use super::context::{Context, unreadable};
use super::errors::{CliError, Exit};
use super::output::facts;
use crate::api::bundle;
use crate::config::genesis;
use crate::node::bundle::{Anchor, Checkpoint};
use crate::types::limits;

const EXAMPLES: &str = "Examples:
  trullo verify bundle.json --genesis genesis.json
  trullo ledger file photo.jpg --proof | trullo verify - --genesis genesis.json
  trullo verify bundle.json --genesis genesis.json --json
  trullo verify bundle.json --trust \\
    1200:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
  trullo verify /docs --read

A remote path: says whether every file below it is there and whole, by the health of its slots; with --read
every byte is read and compared. Exit 7: some are bad.
A bundle: needs no node and no network: only the genesis file, or a checkpoint, which you must have from a source that you
trust. A checkpoint is the height and hash of a final block, as `trullo ledger status` shows them; a bundle from it on is
made with `--proof --from HEIGHT`. With the genesis you trust that the keys of all past validators are still their own; stakes
answer for them only until they are paid back (`unbonding_epochs`). A checkpoint younger than that relies on bonded stakes alone.
Exit 0: everything the bundle says is proven. Exit 7: it is not.";

/// Arguments of `verify`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// A path in your folders; or a bundle, `-` for stdin
    #[arg(value_name = "/PATH|BUNDLE")]
    bundle: PathBuf,
    /// Read every byte of the files, and compare
    #[arg(long, conflicts_with = "genesis")]
    read: bool,
    /// The network's genesis file; default: the one in --home
    #[arg(long, value_name = "FILE")]
    genesis: Option<PathBuf>,
    /// A final block that you trust, in place of the genesis
    #[arg(long, value_name = "HEIGHT:HASH", conflicts_with_all = ["genesis", "read"])]
    trust: Option<Checkpoint>,
}

/// Verifies the bundle.
pub fn run(context: &Context, args: &Args) -> Result<()> {
    // Without a genesis file, and where no such file is on this machine, a path from `/` on is one of the folders.
    let named = args.bundle.to_str().filter(|path| super::tree::is_remote(path));
    if let Some(path) =
        named.filter(|_| args.genesis.is_none() && args.trust.is_none() && (args.read || !args.bundle.is_file()))
    {
        return super::tree::verify(context, path, args.read);
    }
    let genesis = match (&args.genesis, args.trust) {
        (_, Some(_)) => None,
        (Some(path), None) => {
            Some(genesis::read(&std::fs::read_to_string(path).map_err(|error| unreadable(path, &error))?)?)
        }
        (None, None) => Some(genesis::read(&context.open_home()?.read_genesis()?)?),
    };
    let (anchor, since) = match (&genesis, args.trust) {
        (_, Some(point)) => (Anchor::Checkpoint(point), "since checkpoint"),
        (Some(genesis), None) => (Anchor::Genesis(genesis), "since genesis"),
        (None, None) => return Err(CliError::new(Exit::Usage, "neither --genesis nor --trust").into()),
    };
    let wrong = |reason: String| {
        let message = format!("{} is not proven: {reason}", args.bundle.display());
        CliError::new(Exit::Verification, message)
            .hint("get the bundle again, and the genesis file or the checkpoint of the same network")
    };
    let bytes = read(&args.bundle)?;
    let text = String::from_utf8(bytes).map_err(|_| wrong("not a bundle: not text".to_owned()))?;
    let verified = bundle::verify(&text, &anchor).map_err(|error| wrong(error.to_string()))?;
    let value = json!({
        "verified": true,
        "chain": verified.chain,
        "trust": args.trust.map_or_else(|| "genesis".to_owned(), |point| point.to_string()),
        "height": verified.height,
        "subject": verified.subject,
        "record": verified.record,
        "signers": verified.signers,
        "set_changes": verified.set_changes,
    });
    context.out.result(&value, || {
        facts([
            ("proven", verified.subject.clone()),
            ("chain", verified.chain.clone()),
            ("as of height", verified.height.to_string()),
            ("signed by", format!("{} validators", verified.signers)),
            (since, format!("{} changes of the validators, each certified by those before", verified.set_changes)),
        ]) + &format!("{:#}\n", verified.record)
    })?;
    Ok(())
}

/// The bytes of a file or stdin, of which there may be so many and no more.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    let source: Box<dyn Read> = if path == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(path).map_err(|error| unreadable(path, &error))?)
    };
    // A bundle's bytes stand in its text as hexadecimal digits, beside some lines for people.
    let max = 2 * limits::BUNDLE_BYTES_MAX as u64 + (1 << 20);
    let mut bytes = Vec::new();
    source.take(max + 1).read_to_end(&mut bytes).with_context(|| format!("reading {}", path.display()))?;
    if bytes.len() as u64 > max {
        return Err(CliError::new(Exit::Verification, format!("{} is too long for a bundle", path.display())).into());
    }
    Ok(bytes)
}

//! `trullo prune`: bodies of old blocks go, headers and certificates stay.

use anyhow::Result;
use serde_json::json;

use super::context::{Context, NOTHING_CHANGED, block_on};
use super::errors::{CliError, Exit};
use super::output::facts;
use crate::api::views::{PruneRequest, PruneView};
use crate::store::{Options, Store};
use crate::types::{Height, limits};

const EXAMPLES: &str = "Examples:
  trullo --home ~/net prune --keep 10000
  trullo --home ~/net prune --keep 10000 --json

Removes the transactions and receipts of all but the last blocks; headers, certificates and the state stay, so the node goes on
as before, proves what it did, and serves snapshots. Of a running node they go with the blocks that come; of a stopped one at
once, and the file is made smaller. `node.keep_blocks` in config.toml does it all the time.
What is pruned is answered with 410, cannot be exported, and others cannot catch up over it here. At least one node of the
network must keep everything: an archive (node.keep_blocks = 0).";

/// Arguments of `prune`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// Blocks whose bodies are kept, at least 64
    #[arg(long, value_name = "BLOCKS")]
    keep: u64,
}

/// Prunes the home's node.
pub fn run(context: &Context, args: &Args) -> Result<()> {
    let home = context.open_home()?;
    if args.keep < limits::KEEP_BLOCKS_MIN {
        let message = format!("--keep {}: at least {} are kept", args.keep, limits::KEEP_BLOCKS_MIN);
        return Err(CliError::new(Exit::Usage, message).into());
    }
    if home.running()?.is_some() {
        let client = context.client()?;
        let request = PruneRequest { keep: args.keep };
        let view: PruneView = block_on(NOTHING_CHANGED, client.post("/v1/admin/prune", &request))?;
        let text = || facts([("going", format!("bodies below height {}, with the blocks that come", view.below))]);
        context.out.result(&view, text)?;
        return Ok(());
    }
    let _lock = home.lock()?;
    let before = std::fs::metadata(home.database()).map_or(0, |meta| meta.len());
    let mut store = Store::open(&home.database(), &Options::default())?;
    let tip = store.reader().tip().map_or(0, |tip| tip.height.get());
    let below = Height::new(tip.saturating_add(1).saturating_sub(args.keep));
    let mut removed = 0;
    loop {
        let mut batch = store.batch()?;
        let step = batch.prune_bodies(below, limits::PRUNE_STEP)?;
        batch.commit()?;
        removed += step;
        if step < limits::PRUNE_STEP {
            break;
        }
    }
    store.compact()?;
    drop(store);
    let after = std::fs::metadata(home.database()).map_or(0, |meta| meta.len());
    let value = json!({ "below": below.get(), "removed": removed, "bytes_before": before, "bytes_after": after });
    context.out.result(&value, || {
        facts([
            ("removed", format!("{removed} bodies, all below height {below}")),
            ("database", format!("{} before, {} now", super::output::size(before), super::output::size(after))),
        ])
    })?;
    Ok(())
}

//! `trullo light`: the chain by headers alone, and answers that are proven.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::context::{Context, unreadable};
use super::errors::{CliError, Exit};
use crate::api;
use crate::config::genesis;
use crate::crypto::SecretKey;
use crate::net::{self, NetConfig, NetHandle, NetLimits, PeerAddress};
use crate::node::home::random;
use crate::node::light::{Checkpoint, Conflict, Light, Trusted};
use crate::node::metrics::Metrics;
use crate::node::snapshot::join::anchor;
use crate::wire;

const EXAMPLES: &str = "Examples:
  trullo light --genesis genesis.json \\
    --peer /ip4/192.0.2.1/tcp/7000/p2p/12D3KooWBVwVWdqFNFJBFhW1qKLCe3YPz1cSCTVZ3S4N7dNhHRZ6
  trullo light --genesis genesis.json --peer ADDRESS --peer ADDRESS --listen 127.0.0.1:8080 \\
    --trust 1200:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
  curl http://127.0.0.1:8080/v1/accounts/ID

Follows the headers of the peers and keeps no chain. Answers /status, /v1/blocks/HEIGHT|latest (the header), /v1/accounts/ID,
/v1/files/ID (the deal) and /v1/validators, each only if a peer proves it: from the genesis or the checkpoint over every change of
the validators. A peer that answers wrongly is named in /status and asked no more. Ask peers of different operators: proofs show
what is false, not what is kept from you.

--trust is a final block, height and hash, as `trullo ledger status` shows it: take it from somebody you trust, and not older than
the time in which stakes are held (unbonding_epochs). Validators who have their stakes back lose nothing by signing another
history of that time. With the genesis alone you trust all of them since.
What is trusted is written to --state, so a later start needs no --trust. Two certified blocks of one height: it stops, writes both
to conflict-HEIGHT.json, and ends with exit 7.";

/// Arguments of `light`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// The network's genesis file: which chain it is; default: the one in --home
    #[arg(long, value_name = "FILE")]
    genesis: Option<PathBuf>,
    /// A final block that you trust, in place of the genesis' validators
    #[arg(long, value_name = "HEIGHT:HASH")]
    trust: Option<Checkpoint>,
    /// Address of a node to ask; may be repeated
    #[arg(long = "peer", value_name = "ADDRESS", required = true)]
    peers: Vec<String>,
    /// Where to answer HTTP; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Where to write down how far it is
    #[arg(long, value_name = "FILE", default_value = "light.state")]
    state: PathBuf,
}

/// Follows until it is stopped.
pub fn run(context: &Context, args: &Args) -> Result<()> {
    let text = match &args.genesis {
        Some(path) => std::fs::read_to_string(path).map_err(|error| unreadable(path, &error))?,
        None => context.open_home()?.read_genesis()?,
    };
    let genesis = genesis::read(&text)?;
    if !args.listen.ip().is_loopback() {
        let error = CliError::new(Exit::Usage, format!("{} is not this machine", args.listen));
        return Err(error.hint("a light node answers on 127.0.0.1 or [::1] alone").into());
    }
    let address = |text: &String| {
        text.parse::<PeerAddress>().map_err(|error| {
            let error = CliError::new(Exit::Usage, format!("--peer {text:?}: {error}"));
            error.hint("an address ends with /p2p/ and the node's name there, as in net.bootstrap of a config.toml")
        })
    };
    let peers = args.peers.iter().map(address).collect::<Result<Vec<_>, _>>()?;
    let state = std::path::absolute(&args.state).map_err(|error| unreadable(&args.state, &error))?;
    let args = &Args { state, genesis: None, peers: Vec::new(), ..*args };
    let saved = Light::<NetHandle>::resume(&args.state)?;
    if let Some(saved) = saved.as_ref().filter(|saved| saved.chain != genesis.chain_id()) {
        let message =
            format!("{} is of chain {}, the genesis of {}", args.state.display(), saved.chain, genesis.chain_id());
        return Err(CliError::new(Exit::Conflict, message).hint("give another --state").into());
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the async runtime")?;
    runtime.block_on(follow(context, args, &genesis, peers, saved))
}

async fn follow(
    context: &Context,
    args: &Args,
    genesis: &crate::ledger::Genesis,
    bootstrap: Vec<PeerAddress>,
    saved: Option<Trusted>,
) -> Result<()> {
    let mut terminated = signal(SignalKind::terminate()).context("waiting for SIGTERM")?;
    let mut interrupted = signal(SignalKind::interrupt()).context("waiting for SIGINT")?;
    let config = NetConfig {
        // Nobody has to know it again.
        key: SecretKey::from_seed(&random()?),
        chain: genesis.chain_id(),
        listen: Vec::new(),
        announce: Vec::new(),
        bootstrap,
        limits: NetLimits::default(),
    };
    let (_, metrics) = Metrics::new();
    let (net, inboxes) = net::start(config, metrics).await?;
    // It answers nobody: what comes in is let go.
    drop(inboxes);
    let ended = tokio::select! {
        ended = answer(context, args, genesis, &net, saved) => ended,
        _ = terminated.recv() => Ok(()),
        _ = interrupted.recv() => Ok(()),
    };
    net.shutdown().await;
    ended
}

async fn answer(
    context: &Context,
    args: &Args,
    genesis: &crate::ledger::Genesis,
    net: &NetHandle,
    saved: Option<Trusted>,
) -> Result<()> {
    // A checkpoint that is given is what the user says now; what was written down follows from what was said before.
    let newer = |saved: &Trusted| args.trust.is_none_or(|point| point.height <= saved.height);
    let trusted = match saved.filter(newer) {
        Some(saved) => saved,
        None => anchor(net, genesis, args.trust).await?,
    };
    let light = Arc::new(Light::new(net.clone(), trusted.clone(), args.state.clone()));
    let (address, serving) =
        api::light::serve(light.clone(), args.listen, CancellationToken::new()).await.map_err(|error| {
            let error = CliError::new(Exit::Conflict, format!("cannot listen on {}: {error}", args.listen));
            error.hint("choose another address: --listen 127.0.0.1:0")
        })?;
    let began = Checkpoint { height: trusted.height, hash: trusted.hash }.to_string();
    let value = json!({ "address": address.to_string(), "chain": trusted.chain.to_string(), "trusted_from": began });
    let text = || Some(format!("follows chain {} from {began}, answers at http://{address}", trusted.chain));
    context.out.line("started", &value, text)?;
    let conflict = tokio::select! {
        conflict = light.run() => conflict?,
        () = serving => return Err(CliError::new(Exit::Other, "the interface has ended").into()),
    };
    let path = evidence(args, &conflict)?;
    let message = format!("a quorum certified two different blocks of height {}", conflict.height());
    let hint =
        format!("both are in {}; trust no peer until it is clear what happened, and show the file", path.display());
    Err(CliError::new(Exit::Verification, message).hint(hint).into())
}

/// Writes both histories beside the state.
fn evidence(args: &Args, conflict: &Conflict) -> Result<PathBuf> {
    let path = args.state.with_file_name(format!("conflict-{}.json", conflict.height()));
    let side = |(headers, certificate): &(Vec<wire::Header>, wire::Certificate)| {
        let hashes: Vec<_> = headers.iter().map(|header| format!("{}:{}", header.height, header.hash())).collect();
        let signers: Vec<_> = certificate.signatures.iter().map(|signed| signed.index).collect();
        json!({ "headers": hashes, "certified": certificate.height.get(), "signers": signers,
            "bytes": hex::encode(wire::encode(&(headers, certificate))) })
    };
    let value =
        json!({ "format": "trullo-conflict-1", "first": side(&conflict.first), "second": side(&conflict.second) });
    std::fs::write(&path, format!("{value:#}\n")).with_context(|| format!("writing {}", path.display()))?;
    Ok(path)
}

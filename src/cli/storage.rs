//! `trullo storage`, `trullo file health` and `trullo renew`: how well files are kept.

use anyhow::Result;
use clap::{Args, Subcommand};
use serde::Serialize;

use super::context::{Context, NOTHING_CHANGED, block_on};
use super::errors::{CliError, Exit};
use super::files::{refuse_ended, resolve};
use super::output::{facts, short, size, table};
use super::{measured, sharing, terms};
use crate::api::measured::ConsensusMetricsView;
use crate::api::storage::{AuditView, DoneView, DrainRequest, EndingView, HealthView, RenewRequest, StorageHealthView};
use crate::api::views::{FileView, StorageView, TermsView};

const STATUS: &str = "Examples:
  trullo --home net/storage-1 storage status

Of the node in --home: what it offers and holds, and whether it is trusted. `holds` is what the ledger says, `on disk` what is
there; when a file is deleted or its deal ends, both go down, and `freed` says what came back since the node started.";

const METRICS: &str = "Examples:
  trullo storage metrics
  trullo storage metrics --json | jq .time_to_quorum

Uploads and the time to quorum in ms are those of this node since it started; all else is counted by the ledger since its
beginning, and is the same on every node.";

const AUDITS: &str = "Examples:
  trullo storage audits
  trullo storage audits --json | jq '.[] | select(.missed > 0)'

Each epoch the ledger asks every storage node for random pieces of what it holds. `finds 1 %` is how likely the answers so
far would have shown that 1 % of the node's bytes are gone.";

const HEALTH: &str = "Examples:
  trullo storage health

Files whose lost slots other nodes rebuild now; the most endangered stand first. A file that
holds more slots than its repair threshold is not among them: see `trullo file health`.
`annual loss` is the chance that a file is lost within a year, from the measured rate of node loss and
time of repair. It takes nodes to be lost independently of one another; what was never seen is given
as `below`.";

const LEAVE: &str = "Examples:
  trullo --home net/storage-1 storage leave
  trullo --home net/storage-1 storage leave --stay

The node takes no new slots, the others copy its slots, and `storage status` says when it holds nothing any more. Let it
run until then. --stay takes it back.";

const FILE_HEALTH: &str = "Examples:
  trullo file health photo.jpg
  trullo file health 3f9c0a41d2b7e685 --json

Lost slots are rebuilt by other nodes when as few are held as the file's repair threshold says;
then all of them are. Above it a lost slot is not rebuilt and not paid for; if its last holder
comes back with it, it counts again.
`annual loss` is the chance that the file is lost within a year while it is paid for; see
`trullo storage health --help`.";

const RENEW: &str = "Examples:
  trullo renew photo.jpg --epochs 1000
  trullo renew /docs --epochs 1000      # with all that is below

The price of the epochs is taken from the account at once; what storage nodes do not earn comes back when the deal ends.";

/// `trullo storage`.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Show what this storage node offers and holds
    #[command(after_long_help = STATUS)]
    Status,
    /// Show how each storage node has proven what it holds
    #[command(after_long_help = AUDITS)]
    Audits,
    /// Show the files that lack slots, and the nodes that are away
    #[command(after_long_help = HEALTH)]
    Health,
    /// Show uploads, time to quorum, availability, proofs and repair in numbers
    #[command(after_long_help = METRICS)]
    Metrics,
    /// Give this node's slots to others, before it goes
    #[command(after_long_help = LEAVE)]
    Leave {
        /// Take it back: hold slots again
        #[arg(long)]
        stay: bool,
    },
}

/// `trullo file`.
#[derive(Debug, Subcommand)]
pub enum FileVerb {
    /// Show how many slots of a file are held, and how many it needs
    #[command(after_long_help = FILE_HEALTH)]
    Health {
        /// The file: its id, the first digits of it, or its name
        file: String,
    },
    /// Read every slot of a file and compare it with the ledger
    Verify(sharing::VerifyArgs),
}

/// Arguments of `renew`.
#[derive(Debug, Args)]
#[command(after_long_help = RENEW)]
pub struct RenewArgs {
    /// The file: its id, the first digits of it, its name; or a path
    file: String,
    /// How many epochs longer it is kept
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    epochs: u32,
}

/// `storage status`: what the ledger says of the node, and what is on its disk.
#[derive(Serialize)]
struct OwnView {
    #[serde(flatten)]
    audit: AuditView,
    storage: Option<StorageView>,
}

/// Runs `trullo storage`.
pub fn run(context: &Context, verb: &Verb) -> Result<()> {
    let client = context.client()?;
    match verb {
        Verb::Status => {
            let (status, audits) = block_on(NOTHING_CHANGED, async {
                let audits: Vec<AuditView> = client.get("/v1/storage/audits").await?;
                Ok((client.status().await?, audits))
            })?;
            let own = audits.into_iter().find(|audit| audit.node == status.node).ok_or_else(|| {
                let hint = match (&status.storage, &status.account) {
                    (Some(_), Some(account)) => format!(
                        "it registers by itself once the ledger knows its account; a member sends that credits: trullo account transfer {account} 1"
                    ),
                    _ => "give --home of a storage node, or see `trullo storage audits`".to_owned(),
                };
                CliError::new(Exit::NotFound, "this node is no storage node of the ledger").hint(hint)
            })?;
            let own = OwnView { audit: own, storage: status.storage };
            context.out.result(&own, || describe(&own))?;
        }
        Verb::Audits => {
            let audits: Vec<AuditView> = block_on(NOTHING_CHANGED, client.get("/v1/storage/audits"))?;
            context.out.result(&audits, || audit_table(&audits))?;
        }
        Verb::Health => {
            let health: StorageHealthView = block_on(NOTHING_CHANGED, client.get("/v1/storage/health"))?;
            context.out.result(&health, || overview(&health))?;
        }
        Verb::Metrics => {
            let metrics: ConsensusMetricsView = block_on(NOTHING_CHANGED, client.get("/v1/metrics/consensus"))?;
            context.out.result(&metrics, || measured::overview(&metrics))?;
        }
        Verb::Leave { stay } => {
            let request = DrainRequest { drain: !stay };
            let done: DoneView = block_on(
                "it may still become final; see `trullo storage status`",
                client.post("/v1/storage/drain", &request),
            )?;
            context.out.result(&done, || match stay {
                true => format!("holds slots again since height {}", done.height),
                false => format!(
                    "leaving since height {}; let the node run until `trullo storage status` shows that it holds nothing",
                    done.height
                ),
            })?;
        }
    }
    Ok(())
}

/// Runs `trullo file`.
pub fn file(context: &Context, verb: &FileVerb) -> Result<()> {
    let file = match verb {
        FileVerb::Health { file } => file,
        FileVerb::Verify(args) => return sharing::verify(context, args),
    };
    let client = context.client()?;
    let health: HealthView = block_on(NOTHING_CHANGED, async {
        let file = resolve(&client, file).await?;
        refuse_ended(&file)?;
        client.get(&format!("/v1/files/{}/health", file.id)).await
    })?;
    context.out.result(&health, || {
        let held = format!("{} of {}, {} on nodes that answer", health.held, health.slots, health.answering);
        let spare = match health.spare {
            0.. => format!("{} more slots may be lost, or {} nodes", health.spare, health.spare_nodes),
            _ => "it cannot be read until nodes come back".to_owned(),
        };
        let lost: Vec<_> = health.lost.iter().map(u8::to_string).collect();
        let mut rows = vec![
            ("file", health.file.clone()),
            ("status", health.status.clone()),
            ("held", held),
            ("needed", format!("{}; {spare}", health.needed)),
            ("operators", health.operators.to_string()),
            ("lost slots", if lost.is_empty() { "none".to_owned() } else { lost.join(", ") }),
            ("repair", repair(&health)),
            ("full redundancy", measured::full_in(health.full_in_s)),
            ("annual loss", measured::loss(health.annual_loss)),
        ];
        rows.extend(terms::rows(&health.terms));
        facts(rows)
    })?;
    terms::warn(context, [(health.file.as_str(), &health.terms)]);
    Ok(())
}

/// What becomes of lost slots.
fn repair(health: &HealthView) -> String {
    let threshold = format!("others rebuild lost slots when {} or fewer are held", health.repair_threshold);
    match (health.repairing, health.lost.is_empty()) {
        (true, _) => format!("{threshold}: they do so now"),
        (false, true) => threshold,
        (false, false) => {
            format!(
                "{threshold}; until then these are neither rebuilt nor paid, and only their last holders may bring them back"
            )
        }
    }
}

/// What `renew` answers.
#[derive(Serialize)]
struct RenewedView {
    #[serde(flatten)]
    done: DoneView,
    #[serde(flatten)]
    terms: TermsView,
}

/// Runs `trullo renew`.
pub fn renew(context: &Context, args: &RenewArgs) -> Result<()> {
    if super::tree::is_remote(&args.file) {
        return super::tree::renew(context, &args.file, args.epochs);
    }
    let client = context.client()?;
    let renewed = block_on("it may still become final; see `trullo stat`", async {
        let file = resolve(&client, &args.file).await?;
        refuse_ended(&file)?;
        let request = RenewRequest { epochs: args.epochs };
        let done: DoneView = client.post(&format!("/v1/files/{}/renew", file.id), &request).await?;
        let file: FileView = client.get(&format!("/v1/files/{}/info", file.id)).await?;
        Ok(RenewedView { done, terms: file.terms })
    })?;
    let told = || format!("renewed at height {}: {}", renewed.done.height, terms::sentence(&renewed.terms));
    context.out.result(&renewed, told)?;
    Ok(())
}

fn describe(own: &OwnView) -> String {
    let OwnView { audit: own, storage } = own;
    let state = match (own.active, own.draining, own.used) {
        (false, ..) => "out: it missed its audits; it comes back by itself while it runs",
        (true, true, 0) => "left: it holds nothing any more and may be stopped",
        (true, true, _) => "leaving: others copy its slots",
        (true, false, _) => "active",
    };
    let mut rows = vec![
        ("node", format!("{} ({})", own.name, short(&own.node))),
        ("operator", own.operator.clone()),
        ("state", state.to_owned()),
        ("holds", format!("{} of {}", size(own.used), size(own.capacity))),
    ];
    if let Some(disk) = storage {
        rows.push(("on disk", format!("{} in {} slots", size(disk.used), disk.slots)));
        rows.push(("freed", format!("{} since the node started", size(disk.freed))));
    }
    rows.extend([
        ("audits", format!("{} passed, {} failed{}", own.passed, own.failed, if own.due { ", one due" } else { "" })),
        ("samples", format!("{} asked, {} answered, {} missed", own.asked, own.answered, own.missed)),
        ("reputation", format!("{} of 1000", own.reputation)),
    ]);
    facts(rows)
}

fn audit_table(audits: &[AuditView]) -> String {
    let percent = |odds: f64| format!("{:.1} %", odds * 100.0);
    let row = |audit: &AuditView| {
        let state = match (audit.active, audit.draining) {
            (false, _) => "out",
            (true, true) => "leaving",
            (true, false) => "active",
        };
        [
            audit.name.clone(),
            state.to_owned(),
            size(audit.used),
            audit.asked.to_string(),
            audit.answered.to_string(),
            audit.missed.to_string(),
            size(audit.bytes_proven),
            audit.reputation.to_string(),
            percent(audit.detection[0]),
            percent(audit.detection[1]),
            percent(audit.detection[2]),
        ]
    };
    let header = [
        "node",
        "state",
        "holds",
        "asked",
        "answered",
        "missed",
        "proven",
        "reputation",
        "finds 1 %",
        "finds 5 %",
        "finds 10 %",
    ];
    table(header, audits.iter().map(row))
}

fn overview(health: &StorageHealthView) -> String {
    let list = |names: &[String]| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    let usual = &health.usual;
    let mut rows = vec![
        ("nodes", format!("{} active", health.active)),
        ("away", list(&health.away)),
        ("leaving", list(&health.draining)),
        ("holds", format!("{} of {}", size(health.used), size(health.capacity))),
    ];
    rows.extend(measured::rows(&health.measured));
    let annual = measured::loss(usual.annual_loss);
    rows.push(("annual loss", format!("{annual}, of a file with {} + {} slots", usual.data, usual.parity)));
    rows.push(("files in danger", health.endangered.len().to_string()));
    rows.push(("ending soon", health.ending.len().to_string()));
    let mut text = facts(rows);
    if !health.endangered.is_empty() {
        let row = |file: &HealthView| {
            let lost: Vec<_> = file.lost.iter().map(u8::to_string).collect();
            [
                short(&file.file),
                format!("{} of {}", file.answering, file.slots),
                file.needed.to_string(),
                file.spare.to_string(),
                lost.join(" "),
                measured::full_in(file.full_in_s),
                measured::loss(file.annual_loss),
            ]
        };
        let header = ["file", "held", "needed", "spare", "lost slots", "full again", "annual loss"];
        text = format!("{text}\n{}", table(header, health.endangered.iter().map(row)));
    }
    if !health.ending.is_empty() {
        let row = |file: &EndingView| [short(&file.file), file.epochs_left.to_string(), file.ends.to_string()];
        let list = table(["ends soon", "epochs left", "height"], health.ending.iter().map(row));
        text = format!("{text}\n{list}\nkeep one: trullo renew FILE --epochs N\n");
    }
    text
}

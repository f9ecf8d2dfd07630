//! `trullo storage`, `trullo file health` and `trullo renew`: how well files are kept.

use anyhow::Result;
use clap::{Args, Subcommand};

use super::context::{Context, NOTHING_CHANGED, block_on};
use super::errors::{CliError, Exit};
use super::files::{refuse_ended, resolve};
use super::output::{facts, short, size, table};
use crate::api::storage::{AuditView, DoneView, DrainRequest, HealthView, RenewRequest, StorageHealthView};

const STATUS: &str = "Examples:
  trullo --home net/storage-1 storage status

Of the node in --home: what it offers and holds, and whether it is trusted.";

const AUDITS: &str = "Examples:
  trullo storage audits
  trullo storage audits --json | jq '.[] | select(.missed > 0)'

Each epoch the ledger asks every storage node for random pieces of what it holds. `finds 1 %` is how likely the answers so
far would have shown that 1 % of the node's bytes are gone.";

const HEALTH: &str = "Examples:
  trullo storage health

Files whose lost slots other nodes rebuild now; the most endangered stand first. A file that
holds more slots than its repair threshold is not among them: see `trullo file health`.";

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
comes back with it, it counts again.";

const RENEW: &str = "Examples:
  trullo renew photo.jpg --epochs 1000

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
}

/// Arguments of `renew`.
#[derive(Debug, Args)]
#[command(after_long_help = RENEW)]
pub struct RenewArgs {
    /// The file: its id, the first digits of it, or its name
    file: String,
    /// How many epochs longer it is kept
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    epochs: u32,
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
                CliError::new(Exit::NotFound, "this node is no storage node of the ledger")
                    .hint("give --home of a storage node, or see `trullo storage audits`")
            })?;
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
    let FileVerb::Health { file } = verb;
    let client = context.client()?;
    let health: HealthView = block_on(NOTHING_CHANGED, async {
        let file = resolve(&client, file).await?;
        client.get(&format!("/v1/files/{}/health", file.id)).await
    })?;
    context.out.result(&health, || {
        let held = format!("{} of {}, {} on nodes that answer", health.held, health.slots, health.answering);
        let spare = match health.spare {
            0.. => format!("{} more slots may be lost", health.spare),
            _ => "it cannot be read until nodes come back".to_owned(),
        };
        let lost: Vec<_> = health.lost.iter().map(u8::to_string).collect();
        facts([
            ("file", health.file.clone()),
            ("status", health.status.clone()),
            ("held", held),
            ("needed", format!("{}; {spare}", health.needed)),
            ("operators", health.operators.to_string()),
            ("lost slots", if lost.is_empty() { "none".to_owned() } else { lost.join(", ") }),
            ("repair", repair(&health)),
            ("ends", format!("height {}; {} credits in escrow", health.ends, health.escrow)),
        ])
    })?;
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

/// Runs `trullo renew`.
pub fn renew(context: &Context, args: &RenewArgs) -> Result<()> {
    let client = context.client()?;
    let done: DoneView = block_on("it may still become final; see `trullo stat`", async {
        let file = resolve(&client, &args.file).await?;
        refuse_ended(&file)?;
        client.post(&format!("/v1/files/{}/renew", file.id), &RenewRequest { epochs: args.epochs }).await
    })?;
    context.out.result(&done, || format!("renewed at height {}", done.height))?;
    Ok(())
}

fn describe(own: &AuditView) -> String {
    let state = match (own.active, own.draining, own.used) {
        (false, ..) => "out: it missed its audits; it comes back by itself while it runs",
        (true, true, 0) => "left: it holds nothing any more and may be stopped",
        (true, true, _) => "leaving: others copy its slots",
        (true, false, _) => "active",
    };
    facts([
        ("node", format!("{} ({})", own.name, short(&own.node))),
        ("operator", own.operator.clone()),
        ("state", state.to_owned()),
        ("holds", format!("{} of {}", size(own.used), size(own.capacity))),
        ("audits", format!("{} passed, {} failed{}", own.passed, own.failed, if own.due { ", one due" } else { "" })),
        ("samples", format!("{} asked, {} answered, {} missed", own.asked, own.answered, own.missed)),
        ("reputation", format!("{} of 1000", own.reputation)),
    ])
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
    let head = facts([
        ("nodes", format!("{} active", health.active)),
        ("away", list(&health.away)),
        ("leaving", list(&health.draining)),
        ("holds", format!("{} of {}", size(health.used), size(health.capacity))),
        ("files in danger", health.endangered.len().to_string()),
    ]);
    if health.endangered.is_empty() {
        return head;
    }
    let row = |file: &HealthView| {
        let lost: Vec<_> = file.lost.iter().map(u8::to_string).collect();
        [
            short(&file.file),
            format!("{} of {}", file.answering, file.slots),
            file.needed.to_string(),
            file.spare.to_string(),
            lost.join(" "),
        ]
    };
    format!("{head}\n{}", table(["file", "held", "needed", "spare", "lost slots"], health.endangered.iter().map(row)))
}

//! `trullo validator`: stakes, the quorum, and a node's way into the validators and out of them.

use anyhow::Result;
use clap::{Args, Subcommand};

use super::context::{Context, NOTHING_CHANGED, block_on};
use super::errors::{CliError, Exit};
use super::output::{age, facts, short, table};
use super::signing;
use crate::api::validator::{
    JoinRequest, OfNodeRequest, OutlookView, ProtocolView, QuorumView, ReadyRequest, RotateRequest, StakeView,
    ValidatorStatusView,
};

const STATUS: &str = "Examples:
  trullo validator status
  trullo validator status --json | jq '.stakes[] | select(.state == \"waiting\")'

States: active (votes), waiting (for its turn), leaving (votes until the set without it begins), unbonding (out; the
stake comes back with the epoch shown), jailed (out; see `validator unjail`), punished (it contradicted itself, lost a
part of its stake and never votes with the rest; `validator leave` gives that back). The node in --home is marked.";

const JOIN: &str = "Examples:
  trullo --home ~/net validator join --stake 5000 --dry-run
  trullo --home ~/net validator join --stake 5000
  trullo --home ~/net validator join --stake 0        # takes back a wish to leave

The credits are taken from the account of --home and stay behind its node; the node is registered as a validator
if it is not. Wishes are looked at with the last block of an epoch: of all power a third comes at most with one
epoch, the oldest wish first, and what is more follows with later ones. A node whose registration changed its hash
chain begins two epochs later. Keep it running: when its power counts, its silence counts too.
Exit 6: the node is behind; let it catch up first. Exit 8: refused, with the reason. Exit 9: nothing would change.";

const LEAVE: &str = "Examples:
  trullo --home net/validator-4 validator leave --dry-run
  trullo --home net/validator-4 validator leave
  trullo validator leave --node NODE_ID      # another node of the account, also a dead one

The node votes until the set without it begins: let it run until `validator status` shows it as unbonding. With one
epoch a third of the power goes at most, and one validator always stays. The stake comes back some epochs later.";

const ROTATE: &str = "Examples:
  trullo --home ~/old account phrase
  trullo --home ~/new init --name v4b --role validator --genesis genesis.json --recover
  trullo --home ~/new node run
  trullo --home ~/new validator rotate-key --from OLD_NODE_ID --dry-run
  trullo --home ~/new validator rotate-key --from OLD_NODE_ID

The node in --home takes the place of the old one at the end of an epoch, with its stake and power; both are of the
same account. Let both run until then; the old key is not used again. No key and no record of votes is copied, so
nothing can be signed twice.";

const UNJAIL: &str = "Examples:
  trullo --home net/validator-4 validator unjail --dry-run
  trullo --home net/validator-4 validator unjail

Exit 8: it is not in jail, or has to stay there until the epoch that `validator status` shows.";

const SIGNING: &str = "Examples:
  trullo --home net/validator-1 validator signing export state.json
  trullo --home ~/restored validator signing import state.json
  trullo --home ~/restored validator signing release --yes";

const QUORUM: &str = "Examples:
  trullo validator quorum
  trullo validator quorum --json | jq .faults

N is the power of all validators. f may fail or lie without harm: less than a third. More than 2N/3 make a block
final. More than N/2 would be enough if validators could only crash: this network does not rely on that.";

const UPGRADE: &str = "Examples:
  trullo validator upgrade                          # the rules in force, and what comes
  trullo --home net/validator-1 validator upgrade --to 2 --dry-run
  trullo --home net/validator-1 validator upgrade --to 2

First every node gets the new program, one after another: it follows the old rules as before. Then validators say
that they are ready. When more than two thirds of the power are, one epoch is the notice, and the next one begins
with the new rules, at the height that this command shows. A program that does not know them stops there (exit 13)
and goes on when it is replaced by one that does; it loses nothing.
Exit 8: this program does not know that version.";

const EVIDENCE: &str = "Examples:
  trullo validator evidence
  trullo evidence export NODE_ID -o evidence.json
  trullo evidence verify evidence.json

The same as `trullo evidence list`.";

/// `trullo validator`.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Show validators and candidates with their stakes
    #[command(after_long_help = STATUS)]
    Status,
    /// Put credits behind this node, so that it becomes a validator or a weightier one
    #[command(after_long_help = JOIN)]
    Join {
        /// Credits to add to its stake
        #[arg(long)]
        stake: u64,
        /// How to ask
        #[command(flatten)]
        trial: Trial,
    },
    /// Ask for a validator's way out
    #[command(after_long_help = LEAVE)]
    Leave(OfNode),
    /// Let this node take the place of another one of the account
    #[command(after_long_help = ROTATE)]
    RotateKey {
        /// The node whose place it takes
        #[arg(long, value_name = "NODE_ID")]
        from: String,
        /// How to ask
        #[command(flatten)]
        trial: Trial,
    },
    /// Ask for the end of a validator's time in jail
    #[command(after_long_help = UNJAIL)]
    Unjail(OfNode),
    /// Show the version of the rules, or say that this validator is ready for a later one
    #[command(after_long_help = UPGRADE)]
    Upgrade {
        /// The version that it is ready for
        #[arg(long, value_name = "VERSION")]
        to: Option<u16>,
        /// How to ask
        #[command(flatten)]
        trial: Trial,
    },
    /// Show who was punished, for what, and where the proof is
    #[command(after_long_help = EVIDENCE)]
    Evidence,
    /// Show how much power makes a block final, and how much may fail
    #[command(after_long_help = QUORUM)]
    Quorum,
    /// What the node's key has signed, and whether it may
    #[command(subcommand, after_long_help = SIGNING)]
    Signing(signing::Verb),
}

/// Whether anything is to happen.
#[derive(Debug, Args)]
pub struct Trial {
    /// Say what would change and at which height, and do nothing
    #[arg(long)]
    dry_run: bool,
}

/// A node of the account.
#[derive(Debug, Args)]
pub struct OfNode {
    /// Another node of the same account; by default the one in --home
    #[arg(long, value_name = "NODE_ID")]
    node: Option<String>,
    /// How to ask
    #[command(flatten)]
    trial: Trial,
}

impl OfNode {
    fn request(&self) -> OfNodeRequest {
        OfNodeRequest { node: self.node.clone(), dry_run: self.trial.dry_run }
    }
}

/// Runs `trullo validator`.
pub fn run(context: &Context, verb: &Verb) -> Result<()> {
    if let Verb::Signing(verb) = verb {
        return signing::run(context, verb);
    }
    let client = context.client()?;
    let kept = "it may still become final; see `trullo validator status`";
    let status = || block_on(NOTHING_CHANGED, client.get::<ValidatorStatusView>("/v1/validator/status"));
    let outlook: OutlookView = match verb {
        Verb::Status => {
            let status = status()?;
            context.out.result(&status, || overview(&status))?;
            return Ok(());
        }
        Verb::Upgrade { to: None, .. } => {
            let status = status()?;
            context.out.result(&status.protocol, || protocol(&status))?;
            return Ok(());
        }
        Verb::Upgrade { to: Some(version), trial } => {
            let request = ReadyRequest { version: *version, dry_run: trial.dry_run };
            let _: OutlookView = block_on(kept, client.post("/v1/validator/ready", &request))?;
            let status = status()?;
            context.out.result(&status.protocol, || protocol(&status))?;
            return Ok(());
        }
        Verb::Evidence => return super::evidence::list(context),
        Verb::Quorum => {
            let quorum = status()?.quorum;
            context.out.result(&quorum, || facts(quorum_rows(&quorum)))?;
            return Ok(());
        }
        Verb::Join { stake, trial } => {
            let request = JoinRequest { stake: *stake, dry_run: trial.dry_run };
            if request.stake == 0 {
                refuse_nothing(&status()?)?;
            }
            block_on(kept, client.post("/v1/validator/join", &request))?
        }
        Verb::Leave(of) => block_on(kept, client.post("/v1/validator/leave", &of.request()))?,
        Verb::RotateKey { from, trial } => {
            let request = RotateRequest { from: from.clone(), dry_run: trial.dry_run };
            block_on(kept, client.post("/v1/validator/rotate-key", &request))?
        }
        Verb::Unjail(of) => block_on(kept, client.post("/v1/validator/unjail", &of.request()))?,
        // Needs no running node.
        Verb::Signing(_) => return Ok(()),
    };
    context.out.result(&outlook, || describe(&outlook))?;
    Ok(())
}

/// Without credits there is something to do only for who leaves. Errors: exit 9.
fn refuse_nothing(status: &ValidatorStatusView) -> Result<()> {
    let own = status.stakes.iter().find(|stake| stake.node == status.node);
    match own {
        Some(own) if matches!(own.state.as_str(), "active" | "waiting") => {
            let error = CliError::new(Exit::Nothing, format!("the node is {} and adds no credits", own.state));
            Err(error.hint("give --stake more than 0 to add to its stake").into())
        }
        _ => Ok(()),
    }
}

fn quorum_rows(quorum: &QuorumView) -> Vec<(&'static str, String)> {
    vec![
        ("validators", quorum.validators.to_string()),
        ("power N", quorum.power.to_string()),
        ("may fail f", quorum.faults.to_string()),
        ("quorum", format!("{}, more than 2N/3", quorum.quorum)),
        ("crash-only", format!("{}, more than N/2: if nobody could lie", quorum.crash_quorum)),
    ]
}

fn protocol(status: &ValidatorStatusView) -> String {
    let ProtocolView { version, known, next, from_height } = &status.protocol;
    let mut rows =
        vec![("rules", format!("version {version}")), ("this program", format!("knows up to version {known}"))];
    if let (Some(next), Some(height)) = (next, from_height) {
        let late = if next > known { "; update this program before" } else { "" };
        rows.push(("next", format!("version {next} from height {height} on{late}")));
    }
    let row = |stake: &StakeView| {
        [
            stake.name.clone().unwrap_or_default(),
            stake.power.to_string(),
            stake.ready.max(1).to_string(),
            short(&stake.node),
        ]
    };
    format!("{}\n{}", facts(rows), table(["name", "power", "ready for", "node"], status.stakes.iter().map(row)))
}

fn state_of(stake: &StakeView) -> String {
    if stake.punished {
        let returns = stake.returns_epoch.map(|epoch| format!(", unbonding until epoch {epoch}"));
        return format!("punished{}", returns.unwrap_or_default());
    }
    match (stake.returns_epoch, stake.jailed_until_epoch) {
        (_, Some(until)) => format!("jailed until epoch {until} at least"),
        (Some(returns), None) => format!("unbonding until epoch {returns}"),
        (None, None) if stake.successor.is_some() => format!("{}, gets a new key", stake.state),
        (None, None) => stake.state.clone(),
    }
}

fn overview(status: &ValidatorStatusView) -> String {
    let mut rows = vec![
        ("height", format!("{}, in epoch {}", status.height, status.epoch)),
        ("next change", format!("after block {}, at most {} of the power each way", status.looked_at, status.step)),
        ("stake", format!("{} credits for one unit of power", status.stake_unit)),
        ("unbonding", format!("{} epochs", status.unbonding_epochs)),
    ];
    rows.extend(status.signing.clone().map(|why| ("signs nothing", why)));
    rows.extend(quorum_rows(&status.quorum));
    let row = |stake: &StakeView| {
        let name = stake.name.clone().unwrap_or_default();
        let mark = if stake.node == status.node { "* " } else { "" };
        [
            format!("{mark}{name}"),
            match stake.away_since_ms {
                Some(since) => format!("{}, away for {}", state_of(stake), age(status.time_ms.saturating_sub(since))),
                None => state_of(stake),
            },
            stake.power.to_string(),
            stake.wanted_power.to_string(),
            stake.stake.to_string(),
            stake.missed_epochs.to_string(),
            stake.reputation.to_string(),
            short(&stake.node),
        ]
    };
    let header = ["name", "state", "power", "wanted", "stake", "missed", "reputation", "node"];
    format!("{}\n{}", facts(rows), table(header, status.stakes.iter().map(row)))
}

fn describe(outlook: &OutlookView) -> String {
    let from_to = |name, now: String, then: String| (name, if now == then { now } else { format!("{now} → {then}") });
    let mut rows = vec![("node", outlook.node.clone())];
    match outlook.height {
        Some(height) => rows.push(("final at", format!("height {height}"))),
        None => rows.push(("dry run", "nothing was done".to_owned())),
    }
    if outlook.registers {
        rows.push(("registration", "as a validator, in a transaction before".to_owned()));
    }
    let (now, then) = (&outlook.quorum_now, &outlook.quorum_then);
    let stays = outlook.power_now == outlook.power_then;
    let waits = stays && outlook.stake.as_ref().is_some_and(|stake| stake.power != stake.wanted_power);
    rows.push(match waits {
        true => ("acts", "not soon, as things stand: one validator stays, and the oldest wish goes first".to_owned()),
        false => ("acts from", format!("height {}, after block {}", outlook.acts_from, outlook.looked_at)),
    });
    rows.push(from_to("power", outlook.power_now.to_string(), outlook.power_then.to_string()));
    if let Some(stake) = &outlook.stake {
        rows.push(("stake", format!("{} credits", stake.stake)));
        rows.push(("state then", state_of(stake)));
        if stake.power != stake.wanted_power {
            rows.push(("later", format!("power {}", stake.wanted_power)));
        }
    }
    rows.push(from_to("validators", now.validators.to_string(), then.validators.to_string()));
    rows.push(from_to("power of all", now.power.to_string(), then.power.to_string()));
    rows.push(from_to("quorum", now.quorum.to_string(), then.quorum.to_string()));
    rows.push(from_to("may fail f", now.faults.to_string(), then.faults.to_string()));
    facts(rows)
}

//! `trullo share`, `unshare`, `shares`, `cap` and `file verify`: files and other accounts.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;
use reqwest::Method;
use serde::Serialize;
use zeroize::Zeroizing;

use super::account;
use super::client::Client;
use super::context::{Context, NOTHING_CHANGED, block_on};
use super::errors::{CliError, Exit};
use super::files::{is_id, refuse_ended, resolve, resolve_readable};
use super::output::{facts, short, size, table};
use crate::api::sharing::{
    CAPABILITY_HEADER, CapRequest, CapView, ShareRequest, ShareView, SharedPageView, SharedView, VerifyRequest,
    VerifyView,
};
use crate::api::storage::DoneView;
use crate::api::views::FileView;
use crate::files::Capability;
use crate::files::capability::TEXT_BYTES_MAX;
use crate::node::home::read_secret;

const SHARE: &str = "Examples:
  trullo share photo.jpg \\
    9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
  trullo share photo.jpg --expires 7d \\
    9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08

That account lists the file with `ls --shared` and reads it with `get`, on its own node. Sharing
it again takes the place of what was said before. A file is shared with at most 64 accounts. All
shares end with the file's deal. Time on the ledger is blocks: --expires is turned into a height
at the mean pace of blocks so far, and the network may be faster or slower. Everybody can see on
the ledger which account shares which file with which; not its name, not its content.";

const UNSHARE: &str = "Examples:
  trullo unshare photo.jpg \\
    9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
  trullo unshare 3f9c0a41d2b7e685 me      # takes a file that was shared with you off your list

Nodes no longer give the file's key to that account, so it can neither list nor get the file
through them any more. Whoever has read the file may have kept it, or its key, and the sealed key
stays in the blocks of the past: to keep the content from them from now on, put the file again
under a new key and remove this one.";

const SHARES: &str = "Examples:
  trullo shares
  trullo shares photo.jpg
  trullo shares --json | jq .mine

What you share, with whom and until when; and what others share with you.";

const CAP: &str = "Examples:
  trullo cap photo.jpg > photo.cap
  trullo cap photo.jpg --verify

A read capability is one string with the file's id and key. Whoever has it reads the file with any
account, and it cannot be taken back: send it over a channel that you trust. It reads as long as
the file is kept. With --verify it is no secret: it lets others check that every slot is there and
right, and reads nothing.";

const VERIFY: &str = "Examples:
  trullo file verify photo.jpg
  trullo file verify trullo-verify-aeaqcaibaeaqcaibaeaqcaibaeaqcaibaeaqcaibaeaqcaibaeaqztgbxy
  trullo file verify 3f9c0a41d2b7e685 --repair --timeout 10m

Reads every slot from the node that holds it, compares each byte with the root on the ledger, and
computes from as many slots as restore the file whether all belong together. Needs no key: with a
verify capability or the whole id, any account's file. A node that finds its slot damaged when it
is read sets it aside and brings it again by itself, and what is lost others rebuild. --repair
waits for that, and looks again until all is whole. Exit 7 if the file is not whole.";

/// How long `--repair` waits.
const REPAIR_WITHIN: &str = "5m";
/// A capability file has one line.
const CAP_FILE_BYTES_MAX: u64 = 4 << 10;
/// Pages of `GET /v1/shared` that a list takes in: strangers may fill it.
const PAGES_MAX: usize = 64;
/// What an interrupted change leaves behind.
const MAY_BE: &str = "it may still become final; see `trullo shares`";

/// Arguments of `share`.
#[derive(Debug, Args)]
#[command(after_long_help = SHARE)]
pub struct ShareArgs {
    /// The file: its id, the first digits of it, or its name
    file: String,
    /// Who may read it: an account's id, or the name of an account of this home
    account: String,
    /// After how long the share is over, e.g. 7d or 12h; default: when the file's deal ends
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    expires: Option<Duration>,
    /// The same as a height: the last one at which the share counts
    #[arg(long, value_name = "HEIGHT", conflicts_with = "expires")]
    until: Option<u64>,
}

/// Arguments of `unshare`.
#[derive(Debug, Args)]
#[command(after_long_help = UNSHARE)]
pub struct UnshareArgs {
    /// The file: its id, the first digits of it, or its name
    file: String,
    /// Who may no longer read it: an account's id, the name of an account of this home, or `me`
    account: String,
}

/// Arguments of `shares`.
#[derive(Debug, Args)]
#[command(after_long_help = SHARES)]
pub struct SharesArgs {
    /// Only this file of yours
    file: Option<String>,
}

/// Arguments of `cap`.
#[derive(Debug, Args)]
#[command(after_long_help = CAP)]
pub struct CapArgs {
    /// The file: its id, the first digits of it, or its name
    file: String,
    /// A capability that checks the file and cannot read it
    #[arg(long)]
    verify: bool,
}

/// Arguments of `file verify`.
#[derive(Debug, Args)]
#[command(after_long_help = VERIFY)]
pub struct VerifyArgs {
    /// The file: a verify capability, its id, the first digits of it, or its name
    file: String,
    /// Wait until what is not whole is repaired
    #[arg(long)]
    repair: bool,
    /// How long to wait for that, e.g. 10m
    #[arg(long, value_name = "TIME", requires = "repair", value_parser = humantime::parse_duration,
          default_value = REPAIR_WITHIN)]
    timeout: Duration,
}

/// What was shared.
#[derive(Serialize)]
struct SharedDone {
    file_id: String,
    account: String,
    tx: String,
    height: u64,
}

/// `shares`.
#[derive(Serialize)]
struct SharesOut {
    mine: Vec<ShareView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    with_me: Option<Vec<SharedView>>,
}

/// Shares a file.
pub fn share(context: &Context, args: &ShareArgs) -> Result<()> {
    let client = context.client()?;
    let account = account::id(context, &args.account)?;
    let expires_s = args.expires.map(|expires| expires.as_secs());
    if args.expires.is_some_and(|expires| expires < Duration::from_secs(1)) {
        return Err(CliError::new(Exit::Usage, "a share lasts a second or more").hint("e.g. --expires 7d").into());
    }
    let request = ShareRequest { until: args.until, expires_s };
    let (file, done): (FileView, DoneView) = block_on(MAY_BE, async {
        let account = if account == "me" { me(&client).await? } else { account.clone() };
        let file = resolve(&client, &args.file).await?;
        refuse_ended(&file)?;
        let path = format!("/v1/files/{}/shares/{account}", file.id);
        let done = client.json(client.request(Method::PUT, &path).json(&request)).await?;
        Ok((file, done))
    })?;
    let name = file.name.unwrap_or_else(|| short(&file.id));
    let text = || format!("{name} is shared with {account} since height {}", done.height);
    let value = SharedDone { file_id: file.id, account: account.clone(), tx: done.tx.clone(), height: done.height };
    context.out.result(&value, text)?;
    Ok(())
}

/// Takes a share back.
pub fn unshare(context: &Context, args: &UnshareArgs) -> Result<()> {
    let client = context.client()?;
    let account = account::id(context, &args.account)?;
    let (file, account, done): (FileView, String, DoneView) = block_on(MAY_BE, async {
        let account = if account == "me" { me(&client).await? } else { account };
        let file = resolve_readable(&client, &args.file).await?;
        let path = format!("/v1/files/{}/shares/{account}", file.id);
        let done = client.json(client.request(Method::DELETE, &path)).await?;
        Ok((file, account, done))
    })?;
    let name = file.name.unwrap_or_else(|| short(&file.id));
    let text = || format!("{name} is not shared with {account} any more since height {}", done.height);
    let value = SharedDone { file_id: file.id, account: account.clone(), tx: done.tx.clone(), height: done.height };
    context.out.result(&value, text)?;
    context.out.say("whoever has read it may have kept its key; a new key needs a new put");
    Ok(())
}

/// Lists shares in both directions.
pub fn shares(context: &Context, args: &SharesArgs) -> Result<()> {
    let client = context.client()?;
    let all = block_on(NOTHING_CHANGED, async {
        match &args.file {
            Some(file) => {
                let file = resolve(&client, file).await?;
                let mut mine: Vec<ShareView> = client.get(&format!("/v1/files/{}/shares", file.id)).await?;
                mine.iter_mut().for_each(|share| share.name.clone_from(&file.name));
                Ok(SharesOut { mine, with_me: None })
            }
            None => {
                let mine = client.get("/v1/shares").await?;
                Ok(SharesOut { mine, with_me: Some(shared_with_me(context, &client).await?) })
            }
        }
    })?;
    context.out.result(&all, || {
        let until = |over: bool, height: Option<u64>, seconds: Option<u64>| match (over, height) {
            (true, Some(height)) => format!("over since height {height}"),
            (false, Some(height)) => format!("height {height}, in about {}", roughly(seconds.unwrap_or(0))),
            (_, None) => "the deal's end".to_owned(),
        };
        let mine = all.mine.iter().map(|share| {
            let name = share.name.clone().unwrap_or_default();
            [short(&share.file), name, share.account.clone(), until(share.over, share.until, share.until_in_s)]
        });
        let mut text = table(["mine", "name", "shared with", "until"], mine);
        if let Some(list) = &all.with_me {
            let rows = list.iter().map(|file| {
                let name = file.name.clone().unwrap_or_default();
                [short(&file.file), name, file.owner.clone(), until(false, file.until, file.until_in_s)]
            });
            text = format!("{text}\n{}", table(["with me", "name", "shared by", "until"], rows));
        }
        text
    })?;
    Ok(())
}

/// `ls --shared`.
pub fn list_shared(context: &Context) -> Result<()> {
    let client = context.client()?;
    let files = block_on(NOTHING_CHANGED, shared_with_me(context, &client))?;
    context.out.result(&files, || {
        let row = |file: &SharedView| {
            let bytes = file.bytes.map(size).unwrap_or_default();
            let until = file.until.map_or_else(|| "the deal's end".to_owned(), |height| format!("height {height}"));
            let name = file.name.clone().unwrap_or_default();
            [short(&file.file), file.status.to_string(), bytes, short(&file.owner), until, name]
        };
        table(["id", "status", "size", "shared by", "until", "name"], files.iter().map(row))
    })?;
    Ok(())
}

/// All that is shared with the node's account, up to a bound.
pub async fn shared_with_me(context: &Context, client: &Client) -> Result<Vec<SharedView>> {
    let mut all = Vec::new();
    let mut page: SharedPageView = client.get("/v1/shared").await?;
    for _ in 1..PAGES_MAX {
        all.append(&mut page.files);
        let Some(next) = &page.next else { return Ok(all) };
        page = client.get(&format!("/v1/shared?after={next}")).await?;
    }
    all.append(&mut page.files);
    if page.next.is_some() {
        context.out.say("more is shared with you than is listed here; end what you do not want: trullo unshare ID me");
    }
    Ok(all)
}

/// Prints a capability.
pub fn cap(context: &Context, args: &CapArgs) -> Result<()> {
    let client = context.client()?;
    let request = CapRequest { verify: args.verify };
    let cap: CapView = block_on(NOTHING_CHANGED, async {
        let file = resolve_readable(&client, &args.file).await?;
        refuse_ended(&file)?;
        client.post(&format!("/v1/files/{}/cap", file.id), &request).await
    })?;
    if !args.verify {
        context.out.say("whoever has this line reads the file, and that cannot be taken back");
    }
    context.out.result(&cap, || cap.capability.clone())?;
    Ok(())
}

/// Checks a file slot by slot.
pub fn verify(context: &Context, args: &VerifyArgs) -> Result<()> {
    let client = context.client()?;
    let repair_s = if args.repair { args.timeout.as_secs().max(1) } else { 0 };
    let report: VerifyView = block_on(NOTHING_CHANGED, async {
        let id = match Capability::is_meant(&args.file) {
            true => parsed(&args.file)?.file().to_string(),
            false if is_id(&args.file) => args.file.clone(),
            false => resolve_readable(&client, &args.file).await?.id,
        };
        // Reading all of a file takes as long as it takes.
        let request = client.request(Method::POST, &format!("/v1/files/{id}/verify"));
        client.json(request.json(&VerifyRequest { repair_s })).await
    })?;
    context.out.result(&report, || describe(&report))?;
    if report.whole {
        return Ok(());
    }
    let right = report.slots.iter().filter(|slot| slot.state == "whole").count();
    let message = match report.consistent {
        Some(false) => {
            format!("the slots of file {} do not belong together: its owner put it wrong", short(&report.file))
        }
        _ => format!("{right} of the {} slots of file {} are whole", report.slots.len(), short(&report.file)),
    };
    let error = CliError::new(Exit::Verification, message);
    let hint = match args.repair {
        true => "see `trullo file health` and `trullo storage health` for what repair waits for",
        false => "nodes repair what they find damaged or lost; --repair waits for it",
    };
    Err(error.hint(hint).into())
}

fn describe(report: &VerifyView) -> String {
    let consistent = match report.consistent {
        Some(true) => "yes: all slots follow from any that restore the file",
        Some(false) => "no: the slots do not belong together",
        None => "not known: too few slots can be read",
    };
    let whole = report.slots.iter().filter(|slot| slot.state == "whole").count();
    let rows = [
        ("file", report.file.clone()),
        ("whole slots", format!("{whole} of {}; {} restore it", report.slots.len(), report.needed)),
        ("consistent", consistent.to_owned()),
    ];
    let slots = report.slots.iter().map(|slot| {
        let node = slot.node_name.clone().unwrap_or_else(|| short(&slot.node));
        let state = slot.state.replace('_', " ");
        [slot.slot.to_string(), node, state, slot.reason.clone().unwrap_or_default()]
    });
    format!("{}\n{}", facts(rows), table(["slot", "node", "state", "reason"], slots))
}

/// A capability with its text, as it is sent to the node.
pub struct Brought {
    capability: Capability,
    text: Zeroizing<String>,
}

impl Brought {
    /// What was typed, if it is meant as a capability. Errors: exit 2 for one that is damaged, or that reads nothing.
    pub fn typed(context: &Context, text: &str) -> Result<Option<Self>> {
        if !Capability::is_meant(text) {
            return Ok(None);
        }
        let brought = Self::of(text)?;
        // A warning would be on stdout with --json, where the bytes may be.
        context.out.say(
            "note: while this runs, others on this machine may see the capability in the list of processes; --cap-file hides it",
        );
        Ok(Some(brought))
    }
    /// The one in a private file, or on stdin. Errors: exit 2, 12 when others can read the file.
    pub fn read(path: &Path) -> Result<Self> {
        if path == Path::new("-") {
            let mut text = Zeroizing::new(String::new());
            let read = std::io::stdin().take(CAP_FILE_BYTES_MAX).read_to_string(&mut text);
            read.context("reading the capability from stdin")?;
            return Self::of(&text);
        }
        Self::of(&read_secret(path)?)
    }
    fn of(text: &str) -> Result<Self> {
        let capability = parsed(text)?;
        if matches!(capability, Capability::Verify { .. }) {
            let error = CliError::new(Exit::Denied, "a verify capability checks a file and reads nothing");
            return Err(error
                .hint("trullo file verify CAP; to read, ask the file's owner for a read capability")
                .into());
        }
        let text = capability.text();
        Ok(Self { capability, text })
    }
    /// The request with it.
    pub fn on(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        let mut value = reqwest::header::HeaderValue::from_str(&self.text).expect("base32 is a header's value");
        value.set_sensitive(true);
        request.header(CAPABILITY_HEADER, value)
    }
    /// Its file. Errors: what the node says.
    pub async fn file(&self, client: &Client) -> Result<FileView> {
        let path = format!("/v1/files/{}/info", self.capability.file());
        client.json(self.on(client.request(Method::GET, &path))).await
    }
}

fn parsed(text: &str) -> Result<Capability> {
    let start: String = text.trim().chars().take(TEXT_BYTES_MAX + 1).collect();
    let wrong = |error: crate::files::CapabilityError| CliError::new(Exit::Usage, error.to_string());
    Ok(Zeroizing::new(start).parse().map_err(wrong)?)
}

/// A time for reading, no more precise than the pace of blocks is.
fn roughly(seconds: u64) -> String {
    let unit = [24 * 3_600, 3_600, 60].into_iter().find(|unit| seconds >= 2 * unit).unwrap_or(1);
    humantime::format_duration(Duration::from_secs(seconds - seconds % unit)).to_string()
}

async fn me(client: &Client) -> Result<String> {
    let status = client.status().await?;
    status.account.ok_or_else(|| CliError::new(Exit::Denied, "the node was started without an account").into())
}

/// Where `get` finds its capability.
pub fn brought(context: &Context, typed: Option<&str>, file: Option<&PathBuf>) -> Result<Option<Brought>> {
    match (file, typed) {
        (Some(path), _) => Brought::read(path).map(Some),
        (None, Some(text)) => Brought::typed(context, text),
        (None, None) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_told_in_its_greatest_unit_alone() {
        let told = [7 * 24 * 3_600 - 1, 3 * 3_600 + 59, 150, 45, 0].map(roughly);
        assert_eq!(told, ["6days", "3h", "2m", "45s", "0s"]);
    }
}

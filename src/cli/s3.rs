//! `trullo s3`: access keys of the S3 gateway.

use anyhow::Result;
use clap::Subcommand;
use reqwest::Method;

use super::context::{Context, NOTHING_CHANGED, block_on};
use super::output::table;
use crate::api::access::{AccessKeyRequest, AccessKeyView};

const KEYS: &str = "Examples:
  trullo s3 keys add laptop
  trullo s3 keys list";
const ADD: &str = "Examples:
  trullo s3 keys add laptop
  trullo s3 keys add backup-check --read-only --expires 30d
  trullo s3 keys add restic --json | jq -r .secret

The secret is told once: the node keeps it sealed under the account's keys. Programs are given the
id as AWS_ACCESS_KEY_ID, the secret as AWS_SECRET_ACCESS_KEY, the endpoint as AWS_ENDPOINT_URL, and
any region. The gateway is on where s3.listen is set in config.toml.";
const LIST: &str = "Examples:
  trullo s3 keys list
  trullo s3 keys list --json | jq '.[] | select(.read_only)'";
const REMOVE: &str = "Examples:
  trullo s3 keys remove TRU0123456789ABCDEF

Requests that are signed with it are refused from now on; so are links that were made with it.";

/// Verbs of `s3`.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Access keys, by which programs act for this node's account
    #[command(subcommand, after_long_help = KEYS)]
    Keys(KeysVerb),
}

/// Verbs of `s3 keys`.
#[derive(Debug, Subcommand)]
pub enum KeysVerb {
    /// Make a pair of id and secret
    #[command(after_long_help = ADD)]
    Add {
        /// What to call it
        #[arg(default_value = "")]
        name: String,
        /// It may list and read, and nothing else
        #[arg(long)]
        read_only: bool,
        /// For how long it is valid, such as 12h or 30d; by default for good
        #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
        expires: Option<std::time::Duration>,
    },
    /// List them, without their secrets
    #[command(after_long_help = LIST)]
    List,
    /// Take one away
    #[command(after_long_help = REMOVE)]
    Remove {
        /// Its id
        id: String,
    },
}

/// Runs a verb.
pub fn run(context: &Context, verb: &Verb) -> Result<()> {
    let Verb::Keys(verb) = verb;
    let client = context.client()?;
    match verb {
        KeysVerb::Add { name, read_only, expires } => {
            let expires_s = expires.map(|expires| expires.as_secs());
            let request = AccessKeyRequest { name: name.clone(), read_only: *read_only, expires_s };
            let made: AccessKeyView = block_on(NOTHING_CHANGED, client.post("/v1/s3/keys", &request))?;
            let secret = made.secret.clone().unwrap_or_default();
            context.out.result(&made, || format!("{}\n{secret}", made.id))?;
            match context.open_home()?.read_s3_address()? {
                Some(address) => context.out.say(format!("the gateway answers at http://{address}")),
                None => context.out.say("the gateway is off; set s3.listen in config.toml and start the node again"),
            }
            context.out.say("the second line is the secret; it is not shown again");
            Ok(())
        }
        KeysVerb::List => {
            let keys: Vec<AccessKeyView> = block_on(NOTHING_CHANGED, client.get("/v1/s3/keys"))?;
            context.out.result(&keys, || table(["id", "name", "may", "made", "valid until"], keys.iter().map(row)))?;
            Ok(())
        }
        KeysVerb::Remove { id } => {
            let path = format!("/v1/s3/keys/{id}");
            let left: Vec<AccessKeyView> =
                block_on(NOTHING_CHANGED, client.json(client.request(Method::DELETE, &path)))?;
            context.out.result(&left, || format!("{id} is not valid any more"))?;
            Ok(())
        }
    }
}

fn row(key: &AccessKeyView) -> [String; 5] {
    let may = if key.read_only { "read" } else { "read, write" };
    let until = key.expires_ms.map_or_else(|| "it is removed".to_owned(), time);
    [key.id.clone(), key.name.clone(), may.to_owned(), time(key.created_ms), until]
}

fn time(ms: u64) -> String {
    let at = std::time::UNIX_EPOCH.checked_add(std::time::Duration::from_millis(ms));
    at.map_or_else(|| "never".to_owned(), |at| humantime::format_rfc3339_seconds(at).to_string())
}

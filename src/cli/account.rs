//! `trullo account`: keys in the home, credits on the chain.

use std::path::PathBuf;

use anyhow::Result;
use clap::Subcommand;
use serde_json::json;

use super::context::{self, Context, NOTHING_CHANGED, block_on};
use super::identity::add_account;
use super::ledger::account_text;
use super::output::table;
use crate::api::views::{AccountView, TransferRequest, TransferView};
use crate::config::keystore::KeystoreFileError;
use crate::crypto::keys::KdfParams;

const NEW: &str = "Examples:
  trullo account new savings
  trullo account new savings --password-file pw

The keys go to keystore.json, locked with the password (argon2id). There is no way to them without it.";
const LIST: &str = "Examples:
  trullo account list
  trullo account list --json";
const SHOW: &str = "Examples:
  trullo account show
  trullo account show savings --json";
const TRANSFER: &str = "Examples:
  trullo account transfer 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 250 --memo rent

Waits until the transfer is final.";

/// Verbs of `account`.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Make a further account in this home's keystore
    #[command(after_long_help = NEW)]
    New {
        /// Its name, for you
        name: String,
        /// File with its password; `-` for stdin; asked for by default
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
    },
    /// List the accounts of this home; the node acts for the first
    #[command(after_long_help = LIST)]
    List,
    /// Show an account's credits
    #[command(after_long_help = SHOW)]
    Show {
        /// Its name or id; default: the one the node acts for
        #[arg(default_value = "me")]
        account: String,
    },
    /// Send credits
    #[command(after_long_help = TRANSFER)]
    Transfer {
        /// Receiver: an id, or the name of an account of this home
        to: String,
        /// Credits
        #[arg(value_parser = clap::value_parser!(u64).range(1..))]
        amount: u64,
        /// A note for the receiver; everybody can read it
        #[arg(long, default_value = "")]
        memo: String,
    },
}

/// Runs a verb.
pub fn run(context: &Context, verb: &Verb) -> Result<()> {
    match verb {
        Verb::New { name, password_file } => new(context, name, password_file.as_deref()),
        Verb::List => list(context),
        Verb::Show { account } => {
            let client = context.client()?;
            let id = id(context, account)?;
            let account: AccountView = block_on(NOTHING_CHANGED, client.get(&format!("/v1/accounts/{id}")))?;
            context.out.result(&account, || account_text(&account))?;
            Ok(())
        }
        Verb::Transfer { to, amount, memo } => {
            let client = context.client()?;
            let request = TransferRequest { to: id(context, to)?, amount: *amount, memo: memo.clone() };
            let kept = "the transfer may still become final; see `trullo account show`";
            let done: TransferView = block_on(kept, client.post("/v1/transfers", &request))?;
            let text = || format!("{} credits to {} at height {}\n{}", done.amount, done.to, done.height, done.tx);
            context.out.result(&done, text)?;
            Ok(())
        }
    }
}

fn new(context: &Context, name: &str, password_file: Option<&std::path::Path>) -> Result<()> {
    let home = context.open_home()?;
    let mut keystore = home.read_keystore()?;
    if let Ok((name, _)) = keystore.find(name) {
        return Err(KeystoreFileError::Twice(name.to_owned()).into());
    }
    let password = context::password(password_file, "password of the new account", true)?;
    let account = add_account(&mut keystore, name, &password, KdfParams::STANDARD)?;
    home.write_keystore(&keystore)?;
    context.out.result(&json!({ "name": name, "account": account.to_string() }), || account.to_string())?;
    Ok(())
}

fn list(context: &Context) -> Result<()> {
    let keystore = context.open_home()?.read_keystore()?;
    let rows: Vec<_> = keystore.entries().map(|(name, entry)| [name.to_owned(), entry.account().to_string()]).collect();
    let values: Vec<_> = rows.iter().map(|[name, account]| json!({ "name": name, "account": account })).collect();
    context.out.result(&values, || table(["name", "account"], rows))?;
    Ok(())
}

/// The id of what was typed: an account's name in this home, or an id as it is.
fn id(context: &Context, text: &str) -> Result<String> {
    let keystore = context.open_home()?.read_keystore()?;
    if text == "me" {
        return Ok(text.to_owned());
    }
    match keystore.find(text) {
        Ok((_, entry)) => Ok(entry.account().to_string()),
        Err(_) => {
            let wrong = |error: crate::types::ids::IdError| {
                let message = format!("{text:?} is no account of this home and no id: {error}");
                super::errors::CliError::new(super::errors::Exit::Usage, message)
            };
            Ok(text.parse::<crate::types::AccountId>().map_err(wrong)?.to_string())
        }
    }
}

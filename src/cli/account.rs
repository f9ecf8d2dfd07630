//! `trullo account`: keys in the home, credits on the chain.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Subcommand;
use serde_json::json;
use zeroize::Zeroizing;

use super::context::{self, Context, NOTHING_CHANGED, block_on};
use super::identity::add_account;
use super::ledger::account_text;
use super::output::table;
use super::phrase;
use crate::api::views::{AccountView, TransferRequest, TransferView};
use crate::config::keystore::KeystoreFileError;
use crate::crypto::keys::KdfParams;
use crate::node::home::random;

const NEW: &str = "Examples:
  trullo account new savings
  trullo account new savings --password-file pw

A password file must be for its owner alone: chmod 600. The keys go to keystore.json, locked with the password (argon2id). There is no way to them without it.";
const PASSWD: &str = "Examples:
  trullo account passwd default
  trullo account passwd savings --password-file old --new-password-file new
  printf '%s\\n%s\\n' \"$OLD\" \"$NEW\" |
    trullo account passwd default --password-file - --new-password-file -

Password files must be for their owner alone: chmod 600. Only this account's entry in keystore.json is written, as a whole; key, account and files stay the same, and a running node
goes on. Backups of keystore.json still open with the old password.";
const LIST: &str = "Examples:
  trullo account list
  trullo account list --json";
const SHOW: &str = "Examples:
  trullo account show
  trullo account show savings --json";
const TRANSFER: &str = "Examples:
  trullo account transfer \\
    9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 250 --memo rent

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
    /// Change the password of an account of this home
    #[command(after_long_help = PASSWD)]
    Passwd {
        /// Its name or id
        name: String,
        /// File with the password it has; `-` for stdin; asked for by default
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
        /// File with the new password; `-` for stdin, after the other one; asked for by default
        #[arg(long, value_name = "FILE")]
        new_password_file: Option<PathBuf>,
    },
    /// Print the 24 words that bring an account back on another machine
    #[command(after_long_help = phrase::PRINT)]
    Phrase {
        /// Its name or id; default: the one the node acts for
        name: Option<String>,
        /// File with its password; `-` for stdin; asked for by default
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
    },
    /// Add an account to this home's keystore by its recovery phrase
    #[command(after_long_help = phrase::RECOVER)]
    Recover {
        /// Its name, for you
        #[arg(long, default_value = "recovered")]
        name: String,
        /// File with the 24 words; `-` for stdin, one line before the password; asked for by default
        #[arg(long, value_name = "FILE")]
        phrase_file: Option<PathBuf>,
        /// File with its password on this machine; `-` for stdin; asked for by default
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
        Verb::Passwd { name, password_file, new_password_file } => {
            passwd(context, name, password_file.as_deref(), new_password_file.as_deref())
        }
        Verb::Phrase { name, password_file } => phrase::print(context, name.as_deref(), password_file.as_deref()),
        Verb::Recover { name, phrase_file, password_file } => {
            phrase::recover(context, name, phrase_file.as_deref(), password_file.as_deref())
        }
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

fn new(context: &Context, name: &str, password_file: Option<&Path>) -> Result<()> {
    let home = context.open_home()?;
    if let Ok((name, _)) = home.read_keystore()?.find(name) {
        return Err(KeystoreFileError::Twice(name.to_owned()).into());
    }
    let password = context::new_password(password_file, "password of the new account")?;
    let seed = Zeroizing::new(random()?);
    let account = home.edit_keystore(|keystore| add_account(keystore, name, &seed, &password, KdfParams::STANDARD))?;
    context.out.result(&json!({ "name": name, "account": account.to_string() }), || account.to_string())?;
    Ok(())
}

fn passwd(context: &Context, name: &str, old_file: Option<&Path>, new_file: Option<&Path>) -> Result<()> {
    let home = context.open_home()?;
    let accounts = home.read_keystore()?;
    let (name, keystore) = accounts.find(name)?;
    let old = context::password(old_file, &format!("password of {name}"))?;
    // Before the new one is asked for.
    keystore.open(old.as_bytes()).with_context(|| format!("opening the account {name:?}"))?;
    let new = context::new_password(new_file, &format!("new password of {name}"))?;
    let account = *keystore.account();
    home.edit_keystore(|accounts| {
        let (_, keystore) = accounts.find(&account.to_string())?;
        let kdf = KdfParams::STANDARD;
        let changed = keystore.change_password(old.as_bytes(), new.as_bytes(), kdf, random()?, random()?)?;
        Ok::<_, anyhow::Error>(accounts.replace(changed)?)
    })?;
    // A configuration that is wrong is the next start's matter.
    let file = context.config(&home).ok().and_then(|config| config.password_file);
    let file = file.filter(|_| accounts.first().is_some_and(|(first, _)| first == account));
    let file = file.map(|file| home.root().join(file).display().to_string());
    let value = json!({ "name": name, "account": account.to_string(), "node_password_file": file });
    context.out.result(&value, || format!("{name} has a new password"))?;
    if let Some(file) = file {
        context.out.say(format!("the node starts with the password in {file}: put the new one there"));
    }
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
pub fn id(context: &Context, text: &str) -> Result<String> {
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

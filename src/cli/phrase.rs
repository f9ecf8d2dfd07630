//! Recovery phrases: an account's 24 words, printed and read back.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::json;
use zeroize::Zeroizing;

use super::context::{self, Context};
use super::errors::{CliError, Exit};
use super::identity::add_account;
use crate::config::keys::nearest;
use crate::crypto::keys::{AccountKeys, KdfParams};
use crate::crypto::phrase::{self, PhraseError};
use crate::node::home::read_secret;

/// Help of `account phrase`.
pub const PRINT: &str = "Examples:
  trullo account phrase
  trullo account phrase savings --password-file pw

The words are the account's key itself, without any password: whoever reads them has the account,
its credits and its files. Write them on paper; `trullo init --recover` or `trullo account
recover` brings the account back. They stay the same when the password changes.";
/// Help of `account recover`.
pub const RECOVER: &str = "Examples:
  trullo account recover --name alice
  trullo account recover --phrase-file words --password-file pw

Words may be in any case and on any number of lines, with or without their numbers. Files with
them must be for their owner alone: chmod 600. The node acts for the first account of its home: on
a fresh machine use `trullo init --recover`.";

/// Prints the words of an account. Errors: exit 4, 12.
pub fn print(context: &Context, name: Option<&str>, password_file: Option<&Path>) -> Result<()> {
    let accounts = context.open_home()?.read_keystore()?;
    let (name, keystore) = match name {
        Some(name) => accounts.find(name)?,
        None => accounts.entries().next().ok_or_else(|| CliError::new(Exit::NotFound, "this home has no account"))?,
    };
    let password = context::password(password_file, &format!("password of {name}"))?;
    let seed = keystore.master(password.as_bytes()).with_context(|| format!("opening the account {name:?}"))?;
    let words = phrase::write(&seed);
    context
        .out
        .say(format!("whoever reads these words has the account {name:?} and all of its files: paper, no photo"));
    let value = json!({ "name": name, "account": keystore.account().to_string(), "phrase": words.as_str() });
    context.out.result(&value, || words.as_str().to_owned())?;
    Ok(())
}

/// Adds the account of a phrase to the home. Errors: exit 2, 8, 12.
pub fn recover(context: &Context, name: &str, phrase_file: Option<&Path>, password_file: Option<&Path>) -> Result<()> {
    let home = context.open_home()?;
    let seed = read(phrase_file)?;
    let account = AccountKeys::from_master(&seed).account_id();
    let accounts = home.read_keystore()?;
    if let Ok((name, _)) = accounts.find(&account.to_string()) {
        let error = CliError::new(Exit::Conflict, format!("the account of these words is here already, as {name:?}"));
        return Err(error.hint("`trullo account passwd` gives it another password").into());
    }
    if accounts.find(name).is_ok() {
        let error = CliError::new(Exit::Conflict, format!("another account of this home is named {name:?}"));
        return Err(error.hint("choose a name: --name NAME").into());
    }
    let password = context::new_password(password_file, "password of the account")?;
    home.edit_keystore(|accounts| add_account(accounts, name, &seed, &password, KdfParams::STANDARD))?;
    context.out.result(&json!({ "name": name, "account": account.to_string() }), || account.to_string())?;
    Ok(())
}

/// The seed of a phrase from a private file, from stdin (`-`, one line), or asked for.
/// Errors: exit 2 for what is no phrase, 12 when others can read the file.
pub fn read(file: Option<&Path>) -> Result<Zeroizing<[u8; 32]>> {
    let text = match file {
        Some(path) if path == Path::new("-") => {
            let mut text = Zeroizing::new(String::new());
            std::io::stdin().read_line(&mut text).context("reading the words from stdin")?;
            text
        }
        Some(path) => read_secret(path)?,
        None => context::ask_secret("the 24 words, on one line", "give --phrase-file FILE, or - for stdin")?,
    };
    Ok(phrase::read(&text).map_err(|error| told(&error))?)
}

fn told(error: &PhraseError) -> CliError {
    let hint = match error {
        PhraseError::Count(_) => "give all words in their order, separated by spaces or lines".to_owned(),
        PhraseError::Word { word, .. } => match nearest(word, phrase::words()) {
            Some(near) => format!("did you mean {near:?}? the first four letters tell a word"),
            None => "compare it with what was written down; the first four letters tell a word".to_owned(),
        },
        PhraseError::Checksum => "compare each word and the order with what was written down".to_owned(),
    };
    CliError::new(Exit::Usage, error.to_string()).hint(hint)
}

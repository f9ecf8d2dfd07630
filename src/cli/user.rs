//! `trullo user`: who else may use the running node, over HTTP, each with an account of their own.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Subcommand;
use reqwest::Method;
use serde_json::json;

use super::client::Client;
use super::context::{self, Context, NOTHING_CHANGED, block_on};
use super::errors::{CliError, Exit};
use super::output::table;
use crate::api::sign_in::{PasswordRequest, RegisterRequest, RegisteredView, RemovedView, UserView, UsersView};
use crate::config::user::{NotAName, UserName};

const ADD: &str = "Examples:
  trullo user add anna
  trullo user add anna --password-file pw

A password file must be for its owner alone: chmod 600. The user logs in with POST /v1/auth/login, and stores files with an account
of the own; it gets api.welcome_credits of this node's account, and nobody opens it without the password.";
const LIST: &str = "Examples:
  trullo user list
  trullo user list --json | jq -r .[].name";
const PASSWD: &str = "Examples:
  trullo user passwd anna
  trullo user passwd anna --password-file old --new-password-file new

Ends the logins of the user. The present password is needed: nobody else can open the account, so nobody can reset it.";
const REMOVE: &str = "Examples:
  trullo user remove anna

Ends the logins of the user. The account's files and credits stay on the ledger, and its keys in the home, under the password, as
users/NAME.ACCOUNT.removed.";

/// Users asked for at once.
const PAGE: usize = 1_000;

/// Verbs of `user`.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Add a user
    #[command(after_long_help = ADD)]
    Add {
        /// The name: letters a-z, digits, . _ -
        name: String,
        /// File with the password; `-` for stdin; asked for by default
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
    },
    /// List the users
    #[command(after_long_help = LIST)]
    List,
    /// Remove a user
    #[command(after_long_help = REMOVE)]
    Remove {
        /// The name
        name: String,
    },
    /// Change a user's password
    #[command(after_long_help = PASSWD)]
    Passwd {
        /// The name
        name: String,
        /// File with the present password; `-` for stdin; asked for by default
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
        /// File with the new password; `-` for stdin, after the other one; asked for by default
        #[arg(long, value_name = "FILE")]
        new_password_file: Option<PathBuf>,
    },
}

/// Runs a verb.
pub fn run(context: &Context, verb: &Verb) -> Result<()> {
    let client = context.client()?;
    match verb {
        Verb::Add { name, password_file } => {
            let password = context::new_password(password_file.as_deref(), &format!("password of {name}"))?;
            let request = RegisterRequest { name: name.clone(), password: password.to_string() };
            let kept = "the user may have been added; see `trullo user list`";
            let added: RegisteredView = block_on(kept, client.post("/v1/auth/register", &request))?;
            context.out.result(&added, || format!("{}\n{}", added.name, added.account))?;
            if let Some(reason) = &added.reason {
                context.out.warn(reason);
            }
            Ok(())
        }
        Verb::List => {
            let users = block_on(NOTHING_CHANGED, all(&client))?;
            let row = |user: &UserView| [user.name.clone(), user.account.clone(), user.logins.to_string()];
            context.out.result(&users, || table(["name", "account", "logins"], users.iter().map(row)))?;
            Ok(())
        }
        Verb::Remove { name } => {
            let request = client.request(Method::DELETE, &format!("/v1/users/{}", user_name(name)?));
            let kept = "the user may have been removed; see `trullo user list`";
            let removed: RemovedView = block_on(kept, client.json(request))?;
            let text = || format!("{} removed; the keys of {} stay in users/", removed.name, removed.account);
            context.out.result(&removed, text)?;
            Ok(())
        }
        Verb::Passwd { name, password_file, new_password_file } => {
            passwd(context, &client, name, password_file.as_deref(), new_password_file.as_deref())
        }
    }
}

/// A name that can stand in a path. Errors: exit 2.
fn user_name(text: &str) -> Result<UserName> {
    let wrong = |error: NotAName| CliError::new(Exit::Usage, format!("{text:?}: {error}"));
    Ok(text.parse::<UserName>().map_err(wrong)?)
}

async fn all(client: &Client) -> Result<Vec<UserView>> {
    let mut page: UsersView = client.get(&format!("/v1/users?limit={PAGE}")).await?;
    let mut users = std::mem::take(&mut page.users);
    while let Some(next) = page.next {
        page = client.get(&format!("/v1/users?limit={PAGE}&cursor={next}")).await?;
        users.append(&mut page.users);
    }
    Ok(users)
}

fn passwd(context: &Context, client: &Client, name: &str, old: Option<&Path>, new: Option<&Path>) -> Result<()> {
    let old = context::password(old, &format!("password of {name}"))?;
    let new = context::new_password(new, &format!("new password of {name}"))?;
    let (old_password, new_password) = (old.to_string(), new.to_string());
    let request = PasswordRequest { name: Some(name.to_owned()), old_password, new_password };
    let request = client.request(Method::POST, "/v1/auth/password").json(&request);
    block_on("the new password may hold already", client.send(request))?;
    context
        .out
        .result(&json!({ "name": name }), || format!("{name} has a new password; the user's logins have ended"))?;
    Ok(())
}

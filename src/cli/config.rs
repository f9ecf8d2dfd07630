//! `trullo config`: what is in effect, and where it came from.

use anyhow::Result;
use clap::Subcommand;
use serde::Serialize;
use serde_json::{Value, json};

use super::context::Context;
use super::output::table;
use crate::config::keys::KEYS;
use crate::config::{Config, Layers, Origin};
use crate::node::start::addresses;

const SHOW: &str = "Examples:
  trullo config show
  trullo --home /tmp/net/user-1 config show --json
  trullo config show --set api.listen=127.0.0.1:8080";

const CHECK: &str = "Examples:
  trullo config check
  trullo --home /tmp/net/validator-1 config check --json";

/// Verbs of `config`.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Print every key with its value and where it came from
    #[command(after_long_help = SHOW)]
    Show,
    /// Check the configuration; exit 2 says what is wrong with it
    #[command(after_long_help = CHECK)]
    Check,
}

#[derive(Serialize)]
struct Row {
    key: &'static str,
    value: Value,
    origin: Value,
    help: &'static str,
}

/// Runs a verb.
pub fn run(context: &Context, verb: &Verb) -> Result<()> {
    let home = context.open_home()?;
    let layers = context.layers(&home)?;
    match verb {
        Verb::Show => show(context, &layers),
        Verb::Check => {
            addresses(&Config::load(&layers)?)?;
            let path = home.config().display().to_string();
            context.out.result(&json!({"ok": true, "file": path}), || format!("{path} is valid"))?;
            Ok(())
        }
    }
}

fn show(context: &Context, layers: &Layers) -> Result<()> {
    let row = |key: &crate::config::keys::Key| {
        let setting = layers.settings().find(|(name, _)| *name == key.name).map(|(_, setting)| setting);
        let value = setting.map(|setting| serde_json::to_value(&setting.value).unwrap_or(Value::Null));
        let origin = setting.map(|setting| origin(&setting.origin));
        Row { key: key.name, value: value.into(), origin: origin.into(), help: key.help }
    };
    let rows: Vec<Row> = KEYS.iter().map(row).collect();
    context.out.result(&rows, || {
        table(
            ["key", "from", "value"],
            rows.iter().map(|row| {
                let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                let value = if row.value.is_null() { "-".to_owned() } else { text(&row.value) };
                let origin = if row.origin.is_null() { "not set".to_owned() } else { text(&row.origin) };
                [row.key.to_owned(), origin, value]
            }),
        )
    })?;
    Ok(())
}

fn origin(origin: &Origin) -> Value {
    Value::String(origin.to_string())
}

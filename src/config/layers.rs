//! Layers: flags over environment over file over defaults, and where each value came from.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::keys::{self, KEYS, Key, Kind};
use super::{ConfigError, RawConfig};

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Built in.
    Default,
    /// The configuration file.
    File(PathBuf),
    /// An environment variable.
    Environment(String),
    /// `--set` on the command line.
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Environment(name) => write!(f, "${name}"),
            Self::Flag => f.write_str("--set"),
        }
    }
}

/// A setting's value as written, with its origin.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The value.
    pub value: Value,
    /// Where it came from.
    pub origin: Origin,
}

/// The settings that have a value, by key.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    settings: BTreeMap<&'static str, Setting>,
}

impl Layers {
    /// The defaults alone. Errors: none in practice; the table of keys is tested.
    pub fn defaults() -> Result<Self, ConfigError> {
        let mut layers = Self::default();
        for key in KEYS {
            if let Some(text) = key.default {
                let table = parse(&format!("value = {text}"), &Origin::Default)?;
                if let Some(value) = table.get("value") {
                    layers.put(key, value.clone(), Origin::Default)?;
                }
            }
        }
        Ok(layers)
    }

    /// Lays a configuration file's text on top. Errors: `Malformed`, `UnknownKey`, `Value`.
    pub fn file(mut self, path: &Path, text: &str) -> Result<Self, ConfigError> {
        let origin = Origin::File(path.to_owned());
        for (section, value) in parse(text, &origin)? {
            let Value::Table(table) = value else {
                return Err(unknown(section, origin));
            };
            for (name, value) in table {
                let name = format!("{section}.{name}");
                match keys::find(&name) {
                    Some(key) => self.put(key, value, origin.clone())?,
                    None => return Err(unknown(name, origin)),
                }
            }
        }
        Ok(self)
    }

    /// Lays environment variables on top. Variables that begin with `TRULLO_` and a section's name are ours, and
    /// an unknown one is an error; all others are not looked at. Errors: `UnknownKey`, `Value`.
    pub fn environment(mut self, variables: impl IntoIterator<Item = (String, String)>) -> Result<Self, ConfigError> {
        for (variable, text) in variables {
            let origin = Origin::Environment(variable.clone());
            match KEYS.iter().find(|key| keys::variable(key) == variable) {
                Some(key) => {
                    let value = from_text(key, &text, &origin)?;
                    self.put(key, value, origin)?;
                }
                None if names_a_section(&variable) => {
                    let key = variable.trim_start_matches("TRULLO_").to_lowercase().replacen('_', ".", 1);
                    return Err(unknown(key, origin));
                }
                None => {}
            }
        }
        Ok(self)
    }

    /// Lays `key=value` texts of the command line on top. Errors: `Malformed`, `UnknownKey`, `Value`.
    pub fn flags<'a>(mut self, sets: impl IntoIterator<Item = &'a str>) -> Result<Self, ConfigError> {
        for set in sets {
            let (name, text) = set.split_once('=').ok_or_else(|| ConfigError::Malformed {
                origin: Origin::Flag,
                reason: format!("{set:?} is not of the form key=value"),
            })?;
            let key = keys::find(name.trim()).ok_or_else(|| unknown(name.trim().to_owned(), Origin::Flag))?;
            let value = from_text(key, text.trim(), &Origin::Flag)?;
            self.put(key, value, Origin::Flag)?;
        }
        Ok(self)
    }

    /// Every setting that has a value, by key.
    pub fn settings(&self) -> impl Iterator<Item = (&'static str, &Setting)> {
        self.settings.iter().map(|(name, setting)| (*name, setting))
    }

    /// Where a setting's value came from; `Default` for one that has none.
    pub fn origin(&self, key: &str) -> Origin {
        self.settings.get(key).map_or(Origin::Default, |setting| setting.origin.clone())
    }

    /// The layers as one configuration. Errors: `Missing`, `Malformed`.
    pub fn merge(&self) -> Result<RawConfig, ConfigError> {
        for key in ["node.name", "node.roles"] {
            if !self.settings.contains_key(key) {
                return Err(ConfigError::Missing { key });
            }
        }
        let mut sections = Table::new();
        for (name, setting) in &self.settings {
            let (section, key) = name.split_once('.').unwrap_or((name, ""));
            let entry = sections.entry(section).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(table) = entry {
                table.insert(key.to_owned(), setting.value.clone());
            }
        }
        let raw = RawConfig::deserialize_table(sections);
        raw.map_err(|reason| ConfigError::Malformed { origin: Origin::Default, reason })
    }

    fn put(&mut self, key: &Key, value: Value, origin: Origin) -> Result<(), ConfigError> {
        if let Err(reason) = fits(key.kind, &value) {
            return Err(ConfigError::Value { key: key.name, origin, reason });
        }
        self.settings.insert(key.name, Setting { value, origin });
        Ok(())
    }
}

impl RawConfig {
    fn deserialize_table(table: Table) -> Result<Self, String> {
        Value::Table(table).try_into().map_err(|error: toml::de::Error| error.message().to_owned())
    }
}

fn parse(text: &str, origin: &Origin) -> Result<Table, ConfigError> {
    let table = text.parse::<Table>();
    table.map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let reason = format!("line {}: {}", before.matches('\n').count() + 1, error.message());
        ConfigError::Malformed { origin: origin.clone(), reason }
    })
}

fn unknown(key: String, origin: Origin) -> ConfigError {
    let nearest = keys::nearest(&key, KEYS.iter().map(|key| key.name));
    ConfigError::UnknownKey { key, origin, nearest }
}

fn names_a_section(variable: &str) -> bool {
    let Some(rest) = variable.strip_prefix("TRULLO_") else { return false };
    let section = rest.split('_').next().unwrap_or_default().to_lowercase();
    KEYS.iter().any(|key| key.name.split('.').next() == Some(section.as_str()))
}

/// The value of a text from the environment or the command line, where nothing says its type.
fn from_text(key: &Key, text: &str, origin: &Origin) -> Result<Value, ConfigError> {
    let wrong = |reason: &str| ConfigError::Value {
        key: key.name,
        origin: origin.clone(),
        reason: format!("{text:?} {reason}"),
    };
    Ok(match key.kind {
        Kind::Text | Kind::Size | Kind::Percent => Value::String(text.to_owned()),
        Kind::Number => Value::Integer(text.parse().map_err(|_| wrong("is no whole number"))?),
        Kind::Flag => Value::Boolean(text.parse().map_err(|_| wrong("is neither true nor false"))?),
        Kind::List => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            Value::Array(items.map(|item| Value::String(item.to_owned())).collect())
        }
    })
}

fn fits(kind: Kind, value: &Value) -> Result<(), String> {
    let (fits, wanted) = match (kind, value) {
        (Kind::Text, value) => (value.is_str(), "text in quotes"),
        (Kind::Flag, value) => (value.is_bool(), "true or false"),
        (Kind::Number | Kind::Size | Kind::Percent, Value::Integer(number)) => {
            (*number >= 0, "a number that is not negative")
        }
        (Kind::Number, _) => (false, "a whole number"),
        (Kind::Size, value) => (value.is_str(), "a number of bytes or text such as \"10 GiB\""),
        (Kind::Percent, value) => (value.is_str(), "a whole number or a fraction such as \"2/3\""),
        (Kind::List, value) => {
            (value.as_array().is_some_and(|items| items.iter().all(Value::is_str)), "a list of texts such as [\"a\"]")
        }
    };
    if fits { Ok(()) } else { Err(format!("{value} is not {wanted}")) }
}

//! Config: what the operator decides, from four layers: flags, `TRULLO_*`, `config.toml`, defaults.
//!
//! `layers` lays them over one another and remembers where each value came from; `RawConfig` is the result as written;
//! `Config::check` is the only way on. Unknown keys are errors.
//! Beside them the JSON forms of files: a home's genesis and keystore, a backup's manifest.
//! Not here: what the whole network agrees on (`ledger::genesis`), where the files lie (`node::home`).

pub mod backup;
pub mod genesis;
pub mod history;
pub mod keys;
pub mod keystore;
pub mod layers;
mod net;
pub mod raw;
pub mod template;
pub mod user;

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

pub use history::History;
pub use layers::{Layers, Origin};
pub use raw::RawConfig;

use crate::files::{Parameters, Thresholds, Wanted};
use crate::types::{Amount, ByteCount, Millis, Role, Roles, limits};

/// Why a configuration is not used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A key that no version knows.
    #[error("{origin} has the unknown key {key}{}", suggestion(.nearest))]
    UnknownKey {
        /// The key.
        key: String,
        /// Where it stands.
        origin: Origin,
        /// A known key that looks like it.
        nearest: Option<&'static str>,
    },
    /// A value that its key does not take.
    #[error("{key} from {origin}: {reason}")]
    Value {
        /// The key.
        key: &'static str,
        /// Where the value stands.
        origin: Origin,
        /// What is wrong with it.
        reason: String,
    },
    /// A key that has no default and no value.
    #[error("{key} is not set and has no default")]
    Missing {
        /// The key.
        key: &'static str,
    },
    /// The file is not TOML, or a value has the wrong shape.
    #[error("{origin}: {reason}")]
    Malformed {
        /// Where.
        origin: Origin,
        /// What the parser says.
        reason: String,
    },
}

fn suggestion(nearest: &Option<&'static str>) -> String {
    nearest.map(|name| format!("; did you mean {name}?")).unwrap_or_default()
}

/// The configuration of a node, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Who it is.
    pub node: Node,
    /// What it keeps of the chain, and how it gets it.
    pub history: History,
    /// How it talks to others.
    pub net: Net,
    /// How it answers HTTP.
    pub api: Api,
    /// Where and how it answers S3.
    pub s3: S3,
    /// Its timers.
    pub consensus: Consensus,
    /// What it stores for others.
    pub storage: Storage,
    /// How it stores files of its own.
    pub files: Files,
    /// What it logs.
    pub log: Log,
    /// Where the keystore's password is, if in a file. Relative to the home.
    pub password_file: Option<PathBuf>,
}

/// Who the node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// What it does.
    pub roles: Roles,
    /// Who runs it.
    pub operator: String,
    /// Free bytes on the disk of the home below which the node pauses.
    pub disk_reserve: ByteCount,
}

/// How the node talks to others. Multiaddresses are for `net` to parse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Net {
    /// Addresses to listen on.
    pub listen: Vec<String>,
    /// Addresses under which others reach it, beside those.
    pub announce: Vec<String>,
    /// Addresses to find the network by.
    pub bootstrap: Vec<String>,
    /// Connections at the same time.
    pub connections_max: u32,
    /// Process memory above which new connections are refused.
    pub memory_max: ByteCount,
}

/// How the node answers HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Api {
    /// Where.
    pub listen: SocketAddr,
    /// Scheme and name (RFC 6454) under which browsers reach it through a proxy.
    pub origins: Vec<String>,
    /// Whether everybody may make an account here.
    pub open_registration: bool,
    /// Credits for each new user, of the node's own account.
    pub welcome: Amount,
    /// Users at the most.
    pub users_max: usize,
    /// Logins at the same time.
    pub tokens_max: usize,
    /// How long a login lasts at the most.
    pub token_ttl: Duration,
    /// Tries to log in under one name, a minute.
    pub logins_per_minute: NonZeroU32,
    /// Tries to log in or to register from one address, a minute.
    pub logins_per_minute_address: NonZeroU32,
    /// Requests of one user or address, a second; nothing for any number.
    pub requests_per_s: Option<NonZeroU32>,
}

/// Where and how the node answers S3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3 {
    /// Address; nothing if it does not.
    pub listen: Option<SocketAddr>,
    /// Name under which buckets are hosts.
    pub domain: Option<String>,
    /// Objects that are read from or written to at the same time.
    pub transfers_max: usize,
    /// Time after which an upload in parts is given up.
    pub upload_expiry: Millis,
}

/// Timers of consensus, where they differ from the network's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Consensus {
    /// Shortest view.
    pub view_floor: Option<Millis>,
    /// Longest view.
    pub view_cap: Option<Millis>,
    /// Pause before an empty block.
    pub idle_interval: Option<Millis>,
}

/// What the node stores for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Storage {
    /// Bytes of slots it offers to hold.
    pub capacity: ByteCount,
    /// Free bytes on the disk below which nothing is accepted.
    pub reserve: ByteCount,
    /// Credits that an account must have to upload slots here.
    pub min_balance: Amount,
    /// How often every slot is read and checked; nothing for never.
    pub scrub_every: Option<Millis>,
    /// Bytes a second that this reads, at least 1.
    pub scrub_rate: u64,
    /// Bytes a second that repair reads from others, at least 1.
    pub repair_rate: u64,
    /// Bytes a second that go to emptier nodes, at least 1.
    pub relief_rate: u64,
    /// Percent of the capacity up to which nothing goes to emptier nodes.
    pub relief_percent: u8,
    /// Epochs from one settlement of a deal to the next; nothing if none is asked for.
    pub settle_epochs: Option<u64>,
}

/// How the node stores its own files. What is not set follows from the number of storage nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Files {
    /// Slots that restore a file, and further slots.
    pub shards: Option<(u8, u8)>,
    /// Bytes that are erasure-coded at once.
    pub chunk_bytes: Option<u32>,
    /// Confirmations that make a file final, that a put waits for, and slots left at which lost ones are rebuilt.
    pub wanted: Wanted,
    /// Whether a file with fewer is kept as pending.
    pub allow_pending: bool,
    /// Epochs that a new file is paid for.
    pub epochs: u32,
    /// Epochs before its end at which a deal ends soon; nothing for a tenth of its time.
    pub warn_epochs: Option<u64>,
    /// Older contents of a file in a folder that are kept.
    pub keep_versions: usize,
    /// How long a put waits for confirmations and for finality.
    pub timeout: Millis,
}

/// What the node logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Filter, as `tracing` reads it.
    pub level: String,
    /// Whether each line is a JSON object.
    pub json: bool,
}

impl Config {
    /// Lays the layers over one another and checks the result. Errors: each of `ConfigError`.
    pub fn load(layers: &Layers) -> Result<Self, ConfigError> {
        Self::check(layers, &layers.merge()?)
    }

    /// Checks every value against its bounds; `layers` says whose fault a wrong one is.
    /// Errors: `Value`.
    pub fn check(layers: &Layers, raw: &RawConfig) -> Result<Self, ConfigError> {
        let check = Check { layers };
        Ok(Self {
            node: check.node(&raw.node)?,
            history: check.history(raw)?,
            net: check.net(&raw.net)?,
            api: check.api(&raw.api)?,
            s3: check.s3(&raw.s3)?,
            consensus: check.consensus(&raw.consensus)?,
            storage: check.storage(&raw.storage)?,
            files: check.files(&raw.files)?,
            log: check.log(&raw.log)?,
            password_file: raw.account.password_file.as_ref().map(PathBuf::from),
        })
    }
}

/// The checks of each section, with the origins for their errors.
struct Check<'a> {
    layers: &'a Layers,
}

impl Check<'_> {
    fn wrong<T>(&self, key: &'static str, reason: impl Into<String>) -> Result<T, ConfigError> {
        Err(ConfigError::Value { key, origin: self.layers.origin(key), reason: reason.into() })
    }

    fn parse<T: FromStr>(&self, key: &'static str, text: &str, reason: &str) -> Result<T, ConfigError> {
        text.parse().or_else(|_| self.wrong(key, format!("{text:?} {reason}")))
    }

    fn size(&self, key: &'static str, size: &raw::Size) -> Result<u64, ConfigError> {
        size.bytes().map_or_else(|| self.wrong(key, "no size; write a number of bytes or \"10 GiB\""), Ok)
    }

    fn within<T: PartialOrd + std::fmt::Display>(
        &self,
        key: &'static str,
        value: T,
        range: std::ops::RangeInclusive<T>,
    ) -> Result<T, ConfigError> {
        if range.contains(&value) {
            return Ok(value);
        }
        self.wrong(key, format!("{value} is not within {} to {}", range.start(), range.end()))
    }

    fn label(&self, key: &'static str, text: &str) -> Result<String, ConfigError> {
        if !(1..=limits::NAME_BYTES_MAX).contains(&text.len()) {
            let reason = format!("a name has 1 to {} bytes, this has {}", limits::NAME_BYTES_MAX, text.len());
            return self.wrong(key, reason);
        }
        if text.chars().any(char::is_control) {
            return self.wrong(key, "a name has no control characters");
        }
        Ok(text.to_owned())
    }

    fn node(&self, raw: &raw::RawNode) -> Result<Node, ConfigError> {
        let name = self.label("node.name", &raw.name)?;
        let roles: Result<Vec<Role>, _> = raw.roles.iter().map(|text| text.parse::<Role>()).collect();
        let roles = roles.or_else(|error| self.wrong("node.roles", error.to_string()))?;
        if roles.is_empty() {
            return self.wrong("node.roles", "at least one role is needed");
        }
        let operator = match &raw.operator {
            Some(text) => self.label("node.operator", text)?,
            None => name.clone(),
        };
        let disk_reserve = ByteCount::new(self.size("node.disk_reserve", &raw.disk_reserve)?);
        Ok(Node { name, roles: Roles::of(&roles), operator, disk_reserve })
    }

    fn api(&self, raw: &raw::RawApi) -> Result<Api, ConfigError> {
        let open_registration = match raw.registration.as_str() {
            "open" => true,
            "closed" => false,
            other => return self.wrong("api.registration", format!("{other:?} is neither open nor closed")),
        };
        for origin in &raw.origins {
            let name = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
            // A name as browsers send it: in small letters, with nothing after it.
            let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.:[]".contains(&byte);
            if name.is_none_or(|name| name.is_empty() || !name.bytes().all(fits)) {
                let what =
                    format!("{origin:?} is not scheme and name in small letters, such as https://files.example.org");
                return self.wrong("api.origins", what);
            }
        }
        let count = |key, value| Ok(usize::try_from(self.within(key, value, 1..=100_000)?).unwrap_or(usize::MAX));
        let rate = |key, value| {
            let value: u32 = narrow(self.within(key, value, 1..=1_000_000)?);
            Ok(NonZeroU32::new(value).unwrap_or(NonZeroU32::MIN))
        };
        let token_ttl_s = self.within("api.token_ttl_s", raw.token_ttl_s, 1..=31_536_000)?;
        let requests_per_s: u32 = narrow(self.within("api.requests_per_s", raw.requests_per_s, 0..=1_000_000)?);
        Ok(Api {
            listen: self.parse("api.listen", &raw.listen, "is no address such as 127.0.0.1:0")?,
            origins: raw.origins.clone(),
            open_registration,
            welcome: Amount::new(raw.welcome_credits),
            users_max: count("api.users_max", raw.users_max)?,
            tokens_max: count("api.tokens_max", raw.tokens_max)?,
            token_ttl: Duration::from_secs(token_ttl_s),
            logins_per_minute: rate("api.logins_per_minute", raw.logins_per_minute)?,
            logins_per_minute_address: rate("api.logins_per_minute_address", raw.logins_per_minute_address)?,
            requests_per_s: NonZeroU32::new(requests_per_s),
        })
    }

    fn s3(&self, raw: &raw::RawS3) -> Result<S3, ConfigError> {
        let listen = raw.listen.as_ref();
        let listen = listen.map(|text| self.parse("s3.listen", text, "is no address such as 127.0.0.1:9000"));
        let domain = raw.domain.as_ref();
        let domain = domain.map(|text| {
            let valid = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
            match text.split('.').all(valid) {
                true => Ok(text.to_ascii_lowercase()),
                false => self.wrong("s3.domain", format!("{text:?} is no name of a host, without port")),
            }
        });
        let transfers_max = self.within("s3.transfers_max", raw.transfers_max, 1..=1_024)?;
        let upload_expiry = self.within("s3.upload_expiry_s", raw.upload_expiry_s, 1..=1 << 32)?;
        Ok(S3 {
            listen: listen.transpose()?,
            domain: domain.transpose()?,
            transfers_max: usize::try_from(transfers_max).unwrap_or(1),
            upload_expiry: Millis::new(upload_expiry.saturating_mul(1_000)),
        })
    }

    fn consensus(&self, raw: &raw::RawConsensus) -> Result<Consensus, ConfigError> {
        const DAY: u64 = 86_400_000;
        let within = |key, value: Option<u64>, min| {
            value.map(|value| self.within(key, value, min..=DAY).map(Millis::new)).transpose()
        };
        let floor = raw.view_floor_ms.unwrap_or(1);
        Ok(Consensus {
            view_floor: within("consensus.view_floor_ms", raw.view_floor_ms, 1)?,
            view_cap: within("consensus.view_cap_ms", raw.view_cap_ms, floor)?,
            idle_interval: within("consensus.idle_interval_ms", raw.idle_interval_ms, 0)?,
        })
    }

    fn storage(&self, raw: &raw::RawStorage) -> Result<Storage, ConfigError> {
        const YEARS: u64 = 1 << 32;
        let rate = |key, size| self.within(key, self.size(key, size)?, 1 << 10..=u64::MAX);
        let scrub_every = self.within("storage.scrub_every_s", raw.scrub_every_s, 0..=YEARS)?;
        let settle_epochs = self.within("storage.settle_epochs", raw.settle_epochs, 0..=YEARS)?;
        Ok(Storage {
            capacity: ByteCount::new(self.size("storage.capacity", &raw.capacity)?),
            reserve: ByteCount::new(self.size("storage.reserve", &raw.reserve)?),
            min_balance: Amount::new(raw.min_balance),
            scrub_every: (scrub_every > 0).then(|| Millis::new(scrub_every.saturating_mul(1_000))),
            scrub_rate: rate("storage.scrub_bytes_per_s", &raw.scrub_bytes_per_s)?,
            repair_rate: rate("storage.repair_bytes_per_s", &raw.repair_bytes_per_s)?,
            relief_rate: rate("storage.relief_bytes_per_s", &raw.relief_bytes_per_s)?,
            relief_percent: narrow(self.within("storage.relief_percent", raw.relief_percent, 0..=100)?),
            settle_epochs: (settle_epochs > 0).then_some(settle_epochs),
        })
    }

    fn files(&self, raw: &raw::RawFiles) -> Result<Files, ConfigError> {
        let shards = self.shards(raw)?;
        let chunk = match &raw.chunk_size {
            Some(size) => Some(self.chunk(self.size("files.chunk_size", size)?)?),
            None => None,
        };
        Ok(Files {
            shards,
            chunk_bytes: chunk,
            wanted: self.wanted(raw, shards)?,
            allow_pending: raw.allow_pending,
            epochs: narrow(self.within("files.epochs", raw.epochs, 1..=u64::from(limits::DEAL_EPOCHS_MAX))?),
            warn_epochs: raw
                .warn_epochs
                .map(|epochs| self.within("files.warn_epochs", epochs, 0..=1 << 32))
                .transpose()?,
            keep_versions: {
                let most = limits::TREE_VERSIONS_MAX as u64;
                narrow(self.within("files.keep_versions", raw.keep_versions, 0..=most)?)
            },
            timeout: Millis::new(self.within("files.timeout_ms", raw.timeout_ms, 100..=3_600_000)?),
        })
    }

    fn shards(&self, raw: &raw::RawFiles) -> Result<Option<(u8, u8)>, ConfigError> {
        const MAX: u64 = limits::SLOTS_MAX as u64;
        match (raw.data_shards, raw.parity_shards) {
            (None, None) => Ok(None),
            (Some(data), Some(parity)) => {
                let data = self.within("files.data_shards", data, 1..=MAX)?;
                Ok(Some((narrow(data), narrow(self.within("files.parity_shards", parity, 0..=MAX - data)?))))
            }
            (Some(_), None) => self.wrong("files.data_shards", "files.parity_shards has to be set with it"),
            (None, Some(_)) => self.wrong("files.parity_shards", "files.data_shards has to be set with it"),
        }
    }

    /// The numbers that depend on the shards are checked against them as far as these are known here; a put checks them again.
    fn wanted(&self, raw: &raw::RawFiles, shards: Option<(u8, u8)>) -> Result<Wanted, ConfigError> {
        const MAX: u64 = limits::SLOTS_MAX as u64;
        let share = raw.quorum_percent.as_ref().map(raw::Percent::share).transpose();
        let quorum = share.or_else(|error| self.wrong("files.quorum_percent", error.to_string()))?;
        let mut wanted = Wanted { quorum, ..Wanted::default() };
        let shards = shards.map(|(data, parity)| Parameters::with_shards(data, parity)).transpose();
        let shards = shards.or_else(|error| self.wrong("files.data_shards", error.to_string()))?;
        type Field = fn(&mut Wanted) -> &mut Option<u64>;
        let numbers: [(_, _, Field); 3] = [
            ("files.min_confirmations", raw.min_confirmations, |wanted| &mut wanted.min_confirmations),
            ("files.success_threshold", raw.success_threshold, |wanted| &mut wanted.success_threshold),
            ("files.repair_threshold", raw.repair_threshold, |wanted| &mut wanted.repair_threshold),
        ];
        for (key, value, field) in numbers {
            value.map(|value| self.within(key, value, 0..=MAX)).transpose()?;
            *field(&mut wanted) = value;
            let checked = shards.map(|shards| Thresholds::new(shards, &wanted)).transpose();
            checked.or_else(|error| self.wrong(key, error.to_string()))?;
        }
        Ok(wanted)
    }

    fn chunk(&self, bytes: u64) -> Result<u32, ConfigError> {
        let allowed = u64::from(limits::CHUNK_BYTES_MIN)..=u64::from(limits::CHUNK_BYTES_MAX);
        self.within("files.chunk_size", bytes, allowed).map(narrow)
    }

    fn log(&self, raw: &raw::RawLog) -> Result<Log, ConfigError> {
        let json = match raw.format.as_str() {
            "text" => false,
            "json" => true,
            other => return self.wrong("log.format", format!("{other:?} is neither text nor json")),
        };
        Ok(Log { level: raw.level.clone(), json })
    }
}

/// A number whose range was checked against the type it is kept in.
fn narrow<T: TryFrom<u64>>(value: u64) -> T
where
    T::Error: std::fmt::Debug,
{
    T::try_from(value).expect("the range was checked")
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;

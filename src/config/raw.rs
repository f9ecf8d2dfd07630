//! Raw: the configuration as it is written, before anything is checked.
//!
//! One struct for each section of the file; unknown keys are errors. What is checked goes on as `Config`.

use serde::Deserialize;

use crate::files::{QuorumError, Share};

/// The whole file, after defaults, environment and flags were laid over it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawConfig {
    /// `[node]`
    pub node: RawNode,
    /// `[sync]`
    pub sync: RawSync,
    /// `[net]`
    pub net: RawNet,
    /// `[api]`
    pub api: RawApi,
    /// `[s3]`
    pub s3: RawS3,
    /// `[consensus]`
    #[serde(default)]
    pub consensus: RawConsensus,
    /// `[storage]`
    pub storage: RawStorage,
    /// `[files]`
    pub files: RawFiles,
    /// `[log]`
    pub log: RawLog,
    /// `[account]`
    #[serde(default)]
    pub account: RawAccount,
}

/// `[node]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config::keys says what each key means")]
pub struct RawNode {
    pub name: String,
    pub roles: Vec<String>,
    pub operator: Option<String>,
    pub disk_reserve: Size,
    pub keep_blocks: u64,
    pub snapshots: bool,
}

/// `[sync]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config::keys says what each key means")]
pub struct RawSync {
    pub mode: String,
    pub trust: Option<String>,
}

/// `[net]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config::keys says what each key means")]
pub struct RawNet {
    pub listen: Vec<String>,
    pub announce: Vec<String>,
    pub bootstrap: Vec<String>,
    pub connections_max: u64,
    pub memory_max: Size,
}

/// `[api]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config::keys says what each key means")]
pub struct RawApi {
    pub listen: String,
    pub origins: Vec<String>,
    pub registration: String,
    pub welcome_credits: u64,
    pub users_max: u64,
    pub tokens_max: u64,
    pub token_ttl_s: u64,
    pub logins_per_minute: u64,
    pub logins_per_minute_address: u64,
    pub requests_per_s: u64,
}

/// `[s3]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config::keys says what each key means")]
pub struct RawS3 {
    pub listen: Option<String>,
    pub domain: Option<String>,
    pub transfers_max: u64,
    pub upload_expiry_s: u64,
}

/// `[consensus]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config::keys says what each key means")]
pub struct RawConsensus {
    pub view_floor_ms: Option<u64>,
    pub view_cap_ms: Option<u64>,
    pub idle_interval_ms: Option<u64>,
}

/// `[storage]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config::keys says what each key means")]
pub struct RawStorage {
    pub capacity: Size,
    pub reserve: Size,
    pub scrub_every_s: u64,
    pub scrub_bytes_per_s: Size,
    pub repair_bytes_per_s: Size,
    pub relief_bytes_per_s: Size,
    pub relief_percent: u64,
    pub settle_epochs: u64,
    pub min_balance: u64,
}

/// `[files]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config::keys says what each key means")]
pub struct RawFiles {
    pub data_shards: Option<u64>,
    pub parity_shards: Option<u64>,
    pub chunk_size: Option<Size>,
    pub min_confirmations: Option<u64>,
    pub quorum_percent: Option<Percent>,
    pub success_threshold: Option<u64>,
    pub repair_threshold: Option<u64>,
    pub allow_pending: bool,
    pub epochs: u64,
    pub warn_epochs: Option<u64>,
    pub keep_versions: u64,
    pub timeout_ms: u64,
}

/// `[log]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config::keys says what each key means")]
pub struct RawLog {
    pub level: String,
    pub format: String,
}

/// `[account]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config::keys says what each key means")]
pub struct RawAccount {
    pub password_file: Option<String>,
}

/// A share: a number of percent, or text such as `2/3`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Percent {
    /// `67`
    Number(u64),
    /// `"2/3"`
    Text(String),
}

impl Percent {
    /// The share. Errors: `Share`.
    pub fn share(&self) -> Result<Share, QuorumError> {
        match self {
            Self::Number(percent) => Share::percent(*percent),
            Self::Text(text) => text.parse(),
        }
    }
}

/// Bytes: a number, or text with a unit.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Size {
    /// `1048576`
    Bytes(u64),
    /// `"1 MiB"`
    Text(String),
}

impl Size {
    /// The number of bytes, or nothing when the text is no size.
    pub fn bytes(&self) -> Option<u64> {
        match self {
            Self::Bytes(raw) => Some(*raw),
            Self::Text(text) => text.parse::<bytesize::ByteSize>().ok().map(|size| size.as_u64()),
        }
    }
}

//! Errors: what went wrong, in one line, with what to do, and the exit code that scripts rely on.

use std::{fmt, io};

use crate::api::views::{PROBLEM_PREFIX, ProblemView};
use crate::config::ConfigError;
use crate::config::backup::ManifestError;
use crate::config::genesis::GenesisFileError;
use crate::config::keystore::KeystoreFileError;
use crate::crypto::keys::KeystoreError;
use crate::net::NetError;
use crate::node::NodeFailure;
use crate::node::backup::BackupError;
use crate::node::home::HomeError;
use crate::store::StoreError;

/// How the program ends. A script treats an unknown code as a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Any other failure.
    Other = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// Some of it was done.
    Partial = 3,
    /// What was asked for is not there.
    NotFound = 4,
    /// No node answers.
    Unreachable = 5,
    /// Not ready, or not in time.
    NotReady = 6,
    /// A hash, a proof or a signature does not hold.
    Verification = 7,
    /// It is there already, or changed meanwhile.
    Conflict = 8,
    /// There was nothing to do.
    Nothing = 9,
    /// No home of a node there.
    NoHome = 10,
    /// Another process has the home.
    Locked = 11,
    /// Wrong password, or not allowed.
    Denied = 12,
    /// Refused for safety.
    Refused = 13,
    /// Interrupted by the user.
    Interrupted = 130,
}

impl Exit {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Other,
        Self::Usage,
        Self::Partial,
        Self::NotFound,
        Self::Unreachable,
        Self::NotReady,
        Self::Verification,
        Self::Conflict,
        Self::Nothing,
        Self::NoHome,
        Self::Locked,
        Self::Denied,
        Self::Refused,
        Self::Interrupted,
    ];

    /// The code's name in JSON errors.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::Other => "other",
            Self::Usage => "usage",
            Self::Partial => "partial",
            Self::NotFound => "not_found",
            Self::Unreachable => "unreachable",
            Self::NotReady => "not_ready",
            Self::Verification => "verification_failed",
            Self::Conflict => "conflict",
            Self::Nothing => "nothing_to_do",
            Self::NoHome => "no_home",
            Self::Locked => "home_locked",
            Self::Denied => "denied",
            Self::Refused => "refused",
            Self::Interrupted => "interrupted",
        }
    }

    /// The exit of a code; unknown ones are `Other`.
    pub fn from_code(code: u8) -> Self {
        Self::ALL.into_iter().find(|exit| *exit as u8 == code).unwrap_or(Self::Other)
    }
}

/// A failure as the user sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CliError {
    /// How the program ends.
    pub code: Exit,
    /// A word for scripts; by default the code's name.
    pub kind: String,
    /// What happened.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl CliError {
    /// A failure of a code.
    pub fn new(code: Exit, message: impl Into<String>) -> Self {
        Self { code, kind: code.kind().to_owned(), message: message.into(), hint: None }
    }

    /// The same with advice.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The failure that ends the program: the most precise one that the chain of causes holds, with the whole text.
    pub fn of(error: &anyhow::Error) -> Self {
        let found = error.chain().find_map(|cause| cause.downcast_ref::<Self>().cloned().or_else(|| known(cause)));
        let mut found = found.unwrap_or_else(|| Self::new(Exit::Other, ""));
        found.message = told(error);
        found
    }
}

/// The causes in one line. Some texts have the text of their cause in them already.
fn told(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |all, text| match all.as_str() {
        "" => text,
        _ if all.contains(&text) => all,
        _ => format!("{all}: {text}"),
    })
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for CliError {}

impl From<ProblemView> for CliError {
    fn from(problem: ProblemView) -> Self {
        let kind = problem.kind.strip_prefix(PROBLEM_PREFIX).unwrap_or(&problem.kind).to_owned();
        Self { code: Exit::from_code(problem.code), kind, message: problem.detail, hint: problem.hint }
    }
}

/// Failures of the library that have a code of their own.
fn known(cause: &(dyn std::error::Error + 'static)) -> Option<CliError> {
    if let Some(error) = cause.downcast_ref::<HomeError>() {
        return Some(home(error));
    }
    if let Some(error) = cause.downcast_ref::<StoreError>() {
        return Some(store(error));
    }
    if let Some(error) = cause.downcast_ref::<BackupError>() {
        return Some(backup(error));
    }
    if cause.is::<ConfigError>() {
        let hint = "`trullo config show` lists every key with its value; the file is config.toml in the home";
        return Some(CliError::new(Exit::Usage, "").hint(hint));
    }
    if cause.is::<GenesisFileError>() {
        return Some(CliError::new(Exit::Usage, "").hint("get the genesis file from the network's operator again"));
    }
    if let Some(error) = cause.downcast_ref::<KeystoreError>() {
        return Some(keystore(error));
    }
    if let Some(error) = cause.downcast_ref::<KeystoreFileError>() {
        return Some(keystore_file(error));
    }
    if cause.downcast_ref::<io::Error>().is_some_and(is_full) {
        return Some(full());
    }
    match cause.downcast_ref::<NodeFailure>() {
        Some(NodeFailure::Store(error)) => Some(store(error)),
        Some(NodeFailure::Setting(_) | NodeFailure::Genesis(_)) => Some(CliError::new(Exit::Usage, "")),
        Some(NodeFailure::Net(NetError::Listen { .. })) => {
            Some(CliError::new(Exit::Conflict, "").hint("choose another port: --set net.listen=/ip4/127.0.0.1/tcp/0"))
        }
        _ => None,
    }
}

fn home(error: &HomeError) -> CliError {
    match error {
        HomeError::Missing { path } => {
            let hint = format!("make one with: trullo --home {} init", path.display());
            CliError::new(Exit::NoHome, "").hint(hint)
        }
        HomeError::Incomplete { .. } => CliError::new(Exit::NoHome, ""),
        HomeError::Exists { .. } => CliError::new(Exit::Conflict, "").hint("choose another --home, or remove it first"),
        HomeError::Locked { .. } => CliError::new(Exit::Locked, "").hint("stop that node first, or use another --home"),
        HomeError::Exposed { .. } => CliError::new(Exit::Denied, ""),
        HomeError::Store(error) => store(error),
        HomeError::Keystore(error) => keystore_file(error),
        HomeError::Token { .. } => CliError::new(Exit::Verification, ""),
        HomeError::Io { source, .. } => match source.kind() {
            _ if is_full(source) => full(),
            io::ErrorKind::NotFound => {
                CliError::new(Exit::NotFound, "").hint("check the path; a file of the home comes back from a backup")
            }
            io::ErrorKind::InvalidData => CliError::new(Exit::Verification, "").hint("restore it from a backup"),
            io::ErrorKind::PermissionDenied => {
                CliError::new(Exit::Denied, "").hint("run this as the user whose home it is")
            }
            _ => CliError::new(Exit::Other, ""),
        },
        HomeError::Random(_) => CliError::new(Exit::Other, ""),
    }
}

fn backup(error: &BackupError) -> CliError {
    let damaged = "use another backup; this one is damaged or was interrupted";
    match error {
        BackupError::Home(error) => home(error),
        BackupError::Store(error) => store(error),
        BackupError::Exists(_) => CliError::new(Exit::Conflict, "").hint("choose a directory that is not there yet"),
        BackupError::Missing(_) => CliError::new(Exit::NotFound, "").hint("check the path"),
        BackupError::Manifest(ManifestError::Newer(_)) => {
            CliError::new(Exit::Refused, "").hint("use the newer program")
        }
        BackupError::Manifest(ManifestError::Io(error)) if is_full(error) => full(),
        BackupError::Manifest(_) | BackupError::Damaged { .. } => CliError::new(Exit::Verification, "").hint(damaged),
    }
}

fn keystore(error: &KeystoreError) -> CliError {
    match error {
        KeystoreError::Password => {
            let hint = "try again; if the password is right, restore keystore.json from a backup";
            CliError::new(Exit::Denied, "").hint(hint)
        }
        KeystoreError::Version(_) => CliError::new(Exit::Refused, "").hint("use the newer program"),
        KeystoreError::Cost(_) | KeystoreError::Account { .. } => {
            CliError::new(Exit::Verification, "").hint("restore keystore.json from a backup")
        }
    }
}

fn keystore_file(error: &KeystoreFileError) -> CliError {
    match error {
        KeystoreFileError::Json(_) | KeystoreFileError::Entry(_) => CliError::new(Exit::Verification, ""),
        KeystoreFileError::Twice(_) => CliError::new(Exit::Conflict, "").hint("choose another name"),
        KeystoreFileError::Unknown(_) => CliError::new(Exit::NotFound, "").hint("see `trullo account list`"),
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn full() -> CliError {
    CliError::new(Exit::Refused, "").hint("free space on that disk and run the same command again")
}

fn store(error: &StoreError) -> CliError {
    if matches!(error, StoreError::Corrupted { table, .. } if table == "signer.v1") {
        let hint = "a key does not sign without its record: restore a backup (`trullo backup restore`), or take a new \
                    key (`trullo validator rotate-key --help`)";
        return CliError::new(Exit::Refused, "").hint(hint);
    }
    let code = match error {
        StoreError::Locked { .. } => Exit::Locked,
        StoreError::Missing { .. } => Exit::NoHome,
        StoreError::Exists { .. } => Exit::Conflict,
        StoreError::OlderFormat { .. }
        | StoreError::NewerFormat { .. }
        | StoreError::NewerProtocol { .. }
        | StoreError::WrongChain { .. } => Exit::Refused,
        StoreError::Corrupted { .. } => Exit::Verification,
        error if error.is_disk_full() => Exit::Refused,
        _ => Exit::Other,
    };
    CliError::new(code, "")
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use anyhow::Context;

    use super::*;

    fn code(error: impl Into<anyhow::Error>) -> (u8, String) {
        let error = CliError::of(&error.into());
        (error.code as u8, error.kind)
    }

    #[test]
    fn each_failure_has_its_documented_exit_code() {
        let path = PathBuf::from("/h");
        assert_eq!(code(HomeError::Missing { path: path.clone() }), (10, "no_home".into()));
        assert_eq!(code(HomeError::Locked { path: path.clone(), pid: 7 }), (11, "home_locked".into()));
        assert_eq!(code(KeystoreError::Password), (12, "denied".into()));
        assert_eq!(code(ConfigError::Missing { key: "node.name" }), (2, "usage".into()));
        assert_eq!(code(StoreError::NewerFormat { found: 2, known: 1 }), (13, "refused".into()));
        assert_eq!(code(NodeFailure::Store(StoreError::Locked { path })), (11, "home_locked".into()));
        assert_eq!(code(KeystoreFileError::Unknown("me".into())), (4, "not_found".into()));
        assert_eq!(code(KeystoreFileError::Twice("me".into())), (8, "conflict".into()));
        assert_eq!(code(HomeError::Keystore(KeystoreFileError::Entry("me".into()))), (7, "verification_failed".into()));
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        assert_eq!(code(HomeError::Io { doing: "writing", path: "/h".into(), source: full() }), (13, "refused".into()));
        assert_eq!(code(full()), (13, "refused".into()));
        assert_eq!(code(io::Error::other("disk on fire")), (1, "other".into()));
    }

    #[test]
    fn context_is_told_and_the_code_is_kept() {
        let error = Err::<(), _>(CliError::new(Exit::NotFound, "no file ab").hint("see ls")).context("reading x");
        let error = CliError::of(&error.expect_err("an error"));
        assert_eq!((error.code, error.message.as_str()), (Exit::NotFound, "reading x: no file ab"));
        assert_eq!(error.hint.as_deref(), Some("see ls"));
        let source = std::sync::Arc::new(io::Error::from(io::ErrorKind::StorageFull));
        let full = StoreError::Io { doing: "writing".into(), source };
        let error = CliError::of(&anyhow::Error::from(NodeFailure::Store(full)));
        assert_eq!(error.message, "writing failed: no storage space; free space on the disk and start the node again");
    }

    #[test]
    fn a_problem_of_the_node_keeps_its_kind_and_code() {
        let problem = ProblemView {
            kind: "urn:trullo:problem:rejected".into(),
            title: "rejected".into(),
            status: 409,
            detail: "balance 1 does not cover 2".into(),
            code: 8,
            hint: None,
        };
        let error = CliError::from(problem);
        assert_eq!((error.code, error.kind.as_str()), (Exit::Conflict, "rejected"));
        assert_eq!(Exit::from_code(77), Exit::Other);
    }
}

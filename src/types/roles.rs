//! Roles of a node. A node may have several.

use std::fmt;
use std::str::FromStr;

use borsh::{BorshDeserialize, BorshSerialize};

/// What a node does for the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum Role {
    /// Orders and executes transactions.
    Validator = 0,
    /// Holds slots of files.
    Storage = 1,
    /// Runs jobs, trains.
    Worker = 2,
    /// Keeps messages for those who are offline.
    Relay = 3,
    /// A person's own node.
    User = 4,
}

impl Role {
    /// All roles, in the order of their numbers.
    pub const ALL: [Self; 5] = [Self::Validator, Self::Storage, Self::Worker, Self::Relay, Self::User];

    /// The name used in configuration, on the command line and in exports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Validator => "validator",
            Self::Storage => "storage",
            Self::Worker => "worker",
            Self::Relay => "relay",
            Self::User => "user",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Role {
    type Err = UnknownRole;
    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        Self::ALL.into_iter().find(|role| role.name() == text).ok_or_else(|| UnknownRole(text.to_owned()))
    }
}

/// A text that names no role.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no role; roles are validator, storage, worker, relay, user")]
pub struct UnknownRole(pub String);

/// A set of roles, as bits by their numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, BorshSerialize, BorshDeserialize)]
pub struct Roles(u8);

impl Roles {
    /// No role.
    pub const NONE: Self = Self(0);
    /// The set of these roles.
    pub fn of(roles: &[Role]) -> Self {
        Self(roles.iter().fold(0, |bits, role| bits | (1 << *role as u8)))
    }
    /// Whether the role is in the set.
    pub const fn has(self, role: Role) -> bool {
        self.0 & (1 << role as u8) != 0
    }
    /// The roles in the set.
    pub fn iter(self) -> impl Iterator<Item = Role> {
        Role::ALL.into_iter().filter(move |role| self.has(*role))
    }
    /// Whether every bit names a role that this version knows.
    pub const fn is_known(self) -> bool {
        self.0 < (1 << Role::ALL.len())
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.iter().map(Role::name).collect();
        f.write_str(&names.join(","))
    }
}

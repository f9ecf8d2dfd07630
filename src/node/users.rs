//! Users: who may use this node's interface beside its owner. One file each, in `users/` of the home.
//!
//! A file is replaced as a whole and durable before anybody is told. Who changes the registry holds it alone (`&mut`), and one
//! process has a home. A user that was removed leaves a file behind that still opens with the password: an account is not
//! thrown away with its name.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::home::{HomeError, at, make_dir, read_text, sync_dir, write_file};
use crate::config::user::{User, UserName};

/// Bytes of a user's file, at the most.
const FILE_BYTES_MAX: u64 = 16 << 10;
/// What the names of users' files end with, and of those that were removed.
const ENDING: &str = ".json";
const REMOVED: &str = ".removed";

/// Why the registry cannot do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum UsersError {
    /// The name has an owner.
    #[error("there is a user {0} already")]
    Taken(UserName),
    /// No such user.
    #[error("there is no user {0}")]
    Unknown(UserName),
    /// There are as many as may be.
    #[error("this node has {0} users, as many as api.users_max allows")]
    Full(usize),
    /// The disk, or a damaged file.
    #[error(transparent)]
    Home(#[from] HomeError),
}

/// The registry.
#[derive(Debug)]
pub struct Users {
    dir: PathBuf,
}

impl Users {
    /// The registry in this directory, which need not be there.
    pub fn of(dir: PathBuf) -> Self {
        Self { dir }
    }

    fn path(&self, name: &UserName) -> PathBuf {
        self.dir.join(format!("{name}{ENDING}"))
    }

    /// A user. Errors: `Home`.
    pub fn find(&self, name: &UserName) -> Result<Option<User>, UsersError> {
        let path = self.path(name);
        let text = match read_text(&path, FILE_BYTES_MAX) {
            Err(HomeError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text?,
        };
        Ok(Some(User::read(&text).map_err(HomeError::from)?))
    }

    /// Names, in their order. Errors: `Home`.
    pub fn names(&self) -> Result<Vec<UserName>, UsersError> {
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|error| at("looking into", &self.dir, error))?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| at("looking into", &self.dir, error))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            names.extend(name.strip_suffix(ENDING).and_then(|name| name.parse::<UserName>().ok()));
        }
        names.sort();
        Ok(names)
    }

    /// Adds a user where there are fewer than `max`. Errors: `Taken`, `Full`, `Home`.
    pub fn add(&mut self, user: &User, max: usize) -> Result<(), UsersError> {
        if self.path(&user.name).exists() {
            return Err(UsersError::Taken(user.name.clone()));
        }
        if self.names()?.len() >= max {
            return Err(UsersError::Full(max));
        }
        if !self.dir.exists() {
            make_dir(&self.dir)?;
            sync_dir(self.dir.parent().unwrap_or(Path::new(".")))?;
        }
        Ok(write_file(&self.path(&user.name), user.write().as_bytes())?)
    }

    /// Writes a user that is there anew. Errors: `Unknown`, `Home`.
    pub fn replace(&mut self, user: &User) -> Result<(), UsersError> {
        if !self.path(&user.name).exists() {
            return Err(UsersError::Unknown(user.name.clone()));
        }
        Ok(write_file(&self.path(&user.name), user.write().as_bytes())?)
    }

    /// Takes a user away. Returns where the account's keys stay, under the password. Errors: `Unknown`, `Home`.
    pub fn remove(&mut self, name: &UserName) -> Result<PathBuf, UsersError> {
        let user = self.find(name)?.ok_or_else(|| UsersError::Unknown(name.clone()))?;
        let kept = self.dir.join(format!("{name}.{}{REMOVED}", user.keystore.account()));
        fs::rename(self.path(name), &kept).map_err(|error| at("renaming to", &kept, error))?;
        sync_dir(&self.dir)?;
        Ok(kept)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::crypto::keys::{KdfParams, Keystore};
    use crate::types::Millis;

    fn user(name: &str, seed: u8) -> User {
        let keystore = Keystore::create(&[seed; 32], b"password", KdfParams::TESTNET, [1; 16], [2; 24]);
        User { name: name.parse().expect("a name"), keystore: keystore.expect("valid"), created: Millis::new(1) }
    }

    #[test]
    fn users_are_added_once_found_again_and_keep_their_keys_when_they_are_removed() {
        let home = tempfile::tempdir().expect("a directory");
        let mut users = Users::of(home.path().join("users"));
        assert_eq!(users.names().expect("none yet"), []);
        let (anna, bert) = (user("anna", 1), user("bert", 2));
        users.add(&bert, 2).expect("room");
        users.add(&anna, 2).expect("room");
        let taken = users.add(&user("anna", 3), 9);
        assert!(matches!(taken, Err(UsersError::Taken(_))), "{taken:?}");
        assert!(matches!(users.add(&user("carl", 3), 2), Err(UsersError::Full(2))));
        assert_eq!(users.find(&anna.name).expect("readable"), Some(anna.clone()));
        assert_eq!(users.names().expect("readable"), [anna.name.clone(), bert.name.clone()]);
        let mode = |path: PathBuf| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
        assert_eq!((mode(users.dir.clone()), mode(users.path(&anna.name))), (0o700, 0o600));
        let kept = users.remove(&anna.name).expect("it is there");
        let text = fs::read_to_string(kept).expect("the keys stay");
        assert_eq!(User::read(&text).expect("a user").keystore, anna.keystore);
        assert_eq!(users.find(&anna.name).expect("readable"), None);
        assert!(matches!(users.remove(&anna.name), Err(UsersError::Unknown(_))));
        assert!(matches!(users.replace(&anna), Err(UsersError::Unknown(_))));
        users.add(&user("anna", 3), 2).expect("the name is free");
        users.replace(&user("anna", 4)).expect("it is there");
        let found = users.find(&anna.name).expect("readable").expect("it is there");
        assert_eq!(found.keystore, user("anna", 4).keystore);
    }
}

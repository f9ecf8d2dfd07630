//! Access keys: pairs of an id and a secret by which programs prove, request by request, that they may act for the account.
//!
//! Signatures of the S3 protocol need the secret itself, so it cannot be kept as a hash: all pairs are in one file of the home,
//! sealed under a key that follows from the account's, and are in memory while the node runs.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use borsh::{BorshDeserialize, BorshSerialize};
use zeroize::Zeroizing;

use super::handle::NodeError;
use super::home::{self, write_file};
use crate::crypto::keys::AccountKeys;
use crate::crypto::seal::SealKey;
use crate::types::{Millis, limits};
use crate::wire;

/// What the sealed file is bound to.
const SEALED_AS: &[u8] = b"access keys 1";
/// Random bytes of an id, and of a secret, before they are written as text.
const ID_BYTES: usize = 8;
const SECRET_BYTES: usize = 24;
/// What ids begin with, so that one is known where it turns up.
const ID_BEGIN: &str = "TRU";

/// One pair.
#[derive(Clone, BorshSerialize, BorshDeserialize)]
pub struct AccessKey {
    /// Names the pair in requests.
    pub id: String,
    /// Signs requests.
    secret: String,
    /// What its owner calls it.
    pub name: String,
    /// Whether it may only read.
    pub read_only: bool,
    /// When it was made.
    pub created: Millis,
    /// From when on it is not valid any more.
    pub expires: Option<Millis>,
}

impl AccessKey {
    /// The secret.
    pub fn secret(&self) -> &str {
        &self.secret
    }
    /// Whether it is valid at a time.
    pub fn is_valid(&self, now: Millis) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }
}

impl Drop for AccessKey {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.secret);
    }
}

impl std::fmt::Debug for AccessKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AccessKey({})", self.id)
    }
}

/// All pairs of a home. Clones are the same ones.
#[derive(Clone)]
pub struct AccessKeys {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    seal: SealKey,
    keys: Mutex<Vec<AccessKey>>,
}

impl AccessKeys {
    /// Reads the home's pairs. Errors: `Unavailable` when the file cannot be read, `Verification` when it does not open.
    pub fn open(home: &Path, account: &AccountKeys) -> Result<Self, NodeError> {
        let path = home.join("s3.keys");
        let seal = account.wrapping.derive("access keys", &[]);
        let sealed = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(unreadable(&path, &error.to_string())),
        };
        let keys = match sealed.is_empty() {
            true => Vec::new(),
            false => {
                let damaged = || {
                    let path = path.display();
                    NodeError::Verification(format!(
                        "{path} does not open with the keys of this account; remove it and make new access keys"
                    ))
                };
                let bytes = seal.open(SEALED_AS, &sealed).map_err(|_| damaged())?;
                wire::decode(&bytes, limits::ACCESS_KEYS_BYTES_MAX).map_err(|_| damaged())?
            }
        };
        Ok(Self { inner: Arc::new(Inner { path, seal, keys: Mutex::new(keys) }) })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<AccessKey>> {
        self.inner.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All pairs, the oldest first.
    pub fn list(&self) -> Vec<AccessKey> {
        self.lock().clone()
    }

    /// The pair of an id, if it is valid now.
    pub fn find(&self, id: &str, now: Millis) -> Option<AccessKey> {
        self.lock().iter().find(|key| key.id == id && key.is_valid(now)).cloned()
    }

    /// Makes a pair; it is on disk when this returns. Blocks on the disk.
    /// Errors: `Bad` for a name that is too long and for one pair too many, `Unavailable` when it cannot be written.
    pub fn add(
        &self,
        name: &str,
        read_only: bool,
        now: Millis,
        expires: Option<Millis>,
    ) -> Result<AccessKey, NodeError> {
        let (have, max) = (name.len(), limits::NAME_BYTES_MAX);
        if have > max || name.chars().any(char::is_control) {
            let bounds = format!("at most {max} are allowed, without control characters");
            return Err(NodeError::Bad(format!("a name of {have} bytes; {bounds}")));
        }
        let random = |error: home::HomeError| NodeError::Unavailable(error.to_string());
        let (id, secret) = (home::random::<ID_BYTES>(), home::random::<SECRET_BYTES>());
        let secret = Zeroizing::new(secret.map_err(random)?);
        let id = format!("{ID_BEGIN}{}", hex::encode_upper(id.map_err(random)?));
        let key =
            AccessKey { id, secret: hex::encode(*secret), name: name.to_owned(), read_only, created: now, expires };
        let mut keys = self.lock();
        if keys.len() >= limits::ACCESS_KEYS_MAX {
            let max = limits::ACCESS_KEYS_MAX;
            return Err(NodeError::Bad(format!("there are {max} access keys; remove one that is not in use")));
        }
        let mut all = keys.clone();
        all.push(key.clone());
        self.write(&all)?;
        *keys = all;
        Ok(key)
    }

    /// Takes a pair away, for good. Blocks on the disk. Errors: `NotFound`, `Unavailable` when it cannot be written.
    pub fn remove(&self, id: &str) -> Result<(), NodeError> {
        let mut keys = self.lock();
        let mut all = keys.clone();
        all.retain(|key| key.id != id);
        if all.len() == keys.len() {
            return Err(NodeError::NotFound { what: "access key", id: id.to_owned() });
        }
        self.write(&all)?;
        *keys = all;
        Ok(())
    }

    fn write(&self, keys: &Vec<AccessKey>) -> Result<(), NodeError> {
        let plain = Zeroizing::new(wire::encode(keys));
        let nonce = home::random().map_err(|error| NodeError::Unavailable(error.to_string()))?;
        let sealed = self.inner.seal.seal(&nonce, SEALED_AS, &plain);
        write_file(&self.inner.path, &sealed).map_err(|error| unreadable(&self.inner.path, &error.to_string()))
    }
}

fn unreadable(path: &Path, error: &str) -> NodeError {
    NodeError::Unavailable(format!("the access keys in {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn open(home: &Path, seed: u8) -> Result<AccessKeys, NodeError> {
        AccessKeys::open(home, &AccountKeys::from_master(&[seed; 32]))
    }

    #[test]
    fn a_pair_is_there_after_a_restart_until_it_is_removed_or_expires() {
        let home = tempfile::tempdir().expect("a directory");
        let keys = open(home.path(), 1).expect("none yet");
        let now = Millis::new(1_000);
        let kept = keys.add("laptop", false, now, None).expect("room");
        let brief = keys.add("", true, now, Some(Millis::new(2_000))).expect("room");
        drop(keys);
        let keys = open(home.path(), 1).expect("the same account");
        let found = keys.find(&kept.id, now).expect("it is there");
        assert_eq!((found.secret(), found.name.as_str(), found.read_only), (kept.secret(), "laptop", false));
        assert!(keys.find(&brief.id, Millis::new(1_999)).is_some_and(|key| key.read_only));
        assert!(keys.find(&brief.id, Millis::new(2_000)).is_none());
        keys.remove(&kept.id).expect("it is there");
        assert!(matches!(keys.remove(&kept.id), Err(NodeError::NotFound { .. })));
        assert!(open(home.path(), 1).expect("readable").find(&kept.id, now).is_none());
    }

    #[test]
    fn secrets_are_not_readable_in_the_home() {
        let home = tempfile::tempdir().expect("a directory");
        let key = open(home.path(), 1).expect("none yet").add("marker", false, Millis::new(0), None).expect("room");
        let path = home.path().join("s3.keys");
        let bytes = std::fs::read(&path).expect("a file");
        for clear in [key.secret(), &key.id, "marker"] {
            assert!(!bytes.windows(clear.len()).any(|window| window == clear.as_bytes()), "{clear} is in clear");
        }
        assert_eq!(std::fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600);
        assert!(matches!(open(home.path(), 2), Err(NodeError::Verification(_))));
    }

    #[test]
    fn there_is_a_bound() {
        let home = tempfile::tempdir().expect("a directory");
        let keys = open(home.path(), 1).expect("none yet");
        for _ in 0..limits::ACCESS_KEYS_MAX {
            keys.add(&"x".repeat(limits::NAME_BYTES_MAX), false, Millis::new(0), None).expect("room");
        }
        assert!(matches!(keys.add("", false, Millis::new(0), None), Err(NodeError::Bad(_))));
        assert_eq!(open(home.path(), 1).expect("readable").list().len(), limits::ACCESS_KEYS_MAX);
    }
}

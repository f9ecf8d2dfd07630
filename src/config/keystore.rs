//! The keystore file: the accounts of a home, each under a password, as JSON.
//!
//! The first account is the one the node acts for. What guards the keys is `crypto::keys`; this is only the file.

use serde::{Deserialize, Serialize};

use crate::crypto::keys::Keystore;
use crate::types::AccountId;
use crate::wire;

/// Bytes that an encoded keystore may have.
const ENTRY_BYTES_MAX: usize = 4 << 10;

/// Why a text is no keystore file, or a keystore does not fit in.
#[derive(Debug, thiserror::Error)]
pub enum KeystoreFileError {
    /// Not JSON, or of another shape.
    #[error("keystore.json is malformed: {0}; restore it from a backup")]
    Json(#[from] serde_json::Error),
    /// An entry's bytes are no keystore.
    #[error("keystore.json: the entry {0:?} is damaged; restore it from a backup")]
    Entry(String),
    /// A name twice.
    #[error("the keystore has an account named {0:?} already")]
    Twice(String),
    /// No account of that name or id.
    #[error("the keystore has no account {0:?}")]
    Unknown(String),
}

/// The accounts of a home, in the order in which they were made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeystoreFile {
    entries: Vec<(String, Keystore)>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileJson {
    accounts: Vec<EntryJson>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EntryJson {
    name: String,
    account: String,
    keystore: String,
}

impl KeystoreFile {
    /// The file of a text. Errors: `Json`, `Entry`, `Twice`.
    pub fn read(text: &str) -> Result<Self, KeystoreFileError> {
        let json: FileJson = serde_json::from_str(text)?;
        let mut file = Self::default();
        for entry in json.accounts {
            let bytes = hex::decode(&entry.keystore).ok();
            let keystore = bytes.and_then(|bytes| wire::decode::<Keystore>(&bytes, ENTRY_BYTES_MAX).ok());
            match keystore {
                Some(keystore) if keystore.account().to_string() == entry.account => file.add(&entry.name, keystore)?,
                _ => return Err(KeystoreFileError::Entry(entry.name)),
            }
        }
        Ok(file)
    }

    /// The text of the file.
    pub fn write(&self) -> String {
        let entry = |(name, keystore): &(String, Keystore)| EntryJson {
            name: name.clone(),
            account: keystore.account().to_string(),
            keystore: hex::encode(wire::encode(keystore)),
        };
        let json = FileJson { accounts: self.entries.iter().map(entry).collect() };
        serde_json::to_string_pretty(&json).expect("plain structs are JSON") + "\n"
    }

    /// Adds an account under a name. Errors: `Twice`.
    pub fn add(&mut self, name: &str, keystore: Keystore) -> Result<(), KeystoreFileError> {
        if self.entries.iter().any(|(known, _)| known == name) {
            return Err(KeystoreFileError::Twice(name.to_owned()));
        }
        self.entries.push((name.to_owned(), keystore));
        Ok(())
    }

    /// Puts a keystore in the place of that of the same account; its name and its place stay. Errors: `Unknown`.
    pub fn replace(&mut self, keystore: Keystore) -> Result<(), KeystoreFileError> {
        let entry = self.entries.iter_mut().find(|(_, known)| known.account() == keystore.account());
        let (_, known) = entry.ok_or_else(|| KeystoreFileError::Unknown(keystore.account().to_string()))?;
        *known = keystore;
        Ok(())
    }

    /// The accounts with their names; the first is the one the node acts for.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Keystore)> {
        self.entries.iter().map(|(name, keystore)| (name.as_str(), keystore))
    }

    /// The account the node acts for.
    pub fn first(&self) -> Option<(AccountId, &Keystore)> {
        self.entries.first().map(|(_, keystore)| (*keystore.account(), keystore))
    }

    /// The account of a name or id. Errors: `Unknown`.
    pub fn find(&self, text: &str) -> Result<(&str, &Keystore), KeystoreFileError> {
        let found = self.entries().find(|(name, keystore)| *name == text || keystore.account().to_string() == text);
        found.ok_or_else(|| KeystoreFileError::Unknown(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::keys::KdfParams;

    fn keystore(seed: u8) -> Keystore {
        Keystore::create(&[seed; 32], b"pw", KdfParams::TESTNET, [1; 16], [2; 24]).expect("valid parameters")
    }

    #[test]
    fn the_text_of_a_keystore_reads_back_the_same() {
        let mut file = KeystoreFile::default();
        file.add("default", keystore(1)).expect("the first name");
        file.add("savings", keystore(2)).expect("another name");
        assert_eq!(KeystoreFile::read(&file.write()).expect("own text"), file);
        assert!(matches!(file.add("savings", keystore(3)), Err(KeystoreFileError::Twice(_))));
        assert_eq!(file.first().map(|(account, _)| account), Some(*keystore(1).account()));
    }

    #[test]
    fn a_replaced_keystore_keeps_its_name_and_place_and_the_others_stay() {
        let mut file = KeystoreFile::default();
        file.add("default", keystore(1)).expect("the first name");
        file.add("savings", keystore(2)).expect("another name");
        let new =
            keystore(1).change_password(b"pw", b"new", KdfParams::TESTNET, [3; 16], [4; 24]).expect("the password");
        file.replace(new.clone()).expect("a known account");
        let entries: Vec<_> = file.entries().collect();
        assert_eq!(entries, [("default", &new), ("savings", &keystore(2))]);
        assert!(matches!(file.replace(keystore(3)), Err(KeystoreFileError::Unknown(_))));
    }

    #[test]
    fn a_new_password_changes_one_blob_of_the_text() {
        let mut file = KeystoreFile::default();
        for (name, seed) in [("default", 1), ("savings", 2), ("old", 3)] {
            file.add(name, keystore(seed)).expect("another name");
        }
        let before = file.write();
        let new = keystore(2).change_password(b"pw", b"new", KdfParams::TESTNET, [3; 16], [4; 24]);
        file.replace(new.expect("the password")).expect("a known account");
        let after = file.write();
        let changed: Vec<_> = before.lines().zip(after.lines()).filter(|(before, after)| before != after).collect();
        assert_eq!((before.len(), changed.len()), (after.len(), 1));
        assert!(changed[0].0.contains("\"keystore\""));
    }

    #[test]
    fn a_damaged_entry_is_named() {
        let mut file = KeystoreFile::default();
        file.add("default", keystore(1)).expect("the first name");
        let [named, other] = [1, 2].map(|seed| format!("\"account\": \"{}\"", keystore(seed).account()));
        let text = file.write().replace(&named, &other);
        assert!(matches!(KeystoreFile::read(&text), Err(KeystoreFileError::Entry(name)) if name == "default"));
    }
}

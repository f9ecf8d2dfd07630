//! The file of one user of a node's interface, as JSON: a name, and an account under the user's password.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::keystore::KeystoreFileError;
use crate::crypto::keys::Keystore;
use crate::types::{Millis, limits};
use crate::wire;

/// Bytes that an encoded keystore may have.
const KEYSTORE_BYTES_MAX: usize = 4 << 10;

/// A user's name: lower-case letters, digits, `.`, `_` and `-`, beginning with a letter or digit. It is a file's name too.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserName(String);

/// A text that is no user's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a user's name has 1 to {} letters a-z, digits, and . _ - after the first of them",
    limits::USER_NAME_BYTES_MAX
)]
pub struct NotAName;

impl UserName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for UserName {
    type Err = NotAName;

    /// Capital letters are taken for small ones.
    fn from_str(text: &str) -> Result<Self, NotAName> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric();
        let begins = text.bytes().next().is_some_and(plain);
        let rest = text.bytes().all(|byte| plain(byte) || b"._-".contains(&byte));
        if begins && rest && text.len() <= limits::USER_NAME_BYTES_MAX {
            return Ok(Self(text.to_ascii_lowercase()));
        }
        Err(NotAName)
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The name.
    pub name: UserName,
    /// The account's keys, under the password.
    pub keystore: Keystore,
    /// When the user was added.
    pub created: Millis,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct UserJson {
    name: String,
    account: String,
    created_ms: u64,
    keystore: String,
}

impl User {
    /// The user of a text. Errors: `Json`, `Entry`.
    pub fn read(text: &str) -> Result<Self, KeystoreFileError> {
        let json: UserJson = serde_json::from_str(text)?;
        let bytes = hex::decode(&json.keystore).ok();
        let keystore = bytes.and_then(|bytes| wire::decode::<Keystore>(&bytes, KEYSTORE_BYTES_MAX).ok());
        match (json.name.parse(), keystore) {
            (Ok(name), Some(keystore)) if keystore.account().to_string() == json.account => {
                Ok(Self { name, keystore, created: Millis::new(json.created_ms) })
            }
            _ => Err(KeystoreFileError::Entry(json.name)),
        }
    }

    /// The text of the file.
    pub fn write(&self) -> String {
        let json = UserJson {
            name: self.name.to_string(),
            account: self.keystore.account().to_string(),
            created_ms: self.created.get(),
            keystore: hex::encode(wire::encode(&self.keystore)),
        };
        serde_json::to_string_pretty(&json).expect("plain structs are JSON") + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::keys::KdfParams;

    #[test]
    fn a_name_is_bounded_and_says_nothing_to_a_file_system() {
        for good in ["a", "Anna", "a.b_c-d", "0", &"x".repeat(64)] {
            assert_eq!(good.parse::<UserName>().map(|name| name.to_string()), Ok(good.to_lowercase()));
        }
        for bad in ["", ".", "..", ".a", "-a", "a/b", "a b", "é", "a\0", &"x".repeat(65)] {
            assert_eq!(bad.parse::<UserName>(), Err(NotAName), "{bad:?}");
        }
    }

    #[test]
    fn the_text_of_a_user_reads_back_the_same_and_a_changed_account_is_found() {
        let keystore = |seed| {
            Keystore::create(&[seed; 32], b"password", KdfParams::TESTNET, [1; 16], [2; 24]).expect("valid parameters")
        };
        let name: UserName = "anna".parse().expect("a name");
        let user = User { name, keystore: keystore(1), created: Millis::new(7) };
        assert_eq!(User::read(&user.write()).expect("own text"), user);
        let named = |keystore: Keystore| format!("\"account\": \"{}\"", keystore.account());
        let other = user.write().replace(&named(keystore(1)), &named(keystore(2)));
        assert!(matches!(User::read(&other), Err(KeystoreFileError::Entry(name)) if name == "anna"));
    }
}

//! Capabilities: the right to a file as one string, for whoever has it.
//!
//! A *read* capability is the file's id and its key. It cannot be taken back; it reads as long as the file's deal lasts.
//! A *verify* capability is the id alone: every slot can be checked with what the ledger says, and nothing can be read.
//! The text is `trullo-read-` or `trullo-verify-` and base32 in lower case, with a checksum against slips; upper case reads too.

use std::str::FromStr;

use data_encoding::BASE32_NOPAD;
use zeroize::Zeroizing;

use crate::crypto::seal::FileKey;
use crate::crypto::{Domain, hash};
use crate::types::FileId;

const READ: &str = "trullo-read-";
const VERIFY: &str = "trullo-verify-";
const CHECK_BYTES: usize = 4;
/// Longest text, bytes.
pub const TEXT_BYTES_MAX: usize = 160;

/// A right to a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Capability {
    /// To read it: a secret.
    Read {
        /// The file.
        file: FileId,
        /// Its key.
        key: FileKey,
    },
    /// To check that it is whole.
    Verify {
        /// The file.
        file: FileId,
    },
}

/// Why a text is no capability. Nothing of the text is repeated: it may be a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CapabilityError {
    /// It begins with neither word.
    #[error("this is no capability: it begins with {READ} or {VERIFY}")]
    Kind,
    /// It is too short or too long, or a character is wrong.
    #[error("the capability is damaged or not complete; copy it again, as a whole")]
    Damaged,
}

impl Capability {
    /// The file.
    pub const fn file(&self) -> &FileId {
        match self {
            Self::Read { file, .. } | Self::Verify { file } => file,
        }
    }
    /// Whether a text is meant to be one.
    pub fn is_meant(text: &str) -> bool {
        let begins = |prefix: &str| text.get(..prefix.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(prefix));
        begins(READ) || begins(VERIFY)
    }
    /// The text.
    pub fn text(&self) -> Zeroizing<String> {
        let (prefix, mut bytes) = match self {
            Self::Read { file, key } => (READ, Zeroizing::new([*file.as_bytes(), *key.as_bytes()].concat())),
            Self::Verify { file } => (VERIFY, Zeroizing::new(file.as_bytes().to_vec())),
        };
        let check = check(prefix, &bytes);
        bytes.extend_from_slice(&check);
        let base32 = Zeroizing::new(BASE32_NOPAD.encode(&bytes));
        Zeroizing::new(format!("{prefix}{}", base32.to_lowercase()))
    }
}

impl FromStr for Capability {
    type Err = CapabilityError;
    fn from_str(text: &str) -> Result<Self, CapabilityError> {
        let text = text.trim();
        if !Self::is_meant(text) {
            return Err(CapabilityError::Kind);
        }
        if text.len() > TEXT_BYTES_MAX {
            return Err(CapabilityError::Damaged);
        }
        let prefix = if text.as_bytes().get(7).is_some_and(|c| c.eq_ignore_ascii_case(&b'r')) { READ } else { VERIFY };
        let base32 = Zeroizing::new(text.get(prefix.len()..).unwrap_or_default().to_ascii_uppercase());
        let bytes = BASE32_NOPAD.decode(base32.as_bytes()).map_err(|_| CapabilityError::Damaged)?;
        let bytes = Zeroizing::new(bytes);
        let (content, given) = bytes.split_last_chunk::<CHECK_BYTES>().ok_or(CapabilityError::Damaged)?;
        if check(prefix, content) != *given {
            return Err(CapabilityError::Damaged);
        }
        let (file, rest) = content.split_first_chunk().ok_or(CapabilityError::Damaged)?;
        let file = FileId::from_bytes(*file);
        match (prefix, rest) {
            (VERIFY, []) => Ok(Self::Verify { file }),
            (READ, key) => {
                let key = key.try_into().map_err(|_| CapabilityError::Damaged)?;
                Ok(Self::Read { file, key: FileKey::from_bytes(key) })
            }
            _ => Err(CapabilityError::Damaged),
        }
    }
}

fn check(prefix: &str, content: &[u8]) -> [u8; CHECK_BYTES] {
    let bytes = Zeroizing::new([prefix.as_bytes(), content].concat());
    let [a, b, c, d, ..] = hash(Domain::Capability, &bytes);
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read() -> Capability {
        Capability::Read { file: FileId::from_bytes([1; 32]), key: FileKey::from_bytes([2; 32]) }
    }

    fn verify() -> Capability {
        Capability::Verify { file: FileId::from_bytes([1; 32]) }
    }

    #[test]
    fn a_capability_and_its_text_are_one() {
        for cap in [read(), verify()] {
            let text = cap.text();
            assert!(text.len() <= TEXT_BYTES_MAX && Capability::is_meant(&text));
            assert_eq!(text.parse(), Ok(cap.clone()));
            assert_eq!(format!(" {}\n", text.to_uppercase()).parse(), Ok(cap));
        }
        expect_test::expect!["trullo-read-aeaqcaibaeaqcaibaeaqcaibaeaqcaibaeaqcaibaeaqcaibaeaqeaqcaibaeaqcaibaeaqcaibaeaqcaibaeaqcaibaeaqcaibaearq3w6ds"].assert_eq(&read().text());
        expect_test::expect!["trullo-verify-aeaqcaibaeaqcaibaeaqcaibaeaqcaibaeaqcaibaeaqcaibaeaqztgbxy"]
            .assert_eq(&verify().text());
    }

    #[test]
    fn a_slip_in_any_place_is_noticed() {
        for cap in [read(), verify()] {
            let text = cap.text();
            for at in 0..text.len() {
                for other in ["a", "7", "1", "-"] {
                    let mut changed = text.to_string();
                    changed.replace_range(at..=at, other);
                    let same = changed == *text;
                    assert_eq!(changed.parse::<Capability>().is_ok(), same, "{other} at {at}");
                }
                assert!(text[..at].parse::<Capability>().is_err());
            }
        }
    }

    #[test]
    fn letters_of_other_scripts_that_have_such_capitals_are_no_base32() {
        let text = read().text().replacen('i', "\u{131}", 1);
        assert_eq!(text.to_uppercase(), read().text().to_uppercase());
        assert_eq!(text.parse::<Capability>(), Err(CapabilityError::Damaged));
    }

    #[test]
    fn a_verify_capability_never_becomes_a_read_one() {
        let text = verify().text().replace(VERIFY, READ);
        assert_eq!(text.parse::<Capability>(), Err(CapabilityError::Damaged));
        assert!(!format!("{:?}", read()).contains("0202"), "no secret in a log");
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(trullo-(read|verify)-)?[a-z2-7é]{0,170}") {
            if let Ok(cap) = text.parse::<Capability>() {
                let again = cap.text();
                prop_assert_eq!(again.as_str(), text);
            }
        }
    }
}

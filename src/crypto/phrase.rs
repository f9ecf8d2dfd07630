//! Recovery phrases: an account's master seed as 24 English words (BIP 39), for paper.
//!
//! The words are the seed itself with a checksum of 8 bits, not a password: who has them has the account.
//! Not here: what follows from the seed (`keys`).

use bip39::{Language, Mnemonic};
use zeroize::Zeroizing;

/// Words of a phrase.
pub const WORDS: usize = 24;

/// Why words are no recovery phrase. No variant holds what was typed but a word that is in no phrase.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PhraseError {
    /// Too few or too many.
    #[error("{0} words; a recovery phrase has {WORDS}")]
    Count(usize),
    /// A word that no phrase has.
    #[error("word {place}, {word:?}, is not one of the 2048 words of recovery phrases")]
    Word {
        /// Its place, from 1.
        place: usize,
        /// What was typed.
        word: String,
    },
    /// All are words of phrases, but not together.
    #[error(
        "each word is a possible one, but the checksum does not fit: one is another than it was, or two changed places"
    )]
    Checksum,
}

/// The phrase of a seed, words separated by one space.
pub fn write(seed: &[u8; 32]) -> Zeroizing<String> {
    let phrase = Mnemonic::from_entropy_in(Language::English, seed).expect("32 bytes make 24 words");
    let mut text = Zeroizing::new(String::with_capacity(WORDS * 9));
    for (place, word) in phrase.words().enumerate() {
        text.push_str(if place == 0 { "" } else { " " });
        text.push_str(word);
    }
    text
}

/// The seed of a phrase. Upper case, numbers before words (`1. abandon`) and any white space do not matter.
/// Errors: each of `PhraseError`.
pub fn read(text: &str) -> Result<Zeroizing<[u8; 32]>, PhraseError> {
    let lower = Zeroizing::new(text.to_ascii_lowercase());
    let is_number = |word: &&str| word.trim_end_matches(['.', ')', ':']).bytes().all(|byte| byte.is_ascii_digit());
    let words: Vec<&str> = lower.split_whitespace().filter(|word| !is_number(word)).collect();
    if words.len() != WORDS {
        return Err(PhraseError::Count(words.len()));
    }
    let phrase = Zeroizing::new(words.join(" "));
    let parsed = Mnemonic::parse_in_normalized(Language::English, &phrase).map_err(|error| match error {
        bip39::Error::UnknownWord(at) => PhraseError::Word {
            place: at.saturating_add(1),
            word: words.get(at).copied().unwrap_or_default().to_owned(),
        },
        bip39::Error::BadWordCount(count) => PhraseError::Count(count),
        _ => PhraseError::Checksum,
    })?;
    let entropy = Zeroizing::new(parsed.to_entropy());
    entropy.as_slice().try_into().map(Zeroizing::new).map_err(|_| PhraseError::Checksum)
}

/// All words of which phrases are made.
pub fn words() -> impl Iterator<Item = &'static str> {
    Language::English.word_list().iter().copied()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_phrase_of_a_seed_is_that_of_the_standard() {
        // Test vectors of BIP 39.
        assert_eq!(*write(&[0; 32]), format!("{}art", "abandon ".repeat(23)));
        assert_eq!(*write(&[0xff; 32]), format!("{}vote", "zoo ".repeat(23)));
        assert_eq!(words().count(), 2048);
    }

    #[test]
    fn how_it_was_written_down_does_not_matter() {
        let plain = write(&[7; 32]);
        let numbered: String = plain
            .split(' ')
            .enumerate()
            .map(|(at, word)| format!(" {}. {}\r\n", at + 1, word.to_uppercase()))
            .collect();
        assert_eq!(read(&numbered).map(|seed| *seed), Ok([7; 32]));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let phrase = write(&[7; 32]);
        let words: Vec<&str> = phrase.split(' ').collect();
        assert_eq!(read(&words[1..].join(" ")).err(), Some(PhraseError::Count(23)));
        assert_eq!(read("").err(), Some(PhraseError::Count(0)));
        let mut typo = words.clone();
        typo[4] = "abandn";
        assert_eq!(read(&typo.join(" ")).err(), Some(PhraseError::Word { place: 5, word: "abandn".to_owned() }));
        let mut swapped = words.clone();
        let other = (1..WORDS).find(|at| words[*at] != words[0]).expect("not all are the same");
        swapped.swap(0, other);
        assert_eq!(read(&swapped.join(" ")).err(), Some(PhraseError::Checksum));
    }

    proptest! {
        #[test]
        fn every_seed_comes_back(seed: [u8; 32]) {
            prop_assert_eq!(read(&write(&seed)).map(|seed| *seed), Ok(seed));
        }
    }
}

//! What a validator asks before it signs: which signatures of its own key do others hold?

use borsh::{BorshDeserialize, BorshSerialize};

use super::certificate::Statement;
use crate::crypto::Signature;

/// The question. The key is the asker's, as the connection proves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct SignedQuestion {
    /// Drawn at random at the start of the asking process: tells two processes with one key apart.
    pub process: u64,
}

/// The answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct SignedAnswer {
    /// The newest of each kind that the answering node has seen; they prove themselves.
    pub said: Vec<(Statement, Signature)>,
    /// Another process with the same key has asked since this one did first.
    pub another: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Epoch, Round, View};
    use crate::wire::{decode, encode};

    #[test]
    fn the_bytes_are_the_golden_ones() {
        let round = Round::new(Epoch::new(2), View::new(9));
        let said = Statement::Timeout { round, high: Round::default() };
        let answer = SignedAnswer { said: vec![(said, Signature::from_bytes([5; 64]))], another: true };
        let bytes = [encode(&SignedQuestion { process: 0x0102_0304_0506_0708 }), encode(&answer)];
        let text = bytes.map(|bytes| format!("{}\n", hex::encode(bytes))).concat();
        expect_test::expect_file!["../../fixtures/wire/signed.txt"].assert_eq(&text);
        assert_eq!(decode::<SignedAnswer>(&encode(&answer), 1_024), Ok(answer));
    }
}

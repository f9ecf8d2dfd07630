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

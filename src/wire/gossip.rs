//! The gossip envelope: who says a thing to everyone, and on which topic.
//!
//! A gossip message is signed once, by its author, for one chain and one topic; whoever forwards it adds nothing.
//! Receivers verify it once, after duplicates were dropped.

use borsh::{BorshDeserialize, BorshSerialize};

use super::codec::{self, DecodeError};
use crate::crypto::sign::{self, SignError};
use crate::crypto::{Domain, SecretKey, Signature};
use crate::types::{ChainId, NodeId, limits};

/// What a gossip message is about. Every node follows every topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum Topic {
    /// Transactions that are not in a block yet.
    Transactions = 0,
    /// Newly finalized blocks: height, hash, certificate.
    Tips = 1,
    /// Who is there, at which addresses.
    Presence = 2,
    /// Two signed statements that contradict each other.
    Evidence = 3,
    /// Consensus messages for validators to whom there is no direct connection.
    Consensus = 4,
}

impl Topic {
    /// All topics, in the order of their numbers.
    pub const ALL: [Self; 5] = [Self::Transactions, Self::Tips, Self::Presence, Self::Evidence, Self::Consensus];

    /// The name used in protocol names, logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Transactions => "transactions",
            Self::Tips => "tips",
            Self::Presence => "presence",
            Self::Evidence => "evidence",
            Self::Consensus => "consensus",
        }
    }
}

/// Why a gossip message is refused; the peer that forwarded it should have refused it too.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// The bytes are no envelope.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The author did not sign this payload for this chain and topic.
    #[error(transparent)]
    Sign(#[from] SignError),
}

/// A payload with its author's signature over chain, topic, author and payload.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Envelope {
    /// Who says it.
    pub author: NodeId,
    /// What is said; its meaning depends on the topic.
    pub payload: Vec<u8>,
    /// The author's signature.
    pub signature: Signature,
}

impl Envelope {
    fn signed_bytes(chain: &ChainId, topic: Topic, author: &NodeId, payload: &[u8]) -> Vec<u8> {
        codec::encode(&(chain, topic, author, payload))
    }
    /// Signs the payload. It has at most `limits::GOSSIP_BYTES_MAX` bytes, or nobody will take it.
    pub fn sign(chain: &ChainId, topic: Topic, payload: Vec<u8>, key: &SecretKey) -> Self {
        let author = key.public().node_id();
        let signature = key.sign(Domain::Gossip, &Self::signed_bytes(chain, topic, &author, &payload));
        Self { author, payload, signature }
    }
    /// Decodes and verifies. Errors: `Decode`, `Sign`.
    pub fn open(chain: &ChainId, topic: Topic, bytes: &[u8]) -> Result<Self, EnvelopeError> {
        let envelope: Self = codec::decode(bytes, limits::GOSSIP_BYTES_MAX + limits::GOSSIP_ENVELOPE_BYTES_MAX)?;
        let signed = Self::signed_bytes(chain, topic, &envelope.author, &envelope.payload);
        sign::verify(envelope.author.as_bytes(), Domain::Gossip, &signed, &envelope.signature)?;
        Ok(envelope)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_envelope_holds_for_its_chain_topic_and_payload_only() {
        let key = SecretKey::from_seed(&[1; 32]);
        let (chain, other) = (ChainId::from_bytes([1; 32]), ChainId::from_bytes([2; 32]));
        let envelope = Envelope::sign(&chain, Topic::Tips, b"height 7".to_vec(), &key);
        let bytes = codec::encode(&envelope);
        assert_eq!(Envelope::open(&chain, Topic::Tips, &bytes), Ok(envelope.clone()));
        let refused = Err(EnvelopeError::Sign(SignError::Signature));
        assert_eq!(Envelope::open(&other, Topic::Tips, &bytes), refused);
        assert_eq!(Envelope::open(&chain, Topic::Evidence, &bytes), refused);
        let changed = Envelope { payload: b"height 8".to_vec(), ..envelope };
        assert_eq!(Envelope::open(&chain, Topic::Tips, &codec::encode(&changed)), refused);
    }

    #[test]
    fn the_largest_payload_fits_with_its_envelope() {
        let key = SecretKey::from_seed(&[1; 32]);
        let chain = ChainId::from_bytes([1; 32]);
        let envelope = Envelope::sign(&chain, Topic::Transactions, vec![7; limits::GOSSIP_BYTES_MAX], &key);
        assert!(Envelope::open(&chain, Topic::Transactions, &codec::encode(&envelope)).is_ok());
    }

    #[test]
    fn the_bytes_are_the_golden_ones() {
        let chain = ChainId::from_bytes([1; 32]);
        let envelope = Envelope::sign(&chain, Topic::Tips, b"height 7".to_vec(), &SecretKey::from_seed(&[1; 32]));
        expect_test::expect_file!["../../fixtures/wire/gossip_envelope.hex"]
            .assert_eq(&hex::encode(codec::encode(&envelope)));
    }

    proptest::proptest! {
        #[test]
        fn any_payload_opens_and_any_changed_byte_does_not(
            payload in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200),
            at in proptest::prelude::any::<proptest::sample::Index>(), flip in 1_u8..,
        ) {
            let chain = ChainId::from_bytes([1; 32]);
            let envelope = Envelope::sign(&chain, Topic::Tips, payload, &SecretKey::from_seed(&[1; 32]));
            let mut bytes = codec::encode(&envelope);
            proptest::prop_assert_eq!(Envelope::open(&chain, Topic::Tips, &bytes), Ok(envelope));
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            proptest::prop_assert!(Envelope::open(&chain, Topic::Tips, &bytes).is_err());
        }
    }
}

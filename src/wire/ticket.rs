//! Upload tickets: with whose word a storage node takes bytes that no deal on the ledger covers yet.

use borsh::{BorshDeserialize, BorshSerialize};

use crate::crypto::sign::PublicKey;
use crate::crypto::{Domain, SecretKey, Signature, sign::SignError};
use crate::types::{AccountId, ChainId, Height, NodeId};

/// What an account signs before one slot is uploaded to one node. Root and file are not in it: who streams a file knows
/// them only at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct UploadTicket {
    /// Who answers for the bytes.
    pub account: AccountId,
    /// Names the upload. Chosen by the sender, who goes on with it under the same name.
    pub upload: [u8; 32],
    /// Bytes of the slot at the most, if that is known.
    pub bytes: Option<u64>,
    /// The last height at which an upload may begin with it.
    pub expires: Height,
    /// Signature of the account over chain, node and all of the above.
    pub signature: Signature,
}

impl UploadTicket {
    fn signed_bytes(&self, chain: &ChainId, node: &NodeId) -> Vec<u8> {
        super::encode(&(chain, node, self.account, self.upload, self.bytes, self.expires))
    }
    /// Signs a ticket for this node.
    pub fn sign(
        chain: &ChainId,
        node: &NodeId,
        upload: [u8; 32],
        bytes: Option<u64>,
        expires: Height,
        key: &SecretKey,
    ) -> Self {
        let account = key.public().account_id();
        let mut ticket = Self { account, upload, bytes, expires, signature: Signature::from_bytes([0; 64]) };
        ticket.signature = key.sign(Domain::Ticket, &ticket.signed_bytes(chain, node));
        ticket
    }
    /// Verifies that the account signed it for this node. Errors: `Key`, `Signature`.
    pub fn verify(&self, chain: &ChainId, node: &NodeId) -> Result<(), SignError> {
        let key = PublicKey::from_bytes(self.account.as_bytes())?;
        key.verify(Domain::Ticket, &self.signed_bytes(chain, node), &self.signature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHAIN: ChainId = ChainId::from_bytes([8; 32]);
    const NODE: NodeId = NodeId::from_bytes([9; 32]);

    fn ticket() -> UploadTicket {
        let key = SecretKey::from_seed(&[7; 32]);
        UploadTicket::sign(&CHAIN, &NODE, [5; 32], Some(1 << 20), Height::new(300), &key)
    }

    #[test]
    fn the_canonical_bytes_stay_as_they_are() {
        let bytes = hex::encode(super::super::encode(&ticket())) + "\n";
        expect_test::expect_file!["../../fixtures/wire/upload_ticket.hex"].assert_eq(&bytes);
        assert_eq!(super::super::decode(&super::super::encode(&ticket()), 256), Ok(ticket()));
    }

    #[test]
    fn a_ticket_holds_for_its_chain_node_account_upload_length_and_height_only() {
        let holds = |ticket: UploadTicket| ticket.verify(&CHAIN, &NODE);
        assert_eq!(holds(ticket()), Ok(()));
        assert_eq!(ticket().verify(&ChainId::from_bytes([0; 32]), &NODE), Err(SignError::Signature));
        assert_eq!(ticket().verify(&CHAIN, &NodeId::from_bytes([0; 32])), Err(SignError::Signature));
        let other = SecretKey::from_seed(&[6; 32]).public().account_id();
        let changed = [
            UploadTicket { account: other, ..ticket() },
            UploadTicket { upload: [4; 32], ..ticket() },
            UploadTicket { bytes: Some((1 << 20) + 1), ..ticket() },
            UploadTicket { bytes: None, ..ticket() },
            UploadTicket { expires: Height::new(301), ..ticket() },
        ];
        assert!(changed.into_iter().all(|ticket| holds(ticket) == Err(SignError::Signature)));
        let nobody = UploadTicket { account: AccountId::from_bytes([0; 32]), ..ticket() };
        assert_eq!(holds(nobody), Err(SignError::Key));
    }

    proptest::proptest! {
        #[test]
        fn a_ticket_has_one_encoding(noise in proptest::collection::vec(proptest::prelude::any::<u8>(), 130..180)) {
            if let Ok(decoded) = super::super::decode::<UploadTicket>(&noise, 256) {
                proptest::prop_assert_eq!(super::super::encode(&decoded), noise);
            }
        }
    }
}

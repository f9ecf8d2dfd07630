//! Wire: the canonical bytes of everything that is hashed, signed, stored or sent.
//!
//! Pure. Encoding is borsh; a value has one encoding, and decoding accepts no other: lists that are sets are
//! strictly ascending, and no byte may be left over. Golden bytes of each type lie in `fixtures/wire`.
//! Not here: what the values mean for the chain (`ledger`), for agreement (`consensus`), for a file (`files`).

pub mod block;
pub mod certificate;
pub mod codec;
pub mod evidence;
pub mod file;
pub mod gossip;
pub mod message;
pub mod presence;
pub mod signed;
pub mod ticket;
pub mod tx;
pub mod validators;
pub mod verified;

pub use block::{Block, Header};
pub use certificate::{Certificate, Signed, TimeoutCertificate, VoteKind};
pub use codec::{DecodeError, decode, encode};
pub use evidence::{Accusation, Evidence, FalseReceipt};
pub use file::{PublicManifest, SlotInfo, StorageReceipt};
pub use gossip::{Envelope, Topic};
pub use message::{Message, Newest, ProposedBlock, Unsigned};
pub use presence::Presence;
pub use signed::{SignedAnswer, SignedQuestion};
pub use ticket::UploadTicket;
pub use tx::{Action, Tx, TxBody};
pub use validators::{Validator, ValidatorSet};
pub use verified::{Malformed, VerifiedTx};

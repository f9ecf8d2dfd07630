//! Errors: what the node says, in the words of the protocol.

use s3s::{S3Error, S3ErrorCode};

use super::digest::Fault;
use crate::files::tree::TreeError;
use crate::node::NodeError;

/// The status for a disk or an account that is full. It is none of those that clients try again.
const INSUFFICIENT_STORAGE: u16 = 507;

/// An error with its text.
pub fn error(code: S3ErrorCode, text: impl Into<String>) -> S3Error {
    S3Error::with_message(code, xml_text(&text.into()))
}

/// Whether XML 1.0 has a way to write a character (section 2.2).
pub const fn is_xml(letter: char) -> bool {
    !matches!(letter, '\0'..='\x08' | '\x0b' | '\x0c' | '\x0e'..='\x1f' | '\u{fffe}' | '\u{ffff}')
}

/// A text as an answer can hold it: what XML has no way to write is replaced, so that the rest can be read.
pub fn xml_text(text: &str) -> String {
    text.replace(|letter| !is_xml(letter), "\u{fffd}")
}

/// What the node says is wrong.
pub fn of_node(failed: NodeError) -> S3Error {
    let text = failed.to_string();
    match failed {
        NodeError::NotFound { .. } => error(S3ErrorCode::NoSuchKey, text),
        NodeError::Bad(_) => error(S3ErrorCode::InvalidRequest, text),
        NodeError::NotAllowed(_) => error(S3ErrorCode::AccessDenied, text),
        NodeError::Rejected { code: "quota" | "funds", .. } => full("QuotaExceeded", text),
        NodeError::DiskLow(_) | NodeError::NoRoom(_) => full("InsufficientStorage", text),
        NodeError::Store(failed) if failed.is_disk_full() => full("InsufficientStorage", text),
        NodeError::Tree(failed) => of_tree(&failed),
        NodeError::Rejected { .. }
        | NodeError::Refused(_)
        | NodeError::Timeout { .. }
        | NodeError::Unavailable(_)
        | NodeError::Busy(_)
        | NodeError::Partitioned(_)
        | NodeError::Stopping => error(S3ErrorCode::ServiceUnavailable, text),
        NodeError::Verification(_) | NodeError::Store(_) | NodeError::Slots(_) => {
            tracing::error!(
                text,
                "a request failed on this node's own store, or on bytes that are not what they must be"
            );
            error(S3ErrorCode::InternalError, text)
        }
    }
}

fn of_tree(failed: &TreeError) -> S3Error {
    let text = failed.to_string();
    match failed {
        TreeError::NotFound(_) | TreeError::NoVersion { .. } => error(S3ErrorCode::NoSuchKey, text),
        TreeError::Changed(_) | TreeError::Exists(_) => error(S3ErrorCode::PreconditionFailed, text),
        TreeError::Gone(_) => error(S3ErrorCode::OperationAborted, text),
        TreeError::Bounds { .. } | TreeError::Kind { .. } | TreeError::IntoItself { .. } => {
            error(S3ErrorCode::InvalidArgument, text)
        }
        TreeError::TooMany => error(S3ErrorCode::InvalidRequest, text),
    }
}

fn full(code: &'static str, text: String) -> S3Error {
    let mut error = error(S3ErrorCode::Custom(code.into()), text);
    if let Ok(status) = axum::http::StatusCode::from_u16(INSUFFICIENT_STORAGE) {
        error.set_status_code(status);
    }
    error
}

/// Why a request's bytes are not taken.
pub fn of_fault(fault: &Fault) -> S3Error {
    let text = fault.to_string();
    let code = match fault {
        Fault::BadDigest(_) => S3ErrorCode::BadDigest,
        Fault::Length => S3ErrorCode::IncompleteBody,
        Fault::Sha256 => {
            let mut error = error(S3ErrorCode::Custom("XAmzContentSHA256Mismatch".into()), text);
            error.set_status_code(axum::http::StatusCode::BAD_REQUEST);
            return error;
        }
        Fault::Signature => S3ErrorCode::SignatureDoesNotMatch,
        Fault::Malformed => S3ErrorCode::InvalidRequest,
        Fault::Broken(_) => S3ErrorCode::RequestTimeout,
    };
    error(code, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(error: &S3Error) -> Option<u16> {
        error.status_code().map(|status| status.as_u16())
    }

    #[test]
    fn what_is_worth_another_try_is_told_apart_from_what_is_not() {
        assert_eq!(status(&of_node(NodeError::Unavailable("no node".to_owned()))), Some(503));
        assert_eq!(status(&of_node(NodeError::Bad("no".to_owned()))), Some(400));
        let tx = crate::types::TxId::from_bytes([0; 32]);
        let full = |code| NodeError::Rejected { tx, code, reason: String::new() };
        assert_eq!(status(&of_node(full("quota"))), Some(507));
        assert_eq!(status(&of_node(full("nonce"))), Some(503));
    }

    #[test]
    fn wrong_bytes_are_the_clients_fault() {
        let broken = Fault::Broken(String::new());
        let faults = [Fault::BadDigest(String::new()), Fault::Length, Fault::Sha256, Fault::Malformed, broken];
        for fault in faults {
            assert_eq!(status(&of_fault(&fault)), Some(400), "{fault:?}");
        }
        assert_eq!(status(&of_fault(&Fault::Signature)), Some(403));
    }

    #[test]
    fn texts_of_answers_hold_what_xml_can_write() {
        assert_eq!(xml_text("a\u{1}b\tc\u{ffff}\n\u{10000}é"), "a\u{fffd}b\tc\u{fffd}\n\u{10000}é");
        assert_eq!(error(S3ErrorCode::NoSuchKey, "no \u{2}").message(), Some("no \u{fffd}"));
    }
}

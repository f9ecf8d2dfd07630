//! Tests of the verification of messages and their certificates.

use super::*;
use crate::consensus::tests::harness::{CHAIN, GENESIS, config, first_epoch, keys, set};
use crate::types::View;
use crate::wire::certificate::TimedOut;
use crate::wire::{Signed, Unsigned};

const EPOCH_BLOCKS: u64 = 5;

fn verifier() -> Verifier {
    Verifier::new(&config(set(4).members()[0].node, EPOCH_BLOCKS), &first_epoch(4))
}

fn round(epoch: u64, view: u64) -> Round {
    Round::new(Epoch::new(epoch), View::new(view))
}

fn certificate(kind: VoteKind, round: Round, height: u64, signers: &[u16]) -> Certificate {
    let (height, block) = (Height::new(height), BlockHash::from_bytes([9; 32]));
    let mut certificate = Certificate { kind, round, height, block, signatures: Vec::new() };
    let statement = certificate.statement();
    let sign = |index: &u16| Signed { index: *index, signature: statement.sign(&CHAIN, &keys(4)[usize::from(*index)]) };
    certificate.signatures = signers.iter().map(sign).collect();
    certificate
}

fn newest(high: Certificate) -> Newest {
    Newest { high, timeout: None, commit: None }
}

fn timeout(round: Round, newest: Newest) -> Message {
    Unsigned::Timeout { round, index: 1, newest }.sign(&CHAIN, &keys(4)[1])
}

fn timeout_certificate(round: Round, highs: [&Certificate; 3], high: &Certificate) -> TimeoutCertificate {
    let timed_out = |(index, high): (usize, &&Certificate)| {
        let statement = Statement::Timeout { round, high: high.rank() };
        TimedOut { index: index as u16, high: high.rank(), signature: statement.sign(&CHAIN, &keys(4)[index]) }
    };
    TimeoutCertificate { round, timeouts: highs.iter().enumerate().map(timed_out).collect(), high: high.clone() }
}

#[test]
fn a_message_is_refused_for_its_own_signature_its_signer_or_any_certificate() {
    let good = newest(certificate(VoteKind::Prepare, round(0, 1), 1, &[0, 1, 2]));
    assert!(verifier().verify(timeout(round(0, 2), good.clone())).is_ok());

    let Message::Timeout(mut forged) = timeout(round(0, 2), good.clone()) else { panic!("a timeout") };
    forged.index = 2;
    assert_eq!(verifier().verify(Message::Timeout(forged.clone())), Err(VerifyError::Signature));
    forged.index = 4;
    assert_eq!(verifier().verify(Message::Timeout(forged)), Err(VerifyError::NoMember));

    let few = newest(certificate(VoteKind::Prepare, round(0, 1), 1, &[0, 1]));
    let refused = verifier().verify(timeout(round(0, 2), few));
    assert_eq!(refused, Err(VerifyError::Certificate(CertificateError::NoQuorum { have: 2, total: 4 })));
}

#[test]
fn a_certificate_is_verified_once_and_a_forged_copy_is_replaced_by_the_known_one() {
    let mut verifier = verifier();
    let good = certificate(VoteKind::Prepare, round(0, 1), 1, &[0, 1, 2]);
    assert_eq!(verifier.certificate(&good), Ok(()));
    let mut forged = good.clone();
    forged.signatures[1].signature = forged.signatures[0].signature;
    let message = verifier.verify(Message::Newest(Box::new(newest(forged))));
    assert_eq!(message, Ok(Message::Newest(Box::new(newest(good)))));
}

#[test]
fn a_forged_certificate_of_an_unknown_statement_is_refused() {
    let mut forged = certificate(VoteKind::Prepare, round(0, 1), 1, &[0, 1, 2]);
    forged.signatures[1].signature = forged.signatures[0].signature;
    let refused = verifier().verify(Message::Newest(Box::new(newest(forged))));
    assert_eq!(refused, Err(VerifyError::Certificate(CertificateError::Signature)));
}

#[test]
fn only_the_true_genesis_needs_no_signature() {
    assert!(verifier().certificate(&Certificate::genesis(GENESIS)).is_ok());
    assert!(verifier().certificate(&Certificate::genesis(BlockHash::from_bytes([1; 32]))).is_err());
}

#[test]
fn a_timeout_certificate_carries_the_highest_qc_of_its_timeouts() {
    let low = certificate(VoteKind::Prepare, round(0, 1), 1, &[0, 1, 2]);
    let high = certificate(VoteKind::Prepare, round(0, 2), 2, &[1, 2, 3]);
    let with = |carried: &Certificate| {
        let timeout = Some(timeout_certificate(round(0, 4), [&low, &high, &low], carried));
        verifier().verify(Message::Newest(Box::new(Newest { timeout, ..newest(low.clone()) })))
    };
    assert!(with(&high).is_ok());
    assert_eq!(with(&low), Err(VerifyError::Certificate(CertificateError::HighMismatch)));
}

#[test]
fn a_commit_certificate_within_an_epoch_is_no_justification() {
    let middle = certificate(VoteKind::Commit, round(0, 3), 3, &[0, 1, 2]);
    let refused = verifier().verify(timeout(round(0, 4), newest(middle)));
    assert_eq!(refused, Err(VerifyError::Misplaced));
    let low = certificate(VoteKind::Prepare, round(0, 1), 1, &[0, 1, 2]);
    let commit = Some(low.clone());
    let refused = verifier().verify(Message::Newest(Box::new(Newest { commit, ..newest(low) })));
    assert_eq!(refused, Err(VerifyError::Misplaced), "and a QC is no proof of finality");
}

#[test]
fn of_a_later_epoch_only_the_certificate_that_opened_it_is_taken() {
    let end = certificate(VoteKind::Commit, round(0, 6), EPOCH_BLOCKS, &[0, 1, 3]);
    let message = verifier().verify(timeout(round(1, 1), newest(end.clone())));
    let commit = Some(end.clone());
    assert_eq!(message, Ok(Message::Newest(Box::new(Newest { commit, ..newest(end) }))));

    let later = certificate(VoteKind::Prepare, round(1, 1), 6, &[0, 1, 3]);
    let refused = verifier().verify(timeout(round(1, 2), newest(later)));
    assert_eq!(refused, Err(VerifyError::LaterEpoch { epoch: Epoch::new(1), height: Height::new(6) }));
}

#[test]
fn a_timeout_must_not_claim_less_than_the_opening_of_its_epoch() {
    let mut verifier = verifier();
    let end = certificate(VoteKind::Commit, round(0, 6), EPOCH_BLOCKS, &[0, 1, 3]);
    verifier.begin_epoch(&EpochContext { epoch: Epoch::new(1), opening: end, ..first_epoch(4) });
    let certified_only = certificate(VoteKind::Prepare, round(0, 9), EPOCH_BLOCKS, &[0, 1, 2]);
    assert_eq!(verifier.verify(timeout(round(1, 1), newest(certified_only))), Err(VerifyError::Misplaced));
}

#[test]
fn an_epoch_long_past_is_forgotten() {
    let mut verifier = verifier();
    for epoch in 1..=3 {
        verifier.begin_epoch(&EpochContext { epoch: Epoch::new(epoch), ..first_epoch(4) });
    }
    let old = newest(Certificate::genesis(GENESIS));
    assert_eq!(verifier.verify(timeout(round(0, 1), old)), Err(VerifyError::PastEpoch(Epoch::ZERO)));
}

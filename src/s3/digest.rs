//! Digests: what clients say that their bytes come to, and what they do come to.
//!
//! The bytes of a request are hashed as they pass; if they are not what the client said, the stream ends with an error, so that
//! nothing of them is kept.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64_simd::STANDARD as BASE64;
use borsh::{BorshDeserialize, BorshSerialize};
use bytes::Bytes;
use futures::{Stream, StreamExt};
use s3s::TrailingHeaders;
use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Checksum as _, Crc32, Crc32c, Crc64Nvme, Md5, Sha1, Sha256};
use s3s::dto::{self, StreamingBlob};

/// A checksum that clients of S3 know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Algorithm {
    /// CRC-32 of zlib.
    Crc32,
    /// CRC-32C.
    Crc32c,
    /// CRC-64/NVME.
    Crc64Nvme,
    /// SHA-1.
    Sha1,
    /// SHA-256.
    Sha256,
}

impl Algorithm {
    const ALL: [Self; 5] = [Self::Crc32, Self::Crc32c, Self::Crc64Nvme, Self::Sha1, Self::Sha256];

    /// Its name in the protocol.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Crc32 => "CRC32",
            Self::Crc32c => "CRC32C",
            Self::Crc64Nvme => "CRC64NVME",
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
        }
    }
    /// The algorithm of a name, in any case.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name().eq_ignore_ascii_case(name))
    }
    /// The algorithm of a header such as `x-amz-checksum-crc32`.
    fn of_header(name: &str) -> Option<Self> {
        Self::named(name.trim().to_ascii_lowercase().strip_prefix("x-amz-checksum-")?)
    }
    /// The checksum of several runs of bytes as one, if the algorithm can; each run with its checksum and length.
    pub fn combine(self, runs: &[(Vec<u8>, u64)]) -> Option<Vec<u8>> {
        let (algorithm, bytes) = match self {
            Self::Crc32 => (crc_fast::CrcAlgorithm::Crc32IsoHdlc, 4),
            Self::Crc32c => (crc_fast::CrcAlgorithm::Crc32Iscsi, 4),
            Self::Crc64Nvme => (crc_fast::CrcAlgorithm::Crc64Nvme, 8),
            Self::Sha1 | Self::Sha256 => return None,
        };
        let number = |sum: &[u8]| sum.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        let mut all = crc_fast::checksum(algorithm, b"");
        for (sum, len) in runs {
            all = crc_fast::checksum_combine(algorithm, all, number(sum), *len);
        }
        Some(all.to_be_bytes()[8 - bytes..].to_vec())
    }
    /// The checksum of some bytes.
    pub fn of(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::Crc32 => Crc32::checksum(bytes).to_vec(),
            Self::Crc32c => Crc32c::checksum(bytes).to_vec(),
            Self::Crc64Nvme => Crc64Nvme::checksum(bytes).to_vec(),
            Self::Sha1 => Sha1::checksum(bytes).to_vec(),
            Self::Sha256 => Sha256::checksum(bytes).to_vec(),
        }
    }
    fn field(self, sums: &dto::Checksum) -> Option<&String> {
        match self {
            Self::Crc32 => sums.checksum_crc32.as_ref(),
            Self::Crc32c => sums.checksum_crc32c.as_ref(),
            Self::Crc64Nvme => sums.checksum_crc64nvme.as_ref(),
            Self::Sha1 => sums.checksum_sha1.as_ref(),
            Self::Sha256 => sums.checksum_sha256.as_ref(),
        }
    }
    /// One checksum, in its field.
    pub fn told(self, text: String) -> dto::Checksum {
        let mut sums = dto::Checksum::default();
        match self {
            Self::Crc32 => sums.checksum_crc32 = Some(text),
            Self::Crc32c => sums.checksum_crc32c = Some(text),
            Self::Crc64Nvme => sums.checksum_crc64nvme = Some(text),
            Self::Sha1 => sums.checksum_sha1 = Some(text),
            Self::Sha256 => sums.checksum_sha256 = Some(text),
        }
        sums
    }
}

/// Base 64, as checksums are written.
pub fn base64(bytes: &[u8]) -> String {
    BASE64.encode_to_string(bytes)
}

/// MD5, as entity tags are made of.
pub fn md5(bytes: &[u8]) -> [u8; 16] {
    Md5::checksum(bytes)
}

/// What a client says that its bytes come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Declared {
    /// The checksum's algorithm.
    pub algorithm: Option<Algorithm>,
    /// Its value, if it was told ahead.
    pub value: Option<String>,
    /// Whether it comes behind the bytes.
    pub follows: bool,
    /// MD5, as text.
    pub md5: Option<String>,
    /// Bytes.
    pub len: Option<u64>,
}

impl Declared {
    /// What the fields of a request declare. `trailer` names what comes behind the bytes, `named` the algorithm alone.
    /// Errors: in words, what is wrong with them.
    pub fn new(
        sums: &dto::Checksum,
        trailer: Option<&str>,
        named: Option<&str>,
        md5: Option<String>,
        len: Option<i64>,
    ) -> Result<Self, &'static str> {
        let told = |algorithm: Algorithm| algorithm.field(sums).map(|value| (algorithm, value.clone()));
        let mut values = Algorithm::ALL.into_iter().filter_map(told);
        let value = values.next();
        if values.next().is_some() {
            return Err("more than one checksum is given; one is expected");
        }
        let follows = trailer.and_then(|names| names.split(',').find_map(Algorithm::of_header));
        let unknown = "the checksum's algorithm is not known";
        let named = named.map(|name| Algorithm::named(name).ok_or(unknown)).transpose()?;
        let md5_valid = |text: &String| BASE64.decode_to_vec(text).is_ok_and(|bytes| bytes.len() == 16);
        if md5.as_ref().is_some_and(|text| !md5_valid(text)) {
            return Err("Content-MD5 is no MD5 in base 64");
        }
        let algorithm = value.as_ref().map(|(algorithm, _)| *algorithm).or(follows).or(named);
        let len = len.and_then(|len| u64::try_from(len).ok());
        Ok(Self { algorithm, value: value.map(|(_, value)| value), follows: follows.is_some(), md5, len })
    }
}

/// What bytes came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digest {
    /// MD5.
    pub md5: [u8; 16],
    /// Bytes.
    pub len: u64,
    sums: Vec<(Algorithm, Vec<u8>)>,
}

impl Digest {
    /// The checksum by an algorithm that was asked for.
    pub fn sum(&self, algorithm: Algorithm) -> Option<&[u8]> {
        self.sums.iter().find(|(have, _)| *have == algorithm).map(|(_, sum)| sum.as_slice())
    }
}

/// Why a request's bytes are not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// They are others than the client says.
    #[error("{0}")]
    BadDigest(String),
    /// They end too early, or go on too long.
    #[error("the body has another length than was announced")]
    Length,
    /// Their hash is not the one in the request's signature.
    #[error("the body's hash is not the x-amz-content-sha256 of the request")]
    Sha256,
    /// Their signatures are wrong.
    #[error("the signature of a piece of the body is wrong")]
    Signature,
    /// They do not come in the form that was announced.
    #[error("the pieces of the body are not in the form of aws-chunked")]
    Malformed,
    /// They did not come.
    #[error("the body broke off: {0}")]
    Broken(String),
}

impl Fault {
    /// What the S3 library says of a body that it cannot read. It keeps its errors to itself, so their texts are looked at.
    fn of(text: &str) -> Self {
        let has = |word| text.contains(word);
        match () {
            () if has("Sha256Mismatch") => Self::Sha256,
            () if has("SignatureMismatch") => Self::Signature,
            () if has("Incomplete") || has("LengthMismatch") => Self::Length,
            () if ["FormatError", "TooLarge", "TooMany"].into_iter().any(has) => Self::Malformed,
            () => Self::Broken(text.to_owned()),
        }
    }
}

/// What became of a stream, once it has ended.
#[derive(Clone, Default)]
pub struct Ended(Arc<Mutex<Option<Result<Digest, Fault>>>>);

impl Ended {
    fn lock(&self) -> MutexGuard<'_, Option<Result<Digest, Fault>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// What the bytes came to, if all were read and are what was declared.
    pub fn digest(&self) -> Option<Digest> {
        self.lock().clone().and_then(Result::ok)
    }
    /// Why they are not taken, if that is so.
    pub fn fault(&self) -> Option<Fault> {
        self.lock().clone().and_then(Result::err)
    }
}

/// What hashes while bytes pass.
struct Hashing {
    md5: Md5,
    sums: ChecksumHasher,
    len: u64,
}

impl Hashing {
    fn new(algorithms: &[Algorithm]) -> Self {
        let mut sums = ChecksumHasher::default();
        for algorithm in algorithms {
            match algorithm {
                Algorithm::Crc32 => sums.crc32 = Some(Crc32::default()),
                Algorithm::Crc32c => sums.crc32c = Some(Crc32c::default()),
                Algorithm::Crc64Nvme => sums.crc64nvme = Some(Crc64Nvme::default()),
                Algorithm::Sha1 => sums.sha1 = Some(Sha1::default()),
                Algorithm::Sha256 => sums.sha256 = Some(Sha256::default()),
            }
        }
        Self { md5: Md5::default(), sums, len: 0 }
    }

    fn update(&mut self, bytes: &[u8]) {
        self.md5.update(bytes);
        self.sums.update(bytes);
        self.len += bytes.len() as u64;
    }

    /// Errors: `BadDigest`, `Length`.
    fn finish(self, declared: &Declared, trailer: Option<String>) -> Result<Digest, Fault> {
        let (md5, len, told) = (self.md5.finalize(), self.len, self.sums.finalize());
        if declared.len.is_some_and(|declared| declared != len) {
            return Err(Fault::Length);
        }
        if let Some(expected) = declared.md5.as_ref().filter(|expected| **expected != base64(&md5)) {
            let text = format!("the body's MD5 is {}, Content-MD5 says {expected}", base64(&md5));
            return Err(Fault::BadDigest(text));
        }
        if let Some(algorithm) = declared.algorithm {
            let have = algorithm.field(&told).cloned().unwrap_or_default();
            let name = algorithm.name();
            if declared.follows && trailer.is_none() && declared.value.is_none() {
                return Err(Fault::BadDigest(format!("the {name} that was announced behind the body did not come")));
            }
            if let Some(expected) = trailer.iter().chain(&declared.value).find(|expected| **expected != have) {
                return Err(Fault::BadDigest(format!("the body's {name} is {have}, the request says {expected}")));
            }
        }
        let sum = |algorithm: Algorithm| {
            let bytes = BASE64.decode_to_vec(algorithm.field(&told)?).ok()?;
            Some((algorithm, bytes))
        };
        Ok(Digest { md5, len, sums: Algorithm::ALL.into_iter().filter_map(sum).collect() })
    }
}

/// The bytes of a request as they pass, hashed by what was declared and by `also`.
pub type Checked = Pin<Box<dyn Stream<Item = Result<Bytes, Fault>> + Send>>;

/// Hashes a request's body while it passes. The stream ends with an error where the bytes are not what was declared.
pub fn check(
    body: Option<StreamingBlob>,
    declared: Declared,
    trailers: Option<TrailingHeaders>,
    also: Option<Algorithm>,
) -> (Checked, Ended) {
    let ended = Ended::default();
    let algorithms: Vec<_> = declared.algorithm.into_iter().chain(also).collect();
    let pieces = futures::stream::iter(body).flatten();
    let state = (pieces, Some(Hashing::new(&algorithms)), declared, trailers, ended.clone());
    let stream = futures::stream::unfold(state, |(mut pieces, hashing, declared, trailers, ended)| async move {
        let mut hashing = hashing?;
        let fault = match pieces.next().await {
            Some(Ok(piece)) => {
                hashing.update(&piece);
                return Some((Ok(piece), (pieces, Some(hashing), declared, trailers, ended)));
            }
            Some(Err(error)) => Fault::of(&error.to_string()),
            None => {
                let trailer = declared.algorithm.and_then(|algorithm| {
                    let name = format!("x-amz-checksum-{}", algorithm.name().to_ascii_lowercase());
                    let read = |headers: &axum::http::HeaderMap| Some(headers.get(name)?.to_str().ok()?.to_owned());
                    trailers.as_ref().and_then(|trailers| trailers.read(read)).flatten()
                });
                match hashing.finish(&declared, trailer) {
                    Ok(digest) => {
                        *ended.lock() = Some(Ok(digest));
                        return None;
                    }
                    Err(fault) => fault,
                }
            }
        };
        *ended.lock() = Some(Err(fault.clone()));
        Some((Err(fault), (pieces, None, declared, trailers, ended)))
    });
    (Box::pin(stream), ended)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(parts: &[&'static [u8]], declared: Declared) -> Result<Digest, Fault> {
        let pieces: Vec<_> = parts.iter().map(|part| Ok::<_, std::io::Error>(Bytes::from_static(part))).collect();
        let body = StreamingBlob::wrap(futures::stream::iter(pieces));
        let (stream, ended) = check(Some(body), declared, None, Some(Algorithm::Crc64Nvme));
        let items: Vec<_> = futures::executor::block_on(stream.collect());
        match items.into_iter().find_map(Result::err) {
            Some(fault) => {
                assert_eq!(ended.fault().as_ref(), Some(&fault));
                Err(fault)
            }
            None => Ok(ended.digest().expect("a stream that ends well has a digest")),
        }
    }

    fn declared(algorithm: Algorithm, value: &str) -> Declared {
        Declared { algorithm: Some(algorithm), value: Some(value.to_owned()), ..Declared::default() }
    }

    #[test]
    fn known_answers_of_each_algorithm_pass_and_any_other_is_refused() {
        for (algorithm, value) in [
            (Algorithm::Crc32, "y/Q5Jg=="),
            (Algorithm::Crc32c, "4waSgw=="),
            (Algorithm::Crc64Nvme, "rosUhgp5mIg="),
            (Algorithm::Sha1, "98O8HYCOBHMq32eZZczDTKeuNEE="),
            (Algorithm::Sha256, "FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU="),
        ] {
            let digest = run(&[b"1234", b"56789"], declared(algorithm, value)).expect("a right checksum");
            assert_eq!(digest.sum(algorithm).map(base64).as_deref(), Some(value), "{algorithm:?}");
            assert_eq!(base64(&algorithm.of(b"123456789")), value);
            let wrong = run(&[b"1234", b"5678"], declared(algorithm, value));
            assert!(matches!(wrong, Err(Fault::BadDigest(_))), "{algorithm:?}");
        }
    }

    #[test]
    fn content_md5_and_length_are_checked() {
        let md5 = |text: &str| Declared { md5: Some(text.to_owned()), ..Declared::default() };
        assert!(run(&[b"123456789"], md5("JfnnlDI7RTiF9RgfG2JNCw==")).is_ok());
        assert!(matches!(run(&[b"12345678"], md5("JfnnlDI7RTiF9RgfG2JNCw==")), Err(Fault::BadDigest(_))));
        let len = |len| Declared { len: Some(len), ..Declared::default() };
        assert!(run(&[], len(0)).is_ok());
        assert_eq!(run(&[b"123"], len(4)), Err(Fault::Length));
    }

    #[test]
    fn a_checksum_that_was_announced_and_does_not_come_is_refused() {
        let sums = dto::Checksum::default();
        let declared = Declared::new(&sums, Some("x-amz-checksum-crc32"), None, None, None).expect("well formed");
        assert!(declared.follows && declared.algorithm == Some(Algorithm::Crc32));
        assert!(matches!(run(&[b"1"], declared), Err(Fault::BadDigest(_))));
    }

    #[test]
    fn what_the_library_says_of_a_body_is_told_apart() {
        for (text, fault) in [
            ("AwsChunkedStreamError: FormatError", Fault::Malformed),
            ("AwsChunkedStreamError: ChunkMetaTooLarge: size 9 exceeds limit 1", Fault::Malformed),
            ("AwsChunkedStreamError: Incomplete", Fault::Length),
            ("UploadStreamError: Sha256Mismatch", Fault::Sha256),
            ("timed out", Fault::Broken("timed out".to_owned())),
        ] {
            assert_eq!(Fault::of(text), fault);
        }
    }

    #[test]
    fn contradictions_are_refused_before_a_byte_is_read() {
        let mut sums = Algorithm::Crc32.told("y/Q5Jg==".to_owned());
        sums.checksum_sha1 = Some("98O8HYCOBHMq32eZZczDTKeuNEE=".to_owned());
        assert!(Declared::new(&sums, None, None, None, None).is_err());
        let none = dto::Checksum::default();
        assert!(Declared::new(&none, None, Some("MD4"), None, None).is_err());
        assert!(Declared::new(&none, None, None, Some("abc".to_owned()), None).is_err());
    }

    #[test]
    fn checksums_of_parts_make_that_of_the_whole() {
        for algorithm in [Algorithm::Crc32, Algorithm::Crc32c, Algorithm::Crc64Nvme] {
            let runs: Vec<_> = [&b"1234"[..], b"", b"56789"].map(|run| (algorithm.of(run), run.len() as u64)).into();
            assert_eq!(algorithm.combine(&runs), Some(algorithm.of(b"123456789")), "{algorithm:?}");
            assert_eq!(algorithm.combine(&[]), Some(algorithm.of(b"")));
        }
        assert_eq!(Algorithm::Sha256.combine(&[]), None);
    }
}

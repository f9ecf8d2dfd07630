//! Complete: the parts of an upload become an object.

use super::*;

/// What an object of parts is to be.
struct Whole {
    parts: Vec<Stored>,
    etag: String,
    checksum: Option<Checksum>,
    len: u64,
}

impl Gateway {
    pub(in crate::s3) async fn complete(
        &self,
        req: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let (input, headers) = (req.input, req.headers);
        let listed = input.multipart_upload.as_ref().and_then(|upload| upload.parts.clone()).unwrap_or_default();
        bucket::must_exist(&self.tree, &input.bucket).await?;
        let failed = match self.complete_now(&input, &headers, &listed).await {
            Ok(output) => return Ok(S3Response::new(output)),
            Err(failed) => failed,
        };
        // A client that lost the answer asks again, and one that asks several times at once is the first only once.
        match self.upload(&input.bucket, &input.key, &input.upload_id).await {
            Ok(_) => Err(failed),
            Err(gone) => {
                let output = self.completed_before(&input, &listed).await?.ok_or(gone)?;
                Ok(S3Response::new(output))
            }
        }
    }

    async fn complete_now(
        &self,
        input: &CompleteMultipartUploadInput,
        headers: &axum::http::HeaderMap,
        listed: &[CompletedPart],
    ) -> S3Result<CompleteMultipartUploadOutput> {
        let path = new_path(&input.bucket, &input.key)?;
        let (folder, upload) = self.upload(&input.bucket, &input.key, &input.upload_id).await?;
        let stored = self.parts(&folder, 0).await?;
        let whole = choose(&upload, stored, listed)?;
        let wrong_size = input.mpu_object_size.is_some_and(|size| u64::try_from(size).ok() != Some(whole.len));
        if wrong_size {
            let text = format!("the parts have {} bytes, x-amz-mp-object-size says another number", whole.len);
            return Err(error(S3ErrorCode::InvalidRequest, text));
        }
        check_told(input, whole.checksum.as_ref())?;
        let expect = self.expect(&path, headers).await?;
        let told = told(input, whole.etag.clone(), whole.checksum.as_ref());
        self.make_whole(&input.key, path, folder, upload, whole, expect).await?;
        Ok(told)
    }

    async fn make_whole(
        &self,
        key: &str,
        path: String,
        folder: String,
        upload: Upload,
        whole: Whole,
        expect: Expect,
    ) -> S3Result<()> {
        let mut meta = upload.meta;
        meta.note_parts(whole.parts.iter().map(|stored| stored.content.len()));
        meta.etag = whole.etag;
        meta.checksum = whole.checksum;
        let pieces: Vec<_> = whole.parts.into_iter().flat_map(|stored| stored.content.pieces).collect();
        let content = Content { number: 0, pieces, hash: None, put: self.now() };
        let content = self.gather(content).await?;
        let entry = meta.entry(kind(key, content)?, self.now());
        let ops =
            // The parts are free for another path once their own is gone.
            vec![Op::RemoveAll { prefix: folder }, Op::Put { path, entry: Box::new(entry), keep: self.keep, expect }];
        self.apply(ops).await
    }

    /// A content of no more stored files than one entry names: where there are more, neighbours are stored again as one.
    async fn gather(&self, content: Content) -> S3Result<Content> {
        if content.pieces.len() <= PIECES_MAX {
            return Ok(content);
        }
        let mut pieces = Vec::new();
        for run in content.pieces.chunks(content.pieces.len().div_ceil(PIECES_MAX)) {
            let run = Content { pieces: run.to_vec(), ..content.clone() };
            pieces.extend(self.copy_bytes(&run, None, None).await?.0.pieces);
        }
        Ok(Content { pieces, ..content })
    }

    /// The answer for an upload that was completed before, with the same parts.
    async fn completed_before(
        &self,
        input: &CompleteMultipartUploadInput,
        listed: &[CompletedPart],
    ) -> S3Result<Option<CompleteMultipartUploadOutput>> {
        let tags = listed.iter().map(|part| hex::decode(part.e_tag.as_ref()?.value()).ok());
        let Some(tags) = tags.collect::<Option<Vec<_>>>().filter(|tags| !tags.is_empty()) else { return Ok(None) };
        let etag = whole_tag(&tags.concat(), tags.len());
        let present = bucket::object(&self.tree, &input.bucket, &input.key).await.ok();
        let present = present.filter(|object| object.meta.etag == etag);
        Ok(present.map(|object| told(input, etag, object.meta.checksum.as_ref())))
    }
}

fn whole_tag(md5s: &[u8], parts: usize) -> String {
    format!("{}-{parts}", hex::encode(md5(md5s)))
}

/// The parts that a client lists, in their order. Errors: `MalformedXML`, `InvalidPartOrder`, `InvalidPart`, `EntityTooSmall`.
fn choose(upload: &Upload, stored: Vec<Stored>, listed: &[CompletedPart]) -> S3Result<Whole> {
    if listed.is_empty() {
        return Err(error(S3ErrorCode::MalformedXML, "at least one part has to be listed"));
    }
    let numbers: Vec<_> = listed.iter().map(|part| part.part_number.unwrap_or(0)).collect();
    if !numbers.is_sorted_by(|a, b| a < b) {
        return Err(error(S3ErrorCode::InvalidPartOrder, "the parts are not listed in ascending order"));
    }
    let mut there: std::collections::BTreeMap<i32, Stored> =
        stored.into_iter().map(|stored| (stored.number, stored)).collect();
    let mut parts = Vec::new();
    for (number, wanted) in numbers.iter().zip(listed) {
        let wrong = |what: &str| error(S3ErrorCode::InvalidPart, format!("part {number} {what}"));
        let part = there.remove(number).ok_or_else(|| wrong("was not uploaded"))?;
        let tag = wanted.e_tag.as_ref().map(s3s::dto::ETag::value);
        if tag != Some(hex::encode(part.part.md5).as_str()) {
            return Err(wrong("has another entity tag"));
        }
        let sum = base64(&part.part.sum);
        let told = told_of(wanted);
        if [
            &told.checksum_crc32,
            &told.checksum_crc32c,
            &told.checksum_crc64nvme,
            &told.checksum_sha1,
            &told.checksum_sha256,
        ]
        .into_iter()
        .flatten()
        .any(|told| *told != sum)
        {
            return Err(wrong("has another checksum"));
        }
        parts.push(part);
    }
    let but_last = &parts[..parts.len() - 1];
    if let Some(small) = but_last.iter().find(|part| part.content.len() < PART_BYTES_MIN) {
        let text =
            format!("part {} has {} bytes; all but the last have at least 5 MiB", small.number, small.content.len());
        return Err(error(S3ErrorCode::EntityTooSmall, text));
    }
    let md5s: Vec<u8> = parts.iter().flat_map(|part| part.part.md5).collect();
    let len = parts.iter().map(|part| part.content.len()).sum();
    Ok(Whole { etag: whole_tag(&md5s, parts.len()), checksum: checksum(upload, &parts), parts, len })
}

fn told_of(part: &CompletedPart) -> s3s::dto::Checksum {
    s3s::dto::Checksum {
        checksum_crc32: part.checksum_crc32.clone(),
        checksum_crc32c: part.checksum_crc32c.clone(),
        checksum_crc64nvme: part.checksum_crc64nvme.clone(),
        checksum_sha1: part.checksum_sha1.clone(),
        checksum_sha256: part.checksum_sha256.clone(),
        checksum_type: None,
    }
}

fn checksum(upload: &Upload, parts: &[Stored]) -> Option<Checksum> {
    let algorithm = upload.algorithm;
    if upload.composite {
        let sums: Vec<u8> = parts.iter().flat_map(|part| part.part.sum.iter().copied()).collect();
        let text = format!("{}-{}", base64(&algorithm.of(&sums)), parts.len());
        return Some(Checksum { algorithm, text, composite: true });
    }
    let runs: Vec<_> = parts.iter().map(|part| (part.part.sum.clone(), part.content.len())).collect();
    Some(Checksum { algorithm, text: base64(&algorithm.combine(&runs)?), composite: false })
}

/// Errors: `BadDigest` if the client says another checksum of the whole.
fn check_told(input: &CompleteMultipartUploadInput, have: Option<&Checksum>) -> S3Result<()> {
    let said = [
        (Algorithm::Crc32, &input.checksum_crc32),
        (Algorithm::Crc32c, &input.checksum_crc32c),
        (Algorithm::Crc64Nvme, &input.checksum_crc64nvme),
        (Algorithm::Sha1, &input.checksum_sha1),
        (Algorithm::Sha256, &input.checksum_sha256),
    ];
    for (algorithm, said) in said {
        let have = have.filter(|have| have.algorithm == algorithm);
        if let Some(said) = said
            && have.is_none_or(|have| have.text != *said && have.text.split('-').next() != Some(said))
        {
            let text = format!("the {} of the whole is another one", algorithm.name());
            return Err(error(S3ErrorCode::BadDigest, text));
        }
    }
    Ok(())
}

fn told(
    input: &CompleteMultipartUploadInput,
    etag: String,
    checksum: Option<&Checksum>,
) -> CompleteMultipartUploadOutput {
    let sums = checksum.map(Checksum::told).unwrap_or_default();
    CompleteMultipartUploadOutput {
        bucket: Some(input.bucket.clone()),
        key: Some(input.key.clone()),
        location: Some(format!("/{}/{}", input.bucket, input.key)),
        e_tag: Some(s3s::dto::ETag::Strong(etag)),
        checksum_crc32: sums.checksum_crc32,
        checksum_crc32c: sums.checksum_crc32c,
        checksum_crc64nvme: sums.checksum_crc64nvme,
        checksum_sha1: sums.checksum_sha1,
        checksum_sha256: sums.checksum_sha256,
        checksum_type: sums.checksum_type,
        ..CompleteMultipartUploadOutput::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::tree::Piece;
    use crate::types::FileId;

    fn stored(number: i32, len: u64) -> Stored {
        let pieces = vec![Piece { file: FileId::from_bytes([1; 32]), len }];
        let part = Part { md5: [u8::try_from(number).expect("small"); 16], sum: vec![0; 8] };
        Stored { number, part, content: Content { number: 1, pieces, hash: None, put: Millis::new(0) } }
    }

    fn listed(number: i32, tag: u8) -> CompletedPart {
        let e_tag = Some(s3s::dto::ETag::Strong(hex::encode([tag; 16])));
        CompletedPart { part_number: Some(number), e_tag, ..CompletedPart::default() }
    }

    fn code(stored: Vec<Stored>, parts: &[CompletedPart]) -> Result<String, S3ErrorCode> {
        let (meta, begun) = (Meta::default(), Millis::new(0));
        let upload = Upload { key: String::new(), meta, begun, algorithm: Algorithm::Crc64Nvme, composite: false };
        choose(&upload, stored, parts).map(|whole| whole.etag).map_err(|error| error.code().clone())
    }

    #[test]
    fn an_object_has_the_parts_that_the_client_lists() {
        let all = || vec![stored(1, PART_BYTES_MIN), stored(2, PART_BYTES_MIN), stored(7, 1)];
        let tag = format!("{}-2", hex::encode(md5(&[[1; 16], [7; 16]].concat())));
        assert_eq!(code(all(), &[listed(1, 1), listed(7, 7)]), Ok(tag));
        assert_eq!(code(all(), &[]), Err(S3ErrorCode::MalformedXML));
        assert_eq!(code(all(), &[listed(2, 2), listed(1, 1)]), Err(S3ErrorCode::InvalidPartOrder));
        assert_eq!(code(all(), &[listed(1, 1), listed(1, 1)]), Err(S3ErrorCode::InvalidPartOrder));
        assert_eq!(code(all(), &[listed(3, 3)]), Err(S3ErrorCode::InvalidPart));
        assert_eq!(code(all(), &[listed(1, 9)]), Err(S3ErrorCode::InvalidPart));
        let small = vec![stored(1, PART_BYTES_MIN - 1), stored(2, 1)];
        assert_eq!(code(small, &[listed(1, 1), listed(2, 2)]), Err(S3ErrorCode::EntityTooSmall));
    }

    #[test]
    fn a_checksum_of_the_whole_must_be_the_one_of_the_parts() {
        let have = Checksum { algorithm: Algorithm::Crc32, text: "AAAAAA==-2".to_owned(), composite: true };
        let said = |text: &str| CompleteMultipartUploadInput { checksum_crc32: Some(text.to_owned()), ..input() };
        assert!(check_told(&said("AAAAAA==-2"), Some(&have)).is_ok());
        assert!(check_told(&said("AAAAAA=="), Some(&have)).is_ok());
        assert!(check_told(&said("AAAAAQ==-2"), Some(&have)).is_err());
        let other = CompleteMultipartUploadInput { checksum_sha1: Some("AAAAAA==-2".to_owned()), ..input() };
        assert!(check_told(&other, Some(&have)).is_err());
    }

    fn input() -> CompleteMultipartUploadInput {
        let mut builder = CompleteMultipartUploadInput::builder();
        builder.set_bucket("b".to_owned());
        builder.set_key("k".to_owned());
        builder.set_upload_id("u".to_owned());
        builder.build().expect("complete")
    }
}

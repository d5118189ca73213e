//! The operations of S3 over the memory of [`State`].

use std::sync::{Arc, Mutex, MutexGuard};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use futures::TryStreamExt;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use s3s::dto::{self, CopySource, ETag, ETagCondition, StreamingBlob};
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};

use super::store::{Object, Page, Paging, Quirk, State, etag};

/// The characters that S3 leaves as they are in a listing with `encoding-type=url`.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');

pub(super) struct Service {
    pub(super) state: Arc<Mutex<State>>,
}

type Answer<T> = S3Result<S3Response<T>>;

impl Service {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("state")
    }

    /// Returns the bytes that a copy names, within `range` (`bytes=<first>-<last>`) if there is one.
    fn source(&self, source: &CopySource, range: Option<&str>) -> S3Result<Bytes> {
        let CopySource::Bucket { bucket, key, .. } = source else {
            return Err(s3_error!(NotImplemented, "copies are from a bucket and key"));
        };
        let data = self.state().object(bucket, key)?.data;
        let Some(range) = range else { return Ok(data) };
        let range =
            dto::Range::parse(range).map_err(|_| s3_error!(InvalidArgument, "copy range {range} is not valid"))?;
        let range = range
            .check(data.len() as u64)
            .map_err(|_| s3_error!(InvalidArgument, "copy range is outside of the source"))?;
        Ok(slice(&data, range))
    }
}

/// Reads a body to its end; one that breaks off, or whose length is not what was said, stores nothing.
async fn read(body: Option<StreamingBlob>, said: Option<i64>) -> S3Result<Bytes> {
    let mut data = Vec::new();
    if let Some(mut body) = body {
        while let Some(chunk) =
            body.try_next().await.map_err(|error| s3_error!(IncompleteBody, "the body broke off: {error}"))?
        {
            data.extend_from_slice(&chunk);
        }
    }
    if said.is_some_and(|said| said != length(data.len())) {
        return Err(s3_error!(IncompleteBody, "{} bytes came of {said:?}", data.len()));
    }
    Ok(Bytes::from(data))
}

/// Returns whether the condition asks that there be no object yet. S3 has no other condition.
fn creates(condition: Option<&ETagCondition>) -> S3Result<bool> {
    match condition {
        None => Ok(false),
        Some(ETagCondition::Any) => Ok(true),
        Some(ETagCondition::ETag(_)) => Err(s3_error!(NotImplemented, "If-None-Match takes * alone")),
    }
}

fn slice(data: &Bytes, range: std::ops::Range<u64>) -> Bytes {
    let at = |position| usize::try_from(position).expect("an object in memory is addressed by usize");
    data.slice(at(range.start)..at(range.end))
}

fn length(bytes: usize) -> i64 {
    i64::try_from(bytes).expect("what is in memory is short enough")
}

fn count(entries: usize) -> i32 {
    i32::try_from(entries).expect("a page is short enough")
}

fn head(object: &Object) -> dto::HeadObjectOutput {
    dto::HeadObjectOutput {
        accept_ranges: Some("bytes".to_owned()),
        content_length: Some(length(object.data.len())),
        e_tag: Some(ETag::Strong(object.etag.clone())),
        last_modified: Some(object.modified.into()),
        ..Default::default()
    }
}

#[async_trait::async_trait]
impl S3 for Service {
    async fn create_bucket(&self, req: S3Request<dto::CreateBucketInput>) -> Answer<dto::CreateBucketOutput> {
        let location = format!("/{}", req.input.bucket);
        self.state().buckets.entry(req.input.bucket).or_default();
        Ok(S3Response::new(dto::CreateBucketOutput { location: Some(location) }))
    }

    async fn head_bucket(&self, req: S3Request<dto::HeadBucketInput>) -> Answer<dto::HeadBucketOutput> {
        self.state().bucket(&req.input.bucket)?;
        Ok(S3Response::new(dto::HeadBucketOutput::default()))
    }

    async fn put_object(&self, req: S3Request<dto::PutObjectInput>) -> Answer<dto::PutObjectOutput> {
        let input = req.input;
        let create = creates(input.if_none_match.as_ref())?;
        if input.if_match.is_some() {
            return Err(s3_error!(NotImplemented, "If-Match is not implemented"));
        }
        let data = read(input.body, input.content_length).await?;
        let late = create && self.state().quirk == Some(Quirk::LooksThenCreates);
        if late {
            let there = self.state().object(&input.bucket, &input.key).is_ok();
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            if there {
                return Err(s3_error!(PreconditionFailed, "{} exists", input.key));
            }
        }
        let create = create && !late;
        let mut state = self.state();
        state.bytes_written += data.len() as u64;
        let tag = etag(&data);
        let tag = state.put(&input.bucket, &input.key, data, tag, create)?;
        Ok(S3Response::new(dto::PutObjectOutput { e_tag: Some(ETag::Strong(tag)), ..Default::default() }))
    }

    async fn get_object(&self, req: S3Request<dto::GetObjectInput>) -> Answer<dto::GetObjectOutput> {
        let input = req.input;
        if input.if_match.is_some() || input.if_none_match.is_some() || input.part_number.is_some() {
            return Err(s3_error!(NotImplemented, "conditional reads and reads by part are not implemented"));
        }
        let object = self.state().object(&input.bucket, &input.key)?;
        let total = object.data.len();
        let ignores_range = self.state().quirk == Some(Quirk::IgnoresRange);
        let (data, content_range) = match input.range.filter(|_| !ignores_range) {
            None => (object.data, None),
            Some(range) => {
                let range = range
                    .check(total as u64)
                    .map_err(|_| s3_error!(InvalidRange, "{range:?} is outside of {total} bytes"))?;
                let said = format!("bytes {}-{}/{total}", range.start, range.end.saturating_sub(1));
                (slice(&object.data, range), Some(said))
            }
        };
        let output = dto::GetObjectOutput {
            accept_ranges: Some("bytes".to_owned()),
            content_length: Some(length(data.len())),
            content_range,
            e_tag: Some(ETag::Strong(object.etag)),
            last_modified: Some(object.modified.into()),
            body: Some(s3s::Body::from(data).into()),
            ..Default::default()
        };
        Ok(S3Response::new(output))
    }

    async fn head_object(&self, req: S3Request<dto::HeadObjectInput>) -> Answer<dto::HeadObjectOutput> {
        let object = self.state().object(&req.input.bucket, &req.input.key)?;
        Ok(S3Response::new(head(&object)))
    }

    async fn delete_object(&self, req: S3Request<dto::DeleteObjectInput>) -> Answer<dto::DeleteObjectOutput> {
        self.state().delete(&req.input.bucket, &req.input.key)?;
        Ok(S3Response::new(dto::DeleteObjectOutput::default()))
    }

    async fn delete_objects(&self, req: S3Request<dto::DeleteObjectsInput>) -> Answer<dto::DeleteObjectsOutput> {
        let dto::DeleteObjectsInput { bucket, delete, .. } = req.input;
        if delete.objects.len() > 1000 {
            return Err(s3_error!(MalformedXML, "{} keys are more than 1000", delete.objects.len()));
        }
        let mut state = self.state();
        let mut deleted = Vec::new();
        for object in delete.objects {
            state.delete(&bucket, &object.key)?;
            deleted.push(dto::DeletedObject { key: Some(object.key), ..Default::default() });
        }
        let deleted = Some(deleted).filter(|_| !delete.quiet.unwrap_or_default());
        Ok(S3Response::new(dto::DeleteObjectsOutput { deleted, ..Default::default() }))
    }

    async fn copy_object(&self, req: S3Request<dto::CopyObjectInput>) -> Answer<dto::CopyObjectOutput> {
        let input = req.input;
        let data = self.source(&input.copy_source, None)?;
        let tag = etag(&data);
        let tag = self.state().put(&input.bucket, &input.key, data, tag, false)?;
        let result = dto::CopyObjectResult {
            e_tag: Some(ETag::Strong(tag)),
            last_modified: Some(self.state().now().into()),
            ..Default::default()
        };
        Ok(S3Response::new(dto::CopyObjectOutput { copy_object_result: Some(result), ..Default::default() }))
    }

    async fn list_objects_v2(&self, req: S3Request<dto::ListObjectsV2Input>) -> Answer<dto::ListObjectsV2Output> {
        let input = req.input;
        let token = input.continuation_token.as_deref().map(|token| {
            let bytes = URL_SAFE_NO_PAD.decode(token).ok();
            bytes
                .and_then(|bytes| String::from_utf8(bytes).ok())
                .ok_or_else(|| s3_error!(InvalidArgument, "that continuation token is not ours"))
        });
        let quirk = self.state().quirk;
        let token = token.transpose()?.filter(|_| quirk != Some(Quirk::ListsOnePage));
        let limit = input.max_keys.unwrap_or(1000);
        let mut page = self.state().list(
            &input.bucket,
            &Paging {
                prefix: input.prefix.as_deref().unwrap_or_default(),
                delimiter: input.delimiter.as_deref().unwrap_or_default(),
                after: token.as_deref().or(input.start_after.as_deref()).unwrap_or_default(),
                resumed: token.is_some(),
                limit: usize::try_from(limit)
                    .map_err(|_| s3_error!(InvalidArgument, "max-keys is negative"))?
                    .min(1000),
            },
        )?;
        if quirk == Some(Quirk::ListsBackwards) {
            page.objects.reverse();
        }
        Ok(S3Response::new(listing(input, page, limit)))
    }

    async fn create_multipart_upload(
        &self,
        req: S3Request<dto::CreateMultipartUploadInput>,
    ) -> Answer<dto::CreateMultipartUploadOutput> {
        let dto::CreateMultipartUploadInput { bucket, key, .. } = req.input;
        let upload_id = Some(self.state().begin_upload(&bucket, &key)?);
        Ok(S3Response::new(dto::CreateMultipartUploadOutput {
            bucket: Some(bucket),
            key: Some(key),
            upload_id,
            ..Default::default()
        }))
    }

    async fn upload_part(&self, req: S3Request<dto::UploadPartInput>) -> Answer<dto::UploadPartOutput> {
        let input = req.input;
        let data = read(input.body, input.content_length).await?;
        let mut state = self.state();
        state.bytes_written += data.len() as u64;
        let tag = state.put_part(&input.bucket, &input.key, &input.upload_id, input.part_number, data)?;
        Ok(S3Response::new(dto::UploadPartOutput { e_tag: Some(ETag::Strong(tag)), ..Default::default() }))
    }

    async fn upload_part_copy(&self, req: S3Request<dto::UploadPartCopyInput>) -> Answer<dto::UploadPartCopyOutput> {
        let input = req.input;
        let data = self.source(&input.copy_source, input.copy_source_range.as_deref())?;
        let tag = self.state().put_part(&input.bucket, &input.key, &input.upload_id, input.part_number, data)?;
        let result = dto::CopyPartResult {
            e_tag: Some(ETag::Strong(tag)),
            last_modified: Some(self.state().now().into()),
            ..Default::default()
        };
        Ok(S3Response::new(dto::UploadPartCopyOutput { copy_part_result: Some(result), ..Default::default() }))
    }

    async fn complete_multipart_upload(
        &self,
        req: S3Request<dto::CompleteMultipartUploadInput>,
    ) -> Answer<dto::CompleteMultipartUploadOutput> {
        let input = req.input;
        let create = creates(input.if_none_match.as_ref())?;
        let parts = input.multipart_upload.and_then(|upload| upload.parts).unwrap_or_default();
        let chosen: Option<Vec<_>> =
            parts.into_iter().map(|part| Some((part.part_number?, part.e_tag?.into_value()))).collect();
        let chosen = chosen.ok_or_else(|| s3_error!(MalformedXML, "each part has a number and a tag"))?;
        let tag = self.state().complete(&input.bucket, &input.key, &input.upload_id, &chosen, create)?;
        Ok(S3Response::new(dto::CompleteMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            e_tag: Some(ETag::Strong(tag)),
            ..Default::default()
        }))
    }

    async fn abort_multipart_upload(
        &self,
        req: S3Request<dto::AbortMultipartUploadInput>,
    ) -> Answer<dto::AbortMultipartUploadOutput> {
        let dto::AbortMultipartUploadInput { bucket, key, upload_id, .. } = req.input;
        let mut state = self.state();
        state.upload(&bucket, &key, &upload_id)?;
        state.uploads.remove(&upload_id);
        Ok(S3Response::new(dto::AbortMultipartUploadOutput::default()))
    }

    async fn list_parts(&self, req: S3Request<dto::ListPartsInput>) -> Answer<dto::ListPartsOutput> {
        let input = req.input;
        let (after, limit) = (input.part_number_marker.unwrap_or(0), input.max_parts.unwrap_or(1000).clamp(0, 1000));
        let mut state = self.state();
        let upload = state.upload(&input.bucket, &input.key, &input.upload_id)?;
        let mut parts: Vec<_> = upload
            .parts
            .range(after + 1..)
            .map(|(number, part)| dto::Part {
                e_tag: Some(ETag::Strong(part.etag.clone())),
                last_modified: Some(part.modified.into()),
                part_number: Some(*number),
                size: Some(length(part.data.len())),
                ..Default::default()
            })
            .collect();
        let truncated = parts.len() > usize::try_from(limit).unwrap_or_default();
        parts.truncate(usize::try_from(limit).unwrap_or_default());
        Ok(S3Response::new(dto::ListPartsOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(input.upload_id),
            is_truncated: Some(truncated),
            max_parts: Some(limit),
            next_part_number_marker: parts.last().and_then(|part| part.part_number).filter(|_| truncated),
            parts: Some(parts),
            ..Default::default()
        }))
    }

    async fn list_multipart_uploads(
        &self,
        req: S3Request<dto::ListMultipartUploadsInput>,
    ) -> Answer<dto::ListMultipartUploadsOutput> {
        let input = req.input;
        if input.key_marker.is_some() || input.delimiter.is_some() {
            return Err(s3_error!(NotImplemented, "uploads are listed on one page, without a delimiter"));
        }
        let prefix = input.prefix.unwrap_or_default();
        let state = self.state();
        let mut uploads: Vec<_> = state
            .uploads
            .iter()
            .filter(|(_, upload)| upload.bucket == input.bucket && upload.key.starts_with(&prefix))
            .map(|(id, upload)| dto::MultipartUpload {
                initiated: Some(upload.initiated.into()),
                key: Some(upload.key.clone()),
                upload_id: Some(id.clone()),
                ..Default::default()
            })
            .collect();
        uploads.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(S3Response::new(dto::ListMultipartUploadsOutput {
            bucket: Some(input.bucket),
            prefix: Some(prefix),
            is_truncated: Some(false),
            uploads: Some(uploads),
            ..Default::default()
        }))
    }
}

/// Returns a page in the form of `ListObjectsV2`.
fn listing(input: dto::ListObjectsV2Input, page: Page, limit: i32) -> dto::ListObjectsV2Output {
    let encoded = input.encoding_type.as_ref().is_some_and(|encoding| encoding.as_str() == dto::EncodingType::URL);
    let told = |key: String| if encoded { utf8_percent_encode(&key, UNRESERVED).to_string() } else { key };
    let (objects, prefixes) = (page.objects.len(), page.prefixes.len());
    let contents = page.objects.into_iter().map(|(key, object)| dto::Object {
        e_tag: Some(ETag::Strong(object.etag)),
        key: Some(told(key)),
        last_modified: Some(object.modified.into()),
        size: Some(length(object.data.len())),
        ..Default::default()
    });
    let common = page.prefixes.into_iter().map(|prefix| dto::CommonPrefix { prefix: Some(told(prefix)) });
    dto::ListObjectsV2Output {
        key_count: Some(count(objects + prefixes)),
        is_truncated: Some(page.next.is_some()),
        next_continuation_token: page.next.map(|next| URL_SAFE_NO_PAD.encode(next)),
        contents: Some(contents.collect()),
        common_prefixes: Some(common.collect()),
        name: Some(input.bucket),
        prefix: input.prefix,
        delimiter: input.delimiter,
        max_keys: Some(limit),
        continuation_token: input.continuation_token,
        encoding_type: input.encoding_type,
        start_after: input.start_after,
        ..Default::default()
    }
}

//! The objects of the in-process S3 server, and the rules that Amazon documents for S3.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use md5::{Digest, Md5};
use s3s::{S3Result, s3_error};

use super::MIN_PART;
use crate::support::content::hex;

#[derive(Clone)]
pub(super) struct Object {
    pub(super) data: Bytes,
    pub(super) etag: String,
    pub(super) modified: SystemTime,
}

pub(super) struct Part {
    pub(super) data: Bytes,
    pub(super) etag: String,
    pub(super) modified: SystemTime,
}

pub(super) struct Upload {
    pub(super) bucket: String,
    pub(super) key: String,
    pub(super) initiated: SystemTime,
    pub(super) parts: BTreeMap<i32, Part>,
}

/// A deviation from S3, as some servers are said to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quirk {
    /// Overwrites an object that was to be created.
    Overwrites,
    /// Looks whether an object is there, and creates it a moment later.
    LooksThenCreates,
    /// Lists the keys of a page in another order.
    ListsBackwards,
    /// Lists one page again where the next one was asked for.
    ListsOnePage,
    /// Answers a read of a range with the whole object.
    IgnoresRange,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) quirk: Option<Quirk>,
    pub(super) buckets: BTreeMap<String, BTreeMap<String, Object>>,
    pub(super) uploads: BTreeMap<String, Upload>,
    pub(super) bytes_written: u64,
    /// The time by which the server's clock is ahead of this machine's.
    pub(super) ahead: Duration,
    /// The time by which it is behind, to be taken off.
    pub(super) behind: Duration,
    next_upload: u64,
}

/// A request for a page of a listing.
#[derive(Default)]
pub(super) struct Paging<'a> {
    pub(super) prefix: &'a str,
    pub(super) delimiter: &'a str,
    /// Only keys after this one.
    pub(super) after: &'a str,
    /// `after` ended the page before: where it is a common prefix, that has been told.
    pub(super) resumed: bool,
    /// At most so many keys and common prefixes.
    pub(super) limit: usize,
}

/// One page of a listing.
pub(super) struct Page {
    pub(super) objects: Vec<(String, Object)>,
    pub(super) prefixes: Vec<String>,
    /// The last key or common prefix of this page, after which the next page begins, if there is one.
    pub(super) next: Option<String>,
}

impl State {
    /// Returns the time by the server's clock.
    pub(super) fn now(&self) -> SystemTime {
        SystemTime::now() + self.ahead - self.behind
    }

    pub(super) fn bucket(&self, bucket: &str) -> S3Result<&BTreeMap<String, Object>> {
        self.buckets.get(bucket).ok_or_else(|| s3_error!(NoSuchBucket, "the bucket {bucket} does not exist"))
    }

    pub(super) fn object(&self, bucket: &str, key: &str) -> S3Result<Object> {
        self.bucket(bucket)?.get(key).cloned().ok_or_else(|| s3_error!(NoSuchKey, "{key} does not exist"))
    }

    /// Stores an object; with `create` only where there is none. Returns its entity tag.
    pub(super) fn put(&mut self, bucket: &str, key: &str, data: Bytes, etag: String, create: bool) -> S3Result<String> {
        let modified = self.now();
        let objects = self.buckets.get_mut(bucket).ok_or_else(|| s3_error!(NoSuchBucket))?;
        if create && objects.contains_key(key) && self.quirk != Some(Quirk::Overwrites) {
            return Err(s3_error!(PreconditionFailed, "{key} exists"));
        }
        objects.insert(key.to_owned(), Object { data, etag: etag.clone(), modified });
        Ok(etag)
    }

    pub(super) fn delete(&mut self, bucket: &str, key: &str) -> S3Result<()> {
        self.buckets.get_mut(bucket).ok_or_else(|| s3_error!(NoSuchBucket))?.remove(key);
        Ok(())
    }

    pub(super) fn begin_upload(&mut self, bucket: &str, key: &str) -> S3Result<String> {
        self.bucket(bucket)?;
        self.next_upload += 1;
        let id = format!("upload-{}", self.next_upload);
        let upload =
            Upload { bucket: bucket.to_owned(), key: key.to_owned(), initiated: self.now(), parts: BTreeMap::new() };
        self.uploads.insert(id.clone(), upload);
        Ok(id)
    }

    pub(super) fn upload(&mut self, bucket: &str, key: &str, id: &str) -> S3Result<&mut Upload> {
        self.uploads
            .get_mut(id)
            .filter(|upload| upload.bucket == bucket && upload.key == key)
            .ok_or_else(|| s3_error!(NoSuchUpload, "{id} is not an upload of {key}"))
    }

    pub(super) fn put_part(&mut self, bucket: &str, key: &str, id: &str, number: i32, data: Bytes) -> S3Result<String> {
        if !(1..=10_000).contains(&number) {
            return Err(s3_error!(InvalidArgument, "part number {number} is not in 1..=10000"));
        }
        let etag = etag(&data);
        let part = Part { data, etag: etag.clone(), modified: self.now() };
        self.upload(bucket, key, id)?.parts.insert(number, part);
        Ok(etag)
    }

    /// Makes an object of the `chosen` parts (number and entity tag). Returns its entity tag.
    pub(super) fn complete(
        &mut self,
        bucket: &str,
        key: &str,
        id: &str,
        chosen: &[(i32, String)],
        create: bool,
    ) -> S3Result<String> {
        if chosen.is_empty() {
            return Err(s3_error!(MalformedXML, "no parts were named"));
        }
        if !chosen.is_sorted_by(|a, b| a.0 < b.0) {
            return Err(s3_error!(InvalidPartOrder, "parts are not in ascending order"));
        }
        let upload = self.upload(bucket, key, id)?;
        let (mut data, mut digests) = (Vec::new(), Md5::new());
        for (index, (number, etag)) in chosen.iter().enumerate() {
            let part = upload.parts.get(number).filter(|part| part.etag == *etag);
            let part = part.ok_or_else(|| s3_error!(InvalidPart, "part {number} with tag {etag} is not there"))?;
            if part.data.len() < MIN_PART && index + 1 < chosen.len() {
                return Err(s3_error!(
                    EntityTooSmall,
                    "part {number} has {} bytes and is not the last",
                    part.data.len()
                ));
            }
            data.extend_from_slice(&part.data);
            digests.update(Md5::digest(&part.data));
        }
        let etag = format!("{}-{}", hex(&digests.finalize()), chosen.len());
        let etag = self.put(bucket, key, Bytes::from(data), etag, create)?;
        self.uploads.remove(id);
        Ok(etag)
    }

    /// Returns one page of the keys of `bucket`.
    pub(super) fn list(&self, bucket: &str, paging: &Paging<'_>) -> S3Result<Page> {
        let Paging { prefix, delimiter, after, resumed, limit } = *paging;
        let objects = self.bucket(bucket)?;
        let mut page = Page { objects: Vec::new(), prefixes: Vec::new(), next: None };
        let mut last = String::new();
        for (key, object) in objects.range::<str, _>((Bound::Included(prefix), Bound::Unbounded)) {
            let Some(rest) = key.strip_prefix(prefix) else { break };
            if key.as_str() <= after {
                continue;
            }
            let common = rest
                .find(delimiter)
                .filter(|_| !delimiter.is_empty())
                .map(|at| &key[..prefix.len() + at + delimiter.len()]);
            // a common prefix is told once, and not again on the page that goes on after it
            if common.is_some_and(|common| {
                (resumed && common == after) || page.prefixes.last().is_some_and(|told| told == common)
            }) {
                continue;
            }
            if page.objects.len() + page.prefixes.len() == limit {
                page.next = Some(last).filter(|_| limit > 0);
                break;
            }
            common.unwrap_or(key).clone_into(&mut last);
            match common {
                Some(common) => page.prefixes.push(common.to_owned()),
                None => page.objects.push((key.clone(), object.clone())),
            }
        }
        Ok(page)
    }
}

/// Returns the entity tag of an object that was put whole.
pub(super) fn etag(data: &[u8]) -> String {
    hex(&Md5::digest(data))
}

//! Reads the answers of an upstream: manifests, descriptions, blobs, lists.

use std::{pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{FutureExt as _, Stream, StreamExt as _, future::BoxFuture, stream};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use reqwest::Response;
use serde::Deserialize;

use super::{
    failure::{Reason, cause},
    health::Ask,
    source::{Request, Upstream},
};
use crate::oci::{Algorithm, Descriptor, Digest, Manifest, MediaType, Name, Reference, Tag, range::ContentRange};

/// The media types of manifests, most telling first, as clients ask for them.
const MANIFESTS: HeaderValue = HeaderValue::from_static(
    "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json",
);

/// The part of a blob's path after the repository.
const BLOBS: &str = "blobs";
/// The largest page of a list, and all pages of referrers together, in bytes.
const LARGEST_LIST: u64 = 4 * 1024 * 1024;
/// The largest number of pages of referrers.
const MOST_PAGES: usize = 100;
/// The characters that a value in a query cannot contain as they are (RFC 3986, section 3.4).
const IN_QUERY: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'<').add(b'>').add(b'&').add(b'+').add(b'%');

/// The facts that an upstream tells of a manifest without its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// The digest. `None` if the upstream does not say it: then only its bytes tell.
    pub digest: Option<Digest>,
    /// The media type, if it is one of a manifest.
    pub media_type: Option<MediaType>,
    /// The size in bytes.
    pub size: Option<u64>,
}

/// A manifest that an upstream gave. Its bytes have the digest, and are a manifest of the media type.
#[derive(Clone, Debug)]
pub struct FetchedManifest {
    /// The digest.
    pub digest: Digest,
    /// The media type.
    pub media_type: MediaType,
    /// The bytes, as they came.
    pub bytes: Bytes,
    /// The parsed manifest.
    pub manifest: Manifest,
}

/// The bytes of a blob, as they come. They are not checked.
pub struct BlobStream {
    /// The upstream that sends.
    pub upstream: Arc<Upstream>,
    /// The offset of the first byte. It is 0 if the upstream knows no ranges.
    pub offset: u64,
    /// The size of the whole blob in bytes, if the upstream says it.
    pub size: Option<u64>,
    /// The longest time that the next bytes may take.
    pub silence: Duration,
    /// The bytes from `offset` on. An error is the last item. A stream that does not end at `size` has one.
    pub bytes: ByteStream,
}

/// Bytes as they come. An error is the last item.
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes, Reason>> + Send>>;

/// The memory for a manifest. A number is the largest size, with memory enough.
pub trait Room: Send + Sync {
    /// Returns the largest size of a manifest, in bytes.
    fn largest(&self) -> u64;

    /// Waits for the memory of a manifest of so many bytes, in place of what was taken before. Returns false if there is
    /// none.
    fn take(&self, bytes: u64) -> BoxFuture<'_, bool>;
}

impl Room for u64 {
    fn largest(&self) -> u64 {
        *self
    }

    fn take(&self, _bytes: u64) -> BoxFuture<'_, bool> {
        std::future::ready(true).boxed()
    }
}

impl Upstream {
    /// Asks for a manifest without its bytes.
    pub(super) async fn describe(&self, repository: &Name, reference: &Reference) -> Result<Described, Reason> {
        let tail = format!("manifests/{reference}");
        let headers = vec![(header::ACCEPT, MANIFESTS)];
        let request = Request { method: Method::HEAD, ask: Ask::Look, repository, tail: &tail, query: None, headers };
        let answer = self.send(&request).await?;
        refuse_page(answer.headers())?;
        Ok(Described {
            digest: said_digest(answer.headers()),
            media_type: media_type(answer.headers()).filter(MediaType::is_manifest),
            size: length(answer.headers()),
        })
    }

    /// Fetches a manifest. Takes its memory once its size is known, so that a silent upstream holds none.
    pub(super) async fn fetch(
        &self,
        repository: &Name,
        reference: &Reference,
        room: &dyn Room,
    ) -> Result<FetchedManifest, Reason> {
        let tail = format!("manifests/{reference}");
        let headers = vec![(header::ACCEPT, MANIFESTS)];
        let request =
            Request { method: Method::GET, ask: Ask::Manifest, repository, tail: &tail, query: None, headers };
        let answer = self.send(&request).await?;
        refuse_page(answer.headers())?;
        let (said, media_type) = (said_digest(answer.headers()), media_type(answer.headers()));
        let largest = room.largest();
        if !room.take(answer.content_length().map_or(largest, |length| length.min(largest))).await {
            return Err(Reason::NoMemory);
        }
        let bytes = self.whole(answer, largest).await?;
        let expected = match reference {
            Reference::Digest(digest) => Some(*digest),
            Reference::Tag(_) => said,
        };
        let digest = Digest::of(expected.map_or(Algorithm::Sha256, |expected| expected.algorithm()), &bytes);
        if expected.is_some_and(|expected| expected != digest) {
            return Err(Reason::WrongDigest(digest));
        }
        // some upstreams send every manifest as JSON or as text; then its own field tells
        let media_type = media_type.filter(MediaType::is_manifest);
        let manifest = Manifest::parse(media_type.as_ref(), &bytes)
            .map_err(|error| Reason::WrongAnswer(format!("no manifest: {error}")))?;
        Ok(FetchedManifest { digest, media_type: manifest.media_type.clone(), bytes, manifest })
    }

    /// Asks for the size of a blob.
    pub(super) async fn blob_size(&self, repository: &Name, digest: &Digest) -> Result<Option<u64>, Reason> {
        let tail = format!("{BLOBS}/{digest}");
        let (method, ask, headers) = (Method::HEAD, Ask::Size, Vec::new());
        let request = Request { method, ask, repository, tail: &tail, query: None, headers };
        Ok(length(self.send(&request).await?.headers()))
    }

    /// Fetches a blob from an offset on.
    pub(super) async fn blob(
        self: Arc<Self>,
        repository: &Name,
        digest: &Digest,
        from: u64,
    ) -> Result<BlobStream, Reason> {
        let tail = format!("{BLOBS}/{digest}");
        let range = HeaderValue::from_str(&format!("bytes={from}-")).ok().filter(|_| from > 0);
        let headers = range.map(|range| (header::RANGE, range)).into_iter().collect();
        let ask = if from > 0 { Ask::Rest } else { Ask::Blob };
        let request = Request { method: Method::GET, ask, repository, tail: &tail, query: None, headers };
        let answer = self.send(&request).await?;
        let (offset, size) = match answer.status() {
            StatusCode::PARTIAL_CONTENT => part(answer.headers(), from)?,
            StatusCode::OK => (0, length(answer.headers())),
            other => return Err(Reason::Status(other.as_u16())),
        };
        let bytes = answer.bytes_stream().map(|chunk| chunk.map_err(|error| broken(&error)));
        let bytes = of_length(Box::pin(bytes), size.map(|size| size.saturating_sub(offset)));
        let silence = self.settings().timeout;
        Ok(BlobStream { upstream: self, offset, size, silence, bytes: Box::pin(bytes.fuse()) })
    }

    /// Fetches a page of tags: `n` tags after `last`, if the upstream keeps to both.
    pub(super) async fn tags(&self, repository: &Name, n: usize, last: Option<&str>) -> Result<TagPage, Reason> {
        let last = last.map(|last| format!("&last={}", utf8_percent_encode(last, IN_QUERY)));
        let query = format!("n={n}{}", last.unwrap_or_default());
        let (bytes, next) = self.list(repository, "tags/list", Some(&query)).await?;
        let page: TagList = parse_list(&bytes)?;
        // a text that is no tag cannot be asked for, so nobody misses it
        let tags = page.tags.unwrap_or_default().iter().filter_map(|tag| tag.parse().ok()).collect();
        Ok(TagPage { tags, more: next.is_some() })
    }

    /// Fetches the referrers of a manifest: by the API, or else by the tag of its digest (distribution specification,
    /// "Referrers Tag Schema").
    pub(super) async fn referrers(&self, repository: &Name, subject: &Digest) -> Result<Vec<Descriptor>, Reason> {
        let tail = format!("referrers/{subject}");
        let (mut found, mut length) = (Vec::new(), 0);
        let mut query = None;
        for _ in 0..MOST_PAGES {
            let (bytes, next) = match self.list(repository, &tail, query.as_deref()).await {
                Err(Reason::NotFound) if found.is_empty() => return self.tagged_referrers(repository, subject).await,
                page => page?,
            };
            length += bytes.len() as u64;
            if length > LARGEST_LIST {
                break;
            }
            let page: ReferrerList = parse_list(&bytes)?;
            found.extend(page.manifests.unwrap_or_default());
            query = next;
            if query.is_none() {
                return Ok(found);
            }
        }
        Err(Reason::TooLarge(LARGEST_LIST))
    }

    async fn tagged_referrers(&self, repository: &Name, subject: &Digest) -> Result<Vec<Descriptor>, Reason> {
        let tag = format!("{}-{}", subject.algorithm().as_str(), subject.hex());
        let tag = tag.parse().map(Reference::Tag).map_err(|_| Reason::NotFound)?;
        match self.fetch(repository, &tag, &LARGEST_LIST).await {
            Ok(index) => Ok(index.manifest.children),
            Err(Reason::NotFound) => Ok(Vec::new()),
            Err(reason) => Err(reason),
        }
    }

    /// Fetches one page of a list, and the query of the next page.
    async fn list(
        &self,
        repository: &Name,
        tail: &str,
        query: Option<&str>,
    ) -> Result<(Bytes, Option<String>), Reason> {
        let (method, ask, headers) = (Method::GET, Ask::List, Vec::new());
        let request = Request { method, ask, repository, tail, query, headers };
        let answer = self.send(&request).await?;
        refuse_page(answer.headers())?;
        let next = next_query(&answer);
        Ok((self.whole(answer, LARGEST_LIST).await?, next))
    }
}

/// A page of tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagPage {
    /// The tags, in the order of the upstream.
    pub tags: Vec<Tag>,
    /// Set if more follow.
    pub more: bool,
}

#[derive(Deserialize)]
struct TagList {
    tags: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct ReferrerList {
    manifests: Option<Vec<Descriptor>>,
}

fn parse_list<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, Reason> {
    serde_json::from_slice(bytes).map_err(|_| Reason::WrongAnswer("no list".to_owned()))
}

/// Returns the query of the next page, from `Link` (RFC 8288). The path of the link does not count: it stays the same.
fn next_query(answer: &Response) -> Option<String> {
    let link = answer.headers().get(header::LINK)?.to_str().ok()?;
    let (target, params) = link.trim().strip_prefix('<')?.split_once('>')?;
    if !params.contains("next") {
        return None;
    }
    answer.url().join(target).ok()?.query().map(ToOwned::to_owned)
}

/// Refuses a page for people. Proxies and portals send one with status 200.
fn refuse_page(headers: &HeaderMap) -> Result<(), Reason> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if kind.trim_start().to_ascii_lowercase().starts_with("text/html") {
        return Err(Reason::WrongAnswer("a web page".to_owned()));
    }
    Ok(())
}

fn said_digest(headers: &HeaderMap) -> Option<Digest> {
    headers.get("docker-content-digest")?.to_str().ok()?.parse().ok()
}

fn media_type(headers: &HeaderMap) -> Option<MediaType> {
    let text = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    text.split(';').next()?.trim().parse().ok()
}

fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Returns the offset and the whole size of a partial answer. It must begin where it was asked to.
fn part(headers: &HeaderMap, from: u64) -> Result<(u64, Option<u64>), Reason> {
    let text = headers.get(header::CONTENT_RANGE).and_then(|text| text.to_str().ok()).unwrap_or_default();
    let wrong = || Reason::WrongAnswer(format!("another range: {text:?}"));
    let (range, size) = text.strip_prefix("bytes ").and_then(|text| text.split_once('/')).ok_or_else(wrong)?;
    let range: ContentRange = range.parse().map_err(|_| wrong())?;
    if range.first != from {
        return Err(wrong());
    }
    Ok((from, size.parse().ok()))
}

/// Ends a stream with an error if it has another length than expected, and after its first error.
fn of_length(bytes: ByteStream, expected: Option<u64>) -> impl Stream<Item = Result<Bytes, Reason>> + Send {
    let wrong = |than: &str| Reason::WrongAnswer(format!("{than} than it said"));
    stream::unfold(Some((bytes, expected)), move |state| async move {
        let (mut bytes, left) = state?;
        match (bytes.next().await, left) {
            (Some(Ok(chunk)), None) => Some((Ok(chunk), Some((bytes, None)))),
            (Some(Ok(chunk)), Some(left)) => match left.checked_sub(chunk.len() as u64) {
                Some(left) => Some((Ok(chunk), Some((bytes, Some(left))))),
                None => Some((Err(wrong("longer")), None)),
            },
            (Some(Err(reason)), _) => Some((Err(reason), None)),
            (None, None | Some(0)) => None,
            (None, Some(_)) => Some((Err(wrong("shorter")), None)),
        }
    })
}

fn broken(error: &reqwest::Error) -> Reason {
    Reason::Connection(cause(error))
}

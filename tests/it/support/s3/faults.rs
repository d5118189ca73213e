//! Faults of the S3 server. Every request passes this gate, which counts it and lets a test spoil it.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::StreamExt;
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::{Frame, Incoming};
use hyper::{Method, Response};
use s3s::service::S3Service;
use tokio::sync::watch;

use super::store::State;

type Decide = Box<dyn FnMut(&str, &str) -> Option<Fault> + Send>;
pub(super) type Request = hyper::Request<Incoming>;
pub(super) type Answer = Response<UnsyncBoxBody<Bytes, io::Error>>;

/// A failure of a request to S3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing is done and this status is answered, with S3's error for it where it has one (500, 503).
    Status(u16),
    /// Nothing is done, and a proxy in front of the server answers this status with a page of its own.
    ProxyPage(u16),
    /// It is done, but the connection closes without an answer.
    Lost,
    /// It is done, but the connection closes in the middle of the answer's body (before the answer, where it has none).
    Cut,
    /// It is done, and half of the answer's body passes for the whole of it.
    Half,
    /// It is done, and one bit in the middle of the answer's body is another one.
    Flip,
    /// Nothing is done and nothing is ever answered.
    Stall,
    /// Nothing is done before [`S3::release`](super::S3::release); then it is.
    Hold,
    /// The request is read and never answered. It is carried out after [`S3::release`](super::S3::release), whether or not
    /// the client waits.
    Late,
}

/// Counts requests and spoils those that a test chose.
#[derive(Default)]
pub(super) struct Gate {
    decide: Mutex<Option<Decide>>,
    requests: Mutex<BTreeMap<&'static str, usize>>,
    served: AtomicUsize,
    released: watch::Sender<bool>,
    late: Arc<Mutex<Late>>,
}

/// The numbers of requests that [`Fault::Late`] has kept so far, and of those that were carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Late {
    /// The number of requests kept.
    pub(crate) kept: usize,
    /// The number of those that were carried out since.
    pub(crate) landed: usize,
}

impl Gate {
    pub(super) fn set(&self, decide: Option<Decide>) {
        *self.decide.lock().expect("gate") = decide;
    }

    pub(super) fn release(&self) {
        self.released.send_replace(true);
    }

    pub(super) fn late(&self) -> Late {
        *self.late.lock().expect("gate")
    }

    /// Reads the whole request, and carries it out once this gate is released.
    async fn keep(&self, s3: &S3Service, request: Request) -> io::Result<()> {
        let (head, body) = request.into_parts();
        let body = BodyExt::collect(body).await.map_err(io::Error::other)?.to_bytes();
        self.late.lock().expect("gate").kept += 1;
        let (s3, late, mut released) = (s3.clone(), Arc::clone(&self.late), self.released.subscribe());
        // a task of its own: the client's leaving ends that of the connection
        tokio::spawn(async move {
            let _ = released.wait_for(|released| *released).await;
            let request = hyper::Request::from_parts(head, s3s::Body::from(body));
            s3.call(request).await.expect("carry out a request that was kept");
            late.lock().expect("gate").landed += 1;
        });
        Ok(())
    }

    pub(super) fn requests(&self) -> BTreeMap<&'static str, usize> {
        self.requests.lock().expect("gate").clone()
    }

    /// Answers `request` by `s3`, or fails it as the test decided. An error closes the connection.
    pub(super) async fn pass(&self, s3: &S3Service, state: &Mutex<State>, request: Request) -> io::Result<Answer> {
        let (operation, key) = classify(&request);
        *self.requests.lock().expect("gate").entry(operation).or_default() += 1;
        let fault = self.decide.lock().expect("gate").as_mut().and_then(|decide| decide(operation, &key));
        match fault {
            Some(Fault::Status(status)) => return Ok(refusal(status, self.served.fetch_add(1, Ordering::Relaxed))),
            Some(Fault::ProxyPage(status)) => {
                return Ok(answer(status, "text/plain", "out for maintenance".to_owned()));
            }
            Some(Fault::Stall) => std::future::pending().await,
            Some(Fault::Hold) => {
                let _ = self.released.subscribe().wait_for(|released| *released).await;
            }
            Some(Fault::Late) => {
                self.keep(s3, request).await?;
                return std::future::pending().await;
            }
            Some(Fault::Lost | Fault::Cut | Fault::Half | Fault::Flip) | None => {}
        }
        let mut answer =
            s3.call(request.map(s3s::Body::from)).await.map_err(|error| io::Error::other(format!("{error:?}")))?;
        let date = jiff::Timestamp::try_from(state.lock().expect("state").now()).expect("a time");
        let date = date.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        answer.headers_mut().insert(hyper::header::DATE, date.parse().expect("a date is a header's value"));
        match fault {
            Some(Fault::Lost) => Err(io::Error::other("the answer is lost, as the test asked")),
            Some(Fault::Cut) => cut(answer).await,
            Some(Fault::Half) => half(answer).await,
            Some(Fault::Flip) => flip(answer).await,
            _ => Ok(answer.map(|body| body.map_err(io::Error::other).boxed_unsync())),
        }
    }
}

/// Returns the answer with the first half of its body as all of it.
async fn half(answer: s3s::HttpResponse) -> io::Result<Answer> {
    let (mut head, body) = answer.into_parts();
    let body = BodyExt::collect(body).await.map_err(io::Error::other)?.to_bytes();
    let half = body.slice(..body.len() / 2);
    head.headers.insert(hyper::header::CONTENT_LENGTH, half.len().into());
    Ok(Response::from_parts(head, http_body_util::Full::new(half).map_err(io::Error::other).boxed_unsync()))
}

/// Returns the answer with another bit in the middle of its body.
async fn flip(answer: s3s::HttpResponse) -> io::Result<Answer> {
    let (head, body) = answer.into_parts();
    let mut body = BodyExt::collect(body).await.map_err(io::Error::other)?.to_bytes().to_vec();
    let middle = body.len() / 2;
    if let Some(byte) = body.get_mut(middle) {
        *byte ^= 1;
    }
    Ok(Response::from_parts(head, http_body_util::Full::new(body.into()).map_err(io::Error::other).boxed_unsync()))
}

/// Returns the answer with the first half of its body alone, after which the connection breaks.
async fn cut(answer: s3s::HttpResponse) -> io::Result<Answer> {
    let (mut head, body) = answer.into_parts();
    let body = BodyExt::collect(body).await.map_err(io::Error::other)?.to_bytes();
    if body.is_empty() {
        return Err(io::Error::other("the answer is cut before it began, as the test asked"));
    }
    // with its length said, so that the client can tell a short body from a whole one
    head.headers.insert(hyper::header::CONTENT_LENGTH, body.len().into());
    let half = body.slice(..body.len() / 2);
    let frames = futures::stream::iter([Ok(Frame::data(half)), Err(io::Error::other("cut, as the test asked"))]);
    // the first half leaves before the error is seen, or it would be dropped with the connection
    let frames = frames.then(|frame| async move {
        if frame.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        frame
    });
    Ok(Response::from_parts(head, http_body_util::StreamBody::new(frames).boxed_unsync()))
}

fn refusal(status: u16, id: usize) -> Answer {
    let code = match status {
        503 => "SlowDown",
        507 => "XMinioStorageFull",
        403 => "AccessDenied",
        _ => "InternalError",
    };
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code><Message>as the test asked</Message><RequestId>{id}</RequestId></Error>"
    );
    answer(status, "application/xml", body)
}

fn answer(status: u16, content_type: &str, body: String) -> Answer {
    let body = http_body_util::Full::new(Bytes::from(body)).map_err(io::Error::other).boxed_unsync();
    Response::builder().status(status).header("content-type", content_type).body(body).expect("a valid answer")
}

/// Returns the name of the S3 operation and the key, by method, path and query alone. Operations on buckets have no key.
fn classify(request: &Request) -> (&'static str, String) {
    let path = request.uri().path().trim_start_matches('/');
    let key = path.split_once('/').map_or("", |(_, key)| key);
    let key = percent_encoding::percent_decode_str(key).decode_utf8_lossy().into_owned();
    let query = request.uri().query().unwrap_or_default();
    let has = |name: &str| query.split('&').any(|pair| pair.split('=').next() == Some(name));
    let copies = request.headers().contains_key("x-amz-copy-source");
    let operation = match (request.method(), key.is_empty()) {
        (&Method::GET, true) if has("uploads") => "ListMultipartUploads",
        (&Method::GET, true) => "ListObjectsV2",
        (&Method::HEAD, true) => "HeadBucket",
        (&Method::PUT, true) => "CreateBucket",
        (&Method::POST, true) => "DeleteObjects",
        (&Method::GET, false) if has("uploadId") => "ListParts",
        (&Method::GET, false) => "GetObject",
        (&Method::HEAD, false) => "HeadObject",
        (&Method::PUT, false) if has("partNumber") && copies => "UploadPartCopy",
        (&Method::PUT, false) if has("partNumber") => "UploadPart",
        (&Method::PUT, false) if copies => "CopyObject",
        (&Method::PUT, false) => "PutObject",
        (&Method::POST, false) if has("uploads") => "CreateMultipartUpload",
        (&Method::POST, false) => "CompleteMultipartUpload",
        (&Method::DELETE, false) if has("uploadId") => "AbortMultipartUpload",
        (&Method::DELETE, false) => "DeleteObject",
        _ => "Other",
    };
    (operation, key)
}

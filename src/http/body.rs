//! Bodies: what comes in, with its limits, and what goes out, with its record.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf as _, Bytes};
use futures::{Stream, StreamExt as _};
use http::StatusCode;
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use tokio::{sync::OwnedSemaphorePermit, time::Sleep};

use super::{
    clock::Clock,
    failure::Failure,
    limits::{Limits, Slot},
    record::Record,
};
use crate::{
    oci::ErrorCode,
    registry::{self, BlobStream, BodyError},
    telemetry::InFlight,
};

/// The body of an answer.
pub(super) struct Body {
    content: Content,
    /// Written when the answer has been sent, or broken off.
    record: Option<Box<Record>>,
}

enum Content {
    Whole(Option<Bytes>),
    Stream { stream: BlobStream, left: u64, _transfer: Transfer },
}

/// A place among the transfers under way, given back when dropped.
pub(super) struct Transfer {
    _permit: OwnedSemaphorePermit,
    _gauge: InFlight,
}

impl Transfer {
    pub(super) fn new(permit: OwnedSemaphorePermit, gauge: InFlight) -> Self {
        Self { _permit: permit, _gauge: gauge }
    }
}

impl Body {
    pub(super) const fn empty() -> Self {
        Self { content: Content::Whole(None), record: None }
    }

    pub(super) fn whole(bytes: impl Into<Bytes>) -> Self {
        Self { content: Content::Whole(Some(bytes.into()).filter(|bytes| !bytes.is_empty())), record: None }
    }

    pub(super) fn stream(stream: BlobStream, length: u64, transfer: Transfer) -> Self {
        Self { content: Content::Stream { stream, left: length, _transfer: transfer }, record: None }
    }

    pub(super) fn recorded(mut self, record: Box<Record>) -> Self {
        self.record = Some(record);
        self
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = crate::storage::StorageError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let chunk = match &mut self.content {
            Content::Whole(bytes) => bytes.take().map(Ok),
            Content::Stream { stream, left, .. } => {
                let chunk = ready!(stream.poll_next_unpin(context));
                if let Some(Ok(bytes)) = &chunk {
                    *left = left.saturating_sub(bytes.len() as u64);
                }
                chunk
            }
        };
        if let Some(record) = self.record.as_mut() {
            match &chunk {
                Some(Ok(bytes)) => {
                    record.sent += bytes.remaining() as u64;
                    if let Some(progress) = &record.progress {
                        progress.moved();
                    }
                }
                Some(Err(error)) => record.broke_off(error.to_string()),
                None => {}
            }
        }
        Poll::Ready(chunk.map(|chunk| chunk.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Whole(bytes) => bytes.is_none(),
            Content::Stream { left, .. } => *left == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Content::Stream { left, .. } => SizeHint::with_exact(*left),
        }
    }
}

/// The body of a request. It stays with the request, so that what an error left of it can be read away.
#[derive(Clone)]
pub(super) struct RequestBody {
    incoming: Arc<Mutex<Incoming>>,
    length: Option<u64>,
    /// The client waits for a word before it sends: what is not asked for does not come.
    expects_word: bool,
    received: Arc<AtomicU64>,
    silence: Duration,
}

impl RequestBody {
    pub(super) fn new(
        request: hyper::Request<Incoming>,
        silence: Duration,
        received: Arc<AtomicU64>,
    ) -> (http::request::Parts, Self) {
        let (parts, incoming) = request.into_parts();
        let length = incoming.size_hint().exact();
        let expects_word = parts.headers.contains_key(http::header::EXPECT);
        let incoming = Arc::new(Mutex::new(incoming));
        (parts, Self { incoming, length, expects_word, received, silence })
    }

    /// Its length in bytes, where the client said one.
    pub(super) const fn length(&self) -> Option<u64> {
        self.length
    }

    /// The bytes, for the registry. While they come, the request's slot is free and its clock stands still.
    pub(super) fn into_stream(
        self,
        limits: &Arc<Limits>,
        slot: &Slot,
        clock: &Clock,
    ) -> Result<registry::Body, Failure> {
        if self.length == Some(0) {
            return Ok(Box::pin(futures::stream::empty()));
        }
        let transfer = limits.transfer()?;
        let (slot, clock) = (slot.clone(), clock.clone());
        slot.release();
        clock.stop();
        let stream = futures::stream::unfold(Some((self.timed(), slot, clock, transfer)), async |state| {
            let (mut frames, slot, clock, transfer): (TimedFrames, Slot, Clock, Transfer) = state?;
            if let Some(frame) = frames.next().await {
                return Some((frame, Some((frames, slot, clock, transfer))));
            }
            clock.start();
            // what follows the body is work again; a body that was gathered is memory, so until then it stays a transfer
            slot.retake().await;
            drop(transfer);
            None
        });
        Ok(Box::pin(stream))
    }

    /// The whole body, up to `limit` bytes.
    pub(super) async fn collect(
        self,
        limit: u64,
        too_large: impl Fn() -> registry::Error,
        limits: &Arc<Limits>,
        slot: &Slot,
        clock: &Clock,
    ) -> Result<Bytes, Failure> {
        if self.length.is_some_and(|length| length > limit) {
            return Err(too_large().into());
        }
        let mut chunks = self.into_stream(limits, slot, clock)?;
        let mut whole = bytes::BytesMut::new();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|error| {
                let message = format!("the manifest did not come to its end: {error}");
                Failure::new(StatusCode::BAD_REQUEST, ErrorCode::ManifestInvalid, message)
            })?;
            if (whole.len() + chunk.len()) as u64 > limit {
                return Err(too_large().into());
            }
            whole.extend_from_slice(&chunk);
        }
        Ok(whole.freeze())
    }

    /// The whole body of a form, a small one.
    pub(super) async fn form(self, limit: usize) -> Result<Vec<u8>, Failure> {
        let too_large = || {
            let message = format!("the form has more than {limit} bytes");
            Failure::new(StatusCode::PAYLOAD_TOO_LARGE, ErrorCode::SizeInvalid, message)
        };
        if self.length.is_some_and(|length| length > limit as u64) {
            return Err(too_large());
        }
        let mut frames = self.timed();
        let mut whole = Vec::new();
        while let Some(chunk) = frames.next().await {
            let chunk = chunk.map_err(|error| {
                let message = format!("the form did not come to its end: {error}");
                Failure::new(StatusCode::BAD_REQUEST, ErrorCode::Unsupported, message)
            })?;
            if whole.len() + chunk.len() > limit {
                return Err(too_large());
            }
            whole.extend_from_slice(&chunk);
        }
        Ok(whole)
    }

    /// Reads away a little of what is left, so that the client sees the answer instead of a closed connection.
    pub(super) async fn drain(self) {
        const MOST: u64 = 8 * 1024 * 1024;
        const TIME: Duration = Duration::from_secs(5);
        if self.expects_word || self.length.is_some_and(|length| length > 64 * MOST) {
            return;
        }
        let mut left = MOST;
        let mut frames = self.timed();
        let _ = tokio::time::timeout(TIME, async {
            while let Some(Ok(chunk)) = frames.next().await {
                left = left.saturating_sub(chunk.len() as u64);
                if left == 0 {
                    break;
                }
            }
        })
        .await;
    }

    fn timed(self) -> TimedFrames {
        // armed when the client is first waited for: what the store took before is not the client's silence
        TimedFrames { sleep: Box::pin(tokio::time::sleep(self.silence)), armed: false, body: self }
    }
}

/// Data frames, with an error after a silence that is too long.
struct TimedFrames {
    body: RequestBody,
    sleep: Pin<Box<Sleep>>,
    armed: bool,
}

impl Stream for TimedFrames {
    type Item = Result<Bytes, BodyError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let polled = {
                let mut incoming = self.body.incoming.lock().unwrap_or_else(PoisonError::into_inner);
                Pin::new(&mut *incoming).poll_frame(context)
            };
            match polled {
                Poll::Ready(Some(Ok(frame))) => {
                    self.armed = false;
                    // trailers say nothing to a registry
                    let Ok(data) = frame.into_data() else { continue };
                    self.body.received.fetch_add(data.len() as u64, Ordering::Relaxed);
                    return Poll::Ready(Some(Ok(data)));
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(BodyError(error.to_string())))),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => {}
            }
            if !self.armed {
                let until = tokio::time::Instant::now() + self.body.silence;
                self.sleep.as_mut().reset(until);
                self.armed = true;
            }
            ready!(self.sleep.as_mut().poll(context));
            let seconds = self.body.silence.as_secs();
            return Poll::Ready(Some(Err(BodyError(format!("nothing came for {seconds} seconds")))));
        }
    }
}

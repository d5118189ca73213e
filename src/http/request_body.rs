//! Reads the body of a request, within its limits.

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

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use http::StatusCode;
use hyper::body::{Body as _, Incoming};
use tokio::time::Sleep;

use super::{
    clock::Clock,
    failure::Failure,
    limits::{Limits, Slot},
    shares::{Holder, Pace, Share},
    transfer::Transfer,
};
use crate::{
    oci::ErrorCode,
    registry::{self, BodyError},
    telemetry::counted,
};

/// The body of a request. Clones share it, so the rest can be drained after an error.
#[derive(Clone)]
pub(super) struct RequestBody {
    incoming: Arc<Mutex<Incoming>>,
    length: Option<u64>,
    /// True if the client sends nothing before the answer `100 Continue`.
    expects_continue: bool,
    received: Arc<AtomicU64>,
    pace: Arc<Pace>,
    silence: Duration,
}

impl RequestBody {
    /// Splits a request into its head and its body.
    pub(super) fn new(
        request: hyper::Request<Incoming>,
        silence: Duration,
        received: Arc<AtomicU64>,
        pace: Arc<Pace>,
    ) -> (http::request::Parts, Self) {
        let (parts, incoming) = request.into_parts();
        let length = incoming.size_hint().exact();
        let expects_continue = parts.headers.contains_key(http::header::EXPECT);
        let incoming = Arc::new(Mutex::new(incoming));
        (parts, Self { incoming, length, expects_continue, received, pace, silence })
    }

    /// Returns the length in bytes, if the client announced one.
    pub(super) const fn length(&self) -> Option<u64> {
        self.length
    }

    /// Returns the bytes for the registry. While they arrive, the request's slot is free and its clock stands still.
    pub(super) fn into_stream(
        self,
        limits: &Limits,
        holder: &Holder,
        slot: &Slot,
        clock: &Clock,
    ) -> Result<registry::Body, Failure> {
        if self.length == Some(0) {
            return Ok(Box::pin(futures::stream::empty()));
        }
        let transfer = limits.transfer(holder)?;
        let (slot, clock) = (slot.clone(), clock.clone());
        slot.release();
        clock.stop();
        let stream = futures::stream::unfold(Some((self.timed(), slot, clock, transfer)), async |state| {
            let (mut frames, slot, clock, transfer): (TimedFrames, Slot, Clock, Transfer) = state?;
            if let Some(frame) = frames.next().await {
                return Some((frame, Some((frames, slot, clock, transfer))));
            }
            clock.start();
            // the work behind the body needs a slot again; until then the gathered bytes count as a transfer
            slot.retake().await;
            drop(transfer);
            None
        });
        Ok(Box::pin(stream))
    }

    /// Reads the whole body of a manifest, `limit` bytes at most. The memory counts until the returned share is dropped.
    pub(super) async fn collect(
        self,
        limit: u64,
        too_large: impl Fn() -> registry::Error,
        limits: &Limits,
        holder: &Holder,
        slot: &Slot,
        clock: &Clock,
    ) -> Result<(Bytes, Share), Failure> {
        if self.length.is_some_and(|length| length > limit) {
            return Err(too_large().into());
        }
        // a request that waits for memory keeps nobody from a slot
        slot.release();
        let length = self.length.unwrap_or(limit);
        let memory = limits.document(holder, length).await?;
        let mut chunks = self.into_stream(limits, holder, slot, clock)?;
        let mut whole = bytes::BytesMut::with_capacity(usize::try_from(length).unwrap_or_default());
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
        Ok((whole.freeze(), memory))
    }

    /// Reads the whole body of a form, `limit` bytes at most.
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

    /// Reads a little of the rest, so that the client sees the answer instead of a closed connection.
    pub(super) async fn drain(self) {
        const MOST: u64 = 8 * 1024 * 1024;
        const TIME: Duration = Duration::from_secs(5);
        if self.expects_continue || self.length.is_some_and(|length| length > 64 * MOST) {
            return;
        }
        let mut left = MOST;
        // nothing waits for this client any more
        let mut frames = Self { pace: Arc::default(), ..self }.timed();
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

    /// Returns the frames, with a time limit for silence.
    fn timed(self) -> TimedFrames {
        // the timer starts with the first wait for the client, since the store's time before it is not the client's silence
        TimedFrames { sleep: Box::pin(tokio::time::sleep(self.silence)), armed: false, body: self }
    }
}

/// The data frames of a body. A long silence ends them with an error.
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
                    self.body.pace.moved(data.len() as u64);
                    self.body.received.fetch_add(data.len() as u64, Ordering::Relaxed);
                    return Poll::Ready(Some(Ok(data)));
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(BodyError(error.to_string())))),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => {}
            }
            if !self.armed {
                self.body.pace.waits();
                let until = tokio::time::Instant::now() + self.body.silence;
                self.sleep.as_mut().reset(until);
                self.armed = true;
            }
            ready!(self.sleep.as_mut().poll(context));
            self.body.pace.moved(0);
            let seconds = self.body.silence.as_secs();
            return Poll::Ready(Some(Err(BodyError(format!("nothing came for {}", counted(seconds, "second"))))));
        }
    }
}

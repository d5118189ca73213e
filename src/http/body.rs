//! Sends the body of an answer, and writes the request's record at its end.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use futures::{StreamExt as _, TryStreamExt as _};
use hyper::body::{Frame, SizeHint};

use super::{record::Record, shares::Share, transfer::Transfer};

/// The body of an answer.
pub(super) struct Body {
    content: Content,
    /// The memory of a long answer.
    memory: Option<Share>,
    transfer: Option<Transfer>,
    /// The bytes that the client is about to take.
    offered: u64,
    /// The last bytes, which HTTP/2 takes once the client has taken all bytes before.
    rest: Option<Bytes>,
    /// The record of the request. Its drop writes the line of the log, when the answer has been sent or broken off.
    record: Option<Box<Record>>,
}

/// The bytes of a long answer. An error breaks the answer off.
type Stream = Pin<Box<dyn futures::Stream<Item = Result<Bytes, Error>> + Send>>;
type Error = Box<dyn std::error::Error + Send + Sync>;

enum Content {
    Whole(Option<Bytes>),
    Stream { stream: Stream, left: u64 },
}

/// The bytes that the shares of a stream of HTTP/2 do not cover.
const REST: usize = 1024;
/// The size from which on an answer counts against the memory of documents.
const LONG: u64 = 64 * 1024;

impl Body {
    const fn new(content: Content, transfer: Option<Transfer>) -> Self {
        Self { content, memory: None, transfer, offered: 0, rest: None, record: None }
    }

    /// Creates an empty body.
    pub(super) const fn empty() -> Self {
        Self::new(Content::Whole(None), None)
    }

    /// Creates a body of bytes in memory.
    pub(super) fn whole(bytes: impl Into<Bytes>) -> Self {
        Self::new(Content::Whole(Some(bytes.into()).filter(|bytes| !bytes.is_empty())), None)
    }

    /// Creates a body of `length` bytes that come as a stream.
    pub(super) fn stream<E: std::error::Error + Send + Sync + 'static>(
        stream: impl futures::Stream<Item = Result<Bytes, E>> + Send + 'static,
        length: u64,
        transfer: Transfer,
    ) -> Self {
        let stream = Box::pin(stream.map_err(Error::from));
        Self::new(Content::Stream { stream, left: length }, Some(transfer))
    }

    /// Returns the length of a long body in memory.
    pub(super) fn long(&self) -> Option<u64> {
        let Content::Whole(Some(bytes)) = &self.content else { return None };
        Some(bytes.len() as u64).filter(|length| *length > LONG)
    }

    /// Adds the memory that a long body takes.
    pub(super) fn with_memory(mut self, memory: Share) -> Self {
        self.memory = Some(memory);
        self
    }

    /// Adds the record of the request.
    pub(super) fn recorded(mut self, record: Box<Record>) -> Self {
        self.record = Some(record);
        self
    }

    /// Returns true if the body holds a share that counts until the client has its bytes.
    const fn has_share(&self) -> bool {
        self.memory.is_some() || self.transfer.is_some()
    }

    /// Returns true if the last bytes wait until the client has taken those before. HTTP/2 drops a body as soon as it has all
    /// bytes, and the shares with it.
    fn holds_back(&self) -> bool {
        self.has_share() && self.record.as_ref().is_some_and(|record| !record.peer.has_one_request_at_a_time())
    }
}

impl Content {
    const fn is_at_end(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Stream { left, .. } => *left == 0,
        }
    }
}

impl Drop for Body {
    /// Holds the shares of an answer of HTTP/1.1 until the last bytes are with the system.
    fn drop(&mut self) {
        let Some(record) = &self.record else { return };
        if self.has_share() && record.peer.has_one_request_at_a_time() {
            record.peer.wire.hold_until_sent((self.memory.take(), self.transfer.take()));
        }
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let offered = std::mem::take(&mut self.offered);
        if let Some(record) = &self.record {
            record.pace.moved(offered);
        }
        let rest = self.rest.take();
        let mut chunk = match &mut self.content {
            _ if rest.is_some() => rest.map(Ok),
            Content::Whole(bytes) => bytes.take().map(Ok),
            Content::Stream { stream, left } => {
                let chunk = ready!(stream.poll_next_unpin(context));
                if let Some(Ok(bytes)) = &chunk {
                    *left = left.saturating_sub(bytes.len() as u64);
                }
                chunk
            }
        };
        if let Some(Ok(bytes)) = &mut chunk
            && bytes.len() > REST
            && self.content.is_at_end()
            && self.holds_back()
        {
            // a copy, so that nothing keeps the memory of the bytes before
            self.rest = Some(Bytes::copy_from_slice(&bytes.split_off(bytes.len() - REST)));
        }
        if let Some(record) = self.record.as_mut() {
            match &chunk {
                Some(Ok(bytes)) => {
                    record.sent += bytes.remaining() as u64;
                    record.pace.waits();
                }
                Some(Err(error)) => record.broke_off(error.to_string()),
                None => {}
            }
        }
        self.offered = chunk.as_ref().map_or(0, |chunk| chunk.as_ref().map_or(0, |bytes| bytes.len() as u64));
        Poll::Ready(chunk.map(|chunk| chunk.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_none() && self.content.is_at_end()
    }

    fn size_hint(&self) -> SizeHint {
        let left = match &self.content {
            Content::Whole(bytes) => bytes.as_ref().map_or(0, |bytes| bytes.len() as u64),
            Content::Stream { left, .. } => *left,
        };
        SizeHint::with_exact(left + self.rest.as_ref().map_or(0, |rest| rest.len() as u64))
    }
}

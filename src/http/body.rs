//! Sends the body of an answer, and writes the request's record at its end.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use futures::StreamExt as _;
use hyper::body::{Frame, SizeHint};

use super::{record::Record, transfer::Transfer};
use crate::registry::BlobStream;

/// The body of an answer.
pub(super) struct Body {
    content: Content,
    /// The record of the request. Its drop writes the line of the log, when the answer has been sent or broken off.
    record: Option<Box<Record>>,
}

enum Content {
    Whole(Option<Bytes>),
    Stream { stream: BlobStream, left: u64, _transfer: Transfer },
}

impl Body {
    /// Creates an empty body.
    pub(super) const fn empty() -> Self {
        Self { content: Content::Whole(None), record: None }
    }

    /// Creates a body of bytes in memory.
    pub(super) fn whole(bytes: impl Into<Bytes>) -> Self {
        Self { content: Content::Whole(Some(bytes.into()).filter(|bytes| !bytes.is_empty())), record: None }
    }

    /// Creates a body of `length` bytes from the store.
    pub(super) fn stream(stream: BlobStream, length: u64, transfer: Transfer) -> Self {
        Self { content: Content::Stream { stream, left: length, _transfer: transfer }, record: None }
    }

    /// Adds the record of the request.
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

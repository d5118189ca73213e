//! Streams the bytes of an object, and checks that none is missing.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use opendal::{Buffer, BufferStream};

use super::{Result, StorageError};

/// A stream of the bytes of an object; see [`Store::read`](super::Store::read).
pub struct ObjectStream {
    pub(super) stream: BufferStream,
    pub(super) chunk: Buffer,
    pub(super) left: u64,
    pub(super) key: String,
}

impl Stream for ObjectStream {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if self.left == 0 {
                return Poll::Ready(None);
            }
            if let Some(mut bytes) = Iterator::next(&mut self.chunk).filter(|bytes| !bytes.is_empty()) {
                bytes.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
                self.left -= bytes.len() as u64;
                return Poll::Ready(Some(Ok(bytes)));
            }
            match std::task::ready!(self.stream.poll_next_unpin(context)) {
                Some(Ok(chunk)) => self.chunk = chunk,
                Some(Err(error)) => {
                    self.left = 0;
                    return Poll::Ready(Some(Err(StorageError::from_opendal("read", &self.key, error))));
                }
                None => {
                    self.left = 0;
                    let error = StorageError::damaged("read", &self.key, "it is shorter than its record says");
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }
}

impl std::fmt::Debug for ObjectStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ObjectStream").field("key", &self.key).field("left", &self.left).finish_non_exhaustive()
    }
}
